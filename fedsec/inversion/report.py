"""What an inversion tells its reader: the table of scores, what the attacker was given, and a verdict in words."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedsec.inversion.images import Victims
from fedsec.inversion.server_view import ServerKnowledge, has_batch_statistics
from fedsec.metrics.images import ImageScore, Scores
from fedsec.report.console import say
from fedsec.report.table_layout import CaptionedTable
from fedsec.threat import Observation, Reconstruction

__all__ = ["defense_words", "given", "notes_of", "show", "verdict"]

RECOGNIZABLE_MARGIN, RECOGNIZABLE_SSIM = 4.0, 0.5
"""An image counts as recognizable if its PSNR is so many dB above both guesses, and its SSIM at least this."""
TRACES_MARGIN, TRACES_SSIM = 1.5, 0.25
"""Likewise, for traces of it to be visible."""
MOST_ROWS = 32
_LEGEND = "PSNR in dB; gray, mean: what a gray image and the mean image would have"


def given(observation: Observation, knowledge: ServerKnowledge, defense: str = "") -> str:
    """One line: what the attacker held; `defense` as `defense_words` says it."""
    size = observation.batch_size
    images = "1 image" if size == 1 else f"{size} images"
    local = observation.local
    if local is None:
        update = f"one gradient over {images}"
    else:
        steps = "1 local step" if local.steps == 1 else f"{local.steps} local steps"
        batch = min(local.batch_size or size, size)
        update = (
            f"the difference that {steps} on {images} made (learning rate {local.lr:g}, {batch} a step, order unknown)"
        )
    parts = [f"the model and {update}", "labels granted" if knowledge.labels else "no labels"]
    if has_batch_statistics(observation.model):
        words = {
            "none": "no normalization statistics",
            "running": "normalization by running averages assumed",
            "sent": "the batch's normalization statistics, from the running averages that were sent",
            "batch": "the batch's normalization statistics granted",
        }
        parts.append(words[knowledge.bn_statistics])
    if knowledge.auxiliary:
        parts.append(f"{knowledge.auxiliary} other images of the dataset")
    line = "the attacker has " + "; ".join(parts)
    return f"{line}. {defense}" if defense else line


def defense_words(defenses: Sequence[tuple[str, Mapping[str, Any]]], known: bool, *, short: bool = False) -> str:
    """What the client did to its update, and whether the attacker knew; nothing without a defense.

    Args:
        defenses: (name, options) in order.
        known: whether the attacker knew them.
        short: for a title.
    """
    if not defenses:
        return ""
    parts = []
    for name, options in defenses:
        settings = ", ".join(f"{key}={_plain(value)}" for key, value in options.items())
        parts.append(f"{name}({settings})" if settings else name)
    text = ", then ".join(parts)
    if short:
        return f"{text} {'known' if known else 'unknown'} to the attacker"
    return f"The client defended its update by {text}, which the attacker {'knew' if known else 'did not know'}"


def _plain(value: Any) -> str:
    """As in YAML, where that differs from Python."""
    return (
        {True: "true", False: "false", None: "null"}[value]
        if value is None or value is True or value is False
        else str(value)
    )


def verdict(scores: Scores) -> str:
    """How much of the images can be seen, in a sentence or two.

    It goes by two numbers, PSNR above the better of two guesses (gray, and the mean image) and SSIM; see
    `RECOGNIZABLE_MARGIN` and `TRACES_MARGIN`. A person who looks at the picture may come to another judgment.
    """
    if not scores.images:
        return f"This attack recovers labels only: {_labels(scores)}."
    ranked = sorted(scores.images, key=margin, reverse=True)
    clear = [image for image in ranked if _clears(image, RECOGNIZABLE_MARGIN, RECOGNIZABLE_SSIM)]
    traces = [image for image in ranked if image not in clear and _clears(image, TRACES_MARGIN, TRACES_SSIM)]
    total, best = len(ranked), margin(ranked[0])
    guess = "the better of gray and the mean image"
    if len(clear) == total:
        who = {1: "The image is", 2: "Both images are"}.get(total, f"All {total} images are")
        low, high = f"{margin(ranked[-1]):.1f}", f"{best:.1f}"
        return f"{who} recognizable: PSNR {low if low == high else f'{low} to {high}'} dB above {guess}."
    if clear:
        rest = f", {len(traces)} more in traces" if traces else ""
        return (
            f"{len(clear)} of {total} images {_are(clear)} recognizable{rest}: PSNR up to {best:.1f} dB above {guess}."
        )
    if traces:
        who = (
            "The image shows"
            if total == 1
            else f"{len(traces)} of {total} images {'shows' if len(traces) == 1 else 'show'}"
        )
        return f"{who} in traces only: PSNR up to {best:.1f} dB above {guess}."
    beyond = f"the best is {best:.1f} dB above {guess}" if best > 0 else f"none comes closer than {guess}"
    if total == 1:
        beyond = f"it is {best:.1f} dB {'above' if best > 0 else 'below'} {guess}".replace(" -", " ")
    who = {1: "The image is not", 2: "Neither image is"}.get(total, f"None of the {total} images is")
    return f"{who} recovered: {beyond}."


def margin(image: ImageScore) -> float:
    """PSNR in dB above the better of the two guesses that need no observation."""
    guesses = [image.gray.psnr] if image.mean_image is None else [image.gray.psnr, image.mean_image.psnr]
    return image.found.psnr - max(guesses)


def show(
    console: Console,
    *,
    victims: Victims,
    scores: Scores,
    result: Mapping[str, Any],
    lines: Sequence[str],
    files: Sequence[str],
) -> None:
    """Print the table, the verdict and where the files are.

    Args:
        console: where to.
        victims: for captions.
        scores: of all trials.
        result: the content of `result.json`.
        lines: what else to say, between table and files.
        files: written into the result's folder.
    """
    if scores.images:
        console.print(_table(victims, scores, result["metrics"], console.width))
    say(console, verdict(scores), "bold")
    for line in lines:
        say(console, line)
    if result["out"] is not None:
        say(console, f"results in {result['out']}: {', '.join(files)}", essential=True)


def labels_line(scores: Scores, known: bool) -> str | None:
    """How many labels were found; None if the attack finds none."""
    if scores.labels_in_common is None or not scores.images:
        return None
    matched = sum(image.label_right is True for image in scores.images)
    how = "granted" if known else "inferred"
    text = f"labels {how}: {_labels(scores)}"
    return text if matched == scores.labels_in_common else f"{text}, {matched} of them at the right image"


def notes_of(reconstructions: Sequence[Reconstruction]) -> list[str]:
    """Every distinct note of an attack once, with the number of trials that it concerns if those are not all."""
    trials = len(reconstructions)
    counts = Counter(note for reconstruction in reconstructions for note in dict.fromkeys(reconstruction.notes))
    return [note if count == trials else f"{note}{_share(count, trials)}" for note, count in counts.items()]


def features_line(metrics: Mapping[str, float | None], trials: int) -> str | None:
    """How close the recovered features are; None if the attack recovers none.

    Args:
        metrics: of the result.
        trials: how many there were; features may have been recovered in some of them only.
    """
    cosine, error = metrics.get("feature_cosine"), metrics.get("feature_error")
    if cosine is None or error is None:
        return None
    count = int(metrics.get("feature_trials") or 0)
    where = "" if count == trials else _share(count, trials)
    text = f"features{where}: relative error {error:.1e}, cosine {cosine:.6f}"
    guess, miss = metrics.get("feature_cosine_mean_image"), metrics.get("feature_error_mean_image")
    return text if guess is None or miss is None else f"{text} (those of the mean image: {miss:.1e}, {guess:.6f})"


def _share(count: int, trials: int) -> str:
    return f" (in {count} of {trials} trials)"


def _labels(scores: Scores) -> str:
    return f"{scores.labels_in_common} of {scores.batch_size} labels right"


def _clears(image: ImageScore, least: float, similarity: float) -> bool:
    return margin(image) >= least and image.found.ssim >= similarity


def _are(images: Sequence[ImageScore]) -> str:
    return "is" if len(images) == 1 else "are"


def _table(victims: Victims, scores: Scores, metrics: Mapping[str, float | None], width: int) -> Table:
    """The scores of each image and their means; a narrow terminal does without what says least."""
    captions = [caption for row in victims.captions for caption in row]
    several = len(victims.captions) > 1
    rows = []
    for caption, image in list(zip(captions, scores.images, strict=True))[:MOST_ROWS]:
        label = "" if image.label is None else victims.classes[image.label]
        right = image.label_right
        rows.append(
            (
                f"{image.trial + 1}: {caption}" if several else caption,
                _number(image.found.psnr, 1),
                _number(image.gray.psnr, 1),
                _number(image.mean_image.psnr if image.mean_image else None, 1),
                _number(image.found.ssim, 3),
                _number(image.found.lpips, 3),
                _number(image.found.mse, 4),
                "n/a" if right is None else label if right else f"{label} (wrong)",
            )
        )
    accuracy = metrics["label_accuracy"]
    mean = (
        "mean",
        *(_number(metrics[name], 1) for name in ("psnr", "psnr_gray", "psnr_mean_image")),
        *(_number(metrics[name], places) for name, places in (("ssim", 3), ("lpips", 3), ("mse", 4))),
        "n/a" if accuracy is None else f"{100 * accuracy:.0f}% right",
    )
    more = len(scores.images) - MOST_ROWS
    return _drawn([*rows, *([(f"and {more} more", *[""] * 7)] if more > 0 else [])], mean, width)


_COLUMNS = ("image", "PSNR", "gray", "mean", "SSIM", "LPIPS", "MSE", "label")
_LEAST = ("MSE", "mean", "LPIPS", "gray", "SSIM", "label")
"""The columns that a narrow terminal does without, the first ones first."""
_MOST_LETTERS = 24  # of a caption


def _drawn(rows: Sequence[Sequence[str]], mean: Sequence[str], width: int) -> Table:
    chosen = list(range(len(_COLUMNS)))

    def widths() -> list[int]:
        widest = [max(len(row[place]) for row in (_COLUMNS, *rows, mean)) for place in range(len(_COLUMNS))]
        widest[0] = min(widest[0], _MOST_LETTERS)
        return [widest[place] for place in chosen]

    for name in _LEAST:
        if sum(widths()) + 3 * (len(chosen) - 1) > width:
            chosen.remove(_COLUMNS.index(name))
    legend = _LEGEND if _COLUMNS.index("gray") in chosen else _LEGEND.partition(";")[0]
    table = CaptionedTable(caption=legend)
    table.box, table.show_edge, table.pad_edge = box.SIMPLE_HEAD, False, False
    for place, columns in zip(chosen, widths(), strict=True):
        name = _COLUMNS[place]
        justify: Literal["left", "right"] = "left" if name in ("image", "label") else "right"
        style = "dim" if name in ("gray", "mean") else ""
        table.add_column(name, no_wrap=True, width=columns, justify=justify, style=style)
    for row in rows:
        table.add_row(*(Text(row[place], "red" if row[place].endswith(" (wrong)") else "") for place in chosen))
    table.add_section()
    table.add_row(*(mean[place] for place in chosen), style="bold")
    return table


def _number(value: float | None, places: int) -> str:
    return "n/a" if value is None else f"{value:.{places}f}"
