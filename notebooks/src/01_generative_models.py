# %% [markdown]
# # 01 · Generative models
#
# **You have a heap of examples. How does one make more that could have been among them?** Here are four families
# of models with an answer. All four turn noise into samples. They differ in how the network learns what to make of which noise.

# %%
import torch
import torch.nn.functional as F

from minidiff import Cosine, Gaussian, Mixture, add_noise, ddim, final, target, times
from minidiff.app.metrics import sliced_wasserstein
from minidiff.course import check, diagrams, expect, families, plot, widgets
from minidiff.data import toy

torch.set_num_threads(1)  # such small networks are quickest on one thread


# %%
def seeded(seed):
    return torch.Generator().manual_seed(seed)


# %%
truth, schedule = Mixture(*toy.mixture_parameters()), Cosine()
noise = torch.randn(2000, 2, generator=seeded(1))


def best_denoiser(x, t):  # exact, no network: chapter 03
    return truth.denoise(x, t, schedule)


walk = [state.x[:600] for state in ddim(best_denoiser, noise, times(50), schedule)]
diagrams.families(noise[:600], [walk[24], walk[36], walk[-1]])

# %% [markdown]
# Orange networks are learned. The grey box is not: diffusion's way from data to noise is of our making.
#
# **You build** the central line of each model, train all four on the same data, and measure what each trades. You need
# PyTorch's basics (a network, a loss, an optimizer), mean, variance and density. It takes about 50 minutes, of which the
# computer needs two.
#
# | letter | meaning |
# |---|---|
# | $x$, $x_0$ | a data point, here two numbers |
# | $z$, $\epsilon$ | standard normal noise, $\mathcal N(0, I)$: independent numbers of mean 0 and variance 1 |
# | $p(x)$, $p_\theta(x)$ | the density of the data; that of a model's samples, with all its weights $\theta$ |
# | $E_{x \sim p}[\ldots]$ | the mean over many draws of $x$ from $p$ |
# | $x_t = \alpha_t\, x_0 + \sigma_t\, \epsilon$ | a noisy point; time $t$ goes from 0 (data) to 1 (noise), and $s < t$ |
# | $v$ | $\alpha_t\, \epsilon - \sigma_t\, x_0$, what our diffusion network predicts |

# %% [markdown]
# ## 1. The question
#
# Our examples are points in the plane, because there one sees everything: eight clusters on a circle, every other one
# half as wide and three times as rare.

# %%
data = toy.mixture(2000, seeded(0))  # (2000, 2)
alt = "Left a round cloud of noise; right eight clusters, every other one small."
diagrams.clouds({"noise": noise, "data": data}, alt, columns=2)

# %% [markdown]
# The models see such points and nothing else. *We* also know their exact density, a sum of eight Gaussians: `truth` is an
# umpire who cannot be fooled.
#
# How would you make new points? **Return one of the examples**: perfect, and never new. **Fit a Gaussian**: draw from
# the bell with the data's mean and variance. Ours have mean 0 and variance 1 along both axes, so it is the noise on the
# left.
#
# *Predict: what share of the bell's draws is near a cluster, within three of the cluster's standard deviations?*

# %%
shares = [families.near(x)[0].double().mean() for x in (data, noise)]
print(f"near a cluster: {shares[0]:.0%} of the data, {shares[1]:.0%} of the bell")

# %% [markdown]
# <details><summary>Answer</summary>
#
# About a third. The mean and the variance are right, and most draws lie where no data are.
#
# </details>

# %% tags=["check"]
# @title ✓ The bell has the right mean and variance
mean = truth.weights @ truth.means
variance = truth.weights @ (truth.means**2 + truth.stds[:, None] ** 2) - mean**2
assert mean.abs().max() < 1e-6 and torch.allclose(variance, torch.ones(2))
assert shares[0] > 0.97 and 0.3 < shares[1] < 0.38
print("✓ the eight Gaussians together have mean 0 and variance 1, to 1e-6")

# %% [markdown]
# A [generative model](../docs/glossary.md#generative-model) has to do better than the second idea without falling into
# the first. All four take noise and transform it with a network $g$:
#
# $$ z \sim \mathcal N(0, I), \qquad x = g(z). $$
#
# A classifier is told the right answer for each input. Here nobody can say which $x$ *belongs* to a given $z$. The four
# families are four ways around that.
#
# ## 2. GAN: two networks that play
#
# One need not know the right $x$ if one can *tell a fake when one sees it*, and that is a classifier's job. In a
# generative adversarial network ([@goodfellow2014]) the [discriminator](../docs/glossary.md#discriminator) $D$
# gives each point the probability that it is real. The generator $G$ wants its fakes to pass:
#
# $$ \begin{gathered}
# \min_G \max_D \; V(D, G), \\
# V(D, G) = E_{x \sim p}\big[\log D(x)\big] + E_{z}\big[\log\big(1 - D(G(z))\big)\big].
# \end{gathered} \tag{1.1} $$
#
# Which discriminator is the best, if the generator stands still and its fakes have the density $p_\theta$? Both means
# are integrals, $V = \int p \log D + p_\theta \log(1 - D)\, dx$, and $D$ may be chosen at each $x$ on its own. The
# slope in $D$ is $p / D - p_\theta / (1 - D)$. It is 0, and $V$ largest, at
#
# $$ D^*(x) = \frac{p(x)}{p(x) + p_\theta(x)} . \tag{1.2} $$
#
# **Your turn.** A discriminator ends in a *logit*, any real number, of which $D$ is the sigmoid,
# $1 / (1 + e^{-\text{logit}})$. Which logit makes $D$ equal to $D^*$?

# %%
def best_logit(log_p, log_p_theta):
    """Return the logit of D* from the two log densities at the same points."""
    ### BEGIN SOLUTION
    return log_p - log_p_theta
    ### END SOLUTION


# %%
def by_division(log_p, log_p_theta):
    p, p_theta = log_p.exp(), log_p_theta.exp()
    return torch.logit(p / (p + p_theta))


cases = [(torch.tensor([0.5, 0.2, 0.1]).log(), torch.tensor([0.5, 0.3, 0.9]).log())]
cases += [(torch.tensor([0.3, 0.2]).log(), torch.tensor([0.1, 0.4]).log())]
check(best_logit, by_division, cases,
      hint="D / (1 - D) is e to the logit, and p / p_theta for the best D")

# %% [markdown]
# Does training find this? Here is a discriminator without a network, a free logit at each place of a line, against two
# humps of data and one of fakes. `F.logsigmoid(logit)` is $\log D$, and `F.logsigmoid(-logit)` is $\log(1 - D)$.

# %%
line = torch.linspace(-4, 4, 401, dtype=torch.float64)
bell = {m: torch.distributions.Normal(*m).log_prob(line).exp()
        for m in ((-1.2, 0.3), (0.8, 0.3), (0.5, 1.0))}
real, fake = 0.4 * bell[-1.2, 0.3] + 0.6 * bell[0.8, 0.3], bell[0.5, 1.0]
logit = torch.zeros(401, dtype=torch.float64, requires_grad=True)
optimizer = torch.optim.Adam([logit], lr=0.05, eps=1e-30)
for _ in range(1500):
    value = (real * F.logsigmoid(logit) + fake * F.logsigmoid(-logit)).sum() * 0.02
    families.descend(optimizer, -value)

# %%
found = logit.detach().sigmoid()
alt = "D is near one where the data are dense, near zero where the fakes are alone."
picture, (ax,) = plot.figure(alt, width=6.4, height=3.0)
ax.fill_between(line, real, alpha=0.3)
ax.fill_between(line, fake, alpha=0.4)
ax.plot(line, found, color="black", lw=2.5)
for place, word in (((-1.2, 0.2), "data"), ((2.1, 0.2), "fakes"), ((-2.25, 0.75), "D")):
    ax.text(*place, word, fontsize=13, ha="center")
ax.set(xlabel="x", ylabel="density; D(x)", xlim=(-4, 4), ylim=(0, 1))
picture

# %% tags=["check"]
# @title ✓ Training finds the best discriminator
best = real / (real + fake)
assert (found - best)[real + fake > 1e-3].abs().max() < 1e-3
middle = (real + fake) / 2
js = sum(torch.xlogy(p, p / middle).sum() for p in (real, fake)) * 0.02 / 2
log_4 = torch.tensor(4.0).double().log()
assert torch.isclose(value.detach(), 2 * js - log_4, atol=1e-3)
print(f"✓ D agrees with (1.2) to 0.001; its V is {value:.2f}")

# %% [markdown]
# With $D^*$ in (1.1), what the generator makes small is the *Jensen-Shannon divergence* of the two densities,
# which is zero only for $p_\theta = p$ ([deeper](deeper/01_generative_models.ipynb)).
#
# In practice both networks move. For a plain fake, $D$ near 0, the slope of $\log(1 - D)$ in the logit is $-D$: almost
# none, just when the generator most needs a direction. So it maximises $\log D$ instead, whose slope is $1 - D$ (the
# authors' own advice). The whole model:

# %%
plot.show_source(families.GAN)

# %% [markdown]
# `detach` keeps the discriminator's lesson from reaching the generator. No step asks that *every* cluster be drawn. A
# generator that gets by with a few kinds of points has suffered [mode collapse](../docs/glossary.md#mode-collapse).
#
# ## 3. VAE: encode and decode
#
# A [variational autoencoder](../docs/glossary.md#variational-autoencoder) asks for the *likelihood*: make the mean of
# $\log p_\theta(x)$ over the data large. Suppose each $x$ came from a hidden code $z$, its *latent*: first
# $z \sim \mathcal N(0, I)$, then $x$ from a narrow Gaussian around the output of a network, the decoder. Then
# $p_\theta(x) = \int p(z)\, p_\theta(x \mid z)\, dz$, where $p(z)$ is the density of $\mathcal N(0, I)$.
#
# Nearly all $z$ have nothing to do with a given $x$. A second network, the encoder, says which have: a Gaussian
# $q(z \mid x)$. Multiply and divide by it. The logarithm bends down, so the logarithm of a mean is at least the mean of
# the logarithm (*Jensen's inequality*):
#
# $$ \begin{aligned}
# \log p_\theta(x) &= \log E_{z \sim q}\Big[ \frac{p(z)\, p_\theta(x \mid z)}{q(z \mid x)} \Big] \\
# &\ge \underbrace{E_{z \sim q}\big[\log p_\theta(x \mid z)\big]}_{\text{is } x \text{ reconstructed?}} -
# \underbrace{\mathrm{KL}\big(q(z \mid x) \,\|\, p(z)\big)}_{\text{is the code like noise?}} .
# \end{aligned} \tag{1.3} $$
#
# The right side is the *evidence lower bound*, [ELBO](../docs/glossary.md#elbo) ([@kingma2014]). Its second term is the [Kullback-Leibler divergence](../docs/glossary.md#kl-divergence), by which this whole
# course compares densities:
#
# $$ \mathrm{KL}(q \,\|\, p) = E_{z \sim q}\big[ \log q(z) - \log p(z) \big] , $$
#
# in *nats*, as the logarithm is the natural one. It is 0 for equal densities and else positive, but no distance: $q$ and $p$ may not be swapped. As
# $\log u \le u - 1$, minus KL is $E_q[\log (p/q)] \le E_q[p/q - 1] \le 0$.
#
# How does a gradient get *through* a random $z$? Write it as mean plus standard deviation times outside noise. This
# [reparameterisation](../docs/glossary.md#reparameterisation) returns in every diffusion model.
#
# **Your turn.** Write (1.3) for one draw of $z$. `code` is $q(z \mid x)$, `prior` is $p(z)$, `decode(z)` is
# $p_\theta(x \mid z)$: each the package's `Gaussian(mean, std)`, which has `.log_prob(x)` and `.kl(other)`.

# %%
def one_draw_elbo(x, eps, code, decode, prior):
    """Return the ELBO of each x (B, 2) with one z = mean + std eps: (B,)."""
    ### BEGIN SOLUTION
    z = code.mean + code.std * eps
    return decode(z).log_prob(x) - code.kl(prior)
    ### END SOLUTION


# %%
def solution(x, eps, code, decode, prior):
    return decode(code.mean + code.std * eps).log_prob(x) - code.kl(prior)


prior = Gaussian(torch.zeros(2), torch.ones(2))
x, eps = torch.tensor([[[0.4, -0.6], [0.1, 0.5]], [[1.0, 0.3], [-0.5, 0.8]]])
code = Gaussian(torch.tensor([[1.0, -1.0], [0.5, 0.0]]), torch.tensor([0.5]))
cases = [(x, e, code, lambda z: Gaussian(0.5 * z, torch.tensor(0.2)), prior)
         for e in (eps, -2 * eps)]
check(one_draw_elbo, solution, cases,
      hint="first z, by reparameterisation; then the two terms of (1.3)")

# %%
plot.show_source(families.VAE)

# %% [markdown]
# What does the bound lose? Exactly $\mathrm{KL}(q(z \mid x) \,\|\, p_\theta(z \mid x))$: how wrong the encoder is about
# the codes that $x$ can have.

# %% tags=["check"]
# @title ✓ The bound and its gap, summed over a grid of all z
vae, normal = families.four(0)["VAE"], torch.distributions.Normal
vae.encoder[-1].weight.data *= 8  # codes that are far from the prior
z, x = torch.cartesian_prod(*[torch.linspace(-9, 9, 181)] * 2), data[:20]
code, back = vae.encode(x), vae.decode(z)
q = normal(code.mean[:, None], code.std[:, None]).log_prob(z).sum(2)  # (20, 32761)
joint = normal(back.mean, back.std).log_prob(x[:, None]).sum(2) + prior.log_prob(z)
evidence = (joint.exp() * 0.01).sum(1).log()  # log p(x)
bound = (q.exp() * 0.01 * (joint - q)).sum(1)  # (1.3)
gap = (q.exp() * 0.01 * (q - joint + evidence[:, None])).sum(1)
assert gap.min() > 0 and torch.allclose(bound + gap, evidence, atol=1e-3)
print(f"✓ {bound.mean():.1f} + gap {gap.mean():.1f} = log p(x) {evidence.mean():.1f}")

# %% [markdown]
# ## 4. Flow: a map that can be undone
#
# A [normalizing flow](../docs/glossary.md#normalizing-flow) knows its likelihood exactly, for it allows only maps that can
# be inverted. Let $f$ take data to noise, $z = f(x)$; then sampling is $x = f^{-1}(z)$. Probability is only moved. If
# $f$ makes a small area around $x$ twice as large, the density at $z$ is half that at $x$. So the density at $x$ is that
# at $z$ times the factor of areas:
#
# $$ \log p_\theta(x) = \log \mathcal N\big(f(x);\ 0, I\big)
# + \log \left| \det \frac{\partial f}{\partial x} \right| . \tag{1.4} $$
#
# ($\mathcal N(z; 0, I)$ is the density of standard noise at $z$, and the determinant of the slopes
# $\partial f_i / \partial x_j$ is the factor.) For most networks neither inverse nor determinant is at hand. RealNVP
# ([@dinh2017]) stacks *coupling* steps, for which both are easy. Split $x$ into halves $a$ and $b$, here one number each.
# Keep $a$; stretch and shift $b$ by amounts that only $a$ decides:
#
# $$ (a, b) \;\mapsto\; \big(a,\ e^{r(a)}\, b + m(a)\big), \qquad \text{log-determinant } r(a). $$
#
# The networks $r$ and $m$ may be anything. The next step swaps the roles of $a$ and $b$, and log-determinants add up.
#
# **Your turn.** Undo a step.

# %%
def undo(a, b_new, r, m):
    """Return (a, b) from a and b_new = e^r(a) b + m(a); r and m are functions."""
    ### BEGIN SOLUTION
    return a, (b_new - m(a)) * torch.exp(-r(a))
    ### END SOLUTION


# %%
a, b = torch.tensor([0.5, -1.0]), torch.tensor([2.0, 3.0])
cases = [(a, torch.exp(r(a)) * b + m(a), r, m)
         for r, m in ((torch.sin, torch.cos), (torch.cos, torch.square))]
check(undo, lambda a, b_new, r, m: (a, b), cases,
      hint="a was kept, so r(a) and m(a) are known: subtract, then divide")

# %%
plot.show_source(families.RealNVP)

# %% tags=["check"]
# @title ✓ There and back, the Jacobian, and a density that sums to one
torch.manual_seed(1)
flow, side = families.RealNVP(), torch.linspace(-6, 6, 241)
z, log_det = flow.encode(data[:20])
one = torch.func.jacrev(lambda p: flow.encode(p[None])[0][0])
jacobian = torch.func.vmap(one)(data[:20])
assert torch.allclose(flow.sample(z), data[:20], atol=1e-4)
assert torch.allclose(torch.linalg.slogdet(jacobian).logabsdet, log_det, atol=1e-4)
with torch.no_grad():
    mass = flow.log_prob(torch.cartesian_prod(side, side)).exp().sum() * 0.05**2
assert abs(mass - 1) < 0.01
print(f"✓ round trip and log-determinant to 1e-4; the density sums to {mass:.2f}")

# %% [markdown]
# ## 5. Diffusion: add noise, learn to remove it
#
# Here is the idea of diffusion ([@sohldickstein2015], [@ho2020]): *make the pairs yourself*. Going from data to noise
# needs no learning. Mix a data point $x_0$ with noise $\epsilon$, more of it with every moment $t$ from 0 to 1:
#
# $$ x_t = \alpha_t\, x_0 + \sigma_t\, \epsilon, \qquad
# \alpha_t = \cos \tfrac{\pi t}{2}, \quad \sigma_t = \sin \tfrac{\pi t}{2} . $$
#
# The package's `Cosine()` returns such pairs $(\alpha_t, \sigma_t)$, and `add_noise` mixes.

# %%
moments = (0.0, 0.15, 0.3, 0.5, 0.7, 1.0)
noisy = {f"t = {t}": add_noise(data, noise, t, schedule) for t in moments}
diagrams.clouds(noisy, "Eight clusters swell and merge into one round cloud.")

# %% [markdown]
# The way back is unknown, so a network learns to guess it. Ours predicts ([@salimans2022])
#
# $$ v = \alpha_t\, \epsilon - \sigma_t\, x_0 $$
#
# from $x_t$ and $t$. Why $v$? A guess of $\epsilon$ gives $x_0$ by a division by $\alpha_t$, which is 0 at $t = 1$; a guess of
# $x_0$ gives $\epsilon$ by one by $\sigma_t$, which is 0 at $t = 0$. With $v$ nothing is divided at either end. With
# $\alpha_t^2 + \sigma_t^2 = 1$ the two equations give
#
# $$ x_0 = \alpha_t\, x_t - \sigma_t\, v, \qquad \epsilon = \sigma_t\, x_t + \alpha_t\, v . $$
#
# The loss is the plainest there is, and right answers are free, as we made $x_0$ and $\epsilon$:
#
# $$ L(\theta) = E_{x_0, \epsilon, t}\Big[ \big| v_\theta(x_t, t) - v \big|^2 \Big] . \tag{1.5} $$
#
# Many pairs $(x_0, \epsilon)$ lead to the same $x_t$, and the guess with the least squared error is the *mean* of their
# $v$. It may not be trusted far: take a short step, look again, guess again. That is why sampling takes many steps. In
# one, from $t$ to $s < t$, believe the guess, and mix the $x_0$ and $\epsilon$ that follow from it anew, for time $s$.
#
# **Your turn.**

# %%
def step_back(x_t, v, t, s, schedule):
    """Return x_s from x_t and a guess of v, for s < t."""
    (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule(t), schedule(s)
    ### BEGIN SOLUTION
    x0, eps = alpha_t * x_t - sigma_t * v, sigma_t * x_t + alpha_t * v
    return alpha_s * x0 + sigma_s * eps
    ### END SOLUTION


# %%
def by_package(x_t, v, t, s, schedule):
    x0 = schedule(t)[0] * x_t - schedule(t)[1] * v
    (state,) = ddim(lambda x, time: x0, x_t, torch.tensor([t, s]), schedule)
    return state.x


x, guess = torch.tensor([[[1.0, -0.5]], [[0.3, 2.0]]]).double()
cases = [(x, guess, t, s, schedule) for t, s in ((0.8, 0.6), (0.5, 0.1), (1.0, 0.9))]
check(step_back, by_package, cases,
      hint="x0 and eps by the two equations; then the mix, with alpha_s and sigma_s")

# %% [markdown]
# Fifty such steps, from $t = 1$ to $0$, are the package's `ddim` ([@song2020]). It asks for $x_0$, and `Denoiser` turns
# a guess of $v$ into one. `times(50)` are the 51 moments; `final` takes the last state. The whole model:

# %%
plot.show_source(families.Diffusion)

# %% tags=["check"]
# @title ✓ With the best guess that exists, the steps lead to the data
ideal = final(ddim(best_denoiser, noise, times(200), schedule))
x_t, v = add_noise(data, noise, 0.3, schedule), target("v", data, noise, 0.3, schedule)
alpha, sigma = (float(c) for c in schedule(0.3))
assert torch.allclose(alpha * x_t - sigma * v, data, atol=1e-5)
assert torch.allclose(sigma * x_t + alpha * v, noise, atol=1e-5)
strays, poorest = families.coverage(ideal)
assert strays < 0.03 and poorest > 0.8
print(f"✓ {1 - strays:.0%} of the samples end near a cluster; each gets its share")

# %% [markdown]
# That is all, and it is the real thing: 02 derives the noise, 03 the way back, 04 and 05 the loss.
#
# ## 6. The race
#
# First a ruler. To compare two samples of numbers, sort both and take the mean distance of points of equal rank, the
# *Wasserstein distance*. In the plane, look at both clouds from one side, as at shadows on a line, and average over many
# sides. A side is a unit vector $u$, the numbers $a \cdot u$ are the shadow of the cloud $a$, and $a^u_{(i)}$ is the
# $i$-th smallest of them:
#
# $$ \mathrm{SW}(a, b) = \frac{1}{K} \sum_{u} \frac{1}{N} \sum_{i=1}^{N} \big| a^u_{(i)} - b^u_{(i)} \big| \tag{1.6} $$
#
# over $K$ sides and $N$ ranks is the *sliced Wasserstein distance* ([@bonneel2015]), in the units of the data.
#
# *Predict: two fresh draws of the data, 2,000 points each. How far are they apart?*

# %%
other = truth.sample(2000, seeded(100))
floor = [sliced_wasserstein(truth.sample(2000, seeded(k)), other) for k in range(6)]
print(f"two draws of the truth: {min(floor):.3f} to {max(floor):.3f}")

# %% [markdown]
# <details><summary>Answer</summary>
#
# Not 0: finite samples differ, smaller ones more. A distance means nothing without this floor.
#
# </details>

# %% tags=["check"]
# @title ✓ The distance of two shadows is what must be carried
square = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
moved = square[[2, 0, 3, 1]] + torch.tensor([0.3, 0.4])  # by 0.5, in another order
assert abs(sliced_wasserstein(square, moved, 4000) - 0.5 * 2 / torch.pi) < 1e-4
p, q, total = noise.double(), data.double(), 0.0
for angle in torch.arange(64).double() * torch.pi / 64:
    u = torch.stack([angle.cos(), angle.sin()])
    total += ((p @ u).sort().values - (q @ u).sort().values).abs().mean()
assert abs(total / 64 - sliced_wasserstein(noise, data)) < 1e-6
print("✓ (1.6) by hand to 1e-6; of a shift by 0.5 the mean shadow is 0.5 times 2/pi")

# %% [markdown]
# Now the four models, with equally many weights, on the same 2,400 batches of 256 points. After every 120 batches we
# look at what becomes of the *same* 2,000 noise points.
#
# *Predict: which model shows eight clusters first? Which is best in the end?*

# %%
models, looks = families.four(3), []
for k, _ in enumerate(families.train_together(models, 2400, seed=5), start=1):
    if k % 120 == 0:
        looks.append({name: families.draw(m, noise) for name, m in models.items()})

# %%
def frame(k):
    alt = "Four models during training, each from a smear to a ring of clusters."
    shown = {name: cloud[:1000] for name, cloud in looks[k].items()}
    return diagrams.clouds(shown, alt, columns=4, title=f"{120 * (k + 1)} batches")


widgets.film([frame(k) for k in range(20)], ms=300)

# %%
alt = "Distance to the data over the batches: four uneven lines that fall."
picture, (ax,) = plot.figure(alt, width=6.4, height=3.4)
gaps = {}
for name in models:
    gaps[name] = [sliced_wasserstein(look[name], data) for look in looks]
    ax.plot(range(120, 2401, 120), gaps[name], label=name, lw=2)
ax.axhspan(min(floor), max(floor), color="0.85")
ax.text(150, min(floor) * 1.07, "two draws of the truth", fontsize=11)
ax.set(xlabel="batches", ylabel="distance to the data", yscale="log")
ax.legend(fontsize=11, ncols=2)
picture

# %% tags=["nbval-ignore-output"]
weights = [sum(w.numel() for w in model.parameters()) for model in models.values()]
expect(max(weights) < 1.03 * min(weights), "the four have equally many weights, to 3 %")
fresh = truth.sample(10_000, seeded(100))
z = torch.randn(10_000, 2, generator=seeded(9))
far = {name: sliced_wasserstein(families.draw(m, z), fresh)
       for name, m in models.items()}
print("10,000 points:", ", ".join(f"{name} {d:.3f}" for name, d in far.items()))
expect(far["diffusion"] < 0.8 * min(far[name] for name in ("GAN", "VAE", "flow")),
       "at 10,000 points diffusion is the closest by more than a fifth")

# %% [markdown]
# <details><summary>Answer</summary>
#
# In the stored run diffusion ends closest. The order of the others must not be read off the figure: 2,000 points are too
# few, as the width of the grey band shows, and at 10,000 GAN and flow are as good as equal.
#
# </details>
#
# In the film the GAN bends a line round the circle and keeps moving it. The VAE unfolds slowly and stays soft. The flow
# bends the sheet into a ring that is open at one place. Diffusion has the ring early, and then parts the clusters. The
# lines of the distance are jagged, for each look is at a model in the middle of its training, whose learning rate falls
# to zero only at the end.
#
# ### What each trades
#
# Ten thousand new points from each model, and four numbers. *Strays* is the share of points near no cluster. The *poorest
# cluster* is the smallest share that a cluster gets, relative to its due: 1 is fair, 0 a lost mode. *Nats lost* is
# $\mathrm{KL}(p \,\|\, p_\theta)$ on fresh points: exact for the flow (1.4), an upper bound for the VAE (1.3). For
# diffusion, walk the data out to noise by `ddim`'s steps upwards: that map can be undone, so (1.4) holds for it, exactly up
# to the error of the steps ([@song2021]). *Seconds* are those of drawing.

# %%
import time

samples, seconds = {}, {}  # of the same noise z
for name, model in models.items():
    began = time.perf_counter()
    samples[name] = families.draw(model, z)
    seconds[name] = time.perf_counter() - began
counted = {name: families.coverage(cloud) for name, cloud in samples.items()}
strays, poorest = ({name: pair[k] for name, pair in counted.items()} for k in (0, 1))

# %%
x = truth.sample(4000, seeded(11))
with torch.no_grad():
    log_p = {"VAE": models["VAE"].elbo(x, seeded(12))}
    log_p["flow"] = models["flow"].log_prob(x)
    end, log_det = families.walk_out(models["diffusion"], x)
    log_p["diffusion"] = families.standard(end).log_prob(end) + log_det
exact, nats = truth.log_prob(x, 0.0, schedule), {"GAN": 0.0}  # t = 0: the data
for name, value in log_p.items():
    nats[name] = float((exact - value).mean())

# %%
alt = "Bars: diffusion has the fewest strays and the fairest clusters, and is slowest."
diagrams.bars({"strays": strays, "poorest\ncluster": poorest, "nats lost": nats,
               "seconds": seconds}, alt, unknown=0.0)

# %% tags=["nbval-ignore-output"]
exact_strays = families.coverage(truth.sample(10_000, seeded(3)))[0]
expect(strays["diffusion"] == min(strays.values()), "diffusion has the fewest strays")
expect(poorest["diffusion"] == max(poorest.values()), "its clusters are the fairest")
print(f"strays of the data {exact_strays:.3f}, of diffusion {strays['diffusion']:.3f}")
expect(min(strays.values()) > 4 * exact_strays, "all leave many more than the data")
expect(seconds["diffusion"] > 5 * max(seconds["GAN"], seconds["VAE"], seconds["flow"]),
       "diffusion takes over five times as long as any other")
expect(max(nats.values()) < 0.8, "where it is known, less than 0.8 nats are lost")

# %% [markdown]
# | | GAN | VAE | flow | diffusion |
# |---|---|---|---|---|
# | calls for a sample | 1 | 1 | 1 | 50 here, chosen after training |
# | likelihood | none | a bound | exact | exact up to the error of the steps |
# | networks | any | any | invertible only | any |
# | dimension of the noise | free | free | that of the data | that of the data |
# | training | a game | regression, and a learned code | maximum likelihood | regression |
# | does the loss say how good it is? | no | as a bound | in nats | roughly, as it hardly moves |
#
# So: a GAN where one call must do, a VAE where a short code is wanted, a flow where the likelihood must be exact, diffusion
# where samples and coverage count. (It pays with many calls; chapter 17 teaches it to do with one.) Be fair: toys flatter
# some models, and ten years of remedies for GANs are not in our fifteen lines.
# [Deeper](deeper/01_generative_models.ipynb) shows the losses, and what the distance does not see.
#
# ### How much is luck?
#
# One training is one draw. Here are GAN and diffusion from eight seeds each, for 800 batches.

# %%
reference = truth.sample(10_000, seeded(100))
ended = {"GAN": [], "diffusion": []}
for seed in range(31, 39):
    torch.manual_seed(seed)
    pair = {"GAN": families.GAN(), "diffusion": families.Diffusion()}
    for _ in families.train_together(pair, 800, seed + 1):
        pass
    for name, model in pair.items():
        ended[name].append(sliced_wasserstein(families.draw(model, z), reference))

# %%
alt = "Eight dots each: the GAN's lie wider, and farther."
picture, (ax,) = plot.figure(alt, width=6.4, height=2.0)
for row, values in enumerate(ended.values()):
    ax.plot(values, [row] * 8, "o", ms=9, alpha=0.6, color=plot.COLOURS[3 * row])
ax.set(yticks=[0, 1], yticklabels=list(ended), ylim=(1.6, -0.6), xlim=(0, None))
ax.set_xlabel("distance to the truth after 800 batches")
picture

# %% tags=["nbval-ignore-output"]
for name, values in ended.items():
    values = torch.tensor(values)
    print(f"{name:10} {values.mean():.3f} +- {values.std():.3f} (standard deviation)")
spread = {name: torch.tensor(values).std() for name, values in ended.items()}
expect(spread["GAN"] > 1.3 * spread["diffusion"], "the GAN's distances spread wider")
expect(min(ended["GAN"]) > max(ended["diffusion"]), "every GAN ends farther")

# %% [markdown]
# The level differs, and so does the *spread*: the GAN's result varies more with the seed, though not wildly. (The race is
# one draw too.)
#
# ## 7. Where does each noise point go?
#
# All four are maps from the same noise. Paint the noise in eight sectors, and see where the colours end.
#
# *Predict: which maps keep neighbours together? Can such a map make eight separate clusters?*

# %%
few = {"noise": z[:3000]} | {name: cloud[:3000] for name, cloud in samples.items()}
few["exact walk"] = final(ddim(best_denoiser, z[:3000], times(50), schedule))
sector = (torch.atan2(*z[:3000].T) / (2 * torch.pi) * 8).floor().long() % 8
colours = [plot.COLOURS[k] for k in sector]
alt = "Noise in eight colours, and where the colours end: patches, in five ways."
diagrams.clouds(few, alt, colours=colours)

# %% [markdown]
# <details><summary>Answer</summary>
#
# All of them (the VAE's up to its decoder's noise): networks are *continuous* maps, and these cannot tear the noise, which
# is in one piece. Hence the threads between clusters. A steep map makes them thin, and the
# exact walk is so steep that hardly a point is left on them; no continuous map cuts them.
#
# </details>
#
# Is the flow's ring open because its map can be undone? No: the exact walk of diffusion can be undone too, as we shall
# see, and goes all the way round. What is limited is how far a
# trained map stretches the noise, and where.
#
# ### Ask twice
#
# Is *this* map the answer, or one of many? Train all again three times, a quarter as long, from other random weights and on
# other batches, and send the same noise through.
#
# *Predict: for which models does a noise point end in the same cluster every time?*

# %%
homes = {name: families.near(cloud)[1] for name, cloud in samples.items()}
same = {name: [] for name in models}
for seed in (14, 24, 34):
    again = families.four(seed)
    for _ in families.train_together(again, 600, seed=seed + 1):
        pass
    for name, model in again.items():
        found = families.near(families.draw(model, z))[1] == homes[name]
        same[name].append(found.double().mean())

# %% tags=["nbval-ignore-output"]
by_walk = families.near(final(ddim(best_denoiser, z, times(50), schedule)))[1]
as_exact = (by_walk == homes["diffusion"]).double().mean()
for name, shares in same.items():
    print(f"{name:10}", ", ".join(f"{share:.0%}" for share in shares))
print(f"by chance  {truth.weights.square().sum():.0%}")
expect(min(same["diffusion"]) > 0.85, "diffusion sends most noise to the same cluster")
expect(as_exact > 0.85, "and to that of the exact walk, without any network")
expect(max(min(same[name]) for name in ("GAN", "VAE", "flow")) < 0.4,
       "each other model, in some run, sends most of it elsewhere")

# %% [markdown]
# <details><summary>Answer</summary>
#
# Reliably for diffusion only. The others found *a* map, and may by accident find one again, or, turned, one that agrees
# less than by chance. Diffusion found *the* map.
#
# </details>
#
# Once the way from data to noise is fixed, the best guess at each place and time is a fact about the data, and so is the
# whole walk back: no opponent, no code to be agreed on. [@song2021] call it *uniquely identifiable encoding*, and showed
# it on images.
#
# ### One start, walked four ways
#
# Does noise then not destroy all trace of the data? Both are true, of different walks. Take one start and the exact
# denoiser. `ddim` walks without new noise. `ddpm`, the sampler of [@ho2020], adds fresh noise at each step. Then walk
# `ddim`'s data point out to noise: by `ddim`'s steps backwards, and by small steps of fresh noise. (They come from
# `transition`, which chapter 02 derives.)
#
# *Predict: which of the four walks forgets where it began?*

# %%
from minidiff import ddpm

start = torch.tensor([[-0.45, 0.25]])
crowd, up = start.repeat(400, 1), torch.linspace(0, 1, 201).double()
by_ddim = [state.x for state in ddim(best_denoiser, start, times(200), schedule)]
by_ddpm = [state.x for state in ddpm(best_denoiser, crowd, times(50), schedule,
                                     seeded(5))]
by_ddim, by_ddpm = torch.stack([start, *by_ddim]), torch.stack([crowd, *by_ddpm])
back_out = families.path_back(best_denoiser, by_ddim[-1], up, schedule)
out = by_ddim[-1].repeat(400, 1)
noised_out = families.path_of_noise(out, up[::4], schedule, seeded(7))

# %%
panels = {"noise to data, ddim:\none start, one end": by_ddim,
          "noise to data, ddpm:\none start, many ends": by_ddpm,
          "data to noise, ddim backwards:\nthe start again": back_out,
          "data to noise, fresh noise:\nmany ends, no trace": noised_out}
alt = ("Left two smooth paths, each the other reversed. Right jagged paths: 400 ends "
       "of one start fill all clusters; 400 ends of one data point fill the noise.")
diagrams.four_walks(panels, [data, data, noise, noise], alt)

# %% [markdown]
# <details><summary>Answer</summary>
#
# The two on the right, in which fresh noise comes in. Blue are the ends of 400 walks from the one black start.
#
# </details>
#
# On the left each start has one end, and the walk can be undone: a noise point *has* a data point. On the right one start
# has many ends. 400 walks of `ddpm` from *one* noise point reach all clusters, in their shares; 400 walks out from *one*
# data point are plain noise. What both kinds share is not where a point goes but where *all* points are: from many
# starts, with the exact denoiser and short steps, `ddim` and `ddpm` make the same clouds at every time. Training needs no
# walk, as one jump leads to each $x_t$; sampling takes either upper one (chapter 08).

# %% tags=["check"]
# @title ✓ Two walks remember, two forget
assert (back_out[-1] - start).norm() < 0.01
ends = families.path_of_noise(out.repeat(10, 1), up, schedule, seeded(6))[-1]
off = max(ends.mean(0).abs().max(), (ends.std(0) - 1).abs().max())
assert off < 4 / 4000**0.5
found, due = torch.bincount(families.near(by_ddpm[-1])[1]), 400 * truth.weights
assert ((found - due).square() / due).sum() < 24.3  # chi-square, 1 in 1,000
print("✓ ddim backwards returns to 0.01; one start of ddpm reaches all clusters in",
      "their shares; one data point, noised, has mean 0 and variance 1")

# %% [markdown]
# ## What to keep
#
# - A generative model maps noise to data. Nobody says which noise belongs to which point.
# - GAN: a discriminator that estimates $p / (p + p_\theta)$ (1.2). VAE: a learned code and a bound on the likelihood
#   (1.3). Flow: an invertible map and its exact likelihood (1.4).
# - Diffusion: a fixed way to noise and one regression (1.5). It finds nearly the same map each time, and pays with many calls.
# - `ddim` gives each noise point its data point, `ddpm` does not. With the exact denoiser and short
#   steps both make the same clouds.
# - Measure against a floor, the truth against itself (1.6), and from more than one seed.
#
# ## Exercises
#
# **1. Pen.** (a) Real points and fakes have no place in common. What are $D^*$ and $V(D^*, G)$? What changes if the fakes
# move a little closer? (b) On `Cosine`, $\alpha_t = \cos\varphi$ and $\sigma_t = \sin\varphi$ with
# $\varphi = \frac{\pi}{2} t$. Show that `step_back` to the angle $\varphi - \delta$ is
# $\cos\delta\; x_t - \sin\delta\; v$.
#
# <details><summary>Answer</summary>
#
# (a) Where $p > 0$ there is $p_\theta = 0$, so by (1.2) $D^* = 1$ on real points, 0 on fakes, and
# $V = \log 1 + \log 1 = 0$, wherever the fakes are: the generator is told nothing.
# (b) $x_0 = \cos\varphi\, x_t - \sin\varphi\, v$ and $\epsilon = \sin\varphi\, x_t + \cos\varphi\, v$. In
# $\cos(\varphi - \delta)\, x_0 + \sin(\varphi - \delta)\, \epsilon$ the factor of $x_t$ is
# $\cos(\varphi - \delta)\cos\varphi + \sin(\varphi - \delta)\sin\varphi = \cos\delta$ and that of $v$ is
# $\sin(\varphi - \delta)\cos\varphi - \cos(\varphi - \delta)\sin\varphi = -\sin\delta$.
#
# </details>

# %% tags=["check", "answer"]
# @title ✓ The pen answer (b), against the package's step
t, s = 0.8, 0.55
v = target("v", data, noise, t, schedule)
x_t = add_noise(data, noise, t, schedule)
delta = torch.tensor((t - s) * torch.pi / 2)
turned = delta.cos() * x_t - delta.sin() * v
(state,) = ddim(lambda x, time: data, x_t, torch.tensor([t, s]), schedule)
assert torch.allclose(turned, state.x, atol=1e-5)
print("✓ a turn by 0.25 of a quarter circle is a step of ddim, to 1e-5")

# %% [markdown]
# **2. Code.** On a line one needs no network: the smallest noise becomes the smallest data point, the second smallest the
# second, and so on. Write `by_rank(z, data)`, without a loop.

# %%
def by_rank(z, data):
    """What each of n noises z (n,) becomes, of n data points (n,), both unsorted: (n,).

    Noises 0.5, 2, -1 and data points 10, 30, 20 give 20, 30, 10.
    """
    ### BEGIN SOLUTION
    return data.sort().values[z.argsort().argsort()]
    ### END SOLUTION


# %%
def by_counting(z, data):
    smaller = (z[:, None] > z).sum(1)  # how many noises are smaller
    return data.sort().values[smaller]


cases = [(torch.tensor([0.5, 2.0, -1.0]), torch.tensor([10.0, 30.0, 20.0]))]
cases += [tuple(torch.randn(2, n, generator=seeded(n)).unbind(0)) for n in (5, 100)]
check(by_rank, by_counting, cases,
      hint="z.argsort() says who stands where; you want the place of each noise")

# %% [markdown]
# This carries one sample to the other the shortest way, by the distance of (1.6) from one side.
#
# **3. Open.** `families.VAE(latent=1)` has a single number as its code. What can its decoder draw? Predict on which data
# it will be as good as two numbers: `toy.mixture`, `moons`, `rings`, `checkerboard`, `swiss_roll`. Then let `duel` say
# (800 batches take seconds). A difference counts if another seed repeats it and if it is large beside the last number.
# After that, do the flow's threads get thinner with more layers, `families.RealNVP(42, 16)`, if you lower its rate too?

# %%
def duel(make, n=800, seed=40):
    """Distance to 10,000 points: with one latent, with two, and of other points."""
    torch.manual_seed(seed)
    fresh, clouds = make(10_000, seeded(42)), [make(10_000, seeded(43))]
    for latent in (2, 1):
        vae = families.VAE(latent=latent)
        codes = torch.randn(10_000, latent, generator=seeded(44))
        for _ in families.train_together({"VAE": vae}, n, 40, make):
            pass
        clouds.insert(0, families.draw(vae, codes))
    return [sliced_wasserstein(cloud, fresh) for cloud in clouds]


# %% tags=["nbval-ignore-output"]
one, two, chance = duel(toy.mixture, n=40)  # much too short: a start
print(f"after 40 batches: one latent {one:.2f}, two {two:.2f}; by chance {chance:.3f}")

# %% [markdown]
# **Deeper:** [01, deeper](deeper/01_generative_models.ipynb) has the value of the game, what losses tell, what the
# distance does not see, how steep the maps are, why the way to noise is fixed, and a quiz of bugs.
#
# **Next:** [02 · Forward diffusion](02_forward_diffusion.ipynb), how data become noise.
#
# ## References
#
# {references}
