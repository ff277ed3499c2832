# %% [markdown]
# # 00 · Start here
#
# **How does a picture come out of noise?** Guess what is behind the noise, go part of the way to the guess, and guess
# again.

# %%
import torch

from minidiff import Cosine, cfg, ddim, dpmpp_2m, final, times
from minidiff.app.checkpoint import load_denoiser
from minidiff.course import diagrams, plot, widgets, yours
from minidiff.data import load, shipped

denoiser, about = load_denoiser(shipped("fashion.safetensors"))
schedule = denoiser.schedule  # schedule(t) returns alpha_t and sigma_t
classes = [name.split("/")[0] for name in about["classes"]]
noise = torch.randn(10, 1, 32, 32, generator=torch.Generator().manual_seed(0))
wanted = torch.arange(10)  # one piece of clothing of each of the ten classes


# %%
@torch.no_grad()
def guess(x, t, label=wanted):
    return denoiser(x, t, label)


bag = ddim(lambda x, t: guess(x, t, wanted[8:9]), noise[8:9], times(3), schedule)
diagrams.guess_and_mix(noise[8:9], list(bag), ("all bags", "one bag", "the bag"),
                       "From noise to a bag in three steps, with a guess for each.")

# %% [markdown]
# Your computer has just drawn this bag, with a network that ships with the course; no GPU, no internet.
#
# **You build** a step, which mixes a guess (orange) with the noise that is left (grey), and *guidance*, which makes the
# model heed what you ask for. Then your two functions draw. Stable Diffusion draws in the same way: with a network a
# thousand times larger, words for labels and codes for pixels. This chapter takes half an hour, the computer half a minute.
#
# **Your turn** marks a gap of a line or two. Here the gaps are filled; in `notebooks/student/`
# they are empty, and whatever you write, it runs to its end.
#
# | letter | meaning |
# |---|---|
# | $x_0$ | a clean picture: 32 by 32 pixels, numbers from -1 (black) to 1 (white) |
# | $\epsilon$ | noise: a standard normal number for each pixel |
# | $s < t$ | times, from 0 (clean) to 1 (noise) |
# | $x_t = \alpha_t\, x_0 + \sigma_t\, \epsilon$ | a noisy picture, the *state* of the walk. From $t = 0$ to 1, $\alpha_t$ falls from 1 to 0 and $\sigma_t$ rises from 0 to 1 |
# | $\hat x_0$ | the guess at $x_0$, made from $x_t$ |
# | $w$ | how much the label counts |

# %% [markdown]
# ## 1. A picture out of noise
#
# The network has seen 10,000 small photographs of clothes (Fashion-MNIST, [@xiao2017]), each with a random amount of
# noise: each pixel wanders at random, as a particle that *diffuses* in water, until the picture is gone. It has learned
# one thing: **given a noisy picture, guess the clean one.** It is a [denoiser](../docs/glossary.md#denoiser). We give it nothing but noise and ten labels.

# %%
plot.images(noise, "Ten squares of grey noise.", columns=5)

# %% [markdown]
# *Predict: what will come out: photographs from the 10,000, blends of several, or new pieces of clothing?*

# %%
guided = cfg(denoiser, wanted, null=10, w=2.0)
pictures = final(dpmpp_2m(guided, noise, times(25), schedule))
plot.images(pictures, "Ten clothes, one of each class.", columns=5, titles=classes)

# %%
from minidiff.app.metrics import nearest

training = load("fashion")
clothes = training.tensor()  # (10000, 1, 32, 32)
distance, index = nearest(pictures, clothes)
plot.strips({"drawn": pictures, "training": clothes[index]},
            "Above what was drawn, below the closest training pictures: not equal.",
            above=classes)

# %% [markdown]
# <details><summary>Answer</summary>
#
# New ones. Below each stands the most similar of the 10,000: related, not equal.
#
# </details>
#
# They are not perfect: some have specks and rags. The network is small, with 640,000 weights, trained for a quarter of an
# hour on one CPU core. Two lines drew all this:
#
# | in the code | what it does | chapter |
# |---|---|---|
# | `denoiser` | guesses the clean picture | [05](05_simplified_loss.ipynb) to [07](07_training.ipynb) |
# | `cfg(..., null=10, w=2.0)` | leans towards the label; label 10 means "none" | [09](09_guidance.ipynb) |
# | `times`, `schedule` | 26 times, for 25 steps; $\alpha_t$ and $\sigma_t$ for each | [02](02_forward_diffusion.ipynb) |
# | `dpmpp_2m` | a sampler: it steps from each time to the next ([@lu2022]) | [03](03_reverse_diffusion.ipynb), [08](08_sampling.ipynb) |
# | `final` | keeps the last state | |
#
# A line with ✓, as below, comes from a folded check of what you have just read.

# %% tags=["check"]
# @title ✓ As far from the training pictures as photographs are
unseen, _ = nearest(load("fashion", "test").tensor(slice(0, 100)), clothes)
clipped, _ = nearest(pictures.clamp(-1, 1), clothes)  # as a screen shows them
assert clipped.min() > 4 and 0.8 < clipped.median() / unseen.median() < 1.25
print("✓ median distance from the closest training picture: drawn",
      f"{clipped.median():.1f}, unseen photographs {unseen.median():.1f}, a copy 0")

# %% [markdown]
# About as far away as photographs that the network has never seen. This distance compares pixels and would miss a shifted
# copy; [chapter 13](13_evaluation.ipynb) looks closer.
#
# ## 2. What a guess is
#
# Take the network as it was trained, without `cfg`, and show it pure noise, at $t = 1$.
#
# *Predict: it sees nothing, and knows only the label. For which labels is its guess clear, for which a blur?*

# %%
first = guess(noise, torch.tensor(1.0))
plot.strips({"guess": first}, "Ten first guesses, some clear and some blurred.",
            above=classes)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Clear where all pictures of a label look alike, as with trousers; a blur where they differ, as with sandals and bags.
#
# </details>
#
# **Your turn.** A suspicion: each guess is the mean of all training pictures with its label. Write that mean in one line;
# the loop below takes the long way round. The cell after a gap checks you and never stops the notebook: it goes on with
# *your function* if it is right, else with the other one.

# %%
def class_mean(pictures, labels, k):
    """Return the mean of the pictures (N, 1, 32, 32) whose label (N,) is k."""
    ### BEGIN SOLUTION
    return pictures[labels == k].mean(0)
    ### END SOLUTION


# %%
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
rows = {"guess": first, "class mean": means,
        "3 x difference\n(grey: none)": 3 * (first - means)}
plot.strips(rows, "First guesses, class means, three times their difference.",
            above=classes)

# %% [markdown]
# The same blurs, the guesses a little too dark (in places below -1, where no mean can be) and with a fine grid, for the
# network works on squares of 2 by 2 pixels: it is not perfect. That they are blurs is no fault. The network was trained for small squared errors, and the guess with the smallest is
# the mean of all pictures with this label, each weighted by how well it explains $x_t$
# ([deeper](deeper/00_start_here.ipynb#2-bayes-rule) shows it for a single number,
# [chapter 03](03_reverse_diffusion.ipynb) for pictures). As the noise goes, fewer explain it, and their mean is sharper.
#
# In the end one picture would be left, a copy. The network has no room for 10,000 pictures and only comes near these
# means: what it misses makes new clothes (chapter 03, section 6; how, is studied since
# [@kamb2024]).

# %% tags=["check"]
# @title ✓ The first guess is nearly the class mean
error = (first - means).square().flatten(1).mean(1).sqrt()  # (10,)
between = (means.mean(0) - means).square().flatten(1).mean(1).sqrt()
darker = (means - first).flatten(1).mean(1)
assert error.max() < 0.15 and (error < between).all()
assert 0.02 < darker.min() and darker.max() < 0.12
ratio = between / error
print(f"✓ off by {error.min():.2f} to {error.max():.2f} in root mean square; the mean",
      f"of all classes is {ratio.min():.1f} to {ratio.max():.1f} times as far off")

# %% tags=["check"]
# @title ✓ Blurred where pictures of a label differ
def edges(x):  # squared steps from pixel to pixel, (N,)
    return sum(x.diff(dim=d).square().sum((1, 2, 3)) for d in (2, 3))


real = torch.stack([edges(clothes[training.y == k]).mean() for k in range(10)])
order = (edges(first) / real).argsort().tolist()  # from the most blurred
assert set(order[:2]) == {5, 8} and order[-1] == 1
assert first.min() < -1.1
print("✓ edges left in the guess:",
      ", ".join(f"{classes[k]} {edges(first)[k] / real[k]:.0%}" for k in (5, 8, 1)))

# %% [markdown]
# ### From a guess to a step
#
# Now the orange arrow. If the guess $\hat x_0$ were right, the noise in $x_t = \alpha_t\, x_0 + \sigma_t\, \epsilon$ would
# have to be $\hat\epsilon$ below. Mix the two anew, with a little more picture and a little less noise ([@song2020]):
#
# $$ \hat\epsilon = \frac{x_t - \alpha_t\, \hat x_0}{\sigma_t}, \qquad
# x_s = \alpha_s\, \hat x_0 + \sigma_s\, \hat\epsilon . $$
#
# This is a step of *DDIM*, the package's `ddim`.
#
# **Your turn.**

# %%
def step(x, x0, t, s, schedule):
    """Return x_s, given x = x_t and the guess x0, for s < t."""
    (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule(t), schedule(s)
    ### BEGIN SOLUTION
    eps = (x - alpha_t * x0) / sigma_t
    return alpha_s * x0 + sigma_s * eps
    ### END SOLUTION


# %%
def package_step(x, x0, t, s, schedule):
    return final(ddim(lambda x, t: x0, x, torch.tensor([t, s]), schedule))


x, x0 = torch.tensor([[0.4], [-1.0]]), torch.tensor([[1.0], [0.5]])
cosine = Cosine()  # a schedule, as in the letters above
cases = [(x, x0, 0.6, 0.5, cosine), (x, x0, 1.0, 0.0, cosine)]
step = yours(step, package_step, cases,
             hint="first the noise, by the letters at t; then mix with those at s")

# %% [markdown]
# Why not jump to the guess at once? It is a blur. One small step on there is a little more to see, and the next guess is
# better. Guess, step, and repeat: that is a [sampler](../docs/glossary.md#sampler), and here is yours, still without
# `cfg`.
#
# *Predict: what is right first, the outline or the fine details?*

# %%
x, ts = noise, times(25)
states, guesses = [], []
for t, s in zip(ts, ts[1:], strict=False):
    states.append(x)
    guesses.append(guess(x, t))
    x = step(x, guesses[-1], t, s, schedule)

# %%
chosen, numbers = [5, 2, 8], [0, 3, 6, 12, 24]
rows = {classes[k]: torch.stack([guesses[n][k] for n in numbers]) for k in chosen}
plot.strips(rows, "Five guesses each at a sandal, a pullover, a bag.",
            above=[f"guess {n + 1}" for n in numbers], size=128)

# %% [markdown]
# <details><summary>Answer</summary>
#
# First what is coarse: measured by the last guess, three small steps remove four fifths of the squared error in the coarse
# picture, half of it in the fine. Yet nothing is
# settled: between guesses 4 and 13 the pullover loses its long sleeves, and in the end the bag most of its handle.
#
# </details>

# %% tags=["check"]
# @title ✓ Coarse before fine, and your loop is ddim
pool, left = torch.nn.functional.avg_pool2d, []
for k in (0, 3):
    error = guesses[k] - guesses[-1]
    blur = pool(error, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    left.append((blur.square().sum(), (error - blur).square().sum()))
coarse, fine = (float(after / before) for before, after in zip(*left, strict=True))
assert coarse < 0.25 and 0.42 < fine < 0.55
walk = ddim(guess, noise, ts, schedule)
assert torch.allclose(x, final(walk), atol=1e-3)
print(f"✓ guess 4 has {coarse:.0%} of guess 1's squared error in blocks of 4 x 4,",
      f"{fine:.0%} in finer detail; ddim ends in the same pictures")

# %% [markdown]
# The whole walk as a film, each $x_t$ above the guess made from it:

# %%
alt = "Above, noise turning into clothes; below, the guess getting sharper."
frames = [plot.strips({"state": a, "guess": b}, alt, above=classes)
          for a, b in zip([*states, x], [*guesses, x], strict=True)]
widgets.film(frames[::2] + frames[-1:], ms=160)

# %% [markdown]
# *Predict: you took 25 steps. From the same ten noises, what do 3 draw, and what 100?*

# %%
by_steps = {n: final(ddim(guess, noise, times(n), schedule)) for n in (3, 10, 25, 100)}
plot.strips({f"{n} steps": x for n, x in by_steps.items()},
            "Ten pieces of clothing, each drawn in 3, 10, 25 and 100 steps.",
            above=classes)

# %% [markdown]
# <details><summary>Answer</summary>
#
# From ten steps on nearly the same: each noise has its picture, and smaller steps come nearer to it. Three steps use only
# three guesses, two of them still blurs: what they draw is smoother, and sometimes another thing, such as a pullover with
# long sleeves. The picture of the opening, too, was one of three steps.
#
# </details>

# %% tags=["check"]
# @title ✓ From ten steps on nearly the same
def apart(a, b):
    return float((by_steps[a] - by_steps[b]).clamp(-2, 2).square().mean().sqrt())


assert apart(3, 100) > 2 * apart(10, 100) > 4 * apart(25, 100)
print(f"✓ from 100 steps, in root mean square: 3 steps {apart(3, 100):.2f}, 10 steps",
      f"{apart(10, 100):.2f}, 25 steps {apart(25, 100):.2f}")

# %% [markdown]
# Now break it. $\hat\epsilon$ is the noise that $x_t$ *has*. It is noise; why not draw fresh noise in each step?
#
# *Predict: the same loop, with fresh noise in the place of* $\hat\epsilon$*. What comes out?*

# %%
generator = torch.Generator().manual_seed(2)
broken = noise
for t, s in zip(ts, ts[1:], strict=False):
    fresh = torch.randn(noise.shape, generator=generator)
    (alpha, sigma), x0 = schedule(s), guess(broken, t)
    broken = alpha * x0 + sigma * fresh
plot.strips({"yours": x, "fresh noise": broken}, "Ten pictures drawn by each.",
            above=classes)

# %% tags=["check"]
# @title ✓ Fresh noise forgets: forty more, with other noise
labels, fresh = wanted.repeat(4), noise.repeat(4, 1, 1, 1)
for t, s in zip(ts, ts[1:], strict=False):
    alpha, sigma = schedule(s)
    eps = torch.randn(fresh.shape, generator=generator)
    fresh = alpha * guess(fresh, t, labels) + sigma * eps
light = {name: ((each.clamp(-1, 1) + 1) / 2).mean((1, 2, 3))
         for name, each in {"yours": x, "fresh": fresh}.items()}
gone = int((light["fresh"] < 0.05).sum())
assert light["yours"].min() > 0.05 and gone >= 3
assert light["fresh"].mean() < 0.85 * light["yours"].mean()
print(f"✓ nearly black: {gone} of 40 with fresh noise, none of your ten")

# %% [markdown]
# <details><summary>Answer</summary>
#
# Smooth shapes, some of them all but gone. A guess is a mean, with less in it than any picture; what a state shows beyond
# its guess is in $\hat\epsilon$, and fresh noise forgets it. (Chapter 03 finds how much fresh noise a step may draw.)
#
# </details>
#
# And yours are less clear than the first pictures. What do those have that these lack?
#
# ## 3. Ask for something
#
# The network knows an eleventh label, "none", and so can be asked twice: $u$ is its guess without a label, $c$ the one
# with it. What the label changes is $c - u$. [Guidance](../docs/glossary.md#classifier-free-guidance) goes that way $w$ times as
# far:
#
# $$ \hat x_0 = u + w\,(c - u) . $$
#
# > **How the papers write it.** [@ho2022]: $(1 + w)\,c - w\,u$. Their $w$ is ours less 1.
#
# **Your turn.**

# %%
def guide(u, c, w):
    """Return the guided guess: u for w = 0, c for w = 1, beyond c for w > 1."""
    ### BEGIN SOLUTION
    return u + w * (c - u)
    ### END SOLUTION


# %%
cases = [(torch.tensor(-0.5), torch.tensor(0.3), w) for w in (0.0, 1.0, 2.0)]
guide = yours(guide, torch.lerp, cases,
              hint="start at u; c - u is the way from u to c")

# %% [markdown]
# *Predict: what happens to the first guess, nearly the class mean, with* $w = 2$*?*

# %%
nothing = torch.full_like(wanted, 10)
now = torch.tensor(1.0)
by_w = {w: guide(guess(noise, now, nothing), first, w) for w in (0.0, 1.0, 2.0)}
rows = {f"w = {w:.0f}\n{x.min():.1f} to {x.max():.1f}": x for w, x in by_w.items()}
plot.strips(rows, "First guesses at three strengths.",
            above=classes)

# %% [markdown]
# <details><summary>Answer</summary>
#
# It is exaggerated: no longer a mean, but *twice the class mean minus the mean of everything*. On the left stands the range
# of each row; the screen clips what lies beyond -1 and 1.
#
# </details>

# %% tags=["check"]
# @title ✓ What guidance does to a mean
overall = clothes.mean(0)
near, far = ((by_w[2.0] - mean).square().flatten(1).mean(1).sqrt()
             for mean in (2 * means - overall, means))  # (10,) each
assert near.max() < 0.22 and (near < far).all()
assert by_w[2.0].min() < -2 and by_w[2.0].max() > 1.3
assert (by_w[2.0].abs() > 1.1).double().mean() > 0.2  # beyond black and white
print(f"✓ w = 2: {near.min():.2f} to {near.max():.2f} from twice the class mean minus",
      f"the overall one, {far.min():.2f} to {far.max():.2f} from the class mean")

# %% [markdown]
# Used in every step, this exaggeration makes the class of a picture clearer. Here is the whole of it, with your two
# functions; of the package there are only the network, its schedule and `times`.
#
# *Predict: eight noises, the label "Bag". What do you get with* $w = 0$*, and what with* $w = 5$*?*

# %%
def sample(x, label, w, steps=12):
    none, ts = torch.full_like(label, 10), times(steps)
    for t, s in zip(ts, ts[1:], strict=False):
        x0 = guide(guess(x, t, none), guess(x, t, label), w)
        x = step(x, x0, t, s, schedule)
    return x


# %%
start = torch.randn(8, 1, 32, 32, generator=torch.Generator().manual_seed(1))
bags = {w: sample(start, torch.full((8,), 8), w) for w in (0.0, 1.0, 2.0, 5.0)}
plot.strips({f"w = {w:.0f}": x for w, x in bags.items()},
            "Eight pictures each for w = 0, 1, 2 and 5.")

# %% [markdown]
# <details><summary>Answer</summary>
#
# At $w = 0$ the label does not count: a mixed wardrobe, some of it hard to name. At $w = 5$ there are bags only, hard in
# contrast and more alike.
#
# </details>

# %% tags=["check"]
# @title ✓ Mixed without a label, more alike with a large w
spread = {w: x.clamp(-1, 1).std(0).mean() for w, x in bags.items()}
kinds = {w: training.y[nearest(x.clamp(-1, 1), clothes)[1]] for w, x in bags.items()}
assert len(kinds[0.0].unique()) > 3 and (kinds[5.0] == 8).all()
assert spread[1.0] > 1.1 * spread[5.0]
bag = {w: int((kind == 8).sum()) for w, kind in kinds.items()}
print("✓ by their nearest training pictures, bags of 8:",
      ", ".join(f"{n} at w = {w:.0f}" for w, n in bag.items()) + ";",
      f"spread of a pixel {spread[1.0]:.2f} at w = 1, {spread[5.0]:.2f} at w = 5")

# %% [markdown]
# Ask for something else:

# %%
import ipywidgets


def show(label, w):
    x = sample(start, torch.full((8,), label), w)
    return plot.images(x, f"Eight samples of {classes[label]} at w = {w}.", columns=4)


names = [(name, k) for k, name in enumerate(classes)]
label = ipywidgets.Dropdown(options=names, value=7, description="class")
w = ipywidgets.FloatSlider(2.0, min=0, max=5, step=0.5, description="w",
                           continuous_update=False)
_ = widgets.explore(show, label=label, w=w)

# %% [markdown]
# [Chapter 09](09_guidance.ipynb) measures what is gained and lost.
#
# ## 4. How to work
#
# - **Predict** before you run. A wrong guess teaches more than a read answer.
# - **Run all cells of a chapter first** (menu *Run*), also where a path names some sections only: later cells need earlier
#   ones.
# - **A line with ✓** compares what you have just read with another way to get it: a simulation, an integral, another
#   library. Open its check when in doubt, and break it.
# - **Deeper** notebooks have proofs and comparisons. No main line needs them.
# - The [glossary](../docs/glossary.md#letters) has all letters and words, and what eight codebases call them.
#
# Something fails? The doctor checks machine, packages and data, and trains for five seconds. In a terminal, or after a `!`
# in a cell: `python -m minidiff doctor`.
#
# ## 5. Paths
#
# **Ninety minutes**: noise, the way back, your first sampler, and a network that learns.
#
# | read | sections | minutes |
# |---|---|---|
# | 00 | 1 to 4 | 27 |
# | [02](02_forward_diffusion.ipynb) | [1](02_forward_diffusion.ipynb#1-one-noising-step), [3](02_forward_diffusion.ipynb#3-a-thousand-steps-are-one-jump), [4](02_forward_diffusion.ipynb#4-from-betas-to-a-schedule) | 26 |
# | [03](03_reverse_diffusion.ipynb) | [1](03_reverse_diffusion.ipynb#1-walking-back-blindly), [2](03_reverse_diffusion.ipynb#2-if-the-picture-were-known), [4](03_reverse_diffusion.ipynb#4-the-best-guess-at-the-picture), [5](03_reverse_diffusion.ipynb#5-the-first-samples) | 32 |
# | [00, deeper](deeper/00_start_here.ipynb) | [4](deeper/00_start_here.ipynb#4-a-training-loop-in-pytorch) | 4 |
#
# Each with its opening. Not sure that you are ready? [Ten questions](deeper/00_start_here.ipynb#are-you-ready) tell, and a
# page each has what is missing: Gaussians, Bayes, divergence, the PyTorch loop.
#
# Then train such a model, from nothing, in a terminal:
#
# ```
# python -m minidiff train --data fashion --seconds 180 --out runs/fashion
# python -m minidiff sample runs/fashion --n 64 --out samples.png
# ```
#
# **A weekend**: 00 to 09, two days of six hours.
#
# **How Stable Diffusion works**, half a day: the ninety minutes, then [09](09_guidance.ipynb):
# [3](09_guidance.ipynb#3-without-a-classifier); [10](10_autoencoders.ipynb): [1](10_autoencoders.ipynb#1-there-and-back),
# [3](10_autoencoders.ipynb#3-rate-and-distortion); [11](11_latent_diffusion.ipynb):
# [1](11_latent_diffusion.ipynb#1-two-stages) to [3](11_latent_diffusion.ipynb#3-live); [12](12_text_to_image.ipynb):
# [1](12_text_to_image.ipynb#1-sentences-and-pictures) to [3](12_text_to_image.ipynb#3-from-words-to-pixels),
# [6](12_text_to_image.ipynb#6-live).
#
# **All of it**: 00 to 13 in eighteen hours, and as long again for exercises and *deeper*.
#
# ## What to keep
#
# - A diffusion model is a **denoiser**, and a way to use it many times.
# - The best guess is a mean, weighted by how well each picture explains the noisy one: first a blur, in the end one picture.
# - A step takes $x_t$ apart into guess and noise, and mixes them anew with less noise.
# - Guidance asks with and without the label, and exaggerates: $u + w\,(c - u)$.
# - With `ddim` only the start is random: same noise, label, $w$ and steps, same picture. Some samplers draw on the way.
#
# **Deeper:** [00, deeper](deeper/00_start_here.ipynb): ten questions, the refresher, and other people's letters, checked.
#
# **Next:** [01 · Generative models](01_generative_models.ipynb), or a path above.
#
# ## References
#
# {references}
