"""What tables of several metrics beside each other hold: what a round costs clients, what a curious server sees.

The terminal and the page show them, each in its way.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from fedsec.metrics.metric import METRICS, Metric, described, of_source
from fedsec.report.best_inversions import strongest
from fedsec.report.intervals import spans
from fedsec.report.missing_values import algorithm_of, claims, inverted
from fedsec.report.summary import ATTACK, DEFENSE, Group, Record, Summary, primary, row_of, summarize, value_of
from fedsec.scenario.federation_config import traits_of

_UNMEASURED, _NONE, _INFINITE, _SENT = "n/a", "-", "inf", "sent"


@dataclass(frozen=True)
class MetricColumn:
    """One metric, and what stands beside its values.

    Args:
        metric: whose means over seeds it holds.
        header: above the column; the metric's by default.
        unit: stands beside each value.
        otherwise: what to tell of cells that make no claim about this metric.
    """

    metric: Metric
    header: str = ""
    unit: str = ""
    otherwise: "MetricColumn | None" = None

    @property
    def title(self) -> str:
        """What stands above it."""
        return self.header or self.metric.header or self.metric.title


def _columns(*names: str) -> list[MetricColumn]:
    return [MetricColumn(described(name)) for name in names]


@dataclass(frozen=True)
class MetricEntry:
    """What a table says of a mean over seeds; `value` is a word where there is none.

    Args:
        value: the mean.
        interval: what the seeds span.
        aside: its baseline, or its unit.
        note: over how many cells it is taken, where that is not all of them.
        mean: the value as a number; None where there is none.
    """

    value: str
    interval: str = ""
    aside: str = ""
    note: str = ""
    mean: float | None = None


_COSTS = _columns(*of_source("cost"))
_CLOCK = "simulated_seconds"
_LEAKAGE = _columns("psnr", "ssim", "lpips", "recovered", "label_accuracy")
_TEXTS = _columns("token_set", "token_accuracy", "exact_match", "rouge_1", "rouge_2", "rouge_l")
_EFFORT = ("aggregation_seconds", "attacker_flops")
_DETECTION = _columns(*of_source("detection"), "accuracy_worst_class_mix")
_EPSILONS = _columns(*of_source("privacy"))
_AUDITED = _columns(*(f"{unit}epsilon_lower{kind}" for unit in ("", "user_") for kind in ("", "_gaussian")))


@dataclass(frozen=True)
class MetricTable:
    """Several metrics of a run's settings.

    Args:
        name: `costs`, `clients`, `further`, `detection`, `leakage`, `best_attackers` or `privacy`.
        title: above it.
        metric: by which rows are told good or bad.
        groups: of the rows.
        axes: those whose values name the rows, of all rows' own.
        last: those of them that say nothing of a setting: who reconstructs.
        columns: the metrics.
        hints: of the legend, after what the numbers are.
    """

    name: str
    title: str
    metric: Metric
    groups: Sequence[Group]
    axes: Sequence[str]
    last: Sequence[str]
    columns: Sequence[MetricColumn]
    hints: Sequence[str]

    @property
    def keys(self) -> list[list[str]]:
        """For each axis what it is in each row."""
        return [[group.axes.get(axis, "") for group in self.groups] for axis in self.axes]

    @cached_property
    def entries(self) -> list[list[MetricEntry]]:
        """For each column its entry of each row."""
        return [[_reading(group, column) for group in self.groups] for column in self.columns]

    @property
    def intervals(self) -> bool:
        """Whether seeds span anything."""
        return any(entry.interval for column in self.entries for entry in column)

    def legend(self, *, narrow: bool = False) -> list[str]:
        """How to read it, a sentence each.

        Args:
            narrow: whether its intervals are left out for want of room.
        """
        shown = {entry.value for column in self.entries for entry in column}
        seeds = max((len(group.records) for group in self.groups), default=0)
        over = f"means over {seeds} seeds"
        if self.intervals:
            over += "; for their intervals a wider terminal" if narrow else f"; {spans(seeds)}"
        return [
            *([over] if seeds > 1 else []),
            *self.hints,
            *(["k of n: over so many seeds only"] if any(entry.note for row in self.entries for entry in row) else []),
            *([f"{_SENT}: by the clients themselves"] if _SENT in shown else []),
            *([f"{_INFINITE}: no bound at all"] if _INFINITE in shown else []),
            *([f"{_UNMEASURED}: not measured"] if _UNMEASURED in shown else []),
            *([f"{_NONE}: there is none"] if _NONE in shown else []),
        ]


def metric_tables(records: Sequence[Record]) -> list[MetricTable]:
    """The tables that say something beside the accuracy: costs, leakage, both or none.

    A row is a setting: cells that differ only in their seed, whose values are averaged. Costs are shown where cells
    differ in them, with FedGKT, and where clients have models of their own; leakage where a server is curious, and once
    more of the strongest attackers where several were tried.

    Args:
        records: the cells' records.
    """
    done = [record for record in records if record.get("status") == "done"]
    summary = summarize(records)
    metric_tables: list[MetricTable] = []
    main = MetricColumn(primary(records))
    worst = MetricColumn(main.metric.worst_client)
    own_models = any(value_of(record, worst.metric.name) is not None for record in done)
    distilled = any(traits_of(algorithm_of(record)).get("exchanges") in ("knowledge", "activations") for record in done)
    if own_models or distilled or _differ(summary):
        columns = [main, *([worst] if own_models else []), *_costs(done)]
        hints = [
            "upload, download and FLOPs of local training of one client in one round, averaged over both",
            "a multiply-add counts two, forward and backward pass",
        ]
        hints += [f"worst client: {worst.metric.about}"] if own_models else []
        metric_tables.append(_table("costs", f"{main.metric.name} and costs at the edge", summary, columns, hints))
    tested = [MetricColumn(row) for row in main.metric.over_clients]
    if any(value_of(record, tested[0].metric.name) is not None for record in done):
        hints = [
            f"clients: {main.metric.name} of honest clients, each on test examples of its own; beside it the mean of "
            "the worst tenth, the standard deviation and Jain's index (1 where all have the same)"
        ]
        metric_tables.append(_table("clients", "how single clients are served", summary, [main, *tested], hints))
    audited = [
        column for column in _AUDITED if any(value_of(record, column.metric.name) is not None for record in done)
    ]
    epsilons = [*_epsilons(done), *audited]
    spent = [*guarantees(done), *(f"{column.title}: {column.metric.about}" for column in audited)]
    if further := _further(done):
        hints = [_explained(column.metric) for column in further]
        metric_tables.append(_table("further", "what else was measured", summary, [main, *further], hints))
    if any(value_of(record, "honest_excluded") is not None for record in done):
        hints = [f"{column.title}: {column.metric.about}" for column in _DETECTION]
        metric_tables.append(_table("detection", "whom rules left out", summary, [main, *_DETECTION], hints))
    if any(value_of(record, "token_set") is not None for record in done):
        hints = [*spent, *(f"{column.title}: {column.metric.about}" for column in _TEXTS)]
        metric_tables.append(
            _table("texts", "leakage: what a curious server reads", summary, [main, *epsilons, *_TEXTS], hints)
        )
    elif any(map(inverted, done)):
        # Without weights no cell has LPIPS, and `fedsec.report.remarks` says how to get it.
        seen = any(value_of(record, "lpips") is not None for record in done)
        leaked = [column for column in _beside_mean_images(done) if seen or column.metric.name != "lpips"]
        columns = [main, *epsilons, *leaked]
        hints = [*spent, *_hints(leaked), *(["LPIPS: lower is closer"] if seen else [])]
        metric_tables.append(_table("leakage", "leakage: what the server reconstructs", summary, columns, hints))
        best = strongest(records)
        if best.records:
            title = "leakage: the best attacker of each row"
            metric_tables.append(
                _table("best_attackers", title, summarize(best.records), columns, [*_BEST, *hints], last=best.axes)
            )
    elif epsilons:
        title = "privacy: what was claimed, and what an audit shows" if audited else "privacy: what was spent"
        metric_tables.append(_table("privacy", title, summary, [main, *epsilons], spent))
    return metric_tables


def cost_table(records: Sequence[Record]) -> MetricTable:
    """What a round costs clients, attackers and the server, of every setting.

    Args:
        records: one for each model that was trained.
    """
    done = [record for record in records if record.get("status") == "done"]
    effort = _columns(*(name for name in _EFFORT if any(value_of(record, name) is not None for record in done)))
    hints = [
        "upload, download and FLOPs of local training of one client in one round, averaged over both",
        "a multiply-add counts two, forward and backward pass",
        *(f"{column.title}: {column.metric.about}" for column in effort),
    ]
    return _table("costs", "costs", summarize(records), [*_costs(done), *effort], hints)


def _costs(done: Sequence[Record]) -> list[MetricColumn]:
    """What training costs clients; the simulated clock where any of the runs has one."""
    timed = any(value_of(record, _CLOCK) is not None for record in done)
    return [column for column in _COSTS if timed or column.metric.name != _CLOCK]


def _table(
    name: str,
    title: str,
    summary: Summary,
    columns: Sequence[MetricColumn],
    hints: Sequence[str],
    *,
    last: Sequence[str] = (),
) -> MetricTable:
    """A table of all groups; `last` are axes that stand beside a row's names, with several values or one."""
    groups = _ordered(summary, last)
    axes = [*summary.further, *(axis for axis in (ATTACK, DEFENSE) if axis in summary.axes)]
    # What all cells have in common takes room that the numbers need.
    axes = [axis for axis in axes if axis not in last and len({group.axes.get(axis) for group in groups}) > 1]
    return MetricTable(name, title, summary.row, groups, [*axes, *last], last, columns, hints)


def _further(done: Sequence[Record]) -> list[MetricColumn]:
    """Columns of attacks' own tests, of what they cost, of audits, and of metrics that scenarios asked for."""
    asked = dict.fromkeys(name for record in done for name in record.get("metric_rows") or {})
    names = (*of_source("probe", "effort", "audit"), "consensus_distance")
    aside = {*(described(name).baseline for name in names), *(column.metric.name for column in _AUDITED)}
    measured = [name for name in names if any(value_of(record, name) is not None for record in done)]
    aims = [name for name in measured if name not in aside]
    return [MetricColumn(row_of(name, done)) for name in (*aims, *asked)]


def _explained(metric: Metric) -> str:
    """What a metric is, and what stands beside it in parentheses."""
    beside = f"; in parentheses {described(metric.baseline).about}" if metric.baseline else ""
    return f"{metric.name}: {metric.about}{beside}"


_WHOSE = {"example": "the largest of all clients", "client": "the same for all clients"}


def _epsilons(records: Sequence[Record]) -> list[MetricColumn]:
    """A column for each unit of privacy; one for both, if no cell has both."""
    claimed = [column for column in _EPSILONS if any(claims(record, column.metric.name) for record in records)]
    if len(claimed) < 2 or any(all(claims(record, column.metric.name) for column in claimed) for record in records):
        return claimed
    example, client = (replace(column, header="epsilon", unit=f"({column.metric.protects})") for column in claimed)
    return [replace(example, otherwise=client)]


def guarantees(records: Sequence[Record]) -> list[str]:
    """What epsilons mean: the unit, delta and accountant of each kind of claim, and the accountants' remarks."""
    kinds: dict[str, list[str]] = {}
    remarks = []
    for record in records:
        for claim in record.get("privacy") or []:
            accounted = f"at delta {claim['delta']:.2g} by {claim['accountant']}"
            kinds.setdefault(claim["unit"], []).append(accounted)
            remarks += [claim["note"]] if claim["note"] else []
    parts = [
        f"epsilon ({unit}): {_WHOSE[unit]}, {' or '.join(dict.fromkeys(accounts))}; the unit is one {unit}, added or "
        "removed"
        for unit, accounts in kinds.items()
    ]
    return [*parts, *dict.fromkeys(remarks)]


_MEAN_IMAGE = "_mean_image"
_BEST = ("of the attackers above the one with the highest mean PSNR over seeds",)
_HINTS = (
    "in parentheses what a gray image scores, the baseline that looks at nothing",
    "PSNR in dB; recovered: images with a mean squared error below 0.01; labels: found in any order",
)


def _hints(columns: Sequence[MetricColumn]) -> list[str]:
    """What stands in parentheses, and how to read the rest."""
    if any((column.metric.baseline or "").endswith(_MEAN_IMAGE) for column in columns):
        return ["in parentheses what the mean of the images scores that the server has itself", *_HINTS[1:]]
    return list(_HINTS)


def _beside_mean_images(done: Sequence[Record]) -> list[MetricColumn]:
    """Columns of leakage; where every server has images of its own, their mean stands beside what is reconstructed."""
    leaking = [record for record in done if value_of(record, "psnr") is not None]
    if not leaking or any(value_of(record, f"psnr{_MEAN_IMAGE}") is None for record in leaking):
        return _LEAKAGE
    named = {column.metric.name: f"{column.metric.name}{_MEAN_IMAGE}" for column in _LEAKAGE}
    return [
        replace(
            column,
            metric=replace(column.metric, baseline=named[column.metric.name]),
            header=column.title.replace("(gray)", "(mean image)"),
        )
        if named[column.metric.name] in METRICS
        else column
        for column in _LEAKAGE
    ]


def _differ(summary: Summary) -> bool:
    """Whether the costs of any two settings differ, as far as the printed digits tell them apart."""
    values = ({_reading(group, column).value for group in summary.groups} - {_NONE, *_STATES} for column in _COSTS)
    return any(len(texts) > 1 for texts in values)


def _ordered(summary: Summary, last: Sequence[str]) -> list[Group]:
    """The groups setting by setting, in each those without an attack first; `last` says nothing of a setting."""

    def setting(group: Group) -> tuple[str, ...]:
        return tuple(group.axes.get(axis, "") for axis in summary.further if axis not in last)

    settings = list(dict.fromkeys(map(setting, summary.groups)))
    return sorted(summary.groups, key=lambda group: (settings.index(setting(group)), group.attacked))


_STATES = ("failed", "pending", "refused")


def _reading(group: Group, column: MetricColumn) -> MetricEntry:
    """The mean over seeds with its interval and baseline, or a word for why there is none."""
    metric = column.metric
    if column.otherwise is not None and not any(claims(record, metric.name) for record in group.records):
        return _reading(group, column.otherwise)
    states = {record.get("status") for record in group.records}
    if "done" not in states:
        return MetricEntry(next(state for state in _STATES if state in states))
    if metric.source == "cost" and any(traits_of(algorithm_of(record)).get("pooled") for record in group.records):
        return MetricEntry(_NONE)
    if any(claims(record, metric.name) and value_of(record, metric.name) is None for record in group.records):
        return MetricEntry(_INFINITE)
    told_labels = any(
        traits_of(algorithm_of(record)).get("exchanges") == "knowledge" and inverted(record) for record in group.records
    )
    if metric.name == "label_accuracy" and told_labels:
        return MetricEntry(_SENT)
    measured = replace(group, metric=metric.name)
    if measured.mean is None:
        expected = metric.source == "inversion" and any(map(inverted, group.records))
        return MetricEntry(_UNMEASURED if expected or metric == primary(group.records) else _NONE)
    ends = [metric.write(end) for end in measured.interval or ()] if metric.by_chance else []
    baseline = replace(group, metric=metric.baseline).mean if metric.baseline else None
    return MetricEntry(
        metric.write(measured.mean),
        f"[{'..'.join(ends)}]" if len(set(ends)) > 1 else "",
        column.unit if baseline is None else f"({metric.write(baseline)})",
        "" if measured.n == len(group.records) else f"{measured.n} of {len(group.records)}",
        measured.mean,
    )
