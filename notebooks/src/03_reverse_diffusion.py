# %% [markdown]
# # 03 · Reverse diffusion
#
# **Adding noise was easy: one line. Can it be undone, one small step at a time?** Chapter 02 turned data into
# noise. This one finds out what walking back means exactly, what we would have to know in order to do it, and
# then does it.
#
# **You will build** the exact step back when the clean picture is known, the true step back for data whose
# density is known, the best possible denoiser, and with it your first sampler: noise goes in, data comes out,
# and no network is trained.
#
# **You need** chapter 02, and rules of probability no deeper than Bayes'. On two CPU cores the notebook takes
# half a minute and less than 1 GB of memory.

# %%
import torch

from minidiff import FromBetas, Mixture, linear_betas
from minidiff.course import plot

torch.set_default_dtype(torch.float64)  # formulas are checked to many digits here


# %%
def seeded(seed):
    return torch.Generator().manual_seed(seed)


# %% [markdown]
# ## What chapter 02 left us
#
# The DDPM paper counts steps $t = 1, \ldots, T$, and so do the formulas of sections 1 to 4. Step $t$ shrinks the
# picture a little and adds noise of variance $\beta_t$; with $\alpha_t = 1 - \beta_t$ and the product
# $\bar\alpha_t = \alpha_1 \alpha_2 \cdots \alpha_t$, where $\bar\alpha_0 = 1$,
#
# $$
# q(x_t \mid x_{t-1}) = \mathcal{N}(x_t;\ \sqrt{\alpha_t}\, x_{t-1},\ \beta_t I), \qquad
# q(x_t \mid x_0) = \mathcal{N}(x_t;\ \sqrt{\bar\alpha_t}\, x_0,\ (1 - \bar\alpha_t) I).
# $$
#
# $q$ is what the noise really does, $\mathcal{N}(x; m, v)$ is the density at $x$ of a Gaussian of mean $m$
# and *variance* $v$, and $I$ says that every pixel has that variance and is independent of the others. In code
# we call the counter `k`; index 0 of each table means "no step yet".

# %%
T = 1000
betas = torch.cat([torch.zeros(1), linear_betas(T)])  # betas[k] is the paper's beta_k
alphas = 1 - betas
alpha_bar = alphas.cumprod(0)

# %%
print(f"{alpha_bar[0]:.0f} at the start, {alpha_bar[T]:.1e} at the end")

# %% [markdown]
# > **The package's letters.** Its time is $t = k / T$, from 0 (data) to 1 (noise), and $x_t$ at time $k/T$ is the
# > same state as $x_k$ at step $k$. Its schedule gives
# > $\alpha(t) = \sqrt{\bar\alpha_k}$ and $\sigma(t) = \sqrt{1 - \bar\alpha_k}$, so that
# > $x_t = \alpha x_0 + \sigma \epsilon$ with standard normal noise $\epsilon$. **Beware: the paper's
# > $\alpha_t = 1 - \beta_t$ and the package's $\alpha$ are two different things.**

# %%
schedule = FromBetas(linear_betas(T))
alpha, sigma = schedule(0.3)
assert torch.isclose(alpha, alpha_bar[300].sqrt()) and torch.isclose(sigma, (1 - alpha_bar[300]).sqrt())

# %% [markdown]
# ## 1. The wish: walk back
#
# ### Taking noise away blindly
#
# If a step forward is "shrink, then add noise", shouldn't the step back be "subtract noise, then stretch"?
#
# *Predict: take a picture 200 steps forward, and then 200 such steps back. What do you see?*

# %%
from minidiff import add_noise
from minidiff.data import load

# %%
noise = seeded(0)
clothes = load("fashion").tensor().double()
x0 = clothes[[0, 1, 5, 8]]
x_200 = add_noise(x0, torch.randn(x0.shape, generator=noise), 200 / T, schedule)

# %%
x = x_200
for k in range(200, 0, -1):
    z = torch.randn(x.shape, generator=noise)
    x = (x - betas[k].sqrt() * z) / alphas[k].sqrt()

# %%
alt = "Three rows: clothes; clothes in noise; clothes in even more noise."
titles = ["clean"] * 4 + ["200 forward"] * 4 + ['200 "back"'] * 4
plot.images(torch.cat([x0, x_200, x]), alt, columns=4, titles=titles)

# %% [markdown]
# Above the pictures, in the middle after 200 steps forward, below after 200 steps "back": worse than before.
# What we subtracted is not *the* noise that is in the picture but a new draw, and the difference of two
# independent Gaussians is a wider Gaussian: variances add, whatever the sign.
#
# How much wider? Stretching alone
# would leave noise of variance $(1 - \bar\alpha_t) / \bar\alpha_t = 1/\bar\alpha_t - 1$. On top of it comes what
# we subtracted: the draw of step $i$, of variance $\beta_i$, is stretched by that step and by all that follow, down
# to step 1, in all by $1/\sqrt{\bar\alpha_i}$. As $\beta_i / \bar\alpha_i = (1 - \alpha_i) / \bar\alpha_i =
# 1/\bar\alpha_i - 1/\bar\alpha_{i-1}$, the sum telescopes:
#
# $$
# \sum_{i=1}^{t} \frac{\beta_i}{\bar\alpha_i}
# = \sum_{i=1}^{t} \left( \frac{1}{\bar\alpha_i} - \frac{1}{\bar\alpha_{i-1}} \right)
# = \frac{1}{\bar\alpha_t} - 1 ,
# $$
#
# the same once more. Blind subtraction doubles the noise.

# %%
k = 200
stretched, walked = (x_200 / alpha_bar[k].sqrt() - x0).var(), (x - x0).var()
assert torch.isclose(stretched, 1 / alpha_bar[k] - 1, rtol=0.05) and torch.isclose(walked, 2 * stretched, rtol=0.05)
print(f"variance of the noise after stretching alone {stretched:.2f}, after the walk back {walked:.2f}")

# %% [markdown]
# ### One giant step
#
# Then forget about steps: look at the noise and guess the picture, all at once.
#
# *Predict: you see nothing but noise, and your guess will be judged by its squared error. What do you draw?*

# %%
guess = clothes.mean(0, keepdim=True)
alt = "A grey blur that is shirt, shoe and bag at once; then seven clear pictures."
plot.images(torch.cat([guess, clothes[:7]]), alt, titles=["mean of all"] + ["picture"] * 7)

# %% [markdown]
# The mean of all pictures, the blur on the left: the guess of least squared error (section 7 proves it), and
# no picture at all. One giant step gives an *average*, never a *sample*. Whatever we do must be random, and
# the randomness must be the right one.
#
# ### What Bayes says
#
# The right randomness has a name: the distribution of $x_{t-1}$ given $x_t$. Bayes' rule turns it into things
# we know:
#
# $$
# q(x_{t-1} \mid x_t) = \frac{q(x_t \mid x_{t-1})\; q(x_{t-1})}{q(x_t)}, \qquad
# q(x_{t-1}) = \int q(x_{t-1} \mid x_0)\; q(x_0)\, dx_0 . \tag{3.1}
# $$
#
# As a function of $x_{t-1}$ this is the *true reverse kernel*, what a perfect step back draws from. The first
# factor is one step of noise: known. The denominator $q(x_t)$ does not contain $x_{t-1}$; it only normalises. But
# $q(x_{t-1})$ asks how likely each noisy picture is *among all noisy pictures of the world*, an integral over the
# data distribution $q(x_0)$. For numbers (one dimension) a grid can do it.

# %%
x = torch.linspace(-6, 6, 2401)  # a grid for one number
dx = x[1] - x[0]


def normal(x, mean, variance):
    return torch.exp(-((x - mean) ** 2) / (2 * variance)) / (2 * torch.pi * variance) ** 0.5


# %%
def marginal(data, k):
    """q(x_k) on the grid, for data with the density `data` on the grid: the integral of (3.1) as a sum."""
    likely = normal(x[:, None], alpha_bar[k].sqrt() * x, 1 - alpha_bar[k])  # (where x_k is, where x_0 was)
    return likely @ data * dx


# %% [markdown]
# Two worlds: in one, data are near $-1.2$ or $0.8$; in the other they are spread out as a Gaussian. Mean and
# variance are the same, 0 and 1. Nothing in (3.1) needs $t-1$ and $t$ to be neighbours; from step 400 to step
# 100 the eye sees more. (The way from 100 to 400 is (2.5), which in $\bar\alpha$ reads: shrink by
# $\sqrt{\bar\alpha_{400} / \bar\alpha_{100}}$, add noise of variance $1 - \bar\alpha_{400} / \bar\alpha_{100}$.)
#
# *Predict: in both worlds we stand at $x_{400} = 0$. Where was each likely to be at step 100?*

# %%
two_humps = 0.4 * normal(x, -1.2, 0.04) + 0.6 * normal(x, 0.8, 0.04)
one_hump = normal(x, 0, 1)
shrink = alpha_bar[400] / alpha_bar[100]  # what alpha is for one step, for these 300
came_here = normal(0.0, shrink.sqrt() * x, 1 - shrink)  # q(x_400 = 0 | x_100), for each x_100

# %%
back = {}
for name, data in {"two humps": two_humps, "one hump": one_hump}.items():
    joint = came_here * marginal(data, 100)
    back[name] = joint / (joint.sum() * dx)

# %%
alt = "Where x was: two far peaks for the data with two humps, one wide peak for the other."
plot.curves(x, back, alt, "$x_{100}$", "density", title="where it was, given $x_{400} = 0$")

# %% [markdown]
# The same noise, the same place, and different answers: **the way back depends on the data.** That is good
# news, for it is how data can come out at the end; and bad news for pictures, where the grid would have
# $2401^{1024}$ points. The integral in (3.1) is *intractable*: true, well defined, and out of reach.
#
# ## 2. If the picture were known
#
# Suppose that somebody tells us $x_0$. Then the integral disappears, as each factor is asked about one
# picture only:
#
# $$
# q(x_{t-1} \mid x_t, x_0) = \frac{q(x_t \mid x_{t-1})\; q(x_{t-1} \mid x_0)}{q(x_t \mid x_0)} . \tag{3.2}
# $$
#
# (The first factor would be $q(x_t \mid x_{t-1}, x_0)$; but noise has no memory, so $x_0$ says nothing that
# $x_{t-1}$ does not.) All three are Gaussians that we know, and the denominator, once more free of $x_{t-1}$, need
# not even be computed. The brute force first: one number, $x_0 = 0.8$, seen at step $k = 5$ as $x_5 = 0.75$.
# Careful: as a function of $x_4$ the first factor is a *likelihood*, how well each $x_4$ explains what was seen; it
# need not integrate to 1.
#
# *Predict: $x_4$ lies between what two witnesses say, $x_0$ and $x_5$. Which does it listen to more?*

# %%
k, x_t, x_0 = 5, torch.tensor(0.75), torch.tensor(0.8)
near = torch.linspace(0.6, 1.0, 4001)  # a finer grid, for x_4
says_x_t = normal(x_t, alphas[k].sqrt() * near, betas[k])  # q(x_5 | x_4)
says_x_0 = normal(near, alpha_bar[k - 1].sqrt() * x_0, 1 - alpha_bar[k - 1])  # q(x_4 | x_0)

# %%
both = says_x_t * says_x_0
both = both / torch.trapezoid(both, near)

# %%
lines = {"what $x_5$ says": says_x_t, "what $x_0$ says": says_x_0, "both: $q(x_4 | x_5, x_0)$": both}
alt = "Two bells, left and right; their product is a narrower bell between them."
plot.curves(near, lines, alt, "$x_4$", "density")

# %% [markdown]
# The product is again a bell, narrower than either, and nearer to the narrower one, that of $x_5$: two witnesses
# together know more than each, and the surer one counts for more. That is a theorem about any two Gaussians
# ($\propto$ means equal up to a factor without $x$):
#
# $$
# \mathcal{N}(x; m_1, v_1)\; \mathcal{N}(x; m_2, v_2) \;\propto\; \mathcal{N}(x; m, v), \qquad
# \frac{1}{v} = \frac{1}{v_1} + \frac{1}{v_2}, \qquad
# m = v \left( \frac{m_1}{v_1} + \frac{m_2}{v_2} \right). \tag{3.3}
# $$
#
# *Precisions* (one over variance) *add; means are averaged by precision.* The proof completes a square. The
# exponent of the product is
#
# $$
# -\frac{(x - m_1)^2}{2 v_1} - \frac{(x - m_2)^2}{2 v_2}
# = -\frac{1}{2} \Big[ \underbrace{\Big( \frac{1}{v_1} + \frac{1}{v_2} \Big)}_{1 / v} x^2
#   - 2 \underbrace{\Big( \frac{m_1}{v_1} + \frac{m_2}{v_2} \Big)}_{m / v} x \Big] + \text{const}
# = -\frac{(x - m)^2}{2 v} + \text{const},
# $$
#
# and what does not depend on $x$ is taken care of by the normalisation: a density integrates to 1.

# %%
def product(m_1, v_1, m_2, v_2):
    v = 1 / (1 / v_1 + 1 / v_2)
    return v * (m_1 / v_1 + m_2 / v_2), v


# %% [markdown]
# Now to our two witnesses. $x_0$ says: mean $m_2 = \sqrt{\bar\alpha_{t-1}}\, x_0$, variance
# $v_2 = 1 - \bar\alpha_{t-1}$. And $x_t$ says, after the shrinking is undone: mean
# $m_1 = x_t / \sqrt{\alpha_t}$, variance $v_1 = \beta_t / \alpha_t$, because
#
# $$
# \frac{(x_t - \sqrt{\alpha_t}\, x_{t-1})^2}{\beta_t}
# = \frac{(x_{t-1} - x_t / \sqrt{\alpha_t})^2}{\beta_t / \alpha_t} .
# $$

# %%
m_1, v_1 = x_t / alphas[k].sqrt(), betas[k] / alphas[k]
m_2, v_2 = alpha_bar[k - 1].sqrt() * x_0, 1 - alpha_bar[k - 1]
mean, variance = product(m_1, v_1, m_2, v_2)
print(f"mean {mean:.3f}, standard deviation {variance.sqrt():.4f}")

# %% [markdown]
# And the grid, which knows nothing of the theorem:

# %%
grid_mean = torch.trapezoid(near * both, near)
grid_variance = torch.trapezoid((near - grid_mean) ** 2 * both, near)
print(f"the grid: mean {grid_mean:.3f}, standard deviation {grid_variance.sqrt():.4f}")

# %%
assert torch.allclose(mean, grid_mean, atol=1e-6) and torch.allclose(variance, grid_variance, rtol=1e-6)
assert torch.allclose(normal(near, mean, variance), both, atol=1e-6)  # the whole bell

# %% [markdown]
# ### The formula of the paper
#
# Put the four numbers into (3.3). For one step, the precisions add up to
#
# $$
# \frac{1}{v} = \frac{\alpha_t}{\beta_t} + \frac{1}{1 - \bar\alpha_{t-1}}
# = \frac{\alpha_t (1 - \bar\alpha_{t-1}) + \beta_t}{\beta_t (1 - \bar\alpha_{t-1})}
# = \frac{1 - \bar\alpha_t}{\beta_t (1 - \bar\alpha_{t-1})},
# $$
#
# since $\alpha_t \bar\alpha_{t-1} = \bar\alpha_t$ and $\alpha_t + \beta_t = 1$. So $v = \beta_t\,
# (1 - \bar\alpha_{t-1}) / (1 - \bar\alpha_t)$, and it multiplies
# $m_1 / v_1 = \sqrt{\alpha_t}\, x_t / \beta_t$ and
# $m_2 / v_2 = \sqrt{\bar\alpha_{t-1}}\, x_0 / (1 - \bar\alpha_{t-1})$.
#
# Nothing here needs neighbours. Let $s < t$ be any two times, in the package's letters, where $\alpha_s$, $\sigma_s$
# are short for $\alpha(s)$, $\sigma(s)$ (so $\alpha_s$ is *not* the paper's $\alpha_t$ at step $s$), with $x_t =
# \alpha_{ts}\, x_s + \sigma_{ts}\, \epsilon$ from (2.5). The two witnesses say $x_t / \alpha_{ts}$ with variance
# $\sigma_{ts}^2 / \alpha_{ts}^2$, and $\alpha_s x_0$ with variance $\sigma_s^2$. The precisions add up to
# $(\alpha_{ts}^2 \sigma_s^2 + \sigma_{ts}^2) / (\sigma_{ts}^2 \sigma_s^2) = \sigma_t^2 / (\sigma_{ts}^2 \sigma_s^2)$,
# by (2.5) again. Here they are, DDPM's posterior $q(x_{t-1} \mid x_t, x_0) = \mathcal{N}(x_{t-1};\ \tilde\mu_t,\
# \tilde\beta_t I)$, and the same for any $s < t$:
#
# $$
# \begin{aligned}
# \tilde\mu_t(x_t, x_0) &= \frac{\sqrt{\alpha_t}\, (1 - \bar\alpha_{t-1})}{1 - \bar\alpha_t}\, x_t
#   + \frac{\sqrt{\bar\alpha_{t-1}}\, \beta_t}{1 - \bar\alpha_t}\, x_0, \qquad
# \tilde\beta_t = \frac{1 - \bar\alpha_{t-1}}{1 - \bar\alpha_t}\, \beta_t, \\
# q(x_s \mid x_t, x_0) &= \mathcal{N}\!\left( x_s;\ \frac{\alpha_{ts}\, \sigma_s^2}{\sigma_t^2}\, x_t
#   + \frac{\alpha_s\, \sigma_{ts}^2}{\sigma_t^2}\, x_0,\
# \frac{\sigma_{ts}^2\, \sigma_s^2}{\sigma_t^2} I \right).
# \end{aligned} \tag{3.4}
# $$

# %%
def step_back(x_t, x_0, k):
    from_noisy = alphas[k].sqrt() * (1 - alpha_bar[k - 1]) / (1 - alpha_bar[k])
    from_clean = alpha_bar[k - 1].sqrt() * betas[k] / (1 - alpha_bar[k])
    variance = (1 - alpha_bar[k - 1]) / (1 - alpha_bar[k]) * betas[k]
    return from_noisy * x_t + from_clean * x_0, variance


# %%
assert torch.allclose(torch.stack(step_back(x_t, x_0, k)), torch.stack([grid_mean, grid_variance]), rtol=1e-6)
spread = [step_back(x_t, x_0, k)[1].sqrt().item() for k in (5, 2, 1)]
print(f"std from 5 to 4: {spread[0]:.4f}, from 2 to 1: {spread[1]:.4f}, from 1 to 0: {spread[2]:.0f}")

# %% [markdown]
# The last step, from 1 to 0, has no noise: who knows $x_0$ has nothing left to guess. Pixels of a picture are
# independent given $x_0$ and $x_t$, so for a picture the formula is the same, pixel by pixel.
#
# The package's `posterior` is the second line of (3.4). It returns a `Gaussian`, a pair of `mean` and `std`, from
# which one can `sample`.

# %%
from minidiff import posterior

plot.show_source(posterior)

# %% [markdown]
# The grid knows nothing of neighbours either. From step 400 to step 100, with $x_{400} = 0.3$ and $x_0 = 0.8$:

# %%
says_x_0 = normal(x, alpha_bar[100].sqrt() * 0.8, 1 - alpha_bar[100])  # q(x_100 | x_0), on the wide grid
far = normal(0.3, shrink.sqrt() * x, 1 - shrink) * says_x_0
far = far / (far.sum() * dx)
kernel = posterior(torch.tensor([0.3]), torch.tensor([0.8]), 100 / T, 400 / T, schedule)
assert torch.allclose(normal(x, kernel.mean, kernel.std**2), far, atol=1e-6)
print(f"from 400 to 100: mean {kernel.mean.item():.2f}, standard deviation {kernel.std.item():.2f}, as on the grid")

# %% [markdown]
# With $s$ and $t$ one step apart, $\alpha_{ts} = \sqrt{\alpha_t}$ and $\sigma_{ts}^2 = \beta_t$, and `posterior` is our
# `step_back`:

# %%
x_t, x_0 = torch.randn(2, 5, 3, generator=seeded(1))
for k in (1, 2, 300, 999, 1000):
    mean, variance = step_back(x_t, x_0, k)
    package = posterior(x_t, x_0, (k - 1) / T, k / T, schedule)
    assert torch.allclose(mean, package.mean, atol=1e-8)
    assert torch.allclose(variance.sqrt(), package.std, atol=1e-8)

# %% [markdown]
# Equal, at the first step, in the middle and at the last. From here on we use `posterior`, for any two times.
#
# ## 3. The same mean, in terms of the noise
#
# A network may guess the noise instead of the picture. As
# $x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\, \epsilon$, whoever knows $x_t$ and $\epsilon$
# knows $x_0 = (x_t - \sqrt{1 - \bar\alpha_t}\, \epsilon) / \sqrt{\bar\alpha_t}$. With that in (3.4), and
# $\sqrt{\bar\alpha_{t-1}} / \sqrt{\bar\alpha_t} = 1/\sqrt{\alpha_t}$, the coefficients of $x_t$ and of $\epsilon$
# become
#
# $$
# \begin{aligned}
# \frac{\sqrt{\alpha_t}\, (1 - \bar\alpha_{t-1})}{1 - \bar\alpha_t}
# + \frac{\sqrt{\bar\alpha_{t-1}}\, \beta_t}{(1 - \bar\alpha_t) \sqrt{\bar\alpha_t}}
# &= \frac{\alpha_t (1 - \bar\alpha_{t-1}) + \beta_t}{(1 - \bar\alpha_t) \sqrt{\alpha_t}}
# = \frac{1}{\sqrt{\alpha_t}}, \\
# -\frac{\sqrt{\bar\alpha_{t-1}}\, \beta_t}{1 - \bar\alpha_t} \cdot
# \frac{\sqrt{1 - \bar\alpha_t}}{\sqrt{\bar\alpha_t}}
# &= -\frac{1}{\sqrt{\alpha_t}} \cdot \frac{\beta_t}{\sqrt{1 - \bar\alpha_t}},
# \end{aligned}
# $$
#
# and together
#
# $$
# \tilde\mu_t = \frac{1}{\sqrt{\alpha_t}}
# \left( x_t - \frac{\beta_t}{\sqrt{1 - \bar\alpha_t}}\, \epsilon \right). \tag{3.5}
# $$

# %%
eps = torch.randn(5, 3, generator=seeded(2))
for k in (1, 300, 1000):
    x_t = add_noise(x_0, eps, k / T, schedule)
    by_noise = (x_t - betas[k] / (1 - alpha_bar[k]).sqrt() * eps) / alphas[k].sqrt()
    assert torch.allclose(by_noise, step_back(x_t, x_0, k)[0], atol=1e-10)

# %% [markdown]
# Compare with the blind walk of section 1. There we subtracted $\sqrt{\beta_t}\, z$ with a $z$ of our own;
# (3.5) subtracts $\epsilon$, the noise that *is* in the picture, and less of it.
#
# *Predict: how much less, at steps 1, 10, 100 and 500?*

# %%
for k in (1, 10, 100, 500):
    right, blind = betas[k] / (1 - alpha_bar[k]).sqrt(), betas[k].sqrt()
    print(f"step {k:3}: right {right:.4f}, blind {blind:.4f}, ratio {right / blind:.2f}")

# %% [markdown]
# At step 1 as much, for there the last dose *is* all the noise; in the middle ten times less. The noise in the
# picture, $\sqrt{1 - \bar\alpha_t}\, \epsilon$, is a sum: what was there before, shrunk to
# $\sqrt{\alpha_t (1 - \bar\alpha_{t-1})}\, \epsilon_{t-1}$, and the last step's $\sqrt{\beta_t}\, z$. Seeing only
# the sum, what would you say the last step added? The best straight line through $\sqrt{\beta_t}\, z$ as a
# function of $\epsilon$ has the slope $E[\sqrt{\beta_t}\, z\, \epsilon] / E[\epsilon^2]
# = \beta_t / \sqrt{1 - \bar\alpha_t}$: just what (3.5) takes away.

# %%
before, z = torch.randn(2, 1_000_000, generator=seeded(17))
eps = ((alphas[k] * (1 - alpha_bar[k - 1])).sqrt() * before + betas[k].sqrt() * z) / (1 - alpha_bar[k]).sqrt()

# %%
# slope of the best line that tells sqrt(beta) z from eps
share = (betas[k].sqrt() * z * eps).mean() / eps.square().mean()
assert torch.isclose(share, right, rtol=0.05)
print(f"share of the last step in the noise at step 500, measured: {share:.4f}")

# %% [markdown]
# ## 4. Which variance?
#
# $\tilde\beta_t$ is the variance of a step back for one who knows $x_0$. We do not. How much more uncertain
# are we?
#
# *Predict: if all data were one single picture, what would the true variance of a step back be? And if the
# data were pure noise?*
#
# A step back can be drawn in two stages: first $x_0$ from $q(x_0 \mid x_t)$, then $x_{t-1} = \tilde\mu_t(x_t,
# x_0) + \sqrt{\tilde\beta_t}\, z$ with independent $z$. So the two uncertainties add (the *law of total
# variance*), and in $\tilde\mu_t$ only the term with $x_0$ is uncertain: first line below.
#
# Now take data that are
# Gaussian with variance $c^2$. Then $q(x_{t-1})$ in (3.1) is Gaussian as well, with variance $V =
# \bar\alpha_{t-1} c^2 + 1 - \bar\alpha_{t-1}$, and (3.3) adds precisions once more, $\alpha_t / \beta_t + 1 / V$:
# second line. With $c = 0$ that is $1 / \tilde\beta_t$; with $c = 1$ it is $(\alpha_t + \beta_t) / \beta_t = 1 /
# \beta_t$. The third line says that these two are the bounds for *any* data of variance at most 1.
#
# $$
# \begin{aligned}
# \mathrm{Var}(x_{t-1} \mid x_t) &= \tilde\beta_t
# + \left( \frac{\sqrt{\bar\alpha_{t-1}}\, \beta_t}{1 - \bar\alpha_t} \right)^{\!2} \mathrm{Var}(x_0 \mid x_t) \\
# &= \frac{\beta_t V}{\alpha_t V + \beta_t}
# \quad \text{for Gaussian data, with } V = 1 - \bar\alpha_{t-1} + \bar\alpha_{t-1} c^2 ; \\
# \underbrace{\tilde\beta_t}_{c = 0} &\le\; E\big[ \mathrm{Var}(x_{t-1} \mid x_t) \big]
# \;\le \underbrace{\beta_t}_{c = 1} .
# \end{aligned} \tag{3.6}
# $$
#
# **Proof of the bounds.** The lower one: a variance is never negative, and so it holds at every single $x_t$. The
# upper one: on average over $x_t$, $\mathrm{Var}(x_0 \mid x_t)$ is the squared error of the best guess at $x_0$,
# and so at most that of the best *straight line*. The error of a line depends on nothing but variances, and grows
# with that of the data. So it is at most what it is for Gaussian data with $c = 1$; there the straight line *is* the
# best guess, and the second line gives $\beta_t$. $\blacksquare$

# %%
def reverse_variance(c):
    V = 1 - alpha_bar[:-1] + alpha_bar[:-1] * c**2  # for k = 1, ..., T
    return betas[1:] * V / (alphas[1:] * V + betas[1:])


# %%
k = torch.arange(1, T + 1)
beta_tilde = step_back(0.0, 0.0, k)[1]
assert torch.allclose(reverse_variance(0.0), beta_tilde) and torch.allclose(reverse_variance(1.0), betas[1:])

# %%
unknown = product(0.0, 0.5**2, 0.0, (1 - alpha_bar[1:]) / alpha_bar[1:])[1]  # Var(x_0 | x_t) for c = 0.5, by (3.3)
from_clean = step_back(0.0, 1.0, k)[0]  # the factor of x_0 in (3.4)
assert torch.allclose(beta_tilde + from_clean**2 * unknown, reverse_variance(0.5))

# %% [markdown]
# An independent answer: the exact reverse of a `Mixture` with one component, which section 6 will explain.

# %%
for c in (0.1, 0.5):
    one = Mixture(torch.ones(1), torch.zeros(1, 1), torch.tensor([c]))
    for step in (2, 10, 300):
        kernel = one.reverse(torch.zeros(1), (step - 1) / T, step / T, schedule)
        assert torch.isclose(kernel.stds[0, 0] ** 2, reverse_variance(c)[step - 1], rtol=1e-6)

# %%
ratio = reverse_variance(0.0) / betas[1:]
assert ratio[1] < 0.5 and 0.975 < ratio[99] < 0.985
lines = {f"data of std {c}": reverse_variance(c) / betas[1:] for c in (1.0, 0.03, 0.01, 0.003, 0.0)}

# %%
alt = "Five curves that meet at 1 for late steps; at the first they lie between 0 for c = 0 and 1 for c = 1."
plot.curves(k, lines, alt, "step $k$", r"reverse variance $/\ \beta_k$", xscale="log")

# %% [markdown]
# The top line is $\beta$, the bottom curve $\tilde\beta$. At step 2 $\tilde\beta$ is less than half of
# $\beta$, at step 100 two per cent less: for most of the walk the choice hardly matters, and in its last few
# steps it decides how the finest grains are drawn. Data of standard deviation 0.03 are already nearer to
# $\beta$.
#
# The lower bound holds for any data, the upper one for data whose variance is at most 1: one reason to scale
# pictures to $[-1, 1]$. (Section 6 puts both to the test, on data that are not Gaussian.) DDPM's authors tried
# both and saw little difference with 1000 steps. The package samples with $\tilde\beta$, which leaves no noise
# behind; the bound of chapter 04 is computed with $\beta$.
#
# ## 5. An exact world
#
# To see the true reverse without an integral we need rich data whose density we know exactly: a mixture of
# Gaussians, where each point first picks component $j$ with probability $w_j$ and is then drawn around the
# mean $m_j$ with standard deviation $c_j$.
#
# **From here to section 7** $s < t$ are times, as in `posterior`;
# $\alpha$ and $\sigma$ are the package's at time $t$, and $\alpha_s, \sigma_s$ those at time $s$. Write $p_t(x)$ for
# the density of $x_t$: what (3.1) calls $q(x_t)$. Noise turns each component into a Gaussian again, by the rule for
# sums of chapter 02: $\alpha x_0$ has mean $\alpha m_j$ and variance $\alpha^2 c_j^2$, and noise adds $\sigma^2$. So
# **a mixture stays a mixture**:
#
# $$
# p_t(x) = \sum_j w_j\, \mathcal{N}(x;\ \alpha m_j,\ \alpha^2 c_j^2 + \sigma^2) . \tag{3.7}
# $$

# %%
means, stds = torch.tensor([[-1.2], [0.8]]), torch.tensor([0.2, 0.2])
two = Mixture(torch.tensor([0.4, 0.6]), means, stds)


# %%
def noisy_components(x, t):
    """w_j N(x; ...) for each component, (2, N) for a grid of N."""
    alpha, sigma = schedule(t)
    return two.weights[:, None] * normal(x, alpha * two.means, alpha**2 * two.stds[:, None] ** 2 + sigma**2)


# %% [markdown]
# The check: the integral of (3.1) on the grid, from section 1, and the package.

# %%
for t in (0.05, 0.3, 1.0):
    density = noisy_components(x, t).sum(0)
    assert torch.allclose(density, marginal(two_humps, int(t * T)), atol=1e-6)
    assert torch.allclose(density, two.log_prob(x[:, None], t, schedule).exp(), atol=1e-12)

# %% [markdown]
# *Predict: at which time do the two humps become one?*

# %%
from minidiff.course.widgets import film


def density_frame(t):
    alt = "Two humps sink, move together and become one bell as t grows."
    picture, (ax,) = plot.figure(alt, width=5, height=2.4)
    ax.fill_between(x, noisy_components(x, t).sum(0), alpha=0.4)
    ax.plot(x, noisy_components(x, t).T, linewidth=0.8)
    ax.set(xlim=(-3.2, 3.2), ylim=(0, 1.25), xlabel="$x_t$", ylabel="density", title=f"t = {t:.2f}")
    return picture


film([density_frame(t) for t in torch.linspace(0, 1, 26).tolist()], ms=150)

# %% [markdown]
# The shaded density starts with two humps. Its components, the thin lines, drift towards 0 and swell; at
# $t = 0.22$ the last valley between them is gone, and at $t = 1$ what remains is the standard Gaussian.

# %%
def humps(density):
    return int(((density[1:-1] > density[:-2]) & (density[1:-1] > density[2:])).sum())


assert [humps(noisy_components(x, t).sum(0)) for t in (0.1, 0.21, 0.22, 1.0)] == [2, 2, 1, 1]

# %% [markdown]
# ## 6. The true step back, and why steps are small
#
# Within one component everything is Gaussian, so (3.3) gives the step back, with the component's own noisy
# density as the second witness: mean $\alpha_s m_j$, variance $V_j = \alpha_s^2 c_j^2 + \sigma_s^2$. Which
# component it was is uncertain, and $x_t$ is the evidence: the *responsibility* $r_j(x_t)$, the probability of
# component $j$ given $x_t$, is its share in the density (3.7) at $x_t$. By the rule of total probability,
# $q(x_s \mid x_t) = \sum_j r_j(x_t)\, q(x_s \mid x_t, j)$, that is
#
# $$
# \begin{aligned}
# q(x_s \mid x_t) &= \sum_j r_j(x_t)\; \mathcal{N}(x_s;\ \mu_j,\ v_j), \qquad
# r_j(x_t) = \frac{w_j\, \mathcal{N}(x_t;\ \alpha m_j,\ \alpha^2 c_j^2 + \sigma^2)}{p_t(x_t)}, \\
# \frac{1}{v_j} &= \frac{\alpha_{ts}^2}{\sigma_{ts}^2} + \frac{1}{V_j}, \qquad
# \mu_j = v_j \left( \frac{\alpha_{ts}\, x_t}{\sigma_{ts}^2} + \frac{\alpha_s m_j}{V_j} \right).
# \end{aligned} \tag{3.8}
# $$
#
# A mixture again, and *a mixture of two Gaussians is not a Gaussian.*

# %%
from minidiff import transition


def way_back(x_t, s, t):
    """q(x_s | x_t) on the grid."""
    share = noisy_components(x_t, t)
    alpha, sigma = schedule(s)
    a, b = transition(s, t, schedule)  # alpha_ts, sigma_ts
    V = alpha**2 * two.stds[:, None] ** 2 + sigma**2
    mean, variance = product(x_t / a, b**2 / a**2, alpha * two.means, V)
    return (share / share.sum() * normal(x, mean, variance)).sum(0)


# %%
here = torch.tensor(0.0)
kernel = two.reverse(here[None], 0.1, 0.4, schedule)
assert torch.allclose(way_back(here, 0.1, 0.4), kernel.log_prob(x[:, None], 0.0, schedule).exp(), atol=1e-12)
assert torch.allclose(way_back(here, 0.1, 0.4), back["two humps"], atol=1e-6)

# %% [markdown]
# Equal to the package's `Mixture.reverse`, and to the brute force of section 1 (steps 400 and 100 are times
# 0.4 and 0.1).
#
# *Predict: we stand at $x_t = 0$, $t = 0.4$. Where were we a step ago, if steps are long? If they are short?*

# %%
def moments(density):
    mean = (x * density).sum() * dx
    return mean, ((x - mean) ** 2 * density).sum() * dx


def draw_kernel(ax, step, t=0.4):
    true = way_back(here, t - step, t)
    ax.plot(x, true, label="true")
    ax.plot(x, normal(x, *moments(true)), "--", label="best Gaussian")
    ax.set(title=f"step {step:.2f}", xlabel="$x_s$", xlim=(-2, 2))


# %%
alt = "The kernel for three steps: two humps, a lopsided hump, a bell that its Gaussian covers."
picture, axes = plot.figure(alt, 3, width=9, height=2.6)
for ax, step in zip(axes, (0.35, 0.2, 0.05), strict=True):
    draw_kernel(ax, step)
axes[0].set_ylabel("density")
axes[0].legend()
picture

# %% [markdown]
# Left: the true step back has two humps, and the best Gaussian, that of the same mean and variance, puts its
# weight into the valley between them, where no data are. Right: the true step is a bell. **A long step back is not
# Gaussian; a short one nearly is.** Here is why. By (3.1) the kernel is a product of two functions of $x_s$. Over a
# short step the first, $\mathcal{N}(x_t;\ \alpha_{ts} x_s,\ \sigma_{ts}^2)$, is so narrow that across it the
# logarithm of the second is almost a straight line:
#
# $$
# \log p_s(x_s) \approx \log p_s(x_t) + (x_s - x_t)\, \nabla \log p_s(x_t) .
# $$
#
# A Gaussian times the exponential of a straight line is the same Gaussian, moved: here by about $\sigma_{ts}^2$
# times the slope. That slope of a log density, the *score*, comes back in chapter 05.

# %%
import ipywidgets

from minidiff.course.widgets import explore


def draw(step):
    alt = "The true reverse kernel for one step, and the Gaussian of its mean and variance."
    picture, (ax,) = plot.figure(alt, height=2.8)
    draw_kernel(ax, step)
    ax.set_ylabel("density")
    ax.legend()
    return picture


slider = ipywidgets.FloatSlider(0.3, min=0.01, max=0.39, step=0.01, continuous_update=False)
slider.description = "step"
_ = explore(draw, step=slider)

# %% [markdown]
# Move the slider to find the step at which the second hump disappears. (Where this page is only being read, you see
# the slider's first position.)

# %%
assert humps(way_back(here, 0.4 - 0.22, 0.4)) == 2 and humps(way_back(here, 0.4 - 0.2, 0.4)) == 1

# %% [markdown]
# We can now also settle a debt of section 4: the first and the third line of (3.6), for data that are not
# Gaussian. At each $x_t$ the variance is a sum of two parts and at least the lower bound; on average it is at
# most the upper one. The step is long enough to have two humps.

# %%
s, t = 0.1, 0.4
p_t = noisy_components(x[::20], t).sum(0)
true = torch.stack([moments(way_back(at, s, t))[1] for at in x[::20]])
lower, upper = posterior(here[None], here[None], s, t, schedule).std ** 2, transition(s, t, schedule)[1] ** 2
average = (p_t * true).sum() / p_t.sum()
assert (true >= lower).all() and lower < average < upper
print(f"lower bound {lower.item():.3f}, average variance {average:.3f}, upper bound {upper:.3f}")

# %%
unknown = torch.stack([moments(way_back(at, 0.0, t))[1] for at in x[::20]])  # Var(x_0 | x_t)
from_clean = posterior(torch.zeros(1), torch.ones(1), s, t, schedule).mean  # the factor of x_0 in (3.4)
assert torch.allclose(true, lower + from_clean**2 * unknown, atol=1e-8)

# %% [markdown]
# ### How fast does it become Gaussian?
#
# One number for "how far from Gaussian": the *Kullback-Leibler divergence* $\int p \log (p / g)$, here from the true
# kernel $p$ to a Gaussian $g$. It is 0 where they are equal and never negative (section 2 of chapter 01 proves it);
# with the natural logarithm its unit is the *nat*. Of all Gaussians the one with the mean $m$ and variance $v$ of $p$
# has the smallest: $g$ enters only through $-\int p \log g$, for a $g$ of mean $a$ and variance $b$ equal to
# $\frac{1}{2}\big( \log 2\pi b + \big(v + (m - a)^2\big) / b \big)$, and that is least at $a = m$, $b = v$. This is
# what "best" means.
#
# But a sampler does not know $v$. What it can compute is the Gaussian with the right mean (section
# 8 will show how) and the variance $\tilde\beta$ of (3.4). Look at both.
#
# *Predict: by what factor do the two divergences shrink if the step is halved: 2, 4 or 8?*

# %%
def distances_from_gaussians(step, x_t=here, t=0.4):
    """KL in nats from the true kernel to the best Gaussian, and to the one with the variance of (3.4): (2,)."""
    true = way_back(x_t, t - step, t)
    mean, variance = moments(true)
    beta_tilde = posterior(x_t[None], x_t[None], t - step, t, schedule).std.squeeze() ** 2
    logs = [-((x - mean) ** 2 / v + (2 * torch.pi * v).log()) / 2 for v in (variance, beta_tilde)]
    return torch.stack([(torch.xlogy(true, true) - true * log).sum() * dx for log in logs])


# %%
lengths = torch.logspace(-2.7, -0.41, 30)
best, sampler = torch.stack([distances_from_gaussians(h) for h in lengths]).T  # (30,) each

# %%
alt = "Two rising lines on logarithmic axes. For short steps they are parallel to the guides: third and second power."
lines = {"best Gaussian": best, r"Gaussian with variance $\tilde\beta$": sampler}
picture = plot.curves(lengths, lines, alt, "step $t - s$", "KL, nats", xscale="log", yscale="log")
short = lengths[lengths < 0.03]
for gap, power, style in ((best, 3, "k:"), (sampler, 2, "k--")):
    picture.axes[0].plot(short, gap[0] / 3 * (short / short[0]) ** power, style, label=f"step$^{power}$")
picture.axes[0].legend()
picture

# %%
slopes = [gap.log().diff() / lengths.log().diff() for gap in (best, sampler)]
for slope, power in zip(slopes, (3, 2), strict=True):
    assert (slope[lengths[1:] < 0.01] - power).abs().max() < 0.25  # and more for longer steps:
    assert slope[(lengths[1:] > 0.05) & (lengths[1:] < 0.2)].min() > power + 0.3
print("power of the step, from 0.002 to 0.0024:", ", ".join(f"{slope[0]:.2f}" for slope in slopes))

# %%
hundredth = distances_from_gaussians(0.01)
assert hundredth[1] > 300 * hundredth[0]
print("nats at step 0.01: best Gaussian {:.1e}, with the variance of (3.4) {:.1e}".format(*hundredth))

# %% [markdown]
# For steps below 0.01 halving divides the first by 8 and the second by 4 (for longer ones by more). The best Gaussian
# differs from the kernel only in *shape*, and that falls with the third power of the step; the sampler's differs in
# its *width* too, by a share that falls with the first power, and the divergence grows as the square of that share.
#
# But the number of steps grows only with the first power of 1/step, so either way the error of a whole walk dies out.
# A walk of many short Gaussian steps can follow any data; a walk of a few long ones cannot. **That is why diffusion
# models take small steps**, and why their networks need no more than a mean.
#
# ## 7. The best guess at the picture
#
# Back to the blur of section 1. A *denoiser* is a function $f(x_t)$ that guesses $x_0$. Which is best in
# squared error? Write $m = E[x_0 \mid x_t]$, the mean over all data that could have become $x_t$, and $|x|^2$ for
# the sum of the squared pixels. For any $f$
#
# $$
# E\,|x_0 - f|^2 = E\,|x_0 - m|^2 + E\,|m - f|^2 ,
# $$
#
# because the mixed term, $2 (x_0 - m) \cdot (m - f)$, has mean 0: average first over $x_0$ at a fixed $x_t$; there
# $m - f$ is fixed too, and $x_0 - m$ is 0 on average. Then average over $x_t$. The first part does not depend on $f$;
# the second is smallest at $f = m$. So the best denoiser is the mean, and for a mixture we can write it down:
#
# $$
# E[x_0 \mid x_t] = \sum_j r_j(x_t)
# \left( m_j + \frac{\alpha c_j^2}{\alpha^2 c_j^2 + \sigma^2}\, (x_t - \alpha m_j) \right) . \tag{3.9}
# $$
#
# Each component guesses its mean, corrected by what $x_t$ says, and the responsibilities average the guesses.
# (A component's own guess is (3.3) once more: witnesses $m_j$ with variance $c_j^2$, and $x_t / \alpha$ with
# variance $\sigma^2 / \alpha^2$.)

# %%
def best_guess(x, t):
    alpha, sigma = schedule(t)
    share = noisy_components(x, t)
    guesses, _ = product(two.means, two.stds[:, None] ** 2, x / alpha, sigma**2 / alpha**2)  # (2, N)
    return (share * guesses).sum(0) / share.sum(0)


assert torch.allclose(best_guess(x, 0.2), two.denoise(x[:, None], 0.2, schedule)[:, 0], atol=1e-10)

# %% [markdown]
# An independent answer, without a formula: draw half a million pairs $(x_0, x_t)$, sort them by $x_t$ into
# narrow bins, and average $x_0$ in each.

# %%
clean = two.sample(500_000, seeded(3))[:, 0]
noisy = add_noise(clean, torch.randn(clean.shape, generator=noise), 0.2, schedule)
bins = ((noisy + 2) / 0.05).floor().long().clamp(0, 79)  # 80 bins of width 0.05 from -2 to 2
found = torch.bincount(bins, clean, 80) / torch.bincount(bins, minlength=80)
centres = torch.linspace(-1.975, 1.975, 80)
error = (found - best_guess(centres, 0.2))[15:65].abs().max()
assert error < 0.05
print(f"largest difference over the 50 inner bins {error:.2f}")

# %% [markdown]
# And is it best? Two other guesses that one might try, on the same pairs: undo the shrinking, and the best
# *straight line*.

# %%
alpha, sigma = schedule(0.2)
guesses = {"best guess": best_guess(noisy, 0.2), "line": alpha * noisy, "undo the shrinking": noisy / alpha}
errors = {name: (clean - guess).square().mean().item() for name, guess in guesses.items()}
assert min(errors, key=errors.get) == "best guess"
print({name: round(error, 3) for name, error in errors.items()})

# %% [markdown]
# (The line $\alpha x_t$ is the best one as the data have variance 1: it is (3.9) for a single Gaussian.)
#
# *Predict: what does the best guess look like as a function of $x_t$, for hardly any noise, for some, for
# nothing but noise?*

# %%
lines = {f"t = {t}": best_guess(x, t) for t in (0.01, 0.2, 0.4, 1.0)}
alt = "A diagonal, two soft steps between the humps, and a flat line."
picture = plot.curves(x, lines, alt, "$x_t$", r"$E[x_0 | x_t]$")
picture.axes[0].set(xlim=(-2, 2), ylim=(-2, 2))
picture

# %% [markdown]
# With hardly any noise it believes what it sees. At $t = 0.2$ it is a soft step: left is one hump, right the
# other, and *between them it hedges*; at $t = 0.4$ it hedges everywhere. At $t = 1$ it sees nothing and says
# the mean, the blur of section 1. No guess between the humps is a plausible data point; all of them are the
# best guess. Both are true, and sampling has to live with it.
#
# ## 8. The first samples
#
# We know the step back if $x_0$ is known (3.4), and the best guess at $x_0$ (3.9). Put the one into the other. In
# the paper's steps, $t = T, \ldots, 1$:
#
# $$
# x_{t-1} = \tilde\mu_t\big(x_t,\ E[x_0 \mid x_t]\big) + \sqrt{\tilde\beta_t}\; z, \qquad
# z \sim \mathcal{N}(0, I), \qquad t = T, \ldots, 1 . \tag{3.10}
# $$
#
# This is *ancestral sampling*: each state is drawn given the one before it in the walk, its ancestor. Is it allowed
# to put an average in the place of $x_0$? For the mean, exactly: $\tilde\mu_t$ is linear in $x_0$, so its average
# over all possible $x_0$ is its value at the average,
#
# $$
# E[x_{t-1} \mid x_t] = E\big[ \tilde\mu_t(x_t, x_0) \,\big|\, x_t \big]
# = \tilde\mu_t\big( x_t,\ E[x_0 \mid x_t] \big) .
# $$
#
# The mean of (3.10) *is* the mean of the true reverse kernel, for steps of any length:

# %%
points = torch.linspace(-1.5, 1.5, 7)
for s, t in ((0.39, 0.4), (0.1, 0.4), (0.2, 0.9)):
    true = torch.stack([moments(way_back(at, s, t))[0] for at in points])
    guess = two.denoise(points[:, None], t, schedule)
    assert torch.allclose(posterior(points[:, None], guess, s, t, schedule).mean[:, 0], true, atol=1e-8)

# %% [markdown]
# What it gets wrong is the rest: a Gaussian instead of a mixture, and $\tilde\beta_t$ instead of a larger
# variance. Section 6 has measured both; they vanish with the step. So walk: in two dimensions now, data in eight
# clusters on a circle, every other one three times as likely and twice as wide.

# %%
from minidiff.data import toy

clusters = Mixture(*(part.double() for part in toy.mixture_parameters()))


def denoise(x, t):
    return clusters.denoise(x, t, schedule)


# %%
def walk_back(x, generator):
    for k in range(T, 0, -1):
        mean, variance = step_back(x, denoise(x, k / T), k)
        x = mean + variance.sqrt() * torch.randn(x.shape, generator=generator)
    return x


# %% [markdown]
# *Predict: 400 points of pure noise go in. What comes out?*

# %%
truth = clusters.sample(2000, seeded(4))
start = torch.randn(400, 2, generator=seeded(5))
ours = walk_back(start, seeded(6))

# %%
alt = "A round cloud; eight clusters; the same eight clusters."
plot.scatter({"noise": start, "after 1000 steps back": ours, "data": truth}, alt)

# %% [markdown]
# Data, out of noise, and nothing was trained. The package's `ddpm` is the same loop for any grid of times and
# any denoiser, and a *generator*: it hands over each state on its way, and `final` takes the last one.

# %%
from minidiff import ddpm, final, times

plot.show_source(ddpm)

# %%
theirs = final(ddpm(denoise, start, times(T), schedule, seeded(6)))
assert torch.allclose(ours, theirs, atol=1e-6)

# %% [markdown]
# The same noise, the same samples. From now on `ddpm`; and as it shows its states, here is the walk in 60
# steps.

# %%
def crowd_frame(state):
    alt = "Six hundred points walk from a round cloud into eight clusters."
    picture, (ax,) = plot.figure(alt, width=3.2, height=3.4)
    ax.scatter(*state.x.T, s=2, color=plot.COLOURS[0], label="point")
    ax.scatter(*state.x0.T, s=2, color=plot.COLOURS[1], alpha=0.5, label="guess")
    ax.legend(loc="upper right", markerscale=3)
    ax.set(xlim=(-3, 3), ylim=(-3, 3), aspect="equal", title=f"t = {state.t:.2f}")
    return picture


crowd = torch.randn(600, 2, generator=seeded(7))
states = list(ddpm(denoise, crowd, times(60), schedule, seeded(8)))
film([crowd_frame(state) for state in states[::4] + states[-1:]], ms=250)

# %% [markdown]
# Blue is where the points are, orange is the best guess that led there, made one step earlier. The guesses start in
# the middle, at the mean, spread out, and take the shape of the data before the points do.
#
# *Predict: when is it decided in which cluster a point ends: at the start, in the middle, near the end?*

# %%
def nearest_cluster(x):
    return torch.cdist(x, clusters.means).argmin(1)


ends = nearest_cluster(states[-1].x)
decided = torch.stack([(nearest_cluster(state.x0) == ends).double().mean() for state in states])
at = times(60)[:-1]  # where each guess was made
alt = "A line that lies near one eighth until t falls to 0.7, and climbs to 1 at t = 0, most steeply below 0.4."
lines = {"guess is in the final cluster": decided, "by chance": torch.full_like(decided, 1 / 8)}
plot.curves(at, lines, alt, "$t$", "share of points")

# %%
from_04_to_01 = decided[at <= 0.1][0] - decided[at <= 0.4][0]
assert (decided[at > 2 / 3] - 1 / 8).abs().max() < 0.05 and from_04_to_01 > 0.5
blur = [float(schedule(t)[1] / schedule(t)[0]) for t in (0.4, 0.1)]
print(f"decided from 0.4 to 0.1: {from_04_to_01:.0%}; sigma / alpha falls from {blur[0]:.1f} to {blur[1]:.2f}")

# %% [markdown]
# Read it from right to left, as the walk goes. For the first third the guess names the final cluster hardly more
# often than chance would, one time in eight. Nothing is decided by the first noise; most of it is decided between
# $t = 0.4$ and $t = 0.1$. There the noise, in units of the data ($\sigma / \alpha$), falls from twice to a third of
# the distance between neighbouring clusters, which is 1.06.
#
# Are they *right*, not only pretty? First the share of points in each cluster, mean and spread, against the
# mixture's own numbers.
#
# *Predict: the rare clusters have weight 1/16 each. Does the walk find them as often as it should?*

# %%
cloud = torch.randn(2000, 2, generator=seeded(9))
samples = final(ddpm(denoise, cloud, times(500), schedule, seeded(10)))
share = torch.bincount(nearest_cluster(samples), minlength=8) / len(samples)
assert torch.allclose(share, clusters.weights, atol=0.025) and abs(share[::2].sum() - 0.25) < 0.03
assert torch.allclose(samples.mean(0), torch.zeros(2), atol=0.06)
assert torch.allclose(samples.std(0), torch.ones(2), atol=0.04)
print("shares", [round(v, 2) for v in share.tolist()], "exact 0.06 and 0.19, in turn")
print(f"the four rare ones together {share[::2].sum():.2f}, exact 0.25")

# %% [markdown]
# It does, with 500 steps. Then the width of the clusters. (Half the points of a two-dimensional Gaussian lie
# within $\sqrt{2 \ln 2}$ standard deviations of its centre; the median does not mind a stray point that was
# counted to the wrong cluster.)

# %%
def widths(x):
    """Standard deviation of the rare and of the common clusters: (2,)."""
    nearest_centre = torch.cdist(x, clusters.means).min(1)
    radius, rare = nearest_centre.values, nearest_centre.indices % 2 == 0
    return torch.stack([radius[rare].median(), radius[~rare].median()]) / (2 * torch.tensor(2.0).log()).sqrt()


assert torch.allclose(widths(samples), clusters.stds[:2], rtol=0.1)
print("widths", [round(v, 2) for v in widths(samples).tolist()], "exact 0.1 and 0.2")

# %% [markdown]
# ### Why small steps, again
#
# One number for "how far from the data" is the *sliced Wasserstein distance* of chapter 01: project both clouds on a
# direction, take the mean distance of points of equal rank, and average over 64 directions.
#
# *Predict: how many steps are enough: 5, 20, 100 or 500?*

# %%
from minidiff.app.metrics import sliced_wasserstein

clouds = {n: final(ddpm(denoise, cloud, times(n), schedule, seeded(10))) for n in (5, 20, 100)}
clouds[500] = samples
distances = {n: sliced_wasserstein(points, truth) for n, points in clouds.items()}
draws = [sliced_wasserstein(clusters.sample(2000, seeded(seed)), truth) for seed in range(20, 30)]

# %%
assert distances[5] > 3 * distances[20] and max(distances[100], distances[500]) < 1.5 * max(draws)
print({n: round(d, 2) for n, d in distances.items()}, f"two draws: {min(draws):.2f} to {max(draws):.2f}")

# %%
alt = "5 steps: a smear; 20, 100 and 500 steps: eight clusters."
plot.scatter({f"{n} steps": points for n, points in clouds.items()}, alt)

# %% [markdown]
# Five steps smear everything towards the middle: each long step puts one bell into the valley between humps.
# From about 100 steps on, the samples are about as far from the data as two draws of the data are from each
# other. Enough? This distance hardly sees how *wide* the clusters are, or how many points are in the rare ones.
#
# *Predict: $\tilde\beta$ is the lower bound of the variance. Do few steps make the clusters too wide or too
# narrow? And are rare clusters found too seldom or too often?*

# %%
def rare_share(x):
    return (nearest_cluster(x) % 2 == 0).double().mean().item()


found = {n: (widths(points)[1].item(), rare_share(points)) for n, points in clouds.items()}

# %%
assert found[20][0] < 0.85 * clusters.stds[1] and abs(found[500][0] / 0.2 - 1) < 0.05
assert found[5][1] > 0.35 and 0.27 < found[20][1] < 0.31 and abs(found[500][1] - 0.25) < 0.03
print("exact: common clusters 0.20 wide, share of the rare 0.25")
for n, (width, rare) in found.items():
    print(f"{n:3} steps:" + f" common clusters {width:.2f} wide," * (n > 5) + f" share of the rare {rare:.2f}")

# %% [markdown]
# Too narrow: by a quarter with 20 steps, still by an eighth with 100, right with 500, where steps are so short
# that the bounds of (3.6) are close. And the rare clusters get too many points, the more the longer the steps:
# the distance is nearly right already with 20 steps, widths and shares are not. No single number sees everything, and
# ancestral sampling wants hundreds of small steps. Chapters 08 and 15 get there in far fewer.
#
# ## 9. A denoiser with perfect memory
#
# For pictures there is no formula for the density. But there is a data set. Take it as the whole truth: $N$ pictures
# $d_n$, all equally likely and nothing else possible; a mixture of $N$ Gaussians of width 0. Then, in the package's
# letters again, (3.9) becomes
#
# $$
# E[x_0 \mid x_t] = \sum_n r_n(x_t)\, d_n, \qquad
# r_n(x_t) = \underset{n}{\mathrm{softmax}}
# \left( -\frac{\lVert x_t - \alpha d_n \rVert^2}{2 \sigma^2} \right) : \tag{3.11}
# $$
#
# the average of all pictures, each weighted by how well it would explain what we see (*softmax*, exponentials
# divided by their sum, as in section 6 of chapter 02). No network, no training, and for *these* data exact.

# %%
from minidiff import Empirical

wardrobe = clothes[:2000]


def remember(x_t, t):
    """(3.11) for a single picture (1, H, W)."""
    alpha, sigma = schedule(t)
    misfit = (x_t - alpha * wardrobe).square().sum((1, 2, 3)) / (2 * sigma**2)  # (N,)
    return torch.tensordot((-misfit).softmax(0), wardrobe, 1)


# %%
memory = Empirical(wardrobe)
x_t = add_noise(wardrobe[:3], torch.randn(wardrobe[:3].shape, generator=noise), 0.5, schedule)
ours = torch.stack([remember(picture, 0.5) for picture in x_t])
assert torch.allclose(ours, memory.denoise(x_t, 0.5, schedule), atol=1e-8)

# %% [markdown]
# *Predict: the noisy picture below is given to it at six times. Where does the guess turn from a blur into a
# boot?*

# %%
ts = torch.tensor([0.05, 0.2, 0.4, 0.6, 0.8, 1.0])
titles = [f"t = {t:.2f}" for t in ts] + ["guess"] * 6


def look(picture):
    """The picture in six strengths of noise, and the guess at each: two times (6, 1, 32, 32)."""
    eps = torch.randn(6, 1, 32, 32, generator=seeded(12))
    noisy = add_noise(picture.expand(6, 1, 32, 32), eps, ts, schedule)
    return noisy, memory.denoise(noisy, ts, schedule)


# %%
seen, guessed = look(wardrobe[11])
alt = "Above a boot in more and more noise; below three times the boot, then a blur."
plot.images(torch.cat([seen, guessed]), alt, columns=6, titles=titles)

# %%
from minidiff.app.metrics import nearest

distance, index = nearest(guessed, wardrobe)
assert (index[:3] == 11).all() and distance[:3].max() < 1e-6 and distance[3:].min() > 5
print("distance of each guess from the nearest picture in memory:", ", ".join(f"{d:.1f}" for d in distance))

# %% [markdown]
# Above what it sees, below what it says. Up to $t = 0.4$, where our eye sees little, it finds the one picture
# in its memory that fits: 1,024 noisy pixels are 1,024 witnesses. From $t = 0.6$ on many pictures fit, and it
# averages over them: the guess is no picture any more.
#
# *Predict: and if it is shown a picture that is not in its memory?*

# %%
stranger = load("fashion", "test").tensor().double()[4]
seen, guessed = look(stranger)
alt = "Above a shirt in more and more noise; below other shirts, then a blur."
plot.images(torch.cat([seen, guessed]), alt, columns=6, titles=titles)

# %%
distance, index = nearest(guessed[:2], wardrobe)
assert distance.max() < 1e-4 and (wardrobe[index] - stranger).square().sum((1, 2, 3)).sqrt().min() > 5
print(f"the first two guesses are pictures {index.tolist()} of the memory")

# %% [markdown]
# It looks hard at a shirt it has never seen, at $t = 0.05$ through hardly any noise, and gives back *another*
# shirt, from memory. A perfect memory cannot see what is new. What does it draw?

# %%
from functools import partial

seeds = torch.randn(8, 1, 32, 32, generator=seeded(13))
recall = partial(memory.denoise, schedule=schedule)
drawn = final(ddpm(recall, seeds, times(50), schedule, seeded(14)))
distance, index = nearest(drawn, wardrobe)
alt = "Eight sharp pieces of clothing, and below them the same eight again."
titles = ["sample"] * 8 + ["in memory"] * 8
plot.images(torch.cat([drawn, wardrobe[index]]), alt, columns=8, titles=titles)

# %%
usual = nearest(load("fashion", "test").tensor()[:200].double(), wardrobe)[0]
assert distance.max() < 1e-6 and usual.min() > 0.5
print(f"to the nearest picture in memory: samples {distance.max():.0f}, new photographs {usual.median():.1f}")

# %% [markdown]
# Perfectly sharp clothes, each *exactly* a picture of the data set. The sampler is right, the denoiser is the
# best there is for these data, and together they are an expensive way to draw names from a hat.
#
# Of what we want,
# new clothes that could be from the same shop, this denoiser knows nothing; they have to come from a denoiser
# which **cannot** remember everything and has to find out what clothes have in common. That is the reason for
# a network, and what it should be taught is now clear: the squared error in which the mean is best. Chapters
# 04 and 05 derive that loss from the likelihood, chapter 06 builds the network.
#
# ## Errors you will meet
#
# All of these stand, or stood for years, in public courses and libraries. Each takes one line, none crashes,
# and most still draw something.
#
# **1. The wrong neighbour.** $\bar\alpha_{t-1}$ at the first step is 1. In tables that start at 0 it is
# easily read as `alpha_bar[0]` $= 1 - \beta_1$ instead; a widely read annotated DDIM does so, and a
# well-known image-control library had to repair it. The cruder form of the slip takes $\bar\alpha_t$ for
# $\bar\alpha_{t-1}$ in every step. Here is (3.4) with the neighbour left open; in our table, which starts with
# "no step yet", both slips are `alpha_bar[k]` in the place of `alpha_bar[k - 1]`, at step 1 and at step 5:

# %%
def with_neighbour(x_t, x_0, k, neighbour):
    """Mean of (3.4), with `neighbour` in the place of alpha_bar[k - 1]."""
    from_noisy = alphas[k].sqrt() * (1 - neighbour) / (1 - alpha_bar[k])
    return from_noisy * x_t + neighbour.sqrt() * betas[k] / (1 - alpha_bar[k]) * x_0


# %%
right, wrong = (torch.stack([with_neighbour(0.75, 0.8, k, alpha_bar[k - off]) for k in (1, 5)]) for off in (1, 0))
assert torch.allclose(right, torch.stack([torch.tensor(0.8), grid_mean])) and (wrong - right > 0.1).all()
print(f"step 1: {wrong[0]:.2f}, should be {right[0]:.2f}; step 5: {wrong[1]:.2f}, on the grid {grid_mean:.2f}")

# %% [markdown]
# The weights of $x_t$ and $x_0$ no longer fit together: the results lie outside the interval from 0.75 to 0.8, and
# that of step 1, the last step of the walk back, is near the *sum* of the two. The check to keep: *the step to 0
# returns* $x_0$.
#
# **2. Noise in the last step.** An annotated implementation of DDPM adds $\sqrt{\beta_t}\, z$ in every step,
# the last one too; a popular course notebook computes the mask that should prevent it, and does not use it.
# With $\tilde\beta_1 = 0$ nothing can go wrong. With the $\beta$ of the last step in its place the samples stay
# noisy, and the shorter the walk, the more so.

# %%
leftover = {}
for n in (20, 100, 1000):
    *_, before, last = ddpm(denoise, cloud[:400], times(n), schedule, seeded(15))
    kernel = posterior(before.x, last.x0, 0.0, before.t, schedule)
    wrong = kernel.mean + transition(0.0, before.t, schedule)[1] * torch.randn(before.x.shape, generator=noise)
    assert torch.allclose(last.x, last.x0)
    leftover[n] = (wrong - last.x0).std().item()

# %%
assert leftover[20] > 0.15 > 0.05 > leftover[100] > 3 * leftover[1000]
print("noise left in the samples:", {n: round(std, 2) for n, std in leftover.items()})

# %% [markdown]
# With 1000 steps nobody sees it, and with 20 it is almost the width of a cluster. The check to keep: *the last $x$
# equals the last guess at $x_0$*.
#
# **3. A variance taken for a standard deviation.** A much-cited article sets "$\sigma_t$ to $\beta_t$ or
# $\tilde\beta_t$"; it means $\sigma_t^2$ (there $\sigma_t$ is the standard deviation of a step back, not our
# $\sigma$). As $\beta_t$ is small its square is tiny: hardly any noise is added, and the clusters shrivel.

# %%
wrong = cloud
for k in range(T, 0, -5):  # five steps at once
    kernel = posterior(wrong, denoise(wrong, k / T), (k - 5) / T, k / T, schedule)
    wrong = kernel.mean + kernel.std**2 * torch.randn(wrong.shape, generator=noise)

# %%
assert widths(wrong)[1] < 0.7 * clusters.stds[1] and sliced_wasserstein(wrong, truth) > 2 * max(draws)
assert rare_share(wrong) < 0.2
print(f"common clusters {widths(wrong)[1]:.2f} wide, exact 0.20; share of the rare {rare_share(wrong):.2f}, exact 0.25")

# %%
alt = "Left eight shrivelled clusters, right eight clusters of the right width."
plot.scatter({"variance for std": wrong, "right": samples}, alt)

# %% [markdown]
# Little more than half as wide as they should be, and the rare ones rarer. The check to keep: *moments of the
# samples*, next to the exact ones.
#
# **4. The wrong average in the score.** The *score* is the slope of the log density, $\nabla \log p_t(x_t)$,
# the direction in which data become likelier. It is an average of the slopes of $\log q(x_t \mid x_0)$, each
# $-(x_t - \alpha x_0) / \sigma^2$. Over which $x_0$? The same article averages over the data, $q(x_0)$. But
#
# $$
# \nabla \log p_t(x_t) = \frac{1}{p_t(x_t)} \int \nabla q(x_t \mid x_0)\, q(x_0)\, dx_0
# = \int \nabla \log q(x_t \mid x_0)\; \frac{q(x_t \mid x_0)\, q(x_0)}{p_t(x_t)}\, dx_0 ,
# $$
#
# as $\nabla q = q\, \nabla \log q$; and the fraction is $q(x_0 \mid x_t)$. Right is the average over those pictures
# that could have become $x_t$, which puts $E[x_0 \mid x_t]$ in the place of $x_0$.

# %%
t, at = 0.2, torch.linspace(-1.5, 1.5, 7)[:, None].requires_grad_()
exact, = torch.autograd.grad(two.log_prob(at, t, schedule).sum(), at)
alpha, sigma = schedule(t)
right = -(at - alpha * two.denoise(at, t, schedule)) / sigma**2
wrong = -(at - alpha * clean.mean()) / sigma**2  # the mean of all data
assert torch.allclose(right, exact) and not torch.allclose(wrong, exact, atol=1)
errors = [(score - exact).abs().max().item() for score in (wrong, right)]
print(f"largest error of the wrong average {errors[0]:.1f}, of the right one {errors[1]:.0f}")

# %% [markdown]
# The check to keep: *automatic differentiation of an exact log density*.
#
# ## Exercises
#
# **1. Pen.** (a) What are $\tilde\beta_1$ and $\tilde\mu_1(x_1, x_0)$, by (3.4)? Which of the errors above does that
# make impossible? (b) In the package's letters the variance of a step back is
# $\sigma_{ts}^2 \sigma_s^2 / \sigma_t^2$. Let $s \to t$ at a fixed $t > 0$: what becomes of its ratio to
# $\sigma_{ts}^2$, and what does that say about the choice between $\tilde\beta$ and $\beta$? (c) Near the data
# $\sigma^2$ grows evenly, $\sigma_k^2 \approx k \beta$ after $k$ equal tiny doses. How does the ratio go there, step
# by step, and why do more and smaller doses not help?
#
# <details><summary>Answer</summary>
#
# (a) $\bar\alpha_0 = 1$, so the factor $1 - \bar\alpha_0$ is 0: $\tilde\beta_1 = 0$, and $x_1$ drops out of
# $\tilde\mu_1$. What stays is $\frac{\sqrt{\bar\alpha_0}\,\beta_1}{1 - \bar\alpha_1}\, x_0 = x_0$, as
# $1 - \bar\alpha_1 = \beta_1$. With the right table and $\tilde\beta$ neither error 1 nor error 2 can happen: the last
# step returns the guess, without noise. (b) The ratio is $\sigma_s^2 / \sigma_t^2$, and tends to 1 as $\sigma$ is
# continuous and $\sigma_t > 0$: in the limit of small steps both bounds of (3.6) meet, and with them any choice
# between. (c) From step $k$ to $k - 1$ it is $(k - 1)/k$: 0, a half, two thirds, three quarters, ... The dose
# has dropped out. However small it is, the first few steps have these ratios, as the figure of section 4 shows (its
# curve for $c = 0$; DDPM's doses grow, so it climbs a little more slowly).
#
# </details>
#
# **2. Code.** Long strides in the paper's letters. Given $\bar\alpha_s$ and $\bar\alpha_t$ for any two steps
# $s < t$, return mean and *standard deviation* of $q(x_s \mid x_t, x_0)$. What plays the part of $\alpha_t$,
# and what that of $\beta_t$?

# %%
from minidiff.course import check


def stride(x_t, x_0, alpha_bar_s, alpha_bar_t):
    """x_t and x_0 of one shape, alpha_bar_s and alpha_bar_t tensors (): the mean, of that shape, and the std, ()."""
    ### BEGIN SOLUTION
    ratio = alpha_bar_t / alpha_bar_s
    from_noisy = ratio.sqrt() * (1 - alpha_bar_s) / (1 - alpha_bar_t)
    from_clean = alpha_bar_s.sqrt() * (1 - ratio) / (1 - alpha_bar_t)
    variance = (1 - ratio) * (1 - alpha_bar_s) / (1 - alpha_bar_t)
    return from_noisy * x_t + from_clean * x_0, variance.sqrt()
    ### END SOLUTION


# %%
def in_two_steps(x_t, x_0, alpha_bar_s, alpha_bar_t):
    table = FromBetas((1 - alpha_bar_s, 1 - alpha_bar_t / alpha_bar_s))  # one dose to s, one more to t
    kernel = posterior(x_t, x_0, 0.5, 1.0, table)
    return kernel.mean, kernel.std.squeeze()


pair = torch.randn(2, 4, 3, generator=seeded(16))
cases = [(*pair, *torch.tensor(ends)) for ends in ([0.9, 0.6], [0.3, 0.01])]
hint = "for neighbours, s = t - 1, it must be (3.4): what is alpha_bar_t / alpha_bar_s there?"
check(stride, in_two_steps, cases, hint)

# %% [markdown]
# **3. Open.** When does the true step back have two humps? `humps_back` counts them, for any `Mixture` on a line.
# Find a rule of thumb that compares $\sigma_{ts} / \alpha_{ts}$, how blurred the view back is, with how far apart
# the components are at time $s$ and how wide. Which needs smaller steps: a pair farther apart? a pair of wider
# components? Can three components give three humps? A good rule foretells, within a tenth, the step at which the
# second hump comes, for a pair and a time that it was not made from.

# %%
def humps_back(mixture, x_t, step, t):
    """The number of humps of q(x_s | x_t) at s = t - step, for data on a line; x_t is a number."""
    kernel = mixture.reverse(torch.tensor([x_t]), t - step, t, schedule)
    return humps(kernel.log_prob(x[:, None], 0.0, schedule).exp())


# %%
for step in (0.1, 0.2, 0.3):
    alpha_s, (a, b) = schedule(0.4 - step)[0], transition(0.4 - step, 0.4, schedule)
    print(f"step {step}: humps {humps_back(two, 0.0, step, 0.4)}, blur {b / a:.2f}, distance {alpha_s * 2:.2f}")

# %% [markdown]
# ## What to keep
#
# - The way back depends on the data: $q(x_{t-1} \mid x_t)$ needs $q(x_{t-1})$, an integral over all of them.
# - Given $x_0$ it is a Gaussian that anybody can write down (3.4): precisions add, means are averaged by
#   precision. `posterior` is that formula, for any two times.
# - The variance of a step back is at least $\tilde\beta_t$ (a single possible $x_0$) and, on average over $x_t$, at
#   most $\beta_t$ (data of variance 1) (3.6). A sampler with $\tilde\beta_t$ adds no noise in its last step.
# - A long step back is not Gaussian, a short one nearly is: the divergence from the best Gaussian falls with the
#   third power of the step, from the one with variance $\tilde\beta_t$ with the second. Hence many small steps.
# - The best denoiser in squared error is $E[x_0 \mid x_t]$. In the place of $x_0$ it gives the exact mean of
#   the step back, and that is all a sampler needs.
# - The best denoiser of a *data set* only remembers. A network is there to be wrong about that in the right
#   way: to generalise.
#
# Next: [04 · The variational bound](04_variational_bound.ipynb), which derives what the network should learn.
