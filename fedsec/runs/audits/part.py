"""One part of a cell's audit: what it changes before the first round, what it watches, and what it concludes."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from torch import Tensor

from fedsec.data import Dataset
from fedsec.engine.resident_data import ResidentData
from fedsec.federation.rounds import RoundResult
from fedsec.scenario import CellConfig

if TYPE_CHECKING:
    from fedsec.runs.experiment import Experiment


@dataclass(frozen=True)
class AuditConclusion:
    """What a part of an audit concludes.

    Args:
        record: plain data for the cell's `result.json`, under `audit.<part>`.
        metrics: values of rows of `METRICS`, by name; None where nothing could be measured.
        notes: what a reader should know, one line each.
    """

    record: Mapping[str, Any]
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    notes: Sequence[str] = ()


class AuditPart(ABC):
    """A part of a cell's audit. Everything it draws comes from streams named `audit`, so that nothing else moves.

    Args:
        config: of the cell; its audit asks for this part.
    """

    name: ClassVar[str]
    """Its key under `audit:`."""

    def __init__(self, config: CellConfig) -> None:
        self.config = config

    def shares(self, shares: Sequence[np.ndarray], dataset: Dataset) -> list[np.ndarray]:
        """What clients hold instead of what the partition gave them: without what is held out of their own shares.

        Members and non-members drawn from one client's own share are exchangeable, whatever the partition.

        Args:
            shares: numbers of each client's training examples.
            dataset: of the cell.

        Raises:
            InputError: a client has too few.
        """
        return list(shares)

    def enter(self, data: ResidentData) -> None:  # noqa: B027  (most change nothing)
        """Change the federation's resident data before anything else is built of it."""

    def cohort(self, clients_per_round: int | None) -> int | None:
        """How many clients take part in a round, where a part lets more join; None for all."""
        return clients_per_round

    @abstractmethod
    def attach(self, experiment: "Experiment", folder: Path) -> None:
        """Watch a federation that is ready to run, and has not begun.

        Args:
            experiment: the cell's.
            folder: the cell's, for pictures.

        Raises:
            InputError: it cannot be audited so.
        """

    def rehearse(self, experiment: "Experiment", folder: Path) -> None:
        """Refuse what `attach` would, before the run; a part that computes much there overrides this.

        Args:
            experiment: the cell's, which nobody plays.
            folder: as for `attach`.

        Raises:
            InputError: it cannot be audited so.
        """
        self.attach(experiment, folder)

    def after(self, result: RoundResult) -> None:  # noqa: B027  (most look at updates only)
        """Look at a federation that has played a round.

        Args:
            result: of the round.
        """

    def state(self) -> dict[str, Tensor]:
        """What was seen so far, for checkpoints."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:  # noqa: B027  (most remember nothing)
        """Take over exactly what `state` gave.

        Raises:
            InputError: it is the state of something else.
        """

    @abstractmethod
    def conclude(self) -> AuditConclusion:
        """What follows from the rounds, after the last one."""
