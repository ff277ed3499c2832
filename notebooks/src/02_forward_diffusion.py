# %% [markdown]
# # 02 · Forward diffusion
#
# **How do you turn pictures into noise so gently that one can walk back?** By a thousand small steps, each of which
# adds a little noise: the blue arrow below. No single picture will come back, but one *of the same kind* can. The dashed
# arrow is what a network learns, from examples that cost nothing: we make the noise.

# %%
import torch

from minidiff import FromBetas, Gaussian, Mixture, add_noise, linear_betas
from minidiff.course import check, diagrams, plot, widgets
from minidiff.data import load

clothes = load("fashion")
boot = clothes.tensor(slice(0, 1))  # (1, 1, 32, 32)

# %%
few = FromBetas(linear_betas(10, 0.01, 0.4))  # ten steps; section 4 explains it
names = ("x_0", "x_s", "x_t", "x_1")
diagrams.chain(boot, few, (0, 0.3, 0.4, 1), names,
               forward="shrinks, adds noise (this chapter)",
               backward="takes noise away (chapter 03)")

# %% [markdown]
# **You build** one noising step, the formula that replaces a thousand of them, noise schedules, and a test of where
# the walk ends. You need mean, variance, independence, a little PyTorch and an hour and a quarter, without exercises.
#
# | letter | meaning |
# |---|---|
# | $x_t$ | the state at time $t$, from $x_0$, clean, to $x_1$, noise; $s < t$ |
# | $k = 1, \dots, T$ | the number of a step, from $s = (k-1)/T$ to $t = k/T$; here $T = 1000$ |
# | $\beta_k,\ z_k$ | variance of the noise that step $k$ adds; its source, standard normal |
# | $\alpha_t,\ \sigma_t$ | how much signal and how much noise is in $x_t$ |
# | $\epsilon$ | all the noise in $x_t$, merged into one, standard normal |
# | $q,\ p$ | the way to noise, which we choose; the way back, which is learned |
#
# One rule: $\beta$ and $z$ are numbered by *steps*, $x$, $\alpha$ and $\sigma$ by *times*. So $\beta_1$ belongs to the
# first step, but $x_1$ is the end of the walk.

# %% [markdown]
# ## 1. One noising step
#
# A grey picture of 32 by 32 pixels is 1,024 numbers from -1 (black) to 1 (white). Step $k$ shrinks each a little and
# adds a little noise:
#
# $$ \begin{gathered}
# q(x_t \mid x_s) = \mathcal N\!\left(x_t;\ \sqrt{1-\beta_k}\; x_s,\ \beta_k I\right), \\
# x_t = \sqrt{1-\beta_k}\; x_s + \sqrt{\beta_k}\; z_k .
# \end{gathered} \tag{2.1} $$
#
# The first line is a density: $\mathcal N(x; m, C)$ is the normal density at $x$ with mean $m$ and covariance $C$. Here
# $C = \beta_k I$: every pixel gets its own noise, of *variance* $\beta_k$. The second line is the same as a recipe, a
# fixed function of picture and standard noise (*reparameterisation*).
#
# A step looks at the state before it and at nothing else: a *Markov chain*. The idea, with this Gaussian step, is from
# [@sohldickstein2015]; the numbers below are those of *denoising diffusion probabilistic models*, DDPM ([@ho2020]).
#
# **Your turn.** Write the recipe. The cell below compares it with the package, whose `FromBetas` and `add_noise` are
# explained in section 4.

# %%
def forward_step(x, beta, z):
    """Return x_t from x = x_s, the step's variance beta (a tensor) and the noise z."""
    ### BEGIN SOLUTION
    return (1 - beta).sqrt() * x + beta.sqrt() * z
    ### END SOLUTION


# %%
x, z = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 0.25])
cases = [(x, torch.tensor(beta), z) for beta in (0.19, 0.64)]
check(forward_step, lambda x, beta, z: add_noise(x, z, 1.0, FromBetas([beta])), cases,
      hint="beta is a variance; noise is scaled by its standard deviation")

# %% [markdown]
# Now a thousand of them. DDPM's variances rise evenly from 0.0001 to 0.02. The package's `Gaussian` draws by your
# recipe; it takes a *standard deviation*, where $\mathcal N$ has a variance.

# %%
def walk(x, betas, seed=0):
    """Return all states of the chain, x first: (T + 1, B, ...)."""
    generator, states = torch.Generator().manual_seed(seed), [x]
    for beta in betas:
        step = Gaussian((1 - beta).sqrt() * states[-1], beta.sqrt())
        states.append(step.sample(generator))
    return torch.stack(states)


betas = linear_betas(1000)  # (1000,): betas[k - 1] is beta_k
states = walk(boot, betas)  # (1001, 1, 1, 32, 32)

# %% [markdown]
# *Predict: after how many steps is the boot gone?*

# %%
shown = [0, 100, 200, 300, 400, 500, 700, 1000]
rows = {"": states[shown[:4], 0], " ": states[shown[4:], 0]}
diagrams.pictures(rows, "A boot in more and more noise; after step 400 there is little "
                  "to see.", above=[f"step {k}" for k in shown])

# %% [markdown]
# <details><summary>Answer</summary>
#
# For the eye soon after step 400. But the eye gives up early: at step 500 its pixels still correlate with the clean
# ones, more than by chance. (1,024 pixels that have nothing to do with each other correlate by about
# $1/\sqrt{1024} = 0.03$.)
#
# </details>

# %% tags=["check"]
# @title ✓ When the boot is gone
clean = boot.flatten()
found = {k: float(torch.corrcoef(torch.stack([clean, states[k].flatten()]))[0, 1])
         for k in (400, 500, 700, 1000)}
assert found[400] > 0.25 and found[500] > 4 / 32  # chance: 1 / sqrt(1024) = 1 / 32
assert found[400] > found[500] > found[700] and abs(found[1000]) < 3 / 32
print("✓ correlation with the boot:",
      ", ".join(f"{found[k]:.2f} at step {k}" for k in found), "(chance: about 0.03)")

# %% [markdown]
# As a film, with the histogram of the boot's pixels. (The heights are roots, so that low bars show beside the high one.)

# %%
alt = "The boot turns into noise, its pixels' histogram into the bell curve."
widgets.film([diagrams.dissolve(states[k, 0], f"step {k}", alt)
              for k in range(0, 1001, 50)], ms=250)

# %% [markdown]
# The bars settle under the standard normal. The black ground, one high bar, has become noise too.
#
# ## 2. Why the picture is shrunk
#
# Leave the shrinking out, and keep the noise: $x_t = x_s + \sqrt{\beta_k}\, z_k$.
#
# *Predict: how will the end look different?*

# %%
z = torch.randn(1000, *boot.shape, generator=torch.Generator().manual_seed(0))
noise = (betas.sqrt().float().reshape(1000, 1, 1, 1, 1) * z).cumsum(0)
piled = torch.cat([boot[None], boot + noise])  # (1001, 1, 1, 32, 32)

# %%
shown = [0, 250, 500, 750, 1000]
both = {"shrunk": states[shown, 0], "not shrunk": piled[shown, 0]}
alt = "Two rows of boots; one ends in grey noise, one in hard black and white."
diagrams.pictures(both, alt, above=[f"step {k}" for k in shown])

# %% [markdown]
# <details><summary>Answer</summary>
#
# Hard black and white: most values lie beyond what a screen can show. And the boot is not gone, though no eye finds
# it: the pixels still correlate by 0.25 with the clean ones.
#
# </details>
#
# Variances of independent things add. So without shrinking each step adds $\beta_k$ to the variance of the pixels.
# With it a variance $V$ becomes $(1-\beta_k)\,V + \beta_k$: its distance from one is multiplied by $1-\beta_k$ at each
# step, and dies out.

# %%
kept, grown = states.flatten(1).var(1), piled.flatten(1).var(1)  # (1001,)
lines = {"shrunk": kept, "not shrunk": grown, "one": torch.ones(1001)}
plot.curves(torch.arange(1001), lines,
            "Without shrinking the variance climbs to ten; with it, to one.",
            xlabel="step", ylabel="variance of the pixels")

# %% tags=["check"]
# @title ✓ The two rules for the variance, at every step
by_rule = [boot.var().double()]
for beta in betas:
    by_rule.append((1 - beta) * by_rule[-1] + beta)
summed = boot.var() + torch.cat([torch.zeros(1), betas]).cumsum(0)
assert (kept - torch.stack(by_rule)).abs().max() < 0.15
assert (grown / summed - 1).abs().max() < 0.15
assert (piled[-1].abs() > 1).double().mean() > 0.7  # beyond black and white
ghost = torch.corrcoef(torch.stack([clean, piled[-1].flatten()]))[0, 1]
assert ghost > 5 / 32
print(f"✓ the rules hold, to {kept[-1]:.2f} and {grown[-1]:.1f}; the boot: {ghost:.2f}")

# %% [markdown]
# One shrinks for convenience: inputs of one size for the network, one noise at the end. That is *variance
# preserving*. *Variance exploding* processes never shrink and go on to far larger noise ([@song2021]); to give the network
# inputs of one size all the same, [@karras2022] scale them on the way in.
#
# What destroys is noise *relative to what is left of the picture*. Without shrinking the picture keeps its strength,
# under noise of standard deviation $\sqrt{\sum_k \beta_k}$. With it old noise shrinks together with the picture, but
# new noise does not: it ends at 1, and the picture has been multiplied a thousand times by a little less than one.

# %%
left = (1 - betas).sqrt().prod()
print(f"noise over picture: {betas.sum().sqrt():.1f} not shrunk, {1 / left:.0f} shrunk")

# %% [markdown]
# ## 3. A thousand steps are one jump
#
# A thousand random draws for one noisy picture: far too slow for training. A small theorem helps. For independent
# standard normal $z_1$, $z_2$ and any numbers $a$, $b$
#
# $$ a\, z_1 + b\, z_2 \ \sim\ \mathcal N(0,\ a^2 + b^2). \tag{2.2} $$
#
# The surprise is the $\mathcal N$: the sum is *exactly* normal.

# %%
diagrams.round_cloud(0.8, 0.5)

# %% [markdown]
# The density of the pair, $\frac{1}{2\pi} e^{-(z_1^2 + z_2^2)/2}$, depends on the distance from the centre only: the
# cloud is round. So its shadow on any line through the centre is the same bell curve, of standard deviation
# 1, as on the right. And $a z_1 + b z_2$, the dot
# product with the arrow $(a, b)$, is the shadow on the arrow, times its length $\sqrt{a^2 + b^2}$. With $a = 0.8$ and
# $b = 0.5$ (the blue arrow) the sum has the standard deviation $0.94 \cdot 1$, not 1.3: variances add, standard deviations do not.

# %% tags=["check"]
# @title ✓ The density of the sum, by convolution
line = torch.linspace(-6, 6, 2401, dtype=torch.float64)
first, second, merged = (
    torch.distributions.Normal(0.0, std).log_prob(line).exp()[None, None]
    for std in (0.8, 0.5, 0.89**0.5))
by_integral = torch.nn.functional.conv1d(first, second, padding=1200) * 0.005
assert (by_integral - merged).abs().max() < 1e-6
print("✓ 0.8 z1 + 0.5 z2 has the density of a normal of variance 0.89, to 1e-6")

# %% [markdown]
# Now take the first two steps at once:
#
# $$ x_{2/T} = \sqrt{(1-\beta_1)(1-\beta_2)}\; x_0
# + \underbrace{\sqrt{(1-\beta_2)\,\beta_1}\; z_1 + \sqrt{\beta_2}\; z_2}_{\text{two independent noises}} . $$
#
# By (2.2) the two noises are one, of variance $(1-\beta_2)\,\beta_1 + \beta_2 = 1 - (1-\beta_1)(1-\beta_2)$: one minus
# the square of the factor before $x_0$. With $\beta_1 = 0.19$, $\beta_2 = 0.36$ the factor is $0.9 \cdot 0.8 = 0.72$, the
# variance $0.64 \cdot 0.19 + 0.36 = 0.48 = 1 - 0.72^2$.
#
# Each further step keeps this so. If $x_s$ has the factor $\alpha_s$ and the variance $1 - \alpha_s^2$, the next
# variance is $(1-\beta_k)(1-\alpha_s^2) + \beta_k = 1 - (1-\beta_k)\,\alpha_s^2$. So at $t = k/T$, for every $k$, with a
# single standard normal $\epsilon$,
#
# $$ \begin{gathered}
# x_t = \alpha_t\, x_0 + \sigma_t\, \epsilon, \qquad
# q(x_t \mid x_0) = \mathcal N\!\left(x_t;\ \alpha_t\, x_0,\ \sigma_t^2 I\right), \\
# \alpha_t = \sqrt{(1-\beta_1)(1-\beta_2) \cdots (1-\beta_k)}, \qquad \sigma_t^2 = 1 - \alpha_t^2 .
# \end{gathered} \tag{2.3} $$
#
# > **How the papers write it.** In DDPM $t$ is the number of the step, so $x_1$ is the state after one step. With
# > $\alpha_t = 1 - \beta_t$ and $\bar\alpha_t = \alpha_1 \alpha_2 \cdots \alpha_t$ (2.3) reads
# > $q(x_t \mid x_0) = \mathcal N(x_t;\ \sqrt{\bar\alpha_t}\, x_0,\ (1 - \bar\alpha_t) I)$. **Our $\alpha$ is always
# > $\sqrt{\bar\alpha}$**, the factor of the signal. diffusers calls $\bar\alpha$ `alphas_cumprod`.
#
# **Your turn.** Jump from $x_0$ to the state after $k$ steps.

# %%
def jump(x0, eps, betas, k):
    """Return the state after k steps from x0 and one noise eps; betas is the table."""
    ### BEGIN SOLUTION
    alpha = (1 - betas[:k]).sqrt().prod()
    return alpha * x0 + (1 - alpha**2).sqrt() * eps
    ### END SOLUTION


# %%
cases = [(x, torch.tensor([0.5, 0.25]), torch.tensor([0.19, 0.36, 0.51]), k)
         for k in (1, 2, 3)]
check(jump, lambda x0, z, betas, k: add_noise(x0, z, k / 3, FromBetas(betas)), cases,
      hint="multiply the first k factors; the noise's variance is one minus a square")

# %% [markdown]
# Is it true? Let 10,000 "pictures" of one pixel start at 2 and take every step.
#
# *Predict: the cloud is a bell at each step. Where does its middle go?*

# %%
alpha = (1 - betas).sqrt().cumprod(0)  # (1000,): alpha[k - 1] is that after step k
sigma = (1 - alpha**2).sqrt()
cloud = walk(torch.full((10_000,), 2.0), betas)  # (1001, 10000)

# %%
panels = {f"step {k}": (cloud[k], 2 * alpha[k - 1], sigma[k - 1])
          for k in (50, 250, 1000)}
diagrams.under_bells(panels, "Histograms of the walk under bell curves from (2.3).")

# %% [markdown]
# <details><summary>Answer</summary>
#
# From 2 to 0, as $2\,\alpha_t$: after 250 steps it is at 1.45, and the standard deviation is $\sigma_t = 0.69$.
#
# </details>
#
# The bars took a thousand steps, the curves one line.

# %% tags=["check"]
# @title ✓ The jump equals the walk
for k in (50, 250, 1000):
    ranks = (torch.arange(10_000) + 0.5) / 10_000
    one_jump = torch.distributions.Normal(2 * alpha[k - 1], sigma[k - 1])
    gap = (one_jump.cdf(cloud[k].double().sort().values) - ranks).abs().max()
    assert gap < 0.0163  # Kolmogorov-Smirnov: exceeded by chance once in a hundred
variance = 0.0
for k, beta in enumerate(betas):
    variance = (1 - beta) * variance + beta  # step by step
    assert abs(variance - sigma[k] ** 2) < 1e-12
assert abs(2 * alpha[249] - 1.45) < 5e-3 and abs(sigma[249] - 0.69) < 5e-3
print("✓ variances to 1e-12 at all 1,000 steps; the cloud passes a test for (2.3)")

# %% [markdown]
# **Whose** $\epsilon$**?** It is all the noise so far, so every time has another. Pictures made with *one* $\epsilon$,
# as in section 5, compare noise levels. They are not a walk.
#
# ### Then why small steps?
#
# For the way *back*. The density of the state before, $q(x_s \mid x_t)$, depends on the data and can have any shape;
# a network needs a simple one. For data that are single numbers, near -1.2 or near 0.8, it is known exactly
# ([chapter 03](03_reverse_diffusion.ipynb)). We stand between these humps, at $x_t = 0$ and $t = 0.25$. Where were we
# 200 steps ago, 50 steps ago, one step ago? Each dashed bell is the Gaussian of the same mean and variance.
#
# *Predict: which answer has more than one hump?*

# %%
schedule = FromBetas(betas)
humps = Mixture(torch.tensor([0.4, 0.6]), torch.tensor([[-1.2], [0.8]]),
                torch.tensor([0.2, 0.2]))
diagrams.kernels(humps, schedule, 0.25, (0.2, 0.05, 0.001), torch.zeros(1))

# %% [markdown]
# <details><summary>Answer</summary>
#
# Only that for 200 steps.
#
# </details>
#
# **The reverse of a small step is nearly Gaussian, whatever the data** ([@sohldickstein2015], after [@feller1949]), with
# nearly the spread of the forward step. Only its mean must be learned. "Small" means: against the noise that is there
# already. In DDPM's table that fails for the first few steps, since step 1 adds *all* the noise there is, and step 10
# still 15 % of its variance.
#
# So training jumps, and random sampling takes small steps. (The long strides of chapter 01 add no noise. They follow
# another way back, with other errors: chapter 08.)

# %% tags=["check"]
# @title ✓ The shorter the stride, the nearer to a Gaussian
far, there = [], betas[[0, 9]] / sigma[[0, 9]] ** 2  # new noise over all noise
for stride in (0.2, 0.05, 0.001):
    back = humps.reverse(torch.zeros(1), 0.25 - stride, 0.25, schedule)
    m, stds, w = back.means[:, 0].double(), back.stds[:, 0].double(), back.weights
    variance = (w * (stds**2 + m**2)).sum() - (w * m).sum() ** 2
    bell = torch.distributions.Normal((w * m).sum(), variance.sqrt())
    v = bell.mean + bell.stddev * torch.linspace(-6, 6, 4001).double()
    cdf = (w * torch.distributions.Normal(m, stds).cdf(v[:, None])).sum(1)
    far.append(float((cdf - bell.cdf(v)).abs().max()))
assert far[0] > 0.1 > far[1] > 0.001 > far[2] and abs(there[1] - 0.147) < 1e-3
print(f"✓ std of one step: back {bell.stddev:.4f}, forward {betas[249].sqrt():.4f}")

# %% [markdown]
# ## 4. From betas to a schedule
#
# Of all the steps only $\alpha_t$ and $\sigma_t$ are left. So a
# [noise schedule](../docs/glossary.md#noise-schedule) is any function $t \mapsto (\alpha_t, \sigma_t)$, and on it
#
# $$ \boxed{\; x_t = \alpha_t\, x_0 + \sigma_t\, \epsilon \;} \tag{2.4} $$
#
# `FromBetas` makes one from a table; between two entries it draws a straight line in $\log \alpha_t$. `add_noise` is
# (2.4), with one time for all pictures or a time for each. That is all it takes to make what a network will be trained
# on, and each picture gives as many examples as one likes. (DDPM draws the number $k$ of a step, and $t = k/T$; here
# $t$ is any time.)

# %%
def training_pairs(x0, schedule, generator):
    """Return what the network sees, x_t and t, and what it must find, eps."""
    t = torch.rand(len(x0), generator=generator)
    eps = torch.randn(x0.shape, generator=generator)
    return add_noise(x0, eps, t, schedule), t, eps


five = boot.expand(5, -1, -1, -1)
x_t, t, eps = training_pairs(five, schedule, torch.Generator().manual_seed(488))
alt = "Above one boot in five amounts of noise, below the five noises."
diagrams.pictures({"sees": x_t, "must find": eps}, alt,
                  above=[f"t = {each:.2f}" for each in t])

# %% [markdown]
# Five examples from one boot, each with its right answer, and nobody had to label anything.

# %% tags=["check"]
# @title ✓ FromBetas and add_noise are (2.3)
grid = torch.arange(1, 1001, dtype=torch.float64) / 1000
for ours, package in zip((alpha, sigma), schedule(grid), strict=True):
    assert torch.allclose(ours, package, rtol=1e-9)
one = eps[:1]
for k in (1, 250, 1000):
    by_hand = (alpha[k - 1] * boot + sigma[k - 1] * one).float()
    assert torch.allclose(add_noise(boot, one, k / 1000, schedule), by_hand, atol=1e-6)
signal = schedule(t)[0].reshape(5, 1, 1, 1) * five
assert torch.allclose((x_t - signal).std((1, 2, 3)), schedule(t)[1], rtol=0.1)
print("✓ FromBetas agrees with the products of (2.3) at all 1,000 times")

# %% [markdown]
# ### From any time to any later time
#
# Sampling will need steps between any two times. Such a step should again shrink and add fresh noise,
# $x_t = \alpha_{ts}\, x_s + \sigma_{ts}\, z$, and arrive at (2.4). Insert $x_s = \alpha_s x_0 + \sigma_s \epsilon$:
#
# $$ x_t = \alpha_{ts}\,\alpha_s\; x_0
# + \underbrace{\alpha_{ts}\,\sigma_s\;\epsilon + \sigma_{ts}\; z}_{\text{two independent noises}} . $$
#
# The factor of $x_0$ must be $\alpha_t$, and the variance of the two noises together $\sigma_t^2$ ([@kingma2021]):
#
# $$ \begin{gathered}
# q(x_t \mid x_s) = \mathcal N\!\left(x_t;\ \alpha_{ts}\, x_s,\ \sigma_{ts}^2 I\right), \\
# \alpha_{ts} = \frac{\alpha_t}{\alpha_s}, \qquad \sigma_{ts}^2 = \sigma_t^2 - \alpha_{ts}^2\,\sigma_s^2 .
# \end{gathered} \tag{2.5} $$
#
# The variance is positive because $\sigma_t/\alpha_t$ grows with time: noise comes in, never out.
#
# **Your turn.** The check also tries two schedules of section 5: `Cosine()`, which is $(\cos\frac{\pi t}{2},
# \sin\frac{\pi t}{2})$, and `Flow()`, which is $(1 - t, t)$.

# %%
def between(s, t, schedule):
    """Return (alpha_ts, sigma_ts) of the step from time s to a later time t."""
    (alpha_s, sigma_s), (alpha_t, sigma_t) = schedule(s), schedule(t)
    ### BEGIN SOLUTION
    alpha_ts = alpha_t / alpha_s
    return alpha_ts, (sigma_t**2 - alpha_ts**2 * sigma_s**2).sqrt()
    ### END SOLUTION


# %%
from minidiff import Cosine, Flow, transition

cases = [(0.2, 0.5, each) for each in (schedule, Cosine(), Flow())]
check(between, transition, cases,
      hint="first the factor; then the variance that is missing, and its root")

# %% tags=["check"]
# @title ✓ One step of (2.5) is (2.1)
alpha_ts, sigma_ts = transition(grid - 0.001, grid, schedule)
assert torch.allclose(alpha_ts, (1 - betas).sqrt(), rtol=1e-9)
assert torch.allclose(sigma_ts, betas.sqrt(), rtol=1e-6)
print("✓ from t - 1/T to t, (2.5) gives back the betas, at all 1,000 steps")

# %% [markdown]
# With `transition` anything can walk, on any schedule. The ribbon is the exact density of the single numbers from
# above. Three of them start at one point of the lower hump, three at one of the upper.
#
# *Predict: what does a number at* $t = 1$ *tell about where it came from?*

# %%
def forward_paths(x, ts, schedule, generator):
    paths = [x]
    for s, t in zip(ts, ts[1:], strict=False):
        alpha_ts, sigma_ts = transition(s, t, schedule)
        paths.append(Gaussian(alpha_ts * paths[-1], sigma_ts).sample(generator))
    return torch.stack(paths)  # (S, N)


starts = torch.tensor([-1.2, -1.2, -1.2, 0.8, 0.8, 0.8]).double()
ts, generator = torch.linspace(0, 1, 101).double(), torch.Generator().manual_seed(4)

# %%
paths = forward_paths(starts, ts, schedule, generator)  # (101, 6)
alt = "Two dark bands melt into one; from a point on each leave three jagged paths."
diagrams.ribbon(humps, schedule, ts, paths, alt, arrow="forward: noise comes in")

# %% [markdown]
# <details><summary>Answer</summary>
#
# Next to nothing. One start has many ends, and each end could have come from either hump. At $t = 1$ one bell is left,
# for all data very nearly the same. How nearly is the question of section 6.
#
# </details>

# %% tags=["check"]
# @title ✓ The ribbon is the density of many walkers
many = humps.sample(20_000, generator)[:, 0].double()
stops = torch.tensor([0.0, 0.1, 0.25, 0.5, 1.0], dtype=torch.float64)
walked = forward_paths(many, stops, schedule, generator)
for stop, numbers in zip(stops[1:], walked[1:], strict=True):
    density = humps.log_prob(line[:, None], float(stop), schedule).exp()
    cdf = torch.cumulative_trapezoid(density, line)
    share = torch.searchsorted(numbers.sort().values, line[1:]) / 20_000
    assert (cdf - share).abs().max() < 1.63 / 20_000**0.5  # once in a hundred
print("✓ 20,000 numbers that stop at four times pass a test for the ribbon at each")

# %% [markdown]
# ## 5. Noise schedules
#
# What $x_t$ has left of the picture is its *signal-to-noise ratio* (SNR), best seen as a logarithm:
#
# $$ \log \mathrm{SNR}(t) = \log \frac{\alpha_t^2}{\sigma_t^2} \tag{2.6} $$
#
# The data count as having variance one. Zero means as much signal as noise; +2.3 ten times as much. Three ways down:
#
# **Linear** ([@ho2020]), the table from above, with $\beta_1 = 10^{-4}$ and $\beta_T = 0.02$:
#
# $$ \beta_k = \beta_1 + \frac{k-1}{T-1}\,(\beta_T - \beta_1) \tag{2.7} $$
#
# **Cosine**, $\alpha_t = \cos\frac{\pi t}{2}$, $\sigma_t = \sin\frac{\pi t}{2}$, goes back to [@nichol2021], who trim its
# two ends and make a table of it, `cosine_betas` (*deeper*, with (2.8) to (2.12)).
#
# **Flow**, $\alpha_t = 1 - t$, $\sigma_t = t$, is that of rectified flow ([@liu2023]) and of flow matching
# ([@lipman2023]). Their time runs the other way, from noise to data. It is not variance preserving.

# %%
schedules = {"linear": schedule, "cosine": Cosine(), "flow": Flow()}
diagrams.schedule_paths(schedules, "Left, alpha falls and sigma rises. Right, linear "
                        "and cosine run on a quarter circle, flow on its chord.")

# %% [markdown]
# Right, the plane of signal and noise, with a dot at each tenth of the time. All variance-preserving schedules run on
# the quarter circle, $\alpha_t^2 + \sigma_t^2 = 1$: cosine evenly, linear fast and then hardly at all. Flow takes the
# chord.
#
# *Predict: how many of DDPM's 1,000 linear steps end with more signal than noise?*

# %%
diagrams.log_snr_curves(schedules, "Log SNR against time: linear crosses zero at a "
                        "quarter, cosine and flow halfway.")

# %% [markdown]
# <details><summary>Answer</summary>
#
# A quarter of them. With the other two schedules it is half.
#
# </details>

# %% tags=["check"]
# @title ✓ The three schedules against formulas and other code
by_formula = 1e-4 + 0.0199 / 999 * torch.arange(1000).double()
assert torch.allclose(betas, by_formula)  # (2.7)
half = float(alpha[499] ** 2), float(Cosine()(0.5)[0] ** 2)
assert abs(half[0] - 0.0786) < 6e-5  # computed with diffusers 0.42
assert abs(half[1] - 0.5) < 1e-12
more = {name: int((schedules[name].log_snr(grid) > 1e-9).sum()) for name in schedules}
assert more == {"linear": 259, "cosine": 499, "flow": 499}
assert torch.allclose(schedule.log_snr(grid), (alpha**2 / sigma**2).log())  # (2.6)
assert schedule.log_snr(2 / 3) < -4
print("✓ steps that end with more signal than noise:",
      ", ".join(f"{name} {n}" for name, n in more.items()))

# %% [markdown]
# One boot, one noise $\epsilon$. Can you find two times that give the *same* picture?

# %%
def both_boots(linear, cosine):
    at = {"linear": linear, "cosine": cosine}
    both = [add_noise(boot, eps[:1], t, schedules[name]) for name, t in at.items()]
    words = [f"log SNR {schedules[name].log_snr(t):.1f}" for name, t in at.items()]
    return diagrams.pictures({"": torch.cat(both)}, "Linear, then cosine.", above=words)


# %%
import ipywidgets

limits = {"min": 0.01, "max": 0.99, "step": 0.01}
_ = widgets.explore(both_boots, linear=ipywidgets.FloatSlider(0.25, **limits),
                    cosine=ipywidgets.FloatSlider(0.25, **limits))

# %% [markdown]
# Where log SNR is equal, two variance-preserving schedules give the same picture, pixel for pixel: log SNR fixes
# $\alpha/\sigma$, and $\alpha^2 + \sigma^2 = 1$ the rest. Flow's is the same up to a factor, here greyer. To find
# the times, let $\ell$ be the level, $\log \mathrm{SNR}$. By (2.6) $\sigma_t/\alpha_t = e^{-\ell/2}$. For cosine the left side
# is $\tan\frac{\pi t}{2}$, so $t = \frac{2}{\pi} \arctan e^{-\ell/2}$. For flow it is $t/(1-t)$, so
# $t = 1/(1 + e^{\ell/2})$, the sigmoid function at $-\ell/2$.

# %%
level = schedule.log_snr(0.25)
t_cosine = 2 / torch.pi * (-level / 2).exp().atan()
t_flow = (-level / 2).sigmoid()
twins = [add_noise(boot, eps[:1], 0.25, schedule),
         add_noise(boot, eps[:1], t_cosine, Cosine()),
         add_noise(boot, eps[:1], t_flow, Flow())]
strength = torch.stack(Flow()(t_flow)).norm()  # sqrt(alpha^2 + sigma^2)

# %%
words = "linear", "cosine", "flow", "flow, scaled"
diagrams.pictures({"": torch.cat([*twins, twins[2] / strength.float()])},
                  "Four equally noisy boots; the third is greyer.", above=words)

# %% tags=["check"]
# @title ✓ Equal log SNR, equal pictures
assert torch.allclose(twins[0], twins[1], atol=1e-5)
assert torch.allclose(twins[0], twins[2] / strength.float(), atol=1e-5)
assert twins[2].std() < 0.8 * twins[0].std()  # greyer
assert not torch.allclose(twins[0], add_noise(boot, eps[:1], 0.25, Cosine()), atol=0.1)
print(f"✓ one picture: linear at 0.25, cosine at {t_cosine:.2f}, flow at {t_flow:.2f}")

# %% [markdown]
# **Which one, when?** A schedule decides where training and sampling spend their effort, and where the walk ends.
# Linear spends its last third below a log SNR of -4, on what is noise already: [@nichol2021] could skip the last fifth
# at little loss. That is why they made cosine.
#
# | schedule | take it |
# |---|---|
# | linear | for checkpoints from DDPM's time, with its table of 1,000 entries |
# | cosine | for small pictures, as in most of this course |
# | flow | to follow today's large models ([@esser2024]), its times shifted for large pictures (*deeper*) |

# %% [markdown]
# ## 6. Is the end really noise?
#
# To generate, one starts from $\mathcal N(0, I)$ and walks back. That is sound only if the forward walk *ends* there. Let
# $q(x_1)$ be the density of all ends, when $x_0$ is drawn from *all* pictures. How far it is from noise is told by the
# [Kullback-Leibler divergence](../docs/glossary.md#kl-divergence), which chapter 01 met: draw ends $x_1$ from $q$, and
# average $\log q(x_1) - \log \mathcal N(x_1;\, 0, I)$. Its unit is the *nat*. If only one picture of $D$ pixels is noised,
# it is
#
# $$ \mathrm{KL} = \tfrac12 \left(\alpha_1^2 |x_0|^2 + D\,(\sigma_1^2 - 1 - \log \sigma_1^2)\right)
# \approx \tfrac12\, \alpha_1^2\, |x_0|^2 , $$
#
# and its mean over all pictures is an upper bound of the divergence of $q(x_1)$, by convexity. What drives it is the
# *terminal SNR*:
#
# $$ \mathrm{SNR}(1) = \alpha_1^2 / \sigma_1^2 \tag{2.13} $$
#
# Four published tables: [DDPM's](https://arxiv.org/abs/2006.11239);
# [Stable Diffusion 1's](https://github.com/CompVis/stable-diffusion/blob/36de52cb6e05c3bb1b435afcccc29279a4fdf616/configs/stable-diffusion/v1-inference.yaml#L5-L8),
# made for latents (chapter 11); and two made for just these clothes. *The Annotated Diffusion Model* has DDPM's betas in
# 300 steps as an
# [article](https://github.com/huggingface/blog/blob/fd0b6566b04ffe8e2db8a007fc5ce0dbf6cf2d6b/annotated-diffusion.md)
# and in 200 as a
# [notebook](https://github.com/huggingface/notebooks/blob/2d7b0a0fc35c24d1227a95de276c55342c45bc00/examples/annotated_diffusion.ipynb).
#
# *Predict: the same betas from* $10^{-4}$ *to 0.02, but 200 steps. Is* $\alpha_1$ *nearer to 0.01, 0.1 or 0.4?*

# %%
from minidiff import Empirical, scaled_linear_betas

tables = {
    "DDPM": linear_betas(1000),
    "Stable Diffusion 1": scaled_linear_betas(1000),  # linear in sqrt(beta)
    "300 steps": linear_betas(300),
    "200 steps": linear_betas(200),
}
bank, labels = clothes.tensor(slice(0, 4000)), clothes.y[:4000]

# %%
def nats(alpha_1, sigma_1):
    """Return the bound: the mean divergence of one noised picture from noise."""
    return Gaussian(alpha_1 * bank, sigma_1).kl(Gaussian(torch.zeros(()), 1.0)).mean()


ends = {name: FromBetas(table)(1.0) for name, table in tables.items()}
for name, (alpha_1, sigma_1) in ends.items():
    print(f"{name:18}  alpha_1 = {alpha_1:.3f}   <= {nats(alpha_1, sigma_1):5.2g} nats")

# %% tags=["check"]
# @title ✓ The ends, by a sum of logarithms; the nats and their bound, by drawing
for name, table in tables.items():
    assert abs(ends[name][0] - ((1 - table).log().sum() / 2).exp()) < 1e-6
assert abs(ends["Stable Diffusion 1"][0] - 0.068265) < 1e-6  # in Lin et al. 2023
e = torch.randn(bank.shape, generator=torch.Generator().manual_seed(2))
a, std = ends["200 steps"]
x_1 = add_noise(bank, e, 1.0, FromBetas(tables["200 steps"]))
bound = ((x_1**2 - e**2) / 2 - std.log()).flatten(1).sum(1).mean()
apart = torch.cdist(x_1.flatten(1), a.float() * bank.flatten(1))  # (4000, 4000)
log_q = (-(apart**2) / (2 * std**2)).logsumexp(1) - torch.tensor(4000.0).log()
true = (log_q + (x_1**2 / 2 - std.log()).flatten(1).sum(1)).mean()
assert abs(bound / nats(a, std) - 1) < 0.02 and 6 < bound - true < 8.3
print(f"✓ ends of 200 steps: {true:.0f} nats from noise, by the bound {bound:.0f}")

# %% [markdown]
# <details><summary>Answer</summary>
#
# To 0.4: more than a third of the amplitude is left.
#
# </details>
#
# DDPM's 0.016 nats mean that a typical end is 1.02 times as likely as an end as it is as noise: nobody can tell. Stable
# Diffusion's table, 1.8 on these clothes, was made for latents with sixteen times as many numbers, of variance one;
# there the formula gives 38. The 56 of 200 steps are a gulf. (They are bounds, but close ones: the true divergence is
# smaller by at most $\log n$ for $n$ pictures, here by 8.3.) What does that cost?
#
# The walk back must be perfect, so that no other error interferes. A *random* one, each step drawn from the true
# $q(x_s \mid x_t)$, ends in a draw from $q(x_0 \mid x_1)$. (A deterministic sampler does not: it makes one $x_0$ of each
# $x_1$.) For a finite set of equally likely pictures $d_i$ Bayes' rule gives that exactly, up to a sum that normalises:
#
# $$ q(x_0 = d_i \mid x_1) \ \propto\ q(x_1 \mid x_0 = d_i)
# \ \propto\ \exp\!\left(-\frac{|x_1 - \alpha_1 d_i|^2}{2\,\sigma_1^2}\right) . $$
#
# It returns only those: no generator, but a test.

# %%
def probabilities(x_1, alpha_1, bank=bank):
    """Return q(x_0 = d_i | x_1) for a bank, variance preserving: (B, len(bank))."""
    distance = torch.cdist(x_1.flatten(1), alpha_1 * bank.flatten(1))
    return (-(distance**2) / (2 * (1 - alpha_1**2))).softmax(1)  # normalised


white = torch.randn(1000, 1, 32, 32, generator=torch.Generator().manual_seed(0))
chosen = {name: probabilities(white, float(alpha_1)).mean(0)  # (4000,)
          for name, (alpha_1, _) in ends.items()}

# %% [markdown]
# `chosen` says how often each picture comes back from pure noise. First their brightness, the mean of all pixels.
#
# *Predict: noise has mean 0, the clothes -0.56. Will samples be too bright or too dark?*

# %%
brightness = bank.flatten(1).mean(1)  # (4000,)
many_alphas = torch.linspace(0, 0.45, 25)
curve = torch.stack([probabilities(white, a).mean(0) @ brightness for a in many_alphas])
points = {name: (float(ends[name][0]), float(chosen[name] @ brightness))
          for name in ends}
diagrams.named_points((many_alphas, curve), points, float(brightness.mean()),
                      "The more signal is left at the end, the brighter the samples.",
                      "alpha at t = 1: the signal left at the end", "mean brightness")

# %% [markdown]
# <details><summary>Answer</summary>
#
# Too bright, the more so the more signal is left. At the right the curve flattens: with 200 steps one noise already
# picks few of the 4,000 pictures, mostly one that takes more than half of the probability.
#
# </details>
#
# The walk back is exact here, so a better denoiser would not mend this: *the start is wrong*. A trained network also
# makes new pictures, but starts as wrongly. Stable Diffusion's pictures, never very dark nor very bright, were the first
# symptom ([@guttenberg2023], who adds an offset to the noise; [@lin2023], who mend
# the schedule). Brightness is not all: three in ten of the clothes are shoes.
#
# *Predict: and of what comes back from pure noise, with 200 steps?*

# %%
shoe = torch.isin(labels, torch.tensor([5, 7, 9])).float()  # sandal, sneaker, boot
shares = {"the data": float(shoe.mean())} | {n: float(chosen[n] @ shoe) for n in chosen}
diagrams.shares(shares, "Shoes are 30 % of the data, fewer and fewer of the samples.")

# %%
draws = {name: bank[torch.multinomial(probabilities(white[:8], float(ends[name][0])), 1,
                                      generator=generator)[:, 0]]
         for name in ("DDPM", "200 steps")}
diagrams.pictures(draws, "Above varied clothes and shoes; below mostly grey tops.")

# %%
for n in (500, 1000, 2000):
    fewer = probabilities(white, float(ends["200 steps"][0]), bank[:n]).mean(0)
    print(f"if the bank has {n} pictures: {fewer @ shoe[:n]:.0%} shoes")

# %% [markdown]
# <details><summary>Answer</summary>
#
# Two percent. It is not the size of the bank: smaller ones give two or three.
#
# </details>
#
# Why? Multiply the exponent out. For each picture $d$ it holds $\alpha_1\, x_1 \cdot d$ and $-\tfrac12 \alpha_1^2
# |d|^2$, both over $\sigma_1^2$. At a true end $x_1$ contains $\alpha_1 d$, and the first more than makes up for the
# second. Pure noise contains no $d$, so the second decides: pictures with small $|d|^2$ win, the grey ones. A black
# ground with a thin sandal has a large $|d|^2$.

# %% tags=["check"]
# @title ✓ Too bright, too grey, and right from the true end
a = float(ends["200 steps"][0])
each, at_end = (probabilities(x, a) for x in (white, x_1[:1000]))  # x_1: true ends
mean, at_end = each[:20] @ bank.flatten(1), at_end.mean(0)
other = Empirical(bank).denoise(white[:20], 1.0, FromBetas(tables["200 steps"]))
assert torch.allclose(mean, other.flatten(1), atol=1e-3) and each.amax(1).median() > 0.5
off = torch.stack([chosen[name] @ brightness for name in chosen]) - brightness.mean()
assert abs(off[0]) < 0.002 and 0.02 < off[1] < 0.05 and off[3] > off[2] > 0.1
assert shares["200 steps"] < 0.03 and abs(at_end @ shoe - shoe[:1000].mean()) < 0.02
size = bank.square().flatten(1).mean(1)  # |d|^2 / D
assert size[shoe == 1].mean() > size[shoe == 0].mean() + 0.05
print(f"✓ |d|^2 / D: data {size.mean():.2f}; 200 steps, from noise "
      f"{chosen['200 steps'] @ size:.2f}, from the true end {at_end @ size:.2f}")

# %% [markdown]
# **The remedy.** With fewer steps take larger betas, so that their sum stays: $\log \alpha_1^2 = \sum_k \log(1-\beta_k)
# \approx -\sum_k \beta_k$. Or take a schedule with $\alpha_1 = 0$: cosine, flow, or an old table stretched
# ([@lin2023]). There $x_1 = \epsilon$, so a network that predicts $\epsilon$ learns nothing at the end: chapter 05 has other
# things to predict.
#
# **Your turn.** Mend the linear table.

# %%
def mended(T):
    """Return DDPM's table for T > 20 steps instead of 1,000; the sum of betas stays."""
    ### BEGIN SOLUTION
    return linear_betas(T, 0.1 / T, 20 / T)
    ### END SOLUTION


# %%
check(mended, lambda T: linear_betas(T) * 1000 / T, [(200,), (500,)],
      hint="a fifth of the steps, five times the betas: linear_betas(T, first, last)")

# %%
new_betas = linear_betas(200) * 5  # what mended(200) should be
new_end = FromBetas(new_betas)(1.0)
mended_shoes = float(probabilities(white, float(new_end[0])).mean(0) @ shoe)
print(f"mended: at most {nats(*new_end):.2g} nats, {mended_shoes:.0%} shoes")

# %% tags=["check"]
# @title ✓ The mended table
assert abs(new_betas.sum() / betas.sum() - 1) < 1e-9 and new_betas.max() < 1
assert nats(*new_end) < nats(*ends["DDPM"]) and abs(mended_shoes - 0.3) < 0.01
print("✓ 200 steps with five times the betas end nearer to noise than DDPM's thousand")

# %% [markdown]
# Not all data are harmed: single numbers have a small $|x_0|^2$. *Deeper* judges four more tables, one of them on such
# data.

# %% [markdown]
# ## 7. Find the bug
#
# Printed or shipped. What is wrong, and what would you see?
#
# **a.** One step, in a tutorial: two slips.
#
# ```python
# x = torch.sqrt(1 - beta) * x + beta * torch.rand_like(x)
# ```
#
# <details><summary>Answer</summary>
#
# The factor must be $\sqrt\beta$. And `rand` is uniform from 0 to 1: never negative, so the mean climbs. (ACIDS-IRCAM,
# issues [1](https://github.com/acids-ircam/diffusion_models/issues/1) and
# [8](https://github.com/acids-ircam/diffusion_models/issues/8).)
#
# </details>
#
# **b.** The jump, in a course. `ab` is $\bar\alpha$.
#
# ```python
# x_t = ab.sqrt() * x + (1 - ab) * noise
# ```
#
# <details><summary>Answer</summary>
#
# A root is missing: $1 - \bar\alpha$ is the variance. There is too little noise at all times but the ends.
# (DeepLearning.AI, [reported here](https://github.com/Ryota-Kawamura/How-Diffusion-Models-Work/issues/1).)
#
# </details>
#
# **c.** The jump, in another course: $q(x_t \mid x_0) = \mathcal N(x_t;\ \sqrt{\bar\alpha_t}\, x_0,\
# \sqrt{1 - \bar\alpha_t}\, I)$.
#
# <details><summary>Answer</summary>
#
# A root too many: the last argument of $\mathcal N$ is a variance. (Hugging Face's course,
# [issue 63](https://github.com/huggingface/diffusion-models-class/issues/63).)
#
# </details>

# %% tags=["check"]
# @title ✓ What each bug does to data of mean 0 and variance 1
seeded = torch.Generator().manual_seed(5)
pixels, fresh = torch.randn(2, 20_000, generator=seeded, dtype=torch.float64)
x = pixels.clone()
for beta in betas:
    x = (1 - beta).sqrt() * x + beta * torch.rand(20_000, generator=seeded)
ab = 0.5  # where the noise is as strong as the signal
right, b, c = (float((ab**0.5 * pixels + (1 - ab) ** power * fresh).var())
               for power in (0.5, 1, 0.25))
assert x.mean() > 0.9 and x.std() < 0.1 and b < 0.8 and c > 1.15 > 1.05 > right > 0.95
print(f"✓ a ends at mean {x.mean():.1f}, std {x.std():.2f}; at equal parts the",
      f"variance is {b:.2f} for b, {c:.1f} for c, {right:.1f} as it should be")

# %% [markdown]
# ## What to keep
#
# - One step shrinks by $\sqrt{1-\beta}$ and adds noise of *variance* $\beta$ (2.1): the variance is pulled to one.
# - Gaussians merge exactly (2.2), so any number of steps is one jump, $x_t = \alpha_t x_0 + \sigma_t \epsilon$ (2.4).
#   Our $\alpha$ is the papers' $\sqrt{\bar\alpha}$.
# - Training jumps. Sampling takes steps (2.5), for the reverse of a small step is nearly Gaussian.
# - What a picture has left is its log SNR (2.6). Up to a factor, a schedule only says when.
# - Before you start from pure noise, ask how many nats $q(x_1)$ is away from it.
#
# ## Exercises
#
# **1. Pen.** Let $D$ be the number of pixels, and $|x|^2$ the sum of their squares. What is $E|x_t|^2$ for a
# variance-preserving schedule, given $E|x_0|^2$? Show that it stays the same at all times if and only if
# $E|x_0|^2 = D$. Clothes have $E|x_0|^2 = 0.76\,D$; what should be measured at $t = 0.3$ on `Cosine`?
#
# <details><summary>Answer</summary>
#
# Square (2.4): $|x_t|^2 = \alpha_t^2|x_0|^2 + 2\alpha_t\sigma_t\, x_0\cdot\epsilon + \sigma_t^2|\epsilon|^2$. The
# middle term averages to 0, since $\epsilon$ is independent of $x_0$; the last has $D$ squares of mean 1. Hence $E|x_t|^2 = \alpha_t^2 E|x_0|^2 + \sigma_t^2 D$. With $\alpha_t^2 = 1 - \sigma_t^2$ this is
# $E|x_0|^2 + \sigma_t^2\,(D - E|x_0|^2)$: constant exactly when the bracket is 0. At $t = 0.3$ there is
# $\sigma_t^2 = \sin^2(0.15\,\pi) = 0.21$, which makes $0.76 + 0.21 \cdot 0.24 = 0.81$ for each pixel.
#
# </details>

# %% tags=["check", "answer"]
# @title ✓ The pen answer, measured
everything, seeded = clothes.tensor(), torch.Generator().manual_seed(5)
specks = torch.randn(everything.shape, generator=seeded)
clean, noisy = (add_noise(everything, specks, u, Cosine()).square().mean()
                for u in (0.0, 0.3))
assert abs(clean - 0.76) < 0.005 and abs(noisy - 0.81) < 0.005
print(f"✓ all clothes: {clean:.2f} at t = 0, {noisy:.2f} at t = 0.3")

# %% [markdown]
# **2. Code.** From which step on is a picture too noisy? Write `first_step_at(betas, level)`, for any table of betas.

# %%
def first_step_at(betas, level):
    """Return the number, from 1, of the first step with log SNR (2.6) <= level.

    With betas 0.3, 0.3, 0.3 log SNR is 0.85, -0.04, -0.65: step 2 for level 0.
    """
    ### BEGIN SOLUTION
    signal = (1 - betas).cumprod(0)  # alpha squared
    return (torch.logit(signal) > level).sum() + 1  # logit(p) = log(p / (1 - p))
    ### END SOLUTION


# %%
def by_walking(betas, level):
    signal, k = 1.0, 0
    while signal > torch.tensor(level).exp() * (1 - signal):
        signal, k = signal * (1 - float(betas[k])), k + 1
    return k


from minidiff import cosine_betas

recipes = linear_betas, scaled_linear_betas, cosine_betas
cases = [(table(n), level) for table in recipes
         for n, level in ((1000, 4.0), (300, -0.5), (1000, -5.0))]
check(first_step_at, by_walking, cases,
      hint="SNR is alpha^2 over 1 - alpha^2; which index has step 1 in the table?")

# %% [markdown]
# **3. Open.** Design a table of 200 betas with a terminal SNR (2.13) below $10^{-4}$ and log SNR above 6 after step 1.
# (a) Make the largest fall of log SNR in one step as small as you can; below 0.08 you are nearly there. Decide
# on the curve of $\alpha_t$; then, by (2.5), $\beta_k = 1 - \alpha_t^2/\alpha_s^2$, as `cosine_betas` has it. (b) Is that a *good* table? Say in one number what you
# want, add it to `judge`, and design for it. Does another table win now?

# %%
def judge(betas):
    log_snr = FromBetas(betas).log_snr(torch.arange(1, 201).double() / 200)
    return {"terminal SNR": log_snr[-1].exp(), "after step 1": log_snr[0],
            "largest fall": -log_snr.diff().min()}


print({name: f"{value:.2g}" for name, value in judge(linear_betas(200) * 5).items()})

# %% [markdown]
# **Deeper:** [02, deeper](deeper/02_forward_diffusion.ipynb): proofs in full, other noise, more tables, the limit of
# many steps, high resolutions, more ends and more bugs.
#
# **Next:** [03 · Reverse diffusion](03_reverse_diffusion.ipynb), the way back.
#
# ## References
#
# {references}
