"""What a run gives back to the code that started it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedsec.errors import count_of
from fedsec.metrics.metric import described
from fedsec.report.exports.frames import to_frame
from fedsec.report.exports.tidy import cell_table, round_table
from fedsec.report.run_report import rows_of

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
        expectations: each of the scenario's as text, what was measured (None where there is nothing), and whether it
            was met; none where the run was interrupted.
    """

    root: Path
    records: list[dict[str, Any]] = field(repr=False)
    failures: int
    unmet: list[str]
    interrupted: bool
    expectations: list[tuple[str, float | None, bool]] = field(default_factory=list, repr=False)

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

    def _repr_html_(self) -> str:
        """How it ended, attacks by defenses, and pictures, for notebooks."""
        from fedsec.report.notebook import run_html
        from fedsec.runs.store import Store

        names = sorted(name for name in Store(self.root).report_files() if name.endswith(".png"))
        pictures = [path for name in names if (path := self.root / name).is_file()]
        return run_html(self.root, self.records, self.unmet, self._reason(), pictures)

    def as_json(self) -> dict[str, Any]:
        """The run as plain data, as `fedsec run --json` prints it: `cells` are what `results.json` holds."""
        return {
            "root": str(self.root),
            "reason": self._reason(),
            "failures": self.failures,
            "interrupted": self.interrupted,
            "expectations": [
                {"expectation": text, "measured": measured, "met": met} for text, measured, met in self.expectations
            ],
            "cells": rows_of(self.records),
        }

    def _reason(self) -> str:
        """Why the run ends as it does, in a few words."""
        reasons = ["interrupted"] if self.interrupted else []
        if self.failures:
            reasons.append(f"{count_of(self.failures, 'cell')} failed")
        if self.unmet:
            reasons.append(f"{count_of(len(self.unmet), 'expectation')} not met")
        return ", ".join(reasons) or ("all expectations met" if self.expectations else "done")

    def to_dataframe(self, *, rounds: bool = False) -> Any:
        """A pandas data frame, one row a cell: id, place in the matrix, status and metrics; lists stay lists.

        Axes are columns of their own type: numbers where all values of an axis are. A metric that a cell does not have
        is missing there.

        Args:
            rounds: one row a cell and finished round instead, with what `rounds.jsonl` holds of it; names within
                others are joined by dots, as in `cost.upload_bytes`.

        Raises:
            InputError: pandas is not installed.
        """
        return to_frame(round_table(self.root, self.records) if rounds else cell_table(self.records))

    @staticmethod
    def _outcome(record: dict[str, Any]) -> str:
        if record["status"] != "done":
            return f"{record['status']}: {record['error']}" if record["error"] else str(record["status"])
        metric = described(record.get("primary_metric", "accuracy"))
        value = record["metrics"].get(metric.name)
        return "done" if value is None else f"{metric.title} {metric.write(value)}"
