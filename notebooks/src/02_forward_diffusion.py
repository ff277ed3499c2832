# %% [markdown]
# # 02 · Forward diffusion
#
# **How do you turn pictures into noise so gently that one can walk back?** By a thousand small steps, each of which
# adds a little noise. The blue arrow below is such a step, drawn large: one of five. The dashed arrow, back to a picture
# *of the same kind*, is what a network learns. ($q(x_t \mid x_s)$ is the density of the later $x_t$, given $x_s$.)

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

# %% tags=["folded"]
# @title Let chapter 00's network draw clothes from two starts
from minidiff import Cosine, ddpm, final, times
from minidiff.app.checkpoint import load_denoiser
from minidiff.data import shipped

network, _ = load_denoiser(shipped("fashion.safetensors"))  # trained on Cosine
alpha_1, sigma_1 = FromBetas(linear_betas(200))(1.0)  # a tutorial's end
late = float((sigma_1 / alpha_1).atan() * 2 / torch.pi)  # when Cosine is as noisy
drawn, seed = {}, torch.Generator().manual_seed(2)
noise = torch.randn(20, 1, 32, 32, generator=seed)
for name, start in {"good start": 1.0, "wrong start": late}.items():
    seeded = torch.Generator().manual_seed(2)
    back = ddpm(network, noise, times(40, start), Cosine(), seeded)  # chapter 03
    drawn[name] = final(back)

# %% [markdown]
# The walk must end in noise, because samples start from noise. What if it ends too early? One network made all the
# clothes below from the same noise (how: chapter 03). The upper rows start at $t = 1$, where it expects pure noise. The
# lower rows start at $t = 0.76$. There the network expects a third of a picture in its input, but there is none. Look for
# shoes and trousers.

# %%
rows = {more + name: x for name in drawn  # a blank: no name may come twice
        for more, x in zip(("", " "), drawn[name].split(10), strict=True)}
diagrams.pictures(rows, "Two rows of ten samples for each of two starts.")

# %% [markdown]
# The upper rows have about ten. The lower rows have two shoes, no trousers, and many more fragments. In a hundred samples
# each, a classifier finds 59 shoes, trousers and dresses from the good start, 4 from the wrong one (*deeper*).
#
# **Why are whole classes nearly lost?** Section 6 answers, and you mend it. Before that you write one noising step, the
# formula that replaces a thousand, and the step between two times. You need variances, Bayes' rule, a little PyTorch,
# and 75 minutes without exercises.

# %% tags=["check"]
# @title ✓ Shoes and trousers in the opening rows, by a classifier
from minidiff.app.metrics import load_classifier

wanted = torch.tensor([clothes.classes.index(name) for name in
                       ("Trouser", "Sandal", "Sneaker", "Ankle boot")])
seen = [torch.isin(load_classifier("fashion")(x).argmax(1), wanted).sum()
        for x in drawn.values()]
assert 9 <= seen[0] <= 13 and 1 <= seen[1] <= 3
assert abs(alpha_1 - 0.364) < 6e-4 and abs(late - 0.76) < 0.005
print(f"✓ of 20 samples from each start {seen[0]} and {seen[1]}, as the eye finds")

# %% [markdown]
# | letter | meaning |
# |---|---|
# | $x_t$ | the state at time $t$, from $x_0$, clean, to $x_1$, noise; $s < t$ |
# | $k = 1, \dots, T$ | the number of a step, from $s = (k-1)/T$ to $t = k/T$; here $T = 1000$ |
# | $\beta_k,\ z_k$ | variance of the noise that step $k$ adds; its source, standard normal |
# | $\alpha_t,\ \sigma_t$ | how much signal and how much noise is in $x_t$ |
# | $\epsilon$ | all the noise in $x_t$, merged into one, standard normal |
# | $q,\ p$ | densities: of the way to noise, which we choose; of the way back, which is learned |
#
# $\beta_k$ and $z_k$ are numbered by *steps*, $x_t$, $\alpha_t$ and $\sigma_t$ by *times*: $x_1$ is the end of the walk.

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
# In the first line $\mathcal N(x; m, C)$ is the normal density at $x$ with mean $m$ and covariance $C$. Here $C = \beta_k
# I$: every pixel gets its own noise, of *variance* $\beta_k$. The second line is the same as a recipe
# (*reparameterisation*).

# %% [markdown]
# A step looks only at the state before it: a *Markov chain*. The idea is from [@sohldickstein2015], the numbers are from
# DDPM, *denoising diffusion probabilistic models* ([@ho2020]).
#
# **Your turn.** Write the second line of (2.1).

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
# For the eye soon after step 400. But at step 500 the pixels still correlate with the clean ones by 0.21. Pure noise
# would correlate by about $1/\sqrt{1024} = 0.03$, by chance.
#
# </details>
#
# The film adds the histogram of the pixels. (Its density has a root scale.)

# %%
alt = "A boot and the histogram of its pixels, step by step."
widgets.film([diagrams.dissolve(states[k, 0], f"step {k}", alt)
              for k in range(0, 1001, 50)], ms=250)

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
# ## 2. Why the picture is shrunk
#
# Leave the shrinking out, and keep the noise: $x_t = x_s + \sqrt{\beta_k}\, z_k$. In the figure black is -3, white 3.
#
# *Predict: how will the end look different?*

# %%
z = torch.randn(1000, *boot.shape, generator=torch.Generator().manual_seed(0))
noise = (betas.sqrt().float().reshape(1000, 1, 1, 1, 1) * z).cumsum(0)
unshrunk = torch.cat([boot[None], boot + noise])  # (1001, 1, 1, 32, 32)
shown = [0, 250, 500, 750, 1000]
both = {"shrunk": states[shown, 0] / 3, "not shrunk": unshrunk[shown, 0] / 3}
alt = "Two rows of five pictures, from step 0 to step 1000."
diagrams.pictures(both, alt, above=[f"step {k}" for k in shown])

# %% [markdown]
# <details><summary>Answer</summary>
#
# It is harsher: 36 % of the values lie beyond -3 and 3. And the boot is still in it. The eye sees at most a bright patch,
# but the pixels correlate with the boot by 0.25. (Shrunk: 0.00.)
#
# </details>
#
# Variances of independent things add. Without shrinking each step adds $\beta_k$. With shrinking a variance $V$ becomes
# $(1-\beta_k)\,V + \beta_k$. Then its distance from one, $V - 1$, is multiplied by $1-\beta_k$ and dies out.
#
# Both rules are dashed in the figure. The measured curves scatter around them by 13 % at most, as 1,024 random numbers
# do.

# %%
by_rule = torch.full((2, 1001), float(boot.var()), dtype=torch.float64)
for k, beta in enumerate(betas, start=1):
    by_rule[0, k] = (1 - beta) * by_rule[0, k - 1] + beta  # shrunk
    by_rule[1, k] = by_rule[1, k - 1] + beta  # not shrunk
kept, grown = states.flatten(1).var(1), unshrunk.flatten(1).var(1)  # (1001,), measured
lines = {"shrunk": (kept, (850, 1.16)), "not shrunk": (grown, (420, 4.2))}
diagrams.labelled(torch.arange(1001), lines,
                  "Two jagged curves of the variance, each along a dashed one.",
                  "step", "variance of the pixels", by_rule, level=1.0,
                  log_ticks=(0.6, 1, 2, 5, 10))

# %% tags=["check"]
# @title ✓ The two rules for the variance, at every step
off = max((kept / by_rule[0] - 1).abs().max(), (grown / by_rule[1] - 1).abs().max())
assert 0.12 < off < 0.135  # three standard deviations
beyond = (unshrunk[-1].abs() > 3).double().mean()  # black and white in the figure
ghost = torch.corrcoef(torch.stack([clean, unshrunk[-1].flatten()]))[0, 1]
bells = torch.distributions.Normal(clean.double(), betas.sum().sqrt())
outside = (bells.cdf(torch.tensor(-3.0)) + 1 - bells.cdf(torch.tensor(3.0))).mean()
by_sum = (1 + betas.sum() / clean.double().var()) ** -0.5
assert abs(beyond - outside) < 0.03 and abs(ghost - by_sum) < 0.04
assert abs(outside - 0.36) < 0.005 and abs(by_sum - 0.24) < 0.005
print(f"✓ the curves keep within {off:.0%} of the two rules; beyond -3 and 3 are",
      f"{beyond:.0%} of the values, by formula {outside:.0%}; correlation with the",
      f"boot {ghost:.2f}, by formula {by_sum:.2f}")

# %% [markdown]
# What destroys is noise *relative to what is left of the picture*. Without shrinking the noise grows to the standard
# deviation $\sqrt{\sum_k \beta_k}$, and the picture stays. With shrinking the noise ends at 1, the picture near 0:

# %%
alpha_1 = (1 - betas).sqrt().prod()  # what shrinking leaves of the picture
print(f"noise over picture: {betas.sum().sqrt():.1f} not shrunk,",
      f"{1 / alpha_1:.0f} shrunk")

# %% [markdown]
# ## 3. A thousand steps are one jump
#
# A thousand random draws for one noisy picture are too slow for training. Chapter 01 mixed $\alpha_t x_0 + \sigma_t
# \epsilon$ at once. Why is that allowed? Because independent normal numbers have a sum that is *exactly* normal. For
# standard normal $z_1$, $z_2$ and any numbers $a$, $b$
#
# $$ a\, z_1 + b\, z_2 \ \sim\ \mathcal N(0,\ a^2 + b^2). \tag{2.2} $$

# %%
diagrams.round_cloud(0.8, 0.5)

# %% [markdown]
# The density of the pair, $\frac{1}{2\pi} e^{-(z_1^2 + z_2^2)/2}$, depends on the distance from the centre only: the
# cloud is round. Its shadow (*projection*) on the horizontal axis is $z_1$ itself, a bell of standard deviation 1. So on
# every other line through the centre it is the same bell.
#
# Now $a z_1 + b z_2$ is the shadow on the line of the arrow $(a, b)$, times the arrow's length $\sqrt{a^2 + b^2}$. The
# blue arrow $(0.8, 0.5)$ is 0.94 long. That is the standard deviation, not $0.8 + 0.5 = 1.3$.

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
# Each further step keeps this so. If $x_s$ has the factor $\alpha_s$ and noise of variance $1 - \alpha_s^2$, the next
# noise has the variance $(1-\beta_k)(1-\alpha_s^2) + \beta_k = 1 - (1-\beta_k)\,\alpha_s^2$. So at every $t = k/T$, with a single
# standard normal $\epsilon$, independent of $x_0$,
#
# $$ \begin{gathered}
# x_t = \alpha_t\, x_0 + \sigma_t\, \epsilon, \qquad
# q(x_t \mid x_0) = \mathcal N\!\left(x_t;\ \alpha_t\, x_0,\ \sigma_t^2 I\right), \\
# \alpha_t = \sqrt{(1-\beta_1)(1-\beta_2) \cdots (1-\beta_k)}, \qquad \sigma_t^2 = 1 - \alpha_t^2 .
# \end{gathered} \tag{2.3} $$

# %% [markdown]
# > **How the papers write it.** In DDPM $t$ is the number of the step. With $\alpha_t = 1 - \beta_t$ and
# > $\bar\alpha_t = \alpha_1 \alpha_2 \cdots \alpha_t$ (2.3) reads
# > $q(x_t \mid x_0) = \mathcal N(x_t;\ \sqrt{\bar\alpha_t}\, x_0,\ (1 - \bar\alpha_t) I)$. **Our $\alpha$ is always
# > $\sqrt{\bar\alpha}$**, the factor of the signal. diffusers calls $\bar\alpha$ `alphas_cumprod`.
#
# Data of variance one keep it, since $\alpha_t^2 + \sigma_t^2 = 1$. So the walk is called *variance preserving*; without
# shrinking it is *variance exploding* ([@song2021]; *deeper*).
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
# Let 10,000 "pictures" of one pixel start at 2 and take every step. Your `jump` draws the curves: with $\epsilon = 0$ it
# gives the mean, with $x_0 = 0$ and $\epsilon = 1$ the standard deviation.

# %%
alpha = (1 - betas).sqrt().cumprod(0)  # (1000,): alpha[k - 1] is that after step k
sigma = (1 - alpha**2).sqrt()
cloud = walk(torch.full((10_000,), 2.0), betas)  # (1001, 10000)
nil, one, two = torch.tensor([0.0, 1.0, 2.0])
panels = {}
for k in (50, 250, 1000):
    mean, std = jump(two, nil, betas, k), jump(nil, one, betas, k)
    panels[f"step {k}"] = cloud[k], mean, std
diagrams.under_bells(panels, "Three histograms under curves.")

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
print("✓ variances step by step are those of (2.3), to 1e-12; walks end like jumps")

# %% [markdown]
# **Whose** $\epsilon$**?** It is all the noise so far, so it changes with every step (*deeper*). Pictures made with *one*
# $\epsilon$ at several times are not the states of one walk.
#
# ### Then why small steps?
#
# For the way *back*. By Bayes' rule the state before has the density $q(x_s \mid x_t)$. It can have any shape. A network
# must put out the numbers that describe it, so it should be simple: for a bell, one mean for each pixel.
#
# Let the data be numbers near -1.2 or near 0.8: a `Mixture` of two bells, by weights, means and standard deviations. We
# stand between the two, at $x_t = 0$ and $t = 0.25$. Where were we 200 steps, 50 steps, one step ago? Dashed is the
# Gaussian of the same mean and variance.
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
# **The reverse of a small step is nearly Gaussian**, and about as wide as the step. So only its mean must be learned
# ([@ho2020]). Chapter 03 shows why.
#
# So DDPM trains with jumps, and samples with a thousand small steps back. (The opening took 40: in time, each is at
# most half as long as the middle panel's.)

# %% tags=["check"]
# @title ✓ Each panel against numbers that walked; only the first has two humps
line, seeded = torch.linspace(-6, 6, 2401).double(), torch.Generator().manual_seed(0)
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
print("✓ walkers that came to 0 came from where each panel says, to 3 %")

# %% [markdown]
# ## 4. From betas to a schedule
#
# The jump needs only $\alpha_t$ and $\sigma_t$. So a
# [noise schedule](../docs/glossary.md#noise-schedule) is any function $t \mapsto (\alpha_t, \sigma_t)$ on which noise
# over signal, $\sigma_t / \alpha_t$, rises. On it
#
# $$ \boxed{\; x_t = \alpha_t\, x_0 + \sigma_t\, \epsilon \;} \tag{2.4} $$
#
# `FromBetas` makes one from a table; `add_noise` is (2.4). With them, examples for a network cost next to nothing:

# %%
def training_pairs(x0, schedule, generator):
    """Return what the network sees, x_t and t, and what it must find, eps."""
    t = torch.rand(len(x0), generator=generator)
    eps = torch.randn(x0.shape, generator=generator)
    return add_noise(x0, eps, t, schedule), t, eps


five = boot.expand(5, -1, -1, -1)
in_order = torch.Generator().manual_seed(88773)  # a seed whose times are in order
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
print("✓ FromBetas has the alpha and sigma of (2.3) at all 1,000 times, to nine digits")

# %% [markdown]
# ### From any time to any later time
#
# Sampling takes steps back between any two times. Bayes' rule (chapter 03) makes them from the steps *forward*. Such a
# step should again shrink and add fresh noise, $x_t = \alpha_{ts}\, x_s + \sigma_{ts}\, z$, and arrive at (2.4). Insert
# $x_s = \alpha_s x_0 + \sigma_s \epsilon$:
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
# ($\sigma_{ts}^2$ is never negative, since $\sigma/\alpha$ rises. The papers write $\alpha_{t|s}$.) On the two steps of
# section 3, $\alpha_s = 0.9$ and $\alpha_t = 0.72$: $\alpha_{ts} = 0.8$, and
# $\sigma_{ts}^2 = 0.4816 - 0.64 \cdot 0.19 = 0.36$, which is $\beta_2$.
#
# **Your turn.** (The package calls it `transition`.)

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
from minidiff import Flow, transition

cases = [(0.2, 0.5, each) for each in (schedule, Cosine(), Flow())]
between = yours(between, transition, cases,
               hint="first the factor; then the variance that is missing, and its root")

# %% tags=["check"]
# @title ✓ One step of (2.5) is (2.1), and the worked numbers
alpha_ts, sigma_ts = between(grid - 0.001, grid, schedule)
assert torch.allclose(alpha_ts, (1 - betas).sqrt(), rtol=1e-9)
assert torch.allclose(sigma_ts, betas.sqrt(), rtol=1e-6)
factor, noise = between(0.5, 1.0, FromBetas([0.19, 0.36]))
assert abs(factor - 0.8) < 1e-9 and abs(noise**2 - 0.36) < 1e-9
print("✓ for one step (2.5) gives back the betas of (2.1), at all 1,000 steps")

# %% [markdown]
# Let single numbers walk, with your `between`. `Gaussian` takes mean and *standard deviation*. The ribbon is the exact
# density of the two humps; three walks start in each.
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
paths = forward_paths(starts, ts, schedule, generator)  # (101, 6)
alt = "A ribbon of density over time, and six jagged paths on it."
diagrams.ribbon(humps, schedule, ts, paths, alt, arrow="forward: noise comes in")

# %% [markdown]
# <details><summary>Answer</summary>
#
# Next to nothing: one bell is left, nearly the same for all data. How nearly is the question of section 6.
#
# </details>

# %% [markdown]
# ## 5. Noise schedules
#
# How much of the picture is left in $x_t$? The *signal-to-noise ratio* (SNR) says it, as a logarithm
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
# $\sigma_t = \sin\frac{\pi t}{2}$.
#
# **Flow** ([@liu2023], [@lipman2023], [@albergo2023]), $\alpha_t = 1 - t$, $\sigma_t = t$, not variance preserving.

# %% [markdown]
# A band from -4 to 4 is grey. Above it the picture is clear and noise is a grain. Below it no trace of the picture is
# visible; the eye loses it well before.
#
# *Predict: up to which of DDPM's 1,000 linear steps is the signal stronger than the noise?*

# %%
schedules = {"linear": schedule, "cosine": Cosine(), "flow": Flow()}
alt = ("Left, alpha falls (solid) and sigma rises (dashed). Right, log SNR falls; "
       "between -4 and 4 the ground is grey.")
diagrams.schedule_curves(schedules, alt)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Up to step 259, a quarter of the way. With the other two it is half.
#
# </details>
#
# Of linear's steps 37 % are below the band, of cosine's 9 %. There hardly a picture is left to find, so [@nichol2021]
# made cosine. But the *end* must be noise (section 6). Cosine is pure noise there, $\alpha_1 = 0$.

# %% tags=["check"]
# @title ✓ The three schedules against formulas and other code
by_formula = 1e-4 + 0.0199 / 999 * torch.arange(1000).double()
assert torch.allclose(betas, by_formula)  # (2.7)
assert abs(alpha[499] ** 2 - 0.0786) < 6e-5  # computed with diffusers 0.42
more = {name: int((schedules[name].log_snr(grid) > 1e-9).sum()) for name in schedules}
assert more == {"linear": 259, "cosine": 499, "flow": 499}
below = [(each.log_snr(grid) < -4).double().mean() for each in schedules.values()]
assert (torch.stack(below[:2]) - torch.tensor([0.371, 0.086])).abs().max() < 0.002
assert Cosine()(1.0)[0] < 1e-6
assert torch.allclose(schedule.log_snr(grid), (alpha**2 / sigma**2).log())  # (2.6)
print("✓ linear, cosine, flow: steps with more signal than noise",
      ", ".join(map(str, more.values())) + "; log SNR below -4 in",
      ", ".join(f"{share:.0%}" for share in below))

# %% [markdown]
# On linear log SNR is 0.1 at $t = 0.25$. (2.6) says when cosine and flow have the same level. We noise one boot with one
# $\epsilon$ at these three times.
#
# *Predict: how will the three pictures differ?*

# %%
level = schedule.log_snr(0.25)
ratio = (-level / 2).exp()  # sigma over alpha
at = {"linear": 0.25, "cosine": ratio.atan() * 2 / torch.pi,
      "flow": ratio / (1 + ratio)}
twins = [add_noise(boot, eps[:1], t, schedules[name]) for name, t in at.items()]
strength = torch.stack(Flow()(at["flow"])).norm()  # sqrt(alpha^2 + sigma^2)
words = [f"{name}, {t:.2f}" for name, t in at.items()] + ["flow, scaled"]
diagrams.pictures({"": torch.cat([*twins, twins[2] / strength.float()])},
                  "Four pictures of one boot in noise; three are alike, one is greyer.",
                  above=words)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Linear's and cosine's do not differ: log SNR fixes $\alpha/\sigma$, and $\alpha^2 + \sigma^2 = 1$ the rest. Flow's is
# the same up to a factor: it is greyer.
#
# </details>
#
# Most of this course uses cosine, today's large models flow ([@esser2024]).

# %% tags=["check"]
# @title ✓ Equal log SNR, equal pictures
assert torch.allclose(twins[0], twins[1], atol=1e-3)
assert torch.allclose(twins[0], twins[2] / strength.float(), atol=1e-3)
fine = torch.linspace(0.001, 0.999, 99_801, dtype=torch.float64)
found = {name: fine[(schedules[name].log_snr(fine) - level).abs().argmin()]
         for name in ("cosine", "flow")}  # by trying 99,801 times
assert all(abs(at[name] - t) < 1e-5 for name, t in found.items())
assert twins[2].std() < 0.8 * twins[0].std()  # greyer
assert not torch.allclose(twins[0], add_noise(boot, eps[:1], 0.25, Cosine()), atol=0.1)
print("✓ linear, cosine and scaled flow are one picture, to 1e-3; a search finds",
      f"{found['cosine']:.3f} and {found['flow']:.3f}, the times of (2.6)")

# %% [markdown]
# ## 6. Is the end really noise?
#
# Samples start from $\mathcal N(0, I)$. That is sound only if the forward walk *ends* there. How near it comes, the
# *terminal SNR* tells:
#
# $$ \mathrm{SNR}(1) = \alpha_1^2 / \sigma_1^2 \tag{2.8} $$
#
# *The Annotated Diffusion Model*, by Niels Rogge and Kashif Rasul, is a tutorial with our clothes. Its
# [notebook](https://github.com/huggingface/notebooks/blob/2d7b0a0fc35c24d1227a95de276c55342c45bc00/examples/annotated_diffusion.ipynb),
# has DDPM's first and last beta, but only 200 steps. DDPM's thousand leave $\alpha_1 = 0.006$ of the picture, these
# 0.36, as much as `Cosine` has at $t = 0.76$. For the eye a single end is noise. The mean of 100 ends from the boot
# shows what is left:

# %%
short = FromBetas(linear_betas(200))
pure = torch.randn(100, 1, 32, 32, generator=torch.Generator().manual_seed(0))
ends = add_noise(boot.expand_as(pure), pure, 1.0, short)
diagrams.pictures({"": torch.stack([ends[0], pure[0], ends.mean(0), pure.mean(0)])},
                  "Two noisy pictures, a dark ghost of the boot, and grey.",
                  above=["an end", "pure noise", "100 ends", "100 noises"])

# %% [markdown]
# ### Why classes are lost
#
# Let the data be 4,000 pictures $d_i$, equally likely. A *perfect* walk back from $x_1$
# ends in a draw from $q(x_0 \mid x_1)$, by Bayes' rule
#
# $$ q(x_0 = d_i \mid x_1) \ \propto\ q(x_1 \mid x_0 = d_i)
# \ \propto\ \exp\!\left(-\frac{|x_1 - \alpha_1 d_i|^2}{2\,\sigma_1^2}\right) . $$
#
# Multiply out. $|x_1|^2$ is the same for all $d$ and drops out. The part of the exponent that depends on $d$ is
#
# $$ \underbrace{\frac{\alpha_1}{\sigma_1^2}\; x_1 \cdot d}_{\text{gain}} \ - \
# \underbrace{\frac{\alpha_1^2}{2\,\sigma_1^2}\; |d|^2}_{\text{loss}} . $$
#
# If $x_1$ is the end of a walk from $d$, it contains $\alpha_1 d$: on average the gain is exactly twice the loss. Pure
# noise contains no $d$: the gain is 0 on average, the loss stays.
#
# *Predict: in* $|d|^2$ *a black or white pixel counts one, a grey one nothing. Which of the ten classes are lost?*

# %% [markdown]
# <details><summary>Answer</summary>
#
# Those with most black: boots, dresses, trousers, sneakers, sandals.
#
# </details>
#
# **An example.** Pullovers are greyish: their $|d|^2$ is 692 on average. Around a sandal nearly all is black: 871.
#
# | after | loss, pullover | loss, sandal | gains |
# |---|---|---|---|
# | 200 steps | 52.7 | 66.4 | $0 \pm 11$, $0 \pm 12$ |
# | 1,000 steps | 0.014 | 0.018 | $0 \pm 0.2$ |
#
# After 200 steps, at equal gains, the sandal is $e^{66.4 - 52.7}$ times less likely: nearly a million. By chance one
# sandal still beats one pullover in 17 % of the noises. But it must beat all 4,000 pictures. After 1,000 steps it is as
# likely.

# %%
bank, labels = clothes.tensor(slice(0, 4000)), clothes.y[:4000]
kinds = torch.nn.functional.one_hot(labels.long()).float()  # (4000, 10): its class
square = bank.square().sum((1, 2, 3))  # |d|^2 of each picture
white = torch.randn(1000, 1, 32, 32, generator=torch.Generator().manual_seed(0))


def walks_back(x_1, table):
    """Return how often perfect walks from noises x_1 end in each picture: (4000,)."""
    alpha_1, sigma_1 = map(float, FromBetas(table)(1.0))
    distance = torch.cdist(x_1.flatten(1), alpha_1 * bank.flatten(1))  # (B, 4000)
    return (-(distance**2) / (2 * sigma_1**2)).softmax(1).mean(0)  # q(x_0 = d_i | x_1)


# %% tags=["check"]
# @title ✓ The worked numbers of pullover and sandal, and of true ends
two = [labels == clothes.classes.index(name) for name in ("Pullover", "Sandal")]
for T, text in ((1000, (0.014, 0.0176, 0.17, 0.18)), (200, (52.7, 66.4, 11, 12))):
    a, std = map(float, FromBetas(linear_betas(T))(1.0))
    gain = a / std**2 * white.flatten(1) @ bank.flatten(1).T
    loss = a**2 / (2 * std**2) * square
    found = [loss[k].mean() for k in two] + [gain[:, k].std() for k in two]
    assert (torch.stack(found) / torch.tensor(text) - 1).abs().max() < 0.04
own = (add_noise(bank[:1000], white, 1.0, short) * bank[:1000]).sum((1, 2, 3))
twice, score = (own / square[:1000]).mean() * 2 / a, gain - loss  # after 200 steps
wins = (score[::5, two[1]][..., None] > score[::5, two[0]][:, None]).float().mean()
assert abs(gain.mean()) < 1 and abs(twice - 2) < 0.03 and abs(wins - 0.17) < 0.01
print(f"✓ from true ends gain over loss is {twice:.2f}; one sandal wins in {wins:.0%}")


# %% [markdown]
# ### The remedy
#
# With fewer steps take larger betas, so that their sum stays. As $\log(1-\beta) \approx -\beta$, the sum
# decides nearly alone what is left. The price: longer steps, whose reverse is less Gaussian (section 3).
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

# %% [markdown]
# Which clothes do perfect walks make of a thousand pictures of pure noise? Left by the tutorial's table, right by yours.
# Move the slider: from how many steps on does the left panel agree with the data?

# %% tags=["folded"]
# @title Sort the classes by the mean of |d|^2
import ipywidgets

size = square @ kinds / kinds.sum(0)  # mean |d|^2 of a class
order = size.argsort()
names = [f"{clothes.classes[k]}, {size[k]:.0f}" for k in order]

# %%
def which_clothes(T):
    tables = {f"linear_betas({T})": linear_betas(T), f"mended({T})": mended(T)}
    data = 100 * kinds.mean(0)
    walks = {name: 100 * walks_back(white, x) @ kinds for name, x in tables.items()}
    panels = {name: {"data, 9 to 11 %": data[order], "perfect walks back": each[order]}
              for name, each in walks.items()}
    alt = "Bars of ten classes: from 200 steps five nearly vanish; mended, none does."
    return diagrams.paired_bars(names, panels, "% of the clothes", alt,
                                "class, mean $|d|^2$")


steps = ipywidgets.IntSlider(200, min=100, max=1000, step=100, description="steps",
                             continuous_update=False)
_ = widgets.explore(which_clothes, T=steps)

# %% [markdown]
# <details><summary>Answer</summary>
#
# From 700 on, to 0.4 points in each class. The five lost classes have 51 % of the data, but 3 % of the walks from 200
# steps, 34 % from 400, 48 % from 600.
#
# </details>
#
# **What decides?** For each noise the picture with the largest gain minus loss takes most, 62 % on average. So single
# pictures decide. The six most frequent after 200 steps:

# %%
takes = walks_back(white, linear_betas(200))  # (4000,)
shares, most = takes.topk(6)
diagrams.pictures({"": bank[most]}, "Six clothes, the most frequent ends of walks.",
                  above=[f"{share:.0%}" for share in shares])

# %% [markdown]
# The first, a pullover, has the smallest $|d|^2$ of all 4,000, 408.
#
# Even a perfect walk loses these classes: the start is wrong. With your table they are back, as from the network's good
# start, `Cosine`'s own end. And the fragments? In training the network's input at $t = 0.76$ always contained a picture;
# pure noise contains none. *Deeper* asks whether $|d|^2$ is the only cause, and why bags are frequent.

# %% tags=["check"]
# @title ✓ What decides; and from true ends, and by your table, all classes come back
p, data, i = score.softmax(1), kinds.mean(0), square.argmin()
assert (data - 0.1).abs().max() < 0.012 and (p.mean(0) - takes).abs().max() < 1e-3
assert most[0] == i and two[0][i] and 407 < square[i] < 409 and 0.2 < shares[0] < 0.22
black = (bank < -0.9).float().mean((1, 2, 3)) @ kinds / kinds.sum(0)
assert {*black.topk(5)[1].tolist()} == {*order[5:].tolist()}
ends = walks_back(add_noise(bank[:1000], white, 1.0, short), linear_betas(200)) @ kinds
walks = [walks_back(white, linear_betas(T)) @ kinds for T in range(200, 1001, 100)]
kept = 100 * torch.stack([w[order[5:]].sum() for w in [data, *walks]])[[0, 1, 3, 5]]
assert kept.round().tolist() == [51, 3, 34, 48] and 0.615 < p.amax(1).mean() < 0.62
back = (torch.stack([*walks[5:], walks_back(white, mended(200)) @ kinds]) - data).abs()
assert back.max() < 0.004 and (ends - kinds[:1000].mean(0)).abs().max() < 0.02
print(f"✓ the last five keep {kept[1]:.0f} %; mended, data to {back[-1].max():.2%}")

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
# The factor must be $\sqrt\beta$. And `rand` is never negative, so the mean climbs to 1:
# you see plain white. (ACIDS-IRCAM,
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
# A root too many: the last argument of $\mathcal N$ is a variance. There is too much noise. (Hugging Face's course,
# [issue 63](https://github.com/huggingface/diffusion-models-class/issues/63).)
#
# </details>

# %% [markdown]
# What you would see, b and c at $\bar\alpha = 0.9$:

# %%
white_out, seeded = boot, torch.Generator().manual_seed(5)
for beta in betas:
    rand = torch.rand(boot.shape, generator=seeded)
    white_out = (1 - beta).sqrt() * white_out + beta * rand
b, c, right = (0.9**0.5 * boot + 0.1**power * eps[:1] for power in (1, 0.25, 0.5))
diagrams.pictures({"": torch.cat([white_out, b, c, right])},
                  "A white picture and three noisy boots.",
                  above=["a", "b", "c", "right"])

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
# - Training jumps. Sampling reverses steps (2.5): the reverse of a small one is nearly Gaussian.
# - What a picture has left is its log SNR (2.6). At equal log SNR all schedules make the same picture, up to a factor
#   ([@kingma2021]).
# - The walk must end in noise: look at its terminal SNR (2.8). A wrong start loses whole classes.

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


from minidiff import cosine_betas, scaled_linear_betas

recipes = linear_betas, scaled_linear_betas, cosine_betas
cases = [(table(n), level) for table in recipes
         for n, level in ((1000, 4.0), (300, -0.5), (1000, -5.0))]
check(first_step_at, by_walking, cases,
      hint="SNR is alpha^2 over 1 - alpha^2; which index has step 1 in the table?")

# %% [markdown]
# **3. Open.** Design 200 betas with a terminal SNR (2.8) below $10^{-4}$ and log SNR above 6 after step 1. (a) Make the
# largest fall of log SNR in one step small. (Choose $\alpha_t$; then $\beta_k = 1 - \alpha_t^2/\alpha_s^2$.) (b) Is
# such a table a *good* one? Say what you ask of it, and add that number to `judge`.

# %%
def judge(betas):
    log_snr = FromBetas(betas).log_snr(torch.arange(1, 201).double() / 200)
    return {"terminal SNR": log_snr[-1].exp(), "after step 1": log_snr[0],
            "largest fall": -log_snr.diff().min()}


print({name: f"{value:.2g}" for name, value in judge(mended(200)).items()})

# %% [markdown]
# <details><summary>Answer</summary>
#
# (a) The largest of 199 falls is at least their mean, $(6 - \log 10^{-4})/199 = 0.0764$: a straight line. (b) Hardly: it
# spends many steps on pictures that hardly change, or are gone. Cosine loses the correlation with the clean picture more
# evenly; that is one number to add.
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
assert 0.0764 < verdict["largest fall"] < 0.0766 < judge(mended(200))["largest fall"]
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
