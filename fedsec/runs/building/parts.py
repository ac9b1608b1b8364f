"""What every kind of federation is made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fedsec.data import Dataset
from fedsec.engine.precision import Compute
from fedsec.engine.resident_data import ResidentData
from fedsec.engine.trainer import CohortTrainer
from fedsec.federation.row_exchange import RowExchange
from fedsec.federation.threat import Threat
from fedsec.federation.updates import LocalUpdates
from fedsec.models import build
from fedsec.plugins import registry
from fedsec.runs.audits.cell_audit import CellAudit
from fedsec.scenario import CellConfig, ModelConfig
from fedsec.scenario.named_sections import NamedSection
from fedsec.seeds import Streams
from fedsec.tasks import Task


@dataclass(frozen=True)
class Placement:
    """Where the rows of rounds come from and lie; see `fedsec.federation.updates.Federation`.

    Args:
        local_updates: replaces the algorithm's local training.
        memory_gib: what a matrix of a round's rows may take.
        folder: for rows that do not fit.
        exchange: where rows are, if not in this process.
    """

    local_updates: LocalUpdates | None = None
    memory_gib: float | None = None
    folder: Path | None = None
    exchange: RowExchange | None = None


@dataclass
class Parts:
    """What federations are made of, whatever they exchange.

    Args:
        config: the resolved configuration.
        dataset: inputs and targets.
        task: what is learned.
        data: the clients', on the device.
        streams: the experiment's random streams.
        threat: who is Byzantine, and what they do.
        threads: CPU threads for local training.
        server: the server's own data; None for none.
        audit: what watches the federation; None for nothing.
        client_tests: the numbers of the training examples that each client is tested on; none where nobody is.
    """

    config: CellConfig
    dataset: Dataset
    task: Task
    data: ResidentData
    streams: Streams
    threat: Threat
    threads: int
    server: ResidentData | None = None
    audit: CellAudit | None = None
    client_tests: Sequence[np.ndarray] = ()

    def common(self) -> dict[str, Any]:
        """What every kind of federation is told."""
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

    def trainer(
        self, module: nn.Module, *, cumulative: bool = False, data: ResidentData | None = None
    ) -> CohortTrainer:
        """What trains cohorts of a network, by default on the clients' data."""
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

    def model(self, model: ModelConfig, input_shape: tuple[int, ...], stream: str) -> nn.Module:
        """A network with its initial weights."""
        with torch.random.fork_rng(devices=[]):
            streams = self.streams if model.seed is None else Streams(model.seed)
            torch.manual_seed(streams.seed(stream))
            return build(model.name, input_shape, self.task.outputs or self.dataset.num_classes, **model.options)


def build_part(kind: str, part: NamedSection) -> Any:
    """The attack, the defense or whatever else a section names, with its options."""
    return registry.load(kind, part.name)(**part.options)
