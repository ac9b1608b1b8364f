"""What a curious server saw: original beside recovered, best, median and worst of each setting."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fedsec.errors import count_of
from fedsec.report.evidence.image_tiles import pair_png
from fedsec.report.evidence.reconstructions import ObservedImage, observed_images, old_pictures, telling
from fedsec.report.missing_values import inverted
from fedsec.report.page.parts import (
    DataTable,
    Folded,
    ImageGrid,
    PageSection,
    Paragraph,
    Part,
    Photo,
    TableCell,
    TableColumn,
)
from fedsec.report.summary import describe, summarize

if TYPE_CHECKING:
    from fedsec.report.page.run_page import RunView

__all__ = ["photo_of", "reconstructions"]

_MOST_SETTINGS, _MOST_FOLDED, _MOST_IMAGES, _MOST_PICTURES = 16, 48, 64, 12

_NULLS = {"psnr_mean_image": "mean image", "psnr_gray": "gray"}
"""Null baseline -> what it is called; the stronger one first."""
_Setting = tuple[str, list[ObservedImage]]


def reconstructions(view: "RunView") -> PageSection | None:
    """Grids of images with their scores; None where nothing was reconstructed."""
    observed = [record for record in view.done if inverted(record)]
    settings: list[_Setting] = []
    for group in summarize(observed, "psnr").groups:
        if images := observed_images(view.root, group.records):
            settings.append((describe(group.axes), images))
    parts: list[Part] = []
    if settings:
        parts += [
            Paragraph(
                "What the server made of one client's messages: the original on the left, what was recovered of "
                "it on the right. Of all images of a setting, over its seeds and observed rounds, the best, the median "
                "and the worst by PSNR. In parentheses the PSNR of a gray image, or of the mean of the images that the "
                "server has itself: what is no better has shown nothing. "
                "Whoever has this page has these images: share it as you would share them."
            ),
            ImageGrid([(name, _photos(images)) for name, images in settings[:_MOST_SETTINGS]]),
        ]
        if rest := settings[_MOST_SETTINGS : _MOST_SETTINGS + _MOST_FOLDED]:
            title = f"{count_of(len(rest), 'further setting')} of {len(settings)}"
            parts.append(Folded(title, [ImageGrid([(name, _photos(images)) for name, images in rest])]))
        parts += [_table(settings), _all(settings)]
    pictures = old_pictures(view.root, observed)
    photos: list[Part] = [
        Photo(path.read_bytes(), text, text)
        for record, number, path in pictures[:_MOST_PICTURES]
        if (text := f"Originals over reconstructions: {describe(record['cell'])}, round {number}")
    ]
    if photos:
        more = len(pictures) - len(photos)
        parts += [*photos, *([Paragraph(f"{more} more lie in the cells' folders.", "note")] if more else [])]
    return PageSection("reconstructions", "What the server saw", parts) if parts else None


def photo_of(image: ObservedImage, rank: str = "") -> Photo:
    """An original, and beside it what was recovered of it.

    Args:
        image: of a client.
        rank: its place among others, as `best`.
    """
    scores, caption = image.scores, str(image.scores.get("caption") or "image")
    lead = f"{rank}: " if rank else ""
    numbers = f"{image.psnr:.1f} dB{_null(scores)}, SSIM {scores['ssim']:.2f}"
    where = f"round {image.round}, client {image.client}" + (f", seed {image.seed}" if image.seed else "")
    return Photo(
        pair_png(image.original, image.recovered),
        f"On the left an image of {caption} ({where}), on the right what was recovered of it: {numbers}",
        f"{lead}{caption}, {numbers}",
    )


def _null(scores: Mapping[str, Any]) -> str:
    """What the stronger of the null baselines scores, in parentheses: that which knows most."""
    for name, words in _NULLS.items():
        if (value := scores.get(name)) is not None:
            return f" ({words} {value:.1f})"
    return ""


def _photos(images: Sequence[ObservedImage]) -> list[Photo]:
    return [photo_of(image, rank) for rank, image in telling(images)]


def _table(settings: Sequence[_Setting]) -> DataTable:
    scored = [image.scores for _, images in settings for image in images]
    nulls = {
        name: f"{words} (dB)"
        for name, words in reversed(_NULLS.items())
        if any(scores.get(name) is not None for scores in scored) or name == "psnr_gray"
    }
    columns = [
        TableColumn("setting"),
        TableColumn("which"),
        *(TableColumn(title, numeric=True) for title in ("PSNR (dB)", *nulls.values(), "SSIM", "round", "of images")),
        TableColumn("image"),
        TableColumn("label"),
    ]
    shown = [("psnr", 1), *((null, 1) for null in nulls), ("ssim", 3)]
    rows = []
    for name, images in settings:
        for rank, image in telling(images):
            scores = image.scores
            right = {None: "none recovered", True: "right", False: "wrong"}[scores.get("label_right")]
            numbers = [_number(scores.get(key), places) for key, places in shown]
            counts = [TableCell(str(count), float(count)) for count in (image.round, len(images))]
            caption = str(scores.get("caption") or "")
            rows.append([TableCell(name), TableCell(rank), *numbers, *counts, TableCell(caption), TableCell(right)])
    return DataTable(columns, rows, "Scores of the images above; by PSNR the best, median and worst of so many.", 2)


def _number(value: float | None, places: int) -> TableCell:
    return TableCell("n/a") if value is None else TableCell(f"{value:.{places}f}", float(value))


def _all(settings: Sequence[_Setting]) -> Folded:
    """Image by image, from the best to the worst, as far as there is room."""
    rows, left = [], _MOST_IMAGES
    for name, images in settings:
        shown = images[: max(0, left)]
        left -= len(shown)
        if shown:
            rows.append((name, [photo_of(image) for image in shown]))
    total = sum(len(images) for _, images in settings)
    title = f"All {total} images" if total <= _MOST_IMAGES else f"The first {_MOST_IMAGES} of {total} images"
    return Folded(f"{title}, from the best to the worst of each setting", [ImageGrid(rows)])
