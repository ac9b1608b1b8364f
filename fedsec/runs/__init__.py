"""Running scenarios: cells in parallel, files that survive a crash, reports."""

from fedsec.runs.runner import RunResult, run

__all__ = ["RunResult", "run"]
