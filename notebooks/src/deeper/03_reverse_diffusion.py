# %% [markdown]
# # 03, deeper · Reverse diffusion
#
# What the main line of [chapter 03](../03_reverse_diffusion.ipynb) states and leaves: why blind subtraction doubles the
# noise, what part of the noise the last step made, how wide a true step is, how fast steps become Gaussian, when a walk
# is decided, three bugs, a memory that draws new points, and one that cannot.
# The sections can be read one by one (run them in order: 7 uses the points of 5); numbers like (3.4) lead to the main line. The letters are the same:
# $x_t = \alpha_t x_0 + \sigma_t \epsilon$, times $s < t$, a step forward $x_t = \alpha_{ts} x_s + \sigma_{ts} \epsilon'$.

# %%
import torch

from minidiff import FromBetas, Mixture, ddpm, final, linear_betas
from minidiff import posterior, times, transition
from minidiff.course import plot
from minidiff.data import toy

torch.set_default_dtype(torch.float64)
betas = linear_betas(1000)  # DDPM's
schedule = FromBetas(betas)
humps = Mixture(torch.tensor([0.4, 0.6]), torch.tensor([[-1.2], [0.8]]),
                torch.tensor([0.2, 0.2]))
clusters = Mixture(*(part.double() for part in toy.mixture_parameters()))


# %%
def seeded(seed):
    return torch.Generator().manual_seed(seed)


x = torch.linspace(-6, 6, 2401)
dx = x[1] - x[0]


def denoise(x, t):
    return clusters.denoise(x, t, schedule)


def way_back(x_t, s, t, data=humps):
    """The true step back q(x_s | x_t) of data on a line, on the grid x."""
    kernel = data.reverse(torch.tensor([x_t]), s, t, schedule)
    return kernel.log_prob(x[:, None], 0.0, schedule).exp()


# %% [markdown]
# ## 1. Why blind subtraction doubles the noise
#
# The blind walk of the main line took $x \mapsto (x - \sqrt{\beta_k}\, z)/\sqrt{1-\beta_k}$ from step $n$ down to step 1.
# Stretching alone would leave noise of variance $\sigma_n^2/\alpha_n^2 = 1/\alpha_n^2 - 1$, where $\alpha_k$ is the
# factor of the signal after $k$ steps. On top comes what we subtracted. The draw of step $k$ is stretched by that step
# and by all that follow, down to step 1, in all by $1/\alpha_k$. As $\beta_k = 1 - \alpha_k^2/\alpha_{k-1}^2$, the sum of
# the variances telescopes:
#
# $$ \sum_{k=1}^{n} \frac{\beta_k}{\alpha_k^2}
# = \sum_{k=1}^{n} \left( \frac{1}{\alpha_k^2} - \frac{1}{\alpha_{k-1}^2} \right) = \frac{1}{\alpha_n^2} - 1 , $$
#
# the same once more, after any number of steps and for any *table* (a schedule given step by step).

# %% tags=["check"]
# @title ✓ The sum, and a walk of 100,000 numbers
square = (1 - betas).cumprod(0)  # alpha squared, of steps 1 to 1000
sums = (betas / square).cumsum(0)
assert torch.allclose(sums, 1 / square - 1, rtol=1e-9)
noise = seeded(0)
walker = square[199].sqrt() + (1 - square[199]).sqrt() * torch.randn(
    100_000, generator=noise)
for beta in betas[:200].flip(0):
    z = torch.randn(100_000, generator=noise)
    walker = (walker - beta.sqrt() * z) / (1 - beta).sqrt()
assert torch.isclose(walker.var(), 2 * (1 / square[199] - 1), rtol=0.02)
print(f"✓ after 200 blind steps the noise has variance {walker.var():.2f}, twice the",
      f"{1 / square[199] - 1:.2f} that stretching alone would leave")

# %% [markdown]
# ## 2. What part of the noise did the last step make?
#
# By (3.5) a step back takes away $\sigma_{ts}^2/\sigma_t$ times $\epsilon$. Why just so much? The noise in $x_t$ is a sum of
# what was there at $s$, shrunk, and of what came in since: $\sigma_t\epsilon = \alpha_{ts}\sigma_s\,\epsilon_s + \sigma_{ts}\,\epsilon'$. Who sees only the
# sum can guess the second part. The best straight line through $\sigma_{ts}\epsilon'$ as a function of $\epsilon$ has
# the slope $E[\sigma_{ts}\epsilon'\,\epsilon]/E[\epsilon^2] = \sigma_{ts}^2/\sigma_t$: just what (3.5) takes away. A
# step back removes the part of the noise that, as far as one can tell, the step forward added.

# %% tags=["check"]
# @title ✓ The share of the last step, measured on a million pairs
before, added = torch.randn(2, 1_000_000, generator=seeded(17))
(a, b), (_, sigma_s), (_, sigma_t) = (
    transition(0.3, 0.4, schedule), schedule(0.3), schedule(0.4))
total = (a * sigma_s * before + b * added) / sigma_t
slope = (b * added * total).mean() / total.square().mean()
assert torch.isclose(slope, b**2 / sigma_t, rtol=0.02)
print(f"✓ from 0.3 to 0.4 a million pairs give the slope {slope:.2f}; (3.5)",
      f"takes away {b**2 / sigma_t:.2f}")

# %% [markdown]
# ## 3. The bounds of the variance
#
# How wide is the true step back? Think of it in two stages: draw $x_0$ from all that fit to $x_t$, then $x_s$ by (3.4).
# The variances of the two stages add (the *law of total variance*), and of the mean in (3.4) only the term with $x_0$ is
# uncertain. In each coordinate
#
# $$ \mathrm{Var}(x_s \mid x_t) = v
# + \left( \frac{\alpha_s\sigma_{ts}^2}{\sigma_t^2} \right)^{\!2} \mathrm{Var}(x_0 \mid x_t) . $$
#
# *Predict: data with two humps, a step from 0.4 to 0.1. At which* $x_t$ *is the true step widest?*

# %%
def step_variance(x_t, s, t=0.4):
    """The variance of (3.10), for the humps at a number x_t."""
    step = humps.reverse(torch.tensor([x_t]), s, t, schedule)  # a Mixture
    means, r = step.means[:, 0], step.weights
    return (r * (step.stds[:, 0] ** 2 + means**2)).sum() - (r * means).sum() ** 2


at = x[200:2201:10]  # 201 places, from -5 to 5
true = torch.stack([step_variance(float(u), 0.1) for u in at])
most = transition(0.1, 0.4, schedule)[1] ** 2  # the upper bound of (3.9)
least = most * schedule(0.1)[1] ** 2 / schedule(0.4)[1] ** 2  # v

# %%
from minidiff.course import diagrams

lines = {"true": (true, (0.75, 0.86)), "$v$": (least.expand(201), (1.7, 0.13)),
         r"$\sigma_{ts}^2$": (most.expand(201), (1.7, 0.81))}
alt = "A hump-shaped curve over x_t, between and above two level lines; two centres."
picture = diagrams.labelled(at, lines, alt, "$x_t$", "variance of $x_s$")
picture.axes[0].set(xlim=(-2.2, 2.2), ylim=(0, 1.05))
for name, centre in ((r"$\alpha_t d_1$", -1.2), (r"$\alpha_t d_2$", 0.8)):
    place = float(schedule(0.4)[0]) * centre
    picture.axes[0].axvline(place, color="0.5", linestyle=":")
    picture.axes[0].text(place + 0.05, 0.03, name, fontsize=14)
picture

# %% [markdown]
# <details><summary>Answer</summary>
#
# Near $-0.45$, where both humps are equally likely. That is left of the middle, as the left hump weighs less. There it is
# wider than $\sigma_{ts}^2$, which bounds only the *average*.
#
# </details>

# %% tags=["check"]
# @title ✓ The two stages add up; (3.9) on data that are not Gaussian
for u, s in ((0.0, 0.1), (-0.46, 0.1), (1.0, 0.2)):
    (a, b), fit = transition(s, 0.4, schedule), humps.log_prob(x[:, None], s, schedule)
    p = (fit - ((u - a * x) / b) ** 2 / 2).softmax(0)  # (3.1) on the grid
    assert torch.isclose((x**2 * p).sum() - (x * p).sum() ** 2, step_variance(u, s))
unknown = torch.stack([step_variance(float(u), 0.0) for u in at])  # of x_0
part = (schedule(0.1)[0] * most / schedule(0.4)[1] ** 2) ** 2 * unknown
average = humps.log_prob(at[:, None], 0.4, schedule).softmax(0) @ true  # over p_t
assert torch.allclose(true, least + part) and least < average < most < true.max()
widest = at[true.argmax()]  # where both humps are equally likely
assert abs(humps.reverse(widest[None], 0.0, 0.4, schedule).weights[0] - 0.5) < 0.06
print(f"✓ the average variance, {average:.3f}, is between {least:.3f} and {most:.3f};",
      f"the step is widest at {widest:.2f}")

# %% [markdown]
# **Proof of (3.9)**, coordinate by coordinate. For *Gaussian* data of variance $c^2$ the
# density of $x_s$ is Gaussian of variance $V_s = \alpha_s^2 c^2 + \sigma_s^2$, and by (3.1) and (3.3) the precisions add:
#
# $$ \mathrm{Var}(x_s \mid x_t)
# = \left( \frac{\alpha_{ts}^2}{\sigma_{ts}^2} + \frac1{V_s} \right)^{\!-1}
# = \frac{\sigma_{ts}^2\, V_s}{\alpha_{ts}^2\, V_s + \sigma_{ts}^2} . $$
#
# With $c = 0$ it is $v$ of (3.4). With $c = 1$ and $\alpha^2 + \sigma^2 = 1$ we have $V_s = 1$, and it is $\sigma_{ts}^2$,
# as $\alpha_{ts}^2 + \sigma_{ts}^2 = 1$.

# %% [markdown]
# For any data the lower bound holds at every single $x_t$, as a variance is never negative. For the upper one, average over $x_t$:
# $E[\mathrm{Var}(x_0 \mid x_t)]$ is the squared error of the best guess at $x_0$, hence at most that of the best
# *straight line*. The error of that line is $c^2 \sigma_t^2/(\alpha_t^2 c^2 + \sigma_t^2)$ for any data of variance $c^2$,
# which grows with $c$. So it is at most what it is for Gaussian data with $c = 1$, where the straight line *is* the best guess. $\blacksquare$
#
# [@sohldickstein2015] state the bounds for entropies; DDPM (section 3.2) gives both ends as choices of the variance.
#
# *Predict: is the truth for Gaussian data of standard deviation only 0.03 near the lower bound, or near the upper?*

# %%
k = torch.arange(1, 1001)
s, t = (k - 1) / 1000, k / 1000
(alpha_s, sigma_s), (_, sigma_t) = schedule(s), schedule(t)
alpha_ts, sigma_ts = transition(s, t, schedule)


def reverse_variance(c):
    """Var(x_s | x_t) for Gaussian data of standard deviation c, at all 1,000 steps."""
    V = alpha_s**2 * c**2 + sigma_s**2
    return sigma_ts**2 * V / (alpha_ts**2 * V + sigma_ts**2)


# %%
alt = "Curves from 0 (c = 0) to 1 (c = 1) at the first step; all meet at 1 later."
picture, (ax,) = plot.figure(alt, width=6.4, height=3.6)
for c, place in ((1.0, 1.0), (0.03, 0.9), (0.01, 0.5), (0.003, 0.09), (0.0, 0.0)):
    ax.plot(k, reverse_variance(c) / sigma_ts**2, "o-", markersize=2)
    ax.text(0.9, place, f"c = {c:g}", ha="right", va="center", fontsize=11)
ax.set(xscale="log", xlim=(0.2, 1000), ylim=(-0.05, 1.05),
       xlabel="step back from step k", ylabel="variance over the upper bound")
picture

# %% [markdown]
# <details><summary>Answer</summary>
#
# Near the upper, at every step. The lower bound is for directions in which data vary less than the noise of the first
# step, whose standard deviation is $\sqrt{\beta_1} = 0.01$. Pictures have those too: a border that is always black.
#
# </details>
#
# The lowest curve is $\sigma_s^2/\sigma_t^2$, which [@nichol2021] drew. The average in (3.9) can be computed and used as the
# variance of a step: [@bao2022]. At step 2 the lowest curve is below a half, at step 100 two percent below 1. So for
# most of a walk of 1,000 steps the choice hardly matters, and in its last few steps it decides how the finest grain is drawn.

# %% tags=["check"]
# @title ✓ Both ends of (3.9), against the exact reverse of a mixture
lower = reverse_variance(0.0)
assert torch.allclose(lower, (sigma_ts * sigma_s / sigma_t) ** 2)
assert torch.allclose(reverse_variance(1.0), sigma_ts**2)
unknown = 1 / (1 / 0.5**2 + (1 - sigma_t**2) / sigma_t**2)  # Var(x_0 | x_t), by (3.3)
factor = alpha_s * sigma_ts**2 / sigma_t**2
assert torch.allclose(lower + factor**2 * unknown, reverse_variance(0.5))
for c, n in ((0.1, 2), (0.1, 300), (0.5, 10)):
    one = Mixture(torch.ones(1), torch.zeros(1, 1), torch.tensor([c]))
    std = one.reverse(torch.zeros(1), (n - 1) / 1000, n / 1000, schedule).stds[0, 0]
    assert torch.isclose(std**2, reverse_variance(c)[n - 1], rtol=1e-6)
print("✓ the two stages add up, both ends of (3.9) are reached, and Mixture.reverse",
      "agrees at three steps, to 1e-6")

# %% tags=["check"]
# @title ✓ What the figure says
ratio = {c: reverse_variance(c) / sigma_ts**2 for c in (0.0, 0.003, 0.01, 0.03)}
assert ratio[0.03].min() > 0.85 and ratio[0.003][0] < 0.1
assert ratio[0.0][1] < 0.5 and 0.975 < ratio[0.0][99] < 0.985
print(f"✓ lower over upper bound: {ratio[0.0][1]:.2f} at step 2,",
      f"{ratio[0.0][99]:.2f} at step 100; truth over upper bound for c = 0.03:",
      f"at least {ratio[0.03].min():.2f}")

# %% [markdown]
# **In a sampler.** Here are the eight clusters of the main line, drawn by (3.8) in few steps: with $v$ as there, and with
# $\sigma_{ts}^2$ in its place.

# %%
def drawn_by(n, upper):
    """4,000 points after n steps (3.8); their noise has the upper bound or v."""
    points, noise = torch.randn(4000, 2, generator=seeded(9)), seeded(10)
    for t, s in zip(times(n), times(n)[1:], strict=False):
        step = posterior(points, denoise(points, t), s, t, schedule)
        std = transition(s, t, schedule)[1] if upper and s > 0 else step.std
        points = step.mean + std * torch.randn(points.shape, generator=noise)
    return points


# %%
found = {}
for n in (20, 100):
    for name, upper in (("v", False), ("sigma_ts^2", True)):
        near = (torch.cdist(drawn_by(n, upper), clusters.means) / clusters.stds).min(1)
        common = near.values[near.indices % 2 == 1]  # of width 0.2
        width = 0.2 * common.median() / 1.177  # half of a 2-D Gaussian is within
        found[n, name] = (near.values > 3).double().mean(), width  # strays
        print(f"{n:3} steps, {name:>10}: strays {found[n, name][0]:.1%},",
              f"width {width:.2f}")

# %% [markdown]
# In the data the width is 0.20. With $\sigma_{ts}^2$ the clusters are a little too wide, with $v$ too narrow, at 20 steps
# by more. The strays become more, not fewer: the step still has one hump.

# %% tags=["check"]
# @title ✓ With v the clusters are too narrow, with the upper bound too wide
for n, least_width, most_width in ((100, 0.17, 0.19), (20, 0.15, 0.18)):
    (stray, narrow), (more, wide) = found[n, "v"], found[n, "sigma_ts^2"]
    assert least_width < narrow < most_width and 0.2 < wide < 0.225 and more > stray
print(f"✓ 20 steps with v: width {narrow:.2f}, strays {stray:.1%}; with the upper",
      f"bound: width {wide:.2f}, strays {more:.1%}; in the data the width is 0.20")

# %% [markdown]
# ## 4. How fast a step becomes Gaussian
#
# One number for "how far from Gaussian" is the *Kullback-Leibler divergence* $\int p \log(p/g)$ from the true step $p$
# to a Gaussian $g$. It is never negative, 0 where they are equal, and with the natural logarithm its unit is the *nat*.
# Let $p$ have mean $\mu$ and variance $\omega$. Of all Gaussians the one with the same two has the smallest divergence:
# a $g$ of mean $\mu'$ and variance $\omega'$ enters only through
# $-\int p \log g = \frac12\big(\log 2\pi\omega' + (\omega + (\mu-\mu')^2)/\omega'\big)$, which is least at $\mu' = \mu$,
# $\omega' = \omega$. That is what "best Gaussian" means here and in the main line.
#
# A sampler does not know $\omega$. What it can compute is the Gaussian with the right mean and the variance of (3.4).
#
# *Predict: by what factor do the two divergences shrink if the step is halved: 2, 4 or 8?*

# %%
def moments(density):
    mean = (x * density).sum() * dx
    return mean, ((x - mean) ** 2 * density).sum() * dx


# %%
def divergences(step, x_t=0.0, t=0.4):
    """KL in nats from the true step to the best Gaussian and to the sampler's: (2,)."""
    true = way_back(x_t, t - step, t)
    mean, variance = moments(true)
    at = torch.tensor([x_t])
    narrow = posterior(at, at, t - step, t, schedule).std.squeeze() ** 2
    logs = torch.stack([torch.distributions.Normal(mean, v.sqrt()).log_prob(x)
                        for v in (variance, narrow)])  # (2, 2401)
    return (torch.xlogy(true, true) - true * logs).sum(1) * dx


# %%
lengths = torch.logspace(-2.7, -0.41, 30)
best, sampler = torch.stack([divergences(float(h)) for h in lengths]).T  # (30,) each

# %%
alt = "Two rising lines on logarithmic axes, along guides of third and second power."
picture, (ax,) = plot.figure(alt, width=6.4, height=3.8)
ax.loglog(lengths, best, label="best Gaussian")
ax.loglog(lengths, sampler, color=plot.COLOURS[3], label="variance of (3.4)")
short = lengths[lengths < 0.03]
for gap, power, style in ((best, 3, "k:"), (sampler, 2, "k--")):
    guide = gap[0] / 3 * (short / short[0]) ** power
    ax.loglog(short, guide, style, label=f"power {power} of the step")
ax.set(xlabel="step t - s", ylabel="nats")
ax.legend(fontsize=11)
picture

# %% [markdown]
# <details><summary>Answer</summary>
#
# The first by 8, the second by 4, for steps below 0.01; for longer ones by more. The best Gaussian differs from the
# true step only in *shape*. The sampler's differs in *width* too, by a share that falls with the first power of the
# step, and the divergence grows as the square of that share.
#
# </details>
#
# **Why the third power.** A short step is a bell of variance about $\sigma_{ts}^2$ times $p_s$. The slope of $\log p_s$
# moves the bell, its curvature changes the width, and its third derivative makes the bell lopsided: the skewness is
# $\sigma_{ts}^3\, \frac{d^3}{dx^3}\log p_s$ to leading order. A slightly lopsided bell is its Gaussian times
# $1 + \frac16\,\mathrm{skewness}\,(u^3 - 3u)$, with $u$ in standard deviations. Its divergence is half the mean square of
# that correction, $\mathrm{skewness}^2/12$, so it goes as $\sigma_{ts}^6$, and $\sigma_{ts}^2$ as the step.
#
# **A whole walk.** The number of steps grows with the first power of one over the step. So down to any *fixed* time
# $s > 0$ both errors die out: a walk of many short Gaussian steps follows any data, one of a few long ones cannot.
# (A network that draws from several humps can take long steps: [@xiao2022].)
#
# **Where must steps be short?** Of two walks of 24 steps (3.8) to the eight clusters, one has 20 short steps below
# $t = 0.2$, the other has 23 short steps above and then one long one. The check counts strays, the points farther than three widths
# from every cluster. Only the first walk ends well. A *long* step has several humps, from 0.4 as from 0.2, but what the long step at the
# end does wrong no later step mends.

# %% tags=["check"]
# @title ✓ Short steps near the end mend the walk, short steps before do not
late = torch.cat([times(4, 1.0, 0.2), times(20, 0.2)[1:]])
early = torch.cat([times(23, 1.0, 0.2), times(1, 0.2)[1:]])
strays = []
for ts in (late, early):
    walk = ddpm(denoise, torch.randn(4000, 2, generator=seeded(9)), ts, schedule,
                seeded(10))
    near = (torch.cdist(final(walk), clusters.means) / clusters.stds).min(1).values
    strays.append((near > 3).double().mean())
assert len(late) == len(early) == 25 and strays[0] < 0.02 and strays[1] > 0.2
print(f"✓ strays: {strays[0]:.1%} with 20 short steps at the end, {strays[1]:.0%} with",
      "one long one")

# %% tags=["check"]
# @title ✓ The two powers
slopes = [gap.log().diff() / lengths.log().diff() for gap in (best, sampler)]
for slope, power in zip(slopes, (3, 2), strict=True):
    assert (slope[lengths[1:] < 0.01] - power).abs().max() < 0.25
    longer = slope[(lengths[1:] > 0.05) & (lengths[1:] < 0.2)]
    assert longer.min() > power + 0.3
assert divergences(0.01)[1] > 300 * divergences(0.01)[0]
true = way_back(0.0, 0.39, 0.4)
mean, variance = moments(true)
skewness = ((x - mean) ** 3 * true).sum() * dx / variance**1.5
assert abs(divergences(0.01)[0] / (skewness**2 / 12) - 1) < 0.1
print("✓ for short steps the divergence goes with power {:.1f} of the step for the best"
      " Gaussian, {:.1f} for the sampler's".format(*(slope[0] for slope in slopes)))

# %% [markdown]
# ### Next to the data
#
# There it is different, for the variance of (3.4). Let the data vary more than the noise there, and let the steps be
# *equal*. (In DDPM's table of many steps they nearly are, near the data.) From step $k$ to $k - 1$ the true variance is
# near $\sigma_{ts}^2$. The sampler's variance is $(k-1)/k$ of it (exercise 1c), however small the steps are.
#
# What a step *costs* is the divergence from a Gaussian of the true variance to one of the sampler's. The steps
# $k = 2, 3, \dots$ together cost
#
# $$ \sum_{k \ge 2} \frac12 \left( \frac{k}{k-1} - 1 - \log \frac{k}{k-1} \right) = \frac\gamma2 \approx 0.29 $$
#
# nats per dimension in the limit of many steps, with Euler's constant $\gamma$. (The sum of the first two terms is a
# harmonic one, the logarithms telescope.) A table whose $\sigma$ grows by equal *factors* does better: its cost goes to 0
# with the number of steps. (Both leave out the last step of the walk, $k = 1$. The sampler's variance there is 0: all data
# but one point get no density, and the cost is infinite.) In a picture the missing variance is the finest grain, which
# nobody sees; in a likelihood (chapter 04) it counts.

# %%
def cost(alphas, sigmas, c=0.2):
    """Nats from the second step on, for Gaussian data of width c, by (3.4): ()."""
    (alpha_s, alpha_t), (sigma_s, sigma_t) = (
        (v[:-1], v[1:]) for v in (alphas, sigmas))
    a = alpha_t / alpha_s
    b2 = sigma_t**2 - a**2 * sigma_s**2  # sigma_ts squared, (2.5)
    V = alpha_s**2 * c**2 + sigma_s**2
    ratio = V / (a**2 * V + b2) * sigma_t**2 / sigma_s**2  # the truth over (3.4)
    return (ratio - 1 - ratio.log()).sum() / 2


# %%
def tables(n):
    """DDPM's table of n steps; and one whose sigma grows by equal factors."""
    sigmas = torch.logspace(-4, -1e-5, n)
    return FromBetas(linear_betas(n))(torch.arange(1, n + 1) / n), (
        (1 - sigmas**2).sqrt(), sigmas)


# %%
costs = {n: [cost(*table) for table in tables(n)] for n in (1000, 4000, 16_000)}
for n, (equal, factors) in costs.items():
    print(f"{n:6} steps: {equal:.2f} nats with DDPM's table,",
          f"{factors:.3f} with equal factors")

# %% tags=["check"]
# @title ✓ Half of Euler's constant; and no cost in the limit for equal factors
far = torch.tensor(5e6)  # terms of the sum
euler = (1 / torch.arange(1, far)).sum() - far.log()
ddpms, factors = zip(*costs.values(), strict=True)
assert abs(ddpms[0] - 0.43) < 0.005 and euler / 2 < ddpms[2] < 0.30
assert all(3.5 < a / b < 4.5 for a, b in zip(factors, factors[1:], strict=False))
print(f"✓ DDPM's cost goes to {euler / 2:.3f}, half of Euler's constant;",
      "with equal factors four times the steps have a quarter of the cost")

# %% [markdown]
# ## 5. When is a walk decided?
#
# Six hundred points walk to eight clusters by (3.8), which is `ddpm`. At each time one cluster is the likeliest to have made the point, by its
# responsibility in (3.10).
#
# *Predict: when is it the cluster in which the point ends: at the start, in the middle, near the end?*

# %%
def likeliest(points, t):
    """The cluster of the largest responsibility at points (N, 2): (N,)."""
    alpha, sigma = schedule(t)
    variance = alpha**2 * clusters.stds**2 + sigma**2
    square = torch.cdist(points, alpha * clusters.means) ** 2
    return (clusters.weights.log() - square / (2 * variance) - variance.log()).argmax(1)


crowd = torch.randn(600, 2, generator=seeded(7))
states = list(ddpm(denoise, crowd, times(60), schedule, seeded(8)))

# %%
ends = likeliest(states[-1].x, 0.0)
at = times(60)[:-1]
points_at = [crowd, *(state.x for state in states[:-1])]
decided = torch.stack([(likeliest(points, t) == ends).double().mean()
                       for points, t in zip(points_at, at, strict=True)])  # (60,)

# %%
alt = "A line near 0.19 until t falls to 0.6, which then climbs to 1 at t = 0."
picture, (ax,) = plot.figure(alt, width=6.4, height=3.2)
ax.plot(at, decided)
ax.axhline(3 / 16, color="0.5", linestyle="--")
ax.text(0.02, 0.1, "by chance", fontsize=11)
ax.set(xlabel="time t", ylabel="share already decided", ylim=(0, 1.03),
       title=r"$\leftarrow$ the walk back")
picture

# %% [markdown]
# <details><summary>Answer</summary>
#
# Late. Read it from right to left, as the walk goes. Down to $t = 0.6$ the likeliest cluster is the final one hardly more
# often than by chance, three times in sixteen (the weight of a common cluster). More than half of
# the rest is decided between $t = 0.4$ and $t = 0.1$.
#
# </details>
#
# The noise in units of the data, $\sigma_t/\alpha_t$, falls in that stretch from about twice to about a third of the distance
# between neighbouring clusters, 1.06. So nothing is decided by the first noise: a random walk back from one start can
# end anywhere (chapter 01 shows the other kind of walk, for which the start decides everything). When walks decide is
# studied as a *phase transition*: [@raya2023], [@biroli2024].

# %% tags=["check"]
# @title ✓ Decided between 0.4 and 0.1
gain = decided[at <= 0.1][0] - decided[at <= 0.4][0]
blur = [float(schedule(u)[1] / schedule(u)[0]) for u in (0.4, 0.1)]
apart = (clusters.means[0] - clusters.means[1]).norm()
assert (decided[at > 2 / 3] - 3 / 16).abs().max() < 0.05 and gain > 0.45
assert abs(apart - 1.06) < 0.01 and 1.9 < blur[0] / apart < 2.3
assert 0.28 < blur[1] / apart < 0.38
print(f"✓ {gain:.0%} of walks are decided there, while sigma / alpha falls from",
      f"{blur[0]:.1f} to {blur[1]:.2f}; neighbouring clusters are {apart:.2f} apart")

# %% [markdown]
# ## 6. Three bugs
#
# What would you see?
#
# **a.** From public code, the end of a step of DDPM, taken in *every* step; `var` is $\beta_t$:
#
# ```python
# return mean + (var ** .5) * torch.randn(xt.shape)
# ```
#
# <details><summary>Answer</summary>
#
# The last step adds noise too, and nobody takes it out. With 1,000 steps it is invisible, with 20 it is 0.17 wide, and
# the clusters are 0.1 and 0.2. The $v$ of (3.4) ends at 0. (labml's annotated
# [DDPM](https://github.com/labmlai/annotated_deep_learning_paper_implementations/blob/0157f7e76867b193653050f43dca13ac77521737/labml_nn/diffusion/ddpm/__init__.py).)
#
# </details>
#
# **b.** From a good article, on the variance $\Sigma_\theta$ of the model's step: $\Sigma_\theta = \sigma_t^2 I$, where "$\sigma_t$ is not learned but set to $\beta_t$ or
# $\tilde\beta_t$".
#
# <details><summary>Answer</summary>
#
# It is the variance $\sigma_t^2$ that is set so. Taken literally hardly any noise is added, the clusters shrivel, and
# the rare ones get rarer. Test: *moments of the samples*, next to the exact ones. (Lilian Weng, [*What are diffusion
# models?*](https://github.com/lilianweng/lilianweng.github.io/blob/ea040f3fff5a24f32040a656ac157ebd1637b17a/posts/2021-07-11-diffusion-models/index.html))
#
# </details>
#
# **c.** The same article, the score as an average: $\nabla \log q(x_t) = E_{q(x_0)}[\nabla q(x_t \mid x_0)] =
# E_{q(x_0)}[-\epsilon_\theta(x_t, t)/\sqrt{1-\bar\alpha_t}]$.
#
# <details><summary>Answer</summary>
#
# The average must be over $q(x_0 \mid x_t)$, the pictures that could have become $x_t$, not over all data; and it is one
# of $\nabla \log q(x_t \mid x_0)$. The end of the line, $-\epsilon_\theta/\sqrt{1-\bar\alpha_t}$, is right, if
# $\epsilon_\theta$ is the best guess at the noise. Test: *automatic differentiation of an exact log density*.
#
# </details>

# %% tags=["check"]
# @title ✓ Noise in the last step
wide, noise = torch.randn(2000, 2, generator=seeded(9)), seeded(10)
for t, s in zip(times(20), times(20)[1:], strict=False):
    left = transition(s, t, schedule)[1] * torch.randn(wide.shape, generator=noise)
    wide = posterior(wide, denoise(wide, t), s, t, schedule).mean + left
near = torch.cdist(wide, clusters.means).min(1)
width = near.values[near.indices % 2 == 1].median() / 1.177
assert 0.16 < left.std() < 0.18 and width > 0.24 and betas[0].sqrt() < 0.02
print(f"✓ with noise in the last step the large clusters have width {width:.2f},",
      "not 0.20")

# %% tags=["check"]
# @title ✓ A variance taken for a standard deviation
narrow, noise = torch.randn(2000, 2, generator=seeded(9)), seeded(10)
for t, s in zip(times(200), times(200)[1:], strict=False):
    step = posterior(narrow, denoise(narrow, t), s, t, schedule)
    narrow = step.mean + step.std**2 * torch.randn(narrow.shape, generator=noise)
near = torch.cdist(narrow, clusters.means).min(1)
rare = near.indices % 2 == 0
width = near.values[~rare].median() / 1.177  # half of a 2-D Gaussian is within
assert width < 0.7 * 0.2 and rare.double().mean() < 0.2
print(f"✓ with too little noise the large clusters have width {width:.2f}, not 0.20,",
      f"and the share of the rare is {rare.double().mean():.2f}, not 0.25")

# %% tags=["check"]
# @title ✓ The wrong average in the score
places = torch.linspace(-1.5, 1.5, 7)[:, None].requires_grad_()
exact, = torch.autograd.grad(humps.log_prob(places, 0.2, schedule).sum(), places)
alpha, sigma = schedule(0.2)
right = -(places - alpha * humps.denoise(places, 0.2, schedule)) / sigma**2
wrong = -(places - alpha * 0.0) / sigma**2  # over all data, whose mean is 0
assert torch.allclose(right, exact) and not torch.allclose(wrong, exact, atol=1)
bad, good = ((found - exact).abs().max() for found in (wrong, right))
print(f"✓ largest error of the score: {bad:.1f} with the average over all data,",
      f"{good:.0f} over x0 given x_t")

# %% [markdown]
# ## 7. A memory that draws new points
#
# A denoiser that remembers its data exactly draws only them (section 6 of the main line). What if the memory is a little
# blurred: a mixture with a component of width $c$ on each of 80 points of a spiral, the *swiss roll* on which
# [@sohldickstein2015] tried their method? (Statisticians call it a *kernel density estimate*.) Its best denoiser has a formula
# too, (3.7), for other data.
#
# *Predict: which of three widths, 0.01, 0.12 or 0.5, draws the best roll?*

# %%
points = toy.swiss_roll(80, seeded(1)).double()
start = torch.randn(1000, 2, generator=seeded(2))
drawn = {}
for c in (0.01, 0.12, 0.5):
    roll = Mixture(torch.full((80,), 1 / 80), points, torch.full((80,), c))
    walk = ddpm(lambda x, t, roll=roll: roll.denoise(x, t, schedule), start, times(60),
                schedule, seeded(3))
    drawn[f"width {c}"] = final(walk)

# %%
fresh = toy.swiss_roll(5000, seeded(4)).double()
alt = "The spiral; 80 clumps on it; nearly filled; run together to a blot."
plot.scatter({"the true spiral": fresh[:1000], **drawn}, alt)

# %% [markdown]
# <details><summary>Answer</summary>
#
# The middle one, though some clumps and gaps remain. The smallest gives back its 80 points. With the largest no spiral
# is left.
#
# </details>
#
# New points that fit come from a denoiser that is *wrong about its data* in the right way and by the right amount. Here
# one number sets the amount. In a network it is the architecture, and the limits of training, that decide what it
# cannot remember ([@kadkhodaie2024]).

# %% tags=["check"]
# @title ✓ Distances to the 80 points, and to 5,000 fresh ones
def distances(starts, ends):  # from each start to the nearest end, on average
    return [float(torch.cdist(a, b).min(1).values.mean()) for a in starts for b in ends]


memory, off = (distances(drawn.values(), [to]) for to in (points, fresh))
missed = distances([fresh], drawn.values())
assert memory[0] < 0.05 < memory[1] and off[2] > 3 * off[1]
assert missed[1] < 0.7 * missed[0]
print("✓ from a fresh point of the roll to the nearest draw it is on average",
      f"{missed[0]:.2f} with the narrow width, {missed[1]:.2f} with the middle one")

# %% [markdown]
# ### The arrows of a memory
#
# Six hundred points follow the eight clusters, or a memory of 12 points $d_n$ drawn from them. The picture draws 300 of
# them, down to $t = 0.02$; the walks go on to 0. The crosses are at $\alpha_t d_n$. Three of the
# eight clusters in the upper row have no cross.
#
# *Predict: what do the walks of the memory make of those three?*

# %%
twelve = clusters.sample(12, seeded(1))
memory_of_12 = Mixture(torch.full((12,), 1 / 12), twelve, torch.full((12,), 0.01))
fields = {"eight clusters": clusters, "a memory of 12 points": memory_of_12}


# %%
def walked(data, n=100):
    """The states of the crowd, by the time reached, in n steps of (3.8)."""
    steps = ddpm(lambda x, t: data.denoise(x, t, schedule), crowd, times(n), schedule,
                 seeded(8))
    return {round(float(state.t), 3): state.x for state in steps}


walks = {name: walked(data) for name, data in fields.items()}

# %%
words = {0.4: "", 0.1: "{}", 0.02: ""}  # below the middle panels: whose arrows
panels = [(data, t, walks[name][t][:300], words[t].format(name))
          for name, data in fields.items() for t in words]
alt = "Arrows and walking points, for the clusters and for a memory of 12 points."
diagrams.score_arrows(panels, schedule, alt, crosses=twelve, columns=3)

# %% [markdown]
# <details><summary>Answer</summary>
#
# No walk ends there. All end within 0.13 of one of the 12. (They are not nearer, because the last step goes to a guess,
# which can lie between two of the 12 that are close. With 1,000 steps it is within 0.03.)
#
# </details>
#
# With much noise the two fields look alike. At $t = 0.9$ (not drawn) the scores differ by less than a hundredth (median), as
# $-x_t/\sigma_t^2$ is most of both. But the guesses differ already: each is near the mean of its data. The mean of the
# 12 lies 0.53 from the origin, that of the clusters in the origin.

# %% tags=["check"]
# @title ✓ The memory's walks end at its points; where the two fields part
last, finer = walks["a memory of 12 points"][0.0], walked(memory_of_12, 1000)[0.0]
ends, near = (torch.cdist(p, twelve).min(1).values.max() for p in (last, finer))
kept = torch.cdist(last, clusters.means).argmin(1).unique()
assert ends < 0.13 and near < 0.03 and len(kept) == 5
far = {name: data.score(crowd, 0.9, schedule) for name, data in fields.items()}
scores, exact = far["a memory of 12 points"], far["eight clusters"]
apart = (scores / exact - 1).abs().median()
off = [d.denoise(crowd, 0.9, schedule).norm(dim=1).median() for d in fields.values()]
assert abs(twelve.mean(0).norm() - 0.53) < 0.01 and abs(off[1] - 0.53) < 0.01
assert apart < 0.01 and off[0] < 0.025
print(f"✓ walks end in 5 clusters, {ends:.2f} from the 12; at t = 0.9 scores differ by",
      f"{apart:.1%}, the guesses are {off[1]:.2f} and {off[0]:.2f} from the origin")

# %% [markdown]
# ## References
#
# {references}
