"""How much of a batch an inversion recovered: each image beside its original, the batch, and what gray would score.

A number alone says little: on natural images a gray picture reaches a PSNR of 9 to 13 dB. So the scores of two answers
that use no observation at all, gray and the dataset's mean image, stand beside every score.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fedsec.errors import InputError
from fedsec.metrics.fidelity import MAX_PSNR, Fidelity, checked, measure, mse, psnr, ssim, ssim_window

if TYPE_CHECKING:
    from fedsec.metrics.lpips import Lpips

__all__ = ["MAX_PSNR", "Fidelity", "ImageScore", "Scores", "assign", "merge", "mse", "psnr", "score", "ssim"]

GRAY = 0.5  # of every pixel of the gray image
_BEST = {"psnr": max, "ssim": max, "lpips": min, "mse": min}


@dataclass(frozen=True)
class ImageScore:
    """One original and what was recovered of it.

    Attributes:
        reconstruction: index of the reconstruction assigned to it.
        found: that reconstruction beside the original.
        gray: what the gray image would score.
        mean_image: what the dataset's mean image would score, if it was given.
        true_label: of the original.
        label: that came with the reconstruction, if labels did.
        recovered: the mean squared error is below the threshold.
        trial: which of the merged batches it belongs to.
    """

    reconstruction: int
    found: Fidelity
    gray: Fidelity
    mean_image: Fidelity | None
    true_label: int
    label: int | None
    recovered: bool
    trial: int = 0

    @property
    def label_right(self) -> bool | None:
        """Whether the reconstruction's label is the original's; None if no labels were recovered."""
        return None if self.label is None else self.label == self.true_label

    def as_json(self) -> dict[str, Any]:
        """Plain data: `psnr` and its like, `psnr_gray`, `psnr_mean_image` and so on, finite numbers or None."""
        mean_image = dict.fromkeys(_BEST) if self.mean_image is None else asdict(self.mean_image)
        return {
            "trial": self.trial,
            "reconstruction": self.reconstruction,
            **asdict(self.found),
            "recovered": self.recovered,
            "true_label": self.true_label,
            "label": self.label,
            "label_right": self.label_right,
            **{f"{name}_gray": value for name, value in asdict(self.gray).items()},
            **{f"{name}_mean_image": value for name, value in mean_image.items()},
        }


@dataclass(frozen=True)
class Scores:
    """How much of one batch, or of several, was recovered.

    Attributes:
        images: one score for each original, in their order; empty if no images were recovered.
        batch_size: number of originals.
        labels_in_common: size of the multiset that recovered and true labels share; None if no labels were recovered.
        recovered_mse: the mean squared error below which an image counts as recovered.
        ssim_window: side of SSIM's window in pixels; None without images.
        lpips: what to call the perceptual distance used (`lpips_alex@64`); None without one.
    """

    images: tuple[ImageScore, ...]
    batch_size: int
    labels_in_common: int | None
    recovered_mse: float
    ssim_window: int | None = None
    lpips: str | None = None

    @property
    def metrics(self) -> dict[str, float | None]:
        """The batch in figures; None where there was nothing to measure.

        `psnr`, `ssim`, `lpips`, `mse`: means over the images; with `_best`, the best-recovered image by that measure
        (the worst case for privacy); with `_gray` and `_mean_image`, means of the null baselines. `recovered`: share of
        images below the threshold. `label_accuracy`: share of labels recovered in any order. `matched_label_accuracy`:
        share of originals whose own reconstruction carries their label.
        """
        rows = [image.as_json() for image in self.images]
        columns = {name: [row[name] for row in rows] for name in rows[0]} if rows else {}
        accuracy = None if self.labels_in_common is None else self.labels_in_common / self.batch_size
        return {
            **{name: _mean(columns.get(name)) for name in _BEST},
            "label_accuracy": accuracy,
            "matched_label_accuracy": _mean(columns.get("label_right")),
            "recovered": _mean(columns.get("recovered")),
            **{f"{name}_best": _over(best, columns.get(name)) for name, best in _BEST.items()},
            **{f"{name}_gray": _mean(columns.get(f"{name}_gray")) for name in _BEST},
            **{f"{name}_mean_image": _mean(columns.get(f"{name}_mean_image")) for name in _BEST},
        }

    def first(self, count: int) -> "Scores":
        """Those of the first originals only; labels in common are those of the reconstructions assigned to them.

        Args:
            count: at most as many as there are scores of images.
        """
        images = self.images[:count]
        truth = Counter(image.true_label for image in images)
        recovered = Counter(image.label for image in images if image.label is not None)
        in_common = None if self.labels_in_common is None else (truth & recovered).total()
        return replace(self, images=images, batch_size=count, labels_in_common=in_common)

    def as_json(self) -> dict[str, Any]:
        """Plain data: `metrics`, one entry for each of `images`, and the `settings` they were measured with."""
        return {
            "metrics": self.metrics,
            "images": [image.as_json() for image in self.images],
            "settings": {
                "recovered_mse": self.recovered_mse,
                "ssim_window": self.ssim_window,
                "lpips": self.lpips,
                "max_psnr": MAX_PSNR,
            },
        }


def score(
    images: Float[Tensor, "batch channels height width"] | None,
    originals: Float[Tensor, "batch channels height width"],
    *,
    labels: Int64[Tensor, "batch"] | None,
    true_labels: Int64[Tensor, "batch"],
    mean_image: Float[Tensor, "channels height width"] | None,
    lpips: "Lpips | None" = None,
    recovered_mse: float = 0.01,
) -> Scores:
    """Compare a reconstruction with the truth; the order of a batch cannot be recovered, so images are assigned first.

    Args:
        images: reconstructed, in [0, 1], in any order; None if the attack recovers labels only.
        originals: in [0, 1].
        labels: that go with `images`; None if the attack recovers none.
        true_labels: of the originals.
        mean_image: of the dataset, in [0, 1]; None to leave that baseline out.
        lpips: measures perceptual distances; None to leave them out.
        recovered_mse: an image with a mean squared error below it counts as recovered.

    Raises:
        InputError: shapes or pixel ranges that do not go together.
    """
    batch_size = len(originals)
    if not batch_size:
        raise InputError("score: no originals")
    for name, numbers in (("labels", labels), ("true_labels", true_labels)):
        if numbers is not None and numbers.shape != (batch_size,):
            raise InputError(f"{name} must be {batch_size}, one for each original, got shape {tuple(numbers.shape)}")
    truth = true_labels.tolist()
    recovered_labels = None if labels is None else labels.tolist()
    in_common = None if recovered_labels is None else (Counter(recovered_labels) & Counter(truth)).total()
    if images is None:
        return Scores((), batch_size, in_common, recovered_mse)
    order = assign(images, originals).tolist()
    reached = measure(images[order], originals, lpips)
    gray = measure(torch.full_like(originals, GRAY), originals, lpips)
    means: Sequence[Fidelity | None] = [None] * batch_size
    if mean_image is not None:
        if mean_image.shape != originals.shape[1:]:
            shapes = tuple(mean_image.shape), tuple(originals.shape[1:])
            raise InputError(f"the mean image has shape {shapes[0]}, the originals have {shapes[1]}")
        means = measure(mean_image.expand_as(originals), originals, lpips)
    records = tuple(
        ImageScore(
            reconstruction=order[i],
            found=reached[i],
            gray=gray[i],
            mean_image=means[i],
            true_label=truth[i],
            label=None if recovered_labels is None else recovered_labels[order[i]],
            recovered=reached[i].mse < recovered_mse,
        )
        for i in range(batch_size)
    )
    height, width = originals.shape[2:]
    name_of_lpips = None if lpips is None else lpips.name(height, width)
    return Scores(records, batch_size, in_common, recovered_mse, ssim_window(height, width), name_of_lpips)


def assign(
    images: Float[Tensor, "batch channels height width"], originals: Float[Tensor, "batch channels height width"]
) -> Int64[Tensor, "batch"]:
    """For each original the index of its reconstruction, so that the summed MSE is the least: `images[assign(...)]`.

    Args:
        images: reconstructed, in [0, 1].
        originals: in [0, 1].

    Raises:
        InputError: see `mse`.
    """
    from scipy.optimize import linear_sum_assignment

    images, originals = checked(images, originals)
    # One original against all images at a time: the differences of all pairs would take batch times the memory.
    errors = torch.stack([(images - original).square().flatten(1).mean(1) for original in originals])
    return torch.from_numpy(linear_sum_assignment(errors.numpy())[1]).to(torch.int64)


def merge(scores: Sequence[Scores]) -> Scores:
    """Several trials as one: every image counts the same, whatever the size of its batch.

    Args:
        scores: of trials that were measured alike; each image keeps the number of its trial.

    Raises:
        InputError: there are none, or they were not measured alike.
    """
    if not scores:
        raise InputError("merge: no scores")
    first = scores[0]
    for other in scores[1:]:
        same = (other.recovered_mse, other.ssim_window, other.lpips) == (
            first.recovered_mse,
            first.ssim_window,
            first.lpips,
        )
        if not same or _absent(other) != _absent(first):
            raise InputError(
                "merge: the trials were not measured alike (threshold, SSIM window, LPIPS or what is None)"
            )
    images = tuple(
        replace(image, trial=trial) for trial, trial_scores in enumerate(scores) for image in trial_scores.images
    )
    in_common = [trial.labels_in_common for trial in scores if trial.labels_in_common is not None]
    return replace(
        first,
        images=images,
        batch_size=sum(trial.batch_size for trial in scores),
        labels_in_common=sum(in_common) if in_common else None,
    )


def _absent(scores: Scores) -> set[str]:
    return {name for name, value in scores.metrics.items() if value is None}


def _mean(values: Sequence[Any] | None) -> float | None:
    return _over(fmean, values)


def _over(reduce: Any, values: Sequence[Any] | None) -> float | None:
    """The values reduced to one; None if there are none or they are absent."""
    return None if not values or None in values else float(reduce(values))
