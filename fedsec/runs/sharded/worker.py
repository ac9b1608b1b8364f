"""One of the workers that a round's rows lie on: trains a block of clients, then holds a block of columns."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.arithmetic import arithmetic
from fedsec.federation.row_exchange import RowsElsewhere
from fedsec.federation.sharded_rounds import RowsKept, WorkOrder, sent_by
from fedsec.federation.updates import Federation
from fedsec.runs.experiment import build_experiment
from fedsec.scenario import CellConfig

Result = TypeVar("Result")


class ShardWorker:
    """Builds the cell's federation for itself, and keeps what the orders of one round left.

    Args:
        config: the resolved configuration, as plain data.
        device: `cpu` or `cuda`.
        threads: for local training, as many as the whole cell would have.
        share: which part of a round's rows it is to have, about: more than fits it is refused.

    Attributes:
        rows: of its clients: what they sent last.
        piece: its columns of all rows; None before there are any.
    """

    def __init__(self, config: Mapping[str, Any], device: str, threads: int, share: float) -> None:
        experiment = build_experiment(
            CellConfig.model_validate(dict(config)),
            device=torch.device(device),
            threads=threads,
            exchange=RowsElsewhere(share),
        )
        assert isinstance(experiment.federation, Federation)
        self.federation = experiment.federation
        self.rows: Float[Tensor, "clients parameters"] | None = None
        self.piece: Float[Tensor, "all columns"] | None = None
        self._done: tuple[int, RowsKept] | None = None

    def has(self, order: WorkOrder) -> bool:
        """Whether it has the rows of an order."""
        return self._done is not None and self._done[0] == order.serial

    def train(self, order: WorkOrder) -> RowsKept:
        """Train an order's clients and keep their rows; one that was carried out already is not again.

        Args:
            order: whom, and from what.
        """
        if self._done is not None and self.has(order):
            return self._done[1]
        self.rows = self.piece = self._done = None  # before new ones are made: memory is for one round's rows
        if order.clients:
            # A process of its own: what clients compute beside their training has all digits here, too.
            with arithmetic(self.federation.data.device):
                self.rows, report = sent_by(self.federation, order)
        else:
            like = order.start.parameters
            self.rows = like.new_empty(0, len(like))
            report = RowsKept(like.new_empty(0, order.statistics.numel()), np.empty(0, dtype=np.int64), "")
        self._done = order.serial, report
        return report

    def columns(self, block: slice) -> Float[Tensor, "clients columns"]:
        """Some columns of its clients' rows, for the worker that is to have them of all rows."""
        assert self.rows is not None
        return self.rows[:, block].cpu().contiguous()

    def gather(self, *parts: Float[Tensor, "clients columns"]) -> tuple[int, int]:
        """Take over a block of columns of all rows.

        Args:
            parts: of each worker's clients, in their order.

        Returns:
            The block's shape.
        """
        self.piece = torch.cat([part for part in parts if len(part)])
        return len(self.piece), self.piece.shape[1]

    def look(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """What `work(piece, ...)` gives."""
        return work(self.piece, *arguments)

    def change(self, work: Callable[..., Tensor], *arguments: Any) -> int:
        """Put what `work(piece, ...)` gives in the piece's place; returns how many rows it has."""
        self.piece = work(self.piece, *arguments)
        return len(self.piece)
