"""What a scenario's author expects of its results: `{attack: label_flip, defense: median, accuracy: ">= 0.65"}`."""

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedsec.metrics.metric import METRICS, Metric
from fedsec.plugins import registry
from fedsec.plugins.registry import keys_hint
from fedsec.plugins.wording import Problem, shown
from fedsec.scenario.expectations.measured import measured, why_unmeasured
from fedsec.scenario.matrix import SECTIONS, display
from fedsec.scenario.threat_config import NO_DEFENSE

if TYPE_CHECKING:
    from fedsec.scenario.scenario import Cell

_NUMBER = r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
_BOUND = re.compile(rf"(>=|<=|==|>|<)\s*{_NUMBER}")
_RANGE = re.compile(rf"{_NUMBER}\s*\.\.\s*{_NUMBER}")
_HOLDS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}
_FORM = 'expected a comparison such as ">= 0.65", "< 0.5" or "0.6 .. 0.7"'


@dataclass(frozen=True)
class Expectation:
    """A bound on one metric of some cells.

    Args:
        selector: axis or key -> name, label, scalar or partial mapping that a cell must have there.
        metric: the name of a metric.
        comparison: one of >=, <=, ==, >, <, or `between` (both ends count).
        value: the bound; the lower one of `between`.
        upper: the upper bound of `between`.
        cells: ids of the cells it is about.
    """

    selector: Mapping[str, Any]
    metric: str
    comparison: str
    value: float
    upper: float | None = None
    cells: tuple[str, ...] = ()

    def met(self, measured: float) -> bool:
        """Whether a measured value satisfies it; one that is no number never does."""
        if self.comparison == "between":
            return self.upper is not None and self.value <= measured <= self.upper
        return not math.isnan(measured) and _HOLDS[self.comparison](measured, self.value)

    @property
    def bound(self) -> str:
        """The comparison as it is written in YAML."""
        return f"{self.value:g} .. {self.upper:g}" if self.upper is not None else f"{self.comparison} {self.value:g}"

    def __str__(self) -> str:
        where = _told(self.selector)
        return f"{where}: {self.metric} {self.bound}" if where else f"{self.metric} {self.bound}"


def read_expectations(
    entries: Any, cells: Sequence["Cell"], *, narrowed: bool = False
) -> tuple[list[Expectation], list[Problem]]:
    """The expectations of a scenario's `expect`, and what is wrong with them.

    Args:
        entries: as they stand in the file.
        cells: of the scenario.
        narrowed: the cells were changed from outside, so an expectation about none of them is no mistake; it then
            comes back without cells.
    """
    if not isinstance(entries, list):
        return [], [(("expect",), f"expected a list of mappings, got {shown(entries)}")]
    own = dict.fromkeys(name for cell in cells for name in cell.config.metrics)
    names = [*METRICS, *own]
    expectations: list[Expectation] = []
    problems: list[Problem] = []
    for index, item in enumerate(entries):
        path = ("expect", index)
        if not isinstance(item, Mapping):
            problems.append(
                (path, f'expected a mapping such as {{defense: median, accuracy: ">= 0.65"}}, got {shown(item)}')
            )
            continue
        metrics = {key: value for key, value in item.items() if key in names}
        selector = {key: value for key, value in item.items() if key not in names}
        wrong = [key for key in selector if key.partition(".")[0] not in SECTIONS]
        problems += [((*path, key), f"unknown key{keys_hint(key, [*names, *SECTIONS])}") for key in wrong]
        if not metrics and not wrong:
            some = ", ".join(names[:6])
            problems.append((path, f"names no metric; expected one, such as {some} (docs/metrics.md has all of them)"))
        chosen_cells = _chosen(cells, selector)
        chosen = tuple(cell.id for cell in chosen_cells)
        if not wrong and not chosen and not narrowed:
            problems.append((path, f"matches no cell: {_told(selector)}; {_choices(cells, selector)}"))
        stacks = _stacks_with(selector, chosen_cells)
        if len(stacks) > 1 and not narrowed:
            wanted = selector["defense"]
            message = f"{wanted} alone is no cell's defense, and a part of {len(stacks)}"
            problems.append(((*path, "defense"), f"{message}; expected one of {', '.join(stacks)}"))
        for metric, bound in metrics.items():
            row = METRICS.get(metric) or registry.load("metric", metric)().described(metric)
            about = [cell for cell in cells if cell.id in chosen]
            if not narrowed:
                problems += [((*path, metric), message) for message in _unmeasured(row, about, own=metric in own)]
            read = _read_bound(row, bound)
            if isinstance(read, str):
                problems.append(((*path, metric), read))
            else:
                expectations.append(Expectation(selector, metric, *read, chosen))
    return expectations, problems


def _unmeasured(row: Metric, cells: Sequence["Cell"], *, own: bool) -> Iterator[str]:
    """Why a metric has no value in some of the cells, whatever happens in them."""
    unasked = [cell for cell in cells if row.name not in cell.config.metrics]
    if own:
        if unasked:
            yield f"is measured where `metrics` names it, and {unasked[0]} does not; expected metrics: [{row.name}]"
        return
    for cell in cells:
        if reason := why_unmeasured(row, cell.config):
            names = ", ".join(measured(cell.config))
            yield f"{reason}, and {cell} has none; expected a selector of other cells, or one of {names}"
            return


def _read_bound(metric: Metric, bound: Any) -> tuple[str, float, float | None] | str:
    """(comparison, value, upper), or what is wrong."""
    text = bound.strip() if isinstance(bound, str) else ""
    if match := _BOUND.fullmatch(text):
        read: tuple[str, float, float | None] = (match[1], float(match[2]), None)
    elif match := _RANGE.fullmatch(text):
        read = ("between", float(match[1]), float(match[2]))
        if float(match[1]) > float(match[2]):
            return f"expected the smaller number first, got {shown(bound)}"
    else:
        return f"{_FORM}, got {shown(bound)}"
    if metric.is_fraction and any(value is not None and not 0 <= value <= 1 for value in read[1:]):
        return f"is a fraction; expected a number between 0 and 1, got {shown(bound)}"
    if not _attainable(metric, *read):
        end = f"below {metric.low:g}" if read[1] <= metric.low else f"above {metric.high:g}"
        return f"is never {end}; {shown(bound)} cannot be met"
    return read


def _attainable(metric: Metric, comparison: str, value: float, upper: float | None) -> bool:
    """Whether any value that the metric can have lies within a bound."""
    lowest, highest = value, value if upper is None else upper
    if comparison in ("<", "<="):
        return metric.low < value or (comparison == "<=" and metric.low == value)
    if comparison in (">", ">="):
        return metric.high > value or (comparison == ">=" and metric.high == value)
    return lowest <= metric.high and highest >= metric.low


def _chosen(cells: Sequence["Cell"], selector: Mapping[str, Any]) -> list["Cell"]:
    """The cells that a selector means: by a text that is some cells' label on an axis, these and no others."""
    for key, wanted in selector.items():
        named = [cell for cell in cells if isinstance(wanted, str) and wanted == cell.axes.get(key)]
        cells = named or [cell for cell in cells if _fits(cell, key, wanted)]
    return list(cells)


def _stacks_with(selector: Mapping[str, Any], chosen: Sequence["Cell"]) -> list[str]:
    """The defenses of several parts that a selector's name of one part has chosen."""
    wanted = selector.get("defense")
    labels = dict.fromkeys(cell.axes["defense"] for cell in chosen if "defense" in cell.axes)
    stacks = {cell.axes["defense"] for cell in chosen if "defense" in cell.axes and len(cell.config.defense) > 1}
    return [label for label in labels if label in stacks] if isinstance(wanted, str) and wanted not in labels else []


def _fits(cell: "Cell", key: str, wanted: Any) -> bool:
    """Whether a cell has what is wanted at a key: on its axis, or in its resolved configuration."""
    raw = cell.values.get(key)
    if key in cell.values and (wanted == raw or (isinstance(wanted, str) and wanted == cell.axes[key])):
        return True
    section, *parts = key.split(".")
    here = cell.resolved.get(section)
    # Several defenses work together: what is wanted of one of them is wanted of the cell.
    choices = (here or [{"name": NO_DEFENSE}]) if section == "defense" else [here]
    return any(_holds(choice, parts, wanted) for choice in choices)


def _holds(here: Any, parts: Sequence[str], wanted: Any) -> bool:
    """Whether what stands below the parts of a key is, or has, what is wanted."""
    for part in parts:
        if not isinstance(here, Mapping) or part not in (here := _flat(here)):
            return False
        here = here[part]
    if not isinstance(here, Mapping):
        return _same(here, wanted)
    flat = _flat(here)
    if isinstance(wanted, Mapping):
        return bool(wanted) and all(name in flat and _holds(flat[name], (), value) for name, value in wanted.items())
    # A federation is known by its algorithm.
    called = (flat.get("name", here.get("algorithm")), here.get("label"))
    return wanted in [value for value in called if value is not None]


def _flat(section: Mapping[str, Any]) -> dict[str, Any]:
    """A section with its options beside the name, as in the file; they are what a key of both means there."""
    return {**section, **section.get("options", {})}


def _same(one: Any, other: Any) -> bool:
    """Equal, and not merely because true equals 1."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _told(selector: Mapping[str, Any]) -> str:
    """A selector as text: `attack={fraction: 0.4}, defense=median`."""

    def text(value: Any) -> str:
        if isinstance(value, Mapping):
            return f"{{{', '.join(f'{key}: {display(item)}' for key, item in value.items())}}}"
        return display(value)

    return ", ".join(f"{key}={text(value)}" for key, value in selector.items())


def _choices(cells: Sequence["Cell"], selector: Mapping[str, Any]) -> str:
    """What there would have been to choose from."""
    parts = []
    for key in selector:
        values = list(dict.fromkeys(cell.axes[key] for cell in cells if key in cell.axes))
        if values:
            parts.append(f"{key} is one of {', '.join(values)}")
    return "expected a combination that exists" + (f" ({'; '.join(parts)})" if parts else "")
