# %% [markdown]
# # 02 · Forward diffusion
#
# **How do you turn pictures into noise so gently that one can walk back?** By a thousand small steps, each of which
# adds a little noise: the blue arrow below. The dashed arrow, back to a picture *of the same kind*, is what a network
# learns.
#
# The walk must end in noise, because samples start from noise. In section 6 a tutorial's schedule stops too early (its
# code is not run here). A network that starts at that level makes hardly any trousers, dresses or shoes.

# %%
import torch

from minidiff import FromBetas, Gaussian, Mixture, add_noise, linear_betas
from minidiff.course import check, diagrams, widgets, yours
from minidiff.data import load

clothes = load("fashion")
boot = clothes.tensor(slice(0, 1))  # (1, 1, 32, 32)

# %%
few = FromBetas(linear_betas(5, 0.02, 0.9))  # five steps; section 4 explains it
names = ("x_0", "x_s", "x_t", "x_1")
diagrams.chain(boot, few, (0, 0.4, 0.6, 1), names,
               forward="shrinks, adds noise (this chapter)",
               backward="takes noise away (chapter 03)")

# %% [markdown]
# **You build** one noising step, the formula that replaces a thousand, noise schedules, and a test of where the walk ends.
# You need variances, Bayes' rule, a little PyTorch, and an hour and a half without exercises.

# %% [markdown]
# | letter | meaning |
# |---|---|
# | $x_t$ | the state at time $t$, from $x_0$, clean, to $x_1$, noise; $s < t$ |
# | $k = 1, \dots, T$ | the number of a step, from $s = (k-1)/T$ to $t = k/T$; here $T = 1000$ |
# | $\beta_k,\ z_k$ | variance of the noise that step $k$ adds; its source, standard normal |
# | $\alpha_t,\ \sigma_t$ | how much signal and how much noise is in $x_t$ |
# | $\epsilon$ | all the noise in $x_t$, merged into one, standard normal |
# | $q,\ p$ | the way to noise, which we choose, with its exact reverse by Bayes' rule; the reverse that is learned |
#
# $\beta$ and $z$ are numbered by *steps*, $x$, $\alpha$ and $\sigma$ by *times*: $\beta_1$ belongs to the first step,
# $x_1$ is the end of the walk.

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
# $C = \beta_k I$: every pixel gets its own noise, of *variance* $\beta_k$. The second line is the same as a recipe
# (*reparameterisation*).

# %% [markdown]
# A step looks only at the state before it: a *Markov chain*. The idea is from [@sohldickstein2015], the numbers are from
# DDPM, *denoising diffusion probabilistic models* ([@ho2020]).
#
# **Your turn.** Write the recipe. If it is right, it takes all steps below; else the package's does.

# %%
def forward_step(x, beta, z):
    """Return x_t from x = x_s, the step's variance beta (a tensor) and the noise z."""
    ### BEGIN SOLUTION
    return (1 - beta).sqrt() * x + beta.sqrt() * z
    ### END SOLUTION


# %% tags=["folded"]
# @title Check your answer
x, z = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 0.25])
cases = [(x, torch.tensor(beta), z) for beta in (0.19, 0.64)]
forward_step = yours(
    forward_step, lambda x, beta, z: add_noise(x, z, 1.0, FromBetas([beta])), cases,
    hint="beta is a variance; noise is scaled by its standard deviation")

# %% [markdown]
# Now a thousand, with DDPM's variances, which rise evenly from 0.0001 to 0.02.

# %%
def walk(x, betas, seed=0):
    """Return all states of the chain, x first: (T + 1, B, ...)."""
    generator, states = torch.Generator().manual_seed(seed), [x]
    for beta in betas:
        z = torch.randn(x.shape, generator=generator)
        states.append(forward_step(states[-1], beta, z))
    return torch.stack(states)


betas = linear_betas(1000)  # (1000,): betas[k - 1] is beta_k
states = walk(boot, betas, seed=6)  # (1001, 1, 1, 32, 32)

# %% [markdown]
# *Predict: after how many steps is the boot gone?*

# %%
shown = [0, 100, 200, 300, 400, 500, 700, 1000]
rows = {"": states[shown[:4], 0], " ": states[shown[4:], 0]}
diagrams.pictures(rows, "One boot at eight steps of its walk, in two rows.",
                  above=[f"step {k}" for k in shown])

# %% [markdown]
# <details><summary>Answer</summary>
#
# For the eye soon after step 400. But at step 500 the pixels still correlate with the clean ones by 0.21. Pure noise would
# correlate by about $1/\sqrt{1024} = 0.03$, by chance.
#
# </details>

# %% tags=["check"]
# @title ✓ When the boot is gone
clean, ks = boot.flatten(), (400, 500, 700, 1000)
found = torch.corrcoef(torch.cat([clean[None], states[list(ks)].flatten(1)]))[0, 1:]
left = torch.stack([(1 - betas[:k]).prod() for k in ks])  # of the clean variance
theory = (1 + (1 / left - 1) / clean.double().var()) ** -0.5
crowd, seeded = clean.expand(100, -1), torch.Generator().manual_seed(0)  # 100 walks
for beta in betas[:500]:
    crowd = forward_step(crowd, beta, torch.randn(100, 1024, generator=seeded))
others = torch.corrcoef(torch.cat([clean[None], crowd]))[0, 1:]
assert (found - theory).abs().max() < 3 / 32 and abs(others.mean() - theory[1]) < 0.01
print("✓ correlation", ", ".join(f"{c:.2f} at step {k}" for k, c in zip(ks, found)),
      f"(at 500 in 100 walks {others.mean():.2f}, by formula {theory[1]:.2f})")

# %% [markdown]
# As a film, with the histogram of its pixels. (The density has a root scale.)

# %%
alt = "A boot and the histogram of its pixels, step by step."
widgets.film([diagrams.dissolve(states[k, 0], f"step {k}", alt)
              for k in range(0, 1001, 50)], ms=250)

# %% [markdown]
# ## 2. Why the picture is shrunk
#
# Leave the shrinking out, and keep the noise: $x_t = x_s + \sqrt{\beta_k}\, z_k$. In the figure -3
# is black and 3 white.
#
# *Predict: how will the end look different?*

# %%
z = torch.randn(1000, *boot.shape, generator=torch.Generator().manual_seed(0))
noise = (betas.sqrt().float().reshape(1000, 1, 1, 1, 1) * z).cumsum(0)
unshrunk = torch.cat([boot[None], boot + noise])  # (1001, 1, 1, 32, 32)

# %%
shown = [0, 250, 500, 750, 1000]
both = {"shrunk": states[shown, 0] / 3, "not shrunk": unshrunk[shown, 0] / 3}
alt = "Two rows of five pictures, from step 0 to step 1000."
diagrams.pictures(both, alt, above=[f"step {k}" for k in shown])

# %% [markdown]
# <details><summary>Answer</summary>
#
# It is harsher: 36 % of the values lie beyond -3 and 3. And the boot still shows: the pixels correlate with it by 0.25.
#
# </details>
#
# Variances of independent things add. Without shrinking each step adds $\beta_k$. With shrinking a variance $V$ becomes
# $(1-\beta_k)\,V + \beta_k$: its distance from one, $V - 1$, is multiplied by $1-\beta_k$, and dies out. Dashed are
# both rules. (The variance of 1,024 random numbers is off by some $\sqrt{2/1024} = 4$ %, one standard deviation.)

# %%
by_rule = torch.full((2, 1001), float(boot.var()), dtype=torch.float64)
for k, beta in enumerate(betas, start=1):
    by_rule[0, k] = (1 - beta) * by_rule[0, k - 1] + beta  # shrunk
    by_rule[1, k] = by_rule[1, k - 1] + beta  # not shrunk

# %%
kept, grown = states.flatten(1).var(1), unshrunk.flatten(1).var(1)  # (1001,), measured
lines = {"shrunk": (kept, (850, 1.6)), "not shrunk": (grown, (560, 6.4))}
diagrams.labelled(torch.arange(1001), lines,
                  "Two jagged curves of the variance, each along a dashed one.",
                  "step", "variance of the pixels", by_rule, level=1.0)

# %% tags=["check"]
# @title ✓ The two rules for the variance, at every step
assert (kept - by_rule[0]).abs().max() < 0.15
assert (grown / by_rule[1] - 1).abs().max() < 0.15
beyond = (unshrunk[-1].abs() > 3).double().mean()  # black and white in the figure
ghost = torch.corrcoef(torch.stack([clean, unshrunk[-1].flatten()]))[0, 1]
bells = torch.distributions.Normal(clean.double(), betas.sum().sqrt())
outside = (bells.cdf(torch.tensor(-3.0)) + 1 - bells.cdf(torch.tensor(3.0))).mean()
by_sum = (1 + betas.sum() / clean.double().var()) ** -0.5
assert abs(beyond - outside) < 0.03 and abs(ghost - by_sum) < 0.04
assert abs(outside - 0.36) < 0.005 and abs(by_sum - 0.24) < 0.005
print(f"✓ variance in the end {kept[-1]:.2f} shrunk, {grown[-1]:.1f} not; not shrunk:",
      f"{beyond:.0%} beyond -3 and 3, correlation with the boot {ghost:.2f}",
      f"(by formula {outside:.0%}, {by_sum:.2f})")

# %% [markdown]
# What destroys is noise *relative to what is left of the picture*. Without shrinking the noise grows to the standard
# deviation $\sqrt{\sum_k \beta_k}$, and the picture stays. With shrinking the noise ends at 1, the picture near 0.

# %%
alpha_1 = (1 - betas).sqrt().prod()  # what shrinking leaves of the picture
print(f"noise over picture: {betas.sum().sqrt():.1f} not shrunk,",
      f"{1 / alpha_1:.0f} shrunk")

# %% [markdown]
# A walk that shrinks just enough to keep a variance of one is *variance preserving*: $\alpha_t^2 + \sigma_t^2 = 1$. A walk
# that does not shrink is *variance exploding*, and needs far larger noise ([@song2021]; *deeper*).
#
# ## 3. A thousand steps are one jump
#
# A thousand random draws for one noisy picture are far too slow for training. Chapter 01 mixed $\alpha_t x_0 + \sigma_t
# \epsilon$ at once. Why is that allowed? For independent standard normal $z_1$, $z_2$ and any numbers $a$, $b$
#
# $$ a\, z_1 + b\, z_2 \ \sim\ \mathcal N(0,\ a^2 + b^2). \tag{2.2} $$
#
# The sum is *exactly* normal.

# %%
diagrams.round_cloud(0.8, 0.5)

# %% [markdown]
# The density of the pair, $\frac{1}{2\pi} e^{-(z_1^2 + z_2^2)/2}$, depends on the distance from the centre only: the
# cloud is round. Its shadow (*projection*) on the horizontal axis is $z_1$ itself, a bell curve of standard deviation 1.
# So on every other line through the centre it is the same bell.
#
# Now $a z_1 + b z_2$ is the dot product with the arrow $(a, b)$: the shadow on its line, times its length
# $\sqrt{a^2 + b^2}$. The blue arrow $(0.8, 0.5)$ is 0.94 long. That is the standard deviation, not $0.8 + 0.5 = 1.3$.

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
# the squared factor of $x_0$. With $\beta_1 = 0.19$, $\beta_2 = 0.36$ the factor is $0.9 \cdot 0.8 = 0.72$, the
# variance $0.64 \cdot 0.19 + 0.36 = 0.48 = 1 - 0.72^2$.
#
# Each further step keeps this so. If $x_s$ has the factor $\alpha_s$ and the variance $1 - \alpha_s^2$, the next
# variance is $(1-\beta_k)(1-\alpha_s^2) + \beta_k = 1 - (1-\beta_k)\,\alpha_s^2$. So at $t = k/T$, for every $k$, with a
# single standard normal $\epsilon$, independent of $x_0$,
#
# $$ \begin{gathered}
# x_t = \alpha_t\, x_0 + \sigma_t\, \epsilon, \qquad
# q(x_t \mid x_0) = \mathcal N\!\left(x_t;\ \alpha_t\, x_0,\ \sigma_t^2 I\right), \\
# \alpha_t = \sqrt{(1-\beta_1)(1-\beta_2) \cdots (1-\beta_k)}, \qquad \sigma_t^2 = 1 - \alpha_t^2 .
# \end{gathered} \tag{2.3} $$
#
# > **How the papers write it.** In DDPM $t$ is the number of the step. With $\alpha_t = 1 - \beta_t$ and
# > $\bar\alpha_t = \alpha_1 \alpha_2 \cdots \alpha_t$ (2.3) reads
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


# %% tags=["folded"]
# @title Check your answer
cases = [(x, torch.tensor([0.5, 0.25]), torch.tensor([0.19, 0.36, 0.51]), k)
         for k in (1, 2, 3)]
jump = yours(
    jump, lambda x0, z, betas, k: add_noise(x0, z, k / len(betas), FromBetas(betas)),
    cases,
    hint="multiply the first k factors; the noise's variance is one minus a square")

# %% [markdown]
# Let 10,000 "pictures" of one pixel start at 2 and take every step. Your `jump` draws the curves:
# $\epsilon = 0$ gives the mean, $x_0 = 0$ with $\epsilon = 1$ the standard deviation.
#
# *Predict: the cloud is a bell at each step. Where does its middle go?*

# %%
alpha = (1 - betas).sqrt().cumprod(0)  # (1000,): alpha[k - 1] is that after step k
sigma = (1 - alpha**2).sqrt()
cloud = walk(torch.full((10_000,), 2.0), betas)  # (1001, 10000)

# %%
nil, one, two = torch.tensor([0.0, 1.0, 2.0])
panels = {}
for k in (50, 250, 1000):
    mean, std = jump(two, nil, betas, k), jump(nil, one, betas, k)
    panels[f"step {k}"] = cloud[k], mean, std
diagrams.under_bells(panels, "Three histograms under curves.")

# %% [markdown]
# <details><summary>Answer</summary>
#
# From 2 to 0, as $2\,\alpha_t$: after 250 steps it is at 1.45.
#
# </details>

# %% tags=["check"]
# @title ✓ The jump equals the walk
ranks = (torch.arange(10_000) + 0.5) / 10_000
for k in (50, 250, 1000):
    one_jump = torch.distributions.Normal(2 * alpha[k - 1], sigma[k - 1])
    gap = (one_jump.cdf(cloud[k].double().sort().values) - ranks).abs().max()
    assert gap < 0.0163  # Kolmogorov-Smirnov: exceeded by chance once in a hundred
variance = 0.0
for k, beta in enumerate(betas):
    variance = (1 - beta) * variance + beta  # step by step
    assert abs(variance - sigma[k] ** 2) < 1e-12
mean, std = panels["step 250"][1:]
assert abs(mean - 1.45) < 5e-3 and abs(std - 0.69) < 5e-3
print("✓ variances to 1e-12 at all 1,000 steps; the cloud passes a test for (2.3)")

# %% [markdown]
# **Whose** $\epsilon$**?** It is all the noise so far, so it changes with every step (*deeper*). Pictures made with *one*
# $\epsilon$ at several times are not the states of one walk.

# %% [markdown]
# ### Then why small steps?
#
# For the way *back*. The density of the state before, $q(x_s \mid x_t)$, can have any shape; a network needs a simple one.
#
# Let the data be numbers near -1.2 or near 0.8, of variance one: a `Mixture` of two bells, by weights, means and standard
# deviations. We stand between the humps, at $x_t = 0$ and $t = 0.25$. Where were we 200 steps, 50 steps, one step ago? Dashed is
# the Gaussian of the same mean and variance.
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
# **The reverse of a small step is nearly Gaussian.** Let $q(x_s)$ be the density of $x_s$ over all data. By Bayes' rule
# $q(x_s \mid x_t) \propto q(x_s)\, q(x_t \mid x_s)$. The second factor, as a function of $x_s$, is a bell of a width near
# $\sqrt{\beta_k}$; let $m$ be its middle. If $\log q(x_s)$ is smooth, it is over this width nearly a straight line, of
# slope $c$. Complete the square:
#
# $$ \exp\!\left(c\, x_s - \frac{(x_s - m)^2}{2\beta_k}\right)
# \ \propto\ \exp\!\left(-\frac{(x_s - m - \beta_k c)^2}{2\beta_k}\right) . $$
#
# It is a bell of the same width, moved. So only its mean must be learned ([@ho2020]; [@sohldickstein2015], who had the
# idea, learn its covariance too).
#
# So training jumps, and sampling with fresh noise takes small steps. For grey levels even step 1 is too long (*deeper*).

# %% tags=["check"]
# @title ✓ Each panel against numbers that walked; only the first has two humps
seeded = torch.Generator().manual_seed(0)
for k in (50, 200, 249):  # steps k + 1 to 250, undone
    start, r = alpha[k - 1] * humps.sample(400_000, seeded), alpha[249] / alpha[k - 1]
    x_s = Gaussian(start, sigma[k - 1]).sample(seeded)
    rest = (sigma[249] ** 2 - r**2 * sigma[k - 1] ** 2).sqrt()
    crowd = x_s[Gaussian(r * x_s, rest).sample(seeded).abs() < 0.01].sort().values
    kernel = humps.reverse(torch.zeros(1), k / 1000, 0.25, schedule)
    bells = torch.distributions.Normal(kernel.means[:, 0], kernel.stds[:, 0])
    gap = bells.cdf(crowd[:, None]) @ kernel.weights - torch.linspace(0, 1, len(crowd))
    rise = (bells.log_prob(line[:, None]).exp() @ kernel.weights.double()).diff().sign()
    assert gap.abs().max() < 0.03 and (rise.diff() < 0).sum() == 1 + (k == 50)
print(f"✓ of 400,000 about {len(crowd)} came to 0, from where each panel says")

# %% [markdown]
# ## 4. From betas to a schedule
#
# The jump needs only $\alpha_t$ and $\sigma_t$. So a
# [noise schedule](../docs/glossary.md#noise-schedule) is any function $t \mapsto (\alpha_t, \sigma_t)$ on which noise over
# signal, $\sigma_t / \alpha_t$, rises. On it
#
# $$ \boxed{\; x_t = \alpha_t\, x_0 + \sigma_t\, \epsilon \;} \tag{2.4} $$
#
# `FromBetas` makes one from a table, with straight lines in $\log \alpha_t$ between the entries. `add_noise` is (2.4). With
# it, examples for a network cost nothing:

# %%
def training_pairs(x0, schedule, generator):
    """Return what the network sees, x_t and t, and what it must find, eps."""
    t = torch.rand(len(x0), generator=generator)
    eps = torch.randn(x0.shape, generator=generator)
    return add_noise(x0, eps, t, schedule), t, eps


five = boot.expand(5, -1, -1, -1)
in_order = torch.Generator().manual_seed(88773)  # a seed that draws times in order
x_t, t, eps = training_pairs(five, schedule, in_order)
alt = "Above one boot in five amounts of noise, below the five noises."
diagrams.pictures({"sees": x_t, "must find": eps}, alt,
                  above=[f"t = {each:.2f}" for each in t])

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
# ($\sigma_{ts}^2$ is $\alpha_t^2$ times the rise of $\sigma^2/\alpha^2$, so not negative.) On the two steps of section 3, $\alpha_s = 0.9$ and $\alpha_t = 0.72$: $\alpha_{ts} = 0.8$, and
# $\sigma_{ts}^2 = 0.4816 - 0.64 \cdot 0.19 = 0.36$, which is $\beta_2$. (The papers write $\alpha_{t|s}$.)
#
# **Your turn.** The check also tries two schedules of section 5, `Cosine()` and `Flow()`.

# %%
def between(s, t, schedule):
    """Return (alpha_ts, sigma_ts) of the step from time s to a later time t."""
    (alpha_s, sigma_s), (alpha_t, sigma_t) = schedule(s), schedule(t)
    ### BEGIN SOLUTION
    alpha_ts = alpha_t / alpha_s
    return alpha_ts, (sigma_t**2 - alpha_ts**2 * sigma_s**2).sqrt()
    ### END SOLUTION


# %% tags=["folded"]
# @title Check your answer
from minidiff import Cosine, Flow, transition

cases = [(0.2, 0.5, each) for each in (schedule, Cosine(), Flow())]
between = yours(between, transition, cases,
               hint="first the factor; then the variance that is missing, and its root")

# %% tags=["check"]
# @title ✓ One step of (2.5) is (2.1), and the worked numbers
alpha_ts, sigma_ts = transition(grid - 0.001, grid, schedule)
assert torch.allclose(alpha_ts, (1 - betas).sqrt(), rtol=1e-9)
assert torch.allclose(sigma_ts, betas.sqrt(), rtol=1e-6)
factor, noise = transition(0.5, 1.0, FromBetas([0.19, 0.36]))
assert abs(factor - 0.8) < 1e-9 and abs(noise**2 - 0.36) < 1e-9
print("✓ from t - 1/T to t, (2.5) gives back the betas, at all 1,000 steps")

# %% [markdown]
# Let single numbers walk, with your `between` (in the package: `transition`). `Gaussian` takes mean and *standard deviation*.
# The ribbon is the exact density of the two humps; three walks start in each.
#
# *Predict: what does a number at* $t = 1$ *tell about where it came from?*

# %%
def forward_paths(x, ts, schedule, generator):
    paths = [x]
    for s, t in zip(ts, ts[1:], strict=False):
        alpha_ts, sigma_ts = between(s, t, schedule)
        paths.append(Gaussian(alpha_ts * paths[-1], sigma_ts).sample(generator))
    return torch.stack(paths)  # (S, N)


starts = torch.tensor([-1.2, -1.2, -1.2, 0.8, 0.8, 0.8]).double()
ts, generator = torch.linspace(0, 1, 101).double(), torch.Generator().manual_seed(42)

# %%
paths = forward_paths(starts, ts, schedule, generator)  # (101, 6)
alt = "A ribbon of density over time, and six jagged paths on it."
diagrams.ribbon(humps, schedule, ts, paths, alt, arrow="forward: noise comes in")

# %% [markdown]
# <details><summary>Answer</summary>
#
# Next to nothing: one bell is left, nearly the same for all data. How nearly is the question of section 6.
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
# How much of the picture is left in $x_t$? The *signal-to-noise ratio* (SNR) says it, best as a logarithm
# ([@kingma2021]):
#
# $$ \log \mathrm{SNR}(t) = \log \frac{\alpha_t^2}{\sigma_t^2} \tag{2.6} $$
#
# At 0 signal and noise are equally strong, if the data have mean square one. Three schedules:
#
# **Linear** ([@ho2020]), the table from above, with $\beta_1 = 10^{-4}$ and $\beta_T = 0.02$:
#
# $$ \beta_k = \beta_1 + \frac{k-1}{T-1}\,(\beta_T - \beta_1) \tag{2.7} $$
#
# **Cosine** ([@nichol2021], in the simpler form of [@salimans2022]), $\alpha_t = \cos\frac{\pi t}{2}$,
# $\sigma_t = \sin\frac{\pi t}{2}$; its table is in *deeper*, with (2.8) to (2.12).
#
# **Flow** ([@liu2023], [@lipman2023], [@albergo2023]), $\alpha_t = 1 - t$, $\sigma_t = t$, not variance preserving.

# %% [markdown]
# Above the grey band, from -4 to 4, there is hardly any noise, below it hardly any visible picture.
#
# *Predict: after how many of DDPM's 1,000 linear steps is the signal still stronger than the noise?*

# %%
schedules = {"linear": schedule, "cosine": Cosine(), "flow": Flow()}
alt = ("Left, alpha falls (solid) and sigma rises (dashed). Right, log SNR falls; "
       "between -4 and 4 the ground is grey.")
diagrams.schedule_curves(schedules, alt)

# %% [markdown]
# <details><summary>Answer</summary>
#
# After a quarter of them. With the other two schedules it is half.
#
# </details>
#
# Inside the band are 59 % of linear's steps, 83 % of cosine's, 76 % of flow's. [@nichol2021] could skip the last fifth of
# linear's, and samples were hardly worse. So they made cosine.

# %% tags=["check"]
# @title ✓ The three schedules against formulas and other code
by_formula = 1e-4 + 0.0199 / 999 * torch.arange(1000).double()
assert torch.allclose(betas, by_formula)  # (2.7)
assert abs(alpha[499] ** 2 - 0.0786) < 6e-5  # computed with diffusers 0.42
more = {name: int((schedules[name].log_snr(grid) > 1e-9).sum()) for name in schedules}
assert more == {"linear": 259, "cosine": 499, "flow": 499}
work = [(each.log_snr(grid).abs() < 4).double().mean() for each in schedules.values()]
assert (torch.stack(work) - torch.tensor([0.59, 0.83, 0.76])).abs().max() < 0.005
assert torch.allclose(schedule.log_snr(grid), (alpha**2 / sigma**2).log())  # (2.6)
print("✓ linear, cosine, flow: steps with more signal than noise",
      ", ".join(map(str, more.values())) + "; log SNR between -4 and 4 in",
      ", ".join(f"{share:.0%}" for share in work))

# %% [markdown]
# On linear log SNR is 0.1 at $t = 0.25$. `when` finds the time at which another schedule has that level. Then we noise one
# boot with one $\epsilon$ at the three times.
#
# *Predict: when is it on cosine and flow, and how will the three pictures differ?*

# %%
fine = torch.linspace(0.001, 0.999, 99_801, dtype=torch.float64)


def when(level, schedule):
    """Return the time, to 1e-5, at which a schedule has a level of log SNR."""
    return fine[(schedule.log_snr(fine) - level).abs().argmin()]


level = schedule.log_snr(0.25)
at = {"linear": 0.25, "cosine": when(level, Cosine()), "flow": when(level, Flow())}
twins = [add_noise(boot, eps[:1], t, schedules[name]) for name, t in at.items()]
strength = torch.stack(Flow()(at["flow"])).norm()  # sqrt(alpha^2 + sigma^2)

# %%
words = [f"{name}, {t:.2f}" for name, t in at.items()] + ["flow, scaled"]
diagrams.pictures({"": torch.cat([*twins, twins[2] / strength.float()])},
                  "Four pictures of one boot in noise; three are alike, one is greyer.",
                  above=words)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Just before halfway. Linear's and cosine's pictures do not differ: log SNR fixes $\alpha/\sigma$, and
# $\alpha^2 + \sigma^2 = 1$ the rest. Flow's is the same up to a factor: it is greyer.
#
# </details>

# %% tags=["check"]
# @title ✓ Equal log SNR, equal pictures
assert torch.allclose(twins[0], twins[1], atol=1e-3)
assert torch.allclose(twins[0], twins[2] / strength.float(), atol=1e-3)
t_cosine = 2 / torch.pi * (-level / 2).exp().atan()  # tan(pi t / 2) is sigma / alpha
t_flow = (-level / 2).sigmoid()  # t / (1 - t) is sigma / alpha
assert abs(at["cosine"] - t_cosine) < 1e-5 and abs(at["flow"] - t_flow) < 1e-5
assert twins[2].std() < 0.8 * twins[0].std()  # greyer
assert not torch.allclose(twins[0], add_noise(boot, eps[:1], 0.25, Cosine()), atol=0.1)
print("✓ one picture to 1e-3, at the times that solve (2.6): cosine",
      f"{t_cosine:.5f}, flow {t_flow:.5f}")

# %% [markdown]
# Linear belongs to checkpoints from DDPM's time, cosine to most of this course, flow to today's large
# models ([@esser2024]).

# %% [markdown]
# ## 6. Is the end really noise?
#
# Samples start from $\mathcal N(0, I)$. That is sound only if the forward walk *ends* there. How near it comes, the
# *terminal SNR* tells:
#
# $$ \mathrm{SNR}(1) = \alpha_1^2 / \sigma_1^2 \tag{2.13} $$
#
# *The Annotated Diffusion Model*, by Niels Rogge and Kashif Rasul, is made for our clothes. It has DDPM's first and last
# beta, but only 300 steps as an
# [article](https://github.com/huggingface/blog/blob/fd0b6566b04ffe8e2db8a007fc5ce0dbf6cf2d6b/annotated-diffusion.md),
# 200 as a
# [notebook](https://github.com/huggingface/notebooks/blob/2d7b0a0fc35c24d1227a95de276c55342c45bc00/examples/annotated_diffusion.ipynb).
#
# *Predict: DDPM's thousand steps leave* $\alpha_1 = 0.006$ *of the picture. Do 200 leave 0.01, 0.1 or 0.4?*

# %%
from minidiff import scaled_linear_betas

tables = {
    "DDPM": linear_betas(1000),
    "Stable Diffusion 1": scaled_linear_betas(1000),  # linear in sqrt(beta)
    "300 steps": linear_betas(300),
    "200 steps": linear_betas(200),
}
ends = {name: FromBetas(table)(1.0) for name, table in tables.items()}
print({name: f"{alpha_1:.3f}" for name, (alpha_1, _) in ends.items()})
white = torch.randn(1000, 1, 32, 32, generator=torch.Generator().manual_seed(0))

# %% [markdown]
# <details><summary>Answer</summary>
#
# 0.4.
#
# </details>
#
# What does that cost? We ask chapter 00's network, without a label. It was trained on `Cosine`, which at $t = 0.76$ has the
# log SNR with which the 200 steps end. From `white`, pure noise, it walks back in 40 steps: once from $t = 1$, the right
# start, once from $t = 0.76$.

# %% tags=["folded"]
# @title 100 samples from each of two starts
from minidiff import Empirical, ddpm, final, times
from minidiff.app.checkpoint import load_denoiser
from minidiff.data import shipped

network, _ = load_denoiser(shipped("fashion.safetensors"))
too_late = when(FromBetas(tables["200 steps"]).log_snr(1.0), Cosine())
drawn = {}
for name, start in {"start at 1": 1.0, "start at 0.76": too_late}.items():
    seeded = torch.Generator().manual_seed(2)
    back = ddpm(network, white[:100], times(40, start), Cosine(), seeded)  # chapter 03
    drawn[name] = final(back)
    print(f"{name}: 100 samples from t = {start:.2f}")

# %%
rows = {"start at 1": drawn["start at 1"][:8], " ": drawn["start at 1"][8:16],
        "start at 0.76": drawn["start at 0.76"][:8], "": drawn["start at 0.76"][8:16]}
diagrams.pictures(rows, "Two rows of eight samples for each start.")

# %% [markdown]
# The lower rows have tops, bags, and fragments: at $t = 0.76$ the network never saw pure noise.
#
# ### Which clothes come back?
#
# Is it the network's fault? A perfect walk back from $x_1$ ends in a draw from $q(x_0 \mid x_1)$. For 4,000 equally likely
# pictures $d_i$ Bayes' rule gives it, up to a factor:
#
# $$ q(x_0 = d_i \mid x_1) \ \propto\ q(x_1 \mid x_0 = d_i)
# \ \propto\ \exp\!\left(-\frac{|x_1 - \alpha_1 d_i|^2}{2\,\sigma_1^2}\right) . $$
#
# Multiplied out, the part of the exponent that depends on $d$ is, times $\sigma_1^2$,
#
# $$ \alpha_1\; x_1 \cdot d \ -\ \tfrac12\, \alpha_1^2\, |d|^2 . $$
#
# The first term is a gain, the second a loss. A true end contains its $\alpha_1 d$, so the gain makes up for the loss. Pure
# noise contains no $d$, and pictures with a large $|d|^2$ typically lose.

# %%
bank, labels = clothes.tensor(slice(0, 4000)), clothes.y[:4000]
kinds = torch.nn.functional.one_hot(labels.long()).float()  # (4000, 10)


def probabilities(x_1, alpha_1, bank=bank):
    """Return q(x_0 = d_i | x_1) for the bank, variance preserving: (B, 4000)."""
    distance = torch.cdist(x_1.flatten(1), alpha_1 * bank.flatten(1))
    return (-(distance**2) / (2 * (1 - alpha_1**2))).softmax(1)  # normalised


# %% [markdown]
# In $|d|^2$ a black or white pixel (-1 or 1) counts one, a grey one (0) nothing.
#
# *Predict: rank pullover, bag, boot, trousers and sandal by* $|d|^2$*. Which will be missing after the start at 0.76?*

# %% tags=["folded"]
# @title Count classes: the network's by a classifier, the perfect walk's exactly
from minidiff.app.metrics import load_classifier

levels = {"start at 1": float(ends["DDPM"][0]),
          "start at 0.76": float(ends["200 steps"][0])}
chosen = {name: probabilities(white, a).mean(0) for name, a in levels.items()}
exact = {name: share @ kinds for name, share in chosen.items()}  # (10,) each
classifier, test = load_classifier("fashion"), load("fashion", "test")
right = (classifier(test.tensor()).argmax(1) == test.y).double().mean()
counts, unsure = {}, {}
for name, x in drawn.items():  # 100 samples each
    sure, guess = classifier(x).softmax(1).max(1)  # below 0.9: unsure
    counts[name], unsure[name] = guess.bincount(minlength=10), int((sure < 0.9).sum())
print(f"classifier: right for {right:.0%} of test pictures; unsure of samples:", unsure)

# %%
size = bank.square().sum((1, 2, 3)) @ kinds / kinds.sum(0)  # mean |d|^2 of a class
order = size.argsort()
rows = [f"{clothes.classes[k]}, {size[k]:.0f}" for k in order]
panels = {"network, 100 samples": {name: n[order] for name, n in counts.items()},
          "perfect walk": {name: 100 * n[order] for name, n in exact.items()}}
alt = "Bars of ten classes, sorted by |d|^2: from 0.76 the last five nearly vanish."
diagrams.paired_bars(rows, panels, "% of the samples", alt, "class, mean $|d|^2$")

# %% [markdown]
# <details><summary>Answer</summary>
#
# The five classes with the largest mean $|d|^2$ nearly vanish: 4 of the network's 100 samples, 3 % of the perfect walk's.
# (Around a sandal nearly all is black. Of 100 samples a class gets $10 \pm 3$ by chance; the right start's 20
# sandals are more.)
#
# </details>
#
# The perfect walk loses them too: *the start is wrong*. What *remains* differs. The network's bags are partly fragments, which
# the classifier must call something (it is less than 90 % sure of 53 of the 100). In the perfect walk single pictures decide, not classes.

# %%
def effective(share):
    """Return 1 / sum of squared shares: n, if n pictures are drawn equally often."""
    return float(1 / share.square().sum())


best = chosen["start at 0.76"].argmax()
print(f"one {clothes.classes[labels[best]]} takes {chosen['start at 0.76'][best]:.0%}:",
      f"|d|^2 = {bank[best].square().sum():.0f}, the smallest of all;",
      f"effective number {effective(chosen['start at 0.76']):.0f} of 4,000")

# %% [markdown]
# So the right panel speaks of a few greyish pictures. Is $|d|^2$ the whole cause? Scale the pictures so that all have the
# same.
#
# *Predict: which classes come back now?*

# %%
norms = bank.flatten(1).norm(dim=1)
level_bank = bank * (norms.mean() / norms).reshape(-1, 1, 1, 1)  # |d| is the same
leveled = {name: probabilities(white, a, level_bank).mean(0)
           for name, a in levels.items()}
back = {name: share @ kinds for name, share in leveled.items()}
panels = {title: {name: 100 * n[order] for name, n in shares.items()} for title, shares
          in {"pictures as they are": exact, "all $|d|$ equal": back}.items()}
alt = "The perfect walk's bars, and those for equal |d|: sneakers rare, bags abound."
diagrams.paired_bars(rows, panels, "% of the samples", alt, "class, mean $|d|^2$")

# %% [markdown]
# <details><summary>Answer</summary>
#
# Most, but not evenly: sandals and boots are back, sneakers have 4 %, dresses 5 %, coats 6 %, bags 22 %. The effective
# number is 700.
#
# </details>
#
# So $|d|^2$ is the main cause, not the only one. The rest goes with likeness: classes whose pictures resemble one another,
# like sneakers, get less. From *true* ends all classes come back, as they must: averaged over $q(x_1)$, the density
# $q(x_0 \mid x_1)$ is that of the data.

# %% tags=["check"]
# @title ✓ From true ends all classes come back, from a late start half of them
(a, table), late = (levels["start at 0.76"], FromBetas(tables["200 steps"])), order[5:]
specks = torch.randn(1000, 1, 32, 32, generator=torch.Generator().manual_seed(2))
mean = Empirical(bank).denoise(white[:20], 1.0, table).flatten(1)  # by the package
assert torch.allclose(probabilities(white[:20], a) @ bank.flatten(1), mean, atol=1e-3)
true_ends = probabilities(add_noise(bank[:1000], specks, 1.0, table), a)
missed = (true_ends @ kinds - kinds[:1000]).mean(0).abs().max()
assert missed < 0.02 and right > 0.9 and counts["start at 1"][5] > 16
for start, low, high in (("start at 1", 40, 60), ("start at 0.76", 0, 5)):
    for share in (100 * exact[start], counts[start]):
        assert low < share[late].sum() < high
print(f"✓ from true ends all classes come back, to {missed:.1%}")

# %% tags=["check"]
# @title ✓ Equal |d|, class by class, with other noise; and likeness
fresh = torch.randn(1000, 1, 32, 32, generator=torch.Generator().manual_seed(1))
other = 100 * probabilities(fresh, a, level_bank).mean(0) @ kinds
found = 100 * back["start at 0.76"]  # in the order of clothes.classes
assert ((found - torch.tensor([9, 7, 11, 5, 6, 14, 10, 4, 22, 12])).abs() < 1).all()
assert (found - other).abs().max() < 3 and best == norms.argmin()
pair = effective(chosen["start at 0.76"]), effective(leveled["start at 0.76"])
unit = level_bank.flatten(1) / norms.mean()  # the mean cosine to the 100 nearest
likeness = (unit @ unit.T).topk(100).values.mean(1) @ kinds / kinds.sum(0)
link = torch.corrcoef(torch.stack([likeness, (found / kinds.sum(0)).log()]))[0, 1]
assert 14 < pair[0] < 24 and 600 < pair[1] < 800 and link < -0.7
print(f"✓ effective number {pair[0]:.0f}, with equal |d| {pair[1]:.0f}; likeness of a",
      f"class and the log of its share correlate by {link:.1f}")

# %% [markdown]
# **The remedy.** With fewer steps take larger betas, so that their sum stays. The sum decides nearly alone what is left:
#
# $$ \log \alpha_1^2 = \sum_k \log(1-\beta_k) = -\sum_k \beta_k - \tfrac12 \sum_k \beta_k^2 - \dots $$
#
# The price: longer steps, whose reverse is less Gaussian (section 3).
#
# Or take a schedule with $\alpha_1 = 0$ (*deeper*). Stable Diffusion leaves 0.07, and its pictures were never very dark nor
# very bright: pure noise has a mean pixel near 0, which the network takes for the picture's ([@guttenberg2023],
# [@lin2023]). *Deeper* measures such ends in nats.
#
# **Your turn.** Mend the linear table.

# %%
def mended(T):
    """Return DDPM's table for T steps instead of 1,000; the sum of betas stays.

    T is above 20, so that the last beta, 20 / T, is below 1.
    """
    ### BEGIN SOLUTION
    return linear_betas(T, 0.1 / T, 20 / T)
    ### END SOLUTION


# %% tags=["folded"]
# @title Check your answer
mended = yours(
    mended, lambda T: linear_betas(T) * 1000 / T, [(200,), (500,)],
    hint="a fifth of the steps, five times the betas: linear_betas(T, first, last)")

# %%
new_betas = mended(200)
new_end = FromBetas(new_betas)(1.0)
new_kinds = probabilities(white, float(new_end[0])).mean(0) @ kinds  # (10,)
print(f"mended: alpha_1 = {new_end[0]:.4f}; the rarest class of the perfect walk has",
      f"{new_kinds.min():.1%}, in the data {kinds.mean(0).min():.1%}")

# %% tags=["check"]
# @title ✓ The ends by a sum of logarithms; the mended table
assert all(abs(ends[name][0] - ((1 - table).log().sum() / 2).exp()) < 1e-6
           for name, table in tables.items())
assert abs(ends["Stable Diffusion 1"][0] - 0.068265) < 1e-6  # in Lin et al. 2023
assert abs(new_betas.sum() - 1000 * (0.0001 + 0.02) / 2) < 1e-9 and new_betas.max() < 1
assert (new_kinds - kinds.mean(0)).abs().max() < 0.01
more = (new_betas.square().sum() - betas.square().sum()) / 2  # the second sum
change = 2 * (new_end[0] / ends["DDPM"][0]).log()
assert abs(change + more) < 0.03 and change < 0
print(f"✓ the sum of betas is DDPM's 10.05; log alpha^2 falls by {-change:.2f} more,",
      f"by the second sum {more:.2f}")

# %% [markdown]
# ## 7. Find the bug
#
# What is wrong, and what would you see?
#
# **a.** One step, in a tutorial: two slips.
#
# ```python
# x = torch.sqrt(1 - beta) * x + beta * torch.rand_like(x)
# ```
#
# <details><summary>Answer</summary>
#
# The factor must be $\sqrt\beta$. And `rand` is never negative, so the mean climbs. (ACIDS-IRCAM,
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
# A root is missing: $1 - \bar\alpha$ is the variance. There is too little noise.
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
print(f"✓ a ends at mean {x.mean():.1f}, std {x.std():.2f}; for equal signal and",
      f"noise the variance is {b:.2f} for b, {c:.1f} for c, {right:.1f} if right")

# %% [markdown]
# ## What to keep
#
# - One step shrinks by $\sqrt{1-\beta}$ and adds noise of *variance* $\beta$ (2.1): the variance is pulled to one.
# - Gaussians merge exactly (2.2), so any number of steps is one jump, $x_t = \alpha_t x_0 + \sigma_t \epsilon$ (2.4).
#   Our $\alpha$ is the papers' $\sqrt{\bar\alpha}$.
# - Training jumps. Sampling reverses steps (2.5): the reverse of a small one is nearly Gaussian.
# - What a picture has left is its log SNR (2.6). At equal log SNR all schedules make the same picture, up to a factor
#   ([@kingma2021]).
# - The walk must end in noise: look at its terminal SNR (2.13). A wrong start loses whole classes.

# %% [markdown]
# ## Exercises
#
# **1. Pen.** Let $D$ be the number of pixels, $E$ the mean. What is $E|x_t|^2$ for a variance-preserving schedule, given
# $E|x_0|^2$? Exactly when is it constant? Clothes have $E|x_0|^2 = 0.76\,D$: what is it at $t = 0.3$ on `Cosine`?
#
# <details><summary>Answer</summary>
#
# Square (2.4). The mixed term averages to 0, since $\epsilon$ is independent of $x_0$. With $E|\epsilon|^2 = D$,
# $E|x_t|^2 = E|x_0|^2 + \sigma_t^2\,(D - E|x_0|^2)$: constant exactly when the bracket is 0. At $t = 0.3$ it is
# $0.76 + 0.21 \cdot 0.24 = 0.81$ for each pixel.
#
# </details>

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


# %% tags=["folded"]
# @title Check your answer
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
# **3. Open.** Design 200 betas with a terminal SNR (2.13) below $10^{-4}$ and log SNR above 6 after step 1. (a) Make the
# largest fall of log SNR in one step small. (Choose $\alpha_t$; then $\beta_k = 1 - \alpha_t^2/\alpha_s^2$.) (b) What
# would a *good* table be? Add your number to `judge`.

# %%
def judge(betas):
    log_snr = FromBetas(betas).log_snr(torch.arange(1, 201).double() / 200)
    return {"terminal SNR": log_snr[-1].exp(), "after step 1": log_snr[0],
            "largest fall": -log_snr.diff().min()}


print({name: f"{value:.2g}" for name, value in judge(new_betas).items()})

# %% [markdown]
# <details><summary>Answer</summary>
#
# (a) The largest of 199 falls is at least their mean, $(6 - \log 10^{-4})/199 = 0.0764$: a straight line. (b) That line
# spends many steps on pictures that hardly change, or are gone.
#
# </details>

# %% tags=["check", "answer"]
# @title ✓ The pen and the open answer
everything, seeded = clothes.tensor(), torch.Generator().manual_seed(5)
specks = torch.randn(everything.shape, generator=seeded)
clean, noisy = (add_noise(everything, specks, u, Cosine()).square().mean()
                for u in (0.0, 0.3))
assert abs(clean - 0.76) < 0.005 and abs(noisy - 0.81) < 0.005
squares = torch.linspace(6.001, -9.22, 200, dtype=torch.float64).sigmoid()  # alpha^2
verdict = judge(1 - squares / torch.cat([torch.ones(1), squares[:-1]]))
assert verdict["after step 1"] > 6 and verdict["terminal SNR"] < 1e-4
assert 0.0764 < verdict["largest fall"] < 0.0766 < judge(new_betas)["largest fall"]
print(f"✓ all clothes: {clean:.2f} at t = 0, {noisy:.2f} at t = 0.3;",
      f"a straight line in log SNR falls by {verdict['largest fall']:.4f}")

# %% [markdown]
# **Deeper:** [02, deeper](deeper/02_forward_diffusion.ipynb): proofs, more schedules, high
# resolutions, more bugs.
#
# **Next:** [03 · Reverse diffusion](03_reverse_diffusion.ipynb), the way back.
#
# ## References
#
# {references}
