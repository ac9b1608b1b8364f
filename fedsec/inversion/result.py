"""What an inversion came to, as an object and as the files it leaves."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from jaxtyping import Float, Int64
from safetensors.torch import save
from torch import Tensor

from fedsec.files import write_atomic
from fedsec.inversion import figures
from fedsec.inversion.images import Victims
from fedsec.inversion.outcome import InversionOutcome, finish
from fedsec.inversion.page import TENSORS, inversion_page, loss_tensors
from fedsec.inversion.written import RESULT
from fedsec.metrics.images import Scores
from fedsec.threat import Reconstruction, Snapshot

__all__ = ["InversionResult", "from_snapshot", "write"]


@dataclass(frozen=True, eq=False, repr=False)
class InversionResult(InversionOutcome):
    """What an inversion came to: what `fedsec invert` writes, as an object.

    Attributes:
        content: of `result.json`, as plain data: settings, scores, versions and all.
        victims: what was to be recovered.
        reconstructions: one for each batch, as the inversion returned it.
        scores: of all batches, image by image.
        root: folder of the files; None if none were written.
        interrupted: stopped by the user; the best so far was kept.
    """

    content: dict[str, Any]
    victims: Victims
    reconstructions: tuple[Reconstruction, ...]
    scores: Scores
    root: Path | None
    interrupted: bool

    @property
    def images(self) -> Float[Tensor, "trials batch channels height width"] | None:
        """What was recovered, in [0, 1], each image in the place of the original it was compared with; None if none."""
        return self.tensors().get("reconstructions")

    @property
    def labels(self) -> Int64[Tensor, "trials batch"] | None:
        """The class of each recovered image; None if the inversion finds none."""
        return self.tensors().get("recovered_labels")

    @property
    def originals(self) -> Float[Tensor, "trials batch channels height width"]:
        """What was to be recovered, in [0, 1]."""
        return self.victims.pixels

    def tensors(self) -> dict[str, Tensor]:
        """What `tensors.safetensors` holds: recovered beside true, in the order of the originals."""
        return _tensors(self)

    def _repr_html_(self) -> str:
        """The verdict and the picture, for notebooks."""
        from fedsec.report.notebook import inversion_html

        scores = {name: self.metrics.get(name) for name in ("psnr", "ssim", "lpips", "label_accuracy")}
        means = ", ".join(f"{name} {value:.3g}" for name, value in scores.items() if value is not None)
        lines = [f"{self.content['inversion']} on {self.content['model']}", *([f"means: {means}"] if means else [])]
        lines += [self.content["given"], *(f"note: {note}" for note in self.notes)]
        with TemporaryDirectory() as folder:
            pairs = _pairs(self)
            pictures = figures.draw_reconstruction(Path(folder), pairs, lines[0]) if pairs else []
            return inversion_html(self.verdict, lines, pictures)


def write(result: InversionResult, title: str, frames: Sequence[figures.Frame] | None) -> list[str]:
    """Write pictures, tensors and `result.json`, which comes last: where it is, the rest is, and it lists the rest.

    Args:
        result: what to write; it has a folder.
        title: of the picture.
        frames: moments of the recovery, for an animation; None for none.

    Returns:
        The files' names, the most interesting first.
    """
    root, reconstructions, written = result.root, result.reconstructions, []
    assert root is not None
    batches = _pairs(result)
    if batches:
        written += figures.draw_reconstruction(root, batches, title)
    losses = [reconstruction.losses.detach().cpu() for reconstruction in reconstructions]
    iterations = [reconstruction.iterations for reconstruction in reconstructions]
    written += figures.draw_loss(root, losses, iterations)
    if frames is not None and batches:
        last = torch.stack([part.images.detach().cpu() for part in reconstructions if part.images is not None])
        frames = [*frames, figures.Frame("interrupted" if result.interrupted else "done", last)]
        written.append(figures.write_gif(root / "recovery.gif", result.victims.pixels, frames))
    tensors = _tensors(result) | loss_tensors(losses, iterations)
    write_atomic(root / TENSORS, save(tensors))
    files = [*(path.name for path in written), TENSORS, RESULT]
    return finish(root, result.content, files, lambda: inversion_page(result.content, tensors))


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


def _pairs(result: InversionResult) -> list[list[figures.Pair]]:
    """Originals and their reconstructions batch by batch; nothing if no images were recovered."""
    victims, batches = result.victims, []
    originals = victims.pixels
    for trial, reconstruction in enumerate(result.reconstructions):
        scores = [image for image in result.scores.images if image.trial == trial]
        if reconstruction.images is None:
            return []
        rows = zip(originals[trial], victims.captions[trial], scores, strict=True)
        batches.append(
            [
                figures.Pair(
                    original,
                    reconstruction.images[score.reconstruction].cpu(),
                    caption,
                    None if score.label is None else victims.classes[score.label],
                    score,
                )
                for original, caption, score in rows
            ]
        )
    return batches


def _tensors(result: InversionResult) -> dict[str, Tensor]:
    """What was recovered beside the truth, reconstructions in the order of their originals."""
    reconstructions, scores = result.reconstructions, result.scores
    tensors = {"originals": result.victims.pixels, "labels": result.victims.labels}
    orders = [
        torch.tensor([image.reconstruction for image in scores.images if image.trial == trial], dtype=torch.int64)
        for trial in range(len(reconstructions))
    ]

    def gather(rows: Sequence[Tensor | None]) -> Tensor | None:
        present = [row.detach().cpu() for row in rows if row is not None]
        if len(present) < len(rows):
            return None
        return torch.stack([row[order] if len(order) else row for row, order in zip(present, orders, strict=True)])

    recovered = {
        "reconstructions": gather([part.images for part in reconstructions]),
        "recovered_labels": gather([part.labels for part in reconstructions]),
        "recovered_features": gather([part.features for part in reconstructions]),
    }
    tensors |= {name: rows for name, rows in recovered.items() if rows is not None}
    return {name: rows.contiguous() for name, rows in tensors.items()}
