"""The page of an inversion: the answer, the images, what was granted, what was asked, in one HTML file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file

from fedsec.errors import InputError, count_of
from fedsec.files import read_json
from fedsec.inversion.figures import loss_figure
from fedsec.inversion.texts.page import text_page
from fedsec.inversion.written import RESULT
from fedsec.report.evidence.image_tiles import pair_png, pixels_of
from fedsec.report.page import (
    Code,
    DataTable,
    Drawing,
    Folded,
    ImageGrid,
    Page,
    PageSection,
    Paragraph,
    Photo,
    render,
)
from fedsec.report.page.parts import Part, TableCell, TableColumn
from fedsec.report.page.svg import inline_svg

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TENSORS", "inversion_html", "inversion_page", "loss_tensors"]

TENSORS = "tensors.safetensors"
_MOST_IMAGES = 64
_SCORES = {
    "psnr": ("PSNR (dB)", 1),
    "psnr_gray": ("gray (dB)", 1),
    "psnr_mean_image": ("mean image (dB)", 1),
    "ssim": ("SSIM", 3),
    "lpips": ("LPIPS", 3),
    "mse": ("MSE", 4),
}


def inversion_html(folder: Path) -> str:
    """The page of an inversion that lies in a folder.

    Args:
        folder: `inversions/<name>`.

    Raises:
        InputError: its files cannot be read.
    """
    try:
        content = read_json(folder / RESULT)
        if "texts" in content:
            return render(text_page(content))
        return render(inversion_page(content, load_file(folder / TENSORS)))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, SafetensorError) as error:
        raise InputError(f"{folder}: the results of its inversion cannot be read ({error}); run it again") from error


def inversion_page(content: Mapping[str, Any], tensors: "Mapping[str, Tensor]") -> Page:
    """The page of an inversion.

    Args:
        content: of `result.json`.
        tensors: of `tensors.safetensors`.
    """
    sections = [
        _answer(content),
        _images(content, tensors),
        _losses(tensors),
        _question(content),
        _environment(content),
    ]
    title = f"{content['inversion']} on {content['model']}"
    subtitle = f"What a server sees of {count_of(content['batch_size'], 'image')} of a client, from its update"
    return Page(title, subtitle, [section for section in sections if section is not None])


def _answer(content: Mapping[str, Any]) -> PageSection:
    metrics = content["metrics"]
    sentences = [content["verdict"]]
    if metrics.get("psnr") is not None:
        guesses = [f"a gray image would have {metrics['psnr_gray']:.1f} dB"]
        if metrics.get("psnr_mean_image") is not None:
            guesses.append(f"{content.get('mean_image') or 'the mean image'} {metrics['psnr_mean_image']:.1f} dB")
        sentences.append(
            f"On average the PSNR is {metrics['psnr']:.1f} dB, where {' and '.join(guesses)}: answers that look at "
            f"nothing. The SSIM is {metrics['ssim']:.2f}, that of a gray image {metrics['ssim_gray']:.2f}."
        )
    if metrics.get("label_accuracy") is not None:
        how = "were granted" if content["knowledge"].get("labels") else "were inferred"
        sentences.append(f"The labels {how}: {100 * metrics['label_accuracy']:.0f}% of them are right.")
    if metrics.get("model_accuracy") is not None:
        sentences.append(f"The model classifies {100 * metrics['model_accuracy']:.1f}% of the test images correctly.")
    parts: list[Part] = [Paragraph(" ".join(sentences))]
    if content.get("interrupted"):
        parts.append(Paragraph("It was interrupted: this is the best so far.", "bad"))
    parts += [Paragraph(f"{content['given'][:1].upper()}{content['given'][1:]}.")]
    parts += [Paragraph(note, "note") for note in content.get("notes") or []]
    return PageSection("answer", "The answer", parts)


def _images(content: Mapping[str, Any], tensors: "Mapping[str, Tensor]") -> PageSection | None:
    rows, recovered = content["images"], tensors.get("reconstructions")
    if not rows or recovered is None:
        return None
    pairs = zip(tensors["originals"].flatten(0, 1), recovered.flatten(0, 1), rows, strict=True)
    ranked = sorted(pairs, key=lambda pair: -pair[2]["psnr"])
    photos = [
        Photo(
            pair_png(pixels_of(original), pixels_of(image)),
            f"On the left an image of {row['caption']}, on the right what was recovered of it: {_scores(row)}",
            f"{row['caption']}, {_scores(row)}{_label(row)}",
        )
        for original, image, row in ranked[:_MOST_IMAGES]
    ]
    more = f"; {_MOST_IMAGES} of {len(ranked)}" if len(ranked) > _MOST_IMAGES else ""
    caption = f"The original on the left, what was recovered on the right, the best first by PSNR{more}. "
    caption += "Whoever has this page has these images: share it as you would share them."
    parts: list[Part] = [ImageGrid([("best first", photos)], caption), _table([row for _, _, row in ranked])]
    return PageSection("images", "Originals and what was recovered", parts)


def _scores(row: Mapping[str, Any]) -> str:
    return f"{row['psnr']:.1f} dB (gray {row['psnr_gray']:.1f}), SSIM {row['ssim']:.2f}"


def _label(row: Mapping[str, Any]) -> str:
    return {None: "", True: ", label right", False: ", label wrong"}[row.get("label_right")]


def _table(rows: Sequence[Mapping[str, Any]]) -> DataTable:
    known = {name: about for name, about in _SCORES.items() if any(row.get(name) is not None for row in rows)}
    columns = [TableColumn("image"), *(TableColumn(title, numeric=True) for title, _ in known.values())]
    cells = [
        [
            TableCell(str(row["caption"])),
            *(_number(row.get(name), places) for name, (_, places) in known.items()),
            TableCell({None: "n/a", True: "right", False: "wrong"}[row.get("label_right")]),
        ]
        for row in rows
    ]
    caption = "Scores of every image; gray and mean image: what a guess that looks at nothing would have."
    return DataTable([*columns, TableColumn("label")], cells, caption)


def _number(value: float | None, places: int) -> TableCell:
    return TableCell("n/a") if value is None else TableCell(f"{value:.{places}f}", float(value))


def _losses(tensors: "Mapping[str, Tensor]") -> PageSection | None:
    rows, iterations = tensors.get("losses"), tensors.get("iterations")
    if rows is None or iterations is None:
        return None
    losses = [row[~row.isnan()] for row in rows]
    figure = loss_figure(losses, iterations.tolist())
    if figure is None:
        return None
    ends = ", ".join(f"{float(row[0]):.3g} to {float(row[-1]):.3g}" for row in losses if len(row))
    about = f"Matching loss over the iterations, a line for each batch: from {ends}"
    caption = "How far the update of what is recovered is from the one that was seen."
    return PageSection("loss", "Matching loss", [Drawing(inline_svg(figure, "loss"), about, caption)])


def _question(content: Mapping[str, Any]) -> PageSection:
    parts: list[Part] = []
    if content.get("command"):
        parts.append(Code(content["command"], "The command that reproduces this"))
    settings = yaml.safe_dump(content["config"], sort_keys=False, allow_unicode=True)
    return PageSection("question", "What was asked", [*parts, Folded("All settings", [Code(settings, copied=False)])])


def _environment(content: Mapping[str, Any]) -> PageSection:
    values = {
        "images": content["source"],
        "iterations": f"{content['iterations']:,}",
        "seconds": f"{content['seconds']:,.1f}",
        "device": content["device"],
        "threads": content["threads"],
        **content["versions"],
        "measured with": ", ".join(
            f"{name} {value}" for name, value in content["measured_with"].items() if value is not None
        ),
    }
    rows = [[TableCell(name), TableCell(str(value))] for name, value in values.items()]
    table = DataTable([TableColumn("what"), TableColumn("value")], rows, "What the numbers come from.")
    return PageSection("environment", "Environment and versions", [table])


def loss_tensors(losses: "Sequence[Tensor]", iterations: Sequence[int]) -> "dict[str, Tensor]":
    """What a page's picture of losses is drawn from: `losses`, short rows filled up with NaN, and `iterations`.

    Args:
        losses: of each batch.
        iterations: of each batch.
    """
    longest = max(map(len, losses), default=0)
    if longest < 2:
        return {}
    rows = torch.full((len(losses), longest), float("nan"), dtype=torch.float64)
    for row, values in zip(rows, losses, strict=True):
        row[: len(values)] = values
    return {"losses": rows, "iterations": torch.tensor(iterations, dtype=torch.int64)}
