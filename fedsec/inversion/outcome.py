"""What an inversion came to, and the files it leaves."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from fedsec.files import read_json, write_atomic, write_json
from fedsec.inversion import figures
from fedsec.inversion.images import Victims
from fedsec.metrics.images import Scores
from fedsec.threat import Reconstruction, Snapshot

__all__ = ["Outcome", "clear", "from_snapshot", "write"]

_RESULT = "result.json"


@dataclass(frozen=True, eq=False)
class Outcome:
    """What an inversion came to.

    Attributes:
        root: folder of the files.
        result: the content of `result.json`.
        victims: what was to be recovered.
        reconstructions: one for each batch.
        scores: of all batches.
        interrupted: stopped by the user; the best so far was kept.
    """

    root: Path
    result: dict[str, Any]
    victims: Victims
    reconstructions: tuple[Reconstruction, ...]
    scores: Scores
    interrupted: bool


def clear(root: Path) -> None:
    """Remove the files that an earlier inversion's `result.json` lists, and nothing else that may lie there."""
    for name in _listed(root):
        path = root / name
        if path.is_file():
            path.unlink()


def write(outcome: Outcome, title: str, frames: Sequence[figures.Frame] | None) -> list[str]:
    """Write pictures, tensors and `result.json`, which comes last: where it is, the rest is, and it lists the rest.

    Args:
        outcome: what to write.
        title: of the picture.
        frames: moments of the recovery, for an animation; None for none.

    Returns:
        The files' names, the most interesting first.
    """
    root, found, written = outcome.root, outcome.reconstructions, []
    batches = _pairs(outcome)
    if batches:
        written += figures.draw_reconstruction(root, batches, title)
    losses = [each.losses.detach().cpu() for each in found]
    written += figures.draw_loss(root, losses, [each.iterations for each in found])
    if frames is not None and batches:
        last = torch.stack([each.images.detach().cpu() for each in found if each.images is not None])
        frames = [*frames, figures.Frame("interrupted" if outcome.interrupted else "done", last)]
        written.append(figures.write_gif(root / "recovery.gif", outcome.victims.pixels, frames))
    write_atomic(root / "tensors.safetensors", save(_tensors(outcome)))
    files = [*(path.name for path in written), "tensors.safetensors", _RESULT]
    outcome.result["files"] = files
    write_json(root / _RESULT, outcome.result)
    return files


def from_snapshot(last: Snapshot) -> tuple[Reconstruction, ...]:
    """The best so far of an attack that was stopped where it does not listen."""
    rows = zip(last.images, last.labels, last.losses, strict=True)
    return tuple(
        Reconstruction(
            images.detach().clamp(0, 1),
            labels,
            losses=loss.detach().reshape(1),
            iterations=last.iteration,
            interrupted=True,
        )
        for images, labels, loss in rows
    )


def _listed(root: Path) -> list[str]:
    """Names of the files that an inversion wrote here; none if the folder has no `result.json` of an inversion."""
    try:
        content = read_json(root / _RESULT)
    except (OSError, ValueError):
        return []
    if not isinstance(content, dict) or not {"attack", "verdict", "files"} <= content.keys():
        return []
    names = content["files"]
    if not isinstance(names, list):
        return []
    # A list that someone has edited must not lead out of the folder.
    return [name for name in names if isinstance(name, str) and name == Path(name).name]


def _pairs(outcome: Outcome) -> list[list[figures.Pair]]:
    """Originals and their reconstructions batch by batch; nothing if no images were recovered."""
    victims, batches = outcome.victims, []
    originals = victims.pixels
    for trial, found in enumerate(outcome.reconstructions):
        scores = [image for image in outcome.scores.images if image.trial == trial]
        if found.images is None:
            return []
        rows = zip(originals[trial], victims.captions[trial], scores, strict=True)
        batches.append(
            [
                figures.Pair(
                    original,
                    found.images[each.reconstruction].cpu(),
                    caption,
                    None if each.label is None else victims.classes[each.label],
                    each,
                )
                for original, caption, each in rows
            ]
        )
    return batches


def _tensors(outcome: Outcome) -> dict[str, Tensor]:
    """What was recovered beside the truth, reconstructions in the order of their originals."""
    found, scores = outcome.reconstructions, outcome.scores
    tensors = {"originals": outcome.victims.pixels, "labels": outcome.victims.labels}
    orders = [
        torch.tensor([image.reconstruction for image in scores.images if image.trial == trial], dtype=torch.int64)
        for trial in range(len(found))
    ]

    def gather(rows: Sequence[Tensor | None]) -> Tensor | None:
        kept = [row.detach().cpu() for row in rows if row is not None]
        if len(kept) < len(rows):
            return None
        return torch.stack([row[order] if len(order) else row for row, order in zip(kept, orders, strict=True)])

    recovered = {
        "reconstructions": gather([each.images for each in found]),
        "recovered_labels": gather([each.labels for each in found]),
        "recovered_features": gather([each.features for each in found]),
    }
    tensors |= {name: rows for name, rows in recovered.items() if rows is not None}
    return {name: rows.contiguous() for name, rows in tensors.items()}
