"""Marvell: the Gaussian noise of a given power that makes two classes' gradients at the cut hardest to tell apart.

Reference: Li, Sun, Yang, Gao, Xie, Smith, Wang, Label leakage and protection in two-party split learning, ICLR 2022,
arXiv:2102.08504, section 4.2 and theorem 2.

Gradients of either class are taken for Gaussians of means that differ by D, with covariances u I (the first class) and
v I (the second), read off the batch. Of all Gaussian noises of both classes whose expected squared norm is at most P,
those that make the sum of both Kullback-Leibler divergences smallest have covariances l1 along D and l2 in the other
d - 1 directions, so that there are four numbers to find. Where u <= v, the second class gets nothing in the other
directions and the first at most v - u, and the power is used up: two numbers are left, which are searched on a grid
that zooms in.

Deviation: the paper alternates between pairs of the four numbers from several starting points.
"""

from math import isfinite

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.defense import ActivationDefense
from fedsec.errors import InputError

_GRID, _ZOOMS = 33, 8


class Marvell(ActivationDefense):
    """Adds noise that depends on the label, so that gradients at the cut of two classes look alike.

    minimize KL(N1 || N0) + KL(N0 || N1) subject to p E ||n1||^2 + (1 - p) E ||n0||^2 <= power ||D||^2

    where Ny are the classes' gradients with their noise ny, D is the difference of their means and p the share of the
    second class, in each batch.

    Args:
        power: the noise's mean squared norm, in squared distances of the classes' mean gradients.

    Raises:
        InputError: a power that is not positive, or (in use) labels of more than two classes.

    Cost:
        As many random numbers as gradients have entries, and a search over two numbers a batch.

    Limits:
        Two classes. A batch of one class has nothing to be made alike and goes as it is. It hides labels in gradients:
        what trained activations tell (model_completion) stays. The guarantee is of a Gaussian model of one batch.

    Example:
        power: 4.0

    Reference: Li et al., ICLR 2022, arXiv:2102.08504
    """

    tasks = ("classification",)
    most_classes = 2

    def __init__(self, power: float = 1.0) -> None:
        if not (isfinite(power) and power > 0):
            raise InputError(f"Marvell: power must be positive, not {power}")
        self.power = power

    def perturb(
        self, gradients: Float[Tensor, "batch *shape"], labels: Tensor, *, generator: torch.Generator
    ) -> Float[Tensor, "batch *shape"]:
        if labels.is_floating_point() or int(labels.max()) > 1:
            raise InputError("Marvell: made for two classes; expected labels 0 and 1, or another defense")
        rows, second = gradients.flatten(1).double(), labels == 1
        share, width = float(second.double().mean()), rows.shape[1]
        if not 0 < share < 1:
            return gradients
        means = rows[~second].mean(0), rows[second].mean(0)
        difference = means[1] - means[0]
        square = float(difference.square().sum())
        if not (isfinite(square) and square > 0):
            return gradients
        variances = [
            float((rows[chosen] - mean).square().mean()) for chosen, mean in zip((~second, second), means, strict=True)
        ]
        along, across = least_divergence(variances[0], variances[1], width, square, share, self.power * square)
        draws = torch.randn(rows.shape, generator=generator, dtype=torch.float64).to(rows)
        direction = difference / square**0.5
        lengths = rows.new_tensor(along).sqrt()[labels], rows.new_tensor(across).sqrt()[labels]
        projected = draws @ direction
        noise = lengths[1][:, None] * draws + ((lengths[0] - lengths[1]) * projected)[:, None] * direction
        perturbed: Tensor = (rows + noise).to(gradients).view_as(gradients)
        return perturbed


def divergence(
    along: tuple[Tensor, Tensor],
    across: tuple[Tensor, Tensor],
    variances: tuple[float, float],
    width: int,
    square: float,
) -> Tensor:
    """Twice the sum of both divergences, but for a constant.

    Args:
        along: the noise's variance in the direction of the difference, of the first and the second class.
        across: in each other direction.
        variances: of the gradients, in each direction.
        width: number of directions.
        square: squared length of the difference of the means.
    """
    first, second = (noise + variance for noise, variance in zip(along, variances, strict=True))
    third, fourth = (noise + variance for noise, variance in zip(across, variances, strict=True))
    others = (width - 1) * (third / fourth + fourth / third)
    return others + (first + square) / second + (second + square) / first


def least_divergence(
    first: float, second: float, width: int, square: float, share: float, power: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """The variances of the noise of both classes, along the difference and across, that make `divergence` smallest.

    Args:
        first: variance of the first class's gradients in each direction.
        second: of the second class's.
        width: number of directions.
        square: squared length of the difference of the means.
        share: of the second class.
        power: bound of the noise's mean squared norm.
    """
    least = 1e-9 * square / width
    first, second = max(first, least), max(second, least)
    if first > second:
        (one, other), (third, fourth) = least_divergence(second, first, width, square, 1 - share, power)
        return (other, one), (fourth, third)
    weight = 1 - share
    most = min(second - first, power / (weight * (width - 1))) if width > 1 else 0.0
    low, high = torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    unit = torch.linspace(0, 1, _GRID, dtype=torch.float64)
    for _ in range(_ZOOMS):
        across_share = (low[0] + (high[0] - low[0]) * unit)[:, None].expand(-1, _GRID)
        along_share = (low[1] + (high[1] - low[1]) * unit)[None].expand(_GRID, -1)
        across, along = _split(across_share, along_share, most, weight, width, power)
        values = divergence(along, (across, torch.zeros_like(across)), (first, second), width, square)
        place = int(values.argmin())
        best = torch.stack([across_share.flatten()[place], along_share.flatten()[place]])
        span = (high - low) * 2 / (_GRID - 1)
        low, high = (best - span).clamp(0, 1), (best + span).clamp(0, 1)
    across, along = _split(best[0], best[1], most, weight, width, power)
    return (float(along[0]), float(along[1])), (float(across), 0.0)


def _split(
    across_share: Tensor, along_share: Tensor, most: float, weight: float, width: int, power: float
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """How the power is spent: on the first class across the difference, and along it on either class."""
    across = most * across_share
    left = (power - weight * (width - 1) * across).clamp_min(0)
    return across, (left * along_share / weight, left * (1 - along_share) / (1 - weight))
