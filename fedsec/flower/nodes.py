"""Flower's node ids as the small numbers that rules know clients by."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

__all__ = ["Nodes"]


class Nodes:
    """Every node that was heard of, with a number of its own that it keeps over all rounds.

    Node ids fill 64 bits without a sign; what rules remember of clients holds numbers with one.
    """

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}

    @property
    def ids(self) -> tuple[int, ...]:
        """Of all nodes, in the order of their numbers."""
        return tuple(self._numbers)

    def number(self, node: int) -> int:
        """The number of a node; a new one's is the next."""
        return self._numbers.setdefault(node, len(self._numbers))

    def numbers(self, nodes: Iterable[int]) -> list[int]:
        """The numbers of several nodes."""
        return [self.number(node) for node in nodes]

    def state(self) -> Tensor:
        """The ids in the order of their numbers, their 64 bits as int64."""
        return torch.from_numpy(np.array(list(self._numbers), dtype=np.uint64).view(np.int64))

    def restore(self, ids: Tensor) -> None:
        """Take over what `state` gave."""
        self._numbers = {node: number for number, node in enumerate(ids.cpu().numpy().view(np.uint64).tolist())}
