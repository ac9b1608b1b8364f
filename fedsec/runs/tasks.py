"""What an executor runs: a task is plain data, and running it is a plain function that needs no process of its own."""

import json
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fedsec.errors import FedsecError, InputError
from fedsec.runs.events import Begun, Done, Event, Failed, RoundDone, Said, Started

if TYPE_CHECKING:
    from fedsec.runs.experiment import Experiment

Emit = Callable[[Event], None]


@dataclass(frozen=True)
class TaskSettings:
    """Where and how a cell runs; no result depends on it beyond float tolerance.

    Args:
        root: the scenario's run folder, which all workers see.
        device: `cpu` or `cuda`.
        threads: CPU threads inside the cell.
        keep: go on from what other code, data or versions left, instead of beginning anew.
        record: folder in which each cell leaves a recording of what its server receives; None for none.
        actors: on how many workers a round's clients train, and its rows lie.
        ray: address of the Ray cluster whose actors they are; None: all of this process, as tests have them.
        memory_gib: what a matrix of a round's updates may take, see `LocalRows`.
    """

    root: Path
    device: str
    threads: int
    keep: bool = False
    record: str | None = None
    actors: int = 1
    ray: str | None = None
    memory_gib: float | None = None


@dataclass(frozen=True)
class CellTask:
    """A piece of a run that one worker does.

    Args:
        kind: `cell`: run a cell to its end; `train`: one client's share of the training that one-round cells share;
            `look`: say what is missing for the cell where the task runs.
        config: the cell's resolved configuration, as plain data.
        settings: where and how.
        axes: the cell's place in the matrix, for the record.
        made_with: what its numbers depend on beside the configuration, see `fedsec.runs.provenance`.
        origin: id of a finished cell to go on from, see `run_cell`.
        client: whom to train.
    """

    kind: Literal["cell", "train", "look"]
    config: dict[str, Any] = field(repr=False)
    settings: TaskSettings
    axes: dict[str, str] = field(default_factory=dict)
    made_with: dict[str, str] | None = field(default=None, repr=False)
    origin: str | None = None
    client: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The task as plain data."""
        content = asdict(self)
        content["settings"]["root"] = str(self.settings.root)
        return content

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "CellTask":
        """A task from plain data."""
        settings = {**content["settings"], "root": Path(content["settings"]["root"])}
        return cls(**{**content, "settings": TaskSettings(**settings)})


def run_task(task: CellTask, emit: Emit) -> None:
    """Run a task in this process; whatever happens, its last event is `Done` or `Failed`.

    Sets the number of PyTorch's threads for the whole process.

    Args:
        task: what to do.
        emit: is given every event, as it happens.
    """
    emit(Started())
    try:
        record = None
        if task.kind == "train":
            _train(task)
        elif task.kind == "look":
            record = {"missing": _missing(task)}
        else:
            record = _run(task, emit)
        emit(Done(record))
    except FedsecError as error:
        emit(Failed(str(error), input=isinstance(error, InputError)))
    except Exception as error:
        emit(Failed(f"{type(error).__name__}: {error}", trace=traceback.format_exc()))


def forget() -> None:
    """Let go of the experiment that is kept from one client's training to the next."""
    _experiment.cache_clear()


def _run(task: CellTask, emit: Emit) -> dict[str, Any]:
    import torch

    from fedsec.arithmetic import arithmetic
    from fedsec.runs.cell import run_cell
    from fedsec.scenario import CellConfig

    forget()
    torch.set_num_threads(task.settings.threads)
    # What is neither trained nor asked to be coarse, such as an inversion, has all digits on a GPU.
    with arithmetic(task.settings.device):
        return run_cell(
            CellConfig.model_validate(task.config),
            task.axes,
            task.settings,
            lambda number, rounds, metrics: emit(RoundDone(number, rounds, dict(metrics))),
            made_with=task.made_with,
            origin=task.origin,
            say=lambda text: emit(Said(text)),
            on_begin=lambda number: emit(Begun(number)),
        )


def _missing(task: CellTask) -> list[str]:
    from fedsec.runs.remote.inspection import missing

    return missing(task)


def _train(task: CellTask) -> None:
    import torch

    from fedsec.arithmetic import arithmetic

    torch.set_num_threads(task.settings.threads)
    experiment = _experiment(json.dumps(task.config, sort_keys=True), json.dumps(task.made_with), task.settings)
    if isinstance(experiment, FedsecError):
        raise experiment
    federation: Any = experiment.federation
    with arithmetic(task.settings.device):
        federation.local_updates(federation.start([task.client]), [task.client], 1)


@lru_cache(maxsize=1)
def _experiment(config: str, made_with: str, settings: TaskSettings) -> "Experiment | FedsecError":
    """The experiment of a cell, or why there is none, kept while one client of it after another is trained."""
    from fedsec.runs.cell import cell_experiment
    from fedsec.scenario import CellConfig

    try:
        return cell_experiment(CellConfig.model_validate_json(config), settings, json.loads(made_with) or {})
    except FedsecError as error:
        return error
