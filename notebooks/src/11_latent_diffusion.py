# %% [markdown]
# # 11 · Latent diffusion
#
# **If most of a picture's bits are detail that hardly anybody sees, why should diffusion spend its time on them?**
# Chapter 10 found that few bits say what a picture shows, and built an autoencoder whose codes hold these and leave
# the surface to a decoder. So let diffusion run on the codes (Rombach et al. 2022). It is the idea behind Stable
# Diffusion, and hardly anything has to change for it: codes are data like any other. One number has to be right.
#
# **You will build** all of it, live, from random weights: an autoencoder in half a minute, diffusion on its codes in a
# bit more than one, and clothes out of both. You will see what one wrong scale does to it, measure what latents save,
# and find out which of the two stages is to blame for what is still wrong with the pictures.
#
# **You need** chapters 02, 07, 09 and 10. On two CPU cores the notebook takes a bit over three minutes, most of them
# training, and 1.3 GB of memory.

# %%
import copy

import torch

from minidiff import Cosine, add_noise
from minidiff.course import expect, plot

FIRST = 28  # seconds of training for the autoencoder
SECONDS = 70  # and for diffusion on its codes; 480 reaches the shipped quality
schedule = Cosine()


def seeded(seed):
    return torch.Generator().manual_seed(seed)


# %%
from minidiff.data import load

clothes, unseen = load("fashion"), load("fashion", "test")
x, new = clothes.tensor(), unseen.tensor()  # (10000, 1, 32, 32) to learn from, (2000, 1, 32, 32) to judge with
ten = new[torch.tensor([int((unseen.y == k).nonzero()[3]) for k in range(10)])]  # one of each class, for looking at

# %% [markdown]
# ## 1. Two stages
#
# **The first stage** is chapter 10's: an encoder that makes 4 by 8 by 8 numbers of a picture of 32 by 32, and a decoder
# that makes a picture of them again. Thirty seconds of training, and from then on nobody touches its weights.

# %% tags=["nbval-ignore-output"]
from minidiff.nets.autoencoder import Autoencoder, AutoencoderConfig
from minidiff.training import TrainConfig, TrainState, train
from minidiff.training.objectives import reconstruction

torch.manual_seed(1)
recipe = TrainConfig(batch_size=16, lr=1e-2, cooldown=0.3)  # chapter 10's
first = TrainState(Autoencoder(AutoencoderConfig(width=24)), recipe, reconstruction)
for _ in train(first, clothes, seconds=FIRST):
    pass
print(f"{first.step} steps in {first.seconds:.0f} s")

# %%
autoencoder = first.ema.module  # the averaged weights, in evaluation mode, without gradients
assert not autoencoder.training and not any(p.requires_grad for p in autoencoder.parameters())
x_hat = autoencoder(ten)[0]
alt = "Ten pieces of clothing above, below the same ten through the autoencoder: a little softer."
plot.strips({"picture": ten, "there and back": x_hat}, alt, clothes.classes)

# %% [markdown]
# **The second stage** is diffusion on the codes $z$. Between the two stands a number $s$, the *scale*, by which the
# codes are multiplied on their way in and divided on their way out:
#
# $$ z = s \cdot \mathrm{enc}(x), \qquad \hat x = \mathrm{dec}(z / s) \tag{11.1} $$
#
# (enc is chapter 10's encoder, read at its mean, and dec its decoder.) What $s$ should be is section 2's question; any
# number will do to see how it works. In the package the two formulas are the two methods of `LatentCodec`:

# %%
from minidiff.latent import LatentCodec

s = 0.5
z = s * autoencoder.encode(ten).z
back = autoencoder.decode(z / s)
some = LatentCodec(autoencoder, s)
assert torch.allclose(some.encode(ten), z, atol=1e-5) and torch.allclose(some.decode(z), back, atol=1e-5)
assert torch.allclose(back, x_hat, atol=1e-5)  # the scale leaves no trace in the picture

# %%
plot.show_source(LatentCodec)

# %% [markdown]
# Now the whole machine. Rombach et al. draw it in their figure 3; here is ours, in the same arrangement, and what
# stands in its boxes is read off the live networks. The denoiser is the U-Net of chapter 06, no part of it changed,
# with 4 channels in and out instead of 1, no folding of pixels, and two levels: 8 by 8 and 4 by 4.

# %%
from minidiff.app.models import new_denoiser

about = {"size": clothes.shape, "classes": clothes.classes, "vocabulary": None}
denoiser = new_denoiser(about, some)  # as the command line builds it
print(denoiser.net.config)


# %%
def millions(module):
    return f"{sum(p.numel() for p in module.parameters()) / 1e6:.2f} M weights"


def shape(tensor):
    return " x ".join(str(n) for n in tensor.shape[1:])


def box(ax, place, text, colour="white"):
    style = {"boxstyle": "round,pad=0.5", "facecolor": colour, "edgecolor": "0.4"}
    return ax.text(*place, text, ha="center", va="center", fontsize=9, bbox=style, zorder=3)


def arrow(ax, a, b):
    ends = {"patchA": a.get_bbox_patch(), "patchB": b.get_bbox_patch(), "shrinkA": 3, "shrinkB": 3}
    ax.annotate("", b.get_position(), a.get_position(), arrowprops={"arrowstyle": "->", "color": "0.3"} | ends)


# %%
place = {"x": (0, 1), "enc": (1.4, 1), "z": (2.8, 1), "noise": (4.1, 1), "z_T": (5.4, 1),
         "U-Net": (4.2, 0), "z_0": (2.8, 0), "dec": (1.4, 0), "x_hat": (0, 0), "y": (6.5, 0)}
words = {"x": f"picture\n{shape(ten)}", "enc": f"encoder\n{millions(autoencoder.encoder)}",
         "z": f"code\n{shape(z)}", "noise": r"$\alpha z + \sigma\epsilon$", "z_T": f"noise\n{shape(z)}",
         "U-Net": f"U-Net, 25 times\n{millions(denoiser.net)}", "z_0": f"code\n{shape(z)}",
         "dec": f"decoder\n{millions(autoencoder.decoder)}", "x_hat": f"picture\n{shape(x_hat)}", "y": "label $y$"}
way = ["x", "enc", "z", "noise", "z_T", "U-Net", "z_0", "dec", "x_hat"]
colours = {"enc": "#cfe8ff", "dec": "#cfe8ff", "U-Net": "#ffe0a8"}

# %%
alt = "A picture goes through the encoder to a code and into noise; back through the U-Net, told a label, and decoder."
picture, (ax,) = plot.figure(alt, width=9.6, height=3.0)
boxes = {name: box(ax, place[name], text, colours.get(name, "white")) for name, text in words.items()}
for a, b in [*zip(way, way[1:], strict=False), ("y", "U-Net")]:
    arrow(ax, boxes[a], boxes[b])
for left, right, name in ((-0.6, 2.15, "pixels"), (2.2, 5.95, "codes"), (6.0, 7.0, "condition")):
    ax.axvspan(left, right, color="0.95" if name != "codes" else "0.88", zorder=0)
    ax.text((left + right) / 2, 1.52, name, ha="center", fontsize=10)
ax.set(xlim=(-0.65, 7.05), ylim=(-0.45, 1.7))
ax.set_axis_off()
picture

# %% [markdown]
# Above, from left to right, what training sees; below, from right to left, what happens when a picture is drawn. The
# encoder and the decoder run *once*, the U-Net many times, and it never sees a pixel. One picture on that way, with a
# new U-Net, which has learned nothing yet:

# %%
t, eps = torch.tensor(0.5), torch.randn(z[:1].shape, generator=seeded(0))
z_t = add_noise(z[:1], eps, t, schedule)
z_hat = denoiser(z_t, t, torch.tensor([0])).detach()
journey = {"x": ten[:1], "z = s enc(x)": z[:1], "z_t": z_t, "z_hat(z_t, t, y)": z_hat}
journey["dec(z_hat / s)"] = some.decode(z_hat)
for name, tensor in journey.items():
    print(f"{name:18} {shape(tensor):12} {tensor.numel():5} numbers")

# %% [markdown]
# A quarter of the numbers. (At 512 by 512 with Stable Diffusion's factor of 8 it is one in 48.)
#
# **What is noise, in a code?** *Predict: a code with some noise in it is decoded. Will the picture be grainy?*

# %%
boot = ten[9:].expand(6, -1, -1, -1)
levels = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4, 0.6])
grain, dust = torch.randn(1, 1, 32, 32, generator=seeded(1)), torch.randn(1, 4, 8, 8, generator=seeded(2))
unit = LatentCodec(autoencoder, 1 / autoencoder.encode(x[:2000]).z.std().item())
noisy_pixels = add_noise(boot, grain.expand(6, -1, -1, -1), levels, schedule)
noisy_codes = unit.decode(add_noise(unit.encode(boot), dust.expand(6, -1, -1, -1), levels, schedule))

# %%
alt = "A boot under more and more noise. In pixels it grows grainy; in codes it melts into blotches and edges."
plot.strips({"noise in pixels": noisy_pixels, "noise in codes": noisy_codes}, alt, [f"t = {u:.1f}" for u in levels])


# %% tags=["nbval-ignore-output"]
def kinship(error):
    """Correlation of an error (B, 1, 32, 32) with the same error one pixel to the right."""
    return float((error[..., 1:] * error[..., :-1]).mean() / error.square().mean())


in_pixels, in_codes = kinship(noisy_pixels[2] - boot[2] * schedule(0.2)[0]), kinship(noisy_codes[2] - noisy_codes[0])
assert abs(in_pixels) < 0.1 and in_codes > 0.2
print(f"errors of neighbouring pixels, correlation: noise in pixels {in_pixels:.1f}, in codes {in_codes:.1f}")

# %% [markdown]
# Not grain. Each number of a code stands for a patch of surface and edge, and the decoder paints only what it has
# learned to paint. So a wrong code shows as a wrong *thing*, a fold where there is none. That is the aim of it all:
# diffusion decides about things, and never about grain. (The scale used here is section 2's.)
#
# ## 2. The one number that has to be right
#
# Noise schedules are made for data of about unit size: pictures in $[-1, 1]$, points of variance 1. How large are
# codes? Nobody has told the encoder, unless by the price of the code, and a small weight says little. Stable
# Diffusion's have a standard deviation of 5.5; those of a plain autoencoder (chapter 10, section 1) can have any.
#
# For the experiment we want codes of any size, and the *same pictures*. Multiply the encoder's last layer by a factor
# and divide the decoder's first one by it. That is an autoencoder as good as ours:

# %%
def in_other_units(autoencoder, factor):
    """The same autoencoder, with codes `factor` times as large."""
    other, c = copy.deepcopy(autoencoder), autoencoder.config.latent_channels
    other.encoder[-1].weight[:c] *= factor  # the first c of its 2 c outputs are the mean
    other.encoder[-1].bias[:c] *= factor
    other.decoder[0].weight /= factor
    return other


for factor in (0.1, 10.0):
    other = in_other_units(autoencoder, factor)
    assert torch.allclose(other.encode(ten).z, factor * autoencoder.encode(ten).z, rtol=1e-3, atol=1e-4)
    assert torch.allclose(other(ten)[0], x_hat, atol=1e-3)

# %% [markdown]
# *Predict: three autoencoders, codes of standard deviation 0.1, 1 and 10, and for each the same noise at the same
# time, decoded. Which row shows a picture for longest?*

# %%
levels = torch.tensor([0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98])
boot, noise = ten[9:].expand(9, -1, -1, -1), dust.expand(9, -1, -1, -1)
rows = {}
for size in (0.1, 1.0, 10.0):
    raw = LatentCodec(in_other_units(autoencoder, size * unit.scale))  # its scale is 1: codes as they are
    rows[f"std {size:g}"] = raw.decode(add_noise(raw.encode(boot), noise, levels, schedule))

# %%
alt = "A boot under noise. Small codes: gone at t = 0.25. Unit codes: at 0.75. Large codes: a shadow even at 0.9."
plot.strips(rows, alt, [f"t = {u:g}" for u in levels])

# %% tags=["nbval-ignore-output"]
def likeness(pictures):
    """Correlation of each picture with the boot: (9,)."""
    return torch.stack([torch.corrcoef(torch.stack([p.flatten(), ten[9].flatten()]))[0, 1] for p in pictures])


alike = {name: likeness(row) for name, row in rows.items()}
assert alike["std 0.1"][2] + 0.1 < alike["std 1"][2] and alike["std 1"][5] + 0.1 < alike["std 10"][5]
print({name: [f"{a:.1f}" for a in row] for name, row in alike.items()})

# %% [markdown]
# Same time, same noise, three different amounts of picture. With small codes nearly everything happens between $t = 0$
# and $0.2$; with large ones, between 0.8 and 1. The cure is to make them one size, whatever the encoder came up with:
#
# $$ s = \frac{1}{\mathrm{std}\big(\mathrm{enc}(x)\big)} \tag{11.2} $$
#
# The standard deviation is taken over all numbers of all codes, about their common mean (Rombach et al. 2022, appendix
# G). It is a single number, so the channels of a code keep their proportions. The package's `fit_scale` takes it from
# pictures that you give it; 2,000 will do. On pictures that it has not seen it must hold, too:

# %%
from minidiff.latent import fit_scale

numbers = torch.cat([autoencoder.encode(part).z.flatten() for part in x[:2000].split(500)]).double()
by_hand = 1 / ((numbers - numbers.sum() / len(numbers)) ** 2).mean().sqrt()
scale = fit_scale(autoencoder, x[:2000])
assert abs(scale / by_hand - 1) < 1e-4

# %% tags=["nbval-ignore-output"]
latent = LatentCodec(autoencoder, scale)
spread = latent.encode(new).std()
assert abs(spread - 1) < 0.05
print(f"scale {scale:.3f}; standard deviation of the codes of unseen pictures {spread:.3f}")

# %% [markdown]
# And it undoes whatever unit the encoder had:

# %%
for factor in (0.1, 10.0):
    other = in_other_units(autoencoder, factor)
    mended = LatentCodec(other, fit_scale(other, x[:2000]))
    assert torch.allclose(mended.encode(ten), latent.encode(ten), rtol=1e-3, atol=1e-3)

# %% [markdown]
# (Ours were of about unit size already: chapter 10's price pulls them there, if only weakly. One must not count on it.)
#
# ### A wrong scale is a wrong clock
#
# What exactly goes wrong? Take codes $z$ of unit size, and give diffusion $s z$ instead (from here to the end of the
# section, $s$ is how many times too large the codes are). What it sees at time $t$ is $\alpha s\, z + \sigma \epsilon$.
# The picture in it is $s$ times as strong, the noise as ever, so the signal-to-noise ratio (2.6) is $s^2$ times as
# large:
#
# $$ \log \mathrm{SNR}_s(t) = \log \mathrm{SNR}(t) + 2 \log s \tag{11.3} $$
#
# At *another* time $t'$ the codes of unit size have just that ratio. There the two noisy codes are the same but for a
# factor $c$, so one who can denoise at $t'$ can denoise at $t$, and the best possible guesses belong together. For our
# schedule, a quarter circle, $\alpha/\sigma$ is a cotangent, and the other time can be written down:
#
# $$ \hat z_s(z_t, t) = s\;\hat z\Big(\frac{z_t}{c},\; t'\Big), \qquad c = \sqrt{\alpha^2 s^2 + \sigma^2}, \qquad
# t' = \frac{2}{\pi} \arctan\!\Big(\frac1s \tan\frac{\pi t}{2}\Big) \tag{11.4} $$
#
# Here $\hat z_s$ is the best denoiser for codes $sz$ and $\hat z$ that for codes $z$. A mixture of Gaussians knows both
# (chapter 03), and has never heard of (11.4):

# %%
from minidiff import Mixture


def other_clock(t, s):
    """t' of (11.4), for the schedule Cosine."""
    return 2 / torch.pi * torch.atan(torch.tan(torch.pi * torch.as_tensor(t, dtype=torch.float64) / 2) / s)


for s in (0.1, 0.2, 5.0):
    for t in (0.05, 0.4, 0.9):
        assert abs(schedule.log_snr(other_clock(t, s)) - schedule.log_snr(t) - 2 * torch.tensor(s).log()) < 1e-5

# %%
weights, means = torch.tensor([0.3, 0.7]).double(), torch.tensor([[-1.0, 0.2], [0.8, -0.5]]).double()
stds = torch.tensor([0.3, 0.6]).double()
points = 2 * torch.randn(1000, 2, generator=seeded(3), dtype=torch.float64)
for s in (0.1, 0.2, 5.0):
    for t in (0.05, 0.4, 0.9):
        alpha, sigma = schedule(t)
        c = (alpha**2 * s**2 + sigma**2).sqrt()
        moved = s * Mixture(weights, means, stds).denoise(points / c, other_clock(t, s), schedule)
        assert torch.allclose(Mixture(weights, s * means, s * stds).denoise(points, t, schedule), moved, atol=1e-7)
print("(11.4) holds at nine pairs of scale and time")

# %% [markdown]
# So nothing is lost for one who has learned *everything*. A wrong scale only turns the hands of the clock. But training
# draws its times evenly from $[0, 1]$, and samplers walk in even steps. *Predict: of 25 even steps, how many are left
# for the first half of the way, in units of the right clock, if the codes are ten times too large?*

# %%
from minidiff import times

alt = "Dots of 25 steps on the clock t': even for s = 1, crowded at 1 with one far leap for 0.1, crowded at 0 for 10."
picture, (ax,) = plot.figure(alt, width=8.5, height=2.2)
for i, s in enumerate((0.1, 1.0, 10.0)):
    ax.plot(other_clock(times(25), s), [i] * 26, ".-", linewidth=0.8)
ax.set(yticks=[0, 1, 2], yticklabels=["s = 0.1", "s = 1", "s = 10"], ylim=(-0.5, 2.5), xlabel="$t'$, the right clock")
picture

# %%
first_step, last_step = ({s: float(other_clock(times(25)[k], s)) for s in (0.1, 10.0)} for k in (1, 24))
assert abs(first_step[10.0] - 0.64) < 0.01 and abs(last_step[0.1] - 0.36) < 0.01
print(f"ten times too large: the first step goes from 1 to {first_step[10.0]:.2f}")
print(f"ten times too small: the last step goes from {last_step[0.1]:.2f} to 0")

# %% [markdown]
# Not two: the second step already crosses the middle. So there are two ways to fail. Codes that are **too large**: the
# first of the 25 steps leaps over a third of the walk, just where it is decided what the picture will be, and hardly
# any training was done there; then twenty steps polish what is there. Codes that are **too small**: the last step is
# the leap, and all detail must be made in it.
#
# Is that what happens? The same network, the same 140 steps of training on the same codes, with three scales. A judge
# who has learned to read clothes scores 200 drawn pictures each: how many show what was asked for, and their Fréchet
# distance (chapter 13) from the training pictures.

# %%
from minidiff.app.generate import Model, Sampling, cycle_labels
from minidiff.app.metrics import frechet, label_accuracy, load_classifier
from minidiff.latent import LatentDataset

judge = load_classifier("fashion")
bank = torch.cat([judge.features(part) for part in x.split(500)])  # (10000, 64), of the training pictures
codes, wishes = latent.encode(x), cycle_labels(200, 10)


def scored(pictures, asked):
    """How far from the training pictures, and how many are read as what was asked for."""
    return frechet(bank, judge.features(pictures)), label_accuracy(judge(pictures), asked)


# %%
def with_scale(s, steps=140):
    """A model of codes s times as large as they should be."""
    torch.manual_seed(0)
    training = TrainState(new_denoiser(about, latent), TrainConfig(cooldown=0.3))
    for _ in train(training, LatentDataset(s * codes, clothes.y), steps=steps):
        pass
    return Model(training.ema.module, clothes.classes, clothes.shape, LatentCodec(autoencoder, s * scale))


# %% tags=["slow"]
drawn = {s: with_scale(s).sample(wishes) for s in (0.1, 1.0, 10.0)}

# %%
alt = "Three rows of ten clothes: torn and spotted for scale 0.1, the best for 1, smooth and without sleeves for 10."
plot.strips({f"s = {s:g}": pictures[10:20] for s, pictures in drawn.items()}, alt, clothes.classes)

# %%
verdict = {s: scored(pictures, wishes) for s, pictures in drawn.items()}
assert min(verdict[0.1][0], verdict[10.0][0]) > 1.2 * verdict[1.0][0]

# %% tags=["nbval-ignore-output"]
for s, (distance, right) in verdict.items():
    print(f"s = {s:4g}: Fréchet distance {distance:.1f}, read right {right:.0%}")

# %% [markdown]
# The two failures that the dots foretold. Too small: torn and spotted, white where nothing should be, for the detail
# was made in one leap. Too large: the sleeves are missing, and one garment is like the next, for the outline was
# decided in one leap, and fell on the mean of what was possible. Both are far farther from real clothes. (Longer
# training gives the network time for the neglected hours; the sampler's leaps stay. And the clock may not be all: the
# network's inputs and targets have the wrong size, too, which this experiment does not separate.)
#
# ## 3. Live
#
# Codes are data. So everything that the course has built works on them as it is: `LatentDataset` holds pairs of a code and its
# label, of which `train` draws its batches; `TrainState`, the loss (7.1), the average of the weights, the sampler and
# guidance are those of chapters 07 to 09. *Nothing is changed but the data.* (One rule had to be dropped: pictures
# must be in $[-1, 1]$, codes need not.) The encoder has done its work already: all 10,000 pictures were encoded once,
# before the first step, and take no time any more.

# %%
torch.manual_seed(0)
painter = TrainState(new_denoiser(about, latent), TrainConfig(cooldown=0.3))
history, looks, marks = [], {}, [SECONDS * k / 75 for k in (3, 10, 25, 50, 75)]


def learn_until(seconds):
    for p in train(painter, LatentDataset(codes, clothes.y), seconds=SECONDS):
        history.append(p.loss)
        if p.seconds >= marks[len(looks)] or p.fraction == 1:
            model = Model(painter.ema.module, clothes.classes, clothes.shape, latent)
            looks[f"{p.seconds:.0f} s"] = model.sample(torch.arange(10), seed=1)
            print(f"{p.seconds:4.0f} s, step {p.step:5}, loss {torch.tensor(history[-50:]).mean():.3f}")
        if p.seconds >= seconds:
            break


# %% [markdown]
# *Predict: chapter 07's painter of pixels had outlines after twenty seconds and clothes after a minute. This one?*

# %% tags=["nbval-ignore-output", "slow"]
learn_until(marks[1])

# %%
alt = "Two rows of ten: blotches after three seconds; rough but recognisable clothes after nine."
plot.strips(looks, alt, clothes.classes)

# %% [markdown]
# Clothes after ten seconds, rough ones. And one number of `history` is worth a look, the very first. A new network says
# $v = 0$, so its loss is the mean of $|v|^2 = |\alpha\epsilon - \sigma z|^2$: half of 1 for the noise, and half of the
# codes' mean square. If the scale is right (and the codes' mean near 0) that is 1; if codes are ten times too large, it
# is 50. Whoever looks at the first loss has checked the scale.

# %%
assert abs(history[0] - 1) < 0.1

# %% [markdown]
# And the rest:

# %% tags=["nbval-ignore-output", "slow"]
learn_until(SECONDS)

# %%
alt = "Five rows, from blotches to ten clear pieces of clothing with sleeves, collars, soles and heels."
plot.strips(looks, alt, clothes.classes)

# %% [markdown]
# Equal noise, a row for each look. As in pixels, what a class has in common comes first, and details follow. But early
# pictures are never grainy: they are *wrong clothes*, blotches and torn sleeves. That is what noise in a code looks
# like (section 1). Here is one drawing as a film, seen through the decoder at each third step:

# %%
from minidiff import cfg, dpmpp_2m, final
from minidiff.course.widgets import film


def on_the_way(noise, labels, steps=25, w=2.0, denoise=painter.ema.module):
    """The sampler of chapter 08 with the guidance of chapter 09, on codes: its states, step by step."""
    return dpmpp_2m(cfg(denoise, labels, 10, w), noise, times(steps), schedule)


noise = torch.randn(10, 4, 8, 8, generator=seeded(1))  # the same as in `looks`
states = list(on_the_way(noise, torch.arange(10)))

# %%
assert torch.allclose(latent.decode(states[-1].x).clamp(-1, 1), list(looks.values())[-1], atol=2e-2)
alt = "A film: above, blotches turn into ten clothes; below, the guess, from soft shapes to the same clothes."
film([plot.strips({"decoded": latent.decode(s.x), "guess": latent.decode(s.x0)}, alt) for s in states[::3]], ms=250)

# %% [markdown]
# Above the code on its way, below what the denoiser believes in at that moment. Now a hundred, unpicked, and the
# judge's verdict on 200:

# %%
model = Model(painter.ema.module, clothes.classes, clothes.shape, latent)
live = model.sample(wishes, seed=2)

# %%
alt = "A hundred small photographs of clothes in ten columns, one for each class."
plot.strips({str(k + 1): part for k, part in enumerate(live[:100].split(10))}, alt, clothes.classes)

# %%
distance, right = scored(live, wishes)
assert right > 0.85 and distance < 0.8 * verdict[1.0][0]

# %% tags=["nbval-ignore-output"]
print(f"live: read right {right:.0%}, Fréchet distance {distance:.2f}")
as_in_07 = frechet(judge.features(new[:200]), judge.features(live))
assert as_in_07 < 4.5
print(f"against 200 real ones, as in chapter 07: {as_in_07:.1f}")

# %% [markdown]
# Chapter 07's painter of pixels was measured against the same 200 after 140 seconds, and came out at about the same
# place. So here latents save almost a third of the time, the autoencoder's included. (It is no fair race: this recipe
# has a cooldown, that one had none, and it drew in 15 steps, not in 25.) Section 4 compares more carefully.
#
# And are they copies? As in chapter 07: the distance to the nearest of all training pictures, in the judge's features,
# beside that of real pictures which it has never seen.

# %%
from minidiff.app.metrics import nearest

gap, gap_real = (nearest(judge.features(pictures), bank)[0].median() for pictures in (live, new[:200]))
assert gap > 0.7 * gap_real

# %% [markdown]
# Not much nearer than real ones are: kin, not copies.
#
# On the command line all this is one word, `--latent`. A fifth of the time, but no more than two minutes, goes to the
# autoencoder:
#
# ```
# python -m minidiff train --data fashion --latent --cooldown 0.3 --seconds 600 --out runs/latent
# python -m minidiff sample runs/latent --n 64 --out samples.png
# ```
#
# That is how the model that ships with the course was trained, on one core:

# %%
from minidiff.app.models import load_trained
from minidiff.data import shipped

master, record = load_trained(shipped("fashion-latent.safetensors"))
print(f"{record['steps']} steps in {record['seconds']} s, of them {record['first_stage']['steps']} for the autoencoder")

# %%
masterly = master.sample(wishes, Sampling(), seed=2)
alt = "Three rows of ten clothes by the shipped model: clear outlines, collars, prints and soles."
plot.strips({str(k + 1): part for k, part in enumerate(masterly[:30].split(10))}, alt, clothes.classes)

# %%
distance_master, right_master = scored(masterly, wishes)
assert right_master > 0.9 and distance_master < 2.5

# %% tags=["nbval-ignore-output"]
print(f"shipped: read right {right_master:.0%}, Fréchet distance {distance_master:.2f}")

# %% [markdown]
# ## 4. What is saved
#
# Four currencies: multiplications, memory, seconds, steps. On one side the pixel model that ships with the course
# (`data/fashion.safetensors`), on the other the latent one. *Predict: a quarter of the numbers. A quarter of the
# multiplications?*
#
# PyTorch counts the multiplications and additions of one guess about one picture. (It does not see into the CPU's fast
# kernel for attention, so for the count attention is done by plain products.)

# %%
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from minidiff.app.checkpoint import load_denoiser
from minidiff.nets.unet import UNet, UNetConfig


def flop(net, side):
    """Multiplications and additions of one call of a U-Net for one picture of that side."""
    x = torch.zeros(1, net.config.channels, side, side)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        net(x, torch.ones(1), torch.zeros(1).long())
    return counter.get_total_flops()


# %%
pixel, pixel_record = load_denoiser(shipped("fashion.safetensors"))
same = UNet(UNetConfig(channels=4, patch_size=1))  # the pixel model's U-Net, put on codes
a_guess = {"pixels": flop(pixel.net, 32), "same": flop(same, 8), "codes": flop(master.denoiser.net, 8)}
with FlopCounterMode(display=False) as counter:
    autoencoder.decode(z[:1])
to_decode = counter.get_total_flops()

# %%
assert 3.9 < a_guess["pixels"] / a_guess["same"] < 4 and a_guess["codes"] < 0.7 * a_guess["pixels"]
assert a_guess["pixels"] == flop(same, 16)
print(f"pixels {a_guess['pixels'] / 1e6:.1f} MFLOP, the same U-Net on codes {a_guess['same'] / 1e6:.1f}")
print(f"ours on codes {a_guess['codes'] / 1e6:.1f}; the decoder, once a picture, {to_decode / 1e6:.1f}")

# %% [markdown]
# The same U-Net needs four times fewer. Why not sixteen, if codes are only 8 by 8? The pixel U-Net folds 2 by 2 pixels
# into its channels before it begins (chapter 06), so it works on four channels of 16 by 16: to the last multiplication
# it is the same network with codes of $f = 2$. The fold is an autoencoder by hand, with nothing lost and nothing
# learned.
#
# What is saved can be spent. Ours is twice as wide, with a level less, as there is little to halve in 8 by 8: it costs
# more than the same U-Net, and still less than the one on pixels.
#
# **Memory.** What training keeps of a picture, so that gradients can flow back through it. PyTorch hands over every
# tensor that it stores; we count each piece of memory once, and leave out the weights:

# %%
def kept(denoiser, x0):
    """Bytes that training keeps for each picture of a batch."""
    weights, pieces = {p.untyped_storage().data_ptr() for p in denoiser.parameters()}, {}

    def note(tensor):
        storage = tensor.untyped_storage()
        pieces[storage.data_ptr()] = storage.nbytes() * (storage.data_ptr() not in weights)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = denoiser.net(x0, torch.rand(len(x0)), torch.zeros(len(x0)).long()).square().mean()
    assert loss.requires_grad  # and while the loss lives, so do the pieces
    return sum(pieces.values()) / len(x0)


# %%
learners = {"pixels": copy.deepcopy(pixel), "codes": copy.deepcopy(master.denoiser)}
batches = {"pixels": x[:16], "codes": codes[:16]}
for learner in learners.values():
    learner.requires_grad_(True)
memory = {name: kept(learner, batches[name]) for name, learner in learners.items()}
assert memory["codes"] < 0.9 * memory["pixels"]

# %% tags=["nbval-ignore-output"]
print({name: f"{n / 1e6:.2f} MB a picture" for name, n in memory.items()})

# %% [markdown]
# **Seconds**, of a training step and of a drawn picture, on this machine and at this moment; only the ratios mean
# something elsewhere.

# %%
def images_a_second(learner, data):
    training = TrainState(learner, TrainConfig())
    return sorted(p.images_per_second for p in train(training, data, steps=9))[-3]


speed = {"pixels": images_a_second(learners["pixels"], clothes),
         "codes": images_a_second(learners["codes"], LatentDataset(codes, clothes.y))}

# %% tags=["slow"]
import time

artists = {"pixels": Model(pixel, clothes.classes, clothes.shape), "codes": master}
sheets, took = {}, {}
for name, artist in artists.items():
    began = time.perf_counter()
    sheets[name] = artist.sample(wishes, Sampling(), seed=2)
    took[name] = (time.perf_counter() - began) / len(wishes)

# %% tags=["nbval-ignore-output"]
print(f"training {speed['codes'] / speed['pixels']:.1f} times as fast")
print(f"drawing {took['pixels'] / took['codes']:.1f} times as fast")

# %% [markdown]
# And what is it worth? The quality of both, 200 pictures each, with the same seed, steps and guidance:

# %%
quality = {name: scored(sheet, wishes) for name, sheet in sheets.items()}
records = {"pixels": pixel_record, "codes": record}
assert quality["codes"][0] < 1.15 * quality["pixels"][0] and distance < 1.6 * quality["pixels"][0]

# %% tags=["nbval-ignore-output"]
print(f"{'':8}  MFLOP   MB  steps  seconds  Fréchet  read right")
for name, (d, r) in quality.items():
    line = f"{name:8} {a_guess[name] / 1e6:6.1f} {memory[name] / 1e6:4.1f} {records[name]['steps']:6}"
    print(f"{line} {records[name]['seconds']:8.0f} {d:8.2f} {r:11.0%}")

# %% [markdown]
# Who wins? At this size the codes, though not by a factor. The latent model had two thirds of the pixel model's seconds
# (its steps include the autoencoder's), and is at least about as close to real clothes. Even the live one of section 3,
# less than two minutes old, comes near the distance of the pixel model after fifteen. A step costs less, and a denoiser
# of codes has no dust to learn, so it learns the rest sooner. A caveat: the pixel model was trained without a cooldown,
# which is worth a good deal at the end of a run. And one thing the codes can never have: the pixel model has no floor.
#
# ### And at 512 by 512?
#
# The convolutions of a U-Net are done at each place, so their share grows with the area of the picture. Attention
# compares each place with each other at the lowest level: its share grows with the area *squared*. And the network
# that hears time and label works once, whatever the size. For a picture of side $S$,
#
# $$ C(S) = a\, S^2 + b\, S^4 + c \tag{11.5} $$
#
# Three sizes determine the three constants. A fourth must then come out right, to the last multiplication:

# %%
def constants(net, sides):
    """a, b, c of (11.5) from three counts."""
    powers = torch.tensor([[S**2, S**4, 1] for S in sides], dtype=torch.float64)
    return torch.linalg.solve(powers, torch.tensor([flop(net, S) for S in sides], dtype=torch.float64))


def cost(abc, S):
    return float(abc @ torch.tensor([S**2, S**4, 1], dtype=torch.float64))


in_pixels, in_codes = constants(pixel.net, (8, 16, 32)), constants(same, (4, 8, 16))
for net, abc, S in ((pixel.net, in_pixels, 64), (same, in_codes, 64), (pixel.net, in_pixels, 256)):
    assert abs(cost(abc, S) / flop(net, S) - 1) < 1e-9
print(f"pixels, 64 against 32: {cost(in_pixels, 64) / cost(in_pixels, 32):.1f} times the cost")

# %%
S = 2 ** torch.arange(5, 11)
lines = {"on pixels": torch.tensor([cost(in_pixels, int(n)) for n in S]) / 1e9}
for f in (4, 8):
    lines[f"on codes, f = {f}"] = torch.tensor([cost(in_codes, int(n) // f) for n in S]) / 1e9
alt = "Three rising lines on logarithmic axes; pixels steepest, and ever farther above the codes of factor 4 and 8."
plot.curves(S, lines, alt, "side of the picture", "GFLOP of one guess", xscale="log", yscale="log")

# %%
gain = cost(in_pixels, 512) / cost(in_codes, 512 // 8)
area, squared = ((in_pixels[k] / in_codes[k]) * 8 ** (2 + 2 * k) for k in (0, 1))
assert gain > 16 and abs(area / 16 - 1) < 1e-6 and abs(squared / 256 - 1) < 1e-6
print(f"at 512 and f = 8: {gain:.0f} times fewer; the area's share alone {area:.0f}, that of attention {squared:.0f}")

# %% [markdown]
# That is where latents belong. A factor of $f$ saves $f^2$ on what goes with the area, $f^4$ on attention (our pixel
# U-Net's fold takes back 4 and 16). At 32 by 32 it is a convenience; at 512 by 512 it decides who can afford to train.
# It can be done on pixels: Dhariwal & Nichol (2021) did. (Nobody would run *this* U-Net there; one would add levels.
# The area's share stays.)
#
# ## 5. Whose fault is it?
#
# Two stages, two errors: what the decoder cannot give back, and what the diffusion model has not learned. The Fréchet
# distance can tell them apart. Its square root is a true distance, between Gaussians (Dowson & Landau 1982), so no
# detour is shorter than the direct way:
#
# $$ \sqrt{F(\text{real}, \text{drawn})} \;\le\; \sqrt{F(\text{real}, \text{there and back})}
# + \sqrt{F(\text{there and back}, \text{drawn})} \tag{11.6} $$
#
# In the middle: the training pictures through encoder and decoder. That is what a *perfect* diffusion model would draw,
# one that has learned the codes exactly. The first root is the first stage's share, the second is the diffusion
# model's. One more number is needed to read them: 200 pictures are few, and even 200 *real* ones are some way off
# (chapter 13). So let 200 real ones which nobody has seen go through encoder and decoder, too: a perfect diffusion
# model would score as they do.

# %%
def through(latent, pictures):
    """Features of pictures after a trip there and back."""
    back = (latent.decode(latent.encode(part)).clamp(-1, 1) for part in pictures.split(500))
    return torch.cat([judge.features(part) for part in back])


def blame(latent, pictures):
    """The three distances of (11.6), and the second one for a perfect diffusion model."""
    middle, seen = through(latent, x[:4000]), judge.features(pictures)
    return {"floor": frechet(bank, middle), "diffusion": frechet(middle, seen), "in all": frechet(bank, seen),
            "perfect": frechet(middle, through(latent, new[:200]))}


# %% tags=["slow"]
parts = {"live": blame(latent, live), "shipped": blame(master.latent, masterly)}
for d in parts.values():
    assert d["in all"] ** 0.5 <= d["floor"] ** 0.5 + d["diffusion"] ** 0.5
    assert d["diffusion"] - d["perfect"] > d["floor"]

# %% tags=["nbval-ignore-output"]
for name, d in parts.items():
    print(f"{name:8}", {part: f"{value:.2f}" for part, value in d.items()})

# %% [markdown]
# The floor is low, less than what diffusion is away from perfect. Whoever wants better pictures here should see to
# the second stage; a better autoencoder could win next to nothing. In large systems it is often the other way round:
# small faces and letters are spoiled by the decoder alone, and there more channels help (section 6).
#
# A part of the second stage's error is *chosen*. Guidance makes pictures plainer than real ones (chapter 09), and a
# sampler can be hurried. The same live model, asked in other ways:

# %% tags=["slow"]
asked = {f"w = 2, {n} steps": model.sample(wishes, Sampling(steps=n), seed=2) for n in (3, 6, 12)}
asked |= {"w = 2, 25 steps": live, "w = 1.5, 25 steps": model.sample(wishes, Sampling(guidance=1.5), seed=2)}
marks_of = {name: scored(pictures, wishes) for name, pictures in asked.items()}

# %%
assert marks_of["w = 2, 3 steps"][0] > 1.15 * distance and marks_of["w = 2, 12 steps"][0] < 1.35 * distance
assert marks_of["w = 1.5, 25 steps"][0] < distance

# %% tags=["nbval-ignore-output"]
for name, (d, r) in marks_of.items():
    print(f"{name:17}: Fréchet distance {d:.2f}, read right {r:.0%}")

# %% [markdown]
# Three steps cost a good deal, twelve next to nothing; and with less guidance the same model comes nearer to real
# clothes. That part of its error was our wish for plain pictures.
#
# ### A latent is a small picture
#
# A popular belief says that codes are *meanings*, and that half-way between two of them lies a meaning in between. Two
# drawn pictures $A$ and $B$ of one class, and five places in between: by mixing pixels, by mixing codes, and by mixing
# the *noises* from which the codes were drawn ($\cos$ and $\sin$ keep their variance, chapter 08). *Predict: in which
# rows will there be a double exposure?*

# %%
def mixed(a, b, turn):
    return torch.cos(turn * torch.pi / 2) * a + torch.sin(turn * torch.pi / 2) * b


turns = torch.linspace(0, 1, 7)[:, None, None, None]
noise_a, noise_b = torch.randn(2, 4, 8, 8, generator=seeded(4))
by_noise = final(on_the_way(mixed(noise_a, noise_b, turns), torch.full((7,), 8), w=1))  # bags, (7, 4, 8, 8)
by_code = torch.lerp(by_noise[:1], by_noise[-1:], turns)
ends = latent.decode(by_noise[[0, -1]])
rows = {"pixels": torch.lerp(ends[:1], ends[1:], turns)}
rows |= {"codes": latent.decode(by_code), "noises": latent.decode(by_noise)}

# %%
alt = "Three rows between two bags: double exposures for pixels, fainter ones for codes; whole bags for noises."
plot.strips(rows, alt)

# %%
pairs = torch.randn(2, 100, 4, 8, 8, generator=seeded(5))
kinds = cycle_labels(100, 10)
ends = [final(on_the_way(noise, kinds, w=1)) for noise in pairs]
middle = {"pixels": (latent.decode(ends[0]) + latent.decode(ends[1])) / 2,
          "codes": latent.decode((ends[0] + ends[1]) / 2),
          "noises": latent.decode(final(on_the_way((pairs[0] + pairs[1]) / 2**0.5, kinds, w=1)))}

# %%
middling = {name: scored(pictures.clamp(-1, 1), kinds)[0] for name, pictures in middle.items()}
assert middling["noises"] < 0.9 * min(middling["codes"], middling["pixels"])

# %% tags=["nbval-ignore-output"]
print("Fréchet distance half-way, 100 pairs:", {name: f"{d:.1f}" for name, d in middling.items()})

# %% [markdown]
# A code is a small picture with four "colours", and mixing two of them mixes place by place. Where something is here in
# one picture and there in the other, both show at half strength. Only in the last row there is one whole thing at every
# step. It is *diffusion* that knows what lies between two bags.
#
# ## 6. Choices
#
# **The mean or a sample?** The encoder gives a Gaussian for each picture, mean $\mu$ and standard deviation $\sigma_q$
# (10.6). `LatentCodec` trains diffusion on the means; Stable Diffusion's code draws a sample each time. How different are
# they? Variances add up:
#
# $$ \mathrm{Var}(z) = \mathrm{Var}(\mu) + E\,\sigma_q^2 \tag{11.7} $$

# %%
h = autoencoder.encoder(new[:500])
mu, sigma_q = h[:, :4], (h[:, 4:] / 2).exp()
drawn_codes = autoencoder.encode(new[:500], torch.randn(mu.shape, generator=seeded(6))).z
assert torch.isclose(drawn_codes.var(), mu.var() + sigma_q.square().mean(), rtol=5e-3)
share = sigma_q.square().mean() / drawn_codes.var()
assert share < 0.1

# %% tags=["nbval-ignore-output"]
print(f"of the variance of the samples {share:.1%} is the encoder's noise")

# %% [markdown]
# (Here $z$ is not scaled yet.) With a small weight the encoder is nearly sure of itself, and it hardly makes a
# difference. With a large one it would: the decoder was trained on samples, and the scale must be fitted to them.
#
# **KL or VQ?** Both work. With VQ (chapter 10), diffusion runs on the vectors *before* they are replaced by their
# nearest neighbours in the codebook, and the replacing is left to the decoder (Rombach et al. 2022). (Our `LatentCodec` is
# made for KL: from VQ it would take the vectors after the replacing.)
#
# **How small?** Rombach et al. trained equal models with $f$ from 1 to 32. Small factors learn slowly; too large ones
# lose detail for good; $f = 4$ to 8 was best. With the factor goes the number of channels: 4 in Stable Diffusion's
# autoencoder ($f = 8$, $s = 0.18215$), 16 in Stable Diffusion 3 (Esser et al. 2024), whose
# pictures come back clearly better for it, and whose codes also lose a mean before they are scaled: $z =
# s\,(\mathrm{enc}(x) - m)$.
#
# **Together or one after the other?** Here the first stage is frozen before the second begins. Vahdat et al. (2021)
# train both at once, with diffusion as the prior in the bound of chapter 10 (LSGM): one objective, a proper bound, and
# a training that is harder to keep stable. Nearly everyone freezes.
#
# **Which network?** Any. Diffusion transformers (Peebles & Xie 2023) cut the *code* into patches and have no U-Net at
# all. **Which condition?** A label here, as in chapter 09. What has the shape of a picture (a mask, a small version of
# it) is simply laid beside the code as more channels; sentences come in through cross-attention, chapter 12.
#
# **Colour** asks for nothing new: three channels in the first stage, and the second never knows. Emoji, five seconds:

# %%
emoji, strange = load("emoji"), load("emoji", "test")
torch.manual_seed(0)
colourist = TrainState(Autoencoder(AutoencoderConfig(channels=3, width=24)), recipe, reconstruction)
for _ in train(colourist, emoji, seconds=5):
    pass
colourful = LatentCodec(colourist.ema.module, fit_scale(colourist.ema.module, emoji.tensor()))

# %%
faces = strange.tensor(slice(0, 120, 12))
alt = "Ten emoji above; below the same, softer, in the right places and colours."
plot.strips({"unseen": faces, "there and back": colourful.decode(colourful.encode(faces))}, alt)

# %%
assert colourful.encode(faces).shape == (10, 4, 8, 8) and abs(colourful.encode(strange.tensor()).std() - 1) < 0.1

# %% [markdown]
# ## Errors you will meet
#
# The scale that was never fitted is section 2's. Six more; none of them crashes.
#
# **1. The scale forgotten on the way out.** Codes are drawn at unit size, and decoded as they are. With an autoencoder
# whose codes are 5.5 times as large, such as Stable Diffusion's:

# %%
def psnr(a, b):
    """Decibels, for pictures in [-1, 1]."""
    return float(10 * torch.log10(4 / (a - b).square().mean()))


loud = in_other_units(autoencoder, 5.5 * scale)
right_way, forgotten = LatentCodec(loud, 1 / 5.5), LatentCodec(loud)
faint = forgotten.decode(right_way.encode(ten))
alt = "Above, ten clothes there and back; below, the same codes decoded without their scale: grey shadows."
plot.strips({"divided": right_way.decode(right_way.encode(ten)), "forgotten": faint}, alt)

# %% tags=["nbval-ignore-output"]
assert psnr(faint, ten) < psnr(right_way.decode(right_way.encode(ten)), ten) - 4
assert abs(right_way.encode(x[:500]).std() - 1) < 0.1  # divided, the codes have unit size
print(f"forgotten: {psnr(faint, ten):.0f} dB")

# %% [markdown]
# **2. A scale from one odd batch.** Latent diffusion's own code fits it on the first batch of training, and if the data
# are sorted, that is sixteen times the same thing:

# %%
odd = {name: fit_scale(autoencoder, x[clothes.y == k][:16]) for k, name in enumerate(clothes.classes)}
mixed_batches = [fit_scale(autoencoder, x[k : k + 16]) for k in range(0, 320, 16)]
spread_odd, spread_mixed = max(odd.values()) / min(odd.values()), max(mixed_batches) / min(mixed_batches)
assert spread_odd > 1.1 and spread_mixed < spread_odd

# %% tags=["nbval-ignore-output"]
print(f"largest over smallest: {spread_odd:.2f} among the classes, {spread_mixed:.2f} among mixed batches of 16")

# %% [markdown]
# **3. Pictures in** $[0, 1]$. The encoder takes them, and codes them as what they are to it: pale pictures.

# %% tags=["nbval-ignore-output"]
pale = 2 * latent.decode(latent.encode((ten + 1) / 2)) - 1  # and brought back to [-1, 1] afterwards
assert 8 < psnr(pale, ten) < psnr(latent.decode(latent.encode(ten)), ten) - 2
print(f"in [-1, 1] {psnr(latent.decode(latent.encode(ten)), ten):.0f} dB, in [0, 1] {psnr(pale, ten):.0f} dB")

# %% [markdown]
# **4. An encoder in training mode.** Dropout and batch norm make its codes depend on chance and on neighbours; a VQ
# bottleneck even keeps moving its codebook. Sooner or later two calls on the same pictures give two answers:

# %%
torch.manual_seed(0)
awake = Autoencoder(AutoencoderConfig(width=8, codebook_size=64))  # a new module is in training mode
for _ in range(200):
    before, after = awake.encode(ten).z, awake.encode(ten).z
    if not torch.equal(before, after):
        break
asleep = awake.eval()
assert not torch.equal(before, after) and torch.equal(asleep.encode(ten).z, asleep.encode(ten).z)

# %% [markdown]
# **5. Clipped codes.** Many samplers clamp $\hat x_0$ to $[-1, 1]$ at every step ("static thresholding"), which is
# right for pixels, and is often switched on without a word. But of the numbers of a code of unit variance a third or
# more are beyond 1:

# %%
def clamped(z_t, t, label):
    return painter.ema.module(z_t, t, label).clamp(-1, 1)


noise = torch.randn(200, 4, 8, 8, generator=seeded(2))  # as in `live`
free, cut = live, latent.decode(final(on_the_way(noise, wishes, denoise=clamped))).clamp(-1, 1)
alt = "Above ten drawn clothes; below the same noises with clipped codes: the same clothes, all white turned grey."
plot.strips({"free": free[:10], "clipped": cut[:10]}, alt, clothes.classes)

# %%
beyond = float((codes.abs() > 1).double().mean())
white = {name: float(p.flatten(1).quantile(0.95, 1).mean()) for name, p in {"free": free, "clipped": cut}.items()}
assert 0.25 < beyond < 0.5

# %% tags=["nbval-ignore-output"]
print(f"{beyond:.0%} of the numbers are beyond 1; brightest twentieth", {k: f"{v:.2f}" for k, v in white.items()})
print(f"Fréchet distance {scored(free, wishes)[0]:.1f} free, {scored(cut, wishes)[0]:.1f} clipped")
expect(white["clipped"] < white["free"] - 0.15, "clipped codes turn white to grey")

# %% [markdown]
# The same clothes, and all white has turned grey. Note that the judge hardly minds: it looks at what things are, and
# not at how bright they are. No number replaces looking.
#
# **6. Another autoencoder.** Somebody improves the first stage, after the second was trained. Shapes fit, scales are
# alike, and nothing means what it meant. The codes of our live model, decoded by the shipped autoencoder:

# %%
z = final(on_the_way(noise[:10], torch.arange(10)))
alt = "Above ten clothes; below the same codes through another decoder: broken, wrongly lit, hardly to be recognised."
plot.strips({"its own": latent.decode(z), "another": master.latent.decode(z)}, alt)

# %% tags=["nbval-ignore-output"]
own, foreign = latent.decode(latent.encode(ten)), master.latent.decode(latent.encode(ten))
assert psnr(own, ten) > psnr(foreign, ten) + 8
print(f"its own decoder {psnr(own, ten):.0f} dB, another {psnr(foreign, ten):.0f} dB")

# %% [markdown]
# So a checkpoint must keep both stages and the scale in one file. `Run` writes such files, `load_trained` reads them.
#
# ## Exercises
#
# **1. Pen.** Stable Diffusion's codes have a standard deviation of 5.5, and its schedule ends at $\alpha(1) = 0.0683$
# in our letters (chapter 02), with $\alpha^2 + \sigma^2 = 1$. (a) At $t = 1$, what are the standard deviations of the
# two terms of $z_1 = \alpha s\,\mathrm{enc}(x) + \sigma\epsilon$ with the scale $s = 0.18215$, and what without any,
# $s = 1$? (b) By how much does forgetting the scale shift the log SNR (11.3)? (c) Section 2 checked (11.4) on a
# mixture. Why does it hold for all data?
#
# <details><summary>Answer</summary>
#
# (a) With it the codes have unit size, and the terms are $0.0683$ and $0.998$. Without it $0.0683 \cdot 5.5 = 0.376$
# and 0.998: as much as is left in one of the tutorials of chapter 02, where drawing from pure noise went wrong. (b) By
# $2 \log 5.5 = 3.4$. (c) Because $\alpha s z + \sigma\epsilon = c\,(\alpha' z + \sigma'\epsilon)$ for every $z$ and
# every $\epsilon$, with $\alpha' = \alpha s / c$ and $\sigma' = \sigma / c$: their squares add up to 1 and their ratio
# is that of the time $t'$. Who sees one side sees the other, so the best guess of $z$ is the same; and that of $sz$ is
# $s$ times as large. No word was said about how the $z$ are distributed.
#
# </details>
#
# To compare with: (a) and (b) measured, on a million numbers of that size.

# %%
from minidiff import FromBetas, scaled_linear_betas

alpha, sigma = FromBetas(scaled_linear_betas(1000))(1.0)
loud, eps = 5.5 * torch.randn(1_000_000, generator=seeded(7)), torch.randn(1_000_000, generator=seeded(8))
ends = {s: ((alpha * s * loud).std(), (sigma * eps).std()) for s in (0.18215, 1.0)}
shift = 2 * ((ends[1.0][0] / ends[1.0][1]).log() - (ends[0.18215][0] / ends[0.18215][1]).log())
print({f"s = {s:g}": f"code {code:.3f}, noise {noise:.2f}" for s, (code, noise) in ends.items()})
print(f"log SNR {shift:.2g} higher")

# %%
assert abs(ends[0.18215][0] - 0.0683) < 1e-3 and abs(ends[1.0][0] - 0.0683 * 5.5) < 1e-3
assert abs(shift - 2 * torch.tensor(5.5).log()) < 0.01

# %% [markdown]
# **2. Code.** Stable Diffusion 3 also takes off a mean (section 6). Write `standard(z, seen)`, which goes one step
# further and has a mean and a standard deviation *for each channel*, both taken over all codes and places of `seen`
# $(N, c, h, w)$, say of 2,000 training pictures. It gives the codes `z` $(B, c, h, w)$ back in these units, so that
# `standard(seen, seen)` has mean 0 and standard deviation 1 in each channel. (Why not take both from `z`? What would a
# decoder need to undo it?)

# %%
from minidiff.course import check


def standard(z, seen):
    """Codes z (B, c, h, w), less the mean and over the standard deviation of each channel of seen (N, c, h, w)."""
    ### BEGIN SOLUTION
    mean, std = seen.mean((0, 2, 3), keepdim=True), seen.std((0, 2, 3), keepdim=True)  # (1, c, 1, 1) each
    return (z - mean) / std
    ### END SOLUTION


# %%
def by_batch_norm(z, seen):
    norm = torch.nn.BatchNorm2d(seen.shape[1], eps=1e-9, momentum=None, affine=False)
    norm(seen)  # in training mode it notes mean and variance of what it sees
    return norm.eval()(z)


channels = torch.arange(4.0).view(4, 1, 1)  # each has another mean and another spread
seen = channels - 1 + (channels + 0.5) * torch.randn(300, 4, 6, 4, generator=seeded(9))
z = 2 * torch.randn(5, 4, 6, 4, generator=seeded(10)) + 1
check(standard, by_batch_norm, [(z, seen), (seen[:7], seen)], tolerance=1e-3,
      hint="of what is the mean taken, over which axes, and which axis of z do the c numbers meet?")

# %% [markdown]
# **3. Open.** Is $f = 4$ with four channels a good choice for clothes? `two_stages` trains both stages with another
# one: `num_downsamples=1` gives codes of 16 by 16, `num_downsamples=3` of 4 by 4, and `latent_channels` is the number of channels. It returns
# the floor of (11.6), the distance of 200 drawn pictures, and the work of a step. *Which choice draws best after equal
# steps, say 300 and 300 (half a minute on two cores), which for equal work, and which of its two stages limits each?*
# Try three besides ours, `num_downsamples=2, latent_channels=4`. You know it when you can say of each why it lost: because its floor is
# high, or because its floor is low and the rest is not. (200 real pictures score 1.2.) Then train the loser for three
# times as long, and see whether you were right.

# %%
def two_stages(first_steps, second_steps, pictures=10_000, **config):
    """Trains an autoencoder of that config and diffusion on its codes, on so many pictures, and measures both."""
    torch.manual_seed(1)
    a = TrainState(Autoencoder(AutoencoderConfig(width=24, **config)), recipe, reconstruction)
    for _ in train(a, clothes, steps=first_steps):
        pass
    coder = LatentCodec(a.ema.module, fit_scale(a.ema.module, x[: min(pictures, 2000)]))
    b = TrainState(new_denoiser(about, coder), TrainConfig(cooldown=0.3))
    for _ in train(b, LatentDataset(coder.encode(x[:pictures]), clothes.y[:pictures]), steps=second_steps):
        pass
    sheet = Model(b.ema.module, clothes.classes, clothes.shape, coder).sample(wishes[: pictures // 50])
    floor, drawn = (frechet(bank, f) for f in (through(coder, new[:pictures]), judge.features(sheet)))
    return {"floor": floor, "drawn": drawn, "MFLOP": flop(b.model.net, coder.shape(clothes.shape)[1]) / 1e6}


# %% tags=["nbval-ignore-output"]
start = two_stages(5, 5, pictures=500, num_downsamples=3, latent_channels=16)  # only to see that it runs
assert min(start["floor"], start["drawn"]) > 10  # nothing is learned in five steps
print({name: f"{value:.1f}" for name, value in start.items()})

# %% [markdown]
# ## What to keep
#
# - Latent diffusion is two models: an autoencoder, trained first and then frozen, and diffusion on its codes (11.1).
#   Its training, samplers and guidance are those of pixels.
# - Codes must have unit variance (11.2), because schedules, the times of training and the steps of samplers were made
#   for it. Any other scale shifts the log SNR (11.3): a wrong clock (11.4).
# - It saves $f^2$ on all that goes with the area, $f^4$ on attention (11.5). At 32 by 32 that is pleasant, at 512 by
#   512 decisive.
# - The error is the floor of the first stage and the error of the second (11.6): measure which is larger before you
#   improve one.
# - A code is a small picture, not a meaning: half-way between two of them lies no third. Do not clip codes, and never
#   exchange the decoder.
#
# Now only the label is missing its voice: in chapter 12 one asks in words.
