# %% [markdown]
# # 10 · Autoencoders
#
# **What is worth keeping of a picture, and what does it cost?** So far diffusion worked on pixels, all 1,024 of them,
# and chapter 04 found that most of its bits were spent on dust that nobody sees. A picture could be described in far
# fewer numbers. Which ones, how many bits do they take, and what is lost?
#
# **You will build** an encoder and a decoder, and give the code in the middle a price: as a Gaussian that costs nats
# (VAE), and as words of a learned dictionary that cost bits (VQ). You will measure what each bit buys, train the
# autoencoder on whose codes chapter 11 runs diffusion, live, and find out what it can never give back.
#
# **You need** chapters 04 and 07. On two CPU cores the notebook takes two minutes, most of them training, and 1.3 GB
# of memory.

# %%
import math
from itertools import pairwise

import torch

from minidiff.course import plot


# %%
def seeded(seed):
    return torch.Generator().manual_seed(seed)


# %%
from minidiff.data import load

clothes, unseen = load("fashion"), load("fashion", "test")
x, new = clothes.tensor(), unseen.tensor()  # (10000, 1, 32, 32) to learn from, (2000, 1, 32, 32) to judge with
ten = new[torch.tensor([int((unseen.y == k).nonzero()[3]) for k in range(10)])]  # one of each class, for looking at
dims = 32 * 32

# %% [markdown]
# ## 1. There and back
#
# An **autoencoder** is two functions: an *encoder* turns a picture $x$ into a *code* $z$, a *decoder* makes a picture
# $\hat x$ of it:
#
# $$ z = \mathrm{enc}(x), \qquad \hat x = \mathrm{dec}(z) \tag{10.1} $$
#
# Both are learned, by asking that $\hat x$ be like $x$. If $z$ had as many numbers as $x$ there would be nothing to
# learn: hand it through. So $z$ is made small, and has to hold what matters. Later it will also have a *cost*, and the
# loss of this chapter is, for one picture,
#
# $$ \ell(x) = \big|\hat x - x\big|^2 + w \cdot \mathrm{cost}(z) \tag{10.2} $$
#
# with the error summed over all numbers of the picture, and a *weight* $w$ for the cost. (It has nothing to do with the
# $w(t)$ of chapter 05 or the guidance of chapter 09.) In this section $w = 0$.
#
# **The linear one.** Let both functions be matrices, after the mean picture is taken off: $z = xA$ with $k$ numbers,
# $\hat x = zB$. If $A$ is given, the best $B$ is a matter of least squares; if $B$ is given, the best $A$ is too. In
# turn, from random numbers, with nothing but these two steps:

# %%
mean = x.mean(0)
flat = (x - mean).flatten(1)  # (10000, 1024)
cov = (flat.T @ flat / len(flat)).double()  # all that least squares need to know of the data


def linear_autoencoder(k, rounds=60):
    A = torch.randn(dims, k, generator=seeded(0), dtype=torch.float64)
    for _ in range(rounds):
        B = torch.linalg.solve(A.T @ cov @ A, A.T @ cov)  # (k, 1024), the best for this A
        A = torch.linalg.pinv(B)  # (1024, k), the best for this B
    return A, B


# %% [markdown]
# *Predict: what will it find, and is there a name for it?* The independent answer is the singular value decomposition
# of the data, $X = U S V^\top$. The best $k$-dimensional picture of the data is spanned by the first $k$ rows of
# $V^\top$ (Eckart & Young 1936), and the error is what the other singular values hold. That is **PCA**, principal
# component analysis.

# %%
S, Vt = torch.linalg.svd(flat, full_matrices=False)[1:]
lam = (S.double() ** 2 / len(x))  # variance of the pictures along each component, largest first

# %%
A, B = linear_autoencoder(16)
error = (flat - flat @ A.float() @ B.float()).square().sum(1).mean()
least = lam[16:].sum()
assert least * 0.999 < error < least * 1.002
overlap = torch.linalg.svdvals(torch.linalg.qr(A)[0].T @ Vt[:16].T.double())  # cosines of the angles between both
assert overlap.min() > 0.99
print(f"squared error a picture: {error:.1f}, least possible with 16 numbers {least:.1f}")

# %% [markdown]
# The same error and the same 16 directions. A linear autoencoder *is* PCA, up to a change of coordinates in the code
# (Bourlard & Kamp 1988; Baldi & Hornik 1989). So the question for any other one is: does it do better than PCA?
#
# **The convolutional one.** The package's `Autoencoder` halves height and width twice ($f = 4$), as the U-Net of
# chapter 06 does on its way down, and ends with $c = 4$ channels: $8 \times 8 \times 4 = 256$ numbers for a picture.
# The decoder goes the same way up.

# %%
from minidiff.nets.autoencoder import Autoencoder, AutoencoderConfig


def fresh(**config):
    torch.manual_seed(0)
    return Autoencoder(AutoencoderConfig(width=16, **config))


# %%
new_one = fresh()
x_hat, _ = new_one(ten)
z = new_one.encode(ten).z
assert z.shape == (10, 4, 8, 8) and x_hat.shape == ten.shape and torch.equal(new_one.decode(z), x_hat)
print({name: sum(p.numel() for p in part.parameters()) for name, part in new_one.named_children()}, "weights")

# %%
plot.show_source(Autoencoder.encode)

# %% [markdown]
# It is trained by the loop of chapter 07, with another objective: `reconstruction` is (10.2), divided by the number of
# pixels. Batches are small, 16 pictures, and the learning rate falls to zero over the last 30 % of the run: with a
# budget of some seconds many rough steps are worth more than few exact ones. Error is quoted as *peak
# signal-to-noise ratio*, PSNR, in decibels: $10 \log_{10} (4 / \text{mean squared error})$, where 4 is the square of
# the range from $-1$ to $1$. Six decibels more are half the error (not squared).

# %%
from minidiff.training import TrainConfig, TrainState, train
from minidiff.training.objectives import reconstruction

RECIPE = TrainConfig(batch_size=16, lr=1e-2, warmup_steps=30, cooldown=0.3)


def learn(autoencoder, steps=350):
    training = TrainState(autoencoder, RECIPE, reconstruction)
    for _ in train(training, clothes, steps=steps):
        pass
    return training.ema.module


# %%
def psnr(x, x_hat):
    return float(10 * torch.log10(4 / (x_hat - x).square().mean()))


@torch.no_grad()
def there_and_back(autoencoder, x, noisy=False):
    """Pictures again, and the cost of their codes; the noise is for section 2."""
    generator, parts = seeded(1), []
    for part in x.split(500):
        eps = torch.randn(len(part), 4, 8, 8, generator=generator) if noisy else None
        parts.append(autoencoder(part, eps))
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))


# %%
plain = learn(fresh(cost_weight=0.0), steps=900)

# %%
def by_pca(x, k):
    return (x - mean).flatten(1) @ Vt[:k].T @ Vt[:k] + mean.flatten()


again = {"PCA, 256": by_pca(ten, 256).view_as(ten), "autoencoder": there_and_back(plain, ten)[0]}
rows = {"picture": ten, "PCA, 16": by_pca(ten, 16).view_as(ten)} | again
alt = "Ten pieces of clothing; blurred, with 16 components; nearly right, with 256; and by the autoencoder, sharper."
plot.strips(rows, alt, clothes.classes)

# %%
quality = {f"PCA, {k}": psnr(new.flatten(1), by_pca(new, k)) for k in (16, 64, 256)}
quality["autoencoder, 256"] = psnr(new, there_and_back(plain, new)[0])
assert quality["PCA, 256"] + 0.2 < quality["autoencoder, 256"] and quality["PCA, 16"] < 20

# %% tags=["nbval-ignore-output"]
print({name: f"{decibels:.1f} dB" for name, decibels in quality.items()})

# %% [markdown]
# On pictures that neither has seen, with 256 numbers each, the autoencoder wins, after a dozen seconds, and PCA is the
# best that *any* linear one can do with the training pictures. (It also has only a fifth of the weights: PCA's matrix
# has $256 \cdot 1024$.) It can win because it bends: an edge may lie anywhere, and a sum of fixed patterns must pay for
# that.
#
# ### What a plain autoencoder does not know
#
# A decoder turns codes into pictures. So here is a machine that draws: throw in a random code. *Predict: what does it
# draw?* The codes get the mean and the standard deviation that real codes have, each at its place.

# %%
real_codes = plain.encode(x[:2000]).z.detach()  # (2000, 4, 8, 8)
dice = torch.randn(2000, 4, 8, 8, generator=seeded(2))
random_codes = real_codes.mean(0) + real_codes.std(0) * dice
with torch.no_grad():
    drawn = plain.decode(random_codes)

# %%
plot.strips({"random": drawn[:10]}, "Ten patches of bright and dark grain; nothing in them is a thing.")

# %% [markdown]
# Grain. And walking from the code of one picture to that of another, in a straight line?

# %%
steps = torch.linspace(0, 1, 9)[:, None, None, None]
a, b = ten[1:2], ten[8:9]  # trousers, a bag
with torch.no_grad():
    codes = torch.lerp(plain.encode(a).z, plain.encode(b).z, steps)
    walk = {"codes": plain.decode(codes), "pixels": torch.lerp(a, b, steps)}

# %%
plot.strips(walk, "Two rows, from trousers to a bag: halfway one sees both at once, in codes as in pixels.")

# %% [markdown]
# Halfway, both garments at once, a double exposure, hardly better than mixing the pixels (below). The Fréchet distance
# says it in a number, for a thousand such pairs and for the random codes: the shipped classifier of clothes describes
# pictures by 64 numbers, and the distance compares two sets of such descriptions (chapter 13 tells how; smaller is
# better).

# %%
from minidiff.app.metrics import frechet, label_accuracy, load_classifier

judge = load_classifier("fashion")


def in_parts(function, pictures):
    return torch.cat([function(part.clamp(-1, 1)) for part in pictures.split(500)])


bank = in_parts(judge.features, x)  # (10000, 64)


def distance(pictures):
    return frechet(bank, in_parts(judge.features, pictures))


# %%
with torch.no_grad():
    halfway = plain.decode((real_codes[:1000] + real_codes[1000:]) / 2)  # of a thousand pairs
far = {"real, unseen": distance(new), "there and back": distance(there_and_back(plain, new)[0]),
       "halfway": distance(halfway), "halfway, pixels": distance((x[:1000] + x[1000:2000]) / 2),
       "random codes": distance(drawn)}

# %%
assert far["real, unseen"] < far["there and back"] < 0.4 and far["random codes"] > 10
assert min(far["halfway"], far["halfway, pixels"]) > 5 * far["there and back"]

# %% tags=["nbval-ignore-output"]
print({name: f"{d:.2f}" for name, d in far.items()})

# %% [markdown]
# Nobody ever told the encoder *where* codes should lie. It has scattered them through the space as it pleased, and what
# the decoder does in between is nobody's business. Two things are missing: a *price* for saying too much, and a
# *prior*, an agreement about where codes may be. The next section gets both from one inequality.
#
# ## 2. A code with a price
#
# Suppose, as in chapter 01, that pictures arise like this: a code $z$ is drawn from $p(z) = \mathcal N(0, I)$, and
# then a picture from a Gaussian around the decoder's answer, $p(x \mid z) = \mathcal N(x;\ \mathrm{dec}(z),\ s^2 I)$.
# We want $\log p(x)$ to be large. The encoder, for its part, names not a code but a *distribution* of codes,
# $q(z \mid x)$. Jensen's inequality gave the bound (1.3), and again (4.6):
#
# $$ \log p(x) \;\ge\; E_{z \sim q}\big[\log p(x \mid z)\big] - \mathrm{KL}\big(q(z \mid x)\,\|\,p(z)\big),
# \qquad \text{gap} = \mathrm{KL}\big(q(z \mid x)\,\|\,p(z \mid x)\big) \tag{10.3} $$
#
# With both networks trained to raise it, this is the **variational autoencoder**, VAE (Kingma & Welling 2014; Rezende
# et al. 2014). Put the Gaussian in: $\log p(x \mid z) = -\frac{1}{2s^2}|\hat x - x|^2 - \frac d2 \log 2\pi s^2$, with
# $d = 1024$. Multiply by $-2s^2$, which turns "raise the bound" into "lower a loss", and drop what no
# network can change:
#
# $$ E_{z \sim q}\,|\hat x - x|^2 + 2s^2 \cdot \mathrm{KL}\big(q(z \mid x)\,\|\,p(z)\big), \qquad
# \text{so}\quad w = 2s^2,\quad \mathrm{cost} = \mathrm{KL} \tag{10.4} $$
#
# That is (10.2). *The weight of the cost is a statement about the decoder's noise*: who says $w = 0.001$ says that a
# pixel is right to within $s = \sqrt{0.0005} = 0.022$, three grey levels.
#
# **The cost.** With $q = \mathcal N(\mu, \operatorname{diag} \sigma^2)$, where the encoder gives a mean $\mu_i$ and a
# variance $\sigma_i^2$ for each of the $n$ numbers of the code, (4.2) with $m_2 = 0$, $v_2 = 1$ says
#
# $$ \mathrm{KL} = \frac12 \sum_{i=1}^n \big(\mu_i^2 + \sigma_i^2 - 1 - \log \sigma_i^2\big) \quad \text{nats}
# \tag{10.5} $$
#
# ($\sigma$ is the code's here, not the schedule's.) The network gives $\log \sigma_i^2$, which may be any number.

# %%
def nats_of(mean, log_var):
    return (mean**2 + log_var.exp() - 1 - log_var).flatten(1).sum(1) / 2


# %% [markdown]
# Two independent answers: the integral on a grid for a single number, and, for codes of many numbers, the average of
# $\log q - \log p$ over draws.

# %%
from minidiff import Gaussian

u = torch.linspace(-12, 12, 4001, dtype=torch.float64)
p = torch.distributions.Normal(0.0, 1.0)
for m, s in [(0.7, 0.3), (-2.0, 1.0), (0.0, 1.0), (0.1, 1.6)]:
    q = torch.distributions.Normal(m, s)
    integral = torch.trapezoid(q.log_prob(u).exp() * (q.log_prob(u) - p.log_prob(u)), u)
    by_formula = nats_of(torch.tensor([[m]]), torch.tensor([[s**2]]).log())
    assert torch.isclose(by_formula.double(), integral, atol=1e-5)

# %%
mu, log_var = torch.randn(2, 1, 20, generator=seeded(3)).unbind(0)
q = Gaussian(mu.expand(200_000, -1), (log_var / 2).exp())
draws = q.sample(seeded(4))

# %%
surplus = q.log_prob(draws) - Gaussian(torch.zeros_like(draws), torch.tensor(1.0)).log_prob(draws)
assert abs(surplus.mean() - nats_of(mu, log_var)) < 4 * surplus.std() / 200_000**0.5
print(f"20 numbers: {nats_of(mu, log_var).item():.2f} nats; log q - log p over draws {surplus.mean():.2f}")

# %% [markdown]
# **A gradient through dice.** The error in (10.4) is an average over random $z$, and the encoder must learn from it.
# As in chapter 01, let the noise come from outside:
#
# $$ z = \mu + \sigma \epsilon, \qquad \epsilon \sim \mathcal N(0, I), \qquad
# \nabla_{\mu, \sigma}\, E\big[g(z)\big] = E\big[\nabla_{\mu, \sigma}\; g(\mu + \sigma\epsilon)\big] \tag{10.6} $$
#
# There is an older way, which does not look inside $g$ at all: $\nabla_\mu E[g] = E[g(z)\, \nabla_\mu \log q(z)]$, with
# $\nabla_\mu \log q = (z - \mu)/\sigma^2$ (the *score-function* estimator; Williams 1992, REINFORCE). Both are right on
# average. *Predict: which one is noisier, and how does that change with the length of the code?* The test:
# $g(z) = \sum_i (z_i - 2)^2$, for which $E[g] = \sum_i (\mu_i - 2)^2 + \sigma_i^2$, so that the gradient is known.

# %%
def two_estimates(n, m=0.5, s=0.8, draws=20_000):
    """Both estimates of d E[g] / d mu_1, one for each draw of a code of n numbers."""
    z = m + s * torch.randn(draws, n, generator=seeded(5))
    return 2 * (z[:, 0] - 2), (z - 2).square().sum(1) * (z[:, 0] - m) / s**2


# %%
lengths, spreads = torch.tensor([1, 4, 16, 64, 256]), []
for n in lengths:
    both = two_estimates(int(n))
    assert all(abs(e.mean() - 2 * (0.5 - 2)) < 4 * e.std() / 20_000**0.5 for e in both)  # right on average
    spreads.append(torch.stack([e.std() for e in both]))
inside, outside = torch.stack(spreads).T

# %%
alt = "Two lines over the length of the code: through g flat below 2, the score function's rises from 7 to 900."
plot.curves(lengths, {"through g (10.6)": inside, "score function": outside}, alt, "numbers in the code",
            "standard deviation of one estimate", xscale="log", yscale="log")

# %%
assert (inside - 1.6).abs().max() < 0.05 and outside[0] > 4 * inside[0] and outside[-1] > 200 * inside[-1]

# %% [markdown]
# For 256 numbers hundreds of times noisier, which one would have to average away with the square of that in draws: the
# score function asks each number to answer for the error of all. That (10.6) also gives the gradient for $\sigma$, let
# autograd say; the exact values are $2(\mu - 2)$ and $2\sigma$:

# %%
m, s = (torch.tensor(value, requires_grad=True) for value in (0.5, 0.8))
z = m + s * torch.randn(1_000_000, generator=seeded(6))
slopes = torch.autograd.grad((z - 2).square().mean(), (m, s))
assert abs(slopes[0] + 3.0) < 0.01 and abs(slopes[1] - 1.6) < 0.01

# %% [markdown]
# **Is the bound a bound?** There is a model whose $\log p(x)$ is known exactly, on real pictures: the linear one. With
# $\mathrm{dec}(z) = \bar x + Wz$ everything is Gaussian, $x \sim \mathcal N(\bar x,\ WW^\top + s^2 I)$ (*probabilistic
# PCA*, Tipping & Bishop 1999). The best $W$ has the components of PCA as columns, the $i$-th with length
# $\sqrt{\lambda_i - s^2}$, where $\lambda_i$ is the variance along it; and the best $s^2$ is the mean of the variances
# left out. Given $x$, the code is a Gaussian whose numbers are independent, just as our encoders are:
#
# $$ p(z_i \mid x) = \mathcal N\big(z_i;\ W_i^\top (x - \bar x) / \lambda_i,\ s^2/\lambda_i\big), \qquad
# W_i \text{ the } i\text{-th column of } W . $$

# %%
k = 32
s2 = lam[k:].mean()
W = Vt[:k].T.double() * (lam[:k] - s2).sqrt()  # (1024, 32)
some = (new[:50] - mean).flatten(1).double()  # 50 unseen pictures
exact = torch.distributions.LowRankMultivariateNormal(torch.zeros(dims).double(), W, s2.expand(dims)).log_prob(some)

# %%
def bound_of(mu, v):
    """The right side of (10.3) for codes N(mu, v), with E|x_hat - x|^2 done by hand."""
    error = (some - mu @ W.T).square().sum(1) + (W.square().sum(0) * v).sum()
    return -error / (2 * s2) - dims / 2 * (2 * torch.pi * s2).log() - nats_of(mu, v.log().expand_as(mu))


mu, v = some @ W / lam[:k], s2 / lam[:k]  # the posterior

# %%
z = mu + v.sqrt() * torch.randn(100, *mu.shape, generator=seeded(7), dtype=torch.float64)  # (10.6), 100 codes each
error = (some - z @ W.T).square().sum(2)  # (100, 50)
one = -error / (2 * s2) - dims / 2 * (2 * torch.pi * s2).log() - nats_of(mu, v.log().expand_as(mu))

# %%
assert torch.allclose(bound_of(mu, v), exact, rtol=1e-6)  # equality: q is the posterior
assert ((one.mean(0) - exact).abs() < 5 * one.std(0) / 100**0.5).all()
print(f"log p(x) {exact.mean():.1f} nats, the bound with the posterior {bound_of(mu, v).mean():.1f}")

# %% [markdown]
# With the right $q$ the bound is exact, for each single picture; and 100 random codes agree. With a wrong one it lacks
# the KL of (10.3), no more and no less:

# %%
posterior = Gaussian(mu, v.sqrt())
for wrong_mu, wrong_v in [(mu, 4 * v), (mu + 0.1, v), (0 * mu, torch.ones(k).double())]:
    gap = Gaussian(wrong_mu, wrong_v.sqrt()).kl(posterior)
    assert torch.allclose(exact - bound_of(wrong_mu, wrong_v), gap, rtol=1e-3) and (gap > 0).all()
    print(f"lacks {gap.mean():.3g} nats")

# %% [markdown]
# The last wrong $q$ is the prior itself: a code that does not look at the picture. It costs nothing, and tells nothing.
#
# The package's `GaussianBottleneck` is a layer between encoder and decoder. It reads the encoder's channels as means and logarithms of
# variances, gives a sample if it is handed noise and the mean if it is not, and says what the code costs.

# %%
from minidiff.nets.autoencoder import GaussianBottleneck

h, eps = torch.randn(5, 8, 3, 3, generator=seeded(8)), torch.randn(5, 4, 3, 3, generator=seeded(9))
mu, log_var = h.chunk(2, dim=1)
code = GaussianBottleneck(4)(h, eps)

# %%
assert torch.allclose(code.z, mu + (log_var / 2).exp() * eps) and torch.equal(GaussianBottleneck(4)(h).z, mu)
assert torch.allclose(code.cost, nats_of(mu, log_var), rtol=1e-5)

# %%
plot.show_source(GaussianBottleneck)

# %% [markdown]
# And (10.2), as the training of section 1 has used it:

# %%
from minidiff.nets.autoencoder import autoencoder_loss

heavy, eps = fresh(cost_weight=0.3), torch.randn(10, 4, 8, 8, generator=seeded(20))
x_hat, cost = heavy(ten, eps)

# %%
error = (x_hat - ten).square().sum((1, 2, 3))
assert torch.allclose(autoencoder_loss(heavy, ten, eps) * dims, error + 0.3 * cost, rtol=1e-5)

# %%
plot.show_source(autoencoder_loss)

# %% [markdown]
# ## 3. Rate and distortion
#
# Read (10.4) as a trade. $R$, the average KL, is the **rate**: the nats that it takes to send the code to somebody who
# knows nothing but the prior (that KL is a length of code, too, is *bits back*, Hinton & van Camp 1993). $D$, the
# average error, is the **distortion**. The weight is the rate of exchange: $w$ of squared error for one nat.
#
# The linear model can be solved for every $w = 2s^2$. A component with variance $\lambda_i > s^2$ is sent, with an
# error $s^2$, for $\frac12 \log (\lambda_i / s^2)$ nats; one with less variance than the noise is not worth a nat, and
# its error is all of $\lambda_i$ (exercise 1):
#
# $$ R = \sum_i \tfrac12 \max\!\Big(0,\ \log \frac{\lambda_i}{s^2}\Big), \qquad D = \sum_i \min(s^2, \lambda_i)
# \tag{10.7} $$
#
# This is no accident of our model. It is Shannon's *rate-distortion function* of a Gaussian: no code whatsoever,
# however clever, does better on data that *are* Gaussian with these variances ("reverse water-filling", Cover & Thomas
# 2006, chapter 10). Components below the water are drowned. And along the curve $dD/dR = -2s^2 = -w$.

# %%
def by_water(s2):
    """(R, D) of (10.7), in nats and squared error for one picture."""
    return (lam / s2).log().clamp(min=0).sum() / 2, lam.clamp(max=s2).sum()


# %% [markdown]
# The check: a linear VAE with this $w$, on all 10,000 pictures, its cost by (10.5) and its error by hand.

# %%
for s2 in (0.05, 0.5, 5.0):
    k = int((lam > s2).sum())
    variances = lam[:k].float()
    W, v = Vt[:k].T * (variances - s2).sqrt(), s2 / variances
    mu = flat @ W / variances  # the posterior of section 2
    rate = nats_of(mu, v.log().expand_as(mu)).mean()
    error = (flat - mu @ W.T).square().sum(1).mean() + (W.square().sum(0) * v).sum()
    assert torch.allclose(torch.stack([rate, error]), torch.stack(by_water(s2)).float(), rtol=1e-3)
    print(f"w = {2 * s2:4}: {k:3} of 1,024 components live, R = {rate:.0f} nats, D = {error:.0f}")

# %%
h = 1e-4
(R, D0), (R_, D1) = by_water(0.5), by_water(0.5 * (1 + h))
assert abs((D1 - D0) / (R_ - R) + 2 * 0.5) < 1e-3  # the slope is -w

# %% [markdown]
# Now networks, which bend. The same slope can be expected: if an autoencoder with weight $w$ really has the least
# $D + wR$, and another one with $w' > w$ the least $D' + w'R'$, then neither would gain by being the other, $D + wR \le
# D' + wR'$ and $D' + w'R' \le D + w'R$. Put together,
#
# $$ w \;\le\; \frac{D' - D}{R - R'} \;\le\; w' \tag{10.8} $$
#
# The slope between two autoencoders lies between their weights. (Nothing was assumed about them, but that each is the
# best for its weight. A run of six seconds is hardly that. Let us see.)
#
# *Predict: five autoencoders, alike but for the weight: 0.01, 0.1, 1, 10, 100. What will the pictures look like at
# each?*

# %% tags=["slow"]
sweep = {w: learn(fresh(cost_weight=w)) for w in (0.01, 0.1, 1.0, 10.0, 100.0)}

# %% [markdown]
# All that follows is measured on the unseen pictures, and with *samples* of the codes: the rate pays for a noisy code,
# so the noisy code has to do. Rates are given in bits per pixel of the picture, $R / (1024 \ln 2)$.

# %%
def measure(autoencoder, rate=None):
    """Rate in bits a pixel (or as given), error, PSNR, accuracy of the classifier and Frechet distance."""
    x_hat, cost = there_and_back(autoencoder, new, noisy=True)
    bits_a_pixel = float(cost.mean()) / (dims * math.log(2)) if rate is None else rate
    read = label_accuracy(in_parts(judge, x_hat), unseen.y)
    return {"rate": bits_a_pixel, "error": float((x_hat - new).square().sum()) / len(new), "psnr": psnr(new, x_hat),
            "accuracy": read, "frechet": distance(x_hat)}


# %%
table = {w: measure(autoencoder) for w, autoencoder in sweep.items()}

# %% tags=["nbval-ignore-output"]
print("weight    bits a pixel   error   PSNR")
for w, row in table.items():
    print(f"{w:6}    {row['rate']:12.4f}   {row['error']:5.0f}   {row['psnr']:4.1f}")

# %%
falling = list(table.values())
assert all(a["rate"] > b["rate"] and a["error"] < b["error"] for a, b in pairwise(falling))

# %%
slopes = {}
for (w, light), (heavier, heavy) in pairwise(table.items()):
    nats = (light["rate"] - heavy["rate"]) * dims * math.log(2)
    slopes[w, heavier] = (heavy["error"] - light["error"]) / nats
assert all(w < slope < heavier for (w, heavier), slope in slopes.items())

# %% tags=["nbval-ignore-output"]
for (w, heavier), slope in slopes.items():
    print(f"between the weights {w} and {heavier}: {slope:.2g} of squared error for a nat")

# %% [markdown]
# They do trade at the price that they were told: each slope lies between the two weights. Here are the pictures that
# come back.

# %%
rows = {"picture": ten} | {f"w = {w:g}": there_and_back(sweep[w], ten, noisy=True)[0] for w in sweep}
alt = "Six rows: clothes; nearly the same at weight 0.01; softer; blurred; ghostly blurs at 10; one grey blur at 100."
plot.strips(rows, alt, clothes.classes)

# %% [markdown]
# **Why blur?** A decoder with squared error answers with the *mean* of all pictures that could have given this code
# (chapter 03: the least squared error is the conditional mean). Few nats, many possible pictures, and their mean is
# soft. At $w = 100$ hardly a nat is worth its price, the code says nothing, and the mean is that of all clothes:

# %% tags=["nbval-ignore-output"]
silent, cost = there_and_back(sweep[100.0], new[:100])
from_mean = (silent - mean).square().sum((1, 2, 3)).max()
assert cost.max() < 0.1 and from_mean < 12 < 200 < table[100.0]["error"]
print(f"at w = 100 the costliest code takes {cost.max():.0g} nats")

# %% [markdown]
# That is **posterior collapse**: every code is the prior, and the decoder has learned to ignore it. Here little is
# lost by it: at such a price (10.7) would send a single component, for a quarter of a nat. In larger models it happens
# where nobody wanted it, when the decoder is strong enough to do without the code. It comes channel by channel. What
# does each channel of the code cost?

# %%
@torch.no_grad()
def nats_by_channel(autoencoder):
    mu, log_var = autoencoder.encoder(new[:500]).chunk(2, dim=1)  # (500, 4, 8, 8) each
    each = (mu**2 + log_var.exp() - 1 - log_var) / 2
    return each.sum((2, 3)).mean(0).sort(descending=True).values


channels = {w: nats_by_channel(autoencoder) for w, autoencoder in sweep.items()}

# %%
alt = "Bars, logarithmic: at weight 0.01 all four channels are alive, at 0.1 fewer, at 1 and 10 one, at 100 none."
picture, (ax,) = plot.figure(alt, height=2.8)
for i in range(4):
    ax.bar(torch.arange(5) + 0.2 * i - 0.3, torch.stack(list(channels.values()))[:, i], 0.18, color=plot.COLOURS[i])
ax.axhline(1, color="0.5", linewidth=0.8)
ax.set(yscale="log", xlabel="weight", ylabel="nats a picture", xticks=range(5), ylim=(1e-5, 1e3))
ax.set_xticklabels([f"{w:g}" for w in channels])
picture

# %%
alive = {w: int((nats > 1).sum()) for w, nats in channels.items()}
assert alive[0.01] >= 3 > alive[1.0] >= 1 and alive[100.0] == 0

# %% [markdown]
# Each group is one autoencoder, a bar for each of its four channels, largest first; below the line a channel says less
# than one nat in all its 64 places. It is (10.7) again: what varies less than the decoder's noise is not sent.
#
# **And the prior?** Now there *is* an agreement where codes lie: $\mathcal N(0, I)$. So throw random codes again.
# *Predict: which of the five draws best?*

# %%
dice = torch.randn(2000, 4, 8, 8, generator=seeded(10))
with torch.no_grad():
    by_dice = {w: autoencoder.decode(dice) for w, autoencoder in sweep.items()}
alt = "Grain at weight 0.01; smoother patches at 0.1; soft lumps, some like clothes, at 1 and 10; one blur at 100."
plot.strips({f"w = {w:g}": drawn[:10] for w, drawn in by_dice.items()}, alt)

# %%
drawn_far = {w: distance(drawn) for w, drawn in by_dice.items()}
best = min(drawn_far, key=drawn_far.get)
assert best in (1.0, 10.0) and drawn_far[best] > 3
assert table[0.01]["frechet"] < 0.5 and drawn_far[0.01] > 30 * table[0.01]["frechet"]

# %% tags=["nbval-ignore-output"]
print("Frechet distance    there and back    random codes")
for w in sweep:
    print(f"w = {w:6g} {table[w]['frechet']:23.2f} {drawn_far[w]:15.1f}")

# %% [markdown]
# A dilemma, in two columns. With a small weight pictures come back well, and codes are so far from the prior that
# random ones mean nothing. With a larger weight the codes move towards the prior, and what they can say is a blur; the
# best of the five is still far from clothes. Codes of a good autoencoder have a *structure* of their own, neighbours
# that belong together, which independent dice do not have.
#
# The way out is to stop asking the autoencoder for a prior. Take a small weight, which only keeps codes at a sane size,
# and learn the distribution of the codes afterwards, with something that is good at distributions. That is latent
# diffusion, and chapter 11.
#
# ## 4. Words instead of numbers
#
# The other way to price a code is to allow only finitely many. **VQ**, vector quantisation: a *codebook* of $K$
# vectors $e_1, \dots, e_K$, and each vector $h$ that the encoder gives (here 64 of them for a picture, of 4 numbers
# each) is replaced by the nearest (van den Oord et al. 2017):
#
# $$ z = e_i, \qquad i = \arg\min_j |h - e_j| \tag{10.9} $$
#
# What is sent is the number $i$: at most $\log_2 K$ bits for each place.

# %%
def nearest_entry(h, codebook):
    """i of (10.9) for vectors h (N, c) and a codebook (K, c): (N,)."""
    return torch.cdist(h, codebook).argmin(1)


h, codebook = torch.randn(50, 4, generator=seeded(11)), torch.randn(7, 4, generator=seeded(12))
by_loop = [min(range(7), key=lambda j: float((h[n] - codebook[j]).norm())) for n in range(50)]
assert nearest_entry(h, codebook).tolist() == by_loop

# %% [markdown]
# How can this be trained? Move $h$ a little, and $i$ stays what it was: the derivative of $z$ is zero, except at the
# borders, where there is none. *Straight through* is the brazen remedy: on the way back, pretend that $z$ is $h$. With
# $\mathrm{sg}$ for "stop the gradient here", `detach` in code,
#
# $$ z_\mathrm{st} = h + \mathrm{sg}[z - h], \qquad \mathrm{cost} = \sum_\mathrm{places} \underbrace{\big|z -
# \mathrm{sg}[h]\big|^2}_{\text{moves the codebook}} + \beta\, \underbrace{\big|h -
# \mathrm{sg}[z]\big|^2}_{\text{moves the encoder}}, \qquad \beta = 0.25 \tag{10.10} $$
#
# Forwards $z_\mathrm{st}$ is $z$. Backwards the encoder gets the gradient that the decoder sends to $z$; the first term
# pulls each used entry to the vectors it serves; the second, the *commitment*, keeps the encoder near them. ($\beta$
# has nothing to do with the noise's.) Check each of the three by hand, for a "decoder" $g(z) = \sum \sin z$:

# %%
from minidiff.nets.autoencoder import VectorQuantizer

vq = VectorQuantizer(4, 7).eval()
vq.codebook.weight.data = codebook.clone()
h = torch.randn(3, 4, 5, 5, generator=seeded(13), requires_grad=True)
z, cost = vq(h)

# %%
vectors = h.detach().permute(0, 2, 3, 1).reshape(-1, 4)  # (75, 4)
index = nearest_entry(vectors, codebook)
z_by_hand = codebook[index].view(3, 5, 5, 4).permute(0, 3, 1, 2)
assert torch.allclose(z, z_by_hand, atol=1e-6)
assert torch.allclose(cost, 1.25 * (z_by_hand - h).square().flatten(1).sum(1), rtol=1e-5)

# %%
to_h, = torch.autograd.grad(z.sin().sum(), h, retain_graph=True)
assert torch.allclose(to_h, z_by_hand.cos(), atol=1e-5)  # as if z were h
committed, pulled = torch.autograd.grad(cost.sum(), (h, vq.codebook.weight))
assert torch.allclose(committed, 2 * 0.25 * (h - z_by_hand), atol=1e-5)
used = torch.bincount(index, minlength=7)  # how many vectors each entry serves
sums = torch.zeros(7, 4).index_add_(0, index, vectors)
assert torch.allclose(pulled, 2 * (used[:, None] * codebook - sums), atol=1e-4)

# %% [markdown]
# The last line deserves a look. An entry comes to rest where $n\, e = \sum h$: at the *mean* of its vectors. That is
# **k-means**: assign to the nearest, move to the mean. A step against the gradient of length $1 / 2n$ *is* a round of
# it. So the codebook term alone, on points of the plane, must end where scikit-learn's k-means ends.

# %%
from minidiff.data import toy

points, k = toy.moons(2000, seeded(14)), 24
words = VectorQuantizer(2, k).eval()
words.codebook.weight.data = points[:k].clone()

# %%
for _ in range(200):
    _, cost = words(points[:, :, None, None])  # 2,000 "pictures" of one pixel
    pull, = torch.autograd.grad(cost.sum(), words.codebook.weight)
    served = torch.bincount(nearest_entry(points, words.codebook.weight.detach()), minlength=k)
    words.codebook.weight.data -= pull / (2 * served[:, None])
centres = words.codebook.weight.detach()
assert served.min() > 0

# %%
try:
    from sklearn.cluster import KMeans
except ImportError:
    print("scikit-learn is not installed: this comparison is left out")
else:
    classic = KMeans(k, init=points[:k].numpy(), n_init=1, max_iter=500, tol=0).fit(points.numpy())
    assert torch.allclose(centres, torch.tensor(classic.cluster_centers_), atol=1e-3)

# %%
picture, (ax,) = plot.figure("Two moons of points in patches of colour, a cross in the middle of each.", height=3.4)
colour = nearest_entry(points, centres) * 5 % 7  # seven colours for 24 entries: some neighbours share one
for i in range(7):
    ax.scatter(*points[colour == i].T, s=3, color=plot.COLOURS[i])
ax.plot(*centres.T, "kx")
ax.set(aspect="equal")
picture

# %% [markdown]
# Points, the entry that serves each (by colour; with seven colours some neighbours share one), and the entries
# (crosses). The package's layer:

# %%
plot.show_source(VectorQuantizer)

# %% [markdown]
# ### Dead entries
#
# What is `replace_dead_entries` for? An entry that is never the nearest gets no gradient, so it never moves, so it is never the
# nearest. A widely copied implementation starts all entries close to zero. The encoder's vectors start elsewhere, a few
# entries on the outside catch all of them, and the rest are dead from birth. *Predict: of 256 entries, how many will
# be in use after 350 steps?* The failure first: `dead_threshold = 0` revives nobody.

# %% tags=["slow"]
def small_start(dead_threshold):
    autoencoder = fresh(codebook_size=256, cost_weight=1.0)
    torch.nn.init.uniform_(autoencoder.bottleneck.codebook.weight, -1 / 256, 1 / 256)
    autoencoder.bottleneck.dead_threshold = dead_threshold
    return learn(autoencoder)


dictionaries = {"nobody revived": small_start(0.0), "revived": small_start(VectorQuantizer.dead_threshold)}

# %% [markdown]
# How much does such a code say? Let $p_i$ be the share of places where entry $i$ is used. A good code spends
# $-\log_2 p_i$ bits on it, on average the entropy (chapter 04), and that is the rate. It is often quoted as a
# *perplexity*: as many entries, used evenly, would give the same.
#
# $$ H = -\sum_i p_i \ln p_i \quad\text{nats a place}, \qquad \text{perplexity} = e^H \le K, \qquad
# \text{rate} = \frac{64\, H}{1024 \ln 2} \;\text{bits a pixel} \tag{10.11} $$

# %%
@torch.no_grad()
def usage(autoencoder):
    """(entries used, perplexity, rate in bits a pixel) on the unseen pictures."""
    h = torch.cat([autoencoder.encoder(part) for part in new.split(500)]).permute(0, 2, 3, 1).reshape(-1, 4)
    index = torch.cat([nearest_entry(part, autoencoder.bottleneck.codebook.weight) for part in h.split(32_000)])
    p = torch.bincount(index, minlength=autoencoder.config.codebook_size).double() / len(index)
    H = -torch.xlogy(p, p).sum()
    return int((p > 0).sum()), float(H.exp()), float(64 * H / (dims * math.log(2)))


uses = {name: usage(autoencoder) for name, autoencoder in dictionaries.items()}
by_words = {name: measure(autoencoder, uses[name][2]) for name, autoencoder in dictionaries.items()}

# %%
(few, narrow, _), (many, wide, rate) = uses.values()
assert few < 130 and many > 240 and wide > 1.8 * narrow and rate <= math.log2(256) * 64 / dims
assert by_words["revived"]["error"] < 0.9 * by_words["nobody revived"]["error"]

# %% tags=["nbval-ignore-output"]
for name, (count, perplexity, bits_a_pixel) in uses.items():
    print(f"{name:14}: {count} of 256 used, perplexity {perplexity:.0f}, {bits_a_pixel:.2f} bits a pixel,"
          f" {by_words[name]['psnr']:.1f} dB")

# %% [markdown]
# Without revival most of the dictionary is never opened. With it, an entry whose use falls below a fiftieth of the mean
# is moved onto the vector that is served worst, and the error falls by about a quarter. (Another start helps as well:
# with entries of unit size hardly any die here. Reviving does not depend on luck.)
#
# Numbers or words, it is one interface: `autoencoder(x)` gives pictures and a cost, and a rate comes out. So both
# can stand in one figure, with the curve (10.7), the best that is possible for Gaussian data with the same variances.

# %%
def rate_distortion(families, alt):
    """Each family is a list of measured autoencoders: one line or dot each, over the exact Gaussian curve."""
    water = torch.stack([torch.stack(by_water(s2)) for s2 in torch.logspace(1.4, -2.9, 60)])  # (60, 2)
    picture, (ax,) = plot.figure(alt, height=3.8)
    bits_a_pixel, decibels = water[:, 0] / (dims * math.log(2)), 10 * (4 * dims / water[:, 1]).log10()
    ax.plot(bits_a_pixel, decibels, color="0.6", label="Gaussian (10.7)")
    for (name, family), colour in zip(families.items(), plot.COLOURS, strict=False):
        ax.plot([row["rate"] for row in family], [row["psnr"] for row in family], "o-", label=name, color=colour)
    ax.set(xscale="log", xlim=(2e-3, 4), xlabel="bits a pixel", ylabel="PSNR, decibels")
    ax.legend()
    return picture


# %%
families = {"KL, weights 0.01 to 10": falling[:4], "VQ, 256 entries": [by_words["revived"]]}
alt = "PSNR against bits, all rising: the KL line runs near the grey Gaussian curve, VQ's dot lies a little below."
rate_distortion(families, alt)

# %%
import numpy as np


def at_rate(family, rate, what):
    """A measured family's value at a rate, on straight lines over the logarithm of the rate."""
    family = sorted(family, key=lambda row: row["rate"])
    return float(np.interp(math.log(rate), [math.log(r["rate"]) for r in family], [r[what] for r in family]))


# %%
behind = at_rate(falling[:4], rate, "psnr") - by_words["revived"]["psnr"]
s2 = next(float(s2) for s2 in torch.logspace(1, -2, 400) if by_water(s2)[0] > table[0.1]["rate"] * dims * math.log(2))
in_theory = 10 * math.log10(4 * dims / by_water(s2)[1])
assert abs(behind) < 2.5 and abs(table[0.1]["psnr"] - in_theory) < 1.2

# %% [markdown]
# Bits rise to the right, quality upwards; up and left is better. VQ lies a decibel or so below the line of KL: near
# enough for the choice to depend on what comes after. Numbers suit diffusion, words suit language models. The grey line
# belongs to codes that may use all 1,024 components of PCA. Up to 0.2 bits the networks stay within a decibel or so of
# it, mostly below, with their 256 numbers and a few seconds of training; beyond, these are too few.
#
# ## 5. What the bits are for
#
# *Predict: of the bits of a good code, what share is needed to see that it is a boot?* So far "good" meant squared
# error. Ask the classifier instead, which reads the class of clothes from pictures, and right in 93 % of real ones:

# %%
truth = {"accuracy": label_accuracy(in_parts(judge, new), unseen.y)}
assert 0.92 < truth["accuracy"] < 0.95

# %% tags=["nbval-ignore-output"]
for w, row in list(table.items())[::-1]:
    print(f"w = {w:6g}: {row['rate']:.4f} bits a pixel, {row['psnr']:.1f} dB, read right {row['accuracy']:.0%},"
          f" Frechet distance {row['frechet']:.2f}")
print(f"real pictures: read right {truth['accuracy']:.0%}")

# %%
assert table[10.0]["accuracy"] < 0.55 < 0.65 < table[1.0]["accuracy"] < 0.84
assert table[0.1]["accuracy"] > 0.92 * truth["accuracy"] and table[0.01]["accuracy"] > 0.95 * truth["accuracy"]
assert table[0.01]["psnr"] > table[0.1]["psnr"] + 1.5

# %% [markdown]
# From $w = 0.1$ to $0.01$ the rate triples and the squared error nearly halves. What the picture *shows* hardly
# changes. Rombach et al. (2022) call the two parts of the curve *semantic* and *perceptual* compression: first, few
# bits decide what is in the picture; then, many bits say what its surface is exactly like. Their plan follows from it:
# let an autoencoder deal with the surface, and the expensive model, diffusion, with what is left.
#
# **Diffusion itself shows it best.** The bound of chapter 04 is a sum over steps, and each step is a message: given
# $x_t$, these bits are needed for $x_{t-1}$. Stop at any $t$: all that has been sent is $x_t$, and the receiver, who
# has the denoiser, sees $\hat x_0(x_t, t)$ (Ho et al. 2020, section 4.3). So a diffusion model is a code with *all*
# rates in one:
#
# $$ \text{rate}(t) = \frac{1}{1024 \ln 2} \Big(L_T + \sum_{\tau > t} L_{\tau - 1}\Big), \qquad
# \text{distortion}(t) = E\,\big|\hat x_0(x_t, t) - x_0\big|^2 \tag{10.12} $$
#
# Here is the shipped model of clothes, with 50 steps, on 200 unseen pictures. (It is not told the class, or its
# pictures would show what it was told.)

# %% tags=["slow"]
from minidiff import add_noise, bits_per_dim, times, vlb_terms
from minidiff.app.checkpoint import load_denoiser
from minidiff.data import shipped

(denoiser, _), ts = load_denoiser(shipped("fashion.safetensors")), times(50)
terms = torch.stack(list(vlb_terms(denoiser, new[:200], ts, denoiser.schedule, seeded(15), bins=256)))  # (51, 200)
spent = bits_per_dim(terms.double(), dims).mean(1).cumsum(0)  # spent[k]: until x at ts[k] is known

# %%
shown = {}
for k in (5, 10, 15, 20, 25, 30, 35, 40, 45, 48):
    x_t = add_noise(new[:200], torch.randn(200, 1, 32, 32, generator=seeded(k)), ts[k], denoiser.schedule)
    x_hat = denoiser(x_t, ts[k])
    read = label_accuracy(judge(x_hat.clamp(-1, 1)), unseen.y[:200])
    shown[k] = {"rate": float(spent[k]), "psnr": psnr(new[:200], x_hat), "accuracy": read, "x_hat": x_hat[:8]}

# %%
rows = {f"{row['rate']:.3f} bits": row["x_hat"] for k, row in shown.items() if k in (5, 15, 25, 35, 40, 45, 48)}
alt = "Clothes grow sharper downwards: soft shapes at 0.004 bits, right garments at 0.06, all detail from 0.5 on."
plot.strips(rows | {f"all {spent[-1]:.1f} bits": new[:8]}, alt)

# %% tags=["nbval-ignore-output"]
last = float((spent[-1] - spent[-3]) / spent[-1])  # the last two of the 50 steps
noise = float(denoiser.schedule(ts[-3])[1])
early = 1 - float(spent[40] / spent[-1])
real_200 = label_accuracy(judge(new[:200]), unseen.y[:200])
assert shown[40]["accuracy"] > 0.93 * real_200 and early > 0.9 and 0.6 < last < 0.85 and shown[48]["psnr"] > 33
print(f"the last two steps, noise up to {noise * 127.5:.0f} grey levels: {last:.0%} of all bits")
print(f"bits still to come when x_t at t = {ts[40]:.1f} is known: {early:.0%}")

# %% [markdown]
# A twentieth of a bit for each pixel, and one sees what it is. At $t = 0.2$, where the classifier is right nearly
# as often as with real pictures, more than nine tenths of the bits are still to come; and seven tenths go into the last
# two steps, dust of a few grey levels that is in the difference of the two last rows. Where is it in the diagram?

# %%
families["diffusion, stopped at t"] = list(shown.values())
alt = "As before, with the diffusion line: above all others from 0.01 bits on, and up to 35 decibels."
rate_distortion(families, alt)

# %%
diffusion, numbers = families["diffusion, stopped at t"], falling[:4]
ahead = [at_rate(diffusion, row["rate"], "psnr") - row["psnr"] for row in numbers[:3]]
assert min(ahead) > 0.5

# %%
alt = "Share read right against bits, for KL and diffusion: both level off near 0.9 between 0.05 and 0.2 bits."
picture, (ax,) = plot.figure(alt)
for name, family, colour in [("KL", numbers, 0), ("diffusion", diffusion, 2)]:
    points = [[row[what] for row in family] for what in ("rate", "accuracy")]
    ax.plot(*points, "o-", label=name, color=plot.COLOURS[colour])
ax.axhline(truth["accuracy"], color="0.6", label="real pictures")
ax.set(xscale="log", xlabel="bits a pixel", ylabel="read right")
ax.legend()
picture

# %% [markdown]
# (Diffusion's dots are of 200 pictures, KL's of 2,000: its share read right may be two points off either way.)
#
# From a twentieth of a bit on, diffusion needs clearly fewer bits for the same error than our autoencoders. (It is
# above the grey line, too: clothes are not Gaussian, and a code that knows more of them than their variances may win.)
# Why? Partly for want of time: the denoiser trained for a quarter of an hour, these autoencoders for six seconds each.
# But also, an autoencoder pays for each of its 256 numbers *as if they were independent*; that is what the prior says.
# Diffusion knows what goes with what. So the two are partners: the autoencoder bends the pictures into few numbers, and
# diffusion then knows how these hang together. The second figure says where to draw the line between them: right of the
# bend, where nothing is left to decide but the surface.
#
# ## 6. Live: the autoencoder for chapter 11
#
# A small weight, 0.001, a little more width, and all the seconds that are left: 28. Meanwhile the same ten unseen
# pictures make the trip there and back.

# %%
SECONDS = 28
torch.manual_seed(0)
final_run = TrainState(Autoencoder(AutoencoderConfig(width=24, cost_weight=1e-3)),
                     TrainConfig(batch_size=16, lr=1e-2, cooldown=0.3), reconstruction)
looks = {"0 s": there_and_back(final_run.model, ten)[0]}

# %% tags=["nbval-ignore-output", "slow"]
for p in train(final_run, clothes, seconds=SECONDS):
    if p.seconds > (1, 6, SECONDS, SECONDS)[len(looks) - 1] or p.fraction == 1:
        looks[f"{p.seconds:.0f} s"] = there_and_back(final_run.ema.module, ten)[0]
        print(f"{p.seconds:2.0f} s, step {p.step:4}, {psnr(ten, looks[f'{p.seconds:.0f} s']):.1f} dB")

# %%
ours = final_run.ema.module
x_hat, _ = there_and_back(ours, ten)
alt = "Rows: a grid; blurs after 1 s; garments after 6 s; clear after 28 s; the pictures; four times the difference."
plot.strips(looks | {"picture": ten, "4 x diff.": 4 * (x_hat - ten)}, alt, clothes.classes)

# %% [markdown]
# The last row is four times the error. *Predict: what is it made of?* Edges, prints, weave: what varies from
# pixel to pixel. Where a picture is smooth, nothing is missing.

# %%
final_row = measure(ours)
mean_code, _ = there_and_back(ours, new)
z = ours.encode(new[:500]).z.detach()

# %%
assert psnr(new, mean_code) > quality["PCA, 256"] - 0.5 and final_row["accuracy"] > 0.95 * truth["accuracy"]
assert 0.6 < z.std() < 1.4

# %% tags=["nbval-ignore-output"]
print(f"PSNR {psnr(new, mean_code):.1f} dB; PCA with as many numbers {quality['PCA, 256']:.1f} dB")
print(f"{final_row['rate']:.2f} bits a pixel; read right {final_row['accuracy']:.1%}, real {truth['accuracy']:.1%}")
print(f"standard deviation of the codes {z.std():.2f}")

# %% [markdown]
# How many of its bits were needed to *read* it? Put it at the end of the line of section 5, and look where 95 % of
# the accuracy on real pictures was reached:

# %%
whole_line = [final_row, *numbers]
goal = 0.95 * truth["accuracy"]
needed = next(r for r in torch.logspace(-2, 0.3, 400).tolist() if at_rate(whole_line, r, "accuracy") >= goal)
assert 0.05 < needed < 0.5 and needed < 0.5 * final_row["rate"]

# %% tags=["nbval-ignore-output"]
print(f"95 % of the accuracy at {needed:.2f} bits a pixel; {1 - needed / final_row['rate']:.0%} of the bits come after")

# %% [markdown]
# ### What a decoder cannot give back
#
# Chapter 11 will draw codes and decode them. Even if it draws *perfect* codes, its pictures can be no better than
# these: the trip there and back is the **reconstruction floor**. In numbers that compare sets of pictures, both sets of
# 2,000, against the training pictures: the Fréchet distance, and KID (Bińkowski et al. 2018), another distance on the
# same descriptions, which is 0 on average for equal distributions and comes with an error (chapter 13):

# %%
from minidiff.app.metrics import kid

floor = {"real, unseen": new, "there and back": mean_code}
features = {name: in_parts(judge.features, pictures) for name, pictures in floor.items()}
frechets = {name: frechet(bank, f) for name, f in features.items()}
kids = {name: kid(bank, f, generator=seeded(16)) for name, f in features.items()}

# %%
assert frechets["real, unseen"] + 0.005 < frechets["there and back"] < 0.25
a, b = kids.values()
assert abs(a.mean - b.mean) < 3 * (a.standard_error**2 + b.standard_error**2) ** 0.5

# %% tags=["nbval-ignore-output"]
for name in floor:
    print(f"{name:15} Frechet {frechets[name]:.3f}, KID {kids[name].mean:.4f} +- {kids[name].standard_error:.4f}")

# %% [markdown]
# The floor is low here, so low that KID, whose error is larger than the difference, does not see it. But it is there,
# and a diffusion model that draws perfect codes ends up at it, not below. What is it, to the eye? Energy in the finest
# detail, the squared differences of neighbouring pixels, before and after:

# %%
def roughness(x):
    return float((x[..., 1:] - x[..., :-1]).square().mean())


# %% tags=["nbval-ignore-output"]
kept = {"0.001": roughness(mean_code) / roughness(new)}
kept |= {f"{w:g}": roughness(there_and_back(sweep[w], new)[0]) / roughness(new) for w in (0.01, 0.1, 1.0)}
assert 1 > kept["0.001"] > kept["0.1"] > kept["1"] and kept["1"] < 0.75
print({f"weight {w}": f"{share:.0%}" for w, share in kept.items()})

# %% [markdown]
# (Share of the roughness that comes back, by weight.) Never all of it: a mean is smoother than what it is a mean of.
#
# ## 7. What large systems use
#
# - **Latent diffusion** (Rombach et al. 2022): $f = 4$ or $8$; KL with a weight of $10^{-6}$, so small that it only
#   keeps codes from growing; or VQ, whose quantisation they count as part of the decoder. Stable Diffusion: $f = 8$,
#   $c = 4$, a picture of $512 \times 512 \times 3$ becomes $64 \times 64 \times 4$, 48 times fewer numbers.
# - Their error is not squared error alone. A **perceptual** loss compares features of a classifier (LPIPS, Zhang et al.
#   2018), and a **discriminator**, the judge of chapter 01's GAN, punishes what does not look real (VQGAN, Esser et al.
#   2021). Both forgive a decoder that invents a plausible weave instead of the mean of all weaves. That is the cure for
#   the blur of section 3; what comes back is sharp, and not quite what went in.
# - Ours has neither: at 32 by 32 pixels there is little weave to invent, a good perceptual network weighs more than all
#   of our course, and a judge doubles the training and adds its moods. The price is the last row of section 6.
# - **$\beta$-VAE** (Higgins et al. 2017) is (10.4) with a weight *above* what the decoder's noise says, in the hope
#   that channels come to mean separate things. The sweep of section 3 was one.
# - Against posterior collapse: begin with a weight of zero and let it grow (Bowman et al. 2016); or do not charge for
#   the first few nats (Kingma et al. 2016; exercise 2).
#
# ## Errors you will meet
#
# Codebooks that die are in section 4. Five more; none of them crashes.
#
# **1. The logarithm of a variance, used as that of a standard deviation.** The noise is multiplied by `log_var.exp()`,
# the variance, where its root belongs, `(0.5 * log_var).exp()`. The code is then noisier or quieter than what the cost
# is computed for. The check: the spread of samples must be the one that the cost assumes.

# %%
h = torch.cat([torch.zeros(1, 4, 3, 3), torch.full((1, 4, 3, 3), -2.0)], 1)  # mean 0, log-variance -2
samples = torch.stack([GaussianBottleneck(4)(h, torch.randn(1, 4, 3, 3, generator=seeded(k))).z for k in range(400)])
wrong = torch.randn(14_400, generator=seeded(17)) * torch.tensor(-2.0).exp()
assert abs(samples.std() - math.exp(-1)) < 0.01 and abs(wrong.std() - math.exp(-1)) > 0.2
print(f"right {samples.std():.2f}, wrong {wrong.std():.2f}; the variance was to be {math.exp(-2):.2f}")

# %% [markdown]
# **2. A mean where a sum belongs.** `0.5 * (...).mean()` averages (10.5) over the $n = 256$ numbers of the code, and
# often the error is averaged over the $d$ pixels at the same time. Then a weight of 0.001 means
# $0.001 \cdot d / n = 0.004$ in our units, and something else again for another code or picture size. When you compare
# weights of two papers, ask first what was summed. The check is a code whose divergence is known:

# %%
far_code = torch.cat([torch.full((1, 4, 8, 8), 2.0), torch.zeros(1, 4, 8, 8)], 1)  # mean 2, variance 1
assert GaussianBottleneck(4)(far_code).cost.item() == 256 * 2.0**2 / 2

# %%
error, cost = torch.tensor(6.0), torch.tensor(800.0)  # of a picture, summed
averaged = error / dims + 0.001 * cost / 256
assert torch.isclose(averaged * dims, error + 0.004 * cost)

# %% [markdown]
# **3. Dice at evaluation.** Encode for use with the mean. Whoever leaves the noise in gets another code each time, and
# a larger error:

# %%
quiet, noisy = (psnr(new, there_and_back(sweep[0.1], new, noisy=flag)[0]) for flag in (False, True))
assert quiet > noisy + 0.4

# %% tags=["nbval-ignore-output"]
print(f"w = 0.1: mean {quiet:.1f} dB, sample {noisy:.1f} dB")

# %% [markdown]
# **4. A stop too few, a stop too many.** With `z` itself in the place of $z_\mathrm{st}$ the decoder trains, and the
# encoder hears nothing from it. Without the two stops in the cost, both terms pull at both: the encoder is drawn to the
# codebook five times as hard, and the balance $\beta$ has lost its meaning. Neither changes a single number of the
# loss; only gradients show it.

# %%
h = torch.randn(6, 4, generator=seeded(18), requires_grad=True)
z = codebook[nearest_entry(h.detach(), codebook)]
without_path = z.sin().sum()
assert not without_path.requires_grad  # nothing flows to h
stopped = ((z - h.detach()) ** 2 + 0.25 * (h - z.detach()) ** 2).sum()
free = ((z - h) ** 2 + 0.25 * (h - z) ** 2).sum()
pulls = [torch.autograd.grad(loss, h)[0].norm() for loss in (stopped, free)]
assert torch.isclose(stopped, free) and torch.isclose(pulls[1] / pulls[0], torch.tensor(5.0))

# %% [markdown]
# **5. The wrong scale.** In chapter 11 codes are multiplied by a number, so that they have a standard deviation of 1,
# and divided by it before decoding. Who forgets one of the two gets pictures that are too pale or too harsh, and looks
# for the fault in the diffusion model. For our autoencoder the number is nearly 1, and one would hardly notice. With
# Stable Diffusion's, 0.18, one does; here ours with that number:

# %%
from minidiff.latent import LatentCodec, fit_scale

assert 0.7 < fit_scale(ours, new[:500]) < 1.6

# %%
latent = LatentCodec(ours, 0.18)
forgot = LatentCodec(ours).decode(latent.encode(ten))  # multiplied, not divided
plot.strips({"right": latent.decode(latent.encode(ten)), "not divided": forgot},
            "Above, ten pieces of clothing; below, the same as flat grey ghosts.")

# %%
assert psnr(ten, latent.decode(latent.encode(ten))) > psnr(ten, forgot) + 6

# %% [markdown]
# ## Exercises
#
# **1. Pen.** Pictures of a single number, $x \sim \mathcal N(0, \lambda)$, with the decoder $\hat x = az$ and the
# encoder $q(z \mid x) = \mathcal N(bx, v)$. (a) Write $D = E|\hat x - x|^2$ and $R$, the mean of (10.5), in $a, b, v$
# and $\lambda$. (b) Minimise $D + 2s^2R$ over $v$, then over $b$, then over $a$, for $\lambda > s^2$. (In the last
# step write $c$ for $a^2 + s^2$: nothing else is left of $a$.) (c) Show that there $D = s^2$ and $R =
# \frac12\log(\lambda/s^2)$, which is (10.7). (d) At which weight $w$ does the component fall silent? For our clothes,
# whose variances are `lam`, at which weight does the last one?
#
# <details><summary>Answer</summary>
#
# (a) $D = (1 - ab)^2\lambda + a^2 v$ and $R = \frac12(b^2\lambda + v - 1 - \log v)$. (b) Over $v$: $a^2 + s^2 - s^2/v
# = 0$, so $v = s^2/c$. Over $b$: $-2a\lambda(1 - ab) + 2s^2\lambda b = 0$, so $b = a/c$. In these, $D + 2s^2R$ is
# $s^2(\lambda/c + \log c) + \text{const}$, least at $c = \lambda$: $a^2 = \lambda - s^2$ (or its negative root, with
# $z$ mirrored). (c) $D = s^4/\lambda + (\lambda - s^2)s^2/\lambda = s^2$; in $R$ the terms $b^2\lambda + v - 1$ cancel
# and $-\frac12\log v = \frac12 \log(\lambda/s^2)$ stays. (d) At $s^2 = \lambda$, $w = 2\lambda$: beyond it $a = 0$ is
# best. The largest variance of the clothes is 80, so at $w = 160$ a linear code falls silent.
#
# </details>
#
# To compare with: a search that knows none of your formulas, for $\lambda = 3$, $s^2 = \frac12$. (Four points have the
# second moments of $x$ and of the noise, and nothing else is asked of them.)

# %%
x_, eps_ = 3**0.5 * torch.tensor([1.0, 1, -1, -1]), torch.tensor([1.0, -1, 1, -1])
a, b, log_v = unknown = [torch.tensor(start, requires_grad=True) for start in (1.0, 1.0, 0.0)]
adam = torch.optim.Adam(unknown, lr=0.02)
for _ in range(800):
    D = (a * (b * x_ + (log_v / 2).exp() * eps_) - x_).square().mean()
    R = nats_of((b * x_)[:, None], log_v.expand(4, 1)).mean()
    adam.zero_grad()
    (D + 2 * 0.5 * R).backward()
    adam.step()
assert abs(D - 0.5) < 1e-3 and abs(R - math.log(3 / 0.5) / 2) < 1e-3
print(f"a = {a:.3f}, b = {b:.3f}, v = {log_v.exp():.3f}")

# %%
audible = [w for w in range(1, 300) if by_water(w / 2)[0] > 0]
print(f"from w = {audible[-1] + 1} on a linear code of the clothes is silent")

# %% [markdown]
# **2. Code.** *Free bits* (Kingma et al. 2016): a channel whose KL, averaged over the batch, is below `least` nats is
# charged `least` nats, whatever it does, so nothing is gained by making it say less. Write `free_bits(mean, log_var,
# least)` for means and log-variances $(B, c, h, w)$: the sum over channels of $\max(\text{least}, \text{KL of the
# channel})$, one number. (The KL of a channel is (10.5), summed over its $h \cdot w$ places and averaged over the $B$
# pictures.)

# %%
from minidiff.course import check


def free_bits(mean, log_var, least):
    """The charge in nats, a number (), for a batch of codes: mean and log_var (B, c, h, w), least in nats."""
    ### BEGIN SOLUTION
    each = (mean**2 + log_var.exp() - 1 - log_var) / 2
    return each.sum((2, 3)).mean(0).clamp(min=least).sum()
    ### END SOLUTION


# %%
def one_by_one(mean, log_var, least):
    costs = [GaussianBottleneck(1)(torch.cat([mean[:, [c]], log_var[:, [c]]], 1)).cost.mean() for c in range(mean.shape[1])]
    return sum(max(least, float(cost)) for cost in costs)


loudness = torch.tensor([0.1, 0.5, 1.0]).view(3, 1, 1)  # a quiet channel, a middling one and a loud one
mean_and_log_var = (loudness * torch.randn(2, 6, 3, 4, 5, generator=seeded(19))).unbind(0)
check(free_bits, one_by_one, [(*mean_and_log_var, least) for least in (0.0, 4.0)],
      hint="a channel's nats are a sum over places and a mean over pictures; at which point has it a floor?")

# %% [markdown]
# **3. Open.** What does a picture in colour take? `load("emoji")` has 1,360 training pictures, `load_scenes("train",
# n, 32)` any number. `priced` trains an autoencoder and gives its rate and its PSNR on unseen pictures. *How many bits
# a pixel does a scene take, with a few shapes on white, and how many an emoji, at the same quality, say 23 decibels?*
# Train with 350 steps, some ten seconds, at three or four weights for each, and read the rates off between them. You
# have an answer when you can name both rates, and it is a good one if twice the steps leave you with the same order.
# Or keep to clothes: with `num_downsamples=3, latent_channels=16` the code has as many numbers as before, in $4 \times 4$ places. Is
# that better or worse, at the same rate?

# %%
from minidiff.data import load_scenes


def priced(data, pictures, steps, **config):
    """Rate in bits a pixel and PSNR on unseen pictures (N, C, 32, 32), after so many steps on `data`."""
    training = TrainState(fresh(channels=pictures.shape[1], **config), RECIPE, reconstruction)
    for _ in train(training, data, steps=steps):
        pass
    trained = training.ema.module
    eps = torch.randn(trained.encode(pictures).z.shape, generator=seeded(21))
    x_hat, cost = trained(pictures, eps)
    return float(cost.mean()) / (dims * math.log(2)), psnr(pictures, x_hat)


# %%
colourful = {"emoji": (load("emoji"), load("emoji", "test").tensor()),
             "scenes": (load_scenes("train", 500, 32), load_scenes("test", 100, 32).tensor())}
alt = "Above, ten emoji: faces, a cat, a hand, people; below, ten scenes of one to three coloured shapes on white."
plot.strips({name: pictures[::10][:10] for name, (_, pictures) in colourful.items()}, alt)

# %% tags=["nbval-ignore-output"]
for name, (data, pictures) in colourful.items():
    bits_a_pixel, decibels = priced(data, pictures, steps=10, cost_weight=0.1)  # only to see that it runs
    assert bits_a_pixel > 0
    print(f"{name}: {bits_a_pixel:.2f} bits a pixel, {decibels:.1f} dB after ten steps")

# %% [markdown]
# ## What to keep
#
# - A linear autoencoder is PCA. One that bends does better with as many numbers, and knows nothing of where codes may
#   lie: random codes decode to nothing.
# - The bound (10.3) gives the code a price, its KL from the prior (10.5). The weight is the decoder's noise, $w = 2s^2$
#   (10.4), and the rate of exchange between squared error and nats (10.8).
# - Noise from outside (10.6) lets gradients through; the score function sees less and is noisier, the more so the
#   longer the code.
# - What varies less than the noise is not sent (10.7): channels die one after the other, and a decoder that is told
#   little answers with the mean of what is possible. That is blur.
# - VQ sends words (10.9), trains straight through (10.10), and needs an eye on its codebook: count perplexity (10.11).
# - Few bits say what a picture shows, most say what its surface is like (10.12). Leave the surface to an autoencoder
#   with a small weight, and the rest to diffusion.
# - Nothing drawn in codes can be better than the trip there and back.
#
# A good autoencoder has no good prior. A diffusion model is one. Next: both together.
