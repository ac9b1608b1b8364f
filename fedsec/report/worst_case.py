"""Defenses judged by the attack that hurts them most: for each number of Byzantine clients the minimum over attacks.

An attack is one setting of the `attack` axis, whatever its options. Of each, the mean over seeds counts, so that no
single seed is picked; the worst of these means is the defense's value. When attackers attack and what they claim
(`since`, `until`, `redraw`, `claimed_examples`) is a setting of its own, like every other axis.
"""

import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group as Blocks
from rich.text import Text

from fedsec.metrics.metric import Metric
from fedsec.report.intervals import spans
from fedsec.report.summary import (
    ATTACK,
    DEFENSE,
    NO_ATTACK,
    SEED,
    Group,
    Record,
    describe,
    primary,
    row_of,
    summarize,
    value_of,
)
from fedsec.report.table_layout import Layout, Reading
from fedsec.scenario.threat_config import SCHEDULE

NOT_RUN, NONE = "n/a", "-"


@dataclass(frozen=True)
class WorstCaseEntry:
    """What is left under the worst attack.

    Args:
        setting: axis -> value, of all axes but attack, defense and seed.
        defense: as tables call it.
        num_byzantine: clients that attack; 0 where nobody does.
        attack: the one that did it; empty where there is none.
        value: the mean over seeds of the metric; None where no attack has one.
        interval: what the seeds span, see `fedsec.report.intervals`.
        seeds: over how many.
        attacks: over how many attacks it is the worst.
        unknown: attacks none of whose cells is done, so that it may be worse still.
        incomplete: further ones that lack some seeds, likewise.
        refused: why the defense cannot withstand so many; empty where it can.
    """

    setting: Mapping[str, str]
    defense: str
    num_byzantine: int
    attack: str = ""
    value: float | None = None
    interval: tuple[float, float] | None = None
    seeds: int = 0
    attacks: int = 0
    unknown: int = 0
    incomplete: int = 0
    refused: str = ""

    @property
    def doubt(self) -> str:
        """What marks a value that may be worse still, since cells failed or are not finished."""
        return "?" if self.unknown or self.incomplete else ""

    def as_json(self, metric: str) -> dict[str, Any]:
        """As plain data."""
        return {
            "setting": dict(self.setting),
            "defense": self.defense,
            "num_byzantine": self.num_byzantine,
            "metric": metric,
            "value": self.value,
            "interval": None if self.interval is None else list(self.interval),
            "attack": self.attack or None,
            "seeds": self.seeds,
            "attacks": self.attacks,
            "attacks_unknown": self.unknown,
            "attacks_incomplete": self.incomplete,
            "refused": self.refused or None,
        }


def metric_of(records: Sequence[Record]) -> Metric:
    """What defenses are judged by: the worst of the last five evaluated rounds, or the last where nobody knows it."""
    main = primary(records)
    worst = main.worst_of_last
    known = any(value_of(record, worst.name) is not None for record in records)
    return row_of(worst.name if known else main.name, records)


def worst_cases(records: Sequence[Record]) -> list[WorstCaseEntry]:
    """The worst attack on each defense, for each setting and number of Byzantine clients; in file order.

    Args:
        records: the cells' records.

    Returns:
        Nothing where fewer than two attacks were tried: one is no worst case, unless it tries several itself.
    """
    metric = metric_of(records)
    groups = summarize(records, metric.name).groups
    attacked = [group for group in groups if _num_byzantine(group)]
    if len(set(map(_identity, attacked))) < 2 and not any(map(_winner, attacked)):
        return []
    places: dict[tuple[tuple[str, str], ...], dict[str, dict[int, list[Group]]]] = {}
    for group in groups:
        number = _num_byzantine(group)
        if number is None:
            continue
        setting = tuple((axis, text) for axis, text in group.axes.items() if not _collapses(axis))
        by_number = places.setdefault(setting, {}).setdefault(group.axes.get(DEFENSE, ""), {})
        by_number.setdefault(number, []).append(group)
    return [
        _worst(dict(setting), defense, number, alike, metric)
        for setting, by_defense in places.items()
        for defense, by_number in by_defense.items()
        for number, alike in sorted(by_number.items())
    ]


def worst_case_table(records: Sequence[Record], *, width: int | None = None) -> Blocks | None:
    """The table of worst cases, a row a defense and a column a number of Byzantine clients; None where there is none.

    What else varies heads a block of rows.

    Args:
        records: the cells' records, in file order.
        width: the columns of the terminal; those of the current one by default.
    """
    cases, metric = worst_cases(records), metric_of(records)
    if not cases:
        return None
    width = shutil.get_terminal_size().columns if width is None else width
    numbers = sorted({case.num_byzantine for case in cases})
    axes = list(dict.fromkeys(axis for case in cases for axis in case.setting))
    rows: dict[tuple[str, ...], dict[int, WorstCaseEntry]] = {}
    for case in cases:
        key = (*(case.setting.get(axis, "") for axis in axes), case.defense)
        rows.setdefault(key, {})[case.num_byzantine] = case
    settings = [dict(zip(axes, key, strict=False)) for key in rows]
    headings = [
        describe({axis: text for axis, text in setting.items() if text}) if axes else "" for setting in settings
    ]
    inside = _common_attack(cases)
    readings = [_readings([row.get(number) for row in rows.values()], metric, inside) for number in numbers]
    titles = [f"{number} Byzantine" for number in numbers]
    layout = Layout((DEFENSE, *titles), ([key[-1] for key in rows], *readings), 1)
    most = max(case.seeds for case in cases)
    legend = [
        f"in parentheses the worst attack on each defense, of {max(case.attacks + case.unknown for case in cases)}"
        + (f": that which {inside.removesuffix(': ')} chose in most rounds" if inside else ""),
        f"{metric.name}: {metric.about}",
        *([f"mean over {most} seeds", spans(most)] if most > 1 else []),
        *([f"{NOT_RUN}: the defense cannot withstand so many"] if any(case.refused for case in cases) else []),
        *(["?: not all attacks are known, with all seeds"] if any(case.doubt for case in cases) else []),
    ]
    return layout.draw_blocks(f"worst case: {metric.title}", headings, Text("; ".join(legend), style="dim"), width)


def _common_attack(cases: Sequence[WorstCaseEntry]) -> str:
    """What all attacks' names begin with, as `auto: `, where each is what one attack chose; empty elsewhere."""
    beginnings = {"".join(case.attack.partition(": ")[:2]) for case in cases if case.attack}
    (beginning,) = beginnings if len(beginnings) == 1 else ("",)
    return beginning if beginning.endswith(": ") else ""


def _worst(
    setting: dict[str, str], defense: str, number: int, groups: Sequence[Group], metric: Metric
) -> WorstCaseEntry:
    known = [group for group in groups if group.mean is not None]
    refused = next((str(group.records[0]["error"]) for group in groups if _refused(group)), "")
    unknown = len(groups) - len(known) - sum(map(_refused, groups))
    if not known:
        return WorstCaseEntry(setting, defense, number, unknown=unknown, refused=refused)
    means = {group.mean: group for group in reversed(known) if group.mean is not None}
    worst = means[metric.worst(means)]
    return WorstCaseEntry(
        setting,
        defense,
        number,
        "" if number == 0 else _name(worst, groups),
        worst.mean,
        worst.interval,
        worst.n,
        len(known),
        unknown,
        sum(group.n < len(group.records) for group in known),
    )


def _readings(cases: Sequence[WorstCaseEntry | None], metric: Metric, inside: str) -> list[Reading]:
    texts = [_text(case, metric, inside) for case in cases]
    value, interval = (max((len(text[part]) for text in texts), default=0) for part in (0, 1))
    return [Reading(f"{text[0]:>{value}}" + (f" {text[1]:<{interval}}" if interval else ""), text[2]) for text in texts]


def _text(case: WorstCaseEntry | None, metric: Metric, inside: str) -> tuple[str, str, str]:
    """Value, interval and attack of one cell of the table; `inside` begins all attacks' names and is left out."""
    if case is None:
        return NONE, "", ""
    if case.value is None:
        return NOT_RUN if case.refused else NONE, "", ""
    ends = [metric.write(end) for end in case.interval or ()]
    interval = f"[{'..'.join(ends)}]" if len(set(ends)) > 1 else ""
    return (
        metric.write(case.value) + case.doubt,
        interval,
        f"({case.attack.removeprefix(inside)})" if case.attack else "",
    )


def _collapses(axis: str) -> bool:
    """Whether an axis is not part of a setting: seeds, defenses, and what attacks attackers could choose."""
    section, _, key = axis.partition(".")
    return axis in (SEED, DEFENSE) or (section == ATTACK and key not in SCHEDULE)


def _attack(group: Group) -> Mapping[str, Any]:
    """What the resolved configuration says of a group's attack; nothing where no record carries one."""
    sections = ((record.get("config") or {}).get(ATTACK) for record in group.records)
    return next((section for section in sections if section), {})


def _num_byzantine(group: Group) -> int | None:
    """How many clients are Byzantine; None where no record says so."""
    attack = _attack(group)
    if not attack:
        return None
    if attack["name"] == NO_ATTACK:
        return 0
    if attack.get("num_byzantine") is not None:
        return int(attack["num_byzantine"])
    clients = next(record["config"]["partition"]["clients"] for record in group.records if record.get("config"))
    return int((attack.get("fraction") or 0.0) * clients + 1e-9)


def _identity(group: Group) -> str:
    """What tells an attack from others, whoever carries it out."""
    attack = _attack(group)
    return json.dumps([attack["name"], attack.get("options")], sort_keys=True)


def _name(group: Group, among: Sequence[Group]) -> str:
    """What an attack is called: its label or its name, or all that its axes say where others have that name too."""

    def short(other: Group) -> str:
        attack, winner = _attack(other), _winner(other)
        return str(attack.get("label") or attack.get("name")) + (f": {winner}" if winner else "")

    if [short(other) for other in among].count(short(group)) == 1:
        return short(group)
    said = {axis: text for axis, text in group.axes.items() if axis.partition(".")[0] == ATTACK}
    return ", ".join(text if axis == ATTACK else f"{axis.partition('.')[2]}={text}" for axis, text in said.items())


def _winner(group: Group) -> str:
    """Of an attack that tries several, the one that it chose in most rounds; empty for others."""
    rounds = Counter[str]()
    for record in group.records:
        chosen = (record.get("attack_report") or {}).get("attack")
        rounds.update(chosen if isinstance(chosen, Mapping) else {})
    return rounds.most_common(1)[0][0] if rounds else ""


def _refused(group: Group) -> bool:
    return all(record.get("status") == "refused" for record in group.records)
