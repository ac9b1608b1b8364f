"""Tables as papers have them, before they become LaTeX or Markdown: means over seeds, intervals, the best bold."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fedsec.metrics.metric import Metric
from fedsec.report.accuracy_rows import BEST, DefenseOutcome, OutcomeTable, compare
from fedsec.report.best_inversions import trained_once
from fedsec.report.intervals import spans
from fedsec.report.summary import DEFENSE, Group, Record, primary, row_of, value_of

__all__ = ["PaperCell", "PaperTable", "paper_tables"]

_ENOUGH = 3


@dataclass(frozen=True)
class PaperCell:
    """A cell of a table.

    Args:
        value: the mean as it is written, or a word for why there is none.
        interval: the ends of what the seeds span; none where they do not differ.
        best: whether it is to be bold.
        note: what a reader must know of it, such as that cells are missing.
    """

    value: str
    interval: tuple[str, str] | None = None
    best: bool = False
    note: str = ""


@dataclass(frozen=True)
class PaperTable:
    """A table.

    Args:
        name: in small letters, for the table's label.
        caption: what it shows, and how to read it; sentences.
        keys: headers of the columns that name a row.
        headers: of the other columns.
        rows: what names the row, and its cells.
    """

    name: str
    caption: Sequence[str]
    keys: Sequence[str]
    headers: Sequence[str]
    rows: Sequence[tuple[Sequence[str], Sequence[PaperCell]]]

    @property
    def notes(self) -> Iterator[str]:
        """What its cells' notes say, each once."""
        return iter(dict.fromkeys(entry.note for _, entries in self.rows for entry in entries if entry.note))


def paper_tables(
    records: Sequence[Record], metrics: Sequence[str] = (), *, long: bool = False, run: str = ""
) -> list[PaperTable]:
    """Attacks by defenses, a table for each metric; or one table with a row for each pair and a column a metric.

    Args:
        records: the cells' records, in the matrix's order.
        metrics: names; by default what models are trained for, and where that was evaluated often the worst of its last
            values.
        long: whether to give one table of all metrics.
        run: the run's name, for captions.
    """
    trained = trained_once(records)
    names = list(metrics) or _usual(trained)
    of_metrics = [compare(trained if _measured(trained, name) else records, name) for name in names]
    if long:
        return [_long(of_metrics, run)]
    return [_wide(comparison, run) for comparison in of_metrics]


def _usual(records: Sequence[Record]) -> list[str]:
    main = primary(records)
    worst = main.worst_of_last.name
    differs = any(value_of(record, worst) != value_of(record, main.name) for record in records)
    return [main.name, worst] if differs and _measured(records, worst) else [main.name]


def _measured(records: Sequence[Record], metric: str) -> bool:
    return any(value_of(record, metric) is not None for record in records)


def _wide(comparison: OutcomeTable, run: str) -> PaperTable:
    defenses, metric = comparison.defenses, comparison.metric
    varied = DEFENSE in comparison.summary.axes
    rows = []
    for key, row in comparison.rows.items():
        best = _best(row, metric)
        rows.append((key, [_entry(row.get(name), metric, best=name in best) for name in defenses]))
    headers = defenses if varied else [metric.title]
    return PaperTable(metric.name, _caption([comparison], run), comparison.row_axes, headers, rows)


def _long(comparisons: Sequence[OutcomeTable], run: str) -> PaperTable:
    first = comparisons[0]
    varied = DEFENSE in first.summary.axes
    rows: list[tuple[Sequence[str], Sequence[PaperCell]]] = []
    for key, row in first.rows.items():
        for name in row:
            entries = []
            for comparison in comparisons:
                outcomes = comparison.rows.get(key, {})
                # Where no axis varies defenses, a row's only outcome bears the metric's name.
                outcome = outcomes.get(name) if varied else next(iter(outcomes.values()), None)
                best = _best(outcomes, comparison.metric)
                entries.append(_entry(outcome, comparison.metric, best=name in best))
            rows.append(((*key, name) if varied else key, entries))
    keys = [*first.row_axes, *([DEFENSE] if varied else [])]
    headers = [comparison.metric.title for comparison in comparisons]
    return PaperTable("-".join(c.metric.name for c in comparisons), _caption(comparisons, run), keys, headers, rows)


def _best(row: Mapping[str, DefenseOutcome], metric: Metric) -> set[str]:
    """The defenses of a row to print bold; none where all are alike, or none is good or bad."""
    means = {name: outcome.group.mean for name, outcome in row.items() if outcome.group.mean is not None}
    if metric.better == "neither" or len(means) < 2:
        return set()
    if _judged(outcome.group for outcome in row.values()):
        return {name for name, outcome in row.items() if outcome.mark == BEST}
    best = metric.write((min if metric.better == "lower" else max)(means.values()))
    written = {name for name, mean in means.items() if metric.write(mean) == best}
    return written if len(written) < len(means) else set()


def _judged(groups: Iterator[Group]) -> bool:
    """Whether there are seeds enough to tell anything apart."""
    return max((group.n for group in groups), default=0) >= _ENOUGH


def _entry(outcome: DefenseOutcome | None, metric: Metric, *, best: bool) -> PaperCell:
    if outcome is None:
        return PaperCell("-")
    if outcome.group.mean is None:
        text = outcome.text(metric)
        return PaperCell(text.mean, note=text.note)
    interval = None
    if metric.by_chance and outcome.group.interval is not None:
        low, high = map(metric.write, outcome.group.interval)
        interval = (low, high) if low != high else None
    note = outcome.text(metric).note
    return PaperCell(metric.write(outcome.group.mean), interval, best, note)


def _caption(comparisons: Sequence[OutcomeTable], run: str) -> list[str]:
    metrics = [comparison.metric for comparison in comparisons]
    groups = [group for comparison in comparisons for group in comparison.summary.groups]
    seeds = sorted({group.n for group in groups if group.n})
    titles = ", ".join(metric.title for metric in metrics)
    sentences = [f"{run}: {titles}" if run else titles]
    if seeds and seeds[-1] > 1:
        number = f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"{seeds[0]}"
        sentences.append(f"mean over {number} seeds")
        if any(metric.by_chance for metric in metrics):
            sentences.append(spans(seeds[-1]))
    if any(metric.better != "neither" for metric in metrics) and any(DEFENSE in c.summary.axes for c in comparisons):
        if _judged(iter(groups)):
            sentences.append("bold: on equal seeds not told from the best of its row")
        else:
            sentences.append("bold: the best of its row, on too few seeds to tell whether by chance")
    return sentences


def metrics_of(records: Sequence[Record]) -> list[str]:
    """The names of all metrics that some cell has a number of."""
    names = dict.fromkeys(name for record in records for name in record.get("metrics") or {})
    return [name for name in names if row_of(name, records) and _measured(records, name)]
