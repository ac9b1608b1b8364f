"""A recording of what a cell's server receives, for `fedsec.replay`."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from fedsec.errors import InputError
from fedsec.federation.algorithms.fedsgd import FedSGD
from fedsec.federation.algorithms.update_algorithm import UpdateAlgorithm
from fedsec.federation.rounds import RoundResult
from fedsec.federation.updates import Federation
from fedsec.inversion.personal_layers import names_at_home
from fedsec.recording import Recorder, open_recording, record
from fedsec.runs.experiment import Experiment
from fedsec.runs.tasks import TaskSettings
from fedsec.scenario import CellConfig

__all__ = ["CellRecorder", "is_recorded", "reaches"]


class CellRecorder:
    """Writes down what a federation's server receives; training does not depend on it.

    Args:
        recorder: of the cell.
        federation: that is observed from now on.
    """

    def __init__(self, recorder: Recorder, federation: Federation) -> None:
        self._recorder, self._federation = recorder, federation
        self._seen: dict[str, Any] | None = None
        federation.observers.append(self._see)

    @classmethod
    def of(
        cls,
        settings: TaskSettings,
        config: CellConfig,
        axes: Mapping[str, str],
        experiment: Experiment,
        rounds: int,
        say: Callable[[str], None],
    ) -> "CellRecorder | None":
        """The recorder of a cell that goes on after some rounds; None for a federation that exchanges no updates."""
        federation, dataset = experiment.federation, experiment.dataset
        if not isinstance(federation, Federation):
            say(f"not recorded: {config.federation.algorithm} exchanges no updates, and recordings hold updates")
            return None
        local, gradients = _prescribed(federation.algorithm), isinstance(federation.algorithm, FedSGD)
        about: dict[str, Any] = {
            "model": config.model.name,
            "model_options": config.model.options,
            "input_shape": list(dataset.input_shape),
            "num_classes": dataset.num_classes or None,
            "normalization": asdict(federation.data.normalization),
            "dataset": config.dataset.name,
            "algorithm": config.federation.algorithm,
            "cell": dict(axes),
            "id": config.id,
            "seed": config.seed,
        }
        if home := sorted(names_at_home(federation)):
            about["at_home"] = home
        if (buffers := getattr(federation.algorithm, "buffers", "reset")) != "reset":
            about["buffers"] = buffers
        recorder = record(
            _folder(settings.record, config.id),
            holds="gradients" if gradients else "updates",
            num_clients=federation.num_clients,
            local=local,
            about=about,
            go_on=True,
        )
        recorder.forget_after(rounds)
        return cls(recorder, federation)

    def take(self, result: RoundResult) -> None:
        """Write the round that was played last, if anybody took part in it."""
        if self._seen is None:
            return
        metrics = {name: value for name, value in result.metrics.items() if value is not None and isfinite(value)}
        self._recorder.round(result.round, **self._seen, after=self._state(), metrics=metrics)
        self._seen = None

    def close(self) -> None:
        """Let go of the folder."""
        self._recorder.close()

    def _see(self, number: int, clients: Sequence[int], rows: Float[Tensor, "clients parameters"]) -> None:
        federation = self._federation
        views, named = federation.trainer.layout.views, federation.trainer.statistics.named
        messages = {client: dict(views(row)) for client, row in zip(clients, rows, strict=True)}
        if federation.received_statistics is not None:
            for client, row in zip(clients, federation.received_statistics, strict=True):
                messages[client] |= named(row)
        examples, weights = federation.counted_by(clients)
        self._seen = {
            "sent": self._state(),
            "received": messages,
            "num_examples": examples.tolist(),
            "weights": weights.tolist(),
            "byzantine": [clients[place] for place in federation.byzantine_places(clients)],
        }
        algorithm = federation.algorithm.in_round(number)
        if algorithm is not federation.algorithm:
            self._seen["local"] = _prescribed(algorithm)

    def _state(self) -> dict[str, Tensor]:
        """The global model: parameters, and running statistics where there are any."""
        federation = self._federation
        parameters = {
            name: view.clone() for name, view in federation.trainer.layout.views(federation.parameters).items()
        }
        return parameters | {
            name: view.clone() for name, view in federation.trainer.statistics.named(federation.statistics).items()
        }


def is_recorded(folder: str, cell_id: str) -> bool:
    """Whether a finished cell's rounds lie in a folder of recordings."""
    with suppress(InputError):
        return bool(open_recording(_folder(folder, cell_id)).rounds)
    return False


def reaches(settings: TaskSettings, config: CellConfig, round_number: int) -> bool:
    """Whether a cell's recording holds all that was received until a round."""
    with suppress(InputError):
        rounds = open_recording(_folder(settings.record, config.id)).rounds
        return set(range(1, round_number + 1)) <= set(rounds)
    return False


def _folder(folder: str | None, cell_id: str) -> Path:
    assert folder is not None
    return Path(folder) / cell_id


def _prescribed(algorithm: UpdateAlgorithm) -> dict[str, int | float | str]:
    """What the server knows of its clients' training, in plain values."""
    if isinstance(algorithm, FedSGD):
        return {"lr": algorithm.server_lr}
    local = {} if algorithm.training is None else asdict(algorithm.training)
    plain = {key: value for key, value in local.items() if isinstance(value, int | float | str)}
    if not plain.get("label_smoothing"):  # recordings are older than it
        plain.pop("label_smoothing", None)
    return plain
