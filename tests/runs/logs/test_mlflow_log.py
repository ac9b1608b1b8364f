"""What MLflow keeps of a run: a parent, a child a cell, nothing twice; nobody is told."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from fedsec.errors import InputError
from fedsec.runs.logs.choice import logs_of
from fedsec.runs.logs.run_log import LoggedCell, LoggedRun, LogState

CELL = LoggedCell("0123456789ab", "alie, median", {"attack": "alie"}, {"federation": {"rounds": 2}}, "code1")
RECORD = {"status": "done", "metrics": {"accuracy": 0.5}, "error": None}


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store of files, which is made faster than a database."""
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return (tmp_path / "mlruns").as_uri()


@pytest.mark.filterwarnings("ignore:.*:FutureWarning", "ignore:.*:DeprecationWarning")
def test_a_run_is_a_parent_with_a_child_for_each_cell(uri: str, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    folder = tmp_path / "it's a run"
    folder.mkdir()
    (folder / "report.html").write_text("page")

    def opened() -> Any:
        log = logs_of(f"mlflow:{uri}", folder)[f"mlflow:{uri}"]
        log.open(LoggedRun("tiny", "why", folder))
        return log

    log = opened()
    assert log.begin(CELL) == LogState(0, ended=False)
    log.log_round(CELL, 1, {"accuracy": 0.25})
    log.close("interrupted", [])
    log = opened()
    assert log.begin(CELL) == LogState(1, ended=False)
    log.log_round(CELL, 2, {"accuracy": 0.5})
    log.end(CELL, RECORD)
    log.close("finished", [folder / "report.html"])
    log = opened()
    assert log.begin(CELL) == LogState(2, ended=True)
    log.close("finished", [])
    log = opened()
    log.begin(LoggedCell(CELL.id, CELL.place, CELL.axes, CELL.config, "code2"))
    log.close("finished", [])

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("tiny")
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [one for one in runs if "mlflow.parentRunId" not in one.data.tags]
    children = {one.data.tags["fedsec.identity"]: one for one in runs if one is not parent}
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["fedsec.folder"] == "it's a run"
    assert not any(str(tmp_path) in text for text in parent.data.tags.values())
    assert [artifact.path for artifact in client.list_artifacts(parent.info.run_id)] == ["report.html"]
    assert set(children) == {"code1", "code2"}
    child = children["code1"]
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert [children[code].info.status for code in ("code1", "code2")] == ["FINISHED", "KILLED"]
    assert child.data.tags["fedsec.superseded"] == "true"
    assert child.data.params == {"attack": "alie", "federation.rounds": "2"}
    history = client.get_metric_history(child.info.run_id, "accuracy")
    assert [(one.step, one.value) for one in history] == [(1, 0.25), (2, 0.5)]
    assert child.data.metrics["final.accuracy"] == 0.5
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_without_mlflow_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(InputError, match=r'pip install "fedsec\[mlflow\]"'):
        logs_of("mlflow", tmp_path)
