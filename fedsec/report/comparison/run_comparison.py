"""One run against another: what differs in what they were run with, and in every metric that both have."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fedsec.errors import InputError
from fedsec.metrics.metric import METRICS, Metric
from fedsec.report.best_inversions import trained_once
from fedsec.report.comparison.conditions import Condition, configuration, versions
from fedsec.report.comparison.differences import MetricDifferences, differences_of
from fedsec.report.comparison.pairing import Pairing, pair_cells
from fedsec.report.summary import Record, primary, row_of, value_of

__all__ = ["ComparedRun", "RunComparison", "compare_runs", "names_of"]


@dataclass(frozen=True)
class ComparedRun:
    """A run that is compared.

    Args:
        name: as the page calls it; unlike all others.
        root: its folder.
        records: the cells' records.
    """

    name: str
    root: Path
    records: Sequence[Record]


@dataclass(frozen=True)
class RunComparison:
    """A run against the first.

    Args:
        first: what the other is compared with.
        other: the other run.
        pairing: all their cells.
        trained: their cells as training sees them, where several inversions looked at the same.
        conditions: where their configurations differ.
        versions: where code, data, versions and machines differ.
        main: the metric that both were trained for.
    """

    first: ComparedRun
    other: ComparedRun
    pairing: Pairing
    trained: Pairing
    conditions: Sequence[Condition]
    versions: Sequence[Condition]
    main: Metric

    @cached_property
    def metrics(self) -> list[MetricDifferences]:
        """Every metric that both have: the main one, the worst of its last values, then the others."""
        return [self._of(name) for name in self._names()]

    @property
    def headline(self) -> list[MetricDifferences]:
        """The main metric, and the worst of its last values where both have it."""
        names = (self.main.name, self.main.worst_of_last.name)
        return [compared for compared in self.metrics if compared.metric.name in names]

    def _names(self) -> list[str]:
        records = [*self.first.records, *self.other.records]
        own = [name for record in records for name in record.get("metrics") or {}]
        front = [self.main.name, self.main.worst_of_last.name]
        known = [name for name in METRICS if name in set(own)]
        names = dict.fromkeys([*front, *known, *own])
        return [name for name in names if self._measured(name)]

    def _measured(self, name: str) -> bool:
        return any(
            value_of(pair.first, name) is not None and value_of(pair.other, name) is not None
            for pair in self.pairing.pairs
        )

    def _of(self, name: str) -> MetricDifferences:
        metric = row_of(name, [*self.first.records, *self.other.records])
        seen = metric.source in ("inversion", "observation")
        return differences_of((self.pairing if seen else self.trained).pairs, metric)


def compare_runs(first: ComparedRun, other: ComparedRun) -> RunComparison:
    """Compare a run with the first.

    Raises:
        InputError: no cell of one belongs to a cell of the other, or no pair has a value of what models are trained
            for.
    """
    names = (first.name, other.name)
    pairing = pair_cells(first.records, other.records, names)
    trained = pair_cells(trained_once(first.records), trained_once(other.records), names)
    if not pairing.pairs:
        said = "".join(f"; {note}" for note in pairing.notes)
        raise InputError(
            f"{first.name} and {other.name} have no cell in common: expected cells at the same place of their matrices "
            f"and with the same seed, as in two runs of one scenario with other settings or code{said}"
        )
    main, of_other = primary(first.records), primary(other.records)
    if main.name != of_other.name:
        raise InputError(
            f"{first.name} is trained for {main.name} and {other.name} for {of_other.name}; expected runs that are "
            "trained for the same"
        )
    compared = RunComparison(
        first, other, pairing, trained, configuration(pairing.pairs), versions(pairing.pairs), main
    )
    if not compared.headline:
        raise InputError(
            f"{first.name} and {other.name} have no finished cell in common: nothing has a {main.name} in both"
        )
    return compared


def names_of(folders: Sequence[Path]) -> list[str]:
    """What folders of runs are called beside each other: their names, or as much of their paths as tells them apart."""
    parts = [folder.resolve().parts for folder in folders]
    for length in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(path[-length:]) for path in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{path[-1]} ({number})" for number, path in enumerate(parts, start=1)]
