# %% [markdown]
# # 04 · The variational bound
#
# **How good is a model of pictures?** Here are three contestants, what they draw, and a number: the bits that each
# spends on a pixel of a photograph which it has never seen. Fewer is better. Something in this table looks wrong.

# %%
import torch

from minidiff import Cosine, add_noise, bits_per_dim, ddpm, final, times, vlb
from minidiff.app.checkpoint import load_denoiser
from minidiff.course import check, diagrams, plot, widgets
from minidiff.data import load, shipped
from minidiff.losses import vlb_terms

torch.set_default_dtype(torch.float64)  # formulas are checked to many digits here
clothes, unseen = load("fashion"), load("fashion", "test")
photos, labels = unseen.tensor(slice(0, 100)), unseen.y[:100]  # (100, 1, 32, 32)

# %%
denoiser, _ = load_denoiser(shipped("fashion.safetensors"))  # the model of chapter 00
denoiser = denoiser.float().requires_grad_(False)


def told(x, t):
    """The model, told the class of each of the first photographs."""
    return denoiser(x, t, cond=labels[: len(x)])


def seeded(seed):
    return torch.Generator().manual_seed(seed)


# %%
noise = torch.randn(6, 1, 32, 32, generator=seeded(0), dtype=torch.float32)
by_model = final(ddpm(told, noise, times(50), denoiser.schedule, seeded(1)))
which = torch.randint(len(clothes), (6, 1, 32, 32), generator=seeded(8))
by_histograms = clothes.tensor().gather(0, which)  # each pixel from another picture
codes = {"PNG": 3.17, "1,024 histograms": 3.48, "our diffusion model": 3.61}
draws = "nothing: it can only pack a file", by_histograms, by_model
diagrams.contest(dict(zip(codes, draws, strict=True)), codes,
                 "PNG draws nothing, the histograms grain, the model clothes; "
                 "yet the model needs the most bits, 3.61 for each pixel.")

# %% [markdown]
# The code that draws grain beats the model that draws clothes! What is that number? How does one get it out of a model
# that draws in fifty steps and never mentions a probability? And what are the bits spent on? The answers are the
# derivation behind every diffusion model's loss. And the number sees what a few nice samples hide: a model that forgets
# half of the wardrobe pays for it.
#
# **You build** the length of a code, the divergence of two Gaussians, one term of the bound, and probabilities for
# grey levels. Nothing is trained. You need chapters 02 and 03 and an hour; the computer needs half a
# minute of it.
#
# | letter | meaning |
# |---|---|
# | $x_0,\ x_t,\ x_1$ | the picture; its state at time $t$; the end of the walk, noise |
# | $s < t$ | always neighbours in a walk of $T$ steps; the model goes from $t$ to $s$ |
# | $\alpha_t, \sigma_t;\ \alpha_{ts}, \sigma_{ts}$ | signal and noise in $x_t$ (2.4); those of a step from $s$ to $t$ (2.5) |
# | $q,\ p_\theta$ | the way to noise, fixed; the model's way back, with weights $\theta$ |
# | $\hat x_0$ | the model's guess of $x_0$, made from $x_t$ |
# | $E_q,\ D$ | the average over draws from $q$; the number of pixels |

# %% [markdown]
# ## 1. A contest of codes
#
# Sender and receiver share a model. To a picture $x$ it gives the probability $P(x)$. Then there is a code that turns
# $x$ into a file of $-\log_2 P(x)$ bits, or at most one more, and no code is shorter on average if the model is right
# ([@shannon1948]). The likely gets short names. So a model is good if it finds *new* photographs likely, and that can be
# counted: bits of the file over pixels of the picture.
#
# The histograms count, for each of the 1,024 places, how often each grey level stood there in 10,000 training
# pictures. They know nothing of neighbours, so the probability of a picture is the product over its pixels.
#
# **Your turn.** Given the probabilities of the levels that the pixels really have, what does a picture cost, in bits for
# each pixel?

# %%
def bits_per_pixel(p):
    """p (B, D), the probability of each pixel's level: bits for each pixel, (B,)."""
    ### BEGIN SOLUTION
    return -p.log2().mean(1)
    ### END SOLUTION


# %%
cases = [(torch.tensor([[0.5, 0.25], [1.0, 0.125]]),), (torch.full((3, 5), 1 / 256),)]
check(bits_per_pixel, lambda p: bits_per_dim(-p.log().sum(1), p.shape[1]), cases,
      hint="the logarithm of a product is a sum; share it among the pixels")

# %%
def levels_of(x):
    """Return the grey levels 0..255 of images (B, 1, 32, 32), by places: (1024, B)."""
    return (x.flatten(1) * 127.5 + 127.5).round().long().T


counts = torch.full((1024, 256), 0.1)  # no level is quite impossible
train = levels_of(clothes.tensor())  # (1024, 10000)
counts.scatter_add_(1, train, torch.ones(train.shape))
histograms = counts / counts.sum(1, keepdim=True)
spent = -histograms.log2().gather(1, levels_of(photos))  # bits, (1024, 100)
print(f"histograms: {spent.mean():.2f} bits for each pixel")

# %% [markdown]
# For the diffusion model the same number takes a chapter. Here it comes from the package, pixel by pixel, so that we can
# ask questions. You will build its parts.

# %%
def by_pixels(x, t):
    """The same model, with all pixels in a column: (100 * 1024, 1)."""
    return told(x.reshape(-1, 1, 32, 32), t).reshape(-1, 1)


terms = vlb_terms(by_pixels, photos.reshape(-1, 1), times(50), denoiser.schedule,
                  seeded(7), bins=256)
pixels = bits_per_dim(torch.stack(list(terms)).double(), 1).reshape(51, 100, 1024)
bits = pixels.mean(2)  # of 51 terms, (51, 100)
print(f"our diffusion model: {bits.sum(0).mean():.2f} bits for each pixel")

# %% tags=["check"]
# @title ✓ The three numbers of the contest, and the black frame
png = shipped("fashion/test.png").stat().st_size * 8 / (1024 * len(unseen))
computed = png, spent.mean(), bits.sum(0).mean()
assert all(abs(a - b) < 0.006 for a, b in zip(computed, codes.values(), strict=True))
on_all = -histograms.log2().gather(1, levels_of(unseen.tensor())).mean()
assert abs(on_all - 3.51) < 0.005  # all 2,000, as for PNG
row, column = torch.arange(1024) // 32, torch.arange(1024) % 32
frame = (row < 2) | (row > 29) | (column < 2) | (column > 29)
assert (levels_of(unseen.tensor())[frame] == 0).all()
edge, inner = ((pixels.sum(0)[:, w].mean(), spent[w].mean()) for w in (frame, ~frame))
assert abs(edge[0] - 1.92) < 0.02 and edge[1] < 0.005 and inner[0] + 0.3 < inner[1]
print(f"✓ all {png:.2f}, {spent.mean():.2f}, {bits.sum(0).mean():.2f};",
      f"inside the frame histograms {inner[1]:.2f}, model {inner[0]:.2f}")

# %% [markdown]
# A lossless picture format like PNG knows nothing of clothes, but that neighbours are alike. It packs all 2,000 test
# pictures with 3.17 bits for each pixel; the histograms need 3.51 for all of them, and 3.48 for our hundred.
#
# A first clue: a frame of two pixels is black in *every* picture. The histograms have counted that, and pay 0.004 bits
# for such a pixel. The model pays 1.92! Inside the frame the model wins, 4.13 to 4.54. Why can it not say "surely black"?
# Section 7 knows.
#
# ## 2. Surprise, entropy, divergence
#
# $-\log p(x)$, the negative log [likelihood](../docs/glossary.md#likelihood), is the *surprise* of a model $p$ at
# $x$. With the natural logarithm it is measured in *nats*, of 1.44 bits. Its average over the truth $q$ splits in
# two:
#
# $$ E_q[-\log p(x)] \;=\; \underbrace{E_q[-\log q(x)]}_{\text{entropy of } q}
# \;+\; \underbrace{E_q\!\left[\log \frac{q(x)}{p(x)}\right]}_{\mathrm{KL}(q\,\|\,p)\ \ge\ 0} \tag{4.1} $$
#
# The entropy is the data's own, no model can change it. What the model adds is the [Kullback-Leibler
# divergence](../docs/glossary.md#kl-divergence), the price of believing in $p$ where $q$ is true. It is never
# negative: the logarithm lies below its tangent at 1, $\log u \le u - 1$, so $-\mathrm{KL} = E_q[\log (p/q)] \le
# E_q[p/q] - 1$, and $E_q[p/q] = \int_{q > 0} p\,dx$ is at most 1. Nothing beats the truth.
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


# %%
from minidiff import Gaussian


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
# If the pixels are independent under both, their KLs add: `Gaussian.kl` sums over a picture. (Beware: $\mathcal N(m, v)$
# has a variance, the package's `Gaussian(mean, std)` a standard deviation.)
#
# *Predict: the truth is the filled bell. Which belief costs more, one that is too narrow or one that is too wide?*

# %%
normal, axis = Gaussian(torch.zeros(1, 1), 1.0), torch.linspace(-6, 6, 301)


def truth_and_belief(mean, std):
    belief = Gaussian(torch.tensor([[mean]]), std)
    price = f"{normal.kl(belief)[0]:.2f} nats"
    picture, (ax,) = plot.figure(f"Two bells; KL is {price}.", width=6.4, height=2.7)
    ax.fill_between(axis, normal.log_prob(axis[:, None]).exp(), alpha=0.35)
    ax.plot(axis, belief.log_prob(axis[:, None]).exp(), color=plot.COLOURS[3])
    ax.set(xlim=(-4, 4), yticks=[])
    ax.set_title(f"filled: q, the truth. Line: p.  KL(q || p) = {price}", fontsize=14)
    return picture


# %%
import ipywidgets

mean = ipywidgets.FloatSlider(0.0, min=-3, max=3, step=0.1, description="mean")
std = ipywidgets.FloatSlider(0.4, min=0.2, max=3, step=0.1, description="std")
_ = widgets.explore(truth_and_belief, mean=mean, std=std)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Too narrow: 1.71 nats for a standard deviation of 0.4, but 0.50 for 2.5. Real data fall where the narrow belief thinks
# them nearly impossible. *A model must cover the truth*; that is what likelihood rewards.
#
# </details>

# %% [markdown]
# ## 3. A probability that nobody can compute
#
# Two chains lead over the same states. Call the noisy states $x_a, x_b, \dots, x_1$, from the one next to the picture on,
# with times $0 < a < b < \dots < 1$. Together they are the *path*.

# %%
boot = photos[:1]
diagrams.chain(boot, denoiser.schedule, (0, 0.3, 0.4, 1), ("x_0", "x_s", "x_t", "x_1"),
               forward="fixed: nothing to learn",
               backward="the model: learned")

# %% [markdown]
# **Forward**, a state depends only on the one before it, so the density of a path is a product over the steps of
# chapter 02. (Products and sums over $s < t$ run over the $T$ steps, not over all pairs.)
#
# $$ q(\text{path} \mid x_0) = \prod_{s < t} q(x_t \mid x_s), \qquad
# q(x_t \mid x_s) = \mathcal N(x_t;\ \alpha_{ts}\, x_s,\ \sigma_{ts}^2 I) \tag{4.3} $$
#
# **Backward**, the model starts from pure noise. Each step is a Gaussian that chapter 03 derived for a *known* picture,
# $q(x_s \mid x_t, x_0) = \mathcal N(x_s;\ \tilde\mu(x_t, x_0),\ \tilde\sigma^2 I)$ with
# $\tilde\sigma = \sigma_{ts}\,\sigma_s / \sigma_t$ (3.4). Its mean mixes state and picture,
#
# $$ \tilde\mu(x_t, x_0) = \frac{\alpha_{ts}\,\sigma_s^2}{\sigma_t^2}\, x_t
# + \frac{\alpha_s\,\sigma_{ts}^2}{\sigma_t^2}\, x_0 . $$
#
# The model puts its guess in the place of the picture, and here it takes the variance $\sigma_{ts}^2$:
#
# $$ \begin{gathered}
# p_\theta(x_0, \text{path}) = p(x_1) \prod_{s < t} p_\theta(x_s \mid x_t), \qquad p(x_1) = \mathcal N(x_1;\ 0,\ I), \\
# p_\theta(x_s \mid x_t) = \mathcal N\big(x_s;\ \mu_\theta,\ \sigma_{ts}^2 I\big), \qquad
# \mu_\theta = \tilde\mu\big(x_t,\ \hat x_0(x_t, t)\big)
# \end{gathered} \tag{4.4} $$
#
# What does the model think of a *picture*? It can arrive there over any path, so all of them must be added up:
#
# $$ p_\theta(x_0) = \int p_\theta(x_0, \text{path})\; d\,\text{path} \tag{4.5} $$
#
# > **How the papers write it.** The path is $x_{1:T}$, the step is from $t$ to $t - 1$, our $\sigma_{ts}^2$ is $\beta_t$
# > and our $\tilde\sigma^2$ is $\tilde\beta_t$. DDPM tried both as the model's variance, [@ho2020].
#
# With pictures and fifty steps the integral has $50 \times 1024$ dimensions. To see what happens we need a world in
# which it can be done: one number instead of a picture, two humps as data, their exact denoiser as the model's guess,
# and a walk of two steps.

# %%
from itertools import pairwise

from minidiff import LinearBeta, Mixture, posterior, transition

humps = Mixture(torch.tensor([0.4, 0.6]), torch.tensor([[-1.2], [0.8]]),
                torch.tensor([0.2, 0.2]))
schedule = LinearBeta()


def denoise(x_t, t):
    return humps.denoise(x_t, t, schedule)

# %% [markdown]
# (4.3) and (4.4) as code. A path is a list of states that falls from $x_1$ to $x_0$.

# %%
def log_q(path, ts):
    total = 0
    for (x_t, x_s), (t, s) in zip(pairwise(path), pairwise(ts), strict=True):
        alpha_ts, sigma_ts = transition(s, t, schedule)
        total += Gaussian(alpha_ts * x_s, sigma_ts).log_prob(x_t)
    return total


# %%
def step_back(x_t, s, t):
    mean = posterior(x_t, denoise(x_t, t), s, t, schedule).mean
    return Gaussian(mean, transition(s, t, schedule)[1])


def log_p(path, ts):
    total = Gaussian(torch.zeros_like(path[0]), 1.0).log_prob(path[0])
    for (x_t, x_s), (t, s) in zip(pairwise(path), pairwise(ts), strict=True):
        total += step_back(x_t, s, t).log_prob(x_s)
    return total

# %% [markdown]
# All paths of two steps, over times 1, 0.1 and 0, are the points of a plane, and a grid covers it. (At time 0.1 the noise
# is 0.32, so the humps are still apart.) Take $x_0 = 0.8$.

# %%
two_steps = torch.tensor([1.0, 0.1, 0.0])
cell = (axis[1] - axis[0]) ** 2
plane = torch.cartesian_prod(axis, axis)  # (90601, 2): x_1 and x_0.1
paths = [plane[:, :1], plane[:, 1:], torch.full((len(plane), 1), 0.8)]
exact = -(log_p(paths, two_steps).exp().sum() * cell).log()
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
# That is the number we are after. From now on we pretend not to know it.
#
# ## 4. The bound
#
# There is a number that can be computed, and is never too flattering:
#
# $$ -\log p_\theta(x_0) \ \le\ L(x_0) := E_{q(\text{path} \mid x_0)}\!\left[
# \log \frac{q(\text{path} \mid x_0)}{p_\theta(x_0, \text{path})} \right] \tag{4.6} $$
#
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
# and a KL is never negative. $\blacksquare$ (The mean of (4.6) over the data is (4.7), in
# [deeper](deeper/04_variational_bound.ipynb#1-the-second-route-jensen).)
#
# $L$ is the [variational bound](../docs/glossary.md#variational-bound); its negative is the *evidence lower bound*, [ELBO](../docs/glossary.md#elbo). Two things
# are won. $L$ asks for no integral over all paths: draw some forward paths and average. And the gap has a name. It
# closes when the model, shown only $x_0$, believes that the noise took the paths that it really takes.
#
# > **Why "variational"?** In most uses one *optimises over* $q$, to make the gap small; calculus that varies a whole
# > function is called variational. A VAE does it: there $q$ is the encoder, and the path its code (1.3). In diffusion
# > $q$ is *fixed*. Only $p_\theta$ is learned. The name has stayed.
#
# *Predict: is* $L(0.8)$ *just above the exact 0.538 nats, or far above?*

# %%
ratio = log_q(paths, two_steps) - log_p(paths, two_steps)
weight = log_q(paths, two_steps).exp() * cell  # probability of each cell of the plane
bound = (weight * ratio).sum()
print(f"L(0.8) = {bound:.3f} nats")

# %% [markdown]
# <details><summary>Answer</summary>
#
# Half as much again: the gap is 0.276 nats. Here is where the two ideas of a path disagree.
#
# </details>

# %%
alt = "Left, the real paths: an oval near 0.8. Right, the model's: a dome above 0."
picture, axes = plot.figure(alt, 2, width=7.0, height=3.3)
believed = log_p(paths, two_steps) + exact  # log p(path | 0.8)
for ax, log_density, title in ((axes[0], log_q(paths, two_steps), "the real paths, q"),
                               (axes[1], believed, "what p believes")):
    ax.pcolormesh(axis, axis, log_density.exp().reshape(301, 301).T, cmap="Greys")
    ax.set(xlim=(-3, 3), ylim=(-1, 2.5), xlabel="$x_1$", ylabel="$x_{0.1}$")
    ax.set_title(title, fontsize=14)
    ax.axhline(0.8, color=plot.COLOURS[3], lw=1)
axes[1].text(-2.8, 0.87, "$x_0 = 0.8$", color=plot.COLOURS[3], fontsize=14)
picture

# %% [markdown]
# Really, the path comes from near 0.8. The model thinks states around 0 just as possible.
#
# *Predict: which of the model's two steps is to blame, the long one from 1 to 0.1 or the last one?*

# %%
def true_back(x_t, x_s, s, t):
    """log q(x_s | x_t) by Bayes; it needs the density of the data, which we know."""
    alpha_ts, sigma_ts = transition(s, t, schedule)
    forward = Gaussian(alpha_ts * x_s, sigma_ts).log_prob(x_t)
    return forward + humps.log_prob(x_s, s, schedule) - humps.log_prob(x_t, t, schedule)


# %%
mended = {"no step": 0}
for name, k in (("the long step", 0), ("the last step", 1)):
    (t, s), (x_t, x_s) = two_steps[k : k + 2], paths[k : k + 2]
    mended[name] = true_back(x_t, x_s, s, t) - step_back(x_t, s, t).log_prob(x_s)
mended["both"] = mended["the long step"] + mended["the last step"]
for name, change in mended.items():
    joint = log_p(paths, two_steps) + change
    own = -(joint.exp().sum() * cell).log()  # this model's exact value
    kl = (weight * (log_q(paths, two_steps) - joint)).sum() - own
    print(f"with {name} exact: gap {kl.abs():.3f} nats")

# %% [markdown]
# <details><summary>Answer</summary>
#
# The long one. With it exact, the gap falls from 0.276 to 0.015; an exact last step alone leaves 0.188. The true long
# step has two humps, and the model has only one bell for it. That is the lesson of chapter 03 again: a step back must be
# *short* to be a bell. With both exact the bound is the truth.
#
# </details>

# %% tags=["check"]
# @title ✓ Bound = exact + divergence of the paths, which Bayes gives step by step
dx, x_to = axis[1] - axis[0], torch.tensor([[0.8]])
start = normal.log_prob(paths[0]) + step_back(paths[0], 0.1, 1.0).log_prob(paths[1])
start = start.exp().reshape(301, 301)  # of x_1 and x_0.1
arrive = start.sum(0) * step_back(axis[:, None], 0.0, 0.1).log_prob(x_to).exp()
by_bayes = start / start.sum(0) / dx * arrive / arrive.sum() / dx  # p(path | 0.8)
gap = (weight * (log_q(paths, two_steps) - by_bayes.flatten().log())).sum()
assert torch.isclose(bound, pushed(two_steps, 0.8) + gap, atol=1e-6)
assert abs(gap - 0.276) < 0.001 and abs(kl) < 1e-6  # kl: both steps exact
print(f"✓ {bound:.3f} = {exact:.3f} + {gap:.3f} nats, to 1e-6 (4.8);",
      "with both steps exact the gap is 0")

# %% [markdown]
# ## 5. One term for each step
#
# $L$ still contains whole paths. Its logarithm is a sum of steps:
#
# $$ \log\frac{q(\text{path} \mid x_0)}{p_\theta(x_0, \text{path})}
# = -\log p(x_1) + \sum_{s < t} \log\frac{q(x_t \mid x_s)}{p_\theta(x_s\mid x_t)} . $$
#
# Each fraction compares a step *forward* with a step *back*. They are densities of different things, so this is no KL.
# Bayes turns the numerator round. A step looks only at the state before it, so $q(x_t \mid x_s) = q(x_t \mid x_s, x_0)$,
# and for $s > 0$
#
# $$ q(x_t \mid x_s) = \frac{q(x_s \mid x_t, x_0)\; q(x_t \mid x_0)}{q(x_s \mid x_0)} . $$
#
# Look at the last two factors. A state's $\log q$ comes with a plus from the step that ends there, and with a minus from
# the step that starts there. (The first step is not turned round. It is $q(x_a \mid x_0)$ as it stands: a plus for $x_a$.)

# %%
diagrams.telescope()

# %% [markdown]
# So the sum shuts like a telescope. What remains is
#
# $$ \log\frac{q(x_1 \mid x_0)}{p(x_1)}
# + \sum_{0 < s < t} \log\frac{q(x_s\mid x_t, x_0)}{p_\theta(x_s\mid x_t)}
# - \log p_\theta(x_0 \mid x_a) \tag{4.9} $$
#
# with $x_a$ next to the picture. No average has been taken: this holds *on every path*. Now average. In a term
# of the sum average over $x_s$ first, with $x_t$ held: that inner average is a KL of two Gaussians, and (4.2) does it.
# The bound is
#
# $$ \begin{aligned}
# L(x_0) = \underbrace{\mathrm{KL}\big(q(x_1\mid x_0)\,\|\,p(x_1)\big)}_{L_T}
# &+ \sum_{0 < s < t} \underbrace{E_q\, \mathrm{KL}\big(q(x_s\mid x_t, x_0)\,\|\,p_\theta(x_s\mid x_t)\big)}_{L_s} \\
# &+ \underbrace{E_q\big[-\log p_\theta(x_0\mid x_a)\big]}_{L_0}
# \end{aligned} \tag{4.10} $$
#
# ([@sohldickstein2015]; this form is from [@ho2020], who write $L_{t-1}$ for our $L_s$; $L_T$ has its name from their
# last state $x_T$.) Three kinds of term, three plain
# questions:

# %%
x_0, x_b, x_a = torch.tensor([0.8, 0.3, 0.5])[:, None, None]  # a = 1/8, b = 1/4
alpha, sigma = schedule(1.0)
truths = Gaussian(alpha * x_0, sigma), posterior(x_b, x_0, 1 / 8, 1 / 4, schedule), 0.8
models = normal, step_back(x_b, 1 / 8, 1 / 4), step_back(x_a, 0.0, 1 / 8)
diagrams.bells(list(zip(truths, models, strict=True)),
               ("Is the end noise?", "Is the step right?", "Is it the data?"),
               ("$x_1$:  $L_T$", "$x_s$:  $L_s$", "$x_0$:  $L_0$"),
               "Two equal bells; two that overlap; a bell and a line near its top.")

# %% [markdown]
# (Each panel has a scale of its own.) Nothing in $L_T$ is learned. $L_s$ compares the model's step with the right one, given $x_0$. And $L_0$ asks how
# likely the last step makes the data. To estimate a term one needs no path, only a jump to $x_t$ and one
# call of the network: that is why training may pick a step at random.
#
# **Your turn.** Write $L_s$ for given $x_t$ and a given guess.

# %%
def one_term(x0, x_t, guess, s, t, schedule):
    """KL(q(x_s | x_t, x0) || p(x_s | x_t)); p has the guess in the place of x0."""
    ### BEGIN SOLUTION
    truth, model = (posterior(x_t, x, s, t, schedule) for x in (x0, guess))
    return truth.kl(Gaussian(model.mean, transition(s, t, schedule)[1]))
    ### END SOLUTION


# %%
def by_formula(x0, x_t, guess, s, t, schedule):
    (alpha_s, sigma_s), (_, sigma_t) = schedule(s), schedule(t)
    sigma_ts, r = transition(s, t, schedule)[1], sigma_s**2 / sigma_t**2
    shift = alpha_s * sigma_ts**2 / sigma_t**2 * (x0 - guess)  # of the two means
    return (shift**2 / sigma_ts**2 + r - 1 - r.log()).sum(1) / 2


a, b, c = torch.randn(3, 2, 3, generator=seeded(0))  # two pictures of three pixels
cases = [(a, b, c, s, t, schedule) for s, t in ((0.2, 0.5), (0.6, 0.7))]
check(one_term, by_formula, cases,
      hint="truth and model have different means and different standard deviations")

# %% [markdown]
# The package's `vlb_terms` is (4.10), for pictures and any falling times:

# %%
plot.show_source(vlb_terms)

# %% tags=["check"]
# @title ✓ (4.9) holds on every path
ts, n = times(8), 100_000
walk = [torch.full((n, 1), 0.8)]
for t, s in reversed(list(pairwise(ts))):  # upwards, from x_0
    alpha_ts, sigma_ts = transition(s, t, schedule)
    walk.insert(0, Gaussian(alpha_ts * walk[0], sigma_ts).sample(seeded(int(100 * t))))
turned = Gaussian(alpha * walk[-1], sigma).log_prob(walk[0]) - normal.log_prob(walk[0])
for (x_t, x_s), (t, s) in zip(pairwise(walk), pairwise(ts), strict=True):
    truth = posterior(x_t, walk[-1], s, t, schedule).log_prob(x_s) if s > 0 else 0
    turned += truth - step_back(x_t, s, t).log_prob(x_s)
assert torch.allclose(turned, log_q(walk, ts) - log_p(walk, ts), atol=1e-8)
print("✓ both sides of (4.9) agree on each of 100,000 paths of 8 steps, to 1e-8")

# %% tags=["check"]
# @title ✓ Paths and terms have the same mean, above the exact value
by_terms = vlb(denoise, walk[-1], ts, schedule, seeded(2))  # the sum of vlb_terms
error = (turned.std() + by_terms.std()) / n**0.5
assert abs(turned.mean() - by_terms.mean()) < 4 * error
assert by_terms.mean() > pushed(ts, 0.8) + 0.02
below = (by_terms < pushed(ts, 0.8)).double().mean()
assert 0.4 < below < 0.8  # a single draw is no bound
print(f"✓ bound from paths {turned.mean():.2f}, from terms {by_terms.mean():.2f} nats;",
      f"exact {pushed(ts, 0.8):.2f}")

# %% [markdown]
# ### What a term asks of the network
#
# Put the Gaussians of chapter 03 into (4.2). With $r = \tilde\sigma^2 / \sigma_{ts}^2$, the ratio of the variances,
# which is $\sigma_s^2 / \sigma_t^2$,
#
# $$ L_s = E_{q(x_t\mid x_0)}\!\left[ \frac{1}{2\sigma_{ts}^2}
# \big|\tilde\mu(x_t, x_0) - \mu_\theta\big|^2 \right] + \frac{D}{2}\left( r - 1 - \log r \right) \tag{4.11} $$
#
# a squared distance of two means, and a constant. The means differ only in what they take for the picture,
# $\tilde\mu - \mu_\theta = \frac{\alpha_s \sigma_{ts}^2}{\sigma_t^2}\,(x_0 - \hat x_0)$. So all that the bound wants
# to know of data and network is **the squared error of the denoiser**, at each time, with a weight. That is a loss
# one can train with. Chapter 05 starts here.
#
# Where along the walk is the bound spent? Average the terms over the two humps, and choose the number of steps.
#
# *Predict: what do more steps do to the sum, and what to* $L_0$*?*

# %%
data = humps.sample(5_000, seeded(5)).double()


def mean_terms(T):
    each = torch.stack(list(vlb_terms(denoise, data, times(T), schedule, seeded(6))))
    return bits_per_dim(each.mean(1), 1)  # L_T first, L_0 last: (T + 1,)


# %%
def spent_by(T):
    each = mean_terms(T)
    alt = f"Bars for {T} steps; together {each.sum():.2f} bits."
    picture, (ax,) = plot.figure(alt, width=6.4, height=3.0)
    ax.bar(torch.arange(T - 1, 0, -1) / T, each[1:-1], 0.8 / T, label="$L_s$")
    ax.bar([0], each[-1], 0.8 / T, color=plot.COLOURS[1], label="$L_0$")
    ax.set(xlabel="time s where the step arrives", ylabel="bits",
           title=f"{T} steps: {each.sum():.2f} bits, of them $L_0$ {each[-1]:.2f}")
    ax.legend(fontsize=11)
    return picture


# %%
slider = ipywidgets.IntSlider(16, min=4, max=64, description="steps T")
_ = widgets.explore(spent_by, T=slider)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Both fall. With 4 steps the sum is 1.93 bits, with 16 1.25, with 64 0.86. Below lies the data's entropy, 0.70 bits, the
# floor of (4.1). The 0.16 bits above it nearly halve with each doubling of the steps ([deeper](deeper/04_variational_bound.ipynb#2-how-tight-is-the-bound)):
# for an exact denoiser and a *density* the bound closes. $L_0$ may even be negative, because a density can be larger than one. ($L_T$ is below 0.001.)
#
# </details>

# %% tags=["check"]
# @title ✓ The sum falls towards the entropy
sums = {T: mean_terms(T) for T in (4, 16, 64)}
inside = torch.linspace(-3, 3, 1201)[:, None]
log_density = humps.log_prob(inside, 0.0, schedule)
entropy = bits_per_dim(-(log_density.exp() * log_density).sum() * 0.005, 1)
assert sums[4].sum() > sums[16].sum() > sums[64].sum() > entropy
assert sums[4][-1] > 0 > sums[16][-1] > sums[64][-1] and sums[64][0].abs() < 0.001
assert abs(sums[64].sum() - entropy - 0.16) < 0.01
print("✓ bits with 4, 16, 64 steps:", *(f"{each.sum():.2f}" for each in sums.values()),
      f"above the entropy {entropy:.2f}; L_0 falls too")

# %% [markdown]
# ## 6. Pixels are whole numbers
#
# A photograph's pixels are not real numbers. Each is one of 256 grey levels, and a *density* at a level is no
# probability: it grows without limit as a bell gets narrow, and it is no file's length. So the last step must hand
# out probabilities of levels. DDPM ([@ho2020]) lets each level own the interval up to half way to its neighbours, and
# gives it the mass of the last Gaussian there. On $[-1, 1]$ the levels are $2/255$ apart; the outermost intervals are
# open:
#
# $$ \begin{gathered}
# p_\theta(x_0 \mid x_a) = \prod_{i=1}^{D} \int_{\delta_-(x_0^i)}^{\delta_+(x_0^i)}
# \mathcal N\big(u;\ \mu_\theta^i,\ \sigma_a^2\big)\, du, \\
# \delta_\pm(g) = \pm\infty \text{ if } g = \pm 1, \quad g \pm 1/255 \text{ otherwise}
# \end{gathered} \tag{4.12} $$
#
# ($i$ counts pixels. In the last step $s = 0$ and $t = a$; there $\sigma_{ts} = \sigma_a$, and the mean $\mu_\theta$ is the guess
# $\hat x_0$ itself, since $\sigma_s = 0$.) The integral is a difference of two values of the
# cumulative distribution function. Only $L_0$ changes, and it is never negative again.
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


# %%
from minidiff.losses import discretized_log_likelihood


def mass_by_package(level, mean, std):
    bell = Gaussian(torch.full((len(level), 1), mean), torch.tensor(std))
    return discretized_log_likelihood(bell, level[:, None], 256).exp()


cases = [(torch.tensor([-1.0, 1 / 255, 1.0]), mean, 0.4) for mean in (0.0, 0.97)]
check(mass, mass_by_package, cases,
      hint="bell.cdf(above) - bell.cdf(below); at the two ends one of them is infinite")

# %%
levels, alt = torch.linspace(-1, 1, 256), "A bell of bars; another, cut at white."
picture, (ax,) = plot.figure(alt, width=6.4, height=2.7)
for mean, colour in ((0.0, 0), (0.97, 3)):
    bars = mass_by_package(levels, mean, 0.06)
    ax.bar(levels, bars, 2 / 255, color=plot.COLOURS[colour])
ax.text(0.0, 0.06, "mean 0", ha="center", color=plot.COLOURS[0], fontsize=14)
ax.text(0.9, 0.25, "mean 0.97: white takes\nall that lies beyond", ha="right",
        color=plot.COLOURS[3], fontsize=14)
ax.set(xlabel="grey level, on [-1, 1]", ylabel="probability", xlim=(-1, 1.02))
picture

# %% tags=["check"]
# @title ✓ The probabilities are how often a rounded bell hits each level
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
# The model's 3.61 is this number: (4.10) with (4.12), one draw of each term, the mean over 100 photographs. It is a
# bound, so the true cost can only be less. And it can be the length of a real file ([@townsend2019]): the sender lets
# other bits of the message choose the path, and the receiver, who finds the path too, gets those bits back. [@kingma2021]
# did it with a diffusion model.
#
# ## 7. What the bits are spent on
#
# Why does the grain win? Let a fourth contestant in, a *clairvoyant*. Its denoiser is shown the photograph itself, so
# each guess is perfect. It walks in the same fifty steps, with the same variances.
#
# *Predict: what does the clairvoyant pay, of the 3.61 bits: nothing, a third, or most?*

# %%
def clairvoyant(x, t):
    return photos


all_known = vlb(clairvoyant, photos, times(50), denoiser.schedule, seeded(7), bins=256)
print(f"clairvoyant {bits_per_dim(all_known, 1024).mean():.2f} bits")

# %% [markdown]
# <details><summary>Answer</summary>
#
# Most: 2.78 bits. It makes no error at all. It pays 1.01 for the constants of (4.11), because the model's variance is not
# the true one. And it pays 1.78 in $L_0$: the last bell, as wide as the noise of the last step, spreads over neighbouring
# levels. That is the black frame, too: no guess can make a wide bell sure.
#
# </details>
#
# So three quarters of the number are the price of fixed variances and few steps, not of what the network does not know.
# Split the terms by the noise from which their steps start. How much there is the clairvoyant's, how much is error?

# %%
def by_noise(denoise, bounds=(0, 5, 10, 30, 128)):
    """Bits of all steps that start from noise between two bounds, in grey levels."""
    each = vlb_terms(denoise, photos, times(50), denoiser.schedule, seeded(7), bins=256)
    each = bits_per_dim(torch.stack(list(each)).double().mean(1), 1024)[1:]  # not L_T
    noise = denoiser.schedule(times(50)[:-1])[1] * 127.5  # 127 levels first, 4 last
    bands = [(a <= noise) & (noise < b) for a, b in pairwise(bounds)]
    return torch.stack([each[band].sum() for band in bands])


# %%
perfect, ours = by_noise(clairvoyant), by_noise(told)
bands = "the last step, from 4", "from 5 to 10", "from 10 to 30", "above 30 levels"
diagrams.split_bars(dict(zip(bands, zip(perfect, ours, strict=True), strict=True)),
                    ("even the clairvoyant's", "price of our guesses"),
                    "bits for each pixel",
                    "Four bars; of the longest, 1.96, the clairvoyant has 1.78.")

# %% [markdown]
# One step of fifty, the last, takes 54 % of all bits. (The spacing makes that share, too. With fewer steps the last one starts
# from more noise, and takes more.)
#
# Can you see that noise? And which noise would hide what a picture shows?

# %%
eps = torch.randn(6, 1, 32, 32, generator=seeded(9), dtype=torch.float32)
dusty, coarse = (add_noise(photos[:6], eps, t, denoiser.schedule) for t in (0.02, 0.15))
plot.strips({"photographs": photos[:6], "4 levels": dusty, "30 levels": coarse},
            "Six photographs; noise of 4 levels is hardly seen, 30 leave the shapes.")

# %% tags=["check"]
# @title ✓ The clairvoyant's bits, by hand, and ours above it
r = (denoiser.schedule(times(50)[1:-1])[1] / denoiser.schedule(times(50)[:-2])[1]) ** 2
fixed = bits_per_dim((r - 1 - r.log()).sum() / 2, 1)  # the constants of (4.11)
width = float(denoiser.schedule(0.02)[1])
rounded = levels_of(photos).flatten() / 127.5 - 1
bell = torch.distributions.Normal(rounded, width)
up, down = bell.cdf(rounded + 1 / 255), bell.cdf(rounded - 1 / 255)
up, down = up.masked_fill(rounded > 0.999, 1), down.masked_fill(rounded < -0.999, 0)
dust, rest = -(up - down).log2().mean(), ours - perfect
assert abs(perfect.sum() - fixed - dust) < 1e-3 and abs(rest[3] - 0.21) < 0.02
assert abs(perfect.sum() - 2.78) < 0.01 and abs(ours[0] / ours.sum() - 0.54) < 0.01
print(f"✓ clairvoyant {perfect.sum():.2f} = {fixed:.2f} + {dust:.2f} bits;",
      f"our guesses add {rest.sum():.2f}, of them {rest[3]:.2f} above 30 levels")

# %% [markdown]
# Shapes are still there at 30 levels of noise, so they are decided above. All that our guesses cost there is 0.21 bits. A
# model that knew all about boots could gain no more than that, and may lose it again by a convention: the variance
# $\sigma_{ts}^2$. With a fitted one the very same guesses need 3.11 bits, and the histograms lose
# ([deeper](deeper/04_variational_bound.ipynb#4-learned-variance)). Even then the last step has 63 % of the bits, the exact
# grey level of each pixel. Three codes within half a bit of each other, and one of them draws grain: the number hardly
# sees what we see.
#
# Would more steps help, as in section 5? Only a denoiser that is nearly exact where noise is faintest. Ours needs more bits
# with a thousand steps (deeper, section 7), and with twenty just as few.
#
# [@ho2020] found the same on small colour photographs: more than half of the code describes what nobody notices. That
# good likelihood and good samples are different things was shown by [@theis2016].
#
# A network that is to *draw* should be trained with other weights for the terms of (4.10). That is chapter 05.
#
# ## What to keep
#
# - The mean surprise of a model is the data's entropy plus a divergence (4.1). For grey levels, in bits, it is a file's
#   length.
# - $-\log p_\theta(x_0)$ is an integral over all paths. The mean of $\log(q/p_\theta)$ over *forward* paths bounds it
#   (4.6); the gap is the divergence between real paths and believed ones (4.8). $q$ is fixed here.
# - Bayes turns the forward steps round, and the rest cancels: $L_T$, one $L_s$ for each step, $L_0$ (4.10).
# - Each $L_s$ is the denoiser's squared error, times a weight, plus a constant (4.11).
# - Give grey levels probabilities (4.12), then speak of bits per dimension (4.13). Most of them describe what hardly
#   anybody sees.
#
# ## Exercises
#
# **1. Pen.** Let the model take the variance $\tilde\sigma^2$ in place of $\sigma_{ts}^2$. (a) What is left of (4.11)?
# (b) Write it as a weight times $|x_0 - \hat x_0|^2$, and find the weight in terms of $\mathrm{SNR}(t) =
# \alpha_t^2/\sigma_t^2$. (c) A denoiser has the squared error $D/10$ at all times. What does it pay in
# nats, all steps from SNR 100 to SNR 0 together, and how does the number of steps matter?
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
sizes = []
for T in (1, 10, 100):
    stops = torch.linspace(1, 0.0634510, T + 1)  # SNR 100 on Cosine
    total = 0
    for t, s in pairwise(stops):
        truth, model = (posterior(b, x, s, t, Cosine()) for x in (a, a + 0.1**0.5))
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


# %%
def prior_by_package(x0, alpha, sigma):
    noise = Gaussian(torch.zeros_like(x0), torch.tensor(1.0))
    return bits_per_dim(Gaussian(alpha * x0, sigma).kl(noise), x0[0].numel())


coloured = torch.rand(5, 3, 4, 6, generator=seeded(14)) * 2 - 1
ends = torch.tensor([[0.364, 0.9314], [0.778, 0.6283]])
cases = [(coloured, *ends[0]), (coloured[:2], *ends[1])]
check(prior_bits, prior_by_package, cases,
      hint="x_1 has mean alpha x0 and variance sigma^2; pure noise has 0 and 1")

# %% [markdown]
# **3. Open.** Twenty steps are all you have. Where along $[0, 1]$ should they stand for the *fewest bits*? `times(20)`
# spaces them evenly, from 1 to 0. Try others (crowded near the data; a last step of your choice; even in log SNR, for
# which $t = \frac2\pi \arctan e^{-\lambda/2}$ has log SNR $\lambda$ on `Cosine`). Judge them, then *draw* with the same
# times. You have found something if the fewest bits come out again with another seed. (Hint: where should the *last* step
# start?) Do the times with the best code
# draw the best clothes?

# %%
def judge(ts, seed=13):
    nats = vlb(told, photos[:50], ts, denoiser.schedule, seeded(seed), bins=256)
    return float(bits_per_dim(nats, 1024).mean())


def draw_with(ts, n=24):
    """n pieces of clothing of the classes of the first n photographs."""
    start = torch.randn(n, 1, 32, 32, generator=seeded(15), dtype=torch.float32)
    drawn = final(ddpm(told, start, ts, denoiser.schedule, seeded(16)))
    return plot.images(drawn, f"{n} pieces of clothing, drawn.", columns=8)


# %%
crowded = torch.linspace(1, 0, 21) ** 2
print(f"even {judge(times(20)):.2f}, crowded near the data {judge(crowded):.2f} bits")
draw_with(crowded, 8)

# %% [markdown]
# **Deeper:** [04, deeper](deeper/04_variational_bound.ipynb) has the second route, by Jensen; how tight the bound is;
# which variance the step should have, and learned ones; a bound from a few random steps; and bugs to find.
#
# **Next:** [05 · The simplified loss](05_simplified_loss.ipynb), which chooses other weights.
#
# ## References
#
# {references}
