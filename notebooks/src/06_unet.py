# %% [markdown]
# # 06 · The U-Net
#
# **What network turns a noisy picture, a time and a label into a picture, and what does each of its parts buy?**
# Chapter 05 trained its denoisers on points and on tiny digits. A picture has a thousand pixels, an outline and a
# texture, and the network of this chapter is made to see both. It is not handed to you in one piece. You meet each part
# at the moment when something fails without it.
#
# **You will build** the embedding of time and label, a residual block, attention, the ways down and up, and from them
# a U-Net whose output is the package's to the last digits. Then you take parts *out* of it again, and measure what
# each was worth.
#
# **You need** chapter 05 (the denoiser, the $v$-prediction, the table of targets). On two CPU cores the notebook takes
# three quarters of a minute, and 1.2 GB of memory; two small U-Nets are trained in it.

# %%
import torch
import torch.nn.functional as F
from torch import nn

from minidiff import Cosine, add_noise
from minidiff.course import plot
from minidiff.data import load

schedule, clothes, unseen = Cosine(), load("fashion"), load("fashion", "test")


def seeded(seed):
    return torch.Generator().manual_seed(seed)


# %% [markdown]
# ## 1. One task, two scales
#
# The network gets $x_t$, a batch of pictures of shape `(B, C, H, W)` (B pictures of C channels, H rows and W columns),
# times `(B,)`, and labels `(B,)`. It has to give pictures of the same shape. From them we read off the guess $\hat x_0
# \approx E[x_0 \mid x_t]$ (5.10). What does a good guess need? Watch the shipped model at four times.

# %%
from minidiff.app.checkpoint import load_denoiser
from minidiff.data import shipped

# %%
denoiser, _ = load_denoiser(shipped("fashion.safetensors"))
photo, label = unseen.tensor(slice(1, 2)), unseen.y[1:2]
levels, grain = (0.1, 0.4, 0.7, 0.95), torch.randn(1, 1, 32, 32, generator=seeded(0))

# %%
noisy = [add_noise(photo, grain, t, schedule) for t in levels]
guesses = [denoiser(x_t, t, label) for x_t, t in zip(noisy, levels, strict=True)]
alt = "Above, a pullover with letters under more and more noise; below, the guesses: sharp, then soft, then a blur."
plot.images(torch.cat(noisy + guesses), alt, columns=4, titles=[f"t = {t}" for t in levels] + ["guess"] * 4)

# %% [markdown]
# At little noise (left) the outline is plain to see. What is left to decide is whether *this* pixel, of a letter say,
# is darker than its neighbours. At much noise (right) no pixel can be trusted, and the only question is what sort of
# thing is in the picture. (The model was told: the label says pullover. So it gives an average pullover.)
#
# *Predict: to guess one pixel, how large a window around it does one have to see?* For the best *linear* guess this
# has an exact answer. Divide $x_t$ by $\alpha$, and it is the clean picture plus noise of variance $(\sigma/\alpha)^2$.
# Let $C$ (for once not the channels) be the covariance of the $r \times r$ clean pixels in the window, over 1,000
# pictures and 20 places drawn at random, $c$ its column for the middle one, and $c_0$ that pixel's variance.
# Least squares gives the weights $\big(C + (\sigma/\alpha)^2 I\big)^{-1} c$, and the
# error that is left is
#
# $$ e(r, t) = c_0 - c^\top \big(C + (\sigma/\alpha)^2 I\big)^{-1} c \tag{6.1} $$

# %%
def windows(x, r, places):
    """The r x r pixels around each of the places, black outside of the picture: (places B, r r)."""
    wide = F.pad(x, [r // 2] * 4, value=-1.0)
    return torch.cat([wide[:, 0, i : i + r, j : j + r].flatten(1) for i, j in places])


# %%
places = torch.randint(0, 32, (20, 2), generator=seeded(1)).tolist()
clean = windows(clothes.tensor(slice(0, 1000)), 21, places).double()  # (20,000, 441)
C = torch.cov(clean.T).reshape(21, 21, 21, 21)


# %%
def least_error(r, t):
    """(6.1): the error of the best linear guess at a pixel from the r x r pixels around it."""
    near, middle = slice(10 - r // 2, 11 + r // 2), r * r // 2
    c = C[near, near, near, near].reshape(r * r, r * r)
    noise = torch.eye(r * r) * schedule.log_snr(t).neg().exp()  # (sigma / alpha)^2
    return float(c[middle, middle] - c[middle] @ torch.linalg.solve(c + noise, c[middle]))


# %% [markdown]
# Does (6.1) hold? Regress the middle pixel on noisy windows, and look at what is left:

# %%
for t in (0.1, 0.5, 0.9):
    small = windows(clothes.tensor(slice(0, 1000)), 5, places).double()
    eps = torch.randn(small.shape, generator=seeded(2), dtype=torch.float64)
    inputs = add_noise(small - small.mean(0), eps, t, schedule)
    middle = small[:, 12:13] - small[:, 12:13].mean()
    left = (inputs @ torch.linalg.lstsq(inputs, middle).solution - middle).square().mean()
    assert abs(least_error(5, t) / left - 1) < 0.04

# %%
sizes = [1, 3, 5, 7, 9, 11, 15, 21]
lost = {f"t = {t}": torch.tensor([least_error(r, t) for r in sizes]) for t in (0.1, 0.5, 0.9)}
lost = {name: e / e[-1] for name, e in lost.items()}
assert lost["t = 0.1"][1] < 1.1 and lost["t = 0.5"][1] > 1.3 and lost["t = 0.9"][3] > 1.15

# %%
alt = "Error against window size. At t = 0.1 the curve is flat from 3 pixels on; at t = 0.9 it still falls at 15."
picture = plot.curves(torch.tensor(sizes), lost, alt, "side of the window, pixels", "error, relative to 21 pixels")
picture

# %% [markdown]
# At $t = 0.1$ a window of three pixels is as good as one of 21, to a few per cent. At $t = 0.9$ a window of seven still
# leaves about a sixth more error than one of 21. *One network has to work at both scales.*
#
# **A first candidate: join everything with everything,** as in the networks of chapter 05. For pictures of 1,024 pixels
# one layer is a matrix of a million weights, more than the whole U-Net will have. It can look anywhere, but what it
# learns at one place it does not know at the next. Fit such a layer to 500 noisy pictures by least squares, and, for
# comparison, *one* window of 7 by 7 weights that is used at all places, a convolution (200 pictures are plenty for it).
#
# *Predict: which one is better, on pictures it has seen and on others? To do nothing costs about
# $(\sigma/\alpha)^2$.*

# %%
def with_one(x):
    return torch.cat([x, torch.ones(len(x), 1)], 1)  # a constant input, for the bias


def noisy_pair(pictures, t, seed):
    return pictures, add_noise(pictures, torch.randn(pictures.shape, generator=seeded(seed)), t, schedule)


# %%
def by_matrix(seen, test):
    """Errors on both sets of a full matrix, fitted by least squares (of many solutions, the smallest)."""
    (x, x_t), (y, y_t) = [[v.flatten(1).double() for v in pair] for pair in (seen, test)]
    a, b = with_one(x_t), with_one(y_t)
    solution = a.T @ torch.linalg.solve(a @ a.T, x)  # (1025, 1024)
    return (a @ solution - x).square().mean(), (b @ solution - y).square().mean()


# %%
everywhere = [(i, j) for i in range(32) for j in range(32)]


def by_window(seen, test, r=7):
    """The same for one r x r window of weights, shared by all places."""
    (a, x), (b, y) = [(with_one(windows(v_t, r, everywhere)), windows(v, 1, everywhere)) for v, v_t in (seen, test)]
    solution = torch.linalg.lstsq(a, x).solution  # (50, 1)
    return (a @ solution - x).square().mean(), (b @ solution - y).square().mean()


# %%
seen, test = noisy_pair(clothes.tensor(slice(0, 500)), 0.1, 3), noisy_pair(unseen.tensor(slice(0, 200)), 0.1, 4)
matrix, window = by_matrix(seen, test), by_window((seen[0][:200], seen[1][:200]), test)
nothing = (test[1] / schedule(0.1)[0] - test[0]).square().mean()

# %%
assert matrix[0] < 1e-6 and matrix[1] > nothing > 1.5 * window[1] and window[1] < 1.2 * window[0]
print(f"million weights: seen {matrix[0]:.3f}, unseen {matrix[1]:.3f}")
print(f"fifty weights:   seen {window[0]:.3f}, unseen {window[1]:.3f}; nothing done {nothing:.3f}")

# %% [markdown]
# A perfect score on what it has seen, and on other pictures *worse than not touching them*. The fifty weights do as
# well on either. What makes a pixel speckled is the same everywhere, so share the weights.
#
# **A second candidate: a stack of convolutions.** One sees 3 by 3 pixels; the next sees 3 by 3 of its outputs. Let $r$
# be the side of the square of input pixels that one output can depend on, its *receptive field*, and $j$ the distance
# in input pixels of two neighbouring outputs. A layer with a $k \times k$ kernel and a stride of $s$ (it keeps every
# $s$-th output) changes them to
#
# $$ r \leftarrow r + (k - 1)\, j, \qquad j \leftarrow s\, j \tag{6.2} $$
#
# beginning with $r = j = 1$. So a plain stack ($s = 1$) grows by two pixels a layer: to let one corner of a picture
# of 32 by 32 know of the other takes 31 layers. Halve the picture on the way, and $j$ doubles:

# %%
def receptive_field(layers):
    """(6.2), for layers given as (kernel, stride)."""
    r, j = 1, 1
    for kernel, stride in layers:
        r, j = r + (kernel - 1) * j, j * stride
    return r


# %%
plain = [(3, 1)] * 6
halving = [(3, 1), (3, 1), (2, 2), (3, 1), (3, 1), (2, 2), (3, 1), (3, 1)]
print(f"six convolutions see {receptive_field(plain)} pixels; halving twice on the way, {receptive_field(halving)}")

# %% [markdown]
# That is arithmetic. To *measure* it, ask automatic differentiation which input pixels have a say in one output pixel:
# those where its gradient is not zero.

# %%
def stack(layers, c=8):
    torch.manual_seed(0)
    channels = [1] + [c] * len(layers)
    return nn.Sequential(*(nn.Conv2d(channels[i], c, k, s, padding=k // 2 if s == 1 else 0)
                           for i, (k, s) in enumerate(layers)))


def touched(net, x):
    """How strongly each pixel of x (1, 1, H, W) moves the middle pixel of net(x): (H, W)."""
    x = x.clone().requires_grad_()
    y = net(x)
    y[..., y.shape[2] // 2, y.shape[3] // 2].sum().backward()
    return x.grad[0, 0].abs()


# %%
blank = torch.randn(1, 1, 64, 64, generator=seeded(5))
maps = [touched(stack(layers), blank) for layers in (plain, halving)]
assert [int((m > 0).any(0).sum()) for m in maps] == [receptive_field(plain), receptive_field(halving)] == [13, 32]

# %%
alt = "Two maps: the plain stack touches a square of 13 pixels, fading outwards; the halving one a square of 32."
picture, axes = plot.figure(alt, 2, width=7.5, height=3.6)
for ax, m, title in zip(axes, maps, ("six convolutions", "the same, halving twice"), strict=True):
    ax.imshow((m / m.max()).clamp(min=1e-4).log10())
    ax.set(title=title, xticks=[], yticks=[])
    ax.grid(False)
picture

# %% [markdown]
# Bright: large gradients (in powers of ten). The same six convolutions see a square of 32 pixels instead of 13 once the
# picture is halved twice between them, and as four of the six work on a quarter of the pixels or less, they cost less
# than half.
# (Within the square the middle counts most; Luo et al. 2016 call what really counts the *effective* field.)
#
# But what is halved is coarse, and at low noise we need single pixels. So: go down, to see the outline; come up again;
# and carry the fine detail across. That is the plan of the U-Net (Ronneberger et al. 2015, for microscope pictures).
# Does a trained one use it as we think? The same gradient, of the shipped model:

# %%
x_0, grains = unseen.tensor(slice(0, 48)), torch.randn(48, 1, 32, 32, generator=seeded(6))


def looks_at(t):
    """Mean size of the gradient of the guess at pixel (16, 16), over 48 pictures: (32, 32), summing to one."""
    x_t = add_noise(x_0, grains, t, schedule).requires_grad_()
    denoiser(x_t, t, unseen.y[:48])[:, 0, 16, 16].sum().backward()
    size = x_t.grad.abs().mean(0)[0]
    return size / size.sum()


# %%
gaze = {t: looks_at(t) for t in (0.05, 0.5, 0.95)}
near = {t: float(m[14:19, 14:19].sum()) for t, m in gaze.items()}
assert near[0.05] > 0.5 and near[0.05] > near[0.5] > near[0.95] and near[0.95] < 0.3

# %%
alt = "Three maps of where the model looks: at t = 0.05 one bright spot, at t = 0.95 all over the picture."
picture, axes = plot.figure(alt, 3, width=9, height=3.5)
for ax, (t, m) in zip(axes, gaze.items(), strict=True):
    ax.imshow((m / m.max()).clamp(min=1e-3).log10(), vmin=-3)
    ax.set(title=f"t = {t}: {near[t]:.0%} within 5 x 5", xticks=[], yticks=[])
    ax.grid(False)
picture

# %% [markdown]
# Near the data the model looks at a handful of pixels; near the noise, at the whole picture. (The titles say which
# share of the gradient lies within two pixels.) Training found that out by itself. What it needed was a network in
# which both are possible, and a way to know which is wanted: the time.
#
# ## 2. Time and label
#
# Chapter 05 spread the time over waves (5.6) and said that a bare number would hardly be noticed. *Failure first:* let
# a small network learn a function of time that is slow and fast at once, $\sin 2\pi t + \frac12 \sin 80\pi t$. Once it
# gets $t$ as a number, and once as 32 waves.
#
# *Predict: what will the first one learn?*

# %%
from minidiff.nets.embed import timestep_embedding


def slow_and_fast(t):
    return torch.sin(2 * torch.pi * t) + torch.sin(80 * torch.pi * t) / 2


# %%
def learn(features, steps=1000):
    """A network of two hidden layers, trained on slow_and_fast at random times, and its guess at any times."""
    torch.manual_seed(0)
    inputs = features(torch.zeros(1)).shape[1]
    net = nn.Sequential(nn.Linear(inputs, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1))
    adam = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(steps):
        t = torch.rand(256)
        loss = (net(features(t))[:, 0] - slow_and_fast(t)).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    return lambda t: net(features(t))[:, 0].detach()


# %%
ways = {"bare number": lambda t: t[:, None], "32 waves": lambda t: timestep_embedding(t, 32)}
t = torch.linspace(0, 1, 2001)
learned = {name: learn(features)(t) for name, features in ways.items()}
errors = {name: (y - slow_and_fast(t)).square().mean() for name, y in learned.items()}
assert abs(errors["bare number"] - 0.125) < 0.01 and errors["32 waves"] < 0.005

# %%
alt = "The function wiggles; the network with waves lies on it, the one with the bare number on the slow wave alone."
shown = slice(0, 501)
lines = {"wanted": slow_and_fast(t)[shown]} | {name: y[shown] for name, y in learned.items()}
plot.curves(t[shown], lines, alt, "t", "answer")

# %% [markdown]
# The bare number taught it the slow wave and *nothing* of the fast one: its error, 0.125, is just the power that the
# fast wave has, $\frac12 (\frac12)^2$. Networks learn slow functions of their inputs first (Rahaman et al. 2019 call it
# spectral bias). The waves put a magnifying glass before each scale, and the error is all but gone.
#
# **What the waves do.** Chapter 05 saw that the likeness of two times depends on their distance alone. There is a
# reason that is worth knowing. Two numbers, $\cos\omega t$ and $\sin\omega t$, are the hand of a clock. Let time pass
# by $\delta$, and the hand turns by the angle $\omega\delta$, *whatever the time is*. So one matrix $R_\delta$, made of
# such rotations, moves all times by $\delta$. Rotations keep inner products, hence, with $h$ waves of each kind,
#
# $$ \mathrm{emb}(t + \delta) = R_\delta\, \mathrm{emb}(t), \qquad
# \mathrm{emb}(t)^\top\, \mathrm{emb}(t') = \sum_{i=0}^{h-1} \cos\big(\omega_i\,(t - t')\big) \tag{6.3} $$

# %%
def rotation(delta, h):
    """R_delta of (6.3), for cosines first and then sines: (2h, 2h)."""
    angle = delta * 1000 * 10000 ** (-torch.arange(h, dtype=torch.float64) / h)
    cos, sin = angle.cos().diag(), angle.sin().diag()
    return torch.cat([torch.cat([cos, -sin], 1), torch.cat([sin, cos], 1)])


# %%
t = torch.linspace(0, 0.9, 10, dtype=torch.float64)
emb, turned = timestep_embedding(t, 96), timestep_embedding(t, 96) @ rotation(0.07, 48).T
assert torch.allclose(turned, timestep_embedding(t + 0.07, 96))
assert torch.allclose(rotation(0.07, 48).T @ rotation(0.07, 48), torch.eye(96, dtype=torch.float64))

# %%
omega = 1000 * 10000 ** (-torch.arange(48, dtype=torch.float64) / 48)
assert torch.allclose(emb @ emb.T, torch.cos((t[:, None] - t)[..., None] * omega).sum(-1))
print("one rotation moves all times, and inner products see the distance alone")

# %% [markdown]
# How fast does the likeness fall? With many waves the mean of the cosines becomes an integral over their
# frequencies, and for distances $\delta$ between a hundredth and one it is, very nearly, a straight line *in the
# logarithm* ($\gamma = 0.577$ is Euler's constant; the integral is a difference of cosine integrals):
#
# $$ \frac1h \sum_{i} \cos(\omega_i\,\delta) \;\approx\; \int_0^1 \cos\!\big(1000 \cdot 10000^{-u}\,\delta\big)\,du
# \;\approx\; \frac{\ln(10/\delta) - \gamma}{\ln 10000} \tag{6.4} $$

# %%
delta = torch.logspace(-4, 0, 81, dtype=torch.float64)
u = torch.linspace(0, 1, 100_001, dtype=torch.float64)
integral = torch.stack([torch.trapezoid(torch.cos(1000 * 10000**-u * d), u) for d in delta])
straight = ((10 / delta).log() - 0.5772) / torch.tensor(10000.0).log()

# %%
likeness = torch.cos(delta[:, None] * omega).mean(1)
assert (integral - straight)[delta > 0.01].abs().max() < 0.015
assert (likeness - integral).abs().max() < 0.12

# %%
alt = "Likeness falls from 1 along a straight line over two powers of ten of the distance."
lines = {"48 frequencies": likeness, "integral": integral, "straight line": straight}
plot.curves(delta, lines, alt, r"distance of two times, $\delta$", "likeness", xscale="log")

# %% [markdown]
# Ten times closer adds 0.25 to likeness, at *every* scale, from a hundredth of the walk to the whole of it. No scale
# is preferred. That is what one wants before one knows which matters. Seen as a picture, two hundred times against
# themselves, over the whole walk and over a twentieth of it:

# %%
alt = "Two squares with a bright diagonal, away from which likeness fades, on both the coarse and the fine scale."
picture, axes = plot.figure(alt, 2, width=7.5, height=3.4)
for ax, end in zip(axes, (1.0, 0.05), strict=True):
    emb = timestep_embedding(torch.linspace(0, end, 200), 96)
    shown = ax.imshow(emb @ emb.T / 48, vmin=0, vmax=1, extent=(0, end, end, 0))
    ax.set(xlabel="t", ylabel="t'", title=f"likeness, t up to {end}")
    ax.grid(False)
picture.colorbar(shown, ax=axes)
picture

# %% [markdown]
# Two conventions to mind. DDPM's code feeds *step numbers*, counted from 0, into waves $10000^{-i/(h-1)}$; the
# package feeds $t = k/T$ in $[0, 1]$, with $k$ counted from 1,
# and counts it in thousandths, so $t = 0.02$ gives the waves of $k = 20$. (The order of
# sines and cosines, and $i/h$ for $i/(h-1)$, are of no importance.) Section 7 shows what a mix-up does.
#
# The waves then pass through two small layers, in which the network forms its own idea of time. **The label** is
# simpler: a table with one learned row for each class, and one row more for "no label given", the *null label*, which
# chapter 09 lives on. Looking up a row is multiplying the table by a vector that is one at the label's place:
#
# $$ e = W_2\,\mathrm{SiLU}\big(W_1\,\mathrm{emb}(t) + b_1\big) + b_2 + \mathrm{onehot}(y)^\top\, \mathrm{Table},
# \qquad \mathrm{SiLU}(x) = \frac{x}{1 + e^{-x}} \tag{6.5} $$
#
# (In the exponent, $e$ is Euler's number.) Time and label are added; the layers after them can tell the two apart.

# %%
class TimeAndLabel(nn.Module):
    """(6.5): times (B,) and labels (B,) to vectors (B, dim)."""

    def __init__(self, dim, classes):
        super().__init__()
        self.time = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.label = nn.Embedding(classes + 1, dim)

    def forward(self, t, y):
        table = self.label.weight  # (classes + 1, dim)
        return self.time(timestep_embedding(t, table.shape[1])) + F.one_hot(y, len(table)).to(table) @ table


# %% [markdown]
# The same weights into the package's `TimeLabelEmbedding`, and the same vectors must come out:

# %%
from minidiff.nets.embed import TimeLabelEmbedding


# %%
def copy_weights(source, goal):
    """Copies all parameters in order; shapes must agree."""
    for theirs, ours in zip(source.parameters(), goal.parameters(), strict=True):
        assert theirs.shape == ours.shape
        ours.data.copy_(theirs.data)


# %%
theirs, ours = TimeLabelEmbedding(96, num_classes=10), TimeAndLabel(96, classes=10)
copy_weights(theirs, ours)
t, y = torch.rand(12, generator=seeded(7)), torch.arange(12) % 11
assert torch.allclose(ours(t, y), theirs(t, y), atol=1e-5)
assert torch.equal(theirs(t), theirs(t, torch.full((12,), 10)))  # nothing said is the null label

# %%
plot.show_source(TimeLabelEmbedding)

# %% [markdown]
# ## 3. The residual block
#
# ### Convolution
#
# The sharing of section 1, for pictures of many channels. Output channel $o$ at row $i$ and column $j$ is
#
# $$ y_{o,i,j} = b_o + \sum_{c} \sum_{u=-1}^{1} \sum_{v=-1}^{1} K_{o,c,u,v}\; x_{c,\,i+u,\,j+v} \tag{6.6} $$
#
# with a kernel $K$ of $3 \times 3$ weights for each pair of channels, and zeros where the sum reaches over the border.
# Nine shifted pictures, then, each multiplied by a matrix over the channels:

# %%
def convolution(x, kernel, bias):
    """(6.6) as nine shifts: x (B, c, H, W), kernel (o, c, 3, 3) -> (B, o, H, W)."""
    (H, W), wide, y = x.shape[2:], F.pad(x, [1] * 4), bias[:, None, None]
    for u in range(3):
        for v in range(3):
            y = y + torch.einsum("oc,bchw->bohw", kernel[:, :, u, v], wide[:, :, u : u + H, v : v + W])
    return y


# %%
x, kernel, bias = torch.randn(2, 5, 8, 6), torch.randn(4, 5, 3, 3), torch.randn(4)
assert torch.allclose(convolution(x, kernel, bias), F.conv2d(x, kernel, bias, padding=1), atol=1e-4)
shifted = convolution(x.roll(1, dims=3), kernel, bias)[..., 2:-1]
assert torch.allclose(shifted, convolution(x, kernel, bias).roll(1, dims=3)[..., 2:-1], atol=1e-4)

# %% [markdown]
# The second assertion is the point of it: shift the picture, and (away from the border) the output shifts along.
#
# ### Norm
#
# Numbers that pass through many layers must not grow or shrink on the way, so they are brought to mean zero and
# variance one now and then. *Over what* the mean is taken is a choice. The package takes it over the channels of each
# pixel by itself, and then lets each channel have a learned scale $g_c$ and shift $b_c$:
#
# $$ \mathrm{norm}(x)_{c,i,j} = g_c\, \frac{x_{c,i,j} - m_{i,j}}{\sqrt{v_{i,j} + 10^{-5}}} + b_c, \qquad
# m_{i,j},\ v_{i,j}: \text{ mean and variance over the channels} \tag{6.7} $$

# %%
class PixelNorm(nn.Module):
    """(6.7) for x (B, c, H, W)."""

    def __init__(self, c):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(c)), nn.Parameter(torch.zeros(c))

    def forward(self, x):
        mean, variance = x.mean(1, keepdim=True), x.var(1, keepdim=True, correction=0)
        return self.weight[:, None, None] * (x - mean) / (variance + 1e-5).sqrt() + self.bias[:, None, None]


# %%
from minidiff.nets.unet import ChannelNorm

# %%
theirs, ours, x = ChannelNorm(12), PixelNorm(12), 3 + 5 * torch.randn(2, 12, 8, 8, generator=seeded(8))
nn.init.normal_(theirs.weight), nn.init.normal_(theirs.bias)
copy_weights(theirs, ours)
assert torch.allclose(ours(x), theirs(x), atol=1e-4)

# %% [markdown]
# DDPM has GroupNorm in this place (Wu & He 2018): the mean is over *all pixels* of a few channels. What differs?
# Brighten one corner pixel, and count how many pixels notice.

# %%
def noticed(norm):
    brighter = x.clone()
    brighter[:, :, 0, 0] += 10 * torch.rand(12, generator=seeded(9))
    return int((norm(brighter) - norm(x)).abs().amax((0, 1)).gt(1e-5).sum())


counts = {"over a pixel's channels": noticed(ours), "GroupNorm": noticed(nn.GroupNorm(3, 12))}
assert list(counts.values()) == [1, 64]
print(counts)

# %% [markdown]
# GroupNorm lets every pixel feel the whole picture: a receptive field without limit, of two numbers per group. The norm
# of one pixel feels only itself. In exchange, it forgets how *strong* a pixel is: $x$ and $2x$ come out alike. The
# package chose it for speed (in the memory layout in which CPUs convolve fastest, a pixel's channels lie side by
# side), and it needs no thought about groups. Both work.
#
# ### Why residual
#
# Now put layers on top of each other, norm, SiLU, convolution, again and again. To learn, the first of them needs the
# gradient of the loss. *Predict: how large is it, below 32 such layers, compared with 2?* Three ways to stack: plain
# convolutions with SiLU; the same with norms; and with norms and each layer *added* to its input, $h \leftarrow h +
# f(h)$.

# %%
def tower(kind, depth, c=16):
    """A function of pictures (B, c, H, W): depth layers, freshly drawn, stacked in one of three ways."""
    torch.manual_seed(0)
    convs, norm = [nn.Conv2d(c, c, 3, padding=1) for _ in range(depth)], ChannelNorm(c)

    def run(h):
        for conv in convs:
            f = conv(F.silu(h if kind == "plain" else norm(h)))
            h = h + f if kind == "norm, added" else f
        return h

    return run


# %%
x, nudge, probe = torch.randn(3, 4, 16, 12, 12, generator=seeded(10))


def slope(net, x):
    """The gradient, at x, of a fixed random mixture of all the net's outputs: (B, c H W)."""
    x = x.clone().requires_grad_()
    (net(x) * probe).sum().backward()
    return x.grad.double().flatten(1)  # sizes down to 1e-32 will come


# %%
depths, kinds = [1, 2, 4, 8, 16, 32, 64], ["plain", "with norm", "norm, added"]
slopes = {kind: [slope(tower(kind, d), x) for d in depths] for kind in kinds}
nearby = {kind: [slope(tower(kind, d), x + 0.1 * nudge) for d in depths] for kind in kinds}

# %%
size = {kind: torch.stack([s.norm() for s in slopes[kind]]) for kind in kinds}
alike = {kind: torch.stack([F.cosine_similarity(a, b, eps=1e-99).mean()  # its default takes 1e-8 for nothing
                            for a, b in zip(slopes[kind], nearby[kind], strict=True)]) for kind in kinds}

# %%
alt = "Left: gradient sizes; the plain stack's falls to nothing. Right: their likeness nearby; lost with norms alone."
picture, axes = plot.figure(alt, 2, width=9.5)
for kind in kinds:
    axes[0].plot(depths, size[kind].clamp(min=1e-20), label=kind)
    axes[1].plot(depths, alike[kind], label=kind)
axes[0].set(xscale="log", yscale="log", xlabel="layers", title="size of the gradient below", ylim=(1e-16, 1e4))
axes[1].set(xscale="log", xlabel="layers", title="likeness to the gradient nearby", ylim=(-0.1, 1.05))
axes[0].legend()
picture

# %%
assert size["plain"][5] < 1e-14 * size["plain"][1] and size["norm, added"][6] > size["norm, added"][1]
assert alike["with norm"][6] < 0.5 and min(alike["norm, added"][6], alike["plain"][6]) > 0.95

# %% [markdown]
# Left: below 32 plain layers less than $10^{-14}$ of the gradient is left (what is left still points the same way, but
# nobody can follow it). With norms it does not vanish. So why add? Look right: move the input by a tenth, and ask
# whether the gradient still points the same way. Below 64 layers with norms it does not; it points anywhere
# (Balduzzi et al. 2017 speak of *shattered* gradients), and a step down it
# leads nowhere. Where each layer is added to its input it hardly turns, because one part of it passes untouched:
#
# $$ h' = h + f(h) \quad\Rightarrow\quad
# \frac{\partial L}{\partial h} = \frac{\partial L}{\partial h'} + \Big(\frac{\partial f}{\partial h}\Big)^{\!\top}
# \frac{\partial L}{\partial h'} \tag{6.8} $$
#
# with $L$ the loss (He et al. 2016). The first term is the gradient from above, unharmed.
#
# ### Telling the block the time
#
# The vector $e$ of section 2 must get into the pictures. The simplest way is to add it to all pixels. A stronger one
# lets it *scale* each channel too, turning features on and off (FiLM, Perez et al. 2018; in diffusion, Dhariwal &
# Nichol 2021 call it AdaGN). One linear layer makes both numbers of each channel from $e$, and they act between the two
# convolutions of a block:
#
# $$ \begin{aligned}
# (\mathrm{scale}, \mathrm{shift}) &= W\,\mathrm{SiLU}(e) + b, \qquad
# u = \mathrm{conv}_1\big(\mathrm{SiLU}(\mathrm{norm}_1(h))\big), \\
# \mathrm{block}(h, e) &= \mathrm{skip}(h)
# + \mathrm{conv}_2\Big(\mathrm{SiLU}\big((1 + \mathrm{scale}) \odot \mathrm{norm}_2(u) + \mathrm{shift}\big)\Big)
# \end{aligned} \tag{6.9} $$
#
# ($\odot$ multiplies number by number; skip is $h$ itself, or a $1 \times 1$ convolution where the number of channels
# changes. The 1 is there so that scale and shift near zero change little.)

# %%
class Residual(nn.Module):
    """(6.9): h (B, c_in, H, W) and e (B, emb) to (B, c, H, W)."""

    def __init__(self, c_in, c, emb):
        super().__init__()
        self.norm1, self.conv1 = PixelNorm(c_in), nn.Conv2d(c_in, c, 3, padding=1)
        self.modulation = nn.Linear(emb, 2 * c)
        self.norm2, self.conv2 = PixelNorm(c), nn.Conv2d(c, c, 3, padding=1)
        self.skip = nn.Conv2d(c_in, c, 1) if c_in != c else nn.Identity()

    def forward(self, h, e):
        scale, shift = self.modulation(F.silu(e))[:, :, None, None].chunk(2, dim=1)  # (B, c, 1, 1) each
        u = self.norm2(self.conv1(F.silu(self.norm1(h))))
        return self.skip(h) + self.conv2(F.silu((1 + scale) * u + shift))


# %%
from minidiff.nets.unet import ResBlock


# %%
def shaken(net, seed=0):
    """The network with all parameters moved at random, so that none is zero or one."""
    generator = seeded(seed)
    for p in net.parameters():
        p.data += 0.1 * torch.randn(p.shape, generator=generator)
    return net


# %%
h, e = torch.randn(2, 16, 8, 8, generator=seeded(11)), torch.randn(2, 32, generator=seeded(12))
for c in (16, 24):
    theirs, ours = shaken(ResBlock(16, c, 32)), Residual(16, c, 32)
    copy_weights(theirs, ours)
    assert torch.allclose(ours(h, e), theirs(h, e), atol=1e-4)

# %%
plot.show_source(ResBlock)

# %% [markdown]
# ### Start from nothing
#
# In that source the second convolution is `zero_init`: at the start all of its weights are zero. So each new block *is*
# the skip, whatever it is shown:

# %%
torch.manual_seed(0)
assert torch.equal(ResBlock(16, 16, 32)(h, e), h)

# %% [markdown]
# Why? Added layers add their variances. With fresh random weights each block adds about the same, and the numbers grow
# block by block; the more blocks, the further the network starts from anything sensible. With zeros it starts as the
# simplest network there is, at any depth, and each block comes alive as fast as it is useful (Goyal et al. 2017
# start the branches of a ResNet this way, Zhang et al. 2019 those of very deep ones without norms; DDPM's code, too).
# And does a layer of zeros
# ever get a gradient? Section 6 follows it step by step.

# %%
def through(blocks, zero):
    """Standard deviation of h after each of so many new blocks, started at zero or not."""
    torch.manual_seed(0)
    g, widths = torch.randn(2, 16, 8, 8), []
    for block in [ResBlock(16, 16, 32) for _ in range(blocks)]:
        if not zero:
            block.conv2.reset_parameters()  # what any other layer starts from
        g = block(g, e)
        widths.append(g.std().item())
    return torch.tensor(widths)


# %%
started = {"from zero": through(40, True), "from random weights": through(40, False)}
assert started["from zero"].std() < 1e-6 and started["from random weights"][-1] > 1.6 * started["from zero"][-1]
alt = "The standard deviation after 40 new blocks: constant with zeros, growing with random weights."
plot.curves(torch.arange(1, 41), started, alt, "blocks", "standard deviation")

# %% [markdown]
# After 40 blocks with random weights the numbers have more than doubled. Started from zero, nothing has happened to
# them yet.
#
# ## 4. Attention
#
# Convolutions reach far by going down. *Attention* (Vaswani et al. 2017) reaches everywhere in one step: each pixel
# asks all others, and takes most from those that answer best. From its channels each pixel $i$ makes three vectors of
# length $d$: a query $q_i$ (what I look for), a key $k_i$ (what I offer) and a value $v_i$ (what I give). Then
#
# $$ o_i = \sum_j a_{ij}\, v_j, \qquad
# a_{ij} = \frac{\exp(q_i^\top k_j / \sqrt d)}{\sum_{l} \exp(q_i^\top k_l / \sqrt d)}
# \qquad\text{or}\qquad O = \mathrm{softmax}\big(Q K^\top / \sqrt d\big)\, V \tag{6.10} $$
#
# (Here $v$ is a value, not the target of chapter 05.) Four pixels, by hand:

# %%
def attend_by_loops(q, k, v):
    out = torch.zeros_like(v)
    for i in range(len(q)):
        a = torch.stack([torch.exp(q[i] @ k[j] / len(q[i]) ** 0.5) for j in range(len(k))])
        out[i] = sum(a[j] / a.sum() * v[j] for j in range(len(k)))
    return out


def attend(q, k, v):
    return torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, dim=-1) @ v  # (..., N, d)


# %%
q, k, v = torch.randn(3, 4, 8, generator=seeded(13))
assert torch.allclose(attend(q, k, v), attend_by_loops(q, k, v), atol=1e-6)
assert torch.allclose(attend(q, k, v), F.scaled_dot_product_attention(q, k, v), atol=1e-6)

# %% [markdown]
# **Why $\sqrt d$?** An inner product of two vectors of $d$ independent numbers of variance one is a sum of $d$ terms of
# variance one: it has variance $d$. The softmax of large numbers is nearly all-or-nothing, and where it is, its
# gradient is nearly zero. Divided by $\sqrt d$ the variance is 1, for every $d$. *Predict: without it, what share of
# the attention does the strongest of 16 pixels take, at $d = 256$?*

# %%
def strongest(d, scale):
    """Variance of the scores, and the mean share of the strongest of 16 pixels."""
    q, k = torch.randn(2, 500, 16, d, generator=seeded(14))
    scores = q @ k.mT * scale
    return scores.var().item(), scores.softmax(-1).amax(-1).mean().item()


# %%
for d in (4, 24, 256):
    (raw, share), (scaled, fair) = strongest(d, 1.0), strongest(d, d**-0.5)
    assert abs(raw / d - 1) < 0.05 and abs(scaled - 1) < 0.05
    print(f"d = {d:3}: without the root variance {raw:3.0f}, strongest takes {share:.2f}; with it {fair:.2f}")
assert share > 0.85 and fair < 0.35

# %% [markdown]
# The package's module splits the channels into `heads` groups that attend independently, so that a pixel can ask more
# than one question at once. Query, key and value of all heads come from one $1 \times 1$ convolution, one more mixes
# the answers, and the result is added to the input.

# %%
class Attend(nn.Module):
    """Self-attention among all pixels of h (B, c, H, W), added to h."""

    def __init__(self, c, heads):
        super().__init__()
        self.heads, self.norm = heads, PixelNorm(c)
        self.qkv, self.out = nn.Conv2d(c, 3 * c, 1), nn.Conv2d(c, c, 1)

    def forward(self, h):
        B, c, H, W = h.shape
        pixels = self.qkv(self.norm(h)).flatten(2).mT  # (B, HW, 3c)
        q, k, v = (z.unflatten(2, (self.heads, -1)).transpose(1, 2) for z in pixels.chunk(3, dim=2))
        o = attend(q, k, v)  # (B, heads, HW, c / heads)
        return h + self.out(o.transpose(1, 2).flatten(2).mT.reshape(B, c, H, W))


# %%
from minidiff.nets.unet import Attention

theirs, ours = shaken(Attention(16, heads=4)), Attend(16, heads=4)
copy_weights(theirs, ours)
assert torch.allclose(ours(h), theirs(h), atol=1e-5)

# %%
plot.show_source(Attention)

# %% [markdown]
# **Attention does not know where anything is.** Let $P$ shuffle the pixels. Queries, keys and values are shuffled
# along, each sum runs over the same terms in another order, and the output is shuffled in just the same way:
#
# $$ \mathrm{attention}(P h) = P\;\mathrm{attention}(h) \tag{6.11} $$

# %%
order = torch.randperm(64, generator=seeded(15))


def shuffle(h):
    return h.flatten(2)[:, :, order].view_as(h)


assert torch.allclose(theirs(shuffle(h)), shuffle(theirs(h)), atol=1e-5)

# %% [markdown]
# It could not tell a shirt from its jigsaw puzzle. Transformers therefore add a code for the position to each token.
# The U-Net has none, and still works. *Predict: who tells its pixels where they are?* Show convolutions a picture of
# one grey, which is the same everywhere:

# %%
torch.manual_seed(1)
convs = nn.ModuleList(nn.Conv2d(1 if i == 0 else 8, 8, 3, padding=1) for i in range(10)).double()
g, different = torch.ones(1, 1, 32, 32).double(), []
for conv in convs:
    g = conv(F.silu(g)).detach()
    different.append((g - g[:, :, 16:17, 16:17]).abs().amax((0, 1)) > 1e-12)  # from the middle pixel

# %%
alt = "Three maps of a grey picture after 1, 4 and 10 convolutions: a black frame, 1, 4 and 10 pixels wide."
picture, axes = plot.figure(alt, 3, width=9, height=3.5)
for ax, depth in zip(axes, (1, 4, 10), strict=True):
    ax.imshow(different[depth - 1], cmap="gray_r")
    ax.set(title=f"after {depth}", xticks=[], yticks=[])
    ax.grid(False)
picture

# %%
assert [int(d[16].sum()) for d in different] == [2 * depth for depth in range(1, 11)]

# %% [markdown]
# Dark is what has become different from the middle. It is the *padding*: beyond the border (6.6) sees zeros, and each
# layer carries the news one pixel further in (Islam et al. 2020). Before any attention, each pixel already knows how
# far away the borders are, when they are near enough. With borders that wrap around there is no news to carry:

# %%
def everywhere_alike(mode):
    """Whether ten convolutions keep a grey picture of one colour, with that kind of border."""
    g = torch.ones(1, 1, 32, 32).double()
    for conv in convs:
        g = F.conv2d(F.pad(F.silu(g), [1] * 4, mode), conv.weight, conv.bias)
    return bool((g - g[:, :, :1, :1]).abs().max() < 1e-12)


assert everywhere_alike("circular") and not everywhere_alike("constant")

# %% [markdown]
# **What does it cost?** Count multiplications and additions, as FLOP. For $N = HW$ pixels, a convolution takes two for
# each weight and pixel, and attention two for each of the $N^2$ pairs and each channel, once for $QK^\top$ and once for
# the sum over values:
#
# $$ \mathrm{FLOP}(\mathrm{conv}) = 2\,k^2\, c\, c'\, N, \qquad
# \mathrm{FLOP}(\mathrm{attention}) = \underbrace{8\,c^2 N}_{\text{1x1 convolutions}}
# \;\;\text{and}\;\; \underbrace{4\,c\,N^2}_{\text{pairs}}
# \tag{6.12} $$
#
# PyTorch has a counter that knows nothing of (6.12):

# %%
from torch.utils.flop_counter import FlopCounterMode


# %%
def flop(net, *inputs):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(*inputs)
    return counter.get_total_flops()


# %%
assert flop(stack(halving), blank) < flop(stack(plain), blank) / 2  # section 1
for side in (4, 8, 16):
    N, x = side**2, torch.zeros(1, 24, side, side)
    assert flop(nn.Conv2d(24, 24, 3, padding=1), x) == 2 * 9 * 24 * 24 * N
    assert flop(Attend(24, heads=4), x) == 8 * 24**2 * N + 4 * 24 * N**2

# %%
sides = torch.tensor([4, 8, 16, 32, 64])
N, c = sides.double() ** 2, 24
pairs, mixing, conv = 4 * c * N**2, 8 * c**2 * N, 18 * c**2 * N
costs = {"attention, pairs": pairs, "attention, in all": pairs + mixing, "a convolution": conv}

# %%
alt = "FLOP against the picture's side: attention overtakes the convolution at about 8 pixels, is tenfold at 32."
picture = plot.curves(sides, costs, alt, "side of the picture", "FLOP, with 24 channels", xscale="log", yscale="log")
picture.axes[0].set_xticks(sides, [str(int(side)) for side in sides], minor=False)
picture.axes[0].minorticks_off()
picture

# %%
at_top, at_bottom = 4 * 24 * 1024**2, 4 * 96 * 16**2
print(f"pairs at 32 x 32, 24 channels: {at_top / 1e6:.0f} MFLOP; at 4 x 4, 96 channels: {at_bottom / 1e6:.1f}")

# %% [markdown]
# At full size the pairs alone would cost 101 MFLOP, more than twice as much as our whole network does (section 6). At
# the bottom, where 16 pixels are left, they cost a tenth of one MFLOP. That is why attention sits there, and only
# there.
#
# ## 5. Down, up, across
#
# **Fold.** The network's first act is to fold $2 \times 2$ pixels into channels. The same numbers, otherwise arranged,
# with a quarter of the positions:

# %%
def fold(x):
    """(B, C, H, W) -> (B, 4C, H/2, W/2), and nothing is lost."""
    B, C, H, W = x.shape
    blocks = x.reshape(B, C, H // 2, 2, W // 2, 2)
    return blocks.permute(0, 1, 3, 5, 2, 4).reshape(B, 4 * C, H // 2, W // 2)


# %%
x = clothes.tensor(slice(0, 3))
assert torch.equal(fold(x), F.pixel_unshuffle(x, 2))
assert torch.equal(F.pixel_shuffle(fold(x), 2), x)  # and back, without loss
wide, folded = nn.Conv2d(24, 24, 3, padding=1), torch.zeros(1, 24, 16, 16)
assert flop(wide, torch.zeros(1, 24, 32, 32)) == 4 * flop(wide, folded)

# %%
alt = "A boot of 32 x 32 pixels and the four pictures of 16 x 16 into which it is folded, hardly different."
quarters = F.interpolate(fold(x[:1])[0][:, None], scale_factor=2)
plot.images(torch.cat([x[:1], quarters]), alt, columns=5, titles=["picture", "channel 0", "1", "2", "3"])

# %% [markdown]
# All layers after it cost a quarter. (Folding further, by 4 or 8, and doing without levels, leads to the transformers
# of a later chapter.)
#
# **Down.** From level to level the picture is halved by a convolution with a $2 \times 2$ kernel and stride 2. Its
# windows do not overlap, so it is nothing but the fold and a matrix over the channels. **Up** is its mirror: a matrix
# over the channels, and unfold. PyTorch calls that a transposed convolution:
#
# $$ \mathrm{down} = \mathrm{conv}_{1\times1} \circ \mathrm{fold}, \qquad
# \mathrm{up} = \mathrm{fold}^{-1} \circ \mathrm{conv}_{1\times1} \tag{6.13} $$

# %%
downsample, upsample = nn.Conv2d(6, 10, 2, stride=2), nn.ConvTranspose2d(10, 6, 2, stride=2)
h, low = torch.randn(2, 6, 8, 8, generator=seeded(16)), torch.randn(2, 10, 4, 4, generator=seeded(17))
down_matrix = downsample.weight.flatten(1)[:, :, None, None]  # (10, 24, 1, 1)
assert torch.allclose(F.conv2d(fold(h), down_matrix, downsample.bias), downsample(h), atol=1e-5)

# %%
up_matrix = upsample.weight.flatten(1).T[:, :, None, None]  # (24, 10, 1, 1)
mixed = F.conv2d(low, up_matrix, upsample.bias.repeat_interleave(4))
assert torch.allclose(F.pixel_shuffle(mixed, 2), upsample(low), atol=1e-5)

# %% [markdown]
# Why "transposed"? With the same weights, the one is the other's transposed matrix: $\langle y, A x\rangle = \langle
# A^\top y, x\rangle$ for all $x$ and $y$. And the kernel must fit the stride. A kernel of 3 with stride 2 hits some
# outputs once, some twice and some four times, which leaves a chessboard in pictures (Odena et al. 2016):

# %%
there, back = F.conv2d(h, downsample.weight, stride=2), F.conv_transpose2d(low, downsample.weight, stride=2)
assert torch.isclose((low * there).sum(), (back * h).sum(), rtol=1e-4)
hits = {k: F.conv_transpose2d(torch.ones(1, 1, 8, 8), torch.ones(1, 1, k, k), stride=2) for k in (2, 3)}
print({f"kernel {k}": sorted({int(n) for n in hit[..., 2:-2, 2:-2].flatten()}) for k, hit in hits.items()})

# %% [markdown]
# **Across.** What is lost on the way down? Average a picture to fewer and fewer pixels, and see what of it can be
# brought back by the best matrix (least squares again, one matrix for each size):

# %%
x, y = clothes.tensor(slice(0, 4000)), unseen.tensor(slice(0, 500))
kept = {}
for side in (16, 8, 4):
    small, small_y = (with_one(F.adaptive_avg_pool2d(v, side).flatten(1)) for v in (x, y))
    matrix = torch.linalg.lstsq(small, x.flatten(1)).solution  # (side^2 + 1, 1024)
    kept[side] = (small_y @ matrix).view_as(y)
left = {side: float((back - y).square().mean()) for side, back in kept.items()}

# %%
alt = "Five pictures of clothes, and what is left of each after averaging to 16, 8 and 4 pixels a side."
plot.images(torch.cat([y[:5]] + [back[:5] for back in kept.values()]), alt, columns=5,
            titles=["whole"] * 5 + [f"from {side} x {side}" for side in kept for _ in range(5)])

# %%
noise_early = float(schedule.log_snr(0.1).neg().exp())  # what doing nothing costs at t = 0.1
assert left[4] > 3 * noise_early and left[8] > 2 * noise_early
print({f"{side} x {side}": f"error {e:.3f}" for side, e in left.items()}, f"noise at t = 0.1: {noise_early:.3f}")

# %% [markdown]
# From 4 by 4 pixels the outline comes back, but the error is more than three times the noise that is in $x_t$ at
# $t = 0.1$. Whoever saw no more than that would do better to leave such a picture alone.
#
# Our bottom has 96 channels, and 96 times 16 numbers could hold all 1,024 pixels. But the network would first have to
# *learn* such a code. So each level's features are handed across and laid beside what comes from below. The next
# convolution then sees both. On channels laid side by side a convolution is a sum of two, one on each half, so adding
# the two (as some networks do) is a special case, that of two equal halves of the kernel:

# %%
a, b, kernel = torch.randn(2, 6, 8, 8), torch.randn(2, 6, 8, 8), torch.randn(5, 12, 3, 3)
side_by_side = F.conv2d(torch.cat([a, b], 1), kernel, padding=1)
as_sum = F.conv2d(a, kernel[:, :6], padding=1) + F.conv2d(b, kernel[:, 6:], padding=1)
assert torch.allclose(side_by_side, as_sum, atol=1e-4)

# %% [markdown]
# ## 6. The whole
#
# All parts are there. Width 24 at the first level, twice that at the second and four times at the bottom; one block a
# level on each way; attention at the bottom. A head turns the last features into four channels and unfolds them.

# %%
class Parts(nn.Module):
    """All parts of a U-Net with w, 2w and 4w channels, told by vectors of 4w numbers."""

    def __init__(self, w=24, classes=10):
        super().__init__()
        self.embed, self.stem = TimeAndLabel(4 * w, classes), nn.Conv2d(4, w, 3, padding=1)
        self.down = nn.ModuleList(Residual(c, c, 4 * w) for c in (w, 2 * w))
        self.downsample = nn.ModuleList(nn.Conv2d(c, 2 * c, 2, stride=2) for c in (w, 2 * w))
        self.first, self.attention = Residual(4 * w, 4 * w, 4 * w), Attend(4 * w, heads=4)
        self.last = Residual(4 * w, 4 * w, 4 * w)
        self.upsample = nn.ModuleList(nn.ConvTranspose2d(2 * c, c, 2, stride=2) for c in (w, 2 * w))
        self.up = nn.ModuleList(Residual(2 * c, c, 4 * w) for c in (w, 2 * w))
        self.norm, self.head = PixelNorm(w), nn.Conv2d(w, 4, 3, padding=1)


# %%
class TinyUNet(Parts):
    """Pictures (B, 1, H, W), times (B,) and labels (B,) to pictures, by the parts of this chapter."""

    def forward(self, x, t, y):
        e, h = self.embed(t, y), self.stem(fold(x))  # (B, 4w), (B, w, H/2, W/2)
        fine = self.down[0](h, e)
        coarse = self.down[1](self.downsample[0](fine), e)  # (B, 2w, H/4, W/4)
        h = self.first(self.downsample[1](coarse), e)  # (B, 4w, H/8, W/8)
        h = self.last(self.attention(h), e)
        h = self.up[1](torch.cat([self.upsample[1](h), coarse], 1), e)
        h = self.up[0](torch.cat([self.upsample[0](h), fine], 1), e)
        return F.pixel_shuffle(self.head(F.silu(self.norm(h))), 2)  # (B, 1, H, W)


# %% [markdown]
# The package's network, with all its weights moved away from zero, and ours with the same weights:

# %%
from minidiff.nets.unet import UNet, UNetConfig

# %%
torch.manual_seed(0)
theirs, ours = shaken(UNet(UNetConfig())), TinyUNet()
copy_weights(theirs, ours)
x, t, y = clothes.tensor(slice(0, 4)), torch.tensor([0.02, 0.3, 0.7, 1.0]), torch.tensor([0, 3, 9, 10])
mine, wanted = ours(x, t, y), theirs(x, t, y)
assert (mine - wanted).abs().max() < 1e-4 * wanted.abs().max()

# %%
plot.show_source(UNet.forward)

# %% [markdown]
# The same network. From now on the package's. **How many weights?** By hand, with $c \to c'$ channels and an embedding
# of 96 numbers,
#
# $$ \begin{aligned}
# \mathrm{conv}_k(c, c') &= k^2 c\,c' + c', \qquad \mathrm{norm}(c) = 2c, \\
# \mathrm{block}(c, c') &= \mathrm{norm}(c) + \mathrm{conv}_3(c, c') + (96 + 1)\,2c' + \mathrm{norm}(c')
# + \mathrm{conv}_3(c', c') + [c \ne c']\;\mathrm{conv}_1(c, c')
# \end{aligned} \tag{6.14} $$
#
# where $[c \ne c']$ is 1 if the channels change, and else 0.

# %%
def conv_count(k, c, d):
    return k * k * c * d + d


def block_count(c, d):
    count = 2 * c + conv_count(3, c, d) + 97 * 2 * d + 2 * d + conv_count(3, d, d)
    return count + (conv_count(1, c, d) if c != d else 0)


# %%
embedding = 2 * conv_count(1, 96, 96) + 11 * 96
ends = conv_count(3, 4, 24) + 2 * 24 + conv_count(3, 24, 4)
ways = block_count(24, 24) + block_count(48, 48) + block_count(96, 48) + block_count(48, 24)
between = conv_count(2, 24, 48) + conv_count(2, 48, 96) + conv_count(2, 96, 48) + conv_count(2, 48, 24)
bottom = 2 * block_count(96, 96) + 2 * 96 + conv_count(1, 96, 288) + conv_count(1, 96, 96)

# %%
total = sum(p.numel() for p in theirs.parameters())
assert embedding + ends + ways + between + bottom == total == 639_772
work = flop(ours, x[:1], t[:1], y[:1]) / 1e6
print(f"{total:,} weights, {bottom / total:.0%} of them at the bottom; {work:.0f} MFLOP for a picture")

# %% [markdown]
# Nearly two thirds of the weights sit at the bottom, where only 16 pixels are left. Where does the *work* sit? **A
# shape trace:** a hook on each part writes down what comes out while a real batch passes through.

# %%
trace = []


def write_down(name):
    def hook(part, inputs, output):
        weights = sum(p.numel() for p in part.parameters())
        trace.append((name, tuple(output.shape[1:]), weights, flop(part.forward, *inputs) / len(output)))

    return hook


# %%
parts = {"stem": ours.stem, "down 0": ours.down[0], "downsample 0": ours.downsample[0], "down 1": ours.down[1],
         "downsample 1": ours.downsample[1], "first": ours.first, "attention": ours.attention, "last": ours.last,
         "upsample 1": ours.upsample[1], "up 1": ours.up[1], "upsample 0": ours.upsample[0], "up 0": ours.up[0],
         "head": ours.head}
hooks = [part.register_forward_hook(write_down(name)) for name, part in parts.items()]

# %%
ours(clothes.tensor(slice(0, 64)), torch.rand(64, generator=seeded(18)), clothes.y[:64])
for hook in hooks:
    hook.remove()

# %%
print("part             channels x size    weights   MFLOP")
for name, (c, side, _), weights, work in trace:
    indent = {16: "", 8: "  ", 4: "    "}[side]
    print(f"{indent + name:17}{c:3} x {side:2} x {side:2} {weights:13,} {work / 1e6:7.1f}")

# %%
bottom_rows = [part for part in trace if part[1][1] == 4]
of_weights, of_work = (sum(part[k] for part in bottom_rows) / sum(part[k] for part in trace) for k in (2, 3))
assert of_weights > 2 / 3 and of_work < 1 / 3
print(f"at 4 x 4: {of_weights:.0%} of these weights, {of_work:.0%} of the work")

# %%
alt = "The trace as a U: boxes step down from 16 to 4 pixels and up again, taller with more channels; dashes cross it."
picture, (ax,) = plot.figure(alt, width=9.8, height=4.2)
floor = {16: 2, 8: 1, 4: 0}
for i, (name, (c, side, _), *_) in enumerate(trace):
    ax.bar(i, c / 160, 0.85, bottom=floor[side], color=plot.COLOURS[floor[side]])
    ax.text(i, floor[side] + c / 160 + 0.05, f"{name}\n{c} x {side}²", ha="center", fontsize=8)
for start, end, level in ((1, 11, 2), (3, 9, 1)):
    ax.annotate("", (end, level), (start, level), arrowprops={
        "arrowstyle": "->", "linestyle": "--", "connectionstyle": "arc3,rad=0.06", "shrinkA": 2, "shrinkB": 2})
ax.set(xlim=(-0.8, 12.8), ylim=(-0.4, 2.6))
ax.set_axis_off()
picture

# %% [markdown]
# Read the table by columns. The blocks of the three levels cost the same, 5.3 MFLOP each: half as many pixels a side,
# twice as many channels, and $c^2 N$ stays what it was. But their *weights* grow by factors of 3.4 and 3.6. Going
# down is a way to own many weights without working much. (Up, a block sees twice the channels and costs more.)
#
# ### Day one
#
# A new network outputs zero, for its head starts at zero. What is then the guess? With $v$ as the target, $a = -\sigma$
# and $b = \alpha$ in (5.10), the determinant is one, and
#
# $$ \hat x_0 = \alpha\, x_t - \sigma\, v \quad\Rightarrow\quad
# \hat x_0 = \alpha\, x_t \ \text{ at the start} \tag{6.15} $$
#
# That is no bad guess: for data that are themselves standard normal noise it is the best there is.

# %%
from minidiff import Denoiser, Mixture

# %%
torch.manual_seed(0)
net = UNet(UNetConfig())
x_t = torch.randn(2, 1, 32, 32, generator=seeded(19))
for t in (0.0, 0.3, 1.0):
    assert torch.allclose(Denoiser(net, schedule)(x_t, t), schedule(t)[0].float() * x_t, atol=1e-6)

# %%
white, points = Mixture(torch.ones(1), torch.zeros(1, 1), torch.ones(1)), torch.randn(9, 1)
assert torch.allclose(white.denoise(points, 0.3, schedule), schedule(0.3)[0].float() * points, atol=1e-5)

# %% [markdown]
# *Predict: with the head at zero, which weights get a gradient in the first step of training?* A gradient that comes
# down through a layer is multiplied by that layer's weights. Follow it for three steps of plain gradient descent, and
# write down which parameters hear anything:

# %%
from minidiff import denoising_loss

# %%
x_0, y = clothes.tensor(slice(0, 22)), torch.arange(22) % 11
t, eps = torch.linspace(0.05, 1, 22), torch.randn(22, 1, 32, 32, generator=seeded(20))


def hearing(net):
    """Names of the parameters that get a gradient; then a step down it."""
    denoising_loss(Denoiser(net, schedule), x_0, eps, t, schedule, y).mean().backward()
    names = {name for name, p in net.named_parameters() if p.grad.any()}
    torch.optim.SGD(net.parameters(), lr=0.1).step()
    net.zero_grad(set_to_none=False)
    return names


# %%
torch.manual_seed(0)
net = UNet(UNetConfig())
heard, everyone = [hearing(net) for _ in range(3)], {name for name, _ in net.named_parameters()}
print([f"step {k + 1}: {len(names)} of {len(everyone)}" for k, names in enumerate(heard)])

# %%
assert heard[0] == {"head.0.weight", "head.0.bias"} and heard[2] == everyone
deaf = {"embed" if name.startswith("embed") else name.split(".")[-2] for name in everyone - heard[1]}
print("in step 2 still deaf:", ", ".join(sorted(deaf)))

# %% [markdown]
# In the first step the head alone. In the second, whatever has an open way to it: the stem, the ways down and up, and
# the zero_init convolutions, for they *see* something, even if they add nothing. What lies behind those, the first
# convolutions, the norms inside the blocks, query, key and value, time and label, hears nothing until the third. From
# then on the gradient reaches every parameter, which is worth a check in any network one writes.
#
# Two more checks of that kind. The weights must move when the network is moved to another number format or device,
# *with everything that takes part*:

# %%
from minidiff.training import best_device

# %%
x, t, y = clothes.tensor(slice(0, 4)), torch.tensor([0.02, 0.3, 0.7, 1.0]), torch.tensor([0, 3, 9, 10])
net = shaken(UNet(UNetConfig()))
here, scale = net(x, t, y), net(x, t, y).abs().max()
there = net.to(best_device())(*(z.to(best_device()) for z in (x, t, y))).cpu()
assert (here - there).abs().max() < 1e-2 * scale

# %%
fine = net.cpu().double()(x.double(), t.double(), y)
assert fine.dtype == torch.float64 and (here - fine).abs().max() < 1e-3 * scale

# %% [markdown]
# ## 7. Errors you will meet
#
# **1. The wrong shape.** The sizes that fit are those that can be halved all the way down, the multiples of 8 here. The
# package says so, and says what came instead, before anything is computed:

# %%
from minidiff.app.generate import generate

net, half = UNet(UNetConfig()), torch.full((2,), 0.5)
wrong = {
    "28 x 28": lambda: net(torch.zeros(2, 1, 28, 28), half),
    "three channels": lambda: net(torch.zeros(2, 3, 32, 32), half),
    "one time for all": lambda: net(torch.zeros(2, 1, 32, 32), torch.tensor(0.5)),
    "label 11": lambda: generate(Denoiser(net, Cosine()), torch.tensor([3, 11]), (1, 32, 32)),
    "labels as floats": lambda: net(torch.zeros(2, 1, 32, 32), half, torch.tensor([3.0, 1.0])),
}

# %%
for what, call in wrong.items():
    try:
        call()
    except ValueError as error:
        print(f"{what}: {error}")

# %% [markdown]
# Fashion-MNIST comes in 28 by 28 pixels. Pad it to 32, and cut the frame off again in the end. But with what? The habit
# `F.pad(x, (2, 2, 2, 2))` fills in zeros, and in $[-1, 1]$ *zero is grey*: the network then has to learn to draw a grey
# frame around each black background. Black is $-1$:

# %%
raw = unseen.tensor()[:, :, 2:-2, 2:-2]  # 28 x 28, as they come
assert torch.equal(F.pad(raw, [2] * 4, value=-1.0), unseen.tensor()) and F.pad(raw, [2] * 4)[:, :, 0].max() == 0

# %% [markdown]
# **2. Steps for times, or times for steps.** The network takes any number for a time. Give it the step 500 instead of
# 0.5, and the waves turn a thousand times too far: no error, only nonsense. A schedule notices, for it knows where
# time ends. The other way round is worse, as nothing can notice it: times in $[0, 1]$ into waves that were made
# for steps. Then even the fastest wave turns by a single radian on the whole walk, and *all* times are nearly alike:

# %%
net(torch.zeros(2, 1, 32, 32), torch.full((2,), 500.0))  # not a word
try:
    add_noise(torch.zeros(2, 1, 32, 32), torch.zeros(2, 1, 32, 32), torch.full((2,), 500.0), schedule)
except ValueError as error:
    print(error)

# %%
data_end, noise_end = timestep_embedding(torch.tensor([0.0, 1.0]) / 1000, 96)  # waves for steps, given t
right_ends = timestep_embedding(torch.tensor([0.0, 1.0]), 96)
likeness_of_ends = data_end @ noise_end / 48, right_ends[0] @ right_ends[1] / 48
assert likeness_of_ends[0] > 0.95 and likeness_of_ends[1] < 0.3
print("likeness of both ends of the walk: {:.2f}, and as it should be: {:.2f}".format(*likeness_of_ends))

# %% [markdown]
# **3. A layer made in `forward`.** A popular course makes the $1\times1$ convolution of its skip inside `forward`, when
# the channels turn out to differ. It runs, and even trains. But that layer is new and random at each call, in no list
# of parameters, and no optimiser ever sees it. Two questions unmask it: how many weights are there, and is the answer
# twice the same?

# %%
class MadeInForward(nn.Module):
    def __init__(self, c_in, c):
        super().__init__()
        self.c, self.conv = c, nn.Conv2d(c_in, c, 3, padding=1)

    def forward(self, h):
        return nn.Conv2d(h.shape[1], self.c, 1)(h) + self.conv(h)


# %%
broken, h = MadeInForward(4, 8), torch.randn(1, 4, 8, 8, generator=seeded(22))
missing = conv_count(3, 4, 8) + conv_count(1, 4, 8) - sum(p.numel() for p in broken.parameters())
assert missing == conv_count(1, 4, 8) and not torch.allclose(broken(h), broken(h), atol=0.01)
assert torch.equal(net(x, t, y), net(x, t, y))  # the package's

# %% [markdown]
# **4. A tensor that stays behind.** The frequencies of the waves kept as a plain attribute do not move with the module,
# and on a GPU the first call fails (on the CPU, all seems well). A *buffer* moves. The package computes them afresh,
# on the device of the time it is given.

# %%
class Waves(nn.Module):
    def __init__(self):
        super().__init__()
        self.plain = torch.ones(8)
        self.register_buffer("buffer", torch.ones(8))


moved = Waves().double()
assert moved.plain.dtype == torch.float32 and moved.buffer.dtype == torch.float64

# %% [markdown]
# **5. `reshape` where a transpose was meant.** Pixels `(B, c, HW)` have to become `(B, HW, c)` for attention. `reshape`
# gives the right shape and mixes channels with positions; nothing complains, and the network even learns around it. The
# check is (6.11): such an attention does not commute with a shuffle.

# %%
class Reshaped(Attend):
    def forward(self, h):
        B, c, H, W = h.shape
        q, k, v = self.qkv(self.norm(h)).reshape(B, H * W, 3 * c).chunk(3, dim=2)  # should be .flatten(2).mT
        return h + self.out(attend(q, k, v).mT.reshape(B, c, H, W))


# %%
h = torch.randn(2, 16, 8, 8, generator=seeded(23))
stray = {}
for each in (Attend(16, 4), Reshaped(16, 4)):
    stray[type(each).__name__] = float((each(shuffle(h)) - shuffle(each(h))).abs().max().detach())
assert stray["Attend"] < 1e-5 and stray["Reshaped"] > 0.01

# %% [markdown]
# ## 8. What each part buys
#
# Now take the parts out again, one at a time. First live, the one that matters most. *Predict: without the connections
# across, will the network be worse at little noise, at much noise, or at both?* So that the number of weights stays the
# same, the way up gets its own features twice, in place of those handed across. A hook before each upper block does it,
# and training is the package's recipe (chapter 07 takes it apart), 100 steps:

# %%
from minidiff.training import TrainConfig, TrainState, train


# %%
def own_features_twice(block, inputs):
    h, e = inputs
    from_below = h.chunk(2, dim=1)[0]
    return torch.cat([from_below, from_below], 1), e


# %%
def trained(skips, steps=100):
    torch.manual_seed(0)
    net = UNet(UNetConfig())
    for blocks in [] if skips else net.up:
        blocks[0].register_forward_pre_hook(own_features_twice)
    training = TrainState(Denoiser(net, schedule), TrainConfig(seed=0))
    for _ in train(training, clothes, steps=steps):
        pass
    return training.ema.module


# %% tags=["slow"]
young = {"whole": trained(skips=True), "no skips": trained(skips=False)}

# %%
from minidiff import target, weight

# %%
x_0, y = unseen.tensor(slice(0, 200)), unseen.y[:200]
eps = torch.randn(x_0.shape, generator=seeded(24))


@torch.no_grad()
def loss_at(denoiser, t):
    """The loss of training, (5.11) with the weight of v, on unseen pictures at one time."""
    losses = denoising_loss(denoiser, x_0, eps, torch.full((200,), t), schedule, y)
    return float(weight("v", t, schedule) * losses.mean())


# %%
v = target("v", x_0, eps, 0.4, schedule)
guess = young["whole"].net(add_noise(x_0, eps, 0.4, schedule), torch.full((200,), 0.4), y)
assert abs(loss_at(young["whole"], 0.4) / (guess - v).square().mean() - 1) < 1e-3  # plain squared error of v

# %%
spots = (0.05, 0.1, 0.2, 0.4, 0.7, 0.95)
by_time = {name: torch.tensor([loss_at(net, t) for t in spots]) for name, net in young.items()}
assert by_time["whole"][1] < 0.8 * by_time["no skips"][1] and by_time["whole"][2] < 0.7 * by_time["no skips"][2]
assert by_time["no skips"][5] < 1.2 * by_time["whole"][5]

# %%
alt = "After 100 steps the whole network is far better at little noise; at much noise both are alike."
plot.curves(torch.tensor(spots), by_time, alt, "t", "loss on unseen pictures")

# %% [markdown]
# At little noise the network without skips has learned next to nothing after 100 steps: its loss is still near that of
# answering $v = 0$, about one. It must first learn to send a picture through the bottom and back. At the noisy end,
# where nobody needs fine detail, it is as good as the other. The connections across are what section 1 asked for, and
# they pay wherever some pixels can still be trusted.
#
# The rest takes longer than a notebook should. `tools/ablate_unet.py` trained the whole network and six variants,
# 600 steps each, with two seeds; its numbers ship with the course.
# Each keeps the number of weights, as far as that is possible:
#
# | variant | what was done |
# |---|---|
# | no skips | as above |
# | no time | the network is always told $t = 0.5$ |
# | bare time | the time as one number instead of waves |
# | no attention | two $1\times1$ convolutions in its place (96 weights fewer) |
# | no zero-init | the zero_init layers start like all others |
# | no levels | four blocks in a row at $16 \times 16$, no attention: nearly the same work, a quarter of the weights |
#
# Each network is judged by its loss on unseen pictures, and by 500 pictures that it draws in 25 steps with guidance
# $w = 2$ (chapter 09): their Fréchet distance from 1,500 real ones, and how often the shipped classifier reads the
# label that was asked for. *Predict: put the variants in order, before you look.*

# %%
import json

ablation = json.loads(shipped("ablation-unet.json").read_text(encoding="utf-8"))
about = ablation["about"]
print(f"{about['steps']} steps of {about['recipe']['batch_size']} pictures each, on {about['machine']}")


# %%
def results(variant, pick):
    """One number for each seed."""
    return torch.tensor([pick(run) for run in ablation["runs"] if run["variant"] == variant])


# %%
variants = list(dict.fromkeys(run["variant"] for run in ablation["runs"]))
measures = {"loss on unseen pictures": lambda run: run["loss"],
            "Fréchet distance": lambda run: run["guidance 2"]["frechet"],
            "label read right": lambda run: run["guidance 2"]["label_accuracy"]}

# %%
print("              weights  MFLOP    loss  Fréchet  read right   (mean of the seeds)")
for variant in variants:
    weights, work = (round(float(results(variant, lambda run, key=key: run[key])[0])) for key in ("weights", "mflop"))
    loss, distance, right = (float(results(variant, pick).mean()) for pick in measures.values())
    print(f"{variant:13} {weights:8,} {work:6} {loss:7.3f} {distance:8.1f} {right:10.0%}")
real = ablation["real"]
print(f"{'real pictures':38}{real['frechet']:6.1f} {real['label_accuracy']:10.0%}")

# %%
alt = "Bars for seven variants, a dot a seed: only no skips and no levels draw much worse than the whole."
picture, axes = plot.figure(alt, 3, width=9.8, height=3.4)
for ax, (title, pick) in zip(axes, measures.items(), strict=True):
    both = torch.stack([results(variant, pick) for variant in variants])  # (variants, seeds)
    ax.barh(variants, both.mean(1), color=[plot.COLOURS[0]] + [plot.COLOURS[5]] * (len(variants) - 1))
    ax.plot(both, variants, "k.", markersize=5)
    ax.set(title=title)
    ax.invert_yaxis()
    ax.tick_params(labelleft=ax is axes[0])
for ax, score in zip(axes[1:], ("frechet", "label_accuracy"), strict=True):
    ax.axvline(real[score], color="k", linestyle="--", linewidth=0.8)  # of real pictures
picture

# %%
base = results("whole", lambda run: run["loss_by_time"]).mean(0)  # ten parts of [0, 1]
alt = "Loss over time of each variant, divided by that of the whole network."
picture, (ax,) = plot.figure(alt, height=3.6, width=8)
for variant in variants[1:]:
    ratio = results(variant, lambda run: run["loss_by_time"]).mean(0) / base
    ax.plot(torch.arange(10) / 10 + 0.05, ratio, ".-", label=variant)
ax.axhline(1, color="k", linewidth=0.8)
ax.set(xlabel="t", ylabel="loss, relative to the whole network")
ax.legend(ncols=2)
picture

# %%
def against_whole(variant, pick):
    """One number for each seed, divided by that of the whole network with the same seed."""
    return results(variant, pick) / results("whole", pick)


def loss_between(start, stop):
    return lambda run: torch.tensor(run["loss_by_time"][start:stop]).mean()  # tenths of [0, 1]


loss, distance, right = measures.values()

# %% [markdown]
# (Dots: the two seeds. Dashed: real pictures. The lines are means of both seeds.)
#
# **Skips and levels are worth the most, each on its own side.** Without skips the loss between $t = 0.1$ and $0.5$ is
# higher by two fifths with one seed, and more than doubled with the other (presumably it hangs on when a way through
# the bottom is found); in the cleanest tenth it is higher by a fifth and by a half. In the noisiest tenth it is the
# same, to two per cent.
# Without levels it is the mirror image. At the clean end the plain row of blocks is
# *better* than the U-Net, for it spends all its work on fine detail; towards noise it is worse. And both draw badly:

# %%
assert (against_whole("no skips", loss_between(1, 5)) > torch.tensor([1.35, 2.0])).all()
assert (against_whole("no skips", loss_between(9, 10)) < 1.08).all()
assert (against_whole("no levels", loss_between(0, 2)) < 0.98).all()
assert (against_whole("no levels", loss_between(6, 9)) > 1.1).all()

# %%
assert (torch.stack([against_whole(name, distance) for name in ("no skips", "no levels")]) > 2).all()
assert (results("no levels", right) < 0.8).all() and (results("whole", right) > 0.88).all()
assert (against_whole("no levels", loss) < 1.07).all() and (against_whole("no skips", loss) > 1.15).all()

# %% [markdown]
# Mind *no levels*. *Averaged* over all $t$, the network without levels has a loss only a few per cent above that of
# the whole, and draws pictures more than twice as far from real ones. A mean loss would have told you that levels
# hardly matter. (Chapter 05, section 3, had the same warning, there from the clean end.)
#
# **The time is worth about a twentieth of the loss,** at all levels of noise alike, and as a bare number it is only a
# little better than none. In the pictures drawn with guidance 2 no difference stands out from that between the seeds.
# Without guidance ($w = 1$) it does: told no time, the network has five labels in a hundred fewer read right, and its
# pictures are a sixth further from real ones (Fréchet).
#
# **Attention and zero-init are worth nothing here.** Honestly so: less than two per cent of the loss, either way. That
# does not make them useless. Our network has six blocks, and zero-init is made for dozens. At 4 by 4 pixels two
# blocks of convolutions see all there is (exercise 1), so attention has nothing to add that they could not; where
# pictures are larger and what belongs together lies further apart, that is different. What a part buys depends on the
# rest, on the data and on the budget. The package keeps both, for bigger networks and because they cost next to
# nothing.

# %%
assert all((1.02 < against_whole(name, loss)).all() and (against_whole(name, loss) < 1.09).all()
           for name in ("no time", "bare time"))
assert all((against_whole(name, loss) - 1).abs().max() < 0.02 for name in ("no attention", "no zero-init"))
assert all((against_whole(name, distance) - 1).abs().max() < 0.3
           for name in ("no time", "bare time", "no attention", "no zero-init"))

# %%
plain_right = {name: results(name, lambda run: run["guidance 1"]["label_accuracy"]) for name in ("whole", "no time")}
assert plain_right["no time"].max() < plain_right["whole"].min() - 0.03
assert (against_whole("no time", lambda run: run["guidance 1"]["frechet"]) > 1.1).all()

# %% [markdown]
# ### Why the time is worth so little
#
# The level of the noise can be *seen*. Our pictures have a black frame of two pixels, 240 pixels that are $-1$ in
# $x_0$. In $x_t$ their mean is $-\alpha$ and their standard deviation $\sigma$. That is the time:

# %%
frame = torch.ones(32, 32, dtype=torch.bool)
frame[2:-2, 2:-2] = False
t = torch.rand(2000, generator=seeded(25))
x_t = add_noise(unseen.tensor(), torch.randn(2000, 1, 32, 32, generator=seeded(26)), t, schedule)

# %%
on_frame = x_t[:, 0, frame]  # (2000, 240)
read_off = torch.atan2(on_frame.std(1), -on_frame.mean(1)) * 2 / torch.pi  # sigma / alpha = tan(pi t / 2)
assert (read_off - t).abs().mean() < 0.03

# %% [markdown]
# And without a frame? Inside, look at the finest detail, $d = \frac12(x_{i,j} - x_{i+1,j} - x_{i,j+1} + x_{i+1,j+1})$.
# Noise gives it the variance $\sigma^2$; clothes, which are smooth, only $\alpha^2 \tau$ with a small $\tau$. From
# $\mathrm{var}(d) = \sigma^2 + \alpha^2 \tau$ follows $\sigma$:

# %%
def fine_detail(x):
    x = x[:, 0, 2:-2, 2:-2]
    return ((x[:, 1:, 1:] - x[:, :-1, 1:] - x[:, 1:, :-1] + x[:, :-1, :-1]) / 2).square().mean((1, 2))


tau = fine_detail(clothes.tensor(slice(0, 2000))).mean()  # of clean training pictures
variance = ((fine_detail(x_t) - tau) / (1 - tau)).clamp(0, 1)
from_inside = torch.asin(variance.sqrt()) * 2 / torch.pi

# %%
off = {"from the frame": (read_off - t).abs().mean(), "from the inside": (from_inside - t).abs().mean()}
assert off["from the inside"] < 0.06 and abs((from_inside - t)[t < 0.4].mean()) < 0.015
print({name: f"{error:.3f}" for name, error in off.items()})

# %%
alt = "Two clouds of dots along the diagonal: the time read off the frame and off the inside, over the true time."
picture, axes = plot.figure(alt, 2, width=7.5, height=3.6)
for ax, guess, title in zip(axes, (read_off, from_inside), off, strict=True):
    ax.plot(t, guess, ".", markersize=2)
    ax.set(title=title, xlabel="t", ylabel="t, read off $x_t$")
picture

# %% [markdown]
# A few hundredths of the walk, with two lines of arithmetic and no learning; a network can do better. (Sun et al. 2025
# take the time away from several well-known models. Most lose little; a few, sampled without noise, fail.)
# So what the time says is mostly known already.
# That does not mean that a network which was told does not listen. Show the shipped model pictures at $t = 0.5$, and
# lie:

# %%
x_t, v = add_noise(x_0, eps, 0.5, schedule), target("v", x_0, eps, 0.5, schedule)


@torch.no_grad()
def told(t):
    return (denoiser.net(x_t, torch.full((200,), t), y) - v).square().mean()


# %%
lies = torch.linspace(0.3, 0.7, 9)
believed = torch.stack([told(float(t)) for t in lies])
assert 3 <= believed.argmin() <= 5 and min(believed[0], believed[-1]) > 1.5 * believed[4]

# %%
alt = "The loss at t = 0.5 is least if the network is told 0.5, and rises on both sides."
plot.curves(lies, {"shipped model": believed}, alt, "time that it is told (true: 0.5)", "loss")

# %% [markdown]
# It believes what it is told. A part that can be done without is still used where it is there, which is one more reason
# not to look for the worth of a part in a network that has it.
#
# ## Exercises
#
# **1. Pen.** (a) How many weights has a block (6.9) with $c$ channels in and out and an embedding of $m$ numbers? (b)
# Double $c$ and halve the picture's sides. What happens to the weights, and what to the FLOP of its convolutions? (c)
# The receptive field on the way *down* our U-Net, up to the last block at the bottom: the fold counts as a kernel of 2
# with stride 2. Can every pixel there see the whole picture of 32 by 32, even without attention?
#
# <details><summary>Answer</summary>
#
# (a) $18c^2 + 2c$ for two convolutions, $4c$ for two norms, $2c(m+1)$ for the linear layer: $18c^2 + 2cm + 8c$. (b)
# About four times the weights (the $c^2$), the same FLOP: $4 c^2$ times $N/4$. (c) Fold and stem: $r = 2 + 2 \cdot 2 =
# 6$, $j = 2$. Each block adds $4j$: 14; halving adds $j$: 16, $j = 4$. Block 32, halving 36, $j = 8$, two blocks 100. A
# pixel in one corner needs $2 \cdot 31 + 1 = 63$: yes.
#
# </details>

# %% tags=["answer"]
c, m = 48, 96
assert block_count(c, c) == 18 * c**2 + 2 * c * m + 8 * c
block, halve = [(3, 1), (3, 1)], [(2, 2)]
assert receptive_field(halve + [(3, 1)] + block + halve + block + halve + block + block) == 100 > 63

# %% [markdown]
# **2. Code.** Write `modulate(h, e, kernel, bias)`: the middle of (6.9), with what comes out of the norm as $h$. Apply a
# SiLU to $e$, then the linear layer with the matrix `kernel` and `bias`. The first $c$ of the $2c$ numbers that it
# makes for each picture are the scale, the others the shift. Give $(1 + \mathrm{scale}) \odot h + \mathrm{shift}$:
# each channel has one scale and one shift, the same at all pixels. (`F.silu` is PyTorch's SiLU.)

# %%
from minidiff.course import check


# %%
def modulate(h, e, kernel, bias):
    """h (B, c, H, W), e (B, m), kernel (2c, m), bias (2c,) -> (B, c, H, W)."""
    ### BEGIN SOLUTION
    scale, shift = (F.silu(e) @ kernel.T + bias)[:, :, None, None].chunk(2, dim=1)
    return (1 + scale) * h + shift
    ### END SOLUTION


# %%
def one_by_one(h, e, kernel, bias):
    out, c = torch.empty_like(h), h.shape[1]
    for b, i in torch.cartesian_prod(torch.arange(len(h)), torch.arange(c)):
        scale, shift = (kernel[k] @ (e[b] / (1 + torch.exp(-e[b]))) + bias[k] for k in (i, c + i))
        out[b, i] = h[b, i] + scale * h[b, i] + shift
    return out


draws = seeded(27)
inputs = [[torch.randn(shape, generator=draws) for shape in ((B, c, 5, 7), (B, m), (2 * c, m), (2 * c,))]
          for B, c, m in ((2, 4, 3), (3, 1, 6))]
h, e, kernel, bias = inputs[0]
inputs.insert(0, [h, e, 0 * kernel, torch.tensor([1.0] * 4 + [0.0] * 4)])  # scale 1, shift 0: h, doubled
check(modulate, one_by_one, inputs,
      hint="with kernel and bias zero, h must come out as it went in; scale and shift are (B, c, 1, 1) each")

# %% [markdown]
# **3. Open.** What would *you* take out, or put in? Attention at $8 \times 8$ too? Skips that are added instead of laid
# side by side? GroupNorm? `operated` trains a U-Net after your surgery (a function that changes the network it is
# given) and prints its weights, its work and its loss at all `spots`. Compare with `by_time["whole"]` after 100 steps.
# Keep the number of weights, or the FLOP, the same, and say which. Then take other seeds, for the whole network too: a
# finding is a difference that is larger than those between seeds. (One step, to see that it runs:)

# %%
def operated(surgery, steps=100, seed=0):
    torch.manual_seed(seed)
    net = UNet(UNetConfig())
    surgery(net)
    training = TrainState(Denoiser(net, schedule), TrainConfig(seed=seed))
    for _ in train(training, clothes, steps=steps):
        pass
    work = flop(net, torch.zeros(1, 1, 32, 32), torch.zeros(1)) / 1e6
    losses = [f"{loss_at(training.ema.module, t):.3f}" for t in spots]
    print(f"{sum(p.numel() for p in net.parameters()):,} weights, {work:.1f} MFLOP; loss", *losses)


# %%
def without_attention(net):
    net.middle[1] = nn.Identity()


# %% tags=["nbval-ignore-output"]
operated(without_attention, steps=1)

# %% [markdown]
# ## What to keep
#
# - A denoiser works at two scales: single pixels at little noise, the whole picture at much (6.1). Going down makes the
#   receptive field grow by doubling (6.2); connections across carry the detail.
# - Waves make every scale of time visible; likeness falls by 0.25 for each power of ten (6.4). A label is a row of
#   a table (6.5).
# - A residual block is the identity plus a change that starts at zero; the time scales and shifts its channels (6.9).
# - Attention lets all pixels talk (6.10), knows no positions (6.11), and costs the square of their number (6.12): few
#   pixels, at the bottom.
# - Weights sit at the bottom and work is spread evenly; a new network answers $\hat x_0 = \alpha x_t$ (6.15).
# - Skips pay at little and middling noise, levels at much, and both in the pictures; the time is worth less than one
#   would think, as it can be read off $x_t$. A mean loss hides much of that.
# - Take a part out to learn what it is worth, keep all else equal, use more than one seed, and believe the small
#   differences last.
#
# The network stands. Next it is trained, for minutes and not for seconds: the loop, its average of weights, and the
# first pictures of our own.
