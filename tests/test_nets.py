"""The networks: shapes, labels, layout, initialisation, each against an answer found another way."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from minidiff.nets.autoencoder import AutoencoderConfig
from minidiff.nets.classifier import ClassifierConfig
from minidiff.nets.embed import TimeLabelEmbedding, timestep_embedding
from minidiff.nets.mlp import MLP, MLPConfig
from minidiff.nets.text import TextConfig
from minidiff.nets.unet import ChannelNorm, ResBlock, UNet, UNetConfig

SMALL = UNetConfig(width=16, channel_mult=(1, 2), num_blocks=1)
EVERYTHING = UNetConfig(channels=3, num_classes=4, width=8, channel_mult=(1, 2, 3), num_blocks=2, patch_size=1)
UNTOLD = UNetConfig(num_classes=0, width=8, channel_mult=(2,), num_blocks=1, patch_size=4)


def perturbed(net: torch.nn.Module) -> torch.nn.Module:
    """The network with every parameter moved, so that no part is silenced by its zero initialisation."""
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=g))
    return net


def batch(net, b: int = 3, h: int = 16, w: int = 16) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images or points, times and labels (none of them null) for the network."""
    g = torch.Generator().manual_seed(1)
    config = net.config
    shape = (b, config.dim) if isinstance(net, MLP) else (b, config.channels, h, w)
    cond = torch.arange(b) % max(config.num_classes, 1)
    return torch.randn(shape, generator=g), torch.rand(b, generator=g), cond


def networks() -> list[torch.nn.Module]:
    torch.manual_seed(0)
    return [MLP(MLPConfig(num_classes=3)), UNet(SMALL), UNet(EVERYTHING), UNet(UNTOLD)]


@pytest.fixture(params=range(4), ids=["mlp", "small", "everything", "untold"])
def net(request) -> torch.nn.Module:
    return networks()[request.param]


# what comes out


def test_a_new_network_outputs_zero(net):
    x, t, cond = batch(net)
    assert torch.equal(net(x, t, cond), torch.zeros_like(x))


def test_gradient_reaches_every_parameter(net):
    x, t, cond = batch(net)
    x, t = torch.cat([x, x]), torch.cat([t, t])
    cond = torch.cat([torch.arange(3).clamp(max=net.config.num_classes), torch.full((3,), net.config.num_classes)])
    (perturbed(net)(x, t, cond) ** 3).sum().backward()
    silent = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_output_has_the_shape_of_the_input(net):
    x, t, cond = batch(net)
    assert perturbed(net)(x, t, cond).shape == x.shape


@pytest.mark.parametrize("h, w", [(4, 4), (8, 12), (20, 4)])
def test_any_multiple_of_the_stride_is_a_size(h, w):
    net = perturbed(UNet(SMALL))
    x, t, cond = batch(net, h=h, w=w)
    assert net(x, t, cond).shape == (3, 1, h, w)


@pytest.mark.parametrize("config, stride", [(SMALL, 4), (EVERYTHING, 4), (UNTOLD, 4), (UNetConfig(), 8)])
def test_stride_is_patch_times_a_half_per_further_level(config, stride):
    assert config.stride == stride


def test_samples_do_not_see_each_other(net):
    net = perturbed(net).double()
    x, t, cond = batch(net, b=2)
    x, t = x.double(), t.double()
    alone = torch.cat([net(x[i : i + 1], t[i : i + 1], cond[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(net(x, t, cond), alone, rtol=1e-10, atol=1e-10)


def test_time_matters(net):
    x, t, cond = batch(perturbed(net))
    assert (net(x, t, cond) - net(x, t.roll(1), cond)).abs().amax(dim=tuple(range(1, x.ndim))).min() > 1e-3


@pytest.mark.parametrize("net", range(3), indirect=True, ids=["mlp", "small", "everything"])
def test_label_matters(net):
    x, t, cond = batch(perturbed(net))
    assert (net(x, t, cond) - net(x, t, cond + 1)).abs().amax(dim=tuple(range(1, x.ndim))).min() > 1e-3


def test_no_labels_means_the_null_label(net):
    x, t, _ = batch(perturbed(net))
    assert torch.equal(net(x, t), net(x, t, torch.full((3,), net.config.num_classes)))


def test_float64_is_computed_in_float64(net):
    net = perturbed(net).double()
    x, t, cond = batch(net)
    y = net(x.double(), t.double(), cond)
    assert y.dtype == torch.float64
    torch.testing.assert_close(net.float()(x, t, cond).double(), y, rtol=1e-3, atol=1e-3)
    assert not torch.equal(y, y.float().double())


# the U-Net's parts


def test_channel_norm_makes_each_pixel_zero_mean_and_unit_variance():
    x = 3 + 5 * torch.randn(2, 8, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mean = x.numpy().mean(axis=1, keepdims=True)
    std = np.sqrt(x.numpy().var(axis=1, keepdims=True) + 1e-5)
    torch.testing.assert_close(ChannelNorm(8).double()(x), torch.from_numpy((x.numpy() - mean) / std))


def test_default_has_as_many_parameters_as_a_hand_count():
    def conv(i, o, k):
        return i * o * k * k + o

    def linear(i, o):
        return i * o + o

    def norm(c):
        return 2 * c

    def res(i, o):  # the embedding has 96 numbers; a 1x1 skip only where the width changes
        main = norm(i) + conv(i, o, 3) + linear(96, 2 * o) + norm(o) + conv(o, o, 3)
        return main + (conv(i, o, 1) if i != o else 0)

    embed = 2 * linear(96, 96) + 11 * 96
    ends = conv(4, 24, 3) + norm(24) + conv(24, 4, 3)
    down = res(24, 24) + conv(24, 48, 2) + res(48, 48) + conv(48, 96, 2)
    middle = 2 * res(96, 96) + norm(96) + conv(96, 3 * 96, 1) + conv(96, 96, 1)
    up = conv(96, 48, 2) + res(96, 48) + conv(48, 24, 2) + res(48, 24)
    total = sum(p.numel() for p in UNet(UNetConfig()).parameters())
    assert total == embed + ends + down + middle + up == 639_772


def test_state_dict_has_each_parameter_once():
    state = UNet(EVERYTHING).state_dict()
    assert len({p.data_ptr() for p in state.values()}) == len(state)


def test_features_stay_channels_last():
    net, seen = perturbed(UNet(SMALL)), {}
    for name, module in net.named_modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d | ChannelNorm) and name != "stem.1":
            module.register_forward_hook(lambda m, i, y, name=name: seen.update({name: (i[0], y)}))
    net(*batch(net))
    last = torch.channels_last
    moved = [name for name, xy in seen.items() if not all(z.is_contiguous(memory_format=last) for z in xy)]
    assert len(seen) > 10 and moved == []


def test_a_new_residual_branch_adds_nothing():
    net, x, emb = UNet(EVERYTHING), torch.randn(2, 8, 4, 4), torch.randn(2, 32)
    assert torch.equal(net.down[0][0](x, emb), x)
    low = torch.randn(2, 24, 4, 4)
    assert torch.equal(net.middle[1](low), low)


def test_the_embedding_scales_and_shifts_what_lies_between_the_convolutions():
    block = perturbed(ResBlock(8, 8, emb=16)).double()
    x, emb = torch.randn(2, 8, 4, 4, dtype=torch.float64), torch.randn(2, 16, dtype=torch.float64)
    silu = torch.nn.functional.silu
    modulation = silu(emb) @ block.modulation.weight.T + block.modulation.bias
    scale, shift = modulation[:, :8].reshape(2, 8, 1, 1), modulation[:, 8:].reshape(2, 8, 1, 1)
    between = block.norm2(block.conv1(silu(block.norm1(x))))
    torch.testing.assert_close(block(x, emb), x + block.conv2(silu(between + scale * between + shift)))


def test_the_way_up_sees_the_way_down():
    net = perturbed(UNet(SMALL))
    with torch.no_grad():
        for p in net.upsample.parameters():
            p.zero_()  # nothing comes from below: what is left came across
    x, t, cond = batch(net)
    assert (net(x, t, cond) - net(x.flip(0), t, cond)).abs().max() > 1e-3


def test_the_far_corner_is_seen():
    net = perturbed(UNet(dataclasses.replace(SMALL, channel_mult=(1, 1, 1))))
    x, t, cond = batch(net, b=1, h=32, w=32)
    x.requires_grad_()
    net(x, t, cond)[0, 0, 0, 0].backward()
    assert x.grad[0, 0, -1, -1] != 0


# what is refused


@pytest.mark.parametrize("h, w", [(16, 15), (18, 16), (0, 16)])
def test_other_sizes_are_refused_by_name(h, w):
    net = UNet(SMALL)
    with pytest.raises(ValueError, match=rf"divisible by 4, got {h} x {w}"):
        net(torch.zeros(2, 1, h, w), torch.zeros(2))


@pytest.mark.parametrize("shape", [(2, 3, 16, 16), (2, 16, 16), (3, 1, 16, 16), (0, 1, 16, 16)])
def test_wrong_image_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"images \(B, 1, H, W\) and times \(B,\), B > 0, got"):
        UNet(SMALL)(torch.zeros(shape), torch.zeros(2 if shape[0] else 0))


@pytest.mark.parametrize("shape", [(2, 3), (2,), (3, 2), (0, 2)])
def test_wrong_point_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"points \(B, 2\) and times \(B,\), B > 0, got"):
        MLP(MLPConfig())(torch.zeros(shape), torch.zeros(2 if shape[0] else 0))


@pytest.mark.parametrize(
    "cond, match",
    [
        (torch.tensor([1]), r"expected \(2,\) integer labels, got \(1,\)"),
        (torch.tensor([1.0, 2.0]), r"integer labels, got \(2,\) of torch.float32"),
    ],
)
def test_wrong_labels_are_refused(cond, match):
    with pytest.raises(ValueError, match=match):
        UNet(SMALL)(torch.zeros(2, 1, 16, 16), torch.zeros(2), cond)


IMPOSSIBLE = [
    (MLPConfig, {"dim": 0}, "dim an integer from 1 to 8192, got 0"),
    (MLPConfig, {"num_classes": -1}, "num_classes an integer from 0 to 1000000, got -1"),
    (MLPConfig, {"width": 7}, "an even width, .* got 7"),
    (MLPConfig, {"width": 16384}, "width an integer from 2 to 8192"),
    (MLPConfig, {"num_blocks": 0}, "num_blocks an integer from 1 to 64, got 0"),
    (UNetConfig, {"channels": 1.0}, "channels an integer from 1 to 8192, got 1.0"),
    (UNetConfig, {"channels": True}, "got True"),
    (UNetConfig, {"channels": "1"}, "got '1'"),
    (UNetConfig, {"num_classes": 10**6 + 1}, "num_classes an integer from 0 to 1000000, got 1000001"),
    (UNetConfig, {"width": 5, "channel_mult": (1, 1)}, r"divisible by its 4 heads, got \(5,\) channels"),
    (UNetConfig, {"width": 2, "channel_mult": (1, 2), "text": TextConfig(9, 7)}, r"4 heads, got \(2, 4\) channels"),
    (UNetConfig, {"width": 4096, "channel_mult": (1, 4)}, "width x multiplier an integer from 1 to 8192, got 16384"),
    (UNetConfig, {"channel_mult": ()}, r"channel_mult as 1 to 8 multipliers, got \(\)"),
    (UNetConfig, {"channel_mult": (1,) * 9}, "channel_mult as 1 to 8 multipliers"),
    (UNetConfig, {"channel_mult": "124"}, "channel_mult as 1 to 8 multipliers, got '124'"),
    (UNetConfig, {"channel_mult": (1, 2.0)}, "each multiplier an integer from 1 to 8192, got 2.0"),
    (UNetConfig, {"channel_mult": (1, 0)}, "each multiplier an integer from 1 to 8192, got 0"),
    (UNetConfig, {"num_blocks": 0}, "num_blocks an integer from 1 to 64, got 0"),
    (UNetConfig, {"num_blocks": 10**6}, "num_blocks an integer from 1 to 64"),
    (UNetConfig, {"patch_size": 65}, "patch_size an integer from 1 to 64"),
    (UNetConfig, {"text": 3}, "a TextConfig or None as text, got 3"),
    (AutoencoderConfig, {"channels": 0}, "channels an integer from 1"),
    (AutoencoderConfig, {"latent_channels": 0}, "latent_channels an integer from 1"),
    (AutoencoderConfig, {"num_downsamples": 0}, "num_downsamples an integer from 1 to 8, got 0"),
    (AutoencoderConfig, {"num_downsamples": 9}, "num_downsamples an integer from 1 to 8, got 9"),
    (AutoencoderConfig, {"width": 128, "num_downsamples": 8}, "width of the last level .* 8192, got 16384"),
    (AutoencoderConfig, {"num_blocks": -1}, "num_blocks an integer from 0 to 64"),
    (AutoencoderConfig, {"codebook_size": 10**7}, "codebook_size an integer from 0 to 1000000"),
    (AutoencoderConfig, {"cost_weight": -1e-3}, "cost_weight a number from 0 to"),
    (AutoencoderConfig, {"cost_weight": math.nan}, "cost_weight a number .* got nan"),
    (AutoencoderConfig, {"cost_weight": math.inf}, "cost_weight a number .* got inf"),
    (AutoencoderConfig, {"cost_weight": 10**400}, "cost_weight a number"),
    (AutoencoderConfig, {"cost_weight": "1"}, "cost_weight a number .* got '1'"),
    (TextConfig, {"vocab_size": 0}, "vocab_size an integer from 1 to 1000000"),
    (TextConfig, {"context_length": 0}, "context_length an integer from 1 to 8192"),
    (TextConfig, {"width": 10}, "a width divisible by its 4 heads, got 10"),
    (TextConfig, {"heads": 0}, "heads an integer from 1"),
    (TextConfig, {"layers": 65}, "layers an integer from 0 to 64"),
    (ClassifierConfig, {"size": 7}, "size an integer from 8"),
    (ClassifierConfig, {"num_classes": 0}, "num_classes an integer from 1"),
    (ClassifierConfig, {"channels": 0}, "channels an integer from 1"),
    (ClassifierConfig, {"width": 4096}, "width an integer from 1 to 2048"),
    (ClassifierConfig, {"features": 0}, "features an integer from 1"),
]


@pytest.mark.parametrize(
    "Config, settings, message", IMPOSSIBLE, ids=[f"{c.__name__}-{'-'.join(s)}" for c, s, _ in IMPOSSIBLE]
)
def test_impossible_and_monstrous_configs_are_refused(Config, settings, message):
    needed = {"vocab_size": 9, "context_length": 7} if Config is TextConfig else {}
    with pytest.raises(ValueError, match=f"expected .*{message}"):
        Config(**needed | settings)


@pytest.mark.parametrize(
    "config",
    [
        UNetConfig(width=5, channel_mult=(1, 4)),  # attention is at the lowest level only
        UNetConfig(width=4, channel_mult=(1, 1), text=TextConfig(9, 7)),
        UNetConfig(width=2, channel_mult=(2,), num_classes=0, patch_size=64),
        MLPConfig(width=2, dim=1, num_blocks=1),
    ],
)
def test_the_least_that_is_allowed_works(config):
    net = UNet(config) if isinstance(config, UNetConfig) else MLP(config)
    x = torch.zeros(1, 1, config.stride, 2 * config.stride) if isinstance(config, UNetConfig) else torch.zeros(1, 1)
    assert net(x, torch.ones(1)).shape == x.shape


@pytest.mark.parametrize("dim", [0, 1, 7])
def test_waves_come_in_pairs(dim):
    with pytest.raises(ValueError, match=f"even embedding size of at least 2, got {dim}"):
        timestep_embedding(torch.zeros(1), dim)


# embeddings and configs


def test_timestep_embedding_against_its_formula():
    t, dim = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64), 8
    direct = [[f(1000 * x / 10000 ** (i / 4)) for f in (math.cos, math.sin) for i in range(4)] for x in t.tolist()]
    direct = torch.tensor(direct, dtype=torch.float64)
    torch.testing.assert_close(timestep_embedding(t, dim), direct, rtol=1e-9, atol=1e-9)


def test_times_keep_their_precision_in_a_network_of_16_bits():
    """1000 t in bfloat16 would be wrong by whole radians: the waves are made in full precision."""
    torch.manual_seed(0)
    embed, t = TimeLabelEmbedding(16, num_classes=3), torch.tensor([0.1, 0.5003, 0.9])
    with torch.no_grad():
        exact = embed(t)
        assert (embed.bfloat16()(t).float() - exact).abs().max() < 0.02 * exact.abs().max()


def test_label_and_time_add():
    embed = TimeLabelEmbedding(16, num_classes=3).double()
    t, cond = torch.tensor([0.2, 0.7]), torch.tensor([1, 2])
    rows = embed.label.weight
    torch.testing.assert_close(embed(t, cond) - embed(t), rows[cond] - rows[3])


@pytest.mark.parametrize("config", [MLPConfig(dim=3), EVERYTHING, UNetConfig()])
def test_config_survives_json(config):
    assert type(config)(**json.loads(json.dumps(dataclasses.asdict(config)))) == config


def test_a_list_of_multipliers_is_a_tuple():
    config = UNetConfig(channel_mult=[1, 2])
    assert config == UNetConfig(channel_mult=(1, 2)) and hash(config) == hash(UNetConfig(channel_mult=(1, 2)))


def test_mlp_learns_a_function_of_point_time_and_label():
    """y = +-x cos(2 pi t), the sign by the label: the error falls to a hundredth of the target's power."""
    torch.manual_seed(0)
    net = MLP(MLPConfig(num_classes=2, width=64, num_blocks=2))
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for _ in range(300):
        x, t, cond = torch.randn(256, 2), torch.rand(256), torch.randint(0, 2, (256,))
        y = (1 - 2 * cond[:, None]) * x * torch.cos(2 * math.pi * t)[:, None]
        loss = (net(x, t, cond) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.01 * 0.5


@pytest.mark.parametrize("net", [
    MLP(MLPConfig(num_classes=3, width=8)), UNet(EVERYTHING), UNet(UNetConfig(width=8, text=TextConfig(5, 3, width=8))),
], ids=["MLP", "UNet", "words"])  # fmt: skip
def test_the_null_condition_of_a_network_is_what_it_takes_for_none(net):
    net = perturbed(net)
    x, t, cond = batch(net)
    words = isinstance(net, UNet) and net.config.text
    null = torch.full((len(x), 3) if words else (len(x),), net.null)
    told = torch.ones_like(null) if words else cond
    torch.testing.assert_close(net(x, t), net(x, t, null))
    assert not torch.allclose(net(x, t), net(x, t, told))
