# %% [markdown]
# # 04 · The variational bound
#
# **How good is a model of pictures?** The first picture shows three contestants: what each draws, and how many bits it
# needs for a pixel of unseen photographs. Fewer are better. Something looks wrong.

# %%
from itertools import pairwise

import torch

from minidiff import Cosine, Gaussian, add_noise, bits_per_dim
from minidiff import posterior, times, transition, vlb  # vlb is what we build here
from minidiff.app.checkpoint import load_denoiser
from minidiff.course import check, diagrams, plot
from minidiff.data import load, shipped
from minidiff.losses import vlb_terms

torch.set_default_dtype(torch.float64)  # formulas are checked to many digits here
clothes, unseen = load("fashion"), load("fashion", "test")
photos, labels = unseen.tensor(slice(0, 100)), unseen.y[:100]  # (100, 1, 32, 32)

# %% tags=["folded"]
# @title Load the denoiser of chapter 00; told gives it the classes; seeded draws
denoiser, _ = load_denoiser(shipped("fashion.safetensors"))
denoiser = denoiser.float().requires_grad_(False)


def told(x, t):
    """The model, told the class of each of the first photographs."""
    return denoiser(x, t, cond=labels[: len(x)])


def seeded(seed):
    return torch.Generator().manual_seed(seed)


# %% tags=["folded"]
# @title Keep the fifty guesses for these photographs, since the network is slow
guesses, shown = {}, {}  # by time


def remembered(x, t):
    if float(t) not in guesses:
        shown[float(t)], guesses[float(t)] = x, told(x, t)
    assert torch.equal(x, shown[float(t)]), "the guesses are for other noisy pictures"
    return guesses[float(t)]


# %% tags=["folded"]
# @title Walk back from noise, with steps of given widths
def wide_steps(ts):
    """Standard deviations of wide steps (section 3), those of a step forward."""
    return [transition(s, t, denoiser.schedule)[1] for t, s in pairwise(ts)]


def drawn(x, ts, stds, seed):
    generator = seeded(seed)
    for (t, s), std in zip(pairwise(ts), stds, strict=True):
        mean = posterior(x, told(x, t), s, t, denoiser.schedule).mean
        x = Gaussian(mean, std).sample(generator) if s > 0 else mean
    return x


# %% tags=["check"]
# @title ✓ The model draws less than half as roughly as the histograms
noise = torch.randn(6, 1, 32, 32, generator=seeded(0), dtype=torch.float32)
by_model = drawn(noise, times(50), wide_steps(times(50)), seed=1)
which = torch.randint(len(clothes), (6, 1, 32, 32), generator=seeded(8))
by_histograms = clothes.tensor().gather(0, which)  # each pixel from another picture
six = photos[:6]  # the model was told their classes
rough = [x.diff(dim=-1).abs().mean() for x in (by_histograms, by_model, six)]
assert rough[0] > 2 * rough[1] and 0.05 < rough[1] / rough[2] - 1 < 0.25
print("✓ neighbours differ by {:.2f} (histograms), {:.2f} (model),".format(*rough),
      f"{rough[2]:.2f} (six photographs of the same classes)")


# %%
# section 1 computes these three numbers
codes = {"PNG": 3.09, "1,024 histograms": 3.48, "our model, told the class": 3.61}
draws = "nothing: it can only pack a file", by_histograms, by_model
diagrams.contest(dict(zip(codes, draws, strict=True)), codes,
                 "PNG draws nothing, the histograms grain, the model clothes; "
                 "yet the model needs the most bits, 3.61 for each pixel.",
                 colours=(2, 2, 0))


# %% [markdown]
# Grain beats clothes! (Dotted: with 256 equally likely grey levels a pixel costs $\log_2 256 = 8$ bits.)
#
# How does one get such a number from a model that never mentions a probability? What are the bits spent on? The answers
# give DDPM's loss (chapter 05). At the end the same network beats PNG.

# %% [markdown]
# **You build** the length of a code, the bound's terms, and a repair, in two hours, after chapters 02 and 03.
#
# | letter | meaning |
# |---|---|
# | $x_0,\ x_t,\ x_1$ | the picture; its state at time $t$; the end of the walk, noise |
# | $s < t$ | always neighbours in a walk of $T$ steps; the model goes from $t$ to $s$ |
# | $\alpha_t, \sigma_t;\ \alpha_{ts}, \sigma_{ts}$ | signal and noise in $x_t$ (2.4); those of a step from $s$ to $t$ (2.5) |
# | $q;\ p_\theta, \hat x_0$ | the way to noise, fixed; the model's way back, its guess of $x_0$ from $x_t$ |
# | $\tilde\mu, \tilde\sigma^2;\ r$ | mean and variance of a step back if $x_0$ is known (chapter 03: $m$, $v$); $r = \tilde\sigma^2 / \sigma_{ts}^2$ |
# | $E_q,\ D$ | the average over draws from $q$; the number of pixels |

# %% [markdown]
# ## 1. A contest of codes
#
# A model gives a picture $x$ the probability $P(x)$. If sender and receiver share it, there is a code that turns $x$
# into $-\log_2 P(x)$ bits, or at most one more
# ([deeper](deeper/04_variational_bound.ipynb#a-code-of-that-length)). No code is shorter on average, if the model is
# right ([@shannon1948], [@mcmillan1956]). So a good model finds *new* photographs likely.
#
# All contestants pack the same hundred photographs, **PNG** as one tall picture. The **histograms** count how
# often each grey level stood at each of the 1,024 places in 10,000 training pictures, plus a tenth, so that no level is
# impossible. The probability of a picture is a product over its pixels.

# %% [markdown]
# **Your turn.** Given the probability of each pixel's true level, what does a picture cost, in bits for each pixel?
# (The package's `bits_per_dim(nats, D)` takes *nats*, natural logarithms.)

# %%
def bits_per_pixel(p):
    """p (B, D), the probability of each pixel's level: bits for each pixel, (B,)."""
    ### BEGIN SOLUTION
    return -p.log2().mean(1)
    ### END SOLUTION


# %% tags=["folded"]
# @title Check your answer
cases = [(torch.tensor([[0.5, 0.25], [1.0, 0.125]]),), (torch.full((3, 5), 1 / 256),)]
check(bits_per_pixel, lambda p: bits_per_dim(-p.log().sum(1), p.shape[1]), cases,
      hint="the logarithm of a product is a sum; share it among the pixels")


# %%
def levels_of(x):
    """Return the grey levels 0..255 of images (B, 1, 32, 32), by places: (1024, B)."""
    return (x.flatten(1) * 127.5 + 127.5).round().long().T


counts = torch.ones(1024, 256)  # in tenths
train = levels_of(clothes.tensor())  # (1024, 10000)
counts.scatter_add_(1, train, torch.full(train.shape, 10.0))
histograms = counts / counts.sum(1, keepdim=True)
spent = -histograms.log2().gather(1, levels_of(photos))  # bits, (1024, 100)
print(f"histograms: {spent.mean():.2f} bits for each pixel")

# %% [markdown]
# Nobody can compute $P(x)$ for our **diffusion model**. In 50 steps `vlb` estimates an *upper limit* of $-\log P(x)$,
# which is a code's length too (section 4). (`bins=256` gives each grey level a probability: section 6.)

# %%
nats = vlb(remembered, photos, times(50), denoiser.schedule, seeded(7), bins=256)
model_bits = bits_per_dim(nats.double(), 1024)  # (100,)
more = model_bits - spent.mean(0)  # photograph by photograph
for bits, name in ((model_bits, "our diffusion model"), (more, "above the histograms")):
    print(f"{name}: {bits.mean():.2f} ± {1.96 * bits.std() / 10:.2f} bits")


# %% [markdown]
# (± is a 95 % interval over photographs. Our model alone is told the class: to name it costs $\log_2 10 / 1024 = 0.003$
# bits for a pixel ([deeper](deeper/04_variational_bound.ipynb#what-a-wrong-class-costs)). Neither the network, here
# 100 bits for each pixel, nor the histograms' table is counted.)
#
# A clue: a frame of two pixels is black in *every* picture. There the histograms pay 0.004 bits for a pixel,
# and the model pays 1.92! Inside the frame the model wins, 4.13 to 4.54.

# %% tags=["check"]
# @title ✓ The three numbers of the first picture
import io

from PIL import Image


def bits_packed(name, some=photos, **options):  # in one file, below each other
    file, column = io.BytesIO(), levels_of(some).T.reshape(-1, 32).byte()
    Image.fromarray(column.numpy()).save(file, name, **options)
    return len(file.getvalue()) * 8 / column.numel()


found = (png := bits_packed("PNG", optimize=True)), spent.mean(), model_bits.mean()
for mine, said in zip(found, codes.values(), strict=True):
    assert abs(mine - said) < (0.05 if said < 3.1 else 0.006)  # PNG: by its encoder
assert more.mean() > 2 * more.std() / 10
assert abs(shipped("fashion.safetensors").stat().st_size * 8 / 102_400 - 100) < 2
print("✓ PNG {:.1f} bits, histograms {:.2f}, model {:.2f}".format(*found))

# %% tags=["check"]
# @title ✓ What the black frame costs
row, column = torch.arange(1024) // 32, torch.arange(1024) % 32
frame = (row < 2) | (row > 29) | (column < 2) | (column > 29)
args = photos.reshape(-1, 1), times(50), denoiser.schedule, seeded(7), 256
each = vlb_terms(lambda x, t: guesses[float(t)].reshape(-1, 1), *args)  # by pixels
pixels = bits_per_dim(torch.stack(list(each)).double(), 1).reshape(51, 100, 1024)
edge, inner = ((pixels.sum(0)[:, w].mean(), spent[w].mean()) for w in (frame, ~frame))
last = pixels[-1][:, frame].mean()  # L_0
assert torch.allclose(pixels.sum(0).mean(1), model_bits, atol=1e-4)
assert max(abs(edge[0] - 1.92), abs(last - 0.73), 4 * edge[1]) < 0.02
assert (levels_of(unseen.tensor())[frame] == 0).all() and inner[0] + 0.3 < inner[1]
print("✓ on the frame histograms {1:.3f} bits, model {0:.2f}".format(*edge),
      f"({last:.2f} in its last step); inside {inner[1]:.2f} and {inner[0]:.2f}")


# %% [markdown]
# ## 2. Surprise, entropy, divergence
#
# $-\log p(x)$, the negative log [likelihood](../docs/glossary.md#likelihood), is the *surprise* of a model $p$ at
# $x$, in *nats* of 1.44 bits. Its average over the truth $q$, the *cross entropy*,
# has two parts:
#
# $$ E_q[-\log p(x)] \;=\; \underbrace{E_q[-\log q(x)]}_{\text{entropy of } q}
# \;+\; \underbrace{E_q\!\left[\log \frac{q(x)}{p(x)}\right]}_{\mathrm{KL}(q\,\|\,p)\ \ge\ 0} \tag{4.1} $$
#
# No model can change the entropy. The model adds chapter 01's [KL
# divergence](../docs/glossary.md#kl-divergence), the price of believing in $p$ where $q$ is true. It is never
# negative, since $\log u \le u - 1$: so $-\mathrm{KL} = E_q[\log (p/q)] \le E_q[p/q] - 1 \le 0$.

# %% [markdown]
# Nearly every term of this chapter is the KL of two Gaussians. Take $\log\mathcal N(x; m_1, v_1) -
# \log\mathcal N(x; m_2, v_2)$ and average over the first, for which $E(x - m_1)^2 = v_1$ and
# $E(x - m_2)^2 = v_1 + (m_1 - m_2)^2$:
#
# $$ \mathrm{KL}\big(\mathcal N(m_1, v_1)\,\|\,\mathcal N(m_2, v_2)\big)
# = \frac12\left( \frac{(m_1 - m_2)^2}{v_2} + \frac{v_1}{v_2} - 1 - \log\frac{v_1}{v_2} \right) \tag{4.2} $$
#
# **Your turn.** Write (4.2).

# %%
def kl_of_normals(m_1, v_1, m_2, v_2):
    """KL(N(m_1, v_1) || N(m_2, v_2)) in nats; v_1 and v_2 are variances."""
    ### BEGIN SOLUTION
    ratio = v_1 / v_2
    return ((m_1 - m_2) ** 2 / v_2 + ratio - 1 - ratio.log()) / 2
    ### END SOLUTION


# %% tags=["folded"]
# @title Check your answer
def by_package(m_1, v_1, m_2, v_2):  # a Gaussian takes standard deviations
    second = Gaussian(m_2[:, None], v_2.sqrt())
    return Gaussian(m_1[:, None], v_1.sqrt()).kl(second)


m, v = torch.tensor([0.5, -1.0]), torch.tensor(0.4)
cases = [(m, v, m / 2, v * 2), (m, v, m.square(), v / 3)]
check(kl_of_normals, by_package, cases,
      hint="three parts: the squared shift over v_2, the ratio less one, its logarithm")


# %% tags=["check"]
# @title ✓ (4.1) and (4.2) by adding up on a grid
line = torch.linspace(-8, 8, 1601)[:, None]  # steps of 0.01
for m_1, v_1, m_2, v_2 in ((0.5, 0.4, 0.0, 1.0), (-1.0, 0.2, 1.0, 0.3)):
    q, p = (Gaussian(torch.tensor([[m]]), v**0.5) for m, v in ((m_1, v_1), (m_2, v_2)))
    log_q, log_p = q.log_prob(line), p.log_prob(line)
    surprise, entropy = -(log_q.exp() * torch.stack([log_p, log_q])).sum(1) / 100
    assert torch.isclose(q.kl(p)[0], (log_q.exp() * (log_q - log_p)).sum() / 100)
    assert torch.isclose(entropy, torch.tensor(2 * torch.pi * torch.e * v_1).log() / 2)
    assert torch.isclose(surprise, entropy + q.kl(p)[0])
for std, nats in ((0.4, 1.71), (2.5, 0.50)):  # too narrow, too wide; q is N(0, 1)
    log_q, log_p = (Gaussian(torch.zeros(1, 1), b).log_prob(line) for b in (1.0, std))
    assert abs((log_q.exp() * (log_q - log_p)).sum() / 100 - nats) < 0.005
print("✓ surprise = entropy + KL on the grid, and KL = (4.2), for two pairs of bells")

# %% [markdown]
# *Predict: the truth is a normal bell of standard deviation 1. Which belief costs more, one of 0.4 or one of 2.5?*

# %% tags=["folded"]
# @title Draw a belief that is too narrow, and one too wide
bell, line = Gaussian(torch.zeros(1, 1), 1.0), torch.linspace(-4, 4, 301)
alt = "Two panels: a filled bell, and a line narrower or wider than it."
picture, axes = plot.figure(alt, 2, width=7.0, height=2.9)
for ax, std, name in zip(axes, (0.4, 2.5), ("too narrow", "too wide"), strict=True):
    belief = Gaussian(torch.zeros(1, 1), std)
    ax.fill_between(line, bell.log_prob(line[:, None]).exp(), alpha=0.35)
    ax.plot(line, belief.log_prob(line[:, None]).exp(), color=plot.COLOURS[3])
    ax.set_title(f"{name}: {bell.kl(belief)[0]:.2f} nats", fontsize=14)
    ax.set(xlim=(-4, 4), ylim=(0, 1.05), yticks=[],
           xlabel="filled: truth q; line: belief p")
picture

# %% [markdown]
# <details><summary>Answer</summary>
#
# The narrow one: 1.71 nats to 0.50. Some data fall where it thinks them nearly impossible. *A model must cover the
# truth.*
#
# </details>

# %% [markdown]
# ## 3. A probability that nobody can compute
#
# For the histograms $P(x)$ is a product of 1,024 numbers. What is it for our model, which only knows small steps? Two
# chains lead over the same noisy states $x_a, x_b, \dots, x_1$, with times $0 < a < b < \dots < 1$: the *path*.

# %%
boot = photos[:1]
diagrams.chain(boot, denoiser.schedule, (0, 0.3, 0.4, 1), ("x_0", "x_s", "x_t", "x_1"),
               forward="fixed: nothing to learn",
               backward="the model: learned")


# %% [markdown]
# **Forward**, the density of a path is a product over the steps of chapter 02, from $s$ to its neighbour $t$:
#
# $$ q(\text{path} \mid x_0) = \prod_{s < t} q(x_t \mid x_s), \qquad
# q(x_t \mid x_s) = \mathcal N(x_t;\ \alpha_{ts}\, x_s,\ \sigma_{ts}^2 I) \tag{4.3} $$

# %% [markdown]
# **Backward**, the model starts from pure noise. For a *known* picture chapter 03 derived the step
# $q(x_s \mid x_t, x_0) = \mathcal N(x_s;\ \tilde\mu(x_t, x_0),\ \tilde\sigma^2 I)$ (3.4). It is narrower than
# a step forward:
#
# $$ \tilde\mu(x_t, x_0) = \frac{\alpha_{ts}\,\sigma_s^2}{\sigma_t^2}\, x_t
# + \frac{\alpha_s\,\sigma_{ts}^2}{\sigma_t^2}\, x_0 , \qquad \tilde\sigma = \frac{\sigma_s}{\sigma_t}\,\sigma_{ts} . $$

# %% [markdown]
# The model puts its guess in the place of the picture. Its variance is the *wide* one, $\sigma_{ts}^2$. The package's
# walks take the *narrow* one, $\tilde\sigma^2$ (3.9). But that is 0 in the last step, and without width a bell gives no
# picture a probability.
#
# $$ \begin{gathered}
# p_\theta(x_0, \text{path}) = p(x_1) \prod_{s < t} p_\theta(x_s \mid x_t), \qquad p(x_1) = \mathcal N(x_1;\ 0,\ I), \\
# p_\theta(x_s \mid x_t) = \mathcal N\big(x_s;\ \mu_\theta,\ \sigma_{ts}^2 I\big), \qquad
# \mu_\theta = \tilde\mu\big(x_t,\ \hat x_0(x_t, t)\big)
# \end{gathered} \tag{4.4} $$
#
# > **How the papers write it.** The path is $x_{1:T}$, a step is from $t$ to $t - 1$, $\sigma_{ts}^2$ is $\beta_t$,
# > $\tilde\sigma^2$ is $\tilde\beta_t$ ([@ho2020]).

# %% [markdown]
# A picture can be reached over any path, so its density is an integral over all of them:
#
# $$ p_\theta(x_0) = \int p_\theta(x_0, \text{path})\; d\,\text{path} \tag{4.5} $$
#
# In the contest these are $50 \times 1024$ numbers: nobody can compute that. In a smaller world we can. A picture is one
# number, the data have two humps, at -1.2 and 0.8, and the denoiser is exact.

# %% tags=["folded"]
# @title A small world: two humps, DDPM's schedule, the exact denoiser
from minidiff import LinearBeta, Mixture

humps = Mixture(torch.tensor([0.4, 0.6]), torch.tensor([[-1.2], [0.8]]),
                torch.tensor([0.2, 0.2]))
schedule = LinearBeta()


def denoise(x_t, t):
    return humps.denoise(x_t, t, schedule)


normal = Gaussian(torch.zeros(1, 1), 1.0)  # p(x_1)

# %%
def step_back(x_t, s, t):  # p(x_s | x_t)
    mean = posterior(x_t, denoise(x_t, t), s, t, schedule).mean
    return Gaussian(mean, transition(s, t, schedule)[1])


def log_densities(path, ts):
    """log q (4.3) and log p (4.4) of a path, a list of states from x_1 to x_0."""
    log_q, log_p = 0, normal.log_prob(path[0])
    for (x_t, x_s), (t, s) in zip(pairwise(path), pairwise(ts), strict=True):
        alpha_ts, sigma_ts = transition(s, t, schedule)
        log_q += Gaussian(alpha_ts * x_s, sigma_ts).log_prob(x_t)
        log_p += step_back(x_t, s, t).log_prob(x_s)
    return log_q, log_p


# %% [markdown]
# With two steps, over the times 1, 0.1 and 0, a path to $x_0 = 0.8$ is a point $(x_1, x_{0.1})$ of a plane.

# %%
axis = torch.linspace(-6, 6, 301)
two_steps, cell = torch.tensor([1.0, 0.1, 0.0]), (axis[1] - axis[0]) ** 2
plane = torch.cartesian_prod(axis, axis)  # (90601, 2): x_1 and x_0.1
paths = [plane[:, :1], plane[:, 1:], torch.full((len(plane), 1), 0.8)]
log_q, log_p = log_densities(paths, two_steps)
exact = -(log_p.exp().sum() * cell).log()
print(f"-log p(0.8) = {exact:.3f} nats")

# %% tags=["check"]
# @title ✓ The same number, one line at a time
def pushed(ts, x0):
    x = torch.linspace(-6, 6, 601)
    density = normal.log_prob(x[:, None]).exp()  # of x_1
    for t, s in pairwise(ts):
        step, to = step_back(x[:, None], s, t), x if s > 0 else torch.tensor([x0])
        kernel = torch.distributions.Normal(step.mean[:, 0], step.std)
        density = (kernel.log_prob(to[:, None]).exp() * density).sum(1) * (x[1] - x[0])
    return -density.log()[0]


assert torch.isclose(pushed(two_steps, 0.8), exact, atol=1e-6)
expects = step_back(axis[:, None] / 3, 0.1, 1.0).mean  # from noise: the data's mean, 0
assert expects.abs().max() < 0.02 and abs(denoise(paths[2][:1], 0.1) - 0.8) < 0.02
print("✓ pushing the density of noise through the two steps gives it too, to 1e-6")

# %% [markdown]
# ## 4. The bound
#
# For pictures we compute a number that $-\log p_\theta(x_0)$ cannot exceed:
#
# $$ -\log p_\theta(x_0) \ \le\ L(x_0) := E_{q(\text{path} \mid x_0)}\!\left[
# \log \frac{q(\text{path} \mid x_0)}{p_\theta(x_0, \text{path})} \right] \tag{4.6} $$
#
# Chapter 01 used *Jensen's inequality* ([deeper](deeper/04_variational_bound.ipynb#1-the-second-route-jensen)). This
# proof also gives the gap.

# %% [markdown]
# **Proof.** A conditional density is a joint one over a marginal, $p_\theta(\text{path} \mid x_0) =
# p_\theta(x_0, \text{path}) / p_\theta(x_0)$. So on *every* path
#
# $$ -\log p_\theta(x_0) = \log \frac{q(\text{path} \mid x_0)}{p_\theta(x_0, \text{path})}
# - \log \frac{q(\text{path} \mid x_0)}{p_\theta(\text{path} \mid x_0)} . $$
#
# The left side does not know the path. Average the right side over forward paths:
#
# $$ -\log p_\theta(x_0) = L(x_0) - \mathrm{KL}\big(q(\text{path} \mid x_0)\,\|\,
# p_\theta(\text{path} \mid x_0)\big) \tag{4.8} $$
#
# and a KL is never negative. $\blacksquare$

# %% [markdown]
# $L$ is the [variational bound](../docs/glossary.md#variational-bound). $-L$ is chapter 01's
# [ELBO](../docs/glossary.md#elbo) (1.3), with the path in the place of the code $z$ and a $q$ that is not learned. It
# needs no integral: draw some forward paths and average. The contest's 3.61 bits are this $L$.

# %% [markdown]
# Why may a bound enter a contest of *codes*? A toy: $q$ leads from a picture to one of four equally likely paths. The
# model gives picture and path together the probability $\frac1{32}$, so the sender packs both in 5 bits. But any of the
# four paths will do: let the next two bits of *another* file choose it. The receiver sees the path, and so these two
# bits. The picture has cost $5 - 2 = 3$ bits, which is $-\log_2 \frac4{32}$: four paths.
#
# This is *bits-back coding* ([@hinton1993], [@townsend2019]). In general it costs $L$ on average (continuous paths:
# [deeper](deeper/04_variational_bound.ipynb#a-code-of-that-length)).

# %% [markdown]
# By (4.8) the gap closes if the model, shown $x_0$, believes in the paths that the noise really takes.
#
# *Predict: is* $L(0.8)$ *above the exact 0.538 nats by a tenth, a half, or the whole of it?*

# %%
weight = log_q.exp() * cell  # probability of each cell of the plane
bound = (weight * (log_q - log_p)).sum()
print(f"L(0.8) = {bound:.3f} nats")

# %% [markdown]
# <details><summary>Answer</summary>
#
# A half: 0.814, a gap of 0.276 nats. Which paths does the model not believe in?
#
# </details>

# %% tags=["folded"]
# @title Draw the paths of q, and those in which p believes
alt = "Two panels: an oval near 0.8; an oval near 0.3 that ends at a line at -0.2."
picture, axes = plot.figure(alt, 2, width=7.0, height=3.3)
for ax, log_density, title in ((axes[0], log_q, "real paths to $x_0 = 0.8$"),
                               (axes[1], log_p + exact, "what p believes of them")):
    ax.pcolormesh(axis, axis, log_density.exp().reshape(301, 301).T, cmap="Greys",
                  vmin=0, vmax=0.5)  # one scale for both
    ax.set(xlim=(-3, 3), ylim=(-1, 2.5), xlabel="$x_1$", ylabel="$x_{0.1}$",
           yticks=(-1, -0.2, 0.3, 0.8, 2), title=title)
    ax.grid(False)
axes[1].axhline(-0.2, color=plot.COLOURS[1], linestyle="--")
axes[1].text(0, -0.9, "here it guesses\nthe other hump", ha="center", fontsize=13)
picture

# %% [markdown]
# The right panel is $p_\theta(\text{path} \mid x_0) = p_\theta(x_0, \text{path}) / p_\theta(x_0)$. Why does
# it peak near 0.3? In the long step the guess from pure noise is the mean of the data, 0, so the model
# expects $x_{0.1}$ near 0. Its last step prefers 0.8. Their product peaks between.
#
# The folded cell makes steps of the model exact: the long one, the last one, both.
# *Predict: which is to blame, the long step from 1 to 0.1 or the last one?*

# %% tags=["check"]
# @title ✓ Which step is to blame?
def true_step(x_t, x_s, s, t):  # log q(x_s | x_t); it needs the density of the data
    alpha_ts, sigma_ts = transition(s, t, schedule)
    data = humps.log_prob(x_s, s, schedule) - humps.log_prob(x_t, t, schedule)
    return Gaussian(alpha_ts * x_s, sigma_ts).log_prob(x_t) + data


pair = [(*paths[k : k + 2], *two_steps[[k + 1, k]]) for k in (0, 1)]
long, last = (true_step(*a) - step_back(a[0], *a[2:]).log_prob(a[1]) for a in pair)
joints = [log_p + change for change in (0, long, last, long + last)]
gaps = [(weight * (log_q - joint)).sum() + (joint.exp().sum() * cell).log()
        for joint in joints]  # bound less exact
assert abs(gaps[0] - 0.276) < 0.001 and abs(plane[log_p.argmax(), 1] - 0.3) < 0.1
assert gaps[0] > gaps[2] > 0.15 > gaps[1] > 0 and abs(gaps[3]) < 1e-6
print("✓ gap {:.3f}; with the long step exact {:.3f}, the last {:.3f}".format(*gaps))


# %% [markdown]
# <details><summary>Answer</summary>
#
# The long one: if it is exact, the gap falls to 0.015. The data have two humps, a Gaussian step has one.
#
# </details>

# %% [markdown]
# ## 5. One term for each step
#
# The logarithm in (4.6) is $-\log p(x_1)$ plus $\log\big(q(x_t \mid x_s) / p_\theta(x_s\mid x_t)\big)$ for each step.
# This compares a step *forward* with a step *back*, so its average is no KL. Bayes' rule turns the numerator round.
# Since $q(x_t \mid x_s) = q(x_t \mid x_s, x_0)$, for $s > 0$
#
# $$ q(x_t \mid x_s) = q(x_s \mid x_t, x_0)\; \frac{q(x_t \mid x_0)}{q(x_s \mid x_0)} . $$

# %% [markdown]
# With three steps, from $x_0$ over $x_a$ and $x_b$ to $x_1$:
#
# $$ q(\text{path} \mid x_0) = q(x_a \mid x_0) \cdot
# \underbrace{q(x_a \mid x_b, x_0)\, \frac{q(x_b \mid x_0)}{q(x_a \mid x_0)}}_{q(x_b \mid x_a)} \cdot
# \underbrace{q(x_b \mid x_1, x_0)\, \frac{q(x_1 \mid x_0)}{q(x_b \mid x_0)}}_{q(x_1 \mid x_b)} $$
#
# The factors $q(\,\cdot \mid x_0)$ cancel, all but $q(x_1 \mid x_0)$. In logarithms:

# %%
diagrams.telescope()

# %% [markdown]
# Divide what remains by $p_\theta(x_0, \text{path})$. For any number of steps the logarithm of (4.6) is
#
# $$ \log\frac{q(x_1 \mid x_0)}{p(x_1)}
# + \sum_{0 < s < t} \log\frac{q(x_s\mid x_t, x_0)}{p_\theta(x_s\mid x_t)}
# - \log p_\theta(x_0 \mid x_a) \tag{4.9} $$
#
# with $x_a$ next to the picture. This holds *on every path*.

# %% [markdown]
# Now average. In each term of the sum, average first over $x_s$, with $x_t$ fixed: that is the KL of two Gaussians
# (4.2). The bound is
#
# $$ \begin{aligned}
# L(x_0) = \underbrace{\mathrm{KL}\big(q(x_1\mid x_0)\,\|\,p(x_1)\big)}_{L_T}
# &+ \sum_{0 < s < t} \underbrace{E_q\, \mathrm{KL}\big(q(x_s\mid x_t, x_0)\,\|\,p_\theta(x_s\mid x_t)\big)}_{L_s} \\
# &+ \underbrace{E_q\big[-\log p_\theta(x_0\mid x_a)\big]}_{L_0}
# \end{aligned} \tag{4.10} $$
#
# ([@sohldickstein2015]; this form is from [@ho2020], whose $L_{t-1}$ is our $L_s$, and whose last time is $T$.)
# The *prior*, *diffusion* and *reconstruction* terms ask three questions:

# %%
x_0, x_b, x_a = torch.tensor([0.8, 0.3, 0.5])[:, None, None]  # a = 1/8, b = 1/4
alpha_1, sigma_1 = schedule(1.0)
end = Gaussian(alpha_1 * x_0, sigma_1)
truths = end, posterior(x_b, x_0, 1 / 8, 1 / 4, schedule), 0.8
models = normal, step_back(x_b, 1 / 8, 1 / 4), step_back(x_a, 0.0, 1 / 8)
diagrams.bells(list(zip(truths, models, strict=True)),
               ("Is the end noise?", "Is the step right?", "How likely is the data?"),
               ("$x_1$:  $L_T$", "$x_s$:  $L_s$", "$x_0$:  $L_0$"),
               "Two equal bells; two that overlap; a bell and a line near its top.")


# %% [markdown]
# Nothing in $L_T$ is learned. In $L_s$ the model's step is compared with the right one. $L_0$ reads the
# last bell at the data, the blue line: a density here, a probability for pictures (section 6).
#
# One term needs no path, only a jump to $x_t$ and one call of the network. So training may pick a step at random.
#
# **Your turn.** Write $L_s$ for given $x_t$ and a given guess.

# %%
def one_term(x0, x_t, guess, s, t, schedule):
    """KL(q(x_s | x_t, x0) || p(x_s | x_t)); p has the guess in the place of x0."""
    ### BEGIN SOLUTION
    truth, model = (posterior(x_t, x, s, t, schedule) for x in (x0, guess))
    return truth.kl(Gaussian(model.mean, transition(s, t, schedule)[1]))
    ### END SOLUTION


# %% tags=["folded"]
# @title Check your answer
def by_formula(x0, x_t, guess, s, t, schedule):
    (alpha_s, sigma_s), (_, sigma_t) = schedule(s), schedule(t)
    sigma_ts, r = transition(s, t, schedule)[1], sigma_s**2 / sigma_t**2
    shift = alpha_s * sigma_ts**2 / sigma_t**2 * (x0 - guess)  # of the two means
    return (shift**2 / sigma_ts**2 + r - 1 - r.log()).sum(1) / 2


three = torch.randn(3, 2, 3, generator=seeded(0))  # x0, x_t, guess
cases = [(*three, s, t, schedule) for s, t in ((0.2, 0.5), (0.6, 0.7))]
check(one_term, by_formula, cases,
      hint="truth and model have different means and different standard deviations")


# %% [markdown]
# The package's `vlb_terms` is (4.10), with one draw of each term. *Only the mean is a bound: a single draw may lie
# below the exact value.* (`noise_like` draws noise; `match_dims` gives a number the axes of a picture.)

# %%
plot.show_source(vlb_terms)

# %% tags=["check"]
# @title ✓ (4.9) holds on every path
ts, n = torch.cat([torch.linspace(1, 0.1, 8), torch.zeros(1)]), 100_000
walk = [torch.full((n, 1), 0.8)]
for t, s in reversed(list(pairwise(ts))):  # upwards, from x_0
    alpha_ts, sigma_ts = transition(s, t, schedule)
    walk.insert(0, Gaussian(alpha_ts * walk[0], sigma_ts).sample(seeded(int(100 * t))))
turned = end.log_prob(walk[0]) - normal.log_prob(walk[0])
for (x_t, x_s), (t, s) in zip(pairwise(walk), pairwise(ts), strict=True):
    truth = posterior(x_t, walk[-1], s, t, schedule).log_prob(x_s) if s > 0 else 0
    turned += truth - step_back(x_t, s, t).log_prob(x_s)
of_q, of_p = log_densities(walk, ts)
assert torch.allclose(turned, of_q - of_p, atol=1e-8)
print("✓ both sides of (4.9) agree on each of 100,000 paths of 8 steps, to 1e-8")

# %% tags=["check"]
# @title ✓ Paths and terms have the same mean, above the exact value
many = torch.cat([torch.linspace(1, 0.1, 57), torch.zeros(1)])
finer = vlb(denoise, walk[-1], many, schedule, seeded(2)).mean()
by_terms = vlb(denoise, walk[-1], ts, schedule, seeded(2))  # the sum of vlb_terms
error = (turned.std() + by_terms.std()) / n**0.5
assert abs(turned.mean() - by_terms.mean()) < 4 * error
gap, less = by_terms.mean() - pushed(ts, 0.8), finer - pushed(many, 0.8)
assert exact - 0.02 > pushed(ts, 0.8) and abs(gap - 0.24) < 0.01 > abs(less - 0.07)
assert 0.4 < (by_terms < pushed(ts, 0.8)).double().mean() < 0.8  # one draw: no bound
assert all(abs(each(1.0)[1] - 1) < 1e-4 for each in (schedule, denoiser.schedule))
print(f"✓ 8 steps: bound by paths {turned.mean():.2f}, by terms {by_terms.mean():.2f};",
      f"exact {pushed(ts, 0.8):.2f}; gap {gap:.2f}, of 57 steps {less:.2f}")

# %% [markdown]
# ### What a term asks of the network
#
# Put the Gaussians of chapter 03 into (4.2). Let $r = \tilde\sigma^2 / \sigma_{ts}^2 = \sigma_s^2 / \sigma_t^2$ be the
# ratio of the variances. Then
#
# $$ L_s = E_{q(x_t\mid x_0)}\!\left[ \frac{1}{2\sigma_{ts}^2}
# \big|\tilde\mu(x_t, x_0) - \mu_\theta\big|^2 \right] + \frac{D}{2}\left( r - 1 - \log r \right) \tag{4.11} $$
#
# The second part, the *constants*, does not depend on the network. The two means differ only in what they take for the
# picture: $\tilde\mu - \mu_\theta = \frac{\alpha_s \sigma_{ts}^2}{\sigma_t^2}\,(x_0 - \hat x_0)$. So all that counts of
# the network is **the squared error of the denoiser**, $|x_0 - \hat x_0|^2$, with the weight $\alpha_s^2\sigma_{ts}^2 /
# (2\sigma_t^4)$. Chapter 05 drops the weight and trains on the error of the *noise*.

# %% [markdown]
# ## 6. Pixels are whole numbers
#
# Pixels are grey levels, one of 256 each. A *density* is no probability: it grows without limit as a
# bell gets narrow. So [@ho2020] give each level the mass of the last Gaussian between the points half way to its
# neighbours. On $[-1, 1]$ levels are $2/255$ apart; the outermost intervals have no outer end:
#
# $$ \begin{gathered}
# p_\theta(x_0 \mid x_a) = \prod_{i=1}^{D} \int_{\delta_-(x_0^i)}^{\delta_+(x_0^i)}
# \mathcal N\big(u;\ \mu_\theta^i,\ \sigma_a^2\big)\, du, \\
# \delta_+(1) = \infty, \quad \delta_-(-1) = -\infty, \quad \delta_\pm(g) = g \pm 1/255 \text{ otherwise}
# \end{gathered} \tag{4.12} $$
#
# ($i$ counts pixels. In the last step $\mu_\theta$ is the guess $\hat x_0$, and $\sigma_{ts}$ is $\sigma_a$.)
#
# **Your turn.** Write the integral for one level.

# %%
def mass(level, mean, std):
    """Probability of grey levels in [-1, 1] under (4.12); level is a tensor."""
    bell, half = torch.distributions.Normal(mean, std, validate_args=False), 1 / 255
    ### BEGIN SOLUTION
    above = torch.where(level > 1 - half, torch.inf, level + half)
    below = torch.where(level < half - 1, -torch.inf, level - half)
    return bell.cdf(above) - bell.cdf(below)
    ### END SOLUTION


# %% tags=["folded"]
# @title Check your answer
from minidiff.losses import discretized_log_likelihood


def mass_by_package(level, mean, std):
    bell = Gaussian(torch.full((len(level), 1), mean), torch.tensor(std))
    return discretized_log_likelihood(bell, level[:, None], 256).exp()


cases = [(torch.tensor([-1.0, 1 / 255, 1.0]), mean, 0.4) for mean in (0.0, 0.97)]
check(mass, mass_by_package, cases,
      hint="bell.cdf(above) - bell.cdf(below); at the two ends one of them is infinite")


# %% tags=["check"]
# @title ✓ The probabilities are how often a rounded bell hits each level
levels = torch.linspace(-1, 1, 256)
for mean, std in ((0.0, 0.3), (0.97, 0.06), (-1.2, 0.02), (0.1, 0.001)):
    u = mean + std * torch.randn(400_000, generator=seeded(3))
    hits = (u.clamp(-1, 1) * 127.5 + 127.5).round().long().bincount(minlength=256)
    assert (hits / 400_000 - mass_by_package(levels, mean, std)).abs().max() < 0.004
assert mass_by_package(levels, 0.97, 0.06)[-1] > 0.3
print("✓ for four bells, also one off the scale, as often as 400,000 rounded draws")

# %% [markdown]
# Sums over a picture grow with its size, so they are quoted in [bits per
# dimension](../docs/glossary.md#bits-per-dimension):
#
# $$ \frac{L(x_0)}{D \ln 2} \tag{4.13} $$
#
# The model's 3.61 is (4.10) with (4.12), one draw of each term.

# %% [markdown]
# ## 7. What the bits are spent on
#
# If we know where the 3.61 bits go, the same network can beat PNG. Which terms of (4.10) are they? (Sums of rounded
# numbers may be off by 0.01.)

# %%
def bits_of(denoise, T):
    """The terms of (4.10), in bits for each pixel of a photograph: (T + 1, 100)."""
    each = vlb_terms(denoise, photos, times(T), denoiser.schedule, seeded(7), bins=256)
    return bits_per_dim(torch.stack(list(each)).double(), 1024)


ours = bits_of(remembered, 50)
for name, terms in {"L_T": ours[:1], "49 L_s": ours[1:-1], "L_0": ours[-1:]}.items():
    print(f"{name}: {terms.sum(0).mean():.2f} bits for each pixel")


# %% [markdown]
# $L_T$ is 0, since the end of the walk is pure noise. The last step alone, $L_0$, costs more than the 49 before it!
#
# A *clairvoyant* denoiser is shown the photograph: each guess is perfect. No receiver has the photograph, so this is no
# code. It shows the price of the steps alone.
#
# *Predict: does it pay nothing of the 3.61 bits, a third, or most?*

# %%
def clairvoyant(x, t):
    return photos


perfect = bits_of(clairvoyant, 50)
wrong = (ours - perfect).mean(1)  # what wrong guesses add to each term
print(f"clairvoyant: {perfect[1:-1].sum(0).mean():.2f} bits in 49 steps,",
      f"{perfect[-1].mean():.2f} in L_0")
print(f"added by wrong guesses: {wrong[1:-1].sum():.2f} and {wrong[-1]:.2f}")

# %% [markdown]
# <details><summary>Answer</summary>
#
# Most: 2.78 bits. In the last step it pays 1.78, because the bell (standard deviation: 4 levels) covers neighbouring
# levels. The other 1.01 are the *constants* of (4.11), the price of too wide steps.
#
# </details>
#
# At which noise are the bits spent? Orange is the last step, blue are wrong guesses before it, grey are the constants.
# (The last three pictures enlarge the first three. A row shows the least noise from which its steps start.)

# %% tags=["folded"]
# @title Group the steps by the noise from which they start
start = denoiser.schedule(times(50)[:-1])[1]  # sigma where each step starts: (50,)
bands = {"1 step, from 4 levels": (0, 5), "1 step, from 8 levels": (5, 10),
         "5 steps, from 10 to 30": (10, 30), "43 steps, from above 30": (30, 128)}
groups = {name: (a <= start * 127.5) & (start * 127.5 < b)  # in grey levels
          for name, (a, b) in bands.items()}

# %% tags=["folded"]
# @title Draw where the bits go
eps = torch.randn(3, 1, 32, 32, generator=seeded(9), dtype=torch.float32)
states, bits, constant = {}, {}, {}
for name, steps in groups.items():
    noisy = photos[:3] + start[steps].min().float() * eps  # the clearest
    corners = zip(noisy, ((14, 12), (8, 10), (14, 12)), strict=True)
    parts = torch.stack([x[:, i : i + 7, j : j + 7] for x, (i, j) in corners])
    large = parts.repeat_interleave(4, 2).repeat_interleave(4, 3)
    large = torch.nn.functional.pad(large, [2] * 4, value=-1.0)  # a black frame
    states[name], bits[name] = torch.cat([noisy, large]), ours[1:][steps].sum(0).mean()
    constant[name] = perfect[1:-1][steps[:-1]].sum(0).mean()
diagrams.contest(states, bits, "Four rows of photographs with more and more noise.",
                 3.61, (1, 5, 5, 5), ("starts from noise of", "all steps"), constant)

# %% [markdown]
# More than half of all bits are the last step's: it removes noise that we hardly see. Shapes survive 30 levels of noise,
# so they are decided in the last row's steps. There the guesses cost only 0.21 bits.

# %% [markdown]
# ### Win the contest
#
# Three repairs leave the network alone. **First, narrow steps.** Give the 49 steps the variance
# $\tilde\sigma^2 = r\,\sigma_{ts}^2$. (The last step keeps its bell.) The constants of this *narrow model* are 0. But in
# (4.11) the squared error is now divided by $r\,\sigma_{ts}^2$, with $r < 1$.
#
# **Your turn.** Given the terms (4.10) of the wide model and of the clairvoyant, and $r$: all bits of the narrow model.
#
# *Predict: is the new number* $3.61 - 1.01 = 2.60$*?*

# %%
def with_narrow_steps(terms, perfect, r):
    """terms, perfect: L_T, T - 1 terms L_s, L_0, (B,) each; r (T - 1, 1): bits (B,)."""
    ### BEGIN SOLUTION
    wrong = (terms - perfect)[1:-1]  # without the constants
    return terms[0] + (wrong / r).sum(0) + terms[-1]
    ### END SOLUTION


# %% tags=["folded"]
# @title Check your answer
def step_by_step(terms, perfect, r):
    total = terms[0] + terms[-1]
    for k, ratio in enumerate(r[:, 0], 1):
        total = total + (terms[k] - perfect[k]) / ratio
    return total


few = torch.tensor([[0.0, 0.1], [1.0, 1.4], [2.0, 3.0]])  # T = 2
more_terms = torch.tensor([[0.0, 0.1], [1.0, 0.6], [0.5, 0.9], [2.0, 3.0]])  # T = 3
cases = [(few, few - few.square() / 4, torch.tensor([[0.5]])),
         (more_terms, more_terms / 2, torch.tensor([[0.8], [0.1]]))]
check(with_narrow_steps, step_by_step, cases,
      hint="only wrong guesses in L_s change; the first and the last term stay")


# %%
r = (start[1:] / start[:-1])[:, None] ** 2  # of the 49 steps: (49, 1)
wide = torch.stack(wide_steps(times(50))).double()[:-1, None] ** 2  # their variances
errors = (ours - perfect)[1:-1]  # wrong guesses in wide steps, (49, 100)


def steps_with(v):
    """Bits of the 49 steps with variances v (49, 1): constants, and wrong guesses."""
    ratio = r * wide / v  # of the narrow variance to v
    constants = bits_per_dim((ratio - 1 - ratio.log()).sum() / 2, 1)
    return constants, (errors * wide / v).sum(0)


narrow = sum(steps_with(r * wide)) + ours[-1]
print(f"wrong guesses before L_0: {steps_with(r * wide)[1].mean():.2f} bits;",
      f"all bits with narrow steps: {narrow.mean():.2f}")


# %% [markdown]
# <details><summary>Answer</summary>
#
# No, 3.33. A narrow bell punishes wrong guesses harder: 1.37 bits in place of 0.64.
#
# </details>
#
# **Second, the best width.** By (4.2) a step of variance $v$ costs $\frac12(S/v + \log v)$ for each pixel,
# plus a constant, where
#
# $$ S = \tilde\sigma^2 + \Big(\frac{\alpha_s \sigma_{ts}^2}{\sigma_t^2}\Big)^2 \frac{E|x_0 - \hat x_0|^2}{D} . $$
#
# Its derivative $\frac12(1/v - S/v^2)$ is 0 at $v = S$.
# The more a guess errs, the wider the step must be. Twenty *training* photographs give the 49 best variances
# ([deeper](deeper/04_variational_bound.ipynb#4-learned-variance)).

# %% tags=["folded"]
# @title Fit 49 variances to the errors for twenty training photographs
few, best = clothes.tensor(slice(0, 20)), []
eps = torch.randn(few.shape, generator=seeded(8), dtype=few.dtype)
for (t, s), v, ratio in zip(pairwise(times(50)[:-1]), wide, r, strict=True):
    guess = denoiser(add_noise(few, eps, t, denoiser.schedule), t, cond=clothes.y[:20])
    (alpha_s, _), (_, sigma_t) = denoiser.schedule(s), denoiser.schedule(t)
    error = (guess - few).double().square().mean()
    best.append(v * ratio + (alpha_s * v / sigma_t**2) ** 2 * error)
best = torch.stack(best)  # (49, 1)

# %%
fitted = sum(steps_with(best)) + ours[-1]
print(f"all bits with fitted steps: {fitted.mean():.2f}")

# %% [markdown]
# Both beat the histograms' 3.48. **Third, the black frame.** Of its 1.92 bits the last step cost 0.73, as it still does.
#
# *Predict: the width of the last bell stays. Should its mean stand at black, which is* $-1$*, or below?*

# %% tags=["folded"]
# @title Draw what the last bell gives to the darkest levels
alt = "Two panels of bars over the darkest twenty grey levels."
picture, axes = plot.figure(alt, 2, width=7.0, height=2.9)
for ax, place in zip(axes, (-1.0, -1.05), strict=True):
    bars = mass_by_package(torch.arange(20) / 127.5 - 1, place, float(start[-1]))
    ax.bar(range(20), bars, 0.8, color=[plot.COLOURS[3]] + [plot.COLOURS[0]] * 19)
    ax.set(xlabel="grey level (0: black)", ylim=(0, 1), xticks=(0, 5, 10, 15))
    ax.set_title(f"mean {place:g}: black {bars[0]:.0%}", fontsize=14)
axes[0].set_ylabel("probability")
picture

# %% [markdown]
# <details><summary>Answer</summary>
#
# Below, since the interval of black has no lower end. At $-1$ nearly half of the bell lies on lighter greys. But squared
# error taught the network to aim *at* black.
#
# </details>
#
# So `bolder` shifts all guesses near black downwards. The best shift is found on *training* photographs.

# %%
def bolder(guess, by):
    return torch.where(guess < -0.99, guess - by, guess)


# %% tags=["folded"]
# @title Try four shifts on a hundred training photographs
def last_bits(guess, x0):
    nats = -discretized_log_likelihood(Gaussian(guess, start[-1]), x0, 256)  # of `mass`
    return bits_per_dim(nats.double(), 1024)


known = clothes.tensor(slice(0, 100))
eps = torch.randn(known.shape, generator=seeded(8), dtype=known.dtype)
guess = denoiser(add_noise(known, eps, 0.02, denoiser.schedule), 0.02,
                 cond=clothes.y[:100])
for by in (0, 0.02, 0.05, 0.1):
    print(f"shift {by}: L_0 {last_bits(bolder(guess, by), known).mean():.2f} bits")


# %% [markdown]
# 0.05 is best. The contest again, with lossless WebP too (green: codes without diffusion). Our model starts at the
# bottom:

# %%
last = last_bits(bolder(guesses[0.02], 0.05), photos)  # 0.02: the last step's guess
bold = fitted - ours[-1] + last
print(f"all bits when also bolder: {bold.mean():.2f}")

# %% tags=["folded"]
# @title Draw the contest again
ends = {"wide": (wide, ours[-1]), "narrow": (r * wide, ours[-1]),
        "fitted": (best, ours[-1]), "fitted and bolder": (best, last)}
rows = {}
for name, (v, end_bits) in ends.items():
    constants, guessed = steps_with(v)
    rows[name] = constants, end_bits.mean(), guessed.mean()
webp = bits_packed("WEBP", lossless=True, quality=100, method=6)
assert torch.isclose(perfect[1:-1].sum(0).mean(), rows["wide"][0])
assert bold.mean() + 0.1 < webp
others = {"1,024 histograms": spent.mean(), "PNG": png, "lossless WebP": webp}
parts, alt = ("constants", "last step", "wrong guesses before it"), "Seven bars."
diagrams.split_bars(rows, parts, "bits for each pixel", alt, others)

# %% [markdown]
# With the same network, 3.61 bits have become 2.73, fewer than WebP's 2.87
# ([deeper](deeper/04_variational_bound.ipynb#does-it-beat-webp)). Of the constants 0.16 bits are left,
# the short grey piece. A pixel of the frame costs 0.49 bits, not 1.92.

# %% tags=["check"]
# @title ✓ The narrow steps by their KLs, the last step by the levels' masses
total, level = 0, levels_of(photos).T.flatten()
for t, s in pairwise(times(50)[:-1]):
    truth, model = (posterior(shown[float(t)], x, s, t, denoiser.schedule)
                    for x in (photos, guesses[float(t)]))
    total = total + bits_per_dim(truth.kl(model).double(), 1024)
assert torch.allclose(total, narrow - ours[-1], rtol=1e-3)
for guess, each in ((guesses[0.02], ours[-1]), (bolder(guesses[0.02], 0.05), last)):
    bell = torch.distributions.Normal(guess.flatten().double(), start[-1])
    up, down = (bell.cdf((level + shift - 127.5) / 127.5) for shift in (0.5, -0.5))
    masses = up.masked_fill(level == 255, 1) - down.masked_fill(level == 0, 0)
    assert torch.isclose(-masses.log2().mean(), each.mean(), rtol=1e-4)
print("✓ the same bits, for the narrow steps to 0.1 %, for the last one to 0.01 %")

# %% tags=["check"]
# @title ✓ What the black frame costs in the end
each = vlb_terms(lambda x, t: args[0], *args[:3], seeded(7), 256)  # the clairvoyant
sure = bits_per_dim(torch.stack(list(each)).double(), 1).reshape(51, 100, 1024)
bell = Gaussian(bolder(guesses[0.02], 0.05).reshape(-1, 1), start[-1])
nats = -discretized_log_likelihood(bell, args[0], 256).double().reshape(100, 1024)
errors_by_place = (pixels - sure)[1:-1].mean(1)  # (49, 1024)
place = steps_with(best)[0] + (errors_by_place * wide / best).sum(0)
place = place + bits_per_dim(nats, 1).mean(0)
assert abs(place[frame].mean() - 0.49) < 0.02 > abs(bold.mean() - 2.73)
assert torch.isclose(place.mean(), bold.mean(), rtol=1e-3)
assert abs((aim := guesses[0.02].flatten(1)[:, frame].mean()) + 1) < 0.01
print(f"✓ {place[frame].mean():.2f} bits on it, {place[~frame].mean():.2f} inside;",
      f"on it the mean guess was {aim:.3f} before the shift, black is -1")

# %% tags=["folded"]
# @title Draw with wide, narrow and fitted steps
narrower, best_drawn = (drawn(noise, times(50), [*v[:, 0].sqrt(), 0.0], seed=1)
                        for v in (wide * r, best))
assert narrower.diff(dim=-1).abs().mean() + 0.01 < rough[1]
moved = (bolder(best_drawn, 0.05).clamp(-1, 1) - best_drawn.clamp(-1, 1)) * 127.5
assert moved.abs().max() < 1.3  # grey levels
diagrams.pictures({"wide": by_model, "narrow": narrower, "fitted": best_drawn},
                  "Three rows of the same six clothes; the first has the most grain.")


# %% [markdown]
# Narrow steps save bits, and they draw less grain. But the third repair saves 0.38 bits, and nobody sees it: it shifts
# guesses below black, where they are drawn black. A shorter code need not be a better picture ([@theis2016]): with
# chapter 05's loss a DDPM needs more bits and *draws far better* ([@ho2020]).

# %% [markdown]
# ## What to keep
#
# - A model's mean surprise is the data's entropy plus a divergence (4.1); for grey levels, a file's length.
# - $p_\theta(x_0)$ is an integral over all paths. The mean of $\log(q/p_\theta)$ over *forward* paths is an upper limit of
#   $-\log p_\theta(x_0)$ (4.6).
# - By Bayes' rule the bound is $L_T$, one $L_s$ for each step, and $L_0$ (4.10). Each $L_s$ is a weight times the
#   denoiser's squared error, plus a constant (4.11).
# - The contest: more than half of the bits are the last step's, and fewer bits need not look better.

# %% [markdown]
# ## Exercises
#
# **1. Pen.** Let the model take the variance $\tilde\sigma^2$ in place of $\sigma_{ts}^2$. (a) What is left of (4.11)?
# (b) Write it as a weight times $|x_0 - \hat x_0|^2$, and find the weight in terms of $\mathrm{SNR}(t) =
# \alpha_t^2/\sigma_t^2$. (c) The squared error is $D/10$ at all times. How many nats do all steps from SNR 100 to SNR 0
# cost together, and how does their number matter?
#
# <details><summary>Answer</summary>
#
# (a) $r = 1$, the constant is 0, and $2\tilde\sigma^2$ takes the place of $2\sigma_{ts}^2$. (b) The weight is
# $\frac{\alpha_s^2\sigma_{ts}^4}{\sigma_t^4} \cdot \frac{\sigma_t^2}{2\,\sigma_{ts}^2\sigma_s^2}
# = \frac{\alpha_s^2\,\sigma_{ts}^2}{2\,\sigma_s^2\,\sigma_t^2}$. With $\sigma_{ts}^2 = \sigma_t^2 -
# \frac{\alpha_t^2}{\alpha_s^2}\sigma_s^2$ it is $\frac12\big(\mathrm{SNR}(s) - \mathrm{SNR}(t)\big)$, as in
# [@kingma2021]. (c) The weights telescope: $\frac12 \cdot 100 \cdot \frac{D}{10} = 5\,D$ nats, for any number of steps.
#
# </details>

# %% tags=["check", "answer"]
# @title ✓ The pen answer, measured
sizes, (x0, x_t, _) = [], three
for T in (1, 10, 100):
    stops = torch.linspace(1, 0.0634510, T + 1)  # SNR 100 on Cosine
    total = 0
    for t, s in pairwise(stops):
        truth, model = (posterior(x_t, x, s, t, Cosine()) for x in (x0, x0 + 0.1**0.5))
        total += truth.kl(model)[0] / 3  # for each of three pixels
    sizes.append(total)
assert all(abs(size - 5) < 1e-3 for size in sizes)
print("✓ nats a pixel in 1, 10, 100 steps: the answer's number, to 0.001")

# %% [markdown]
# **2. Code.** $L_T$ needs no network. Write it for pictures, in bits per dimension.

# %%
def prior_bits(x0, alpha, sigma):
    """x0 (B, C, H, W); alpha, sigma at t = 1: L_T in bits per dimension, (B,)."""
    ### BEGIN SOLUTION
    nats = (alpha**2 * x0**2 + sigma**2 - 1 - (sigma**2).log()) / 2
    return nats.flatten(1).mean(1) / torch.tensor(2.0).log()
    ### END SOLUTION


# %% tags=["folded"]
# @title Check your answer
def prior_by_package(x0, alpha, sigma):
    noise = Gaussian(torch.zeros_like(x0), torch.tensor(1.0))
    return bits_per_dim(Gaussian(alpha * x0, sigma).kl(noise), x0[0].numel())


coloured = torch.rand(5, 3, 4, 6, generator=seeded(14)) * 2 - 1
ends = torch.tensor([[0.364, 0.9314], [0.778, 0.6283]])
cases = [(coloured, *ends[0]), (coloured[:2], *ends[1])]
check(prior_bits, prior_by_package, cases,
      hint="x_1 has mean alpha x0 and variance sigma^2; pure noise has 0 and 1")


# %% [markdown]
# **3. Open.** Which times of 20 wide steps give the *fewest bits*? Try some that are crowded near the data, and a *last*
# step of your choice. Fewer than 3.3 bits is possible. Draw with the same steps: can you tell the best code by its
# clothes?

# %%
def judge(ts, seed=13):
    nats = vlb(told, photos[:50], ts, denoiser.schedule, seeded(seed), bins=256)
    return float(bits_per_dim(nats, 1024).mean())


def draw_with(ts, n=6):
    """n pieces of clothing of the classes of the first n photographs."""
    start = torch.randn(n, 1, 32, 32, generator=seeded(15), dtype=torch.float32)
    return drawn(start, ts, wide_steps(ts), seed=16)  # wide, as in `judge`


# %%
walks = {"even": times(20), "crowded": torch.linspace(1, 0, 21) ** 2}
named = {f"{name}: {judge(ts):.2f}": draw_with(ts) for name, ts in walks.items()}
diagrams.pictures(named, "Two rows of six pieces of clothing.")

# %% [markdown]
# <details><summary>Answer</summary>
#
# Hardly: even and crowded differ by 1.2 bits, and both have grain. What counts is where the last step starts. From 0.1,
# with the others crowded, $L_0$ grows from 2.33 bits (even) to 2.65. But the other terms fall from 1.27 to 0.57: they
# stay away from the data, where wide steps have large constants. The last row below has these 3.22 bits.
#
# </details>

# %% tags=["folded", "answer"]
# @title Draw the clothes of these 3.22 bits
last_from = torch.cat([0.1 + 0.9 * torch.linspace(1, 0, 20) ** 2, torch.zeros(1)])
diagrams.pictures(named | {"last step from 0.1: 3.22": draw_with(last_from)},
                  "The two rows again, and a third of the same six pieces of clothing.")

# %% tags=["check", "answer"]
# @title ✓ Fewer than 3.3 bits
parts = []
for ts in (times(20), last_from):
    *before, last_term = vlb_terms(told, photos[:50], ts, denoiser.schedule,
                                   seeded(13), bins=256)
    each = torch.stack([last_term, sum(before)]).double().mean(1)
    parts += bits_per_dim(each, 1024).tolist()
for mine, said in zip(parts, (2.33, 1.27, 2.65, 0.57), strict=True):
    assert abs(mine - said) < 0.02
assert sum(parts[2:]) < 3.3 < 3.5 < sum(parts[:2])
print("✓ the answer's four numbers, to 0.02")

# %% [markdown]
# **Deeper:** [04, deeper](deeper/04_variational_bound.ipynb) has learned variances, 1,000 steps, and bugs to find.
#
# **Next:** [05 · The simplified loss](05_simplified_loss.ipynb).
#
# ## References
#
# {references}
