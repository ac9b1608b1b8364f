"""From options of `fedsec audit` to the sections of a scenario."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedsec.data.datasets import DATASETS
from fedsec.errors import InputError
from fedsec.plugins import own_models, registry

__all__ = ["sections_of"]

_DATA, _MODEL, _CLIENTS, _ROUNDS = "digits", "cnn", 10, 20
_PARTITION = {"name": "dirichlet", "alpha": 1.0}
_EPOCHS, _BATCH, _RATE = 1, 16, 0.1


def sections_of(
    *,
    model: str | Mapping[str, Any] | None,
    data: str | Path | Mapping[str, Any] | None,
    clients: int | None,
    partition: str | Mapping[str, Any] | None,
    algorithm: str | None,
    rounds: int | None,
    clients_per_round: int | None,
    local_epochs: int | None,
    local_steps: int | None,
    batch_size: int | None,
    lr: float | None,
    defense: Any,
    seed: int,
) -> dict[str, Any]:
    """The sections of a scenario, with the audit's defaults where nothing is said; see `fedsec.audit`.

    Raises:
        InputError: options that exclude each other.
    """
    if local_epochs is not None and local_steps is not None:
        raise InputError("local_epochs excludes local_steps; expected one of the two")
    reference = model.get("name") if isinstance(model, Mapping) else model
    if isinstance(reference, str) and ":" in reference:
        own_models.allow(reference)
    spread = dict(_PARTITION) if partition is None else _named(partition)
    if clients is not None and spread.get("clients", clients) != clients:
        raise InputError(f"clients is {clients}, and partition says {spread['clients']}; expected one of the two")
    spread.setdefault("clients", _CLIENTS if clients is None else clients)
    federation: dict[str, Any] = {
        "algorithm": algorithm or "fedavg",
        "rounds": _ROUNDS if rounds is None else rounds,
        "clients_per_round": clients_per_round,
    }
    local = {"epochs": local_epochs, "steps": local_steps, "batch_size": batch_size, "lr": lr}
    if federation["algorithm"] != "fedsgd":
        local["batch_size"] = _BATCH if batch_size is None else batch_size
        local["lr"] = _RATE if lr is None else lr
        local["epochs"] = _EPOCHS if local_epochs is None and local_steps is None else local_epochs
    given = {key: value for key, value in local.items() if value is not None}
    federation["local"] = given or None
    return {
        "dataset": _dataset(data),
        "partition": spread,
        "model": _MODEL if model is None else model,
        "federation": {key: value for key, value in federation.items() if value is not None},
        "defense": "mean" if defense is None else defense,
        "seed": seed,
    }


def _named(value: str | Mapping[str, Any]) -> dict[str, Any]:
    return {"name": value} if isinstance(value, str) else dict(value)


def _dataset(data: str | Path | Mapping[str, Any] | None) -> dict[str, Any]:
    """A dataset by name, or a folder of images where no dataset has this name."""
    if data is None:
        return {"name": _DATA}
    if isinstance(data, Mapping):
        return dict(data)
    if isinstance(data, str) and (data in DATASETS or data in registry.names("dataset")):
        return {"name": data}
    if Path(data).is_dir():
        return {"name": "image_folder", "root": str(data)}
    known = ", ".join(registry.names("dataset"))
    raise InputError(f"data {str(data)!r}: is neither a folder nor a dataset; known: {known}")
