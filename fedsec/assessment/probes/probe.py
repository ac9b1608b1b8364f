"""What a probe is: an attack on the federation as it is deployed, run as cells of a scenario, read as findings."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, final

from fedsec.assessment.deployment import Deployment
from fedsec.assessment.effort import Effort
from fedsec.assessment.finding import AuditFinding

__all__ = ["CellOutcome", "CellOutcomes", "AuditProbe", "ProbeCell"]


@dataclass(frozen=True)
class ProbeCell:
    """A cell that a probe needs.

    Args:
        key: what it is to the probe: the attack or channel, and the defense.
        sections: of a scenario.
        iterations: of an inversion, in all its rounds together; 0 without one.
        search: seconds that attackers who try a rule take in a round, about.
        slower: times as long as plain training takes clients, about.
    """

    key: tuple[str, ...]
    sections: dict[str, Any] = field(repr=False)
    iterations: int = 0
    search: float = 0.0
    slower: float = 1.0

    @property
    def seed(self) -> int:
        """Of the cell."""
        return int(self.sections["seed"])


@dataclass(frozen=True)
class CellOutcome:
    """A finished cell.

    Args:
        cell: that was asked for.
        record: what it came to, see `result.json`.
        folder: where its files lie.
    """

    cell: ProbeCell
    record: Mapping[str, Any] = field(repr=False)
    folder: Path

    def metric(self, name: str) -> float | None:
        """A number of it."""
        value = self.record["metrics"].get(name)
        return None if value is None else float(value)


@dataclass(frozen=True)
class CellOutcomes:
    """What came of a probe's cells.

    Args:
        finished: those that were run to their end.
        missing: why others were not, by key, as text.
    """

    finished: Sequence[CellOutcome]
    missing: Mapping[tuple[str, ...], str] = field(default_factory=dict)

    def of(self, *key: str) -> dict[int, CellOutcome]:
        """Seed -> what came of the cell of this key."""
        return {outcome.cell.seed: outcome for outcome in self.finished if outcome.cell.key == key}


class AuditProbe(ABC):
    """An attack on the federation as it is deployed.

    A new probe is one file in this folder and one row of `PROBES`.
    """

    name: ClassVar[str]
    """In small letters and hyphens."""
    title: ClassVar[str]
    """What it tries, in a few words."""
    position: ClassVar[str]
    """Where the attacker sits."""
    granted: ClassVar[tuple[str, ...]]
    """What the attacker is granted, a line each."""
    taxonomy: ClassVar[tuple[str, ...]]
    """Attacks of `taxonomy.yaml`."""
    value: ClassVar[float]
    """How much its answer is worth beside those of other probes; what is worth most a minute is run first."""

    def obstacle(self, deployed: Deployment) -> str | None:
        """Why it cannot be tried on a federation; None if it can."""
        return None

    @abstractmethod
    def cells(self, deployed: Deployment, effort: Effort) -> list[ProbeCell]:
        """What has to be run, the baseline included; equal cells of several probes are run once.

        Args:
            deployed: the federation.
            effort: how much of it.
        """

    @final
    def finding(self, *, id: str = "", title: str = "", **evidence: Any) -> AuditFinding:
        """A finding of this probe: who its attacker is stands on the class.

        Args:
            id: by default the probe's name.
            title: by default the probe's.
            evidence: the other fields of `AuditFinding`.
        """
        return AuditFinding(
            id=id or self.name,
            probe=self.name,
            title=title or self.title,
            position=self.position,
            granted=self.granted,
            taxonomy=self.taxonomy,
            **evidence,
        )

    @abstractmethod
    def findings(self, deployed: Deployment, outcomes: CellOutcomes) -> list[AuditFinding]:
        """What it came to.

        Args:
            deployed: the federation.
            outcomes: of the cells, some of which may be missing.
        """
