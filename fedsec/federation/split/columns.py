"""The joint network of a vertical federation: a bottom for each party's columns, and a top on all that they make."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedsec.errors import InputError


def column_bounds(columns: int, parties: int) -> list[tuple[int, int]]:
    """First and last column of each party, as evenly as they divide.

    Raises:
        InputError: fewer columns than parties.
    """
    if parties > columns:
        raise InputError(f"{columns} columns cannot be shared out among {parties} parties; expected fewer parties")
    sizes = [len(part) for part in np.array_split(np.arange(columns), parties)]
    return list(pairwise(np.cumsum([0, *sizes]).tolist()))


class ColumnNetwork(nn.Module):
    """Bottoms on columns, and a top.

    Args:
        bottom: makes a network of an input shape that puts out so many numbers.
        input_shape: of a whole example; its last axis is cut.
        parties: how many there are.
        width: what each bottom puts out.
        top: widths of the top's hidden layers.
        outputs: of the whole network.

    Attributes:
        bounds: first and last column of each party.
        width: what each bottom puts out.

    Raises:
        InputError: fewer columns than parties, or a bottom that cannot be built on so few.
    """

    def __init__(
        self,
        bottom: Callable[[tuple[int, ...], int], nn.Module],
        input_shape: Sequence[int],
        parties: int,
        width: int,
        top: Sequence[int],
        outputs: int,
    ) -> None:
        super().__init__()
        self.bounds, self.width = column_bounds(input_shape[-1], parties), width
        self.bottoms = nn.ModuleList([bottom((*input_shape[:-1], end - begin), width) for begin, end in self.bounds])
        layers: list[nn.Module] = []
        for before, after in pairwise([parties * width, *top]):
            layers += [nn.ReLU(), nn.Linear(before, after)]
        self.top = nn.Sequential(*layers, nn.ReLU(), nn.Linear([parties * width, *top][-1], outputs))

    def columns(self, inputs: Float[Tensor, "batch *shape"]) -> list[Tensor]:
        """Each party's part of a batch."""
        return [inputs[..., begin:end] for begin, end in self.bounds]

    def forward(self, inputs: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch outputs"]:
        """What the top makes of all that the parties would send."""
        sent = [bottom(own).flatten(1) for bottom, own in zip(self.bottoms, self.columns(inputs), strict=True)]
        outputs: Tensor = self.top(torch.cat(sent, 1))
        return outputs
