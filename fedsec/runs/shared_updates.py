"""Local training that several one-round cells have in common, done once and kept in files.

Each (client, poisoning) pair is trained alone, so that a row's bits do not depend on which other clients happened to
be trained beside it; the cells pick their rows.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedsec.engine.messages import LocalResult, Start
from fedsec.federation.rounds import Threat
from fedsec.runs.tensor_files import DamagedFileError, load_tensors, save_tensors
from fedsec.scenario import CellConfig
from fedsec.scenario.shared_training import SharingKeys, row_path
from fedsec.threat import DataPoisoning


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
        with suppress(FileNotFoundError, DamagedFileError, KeyError):
            tensors, _ = load_tensors(path)
            kept = LocalResult(
                tensors["update"].to(device)[None], tensors["statistics"].to(device)[None], tensors["examples"].numpy()
            )
            if kept.updates.shape[1:] == start.parameters.shape[-1:] and len(kept.examples) == 1:
                return kept
        trained: LocalResult = self.train(start, [client], round_number)
        tensors = {"update": trained.updates[0], "statistics": trained.statistics[0]}
        save_tensors(path, {**tensors, "examples": torch.from_numpy(trained.examples)})
        return trained

    def path(self, client: int) -> Path:
        """The file of one client's update."""
        poisoned = client in self.threat.byzantine and isinstance(self.threat.attack, DataPoisoning)
        return row_path(self.folder, self.keys(client, poisoned=poisoned))
