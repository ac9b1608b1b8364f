"""Which machine, versions, data and code the numbers come from."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fedsec.report.page.parts import DataTable, Folded, PageSection, Part, TableCell, TableColumn
from fedsec.report.summary import Record

if TYPE_CHECKING:
    from fedsec.report.page.run_page import RunView

__all__ = ["environment"]

_OF_RECORD = {"engine": "engine", "dataset_source": "dataset from", "parameters": "parameters of the model"}
_MOST_VALUES = 6


def environment(view: "RunView") -> PageSection | None:
    """Versions and hardware; where cells differ, how many have what."""
    surroundings = [_surroundings(record) for record in view.done]
    if not any(surroundings):
        return None
    parts: list[Part] = [_table(surroundings, "What the numbers come from")]
    made_with = [record.get("made_with") or {} for record in view.done]
    if any(made_with):
        about = "Hashes of the code and the data that numbers come from, by which runs can be compared"
        parts.append(Folded("Code and data, by their hashes", [_table(made_with, about)]))
    if view.summary.finished:
        finished = view.summary.finished.replace("T", " ").replace("Z", " UTC")
        parts[0] = _table([{**values, "finished": finished} for values in surroundings], "What the numbers come from")
    return PageSection("environment", "Environment and versions", parts)


def _surroundings(record: Record) -> dict[str, Any]:
    own = {title: record[name] for name, title in _OF_RECORD.items() if record.get(name) is not None}
    return {**(record.get("environment") or {}), **own}


def _table(values: Sequence[Mapping[str, Any]], about: str) -> DataTable:
    """A row for each name; where cells differ, each value with the number of cells that have it."""
    names = dict.fromkeys(name for cell in values for name in cell)
    rows = [[TableCell(name), TableCell(_told([cell.get(name) for cell in values]))] for name in names]
    return DataTable([TableColumn("what"), TableColumn("value")], rows, f"{about}.")


def _told(values: Sequence[Any]) -> str:
    counts = Counter("none" if value is None else _written(value) for value in values)
    if len(counts) == 1:
        return next(iter(counts))
    counted = [f"{value} ({number} of {len(values)} cells)" for value, number in counts.most_common(_MOST_VALUES)]
    rest = f"; and {len(counts) - _MOST_VALUES} more values" if len(counts) > _MOST_VALUES else ""
    return "; ".join(counted) + rest


def _written(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
