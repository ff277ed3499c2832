# %% [markdown]
# # 01 · Generative models
#
# **You have many examples. How can a computer make new ones that could have been among them?** Most models turn random
# noise into samples. They differ in how they learn *which noise becomes which*. This matters if you edit a picture
# through its noise, or want the same picture after a new training. We ask it of four families; in section 7 one
# answers unlike the others.

# %%
import time
from functools import partial
from itertools import combinations, pairwise

import torch
import torch.nn.functional as F

from minidiff import (Cosine, Gaussian, Mixture, add_noise, cfg, ddim, final,
                      target, times)
from minidiff.app.checkpoint import load_denoiser
from minidiff.app.metrics import sliced_wasserstein
from minidiff.course import diagrams, expect, families, plot, widgets, yours
from minidiff.data import load, shipped, toy

torch.set_num_threads(1)  # such small networks are quickest on one thread


# %%
def seeded(seed):
    return torch.Generator().manual_seed(seed)


# the exact density of the data; how noise is mixed in (section 5)
truth, schedule = Mixture(*toy.mixture_parameters()), Cosine()
hues = [*plot.COLOURS[:7], "#B0A000"]  # one for each cluster; a yellow seen on white
noise = torch.randn(2000, 2, generator=seeded(1))


def best_denoiser(x, t):  # exact: chapter 00's mean under the posterior
    return truth.denoise(x, t, schedule)


# %% tags=["folded"]
# @title Draws the four families
walk = [state.x[:600] for state in ddim(best_denoiser, noise, times(50), schedule)]
diagrams.families(noise[:600], [walk[24], walk[36], walk[-1]])

# %% [markdown]
# Each row is a family. Orange boxes are learned. To sample, the right column is not needed. The samples are ideal:
# nothing is trained yet. (Layout: [@weng2021].)
#
# | family | what it trades | used today for |
# |---|---|---|
# | GAN | fast, sharp; may leave out data | voices ([@kong2020]) |
# | VAE | fast, steady to train; blurred | compressing pictures ([@rombach2022]) |
# | normalizing flow | exact likelihood; few networks are invertible | physics ([@noe2019]) |
# | diffusion model | steady to train; slow | pictures ([@rombach2022]), molecules ([@abramson2024]) |

# %% [markdown]
# **You write** one line of each model, train and measure all four. You need PyTorch's basics, densities, and in
# section 4 a determinant. It takes 75 minutes with exercises.
#
# | letter | meaning |
# |---|---|
# | $x$, $x_0$ | a data point, here two numbers |
# | $z$, $\epsilon$ | standard normal noise, $\mathcal N(0, I)$: independent, mean 0, variance 1 |
# | $p(x)$, $p_\theta(x)$ | the density of the data, and of the samples of a model with weights $\theta$ |
# | $E_{x \sim p}[\ldots]$ | the mean over many draws of $x$ from $p$ |
# | $x_t = \alpha_t\, x_0 + \sigma_t\, \epsilon$ | a noisy point; time $t$ goes from 0 (data) to 1 (noise), and $s < t$ |

# %% [markdown]
# ## 1. The question
#
# A picture of 32 by 32 pixels is a point with 1,024 coordinates; the examples are a cloud of points. Its simplest model
# is a *Gaussian* with the same mean and covariances.
#
# *Predict: what do draws from that Gaussian look like, if the examples are clothes?*

# %%
clothes = load("fashion").tensor()  # (10000, 1, 32, 32)
mean = clothes.mean(0)
# a random mix of the examples minus their mean has their covariances
mix = torch.randn(8, len(clothes), generator=seeded(1)) / len(clothes) ** 0.5
gaussian = mean + (mix @ (clothes - mean).flatten(1)).reshape(8, 1, 32, 32)
denoiser, _ = load_denoiser(shipped("fashion.safetensors"))
guided = cfg(denoiser, torch.tensor([9, 1, 2, 3, 8, 0, 4, 7]), null=10, w=2.0)
grain = torch.randn(8, 1, 32, 32, generator=seeded(2))
drawn = final(ddim(guided, grain, times(25), denoiser.schedule))
rows = {"examples": clothes[:8], "Gaussian": gaussian, "diffusion": drawn}
diagrams.pictures(rows, "Three rows of eight pictures.")

# %% [markdown]
# <details><summary>Answer</summary>
#
# Ghosts of many clothes at once. The mean and the covariances are right, but no draw is a garment. (The diffusion
# model is also told which kind of garment to draw.)
#
# </details>
#
# From here on a point has two coordinates. Our data are a ring of eight Gaussians ([@metz2017]): every
# other cluster is half as wide and three times as rare.

# %%
data = toy.mixture(2000, seeded(0))  # (2000, 2)
alt = "Left a round cloud, the Gaussian; right eight clusters, every other one small."
diagrams.clouds({"Gaussian": noise, "data": data}, alt, columns=2)

# %% [markdown]
# The Gaussian fails here too: it is our standard normal noise.
#
# For each point `families.near(x)` says whether a cluster is near (its centre is within three standard deviations), and
# which is the nearest. A point near none is a *stray*.

# %% tags=["check"]
# @title ✓ The Gaussian has the right mean and covariance; a third is near a cluster
centre = truth.weights @ truth.means
second = (truth.weights * truth.means.T) @ truth.means  # of the centres
covariance = second + truth.weights @ truth.stds**2 * torch.eye(2)
assert centre.abs().max() < 1e-6
assert torch.allclose(covariance, torch.eye(2).to(covariance), atol=1e-6)
shares = [families.near(x)[0].double().mean() for x in (data, noise)]
assert shares[0] > 0.97 and 0.3 < shares[1] < 0.38
print(f"✓ within three standard deviations of a cluster: {shares[0]:.0%} of the data,",
      f"{shares[1]:.0%} of the Gaussian")

# %% [markdown]
# A [generative model](../docs/glossary.md#generative-model) must do better. All of ours turn noise into points by a
# learned function $g$ (a VAE adds more noise at the end):
#
# $$ z \sim \mathcal N(0, I), \qquad x = g(z). $$
#
# A classifier is told the right answer for each input. Here nobody is told. So we ask each family: **which $x$ belongs
# to $z$?**

# %% [markdown]
# ## 2. GAN: two networks that play
#
# In a *generative adversarial network* ([@goodfellow2014]) the
# [discriminator](../docs/glossary.md#discriminator) $D$ gives each point the probability that it is real. The generator
# $G$ turns noise into fakes, and wants $D$ to take them for real:

# $$ \begin{gathered}
# \min_G \max_D \; V(D, G), \\
# V(D, G) = E_{x \sim p}\big[\log D(x)\big] + E_{z}\big[\log\big(1 - D(G(z))\big)\big].
# \end{gathered} \tag{1.1} $$
#
# $V$ is large if $D$ is near 1 on real points and near 0 on fakes. $D$ makes it large, $G$ makes it small.

# %% [markdown]
# Which $D$ is the best against a fixed generator, whose fakes have the density $p_\theta$? As an integral,
# $V = \int \big[p(x) \log D(x) + p_\theta(x) \log(1 - D(x))\big]\, dx$. We may choose
# $D(x)$ for each $x$ alone, so that the bracket is largest. Its slope in $D$, $p / D - p_\theta / (1 - D)$, is 0 at
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
# Does training find this? We train a free logit at each place of a line. `F.logsigmoid(logit)` is $\log D$, and
# `F.logsigmoid(-logit)` is $\log(1 - D)$.
#
# *Predict: at $x = 3$ there is hardly a point of either kind. What is $D$ there: 0, ½ or 1?*

# %%
line = torch.linspace(-4, 4, 401, dtype=torch.float64)
bell = {m: torch.distributions.Normal(*m).log_prob(line).exp()
        for m in ((-1.2, 0.3), (0.8, 0.3), (0.5, 1.0))}
real, fake = 0.4 * bell[-1.2, 0.3] + 0.6 * bell[0.8, 0.3], bell[0.5, 1.0]
logit = torch.zeros(401, dtype=torch.float64, requires_grad=True)
# a tiny eps: Adam then follows tiny slopes too, where both densities are small
optimizer = torch.optim.Adam([logit], lr=0.05, eps=1e-30)
for _ in range(1500):
    value = real * F.logsigmoid(logit) + fake * F.logsigmoid(-logit)
    loss = -value.sum() * 0.02  # an integral: 0.02 is the distance of two places
    families.descend(optimizer, loss)  # zero_grad, backward, step

# %% tags=["folded"]
# @title Draws the data, the fakes and D
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
# 0. Only the ratio of the densities counts, and towards $x = 3$ the data's narrow hump falls far faster.
#
# </details>

# %% [markdown]
# In practice both networks learn in turn. Once $D$ tells fakes from data, it is near 0 on fakes. There the slope of
# $\log(1 - D)$ in the logit, $-D$, is almost 0. So the generator maximises $\log D$ instead, whose slope is $1 - D$
# ([@goodfellow2014]). `detach` keeps the discriminator's gradient out of the generator.

# %%
plot.show_source(families.GAN.learn)

# %% tags=["nbval-ignore-output"]
torch.manual_seed(7)
gan = families.GAN()
for k, _ in enumerate(families.train_together({"GAN": gan}, 800, seed=7), start=1):
    if k == 100:
        early = families.draw(gan, noise)  # G(z) for each noise
fakes = families.draw(gan, noise)
alt = "Fakes over grey data: early a blot, late a ring through all eight clusters."
shown = {"fakes, 100 batches": early, "fakes, 800 batches": fakes}
diagrams.over(shown, data, alt, reach=2.7)

# %% tags=["check", "nbval-ignore-output"]
# @title ✓ After 800 batches the fakes reach every cluster, and lie between them too
close, cluster = families.near(fakes)
counts = torch.bincount(cluster[close], minlength=8)
apart = 1 - close.double().mean()
expect(counts.min() > 20 and apart > 0.05, "each cluster is near more than 1 % of the "
       f"fakes, and {apart:.0%} of them are near no cluster")

# %% [markdown]
# The generator's update asks only that each fake passes the
# present $D$, not that every cluster gets its share. Leaving some out is
# [mode collapse](../docs/glossary.md#mode-collapse) ([deeper](deeper/01_generative_models.ipynb), section 3, shows it).
#
# **Which $x$ belongs to $z$?** Nobody says. $D$ never sees the $z$ behind a fake.

# %% [markdown]
# ## 3. VAE: encode and decode
#
# A [variational autoencoder](../docs/glossary.md#variational-autoencoder) ([@kingma2014], [@rezende2014]) aims at a
# large *log-likelihood*, the mean of $\log p_\theta(x)$ over the data, and raises a lower bound of it.
#
# Assume that each $x$ came from a hidden code $z$, its *latent*: first $z \sim \mathcal N(0, I)$, with density $p(z)$,
# then $x$ from a Gaussian around the output of a network, the *decoder*. Its standard deviation is one learned number,
# the same for all $z$. Then
#
# $$ p_\theta(x) = \int p(z)\, p_\theta(x \mid z)\, dz . $$
#
# Which $z$ led to a given $x$? A second network, the *encoder*, returns a Gaussian $q(z \mid x)$.

# %% [markdown]
# Multiply and divide by $q$ under this integral: it becomes a mean over $q$. The logarithm of a mean is at least the
# mean of the logarithm (*Jensen's inequality*):
#
# $$ \begin{aligned}
# \log p_\theta(x) &= \log E_{z \sim q}\Big[ \frac{p(z)\, p_\theta(x \mid z)}{q(z \mid x)} \Big] \\
# &\ge \underbrace{E_{z \sim q}\big[\log p_\theta(x \mid z)\big]}_{\text{is } x \text{ reconstructed?}} -
# \underbrace{\mathrm{KL}\big(q(z \mid x) \,\|\, p(z)\big)}_{\text{is the code like noise?}} .
# \end{aligned} \tag{1.3} $$
#
# This is the *evidence lower bound*, [ELBO](../docs/glossary.md#elbo). Its second term is the [Kullback-Leibler
# divergence](../docs/glossary.md#kl-divergence),
#
# $$ \mathrm{KL}(q \,\|\, p) = E_{z \sim q}\big[ \log q(z) - \log p(z) \big] . $$
#
# It is 0 for equal densities and positive for others. For two Gaussians it has a closed form, `q.kl(p)`.
#
# The better the encoder, the less the bound is too low ([deeper](deeper/01_generative_models.ipynb), section 4).

# %% [markdown]
# A gradient must get *through* a random $z$. Write $z$ as mean plus standard deviation times noise $\epsilon$: the
# gradient flows through these two. This is the
# [reparameterisation](../docs/glossary.md#reparameterisation).
#
# **Your turn.** Write (1.3) for one draw of $z$, with KL in closed form. `code` is $q(z \mid x)$, `prior` is $p(z)$,
# `decode(z)` is $p_\theta(x \mid z)$: each a `Gaussian(mean, std)`, whose `.log_prob(x)` and `.kl(other)` add up the
# coordinates.

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


point, eps = torch.tensor([[[0.4, -0.6], [0.1, 0.5]], [[1.0, 0.3], [-0.5, 0.8]]])
code = Gaussian(torch.tensor([[1.0, -1.0], [0.5, 0.0]]), torch.tensor([0.5]))
cases = [(point, e, code, lambda z: Gaussian(0.5 * z, torch.tensor(0.2)),
          families.standard(point)) for e in (eps, -2 * eps)]
elbo = yours(one_draw_elbo, by_torch, cases,
             hint="first z, by reparameterisation; then the two terms of (1.3)")

# %% [markdown]
# Training makes the mean of your function large. Then we encode the data, and draw the decoder's means and samples.

# %% tags=["nbval-ignore-output"]
torch.manual_seed(3)
vae = families.VAE()
for _ in families.train_together({"VAE": vae}, 1600, seed=5):
    pass
with torch.no_grad():
    codes = vae.encode(data).sample(seeded(2))  # mean + std eps
    back = vae.decode(codes)  # a Gaussian for each point
decoded = back.sample(seeded(3))
shown = {"data": data, "codes": codes, "means": back.mean, "samples": decoded}
colours = [hues[k] for k in families.near(data)[1]]  # by cluster
alt = "Eight coloured clusters; their codes, patches of a disc; blurred clusters."
diagrams.clouds(shown, alt, colours=colours, window=(-3, 3), columns=2, width=5.2)

# %% tags=["folded", "nbval-ignore-output"]
# @title Counts strays: points more than three standard deviations from every centre
home, named = families.near(data)[1], {"data": data, "means": back.mean}
named |= {"samples": decoded, "decoded noise": families.draw(vae, noise)}
stray = {name: 1 - float(families.near(cloud)[0].double().mean())
         for name, cloud in named.items()}
print("strays:", ", ".join(f"{n} {v:.0%}" for n, v in stray.items()))
width, wide = float(back.std.mean()), float(truth.stds.max())
print(f"standard deviation: decoder {width:.2f}, widest cluster {wide:.2f}")
expect((codes.std(0) - 1).abs().max() < 0.2, "the codes spread as widely as noise")
expect(bool((families.near(decoded)[1] == home).double().mean() > 0.7),
       "most decoded points are in their own cluster again")
expect(all(a < b for a, b in pairwise(stray.values())) and width > wide,
       "strays grow from data to means, to samples, to decoded noise")

# %% [markdown]
# A colour is a cluster, here and below. The codes of a cluster form a patch, so that the decoder can tell clusters
# apart (first term of (1.3)). Together the codes spread nearly as noise does (second term).
#
# Where patches overlap, even the means stray. And the decoder's standard deviation is larger than any cluster's. A new
# sample decodes noise, and strays are more frequent still: the codes are not quite noise.
#
# **Which $x$ belongs to $z$?** The encoder proposes $z$ for $x$, and the decoder learns the way back. Another training
# may put the patches elsewhere.

# %% [markdown]
# ## 4. Flow: a map that can be undone
#
# A [normalizing flow](../docs/glossary.md#normalizing-flow) uses only invertible maps, and so knows its likelihood
# exactly ([@rezende2015]). Let $f$ take data to noise, $z = f(x)$. Then $x = f^{-1}(z)$ is a sample.
#
# If $f$ makes a small area around $x$ twice as large, the density at $z$ is half of
# that at $x$:
#
# $$ \log p_\theta(x) = \log \mathcal N\big(f(x);\ 0, I\big)
# + \log \left| \det \frac{\partial f}{\partial x} \right| . \tag{1.4} $$
#
# $\mathcal N(z; 0, I)$ is the density of noise at $z$. The slopes $\partial f_i / \partial x_j$ make a matrix, the
# *Jacobian*; its determinant is the factor of the areas.

# %% [markdown]
# RealNVP ([@dinh2017]) chains *coupling* steps
# ([@dinh2014]). Split $x$ into halves $a$ and $b$, here one number each. Keep $a$. Stretch and shift
# $b$ by amounts that depend on $a$ only:
#
# $$ (a, b) \;\mapsto\; \big(a,\ e^{r(a)}\, b + m(a)\big), \qquad \text{log-determinant } r(a). $$
#
# The functions $r$ and $m$ may be any networks. The next step changes the other half. Two steps bend a grid, and change
# the areas of two squares:

# %%
def couple(p):
    a, b = p.chunk(2, 1)
    return torch.cat([a, torch.exp(a.sin() / 2) * b + a.cos()], 1)


def swapped(p):  # b decides, a is changed
    return couple(p.flip(1)).flip(1)


panels = {"before": lambda p: p, "one step": couple,
          "a second,\nhalves swapped": lambda p: swapped(couple(p))}
alt = "A grid, the same grid bent along one axis, then along the other."
diagrams.bent_grids(panels, alt, cells=((-2, 0), (1, 0)))

# %% [markdown]
# **Your turn.** Undo one step; $a$ was kept.

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
undone = yours(undo, lambda a, b_new, r, m: (a, b), cases,
             hint="a was kept, so r(a) and m(a) are known: subtract, then divide")

# %% [markdown]
# `families.RealNVP` has eight such steps; its `encode` is $f$. Training makes the mean of (1.4) over the data large:
# the loss is `-flow.log_prob(x).mean()`. (Section 6 draws a trained one.)
#
# **Which $x$ belongs to $z$?** The one with $f(x) = z$. But many different $f$ turn data into noise.

# %% tags=["check"]
# @title ✓ (1.4): the inverse, the log-determinant, and a density that sums to one
torch.manual_seed(1)
flow, side = families.RealNVP().requires_grad_(False), torch.linspace(-6, 6, 241)
(codes, log_det), (a, b) = flow.encode(data[:20]), data[:20].chunk(2, 1)
r, m = (lambda a, k=k: flow.steps[0].coefficients(a)[k] for k in (0, 1))
assert torch.allclose(undone(a, flow.steps[0](a, b)[0], r, m)[1], b, atol=1e-5)
one = torch.func.jacrev(lambda p: flow.encode(p[None])[0][0])
jacobian = torch.func.vmap(one)(data[:20])
assert torch.allclose(torch.linalg.slogdet(jacobian).logabsdet, log_det, atol=1e-4)
mass = flow.log_prob(torch.cartesian_prod(side, side)).exp().sum().item() * 0.05**2
assert torch.allclose(flow.sample(codes), data[:20], atol=1e-4) and abs(mass - 1) < 0.01
print("✓ sample undoes encode, and the log-determinant is the Jacobian's, to 1e-4;",
      f"the density sums to {mass:.2f}")

# %% [markdown]
# ## 5. Diffusion: add noise, learn to remove it
#
# A diffusion model ([@sohldickstein2015], [@ho2020]) makes its own training pairs: a noisy point, and what it was made
# of. The way from data to noise needs no learning. Mix a data point $x_0$ with noise $\epsilon$, more of it as the time
# $t$ goes from 0 to 1:
#
# $$ x_t = \alpha_t\, x_0 + \sigma_t\, \epsilon, \qquad
# \alpha_t = \cos \tfrac{\pi t}{2}, \quad \sigma_t = \sin \tfrac{\pi t}{2} . $$
#
# This *cosine schedule* ([@nichol2021], in the simpler form of [@salimans2022]) is the package's `Cosine()`; `add_noise` mixes.

# %%
moments = (0.0, 0.15, 0.35, 1.0)
noisy = {f"t = {t}": add_noise(data, noise, t, schedule) for t in moments}
alt = "Eight clusters swell and merge into one round cloud."
diagrams.clouds(noisy, alt, columns=2)

# %% [markdown]
# A network learns the way back. From $x_t$ and $t$ ours predicts ([@salimans2022])
#
# $$ v = \alpha_t\, \epsilon - \sigma_t\, x_0 . $$
#
# Why $v$? Since $\alpha_t^2 + \sigma_t^2 = 1$, both $x_0$ and $\epsilon$ follow from it without a division by
# $\alpha_t$ or $\sigma_t$, which can be 0:
#
# $$ x_0 = \alpha_t\, x_t - \sigma_t\, v, \qquad \epsilon = \sigma_t\, x_t + \alpha_t\, v . $$
#
# We made $x_0$ and $\epsilon$, so we know the right answer. The loss is the squared error:
#
# $$ L(\theta) = E_{x_0, \epsilon, t}\Big[ \big| v_\theta(x_t, t) - v \big|^2 \Big] . \tag{1.5} $$

# %% [markdown]
# Many pairs $(x_0, \epsilon)$ lead to the same $x_t$, and the guess of least squared error is the *mean* of their $v$.
# The $x_0$ that follows is a mean of many data points. So we take a short step from $t$ to $s < t$: compute $x_0$ and
# $\epsilon$ from the guess, mix them for time $s$, and guess again.
#
# **Your turn.** Chapter 00's step was given a guess of $x_0$; this one is given $v$.

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


point, guess = torch.tensor([[[1.0, -0.5]], [[0.3, 2.0]]]).double()
cases = [(point, guess, *ts, schedule) for ts in ((0.8, 0.6), (0.5, 0.1), (1.0, 0.9))]
step = yours(step_back, by_package, cases,
             hint="x0 and eps by the two equations; then mix with alpha_s and sigma_s")

# %% [markdown]
# Walk back from noise with the best guess. `step` is your function. `best_denoiser` guesses $x_0$; the line `v = ...`
# turns this into $v$. `times(50)` has the moments of 50 steps.

# %%
walked = noise.double()
for t, s in pairwise(times(50)):
    alpha, sigma = schedule(t)
    v = (alpha * walked - best_denoiser(walked, t)) / sigma
    walked = step(walked, v, t, s, schedule)
alt = "Both are eight clusters."
diagrams.clouds({"your walk": walked, "data": data}, alt, columns=2)

# %% tags=["check"]
# @title ✓ With the best guess, your steps lead to the data, as the package's do
package = final(ddim(best_denoiser, noise.double(), times(50), schedule))
off = (walked - package).abs().max()
strays, poorest = families.coverage(walked, within=3)
assert off < 1e-5 and strays < 0.02 and poorest > 0.75
print(f"✓ equal to ddim's ends, to 1e-5; strays: {strays:.0%}, of the data",
      f"{families.coverage(data, within=3)[0]:.0%}")

# %% [markdown]
# The package calls these steps `ddim` ([@song2020]). It takes a guess of $x_0$; `Denoiser` computes it from the
# network's $v$.
#
# **Which $x$ belongs to $z$?** The end of the walk that starts at $z$. (Not the $x_0$ mixed with $\epsilon$: in
# training any $\epsilon$ meets any $x_0$.) The best guess depends on data and schedule only, and so does this *exact walk*.
# (Chapter 00's best guess knew only examples and copied them; this one knows the density.)

# %%
plot.show_source(families.Diffusion.learn, families.Diffusion.sample)

# %% [markdown]
# ## 6. The race
#
# How far apart are two clouds? For numbers, sort both samples and take the mean distance of equal ranks: the
# *Wasserstein distance* $W_1$. In the plane, project both onto a line, do this, and average over many lines. A unit
# vector $u$ gives the line; $a^u_{(i)}$ is the $i$-th smallest of the numbers $a \cdot u$ of a cloud $a$:

# $$ \mathrm{SW}(a, b) = \frac{1}{K} \sum_{u} \frac{1}{N} \sum_{i=1}^{N} \big| a^u_{(i)} - b^u_{(i)} \big| \tag{1.6} $$
#
# over $K$ lines and $N$ ranks is the *sliced Wasserstein distance* ([@rabin2012], [@bonneel2015]).
#
# *Predict: noise and data are 0.22 apart. How far apart are two fresh draws of the data?*

# %%
print(f"noise and data: {sliced_wasserstein(noise, data):.2f}")
for n in (2000, 10_000):
    other = truth.sample(n, seeded(100))
    floor = [sliced_wasserstein(truth.sample(n, seeded(k)), other) for k in range(6)]
    print(f"two draws of {n:,} points: {min(floor):.3f} to {max(floor):.3f}")

# %% [markdown]
# <details><summary>Answer</summary>
#
# Not 0: samples differ, small ones more. This is the *floor* of the distance.
#
# </details>

# %% tags=["check"]
# @title ✓ (1.6): the distance of two projections is what must be carried
square = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
moved = square[[2, 0, 3, 1]] + torch.tensor([0.3, 0.4])  # by 0.5, in another order
assert abs(sliced_wasserstein(square, moved, 4000) - 0.5 * 2 / torch.pi) < 1e-4
print("✓ a cloud moved by 0.5 has the distance 0.5 times 2/pi, the mean length of",
      "the move's projections, to 0.0001")

# %% [markdown]
# ### Four models
#
# All are made of multilayer perceptrons, with about 33,500 weights for each model. They learn from the same 2,400 batches of 256
# points. Each has its own learning rate ([deeper](deeper/01_generative_models.ipynb), section 3).
#
# *Predict: which model is the last to show a ring? Which is closest to the data in the end?*

# %%
models, looks = families.four(3), {}  # the four, with fresh weights
for k, _ in enumerate(families.train_together(models, 2400, seed=5), start=1):
    if k % 120 == 0:
        looks[k] = {name: families.draw(m, noise) for name, m in models.items()}

# %% tags=["folded"]
# @title Draws the film
def frame(k):
    alt = "Six clouds: noise, four models, data."
    shown = {"noise": noise} | looks[k] | {"data": data}
    shown = {name: cloud[:600] for name, cloud in shown.items()}
    return diagrams.clouds(shown, alt, title=f"{k} batches")


widgets.film([frame(k) for k in looks if k % 240 == 0], ms=700, hold=3000)

# %% tags=["nbval-ignore-output"]
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
print("seconds:", ", ".join(f"{name} {took:.2f}" for name, took in seconds.items()))

# %% [markdown]
# <details><summary>Answer</summary>
#
# The VAE. The other three show a ring after 240 batches. In the end diffusion is closest, yet above the floor.
#
# </details>

# %% tags=["folded", "nbval-ignore-output"]
# @title Counts the batches until each model shows a ring
def in_the_middle(cloud):
    return float((cloud.norm(dim=1) < 0.6).double().mean())


ring = {name: next((k for k, look in looks.items()
                    if in_the_middle(look[name]) < in_the_middle(noise) / 5), 2400)
        for name in models}
print("batches until the middle has a fifth of the noise's points:", ring)
expect(max(ring[name] for name in ring if name != "VAE") < ring["VAE"],
       "the VAE is the last to show a ring")

# %% tags=["check"]
# @title ✓ The four models have equally many weights
weights = [sum(w.numel() for w in model.parameters()) for model in models.values()]
assert len(weights) == 4 and max(weights) < 1.03 * min(weights)
print(f"✓ from {min(weights):,} to {max(weights):,} weights, equal to 3 %")

# %% [markdown]
# The trained flow carries data to codes $f(x)$, coloured as in section 3:

# %%
with torch.no_grad():
    codes, _ = models["flow"].encode(data)
shown = {"data": data, "flow's codes": codes}
alt = "Eight coloured clusters, and their codes: bands that fill a round cloud."
diagrams.clouds(shown, alt, colours=colours, window=(-3, 3), columns=2)

# %% [markdown]
# ### What each trades
#
# The *distance* (1.6) does not say where a model fails, so we count too. *Strays* are points near no cluster. *Poorest
# cluster*: divide the number of points near each cluster by the truth's number, and take the least of the eight.
#
# The fifth entry is no model: an evenly filled *ring* through the eight centres.
#
# *Predict: in which of the three measures does the ring beat most models?*

# %%
counted = {"truth": families.coverage(truth.sample(10_000, seeded(3)), within=3)}
counted |= {name: families.coverage(x, within=3) for name, x in samples.items()}
strays, poorest = ({name: pair[k] for name, pair in counted.items()} for k in (0, 1))
left, right = "$\\leftarrow$ better", "better $\\rightarrow$"
diagrams.bars({f"distance\n{left}": {"truth": floor[0]} | far,
               f"strays, %\n{left}": {name: 100 * x for name, x in strays.items()},
               f"poorest cluster\n{right}": poorest},
              "Bars: the truth, four models, and a ring, hatched.", odd="ring")

# %% [markdown]
# <details><summary>Answer</summary>
#
# In the poorest cluster: it passes through every one. It is no model at all, yet it beats GAN, VAE and flow, and is
# level with diffusion.
#
# </details>
#
# So one measure is not enough. Nor is one race: in six shorter ones ([deeper](deeper/01_generative_models.ipynb),
# section 3) diffusion was always closest.
#
# Diffusion pays with time. Quality, coverage and speed do not come together: a *trilemma* ([@xiao2022]).

# %% tags=["folded", "nbval-ignore-output"]
# @title Compares the four models
learned = ["GAN", "VAE", "flow"]
best = all(far["diffusion"] < 0.8 * far[name] and strays["diffusion"] < strays[name]
           for name in learned)
expect(best and far["ring"] == max(far.values()), "diffusion has the fewest strays, and"
       " the least distance by more than a fifth; the ring has the largest distance")
slow = seconds.pop("diffusion") / max(seconds.values())
expect(slow > 5, f"diffusion takes {slow:.0f} times as long as the slowest other model")

# %% tags=["folded", "nbval-ignore-output"]
# @title Compares the ring with the models, on four draws of ring and diffusion
fresh = [torch.randn(10_000, 2, generator=seeded(k)) for k in (30, 31, 32)]
redrawn = {"diffusion": [families.draw(models["diffusion"], cloud) for cloud in fresh],
           "ring": [families.ring(10_000, seeded(k)) for k in (33, 34, 35)]}
shares = {name: torch.tensor([families.coverage(cloud, within=3)[1] for cloud in clouds]
                             + [poorest[name]]) for name, clouds in redrawn.items()}
least = max(poorest[name] for name in learned)
expect(shares["ring"].min() > 1.2 * least and abs(
    shares["ring"].mean() - shares["diffusion"].mean()) < 0.1, "poorest cluster: "
    + ", ".join(f"{name} {x.min():.2f} to {x.max():.2f}" for name, x in shares.items())
    + f"; GAN, VAE, flow at most {least:.2f}")

# %% [markdown]
# ## 7. Which $x$ belongs to $z$?
#
# After the data: noise points $z$, in the colour of the cluster where their $x$ is, or grey if $x$ is a stray.
#
# *Predict: do neighbours in the noise end in the same cluster? Is there grey between two colours?*

# %%
def painted(x):  # the colour of each point's cluster; grey: near none
    return [hues[k] if close else "0.8"
            for close, k in zip(*families.near(x), strict=True)]


ends = {name: samples[name] for name in models}
ends["exact walk"] = final(ddim(best_denoiser, z, times(50), schedule))
panels = {"data": data} | {f"noise: {name}": z[:4000] for name in ends}
colours = [painted(data), *(painted(x[:4000]) for x in ends.values())]
colours = dict(zip(panels, colours, strict=True))
diagrams.clouds(panels, "Data, and noise in patches of eight colours.", colours=colours)

# %% tags=["folded", "nbval-ignore-output"]
# @title Counts the strays of the exact walk, and those from the VAE's noise
by_walk = 1 - float(families.near(ends["exact walk"])[0].double().mean())
sound = families.near(models["VAE"].decode(z).mean)[0]
lost = ~families.near(samples["VAE"])[0]
by_noise = float(sound[lost].double().mean())  # strays that the means are not
expect(min(strays[name] for name in models) > 3 * strays["truth"] > 2 * by_walk,
       f"strays: truth {strays['truth']:.0%}, exact walk {by_walk:.0%}, models more")
expect(0.35 < by_noise < 0.65, f"{by_noise:.0%} of the VAE's strays are by its noise")

# %% [markdown]
# <details><summary>Answer</summary>
#
# Mostly, in patches: a network is a *continuous* map. For the same reason there is grey. (The VAE's map is followed by
# noise, which makes about half of its grey.)
#
# </details>
#
# Can a continuous map make eight separate clusters? No. Between two patches there is always a band of noise that ends
# between clusters. A steep map, one with a large *Lipschitz constant*, makes it thin
# ([deeper](deeper/01_generative_models.ipynb), section 6). In the exact walk 1 % are strays, as in the data.
#
# ### Ask twice
#
# Train all four three times, for 900 batches, from other weights, on other batches.
#
# *Predict: for which models does a noise point end in the same cluster every time?*

# %%
homes, panels, colours = {name: [] for name in models}, {}, {}
for run, seed in enumerate((14, 24, 34), start=1):
    again = families.four(seed)
    for _ in families.train_together(again, 900, seed=seed + 1):
        pass
    for name, model in again.items():
        x = families.draw(model, z)
        homes[name].append(families.near(x)[1])  # the cluster of each noise point
        panels[f"{name}, run {run}"] = z[:4000]
        colours[f"{name}, run {run}"] = painted(x[:4000])

# %%
shown = {f"{name}, run {run}": z[:4000] for name in models for run in (1, 2, 3)}
alt = "Noise in patches of eight colours: only for diffusion are the runs alike."
diagrams.clouds(shown, alt, colours=colours)

# %% tags=["nbval-ignore-output"]
# the share of noise points that end in the same cluster in both runs
pairs = list(combinations(range(3), 2))
same = {name: [float((three[a] == three[b]).double().mean()) for a, b in pairs]
        for name, three in homes.items()}
print("runs       1-2, 1-3, 2-3")
for name, shares in same.items():
    print(f"{name:10}", ", ".join(f"{share:3.0%}" for share in shares))
print(f"by chance  {truth.weights.square().sum():.0%}")

# %% tags=["folded", "nbval-ignore-output"]
# @title Compares the runs with each other, and with the exact walk
by_walk = families.near(ends["exact walk"])[1]
as_exact = min(float((by_walk == home).double().mean()) for home in homes["diffusion"])
expect(min(same["diffusion"]) > 0.85,
       "two runs of diffusion send most noise points to the same cluster")
expect(as_exact > 0.85, f"and {as_exact:.0%} or more to that of the exact walk")
expect(max(min(same[name]) for name in ("GAN", "VAE", "flow")) < 0.4,
       "each other model has two runs that send most noise points elsewhere")

# %% [markdown]
# <details><summary>Answer</summary>
#
# For diffusion only, and each time it is nearly the exact walk.
#
# </details>
#
# The losses of GAN, VAE and flow do not fix the map: turn the noise (for a VAE by a
# quarter turn), and the same samples come from other $z$
# ([deeper](deeper/01_generative_models.ipynb), section 8). In diffusion the way to noise is fixed, and with it the walk
# back: a *uniquely identifiable encoding* ([@song2021]).

# %% [markdown]
# ### One noisy point, three walks
#
# From a noisy point at $t = 0.8$ `ddim` walks back without new noise. `ddpm` ([@ho2020]; chapter 03) adds fresh noise in each
# step.
# Third, from where `ddim` ended we add noise in small steps, up to $t = 0.8$.
#
# *Predict: do 400 walks of `ddpm` end in one cluster, in some, in all?*

# %%
start = torch.tensor([-2.2, -2.0], dtype=torch.float64)
ways = families.three_ways(start, best_denoiser, schedule)
titles = ("back by ddim,\none walk", "back by ddpm,\n400 walks",
          "noise up to t = 0.8,\n400 walks")
panels = dict(zip(titles, ways.values(), strict=True))
marks = ("noisy point, t = 0.8", start), ("where ddim ends", ways["ddim"][-1, 0])
cloudy = add_noise(data, noise, 0.8, schedule)
alt = "Three panels of walks over grey clouds."
diagrams.walks(panels, [data, data, cloudy], marks, alt, reach=2.8)

# %% [markdown]
# <details><summary>Answer</summary>
#
# In all, though not equally often. `ddpm` draws one of the data points from which the noisy point may have come. By
# Bayes' rule it is in the nearest cluster with a probability of 49 %; of all data 19 % are there. A cluster
# gets more if it is near, and if it has more data.
#
# </details>
#
# In the last panel, fresh noise does not lead back. `ddim`'s walk can be taken back.

# %% tags=["check"]
# @title ✓ ddim's walk can be taken back; ddpm's ends follow Bayes' rule
up, (alpha, sigma) = times(200, start=0.8).flip(0), schedule(0.8)
back = families.path_back(best_denoiser, ways["ddim"][-1], up, schedule)[-1]
spread = (alpha**2 * truth.stds**2 + sigma**2).sqrt()
apart = ((start - alpha * truth.means) / spread[:, None]).square().sum(1)
due = 4000 * (truth.weights.log() - 2 * spread.log() - apart / 2).softmax(0)
found = torch.bincount(families.near(ways["ddpm"][-1])[1], minlength=8)
assert ((found - due).square() / due).sum() < 24.3  # chi-square, 1 in 1,000
shown = torch.bincount(families.near(ways["ddpm"][-1, :400])[1], minlength=8)
assert shown.min() > 0 and 1940 < due.max() < 1980  # all clusters; 49 %
assert due[3] > due[4] and (back - start).norm() < 0.1  # 3 is farther, has more data
print(f"✓ ddpm: {found.max() / 4000:.0%} of walks end in the nearest cluster, by Bayes",
      f"{due.max() / 4000:.0%}; ddim comes back to within {(back - start).norm():.2f}")

# %% [markdown]
# ## What to keep
#
# - GAN: a discriminator that estimates $p / (p + p_\theta)$ (1.2). VAE: a code and a bound on the likelihood (1.3).
# Flow: an invertible map and its likelihood (1.4).
# - Diffusion: a fixed way to noise and one regression (1.5); nearly the same map each time, but many calls.
# - From one noisy point `ddim` always gives the same data point; `ddpm` draws one of all that are possible.

# %% [markdown]
# ## Exercises
#
# **1. Pen.** (a) Real points and fakes have no place in common. What are $D^*$ and $V(D^*, G)$? What if the fakes move
# closer? (b) On `Cosine`, $\alpha_t = \cos\varphi$ and $\sigma_t = \sin\varphi$ with $\varphi = \frac{\pi}{2} t$. Show
# that `step_back` to the angle $\varphi - \delta$ is $\cos\delta\; x_t - \sin\delta\; v$.
#
# <details><summary>Answer</summary>
#
# (a) By (1.2) $D^* = 1$ on real points and 0 on fakes, so $V = \log 1 + \log 1 = 0$. Moving closer changes nothing until they meet. (b) Put
# $x_0 = \cos\varphi\, x_t - \sin\varphi\, v$ and $\epsilon = \sin\varphi\, x_t + \cos\varphi\, v$ into
# $\cos(\varphi - \delta)\, x_0 + \sin(\varphi - \delta)\, \epsilon$. By the addition theorems the factors of
# $x_t$ and $v$ are $\cos\delta$ and $-\sin\delta$.
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
# **2. Code.** On a line no network is needed: the smallest noise becomes the smallest data point, the second smallest
# the second, and so on. Write `by_rank(z, data)`, without a loop.

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
ranked = yours(by_rank, by_counting, cases,
               hint="z.argsort() says who stands where; "
                    "you want the place of each noise")

# %% [markdown]
# With many points and short steps this is the exact walk. On a line two walks that met would go on together, so walks keep their order.

# %% tags=["check"]
# @title ✓ On a line, by_rank is where the exact walk ends
humps = Mixture(*(torch.tensor(values).double()
                  for values in ([0.3, 0.7], [[-1.2], [0.8]], [0.3, 0.2])))
share, line = (torch.arange(1000).double() + 0.5) / 1000, torch.linspace(-4, 4, 80_001)
below = humps.log_prob(line[:, None].double(), 0.0, schedule).exp().cumsum(0) * 1e-4
spread = line[torch.searchsorted(below, share)].double()  # evenly drawn data
thousand = torch.special.ndtri(share)[torch.randperm(1000, generator=seeded(3))]
best = partial(humps.denoise, schedule=schedule)
ends = [final(ddim(best, thousand[:, None], times(n), schedule)) for n in (50, 500)]
missed = [(end[:, 0] - ranked(thousand, spread)).abs().mean() for end in ends]
assert missed[1] < 0.2 * missed[0] < 0.005
print(f"✓ mean difference {missed[0]:.3f} in 50 steps, {missed[1]:.4f} in 500")

# %% [markdown]
# **3. Open.** What can the decoder of `families.VAE(latent=1)` draw, whose code is one number? For which of
# `toy.mixture`, `moons`, `rings`, `checkerboard` and `swiss_roll` is that as good as two? Predict, then run `duel`,
# with two seeds.

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
one, two, chance = duel(toy.mixture, n=40)  # only a trial: take n=800
print(f"after 40 batches: one latent {one:.2f}, two {two:.2f}; by chance {chance:.3f}")

# %% [markdown]
# <details><summary>Answer</summary>
#
# Blurred curves. Only on the checkerboard, which fills an area, is one number clearly worse than two: 0.14 from the data
# against 0.08. Elsewhere the two are within about 0.01.
#
# </details>

# %% [markdown]
# **Deeper:** [01, deeper](deeper/01_generative_models.ipynb) has likelihoods, mode collapse, bugs.
#
# **Next:** [02 · Forward diffusion](02_forward_diffusion.ipynb).
#
# ## References
#
# {references}
