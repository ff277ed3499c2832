"""Figures that move, and still show something where nothing can move.

`explore` is a figure with controls where a kernel runs, and its first picture everywhere else. `film` is an animated
PNG, which browsers play wherever they show a picture. Both send one output with an image in it; no state is stored.
"""

import base64
import io
from collections.abc import Callable, Sequence
from typing import Any

from minidiff.course.plot import Picture


def explore(draw: Callable[..., Picture], **controls: Any) -> Any:
    """Show the figure that draw(**values) returns, with ipywidgets, by argument name, as controls; return the widget.

    Jupyter and Colab show the controls over the picture; GitHub, the book and paper show the first picture.
    """
    import ipywidgets
    from IPython.display import display

    def values() -> dict:
        return {name: control.value for name, control in controls.items()}

    first = draw(**values())
    layout = ipywidgets.Layout(align_self="flex-start")  # else a wide page stretches the picture until it blurs
    image = ipywidgets.Image(value=first.png(), format="png", layout=layout)

    def refresh(_change: dict) -> None:
        image.value = draw(**values()).png()

    for control in controls.values():
        control.observe(refresh, "value")
    box = ipywidgets.VBox([*controls.values(), image])
    view = {"version_major": 2, "version_minor": 0, "model_id": box.model_id}
    show = {
        "application/vnd.jupyter.widget-view+json": view,
        "image/png": base64.b64encode(image.value).decode(),
        "text/plain": first.alt,
    }
    display(show, metadata={"image/png": {"alt": first.alt}}, raw=True)
    return box


class Film:
    """Pictures shown one after the other, as one animated PNG."""

    def __init__(self, png: bytes, alt: str):
        self.png, self.alt = png, alt

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict, dict]:
        return {"image/png": self.png, "text/plain": self.alt}, {"image/png": {"alt": self.alt}}


def film(frames: Sequence[Picture], ms: int = 80, hold: int = 1200) -> Film:
    """Return an endless film of figures of one size: `ms` milliseconds a frame, `hold` for the last."""
    from PIL import Image

    if not frames:
        raise ValueError("expected at least one frame, got none")
    pictures = [Image.open(io.BytesIO(frame.png())).convert("RGB") for frame in frames]
    if len({picture.size for picture in pictures}) > 1:
        raise ValueError(f"expected frames of one size, got {sorted({picture.size for picture in pictures})}")
    # one palette for all, with true white: a third of the bytes, and no flicker between frames
    palette = pictures[-1].quantize(128)
    palette.putpalette([255 if value > 248 else value for value in palette.getpalette() or []])
    pictures = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    buffer = io.BytesIO()
    pictures[0].save(
        buffer, "PNG", save_all=True, append_images=pictures[1:], loop=0, duration=[ms] * (len(pictures) - 1) + [hold]
    )
    return Film(buffer.getvalue(), frames[-1].alt)
