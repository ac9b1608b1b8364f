"""All parts of a cell's audit as one."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from fedsec.data import Dataset
from fedsec.engine.resident_data import ResidentData
from fedsec.errors import InputError
from fedsec.federation.rounds import RoundResult
from fedsec.federation.user_privacy import tagged, untagged
from fedsec.runs.audits.part import AuditConclusion, AuditPart
from fedsec.scenario import CellConfig

if TYPE_CHECKING:
    from fedsec.runs.experiment import Experiment

PARTS: dict[str, str] = {
    "canaries": "fedsec.runs.audits.canaries:canaries",
    "membership": "fedsec.runs.audits.membership:MembershipAudit",
    "properties": "fedsec.runs.audits.properties:PropertyAudit",
    "labels": "fedsec.runs.audits.labels:LabelAudit",
}
"""Key under `audit:` -> `module:class` of what carries it out."""
_AUDIT = "audit"


class CellAudit:
    """A cell's audit.

    Args:
        parts: in the order in which they change data and conclude.
    """

    def __init__(self, parts: Sequence[AuditPart]) -> None:
        self.parts = tuple(parts)

    @classmethod
    def of(cls, config: CellConfig) -> "CellAudit | None":
        """What a cell's configuration asks for; None where it asks for nothing.

        Raises:
            InputError: nothing carries out a part of it.
        """
        if config.audit is None:
            return None
        parts = []
        for name in config.audit.parts:
            if name not in PARTS:
                raise InputError(f"audit.{name}: nothing carries it out; expected {' or '.join(PARTS) or 'no audit'}")
            module, _, variable = PARTS[name].partition(":")
            parts.append(getattr(import_module(module), variable)(config))
        return cls(parts)

    def shares(self, shares: Sequence[np.ndarray], dataset: Dataset) -> list[np.ndarray]:
        """See `AuditPart.shares`, one part after the other."""
        remaining = list(shares)
        for part in self.parts:
            remaining = part.shares(remaining, dataset)
        return remaining

    def enter(self, data: ResidentData) -> None:
        """See `AuditPart.enter`."""
        for part in self.parts:
            part.enter(data)

    def cohort(self, clients_per_round: int | None) -> int | None:
        """See `AuditPart.cohort`, one part after the other."""
        for part in self.parts:
            clients_per_round = part.cohort(clients_per_round)
        return clients_per_round

    def attach(self, experiment: "Experiment", folder: Path) -> None:
        """See `AuditPart.attach`."""
        for part in self.parts:
            part.attach(experiment, folder)

    def rehearse(self, experiment: "Experiment", folder: Path) -> None:
        """See `AuditPart.rehearse`."""
        for part in self.parts:
            part.rehearse(experiment, folder)

    def after(self, result: RoundResult) -> None:
        """See `AuditPart.after`."""
        for part in self.parts:
            part.after(result)

    def state(self) -> dict[str, Tensor]:
        """What all parts saw, under names that a federation's state has not."""
        return tagged(
            {key: value for part in self.parts for key, value in tagged(part.state(), part.name).items()}, _AUDIT
        )

    def restore(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Take over what `state` gave.

        Args:
            state: of a checkpoint.

        Returns:
            The rest of it, which is the federation's.
        """
        own = untagged(state, _AUDIT)
        for part in self.parts:
            part.restore(untagged(own, part.name))
        names = tagged(own, _AUDIT)
        return {name: tensor for name, tensor in state.items() if name not in names}

    def conclude(self) -> AuditConclusion:
        """What all parts conclude: records by part, metrics and notes together."""
        conclusions = {part.name: part.conclude() for part in self.parts}
        record: dict[str, Any] = {
            name: {**conclusion.record, **({"notes": list(conclusion.notes)} if conclusion.notes else {})}
            for name, conclusion in conclusions.items()
        }
        metrics = {name: value for conclusion in conclusions.values() for name, value in conclusion.metrics.items()}
        return AuditConclusion(record, metrics)
