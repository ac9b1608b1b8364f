"""An affine correction of the gradient, by which clients of several algorithms differ from plain local training."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.engine.local_training import FLOAT32_MAX
from fedsec.engine.parameters import ParameterLayout
from fedsec.errors import InputError


def rows_at(matrix: Float[Tensor, "rows columns"], places: Sequence[int]) -> Float[Tensor, "places columns"]:
    """Rows of a matrix, to be read only: where they follow each other, they are not copied.

    Args:
        matrix: left unchanged.
        places: in the order wanted.
    """
    first, end = places[0], places[0] + len(places)
    return matrix[first:end] if list(places) == [*range(first, end)] else matrix[list(places)]


@dataclass(frozen=True, eq=False)
class Correction:
    """What changes the gradient g of every local step: mask * (g + alpha (w - center) + shift).

    FedProx takes alpha = mu; SCAFFOLD a shift of c - c_i for each client; FedDyn both; attackers a mask. It depends on
    no example, so in private training it comes after clipping and noise, as weight decay does. (Weight decay joins
    later still: a mask does not hold it back.)

    Args:
        alpha: how strongly clients are pulled towards the center; negative, how strongly they are pushed away.
        center: one vector for all clients, or a row for each; None for what each of them received.
        shift: a row for each client, in the order of the cohort's plans; None for none.
        mask: likewise; multiplies the corrected gradient, coordinate by coordinate.

    Raises:
        InputError: alpha is not finite in float32, or center, shift or mask have another number of axes.

    Reference: Li et al. 2020, arXiv:1812.06127 (FedProx); Karimireddy et al. 2020, arXiv:1910.06378 (SCAFFOLD);
        Acar et al. 2021, arXiv:2111.04263 (FedDyn)
    """

    alpha: float = 0.0
    center: Float[Tensor, "*clients parameters"] | None = None
    shift: Float[Tensor, "clients parameters"] | None = None
    mask: Float[Tensor, "clients parameters"] | None = None

    def __post_init__(self) -> None:
        if not abs(self.alpha) <= FLOAT32_MAX:
            raise InputError(f"correction of the gradient: alpha must be finite in float32, got {self.alpha}")
        if self.center is not None and self.center.ndim not in (1, 2):
            raise InputError(
                "correction of the gradient: center must be a vector or a row for each client, got shape "
                f"{tuple(self.center.shape)}"
            )
        for name, rows in (("shift", self.shift), ("mask", self.mask)):
            if rows is not None and rows.ndim != 2:
                raise InputError(
                    f"correction of the gradient: {name} must be a row for each client, got shape {tuple(rows.shape)}"
                )

    @property
    def kind(self) -> tuple[float, bool, bool]:
        """All that a step's program depends on: alpha, and whether there is a shift and a mask."""
        return self.alpha, self.shift is not None, self.mask is not None

    @property
    def vectors(self) -> int:
        """Vectors of a model's length that one client's steps take: center, way gone, shift, mask."""
        return 2 * bool(self.alpha) + int(self.shift is not None) + int(self.mask is not None)

    def check(self, clients: int, parameters: int) -> None:
        """Refuse what does not fit a cohort.

        Args:
            clients: of the cohort.
            parameters: of the model.

        Raises:
            InputError: center, shift or mask have other shapes.
        """
        for name, tensor in (("center", self.center), ("shift", self.shift), ("mask", self.mask)):
            expected = (clients, parameters) if tensor is None or tensor.ndim == 2 else (parameters,)
            if tensor is not None and tuple(tensor.shape) != expected:
                raise InputError(
                    f"correction of the gradient: {name} has shape {tuple(tensor.shape)}; expected {expected} for "
                    f"{clients} clients and {parameters:,} parameters"
                )

    def rows(self, clients: Sequence[int]) -> "Correction":
        """The correction of the clients in these places, in this order; where they follow each other, not a copy."""
        center = self.center if self.center is None or self.center.ndim == 1 else rows_at(self.center, clients)
        shift, mask = (None if rows is None else rows_at(rows, clients) for rows in (self.shift, self.mask))
        return Correction(self.alpha, center, shift, mask)

    def join(
        self,
        leaves: Sequence[Tensor],
        layout: ParameterLayout,
        parameters: Float[Tensor, "active parameters"],
        received: Float[Tensor, "*clients parameters"],
        out: Float[Tensor, "active parameters"],
        *,
        moved: bool = True,
    ) -> None:
        """Write the corrected gradients of the first clients, as many as have one, into a matrix.

        What joins them first does so as they are written: a pass over memory less, and fully connected networks spend
        most of a step on such passes.

        Args:
            leaves: their gradients by parameters, in the order of the layout: [active, *shape] each.
            layout: of the rows.
            parameters: where they stand.
            received: what all clients, or each of them, started from.
            out: a row for each; overwritten.
            moved: whether they may stand elsewhere than where they started; if not, that pulls them nowhere.
        """
        active, pieces = len(out), layout.views(out).values()
        shift = None if self.shift is None else self.shift[:active]
        if self.alpha and (moved or self.center is not None):
            center = received if self.center is None else self.center
            torch.sub(parameters, center[:active] if center.ndim == 2 else center, out=out)
            for leaf, pull in zip(leaves, pieces, strict=True):
                torch.add(leaf, pull, alpha=self.alpha, out=pull)
            if shift is not None:
                out.add_(shift)
        elif shift is not None:
            for leaf, part, piece in zip(leaves, layout.views(shift).values(), pieces, strict=True):
                torch.add(leaf, part, out=piece)
        else:
            for leaf, piece in zip(leaves, pieces, strict=True):
                piece.copy_(leaf)
        if self.mask is not None:
            out.mul_(self.mask[:active])
