# %% [markdown]
# # 00 · Start here
#
# **How does a picture come out of noise?** Guess what is behind the noise, go part of the way to the guess, and guess
# again. **And is that picture remembered, or invented?** Both questions are answered below, by programs that you run.

# %%
import torch

from minidiff import Cosine, Empirical, add_noise, cfg, ddim, dpmpp_2m, final, times
from minidiff.app.checkpoint import load_denoiser
from minidiff.course import diagrams, widgets, yours
from minidiff.data import load, shipped

denoiser, about = load_denoiser(shipped("fashion.safetensors"))  # a trained network
schedule = denoiser.schedule  # schedule(t): how much picture, how much noise
classes = [name.split("/")[0] for name in about["classes"]]
noise = torch.randn(10, 1, 32, 32, generator=torch.Generator().manual_seed(0))
wanted = torch.arange(10)  # labels: one piece of clothing of each of the ten classes


# %%
@torch.no_grad()
def guess(x, t, label=wanted):
    return denoiser(x, t, label)


# ddim is a sampler: here it guesses three times, and goes part of the way each time.
bag = ddim(lambda x, t: guess(x, t, wanted[8:9]), noise[8:9], times(3), schedule)
diagrams.guess_and_mix(noise[8:9], list(bag), ("all bags", "one bag", "the bag"),
                       "From noise to a bag in three steps, with a guess for each.")

# %% [markdown]
# Your computer has just drawn this bag, with a network that ships with the course; no GPU, no internet. The network
# guesses the picture behind the noise (black arrow). A step mixes this guess (orange) with the noise that is left (grey).
#
# Ten more, one of each class, in 25 steps:

# %%
# cfg is guidance, section 3: the network guesses without a label (10 means "none") and
# with it; w = 2 doubles the way from the first of these guesses to the second.
guided = cfg(denoiser, wanted, null=10, w=2.0)
# dpmpp_2m is a sampler (DPM-Solver++) that uses the last two guesses; ddim and dpmpp_2m
# give one state after another, and final takes the last picture.
pictures = final(dpmpp_2m(guided, noise, times(25), schedule))
diagrams.pictures({"": pictures}, "Ten drawn clothes, one of each class.",
                  above=classes, columns=5)

# %% [markdown]
# **You build** the step, and then guidance, which makes the label count more. With your two functions the
# computer then draws what you ask for. Stable Diffusion ([@rombach2022]) draws in the same way. Its network is a thousand
# times larger, it is asked with words, and it takes its steps in a compressed form of the picture.

# %% [markdown]
# Reading takes half an hour, the computer needs half a minute. **Your turn** marks a gap of a line or two. Here the gaps
# are filled; in `notebooks/student/` they are empty, and a missing or wrong answer does not stop the notebook.
#
# | letter | meaning |
# |---|---|
# | $x_0$ | a clean picture: 32 by 32 pixels, numbers from -1 (black) to 1 (white) |
# | $\epsilon$ | noise: a standard normal number for each pixel |
# | $s < t$ | times, from 0 (clean) to 1 (noise) |
# | $x_t = \alpha_t\, x_0 + \sigma_t\, \epsilon$ | a noisy picture. From $t = 0$ to 1, $\alpha_t$ falls from 1 to 0 and $\sigma_t$ rises from 0 to 1 |
# | $\hat x_0$ | the guess at $x_0$, made from $x_t$ |
# | $w$ | how strongly the label counts |

# %% [markdown]
# ## 1. A picture out of noise
#
# The network has learned from 10,000 small photographs of clothes (Fashion-MNIST, [@xiao2017]). In training each gets
# noise: a little, or much, or so much that nothing is left of it. One photograph at five times:

# %%
training = load("fashion")
clothes = training.tensor()  # (10000, 1, 32, 32)
ts = (0.0, 0.25, 0.5, 0.75, 1.0)
noisy = [add_noise(clothes[:1], noise[:1], t, schedule) for t in ts]  # x_t, as above
diagrams.pictures({"$x_t$": torch.cat(noisy)}, "A boot in more and more noise.",
                  above=[f"t = {t:g}" for t in ts])

# %% [markdown]
# The picture dissolves into noise, as ink *diffuses* in water; hence the name *diffusion model*
# ([@sohldickstein2015], [@ho2020]). The network has learned one thing: **given $x_t$, the time $t$ and a label, guess the photograph $x_0$.** It is a
# [denoiser](../docs/glossary.md#denoiser). To draw, we give it nothing but noise and a label.

# %% [markdown]
# ### Memory or invention?
#
# Are the ten clothes above photographs that the network remembers? We look for the nearest of the 10,000 for each: the
# one at the smallest distance, the root of the sum of squared differences of pixels.
#
# *Predict: five of the ten will stand above their nearest photographs. In how many pairs will the two be equal?*

# %%
from minidiff.app.metrics import nearest

distance, index = nearest(pictures, clothes)
five = [2, 5, 6, 7, 8]  # of the ten; these five return below
names = [classes[k] for k in five]
diagrams.pictures({"drawn": pictures[five], "nearest": clothes[index[five]]},
                  "Five drawn clothes above the nearest photographs.", above=names)

# %% [markdown]
# <details><summary>Answer</summary>
#
# In none. The pullovers are close, the bags are not.
#
# </details>
#
# The drawn clothes are not perfect: some have specks or ragged edges. The network is small, with 640,000 weights, trained for a
# quarter of an hour on one CPU core.
#
# A line with ✓, as below, comes from a folded check of what you have just read.

# %% tags=["check"]
# @title ✓ As far from the training pictures as photographs are
unseen, _ = nearest(load("fashion", "test").tensor(slice(0, 100)), clothes)
clipped, _ = nearest(pictures.clamp(-1, 1), clothes)  # as a screen shows them
assert clipped.min() > 4 and 0.8 < clipped.median() / unseen.median() < 1.25
print("✓ median distance from the nearest training photograph: drawn",
      f"{clipped.median():.1f}, unseen photographs {unseen.median():.1f}, a copy 0")

# %% [markdown]
# Photographs that the network has never seen are about as far away. (This distance would miss a shifted copy;
# [chapter 13](13_evaluation.ipynb) looks closer.) So these clothes are no copies. But where do they come from, if the network
# has only learned to guess training photographs? To answer that, we must know what a guess is.

# %% [markdown]
# ## 2. What a guess is
#
# We ask the network once, without `cfg`, and show it pure noise, at $t = 1$.
#
# *Predict: it sees nothing, and knows only the label. For which labels is its guess clear, for which a blur?*

# %%
first = guess(noise, torch.tensor(1.0))
diagrams.pictures({"": first}, "Ten first guesses, some clear and some blurred.",
                  above=classes, columns=5)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Clear where all pictures of a label look alike, as with trousers; a blur where they differ, as with sandals and bags.
#
# </details>

# %% [markdown]
# **Your turn.** A suspicion: each guess is the mean of all training pictures with its label. Write that mean in one
# line. The folded cell after a gap checks you. The notebook goes on with *your function* if it is right, else with the
# cell's own.

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
# Nearly the same. The guesses are a little darker, and have a fine grid, as the network works on squares of 2 by 2 pixels.

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
# @title ✓ Most blurred where pictures of a label differ most
def edges(x):  # squared steps from pixel to pixel, (N,)
    return sum(x.diff(dim=d).square().sum((1, 2, 3)) for d in (2, 3))


of = [(clothes[training.y == k] + 1) / 2 for k in range(10)]  # light, from 0
differ = torch.stack([x.var(0).sum() / x.square().mean(0).sum() for x in of])
real = torch.stack([edges(clothes[training.y == k]).mean() for k in range(10)])
order = (edges(first) / real).argsort().tolist()  # from the most blurred
assert set(order[:2]) == set(differ.argsort()[-2:].tolist()) == {5, 8}
assert order[-1] == 1
print("✓ edges left in the guess:",
      ", ".join(f"{classes[k]} {edges(first)[k] / real[k]:.0%}" for k in (5, 8, 1)))

# %% [markdown]
# ### The best guess is a weighted mean
#
# A blur is no fault here. The network was trained to make the *squared error* of its guess small. At $t = 1$ all
# photographs of a label fit the noise equally well, and the guess with the smallest squared error, on average over all
# of them, is their mean ([deeper](deeper/00_start_here.ipynb#2-bayes-rule) shows why).
#
# With less noise, some photographs $x_i$ fit $x_t$ better than others. Each then has a *weight*: the probability that it is
# the one behind the noise. By Bayes' rule and the normal density of the noise it is
#
# $$ p(x_i \mid x_t) \propto \exp\left(-\frac{|x_t - \alpha_t\, x_i|^2}{2\,\sigma_t^2}\right) . $$
#
# The guess with the smallest squared error is the mean with these weights, the *posterior mean*. To
# see the weights, imagine that there are only five bags in the world. We add noise to the second one.
#
# *Predict: at* $t = 0.8$ *our eyes see nothing but noise. How sure is the formula that it is the second bag?*

# %%
bags = clothes[training.y == 8][[4, 12, 20, 7, 16]]


def weights(x, t):
    """Return the probability of each of the five bags, given x = x_t."""
    alpha, sigma = schedule(t)
    misfit = (x - alpha * bags).square().sum((1, 2, 3)) / (2 * sigma**2)
    return (-misfit).softmax(0)  # a small misfit is a large weight; their sum is 1


# %%
rows = {}
for t in (1.0, 0.95, 0.9, 0.8):
    x = add_noise(bags[1:2], noise[:1], t, schedule)
    best = torch.tensordot(weights(x, t).float(), bags, 1)  # the weighted mean
    rows[f"t = {t:g}"] = x[0], weights(x, t), best
diagrams.weighted_mean(
    bags, rows, ("$x_t$", "five bags, and the weight of each", "best guess"),
    "Weights of five bags: alike at t = 1, all on the second at t = 0.8.")

# %% [markdown]
# <details><summary>Answer</summary>
#
# Quite sure: 100 %. Each of 1,024 pixels says a little about the bag, and the formula adds it all up.
#
# </details>
#
# At $t = 1$ the five count alike, and the best guess is a blur. At 0.95 it is a blend, in which *another* bag leads: by
# chance this noise looks a little like it. With less noise the right bag overtakes it. This exact best guess is the
# package's `Empirical` ([@karras2022], appendix B).

# %% tags=["check"]
# @title ✓ The weighted mean has the smallest squared error
dice, t = torch.Generator().manual_seed(3), torch.tensor(0.95)
which = torch.randint(5, (1000,), generator=dice)  # bags at random, in noise
x = add_noise(bags[which], torch.randn(1000, 1, 32, 32, generator=dice), t, schedule)
w = torch.stack([weights(each, t) for each in x])
ways = torch.stack([w, 0 * w + 0.2, 1.0 * (w == w.amax(1)[:, None]),
                    (2 * w.log()).softmax(1), (w.log() / 2).softmax(1)])
made = torch.tensordot(ways, bags, 1)  # five ways to weigh: (5, 1000, 1, 32, 32)
cost = (made - bags[which]).square().sum((2, 3, 4)).mean(1)
assert (cost[1:] > 1.04 * cost[0]).all() and rows["t = 0.95"][1].argmax() == 3
assert torch.allclose(made[0], Empirical(bags).denoise(x, t, schedule), atol=1e-3)
print(f"✓ squared error at t = 0.95: weighted mean {cost[0]:.0f}, mean of the five",
      f"{cost[1]:.0f}, likeliest bag {cost[2]:.0f}; the weights are those of Empirical")

# %% [markdown]
# ### So where do new clothes come from?
#
# Now all photographs of a label take the place of the five bags, and a sampler uses their exact best guess.
#
# *Predict: what does it draw?*

# %%
copies = []
for k in range(10):
    memory = Empirical(clothes[training.y == k])  # knows these photographs
    walk = ddim(lambda x, t, memory=memory: memory.denoise(x, t, schedule),
                noise[k : k + 1], times(12), schedule)
    copies.append(final(walk))

# %%
copies = torch.cat(copies)
own = final(ddim(guess, noise, times(12), schedule))  # the network's
there = clothes[nearest(copies, clothes)[1]]
diagrams.pictures(
    {"exact guess": copies[five], "nearest": there[five], "network": own[five]},
    "Drawn with the exact best guess, the nearest photographs, the network's.",
    above=names)

# %% tags=["check"]
# @title ✓ The exact best guess draws copies, the network does not
copied, new = (nearest(x.clamp(-1, 1), clothes)[0] for x in (copies, own))
assert copied.max() < 0.01 and new.min() > 4
print("✓ ten drawn clothes, distance from the nearest photograph:",
      f"{copied.max():.1f} with the exact guess,",
      f"{new.min():.1f} to {new.max():.1f} with the network's")

# %% [markdown]
# <details><summary>Answer</summary>
#
# Copies: each ends at *one photograph*, with not a pixel changed.
#
# </details>
#
# So the best possible guess *for these 10,000 photographs* only remembers them. Our network is not so exact.
# Its first guess is nearly the class mean, but its later guesses differ from the exact ones, and end in clothes that are no
# photographs. **What is new comes from this difference.** Why does it look like clothes, and not like rubbish? That is a
# subject of research ([@kamb2024]). And large networks do come to remember some pictures ([@carlini2023]).

# %% [markdown]
# ### From a guess to a step
#
# Now the orange arrow of the first picture. If the guess $\hat x_0$ were right, the noise in
# $x_t = \alpha_t\, x_0 + \sigma_t\, \epsilon$ would have to be $\hat\epsilon$ below. A step mixes the two anew, for a time
# $s$ a little nearer to 0: with a little more picture and a little less noise.
#
# $$ \hat\epsilon = \frac{x_t - \alpha_t\, \hat x_0}{\sigma_t}, \qquad
# x_s = \alpha_s\, \hat x_0 + \sigma_s\, \hat\epsilon . $$
#
# This is a step of *DDIM*, a denoising diffusion implicit model ([@song2020]).
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
# Why not jump to the guess at once? It is a blur. After one small step there is a little more to see, and the next guess
# is better. Guess, step, and repeat: that is a [sampler](../docs/glossary.md#sampler). Here is yours, still without `cfg`.
#
# *Predict: what is right first, the outline or the fine details?*

# %%
x, ts = noise, times(25)  # 26 times from 1 to 0, for 25 steps
states, guesses = [], []
for t, s in zip(ts, ts[1:], strict=False):
    states.append(x)
    guesses.append(guess(x, t))
    x = step(x, guesses[-1], t, s, schedule)

# %%
chosen, numbers = [5, 2, 8], [0, 3, 6, 12, 24]
rows = {classes[k]: torch.stack([guesses[n][k] for n in numbers]) for k in chosen}
diagrams.pictures(rows, "Five guesses each at a sandal, a pullover, a bag.",
                  above=[f"guess {n + 1}" for n in numbers])

# %% [markdown]
# <details><summary>Answer</summary>
#
# The outline comes first: after three steps most of it is there, and only half of the fine detail. But it may still
# change: the pullover loses its long sleeves between guesses 4 and 13, and later the bag loses most of its handle.
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
print("✓ squared error of guess 4 over that of guess 1:",
      f"{coarse:.0%} in means of 4 x 4 pixels, {fine:.0%} in what is finer; ddim",
      "ends in the same pictures")

# %% [markdown]
# The whole walk as a slow film, each noisy picture $x_t$ above the guess made from it:

# %%
alt = "Above, noise turning into clothes; below, the guess getting sharper."
frames = [diagrams.pictures({f"$x_t$, t = {t:.2f}": a[five], "guess": b[five]}, alt,
                            above=names)
          for t, a, b in zip(ts, [*states, x], [*guesses, x], strict=True)]
widgets.film(frames[::2] + frames[-1:], ms=400, hold=3000)

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
# From ten steps on nearly the same: each noise has its picture, and smaller steps come nearer to it. Three steps make only
# three guesses, and the first of them is a blur. What they draw is smoother, and sometimes another thing: here a pullover
# with long sleeves, and a bag with a handle. The bag of the first picture was such a one.
#
# </details>

# %% tags=["check"]
# @title ✓ From ten steps on nearly the same
def apart(a, b):
    return float((by_steps[a] - by_steps[b]).clamp(-2, 2).square().mean().sqrt())


assert apart(3, 100) > 2 * apart(10, 100) > 4 * apart(25, 100)
last = by_steps[100]
others = float((last - last.roll(1, 0)).square().mean().sqrt())
assert apart(10, 100) < 0.2 * others
print(f"✓ from 100 steps, in root mean square: 3 steps {apart(3, 100):.2f}, 10 steps",
      f"{apart(10, 100):.2f}, 25 steps {apart(25, 100):.2f}; two pictures {others:.2f}")

# %% [markdown]
# Now break it. A step keeps $\hat\epsilon$, the noise that $x_t$ has. It is only noise: why not draw new noise in each
# step?
#
# *Predict: the same loop, with fresh noise in the place of* $\hat\epsilon$*. What comes out?*

# %%
generator = torch.Generator().manual_seed(2)
broken = noise
for t, s in zip(ts, ts[1:], strict=False):
    fresh = torch.randn(noise.shape, generator=generator)
    (alpha, sigma), x0 = schedule(s), guess(broken, t)
    broken = alpha * x0 + sigma * fresh
diagrams.pictures({"yours": x[five], "fresh noise": broken[five]},
                  "Five pictures drawn by each.", above=names)

# %% tags=["check"]
# @title ✓ Fresh noise forgets: eighty more of each, from new noises
labels, dice = wanted.repeat(8), torch.Generator().manual_seed(2)
begin = torch.randn(80, 1, 32, 32, generator=dice)
kept = lost = begin
for t, s in zip(ts, ts[1:], strict=False):
    kept = step(kept, guess(kept, t, labels), t, s, schedule)
    (alpha, sigma), eps = schedule(s), torch.randn(begin.shape, generator=dice)
    lost = alpha * guess(lost, t, labels) + sigma * eps
dark = [int((x.clamp(-1, 1).mean((1, 2, 3)) < -0.9).sum()) for x in (kept, lost)]
far = [nearest(x.clamp(-1, 1), clothes)[0].median() for x in (kept, lost)]
assert dark[1] > 1.5 * dark[0] and far[1] < 0.85 * far[0]
print(f"✓ nearly black: {dark[0]} of 80 yours, {dark[1]} with fresh noise; median",
      f"distance from the nearest photograph {far[0]:.1f} and {far[1]:.1f}")

# %% [markdown]
# <details><summary>Answer</summary>
#
# Plainer clothes. Some are better formed than yours, and nearer to photographs; more of them have nearly vanished. A guess is a mean, and what is rare among clothes hardly shows in it. What $x_t$ shows beyond the guess
# is in $\hat\epsilon$; fresh noise forgets it. (Chapter 03 finds how much fresh noise a step may draw.)
#
# </details>

# %% [markdown]
# One thing is left. The ten clothes at the top, drawn with `cfg`, all look like what was asked for; of yours not all do.

# %% tags=["check"]
# @title ✓ Of which class is the nearest photograph?
def right(x):
    return int((training.y[nearest(x.clamp(-1, 1), clothes)[1]] == wanted).sum())


other = final(dpmpp_2m(guess, noise, ts, schedule))  # the other sampler, without cfg
assert right(pictures) == 10 and right(x) <= 8 and right(other) <= 8
print(f"✓ of the class asked for: {right(x)} of your ten, {right(other)} by that",
      f"sampler without cfg, {right(pictures)} with it")

# %% [markdown]
# For these ten the sampler makes no difference; `cfg` does. What is it?

# %% [markdown]
# ## 3. Ask for something
#
# The network knows an eleventh label, "none", which replaced a tenth of the labels in training. So it can be asked twice: $u$ is its guess without a label, $c$ its guess
# with it. What the label changes is $c - u$. [Guidance](../docs/glossary.md#classifier-free-guidance) goes $w$ times as far
# in this direction; this is *classifier-free guidance*:
#
# $$ \hat x_0 = u + w\,(c - u) . $$
#
# > **How the papers write it.** [@ho2022]: $(1 + w)\,c - w\,u$, so their $w$ is ours less 1. They combine guesses at
# > $\epsilon$ instead of $x_0$; the result is the same.
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
# *Predict: what happens to the first guess, nearly the class mean, with* $w = 2$*?*

# %%
nothing = torch.full_like(wanted, 10)  # ten times the label "none"
now = torch.tensor(1.0)
by_w = {w: guide(guess(noise, now, nothing), first, w) for w in (0.0, 1.0, 2.0)}
rows = {f"w = {w:.0f}\n{x[five].min():.1f} to {x[five].max():.1f}": x[five]
        for w, x in by_w.items()}
diagrams.pictures(rows, "First guesses at three strengths.", above=names)

# %% [markdown]
# <details><summary>Answer</summary>
#
# It is exaggerated. It is no longer a mean, but nearly *twice the class mean minus the mean of everything*. Below each
# $w$ stands the range of the pixels; the screen clips what lies beyond -1 and 1. (Nothing keeps a network inside: already
# at $w = 1$ a few pixels of its guess lie below -1.)
#
# </details>

# %% tags=["check"]
# @title ✓ What guidance does to a mean
overall = clothes.mean(0)
near, far = ((by_w[2.0] - mean).square().flatten(1).mean(1).sqrt()
             for mean in (2 * means - overall, means))  # (10,) each
assert near.max() < 0.22 and (near < far).all()
assert by_w[2.0].min() < -2 and by_w[2.0].max() > 1.3
print(f"✓ w = 2: {near.min():.2f} to {near.max():.2f} from twice the class mean minus",
      f"the overall one, {far.min():.2f} to {far.max():.2f} from the class mean")

# %% [markdown]
# The first guess looks the worse for it. But done in every step, the exaggeration makes the class of the final picture
# clearer. Here is the whole sampler, with your two
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
drawn = {w: sample(start, torch.full((8,), 8), w) for w in (0.0, 1.0, 2.0, 5.0)}
diagrams.pictures({f"w = {w:.0f}": x for w, x in drawn.items()},
                  "Eight pictures each for w = 0, 1, 2 and 5.")

# %% [markdown]
# <details><summary>Answer</summary>
#
# At $w = 0$ the label does not count: a mixed wardrobe, and some of it is hard to name. At $w = 5$ there are only bags,
# and they are more alike.
#
# </details>

# %% tags=["check"]
# @title ✓ Mixed without a label, more alike with a large w
spread = {w: x.clamp(-1, 1).std(0).mean() for w, x in drawn.items()}
kinds = {w: training.y[nearest(x.clamp(-1, 1), clothes)[1]] for w, x in drawn.items()}
assert len(kinds[0.0].unique()) > 3 and (kinds[5.0] == 8).all()
assert spread[1.0] > 1.1 * spread[5.0]
count = {w: int((kind == 8).sum()) for w, kind in kinds.items()}
print("✓ by their nearest training pictures, bags of 8:",
      ", ".join(f"{n} at w = {w:.0f}" for w, n in count.items()) + ";",
      f"spread of a pixel {spread[1.0]:.2f} at w = 1, {spread[5.0]:.2f} at w = 5")

# %% [markdown]
# Ask for something else, more strongly, or in fewer steps:

# %%
import ipywidgets


def show(label, w, steps=12):
    x = sample(start, torch.full((8,), label), w, steps)
    rows = {f"{classes[label]}\nw = {w:g}\n{steps} steps": x[:4], "": x[4:]}
    return diagrams.pictures(rows, f"Eight samples of {classes[label]} at w = {w}.")


# %%
slider, options = ipywidgets.FloatSlider, [(name, k) for k, name in enumerate(classes)]
label = ipywidgets.Dropdown(options=options, value=7, description="class")
w = slider(2.0, min=0, max=5, step=0.5, description="w", continuous_update=False)
steps = ipywidgets.IntSlider(12, min=1, max=25, description="steps",
                             continuous_update=False)
_ = widgets.explore(show, label=label, w=w, steps=steps)

# %% [markdown]
# [Chapter 09](09_guidance.ipynb) measures what is gained and lost.

# %% [markdown]
# ## 4. How to work
#
# - **Predict** before you run. A wrong guess teaches more than a read answer.
# - **Run all cells of a chapter first** (menu *Run*), even if you read only some sections: later cells need earlier ones.
# - **A line with ✓** compares what you have just read with another way to get it: a simulation, an integral, another
#   library. Open its check when in doubt, and break it.
# - **Deeper** notebooks have proofs and comparisons. No main line needs them.
# - The [glossary](../docs/glossary.md#letters) has all letters and words, and what eight codebases call them.
# - **Something fails?** In a terminal, or after a `!` in a cell, `python -m minidiff doctor` checks machine, packages and
#   data, and trains for five seconds.

# %% [markdown]
# ## 5. Paths
#
# | path | what to read | time |
# |---|---|---|
# | **Ninety minutes**: noise, the way back, a network that learns | 00: 1 to 4. [02](02_forward_diffusion.ipynb): [1](02_forward_diffusion.ipynb#1-one-noising-step), [3](02_forward_diffusion.ipynb#3-a-thousand-steps-are-one-jump), [4](02_forward_diffusion.ipynb#4-from-betas-to-a-schedule). [03](03_reverse_diffusion.ipynb): [1](03_reverse_diffusion.ipynb#1-walking-back-blindly), [2](03_reverse_diffusion.ipynb#2-if-the-picture-were-known), [4](03_reverse_diffusion.ipynb#4-the-best-guess-at-the-picture), [5](03_reverse_diffusion.ipynb#5-the-first-samples). [00, deeper](deeper/00_start_here.ipynb): [4](deeper/00_start_here.ipynb#4-a-training-loop-in-pytorch) | 90 minutes |
# | **How Stable Diffusion works** | the ninety minutes. [09](09_guidance.ipynb): [3](09_guidance.ipynb#3-without-a-classifier). [10](10_autoencoders.ipynb): [1](10_autoencoders.ipynb#1-there-and-back), [3](10_autoencoders.ipynb#3-rate-and-distortion). [11](11_latent_diffusion.ipynb): [1](11_latent_diffusion.ipynb#1-two-stages) to [3](11_latent_diffusion.ipynb#3-live). [12](12_text_to_image.ipynb): [1](12_text_to_image.ipynb#1-sentences-and-pictures) to [3](12_text_to_image.ipynb#3-from-words-to-pixels), [6](12_text_to_image.ipynb#6-live) | half a day |
# | **A weekend** | 00 to 09 | two days of six hours |
# | **All of it** | 00 to 13 | eighteen hours, and as long again for exercises and *deeper* |
#
# Where the table names sections, read also what stands above the chapter's first section. Not sure that you are ready?
# [Ten questions](deeper/00_start_here.ipynb#are-you-ready) tell, and a page each has what is missing: Gaussians, Bayes,
# divergence, the PyTorch loop.

# %% [markdown]
# After the ninety minutes, train such a model from nothing, in a terminal:
#
# ```
# python -m minidiff train --data fashion --seconds 180 --out runs/fashion
# python -m minidiff sample runs/fashion --n 64 --out samples.png
# ```

# %% [markdown]
# ## What to keep
#
# - A diffusion model is a **denoiser**, and a way to use it many times.
# - The best guess is a mean, weighted by how well each picture fits the noisy one: first a blur, in the end one picture.
#   For a set of pictures the exact best guess only remembers them; what is new comes from how a network differs from it.
# - A step takes $x_t$ apart into guess and noise, and mixes them anew with less noise.
# - Guidance asks with and without the label, and exaggerates: $u + w\,(c - u)$.
# - With `ddim` only the start is random: same noise, label, $w$ and steps, same picture. Some other samplers draw fresh
#   noise in each step.
#
# **Deeper:** [00, deeper](deeper/00_start_here.ipynb): ten questions, the refresher, and other people's letters, checked.
#
# **Next:** [01 · Generative models](01_generative_models.ipynb), or a path above.
#
# ## References
#
# {references}
