# %% [markdown]
# # 03 · Reverse diffusion
#
# **Noise is easy to add. What must we know to take it out again?** Below, 600 points walk from pure noise back to data,
# eight clusters. The grey shows where *noisy* data are likely, the arrows where they are likelier. Here the arrows are
# computed; a network must learn them.

# %%
import torch

from minidiff import FromBetas, Mixture, add_noise, ddpm, linear_betas, times
from minidiff.course import check, diagrams, plot, widgets, yours
from minidiff.data import load, toy

# %%
torch.set_default_dtype(torch.float64)  # formulas are checked to many digits here
schedule = FromBetas(linear_betas(1000))  # DDPM's, from chapter 02
clusters = Mixture(*(part.double() for part in toy.mixture_parameters()))


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def denoise(x, t):
    return clusters.denoise(x, t, schedule)


# %%
crowd = torch.randn(600, 2, generator=seeded(7))
walk = ddpm(denoise, crowd, times(100), schedule, seeded(8))
states = {round(float(state.t), 2): state for state in walk}  # by the time reached
words = {0.6: "to the middle", 0.15: "to the ring", 0.03: "to the clusters"}
panels = [(clusters, t, states[t].x, words[t]) for t in words]
alt = "Three panels of points and arrows: a round cloud, a ring, eight clusters."
diagrams.score_arrows(panels, schedule, alt)

# %% [markdown]
# **You build** the exact step back for one who knows the clean picture, the best denoiser, and from both a sampler. You
# need chapter 02 and Bayes' rule. An hour to read, another for gaps and predictions, half a minute to run.
#
# | letter | meaning |
# |---|---|
# | $x_t = \alpha_t x_0 + \sigma_t \epsilon$ | the state at time $t$, from 0 (data) to 1 (noise) |
# | $s < t$ | two times: a step back goes from $t$ to $s$ |
# | $x_t = \alpha_{ts} x_s + \sigma_{ts} \epsilon'$ | the step *forward*; $\sigma_t^2 = \alpha_{ts}^2 \sigma_s^2 + \sigma_{ts}^2$ (2.5); $\epsilon, \epsilon', z$ are standard normal |
# | $q,\ p_t$ | densities of the way to noise; $p_t(x)$ is $q(x_t)$ at $x_t = x$ |
# | $m,\ v$ | mean and *variance* of a step back; $\mathcal N(x; m, v)$ is the normal density |
# | $\hat x_0 = E[x_0 \mid x_t]$ | the mean of all clean data that could have become $x_t$ |

# %% [markdown]
# ## 1. Walking back blindly
#
# A step forward shrinks, then adds noise. Should a step back subtract noise, then stretch?
#
# *Predict: 200 of DDPM's steps forward, then 200 such steps back. What do you see?*

# %%
clothes, generator = load("fashion").tensor().double(), seeded(0)
x0, betas = clothes[[0, 1, 5, 8]], linear_betas(1000)
eps = torch.randn(x0.shape, generator=generator)
forward = add_noise(x0, eps, 0.2, schedule)

backward = forward
for beta in betas[:200].flip(0):
    z = torch.randn(x0.shape, generator=generator)
    backward = (backward - beta.sqrt() * z) / (1 - beta).sqrt()

# %%
rows = {"data": x0, "200 forward": forward,
        "only stretched": forward / schedule(0.2)[0], '200 "back"': backward}
plot.strips(rows, "Four rows of four pictures.",
            size=96)

# %% [markdown]
# <details><summary>Answer</summary>
#
# More noise than before. The new noise is independent of the noise in the picture, so the variances add, whatever the
# sign. (Section 7 mends this loop with one term.)
#
# </details>

# %% tags=["check"]
# @title ✓ Blind subtraction doubles the noise
alpha, sigma = schedule(0.2)
stretched, walked = (forward / alpha - x0).var(), (backward - x0).var()
assert torch.isclose(stretched, (sigma / alpha) ** 2, rtol=0.05)
assert torch.isclose(walked, 2 * stretched, rtol=0.05)
print(f"✓ variance of the noise: stretched {stretched:.2f}, walked back {walked:.2f}")

# %% [markdown]
# ### One giant step
#
# Or guess the picture at once, in one step.
#
# *Predict: you see only noise, and your guess is judged by its squared error. What is your guess?*

# %%
mean = clothes.mean(0, keepdim=True)
alt = "A guess, and six pictures of the data."
plot.strips({"": torch.cat([mean, clothes[:6]])}, alt, above=["guess"] + ["data"] * 6)

# %% [markdown]
# <details><summary>Answer</summary>
#
# The mean of all pictures, the blur on the left. (Proof in section 4.)
#
# </details>
#
# One giant step gives an *average*, never a *sample*. Many small steps can give a sample. Here each adds random noise.

# %% [markdown]
# ### What Bayes says
#
# A step back should draw an $x_s$ from all that could have become $x_t$. Bayes' rule turns the step forward round:
#
# $$ \begin{gathered}
# q(x_s \mid x_t) = \frac{q(x_t \mid x_s)\; q(x_s)}{q(x_t)}, \\
# q(x_s) = \int q(x_s \mid x_0)\; q(x_0)\, dx_0 .
# \end{gathered} \tag{3.1} $$
#
# This is the *true step back*, or reverse kernel. It needs $q(x_s)$, the density *of all noisy pictures of the world*: an
# integral over the data. For single numbers we compute it on a grid.

# %%
from minidiff import transition

x = torch.linspace(-6, 6, 2401)  # all numbers that matter
dx = x[1] - x[0]


# %%
def normal(x, mean, variance):
    bell = torch.distributions.Normal(mean, variance**0.5)
    return bell.log_prob(torch.as_tensor(x)).exp()


def marginal(data, x_t, t):
    """q(x_t) at points (N,): the integral of (3.1) as a sum over the grid."""
    alpha, sigma = schedule(t)
    return normal(x_t[:, None], alpha * x, sigma**2) @ data * dx


# %% [markdown]
# Two worlds, in which the data are single numbers of mean 0 and variance 1: two humps at -1.2 and 0.8, or one bell.
#
# *Predict: in both we stand at* $x_t = 0$ *at* $t = 0.4$. *Where was each likely to be at* $s = 0.1$*?*

# %%
two_humps = 0.4 * normal(x, -1.2, 0.2**2) + 0.6 * normal(x, 0.8, 0.2**2)
worlds = {"two humps": two_humps, "one hump": normal(x, 0.0, 1.0)}


def way_back(data, x_t, s, t):
    """q(x_s | x_t) on the grid, by (3.1)."""
    alpha_ts, sigma_ts = transition(s, t, schedule)
    came_here = normal(x_t, alpha_ts * x, sigma_ts**2)  # q(x_t | x_s), for each x_s
    joint = came_here * marginal(data, x, s)
    return joint / (joint.sum() * dx)


back = {name: way_back(data, 0.0, 0.1, 0.4) for name, data in worlds.items()}

# %%
alt = "Two densities of where x was, one for each world."
places = {"two humps": (-1.15, 0.48), "one hump": (-0.14, 0.5)}
lines = {name: (back[name], place) for name, place in places.items()}
picture = diagrams.labelled(x, lines, alt, "where it was at s = 0.1", "density")
picture.axes[0].set(xlim=(-2.5, 2.5), ylim=(0, 0.75))
picture.axes[0].axvline(0, color="0.6", linestyle=":")  # where we stand
picture

# %% tags=["check"]
# @title ✓ Two worlds, alike in mean and variance, with different ways back
for name, data in worlds.items():
    mean, p = (x * data).sum() * dx, back[name]
    assert abs(mean) < 1e-6 and abs((x**2 * data).sum() * dx - 1) < 1e-6
    assert abs(p.sum() * dx - 1) < 1e-9
two, one = back.values()
assert two[1200] < 0.2 * two.max() and abs(x[one.argmax()]) < 0.01  # x[1200] is 0
print(f"✓ density at 0: {two[1200]:.2f} with two humps, {one[1200]:.2f} with one")

# %% [markdown]
# <details><summary>Answer</summary>
#
# In the first world near one of its humps, in the second anywhere around 0.
#
# </details>
#
# **The way back depends on the data.** But nobody knows $q(x_0)$ of pictures, and a grid would have $2401^{1024}$ points:
# the integral is *intractable*.

# %% [markdown]
# ## 2. If the picture were known
#
# Suppose somebody tells us $x_0$. Then the integral is gone:
#
# $$ q(x_s \mid x_t, x_0)
# = \frac{q(x_t \mid x_s)\; q(x_s \mid x_0)}{q(x_t \mid x_0)} . \tag{3.2} $$
#
# (The new noise is independent of $x_0$.) Two witnesses speak about $x_s$, each a bell:
#
# - $x_0$ says: near $\alpha_s x_0$, with variance $\sigma_s^2$.
# - $x_t$ says: near $x_t / \alpha_{ts}$, with variance $\sigma_{ts}^2 / \alpha_{ts}^2$.
#
# Here they are for $x_0 = 0.8$, $x_t = -0.8$, $t = 0.2$.
#
# *Predict: for which* $s$ *does the product listen more to* $x_0$, *for which to* $x_t$*?*

# %%
def testimony(*steps, x_t=-0.8, x_0=0.8, t=0.2):
    panels = {}
    for s in steps:
        (alpha_s, sigma_s), (a, b) = schedule(s), transition(s, t, schedule)
        noisy, clean = (x_t / a, (b / a) ** 2), (alpha_s * x_0, sigma_s**2)
        panels[f"$s = {s:.2f}$"] = noisy, clean
    names = "what $x_t$ says", "what $x_0$ says", "both, multiplied"
    return diagrams.two_bells(panels, names, "Two bells and their product, at some s.")


testimony(0.03, 0.1, 0.17)

# %% [markdown]
# <details><summary>Answer</summary>
#
# To $x_0$ for small $s$, to $x_t$ for $s$ near $t$: to the surer witness, with the narrower bell.
#
# </details>
#
# In Jupyter or Colab you can move all three.

# %%
import ipywidgets

s_at = ipywidgets.FloatSlider(0.12, min=0.01, max=0.19, step=0.01, description="s")
x_t_at, x_0_at = (ipywidgets.FloatSlider(at, min=-1.5, max=1.5, description=name)
                  for at, name in ((-0.8, "x_t"), (0.8, "x_0")))
_ = widgets.explore(lambda s, x_t, x_0: testimony(s, x_t=x_t, x_0=x_0),
                    s=s_at, x_t=x_t_at, x_0=x_0_at)

# %% [markdown]
# For any two Gaussians ($\propto$ means equal up to a factor without $x$):
#
# $$ \begin{gathered}
# \mathcal N(x; m_1, v_1)\; \mathcal N(x; m_2, v_2) \;\propto\; \mathcal N(x; m, v), \\
# \frac1v = \frac1{v_1} + \frac1{v_2}, \qquad
# m = v \left( \frac{m_1}{v_1} + \frac{m_2}{v_2} \right) .
# \end{gathered} \tag{3.3} $$
#
# *Precisions, one over variance, add. Means are averaged by precision.* (Proof: compare the factors of $x^2$ and of $x$ in
# the exponents.)
#
# **Your turn**, with pen first: which $v$ and $m$ do the two witnesses give? (Each pixel is handled like a number.)

# %%
def step_back(x_t, x_0, s, t):
    """Return mean and std of q(x_s | x_t, x_0): the product of the two witnesses."""
    (alpha_s, sigma_s), (alpha_ts, sigma_ts) = schedule(s), transition(s, t, schedule)
    ### BEGIN SOLUTION
    v = 1 / ((alpha_ts / sigma_ts) ** 2 + 1 / sigma_s**2)
    mean = v * (alpha_ts * x_t / sigma_ts**2 + alpha_s * x_0 / sigma_s**2)
    return mean, v**0.5
    ### END SOLUTION


# %% tags=["folded"]
# @title Check your answer
from minidiff import posterior


def package(x_t, x_0, s, t):
    step = posterior(x_t, x_0, s, t, schedule)
    return step.mean, step.std


noisy, clean = torch.tensor([-0.8, 2.0]), torch.tensor([0.8, -0.4])
step_back = yours(step_back, package,
                  [(noisy, clean, 0.1, 0.4), (noisy, clean, 0.3, 0.7)],
                  "precisions first: 1 / v is a sum; v weighs the means; std is a root")

# %% [markdown]
# It gets simpler. The two precisions add up to
#
# $$ \frac1v = \frac{\alpha_{ts}^2}{\sigma_{ts}^2} + \frac1{\sigma_s^2}
# = \frac{\alpha_{ts}^2\sigma_s^2 + \sigma_{ts}^2}{\sigma_{ts}^2\,\sigma_s^2}
# = \frac{\sigma_t^2}{\sigma_{ts}^2\,\sigma_s^2} , $$
#
# the last by (2.5). So for any two times $s < t$ we have the [posterior](../docs/glossary.md#posterior) of a step
# ([@kingma2021]; one step apart, [@ho2020])
#
# $$ \begin{gathered}
# q(x_s \mid x_t, x_0) = \mathcal N\!\left(x_s;\ m,\ v I\right), \\
# m = \frac{\alpha_{ts}\,\sigma_s^2}{\sigma_t^2}\; x_t + \frac{\alpha_s\,\sigma_{ts}^2}{\sigma_t^2}\; x_0,
# \qquad v = \frac{\sigma_{ts}^2\,\sigma_s^2}{\sigma_t^2} .
# \end{gathered} \tag{3.4} $$
#
# > **How the papers write it.** With $s$ one step before $t$, and their $\alpha_t = 1 - \beta_t$, our
# > $\alpha_{ts}$, $\sigma_{ts}^2$ are $\sqrt{\alpha_t}$, $\beta_t$, and (3.4) is
# > $\mathcal N(x_{t-1};\ \tilde\mu_t,\ \tilde\beta_t I)$ with
# >
# > $$ \tilde\mu_t = \frac{\sqrt{\alpha_t}\,(1 - \bar\alpha_{t-1})}{1 - \bar\alpha_t}\, x_t
# > + \frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1 - \bar\alpha_t}\, x_0, \qquad
# > \tilde\beta_t = \frac{1 - \bar\alpha_{t-1}}{1 - \bar\alpha_t}\,\beta_t . $$
#
# The package's `posterior` returns (3.4) as a `Gaussian` with `mean`, `std`, the *root* of $v$, and `sample`.

# %% tags=["check"]
# @title ✓ (3.4) is what Bayes says on a grid, for near and far times
near = torch.linspace(-4, 4, 40_001)
for s, t in ((0.004, 0.005), (0.1, 0.4)):
    (a, b), (alpha_s, sigma_s) = transition(s, t, schedule), schedule(s)
    bayes = normal(0.75, a * near, b**2) * normal(near, alpha_s * 0.8, sigma_s**2)
    bayes = bayes / torch.trapezoid(bayes, near)
    step = posterior(torch.tensor([0.75]), torch.tensor([0.8]), s, t, schedule)
    mean = torch.trapezoid(near * bayes, near)
    variance = torch.trapezoid((near - mean) ** 2 * bayes, near)
    error = torch.stack([step.mean[0] / mean, step.std.squeeze() ** 2 / variance]) - 1
    assert error.abs().max() < 1e-4
print("✓ mean and variance agree with brute force, one step apart and 300")

# %% [markdown]
# **In terms of the noise.** A network may guess the noise instead. Put
# $x_0 = (x_t - \sigma_t\epsilon)/\alpha_t$ into (3.4), with $\alpha_t = \alpha_s \alpha_{ts}$. By (2.5) the two factors
# of $x_t$ add up to
#
# $$ \frac{\alpha_{ts}\sigma_s^2}{\sigma_t^2} + \frac{\sigma_{ts}^2}{\alpha_{ts}\sigma_t^2}
# = \frac{\alpha_{ts}^2\sigma_s^2 + \sigma_{ts}^2}{\alpha_{ts}\sigma_t^2} = \frac1{\alpha_{ts}} , $$
#
# and so
#
# $$ m = \frac{1}{\alpha_{ts}} \left( x_t - \frac{\sigma_{ts}^2}{\sigma_t}\; \epsilon \right) . \tag{3.5} $$
#
# The step takes away a part of $\epsilon$, the noise that *is* in $x_t$. Then it *adds* fresh noise $\sqrt v\, z$.
#
# *Predict: at step 500, which is larger: the factor of the noise taken away, or that of the noise added?*

# %%
for k in (1, 2, 100, 500):
    s, t = (k - 1) / 1000, k / 1000
    blind = transition(s, t, schedule)[1]
    before, after = schedule(t)[1], schedule(s)[1]  # sigma_t, sigma_s
    print(f"step {k:3}: takes {blind**2 / before:.4f} of the old noise, adds",
          f"{blind * after / before:.4f} of new noise; blind adds {blind:.4f}")

# %% [markdown]
# <details><summary>Answer</summary>
#
# What it adds is nearly ten times larger, as large as in the blind walk! That walk lacked only the small term.
#
# </details>
#
# How can so small a term win? Fresh noise adds its *variance*, $\sigma_{ts}^2$. The small term shortens the noise that is
# there, from $\sigma_t$ to $\sigma_t - \sigma_{ts}^2/\sigma_t$, and so its variance by
#
# $$ \sigma_t^2 - \Big(\sigma_t - \frac{\sigma_{ts}^2}{\sigma_t}\Big)^2 \approx 2\,\sigma_{ts}^2 : $$
#
# **half of it undoes the step forward, the other half makes room for the fresh noise.**

# %% tags=["check"]
# @title ✓ (3.5) is (3.4)
eps, clean = torch.randn(2, 2, generator=seeded(2))
for s, t in ((0.0, 0.001), (0.1, 0.4), (0.299, 0.3), (0.2, 1.0)):
    noisy, (a, b) = add_noise(clean, eps, t, schedule), transition(s, t, schedule)
    by_noise = (noisy - b**2 / schedule(t)[1] * eps) / a
    by_picture = posterior(noisy, clean, s, t, schedule).mean
    assert torch.allclose(by_noise, by_picture, atol=1e-8)
b, sigma_t = transition(0.499, 0.5, schedule)[1], schedule(0.5)[1]  # step 500
takes, adds = b**2 / sigma_t, posterior(noisy, clean, 0.499, 0.5, schedule).std.mean()
off = (sigma_t**2 - (sigma_t - takes) ** 2) / adds**2  # in variance
assert 9 < adds / takes < 10 and abs(adds / b - 1) < 0.001 and abs(off - 2) < 0.02
print(f"✓ one mean, to 1e-8; step 500 adds {adds / takes:.1f} times what it takes,",
      f"yet takes off {off:.2f} times the variance that it adds")

# %% [markdown]
# ## 3. The true step back, and why steps are small
#
# Nobody tells us $x_0$. For single numbers the grid has the true step (3.1).
#
# *Predict: data with two humps, and we stand at* $x_t = 0$ *at* $t = 0.4$. *Which shape has a long step back, which a
# short one?*

# %%
def moments(p):
    mean = (x * p).sum() * dx
    return mean, ((x - mean) ** 2 * p).sum() * dx


# %%
panels = {}
for s in (0.05, 0.2, 0.35):
    true = way_back(two_humps, 0.0, s, 0.4)
    panels[f"from 0.4 to {s}"] = true, normal(x, *moments(true))
alt = "The true step for three lengths, and the best Gaussian for each."
diagrams.against(x, panels, ("true", "best Gaussian"), alt)

# %% [markdown]
# <details><summary>Answer</summary>
#
# A long step has two humps, and the best Gaussian lies between them. A short one is a bell.
#
# </details>
#
# Why? As a function of $x_s$ a short step forward is a narrow bell around $x_t/\alpha_{ts}$. Across it $\log p_s$ is
# nearly a straight line, so by (3.1)
#
# $$ \log q(x_s \mid x_t) \approx -\frac{\alpha_{ts}^2}{2\sigma_{ts}^2}
# \left| x_s - \frac{x_t}{\alpha_{ts}} \right|^2 + (x_s - x_t) \cdot \nabla \log p_s(x_t) + \text{const.} $$
#
# A parabola plus a straight line is the same parabola, moved. **Long steps back are not Gaussian, short ones nearly
# are.** Hence many small steps ([@sohldickstein2015]; limit: [@anderson1982]; this short proof: [@nakkiran2024]).

# %% tags=["check"]
# @title ✓ How far from Gaussian: the KL divergence of chapter 02, in nats
def far(step):
    true = way_back(two_humps, 0.0, 0.4 - step, 0.4)
    mean, variance = moments(true)
    log = -((x - mean) ** 2 / variance + (2 * torch.pi * variance).log()) / 2
    return (torch.xlogy(true, true) - true * log).sum() * dx


assert far(0.35) > 0.1 and far(0.05) < 0.01 and 7 < far(0.01) / far(0.005) < 9
print(f"✓ KL from the best Gaussian: {far(0.35):.2f} for step 0.35, {far(0.05):.0e}",
      f"for 0.05; halving 0.01 divides it by {far(0.01) / far(0.005):.1f} (limit: 8)")

# %% [markdown]
# ### Data with a formula
#
# A grid works for single numbers only. But a **mixture**, like the two humps, has formulas. Each point picks a component
# $j$ with probability $w_j$, and falls around its centre $d_j$ with standard deviation $c_j$. With noise, each component is
# a Gaussian again (2.2), so *a mixture stays a mixture*:
#
# $$ p_t(x) = \sum_j w_j\; \mathcal N_j(x), \qquad
# \mathcal N_j(x) = \mathcal N\!\left(x;\ \alpha_t d_j,\ (\alpha_t^2 c_j^2 + \sigma_t^2)\, I\right) . \tag{3.6} $$
#
# *Predict: the two humps at* $t = 0.2$, *and we stand at* $x_t = -0.5$, *between them. From which hump did we come?*

# %%
humps = Mixture(torch.tensor([0.4, 0.6]), torch.tensor([[-1.2], [0.8]]),
                torch.tensor([0.2, 0.2]))


def responsibilities(mixture, x_t, t):
    """Return the share of each component in p_t at points x_t (N, D): (N, J)."""
    alpha, sigma = schedule(t)
    v = (alpha * mixture.stds) ** 2 + sigma**2
    square = torch.cdist(x_t, alpha * mixture.means) ** 2
    logs = mixture.weights.log() - square / (2 * v) - x_t.shape[1] / 2 * v.log()
    return logs.softmax(1)


# %% tags=["folded"]
# @title Compute both components, at t = 0.2 and at 0
here, alpha, sigma = torch.tensor([-0.5]), *schedule(0.2)
weights, back = humps.weights, humps.reverse(here, 0.0, 0.2, schedule)
noised = [w * normal(x, alpha * d, (alpha * 0.2) ** 2 + sigma**2)
          for w, d in zip(weights, humps.means[:, 0], strict=True)]
(m_1, m_2), (v_1, v_2) = back.means[:, 0], back.stds[:, 0] ** 2
(r_1, r_2), mean = back.weights, float(back.weights @ back.means[:, 0])
fits = [r_1 * normal(x, m_1, v_1), r_2 * normal(x, m_2, v_2)]
print(f"share of the two components at x_t: {r_1:.2f} and {r_2:.2f}")

# %%
panels = {"$p_t$ at $t = 0.2$": (noised, -0.5, "$x_t$"),
          "$x_0$, given $x_t$": (fits, mean, "mean")}
alt = "Two wide bells, the left three times as high at x_t; two narrow ones; a mean."
diagrams.components(x, panels, alt)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Three times in four from the left one: at $x_t$ its curve is three times as high. On the right is what $x_0$ can be.
#
# </details>
#
# This probability is the *responsibility* of component $j$, by Bayes' rule
#
# $$ r_j(x_t) = \frac{w_j\, \mathcal N_j(x_t)}{\sum_k w_k\, \mathcal N_k(x_t)} . $$
#
# If we knew $j$, there would again be two witnesses for $x_s$: component $j$ and $x_t$. By (3.3) they give a mean $m_j$
# and a variance $v_j$. So the true step back is a mixture too:
#
# $$ q(x_s \mid x_t) = \sum_j r_j(x_t)\; \mathcal N(x_s;\ m_j,\ v_j I) . \tag{3.7} $$

# %% [markdown]
# ### How wide is a step?
#
# A Gaussian needs a variance. For data of variance at most one, and $\alpha^2 + \sigma^2 = 1$, that of the true step is on
# average
#
# $$ v \;\le\; E\big[\mathrm{Var}(x_s \mid x_t)\big] \;\le\; \sigma_{ts}^2 . \tag{3.8} $$
#
# The lower bound is right if only one $x_0$ is possible, the upper one if the data are standard normal
# ([@sohldickstein2015]; proof in *deeper*). In short steps they nearly meet. DDPM tried both; the package takes $v$.

# %% tags=["check"]
# @title ✓ (3.7) is what Bayes says on a grid
for u, s in ((0.0, 0.1), (-0.46, 0.1), (1.0, 0.2)):
    step = humps.reverse(torch.tensor([u]), s, 0.4, schedule)
    bayes = way_back(two_humps, u, s, 0.4)
    error = (step.log_prob(x[:, None], 0.0, schedule).exp() - bayes).abs().max()
    r = responsibilities(humps, torch.tensor([[u]]), 0.4)[0]
    assert error < 1e-8 and torch.allclose(r, step.weights)
left, right = (w * normal(-0.5, alpha * d, (alpha * 0.2) ** 2 + sigma**2)
               for w, d in ((0.4, -1.2), (0.6, 0.8)))  # the picture, at t = 0.2
r = responsibilities(humps, torch.tensor([[-0.5]]), 0.2)[0]
assert torch.isclose(r[0] / r[1], left / right) and abs(r[0] - 0.75) < 0.01
print(f"✓ densities of three steps to 1e-8; at x_t = -0.5 the left has {r[0]:.2f}")

# %% [markdown]
# ## 4. The best guess at the picture
#
# A Gaussian needs a mean, too, and section 1 left a blur to explain. A [denoiser](../docs/glossary.md#denoiser) is a
# function $f(x_t)$ that guesses $x_0$. Which one has the least squared error? With $\hat x_0 = E[x_0 \mid x_t]$, for any
# $f$
#
# $$ E\,|x_0 - f|^2 = E\,|x_0 - \hat x_0|^2 + E\,|\hat x_0 - f|^2 , $$
#
# because at a fixed $x_t$ the mixed term $2(x_0 - \hat x_0)\cdot(\hat x_0 - f)$ averages to 0, as its first factor does.
# So the best denoiser is $f = \hat x_0$, the *posterior mean*.

# %% [markdown]
# For a mixture it is the line "mean" in the picture of section 3. Component $j$ says $d_j$ with variance $c_j^2$, the other witness
# $x_t/\alpha_t$ with variance $\sigma_t^2/\alpha_t^2$. Average the two by (3.3), then over $j$:
#
# $$ \hat x_0 = \sum_j r_j(x_t) \left( d_j
# + \frac{\alpha_t c_j^2}{\alpha_t^2 c_j^2 + \sigma_t^2}\, (x_t - \alpha_t d_j) \right) . \tag{3.9} $$
#
# In the package: `Mixture.log_prob`, `reverse`, `denoise`.
#
# *Predict: how does* $\hat x_0$ *depend on* $x_t$, *for little noise, for some, for nothing but noise?*

# %%
places = {0.05: (1.35, 1.65), 0.2: (-0.75, -0.55), 0.6: (1.6, 0.42), 1.0: (-1.6, 0.12)}
lines = {f"t = {t}": (humps.denoise(x[:, None], t, schedule)[:, 0], place)
         for t, place in places.items()}
alt = "Four curves, one for each t, and dotted lines at the centres."
picture = diagrams.labelled(x, lines, alt, "$x_t$", "best guess at $x_0$")
picture.axes[0].set(xlim=(-2, 2), ylim=(-2, 2))
for centre in (-1.2, 0.8):
    picture.axes[0].axhline(centre, color="0.6", linestyle=":")
picture

# %% [markdown]
# <details><summary>Answer</summary>
#
# With little noise it stays near what it sees, but for a jump between the humps, near $-0.2$. At $t = 0.2$ the jump is
# soft: *between the humps it hedges*. At $t = 1$ it says the mean: the blur.
#
# </details>

# %% tags=["check"]
# @title ✓ (3.9) is the average of half a million pairs; others guess worse
pure = humps.sample(500_000, seeded(3))[:, 0]
seen = add_noise(pure, torch.randn(pure.shape, generator=seeded(6)), 0.2, schedule)
places = torch.linspace(-1.975, 1.975, 80)
best, curve = (humps.denoise(y[:, None], 0.2, schedule)[:, 0] for y in (seen, places))
rivals = schedule(0.2)[0] * seen, best + 0.1 * (3 * seen).sin(), 0.9 * best
least, *errors = [(pure - f).square().mean() for f in (best, *rivals)]
extra = torch.stack([(best - f).square().mean() for f in rivals])
assert ((torch.stack(errors) - least) / extra - 1).abs().max() < 0.2
bins = ((seen + 2) / 0.05).long().clamp(0, 79)  # 80 of width 0.05
found = bins.bincount(pure) / bins.bincount()  # averages
assert (found - curve)[15:65].abs().max() < 0.05 and min(errors) > least + 0.003
print(f"✓ error {least:.3f}; alpha x_t, a wave, 0.9:", *(f"{e:.3f}" for e in errors))

# %% tags=["check"]
# @title ✓ The best guess in the humps, and when there is only noise
little, some, timid, none = (humps.denoise(x[:, None], t, schedule)[:, 0]
                             for t in (0.05, 0.2, 0.6, 1.0))
inner = x.abs() < 2
assert 0.1 < timid[inner].abs().max() < 0.4 and none[inner].abs().max() < 0.05
steep = little.diff().argmax()  # the jump, from -0.35 to -0.05
rise = little[(x + 0.05).abs().argmin()] - little[(x + 0.35).abs().argmin()]
assert abs(x[steep] + 0.2) < 0.03 and rise > 0.9
assert (little - x)[x.abs() < 1.5].abs().max() < 0.4
left, right = some[(x + 1.2).abs().argmin()], some[(x - 0.8).abs().argmin()]
assert abs(left + 1.2) < 0.1 and abs(right - 0.8) < 0.1
print(f"✓ at t = 0.2 it says {left:.2f} at -1.2, {right:.2f} at 0.8; at t = 1 nearly 0")

# %% [markdown]
# ## 5. The first samples
#
# Put the best guess into the step back. With $v$ as in (3.4) and fresh noise $z$,
#
# $$ x_s = \frac{\alpha_{ts}\,\sigma_s^2}{\sigma_t^2}\; x_t
# + \frac{\alpha_s\,\sigma_{ts}^2}{\sigma_t^2}\; \hat x_0 + \sqrt v\; z, \qquad
# z \sim \mathcal N(0, I). \tag{3.10} $$
#
# This is [ancestral sampling](../docs/glossary.md#ancestral-sampling) (DDPM's algorithm 2). May an average stand for
# the picture? Yes, for the mean: $m$ is linear in $x_0$, so (3.10) has the mean of the true step, however long.

# %% [markdown]
# **Your turn.** Walk from noise to data. `ts` is a falling grid of times; `denoise`, from the top, is the best
# denoiser of the eight clusters.

# %%
from itertools import pairwise


def ancestral(x, ts, seed):
    """Return x at the last of the falling times ts; each step samples (3.10)."""
    generator = seeded(seed)
    ### BEGIN SOLUTION
    for t, s in pairwise(ts):  # from t to s < t
        x = posterior(x, denoise(x, t), s, t, schedule).sample(generator)
    return x
    ### END SOLUTION


# %% tags=["folded"]
# @title Check your answer
from minidiff import final


def by_package(x, ts, seed):
    return final(ddpm(denoise, x, ts, schedule, seeded(seed)))


cases = [(crowd[:2], times(3), 5), (crowd[:50], times(20), 6)]
ancestral = yours(ancestral, by_package, cases,
                  hint="for t, s in pairwise(ts): posterior with denoise(x, t) for x0; "
                       "sample")

# %% [markdown]
# The package's `ddpm` is the same loop and hands over each state; `final` takes the last. First six single numbers walk
# back to the humps.

# %%
def guess(x, t):
    return humps.denoise(x, t, schedule)


ts, start = times(100), torch.linspace(-1.5, 1.5, 6)[:, None]
walk = ddpm(guess, start, ts, schedule, seeded(5))
paths = torch.cat([start, *(state.x for state in walk)], 1).T  # (101, 6)
alt = "Six jagged paths from a wide bell at t = 1 to two bands at t = 0."
diagrams.ribbon(humps, schedule, ts, paths, alt, arrow="back: data come out")

# %% [markdown]
# The fresh noise decides where they end. Now the 600 points of the opening picture, each with the guess that leads it.

# %%
four = {f"t = {t:.2f}": (states[t].x, states[t].x0) for t in (0.64, 0.32, 0.16, 0.03)}
alt = "Points and guesses: one blot in the middle, a square, a ring, eight clusters."
diagrams.guesses(four, alt)

# %% [markdown]
# The guesses take the shape of the data before the points do. Nothing was trained!

# %% [markdown]
# ### Is it right?
#
# We send 4,000 starts along seven walks:
#
# - 5, 20, 100 and 500 steps of your `ancestral`;
# - 5 steps, each drawn from the *true step* (3.7): a component, then a point of its bell;
# - 500 steps without noise: (3.10) with $z = 0$;
# - the same, but each step takes away only *half* of the term with $\epsilon$ in (3.5).
#
# *Predict: which of these walks end with the distribution of the data?*

# %%
def true_step(x_t, s, t, generator):
    """Draw x_s (N, 2) from (3.7), for clusters: j by r_j, then by m_j, v_j."""
    (alpha_s, sigma_s), (a, b) = schedule(s), transition(s, t, schedule)
    r = responsibilities(clusters, x_t, t)
    j = torch.multinomial(r, 1, generator=generator)[:, 0]
    V = (alpha_s * clusters.stds[j, None]) ** 2 + sigma_s**2  # of component j at s
    v = 1 / (1 / V + (a / b) ** 2)  # (3.3): the component, and x_t
    m = v * (alpha_s * clusters.means[j] / V + a * x_t / b**2)
    return m + v.sqrt() * torch.randn(x_t.shape, generator=generator)


# %%
def by_noise(n, take, add):
    """n steps that take `take` times the term of (3.5), add `add` * sigma_ts z."""
    points, generator = cloud, seeded(10)
    for t, s in pairwise(times(n)):
        (alpha, sigma), (a, b) = schedule(t), transition(s, t, schedule)
        eps = (points - alpha * denoise(points, t)) / sigma  # the best guess
        points = (points - take * b**2 / sigma * eps) / a
        if s > 0:  # no noise in the last step
            points = points + add * b * torch.randn(points.shape, generator=generator)
    return points


# %%
truth = clusters.sample(4000, seeded(4))
cloud = torch.randn(4000, 2, generator=seeded(9))
clouds = {f"{n} steps": ancestral(cloud, times(n), 10) for n in (5, 20, 100, 500)}
points, generator = cloud, seeded(10)
for t, s in pairwise(times(5)):
    points = true_step(points, s, t, generator)
clouds |= {"5 true steps": points, "no noise": by_noise(500, 1, 0),
           "half, no noise": by_noise(500, 0.5, 0), "data": truth}
diagrams.clouds(clouds, "Eight clouds of points, in two rows.", columns=4,
                window=(-1.9, 1.9))

# %% tags=["folded"]
# @title Measure them; and two more, with the variance sigma_ts^2
def measure(points):
    """Share of strays, width of common clusters, share of rare ones, spread."""
    widths, which = (torch.cdist(points, clusters.means) / clusters.stds).min(1)
    stray, common = widths > 3, clusters.weights > 0.1
    own = [points[(which == j) & ~stray] for j in common.nonzero()[:, 0]]
    off = torch.cat([(part - part.mean(0)).norm(dim=1) for part in own if len(part)])
    rare = (~common)[which].double().mean()  # 1.177: half of a bell in the plane
    return stray.double().mean(), off.median() / 1.177, rare, points.std()


wide = {f"{n}, sigma_ts^2": by_noise(n, 1, 1) for n in (20, 100)}
print("                strays  width  rare  spread")
for name, points in (clouds | wide).items():
    print("{:>15}  {:6.1%}  {:5.2f}  {:4.0%}  {:6.2f}".format(name, *measure(points)))

# %% [markdown]
# <details><summary>Answer</summary>
#
# "5 true steps", "half, no noise", and nearly "500 steps", whose clusters are still a little narrow.
#
# </details>
#
# *Strays* are more than three widths from every cluster. *Width* and *spread* are standard deviations, of a common cluster
# and of all points; *rare* is the share of the four rare clusters.
#
# **Five steps fail by their shape.** Between two clusters the true step has two humps. A Gaussian lands between them:
# nearly half of the points are strays. Five *true* steps are as long, and right. But a network tells only a mean: then
# steps must be short.

# %% [markdown]
# ### Why add noise at all?
#
# Without noise we get eight specks, drawn in to the middle, and the rare clusters have almost died out. Yet with half of
# the term all is right. Why? By section 2 the whole term takes off twice the variance that the step forward added, to make
# room for fresh noise. **The whole term is made for a walk with noise; half of it will do without** (chapter 08).
#
# In the last two rows $\sigma_{ts}^2$ stands for $v$. At 20 steps it nearly mends the width, but not the strays: the step
# still has one hump. At 100 it is a little too wide, as $v$ is a little too narrow.

# %% tags=["check"]
# @title ✓ The mean of (3.10) is that of the true step
for s, t in ((0.39, 0.4), (0.1, 0.4), (0.2, 0.9)):
    for u in (-1.5, 0.0, 1.0):
        here = torch.tensor([[u]])
        ours = posterior(here, guess(here, t), s, t, schedule).mean[0, 0]
        assert torch.isclose(ours, moments(way_back(two_humps, u, s, t))[0], atol=1e-8)
print("✓ to 1e-8, at nine places and for steps of three lengths")

# %% tags=["check"]
# @title ✓ 500 steps draw the right moments, 5 and 20 do not
(stray_5, *_), (stray_20, narrow, *_), (_, nearly, *_), (stray, width, *_) = (
    measure(clouds[f"{n} steps"]) for n in (5, 20, 100, 500))
assert stray_5 > 0.4 and 0.02 < stray_20 < 0.06 and narrow < 0.165
assert abs(stray - 0.011) < 0.005 and abs(measure(truth)[0] - 0.011) < 0.005
assert 0.17 < nearly < 0.19 and 0.185 < width < 0.2
share = torch.cdist(clouds["500 steps"], clusters.means).argmin(1).bincount() / 4000
nearer = measure(states[0.1].x0)[0] / measure(states[0.1].x)[0]
assert states[0.99].x0.abs().max() < 0.05 and nearer < 0.7  # the guesses lead
assert torch.allclose(share, clusters.weights, atol=0.025)
assert torch.allclose(clouds["500 steps"].std(0), torch.ones(2), atol=0.04)
print("✓ with 500 steps shares to 0.025, widths to 0.015, overall spread to 0.04")

# %% tags=["check"]
# @title ✓ Shape: five true steps suffice; more noise does not mend strays
stray_true, width_true, rare_true, spread_true = measure(clouds["5 true steps"])
assert abs(stray_true - 0.011) < 0.005 and abs(width_true - 0.2) < 0.01
assert abs(rare_true - 0.25) < 0.025 and abs(spread_true - 1) < 0.02
(more_20, wide_20, *_), (more_100, wide_100, *_) = map(measure, wide.values())
assert more_20 > stray_20 and 0.2 < wide_20 < 0.22
assert more_100 > 0.015 and 0.2 < wide_100 < 0.22
print(f"✓ five steps: {stray_true:.1%} strays by (3.7), {stray_5:.0%} by (3.10); with",
      f"sigma_ts^2 {more_20:.1%} at 20 steps, for {stray_20:.1%}")

# %% tags=["check"]
# @title ✓ Without noise half of the term is right; more and less of it are not
stray, width, rare, spread = measure(clouds["half, no noise"])
assert stray < 0.025 and abs(width - 0.2) < 0.01 and abs(rare - 0.25) < 0.03
assert abs(spread - 1) < 0.02
_, speck, few, drawn_in = measure(clouds["no noise"])
assert speck < 0.06 and few < 0.08 and 0.74 < drawn_in < 0.82
by_share = [measure(by_noise(200, take, 0))[3] for take in (0.4, 0.5, 0.6)]
assert by_share[0] > 1.2 and abs(by_share[1] - 1) < 0.03 and by_share[2] < 0.9
print("✓ spread for 0.4, half, 0.6 and all of the term:",
      *(f"{v:.2f}" for v in (*by_share, drawn_in)))

# %% [markdown]
# ## 6. A denoiser with perfect memory
#
# For pictures we have no formula, but a data set. Suppose that only its $N$ pictures $d_n$ are possible, equally likely: a
# mixture of $N$ Gaussians of width 0. Then (3.9) becomes
#
# $$ \hat x_0 = \sum_n r_n(x_t)\; d_n, \qquad
# r_n(x_t) = \underset{n}{\mathrm{softmax}}
# \left( -\frac{|x_t - \alpha_t d_n|^2}{2\,\sigma_t^2} \right) . \tag{3.11} $$
#
# Each picture counts by how well it explains what we see ([@karras2022], appendix B). In the package: `Empirical`. We show it a boot that it knows and a shirt that is new.
#
# *Predict: what will it guess?*

# %%
from minidiff import Empirical

wardrobe, new = clothes[:2000], load("fashion", "test").tensor().double()
memory, six = Empirical(wardrobe), torch.tensor([0.05, 0.2, 0.4, 0.6, 0.8, 1.0])


def look(picture):
    eps = torch.randn(6, 1, 32, 32, generator=seeded(12))
    noisy = add_noise(picture.expand(6, 1, 32, 32), eps, six, schedule)
    return noisy, memory.denoise(noisy, six, schedule)


# %%
(boots, of_boots), (shirts, of_shirts) = look(wardrobe[11]), look(new[4])
blank = torch.ones(1, 1, 32, 32)
rows = {"a boot": torch.cat([wardrobe[11:12], boots]),
        "guess": torch.cat([blank, of_boots]),
        "a new shirt": torch.cat([new[4:5], shirts]),
        "guess ": torch.cat([blank, of_shirts])}
above = ["clean"] + [f"t = {t:.2f}" for t in six]
plot.strips(rows, "A boot and a shirt, clean, in noise, and as guessed.", above=above)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Up to $t = 0.4$ it finds the boot exactly: 1,024 pixels are 1,024 witnesses. With more noise many pictures fit, and it
# averages. The new shirt becomes *another* shirt, and a third one at $t = 0.2$. A perfect memory cannot see what is new.
#
# </details>
#
# *Predict: a walk from pure noise, with this denoiser. What comes out?*

# %%
seeds = torch.randn(8, 1, 32, 32, generator=seeded(13))
drawn = final(ddpm(lambda x, t: memory.denoise(x, t, schedule), seeds, times(50),
                   schedule, seeded(14)))

# %%
from minidiff.app.metrics import nearest

distance, index = nearest(drawn, wardrobe)
plot.strips({"drawn": drawn, "in memory": wardrobe[index]},
            "Two rows of eight pictures.")

# %% [markdown]
# <details><summary>Answer</summary>
#
# Sharp clothes, each *exactly* a picture of the data set.
#
# </details>
#
# The sampler is right, the denoiser the best, and together they draw names from a hat. New clothes need a denoiser that
# finds what clothes have in common. A network can. (It can also memorise: [@carlini2023].)

# %% tags=["check"]
# @title ✓ Memory: what it finds, and what it draws
kept, which = nearest(of_boots, wardrobe)
assert (which[:3] == 11).all() and kept[:3].max() < 1e-6 and kept[3:].min() > 5
others, seen_as = nearest(of_shirts[:2], wardrobe)
assert others.max() < 1e-4 and seen_as[0] != seen_as[1]  # two shirts, neither is new[4]
assert nearest(new[4:5], wardrobe)[0] > 5 and distance.max() < 1e-6
alpha, sigma = schedule(0.6)  # of the boot in column 4
misfit = (boots[3] - alpha * wardrobe).square().sum((1, 2, 3)) / (2 * sigma**2)
by_hand = torch.tensordot((-misfit).softmax(0), wardrobe, 1)  # (3.11)
assert torch.allclose(by_hand, of_boots[3], atol=1e-8)
usual = nearest(new[:200], wardrobe)[0].median()
print("✓ to the nearest in memory, root of all squared differences: drawn",
      f"{distance.max():.0f}, new ones {usual:.1f}")

# %% [markdown]
# ## 7. Arrows: the score
#
# The arrows of the opening picture are the [score](../docs/glossary.md#score), the gradient of the log density (long ones
# are drawn shorter). Differentiate $p_t(x_t) = \int q(x_t \mid x_0)\, q(x_0)\, dx_0$:
#
# $$ \begin{aligned}
# \nabla \log p_t(x_t)
# &= \frac{1}{p_t(x_t)} \int \nabla q(x_t \mid x_0)\; q(x_0)\, dx_0 \\
# &= \int \frac{\alpha_t x_0 - x_t}{\sigma_t^2}\; \frac{q(x_t \mid x_0)\; q(x_0)}{p_t(x_t)}\, dx_0 \\
# &= \int \frac{\alpha_t x_0 - x_t}{\sigma_t^2}\; q(x_0 \mid x_t)\, dx_0 .
# \end{aligned} $$
#
# The second line has the gradient of a Gaussian, the third is Bayes, and what is left is an average:
#
# $$ \nabla \log p_t(x_t) = \frac{\alpha_t\, \hat x_0 - x_t}{\sigma_t^2} , \tag{3.12} $$
#
# *Tweedie's formula*. **A denoiser and a score are the same thing**: the arrow points from $x_t$ to $\alpha_t$ times the
# guess. ([@robbins1956]; [@efron2011]; [@vincent2011] for denoisers. [@song2019] sampled by scores before DDPM.)

# %% [markdown]
# **Your turn.** The check differentiates the exact log density automatically.

# %%
def score(x_t, t):
    """Return the score of the clusters at points x_t (N, 2), from denoise(x_t, t)."""
    alpha, sigma = schedule(t)
    ### BEGIN SOLUTION
    return (alpha * denoise(x_t, t) - x_t) / sigma**2
    ### END SOLUTION


# %% tags=["folded"]
# @title Check your answer
def by_autograd(x_t, t):
    x_t = x_t.clone().requires_grad_()
    return torch.autograd.grad(clusters.log_prob(x_t, t, schedule).sum(), x_t)[0]


check(score, by_autograd, [(crowd[:2], 0.1), (crowd[:100], 0.6)],
      hint="from x_t to alpha times the guess, over the variance of the noise")

# %% [markdown]
# By (3.12) the best guess at $\epsilon$ in (3.5) is $-\sigma_t$ times the score. So a step back becomes
#
# $$ x_s = \frac{1}{\alpha_{ts}} \Big( x_t + \sigma_{ts}^2\; \nabla \log p_t(x_t) \Big) + \sqrt v\; z :
# \tag{3.13} $$
#
# *go along the arrow, stretch, add noise* ([@anderson1982] in continuous time). Now give the blind loop of section 1 the
# arrow, from the memory of section 6. Its noise keeps the variance $\beta = \sigma_{ts}^2$, the upper bound of (3.8).

# %%
mended, generator = forward, seeded(0)
for beta, t in zip(betas[:200].flip(0), times(1000)[800:], strict=False):
    (alpha, sigma), x0_hat = schedule(t), memory.denoise(mended, t, schedule)
    arrow = (alpha * x0_hat - mended) / sigma**2
    z = torch.randn(x0.shape, generator=generator)
    mended = (mended + beta * arrow - beta.sqrt() * z) / (1 - beta).sqrt()

rows = {"200 forward": forward, "back, blind": backward, "with the arrow": mended}
plot.strips(rows, "Three rows of four pictures.",
            size=96)

# %% [markdown]
# One term more, and the clothes are back.
#
# Now the points of the opening picture follow the true clusters, or a memory of 12 points, the crosses. Three clusters
# have no cross.
#
# *Predict: what do the walks of the memory make of those three?*

# %%
twelve = clusters.sample(12, seeded(1))
memory_of_12 = Mixture(torch.full((12,), 1 / 12), twelve, torch.full((12,), 0.01))


def walked(data):
    steps = ddpm(lambda x, t: data.denoise(x, t, schedule), crowd, times(100), schedule,
                 seeded(8))
    return {round(float(state.t), 2): state.x for state in steps}


fields = {"eight clusters": clusters, "a memory of 12 points": memory_of_12}
walks = {name: walked(data) for name, data in fields.items()}


# %%
def arrows(*ts):
    panels = [(data, t, walks[name][round(t, 2)][:300], name)  # half of the points
              for name, data in fields.items() for t in ts]
    alt = "Arrows and walking points, for the clusters and for a memory of 12 points."
    return diagrams.score_arrows(panels, schedule, alt, crosses=twelve,
                                 columns=max(len(ts), 2))


arrows(0.9, 0.4, 0.02)

# %% [markdown]
# <details><summary>Answer</summary>
#
# No walk ends there. At $t = 0.9$ the two scores differ by less than a hundredth, at 0.4 by a quarter (medians). Near the
# data the lower arrows lead only to the 12 points.
#
# </details>
#
# In Jupyter or Colab the slider moves $t$.

# %%
slider = ipywidgets.FloatSlider(0.2, min=0.01, max=0.99, step=0.01, description="t")
_ = widgets.explore(lambda t: arrows(t), t=slider)

# %% [markdown]
# A network sees points like these 12, and should learn the upper arrows. But *over the 12 points* the squared error is
# least for the lower ones, (3.11). The network comes near the right arrows only because it cannot represent the wrong
# ones, or is stopped before ([@kadkhodaie2024]). Chapter 04 finds this loss in a bound on the likelihood.

# %% tags=["check"]
# @title ✓ The mended walk: from noise to the clusters, and to the clothes of section 1
points, generator = cloud, seeded(0)
for beta, t in zip(betas.flip(0), times(1000), strict=False):
    z = torch.randn(points.shape, generator=generator)
    arrow = clusters.score(points, t, schedule)
    points = (points + beta * arrow - beta.sqrt() * z) / (1 - beta).sqrt()
found, which = nearest(mended, wardrobe)
assert which.tolist() == [0, 1, 5, 8] and found.max() < 0.5  # 0.01 in each pixel
stray, width, *_ = measure(points)
assert stray < 0.02 and abs(width - 0.2) < 0.01
print(f"✓ clusters {width:.2f} wide, {stray:.1%} strays; clothes at most",
      f"{found.max():.2f} from those of section 1")

# %% tags=["check"]
# @title ✓ (3.13) is (3.10), and where the two fields part
for s, t in ((0.0, 0.02), (0.1, 0.4), (0.5, 1.0)):
    a, b = transition(s, t, schedule)
    mean = posterior(crowd, denoise(crowd, t), s, t, schedule).mean
    assert torch.allclose((crowd + b**2 * by_autograd(crowd, t)) / a, mean, atol=1e-7)
apart = {t: (memory_of_12.score(crowd, t, schedule) / by_autograd(crowd, t) - 1
             ).abs().median() for t in (0.9, 0.4, 0.02)}
ends, kept = (torch.cdist(walks["a memory of 12 points"][0.0], to).min(1)
              for to in (twelve, clusters.means))
assert apart[0.9] < 0.01 and 0.2 < apart[0.4] < 0.3 and apart[0.02] > 1
assert ends.values.quantile(0.9) < 0.05 and len(kept.indices.unique()) == 5
print(f"✓ apart by {apart[0.4]:.0%} (median) at 0.4; nine in ten end at the 12,",
      "in 5 clusters")

# %% [markdown]
# ## What to keep
#
# - The true step back depends on all data (3.1). Given $x_0$ it is a known Gaussian (3.4).
# - Short steps back are nearly Gaussian: hence many. A walk with noise takes the whole arrow, one without takes half.
# - The best denoiser is the mean $\hat x_0$. It makes the mean of a step exact (3.10).
# - Denoiser and score are one thing (3.12): the arrow points to the guess.
# - The best denoiser of a *data set* only remembers (3.11). New data come from a network that misses this optimum.

# %% [markdown]
# ## Exercises
#
# **1. Pen.** (a) What are $m$ and $v$ of (3.4) at $s = 0$? May a walk add noise in its last step? (b) Let $s \to t$
# at a fixed $t > 0$. What becomes of the ratio of the bounds in (3.8), $\sigma_s^2 / \sigma_t^2$? (c) Near the data
# $\sigma_k^2 \approx k\beta$ after $k$ equal tiny steps. What is the ratio at step 1, 2, 3, and why do smaller steps not
# help?
#
# <details><summary>Answer</summary>
#
# (a) $\sigma_0 = 0$, so $v = 0$, and $m = x_0$: no noise. (b) It tends to 1: the bounds meet. (c) It is $(k-1)/k$: 0, a
# half, two thirds. $\beta$ has dropped out.
#
# </details>

# %% [markdown]
# **2. Code.** Long strides in the papers' letters: given $\bar\alpha_s$ and $\bar\alpha_t$ for any steps $s < t$, return mean
# and *standard deviation* of $q(x_s \mid x_t, x_0)$. What plays their $\alpha_t$, and what $\beta_t$?

# %%
def stride(x_t, x_0, alpha_bar_s, alpha_bar_t):
    """Return mean and std () for tensors x_t, x_0 of one shape; the others are ()."""
    ### BEGIN SOLUTION
    ratio = alpha_bar_t / alpha_bar_s
    from_noisy = ratio.sqrt() * (1 - alpha_bar_s) / (1 - alpha_bar_t)
    from_clean = alpha_bar_s.sqrt() * (1 - ratio) / (1 - alpha_bar_t)
    variance = (1 - ratio) * (1 - alpha_bar_s) / (1 - alpha_bar_t)
    return from_noisy * x_t + from_clean * x_0, variance.sqrt()
    ### END SOLUTION


# %% tags=["folded"]
# @title Check your answer
def in_two_steps(x_t, x_0, alpha_bar_s, alpha_bar_t):
    table = FromBetas((1 - alpha_bar_s, 1 - alpha_bar_t / alpha_bar_s))  # one step to s
    step = posterior(x_t, x_0, 0.5, 1.0, table)
    return step.mean, step.std.squeeze()


pair = torch.randn(2, 4, 3, generator=seeded(16))
cases = [(*pair, *torch.tensor(ends)) for ends in ([0.9, 0.6], [0.3, 0.01])]
check(stride, in_two_steps, cases,
      hint="if s = t - 1 it must be DDPM's: what is alpha_bar_t / alpha_bar_s then?")

# %% [markdown]
# **3. Open.** When does the true step back have two humps? `humps_back` counts them. Find a rule of thumb that compares
# the blur of the view back, $\sigma_{ts} / \alpha_{ts}$, with distance and width of the components at $s$. The last
# cell has the answer for three other pairs: foretell it within a tenth.

# %%
def humps_back(mixture, x_t, step, t):
    """The number of humps of q(x_s | x_t) at s = t - step; x_t is a number."""
    kernel = mixture.reverse(torch.tensor([x_t]), t - step, t, schedule)
    p = kernel.log_prob(x[:, None], 0.0, schedule).exp()  # 0.0: no more noise
    return int(((p[1:-1] > p[:-2]) & (p[1:-1] > p[2:])).sum())


for step in (0.1, 0.2, 0.3):
    alpha_s, (a, b) = schedule(0.4 - step)[0], transition(0.4 - step, 0.4, schedule)
    width = (1 - alpha_s**2 + (alpha_s * 0.2) ** 2).sqrt()  # of a component at s
    print(f"step {step}: humps {humps_back(humps, 0.0, step, 0.4)}, blur {b / a:.2f}, "
          f"distance {alpha_s * 2:.2f}, width {width:.2f}")

# %% tags=["folded"]
# @title Check your rule: steps from which on there are two humps
for d, c in ((1.0, 0.1), (2.0, 0.6), (4.0, 0.1)):  # distance and width of the data
    pair = Mixture(torch.tensor([0.5, 0.5]), torch.tensor([[-d / 2], [d / 2]]),
                   torch.tensor([c, c]))
    first = next(h for h in range(20, 399, 2)
                 if humps_back(pair, 0.0, h / 1000, 0.4) > 1)
    print(f"distance {d:g}, width {c:g}: two humps from step {first / 1000:.2f} on")

# %% [markdown]
# **Deeper:** [03, deeper](deeper/03_reverse_diffusion.ipynb): width and shape of a step, when a walk is decided, bugs, a
# memory that draws new points.
#
# **Next:** [04 · The variational bound](04_variational_bound.ipynb), from a walk back to a likelihood.
#
# ## References
#
# {references}
