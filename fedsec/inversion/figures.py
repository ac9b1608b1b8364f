"""Pictures of an inversion: originals beside reconstructions, the matching loss, the recovery as it went."""

import io
import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from fedsec.files import write_atomic
from fedsec.metrics.images import ImageScore, assign
from fedsec.report.figures import plain, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont

__all__ = ["Frame", "Pair", "draw_loss", "draw_reconstruction", "glance", "loss_figure", "matched", "write_gif"]

ACROSS = 16
"""Images side by side, at most."""
_DPI = 150  # of `save`; figures below are laid out in its pixels
_BLOCKS = 5  # rows of pairs on one page
_TILES = ((2, 288), (4, 224), (8, 160), (ACROSS, 112))  # (so many images across, pixels of each)
_GAP, _BETWEEN = 14, 34  # pixels between images, between batches
_LEFT, _MARGIN = 150, 26
_RIGHT, _WRONG, _FAINT = "#00734F", "#B34700", "0.45"
_LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


@dataclass(frozen=True, eq=False)
class Pair:
    """An original, what was recovered of it, and how they are captioned.

    Attributes:
        original: in [0, 1].
        found: in [0, 1].
        caption: above the original.
        label: of the reconstruction in words; None if none was recovered.
        score: of the pair.
    """

    original: Float[Tensor, "channels height width"]
    found: Float[Tensor, "channels height width"]
    caption: str
    label: str | None
    score: ImageScore


@dataclass(frozen=True, eq=False)
class Frame:
    """The best so far at one moment.

    Attributes:
        text: when that was.
        images: in [0, 1], in the attack's own order.
    """

    text: str
    images: Float[Tensor, "trials batch channels height width"]


def draw_reconstruction(root: Path, batches: Sequence[Sequence[Pair]], title: str) -> list[Path]:
    """Draw originals over reconstructions with their scores into `reconstruction.png`.

    Every pixel is shown as a square of whole screen pixels. Batches follow each other, at most 16 images in a row; what
    does not fit continues in `reconstruction-2.png` and so on.

    Args:
        root: folder of the pictures.
        batches: the pairs of every batch.
        title: above it all.

    Returns:
        The files written.
    """
    rows = list(_rows(batches))
    across = max(sum(map(len, row)) for row in rows)
    pages = [rows[start : start + _BLOCKS] for start in range(0, len(rows), _BLOCKS)]
    return [
        save(_page(page, across, title), root / _numbered("reconstruction", number))
        for number, page in enumerate(pages, start=1)
    ]


def draw_loss(root: Path, losses: Sequence[Float[Tensor, "records"]], iterations: Sequence[int]) -> list[Path]:
    """Draw the matching loss over the iterations into `loss.png`, one line a batch; nothing if no loss was recorded.

    Args:
        root: folder of the picture.
        losses: of each batch at equal intervals, the last at the end.
        iterations: of each batch.

    Returns:
        The file written, if any.
    """
    figure = loss_figure(losses, iterations)
    return [] if figure is None else [save(figure, root / "loss.png")]


def loss_figure(losses: Sequence[Float[Tensor, "records"]], iterations: Sequence[int]) -> "Figure | None":
    """The matching loss over the iterations, one line a batch; None if no loss was recorded.

    Args:
        losses: of each batch at equal intervals, the last at the end.
        iterations: of each batch.
    """
    from matplotlib.figure import Figure

    curves = [(row.double().numpy(), steps) for row, steps in zip(losses, iterations, strict=True) if len(row) > 1]
    if not curves:
        return None
    figure = Figure(figsize=(5.5, 3.2), layout="constrained")
    axes = figure.subplots()
    few = len(curves) <= len(_LINES)
    for number, (values, steps) in enumerate(curves):
        places = np.linspace(0, max(steps, 1), len(values) + 1)[1:]
        color = _LINES[number] if few else _LINES[0]
        axes.plot(places, values, color=color, linewidth=1.4 if few else 0.8, alpha=1 if few else 0.5)
        if few and len(curves) > 1:
            axes.plot([], [], color=color, label=f"batch {number + 1}")
    finite = [value for values, _ in curves for value in values if math.isfinite(value) and value > 0]
    if finite:
        axes.set_yscale("log")
    axes.set_xlim(left=0)
    axes.set_axisbelow(True)
    axes.grid(color="0.9", linewidth=0.6)
    axes.tick_params(labelsize=9)
    axes.set_xlabel("iteration", fontsize=9)
    axes.set_ylabel("matching loss", fontsize=9)
    if few and len(curves) > 1:
        axes.legend(fontsize=9, frameon=False)
    return figure


def glance(originals: Float[Tensor, "trials batch channels height width"], frame: Frame) -> "Image":
    """A small picture, quickly made: originals, below them the best so far, below that the text of the frame."""
    from PIL import Image, ImageDraw

    trials, batch, _, height, width = originals.shape
    shown = [(trial, index) for trial in range(trials) for index in range(batch)][:ACROSS]
    scale = max(1, next(size for most, size in _TILES if len(shown) <= most) // 2 // width)
    step_x, step_y = width * scale + 6, height * scale + 6
    picture = Image.new("RGB", (max(step_x * len(shown), 330) + 6, 2 * step_y + 26), "white")
    reconstructions = matched(frame.images[: shown[-1][0] + 1], originals[: shown[-1][0] + 1])
    for column, place in enumerate(shown):
        for row, images in enumerate((originals, reconstructions)):
            tile = Image.fromarray(_pixels(images[place], scale))
            picture.paste(tile, (6 + column * step_x, 6 + row * step_y))
    ImageDraw.Draw(picture).text((6, 2 * step_y + 6), frame.text, fill=(60, 60, 60), font=_font(13))
    return picture


def write_gif(
    path: Path, originals: Float[Tensor, "trials batch channels height width"], frames: Sequence[Frame]
) -> Path:
    """Animate the recovery: one picture a frame, the last one held.

    Args:
        path: of the file.
        originals: in [0, 1].
        frames: in the order of time, at least one.
    """
    pictures = [glance(originals, frame).quantize(128) for frame in frames]
    content = io.BytesIO()
    durations = [120] * (len(pictures) - 1) + [2500]
    pictures[0].save(content, "GIF", save_all=True, append_images=pictures[1:], duration=durations, loop=0)
    write_atomic(path, content.getvalue())
    return path


def matched(
    images: Float[Tensor, "trials batch channels height width"],
    originals: Float[Tensor, "trials batch channels height width"],
) -> Float[Tensor, "trials batch channels height width"]:
    """Images in the order of the originals that they resemble most; only for showing and measuring."""
    rows = zip(images, originals, strict=True)
    return torch.stack([guesses[assign(guesses, truth).to(guesses.device)] for guesses, truth in rows])


def _rows(batches: Sequence[Sequence[Pair]]) -> Iterator[list[Sequence[Pair]]]:
    """Batches, cut into equal parts that fit side by side, several in a row while they fit."""
    row: list[Sequence[Pair]] = []
    for batch in batches:
        across = math.ceil(len(batch) / math.ceil(len(batch) / ACROSS))
        for start in range(0, len(batch), across):
            part = batch[start : start + across]
            if row and sum(map(len, row)) + len(part) > ACROSS:
                yield row
                row = []
            row.append(part)
    yield row


def _page(rows: Sequence[Sequence[Sequence[Pair]]], across: int, title: str) -> "Figure":
    from matplotlib.figure import Figure

    _, height, width = rows[0][0][0].original.shape
    scale = max(1, next(size for most, size in _TILES if across <= most) // max(width, height))
    tile_x, tile_y = width * scale, height * scale
    size = 9 if tile_x >= 150 else 7
    line = round(size * 1.45 * _DPI / 72)
    block = line + 6 + 2 * tile_y + _GAP + 4 * line + 30
    widest = max(sum(map(len, row)) * (tile_x + _GAP) + (len(row) - 1) * (_BETWEEN - _GAP) for row in rows)
    total_x = max(_LEFT + widest + _MARGIN, 820)
    lines = textwrap.wrap(title, int((total_x - 2 * _MARGIN) / 12))
    head = 34 + 28 * len(lines)
    total_y = head + block * len(rows)
    figure = Figure(figsize=(total_x / _DPI, total_y / _DPI), dpi=_DPI)

    def write(text: str, x: float, y: float, **style: object) -> None:
        figure.text(x / total_x, 1 - y / total_y, plain(text), va="top", **{"fontsize": size, **style})  # type: ignore[arg-type]

    def show(image: Tensor, x: int, y: int) -> None:
        figure.figimage(_pixels(image, scale), x, total_y - y - tile_y)

    write("\n".join(lines), _MARGIN, 20, fontsize=10)
    for number, row in enumerate(rows):
        top = head + number * block
        upper = top + line + 6
        lower = upper + tile_y + _GAP
        write("original", _LEFT - 14, upper + tile_y / 2 - line / 2, ha="right", fontsize=9, color=_FAINT)
        write("recovered", _LEFT - 14, lower + tile_y / 2 - line / 2, ha="right", fontsize=9, color=_FAINT)
        x = _LEFT
        for part in row:
            for pair in part:
                middle, below = x + tile_x / 2, lower + tile_y + 8
                room = int(tile_x / (size * _DPI / 72 * 0.55))
                write(_short(pair.caption, room), middle, top, ha="center")
                show(pair.original, x, upper)
                show(pair.found, x, lower)
                write(f"{pair.score.found.psnr:.1f} dB", middle, below, ha="center", fontweight="bold")
                write(f"gray {pair.score.gray.psnr:.1f}", middle, below + line, ha="center", color=_FAINT)
                write(f"SSIM {pair.score.found.ssim:.2f}", middle, below + 2 * line, ha="center")
                if pair.label is not None:
                    color = _RIGHT if pair.score.label_right else _WRONG
                    mark = "✓" if pair.score.label_right else "✗"
                    write(f"{_short(pair.label, room - 2)} {mark}", middle, below + 3 * line, ha="center", color=color)
                x += tile_x + _GAP
            x += _BETWEEN - _GAP
    return figure


def _pixels(image: Float[Tensor, "channels height width"], scale: int) -> UInt8[np.ndarray, "rows columns 3"]:
    """RGB, every pixel `scale` times as wide and high."""
    values = image.detach().cpu().mul(255).round().clamp(0, 255).to(torch.uint8)
    values = values if len(values) == 3 else values[:1].expand(3, -1, -1)
    return values.repeat_interleave(scale, 1).repeat_interleave(scale, 2).permute(1, 2, 0).contiguous().numpy()


def _short(text: str, room: int) -> str:
    return text if len(text) <= room else text[: max(1, room - 1)] + "…"


def _font(size: int) -> "FreeTypeFont":
    from matplotlib import font_manager
    from PIL import ImageFont

    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)


def _numbered(name: str, number: int) -> str:
    return f"{name}.png" if number == 1 else f"{name}-{number}.png"
