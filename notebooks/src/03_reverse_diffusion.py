# %% [markdown]
# # 03 · Reverse diffusion
#
# **Noise is easy to add. What must we know to take it out again?** Below, 600 points that began as pure noise walk
# back to data, eight clusters. The grey says where *noisy* data are likely, the arrows where they are likelier: at
# first in the middle, in the end at the clusters. Here they are computed; a network will have to learn them.

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
# **You build** the exact step back for one who knows the clean picture, then the best possible denoiser, and out of the
# two a sampler. Nothing is trained. You need chapter 02 and Bayes' rule. An hour to read, another
# for gaps and predictions, half a minute to run; a good break is after section 5.
#
# | letter | meaning |
# |---|---|
# | $x_t = \alpha_t x_0 + \sigma_t \epsilon$ | the state at time $t$, from 0 (data) to 1 (noise) (2.4) |
# | $s < t$ | two times, $s$ nearer the data: a step back goes from $t$ to $s$ |
# | $\alpha_{ts},\ \sigma_{ts}$ | the step *forward* between them: $x_t = \alpha_{ts} x_s + \sigma_{ts} \epsilon'$ |
# | $q,\ p_t$ | the densities of the way to noise; $p_t(x)$ is short for $q(x_t)$ at $x_t = x$ |
# | $\mathcal N(x; m, v)$ | the normal density at $x$ with mean $m$ and *variance* $v$ |
# | $\hat x_0 = E[x_0 \mid x_t]$ | the mean of all clean data that could have become $x_t$ |

# %% [markdown]
# ## 1. Walking back blindly
#
# A step forward shrinks, then adds noise. Shouldn't a step back subtract noise, then stretch?
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
# More noise than before. A new draw has nothing to do with the noise in the picture, and variances add, whatever the
# sign: we *added* noise. (Section 7 mends this loop with one term.)
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
# *Predict: you see nothing but noise, and are judged by squared error. What do you draw?*

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
# One giant step gives an *average*, never a *sample*. Many small ones can, if they draw. (Chapters 00 and 01 drew only
# the start. Both ways reach the same *distribution*: chapter 08.) What should a step back draw?
#
# ### What Bayes says
#
# An $x_s$ from among all that could have become $x_t$. Bayes' rule turns the step forward round:
#
# $$ \begin{gathered}
# q(x_s \mid x_t) = \frac{q(x_t \mid x_s)\; q(x_s)}{q(x_t)}, \\
# q(x_s) = \int q(x_s \mid x_0)\; q(x_0)\, dx_0 .
# \end{gathered} \tag{3.1} $$
#
# This is the *true step back*, or reverse kernel. The first factor is a step of noise, the denominator only normalises.
# But $q(x_s)$ asks how likely a noisy picture is *among all noisy pictures of the world*: an integral over the data. For
# single numbers a grid can do it.

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
# Two worlds of numbers, both with mean 0 and variance 1: two humps at -1.2 and 0.8, or one bell.
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
# **The way back depends on the data.** That is how data can come out. But for pictures nobody knows $q(x_0)$, and a grid
# would have $2401^{1024}$ points: the integral is *intractable*.
#
# ## 2. If the picture were known
#
# Suppose somebody tells us $x_0$. Then the integral is gone:
#
# $$ q(x_s \mid x_t, x_0)
# = \frac{q(x_t \mid x_s)\; q(x_s \mid x_0)}{q(x_t \mid x_0)} . \tag{3.2} $$
#
# (The first factor needs no $x_0$: noise has no memory.) Two witnesses speak about $x_s$, each a bell:
#
# - $x_0$ says: near $\alpha_s x_0$, with variance $\sigma_s^2$.
# - $x_t = \alpha_{ts} x_s + \sigma_{ts}\epsilon'$, divided by $\alpha_{ts}$, says: near $x_t / \alpha_{ts}$, with
#   variance $\sigma_{ts}^2 / \alpha_{ts}^2$.
#
# Here they are, multiplied, for $x_0 = 0.8$, $x_t = -0.8$, $t = 0.2$.
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
# To $x_0$ near the data, to $x_t$ just before $t$: to the surer one, whose bell is narrower.
#
# </details>
#
# Where a kernel runs, move all three.

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
# *Precisions, one over variance, add. Means are averaged by precision.* Proof: compare the factors of $-\frac12 x^2$ and
# of $x$ in the exponents.
#
# **Your turn**, with pen first: which $v$ and $m$ do the two witnesses give? (Pixels are independent here: a picture is
# handled like a number.)

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
# With pen it gets simpler. The precisions of the two witnesses add up to
#
# $$ \frac1v = \frac{\alpha_{ts}^2}{\sigma_{ts}^2} + \frac1{\sigma_s^2}
# = \frac{\alpha_{ts}^2\sigma_s^2 + \sigma_{ts}^2}{\sigma_{ts}^2\,\sigma_s^2}
# = \frac{\sigma_t^2}{\sigma_{ts}^2\,\sigma_s^2} , $$
#
# the last by (2.5), and $v$ multiplies $\alpha_{ts} x_t / \sigma_{ts}^2 + \alpha_s x_0 / \sigma_s^2$. So for any two
# times $s < t$ we have the [posterior](../docs/glossary.md#posterior) of a step ([@kingma2021]; one step apart,
# [@ho2020])
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
# **In terms of the noise.** A network may guess the noise instead of the picture. Put
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
# The blind walk had $x_s = (x_t - \sigma_{ts}\, z)/\alpha_{ts}$. The right step takes away a part of $\epsilon$, the noise
# that *is* there. Then it *adds* fresh noise, of variance $v$.
#
# *Predict: at step 500, which is larger, what the right step takes away or what it adds?*

# %%
for k in (1, 2, 100, 500):
    s, t = (k - 1) / 1000, k / 1000
    blind, sigma_t = transition(s, t, schedule)[1], schedule(t)[1]
    adds = step_back(noisy, clean, s, t)[1].mean()
    print(f"step {k:3}: takes {blind**2 / sigma_t:.4f} of the old noise,",
          f"adds {adds:.4f}; blind adds {blind:.4f}")

# %% [markdown]
# <details><summary>Answer</summary>
#
# What it adds, nearly ten times, as much as the blind walk! That walk lacked only the small term with $\epsilon$.
#
# </details>
#
# How can so small a term win? Independent draws add *variances*, here $\sigma_{ts}^2$; what is aligned adds *lengths*.
# The noise shrinks to $\sigma_t - \sigma_{ts}^2/\sigma_t$, and its variance by
#
# $$ \sigma_t^2 - \Big(\sigma_t - \frac{\sigma_{ts}^2}{\sigma_t}\Big)^2 \approx 2\,\sigma_{ts}^2 : $$
#
# half undoes the step forward, half pays for the draw.

# %% tags=["check"]
# @title ✓ (3.5) is (3.4)
eps, b_500 = torch.randn(2, generator=seeded(2)), transition(0.499, 0.5, schedule)[1]
for s, t in ((0.0, 0.001), (0.1, 0.4), (0.299, 0.3), (0.2, 1.0)):
    noisy, (a, b) = add_noise(clean, eps, t, schedule), transition(s, t, schedule)
    by_noise = (noisy - b**2 / schedule(t)[1] * eps) / a
    by_picture = posterior(noisy, clean, s, t, schedule).mean
    assert torch.allclose(by_noise, by_picture, atol=1e-8)
takes, adds = b_500**2 / sigma_t, step_back(noisy, clean, 0.499, 0.5)[1].mean()
off = sigma_t**2 - (sigma_t - takes) ** 2  # in variance
assert 9 < adds / takes < 10 and abs(adds / b_500 - 1) < 0.001 and off < 2 * adds**2
print(f"✓ one mean, to 1e-8; step 500 adds {adds / takes:.1f} times what it takes,",
      f"yet takes off {off / adds**2:.2f} times the variance that it adds")

# %% [markdown]
# ## 3. The true step back, and why steps are small
#
# Now without knowing $x_0$. For numbers we have the true step (3.1) on the grid.
#
# *Predict: data with two humps, and we stand at* $x_t = 0$ *at* $t = 0.4$. *How will a long step back look, how a short
# one?*

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
# A long step has two humps, and the best Gaussian, of the same mean and variance, lies between them. A short one is a
# bell.
#
# </details>
#
# Take logarithms in (3.1). The step of noise is a narrow bell around $x_t/\alpha_{ts}$, across which $\log p_s$ is nearly a
# straight line:
#
# $$ \log q(x_s \mid x_t) \approx -\frac{\alpha_{ts}^2}{2\sigma_{ts}^2}
# \left| x_s - \frac{x_t}{\alpha_{ts}} \right|^2 + (x_s - x_t) \cdot \nabla \log p_s(x_t) + \text{const.} $$
#
# A parabola plus a straight line is the same parabola, moved. **Long steps back are not Gaussian, short ones nearly
# are.** Hence many small steps, and networks that need only tell a mean. ([@sohldickstein2015] built on it;
# [@anderson1982] has the limit, [@nakkiran2024] this short proof.)

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
# ## 4. The best guess at the picture
#
# Back to the blur. A [denoiser](../docs/glossary.md#denoiser) is a function $f(x_t)$ that guesses $x_0$. Which one has
# the least squared error? With $\hat x_0 = E[x_0 \mid x_t]$, for any $f$
#
# $$ E\,|x_0 - f|^2 = E\,|x_0 - \hat x_0|^2 + E\,|\hat x_0 - f|^2 , $$
#
# because at a fixed $x_t$ the mixed term $2(x_0 - \hat x_0)\cdot(\hat x_0 - f)$ averages to 0, as its first factor does. So the best denoiser is $f = \hat x_0$, the *posterior mean*.
#
# To *see* it we need data with a formula, a **mixture**, like the two humps: each point picks component $j$ with
# probability $w_j$, and falls around its centre $m_j$ with standard deviation $c_j$. By (2.2) noise turns each component
# into a Gaussian again, so *a mixture stays a mixture*:
#
# $$ p_t(x) = \sum_j w_j\; \mathcal N_j(x), \qquad
# \mathcal N_j(x) = \mathcal N\!\left(x;\ \alpha_t m_j,\ (\alpha_t^2 c_j^2 + \sigma_t^2)\, I\right) . \tag{3.6} $$
#
# Bayes again: $x_t$ came from component $j$ with the probability
#
# $$ r_j(x_t) = \frac{w_j\, \mathcal N_j(x_t)}{\sum_k w_k\, \mathcal N_k(x_t)} , $$
#
# its *responsibility*. If we knew $j$, there would be two witnesses, the component and $x_t$. Asked for $x_s$, they give
# by (3.3) some mean $\mu_j$ and variance $v_j$. Then the true step back is
#
# $$ q(x_s \mid x_t) = \sum_j r_j(x_t)\; \mathcal N(x_s;\ \mu_j,\ v_j I) , \tag{3.7} $$
#
# a mixture too. Its variance, for any data: draw first $x_0$ given $x_t$, then $x_s$ by (3.4). The uncertainties add, the
# *law of total variance*. In each coordinate
#
# $$ \begin{gathered}
# \mathrm{Var}(x_s \mid x_t) = v
# + \left( \frac{\alpha_s\sigma_{ts}^2}{\sigma_t^2} \right)^{\!2} \mathrm{Var}(x_0 \mid x_t), \\
# v \;\le\; E\big[\mathrm{Var}(x_s \mid x_t)\big] \;\le\; \sigma_{ts}^2 ,
# \end{gathered} \tag{3.8} $$
#
# the last for $\alpha^2 + \sigma^2 = 1$ and a coordinate of variance at most one ([@sohldickstein2015]; proof in
# *deeper*). Section 5 uses it.
#
# Asked for $x_0$, one witness says $m_j$ with variance $c_j^2$, the other $x_t/\alpha_t$ with variance
# $\sigma_t^2/\alpha_t^2$: by (3.3) a guess of each component, and the responsibilities average them:
#
# $$ \hat x_0 = \sum_j r_j(x_t) \left( m_j
# + \frac{\alpha_t c_j^2}{\alpha_t^2 c_j^2 + \sigma_t^2}\, (x_t - \alpha_t m_j) \right) . \tag{3.9} $$
#
# The package has them as `Mixture.log_prob`, `reverse` and `denoise`.
#
# *Predict: how will it look as a function of* $x_t$, *for little noise, for some, for nothing but noise?*

# %%
humps = Mixture(torch.tensor([0.4, 0.6]), torch.tensor([[-1.2], [0.8]]),
                torch.tensor([0.2, 0.2]))
places = {0.01: (1.2, 1.65), 0.2: (-0.3, 0.55), 0.6: (1.6, 0.42), 1.0: (-1.6, 0.12)}
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
# With little noise it believes what it sees, but for a small kink at -0.2, where it turns from one hump to the other. At $t = 0.2$ the step is
# soft: *between the humps it hedges*. At 0.6 it hardly leaves the mean, and at $t = 1$ it says the mean: the blur.
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
                             for t in (0.01, 0.2, 0.6, 1.0))
inner = x.abs() < 2
assert 0.1 < timid[inner].abs().max() < 0.4
assert (little - x)[inner].abs().max() < 0.15 and none[inner].abs().max() < 0.05
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
# the picture? For the mean, yes: $m$ in (3.4) is linear in $x_0$, so the mean of (3.10) *is* that of the true step,
# however long. Shape and variance are not; but a short step is nearly a Gaussian (section 3 shows it).
#
# > **How the papers write it.** $p_\theta(x_{0:T}) = p(x_T) \prod_t p_\theta(x_{t-1} \mid x_t)$, steps
# > $\mathcal N(\mu_\theta, \Sigma_\theta)$ with $\tilde\mu_t$ of the network's $\hat x_0$ for $\mu_\theta$, and
# > $\tilde\beta_t I$ or $\beta_t I$ for $\Sigma_\theta$.
#
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
# The package's `ddpm` is the same loop, and hands over each state on its way; `final` takes the last. First single
# numbers.

# %%
def guess(x, t):
    return humps.denoise(x, t, schedule)


ts, start = times(100), torch.linspace(-1.5, 1.5, 6)[:, None]
walk = ddpm(guess, start, ts, schedule, seeded(5))
paths = torch.cat([start, *(state.x for state in walk)], 1).T  # (101, 6)
alt = "Six jagged paths from a wide bell at t = 1 to two bands at t = 0."
diagrams.ribbon(humps, schedule, ts, paths, alt, arrow="back: data come out")

# %% [markdown]
# Six starts, two humps: the draws decide. Now the 600 points from the top, with the guesses that led them.

# %%
def shot(state):
    return {f"t = {state.t:.2f}": (state.x, state.x0)}


alt = "Six hundred points and the guesses at where they come from."
widgets.film([diagrams.guesses(shot(state), alt)
              for state in list(states.values())[3::8]], ms=250)

# %%
four = {title: pair for t in (0.64, 0.32, 0.16, 0.0)
        for title, pair in shot(states[t]).items()}
diagrams.guesses(four, "Four moments of the film.")

# %% [markdown]
# The guesses start at the mean and take the shape of the data before the points do. Nothing was trained! Is it *right*,
# not only pretty? Now 4,000 points, by your own walk. **Strays** are farther than three of its widths from every cluster:
# $e^{-4.5} = 1.1\%$ of exact data.
#
# *Predict: how many steps are enough: 5, 20, 100 or 500?*

# %%
truth = clusters.sample(4000, seeded(4))
cloud = torch.randn(4000, 2, generator=seeded(9))
clouds = {f"{n} steps": ancestral(cloud, times(n), 10) for n in (5, 20, 100, 500)}
shown = {name: clouds[name] for name in ("5 steps", "20 steps", "100 steps")}
diagrams.clouds({**shown, "data": truth}, "Four clouds, a quarter of the plane each.",
                columns=4, window=(-0.3, 1.9))


# %%
def measure(points):
    """Share of strays, width of the common clusters, share of the rare ones."""
    widths, which = (torch.cdist(points, clusters.means) / clusters.stds).min(1)
    rare, stray = clusters.weights[which] < 0.1, widths > 3
    middle = widths[~rare & ~stray].median()  # half of a bell in the plane
    return stray.double().mean(), 0.2 * middle / 1.177, rare.double().mean()


def row(name, points):
    stray, width, rare = measure(points)
    print(f"{name:>18}: {stray:5.1%} strays, common clusters {width:.2f} wide, "
          f"{rare:3.0%} in rare ones")


for name, points in {**clouds, "data": truth}.items():
    row(name, points)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Hundreds, with this $v$. Of five steps nearly half end astray: between two clusters the true step has two humps, and a long Gaussian
# one goes to neither. Twenty look better, but the common clusters are too narrow, even after a hundred.
#
# </details>
#
# Chapter 08 needs far fewer steps.
#
# ### Why add noise at all?
#
# A step takes noise away, then puts some back. Leave that out!
#
# *Predict: 500 steps, each to the mean of the true step,* $z = 0$. *What comes out?*

# %%
def other_walk(n, factor):
    """Walk by (3.10) with factor * sigma_ts for the root of v; no noise at the end."""
    points, generator = cloud, seeded(10)
    for t, s in pairwise(times(n)):
        z = torch.randn(points.shape, generator=generator)
        noise = factor * transition(s, t, schedule)[1] * z if s > 0 else 0
        points = posterior(points, denoise(points, t), s, t, schedule).mean + noise
    return points


# %%
bare = other_walk(500, 0)
row("z = 0", bare)
print(f"rare clusters: {measure(bare)[2]:.0%} of the points, spread {bare.std():.2f}")
diagrams.clouds({"with noise": clouds["500 steps"], "z = 0": bare, "data": truth},
                "Three clouds of points.", window=(-1.9, 1.9))

# %% [markdown]
# <details><summary>Answer</summary>
#
# Wrong: eight specks, drawn in to the middle (their distance from the true centres counts as width), and the rare
# clusters, 25% of the data, have almost died out. The arrow of (3.5) is twice what undoes the step forward; half of it
# pays for the draw. Who does not draw goes too far.
#
# </details>
#
# So drift and noise belong together. (A walk without noise takes half the arrow: chapter 08.)
#
# ### How wide is a step?
#
# How much noise? By (3.8) at least $v$, right if only one picture is possible; and at most $\sigma_{ts}^2$, right if the
# data are noise.
#
# *Predict: data with two humps, a step from 0.4 to 0.1. At which* $x_t$ *is the true step widest?*

# %%
def true_step(x_t, s, t=0.4):
    """Mean and variance of (3.7)."""
    kernel = humps.reverse(torch.tensor([x_t]), s, t, schedule)
    means, w = kernel.means[:, 0], kernel.weights
    mean = (w * means).sum()
    return mean, (w * (kernel.stds[:, 0] ** 2 + means**2)).sum() - mean**2


at = x[200:2201:10]  # 201 places, from -5 to 5
true = torch.stack([true_step(float(u), 0.1)[1] for u in at])
least, most = (step_back(noisy, clean, 0.1, 0.4)[1].mean() ** 2,
               transition(0.1, 0.4, schedule)[1] ** 2)

# %%
lines = {"true": (true, (0.75, 0.86)), "$v$": (least.expand(201), (1.7, 0.13)),
         r"$\sigma_{ts}^2$": (most.expand(201), (1.7, 0.81))}
alt = "Three curves over x_t, and dotted lines at the centres of the humps."
picture = diagrams.labelled(at, lines, alt, "$x_t$", "variance of $x_s$")
picture.axes[0].set(xlim=(-2.2, 2.2), ylim=(0, 1.05))
for name, centre in ((r"$\alpha_t m_1$", -1.2), (r"$\alpha_t m_2$", 0.8)):
    place = float(schedule(0.4)[0]) * centre
    picture.axes[0].axvline(place, color="0.5", linestyle=":")
    picture.axes[0].text(place + 0.05, 0.03, name, fontsize=14)
picture

# %% [markdown]
# <details><summary>Answer</summary>
#
# Near $-0.46$, where both humps are equally likely: $r_1 = r_2 = \frac12$. That is left of the middle, as the left hump
# weighs less. There it is wider than $\sigma_{ts}^2$, which bounds the *average*.
#
# </details>
#
# *Predict: the clusters again. What does* $\sigma_{ts}^2$ *in the place of* $v$ *mend at 20 steps: the width, the
# strays, or both? And at 100?*

# %%
wide = {n: other_walk(n, 1) for n in (20, 100)}
for n, points in wide.items():
    row(f"{n} steps, v", clouds[f"{n} steps"])
    row("sigma_ts^2", points)

# %% [markdown]
# <details><summary>Answer</summary>
#
# The width: too narrow becomes hardly too wide. Not the strays: they come from the *shape*, two humps where we draw one,
# and only shorter steps mend that.
#
# </details>
#
# With many steps the bounds nearly meet: their ratio $\sigma_s^2/\sigma_t^2$ is 0.98 at DDPM's step 100 (0.45 at step 2). DDPM tried both, [@nichol2021] learn a variance between, [@bao2022] compute the average in (3.8). The
# package takes $v$: it ends at 0 by itself, and in pictures of few steps too much noise shows more than too little
# ([@song2020]; chapter 08 has the numbers).

# %% tags=["check"]
# @title ✓ (3.7) against brute force, and (3.8) on data that are not Gaussian
for u, s in ((0.0, 0.1), (-0.46, 0.1), (1.0, 0.2)):
    grid = torch.stack(moments(way_back(two_humps, u, s, 0.4)))
    assert torch.allclose(grid, torch.stack(true_step(u, s)))
p_t, alpha_t = marginal(two_humps, at, 0.4), schedule(0.4)[0]
unknown = torch.stack([true_step(float(u), 0.0)[1] for u in at])
part = (schedule(0.1)[0] * most / (1 - alpha_t**2)) ** 2 * unknown
average, v_t = (p_t * true).sum() / p_t.sum(), 1 - alpha_t**2 * 0.96
assert torch.allclose(true, least + part) and least < average < most < true.max()
left, right = (w * normal(at, alpha_t * m, v_t) for w, m in ((0.4, -1.2), (0.6, 0.8)))
even, peak = (left / (left + right) - 0.5).abs().argmin(), true.argmax()
assert abs(at[peak] - at[even]) < 0.06  # widest where both are equally likely
print(f"✓ {least:.3f} < average {average:.3f} < {most:.3f}; widest at {at[peak]:.2f}")

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
(stray_5, _, _), (stray_20, narrow, _), (_, nearly, _), (stray, width, _) = (
    measure(points) for points in clouds.values())
assert stray_5 > 0.4 and 0.02 < stray_20 < 0.06 and narrow < 0.165
assert abs(stray - 0.011) < 0.005 and abs(measure(truth)[0] - 0.011) < 0.005
assert 0.17 < nearly < 0.19 and 0.185 < width < 0.205
share = torch.cdist(clouds["500 steps"], clusters.means).argmin(1).bincount() / 4000
nearer = measure(states[0.1].x0)[0] / measure(states[0.1].x)[0]
assert states[0.99].x0.abs().max() < 0.05 and nearer < 0.7  # the guesses lead
assert torch.allclose(share, clusters.weights, atol=0.025)
assert torch.allclose(clouds["500 steps"].std(0), torch.ones(2), atol=0.04)
print("✓ with 500 steps shares to 0.025, widths to 0.015, overall spread to 0.04")

# %% tags=["check"]
# @title ✓ What noise is for, and what more of it mends
stray_bare, _, rare_bare = measure(bare)
assert stray_bare < 0.01 and rare_bare < 0.08 and 0.74 < bare.std() < 0.82
(more_20, wide_20, _), (_, wide_100, _) = (measure(points) for points in wide.values())
assert more_20 > stray_20 and wide_20 > 0.207 and abs(wide_100 - 0.2) < 0.01
noise = 1 - (1 - betas).cumprod(0)  # variances; steps 2 and 100
assert (noise[[0, 98]] / noise[[1, 99]] - torch.tensor([0.45, 0.98])).norm() < 0.01
print(f"✓ z = 0: {rare_bare:.0%} rare for 25%, spread {bare.std():.2f} for 1;",
      f"sigma_ts^2: width {wide_20:.2f} at 20 steps, {wide_100:.2f} at 100")

# %% tags=["check"]
# @title ✓ Half of the arrow, and no noise
half = cloud
for t, s in pairwise(times(500)):
    alpha_ts, sigma_ts = transition(s, t, schedule)
    half = (half + sigma_ts**2 / 2 * clusters.score(half, t, schedule)) / alpha_ts
stray, width, rare = measure(half)
assert stray < 0.03 and abs(width - 0.2) < 0.015 and abs(rare - 0.25) < 0.03
print(f"✓ {rare:.0%} rare for 25%, width {width:.2f} for 0.20, {stray:.1%} strays")

# %% [markdown]
# ## 6. A denoiser with perfect memory
#
# Of pictures we have no formula, but a data set. Take it as the whole truth: $N$ pictures $d_n$, equally likely, nothing
# else possible. That is a mixture of $N$ Gaussians of width 0, and (3.9) becomes
#
# $$ \hat x_0 = \sum_n r_n(x_t)\; d_n, \qquad
# r_n(x_t) = \underset{n}{\mathrm{softmax}}
# \left( -\frac{|x_t - \alpha_t d_n|^2}{2\,\sigma_t^2} \right) . \tag{3.11} $$
#
# (Equal weights and widths cancel in $r_n$; exponentials over their sum are a softmax.) Each picture counts by how well
# it explains what we see ([@karras2022], appendix B). For *these* data it is the best denoiser, `Empirical`. We show it
# a boot that it knows and a shirt that it has never seen.
#
# *Predict: what will it make of them?*

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
# Up to $t = 0.4$ it finds the boot exactly: 1,024 pixels are 1,024 witnesses. Then many pictures fit, and it averages.
# The new shirt, through hardly any noise, becomes *another* shirt. A perfect memory cannot see what is new.
#
# </details>
#
# *Predict: and what does it draw?*

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
# The sampler is right, the denoiser the best, and together they draw names from a hat. New clothes need a denoiser that finds out what clothes have in common. A network can. (It can also memorise:
# [@carlini2023].)

# %% tags=["check"]
# @title ✓ Memory: what it finds, and what it draws
kept, which = nearest(of_boots, wardrobe)
assert (which[:3] == 11).all() and kept[:3].max() < 1e-6 and kept[3:].min() > 5
assert nearest(of_shirts[:2], wardrobe)[0].max() < 1e-4
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
# The arrows of the opening picture are the [score](../docs/glossary.md#score), the gradient of the log density: where
# noisy data become likelier, and how fast. (Long arrows are drawn shorter: compare directions.) Differentiate
# $p_t(x_t) = \int q(x_t \mid x_0)\, q(x_0)\, dx_0$:
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
# guess. ([@robbins1956]; Miyasawa 1961 for Gaussian noise, Bull. Inst. Internat. Statist. 38; [@efron2011]; [@vincent2011]
# for denoisers. [@song2019] sampled by scores before DDPM.)
#
# **Your turn.** The judge is automatic differentiation of the exact log density.

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
# In (3.5) the best guess at $\epsilon$ is $-\sigma_t$ times the score. So a step back becomes
#
# $$ x_s = \frac{1}{\alpha_{ts}} \Big( x_t + \sigma_{ts}^2\; \nabla \log p_t(x_t) \Big) + \sqrt v\; z :
# \tag{3.13} $$
#
# *go along the arrow, stretch, add noise* ([@anderson1982] in continuous time). Give the blind loop of section 1 the arrow, by the memory
# of section 6, which knows these clothes.

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
# One term, and the clothes are back. ($-z$ is as good a draw as $z$.)
#
# Now the points of the opening picture, led by the true clusters or by a memory of 12 points, the crosses. Three clusters
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
    panels = [(data, t, walks[name][round(t, 2)], name)
              for name, data in fields.items() for t in ts]
    alt = "Arrows and walking points, for the clusters and for a memory of 12 points."
    return diagrams.score_arrows(panels, schedule, alt, crosses=twelve,
                                 columns=max(len(ts), 2))


arrows(0.9, 0.4, 0.02)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Nothing ends there. At $t = 0.9$ the two scores typically differ by less than a hundredth, at 0.4 by a quarter; near the
# data the lower arrows lead only to the 12 points.
#
# </details>
#
# Where a kernel runs, the slider moves $t$.

# %%
slider = ipywidgets.FloatSlider(0.2, min=0.01, max=0.99, step=0.01, description="t")
_ = widgets.explore(lambda t: arrows(t), t=slider)

# %% [markdown]
# A network gets points like these 12, and should learn the upper arrows. What do we ask of it? Squared error. But *over
# the 12 points* it is least for the lower arrows, (3.11): the loss itself asks for the wrong field. Only what a network
# cannot represent, or is stopped from fitting, leads to the right one. Chapter 04 finds this loss in a bound on the
# likelihood.

# %% tags=["check"]
# @title ✓ The mended walk: from noise to the clusters, and to the clothes of section 1
points, generator = cloud, seeded(0)
for beta, t in zip(betas.flip(0), times(1000), strict=False):
    z = torch.randn(points.shape, generator=generator)
    arrow = clusters.score(points, t, schedule)
    points = (points + beta * arrow - beta.sqrt() * z) / (1 - beta).sqrt()
found, which = nearest(mended, wardrobe)
assert which.tolist() == [0, 1, 5, 8] and found.max() < 0.5  # 0.01 in each pixel
stray, width, _ = measure(points)
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
# - The true step back depends on all data (3.1). Given $x_0$ it is a known Gaussian (3.4): precisions add.
# - A short step back is nearly Gaussian, a long one is not: hence many small steps. They draw, for half of their arrow pays for it.
# - The best denoiser is the mean $\hat x_0$. In the place of $x_0$ it makes the mean of a step exact (3.10).
# - Denoiser and score are one thing (3.12): the arrow points to the guess.
# - The best denoiser of a *data set* only remembers (3.11). A network is there to be wrong about that in the right way.
#
# ## Exercises
#
# **1. Pen.** (a) What are $m$ and $v$ of (3.4) at $s = 0$? May a walk add noise in its last step? (b) Let $s \to t$
# at a fixed $t > 0$. What becomes of the ratio of the bounds in (3.8), $\sigma_s^2 / \sigma_t^2$? (c) Near the data $\sigma_k^2 \approx k\beta$ after $k$ equal tiny steps. How does the ratio go there,
# step by step, and why do smaller steps not help?
#
# <details><summary>Answer</summary>
#
# (a) $\sigma_0 = 0$, so $v = 0$, and $m = x_0$, as $\sigma_{t0} = \sigma_t$: no noise in the last step. (b) It tends to 1, as $\sigma_t > 0$: the bounds meet. (c) From step $k$ to
# $k - 1$ it is $(k-1)/k$: 0, a half, two thirds. $\beta$ has dropped out.
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
# **3. Open.** When does the true step back have two humps? `humps_back` counts them. Find a rule of thumb that compares the blur of the view back, $\sigma_{ts} / \alpha_{ts}$, with distance and width of
# the components at time $s$. It should foretell within a tenth when another pair gets its second hump.

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

# %% [markdown]
# **Deeper:** [03, deeper](deeper/03_reverse_diffusion.ipynb): proof of the bounds, how fast steps become Gaussian, when a
# walk is decided, more bugs, a memory that draws new points.
#
# **Next:** [04 · The variational bound](04_variational_bound.ipynb), from a walk back to a likelihood.
#
# ## References
#
# {references}
