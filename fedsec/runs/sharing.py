"""Local training that several one-round cells have in common, done once.

In a one-round experiment every client starts from the same initial parameters, so its update depends
neither on the defense nor on who else is attacked. Each (client, poisoning) pair is trained alone and
kept in a file; the cells pick their rows. Trained alone, so that a row's bits do not depend on which
other clients happened to be trained beside it.
"""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from fedsec.engine.messages import LocalResult, Start
from fedsec.federation.rounds import Threat, sample_clients
from fedsec.files import write_atomic
from fedsec.scenario import CellConfig
from fedsec.scenario.config import unlabeled
from fedsec.scenario.federation_config import CENTRALIZED, GROUP_TRANSFER
from fedsec.seeds import Streams
from fedsec.threat import DataPoisoning


def is_shared(config: CellConfig) -> bool:
    """Whether a cell shares local training with its neighbors: one round of updates, nobody slow."""
    federation = config.federation
    apart = federation.algorithm in (CENTRALIZED, GROUP_TRANSFER) or federation.stragglers
    return federation.rounds == 1 and not apart


class SharingKeys:
    """Names the training of each client of a cell: a hash of all that it depends on.

    Args:
        config: the cell.
        device: where it trains; a GPU's rows must not end up in a CPU's result.
    """

    def __init__(self, config: CellConfig, device: str) -> None:
        dump = unlabeled(config.model_dump(mode="json"))
        federation = {k: dump["federation"][k] for k in ("algorithm", "local", "mu", "bn")}
        depends = {k: dump[k] for k in ("dataset", "partition", "model", "engine", "seed")}
        versions = [version("fedsec"), version("torch")]
        private = [part for part, held in zip(dump["defense"], config.defense, strict=True) if held.role == "local"]
        self._common: list[Any] = [depends, federation, private, device, versions]
        self._attack = {k: dump["attack"][k] for k in ("name", "options")}

    def __call__(self, client: int, *, poisoned: bool) -> str:
        """The name of one client's training, poisoned by the cell's attack or not."""
        content = [*self._common, self._attack if poisoned else None, client]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]


class SharedUpdates:
    """Stands in for an algorithm's local training: reads rows from files, trains and writes the missing ones.

    Args:
        folder: where the rows are kept.
        config: the cell.
        device: where it trains.
    """

    def __init__(self, folder: Path, config: CellConfig, device: str) -> None:
        self.folder, self.keys = folder, SharingKeys(config, device)
        self.train: Any = None
        self.threat = Threat()

    def attach(self, train: Any, threat: Threat) -> None:
        """Give it the function (start, clients, round) -> rows that trains, and the cell's threat."""
        self.train, self.threat = train, threat

    def __call__(self, start: Start, clients: Sequence[int], round_number: int) -> LocalResult:
        """What training left of the given clients."""
        rows = [self.row(start, client, round_number) for client in clients]
        return LocalResult(
            torch.cat([row.updates for row in rows]),
            torch.cat([row.statistics for row in rows]),
            np.concatenate([row.examples for row in rows]),
        )

    def row(self, start: Start, client: int, round_number: int) -> LocalResult:
        """What one client's training left, from its file if there is a sound one."""
        path, device = self.path(client), start.parameters.device
        with suppress(FileNotFoundError, SafetensorError, KeyError):
            kept = load_file(path)
            found = LocalResult(
                kept["update"].to(device)[None], kept["statistics"].to(device)[None], kept["examples"].numpy()
            )
            if found.updates.shape[1:] == start.parameters.shape[-1:] and len(found.examples) == 1:
                return found
        made: LocalResult = self.train(start, [client], round_number)
        tensors = {"update": made.updates[0], "statistics": made.statistics[0]}
        tensors["examples"] = torch.from_numpy(made.examples)
        write_atomic(path, save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}))
        return made

    def path(self, client: int) -> Path:
        """The file of one client's update."""
        poisoned = client in self.threat.byzantine and isinstance(self.threat.attack, DataPoisoning)
        return row_path(self.folder, self.keys(client, poisoned=poisoned))


def row_path(folder: Path, key: str) -> Path:
    """The file of the update that a key names."""
    return folder / f"{key}.safetensors"


def shared_work(
    configs: Sequence[CellConfig], folder: Path | None = None, device: str = "cpu"
) -> list[tuple[int, int]]:
    """The distinct (index of a cell, client) trainings that the given cells need and `folder` does not hold yet."""
    from fedsec.plugins import registry

    seen: dict[str, tuple[int, int]] = {}
    for index, config in enumerate(configs):
        if not is_shared(config):
            continue
        clients = config.partition.clients
        count = config.attack.count(clients)
        poisons = count > 0 and issubclass(registry.load("attack", config.attack.name), DataPoisoning)
        streams, keys = Streams(config.seed), SharingKeys(config, device)
        threat = Threat.draw(None, count, clients, streams)
        sampling = config.federation.sampling or "fixed"
        for client in sample_clients(clients, config.cohort, 1, streams, sampling):
            poisoned = poisons and client in threat.byzantine
            seen.setdefault(keys(client, poisoned=poisoned), (index, client))
    return [work for key, work in seen.items() if folder is None or not row_path(folder, key).exists()]
