# %% [markdown]
# # 02, deeper · Forward diffusion
#
# What the main line of [chapter 02](../02_forward_diffusion.ipynb) states and leaves: the proofs, other noise, more
# tables, the limit of many steps, the kind that explodes, steps as Langevin dynamics, high resolutions, more ends and
# more bugs. After the first three code cells each section runs alone. The letters are those of the main line: times
# $s < t$, $x_t = \alpha_t x_0 + \sigma_t \epsilon$ (2.4); step $k = 1, \dots, T$ leads from $s = (k-1)/T$ to $t = k/T$,
# $x_t = \sqrt{1-\beta_k}\, x_s + \sqrt{\beta_k}\, z_k$ (2.1). $\beta$ and $z$ are numbered by steps, $x$, $\alpha$ and
# $\sigma$ by times.

# %%
import torch
import torch.nn.functional as F

from minidiff import (Cosine, Flow, FromBetas, LinearBeta, Mixture, VarianceExploding,
                      add_noise, cosine_betas, linear_betas, scaled_linear_betas,
                      sigmoid_betas, transition)
from minidiff.course import diagrams, plot
from minidiff.data import load

clothes = load("fashion")
pictures = clothes.tensor(slice(0, 8))  # (8, 1, 32, 32)
betas = linear_betas(1000)  # DDPM's
schedule = FromBetas(betas)
t = torch.arange(1, 1001).double() / 1000  # where its steps end


# %%
def seeded(seed):
    return torch.Generator().manual_seed(seed)


def walk(step, x, betas, generator):
    """Return all states of a chain of steps, x first: (T + 1, ...)."""
    states = [x]
    for beta in betas:
        states.append(step(states[-1], beta, generator))
    return torch.stack(states)


# %% [markdown]
# ## 1. Gaussians merge, and boxes do not
#
# The theorem is (2.2): for independent standard normal $z_1$, $z_2$ the sum $a z_1 + b z_2$ is normal with variance
# $a^2 + b^2$.
#
# **Proof.** The pair $z = (z_1, z_2)$ has the density $\frac{1}{2\pi} e^{-|z|^2/2}$. Let $R$ be the rotation whose
# first row is $(a, b)/\sqrt{a^2 + b^2}$, and $y = Rz$. A rotation changes neither lengths nor areas, so $y$ has the
# density $\frac{1}{2\pi} e^{-|R^{-1}y|^2/2} = \frac{1}{2\pi} e^{-|y|^2/2}$, the same. Hence $y_1$ is standard normal,
# and $a z_1 + b z_2 = \sqrt{a^2 + b^2}\; y_1$. $\blacksquare$
#
# The second route needs no plane. The density of a sum of independent things is the *convolution* of their
# densities, $p_{X+Y}(u) = \int p_X(v)\, p_Y(u - v)\, dv$: an integral that a fine grid can do. It also tells what
# becomes of other noise. Take box-shaped (uniform) noise, of variance one too.
#
# *Predict: what shape has the sum of two such noises, what shape that of three?*

# %%
grid = torch.linspace(-6, 6, 2401, dtype=torch.float64)
spacing = grid[1] - grid[0]


def density(std):
    return torch.distributions.Normal(0.0, std).log_prob(grid).exp()


def convolve(p, q):
    return F.conv1d(p[None, None], q.flip(0)[None, None], padding=1200)[0, 0] * spacing


# %%
box = (grid.abs() < 3**0.5).double() / 12**0.5
two_boxes = convolve(box, box)
sums = {"one box": box, "two boxes": two_boxes, "three boxes": convolve(two_boxes, box)}
plot.curves(grid, {**sums, "bell of variance 3": density(3**0.5)},
            "One box is a rectangle, two are a triangle, three nearly a bell.",
            xlabel="value", ylabel="density")

# %% [markdown]
# <details><summary>Answer</summary>
#
# A triangle, then nearly a bell. That is the central limit theorem: after many small steps of *any* noise of finite
# variance the end looks Gaussian. Of all noise of finite variance, only the Gaussian keeps its shape exactly. (Without
# a variance others do too: a sum of two Cauchy variables is Cauchy.)
#
# </details>

# %% tags=["check"]
# @title ✓ (2.2) by rotation and by convolution; how far boxes are from a bell
z = torch.randn(2, 1000, generator=seeded(0))
R = torch.tensor([[0.8, 0.5], [-0.5, 0.8]]) / 0.89**0.5
assert torch.allclose((R @ z).square().sum(0), z.square().sum(0), rtol=1e-4)
merged = convolve(density(0.8), density(0.5))
assert (merged - density(0.89**0.5)).abs().max() < 1e-6
misfit = [float((p - density(n**0.5)).abs().max())
          for n, p in enumerate(sums.values(), start=1)]
assert misfit[0] > 5 * misfit[1] and misfit[1] > misfit[2] > 0.01
print("✓ distance from the bell of the same variance, for one, two, three boxes:",
      ", ".join(f"{m:.3f}" for m in misfit))

# %% [markdown]
# So a walk with box noise is caught at its first step, and no longer after fifty. The test is that of Kolmogorov and
# Smirnov: the largest distance between the walkers' cumulative distribution and that of the jump (2.3). With 10,000
# walkers chance exceeds $1.63/\sqrt{10000} = 0.0163$ once in a hundred times.

# %%
def box_step(x, beta, generator):
    noise = torch.rand(x.shape, generator=generator) - 0.5  # variance 1/12
    return (1 - beta).sqrt() * x + (12 * beta).sqrt() * noise


# %%
boxed = walk(box_step, torch.full((10_000,), 2.0), betas[:50], seeded(0))  # (51, 10000)

# %% tags=["check"]
# @title ✓ Box noise, after one step and after fifty
gaps, ranks = {}, (torch.arange(10_000) + 0.5) / 10_000
for k in (1, 50):
    alpha, sigma = schedule(k / 1000)
    cdf = torch.distributions.Normal(2 * alpha, sigma).cdf(boxed[k].sort().values)
    gaps[k] = (cdf - ranks).abs().max()
assert gaps[50] < 0.0163 < gaps[1]
print(f"✓ distance from (2.3): {gaps[1]:.3f} after one step, {gaps[50]:.3f} after 50")

# %% [markdown]
# ## 2. The jump in the papers' letters
#
# [@ho2020] abbreviate $\alpha_k = 1 - \beta_k$ and $\bar\alpha_k = \alpha_1 \cdots \alpha_k$. In this section, and only
# here, subscripts are steps and $\alpha$ is theirs. **Claim**: $x_k = \sqrt{\bar\alpha_k}\, x_0 + \sqrt{1 - \bar\alpha_k}\, \epsilon_k$ with
# $\epsilon_k$ standard normal and independent of $x_0$.
#
# **Proof, by induction.** For $k = 1$ it is the step. If it holds for $k - 1$, one more step with fresh noise gives
#
# $$ x_k = \sqrt{\alpha_k}\,x_{k-1} + \sqrt{1-\alpha_k}\,z_k
# = \sqrt{\alpha_k \bar\alpha_{k-1}}\; x_0
# + \underbrace{\sqrt{\alpha_k(1-\bar\alpha_{k-1})}\;\epsilon_{k-1}
# + \sqrt{1-\alpha_k}\;z_k}_{\text{independent noises}}. $$
#
# The first factor is $\sqrt{\bar\alpha_k}$. By (2.2) the two noises are one, of variance
# $\alpha_k - \alpha_k\bar\alpha_{k-1} + 1 - \alpha_k = 1 - \bar\alpha_k$. $\blacksquare$
#
# The proof also says whose $\epsilon$ it is. Divide the bracket by $\sqrt{1 - \bar\alpha_k}$:
#
# $$ \epsilon_k = \sqrt{\frac{\alpha_k\,(1-\bar\alpha_{k-1})}{1-\bar\alpha_k}}\; \epsilon_{k-1}
# + \sqrt{\frac{1 - \alpha_k}{1 - \bar\alpha_k}}\; z_k . $$
#
# So the root on the left is the correlation of two neighbouring $\epsilon$. In a walk we can read them off, by solving
# the jump for $\epsilon$.
#
# *Predict: is the noise of step 500 still that of step 250?*

# %%
def forward_step(x, beta, generator):
    z = torch.randn(x.shape, generator=generator)
    return (1 - beta).sqrt() * x + beta.sqrt() * z


cloud = walk(forward_step, torch.full((10_000,), 2.0), betas[:500], seeded(0))


def noise_of(k):
    alpha, sigma = schedule(k / 1000)
    return (cloud[k] - 2 * alpha) / sigma


# %%
near, far = (torch.corrcoef(torch.stack([noise_of(250), noise_of(k)]))[0, 1]
             for k in (251, 500))
print(f"the noise of step 250 against that of 251: {near:.3f}, of 500: {far:.2f}")

# %% [markdown]
# <details><summary>Answer</summary>
#
# Hardly. From one step to the next it is nearly the same noise, 250 steps later nearly another one.
#
# </details>
#
# In our letters the correlation of the noises at two times $s < t$ is $\alpha_{ts}\,\sigma_s/\sigma_t$. Its square is the
# share of the old noise in the variance of the new: from step 250 to 500 only 8 %.

# %% tags=["check"]
# @title ✓ The papers' form, and the correlation of neighbours
alpha_bar = (1 - betas).cumprod(0)  # alpha_bar[k - 1] is that of step k
alpha, sigma = schedule(torch.arange(1, 1001).double() / 1000)
assert torch.allclose(alpha, alpha_bar.sqrt())
assert torch.allclose(sigma, (1 - alpha_bar).sqrt())
left = (1 - alpha_bar[249]) / (1 - alpha_bar[250])  # betas[250] is that of step 251
factor = ((1 - betas[250]) * left).sqrt()
apart = transition(0.25, 0.5, schedule)[0] * schedule(0.25)[1] / schedule(0.5)[1]
assert abs(near - factor) < 1e-3 and abs(far - apart) < 0.03
assert abs(apart**2 - 0.08) < 0.005
print(f"✓ neighbours: {near:.3f} in the walk, {factor:.3f} by the formula;",
      f"250 steps apart: {far:.2f}, {apart:.2f}")

# %% [markdown]
# ## 3. More tables
#
# **Scaled linear** ([@rombach2022]) is linear in the square root. [Stable
# Diffusion](https://github.com/CompVis/stable-diffusion/blob/36de52cb6e05c3bb1b435afcccc29279a4fdf616/configs/stable-diffusion/v1-inference.yaml#L5-L8)
# goes from $\beta_1 = 0.00085$ to $\beta_T = 0.012$:
#
# $$ \sqrt{\beta_k} = \sqrt{\beta_1} + \frac{k-1}{T-1}(\sqrt{\beta_T} - \sqrt{\beta_1}) \tag{2.9} $$
#
# With DDPM's ends the same shape is also called *quadratic*. **Sigmoid** rises softly, with $S(u) = 1/(1+e^{-u})$: the
# shape of [@xu2022], here with the ends of (2.7); their code has $10^{-7}$ and 0.002, for 5,000 steps:
#
# $$ \beta_k = \beta_1 + (\beta_T - \beta_1)\; S\!\left(-6 + 12\,\tfrac{k-1}{T-1}\right) \tag{2.10} $$
#
# **Cosine** ([@nichol2021]) decides how $\alpha^2$ should fall and takes the betas that achieve it. With $s = (k-1)/T$ and
# $t = k/T$,
#
# $$ \begin{gathered}
# \alpha_t^2 = \frac{f(t)}{f(0)}, \qquad
# f(t) = \cos^2\!\left(\frac{t + 0.008}{1 + 0.008}\cdot\frac{\pi}{2}\right), \\
# \beta_k = \min\!\left(1 - \frac{\alpha_t^2}{\alpha_s^2},\ 0.999\right)
# \end{gathered} \tag{2.11} $$
#
# (the alphas are meant before the cap). The 0.008 keeps the first steps from being uselessly small: $\sqrt{\beta_1}$ is
# to be a little less than one of the 256 grey levels, $1/127.5$ on our scale. The 0.999 keeps the last from being one,
# after which nothing can be divided by $\alpha_1$. Without both it is the package's `Cosine()`.
#
# *Predict: of linear, scaled linear, sigmoid and cosine, which keeps the picture longest?*

# %%
recipes = {"linear": linear_betas, "scaled linear": scaled_linear_betas,
           "sigmoid": sigmoid_betas, "cosine": cosine_betas}
schedules = {name: FromBetas(recipe(1000)) for name, recipe in recipes.items()}

# %%
alt = "Alpha squared and log SNR of four tables. Mostly sigmoid or cosine is on top."
picture, (left, right) = plot.figure(alt, 2, width=7.0, height=3.2)
for name, each in schedules.items():
    left.plot(t, each(t)[0] ** 2, label=name)
    right.plot(t, each.log_snr(t), label=name)
left.set(xlabel="time t", ylabel="alpha squared")
right.set(xlabel="time t", ylabel="log SNR", ylim=(-21, 11))
left.legend()
picture

# %% [markdown]
# <details><summary>Answer</summary>
#
# It depends on when you ask. Cosine leads for the first 53 steps, then sigmoid, from $t = 0.38$ on cosine again, and in the last steps scaled linear, whose log SNR stops at -5.4 and never lets go. Cosine is the last to have more signal
# than noise, until halfway, and plunges to -20 in the end.
#
# </details>

# %%
six = torch.tensor([0.05, 0.1, 0.2, 0.3, 0.4, 0.5])
boots = pictures[:1].expand(6, -1, -1, -1)
one_eps = torch.randn(1, 1, 32, 32, generator=seeded(1)).expand(6, -1, -1, -1)
rows = {name: add_noise(boots, one_eps, six, each) for name, each in schedules.items()}
alt = "Four rows of a boot at six times; it fades first in the linear row."
diagrams.pictures(rows, alt, above=[f"t = {u:.2f}" for u in six])

# %% tags=["check"]
# @title ✓ The tables against their formulas
u = torch.linspace(0, 1, 1000).double()  # (k - 1) / (T - 1)
roots = torch.lerp(*torch.tensor([[0.00085], [0.012]]).double().sqrt(), u)
assert torch.allclose(scaled_linear_betas(1000), roots**2)  # (2.9)
assert torch.allclose(sigmoid_betas(1000), 1e-4 + 0.0199 / (1 + torch.exp(6 - 12 * u)))
elsewhere = 0.07859, 0.27767, 0.30193, 0.49384  # diffusers
ours = torch.stack([(1 - recipe(1000)[:500]).prod() for recipe in recipes.values()])
assert (ours - torch.tensor(elsewhere)).abs().max() < 6e-6
f = ((torch.linspace(0, 1, 1001).double() + 0.008) / 1.008 * torch.pi / 2).cos() ** 2
squares = (1 - cosine_betas(1000)).cumprod(0)  # the cap touches only the last step
assert torch.allclose(squares[:-1], f[1:-1] / f[0]) and cosine_betas(1000)[-1] == 0.999
print("✓ all four follow their formulas, and at step 500 diffusers 0.42")

# %% tags=["check"]
# @title ✓ Which table keeps the picture
top = torch.stack([each(t)[0] for each in schedules.values()]).argmax(0)  # (1000,)
assert (top[:53] == 3).all() and (top[55:380] == 2).all()  # cosine, then sigmoid
assert (top[385:930] == 3).all() and (top[940:] == 1).all()  # cosine, scaled linear
turns = [int((each.log_snr(t) >= 0).sum()) + 1 for each in schedules.values()]
assert turns == [260, 355, 440, 497]
assert abs(schedules["scaled linear"].log_snr(1.0) + 5.4) < 0.05
assert schedules["cosine"].log_snr(1.0) < -19 and schedules["linear"](0.6)[0] < 0.17
assert 0.5 < cosine_betas(1000)[0].sqrt() * 127.5 < 1  # the first step, in grey levels
print("✓ more noise than signal from steps", ", ".join(map(str, turns)), "on;",
      f"cosine leads for {int((top == 3).int().argmin())} steps; scaled linear ends at",
      f"{schedules['scaled linear'].log_snr(1.0):.1f}")

# %% [markdown]
# Not only single pictures dissolve: so does the whole distribution. Each point below is a "picture" of two pixels, and
# the 4,000 together form a checkerboard. The fine structure goes first: at $t = 0.05$ the edges blur, at 0.15 the gaps between
# the squares are gone, and only a rounded outline is left.

# %%
from minidiff.data.toy import checkerboard

points, dust = checkerboard(4000, seeded(0)), torch.randn(4000, 2, generator=seeded(1))
clouds = {f"t = {u}": add_noise(points, dust, u, schedule)
          for u in (0.0, 0.05, 0.15, 1.0)}
plot.scatter(clouds, "A checkerboard of points blurs and ends as a round cloud.")

# %% [markdown]
# ## 4. Continuous time
#
# What if $T$ grows without end? Betas of a fixed size would leave nothing. So let each step last $1/T$ and fix the
# *rate* of noise, $\beta(t) = T\beta_k$ at $t = k/T$. (Beware: $\beta_k$ and $\beta(t)$ differ by the factor $T$.) The
# logarithm turns $\alpha_t^2 = \prod_{i \le k} (1-\beta_i)$ into a sum, and small betas obey
# $\log(1-\beta) \approx -\beta$. So $\log\alpha_t^2 \approx -\sum_i \beta_i = -\sum_i \beta(i/T)\,\tfrac1T$, a Riemann sum, and in the limit
#
# $$ \alpha_t^2 = \exp\!\left(-\int_0^t \beta(u)\, du\right) \tag{2.12} $$
#
# This is also why the sum of the betas decides how much is left, whatever their number.
#
# Read the other way, (2.12) makes any finite table into a continuous schedule without an error: hold the rate constant
# at $-T\log(1-\beta_k)$ during step $k$. That is `FromBetas`. It meets the table at every $t = k/T$, and halfway
# between two entries it must give the geometric mean of its neighbours.
#
# DDPM's betas, $10^{-4}$ to 0.02 in 1,000 steps, are rates from 0.1 to 20. As a formula ([@song2021]), in the package
# `LinearBeta`:
#
# $$ \beta(t) = \beta_{\min} + t\,(\beta_{\max} - \beta_{\min}), \qquad
# \alpha_t^2 = \exp\left(-\beta_{\min} t - \tfrac12 (\beta_{\max} - \beta_{\min}) t^2\right) \tag{2.13} $$
#
# *Predict: tables of* $T$ *steps with these rates come closer to the formula as* $T$ *grows. How much closer, for ten
# times the steps?*

# %%
far = []
for n in (100, 1000, 10_000):
    at = torch.arange(1, n + 1).double() / n
    table = FromBetas(torch.linspace(0.1, 20, n).double() / n)
    far.append(float((table(at)[0] - LinearBeta()(at)[0]).abs().max()))

print("largest difference in alpha:", ", ".join(f"{each:.1e}" for each in far))
fine = torch.linspace(0, 1, 10_001, dtype=torch.float64)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Ten times closer.
#
# </details>
#
# At $T = 1000$ they differ by a thousandth in $\alpha$, which is next to nothing in the middle of the walk. At its ends it
# is more: $\sigma_t^2$ after the first step is 9 % smaller in the table than by the formula, and $\alpha_1^2$ is 7 %
# smaller. Whoever mixes the two feels it there.
#
# The limit itself is a stochastic differential equation, the *Ornstein-Uhlenbeck process*
#
# $$ dx = -\tfrac12 \beta(t)\, x\, dt + \sqrt{\beta(t)}\; dw . $$
#
# The first term, the *drift*, is what a short time $dt$ does to the mean; $dw$ is noise of variance $dt$.

# %% tags=["check"]
# @title ✓ (2.12) and (2.13), by the trapezoid rule and half a step later
by_integral = torch.exp(-torch.cumulative_trapezoid(0.1 + 19.9 * fine, fine))
assert torch.allclose(LinearBeta()(fine[1:])[0] ** 2, by_integral, atol=1e-8)
assert all(9 < before / after < 11 for before, after in zip(far, far[1:], strict=False))
(alpha, sigma), (exact_alpha, exact_sigma) = schedule(t), LinearBeta()(t)
ten = FromBetas(linear_betas(10, 0.05, 0.3))
before, halfway, after = (ten(u)[0] ** 2 for u in (0.3, 0.35, 0.4))
assert torch.isclose(halfway, (before * after).sqrt())
early = 1 - (sigma[0] / exact_sigma[0]) ** 2
last = 1 - (alpha[-1] / exact_alpha[-1]) ** 2
assert abs(early - 0.09) < 0.005 and abs(last - 0.07) < 0.006
print(f"✓ halfway between {before:.3f} and {after:.3f} there is {halfway:.3f};",
      f"smaller in the table: first sigma^2 {early:.0%}, last alpha^2 {last:.0%}")

# %% [markdown]
# No table is needed at all; any falling curve makes a schedule. The four of the package:
#
# | schedule | $\alpha_t$ | $\sigma_t$ | at $t = 1$ | used by |
# |---|---|---|---|---|
# | `LinearBeta()` | (2.13) | $\sqrt{1-\alpha_t^2}$ | $\alpha_1 = 0.0066$ | score SDEs ([@song2021]) |
# | `Cosine()` | $\cos(\pi t/2)$ | $\sin(\pi t/2)$ | $\alpha_1 = 0$ | [@salimans2022], this course |
# | `Flow()` | $1 - t$ | $t$ | $\alpha_1 = 0$ | flow matching ([@lipman2023]) |
# | `VarianceExploding()` | 1 | $0.01\,\sqrt{5000^{2t} - 1}$ | $\alpha_1 = 1$, $\sigma_1 = 50$ | score SDEs |

# %% [markdown]
# In the plane of signal and noise a variance-preserving schedule runs on the quarter circle $\alpha_t^2 + \sigma_t^2 = 1$,
# `Flow` on its chord. Marks stand at each tenth of the time. Cosine's are spread evenly. DDPM's table, whose marks are
# short strokes, is fast at first and then hardly moves.

# %%
three = {"linear": schedule, "cosine": Cosine(), "flow": Flow()}
diagrams.schedule_paths(three, "Two schedules on a quarter circle, flow on its chord.")

# %% tags=["check"]
# @title ✓ Circle and chord, and the table of the package's schedules
for each in (LinearBeta(), Cosine(), schedule):
    alpha, sigma = each(fine)
    assert torch.allclose(alpha**2 + sigma**2, torch.ones_like(fine))
assert sum(Flow()(0.5)) == 1 and Cosine()(1.0)[0] == 0 and Flow()(1.0)[0] == 0
no_offset = FromBetas(cosine_betas(1000, s=0))(t[:-1])  # the last step is capped
assert torch.allclose(no_offset[0], Cosine()(t[:-1])[0], atol=1e-12)
one, noise = VarianceExploding()(fine)
assert torch.allclose(noise, 0.01 * (5000 ** (2 * fine) - 1).sqrt())
assert (one == 1).all() and abs(noise[-1] - 50) < 1e-3
assert abs(LinearBeta()(1.0)[0] - 0.0066) < 5e-5
print("✓ Cosine() is cosine_betas without offset and cap; the ends are the table's")

# %% [markdown]
# ## 5. Variance exploding
#
# Section 2 of the main line leaves the shrinking out, and the picture survives: the *variance* of the noise grows like a
# sum, to $3.2^2$. But given more noise this way arrives as well, and there is no deeper difference. Let
# $x_t = x_0 + \tilde\sigma_t\, \epsilon$, and look at it through a zoom that keeps the variance at one.
#
# $$ \frac{x_t}{\sqrt{1 + \tilde\sigma_t^2}} = \alpha_t\, x_0 + \sigma_t\, \epsilon, \qquad
# \alpha_t = \frac{1}{\sqrt{1 + \tilde\sigma_t^2}}, \quad \sigma_t = \frac{\tilde\sigma_t}{\sqrt{1 + \tilde\sigma_t^2}}
# \tag{2.14} $$
#
# $\alpha_t^2 + \sigma_t^2 = 1$, and the SNR is the same. A variance-exploding process *is* a variance-preserving one,
# seen from ever farther away ([@kingma2021], section 5.1). [@karras2022] rescale $x_t$ so before the network sees it, with the
# data's own variance in place of the 1. What counts is log SNR.

# %% tags=["check"]
# @title ✓ How many shrunk steps a thousand others are worth
same = int((schedule.log_snr(t) > -betas.sum().log()).sum()) + 1
assert same == 486
print(f"✓ 1,000 steps without shrinking leave the SNR of {same} steps with it")

# %% tags=["check"]
# @title ✓ Exploding and preserving: the same pictures (2.14)
exploding, eps = VarianceExploding(), torch.randn(8, 1, 32, 32, generator=seeded(1))
for u in (0.3, 0.6, 0.9):
    zoomed = add_noise(pictures, eps, u, exploding) / (1 + exploding(u)[1] ** 2).sqrt()
    low, high = 0.0, 1.0
    for _ in range(60):  # the time at which Cosine has the same log SNR
        middle = (low + high) / 2
        too_clean = Cosine().log_snr(middle) > exploding.log_snr(u)
        low, high = (middle, high) if too_clean else (low, middle)
    twin = add_noise(pictures, eps, middle, Cosine())
    assert torch.allclose(zoomed.float(), twin, atol=1e-5)
print("✓ zoomed, VarianceExploding gives Cosine's pictures at equal log SNR, to 1e-5")

# %% [markdown]
# ## 6. Between two times, and digits
#
# A pixel that stops on the way, from $x_0$ to $x_s$ by (2.4) and from there to $x_t$ by (2.5), must be distributed like
# one that jumps at once. The check lets 200,000 of them do it.
#
# The package writes $\sigma_{ts}^2$ as $\sigma_t^2\,(1 - e^{u})$, where $u < 0$ is the change of log SNR from $s$ to $t$.
# It is the same number as in (2.5), $\sigma_t^2 - \alpha_{ts}^2\sigma_s^2$. It saves no digits, as you will see, but
# hardly ever comes out below 0, and where times are one rounding apart and it does, it counts as 0: a root is never `nan`.

# %%
plot.show_source(transition)

# %% [markdown]
# Both forms subtract two nearly equal numbers when $s$ is close to $t$, so digits cancel. That is why the package's
# samplers compute coefficients in 64 bits, even where pictures have 32.
#
# *Predict: in 32 bits, about seven digits are right. How many are left for a stride of* $10^{-5}$*?*

# %%
def between(s, t, schedule):
    (alpha_s, sigma_s), (alpha_t, sigma_t) = schedule(s), schedule(t)
    alpha_ts = alpha_t / alpha_s
    return alpha_ts, (sigma_t**2 - alpha_ts**2 * sigma_s**2).sqrt()


# %%
s = torch.linspace(0.1, 0.9, 1000)  # float32
later = s + 1e-5
exact = between(s.double(), later.double(), schedule)[1]
for name, formula in (("(2.5)", between), ("transition", transition)):
    wrong = (formula(s, later, schedule)[1] / exact - 1).abs().max()
    digits = int(-wrong.log10())
    print(f"{name}, in 32 bits: {digits} digits right at all times")
wrong = (transition(s.double(), later.double(), schedule)[1] / exact - 1).abs().max()
print(f"the two in 64 bits: alike in {int(-wrong.log10())} digits")

# %% [markdown]
# <details><summary>Answer</summary>
#
# Two; in 64 bits about nine more.
#
# </details>

# %% tags=["check"]
# @title ✓ Two strides are one, and the two formulas are one
first, second = torch.randn(2, 200_000, generator=seeded(3))
for each in (schedule, Cosine(), Flow()):
    (alpha_ts, sigma_ts), (alpha_t, sigma_t) = between(0.2, 0.5, each), each(0.5)
    x_s = add_noise(torch.full((200_000,), 2.0), first, 0.2, each)
    x_t = alpha_ts * x_s + sigma_ts * second
    assert abs(x_t.mean() - 2 * alpha_t) < 0.01 and abs(x_t.std() - sigma_t) < 0.01
    early, late = torch.rand(2, 1000, generator=seeded(0)).double().sort(0).values
    pairs = zip(between(early, late, each), transition(early, late, each), strict=True)
    assert all(torch.allclose(ours, package, rtol=1e-5) for ours, package in pairs)
assert digits == 2 and wrong < 1e-10
print("✓ on three schedules 200,000 pixels have the mean and spread of one jump")

# %% tags=["check"]
# @title ✓ The ribbon of the main line is the density of many walkers
two_humps = Mixture(torch.tensor([0.4, 0.6]), torch.tensor([[-1.2], [0.8]]),
                    torch.tensor([0.2, 0.2]))
generator, line = seeded(42), torch.linspace(-6, 6, 2401).double()
walkers = two_humps.sample(20_000, generator)[:, 0].double()
for s, stop in ((0.0, 0.1), (0.1, 0.25), (0.25, 0.5), (0.5, 1.0)):
    alpha_ts, sigma_ts = between(s, stop, schedule)
    walkers = alpha_ts * walkers + sigma_ts * torch.randn(20_000, generator=generator)
    density = two_humps.log_prob(line[:, None], stop, schedule).exp()
    cdf = torch.cumulative_trapezoid(density, line)
    share = torch.searchsorted(walkers.sort().values, line[1:]) / 20_000
    assert (cdf - share).abs().max() < 1.63 / 20_000**0.5  # once in a hundred
print("✓ 20,000 numbers that stop at four times are distributed like the ribbon there")

# %% [markdown]
# ## 7. Why the steps are small
#
# ### A step is a Langevin step
#
# *Langevin dynamics* samples from a density $\pi$ by walking uphill on $\log \pi$ and shaking; with the gradient of a
# mini-batch it is SGLD ([@welling2011]). For a step of size $\delta$,
#
# $$ x' = x + \frac{\delta}{2}\, \nabla \log \pi(x) + \sqrt{\delta}\; z . \tag{2.15} $$
#
# Let $\pi$ be pure noise, $\mathcal N(0, I)$. Its slope is $\nabla \log \pi(x) = -x$, so
# $x' = (1 - \frac{\delta}{2})\, x + \sqrt\delta\, z$. Compare with the forward step: $\sqrt{1 - \beta} = 1 -
# \frac{\beta}{2} - \frac{\beta^2}{8} - \dots$ They agree to first order. The forward process is Langevin dynamics whose
# target is noise, with the factor mended so that the variance ends at one exactly. (2.15) ends at the $V$ that solves
# $V = (1 - \frac\delta2)^2 V + \delta$, which is $V = 1/(1 - \frac\delta4)$.
#
# Chapter 05 lets the same dynamics climb towards the data.

# %% tags=["check"]
# @title ✓ Two crowds of walkers end where the rules say
generator, delta = seeded(0), torch.tensor(0.5)
langevin = ours = torch.zeros(50_000)
for _ in range(60):
    z = torch.randn(50_000, generator=generator)
    langevin = langevin + delta / 2 * -langevin + delta.sqrt() * z  # (2.15)
    ours = (1 - delta).sqrt() * ours + delta.sqrt() * z  # (2.1)
assert abs(langevin.var() - 1 / (1 - delta / 4)) < 0.03 and abs(ours.var() - 1) < 0.03
small = torch.tensor([0.1, 0.01, 0.001]).double()
assert torch.allclose((1 - small / 2) - (1 - small).sqrt(), small**2 / 8, rtol=0.06)
print(f"✓ variance of 50,000 walkers: {langevin.var():.2f} by Langevin with delta 0.5,",
      f"{ours.var():.2f} by (2.1)")

# %% [markdown]
# ### And a small step can be undone by a Gaussian
#
# Where the main line shows three reverse *kernels*, densities $q(x_s \mid x_t)$ of the state before, here is the general
# statement: **as the step becomes small the reverse becomes Gaussian**, where $\log q(x_s)$ is smooth. [@feller1949] is the source
# that [@sohldickstein2015] build on (their section 2.2), and DDPM's choice of a Gaussian $p$ rests on it.
#
# In the limit [@anderson1982] gives the whole reversed process. It is stated here, not derived; below we test it. A
# short time $\delta$ before, with $z$ standard normal,
#
# $$ x_{t-\delta} = x_t + \left(\tfrac12 \beta(t)\, x_t + \beta(t)\, \nabla \log q(x_t)\right) \delta
# + \sqrt{\beta(t)\, \delta}\; z . $$
#
# The noise is as strong as on the way there. The forward drift $-\tfrac12 \beta x$ (section 4) is turned round, and
# $\beta$ times the gradient of the log density is added: the *score*, all that must be learned.
#
# For a stride of any length the score still gives the mean. $x_t$ is $\alpha_{ts} x_s$ plus noise of variance
# $\sigma_{ts}^2$, and the mean of what noise was added to is the noisy value plus the variance times the score
# (Tweedie's formula, proved in chapter 03):
#
# $$ E[x_s \mid x_t] = \frac{x_t + \sigma_{ts}^2\, \nabla \log q(x_t)}{\alpha_{ts}} . $$
#
# With $\alpha_{ts} \approx 1 - \tfrac12 \beta \delta$ and $\sigma_{ts}^2 \approx \beta \delta$ it is the mean of the
# equation above.
#
# For two humps both sides are known: `reverse` is the true kernel at one point, again a mixture, and `score` the
# gradient. We stand between the humps at $t = 0.5$.
#
# *Predict: is the spread of a long step back larger or smaller than that of the step forward?*

# %%
weights, means, stds = [0.4, 0.6], [[-1.2], [0.8]], [0.2, 0.2]  # the main line's
humps = Mixture(*(torch.tensor(each).double() for each in (weights, means, stds)))
here = torch.zeros(1).double()


def moments(kernel):
    mean = (kernel.weights * kernel.means[:, 0]).sum()
    second = (kernel.weights * (kernel.stds[:, 0] ** 2 + kernel.means[:, 0] ** 2)).sum()
    return mean, (second - mean**2).sqrt()


# %%
score = humps.score(here[None], 0.5, Cosine())[0, 0]
for d in (0.1, 0.01, 0.001):
    mean, std = moments(humps.reverse(here, 0.5 - d, 0.5, Cosine()))
    alpha_ts, sigma_ts = transition(0.5 - d, 0.5, Cosine())
    by_score = sigma_ts**2 * score / alpha_ts  # x_t is 0
    print(f"t - s = {d}: mean {mean:.2g}, by the score {by_score:.2g};",
          f"std {std:.3f}, forward {sigma_ts:.3f}")
outside = moments(humps.reverse(here + 1.5, 0.4, 0.5, Cosine()))[1]
print(f"t - s = 0.1, from x_t = 1.5: std {outside:.3f}")

# %% [markdown]
# <details><summary>Answer</summary>
#
# Here larger, for between the humps one does not know the hump: for a stride of 0.1 by nearly a tenth. From outside, at
# $x_t = 1.5$, it is smaller: 0.42. For short strides they agree.
#
# </details>
#
# The mean is the score's at every length. The spread is the forward step's only in the limit.
#
# How short is short? Let $q(x_s)$ be the density of $x_s$ over all data. By Bayes' rule
# $q(x_s \mid x_t) \propto q(x_s)\, q(x_t \mid x_s)$. The second factor, as a function of $x_s$, is the bell of the step,
# with middle $m$ and variance near $\beta_k$. If $\log q(x_s)$ is nearly a straight line of slope $c$ over its width,
# complete the square:
#
# $$ \exp\!\left(c\, x_s - \frac{(x_s - m)^2}{2\beta_k}\right)
# \ \propto\ \exp\!\left(-\frac{(x_s - m - \beta_k c)^2}{2\beta_k}\right) . $$
#
# It is a bell of the same width, moved. So $\log q(x_s)$ must be nearly straight over the width of the step. Two things smooth $q(x_s)$: the data's own spread, and the noise already there. Our humps
# are smooth, and even step 1 of DDPM's table is undone by a bell: the largest gap between
# the cumulative distributions is below 0.001. Grey levels are not: for a pixel that is
# one of two neighbouring levels, step 1 back is two spikes. By step 10 noise has smoothed them.
#
# %% tags=["check"]
# @title ✓ The shorter the stride, the nearer to a Gaussian
apart = []
for d in (0.4, 0.2, 0.1, 0.05, 0.01):
    kernel = humps.reverse(here, 0.5 - d, 0.5, Cosine())
    parts = torch.distributions.Normal(kernel.means[:, 0], kernel.stds[:, 0])
    bell = torch.distributions.Normal(*moments(kernel))
    v = bell.mean + bell.stddev * torch.linspace(-6, 6, 4001).double()
    cdf = (kernel.weights * parts.cdf(v[:, None])).sum(1)
    apart.append(float((cdf - bell.cdf(v)).abs().max()))
assert apart == sorted(apart, reverse=True) and apart[0] > 0.1 and apart[-1] < 0.003
assert abs(mean / by_score - 1) < 1e-6 and abs(std / sigma_ts - 1) < 0.02
print("✓ distance from a bell for strides 0.4, 0.2, 0.1, 0.05, 0.01:",
      ", ".join(f"{a:.2g}" for a in apart))

# %% tags=["check"]
# @title ✓ How far steps 1 and 10 back are from a bell: smooth data and grey levels
def gap(data, x_t, k):  # between step k back and the nearest bell
    s, x_t = (k - 1) / 1000, torch.tensor([x_t]).double()
    kernel = data.reverse(x_t, s, k / 1000, schedule)
    parts = torch.distributions.Normal(kernel.means[:, 0], kernel.stds[:, 0])
    bell = torch.distributions.Normal(*moments(kernel))
    v = bell.mean + bell.stddev * torch.linspace(-6, 6, 4001).double()
    return ((kernel.weights * parts.cdf(v[:, None])).sum(1) - bell.cdf(v)).abs().max()
two = torch.tensor([[0], [1 / 127.5]]).double()
grey = Mixture(torch.ones(2).double() / 2, two, torch.ones(2).double() / 1e4)
assert max(gap(humps, x_t, 1) for x_t in (-1.2, -0.2, 0.8)) < 1e-3
assert gap(grey, 0.004, 1) > 0.3 and gap(grey, 0.004, 10) < 1e-3
print(f"✓ two levels: {gap(grey, 0.004, 1):.2f} off, then {gap(grey, 0.004, 10):.1g}")

# %% [markdown]
# ## 8. Fine detail goes first; high resolution
#
# White noise has the same power at all frequencies. A picture has most of it at low ones. So noise drowns fine detail
# first and the outline last, and the way back makes them in the other order ([@dieleman2024]). The curve is the mean
# power of clothes at each frequency, in waves across the picture. A dotted line is the noise at one time of `Cosine`,
# over $\alpha_t^2$: what lies below it is drowned.

# %%
bank = clothes.tensor(slice(0, 1000))
power = torch.fft.fft2(bank, norm="ortho").abs().square().mean((0, 1))  # (32, 32)
waves = torch.fft.fftfreq(32) * 32
ring = torch.hypot(waves[:, None], waves[None]).round()
spectrum = torch.stack([power[ring == k].mean() for k in range(1, 17)])
noise = {u: float((-Cosine().log_snr(u)).exp()) for u in (0.1, 0.25, 0.5, 0.75)}

# %%
picture, (ax,) = plot.figure("A falling spectrum, and four levels of noise.", 1)
ax.loglog(range(1, 17), spectrum, "o-")
for u, level in noise.items():
    ax.axhline(level, color="0.4", linestyle=":")
    ax.text(1, 1.1 * level, f"t = {u}", fontsize=13)
ax.set(xlabel="waves across the picture", ylabel="power")
picture

# %% tags=["check"]
# @title ✓ How many frequencies stand above the noise
above = {u: int((spectrum > level).sum()) for u, level in noise.items()}
assert list(above.values()) == sorted(above.values(), reverse=True)
assert above[0.1] > 12 and above[0.75] == 1 and (spectrum.diff() < 0).all()
# Parseval: the powers of all waves add up to |x|^2
total = power.sum() / bank.square().sum((1, 2, 3)).mean()
assert abs(total - 1) < 1e-4
print("✓ of 16 frequencies", ", ".join(f"{n} at t = {u}" for u, n in above.items()))

# %% [markdown]
# ### High resolution
#
# Noise is drawn for each pixel on its own, but in a picture neighbours are alike. So a larger picture says the same
# thing more often, and survives the same noise better. Take it to the extreme: repeat each pixel $m$ times in both
# directions. Averaging over those blocks gives the small picture back, and divides the standard deviation of the
# noise by $m$.
#
# $$ \log \mathrm{SNR}_{\text{seen}}(t) = \log \mathrm{SNR}(t) + 2 \log m \tag{2.16} $$
#
# Real pictures are not that extreme, but near it. To destroy a picture of 256 pixels a side as a schedule made for 64
# would destroy one of 64, [@hoogeboom2023] lower log SNR by $2 \log(256/64)$ at all times; [@chen2023] multiply the
# picture by a factor $b < 1$, which lowers it by $2 \log(1/b)$. On the schedule `Flow` the shift is a change of time,
# $t' = m t / (1 + (m-1)\, t)$: the package's `shift_times`, as in [@esser2024].

# %%
from minidiff import shift_times

big = pictures[:1].repeat_interleave(4, 2).repeat_interleave(4, 3)  # (1, 1, 128, 128)
specks = torch.randn(big.shape, generator=seeded(4))
noisy = add_noise(big, specks, 0.25, schedule)
same = add_noise(pictures[:1], specks[..., ::4, ::4], 0.25, schedule)
diagrams.pictures({"": torch.cat([same, F.avg_pool2d(noisy, 4)])},
                  "A boot in noise; beside it the same boot in much less.",
                  above=["32 by 32", "128, averaged"])

# %% tags=["check"]
# @title ✓ Averaging, and the shift of Flow
alpha, sigma = schedule(0.25)
grain = F.avg_pool2d(noisy, 4) - alpha.float() * pictures[:1]  # what is not picture
seen = 2 * (alpha.log() - grain.std().log())
assert abs(seen - schedule.log_snr(0.25) - 2 * torch.tensor(4.0).log()) < 0.15
shifted = Flow().log_snr(shift_times(t[:-1], 4.0))
lowered = Flow().log_snr(t[:-1]) - 2 * torch.tensor(4.0).double().log()
assert torch.allclose(shifted, lowered)
print(f"✓ log SNR {schedule.log_snr(0.25):.1f}, after averaging measured as {seen:.1f}")

# %% [markdown]
# ## 9. Exact ends, and how far ends are from noise
#
# [@lin2023] mend an old table so that its end is exactly noise: shift $\alpha$ until its last value is 0, and stretch
# it so that its first value stays.
#
# $$ \alpha_t' = (\alpha_t - \alpha_1)\, \frac{\alpha_{1/T}}{\alpha_{1/T} - \alpha_1} \tag{2.17} $$
#
# In diffusers it is `rescale_betas_zero_snr=True`. At the end $x_1$ is then nothing but noise, so a network that
# predicts $\epsilon$ learns nothing there, and they train one that predicts $v$ (chapter 05).

# %%
old = (1 - scaled_linear_betas(1000)).sqrt().cumprod(0)  # Stable Diffusion's alpha
new = (old - old[-1]) * old[0] / (old[0] - old[-1])
plot.curves(t, {"as published": old, "rescaled (2.17)": new},
            "Two curves of alpha: one ends at 0.07, one at zero.", "time t", "alpha")

# %% tags=["check"]
# @title ✓ The rescaled table
assert abs(new[499] ** 2 - 0.24236) < 5e-6  # by diffusers 0.42
assert abs(new[0] ** 2 - 0.99915) < 5e-6 and (new.diff() < 0).all()
new_betas = 1 - (new[1:] / new[:-1]) ** 2
assert ((new_betas > 0) & (new_betas <= 1)).all() and new_betas[-1] == 1
change = new_betas[:100] / scaled_linear_betas(1000)[1:101] - 1
assert change.abs().max() < 0.15
print(f"✓ alpha at the end {old[-1]:.3f}, then 0; early betas change by under 15 %")

# %% [markdown]
# ### How far from noise?
#
# Is some $x_1$ the end of a walk, or pure noise? $\log q(x_1) - \log \mathcal N(x_1;\, 0, I)$ is the evidence. Its mean over
# ends is the [Kullback-Leibler divergence](../docs/glossary.md#kl-divergence), in *nats*: one nat multiplies the odds by
# $e$.
#
# For one pixel of one picture the end is $x_1 = \alpha_1 x_0 + \sigma_1 \epsilon$, and the difference of the log densities
# is $-\log \sigma_1 - \tfrac12 \epsilon^2 + \tfrac12 x_1^2$. The mean of $\epsilon^2$ is 1, that of $x_1^2$ is
# $\alpha_1^2 x_0^2 + \sigma_1^2$. Add up $D$ pixels:
#
# $$ \mathrm{KL} = \tfrac12 \left(\alpha_1^2 |x_0|^2 + D\,(\sigma_1^2 - 1 - \log \sigma_1^2)\right)
# \approx \tfrac12\, \alpha_1^2\, |x_0|^2 . $$
#
# The approximation is never too large, as $u - 1 - \log u$ is never negative. `nats` is the mean over pictures, called
# $L_T$ in DDPM.

# %%
bank = clothes.tensor(slice(0, 4000))
ends = {"DDPM": schedule(1.0), "DDPM, to step 800": schedule(0.8),
        "Stable Diffusion 1": FromBetas(scaled_linear_betas(1000))(1.0),
        "300 steps": FromBetas(linear_betas(300))(1.0),
        "200 steps": FromBetas(linear_betas(200))(1.0)}


def nats(alpha_1, sigma_1, x_0=bank):
    """Return the divergence from noise of the noised pictures, averaged over them."""
    rest = sigma_1**2 - 1 - (sigma_1**2).log()
    return ((alpha_1 * x_0) ** 2 + rest).flatten(1).sum(1).mean() / 2


# %%
bounds = {name: nats(*end) for name, end in ends.items()}
codes = torch.ones(1, 4, 64, 64)  # as large as its latents, of variance 1
bounds["Stable Diffusion 1's latents"] = nats(*ends["Stable Diffusion 1"], codes)
print({name: f"at most {bound:.2g} nats" for name, bound in bounds.items()})
a, std = ends["200 steps"]
first = float((a * bank).square().flatten(1).sum(1).mean() / 2)
print(f"200 steps: the first term alone is {first:.0f}")

# %% [markdown]
# The divergence is *convex*: the ends of all pictures together are at most as far from noise as single ones on average.
# How far can be drawn. For 4,000 stored pictures and 200 steps it is 49 nats in place of 56. But that belongs
# to the 4,000: the difference cannot exceed $\log 4000 = 8.3$, and more pictures would hide one another better.
#
# A mean of $n$ nats says that one end adds $n$ to the log odds *on average*. Single ends differ. For small $n$ by far
# more: for single pictures DDPM's 0.016 come with a spread of about $\sqrt{2 \cdot 0.016} = 0.18$.
#
# Latents (chapter 11) are the numbers in which Stable Diffusion works, 16,384 of them for one picture.
#
# A bound does not prove that ends *can* be told from noise. Their brightness, the mean pixel, shows it: that of noise is 0,
# give or take $1/32$. [@everaert2024] call what is left a *signal leak*, and add it to the start of sampling.

# %%
e = torch.randn(bank.shape, generator=seeded(2))
mean = {name: (ends[name][0] * bank + ends[name][1] * e).mean((1, 2, 3))
        for name in ("DDPM", "200 steps")}  # the brightness of the ends
dark = (mean["200 steps"] < -3 / 32).double().mean()
print({name: f"brightness {each.mean():.3f}" for name, each in mean.items()})
print(f"ends of 200 steps below -3/32: {dark:.0%}")

# %% [markdown]
# So one end of 200 steps is nearly always too dark for noise. One of DDPM's tells hardly anything.
#
# *Typical* and *mean* differ in the main line's argument too. Over pure noise $x_1$ the mean of
# $q(x_1 \mid d)\,/\,\mathcal N(x_1)$ is exactly 1 for every picture $d$, since $q$ is a density. But rare $x_1$ make most
# of that mean. After 200 steps the ratio is far below 1 in nearly all others, and the farther, the larger $|d|^2$.

# %% tags=["check"]
# @title ✓ The nats of 200 steps by drawing, of one and of all; and of latents
from minidiff import Gaussian

x_1 = a.float() * bank + std.float() * e
one = ((x_1**2 - e**2) / 2 - std.log()).flatten(1).sum(1).mean()
apart = torch.cdist(x_1.flatten(1), a.float() * bank.flatten(1))  # (4000, 4000)
log_q = (-(apart**2) / (2 * std**2)).logsumexp(1) - torch.tensor(4000.0).log()
every = (log_q + (x_1**2 / 2 - std.log()).flatten(1).sum(1)).mean()
assert abs(one / bounds["200 steps"] - 1) < 0.02 and abs(one - 56) < 1
assert abs(every - 49) < 1 and abs(first - 51) < 0.5
alpha_1, sigma_1 = ends["Stable Diffusion 1"]
package = Gaussian(alpha_1 * codes, sigma_1).kl(Gaussian(torch.zeros(()), 1.0)).mean()
assert abs(package / bounds["Stable Diffusion 1's latents"] - 1) < 1e-3
print(f"✓ one by one {one:.0f} nats, together {every:.0f}; latents {package:.0f}")

# %% tags=["check"]
# @title ✓ Over pure noise the ratio is typically far below 1; the brightness; L_T
apart = torch.cdist(e[:500].flatten(1), a.float() * bank.flatten(1)) ** 2
log_ratio = e[:500].square().sum((1, 2, 3))[:, None] - apart / std**2
log_ratio = log_ratio / 2 - 1024 * std.log()  # (500, 4000)
bells = torch.distributions.Normal(a * bank.mean((1, 2, 3)), std / 32)  # of brightness
assert (log_ratio < 0).double().mean() > 0.99
assert abs(dark - bells.cdf(torch.tensor(-3 / 32)).mean()) < 0.01 and dark > 0.85
assert abs(mean["DDPM"].mean() - ends["DDPM"][0] * bank.mean()) < 4 / 32 / 4000**0.5
bits = bounds["DDPM"] / 1024 / torch.tensor(2.0).log()
assert 5e-6 < bits < 5e-5  # 1e-5 in Ho et al. 2020
print(f"✓ below 1 in {(log_ratio < 0).double().mean():.1%}; DDPM's L_T is",
      f"{bits:.1e} bits for each pixel")

# %% [markdown]
# ## 10. Published tables, and the classes they lose
#
# Here are three tables with DDPM's first and last beta in fewer steps, made for other data, judged on our clothes:
#
# | table | where it stands |
# |---|---|
# | DeepLearning.AI, 500 steps | [*How Diffusion Models Work*, a copy of lab 4](https://github.com/Ryota-Kawamura/How-Diffusion-Models-Work/blob/1fa3b65a3990f39db8f650daf91351ba6a0eaa7d/L4_FastSampling.ipynb) |
# | Conditional MNIST, 400 | [TeaPearce's script](https://github.com/TeaPearce/Conditional_Diffusion_MNIST/blob/1248f64634b33e39b5252612e36d89b27c3f3a34/script.py) |
# | EngiOpt, 250 | [issue 65, where its authors found it](https://github.com/IDEALLab/EngiOpt/issues/65), and [pull request 67](https://github.com/IDEALLab/EngiOpt/pull/67) |
#
# For each: the signal left, the nats per picture (the bound from above), and what an exact random walk back makes of pure
# noise, a draw from $q(x_0 \mid x_1)$. First its mean brightness; our clothes have -0.56. Then how many of its draws go to
# the hundred most frequent of 4,000 stored pictures.

# %%
from minidiff import Empirical, Gaussian

tables = {
    "DDPM": linear_betas(1000),
    "DeepLearning.AI": linear_betas(501),  # this one and the next
    "Conditional MNIST": linear_betas(401),  # multiply T + 1 factors
    "EngiOpt": linear_betas(250),
    "main line, 200": linear_betas(200),
}
bank = clothes.tensor(slice(0, 4000))
white = torch.randn(1000, 1, 32, 32, generator=seeded(0))
light, hundred = {}, {}

# %%
for name, table in tables.items():
    a, std = FromBetas(table)(1.0)
    nats = Gaussian(a * bank, std).kl(Gaussian(torch.zeros(()), 1.0)).mean()
    apart = torch.cdist(white.flatten(1), a.float() * bank.flatten(1)).square()
    drawn = (-apart / (2 * std**2)).softmax(1).mean(0)  # (4000,)
    light[name] = drawn @ bank.mean((1, 2, 3)).to(drawn)
    hundred[name] = drawn.topk(100).values.sum()
    print(f"{name:18} alpha_1 = {a:.3g}, {nats:.2g} nats,",
          f"brightness {light[name]:.2f}, a hundred take {hundred[name]:.0%}")

# %% [markdown]
# The brighter the draws, the more of them go to few pictures: from 200 steps a hundred take 83 %. So there the main line's
# bars say little about clothes in general, and much about these hundred. Does a network, which has seen 10,000 clothes and
# draws new ones, lose the same classes?

# %% tags=["check"]
# @title ✓ The ends as their authors have them, and the exact mean by the package
ends = {name: float(FromBetas(table)(1.0)[0]) for name, table in tables.items()}
assert abs(ends["DDPM"] - 0.00635) < 6e-6 and abs(ends["EngiOpt"] - 0.282) < 6e-4
assert list(light.values()) == sorted(light.values())
assert list(hundred.values()) == sorted(hundred.values())
for name in ("EngiOpt", "main line, 200"):
    means = Empirical(bank).denoise(white, 1.0, FromBetas(tables[name]))
    assert abs(means.mean() - light[name]) < 1e-3
assert 0.8 < hundred["main line, 200"] < 0.86
print(f"✓ brightness by the package's posterior mean, 200 steps: {means.mean():.2f}")

# %% [markdown]
# ### Which clothes does the network lose, and why?
#
# Chapter 00's network draws a hundred clothes from each of the main line's two starts: from $t = 1$ on `Cosine`, and from
# the time at which `Cosine` is as noisy as the end of 200 steps. A classifier names their classes. It is right for 93 % of
# the test pictures, but many samples from the wrong start are fragments. So we count only samples of which it is at least
# 90 % sure.

# %%
from minidiff import ddpm, final, times
from minidiff.app.checkpoint import load_denoiser
from minidiff.app.metrics import load_classifier
from minidiff.data import shipped

network, _ = load_denoiser(shipped("fashion.safetensors"))
classifier, test = load_classifier("fashion"), load("fashion", "test")
right = (classifier(test.tensor()).argmax(1) == test.y).double().mean()
a, std = FromBetas(linear_betas(200))(1.0)
starts = {"good start": 1.0, "wrong start": float((std / a).atan() * 2 / torch.pi)}

# %%
counts, of_all = {}, {}
for name, start in starts.items():
    back = ddpm(network, white[:100], times(40, start), Cosine(), seeded(2))
    certain, guess = classifier(final(back)).softmax(1).max(1)
    of_all[name] = guess.bincount(minlength=10)
    counts[name] = guess[certain >= 0.9].bincount(minlength=10)  # the sure ones

print("of 100 samples:", *(f"{name:>12}" for name in starts))
for k, kind in enumerate(clothes.classes):
    print(f"{kind:15}", *(f"{n[k]:12}" for n in of_all.values()))
print(f"{'sure of':15}", *(f"{n.sum():12}" for n in counts.values()))

# %% [markdown]
# The left panel shows them. The classifier is sure of a class like trousers more often than of others, so compare the two
# starts. The second panel is the perfect walk of the main line. For the third all pictures are first scaled to the same
# $|d|$; the numbers beside the names are from before.
#
# *Predict: which classes come back when all* $|d|$ *are equal?*

# %%
kinds = F.one_hot(clothes.y[:4000].long()).float()  # (4000, 10)
size = bank.square().sum((1, 2, 3)) @ kinds / kinds.sum(0)  # mean |d|^2 of a class
order, norms = size.argsort(), bank.flatten(1).norm(dim=1)
level_bank = bank * (norms.mean() / norms).reshape(-1, 1, 1, 1)  # |d| is the same


def walks_back(x_1, end, pictures):
    """Return q(x_0 = d_i | x_1), averaged over x_1 (B, 1, 32, 32): (4000,)."""
    distance = torch.cdist(x_1.flatten(1), float(end[0]) * pictures.flatten(1))
    return (-(distance**2) / (2 * float(end[1]) ** 2)).softmax(1).mean(0)


# %%
chosen = {name: {"good start": walks_back(white, schedule(1.0), each),
                 "wrong start": walks_back(white, (a, std), each)}
          for name, each in (("perfect walk", bank), ("all |d| equal", level_bank))}
panels = {"network": {name: 100 * (n / n.sum())[order] for name, n in counts.items()}}
for title, pair in chosen.items():
    panels[title] = {name: 100 * (p @ kinds)[order] for name, p in pair.items()}
rows = [f"{clothes.classes[k]}, {size[k]:.0f}" for k in order]
alt = "Three panels of bars: the last classes vanish twice, and are back for equal |d|."
diagrams.paired_bars(rows, panels, "%", alt, "class, mean $|d|^2$")

# %% [markdown]
# <details><summary>Answer</summary>
#
# Most of them, but not evenly: sandals and boots are back, sneakers have 4 %, dresses 5 %, coats 6 %, bags 22 %.
#
# </details>
#
# Together, the five classes with the largest $|d|^2$ nearly vanish from both: 6 % of the network's sure samples, 3 % of
# the perfect walk's. If all hundred samples are counted, they fall from 59 to 4: three boots and a sandal. (Good start:
# five boots. That is too few to say that the network loses boots.) What remains differs. The network makes bags, the
# perfect walk pullovers. In the perfect walk single pictures decide: one pullover, whose $|d|^2$ is the smallest of all
# 4,000, takes 21 %.
#
# The *effective number* of pictures is $1/\sum_i p_i^2$, where $p_i$ is the share of picture $i$. If $n$ pictures share
# equally, it is $n$. Here it is 18, and with equal $|d|$ it is 700.
#
# So $|d|^2$ is the main cause, not the only one. The rest goes with likeness. For equal $|d|$ the picture with the largest
# gain takes most for each $x_1$, 51 % on average. Bags differ, so a bag has many chances of a large gain. Sneakers resemble
# one another: where one has a small gain, nearly all have. We measure likeness by the mean cosine between a picture and its
# 100 nearest.
#
# From *true* ends all classes come back, as they must: averaged over $q(x_1)$, the density $q(x_0 \mid x_1)$ is that of the
# data. Ends that are too dark show in real models, too: Stable Diffusion 1 leaves 0.07, and its pictures were never very
# dark nor very bright. Pure noise has a mean pixel near 0, which the network takes for the picture's ([@guttenberg2023],
# [@lin2023]).

# %% tags=["check"]
# @title ✓ The network and the perfect walk: five classes together nearly vanish
late = order[5:]  # the largest |d|^2
for name, low, high, n in zip(starts, (0.4, 0), (0.8, 0.12), (59, 4), strict=True):
    share = counts[name][late].sum() / counts[name].sum()
    exact = (chosen["perfect walk"][name] @ kinds)[late].sum()
    assert low <= min(share, exact) and max(share, exact) < high
    assert abs(of_all[name][late].sum() - n) < 3
assert right > 0.92 and counts["wrong start"].argmax() == 8  # bags
means = Empirical(bank).denoise(white[:20], 1.0, FromBetas(linear_betas(200)))
x_0 = walks_back(white[:20], (a, std), bank) @ bank.flatten(1)
assert torch.allclose(x_0, means.flatten(1).mean(0).to(x_0), atol=1e-3)
print(f"✓ the last five classes: {share:.0%} of the network's sure samples from the",
      f"wrong start, {exact:.0%} of the perfect walk's")

# %% tags=["check"]
# @title ✓ Equal |d|, class by class, with other noise; effective numbers; likeness
other = 100 * walks_back(-white, (a, std), level_bank) @ kinds  # as good a noise
one = [walks_back(x[None], (a, std), level_bank).max() for x in white[:300]]
pair = [chosen[title]["wrong start"] for title in ("perfect walk", "all |d| equal")]
found, (few, many) = 100 * pair[1] @ kinds, [1 / p.square().sum() for p in pair]
assert ((found - torch.tensor([9, 7, 11, 5, 6, 14, 10, 4, 22, 12])).abs() < 1).all()
assert (found - other).abs().max() < 3 and pair[0].argmax() == norms.argmin()
assert 14 < few < 24 and 600 < many < 800
unit = bank.flatten(1) / norms[:, None]
likeness = (unit @ unit.T).topk(100).values.mean(1) @ kinds / kinds.sum(0)
link = torch.corrcoef(torch.stack([likeness, (found / kinds.sum(0)).log()]))[0, 1]
assert link < -0.7 and pair[0].max() > 0.19 and abs(sum(one) / 300 - 0.51) < 0.03
print(f"✓ effective numbers {few:.0f} and {many:.0f}; likeness, log share {link:.1f}")

# %% [markdown]
# ### Fewer steps, larger betas
#
# The remedy of the main line keeps the sum of the betas. How much that leaves, a series tells:
#
# $$ \log \alpha_1^2 = \sum_k \log(1-\beta_k) = -\sum_k \beta_k - \tfrac12 \sum_k \beta_k^2 - \dots $$
#
# The first sum is the same for any number of steps. The second grows as the betas do, and makes a little more noise.

# %% tags=["check"]
# @title ✓ The ends by a sum of logarithms, and the mended table's
for table in (betas, linear_betas(200), scaled_linear_betas(1000)):
    by_sum = ((1 - table).log().sum() / 2).exp()
    assert abs(FromBetas(table)(1.0)[0] - by_sum) < 1e-6
assert abs(by_sum - 0.068265) < 1e-6  # Stable Diffusion 1's, in Lin et al. 2023
new_betas = linear_betas(200, 0.1 / 200, 20 / 200)
assert abs(new_betas.sum() - betas.sum()) < 1e-9 and new_betas.max() < 1
more = (new_betas.square().sum() - betas.square().sum()) / 2  # the second sum
change = 2 * (FromBetas(new_betas)(1.0)[0] / schedule(1.0)[0]).log()
assert abs(change + more) < 0.03 and change < 0
print(f"✓ both tables have the sum {new_betas.sum():.2f}; with 200 steps log alpha^2",
      f"ends {-change:.2f} lower, by the second sum {more:.2f}")

# %% [markdown]
# ## 11. More bugs
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
#
# **f.** In a much-read article, on the cosine schedule: "$f(t) = \cos\left(\frac{t/T + s}{1 + s} \cdot
# \frac{\pi}{2}\right)$".
#
# <details><summary>Answer</summary>
#
# The square is missing. Halfway, the paper's curve has $\bar\alpha = 0.49$; without the square it is 0.70. (Lil'Log,
# [issue 9](https://github.com/lilianweng/lilianweng.github.io/issues/9) of 2022; the text has been corrected.)
#
# </details>
#
# **g.** A cosine schedule again. Reported twice: the points should end at `timesteps`, not at `steps`.
#
# ```python
# steps = timesteps + 1
# x = np.linspace(0, steps, steps)
# alphas_cumprod = np.cos(((x / steps) + s) / (1 + s) * np.pi * 0.5) ** 2
# ```
#
# <details><summary>Answer</summary>
#
# A false alarm! The points are spaced by $(T+1)/T$, and the division by `steps` is by $T + 1$: two slips that cancel, to
# the last digit. Who mends only the first makes a bug. (denoising-diffusion-pytorch,
# [issue 19](https://github.com/lucidrains/denoising-diffusion-pytorch/issues/19); diffuser,
# [issue 68](https://github.com/jannerm/diffuser/issues/68).)
#
# </details>

# %% tags=["check"]
# @title ✓ What d, e and f do; g is none
angle = (torch.arange(1001).double() / 1000 + 0.008) / 1.008 * torch.pi / 2
alpha_bar = angle.cos() ** 2 / angle[0].cos() ** 2
eps = (pictures[0] - alpha_bar[0].sqrt() * pictures[0]) / (1 - alpha_bar[0]).sqrt()
assert eps.isnan().any()  # d: the noise of "step 1"
left = (1 - torch.linspace(1e-4**2, 0.02**2, 1000) ** 2).prod()
assert left > 0.999 > 0.01 > (1 - scaled_linear_betas(1000, 1e-4, 0.02)).prod()  # e
halfway = float((1 - cosine_betas(1000))[:500].prod()), float(angle[500].cos())
assert abs(halfway[0] - 0.49) < 0.01 and abs(halfway[1] - 0.70) < 0.01  # f
x = torch.linspace(0, 1001, 1001, dtype=torch.float64)
assert torch.allclose((x / 1001 + 0.008) / 1.008 * torch.pi / 2, angle, rtol=1e-12)  # g
print(f"✓ d divides zero by zero; e keeps 99.9 %; f has {halfway[1]:.2f}; g is right")

# %% [markdown]
# ## References
#
# {references}
