"""A log for TensorBoard: a folder a cell, scalars by round, the axes as hyperparameters. Imported only when asked for.

A cell has one file of events. What says which cell it is, and of which code, is the name of its group of
hyperparameters, so that the file itself tells what it has.
"""

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedsec.errors import InputError
from fedsec.files import replacing
from fedsec.report.summary import value_of
from fedsec.runs.logs.run_log import LoggedCell, LoggedRun, LogState, Outcome

__all__ = ["TensorBoardLog"]

_FILE = "events.out.tfevents.0.fedsec"
_VERSION = "brain.Event:2"
_MOST = 120
"""Characters of a folder's name, beside the cell's id."""


class TensorBoardLog:
    """Writes files of events.

    Args:
        folder: of the run's log; a cell has its own below it.

    Raises:
        InputError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from tensorboard.compat.proto import event_pb2, summary_pb2
            from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
        except ImportError as error:
            message = f'TensorBoard is not installed ({error}); expected it from pip install "fedsec[tensorboard]"'
            raise InputError(message) from error
        self._events, self._summaries = event_pb2, summary_pb2
        self._parameters, self._api, self._names = plugin_data_pb2, api_pb2, metadata
        self._folder = folder

    def open(self, run: LoggedRun) -> None:
        """See `RunLog`."""
        self._folder.mkdir(parents=True, exist_ok=True)

    def begin(self, cell: LoggedCell) -> LogState:
        """See `RunLog`."""
        from tensorboard.summary.writer.record_writer import RecordWriter

        path = self._path(cell)
        events = self._read(path)
        parsed = [self._events.Event.FromString(event) for event in events]
        if not any(self._group(event) == self._group_of(cell) for event in parsed):
            parsed, events = [], [self._events.Event(wall_time=time.time(), file_version=_VERSION).SerializeToString()]
            events.append(self._event(0, self._start(cell)).SerializeToString())
        # Written anew, since a killed process may have left the last event in part.
        with replacing(path) as temporary, temporary.open("xb") as file:
            writer = RecordWriter(file)
            for event in events:
                writer.write(event)
        tags = [(value.tag, event.step) for event in parsed for value in event.summary.value]
        steps = [step for tag, step in tags if not tag.startswith(("final/", "_hparams_"))]
        return LogState(max(steps, default=0), any(tag == self._names.SESSION_END_INFO_TAG for tag, _ in tags))

    def log_round(self, cell: LoggedCell, number: int, metrics: Mapping[str, float]) -> None:
        """See `RunLog`."""
        self._append(cell, self._scalars(metrics, number))

    def end(self, cell: LoggedCell, record: Mapping[str, Any]) -> None:
        """See `RunLog`."""
        finals = {f"final/{name}": value_of(record, name) for name in record.get("metrics") or {}}
        numbers = {name: value for name, value in finals.items() if value is not None}
        rounds = int(cell.config.get("federation", {}).get("rounds", 0))
        if numbers:
            self._append(cell, self._scalars(numbers, rounds))
        if record["status"] == "done":  # a cell that failed may be run again
            status = self._api.Status.Value("STATUS_SUCCESS")
            info = self._parameters.SessionEndInfo(status=status, end_time_secs=time.time())
            ended = self._hparams(self._names.SESSION_END_INFO_TAG, session_end_info=info)
            self._append(cell, self._event(rounds, ended))

    def close(self, outcome: Outcome, files: Sequence[Path]) -> None:
        """See `RunLog`."""

    def _path(self, cell: LoggedCell) -> Path:
        place = re.sub(r"[^\w.=,+()-]+", "_", cell.place, flags=re.ASCII)[:_MOST]
        return self._folder / f"{place}-{cell.id}" / _FILE

    def _append(self, cell: LoggedCell, event: Any) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        with self._path(cell).open("ab") as file:
            RecordWriter(file).write(event.SerializeToString())

    @staticmethod
    def _read(path: Path) -> list[bytes]:
        """The whole events of a file."""
        if not path.is_file():
            return []
        from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader

        return [bytes(event) for event in RawEventFileLoader(str(path)).Load()]

    def _event(self, step: int, summary: Any) -> Any:
        return self._events.Event(wall_time=time.time(), step=step, summary=summary)

    def _scalars(self, metrics: Mapping[str, float], step: int) -> Any:
        values = [self._summaries.Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        return self._event(step, self._summaries.Summary(value=values))

    def _group_of(self, cell: LoggedCell) -> str:
        return f"{cell.id}-{cell.identity}"

    def _start(self, cell: LoggedCell) -> Any:
        info = self._parameters.SessionStartInfo(group_name=self._group_of(cell), start_time_secs=time.time())
        for axis, value in cell.axes.items():
            if isinstance(value, bool):
                info.hparams[axis].bool_value = value
            elif isinstance(value, int | float):
                info.hparams[axis].number_value = value
            else:
                info.hparams[axis].string_value = str(value)
        return self._hparams(self._names.SESSION_START_INFO_TAG, session_start_info=info)

    def _hparams(self, tag: str, **content: Any) -> Any:
        data = self._parameters.HParamsPluginData(version=self._names.PLUGIN_DATA_VERSION, **content)
        plugin = self._summaries.SummaryMetadata.PluginData(
            plugin_name=self._names.PLUGIN_NAME, content=data.SerializeToString()
        )
        metadata = self._summaries.SummaryMetadata(plugin_data=plugin)
        return self._summaries.Summary(value=[self._summaries.Summary.Value(tag=tag, metadata=metadata)])

    def _group(self, event: Any) -> str | None:
        for value in event.summary.value:
            if value.tag == self._names.SESSION_START_INFO_TAG:
                content = self._parameters.HParamsPluginData.FromString(value.metadata.plugin_data.content)
                return str(content.session_start_info.group_name)
        return None
