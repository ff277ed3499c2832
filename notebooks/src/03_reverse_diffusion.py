# %% [markdown]
# # 03 · Reverse diffusion
#
# **Noise is easy to add. What must we know to take it out again?** Below, 600 points walk from pure noise back to data:
# four large clusters at the corners of a square, and between them four *rare* ones, each with a third as many points. The
# grey shows where *noisy* data are likely; the arrows lead to where they are more likely (long ones are drawn
# shorter). The function `denoise` gives them, here by a formula, later by a network.

# %%
import torch

from minidiff import FromBetas, Mixture, add_noise, ddpm, final, linear_betas
from minidiff import posterior, times, transition
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
ts = times(100)  # 101 times, from 1 to 0
walk = ddpm(denoise, crowd, ts, schedule, seeded(8))  # you build it in section 5
states = {round(float(state.t), 2): state for state in walk}  # by the time reached
shown = {1.0: crowd, 0.15: states[0.15].x, 0.03: states[0.03].x}
words = "arrows to the middle", "arrows to a square", "arrows to clusters"
panels = [(clusters, t, shown[t], said) for t, said in zip(shown, words, strict=True)]
alt = "Three panels of points and arrows: a round cloud, a square, eight clusters."
diagrams.score_arrows(panels, schedule, alt)

# %% [markdown]
# **You build a sampler**; nothing is trained. By Bayes' rule a step back needs all data. A *guess* at the clean picture
# takes their place: it gives the mean of the step, and a short step needs little more.
#
# You need chapter 02. Ninety minutes to read, an hour more for gaps and predictions.
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
# A step forward shrinks by $\sqrt{1-\beta}$, then adds noise of variance $\beta$ (chapter 02). Should a step back
# subtract noise, then stretch? After $k$ of DDPM's 1,000 steps the time is $t = k/1000$.
#
# *Predict: 200 of DDPM's steps forward, then 200 such steps back. What do you see?*

# %%
clothes, generator = load("fashion").tensor().double(), seeded(0)
new = load("fashion", "test").tensor().double()  # pictures that are not in clothes
x0, betas = torch.cat([clothes[[0, 1, 5, 8]], new[4:5]]), linear_betas(1000)
eps = torch.randn(x0.shape, generator=generator)
forward = add_noise(x0, eps, 0.2, schedule)

backward = forward
for beta in betas[:200].flip(0):
    z = torch.randn(x0.shape, generator=generator)
    backward = (backward - beta.sqrt() * z) / (1 - beta).sqrt()

# %%
alpha, sigma = schedule(0.2)  # the factors of picture and noise at t = 0.2
stretched = forward / alpha
first, second = ((rows - x0).var() for rows in (stretched, backward))  # of the noise
rows = {"data": x0, "200 forward": forward,
        f"only stretched: noise {first:.2f}": stretched,
        f'200 "back": noise {second:.2f}': backward}
plot.strips(rows, "Four rows of five pictures.", size=96)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Noise of twice the variance (the numbers on the left) that we have if we only stretch. What we subtract is independent
# of the old noise, and of the same variance: variances add (*deeper*, section 1).
#
# </details>

# %% tags=["check"]
# @title ✓ Blind subtraction doubles the noise
assert torch.isclose(first, (sigma / alpha) ** 2, rtol=0.05)
assert torch.isclose(second, 2 * (sigma / alpha) ** 2, rtol=0.05)
print(f"✓ the noise has variance {first:.2f} if we only stretch, as predicted by",
      f"(sigma / alpha) ** 2 = {(sigma / alpha) ** 2:.2f}; walked back {second:.2f}")

# %% [markdown]
# ### One giant step
#
# Or guess the picture at once.
#
# *Predict: you see only noise, and your guess is judged by its squared error. What is your guess?*

# %%
mean = clothes.mean(0, keepdim=True)
alt = "A guess, and six pictures of the data."
plot.strips({"": torch.cat([mean, clothes[:6]])}, alt, above=["guess"] + ["data"] * 6)

# %% [markdown]
# <details><summary>Answer</summary>
#
# The mean of all pictures, the blur on the left.
#
# </details>
#
# This guess is an *average*, not a *sample*. Many small steps can give a sample.

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
# This is the *true step back*. It needs $q(x_s)$, the density *of all noisy pictures of the world*: an
# integral over the data. For single numbers we use a grid.

# %%
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
# Two worlds of single numbers, both with mean 0 and variance 1:

# %%
def both_worlds(densities, places, label):
    lines = {name: (densities[name], place) for name, place in places.items()}
    alt = "The world with two humps, and that with one."
    picture = diagrams.labelled(x, lines, alt, label, "density")
    picture.axes[0].set(xlim=(-2.5, 2.5), ylim=(0, None))
    return picture


two_humps = 0.4 * normal(x, -1.2, 0.2**2) + 0.6 * normal(x, 0.8, 0.2**2)
worlds = {"two humps": two_humps, "one hump": normal(x, 0.0, 1.0)}
both_worlds(worlds, {"two humps": (-1.2, 0.85), "one hump": (-0.2, 0.43)}, "$x_0$")

# %% [markdown]
# (`transition(s, t, schedule)` returns $\alpha_{ts}$ and $\sigma_{ts}$.)
#
# *Predict: in both worlds we stand at* $x_t = 0$ *at* $t = 0.4$. *Where did the number probably
# come from:* $x_s$ *at* $s = 0.1$*?*

# %%
def way_back(data, x_t, s, t):
    """q(x_s | x_t) on the grid, by (3.1)."""
    alpha_ts, sigma_ts = transition(s, t, schedule)  # chapter 02's `between`
    came_here = normal(x_t, alpha_ts * x, sigma_ts**2)  # q(x_t | x_s), for each x_s
    joint = came_here * marginal(data, x, s)
    return joint / (joint.sum() * dx)


back = {name: way_back(data, 0.0, 0.1, 0.4) for name, data in worlds.items()}
both_worlds(back, {"two humps": (-1.15, 0.48), "one hump": (-0.14, 0.5)},
            "$x_s$ at $s = 0.1$, if $x_t = 0$")

# %% tags=["check"]
# @title ✓ Two worlds, alike in mean and variance, with different ways back
for name, data in worlds.items():
    mean, p = (x * data).sum() * dx, back[name]
    assert abs(mean) < 1e-6 and abs((x**2 * data).sum() * dx - 1) < 1e-6
    assert abs(p.sum() * dx - 1) < 1e-9
two, one = back.values()
assert two[1200] < 0.2 * two.max() and abs(x[one.argmax()]) < 0.01  # x[1200] is 0
exact = normal(x, 0.0, 1.0) * normal(0.0, transition(0.1, 0.4, schedule)[0] * x,
                                     transition(0.1, 0.4, schedule)[1] ** 2)
assert (one - exact / (exact.sum() * dx)).abs().max() < 1e-6  # one hump stays N(0, 1)
print("✓ both worlds have mean 0 and variance 1, but at 0 the way back has the",
      f"density {two[1200]:.2f} with two humps and {one[1200]:.2f} with one")

# %% [markdown]
# <details><summary>Answer</summary>
#
# In the first world near one of its humps, in the second around 0.
#
# </details>
#
# **The way back depends on the data.** But nobody knows $q(x_0)$ of pictures, and a grid would have $2401^{1024}$
# points: the integral is *intractable*.

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
# - $x_t$ says: near $x_t / \alpha_{ts}$, with variance $\sigma_{ts}^2 / \alpha_{ts}^2$. (This is $q(x_t \mid x_s)$, read as
#   a function of $x_s$.)
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
# In Jupyter or Colab, move all three.

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
# *Precisions, one over variance, add. Means are averaged by precision.* (Proof: compare the exponents.)
#
# **Your turn**: which $v$ and $m$ do the two witnesses give?

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
def package(x_t, x_0, s, t):
    step = posterior(x_t, x_0, s, t, schedule)
    return step.mean, step.std


noisy, clean = torch.tensor([-0.8, 2.0]), torch.tensor([0.8, -0.4])
step_back = yours(step_back, package,
                  [(noisy, clean, 0.1, 0.4), (noisy, clean, 0.3, 0.7)],
                  "precisions first: 1 / v is a sum; v weighs the means; std is a root")

# %% [markdown]
# The two precisions add up to
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
print("✓ mean and variance of (3.4) agree with a sum over a fine grid to 1e-4,",
      "for a step of 0.001 and one of 0.3")

# %% [markdown]
# **In terms of the noise.** Put $x_0 = (x_t - \sigma_t\epsilon)/\alpha_t$ into (3.4), with $\alpha_t = \alpha_s \alpha_{ts}$. By (2.5) the two factors
# of $x_t$ add up to
#
# $$ \frac{\alpha_{ts}\sigma_s^2}{\sigma_t^2} + \frac{\sigma_{ts}^2}{\alpha_{ts}\sigma_t^2}
# = \frac{\alpha_{ts}^2\sigma_s^2 + \sigma_{ts}^2}{\alpha_{ts}\sigma_t^2} = \frac1{\alpha_{ts}} , $$
#
# and so
#
# $$ m = \frac{1}{\alpha_{ts}} \left( x_t - \frac{\sigma_{ts}^2}{\sigma_t}\; \epsilon \right) . \tag{3.5} $$
#
# The step takes away a part of $\epsilon$, the noise *in* $x_t$, and *adds* fresh noise $\sqrt v\, z$. Below, "takes" is
# the factor of $\epsilon$ in the brackets. ($1/\alpha_{ts}$ is nearly 1.)
#
# *Predict: at step 500, which is larger: the factor of $\epsilon$ taken away, or that of the $z$ added?*

# %%
for k in (1, 2, 100, 500):
    s, t = (k - 1) / 1000, k / 1000
    blind = transition(s, t, schedule)[1]
    before, after = schedule(t)[1], schedule(s)[1]  # sigma_t, sigma_s
    print(f"step {k:3}: of sigma_t = {before:.4f} takes {blind**2 / before:.4f}, adds",
          f"{blind * after / before:.4f}; blind subtracts {blind:.4f}")

# %% [markdown]
# <details><summary>Answer</summary>
#
# That of $z$, nearly ten times, and as large as a blind step's.
#
# </details>
#
# How can so small a term win? Fresh noise adds its *variance*, $\sigma_{ts}^2$. The small term shortens the old noise
# from $\sigma_t$ to $\sigma_t - \sigma_{ts}^2/\sigma_t$. If $\sigma_{ts}$ is small against $\sigma_t$, its variance
# falls by
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
print(f"✓ (3.5) is (3.4); at step 500 the factor of z is {adds / takes:.1f} times that",
      f"of eps, but the variance taken away is {off:.2f} times the variance added")

# %% [markdown]
# ## 3. The true step back, and why steps are small
#
# We compare the true step (3.1) on the grid with its *best Gaussian*, the one of the same mean and
# variance. (It has the least [KL divergence](../docs/glossary.md#kl-divergence) of all Gaussians.)
#
# *Predict: we stand at* $x_t = 0$ *at* $t = 0.4$ *in the world with two humps. Which shape has a long step back, which a
# short one?*

# %%
def moments(p):
    mean = (x * p).sum() * dx
    return mean, ((x - mean) ** 2 * p).sum() * dx


panels = {}
for s in (0.05, 0.2, 0.35):
    true = way_back(two_humps, 0.0, s, 0.4)
    panels[f"step of {0.4 - s:.2f}"] = true, normal(x, *moments(true))
alt = "The true step for three lengths, and the best Gaussian for each."
diagrams.against(x, panels, ("true", "best Gaussian"), alt)

# %% [markdown]
# <details><summary>Answer</summary>
#
# A long one has two humps, and the peak of the best Gaussian lies between them. A short one is a bell.
#
# </details>
#
# Why? As a function of $x_s$ a short step forward is a narrow bell around $x_t/\alpha_{ts}$, hardly away from $x_t$.
# Across it $\log p_s$ is nearly its straight line at $x_t$, so by (3.1)
#
# $$ \log q(x_s \mid x_t) \approx -\frac{\alpha_{ts}^2}{2\sigma_{ts}^2}
# \left| x_s - \frac{x_t}{\alpha_{ts}} \right|^2 + (x_s - x_t) \cdot \nabla \log p_s(x_t) + \text{const.} $$
#
# The gradient is the *score*, the arrow of the opening picture. A parabola plus a straight line is the same parabola,
# moved. **Long steps back are not Gaussian, short ones nearly are** ([@sohldickstein2015]; limit: [@anderson1982];
# proof: [@nakkiran2024]).

# %% tags=["check"]
# @title ✓ How far from Gaussian: the KL divergence
def far(step):
    true = way_back(two_humps, 0.0, 0.4 - step, 0.4)
    mean, variance = moments(true)
    log = -((x - mean) ** 2 / variance + (2 * torch.pi * variance).log()) / 2
    return (torch.xlogy(true, true) - true * log).sum() * dx


assert far(0.35) > 0.1 and far(0.05) < 0.01 and 7 < far(0.01) / far(0.005) < 9
print(f"✓ the divergence from the best Gaussian is {far(0.35):.2f} for a true step of",
      f"0.35, {far(0.05):.0e} for 0.05; if a step of 0.01 is halved, it falls by",
      f"a factor of {far(0.01) / far(0.005):.1f} (8 in the limit: deeper, section 4)")

# %% [markdown]
# ## 4. The best guess at the picture
#
# In the mean of (3.4) only $x_0$ is unknown. A [denoiser](../docs/glossary.md#denoiser) is a function $f(x_t)$ that
# guesses $x_0$. Which has the least squared error, on average over $x_0$ and $x_t$? With
# $\hat x_0 = E[x_0 \mid x_t]$, for any $f$
#
# $$ E\,|x_0 - f|^2 = E\,|x_0 - \hat x_0|^2 + E\,|\hat x_0 - f|^2 , $$
#
# as at a fixed $x_t$ the mixed term $2(x_0 - \hat x_0)\cdot(\hat x_0 - f)$ averages to 0, as its first factor does.
# So the best denoiser is $f = \hat x_0$, the *posterior mean*. For single numbers the grid gives it.

# %%
def guess(x_t, t):
    """E[x_0 | x_t] in the world with two humps, at numbers x_t (N, 1): their shape."""
    alpha, sigma = schedule(t)
    p = normal(x_t, alpha * x, sigma**2) * two_humps  # Bayes: (N, 2401)
    return p @ x[:, None] / p.sum(1, keepdim=True)


# %% [markdown]
# A first walk: put this guess into (3.4) for $x_0$ and draw $x_s$, a hundred times (`ddpm`, which you build in section
# 5). The number 0 walks back six times, with other noise.

# %%
humps = Mixture(torch.tensor([0.4, 0.6]), torch.tensor([[-1.2], [0.8]]),
                torch.tensor([0.2, 0.2]))  # the two humps; here only for the grey
start = torch.zeros(6, 1)
walk = ddpm(guess, start, ts, schedule, seeded(0))
paths = torch.cat([start, *(state.x for state in walk)], 1).T  # (101, 6)
alt = "Six jagged paths from 0 at t = 1 to two bands at t = 0, three to each."
diagrams.ribbon(humps, schedule, ts, paths, alt, arrow="back: data come out")

# %% [markdown]
# They end in both humps: the fresh noise decides.

# %% [markdown]
# ### Data with a formula
#
# Without a grid we use a **mixture**, like the two humps. Each point picks a component $j$ with probability $w_j$, and
# falls around its centre $d_j$ with standard deviation $c_j$. With noise, each component is a Gaussian again (2.2), so *a
# mixture stays a mixture*:
#
# $$ p_t(x) = \sum_j w_j\; \mathcal N_j(x), \qquad
# \mathcal N_j(x) = \mathcal N\!\left(x;\ \alpha_t d_j,\ (\alpha_t^2 c_j^2 + \sigma_t^2)\, I\right) . \tag{3.6} $$
#
# Bayes' rule gives the probability that $x_t$ comes from component $j$, its *responsibility*:
#
# $$ r_j(x_t) = \frac{w_j\, \mathcal N_j(x_t)}{\sum_k w_k\, \mathcal N_k(x_t)} . $$
#
# *Predict: the two humps at* $t = 0.2$, *and we stand at* $x_t = -0.5$, *between them. From which hump did we come?*

# %%
def responsibilities(mixture, x_t, t):
    """Return r_j for each component j at points x_t (N, D): (N, J)."""
    alpha, sigma = schedule(t)
    v = (alpha * mixture.stds) ** 2 + sigma**2
    square = torch.cdist(x_t, alpha * mixture.means) ** 2
    logs = mixture.weights.log() - square / (2 * v) - x_t.shape[1] / 2 * v.log()
    return logs.softmax(1)


left, right = responsibilities(humps, torch.tensor([[-0.5]]), 0.2)[0]
print(f"left hump: {left:.2f}, right hump: {right:.2f}")

# %% tags=["folded"]
# @title Draw both components: with noise, and what x_0 can be
alpha, sigma = schedule(0.2)
noised = [w * normal(x, alpha * d, (alpha * 0.2) ** 2 + sigma**2)
          for w, d in zip(humps.weights, humps.means[:, 0], strict=True)]
origin = humps.reverse(torch.tensor([-0.5]), 0.0, 0.2, schedule)  # by Bayes
parts = origin.weights, origin.means[:, 0], origin.stds[:, 0]
fits = [r * normal(x, m, std**2) for r, m, std in zip(*parts, strict=True)]
panels = {"$p_t$ at $t = 0.2$": (noised, -0.5, "$x_t$"),
          "$x_0$, if $x_t = -0.5$": (fits, float(parts[0] @ parts[1]), r"$\hat x_0$")}
alt = "Two wide bells, the left three times as high at x_t; two narrow ones; a mean."
diagrams.components(x, panels, alt, labels=("$x_t$", "$x_0$"))

# %% [markdown]
# <details><summary>Answer</summary>
#
# From the left one, three times in four: at $x_t$ its curve is three times as high.
#
# </details>
#
# On the right is what $x_0$ can be. Each bell is the product of two witnesses: component $j$ says $d_j$ with variance
# $c_j^2$, and $x_t$ says $x_t/\alpha_t$ with variance $\sigma_t^2/\alpha_t^2$. The mean of a bell is in the brackets, and
# $\hat x_0$ is the average of these means:
#
# $$ \hat x_0 = \sum_j r_j(x_t) \left( d_j
# + \frac{\alpha_t c_j^2}{\alpha_t^2 c_j^2 + \sigma_t^2}\, (x_t - \alpha_t d_j) \right) . \tag{3.7} $$
#
# In the package: `Mixture.denoise`.
#
# *Predict: how does* $\hat x_0$ *depend on* $x_t$, *for little noise, for some, for only noise?*

# %%
places = {0.02: (1.25, 1.65), 0.2: (-0.75, -0.55), 1.0: (-1.6, 0.12)}
lines = {f"t = {t}": (humps.denoise(x[:, None], t, schedule)[:, 0], place)
         for t, place in places.items()}
alt = "Three curves, one for each t, and dotted lines at the centres."
picture = diagrams.labelled(x, lines, alt, "$x_t$", "best guess at $x_0$")
picture.axes[0].set(xlim=(-2, 2), ylim=(-2, 2))
for centre in (-1.2, 0.8):
    picture.axes[0].axhline(centre, color="0.6", linestyle=":")
picture

# %% [markdown]
# <details><summary>Answer</summary>
#
# With little noise it stays near what it sees, but for a small jump. At $t = 0.2$ it moves towards the
# humps, and *between the humps it says an average*. At $t = 1$ it says the mean: the blur.
#
# </details>

# %% tags=["check"]
# @title ✓ (3.7) is the mean on the grid; other guesses are worse
y = x[800:1601:20, None]  # from -2 to 2
for t in (0.02, 0.2, 1.0):
    assert (humps.denoise(y, t, schedule) - guess(y, t)).abs().max() < 1e-8
assert guess(y, 1.0).abs().max() < 0.05  # the mean of the data is 0
pure = humps.sample(500_000, seeded(3))
seen = add_noise(pure, torch.randn(pure.shape, generator=seeded(6)), 0.2, schedule)
best = humps.denoise(seen, 0.2, schedule)
rivals = schedule(0.2)[0] * seen, best + 0.1 * (3 * seen).sin(), 0.9 * best
least, *errors = ((pure - f).square().mean() for f in (best, *rivals))
for f, e in zip(rivals, errors, strict=True):
    assert abs((e - least) / (best - f).square().mean() - 1) < 0.2  # worse by that
print(f"✓ equal to 1e-8; squared error {least:.3f}, of rivals {min(errors):.3f} up")

# %% [markdown]
# ## 5. The first samples
#
# Put the best guess into the step back. With $v$ as in (3.4) and fresh noise $z$,
#
# $$ x_s = \frac{\alpha_{ts}\,\sigma_s^2}{\sigma_t^2}\; x_t
# + \frac{\alpha_s\,\sigma_{ts}^2}{\sigma_t^2}\; \hat x_0 + \sqrt v\; z, \qquad
# z \sim \mathcal N(0, I). \tag{3.8} $$
#
# This is [ancestral sampling](../docs/glossary.md#ancestral-sampling) (DDPM's algorithm 2, there with the mean (3.5)).
#
# May an average stand for the picture? The true step is (3.4), averaged over all $x_0$ that fit to $x_t$:
#
# $$ q(x_s \mid x_t) = \int q(x_s \mid x_t, x_0)\; q(x_0 \mid x_t)\, dx_0 . $$
#
# So its mean is the average of $m$. As $m$ is linear in $x_0$, the average of $m$ is $m$ at the average $\hat x_0$. **The
# mean of (3.8) is that of the true step**, however long.

# %% [markdown]
# **Your turn.** Walk from noise to data; `denoise` is the best denoiser of the eight clusters.

# %%
from itertools import pairwise


def ancestral(x, ts, seed):
    """Return x at the last of the falling times ts; each step samples (3.8)."""
    generator = seeded(seed)
    ### BEGIN SOLUTION
    for t, s in pairwise(ts):  # from t to s < t
        x = posterior(x, denoise(x, t), s, t, schedule).sample(generator)
    return x
    ### END SOLUTION


# %% tags=["folded"]
# @title Check your answer
def by_package(x, ts, seed):
    return final(ddpm(denoise, x, ts, schedule, seeded(seed)))


cases = [(crowd[:2], times(3), 5), (crowd[:50], times(20), 6)]
ancestral = yours(ancestral, by_package, cases,
                  hint="for t, s in pairwise(ts): posterior with denoise(x, t) for x0; "
                       "sample")

# %% [markdown]
# The package's `ddpm` is this loop; `final` takes its last state. Here are the opening picture's 600 points, with the
# guesses that their last step used (lines join ten).

# %%
three = {f"t = {t:.2f}": (states[t].x, states[t].x0) for t in (0.32, 0.16, 0.06)}
alt = "Points and guesses. The guesses are a full square, a ring, eight clusters."
diagrams.guesses(three, alt)

# %% [markdown]
# The guesses are ahead: they gather in clusters first. Nothing was trained!

# %% [markdown]
# ### Is it right?
#
# Your `ancestral` walks 4,000 starts in 5, 20 and 500 steps. *Strays* end outside the circles drawn below, more than
# three widths from every cluster. *Width* and *spread* are standard deviations, of a large cluster and of all points;
# *rare* is the share of the four rare clusters.
#
# *Predict: which walks end with the distribution of the data?*

# %% tags=["folded"]
# @title Define measure: strays, width, rare, spread of a cloud
def measure(points):
    widths, which = (torch.cdist(points, clusters.means) / clusters.stds).min(1)
    stray, common = widths > 3, clusters.weights > 0.1
    own = [points[(which == j) & ~stray] for j in common.nonzero()[:, 0]]
    off = torch.cat([(part - part.mean(0)).norm(dim=1) for part in own if len(part)])
    rare = (~common)[which].double().mean()
    # a Gaussian in the plane has half of its points within 1.177 standard deviations
    return stray.double().mean(), off.median() / 1.177, rare, points.std()


# %% tags=["folded"]
# @title Define show: a table of clouds, and a picture of some
def show(clouds, alt, *drawn):
    print("                     strays  width  rare  spread")
    for name, points in clouds.items():
        numbers = measure(points)
        print("{:>20}  {:6.1%}  {:5.2f}  {:4.0%}  {:6.2f}".format(name, *numbers))
    drawn = {name: clouds[name] for name in drawn or clouds}
    circles = clusters.means, 3 * clusters.stds
    columns = max(3, len(drawn))
    return diagrams.clouds(drawn, alt, columns=columns, window=(-1.9, 1.9),
                           circles=circles)


# %%
truth = clusters.sample(4000, seeded(4))
cloud = torch.randn(4000, 2, generator=seeded(9))
clouds = {f"{n} steps": ancestral(cloud, times(n), 10) for n in (5, 20, 500)}
clouds["data"] = truth
show(clouds, "A blot; eight clusters with points between; twice eight clusters.")

# %% [markdown]
# <details><summary>Answer</summary>
#
# The last, nearly: its clusters are a little narrow. After five steps nearly half of the points stray.
#
# </details>

# %% tags=["check"]
# @title ✓ 500 steps nearly draw the distribution of the data
(stray_5, *_), (stray_20, narrow, *_), (stray, width, *_) = (
    measure(clouds[f"{n} steps"]) for n in (5, 20, 500))
assert stray_5 > 0.4 and 0.02 < stray_20 < 0.06 and narrow < 0.165
assert abs(stray - 0.011) < 0.005 and abs(measure(truth)[0] - 0.011) < 0.005
assert 0.185 < width < 0.2 and (paths[0] == 0).all() and (paths[-1] > -0.2).sum() == 3
share = torch.cdist(clouds["500 steps"], clusters.means).argmin(1).bincount() / 4000
behind, ahead = (measure(at)[0] for at in (states[0.06].x, states[0.06].x0))
assert ahead < 0.07 and behind > 0.14  # strays: most guesses are in clusters
assert torch.allclose(share, clusters.weights, atol=0.025)
assert torch.allclose(clouds["500 steps"].std(0), torch.ones(2), atol=0.04)
print("✓ 500 steps agree with the data: each cluster's share to 0.025, the width to",
      f"0.015, the spread to 0.04; strays: {stray:.1%}, after 20 steps {stray_20:.1%}")

# %% [markdown]
# ### How wide is a step?
#
# Why is the width 0.16 after 20 steps, and 0.20 in the data? Nearly all is lost in the last step, where $v$ is 0 and
# the true step still has a width (checked below). $v$ is the variance if $x_0$ is known. It is
# not, so the true step is wider.
# For data of variance at most one and $\alpha^2 + \sigma^2 = 1$, its variance in each coordinate, on average over $x_t$, is
# between two bounds:
#
# $$ v \;\le\; E\big[\mathrm{Var}(x_s \mid x_t)\big] \;\le\; \sigma_{ts}^2 . \tag{3.9} $$
#
# The upper bound is right for standard normal data ([@sohldickstein2015]; proof and walks: *deeper*, section 3). DDPM
# tried both.

# %% [markdown]
# ### Which step fails?
#
# We replace some of the five steps by *true* ones. For a mixture they have a formula: given $j$, the witnesses are
# component $j$, which says $\alpha_s d_j$ with variance $V_j = \alpha_s^2 c_j^2 + \sigma_s^2$, and $x_t$. So
#
# $$ \begin{gathered}
# q(x_s \mid x_t) = \sum_j r_j(x_t)\; \mathcal N(x_s;\ m_j,\ v_j I) , \\
# \frac1{v_j} = \frac1{V_j} + \frac{\alpha_{ts}^2}{\sigma_{ts}^2}, \qquad
# m_j = v_j \left( \frac{\alpha_s d_j}{V_j} + \frac{\alpha_{ts}\, x_t}{\sigma_{ts}^2} \right) .
# \end{gathered} \tag{3.10} $$
#
# *Predict: all five steps are true, or the first four, or only the last. Which walks end like the data?*

# %%
def bells_at(mixture, x_t, s, t):
    """(3.10) at points x_t (N, D): r_j (N, J), m_j (N, J, D), v_j (J, 1)."""
    (alpha_s, sigma_s), (a, b) = schedule(s), transition(s, t, schedule)
    V = (alpha_s * mixture.stds[:, None]) ** 2 + sigma_s**2
    v = 1 / (1 / V + (a / b) ** 2)
    m = v * (alpha_s * mixture.means / V + a * x_t[:, None] / b**2)
    return responsibilities(mixture, x_t, t), m, v


def true_step(x_t, s, t, generator):
    r, m, v = bells_at(clusters, x_t, s, t)
    j = torch.multinomial(r, 1, generator=generator)[:, 0]  # one for each point
    z = torch.randn(x_t.shape, generator=generator)
    return m[torch.arange(len(j)), j] + v[j].sqrt() * z


# %% tags=["check"]
# @title ✓ (3.10) is what Bayes says on a grid, and (3.8) has the same mean
for u, s, t in ((0.0, 0.1, 0.4), (-0.46, 0.1, 0.4), (1.0, 0.2, 0.9), (1.0, 0.39, 0.4)):
    here, bayes = torch.tensor([[u]]), way_back(two_humps, u, s, t)
    (r,), (m,), v = bells_at(humps, here, s, t)
    exact = sum(r[j] * normal(x, m[j], v[j]) for j in (0, 1))
    mean = posterior(here, humps.denoise(here, t, schedule), s, t, schedule).mean
    assert (exact - bayes).abs().max() < 1e-8 * bayes.max() + 1e-8
    assert torch.isclose(mean[0, 0], moments(bayes)[0], atol=1e-8)
r = responsibilities(humps, torch.tensor([[-0.5]]), 0.2)[0]
heights = [float(curve[x.sub(-0.5).abs().argmin()]) for curve in noised]  # the picture
assert torch.isclose(r[0] / r[1], torch.tensor(heights[0] / heights[1]))
print("✓ density and mean of four true steps agree with Bayes on the grid to 1e-8")

# %%
def mixed(true, n=5):
    """n steps: those with a number in `true` draw from (3.10), the others (3.8)."""
    points, generator = cloud, seeded(10)
    for k, (t, s) in enumerate(pairwise(times(n)), 1):
        step = posterior(points, denoise(points, t), s, t, schedule)
        points = (true_step(points, s, t, generator) if k in true
                  else step.sample(generator))
    return points


which = {"5 true": {1, 2, 3, 4, 5}, "first 4 true": {1, 2, 3, 4}, "last true": {5}}
clouds |= {name: mixed(true) for name, true in which.items()}
show({name: clouds[name] for name in which}, "Eight clusters, a blot, eight clusters.")

# %% [markdown]
# <details><summary>Answer</summary>
#
# "5 true" and "last true" (only its spread is a little low): **one true step, the last, mends the walk**.
#
# </details>
#
# The last step of (3.8) has $s = 0$ and no noise. It gives $\hat x_0$ itself, an average: a giant step as in section 1,
# and no later step mends it. Many short ones in its place do (*deeper*, section 4).

# %% tags=["check"]
# @title ✓ Of five steps only the last must be true
for name in ("5 true", "last true"):
    stray, width, rare, spread = measure(clouds[name])
    assert abs(stray - 0.011) < 0.005 and abs(width - 0.2) < 0.01
    assert abs(rare - 0.25) < 0.025 and 0.96 < spread < 1.02
four = measure(clouds["first 4 true"])[0]
last = posterior(cloud, denoise(cloud, 0.2), 0.0, 0.2, schedule)
assert last.std.max() == 0 and torch.allclose(last.mean, denoise(cloud, 0.2))
assert 0.22 < four < 0.32
first, only = (measure(mixed(true, 20))[1] for true in (range(1, 20), {20}))  # widths
assert first < 0.165 and abs(only - 0.2) < 0.01
print(f"✓ strays: {stray:.1%} if only the last of five is true, {four:.0%} if the",
      f"first four; of 20 steps: width {only:.2f} if the last, {first:.2f} if the rest")

# %% [markdown]
# ## 6. A denoiser with perfect memory
#
# For pictures we have no formula, but a data set. Suppose that only its $N$ pictures $d_n$ are possible, equally
# likely: a mixture of $N$ Gaussians of width 0. Then (3.7) becomes
#
# $$ \hat x_0 = \sum_n r_n(x_t)\; d_n, \qquad
# r_n(x_t) = \underset{n}{\mathrm{softmax}}
# \left( -\frac{|x_t - \alpha_t d_n|^2}{2\,\sigma_t^2} \right) . \tag{3.11} $$
#
# Each picture counts by how well it explains what we see ([@karras2022]).
#
# **Your turn.** `square` has $|x_t - \alpha_t d_n|^2$, a row for each $x_t$.

# %%
wardrobe = clothes[:2000]


def recall(x_t, t):
    """Return (3.11) for noisy pictures x_t (N, 1, 32, 32) at time t: their shape."""
    alpha, sigma = schedule(t)
    square = torch.cdist(x_t.flatten(1), alpha * wardrobe.flatten(1)) ** 2  # (N, 2000)
    ### BEGIN SOLUTION
    r = (-square / (2 * sigma**2)).softmax(1)
    return torch.tensordot(r, wardrobe, 1)
    ### END SOLUTION


# %% tags=["folded"]
# @title Check your answer
from minidiff import Empirical

memory = Empirical(wardrobe)  # (3.11) in the package


def remembered(x_t, t):
    return memory.denoise(x_t, t, schedule)


eps = torch.randn(2, 1, 32, 32, generator=seeded(15))
hazy = add_noise(new[:2], eps, 0.6, schedule)
check(recall, remembered, [(hazy, 0.6), (hazy, 0.8)],
      hint="softmax over the pictures gives r (N, 2000); tensordot averages with it")

# %% [markdown]
# We show the package's `memory` a boot that it knows, and the shirt of section 1, which it does not.
#
# *Predict: what will it guess?*

# %%
six = torch.tensor([0.05, 0.2, 0.4, 0.6, 0.8, 1.0])


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
# Up to $t = 0.4$ it finds the boot exactly: 1,024 pixels are 1,024 witnesses. Then it averages. The new
# shirt becomes *other* clothes: one of the 2,000 at 0.05, another at 0.2, a mix at 0.4, a blur from 0.6.
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
# The sampler is right, the denoiser the best for its 2,000 pictures, and together they draw names from a hat. A network
# too has its least squared error, over such a set, at (3.11). It draws *new* pictures where it cannot represent this
# optimum ([@kadkhodaie2024]; [@kamb2024]), or is stopped before ([@bonnaire2025]). Else it memorises ([@carlini2023]).

# %% tags=["check"]
# @title ✓ Memory: what it finds, and what it draws
kept, which = nearest(of_boots, wardrobe)
assert (which[:3] == 11).all() and kept[:3].max() < 1e-6 and kept[3:].min() > 5
others, seen_as = nearest(of_shirts, wardrobe)
assert others[:2].max() < 1e-4 and seen_as[0] != seen_as[1] and others[2:].min() > 1
assert nearest(new[4:5], wardrobe)[0] > 5 and distance.max() < 1e-6
alpha, sigma = schedule(0.6)  # of the boot in column 4
misfit = (boots[3] - alpha * wardrobe).square().sum((1, 2, 3)) / (2 * sigma**2)
by_hand = torch.tensordot((-misfit).softmax(0), wardrobe, 1)  # (3.11)
assert torch.allclose(by_hand, of_boots[3], atol=1e-8)
usual = nearest(new[:200], wardrobe)[0].median()
print("✓ distance to the nearest in memory (root of summed squared differences): drawn",
      f"pictures {distance.max():.0f}, new ones {usual:.1f} (median)")

# %% [markdown]
# ## 7. Arrows: the score
#
# The arrows of the opening picture are the [score](../docs/glossary.md#score), the gradient of the log density.
# Differentiate $p_t(x_t) = \int q(x_t \mid x_0)\, q(x_0)\, dx_0$:
#
# $$ \begin{aligned}
# \nabla \log p_t(x_t)
# &= \frac{1}{p_t(x_t)} \int \nabla q(x_t \mid x_0)\; q(x_0)\, dx_0 \\
# &= \int \frac{\alpha_t x_0 - x_t}{\sigma_t^2}\; \frac{q(x_t \mid x_0)\; q(x_0)}{p_t(x_t)}\, dx_0 \\
# &= \int \frac{\alpha_t x_0 - x_t}{\sigma_t^2}\; q(x_0 \mid x_t)\, dx_0 .
# \end{aligned} $$
#
# The second line has the gradient of a Gaussian, the third is Bayes. What is left is an average:
#
# $$ \nabla \log p_t(x_t) = \frac{\alpha_t\, \hat x_0 - x_t}{\sigma_t^2} , \tag{3.12} $$
#
# *Tweedie's formula*. **A denoiser and a score are the same thing**: the arrow points from $x_t$ to $\alpha_t$ times the
# guess. ([@robbins1956]; [@efron2011]; [@vincent2011] for denoisers. [@song2019] sampled by scores before DDPM.)

# %% [markdown]
# **Your turn.** The score from the denoiser.

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
# *go along the arrow, stretch, add noise* ([@anderson1982] in continuous time). Now give the blind loop of section 1
# this term, from the memory of section 6, which has the first four pictures, not the shirt. (The loop's noise
# has nearly the variance $\sigma_{ts}^2$.)
#
# *Predict: which pictures come back?*

# %%
mended, generator = forward, seeded(0)
for beta, t in zip(betas[:200].flip(0), times(1000)[800:], strict=False):
    (alpha, sigma), x0_hat = schedule(t), memory.denoise(mended, t, schedule)
    arrow = (alpha * x0_hat - mended) / sigma**2
    z = torch.randn(x0.shape, generator=generator)
    mended = (mended + beta * arrow - beta.sqrt() * z) / (1 - beta).sqrt()

rows = {"data": x0, "200 forward": forward, "back, blind": backward,
        "with the arrow": mended}
plot.strips(rows, "Four rows of five pictures.", size=96)

# %% [markdown]
# <details><summary>Answer</summary>
#
# The four, with a grain of 0.01: the loop adds noise in its last step too. The shirt comes back as another picture of
# the memory.
#
# </details>

# %% tags=["check"]
# @title ✓ The mended walk: to the clusters, and to pictures of the memory
points, generator = cloud, seeded(0)
for beta, t in zip(betas.flip(0), times(1000), strict=False):
    z = torch.randn(points.shape, generator=generator)
    moved = points + beta * clusters.score(points, t, schedule)
    points = (moved - beta.sqrt() * z) / (1 - beta).sqrt()
found, index = nearest(mended, wardrobe)
assert index[:4].tolist() == [0, 1, 5, 8] and found.max() < 0.5
grain, lost = (mended - x0).square().sum((1, 2, 3)).sqrt().tensor_split([4])
assert abs(grain.mean() / 32 - 0.01) < 0.001 and lost > 5  # in each of 32 * 32 pixels
assert measure(points)[0] < 0.02 and abs(measure(points)[1] - 0.2) < 0.01
print(f"✓ {measure(points)[0]:.1%} of points stray; a pixel of the four is off by",
      f"{grain.mean() / 32:.2f}, of the shirt by {lost[0] / 32:.2f} (root mean square)")

# %% tags=["check"]
# @title ✓ (3.13) is (3.8)
for s, t in ((0.0, 0.02), (0.1, 0.4), (0.5, 1.0)):
    a, b = transition(s, t, schedule)
    mean = posterior(crowd, denoise(crowd, t), s, t, schedule).mean
    assert torch.allclose((crowd + b**2 * by_autograd(crowd, t)) / a, mean, atol=1e-7)
print("✓ (3.13) and (3.8) have the same mean, to 1e-7, at 600 points and three steps")

# %% [markdown]
# ### Why add noise at all?
#
# Now the 4,000 points, with 500 steps of (3.13) without fresh noise. One walk takes the whole arrow, one only half.
#
# *Predict: which ends like the data?*

# %%
def no_noise(n, take):
    """n steps (3.13) that take `take` times the arrow, and add nothing."""
    points = cloud
    for t, s in pairwise(times(n)):
        a, b = transition(s, t, schedule)
        points = (points + take * b**2 * clusters.score(points, t, schedule)) / a
    return points


clouds |= {"whole, no noise": no_noise(500, 1), "half, no noise": no_noise(500, 0.5)}
show({name: clouds[name] for name in ("whole, no noise", "half, no noise", "data")},
     "Three clouds: eight specks, and twice the eight clusters.")

# %% [markdown]
# <details><summary>Answer</summary>
#
# Nearly "half". The whole arrow leaves eight specks, too near to the middle, and hardly any rare ones.
#
# </details>
#
# By section 2 half of it undoes the step forward, the other half makes room for fresh noise. **Without noise, half will
# do** ([@song2021]).

# %% tags=["check"]
# @title ✓ Without noise half of the term is right; more and less of it are not
stray, width, rare, spread = measure(clouds["half, no noise"])
assert abs(stray - 0.011) < 0.007 and abs(width - 0.2) < 0.01
assert abs(rare - 0.25) < 0.03 and abs(spread - 1) < 0.02
_, speck, few, near = measure(clouds["whole, no noise"])
assert speck < 0.06 and few < 0.08 and 0.74 < near < 0.82
by_share = [measure(no_noise(200, take))[3] for take in (0.4, 0.5, 0.6)]
assert by_share[0] > 1.2 and abs(by_share[1] - 1) < 0.03 and by_share[2] < 0.9
print("✓ without noise the points (spread 1 in the data) have spread {:.2f} with 0.4 of"
      " the term, {:.2f} with half, {:.2f} with 0.6, {:.2f} with all".format(
          *by_share, near))

# %% [markdown]
# ## What to keep
#
# - The true step back depends on all data (3.1). Given $x_0$ it is a known Gaussian (3.4).
# - Short steps back are nearly Gaussian. A walk with noise takes the whole arrow, one without takes half.
# - The best denoiser is the mean $\hat x_0$. It makes the mean of a step exact (3.8).
# - Denoiser and score are one thing (3.12).
# - A walk with the best denoiser of a *data set* draws only its pictures (3.11).

# %% [markdown]
# ## Exercises
#
# **1. Pen.** (a) What are $m$ and $v$ of (3.4) at $s = 0$? May a walk add noise in its last step? (b) Let $s \to t$
# at a fixed $t > 0$. What becomes of the ratio of the bounds in (3.9), $\sigma_s^2 / \sigma_t^2$? (c) Near the data
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
# **2. Code.** Long strides in the papers' letters: given $\bar\alpha_s$ and $\bar\alpha_t$ for any steps $s < t$,
# return mean and *standard deviation* of $q(x_s \mid x_t, x_0)$. What plays their $\alpha_t$, and what $\beta_t$?

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
# <details><summary>Answer</summary>
#
# $\bar\alpha_t / \bar\alpha_s$ plays their $\alpha_t$, and one minus it $\beta_t$.
#
# </details>

# %% [markdown]
# **3. Open.** When does the true step back have two humps? Find a rule for two equal components, half way between them:
# compare $B = \sigma_{ts} / \alpha_{ts}$, the width of what $x_t$ says, with distance and width of the components at $s$.
# Then predict the shortest step with two humps for three pairs, to 0.02, and write it into `mine`.

# %%
def humps_back(mixture, x_t, step, t):
    """The number of humps of q(x_s | x_t) at s = t - step; x_t is a number."""
    kernel = mixture.reverse(torch.tensor([x_t]), t - step, t, schedule)
    p = kernel.log_prob(x[:, None], 0.0, schedule).exp()  # 0.0: no more noise
    return int(((p[1:-1] > p[:-2]) & (p[1:-1] > p[2:])).sum())


def pair_of(distance, width):
    return Mixture(torch.tensor([0.5, 0.5]), torch.tensor([[-distance / 2],
                   [distance / 2]]), torch.tensor([width, width]))


# %%
def at_s(step, distance, width, t=0.4):
    """B, and distance and width of the components at s = t - step."""
    (alpha_s, sigma_s), (a, b) = schedule(t - step), transition(t - step, t, schedule)
    return b / a, alpha_s * distance, ((alpha_s * width) ** 2 + sigma_s**2).sqrt()


for step in (0.1, 0.2, 0.3):
    B, distance, width = at_s(step, 2.0, 0.2)
    print(f"step {step}: humps {humps_back(pair_of(2.0, 0.2), 0.0, step, 0.4)},",
          f"B {B:.2f}, distance {distance:.2f}, width {width:.2f}")

# %%
pairs = (1.0, 0.1), (2.0, 0.6), (4.0, 0.1)  # distance and width of the data
mine = 0.0, 0.0, 0.0  # your shortest steps with two humps, one for each pair

# %% tags=["folded"]
# @title Check your steps
def by_rule(step, *pair):  # the rule of the answer below
    B, distance, width = at_s(step, *pair)
    return distance > 2 * width * (1 + (width / B) ** 2).sqrt()


steps = [h / 1000 for h in range(20, 399, 2)]
for pair, yours_ in zip(pairs, mine, strict=True):
    counted = next(h for h in steps if humps_back(pair_of(*pair), 0.0, h, 0.4) > 1)
    assert abs(counted - next(h for h in steps if by_rule(h, *pair))) < 0.005
    right = "right" if abs(yours_ - counted) < 0.02 else "not yet"
    print("distance {:g}, width {:g}:".format(*pair), right)

# %% [markdown]
# <details><summary>Answer</summary>
#
# If the distance is above $2w\sqrt{1 + w^2/B^2}$, with $w$ the width at $s$: equal bells need centres more than
# $2\sqrt{v_j}$ apart, and (3.10) has both. The steps: 0.26, 0.21, 0.07.
#
# </details>

# %% [markdown]
# **Deeper:** [03, deeper](deeper/03_reverse_diffusion.ipynb).
#
# **Next:** [04 · The variational bound](04_variational_bound.ipynb).
#
# ## References
#
# {references}
