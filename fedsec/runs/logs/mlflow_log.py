"""A log for MLflow: a parent run, a child a cell, its configuration as parameters. Imported only when asked for.

Runs are found again by their tags: the parent by a hash of its folder, a child by the cell and the identity of the
code. A child of other code stays, with the tag `fedsec.superseded`.
"""

import hashlib
import logging
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedsec.errors import InputError
from fedsec.report.comparison.conditions import leaves
from fedsec.report.summary import value_of
from fedsec.runs.logs.run_log import LoggedCell, LoggedRun, LogState, Outcome

__all__ = ["MlflowLog"]

_FOLDER, _RUN, _CELL = "fedsec.folder", "fedsec.run", "fedsec.cell"
_IDENTITY, _SUPERSEDED = "fedsec.identity", "fedsec.superseded"
_FINAL = "final."
_STATUS: Mapping[Outcome, str] = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
_LONGEST = 500
_AT_ONCE = 100


class MlflowLog:
    """Writes to a tracking server or database.

    Args:
        uri: where it is; by default what MLflow takes: `MLFLOW_TRACKING_URI`, or `mlflow.db` in the current folder.

    Raises:
        InputError: MLflow is not installed.
    """

    def __init__(self, uri: str | None = None) -> None:
        # Nothing is told to anybody, unless the user said otherwise.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("DO_NOT_TRACK", "true")
        try:
            from mlflow import entities
            from mlflow.tracking import MlflowClient
        except ImportError as error:
            message = f'MLflow is not installed ({error}); expected it from pip install "fedsec[mlflow]"'
            raise InputError(message) from error
        for name in ("mlflow.store.db.utils", "alembic"):  # which tell of every table that they make
            logging.getLogger(name).setLevel(logging.WARNING)
        self._entities, self._client_of, self._uri = entities, MlflowClient, uri
        self._client: Any = None
        self._experiment = self._parent = ""
        self._children: dict[str, str] = {}

    def open(self, run: LoggedRun) -> None:
        """See `RunLog`."""
        self._client = self._client_of(tracking_uri=self._uri)
        known = self._client.get_experiment_by_name(run.name)
        self._experiment = known.experiment_id if known else self._client.create_experiment(run.name)
        folder = str(run.folder.resolve())
        # Searched by a hash, since a path may hold any quotation marks.
        name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
        parents = self._search(_RUN, name)
        if parents:
            self._parent = parents[0].info.run_id
            self._client.update_run(self._parent, status="RUNNING")
            return
        tags = {_RUN: name, _FOLDER: run.folder.name, "mlflow.note.content": run.question}
        self._parent = self._client.create_run(self._experiment, tags=tags, run_name=run.name).info.run_id

    def begin(self, cell: LoggedCell) -> LogState:
        """See `RunLog`."""
        state = LogState()
        mine = None
        for child in self._search(_CELL, cell.id):
            if child.data.tags.get("mlflow.parentRunId") != self._parent:
                continue
            if child.data.tags.get(_IDENTITY) == cell.identity:
                mine = child
            elif _SUPERSEDED not in child.data.tags:
                self._client.set_tag(child.info.run_id, _SUPERSEDED, "true")
        if mine is None:
            self._children[cell.id] = self._create(cell)
            return state
        run_id = mine.info.run_id
        metric = next((name for name in mine.data.metrics if not name.startswith(_FINAL)), None)
        steps = [] if metric is None else [one.step for one in self._client.get_metric_history(run_id, metric)]
        ended = mine.info.status == "FINISHED"
        if not ended:
            self._children[cell.id] = run_id
            self._client.update_run(run_id, status="RUNNING")
        return LogState(max(steps, default=0), ended)

    def log_round(self, cell: LoggedCell, number: int, metrics: Mapping[str, float]) -> None:
        """See `RunLog`."""
        self._log(self._children[cell.id], metrics, number)

    def end(self, cell: LoggedCell, record: Mapping[str, Any]) -> None:
        """See `RunLog`."""
        run_id = self._children.pop(cell.id)
        finals = {f"{_FINAL}{name}": value_of(record, name) for name in record.get("metrics") or {}}
        rounds = int(cell.config.get("federation", {}).get("rounds", 0))
        self._log(run_id, {name: value for name, value in finals.items() if value is not None}, rounds)
        if record.get("error"):
            self._client.set_tag(run_id, "fedsec.error", str(record["error"])[:_LONGEST])
        self._client.set_terminated(run_id, status="FINISHED" if record["status"] == "done" else "FAILED")

    def close(self, outcome: Outcome, files: Sequence[Path]) -> None:
        """See `RunLog`."""
        for run_id in self._children.values():
            self._client.set_terminated(run_id, status="KILLED")
        for path in files:
            self._client.log_artifact(self._parent, str(path))
        self._client.set_terminated(self._parent, status=_STATUS[outcome])

    def _search(self, tag: str, value: str) -> list[Any]:
        return list(self._client.search_runs([self._experiment], f"tags.`{tag}` = '{value}'"))

    def _create(self, cell: LoggedCell) -> str:
        tags = {"mlflow.parentRunId": self._parent, _CELL: cell.id, _IDENTITY: cell.identity}
        run_id = str(self._client.create_run(self._experiment, tags=tags, run_name=cell.place[:_LONGEST]).info.run_id)
        texts = {name: str(value) for name, value in {**dict(leaves(cell.config)), **cell.axes}.items()}
        parameters = [self._entities.Param(_key(name), text[:_LONGEST]) for name, text in texts.items()]
        for start in range(0, len(parameters), _AT_ONCE):
            self._client.log_batch(run_id, params=parameters[start : start + _AT_ONCE])
        return run_id

    def _log(self, run_id: str, metrics: Mapping[str, float], step: int) -> None:
        now = int(1000 * time.time())
        values = [self._entities.Metric(_key(name), value, now, step) for name, value in metrics.items()]
        self._client.log_batch(run_id, metrics=values)


def _key(name: str) -> str:
    """A name as MLflow takes it."""
    return re.sub(r"[^\w.\- :/]", "_", name)
