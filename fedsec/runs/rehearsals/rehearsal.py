"""Cells that are looked at or audited, begun once each before the run: what their beginning refuses is said at once."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from fedsec.errors import PartitionError
from fedsec.federation.example_privacy import UNPAID
from fedsec.plugins.wording import Problem
from fedsec.runs.curious_server import CuriousServer
from fedsec.runs.experiment import build_experiment
from fedsec.runs.partitioned import client_sizes
from fedsec.runs.rehearsals.choice import Reason
from fedsec.scenario import CellConfig
from fedsec.scenario.algorithm import make_algorithm
from fedsec.scenario.checks import FAILURES
from fedsec.scenario.config import FederationConfig, unlabeled
from fedsec.scenario.matrix import SECTIONS

__all__ = ["Rehearsals"]

_DIVIDED = ("dataset", "partition", "federation")
_ASKED = {"divided": _DIVIDED, "normalized": (*_DIVIDED, "model")}
"""Reason -> the sections that the answer depends on; all, where it is none of these."""


class Rehearsals:
    """Begins each distinct cell of a scenario once, but for its seed: a hundred of these are one mistake."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def problems(self, config: CellConfig, reason: Reason, num_train: int) -> Iterator[Problem]:
        """What a cell's beginning refuses, if no equal cell was begun.

        Args:
            config: the cell's; it has passed all other checks, and its dataset is here.
            reason: why it is begun, one of `reasons(config)`.
            num_train: training examples of the whole dataset.
        """
        content = unlabeled(config.model_dump(mode="json"))
        sections = [name for name in _ASKED.get(reason, content) if name != "seed"]
        key = json.dumps([reason, {name: content[name] for name in sections}], sort_keys=True)
        if key in self._seen:
            return
        self._seen.add(key)
        try:
            if reason == "watched" or (reason == "normalized" and _smallest_batch(config, num_train) == 1):
                _begin(config)
            elif reason == "divided":
                client_sizes(config, num_train, here=True)
        except PartitionError as error:
            yield ("partition",), str(error)
        except FAILURES as error:
            yield _placed(" ".join(str(error).split()))
        except Exception as error:  # of a method from elsewhere: as the cell's own failure, it is said and no crash
            yield (), f"{type(error).__name__}: {' '.join(str(error).split())}"


def _smallest_batch(config: CellConfig, num_train: int) -> int:
    """Of all clients' batches, where these are not drawn at random."""
    sizes = client_sizes(config, num_train, here=True) or (0,)
    local = getattr(make_algorithm(config.federation), "training", None)
    return min(sizes) if local is None else min(map(local.smallest_batch, sizes))


def _begin(config: CellConfig) -> None:
    """Do what a cell does before its first round, and forget it.

    Raises:
        InputError: as it would.
    """
    experiment = build_experiment(config, device=torch.device("cpu"), threads=1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            if config.inversion is not None:
                CuriousServer(config, experiment.dataset, experiment.federation, Path(folder))
            if experiment.audit is not None:
                experiment.audit.rehearse(experiment, Path(folder))
        if experiment.federation.over:
            raise ValueError(f"defense: {UNPAID}")
    finally:
        experiment.federation.close()


def _placed(message: str) -> Problem:
    """A message with the key path that it begins with, if it does."""
    begin, colon, rest = message.partition(": ")
    section, *keys = begin.split(".")
    if not colon or section not in SECTIONS:
        # A key of a section, such as server_data, is said without it.
        return (("federation", section), rest) if colon and section in FederationConfig.model_fields else ((), message)
    return (section, *keys), rest
