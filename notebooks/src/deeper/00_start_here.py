# %% [markdown]
# # 00, deeper · A refresher
#
# Ten questions, and four pages on what the course takes for granted: Gaussians, Bayes' rule, the Kullback-Leibler
# divergence, and a training loop in PyTorch. Pages 2 to 4 follow one small example, a number hidden in noise, to the end:
# the loop learns what Bayes' rule says. A fifth page translates other people's letters into ours: come back for it after
# chapter 08. After the cells before page 1 each can be read alone. Here $v$ is a variance and $y$ what is seen; elsewhere in the
# course both letters have other meanings.

# %%
import torch

from minidiff import Cosine, Empirical, Flow, FromBetas, LinearBeta, Mixture
from minidiff import add_noise, ddim, final, linear_betas, target
from minidiff.course import expect, plot

Normal = torch.distributions.Normal
grid = torch.linspace(-4, 4, 1601, dtype=torch.float64)
spacing = grid[1] - grid[0]

# %% [markdown]
# ## Are you ready?
#
# Ten questions, on paper. $z$ is standard normal, $\mathcal N(m, v)$ normal with mean $m$ and *variance* $v$. $E_q[\cdot]$ is
# the mean over draws $x$ of $q$.
#
# 1. $A$ has mean 3 and standard deviation 2. Which mean and standard deviation has $1 - A/2$?
# 2. $A$ and $B$ are independent, of variances 9 and 16. What is the standard deviation of $A + B$?
# 3. Make a draw of $\mathcal N(m, v)$ out of $z$.
# 4. Can a density be larger than 1?
# 5. One person in a hundred is ill. A test is right for 90 % of the ill and 90 % of the healthy. It says ill. How
#    likely is that?
# 6. Given $p(x \mid y)$ and $p(y)$, what is $p(y \mid x)$?
# 7. What is $E_q\!\left[\log \frac{q(x)}{p(x)}\right]$ called? Can it be negative?
# 8. And what is it for $q = \mathcal N(0, 1)$, $p = \mathcal N(1, 1)$?
# 9. `x` has shape `(8, 1, 32, 32)`, `c` shape `(8,)`. Multiply each picture by its number.
# 10. A training loop never calls `optimizer.zero_grad()`. What goes wrong?
#
# <details><summary>Answers</summary>
#
# 1. Mean $-\frac12$, standard deviation 1.
# 2. $\sqrt{9 + 16} = 5$: variances add.
# 3. $m + \sqrt{v}\, z$.
# 4. Yes; only its integral is 1. $\mathcal N(0, 0.01)$ has 4.0 at 0.
# 5. $\frac{0.9 \cdot 0.01}{0.9 \cdot 0.01 + 0.1 \cdot 0.99} = \frac{1}{12}$, or 8.3 %.
# 6. $p(x \mid y)\, p(y)$, divided by its sum or integral over all $y$.
# 7. The Kullback-Leibler divergence. Never; it is 0 only if $p = q$.
# 8. $\frac12$.
# 9. `c.reshape(8, 1, 1, 1) * x`. A plain `c * x` is an error.
# 10. Gradients add up, so each step also follows all the old ones.
#
# </details>
#
# Eight right? Go on with [chapter 01](../01_generative_models.ipynb). Fewer? The pages below have it: Gaussians (questions
# 1 to 4), Bayes (5, 6), divergence (7, 8), PyTorch (9, 10).

# %% tags=["check"]
# @title ✓ The answers in numbers
z = torch.randn(10**6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
kl = torch.distributions.kl_divergence(Normal(0.0, 1.0), Normal(1.0, 1.0))
one, other = 1 - (3 + 2 * z) / 2, 3 * z[::2] + 4 * z[1::2]
assert abs(one.mean() + 0.5) < 0.01 and abs(one.std() - 1) < 0.01 and kl == 0.5
assert abs(Normal(0.0, 0.1).log_prob(torch.tensor(0.0)).exp() - 4.0) < 0.02
ill, wrong = torch.arange(1000) < 10, torch.arange(1000) % 10 == 0  # a thousand people
share = ill[ill != wrong].double().mean()  # of those whom the test calls ill
assert abs(share - 1 / 12) < 1e-12 and abs(other.std() - 5) < 0.02
c = torch.arange(8.0)
assert ((c.reshape(8, 1, 1, 1) * torch.ones(8, 1, 32, 32))[:, 0, 0, 0] == c).all()
print(f"✓ 2: {other.std():.2f} by 500,000 draws; 5: {share:.1%} of a thousand people;",
      f"8: {kl:.1f} by PyTorch")

# %% [markdown]
# ### The example of pages 2 to 4
#
# A number $x$ is near -1.2 with probability 0.4, else near 0.8, give or take 0.2. Somebody adds noise of
# standard deviation 0.8 and shows only the sum, $y$. `Mixture` is such a density of humps.

# %%
humps = Mixture(torch.tensor([0.4, 0.6]), torch.tensor([[-1.2], [0.8]]),
                torch.tensor([0.2, 0.2]))  # weights, means, standard deviations
low, high = (Normal(m, 0.2).log_prob(grid).exp() for m in (-1.2, 0.8))
prior = 0.4 * low + 0.6 * high


def posterior_of(y):
    """Return p(x | y) on the grid, by Bayes' rule (page 2)."""
    likelihood = Normal(grid, 0.8).log_prob(torch.tensor(y).double()).exp()
    product = likelihood * prior
    return product / (product.sum() * spacing)

# %% [markdown]
# ## 1. Gaussians
#
# The *normal* or *Gaussian* density of mean $m$ and variance $v$ is
#
# $$ \mathcal N(x; m, v) = \frac{1}{\sqrt{2\pi v}}\; \exp\!\left(-\frac{(x - m)^2}{2v}\right) . $$
#
# $\sqrt v$ is the *standard deviation*: about two thirds of all draws lie within one of them from the mean, 95 % within
# two. Four rules carry most of the course.
#
# 1. **Scale and shift.** If $z$ is standard normal, of mean 0 and variance 1, then $m + \sqrt v\, z$ has the density
#    $\mathcal N(m, v)$.
# 2. **Means** are linear, for any random numbers: $E[a A + b B] = a\, E[A] + b\, E[B]$.
# 3. **Variances** add if $A$ and $B$ are independent, and a factor comes out squared:
#    $\mathrm{Var}[a A + b B] = a^2\, \mathrm{Var}[A] + b^2\, \mathrm{Var}[B]$.
# 4. A sum of independent Gaussians is again **Gaussian**.
#
# *Predict: $A$ is normal with mean -1 and standard deviation 0.6, $B$ with mean 1 and standard deviation 0.8. Where is
# the bell of $A + B$, and is it wider or narrower than the two?*

# %%
generator = torch.Generator().manual_seed(0)
a = -1 + 0.6 * torch.randn(100_000, generator=generator)  # rule 1
b = 1 + 0.8 * torch.randn(100_000, generator=generator)
picture, (ax,) = plot.figure("Bells of A, of B and, wider, of the sum.", width=6.4)
rules = {"A": (a, -1.0, 0.6), "B": (b, 1.0, 0.8), "A + B": (a + b, 0.0, 1.0)}
for k, (name, (draws, m, std)) in enumerate(rules.items()):
    bell = Normal(m, std).log_prob(grid).exp()  # by the rules, not from the draws
    ax.hist(draws.numpy(), bins=80, density=True, alpha=0.3, color=plot.COLOURS[k])
    ax.plot(grid, bell, color=plot.COLOURS[k])
    ax.text(m, bell.max() + 0.02, name, ha="center", fontsize=12)
ax.set(xlabel="value", ylabel="density", ylim=(0, 0.78), xlim=(-4, 4))
picture

# %% [markdown]
# <details><summary>Answer</summary>
#
# At $-1 + 1 = 0$, and wider: its standard deviation is $\sqrt{0.6^2 + 0.8^2} = 1$, not 1.4.
#
# </details>

# %% tags=["check"]
# @title ✓ The sum is normal, of mean 0 and variance 1
# Kolmogorov and Smirnov: compare the share of draws below each value with the normal
# share. In one run of a hundred the largest gap would exceed 1.63 / sqrt(n) by chance.
ranks = (torch.arange(100_000) + 0.5) / 100_000
gap = (Normal(0.0, 1.0).cdf((a + b).sort().values) - ranks).abs().max()
assert gap < 1.63 / 100_000**0.5
inside = [float(((a + b).abs() < k).double().mean()) for k in (1, 2)]
assert abs(inside[0] - 0.683) < 0.01 and abs(inside[1] - 0.954) < 0.01
print(f"✓ shares below a value are normal to {gap:.3f}; {inside[0]:.1%} of all sums",
      f"lie within one standard deviation, {inside[1]:.1%} within two")

# %% [markdown]
# A picture is a list of $D$ numbers. If each has its own independent noise, densities multiply and their logarithms add
# ($I$ is the identity matrix; $v I$ means variance $v$ for each number, independently):
#
# $$ \log \mathcal N(x; m, v I) = -\frac{|x - m|^2}{2v} - \frac{D}{2} \log(2\pi v), \qquad
# |x - m|^2 = \sum_{i=1}^{D} (x_i - m_i)^2 . $$
#
# Hence the *squared errors* in all that follows: to make a Gaussian likelihood large is to make a squared distance
# small.

# %% tags=["check"]
# @title ✓ The log density of a picture is a squared distance
pixels, means = torch.randn(2, 1024, generator=generator, dtype=torch.float64)
by_pixel = Normal(means, 0.5**0.5).log_prob(pixels).sum()
distance = (pixels - means).square().sum()
formula = -distance / (2 * 0.5) - 512 * torch.tensor(torch.pi).double().log()  # v = 0.5
assert torch.isclose(by_pixel, formula, rtol=1e-6)
print("✓ the formula agrees with the sum over 1,024 pixels, to six digits")

# %% [markdown]
# ## 2. Bayes' rule
#
# A joint density can be written in two ways, $p(x, y) = p(x)\, p(y \mid x) = p(y)\, p(x \mid y)$. Divide:
#
# $$ p(x \mid y) = \frac{p(y \mid x)\; p(x)}{p(y)}, \qquad p(y) = \int p(y \mid x)\; p(x)\; dx . $$
#
# What one believed before, the *prior* $p(x)$, is multiplied by how well $x$ explains what is seen, the *likelihood*
# $p(y \mid x)$. The integral only makes the sum of all chances one. The result is the *posterior*.
#
# In the example above you see $y = 0$.
#
# *Predict: you pay the squared error of your guess at* $x$. *Is it best to guess one of the humps?*

# %%
seen = posterior_of(0.0)
mean = (grid * seen).sum() * spacing
picture, (ax,) = plot.figure(
    "Two humps before; after, of other heights and a little nearer to 0.", width=6.4)
for k, (name, p, place) in enumerate((("prior p(x)", prior, (-3.2, 0.72)),
                                      ("posterior p(x | y = 0)", seen, (1.35, 1.3)))):
    ax.plot(grid, p, color=plot.COLOURS[3 * k])
    ax.text(*place, name, color=plot.COLOURS[3 * k], fontsize=12)
ax.axvline(mean, color="black", linestyle="--")
ax.text(mean - 0.06, 1.5, f"its mean, {mean:.2f}", ha="right", fontsize=12)
ax.set(xlabel="x", ylabel="density", xlim=(-4, 4), ylim=(0, 1.7))
picture

# %% [markdown]
# <details><summary>Answer</summary>
# No. The best guess is the mean of the posterior, although $x$ is hardly ever there.
#
# </details>
#
# The humps change their heights, as the right one is nearer to 0. Each also moves a little towards the number seen, here
# from -1.2 to -1.13 and from 0.8 to 0.75.

# %% [markdown]
# ### Why the mean is best
#
# A number $x$ is not known, only which values are how likely, given what is seen. $E$ and $\mathrm{Var}$ are its mean and
# variance under these chances. For any guess $g$, $E[(x - g)^2] = \mathrm{Var}[x] + (E[x] - g)^2$. The first term does not
# depend on $g$; the second is least, 0, at $g = E[x]$.

# %% tags=["check"]
# @title ✓ The best guess is the posterior's mean, and the package's denoiser
cost = torch.stack([(seen * (grid - guess) ** 2).sum() * spacing for guess in grid])
assert abs(grid[cost.argmin()] - mean) <= spacing
assert seen[(grid - mean).abs().argmin()] < 0.1
for part, top in ((grid < 0, -1.13), (grid > 0, 0.75)):  # the humps, as in the text
    assert abs(grid[part][seen[part].argmax()] - top) < 0.006
t = torch.tensor(0.8 / 1.8)  # the schedule Flow has alpha = 1 - t and sigma = t,
alpha, _ = Flow()(t)  # so here sigma = 0.8 alpha: x_t is alpha times y
for y_seen in (-0.7, 0.0, 0.5):
    exact = humps.denoise((alpha * y_seen).reshape(1, 1), t, Flow())
    assert abs(exact - (grid * posterior_of(y_seen)).sum() * spacing) < 1e-3
print(f"✓ of 1,601 guesses the best is {grid[cost.argmin()]:.2f}; the exact denoiser",
      "has the posterior's mean, here and for two other numbers")

# %% [markdown]
# That is a [denoiser](../docs/glossary.md#denoiser), in one dimension. Chapter 00's first guess, the mean of all bags, is
# the same thing for 1,024 numbers, one for each pixel.

# %% [markdown]
# ## 3. The Kullback-Leibler divergence
#
# How far is a model $p$ from the truth $q$? Draw from $q$, and ask how much less likely $p$ finds what comes:
#
# $$ \mathrm{KL}(q \,\|\, p) = E_q\!\left[\log \frac{q(x)}{p(x)}\right]
# = \int q(x)\, \log \frac{q(x)}{p(x)}\; dx . $$
#
# It is never negative. As $\log u \le u - 1$ for every $u > 0$, $-\mathrm{KL}(q \,\|\, p) = E_q\!\left[\log \frac pq\right] \le
# E_q\!\left[\frac pq - 1\right] = \left(\int_{q > 0} p\right) - 1 \le 0$, with equality only if $p = q$. For two
# Gaussians it has a closed form, in *nats* as the logarithm is the natural one,
#
# $$ \mathrm{KL}\big(\mathcal N(m_1, v_1) \,\|\, \mathcal N(m_2, v_2)\big)
# = \frac12 \left(\frac{v_1 + (m_1 - m_2)^2}{v_2} - 1 + \log \frac{v_2}{v_1}\right) : $$
#
# with equal variances it is the squared distance of the means over $2v$, a squared error again.
#
# It is no distance: the order matters. We fit one bell $p$ to the two humps $q$, once by each order.
#
# *Predict: one of the fits covers both humps, the other sits on one. Which is which?*

# %%
def kl(q, p):
    """Return KL(q || p) of two densities on the grid, in nats."""
    return (q * (q.clamp(min=1e-300) / p.clamp(min=1e-300)).log()).sum() * spacing


# %%
bells = {(m, s): Normal(m, s).log_prob(grid).exp()
         for m in torch.linspace(-2, 2, 41).tolist()
         for s in torch.linspace(0.1, 1.5, 29).tolist()}
covers = min(bells, key=lambda place: kl(prior, bells[place]))
settles = min(bells, key=lambda place: kl(bells[place], prior))

# %%
picture, (ax,) = plot.figure(
    "One bell lies wide over both humps, another sits on the taller hump.", width=6.4)
for name, p, place, k in (("q", prior, (-1.2, 0.83), 0),
                          ("p with least KL(q || p)", bells[covers], (2.68, 0.3), 1),
                          ("p with least KL(p || q)", bells[settles], (2.35, 1.6), 2)):
    ax.plot(grid, p, color=plot.COLOURS[k])
    ax.text(*place, name, color=plot.COLOURS[k], ha="center", fontsize=12)
ax.set(xlabel="x", ylabel="density", xlim=(-4, 4), ylim=(0, 2.1))
picture

# %% [markdown]
# <details><summary>Answer</summary>
#
# The least $\mathrm{KL}(q \,\|\, p)$ covers: wherever $q$ draws, $p$ must not be tiny. The least
# $\mathrm{KL}(p \,\|\, q)$ settles on one hump: wherever $p$ draws, $q$ must not be tiny. Maximum likelihood, with
# data that are draws from $q$, is of the first kind.
#
# </details>

# %% tags=["check"]
# @title ✓ The closed form, and what each fit matches
q, p = Normal(0.3, 0.5), Normal(-0.4, 0.9)
formula = 0.5 * ((0.25 + 0.49) / 0.81 - 1 + torch.log(torch.tensor(0.81 / 0.25)))
on_grid = kl(q.log_prob(grid).exp(), p.log_prob(grid).exp())
assert abs(on_grid - formula) < 1e-4
mean_q = (grid * prior).sum() * spacing
std_q = (((grid - mean_q) ** 2 * prior).sum() * spacing).sqrt()
assert abs(covers[0] - mean_q) <= 0.1 and abs(covers[1] - std_q) <= 0.05
assert abs(settles[0] - 0.8) <= 0.1 and abs(settles[1] - 0.2) <= 0.05
print(f"✓ {on_grid:.3f} nats by formula and integral; the wide bell has mean and",
      "deviation of both humps together, the narrow one those of one hump")

# %% [markdown]
# ## 4. A training loop in PyTorch
#
# A network is a function with numbers in it, its *weights*. Training changes them a little, again and again, so that
# a *loss* falls. Each round has the same lines. Here the network sees $y$, a number in noise, and has to guess
# the number $x$. Page 2 has the right answer for every $y$; the network is not told. `SiLU` is a smooth bend between two
# linear layers; `Adam` chooses how far each weight moves, in proportion to a *learning rate*, here 0.01, that falls to 0.

# %%
generator = torch.Generator().manual_seed(0)


def pairs(n):
    """Return clean and noisy numbers, (n, 1) each."""
    x = humps.sample(n, generator)
    return x, x + 0.8 * torch.randn(x.shape, generator=generator)


# %%
torch.manual_seed(0)  # the first weights are random
layers = torch.nn.Linear(1, 64), torch.nn.SiLU(), torch.nn.Linear(64, 1)
net = torch.nn.Sequential(*layers)
optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, total_iters=1500)
for _ in range(1500):
    x, y = pairs(256)
    loss = (net(y) - x).square().mean()  # how wrong, in one number
    optimizer.zero_grad()  # forget the last gradient
    loss.backward()  # how the loss changes with each weight
    optimizer.step()  # a small step downhill
    falling.step()  # the next one a little smaller

# %% [markdown]
# *Predict: nobody shows the network the exact mean of page 2. Where is its guess off most, in the middle or at the ends?*

# %%
ys = torch.linspace(-3, 3, 61)
exact = torch.stack([(grid * posterior_of(y)).sum() * spacing for y in ys.tolist()])
learned = net(ys[:, None]).detach()[:, 0].double()
plot.curves(ys, {"learned guess - exact mean": learned - exact},
            "The error of the learned guess, largest at the left end.",
            xlabel="y", ylabel="error of the guess")

# %% [markdown]
# <details><summary>Answer</summary>
# At an end, the left one. Only one $y$ in fifteen lies below -2, so errors there hardly raise the loss. That only allows an
# error: even fewer lie above 2, and there the guess is good. The exact mean runs from -1.3 to 0.9; in between, the network
# has learned it well.
#
# Training a diffusion model is this loop, with pictures for numbers, and the noise level as a second input.
#
# </details>

# %% tags=["check"]
# @title ✓ The network has learned the mean
error, many = (learned - exact).abs(), pairs(100_000)[1]
below, above = (float(far.double().mean()) for far in (many < -2, many > 2))  # of all y
inner, outer = error[ys.abs() <= 2.01].max(), error[ys.abs() > 2.01].max()
assert abs(below - 1 / 15) < 0.004 and 0.04 < above < 0.05
small = inner < 0.07 < exact.abs().max() / 15 and inner < outer < 0.15
expect(small and error.argmax() < 10 and error[ys > 2.01].max() < 0.07,
       f"off by at most {inner:.2f} to |y| = 2, {outer:.2f} to 3, of up to 1.3; "
       f"{below:.1%} of all y lie below -2, {above:.1%} above 2")

# %% [markdown]
# Three slips that nearly everybody makes. What does each do?
#
# **a.** `optimizer.zero_grad()` is missing.
#
# **b.** `x` has shape `(256,)` and `net(y)` has shape `(256, 1)`.
#
# **c.** Pictures `(8, 1, 32, 32)` are multiplied by `alpha`, of shape `(8,)`.
#
# <details><summary>Answers</summary>
#
# **a.** `backward` *adds* to the gradients, so each step follows the sum of all so far.
#
# **b.** Nothing complains. Shapes are compared from the right, and a 1 is stretched: the difference is a `(256, 256)`
# table of every guess minus every target. The best one can do is the overall mean, for every $y$.
#
# **c.** An error, if one is lucky: 32 does not match 8. With 32 pictures it would multiply *columns of pixels*. The
# remedy is `alpha.reshape(8, 1, 1, 1)`.
#
# </details>

# %% tags=["check"]
# @title ✓ Slips a and b, seen
weight = torch.tensor(1.0, requires_grad=True)
for _ in range(2):
    (3 * weight).backward()
assert weight.grad == 6  # a: not 3
x = torch.randn(256, generator=generator)
guesses = torch.zeros(256, 1, requires_grad=True)
loss = (guesses - x).square().mean()  # b: of (256, 256) differences
(slope,) = torch.autograd.grad(loss, guesses)
best = -slope / (2 / 256)  # a parabola in each guess: one step to its bottom
assert torch.allclose(best, x.mean().expand(256, 1), atol=1e-5)
print("✓ a doubles the gradient in two rounds; with b the mean of x is best for all y")

# %% tags=["check"]
# @title ✓ Slip c, seen
assert (torch.arange(32.0) * torch.ones(32, 1, 4, 32))[0, 0, 0, 5] == 5  # by column
try:
    torch.ones(8) * torch.ones(8, 1, 32, 32)
except RuntimeError as error:
    said = str(error)
assert "must match" in said
print("✓ 8 pictures raise an error, 32 pictures are multiplied column by column")

# %% [markdown]
# ## 5. Other people's letters
#
# The [glossary](../docs/glossary.md#the-same-things-in-eight-codebases) has the names that eight codebases use. Five
# families of papers write the same noisy pictures in other letters, EDM at another scale:
#
# | there | theirs | ours |
# |---|---|---|
# | DDPM, [@ho2020] | $\bar\alpha_k = \prod_{i \le k} (1 - \beta_i)$, steps $k = 1, \dots, T$ | $\alpha_t = \sqrt{\bar\alpha_k}$, $\sigma_t = \sqrt{1 - \bar\alpha_k}$ at $t = k/T$ |
# | DDIM, [@song2020] | $\alpha_k$, which is DDPM's $\bar\alpha_k$ | $\alpha_t = \sqrt{\alpha_k}$, $\sigma_t = \sqrt{1 - \alpha_k}$ |
# | score SDE, its variance-preserving (VP) form, [@song2021] | $\beta(t) = 0.1 + 19.9\, t$ | $\alpha_t = \exp\!\left(-\frac12 \int_0^t \beta\right)$, $\sigma_t = \sqrt{1 - \alpha_t^2}$ |
# | EDM, [@karras2022] | $y + n$, a picture and noise $n$ of standard deviation $\sigma_\text{EDM}$; nothing shrinks | $x_t / \alpha_t$, with $\sigma_\text{EDM} = \sigma_t / \alpha_t$ |
# | flow matching, [@lipman2023] | $t = 0$ is noise $x_0$, $t = 1$ data $x_1$; velocity $x_1 - x_0$, if their least noise $\sigma_\text{min}$ is 0, as in [@liu2023] | time $1 - t$; velocity with the other sign |
#
# A *score* is the slope of a log density (chapter 05), a *velocity* the direction in which $x_t$ moves (chapter 08). A table
# can lie, so each row is executed. Their side is written out, ours is the package's:

# %% tags=["check"]
# @title ✓ DDPM's betas
alpha_bar, product = [], 1.0
for k in range(1000):
    product *= 1 - (1e-4 + k * (0.02 - 1e-4) / 999)  # Ho et al. 2020, section 4
    alpha_bar.append(product)
alpha_bar = torch.tensor(alpha_bar, dtype=torch.float64)
times = torch.arange(1, 1001, dtype=torch.float64) / 1000
alpha, sigma = FromBetas(linear_betas(1000))(times)
assert torch.allclose(alpha, alpha_bar.sqrt(), rtol=1e-9)
assert torch.allclose(sigma, (1 - alpha_bar).sqrt(), rtol=1e-9)
print("✓ our alpha is the root of the running product, at all 1,000 steps")

# %% tags=["check"]
# @title ✓ A DDIM step in its own letters
x, x0 = torch.randn(2, 1, 9, generator=torch.Generator().manual_seed(3)).double()
before, now = alpha_bar[599], alpha_bar[600]  # alpha of steps 600 and 601, eq. 12
eps = (x - now.sqrt() * x0) / (1 - now).sqrt()
theirs = before.sqrt() * x0 + (1 - before).sqrt() * eps
ours = final(ddim(lambda x, t: x0, x, times[[600, 599]], FromBetas(linear_betas(1000))))
assert torch.allclose(ours, theirs, rtol=1e-6)
print("✓ the step from 601 to 600 is ours, with alpha the root of their alpha")

# %% tags=["check"]
# @title ✓ The score SDE
for t in (0.1, 0.5, 1.0):
    u = torch.linspace(0, t, 100_001, dtype=torch.float64)
    integral = torch.trapezoid(0.1 + 19.9 * u, u)
    alpha = LinearBeta()(t)[0].double()
    assert torch.isclose(alpha, torch.exp(-integral / 2), rtol=1e-6)
print("✓ alpha is the exponential of minus half the integral, summed by trapezoids")

# %% tags=["check"]
# @title ✓ EDM
generator = torch.Generator().manual_seed(2)
data, noise = torch.randn(2, 6, 2, generator=generator).double()  # of six points


def ideal(x, std):  # Karras et al. 2022, eq. 57: their best denoiser of the six points
    bells = [Normal(d, std).log_prob(x).sum(1, keepdim=True).exp() for d in data]
    return sum(b * d for b, d in zip(bells, data, strict=True)) / sum(bells)


alpha, sigma = Cosine()(0.6)
theirs = data + sigma / alpha * noise
ours = Empirical(data).denoise(alpha * theirs, 0.6, Cosine())
assert torch.allclose(ours, ideal(theirs, sigma / alpha), atol=1e-5)
print("✓ their best denoiser, of x_t / alpha and sigma / alpha, is ours, of x_t and t")

# %% tags=["check"]
# @title ✓ Flow matching
x_1, x_0 = data, noise  # in their letters data are x_1 and noise is x_0
theirs, ours = 0.3, 1 - 0.3
line = theirs * x_1 + (1 - theirs) * x_0
assert torch.allclose(line, add_noise(data, noise, ours, Flow()), atol=1e-6)
assert torch.allclose(x_1 - x_0, -target("velocity", data, noise, ours, Flow()))
print("✓ the same straight line, walked the other way")

# %% [markdown]
# **Back:** [00 · Start here](../00_start_here.ipynb), with the paths through the course.
#
# ## References
#
# {references}
