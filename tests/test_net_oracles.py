"""The networks' arithmetic and wiring against slow forwards, written here from the formulas and the weights' names.

Everything is computed sample by sample, attention place by place and head by head; strided convolutions and pixel
folding are slices. Weights are random everywhere, so that nothing is silenced by an initialisation with zeros.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from minidiff.nets.autoencoder import Autoencoder, AutoencoderConfig
from minidiff.nets.layers import Attention, CrossAttention, dot_product_attention
from minidiff.nets.mlp import MLP, MLPConfig
from minidiff.nets.text import TextConfig, TextEncoder
from minidiff.nets.unet import UNet, UNetConfig, position_encoding

CLOSE = {"rtol": 1e-9, "atol": 1e-9}


def rand(*shape, seed=0, dtype=torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def randomised(net: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """The network in float64 with all weights random, about as large as at a usual start."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            fan_in = math.prod(p.shape[1:]) if p.ndim > 1 else 4
            p.copy_(torch.randn(p.shape, generator=generator) / fan_in**0.5)
    return net.double().eval()


class Weights:
    """The weights of a network by their names below a prefix, and the slow layers that use them."""

    def __init__(self, net: torch.nn.Module | dict, prefix: str = ""):
        self.state = net if isinstance(net, dict) else net.state_dict()
        self.prefix = prefix

    def __getitem__(self, name: str) -> Tensor:
        return self.state[self.prefix + name]

    def __contains__(self, name: str) -> bool:
        return any(key.startswith(self.prefix + name + ".") for key in self.state)

    def __truediv__(self, name: str) -> "Weights":
        return Weights(self.state, f"{self.prefix}{name}.")

    def linear(self, name: str, v: Tensor) -> Tensor:
        """W v + b of each row of v (N, d)."""
        return torch.stack([self[f"{name}.weight"].flatten(1) @ row + self[f"{name}.bias"] for row in v])

    def norm(self, name: str, v: Tensor) -> Tensor:
        """Each row of v (N, d) with mean 0 and variance 1, times a weight, plus a bias."""
        centred = v - v.mean(1, keepdim=True)
        return (
            centred / ((centred**2).mean(1, keepdim=True) + 1e-5) ** 0.5 * self[f"{name}.weight"] + self[f"{name}.bias"]
        )

    def pixel_norm(self, name: str, h: Tensor) -> Tensor:
        return picture(self.norm(name, pixels(h)), h.shape)

    def conv(self, name: str, h: Tensor) -> Tensor:
        """A convolution (c, H, W) -> (d, H, W) as a sum over the kernel's places."""
        weight, (height, width) = self[f"{name}.weight"], h.shape[1:]
        k = weight.shape[2] // 2
        h = F.pad(h, (k, k, k, k))
        places = [(i, j) for i in range(2 * k + 1) for j in range(2 * k + 1)]
        parts = [
            torch.einsum("dc,chw->dhw", weight[:, :, i, j], h[:, i : i + height, j : j + width]) for i, j in places
        ]
        return sum(parts) + self[f"{name}.bias"][:, None, None]

    def halve(self, name: str, h: Tensor) -> Tensor:
        """A 2x2 convolution of stride 2: each place of the kernel sees every other pixel."""
        weight = self[f"{name}.weight"]  # (d, c, 2, 2)
        parts = [weight[:, :, i, j] @ h[:, i::2, j::2].flatten(1) for i in (0, 1) for j in (0, 1)]
        return (sum(parts) + self[f"{name}.bias"][:, None]).view(-1, h.shape[1] // 2, h.shape[2] // 2)

    def double(self, name: str, h: Tensor) -> Tensor:
        """A 2x2 transposed convolution of stride 2: each pixel becomes four."""
        weight = self[f"{name}.weight"]  # (c, d, 2, 2)
        out = h.new_zeros(weight.shape[1], 2 * h.shape[1], 2 * h.shape[2])
        for i in (0, 1):
            for j in (0, 1):
                out[:, i::2, j::2] = torch.einsum("cd,chw->dhw", weight[:, :, i, j], h)
        return out + self[f"{name}.bias"][:, None, None]


def pixels(h: Tensor) -> Tensor:
    """(c, H, W) to rows (HW, c)."""
    return torch.stack([h[:, i, j] for i in range(h.shape[1]) for j in range(h.shape[2])])


def picture(rows: Tensor, shape: torch.Size) -> Tensor:
    return rows.T.reshape(-1, *shape[1:])


def silu(v: Tensor) -> Tensor:
    return v / (1 + torch.exp(-v))


def fold(x: Tensor, p: int) -> Tensor:
    """(c, H, W) to (c p p, H/p, W/p): channel by channel, row by row of a patch."""
    return torch.stack([x[c, i::p, j::p] for c in range(len(x)) for i in range(p) for j in range(p)])


def unfold(x: Tensor, p: int) -> Tensor:
    out = x.new_zeros(len(x) // p**2, p * x.shape[1], p * x.shape[2])
    for k, channel in enumerate(x):
        out[k // p**2, k % p**2 // p :: p, k % p :: p] = channel
    return out


def slow_attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """What each of N queries (N, c) finds among M keys and values (M, c), head by head."""
    out, d = torch.zeros(len(q), v.shape[1], dtype=q.dtype), q.shape[1] // heads
    for head in range(heads):
        part = range(head * d, head * d + d)
        for n in range(len(q)):
            scores = [sum(q[n, i] * k[m, i] for i in part) / math.sqrt(d) for m in range(len(k))]
            total = sum(math.exp(score) for score in scores)
            for m, score in enumerate(scores):
                for i in part:
                    out[n, i] += math.exp(score) / total * v[m, i]
    return out


def self_attention(w: Weights, h: Tensor) -> Tensor:
    """(6.10) on a feature map (c, H, W), with 4 heads."""
    rows, c = pixels(w.pixel_norm("norm", h)), len(h)
    q, k, v = w.linear("qkv", rows).split(c, dim=1)
    return h + picture(w.linear("out", slow_attention(q, k, v, 4)), h.shape)


def cross_attention(w: Weights, h: Tensor, words: Tensor) -> Tensor:
    """(12.3): pixels of (c, H, W) look at words (L, D), with 4 heads."""
    q = w.linear("q", pixels(w.pixel_norm("norm", h)))
    k, v = w.linear("kv", words).split(len(h), dim=1)
    return h + picture(w.linear("out", slow_attention(q, k, v, 4)), h.shape)


def time_and_label(w: Weights, t: float, label: int) -> Tensor:
    """(6.5): a vector (D,)."""
    half = w["label.weight"].shape[1] // 2
    angles = [1000 * t / 10000 ** (i / half) for i in range(half)]
    waves = torch.tensor([math.cos(a) for a in angles] + [math.sin(a) for a in angles], dtype=torch.float64)
    return w.linear("time.2", silu(w.linear("time.0", waves[None])))[0] + w["label.weight"][label]


def read_prompt(w: Weights, tokens: list[int], heads: int) -> Tensor:
    """(12.1): vectors (L, width) of a prompt, padded with token 0."""
    length = len(w["position.weight"])
    padded = tokens + [0] * (length - len(tokens))
    x = torch.stack([w["token.weight"][k] + w["position.weight"][j] for j, k in enumerate(padded)])
    for layer in range(sum(f"blocks.{n}" in w for n in range(9))):
        b = w / f"blocks.{layer}"
        q, k, v = b.linear("qkv", b.norm("norm1", x)).split(x.shape[1], dim=1)
        x = x + b.linear("out", slow_attention(q, k, v, heads))
        wide = b.linear("fc1", b.norm("norm2", x))
        x = x + b.linear("fc2", wide * (1 + torch.erf(wide / 2**0.5)) / 2)
    return w.norm("norm", x)


def res_block(w: Weights, h: Tensor, emb: Tensor) -> Tensor:
    """(6.9) on (c, H, W)."""
    scale, shift = w.linear("modulation", silu(emb)[None])[0].chunk(2)
    u = w.pixel_norm("norm2", w.conv("conv1", silu(w.pixel_norm("norm1", h))))
    u = w.conv("conv2", silu(u + scale[:, None, None] * u + shift[:, None, None]))
    return (w.conv("skip", h) if "skip" in w else h) + u


def waves_of_places(height: int, width: int) -> Tensor:
    """(12.6), one number at a time: (16, H, W)."""
    out = torch.zeros(16, height, width, dtype=torch.float64)
    for i in range(height):
        for j in range(width):
            for n, position in enumerate(((j + 0.5) / width, (i + 0.5) / height)):  # x, then y
                for f, frequency in enumerate((0.5, 1, 2, 4)):
                    out[4 * n + f, i, j] = math.cos(math.pi * frequency * position)
                    out[8 + 4 * n + f, i, j] = math.sin(math.pi * frequency * position)
    return out


def block(w: Weights, h: Tensor, emb: Tensor, words: Tensor | None) -> Tensor:
    """A residual block, or with words all that CrossAttentionBlock adds to it."""
    if words is None:
        return res_block(w, h, emb)
    h = res_block(w / "block", h, emb)
    h = h + w.conv("position_proj", waves_of_places(*h.shape[1:]))
    return cross_attention(w / "cross", self_attention(w / "attention", h), words)


def slow_unet(net: UNet, x: Tensor, t: float, cond: int | list[int]) -> Tensor:
    """One image (C, H, W) at time t, with a label or tokens."""
    w, config = Weights(net), net.config
    if config.text:
        words = read_prompt(w / "embed.text_encoder", cond, config.text.heads)
        pooled = sum(words) / len(words)
        emb = time_and_label(w / "embed.time", t, 0) + (w / "embed").linear("pooled_proj", pooled[None])[0]
    else:
        words, emb = None, time_and_label(w / "embed", t, cond)

    levels, skips = range(len(config.channel_mult) - 1), {}
    h = w.conv("stem.1", fold(x, config.patch_size))
    for level in levels:
        for n in range(config.num_blocks):
            h = block(w / f"down.{level}.{n}", h, emb, words)
        skips[level] = h
        h = w.halve(f"downsample.{level}", h)
    h = block(w / "middle.0", h, emb, words)
    h = self_attention(w / "middle.1", h)
    h = block(w / "middle.2", h, emb, words)
    for level in reversed(levels):
        h = torch.cat([w.double(f"upsample.{level}", h), skips[level]])  # from below first, then what came across
        for n in range(config.num_blocks):
            h = block(w / f"up.{level}.{n}", h, emb, words)
    return unfold(w.conv("head.0", silu(w.pixel_norm("norm", h))), config.patch_size)


# attention


@pytest.mark.parametrize("height, width, b", [(2, 3, 3), (3, 1, 1), (1, 5, 2)])
def test_self_attention_place_by_place(height, width, b):
    net, x = randomised(Attention(8, 4)), rand(b, 8, height, width, seed=1)
    slow = torch.stack([self_attention(Weights(net), h) for h in x])
    torch.testing.assert_close(net(x), slow, **CLOSE)


@pytest.mark.parametrize("height, width, b", [(2, 3, 3), (3, 1, 1)])
def test_cross_attention_place_by_place(height, width, b):
    net, x, words = randomised(CrossAttention(8, 6, 4)), rand(b, 8, height, width, seed=1), rand(b, 5, 6, seed=2)
    slow = torch.stack([cross_attention(Weights(net), h, w) for h, w in zip(x, words, strict=True)])
    torch.testing.assert_close(net(x, words), slow, **CLOSE)


def test_attention_of_queries_to_fewer_keys():
    q, k, v = rand(2, 4, 6, 3, seed=1), rand(2, 4, 5, 3, seed=2), rand(2, 4, 5, 3, seed=3)
    for b in range(2):
        slow = slow_attention(*(z[b].transpose(0, 1).flatten(1) for z in (q, k, v)), heads=4)  # (6, 12)
        torch.testing.assert_close(dot_product_attention(q, k, v)[b].transpose(0, 1).flatten(1), slow, **CLOSE)


def test_attention_on_a_cpu_is_in_full_precision_inside_autocast():
    q, k, v = (rand(1, 4, n, 8, seed=seed).bfloat16() for seed, n in enumerate((6, 5, 5)))
    exact = F.scaled_dot_product_attention(q.float(), k.float(), v.float())
    with torch.autocast("cpu", torch.bfloat16):
        found = dot_product_attention(q, k, v)
    assert found.dtype == torch.float32 and torch.equal(found, exact)
    assert torch.equal(dot_product_attention(q, k, v), F.scaled_dot_product_attention(q, k, v))  # outside: as it comes


# the text encoder


@pytest.mark.parametrize("layers, heads", [(1, 1), (2, 4), (3, 2)])
def test_text_encoder_word_by_word(layers, heads):
    net = randomised(TextEncoder(TextConfig(9, 5, width=8, layers=layers, heads=heads)))
    for tokens in ([[3, 1, 4, 1, 5]], [[7, 8], [2, 0], [6, 6]]):
        slow = torch.stack([read_prompt(Weights(net), prompt, heads) for prompt in tokens])
        torch.testing.assert_close(net(torch.tensor(tokens)), slow, **CLOSE)


# the whole networks


@pytest.mark.parametrize("b", [1, 5])
def test_mlp_line_by_line(b):
    net = randomised(MLP(MLPConfig(dim=3, num_classes=2, width=6, num_blocks=3)))
    w, x, t, labels = Weights(net), rand(b, 3, seed=1), torch.linspace(0.05, 0.9, b).double(), torch.arange(b) % 3
    slow = []
    for point, time, label in zip(x, t.tolist(), labels.tolist(), strict=True):
        emb, h = time_and_label(w / "embed", time, label)[None], w.linear("stem", point[None])
        for n in range(3):
            layer = w / f"blocks.{n}"
            hidden = layer.linear("fc1", layer.norm("norm", h)) + layer.linear("emb_proj", silu(emb))
            h = h + layer.linear("fc2", silu(hidden))
        slow.append(w.linear("head", w.norm("norm", h))[0])
    torch.testing.assert_close(net(x, t, labels), torch.stack(slow), **CLOSE)


LABELS = UNetConfig(channels=2, num_classes=3, width=4, channel_mult=(1, 3, 2), num_blocks=2, patch_size=1)
FOLDED = UNetConfig(channels=3, num_classes=3, width=6, channel_mult=(1, 2), num_blocks=1, patch_size=2)
WORDS = UNetConfig(
    channels=1,
    num_classes=0,
    width=4,
    channel_mult=(1, 2),
    num_blocks=2,
    patch_size=2,
    text=TextConfig(9, 4, width=8, layers=1, heads=2),
)


@pytest.mark.parametrize(
    "config, b, height, width",
    [(LABELS, 3, 8, 12), (LABELS, 1, 4, 8), (FOLDED, 3, 4, 12), (WORDS, 3, 4, 8), (WORDS, 1, 8, 4)],
    ids=["labels", "labels-single", "folded", "words", "words-single"],
)
def test_unet_is_wired_as_drawn(config, b, height, width):
    net = randomised(UNet(config))
    x, t = rand(b, config.channels, height, width, seed=1), torch.linspace(0.15, 0.95, b).double()
    cond = torch.randint(9, (b, 4), generator=torch.Generator().manual_seed(2)) if config.text else torch.arange(b) + 1
    slow = torch.stack([slow_unet(net, *one) for one in zip(x, t.tolist(), cond.tolist(), strict=True)])
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if config.text else CLOSE  # positions are made in float32
    assert slow.abs().mean() > 0.05
    torch.testing.assert_close(net(x, t, cond), slow, **tolerance)


@pytest.mark.parametrize("height, width", [(2, 3), (5, 1)])
def test_position_encoding_number_by_number(height, width):
    torch.testing.assert_close(
        position_encoding(height, width).double(), waves_of_places(height, width), rtol=0, atol=2e-6
    )


# the autoencoder


def slow_blocks(w: Weights, n: int, blocks: int, h: Tensor) -> tuple[int, Tensor]:
    """`blocks` residual blocks from layer n on: (number of the next layer, h)."""
    for m in range(n, n + blocks):
        u = (w / f"{m}").conv("conv1", silu((w / f"{m}").pixel_norm("norm1", h)))
        h = h + (w / f"{m}").conv("conv2", silu((w / f"{m}").pixel_norm("norm2", u)))
    return n + blocks, h


def slow_encoder(net: Autoencoder, x: Tensor) -> Tensor:
    w, config = Weights(dict(net.named_parameters()), "encoder."), net.config
    n, h = slow_blocks(w, 2, config.num_blocks, w.conv("1", fold(x, 2)))
    for _ in range(config.num_downsamples - 1):
        n, h = slow_blocks(w, n + 1, config.num_blocks, w.halve(f"{n}", h))
    return w.conv(f"{n + 2}", silu(w.pixel_norm(f"{n}", h)))


def slow_decoder(net: Autoencoder, z: Tensor) -> Tensor:
    w, config = Weights(dict(net.named_parameters()), "decoder."), net.config
    n, h = slow_blocks(w, 1, config.num_blocks, w.conv("0", z))
    for _ in range(config.num_downsamples - 1):
        n, h = slow_blocks(w, n + 1, config.num_blocks, w.double(f"{n}", h))
    return unfold(w.conv(f"{n + 2}", silu(w.pixel_norm(f"{n}", h))), 2)


@pytest.fixture(params=[(1, 1, 0), (2, 2, 7), (3, 1, 7)], ids=["gaussian", "two-levels", "three-levels"])
def autoencoder(request) -> Autoencoder:
    num_downsamples, blocks, codebook_size = request.param
    config = AutoencoderConfig(2, 3, 4, num_downsamples, blocks, codebook_size)
    return randomised(Autoencoder(config)).float()  # its bottleneck computes in float32


SINGLE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.mark.parametrize("b", [1, 3])
def test_encoder_and_decoder_layer_by_layer(autoencoder, b):
    factor = autoencoder.config.factor
    x, z = rand(b, 2, factor, 3 * factor, seed=1).float(), rand(b, 3, 1, 3, seed=2).float()
    h = torch.stack([slow_encoder(autoencoder, one) for one in x])
    torch.testing.assert_close(autoencoder.encoder(x), h, **SINGLE)
    torch.testing.assert_close(
        autoencoder.decode(z), torch.stack([slow_decoder(autoencoder, one) for one in z]), **SINGLE
    )


def test_code_is_the_mean_or_the_nearest_entry(autoencoder):
    factor = autoencoder.config.factor
    x = rand(3, 2, 2 * factor, factor, seed=1).float()
    h = torch.stack([slow_encoder(autoencoder, one) for one in x])
    if autoencoder.config.codebook_size:
        entries = autoencoder.bottleneck.codebook.weight
        nearest = [min(entries, key=lambda entry, v=v: (entry - v).norm().item()) for one in h for v in pixels(one)]
        z = torch.stack(nearest).view(3, 2, 1, 3).permute(0, 3, 1, 2)
    else:
        z = h[:, :3]
    torch.testing.assert_close(autoencoder.encode(x).z, z, **SINGLE)


def test_gradient_passes_straight_through_the_codebook():
    """The encoder learns from the decoder's gradient at the chosen entries, as if it had put them out itself."""
    net = randomised(Autoencoder(AutoencoderConfig(1, 3, 4, 2, 1, 7))).float()
    x, upstream = rand(2, 1, 4, 8, seed=1).float().requires_grad_(), rand(2, 1, 4, 8, seed=2).float()
    (found,) = torch.autograd.grad((net(x)[0] * upstream).sum(), x)

    z = net.encode(x.detach()).z.detach().requires_grad_()
    decoded = torch.stack([slow_decoder(net, one) for one in z])
    (at_the_code,) = torch.autograd.grad((decoded * upstream).sum(), z)
    encoded = torch.stack([slow_encoder(net, one) for one in x])
    (slow,) = torch.autograd.grad(encoded, x, at_the_code)
    assert slow.abs().max() > 1e-3
    torch.testing.assert_close(found, slow, rtol=1e-3, atol=1e-4)
