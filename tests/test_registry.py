"""The registry of networks: shipped ones, one's own, what is refused; configs made for given data."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from minidiff.nets import NETS, DataSpec, config_for, register_net
from minidiff.nets.mlp import MLP, MLPConfig
from minidiff.nets.text import TextConfig
from minidiff.nets.unet import UNet, UNetConfig

TEXT = TextConfig(9, 5)


@dataclass(frozen=True)
class OwnConfig:
    size: tuple[int, int]
    channels: int = 1
    num_classes: int = 0
    width: int = 8  # its own: not the width of a picture


class Own(nn.Module):
    """A network of one's own: a 1x1 convolution, with the time added."""

    def __init__(self, config: OwnConfig):
        super().__init__()
        self.config = config
        self.mix = nn.Conv2d(config.channels, config.channels, 1)

    def forward(self, x, t, cond=None):
        return self.mix(x) + t[:, None, None, None]


@pytest.fixture(autouse=True)
def as_before():
    """Whatever a test registers is forgotten."""
    before = dict(NETS)
    yield
    NETS.clear()
    NETS.update(before)


def test_shipped_networks_are_registered_by_their_own_files():
    assert NETS == {"UNet": (UNet, UNetConfig), "MLP": (MLP, MLPConfig)}


def test_a_network_of_ones_own_gets_the_fields_that_its_config_has():
    register_net("Own", OwnConfig, Own)
    config = config_for("Own", DataSpec(3, 8, 12, num_classes=4))
    assert config == OwnConfig(size=(8, 12), channels=3, num_classes=4, width=8)
    net, x = NETS["Own"][0](config), torch.zeros(2, 3, 8, 12)
    assert net(x, torch.ones(2), None).shape == x.shape


def test_text_is_filled_in_where_there_is_a_field_and_refused_where_there_is_none():
    @dataclass(frozen=True)
    class Reads:
        text: TextConfig | None = None

    register_net("Reads", Reads, Own)
    register_net("Own", OwnConfig, Own)
    assert config_for("Reads", DataSpec(1, 8, 8, 0, TEXT)) == Reads(TEXT)
    with pytest.raises(ValueError, match="network 'Own' reads no text: its config has no field `text`"):
        config_for("Own", DataSpec(1, 8, 8, 0, TEXT))


def test_a_config_decides_for_itself_by_for_data():
    @dataclass(frozen=True)
    class Decides:
        channels: int = 0

        @classmethod
        def for_data(cls, spec):
            return cls(100 * spec.channels + spec.latent)

    register_net("Decides", Decides, Own)
    assert config_for("Decides", DataSpec(3, 8, 8, 0, latent=True)) == Decides(301)


def test_a_config_that_cannot_be_filled_is_refused():
    @dataclass(frozen=True)
    class Needs:
        depth: int
        size: tuple[int, int]
        heads: int

    register_net("Needs", Needs, Own)
    with pytest.raises(ValueError, match="network 'Needs': expected defaults in its config for depth, heads, or"):
        config_for("Needs", DataSpec(1, 8, 8, 0))


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="expected a network among MLP, UNet, got 'DiT'"):
        config_for("DiT", DataSpec(1, 8, 8, 0))


def test_a_name_has_one_owner():
    register_net("Own", OwnConfig, Own)
    register_net("Own", OwnConfig, Own)  # twice the same is no harm
    for Config, Net in ((OwnConfig, UNet), (UNetConfig, Own)):
        with pytest.raises(ValueError, match=r"network 'Own' is registered already, as [\w.]+\.Own"):
            register_net("Own", Config, Net)
    with pytest.raises(ValueError, match="network 'UNet' is registered already, as minidiff.nets.unet.UNet"):
        register_net("UNet", OwnConfig, Own)
    assert NETS["Own"] == (Own, OwnConfig) and NETS["UNet"] == (UNet, UNetConfig)


def test_a_cell_that_runs_twice_registers_the_newer_class():
    def cell():
        @dataclass(frozen=True)
        class Config:
            width: int = 1

        class Net(Own):
            pass

        register_net("cell", Config, Net)
        return Net, Config

    first, second = cell(), cell()
    assert first != second and NETS["cell"] == second


@pytest.mark.parametrize(
    "name, Config, Net, message",
    [
        ("", OwnConfig, Own, "expected a name for the network, got ''"),
        (3, OwnConfig, Own, "expected a name for the network, got 3"),
        ("Own", dict, Own, "network 'Own': expected a dataclass as its config, got <class 'dict'>"),
        ("Own", OwnConfig((8, 8)), Own, "expected a dataclass as its config, got OwnConfig"),
        ("Own", OwnConfig, OwnConfig, "network 'Own': expected a subclass of nn.Module, got"),
        ("Own", OwnConfig, Own(OwnConfig((8, 8))), "expected a subclass of nn.Module, got Own"),
        ("Own", OwnConfig, lambda config: None, "expected a subclass of nn.Module, got <function"),
    ],
)
def test_what_is_no_network_is_refused(name, Config, Net, message):
    with pytest.raises(ValueError, match=message):
        register_net(name, Config, Net)
    assert name not in NETS


# the U-Net for given data


@pytest.mark.parametrize(
    "spec, patch_size, width, channel_mult",
    [
        (DataSpec(1, 8, 8, 10), 2, 24, (1, 2, 4)),
        (DataSpec(1, 28, 28, 10), 2, 24, (1, 2)),
        (DataSpec(3, 32, 32, 10), 2, 24, (1, 2, 4)),
        (DataSpec(3, 32, 36, 10), 2, 24, (1, 2)),
        (DataSpec(3, 30, 30, 10), 2, 24, (1,)),
        (DataSpec(3, 64, 48, 10), 4, 24, (1, 2, 4)),
        (DataSpec(3, 256, 256, 10), 16, 24, (1, 2, 4)),
        (DataSpec(4, 8, 8, 10, latent=True), 1, 48, (1, 2)),
        (DataSpec(4, 8, 7, 10, latent=True), 1, 48, (1,)),
        (DataSpec(4, 32, 32, 10, latent=True), 1, 48, (1, 2)),
        (DataSpec(3, 48, 64, 10), 2, 24, (1, 2, 4)),  # 3 would not divide the width
    ],
)
def test_the_u_net_follows_the_size(spec, patch_size, width, channel_mult):
    expected = UNetConfig(spec.channels, 10, width, channel_mult, patch_size=patch_size)
    assert config_for("UNet", spec) == expected
    assert spec.height % expected.stride == spec.width % expected.stride == 0


def test_the_u_net_with_text_has_no_labels():
    config = config_for("UNet", DataSpec(4, 8, 8, 0, TEXT, latent=True))
    assert config.text == TEXT and config.num_classes == 0
    x = torch.zeros(2, 4, 8, 8)
    assert UNet(config)(x, torch.ones(2), torch.zeros(2, 5, dtype=torch.long)).shape == x.shape


@pytest.mark.parametrize(
    "height, width, patch_size, fits",
    [(31, 31, 2, "30 x 30"), (32, 33, 2, "32 x 32"), (97, 97, 6, "96 x 96"), (1, 64, 2, "2 x 64")],
)
def test_sizes_that_cannot_be_folded_are_named_with_one_that_can(height, width, patch_size, fits):
    message = f"divisible by {patch_size} .* got {height} x {width}: resize them, to {fits} for example"
    with pytest.raises(ValueError, match=message):
        config_for("UNet", DataSpec(1, height, width, 0))
    config_for("UNet", DataSpec(1, *map(int, fits.split(" x ")), 0))


def test_points_are_no_pictures():
    with pytest.raises(ValueError, match=r"'MLP' takes points \(B, D\), got data of 3 x 8 x 12: use 'UNet'"):
        config_for("MLP", DataSpec(3, 8, 12, 0))


@pytest.mark.parametrize("field, value", [("channels", 0), ("height", 8.0), ("width", 10**5), ("num_classes", -1)])
def test_impossible_data_are_refused(field, value):
    with pytest.raises(ValueError, match=f"expected {field} an integer from"):
        DataSpec(**{"channels": 1, "height": 8, "width": 8, "num_classes": 0} | {field: value})
