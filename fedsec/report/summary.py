"""Numbers over seeds: cells that differ only in their seed become one mean with an interval."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

import numpy as np

from fedsec.metrics.metric import ACCURACY, Metric, described
from fedsec.report.intervals import interval

Record = Mapping[str, Any]
"""One cell's result: `id`, `cell` (axis -> value), `status`, `metrics`, `error`, `seconds`."""

SEED = "seed"
ATTACK = "attack"
DEFENSE = "defense"
INVERSION = "inversion"
NO_ATTACK = "none"


def display(value: Any) -> str:
    """An axis value as the reader wrote it in YAML."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def describe(axes: Mapping[str, str]) -> str:
    """A cell's place in the matrix on one line: attack and defense as they are, further axes with their name."""
    own = (ATTACK, DEFENSE)
    parts = [display(value) if axis in own else f"{axis}={display(value)}" for axis, value in axes.items()]
    return ", ".join(parts) or "the only cell"


def value_of(record: Record, metric: str) -> float | None:
    """A finished cell's scalar metric; None where the cell failed, lacks it, or it is not a finite number."""
    value = (record.get("metrics") or {}).get(metric) if record.get("status") == "done" else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def primary(records: Sequence[Record]) -> Metric:
    """The metric that a run is first of all about: what its models are trained for."""
    return described(next((name for record in records if (name := record.get("primary_metric"))), ACCURACY.name))


def row_of(metric: str, records: Sequence[Record]) -> Metric:
    """What is known of a metric: its row of the table, or what the records say of one that a package brought."""
    rows: dict[str, Metric] = {}
    for record in records:
        rows |= {name: Metric(**row) for name, row in (record.get("metric_rows") or {}).items() if name not in rows}
    return described(metric, rows)


@dataclass(frozen=True)
class Group:
    """Cells that differ only in their seed.

    Args:
        axes: every axis but the seed, with its display value.
        records: the cells' records, in file order.
        metric: the name of the metric that `values` holds.
    """

    axes: Mapping[str, str]
    records: tuple[Record, ...]
    metric: str

    @cached_property
    def values(self) -> tuple[float, ...]:
        """The metric of every cell that has it."""
        return tuple(value for record in self.records if (value := value_of(record, self.metric)) is not None)

    @property
    def failed(self) -> int:
        """How many of the cells failed."""
        return sum(record.get("status") == "failed" for record in self.records)

    @property
    def n(self) -> int:
        """Over how many seeds the mean is taken."""
        return len(self.values)

    @property
    def mean(self) -> float | None:
        """The mean over seeds; None when no cell has the metric."""
        return fmean(self.values) if self.values else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """What the metric's values over seeds span, see `fedsec.report.intervals`; None for fewer than two."""
        if self.n < 2:
            return None
        low, high = interval(np.array(self.values))
        return float(low), float(high)

    @cached_property
    def by_seed(self) -> Mapping[str, float]:
        """Seed -> the metric of its cell, where it has one."""
        pairs = ((display(record["cell"].get(SEED, "")), value_of(record, self.metric)) for record in self.records)
        return {seed: value for seed, value in pairs if value is not None}

    @property
    def diverged(self) -> tuple[int, ...]:
        """The rounds in which cells diverged, whose models were no longer finite then."""
        return tuple(int(number) for record in self.records if (number := value_of(record, "diverged_in_round")))

    @property
    def attacked(self) -> bool:
        """Whether anybody attacks in these cells.

        Told by the resolved configuration where a record carries it, else by the name on the attack axis.
        """
        names = [record["config"][ATTACK]["name"] for record in self.records if record.get("config")]
        return (names[0] if names else self.axes.get(ATTACK, NO_ATTACK)) != NO_ATTACK


@dataclass(frozen=True)
class Summary:
    """All groups of a run, in file order.

    Args:
        metric: the metric summarized.
        axes: the axes' names in file order, without the seed.
        groups: one entry for each combination of axis values.
    """

    metric: str
    axes: tuple[str, ...]
    groups: tuple[Group, ...]

    @cached_property
    def row(self) -> Metric:
        """What is known of the metric."""
        return row_of(self.metric, [record for group in self.groups for record in group.records])

    @property
    def further(self) -> tuple[str, ...]:
        """The axes beside attack and defense."""
        return tuple(axis for axis in self.axes if axis not in (ATTACK, DEFENSE))

    def baseline(self, group: Group) -> Group | None:
        """The group like `group` in everything but the attack, with nobody attacking; None if there is none."""

        def setting(other: Group) -> dict[str, str]:
            return {axis: text for axis, text in other.axes.items() if axis.partition(".")[0] != ATTACK}

        return next((other for other in self.groups if not other.attacked and setting(other) == setting(group)), None)


def summarize(records: Sequence[Record], metric: str | None = None) -> Summary:
    """Group the cells that differ only in their seed.

    Args:
        records: the cells' records.
        metric: a scalar entry of the records' `metrics`; their primary one by default.

    Returns:
        The groups in the order of their first cells. The order of seeds does not matter.
    """
    metric = metric or primary(records).name
    axes = tuple(dict.fromkeys(axis for record in records for axis in record["cell"] if axis != SEED))
    members: dict[tuple[str | None, ...], list[Record]] = {}
    for record in records:
        cell = record["cell"]
        key = tuple(display(cell[axis]) if axis in cell else None for axis in axes)
        members.setdefault(key, []).append(record)
    groups = (
        Group({axis: text for axis, text in zip(axes, key, strict=True) if text is not None}, tuple(alike), metric)
        for key, alike in members.items()
    )
    return Summary(metric, axes, tuple(groups))
