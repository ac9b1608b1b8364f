"""The rounds of a vertical federation: parties with columns, and one with labels.

Ceballos et al., SplitNN-driven vertical partitioning, 2020, arXiv:2008.04137.
"""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedsec.data.dataset import Split
from fedsec.engine.batches import plan_batches
from fedsec.engine.trainer import CohortTrainer
from fedsec.errors import InputError
from fedsec.federation.rounds import EdgeCost, RoundResult
from fedsec.federation.split.columns import ColumnNetwork
from fedsec.federation.split.loop import CutNetworkLoop
from fedsec.federation.split.network import CutNetwork
from fedsec.federation.split.vertical import Vertical
from fedsec.models.blocks import Part
from fedsec.models.costs import module_costs
from fedsec.randomness import seeded
from fedsec.threat import ActivationPoisoning


class VerticalFederation(CutNetworkLoop):
    """Parties and whoever has the labels; see `CutNetworkLoop` for what they are made of.

    Args:
        module: the joint network.
        trainer: of it; the clients of its data are the parties, and the examples of all of them are everybody's.
        test: the test set.
        algorithm: the settings.
        rest: see `CutNetworkLoop`.

    Raises:
        InputError: not all parties in a round, or as `CutNetworkLoop`.
    """

    def __init__(
        self, module: ColumnNetwork, trainer: CohortTrainer, test: Split, *, algorithm: Vertical, **rest: Any
    ) -> None:
        self.examples = np.sort(np.concatenate(trainer.data.clients))
        if (threat := rest.get("threat")) is not None and isinstance(threat.attack, ActivationPoisoning):
            party = min(threat.byzantine, default=0)  # of several: refused below
            rest["threat"] = replace(threat, attack=threat.attack.placed(module.bounds[party]))
        super().__init__(module, trainer, test, algorithm=algorithm, **rest)
        if self.clients_per_round < self.num_clients:
            raise InputError(
                f"clients_per_round: every party has columns that no other has, and all of {self.num_clients} take "
                f"part in each step; expected no such key, got {self.clients_per_round}"
            )
        self.algorithm, self.joint = algorithm, module
        bottoms = [
            Part((bottom,), tuple(f"bottoms.{place}.{name}" for name, _ in bottom.named_parameters()))
            for place, bottom in enumerate(module.bottoms)
        ]
        top = Part((module.top,), tuple(f"top.{name}" for name, _ in module.top.named_parameters()))
        self.network = CutNetwork(module, bottoms, top, None, self.objective, self.defenses)
        shape = tuple(test.inputs.shape[1:-1])
        costs = [
            module_costs(bottom, (*shape, end - begin))
            for bottom, (begin, end) in zip(module.bottoms, module.bounds, strict=True)
        ]
        self._flops = sum(one.training_flops for one in costs) / len(costs)

    def play(self) -> RoundResult:
        number, parties = self.round + 1, list(range(self.num_clients))
        local, device = self.algorithm.local.in_round(number), self.data.device
        plan = plan_batches(self.examples, local, self.streams.numpy("vertical", "round", number))
        generator = self.streams.torch("defense", "round", number, "cut")
        draws = {party: self.streams.torch("attack", "client", party, "round", number, "cut") for party in parties}
        self.flat.write(self.parameters)
        optimizer = self.optimizer(local)
        examples = self.data.put(plan.examples)
        self.module.train()
        try:
            with (
                seeded(self.streams.key("vertical", "round", number, "model"), device),
                self.trainer.compute.arithmetic(device),
            ):
                for place, size in enumerate(plan.sizes.tolist()):
                    inputs, targets = self.data.batch(examples[place, :size])
                    attacks = {
                        party: own[0]
                        for party in parties
                        if (own := self.attacks(party, number, plan.examples[place, :size], draws[party]))
                    }
                    step = self.network.step(self.joint.columns(inputs), targets, generator, attacks=attacks)
                    for party in parties:
                        self.show(party, number, plan.examples[place, :size], step, party)
                    self.descend(step, optimizer)
        finally:
            self.module.eval()
        crossed = float(plan.sizes.sum()) * self.joint.width * self.parameters.element_size()
        return RoundResult(
            round=number,
            clients=tuple(parties),
            byzantine=tuple(sorted(self.threat.in_round(number))),
            rejected=(),
            influence=(1 / len(parties),) * len(parties),
            cost=EdgeCost(crossed, crossed, float(plan.sizes.sum()) * self._flops),
            **self.settle(self.flat.flat.clone(), number),
        )

    def examples_of(self, client: int) -> np.ndarray:
        return self.examples

    def activations(self, examples: np.ndarray, client: int) -> Tensor:
        inputs, _ = self.data.batch(torch.from_numpy(examples).to(self.data.device))
        with torch.no_grad(), self.trainer.compute.arithmetic(self.data.device):
            rows: Tensor = self.joint.bottoms[client](self.joint.columns(inputs)[client])
            return rows

    def own_part(self, examples: np.ndarray, client: int) -> tuple[nn.Module, Tensor]:
        inputs, _ = self.data.batch(torch.from_numpy(examples).to(self.data.device))
        return deepcopy(self.joint.bottoms[client]), self.joint.columns(inputs)[client].contiguous()
