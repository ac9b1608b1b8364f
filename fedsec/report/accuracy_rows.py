"""What the table at the end of a run holds: attacks by defenses, each against no attack and against others of its row.

The terminal and the page show it, each in its way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from fedsec.metrics.metric import Metric
from fedsec.report.intervals import differences, direction, spans
from fedsec.report.summary import ATTACK, DEFENSE, Group, Record, Summary, summarize

BEST, WORST = "*", "!"
RowKey = tuple[str, ...]


@dataclass(frozen=True)
class Change:
    """What an attack changes on seeds that both have.

    Args:
        mean: of the differences to no attack.
        seeds: on how many it rests.
        told_apart: whether seeds tell the two apart; fewer than three never do.
    """

    mean: float
    seeds: int
    told_apart: bool


@dataclass(frozen=True)
class OutcomeText:
    """An outcome as it is read.

    Args:
        mean: with its mark, or a word for why there is none.
        interval: what the seeds span, in brackets.
        change: against no attack, in parentheses.
        note: what is amiss.
    """

    mean: str
    interval: str = ""
    change: str = ""
    note: str = ""


@dataclass(frozen=True)
class DefenseOutcome:
    """One attack on one defense in one setting.

    Args:
        group: its cells.
        baseline: those like it with nobody attacking; None for these themselves, and where there are none.
        mark: `*` where seeds do not tell it from the best of its row, `!` where not from the worst.
    """

    group: Group
    baseline: Group | None
    mark: str = ""

    @cached_property
    def change(self) -> Change | None:
        """Against no attack; None where no seed has both."""
        if self.baseline is None:
            return None
        paired = differences(self.group.by_seed, self.baseline.by_seed)
        if not paired:
            return None
        return Change(fmean(paired), len(paired), direction(self.group.by_seed, self.baseline.by_seed) != 0)

    @property
    def absent(self) -> dict[str, int]:
        """How many cells have no value, by the word for why."""
        records = self.group.records
        pending = sum(record["status"] not in ("done", "failed", "refused") for record in records)
        counts = {"failed": self.group.failed, "pending": pending}
        counts["n/a"] = len(records) - self.group.n - sum(counts.values())
        return {word: count for word, count in counts.items() if count}

    def text(self, metric: Metric) -> OutcomeText:
        """As it is read.

        Args:
            metric: what its values are.
        """
        absent, cells = self.absent, len(self.group.records)
        if self.group.mean is None and len(absent) == 1:
            return OutcomeText(next(iter(absent)))
        note = ", ".join(f"{count} of {cells} {word}" for word, count in absent.items())
        if self.group.mean is None:
            return OutcomeText("-", note=note)
        interval = change = ""
        if metric.by_chance and self.group.interval is not None:
            low, high = map(metric.write, self.group.interval)
            interval = f"[{low}..{high}]" if low != high else ""
        if self.change is not None:
            alike = "~" if self.change.seeds > 1 and not self.change.told_apart else ""
            change = f"({alike}{metric.write(self.change.mean, '+')})"
        note = ", ".join(filter(None, [note, divergence(self.group)]))
        return OutcomeText(f"{self.mark}{metric.write(self.group.mean)}", interval, change, note)


@dataclass(frozen=True)
class OutcomeTable:
    """All outcomes of a run.

    Args:
        summary: the run's groups.
        rows: row key -> defense -> outcome; settings in file order, in each the row without an attack first.
    """

    summary: Summary
    rows: Mapping[RowKey, Mapping[str, DefenseOutcome]]

    @property
    def metric(self) -> Metric:
        """What the values are."""
        return self.summary.row

    @property
    def row_axes(self) -> list[str]:
        """The axes that a row key has a value of."""
        return _row_axes(self.summary)

    @property
    def defenses(self) -> list[str]:
        """The columns; one, called as the metric, where no axis varies defenses."""
        return list(dict.fromkeys(name for row in self.rows.values() for name in row))

    @cached_property
    def outcomes(self) -> list[DefenseOutcome]:
        """All of them, row by row."""
        return [outcome for row in self.rows.values() for outcome in row.values()]

    @property
    def legend(self) -> list[str]:
        """How to read it, a sentence each."""
        counts = [group.n for group in self.summary.groups if group.n]
        least, most = min(counts, default=0), max(counts, default=0)
        sentences = []
        if most > 1:
            seeds = f"{most}" if least == most else f"{least} to {most}"
            sentences.append(f"mean over {seeds} seeds")
            if self.metric.by_chance:
                sentences.append(spans(most))
        if any(outcome.baseline for outcome in self.outcomes):
            unit = " in points" if self.metric.is_fraction else ""
            sentences.append(f"in parentheses the change against no attack on equal seeds{unit}")
            if any(outcome.baseline and outcome.baseline.n > 1 and _alike(outcome) for outcome in self.outcomes):
                sentences.append("~ not told apart from it")
        if any(outcome.mark for outcome in self.outcomes):
            sentences.append(f"on equal seeds {BEST} cannot be told from the best of a row, {WORST} not from the worst")
        elif most == 1 and len({group.axes.get(DEFENSE) for group in self.summary.groups}) > 1:
            sentences.append("a single seed does not tell best from worst")
        return sentences


def compare(records: Sequence[Record], metric: str | None = None) -> OutcomeTable:
    """Attacks by defenses, over seeds.

    Args:
        records: the cells' records, in file order.
        metric: a scalar entry of the records' `metrics`, by default what the models are trained for.
    """
    summary = summarize(records, metric)
    axes = _row_axes(summary)
    groups: dict[RowKey, dict[str, Group]] = {}
    for group in summary.groups:
        key = tuple(group.axes.get(axis, "") for axis in axes)
        groups.setdefault(key, {})[group.axes.get(DEFENSE, summary.metric)] = group
    settings = list(dict.fromkeys(key[: len(summary.further)] for key in groups))

    def place(key: RowKey) -> tuple[int, bool]:
        return settings.index(key[: len(summary.further)]), all(group.attacked for group in groups[key].values())

    rows = {}
    for key in sorted(groups, key=place):
        marks = _marks(groups[key], summary.row)
        rows[key] = {
            name: DefenseOutcome(group, summary.baseline(group) if group.attacked else None, marks.get(name, ""))
            for name, group in groups[key].items()
        }
    return OutcomeTable(summary, rows)


def loss(metric: Metric, change: Change) -> float:
    """How much worse a change makes a metric that has a direction; negative where it makes it better."""
    return change.mean if metric.better == "lower" else -change.mean


def divergence(group: Group) -> str:
    """That models of these cells diverged, and when; empty where none did."""
    rounds = sorted(set(group.diverged))
    if not rounds:
        return ""
    when = f"in round {rounds[0]}" if len(rounds) == 1 else f"in rounds {rounds[0]} to {rounds[-1]}"
    some = "" if len(group.diverged) == len(group.records) else f"{len(group.diverged)} of {len(group.records)} "
    return f"{some}diverged {when}"


def _row_axes(summary: Summary) -> list[str]:
    return [*summary.further, *([ATTACK] if ATTACK in summary.axes else [])]


def _alike(outcome: DefenseOutcome) -> bool:
    return outcome.change is None or not outcome.change.told_apart


def _marks(row: Mapping[str, Group], metric: Metric) -> dict[str, str]:
    """Which defenses of a row cannot be told from its best, and which not from its worst, where the two differ.

    Defenses are compared on equal seeds, all pairs at 95% together; a single seed tells nothing apart.
    """
    means = {name: group.mean for name, group in row.items() if group.mean is not None}
    if metric.better == "neither" or len(means) < 2:
        return {}
    highest, lowest = max(means, key=means.__getitem__), min(means, key=means.__getitem__)
    best, worst = (lowest, highest) if metric.better == "lower" else (highest, lowest)

    def apart(one: str, other: str) -> bool:
        differ = metric.write(means[one]) != metric.write(means[other])
        return differ and direction(row[one].by_seed, row[other].by_seed, settings=len(means)) != 0

    if not apart(best, worst):
        return {}
    near = {end: {name for name in means if not apart(name, end)} for end in (best, worst)}
    both = near[best] & near[worst]
    return dict.fromkeys(near[best] - both, BEST) | dict.fromkeys(near[worst] - both, WORST)
