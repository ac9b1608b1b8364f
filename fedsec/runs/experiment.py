"""From a resolved cell configuration to a federation that is ready to run."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fedsec.data import Dataset, Split, normalization
from fedsec.data.partitions import class_counts
from fedsec.engine.resident_data import ResidentData
from fedsec.federation.rounds import RoundLoop
from fedsec.federation.row_exchange import RowExchange
from fedsec.federation.threat import Attack, Threat, poison_data
from fedsec.federation.updates import LocalUpdates
from fedsec.plugins import registry
from fedsec.runs.audits.cell_audit import CellAudit
from fedsec.runs.building import Parts, Placement, build_federation, build_part
from fedsec.runs.partitioned import dataset_of, held_out_of, server_share_of, shares_of, strata_of
from fedsec.scenario import AttackConfig, CellConfig
from fedsec.scenario.algorithm import make_algorithm
from fedsec.scenario.threat import drawn_threat
from fedsec.seeds import Streams
from fedsec.tasks import Strata, Task


@dataclass
class Experiment:
    """Everything one cell consists of, built from its configuration.

    Args:
        config: the resolved configuration.
        dataset: inputs and targets.
        threat: who is Byzantine, and what they do.
        federation: ready to run.
        counts: examples of each stratum (each class, where there are classes) at each client before poisoning,
            [clients][strata].
        strata: what the strata are called.
        audit: what watches the federation; None for nothing.
    """

    config: CellConfig
    dataset: Dataset
    threat: Threat
    federation: RoundLoop
    counts: list[list[int]]
    strata: tuple[str, ...]
    audit: CellAudit | None = None


def build_experiment(
    config: CellConfig,
    *,
    device: torch.device,
    threads: int,
    local_updates: LocalUpdates | None = None,
    memory_gib: float | None = None,
    folder: Path | None = None,
    exchange: RowExchange | None = None,
) -> Experiment:
    """Build one cell.

    Args:
        config: the resolved configuration.
        device: where data and models live.
        threads: CPU threads for local training.
        local_updates: see `Federation`.
        memory_gib: likewise.
        folder: likewise.
        exchange: likewise.

    Raises:
        InputError: anything about the configuration that only the data can tell (a partition that
            cannot be made, a model too large for the images, ...).
    """
    streams = Streams(config.seed)
    dataset = dataset_of(config)
    task: Task = registry.load("task", dataset.task).of_data(dataset.num_classes)
    task.check_targets(dataset.train.targets)
    strata = strata_of(config, dataset, task)
    clients, audit = shares_of(config, strata, len(dataset.train)), CellAudit.of(config)
    if audit is not None:
        clients = audit.shares(clients, dataset)
    shown = strata or Strata(np.zeros(len(dataset.train), np.int64), 1)
    held = [np.concatenate(clients)] * len(clients) if config.federation.traits.get("cuts_columns") else clients
    counts = class_counts(held, shown.of, shown.count).tolist()
    constants = normalization(config.dataset.normalization)
    constants.check_shape(dataset.input_shape)
    data = ResidentData.build(dataset.train, clients, constants, device)
    if audit is not None:
        audit.enter(data)
    threat = drawn_threat(config, streams, _attack(config.attack, dataset))
    poison_data(data, threat, dataset.num_classes or None, streams)
    tests = held_out_of(config, strata, len(dataset.train))
    parts = Parts(config, dataset, task, data, streams, threat, threads, audit=audit, client_tests=tests)
    taken = server_share_of(config, strata, len(dataset.train))
    if len(taken):
        own = Split(dataset.train.inputs[taken], dataset.train.targets[taken])
        parts.server = ResidentData.build(own, [np.arange(len(taken))], constants, device)
    placement = Placement(local_updates, memory_gib, folder, exchange)
    federation = build_federation(parts, make_algorithm(config.federation), placement)
    return Experiment(config, dataset, threat, federation, counts, _names(config, dataset, strata), audit)


def _names(config: CellConfig, dataset: Dataset, strata: Strata | None) -> tuple[str, ...]:
    """What strata are called in the picture of the partition."""
    if strata is None:
        return ("all examples",)
    if not config.pooled and registry.entry("partition", config.partition.name).traits["needs_groups"]:
        return dataset.groups
    return dataset.classes or tuple(f"quantile {number} of {strata.count}" for number in range(1, strata.count + 1))


def _attack(config: AttackConfig, dataset: Dataset) -> Attack | None:
    """What the Byzantine clients do; an inversion is the server's business."""
    if config.name == "none":
        return None
    attack: Attack = build_part("attack", config)
    resolved: Attack = attack.resolve(dataset.class_number)
    return resolved


def finite(value: float) -> float | None:
    """A number that JSON can hold: NaN and infinities become None."""
    return value if math.isfinite(value) else None
