# %% [markdown]
# # 08 · Sampling
#
# **The same denoiser, many ways to walk from noise to a picture: which walk, how many steps, and what goes wrong?**
# Training decides what a network knows. Everything after that, how fast it draws, how sharp, whether the same noise
# gives the same picture twice, is decided by a loop of five lines that calls it. This chapter is about the loop.
#
# **You will build** ancestral sampling on any grid of times, DDIM and the whole family that it belongs to, two
# solvers of second order, the way *back* from a photograph to its noise, and a gallery of thirteen real bugs in which
# you can look up your own.
#
# **You need** chapters 02 to 05. The network is shipped, nothing is trained. On two CPU cores the notebook takes
# about two minutes, and 1 GB of memory.

# %%
import math
from itertools import pairwise

import torch

from minidiff import Mixture, ddpm, final, posterior, times, transition
from minidiff.app.checkpoint import load_denoiser
from minidiff.course import plot
from minidiff.data import load, shipped, toy


def seeded(seed):
    return torch.Generator().manual_seed(seed)


# %% [markdown]
# Two denoisers accompany us. The **network** knows clothes. The **oracle** knows eight clusters in the plane
# (chapter 03), and makes no mistakes: what goes wrong there is the walk's fault alone. Both speak the same language,
# `denoise(x, t)` is the mean of all clean data that could have become $x$; and both use the cosine schedule.

# %%
from functools import partial

denoiser, about = load_denoiser(shipped("fashion.safetensors"))
schedule = denoiser.schedule
clusters = Mixture(*(part.double() for part in toy.mixture_parameters()))
oracle = partial(clusters.denoise, schedule=schedule)
print(schedule)

# %%
labels = torch.arange(400) % 10


def network(x, t):
    """The denoiser, told to draw each class in turn."""
    return denoiser(x, t, labels[: len(x)])


noise = torch.randn(400, 1, 32, 32, generator=seeded(0))
cloud = torch.randn(4000, 2, generator=seeded(1), dtype=torch.float64)

# %% [markdown]
# We shall often look at rows of ten pictures, each row with its name. And we shall need two numbers for a set of
# pictures: how far the features that a classifier sees are from those of 2,000 real pictures that the network has
# never seen (the **Fréchet distance**, smaller is better; chapter 13 explains it), and the share in which the
# classifier **reads** the label that was asked for.

# %%
def rows(pictures, alt):
    """The first ten of each set of pictures in a row, every pixel two by two dots."""
    height = 0.7 * len(pictures)
    picture = plot.Picture(alt, 7.6, height)
    picture.set_layout_engine("none")
    for i, (name, x) in enumerate(pictures.items()):
        ax = picture.add_axes((1.15 / 7.6, 1 - (0.7 * i + 0.67) / height, 6.4 / 7.6, 0.64 / height))
        grey = torch.cat(list(x[:10, 0].clamp(-1, 1)), 1).mul(16).round() / 16  # 33 greys keep the file small
        ax.imshow(grey, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
        ax.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
        ax.set(xticks=[], yticks=[], frame_on=False)
    return picture


# %%
from minidiff.app.metrics import frechet, label_accuracy, load_classifier

judge, real = load_classifier("fashion"), load("fashion", "test")
features_of_real = torch.cat([judge.features(part) for part in real.tensor().split(500)])  # (2000, 64)


def quality(x):
    """(Fréchet distance to real pictures, share of labels that are read as asked)."""
    x = x.clamp(-1, 1)
    return frechet(judge.features(x), features_of_real), label_accuracy(judge(x), labels[: len(x)])


# %% [markdown]
# ## 1. Ancestral sampling, on any grid
#
# The walk of chapter 03, in the package's letters, for any two times $s < t$: believe the guess $\hat x_0$, take the
# exact step back for one who knows it (3.4), and add fresh noise $\nu z$, of standard deviation $\nu$:
#
# $$ x_s = \frac{\alpha_{ts}\,\sigma_s^2}{\sigma_t^2}\, x_t + \frac{\alpha_s\,\sigma_{ts}^2}{\sigma_t^2}\, \hat x_0
# + \nu z, \qquad
# \underbrace{\frac{\sigma_{ts}^2\,\sigma_s^2}{\sigma_t^2}}_{\tilde\beta} \le \nu^2 \le
# \underbrace{\sigma_{ts}^2}_{\beta} \tag{8.1} $$
#
# ($\alpha_{ts}$ and $\sigma_{ts}$ lead from $s$ to $t$ (2.5). The bounds are those of (3.6), for
# data of variance at most 1 and a step of any length.)

# %%
def step_back(x_t, x_0, s, t):
    """Mean of (8.1), and its least and largest variance."""
    (alpha_s, sigma_s), (alpha_t, sigma_t) = schedule(s), schedule(t)
    ratio = alpha_t / alpha_s
    beta = sigma_t**2 - ratio**2 * sigma_s**2
    mean = (ratio * sigma_s**2 * x_t + alpha_s * beta * x_0) / sigma_t**2
    return mean, beta * sigma_s**2 / sigma_t**2, beta


# %% [markdown]
# All walks of this chapter share one loop; only the step is exchanged. A step gets the denoiser too, for it may want
# to ask it in its own way.

# %%
def walk(step, denoise, x, ts, generator):
    for t, s in pairwise(ts):
        z = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = step(x, denoise, s, t, z)
    return x


# %%
def least(x, denoise, s, t, z):
    mean, beta_tilde, _ = step_back(x, denoise(x, t), s, t)
    return mean + beta_tilde.sqrt() * z


def most(x, denoise, s, t, z):
    mean, _, beta = step_back(x, denoise(x, t), s, t)
    return mean + beta.sqrt() * z * (s > 0)  # no noise in the last step


# %%
ours = walk(least, oracle, cloud[:50], times(20), seeded(2))
theirs = final(ddpm(oracle, cloud[:50], times(20), schedule, seeded(2)))
assert torch.allclose(ours, theirs, atol=1e-8)
_, low, high = step_back(0, 0, 0.3, 0.7)
assert torch.isclose(low.sqrt(), posterior(cloud, cloud, 0.3, 0.7, schedule).std.squeeze())
assert torch.isclose(high.sqrt(), transition(0.3, 0.7, schedule)[1])

# %% [markdown]
# `ddpm` takes the lower bound. Now with the network, with 5 to 20 steps, all from the same noise.
#
# *Predict: chapter 03 found that twenty steps are far too few for the eight clusters. And for clothes?*

# %% tags=["slow"]
runs = {"ddpm": {n: final(ddpm(network, noise, times(n), schedule, seeded(3))) for n in (5, 10, 20)}}

# %%
alt = "Three rows of ten pieces of clothing, for 5, 10 and 20 steps; with fewer steps they are smoother."
rows({f"{n} steps": x for n, x in runs["ddpm"].items()}, alt)

# %%
def grain(x):
    """Mean difference of neighbouring pixels."""
    return float(x.clamp(-1, 1).diff(dim=3).abs().mean())


grains, scores = ({n: f(x) for n, x in runs["ddpm"].items()} for f in (grain, quality))
read_in_real = label_accuracy(judge.head(features_of_real.relu()), real.y)

# %% tags=["nbval-ignore-output"]
for n, (distance, reads) in scores.items():
    print(f"{n:2} steps: grain {grains[n]:.3f}, Frechet {distance:.2f}, read as asked {reads:.0%}")
print(f"real pictures: {grain(real.tensor()):.3f}, read as labelled {read_in_real:.0%}")

# %%
assert grains[5] < grains[10] < grains[20] < grain(real.tensor()) - 0.008
assert scores[5][1] > max(read_in_real, scores[20][1] + 0.01)

# %% [markdown]
# Clothes in every row, even with five steps! But they are smoother than real ones, the more so the fewer the steps,
# and with five steps the classifier reads them *more* easily than it reads photographs. That is no compliment: what
# comes out is the typical shirt. The clusters showed the same thing as numbers, they were too narrow. Let us see why.
#
# ### Which variance, when steps are few?
#
# With a thousand steps the two bounds of (8.1) nearly agree, and the choice hardly matters. With few steps they are
# far apart.
#
# *Predict: the true variance lies between the two. Which of them makes the clusters too narrow, which too wide?*
#
# For one cluster of width $c$ we can compute the answer without drawing a single point. The best guess is then
# $g\,x_t$ with $g = \alpha_t c^2 / (\alpha_t^2 c^2 + \sigma_t^2)$, (3.7) for a centred cluster, and each step turns a
# Gaussian of variance $V$ into one of variance $(a + b\,g)^2\,V + \nu^2$, where $a$ and $b$ are the weights of $x_t$
# and $\hat x_0$ in (8.1).

# %%
def width_after(n, c, choice):
    """Width of the samples after n steps, for data N(0, c^2); choice 1: least variance, 2: most."""
    V = torch.ones(())
    for t, s in pairwise(times(n)):
        alpha, sigma = schedule(t)
        guess = alpha * c**2 / (alpha**2 * c**2 + sigma**2)
        V = step_back(1.0, guess, s, t)[0] ** 2 * V + step_back(0, 0, s, t)[choice] * (s > 0)
    return float(V.sqrt())


for c in (0.2, 1.0):
    one = Mixture(torch.ones(1), torch.zeros(1, 1), torch.tensor([c]))
    x = walk(least, partial(one.denoise, schedule=schedule), cloud[:, :1], times(10), seeded(4))
    assert abs(x.std() / width_after(10, c, 1) - 1) < 0.05

# %%
def width(x):
    """Standard deviation of the common clusters, from the median radius (chapter 03, section 8)."""
    radius, cluster = torch.cdist(x, clusters.means).min(1)
    return float(radius[cluster % 2 == 1].median()) / math.sqrt(2 * math.log(2))


# %%
grid = [10, 20, 50, 100, 300]
found = {step.__name__: [width(walk(step, oracle, cloud, times(n), seeded(4))) for n in grid]
         for step in (least, most)}
predicted = {"least": [width_after(n, 0.2, 1) for n in grid], "most": [width_after(n, 0.2, 2) for n in grid]}

# %%
alt = "Too narrow clusters rise to the true width from below, too wide ones fall to it from above, as steps increase."
picture, (ax,) = plot.figure(alt)
for name, greek, colour in (("most", r"$\beta$", plot.COLOURS[0]), ("least", r"$\tilde\beta$", plot.COLOURS[1])):
    ax.plot(grid, found[name], "o", color=colour, label=f"{greek}, eight clusters")
    ax.plot(grid, predicted[name], "--", color=colour, label=f"{greek}, one cluster, computed")
ax.axhline(0.2, color="black", linewidth=1, label="true width")
ax.set(xscale="log", xlabel="number of steps", ylabel="width of a cluster")
ax.legend(ncols=2)
picture

# %%
for i, n in enumerate(grid):
    assert found["least"][i] < 0.2 < found["most"][i] or n > 50
    assert n < 50 or all(abs(found[name][i] / predicted[name][i] - 1) < 0.05 for name in found)
assert abs(found["most"][0] / predicted["most"][0] - 1) < 0.1
print({name: [f"{w:.2f}" for w in ws] for name, ws in found.items()}, "at", grid)

# %% [markdown]
# Too narrow with $\tilde\beta$, too wide with $\beta$, both right in the limit; and the computation for a single
# cluster (dashed) fits the measurement within 5 % from fifty steps on. Neither choice is right, for the right
# variance depends on the data: $\beta$ fits data as wide as the noise, $\tilde\beta$ data without any width. What are
# pictures like?

# %% tags=["slow"]
wide = {n: walk(most, network, noise, times(n), seeded(3)) for n in (5, 20)}

# %%
alt = "Four rows of clothes: with beta covered in grains, most of all with 5 steps; with beta-tilde smooth."
variances = {r"$\beta$": wide, r"$\tilde\beta$": runs["ddpm"]}
rows({f"{name}, {n} steps": x[n] for n in (5, 20) for name, x in variances.items()}, alt)

# %%
for n in (5, 20):
    assert grain(wide[n]) > grain(real.tensor()) + 0.02 > grains[n]
    assert quality(wide[n])[0] > scores[n][0] + 0.7

# %% tags=["nbval-ignore-output"]
for n, x in wide.items():
    print(f"{n:2} steps: grain {grain(x):.2f}, Frechet {quality(x)[0]:.1f} with beta;", end=" ")
    print(f"{grains[n]:.2f}, {scores[n][0]:.1f} with beta-tilde")

# %% [markdown]
# Like data without width: most of their fine detail is determined by the rest, so the truth is much nearer to
# $\tilde\beta$. With $\beta$ the last steps leave noise that no later step takes away. (Nichol & Dhariwal 2021 let
# the network choose, pixel by pixel, a variance $\exp\big(v \log\beta + (1 - v)\log\tilde\beta\big)$ between the
# two.)
#
# ### Clipping
#
# Pixels lie in $[-1, 1]$; a guess $\hat x_0$ need not. Whoever exaggerates (guidance, chapter 09, here at $w = 10$,
# pulls the guess ten times as far from the average as it was trained to go) soon leaves the range, and the next step
# starts from a place where no noisy training picture has ever been. DDPM's own code clips the guess in each step.
# Imagen's *dynamic thresholding* (Saharia et al. 2022) is gentler: if more than half a per cent of the pixels are
# outside, shrink *all* of them until no more than that are, and clip the rest. Either takes a denoiser and returns a
# denoiser, so that no sampler need know of it.

# %%
def clipped(denoise):
    return lambda x, t: denoise(x, t).clamp(-1, 1)


def dynamic(denoise):
    def guess(x, t):
        x_0 = denoise(x, t)
        reach = x_0.abs().flatten(1).quantile(0.995, dim=1).clamp(min=1)[:, None, None, None]  # of each picture
        return x_0.clamp(-reach, reach) / reach
    return guess


# %%
from minidiff import cfg

pushed = cfg(denoiser, labels[:100], null=10, w=10.0)
strong = {name: walk(least, f, noise[:100], times(5), seeded(5))
          for name, f in {"as it comes": pushed, "clipped": clipped(pushed), "dynamic": dynamic(pushed)}.items()}

# %%
rows(strong, "Three rows of clothes under strong guidance: glaring; less so; and on torn, grey backgrounds.")

# %%
calm = {name: walk(least, f, noise[:100], times(5), seeded(5))
        for name, f in {"as it comes": network, "clipped": clipped(network)}.items()}
gained = {w: quality(x["as it comes"])[0] - quality(x["clipped"])[0] for w, x in ((1, calm), (10, strong))}
assert abs(gained[1]) < 0.4 and gained[10] > 1
assert quality(strong["dynamic"])[0] > quality(strong["as it comes"])[0] + 0.7

# %% tags=["nbval-ignore-output"]
for name, x in strong.items():
    print(f"{name:12} pixels outside {(x.abs() > 1.05).double().mean():.0%}, Frechet {quality(x)[0]:.1f}")
print("gained by clipping:", {f"w = {w}": f"{gain:.1f}" for w, gain in gained.items()})
print(f"pixels of real pictures that are exactly -1: {(real.x == 0).double().mean():.0%}")

# %% [markdown]
# With strong guidance and few steps clipping helps; without guidance it changes next to nothing here. (A network that
# guesses the *noise* needs it more: chapter 05 showed how it exaggerates $\hat x_0$ at the noisy end.) And dynamic
# thresholding, so good for photographs, ruins these pictures. More than half of their pixels are *exactly* $-1$, the
# black behind the clothes. Shrinking turns black into grey, a background that the network has never seen.
#
# *Predict: what does clipping do to the eight clusters, whose centres lie 1.4 from the middle?*

# %%
boxed = walk(least, clipped(oracle), cloud, times(100), seeded(6))
free = walk(least, oracle, cloud, times(100), seeded(6))
alt = "Left eight clusters; right they are squashed into a square."
plot.scatter({"free": free, "clipped to [-1, 1]": boxed}, alt)

# %%
on_the_edge = (boxed.abs().amax(1) > 0.999).double().mean()
assert boxed.abs().max() <= 1 and on_the_edge > 0.3 and free.abs().max() > 1.5
print(f"points on the edge of the square: {on_the_edge:.0%}")

# %% [markdown]
# It squashes them into the square. Clipping is knowledge about *pixels*. Applied to anything else, to points or to
# the codes of chapter 11, it destroys data; and the DDPM and DDIM samplers of `diffusers` have it switched on by
# default. It also spoils much of what follows: inversion, orders of convergence (a clipped guess has a kink), and,
# where a code clips $\hat x_0$ but keeps the old noise, the equality of walks. The package's samplers do not clip.
#
# ## 2. Strides
#
# Trained on a thousand steps, sampled with fifty: is that allowed? Everything in (8.1) holds for any $s < t$, so let
# us ask what is lost by striding over the times between. For one who knows $x_0$: nothing. Chain three hundred single
# steps of DDPM's table, from $t = 0.4$ to $0.1$, and keep the books of the Gaussian: the weights of $x_t$ and $x_0$,
# and the variance.

# %%
from minidiff import FromBetas, linear_betas

table = FromBetas(linear_betas(1000))
seen, told = torch.eye(2, dtype=torch.float64)[:, None]  # x_t = 1, x_0 = 0 and the reverse: means are weights

# %%
of_x, of_x_0, variance = 1.0, 0.0, 0.0
for k in range(400, 100, -1):
    single = posterior(seen, told, (k - 1) / 1000, k / 1000, table)
    keep, add = single.mean[0]
    of_x, of_x_0 = keep * of_x, keep * of_x_0 + add
    variance = keep**2 * variance + single.std**2

# %%
stride = posterior(seen, told, 0.1, 0.4, table)
assert torch.allclose(torch.stack([of_x, of_x_0]), stride.mean[0]) and torch.allclose(variance, stride.std**2)
print(f"300 steps: {of_x:.3f} x_t + {of_x_0:.3f} x_0; one stride: {stride.mean[0, 0]:.3f}, {stride.mean[0, 1]:.3f}")

# %% [markdown]
# Equal. **A long step is not a worse approximation of the short ones; it is worse because $\hat x_0$ is asked for
# only once.** Between $t$ and $s$ three hundred guesses would have become better and better; the stride uses the
# first for all. So steps belong where the guess changes fast.
#
# Where is that? A grid may be even in $t$, or crowd towards the data (*quadratic*, in Song et al. 2020), or be
# even in $\log\mathrm{SNR}$ (Lu et al. 2022). The last cannot reach either end, where $\log\mathrm{SNR}$ is infinite;
# here it runs from $-8$ to $8$; then $t = 1$ takes the place of its first time, and $t = 0$ is put on.

# %%
def quadratic(n):
    return times(n) ** 2


def even_log_snr(n, largest=8.0):
    level = torch.linspace(-largest, largest, n, dtype=torch.float64)  # of the log SNR
    inner = torch.atan(torch.exp(-level / 2)) * 2 / torch.pi  # cosine schedule: sigma / alpha = tan(pi t / 2)
    return torch.cat([torch.ones(1), inner[1:], torch.zeros(1)])


assert torch.allclose(schedule.log_snr(even_log_snr(20)[1:-1]).diff(), torch.tensor(16 / 19).double())

# %%
grids = {"even in t": times, "quadratic": quadratic, "even in log SNR": even_log_snr}
alt = "Three rows of ticks: evenly spaced; crowded towards the data; crowded at both ends."
picture, (ax,) = plot.figure(alt, width=6.5, height=1.6)
for i, grid_of in enumerate(grids.values()):
    ax.plot(grid_of(20), torch.full((21,), -i), "|", markersize=14)
ax.set(xlabel="t, from data to noise", yticks=[0, -1, -2], yticklabels=grids, ylim=(-2.6, 0.6))
picture

# %%
narrow = {name: [width(final(ddpm(oracle, cloud, grid_of(n), schedule, seeded(7)))) for n in (10, 20, 40)]
          for name, grid_of in grids.items()}
assert narrow["even in t"][1] < min(narrow["quadratic"][1], narrow["even in log SNR"][1]) - 0.01
print("width (true 0.20) with 10, 20, 40 steps:", {name: [f"{w:.2f}" for w in ws] for name, ws in narrow.items()})

# %% [markdown]
# For the *width* of the clusters, small detail that is decided late, a grid that crowds near the data is better. (The
# 0.20 of ten steps even in $\log\mathrm{SNR}$ is luck: with 20 it is 0.18 again.) That does not hold for all: section
# 4 shows a sampler for which it is worse. (A trap in the letters: codes that take every twentieth entry of a table of
# a thousand get 1, 21, ..., 981, and so start at 981: not at pure noise. Lin et al. 2023 show what that costs:
# pictures cannot become really dark or bright. Number 13 in the gallery of errors below is a strong dose of it.)
#
# ## 3. DDIM: a family of walks
#
# The loss of chapter 05 shows the network pairs $(x_0, x_t)$, one time after the other. It never sees $x_s$ and $x_t$
# *together*. So a network that was trained for one process is trained for every process with the same pairs, and
# among those we may choose (Song et al. 2020). Which are there?
#
# Demand a Gaussian step that moves in a straight line between what is known,
# $q(x_s \mid x_t, x_0) = \mathcal N\big(\alpha_s x_0 + \kappa\,(x_t - \alpha_t x_0),\ \nu^2 I\big)$, with numbers
# $\kappa$ and $\nu$ of our choice. Given $x_0$, the bracket is $\sigma_t\,\epsilon$. So
# $x_s = \alpha_s x_0 + \kappa\,\sigma_t\,\epsilon + \nu z$: the mean is right already, and the noises add up to the
# right size if
#
# $$ \kappa^2\sigma_t^2 + \nu^2 = \sigma_s^2, \qquad\text{that is}\qquad
# q_\nu(x_s \mid x_t, x_0) = \mathcal N\!\Big(\alpha_s x_0
# + \sqrt{\sigma_s^2 - \nu^2}\;\frac{x_t - \alpha_t x_0}{\sigma_t},\ \nu^2 I\Big). \tag{8.2} $$
#
# One free number, $0 \le \nu \le \sigma_s$, in each step. By induction from $t = 1$ down, *all* pairs $(x_0, x_t)$
# are as before, whatever we choose. Try it: one known $x_0$, noised to $t = 0.7$, and one step to $s = 0.4$ with four
# different $\nu$.

# %%
s, t = torch.tensor([0.4, 0.7], dtype=torch.float64)
(alpha_s, sigma_s), (alpha_t, sigma_t) = schedule(s), schedule(t)
x_0 = torch.full((200_000,), 0.7, dtype=torch.float64)
x_t = alpha_t * x_0 + sigma_t * torch.randn(x_0.shape, generator=seeded(8), dtype=torch.float64)

# %%
for nu in (0.0, 0.2, 0.5, float(sigma_s)):
    z = torch.randn(x_0.shape, generator=seeded(9), dtype=torch.float64)
    x_s = alpha_s * x_0 + (sigma_s**2 - nu**2).clamp(min=0).sqrt() * (x_t - alpha_t * x_0) / sigma_t + nu * z
    assert abs(x_s.mean() - alpha_s * 0.7) < 0.006 and abs(x_s.std() - sigma_s) < 0.006
print(f"mean {x_s.mean():.2f} and std {x_s.std():.2f}, as for the last so for all four")

# %% [markdown]
# DDPM must be a member, $\nu^2 = \tilde\beta$. It is:
# $\sigma_s^2 - \tilde\beta = \sigma_s^2(\sigma_t^2 - \sigma_{ts}^2)/\sigma_t^2 = \sigma_s^4\alpha_{ts}^2/\sigma_t^2$
# by (2.5); its root over $\sigma_t$ is $\alpha_{ts}\sigma_s^2/\sigma_t^2$, the weight of $x_t$ in (8.1). What makes
# it special is that it is the only *Markov* chain in the family, where noise has no memory. In the others $x_t$
# depends on $x_0$ even if $x_s$ is known. Given $x_0$, the noise that $x_s$ and $x_t$ share is
# $\sqrt{\sigma_s^2 - \nu^2}\,\epsilon$ in the one and $\sigma_t\,\epsilon$ in the other. So the best line for $x_t$
# has the slope $\sigma_t\sqrt{\sigma_s^2 - \nu^2} / \sigma_s^2$ in $x_s$, and what is left for $x_0$ is $\alpha_t$
# minus $\alpha_s$ times that: zero for $\nu^2 = \tilde\beta$ alone. A regression of $x_t$ on $x_s$ and $x_0$ agrees:

# %%
x_0 = torch.randn(200_000, generator=seeded(10), dtype=torch.float64)
eps, z = torch.randn(2, 200_000, generator=seeded(11), dtype=torch.float64)
memory = {}
for eta in (0.0, 0.5, 1.0):
    nu = eta * sigma_s / sigma_t * transition(s, t, schedule)[1]
    x_s = alpha_s * x_0 + (sigma_s**2 - nu**2).sqrt() * eps + nu * z
    weights = torch.linalg.lstsq(torch.stack([x_s, x_0], 1), (alpha_t * x_0 + sigma_t * eps)[:, None]).solution
    memory[eta] = float(weights[1])
    assert abs(memory[eta] - (alpha_t - alpha_s * (sigma_t * (sigma_s**2 - nu**2).sqrt() / sigma_s**2))) < 0.01

# %%
assert abs(memory[1.0]) < 0.01 and abs(memory[0.5] + 0.63) < 0.02 and abs(memory[0.0] + 0.77) < 0.02
print("weight of x_0 beside x_s:", {eta: round(w, 1) + 0.0 for eta, w in memory.items()})

# %% [markdown]
# The family is sorted by a number $\eta$: $\nu = \eta\,\tilde\beta^{1/2}$. Put the guess in the place of $x_0$, and
# the noise that $x_t$ would then contain, $\hat\epsilon = (x_t - \alpha_t\hat x_0)/\sigma_t$, and there is the update
# of **DDIM**, in which each of the three terms has a plain meaning:
#
# $$ x_s = \underbrace{\alpha_s\,\hat x_0}_{\text{the picture}}
# + \underbrace{\sqrt{\sigma_s^2 - \nu^2}\;\hat\epsilon}_{\text{the old noise}}
# + \underbrace{\nu z}_{\text{fresh noise}}, \qquad \nu = \eta\,\frac{\sigma_{ts}\,\sigma_s}{\sigma_t} \tag{8.3} $$
#
# With $\eta = 0$ the old noise is *all* the noise there is, and nothing is drawn on the way.

# %%
def relax(eta):
    def step(x, denoise, s, t, z):
        x_0, (alpha_s, sigma_s), (alpha_t, sigma_t) = denoise(x, t), schedule(s), schedule(t)
        nu = eta * sigma_s / sigma_t * transition(s, t, schedule)[1]
        old = (sigma_s**2 - nu**2).clamp(min=0).sqrt()  # rounding may leave -1e-17
        return alpha_s * x_0 + old * (x - alpha_t * x_0) / sigma_t + nu * z
    return step


# %% [markdown]
# A step is linear in $x_t$ and $z$. Its two factors, $\kappa$ and $\nu$, come out if one is set to 1 and all else to
# 0. Do they satisfy (8.2) in each of twenty steps? Does the package take the same steps? And is $\eta = 1$ DDPM?

# %%
unit = torch.ones(1, dtype=torch.float64)
for eta in (0.0, 0.3, 1.0):
    for u, v in pairwise(times(20)):  # from u down to v
        kappa, nu = (relax(eta)(x, lambda x, t: 0 * x, v, u, z) for x, z in ((unit, 0 * unit), (0 * unit, unit)))
        assert torch.allclose(kappa**2 * schedule(u)[1] ** 2 + nu**2, schedule(v)[1] ** 2)

# %%
from minidiff import ddim

for eta in (0.0, 0.5, 1.0):
    ours = walk(relax(eta), oracle, cloud[:50], times(20), seeded(12))
    if eta:  # at 0 the package draws nothing
        assert torch.allclose(ours, final(ddim(oracle, cloud[:50], times(20), schedule, eta, seeded(12))))
assert torch.allclose(ours, walk(least, oracle, cloud[:50], times(20), seeded(12)), atol=1e-6)  # eta = 1 is DDPM

# %%
dice = seeded(13)
untouched = dice.get_state()
still = final(ddim(oracle, cloud[:50], times(20), schedule, 0.0, dice))
assert torch.equal(dice.get_state(), untouched)  # no number was drawn
assert torch.allclose(still, walk(relax(0.0), oracle, cloud[:50], times(20), dice))

# %%
plot.show_source(ddim)

# %% [markdown]
# *Predict: eight points start in the same places, once with $\eta = 1$, once with $\eta = 0$. What do their paths
# look like?*

# %%
alt = "Left, eight tangled, jittery paths that end in clusters; right, eight smooth curves from the same starts."
picture, axes = plot.figure(alt, 2, width=7.6, height=3.9)
for ax, eta in zip(axes, (1.0, 0.0), strict=True):
    states = ddim(oracle, cloud[:8], times(100), schedule, eta, seeded(14))
    path = torch.stack([cloud[:8], *(state.x for state in states)])  # (101, 8, 2)
    ax.scatter(*clusters.sample(2000, seeded(15)).T, s=2, color="0.85")
    ax.plot(*path.permute(2, 0, 1), linewidth=0.9)
    ax.scatter(*path[0].T, s=16, color="black", zorder=3, label="start")
    ax.set(title=rf"$\eta$ = {eta:.0f}", aspect="equal", xlim=(-2.8, 2.8), ylim=(-2.8, 2.8))
axes[1].legend(loc="upper right")
picture

# %%
both = {eta: final(ddim(oracle, cloud, times(200), schedule, eta, seeded(14))) for eta in (1.0, 0.0)}
for x in both.values():
    rare = (torch.cdist(x, clusters.means).argmin(1) % 2 == 0).double().mean()
    assert abs(rare - 0.25) < 0.03 and abs(width(x) - 0.2) < 0.015 and (x.std(0) - 1).abs().max() < 0.04

# %% [markdown]
# Left a drunkard's walk, right smooth curves. In grey the data: both arrive, and (the last cell) in the right
# proportions and with the right widths.
#
# **A slip to know.** A much-read article says $\sigma_t^2 = \eta\,\tilde\beta_t$ for (8.3): the variance, not the
# standard deviation, is proportional to $\eta$. The paper has $\sigma_t = \eta\sqrt{\tilde\beta_t}$. Both are members
# of the family, so neither spoils the samples; but they are different members, and a setting copied from one code to
# the other means something else. What is the variance of a step of the package at $\eta = 0.5$, in units of
# $\tilde\beta$?

# %%
here = torch.zeros(200_000, 1, dtype=torch.float64)
one_step = final(ddim(lambda x, t: here, here, torch.stack([t, s]), schedule, 0.5, seeded(16)))
ratio = one_step.var() / posterior(here, here, s, t, schedule).std ** 2
assert abs(ratio - 0.25) < 0.01
print(f"{float(ratio):.2f}, which is 0.5 squared")

# %% [markdown]
# And what do others compute? The `diffusers` library is used by everybody, and shares no line with us. Here it walks
# with the same noise. (Its index $k$ is step $k + 1$; `trailing` makes it start at pure noise; its table is given in
# double precision, for in its own $1 - \bar\alpha$ has few digits near the data: $1 - 0.9999$ in `float32` is off by
# two parts in ten thousand.)

# %%
exact = partial(clusters.denoise, schedule=table)


def by_diffusers(scheduler, x, generator, **eta):
    scheduler.set_timesteps(50)
    scheduler.alphas_cumprod = (1 - linear_betas(1000)).cumprod(0)
    for k in scheduler.timesteps.tolist():
        alpha, sigma = table((k + 1) / 1000)
        eps = (x - alpha * exact(x, (k + 1) / 1000)) / sigma
        x = scheduler.step(eps, k, x, generator=generator, **eta).prev_sample
    return x


# %%
try:
    from diffusers import DDIMScheduler, DDPMScheduler
except ImportError:
    print("diffusers is not installed: this comparison is left out")
else:
    assert DDIMScheduler().config.clip_sample  # by default it clips, and so does DDPMScheduler
    settings = {"clip_sample": False, "timestep_spacing": "trailing", "beta_schedule": "linear"}
    x = by_diffusers(DDPMScheduler(1000, **settings), cloud[:50], seeded(16))
    assert torch.allclose(x, final(ddpm(exact, cloud[:50], times(50), table, seeded(16))), atol=1e-6)
    for eta in (0.0, 0.5, 1.0):
        x = by_diffusers(DDIMScheduler(1000, **settings), cloud[:50], seeded(16), eta=eta)
        assert torch.allclose(x, final(ddim(exact, cloud[:50], times(50), table, eta, seeded(16))), atol=1e-6)
    print("diffusers takes the same 50 steps: DDPM, and DDIM with eta 0, 0.5 and 1")

# %% [markdown]
# Settled: at $\eta = 0.5$ it agrees with us, and with the paper.
#
# ### What is gained: three properties
#
# Song et al. claim three: better pictures with few steps; *consistency*, the same noise gives the same picture
# whatever the number of steps; and interpolation, which follows in section 5. Their own numbers for the first (Song
# et al. 2020, table 1: FID on CIFAR-10, smaller is better):
#
# | steps | 10 | 20 | 50 | 100 | 1000 |
# |---|---|---|---|---|---|
# | $\eta = 0$, DDIM | 13.4 | 6.84 | 4.67 | 4.16 | 4.04 |
# | $\eta = 1$, DDPM with $\tilde\beta$ | 41.1 | 18.4 | 8.01 | 5.78 | 4.73 |
# | DDPM with $\beta$ | 367 | 133 | 32.7 | 9.99 | 3.17 |
#
# And ours?

# %% tags=["slow"]
runs["ddim"] = {n: final(ddim(network, noise, times(n), schedule)) for n in (5, 10, 20)}
five = {"beta": wide[5], "beta-tilde": runs["ddpm"][5], "eta = 0": runs["ddim"][5]}
scores = {name: quality(x)[0] for name, x in five.items()}
assert scores["beta"] > scores["beta-tilde"] + 2 and abs(scores["beta-tilde"] - scores["eta = 0"]) < 0.6

# %% tags=["nbval-ignore-output"]
print("Frechet distance with five steps:", {name: f"{score:.1f}" for name, score in scores.items()})

# %% [markdown]
# $\beta$ is as hopeless as in their table. Between the other two there is little to choose here: section 6 puts error
# bars to such numbers, of about 0.2. Now the second property.

# %%
alt = "DDIM gives the same ten garments with 5, 10 and 20 steps, only sharper; DDPM gives different ones."
rows({f"{name.upper()}, {n} steps": x for name in ("ddim", "ddpm") for n, x in runs[name].items()}, alt)

# %%
mean_picture = runs["ddim"][20].mean(0, keepdim=True)


def likeness(a, b):
    """Mean correlation of a[i] with b[i], both without the mean of all pictures."""
    a, b = ((x - mean_picture).flatten(1) for x in (a, b))
    return float(torch.cosine_similarity(a, b, dim=1).mean())


# %%
alike = {name: [likeness(runs[name][n], runs[name][20]) for n in (5, 10)] for name in ("ddim", "ddpm")}
by_class = likeness(runs["ddim"][20], runs["ddim"][20].roll(10, 0))  # another picture of the same class
assert alike["ddim"][0] > 0.85 and alike["ddim"][1] > 0.95 and alike["ddpm"][1] < 0.9 and by_class < 0.6

# %% tags=["nbval-ignore-output"]
print("likeness of 5 and 10 steps to 20 steps:", {name: [f"{c:.2f}" for c in cs] for name, cs in alike.items()})
print(f"two pictures of the same class from different noise: {by_class:.2f}")

# %% [markdown]
# Five steps of DDIM already draw the picture that twenty will draw. The noise *is* the picture, in another form: a
# code. With $\eta = 1$ the noise that is drawn on the way has its say. (How much is common to all pictures of a
# class, the last line says.)
#
# ## 4. A step along a curve
#
# Those smooth paths suggest that there is a curve, and that steps approximate it. Divide (8.3) with $\eta = 0$ by
# $\alpha_s$, and write $y = x/\alpha$ for the picture without its shrinking and $u = \sigma/\alpha$ for the noise in
# units of the data. As $\hat x_0 = y_t - u_t\,\hat\epsilon$,
#
# $$ y_s = \hat x_0 + u_s\,\hat\epsilon = y_t + (u_s - u_t)\,\hat\epsilon(x_t, t)
# \qquad\longrightarrow\qquad \frac{dy}{du} = \hat\epsilon. \tag{8.4} $$
#
# That is how one follows a differential equation with a ruler: slope times step, *Euler's method*. **DDIM is Euler's
# method for (8.4), with $u = \sigma/\alpha$ as the clock.** (At $t = 1$, where $\alpha = 0$, this clock shows
# infinity; (8.3) does not mind, for it never divides by $\alpha$.) In the time $t$ the same curve reads, with $x =
# \alpha y$ and the product rule, $\dot x = \dot\alpha\,y + \alpha\,\dot u\,\hat\epsilon$; put in $y = \hat x_0 +
# u\,\hat\epsilon$ and $\alpha\dot u = \dot\sigma - u\,\dot\alpha$, and two terms cancel:
#
# $$ \frac{dx}{dt} = \dot\alpha\;\hat x_0(x, t) + \dot\sigma\;\hat\epsilon(x, t) \tag{8.5} $$
#
# the *probability-flow* equation (chapter 14 derives it from the density, and shows that it carries the density of
# noise into that of data). Its right side is the row "velocity" of chapter 05.

# %%
def slope(x, denoise, t):
    """(8.5)"""
    (alpha, sigma), (alpha_rate, sigma_rate), x_0 = schedule(t), schedule.rates(t), denoise(x, t)
    return alpha_rate * x_0 + sigma_rate * (x - alpha * x_0) / sigma


# %%
x, s, t = cloud[:50], torch.tensor(0.4).double(), torch.tensor(0.41).double()
y, (u_t, u_s) = x / schedule(t)[0], (sigma / alpha for alpha, sigma in (schedule(t), schedule(s)))
eps = (x - schedule(t)[0] * oracle(x, t)) / schedule(t)[1]
by_ruler = schedule(s)[0] * (y + (u_s - u_t) * eps)
assert torch.allclose(by_ruler, final(ddim(oracle, x, torch.stack([t, s]), schedule)))  # (8.4)

# %%
tiny = torch.stack([t, t - 1e-6])
moved = (final(ddim(oracle, x, tiny, schedule)) - x) / -1e-6
assert torch.allclose(moved, slope(x, oracle, t), atol=1e-4)  # (8.5)
print("DDIM is Euler's method in sigma / alpha, and for tiny steps it follows (8.5)")

# %% [markdown]
# Euler's method in $t$ itself is the package's `euler`. For flow matching's straight line, where $\alpha = 1 - t$ and
# $\sigma = t$ are linear in $t$, both are one. On our quarter circle they differ.

# %%
from minidiff import Flow, dpmpp_2m, euler, heun

gaps = []
for each in (Flow(), schedule):
    best = partial(clusters.denoise, schedule=each)
    pair = [final(solver(best, cloud[:50], times(10), each)) for solver in (euler, ddim)]
    gaps.append((pair[0] - pair[1]).abs().max())
assert gaps[0] < 1e-12 < 1e-3 < gaps[1]

# %% [markdown]
# **Second order.** Euler uses the slope at the start of a step for all of it. *Heun's method* goes there first, looks
# at the slope at the end too, and takes the mean:
#
# $$ \bar x = x_t + (s - t)\,f(x_t, t), \qquad
# x_s = x_t + \frac{s - t}{2}\,\big(f(x_t, t) + f(\bar x, s)\big) \tag{8.6} $$
#
# with $f$ the right side of (8.5): two calls of the network a step (Karras et al. 2022).

# %%
def heun_step(x, denoise, s, t, z):
    if s == 0:
        return denoise(x, t)
    first = slope(x, denoise, t)
    return x + (s - t) / 2 * (first + slope(x + (s - t) * first, denoise, s))


# %%
ours = walk(heun_step, oracle, cloud[:50], times(20), seeded(17))
assert torch.allclose(ours, final(heun(oracle, cloud[:50], times(20), schedule)))

# %% [markdown]
# The other way to second order keeps one call a step, and *remembers*. Solve (8.4) as if $\hat x_0$ did not change
# within the step: that is DDIM once more, and with half the log SNR, $\lambda = \log(\alpha/\sigma)$, and
# $h = \lambda_s - \lambda_t$ it reads as below. Then replace $\hat x_0$ by its value in the middle of the step,
# guessed on a straight line from the step before (DPM-Solver++(2M), Lu et al. 2022):
#
# $$ x_s = \frac{\sigma_s}{\sigma_t}\,x_t + \alpha_s\,(1 - e^{-h})\,\hat x_0, \qquad
# \hat x_0 \;\to\; \hat x_0 + \frac{h}{2\,h_\text{before}}\,\big(\hat x_0 - \hat x_{0,\text{before}}\big) \tag{8.7} $$

# %%
def with_memory(x, denoise, ts):
    lam, before = schedule.log_snr(ts) / 2, None
    for i, (t, s) in enumerate(pairwise(ts)):
        x_0, h = denoise(x, t), lam[i + 1] - lam[i]
        line = h / (lam[i] - lam[i - 1]) / 2 * (x_0 - before) if i and s > 0 else 0
        x = schedule(s)[1] / schedule(t)[1] * x + schedule(s)[0] * (1 - torch.exp(-h)) * (x_0 + line)
        before = x_0
    return x


# %%
ours = with_memory(cloud[:50], oracle, times(20))
assert torch.allclose(ours, final(dpmpp_2m(oracle, cloud[:50], times(20), schedule)))
first_order = with_memory(cloud[:50], oracle, times(20)[:2])  # nothing to remember yet
assert torch.allclose(first_order, final(ddim(oracle, cloud[:50], times(20)[:2], schedule)))

# %% [markdown]
# *Predict: twice as many steps. By what factor does the error fall, for each of the four?*
#
# With the oracle it can be measured. The curve itself, from $t = 0.9$ to $0.1$, is computed with 2,000 steps of Heun;
# the error is the mean distance of 400 points from where the curve leads them.

# %%
solvers, x = {"euler": euler, "ddim": ddim, "heun": heun, "dpmpp_2m": dpmpp_2m}, cloud[:400]
counts = torch.tensor([8, 16, 32, 64, 128, 256])


def error(solver, n):
    return (final(solver(oracle, x, times(n, 0.9, 0.1), schedule)) - curve_end).norm(dim=1).mean()


curve_end = final(heun(oracle, x, times(2000, 0.9, 0.1), schedule))
errors = {name: torch.stack([error(solver, n) for n in counts.tolist()]) for name, solver in solvers.items()}

# %%
orders = {name: float((e[2] / e[-1]).log2() / 3) for name, e in errors.items()}
assert all(abs(orders[name] - 1) < 0.1 for name in ("euler", "ddim"))
assert all(abs(orders[name] - 2) < 0.15 for name in ("heun", "dpmpp_2m"))
print("order:", {name: f"{order:.1f}" for name, order in orders.items()})

# %%
def counted(solver, ts):
    """How often a solver asks the denoiser."""
    asked = []
    final(solver(lambda x, t: asked.append(t) or oracle(x, t), cloud[:2], ts, schedule))
    return len(asked)


assert [counted(f, times(10, 0.9, 0.1)) for f in solvers.values()] == [10, 10, 20, 10]
assert counted(heun, times(10)) == 19  # the step to t = 0 is a plain one

# %%
calls = {name: counts * (2 if name == "heun" else 1) for name in solvers}
alt = "Four falling lines on logarithmic axes: euler and ddim with slope 1, heun and dpmpp_2m with slope 2."
picture, (ax,) = plot.figure(alt, height=3.4)
for name, marker in zip(solvers, "os^D", strict=True):
    ax.plot(calls[name], errors[name], marker + "-", markersize=5, label=f"{name}, order {orders[name]:.1f}")
ax.set(xscale="log", yscale="log", xlabel="calls of the denoiser", ylabel="distance from the curve")
ax.legend()
picture

# %%
at_64 = {name: float(errors[name][counts.tolist().index(64 // (2 if name == "heun" else 1))]) for name in solvers}
assert max(at_64["heun"], at_64["dpmpp_2m"]) < at_64["ddim"] / 10 and 0.5 < at_64["heun"] / at_64["dpmpp_2m"] < 2
print("error with 64 calls:", {name: f"{e:.1e}" for name, e in at_64.items()})

# %% [markdown]
# First order halves the error, second order quarters it. Counted in *steps* Heun is four times as close as the one
# that remembers; counted in *calls*, which is what one pays for, the two are level: with 64 calls both are more than
# ten times as close as DDIM.
#
# But that was the smooth middle of the curve. From end to end, 1 to 0, everything depends on the grid, and grids have
# favourites:

# %%
end = final(heun(oracle, x, quadratic(2000), schedule))
whole = {name: {grid: (final(solvers[name](oracle, x, grid_of(20), schedule)) - end).norm(dim=1).mean()
                for grid, grid_of in grids.items()} for name in ("ddim", "heun", "dpmpp_2m")}
assert min(whole["ddim"], key=whole["ddim"].get) == "even in t"
assert all(whole[name]["quadratic"] < whole[name]["even in t"] / 3 for name in ("heun", "dpmpp_2m"))

# %%
for name, row_of in whole.items():
    print(f"{name:9}" + "".join(f"{grid:>17} {e:.3f}" for grid, e in row_of.items()))

# %% [markdown]
# DDIM likes it even, Heun and the one with memory are several times better off with a quadratic grid. No grid is best
# for all; and "sampler A beats sampler B" means nothing without the grid. (Chapter 15 has the theory.)
#
# ## 5. Backwards: from a photograph to its noise
#
# Without dice a walk can be turned round. Read (8.3) from $s$ up to $t$, with the guess made where we stand:
#
# $$ x_t = \alpha_t\,\hat x_0(x_s, s) + \sigma_t\,\hat\epsilon(x_s, s) \tag{8.8} $$
#
# This *encodes* a picture, or inverts the sampler: which noise would have become this one? (At $t = 0$ there is no
# noise to read off, and $\hat\epsilon$ would be $0/0$; so begin a little above, at `lowest`.)

# %%
def encode(x, denoise, ts):
    for s, t in pairwise(ts):
        x_0, (alpha_s, sigma_s), (alpha_t, sigma_t) = denoise(x, s), schedule(s), schedule(t)
        x = alpha_t * x_0 + sigma_t / sigma_s * (x - alpha_s * x_0)
    return x


# %%
def there_and_back(x, denoise, n, lowest):
    """The code of x, and what it decodes to."""
    up = times(n, 1.0, lowest).flip(0)
    code = encode(x, denoise, up)
    return code, final(ddim(denoise, code, torch.cat([up.flip(0), torch.zeros(1)]), schedule))


# %% [markdown]
# It is not exact: on the way up the guess is made at $s$, on the way down at $t$. *Predict: how does the error of the
# round trip depend on the number of steps?*

# %%
points = clusters.sample(400, seeded(18))
trips = {n: float((there_and_back(points, oracle, n, 0.01)[1] - points).norm(dim=1).mean())
         for n in (20, 40, 80, 160)}
fall = (trips[20] / trips[160]) ** (1 / 3)
assert 1.7 < fall < 2.2
print({n: f"{e:.3f}" for n, e in trips.items()}, f"falls by {fall:.1f} for each doubling")

# %% [markdown]
# First order again. And the codes? Points of the mixture should have become points of a standard Gaussian.

# %%
code = there_and_back(clusters.sample(4000, seeded(18)), oracle, 300, 0.01)[0]
assert code.mean(0).abs().max() < 0.05 and (code.std(0) - 1).abs().max() < 0.04
assert abs((code.norm(dim=1) < 1.1774).double().mean() - 0.5) < 0.04  # half of a Gaussian's points
print(f"standard deviation {code.std():.2f}")

# %% [markdown]
# They have. Now photographs, ten that the network has never seen; it is told what they show.

# %%
photos, kinds = real.tensor(slice(0, 10)), real.y[:10]
told_kind = partial(denoiser, cond=kinds)
trips = {n: there_and_back(photos, told_kind, n, 0.02) for n in (5, 20, 80)}
off = {n: float((back - photos).square().mean().sqrt()) for n, (_, back) in trips.items()}

# %%
alt = "Ten photographs; their codes, in which the clothes can still be seen on grey; decoded, better with more steps."
code = trips[80][0]
rows({"photograph": photos, "code": code / 2} | {f"{n} steps": back for n, (_, back) in trips.items()}, alt)

# %%
assert off[80] < off[20] / 1.5 and off[20] < off[5] / 1.5 and code.std() < 0.75

# %% tags=["nbval-ignore-output"]
print("error of a pixel after the round trip:", {n: f"{e:.2f}" for n, e in off.items()})
print(f"standard deviation of the codes {code.std():.2f}, and of noise 1")

# %% [markdown]
# With 80 steps they come back. But look at the codes: that is not noise! One sees the clothes in it, the background
# is grey, and the standard deviation is far too small. The reason is where we began. A photograph holds no noise, and
# the network was asked for the noise at $t = 0.02$, *where every training picture holds some*. In the black
# background it reads off nearly none, and nearly none is what (8.8) then magnifies, up to $t = 1$.
#
# The fix is one line: give the photograph the noise that belongs to where the walk begins. A sampler takes it away
# again.

# %%
def with_noise(x, t):
    alpha, sigma = schedule(t)
    return alpha * x + sigma * torch.randn(x.shape, generator=seeded(19))


code, back = there_and_back(with_noise(photos, 0.05), told_kind, 80, 0.05)

# %%
alt = "Ten photographs; codes that look like noise; ten decoded pictures, nearly as the photographs."
rows({"photograph": photos, "code": code / 2, "80 steps": back}, alt)

# %%
assert code.std() > 0.85 and (back - photos).square().mean().sqrt() < 2 * off[80]

# %% tags=["nbval-ignore-output"]
print(f"standard deviation of the codes {code.std():.2f}, error {(back - photos).square().mean().sqrt():.2f}")

# %% [markdown]
# Much better codes, for an error half as large again. (A trace of each garment is left in them. The oracle's codes were
# perfect noise; those of no real network are.)
#
# ### Interpolation
#
# If noise is a code, there are pictures between two noises. On which path? The straight line, $(1 - w)\,a + w\,b$
# (*lerp*), passes too close to the middle: for independent $a$ and $b$ the variance of a pixel is $(1-w)^2 + w^2$,
# one half in the middle. Such noise is too weak; at $t = 1$ the network has never seen the like. Noise of $D$ numbers
# has a length close to $\sqrt D$: it lies in a thin shell. So walk *on* the shell, along the great circle (*slerp*,
# Shoemake 1985), with $\theta$ the angle between $a$ and $b$:
#
# $$ \mathrm{slerp}(a, b; w) = \frac{\sin((1-w)\,\theta)}{\sin\theta}\; a + \frac{\sin(w\,\theta)}{\sin\theta}\; b,
# \qquad \cos\theta = \frac{a\cdot b}{|a|\,|b|} \tag{8.9} $$

# %%
def slerp(a, b, w):
    theta = torch.acos(torch.cosine_similarity(a.flatten(1), b.flatten(1)))[:, None, None, None]
    return (torch.sin((1 - w) * theta) * a + torch.sin(w * theta) * b) / torch.sin(theta)


a, b = noise[:100], noise[:100].roll(10, 0)  # pairs for which the same class is asked
halfway = {"slerp": slerp(a, b, 0.5), "lerp": (a + b) / 2}
lengths = {name: float(x.flatten(1).norm(dim=1).mean()) for name, x in {"noise": a, **halfway}.items()}
assert torch.allclose(slerp(a, b, 0.0), a, atol=1e-5) and torch.allclose(slerp(a, b, 1.0), b, atol=1e-5)
assert abs(lengths["slerp"] - 32) < 0.5 and abs(lengths["lerp"] - 32 / 2**0.5) < 0.5
print({name: f"{length:.1f}" for name, length in lengths.items()}, "and the root of 1,024 is 32")

# %% [markdown]
# *Predict: what does the network draw from noise that is too weak?*

# %%
middle = {name: final(ddim(network, x, times(20), schedule)) for name, x in halfway.items()}
ends = runs["ddim"][20][:100]
middle["mean of pixels"] = (ends + ends.roll(10, 0)) / 2
texture = {name: grain(x) for name, x in {"ends": ends, **middle}.items()}

# %%
alt = "Garments at both ends; between them garments with folds (slerp), plain ones (lerp), double exposures (pixels)."
rows({"one end": ends, **middle, "other end": ends.roll(10, 0)}, alt)

# %%
assert abs(texture["slerp"] / texture["ends"] - 1) < 0.08 and texture["lerp"] < 0.9 * texture["slerp"]

# %% tags=["nbval-ignore-output"]
print("grain:", {name: f"{g:.3f}" for name, g in texture.items()})

# %% [markdown]
# Weak noise gives plain garments without folds or prints: as little variety in the picture as there is in the noise.
# Slerp keeps the grain of the ends. And the mean of the *pixels* is a double exposure, two garments at once.
#
# Now the whole way: from one noise to another, and, as one would like to do it with photographs, encode two shirts,
# walk from code to code, decode.

# %%
ways, down = torch.linspace(0, 1, 10), torch.cat([times(80, 1.0, 0.05), torch.zeros(1)])


def between(a, b, label, ts):
    path = torch.cat([slerp(a[None], b[None], w) for w in ways])
    return final(ddim(partial(denoiser, cond=torch.full((10,), label)), path, ts, schedule))


# %%
strips = {"noises, bag": between(noise[8], noise[28], 8, times(20))}
strips["codes, shirt"] = between(code[4], code[7], 6, down)
strips["pixels"] = torch.stack([(1 - w) * photos[4] + w * photos[7] for w in ways])
alt = "A bag turns into another through bags; a plain shirt into a checked one through shirts; and a cross-fade."
rows(strips, alt)

# %%
alone, half = (code[4].mean() + code[7].mean()) / 2, slerp(code[4:5], code[7:8], 0.5).mean()
assert alone > 0.05 and half > 1.2 * alone

# %% [markdown]
# Between noises and between codes lie garments, between pixels a cross-fade. (The second row swells in the middle.
# Codes of photographs have a mean a little above zero, which noise has not; and what two codes have in *common*,
# slerp enlarges, by up to $\sqrt 2$.)
#
# ## 6. Quality against cost
#
# Now the four samplers on clothes, with equal numbers of *calls*. (Heun with $n$ steps calls $2n - 1$ times, as its
# last step is a plain one.) All from the same 400 noises, without guidance. Two rulers: the Fréchet distance to real
# pictures; and for the three without dice the distance to the end of their common curve, as in section 4, for 40
# noises (this time "the end" is what 50 steps of Heun find).
#
# *Predict: which sampler wins with five calls? How many calls are enough? And do the two rulers agree?*

# %% tags=["slow"]
runs["heun"] = {2 * n - 1: final(heun(network, noise, times(n), schedule)) for n in (3, 5, 10)}
runs["dpmpp_2m"] = {n: final(dpmpp_2m(network, noise, times(n), schedule)) for n in (5, 10, 20)}
scores = {name: {n: quality(x) for n, x in run.items()} for name, run in runs.items()}

# %%
def wobble(x, draws=20):
    """Standard deviation of the Fréchet distance over sets drawn from x with repetition."""
    features, generator = judge.features(x.clamp(-1, 1)), seeded(20)
    picks = [torch.randint(len(x), (len(x),), generator=generator) for _ in range(draws)]
    return float(torch.tensor([frechet(features[pick], features_of_real) for pick in picks]).std())


shop = load("fashion").tensor(slice(0, 2000)).split(400)  # five sets of real ones, as many each
usual = torch.tensor([frechet(judge.features(x), features_of_real) for x in shop])

# %% tags=["slow"]
few = noise[:40]
goal = final(heun(network, few, times(50), schedule))
curves_of = {name: dict(runs[name]) for name in ("ddim", "heun", "dpmpp_2m")}
curves_of["ddim"][40] = final(ddim(network, few, times(40), schedule))
curves_of["dpmpp_2m"][40] = final(dpmpp_2m(network, few, times(40), schedule))
curves_of["heun"][39] = final(heun(network, few, times(20), schedule))
gap = {name: {n: float((x[:40] - goal).square().mean().sqrt()) for n, x in run.items()}
       for name, run in curves_of.items()}

# %%
alt = "Left, Fréchet distances, all flat and alike above the band of real pictures; right, errors that keep falling."
picture, (left, right) = plot.figure(alt, 2, width=9.0, height=3.6)
for i, (name, run) in enumerate(runs.items()):
    apart = [n + 0.2 * i for n in run]  # so that the error bars can be told apart
    left.errorbar(apart, [scores[name][n][0] for n in run], [wobble(x) for x in run.values()], fmt="o-", label=name)
    if name in gap:
        right.plot(list(gap[name]), list(gap[name].values()), "o-", color=plot.COLOURS[i])
left.axhspan(usual.min(), usual.max(), color="0.88", label="real")
left.set(ylim=(0, None), ylabel="Fréchet distance")
right.set(yscale="log", ylabel="pixel error to the curve's end")
for ax in (left, right):
    ax.set(xlabel="calls of the network")
left.legend(ncols=2, loc="lower right")
picture

# %% tags=["nbval-ignore-output"]
for name, score in scores.items():
    print(f"{name:9}" + "".join(f"{n:4} calls {d:.2f} ({reads:.0%})" for n, (d, reads) in score.items()))
print(f"real      {usual.mean():.2f}, from {usual.min():.2f} to {usual.max():.2f}; read {read_in_real:.0%}")

# %% tags=["nbval-ignore-output"]
print({name: {n: f"{e:.3f}" for n, e in es.items()} for name, es in gap.items()})

# %%
assert max(score[n][0] for score in scores.values() for n in score if n < 12) < 2.2
tens = [scores[name][n][0] for name, n in (("ddpm", 10), ("ddim", 10), ("heun", 9), ("dpmpp_2m", 10))]
assert max(tens) - min(tens) < 0.4 and min(tens) > usual.max() + 0.2
assert all(list(score.values())[0][1] > list(score.values())[-1][1] for score in scores.values())  # read by the judge
assert gap["ddim"][5] > 3 * gap["ddim"][40] and gap["dpmpp_2m"][5] > 4 * gap["dpmpp_2m"][40]
assert max(gap["heun"][39], gap["dpmpp_2m"][40]) < 0.85 * gap["ddim"][40]

# %% [markdown]
# **Left: nobody wins.** From ten calls on all four are level within their error bars, and nothing is gained by going
# on: from 10 calls to 20 the numbers rather rise. With five, DDPM may be a little behind; 400 pictures cannot tell.
# **Right: the solvers of second order are closer**, not yet with five calls, but the more clearly the more calls:
# with 40 their error is about seven tenths of DDIM's. But the pictures do not profit: what separates them from real
# ones is not the walk's error any more. It is the network's. (A ruler shows what it can see. The share that is read
# as asked *falls* with more calls, for all four, and only five calls of DDPM are read better than real pictures:
# smooth and typical is easy to read.)
#
# For a stronger network, and pictures with more detail, the order of the right panel decides, and there ten to thirty
# calls of a second-order solver are the usual choice. Measure your own case, with error bars. The package's
# `generate` takes `dpmpp_2m` with 25 steps.
#
# Watch one walk: ten garments in 25 steps, and below each the guess that led there.

# %%
from minidiff.course.widgets import explore, film

states = list(ddim(network, noise[:10], times(25), schedule))
alt = "Above, noise that turns into ten garments; below, blurs that sharpen into the same garments."
film([rows({f"$x_t$, t = {state.t:.2f}": state.x, "guess": state.x0}, alt) for state in states[::4]], ms=400)

# %% [markdown]
# And try for yourself: the number of steps, and $\eta$. (Where this page is only being read, you see the first
# position.)

# %%
import ipywidgets


def draw(n, eta):
    alt = f"Ten garments, drawn with {n} steps at eta {eta:.1f}."
    x = final(ddim(network, noise[:10], times(n), schedule, eta, seeded(21)))
    return plot.images(x, alt, titles=about["classes"])


n = ipywidgets.IntSlider(8, min=1, max=40, description="steps", continuous_update=False)
eta = ipywidgets.FloatSlider(0.0, min=0, max=1, step=0.1, description="eta", continuous_update=False)
_ = explore(draw, n=n, eta=eta)

# %% [markdown]
# ## Errors you will meet
#
# Thirteen bugs, nearly all from public codes, some of which stood for years. None of them crashes. For each, the step
# as it should be with one thing changed; `right` is (8.1). Numbers 5 to 9 are changes of DDIM (8.3), mostly with
# $\eta = 0$; so they draw other garments from the same noise than row `right`, which is no fault of theirs.

# %%
def right(x, denoise, s, t, z):
    kernel = posterior(x, denoise(x, t), s, t, schedule)
    return kernel.mean + kernel.std * z


# %% [markdown]
# **The fresh noise.** (1) An annotated implementation of DDPM adds $\sqrt\beta\,z$ in every step, the last included.
# (2) A variance is taken for a standard deviation. (3) A course notebook draws its noise with `rand`: uniform on
# $[0, 1]$, never negative.

# %%
def noise_in_last_step(x, denoise, s, t, z):
    return posterior(x, denoise(x, t), s, t, schedule).mean + transition(s, t, schedule)[1] * z


def variance_for_std(x, denoise, s, t, z):
    kernel = posterior(x, denoise(x, t), s, t, schedule)
    return kernel.mean + kernel.std**2 * z


def uniform_noise(x, denoise, s, t, z):
    return right(x, denoise, s, t, torch.special.ndtr(z))  # what rand would have drawn


# %% [markdown]
# **The coefficients.** (4) $\bar\alpha_t$ is read where $\bar\alpha_{t-1}$ should be. (5) In DDIM, the direction is
# multiplied by $\nu$ instead of $\sqrt{\sigma_s^2 - \nu^2}$; with $\eta = 0$ it is gone. (6) A root is missing:
# $1 - \bar\alpha$, which is $\sigma^2$, in the place of $\sigma$. (7) The last step of DDIM goes to the first entry
# of the table, `alpha_bar[0]`, instead of 1. (8) The slip of section 3, $\eta$ for $\eta^2$. (9) Coefficients in half
# precision: near the data $\alpha$ is rounded to 1, and $\sigma$ to 0.

# %%
def wrong_neighbour(x, denoise, s, t, z):
    (alpha_t, sigma_t), (ratio, sigma_ts), x_0 = schedule(t), transition(s, t, schedule), denoise(x, t)
    return ratio * x + alpha_t * sigma_ts**2 / sigma_t**2 * x_0 + posterior(x, x_0, s, t, schedule).std * z


def direction_lost(x, denoise, s, t, z):
    return schedule(s)[0] * denoise(x, t)


def root_missing(x, denoise, s, t, z):
    x_0, (alpha_t, sigma_t) = denoise(x, t), schedule(t)
    return schedule(s)[0] * x_0 + schedule(s)[1] ** 2 * (x - alpha_t * x_0) / sigma_t


# %%
def first_entry(x, denoise, s, t, z):
    return relax(0.0)(x, denoise, s.clamp(min=1 / 1000), t, z)


def eta_for_its_square(x, denoise, s, t, z):
    return relax(0.5**0.5)(x, denoise, s, t, z)  # meant is 0.5


def half_precision(x, denoise, s, t, z):
    alpha_s, alpha_t = schedule(s)[0].half(), schedule(t)[0].half()
    sigma_s, sigma_t = (1 - alpha_s**2).sqrt(), (1 - alpha_t**2).sqrt()
    x_0 = denoise(x, t)
    return alpha_s.double() * x_0 + sigma_s.double() * (x - alpha_t.double() * x_0) / sigma_t.double()


# %% [markdown]
# **The call.** (10) Pictures are thought to lie in $[0, 1]$, and the guess is clipped to that. (11) The time is not
# passed on: told $t = 0$ every time, the denoiser sees no noise and gives back what it is shown. (12) The index runs
# backwards. **The start.** (13) A table of 200 doses with the end values of 1,000 ends at $\alpha = 0.364$ (chapter
# 02, section 6), and the walk starts there, from pure noise. As a schedule with $\alpha^2 + \sigma^2 = 1$ is nothing
# but a grid on our quarter circle, that is a walk which starts at $t = 0.763$ instead of 1.

# %%
def clipped_to_0_1(x, denoise, s, t, z):
    return right(x, lambda x, t: denoise(x, t).clamp(0, 1), s, t, z)


def time_not_passed(x, denoise, s, t, z):
    return right(x, lambda x, t: denoise(x, 0 * t), s, t, z)


def time_backwards(x, denoise, s, t, z):
    return right(x, lambda x, t: denoise(x, 1 - t), s, t, z)


# %%
too_early = float(torch.acos(FromBetas(linear_betas(200))(1.0)[0]) * 2 / torch.pi)
assert abs(too_early - 0.763) < 1e-3 and abs(schedule(too_early)[0] - 0.364) < 1e-3
bugs = [noise_in_last_step, variance_for_std, uniform_noise, wrong_neighbour, direction_lost, root_missing,
        first_entry, eta_for_its_square, half_precision, clipped_to_0_1, time_not_passed, time_backwards]
gallery = {"right": (right, times(20))} | {f"{i}": (bug, times(20)) for i, bug in enumerate(bugs, 1)}
gallery["9"] = (half_precision, quadratic(20))  # its last step starts nearer to the data
gallery["13"] = (right, times(20) * too_early)

# %% tags=["slow"]
shown = {name: walk(step, network, noise[:100], ts, seeded(22)) for name, (step, ts) in gallery.items()}
shown["9"] = shown["9"].nan_to_num(-1)  # as a picture file would have it

# %%
rows(shown, "Fourteen rows of ten garments, the first drawn right, the others each with one bug.")

# %%
names = ["right", *(bug.__name__.replace("_", " ") for bug in bugs), "starts too early"]
found_by_eye = dict(zip(shown, [quality(x) for x in shown.values()], strict=True))
clean, reads = found_by_eye["right"]
assert all(found_by_eye[k][0] > clean + 0.8 for k in "1 2 4 5 6 9 10 11 12 13 3".split())
assert all(found_by_eye[k][0] < clean + 1.5 for k in "78") and all(found_by_eye[k][1] > reads + 0.02 for k in "256")

# %% tags=["nbval-ignore-output"]
for (number, (distance, share)), name in zip(found_by_eye.items(), names, strict=True):
    print(f"{number.strip('right'):>2} {name:20} Frechet {distance:5.1f}, read as asked {share:4.0%}")

# %% [markdown]
# (These distances are of 100 pictures each, and the fewer pictures, the larger the distance: so even `right` has more
# than twice what it had with 400.)
#
# **Look yours up:**
#
# | what you see | look for |
# |---|---|
# | black (or white) squares, `nan` | 9: half precision; a root of something negative; division by $\sigma = 0$ |
# | all white, or one grey | 3: dice that are never negative; 10: the wrong range |
# | pure noise | 11: the denoiser does not hear the time |
# | salt and pepper over good shapes | 1: noise in the last step |
# | salt and pepper over bad shapes | 4: coefficients that do not fit together |
# | clean, smooth, with little variety | 2, 5, 6: too little noise on the way |
# | blurred, with halos | 12: the wrong time |
# | textures of clothes in shapes that are none | 13: the walk starts where the pictures are not yet gone |
# | nothing | 7, 8; with hundreds of steps, 1 as well |
#
# Rows 2, 5 and 6 deserve a second look. They are pretty, and *easier* to read than what a right sampler draws. By a
# classifier's verdict they are the best rows of all. What is wrong with row 5 one sees in two pictures of the *same*
# class:

# %%
def variety(x):
    """Mean distance of pictures to others of the same class, per pixel."""
    return float((x - x.roll(10, 0)).square().mean().sqrt())


assert variety(shown["5"]) < 0.25 * variety(shown["right"]) and variety(shown["2"]) < 0.85 * variety(shown["right"])

# %% tags=["nbval-ignore-output"]
print({name: f"{variety(shown[name]):.2f}" for name in ("right", "2", "5")})

# %% [markdown]
# All T-shirts of row 5 are one T-shirt. It throws all noise away in its first step, and what is left is the
# mean of a class, sharpened. A sampler is not judged by single pictures.
#
# *Which bugs are these? Three rows from other noise.*

# %%
riddles = {"A": gallery["2"], "B": gallery["1"], "C": gallery["13"]}
mystery = {name: walk(step, network, noise[100:110], ts, seeded(23)) for name, (step, ts) in riddles.items()}
alt = "Three rows of garments: one flat and clean, one sprinkled with grains, one with misshapen, bright ones."
rows(mystery, alt)

# %% [markdown]
# <details><summary>Answer</summary>
#
# A is number 2, a variance taken for a standard deviation: clean and flat. B is number 1, noise in the last step:
# grains over good shapes. C is number 13: textures are good and shapes are not, because the network believes that
# what it is shown still holds a third of a picture, and takes shapes in the noise for it.
#
# </details>
#
# ### A test that needs no training
#
# Looking at pictures is a poor test: several of these rows look nearly right. Which tests would have found the bugs,
# before any network was trained? Three, all with answers that are known exactly. The **one point** test: if only one
# clean point exists, the denoiser's answer is always that point, and every sampler must return it. The **one step**
# test: if $x_0$ is known, one step must lead from the right Gaussian to the right Gaussian, (8.2). And the **whole
# walk** with an oracle must give the moments of its mixture back. The mixture is moved off the centre here:
# standardised data would hide mistakes that pull everything towards 0.

# %%
point = torch.tensor([[-0.6, 0.8]], dtype=torch.float64)


def one_point(step, ts):
    """Largest distance of the samples from the only possible one."""
    return float((walk(step, lambda x, t: point.expand_as(x), cloud[:200], ts, seeded(24)) - point).abs().max())


def one_step(step, ts):
    """Largest error of mean and standard deviation after one step, in units of sigma_s, over three pairs of times."""
    worst, x_0 = 0.0, point.expand_as(cloud)
    for s, t in torch.tensor([[0.3, 0.35], [0.5, 0.9], [0.02, 0.05]], dtype=torch.float64):
        z = torch.randn(cloud.shape, generator=seeded(25), dtype=torch.float64)
        x_s = step(schedule(t)[0] * x_0 + schedule(t)[1] * cloud, lambda x, t: x_0, s, t, z)
        residue = (x_s - schedule(s)[0] * x_0) / schedule(s)[1]
        worst = max(worst, float(residue.mean().abs()), float((residue.std() - 1).abs()))
    return worst


# %%
moved = Mixture(clusters.weights, clusters.means + torch.tensor([0.8, 0.6]), clusters.stds)
truth = moved.sample(100_000, seeded(26))


def whole_walk(step, ts):
    """Largest error of the mean, of the standard deviation, and of the width of a cluster as a share of 1."""
    x = walk(step, partial(moved.denoise, schedule=schedule), cloud, ts, seeded(27))
    error = torch.cat([x.mean(0) - truth.mean(0), x.std(0) - truth.std(0)]).abs().max()
    return max(float(error), abs(width(x - torch.tensor([0.8, 0.6])) / 0.2 - 1) / 3)


# %% [markdown]
# A hundred steps each, and limits that the right step keeps with room to spare: $10^{-3}$ for the point, 0.04 for the
# step, 0.06 for the walk (where a width may be off by three times as much).

# %%
limits = {one_point: 1e-3, one_step: 0.04, whole_walk: 0.06}
hundred = {name: (step, quadratic(100) if name == "9" else times(100)) for name, (step, _) in gallery.items()}
hundred["13"] = (right, times(100) * too_early)
caught = {name: [not test(*case) < limit for test, limit in limits.items()] for name, case in hundred.items()}

# %%
print(" " * 24 + "".join(f"{test.__name__:>12}" for test in limits))
for (number, finds), name in zip(caught.items(), names, strict=True):
    print(f"{number.strip('right'):>2} {name:21}" + "".join(f"{'found' if found else '-':>12}" for found in finds))

# %%
missed = [number for number, finds in caught.items() if not any(finds)]
assert missed == ["right", "8"]
clean, noisy = (width(walk(step, oracle, cloud, times(100), seeded(28))) for step in (right, noise_in_last_step))
assert clean < 0.195 and abs(noisy - 0.2) < abs(clean - 0.2)

# %% [markdown]
# **Twelve of thirteen, in a few seconds, without a network or a picture**, and the right step passes. Each test has
# its own catch. A whole walk does not see noise in the last step: with a hundred steps it is small, and even makes
# clusters wider that were a little too narrow. One step with a known $x_0$ cannot see that the network is asked for
# the wrong time. And for number 7, which no eye finds and no score, there is only the most trivial of the three,
# "does it return the point?".
#
# The one that is missed is $\eta$ for its square: it *is* a right sampler, though not the one that its author meant.
# Only a comparison finds it, with the paper or with another library, as in section 3.
#
# ## Exercises
#
# **1. Pen.** (a) For which $\eta$ does (8.3) contain no old noise at all? (b) Show that for this $\eta$ the step
# says: forget $x_t$, take the guess, and noise it afresh to $s$; and that it is allowed by (8.2). (c) Is that $\eta$
# larger or smaller than DDPM's?
#
# <details><summary>Answer</summary>
#
# (a) $\sigma_s^2 = \nu^2 = \eta^2\,\sigma_{ts}^2\sigma_s^2/\sigma_t^2$ gives $\eta = \sigma_t/\sigma_{ts}$. (b) Then
# $x_s = \alpha_s\,\hat x_0 + \sigma_s z$, which is (2.4) for the guess; $\nu = \sigma_s$ is the upper end of what
# (8.2) allows. (Consistency models walk like this.) (c) Larger than 1, as
# $\sigma_{ts}^2 = \sigma_t^2 - \alpha_{ts}^2\sigma_s^2 \le \sigma_t^2$; equal only if $\alpha_{ts}\,\sigma_s = 0$,
# that is, from pure noise, or to $s = 0$.
#
# </details>

# %% tags=["answer"]
s, t = torch.tensor([0.4, 0.7], dtype=torch.float64)
eta = float(schedule(t)[1] / transition(s, t, schedule)[1])
places = torch.randn(2, 5, 3, generator=seeded(30), dtype=torch.float64)
a, b = (final(ddim(lambda x, t: x * 0 + 0.3, x, torch.stack([t, s]), schedule, eta, seeded(31))) for x in places)
assert torch.allclose(a, b, atol=1e-6) and eta > 1  # where it came from is forgotten

# %% [markdown]
# **2. Code.** Write the DDIM step (8.3) in the paper's letters, from the network's noise `eps`. The dictionary is
# $\alpha = \sqrt{\bar\alpha}$ and $\sigma = \sqrt{1 - \bar\alpha}$ at each of the two times; $\sigma_{ts}^2$ follows
# from (2.5), as in `step_back`. (`alpha_bar_s` and the like are plain numbers here, so roots are `** 0.5`.)

# %%
from minidiff.course import check


def ddim_by_paper(x, eps, alpha_bar_s, alpha_bar_t, eta, z):
    """x at t, eps and the fresh noise z of one shape; alpha_bar_s > alpha_bar_t and eta numbers -> x at s."""
    ### BEGIN SOLUTION
    x_0 = (x - (1 - alpha_bar_t) ** 0.5 * eps) / alpha_bar_t**0.5
    beta_tilde = (1 - alpha_bar_s) / (1 - alpha_bar_t) * (1 - alpha_bar_t / alpha_bar_s)
    nu = eta * beta_tilde**0.5
    return alpha_bar_s**0.5 * x_0 + (1 - alpha_bar_s - nu**2) ** 0.5 * eps + nu * z
    ### END SOLUTION


# %%
def by_package(x, eps, alpha_bar_s, alpha_bar_t, eta, z):
    two_steps = FromBetas((1 - alpha_bar_s, 1 - alpha_bar_t / alpha_bar_s))  # to s, and on to t
    x_0 = (x - (1 - alpha_bar_t) ** 0.5 * eps) / alpha_bar_t**0.5
    return final(ddim(lambda x, t: x_0, x, torch.tensor([1.0, 0.5]), two_steps, eta, seeded(32)))  # draws z


x, eps = torch.randn(2, 4, 3, generator=seeded(33), dtype=torch.float64)
z = torch.randn(4, 3, generator=seeded(32), dtype=torch.float64)
none = torch.zeros_like(x)
inputs = [(x, none, 0.9, 0.5, 0.0, none), (none, none, 0.9, 0.5, 0.5, z)]  # the picture alone, fresh noise alone
inputs += [(x, eps, 0.9, 0.5, eta, z) for eta in (0.0, 0.5, 1.0)] + [(x, eps, 0.3, 0.01, 0.7, z)]
check(ddim_by_paper, by_package, inputs,
      hint="guess x_0 first; nu is eta times the root of beta-tilde; what nu takes, the old noise must give")

# %% [markdown]
# **3. Open.** Find the best ten-step grid for `dpmpp_2m`. A family to begin with (Karras et al. 2022) is even in a
# root of the noise level $u = \sigma/\alpha$, from $u_\max$ to $u_\min$:
#
# $$ u_i = \Big(u_\max^{1/\rho} + \frac{i}{n-1}\,\big(u_\min^{1/\rho} - u_\max^{1/\rho}\big)\Big)^{\rho},
# \qquad i = 0, \dots, n-1 \tag{8.10} $$
#
# Judge by the oracle *and* by pictures, as the last cell does. Do they agree? Try the best one again with other noise
# (`cloud[400:800]`, `noise[100:200]`): what does not last was luck. And what does the best grid for `ddpm` look like?

# %%
def powers(n, rho=7.0, low=0.02, high=80.0):
    """(8.10) as times, with both ends put on."""
    ends = torch.tensor([high, low], dtype=torch.float64) ** (1 / rho)
    u = torch.linspace(*ends.tolist(), n, dtype=torch.float64) ** rho
    return torch.cat([torch.ones(1), torch.atan(u)[1:] * 2 / torch.pi, torch.zeros(1)])


noise_level = torch.tan(powers(10)[1:-1] * torch.pi / 2) ** (1 / 7)
assert torch.allclose(noise_level.diff(), noise_level.diff()[0])  # even in the seventh root
assert torch.isclose(noise_level[-1] ** 7, torch.tensor(0.02).double())

# %% tags=["nbval-ignore-output"]
for name, grid_of in (grids | {"powers": powers}).items():
    on_points = (final(dpmpp_2m(oracle, cloud[:400], grid_of(10), schedule)) - end).norm(dim=1).mean()
    on_pictures = quality(final(dpmpp_2m(network, noise[:100], grid_of(10), schedule)))[0]
    print(f"{name:16} points off by {on_points:.3f}, Frechet {on_pictures:.2f} (100 pictures)")

# %% [markdown]
# ## What to keep
#
# - One loop, many steps. The step back with known $x_0$ holds for any two times (8.1): a stride is only worse because
#   it asks for one guess where many could be asked.
# - Few steps leave the samples too narrow with $\tilde\beta$, too wide with $\beta$. Clipping is knowledge about
#   pixels.
# - The loss fixes the pairs $(x_0, x_t)$ and nothing else, so a whole family of walks fits one network (8.2). DDIM
#   (8.3) sorts it by $\eta$: 1 is DDPM, 0 draws no noise, and $\nu = \eta\sqrt{\tilde\beta}$.
# - With $\eta = 0$ the walk follows a curve (8.4, 8.5). DDIM and Euler halve their error with twice the steps, Heun
#   and DPM-Solver++(2M) quarter it (8.6, 8.7); and each has its favourite grid.
# - Noise is then a code: it can be read off a photograph (8.8), given the noise that belongs to the beginning; and
#   between two codes one walks on the sphere (8.9).
# - A sampler needs no network to be tested: one point, one step, one whole walk with an oracle find twelve of
#   thirteen real bugs. Comparing with another library finds the last.
#
# Next: how to make a network draw what one asks for, and why asking harder helps, until it hurts.
