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
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from fedsec.engine.messages import LocalResult, Start
from fedsec.federation.rounds import Threat
from fedsec.files import write_atomic
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
