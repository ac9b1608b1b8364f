"""How good the model that counts for each client is on examples of that client's own distribution."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fedsec.data.dataset import Split
from fedsec.errors import InputError
from fedsec.federation.personal.fine_tuning import FineTuning
from fedsec.metrics.evaluation import outputs_of

if TYPE_CHECKING:
    from fedsec.federation.global_model import GlobalModelLoop


class ClientTests:
    """Every client's own test examples, on the trainer's device.

    Args:
        inputs: of all test examples, as the training examples are stored.
        targets: a row for each.
        shares: of each client of the federation the numbers of its examples among them; none for a client that is not
            tested.
        tuning: what each client does with the final model before it is tested; None: nothing, and clients are tested
            whenever the global model is.

    Raises:
        InputError: nobody has any examples.
    """

    def __init__(
        self, inputs: Tensor, targets: Tensor, shares: Sequence[np.ndarray], tuning: FineTuning | None = None
    ) -> None:
        if not any(map(len, shares)):
            raise InputError("client_test: no client has an example to be tested on")
        self.inputs, self.targets, self.tuning = inputs, targets, tuning
        self.shares = [torch.from_numpy(np.asarray(share, np.int64)).to(inputs.device) for share in shares]

    @classmethod
    def of(
        cls, train: Split, shares: Sequence[np.ndarray], device: torch.device, tuning: FineTuning | None = None
    ) -> "ClientTests":
        """Tests on examples that were held out of the training set.

        Args:
            train: the whole training set.
            shares: of each client the numbers of what was held out of its share.
            device: of the trainer.
            tuning: see the class.
        """
        everything = np.concatenate([*shares, np.zeros(0, np.int64)])
        ends = np.cumsum([0, *map(len, shares)])
        own = [np.arange(begin, end) for begin, end in pairwise(ends)]
        return cls(train.inputs[everything].to(device), train.targets[everything].to(device), own, tuning)

    def due(self, round_number: int, rounds: int) -> bool:
        """Whether clients are tested when the global model is evaluated: with fine-tuning only at the end."""
        return self.tuning is None or round_number == rounds

    def values(self, loop: "GlobalModelLoop") -> dict[int, float]:
        """The primary metric of each client on its own examples.

        Args:
            loop: whose models count: each client's own, where it has one, else the global one.

        Returns:
            Client -> value; of attackers there is none: how well they are served is nobody's loss.
        """
        attackers = loop.threat.fixed | loop.threat.in_round(loop.round)
        tested = [client for client, share in enumerate(self.shares) if len(share) and client not in attackers]
        values = {}
        if self.tuning is not None:
            for client, parameters, statistics in self.tuning.models(loop, tested):
                loop.load(statistics, parameters)
                values[client] = self._value(loop, self._outputs(loop, self.shares[client]), client)
        elif loop.own_models:
            for client in tested:
                loop.load(*loop.left_with([client]).of(0)[::-1])
                values[client] = self._value(loop, self._outputs(loop, self.shares[client]), client)
        elif tested:
            loop.load(loop.statistics)
            outputs = self._outputs(loop, torch.arange(len(self.inputs), device=self.inputs.device))
            values = {client: self._value(loop, outputs[self.shares[client]], client) for client in tested}
        loop.load(loop.statistics)
        return values

    def _outputs(self, loop: "GlobalModelLoop", examples: Tensor) -> Tensor:
        trainer = loop.trainer
        return outputs_of(loop.module, self.inputs[examples], trainer.data.normalization, compute=trainer.compute)

    def _value(self, loop: "GlobalModelLoop", outputs: Tensor, client: int) -> float:
        task = loop.trainer.task
        return task.measure(outputs, self.targets[self.shares[client]])[task.metrics[0]]
