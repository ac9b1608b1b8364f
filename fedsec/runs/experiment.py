"""From a resolved cell configuration to a federation that is ready to run."""

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fedsec import registry
from fedsec.data import Dataset, load, normalization
from fedsec.data.partitions import Partition, class_counts
from fedsec.defense import Aggregator
from fedsec.errors import InputError
from fedsec.federation.algorithm import Algorithm
from fedsec.federation.batches import LocalTraining
from fedsec.federation.local import CohortTrainer
from fedsec.federation.parameters import ParameterLayout
from fedsec.federation.resident import ResidentData
from fedsec.federation.server import Federation, LocalUpdates, Threat, poison_data
from fedsec.models import build
from fedsec.scenario import AttackConfig, CellConfig, DatasetConfig, DefenseConfig
from fedsec.seeds import Streams
from fedsec.threat import DataPoisoning, UpdatePoisoning


@dataclass
class Experiment:
    """Everything one cell consists of, built from its configuration.

    Args:
        config: the resolved configuration.
        dataset: images and labels.
        threat: who is Byzantine, and what they do.
        trainer: trains cohorts on the resident (and possibly poisoned) data.
        federation: ready to run.
        counts: examples of each class at each client before poisoning, [clients][classes].
    """

    config: CellConfig
    dataset: Dataset
    threat: Threat
    trainer: CohortTrainer
    federation: Federation
    counts: list[list[int]]


def build_experiment(
    config: CellConfig, *, device: torch.device, threads: int, local_updates: LocalUpdates | None = None
) -> Experiment:
    """Build one cell.

    Args:
        config: the resolved configuration.
        device: where data and models live.
        threads: CPU threads for local training.
        local_updates: see `Federation`.

    Raises:
        InputError: anything about the configuration that only the data can tell (a partition that
            cannot be made, a model too large for the images, ...).
    """
    streams = Streams(config.seed)
    dataset = _dataset(config.dataset.model_dump_json(), config.seed)
    algorithm = make_algorithm(config)
    clients = _partition(config, dataset, streams, pooled=algorithm.pooled)
    counts = class_counts(clients, dataset.train.labels.numpy(), dataset.num_classes).tolist()
    constants = normalization(config.dataset.normalization)
    constants.check_channels(dataset.input_shape[0])
    data = ResidentData.build(dataset.train, clients, constants, device)
    threat = Threat.draw(_attack(config.attack), config.attack.count(len(clients)), len(clients), streams)
    poison_data(data, threat, dataset.num_classes, streams)
    module = _model(config, dataset, streams)
    trainer = CohortTrainer(
        module, data, engine=config.engine.name, threads=threads, memory_gib=config.engine.memory_gib
    )
    federation = Federation(
        module,
        trainer,
        dataset.test,
        algorithm=algorithm,
        aggregator=_aggregator(config.defense),
        streams=streams,
        rounds=config.federation.rounds,
        num_classes=dataset.num_classes,
        clients_per_round=None if algorithm.pooled else config.federation.clients_per_round,
        threat=threat,
        evaluate_every=config.federation.evaluate_every,
        local_updates=local_updates,
    )
    return Experiment(config, dataset, threat, trainer, federation, counts)


def make_algorithm(config: CellConfig) -> Algorithm:
    """The algorithm of a configuration."""
    settings = config.federation
    options: dict[str, Any] = {"weighting": settings.weighting, "server_lr": settings.server_lr}
    if settings.local is not None:
        options["local"] = LocalTraining(**settings.local.model_dump())
    made: Algorithm = registry.load("algorithm", settings.algorithm)(**options)
    return made


@lru_cache(maxsize=2)
def _dataset(config: str, seed: int) -> Dataset:
    """The dataset, kept between cells of one process; `seed` only matters where a subset is drawn."""
    settings = DatasetConfig.model_validate_json(config)
    dataset = _whole_dataset(settings.name, settings.root, settings.download)
    if settings.train_size is None and settings.test_size is None:
        return dataset
    return dataset.subset(settings.train_size, settings.test_size, Streams(seed).numpy("subset"))


@lru_cache(maxsize=1)
def _whole_dataset(name: str, root: Path | None, download: bool) -> Dataset:
    return load(name, root, download=download)


def _partition(config: CellConfig, dataset: Dataset, streams: Streams, *, pooled: bool) -> list[np.ndarray]:
    if pooled:
        return [np.arange(len(dataset.train.labels))]
    rule: Partition = registry.load("partition", config.partition.name)(**config.partition.options)
    return rule(
        dataset.train.labels.numpy(),
        config.partition.clients,
        num_classes=dataset.num_classes,
        rng=streams.numpy("partition"),
    )


def _model(config: CellConfig, dataset: Dataset, streams: Streams) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(streams.seed("init"))
        module = build(config.model.name, dataset.input_shape, dataset.num_classes, **config.model.options)
    ParameterLayout.of(module)
    return module


def _attack(config: AttackConfig) -> DataPoisoning | UpdatePoisoning | None:
    if config.name == "none":
        return None
    attack: DataPoisoning | UpdatePoisoning = registry.load("attack", config.name)(**config.options)
    return attack


def _aggregator(defense: tuple[DefenseConfig, ...]) -> Aggregator:
    made = [registry.load("defense", part.name)(**part.options) for part in defense]
    aggregators = [rule for rule in made if isinstance(rule, Aggregator)]
    if len(aggregators) != 1 or len(made) != 1:
        raise InputError(f"defense: exactly one aggregation rule is needed, got {[part.name for part in defense]}")
    return aggregators[0]


def finite(value: float) -> float | None:
    """A number that JSON can hold: NaN and infinities become None."""
    return value if math.isfinite(value) else None
