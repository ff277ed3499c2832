# %% [markdown]
# # 01 · Generative models
#
# **You have a heap of examples. How does one make more that could have been among them?** Four families of models turn
# noise into samples. They differ in how the network learns *what* to make of *which* noise.

# %%
import time
from itertools import combinations, pairwise

import torch
import torch.nn.functional as F

from minidiff import (Cosine, Gaussian, Mixture, add_noise, cfg, ddim, ddpm, final,
                      target, times)
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
# Orange boxes are learned; the grey one is not. The right column is needed only while the model learns. All rows
# show the same points; how well each model learns is the race of section 6. (Layout: [@weng2021].)
#
# **You build** the central line of each model, and train all four on the same data. Only one will find the same map
# twice. You need PyTorch's basics (a network, a loss, an optimizer), densities as integrals, and in section 4 a
# determinant. It takes about 50 minutes, twice that if densities are new to you, and the computer three of them.
#
# | letter | meaning |
# |---|---|
# | $x$, $x_0$ | a data point, here two numbers |
# | $z$, $\epsilon$ | standard normal noise, $\mathcal N(0, I)$: independent numbers of mean 0 and variance 1 |
# | $p(x)$, $p_\theta(x)$ | the density of the data; the density of a model's samples, if its weights are $\theta$ |
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
# a random mix of all examples, each less the mean, has their covariances
mix = torch.randn(8, len(clothes), generator=seeded(1)) / len(clothes) ** 0.5
gaussian = mean + torch.einsum("nk,kchw->nchw", mix, clothes - mean)
denoiser, _ = load_denoiser(shipped("fashion.safetensors"))
guided = cfg(denoiser, torch.tensor([9, 1, 2, 3, 8, 0, 4, 7]), null=10, w=2.0)
grain = torch.randn(8, 1, 32, 32, generator=seeded(2))
drawn = final(ddim(guided, grain, times(25), denoiser.schedule))
rows = {"examples": clothes[:8], "Gaussian": gaussian, "diffusion": drawn}
diagrams.pictures(rows, "Three rows of eight pictures.")

# %% [markdown]
# <details><summary>Answer</summary>
#
# Ghosts of many clothes at once: mean and covariances are right, and no draw is a garment. The last row is drawn by
# chapter 00's network, which has help: the name of each garment, and a guidance of 2.
#
# </details>
#
# From here on a point has two coordinates. Rings of Gaussians are a usual test ([@metz2017]). Ours has eight, every other
# one half as wide and three times as rare.

# %%
data = toy.mixture(2000, seeded(0))  # (2000, 2)
alt = "Left a round cloud of noise; right eight clusters, every other one small."
diagrams.clouds({"noise": noise, "data": data}, alt, columns=2)

# %% [markdown]
# The models see such points and nothing else. *We* also know their exact density, `truth`. Here, too, the Gaussian fails:
# the data have mean 0, variance 1 along both axes and covariance 0, so it is the noise on the left.

# %% tags=["check"]
# @title ✓ The Gaussian has the right mean and covariance, and a third near a cluster
mean = truth.weights @ truth.means
second = (truth.weights * truth.means.T) @ truth.means  # of the centres
covariance = second + truth.weights @ truth.stds**2 * torch.eye(2)
assert mean.abs().max() < 1e-6
assert torch.allclose(covariance, torch.eye(2).to(covariance), atol=1e-6)
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
# $1 / (1 + e^{-\text{logit}})$. Which logit makes $D$ equal to $D^*$? The cell after a gap
# goes on with *your* function if it is right.

# %%
def best_logit(log_p, log_p_theta):
    """Return the logit of D* from the two log densities at the same points."""
    ### BEGIN SOLUTION
    return log_p - log_p_theta
    ### END SOLUTION


# %% tags=["folded"]
# @title Check your answer
def by_division(log_p, log_p_theta):
    p, p_theta = log_p.exp(), log_p_theta.exp()
    return torch.logit(p / (p + p_theta))


cases = [(torch.tensor([0.5, 0.2, 0.1]).log(), torch.tensor([0.5, 0.3, 0.9]).log())]
cases += [(torch.tensor([0.3, 0.2]).log(), torch.tensor([0.1, 0.4]).log())]
logit_of = yours(best_logit, by_division, cases,
                 hint="D / (1 - D) is e to the logit, and p / p_theta for the best D")

# %% [markdown]
# Does training find this? Here is a discriminator without a network, a free logit at each place of a line. Take two
# humps of data and one of fakes. `F.logsigmoid(logit)` is $\log D$, and `F.logsigmoid(-logit)` is $\log(1 - D)$.
#
# *Predict: at $x = 3$ there is hardly a point of either kind. What is $D$ there: 0, ½ or 1?*

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
alt = "Two humps of data, one wide hump of fakes, and the line D over them."
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
assert off.max() < 1e-3 and found[350] < 1e-3  # the place 350 is x = 3
print("✓ the trained D is the sigmoid of your logit, to 0.001")

# %% [markdown]
# <details><summary>Answer</summary>
#
# 0. Only the ratio of the densities counts, and the data's narrow humps fade far sooner than the fakes' wide one.
#
# </details>
#
# Against $D^*$ the generator makes a distance of the two densities small, the *Jensen-Shannon divergence*
# ([deeper](deeper/01_generative_models.ipynb)).
#
# In practice both networks move. For a plain fake $D$ is near 0. There $\log(1 - D)$, which is
# $-\log(1 + e^{\text{logit}})$, has the slope $-D$ in the logit: almost none, just when the generator most needs a
# direction. So it maximises $\log D$ instead, whose slope is $1 - D$ (the authors' own advice). `detach` keeps the
# discriminator's lesson from reaching the generator.

# %%
plot.show_source(families.GAN.learn)

# %% [markdown]
# No step asks that *every* cluster be drawn. A generator that gets by with a few kinds of points suffers
# [mode collapse](../docs/glossary.md#mode-collapse). Ours does without the momentum of Adam's usual averages,
# `betas=(0, 0.9)`, as [@gulrajani2017] do. Here it learns with momentum and without, for 800 batches.

# %% tags=["nbval-ignore-output"]
looks, kept = {}, {}
for name, betas in (("momentum", (0.9, 0.999)), ("without", (0.0, 0.9))):
    torch.manual_seed(2)
    gan = families.GAN()
    gan.optimizers = [families.adam(net, 1e-3, betas=betas)
                      for net in (gan.discriminator, gan.generator)]
    for k, _ in enumerate(families.train_together({"GAN": gan}, 800, seed=2), start=1):
        if k in (400, 800):
            looks[f"{name}, {k}"] = families.draw(gan, noise)
    close, cluster = families.near(families.draw(gan, noise))
    kept[name] = int((torch.bincount(cluster[close], minlength=8) > 20).sum())

# %% tags=["nbval-ignore-output"]
print("clusters kept, with one point in a hundred or more:", kept)
expect(kept["momentum"] < kept["without"], "with momentum clusters are lost")
diagrams.over(looks, data, "Four blue clouds, each over the grey data.")

# %% [markdown]
# Momentum collapses *often*, not always: with the seeds 2 to 7 it kept 1, 7, 5, 8, 2 and 2 clusters, and without it all
# eight each time.

# %% [markdown]
# ## 3. VAE: encode and decode
#
# A [variational autoencoder](../docs/glossary.md#variational-autoencoder) ([@kingma2014], [@rezende2014]) asks for the
# *likelihood*: make the mean of $\log p_\theta(x)$ over the data large.
#
# Suppose each $x$ came from a hidden code $z$, its *latent*: first $z \sim \mathcal N(0, I)$, then $x$ from a Gaussian
# around the output of a network, the decoder. (Its width is learned; we shall see it as fog.) Then
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
# [Kullback-Leibler divergence](../docs/glossary.md#kl-divergence),
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
# `decode(z)` is $p_\theta(x \mid z)$: each the package's `Gaussian(mean, std)`. Its `.log_prob(x)` and `.kl(other)` have
# already added up the coordinates.

# %%
def one_draw_elbo(x, eps, code, decode, prior):
    """Return the ELBO of each x (B, 2) with one z = mean + std eps: (B,)."""
    ### BEGIN SOLUTION
    z = code.mean + code.std * eps
    return decode(z).log_prob(x) - code.kl(prior)
    ### END SOLUTION


# %% tags=["folded"]
# @title Check your answer
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
# In the model it is a method. To sample takes the decoder alone.

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
print(f"✓ untrained; a point: {bound[k]:.1f} + gap {gap:.1f} = log p(x) {evidence:.1f}")

# %% [markdown]
# ## 4. Flow: a map that can be undone
#
# A [normalizing flow](../docs/glossary.md#normalizing-flow) knows its likelihood exactly, for it allows only maps that can
# be inverted ([@rezende2015]). Let $f$ take data to noise, $z = f(x)$; then sampling is $x = f^{-1}(z)$. Probability is only moved. If
# $f$ makes a small area around $x$ twice as large, the density at $z$ is half that at $x$. So the density at $x$ is that
# at $z$ times the factor of areas:
#
# $$ \log p_\theta(x) = \log \mathcal N\big(f(x);\ 0, I\big)
# + \log \left| \det \frac{\partial f}{\partial x} \right| . \tag{1.4} $$
#
# Here $\mathcal N(z; 0, I)$ is the density of standard noise at $z$. The factor is the absolute determinant of the slopes
# $\partial f_i / \partial x_j$.
#
# For most networks neither inverse nor determinant is at hand. RealNVP
# ([@dinh2017]) stacks *coupling* steps ([@dinh2014]), for which both are easy. Split $x$ into halves $a$ and $b$, here one number each.
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


# %% tags=["folded"]
# @title Check your answer
a, b = torch.tensor([0.5, -1.0]), torch.tensor([2.0, 3.0])
cases = [(a, torch.exp(r(a)) * b + m(a), r, m)
         for r, m in ((torch.sin, torch.cos), (torch.cos, torch.square))]
back = yours(undo, lambda a, b_new, r, m: (a, b), cases,
             hint="a was kept, so r(a) and m(a) are known: subtract, then divide")

# %% [markdown]
# The package's step also swaps the halves, and never stretches by more than $e^2$. `encode` takes all steps and adds up
# their log-determinants.

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
# A network learns to guess the way back. Ours predicts ([@salimans2022])
#
# $$ v = \alpha_t\, \epsilon - \sigma_t\, x_0 $$
#
# from $x_t$ and $t$. Why $v$? It gives both $x_0$ and $\epsilon$ without a division by $\alpha_t$ or $\sigma_t$, which can be 0,
# as $\alpha_t^2 + \sigma_t^2 = 1$:
#
# $$ x_0 = \alpha_t\, x_t - \sigma_t\, v, \qquad \epsilon = \sigma_t\, x_t + \alpha_t\, v . $$
#
# The right answers are free, as we made $x_0$ and $\epsilon$. The loss is plain (the code averages over coordinates):
#
# $$ L(\theta) = E_{x_0, \epsilon, t}\Big[ \big| v_\theta(x_t, t) - v \big|^2 \Big] . \tag{1.5} $$
#
# Many pairs $(x_0, \epsilon)$ lead to the same $x_t$, and the guess with the least squared error is the *mean* of their
# $v$. Followed all the way, it leads to a mean of many data points, where there may be none. So take a short step and guess
# again. In one step, from $t$ to $s < t$, believe the guess, and mix the $x_0$ and $\epsilon$ that follow
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


# %% tags=["folded"]
# @title Check your answer
def by_package(x_t, v, t, s, schedule):
    x0 = schedule(t)[0] * x_t - schedule(t)[1] * v
    return final(ddim(lambda x, time: x0, x_t, torch.tensor([t, s]), schedule))


x, guess = torch.tensor([[[1.0, -0.5]], [[0.3, 2.0]]]).double()
cases = [(x, guess, t, s, schedule) for t, s in ((0.8, 0.6), (0.5, 0.1), (1.0, 0.9))]
step = yours(step_back, by_package, cases,
             hint="x0 and eps by the two equations; then mix with alpha_s and sigma_s")

# %% [markdown]
# Now walk, with your step and the best guess that exists. It is one of $x_0$; the $v$ that belongs to it comes from
# solving $x_0 = \alpha_t\, x_t - \sigma_t\, v$.

# %%
x = noise.double()
for t, s in pairwise(times(50)):
    alpha, sigma = schedule(t)
    v = (alpha * x - best_denoiser(x, t)) / sigma
    x = step(x, v, t, s, schedule)
diagrams.clouds({"your walk": x, "data": data}, "Both are eight clusters.", columns=2)

# %% tags=["check"]
# @title ✓ With the best guess, your steps lead to the data, as the package's do
off = (x - final(ddim(best_denoiser, noise.double(), times(50), schedule))).abs().max()
strays, poorest = families.coverage(x)
assert off < 1e-5 and strays < 0.18 and poorest > 0.75
print(f"✓ equal to ddim's ends, to 1e-5; {1 - strays:.0%} end within two deviations")

# %% [markdown]
# These steps are the package's `ddim` ([@song2020]). It asks for a guess of $x_0$, and `Denoiser` makes one of the
# network's $v$. `times(50)` are the 51 moments, and `final` takes the last state. The model:

# %%
plot.show_source(families.Diffusion.learn, families.Diffusion.sample)

# %% [markdown]
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
# *Predict: noise and data are 0.22 apart. And two fresh draws of the data?*

# %%
print(f"noise and data: {sliced_wasserstein(noise, data):.2f}")
for n in (2000, 10_000):
    other = truth.sample(n, seeded(100))
    floor = [sliced_wasserstein(truth.sample(n, seeded(k)), other) for k in range(6)]
    print(f"two draws of {n:,} points: {min(floor):.3f} to {max(floor):.3f}")

# %% [markdown]
# <details><summary>Answer</summary>
#
# Not 0: finite samples differ, smaller ones more. A distance means nothing without this floor, at the same number of
# points.
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
# Now the four models, on the same 2,400 batches of 256 points. They have equally many weights, though half of the GAN's and
# the VAE's take no part in drawing, and diffusion uses all of its own 50 times. The learning rates start at 0.001 for the
# GAN, 0.004 for VAE and flow, and 0.008 for diffusion. The film shows 600 points, of the same noise.
#
# *Predict: which model shows a ring first? Which is closest to the data in the end?*

# %%
models, looks = families.four(3), {}
for k, _ in enumerate(families.train_together(models, 2400, seed=5), start=1):
    if k % 120 == 0:
        looks[k] = {name: families.draw(m, noise) for name, m in models.items()}

# %%
def frame(k):
    alt = "Six clouds: noise, four models, data."
    shown = {"noise": noise} | looks[k] | {"data": data}
    shown = {name: cloud[:600] for name, cloud in shown.items()}
    return diagrams.clouds(shown, alt, title=f"{k} batches")


widgets.film([frame(k) for k in looks], ms=300)

# %% tags=["nbval-ignore-output"]
weights = [sum(w.numel() for w in model.parameters()) for model in models.values()]
expect(max(weights) < 1.03 * min(weights), "the four have equally many weights, to 3 %")
z = torch.randn(10_000, 2, generator=seeded(9))
samples, seconds = {}, {}  # of the same noise z
for name, model in models.items():
    began = time.perf_counter()
    samples[name] = families.draw(model, z)
    seconds[name] = time.perf_counter() - began
samples["ring"] = families.ring(10_000, seeded(10))  # see below
far = {name: sliced_wasserstein(cloud, other) for name, cloud in samples.items()}
print("distance:", ", ".join(f"{name} {far[name]:.3f}" for name in models),
      f"(floor {min(floor):.3f} to {max(floor):.3f})")

# %% [markdown]
# <details><summary>Answer</summary>
#
# In the stored run all but the VAE have one early: look at 240 batches in the film. In the end diffusion is closest, yet
# above the floor. None has eight
# clean clusters.
#
# </details>
#
# ### What each trades
#
# The *distance* is (1.6). *Strays* are beyond two standard deviations of the
# nearest centre; of a Gaussian in the plane, and so of the truth, those are $e^{-2}$, 14 %. The *poorest cluster* is the
# smallest share that any cluster gets, relative to its due: 1 is fair, 0 a lost mode.
#
# A fifth runner joins: a *ring* through the eight centres, evenly filled. It has no clusters at all.
#
# *Predict: in which of the three does the ring beat most of the models?*

# %%
counted = {"truth": families.coverage(truth.sample(10_000, seeded(3)))}
counted |= {name: families.coverage(cloud) for name, cloud in samples.items()}
strays, poorest = ({name: pair[k] for name, pair in counted.items()} for k in (0, 1))
left, right = "$\\leftarrow$ better", "better $\\rightarrow$"
diagrams.bars({f"distance\n{left}": {"truth": max(floor)} | far,
               f"strays\n{left}": strays, f"poorest cluster\n{right}": poorest},
              "Bars of three measures, for the truth, four models and a ring.")

# %% tags=["nbval-ignore-output"]
learned = ["GAN", "VAE", "flow"]
expect(far["diffusion"] < 0.8 * min(far[name] for name in learned),
       "diffusion is the closest by more than a fifth")
expect(far["ring"] == max(far.values()), "the ring is the farthest")
expect(strays["diffusion"] < min(strays[name] for name in learned),
       "diffusion strays least")
expect(poorest["ring"] > 1.2 * max(poorest[name] for name in learned),
       "and yet the ring serves the poorest cluster better than GAN, VAE and flow")
slow = seconds.pop("diffusion") / max(seconds.values())
expect(slow > 5, "diffusion takes over five times as long as any other")

# %% [markdown]
# <details><summary>Answer</summary>
#
# In the poorest cluster. It asks only for each cluster's share, and a ring passes through all of them. Distance and
# strays see that nothing is gathered there.
#
# </details>
#
# A measure answers its own question and no other. And a race is one draw. With two other seeds, for
# weights and batches, diffusion was closest again: 0.028 and 0.023, the next 0.041 and 0.036. But its poorest cluster got
# 0.34 and 0.51 of its due, the flow's 0.33 and 0.41: no large lead.
#
# A fourth number is *nats lost*, $\mathrm{KL}(p \,\|\, p_\theta)$, the mean of $\log p - \log p_\theta$ over fresh
# points. The flow knows its density (1.4), the VAE a bound (1.3). Diffusion can walk the data out to noise by `ddim`'s
# steps upwards. That map can be undone, so (1.4) holds, up to the error of the steps ([@song2021]); `walk_out` adds up
# the log-determinants.

# %% tags=["nbval-ignore-output"]
x = truth.sample(4000, seeded(11))
with torch.no_grad():
    log_p = {"VAE, at most": models["VAE"].elbo(x, seeded(12))}
    log_p["flow"] = models["flow"].log_prob(x)
    end, log_det = families.walk_out(models["diffusion"], x)
    log_p["diffusion"] = families.standard(end).log_prob(end) + log_det
for name, value in log_p.items():
    lost = truth.log_prob(x, 0.0, schedule) - value
    print(f"nats lost, {name}: {lost.mean():.2f} +- {lost.std() / 4000**0.5:.2f}")

# %% [markdown]
# | | GAN | VAE | flow | diffusion |
# |---|---|---|---|---|
# | calls for a sample | 1 | 1 | 1 | 50 here, chosen after training |
# | likelihood | none | a bound | exact | exact up to the error of the steps |
# | dimension of the noise | free | free | that of the data | that of the data |
#
# Quality, coverage and speed pull apart: [@xiao2022] call it a trilemma. On photographs, too, diffusion overtook the best
# GANs, with many more calls ([@dhariwal2021]). Later methods train it for few ([@salimans2022]).
# [Deeper](deeper/01_generative_models.ipynb) repeats a shorter race at other learning rates.
#
# ## 7. Where does each noise point go?
#
# All four are maps from the same noise. Paint the noise in eight sectors, and see where the colours end.
#
# *Predict: which maps keep neighbours together? Can such a map make eight separate clusters?*

# %%
few = {"noise": z[:2000]} | {name: samples[name][:2000] for name in models}
few["exact walk"] = final(ddim(best_denoiser, z[:2000], times(50), schedule))
sector = (torch.atan2(*z[:2000].T) / (2 * torch.pi) * 8).floor().long() % 8
# or in rings: sector = (3 * z[:2000].norm(dim=1)).long() % 8
colours = [plot.COLOURS[k] for k in sector]
diagrams.clouds(few, "Six clouds in eight colours.", colours=colours)

# %% [markdown]
# <details><summary>Answer</summary>
#
# All of them (the VAE's up to its decoder's noise): networks are *continuous* maps, and cannot tear the noise, which is
# in one piece. Hence threads between clusters. The exact walk is so steep that hardly a point is left on them.
#
# </details>
#
# ### Ask twice
#
# Train all four three times, 900 batches each, from other weights and on other batches. Send the same noise through.
#
# *Predict: for which models does a noise point end in the same cluster every time?*

# %%
homes, painted = {name: [] for name in models}, {}
for run, seed in enumerate((14, 24, 34), start=1):
    again = families.four(seed)
    for _ in families.train_together(again, 900, seed=seed + 1):
        pass
    for name, model in again.items():
        cloud = families.draw(model, z)
        homes[name].append(families.near(cloud)[1])
        painted[f"{name}, {run}"] = cloud[:2000]

# %%
shown = {name: cloud for name, cloud in painted.items() if not name.endswith("3")}
alt = "Two rows of four clouds in eight colours."
diagrams.clouds(shown, alt, colours=colours, columns=4)

# %% tags=["nbval-ignore-output"]
same = {name: [float((a == b).double().mean()) for a, b in combinations(three, 2)]
        for name, three in homes.items()}
for name, shares in same.items():
    print(f"{name:10}", ", ".join(f"{share:.0%}" for share in shares))
print(f"by chance  {truth.weights.square().sum():.0%}")
by_walk = families.near(final(ddim(best_denoiser, z, times(50), schedule)))[1]
as_exact = min((by_walk == home).double().mean() for home in homes["diffusion"])
expect(min(same["diffusion"]) > 0.85, "diffusion sends most noise to the same cluster")
expect(as_exact > 0.85, "and to that of the exact walk, without any network")
expect(max(min(same[name]) for name in ("GAN", "VAE", "flow")) < 0.4,
       "each other model, in some pair of runs, sends most of it elsewhere")

# %% [markdown]
# <details><summary>Answer</summary>
#
# For diffusion only. The others found *a* map. Diffusion found *the* map.
#
# </details>
#
# Why? Turn all the noise by the same angle, and it is still standard noise. To a GAN's or a flow's loss any turned map is
# as good. In diffusion we chose the way to noise. So the best guess at each place and time is a fact about the data, and
# with it the whole walk back. [@song2021] call it *uniquely identifiable encoding*.
#
# ### One noisy point, three walks
#
# Take a noisy point at $t = 0.8$ and the exact denoiser. `ddim` walks back without new noise. `ddpm`, the sampler of
# [@ho2020], adds fresh noise at each step. From the data point that `ddim` reaches, fresh noise also leads out again.
#
# *Predict: 400 walks of `ddpm` from this one point. Do they end in one cluster, in some, in all?*

# %%
start = torch.tensor([1.9, 0.9], dtype=torch.float64)
ways = families.three_ways(start, best_denoiser, schedule)
titles = ("back by ddim,\none walk", "back by ddpm,\n400 walks",
          "out again by noise,\n400 walks")
panels = dict(zip(titles, ways.values(), strict=True))
cloudy = add_noise(data, noise, 0.8, schedule)
diagrams.walks(panels, [data, data, cloudy], "Three panels of walks over grey clouds.")

# %% [markdown]
# <details><summary>Answer</summary>
#
# In all, but those near the start get more. `ddpm` draws from what the data can still be, *given* this $x_t$. `ddim`
# picks one of them, always the same.
#
# </details>
#
# How likely each cluster still is, Bayes' rule says: 38 % for the nearest, whose
# weight alone would give it 19 %. The check compares 4,000 walks. From $t = 1$, where
# $\alpha_t = 0$, the first step of `ddpm` throws the start away. On the way out a trace $\alpha_t\, x_0$ stays until then.

# %% tags=["check"]
# @title ✓ ddim is undone; ddpm's ends are those of Bayes; at t = 1 no trace is left
up, (alpha, sigma) = times(200, start=0.8).flip(0), schedule(0.8)
back = families.path_back(best_denoiser, ways["ddim"][-1], up, schedule)[-1]
spread = (alpha**2 * truth.stds**2 + sigma**2).sqrt()
apart = ((start - alpha * truth.means) / spread[:, None]).square().sum(1)
due = 4000 * (truth.weights.log() - 2 * spread.log() - apart / 2).softmax(0)
found = torch.bincount(families.near(ways["ddpm"][-1])[1], minlength=8)
assert ((found - due).square() / due).sum() < 24.3  # chi-square, 1 in 1,000
at_one = [final(ddpm(best_denoiser, s.expand(9, 2), times(50), schedule, seeded(1)))
          for s in (start, -3 * start)]
assert (back - start).norm() < 0.1 and (at_one[0] - at_one[1]).abs().max() < 1e-6
print(f"✓ into the nearest cluster go {found.max() / 4000:.0%} of the walks;",
      f"by Bayes {due.max() / 4000:.0%}")

# %% [markdown]
# ## What to keep
#
# - GAN: a discriminator that estimates $p / (p + p_\theta)$ (1.2). VAE: a learned code and a bound on the likelihood
#   (1.3). Flow: an invertible map and its exact likelihood (1.4).
# - Diffusion: a fixed way to noise and one regression (1.5). It finds nearly the same map each time, and pays with many calls.
# - `ddim` gives each noisy point one data point; `ddpm` draws one of all that it can still be.
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


# %% tags=["folded"]
# @title Check your answer
def by_counting(z, data):
    smaller = (z[:, None] > z).sum(1)  # how many noises are smaller
    return data.sort().values[smaller]


cases = [(torch.tensor([0.5, 2.0, -1.0]), torch.tensor([10.0, 30.0, 20.0]))]
cases += [tuple(torch.randn(2, n, generator=seeded(n)).unbind(0)) for n in (5, 100)]
check(by_rank, by_counting, cases,
      hint="z.argsort() says who stands where; you want the place of each noise")

# %% [markdown]
# **3. Open.** `families.VAE(latent=1)` has a single number as its code. What can its decoder draw? Predict on which data
# it is as good as two numbers: `toy.mixture`, `moons`, `rings`, `checkerboard`, `swiss_roll`. Then let `duel` say. A
# difference counts if another seed repeats it and if it is large beside the last number.

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
# **Deeper:** [01, deeper](deeper/01_generative_models.ipynb) has the value of the game, luck and learning rates, how
# steep the maps are, and a quiz of bugs.
#
# **Next:** [02 · Forward diffusion](02_forward_diffusion.ipynb), how data become noise.
#
# ## References
#
# {references}
