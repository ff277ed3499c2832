# %% [markdown]
# # 04 · The variational bound
#
# **How good is a model of pictures?** The first picture shows three contestants: what each draws, and how many bits it
# needs for a pixel of photographs that it has never seen. Fewer are better. Something looks wrong.

# %%
from itertools import pairwise

import torch

from minidiff import Cosine, Gaussian, add_noise, bits_per_dim
from minidiff import posterior, times, transition, vlb  # vlb is what we build here
from minidiff.app.checkpoint import load_denoiser
from minidiff.course import check, diagrams, plot, widgets
from minidiff.data import load, shipped
from minidiff.losses import vlb_terms

torch.set_default_dtype(torch.float64)  # formulas are checked to many digits here
clothes, unseen = load("fashion"), load("fashion", "test")
photos, labels = unseen.tensor(slice(0, 100)), unseen.y[:100]  # (100, 1, 32, 32)

# %% tags=["folded"]
# @title Load denoiser, of chapter 00; told gives it the classes; seeded draws
denoiser, _ = load_denoiser(shipped("fashion.safetensors"))
denoiser = denoiser.float().requires_grad_(False)


def told(x, t):
    """The model, told the class of each of the first photographs."""
    return denoiser(x, t, cond=labels[: len(x)])


def seeded(seed):
    return torch.Generator().manual_seed(seed)


# %% tags=["check"]
# @title ✓ The model draws less than half as roughly as the histograms
noise = torch.randn(6, 1, 32, 32, generator=seeded(0), dtype=torch.float32)
by_model, generator = noise, seeded(1)
for t, s in pairwise(times(50)):  # 50 steps of chapter 03, with the larger width
    mean = posterior(by_model, told(by_model, t), s, t, denoiser.schedule).mean
    width = transition(s, t, denoiser.schedule)[1]  # of a step forward
    by_model = Gaussian(mean, width).sample(generator) if s > 0 else mean
which = torch.randint(len(clothes), (6, 1, 32, 32), generator=seeded(8))
by_histograms = clothes.tensor().gather(0, which)  # each pixel from another picture
rough = [x.diff(dim=-1).abs().mean() for x in (by_histograms, by_model, photos)]
assert rough[0] > 2 * rough[1] and abs(rough[1] / rough[2] - 1.43) < 0.05
print("✓ neighbours differ by {:.2f} (histograms), {:.2f} (model),".format(*rough),
      f"{rough[2]:.2f} (photographs): 43 % more by the model")

# %%
# section 1 computes these three numbers
codes = {"PNG": 3.09, "1,024 histograms": 3.48, "our model, told the class": 3.61}
draws = "nothing: it can only pack a file", by_histograms, by_model
diagrams.contest(dict(zip(codes, draws, strict=True)), codes,
                 "PNG draws nothing, the histograms grain, the model clothes; "
                 "yet the model needs the most bits, 3.61 for each pixel.")

# %% [markdown]
# Grain beats clothes! (The dotted line: 256 equally likely grey levels cost $\log_2 256 = 8$ bits.)
#
# How does one get such a number out of a model that never mentions a probability? What are the bits spent on? The
# answers give DDPM's loss (chapter 05).
#
# The model's random steps may be wide or narrow: the width is a *choice*. Fifty *wide* steps drew these clothes and
# need the 3.61 bits. At the end we count and draw narrower ones.

# %% [markdown]
# **You build** the length of a code, the KL of two Gaussians, one term of the bound, and probabilities of grey levels. You need chapters 02 and 03 and two hours.
#
# | letter | meaning |
# |---|---|
# | $x_0,\ x_t,\ x_1$ | the picture; its state at time $t$; the end of the walk, noise |
# | $s < t$ | always neighbours in a walk of $T$ steps; the model goes from $t$ to $s$ |
# | $\alpha_t, \sigma_t;\ \alpha_{ts}, \sigma_{ts}$ | signal and noise in $x_t$ (2.4); those of a step from $s$ to $t$ (2.5) |
# | $q;\ p_\theta, \hat x_0$ | the way to noise, fixed; the model's way back, its guess of $x_0$ from $x_t$ |
# | $\tilde\mu, \tilde\sigma^2$ | mean and variance of a step back if $x_0$ is known ($m$ and $v$ in chapter 03) |
# | $E_q,\ D$ | the average over draws from $q$; the number of pixels |

# %% [markdown]
# ## 1. A contest of codes
#
# A model gives a picture $x$ the probability $P(x)$. If sender and receiver share it, there is a code that turns $x$
# into $-\log_2 P(x)$ bits, or at most one more. If the model is right, no code that can be decoded is shorter on
# average ([@shannon1948], [@mcmillan1956]). So a good model finds *new* photographs likely.
#
# The histograms count how often each of the 256 grey levels stood at each of the 1,024 places in 10,000 training pictures, plus a tenth, so that no level is impossible. Pixels are independent, so the probability of a picture is a product.
#
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
# For the diffusion model the package's `vlb` does it, in 50 steps; `bins` counts grey
# levels. The network is slow, so `remembered` keeps its fifty guesses.

# %%
guesses, shown = {}, {}  # by time; for these photographs and the noise of seed 7


def remembered(x, t):
    if float(t) not in guesses:
        shown[float(t)], guesses[float(t)] = x, told(x, t)
    assert torch.equal(x, shown[float(t)]), "the guesses are for other noisy pictures"
    return guesses[float(t)]


nats = vlb(remembered, photos, times(50), denoiser.schedule, seeded(7), bins=256)
model_bits = bits_per_dim(nats.double(), 1024)  # (100,)
more = model_bits - spent.mean(0)  # photograph by photograph
for bits, name in ((model_bits, "our diffusion model"), (more, "above the histograms")):
    print(f"{name}: {bits.mean():.2f} ± {1.96 * bits.std() / 10:.2f} bits")

# %% tags=["check"]
# @title ✓ The histograms' code, told its length, packs a photograph and reads it back
starts, wanted = counts.cumsum(1) - counts, levels_of(photos[:1])[:, 0]
low, size, N = 0, 1, 100_256  # an interval, cut at each place into N parts
for share, start, level in zip(counts, starts, wanted, strict=True):
    low, size = low * N + size * int(start[level]), size * int(share[level])
length = (N**1024 // size).bit_length()
packed, low, size, read = -(-low * 2**length // N**1024), 0, 1, []  # a whole number
for i, (share, start) in enumerate(zip(counts, starts, strict=True), 1):
    part = (packed * N**i // 2**length - low * N) // size  # in which part it lies
    read.append(int(torch.searchsorted(start, part, right=True)) - 1)
    low, size = low * N + size * int(start[read[-1]]), size * int(share[read[-1]])
assert read == wanted.tolist() and 0 <= length - spent[:, 0].sum() <= 1
print(f"✓ by arithmetic coding {length} bits, {length / 1024:.2f} a pixel")

# %% tags=["check"]
# @title ✓ The three numbers of the first picture
import io

from PIL import Image


def bits_packed(name, some=photos, **options):  # in one file, below each other
    file, column = io.BytesIO(), levels_of(some).T.reshape(-1, 32).byte()
    Image.fromarray(column.numpy()).save(file, name, **options)
    return len(file.getvalue()) * 8 / column.numel()


png = bits_packed("PNG", optimize=True)  # its last digit depends on the encoder
found = png, spent.mean(), model_bits.mean()
for mine, drawn in zip(found, codes.values(), strict=True):
    assert abs(mine - drawn) < (0.05 if drawn < 3.1 else 0.006)
assert more.mean() > 2 * more.std() / 10
print("✓ {:.1f}, {:.2f} and {:.2f} bits".format(*found))

# %% tags=["check"]
# @title ✓ The black frame
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
print("✓ there histograms {1:.3f} bits, model {0:.2f}".format(*edge),
      f"({last:.2f} in L_0); inside {inner[1]:.2f} and {inner[0]:.2f}")

# %% [markdown]
# All three pack the same hundred photographs; ± is a 95 % interval. Only our model is told the class, worth at most
# $\log_2 10$ bits for a picture, 0.003 for a pixel.
#
# A clue: a frame of two pixels is black in *every* picture. There the histograms pay 0.004 bits for a pixel,
# and the model pays 1.92! Inside the frame the model wins, 4.13 to 4.54.

# %% [markdown]
# ## 2. Surprise, entropy, divergence
#
# $-\log p(x)$, the negative log [likelihood](../docs/glossary.md#likelihood), is the *surprise* of a model $p$ at
# $x$. With the natural logarithm it is measured in *nats*, of 1.44 bits. Its average over the truth $q$, the *cross entropy*, has two parts:
#
# $$ E_q[-\log p(x)] \;=\; \underbrace{E_q[-\log q(x)]}_{\text{entropy of } q}
# \;+\; \underbrace{E_q\!\left[\log \frac{q(x)}{p(x)}\right]}_{\mathrm{KL}(q\,\|\,p)\ \ge\ 0} \tag{4.1} $$
#
# No model can change the entropy. The model adds the [Kullback-Leibler
# divergence](../docs/glossary.md#kl-divergence), the price of believing in $p$ where $q$ is true. It is never
# negative: the logarithm lies below its tangent at 1, $\log u \le u - 1$, so $-\mathrm{KL} = E_q[\log (p/q)] \le
# E_q[p/q] - 1$, and $E_q[p/q] = \int_{q > 0} p\,dx$ is at most 1.
#
# Nearly every term of this chapter is the KL of two Gaussians. Take $\log\mathcal N(x; m_1, v_1) -
# \log\mathcal N(x; m_2, v_2)$ and average over the first, for which $E(x - m_1)^2 = v_1$ and
# $E(x - m_2)^2 = v_1 + (m_1 - m_2)^2$:
#
# $$ \mathrm{KL}\big(\mathcal N(m_1, v_1)\,\|\,\mathcal N(m_2, v_2)\big)
# = \frac12\left( \frac{(m_1 - m_2)^2}{v_2} + \frac{v_1}{v_2} - 1 - \log\frac{v_1}{v_2} \right) \tag{4.2} $$
#
# **Your turn.**

# %%
def kl_of_normals(m_1, v_1, m_2, v_2):
    """KL(N(m_1, v_1) || N(m_2, v_2)) in nats; v_1 and v_2 are variances."""
    ### BEGIN SOLUTION
    ratio = v_1 / v_2
    return ((m_1 - m_2) ** 2 / v_2 + ratio - 1 - ratio.log()) / 2
    ### END SOLUTION


# %% tags=["folded"]
# @title Check your answer
def by_package(m_1, v_1, m_2, v_2):
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
# For independent pixels KLs add, so `Gaussian.kl` sums over a picture. (`Gaussian(mean, std)` takes a standard deviation,
# but $\mathcal N(m, v)$ has a variance.)
#
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
# **Forward**, a state depends only on the one before it, so the density of a path is a product over the steps of
# chapter 02. ($s < t$ below a product or a sum means: over the $T$ steps.)
#
# $$ q(\text{path} \mid x_0) = \prod_{s < t} q(x_t \mid x_s), \qquad
# q(x_t \mid x_s) = \mathcal N(x_t;\ \alpha_{ts}\, x_s,\ \sigma_{ts}^2 I) \tag{4.3} $$

# %% [markdown]
# **Backward**, the model starts from pure noise. Each step is a Gaussian that chapter 03 derived for a *known* picture,
# $q(x_s \mid x_t, x_0) = \mathcal N(x_s;\ \tilde\mu(x_t, x_0),\ \tilde\sigma^2 I)$ with
# $\tilde\sigma = \sigma_{ts}\,\sigma_s / \sigma_t$ (3.4). Its mean mixes state and picture,
#
# $$ \tilde\mu(x_t, x_0) = \frac{\alpha_{ts}\,\sigma_s^2}{\sigma_t^2}\, x_t
# + \frac{\alpha_s\,\sigma_{ts}^2}{\sigma_t^2}\, x_0 . $$
#
# The model puts its guess in the place of the picture. Its variance is a choice: here the *wide* one, $\sigma_{ts}^2$;
# the *narrow* one is $\tilde\sigma^2$.
#
# $$ \begin{gathered}
# p_\theta(x_0, \text{path}) = p(x_1) \prod_{s < t} p_\theta(x_s \mid x_t), \qquad p(x_1) = \mathcal N(x_1;\ 0,\ I), \\
# p_\theta(x_s \mid x_t) = \mathcal N\big(x_s;\ \mu_\theta,\ \sigma_{ts}^2 I\big), \qquad
# \mu_\theta = \tilde\mu\big(x_t,\ \hat x_0(x_t, t)\big)
# \end{gathered} \tag{4.4} $$
#
# > **How the papers write it.** The path is $x_{1:T}$, the step is from $t$ to $t - 1$, our $\sigma_{ts}^2$ is $\beta_t$
# > and our $\tilde\sigma^2$ is $\tilde\beta_t$. DDPM tried both: wide is best for data $\mathcal N(0, I)$, narrow for one point ([@ho2020]).

# %% [markdown]
# A picture can be reached over any path, so its density is an integral over all of them:
#
# $$ p_\theta(x_0) = \int p_\theta(x_0, \text{path})\; d\,\text{path} \tag{4.5} $$
#
# In the contest that is an integral over $50 \times 1024$ numbers, which nobody can compute. In a smaller world we can:
# a picture is one number, the data have two humps, the guess is the exact denoiser, and there are two steps.
# (`LinearBeta` is DDPM's schedule.)

# %%
from minidiff import LinearBeta, Mixture

humps = Mixture(torch.tensor([0.4, 0.6]), torch.tensor([[-1.2], [0.8]]),
                torch.tensor([0.2, 0.2]))
schedule = LinearBeta()


def denoise(x_t, t):
    return humps.denoise(x_t, t, schedule)


def step_back(x_t, s, t):
    mean = posterior(x_t, denoise(x_t, t), s, t, schedule).mean
    return Gaussian(mean, transition(s, t, schedule)[1])


# %%
normal = Gaussian(torch.zeros(1, 1), 1.0)  # p(x_1)


def log_densities(path, ts):
    """log q (4.3) and log p (4.4) of a path, a list of states from x_1 to x_0."""
    log_q, log_p = 0, normal.log_prob(path[0])
    for (x_t, x_s), (t, s) in zip(pairwise(path), pairwise(ts), strict=True):
        alpha_ts, sigma_ts = transition(s, t, schedule)
        log_q += Gaussian(alpha_ts * x_s, sigma_ts).log_prob(x_t)
        log_p += step_back(x_t, s, t).log_prob(x_s)
    return log_q, log_p

# %% [markdown]
# The paths over the times 1, 0.1 and 0 to $x_0 = 0.8$ are the points $(x_1, x_{0.1})$ of a plane, and a grid covers it.

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
print("✓ pushing the density of noise through the two steps gives it too, to 1e-6")

# %% [markdown]
# ## 4. The bound
#
# For pictures we compute a number that $-\log p_\theta(x_0)$ cannot exceed:
#
# $$ -\log p_\theta(x_0) \ \le\ L(x_0) := E_{q(\text{path} \mid x_0)}\!\left[
# \log \frac{q(\text{path} \mid x_0)}{p_\theta(x_0, \text{path})} \right] \tag{4.6} $$
#
# Most courses prove it in one line by *Jensen's inequality*
# ([deeper](deeper/04_variational_bound.ipynb#1-the-second-route-jensen),
# with (4.7)). Our proof also says how large the gap is.

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
# $L$ is the [variational bound](../docs/glossary.md#variational-bound); its negative is the *evidence lower bound*,
# [ELBO](../docs/glossary.md#elbo). It needs no integral: draw some forward paths and average. The contest's 3.61 bits are this $L$ for a hundred photographs, so the model may be better. It may enter a contest of codes: many pictures in one file need nearly $L$ each, by *bits-back coding* ([@hinton1993], [@townsend2019]).
#
# The gap closes if the model, shown $x_0$, believes in the paths that the noise really takes. (A VAE learns its $q$,
# the encoder, for that. In diffusion $q$ is *fixed*.)
#
# *Predict: is* $L(0.8)$ *just above the exact 0.538 nats, or far above?*

# %%
weight = log_q.exp() * cell  # probability of each cell of the plane
bound = (weight * (log_q - log_p)).sum()
print(f"L(0.8) = {bound:.3f} nats")

# %% [markdown]
# <details><summary>Answer</summary>
#
# Far above: 0.814, a gap of 0.276 nats. The two panels show why.
#
# </details>

# %% tags=["folded"]
# @title Draw the paths of q, and those in which p believes
alt = "Two panels: an oval near 0.8; an oval near 0.3 that ends at a line at -0.2."
picture, axes = plot.figure(alt, 2, width=7.0, height=3.3)
for ax, log_density, title in ((axes[0], log_q, "the real paths, q"),
                               (axes[1], log_p + exact, "what p believes")):
    ax.pcolormesh(axis, axis, log_density.exp().reshape(301, 301).T, cmap="Greys",
                  vmin=0, vmax=0.5)  # one scale for both
    ax.set(xlim=(-3, 3), ylim=(-1, 2.5), xlabel="$x_1$", ylabel="$x_{0.1}$",
           yticks=(-1, -0.2, 0.3, 0.8, 2), title=title)
    ax.grid(False)
axes[1].axhline(-0.2, color=plot.COLOURS[1], linestyle="--")
axes[1].text(0, -0.9, "here it guesses\nthe other hump", ha="center", fontsize=13)
picture

# %% [markdown]
# The model's belief is highest near 0.3, not 0.8, and ends near -0.2: below that the guess flips to the other hump.
#
# The next cell, folded, makes steps of the model exact: the long one, the last one, both.
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
print("✓ gap {:.3f}; long step exact {:.3f}, last {:.3f}; both: 0".format(*gaps))

# %% [markdown]
# <details><summary>Answer</summary>
#
# The long one. If it is exact, the gap falls from 0.276 to 0.015; if the last one is, to 0.188. The data have two humps, a Gaussian step has one.
#
# </details>

# %% [markdown]
# ## 5. One term for each step
#
# $L$ still contains whole paths: 51,200 numbers for each photograph of the contest. But the logarithm is a sum over
# steps:
#
# $$ \log\frac{q(\text{path} \mid x_0)}{p_\theta(x_0, \text{path})}
# = -\log p(x_1) + \sum_{s < t} \log\frac{q(x_t \mid x_s)}{p_\theta(x_s\mid x_t)} . $$
#
# Each fraction compares a step *forward* with a step *back*, so its average is no KL. Bayes' rule turns the numerator
# round. A step depends only on the state before it, so $q(x_t \mid x_s) = q(x_t \mid x_s, x_0)$, and for $s > 0$ (at $s = 0$ the state is $x_0$ itself)
#
# $$ q(x_t \mid x_s) = \frac{q(x_s \mid x_t, x_0)\; q(x_t \mid x_0)}{q(x_s \mid x_0)} . $$
#
# So the step from $x_s$ to $x_t$ brings $+\log q(x_t \mid x_0)$ and $-\log q(x_s \mid x_0)$, and in the sum nearly all
# of these cancel. (The first step stays $+\log q(x_a \mid x_0)$.)

# %%
diagrams.telescope()

# %% [markdown]
# What remains of the sum is
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
# ([@sohldickstein2015]; this form is from [@ho2020].) The *prior*, *diffusion* and *reconstruction* terms ask three questions:

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
# Nothing in $L_T$ is learned. $L_s$ compares the model's step with the right one, given
# $x_0$; the model's is wider. $L_0$ reads the last bell at the data, the blue line.
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
# The package's `vlb_terms` is (4.10), with one draw of each term. *Only the mean is a bound: a single draw may lie below the exact value.* (`noise_like` draws noise, and `match_dims` gives a number the axes of a picture.)

# %%
plot.show_source(vlb_terms)

# %% [markdown]
# Back to the contest. Which terms make up the 3.61 bits?

# %%
def bits_of(denoise, T):
    """The terms of (4.10), in bits for each pixel of a photograph: (T + 1, 100)."""
    each = vlb_terms(denoise, photos, times(T), denoiser.schedule, seeded(7), bins=256)
    return bits_per_dim(torch.stack(list(each)).double(), 1024)


ours = bits_of(remembered, 50)
for name, terms in {"L_T": ours[:1], "49 L_s": ours[1:-1], "L_0": ours[-1:]}.items():
    print(f"{name}: {terms.sum(0).mean():.2f} bits for each pixel")

# %% [markdown]
# The end of the walk is pure noise and costs nothing. The last step alone costs more than the 49 before it! DDPM's *rate* and *distortion* on colour photographs are 1.78 and 1.97 bits ([@ho2020], section 4.3).

# %% tags=["check"]
# @title ✓ (4.9) holds on every path
ts, n = times(8), 100_000
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
by_terms = vlb(denoise, walk[-1], ts, schedule, seeded(2))  # the sum of vlb_terms
error = (turned.std() + by_terms.std()) / n**0.5
assert abs(turned.mean() - by_terms.mean()) < 4 * error
assert by_terms.mean() > pushed(ts, 0.8) + 0.02
below = (by_terms < pushed(ts, 0.8)).double().mean()
assert 0.4 < below < 0.8  # a single draw is no bound
assert all(abs(each(1.0)[1] - 1) < 1e-4 for each in (schedule, denoiser.schedule))
print(f"✓ bound from paths {turned.mean():.2f}, from terms {by_terms.mean():.2f} nats;",
      f"exact {pushed(ts, 0.8):.2f}")

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
# the network is **the squared error of the denoiser**, $|x_0 - \hat x_0|^2$, with the weight $\alpha_s^2\sigma_{ts}^2 / (2\sigma_t^4)$. Chapter 05 trains with that.
#
# *Predict: for the two humps, what do more steps do to the sum, and what to* $L_0$*?*

# %%
import ipywidgets

slider = ipywidgets.IntSlider(16, min=4, max=64, description="steps T")
data = humps.sample(5_000, seeded(5)).double()


def mean_terms(T):
    each = torch.stack(list(vlb_terms(denoise, data, times(T), schedule, seeded(6))))
    return bits_per_dim(each.mean(1), 1)  # L_T first, L_0 last: (T + 1,)


sums = {T: mean_terms(T).sum() for T in (4, 8, 16, 32, 64)}
inside = torch.linspace(-3, 3, 1201)[:, None]
log_density = humps.log_prob(inside, 0.0, schedule)
entropy = bits_per_dim(-(log_density.exp() * log_density).sum() * 0.005, 1)

# %% tags=["folded"]
# @title Draw the terms for T steps, and the sum for 4 to 64
def spent_by(T):
    each, alt = mean_terms(T), "Bars of the terms; the sum falls to the entropy."
    picture, axes = plot.figure(alt, 2, width=7.0, height=3.2)
    axes[0].bar(torch.arange(T - 1, 0, -1) / T, each[1:-1], 0.8 / T, label="$L_s$")
    axes[0].bar([0], each[-1], 0.8 / T, color=plot.COLOURS[1], label="$L_0$")
    axes[0].set(xlabel="time s of arrival", ylabel="bits", title=f"terms of {T} steps")
    axes[1].plot(list(sums), list(sums.values()), ".-")
    axes[1].plot([T], [each.sum()], "o", color=plot.COLOURS[3], markersize=9)
    axes[1].axhline(entropy, color="0.4", linestyle=":", label=f"entropy {entropy:.2f}")
    _ = [ax.legend(fontsize=12) for ax in axes]
    axes[1].set(xlabel="steps T", ylim=(0.4, 2.1), title=f"their sum: {each.sum():.2f}")
    return picture


# %%
_ = widgets.explore(spent_by, T=slider)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Both fall. The sum's floor is the data's entropy, 0.70 bits (4.1). For an exact denoiser and a *density* the bound closes
# ([deeper](deeper/04_variational_bound.ipynb#2-how-tight-is-the-bound)). ($L_0$ may be negative: a density can be
# larger than one.)
#
# </details>

# %% tags=["check"]
# @title ✓ The sum falls towards the entropy
by_draws = -bits_per_dim(humps.log_prob(data, 0.0, schedule), 1)
assert abs(by_draws.mean() - entropy) < 4 * by_draws.std() / 5_000**0.5
few, some, many = (mean_terms(T) for T in (4, 16, 64))
assert few[-1] > 0 > some[-1] > many[-1] and many[0].abs() < 0.001  # L_0; L_T
left = [each - entropy for each in sums.values()]
factors = [a / b for a, b in pairwise(left)]  # of one doubling each
assert left[-1] > 0 and factors == sorted(factors) and 1.7 < factors[-1] < 2
shown_sums = [f"{each.sum():.2f} ({each[-1]:.2f})" for each in (few, some, many)]
print("✓ bits (and L_0) of 4, 16, 64 steps:", ", ".join(shown_sums))

# %% [markdown]
# ## 6. Pixels are whole numbers
#
# A photograph's pixels are grey levels, one of 256 each. A *density* is no probability: it grows without limit as a
# bell gets narrow.
#
# So [@ho2020] give each level the mass of the last Gaussian between the points half way to its neighbours. On $[-1, 1]$
# levels are $2/255$ apart; the outermost intervals are open:
#
# $$ \begin{gathered}
# p_\theta(x_0 \mid x_a) = \prod_{i=1}^{D} \int_{\delta_-(x_0^i)}^{\delta_+(x_0^i)}
# \mathcal N\big(u;\ \mu_\theta^i,\ \sigma_a^2\big)\, du, \\
# \delta_+(1) = \infty, \quad \delta_-(-1) = -\infty, \quad \delta_\pm(g) = g \pm 1/255 \text{ otherwise}
# \end{gathered} \tag{4.12} $$
#
# ($i$ counts pixels. In the last step $s = 0$ and $t = a$, so $\sigma_{ts} = \sigma_a$, and $\mu_\theta$ is the guess
# $\hat x_0$ itself.)
#
# **Your turn.**

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
# Sums over a picture grow with its size. So they are quoted in [bits per
# dimension](../docs/glossary.md#bits-per-dimension):
#
# $$ \frac{L(x_0)}{D \ln 2} \tag{4.13} $$
#
# The model's 3.61 ± 0.11 is this number: (4.10) with (4.12), one draw of each term.
#
# ## 7. What the bits are spent on
#
# A *clairvoyant* denoiser is shown the photograph, so each guess is perfect. This is no code, because no receiver has the
# photograph. But it shows the price of the steps alone.
#
# *Predict: what does it pay of the 3.61 bits: nothing, a third, or most?*

# %%
def clairvoyant(x, t):
    return photos


perfect = bits_of(clairvoyant, 50)
wrong = (ours - perfect).mean(1)  # what wrong guesses add to each term
print(f"clairvoyant {perfect.sum(0).mean():.2f} bits,",
      f"of them in L_0 {perfect[-1].mean():.2f}")
print(f"wrong guesses: {wrong[1:-1].sum():.2f} in 49 steps, {wrong[-1]:.2f} in L_0")

# %% [markdown]
# <details><summary>Answer</summary>
#
# Most: 2.78 bits. The last step has 1.78 of them: its bell, of standard deviation 4 levels, covers neighbouring levels too. The
# constants of (4.11), the price of too wide steps, have 1.01 (the sum is rounded).
#
# </details>
#
# At which noise are the bits spent? (The last picture enlarges a part of the second.)

# %%
start = denoiser.schedule(times(50)[:-1])[1]  # sigma where each step starts: (50,)
grey = start * 127.5  # in grey levels
bands = {"1 step, from 4 levels": (0, 5), "1 step, from 8 levels": (5, 10),
         "5 steps, from 10 to 30": (10, 30), "43 steps, from above 30": (30, 128)}

# %%
states, bits, grey_part = {}, {}, {}
eps = torch.randn(6, 1, 32, 32, generator=seeded(9), dtype=torch.float32)
for name, (a, b) in bands.items():
    steps = (a <= grey) & (grey < b)
    noisy = photos[:6] + start[steps].min().float() * eps  # the clearest
    noisy[5] = noisy[1, :, 8:16, 10:18].repeat_interleave(4, 1).repeat_interleave(4, 2)
    states[name], bits[name] = noisy, float(ours[1:][steps].sum(0).mean())
    grey_part[name] = float(perfect[1:-1][steps[:-1]].sum(0).mean())  # the constants
diagrams.contest(states, bits, "Four rows of photographs with more and more noise.",
                 3.61, (1, 0, 0, 0), ("starts from noise of", "all steps"), grey_part)

# %% [markdown]
# More than half of all bits are the last step's: it removes noise that we hardly see. Shapes survive 30 levels of noise.
# They are decided above, in only 0.21 bits. Grey are the constants, which describe nothing.
#
# *Predict: tell the model a wrong class for every photograph. By how much does the number rise?*

# %%
def misled(x, t):
    return denoiser(x, t, cond=(labels[: len(x)] + 1) % 10)


by_misled = bits_of(misled, 50).sum(0)
extra = 1024 * (by_misled - model_bits)  # bits for a picture
print(f"told a wrong class: {by_misled.mean():.2f} bits for each pixel;",
      f"{extra.mean():.0f} ± {1.96 * extra.std() / 10:.0f} more for a picture")

# %% [markdown]
# <details><summary>Answer</summary>
#
# From 3.61 to 3.65, by 1 %. The class hardly counts among all the bits. (A wrong class spoils the guesses: it costs more than the 3.3 bits that name the right one.)
#
# </details>
#
# ### Win the contest
#
# Three repairs need no training. **First, narrow steps.** Keep the guesses, and give the 49 steps the variance
# $\tilde\sigma^2$. (The last step keeps its bell.) This is another $p_\theta$, the *narrow model*, whose constants are
# 0.
#
# In (4.11) the squared error is now divided by $r$, too.
#
# *Predict: is the new number $3.61 - 1.01 = 2.60$?*

# %%
r = (start[1:] / start[:-1])[:, None] ** 2  # of the 49 steps: (49, 1)
errors = (ours - perfect)[1:-1]  # of the 49 L_s, without their constants: (49, 100)
narrow = (errors / r).sum(0) + ours[-1]  # L_0 stays
dear = (errors / r).mean(1)  # of each step
print(f"wrong guesses in 49 steps: {dear.sum():.2f} bits,",
      f"in one of them {dear[-1]:.2f} for {errors.mean(1)[-1]:.2f}")
print(f"all bits with narrow steps: {narrow.mean():.2f}")

# %% [markdown]
# <details><summary>Answer</summary>
#
# No, 3.33. A narrow bell punishes wrong guesses harder: 1.37 bits in place of 0.64.
#
# </details>
#
# **Second, the best width.** For a variance $v$ of each step the mean of the KL (4.2) is least if its derivative is 0, at
#
# $$ v = \tilde\sigma^2 + \Big(\frac{\alpha_s \sigma_{ts}^2}{\sigma_t^2}\Big)^2 \frac{E|x_0 - \hat x_0|^2}{D} . $$
#
# The errors of twenty *training* photographs give the 49 widths
# ([deeper](deeper/04_variational_bound.ipynb#4-learned-variance)).

# %%
few, wide, best = clothes.tensor(slice(0, 20)), [], []
eps = torch.randn(few.shape, generator=seeded(8), dtype=few.dtype)
for t, s in pairwise(times(50)):
    x_t = add_noise(few, eps, t, denoiser.schedule)
    guess = denoiser(x_t, t, cond=clothes.y[:20])
    (alpha_s, sigma_s), (_, sigma_t) = denoiser.schedule(s), denoiser.schedule(t)
    wide.append(transition(s, t, denoiser.schedule)[1] ** 2)
    c = alpha_s * wide[-1] / sigma_t**2
    best.append(wide[-1] * sigma_s**2 / sigma_t**2
                + c**2 * (guess - few).double().square().mean())
wide, best = (torch.stack(each)[:-1, None] for each in (wide, best))  # of the 49 steps

# %%
share = wide * r / best  # narrow variance over the best one
fixed = bits_per_dim((share - 1 - share.log()).sum() / 2, 1)  # the constants now
fitted = fixed + (errors * wide / best).sum(0) + ours[-1]
print(f"all bits with fitted steps: {fitted.mean():.2f}")

# %% [markdown]
# Both repairs beat the histograms' 3.48. **Third, the black frame.** There the last step still costs 0.73 bits for each pixel.
#
# *Predict: the width of the last bell stays. Should its mean stand at black, which is $-1$, or below?*

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
# Below, since the interval of black is open. At $-1$ nearly half of the bell lies on lighter greys. But squared error
# taught the network to aim *at* black.
#
# </details>
#
# How far below? `bolder` shifts all guesses near black;
# *training* photographs choose by how much.

# %%
def last_bits(guess, x0):
    nats = -discretized_log_likelihood(Gaussian(guess, start[-1]), x0, 256)  # of `mass`
    return bits_per_dim(nats.double(), 1024)


def bolder(guess, by):
    return torch.where(guess < -0.99, guess - by, guess)


known = clothes.tensor(slice(0, 100))
eps = torch.randn(known.shape, generator=seeded(8), dtype=known.dtype)
guess = denoiser(add_noise(known, eps, 0.02, denoiser.schedule), 0.02,
                 cond=clothes.y[:100])
for by in (0, 0.02, 0.05, 0.1):
    print(f"{by}: last step {last_bits(bolder(guess, by), known).mean():.2f} bits")

# %% [markdown]
# Of these four 0.05 is best. Lossless WebP joins. (Blue: codes without diffusion. `bits_packed` stands in the check of the three numbers.)

# %%
last = last_bits(bolder(guesses[0.02], 0.05), photos)  # 0.02: the last step's guess
bold, constants = fitted - ours[-1] + last, perfect[1:-1].sum(0)
rows = {"ours, wide": (constants, ours[-1], errors.sum(0)),
        "ours, narrow": (0, ours[-1], dear.sum()),
        "fitted": (fixed, ours[-1], fitted - fixed - ours[-1]),
        "fitted and bolder": (fixed, last, fitted - fixed - ours[-1])}
rows = {name: [torch.as_tensor(x).double().mean() for x in rows[name]] for name in rows}
best_webp = {"lossless": True, "quality": 100, "method": 6}
others = {"1,024 histograms": spent.mean(), "PNG": png,
          "lossless WebP": bits_packed("WEBP", **best_webp)}
parts = "constants", "last step", "wrong guesses before it"
diagrams.split_bars(rows, parts, "bits for each pixel", "Seven bars.", others)

# %% tags=["check"]
# @title ✓ Narrow steps by their Gaussians, the constants by their formula
total, generator = 0, seeded(7)  # the draws of all the fifty guesses
for t, s in list(pairwise(times(50)))[:-1]:
    eps = torch.randn(photos.shape, generator=generator, dtype=photos.dtype)
    x_t = add_noise(photos, eps, t, denoiser.schedule)
    truth, model = (posterior(x_t, x, s, t, denoiser.schedule)
                    for x in (photos, guesses[float(t)]))
    total = total + truth.kl(model).double()
assert torch.allclose(bits_per_dim(total, 1024), narrow - ours[-1], rtol=1e-3)
less = spent.mean(0) - narrow  # photograph by photograph
assert less.mean() > 2 * less.std() / 10 and abs(bold.mean() - 2.73) < 0.02
assert torch.isclose(constants.mean(), bits_per_dim((r - 1 - r.log()).sum() / 2, 1))
print(f"✓ on the histograms they save {less.mean():.2f} ± {1.96 * less.std() / 10:.2f}")

# %% tags=["check"]
# @title ✓ The last steps by hand, and the black frame
def by_levels(guess):  # from the masses of all pixels' levels
    level = levels_of(photos).T.flatten()
    bell = torch.distributions.Normal(guess.flatten().double(), start[-1])
    up, down = (bell.cdf((level + shift - 127.5) / 127.5) for shift in (0.5, -0.5))
    up, down = up.masked_fill(level == 255, 1), down.masked_fill(level == 0, 0)
    return -(up - down).log2().mean()


for guess, each in ((photos, perfect[-1]), (guesses[0.02], ours[-1]),
                    (bolder(guesses[0.02], 0.05), last)):
    assert torch.isclose(by_levels(guess), each.mean(), rtol=1e-4)
aim = guesses[0.02].flatten(1)[:, frame].mean()
assert abs(aim + 1) < 0.01 and bold.mean() + 0.1 < others["lossless WebP"]
print(f"✓ as by hand; on the frame the mean guess is {aim:.3f}")

# %%
sums = {"wide": ours.sum(0), "narrow": narrow, "fitted": fitted, "and bolder": bold}
tens = [bits_packed("WEBP", ten, **best_webp) for ten in photos.split(10)]
lead = torch.tensor(tens) - bold.reshape(10, 10).mean(1)
width = 2.26 * lead.std() / 10**0.5  # 95 % for ten
print(f"ten files of WebP: {lead.mean():.2f} ± {width:.2f} bits more than the last")
for name, each in sums.items():
    print(f"{name}: {each.mean():.2f} ± {1.96 * each.std() / 10:.2f} bits")

# %% [markdown]
# With the same network, 3.61 bits have become 2.73 ± 0.15, fewer than lossless WebP's 2.87 for these photographs in one
# file. (In ten files of ten, WebP needs 0.30 ± 0.05 bits more than the model.) Narrower steps also draw less grain:

# %% tags=["folded"]
# @title Draw with narrow and fitted steps
def drawn_with(variances):  # the noise of the first picture
    x, generator = noise, seeded(1)
    for (t, s), v in zip(pairwise(times(50)), [*variances, 0.0], strict=True):
        mean = posterior(x, told(x, t), s, t, denoiser.schedule).mean
        x = Gaussian(mean, v.sqrt()).sample(generator) if s > 0 else mean
    return x


narrower, best_drawn = (drawn_with(v[:, 0].float()) for v in (wide * r, best))
assert narrower.diff(dim=-1).abs().mean() + 0.01 < rough[1]
diagrams.pictures({"wide": by_model, "narrow": narrower, "fitted": best_drawn},
                  "Three rows of the same six clothes; the first has the most grain.")

# %% [markdown]
# Most bits describe what nobody notices ([@ho2020]): a good code and good samples are different things ([@theis2016]). On small
# colour photographs a DDPM trained on the bound itself needs 3.70 bits; trained on chapter 05's simple loss it needs
# 3.75, and *draws far better* ([@ho2020]).
#
# So a network that is to *draw* is trained with other weights for the terms of (4.10): chapter 05.

# %% [markdown]
# ## What to keep
#
# - The mean surprise of a model is the data's entropy plus a divergence (4.1); for grey levels, a file's length.
# - $-\log p_\theta(x_0)$ is an integral over all paths. The mean of $\log(q/p_\theta)$ over *forward* paths bounds it
#   (4.6).
# - Bayes' rule turns the forward steps round, and the rest cancels: $L_T$, one $L_s$ for each step, $L_0$ (4.10). Each
#   $L_s$ is the denoiser's squared error, times a weight, plus a constant (4.11).
# - Most bits describe what hardly anybody sees. Narrow steps save the constants and make wrong guesses cost more.

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
# (a) The variances are equal, $r = 1$, so the constant is 0 and $2\tilde\sigma^2$ takes the place of
# $2\sigma_{ts}^2$. (b) With $\tilde\sigma^2 = \sigma_{ts}^2\sigma_s^2/\sigma_t^2$ the weight is
# $\frac{\alpha_s^2\sigma_{ts}^4}{\sigma_t^4} \cdot \frac{\sigma_t^2}{2\,\sigma_{ts}^2\sigma_s^2}
# = \frac{\alpha_s^2\,\sigma_{ts}^2}{2\,\sigma_s^2\,\sigma_t^2}$. Put in $\sigma_{ts}^2 = \sigma_t^2 -
# \frac{\alpha_t^2}{\alpha_s^2}\sigma_s^2$: it is $\frac12\big(\frac{\alpha_s^2}{\sigma_s^2} -
# \frac{\alpha_t^2}{\sigma_t^2}\big) = \frac12\big(\mathrm{SNR}(s) - \mathrm{SNR}(t)\big)$. This is the bound of
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
print("✓ nats a pixel in 1, 10, 100 steps:", ", ".join(f"{size:.2f}" for size in sizes))

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
# **3. Open.** Which times of 20 wide steps give the *fewest bits*? Try some that are crowded near the data, or even
# in log SNR ($t = \frac2\pi \arctan e^{-\lambda/2}$ has log SNR $\lambda$ on `Cosine`), and a *last* step of your
# choice. Fewer than 3.3 bits is possible. Then draw with the same times: can you tell the best code by its clothes?

# %%
def judge(ts, seed=13):
    nats = vlb(told, photos[:50], ts, denoiser.schedule, seeded(seed), bins=256)
    return float(bits_per_dim(nats, 1024).mean())


def draw_with(ts, n=6):
    """n pieces of clothing of the classes of the first n photographs."""
    start = torch.randn(n, 1, 32, 32, generator=seeded(15), dtype=torch.float32)
    generator, x = seeded(16), start
    for t, s in pairwise(ts):  # with wide steps, as `judge`
        mean = posterior(x, told(x, t), s, t, denoiser.schedule).mean
        std = transition(s, t, denoiser.schedule)[1].to(x) * (s > 0)
        x = (mean + std * torch.randn(x.shape, generator=generator)).to(start)
    return x


# %%
walks = {"even": times(20), "crowded": torch.linspace(1, 0, 21) ** 2}
named = {f"{name}: {judge(ts):.2f}": draw_with(ts) for name, ts in walks.items()}
diagrams.pictures(named, "Two rows of six pieces of clothing.")

# %% tags=["check", "answer"]
# @title ✓ Fewer than 3.3 bits
last_from = torch.cat([0.1 + 0.9 * torch.linspace(1, 0, 20) ** 2, torch.zeros(1)])
best, even = judge(last_from), judge(times(20))
assert best < 3.3 < 3.5 < even
print(f"✓ squared, but the last step from 0.1: {best:.2f} bits; even: {even:.2f}")

# %% [markdown]
# **Deeper:** [04, deeper](deeper/04_variational_bound.ipynb) has the tightness of the bound, learned variances, 1,000
# steps, and bugs to find.
#
# **Next:** [05 · The simplified loss](05_simplified_loss.ipynb).
#
# ## References
#
# {references}
