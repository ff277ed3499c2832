"""Checks of what a config may ask for, so that nothing impossible or monstrous is ever built."""

MAX_CHANNELS = 8192  # channels of a feature map, numbers of a vector
MAX_LAYERS = 64  # blocks of a level, layers of a text encoder
MAX_CLASSES = 10**6  # classes, tokens, entries of a codebook


def check_int(name: str, value: object, low: int, high: int) -> None:
    """Raise ValueError unless value is an int (no bool, float or str) in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"expected {name} an integer from {low} to {high}, got {value!r:.60}")


def check_real(name: str, value: object, low: float, high: float) -> None:
    """Raise ValueError unless value is an int or a float (no bool, str or nan) in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"expected {name} a number from {low} to {high}, got {value!r:.60}")
