"""What a run leaves for its reader: the table, the files of numbers, the verdict on its expectations."""

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedsec.files import write_atomic
from fedsec.report.accuracy_table import table
from fedsec.report.best_inversions import trained_once
from fedsec.report.columns import tables
from fedsec.report.evidence.excluded_clients import excluded_clients_table, write_excluded_clients
from fedsec.report.expectations import check
from fedsec.report.exports.text_tables import harmless
from fedsec.report.figures import draw_curves
from fedsec.report.paired import paired_differences, paired_table
from fedsec.report.partition_figure import draw_partitions
from fedsec.report.remarks import remarks
from fedsec.report.summary import Group, Record, Summary, display, primary, summarize
from fedsec.report.tradeoff_figure import draw_tradeoff
from fedsec.report.worst_case import metric_of, worst_case_table, worst_cases
from fedsec.report.worst_case_figure import draw_worst_cases

__all__ = [
    "Group",
    "Record",
    "Summary",
    "check",
    "draw_curves",
    "draw_partitions",
    "draw_tradeoff",
    "draw_worst_cases",
    "excluded_clients_table",
    "paired_table",
    "primary",
    "remarks",
    "rows_of",
    "summarize",
    "table",
    "tables",
    "trained_once",
    "worst_case_table",
    "write_excluded_clients",
    "write_results",
]

_FIELDS = ("id", "cell", "status", "metrics", "privacy", "error", "seconds")


def write_results(root: Path, records: Sequence[Record]) -> None:
    """Write `results.json` and `results.csv` into a run's folder, each whole or not at all.

    `results.json` is a list with one entry a cell, as in ``{"id": "3f..", "cell": {"attack": "none", ...},
    "status": "done", "metrics": {"accuracy": 0.95, ...}, "error": null, "seconds": 3.1}``; accuracies are fractions, a
    number that is not finite is null, and so is a metric that only other cells have. `results.csv` has one line a cell
    and one column for each axis and metric; lists are spread over numbered columns, as in
    ``per_class_accuracy.0``, and text that a spreadsheet would take for a formula begins with an apostrophe.
    `comparisons.json` has what compares cells: paired differences of defenses, and worst cases over attacks; there is
    none where nothing is to be compared.

    Args:
        root: the run's folder; created if need be.
        records: the cells' records.
    """
    rows = rows_of(records)
    write_atomic(root / "results.json", json.dumps(rows, indent=2, allow_nan=False) + "\n")
    write_atomic(root / "results.csv", _csv(rows))
    if comparisons := _comparisons(records):
        write_atomic(root / "comparisons.json", json.dumps(_jsonable(comparisons), indent=2, allow_nan=False) + "\n")


def rows_of(records: Sequence[Record]) -> list[dict[str, Any]]:
    """What `results.json` holds of each cell, as plain data."""
    rows = [{key: _jsonable(record[key]) for key in _FIELDS if key in record} for record in records]
    names = dict.fromkeys(name for row in rows for name in row.get("metrics") or {})
    for row in rows:
        if row["status"] == "done":
            row["metrics"] = dict.fromkeys(names) | row["metrics"]
    return rows


def _comparisons(records: Sequence[Record]) -> dict[str, Any]:
    """Defenses against the baseline on equal seeds, and under the worst attack; nothing where there is none of it."""
    trained = trained_once(records)
    main, worst = primary(trained).name, metric_of(trained).name
    comparisons = {
        "paired_differences": [one.as_json(main) for one in paired_differences(trained)],
        "worst_cases": [case.as_json(worst) for case in worst_cases(trained)],
    }
    return comparisons if any(comparisons.values()) else {}


def _jsonable(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    return value


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    flat = []
    for row in rows:
        axes = {axis: display(value) for axis, value in row["cell"].items()}
        metrics = _spread(row.get("metrics") or {})
        flat.append((axes, metrics, {key: row.get(key) for key in ("error", "seconds")}))
    axis_names = list(dict.fromkeys(name for axes, _, _ in flat for name in axes))
    metric_names = list(dict.fromkeys(name for _, metrics, _ in flat for name in metrics))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([harmless(name) for name in ("id", *axis_names, "status", *metric_names, "error", "seconds")])
    for row, (axes, metrics, rest) in zip(rows, flat, strict=True):
        values = [axes.get(name) for name in axis_names], [metrics.get(name) for name in metric_names]
        content = [row["id"], *values[0], row["status"], *values[1], rest["error"], rest["seconds"]]
        writer.writerow([harmless(value) for value in content])
    return out.getvalue()


def _spread(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, dict | list):
        return {name: value}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    spread: dict[str, Any] = {}
    for key, item in items:
        spread |= _spread(item, f"{name}.{key}" if name else str(key))
    return spread
