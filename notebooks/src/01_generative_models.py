# %% [markdown]
# # 01 · Generative models
#
# **You have a heap of examples. How does one make more that could have been among them?** Four families of models turn
# noise into samples. They differ in how the network learns *what* to make of *which* noise.

# %%
import time
from itertools import pairwise

import torch
import torch.nn.functional as F

from minidiff import (Cosine, Gaussian, Mixture, add_noise, cfg, ddim, final, target,
                      times)
from minidiff.app.checkpoint import load_denoiser
from minidiff.app.metrics import sliced_wasserstein
from minidiff.course import check, diagrams, expect, families, plot, widgets, yours
from minidiff.data import load, shipped, toy

torch.set_num_threads(1)  # such small networks are quickest on one thread


# %%
def seeded(seed):
    return torch.Generator().manual_seed(seed)


truth, schedule = Mixture(*toy.mixture_parameters()), Cosine()
noise = torch.randn(2000, 2, generator=seeded(1))


def best_denoiser(x, t):  # exact, no network: chapter 03
    return truth.denoise(x, t, schedule)


walk = [state.x[:600] for state in ddim(best_denoiser, noise, times(50), schedule)]
diagrams.families(noise[:600], [walk[24], walk[36], walk[-1]])

# %% [markdown]
# Orange boxes are learned; the grey one is not. The right column is needed only while the model learns.
#
# **You build** the central line of each model, train all four on the same data, and measure what each trades. You need
# PyTorch's basics (a network, a loss, an optimizer), mean, variance and density. It takes about 50 minutes without the
# exercises; the computer needs two of them.
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
# A picture of 32 by 32 pixels is a point with 1,024 coordinates, and the examples are a cloud of such points. What is
# the simplest model of a cloud? A *Gaussian*, with the mean and the covariances of the examples.
#
# *Predict: what do draws from that Gaussian look like, if the examples are clothes?*

# %%
clothes = load("fashion").tensor()  # (10000, 1, 32, 32)
mean = clothes.mean(0)
mix = torch.randn(8, len(clothes), generator=seeded(1)) / len(clothes) ** 0.5
gaussian = mean + torch.einsum("nk,kchw->nchw", mix, clothes - mean)
denoiser, _ = load_denoiser(shipped("fashion.safetensors"))
guided = cfg(denoiser, torch.tensor([9, 1, 2, 3, 8, 0, 4, 7]), null=10, w=2.0)
grain = torch.randn(8, 1, 32, 32, generator=seeded(2))
drawn = final(ddim(guided, grain, times(25), denoiser.schedule))
alt = "Photographs of clothes; Gaussian draws, smudges; diffusion's draws, clothes."
rows = {"examples": clothes[:8], "Gaussian": gaussian, "diffusion": drawn}
diagrams.pictures(rows, alt)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Ghosts of many clothes at once: mean and covariances are right, and no draw is a garment. The last row is drawn by
# the network of chapter 00.
#
# </details>
#
# For the rest of the chapter a point has two coordinates, because there one sees everything. Rings of Gaussians are a
# usual test ([@metz2017]). Ours has eight, every other one half as wide and three times as rare.

# %%
data = toy.mixture(2000, seeded(0))  # (2000, 2)
alt = "Left a round cloud of noise; right eight clusters, every other one small."
diagrams.clouds({"noise": noise, "data": data}, alt, columns=2)

# %% [markdown]
# The models see such points and nothing else. *We* also know their exact density, `truth`. Here, too, the Gaussian fails:
# the data have mean 0 and variance 1 along both axes, so it is the noise on the left.

# %% tags=["check"]
# @title ✓ The Gaussian has the right mean and variance, and a third near a cluster
mean = truth.weights @ truth.means
variance = truth.weights @ (truth.means**2 + truth.stds[:, None] ** 2) - mean**2
assert mean.abs().max() < 1e-6 and torch.allclose(variance, torch.ones(2))
shares = [families.near(x)[0].double().mean() for x in (data, noise)]
assert shares[0] > 0.97 and 0.3 < shares[1] < 0.38
print(f"✓ within three standard deviations of a cluster: {shares[0]:.0%} of the data,",
      f"{shares[1]:.0%} of the Gaussian")

# %% [markdown]
# A [generative model](../docs/glossary.md#generative-model) has to do better, without just returning the examples. All four
# take noise and transform it with a network $g$:
#
# $$ z \sim \mathcal N(0, I), \qquad x = g(z). $$
#
# A classifier is told the right answer for each input. Here nobody can say which $x$ *belongs* to a given $z$. The four
# families are four ways around that. (There are others: autoregressive models, for one, write a sample number by number.)
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
# $1 / (1 + e^{-\text{logit}})$. Which logit makes $D$ equal to $D^*$? The cell after a gap
# goes on with *your* function if it is right.

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
logit_of = yours(best_logit, by_division, cases,
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
    families.descend(optimizer, -value)  # zero_grad, backward, step

# %%
found = logit.detach().sigmoid()
alt = "D rises over each hump of data and is near zero where the fakes are alone."
picture, (ax,) = plot.figure(alt, width=6.4, height=3.0)
ax.fill_between(line, real, alpha=0.3)
ax.fill_between(line, fake, alpha=0.4)
ax.plot(line, found, color="black", lw=2.5)
for place, word in (((-1.2, 0.2), "data"), ((2.1, 0.2), "fakes"), ((-2.25, 0.75), "D")):
    ax.text(*place, word, fontsize=14, ha="center")
ax.set_xlabel("x", fontsize=12)
ax.set(ylabel="density; D(x)", xlim=(-4, 4), ylim=(0, 1))
picture

# %% tags=["check"]
# @title ✓ Training finds the best discriminator, (1.2)
off = (found - logit_of(real.log(), fake.log()).sigmoid())[real + fake > 1e-3].abs()
assert off.max() < 1e-3
print("✓ the trained D is the sigmoid of your logit, to 0.001")

# %% [markdown]
# Against $D^*$ the generator makes the *Jensen-Shannon divergence* of the two densities small, which is zero only for
# $p_\theta = p$ ([deeper](deeper/01_generative_models.ipynb)).
#
# In practice both networks move. For a plain fake, $D$ near 0, the slope of $\log(1 - D)$ in the logit is $-D$: almost
# none, just when the generator most needs a direction. So it maximises $\log D$ instead, whose slope is $1 - D$ (the
# authors' own advice). `detach` keeps the discriminator's lesson from reaching the generator.

# %%
plot.show_source(families.GAN.learn)

# %% [markdown]
# No step asks that *every* cluster be drawn. A generator that gets by with a few kinds of points suffers
# [mode collapse](../docs/glossary.md#mode-collapse). Ours avoids it by an optimizer without momentum, `betas=(0, 0.9)`.
# Here is what it does with Adam's usual ones.

# %% tags=["nbval-ignore-output"]
torch.manual_seed(2)
gan, collapse = families.GAN(), {}
gan.optimizers = [families.adam(net, 1e-3, betas=(0.9, 0.999))
                  for net in (gan.discriminator, gan.generator)]
for k, _ in enumerate(families.train_together({"GAN": gan}, 800, seed=2), start=1):
    if k % 200 == 0:
        collapse[f"{k} batches"] = families.draw(gan, noise)
close, cluster = families.near(families.draw(gan, noise))
found = torch.bincount(cluster[close], minlength=8) > 20  # one point in a hundred
expect(found.sum() < 6, "after 800 batches three clusters or more are lost")
alt = "A lump or an arc that moves about; in the stored run never a ring."
diagrams.clouds(collapse, alt, columns=4)

# %% [markdown]
# ## 3. VAE: encode and decode
#
# A [variational autoencoder](../docs/glossary.md#variational-autoencoder) ([@kingma2014], [@rezende2014]) asks for the
# *likelihood*: make the mean of $\log p_\theta(x)$ over the data large. Suppose each $x$ came from a hidden code $z$, its *latent*: first
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
# The right side is the *evidence lower bound*, [ELBO](../docs/glossary.md#elbo). Its second term is the
# [Kullback-Leibler divergence](../docs/glossary.md#kl-divergence), by which this whole course compares densities:
#
# $$ \mathrm{KL}(q \,\|\, p) = E_{z \sim q}\big[ \log q(z) - \log p(z) \big] , $$
#
# in *nats*, as the logarithm is the natural one. It is 0 for equal densities and else positive, but no distance: $q$ and
# $p$ may not be swapped. Of two Gaussians it has a closed form, `q.kl(p)`.
#
# How does a gradient get *through* a random $z$? Write it as mean plus standard deviation times outside noise. This
# [reparameterisation](../docs/glossary.md#reparameterisation) returns in every diffusion model.
#
# **Your turn.** Write (1.3) for one draw of $z$, with KL in closed form. `code` is $q(z \mid x)$, `prior` is $p(z)$,
# `decode(z)` is $p_\theta(x \mid z)$: each the package's `Gaussian(mean, std)`, which has `.log_prob(x)` and `.kl(other)`.

# %%
def one_draw_elbo(x, eps, code, decode, prior):
    """Return the ELBO of each x (B, 2) with one z = mean + std eps: (B,)."""
    ### BEGIN SOLUTION
    z = code.mean + code.std * eps
    return decode(z).log_prob(x) - code.kl(prior)
    ### END SOLUTION


# %%
def by_torch(x, eps, code, decode, prior):
    given = code, prior, decode(torch.addcmul(code.mean, code.std, eps))
    q, p, back = (torch.distributions.Normal(g.mean, g.std) for g in given)
    kl = torch.distributions.kl_divergence(q, p)
    return (back.log_prob(x) - kl).sum(1)


x, eps = torch.tensor([[[0.4, -0.6], [0.1, 0.5]], [[1.0, 0.3], [-0.5, 0.8]]])
code = Gaussian(torch.tensor([[1.0, -1.0], [0.5, 0.0]]), torch.tensor([0.5]))
cases = [(x, e, code, lambda z: Gaussian(0.5 * z, torch.tensor(0.2)),
          families.standard(x)) for e in (eps, -2 * eps)]
elbo = yours(one_draw_elbo, by_torch, cases,
             hint="first z, by reparameterisation; then the two terms of (1.3)")

# %% [markdown]
# In the model it is a method. What it takes to sample is the decoder alone.

# %%
plot.show_source(families.VAE.elbo, families.VAE.sample)

# %% [markdown]
# What does the bound lose? By Bayes, the codes that $x$ can have are distributed as
# $p_\theta(z \mid x) = p(z)\, p_\theta(x \mid z) / p_\theta(x)$. Put this into (1.3): the bound is $\log p_\theta(x)$
# minus $\mathrm{KL}(q(z \mid x) \,\|\, p_\theta(z \mid x))$. The better the encoder, the smaller the gap.

# %% tags=["check"]
# @title ✓ (1.3): your bound and its gap make the likelihood, by a grid of all z
side, vae = torch.linspace(-9, 9, 181), families.four(0)["VAE"].requires_grad_(False)
vae.encoder[-1].weight.data *= 20  # codes that are far from the prior
x, z = data[:10].repeat(4000, 1), torch.cartesian_prod(side, side)
code, back, prior = vae.encode(x), vae.decode(z), families.standard(x)
bound = elbo(x, torch.randn(x.shape), code, vae.decode, prior).reshape(4000, 10).mean(0)
for k in range(10):
    joint = families.standard(z).log_prob(z) + back.log_prob(x[k].expand_as(z))
    evidence = (joint.exp() * 0.01).sum().log()  # log p(x)
    q = Gaussian(code.mean[k].expand_as(z), code.std[k]).log_prob(z)
    gap = (q.exp() * 0.01 * (q - (joint - evidence))).sum()
    assert gap > 0.01 and (bound[k] + gap - evidence).abs() < 0.1
print(f"✓ ten points; last: {bound[k]:.1f} + gap {gap:.1f} = log p(x) {evidence:.1f}")

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
# Here $\mathcal N(z; 0, I)$ is the density of standard noise at $z$, and the determinant of the slopes
# $\partial f_i / \partial x_j$ is the factor.
#
# For most networks neither inverse nor determinant is at hand. RealNVP
# ([@dinh2017]) stacks *coupling* steps, for which both are easy. Split $x$ into halves $a$ and $b$, here one number each.
# Keep $a$; stretch and shift $b$ by amounts that only $a$ decides:
#
# $$ (a, b) \;\mapsto\; \big(a,\ e^{r(a)}\, b + m(a)\big), \qquad \text{log-determinant } r(a). $$
#
# The functions $r$ and $m$ may be any networks. Log-determinants add up along the steps.
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
back = yours(undo, lambda a, b_new, r, m: (a, b), cases,
             hint="a was kept, so r(a) and m(a) are known: subtract, then divide")

# %% [markdown]
# The package's step also swaps the halves, so that the next one changes the other half, and never stretches by more than
# $e^2$.

# %%
plot.show_source(families.Coupling, families.RealNVP.log_prob)

# %% tags=["check"]
# @title ✓ (1.4): there and back, the Jacobian, and a density that sums to one
torch.manual_seed(1)
flow, side = families.RealNVP().requires_grad_(False), torch.linspace(-6, 6, 241)
z, log_det = flow.encode(data[:20])
layer, (a, b) = flow.steps[0], data[:20].chunk(2, 1)
r, m = (lambda a, k=k: layer.coefficients(a)[k] for k in (0, 1))
assert torch.allclose(back(a, layer(a, b)[0], r, m)[1], b, atol=1e-5)
one = torch.func.jacrev(lambda p: flow.encode(p[None])[0][0])
jacobian = torch.func.vmap(one)(data[:20])
assert torch.allclose(torch.linalg.slogdet(jacobian).logabsdet, log_det, atol=1e-4)
mass = flow.log_prob(torch.cartesian_prod(side, side)).exp().sum().item() * 0.05**2
assert torch.allclose(flow.sample(z), data[:20], atol=1e-4) and abs(mass - 1) < 0.01
print(f"✓ round trip and log-determinant to 1e-4; the density sums to {mass:.2f}")

# %% [markdown]
# ## 5. Diffusion: add noise, learn to remove it
#
# The idea of diffusion ([@sohldickstein2015], [@ho2020]) is to *make the pairs yourself*. Going from data to noise
# needs no learning. Mix a data point $x_0$ with noise $\epsilon$, more of it with every moment $t$ from 0 to 1:
#
# $$ x_t = \alpha_t\, x_0 + \sigma_t\, \epsilon, \qquad
# \alpha_t = \cos \tfrac{\pi t}{2}, \quad \sigma_t = \sin \tfrac{\pi t}{2} . $$
#
# This cosine schedule goes back to [@nichol2021]. The package's `Cosine()` returns the pairs $(\alpha_t, \sigma_t)$, and
# `add_noise` mixes.

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
# $x_0$ gives $\epsilon$ by one by $\sigma_t$, which is 0 at $t = 0$. With $v$ nothing is divided, as
# $\alpha_t^2 + \sigma_t^2 = 1$:
#
# $$ x_0 = \alpha_t\, x_t - \sigma_t\, v, \qquad \epsilon = \sigma_t\, x_t + \alpha_t\, v . $$
#
# The right answers are free, as we made $x_0$ and $\epsilon$. The loss is the plainest there is:
#
# $$ L(\theta) = E_{x_0, \epsilon, t}\Big[ \big| v_\theta(x_t, t) - v \big|^2 \Big] . \tag{1.5} $$
#
# Many pairs $(x_0, \epsilon)$ lead to the same $x_t$, and the guess with the least squared error is the *mean* of their
# $v$. Followed all the way, it leads to a mean of many data points, where there may be none. So take a short step, look
# again, guess again. In one step, from $t$ to $s < t$, believe the guess, and mix the $x_0$ and $\epsilon$ that follow
# from it anew, for time $s$.
#
# **Your turn.** Chapter 00's step took a guess of $x_0$; this one takes $v$.

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
    return final(ddim(lambda x, time: x0, x_t, torch.tensor([t, s]), schedule))


x, guess = torch.tensor([[[1.0, -0.5]], [[0.3, 2.0]]]).double()
cases = [(x, guess, t, s, schedule) for t, s in ((0.8, 0.6), (0.5, 0.1), (1.0, 0.9))]
step = yours(step_back, by_package, cases,
             hint="x0 and eps by the two equations; then mix with alpha_s and sigma_s")

# %% [markdown]
# Now walk, with your step and the best guess that exists.

# %%
x = noise.double()
for t, s in pairwise(times(50)):
    alpha, sigma = schedule(t)
    v = (alpha * x - best_denoiser(x, t)) / sigma  # the v that belongs to its x0
    x = step(x, v, t, s, schedule)
diagrams.clouds({"your walk": x, "data": data}, "Both are eight clusters.", columns=2)

# %% tags=["check"]
# @title ✓ With the best guess, your steps lead to the data, as the package's do
off = (x - final(ddim(best_denoiser, noise.double(), times(50), schedule))).abs().max()
strays, poorest = families.coverage(x)
assert off < 1e-5 and strays < 0.04 and poorest > 0.75
print(f"✓ equal to ddim's ends, to 1e-5; {1 - strays:.0%} end near a cluster")

# %% [markdown]
# These steps are the package's `ddim` ([@song2020]). `Denoiser` turns a guess of $v$ into one of $x_0$, for which it
# asks; `times(50)` are the 51 moments, and `final` takes the last state. The model:

# %%
plot.show_source(families.Diffusion.learn, families.Diffusion.sample)

# %% [markdown]
# That is all, and it is the real thing: 02 derives the noise, 03 the way back, 04 and 05 the loss.
#
# ## 6. The race
#
# First a ruler. To compare two samples of numbers, sort both and take the mean distance of points of equal rank, the
# *Wasserstein distance* $W_1$. In the plane, look at both clouds from one side, as at shadows on a line, and average over
# many sides. A side is a unit vector $u$, and $a^u_{(i)}$ is the $i$-th smallest of the numbers $a \cdot u$, the shadow
# of the cloud $a$:
#
# $$ \mathrm{SW}(a, b) = \frac{1}{K} \sum_{u} \frac{1}{N} \sum_{i=1}^{N} \big| a^u_{(i)} - b^u_{(i)} \big| \tag{1.6} $$
#
# over $K$ sides and $N$ ranks is the *sliced Wasserstein distance* ([@rabin2012], [@bonneel2015]), in the units of the
# data.
#
# *Predict: noise and data are 0.22 apart. And two fresh draws of the data, 2,000 points each?*

# %%
other = truth.sample(2000, seeded(100))
print(f"noise and data: {sliced_wasserstein(noise, data):.2f}")
floor = [sliced_wasserstein(truth.sample(2000, seeded(k)), other) for k in range(6)]
print(f"two draws of the truth: {min(floor):.3f} to {max(floor):.3f}")

# %% [markdown]
# <details><summary>Answer</summary>
#
# Not 0: finite samples differ, smaller ones more. A distance means nothing without this floor.
#
# </details>

# %% tags=["check"]
# @title ✓ (1.6): the distance of two shadows is what must be carried
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
# Now the four models, with equally many weights, on the same 2,400 batches of 256 points. The film shows what becomes of
# the *same* 2,000 noise points.
#
# *Predict: which model shows eight clusters first? Which is best in the end?*

# %%
models, looks = families.four(3), {}
for k, _ in enumerate(families.train_together(models, 2400, seed=5), start=1):
    if k % 120 == 0:
        looks[k] = {name: families.draw(m, noise) for name, m in models.items()}

# %%
def frame(k):
    alt = "Four models during training, each from a smear to a ring of clusters."
    shown = {"noise": noise} | looks[k] | {"data": data}
    shown = {name: cloud[:600] for name, cloud in shown.items()}
    return diagrams.clouds(shown, alt, title=f"{k} batches")


widgets.film([frame(k) for k in looks], ms=300)

# %%
panels = [(name if k == 120 else "", cloud[:1000], "")
          for k in (120, 720, 2400) for name, cloud in looks[k].items()]
alt = "Three looks at four models: after 120 batches smears, after 2,400 rings."
diagrams.predictions(panels, 4, ["120 batches", "720", "2,400"], alt)

# %% tags=["nbval-ignore-output"]
weights = [sum(w.numel() for w in model.parameters()) for model in models.values()]
expect(max(weights) < 1.03 * min(weights), "the four have equally many weights, to 3 %")
fresh = truth.sample(10_000, seeded(100))
z = torch.randn(10_000, 2, generator=seeded(9))
far = {name: sliced_wasserstein(families.draw(m, z), fresh)
       for name, m in models.items()}
print("10,000 points:", ", ".join(f"{name} {d:.3f}" for name, d in far.items()))
expect(far["diffusion"] < 0.8 * min(far[name] for name in ("GAN", "VAE", "flow")),
       "diffusion is the closest by more than a fifth")

# %% [markdown]
# <details><summary>Answer</summary>
#
# In the stored run three have a ring by 720 batches, and the VAE follows. None ends with eight clean clusters. Diffusion
# comes closest, with four round clusters and four soft arcs.
#
# </details>
#
# ### What each trades
#
# Three more numbers, of ten thousand points. *Strays* are the share of points near no cluster. The *poorest
# cluster* is the smallest share that a cluster gets, relative to its due: 1 is fair, 0 a lost mode. *Nats lost* is
# $\mathrm{KL}(p \,\|\, p_\theta)$ on fresh points: exact for the flow (1.4), an upper bound for the VAE (1.3).
#
# And for diffusion? Walk the data out to noise by `ddim`'s steps upwards. That map can be undone, so (1.4) holds for
# it, up to the error of the steps ([@song2021]).

# %%
samples, seconds = {}, {}  # of the same noise z
for name, model in models.items():
    began = time.perf_counter()
    samples[name] = families.draw(model, z)
    seconds[name] = time.perf_counter() - began
counted = {"truth": families.coverage(truth.sample(10_000, seeded(3)))}
counted |= {name: families.coverage(cloud) for name, cloud in samples.items()}
strays, poorest = ({name: pair[k] for name, pair in counted.items()} for k in (0, 1))

# %%
x = truth.sample(4000, seeded(11))
with torch.no_grad():
    log_p = {"VAE": models["VAE"].elbo(x, seeded(12))}
    log_p["flow"] = models["flow"].log_prob(x)
    end, log_det = families.walk_out(models["diffusion"], x)
    log_p["diffusion"] = families.standard(end).log_prob(end) + log_det
exact, nats = truth.log_prob(x, 0.0, schedule), {"truth": 0.0, "GAN": None}
for name, value in log_p.items():
    nats[name] = float((exact - value).mean())

# %%
alt = "Diffusion is nearest to the truth in all three; the GAN's clusters are poor."
left, right = "$\\leftarrow$ better", "better $\\rightarrow$"
diagrams.bars({f"strays\n{left}": strays, f"poorest cluster\n{right}": poorest,
               f"nats lost\n{left}": nats}, alt)

# %% tags=["nbval-ignore-output"]
slow = seconds.pop("diffusion")
print(f"seconds to draw: diffusion {slow:.2f}, the others at most",
      f"{max(seconds.values()):.2f}")
expect(slow > 5 * max(seconds.values()), "diffusion takes over five times as long")
learned = [name for name in models if name != "diffusion"]
expect(strays["diffusion"] < min(strays[name] for name in learned), "it strays least")
expect(strays["diffusion"] > 4 * strays["truth"], "and still far more than the data")
expect(poorest["diffusion"] > max(poorest[name] for name in learned),
       "its clusters are the fairest")
expect(poorest["GAN"] == min(poorest.values()), "the GAN's are the least fair")

# %% [markdown]
# By distance the GAN was as good as the flow, and yet one of its clusters gets less than a third of its due. No single
# number tells everything. (Strays flatter, too: midway between two clusters a point counts as near the wider one.)
#
# | | GAN | VAE | flow | diffusion |
# |---|---|---|---|---|
# | calls for a sample | 1 | 1 | 1 | 50 here, chosen after training |
# | likelihood | none | a bound | exact | exact up to the error of the steps |
# | dimension of the noise | free | free | that of the data | that of the data |
# | does the loss say how good it is? | no | as a bound | in nats | roughly, as it hardly moves |
#
# So: a GAN where one call must do, a VAE where a short code is wanted, a flow where the likelihood must be exact, diffusion
# where samples and coverage count. On photographs, too, diffusion overtook the best GANs, with many more calls
# ([@dhariwal2021]). One training is one draw, and toys flatter some models:
# [deeper](deeper/01_generative_models.ipynb) repeats the race with other seeds and learning rates.
#
# ## 7. Where does each noise point go?
#
# All four are maps from the same noise. Paint the noise in eight sectors, and see where the colours end.
#
# *Predict: which maps keep neighbours together? Can such a map make eight separate clusters?*

# %%
few = {"noise": z[:2000]} | {name: cloud[:2000] for name, cloud in samples.items()}
few["exact walk"] = final(ddim(best_denoiser, z[:2000], times(50), schedule))
sector = (torch.atan2(*z[:2000].T) / (2 * torch.pi) * 8).floor().long() % 8
# rings: sector = (3 * z[:2000].norm(dim=1)).long() % 8
colours = [plot.COLOURS[k] for k in sector]
alt = "Noise in eight colours, and where the colours end: patches, in five ways."
diagrams.clouds(few, alt, colours=colours)

# %% [markdown]
# <details><summary>Answer</summary>
#
# All of them (the VAE's up to its decoder's noise): networks are *continuous* maps, and these cannot tear the noise, which
# is in one piece. Hence threads between clusters. A steep map makes them thin, and the
# exact walk is so steep that hardly a point is left on them.
#
# </details>
#
# Is the flow's ring open because its map can be undone? No: the exact walk of diffusion can be undone too, as we shall
# see, and goes all the way round. What is limited is how far a trained map stretches the noise, and where. (Paint the
# noise your own way: the comment has rings.)
#
# ### Ask twice
#
# Is *this* map the answer, or one of many? Train all again three times, a quarter as long, from other random weights and on
# other batches, and send the same noise through.
#
# *Predict: for which models does a noise point end in the same cluster every time?*

# %%
homes = {name: families.near(cloud)[1] for name, cloud in samples.items()}
same, twice = {name: [] for name in models}, {name: few[name] for name in models}
for seed in (14, 24, 34):
    again = families.four(seed)
    for _ in families.train_together(again, 600, seed=seed + 1):
        pass
    for name, model in again.items():
        cloud = families.draw(model, z)
        same[name].append((families.near(cloud)[1] == homes[name]).double().mean())
        twice.setdefault(f"{name}, again", cloud[:2000])

# %%
alt = "Above the clouds of the race; below, only diffusion's has the same colours."
diagrams.clouds(twice, alt, colours=colours, columns=4)

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
# whole walk back. [@song2021] call it *uniquely identifiable encoding*, and showed it on images.
#
# ### One start, walked four ways
#
# Does noise then not destroy all trace of the data? It depends on the walk. `ddim` walks without new noise. `ddpm`, the
# sampler of [@ho2020], adds fresh noise at each step. Each can also be walked from data to noise. Take the exact denoiser.
#
# *Predict: which of the four walks forgets where it began?*

# %%
angle, radius = 0.63 * torch.arange(10), torch.tensor([2.0, 0.8]).repeat(5)
around = torch.stack([radius * angle.cos(), radius * angle.sin()], 1)
starts = torch.cat([torch.tensor([[-0.2, 0.1]]), around])
ways = families.four_ways(starts, best_denoiser, schedule)
titles = ("noise to data, ddim:\none start, one end",
          "noise to data, ddpm:\none start, many ends",
          "data to noise, ddim backwards:\nthe start again",
          "data to noise, fresh noise:\nmany ends, no trace")
panels = dict(zip(titles, ways.values(), strict=True))
alt = ("Left eleven smooth paths, and the same reversed. Right 400 ends of one start "
       "fill all clusters, and 400 ends of one data point fill the noise.")
diagrams.four_walks(panels, [data, data, noise, noise], alt)

# %% [markdown]
# <details><summary>Answer</summary>
#
# The two on the right, in which fresh noise comes in: blue are the ends of 400 walks from the black start. On the left
# are the walks of eleven starts.
#
# </details>
#
# On the left a noise point *has* a data point. On the right one start reaches all clusters, in their shares. What both
# kinds share is where *all* points are: from many starts, with the exact denoiser and short steps, they make
# the same clouds at every time. Training needs no walk, as one jump leads to each $x_t$; sampling takes either of the
# upper ones (chapter 08).

# %% tags=["check"]
# @title ✓ Two walks remember, two forget
assert (ways["ddim backwards"][-1] - starts).norm(dim=1).max() < 0.1
out, up = ways["ddim"][-1, :1], torch.linspace(0, 1, 51).double()
half = families.path_of_noise(out.repeat(4000, 1), up[:26], schedule, seeded(6))[-1]
alpha, sigma = (float(c) for c in schedule(0.5))  # in 25 steps as in one jump
off = max((half.mean(0) - alpha * out).abs().max(), (half.std(0) - sigma).abs().max())
assert off < 4 * sigma / 4000**0.5
found = torch.bincount(families.near(ways["ddpm"][-1])[1], minlength=8)
due = 400 * truth.weights
assert ((found - due).square() / due).sum() < 24.3  # chi-square, 1 in 1,000
print("✓ ddim backwards returns to 0.1; one start of ddpm reaches all clusters in",
      "their shares; a data point, half noised, has mean alpha x0, deviation sigma")

# %% [markdown]
# ## What to keep
#
# - A generative model maps noise to data. Nobody says which noise belongs to which point.
# - GAN: a discriminator that estimates $p / (p + p_\theta)$ (1.2). VAE: a learned code and a bound on the likelihood
#   (1.3). Flow: an invertible map and its exact likelihood (1.4).
# - Diffusion: a fixed way to noise and one regression (1.5). It finds nearly the same map each time, and pays with many calls.
# - `ddim` gives each noise point its data point; `ddpm` does not.
# - Measure against a floor, the truth against itself (1.6), and with more than one number.
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
print("✓ a step of ddim from 0.8 to 0.55 is a turn by 22.5 degrees, to 1e-5")

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
one, two, chance = duel(toy.mixture, n=40)  # far too short
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
