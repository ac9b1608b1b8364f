"""How far candidate updates are from the observed ones, and how unlike photographs candidate images are."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["cosine_distance", "squared_distance", "squared_norm", "total_variation"]


def squared_norm(updates: Sequence[Tensor]) -> Float[Tensor, "problems"]:
    """Sum of squares of each problem's update, over all parameters.

    Args:
        updates: for each parameter, [problems, ...].
    """
    return _sum([row.reshape(len(row), -1).square().sum(1) for row in updates])


def squared_distance(
    updates: Sequence[Tensor], targets: Sequence[Tensor], scales: Float[Tensor, "problems"]
) -> Float[Tensor, "problems"]:
    """||update - target||^2 / ||target||^2 of each problem.

    Args:
        updates: for each parameter, [problems, ...].
        targets: likewise.
        scales: squared norms of the targets; computed once, not at every step.

    Reference: Zhu, Liu, Han, NeurIPS 2019, arXiv:1906.08935 (there without the denominator, which changes no minimum)
    """
    return squared_norm([row - goal for row, goal in zip(updates, targets, strict=True)]) / scales


def cosine_distance(
    updates: Sequence[Tensor], targets: Sequence[Tensor], norms: Float[Tensor, "problems"]
) -> Float[Tensor, "problems"]:
    """1 - <update, target> / (||update|| ||target||) of each problem.

    Args:
        updates: for each parameter, [problems, ...].
        targets: likewise.
        norms: of the targets; computed once, not at every step.

    Reference: Geiping, Bauermeister, Dröge, Moeller, NeurIPS 2020, arXiv:2003.14053
    """
    distances: Tensor = _Cosine.apply(norms, len(updates), *updates, *targets)
    return distances


class _Cosine(torch.autograd.Function):
    """The distance with its derivative in closed form: two passes over large updates instead of about eight."""

    @staticmethod
    def forward(ctx: Any, norms: Tensor, count: int, *rows: Tensor) -> Tensor:
        updates, targets = rows[:count], rows[count:]
        product = _sum([_inner(row, goal) for row, goal in zip(updates, targets, strict=True)])
        square = _sum([_inner(row, row) for row in updates])
        ctx.save_for_backward(norms, product, square, *rows)
        return 1 - product / (square.sqrt() * norms)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        norms, product, square, *rows = ctx.saved_tensors
        count = len(rows) // 2
        toward = -outer[0] / (square.sqrt() * norms)
        along = -toward * product / square
        gradients = []
        for row, goal in zip(rows[:count], rows[count:], strict=True):
            shape = (-1, *[1] * (row.ndim - 1))
            gradients.append((goal * toward.view(shape)).addcmul_(row, along.view(shape)))
        return None, None, *gradients, *[None] * count


def _inner(left: Tensor, right: Tensor) -> Float[Tensor, "problems"]:
    """<left, right> of each problem."""
    rows = len(left)
    return (left.reshape(rows, 1, -1) @ right.reshape(rows, -1, 1)).view(rows)


def total_variation(images: Float[Tensor, "problems batch c h w"]) -> Float[Tensor, "problems"]:
    """Mean absolute difference of horizontal neighbors plus that of vertical ones.

    Args:
        images: one batch a problem.

    Reference: Rudin, Osher, Fatemi, Physica D, 1992 (the anisotropic form)
    """
    return images.diff(dim=-1).abs().flatten(1).mean(1) + images.diff(dim=-2).abs().flatten(1).mean(1)


def _sum(parts: Sequence[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
