"""What a run gives back to the code that started it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedsec.errors import InputError, count_of
from fedsec.metrics.metric import described

_MOST_ROWS = 30


@dataclass(frozen=True)
class RunResult:
    """What a run left behind.

    Args:
        root: the run folder.
        records: one record a cell, in the matrix's order; see `results.json`.
        failures: number of cells that failed.
        unmet: expectations that were not met, as text.
        interrupted: whether the run was stopped before its end.
    """

    root: Path
    records: list[dict[str, Any]] = field(repr=False)
    failures: int
    unmet: list[str]
    interrupted: bool

    def __repr__(self) -> str:
        """A table of the cells, short enough to be read."""
        done = sum(record["status"] == "done" for record in self.records)
        lines = [f"RunResult({self.root}: {done} of {count_of(len(self.records), 'cell')} done)"]
        for record in self.records[:_MOST_ROWS]:
            name = ", ".join(f"{axis}={value}" for axis, value in record["cell"].items()) or "the only cell"
            lines.append(f"  {name}: {self._outcome(record)}")
        if len(self.records) > _MOST_ROWS:
            lines.append(f"  and {len(self.records) - _MOST_ROWS} more, see .records or .to_dataframe()")
        lines += [f"  not met: {text}" for text in self.unmet]
        return "\n".join(lines)

    def to_dataframe(self) -> Any:
        """A pandas data frame, one row a cell: id, place in the matrix, status and metrics; lists stay lists.

        Raises:
            InputError: pandas is not installed.
        """
        try:
            import pandas  # type: ignore[import-untyped]
        except ImportError as error:
            raise InputError("to_dataframe needs pandas, which is not installed; try: pip install pandas") from error
        rows = [
            {"id": record["id"], **record["cell"], "status": record["status"], **record["metrics"]}
            for record in self.records
        ]
        return pandas.DataFrame(rows)

    @staticmethod
    def _outcome(record: dict[str, Any]) -> str:
        if record["status"] != "done":
            return f"{record['status']}: {record['error']}" if record["error"] else str(record["status"])
        metric = described(record.get("primary_metric", "accuracy"))
        value = record["metrics"].get(metric.name)
        return "done" if value is None else f"{metric.title} {metric.write(value)}"
