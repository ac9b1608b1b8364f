"""The tables of several metrics beside each other: what a round costs clients, and what a curious server sees."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rich.table import Table
from rich.text import Text

from fedsec.runs.layout import Layout, Reading, headers
from fedsec.runs.missing import COSTS, algorithm_of, claims, inverted, lpips_advice, without_weights
from fedsec.runs.summary import ATTACK, DEFENSE, Group, Record, Summary, summarize, value_of
from fedsec.scenario.expectations import RECONSTRUCTION
from fedsec.scenario.federation_config import CENTRALIZED, GROUP_TRANSFER

_WORST_CLIENT = "accuracy_worst_client"
_UNMEASURED, _NONE, _INFINITE = "n/a", "-", "inf"
_Sizes = tuple[tuple[str, float], ...]
_BYTES: _Sizes = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1))
_NUMBERS: _Sizes = (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3), ("", 1))


@dataclass(frozen=True)
class _Column:
    """One metric: what stands above it, how its values are written, and the baseline that stands beside them."""

    header: str
    metric: str
    write: Callable[[float], str]
    baseline: str | None = None


def scaled(value: float, sizes: _Sizes) -> str:
    """Three digits of a number and its unit, as in `1.85 MB`.

    Args:
        value: at least 0.
        sizes: units from the largest to the smallest, which is not divided any further.
    """
    for unit, size in sizes:
        # What rounds to 1000 of a unit is 1 of the next.
        if value >= 0.9995 * size or size == 1:
            number = value / size
            digits = f"{number:#.3g}".rstrip(".") if size > 1 and number < 999.5 else f"{number:,.0f}"
            return f"{digits} {unit}".rstrip()
    raise AssertionError("the smallest unit takes everything")


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


_ACCURACY = _Column("accuracy (%)", "accuracy", _percent)
_COSTS = (
    _Column("upload", "upload_bytes", lambda value: scaled(value, _BYTES)),
    _Column("download", "download_bytes", lambda value: scaled(value, _BYTES)),
    _Column("FLOPs", "edge_flops", lambda value: scaled(value, _NUMBERS)),
)
_LEAKAGE = (
    _Column("PSNR (gray)", "psnr", lambda value: f"{value:.1f}", baseline="psnr_gray"),
    _Column("SSIM (gray)", "ssim", lambda value: f"{value:.3f}", baseline="ssim_gray"),
    _Column("LPIPS", "lpips", lambda value: f"{value:.3f}"),
    _Column("recovered (%)", "recovered", _percent),
    _Column("labels (%)", "label_accuracy", _percent),
)


_EPSILONS = (
    _Column("epsilon (example)", "epsilon", lambda value: f"{value:.3g}"),
    _Column("epsilon (client)", "user_epsilon", lambda value: f"{value:.3g}"),
)


def tables(records: Sequence[Record], *, width: int | None = None) -> list[Table]:
    """The tables that say something beside the accuracy, ready to print: costs, leakage, both or none.

    A row is a setting: cells that differ only in their seed, whose values are averaged. Costs are shown where cells
    differ in them, with FedGKT, and where clients have models of their own; leakage where a server is curious.

    Args:
        records: the cells' records, in file order.
        width: the columns of the terminal; those of the current one by default.
    """
    width = shutil.get_terminal_size().columns if width is None else width
    done = [record for record in records if record.get("status") == "done"]
    summary = summarize(records)
    made = []
    own_models = any(value_of(record, _WORST_CLIENT) is not None for record in done)
    distilled = any(algorithm_of(record) == GROUP_TRANSFER for record in done)
    if own_models or distilled or _differ(summary):
        worst = [_Column("worst client (%)", _WORST_CLIENT, _percent)] if own_models else []
        columns = [_ACCURACY, *worst, *_COSTS]
        parts = [
            "upload, download and FLOPs of local training of one client in one round, averaged over both",
            "a multiply-add counts two, forward and backward pass",
        ]
        parts += ["worst client: the lowest accuracy of an honest client's own model"] if own_models else []
        made.append(_draw("accuracy and costs at the edge", summary, columns, parts, width))
    epsilons = [column for column in _EPSILONS if any(claims(record, column.metric) for record in done)]
    spent = guarantees(done)
    if any(map(inverted, done)):
        columns = [_ACCURACY, *epsilons, *_LEAKAGE]
        made.append(_draw("leakage: what a curious server reconstructs", summary, columns, [*spent, *_HINTS], width))
    elif epsilons:
        made.append(_draw("privacy: what was spent", summary, [_ACCURACY, *epsilons], spent, width))
    return made


def guarantees(records: Sequence[Record]) -> list[str]:
    """What epsilons mean: the unit, delta and accountant of each kind of claim, and the accountants' remarks."""
    kinds: dict[str, list[str]] = {}
    remarks = []
    for record in records:
        for claim in record.get("privacy") or []:
            told = f"at delta {claim['delta']:.2g} by {claim['accountant']}"
            kinds.setdefault(claim["unit"], []).append(told)
            remarks += [claim["note"]] if claim["note"] else []
    parts = [
        f"epsilon ({unit}): the largest of all clients, {' or '.join(dict.fromkeys(told))}; the unit is one {unit}, "
        "added or removed"
        for unit, told in kinds.items()
    ]
    return [*parts, *dict.fromkeys(remarks)]


_HINTS = (
    "in parentheses what a gray image scores, the baseline that looks at nothing",
    "PSNR in dB; LPIPS: lower is closer; recovered: images with a mean squared error below 0.01; labels: found in any "
    "order",
)


def remarks(records: Sequence[Record]) -> list[str]:
    """What to say about values that the tables lack though they could have been measured."""
    done = [record for record in records if record.get("status") == "done"]
    return [f"note: {lpips_advice()}"] if any(map(without_weights, done)) else []


def _differ(summary: Summary) -> bool:
    """Whether the costs of any two settings differ, as far as the printed digits tell them apart."""
    told = ({_told(group, column).value for group in summary.groups} - {_NONE, *_STATES} for column in _COSTS)
    return any(len(texts) > 1 for texts in told)


def _draw(title: str, summary: Summary, columns: Sequence[_Column], parts: Sequence[str], width: int) -> Table:
    groups = _ordered(summary)
    axes = [*summary.further, *(axis for axis in (ATTACK, DEFENSE) if axis in summary.axes)]
    # What all cells have in common takes room that the numbers need.
    axes = [axis for axis in axes if len({group.axes.get(axis) for group in groups}) > 1]
    keys = [[group.axes.get(axis, "") for group in groups] for axis in axes]
    readings = [_aligned([_told(group, column) for group in groups]) for column in columns]
    layout = Layout((*headers(axes), *(column.header for column in columns)), (*keys, *readings), len(keys))
    if layout.narrowest > width:
        layout = layout.stacked()
    shown = {reading.value.strip() for column in readings for reading in column}
    seeds = max((group.n for group in groups), default=0)
    legend = [
        *([f"means over {seeds} seeds"] if seeds > 1 else []),
        *parts,
        *([f"{_UNMEASURED}: not measured"] if _UNMEASURED in shown else []),
        *([f"{_NONE}: there is none"] if _NONE in shown else []),
    ]
    return layout.draw(title, Text("; ".join(legend), style="dim"), width)


def _ordered(summary: Summary) -> list[Group]:
    """The groups setting by setting, in each those without an attack first."""

    def setting(group: Group) -> tuple[str, ...]:
        return tuple(group.axes.get(axis, "") for axis in summary.further)

    settings = list(dict.fromkeys(map(setting, summary.groups)))
    return sorted(summary.groups, key=lambda group: (settings.index(setting(group)), group.attacked))


_STATES = ("failed", "pending")


def _told(group: Group, column: _Column) -> Reading:
    """The mean over seeds with its baseline, or a word for why there is none."""
    states = {record.get("status") for record in group.records}
    if "done" not in states:
        return Reading(next(state for state in _STATES if state in states))
    if column.metric in COSTS and any(algorithm_of(record) == CENTRALIZED for record in group.records):
        return Reading(_NONE)
    if any(claims(record, column.metric) and value_of(record, column.metric) is None for record in group.records):
        return Reading(_INFINITE)
    mean = replace(group, metric=column.metric).mean
    if mean is None:
        expected = column.metric in RECONSTRUCTION and any(map(inverted, group.records))
        return Reading(_UNMEASURED if expected or column.metric == _ACCURACY.metric else _NONE)
    baseline = replace(group, metric=column.baseline).mean if column.baseline else None
    return Reading(column.write(mean), "" if baseline is None else f"({column.write(baseline)})")


def _aligned(readings: Sequence[Reading]) -> list[Reading]:
    """The cells of one column, padded so that they end below each other."""
    value, aside = (max((len(getattr(each, part)) for each in readings), default=0) for part in ("value", "aside"))
    return [Reading(f"{each.value:>{value}}", f"{each.aside:>{aside}}") for each in readings]
