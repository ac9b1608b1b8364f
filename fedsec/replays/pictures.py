"""The picture of a leak: what was recovered, beside the originals where these are known."""

import math
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from fedsec.files import write_atomic
from fedsec.replays.leak import Leak
from fedsec.report.figures import plain
from fedsec.report.figures import save as save_figure

__all__ = ["write_leak"]

_ACROSS = 8


def write_leak(folder: Path, leak: Leak) -> list[Path]:
    """Write `recovered.png` and `recovered.safetensors`; returns what was written.

    Args:
        folder: it is made.
        leak: whose images are in [0, 1].
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {"images": leak.images, "labels": leak.labels, "originals": leak.originals}
    held = {name: row.detach().cpu().contiguous() for name, row in tensors.items() if row is not None}
    if not held:
        return []
    path = folder / "recovered.safetensors"
    write_atomic(path, save(held))
    return [path] if leak.images is None else [_draw(folder, leak), path]


def _draw(folder: Path, leak: Leak) -> Path:
    from matplotlib.figure import Figure

    assert leak.images is not None
    images = leak.images.detach().cpu().clamp(0, 1)
    across = min(_ACROSS, len(images))
    pairs = 1 if leak.originals is None else 2
    rows = pairs * math.ceil(len(images) / across)
    figure = Figure(figsize=(max(4.0, 1.5 * across), 1.7 * rows + 0.5), layout="constrained")
    figure.suptitle(plain(f"{leak.inversion}, client {leak.client}, round {leak.round}"), fontsize=9)
    places = figure.subplots(rows, across, squeeze=False)
    for axes in places.flat:
        axes.set_axis_off()
    order, captions = list(range(len(images))), _captions(leak, len(images))
    if leak.scores is not None:
        order = [one.reconstruction for one in leak.scores.images]
        captions = [f"{one.found.psnr:.1f} dB" for one in leak.scores.images]
    for place, (number, caption) in enumerate(zip(order, captions, strict=True)):
        row, column = pairs * (place // across), place % across
        if leak.originals is not None:
            _show(places[row][column], leak.originals[place], "original")
        _show(places[row + pairs - 1][column], images[number], caption)
    return save_figure(figure, folder / "recovered.png")


def _captions(leak: Leak, count: int) -> list[str]:
    return [""] * count if leak.labels is None else [f"class {label}" for label in leak.labels.tolist()]


def _show(axes: Any, image: Tensor, caption: str) -> None:
    pixels = image.permute(1, 2, 0).numpy() if len(image) == 3 else image[0].numpy()
    axes.imshow(pixels, cmap=None if len(image) == 3 else "gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_title(plain(caption), fontsize=7)
