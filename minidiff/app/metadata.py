"""What the description of a checkpoint may hold: each key, and what its value must be.

`kind` is "denoiser" (for sampling), "run" (can go on), "classifier", or another word for files of one's own. Other keys
than these are free.
"""

from collections.abc import Callable
from typing import Any


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1e15


def _texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) <= 10**6 and all(isinstance(text, str) for text in value)


def _size(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 3 and all(_whole(n) and 1 <= n <= 2**14 for n in value)


def _keys(**checks: Callable[[Any], bool]) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        return isinstance(value, dict) and all(key in value and good(value[key]) for key, good in checks.items())

    return check


def _or_none(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or check(value)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _mapping(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


_described = _keys(
    net=_text, net_config=_mapping, schedule=_text, schedule_config=_mapping, prediction=_text, scale_input=_flag
)
FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "data": (_text, "the name of a data set"),
    "fingerprint": (_or_none(_text), "a digest of the data"),
    "classes": (_texts, "a list of names"),
    "size": (_size, "channels, height and width"),
    "task": (_keys(latent=_flag, text=_flag), '{"latent": ..., "text": ...}'),
    "vocabulary": (_or_none(_keys(words=_texts, length=_whole)), "words and a length"),
    "first_stage": (_or_none(_keys(steps=_whole, seconds=_number, scale=_number)), "steps, seconds and a scale"),
    "step": (_whole, "a whole number"),
    "seconds": (_number, "a number of seconds"),
    "config": (_mapping, "a configuration"),
    "denoiser": (_described, "a network, a schedule and a prediction"),
    "autoencoder": (_mapping, "a configuration"),
    "sampling": (_mapping, "a sampler, steps, a guidance and a shift"),
}


def check_metadata(metadata: Any) -> None:
    """Raise a ValueError that names the first key whose value is not what it must be."""
    if not _mapping(metadata):
        raise ValueError(f"expected an object with names, got {type(metadata).__name__}")
    if not isinstance(metadata.setdefault("kind", "tensors"), str):
        raise ValueError(f"expected kind to be a word, got {str(metadata['kind'])[:80]}")
    for key, (good, expected) in FIELDS.items():
        if key in metadata and not good(metadata[key]):
            raise ValueError(f"expected {key} to be {expected}, got {str(metadata[key])[:80]}")


def require_keys(metadata: dict[str, Any], *keys: str) -> None:
    """Raise a ValueError that names what a description lacks of these keys."""
    lacking = [key for key in keys if key not in metadata]
    if lacking:
        kind = metadata["kind"]
        raise ValueError(f"expected a description with {', '.join(keys)}, got a {kind} without {', '.join(lacking)}")
