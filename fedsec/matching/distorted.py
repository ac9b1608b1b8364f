"""What is compared where a defense that the attacker knows has distorted the observed updates.

The same is done to candidate updates and to observed ones: coordinates that were dropped count nothing, parameters
count by how little noise they carry, only directions are compared where lengths say nothing, and signs are compared
with a smooth sign of the candidates' values.

Reference: the attacker who knows the defense: Balunović et al., ICLR 2022, arXiv:2111.04706.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fedsec.matching.distances import squared_norm
from fedsec.threat import Observation

__all__ = ["Comparison"]

_SOFTNESS = 0.03
"""Magnitudes below this share of the mean have a smooth sign that moves with the images; larger ones are nearly signs.

Measured on LeNet and CIFAR-10 with Inverting Gradients: of 0.03, 0.1, 0.3 and 1 the smallest gives the best images."""

_LEAST_NOISE = 1e-2
"""Of the noisiest parameter's: no model is exact, and parameters without noise must not be all that counts."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """How updates are compared in spite of a distortion.

    Attributes:
        kept: for each parameter, one where the update was kept and zero elsewhere [observations, ...]; None for
            everywhere.
        factors: for each parameter, its weight by its noise [observations, 1, ...], or None.
        signs: whether only signs were sent.
        rescaled: whether lengths say nothing.
        targets: for each parameter, what the candidates' updates should become [observations, ...].
        noise: share of the targets' squared norm that is noise, to be expected [observations].
    """

    kept: list[Tensor | None]
    factors: list[Tensor | None]
    signs: bool
    rescaled: bool
    targets: list[Tensor]
    noise: Float[Tensor, "observations"]

    @classmethod
    def of(cls, observations: Sequence[Observation], names: Sequence[str]) -> "Comparison | None":
        """From observations that all grant a distortion, or None where none does."""
        told = [each.distortion for each in observations if each.distortion is not None]
        if not told:
            return None
        kept: list[Tensor | None] = []
        targets, deviations = [], []
        for name in names:
            rows = torch.stack([each.update[name] for each in observations])
            mask = None
            if any(name in each.kept for each in told):
                full = torch.ones_like(rows[0], dtype=torch.bool)
                mask = torch.stack([each.kept.get(name, full) for each in told]).to(rows)
                rows = rows * mask
            spread = rows.new_tensor([each.noise.get(name, 0.0) for each in told])
            if told[0].signs:
                scale = _mean_magnitude(rows, mask).clamp_min(torch.finfo(rows.dtype).tiny)
                rows, spread = rows / scale, spread / scale.flatten()
            kept.append(mask)
            targets.append(rows)
            deviations.append(spread)
        factors = _factors(torch.stack(deviations), targets)
        weighted = [row if factor is None else row * factor for row, factor in zip(targets, factors, strict=True)]
        squares = squared_norm(weighted)
        energy = torch.zeros_like(squares)
        for row, mask, factor, spread in zip(targets, kept, factors, deviations, strict=True):
            count = mask.flatten(1).sum(1) if mask is not None else row[0].numel()
            energy += count * (spread if factor is None else spread * factor.flatten()).square()
        if told[0].rescaled:
            weighted = _directions(weighted)
        noise = (energy / squares.clamp_min(torch.finfo(squares.dtype).tiny)).clamp(0, 1)
        return cls(kept, factors, told[0].signs, told[0].rescaled, weighted, noise)

    def __call__(self, updates: Sequence[Tensor], owner: Int64[Tensor, "some"]) -> list[Tensor]:
        """Candidates' updates as they are compared, twice differentiable almost everywhere.

        Args:
            updates: for each parameter, [some, ...].
            owner: whose observation each of them should reach, in rising order.
        """
        made = []
        for row, mask, factor in zip(updates, self.kept, self.factors, strict=True):
            if mask is not None:
                mask = _rows(mask, owner)
                row = row * mask
            if self.signs:
                size = row.abs()
                row = row / (size + _SOFTNESS * _mean_magnitude(size, mask) + torch.finfo(row.dtype).tiny)
            made.append(row if factor is None else row * _rows(factor, owner))
        return _directions(made) if self.rescaled else made


def _rows(values: Tensor, owner: Int64[Tensor, "some"]) -> Tensor:
    """Of each problem's observation; without a copy where there is only one, or every problem has its own."""
    if len(values) == 1 or (len(values) == len(owner) and bool((owner == torch.arange(len(owner))).all())):
        return values
    return values[owner.to(values.device)]


def _mean_magnitude(rows: Tensor, mask: Tensor | None) -> Float[Tensor, "some ..."]:
    """Over what was kept of each, [some, 1, ...]."""
    totals = rows.abs().flatten(1).sum(1)
    counts = rows[0].numel() if mask is None else mask.flatten(1).sum(1).clamp_min(1)
    return (totals / counts).view(-1, *[1] * (rows.ndim - 1))


def _factors(deviations: Float[Tensor, "parameters observations"], targets: Sequence[Tensor]) -> list[Tensor | None]:
    """One over each parameter's noise, at most one; None where all have the same or none."""
    most = deviations.amax(0)
    least = deviations.clamp_min(1e-30).amin(0)
    if bool((deviations == most).all()):
        return [None] * len(targets)
    floor = (_LEAST_NOISE * most).clamp_min(1e-30)
    factors = least.maximum(floor) / deviations.maximum(floor)
    return [row.view(-1, *[1] * (goal.ndim - 1)) for row, goal in zip(factors, targets, strict=True)]


def _directions(rows: Sequence[Tensor]) -> list[Tensor]:
    """Each problem's update over its norm."""
    norms = squared_norm(rows).clamp_min(torch.finfo(rows[0].dtype).tiny).sqrt()
    return [row / norms.view(-1, *[1] * (row.ndim - 1)) for row in rows]
