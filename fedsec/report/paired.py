"""How much better or worse a defense is than the baseline, on the same seeds: the same clients, attackers and start.

Of each seed the difference counts, whose spread is smaller than that of two defenses by themselves. The interval is
Student's, of three seeds or more, see `fedsec.report.intervals`.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from rich.table import Table
from rich.text import Text

from fedsec.metrics.metric import Metric
from fedsec.report.intervals import differences, direction, half_width
from fedsec.report.shortened import shortened
from fedsec.report.summary import ATTACK, DEFENSE, Group, Record, Summary, summarize
from fedsec.report.table_layout import Layout, Reading, headers

BASELINE = "mean"
"""The defense that others are compared with, where a run has it; its first one elsewhere."""
_FEWEST = 3


@dataclass(frozen=True)
class Difference:
    """A defense against the baseline.

    Args:
        setting: axis -> value, of all axes but defense and seed.
        defense: as tables call it.
        baseline: the other one.
        mean: of the differences over equal seeds.
        half_width: of their 95% interval; None for fewer than three seeds.
        seeds: how many both have.
        all_seeds: how many either was to have.
        sign: 1 where it is larger than the baseline as far as seeds tell, -1 where smaller, 0 where they do not.
    """

    setting: Mapping[str, str]
    defense: str
    baseline: str
    mean: float
    half_width: float | None
    seeds: int
    all_seeds: int
    sign: int

    def as_json(self, metric: str) -> dict[str, Any]:
        """As plain data."""
        width = self.half_width
        return {
            "setting": dict(self.setting),
            "defense": self.defense,
            "baseline": self.baseline,
            "metric": metric,
            "difference": self.mean,
            "interval": None if width is None else [self.mean - width, self.mean + width],
            "seeds": self.seeds,
            "told_apart": self.sign != 0,
        }


def paired_differences(records: Sequence[Record], metric: str | None = None) -> list[Difference]:
    """Every defense against the baseline in every setting, in file order; nothing where seeds do not pair.

    Args:
        records: the cells' records.
        metric: a scalar entry of their `metrics`; their primary one by default.
    """
    summary = summarize(records, metric)
    groups: dict[tuple[tuple[str, str], ...], dict[str, Group]] = {}
    for group in summary.groups:
        setting = tuple((axis, text) for axis, text in group.axes.items() if axis != DEFENSE)
        groups.setdefault(setting, {})[group.axes.get(DEFENSE, "")] = group
    baseline = _baseline(summary)
    compared = []
    for setting, by_defense in groups.items():
        if baseline not in by_defense:
            continue
        base, most = by_defense[baseline].by_seed, len(by_defense[baseline].records)
        for name, group in by_defense.items():
            paired = differences(group.by_seed, base)
            if name == baseline or len(paired) < 2:
                continue
            width = half_width(paired) if len(paired) >= _FEWEST else None
            sign = direction(group.by_seed, base)
            compared.append(
                Difference(
                    dict(setting),
                    name,
                    baseline,
                    fmean(paired),
                    width,
                    len(paired),
                    max(most, len(group.records)),
                    sign,
                )
            )
    return compared


def paired_table(records: Sequence[Record], *, width: int | None = None, full: bool = False) -> Table | None:
    """The table of paired differences, or of the largest where they are many; None where there are none.

    Args:
        records: the cells' records, in file order.
        width: the columns of the terminal; those of the current one by default.
        full: whether to show all rows of a long table.
    """
    compared, metric = paired_differences(records), summarize(records).row
    if not compared or metric.better == "neither":
        return None
    width = shutil.get_terminal_size().columns if width is None else width
    axes = list(dict.fromkeys(axis for one in compared for axis in one.setting if axis != ATTACK))
    axes += [ATTACK] if any(ATTACK in one.setting for one in compared) else []
    varied = [axis for axis in axes if len({one.setting.get(axis) for one in compared}) > 1]
    keys = [[one.setting.get(axis, "") for one in compared] for axis in varied]
    keys.append([one.defense for one in compared])
    layout = Layout((*headers([*varied, DEFENSE]), "difference"), (*keys, _readings(compared, metric)), len(keys))
    if layout.narrowest > width:
        layout = layout.stacked()
    largest = sorted(range(len(compared)), key=lambda place: -abs(compared[place].mean))
    layout, others = shortened(layout, largest, "comparisons.json", full=full)
    unit = " in points" if metric.is_fraction else ""
    intervals = any(one.half_width is not None for one in compared)
    legend = [
        f"mean difference{unit} over equal seeds",
        *(["after +- half the width of its 95% interval (Student's)"] if intervals else []),
        *(["~: not told apart"] if any(one.sign == 0 for one in compared) else []),
        *(["k seeds: on which the difference rests, where some have no pair"] if _partial(compared) else []),
        *others,
    ]
    title = f"{metric.name} against {compared[0].baseline}, paired over seeds"
    return layout.draw(title, Text("; ".join(legend), style="dim"), width)


def _partial(compared: Sequence[Difference]) -> bool:
    """Whether differences rest on fewer seeds than others, or than there are."""
    return any(one.seeds < one.all_seeds for one in compared)


def _baseline(summary: Summary) -> str:
    names = list(dict.fromkeys(group.axes.get(DEFENSE, "") for group in summary.groups))
    return BASELINE if BASELINE in names else names[0] if names else BASELINE


def _readings(compared: Sequence[Difference], metric: Metric) -> list[Reading]:
    missing = _partial(compared)
    means = [f"{'' if one.sign else '~'}{metric.write(one.mean, '+')}" for one in compared]
    widths = ["" if one.half_width is None else f"+-{metric.write(one.half_width)}" for one in compared]
    mean, width = max(map(len, means)), max(map(len, widths))
    return [
        Reading(
            f"{value:>{mean}}" + (f" {interval:<{width}}" if width else ""),
            note=f"{one.seeds} seeds" if missing else "",
        )
        for one, value, interval in zip(compared, means, widths, strict=True)
    ]
