# %% [markdown]
# # 00 · Start here
#
# **How does a picture come out of noise?** Guess what is behind the noise, go a small part of the way to the guess,
# and guess again.

# %%
import torch

from minidiff import Cosine, cfg, ddim, dpmpp_2m, final, times
from minidiff.app.checkpoint import load_denoiser
from minidiff.course import check, diagrams, plot, widgets
from minidiff.data import load, shipped

denoiser, about = load_denoiser(shipped("fashion.safetensors"))
classes, schedule = about["classes"], denoiser.schedule
noise = torch.randn(10, 1, 32, 32, generator=torch.Generator().manual_seed(0))
wanted = torch.arange(10)  # one piece of clothing of each of the ten classes


# %%
@torch.no_grad()
def guess(x, t, label=wanted):
    return denoiser(x, t, label)


bag = ddim(lambda x, t: guess(x, t, wanted[8:9]), noise[8:9], times(3), schedule)
diagrams.guess_and_mix(noise[8:9], list(bag), ("all bags", "some bags", "one bag"),
                       "From noise to a bag in three steps, with a guess for each.")

# %% [markdown]
# Your computer has just drawn this bag, with a network that ships with the course; no GPU, no internet.
#
# **You build** the red arrow, which turns guesses into a picture, and *guidance*, which makes the model heed what you
# ask for. Then you test whether you are ready and choose a path. It takes half an hour; the computer needs half a
# minute of it.
#
# | letter | meaning |
# |---|---|
# | $x_0$ | a clean picture: 32 by 32 pixels, numbers from -1 (black) to 1 (white) |
# | $\epsilon$ | noise: a standard normal number for each pixel |
# | $s < t$ | times, from 0 (clean) to 1 (noise) |
# | $x_t = \alpha_t\, x_0 + \sigma_t\, \epsilon$ | a noisy picture: so much of the picture, so much of the noise |
# | $\hat x_0$ | the guess at $x_0$, made from $x_t$ |
# | $w$ | how much the label counts |

# %% [markdown]
# ## 1. A picture out of noise
#
# The network has seen 10,000 small photographs of clothes (Fashion-MNIST) and has learned one thing: **given a noisy
# picture, guess the clean one.** It is a [denoiser](../docs/glossary.md#denoiser). We give it nothing but noise and
# ten labels.

# %%
plot.images(noise, "Ten squares of grey noise.", columns=5, titles=classes)

# %% [markdown]
# *Predict: what can come out?*

# %%
guided = cfg(denoiser, wanted, null=10, w=2.0)
pictures = final(dpmpp_2m(guided, noise, times(25), schedule))
plot.images(pictures, "Ten clothes, one of each class.", columns=5, titles=classes)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Ten pieces of clothing that nobody has ever photographed.
#
# </details>
#
# Two lines did it. You will derive every word in them:
#
# | in the code | what it does | chapter |
# |---|---|---|
# | `denoiser` | guesses the clean picture | [05](05_simplified_loss.ipynb) to [07](07_training.ipynb) |
# | `cfg(..., w=2.0)` | leans towards the label | [09](09_guidance.ipynb) |
# | `times`, `schedule` | 25 times, and $\alpha_t$, $\sigma_t$ for each | [02](02_forward_diffusion.ipynb) |
# | `dpmpp_2m` | steps from each time to the next | [03](03_reverse_diffusion.ipynb), [08](08_sampling.ipynb) |
#
# A model could cheat and return pictures that it was trained on. Below each, the most similar of the 10,000:

# %%
from minidiff.app.metrics import nearest

training = load("fashion")
clothes = training.tensor()  # (10000, 1, 32, 32)
distance, index = nearest(pictures, clothes)
plot.strips({"drawn": pictures, "training": clothes[index]},
            "Above what was drawn, below the closest training pictures: not equal.")

# %% tags=["check"]
# @title ✓ No copies
unseen, _ = nearest(load("fashion", "test").tensor(slice(0, 100)), clothes)
assert distance.min() > 1 and 0.8 < distance.median() / unseen.median() < 1.25
print(f"✓ from the closest training picture: drawn ones {distance.median():.1f},",
      f"unseen photographs {unseen.median():.1f}, a copy would be 0")

# %% [markdown]
# Related, not equal: about as far away as photographs that the network has never seen.
#
# ## 2. What a guess is
#
# Take the network as it was trained, without `cfg`, and show it pure noise, at $t = 1$.
#
# *Predict: it sees nothing, and knows only the label. For which labels is its guess clear, for which a blur?*

# %%
first = guess(noise, torch.tensor(1.0))
plot.strips({"guess": first}, "Ten guesses: trousers are clear, a sandal is a cloud.")

# %% [markdown]
# <details><summary>Answer</summary>
#
# Clear where all pictures look alike, as with trousers and sneakers; a blur where they differ, as with bags.
#
# </details>
#
# **Your turn.** A suspicion: each guess is the mean of all training pictures with its label. Write that mean. The next
# cell checks you, and never stops the notebook.

# %%
def class_mean(pictures, labels, k):
    """Return the mean of the pictures (N, 1, 32, 32) whose label (N,) is k."""
    ### BEGIN SOLUTION
    return pictures[labels == k].mean(0)
    ### END SOLUTION


# %%
def by_adding(pictures, labels, k):
    chosen = [x for x, label in zip(pictures, labels, strict=True) if label == k]
    return sum(chosen) / len(chosen)


few = torch.tensor([3.0, 5, 8]).reshape(3, 1, 1, 1)  # three pictures of one pixel
check(class_mean, by_adding, [(few, torch.tensor([0, 1, 1]), 1)],
      hint="labels == k picks pictures; then the mean over the first dimension, 0")

# %%
means = torch.stack([clothes[training.y == k].mean(0) for k in range(10)])
plot.strips({"guess": first, "class mean": means},
            "Above the first guesses, below the means of the classes: the same blurs.")

# %% [markdown]
# The same blurs, and that is no fault. The network was trained for small squared errors, and the mean of what is possible
# has the smallest ([chapter 03](03_reverse_diffusion.ipynb)). As the noise goes, fewer pictures remain possible, and
# their mean is sharper.

# %% tags=["check"]
# @title ✓ The first guess is the class mean
error = (first - means).square().flatten(1).mean(1).sqrt()  # (10,)
between = (means.mean(0) - means).square().flatten(1).mean(1).sqrt()
assert error.max() < 0.15 and (error < between).all()
spread = [clothes[training.y == k].std(0).mean() for k in range(10)]
assert set(torch.tensor(spread).argsort()[:2].tolist()) == {1, 7}  # trousers, sneakers
assert max(spread) == spread[8]  # bags
print(f"✓ root mean square difference {error.min():.2f} to {error.max():.2f};",
      f"class means differ from the overall mean by {between.min():.2f} or more")

# %% [markdown]
# ### From a guess to a step
#
# The red arrow. If the guess $\hat x_0$ were right, the noise in $x_t = \alpha_t\, x_0 + \sigma_t\, \epsilon$ would have to
# be $\hat\epsilon$ below. Mix the two anew, with a little more picture and a little less noise ([@song2020]):
#
# $$ \hat\epsilon = \frac{x_t - \alpha_t\, \hat x_0}{\sigma_t}, \qquad
# x_s = \alpha_s\, \hat x_0 + \sigma_s\, \hat\epsilon . $$
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
check(step, package_step, [(x, x0, 0.6, 0.5, Cosine()), (x, x0, 1.0, 0.0, Cosine())],
      hint="first the noise from x, x0 and the letters at t; then mix with those at s")

# %% [markdown]
# Why not jump to the guess at once? It is a blur. One small step on there is a little more to see, and the next guess is
# better. Guess, step, and repeat: that is a [sampler](../docs/glossary.md#sampler). The package's is called `ddim`; it
# yields its states one by one, each with its `t`, its `x` and the guess `x0`.
#
# *Predict: what is right first, the outline or the fine details?*

# %%
states = list(ddim(guess, noise, times(25), schedule))
shown = {f"guess {k + 1}": states[k].x0 for k in (0, 3, 6, 12, 24)}
plot.strips(shown, "Five rows of guesses, from blurred class means to sharp clothes.")

# %% tags=["check"]
# @title ✓ The two formulas, twenty-five times, are ddim
x, ts = noise, times(25)
for t, s in zip(ts, ts[1:], strict=False):
    x0 = guess(x, t)
    eps = (x - schedule(t)[0] * x0) / schedule(t)[1]
    x = schedule(s)[0] * x0 + schedule(s)[1] * eps
assert torch.allclose(x, states[-1].x, atol=1e-3)
print("✓ looped by hand, they end in the same ten pictures")

# %% [markdown]
# <details><summary>Answer</summary>
#
# The outline. In the fourth guess it is nearly right, while much of the fine detail is missing.
#
# </details>

# %% tags=["check"]
# @title ✓ Coarse before fine
pool, guesses = torch.nn.functional.avg_pool2d, [states[k].x0 for k in (3, 24)]
coarse = [pool(x, 4) for x in guesses]
blurred = [pool(x, 2).repeat_interleave(2, 2).repeat_interleave(2, 3) for x in guesses]
fine = [x - blur for x, blur in zip(guesses, blurred, strict=True)]
missing = [float((fourth - last).square().sum() / last.square().sum())
           for fourth, last in (coarse, fine)]
assert missing[0] < 0.04 and 0.3 < missing[1] < 0.6
print(f"✓ squared error of guess 4 against the last: {missing[0]:.0%} of the coarse",
      f"picture, {missing[1]:.0%} of the fine detail")

# %% [markdown]
# The whole walk as a film, $x_t$ above and $\hat x_0$ below:

# %%
alt = "Above, noise turning into clothes; below, the guess getting sharper."
frames = [plot.strips({"state": s.x, "guess": s.x0}, alt) for s in states]
widgets.film(frames[::2], ms=160)

# %% [markdown]
# ## 3. Ask for something
#
# The network knows an eleventh label, "none", and so can be asked twice: $u$ is its guess without a label, $c$ the one
# with it. The label changes $c - u$. [Guidance](../docs/glossary.md#classifier-free-guidance)
# ([@ho2022]) goes that way $w$ times as far:
#
# $$ \hat x_0 = u + w\,(c - u) . $$
#
# **Your turn.**

# %%
def guide(u, c, w):
    """Return the guided guess: u for w = 0, c for w = 1, beyond c for w > 1."""
    ### BEGIN SOLUTION
    return u + w * (c - u)
    ### END SOLUTION


# %%
def by_package(u, c, w):
    def two_answers(x, t, label):  # c for label 0, u for label 1, which means none
        return torch.stack([c, u])[label]

    return cfg(two_answers, torch.tensor([0]), null=1, w=w)(u[None], 0.5)[0]


cases = [(torch.tensor(-0.5), torch.tensor(0.3), w) for w in (0.0, 1.0, 2.0)]
check(guide, by_package, cases, hint="start at u; c - u is the way from u to c")

# %% [markdown]
# *Predict: what happens to the first guess, the class mean, with* $w = 2$*?*

# %%
rows = {}
for w in (0, 1, 2):
    rows[f"w = {w}"] = cfg(denoiser, wanted, null=10, w=w)(noise, torch.tensor(1.0))
plot.strips(rows, "First guesses: nearly one blur; class means; glaring class means.")

# %% [markdown]
# <details><summary>Answer</summary>
#
# It is exaggerated: no longer a mean, but *twice the class mean minus the mean of everything*. Many values lie beyond
# black and white, and the screen clips them.
#
# </details>

# %% tags=["check"]
# @title ✓ What guidance does to a mean
overall = clothes.mean(0)
near, far = ((rows["w = 2"] - mean).square().flatten(1).mean(1).sqrt()
             for mean in (2 * means - overall, means))  # (10,) each
assert near.max() < 0.22 and (near < far).all()
assert rows["w = 2"].min() < -2 and rows["w = 2"].max() > 1.3
assert (rows["w = 2"].abs() > 1.1).double().mean() > 0.2  # beyond black and white
print(f"✓ w = 2: {near.min():.2f} to {near.max():.2f} from twice the class mean minus",
      f"the overall one, {far.min():.2f} to {far.max():.2f} from the class mean")

# %% [markdown]
# Used in every step, this exaggeration makes the class of a picture clearer. Move the sliders.

# %%
def draw(label, w):
    noise = torch.randn(8, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    guided = cfg(denoiser, torch.full((8,), label), 10, w)
    x = final(dpmpp_2m(guided, noise, times(12), schedule))
    return plot.images(x, f"Eight samples of {classes[label]} at w = {w}.", columns=4)


# %%
import ipywidgets

names = [(name, k) for k, name in enumerate(classes)]
label = ipywidgets.Dropdown(options=names, value=8, description="class")
w = ipywidgets.FloatSlider(2.0, min=0, max=5, step=0.5, description="w",
                           continuous_update=False)
_ = widgets.explore(draw, label=label, w=w)

# %% [markdown]
# Eight bags from eight noises. At $w = 0$ they are no bags but a mixed wardrobe; the larger $w$, the more alike.
# [Chapter 09](09_guidance.ipynb) measures what is gained and lost.

# %% tags=["check"]
# @title ✓ Mixed without a label, more alike with a large w
start = torch.randn(8, 1, 32, 32, generator=torch.Generator().manual_seed(1))
spread = {}
for w in (0.0, 1.0, 5.0):
    bags = cfg(denoiser, torch.full((8,), 8), 10, w)
    found = final(dpmpp_2m(bags, start, times(12), schedule)).clamp(-1, 1)
    spread[w] = found.std(0).mean()
    if w == 0:
        kinds = training.y[nearest(found, clothes)[1]].unique()
assert len(kinds) > 3 and spread[0] > spread[1] > 1.15 * spread[5]
print(f"✓ {len(kinds)} kinds of clothes at w = 0; mean standard deviation of a pixel",
      f"{spread[0]:.2f} there, {spread[1]:.2f} at w = 1, {spread[5]:.2f} at w = 5")

# %% [markdown]
# ## 4. Are you ready?
#
# Ten questions, on paper. $z$ is standard normal, $\mathcal N(m, v)$ normal with mean $m$ and *variance* $v$.
#
# 1. $X$ has mean 3 and standard deviation 2. Which has $1 - X/2$?
# 2. $X$ and $Y$ are independent, of variances 9 and 16. What is the standard deviation of $X + Y$?
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
# 5. $\frac{0.9 \cdot 0.01}{0.9 \cdot 0.01 + 0.1 \cdot 0.99}$, or 8 %.
# 6. $p(x \mid y)\, p(y)$, divided by its sum or integral over all $y$.
# 7. The Kullback-Leibler divergence. Never; it is 0 only if $p = q$.
# 8. $\frac12$.
# 9. `c.reshape(8, 1, 1, 1) * x`. A plain `c * x` is an error.
# 10. Gradients add up, so each step also follows all the old ones.
#
# </details>
#
# Eight right? Go on. Fewer? [00, deeper](deeper/00_start_here.ipynb) has a page each on Gaussians, Bayes, divergence and
# the PyTorch loop.

# %% tags=["check"]
# @title ✓ The answers in numbers
z = torch.randn(10**6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
one, other = 1 - (3 + 2 * z) / 2, 3 * z[::2] + 4 * z[1::2]
assert abs(one.mean() + 0.5) < 0.01 and abs(one.std() - 1) < 0.01
assert abs(other.std() - 5) < 0.02
Normal = torch.distributions.Normal
assert abs(Normal(0.0, 0.1).log_prob(torch.tensor(0.0)).exp() - 4.0) < 0.02
assert round(100 * 0.9 * 0.01 / (0.9 * 0.01 + 0.1 * 0.99)) == 8
kl = torch.distributions.kl_divergence(Normal(0.0, 1.0), Normal(1.0, 1.0))
c, x = torch.arange(8.0), torch.ones(8, 1, 32, 32)
assert ((c.reshape(8, 1, 1, 1) * x)[:, 0, 0, 0] == c).all()
print(f"✓ answer 2 by a million draws: {other.std():.0f}; 5: 8 %; 8: {kl:.1f}")

# %% [markdown]
# ## 5. How to work
#
# - **Predict** before you run. A wrong guess teaches more than a read answer.
# - **Your turn**: the gaps are filled here and empty in `notebooks/student/`. Whatever you write, the text goes on with
#   the package's own function.
# - **A line with ✓** comes from a folded check. It compares what you have just read with something that does not know
#   it: a simulation, an integral, another library. Open one when in doubt, and break it.
# - **Deeper** notebooks have proofs and comparisons. No main line needs them.
# - The [glossary](../docs/glossary.md#letters) has all letters and words, and what eight codebases call them.
#
# Something fails? The doctor checks machine, packages and data, and trains for five seconds. A final `0`: all is well.

# %% tags=["nbval-ignore-output"]
from minidiff.course.doctor import examine

examine()

# %% [markdown]
# ## 6. Paths
#
# **Ninety minutes**: noise, the way back, your first sampler, and a network that learns.
#
# | read | sections | minutes |
# |---|---|---|
# | 00 | 1 to 3, 5 | 23 |
# | [02](02_forward_diffusion.ipynb) | [1](02_forward_diffusion.ipynb#1-one-noising-step), [2](02_forward_diffusion.ipynb#2-why-the-picture-is-shrunk), [3](02_forward_diffusion.ipynb#3-a-thousand-steps-are-one-jump), [4](02_forward_diffusion.ipynb#4-from-betas-to-a-schedule) | 28 |
# | [03](03_reverse_diffusion.ipynb) | [1](03_reverse_diffusion.ipynb#1-walking-back-blindly), [2](03_reverse_diffusion.ipynb#2-if-the-picture-were-known), [4](03_reverse_diffusion.ipynb#4-the-best-guess-at-the-picture), [5](03_reverse_diffusion.ipynb#5-the-first-samples), [6](03_reverse_diffusion.ipynb#6-a-denoiser-with-perfect-memory) | 34 |
# | [00, deeper](deeper/00_start_here.ipynb) | [4](deeper/00_start_here.ipynb#4-a-training-loop-in-pytorch) | 4 |
#
# Each with its opening. Then train such a model, from nothing, in a terminal:
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
# - The best guess is the mean of all that is still possible: first a blur, in the end one picture.
# - A step takes $x_t$ apart into guess and noise, and mixes them anew with less noise.
# - Guidance asks with and without the label, and exaggerates: $u + w\,(c - u)$.
# - Same noise, same label, same picture: only the start is random.
#
# **Deeper:** [00, deeper](deeper/00_start_here.ipynb): the refresher, and other people's letters, checked.
#
# **Next:** [01 · Generative models](01_generative_models.ipynb), or a path above.
#
# ## References
#
# {references}
