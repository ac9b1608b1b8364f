"""Local training that several one-round cells have in common, done once and kept in files.

Each (client, poisoning) pair is trained alone, so that a row's bits do not depend on which other clients happened to
be trained beside it; the cells pick their rows.
"""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedsec.engine.messages import LocalResult, Start
from fedsec.federation.threat import Threat
from fedsec.files import set_aside
from fedsec.runs.provenance import differences, of_training
from fedsec.runs.tensor_files import DamagedFileError, load_tensors, read_notes, save_tensors
from fedsec.scenario import CellConfig
from fedsec.scenario.shared_training import SharedTraining, SharingKeys, part_of
from fedsec.threat import DataPoisoning


class SharedUpdates:
    """Stands in for an algorithm's local training: reads rows from files, trains and writes the missing ones.

    Args:
        folder: where the rows are kept.
        config: the cell.
        device: where it trains.
        made_with: what the cell's numbers depend on beside the configuration, see `fedsec.runs.provenance`.
        keep: take rows that were trained with something else.

    Attributes:
        kept_from: what rows were trained with that were kept, as far as it is something else.
    """

    def __init__(
        self, folder: Path, config: CellConfig, device: str, made_with: Mapping[str, str], *, keep: bool = False
    ) -> None:
        self.folder, self.keys, self.keep = folder, SharingKeys(config, device), keep
        self.made_with = {poisoned: of_training(config, made_with, poisoned=poisoned) for poisoned in (False, True)}
        self.kept_from: dict[str, str] = {}
        self.train: Any = None
        self.threat = Threat()

    def attach(self, train: Any, threat: Threat) -> None:
        """Give it the function (start, clients, round) -> rows that trains, and the cell's threat."""
        self.train, self.threat = train, threat

    def __call__(self, start: Start, clients: Sequence[int], round_number: int) -> LocalResult:
        """What training left of the given clients."""
        shape = len(clients), start.parameters.shape[-1]
        updates = start.parameters.new_empty(shape)
        statistics = start.statistics.new_empty(len(clients), start.statistics.shape[-1])
        examples = np.empty(len(clients), dtype=np.int64)
        for place, client in enumerate(clients):  # one matrix, filled row by row: two would be twice the memory
            row = self.row(start, client, round_number)
            updates[place], statistics[place], examples[place] = row.updates[0], row.statistics[0], row.examples[0]
        return LocalResult(updates, statistics, examples)

    def row(self, start: Start, client: int, round_number: int) -> LocalResult:
        """What one client's training left, from its file if there is a sound one."""
        path, device = self.path(client), start.parameters.device
        with suppress(FileNotFoundError, DamagedFileError, KeyError):
            tensors, notes = load_tensors(path)
            trained_with = json.loads(notes["made_with"])
            stored = LocalResult(
                tensors["update"].to(device)[None], tensors["statistics"].to(device)[None], tensors["examples"].numpy()
            )
            other = differences(trained_with, self.made_with[self.poisoned(client)])
            if (
                (self.keep or not other)
                and stored.updates.shape[1:] == start.parameters.shape[-1:]
                and len(stored.examples) == 1
            ):
                self.kept_from |= {name: trained_with.get(name, "nothing of that name") for name in other}
                return stored
        if os.path.lexists(path) and not path.is_file():
            set_aside(path)
        trained: LocalResult = self.train(start, [client], round_number)
        tensors = {"update": trained.updates[0], "statistics": trained.statistics[0]}
        notes = {"made_with": json.dumps(self.made_with[self.poisoned(client)])}
        save_tensors(path, {**tensors, "examples": torch.from_numpy(trained.examples)}, notes)
        return trained

    def path(self, client: int) -> Path:
        """The file of one client's update."""
        poisoned = self.poisoned(client)
        part = part_of(client, type(self.threat.attack), self.threat) if poisoned else ()
        return row_path(self.folder, self.keys(client, poisoned=poisoned, part=part))

    def poisoned(self, client: int) -> bool:
        """Whether a client trains on data that an attack corrupted."""
        return client in self.threat.in_round(1) and isinstance(self.threat.attack, DataPoisoning)


def row_path(folder: Path, key: str) -> Path:
    """The file of the update that a key names."""
    return folder / f"{key}.safetensors"


def is_kept(
    folder: Path, training: SharedTraining, config: CellConfig, made_with: Mapping[str, str], *, keep: bool = False
) -> bool:
    """Whether a folder holds the row of a training, made with what a cell would make it with now.

    Args:
        folder: where rows are kept.
        training: of the cell.
        config: the cell.
        made_with: what its numbers depend on beside the configuration.
        keep: rows that were made with something else do as well.
    """
    try:
        trained_with = json.loads(read_notes(row_path(folder, training.key))["made_with"])
    except (FileNotFoundError, DamagedFileError, KeyError, ValueError):
        return False
    return keep or not differences(trained_with, of_training(config, made_with, poisoned=training.poisoned))
