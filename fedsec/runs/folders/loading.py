"""A finished run for code that did not start it: a notebook, a script that makes figures."""

from pathlib import Path

from fedsec.report.page.run_summary import ExpectationVerdict
from fedsec.runs.folders.stored_run import open_run
from fedsec.runs.result import RunResult

__all__ = ["load_run"]


def load_run(folder: Path | str) -> RunResult:
    """What `fedsec.run` gave back when it left this folder.

    Args:
        folder: of the run, such as `runs/quickstart`.

    Returns:
        Its records, in the matrix's order: of finished cells all that `result.json` holds of them.

    Raises:
        InputError: it holds no run.
    """
    stored = open_run(Path(folder))
    failures = sum(record["status"] == "failed" for record in stored.records)
    expectations = [(_text(verdict), verdict.value, verdict.met) for verdict in stored.summary.expectations]
    unmet = [text for text, _, met in expectations if not met]
    return RunResult(stored.root, stored.records, failures, unmet, stored.summary.interrupted, expectations)


def _text(verdict: ExpectationVerdict) -> str:
    said = verdict.met or verdict.value is None
    return verdict.text if said else f"{verdict.text}, measured {verdict.value:.4g}"
