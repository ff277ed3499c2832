# %% [markdown]
# # 01 · Generative models
#
# **You have a heap of examples. How does one make more that could have lain in it?** Four families of answers
# have a name: GAN, VAE, normalizing flow, diffusion. This chapter builds one of each, with the same number of
# weights, trains them side by side on the same data, and measures what each is good at.
#
# **You will build** the four models, fifteen to fifty lines each; a ruler for clouds of points; and a race that
# is over in under a minute.
#
# **You need** PyTorch (a network, a loss, an optimizer) and first-year probability (mean, variance, density).
# Two CPU cores, 1.3 GB of memory, a minute and a quarter. No earlier chapter is needed.

# %%
import math

import torch
import torch.nn.functional as F
from torch import nn

from minidiff import Mixture
from minidiff.course import plot
from minidiff.data import toy

torch.set_num_threads(1)  # such tiny networks are quickest on one thread


# %%
def seeded(seed):
    return torch.Generator().manual_seed(seed)


# %% [markdown]
# ## 1. The question
#
# Our examples are points in the plane, because there one sees everything. Eight clusters lie on a circle; every
# other one is rarer (1 point in 16 instead of 3 in 16) and half as wide.

# %%
data = toy.mixture(2000, seeded(0))  # (2000, 2)
noise = torch.randn(2000, 2, generator=seeded(1))
alt = "Left a round cloud of noise; right eight clusters on a circle, every other one small and tight."
plot.scatter({"noise": noise, "data": data}, alt)

# %% [markdown]
# The models will see such points and nothing else. *We* know more: the exact density of the data, a weighted
# sum of eight Gaussians. It is in the package as `Mixture`, and makes us an umpire who cannot be fooled.

# %%
truth = Mixture(*toy.mixture_parameters())
print("weights", *(f"{w:.2f}" for w in truth.weights[:2]), "in turn; widths", *(f"{s:.1f}" for s in truth.stds[:2]))

# %% [markdown]
# How would *you* make new points? Two ideas suggest themselves.
#
# **Fit a Gaussian.** Take the mean and the variance of the data, and draw from the bell that has them. Our
# data have mean 0 and variance 1 along both axes, so this bell is the noise on the left.
#
# *Predict: what share of its draws lies near any cluster, say within three of the cluster's standard
# deviations?*

# %%
def near(x):
    """For each point: is it within 3 standard deviations of a cluster, and of which?"""
    distance, cluster = (torch.cdist(x, truth.means) / truth.stds).min(1)
    return distance < 3, cluster


# %%
squares = truth.means**2 + truth.stds[:, None] ** 2  # (8, 2)
assert torch.allclose(truth.weights @ truth.means, torch.zeros(2), atol=1e-6)  # the mean of the data
assert torch.allclose(truth.weights @ squares, torch.ones(2))  # and their variance

# %%
shares = [near(x)[0].float().mean() for x in (data, noise)]
assert shares[0] > 0.97 and shares[1] < 0.4
print(f"near a cluster: {shares[0]:.0%} of the data, {shares[1]:.0%} of the bell")

# %% [markdown]
# The right mean, the right spread, and two draws in three lie near no cluster. (1 % of the data are strays
# themselves: that is how Gaussians are.)
#
# **Draw from the heap.** Return one of the examples. Perfect points, and never a new one. A model has to do
# better than the first idea without falling into the second.
#
# All four families are built in the same way. Random numbers are cheap, so take some, $z$, and *transform* them
# with a network $g$:
#
# $$ z \sim \mathcal N(0, I), \qquad x = g(z). $$
#
# ("$\sim$" means "is drawn from"; $\mathcal N(0, I)$ is the cloud on the left, each coordinate a normal
# number with mean 0 and variance 1, independent of the other.) The question is how to train $g$. A classifier
# is told the right answer for each input; here nobody can say which $x$ *belongs* to a given $z$. The four
# families are four ways around this. (There are others. Language models, for one, write their example piece by
# piece.)

# %%
FAMILIES = {  # [learned], (fixed), everything else is tensors and arrows
    "GAN": "z → [generator] → x or data → [judge] → real?",
    "VAE": "x → [encoder] → z → [decoder] → x",
    "flow": "x ↔ [invertible] ↔ z",
    "diffusion": "x → (noise) → z → [denoiser, many times] → x",
}


# %%
def diagram(ax, height, chain):
    columns = (0.15, 0.21, 0.305, 0.4, 0.49, 0.58, 0.73, 0.88, 0.96)  # words and arrows in turn
    words = chain.replace("→", "~→~").replace("↔", "~↔~").split("~")
    for column, word in zip(columns, words, strict=False):
        text, colour = word.strip(" []()"), {"[": "#FDE2B3", "(": "0.85"}.get(word.strip()[0], "white")
        style = {"boxstyle": "round,pad=0.35", "facecolor": colour, "edgecolor": "none"}
        ax.text(column, height, text, ha="center", va="center", bbox=style)


# %%
alt = "Four chains of boxes: GAN, VAE, flow, diffusion. All boxes are learned, but for the noise of diffusion."
picture, (ax,) = plot.figure(alt, width=8.5, height=2.2)
ax.set_axis_off()
for height, (name, chain) in zip((0.85, 0.6, 0.35, 0.1), FAMILIES.items(), strict=True):
    ax.text(0, height, name, weight="bold", va="center")
    diagram(ax, height, chain)
picture

# %% [markdown]
# Orange boxes are learned, the grey one is fixed. A **GAN** has a second network that says whether a point
# looks real. A **VAE** finds a $z$ for each $x$ with a second network, and learns to come back. A **flow** is one
# network that can be run in both directions. **Diffusion** also goes from data to noise and back, but one of
# the ways is not learned.
#
# And here is what we want, five wishes that we are going to measure:
#
# | wish | means |
# |---|---|
# | samples | what comes out looks like data, little lies between the clusters |
# | coverage | every cluster is there, and in its right share |
# | likelihood | the model can say how probable a given point is |
# | speed | a sample costs little |
# | calm | training does not need luck, and its loss says how good the model is |
#
# One network shape serves all: three hidden layers (two in the small networks of the flow), with a smooth bend
# (`SiLU`) after each. And one optimizer, Adam; its `betas` say for how long it remembers past gradients and
# their size.

# %%
def mlp(inputs, width, outputs, hidden=3):
    layers = [nn.Linear(inputs, width), nn.SiLU()]
    for _ in range(hidden - 1):
        layers += [nn.Linear(width, width), nn.SiLU()]
    return nn.Sequential(*layers, nn.Linear(width, outputs))


# %%
def adam(part, rate, betas=(0.9, 0.999)):
    return torch.optim.Adam(part.parameters(), lr=rate, betas=betas, fused=True)


# %%
def descend(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


# %% [markdown]
# ## 2. GAN: a forger and a judge
#
# Nobody can say which $x$ belongs to a $z$. But one can *tell a fake when one sees it*, and that is a
# classifier's job. Goodfellow et al. (2014) train two networks against each other. The judge $D$ gives each
# point the probability that it is real; the generator $G$, the forger, wants its fakes to pass:
#
# $$
# \min_G \max_D \; V(D, G), \qquad
# V(D, G) = E_{x \sim p}\big[\log D(x)\big] + E_{z}\big[\log\big(1 - D(G(z))\big)\big]. \tag{1.1}
# $$
#
# $p$ is the density of the data, and $E_{x \sim p}[\ldots]$ the average over many draws of $x$ from it. $V$
# is the score of the judge: high if it says "real" to data and "fake" to fakes.
#
# What does this game have to do with densities? Suppose that the forger stands still, and call the density
# of its fakes $p_\theta$ ($\theta$: all its weights). Which judge is the best? Both averages are integrals,
#
# $$
# V = \int \big[\, p(x) \log D(x) + p_\theta(x) \log(1 - D(x)) \,\big]\, dx,
# $$
#
# and the best $D$ may be chosen at each $x$ on its own. The slope of the bracket in $D$ is
# $p / D - p_\theta / (1 - D)$ (it falls as $D$ grows); it is 0, and the bracket largest, at
#
# $$ D^*(x) = \frac{p(x)}{p(x) + p_\theta(x)} \qquad \text{wherever } p + p_\theta > 0 . \tag{1.2} $$
#
# Reasonable: where fakes are as frequent as real points the best answer is $\frac12$. Is it true? An answer
# that does not know the formula: a judge without any network, one free number for each place on a line,
# pushed uphill by gradient steps. (The number, the *logit*, may be anything; $D$ is its sigmoid, between 0
# and 1; $\log D$ is `logsigmoid(logit)` and, as $1 - D$ is the sigmoid of $-$logit, $\log(1 - D)$ is
# `logsigmoid(-logit)`.)

# %%
line = torch.linspace(-6, 6, 601, dtype=torch.float64)
dx = line[1] - line[0]


def bell(mean, std):
    return torch.distributions.Normal(mean, std).log_prob(line).exp()


# %%
real, fake = 0.4 * bell(-1.2, 0.3) + 0.6 * bell(0.8, 0.3), bell(0.5, 1.0)
logit = torch.zeros(601, dtype=torch.float64, requires_grad=True)  # D = sigmoid(logit)
table = torch.optim.Adam([logit], lr=0.05, eps=1e-30)  # so small: else places with few points hardly move

# %%
for _ in range(2000):
    value = ((real * F.logsigmoid(logit) + fake * F.logsigmoid(-logit)) * dx).sum()
    descend(table, -value)

# %%
best = real / (real + fake)
found = logit.detach().sigmoid()
assert (found - best)[real + fake > 1e-3].abs().max() < 1e-3

# %%
alt = "Density of data with two humps, of fakes with one; the judge is high where data win, the dashes lie on it."
lines = {"data": real, "fakes": fake, "judge, by gradient steps": found}
picture = plot.curves(line, lines, alt, "x", "density; D(x)")
picture.axes[0].lines[2].set(linewidth=4, alpha=0.4)
picture.axes[0].plot(line, best, "k--", linewidth=1, label=r"$p / (p + p_\theta)$")
picture.axes[0].set(xlim=(-4, 4))
picture.axes[0].legend()
picture

# %% [markdown]
# The dashes of (1.2) lie on the learned judge. Put $D^*$ back into $V$, and what the forger has to make small
# is a measure of how far two densities differ. To name it we need one notion for the whole course. The
# *Kullback-Leibler divergence*
#
# $$ \mathrm{KL}(p \,\|\, q) = E_{x \sim p}\Big[ \log \frac{p(x)}{q(x)} \Big] $$
#
# is 0 if $p$ and $q$ are the same and positive otherwise: by how much, on average, $q$ underrates the points
# that $p$ produces, in units called *nats* because the logarithm is the natural one. (Why never negative?
# $\log u \le u - 1$, so $-\mathrm{KL} = E_p[\log (q/p)] \le E_p[q/p - 1] \le 0$, the last because $q$
# integrates to at most 1 over the places where $p > 0$; both are equalities only for $q = p$.) With the average
# $m = (p + p_\theta) / 2$ the definition of $D^*$ reads $D^* = p / 2m$ (and $1 - D^* = p_\theta / 2m$); each
# logarithm gives a KL and $-\log 2$:
#
# $$
# V(D^*, G) = \mathrm{KL}(p \,\|\, m) + \mathrm{KL}(p_\theta \,\|\, m) - 2 \log 2
# = 2\, \mathrm{JS}(p, p_\theta) - \log 4 ,
# $$
#
# where JS, half the sum of the two, is the *Jensen-Shannon divergence*. The best forger makes it 0:
# $p_\theta = p$.

# %%
def js(p, q, cell=dx):
    mean = (p + q) / 2
    return (torch.xlogy(p, p / mean) + torch.xlogy(q, q / mean)).nan_to_num().sum() * cell / 2


assert torch.isclose(value.detach(), 2 * js(real, fake) - math.log(4), atol=1e-3)
print(f"value of the trained judge {value:.3f}, from the divergence {2 * js(real, fake) - math.log(4):.3f}")

# %% [markdown]
# So far the theory: a game with a single best end. Now the first difficulty.
#
# *Predict: fakes are a narrow bell, real points another, a distance apart. Does the JS divergence tell the
# forger how far it has to go?*

# %%
shifts = torch.linspace(0, 3.2, 65, dtype=torch.float64)
told = torch.stack([js(bell(-1.6, 0.2), bell(-1.6 + float(shift), 0.2)) for shift in shifts])
alt = "The divergence climbs almost to log 2 (dotted) within a shift of 1 and stays; the distance is straight."
lines = {"JS divergence": told, "distance / 4": shifts / 4}
picture = plot.curves(shifts, lines, alt, "shift of the fakes", "divergence; distance / 4")
picture.axes[0].axhline(math.log(2), color="0.5", linestyle=":")
picture

# %%
assert torch.isclose(told[-1], torch.tensor(math.log(2)).double(), atol=1e-6) and told[32] - told[20] < 0.02
print(f"divergence at shift 1.6: {told[32]:.3f}, at 3.2: {told[-1]:.3f}, log 2 = {math.log(2):.3f}")

# %% [markdown]
# Beyond a shift of about 1 it hardly changes: once the judge is certain, "far" and "very far" look alike, and
# the forger is left without a direction. With (1.1) it is worse still. Let $a$ be the judge's logit for a
# fake, very negative when it is certain. The slope of $\log(1 - D)$ in $a$ is $-D$, almost 0; that is why in
# practice the forger maximises $\log D$ instead (the authors' own advice), whose slope is $1 - D$, almost 1.
#
# Here is the whole model. Judge and forger take turns; `detach` keeps the judge's lesson from reaching the
# forger. The judge returns a logit again: `logsigmoid` cannot overflow.

# %%
class GAN(nn.Module):
    def __init__(self, width=90):
        super().__init__()
        self.forger, self.judge = mlp(2, width, 2), mlp(2, width, 1)
        self.optimizers = [adam(part, 1e-3, betas=(0.0, 0.9)) for part in (self.judge, self.forger)]

    def sample(self, z, generator=None):
        return self.forger(z)

    def learn(self, x, generator):
        fakes = self.forger(torch.randn(x.shape, generator=generator))
        judged = -F.logsigmoid(self.judge(x)) - F.logsigmoid(-self.judge(fakes.detach()))
        loss = descend(self.optimizers[0], judged.mean())
        descend(self.optimizers[1], -F.logsigmoid(self.judge(fakes)).mean())
        return loss


# %% [markdown]
# ## 3. VAE: code and decode
#
# The next idea (Kingma & Welling 2014) asks for the *likelihood*: choose weights $\theta$ that make the
# examples probable, i.e. make the average of $\log p_\theta(x)$ over the data as large as possible. Suppose
# that each $x$ came from a hidden cause $z$, its *latent*: first $z \sim \mathcal N(0, I)$, then $x$ from a
# Gaussian around a network's output,
#
# $$ p_\theta(x \mid z) = \mathcal N\big(x;\ \mathrm{dec}(z),\ s^2 I\big), \qquad
# p_\theta(x) = \int p(z)\, p_\theta(x \mid z)\, dz . $$
#
# ($\mathcal N(x; m, s^2 I)$ is the density at $x$ of a Gaussian around $m$ with variance $s^2$ in each
# coordinate, and $p(z)$ that of $\mathcal N(0, I)$ at $z$.) The integral runs over all causes, and most
# causes have nothing to do with a given $x$. So a second network, the encoder, learns to say which have: for
# each $x$ a Gaussian $q(z \mid x)$. Multiply and divide by it, and use that the logarithm of an average is at
# least the average of the logarithm (*Jensen's inequality*: the logarithm bends down):
#
# $$
# \log p_\theta(x) = \log E_{z \sim q}\Big[ \frac{p(z)\, p_\theta(x \mid z)}{q(z \mid x)} \Big]
# \;\ge\; \underbrace{E_{z \sim q}\big[\log p_\theta(x \mid z)\big]}_{\text{does it come back?}} -
# \underbrace{\mathrm{KL}\big(q(z \mid x) \,\|\, p(z)\big)}_{\text{is the code like noise?}} . \tag{1.3}
# $$
#
# ($z \sim q$ is short for $z \sim q(z \mid x)$. The two terms: the logarithm of the ratio is
# $\log p_\theta(x \mid z) - \log\frac{q(z \mid x)}{p(z)}$, and the average of the second part over $q$ is a
# KL.) The right side is the *evidence lower bound*, ELBO, and is what a VAE maximises.
#
# What is lost? Call $p_\theta(z \mid x)$ the density of the causes that a given $x$ can have. As $p(z)\,p_\theta(x
# \mid z) = p_\theta(x)\,p_\theta(z \mid x)$, the logarithm in (1.3) is $\log p_\theta(x) - \log\frac{q(z \mid
# x)}{p_\theta(z \mid x)}$; its average over $q$ lacks exactly $\mathrm{KL}(q(z \mid x)\,\|\,p_\theta(z \mid x))$, the
# encoder's error. The log densities and the KL in (1.3) are short formulas for Gaussians:

# %%
def log_normal(x, mean, std):
    return (-((x - mean) ** 2) / (2 * std**2) - torch.log(std) - math.log(2 * math.pi) / 2).sum(-1)


def kl_from_prior(mean, std):
    return ((mean**2 + std**2 - 1) / 2 - torch.log(std)).sum(-1)


# %% [markdown]
# The package's `Gaussian` agrees (chapter 04 derives its `kl`):

# %%
from minidiff import Gaussian

mean, std = torch.randn(2, 5, 2, generator=seeded(2)).unbind(0)
code, prior = Gaussian(mean, std.exp()), Gaussian(torch.zeros(5, 2), torch.ones(5, 2))
assert torch.allclose(kl_from_prior(mean, std.exp()), code.kl(prior), atol=1e-5)
assert torch.allclose(log_normal(data[:5], mean, std.exp()), code.log_prob(data[:5]), atol=1e-4)


# %% [markdown]
# To follow a gradient *through* a random $z$, write it as $z = \mu + \text{std} \cdot \epsilon$ with standard
# normal $\epsilon$: then $\mu$ and the standard deviation are ordinary inputs. This trick returns in every
# diffusion model.

# %%
def elbo(vae, x, generator):
    mean, std = vae.encode(x)
    z = mean + std * torch.randn(mean.shape, generator=generator)
    return log_normal(x, vae.decoder(z), vae.log_std.exp()) - kl_from_prior(mean, std)


# %%
class VAE(nn.Module):
    def __init__(self, width=90, latent=2):
        super().__init__()
        self.encoder, self.decoder = mlp(2, width, 2 * latent), mlp(latent, width, 2)
        self.log_std = nn.Parameter(torch.tensor(-1.0))  # the decoder's s, learned as well
        self.optimizers = [adam(self, 4e-3)]

    def encode(self, x):
        mean, log_std = self.encoder(x).chunk(2, 1)
        return mean, log_std.exp()

    def sample(self, z, generator=None):
        return self.decoder(z) + self.log_std.exp() * torch.randn((len(z), 2), generator=generator)

    def learn(self, x, generator):
        return descend(self.optimizers[0], -elbo(self, x, generator).mean())


# %% [markdown]
# (1.3) and its gap hold for any weights, trained or not. With two latents the integrals can be done on a
# grid, with no sampling anywhere:

# %%
torch.manual_seed(0)
lively, x = VAE(), data[:20]
for weight in lively.parameters():
    weight.data *= 1.7  # else its codes would hardly differ from the noise
axis = torch.linspace(-9, 9, 181)
causes = torch.cartesian_prod(axis, axis)  # (32761, 2)

# %%
with torch.no_grad():
    mean, std = lively.encode(x)
    q = log_normal(causes, mean[:, None], std[:, None])  # (20, 32761)
    back = log_normal(x[:, None], lively.decoder(causes), lively.log_std.exp())
    joint = log_normal(causes, torch.zeros(2), torch.ones(2)) + back

# %%
cell = math.log(0.1**2)  # log of the area of a grid cell
evidence = (joint + cell).logsumexp(1)  # log p(x), the integral over all causes
bound = ((q + cell).exp() * (joint - q)).sum(1)  # (1.3)
gap = ((q + cell).exp() * (q - (joint - evidence[:, None]))).sum(1)  # KL(q(z|x) || p(z|x))

# %%
assert (bound < evidence).all() and torch.allclose(bound + gap, evidence, atol=1e-3)
print(f"bound {bound.mean():.2f} + gap {gap.mean():.2f} = log p(x) {evidence.mean():.2f}")

# %% [markdown]
# And `elbo`, which draws one $z$ for each point, is right on average:

# %%
with torch.no_grad():
    drawn = torch.cat([elbo(lively, x.repeat(2500, 1), seeded(k)).reshape(2500, 20) for k in range(4)])
off = (drawn.mean(0) - bound) / (drawn.std(0) / len(drawn) ** 0.5)  # (20,) in standard errors
assert off.abs().max() < 4.5 and off.mean().abs() < 1

# %% [markdown]
# ## 4. Flow: a stretch that can be undone
#
# A flow gets the likelihood exactly, by allowing only maps that can be inverted. Let $f$ take data to noise,
# $z = f(x)$. Sampling is $x = f^{-1}(z)$. Probability is neither made nor lost, only moved, so where $f$
# spreads a small area over a larger one the density falls by that factor:
#
# $$ \log p_\theta(x) = \log \mathcal N\big(f(x);\ 0, I\big) + \log \left| \det \frac{\partial f}{\partial x} \right| .
# \tag{1.4} $$
#
# $\partial f / \partial x$ is the *Jacobian*, the matrix of all slopes $\partial f_i / \partial x_j$; the
# absolute value of its determinant is the factor by which $f$ changes areas. For most networks neither the
# inverse nor the determinant is at hand. RealNVP (Dinh et al. 2017) builds $f$ out of steps for which both
# are easy. Split $x$ into two halves $a$, $b$ (in the plane each half is one number); leave $a$ alone, and
# stretch and shift $b$ by amounts that depend on $a$ alone:
#
# $$ (a, b) \;\mapsto\; \big(a,\ b\, e^{s(a)} + m(a)\big), \qquad \text{log-determinant } s(a). $$
#
# (A small square in the plane becomes $e^{s(a)}$ times as high, is sheared, and stays as wide.) To undo it
# compute $s(a)$, $m(a)$ from the same $a$, subtract and divide. The networks behind $s$ and $m$ can be
# anything. The next layer swaps the roles, and the log-determinants of all layers add up: the determinant of a
# product is the product of the determinants.

# %%
class Coupling(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.net = mlp(1, width, 2, hidden=2)

    def told_by(self, a):
        stretch, shift = self.net(a).chunk(2, 1)
        return 2 * torch.tanh(stretch / 2), shift  # by a factor of at most e^2, for calm

    def forward(self, a, b):
        stretch, shift = self.told_by(a)
        return b * stretch.exp() + shift, a, stretch[:, 0]  # swapped, and the log-determinant

    def back(self, b, a):
        stretch, shift = self.told_by(a)
        return a, (b - shift) / stretch.exp()


# %%
class Chain(nn.Module):
    def __init__(self, width=62, layers=8):
        super().__init__()
        self.layers = nn.ModuleList(Coupling(width) for _ in range(layers))

    def encode(self, x):
        (a, b), log_det = x.chunk(2, 1), 0
        for layer in self.layers:
            a, b, more = layer(a, b)
            log_det = log_det + more
        return torch.cat([a, b], 1), log_det  # (B, 2), (B,)

    def sample(self, z, generator=None):
        a, b = z.chunk(2, 1)
        for layer in reversed(self.layers):
            a, b = layer.back(a, b)
        return torch.cat([a, b], 1)


# %%
class RealNVP(Chain):
    def __init__(self, width=62, layers=8):
        super().__init__(width, layers)
        self.optimizers = [adam(self, 4e-3)]

    def log_density(self, x):
        z, log_det = self.encode(x)
        return log_normal(z, torch.zeros(2), torch.ones(2)) + log_det

    def learn(self, x, generator):
        return descend(self.optimizers[0], -self.log_density(x).mean())


# %% [markdown]
# Three checks, on random weights: there and back changes nothing; the log-determinant is that of the Jacobian which
# automatic differentiation finds; and the density integrates to one, summed over a grid.

# %%
torch.manual_seed(1)
flow = RealNVP()
for weight in flow.parameters():
    weight.data *= 1.5  # lively again, not almost the identity
z, log_det = flow.encode(x)
assert torch.allclose(flow.sample(z), x, atol=1e-4)

# %%
jacobian = torch.stack([torch.autograd.functional.jacobian(lambda p: flow.encode(p[None])[0][0], p) for p in x])
assert torch.allclose(torch.linalg.slogdet(jacobian).logabsdet, log_det, atol=1e-4)

# %%
side = torch.linspace(-6, 6, 241)
board = torch.cartesian_prod(side, side)  # (58081, 2)


def mass(log_density):
    with torch.no_grad():
        return float(log_density(board).exp().sum() * (side[1] - side[0]) ** 2)


assert abs(mass(flow.log_density) - 1) < 0.01
print(f"mass of the density: {mass(flow.log_density):.2f}")

# %% [markdown]
# ## 5. Diffusion: spoil it, and learn to mend
#
# Here is the trick of diffusion: *make the pairs ourselves*. Going from data to noise needs no learning, one
# adds noise. Mix a point $x_0$ and a noise $\epsilon \sim \mathcal N(0, I)$, a little more noise with every
# moment $t$ from 0 to 1:
#
# $$
# x_t = \alpha\, x_0 + \sigma\, \epsilon, \qquad \alpha = \cos \varphi, \quad \sigma = \sin \varphi, \quad
# \varphi = \tfrac{\pi}{2} t ,
# $$
#
# a quarter of a circle, from the data ($t = 0$: $\alpha = 1$, $\sigma = 0$) to pure noise ($t = 1$). On its
# way the point moves, per unit of angle, with the velocity
#
# $$ v = \frac{d x_t}{d \varphi} = \cos \varphi\; \epsilon - \sin \varphi\; x_0 . $$

# %%
def spoil(x0, eps, t):
    angle = math.pi / 2 * t[:, None]
    return angle.cos() * x0 + angle.sin() * eps, angle.cos() * eps - angle.sin() * x0  # x_t and v


# %%
spoiled = {f"t = {t:.2f}": spoil(data, noise, torch.full((2000,), t))[0] for t in (0, 0.15, 0.3, 0.6, 1)}
plot.scatter(spoiled, "Eight clusters swell, move to the middle and become one round cloud.")

# %% [markdown]
# Whoever knows $x_t$ and $v$ knows everything: the two equations turn $(x_0, \epsilon)$ by the angle $\varphi$
# into $(x_t, v)$, and turning back by an angle $\delta$ gives
#
# $$ x_{t'} = \cos \delta\; x_t - \sin \delta\; v, \qquad \delta = \tfrac{\pi}{2} (t - t') . $$
#
# When sampling, nobody knows $v$. So a network *guesses* it from $x_t$ and $t$, trained with the plainest
# loss there is:
#
# $$ L(\theta) = E_{x_0, \epsilon, t}\Big[ \big| v_\theta(x_t, t) - v \big|^2 \Big] . \tag{1.5} $$
#
# (The code takes the mean over the two coordinates, half of this.) One network, one squared error, right
# answers made for free. It cannot guess perfectly, since many $x_0$ could have led to the same $x_t$; it will
# learn the *average* $v$ (the number with the least mean squared error is the mean). So one must not follow it
# for long: take a short step, look again, guess again. That is why sampling takes many steps.

# %%
@torch.no_grad()
def walk_back(guess, x, n):
    turn = math.pi / 2 / n
    for k in range(n, 0, -1):  # from time k / n to (k - 1) / n
        x = math.cos(turn) * x - math.sin(turn) * guess(x, torch.full((len(x),), k / n))
    return x


# %%
class Diffusion(nn.Module):
    def __init__(self, width=128):
        super().__init__()
        self.net = mlp(4, width, 2)
        self.optimizers = [adam(self, 8e-3)]

    def forward(self, x, t, cond=None):  # the package may pass a label; ours has none
        angle = math.pi / 2 * t[:, None]
        return self.net(torch.cat([x, angle.cos(), angle.sin()], 1))

    def sample(self, z, generator=None, n=50):
        return walk_back(self, z, n)

    def learn(self, x, generator):
        eps, t = torch.randn(x.shape, generator=generator), torch.rand(len(x), generator=generator)
        x_t, v = spoil(x, eps, t)
        return descend(self.optimizers[0], (self(x_t, t) - v).square().mean())


# %% [markdown]
# That is all of it, and it is the real thing: chapter 02 derives the noising, 03 the way back, 04 and 05 the loss.
# The package's sampler of this kind is `ddim`, and `Cosine` is its name for our quarter circle. `ddim` wants to be
# told $x_0$, so `Denoiser` turns the guess of $v$ into one of $x_0$ (`"v"` says what the network guesses).
# `times(50)` are the 51 moments of 50 steps from 1 to 0; `ddim` yields the state at each, and `final` takes the last.
# They agree, here with a fresh network:

# %%
from minidiff import Cosine, Denoiser, ddim, final, times

torch.manual_seed(2)
fresh, schedule = Diffusion(), Cosine()
package = final(ddim(Denoiser(fresh, schedule, "v"), noise, times(50), schedule))
assert torch.allclose(walk_back(fresh, noise, 50), package, atol=1e-4)

# %% [markdown]
# Does the method work at all, if the guess is good? For our mixture the best guess that exists is known:
# `truth.denoise` is the average $x_0$ given $x_t$ (chapter 03 derives it). With it in the network's place:

# %%
def best_denoiser(x, t):
    return truth.denoise(x, t, schedule)


ideal = final(ddim(best_denoiser, noise, times(200), schedule))
assert near(ideal)[0].float().mean() > 0.96
print(f"near a cluster: {near(ideal)[0].float().mean():.0%}")

# %% [markdown]
# ## 6. A ruler
#
# Which of two clouds is closer to the data? For numbers on a line there is a natural distance: sort both
# samples, and take the mean distance between points of equal rank. That is the least distance, on average,
# that the mass must be carried, and is called the *Wasserstein distance* (of order 1). In the plane there is no
# order; but one can look at both clouds from one side, as at shadows on a line, and average over many sides. A
# side is a unit vector $u$; the numbers $a \cdot u$ are the shadows of the cloud $a$, and $a_{(i)}$ is the
# $i$-th smallest. Then
#
# $$ \mathrm{SW}(a, b) = \frac{1}{K} \sum_{u} \frac{1}{N} \sum_{i=1}^{N} \big| a_{(i)} - b_{(i)} \big| \tag{1.6} $$
#
# over $K$ evenly spaced sides and $N$ ranks is the *sliced Wasserstein distance*, in the units of the data.

# %%
def sliced_distance(a, b, sides=64):
    total = 0.0
    for k in range(sides):
        u = torch.tensor([math.cos(math.pi * k / sides), math.sin(math.pi * k / sides)])
        total += ((a @ u).sort().values - (b @ u).sort().values).abs().mean().item()
    return total / sides


# %%
from minidiff.app.metrics import sliced_wasserstein

assert abs(sliced_distance(noise, data) - sliced_wasserstein(noise, data)) < 1e-5
plot.show_source(sliced_wasserstein)

# %% [markdown]
# *Predict: two fresh draws of the data, from the very same truth. How far are they apart?*

# %%
def floor(n, draws=6):
    """Distances of fresh draws of n points to one other draw of n points."""
    other = truth.sample(n, seeded(100))
    return [sliced_wasserstein(truth.sample(n, seeded(101 + k)), other) for k in range(draws)]


# %%
floors = {n: floor(n) for n in (100, 1000, 2000, 10_000)}
for n, found in floors.items():
    print(f"{n:6} points: {min(found):.3f} to {max(found):.3f} between two draws of the truth")
assert min(floors[100]) > 2 * max(floors[10_000])

# %% [markdown]
# Not 0: finite samples differ, and small ones differ more. **A distance means nothing without this floor.** And
# the ruler has a blind spot: points between the clusters cost little, as they have not far to go. Put 5 % of
# all points midway between two clusters, and the distance stays within chance:

# %%
z, reference = torch.randn(10_000, 2, generator=seeded(9)), truth.sample(10_000, seeded(100))
angle = math.pi / 8 + math.pi / 4 * torch.arange(500)
middle = 1.3 * torch.stack([angle.cos(), angle.sin()], 1)
spoilt = torch.cat([truth.sample(9500, seeded(104)), middle])
assert sliced_wasserstein(spoilt, reference) < 1.3 * max(floors[10_000])
print(f"with 5 % midway: {sliced_wasserstein(spoilt, reference):.3f}")

# %% [markdown]
# So here are three numbers more. *Strays* are points near no cluster. The *poorest cluster* is the smallest
# share that a cluster receives, relative to its due: 1 is fair, 0 is a cluster that was forgotten.

# %%
def coverage(x):
    """Share of strays, and what the poorest cluster gets of its due."""
    close, cluster = near(x)
    share = torch.bincount(cluster[close], minlength=8) / len(x)
    return 1 - close.float().mean().item(), (share / truth.weights).min().item()


# %%
strays, poorest = coverage(truth.sample(10_000, seeded(3)))
assert abs(strays - math.exp(-4.5)) < 0.005 and poorest > 0.85  # a Gaussian leaves exp(-r^2 / 2) beyond r = 3
print(f"the truth itself: {strays:.1%} strays, poorest cluster {poorest:.2f}")

# %% [markdown]
# Neither sees *how* a cluster is filled. So the third: lay a grid of 50 by 50 cells over the plane, count what
# falls into each, and take the JS divergence of section 2 between the shares.

# %%
def js_in_cells(x):
    plane = [-2.5, 2.5, -2.5, 2.5]
    shares = [torch.histogramdd(cloud, [50, 50], range=plane).hist / len(cloud) for cloud in (x, reference)]
    return js(*shares, cell=1).item()


# %%
by_chance = js_in_cells(truth.sample(10_000, seeded(101)))
assert js_in_cells(spoilt) > 1.5 * by_chance
print(f"two draws of the truth {by_chance:.3f}, with 5 % midway {js_in_cells(spoilt):.3f}")

# %% [markdown]
# ## 7. The race
#
# Equal weights for all, and every network that is trained counts: two for GAN and VAE, eight small ones for the
# flow, one for diffusion.

# %%
def line_up(seed):
    torch.manual_seed(seed)
    return {"GAN": GAN(), "VAE": VAE(), "flow": RealNVP(), "diffusion": Diffusion()}


# %%
models = line_up(3)
weights = {name: sum(w.numel() for w in model.parameters()) for name, model in models.items()}
assert max(weights.values()) < 1.03 * min(weights.values())
print(weights)

# %% [markdown]
# All models get the same 2,400 batches of 256 points. Learning rates differ: a handful was tried for each
# model and the best taken (most were spent on the GAN, which is the fussiest; it likes its Adam without
# momentum, so its first beta is 0). All rates fall to zero along a cosine.

# %%
def race(models, n, seed):
    """Trains all side by side; yields the number of batches so far and the losses of the last."""
    optimizers = [optimizer for model in models.values() for optimizer in model.optimizers]
    coolers = [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n) for optimizer in optimizers]
    batches, randomness = seeded(seed), seeded(seed + 1)
    for k in range(1, n + 1):
        x = toy.mixture(256, batches)
        yield k, [model.learn(x, randomness) for model in models.values()]
        for cooler in coolers:
            cooler.step()


# %% [markdown]
# After every 120 batches we look at what becomes of the *same* 2,000 noise points, and note the mean losses.

# %%
@torch.no_grad()
def draw(model, z):
    return model.sample(z, generator=seeded(4))


# %% [markdown]
# *Predict: who will be the first to show eight clusters? Who will be best in the end?*

# %%
import time

began, clouds, losses, recent = time.perf_counter(), [], [], []
for k, loss in race(models, 2400, seed=5):
    recent.append(loss)
    if k % 120 == 0:
        clouds.append({name: draw(model, noise) for name, model in models.items()})
        losses.append(torch.tensor(recent[-120:]).mean(0))  # (4,)

# %% tags=["nbval-ignore-output"]
print(f"four models, and 20 looks at each, in {time.perf_counter() - began:.0f} seconds")

# %%
from minidiff.course.widgets import film


def frame(k):
    alt = "GAN, VAE, flow and diffusion during training, each from a smear to a ring; on the right the data."
    panels = {name: cloud[:1000] for name, cloud in clouds[k].items()} | {"data": data[:1000]}
    picture = plot.scatter(panels, alt, size=2)
    for ax in picture.axes:
        ax.set(xlim=(-2.4, 2.4), ylim=(-2.4, 2.4), xticks=[], yticks=[])
    picture.axes[0].set_ylabel(f"{120 * (k + 1)} batches")
    return picture


film([frame(k) for k in range(20)], ms=300)

# %% [markdown]
# By eye only diffusion ends with eight clusters. The GAN throws its points about, finds clusters and leaves
# them again. The VAE unfolds slowly and stays soft. The flow bends the sheet into a ring that stays open at one
# place, for a map that can be undone cannot make a hole. Diffusion has the outline early, and spends the rest
# of its time on sharpening.

# %%
distances = {name: torch.tensor([sliced_wasserstein(cloud[name], data) for cloud in clouds]) for name in models}
level = sum(floors[2000]) / 6
lines = distances | {"two draws of the truth": torch.full((20,), level)}

# %%
alt = "Distance to the data over training: four uneven lines that fall, diffusion's lowest at the end, \
all above the flat line of two draws of the truth."
plot.curves(120 * torch.arange(1, 21), lines, alt, "batches", "sliced Wasserstein distance", yscale="log")

# %% [markdown]
# Would you have known from the losses? Each point below is one look from batch 360 on, pale early and dark
# late: its loss, and its distance.

# %%
history = torch.stack(losses)  # (20, 4): judge, VAE, flow, diffusion
alt = "Distance against loss: both fall together for the VAE, on the whole for flow and diffusion; \
the GAN's losses stand on one line, log 4, at all distances."
picture, axes = plot.figure(alt, 4, width=10, height=2.8)
for ax, (name, distance), loss in zip(axes, distances.items(), history.T, strict=True):
    ax.scatter(loss[2:], distance[2:], c=range(18), cmap="viridis_r", s=14)
    ax.set(title=name, xlabel="loss", yscale="log")
axes[0].set_ylabel("distance")
axes[0].axvline(math.log(4), color="0.5")
axes[0].set_xlim(1.2, 1.5)
picture

# %% [markdown]
# For the VAE a lower loss plainly means closer, for flow and diffusion on the whole. The GAN's judge (its loss is
# $-V$) stays within one per cent of $\log 4$, the grey line, while the distance halves. $\log 4$ is the value of a
# *finished* game, $D = \frac12$ everywhere; and a judge who is the best at each moment would have $\log 4 -
# 2\,\mathrm{JS}$, which *rises* as the fakes get better. The loss of our judge falls a little. It measures the forger
# against the judge of the moment, and both move.
#
# Diffusion's loss is an honest number, but hardly moves, as most of $v$ cannot be guessed by anybody. How much?
# The best guess knows. (From its $x_0$ we get its $v$: solve $x_t = \alpha x_0 + \sigma \epsilon$ for
# $\epsilon$, and put it into $v = \alpha \epsilon - \sigma x_0$, which gives $v = (\alpha x_t - x_0) / \sigma$.
# At $t = 0$ that would divide by 0, so we start a little later.)

# %%
def best_v(x_t, t):
    alpha, sigma = (c.reshape(-1, 1) for c in schedule(t))
    return (alpha * x_t - best_denoiser(x_t, t)) / sigma


# %%
@torch.no_grad()
def loss_and_least(guess, n=50_000):
    """Half of (1.5), the mean over coordinates, for a guess of v and for the best one, on the same points."""
    eps, t = torch.randn(n, 2, generator=seeded(6)), 0.01 + 0.99 * torch.rand(n, generator=seeded(7))
    x_t, v = spoil(truth.sample(n, seeded(8)), eps, t)
    return (guess(x_t, t) - v).square().mean().item(), (best_v(x_t, t) - v).square().mean().item()


# %% tags=["nbval-ignore-output"]
loss, least = loss_and_least(models["diffusion"])
print(f"loss {loss:.3f}, the least possible {least:.3f}")

# %%
assert (history[2:, 0] / math.log(4) - 1).abs().max() < 0.03  # the judge says "finished" all the time
assert distances["GAN"][3:10].mean() > 1.15 * distances["GAN"][-4:].mean()  # when it is not
assert history[6, 1] - history[-1, 1] > 0.15 and history[6, 2] - history[-1, 2] > 0.03
assert 0 < loss - least < 0.03 and least > 0.5
ranks = torch.stack([history[2:, 1], distances["VAE"][2:]]).argsort(1).argsort(1)  # loss, distance of the VAE
assert ranks.float().corrcoef()[0, 1] > 0.8

# %% [markdown]
# ### Luck
#
# The last wish was calm. So train two of the four again, for 800 batches, from two other seeds.

# %%
ended = {"GAN": [], "diffusion": []}
for seed in (31, 33):
    torch.manual_seed(seed)
    rivals = {"GAN": GAN(), "diffusion": Diffusion()}
    for _ in race(rivals, 800, seed + 1):
        pass
    for name, model in rivals.items():
        ended[name].append(sliced_wasserstein(draw(model, z), reference))

# %% tags=["nbval-ignore-output"]
print({name: f"{min(ends):.3f} to {max(ends):.3f}" for name, ends in ended.items()})

# %%
assert max(ended["GAN"]) > 1.15 * max(ended["diffusion"])

# %% [markdown]
# The GAN ends where chance takes it, diffusion in nearly the same place each time.

# %% [markdown]
# ## 8. The finish, measured
#
# Ten thousand new points from each, and as many fresh ones of the truth.

# %%
samples = {name: draw(model, z) for name, model in models.items()}
samples["truth"] = truth.sample(10_000, seeded(101))

# %%
alt = "Five maps of density on a logarithmic scale: clusters on a circle, with something between them for the models."
picture, axes = plot.figure(alt, 5, width=10, height=2.4)
for ax, (name, x) in zip(axes, samples.items(), strict=True):
    ax.hist2d(*x.numpy().T, bins=70, range=[[-2.2, 2.2]] * 2, norm="log", cmap="viridis_r")
    ax.set(title=name, xticks=[], yticks=[], aspect="equal")
    ax.grid(False)
picture

# %% [markdown]
# The colour is logarithmic, so that one sees the little that lies where nothing should be.
#
# **Likelihood.** How many nats does a model lose against the truth,
# $E_{x \sim p}[\log p(x) - \log p_\theta(x)] = \mathrm{KL}(p \,\|\, p_\theta)$, on fresh points? The flow knows
# exactly (1.4). The VAE has its bound (1.3), and a sharper estimate: take the average over 100 codes *before*
# the logarithm, as in the first expression of (1.3).

# %%
@torch.no_grad()
def by_importance(vae, x, codes=100):
    mean, std = vae.encode(x)
    z = mean + std * torch.randn((codes, *mean.shape), generator=seeded(10))  # (100, N, 2)
    ratio = log_normal(z, torch.zeros_like(z), torch.ones_like(z)) - log_normal(z, mean, std)
    return (ratio + log_normal(x, vae.decoder(z), vae.log_std.exp())).logsumexp(0) - math.log(codes)


# %% [markdown]
# The diffusion model has a bound too, for a walk back whose 50 steps are random: the package's `vlb`, which
# chapter 04 derives. The GAN has nothing to say. (An exact number, an estimate and bounds: they are no ranking.)

# %%
from minidiff import vlb

x = truth.sample(4000, seeded(11))
denoiser = Denoiser(models["diffusion"], schedule, "v")
said = {("VAE", "estimate"): by_importance(models["VAE"], x)}
with torch.no_grad():
    said["VAE", "bound"] = elbo(models["VAE"], x, seeded(12))
    said["flow", "exact"] = models["flow"].log_density(x)
    said["diffusion", "bound"] = -vlb(denoiser, x, times(50), schedule, seeded(13))

# %%
exact = truth.log_prob(x, 0.0, schedule)  # at t = 0: the data themselves
lost = {key: (exact - value).mean().item() for key, value in said.items()}
assert abs(mass(models["flow"].log_density) - 1) < 0.02  # it still integrates to one
assert all(0.05 < nats < 0.8 for nats in lost.values()) and lost["VAE", "estimate"] < lost["VAE", "bound"]

# %% [markdown]
# **Shape.** In the maps above the GAN draws ribbons: its points lie on curves where the data fill discs, and
# the distance hardly minds. The JS divergence in cells does.

# %%
score = {name: sliced_wasserstein(samples[name], reference) for name in models}
score["truth"] = sum(floors[10_000]) / 6
shape = {name: js_in_cells(cloud) for name, cloud in samples.items()}
assert shape["GAN"] > 1.2 * max(shape["VAE"], shape["flow"]) and min(shape.values()) == shape["truth"]

# %% [markdown]
# **Speed.** GAN and VAE call one network of half the weights, the flow eight small ones, and diffusion its only
# network 50 times.

# %%
def seconds(name):
    began = time.perf_counter()
    draw(models[name], z)
    return time.perf_counter() - began


spent = {name: min(seconds(name) for _ in range(2)) for name in models}
assert spent["diffusion"] > 20 * spent["GAN"]

# %% tags=["nbval-ignore-output"]
print(f"{'':10} distance  strays  poorest cluster  JS in cells  seconds  nats lost")
for name, cloud in samples.items():
    strays, poorest = coverage(cloud)
    nats = ", ".join(f"{value:.2f} ({kind})" for (who, kind), value in lost.items() if who == name)
    clock = f"{spent[name]:.3f}" if name in spent else ""
    print(f"{name:10} {score[name]:8.3f} {strays:7.1%} {poorest:16.2f} {shape[name]:12.3f} {clock:>8}  {nats}")

# %%
strays, poorest = ({name: coverage(cloud)[k] for name, cloud in samples.items()} for k in (0, 1))
assert score["diffusion"] < min(score["VAE"], score["flow"]) and score["diffusion"] < 0.035
assert min(score["GAN"], score["VAE"], score["flow"]) > 1.2 * max(floors[10_000])
assert poorest["diffusion"] > 0.5 and poorest["diffusion"] > 1.1 * poorest["VAE"]
assert shape["diffusion"] < 0.85 * shape["VAE"]
assert all(strays[name] > 4 * 0.011 for name in models)  # the truth has 0.011

# %% [markdown]
# Read it fairly. In **distance** diffusion comes closest, about twice the floor (the last line), where the
# others have more than three times. In **JS** it is nearest too, and its poorest cluster is the richest (on
# another seed the flow drew level in both). The VAE reaches all eight, but the noise of its decoder, about 0.14,
# is wider than the small clusters and spills.
#
# In **speed** diffusion loses by far: it buys quality with 50 calls of a network that is twice as large as the GAN's
# generator. The GAN and the VAE are quick. In **likelihood** only the flow needs no bound. And in **strays** none is
# clean: all leave many times as many as the truth.
#
# How close the GAN comes changes with the seed, and the one stored here is a lucky one: six full trainings ended between
# 0.041 and 0.086 (try `line_up`), those of diffusion between 0.025 and 0.032. Toys flatter some models and wrong
# others, and ten years of remedies for GANs are not in our fifteen lines.
#
# ## 9. Where does each noise point go?
#
# All four are maps from the same noise. So paint the noise in eight sectors, and see where the colours end.
#
# *Predict: which maps keep neighbours together? Can such a map make eight separate clusters?*

# %%
few = {"noise": z[:3000]} | {name: samples[name][:3000] for name in models}
sector = (torch.atan2(*z[:3000].T) / (2 * math.pi) * 8).floor().long() % 8
hue = [plot.COLOURS[k] for k in sector]
alt = "The noise in eight sectors of one colour each, and where the colours end: four different maps."
picture, axes = plot.figure(alt, 5, width=10, height=2.4)
for ax, (name, x) in zip(axes, few.items(), strict=True):
    ax.scatter(*x.T, c=hue, s=2, linewidths=0)
    ax.set(title=name, xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), xticks=[], yticks=[], aspect="equal")
picture

# %% [markdown]
# Colours arrive as patches, neighbours beside neighbours: all four maps are *continuous* (the VAE's up to the
# noise of its decoder). The noise is in one piece, and a continuous map cannot tear it. Hence the threads
# between clusters: each model can make them thin, none can cut them. A thin thread needs a steep map; section
# 10 shows where diffusion gets its steepness from.
#
# ### Ask twice
#
# Is *this* map the answer, or one of many? Train everything again, a quarter as long, from other random weights
# and on other batches, and see where the same noise goes.
#
# *Predict: for which models does a noise point end in the same cluster both times?*

# %%
again = line_up(14)
for _ in race(again, 600, seed=15):
    pass

# %%
second = {name: draw(model, z) for name, model in again.items()}
same = {name: (near(second[name])[1] == near(samples[name])[1]).float().mean().item() for name in models}

# %% tags=["nbval-ignore-output"]
print("same cluster both times:", {name: f"{share:.0%}" for name, share in same.items()})

# %%
wanted = final(ddim(best_denoiser, z, times(50), schedule))  # the exact walk, no network
as_exact = (near(wanted)[1] == near(samples["diffusion"])[1]).float().mean().item()
assert same["diffusion"] > 0.85 and as_exact > 0.85
assert max(same["GAN"], same["VAE"], same["flow"]) < 0.6

# %% [markdown]
# Nine of ten or more for diffusion; far fewer for the others, down to hardly any. (Two maps that know nothing of
# each other agree on 16 %; the VAE's, turned against each other, on less.) They found *a* map, diffusion found
# *the* map. Once the way from data to noise is fixed, the best guess at each place and moment is a fact about
# the data, and so is the whole walk back; the exact walk, without any network, goes to the same clusters. That
# is the calm of diffusion: no opponent, no code to be agreed on, **a regression with one right answer**.
#
# ## 10. Why the encoder is fixed, and the dimension kept
#
# VAE, flow and diffusion can be run from data to noise. Why does diffusion *fix* this way?
#
# - (i) The way out ends at the noise that sampling starts from.
# - (ii) Right answers are free (section 5).
# - (iii) There is one map, always the same (section 9).
# - (iv) One network serves all moments.
#
# And why is the **dimension kept**? Noise is added number by number, so $x_t$ has the shape of $x_0$. Fewer
# numbers would need an encoder that summarises, and that one must be learned.
#
# Take (i). Sampling starts at $\mathcal N(0, I)$, so that is where the way out should end. Does it?

# %%
given, fair = truth.sample(10_000, seeded(16)), torch.randn(10_000, 2, generator=seeded(17))
fresh_noise = torch.randn(2, 10_000, 2, generator=seeded(18))
with torch.no_grad():
    mean, std = models["VAE"].encode(given)
    codes = {"VAE": mean + std * fresh_noise[0], "flow": models["flow"].encode(given)[0]}
codes["diffusion"] = spoil(given, fresh_noise[1], torch.ones(10_000))[0]

# %%
alt = "Data as codes, coloured by cluster: for VAE and flow each colour has its own patch, for diffusion all mix."
picture, axes = plot.figure(alt, 3, width=8, height=2.8)
hue = [plot.COLOURS[k] for k in near(given[:3000])[1]]
for ax, (name, code) in zip(axes, codes.items(), strict=True):
    ax.scatter(*code[:3000].T, c=hue, s=2, linewidths=0)
    ax.set(title=name, xlim=(-3.2, 3.2), ylim=(-3.2, 3.2), xticks=[], yticks=[], aspect="equal")
picture

# %%
fits = {name: sliced_wasserstein(code, fair) for name, code in codes.items()}
chance = [sliced_wasserstein(torch.randn(10_000, 2, generator=seeded(20 + k)), fair) for k in range(6)]
assert fits["diffusion"] < 1.5 * max(chance) and fits["VAE"] > 2 * max(chance) > fits["flow"]
assert torch.allclose(codes["diffusion"], fresh_noise[1], atol=1e-5)  # it is the noise, no trace of the data

# %% tags=["nbval-ignore-output"]
print("codes to noise:", {name: f"{value:.3f}" for name, value in fits.items()}, f"chance: up to {max(chance):.3f}")

# %% [markdown]
# The VAE's codes do not add up to the noise that its decoder will be fed: the two terms of (1.3) pull in
# opposite directions, and the compromise leaves gaps and heaps. What falls into a gap comes out between
# clusters: a noise point is *lonely* if few codes lie around it, for its place in the bell.

# %%
some = z[:3000]
to_codes = torch.cdist(some, codes["VAE"][:5000]).kthvalue(10).values  # (3000,)
lonely = (to_codes * torch.exp(-some.square().sum(1) / 4)).argsort(descending=True)
stray = ~near(samples["VAE"][:3000])[0][lonely]
assert stray[:300].float().mean() > 3 * stray[1500:].float().mean()

# %% tags=["nbval-ignore-output"]
print(f"strays of the VAE: {stray[:300].float().mean():.0%} of the loneliest tenth,", end=" ")
print(f"{stray[1500:].float().mean():.0%} of the other half")

# %% [markdown]
# The flow fits within chance for our ruler (its thin gaps are the ruler's blind spot again), and pays with
# networks that must be invertible. Diffusion fits *by construction*: $\alpha(1) = 0$, and nothing has to be
# learned for that.
#
# The price of an encoder that only adds noise: it cannot summarise. There is one noise for each number of the
# data. In return every $x_t$ lives where the data live, can be looked at, and *checked*: are the clouds on the
# way back those of the way out? For the best guess and short steps they are, at every moment.

# %%
stages = {round(float(state.t), 2): state.x for state in ddim(denoiser, z, times(50), schedule)}
way = {t: (spoil(given, fresh_noise[0], torch.full((10_000,), t))[0], stages[t]) for t in (0.6, 0.4, 0.2, 0.1)}
assert max(sliced_wasserstein(out, back) for out, back in way.values()) < 2 * max(floors[10_000])

# %%
alt = "Four moments from t = 0.6 to 0.1: the points of the way back lie in the same places as those of the way out."
picture, axes = plot.figure(alt, 4, width=10, height=2.9)
for ax, (t, clouds_at) in zip(axes, way.items(), strict=True):
    for label, x in zip(("out", "back"), clouds_at, strict=True):
        ax.scatter(*x[:1000].T, s=3, linewidths=0, alpha=0.6, label=label)
    ax.set(title=f"t = {t}", xlim=(-3, 3), ylim=(-3, 3), xticks=[], yticks=[], aspect="equal")
axes[0].legend(loc="upper left", markerscale=3, handletextpad=0)
picture

# %% [markdown]
# It also has a cost: each of the 50 calls works on the full dimension, two numbers here, 786,432 for a colour
# picture of 512 by 512 pixels. Chapter 11 takes this up again, and lets diffusion work on the codes of an
# autoencoder.
#
# ### How many steps?
#
# The 50 were chosen *after* training; the network is the same for any number. Move the slider.

# %%
def distance_after(n):
    return sliced_wasserstein(walk_back(models["diffusion"], noise, n), data)


counts = [1, 2, 3, 5, 7, 10, 15, 20, 35, 50]
reached = [distance_after(n) for n in counts]
assert reached[0] > 5 * reached[5] and reached[2] > 1.5 * reached[-1] and reached[7] < 1.25 * reached[-1]
assert walk_back(models["diffusion"], noise, 1).std(0).max() < 0.1  # one step: all in one heap


# %%
def walk_in(n):
    x = walk_back(models["diffusion"], noise, n)
    alt = f"Left the distance falls with the number of steps and levels off; right the samples of {n} steps."
    picture, (left, right) = plot.figure(alt, 2, width=7.5, height=3)
    left.plot(counts, reached, "o-", markersize=3)
    left.plot(n, sliced_wasserstein(x, data), "s", color=plot.COLOURS[3])
    left.axhline(level, color="0.5", linewidth=1)
    left.set(xscale="log", yscale="log", xlabel="steps", ylabel="distance")
    right.scatter(*x.T, s=2, linewidths=0)
    right.set(xlim=(-2.4, 2.4), ylim=(-2.4, 2.4), aspect="equal", title=f"{n} steps")
    return picture


# %%
import ipywidgets

from minidiff.course.widgets import explore

slider = ipywidgets.IntSlider(5, min=1, max=50, continuous_update=False, description="steps")
_ = explore(walk_in, n=slider)

# %% [markdown]
# One step returns the average of everything, a heap in the middle. Five show clusters and smears; from twenty
# on little is gained. The grey line is the floor.
#
# And *why* do steps help? Look at how steep the map is: by which factor it pulls two neighbouring noise points
# apart, at worst. Each step is a map of its own, and the stretch of the whole is at most the product of theirs.

# %%
@torch.no_grad()
def steepest(model, h=1e-3, **steps):
    """The largest stretch of the map z -> x, in any direction (ord=2), over 2,000 points, by differences."""
    ahead, behind = ([model.sample(noise + d * e, seeded(4), **steps) for e in torch.eye(2)] for d in (h, -h))
    slopes = (torch.stack(ahead, 2) - torch.stack(behind, 2)) / (2 * h)  # (2000, 2, 2)
    return torch.linalg.matrix_norm(slopes, ord=2).max().item()


# %% tags=["nbval-ignore-output"]
stretch = {n: steepest(models["diffusion"], n=n) for n in (1, 2, 5, 50)}
others = {name: steepest(models[name]) for name in ("GAN", "VAE", "flow")}
print("steepest, by steps:", {n: f"{factor:.2g}" for n, factor in stretch.items()})
print("the others:", {name: f"{factor:.2g}" for name, factor in others.items()})

# %%
left_over = {n: coverage(walk_back(models["diffusion"], noise, n))[0] for n in stretch}
assert max(stretch[1], stretch[2]) < 3 < stretch[5] and stretch[50] > 2 * stretch[5]
assert left_over[2] > 2 * left_over[5] > 2.2 * left_over[50]
assert stretch[50] > 1.3 * max(others["GAN"], others["VAE"])

# %% [markdown]
# The same 34,000 weights, used 50 times, make a map that is many times steeper than used once, and leave far
# fewer strays. It is steeper than the maps of GAN and VAE as well. (Than the flow's only by luck: on two other
# seeds diffusion's came to 27 both times, the flow's to 35 and 10.) A diffusion model is a *deep* network in disguise,
# with one set of weights for all its layers and a right answer for each of them. That is what the 50 calls buy.
#
# ## Errors you will meet
#
# Each of these is, or was, in a public course or library. None crashes.
#
# **1. A layer that is never trained.** A short course's U-Net makes a convolution *inside* `forward`. It gets
# new random weights at every call, and no optimizer has ever heard of it.

# %%
class Homemade(nn.Module):
    def forward(self, x):
        return nn.Linear(2, 2)(x)


# %%
homemade = Homemade()
assert not torch.equal(homemade(data), homemade(data)) and not list(homemade.parameters())

# %% [markdown]
# The check to keep: *the same input twice*, and a *count of the weights*.
#
# **2. A network that cannot know the time.** A widely used course builds its first model without $t$, on
# purpose, for simplicity. Here our network is trained in this way, and beside it one that is told.

# %%
class Timeless(Diffusion):
    def forward(self, x, t, cond=None):
        return super().forward(x, torch.zeros_like(t), cond)


torch.manual_seed(21)
pair = {"no time": Timeless(), "time": Diffusion()}
for _ in race(pair, 600, seed=22):
    pass

# %%
alt = "Two rings; without time more points inside, outside and between, with time a tighter ring."
plot.scatter({name: draw(model, noise) for name, model in pair.items()}, alt)

# %%
above = {name: loss_and_least(model)[0] - least for name, model in pair.items()}
astray = {name: coverage(draw(model, noise))[0] for name, model in pair.items()}
assert above["no time"] > 1.7 * above["time"] > 0 and astray["no time"] > 1.15 * astray["time"]

# %% [markdown]
# Bad, but not absurd, so one may not notice. The *loss* shows it: much farther above the least
# possible, and no training helps, for the same $x_t$ may be a clean point or a noisy one, and asks for
# different answers. The best that can be done without $t$ is the average of the best guesses at all moments,
# each weighted by how likely $x_t$ is then:

# %%
def best_without_time(x_t, _):
    total = weight = 0
    for t in torch.linspace(0.02, 0.99, 50):
        likely = truth.log_prob(x_t, t, schedule).exp()[:, None]
        total, weight = total + likely * best_v(x_t, t), weight + likely
    return total / weight


# %%
blind, sighted = loss_and_least(best_without_time, 20_000)
assert blind > sighted + 0.05
print(f"the least possible loss: {blind:.2f} without time, {sighted:.2f} with it")

# %% [markdown]
# The check to keep: *change $t$ alone; the output must change.*

# %%
early, late = torch.full((2000,), 0.1), torch.full((2000,), 0.9)
with torch.no_grad():
    assert torch.equal(pair["no time"](noise, early), pair["no time"](noise, late))
    assert not torch.allclose(pair["time"](noise, early), pair["time"](noise, late), atol=0.1)

# %% [markdown]
# **3. The moment that is never trained.** With 1,000 moments, numbered 0 to 999, the same course draws
# `randint(0, 999)`. The upper end is exclusive: 999, pure noise, where every sample starts, never comes up.

# %%
trained = torch.randint(0, 999, (100_000,), generator=seeded(23))
assert trained.max() == 998 and torch.randint(0, 1000, (100_000,), generator=seeded(23)).max() == 999
print(f"first and last moment in training: {trained.min()}, {trained.max()}")

# %% [markdown]
# The check to keep: *the extremes of what is drawn, against the extremes of what is used.*
#
# **4. Noise of the wrong kind.** `rand` differs by one letter from `randn`. A course trains and samples its first
# model with `rand`, on purpose; carried over to a model trained with `randn` it is a mistake: uniform numbers
# from 0 to 1 are all in one corner of the noise, and what starts there ends there.

# %%
def is_noise(x):
    return bool(x.mean().abs() < 0.1 and (x.var() - 1).abs() < 0.1)


corner = torch.rand(2000, 2, generator=seeded(24))
assert is_noise(noise) and not is_noise(corner)

# %%
cornered = walk_back(models["diffusion"], corner, 50)
assert coverage(cornered)[1] < 0.05  # some cluster gets next to nothing
starts = {"from rand": cornered, "from randn": clouds[-1]["diffusion"]}
plot.scatter(starts, "Left one large cluster and parts of its neighbours; right all eight.")

# %% [markdown]
# The check to keep: *mean 0, variance 1 of whatever you call noise.*
#
# **5. A distance to one batch.** A popular repository measured its distance (not ours, but it too shrinks as the
# sample grows) to the statistics of a single batch of real pictures. With 100 points the truth *itself* gets a
# worse score than our model with 10,000:

# %%
assert min(floors[100]) > 1.2 * score["diffusion"]
print(f"the truth at 100 points: {min(floors[100]):.2f} to {max(floors[100]):.2f}")

# %% [markdown]
# The check to keep: *the truth against itself, at the same number of points.*
#
# ## Exercises
#
# **1. Pen.** (a) Real points and fakes have no place in common. What are $D^*$, $V(D^*, G)$ and the JS
# divergence? What becomes of them if the fakes move a little closer, and what does that tell the forger? (b) At
# the angle $\varphi$ a network guesses $\hat v$. Find the $\hat x_0$ and $\hat\epsilon$ that belong to $x_t$ and
# $\hat v$: two equations, two unknowns. Mix them again for the earlier angle $\varphi - \delta$, and show that
# this is a step of `walk_back`, $\cos\delta\; x_t - \sin\delta\; \hat v$. (Test your formulas on the way: for
# $\delta = 0$ the mix must give $x_t$ back, and for $\delta = \varphi$ it must be $\hat x_0$.)
#
# <details><summary>Answer</summary>
#
# (a) Where $p > 0$ there is $p_\theta = 0$, so by (1.2) $D^* = 1$ on real points, 0 on fakes. Then
# $V = \log 1 + \log 1 = 0$, and $\mathrm{JS} = (V + \log 4) / 2 = \log 2$, wherever the fakes are: if they move,
# nothing changes, and the forger is told nothing. (b) With
# $x_t = \cos\varphi\, x_0 + \sin\varphi\, \epsilon$ and $v = \cos\varphi\, \epsilon - \sin\varphi\, x_0$,
# solve for $\hat x_0 = \cos\varphi\, x_t - \sin\varphi\, \hat v$ and
# $\hat\epsilon = \sin\varphi\, x_t + \cos\varphi\, \hat v$. Then
# $\cos(\varphi - \delta)\, \hat x_0 + \sin(\varphi - \delta)\, \hat\epsilon$ has, by the addition theorems,
# the coefficients $\cos\delta$ for $x_t$ and $-\sin\delta$ for $\hat v$.
#
# </details>
#
# **2. Code.** On a line one needs no network: the smallest noise becomes the smallest data point, the second
# smallest the second, and so on. Write `by_rank(z, data)`, without a loop.

# %%
from minidiff.course import check


def by_rank(z, data):
    """n noises z (n,) and n data points (n,), both unsorted: what each noise becomes, in the order of z: (n,).

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
check(by_rank, by_counting, cases, hint="z.argsort() says who stands in each place; you want the place of each noise")

# %% [markdown]
# This is the shortest way to carry one cloud to the other, and the distance it carries is the one of (1.6)
# from one side.
#
# **3. Open.** `VAE(latent=1)` has a single number as its code. What can its decoder draw? Predict on which data it
# will be as good as `VAE(latent=2)` and on which worse: `toy.mixture`, `moons`, `rings`, `checkerboard`,
# `swiss_roll`. Then let `duel` say (800 batches take a few seconds), and look at the samples. A difference counts
# if another seed repeats it, and if it is large beside the last number, the distance of two draws of the data.
# When you are done, give the flow more layers with fewer weights each, `RealNVP(42, 16)` or `RealNVP(29, 32)`
# in place of `RealNVP()`: do the threads between clusters get thinner? `coverage` counts the strays.

# %%
def train_on(model, make, n=800):
    """The model after n batches of points from `make`, at the pace of `race`."""
    coolers = [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n) for optimizer in model.optimizers]
    points, randomness = seeded(40), seeded(41)
    for _ in range(n):
        model.learn(make(256, points), randomness)
        for cooler in coolers:
            cooler.step()
    return model


# %%
def duel(make, n=800, seed=40):
    """Distance to 10,000 points of `make`: for one latent, for two, and for 10,000 other points of `make`."""
    torch.manual_seed(seed)
    fresh, clouds = make(10_000, seeded(42)), [make(10_000, seeded(43))]
    for latent in (2, 1):
        codes = torch.randn(10_000, latent, generator=seeded(44))
        clouds.insert(0, draw(train_on(VAE(latent=latent), make, n), codes))
    return [sliced_wasserstein(cloud, fresh) for cloud in clouds]


# %% tags=["nbval-ignore-output"]
one, two, chance = duel(toy.mixture, n=40)  # much too short: a start
print(f"after 40 batches: one latent {one:.2f}, two {two:.2f}; by chance {chance:.3f}")

# %%
assert min(one, two) > 5 * chance

# %% [markdown]
# ## What to keep
#
# - A generative model is a map from noise to data; the families differ in how they teach it without being
#   told which noise belongs to which point.
# - GAN: a judge that estimates $p / (p + p_\theta)$ (1.2) replaces the missing answer. Fast, and it needs no
#   likelihood; its loss does not say how far it is.
# - VAE: a learned code and a bound on the likelihood (1.3). Calm; its codes and the noise do not quite match.
# - Flow: an exact likelihood (1.4) for an invertible map.
# - Diffusion: a fixed way from data to noise, and one regression (1.5). It came closest here, covers everything,
#   always finds the same map, and pays with many calls at full dimension.
# - Measure against a floor: the truth against itself, at the same number of points (1.6). And count what the
#   ruler does not see.
#
# Next: [02 · Forward diffusion](02_forward_diffusion.ipynb), how data become noise.
