# %% [markdown]
# # 02 · Forward diffusion
#
# **How do you destroy a picture so gently that the damage can be undone?** By a thousand small steps, each of which
# adds a little noise: the blue arrow below. The dashed one, the way back, is what a network will learn, from examples
# that cost nothing. We make the damage ourselves.

# %%
import torch

from minidiff import FromBetas, Gaussian, add_noise, linear_betas
from minidiff.course import check, diagrams, plot, widgets
from minidiff.data import load

clothes = load("fashion")
boot = clothes.tensor(slice(0, 1))  # (1, 1, 32, 32)

# %%
few = FromBetas(linear_betas(10, 0.01, 0.4))  # ten steps, so that one of them shows
names = ("x_0", "x_{k-1}", "x_k", "x_T")
diagrams.chain(boot, few, (0, 0.3, 0.4, 1), names,
               forward="shrinks, adds noise (this chapter)",
               backward="takes noise away (chapter 03)")

# %% [markdown]
# **You build** one noising step, the formula that replaces a thousand of them, three noise schedules, and a test
# that finds a flaw in published ones. Nothing is trained. You need mean, variance, independence, a little PyTorch and
# three quarters of an hour; the computer needs half a minute of it.
#
# | letter | meaning |
# |---|---|
# | $x_0,\ x_k,\ x_T$ | the clean picture; the state after step $k$; after the last step, $T = 1000$ |
# | $\beta_k$ | the variance of the noise that step $k$ adds |
# | $z,\ \epsilon$ | standard normal noise, one independent number for each pixel |
# | $s < t$ | times, from 0 (data) to 1 (noise); step $k$ ends at $t = k/T$ |
# | $\alpha_t,\ \sigma_t$ | how much signal and how much noise is in $x_t$ |
# | $q,\ p$ | the way to noise, which we choose; the way back, which is learned |

# %% [markdown]
# ## 1. One noising step
#
# A grey picture of 32 by 32 pixels is a list of 1,024 numbers from -1 (black) to 1 (white). A step shrinks each
# number a little and adds a little noise:
#
# $$ \begin{gathered}
# q(x_k \mid x_{k-1}) = \mathcal N\!\left(x_k;\ \sqrt{1-\beta_k}\; x_{k-1},\ \beta_k I\right), \\
# x_k = \sqrt{1-\beta_k}\; x_{k-1} + \sqrt{\beta_k}\; z_k .
# \end{gathered} \tag{2.1} $$
#
# The first line is a density: $\mathcal N(x; m, v)$ is the normal density at $x$ with mean $m$ and *variance* $v$, and
# the identity matrix $I$ says that every pixel gets its own noise. The second is the same as a recipe, a fixed function
# of the picture and of standard noise. Writing a random thing so is called *reparameterisation*.
#
# A step looks at the state before it and at nothing else. That makes a *Markov chain*, and the density of a whole
# walk is a product, $q(x_1, \dots, x_T \mid x_0) = \prod_{k=1}^{T} q(x_k \mid x_{k-1})$. The idea is from
# [@sohldickstein2015], this form of it and the numbers below from DDPM, [@ho2020].
#
# **Your turn.** Write the recipe.

# %%
def forward_step(x, beta, z):
    """Return x_k from x = x_{k-1}, beta = beta_k, a tensor (), and the noise z."""
    ### BEGIN SOLUTION
    return (1 - beta).sqrt() * x + beta.sqrt() * z
    ### END SOLUTION


# %%
x, z = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 0.25])
cases = [(x, torch.tensor(beta), z) for beta in (0.19, 0.64)]
check(forward_step, lambda x, beta, z: add_noise(x, z, 1.0, FromBetas([beta])), cases,
      hint="beta is a variance; noise is scaled by its standard deviation")

# %% [markdown]
# Now a thousand of them. DDPM's variances rise evenly from 0.0001 to 0.02. The package's `Gaussian` is the first line
# of (2.1), its `sample` the second.

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
# *Predict: when does the boot vanish?*

# %%
shown = [0, 100, 200, 300, 400, 500, 700, 1000]
plot.images(states[shown, 0], "A boot under more and more noise; from step 500 on "
            "only noise is seen.", columns=4, titles=[f"step {k}" for k in shown])

# %% [markdown]
# <details><summary>Answer</summary>
#
# For the eye soon after step 400, long before the end. The check correlates its pixels with the clean ones.
#
# </details>

# %% tags=["check"]
# @title ✓ When the boot is gone
clean = boot.flatten()
found = {k: float(torch.corrcoef(torch.stack([clean, states[k].flatten()]))[0, 1])
         for k in (400, 700, 1000)}
assert found[400] > 6 / 32 and max(abs(found[700]), abs(found[1000])) < 3 / 32
print("✓ correlation with the boot:",
      ", ".join(f"{found[k]:.2f} at step {k}" for k in found), "(chance: about 0.03)")

# %% [markdown]
# The same walk as a film, with the histogram of the boot's 1,024 pixels:

# %%
values = torch.linspace(-3.5, 3.5, 43)
bell = torch.distributions.Normal(0.0, 1.0).log_prob(values).exp()


# %%
def frame(k):
    alt = "The boot turns into noise, its pixels' histogram into the bell curve."
    picture, (left, right) = plot.figure(alt, 2, width=6.4, height=2.9)
    left.imshow(states[k, 0, 0], cmap="gray", vmin=-1, vmax=1)
    left.set(title=f"step {k}", xticks=[], yticks=[])
    right.hist(states[k].flatten().numpy(), bins=values.tolist(), density=True)
    right.plot(values, bell, color="black")
    right.set(title="its pixels", ylim=(0, 1.2), xlabel="value", ylabel="density")
    return picture


# %%
widgets.film([frame(k) for k in range(0, 1001, 50)], ms=250)

# %% [markdown]
# The bars settle under the black curve, the standard normal. Whatever a pixel was, it has become noise.
#
# ## 2. Why the picture is shrunk
#
# Leave the shrinking out, and keep the noise: $x_k = x_{k-1} + \sqrt{\beta_k}\, z_k$.
#
# *Predict: how will the end look different?*

# %%
z = torch.randn(1000, *boot.shape, generator=torch.Generator().manual_seed(0))
noise = (betas.sqrt().float().reshape(1000, 1, 1, 1, 1) * z).cumsum(0)
piled = torch.cat([boot[None], boot + noise])  # (1001, 1, 1, 32, 32)

# %%
shown = [0, 200, 400, 600, 800, 1000]
plot.strips(
    {"shrunk": states[shown, 0], "not shrunk": piled[shown, 0]},
    "Two rows of six boots; the one not shrunk ends in hard black and white.",
    above=[f"step {k}" for k in shown])

# %% [markdown]
# <details><summary>Answer</summary>
#
# Hard black and white: most values lie beyond what a screen can show.
#
# </details>
#
# Variances of independent things add. So without shrinking each step adds $\beta_k$ to the variance of the pixels.
# With it a variance $V$ becomes $(1-\beta_k)\,V + \beta_k$: its distance from one is multiplied by $1-\beta_k$, and
# dies out.

# %%
alt = "Without shrinking the variance of the pixels climbs to ten; with it, to one."
picture, (ax,) = plot.figure(alt, width=6.4, height=2.9)
for name, chain, colour, place in (("shrunk", states, 0, (830, 1.5)),
                                   ("not shrunk", piled, 3, (600, 7))):
    ax.plot(chain.flatten(1).var(1), color=plot.COLOURS[colour])
    ax.text(*place, name, color=plot.COLOURS[colour], fontsize=12)
ax.set(xlabel="step", ylabel="variance of the pixels", yticks=[0, 1, 5, 10])
picture

# %% tags=["check"]
# @title ✓ The two rules for the variance
by_rule, summed = boot.var().double(), boot.var() + betas.sum()
for beta in betas:
    by_rule = (1 - beta) * by_rule + beta
assert abs(by_rule - 1) < 1e-3 and abs(states[-1].var() - 1) < 0.1
assert abs(piled[-1].var() / summed - 1) < 0.1
assert (piled[-1].abs() > 1).double().mean() > 0.7  # beyond black and white
print(f"✓ variance by the rules: {by_rule:.2f} shrunk, {summed:.1f} not;",
      f"in the walks {states[-1].var():.2f}, {piled[-1].var():.1f}")

# %% [markdown]
# That is why one shrinks: a network will see inputs of one size, and the walk ends in the noise that everybody can
# draw. Such a process is *variance preserving*. The other kind, *variance exploding*, is used as well ([@song2021]).
#
# It is not the shrinking that destroys: a picture made smaller can be made larger again. What counts is the noise
# *relative to what is left of the picture*. Without shrinking the picture keeps its strength, under noise of standard
# deviation $\sqrt{\sum_k \beta_k}$. With it the noise ends at 1, but the picture has been multiplied a thousand times
# by a little less than one.

# %%
left = (1 - betas).sqrt().prod()
print(f"noise over picture: {betas.sum().sqrt():.1f} not shrunk, {1 / left:.0f} shrunk")

# %% [markdown]
# ## 3. A thousand steps are one jump
#
# A thousand random draws for one noisy picture: training would be hopelessly slow. A small theorem helps. For
# independent standard normal $z_1$, $z_2$ and any numbers $a$, $b$
#
# $$ a\, z_1 + b\, z_2 \ \sim\ \mathcal N(0,\ a^2 + b^2). \tag{2.2} $$
#
# The variances of any independent noises add. The surprise is the $\mathcal N$: the sum is again *exactly* normal.

# %%
diagrams.round_cloud(0.8, 0.5)

# %% [markdown]
# The reason is in the picture. The density of the pair, $\frac{1}{2\pi} e^{-(z_1^2 + z_2^2)/2}$, depends on the
# distance from the centre only: the cloud is round. So its shadow on any line through the centre is the same bell
# curve. And $a z_1 + b z_2$, the dot product of $(z_1, z_2)$ with the arrow $(a, b)$, is the shadow on the line of the
# arrow, times its length $\sqrt{a^2 + b^2}$. With $a = 0.8$ and $b = 0.5$ that is 0.94, not 1.3: variances add, standard
# deviations do not.

# %% tags=["check"]
# @title ✓ The density of the sum, by convolution
grid = torch.linspace(-6, 6, 2401, dtype=torch.float64)
first, second, merged = (
    torch.distributions.Normal(0.0, std).log_prob(grid).exp()[None, None]
    for std in (0.8, 0.5, 0.89**0.5))
by_integral = torch.nn.functional.conv1d(first, second, padding=1200) * 0.005
assert (by_integral - merged).abs().max() < 1e-6
print("✓ 0.8 z1 + 0.5 z2 has the density of a normal of variance 0.89, to 1e-6")

# %% [markdown]
# Now take two steps of (2.1) at once:
#
# $$ x_2 = \sqrt{(1-\beta_1)(1-\beta_2)}\; x_0
# + \underbrace{\sqrt{(1-\beta_2)\,\beta_1}\; z_1 + \sqrt{\beta_2}\; z_2}_{\text{two independent noises}} . $$
#
# By (2.2) the two noises are one, of variance $(1-\beta_2)\,\beta_1 + \beta_2 = 1 - (1-\beta_1)(1-\beta_2)$: one minus
# the square of the factor before $x_0$. Each further step keeps this so. If the factor is $\alpha_{k-1}$ and the
# variance $1 - \alpha_{k-1}^2$, the next variance is $(1-\beta_k)(1-\alpha_{k-1}^2) + \beta_k =
# 1 - (1-\beta_k)\,\alpha_{k-1}^2$. So for every $k$, with a single standard normal $\epsilon$,
#
# $$ \begin{gathered}
# x_k = \alpha_k\, x_0 + \sigma_k\, \epsilon, \qquad
# q(x_k \mid x_0) = \mathcal N\!\left(x_k;\ \alpha_k\, x_0,\ \sigma_k^2 I\right), \\
# \alpha_k = \sqrt{(1-\beta_1)(1-\beta_2) \cdots (1-\beta_k)}, \qquad \sigma_k^2 = 1 - \alpha_k^2 .
# \end{gathered} \tag{2.3} $$
#
# > **How the papers write it.** DDPM numbers the steps with $t$ and abbreviates $\alpha_t = 1 - \beta_t$ and
# > $\bar\alpha_t = \alpha_1 \alpha_2 \cdots \alpha_t$. Then (2.3) reads
# > $q(x_t \mid x_0) = \mathcal N(x_t;\ \sqrt{\bar\alpha_t}\, x_0,\ (1 - \bar\alpha_t) I)$. In this course
# > $\alpha$ is always $\sqrt{\bar\alpha}$, the factor of the signal, and never $1 - \beta$. diffusers calls $\bar\alpha$
# > `alphas_cumprod`.
#
# **Your turn.** Jump from $x_0$ to $x_k$.

# %%
def jump(x0, eps, betas, k):
    """Return x_k from x_0 and one noise eps; betas is the whole table, k = 1..T."""
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
# Is it true? Let 10,000 "pictures" of one pixel start at $x_0 = 2$ and take every step.
#
# *Predict: two numbers describe the cloud at step 250. Which?*

# %%
alpha = (1 - betas).sqrt().cumprod(0)  # (1000,): alpha[k - 1] belongs to step k
sigma = (1 - alpha**2).sqrt()
cloud = walk(torch.full((10_000,), 2.0), betas)  # (1001, 10000)

# %%
alt = "Histograms of the walk at steps 50, 250 and 1000, under bell curves from (2.3)."
picture, axes = plot.figure(alt, 3, width=7.0, height=2.7)
for ax, k in zip(axes, (50, 250, 1000), strict=True):
    one_jump = torch.distributions.Normal(2 * alpha[k - 1], sigma[k - 1])
    ax.hist(cloud[k].numpy(), bins=60, density=True, alpha=0.4)
    ax.plot(grid, one_jump.log_prob(grid).exp(), color=plot.COLOURS[3])
    ax.set(xlim=(-4, 4), title=f"step {k}", xlabel="value of the pixel")
axes[0].text(-3.8, 1.9, "the walk", color=plot.COLOURS[0], fontsize=11)
axes[0].text(-3.8, 1.6, "one jump", color=plot.COLOURS[3], fontsize=11)
picture

# %% [markdown]
# <details><summary>Answer</summary>
#
# Its mean, $2\,\alpha_{250} = 1.45$, and its standard deviation, $\sigma_{250} = 0.69$.
#
# </details>
#
# The bars took up to a thousand steps, the curves one line.

# %% tags=["check"]
# @title ✓ The jump equals the walk
for k in (50, 250, 1000):
    ranks = (torch.arange(10_000) + 0.5) / 10_000
    one_jump = torch.distributions.Normal(2 * alpha[k - 1], sigma[k - 1])
    gap = (one_jump.cdf(cloud[k].double().sort().values) - ranks).abs().max()
    assert gap < 0.0163  # Kolmogorov-Smirnov: exceeded by chance once in a hundred
signal, variance = 1.0, 0.0
for k, beta in enumerate(betas):
    signal, variance = (1 - beta).sqrt() * signal, (1 - beta) * variance + beta
    assert abs(signal - alpha[k]) < 1e-12 and abs(variance - sigma[k] ** 2) < 1e-12
assert abs(2 * alpha[249] - 1.45) < 5e-3 and abs(sigma[249] - 0.69) < 5e-3
print("✓ coefficients to 1e-12 at all 1,000 steps; the cloud passes a test for (2.3)")

# %% [markdown]
# **Whose** $\epsilon$**?** It stands for all the noise so far, merged into one, so every step has another. A row of
# pictures made with *one* $\epsilon$, as in section 5, compares noise levels. It is not a walk.
#
# ## 4. From betas to a schedule
#
# How many steps a walk has is a matter of taste. So count in *time*, $t = k/T$, from 0 (data) to 1 (noise). From here
# on a subscript is a time, $x_1$ is the end of the walk, and of all the steps this is left:
#
# $$ \boxed{\; x_t = \alpha_t\, x_0 + \sigma_t\, \epsilon \;} \tag{2.4} $$
#
# A [noise schedule](../docs/glossary.md#noise-schedule) is a function $t \mapsto (\alpha_t, \sigma_t)$. `FromBetas`
# makes one from any table, and `add_noise` is the jump on any schedule, with one time for all pictures or a time for
# each. Its two helpers look after shapes.

# %%
schedule = FromBetas(betas)
plot.show_source(add_noise)

# %% tags=["check"]
# @title ✓ FromBetas and add_noise are (2.3)
t = torch.arange(1, 1001, dtype=torch.float64) / 1000
for ours, package in zip((alpha, sigma), schedule(t), strict=True):
    assert torch.allclose(ours, package, rtol=1e-9)
eps = torch.randn(boot.shape, generator=torch.Generator().manual_seed(1))
for k in (1, 250, 1000):
    by_hand = (alpha[k - 1] * boot + sigma[k - 1] * eps).float()
    assert torch.allclose(add_noise(boot, eps, k / 1000, schedule), by_hand, atol=1e-6)
print("✓ FromBetas agrees with the products of (2.3) at all 1,000 times")

# %% [markdown]
# ### From any time to any later time
#
# Sampling will need steps between any two times $s < t$. Such a step must look like
# $x_t = \alpha_{ts}\, x_s + \sigma_{ts}\, \epsilon'$ with fresh noise $\epsilon'$. Insert
# $x_s = \alpha_s x_0 + \sigma_s \epsilon$:
#
# $$ x_t = \alpha_{ts}\,\alpha_s\; x_0
# + \underbrace{\alpha_{ts}\,\sigma_s\;\epsilon + \sigma_{ts}\;\epsilon'}_{\text{two independent noises}} . $$
#
# The factor of $x_0$ must be $\alpha_t$. By (2.2) the two noises are one, whose variance must be $\sigma_t^2$. Two
# equations, two unknowns ([@kingma2021]):
#
# $$ \begin{gathered}
# q(x_t \mid x_s) = \mathcal N\!\left(x_t;\ \alpha_{ts}\, x_s,\ \sigma_{ts}^2 I\right), \\
# \alpha_{ts} = \frac{\alpha_t}{\alpha_s}, \qquad \sigma_{ts}^2 = \sigma_t^2 - \alpha_{ts}^2\,\sigma_s^2 .
# \end{gathered} \tag{2.5} $$
#
# **Your turn.**

# %%
def between(s, t, schedule):
    """Return (alpha_ts, sigma_ts) of the step from time s to a later time t."""
    (alpha_s, sigma_s), (alpha_t, sigma_t) = schedule(s), schedule(t)
    ### BEGIN SOLUTION
    alpha_ts = alpha_t / alpha_s
    return alpha_ts, (sigma_t**2 - alpha_ts**2 * sigma_s**2).sqrt()
    ### END SOLUTION


# %%
from minidiff import Cosine, Flow, Mixture, transition

cases = [(0.2, 0.5, each) for each in (schedule, Cosine(), Flow())]
check(between, transition, cases,
      hint="first the factor; then the variance that is missing, and its root")

# %% tags=["check"]
# @title ✓ One step of (2.5) is (2.1)
alpha_ts, sigma_ts = transition(t - 0.001, t, schedule)
assert torch.allclose(alpha_ts, (1 - betas).sqrt(), rtol=1e-9)
assert torch.allclose(sigma_ts, betas.sqrt(), rtol=1e-6)
print("✓ from t - 1/T to t, (2.5) gives back the betas, at all 1,000 steps")

# %% [markdown]
# With `transition` anything can walk, on any schedule. Here the data are not pictures but single numbers, near -1.2
# or near 0.8. The ribbon shows their density at every time, computed exactly (chapter 03). Six of them walk on it.
#
# *Predict: what does a number at* $t = 1$ *tell about where it came from?*

# %%
humps = Mixture(torch.tensor([0.4, 0.6]), torch.tensor([[-1.2], [0.8]]),
                torch.tensor([0.2, 0.2]))


def forward_paths(x, ts, schedule, generator):
    paths = [x]
    for s, t in zip(ts, ts[1:], strict=False):
        alpha_ts, sigma_ts = transition(s, t, schedule)
        paths.append(Gaussian(alpha_ts * paths[-1], sigma_ts).sample(generator))
    return torch.stack(paths)  # (S, N)


# %%
ts, generator = torch.linspace(0, 1, 101).double(), torch.Generator().manual_seed(4)
starts = humps.sample(6, generator)[:, 0].double()  # (6,)
paths = forward_paths(starts, ts, schedule, generator)  # (101, 6)
alt = "Two dark bands melt into one; six jagged paths start on them and end anywhere."
diagrams.ribbon(humps, schedule, ts, paths, alt, arrow="forward: noise comes in")

# %% [markdown]
# <details><summary>Answer</summary>
#
# Next to nothing. The walk is random: one start has many ends, and each end could have come from either hump. The two
# humps melt, and at $t = 1$ one bell is left, the same for all data.
#
# </details>

# %% tags=["check"]
# @title ✓ The ribbon is the density of many walkers
many = humps.sample(20_000, generator)[:, 0].double()
stops = torch.tensor([0.0, 0.1, 0.25], dtype=torch.float64)
walked = forward_paths(many, stops, schedule, generator)[-1].sort().values
density = humps.log_prob(grid[:, None], 0.25, schedule).exp()
cdf = torch.cumulative_trapezoid(density, grid)
gap = (cdf - torch.searchsorted(walked, grid[1:]) / 20_000).abs().max()
assert gap < 1.63 / 20_000**0.5  # Kolmogorov-Smirnov, once in a hundred
print("✓ 20,000 numbers, walked to t = 0.25 in two steps, pass a test for the ribbon")

# %% [markdown]
# ## 5. Noise schedules
#
# Time is a label that we chose. What $x_t$ has left of the picture is the *signal-to-noise ratio* (SNR), the variance
# of the signal over that of the noise, best seen as a logarithm:
#
# $$ \log \mathrm{SNR}(t) = \log \frac{\alpha_t^2}{\sigma_t^2} \tag{2.6} $$
#
# (By convention the data count as having variance one.) Zero means as much signal as noise; +2.3 ten times as much,
# -2.3 a tenth. It only falls: noise, once in, does not come out. Three ways down:
#
# **Linear** ([@ho2020]), as above, with $\beta_1 = 10^{-4}$ and $\beta_T = 0.02$:
#
# $$ \beta_k = \beta_1 + \frac{k-1}{T-1}\,(\beta_T - \beta_1) \tag{2.7} $$
#
# **Cosine** ([@nichol2021]) decides how $\alpha^2$ should fall, as a squared cosine, and takes the betas that achieve
# it:
#
# $$ \begin{gathered}
# \alpha_k^2 = \frac{f(k)}{f(0)}, \qquad
# f(k) = \cos^2\!\left(\frac{k/T + 0.008}{1 + 0.008}\cdot\frac{\pi}{2}\right), \\
# \beta_k = \min\!\left(1 - \frac{\alpha_k^2}{\alpha_{k-1}^2},\ 0.999\right)
# \end{gathered} \tag{2.10} $$
#
# ($\alpha_k$ is meant before the cap.) The 0.008 keeps the first steps from being uselessly small, the 0.999 the last
# one from dividing by zero. Without both it is a quarter circle, $\alpha_t = \cos\frac{\pi t}{2}$,
# $\sigma_t = \sin\frac{\pi t}{2}$: the package's `Cosine()`, which most of this course uses.
#
# **Flow** ([@lipman2023], [@liu2023]) needs no betas: $\alpha_t = 1 - t$, $\sigma_t = t$. It is a schedule like any
# other, only not variance preserving.

# %%
from minidiff import cosine_betas

cosine = FromBetas(cosine_betas(1000))
schedules = {"linear": schedule, "cosine": cosine, "flow": Flow()}

# %%
alt = "Log SNR against time: linear crosses zero at a quarter, cosine and flow halfway."
picture, (ax,) = plot.figure(alt, width=6.4, height=3.4)
for (name, each), colour in zip(schedules.items(), (0, 3, 2), strict=True):
    ax.plot(t, each.log_snr(t), label=name, color=plot.COLOURS[colour])
ax.axhspan(0, 10, color="0.95")
ax.text(0.98, 8, "more signal than noise", ha="right", fontsize=11)
ax.text(0.98, -12.8, "more noise than signal", ha="right", fontsize=11)
ax.set(xlabel="time t", ylabel="log SNR", ylim=(-14, 10), yticks=range(-10, 11, 5))
ax.legend(loc="lower left", fontsize=11)
picture

# %% [markdown]
# *Predict: DDPM's linear walk has 1,000 steps. How many of them end with more signal than noise?*

# %%
crossing = {name: int((each.log_snr(t) > 0).sum()) for name, each in schedules.items()}
print("steps that end with more signal than noise:", crossing)

# %% [markdown]
# <details><summary>Answer</summary>
#
# A quarter of them; three quarters go to pictures in which noise dominates. With the other two it is half.
#
# </details>
#
# The same boot, with one noise $\epsilon$, at six times:

# %%
six = torch.tensor([0.1, 0.25, 0.4, 0.55, 0.7, 0.85])
boots, one_eps = boot.expand(6, -1, -1, -1), eps.expand(6, -1, -1, -1)
rows = {name: add_noise(boots, one_eps, six, each) for name, each in schedules.items()}
plot.strips(rows, "Three rows of a boot at six times; the linear row fades first.",
            above=[f"t = {u:.2f}" for u in six])

# %% tags=["check"]
# @title ✓ Linear and cosine, against the formulas and diffusers
f = ((torch.arange(1001).double() / 1000 + 0.008) / 1.008 * torch.pi / 2).cos() ** 2
squares = (1 - cosine_betas(1000)).cumprod(0)  # alpha_k^2
assert torch.allclose(squares[:-1], f[1:-1] / f[0], rtol=1e-9)
assert (cosine_betas(1000) == 0.999).sum() == 1  # the cap touches only the last step
assert torch.allclose(betas, 1e-4 + 0.0199 / 999 * torch.arange(1000).double())
assert abs(alpha[499] ** 2 - 0.0786) < 6e-5 and abs(squares[499] - 0.4938) < 6e-5
assert crossing == {"linear": 259, "cosine": 496, "flow": 499}
assert abs(Cosine()(0.3)[0] - cosine(0.3)[0]) < 0.01
assert sum(c**2 for c in Flow()(0.5)) == 0.5  # not one
print("✓ alpha squared at step 500 is 0.0786 and 0.494, as in diffusers 0.42")

# %% [markdown]
# Flow's boots are paler, for their variance dips on the way. Drag $t$ and change the schedule. Can you find two
# schedules and two times with the *same* log SNR? If both preserve variance, the pictures are then the same, pixel
# for pixel: log SNR fixes $\alpha/\sigma$, and $\alpha^2 + \sigma^2 = 1$ the rest.

# %%
def draw(name, t):
    each, inner = schedules[name], ts[1:-1]
    alt = f"The {name} schedule at t = {t:.2f}: its log SNR, and the noisy boot."
    figure, (left, right) = plot.figure(alt, 2, width=6.4, height=2.9)
    left.plot(inner, each.log_snr(inner))
    left.plot([t], [each.log_snr(t)], "o", markersize=9)
    left.set(xlabel="time t", ylim=(-14, 10), title=f"log SNR {each.log_snr(t):.1f}")
    right.imshow(add_noise(boot, eps, t, each)[0, 0], cmap="gray", vmin=-1, vmax=1)
    right.set(xticks=[], yticks=[], title=f"t = {t:.2f}")
    return figure


# %%
import ipywidgets

choice = ipywidgets.Dropdown(options=list(schedules), description="schedule")
slider = ipywidgets.FloatSlider(0.25, min=0.01, max=0.99, step=0.01, description="t")
_ = widgets.explore(draw, name=choice, t=slider)

# %% tags=["check"]
# @title ✓ Equal log SNR, equal pictures
low, high = 0.001, 0.999
for _ in range(50):
    middle = (low + high) / 2
    too_clean = cosine.log_snr(middle) > schedule.log_snr(0.25)
    low, high = (middle, high) if too_clean else (low, middle)
twins = add_noise(boot, eps, 0.25, schedule), add_noise(boot, eps, middle, cosine)
assert torch.allclose(*twins, atol=1e-5)
log_snr = (alpha**2 / sigma**2).log()  # (2.6) by hand
assert torch.allclose(log_snr, schedule.log_snr(t)) and (log_snr.diff() < 0).all()
print(f"✓ linear at t = 0.25 and cosine at t = {middle:.2f} give the same picture")

# %% [markdown]
# ## 6. Is the end really noise?
#
# To generate, one starts from pure noise, $\mathcal N(0, I)$, and walks back. That is sound only if the forward walk
# *ends* in pure noise. The *terminal SNR* must be practically zero:
#
# $$ \mathrm{SNR}(1) = \alpha_1^2 / \sigma_1^2 \tag{2.13} $$
#
# ($\alpha_1$ is $\alpha_t$ at $t = 1$, the papers' $\sqrt{\bar\alpha_T}$.) Eight published tables:
#
# | table | where it stands |
# |---|---|
# | DDPM | [section 4 of the paper](https://arxiv.org/abs/2006.11239) |
# | Stable Diffusion 1 | [its configuration](https://github.com/CompVis/stable-diffusion/blob/36de52cb6e05c3bb1b435afcccc29279a4fdf616/configs/stable-diffusion/v1-inference.yaml#L5-L8) |
# | DeepLearning.AI | [*How Diffusion Models Work*, a copy of lab 4](https://github.com/Ryota-Kawamura/How-Diffusion-Models-Work/blob/1fa3b65a3990f39db8f650daf91351ba6a0eaa7d/L4_FastSampling.ipynb) |
# | Conditional MNIST | [TeaPearce's script](https://github.com/TeaPearce/Conditional_Diffusion_MNIST/blob/1248f64634b33e39b5252612e36d89b27c3f3a34/script.py) |
# | Annotated, article | [*The Annotated Diffusion Model*](https://github.com/huggingface/blog/blob/fd0b6566b04ffe8e2db8a007fc5ce0dbf6cf2d6b/annotated-diffusion.md) |
# | EngiOpt | [issue 65, where its authors found it](https://github.com/IDEALLab/EngiOpt/issues/65) |
# | Annotated, notebook | [the article as a notebook](https://github.com/huggingface/notebooks/blob/2d7b0a0fc35c24d1227a95de276c55342c45bc00/examples/annotated_diffusion.ipynb) |
# | UDL 18.2 | [*Understanding Deep Learning*, notebook 18.2](https://github.com/udlbook/udlbook/blob/55c471bdde7bfabe7a2f9fdc5c4bf5276d082dbe/Notebooks/Chap18/18_2_1D_Diffusion_Model.ipynb) |
#
# Six of them have DDPM's betas, $10^{-4}$ to 0.02; five of these have fewer steps.
#
# *Predict: the same betas in 200 steps. What share of the signal is left?*

# %%
from minidiff import Empirical, ddpm, final, scaled_linear_betas

tables = {
    "DDPM, T = 1000": linear_betas(1000),
    "Stable Diffusion 1, 1000": scaled_linear_betas(1000),  # linear in sqrt(beta)
    "DeepLearning.AI, 500": linear_betas(501),  # this one and the next
    "Conditional MNIST, 400": linear_betas(401),  # multiply T + 1 factors
    "Annotated, article, 300": linear_betas(300),
    "EngiOpt, 250": linear_betas(250),
    "Annotated, notebook, 200": linear_betas(200),
    "UDL 18.2, 100": torch.full((100,), 0.01511),
}

# %%
ends = {name: FromBetas(table) for name, table in tables.items()}
remaining = torch.stack([end(1.0)[0] for end in ends.values()])  # (8,)
picture, (ax,) = plot.figure("The signal left at the end of eight tables.", height=2.9)
bars = ax.barh(list(tables), remaining)
ax.bar_label(bars, [f"{each:.2g}" for each in remaining], padding=4)
ax.set(xlabel="alpha at t = 1: the signal left at the end", xlim=(0, 0.55))
ax.invert_yaxis()
picture

# %% tags=["check"]
# @title ✓ The eight ends, multiplied by hand
by_hand = []
for table in tables.values():
    product = 1.0
    for beta in table.tolist():
        product *= 1 - beta
    by_hand.append(product**0.5)
assert torch.allclose(remaining, torch.tensor(by_hand).double(), atol=1e-6)
assert abs(by_hand[0] - 0.00635) < 6e-6 and abs(by_hand[5] - 0.282) < 6e-4
assert abs(by_hand[6] - 0.364) < 6e-4 and by_hand == sorted(by_hand)
print("✓ EngiOpt's authors quote 0.00635 for 1,000 steps, 0.282 for 250; we find",
      f"{by_hand[0]:.3g} and {by_hand[5]:.3g}")

# %% [markdown]
# <details><summary>Answer</summary>
#
# More than a third: 0.36 of the amplitude.
#
# </details>
#
# What does that cost? We judge the tables, not the codes, by putting each of them on our clothes. (The two annotated
# ones were made for just these clothes; Stable Diffusion noises the latents of chapter 11, UDL single numbers.)
#
# The test must have no other error, so the walk back must be perfect. A perfect walk back from $x_1$, however it
# takes its steps, is a draw of $x_0$ from $q(x_0 \mid x_1)$: the clean picture, given its noise. For a *finite* set
# of equally likely pictures $d_i$, Bayes' rule makes that exact, up to a sum that normalises:
#
# $$ q(x_0 = d_i \mid x_1) \ \propto\ q(x_1 \mid x_0 = d_i)
# \ \propto\ \exp\!\left(-\frac{|x_1 - \alpha_1 d_i|^2}{2\,\sigma_1^2}\right) . $$

# %%
bank, labels = clothes.tensor(slice(0, 4000)), clothes.y[:4000]


def probabilities(x_1, schedule):
    alpha_1, sigma_1 = (c.float() for c in schedule(1.0))
    distance = torch.cdist(x_1.flatten(1), alpha_1 * bank.flatten(1))  # (B, 4000)
    return (-(distance**2) / (2 * sigma_1**2)).softmax(1)  # normalised


def draw_back(x_1, schedule, generator):
    drawn = torch.multinomial(probabilities(x_1, schedule), 1, generator=generator)
    return drawn[:, 0]  # (B,), places in the bank

# %% [markdown]
# Two starts for each table, 500 times: pure noise, and the true end of the forward walk. First the brightness, the
# mean of all pixels, which is -0.56 for the clothes.
#
# *Predict: noise has mean 0. Will the samples be too bright or too dark?*

# %%
white = torch.randn(500, 1, 32, 32, generator=torch.Generator().manual_seed(0))
generator, from_noise, from_end = torch.Generator().manual_seed(1), [], []
for end in ends.values():
    real = bank[torch.randint(4000, (500,), generator=generator)]
    from_noise.append(draw_back(white, end, generator))
    from_end.append(draw_back(add_noise(real, white, 1.0, end), end, generator))

brightness = bank.flatten(1).mean(1)  # (4000,)
error = brightness.std() / 500**0.5  # the standard error of a mean of 500

# %%
picture, (ax,) = plot.figure("Samples from pure noise get too bright.", width=6.4)
for name, picks, k in (("pure noise", from_noise, 3), ("true end", from_end, 0)):
    means = [brightness[pick].mean() for pick in picks]
    ax.plot(remaining, means, "o-", color=plot.COLOURS[k], label="from " + name)
low, high = brightness.mean() - 2 * error, brightness.mean() + 2 * error
ax.axhspan(low, high, color="0.85", label="data")
ax.text(0.0, -0.54, "DDPM", fontsize=11)
ax.text(0.33, -0.395, "200 steps", fontsize=11)
ax.set(xlabel="alpha at t = 1", ylabel="mean brightness", ylim=(-0.6, -0.37))
ax.legend(loc="center right", fontsize=11)
picture

# %% [markdown]
# <details><summary>Answer</summary>
#
# Too bright. The grey band is where the mean of 500 real pictures falls by chance, two standard errors either way.
#
# </details>
#
# From the true end every table stays with the data. From pure noise DDPM's does, the next two are a little too
# bright, the rest grossly, *although the walk back is perfect*. No training mends that: the start is wrong.
# [@lin2023] found it in Stable Diffusion, whose pictures are never very dark nor very bright. And brightness is only
# the symptom:

# %%
two_rows = {"DDPM": bank[from_noise[0][:8]], "UDL 18.2": bank[from_noise[7][:8]]}
plot.strips(two_rows, "Above varied clothes and shoes; below often the same pullover.")

# %%
shoe = torch.isin(labels, torch.tensor([5, 7, 9])).double()  # sandal, sneaker, boot
share = [float(shoe[pick].mean()) for pick in from_noise]
print(f"shoes: {shoe.mean():.0%} of the data;", *(f"{each:.0%}" for each in share))

# %% [markdown]
# The more signal is left, the fewer shoes. Pure noise is taken for a lightly noised picture that happens to be evenly
# grey, so the pictures nearest to evenly grey win. A dark ground with a thin sandal hardly ever comes.

# %% tags=["check"]
# @title ✓ Only DDPM's table is safe from pure noise
def errors(picks):
    means = torch.stack([brightness[pick].mean() for pick in picks])
    return (means - brightness.mean()) / error


off, off_end = errors(from_noise), errors(from_end)
assert abs(brightness.mean() + 0.56) < 5e-3 and off_end.abs().max() < 3
assert abs(off[0]) < 2 < min(off[1:3]) < max(off[1:3]) < 5 < min(off[3:])
assert share == sorted(share, reverse=True) and share[0] > 0.25 and share[7] < 0.02
print(f"✓ standard errors too bright: {abs(off[0]):.0f}, {off[1]:.0f}, {off[2]:.0f},",
      f"then {off[3]:.0f} to {off[7]:.0f}; from the true end under 3")

# %% tags=["check"]
# @title ✓ The package's denoiser and a sampler in small steps agree
end, memory = ends["Annotated, notebook, 200"], Empirical(bank)
average = probabilities(white[:20], end) @ bank.flatten(1)
denoised = memory.denoise(white[:20], 1.0, end).flatten(1)
assert torch.allclose(average, denoised, atol=1e-3)
steps = torch.linspace(1, 0, 21, dtype=torch.float64)
back = ddpm(lambda x, t: memory.denoise(x, t, end), white[:80], steps, end, generator)
small, single = final(back).mean(), brightness[from_noise[6]].mean()
assert abs(small - single) < 3 * brightness.std() / 80**0.5
print(f"✓ brightness by 20 steps of ddpm {small:.2f}, by one draw {single:.2f}")

# %% [markdown]
# **The remedy.** With fewer steps take larger betas, so that their sum stays. Or take a schedule with $\alpha_1 = 0$:
# `Cosine()` and `Flow()` are such; [@lin2023] rescale old tables to that end.
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
picks = draw_back(white, FromBetas(linear_betas(200) * 5), generator)
print(f"200 steps, five times the betas: {shoe[picks].mean():.0%} shoes")

# %% tags=["check"]
# @title ✓ The mended table
assert errors([picks]).abs() < 3 and abs(shoe[picks].mean() - shoe.mean()) < 0.07
print(f"✓ its brightness is {errors([picks]).abs().item():.1f} standard errors off")

# %% [markdown]
# ## 7. Find the bug
#
# All of these were printed or shipped. What is wrong, and what would you see?
#
# **a.** One step, in a tutorial. There are two slips.
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
#
# **d.** A cosine schedule, in a medical library. All $T + 1$ values of $\bar\alpha$ are kept.
#
# ```python
# alphas_cumprod = torch.cos((x / T + s) / (1 + s) * torch.pi * 0.5) ** 2  # x = 0..T
# alphas_cumprod /= alphas_cumprod[0].item()
# ```
#
# <details><summary>Answer</summary>
#
# The first is 1: no noise yet, no step. Taken for step 1 it leads to a division by $1 - \bar\alpha = 0$ and to
# pictures full of `nan`. (MONAI, [issue 489](https://github.com/Project-MONAI/GenerativeModels/issues/489).)
#
# </details>
#
# **e.** Betas called quadratic, meant to be linear in $\sqrt\beta$.
#
# ```python
# betas = torch.linspace(beta_start**2, beta_end**2, T) ** 2
# ```
#
# <details><summary>Answer</summary>
#
# Squares for roots. The betas are so small that after all the steps nearly the whole signal is left.
# (DALLE2-pytorch, [pull request 141](https://github.com/lucidrains/DALLE2-pytorch/pull/141).)
#
# </details>

# %% tags=["check"]
# @title ✓ One line catches each
mean, variance = 0.0, 1.0  # of the data; a sound step keeps both
for beta in betas:
    mean = (1 - beta).sqrt() * mean + beta * 0.5
    variance = (1 - beta) * variance + beta**2 / 12
assert mean > 0.9 and variance < 0.01  # a
assert (alpha**2 + (1 - alpha**2) ** 2).min() < 0.76  # b: should be 1
assert (alpha**2 + (1 - alpha**2).sqrt()).max() > 1.24  # c: should be 1
assert (f / f[0])[0] == 1  # d: an infinite log SNR
assert (1 - torch.linspace(1e-4**2, 0.02**2, 1000) ** 2).prod() > 0.999  # e
print(f"✓ a ends at mean {mean:.1f}, variance {variance:.3f}; b and c do not sum to",
      "one; d begins without noise, e ends without any")

# %% [markdown]
# ## What to keep
#
# - One step shrinks by $\sqrt{1-\beta}$ and adds noise of *variance* $\beta$ (2.1). Together they keep the variance at one.
# - Gaussians merge exactly (2.2), so any number of steps is one jump, $x_t = \alpha_t x_0 + \sigma_t \epsilon$ (2.4).
#   Our $\alpha$ is the papers' $\sqrt{\bar\alpha}$.
# - Between any two times $s < t$ the same holds, with $\alpha_{ts}$ and $\sigma_{ts}$ (2.5). Chapter 03 turns it around.
# - What a picture has left is its log SNR (2.6). A schedule only says when.
# - Look at $\alpha_1$ (2.13) before you start from pure noise. If it is not near 0, change the schedule.
#
# ## Exercises
#
# **1. Pen.** Let $D$ be the number of pixels, and $|x|^2$ the sum of their squares. What is $E|x_t|^2$ for a
# variance-preserving schedule, given $E|x_0|^2$? Show that it stays the same at all times if and only if
# $E|x_0|^2 = D$. Clothes have $E|x_0|^2 = 0.76\,D$; what should be measured at $t = 0.3$ on `Cosine`?
#
# <details><summary>Answer</summary>
#
# Square (2.4): $|x_t|^2 = \alpha_t^2|x_0|^2 + 2\alpha_t\sigma_t\, x_0\cdot\epsilon + \sigma_t^2|\epsilon|^2$. Noise
# is independent of the data and has mean 0, so the middle term averages to 0; each of the $D$ squares in the last
# averages to 1. Hence $E|x_t|^2 = \alpha_t^2 E|x_0|^2 + \sigma_t^2 D$. With $\alpha_t^2 = 1 - \sigma_t^2$ this is
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


recipes = linear_betas, scaled_linear_betas, cosine_betas
cases = [(table(n), level) for table in recipes
         for n, level in ((1000, 4.0), (300, -0.5), (1000, -5.0))]
check(first_step_at, by_walking, cases,
      hint="SNR is alpha^2 over 1 - alpha^2; which index has step 1 in the table?")

# %% [markdown]
# **3. Open.** Design a table of 200 betas that ends with a terminal SNR (2.13) below $10^{-4}$ and leaves log SNR above
# 6 after step 1. (a) Make the largest fall of log SNR in one step as small as you can; below 0.08 you are nearly
# there. As in (2.10), decide on the curve, then compute the betas. (b) Is that a *good* table? Look at a boot along
# the way. Say in one number what you want, add it to `judge`, and design for it. Does another table win now?

# %%
def judge(betas):
    log_snr = FromBetas(betas).log_snr(torch.arange(1, 201).double() / 200)
    return {"terminal SNR": log_snr[-1].exp(), "after step 1": log_snr[0],
            "largest fall": -log_snr.diff().min()}


print({name: f"{value:.2g}" for name, value in judge(linear_betas(200) * 5).items()})

# %% [markdown]
# **Deeper:** [02, deeper](deeper/02_forward_diffusion.ipynb) has the proofs in full, other noise, more tables, the
# limit of many steps, high resolutions, and more bugs.
#
# **Next:** [03 · Reverse diffusion](03_reverse_diffusion.ipynb), the way back.
#
# ## References
#
# {references}
