"""From a resolved cell configuration to a federation that is ready to run."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fedsec.data import Dataset, Split, normalization
from fedsec.data.partitions import class_counts
from fedsec.defense import LocalDefense, ModelInspector
from fedsec.defense.knowledge import compose
from fedsec.defense.updates import UpdateTransform
from fedsec.engine.precision import Compute
from fedsec.engine.resident_data import ResidentData
from fedsec.engine.trainer import CohortTrainer
from fedsec.errors import InputError
from fedsec.federation.algorithms.update_algorithm import UpdateAlgorithm
from fedsec.federation.example_privacy import private_run
from fedsec.federation.knowledge.fedgkt import FedGKT
from fedsec.federation.knowledge.rounds import KnowledgeFederation
from fedsec.federation.rounds import RoundLoop
from fedsec.federation.row_exchange import RowExchange
from fedsec.federation.secure_aggregation import SecureAggregation
from fedsec.federation.server_data import ServerData
from fedsec.federation.threat import Attack, Threat, poison_data
from fedsec.federation.updates import Federation, LocalUpdates
from fedsec.models import build
from fedsec.models.split import feature_shape
from fedsec.plugins import registry
from fedsec.runs.audits.cell_audit import CellAudit
from fedsec.runs.partitioned import dataset_of, server_share_of, shares_of, strata_of
from fedsec.scenario import AttackConfig, CellConfig, ModelConfig
from fedsec.scenario.algorithm import make_algorithm
from fedsec.scenario.named_sections import NamedSection
from fedsec.scenario.server_rule import server_rule
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
    counts = class_counts(clients, shown.of, shown.count).tolist()
    constants = normalization(config.dataset.normalization)
    constants.check_shape(dataset.input_shape)
    data = ResidentData.build(dataset.train, clients, constants, device)
    if audit is not None:
        audit.enter(data)
    threat = drawn_threat(config, streams, _attack(config.attack, dataset))
    poison_data(data, threat, dataset.num_classes or None, streams)
    parts = _Parts(config, dataset, task, data, streams, threat, threads, audit=audit)
    taken = server_share_of(config, strata, len(dataset.train))
    if len(taken):
        own = Split(dataset.train.inputs[taken], dataset.train.targets[taken])
        parts.server = ResidentData.build(own, [np.arange(len(taken))], constants, device)
    algorithm = make_algorithm(config.federation)
    federation: RoundLoop
    if isinstance(algorithm, FedGKT):
        federation = parts.knowledge(algorithm)
    elif isinstance(algorithm, UpdateAlgorithm):
        federation = parts.updates(algorithm, local_updates, memory_gib, folder, exchange)
    else:
        raise InputError(
            f"federation.algorithm: {config.federation.algorithm} exchanges {algorithm.exchanges} in a way of its own "
            "that no federation plays; expected a subclass of UpdateAlgorithm or FedGKT"
        )
    return Experiment(config, dataset, threat, federation, counts, _names(dataset, strata), audit)


@dataclass
class _Parts:
    """What both kinds of federation are made of."""

    config: CellConfig
    dataset: Dataset
    task: Task
    data: ResidentData
    streams: Streams
    threat: Threat
    threads: int
    server: ResidentData | None = None
    audit: CellAudit | None = None

    def updates(
        self,
        algorithm: UpdateAlgorithm,
        local_updates: LocalUpdates | None,
        memory_gib: float | None,
        folder: Path | None,
        exchange: RowExchange | None,
    ) -> Federation:
        settings = self.config.federation
        module = self._model(self.config.model, self.dataset.input_shape, "init")
        bn = settings.bn or "average"
        defenses = [_build("defense", part) for part in self.config.defense]
        privacy = None
        server_data, sums = None, settings.secure_aggregation
        if self.server is not None:
            trainer = self._trainer(module, cumulative=bn == "reset", data=self.server)
            server_data = ServerData(trainer, algorithm, self.streams)
        for private in (defense for defense in defenses if isinstance(defense, LocalDefense)):
            sizes = self.data.sizes(range(len(self.data.clients)))
            algorithm, privacy = private_run(private, algorithm, sizes, settings.rounds)
        return Federation(
            module,
            self._trainer(module, cumulative=bn == "reset"),
            algorithm=algorithm,
            aggregator=server_rule(defenses),
            transforms=[defense for defense in defenses if isinstance(defense, UpdateTransform)],
            inspector=next((defense for defense in defenses if isinstance(defense, ModelInspector)), None),
            privacy=privacy,
            sampling=settings.sampling or "fixed",
            broken_condition=settings.broken_condition or "stop",
            local_updates=local_updates,
            bn=bn,
            server_data=server_data,
            secure_aggregation=None if sums is None else SecureAggregation(sums.clients),
            memory_gib=memory_gib,
            folder=folder,
            exchange=exchange,
            **self._common(),
        )

    def knowledge(self, algorithm: FedGKT) -> KnowledgeFederation:
        settings = self.config.federation
        assert settings.server is not None
        client = self._model(self.config.model, self.dataset.input_shape, "init")
        shape = feature_shape(client, self.dataset.image_shape)
        defenses = [_build("defense", part) for part in self.config.defense]
        return KnowledgeFederation(
            client,
            self._model(settings.server.model, shape, "server init"),
            self._trainer(client),
            algorithm=algorithm,
            defense=compose(defenses),
            **self._common(),
        )

    def _common(self) -> dict[str, Any]:
        settings = self.config.federation
        cohort = None if self.config.pooled else settings.clients_per_round
        return {
            "test": self.dataset.test,
            "streams": self.streams,
            "rounds": settings.rounds,
            "num_classes": self.dataset.num_classes or None,
            "clients_per_round": cohort if self.audit is None else self.audit.cohort(cohort),
            "threat": self.threat,
            "evaluate_every": settings.evaluate_every,
            "measures": {name: registry.load("metric", name)() for name in self.config.metrics},
        }

    def _trainer(
        self, module: nn.Module, *, cumulative: bool = False, data: ResidentData | None = None
    ) -> CohortTrainer:
        engine = self.config.engine
        return CohortTrainer(
            module,
            self.data if data is None else data,
            engine=engine.name,
            threads=self.threads,
            task=self.task,
            memory_gib=engine.memory_gib,
            cumulative=cumulative,
            compute=Compute(engine.precision, engine.memory_format, engine.cuda_graphs),
        )

    def _model(self, model: ModelConfig, input_shape: tuple[int, ...], stream: str) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            streams = self.streams if model.seed is None else Streams(model.seed)
            torch.manual_seed(streams.seed(stream))
            return build(model.name, input_shape, self.task.outputs or self.dataset.num_classes, **model.options)


def _names(dataset: Dataset, strata: Strata | None) -> tuple[str, ...]:
    """What strata are called in the picture of the partition."""
    if strata is None:
        return ("all examples",)
    return dataset.classes or tuple(f"quantile {number} of {strata.count}" for number in range(1, strata.count + 1))


def _attack(config: AttackConfig, dataset: Dataset) -> Attack | None:
    """What the Byzantine clients do; an inversion is the server's business."""
    if config.name == "none":
        return None
    attack: Attack = _build("attack", config)
    resolved: Attack = attack.resolve(dataset.class_number)
    return resolved


def _build(kind: str, part: NamedSection) -> Any:
    return registry.load(kind, part.name)(**part.options)


def finite(value: float) -> float | None:
    """A number that JSON can hold: NaN and infinities become None."""
    return value if math.isfinite(value) else None
