# %% [markdown]
# # 07 · Training
#
# **How does a network of random numbers become a painter of clothes in three minutes, on two CPU cores?** Chapter 05
# derived the loss, chapter 06 built the network. What is left is a loop: show it pictures, let it guess, correct it,
# a thousand times. The loop is short. What this chapter is about is what makes it *work*.
#
# **You will build** the training loop in forty lines, equal to the package's step for step; the average of the
# weights that the pictures are drawn with; and then you watch a network learn, live, from its first grey blur to a
# hundred pieces of clothing that you may inspect one by one. At the end: colour, and your own pictures.
#
# **You need** chapters 02, 05 and 06. The notebook takes just under four minutes, three of which are
# training, and 1.3 GB of memory. The training is measured in *seconds*, not in steps: on any computer it takes as long,
# and on a faster one it gets further.

# %%
import torch

from minidiff import Cosine, Denoiser, add_noise, sample_times, times, weight
from minidiff.course import plot

SECONDS, COLOUR_SECONDS = 140, 40  # the two live runs: sections 5 and 7
schedule, threads = Cosine(), torch.get_num_threads()


def seeded(seed):
    return torch.Generator().manual_seed(seed)


# %% [markdown]
# ## 1. One step, in pictures
#
# DDPM's Algorithm 1 (5.5) in words, as the well-known articles tell it: take some pictures; for each draw a random
# time; add the noise that belongs to the time; tell the network the time; let it guess; compare; take a step. Let us
# watch each of these happen. **Some pictures:** a *batch*, 64 of the 10,000, and what they show. In each *epoch* every
# picture comes once, in a new order; `batch_indices` says which ones are due at step 0, 1, and so on.

# %%
from minidiff.data import load
from minidiff.training import batch_indices

clothes, unseen = load("fashion"), load("fashion", "test")
x0, y = clothes[batch_indices(0, len(clothes), 64, seed=0)]  # (64, 1, 32, 32), (64,)
a_while = torch.cat([batch_indices(step, len(clothes), 64, seed=0) for step in range(313)])  # 2.003 epochs
assert (torch.bincount(a_while[:20_000]) == 2).all() and not torch.equal(a_while[:64], a_while[10_000:10_064])

# %% [markdown]
# **A random time for each picture**, not one for the whole batch: so every step works on all levels of noise at once,
# outlines and dust together. The times are uniform between 0 (data) and 1 (noise), or rather from 0.001 on, for at 0
# the weight of $v$ is infinite; and **the noise that belongs to it**, $x_t = \alpha x_0 + \sigma\epsilon$ (2.4).
# `sample_times` draws one time in each 64th of the walk: section 2 shows why.

# %%
generator = seeded(0)
t, eps = sample_times(64, generator), torch.randn(x0.shape, generator=generator)  # (64,), (64, 1, 32, 32)
x_t = add_noise(x0, eps, t, schedule)
x64, y64, t64, eps64 = x0, y, t, eps  # kept for section 4

# %%
def rows_of(rows, alt, names, above=()):
    """Each row of pictures (n, C, 32, 32) as one strip with its name at the left; a word above each picture."""
    picture = plot.Picture(alt, 9.2, 0.93 * len(rows) + 0.35 * bool(above))
    for ax, x, name in zip(picture.subplots(len(rows), 1, squeeze=False)[:, 0], rows, names, strict=True):
        strip = torch.cat(list(x), 2).permute(1, 2, 0).add(1).div(2).clamp(0, 1)  # (32, 32 n, C)
        ax.imshow(strip, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        ax.set(xticks=[], yticks=[], ylabel=name)
        ax.grid(False)
        ax.spines[:].set_visible(False)
    picture.axes[0].set_xticks(torch.arange(len(above)) * 32 + 15.5, above, fontsize=9)
    picture.axes[0].tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    return picture


# %%
ten = torch.arange(3, 64, 6)[:10]  # ten of the 64, from early to late
above = [f"{clothes.classes[k]}\nt = {u:.2f}" for k, u in zip(y[ten], t[ten], strict=True)]
alt = "Three rows: ten pieces of clothing; ten squares of noise; the two mixed, ever noisier."
rows_of([x0[ten], eps[ten], x_t[ten]], alt, ["picture", "noise", "mixture"], above)

# %% [markdown]
# Above the pictures, in the middle their noise, below the mixture, with more and more noise from left to right. **The
# time becomes a vector** of waves (5.6), one row for each picture of the batch, so that the network can hear it:

# %%
from minidiff.nets.embed import timestep_embedding

alt = "A striped carpet: 64 rows, one for each time; in each half fast waves on the left, slow ones on the right."
picture, (ax,) = plot.figure(alt)
ax.imshow(timestep_embedding(t, 96), aspect="auto", interpolation="nearest")
ax.set(xlabel="number in the vector: 48 cosines, then 48 sines", ylabel="picture of the batch")
picture

# %% [markdown]
# **The network guesses.** Two of them, in fact: a new one, and the one that ships with the course and has been
# through all of this. Both are asked for $v$, from which follows $\hat x_0$ (5.10).
#
# *Predict: what does a network that knows nothing "see" in a noisy picture? (Chapter 06 made its last layer zero.)*

# %%
from minidiff.app.checkpoint import load_denoiser
from minidiff.data import shipped
from minidiff.nets.unet import UNet, UNetConfig


def fresh_denoiser(seed=0, **config):
    torch.manual_seed(seed)
    return Denoiser(UNet(UNetConfig(**config)), schedule)


# %%
novice, (veteran, _) = fresh_denoiser(), load_denoiser(shipped("fashion.safetensors"))
guesses = [denoiser(x_t, t, y).detach() for denoiser in (novice, veteran)]
alt = "Three rows of ten: true pictures; the noisy ones, dimmed, by a new network; sharp, then vague, by a trained one."
rows_of([x0[ten], *(guess[ten] for guess in guesses)], alt, ["picture", "new", "trained"], above)

# %% [markdown]
# The new network ($v = 0$, so $\hat x_0 = \alpha x_t$) hands the mixture back, dimmed. The trained one has cleaned
# all ten: sharply on the left; on the right, where nothing can be seen any more, it paints the blurred mean of what
# the label allows.
#
# **Compare.** Each picture has its squared error, averaged over the pixels. Seen from $x_0$ it is tiny near the data
# and large near the noise; multiplied by the weight of $v$, $w(t) = \mathrm{SNR} + 1$ (5.11), all times get a say.

# %%
error = [(guess - x0).square().flatten(1).mean(1) for guess in guesses]  # (64,) each
weighted = [weight("v", t, schedule) * e for e in error]
alpha, sigma = (c[:, None, None, None] for c in schedule(t))
v = alpha * eps - sigma * x0  # what the network should have said
assert torch.allclose(weighted[0], v.square().flatten(1).mean(1), rtol=1e-3)  # the new network said 0

# %%
alt = "Left, errors of x0 grow with time. Right, weighted: the new network's stay near 1, the other's far below."
picture, axes = plot.figure(alt, 2, width=9)
for name, plain, heavy in zip(("new network", "trained network"), error, weighted, strict=True):
    axes[0].plot(t, plain, ".", label=name)
    axes[1].plot(t, heavy, ".", label=name)
axes[0].set(xlabel="t", ylabel="squared error of $x_0$", yscale="log")
axes[1].set(xlabel="t", ylabel="times $w(t)$: squared error of $v$", ylim=(0, 2.2))
axes[1].legend()
picture

# %% [markdown]
# **Take a step.** The loss is the mean of the right picture's dots. With $\theta$ for all weights of the network,
# $B$ pictures, their labels $y_i$ and a step length $\eta$, the *learning rate*:
#
# $$ \theta \;\leftarrow\; \theta - \eta\, \nabla_\theta\, \ell(\theta), \qquad
# \ell(\theta) = \frac1B \sum_{i=1}^B w(t_i)\; \big|\hat x_0(x_{t_i},\, t_i,\, y_i) - x_{0,i}\big|^2 \tag{7.1} $$
#
# ($|\cdot|^2$ is averaged over the pixels here; $\eta$ has nothing to do with chapter 08's.)
#
# That is all of training. (Better directions than the plain gradient come in section 4.) Is the gradient right? A short
# step must lower the loss of *these* pictures by $\eta\,|\nabla\ell|^2$, to first order:

# %%
def batch_loss(denoiser):
    errors = (denoiser(x_t, t, y) - x0).square().flatten(1).mean(1)  # (64,)
    return (weight("v", t, schedule) * errors).mean()


# %%
before = batch_loss(novice)
gradient = torch.autograd.grad(before, list(novice.parameters()))
with torch.no_grad():
    for p, g in zip(novice.parameters(), gradient, strict=True):
        p -= 1e-3 * g
promised = 1e-3 * sum(g.square().sum() for g in gradient)
fell = before - batch_loss(novice)
assert 0.9 < fell / promised < 1.1
print(f"the loss fell by {fell:.4f}, promised {promised:.4f}")

# %% [markdown]
# Now do it again and again, with other pictures, times and noises. Here is the whole loop, in forty lines. First **the
# draws**. All random numbers of step $k$ come from `(seed, k)`, so step 700 draws the same whenever it is run: section
# 6 will need it. One label in ten is replaced by "no label" (number 10), so that the network learns to paint without
# one too: chapter 09 will need *that*.

# %%
def draws(step, data, seed, classes=10):
    generator = seeded(seed * 1_000_003 + step)
    x0, y = data[batch_indices(step, len(data), 64, seed)]
    t = 1e-3 + 0.999 * (torch.arange(64) + torch.rand(64, generator=generator)) / 64  # one in each 64th
    eps = torch.randn(x0.shape, generator=generator)
    unlabelled = torch.rand(64, generator=generator) < 0.1
    return x0, torch.where(unlabelled, classes, y), t.clamp(max=1), eps


# %% [markdown]
# **The loss**, this time as plain squared error of $v$ (by (5.11) the same number as (7.1)):

# %%
def loss_of_v(denoiser, x0, y, t, eps):
    alpha, sigma = (c[:, None, None, None] for c in schedule(t))
    v = alpha * eps - sigma * x0
    return (denoiser.net(alpha * x0 + sigma * eps, t, y) - v).square().mean()


# %% [markdown]
# **The loop.** What is new in it: the matrices of the hidden layers are stepped by Muon, all else by AdamW (section 4);
# the learning rate rises over the first hundred steps; a gradient longer than 1 is cut to 1; and `Ema` keeps an average
# of the weights (section 3).

# %%
from minidiff.training import Ema
from minidiff.training.muon import Muon, hidden_weights


def two_optimizers(net):
    hidden = hidden_weights(net)
    rest = [p for p in net.parameters() if not any(p is h for h in hidden)]
    return torch.optim.AdamW(rest, betas=(0.9, 0.99)), Muon(hidden, lr=3e-3)


# %%
def our_loop(denoiser, average, data, steps, seed=0):
    optimizers = two_optimizers(denoiser)
    for step in range(steps):
        loss = loss_of_v(denoiser, *draws(step, data, seed))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(denoiser.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = 3e-3 * min(1, (step + 1) / 100)
            optimizer.step()
            optimizer.zero_grad()
        average.update(denoiser, step + 1)
        yield loss.item()


# %% [markdown]
# And the package. `TrainState` holds what a run must remember, `train` is a generator that yields after each step: what
# you print, draw or save meanwhile is your affair. Both loops, 20 steps on the 8 by 8 digits, with a small U-Net:

# %%
from minidiff.training import TrainConfig, TrainState, train, train_step

digits, unseen_digits = load("digits"), load("digits", "test")
tiny = {"width": 16, "patch_size": 1}

# %%
theirs = TrainState(fresh_denoiser(**tiny), TrainConfig(precision="fp32"))
their_losses = torch.tensor([p.loss for p in train(theirs, digits, steps=20)])

# %%
ours = fresh_denoiser(**tiny).to(memory_format=torch.channels_last)
our_average = Ema(ours, gamma=6.94)
our_losses = torch.tensor(list(our_loop(ours, our_average, digits, steps=20)))
assert torch.allclose(our_losses, their_losses, rtol=1e-5)
nets = (our_average.module, theirs.ema.module, ours)
mine, package, now = (torch.cat([p.detach().flatten() for p in net.parameters()]) for net in nets)
assert (mine - package).norm() < 0.01 * (mine - now).norm()  # the averages agree far better than average and weights
print(f"loss {our_losses[0]:.2f} to {our_losses[-1]:.2f}, in both")

# %% [markdown]
# The same losses and, but for rounding, the same average. From here on the package's step. What it minimises stands by
# itself, for later chapters will minimise something else by the same loop:

# %%
from minidiff.training.objectives import denoising

plot.show_source(denoising)

# %% [markdown]
# The step itself is ours and a little care:

# %%
plot.show_source(train_step)

# %% [markdown]
# Its care: nothing happens to the weights if the loss is not a finite number; some hardware multiplies in half the
# digits, in twice the speed or more (`autocast`, section 4); and the learning rate is read from the step alone, unless
# a `cooldown` is asked for, which lets it fall to zero over the last share of the budget (chapter 10 is the first to).
#
# ## 2. What the draws must be
#
# Forty lines, and each of them can be got wrong so that the loop still runs, and something is still learned. That is
# what makes such errors expensive: nothing crashes. In this section and the next two, each part of the loop is taken
# out or replaced, and we measure what happens. A pupil for the experiments: a small MLP that learns digits in about a
# second.

# %%
from torch.utils.data import TensorDataset

from minidiff.nets.mlp import MLP, MLPConfig

torch.set_num_threads(1)  # such tiny networks are quickest on one thread
flat = TensorDataset(digits.tensor().flatten(1), digits.y)  # points of 64 numbers, with their labels


def pupil(data=flat, steps=300, **recipe):
    torch.manual_seed(0)
    net = MLP(MLPConfig(dim=64, num_classes=10, width=64))
    training = TrainState(Denoiser(net, schedule), TrainConfig(**{"precision": "fp32", "warmup_steps": 20} | recipe))
    return training, torch.tensor([p.loss for p in train(training, data, steps=steps)])


# %% [markdown]
# **The times.** `sample_times` draws one time in each of 64 equal parts. Independent draws would be right as well: on
# average they give the same loss. But they are *noisier*. The weighted loss of *one* picture, here $\ell$, has at a
# given $t$ a mean that depends on $t$ and a spread around it. Independent times pay for both, times from strata only
# for the spread:
#
# $$ \mathrm{Var}_\mathrm{independent} = \frac1B\Big( E_t\,\mathrm{Var}(\ell \mid t)
# + \mathrm{Var}_t\,E(\ell\mid t)\Big), \qquad
# \mathrm{Var}_\mathrm{strata} \approx \frac1B\, E_t\,\mathrm{Var}(\ell\mid t) \tag{7.2} $$
#
# (Kingma et al. 2021 brought the idea to diffusion; theirs are evenly spaced times with one random shift.) *Predict:
# how much of the variance of a batch's loss comes from its times: a tenth, a half, most of it?*

# %%
from minidiff import denoising_loss

student, student_losses = pupil()


@torch.no_grad()
def losses_at(t, generator):
    """The loss of one digit, drawn at random, for each time (N,): (N,)."""
    losses = []
    for u in t.split(16_000):
        x0, y = flat[torch.randint(len(flat), u.shape, generator=generator)]
        eps = torch.randn(x0.shape, generator=generator)
        losses.append(weight("v", u, schedule) * denoising_loss(student.model, x0, eps, u, schedule, y))
    return torch.cat(losses)


# %%
generator, batches = seeded(1), 1000
strata = torch.cat([sample_times(64, generator) for _ in range(batches)])
anywhere = 1e-3 + 0.999 * torch.rand(64 * batches, generator=generator)
by_strata, by_chance = (losses_at(u, generator).view(batches, 64) for u in (strata, anywhere))

# %%
spread, between = by_strata.var(0).mean(), by_strata.mean(0).var()  # column k: the times of part k
measured = {"strata": by_strata.mean(1).var(), "independent": by_chance.mean(1).var()}

# %%
assert abs(measured["strata"] / (spread / 64) - 1) < 0.2
assert abs(measured["independent"] / ((spread + between) / 64) - 1) < 0.2
assert between / (spread + between) > 0.65

# %% tags=["nbval-ignore-output"]
print({name: f"standard deviation {v.sqrt():.3f}" for name, v in measured.items()})
print(f"share of the times in the variance: {between / (spread + between):.0%}")

# %%
alt = "Two histograms with one middle; that of stratified times is less than half as wide as the other."
picture, (ax,) = plot.figure(alt)
for name, batch in {"independent times": by_chance, "one in each 64th": by_strata}.items():
    ax.hist(batch.mean(1), 60, alpha=0.6, label=name)
ax.set(xlabel="loss of a batch of 64", ylabel="batches of 1,000")
ax.legend()
picture

# %% [markdown]
# For this pupil about four fifths of the variance come from the times: with strata the loss is as steady as with a
# batch several times as large, and that costs nothing. But do not expect that it *learns* faster. What a step follows
# is the gradient, and how noisy is that, summed over all weights of the pupil?

# %%
def gradient_of_all(times_of, seed):
    generator = seeded(seed)
    x0, y = flat[torch.randint(len(flat), (64,), generator=generator)]
    t, eps = times_of(generator), torch.randn(x0.shape, generator=generator)
    loss = (weight("v", t, schedule) * denoising_loss(student.model, x0, eps, t, schedule, y)).mean()
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(student.model.parameters()))])


# %%
ways = {"strata": lambda g: sample_times(64, g), "independent": lambda g: 1e-3 + 0.999 * torch.rand(64, generator=g)}
noises = {name: torch.stack([gradient_of_all(way, k) for k in range(150)]).var(0).sum() for name, way in ways.items()}
assert abs(noises["strata"] / noises["independent"] - 1) < 0.25

# %% tags=["nbval-ignore-output"]
print({name: f"variance of the gradient {v:.3f}" for name, v in noises.items()})

# %% [markdown]
# The same: that noise comes from pictures and grains, not from the times. What strata buy is a loss curve that can be
# read, and a comparison of two runs that means something. That is reason enough.
#
# **The labels.** A well-read repository drops labels so: `if random() < 0.1: labels = None`, for the *whole batch*. On
# average that is the same again. But then nine batches in ten teach nothing about painting without a label, and the
# tenth nothing else. The gradient of the "no label" vector, over 300 batches, both ways:

# %%
from minidiff import drop_labels

table = student.model.net.embed.label.weight  # one row per label; row 10 is "no label"


def gradient_of_null(labels, seed):
    generator = seeded(seed)
    x0, y = flat[torch.randint(len(flat), (64,), generator=generator)]
    t, eps = sample_times(64, generator), torch.randn(x0.shape, generator=generator)
    errors = denoising_loss(student.model, x0, eps, t, schedule, labels(y, generator))
    return torch.autograd.grad((weight("v", t, schedule) * errors).mean(), table)[0][10]


# %%
def per_sample(y, generator):
    return drop_labels(y, 10, 0.1, generator)


def per_batch(y, generator):
    return torch.full_like(y, 10) if torch.rand((), generator=generator) < 0.1 else y


pulls = {f.__name__: torch.stack([gradient_of_null(f, seed) for seed in range(300)]) for f in (per_sample, per_batch)}
noise_of = {name: g.var(0).sum().sqrt() / g.mean(0).norm() for name, g in pulls.items()}

# %%
silent = {name: float((g.norm(dim=1) == 0).double().mean()) for name, g in pulls.items()}
assert silent["per_batch"] > 0.8 and silent["per_sample"] < 0.02
assert noise_of["per_batch"] > 1.2 * noise_of["per_sample"]

# %% tags=["nbval-ignore-output"]
for name, ratio in noise_of.items():
    print(f"{name}: no pull in {silent[name]:.0%} of the batches; noise {ratio:.1f} times as large as the gradient")

# %% [markdown]
# Both find the same gradient in the long run, but the label that is dropped by the batch gives no sign of life in nine
# batches of ten and shouts in the tenth. So: *per sample*, the labels as well as the times.
#
# **The range.** Pictures are in $[-1, 1]$, zero in the middle, so that they and the noise are of one size. Bytes are
# refused, and so is $[0, 255]$:

# %%
for wrong in (digits.x, digits.x.float()):
    try:
        next(train(theirs, TensorDataset(wrong, digits.y), steps=100))
    except ValueError as error:
        print(error)

# %% [markdown]
# But pictures in $[0, 1]$ are in $[-1, 1]$ too; nobody can tell. A widely read implementation trains on them. *Predict:
# what comes out?*

# %%
from minidiff.app.generate import cycle_labels, generate
from minidiff.app.metrics import label_accuracy, load_classifier

reader, asked = load_classifier("digits"), cycle_labels(200, 10)
halved = TensorDataset((flat.tensors[0] + 1) / 2, flat.tensors[1])
graduates = {"-1 to 1": student, "0 to 1": pupil(halved)[0]}
drawn = {name: generate(p.ema.module, asked, (64,)).view(-1, 1, 8, 8) for name, p in graduates.items()}

# %%
plot.images(torch.cat([x[:10] for x in drawn.values()]), "Above, ten white digits on black; below, on grey.")

# %%
corner = {name: float(x[:, :, :, 0].mean()) for name, x in drawn.items()}  # the left edge of a digit is black
read = {name: label_accuracy(reader(x), asked) for name, x in drawn.items()}
repaired = label_accuracy(reader(2 * drawn["0 to 1"] - 1), asked)
assert corner["-1 to 1"] < -0.8 and abs(corner["0 to 1"]) < 0.2
assert read["-1 to 1"] > 0.9 and max(read["0 to 1"], repaired) < read["-1 to 1"] - 0.04

# %% tags=["nbval-ignore-output"]
for name in drawn:
    print(f"{name}: left edge {corner[name]:.2f}, read right {read[name]:.0%}")
print(f"0 to 1, brought back to -1 to 1 after drawing: read right {repaired:.0%}")

# %% [markdown]
# Grey pictures, the complaint in a hundred forum threads. The noise has stayed as large as ever, but the pictures have
# half the contrast, so they drown sooner; and whoever shows them as if zero were grey sees them washed out. Putting the
# range right afterwards helps a good deal, but not all the way. `Images` gives $[-1, 1]$ always.
#
# ## 3. The weights that wander
#
# Each step follows one batch, and each batch pulls a little elsewhere. So the weights never come to rest: they wander
# about in the valley. The simplest valley there is: one weight, the loss $\theta^2/2$, and a gradient $\theta + \xi$
# with a noise $\xi$ of variance one. A step is
#
# $$ \theta_k = \theta_{k-1} - \eta\,(\theta_{k-1} + \xi_k) = \rho\,\theta_{k-1} - \eta\,\xi_k,
# \qquad \rho = 1 - \eta, $$
#
# and its variance settles where a step leaves it alone: $V = \rho^2 V + \eta^2$, so $V = \eta^2 / (1 - \rho^2)$. A
# smaller $\eta$ would help, and be slow. The other way is to *average* the weights, and to use the average for
# drawing only (Polyak & Juditsky 1992):
#
# $$ m_k = \beta_k\, m_{k-1} + (1 - \beta_k)\,\theta_k, \qquad \beta_k = \Big(1 - \frac1k\Big)^{\gamma+1} \tag{7.3} $$
#
# (No relation to the $\beta_t$ of the noise.) With one fixed $\beta$ this is the *exponential moving average*, EMA,
# of all libraries, with a memory of about $1/(1-\beta)$ steps. The growing $\beta_k$ is Karras et al.'s (2024), and
# the package's.
#
# How much does averaging help? The wanderer remembers, $\mathrm{Cov}(\theta_i, \theta_j) = V\rho^{|i-j|}$, so the sum
# over all pairs of past steps is a double geometric series, and with a fixed $\beta$, in the long run,
#
# $$ \mathrm{Var}(m) = V\;\frac{1-\beta}{1+\beta}\cdot\frac{1+\rho\beta}{1-\rho\beta} \tag{7.4} $$

# %%
eta, n = 0.1, 1000
rho, V = 1 - eta, eta**2 / (1 - (1 - eta) ** 2)
xi = torch.randn(n, 2000, generator=seeded(3), dtype=torch.float64)  # 2,000 trainings at once
paths = [torch.full((2000,), 3.0, dtype=torch.float64)]  # all begin at 3
for k in range(n):
    paths.append(rho * paths[-1] - eta * xi[k])
paths = torch.stack(paths[1:])  # (n, 2000)


# %%
def average(paths, beta):
    """m_k for k = 1..n; beta is a function of k."""
    m = [paths[0]]
    for k in range(2, len(paths) + 1):
        m.append(beta(k) * m[-1] + (1 - beta(k)) * paths[k - 1])
    return torch.stack(m)


# %%
gamma = 6.94  # the package's
betas = {"fixed, 0.9": lambda k: 0.9, "fixed, 0.999": lambda k: 0.999, "growing": lambda k: (1 - 1 / k) ** (gamma + 1)}
averages = {"the weights": paths} | {name: average(paths, beta) for name, beta in betas.items()}
for name, beta in {"the weights": 0.0, "fixed, 0.9": 0.9}.items():
    theory = V * (1 - beta) / (1 + beta) * (1 + rho * beta) / (1 - rho * beta)  # (7.4)
    assert abs(averages[name][-200:].var(1).mean() / theory - 1) < 0.03
print(f"variance: {V:.3f} of the weights, {theory:.3f} of their average with beta = 0.9")

# %%
alt = "The weight falls, then jitters; a short average jitters less, a long one lags, the growing one is calm."
one = {name: m[:, 0] for name, m in averages.items()}
plot.curves(torch.arange(1, n + 1), one, alt, "step k", "weight")

# %%
alt = "Size of the error: the weights stop at 0.23, the long memory falls last, the growing one is lowest in the end."
size = {name: m.square().mean(1).sqrt() for name, m in averages.items()}
plot.curves(torch.arange(1, n + 1), size, alt, "step k", "typical distance to the bottom", xscale="log", yscale="log")

# %%
late, growing = {name: s[-1] for name, s in size.items()}, size["growing"]
assert late["growing"] < 0.5 * late["the weights"] and late["fixed, 0.999"] > 4 * late["the weights"]
assert late["fixed, 0.9"] > 1.5 * late["growing"] and growing[99] < 0.2 * size["fixed, 0.999"][99]
assert size["the weights"][19] < growing[19] < size["fixed, 0.9"][19]  # on the way down every average lags

# %% [markdown]
# The weights (blue) come down quickly and then jitter at the size that (7.4) gives them. A short average jitters
# less, but soon stops getting better. A long one would be steadier still, but after 1,000 steps it has not yet
# forgotten where it began. The growing one loses sight of the start nearly as fast as the weights do, and gets better
# for as long as one trains.
#
# The growing memory has a simple shape. After $k$ steps the weights of step $i$ count for $(1 - \beta_i)\,\beta_{i+1}
# \cdots \beta_k$, and the product telescopes:
#
# $$ (1-\beta_i)\prod_{j=i+1}^k \beta_j = \frac{i^{\gamma+1} - (i-1)^{\gamma+1}}{k^{\gamma+1}}, \qquad
# \text{mean age} \approx \frac{k}{\gamma+2} \tag{7.5} $$
#
# For many steps that is the density $(\gamma+1)\,\tau^\gamma$ of the fraction $\tau = i/k$ of the run, with mean
# $\frac{\gamma+1}{\gamma+2}$. *Whenever you stop, the average reaches back over the same share of the run.*

# %%
k = 1000
i = torch.arange(1, k + 1, dtype=torch.float64)
beta = (1 - 1 / i) ** (gamma + 1)
later = torch.cat([beta[1:].flip(0).cumprod(0).flip(0), torch.ones(1)])  # the product of all beta_j with j > i
profile = (i ** (gamma + 1) - (i - 1) ** (gamma + 1)) / k ** (gamma + 1)
assert torch.allclose((1 - beta) * later, profile, atol=1e-12) and abs(profile.sum() - 1) < 1e-12

# %%
age = (profile * (k - i)).sum()
width = (profile * (k - i - age) ** 2).sum().sqrt()
assert abs(age / k - 1 / (gamma + 2)) < 1e-3 and abs(width / k - 0.1) < 1e-3
covariance = V * rho ** (i[:, None] - i).abs()  # of the wanderer's steps
assert abs((profile @ covariance @ profile).sqrt() / late["growing"] - 1) < 0.03  # as in the simulation
print(f"mean age {age / k:.1%} of the run, width {width / k:.1%}")

# %% [markdown]
# (Karras et al. publish $\gamma = 6.94$ as the value for a width, a standard deviation of $\tau$, of 10 %. So it is.)
#
# The package's `Ema` must do the same. Give it a "network" whose weights at step $i$ are zero but for a one in place
# $i$: then the average *is* the profile.

# %%
line = torch.nn.Linear(k, 1, bias=False)
ema = Ema(line, gamma)
for step in range(1, k + 1):
    line.weight.data = torch.nn.functional.one_hot(torch.tensor([step - 1]), k).float()
    ema.update(line, step)
assert torch.allclose(ema.module.weight[0].double(), profile, atol=1e-6)

# %%
fixed = {f"fixed, {b}": (1 - b) * b ** (k - i) for b in (0.99, 0.999)}
alt = "What each past step counts for: 0.99 and the growing memory rise towards the end, 0.999 is nearly flat."
plot.curves(i, fixed | {"growing, 6.94": profile}, alt, "step i, of 1,000 so far", "share in the average")

# %%
plot.show_source(Ema.update)

# %% [markdown]
# (With fixed 0.999, what is missing to one, $0.999^{1000} = 37\,\%$, still belongs to the random numbers of the start.)
#
# There is a second gain. The usual cure for the jitter is to let the learning rate sink towards the end, as in chapter
# 05. It works (and can be added to the average), but one must know beforehand when the end will be. With the average
# any moment is a fair end: the package's recipe knows no length, so it can be told "140 seconds", be stopped, and be
# continued. (Who knows the end asks for `TrainConfig(cooldown=0.3)`; the models from chapter 10 on are trained so.)
#
# ## 4. How long a step, and in which direction?
#
# **The learning rate.** *Predict: what does a run look like whose steps are a hundred times too long?*

# %%
rates = {"0.0003": 3e-4, "0.03": 3e-2, "0.3": 0.3}
runs = {"0.003": student_losses[:200]} | {name: pupil(lr=lr, steps=200)[1] for name, lr in rates.items()}
smooth = {f"rate {name}": losses.view(20, 10).mean(1) for name, losses in runs.items()}
alt = "Loss by step: 0.003 falls well, 0.03 faster at first, 0.0003 slowly; 0.3 stays high and jumps about."
plot.curves(torch.arange(5, 200, 10), smooth, alt, "step", "loss", yscale="log")

# %%
last = {name: losses[-50:].mean() for name, losses in runs.items()}
assert max(last["0.003"], last["0.03"]) < 0.5 < 0.6 < min(last["0.0003"], last["0.3"])

# %% [markdown]
# A tenth of the usual rate has hardly begun, ten times as much gets there sooner and then no further. A hundred times
# as much *does not crash*. The loss stays near that of a network which knows nothing, and one might look for the fault
# in a hundred other places.
#
# Far larger ones still can bring `nan`, and a single `nan` in the data always does. One such number in a gradient,
# and after the step all weights are `nan`, and so is the average. The package looks at the loss first:

# %%
spoiled = flat.tensors[0].clone()
spoiled[100, 7] = torch.nan  # one pixel of picture 100
training = TrainState(student.model, TrainConfig(precision="fp32"))
try:
    for _ in train(training, TensorDataset(spoiled, digits.y), steps=300):
        pass
except ValueError as error:
    print(error)

# %%
due = next(step for step in range(99) if 100 in batch_indices(step, len(flat), 64, seed=0))  # picture 100's turn
assert training.step == due and all(p.isfinite().all() for p in training.model.parameters())

# %% [markdown]
# The error names the step in which picture 100 was due (steps are counted from 1 there), and the weights are those
# before it.
#
# **Warm-up and clipping** are in every recipe. What do they do? Adam divides a gradient by its own typical size, and
# in the very first step the typical size is that of this one gradient: *every* weight moves by the full learning
# rate, however small its gradient.

# %%
p = torch.nn.Parameter(torch.zeros(3))
p.grad = torch.tensor([1e-5, -1.0, 300.0])
torch.optim.AdamW([p], lr=3e-3).step()
assert torch.allclose(p.detach(), -3e-3 * p.grad.sign(), rtol=1e-2)

# %% [markdown]
# So the first steps are made short: the *warm-up*. It is an insurance, and it has a price: the pupil, who needs no
# insurance, is behind after 150 steps if 100 of them were a warm-up.

# %%
behind = {warmup: pupil(steps=150, warmup_steps=warmup)[1][-30:].mean() for warmup in (1, 100)}
assert behind[1] < behind[100] - 0.01

# %% [markdown]
# And *clipping*: one bad batch can make a huge gradient, so every gradient that is longer than 1 is scaled down to 1.
# The experiment: one of the 1,498 digits is damaged, a thousand times too bright. (The range is checked for pictures,
# not for flat lists of numbers.) Plain gradient descent, and the package's optimisers, each with and without
# clipping. *Predict: which of the four come to grief?*

# %%
bright = flat.tensors[0].clone()
bright[100] *= 1000
damaged = TensorDataset(bright, digits.y)


def on_damaged(clip, plain):
    torch.manual_seed(0)
    denoiser = Denoiser(MLP(MLPConfig(dim=64, num_classes=10, width=64)), schedule)
    training = TrainState(denoiser, TrainConfig(precision="fp32", max_grad_norm=clip, lr=0.3 if plain else 3e-3))
    if plain:
        training.optimizers = [torch.optim.SGD(denoiser.parameters())]
    try:  # median over the last epoch, which is 23 steps
        return torch.tensor([p.loss for p in train(training, damaged, steps=150)])[-23:].median()
    except ValueError:
        return torch.tensor(torch.inf)  # the loss was not finite


# %%
ends = {(how, clip): on_damaged(clip, how == "plain") for how in ("plain", "package") for clip in (1.0, torch.inf)}
assert ends["plain", 1.0] < 0.7 and ends["plain", torch.inf] > ends["plain", 1.0] + 0.05
assert abs(ends["package", 1.0] - ends["package", torch.inf]) < 0.1

# %% tags=["nbval-ignore-output"]
for (how, clip), loss in ends.items():
    print(f"{how}, gradients up to {clip}: loss {loss:.2f}")

# %% [markdown]
# Plain descent without clipping: each time the bad picture comes round, it throws the weights far away. A step of Muon
# is equally long whatever the gradient's length, and AdamW's nearly so: they hardly notice, and clipping is a second
# belt.
#
# **The direction.** The gradient $G$ of a matrix of weights says how fast the loss falls if a small $D$ is taken off:
# by $\langle G, D\rangle$, the sum of the products of their entries. Steepest descent takes $D = G$, "the steepest for
# its length". But the length of the list of numbers is a strange measure for a matrix. What matters is how strongly it
# can change what goes through it: its largest singular value. So ask for the $D$ which lowers the loss most among those
# that make *no* vector longer. With the singular value decomposition $G = U S V^\top$:
#
# $$ \max_{\|D\|_2 \le 1} \langle G, D\rangle = \sum_i s_i, \qquad\text{at}\quad D = U V^\top \tag{7.6} $$
#
# (No single term $u_i^\top D v_i$ of $\langle G, D\rangle = \sum_i s_i\, u_i^\top D v_i$ can be more than 1, and
# $UV^\top$ makes all of them 1.) That is **Muon** (Jordan et al. 2024): all singular values made equal, not those of
# the last gradient alone but of a running mean of gradients, the *momentum*. A real gradient, of a convolution of the
# small U-Net, as a matrix with one row for each channel:

# %%
x0, y, t, eps = draws(20, digits, seed=0)
layer = theirs.model.net.middle[0].conv1.weight
G = torch.autograd.grad(loss_of_v(theirs.model, x0, y, t, eps), layer)[0].flatten(1).double()
U, S, Vt = torch.linalg.svd(G, full_matrices=False)

# %%
rivals = torch.randn(30, *G.shape, generator=seeded(6), dtype=torch.float64)
rivals = torch.cat([rivals, G + rivals * G.std()])
rivals = rivals / torch.linalg.matrix_norm(rivals, 2)[:, None, None]  # none makes a vector longer
assert torch.isclose((G * (U @ Vt)).sum(), S.sum()) and (G * rivals).sum((1, 2)).max() < S.sum()
gain = S.sum() / (S.square().sum() / S[0])  # against G itself, made as long as is allowed
assert gain > 2

# %% tags=["nbval-ignore-output"]
print(f"G is {tuple(G.shape)}; U V^T lowers the loss {gain:.1f} times as much as G, for the same largest stretch")

# %% [markdown]
# A decomposition at each step would be slow. A polynomial with odd powers of $G$ does almost the same: in $p(X) = aX +
# b\,XX^\top X + c\,(XX^\top)^2 X$ the factors $U$ and $V$ pass through, and each singular value becomes
#
# $$ p(s) = 3.4445\, s - 4.7750\, s^3 + 2.0315\, s^5 . \tag{7.7} $$
#
# Five times in a row, after $G$ is divided by its norm (so that no value is above 1), it lifts nearly all to about one:

# %%
from minidiff.training.muon import orthogonalize


def five_times(s):
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return s


# %%
by_polynomial = U @ torch.diag(five_times(S / (S.norm() + 1e-7))) @ Vt
fast, = orthogonalize([G])
assert torch.allclose(fast, by_polynomial, atol=1e-6)

# %%
s = torch.logspace(-3, 0, 400)
alt = "The polynomial, five times: 0.5 at 0.001, and in waves between 0.7 and 1.2 from 0.002 on; dots for G lie on it."
picture = plot.curves(s, {"$p$ five times": five_times(s)}, alt, "singular value before", "after", xscale="log")
picture.axes[0].plot(S / S.norm(), five_times(S / S.norm()), "o", label="those of G")
picture.axes[0].set(xlim=(1e-3, 1))
picture.axes[0].legend()
picture

# %%
reached = five_times(torch.logspace(-2.69, 0, 10_000))
assert reached.min() > 0.67 and reached.max() < 1.21

# %% [markdown]
# All values of $G$ that matter land between 0.7 and 1.2, and that is near enough. Then the step is scaled to the usual
# length of one of AdamW (Liu et al. 2025), so that both share a learning rate. (Vectors, the
# table of labels and kernels with fewer than 16 rows or columns go to AdamW.)
#
# Why not simply take longer steps along $G$? Its few strong directions would overshoot long before the many weak ones
# had moved, and the weak ones are where the rare things are learned.
#
# Is it worth it? Equal steps, equal learning rates, the same pupil, AdamW for everything or Muon for the matrices:

# %%
def adam_only():
    torch.manual_seed(0)
    denoiser = Denoiser(MLP(MLPConfig(dim=64, num_classes=10, width=64)), schedule)
    training = TrainState(denoiser, TrainConfig(precision="fp32", warmup_steps=20))
    training.optimizers = [torch.optim.AdamW(training.model.parameters(), betas=(0.9, 0.99), fused=True)]
    return torch.tensor([p.loss for p in train(training, flat, steps=300)])


contest = {"Muon and AdamW": student_losses, "AdamW alone": adam_only()}
smooth = {name: losses.view(30, 10).mean(1) for name, losses in contest.items()}

# %%
alt = "Two losses over 300 steps: AdamW alone falls faster at first; Muon overtakes it and ends a little lower."
plot.curves(torch.arange(5, 300, 10), smooth, alt, "step", "loss")

# %%
start, end = ({name: part.mean() for name, part in zip(contest, parts, strict=True)} for parts in
              zip(*((L[:50], L[-50:]) for L in contest.values()), strict=True))
assert start["AdamW alone"] < start["Muon and AdamW"] and end["Muon and AdamW"] < end["AdamW alone"]

# %% [markdown]
# An honest answer: for this pupil, a little. AdamW alone is quicker at the start (the gradients of a network whose
# last layer is zero are nothing to go by, and Muon steps just as far along their noise), Muon is better in the end,
# and pays for it with more computing a step. And one learning rate for both is not the best one of each: elsewhere
# AdamW may come level, or win. Is it more with convolutions? Ask the live run: in section 5, right below the line
# that makes `painter`, put `painter.optimizers = [torch.optim.AdamW(painter.model.parameters(), betas=(0.9,
# 0.99))]`, and compare the losses.

# %% [markdown]
# **How many digits?** Where the hardware multiplies them itself, numbers of half as many bits are twice as quick or
# more; where it does not, they are slower, and the package stays with float32. There are two ways to save: `float16`
# keeps eleven binary digits, but no number above 65,504; `bfloat16` keeps eight digits, and the whole range. In the
# forums, `nan` after a few hundred steps is often the first. Our loss, were it computed in float16 too, shows why:
# the weight of the earliest time alone is out of range, and a small squared error is rounded to nothing.

# %%
half, brain = torch.finfo(torch.float16), torch.finfo(torch.bfloat16)
heaviest, small = weight("v", torch.tensor(1e-3), schedule), torch.tensor(1e-4)
assert half.max < heaviest < brain.max and heaviest.half().isinf() and small.half() ** 2 == 0
print(f"float16: {heaviest.half()} times {small.half() ** 2} is {heaviest.half() * small.half() ** 2}")
print(f"float32: {heaviest:.0f} times {small**2:.0e} is {heaviest * small**2:.3f}")

# %% [markdown]
# Eight digits are enough for the products inside the network and for what flows between them, and `autocast` rounds
# no more than that: weights, loss and steps are not stored in it. The weights themselves stay in float32, for a step
# of 0.003 on a weight of 1 would be lost otherwise:

# %%
assert torch.tensor(1.0).bfloat16() + 0.003 == 1
with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
    rounded = (weight("v", t64, schedule) * denoising_loss(veteran, x64, eps64, t64, schedule, y64)).mean()
assert abs(rounded / weighted[1].mean() - 1) < 0.03

# %% [markdown]
# ## 5. Live
#
# Now the real thing: the U-Net of chapter 06, 10,000 photographs of clothes, 140 seconds. First, what does a step
# cost? PyTorch can count the multiplications and additions of one, there and back, and the clock says how many this
# machine can do in a second at best, in a large product of matrices.

# %%
import time

from torch.utils.flop_counter import FlopCounterMode

torch.set_num_threads(threads)
painter = TrainState(fresh_denoiser(), TrainConfig())
x0, y, t, x_t = x64, y64, t64, add_noise(x64, eps64, t64, schedule)
with FlopCounterMode(display=False) as counter:
    batch_loss(fresh_denoiser()).backward()
flops = counter.get_total_flops() / 64  # of one picture, there and back
size = sum(p.numel() for p in painter.model.parameters())
print(f"{size / 1e6:.2f} million weights, {flops / 1e9:.2f} GFLOP a picture")

# %%
square = torch.randn(1536, 1536)


def seconds_of_product():
    began = time.perf_counter()
    square @ square
    return time.perf_counter() - began


rate = 2 * 1536**3 / min(seconds_of_product() for _ in range(4))  # FLOP a second

# %% [markdown]
# While it learns, we look over its shoulder: every 20 seconds it draws *the same ten noises*, one for each class,
# with the averaged weights. (`generate` presses the label harder than the training did, guidance $w = 2$: chapter 09.
# It makes pictures easier to name.) `train` goes on until so many seconds of training are full (the time for drawing
# is not counted), and can be called again to go on.

# %%
judge, classes = load_classifier("fashion"), clothes.classes
history, looks = [], {}


def learn_until(seconds):
    for p in train(painter, clothes, seconds=seconds):
        history.append(p.loss)
        if p.seconds >= SECONDS / 7 * (len(looks) + 1) or p.fraction == 1:
            looks[round(p.seconds)] = generate(painter.ema.module, torch.arange(10), (1, 32, 32), seed=1)
            print(f"{p.seconds:4.0f} s, step {p.step:5}, loss {torch.tensor(history[-50:]).mean():.3f}")


# %% [markdown]
# *Predict: what will one see first, after 20 seconds: outlines, textures, or the right kind of garment?*

# %% tags=["nbval-ignore-output", "slow"]
learn_until(SECONDS / 7)

# %%
rows_of([list(looks.values())[0]], "Ten grainy light shapes in the middle of black squares.", [""], classes)

# %% [markdown]
# Light shapes on black, tall or broad as befits the class, and grainy, with hardly any detail. What all pictures share
# is learned first, then what a class shares. Forty seconds more:

# %% tags=["nbval-ignore-output", "slow"]
learn_until(SECONDS / 7 * 3)

# %%
rows_of([list(looks.values())[-1]], "Ten pieces of clothing, most of them recognisable.", [""], classes)

# %% [markdown]
# And the rest.

# %% tags=["nbval-ignore-output", "slow"]
learn_until(SECONDS)

# %%
from minidiff.course.widgets import film

alt = "A film: ten grey blurs grow into ten pieces of clothing, one of each class."
film([rows_of([x], alt, [f"{s} s"], classes) for s, x in looks.items()], ms=700, hold=2500)

# %%
alt = "One row for each look, every 20 seconds: grainy shapes at the top, ten pieces of clothing at the bottom."
rows_of(list(looks.values()), alt, [f"{s} s" for s in looks])

# %% [markdown]
# The same, a row for each look. Once there is a garment, each row mostly goes on with what the row above began: the
# outline stays, and collars, soles and straps come out of it. Equal noise, nearly equal picture.

# %%
losses = torch.tensor(history)
smooth = torch.nn.functional.avg_pool1d(losses[None], 50, 1)[0]
alt = "A cloud of losses, falling steeply at first, then ever more slowly; a running mean goes through it."
picture, (ax,) = plot.figure(alt)
ax.plot(torch.arange(len(losses)) + 1, losses, ".", markersize=2, color="0.75", label="each step")
ax.plot(torch.arange(len(smooth)) + 50, smooth, label="mean of the last 50")
ax.set(xlabel="step", ylabel="loss", ylim=(0.08, 1), yscale="log")
ax.legend()
picture

# %% tags=["nbval-ignore-output"]
speed = 64 * len(history) / painter.seconds
print(f"{len(history)} steps, {speed:.0f} pictures a second with {threads} thread(s)")
print(f"that is {speed * flops / 1e9:.0f} GFLOP/s; a large product of matrices in fp32 reaches {rate / 1e9:.0f}")

# %% [markdown]
# The nearer the two rates, the less the processor has to wait for its memory; chapter 06 built the network for that.
# (Where training runs in bfloat16, section 4, it can even be the faster of the two.)
#
# Such a curve shows when something is wrong, but hardly how good the pictures are: it looks flat for more than half of
# the time, and much of the detail came just then.
#
# **Where has it learned, and what is left?** The loss against $t$, on 600 pictures that it has never seen. For
# comparison the new network, which says $v = 0$. And, from chapter 05, the question of the floor. For *training*
# pictures the floor is known: the best possible denoiser for 10,000 given pictures remembers them all, `Empirical`
# (3.11).

# %%
from minidiff import Empirical

memories = [Empirical(clothes.tensor(clothes.y == k)) for k in range(10)]  # it knows the labels, as the network does


def from_memory(x, t, label):
    found = torch.empty_like(x)
    for k in label.unique():
        found[label == k] = memories[k].denoise(x[label == k], t[label == k], schedule)
    return found


# %%
def by_time(denoise, pictures, n=600):
    """Loss of n pictures in any order, by time: (10,), means over a tenth of the walk each."""
    generator, losses = seeded(7), []
    t, index = sample_times(n, generator), torch.randperm(len(pictures), generator=generator)[:n]
    for u, k in zip(t.split(200), index.split(200), strict=True):
        x0, *label = pictures[k]
        eps = torch.randn(x0.shape, generator=generator)
        with torch.no_grad():
            error = denoising_loss(denoise, x0, eps, u, schedule, *label)
        losses.append(weight("v", u, schedule) * error)
    return torch.cat(losses).view(10, -1).mean(1)


# %%
students = {"new network": novice, "this one": painter.ema.module, "memory": from_memory}
fresh = {name: by_time(f, unseen) for name, f in students.items()}
known = {name: by_time(students[name], clothes) for name in ("this one", "memory")}

# %%
alt = "Loss by time. Unseen pictures: memory is far above early, level with ours late. Training ones: it is the floor."
picture, axes = plot.figure(alt, 2, width=9.5, height=3.6)
colours = dict(zip(students, plot.COLOURS, strict=False))
for ax, lines, title in zip(axes, (fresh, known), ("pictures never seen", "training pictures"), strict=True):
    for name, loss in lines.items():
        ax.plot((torch.arange(10) + 0.5) / 10, loss, "o-", markersize=3, label=name, color=colours[name])
    ax.set(xlabel="t", ylabel="loss", yscale="log", ylim=(0.005, 30), title=title)
axes[0].legend()
picture

# %%
mean = {name: float(loss.mean()) for name, loss in fresh.items()}
assert mean["this one"] < mean["new network"] / 3
assert mean["memory"] > mean["new network"] and (fresh["memory"] > fresh["this one"])[:4].all()

# %%
assert (known["memory"] < 1.05 * known["this one"]).all() and known["memory"].mean() < known["this one"].mean() / 2
assert abs(known["this one"].mean() / mean["this one"] - 1) < 0.1

# %% tags=["nbval-ignore-output"]
print("unseen pictures:  ", {name: f"{loss:.3f}" for name, loss in mean.items()})
print("training pictures:", {name: f"{loss.mean():.3f}" for name, loss in known.items()})

# %% [markdown]
# (How low it could go on unseen pictures, nobody knows: the best denoiser for *all* clothes in the world is not to be
# had.)
#
# Look at the right side first. The minimum of the loss (7.1) is the memory, nothing else: its curve is the floor on the
# training pictures, and it drops to almost nothing as soon as a picture can be recognised through the noise. Our
# network is *far* above it, and that is our luck, for a sampler with that denoiser would draw training pictures. On
# pictures that it has never seen, left, memory is worse than a network that knows nothing as soon as detail matters;
# ours is as good there as on those it trained on. It has not had the time, nor the weights, to remember: it had to find
# what clothes have in common.
#
# **The average, on and off.** The same noise, the same step, the same seconds of training: above the averaged weights,
# below the weights of the last step as they are.

# %%
alt = "Two rows of nearly the same ten pieces of clothing: averaged weights above, the last weights below."
raw = generate(painter.model, torch.arange(10), (1, 32, 32), seed=1)
rows_of([list(looks.values())[-1], raw], alt, ["averaged", "last"])

# %%
on, off = mean["this one"], by_time(painter.model, unseen).mean()
assert on < 1.01 * off

# %% tags=["nbval-ignore-output"]
print(f"loss on unseen pictures: {on:.3f} averaged, {off:.3f} as they are")

# %% [markdown]
# The same garments, for the average is never far from the weights. Its edges are calmer, and its loss is a little
# lower, which late in a training is a lot: see how slowly the running mean falls by then. (While the weights still
# travel fast, it is the other way round, as in the toy of section 3: an average lags behind.)
#
# **A hundred, unpicked.** The first hundred that come out of seed 2, ten of each class, good and bad.

# %%
wishes = cycle_labels(200, 10)
drawn = generate(painter.ema.module, wishes, (1, 32, 32), ts=times(15), seed=2)
alt = "A hundred small grey photographs of clothes: ten columns, one for each class, and ten rows."
rows_of(list(drawn[:100].split(10)), alt, [""] * 10, classes)

# %%
from minidiff.app.metrics import frechet

seen = judge.features(drawn)
real = [judge.features(unseen.tensor(slice(k, k + 200))) for k in (0, 200)]
read_drawn = judge(drawn).argmax(1)
read_real = torch.cat([judge(unseen.tensor(slice(k, k + 500))).argmax(1) for k in range(0, 2000, 500)])
accuracy, accuracy_real = (read_drawn == wishes).double().mean(), (read_real == unseen.y).double().mean()
distance, distance_real = frechet(real[0], seen), frechet(*real)

# %% [markdown]
# How good are they? A classifier that has learned to read real clothes reads what was asked for; and the Fréchet
# distance of 200 drawn pictures from 200 real ones, beside that of 200 *other* real ones (chapter 13 tells what it is):

# %% tags=["nbval-ignore-output"]
without = label_accuracy(judge(generate(painter.model, wishes[:100], (1, 32, 32), ts=times(15), seed=2)), wishes[:100])
print(f"read as what was asked for: {accuracy:.0%} of the drawn, {accuracy_real:.0%} of real clothes")
fair = (read_drawn == wishes)[:100].double().mean()
print(f"the first hundred: {fair:.0%} averaged, {without:.0%} drawn by the weights as they are")
print(f"distance from real clothes: {distance:.1f} of the drawn, {distance_real:.1f} of other real ones")

# %%
assert accuracy > 0.65 and accuracy_real > 0.9 and distance_real < distance < 12

# %% [markdown]
# Whether the weights are averaged or not makes no difference that this reader would notice: it asks *what* is drawn,
# and the average is good for *how*.
#
# **Are they copies?** Features of the classifier are a better yardstick than pixels: a shirt moved by one pixel stays
# the same shirt. For ten drawn pictures the nearest of all 10,000 training pictures:

# %%
from minidiff.app.metrics import nearest

features = torch.cat([judge.features(clothes.tensor(slice(k, k + 500))) for k in range(0, 10_000, 500)])  # (10000, 64)
gap, which = nearest(seen, features)
gap_real, _ = nearest(real[1], features)
alt = "Above ten drawn pieces of clothing, below the nearest training picture of each: related, but not the same."
rows_of([drawn[:10], clothes.tensor(which[:10])], alt, ["drawn", "nearest"])

# %%
assert gap.median() > 0.8 * gap_real.median() and gap.min() > 0.3 * gap_real.min()

# %% tags=["nbval-ignore-output"]
print(f"distance to the nearest training picture: drawn {gap.median():.1f}, unseen real {gap_real.median():.1f}")

# %% [markdown]
# The drawn ones are about as far from the training pictures as real ones are which were never shown, or farther. Kin,
# not copies.
#
# *Predict: which of the ten classes is the hardest?*

# %%
table = []
for k, name in enumerate(classes):
    here, there = wishes == k, unseen.y == k
    right, right_real = (read_drawn == k)[here].double().mean(), (read_real == k)[there].double().mean()
    table.append((name, right, right_real, gap[here].median(), gap_real[unseen.y[200:400] == k].median()))
assert min(table, key=lambda row: row[2])[0] == "Shirt"  # of real clothes

# %% tags=["nbval-ignore-output"]
print(f"{'':12} read right: drawn, real    nearest training picture: drawn, real")
for name, right, right_real, near, near_real in table:
    print(f"{name:12} {right:17.0%} {right_real:5.0%} {near:29.1f} {near_real:6.1f}")

# %% [markdown]
# Two answers. By the classifier, the shirts: T-shirts, pullovers and coats look much the same, and with real shirts
# it errs most often too. By eye, the sandals: the classifier is content with some light scraps in the right place, for
# what else could that be, but look at the sheet. Thin straps, hardly two sandals alike, and few pixels in which to
# paint them: here most is left to learn. A number that calls them right is not yet a good picture (chapter
# 13).
#
# ## 6. Stop and go on
#
# Laptops sleep, trains arrive, notebooks crash. A run that goes on must remember *everything* that the next step
# depends on: the weights, the average, what the optimisers remember of past gradients, and how far it has come. Random
# numbers need no memory here: step $k$ draws from `(seed, k)`. `Run` keeps all that in a folder. Twenty steps in one
# go, and nine plus eleven with everything thrown away in between:

# %%
import tempfile
from pathlib import Path

from minidiff.app import checkpoint
from minidiff.app.runs import Run

folder, cpu = tempfile.TemporaryDirectory(), torch.device("cpu")
place, recipe = Path(folder.name), TrainConfig(precision="fp32")
whole = Run.start(place / "whole", digits, recipe, cpu)
in_one_go = [p.loss for p in whole.train(digits, steps=20)]

# %%
first = Run.start(place / "halves", digits, recipe, cpu)
halves = [p.loss for p in first.train(digits, steps=9)]
second = Run.resume(place / "halves", digits, cpu)  # as after a night: from the disk alone
halves += [p.loss for p in second.train(digits, steps=20)]

# %%
remembered = second.training.state_dict()
assert in_one_go == halves
assert all(torch.equal(tensor, remembered[name]) for name, tensor in whole.training.state_dict().items())
print(f"20 losses and {len(remembered)} tensors, equal bit for bit")

# %% [markdown]
# Not nearly equal: equal. (On one machine; another processor may add in another order.) What is in the file? Named
# tensors, and a description from which the network can be built again. No code, so nothing runs when it is opened.

# %%
tensors, about = checkpoint.load(place / "halves" / "checkpoint.safetensors")
for part in ("denoiser", "ema", "optimizer"):
    sizes = [tensor.numel() for name, tensor in tensors.items() if name.startswith(f"{part}.")]
    print(f"{part}: {len(sizes)} tensors, {sum(sizes)} numbers")
print({key: about[key] for key in ("data", "size", "step")}, about["denoiser"]["net_config"])

# %% [markdown]
# **Ctrl-C** (or the stop button) may come at any moment, in the middle of a step too, when half of the weights have
# been moved. So the package holds it back until the step is whole, saves, and only then stops. Here somebody presses it
# while the 13th batch is being fetched:

# %%
import signal


class Impatient:
    """The digits, and somebody who presses Ctrl-C while the 13th batch is being fetched."""

    asked = -1  # `train` looks at the data once before the first step

    def __len__(self):
        return len(digits)

    def __getitem__(self, index):
        self.asked += 1
        if self.asked == 13:
            signal.raise_signal(signal.SIGINT)
        return digits[index]


# %%
stopped = Run.start(place / "stopped", digits, recipe, cpu)
try:
    for _ in stopped.train(Impatient(), steps=20):
        pass
except KeyboardInterrupt:
    again = Run.resume(place / "stopped", digits, cpu)
assert again.training.step == 13
assert in_one_go[13:] == [p.loss for p in again.train(digits, steps=20)]
print("stopped after step 13, whole; went on as if nothing had happened")

# %% [markdown]
# **A file in pieces.** The disk was full, the stick was pulled out too soon. A checkpoint is written beside its place
# and then renamed, so under its name there is always a whole one; but files are copied, too. Each is sealed with a sum
# over its contents (sha256), and a damaged one is refused, in a sentence that says what to do:

# %%
file = place / "halves" / "checkpoint.safetensors"
content = file.read_bytes()
flipped = content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]  # one bit of one number
complaints = []
for wrong in (content[: len(content) // 2], flipped, b""):
    file.write_bytes(wrong)
    try:
        checkpoint.load(file)
    except checkpoint.CheckpointError as error:
        complaints.append(str(error).partition(": ")[2])
assert len(complaints) == 3
print(*complaints, sep="\n")

# %% [markdown]
# On the command line all this is one word, `--resume`:
#
# ```
# python -m minidiff train --data fashion --seconds 180 --out runs/fashion      # Ctrl-C after a minute
# python -m minidiff train --data fashion --seconds 180 --out runs/fashion --resume
# ```
#
# ## 7. Colour
#
# Three channels instead of one, eight categories, and only 1,360 pictures which have little in common: faces, fruit,
# globes, signs. Everything else stays.

# %%
emoji = load("emoji")
some = torch.cat([torch.nonzero(emoji.y == k)[:2, 0] for k in range(8)])
alt = "Sixteen emoji on white, two of each category: faces, hands, animals, food, the globe, parties, things, signs."
rows_of(list(emoji.tensor(some).split(8)), alt, ["", ""])

# %% [markdown]
# *Predict: 40 seconds. How far will it come?*

# %% tags=["nbval-ignore-output", "slow"]
colourist, sketches = TrainState(fresh_denoiser(channels=3, num_classes=8), TrainConfig()), {}
for p in train(colourist, emoji, seconds=COLOUR_SECONDS):
    if p.seconds >= COLOUR_SECONDS / 2 * (len(sketches) + 1) or p.fraction == 1:
        sketches[round(p.seconds)] = generate(colourist.ema.module, cycle_labels(8, 8), (3, 32, 32), seed=3)
        print(f"{p.seconds:.0f} s, step {p.step}, loss {p.loss:.3f}")

# %% [markdown]
# The same network after ten minutes of the same training ships with the course. Below, the same noises after 20
# seconds, after 40 seconds, and after those ten minutes.

# %%
unseen_emoji, (master, about) = load("emoji", "test"), load_denoiser(shipped("emoji.safetensors"))
finished = generate(master, cycle_labels(8, 8), (3, 32, 32), seed=3)

# %%
first, *_, last = sketches.values()
alt = "Three rows of eight: coloured grain, then soft coloured clouds on white, then faces, figures and signs."
rows_of([first, last, finished], alt, [f"{min(sketches)} s", f"{max(sketches)} s", "shipped"])

# %% [markdown]
# After 40 seconds: coloured clouds on white, and perhaps the beginnings of a yellow face in the first column. The
# colours and the places are right; there are no *things* yet. No wonder: of each kind of clothes there were a thousand
# pictures, all much alike, here there are 170 of a kind, all different. Ten minutes are better by far. But look at the
# losses:

# %%
mean_colour = {name: float(by_time(f, unseen_emoji, 250).mean()) for name, f in
               {"live": colourist.ema.module, "shipped": master}.items()}
on_known = float(by_time(master, emoji, 250).mean())
assert mean_colour["shipped"] < mean_colour["live"] + 0.01 and on_known < 0.95 * mean_colour["shipped"]

# %% tags=["nbval-ignore-output"]
print("loss on unseen emoji:", {name: f"{loss:.3f}" for name, loss in mean_colour.items()})
print(f"the shipped one, {about['steps']} steps, on its training pictures: {on_known:.3f}")

# %% [markdown]
# On its own training pictures the loss is clearly lower than on others. (For the clothes the two were nearly equal.) It
# has begun to *remember*, and training still longer would mean remembering more. What is missing is not time but
# pictures.
#
# ## Errors you will meet
#
# Five of them were on the way: pictures in $[0, 1]$ that come out grey (section 2), bytes that are refused (2), labels
# dropped by the batch (2), `nan` from float16 or from one bad pixel (4), a learning rate that is too large and says
# nothing (4). The last step that is never trained, `randint(0, 999)`, is in chapter 05. Four more:
#
# **1. One time for the whole batch.** `t = torch.rand(1)` runs, for it broadcasts. It is right on average, too. But
# each step now sees a single level of noise, and the loss is that of the level:

# %%
shared = torch.rand(batches, 1, generator=seeded(8)).clamp(min=1e-3).expand(batches, 64).flatten()
one_time = losses_at(shared, seeded(9)).view(batches, 64).mean(1)
assert one_time.std() > 5 * measured["strata"].sqrt()
print(f"standard deviation of a batch's loss {one_time.std():.1g}, stratified {measured['strata'].sqrt():.1g}")

# %% [markdown]
# **2. An average that is no average.** `kept = net.state_dict()` copies nothing: it holds the very tensors that the
# optimiser is about to change. Whoever "restores" them restores the present. The package makes a deep copy.

# %%
net = torch.nn.Linear(2, 2)
kept, average_net = net.state_dict(), Ema(net, gamma).module
with torch.no_grad():
    net.weight += 1  # training goes on
assert torch.equal(kept["weight"], net.weight) and not torch.equal(average_net.weight, net.weight)

# %% [markdown]
# **3. Drawing in training mode.** Networks with dropout (or batch statistics) behave differently until `.eval()` is
# called: the same input, another answer each time, and pictures with a veil of noise. Ours have no such layers, and
# `load_denoiser` and `Ema` call it anyway.

# %%
torch.manual_seed(0)
forgetful = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Dropout(0.5))
x = torch.ones(1, 8)
assert not torch.equal(forgetful(x), forgetful(x)) and torch.equal(forgetful.eval()(x), forgetful(x))

# %% [markdown]
# **4. Arithmetic with bytes.** "Twice the picture minus 255" in `uint8` wraps around like a mileage counter, and dark
# grey turns light. Convert first, then calculate.

# %%
grey = torch.tensor([0, 100, 200, 255], dtype=torch.uint8)
assert (2 * grey - 255).tolist() == [1, 201, 145, 255]  # should be -255, -55, 145, 255
print((grey.float() / 127.5 - 1).tolist())

# %% [markdown]
# ## Exercises
#
# **1. Pen.** (a) Find mean and standard deviation of the fraction $\tau$ with the density $(\gamma + 1)\,\tau^\gamma$
# on $[0, 1]$, see (7.5). (b) For short memories of 5 %, Karras et al. publish $\gamma = 16.97$. Check it. (c) With
# $\gamma = 6.94$, after how many steps do the first 100 steps count for less than a hundredth of the average?
#
# <details><summary>Answer</summary>
#
# (a) $E\tau = \frac{\gamma+1}{\gamma+2}$ and $E\tau^2 = \frac{\gamma+1}{\gamma+3}$, so the variance is
# $\frac{\gamma+1}{(\gamma+2)^2(\gamma+3)}$. (b) The root of $17.97 / (18.97^2 \cdot 19.97)$ is 0.0500. (c) By (7.5) the
# first 100 of $k$ steps count for $(100/k)^{\gamma+1}$ together; this is 0.01 for $k = 100 \cdot 100^{1/7.94} = 179$.
#
# </details>

# %% tags=["answer"]
def relative_width(gamma):
    return ((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3))) ** 0.5


assert abs(relative_width(6.94) - 0.10) < 1e-4 and abs(relative_width(16.97) - 0.05) < 1e-4
k = 179  # steps
shares = (i[:k] ** 7.94 - (i[:k] - 1) ** 7.94) / k**7.94
assert shares[:100].sum() < 0.01 < shares[:101].sum() and abs(shares.sum() - 1) < 1e-12

# %% [markdown]
# **2. Code.** Kingma et al. (2021) spread the times of a batch otherwise than `sample_times`: $n$ times at equal
# distances, shifted together by *one* random number $u$ in $[0, 1)$, and what runs out at 1 comes in again at 0:
# $(u + i/n) \bmod 1$ for $i = 0, \dots, n-1$. Write it. Then squeeze the times, as `draws` does, from $[0, 1)$ into
# [`low`, 1), for at 0 the weight is infinite. (Each single time is uniform; and how many fall into each $n$-th part?)

# %%
from minidiff.course import check


def evenly_spaced(n, u, low):
    """n an int, u a tensor (), low a number -> times (n,), in the order of i."""
    ### BEGIN SOLUTION
    return low + (1 - low) * ((u + torch.arange(n) / n) % 1)
    ### END SOLUTION


# %%
def one_after_another(n, u, low):
    shifted = (u + k / n for k in range(n))
    return torch.stack([torch.lerp(torch.tensor(low), torch.tensor(1.0), t - t.floor()) for t in shifted])


inputs = [(4, torch.tensor(0.3), 0.0), (5, torch.tensor(0.0), 0.1), (64, torch.tensor(0.99), 0.001)]
check(evenly_spaced, one_after_another, inputs,
      hint="four times with u = 0.3 and low = 0 are 0.3, 0.55, 0.8 and 0.05; low is the last thing to think of")

# %% [markdown]
# (Exactly one in each part, whatever $u$ is.)
#
# **3. Open.** Your own pictures. Any folder will do: pictures of any size and format, sub-folders as classes (or none).
# A few hundred are a start, a few thousand better. Here is a folder of orange circles and squares, made up for the
# occasion:

# %%
from PIL import Image, ImageDraw

for k in range(240):
    kind = ("circles", "squares")[k % 2]
    (place / "mine" / kind).mkdir(parents=True, exist_ok=True)
    canvas, (a, b, r) = Image.new("RGB", (48, 48), "navy"), torch.randint(10, 24, (3,), generator=seeded(k)).tolist()
    pen = ImageDraw.Draw(canvas)
    (pen.ellipse if kind == "circles" else pen.rectangle)((a, b, a + r, b + r), fill="orange")
    canvas.save(place / "mine" / kind / f"{k}.png")

# %%
mine = load(place / "mine")
assert mine.classes == ("circles", "squares") and mine.shape == (3, 32, 32)
apprentice = TrainState(fresh_denoiser(channels=3, num_classes=2, width=16), TrainConfig(batch_size=32, lr=1e-2))
for _ in train(apprentice, mine, seconds=8):
    pass

# %%
alt = "Above ten of the made-up pictures, orange circles and squares on blue; below ten that the network drew."
some = torch.arange(10) // 2 + 100 * cycle_labels(10, 2)  # the files are in the order of their folders
copies = generate(apprentice.ema.module, cycle_labels(10, 2), (3, 32, 32))
rows_of([mine.tensor(some), copies], alt, ["mine", "drawn"])

# %% [markdown]
# Eight seconds, and it has understood the colours. Put your folder in its place, and give it minutes. (In a terminal:
# `python -m minidiff train --data FOLDER --out runs/mine`, and then `sample` and `evaluate`.) It has worked if somebody
# else can name what you see, and if nothing is a copy: `load(FOLDER, "test")` holds each sixth picture, which training
# never showed; the drawn ones should be about as far from their nearest training picture as those are (section 5; no
# classifier knows your classes: `evaluate` compares pixels, averaged to 8 by 8, instead). How many pictures does that
# take?

# %%
folder.cleanup()

# %% [markdown]
# ## What to keep
#
# - A step of training: pictures, a time *for each*, the noise of that time, a guess, a weighted squared error, a step
#   (7.1). Everything else in the loop is there to make many of them go well.
# - Spread the times: most of the noise in a batch's loss (not in its gradient) comes from them (7.2). Drop labels per
#   picture. Keep pictures in $[-1, 1]$.
# - Draw with the average of the weights, whose memory grows with the run (7.3): it reaches back over a fixed share,
#   $1/(\gamma+2)$ (7.5), forgets the start and calms the jitter (7.4).
# - A learning rate that is too large shows as a loss that stays high. Weights in float32, products in bfloat16 where
#   that is quick, float16 never.
# - Muon takes the directions of a running mean of gradients and makes their lengths equal (7.6, 7.7).
# - The minimum of the loss is a memory of the training pictures; a network that stops far above it can draw new ones.
# - A run is its weights, its average, its optimisers and a number of steps. With these on disk, stopping costs nothing.
#
# The network is trained. How few steps can one draw with, and what goes wrong when one draws wrongly? That is chapter
# 08.
