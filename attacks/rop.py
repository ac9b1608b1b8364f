"""Relocated orthogonal perturbation: beside the point where a clipping rule looks from.

Reference: Ozfatura, Ozfatura, Kupcu, Gunduz, Byzantines can also learn from history: fall of centered clipping in
federated learning, IEEE TIFS 2023, arXiv:2208.09894.
"""

from math import cos, isfinite, radians, sin
from typing import Literal

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat import AttackerView, UpdatePoisoning
from fedsec.threat.byzantine.collusion import check_scatter, colluding
from fedsec.threat.byzantine.spread import Spread


class ROP(UpdatePoisoning):
    """Sends the last aggregate, which centered clipping clips towards, plus a perturbation at a right angle to it.

    With the mean m of the honest updates and the last aggregate a (zero before the second round): from the point
    relocation * a + (1 - relocation) * m it goes `z` lengths along sin(angle) * p + cos(angle) * r / ||r||. There r is
    the reference mixing * a + (1 - mixing) * m (m itself in the first round), and p of length one is the vector of ones
    less its projection on r: round after round about the same direction.

    Args:
        z: how far to go, positive.
        relative: whether z counts in root mean square distances of the honest updates from their mean, so that it needs
            no tuning; false: in units of an update's numbers, as in the paper.
        relocation: from where, 1: the last aggregate, 0: the honest mean.
        mixing: what the perturbation is orthogonal to, 1: the last aggregate, 0: the honest mean.
        angle: between perturbation and reference, in degrees.
        knowledge: whether the honest mean is that of the honest clients' rows (omniscient), or of what the attackers
            would have sent honestly (own).
        scatter: how far the attackers' rows are from what they agreed on, in [0, 1), as a share of the smallest
            distance between honest updates; 0: all send the same.

    Raises:
        InputError: a number out of range.

    Cost:
        n d for the mean and the perturbation.

    Limits:
        Made for a rule that clips toward a center which all know; with random buckets (`sequential`) centered clipping
        has many (Ozfatura et al., IEEE TIFS 2023).

    Reference: Ozfatura et al., IEEE TIFS 2023, arXiv:2208.09894
    """

    needs_last_aggregate = True

    def __init__(
        self,
        z: float = 1.0,
        relative: bool = True,
        relocation: float = 1.0,
        mixing: float = 0.9,
        angle: float = 90.0,
        knowledge: Literal["own", "omniscient"] = "omniscient",
        scatter: float = 0.0,
    ) -> None:
        check_scatter("ROP", scatter)
        if not (isfinite(z) and z > 0 and isfinite(angle)):
            raise InputError(f"ROP: z must be positive and finite, and angle finite, not {z} and {angle}")
        if not (0 <= relocation <= 1 and 0 <= mixing <= 1):
            raise InputError(f"ROP: relocation and mixing must lie in [0, 1], not {relocation} and {mixing}")
        self.z, self.relative, self.relocation, self.mixing, self.angle = z, relative, relocation, mixing, angle
        self.knowledge, self.scatter = knowledge, scatter

    def forge(self, view: AttackerView) -> Float[Tensor, "byzantine parameters"]:
        spread = Spread(view.benign)
        mean = spread.mean
        if view.last_aggregate is None:
            last, reference = torch.zeros_like(mean), mean
        else:
            last = view.last_aggregate.double()
            reference = self.mixing * last + (1 - self.mixing) * mean
        place = self.relocation * last + (1 - self.relocation) * mean
        size = self.z * float(spread.squared_deviations().mean().sqrt()) if self.relative else self.z
        row = place + size * self._perturbation(reference, view.generator)
        return colluding(row, view, spread, self.scatter)

    def _perturbation(
        self, reference: Float64[Tensor, "parameters"], generator: torch.Generator
    ) -> Float64[Tensor, "parameters"]:
        """Of length one, at the angle to the reference; at a right angle to nothing where that is zero."""
        norm = float(reference.norm())
        ahead = reference / norm if norm > 0 else reference
        aside = _orthogonal(torch.ones_like(reference), ahead)
        if not bool(aside.any()):
            aside = _orthogonal(torch.randn(len(reference), generator=generator, dtype=torch.float64).to(ahead), ahead)
        if norm == 0 or not bool(aside.any()):  # a single parameter has no other direction
            return aside if norm == 0 else ahead
        return sin(radians(self.angle)) * aside + cos(radians(self.angle)) * ahead


def _orthogonal(
    vector: Float64[Tensor, "parameters"], unit: Float64[Tensor, "parameters"]
) -> Float64[Tensor, "parameters"]:
    """What of a vector is orthogonal to a unit vector, of length one; zero where nothing but rounding is."""
    rest = vector - (vector @ unit) * unit
    rest = rest - (rest @ unit) * unit  # once more: the first time leaves the rounding of a large projection
    norm = float(rest.norm())
    return rest / norm if norm > 1e-9 * float(vector.norm()) else torch.zeros_like(rest)
