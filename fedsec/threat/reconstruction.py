"""What an inversion makes of what it saw."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int64
from torch import Tensor

__all__ = ["Reconstruction"]


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What an inversion recovered from one observation.

    Attributes:
        images: in [0, 1], in an order of the attack's own; None if it recovers labels only.
        labels: of the same images, or None if it recovers neither.
        losses: the matching loss of the chosen restart at intervals, last the final one.
        iterations: of the optimizer, or 0 for closed forms.
        features: what enters the last linear layer, if the attack recovers it.
        interrupted: stopped by the user; the best so far.
        notes: what a reader should know, one line each.
    """

    images: Float[Tensor, "batch channels height width"] | None
    labels: Int64[Tensor, "batch"] | None
    losses: Float[Tensor, "records"] = field(default_factory=lambda: torch.zeros(0))
    iterations: int = 0
    features: Float[Tensor, "batch features"] | None = None
    interrupted: bool = False
    notes: tuple[str, ...] = ()
