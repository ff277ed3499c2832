# %% [markdown]
# # 04 · The variational bound
#
# **How good is a model that draws in a thousand small steps?** One honest judge is the probability it gives to
# real data it has not seen. For a diffusion model that probability is an integral over every path through the
# noise, and nobody can do it. This chapter finds a number that can be computed and is never too flattering: a
# *bound* on it. And it takes the bound apart, into one small term for each step.
#
# **You will build** the divergence between two Gaussians, the bound along two different routes, its terms, a
# decoder that gives probabilities to whole grey levels, and at the end the code length of a photograph, in
# bits per pixel, under the shipped model of clothes.
#
# **You need** chapters 02 and 03 (the step forward, the step back given $x_0$, the exact denoiser of a
# mixture). On two CPU cores the notebook takes about a minute, and 1 GB of memory. Nothing is trained here.

# %%
import torch

from minidiff import FromBetas, LinearBeta, Mixture
from minidiff.course import plot

torch.set_default_dtype(torch.float64)  # formulas are checked to many digits here


# %%
def seeded(seed):
    return torch.Generator().manual_seed(seed)


# %% [markdown]
# ## 1. What a probability is good for
#
# Suppose the truth is a density $q(x)$ and a model believes in $p(x)$. Judge the model by the *negative log
# likelihood* $-\log p(x)$ of real data: large where the model is surprised. It can be counted
# in bits. The best code spends $-\log_2 P$ bits on a message of probability $P$, so with *probabilities* a model's
# mean surprise is the length of the file that it would compress the data to. (Densities need the care of section 8.)
# With the natural logarithm the unit is the *nat*, $1 / \ln 2 = 1.44$ bits. The average over the truth splits in two:
#
# $$ E_q[-\log p(x)] \;=\; \underbrace{E_q[-\log q(x)]}_{\text{entropy } H(q)}
# \;+\; \underbrace{E_q\!\left[\log \frac{q(x)}{p(x)}\right]}_{\mathrm{KL}(q\,\|\,p)}, \qquad
# \mathrm{KL}(q\,\|\,p) \ge 0 \tag{4.1} $$
#
# ($E_q$ is the average over draws from $q$.) The entropy is the data's own; no model can do anything about
# it. What the model adds is the *Kullback-Leibler divergence* (met in chapter 01; here with more care), the
# price of believing in $p$ where $q$ is true.
#
# **Proof that it is never negative.** The logarithm lies below its tangent at 1: $\log u \le u - 1$. Hence
# $-\mathrm{KL}(q\,\|\,p) = E_q[\log (p/q)] \le E_q[p/q - 1] = \int_{q > 0} p\,dx - 1 \le 0$, with equality
# only if $p = q$. $\blacksquare$
#
# All of it on a grid, with two bell curves, where integrals are sums:

# %%
x = torch.linspace(-6, 6, 1201)  # a grid for one number
dx = x[1] - x[0]


# %%
def log_normal(x, mean, variance):
    """log N(x; mean, variance)."""
    variance = torch.as_tensor(variance, dtype=x.dtype)
    return -((x - mean) ** 2) / (2 * variance) - (2 * torch.pi * variance).log() / 2


# %%
def kl_on_grid(log_q, log_p):
    return (log_q.exp() * (log_q - log_p)).sum() * dx


# %%
truth, belief = log_normal(x, 0.5, 0.4), log_normal(x, 0.0, 1.0)
surprise, entropy = -(truth.exp() * belief).sum() * dx, -(truth.exp() * truth).sum() * dx
assert torch.isclose(surprise, entropy + kl_on_grid(truth, belief)) and kl_on_grid(truth, belief) > 0
print(f"surprise {surprise:.3f} nats = entropy {entropy:.3f} + KL {surprise - entropy:.3f}")

# %% [markdown]
# Two answers that know nothing of the grid: the mean surprise over a million draws, and the textbook's entropy of
# a Gaussian, $\frac12 \log(2 \pi e\, v)$.

# %%
draws = 0.5 + 0.4**0.5 * torch.randn(1_000_000, generator=seeded(20))
assert torch.isclose(-log_normal(draws, 0.0, 1.0).mean(), surprise, atol=5e-3)
assert torch.isclose(entropy, (2 * torch.pi * torch.e * torch.tensor(0.4)).log() / 2)

# %% [markdown]
# Nearly every term in this chapter is the KL of two Gaussians, which has a closed form. With means $m_1, m_2$ and
# variances $v_1, v_2$, average $\log \mathcal N(x; m_1, v_1) - \log \mathcal N(x; m_2, v_2)$ over the first. Two
# averages are needed: $E_1(x - m_1)^2 = v_1$, and $E_1(x - m_2)^2 = v_1 + (m_1 - m_2)^2$, for the mean squared
# distance from a wrong centre is the variance plus the squared shift. The average is
# $-\frac{v_1}{2v_1} - \frac12\log 2\pi v_1 + \frac{v_1 + (m_1-m_2)^2}{2v_2} + \frac12\log 2\pi v_2$, that is
#
# $$ \mathrm{KL}\big(\mathcal N(m_1, v_1)\,\|\,\mathcal N(m_2, v_2)\big)
# = \frac12\left( \frac{(m_1 - m_2)^2}{v_2} + \frac{v_1}{v_2} - 1 - \log\frac{v_1}{v_2} \right) \tag{4.2} $$

# %%
def kl_of_normals(m_1, v_1, m_2, v_2):
    ratio = torch.as_tensor(v_1 / v_2)
    return ((m_1 - m_2) ** 2 / v_2 + ratio - 1 - ratio.log()) / 2


# %%
pairs = [(0.5, 0.4, 0.0, 1.0), (0.0, 1.0, 0.5, 0.4), (-1.0, 0.2, 1.0, 0.3), (0.3, 0.5, 0.3, 0.5)]
for m_1, v_1, m_2, v_2 in pairs:
    by_hand = kl_on_grid(log_normal(x, m_1, v_1), log_normal(x, m_2, v_2))
    assert torch.isclose(kl_of_normals(m_1, v_1, m_2, v_2), by_hand, atol=1e-8)
print("(4.2) is the integral, to 1e-8, for four pairs")

# %% [markdown]
# If pixels are independent under both, the densities multiply, their logarithms add, and the KL is the sum over
# pixels. The package does that for a whole batch:

# %%
from minidiff import Gaussian

a, b = torch.randn(2, 5, 3, generator=seeded(0))  # two means for five "pictures" of three pixels
package = Gaussian(a, torch.tensor(0.5)).kl(Gaussian(b, torch.tensor(0.8)))
assert torch.allclose(package, kl_of_normals(a, 0.25, b, 0.64).sum(1))

# %%
plot.show_source(Gaussian.kl)

# %% [markdown]
# *Predict: the first bell is fixed. You may move the second and choose its width. From which side does the KL
# punish harder: a belief that is too narrow, or one that is too wide?* Try it with the sliders.

# %%
import ipywidgets

from minidiff.course.widgets import explore


def two_bells(mean, std):
    there, back = kl_of_normals(0.0, 1.0, mean, std**2), kl_of_normals(mean, std**2, 0.0, 1.0)
    alt = f"Two bells. The divergence from the first to the second is {there:.2f} nats, back {back:.2f}."
    picture, (ax,) = plot.figure(alt, height=2.6)
    ax.fill_between(x, log_normal(x, 0.0, 1.0).exp(), alpha=0.4, label="q, the truth")
    ax.plot(x, log_normal(x, mean, std**2).exp(), color=plot.COLOURS[3], label="p, the belief")
    ax.set(xlabel="x", ylabel="density", title=f"KL(q || p) = {there:.2f} nats, KL(p || q) = {back:.2f}")
    ax.legend()
    return picture


# %%
controls = {name: ipywidgets.FloatSlider(value, min=low, max=high, step=0.05, description=name)
            for name, value, low, high in [("mean", 0.5, -3, 3), ("std", 0.4, 0.2, 3)]}
_ = explore(two_bells, **controls)

# %% [markdown]
# The belief shown first is too narrow (and off centre): $\mathrm{KL}(q\,\|\,p)$ is large, as real data fall where the
# model thinks them nearly impossible. The other direction is four times smaller. *The model must cover the truth*:
# that is what likelihood rewards, and why models trained with it leave out no cluster (compare chapter 01).

# %%
narrow, wide = kl_of_normals(0.0, 1.0, 0.0, 0.4**2), kl_of_normals(0.0, 1.0, 0.0, 2.5**2)
assert narrow > 2 * wide
print(f"std 0.4 instead of 1 costs {narrow:.2f} nats, 2.5 instead of 1 costs {wide:.2f}")

# %% [markdown]
# ## 2. Two chains
#
# From here on the notation is DDPM's: steps $t = 1, \dots, T$, with $\beta_t$, $\alpha_t = 1 - \beta_t$ and
# $\bar\alpha_t = \alpha_1 \cdots \alpha_t$. Write $x_{1:T}$ for the whole path $x_1, x_2, \dots, x_T$. Two
# chains lead over the same states. The **forward** chain goes from the picture to noise, in the steps of
# chapter 02. Each state depends only on the one before it, so the density of a path is a product:
#
# $$ q(x_{1:T} \mid x_0) = \prod_{t=1}^{T} q(x_t \mid x_{t-1}), \qquad
# q(x_t \mid x_{t-1}) = \mathcal N(x_t;\ \sqrt{\alpha_t}\, x_{t-1},\ \beta_t I) \tag{4.3} $$
#
# The **reverse** chain is the model, with weights $\theta$. It begins with pure noise and goes back, each
# step a Gaussian whose mean a network computes:
#
# $$ \begin{aligned}
# p_\theta(x_{0:T}) &= p(x_T) \prod_{t=1}^{T} p_\theta(x_{t-1} \mid x_t), \qquad p(x_T) = \mathcal N(x_T;\ 0,\ I), \\
# p_\theta(x_{t-1} \mid x_t) &= \mathcal N\big(x_{t-1};\ \mu_\theta(x_t, t),\ \Sigma_\theta(x_t, t)\big) .
# \end{aligned} \tag{4.4} $$
#
# Here the network guesses $x_0$, as in (3.10), and the posterior's mean makes $\mu_\theta$ of it:
# $\mu_\theta(x_t, t) = \tilde\mu_t\big(x_t, \hat x_0(x_t, t)\big)$. For $\Sigma_\theta$ we take, like DDPM, the
# fixed $\sigma_t^2 I$ with $\sigma_t^2 = \beta_t$, the upper of the two bounds of (3.6). Section 6 shows what the
# lower one costs.
#
# Here are both chains: the forward one noises a boot, the reverse one is the shipped model, which starts from
# noise at the right end and works to the left. (It takes 50 steps, drawn, as in chapter 03, with the lower
# variance $\tilde\beta_t$.)

# %%
from functools import partial

from minidiff import add_noise, ddpm, times
from minidiff.app.checkpoint import load_denoiser
from minidiff.data import load, shipped

clothes, (denoiser, _) = load("fashion", "test"), load_denoiser(shipped("fashion.safetensors"))
denoiser = denoiser.float()  # the file's precision; the default here is double
boots = clothes.tensor(clothes.y.eq(9).nonzero()[:1, 0])  # (1, 1, 32, 32)
grid = times(50)

# %%
noise = torch.randn(boots.shape, generator=seeded(3), dtype=torch.float32)
as_boot = partial(denoiser, cond=torch.tensor([9]))  # told that an ankle boot is wanted, class 9
states = list(ddpm(as_boot, noise, grid, denoiser.schedule, seeded(4)))
backward = [noise, *(state.x for state in states)][::-1]  # x_0, ..., x_T
ks = [0, 2, 5, 9, 14, 20, 28, 50]

# %%
forward = [add_noise(boots, noise, k / 50, denoiser.schedule) for k in ks]
titles = [f"q, t/T = {k / 50:.2f}" for k in ks] + [f"p, t/T = {k / 50:.2f}" for k in ks]
alt = "Above, a boot that dissolves from left to right; below, noise on the right becomes another boot on the left."
plot.images(torch.cat([*forward, *(backward[k] for k in ks)]), alt, columns=8, titles=titles)

# %% [markdown]
# Above, $q$: read it from left to right. Below, $p_\theta$: read it from right to left. (The upper row uses
# one noise for all its times, so that the eye can compare; a real path has fresh noise in each step.)
#
# To check every line that follows we need a world in which everything can be computed: one number instead of
# 1,024, the two humps of chapter 03 as data, their exact denoiser as "network", and few steps.

# %%
two = Mixture(torch.tensor([0.4, 0.6]), torch.tensor([[-1.2], [0.8]]), torch.tensor([0.2, 0.2]))
short = torch.tensor([0, 0.1, 0.95])  # beta_1 and beta_2 of a walk of two steps; index 0 means "no step yet"


# %%
def mu(x_t, x_0, k, betas):
    """mu-tilde of (3.4): mean of the step back from k to k - 1 for one who knows x_0."""
    alpha_bar = (1 - betas).cumprod(0)
    from_noisy = (1 - betas[k]).sqrt() * (1 - alpha_bar[k - 1]) / (1 - alpha_bar[k])
    return from_noisy * x_t + alpha_bar[k - 1].sqrt() * betas[k] / (1 - alpha_bar[k]) * x_0


def mu_model(x_t, k, betas):
    """mu_theta: the same with the denoiser's guess in the place of x_0."""
    guess = two.denoise(x_t.reshape(-1, 1), k / (len(betas) - 1), FromBetas(betas[1:]))
    return mu(x_t, guess.reshape(x_t.shape), k, betas)


# %% [markdown]
# The two densities of a path, (4.3) and (4.4), as code. A path is a list of $T + 1$ tensors.

# %%
def log_q(path, betas):
    steps = range(1, len(path))
    return sum(log_normal(path[k], (1 - betas[k]).sqrt() * path[k - 1], betas[k]) for k in steps)


# %%
def log_p(path, betas):
    steps = range(1, len(path))
    back = sum(log_normal(path[k - 1], mu_model(path[k], k, betas), betas[k]) for k in steps)
    return log_normal(path[-1], 0.0, 1.0) + back


# %% [markdown]
# What does the model think of a *picture*, $x_0$ alone? It can arrive there over any path, so all of them
# must be added up:
#
# $$ p_\theta(x_0) = \int p_\theta(x_{0:T})\; dx_{1:T} \tag{4.5} $$
#
# With one number and two steps this is an integral over a plane, $x_1$ and $x_2$, and a grid can do it. With
# pictures it has $1000 \times 1024$ dimensions.

# %%
x_0 = torch.tensor(0.8)  # the picture
x_1, x_2 = torch.meshgrid(x[::3], x[::3], indexing="ij")  # all paths of two steps, 401 x 401
cell = (3 * dx) ** 2

# %%
plane = [x_0.expand_as(x_1), x_1, x_2]
log_likelihood = (log_p(plane, short).exp().sum() * cell).log()

# %% [markdown]
# The other way to the same number, which also works for many steps: start with the density of $x_T$ and push
# it through the reverse steps, one integral over a line at a time.

# %%
def model_density(betas):
    """p_theta(x_0) on the grid."""
    density = log_normal(x, 0.0, 1.0).exp()
    for k in range(len(betas) - 1, 0, -1):
        density = log_normal(x[:, None], mu_model(x, k, betas), betas[k]).exp() @ density * dx
    return density


# %%
here = (x - x_0).abs().argmin()
assert torch.isclose(log_likelihood, model_density(short)[here].log(), atol=1e-6)
print(f"-log p(0.8) of the model with two steps: {-log_likelihood:.4f} nats")

# %% [markdown]
# That is the number we are after, and from now on we pretend not to know it.
#
# ## 3. The first route: Jensen
#
# Most paths through (4.5) are hopeless: they contribute nothing. But we know good ones: those that the
# *forward* chain takes from $x_0$. Multiply and divide by their density (this is *importance sampling*), and the
# integral is an average over forward paths:
#
# $$ p_\theta(x_0) = \int q(x_{1:T} \mid x_0)\; \frac{p_\theta(x_{0:T})}{q(x_{1:T} \mid x_0)}\; dx_{1:T}
# = E_{q(x_{1:T} \mid x_0)}\!\left[ \frac{p_\theta(x_{0:T})}{q(x_{1:T} \mid x_0)} \right] . $$
#
# Take the logarithm. Inside the average it would turn the ratio of products into a sum of small terms, each
# easy. But it stands outside. *Jensen's inequality* says which way moving it errs: the log of an average is at
# least the average of the logs.
#
# **Proof.** Let $m = E[u]$. The logarithm lies below its tangent at $m$: $\log u \le \log m + (u - m)/m$.
# Average both sides; the last term vanishes. $\blacksquare$
#
# With $u$ the ratio, and a minus sign,
#
# $$ -\log p_\theta(x_0) \;\le\;
# E_{q(x_{1:T} \mid x_0)}\!\left[ \log \frac{q(x_{1:T} \mid x_0)}{p_\theta(x_{0:T})} \right] =: L(x_0) \tag{4.6} $$
#
# $L$ is the **variational bound** (*variational*: one optimises over a distribution, here the model's chain). Its
# negative is the evidence lower bound of chapter 01, (1.3): the code $z$ is now a whole path, and the encoder is the
# forward chain, in which there is nothing to learn. Averaged over the data it bounds the mean surprise of (4.1), the
# *cross entropy*, often written $L_\mathrm{CE}$ (so in Lilian Weng's article "What are diffusion models?", 2021):
#
# $$ L_\mathrm{CE} = E_{q(x_0)}[-\log p_\theta(x_0)] \;\le\; E_{q(x_0)}[L(x_0)] =: L_\mathrm{VLB} \tag{4.7} $$
#
# *Predict: for our model of two steps, is $L(0.8)$ a little above the exact value, or far above it?*

# %%
share_of_path = log_q(plane, short).exp() * cell  # q(x_1, x_2 | x_0), on the grid
bound = (share_of_path * (log_q(plane, short) - log_p(plane, short))).sum()
assert torch.isclose(share_of_path.sum(), torch.tensor(1.0), atol=1e-6) and bound + log_likelihood > 0.25
print(f"the bound is {bound:.4f} nats, the exact value {-log_likelihood:.4f}")

# %% [markdown]
# Above it, by more than a quarter of a nat: Jensen is tight only when the ratio is nearly the same on all
# paths, and here it is not. For a longer chain a grid over paths is out of the question, and random forward
# paths take its place. (The doses come from the continuous linear schedule (2.12), so that any number of steps ends in
# the same noise.) Averaging ratios *before* the logarithm must give the exact value, averaging logs the bound:

# %%
def table(T):
    """The doses of (2.12) in T steps, 1 - alpha_bar_k / alpha_bar_{k-1}: (T + 1,), 0 for "no step yet"."""
    alpha_bar = LinearBeta()(torch.arange(T + 1) / T)[0] ** 2
    return torch.cat([torch.zeros(1), 1 - alpha_bar[1:] / alpha_bar[:-1]])


def forward_path(x_0, betas, generator):
    path = [x_0]
    for beta in betas[1:]:
        z = torch.randn(x_0.shape, generator=generator)
        path.append((1 - beta).sqrt() * path[-1] + beta.sqrt() * z)
    return path


# %%
betas = table(8)
paths = forward_path(x_0.expand(200_000), betas, seeded(1))  # nine tensors (200000,)
log_ratio = log_q(paths, betas) - log_p(paths, betas)
exact = -model_density(betas)[here].log()

# %%
log_of_average = -(torch.logsumexp(-log_ratio, 0) - torch.tensor(200_000.0).log())
assert torch.isclose(log_of_average, exact, atol=5e-3) and log_ratio.mean() > exact + 0.02
print(f"log of the average {log_of_average:.3f}, exact {exact:.3f}; the bound {log_ratio.mean():.3f}")

# %% [markdown]
# ## 4. The second route: a divergence between paths
#
# Jensen allows a gap, but does not say what it is made of. Start from the other end: from a thing that is
# obviously not negative, the KL between the real distribution of paths and what the model, shown only $x_0$,
# believes the path to have been. By the definition of conditional density
# $p_\theta(x_{1:T} \mid x_0) = p_\theta(x_{0:T}) / p_\theta(x_0)$, so
#
# $$ \begin{aligned}
# \mathrm{KL}\big(q(x_{1:T} \mid x_0)\,\|\,p_\theta(x_{1:T} \mid x_0)\big)
# &= E_q\!\left[\log \frac{q(x_{1:T} \mid x_0)\; p_\theta(x_0)}{p_\theta(x_{0:T})}\right]
# = L(x_0) + \log p_\theta(x_0), \\
# \text{that is,}\quad L(x_0) &= -\log p_\theta(x_0)
# + \mathrm{KL}\big(q(x_{1:T} \mid x_0)\,\|\,p_\theta(x_{1:T} \mid x_0)\big) .
# \end{aligned} \tag{4.8} $$
#
# The same bound, and now the gap has a name. It closes exactly when the model, looking back from $x_0$, sees
# the noise take the paths that it really takes. Minimising $L$ does two things at once: it makes the data
# likely, and the model's idea of a path true.

# %%
joint = log_p(plane, short)
log_p_given_x0 = joint - joint.flatten().logsumexp(0) - cell.log()  # p(x_1, x_2 | x_0), normalised on the plane
gap = (share_of_path * (log_q(plane, short) - log_p_given_x0)).sum()

# %%
exact_by_line = -model_density(short)[here].log()  # the other way to the exact value
assert gap > 0 and torch.isclose(bound, exact_by_line + gap, atol=1e-6)
print(f"bound {bound:.4f} = exact {exact_by_line:.4f} + divergence of the paths {gap:.4f}")

# %% [markdown]
# Where do the two disagree? Look at the plane of paths:

# %%
alt = "Left, the real paths: an upright oval around x1 = 0.76. Right, the model's: a wedge from 0 to the right."
picture, axes = plot.figure(alt, 2, width=8, height=3.4)
paths_of = {"q: the real paths": log_q(plane, short), "p: what the model believes": log_p_given_x0}
for ax, (name, log_density) in zip(axes, paths_of.items(), strict=True):
    ax.pcolormesh(x[::3], x[::3], log_density.exp().T, rasterized=True)
    ax.set(xlim=(-1.5, 2.5), ylim=(-3.5, 3.5), xlabel="$x_1$", ylabel="$x_2$", title=name)
picture

# %% [markdown]
# (Brighter is denser; each panel has its own scale.) Left: really, $x_1$ scatters around $0.95 \cdot 0.8$. Right:
# the model thinks that nearly any $x_1$ to the right of 0 may have led to 0.8, because its denoiser would have
# turned any of them into about 0.8. Its last step is too forgiving, and the bound makes it pay.
#
# ## 5. One term for each step
#
# $L$ still contains a whole path. Write the logarithm in (4.6) as a sum over steps:
#
# $$ \log\frac{q(x_{1:T}\mid x_0)}{p_\theta(x_{0:T})}
# = -\log p(x_T) + \sum_{t=1}^{T} \log\frac{q(x_t \mid x_{t-1})}{p_\theta(x_{t-1}\mid x_t)} . $$
#
# Each fraction compares a step *forward* with a step *back*; they are not about the same variable, and their
# ratio is no divergence. Bayes turns the numerator round. For $t \ge 2$, as noise has no memory,
#
# $$ q(x_t \mid x_{t-1}) = q(x_t \mid x_{t-1}, x_0)
# = \frac{q(x_{t-1} \mid x_t, x_0)\; q(x_t \mid x_0)}{q(x_{t-1} \mid x_0)} . $$
#
# Put it in and look at what the last two factors do in the sum: $\log q(x_t \mid x_0)$ appears with a plus in
# step $t$ and with a minus in step $t + 1$. All cancel but the ends, like the sections of a telescope:
#
# $$ \sum_{t=2}^{T} \log \frac{q(x_t \mid x_0)}{q(x_{t-1} \mid x_0)}
# = \log q(x_T \mid x_0) - \log q(x_1 \mid x_0) . $$
#
# The term $t = 1$ stood aside; its numerator, $q(x_1 \mid x_0)$, cancels with the lower end. What remains is
#
# $$ \log\frac{q(x_{1:T}\mid x_0)}{p_\theta(x_{0:T})}
# = \log\frac{q(x_T \mid x_0)}{p(x_T)}
# + \sum_{t=2}^{T} \log\frac{q(x_{t-1}\mid x_t, x_0)}{p_\theta(x_{t-1}\mid x_t)}
# - \log p_\theta(x_0 \mid x_1) . \tag{4.9} $$
#
# No average has been taken yet: (4.9) holds *on every single path*. That is a sharp thing to check, with no
# Monte Carlo error to hide in.

# %%
def beta_tilde(k, betas):
    """Variance of the step back for one who knows x_0 (3.4)."""
    alpha_bar = (1 - betas).cumprod(0)
    return (1 - alpha_bar[k - 1]) / (1 - alpha_bar[k]) * betas[k]


# %%
def log_ratio_in_terms(path, betas):
    """The T + 1 terms of (4.9) on given paths, from the end of the walk to x_0."""
    T, alpha_bar = len(path) - 1, (1 - betas).prod()
    end = log_normal(path[T], alpha_bar.sqrt() * path[0], 1 - alpha_bar)
    terms = [end - log_normal(path[T], 0.0, 1.0)]
    for k in range(T, 1, -1):
        real = log_normal(path[k - 1], mu(path[k], path[0], k, betas), beta_tilde(k, betas))
        terms.append(real - log_normal(path[k - 1], mu_model(path[k], k, betas), betas[k]))
    return [*terms, -log_normal(path[0], mu_model(path[1], 1, betas), betas[1])]


# %%
assert torch.allclose(sum(log_ratio_in_terms(paths, betas)), log_ratio, atol=1e-9)
print("both sides of (4.9) agree on each of 200,000 paths")

# %% [markdown]
# Now take the average over paths, term by term. In the term of step $t$ first average over $x_{t-1}$, with
# $x_t$ held fixed: given $x_t$ and $x_0$ it is distributed as $q(x_{t-1} \mid x_t, x_0)$, the density in the
# numerator, so this inner average *is* a KL divergence between two Gaussians, and (4.2) does it without any
# sampling. The bound becomes
#
# $$ \begin{aligned}
# L(x_0) = \underbrace{\mathrm{KL}\big(q(x_T\mid x_0)\,\|\,p(x_T)\big)}_{L_T}
# &+ \sum_{t=2}^{T} \underbrace{E_{q(x_t \mid x_0)}\Big[
# \mathrm{KL}\big(q(x_{t-1}\mid x_t, x_0)\,\|\,p_\theta(x_{t-1}\mid x_t)\big)\Big]}_{L_{t-1}} \\
# &+ \underbrace{E_{q(x_1 \mid x_0)}\big[-\log p_\theta(x_0\mid x_1)\big]}_{L_0}
# \end{aligned} \tag{4.10} $$
#
# Each term has a plain meaning. $L_T$: is the end of the walk really noise? There is nothing to train in it.
# $L_{t-1}$: is the model's step back the right step back? $L_0$: how well does the last step name the
# picture? And to estimate a term one needs no path, only one jump to $x_t$.
#
# With the Gaussians of chapter 03 put into (4.2), for $t \ge 2$ and $\Sigma_\theta = \sigma_t^2 I$ the term is
#
# $$ L_{t-1} = E_{q(x_t\mid x_0)}\!\left[ \frac{1}{2\sigma_t^2}
# \big|\tilde\mu_t(x_t, x_0) - \mu_\theta(x_t, t)\big|^2 \right]
# + \frac{D}{2}\left( \frac{\tilde\beta_t}{\sigma_t^2} - 1 - \log\frac{\tilde\beta_t}{\sigma_t^2} \right) \tag{4.11} $$
#
# for $D$ pixels: a squared distance of two means, and a constant. Chapter 05 will make a training loss of it.

# %%
def terms_of_bound(x_0, betas, generator):
    """L_T, L_{T-1}, ..., L_0 of (4.10), one x_t for each term and each x_0: (T + 1, N)."""
    T, alpha_bar = len(betas) - 1, (1 - betas).cumprod(0)
    L = [kl_of_normals(alpha_bar[T].sqrt() * x_0, 1 - alpha_bar[T], 0.0, 1.0)]
    for k in range(T, 0, -1):
        eps = torch.randn(x_0.shape, generator=generator)
        x_t = alpha_bar[k].sqrt() * x_0 + (1 - alpha_bar[k]).sqrt() * eps
        if k > 1:
            real = mu(x_t, x_0, k, betas), beta_tilde(k, betas)
            L.append(kl_of_normals(*real, mu_model(x_t, k, betas), betas[k]))
        else:
            L.append(-log_normal(x_0, mu_model(x_t, 1, betas), betas[1]))
    return torch.stack(L)


# %% [markdown]
# *Predict: the same bound, once from whole paths (4.6), once from terms (4.10), both from 200,000 draws. Which
# estimate is the steadier?*

# %%
terms = terms_of_bound(x_0.expand(200_000), betas, seeded(2))  # (9, 200000)
by_terms = terms.sum(0)

# %%
assert abs(by_terms.mean() - log_ratio.mean()) < 4 * (log_ratio.std() + by_terms.std()) / 200_000**0.5
assert log_ratio.std() < 0.8 * by_terms.std()
print(f"paths: mean {log_ratio.mean():.2f}, spread {log_ratio.std():.2f}")
print(f"terms: mean {by_terms.mean():.2f}, spread {by_terms.std():.2f}")

# %% [markdown]
# The same mean, and the *paths* are steadier: along a path the ups and downs of one term are cancelled by those of
# the next. Averaging a step out removes its noise, but the cancellation too. (For a perfect model the ratio in (4.6)
# would be $1/p_\theta(x_0)$ on every path, with no spread at all.) The gain of (4.10) is another: each term stands
# alone. A path needs all its steps and $T$ calls of the network; a term needs one jump and one call, so that training
# may pick a step at random.
#
# The package's `vlb` is this sum, for pictures and for any grid of times. (It starts from
# $\mathcal N(0, \sigma(1)^2 I)$, where its samplers start; with a walk that ends in noise that is (4.4).) It takes a
# step from any $t$ to any $s < t$, with `transition` of chapter 02 and `posterior` of chapter 03, and `vlb_terms`
# hands out term after term.

# %%
from minidiff import vlb
from minidiff.losses import vlb_terms

schedule = FromBetas(betas[1:])
denoise = partial(two.denoise, schedule=schedule)
package = torch.stack(list(vlb_terms(denoise, x_0.expand(200_000, 1), times(8), schedule, seeded(2))))
assert torch.allclose(package, terms, atol=1e-6)
plot.show_source(vlb_terms)

# %% [markdown]
# ## 6. How tight is the bound?
#
# Average (4.11) over the data too. The two means differ only in what they take for the picture:
# $\tilde\mu_t - \mu_\theta = c_t\,(x_0 - \hat x_0)$ with $c_t = \sqrt{\bar\alpha_{t-1}}\,\beta_t /
# (1 - \bar\alpha_t)$, the factor of $x_0$ in (3.4). So all that the bound wants to know about data and network
# is the mean squared error of the denoiser at each step. For the exact denoiser that is the least possible
# one, $E\big[\mathrm{Var}(x_0 \mid x_t)\big]$, which for one number is an integral over $x_t$. (Total variance:
# $E[\mathrm{Var}(x_0 \mid x_t)] = E[x_0^2] - E\big[E[x_0 \mid x_t]^2\big]$.)

# %%
def second_moment(data):
    return (data.weights * (data.means[:, 0] ** 2 + data.stds**2)).sum()


def least_error(data, t, schedule):
    """E Var(x_0 | x_t), by quadrature."""
    density = data.log_prob(x[:, None], t, schedule).exp()
    return second_moment(data) - (density * data.denoise(x[:, None], t, schedule)[:, 0] ** 2).sum() * dx


# %%
def mean_terms(data, betas, variances):
    """L_T, ..., L_0 averaged over the data, for the exact denoiser, steps of any variances: (T + 1,)."""
    T, alpha_bar, schedule = len(betas) - 1, (1 - betas).cumprod(0), FromBetas(betas[1:])
    L = [kl_of_normals((alpha_bar[T] * second_moment(data)).sqrt(), 1 - alpha_bar[T], 0.0, 1.0)]
    for k in range(T, 0, -1):
        c = alpha_bar[k - 1].sqrt() * betas[k] / (1 - alpha_bar[k])
        distance = c * least_error(data, k / T, schedule).sqrt()  # of the two means, in the root mean square
        if k > 1:
            L.append(kl_of_normals(distance, beta_tilde(k, betas), 0.0, variances[k]))
        else:
            L.append(-log_normal(distance, 0.0, variances[1]))
    return torch.stack(L)


# %% [markdown]
# No random number is left in it. First, does it agree with the package's estimate from random draws?

# %%
data = two.sample(100_000, seeded(5))
drawn = vlb(denoise, data, times(8), schedule, seeded(6))
assert abs(drawn.mean() - mean_terms(two, betas, betas).sum()) < 4 * drawn.std() / 100_000**0.5
print(f"vlb of 100,000 points {drawn.mean():.2f}, mean_terms {mean_terms(two, betas, betas).sum():.2f} nats")

# %% [markdown]
# Now the question. The data's entropy is the floor under every model, by (4.1). Above it lies the exact mean
# surprise of our chain, computed on the grid, and above that its bound. *Predict: twice as many steps. What
# happens to the two gaps?*

# %%
def entropy_of(data):
    log_density = data.log_prob(x[:, None], 0.0, schedule)
    return -(log_density.exp() * log_density).sum() * dx


# %%
walks = {T: table(T) for T in (2, 4, 8, 16, 32, 64)}
density = two.log_prob(x[:, None], 0.0, schedule).exp()

# %%
def surprise_of_model(betas):
    return -(density * model_density(betas).clamp(min=1e-300).log()).sum() * dx


own = {T: surprise_of_model(b) - entropy_of(two) for T, b in walks.items()}
bounds = {T: mean_terms(two, b, b).sum() - entropy_of(two) for T, b in walks.items()}

# %%
assert all(0 < own[T] <= bounds[T] for T in walks)
assert 1.8 < bounds[32] / bounds[64] < 2 and 3.4 < own[32] / own[64] < 4
for T in walks:
    print(f"{T:2} steps: the model is {own[T]:.3f} nats above the entropy, its bound {bounds[T]:.3f}")

# %% [markdown]
# The order is always entropy, model, bound. (With two steps the last two are equal to three digits: the first dose
# alone destroys nearly everything, so there is nothing in the path to disagree about.) Once steps are small, doubling
# their number nearly halves the distance of the bound, and nearly quarters that of the model itself: the model is
# better than its bound can prove. Both head for zero: with small steps the bound gives nothing away, *if* the
# denoiser is exact.
#
# **Gaussian data** allow one more comparison, as the true reverse variance is known for every step: (3.6) with
# $c = 0.5$. Three choices for $\sigma_t^2$: the true variance, the upper bound $\beta_t$, the lower bound
# $\tilde\beta_t$ (where, as in DDPM's code, $\tilde\beta_1 = 0$ is replaced by $\tilde\beta_2$, for a density of
# variance zero is not one).
#
# *Predict: for which of the three does the bound come down to the entropy, and with how many steps?*

# %%
one = Mixture(torch.ones(1), torch.zeros(1, 1), torch.tensor([0.5]))


def three_variances(betas):
    alpha_bar = (1 - betas).cumprod(0)
    V = 1 - alpha_bar[:-1] + alpha_bar[:-1] * 0.25  # variance of x_{t-1}
    true = betas[1:] * V / ((1 - betas[1:]) * V + betas[1:])
    lower = beta_tilde(torch.arange(1, len(betas)), betas)
    lower[0] = lower[1]
    steps = {"true variance": true, r"$\beta_t$": betas[1:], r"$\tilde\beta_t$": lower}
    return {name: torch.cat([torch.zeros(1), v]) for name, v in steps.items()}


# %%
Ts = [2**i for i in range(1, 11)]
gaps = {name: [] for name in three_variances(short)}

# %%
for T in Ts:
    for name, variances in three_variances(table(T)).items():
        gaps[name].append(mean_terms(one, table(T), variances).sum() - entropy_of(one))

# %%
alt = "Left, both gaps fall, the model's faster. Right, true variance 0, beta falls to 0, beta-tilde stays above."
picture, (left, right) = plot.figure(alt, 2, width=9.5)
left.plot(list(walks), list(bounds.values()), "o-", color="0.2", label="the bound")
left.plot(list(walks), list(own.values()), "s--", color="0.5", label="the model itself")
left.set(ylabel="nats above the entropy", title="two humps", yscale="log")
for name, marker in zip(gaps, ("^:", "o-", "s--"), strict=True):
    right.plot(Ts, gaps[name], marker, label=name)
right.axhline(0.442, color="0.5", linewidth=1, label="0.442, exercise 1")
right.set(title="one Gaussian", ylim=(-0.05, 1))
for ax in (left, right):
    ax.set_xscale("log", base=2)
    ax.set_xlabel("steps T")
    ax.legend()
picture

# %%
true, upper, lower = (torch.stack(values) for values in gaps.values())
assert true.abs().max() < 1e-8 and 1.9 < upper[-2] / upper[-1] < 2.1
assert 0.442 < lower[-1] < 0.6 and (lower[6:].diff() < 0).all()
print(f"with {Ts[-1]} steps: true {true[-1]:.4f}, beta {upper[-1]:.4f}, beta-tilde {lower[-1]:.2f} nats")

# %% [markdown]
# With the true variance the bound is exact, even for two steps. (What is left, some $10^{-10}$ nats, is
# $\mathrm{KL}(q(x_T)\,\|\,p(x_T))$: all walks together do not quite end in noise.) With $\beta_t$ the gap closes as
# steps shrink. With $\tilde\beta_t$ it first grows, then falls, and *never* closes: in the last few steps, next to the
# data, $\tilde\beta_t$ stays near a half, two thirds, three quarters of the variance it should have (section 4 of
# chapter 03), and each such step costs its share of (4.2). Exercise 1 finds the limit, the grey line.
#
# For *drawing*
# samples chapter 03 took $\tilde\beta_t$, which leaves no noise behind; for the *bound* it must be $\beta_t$, and that
# is what `vlb` uses.
#
# Where along the walk is the bound spent? Choose the number of steps:

# %%
def spent(T):
    bits = mean_terms(two, table(T), table(T)) / torch.tensor(2.0).log()
    alt = f"Bars for {T} steps, in bits: the terms grow towards the data; the last, at 0, is {bits[-1]:.2f}."
    picture, (ax,) = plot.figure(alt, height=2.8)
    ax.bar(torch.arange(T - 1, 0, -1) / T, bits[1:-1], width=0.8 / T, label="$L_{t-1}$")
    ax.bar([0], bits[-1], width=0.8 / T, color=plot.COLOURS[1], label="$L_0$")
    title = f"T = {T}: {bits.sum():.2f} bits, of them $L_T$ {bits[0]:.5f}"
    ax.set(xlabel="(t - 1) / T", ylabel="bits", title=title)
    ax.legend()
    return picture


slider = ipywidgets.IntSlider(16, min=4, max=64, description="steps T", continuous_update=False)
_ = explore(spent, T=slider)

# %% [markdown]
# Blue, the terms of the steps; orange, $L_0$, which may be negative here, because a *density* may be larger than one.
# With more steps $L_0$ falls, and the steps near the data take over its work. The sum of all comes down towards the
# entropy, 0.70 bits for these data:

# %%
in_bits = {T: mean_terms(two, table(T), table(T)) / torch.tensor(2.0).log() for T in (4, 16, 64)}
assert in_bits[4][-1] > in_bits[16][-1] > in_bits[64][-1]
assert abs(entropy_of(two) / torch.tensor(2.0).log() - 0.70) < 0.01
for T, b in in_bits.items():
    print(f"{T:2} steps: {b.sum():.2f} bits, L_0 {b[-1]:.2f}, the steps {b[1:-1].sum():.2f}")

# %% [markdown]
# ## 7. What $L_T$ says about a schedule
#
# $L_T$ has nothing to learn. It is the terminal SNR of chapter 02 in another currency: what the end of the walk still
# knows of the picture is paid for here. Not all of it is lost. Averaged over the data,
#
# $$ E[L_T] = E\big[\mathrm{KL}(q(x_T \mid x_0)\,\|\,q(x_T))\big] + \mathrm{KL}(q(x_T)\,\|\,p(x_T)), $$
#
# where $q(x_T)$ belongs to all walks together (write $\log\frac{q(x_T\mid x_0)}{p(x_T)}$ as a sum of two logarithms).
# The first part is knowledge of the picture that the other terms need not pay for again. The second is lost: it is the
# mismatch of starts that made samples too bright in chapter 02. So $L_T$ is *the most* that a bad end can cost. An
# extreme case: data that are noise already, and a walk that ends half way.

# %%
plain = Mixture(torch.ones(1), torch.zeros(1, 1), torch.ones(1))
halfway = torch.cat([torch.zeros(1), torch.full((7,), 1 - 0.5 ** (1 / 7))])  # alpha_bar_T = 0.5
parts = mean_terms(plain, halfway, halfway)
assert torch.isclose(parts[0] / torch.tensor(2.0).log(), torch.tensor(0.5), atol=1e-4)
assert abs(parts.sum() - entropy_of(plain)) < 1e-5  # half a bit in L_T, and nothing lost

# %% [markdown]
# And the clothes, per pixel, in bits:

# %%
from minidiff import linear_betas, sigmoid_betas

energy = clothes.tensor().double().square().mean()  # E x_0^2 per pixel
ends = {"DDPM": linear_betas(1000), "linear, T = 200": linear_betas(200)}
ends["sigmoid to 0.01"] = sigmoid_betas(100, 1e-5, 1e-2)

# %%
cost = {}
for name, doses in ends.items():
    alpha_bar_T = (1 - doses).prod()
    nats = kl_of_normals((alpha_bar_T * energy).sqrt(), 1 - alpha_bar_T, 0.0, 1.0)
    cost[name] = nats / torch.tensor(2.0).log()
    print(f"{cost[name]:.5f} bits a pixel: {name}")

# %%
alpha, sigma = FromBetas(ends["linear, T = 200"])(1.0)
pictures = clothes.tensor().double()

# %%
package = Gaussian(alpha * pictures, sigma).kl(Gaussian(torch.zeros_like(pictures), torch.tensor(1.0))).mean()
assert torch.isclose(package / 1024 / torch.tensor(2.0).log(), cost["linear, T = 200"])
assert cost["DDPM"] < 1e-4 < 0.05 < cost["linear, T = 200"] < 0.5 < cost["sigmoid to 0.01"]

# %% [markdown]
# Practically nothing for DDPM; up to 0.56 bits for every pixel in the worst of the eight tutorials.
#
# ## 8. Pixels are whole numbers
#
# A photograph does not consist of real numbers. Each pixel is one of 256 grey levels, and a *density* at a level is
# not a probability: it has a unit, grows without limit as the bell gets narrow, and cannot be compared with the
# length of a file. (That is why $L_0$ could be negative above.)
#
# So the last step of the chain, $x_1 \to x_0$, has to
# hand out *probabilities of levels*. DDPM lets each level own the interval up to half way to its neighbours, and
# gives it the mass of the last Gaussian in that interval. On $[-1, 1]$ the levels are $2/255$ apart, so half an
# interval is $1/255$, and the two outermost intervals reach to infinity:
#
# $$ p_\theta(x_0 \mid x_1) = \prod_{i=1}^{D} \int_{\delta_-(x_0^i)}^{\delta_+(x_0^i)}
# \mathcal N\big(u;\ \mu_\theta^i(x_1, 1),\ \sigma_1^2\big)\, du, \qquad
# \delta_\pm(v) = \begin{cases} \pm\infty & \text{if } v = \pm 1 \\ v \pm 1/255 & \text{otherwise}
# \end{cases} \tag{4.12} $$
#
# ($i$ counts pixels.) The integral is a difference of two values of the normal cumulative distribution function.

# %%
levels = torch.linspace(-1, 1, 256)


def mass(level, mean, std):
    """Probability of a grey level under (4.12)."""
    above = torch.where(level > 1 - 1e-3, torch.inf, level + 1 / 255)
    below = torch.where(level < -1 + 1e-3, -torch.inf, level - 1 / 255)
    bell = torch.distributions.Normal(mean, std, validate_args=False)
    return bell.cdf(above) - bell.cdf(below)


# %% [markdown]
# Only $L_0$ of (4.10) changes. It is never negative now, and $L$ bounds a real code length. The 256 probabilities must
# sum to one, wherever the bell stands, also half off the end of the scale:

# %%
for mean, std in [(0.0, 0.3), (0.95, 0.1), (-1.2, 0.02), (0.1, 0.001)]:
    assert torch.isclose(mass(levels, mean, std).sum(), torch.tensor(1.0), atol=1e-12)
print("for four bells the masses of the 256 levels sum to one")

# %%
alt = "Bars over the grey levels: a bell in the middle; one at the right end, whose last bar holds all beyond."
picture, (ax,) = plot.figure(alt, height=2.6)
for mean, colour in [(0.0, plot.COLOURS[0]), (0.97, plot.COLOURS[1])]:
    ax.bar(levels, mass(levels, mean, 0.06), width=2 / 255, color=colour, label=f"mean {mean}")
ax.set(xlabel="grey level, on [-1, 1]", ylabel="probability")
ax.legend()
picture

# %% [markdown]
# The bell near white cannot put its right half anywhere; the outermost level takes it all. For white and black
# that is right: they are what an over- or underexposed pixel is cut to.
#
# *Predict: the mean is 0.5, the standard deviation 0.01 (about one level), and the real pixel is black. How
# large is $\log$ of its probability, on a computer?*

# %%
black, mean = torch.tensor(-1.0), torch.tensor(0.5)
print(f"{mass(black, mean, 0.01).log():.0f} by the difference of two cumulatives")

# %% [markdown]
# Minus infinity: both cumulatives round to 0 (or to 1), their difference to 0. One such pixel, and the whole
# bound is infinite. The package's `discretized_log_likelihood` works with logarithms of the tails throughout. It agrees where the
# simple way works, and where it does not, with what a Gaussian's tail must give, about
# $-\tfrac12 z^2 - \log(z\sqrt{2\pi})$ at $z$ standard deviations.

# %%
from minidiff.losses import discretized_log_likelihood

for centre, std in [(0.0, 0.3), (0.95, 0.1), (-0.99, 0.02)]:
    bell = Gaussian(torch.full((256, 1), centre), torch.tensor(std))
    near = (levels - centre).abs() < 5 * std
    safe = discretized_log_likelihood(bell, levels[:, None], 256).exp()
    assert torch.allclose(safe[near], mass(levels, centre, std)[near], rtol=1e-6)

# %%
z = (mean - (black + 1 / 255)) / 0.01
tail = discretized_log_likelihood(Gaussian(mean[None, None], torch.tensor(0.01)), black[None, None], 256)[0]
assert abs(tail + z**2 / 2 + (z * (2 * torch.pi) ** 0.5).log()) < 1e-3
print(f"{tail:.0f} by discretized_log_likelihood")

# %% [markdown]
# ## 9. Bits per pixel of a photograph
#
# Sums over a picture grow with its size, so they are quoted per number (pixel and colour channel), in bits:
#
# $$ \text{bits per dimension} = \frac{L(x_0)}{D \ln 2} \tag{4.13} $$
#
# The scale has fixed points. A model that thinks all 256 levels equally likely costs exactly 8. One that knows
# how often each level occurs *at each place* of the picture, and nothing more, is a histogram for each of the
# 1,024 pixels. And PNG knows nothing about clothes and a lot about neighbouring pixels: here the file of all 2,000
# test pictures on one sheet. (The black border, a quarter of the 1,024, costs histogram and PNG next to nothing.)

# %%
from minidiff import bits_per_dim

assert torch.isclose(bits_per_dim(1024 * torch.tensor(256.0).log(), 1024), torch.tensor(8.0))
png = shipped("fashion/test.png").stat().st_size * 8 / (len(clothes) * 1024)

# %%
grey = (load("fashion").tensor().flatten(1) * 127.5 + 127.5).round().long()  # (10000, 1024), 0 to 255
counts = torch.zeros(1024, 256).scatter_add_(1, grey.T, torch.ones(1024, len(grey))) + 0.1

# %%
seen = clothes.tensor(slice(0, 100))
places = (seen.flatten(1) * 127.5 + 127.5).round().long().T  # (1024, 100)
histogram = -(counts / counts.sum(1, keepdim=True)).log2().gather(1, places).mean(0)  # (100,)
print(f"even 8 bits a pixel; histogram for each place {histogram.mean():.2f}; PNG {png:.2f}")

# %% [markdown]
# Now the shipped model, which drew the boot of section 2 and the clothes of notebook 00, on 100 photographs it
# has never seen, told their class, with the decoder of (4.12).
#
# *Predict: will it need fewer bits than PNG?*

# %%
labels = clothes.y[:100]
denoiser.requires_grad_(False)  # nothing is trained here
told = partial(denoiser, cond=labels)


def terms_in_bits(T):
    terms = vlb_terms(told, seen, times(T), denoiser.schedule, seeded(7), bins=256)
    return bits_per_dim(torch.stack(list(terms)).double(), 1024)


# %%
bits = {T: terms_in_bits(T) for T in (10, 50, 100)}  # (T + 1, 100) each
for T, b in bits.items():
    L_T, L_0 = b[0].mean(), b[-1].mean()
    print(f"{T:3} steps: {b.sum(0).mean():.2f} bits a pixel, of them L_0 {L_0:.2f}, L_T {L_T:.4f}")

# %%
total = bits[100].sum(0)  # (100,)
worse = total - histogram  # photograph by photograph

# %%
assert 0 < worse.mean() < 0.5 and png + 0.3 < total.mean() < 4.5
assert 0 < bits[10].sum(0).mean() - total.mean() < 0.3 and bits[10][-1].mean() - bits[100][-1].mean() > 1
print(f"more than the histograms need: {worse.mean():.2f}, give or take {worse.std() / 10:.2f}")

# %% [markdown]
# ($L_T$ is 0 because this model's schedule, `Cosine`, ends at $\alpha = 0$.) Ten times the steps save a tenth of a
# bit; mostly they move bits from $L_0$ to the steps. And the model needs *more* than PNG, and no fewer than
# the histograms. Yet nobody would buy a boot from the histograms, each of whose pixels is drawn on its own:

# %%
chances = (counts / counts.sum(1, keepdim=True))[None].expand(8, -1, -1).flatten(0, 1)  # (8 * 1024, 256)
drawn = torch.multinomial(chances, 1, generator=seeded(8)).reshape(8, 1, 32, 32) / 127.5 - 1
plot.images(torch.cat([drawn, clothes.tensor(slice(0, 8))]), columns=8,
            alt="Above, eight clouds of grain in the rough outline of a shirt; below, eight real photographs.")

# %% [markdown]
# Above, draws from the shorter code; below, photographs. *A better likelihood is not a better picture.* Where do
# the model's bits go? Sum its terms from the data side, and see how much of the code is spent on noise of at
# most a given size. One grey level is $2/255 = 0.008$.

# %%
from_data = bits[100].flip(0)[:-1].mean(1).cumsum(0)  # (100,): L_0, L_0 + L_1, ...
sigma = denoiser.schedule(torch.arange(1, 101) / 100)[1]

# %%
alt = "Running sum of the terms over the noise in grey levels: 1.6 bits at 2, 3.0 at 12, 3.6 at 127; ever flatter."
picture, (ax,) = plot.figure(alt, height=2.8)
ax.plot(sigma * 127.5, from_data, ".-")
ax.set(xscale="log", ylim=(0, 4), xlabel="noise in grey levels", ylabel="bits up to this noise")
picture

# %%
assert torch.isclose(sigma[-1], torch.tensor(1.0).to(sigma)) and from_data[1] / from_data[-1] > 0.6
for i in (0, 1):
    print(f"noise up to {sigma[i] * 127.5:.0f} grey levels takes {from_data[i] / from_data[-1]:.0%} of the bits")

# %%
four = seen[:4].double()
dusty = add_noise(four, torch.randn(four.shape, generator=seeded(9)), 2 / 100, denoiser.schedule)  # step 2
plot.images(torch.cat([four, dusty]), columns=4, titles=["clean"] * 4 + ["step 2"] * 4,
            alt="Four photographs above, the same with the noise of step 2 below; the eye hardly finds a difference.")

# %% [markdown]
# Above the photographs, below with the noise of step 2. The bound pays more for this dust, which the eye hardly sees,
# than for everything that makes a boot a boot. (Ho et al. 2020, section 4.3, found the same for small colour
# photographs, CIFAR-10: more than half of the code describes imperceptible distortions.) A network that is to *draw*
# should be trained on another balance of the terms. Chapter 05 is about that balance.
#
# ## 10. The bound from a few random steps
#
# A thousand terms cost a thousand calls of the network for each photograph. Since (4.10) is a sum, a random *sample*
# of its terms will do, weighted right. Write $\ell_k$ for one draw of $L_{k-1}$, the term of the step from
# $k$ to $k - 1$. Draw a step $k$ with probability $p_k$; then
#
# $$ \sum_k E[\ell_k] = E_{k \sim p}\!\left[\frac{\ell_k}{p_k}\right], \qquad
# \text{with least variance for}\quad p_k = \frac{\sqrt{E[\ell_k^2]}}{\sum_j \sqrt{E[\ell_j^2]}} \tag{4.14} $$
#
# (Nichol & Dhariwal 2021, eq. 18; $\ell_k$ is random, through $x_k$ and the picture.) **Proof.** The mean is right for
# any $p$ without zeros. The mean square is $\sum_k E[\ell_k^2] / p_k$, and by the inequality of Cauchy and Schwarz,
# $(\sum a_k b_k)^2 \le \sum a_k^2 \sum b_k^2$ with $a_k = \sqrt{E[\ell_k^2] / p_k}$ and $b_k = \sqrt{p_k}$, it is at
# least $\big(\sum_k \sqrt{E[\ell_k^2]}\big)^2$, which the $p$ of (4.14) attains. $\blacksquare$
#
# *Predict: by what factor does the right $p$ narrow the estimate, compared with even chances for all steps?*

# %%
each = bits[100].flip(0)[:-1]  # (100, 100): row k - 1 is the term of step k, a column for each photograph
root = each.square().mean(1).sqrt()
wise, even = root / root.sum(), torch.full((100,), 0.01)


# %%
def spread(p):
    """Standard deviation of l_k / p_k for a random step and photograph."""
    return ((each.square().mean(1) / p).sum() - total.mean() ** 2).sqrt()


# %%
k = torch.multinomial(wise, 20_000, replacement=True, generator=seeded(10))
who = torch.arange(20_000) % 100
estimate = each[k, who] / wise[k]

# %%
assert abs(estimate.mean() - total.mean()) < 4 * spread(wise) / 20_000**0.5
assert torch.isclose(estimate.std(), spread(wise), rtol=0.1) and spread(wise) < spread(even) / 20
assert spread(wise) < spread(each.mean(1) / each.mean(1).sum())  # chances like the mean term: second best
print(f"spread of one draw: even chances {spread(even):.1f} bits, (4.14) {spread(wise):.1f} bits")

# %% [markdown]
# About 28 times narrower, which saves a factor of nearly 800 in calls (a little flattered, as the same terms gave the $p$).
# So a walk of 1,000 steps can be judged too.
# $E[\ell_k^2]$ is not known beforehand; a rough guess, from a few steps and straight lines between them on
# logarithmic axes, keeps the mean right and costs only a little variance.

# %%
def term(k, x0, generator):
    """The term of step k of 1,000, in bits a pixel: (B,)."""
    step = torch.tensor([k, k - 1.0]) / 1000
    asked = partial(denoiser, cond=labels[: len(x0)])
    _, nats = vlb_terms(asked, x0, step, denoiser.schedule, generator, bins=256)
    return bits_per_dim(nats.double(), 1024)


# %%
import numpy as np

generator = seeded(11)
knots = [1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 1000]

# %%
sizes = [float(term(k, seen[:20], generator).square().mean().sqrt()) for k in knots]
guess = np.exp(np.interp(np.log(np.arange(1, 1001)), np.log(knots), np.log(sizes)))
p = torch.tensor(guess / guess.sum())

# %%
picks = torch.multinomial(p, 100, replacement=True, generator=generator)
draws = torch.stack([term(int(k) + 1, seen[:20], generator).mean() / p[k] for k in picks])

# %%
few, error, hundred = draws.mean(), draws.std() / 10, total[:20].mean()
print(f"1,000 steps: {few:.2f} bits a pixel, give or take {error:.2f}; 100 steps: {hundred:.2f}")

# %%
near = sum(term(k, seen[:20], seeded(20)).mean() for k in range(1, 11))  # the ten steps next to the data
assert error < 0.1 and few > hundred + 3 * error and near > bits[100][-1, :20].mean() + 0.5
print(f"the last ten of 1,000 steps: {near:.2f} bits; the last one of 100: {bits[100][-1, :20].mean():.2f}")

# %% [markdown]
# From 115 terms instead of 1,000. The answer is a surprise: ten times the steps, and *more* bits. In section 6, with
# $\sigma_t^2 = \beta_t$, more steps never hurt; but there the denoiser was exact. The last ten steps of the long
# walk, at noises from 0.2 to 2 grey levels, do what the last step of the short one does, and need three quarters of a bit
# more for it; all the others together save a little less. At 0.2 levels an exact denoiser would round to the nearest level and be
# certain. A network that trained for a quarter of an hour is not, and pays. A bound judges the denoiser and the steps
# together.
#
# ## Errors you will meet
#
# **1. The missing average.** An early print of a much-used textbook gave the sum of divergences in (4.10) without
# the average over $x_t$. One draw of $x_1, \dots, x_T$ is not a bound: its sum may well lie *below* the exact
# $-\log p_\theta(x_0)$.

# %%
below = (by_terms < exact).double().mean()
assert 0.4 < below < 0.8 and by_terms.mean() > exact
print(f"{below:.0%} of the single draws lie below the exact value; their average does not")

# %% [markdown]
# **2. A norm for a variance.** A much-cited article writes the weight in (4.11) as $1 / (2\|\Sigma\|_2^2)$. For
# $\Sigma = \sigma_t^2 I$ that norm is $\sigma_t^2$, so its square makes $1 / (2\sigma_t^4)$. The integral on the
# grid knows better:

# %%
v, shift = 0.1, 0.3  # variance of both bells, distance of their means
by_integral = kl_on_grid(log_normal(x, 0.0, v), log_normal(x, shift, v))
assert torch.isclose(by_integral, torch.tensor(shift**2 / (2 * v)))
assert not torch.isclose(by_integral, torch.tensor(shift**2 / (2 * v**2)), rtol=0.5)

# %% [markdown]
# **3. Pictures from 0 to 1.** A widely read annotated DDPM trains on pictures in $[0, 1]$. Judged by the decoder
# of (4.12), whose intervals are made for levels $2/255$ apart, the intervals overlap by half: between black and white
# the probabilities sum to two, one bit a pixel of undeserved praise; at white to one and a half; at black, where the
# last interval does not open, to about one. The check is the one of section 8.

# %%
sums = [float(mass(torch.linspace(0, 1, 256), centre, 0.02).sum()) for centre in (0.5, 1.0, 0.0)]
assert abs(sums[0] - 2) < 1e-3 and abs(sums[1] - 1.5) < 1e-3 and sums[2] < 1.1
print("256 levels in [0, 1], a bell at grey, white, black: masses sum to", *(f"{m:.2f}" for m in sums))

# %% [markdown]
# **4. Levels where there are none.** Two well-known codes for diffusion on *latents* (chapter 11), which are real
# numbers of any size, still measure them with the decoder for 256 grey levels. All that lies beyond 1 then
# counts as "white", and the model is told that it was right:

# %%
latent = torch.tensor([[1.2], [1.5]])
guess = Gaussian(torch.full((2, 1), 2.5), torch.tensor(0.1))  # ten standard deviations off, and more
credit = discretized_log_likelihood(guess, latent, 256).exp()
assert (credit > 0.999).all() and (guess.log_prob(latent) < -40).all()
print(f"latents 1.2 and 1.5, mean 2.5 +- 0.1: probability {credit[0]:.2f} and {credit[1]:.2f}")

# %% [markdown]
# **5. One term for all.** Several trainers draw one random step and call its $\ell_k$ "the bound". It is an estimate
# of the *mean* term; the bound is the number of steps times that. The check: compare with the sum.

# %%
k = torch.randint(100, (20_000,), generator=seeded(12))
one_term = each[k, who]
assert one_term.mean() < total.mean() / 50
assert abs(100 * one_term.mean() - total.mean()) < 4 * spread(even) / 20_000**0.5
print(f"one term {one_term.mean():.3f}, times 100 {100 * one_term.mean():.1f}; the sum {total.mean():.1f} bits")

# %% [markdown]
# ## Exercises
#
# **1. Pen.** What does $\tilde\beta_t$ cost? Take one pixel. Let all doses be equal and tiny, $\beta_t = \beta$, so
# that $\bar\alpha_t \approx 1 - t\beta$ for the first steps, and the data smooth, so that the least mean squared
# error of a guess $\hat x_0$ at step $t$ is nearly the noise itself, $t\beta$. (a) Show that
# $\tilde\beta_t \approx \frac{t-1}{t}\beta$. (b) Find $L_{t-1}$ of (4.11), averaged over $x_0$ and $x_t$, for
# $\sigma_t^2 = \tilde\beta_t$ and for $\sigma_t^2 = \beta$, and their difference. (The two means differ by
# $c_t (x_0 - \hat x_0)$, as in section 6.) (c) Sum the differences over all steps from 2 on.
#
# <details><summary>Answer</summary>
#
# (a) $\tilde\beta_t = \beta\,(1 - \bar\alpha_{t-1})/(1 - \bar\alpha_t) \approx \beta\,(t-1)\beta / (t\beta)$.
# (b) $c_t = \sqrt{\bar\alpha_{t-1}}\,\beta / (1 - \bar\alpha_t) \approx \beta / (t\beta) = 1/t$, so the means' mean
# squared distance is $t\beta / t^2 = \beta / t$. With $\tilde\beta_t$ the variances agree and
# $L_{t-1} = \frac{\beta/t}{2\tilde\beta_t} = \frac{1}{2(t-1)}$. With $\beta$,
# $L_{t-1} = \frac{1}{2t} + \frac12\big(\frac{t-1}{t} - 1 - \log\frac{t-1}{t}\big) = \frac12\log\frac{t}{t-1}$. The
# difference is $\frac12\big(\frac1{t-1} - \log\frac{t}{t-1}\big) > 0$. (c) The logarithms telescope and the sum
# tends to $\frac12 \lim_n \big(\sum_{j < n} \frac1j - \log n\big) = \gamma / 2 = 0.289$, half of Euler's
# constant: nats for *every pixel*, however many steps. (Section 6 replaced $\tilde\beta_1 = 0$ by
# $\tilde\beta_2 = \beta/2$, which adds $\frac12(1 - \log 2) = 0.153$ in $L_0$. Together 0.442, the grey line.)
#
# </details>
#
# Measured, for a Gaussian and 2,000 equal doses: the sum of (c), and what the replaced $\tilde\beta_1$ adds in $L_0$.

# %%
betas_even = torch.cat([torch.zeros(1), torch.full((2000,), 1e-5)])
variances = three_variances(betas_even)
low, high = (mean_terms(one, betas_even, variances[name]) for name in (r"$\tilde\beta_t$", r"$\beta_t$"))
extra = (low - high)[1:]  # the steps, and L_0 at the end

# %%
assert abs(extra[:-1].sum() - 0.5772157 / 2) < 0.01
assert abs(extra[-1] - (1 - torch.tensor(2.0).log()) / 2) < 0.01
print(f"{extra[:-1].sum():.3f} + {extra[-1]:.3f} nats")

# %% [markdown]
# **2. Code.** Write `prior_bits(x0, alpha_bar_T)`: the term $L_T$ of each picture, in bits per dimension, from (4.2)
# and (4.13).

# %%
from minidiff.course import check


def prior_bits(x0, alpha_bar_T):
    """x0 (B, C, H, W), alpha_bar_T a tensor (): L_T of each picture in bits per dimension, (B,)."""
    ### BEGIN SOLUTION
    v = 1 - alpha_bar_T
    nats = (alpha_bar_T * x0**2 + v - 1 - v.log()) / 2
    return nats.flatten(1).mean(1) / torch.tensor(2.0).log()
    ### END SOLUTION


# %%
def by_the_package(x0, alpha_bar_T):
    end = Gaussian(alpha_bar_T.sqrt() * x0, (1 - alpha_bar_T).sqrt())
    return bits_per_dim(end.kl(Gaussian(torch.zeros_like(x0), torch.tensor(1.0))), x0[0].numel())


coloured = torch.rand(5, 3, 4, 6, generator=seeded(14)) * 2 - 1
cases = [(coloured, torch.tensor(0.1325)), (coloured[:2], torch.tensor(0.605))]
check(prior_bits, by_the_package, cases,
      hint="which Gaussian is x_T for one x0, and which is pure noise? (2.3) has mean and variance of the first")

# %% [markdown]
# **3. Open.** Twenty steps are all you have. Where along $[0, 1]$ should they stand for the *fewest bits* under
# the shipped model? They fall from 1 to 0; `times(20)` spaces them evenly. Try others (crowded near the data; with
# a first step of your choice; even in log SNR, for which $t = \frac2\pi \arctan e^{-\lambda/2}$ has log SNR
# $\lambda$ on `Cosine`), judge with `vlb` on 50 photographs, and then *draw* with the same steps: `draw_with(ts)`
# takes a few seconds. You have found something if the fewest bits come out again with another seed. Do the times
# with the best code draw the best clothes?

# %%
def judge(ts, seed=13):
    nats = vlb(partial(denoiser, cond=labels[:50]), seen[:50], ts, denoiser.schedule, seeded(seed), bins=256)
    return bits_per_dim(nats.double(), 1024).mean()


# %%
crowded = torch.linspace(1, 0, 21) ** 2
print(f"even {judge(times(20)):.2f}, crowded near the data {judge(crowded):.2f} bits a pixel")


# %%
from minidiff import final


def draw_with(ts, n=24):
    """n pieces of clothing of the classes of the first n photographs."""
    start = torch.randn(n, 1, 32, 32, generator=seeded(15), dtype=torch.float32)
    states = ddpm(partial(denoiser, cond=labels[:n]), start, ts, denoiser.schedule, seeded(16))
    return plot.images(final(states), f"{n} pieces of clothing, drawn in {len(ts) - 1} steps.", columns=8)


draw_with(crowded, 4)

# %% [markdown]
# ## What to keep
#
# - The mean surprise of a model is the data's entropy plus a divergence (4.1); for whole grey levels, in bits, it is
#   a file's length.
# - $-\log p_\theta(x_0)$ is an integral over all paths. Averaging $\log(q/p_\theta)$ over *forward* paths bounds it
#   from above (4.6), and the gap is the divergence between the real paths and those the model imagines (4.8).
# - Bayes turns the forward steps round, the rest telescopes: $L_T$, one $L_{t-1}$ for each step, $L_0$ (4.10).
# - Each $L_{t-1}$ is a squared distance of two means and a constant (4.11). All that data and network contribute
#   is the denoiser's squared error.
# - With the exact denoiser and $\sigma_t^2 = \beta_t$ the bound closes as steps shrink; with $\tilde\beta_t$ it never
#   does.
# - Pixels are whole numbers: give them probabilities (4.12), then speak of bits per dimension (4.13).
# - Most bits describe what hardly anybody sees. A good code and a good picture are different aims.
#
# Next: [05 · The simplified loss](05_simplified_loss.ipynb), which chooses the aim.
