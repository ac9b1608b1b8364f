"""One inversion of one observation, beside the truth."""

import time
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from fedsec.metrics.images import Scores, score
from fedsec.metrics.lpips import Lpips, MissingWeightsError
from fedsec.threat import Inversion, Observation, Reconstruction

__all__ = ["Attempt", "attempted", "lpips_at_hand"]


def lpips_at_hand() -> Lpips | None:
    """What measures perceptual distances, if its weights were downloaded; nothing is."""
    try:
        return Lpips.load("alex", download=False)
    except MissingWeightsError:
        return None


@dataclass(frozen=True, eq=False)
class Attempt:
    """What an inversion recovered, and how much of the truth that is.

    Attributes:
        reconstruction: what it recovered.
        originals: in [0, 1].
        scores: of the originals, each beside the reconstruction that was assigned to it.
        seconds: that it took.
    """

    reconstruction: Reconstruction
    originals: Float[Tensor, "batch channels height width"]
    scores: Scores
    seconds: float

    def first(self, count: int) -> "Attempt":
        """The same of the first originals only, each with the reconstruction that it was assigned among all."""
        return replace(self, originals=self.originals[:count], scores=self.scores.first(count))


def attempted(
    inversion: Inversion,
    observation: Observation,
    images: UInt8[Tensor, "batch channels height width"],
    labels: Int64[Tensor, "batch"],
    *,
    mean_image: Float[Tensor, "channels height width"] | None = None,
    lpips: Lpips | None,
    generator: torch.Generator,
) -> Attempt:
    """Invert an observation, and compare with the truth.

    Args:
        inversion: of the server.
        observation: what it sees.
        images: that it is about, in 0..255.
        labels: of the images.
        mean_image: in [0, 1], another answer that looks at nothing; None for none.
        lpips: measures perceptual distances; None to leave them out.
        generator: of the inversion.
    """
    begun = time.perf_counter()
    reconstruction = inversion.reconstruct(observation, generator=generator)
    seconds = time.perf_counter() - begun
    originals = images.cpu().float() / 255
    scores = score(
        None if reconstruction.images is None else reconstruction.images.cpu(),
        originals,
        labels=None if reconstruction.labels is None else reconstruction.labels.cpu(),
        true_labels=labels.cpu(),
        mean_image=mean_image,
        lpips=lpips,
    )
    return Attempt(reconstruction, originals, scores, seconds)
