# %% [markdown]
# # 02 · Forward diffusion
#
# **How do you destroy a picture so gently that the damage can be undone?** With many small doses of Gaussian
# noise. This chapter follows the doses one by one, then finds out that a thousand of them are one.
#
# **You will build** one noising step, the formula that jumps over any number of steps, four noise schedules,
# and a test that finds the flaw in several well-known tutorials.
#
# **You need** first-year probability (mean, variance, independence), PyTorch, two CPU cores, 1.2 GB of memory
# and about half a minute. Nothing is trained here.

# %%
import torch

from minidiff import FromBetas, add_noise, linear_betas
from minidiff.course import plot, widgets
from minidiff.data import load

# %% [markdown]
# ## 1. Noise that piles up
#
# A grey picture of 32 by 32 pixels is a list of 1,024 numbers, each from -1 (black) to 1 (white). Write $x_0$
# for the clean picture. The plainest way to spoil it is to add a little noise, again and again:
#
# $$ x_t = x_{t-1} + \sqrt{\beta_t}\, z_t, \qquad t = 1, 2, \dots, T. $$
#
# Each number of $z_t$ is a fresh draw from $\mathcal N(0, 1)$, the normal distribution with mean 0 and
# variance 1. So $\sqrt{\beta_t}\, z_t$ has *variance* $\beta_t$: that is the size of dose number $t$. For
# now, take the doses from the paper that made diffusion work (Ho et al. 2020, "DDPM"): $T = 1000$ numbers,
# rising evenly from 0.0001 to 0.02.

# %%
clothes = load("fashion")
pictures = clothes.tensor(slice(0, 8))  # (8, 1, 32, 32)
betas = linear_betas(1000)  # (1000,): betas[0] is beta_1


# %%
def pile_up(x, beta, generator):
    return x + beta.sqrt() * torch.randn(x.shape, generator=generator)


# %% [markdown]
# `walk` repeats any such step for all doses and keeps every state, the clean pictures first.

# %%
def walk(step, x, betas, seed=0):
    generator, states = torch.Generator().manual_seed(seed), [x]
    for beta in betas:
        states.append(step(states[-1], beta, generator))
    return torch.stack(states)  # (T + 1, B, ...)


# %% [markdown]
# *Predict: the doses are tiny. When does the boot vanish, and where do the pixel values end?*

# %%
piled = walk(pile_up, pictures, betas)  # (1001, 8, 1, 32, 32)
shown = [0, 25, 50, 100, 150, 200, 300, 400, 600, 1000]
plot.images(piled[shown, 0], alt="A boot under more and more noise; at step 1000 hardly anything of it is seen.",
            titles=[f"step {k}" for k in shown])

# %% [markdown]
# At step 400 a trained eye still finds the boot, at step 1000 hardly anyone does. (The screen shows only values
# from -1 to 1; all beyond is black or white.) Yet it is in there at full strength, for nothing was ever taken
# from it; section 2 will find it. What happened to the numbers? Pick a picture and one of its pixels at random:
# over this choice $x_0$ has a mean and a variance. Variances of independent things add, so the doses pile up:
# $\mathrm{Var}(x_T) = \mathrm{Var}(x_0) + \sum_t \beta_t$.

# %%
start, end = pictures.var(), piled[-1].var()
assert abs(end / (start + betas.sum()) - 1) < 0.05
print(f"variance of the pixels: {start:.2f}, then {end:.1f}; sum of the doses {betas.sum():.1f}")

# %% [markdown]
# A variance of 0.5 became one of more than ten, and a longer walk would go further. That is a nuisance: a
# network that later has to undo this would see inputs of a different size at every step, and the place where
# the walk ends would depend on the picture.
#
# ## 2. The step that keeps the variance at one
#
# The remedy is to shrink the picture before each dose. By how much? Let the variance be one: a convention, but
# a handy one, as the walk can then end in the noise that everybody can draw, $\mathcal N(0, 1)$. Shrinking by
# $c$ multiplies the variance by $c^2$. If the variance is 1 and is to stay 1, then $c^2 \cdot 1 + \beta_t = 1$,
# which leaves no choice: $c = \sqrt{1 - \beta_t}$. This is the forward step, as a density and as a draw:
#
# $$ q(x_t \mid x_{t-1}) = \mathcal N\!\left(x_t;\ \sqrt{1-\beta_t}\; x_{t-1},\ \beta_t I\right), \qquad
# x_t = \sqrt{1-\beta_t}\; x_{t-1} + \sqrt{\beta_t}\; z_t \tag{2.1} $$
#
# Read it so: $\mathcal N(x; m, v)$ is the density, at $x$, of the normal distribution with mean $m$ and variance
# $v$. *Given* $x_{t-1}$, the next state $x_t$ is normal, with mean $\sqrt{1-\beta_t}\,x_{t-1}$ and covariance
# $\beta_t I$ ($I$ is the identity matrix: every pixel gets its own noise). $q$ is the customary letter for
# everything on the way from data to noise. The step looks only at $x_{t-1}$, not at what came before: a *Markov
# chain*. So the density of a whole walk is a product, $q(x_1 \mid x_0)\, q(x_2 \mid x_1) \cdots q(x_T \mid
# x_{T-1})$, which chapter 04 writes as (4.3).
#
# The right half of (2.1) says how to draw: a fixed function of what we have and of standard noise. This way of
# writing a random thing is called *reparameterisation*, and it is one line of code:

# %%
def forward_step(x, beta, generator):
    return (1 - beta).sqrt() * x + beta.sqrt() * torch.randn(x.shape, generator=generator)


# %% [markdown]
# *Predict: same doses, same random numbers. How will the two ends differ?*

# %%
shrunk = walk(forward_step, pictures, betas)  # (1001, 8, 1, 32, 32)

# %%
frames = [
    plot.images(torch.cat([piled[k, :1], shrunk[k, :1]]), titles=[f"piled {k}", f"shrunk {k}"],
                alt="Two boots dissolve in noise: the piled-up one ends in hard black and white.")
    for k in range(0, 1001, 100)
]
widgets.film(frames, ms=300)

# %% [markdown]
# The left boot ends in hard black and white: most of its values have left the range that a screen can show.
# The right one ends in mild grey noise. The variances say it in numbers:

# %%
plot.curves(
    torch.arange(1001),
    {"piled up": piled.flatten(1).var(1), "shrunk first (2.1)": shrunk.flatten(1).var(1)},
    alt="The variance of the piled-up pixels climbs to ten; with shrinking it settles at one.",
    xlabel="step", ylabel="variance of the pixels",
)

# %% [markdown]
# The lower curve settles at one although our pictures began at 0.5. No accident: (2.1) turns a variance $V$
# into $(1-\beta_t) V + \beta_t$, so the distance to one, $V - 1$, is multiplied by $1-\beta_t$ in each step,
# and dies out.

# %%
variance = start.double()
for beta in betas:
    variance = (1 - beta) * variance + beta

# %%
assert abs(variance - 1) < 1e-3 and abs(shrunk[-1].var() - 1) < 0.05
print(f"variance after 1000 steps: {variance:.3f} by the rule, {shrunk[-1].var():.2f} in the walk")

# %% [markdown]
# And the mean? It is only ever shrunk. After many steps every picture is the same thing: mean 0, variance 1,
# no picture.
#
# No picture? For the piled-up pixels that was not true, however wild they look. One number tells: the correlation
# of the last state with the clean picture, pixel by pixel. Between things that have nothing to do with each
# other it is 0, give or take $1/\sqrt{1024} = 1/32$.
#
# *Predict: same doses, same noise. How much of the picture is left at the two ends?*

# %%
def correlation(x, y):
    """Of the pixels of each picture with those of its partner: (B,)."""
    x, y = (z.flatten(1) - z.flatten(1).mean(1, keepdim=True) for z in (x, y))
    return torch.nn.functional.cosine_similarity(x, y)


# %%
found = {"piled up": correlation(piled[-1], pictures), "shrunk first": correlation(shrunk[-1], pictures)}
assert found["piled up"].mean() > 5 / 32 and found["shrunk first"].abs().max() < 3 / 32
for name, each in found.items():
    print(f"{name}: {each.mean():.2f} on average, from {each.min():.2f} to {each.max():.2f}")

# %%
blocks = torch.nn.functional.avg_pool2d(torch.cat([pictures, piled[-1], shrunk[-1]]), 4)  # (24, 1, 8, 8)
titles = ["clean"] * 8 + ["piled 1000"] * 8 + ["shrunk 1000"] * 8
plot.images(blocks, columns=8, titles=titles,
            alt="Averaged over blocks: the clean clothes; the piled-up ones, coarse but there; the shrunk ones, gone.")

# %% [markdown]
# Averaged over blocks of 4 by 4 pixels, which weakens the noise and spares the picture, the piled-up clothes come
# back. The shrunk ones do not. So it is the shrinking that destroys, more than the noise. Piling up leaves the
# picture at strength one, under noise of variance 10, standard deviation 3.2: the noise grows like a *sum*.
# Shrinking first leaves the noise at one and *multiplies* the picture, a thousand times, by a little less than
# one, and a product falls exponentially: as $1 - \beta \approx e^{-\beta}$ for small $\beta$, to about
# $e^{-\sum_t \beta_t / 2} = e^{-5}$.

# %%
kept = (1 - betas).sqrt().prod()
assert abs(kept / torch.exp(-betas.sum() / 2) - 1) < 0.05
print(f"noise to picture, in amplitude: {betas.sum().sqrt():.1f} piled up, {1 / kept:.0f} shrunk first")

# %% [markdown]
# ## 3. Two doses make one
#
# A thousand random draws to noise one picture once: training would be hopelessly slow. The way out is a small
# theorem. If $z_1$ and $z_2$ are independent and standard normal, then for any numbers $a$ and $b$
#
# $$ a z_1 + b z_2 \ \sim\ \mathcal N(0,\ a^2 + b^2) \tag{2.2} $$
#
# That the variances add is true of any independent variables. The surprise is the $\mathcal N$: the sum is
# again *exactly* normal.
#
# **Proof.** The pair $(z_1, z_2)$ is a random point of the plane, with the density
#
# $$ \tfrac{1}{\sqrt{2\pi}} e^{-z_1^2/2}\; \tfrac{1}{\sqrt{2\pi}} e^{-z_2^2/2}
# = \tfrac{1}{2\pi}\, e^{-(z_1^2 + z_2^2)/2} . $$
#
# It depends only on the distance from the origin: the cloud is round, and looks the same however we turn the
# plane. So turn it until the direction $(a, b)/\sqrt{a^2+b^2}$ is the first axis. The new first coordinate is
# $(a z_1 + b z_2)/\sqrt{a^2+b^2}$, and as the cloud looks the same it is standard normal, like the old one.
# Multiply by $\sqrt{a^2+b^2}$. $\blacksquare$
#
# For pictures, apply it to each pixel. *Predict: with* $a = 0.8$ *and* $b = 0.5$, *what is the standard
# deviation of the sum?*

# %%
a, b = 0.8, 0.5
z1, z2 = torch.randn(2, 1_000_000, generator=torch.Generator().manual_seed(0))
merged = a * z1 + b * z2

# %%
assert abs(merged.std() - (a**2 + b**2) ** 0.5) < 3e-3
print(f"standard deviation {merged.std():.3f}, not {a + b}; (2.2) says {(a**2 + b**2) ** 0.5:.3f}")

# %% [markdown]
# The simulation checks the variance. For the shape there is a sharper test. A sum of independent $X$ and $Y$ is
# $u$ if $X$ is some $v$ and $Y$ the rest, so its density is the *convolution*
# $p_{X+Y}(u) = \int p_X(v)\, p_Y(u - v)\, dv$, an integral that we can do on a fine grid, without any random
# number.

# %%
grid = torch.linspace(-6, 6, 2401, dtype=torch.float64)


def density(std):
    return torch.distributions.Normal(0.0, std).log_prob(grid).exp()


# %%
def convolve(p, q):
    spacing = grid[1] - grid[0]
    return torch.nn.functional.conv1d(p[None, None], q.flip(0)[None, None], padding=1200)[0, 0] * spacing


# %%
by_integral = convolve(density(a), density(b))
assert (by_integral - density((a**2 + b**2) ** 0.5)).abs().max() < 1e-6
print("the convolution is the normal density of (2.2), to 1e-6 everywhere")

# %% [markdown]
# Is that special to the normal? Take box-shaped (uniform) noise instead, of variance one too.
#
# *Predict: what shape have two doses of it, what shape three?*

# %%
box = (grid.abs() < 3**0.5).double() / 12**0.5
two_boxes = convolve(box, box)
doses = {"one dose of box noise": box, "two doses": two_boxes, "three doses": convolve(two_boxes, box)}
plot.curves(grid, {**doses, "three Gaussian doses": density(3**0.5)}, xlabel="value", ylabel="density",
            alt="One box dose is a rectangle, two are a triangle, three nearly the bell of three Gaussian doses.")

# %%
misfits = [float((p - density(n**0.5)).abs().max()) for n, p in enumerate(doses.values(), start=1)]
assert misfits[0] > 5 * misfits[1] and misfits[1] > misfits[2] > 0.01
print("largest misfit with the bell of the same variance:", ", ".join(f"{m:.3f}" for m in misfits))

# %% [markdown]
# Two boxes make a triangle, three nearly a bell: that is the central limit theorem, and with many small doses of
# box noise the end of the walk would look Gaussian too. What only the Gaussian gives is that it is *exact*. Of
# all noises of finite variance it alone keeps its shape in a sum, so one formula holds after one dose, after
# two, after a thousand; and in chapter 03 the way back will have an exact formula as well.
#
# ## 4. A thousand steps in one jump
#
# Two abbreviations that every paper uses, and a claim: for *every* $t$, with a single standard normal $\epsilon$,
#
# $$ \begin{gathered}
# \alpha_t = 1 - \beta_t, \qquad
# \bar\alpha_t = \alpha_1\,\alpha_2 \cdots \alpha_t = \prod_{i=1}^{t} (1 - \beta_i), \\
# x_t = \sqrt{\bar\alpha_t}\; x_0 + \sqrt{1-\bar\alpha_t}\;\epsilon, \qquad
# q(x_t \mid x_0) = \mathcal N\!\left(x_t;\ \sqrt{\bar\alpha_t}\; x_0,\ (1-\bar\alpha_t) I\right)
# \end{gathered} \tag{2.3} $$
#
# $\bar\alpha_t$ ("alpha-bar") is the share of the picture's variance that survives $t$ shrinkings;
# $\bar\alpha_0 = 1$. The second line is one statement in two forms, a draw and its density.
#
# **Proof, by induction.** For $t = 1$ it is the step (2.1). Suppose it holds for $t-1$, with noise
# $\epsilon'$. One more step, with fresh noise $z_t$, gives
#
# $$ x_t = \sqrt{\alpha_t}\,x_{t-1} + \sqrt{1-\alpha_t}\,z_t
# = \sqrt{\alpha_t \bar\alpha_{t-1}}\; x_0
# + \underbrace{\sqrt{\alpha_t(1-\bar\alpha_{t-1})}\;\epsilon'
# + \sqrt{1-\alpha_t}\;z_t}_{\text{two independent doses}}. $$
#
# The first factor is $\sqrt{\bar\alpha_t}$. By (2.2) the two doses are one, of variance
# $\alpha_t - \alpha_t\bar\alpha_{t-1} + 1 - \alpha_t = 1 - \bar\alpha_t$. $\blacksquare$

# %%
alpha_bar = (1 - betas).cumprod(0)  # (1000,): alpha_bar[k - 1] belongs to step k


def jump(x0, eps, k):
    return alpha_bar[k - 1].sqrt() * x0 + (1 - alpha_bar[k - 1]).sqrt() * eps


# %% [markdown]
# The first check is brute force on the two coefficients, at all 1,000 steps: a step multiplies the signal's
# factor by $\sqrt{1-\beta}$ and turns the noise's variance $v$ into $(1-\beta)v + \beta$.

# %%
signal, noise_variance = 1.0, 0.0
for k, beta in enumerate(betas, start=1):
    signal, noise_variance = (1 - beta).sqrt() * signal, (1 - beta) * noise_variance + beta
    assert abs(signal - alpha_bar[k - 1].sqrt()) < 1e-12
    assert abs(noise_variance - (1 - alpha_bar[k - 1])) < 1e-12
print("both coefficients of (2.3) are those of the walk, at all 1,000 steps")

# %% [markdown]
# The second check is the real walk. 10,000 "pictures" of a single pixel all start at $x_0 = 2$ and take every
# step.
#
# *Predict: two numbers describe the whole cloud at step 250. Which?*

# %%
cloud = walk(forward_step, torch.full((10_000,), 2.0), betas)  # (1001, 10000)

# %%
alt = "Histograms of the walk at steps 50, 250 and 1000, under the bell curves of one jump."
picture, axes = plot.figure(alt, 3, width=9.0)
for ax, k in zip(axes, [50, 250, 1000], strict=True):
    m, s = float(jump(2.0, 0.0, k)), float((1 - alpha_bar[k - 1]).sqrt())
    ax.hist(cloud[k].numpy(), bins=60, density=True, alpha=0.4, label="the walk")
    ax.plot(grid, torch.distributions.Normal(m, s).log_prob(grid).exp(), label="one jump (2.3)")
    ax.set(xlim=(-4, 4), title=f"step {k}", xlabel="pixel value")
axes[0].legend(loc="upper left")
picture

# %% [markdown]
# Bars from up to a thousand steps, curves from one line: the same. By eye is not enough; here are mean and
# variance, and the greatest gap between the walk's cumulative distribution and the exact one (the
# Kolmogorov-Smirnov distance; with 10,000 points, chance alone keeps it under 0.0163 in 99 of 100 cases).

# %%
def gap(sample, mean, std):
    ranks = (torch.arange(len(sample)) + 0.5) / len(sample)
    return (torch.distributions.Normal(mean, std).cdf(sample.sort().values) - ranks).abs().max()


# %%
for k in [50, 250, 1000]:
    m, s = float(jump(2.0, 0.0, k)), float((1 - alpha_bar[k - 1]).sqrt())
    assert abs(cloud[k].mean() - m) < 0.03 and abs(cloud[k].std() - s) < 0.03
    assert gap(cloud[k], m, s) < 0.0163
    print(f"step {k:4}: mean {cloud[k].mean():.2f} and {m:.2f}, standard deviation {cloud[k].std():.2f} and {s:.2f}")

# %% [markdown]
# And a walk with box noise? Its first step fails the test. After fifty steps the test is content, as section 3
# said it would be. But "nearly" is all that box noise can ever be.

# %%
def box_step(x, beta, generator):
    return (1 - beta).sqrt() * x + (12 * beta).sqrt() * (torch.rand(x.shape, generator=generator) - 0.5)


boxed = walk(box_step, torch.full((10_000,), 2.0), betas[:50])  # (51, 10000)

# %%
gaps = {k: gap(boxed[k], float(jump(2.0, 0.0, k)), float((1 - alpha_bar[k - 1]).sqrt())) for k in [1, 50]}
assert gaps[50] < 0.0163 < gaps[1]
print(f"distance to (2.3) with box noise: {gaps[1]:.3f} after one step, {gaps[50]:.3f} after 50")

# %% [markdown]
# **Whose** $\epsilon$**?** It stands for all the noise so far, merged into one. So the $\epsilon$ of step $t$ is
# not the $\epsilon$ of step $t - 1$. By the proof above it is a mixture of the old one and the fresh $z_t$, and
# the two are correlated:
# $\epsilon_t = \sqrt{\alpha_t (1-\bar\alpha_{t-1}) / (1-\bar\alpha_t)}\; \epsilon_{t-1} + \dots\, z_t$. We
# can read it off the cloud, by solving (2.3) for $\epsilon$:

# %%
def noise_of(k):
    return (cloud[k] - jump(2.0, 0.0, k)) / (1 - alpha_bar[k - 1]).sqrt()


near, far = (torch.corrcoef(torch.stack([noise_of(250), noise_of(k)]))[0, 1] for k in [251, 500])

# %%
factor = ((1 - betas[250]) * (1 - alpha_bar[249]) / (1 - alpha_bar[250])).sqrt()  # t = 251
assert abs(near - factor) < 1e-3 and far < 0.5
print(f"correlation of the noise of step 250 with that of 251: {near:.3f}; of 500: {far:.2f}")

# %% [markdown]
# From one step to the next it is nearly the same noise, 250 steps later nearly another one. A row of pictures made
# with *one* $\epsilon$ at several times, as below, shows the noise levels, which the eye can then compare. It is
# not a walk.

# %% [markdown]
# ## 5. The course's notation
#
# Papers number the steps; networks and samplers are simpler with a clock that runs from 0 to 1 however many
# steps there are. So from here on $k$ counts steps, and $t = k/T$ is the *time*: $t = 0$ is data, $t = 1$ the
# end of the walk. What was $t$ in (2.1) to (2.3) is $k$ from here on; $x_t$ then names the state at time
# $t = k/T$, the same state. Here is the translation:
#
# $$ \boxed{\; x_t = \alpha(t)\, x_0 + \sigma(t)\, \epsilon, \qquad
# \alpha(t) = \sqrt{\bar\alpha_k}, \quad \sigma(t) = \sqrt{1 - \bar\alpha_k}, \quad t = k/T \;} \tag{2.4} $$
#
# **Beware: this** $\alpha(t)$ **is not DDPM's** $\alpha_t = 1-\beta_t$. It is the square root of alpha-bar. We need
# DDPM's $\alpha_t$ again only among the errors at the end. $\alpha(t)$ says how much *signal* is in $x_t$,
# $\sigma(t)$ how much *noise*, both in units of the pixels. Their squares sum to one, so data of variance one keep
# it: *variance-preserving* is the word.
#
# A *schedule* is a function $t \mapsto (\alpha, \sigma)$. The package makes one out of any table of doses:

# %%
schedule = FromBetas(betas)
t = torch.arange(1, 1001, dtype=torch.float64) / 1000
alpha, sigma = schedule(t)

# %%
assert torch.allclose(alpha, alpha_bar.sqrt())
assert torch.allclose(sigma, (1 - alpha_bar).sqrt())
print("FromBetas agrees with the table at all 1,000 times")

# %% [markdown]
# `add_noise` is the jump in this notation. It equals ours, and it takes one time for all pictures or a time
# for each.

# %%
eps = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(1))
for k in [1, 250, 1000]:
    x_t = add_noise(pictures, eps, k / 1000, schedule)
    assert torch.allclose(x_t, jump(pictures, eps, k).float(), atol=1e-6)

# %%
plot.show_source(add_noise)

# %% [markdown]
# (`check_same_shape` refuses pictures and noise that do not match; `match_dims` lets a batch of times multiply a batch
# of pictures.)
#
# *Predict: one boot, one noise, eight times from 0 to 1. At which time does the last trace vanish?*

# %%
eight = torch.linspace(0, 1, 8)
noisy = add_noise(pictures[[0] * 8], eps[[0] * 8], eight, schedule)
plot.images(noisy, alt="A boot at eight times; from t = 0.57 on only noise is seen.",
            titles=[f"t = {u:.2f}" for u in eight])

# %%
trace = correlation(noisy, pictures[[0] * 8])
assert trace[4] > 4 / 32 and trace[5:].max() < 3 / 32
print("correlation with the clean boot:", ", ".join(f"{r:.2f}" for r in trace))

# %% [markdown]
# For the eye at $t = 0.57$. The correlation still finds it there, well above the $1/32$ of chance, and loses it
# in what follows.
#
# Not only single pictures dissolve: so does the whole *distribution*. Each point below is a "picture" of two
# pixels, and the 4,000 together form a checkerboard.

# %%
from minidiff.data.toy import checkerboard

points = checkerboard(4000, torch.Generator().manual_seed(0))
dust = torch.randn(points.shape, generator=torch.Generator().manual_seed(1))

# %%
clouds = {f"t = {u}": add_noise(points, dust, u, schedule) for u in [0.0, 0.1, 0.25, 1.0]}
plot.scatter(clouds, alt="A checkerboard of points blurs, loses its fields and ends as a round cloud.")

# %% [markdown]
# The fine structure goes first, the coarse later, and at $t = 1$ a round Gaussian cloud is left that has
# forgotten what it was made of. Generating means walking this road backwards, which is the subject of chapter
# 03.
#
# ## 6. From any time to any later time
#
# Sampling will need steps between two arbitrary times $s < t$. Between them lies a shorter walk, so (2.3)
# applies to it too: $x_t = \alpha_{ts}\, x_s + \sigma_{ts}\, \epsilon'$ with fresh noise $\epsilon'$ and two
# numbers yet to be found. Insert $x_s = \alpha(s)\,x_0 + \sigma(s)\,\epsilon$:
#
# $$ x_t = \alpha_{ts}\,\alpha(s)\; x_0
# + \underbrace{\alpha_{ts}\,\sigma(s)\;\epsilon + \sigma_{ts}\;\epsilon'}_{\text{two independent doses}} . $$
#
# The factor of $x_0$ must be $\alpha(t)$, and by (2.2) the doses are one, of variance
# $\alpha_{ts}^2\,\sigma(s)^2 + \sigma_{ts}^2$, which must be $\sigma(t)^2$. Solved for the two numbers:
#
# $$ q(x_t \mid x_s) = \mathcal N\!\left(x_t;\ \alpha_{ts}\, x_s,\ \sigma_{ts}^2 I\right), \qquad
# \alpha_{ts} = \frac{\alpha(t)}{\alpha(s)}, \qquad
# \sigma_{ts}^2 = \sigma(t)^2 - \alpha_{ts}^2\,\sigma(s)^2 \tag{2.5} $$

# %%
def bridge(s, t, schedule):
    (alpha_s, sigma_s), (alpha_t, sigma_t) = schedule(s), schedule(t)
    alpha_ts = alpha_t / alpha_s
    return alpha_ts, (sigma_t**2 - alpha_ts**2 * sigma_s**2).sqrt()


# %% [markdown]
# With $s$ and $t$ one step apart this must be the step that we began with.

# %%
alpha_ts, sigma_ts = bridge(t - 0.001, t, schedule)
assert torch.allclose(alpha_ts, (1 - betas).sqrt()) and torch.allclose(sigma_ts, betas.sqrt())
print("bridges of one step are (2.1), at all 1,000 steps")

# %% [markdown]
# And who stops on the way, from $x_0$ to $x_s$ and from there to $x_t$, must end up like one who jumps at once. We
# let 200,000 pixels do it, on our schedule and on two that section 9 introduces: `Cosine`, a quarter circle
# $(\cos\frac{\pi t}{2}, \sin\frac{\pi t}{2})$, and `Flow`, the straight line $(1 - t, t)$.

# %%
from minidiff import Cosine, Flow, transition


def stop_on_the_way(x0, s, t, schedule):
    first, second = torch.randn(2, len(x0), generator=torch.Generator().manual_seed(3))
    alpha_ts, sigma_ts = bridge(s, t, schedule)
    return alpha_ts * add_noise(x0, first, s, schedule) + sigma_ts * second


# %%
for each in (schedule, Cosine(), Flow()):
    x_t, (alpha_t, sigma_t) = stop_on_the_way(torch.full((200_000,), 2.0), 0.2, 0.5, each), each(0.5)
    assert abs(x_t.mean() - 2 * alpha_t) < 0.01 and abs(x_t.std() - sigma_t) < 0.01
    print(f"mean {x_t.mean():.2f}, direct {2 * alpha_t:.2f}; standard deviation {x_t.std():.2f}, direct {sigma_t:.2f}")

# %% [markdown]
# The package's `transition` is the same formula. When $s$ is close to $t$, (2.5) subtracts two nearly equal numbers,
# so `transition` computes it as $\sigma_{ts}^2 = \sigma(t)^2\,(1 - e^{u})$, where $u$ is the change from $s$ to $t$
# of `log_snr`, $\log(\alpha^2/\sigma^2)$ (the next section), and `expm1` gives $e^u - 1$ without loss of digits. On
# any schedule, at any pair of times, the two agree:

# %%
for each in (schedule, Cosine(), Flow()):
    pairs = torch.rand(2, 1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    early, late = pairs.sort(0).values
    for ours, package in zip(bridge(early, late, each), transition(early, late, each), strict=True):
        assert torch.allclose(ours, package, rtol=1e-5)
print("bridge and transition agree")

# %%
plot.show_source(transition)

# %% [markdown]
# ## 7. Signal-to-noise ratio
#
# Time is a label that we chose. What a picture at time $t$ has really left is measured by the *signal-to-noise
# ratio*, SNR: the signal's variance over the noise's (by convention the data count as having variance one), best
# seen as a logarithm:
#
# $$ \log \mathrm{SNR}(t) = \log \frac{\alpha(t)^2}{\sigma(t)^2} \tag{2.6} $$
#
# Zero means as much signal as noise; +2.3 ten times more signal; -2.3 ten times more noise.

# %%
by_hand = torch.log(alpha**2 / sigma**2)
assert torch.allclose(by_hand, schedule.log_snr(t), atol=1e-9) and (by_hand.diff() < 0).all()
print(f"log SNR falls all the way, from {by_hand[0]:.2f} to {by_hand[-1]:.1f}")

# %% [markdown]
# It can only fall: noise, once in, does not come out. *Predict: at which of DDPM's 1,000 steps are signal and
# noise equal?*

# %%
crossing = int((by_hand >= 0).sum()) + 1
print(f"from step {crossing} on there is more noise than signal")

# %% [markdown]
# Already after a quarter of the walk! And three quarters of the steps go to pictures in which noise
# dominates. Is that a good use of them? It is up to the table of doses.
#
# SNR also settles section 1. Piling up ended with a picture of variance one under noise of variance 10:

# %%
same = int((by_hand > torch.log(1 / betas.sum())).sum()) + 1
assert 450 < same < 520
print(f"1000 steps of piling up are as noisy as {same} steps of (2.1)")

# %% [markdown]
# ## 8. Four schedules
#
# Tables in use, for $k = 1, \dots, T$. **Linear** (Ho et al. 2020) runs evenly from $\beta_1 = 10^{-4}$ to
# $\beta_T = 0.02$:
#
# $$ \beta_k = \beta_1 + \frac{k-1}{T-1}\,(\beta_T - \beta_1) \tag{2.7} $$
#
# **Scaled linear** (Stable Diffusion, Rombach et al. 2022) is linear in the square root, from
# $\beta_1 = 0.00085$ to $\beta_T = 0.012$:
#
# $$ \sqrt{\beta_k} = \sqrt{\beta_1} + \frac{k-1}{T-1}(\sqrt{\beta_T} - \sqrt{\beta_1}) \tag{2.8} $$
#
# **Sigmoid** rises softly, with $S(u) = 1/(1+e^{-u})$: the shape of Xu et al. (2022), here with the ends of (2.7);
# their code has $10^{-7}$ and 0.002, for 5,000 steps:
#
# $$ \beta_k = \beta_1 + (\beta_T - \beta_1)\; S\!\left(-6 + 12\,\tfrac{k-1}{T-1}\right) \tag{2.9} $$

# %%
from minidiff import cosine_betas, scaled_linear_betas, sigmoid_betas

T = 1000
tables = {"linear": linear_betas, "scaled linear": scaled_linear_betas}
tables |= {"sigmoid": sigmoid_betas, "cosine": cosine_betas}
u = torch.arange(T, dtype=torch.float64) / (T - 1)  # (k - 1) / (T - 1)

# %%
assert torch.allclose(linear_betas(T), 1e-4 + u * (0.02 - 1e-4))
assert torch.allclose(scaled_linear_betas(T), (0.00085**0.5 + u * (0.012**0.5 - 0.00085**0.5)) ** 2)
assert torch.allclose(sigmoid_betas(T), 1e-4 + (0.02 - 1e-4) / (1 + torch.exp(6 - 12 * u)))
print("linear_betas, scaled_linear_betas and sigmoid_betas are (2.7), (2.8) and (2.9)")

# %% [markdown]
# **Cosine** (Nichol & Dhariwal 2021) goes the other way round. It decides how $\bar\alpha$ should fall, as a
# *squared* cosine, and takes the doses that achieve it:
#
# $$ \bar\alpha_k = \frac{f(k)}{f(0)}, \quad
# f(k) = \cos^2\!\left(\frac{k/T + s}{1 + s}\cdot\frac{\pi}{2}\right), \quad
# \beta_k = \min\!\left(1 - \frac{\bar\alpha_k}{\bar\alpha_{k-1}},\ 0.999\right), \quad
# s = 0.008 \tag{2.10} $$
#
# ($\bar\alpha_k$ here is what it would be without the cap.) The offset $s$ keeps the first doses from being too
# small to matter: the authors chose it so that $\sqrt{\beta_1}$ is a little less than one of the 256 grey levels,
# $1/127.5$ on our scale. The cap 0.999 keeps the last dose from being 1, which would leave nothing to divide by.

# %%
f = torch.cos((torch.arange(T + 1, dtype=torch.float64) / T + 0.008) / 1.008 * torch.pi / 2) ** 2
wanted, got = f / f[0], (1 - cosine_betas(T)).cumprod(0)
assert 0.5 < cosine_betas(T)[0].sqrt() * 127.5 < 1

# %%
assert torch.allclose(got[:-1], wanted[1:-1], rtol=1e-9) and (cosine_betas(T) == 0.999).sum() == 1
print("alpha-bar of cosine_betas is f(k) / f(0); the cap touches only the last step")

# %% [markdown]
# Who types a formula twice makes the same mistake twice. So here is an outside witness: $\bar\alpha_{500}$ of the
# same four tables in another library (`diffusers` 0.42).

# %%
elsewhere = {"linear": 0.07859, "scaled linear": 0.27767, "sigmoid": 0.30193, "cosine": 0.49384}
for name, table in tables.items():
    assert abs((1 - table(T)[:500]).prod() - elsewhere[name]) < 6e-6
print("all four tables agree with diffusers, to five decimals")

# %% [markdown]
# *Predict: which of the four keeps the picture longest?*

# %%
schedules = {name: FromBetas(table(1000)) for name, table in tables.items()}

# %%
alt = "Alpha-bar and log SNR of four schedules. First sigmoid is on top, then cosine; cosine plunges at the very end."
picture, (left, right) = plot.figure(alt, 2, width=9.0)
for name, each in schedules.items():
    left.plot(t, each(t)[0] ** 2, label=name)
    right.plot(t, each.log_snr(t), label=name)
left.set(xlabel="t", ylabel="alpha-bar")
right.set(xlabel="t", ylabel="log SNR", ylim=(-21, 11))
left.legend()
picture

# %%
noisy_from = {name: int((each.log_snr(t) >= 0).sum()) + 1 for name, each in schedules.items()}
on_top = torch.stack([each(t)[0] for each in schedules.values()]).argmax(0)  # (1000,): 2 is sigmoid, 3 cosine
assert (on_top[60:375] == 2).all() and (on_top[385:930] == 3).all() and on_top[-1] == 1
assert max(noisy_from, key=noisy_from.get) == "cosine" and schedules["linear"](0.6)[0] ** 2 < 0.03
print("more noise than signal from step:", noisy_from)

# %% [markdown]
# It depends on what you call keeping. The last to have more signal than noise is cosine, until halfway through the
# walk. Before $t = 0.38$ sigmoid keeps more; and in the last steps scaled linear does, which never lets go: right,
# its log SNR stops at -5.4, and section 10 shows what that costs. Cosine goes straight through the middle and
# plunges to -20 in the end; linear drops fast and has less than 3 % of the variance left from $t = 0.6$ on. The
# same boot, with the same noise, at the same times:

# %%
six = torch.tensor([0.1, 0.25, 0.4, 0.55, 0.7, 0.85])
rows = [add_noise(pictures[[0] * 6], eps[[0] * 6], six, each) for each in schedules.values()]
titles = [f"{name.split()[0]} {u:.2f}" for name in schedules for u in six]

# %%
plot.images(
    torch.cat(rows), columns=6, titles=titles,
    alt="Four rows of a boot at six times. It fades first with linear, then with scaled linear, last with cosine.",
)

# %% [markdown]
# Now try it yourself. Drag $t$ and change the schedule; watch the dot on the curve and the pictures together.
# Look for two schedules and two times with the *same* log SNR: the pictures are then the same, pixel for
# pixel, because log SNR fixes $\alpha/\sigma$, and $\alpha^2 + \sigma^2 = 1$ the rest. For variance-preserving
# schedules time is only a label.

# %%
import ipywidgets

many = torch.linspace(0.005, 1, 200)


def draw(name, t):
    each = schedules[name]
    alt = f"The {name} schedule at t = {t:.2f}: its log SNR, and three noisy pictures."
    figure, (left, right) = plot.figure(alt, 2, width=8.0)
    left.plot(many, each.log_snr(many))
    left.plot([t], [each.log_snr(t)], "o", markersize=9)
    left.set(xlabel="t", ylabel="log SNR", ylim=(-20, 12), title=f"log SNR = {each.log_snr(t):.1f}")
    x_t = add_noise(pictures[:3], eps[:3], t, each).clamp(-1, 1)  # (3, 1, 32, 32)
    right.imshow(x_t.squeeze(1).permute(1, 0, 2).flatten(1), cmap="gray", vmin=-1, vmax=1)  # (32, 96)
    right.set_title(f"three pictures at t = {t:.2f}")
    right.set_axis_off()
    return figure


# %%
choice = ipywidgets.Dropdown(options=list(schedules), description="schedule")
slider = ipywidgets.FloatSlider(0.25, min=0.01, max=1.0, step=0.01, description="t", continuous_update=False)
_ = widgets.explore(draw, name=choice, t=slider)

# %% [markdown]
# The first picture shows the linear schedule at $t = 0.25$, close to log SNR 0: signal and noise in balance,
# and the eye still wins. The claim about equal log SNR can be checked. Find by bisection the cosine time that
# matches linear's $t = 0.25$:

# %%
low, high = 0.001, 0.999
for _ in range(50):
    middle = (low + high) / 2
    too_clean = schedules["cosine"].log_snr(middle) > schedules["linear"].log_snr(0.25)
    low, high = (middle, high) if too_clean else (low, middle)

# %%
twins = [add_noise(pictures, eps, u, schedules[name]) for name, u in [("linear", 0.25), ("cosine", middle)]]
assert torch.allclose(*twins, atol=1e-5)
print(f"linear at t = 0.25 and cosine at t = {middle:.2f} give the same pictures")

# %% [markdown]
# ## 9. Continuous time
#
# What if $T$ grows without end? Doses of a fixed size would leave nothing, so let each step last $1/T$ and fix the
# *rate* of noise, the dose per time, $\beta(t) = T\beta_k$ at $t = k/T$. (Beware: $\beta_k$ and $\beta(t)$ differ
# by the factor $T$.) The logarithm turns the product $\bar\alpha_k = \prod_i (1-\beta_i)$ into a sum, and small
# doses obey $\log(1-\beta) \approx -\beta$:
# $\log\bar\alpha_k \approx -\sum_i \beta_i = -\sum_i \beta(i/T)\,\tfrac1T$, which is a Riemann sum. So in the
# limit
#
# $$ \alpha(t)^2 = \bar\alpha(t) = \exp\!\left(-\int_0^t \beta(u)\, du\right) \tag{2.11} $$
#
# Read the other way, (2.11) makes any finite table into a continuous schedule without an error: hold the rate
# constant at $-T\log(1-\beta_k)$ during step $k$. That is `FromBetas`. It meets the table at every $t = k/T$
# (section 5), and halfway between it must give the geometric mean of its neighbours:

# %%
few = FromBetas(linear_betas(10, 0.05, 0.3))
before, between, after = (few(u)[0] ** 2 for u in (0.3, 0.35, 0.4))
assert torch.isclose(between, (before * after).sqrt())
print(f"alpha-bar at step 3, half a step later, at step 4: {before:.3f}, {between:.3f}, {after:.3f}")

# %% [markdown]
# DDPM's doses, $10^{-4}$ to 0.02 in 1,000 steps, are rates from 0.1 to 20. As a formula,
#
# $$ \beta(t) = \beta_{\min} + t\,(\beta_{\max} - \beta_{\min}), \qquad
# \alpha(t)^2 = \exp\left(-\beta_{\min} t - \tfrac12 (\beta_{\max} - \beta_{\min}) t^2\right) \tag{2.12} $$
#
# and the package calls it `LinearBeta`. First check: do the integral by machine, with the trapezoid rule.

# %%
from minidiff import LinearBeta, VarianceExploding

fine = torch.linspace(0, 1, 10_001, dtype=torch.float64)
rate = 0.1 + 19.9 * fine  # beta(t) from 0.1 to 20

# %%
by_integral = torch.exp(-torch.cumulative_trapezoid(rate, fine))  # (10000,)
assert torch.allclose(LinearBeta()(fine[1:])[0] ** 2, by_integral, atol=1e-8)
print("LinearBeta is (2.11) with the rate of (2.12)")

# %% [markdown]
# Second check: tables of $T$ steps with the same rates must come closer as $T$ grows. *Predict: how much
# closer, for ten times the steps?*

# %%
far = []
for n in [100, 1000, 10_000]:
    times_of_table = torch.arange(1, n + 1, dtype=torch.float64) / n
    table = FromBetas(torch.linspace(0.1, 20, n, dtype=torch.float64) / n)
    difference = table(times_of_table)[0] - LinearBeta()(times_of_table)[0]
    far.append(float(difference.abs().max()))

# %%
assert all(9 < before / after < 11 for before, after in zip(far, far[1:], strict=False))
print("largest difference in alpha:", ", ".join(f"{d:.1e}" for d in far))

# %% [markdown]
# Ten times closer. At $T = 1000$ table and formula differ by a thousandth: DDPM's thousand steps were already
# the limit, for all practical purposes. Nor is a table needed at all; any falling curve makes a schedule. The
# four of the package:
#
# | schedule | $\alpha(t)$ | $\sigma(t)$ | at $t = 1$ | used by |
# |---|---|---|---|---|
# | `LinearBeta()` | (2.12) | $\sqrt{1-\alpha^2}$ | $\alpha = 0.0066$ | DDPM, score SDEs |
# | `Cosine()` | $\cos(\pi t/2)$ | $\sin(\pi t/2)$ | $\alpha = 0$ exactly | most of this course |
# | `Flow()` | $1 - t$ | $t$ | $\alpha = 0$ exactly | flow matching |
# | `VarianceExploding()` | 1 | $0.01\,\sqrt{5000^{2t} - 1}$ | $\alpha = 1$, noise 50 | early score models |
#
# `Cosine()` is (2.10) without offset and cap. Its squares sum to one at all times: $(\alpha, \sigma)$ runs
# along a quarter circle. `VarianceExploding` is the piling up of section 1, which can work after all: not by
# keeping the variance, but by letting the noise grow until it dwarfs the data (and by dividing before the
# network looks). Its $\sigma$ grows from 0 to 50, by the same factor in equal times once it is well above 0.01.

# %%
no_offset = FromBetas(cosine_betas(1000, s=0))(t[:-1])  # the last step is capped
assert torch.allclose(torch.stack(no_offset), torch.stack(Cosine()(t[:-1])), atol=1e-12)
assert torch.allclose(VarianceExploding()(fine)[1], 0.01 * (5000 ** (2 * fine) - 1).sqrt())
print("Cosine() is cosine_betas without offset and cap")

# %%
alt = "Paths in the plane of alpha and sigma, with dots at ten equal steps of time: a quarter circle, and its chord."
picture, (ax,) = plot.figure(alt, width=4.6, height=4.0)
for each, style, size in [(LinearBeta(), "o-", 9), (Cosine(), "o--", 4), (Flow(), "o-", 4)]:
    ax.plot(*each(fine), style, markevery=1000, markersize=size, label=type(each).__name__)
ax.set(xlabel="alpha (signal)", ylabel="sigma (noise)", aspect="equal")
ax.legend()
picture

# %% [markdown]
# Data at the lower right, noise at the upper left, a dot at each tenth of the time. The variance-preserving
# schedules lie on the circle, one on top of the other, and differ only in speed: `Cosine` keeps an even pace,
# `LinearBeta` is soon up and then crawls. `Flow` takes the chord, where the variance dips in the middle. Checked:

# %%
for each in (LinearBeta(), Cosine(), schedule):
    alpha, sigma = each(fine)
    assert torch.allclose(alpha**2 + sigma**2, torch.ones_like(fine))
assert sum(Flow()(0.5)) == 1 and VarianceExploding()(0.7)[0] == 1 and Cosine()(1.0)[0] == 0
print("on the circle: LinearBeta, Cosine, FromBetas. On the chord: Flow")

# %% [markdown]
# ## 10. Is the end of the walk really noise?
#
# To generate, one starts from pure noise, $\mathcal N(0, I)$, and goes back. That is sound only if the walk's end
# *is* pure noise, that is, if $\alpha(1) = \sqrt{\bar\alpha_T}$ is practically zero. In terms of (2.6), the same must
# hold for the *terminal SNR*:
#
# $$ \mathrm{SNR}(1) = \frac{\alpha(1)^2}{\sigma(1)^2} = \frac{\bar\alpha_T}{1 - \bar\alpha_T} \tag{2.13} $$
#
# Here are the doses of eight public codes and tutorials. Half of them kept DDPM's end values, $10^{-4}$ and 0.02, but
# not its thousand steps.
#
# *Predict: DDPM's end values with 200 steps in place of 1,000. What share of the signal is left?*

# %%
tutorials = {
    "DDPM paper, linear, T = 1000": (linear_betas(1000), 0.006),
    "Stable Diffusion, scaled linear, T = 1000": (scaled_linear_betas(1000), 0.068),
    "DeepLearning.AI course, linear, T = 500": (linear_betas(500), 0.080),
    "TeaPearce MNIST, linear, T = 400": (linear_betas(400), 0.132),
    "EngiOpt, linear, T = 250": (linear_betas(250), 0.282),
    "Annotated Diffusion (first version), linear, T = 200": (linear_betas(200), 0.364),
    "Understanding Deep Learning, constant 0.01511, T = 100": (torch.full((100,), 0.01511), 0.467),
    "ACIDS-IRCAM, sigmoid 1e-5 to 0.01, T = 100": (sigmoid_betas(100, 1e-5, 1e-2), 0.778),
}

# %%
import math

for name, (table, on_record) in tutorials.items():
    left_over = math.sqrt(math.prod(1 - float(beta) for beta in table))  # without the package
    assert abs(left_over - float(FromBetas(table)(1.0)[0])) < 1e-5
    assert abs(left_over - on_record) < 6e-4
    print(f"{left_over:.3f}  {name}")

# %% [markdown]
# All eight agree to three decimals with the figures on record. (The figure for EngiOpt is from a bug report of
# 2026 in its own repository; the others were noted in a survey of the codes. Seven tables are computed from
# settings that their authors state; for the last one the ends of the sigmoid were inferred, from similar code
# and from the figure itself.)
#
# The last ends its walk with 78 % of the picture's amplitude still there: more signal than noise! What does it cost
# to start from pure noise all the same? To see this cost alone, we want a walk back without any other error. For a
# *finite* set of pictures there is one. A perfect walk back draws each state from its true distribution, given the
# one after it; so in the end it has drawn $x_0$ from its true distribution, given $x_T$. However it takes its steps,
# it is a draw from $q(x_0 \mid x_T)$: the clean picture, given the noise it became.
#
# By Bayes' rule this is
# $q(x_T \mid x_0)\, q(x_0) / q(x_T)$. All $N$ pictures $d_1, \dots, d_N$ of the set are equally likely beforehand,
# so only the first factor tells them apart, and that is a normal density (2.3), with the same constant in front for
# all. What is left is
#
# $$ q(x_0 = d_i \mid x_T) \;=\; \frac{w_i}{\sum_j w_j}, \qquad
# w_i = \exp\left(-\frac{|x_T - \alpha(1)\, d_i|^2}{2\,\sigma(1)^2}\right). $$
#
# (Exponentials divided by their sum: this is called *softmax*.)

# %%
bank, labels = clothes.tensor(slice(0, 4000)), clothes.y[:4000]


def probabilities(x_T, schedule):
    alpha, sigma = schedule(1.0)
    distance = torch.cdist(x_T.flatten(1), alpha * bank.flatten(1))  # (B, 4000)
    return (-(distance**2) / (2 * sigma**2)).softmax(1)


# %% [markdown]
# The package knows these probabilities too: `Empirical(bank).denoise` averages the pictures with them. The
# two must agree.

# %%
from minidiff import Empirical

white = torch.randn(500, 1, 32, 32, generator=torch.Generator().manual_seed(0))
memory = Empirical(bank)

# %%
average = (probabilities(white[:20], schedule) @ bank.flatten(1)).reshape(20, 1, 32, 32)
assert torch.allclose(average, memory.denoise(white[:20], 1.0, schedule), atol=1e-3)
print("the weighted averages agree")

# %% [markdown]
# Two starts for each of the eight, 500 times: pure noise, and the true end of the walk,
# $\alpha(1)\,x_0 + \sigma(1)\,\epsilon$ with real pictures. First we look at the brightness, the mean of all
# pixels: -0.56 for the data, dark on the whole.
#
# *Predict: noise has mean 0. Will the samples be too bright or too dark?*

# %%
def pick(x_T, schedule, generator):
    return torch.multinomial(probabilities(x_T, schedule), 1, generator=generator)[:, 0]  # (B,) into the bank


# %%
drawn, generator = {}, torch.Generator().manual_seed(1)
for name, (table, _) in tutorials.items():
    each = FromBetas(table)
    real = bank[torch.randint(4000, (500,), generator=generator)]
    true_end = add_noise(real, white, 1.0, each)
    drawn[name] = pick(white, each, generator), pick(true_end, each, generator)

# %%
brightness = bank.flatten(1).mean(1)  # (4000,)
error = float(brightness.std()) / 500**0.5  # the standard error of the mean of 500
signal = torch.tensor([float(FromBetas(table)(1.0)[0]) for table, _ in tutorials.values()])

# %%
alt = "Left, the signal left at the end for eight codes. Right, samples grow too bright with it."
picture, (left, right) = plot.figure(alt, 2, width=10.5)
left.barh([name.split(",")[0] for name in tutorials], signal)
left.set(xlabel="sqrt(alpha-bar) at the end")
left.invert_yaxis()
for i, label in enumerate(["from pure noise", "from the true end"]):
    right.plot(signal, [brightness[pair[i]].mean() for pair in drawn.values()], "o-", label=label)
right.axhspan(*(float(brightness.mean()) + z * error for z in (-2, 2)), color="0.85", label="the data")
right.set(xlabel="sqrt(alpha-bar) at the end", ylabel="mean brightness of 500 samples")
right.legend(loc="center right", frameon=False)
picture

# %% [markdown]
# Left, the audit. Right, the price; the grey band is where the mean of 500 real pictures falls by chance: two
# standard errors either way. (The *standard error* is the standard deviation of that mean, one picture's over
# $\sqrt{500}$.) From the true end every schedule stays with the data. From pure noise only DDPM's is safely
# there; the two with 7 and 8 % of the signal left are three standard errors too bright, little but hardly chance,
# and from there on it gets gross, the more so the more is left, *although the walk back is perfect*. No training
# can mend it. In standard errors:

# %%
def off(i):
    return float((brightness[i].mean() - brightness.mean()) / error)


too_bright = {name.split(",")[0]: (off(noise), off(end)) for name, (noise, end) in drawn.items()}

# %%
for name, (noise, end) in too_bright.items():
    print(f"{noise:5.1f} from pure noise, {end:4.1f} from the true end: {name}")
assert all(abs(end) < 3 for _, end in too_bright.values())
from_noise = [noise for noise, _ in too_bright.values()]
assert abs(from_noise[0]) < 2 < min(from_noise[1:3]) and max(from_noise[1:3]) < 5 < min(from_noise[3:])

# %% [markdown]
# And the brightness is only the symptom. Look at what was drawn, above with DDPM's doses, below with those of
# the last code:

# %%
(first, _), *_, (last, _) = drawn.values()
two_rows = bank[torch.cat([first[:12], last[:12]])]
plot.images(two_rows, columns=12, alt="Above, varied clothes and shoes. Below, one pullover again and again.")

# %%
shoe = torch.isin(labels, torch.tensor([5, 7, 9])).float()  # sandal, sneaker, ankle boot
share = {name.split(",")[0]: float(shoe[noise].mean()) for name, (noise, _) in drawn.items()}

# %%
print(*(f"{each:4.0%} shoes: {name}" for name, each in share.items()), sep="\n")
assert share["DDPM paper"] > 0.25 and share["ACIDS-IRCAM"] < 0.02
print(f"{float(shoe.mean()):4.0%} shoes: the data")

# %% [markdown]
# From pure noise, the schedules with much signal left draw hardly any shoes, and the last draws one pullover
# again and again: pure noise is read as a lightly noised picture that happens to be evenly grey, so the few
# pictures nearest to evenly grey win every time. A dark ground with a thin sandal never comes up.
#
# Real samplers take many small steps instead of one draw. Does `ddpm`, which chapter 03 derives, do better?
# Here it walks back with `Empirical` as its denoiser, from the same noise, with the doses of the 200-step
# tutorial: `times(20)` are 20 equal steps from $t = 1$ down to 0, `ddpm` yields the state after each, and `final`
# takes the last one.

# %%
from minidiff import ddpm, final, times

name = "Annotated Diffusion (first version), linear, T = 200"
each = FromBetas(tutorials[name][0])

# %%
walk_back = ddpm(lambda x, t: memory.denoise(x, t, each), white[:80], times(20), each, generator)
by_steps, by_bayes = final(walk_back).mean(), brightness[drawn[name][0]].mean()
assert abs(by_steps - by_bayes) < 3 * float(brightness.std()) / 80**0.5
assert by_steps > brightness.mean() + 0.1
print(f"brightness: {by_steps:.2f} by 20 steps, {by_bayes:.2f} by one draw; data {brightness.mean():.2f}")

# %% [markdown]
# The same mistake. It lies in the start, not in the steps.
#
# **The remedies.** Raise the doses when there are fewer steps, so that $\sum_k \beta_k$ stays what it was:
# DDPM's table rescaled to 200 steps is 0.0005 to 0.1. Or use a schedule whose $\alpha(1)$ is exactly 0, `Cosine()` or
# `Flow()` (Lin et al. 2023 mend old tables in this spirit).

# %%
mended = pick(white, FromBetas(linear_betas(200, 5e-4, 0.1)), generator)
assert abs(brightness[mended].mean() - brightness.mean()) < 3 * error
print(f"200 steps with five times the doses: {float(shoe[mended].mean()):.0%} shoes")

# %% [markdown]
# ## Errors you will meet
#
# All of these have been printed or shipped. Each takes one line, and one more line catches it. The check for
# steps: on data of mean 0 and variance 1, a thousand steps must leave mean 0 and
# variance 1.

# %%
def sound(step):
    x = torch.randn(20_000, generator=torch.Generator().manual_seed(9))
    x = walk(step, x, betas)[-1]
    return bool(abs(x.mean()) < 0.05 and abs(x.var() - 1) < 0.05)


# %%
assert sound(forward_step) and not sound(pile_up)
print("the step of (2.1) passes, piling up does not")

# %% [markdown]
# **Noise scaled by** $\beta$. A widely used course says that each step adds "noise scaled by $\beta_t$". It
# is scaled by $\sqrt{\beta_t}$; the *variance* is $\beta_t$. **Uniform noise.** One tutorial's code draws
# `rand` where it means `randn`: noise that is never negative, and lifts the mean at every step.

# %%
def scaled_by_beta(x, beta, generator):
    return (1 - beta).sqrt() * x + beta * torch.randn(x.shape, generator=generator)


def uniform(x, beta, generator):
    return (1 - beta).sqrt() * x + beta.sqrt() * torch.rand(x.shape, generator=generator)


# %%
assert not sound(scaled_by_beta) and not sound(uniform)
print("both caught: the noise dies out, the mean runs away")

# %% [markdown]
# The check for jumps: with variance-preserving coefficients, signal and noise variance must sum to one at
# *every* step.
#
# **A square root forgotten.** A course's notebook noises its training pictures with `(1 - ab_t) * noise`. **A
# square root too many.** Another course, years after the first report, writes
# $\mathcal N(\sqrt{\bar\alpha_t}\,x_0, \sqrt{1-\bar\alpha_t}\,I)$: the second argument is a variance, and the
# variance is $1-\bar\alpha_t$.

# %%
def one(signal, noise_std):
    return bool(torch.allclose(signal**2 + noise_std**2, torch.ones_like(signal)))


# %%
assert one(alpha_bar.sqrt(), (1 - alpha_bar).sqrt())
assert not one(alpha_bar.sqrt(), 1 - alpha_bar)  # root forgotten: too little noise
assert not one(alpha_bar.sqrt(), (1 - alpha_bar).sqrt().sqrt())  # root as the variance: too much
print("both caught")

# %% [markdown]
# **A product to** $T$. The course with the root too many also writes $\bar\alpha_t = \prod_{i=1}^{T}\alpha_i$. Then
# $\bar\alpha$ does not depend on $t$ at all, and every picture is equally noisy. The check: log SNR must fall at
# every step.
#
# **A cosine without its square.** A much-read post gave (2.10) without the square for a while. The check:
# halfway, the paper's curve has $\bar\alpha \approx 0.49$.

# %%
constant = (1 - betas).prod().expand(1000)
assert not (torch.log(constant / (1 - constant)).diff() < 0).all()
print("a constant alpha-bar is caught: its log SNR does not fall")

# %%
assert abs(wanted[500] - 0.49) < 0.01 and abs(wanted[500].sqrt() - 0.49) > 0.2
print(f"halfway, alpha-bar is {wanted[500]:.2f}; without the square it would be {wanted[500].sqrt():.2f}")

# %% [markdown]
# **A table off by one.** $T$ doses come from $T + 1$ values of $\bar\alpha$, the first being
# $\bar\alpha_0 = 1$: no noise. A medical-imaging library kept that first value in its cosine table, as if it
# were step 1, divided by $1 - \bar\alpha = 0$ and drew pictures full of `nan`. The check: log SNR must be
# finite from step 1 on.

# %%
shifted = wanted[:-1]  # alpha-bar_0 to alpha-bar_999, taken for steps 1 to 1000
assert torch.isinf(torch.log(shifted / (1 - shifted))[0])
assert torch.isfinite(torch.log(wanted[1:-1] / (1 - wanted[1:-1]))).all()
print("caught: at its first step the shifted table has infinite log SNR")

# %% [markdown]
# **Squares for roots.** An early version of a well-known walk-through meant its "quadratic" table to be
# (2.8), but squared the ends before squaring the line. Terminal SNR finds it at once:

# %%
squared = torch.linspace(0.0001**2, 0.02**2, 200, dtype=torch.float64) ** 2
alpha_end = float(FromBetas(squared)(1.0)[0])
assert alpha_end > 0.99
print(f"after all 200 steps the signal is still {alpha_end:.4f} of what it was")

# %% [markdown]
# ## Exercises
#
# **1. Pen.** Let $D$ be the number of pixels, and $|x|^2$ the sum of their squares. What is $E|x_t|^2$ for a
# variance-preserving schedule, given $E|x_0|^2$? Show that it stays the same at all times if and only if
# $E|x_0|^2 = D$. Clothes have $E|x_0|^2 = 0.76\,D$; what should be measured at $t = 0.3$ on `Cosine`?
#
# <details><summary>Answer</summary>
#
# Square (2.4): $|x_t|^2 = \alpha^2|x_0|^2 + 2\alpha\sigma\, x_0\cdot\epsilon + \sigma^2|\epsilon|^2$. Noise
# is independent of the data and has mean 0, so the middle term averages to 0; each of the $D$ squares in the
# last averages to 1. Hence $E|x_t|^2 = \alpha^2 E|x_0|^2 + \sigma^2 D$. With $\sigma^2 = 1 - \alpha^2$ this
# is $E|x_0|^2 + \sigma^2\,(D - E|x_0|^2)$: constant exactly when the bracket is 0, otherwise moving from
# $E|x_0|^2$ to $D$. Clothes grow a little: at $t = 0.3$ there is $\sigma^2 = \sin^2(0.15\,\pi) = 0.21$, which makes
# $0.76 + 0.21 \cdot 0.24 = 0.81$ for each pixel. What stays one is the *second moment*, and with mean 0 that is
# variance one.
#
# </details>
#
# Measured, per pixel:

# %%
everything = clothes.tensor()
specks = torch.randn(everything.shape, generator=torch.Generator().manual_seed(5))
for u in (0.0, 0.3, 0.7):
    print(f"{add_noise(everything, specks, u, Cosine()).square().mean():.2f} at t = {u}")

# %% [markdown]
# **2. Code.** From which step on is a picture too noisy? Write `first_step_at(betas, level)`, straight from the
# table of doses, for any number of steps.

# %%
import math

from minidiff.course import check


def first_step_at(betas, level):
    """betas (T,): the number, counted from 1, of the first step after which log SNR (2.6) is at or below level.

    With doses 0.3, 0.3, 0.3 log SNR is 0.85, -0.04, -0.65: step 2 for level 0, step 1 for level 1.
    """
    ### BEGIN SOLUTION
    kept = (1 - betas).cumprod(0)  # alpha-bar
    return (torch.logit(kept) > level).sum() + 1  # logit(p) = log(p / (1 - p))
    ### END SOLUTION


# %%
def by_walking(betas, level):
    signal, k = 1.0, 0
    while signal > math.exp(level) * (1 - signal):
        signal, k = signal * (1 - float(betas[k])), k + 1
    return k


cases = [(table(n), level) for table in tables.values() for n, level in ((1000, 4.0), (300, -0.5), (1000, -5.0))]
check(first_step_at, by_walking, cases,
      hint="SNR is alpha-bar over 1 - alpha-bar; which index has step 1 in the table?")

# %% [markdown]
# **3. Open.** Design a table of 200 doses that ends with a terminal SNR (2.13) below $10^{-4}$ and leaves log SNR
# above 6 after step 1, so that fine detail is not lost at once. (a) Make the largest fall of log SNR in one
# step as small as you can; below 0.08 you are nearly there. Go the way of (2.10): first decide on the curve, then
# compute the doses. What shape do you arrive at, and which table of section 8 looks most like it?
# (b) Is that a *good* table? Look at a boot along the way, and at its `correlation` with the clean one. Say in one
# number what you would want of a good table, add it to `judge`, and design for it. Does another table win now?

# %%
def judge(betas):
    log_snr = FromBetas(betas).log_snr(torch.arange(1, 201, dtype=torch.float64) / 200)
    return {"terminal SNR": log_snr[-1].exp(), "largest fall": -log_snr.diff().min(), "after step 1": log_snr[0]}


print({name: f"{value:.2g}" for name, value in judge(linear_betas(200, 5e-4, 0.1)).items()})

# %% [markdown]
# ## What to keep
#
# - One forward step shrinks by $\sqrt{1-\beta}$ and adds noise of *variance* $\beta$ (2.1); the two belong
#   together, or the variance drifts. It is the shrinking that makes the picture vanish.
# - Gaussian doses merge exactly (2.2), so any number of steps is one jump:
#   $x_t = \alpha(t)\,x_0 + \sigma(t)\,\epsilon$ (2.3, 2.4).
# - $\alpha(t) = \sqrt{\bar\alpha}$ in this course; DDPM's own $\alpha_t = 1-\beta_t$ is another thing.
#   Squares are variances.
# - Between two times the same holds, with $\alpha_{ts}$ and $\sigma_{ts}$ (2.5): chapter 03 turns it around.
# - Log SNR (2.6) is what a picture has left; a schedule only says when (2.7 to 2.12).
# - Look at $\sqrt{\bar\alpha_T}$ (2.13) before you trust a sampler that starts from pure noise. If it is not near
#   0, change the doses.
#
# Next: [03 · Reverse diffusion](03_reverse_diffusion.ipynb), the way back.
