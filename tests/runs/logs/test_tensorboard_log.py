"""What TensorBoard reads of a run: scalars by round, hyperparameters, nothing twice after interruptions."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedsec.errors import InputError
from fedsec.runs.logs.choice import logs_of
from fedsec.runs.logs.run_log import LoggedCell, LoggedRun, LogState

pytest.importorskip("tensorboard")

CELL = LoggedCell(
    "0123456789ab",
    "a/b(c=1), median",
    {"attack": "a/b", "alpha": 0.5, "seed": 1},
    {"federation": {"rounds": 3}},
    "code1",
)
RECORD = {"status": "done", "metrics": {"accuracy": 0.75, "per_class_accuracy": [1.0]}}


def opened(folder: Path) -> Any:
    log = logs_of("tensorboard", folder)["tensorboard"]
    log.open(LoggedRun("tiny", "why", folder))
    return log


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag -> (step, value), as TensorBoard reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (path,) = (folder / "tensorboard").glob("*/events*")
    accumulator = EventAccumulator(str(path)).Reload()
    return {
        tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]
    }


def test_scalars_are_there_once_after_an_interruption_in_the_midst_of_an_event(tmp_path: Path) -> None:
    log = opened(tmp_path)
    assert log.begin(CELL) == LogState(0, ended=False)
    log.log_round(CELL, 1, {"accuracy": 0.25})
    log.log_round(CELL, 2, {"accuracy": 0.5})
    (path,) = (tmp_path / "tensorboard").glob("*/events*")
    content = path.read_bytes()
    path.write_bytes(content[:-5])  # killed while the second round was written
    log = opened(tmp_path)
    assert log.begin(CELL) == LogState(1, ended=False)
    log.log_round(CELL, 2, {"accuracy": 0.5})
    log.log_round(CELL, 3, {"accuracy": 0.75})
    log.end(CELL, RECORD)
    assert scalars(tmp_path) == {"accuracy": [(1, 0.25), (2, 0.5), (3, 0.75)], "final/accuracy": [(3, 0.75)]}
    assert opened(tmp_path).begin(CELL) == LogState(3, ended=True)


def test_other_code_begins_anew(tmp_path: Path) -> None:
    log = opened(tmp_path)
    log.begin(CELL)
    log.log_round(CELL, 1, {"accuracy": 0.25})
    other = LoggedCell(CELL.id, CELL.place, CELL.axes, CELL.config, "code2")
    assert log.begin(other) == LogState(0, ended=False)
    assert scalars(tmp_path) == {}


def test_axes_are_hyperparameters_with_their_types(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata

    opened(tmp_path).begin(CELL)
    (path,) = (tmp_path / "tensorboard").glob("*/events*")
    accumulator = EventAccumulator(str(path)).Reload()
    content = accumulator.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    parameters = metadata.parse_session_start_info_plugin_data(content).hparams
    assert parameters["attack"].string_value == "a/b"
    assert parameters["alpha"].number_value == 0.5


def test_without_tensorboard_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto", None)
    with pytest.raises(InputError, match=r'pip install "fedsec\[tensorboard\]"'):
        logs_of("tensorboard:x", tmp_path)


def test_long_names_of_any_script_fit_a_folder(tmp_path: Path) -> None:
    cell = replace(CELL, place="字" * 300)
    log = opened(tmp_path)
    log.begin(cell)
    log.log_round(cell, 1, {"accuracy": 0.5})
    assert scalars(tmp_path) == {"accuracy": [(1, 0.5)]}
