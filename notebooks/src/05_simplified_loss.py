# %% [markdown]
# # 05 · The simplified loss
#
# **How does a bound of a thousand terms become one line of training code?** Ask the network for the *noise* in a noisy
# picture, and compare with the noise that you put in.

# %%
from functools import partial

import torch

from minidiff import Cosine, FromBetas, add_noise, linear_betas, posterior, to_x0_eps
from minidiff.app.checkpoint import load_denoiser
from minidiff.course import check, diagrams, expect, plot, yours
from minidiff.data import load, shipped

torch.set_num_threads(1)  # networks this small are quickest on one thread


def seeded(seed):
    return torch.Generator().manual_seed(seed)


# %%
clothes, t = load("fashion", "test"), 0.4
model, _ = load_denoiser(shipped("fashion.safetensors"))
x0, label = clothes.tensor(slice(1, 2)), clothes.y[1:2]
eps = torch.randn(x0.shape, generator=seeded(1))
x_t = add_noise(x0, eps, t, Cosine())
with torch.no_grad():
    guess = to_x0_eps("x0", model(x_t, t, label), x_t, t, Cosine())[1]

diagrams.guess_the_noise(x0, eps, x_t, guess)

# %% [markdown]
# This network has been trained. (It gives a clean picture; `to_x0_eps` solves $x_t = \alpha_t x_0 + \sigma_t \epsilon$
# for the noise.) What it misses, drawn twice as strong, is what the noise hides of the picture: outlines and letters.
#
# **You build** DDPM's two algorithms, your first trained denoisers, the least loss that any network can reach, and
# one table in which noise, picture, $v$, velocity and score are rows. You need chapters 02 to 04 and an hour, two
# with the exercises; the computer needs two minutes of it.
#
# | letter | meaning |
# |---|---|
# | $x_t = \alpha_t x_0 + \sigma_t \epsilon$ | the noisy picture; $s < t$ are times |
# | $\alpha_{ts},\ \sigma_{ts}$ | factor and noise of the step from $s$ to $t$ (2.5); $\sigma_{ts}^2$ is DDPM's $\beta$ |
# | $\epsilon_\theta,\ \hat x_0,\ \mu_\theta$ | what a network with weights $\theta$ says: noise, picture, mean of a step |
# | $y = a\,x_0 + b\,\epsilon$ | a [prediction target](../docs/glossary.md#prediction-target): what a network is asked for |
# | $w(t)$ | the [weight of an error](../docs/glossary.md#loss-weight) at time $t$ |
# | $D$ | how many numbers a picture has |

# %% [markdown]
# ## 1. From the mean to the noise
#
# Chapter 04 left one term for each step from $t$ back to $s$, a distance of two means (4.11):
#
# $$ L_s = E\!\left[ \frac{1}{2\sigma_{ts}^2}\, \big|\tilde\mu(x_t, x_0) - \mu_\theta(x_t, t)\big|^2 \right] + C , $$
#
# where $\tilde\mu$ is the mean (3.4) of the step back for one who knows $x_0$, and $C$ does not depend on the network.
# (As in chapter 04, the model's step has the larger of chapter 03's two variances, $\sigma_{ts}^2$.)
#
# The network could output $\mu_\theta$. But part of $\tilde\mu$ is a known multiple of $x_t$, which it is *given*. So let
# it guess only $x_0$, and put the guess $\hat x_0$ into (3.4). The multiples of $x_t$ cancel:
#
# $$ L_s = E\!\left[ \frac{\alpha_s^2\,\sigma_{ts}^2}{2\,\sigma_t^4}\;
# \big|x_0 - \hat x_0(x_t, t)\big|^2 \right] + C \tag{5.1} $$
#
# Or let it guess the noise. By (3.5) $\tilde\mu$ is $x_t$ minus some of its noise. With a guess in the place of
# $\epsilon$,
#
# $$ \mu_\theta(x_t, t) = \frac{1}{\alpha_{ts}}\left(x_t
# - \frac{\sigma_{ts}^2}{\sigma_t}\;\epsilon_\theta(x_t, t)\right) . \tag{5.2} $$
#
# Again $x_t$ cancels, and a squared error of the noise is left, with a factor.
#
# **Your turn.** Which factor? Take pen and paper: subtract (5.2) from (3.5), square, divide by $2\sigma_{ts}^2$.
#
# The judge below knows no formula. It computes the divergence (4.2) for a guess that is wrong by one, less that for a
# right guess.

# %%
def noise_weight(alpha_ts, sigma_ts, sigma_t):
    """Return the factor before |eps - eps_theta|^2 in L_s."""
    ### BEGIN SOLUTION
    return sigma_ts**2 / (2 * alpha_ts**2 * sigma_t**2)
    ### END SOLUTION


# %%
from minidiff import Gaussian, transition


def by_divergence(alpha_ts, sigma_ts, sigma_t):
    x_t = torch.ones(1, 1).double()
    sigma_s = (sigma_t**2 - sigma_ts**2).sqrt() / alpha_ts  # from (2.5)
    mean = [(x_t - sigma_ts**2 / sigma_t * eps) / alpha_ts for eps in (0.0, 1.0)]
    true = Gaussian(mean[0], sigma_ts * sigma_s / sigma_t)
    right, wrong = (true.kl(Gaussian(each, sigma_ts)) for each in mean)
    return (wrong - right)[0]


cases = [tuple(torch.tensor(each).double())
         for each in ((0.9, 0.4, 0.5), (0.5, 0.8, 0.9))]
check(noise_weight, by_divergence, cases,
      hint="the means differ by sigma_ts^2 / (alpha_ts sigma_t) times the error")

# %% [markdown]
# So
#
# $$ L_s = E\!\left[ \frac{\sigma_{ts}^2}{2\,\alpha_{ts}^2\,\sigma_t^2}\;
# \big|\epsilon - \epsilon_\theta(x_t, t)\big|^2 \right] + C , \qquad
# x_t = \alpha_t x_0 + \sigma_t \epsilon . \tag{5.3} $$
#
# > **How the papers write it.** DDPM leaves the variance of the model's step open, $\sigma_t^2$ in *its* letters. With
# > $\alpha_t$, $\bar\alpha_t$ and $\beta_t$ as in chapter 02, (5.2) and (5.3) are
# > $$ \mu_\theta = \tfrac{1}{\sqrt{\alpha_t}} \Big(x_t - \tfrac{\beta_t}{\sqrt{1 - \bar\alpha_t}}\,
# > \epsilon_\theta\Big), \qquad
# > E\Big[ \tfrac{\beta_t^2}{2 \sigma_t^2 \alpha_t (1 - \bar\alpha_t)}\, |\epsilon - \epsilon_\theta|^2 \Big] . $$
# > We take $\sigma_t^2 = \beta_t$. [Weng's article](https://lilianweng.github.io/posts/2021-07-11-diffusion-models/)
# > has $(1 - \alpha_t)^2 = \beta_t^2$, and $\|\Sigma_\theta\|_2^2$ for $\sigma_t^2$: read the variance, not its square.

# %% tags=["check"]
# @title ✓ Weighted squared error of picture or noise = divergence of the two steps
table = FromBetas(linear_betas(1000))
data, noise, said = torch.randn(3, 6, 4, generator=seeded(0)).double()
for s, u in ((0.001, 0.002), (0.299, 0.3), (0.5, 0.8), (0.999, 1.0)):
    noisy, (a_us, s_us) = add_noise(data, noise, u, table), transition(s, u, table)
    x_hat, s_t = to_x0_eps("eps", said, noisy, u, table)[0], table(u)[1]
    true, wrong = (posterior(noisy, x, s, u, table) for x in (data, x_hat))
    distance = true.kl(Gaussian(wrong.mean, s_us)) - true.kl(Gaussian(true.mean, s_us))
    by_noise = (s_us / (a_us * s_t)) ** 2 / 2 * (noise - said).square().sum(1)
    by_picture = (table(s)[0] * s_us / s_t**2) ** 2 / 2 * (data - x_hat).square().sum(1)
    assert torch.allclose(by_noise, distance) and torch.allclose(by_picture, distance)
print("✓ (5.1) and (5.3) are the divergence, for a nonsense guess, at four times")

# %% [markdown]
# ## 2. The weight that was dropped
#
# *Predict: does the bound care more about errors near the data, or near pure noise?*

# %%
T, every = 1000, torch.arange(1, 1001).double() / 1000  # the times of DDPM's steps
schedule = FromBetas(linear_betas(T))
alpha_ts, sigma_ts = transition(every - 1 / T, every, schedule)
bound = sigma_ts**2 / (2 * alpha_ts**2 * schedule(every)[1] ** 2)  # (5.3): (1000,)

# %%
alt = "The bound's weight falls from a half to 0.005, then rises; one flat line."
picture, (ax,) = plot.figure(alt, width=6.4, height=3.2)
ax.loglog(every, bound, color=plot.COLOURS[0])
ax.axhline(bound.mean(), color=plot.COLOURS[3])
ax.text(0.006, 0.17, "the bound (5.3)", color=plot.COLOURS[0], fontsize=12)
ax.text(0.12, 0.0122, "every step the same", color=plot.COLOURS[3], fontsize=12)
ax.set(xlabel="time t", ylabel="weight of the noise's error")
picture

# %% tags=["check"]
# @title ✓ The first step against the others
beta = linear_betas(T)
assert torch.allclose(bound, beta / (2 * (1 - beta) * (1 - (1 - beta).cumprod(0))))
assert abs(bound[0] - 0.5) < 1e-3 and bound.min() < 0.006 < 0.009 < bound[-1] < 0.012
assert 48 < bound[0] / bound[100:].max() and bound[0] / bound.min() < 101
share = bound[:20].sum() / bound.sum()
print(f"✓ first step {bound[0]:.2f}, least {bound.min():.4f}; the first 20 of 1,000",
      f"steps hold {share:.0%} of the sum")

# %% [markdown]
# <details><summary>Answer</summary>
#
# Near the data, by far. The first step weighs fifty to a hundred times as much as any after the hundredth. (The axis
# is logarithmic: nine steps in ten lie right of 0.1.)
#
# </details>
#
# Near the data, detail is decided that hardly anybody sees; the bound pays for it (chapter 04). [@ho2020] left the factor
# out:
#
# $$ L_\mathrm{simple} = E_{t,\,x_0,\,\epsilon}\Big[\big|\epsilon
# - \epsilon_\theta(\alpha_t x_0 + \sigma_t \epsilon,\; t)\big|^2\Big],
# \qquad t \text{ uniform on } \tfrac1T, \dots, 1 \tag{5.4} $$
#
# Is that allowed? The *best* network is the same under any positive weights: at each time and place it gives the mean of
# what is possible (chapter 03). Weights decide where a network that cannot be best everywhere spends its effort: now less
# on detail, more on shapes. Section 5 tries what this [simplified loss](../docs/glossary.md#simplified-loss) gains and
# costs.
#
# ## 3. Training and sampling
#
# ### Algorithm 1: training
#
# Repeat: draw pictures $x_0$, times $t$ and noises $\epsilon$, and take a step down the gradient
#
# $$ \nabla_\theta\, \big|\epsilon - \epsilon_\theta(\alpha_t x_0 + \sigma_t \epsilon,\; t)\big|^2 . \tag{5.5} $$
#
# **Your turn.** The heart of it.

# %%
def noise_error(net, x0, eps, t):
    """Return |eps - net(x_t, t)|^2, averaged over coordinates: (B,). x0 is (B, D)."""
    ### BEGIN SOLUTION
    guess = net(add_noise(x0, eps, t, schedule), t)
    return (eps - guess).square().mean(1)
    ### END SOLUTION


# %%
def shrink(x, t, cond=None):
    return 0.3 * x * t[:, None]  # a poor network


def by_mse_loss(net, x0, eps, t):
    alpha, sigma = (each[:, None].to(x0) for each in schedule(t))
    said = net(alpha * x0 + sigma * eps, t)
    return torch.nn.functional.mse_loss(said, eps, reduction="none").mean(1)


pairs = torch.randn(2, 3, 2, generator=seeded(1), dtype=torch.float64)
u = torch.tensor([0.1, 0.5, 1.0]).double()
error_of = yours(
    noise_error, by_mse_loss, [(shrink, *pairs, u)],
    hint="make x_t with add_noise, ask net(x_t, t), average squares over dimension 1")

# %% [markdown]
# If yours is right, `error_of` is *your* function, and trains all networks of sections 3 to 5. The rest is Adam, a learning
# rate that warms up and falls to zero, and two options for section 5: how often each step is drawn (`chance`) and what its
# error weighs (`weigh`).

# %%
same = torch.ones(T)


def algorithm_1(net, draw, steps, chance=same, weigh=same):
    adam, generator = torch.optim.Adam(net.parameters(), 3e-3, fused=True), seeded(0)
    rate = torch.optim.lr_scheduler.LambdaLR(
        adam, lambda i: min(1, (i + 1) / 100) * (1 - i / steps))
    for _ in range(steps):
        x0, label = draw(generator)
        k = torch.multinomial(chance, len(x0), True, generator=generator) + 1  # 1..T
        eps = torch.randn(x0.shape, generator=generator)
        error = error_of(partial(net, cond=label), x0, eps, k / T)  # (B,)
        yield descend((weigh[k - 1] * error).mean(), adam, rate)


# %%
def descend(loss, *parts):
    parts[0].zero_grad()
    loss.backward()
    for part in parts:
        part.step()
    return float(loss.detach())


def fit(net, *args, **options):
    losses = list(algorithm_1(net, *args, **options))
    net.eval().requires_grad_(False)
    return torch.tensor(losses)

# %% [markdown]
# **How does a network hear the time?** As one number among many it would hardly be noticed. So it is spread over fast
# and slow waves, as a clock has hands for seconds and hours: a [time embedding](../docs/glossary.md#time-embedding)
# ([@vaswani2017]) of $h$ cosines and $h$ sines,
#
# $$ \begin{gathered}
# \mathrm{emb}(t) = \big[\cos(\omega_0 t), \dots, \cos(\omega_{h-1} t),\ \sin(\omega_0 t), \dots,
# \sin(\omega_{h-1} t)\big], \\ \omega_i = 1000 \cdot 10000^{-i/h} .
# \end{gathered} \tag{5.6} $$
#
# Each pair $(\cos \omega_i t,\ \sin \omega_i t)$ is the tip of a hand:

# %%
from minidiff.nets.embed import timestep_embedding

alt = "Clocks with faster and slower hands, each at three times."
waves = timestep_embedding(torch.tensor([0.5, 0.501, 0.6]), 32)  # (3, 32)
diagrams.clock_hands(waves, ("t = 0.5", "t = 0.501", "t = 0.6"), (0, 4, 6, 8, 10), alt)

# %% [markdown]
# A step of 1/1000 turns the fastest hand by one radian, and hardly the others; a tenth of the walk turns slow ones too.
# The package's `MLP`, a small network of fully connected layers, hears $t$ so.
#
# Our data are the swiss roll of [@sohldickstein2015], of 220 small Gaussians in a row: so chapter 03 knows its best
# denoiser (3.9).

# %%
from minidiff import Mixture
from minidiff.nets.mlp import MLP, MLPConfig

angle = 1.5 * torch.pi * (1 + 2 * (torch.arange(220) + 0.5) / 220)
spiral = angle[:, None] * torch.stack([angle.cos(), angle.sin()], 1)  # (220, 2)
spiral = (spiral - spiral.mean(0)) / spiral.std(0)
roll = Mixture(torch.full((220,), 1 / 220), spiral, torch.full((220,), 0.06))


# %%
def new_net(seed=0, **config):
    torch.manual_seed(seed)
    return MLP(MLPConfig(**config))


net = new_net(width=96)
losses = fit(net, lambda generator: (roll.sample(256, generator), None), steps=2000)

# %%
alt = "The loss falls from one to a quarter in 200 steps, then stays there."
picture, (ax,) = plot.figure(alt, width=6.4, height=2.9)
ax.plot(losses, ".", markersize=2)
ax.set(xlabel="training step", ylabel="loss (5.4), per number", ylim=(0, 1.2))
ax.text(700, 0.55, "is it still learning?", fontsize=12)
picture

# %% tags=["check"]
# @title ✓ What the network is shown; (5.6) is the package's embedding
shown, spy = [], new_net(width=8)
spy.register_forward_pre_hook(lambda _, args: shown.append(args))
fit(spy, lambda g: (torch.zeros(20_000, 2), None), steps=2)  # of x_t only noise is left
x, u = (torch.cat(each) for each in zip(*shown, strict=True))
size = (x / schedule(u)[1].float()[:, None])[u <= 0.01].std()
angles = u[:9, None] * 1000 * 10000 ** (-torch.arange(16) / 16)  # (5.6)
assert u.min() == 1 / T and u.max() == 1 and abs(size - 1) < 0.1
waves = torch.cat([angles.cos(), angles.sin()], 1)
assert torch.allclose(timestep_embedding(u[:9], 32), waves, atol=1e-3)
print("✓ all steps from 1 to 1,000 are drawn, and the noise fits the time it is told")

# %% [markdown]
# ### Algorithm 2: sampling
#
# Start from noise. Each step goes to the model's mean (5.2) and adds fresh noise $z$, here with the smaller of chapter
# 03's two variances. (DDPM found that both sample alike.)
#
# $$ x_s = \frac{1}{\alpha_{ts}}\left(x_t - \frac{\sigma_{ts}^2}{\sigma_t}\;\epsilon_\theta(x_t, t)\right)
# + \frac{\sigma_{ts}\,\sigma_s}{\sigma_t}\; z, \qquad z \sim \mathcal N(0, I) . \tag{5.7} $$
#
# At the last step $\sigma_s = 0$: no noise is added.
#
# **Your turn.**

# %%
def step_back(x_t, eps, z, s, t):
    """Return x_s by (5.7); eps is the network's guess at x_t, z the fresh noise."""
    (_, sigma_s), (_, sigma_t) = schedule(s), schedule(t)
    alpha_ts, sigma_ts = transition(s, t, schedule)
    ### BEGIN SOLUTION
    mean = (x_t - sigma_ts**2 / sigma_t * eps) / alpha_ts
    return mean + sigma_ts * sigma_s / sigma_t * z
    ### END SOLUTION


# %%
def by_posterior(x_t, eps, z, s, t):
    step = posterior(x_t, to_x0_eps("eps", eps, x_t, t, schedule)[0], s, t, schedule)
    return step.mean + step.std * z


three = torch.randn(3, 2, generator=seeded(3), dtype=torch.float64)
check(step_back, by_posterior, [(*three, 0.4, 0.5), (*three, 0.0, 0.001)],
      hint="first the mean (5.2); z is scaled by a standard deviation")

# %% [markdown]
# A thousand such steps are the package's `ddpm`.
#
# *Predict: nobody told the network what a roll is. What does it draw after these seconds of training?*

# %%
from minidiff import Denoiser, ddpm, times

start = torch.randn(1000, 2, generator=seeded(1))
walk = list(ddpm(Denoiser(net, schedule, "eps"), start, times(T), schedule, seeded(2)))

# %%
pure, grain = roll.sample(1000, seeded(3)), torch.randn(1000, 2, generator=seeded(4))
levels = (1.0, 0.15, 0.05, 0.0)
panels = [(f"t = {u:g}", add_noise(pure, grain, u, schedule), "") for u in levels]
panels += [("", start if u == 1 else walk[T - 1 - round(T * u)].x, "") for u in levels]
alt = "Above, a spiral in less and less noise. Below, noise gathers into such a spiral."
diagrams.predictions(panels, 4, ("data, noised", "walked back"), alt)

# %%
from minidiff.app.metrics import nearest

astray = nearest(walk[-1].x, roll.sample(9000, seeded(5)))[0] > 0.1
expect(astray.double().mean() < 0.1, "nine points in ten lie on the roll")

# %% tags=["check"]
# @title ✓ Algorithm 2 (5.7), step by step, is ddpm
generator, x, ts = seeded(2), start[:50], times(100)
for u, s in zip(ts, ts[1:], strict=False):
    a_us, s_us = transition(s, u, schedule)
    z, said = torch.randn(x.shape, generator=generator), net(x, u.float().expand(50))
    noise = s_us * schedule(s)[1] / schedule(u)[1] * z
    x = ((x - s_us**2 / schedule(u)[1] * said) / a_us + noise).float()
theirs = Denoiser(net, schedule, "eps")
*_, last = ddpm(theirs, start[:50], ts, schedule, seeded(2))
assert torch.allclose(last.x, x, atol=1e-3)
print("✓ (5.7) written out ends at the same 50 points as ddpm, to 1e-3")

# %% [markdown]
# <details><summary>Answer</summary>
#
# A roll. Fewer than one point in ten is astray, and the inner tip is smeared.
#
# </details>
#
# ## 4. How low can a loss go?
#
# The loss fell to a quarter and then hardly moved. Is the model still learning? Zero is out of reach: $x_t$ does not
# reveal its noise. The best guess is a mean, $E[\epsilon \mid x_t]$, and as in chapter 03 the error has two parts. As
# $\epsilon = (x_t - \alpha_t x_0)/\sigma_t$, the first is what $x_t$ leaves open about the picture:
#
# $$ \begin{aligned}
# E\big|\epsilon - \epsilon_\theta\big|^2
# &= \underbrace{\frac{\alpha_t^2}{\sigma_t^2}\; E\big|x_0 - E[x_0\mid x_t]\big|^2}_{\text{least possible}} \\
# &\quad + \underbrace{E\big|E[\epsilon\mid x_t] - \epsilon_\theta\big|^2}_{\text{the network's own error}} .
# \end{aligned} \tag{5.8} $$
#
# Here $x_0$ is drawn anew from all possible data. For photographs nobody knows the first part. For the roll we do.
#
# *Predict: how far above the least possible loss is our network, about double, a tenth, a hundredth?*

# %%
n, generator = 20_000, seeded(10)
x0, eps = roll.sample(n, generator), torch.randn(n, 2, generator=generator)
t = torch.randint(1, T + 1, (n,), generator=generator) / T
x_t = add_noise(x0, eps, t, schedule)

parts = zip(x_t.split(5000), t.split(5000), strict=True)
mean = torch.cat([roll.denoise(x, u, schedule) for x, u in parts])  # E[x0 | x_t]
best = to_x0_eps("x0", mean, x_t, t, schedule)[1]  # E[eps | x_t]
loss, least = ((eps - guess).square().mean() for guess in (net(x_t, t), best))

# %% tags=["nbval-ignore-output"]
print(f"loss {loss:.3f}, least possible {least:.3f}: {loss / least - 1:.1%} above it")

# %%
expect(loss / least < 1.04, "the loss is within 4 % of the least possible")

# %% [markdown]
# <details><summary>Answer</summary>
#
# Two hundredths. The rest of the loss is the data's.
#
# </details>
#
# The same by time, beside one that knows fifty points by heart (`Empirical` is chapter 03's best denoiser of a finite set):

# %%
from minidiff import Empirical

levels = torch.tensor([1, 2, 4, 7, 12, 20, 30, 42, 56, 75, 100, 140, 200, 300, 500])


def errors(guess, x0):
    found = []
    for u in levels / T:
        x_t = add_noise(x0, eps[:len(x0)], u, schedule)
        found.append((guess(x_t, u) - eps[:len(x0)]).square().mean())
    return torch.stack(found)


def noise_by(oracle, x, u):
    return to_x0_eps("x0", oracle.denoise(x, u, schedule), x, u, schedule)[1]


# %%
floor = errors(partial(noise_by, roll), x0[:8000])
ours = errors(lambda x, u: net(x, u.expand(len(x))), x0[:8000])
by_heart = partial(noise_by, Empirical(x0[:50]))
heart = errors(by_heart, x0[:50].repeat(100, 1))

# %%
alt = "A floor with a valley at t = 0.04; our network is above it, a dashed line below."
picture, (ax,) = plot.figure(alt, width=6.6, height=3.6)
ax.fill_between(levels / T, floor, color="0.87")
ax.plot(levels / T, ours, "o-", color=plot.COLOURS[3], markersize=4)
ax.plot(levels / T, heart, "--", color=plot.COLOURS[2])
ax.text(0.011, 0.93, "our network", fontsize=14, color=plot.COLOURS[3])
ax.text(0.0012, 0.62, "no network gets in\n(on unseen data)", fontsize=14, color="0.35")
ax.text(0.017, 0.2, "fifty points by heart,\non these fifty", fontsize=12, va="top",
        color=plot.COLOURS[2])
ax.set(xlabel="time t", ylabel="squared error of noise", ylim=(0, 1.05), xscale="log")
picture

# %%
late = levels >= 100
expect([1.05 < (ours / floor)[~late].max() < 1.2, (ours / floor)[late][:3].max() < 1.03,
        floor[7] < floor[0] - 0.3, floor[7] < floor[10] - 0.1],
       "up to 20 % above the floor, at most 3 % from t = 0.1 on; a valley at 0.04")

# %% [markdown]
# Why this shape? At the left the noise is finer than the roll is thick, and nothing tells them apart. In the valley it
# sticks out *across* the roll; *along* the roll it stays hidden: one of two numbers. At 0.1 it reaches to the next arm.
# At the right $x_t$ *is* the noise.
#
# What our network misses, it misses next to the data. Whoever knows data by heart gets below the floor, on these alone.
#
# So look at the loss by time, on unseen pictures, with the same noise each time (chapter 07). An average hides all this,
# and another schedule has another: never compare losses across schedules.

# %% tags=["check"]
# @title ✓ (5.8): the parts add up, and the floor has a second formula
cross = 2 * (eps - best) * (best - net(x_t, t))
assert abs(cross.mean()) < 4 * cross.std() / (2 * n) ** 0.5
assert (heart[:11] < 0.95 * floor[:11]).all()  # below the floor on the fifty,
assert (errors(by_heart, x0[50:5050])[:11] > 1.05 * floor[:11]).all()  # not elsewhere
at_third = add_noise(x0[:5000], eps[:5000], 0.3, schedule)
known = roll.denoise(at_third, 0.3, schedule)
left_open = (x0[:5000].square() - known.square()).mean()  # E x0^2 - E mean^2
wrong = to_x0_eps("x0", known, at_third, 0.3, schedule)[1] - eps[:5000]
by_picture = schedule.log_snr(0.3).exp() * left_open
assert torch.isclose(wrong.square().mean().double(), by_picture, rtol=0.1)
print("✓ no mixed term; SNR times what is open; by heart: below, on unseen data above")

# %% [markdown]
# **Find the bug.** A robotics code can be asked for $\epsilon$ or for $x_0$. With $x_0$ the loss falls far below the
# floor:
#
# ```python
# return F.mse_loss(x_recon, x_noisy, reduction="mean")
# ```
#
# <details><summary>Answer</summary>
#
# The guess is compared with the *noisy* input, so the network need only copy it. **On unseen data, averaged over many
# batches, a loss below the floor is a bug.** (DPPO, [issue 14](https://github.com/irom-princeton/dppo/issues/14).)
#
# </details>
#
# ## 5. What the dropped weight does
#
# What a step counts is its weight times its chance of being drawn, the *effective weight*. Three trainings of one
# network on digits of 8 by 8 pixels, with the same random numbers:
#
# - *Simple* is (5.4).
# - *Weights* minimises the bound: errors times (5.3).
# - *Chances* has the same effective weights: it draws each step as often as its weight says, and counts every error once.
#
# The last is *importance sampling*, as in [@nichol2021] (section 3.3). The gradient has the same mean, but no single huge
# weight shakes it.

# %%
digits, unseen = load("digits"), load("digits", "test")
flat, digit = digits.tensor().flatten(1), digits.y  # (1498, 64), (1498,)


def some_digits(generator):
    index = torch.randint(len(flat), (128,), generator=generator)
    return flat[index], digit[index]


relative = (bound / bound.mean()).float()  # mean one, as for the simplified loss
recipes = {"simple": {}, "weights": {"weigh": relative},
           "chances": {"chance": relative}}

# %%
nets = {name: new_net(dim=64, num_classes=10, width=160) for name in recipes}
for name, recipe in recipes.items():
    fit(nets[name], some_digits, steps=1000, **recipe)

# %% [markdown]
# Two judges. The code: bits a pixel for 300 unseen digits (knowing nothing costs $\log_2 17 = 4.09$, for 17 grey levels).
# The eye: each network draws 500 digits on demand; does a classifier read the digit that was asked for?
#
# *Predict: which of them gives the shortest code, which draws the best digits?*

# %%
from minidiff import bits_per_dim, final, vlb
from minidiff.app.metrics import label_accuracy, load_classifier

classifier, asked = load_classifier("digits"), torch.arange(500) % 10


# %%
def code_length(net):
    told = partial(Denoiser(net, schedule, "eps"), cond=unseen.y)
    x0 = unseen.tensor().flatten(1)
    nats = vlb(told, x0, times(250), schedule, seeded(6), bins=17)
    return float(bits_per_dim(nats.double(), 64).mean())


def draw(net):
    told = partial(Denoiser(net, schedule, "eps"), cond=asked)
    noise = torch.randn(500, 64, generator=seeded(7))
    x = final(ddpm(told, noise, times(100), schedule, seeded(8)))
    return x.reshape(-1, 1, 8, 8)


# %%
drawn = {name: draw(each) for name, each in nets.items()}
bits = {name: code_length(each) for name, each in nets.items()}
right = {name: label_accuracy(classifier(x), asked) for name, x in drawn.items()}

# %%
diagrams.pictures({name: x[:10] for name, x in drawn.items()},
                  "Digits 0 to 9 by three networks; to the eye much alike.",
                  above=[str(k) for k in range(10)])

# %%
alt = "Bars: chances has the shortest code, simple the most digits read right."
picture, (left, other) = plot.figure(alt, 2, width=6.8, height=2.5)
for ax, values, form in ((left, bits, "{:.2f}"), (other, right, "{:.1%}")):
    bars = ax.barh(list(values), list(values.values()), color=plot.COLOURS[:3])
    words = [form.format(each) for each in values.values()]
    ax.bar_label(bars, words, label_type="center", fontsize=12)
    ax.invert_yaxis()
left.axvline(4.09, linestyle="--", color="0.3")
left.text(4.2, 1, "knowing\nnothing", fontsize=12, va="center")
left.set(title="bits a pixel (fewer is better)", xlim=(0, 6), xticks=[0, 1, 2, 3, 4])
other.set(title="digits read right", xlim=(0, 1.02), xticks=[0, 0.5, 1])
picture

# %%
expect([bits["chances"] < bits["simple"] < bits["weights"] < 4.09,
        right["simple"] > right["chances"] > right["weights"] + 0.05],
       "bits: chances < simple < weights < 4.09; read: simple > chances > weights")

# %% [markdown]
# <details><summary>Answer</summary>
#
# *Chances* gives the shortest code. *Simple* has the most digits read right, by two standard errors, from one seed.
# (Exercise 3 tries a second.) *Weights* loses on *both* counts: each gradient depends on whether one of the few heavy steps
# is in the batch.
#
# </details>

# %% [markdown]
# DDPM's tables 1 and 2, on photographs (CIFAR-10), show the exchange of *simple* and *chances*: on the bound at most 3.70
# bits and an FID of 13.5 (a distance to real pictures, chapter 13), on the simplified loss 3.75 and 3.2. But DDPM weighed
# errors, as our *weights* do, and gained bits. In 1,000 steps ours did not.
#
# ## 6. One table for everything
#
# What papers ask for are mixtures of the same two pictures:
#
# $$ y = a\, x_0 + b\, \epsilon , \tag{5.9} $$
#
# | target | $a$ | $b$ | where it comes from |
# |---|---|---|---|
# | $x_0$ | 1 | 0 | the denoiser itself |
# | $\epsilon$ | 0 | 1 | [@ho2020] |
# | [$v$](../docs/glossary.md#v-prediction) | $-\sigma_t$ | $\alpha_t$ | [@salimans2022] |
# | [velocity](../docs/glossary.md#velocity) $dx_t/dt$ | $\alpha_t'$ | $\sigma_t'$ | [@lipman2023]; their time runs to the data, so with the other sign |
# | [score](../docs/glossary.md#score) $\nabla \log q(x_t \mid x_0)$ | 0 | $-1/\sigma_t$ | [@song2019] |
#
# ($'$ is the derivative in $t$.) Together with $x_t = \alpha_t x_0 + \sigma_t \epsilon$ that is two equations for two
# unknowns.
#
# **Your turn.** Eliminate $\epsilon$, and solve for $x_0$.

# %%
def solve_for_x0(y, x_t, a, b, alpha, sigma):
    """Return x0 from y = a x0 + b eps and x_t = alpha x0 + sigma eps."""
    ### BEGIN SOLUTION
    return (b * x_t - sigma * y) / (alpha * b - sigma * a)
    ### END SOLUTION


# %%
from minidiff import target, target_coefficients, weight


def by_torch(y, x_t, a, b, alpha, sigma):
    system = torch.stack([torch.stack([alpha, sigma]), torch.stack([a, b])])  # (2, 2)
    return torch.linalg.solve(system, torch.stack([x_t, y]))[0]


y, seen = torch.randn(2, 3, generator=seeded(5), dtype=torch.float64)
cases = [(y, seen, *target_coefficients(name, 0.4, Cosine()), *Cosine()(0.4))
         for name in ("eps", "v", "score")]
check(solve_for_x0, by_torch, cases, hint="b times the one minus sigma times the other")

# %% [markdown]
# $$ x_0 = \frac{b\,x_t - \sigma_t\, y}{\alpha_t b - \sigma_t a}, \qquad
# \epsilon = \frac{\alpha_t\, y - a\, x_t}{\alpha_t b - \sigma_t a} \tag{5.10} $$
#
# is the package's `to_x0_eps`. What is an error worth? If $\hat x_0$ is wrong at a known $x_t$, then $\hat\epsilon$ is
# wrong the other way, $\alpha_t/\sigma_t$ times as much. So squared error of *any* target is a weighted error of $x_0$:
#
# $$ |\hat y - y|^2 = w(t)\,|\hat x_0 - x_0|^2, \qquad w(t) = \Big(a - b\,\frac{\alpha_t}{\sigma_t}\Big)^2 \tag{5.11} $$
#
# For $\epsilon$ that is the [signal-to-noise ratio](../docs/glossary.md#signal-to-noise-ratio),
# $\mathrm{SNR} = \alpha_t^2/\sigma_t^2$; for $v$, if $\alpha_t^2 + \sigma_t^2 = 1$, it is $\mathrm{SNR} + 1$.

# %%
diagrams.rows_and_weights(Cosine(), 0.3)

# %% [markdown]
# **Left: targets.** As $t$ grows, $x_t$ turns like the hand of a clock from picture to noise, and $v$ is where its tip is
# heading (velocity is $\pi/2$ times that). At a right angle to $x_t$ it adds what $x_t$ lacks: the denominator of (5.10) is 1, and no error is amplified.
# But $\epsilon$ points where $x_t$ arrives. In pure noise "what you see" is a perfect answer that says *nothing* about the
# picture, and (5.10) divides by zero. The package refuses:

# %%
try:
    to_x0_eps("eps", eps, x_t, 1.0, Cosine())
except ValueError as error:
    print(error)

# %% [markdown]
# **Right: weights.** The simplified loss is denoising with weight SNR, $v$ adds one. Dashed is the bound of section 1 for
# tiny steps, where chapter 03's two variances agree (*deeper*, section 3). All this for times drawn evenly. The *schedule*
# decides how often each SNR is met, so it is a weight too ([@kingma2023]).

# %% tags=["check"]
# @title ✓ Rows (5.9), solve (5.10), weights (5.11): all five targets
clean, z, off = torch.randn(3, 6, 3, generator=seeded(20)).double()
u = 0.4
before, noisy, after = (add_noise(clean, z, u + d, Cosine()) for d in (-1e-6, 0, 1e-6))
slope = (after - before) / 2e-6
assert torch.allclose(target("velocity", clean, z, u, Cosine()), slope)
for name in ("x0", "eps", "v", "velocity", "score"):
    y, wrong = (target(name, x, to_x0_eps("x0", x, noisy, u, Cosine())[1], u, Cosine())
                for x in (clean, clean + off))
    assert torch.allclose(to_x0_eps(name, y, noisy, u, Cosine())[0], clean)
    assert torch.allclose((wrong - y) ** 2, weight(name, u, Cosine()) * off**2)
print("✓ each gives x0 back, an error weighs as (5.11) says; velocity is dx_t/dt")

# %% [markdown]
# The clothes model gives $v$ inside. Drag the $t$ of the middle row.

# %%
photo = clothes.tensor(slice(4, 5))
speck = torch.randn(1, 1, 32, 32, generator=seeded(24))


def solved(t):
    x_t = add_noise(photo, speck, t, Cosine())
    with torch.no_grad():
        v = model.net(x_t, torch.tensor([t]), clothes.y[4:5])
    return torch.cat([x_t, v, *to_x0_eps("v", v, x_t, t, Cosine()), photo])


def anatomy(t):
    above = ["$x_t$", "$v$", "$x_0$ solved", r"$\epsilon$ solved", "true $x_0$"]
    alt = "Three times, each: a noisy shirt, v, shirt and noise solved, the true shirt."
    rows = {f"t = {u:.2f}": solved(u) for u in (0.1, t, 0.9)}
    return diagrams.pictures(rows, alt, above=above)


# %%
import ipywidgets

from minidiff.course.widgets import explore

slider = ipywidgets.FloatSlider(0.5, min=0.12, max=0.88, step=0.02, description="t")
_ = explore(anatomy, t=slider)

# %% [markdown]
# Near the data (above) $v$ is nearly the noise, near the noise (below) nearly the negative of the picture.
#
# ### The last row: scores
#
# [@song2019] trained networks for the *score* of chapter 03, the direction in which noisy data become likelier. (With
# $\theta$, $s$ is a network, not a time.)
#
# $$ s_\theta(x_t, t) \approx \nabla \log p_t(x_t) \tag{5.13} $$
#
# Tweedie's formula (3.12) is, solved for the mean and written with the noise,
#
# $$ E[x_0 \mid x_t] = \frac{x_t + \sigma_t^2\, \nabla\log p_t(x_t)}{\alpha_t}, \tag{5.14} $$
#
# $$ s_\theta(x_t, t) = -\frac{\epsilon_\theta(x_t, t)}{\sigma_t} . \tag{5.15} $$
#
# So [denoising score matching](../docs/glossary.md#denoising-score-matching) is the simplified loss, up to weights over
# time. (*Deeper* has the proof, (5.12) and (5.16) to (5.19).)

# %% tags=["check"]
# @title ✓ Tweedie (5.14), (5.15), against automatic differentiation
exact = Mixture(roll.weights.double(), spiral.double(), roll.stds.double())
few = exact.sample(200, seeded(30)).requires_grad_()
slope, = torch.autograd.grad(exact.log_prob(few, 0.2, schedule).sum(), few)
(alpha, sigma), few = schedule(0.2), few.detach()
known = exact.denoise(few, 0.2, schedule)
assert torch.allclose((few + sigma**2 * slope) / alpha, known, atol=1e-8)
assert torch.allclose(-to_x0_eps("x0", known, few, 0.2, schedule)[1] / sigma, slope)
print("✓ the slope of the log density gives the best denoiser, at 200 points")

# %% [markdown]
# ## 7. What should a network predict?
#
# The best networks for all rows know the same, for a mean is linear. So is the choice a matter of taste? A test, after
# [@li2025]: put the roll on a random plane in $D$ dimensions. Noise fills all $D$ of them. Photographs are like that: they
# fill few of the dimensions of their pixels.
#
# Nine networks, 128 numbers wide, were trained on the cosine schedule (`tools/compare_predictions.py`): $\epsilon$ on the
# simplified loss, $v$ on its own squared error, $x_0$ on the error of the $v$ that follows from it.
#
# *Predict: which of them will still work in 512 dimensions?*

# %%
import json

results = json.loads(shipped("predictions.json").read_text(encoding="utf-8"))
nine = [run for run in results["runs"] if "points" in run]
panels = [(f"{run['prediction']}, D = {run['dims']}", torch.tensor(run["points"]),
           f"off the plane: {run['off_plane']:.{2 * (run['off_plane'] < 1)}f}")
          for run in nine]
alt = "Nine panels: in 2 dimensions all draw the roll, in 512 only x0 does."
diagrams.predictions(panels, 3, [""] * 3, alt)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Only $x_0$. In 16 dimensions $v$ has already lost the roll, and $\epsilon$ keeps its outline. In 512 they do not even find
# the plane: samples lie 19 off it, or hundreds, where the roll has a radius of 2.
#
# </details>
#
# Why? The network's last layer is linear: 128 numbers in, $D$ out. Whatever happens inside, all answers lie on one flat
# sheet of at most 128 dimensions. The roll's plane fits on such a sheet. Noise does not: in at least $512 - 128$ directions
# the network says the same whatever it sees. **No training can help:**
#
# $$ \begin{aligned}
# \text{mean squared error of } \epsilon &\;\ge\; 1 - \frac{128}{D}, \\
# \text{of } v &\;\ge\; E[\alpha_t^2]\,\Big(1 - \frac{128}{D}\Big) .
# \end{aligned} \tag{5.20} $$
#
# $E[\alpha_t^2]$ is the mean over the times drawn, a half on this schedule. See it happen in two short runs: 400 steps at
# a rate of 0.003 without warm-up, where the stored runs had 1,500 at 0.001 with it.

# %%
from minidiff import denoising_loss, sample_times

plane = torch.linalg.qr(torch.randn(512, 2, generator=seeded(0)))[0]  # (512, 2)


def train_in_512(denoiser, by, steps=400):
    adam, generator = torch.optim.Adam(denoiser.parameters(), 3e-3), seeded(0)
    rate = torch.optim.lr_scheduler.LambdaLR(adam, lambda i: 1 - i / steps)
    for _ in range(steps):
        x0 = roll.sample(256, generator) @ plane.T  # (B, 512)
        eps = torch.randn(x0.shape, generator=generator)
        t = 0.02 + 0.96 * sample_times(256, generator, start=0.0)  # eps needs t < 1
        error = denoising_loss(denoiser, x0, eps, t, Cosine())  # (B,)
        yield descend((weight(by, t, Cosine()) * error).mean(), adam, rate)


# %%
says_x0, says_eps = (Denoiser(new_net(dim=512, width=128), Cosine(), name)
                     for name in ("x0", "eps"))
losses = list(train_in_512(says_x0, "v"))
curve = list(train_in_512(says_eps, "eps"))

noise = torch.randn(400, 512, generator=seeded(1))
ts = torch.cat([times(50, 0.98, 0.02), torch.zeros(1).double()])
live = final(ddpm(says_x0.eval(), noise, ts, Cosine(), seeded(2)))

# %%
alt = "Left, the loss of eps stops at 0.75. Right, x0's samples form a rough ring."
picture, (left, other) = plot.figure(alt, 2, width=6.8, height=3.2)
left.plot(curve, color=plot.COLOURS[0])
left.axhline(1 - 128 / 512, linestyle="--", color="0.3")
left.text(100, 0.72, "floor (5.20)", fontsize=12, color="0.3")
left.set(xlabel="training step", title="loss of eps", ylim=(0.7, 1.05))
other.scatter(*(live @ plane).T, s=4, linewidths=0, color=plot.COLOURS[2])
other.set(xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), aspect="equal", xticks=[], yticks=[],
          title="samples of x0 so far")
picture

# %%
off_plane = (live - live @ plane @ plane.T).norm(dim=1).mean()
expect([off_plane < 0.2, 0.75 < sum(curve[-50:]) / 50 < 0.77],
       "x0 finds the plane; the loss of eps stops at its floor")

# %% [markdown]
# Even the size of $v$'s failure follows: the noise in those 384 directions is never taken away, so samples stay about
# $\sqrt{384} = 19.6$ off the plane. (In 16 dimensions the floor is 0: nothing forbids $v$ and $\epsilon$ there, but runs of
# this size did not get so far.)

# %% tags=["check"]
# @title ✓ The floors (5.20): answers stay on a sheet, and this much is not on it
x0, t = roll.sample(4000, seeded(3)) @ plane.T, torch.rand(4000, generator=seeded(4))
eps, t = torch.randn(4000, 512, generator=seeded(5)), 0.02 + 0.96 * t
answers = says_eps.eval().net(add_noise(x0, eps, t, Cosine()), t)[:1000]
sizes = torch.linalg.svdvals((answers - answers.mean(0)).detach())
assert sizes[128] < 1e-4 * sizes[0]  # no 129th direction
wide = torch.cat([plane, torch.randn(512, 126, generator=seeded(6))], 1)
sheet = torch.linalg.qr(wide)[0]  # the best that can be: it holds the roll
for name, floor_is in (("eps", 0.75), ("v", 0.75 * 0.5)):
    y = target(name, x0, eps, t, Cosine())
    assert abs((y - y @ sheet @ sheet.T).square().mean() / floor_is - 1) < 0.03
print("✓ at most 128 directions; off a sheet lie 0.75 of eps and 0.375 of v")

# %% [markdown]
# **So which one, when?**
#
# - $v$, or the velocity on a flow schedule: amplifies nothing, at any time. This course takes it from here on.
#   But above, at $D = 16$, it was the *worst*, though 16 is less than 128.
# - $\epsilon$: what DDPM and older models use. Not where $\alpha_t$ reaches 0.
# - $x_0$: where the network is narrower than the data, as in transformers on large patches ([@li2025]). A U-Net has skips
#   (chapter 06), and so no such narrow place.
# - Score: know it, and train one of the others.

# %% [markdown]
# ## What to keep
#
# - The bound's term is a weighted squared error, of the picture (5.1) or of the noise (5.3). The simplified loss (5.4)
#   drops the weight. What counts is weight times chance.
# - Training is three draws and one squared error (5.5); sampling is the model's mean and fresh noise (5.7).
# - Every loss has a floor above zero, which the data decide (5.8). Look at it by time. On unseen data an average
#   below it is a bug.
# - $x_0$, $\epsilon$, $v$, velocity and score are rows $(a, b)$ (5.9), and one solve reads them all (5.10). They differ in
#   what errors weigh (5.11), and in where they say nothing.
# - A narrow network can say what lies on few dimensions. Noise fills all of them (5.20).
#
# ## Exercises
#
# **1. Pen.** On the straight line of flow matching, $\alpha_t = 1 - t$ and $\sigma_t = t$. (a) Find the row $(a, b)$ of
# the velocity and the denominator of (5.10), and write down what (5.10) becomes. (b) Find the weight $w(t)$ (5.11).
# (c) At which $t$ can $\epsilon$-prediction not be solved, and at which the velocity? (d) At one end $w(t)$ has no limit.
# What error of $x_0$ does an error of 1 in the velocity bring there?
#
# <details><summary>Answer</summary>
#
# (a) $a = \alpha_t' = -1$, $b = \sigma_t' = 1$: the target is $y = \epsilon - x_0$. The denominator is
# $\alpha_t b - \sigma_t a = (1 - t) + t = 1$, as for $v$, and (5.10) is $x_0 = x_t - t\,y$ and
# $\epsilon = x_t + (1 - t)\,y$. (b) $w = (-1 - (1-t)/t)^2 = 1/t^2$, which is $(\sqrt{\mathrm{SNR}} + 1)^2$.
# (c) $\epsilon$ at $t = 1$, where the denominator, $\alpha_t$, is zero; the velocity nowhere. (d) At $t = 0$, and there
# none: by (a) the error of $x_0$ is $t$ times that of $y$. The weight is large *because* $x_0$ is easy there.
#
# </details>

# %% tags=["check", "answer"]
# @title ✓ The pen answer
from minidiff import Flow

u = torch.linspace(0.01, 1, 100, dtype=torch.float64)
(alpha, sigma), (a, b) = Flow()(u), target_coefficients("velocity", u, Flow())
assert torch.allclose(alpha * b - sigma * a, torch.ones_like(u))
assert torch.allclose(weight("velocity", u, Flow()), u**-2)
print("✓ denominator 1, weight 1 / t^2, at a hundred times")

# %% [markdown]
# **2. Code.** Find $\epsilon$ from $x_t$ and the network's $v = \alpha_t\,\epsilon - \sigma_t\,x_0$, on a schedule with
# $\alpha_t^2 + \sigma_t^2 = 1$. It must work at all times, also where $\alpha_t$ or $\sigma_t$ is zero: no division is
# needed.

# %%
def noise_from_v(v, x_t, alpha, sigma):
    """Return eps, of the shape of v and x_t; alpha and sigma are tensors ()."""
    ### BEGIN SOLUTION
    return alpha * v + sigma * x_t
    ### END SOLUTION


# %%
def by_solve(v, x_t, alpha, sigma):
    system = torch.stack([alpha, sigma, -sigma, alpha]).view(2, 2)  # (5.10) for v
    both = torch.stack([x_t, v]).view(2, -1)
    return torch.linalg.solve(system, both)[1].view_as(v)


v, seen = torch.randn(2, 4, generator=seeded(47), dtype=torch.float64)
check(noise_from_v, by_solve, [(v, seen, *Cosine()(t)) for t in (0.3, 0.0, 1.0)],
      hint="add so much of x_t to so much of v that x0 cancels; what is left of eps?")

# %% [markdown]
# **3. Open.** Try other balances of the steps, as `weigh=` or as `chance=`, each a tensor `(T,)`: min-SNR below,
# $\min(\mathrm{SNR}, 5)$ on $x_0$ ([@hang2023]; divided by SNR, for `algorithm_1` measures the noise), or chances that
# favour the middle. `attempt` trains for ten seconds and gives both verdicts. Can you beat `attempt()` on both, and with
# `seed=1` too? What another seed turns round was chance. (Here one step, to see that it runs. So untrained, it costs far
# more than the 4.09 bits of knowing nothing.)

# %%
snr = schedule.log_snr(every).exp()
min_snr = (5 / snr).clamp(max=1).float()


def attempt(steps=1000, seed=0, **recipe):
    net = new_net(seed, dim=64, num_classes=10, width=160)
    fit(net, some_digits, steps=steps, **recipe)
    read = label_accuracy(classifier(draw(net)), asked)
    print(f"{code_length(net):.2f} bits, {read:.1%} read right")


# %% tags=["nbval-ignore-output"]
attempt(steps=1, weigh=min_snr)

# %% [markdown]
# **Deeper:** [05, deeper](deeper/05_simplified_loss.ipynb): schedules as weights, scores learned without noise, Langevin
# dynamics, more bugs. **Next:** [06 · The U-Net](06_unet.ipynb), a network worthy of pictures.
#
# ## References
#
# {references}
