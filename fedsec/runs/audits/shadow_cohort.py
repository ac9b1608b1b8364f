"""Shadow models of a federation: like its models, but for the candidates that each was trained on."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from fedsec.engine.local_training import LocalTraining
from fedsec.engine.messages import Start
from fedsec.engine.trainer import CohortTrainer
from fedsec.federation.updates import Federation
from fedsec.membership.shadow_models import balanced_members, train_shadow_models
from fedsec.membership.signals import signals_of
from fedsec.scenario import CellConfig
from fedsec.seeds import Streams
from fedsec.threat import ShadowModels


class ShadowCohort:
    """Trains an audit's shadow models on the federation's own data, as one cohort.

    The auditor knows all that was trained on but which candidates were: a shadow model gets all other examples, and
    half of the candidates. Of the global model it is an imitation: as many rounds of as many steps from the same
    initial model, each on a batch as large as the batches of a round's clients together, which is what averaging their
    steps comes to while steps are small. Of one client's model it is the client's own training from what the server
    sent.

    Args:
        federation: that has not begun.
        config: of the cell.

    Attributes:
        examples: that each shadow model is trained on, on average; 0 before.
    """

    def __init__(self, federation: Federation, config: CellConfig) -> None:
        self.federation, self.config = federation, config
        self.initial = Start(federation.parameters.detach().clone(), federation.statistics.detach().clone())
        self.examples = 0

    def halves(self, models: int, candidates: int, streams: Streams) -> Bool[np.ndarray, "models examples"]:
        """Which candidates each model is trained on."""
        return balanced_members(models, candidates, streams.numpy("audit", "membership", "halves"))

    def train(
        self,
        candidates: np.ndarray,
        members: Bool[np.ndarray, "models examples"],
        streams: Streams,
        *,
        victim: int | None,
        start: Start | None,
        round_number: int = 1,
    ) -> Start:
        """The trained models, a row each.

        Args:
            candidates: numbers of the examples that are asked about.
            members: see `halves`.
            streams: of the experiment.
            victim: the client whose model is imitated; None for the global model.
            start: what that client started from.
            round_number: in which it did.
        """
        federation = self.federation
        shares = federation.data.clients if victim is None else [federation.data.clients[victim]]
        known = np.setdiff1d(np.concatenate(shares), candidates)
        self.examples = len(known) + int(members.sum()) // len(members)
        local = federation.algorithm.training
        if local is None:  # a full-batch gradient, and a step of the server's
            local = LocalTraining(epochs=1, batch_fraction=1.0, lr=federation.algorithm.server_lr)
            local = replace(local, schedule=federation.algorithm.server_schedule)
        rounds = 1
        if victim is None or start is None:
            local, start, rounds = self._of_all(local), self.initial, federation.round
        else:
            local = (federation.training_in(round_number) or local).in_round(round_number)
        return train_shadow_models(
            self._trainer(), start, candidates, members, local, rounds=rounds, known=known, streams=streams
        )

    def _of_all(self, local: LocalTraining) -> LocalTraining:
        """A round of the federation as the training of one model."""
        federation = self.federation
        size = max(1, round(float(federation.data.sizes(range(federation.num_clients)).mean())))
        batch = min(local.batch_of(size) * federation.clients_per_round, self.examples)
        return replace(local, steps=local.steps_of(size), epochs=None, batch_size=batch, batch_fraction=None)

    def _trainer(self) -> CohortTrainer:
        """One of its own: what a cell says of how clients were trained stays as it is."""
        own, engine = self.federation.trainer, self.config.engine
        return CohortTrainer(
            self.federation.module,
            self.federation.data,
            engine=engine.name,
            threads=own.threads,
            memory_gib=engine.memory_gib,
            cumulative=own.cumulative,
            compute=own.compute,
            task=own.task,
        )

    def signals(
        self,
        rows: Start,
        members: Bool[np.ndarray, "models examples"],
        chosen: Bool[Tensor, "models"],
        candidates: tuple[Tensor, Tensor],
        population: tuple[Tensor, Tensor] | None,
    ) -> ShadowModels:
        """What the models say of candidates, and of a population.

        Args:
            rows: the trained models.
            members: see `halves`.
            chosen: which models count.
            candidates: inputs and classes.
            population: likewise; None for none.
        """
        models = Start(rows.parameters[chosen], rows.statistics[chosen])
        trainer = self.federation.trainer
        return ShadowModels(
            signals_of(trainer, models, *candidates),
            torch.from_numpy(members)[chosen.cpu()],
            None if population is None else signals_of(trainer, models, *population),
        )
