"""The rounds of split learning: clients with the first blocks of a network, a server with the others.

Vepakomma et al., Split learning for health, 2018, arXiv:1812.00564; Thapa et al., SplitFed, AAAI 2022,
arXiv:2004.12088.
"""

from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedsec.engine.trainer import CohortTrainer
from fedsec.errors import InputError
from fedsec.federation.algorithms.local_steps import plan_client
from fedsec.federation.rounds import EdgeCost, RoundResult
from fedsec.federation.split.loop import CutNetworkLoop
from fedsec.federation.split.network import CutNetwork
from fedsec.federation.split.split_learning import SplitLearning
from fedsec.models.blocks import check_cuts, joined
from fedsec.models.costs import module_costs
from fedsec.randomness import seeded
from fedsec.threat import Hijack

LABEL_BYTES = 4
"""What a label takes that is sent."""
_HIJACK = "hijack."


class SplitFederation(CutNetworkLoop):
    """Split learning's clients and its server; see `CutNetworkLoop` for what they are made of.

    Raises:
        InputError: too few blocks for the cuts, or as `CutNetworkLoop`.
    """

    def __init__(self, module: nn.Module, trainer: CohortTrainer, test: Any, *, algorithm: SplitLearning, **rest: Any):
        super().__init__(module, trainer, test, algorithm=algorithm, **rest)
        self.algorithm = algorithm
        cut, tail = algorithm.cut, algorithm.tail
        parts = check_cuts(self.module, cut, tail)
        bottom, server = joined(parts[:cut]), joined(parts[cut : len(parts) - tail])
        head = joined(parts[len(parts) - tail :]) if tail else None
        self.network = CutNetwork(self.module, [bottom], server, head, self.objective, self.defenses)
        for what, part in (("client's", bottom), ("server's", server)):
            if not self.network.trainable(part):
                raise InputError(f"the {what} part of the network has no trainable parameter; expected another cut")
        self.hijack: Hijack | None = None
        self.disguised = False
        self._bottom = module_costs(_AsModule(bottom), tuple(test.inputs.shape[1:]))
        own = [*self.network.trainable(bottom).values()]
        own += [] if head is None else [*self.network.trainable(head).values()]
        self._client_bytes = sum(tensor.numel() * tensor.element_size() for tensor in own)

    def take_over(self, hijack: Hijack, *, disguised: bool) -> None:
        """Put a malicious server in the place of the honest one, before the first round.

        Args:
            hijack: answers what clients send.
            disguised: whether its part of the network is trained on the task all the same.
        """
        self.hijack, self.disguised = hijack, disguised

    def state(self) -> dict[str, Tensor]:
        memory = {} if self.hijack is None else self.hijack.state()
        return {**super().state(), **{f"{_HIJACK}{name}": row for name, row in memory.items()}}

    def restore(self, state: Mapping[str, Tensor], round_number: int) -> None:
        super().restore(state, round_number)
        if self.hijack is not None:
            memory = {name: row for name, row in state.items() if name.startswith(_HIJACK)}
            self.hijack.restore({name.removeprefix(_HIJACK): row for name, row in memory.items()})

    def play(self) -> RoundResult:
        number = self.round + 1
        clients = self.sample(number)
        self.data.poison_only(self.threat.in_round(number))
        sizes = self.data.sizes(clients)
        shares = (sizes / sizes.sum()).tolist()
        start = self.parameters.clone()
        total, ended = torch.zeros_like(start), start
        steps, crossed = 0, 0.0
        for client, share in zip(clients, shares, strict=True):
            beginning = start if self.algorithm.turns == "parallel" else ended
            ended, taken, examples = self._turn(beginning, client, number)
            total.add_(ended - start, alpha=share)
            steps, crossed = steps + taken, crossed + examples
        parameters = start + total if self.algorithm.turns == "parallel" else ended
        return RoundResult(
            round=number,
            clients=tuple(clients),
            byzantine=tuple(client for client in clients if client in self.threat.in_round(number)),
            rejected=(),
            influence=tuple(shares),
            cost=self._cost(crossed / len(clients)),
            **self.settle(parameters, number),
        )

    @property
    def bottom(self) -> nn.Module:
        """The clients' part as a module, with the parameters that the network has now."""
        return _AsModule(self.network.bottoms[0])

    def examples_of(self, client: int) -> np.ndarray:
        return self.data.clients[client]

    def activations(self, examples: np.ndarray, client: int) -> Tensor:
        images, _ = self.data.batch(torch.from_numpy(examples).to(self.data.device))
        with torch.no_grad(), self.trainer.compute.arithmetic(self.data.device):
            rows = self.network.bottoms[0](images)
            return rows if self.network.head is None else self.network.server(rows)

    def own_part(self, examples: np.ndarray, client: int) -> tuple[nn.Module, Tensor]:
        images, _ = self.data.batch(torch.from_numpy(examples).to(self.data.device))
        bottom = self.network.bottoms[0]
        if self.network.head is None:
            return deepcopy(_AsModule(bottom)), images
        with torch.no_grad(), self.trainer.compute.arithmetic(self.data.device):
            return deepcopy(_AsModule(self.network.server)), bottom(images)

    def _turn(self, start: Tensor, client: int, number: int) -> tuple[Tensor, int, int]:
        """What a client's steps make of the network, how many they are, and of how many examples."""
        local = self.algorithm.local.in_round(number)
        plan = plan_client(self.data, client, local, number, self.streams)
        self.flat.write(start)
        optimizer, device = self.optimizer(local), self.data.device
        generator = self.streams.torch("defense", "client", client, "round", number, "cut")
        answer = None
        if self.hijack is not None:
            own = self.streams.torch("attack", "hijack", "client", client, "round", number)
            answer = partial(self.hijack.gradient, generator=own)
        draws = self.streams.torch("attack", "client", client, "round", number, "cut")
        idle = answer is not None and not self.disguised
        examples = self.data.put(plan.examples)
        views = None if plan.views is None else self.data.put(plan.views)
        assert plan.draws is not None
        self.module.train()
        try:
            with seeded(plan.draws, device), self.trainer.compute.arithmetic(device):
                for place, size in enumerate(plan.sizes.tolist()):
                    chosen = examples[place, :size]
                    seen = None if views is None else views[place, :size]
                    inputs, targets = self.data.batch(chosen, seen, local.augmentation)
                    attacks = self.attacks(client, number, plan.examples[place, :size], draws)
                    step = self.network.step([inputs], targets, generator, attacks=attacks, answer=answer, idle=idle)
                    self.show(client, number, plan.examples[place, :size], step)  # by the network that sent it
                    self.descend(step, optimizer)
        finally:
            self.module.eval()
        return self.flat.flat.clone(), plan.steps, int(plan.sizes.sum())

    def _cost(self, examples: float) -> EdgeCost:
        """Of a client and round, on average: activations up and gradients down, the bottom both ways.

        A head at the client takes activations down and sends their gradients up. In a relay the bottom comes from the
        client before and goes to the next one.
        """
        inputs = self.data.images[:1]
        one, _ = self.data.batch(torch.zeros(1, dtype=torch.int64, device=inputs.device))
        with torch.no_grad():
            sent = self.network.bottoms[0](one)
            forwarded = None if self.network.head is None else self.network.server(sent)
        cut = sent.numel() * sent.element_size()
        back = 0 if forwarded is None else forwarded.numel() * forwarded.element_size()
        labels = LABEL_BYTES if self.algorithm.labels == "shared" else 0
        return EdgeCost(
            upload_bytes=examples * (cut + back + labels) + self._client_bytes,
            download_bytes=examples * (cut + back) + self._client_bytes,
            flops=examples * self._bottom.training_flops,
        )


class _AsModule(nn.Module):
    """A part as a module."""

    def __init__(self, part: Any) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([block for block in part.blocks if isinstance(block, nn.Module)])

    def forward(self, inputs: Tensor) -> Tensor:
        for block in self.blocks:
            inputs = block(inputs)
        return inputs
