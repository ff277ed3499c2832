"""The registry of networks: a name for each pair of a config (frozen dataclass) and a network (nn.Module).

A network is made by Net(config), keeps it as net.config and is called as net(x (B, ...), t (B,), cond) -> like x,
where cond is labels (B,), tokens (B, L) or None. A file registers its own network, so that a new one changes no other:

    register_net("MyNet", MyConfig, MyNet)

A config may say itself what suits some data, by a classmethod for_data(spec: DataSpec) -> Config.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

from torch import nn

from .checks import MAX_CHANNELS, MAX_CLASSES, check_int
from .text import TextConfig


@dataclass(frozen=True)
class DataSpec:
    """What a network is made for: pictures or their codes (C, H, W), with labels or, with `text`, tokens."""

    channels: int
    height: int
    width: int
    num_classes: int  # 0 without labels
    text: TextConfig | None = None
    latent: bool = False  # codes of an autoencoder instead of pictures

    def __post_init__(self):
        for name in ("channels", "height", "width"):
            check_int(name, getattr(self, name), 1, MAX_CHANNELS)
        check_int("num_classes", self.num_classes, 0, MAX_CLASSES)


NETS: dict[str, tuple[type[nn.Module], Any]] = {}  # name -> (Net, Config)


def register_net(name: str, Config: type, Net: type[nn.Module]) -> None:
    """Register a network under a name; ValueError if the name is taken by others or the classes cannot serve."""
    if not isinstance(name, str) or not name:
        raise ValueError(f"expected a name for the network, got {name!r}")
    if not (isinstance(Config, type) and dataclasses.is_dataclass(Config)):
        raise ValueError(f"network {name!r}: expected a dataclass as its config, got {Config!r}")
    if not (isinstance(Net, type) and issubclass(Net, nn.Module)):
        raise ValueError(f"network {name!r}: expected a subclass of nn.Module, got {Net!r}")
    taken = NETS.get(name)
    # Compared by name: a notebook's cell that runs twice makes the same class anew.
    if taken and [(c.__module__, c.__qualname__) for c in taken] != [
        (c.__module__, c.__qualname__) for c in (Net, Config)
    ]:
        raise ValueError(f"network {name!r} is registered already, as {taken[0].__module__}.{taken[0].__qualname__}")
    NETS[name] = (Net, Config)


def config_for(name: str, spec: DataSpec) -> Any:
    """Return a config of the network `name` for some data: by Config.for_data(spec), or by filling what fields it has
    of channels, size (H, W), num_classes and text."""
    if name not in NETS:
        raise ValueError(f"expected a network among {', '.join(sorted(NETS))}, got {name!r:.60}")
    Config = NETS[name][1]
    if hasattr(Config, "for_data"):
        return Config.for_data(spec)
    known = {
        "channels": spec.channels,
        "size": (spec.height, spec.width),
        "num_classes": spec.num_classes,
        "text": spec.text,
    }
    fields = {field.name: field for field in dataclasses.fields(Config) if field.init}
    if spec.text is not None and "text" not in fields:
        raise ValueError(f"network {name!r} reads no text: its config has no field `text`")
    missing = [
        field.name
        for field in fields.values()
        if field.name not in known and field.default is field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"network {name!r}: expected defaults in its config for {', '.join(missing)}, or for_data")
    return Config(**{key: value for key, value in known.items() if key in fields})
