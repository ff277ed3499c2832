# %% [markdown]
# # 00 · Start here
#
# **How does a picture come out of noise?** Guess what is behind the noise, go part of the way to the guess, and guess
# again. **And is that picture remembered, or invented?**

# %%
import torch

from minidiff import Cosine, Empirical, add_noise, cfg, ddim, final, times
from minidiff.app.checkpoint import load_denoiser
from minidiff.course import diagrams, widgets, yours
from minidiff.data import load, shipped

denoiser, about = load_denoiser(shipped("fashion.safetensors"))  # a trained network
schedule = denoiser.schedule  # schedule(t): how much picture, how much noise
classes = [name.split("/")[0] for name in about["classes"]]
noises = torch.randn(40, 1, 32, 32, generator=torch.Generator().manual_seed(0))
noise, wanted = noises[:10], torch.arange(10)  # ten noises, a label for each


# %%
@torch.no_grad()
def guess(x, t, label=wanted):
    return denoiser(x, t, label)


def guess_bag(x, t):
    return guess(x, t, wanted[8:9])  # label 8 is "Bag"


# ddim guesses and steps, here three times (section 3 says how);
# times(3) is 1, 0.67, 0.33, 0
bag = list(ddim(guess_bag, noise[8:9], times(3), schedule))
diagrams.guess_and_mix(noise[8:9], bag, ("all bags", "one bag", "the bag"),
                       "From noise to a bag in three steps, with a guess for each.")

# %% [markdown]
# Your computer has just drawn this bag, with a network that ships with the course. The network guesses the picture behind
# the noise (black arrow). The first guess is a blur of all bags, the second is already one bag. A step mixes the guess
# (orange) with the noise that is left (grey). The third guess is the bag that comes out.
#
# Now forty pictures in 25 steps. `cfg` is guidance: it makes the label count more.

# %%
labels = wanted.repeat(4)
# null=10 is the label "none", w the strength (section 4); final keeps the last picture
guided = cfg(denoiser, labels, null=10, w=2.0)
wardrobe = final(ddim(guided, noises, times(25), schedule)).clamp(-1, 1)
above = [f"{name}\n" if k % 2 else name for k, name in enumerate(classes)]
diagrams.pictures(dict(zip("1234", wardrobe.split(10), strict=True)),
                  "Forty drawings of clothes, a column for each class.", above=above)

# %% [markdown]
# These are the first forty noises of seed 0; none was left out. Some drawings have flaws: one T-shirt is in two pieces, the
# first bag's handle is a few specks. The network is small: 640,000 parameters, trained for a quarter of an hour on one CPU core.
#
# **You build** the step and the guidance. At the end your two functions draw the first row again. Stable Diffusion
# ([@rombach2022]) draws in the same way, with a thousand times more parameters, words as labels, and compressed pictures.

# %% [markdown]
# ## How to work
#
# Plan three quarters of an hour; the computer needs half a minute.
#
# - **Run** the cells one by one, with Shift and Enter. Later cells need earlier ones: to start further
#   down, choose *Run All Above Selected Cell* (Colab: *Run before*).
# - **Predict** before you run the next cell.
# - **Your turn** is a gap of one or two lines, empty in `notebooks/student/`. If right, it is used
#   from there on; if not, ours is.
# - **✓** is the result of a folded check, which finds in another way what you have just read.
# - **Something fails?** `python -m minidiff doctor`, in a terminal or after a `!` in a cell, checks your machine.

# %% [markdown]
# | letter | meaning |
# |---|---|
# | $x_0$ | a clean picture: 32 by 32 pixels, numbers from -1 (black) to 1 (white) |
# | $\epsilon$ | noise: a standard normal number for each pixel |
# | $t$, $s < t$ | times, from 0 (clean) to 1 (noise); a step goes from $t$ to $s$ |
# | $x_t = \alpha_t\, x_0 + \sigma_t\, \epsilon$ | a noisy picture. From $t = 0$ to 1, $\alpha_t$ falls from 1 to 0 and $\sigma_t$ rises from 0 to 1, with $\alpha_t^2 + \sigma_t^2 = 1$ (both are 0.71 at 0.5) |
# | $\hat x_0$, $\hat\epsilon$ | guesses at $x_0$ and $\epsilon$, made from $x_t$ |
# | $w$ | how strongly the label counts |

# %% [markdown]
# ## 1. A picture out of noise
#
# The network has learned from 10,000 small photographs of clothes (Fashion-MNIST, [@xiao2017]). In training each gets
# noise: a little, or much, or so much that nothing is left. One photograph at six times, with the two parts of
# $x_t$ (grey is 0).

# %%
training = load("fashion")
clothes = training.tensor()  # (10000, 1, 32, 32)
boot, ts = clothes[:1], (0.0, 0.3, 0.5, 0.8, 0.9, 1.0)
noisy = [add_noise(boot, noise[:1], t, schedule) for t in ts]  # x_t, as above
alphas, sigmas = (torch.tensor(c) for c in zip(*map(schedule, ts), strict=True))
rows = {"$x_t$": torch.cat(noisy), "α × boot": alphas.reshape(6, 1, 1, 1) * boot,
        "σ × noise": sigmas.reshape(6, 1, 1, 1) * noise[:1]}
values = {"t = {:g}": ts, "α = {:.2f}": alphas, "σ = {:.2f}": sigmas}
diagrams.pictures(rows, "A boot in more and more noise, and the two parts of each.",
                  above=[name.format(c) for name, cs in values.items() for c in cs])

# %% [markdown]
# The picture dissolves into noise, as ink *diffuses* in water; hence the name *diffusion model* ([@sohldickstein2015],
# [@ho2020]). The network has learned one thing: **given $x_t$, the time $t$ and a label, guess the photograph $x_0$.** It is
# a [denoiser](../docs/glossary.md#denoiser). To draw, we give it only noise and a label.

# %% [markdown]
# ### Memory or invention?
#
# Are the drawn clothes copies? For each drawn picture we look for the nearest of the 10,000. The
# chapter's measure is the *root mean square* difference of the pixels (RMS): 0 for a copy.
#
# *Predict: how many of five from the first row are copies?*

# %%
from minidiff.app.metrics import nearest


def rms(a, b):
    """Return the RMS difference of each picture of a from the one of b: (N,)."""
    return (a - b).square().flatten(1).mean(1).sqrt()


photos = clothes[nearest(wardrobe, clothes)[1]]  # the nearest one of each of the 40
distance, five = rms(wardrobe, photos), [2, 5, 6, 7, 8]
names = [classes[k] for k in five]
diagrams.pictures({"drawn": wardrobe[five], "nearest": photos[five]},
                  "Five drawn clothes, the nearest photographs, their RMS differences.",
                  above=[*names, *(f"RMS {distance[k]:.2f}" for k in five)])

# %% [markdown]
# <details><summary>Answer</summary>
#
# None. Even the sneaker, of these five the nearest, is 0.20 away from its photograph.
#
# </details>

# %% tags=["check"]
# @title ✓ As far from the training pictures as photographs are
unseen = load("fashion", "test").tensor(slice(0, 100))  # not in the training
usual = rms(unseen, clothes[nearest(unseen, clothes)[1]])
brute = (wardrobe[:3, None] - clothes).square().mean((2, 3, 4)).min(1).values.sqrt()
assert torch.allclose(brute, distance[:3], atol=1e-4)
assert distance[five].argmin() == 3 and abs(distance[7] - 0.20) < 0.01  # the sneaker
assert distance.min() > max(0.12, usual.min())
assert 0.8 < distance.median() / usual.median() < 1.25
print(f"✓ RMS from the nearest training photograph, median {distance.median():.2f}",
      f"and least: {distance.min():.2f} for the 40 drawings;",
      f"{usual.median():.2f} and {usual.min():.2f} for 100 photographs",
      "that the network has never seen")

# %% [markdown]
# So no drawing is a copy, pixel for pixel. (RMS would miss a shifted copy; [chapter 13](13_evaluation.ipynb) looks closer.) But the
# network has only learned to guess training photographs. Where do new clothes come from?

# %% [markdown]
# ## 2. What a guess is
#
# We ask the network once, without guidance, at $t = 1$. It sees pure noise and knows only the label.
#
# *Predict: for which labels is its guess clear, and for which is it a blur?*

# %%
first = guess(noise, torch.tensor(1.0))
diagrams.pictures({"": first}, "Ten first guesses, some clear and some blurred.",
                  above=classes, columns=5)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Clearest for trousers; most blurred for sandals and bags, whose photographs differ most from each other.
#
# </details>

# %% tags=["check"]
# @title ✓ Most blurred where pictures of a label differ most
def edges(x):  # squared steps from pixel to pixel, (N,)
    return sum(x.diff(dim=d).square().sum((1, 2, 3)) for d in (2, 3))


of = [(clothes[training.y == k] + 1) / 2 for k in range(10)]  # light, from 0
differ = torch.stack([x.var(0).sum() / x.square().mean(0).sum() for x in of])
real = torch.stack([edges(clothes[training.y == k]).mean() for k in range(10)])
order = (edges(first) / real).argsort().tolist()  # from the most blurred
assert set(order[:2]) == set(differ.argsort()[-2:].tolist()) == {5, 8}
assert order[-1] == 1
kept = [f"{classes[k].lower()} {edges(first)[k] / real[k]:.0%}" for k in (5, 8, 1)]
print("✓ sandals and bags differ most, and keep least of a photograph's edges:",
      ", ".join(kept))

# %% [markdown]
# **Your turn.** A suspicion: each guess is the mean of all training pictures with its label. Write that mean.

# %%
def class_mean(pictures, labels, k):
    """Return the mean of the pictures (N, 1, 32, 32) whose label (N,) is k."""
    ### BEGIN SOLUTION
    return pictures[labels == k].mean(0)
    ### END SOLUTION


# %% tags=["folded"]
# @title Check your answer
def by_adding(pictures, labels, k):
    total, count = 0, 0
    for picture, label in zip(pictures, labels.tolist(), strict=True):
        if label == k:
            total, count = total + picture, count + 1
    return total / count


few = torch.tensor([3.0, 5, 8]).reshape(3, 1, 1, 1)  # three pictures of one pixel
class_mean = yours(class_mean, by_adding, [(few, torch.tensor([0, 1, 1]), 1)],
                   hint="a comparison of labels picks pictures; mean over dimension 0")

# %%
means = torch.stack([class_mean(clothes, training.y, k) for k in range(10)])
diagrams.pictures({"guess": first[five], "class mean": means[five]},
                  "Five first guesses above the class means, nearly the same.",
                  above=names)

# %% [markdown]
# Nearly the same, a little darker. (The fine grid: the network works on 2 by 2 pixels.)

# %% tags=["check"]
# @title ✓ The first guess is nearly the class mean
error, darker = rms(first, means), (means - first).flatten(1).mean(1)  # (10,) each
between = rms(means.mean(0, keepdim=True), means)
assert error.max() < 0.15 and (error < between).all()
assert 0.02 < darker.min() and darker.max() < 0.12
print(f"✓ each guess is {error.min():.2f} to {error.max():.2f} RMS from the mean of",
      f"its class; the mean of all ten is {between.min():.2f} to {between.max():.2f}",
      "from it")

# %% [markdown]
# ### The best guess is a weighted mean
#
# The blur is not a mistake. Training makes the *squared error* of the guess small. At $t = 1$ all photographs of a label fit
# the noise equally well, and the guess with the smallest squared error is their mean
# ([deeper](deeper/00_start_here.ipynb#why-the-mean-is-best) shows why).
#
# With less noise, some photographs fit $x_t$ better than others. Each photograph $x_i$ then gets a *weight*: the probability
# $p(i \mid x_t)$ that it is the one behind the noise. The best guess is the mean with these weights.

# %% [markdown]
# Bayes' rule gives this probability, the *posterior*. Before we look, all photographs are equally likely. If it is $x_i$,
# then the noise in
# $x_t$ must be $\epsilon_i = (x_t - \alpha_t\, x_i) / \sigma_t$. The normal density of this noise is proportional to
# $\exp(-|\epsilon_i|^2 / 2)$, where $|\epsilon_i|^2$ is the sum of the squares of its pixels. Divide by the sum over all
# photographs:
#
# $$ p(i \mid x_t) = \frac{\exp\!\left(-|x_t - \alpha_t\, x_i|^2 / 2\sigma_t^2\right)}
# {\sum_j \exp\!\left(-|x_t - \alpha_t\, x_j|^2 / 2\sigma_t^2\right)} . $$
#
# **Your turn.** Write these weights. `softmax(0)` takes `exp` of each number of a list and divides by the sum.

# %%
def weights(x, photos, t):
    """Return p(i | x_t) for photos (N, 1, 32, 32), x = x_t being (1, 1, 32, 32)."""
    alpha, sigma = schedule(t)
    ### BEGIN SOLUTION
    squares = (x - alpha * photos).square().sum((1, 2, 3))
    return (-squares / (2 * sigma**2)).softmax(0)
    ### END SOLUTION


# %% tags=["folded"]
# @title Check your answer
def by_densities(x, photos, t):
    alpha, sigma = (float(c) for c in schedule(t))
    normal = torch.distributions.Normal(alpha * photos.double(), sigma)
    logs = normal.log_prob(x.double()).flatten(1).sum(1)  # of the densities
    return (logs - logs.logsumexp(0)).exp()


dots = torch.tensor([-1.0, 0.2, 1.0]).reshape(3, 1, 1, 1)  # pictures of one pixel
pairs = torch.tensor([[0.5, -1.0], [1.0, 0.0]]).reshape(2, 1, 1, 2)  # and of two
whole = add_noise(clothes[:1], noise[:1], 0.5, schedule)  # too much for exp alone
cases = [(dots[1:2], dots, 0.4), (pairs[:1], pairs, 0.8), (whole, clothes[:3], 0.5)]
weights = yours(weights, by_densities, cases,
                hint="x minus alpha times photos, squared, summed over dimensions 1 to "
                     "3, over 2 sigma**2; then softmax of minus that")

# %% [markdown]
# To see the weights, imagine that there are only five bags in the world. We add noise to the second one.
#
# *Predict: at* $t = 0.8$ *our eyes see nothing but noise. How sure is the formula that it is the second bag?*

# %%
bags = clothes[training.y == 8][[4, 12, 20, 7, 16]]
rows = {}
for t in (1.0, 0.95, 0.9, 0.8):
    x = add_noise(bags[1:2], noise[:1], t, schedule)
    p = weights(x, bags, t)
    mean = torch.tensordot(p.float(), bags, 1)  # with these weights
    rows[f"t = {t:g}\nα {schedule(t)[0]:.2f}"] = x[0], p, mean
diagrams.weighted_mean(
    bags, rows, ("$x_t$", "five bags, and the weight of each", "best guess"),
    "Weights of five bags: alike at t = 1, all on the second at t = 0.8.")

# %% [markdown]
# <details><summary>Answer</summary>
#
# Quite sure: 100 %. The bag is still there, at $\alpha_t = 0.31$ of its strength. Each pixel in which the bags differ says a
# little about it, and the formula adds it all up.
#
# </details>
#
# At $t = 1$ the five count alike, and the best guess is a blur. At 0.95 *another* bag leads: by chance this noise looks a
# little like it. This exact best guess is the
# package's `Empirical` ([@karras2022], appendix B).

# %% tags=["check"]
# @title ✓ The weighted mean has the smallest squared error
dice, t = torch.Generator().manual_seed(3), torch.tensor(0.95)
which = torch.randint(5, (1000,), generator=dice)  # bags at random, in noise
x = add_noise(bags[which], torch.randn(1000, 1, 32, 32, generator=dice), t, schedule)
p = torch.stack([weights(each, bags, t) for each in x.split(1)]).float()
ways = torch.stack([p, 0 * p + 0.2, 1.0 * (p == p.amax(1)[:, None])])
made = torch.tensordot(ways, bags, 1)  # three ways to weigh: (3, 1000, 1, 32, 32)
cost = (made - bags[which]).square().mean((1, 2, 3, 4)).sqrt()
assert (cost[1:] > 1.02 * cost[0]).all() and list(rows.values())[1][1].argmax() == 3
assert torch.allclose(made[0], Empirical(bags).denoise(x, t, schedule), atol=1e-3)
print(f"✓ RMS error at t = 0.95, over a thousand draws: {cost[0]:.2f} for the weighted",
      f"mean, {cost[1]:.2f} for the mean of the five, {cost[2]:.2f} for the likeliest",
      "bag; Empirical has the same weighted mean")

# %% [markdown]
# ### So where do new clothes come from?
#
# Now all photographs of a label, about a thousand, take the place of the five bags. A sampler uses their exact best guess in
# each step. A second sampler starts from the same noises and uses the network's guess.
#
# *Predict: what does the sampler with the exact best guess draw in the end?*

# %%
memories = [Empirical(clothes[training.y == k]) for k in range(10)]


def exact(x, t):
    """Return the exact best guess for each of ten noisy pictures, one of each class."""
    return torch.cat([memory.denoise(x[k : k + 1], t, schedule)
                      for k, memory in enumerate(memories)])


# %%
copies = final(ddim(exact, noise, times(12), schedule))
walk = list(ddim(guess, noise, times(12), schedule))  # the network's states
own = walk[-1].x
near = [clothes[nearest(x, clothes)[1]] for x in (copies, own)]
apart = [[f"RMS {d:.2f}" for d in rms(x, y)[five]]
         for x, y in ((copies, near[0]), (own, near[1]))]
rows = {"with the\nexact guess": copies, "its nearest\nphotograph": near[0],
        "with the\nnetwork's": own, "its nearest\nphotograph ": near[1]}
diagrams.pictures({name: pictures[five] for name, pictures in rows.items()},
                  "What each sampler draws, above the nearest photographs.",
                  above=[*names, *apart[0], *5 * [""], *apart[1]])

# %% [markdown]
# <details><summary>Answer</summary>
#
# Copies: each is *one photograph*, with not a pixel changed.
#
# </details>

# %% tags=["check"]
# @title ✓ The exact best guess draws copies, the network does not
gaps = [torch.stack([rms(each, clothes).min() for each in x.split(1)])
        for x in (copies, own)]  # from each of the 10,000
assert gaps[0].max() < 1e-3 and gaps[1].min() > 0.12
assert torch.allclose(gaps[1], rms(own, near[1]), atol=1e-4)
print(f"✓ RMS from the nearest photograph: {gaps[0].max():.2f} with the exact guess,",
      f"{gaps[1].min():.2f} to {gaps[1].max():.2f} with the network's")

# %% [markdown]
# We stop the network after two of its 12 steps, at $t = 0.83$ ($\alpha_t = 0.26$), and make
# both guesses from the *same* $x_t$. From there we also go on with the exact guess:

# %%
t, x = walk[1].t, walk[1].x  # x is x_t after two of the network's 12 steps
onward = final(ddim(exact, x, times(12)[2:], schedule))
rows = {"network's\nguess": guess(x, t), "exact\nguess": exact(x, t),
        "exact,\nto the end": onward}
diagrams.pictures({name: pictures[five] for name, pictures in rows.items()},
                  "Two guesses from the same noise, and where the exact one leads.",
                  above=names)

# %% [markdown]
# Look at the shirt. Half of its exact guess comes from five of a thousand photographs: one with checks shows through, and from
# here the exact sampler ends there. (Its own $x_t$ differs by 0.03 RMS and led to a plain shirt.) The network's guess
# looks like a mean of many.

# %% tags=["check"]
# @title ✓ The exact best guess relies on few photographs
sure = [weights(x[k : k + 1], m.data, t) for k, m in enumerate(memories)]
yours_0 = torch.tensordot(sure[0].float(), memories[0].data, 1)
half = [int((p.sort(descending=True).values.cumsum(0) < 0.5).sum()) + 1 for p in sure]
assert torch.allclose(yours_0, exact(x, t)[0], atol=1e-3) and max(half) < 50
alone = list(ddim(exact, noise, times(12), schedule))[1].x  # the exact sampler's x_t
checked, away = memories[6].data[sure[6].argmax()][None], rms(alone, x)[6]
assert rms(onward[6:7], checked) < 1e-3 and rms(copies[6:7], checked) > 0.3
assert half[6] == 5 and abs(away - 0.03) < 0.005
print(f"✓ half of the exact weight is on {min(half)} to {max(half)} of 1,000",
      f"photographs; the likeliest shirt has {sure[6].max():.0%}, and the walk ends",
      f"there; from {away:.2f} RMS away it ends elsewhere")

# %% [markdown]
# So the best guess *for these 10,000 photographs* only remembers them. **What is new comes from the network's difference
# from it.** Why that looks like clothes is a subject of research ([@kamb2024]). Large networks do remember some
# pictures ([@carlini2023]).

# %% [markdown]
# ## 3. From a guess to a step
#
# Now the orange arrow of the first picture. Suppose that the guess $\hat x_0$ is right. Then
# $x_t = \alpha_t\, x_0 + \sigma_t\, \epsilon$ tells which noise is in $x_t$: call it $\hat\epsilon$. A step mixes the two
# anew for a time $s$ a little nearer to 0: more picture, less noise.
#
# This is *DDIM*, a denoising diffusion implicit model ([@song2020]).
#
# **Your turn.** Find $\hat\epsilon$, then mix.

# %%
def step(x, x0, t, s, schedule):
    """Return the noisy picture x_s, given x = x_t and the guess x0."""
    (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule(t), schedule(s)
    ### BEGIN SOLUTION
    eps = (x - alpha_t * x0) / sigma_t
    return alpha_s * x0 + sigma_s * eps
    ### END SOLUTION


# %% tags=["folded"]
# @title Check your answer
def package_step(x, x0, t, s, schedule):
    return final(ddim(lambda x, t: x0, x, torch.tensor([t, s]), schedule))


x, x0 = torch.tensor([[0.4], [-1.0]]), torch.tensor([[1.0], [0.5]])
cosine = Cosine()  # a schedule, as in the letters above
cases = [(x, x0, 0.6, 0.5, cosine), (x, x0, 1.0, 0.0, cosine)]
step = yours(step, package_step, cases,
             hint="first the noise, by the letters at t; then mix with those at s")

# %% [markdown]
# In letters:
#
# $$ \hat\epsilon = \frac{x_t - \alpha_t\, \hat x_0}{\sigma_t}, \qquad
# x_s = \alpha_s\, \hat x_0 + \sigma_s\, \hat\epsilon . $$
#
# The middle step of the bag at the top, from $t = 0.67$ to $s = 0.33$. Guess and noise stay; their shares change:

# %% tags=["folded"]
# @title Draw one step
x, x0, (t, s) = bag[0].x, bag[1].x0, times(3)[1:3]  # x_t, the guess from it
alpha, sigma = schedule(t)
eps = (x - alpha * x0) / sigma
rows, above = {}, []
for name, time, end in (("t", t, x), ("s", s, step(x, x0, t, s, schedule))):
    alpha, sigma = schedule(time)
    rows[f"{name} = {time:.2f}"] = torch.cat([alpha * x0, sigma * eps, end])
    above += [f"{alpha:.2f} × guess", f"{sigma:.2f} × noise", f"$x_{name}$, the sum"]
diagrams.pictures(rows, "One step: more of the guess, less of the noise.", above=above)

# %% [markdown]
# Why not jump to the guess at once? It is a blur. After a small step there is more to see, and the next guess is better.
# Guess, step, and repeat: that is a [sampler](../docs/glossary.md#sampler). Here is yours, without guidance.
#
# *Predict: what is right first, the outline or the fine details?*

# %%
x, ts = noise, times(25)  # 26 times from 1 to 0, for 25 steps
states, guesses = [], []
for t, s in zip(ts, ts[1:], strict=False):
    states.append(x)
    guesses.append(guess(x, t))
    x = step(x, guesses[-1], t, s, schedule)
numbers = [0, 3, 6, 12, 24]
rows = {classes[k]: torch.stack([guesses[n][k] for n in numbers]) for k in (5, 2, 8)}
diagrams.pictures(rows, "Five guesses each at a sandal, a pullover, a bag.",
                  above=[f"guess {n + 1}" for n in numbers])

# %% [markdown]
# <details><summary>Answer</summary>
#
# The outline: in the first three steps its difference from the last guess falls by more than a half, that of the details by
# less than a third. But it may still change: the pullover loses its long sleeves between guesses 4 and 13, and later the
# bag most of its handle.
#
# </details>

# %% tags=["check"]
# @title ✓ Coarse before fine, and your loop is ddim
pool, left = torch.nn.functional.avg_pool2d, []
for k in (0, 3):
    error = guesses[k] - guesses[-1]
    blur = pool(error, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    left.append((blur.square().mean().sqrt(), (error - blur).square().mean().sqrt()))
coarse, fine = (float(after / before) for before, after in zip(*left, strict=True))
assert coarse < 0.5 and 0.67 < fine < 0.74
walk = ddim(guess, noise, ts, schedule)
assert torch.allclose(x, final(walk), atol=1e-3)
print("✓ RMS from the last guess, guess 4 against guess 1:",
      f"{coarse:.0%} in means of 4 by 4 pixels, {fine:.0%} in what is finer; your loop",
      "and ddim end in the same pictures")

# %% [markdown]
# The whole walk as a slow film:

# %% tags=["folded"]
# @title Show the film
alt = "Above, noise turning into clothes; below, the guess getting sharper."
shown = [*range(0, 25, 2), 25]  # the last one is the result, at t = 0
xs, x0s = [*states, x], [*guesses, x]
frames = [diagrams.pictures({f"$x_t$, t = {ts[k]:.2f}": xs[k][five],
                             "guess": x0s[k][five]}, alt, above=names) for k in shown]
widgets.film(frames, ms=400, hold=3000)

# %% [markdown]
# *Predict: you took 25 steps. From the same ten noises, what do 3 steps draw, and what 100?*

# %%
by_steps = {n: final(ddim(guess, noise, times(n), schedule)) for n in (3, 10, 25, 100)}
diagrams.pictures({f"{n} steps": x[five] for n, x in by_steps.items()},
                  "Five pieces of clothing, each drawn in 3, 10, 25 and 100 steps.",
                  above=names)

# %% [markdown]
# <details><summary>Answer</summary>
#
# From ten steps on nearly the same: each noise has its picture. Three steps sometimes draw
# another thing: here a pullover with long sleeves, and a bag with a handle. You have
# seen this bag: it is the one of the first picture.
#
# </details>
#
# A DDIM step adds no new noise; those of [chapter 03](03_reverse_diffusion.ipynb) do.

# %% tags=["check"]
# @title ✓ From ten steps on nearly the same
apart = {n: rms(by_steps[n], by_steps[100]).mean() for n in (3, 10, 25)}
assert apart[3] > 2 * apart[10] > 4 * apart[25]
others = rms(by_steps[100], by_steps[100].roll(1, 0)).mean()
assert apart[10] < 0.2 * others
print("✓ mean RMS from the pictures of 100 steps:",
      ", ".join(f"{n} steps {a:.2f}" for n, a in apart.items()) + ";",
      f"two different pictures are {others:.2f} apart")

# %% [markdown]
# ## 4. Ask for something
#
# The forty drawings at the top were made with guidance, yours without it. Not all of yours look like their label: the
# pullover has lost its long sleeves.
#
# For guidance the network knows an eleventh label, "none", which replaced a tenth of the labels in training. We ask it
# twice: $u$ is its guess without a label, $c$ its guess with it. The label changes the guess by $c - u$. *Classifier-free
# [guidance](../docs/glossary.md#classifier-free-guidance)* starts at $u$ and goes $w$ times as far in this direction.
#
# **Your turn.**

# %%
def guide(u, c, w):
    """Return the guided guess: u for w = 0, c for w = 1, beyond c for w > 1."""
    ### BEGIN SOLUTION
    return u + w * (c - u)
    ### END SOLUTION


# %% tags=["folded"]
# @title Check your answer
cases = [(torch.tensor(-0.5), torch.tensor(0.3), w) for w in (0.0, 1.0, 2.0)]
guide = yours(guide, torch.lerp, cases,
              hint="start at u; c - u is the way from u to c")

# %% [markdown]
# In letters:
#
# $$ \hat x_0 = u + w\,(c - u) . $$
#
# > **How the papers write it.** [@ho2022]: $(1 + w)\,c - w\,u$, so their $w$ is ours less 1, and their guesses are of
# > $\epsilon$ instead of $x_0$.

# %% [markdown]
# *Predict: what happens to the first guess, nearly the class mean, with* $w = 2$*?*

# %%
nothing = torch.full_like(wanted, 10)  # ten times the label "none"
now = torch.tensor(1.0)
by_w = {w: guide(guess(noise, now, nothing), first, w) for w in (0.0, 1.0, 2.0)}
diagrams.pictures({f"w = {w:.0f}": x[five] for w, x in by_w.items()},
                  "First guesses at three strengths.", above=names)

# %% [markdown]
# <details><summary>Answer</summary>
#
# It is exaggerated: nearly *twice the class mean minus the mean of everything*. The pixels of these five run from -2.2 to
# 1.5; the figure shows only -1 to 1. At $w = 0$, without a label, all five are nearly the mean of everything.
#
# </details>

# %% tags=["check"]
# @title ✓ What guidance does to a mean
overall = clothes.mean(0)
near, far = (rms(by_w[2.0], mean) for mean in (2 * means - overall, means))  # (10,)
assert near.max() < 0.22 and (near < far).all()
low, high = (float(end) for end in by_w[2.0][five].aminmax())  # as in the text
assert abs(low + 2.2) < 0.06 and abs(high - 1.5) < 0.06
blank = rms(by_w[0.0], overall).max()
assert blank < 0.15
print(f"✓ at w = 2 the guess is {near.min():.2f} to {near.max():.2f} RMS from",
      "twice the class mean minus the mean of everything,",
      f"{far.min():.2f} to {far.max():.2f} from the class mean; at w = 0 at most",
      f"{blank:.2f} from the mean of everything")

# %% [markdown]
# The first guess looks worse: the sandal falls into pieces. But later guesses see more of the picture, and there the
# exaggeration makes its class clearer. Here is the whole sampler, with your two functions. From the noises of the first row
# it draws that row again ($w = 2$), and once more without guidance ($w = 1$).
#
# *Predict: without guidance, 32 of forty drawings (80 %) are nearest to a photograph of their class. How many with it?*

# %%
def sample(x, label, w, steps=12):
    none, ts = torch.full_like(label, 10), times(steps)
    for t, s in zip(ts, ts[1:], strict=False):
        x0 = guide(guess(x, t, none), guess(x, t, label), w)
        x = step(x, x0, t, s, schedule)
    return x


# %%
row = {w: sample(noise, wanted, w, steps=25).clamp(-1, 1) for w in (1.0, 2.0)}
diagrams.pictures({f"w = {w:.0f}": x for w, x in row.items()},
                  "Ten drawings without guidance, and below them the same ten with it.",
                  above=classes, columns=5)

# %% [markdown]
# <details><summary>Answer</summary>
#
# All forty. Of 1,000 real photographs that the network has never seen, only 81 % are. So guidance draws clothes that are more
# typical than real ones.
#
# </details>

# %% tags=["check"]
# @title ✓ Your functions draw the first row again; guidance makes the class clearer
def right(x):  # of how many of the 40 the nearest photograph has the class asked for
    return int((training.y[nearest(x.clamp(-1, 1), clothes)[1]] == labels).sum())


again = rms(row[2.0], wardrobe[:10]).max()
plain = final(ddim(lambda x, t: guess(x, t, labels), noises, times(25), schedule))
assert again < 1e-3 and right(wardrobe) >= 39 and abs(right(plain) - 32) < 3
test = load("fashion", "test")  # photographs that the network has never seen
found = training.y[nearest(test.tensor(slice(0, 1000)), clothes)[1]]
share = (found == test.y[:1000]).float().mean()
assert abs(share - 0.81) < 0.01
print(f"✓ your row is {again:.2f} RMS from the first one at the top; of all 40 so many",
      f"are nearest to a photograph of the class asked for: {right(plain)} without",
      f"guidance, {right(wardrobe)} with it; of 1,000 unseen photographs {share:.0%}")

# %% [markdown]
# *Predict: six noises, one a column, and the label "Bag". What do you get with* $w = 0$*, and what with* $w = 5$*?*

# %%
start = torch.randn(8, 1, 32, 32, generator=torch.Generator().manual_seed(1))
drawn = {w: sample(start, torch.full((8,), 8), w) for w in (0.0, 1.0, 2.0, 5.0)}
diagrams.pictures({f"w = {w:.0f}": x[:6] for w, x in drawn.items()},
                  "Six pictures each for w = 0, 1, 2 and 5; a column shares its noise.")

# %% [markdown]
# <details><summary>Answer</summary>
#
# At $w = 0$ the label does not count: a mixed wardrobe (the last looks like a bag, but is nearest to a coat). At
# $w = 5$ there are only bags. That has a price: they are a little more alike ([chapter 09](09_guidance.ipynb)).
#
# </details>

# %% tags=["check"]
# @title ✓ Mixed without a label, more alike with a large w
kinds = {w: training.y[nearest(x.clamp(-1, 1), clothes)[1]] for w, x in drawn.items()}
assert len(kinds[0.0].unique()) > 3 and kinds[0.0][5] == 4 and (kinds[5.0] == 8).all()
many = torch.randn(32, 1, 32, 32, generator=torch.Generator().manual_seed(1))
lists = {w: sample(many, torch.full((32,), 8), w).clamp(-1, 1).flatten(1)
         for w in (1.0, 5.0)}
two = {w: torch.pdist(x).mean() / 32 for w, x in lists.items()}  # RMS: 32 * 32 pixels
assert two[1.0] > 1.05 * two[5.0]
bag = ", ".join(f"{int((kind == 8).sum())} at w = {w:.0f}" for w, kind in kinds.items())
print(f"✓ of 8 drawings so many are nearest to a photograph of a bag: {bag};",
      f"two of 32 are {two[1.0]:.2f} RMS apart at w = 1, {two[5.0]:.2f} at w = 5")

# %% [markdown]
# Ask for something else, or in fewer steps:

# %%
import ipywidgets


def show(label, w, steps=12):
    x = sample(start, torch.full((8,), label), w, steps)
    rows = {f"{classes[label]}\nw = {w:g}\n{steps} steps": x[:4], "": x[4:]}
    return diagrams.pictures(rows, f"Eight samples of {classes[label]} at w = {w}.")


# %% tags=["folded"]
# @title Choose class, w and steps
slider, options = ipywidgets.FloatSlider, [(name, k) for k, name in enumerate(classes)]
label = ipywidgets.Dropdown(options=options, value=7, description="class")
strength = slider(2.0, min=0, max=5, step=0.5, description="w", continuous_update=False)
steps = ipywidgets.IntSlider(12, min=1, max=25, description="steps",
                             continuous_update=False)
_ = widgets.explore(show, label=label, w=strength, steps=steps)

# %% [markdown]
# ## 5. Paths
#
# | path | what to read | time |
# |---|---|---|
# | **Ninety minutes** | 00: 1 to 4. [02](02_forward_diffusion.ipynb): [1](02_forward_diffusion.ipynb#1-one-noising-step), [3](02_forward_diffusion.ipynb#3-a-thousand-steps-are-one-jump), [4](02_forward_diffusion.ipynb#4-from-betas-to-a-schedule). [03](03_reverse_diffusion.ipynb): [1](03_reverse_diffusion.ipynb#1-walking-back-blindly), [2](03_reverse_diffusion.ipynb#2-if-the-picture-were-known), [4](03_reverse_diffusion.ipynb#4-the-best-guess-at-the-picture), [5](03_reverse_diffusion.ipynb#5-the-first-samples). [00, deeper](deeper/00_start_here.ipynb): [4](deeper/00_start_here.ipynb#4-a-training-loop-in-pytorch) | 90 minutes |
# | **How Stable Diffusion works** | the ninety minutes. [09](09_guidance.ipynb): [3](09_guidance.ipynb#3-without-a-classifier). [10](10_autoencoders.ipynb): [1](10_autoencoders.ipynb#1-there-and-back), [3](10_autoencoders.ipynb#3-rate-and-distortion). [11](11_latent_diffusion.ipynb): [1](11_latent_diffusion.ipynb#1-two-stages) to [3](11_latent_diffusion.ipynb#3-live). [12](12_text_to_image.ipynb): [1](12_text_to_image.ipynb#1-sentences-and-pictures) to [3](12_text_to_image.ipynb#3-from-words-to-pixels), [6](12_text_to_image.ipynb#6-live) | half a day |
# | **A weekend** | 00 to 09 | two days of six hours |
# | **All of it** | 00 to 13 | eighteen hours, and as long again for exercises and *deeper* |
#
# Where the table names sections, read also what stands above the chapter's first one. The times are counted: 200 words a
# minute, half a minute for a cell, three for a gap. Predictions and slower gaps come on top: plan two and a half hours for
# the ninety minutes. [Ten questions](deeper/00_start_here.ipynb#are-you-ready) tell whether you are ready.

# %% [markdown]
# Then train such a model from nothing, in a terminal. ([Chapter 07](07_training.ipynb) shows clothes
# after 140 seconds.)
#
# ```
# python -m minidiff train --data fashion --seconds 180 --out runs/fashion
# python -m minidiff sample runs/fashion --n 64 --out samples.png
# ```

# %% [markdown]
# ## What to keep
#
# - A diffusion model is a **denoiser**, and a way to use it many times.
# - The best guess is a mean, weighted by how well each picture fits the noisy one. A sampler with the exact best guess only
#   draws copies; what is new comes from how a network differs from it.
# - A step takes $x_t$ apart into guess and noise, and mixes them anew with less noise.
# - Guidance asks with and without the label, and exaggerates: $u + w\,(c - u)$.
#
# **Deeper:** [00, deeper](deeper/00_start_here.ipynb), a refresher. Letters and words: the
# [glossary](../docs/glossary.md#letters). **Next:** [01 · Generative models](01_generative_models.ipynb), or a path above.
#
# ## References
#
# {references}
