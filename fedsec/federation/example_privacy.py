"""What a federation's clients spend of their privacy, round by round, and who may still take part."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fedsec.defense import LocalDefense
from fedsec.engine.local_training import LocalTraining
from fedsec.errors import InputError
from fedsec.federation.algorithms.algorithm import Algorithm
from fedsec.federation.algorithms.local_steps import noise_of
from fedsec.federation.algorithms.update_algorithm import UpdateAlgorithm
from fedsec.privacy import Epsilon, Ledger, PrivateTraining, Spending
from fedsec.seeds import Streams
from fedsec.threat import Distortion

UNPAID = (
    "the privacy budget does not pay for a single round; expected a larger target_epsilon, more noise or fewer local "
    "steps"
)
"""What is to be said of a run that is over before its first round."""


class RunPrivacy:
    """A run's ledger and its budget.

    Each client that the server hears of is charged with all steps of its round, also where it was slow and did fewer:
    an upper bound. A client that is not heard of (a dropped straggler) sends nothing, and is charged nothing.

    Args:
        ledger: what was spent; empty at the beginning of a run.
        rounds: what taking part in one round costs each client.
        sizes: examples of each client.
        private: how they train.
        budget: an epsilon that no client may exceed; None for none.
        when_spent: what happens when a client's next round would exceed it: `client`, it takes no part any more; `run`,
            the run ends.

    Raises:
        InputError: costs of another number of clients.
    """

    def __init__(
        self,
        ledger: Ledger,
        rounds: Sequence[Spending],
        sizes: Sequence[int],
        private: PrivateTraining,
        *,
        budget: float | None = None,
        when_spent: Literal["client", "run"] = "client",
    ) -> None:
        if len(rounds) != len(ledger.spent) or len(sizes) != len(rounds):
            raise InputError(f"a ledger of {len(ledger.spent)} clients, and the costs of {len(rounds)}")
        self.ledger, self.rounds, self.sizes, self.private = ledger, tuple(rounds), tuple(sizes), private
        self.budget, self.when_spent = budget, when_spent
        self._keys: set[int] = set()

    def check(self, algorithm: UpdateAlgorithm, num_clients: int) -> None:
        """Refuse an algorithm that this account is not of.

        Raises:
            InputError: its clients train otherwise, or they are another number.
        """
        if algorithm.private != self.private:
            raise InputError(
                "this account is of other private training than the algorithm's; expected both from `private_run`"
            )
        if len(self.rounds) != num_clients:
            raise InputError(f"this account is of {len(self.rounds)} clients, and the federation has {num_clients}")

    def affords(self, client: int) -> bool:
        """Whether a client's next round stays within the budget."""
        cost = self.rounds[client]
        return self.ledger.affords(client, cost.sample_rate, cost.noise_multiplier, cost.steps, self.budget)

    def admitted(self, clients: Sequence[int]) -> list[int]:
        """Those clients of a round who can afford it."""
        return [client for client in clients if self.affords(client)]

    def ends(self, clients: Sequence[int]) -> bool:
        """Whether the run is over before a round of these clients."""
        if self.budget is None:
            return False
        if self.when_spent == "run":
            return not all(self.affords(client) for client in clients)
        return not any(self.affords(client) for client in range(len(self.rounds)))

    def spend(self, clients: Sequence[int], round_number: int, streams: Streams) -> None:
        """Charge a round's clients.

        Raises:
            InputError: noise that this run has drawn before, as when a round is played twice.
        """
        for client in clients:
            key = noise_of(self.private, client, round_number, streams).key
            if key in self._keys:
                raise InputError(f"DP-SGD: client {client} drew the noise of round {round_number} before")
            self._keys.add(key)
            cost = self.rounds[client]
            self.ledger.spend(client, cost.sample_rate, cost.noise_multiplier, cost.steps)

    def known(self, names: Iterable[str], client: int, local: LocalTraining | None) -> Distortion:
        """What a server that knows the settings can tell of a client's update: how much noise is in it.

        The noise of n steps adds up to lr sigma C / B sqrt(sum_t m_t^2), m_t = (1 - momentum^t) / (1 - momentum) being
        how far step t's gradient moves the parameters in the steps that are left. Exact for SGD on a linear model of
        the loss; the curvature that noise meets later is left out. Examples' gradients were clipped, so lengths say
        nothing.

        Args:
            names: of the parameters.
            client: whose update it is.
            local: its training; None for one full-batch gradient.
        """
        cost = self.rounds[client]
        std = cost.noise_multiplier * self.private.max_grad_norm / self.sizes[client] / cost.sample_rate
        if local is not None:
            lengths = [1 - local.momentum**left for left in range(1, cost.steps + 1)]
            std *= local.lr * math.sqrt(sum(length**2 for length in lengths)) / (1 - local.momentum)
        return Distortion(noise=dict.fromkeys(names, std), rescaled=True)

    def epsilon(self) -> Epsilon:
        """The largest epsilon of all clients."""
        return self.ledger.maximum()

    def state(self) -> dict[str, Tensor]:
        """The ledger, and which noise was drawn."""
        drawn = b"".join(key.to_bytes(16, "little") for key in sorted(self._keys))
        keys = np.frombuffer(drawn, dtype="<i8").astype(np.int64).reshape(-1, 2)
        return {**self.ledger.state(), "spent_keys": torch.from_numpy(keys)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over exactly what `state` gave.

        Raises:
            InputError: it is no such state.
        """
        keys = state.get("spent_keys")
        if keys is None or keys.dtype != torch.int64 or keys.ndim != 2 or keys.shape[1] != 2:
            raise InputError(f"a kept run of DP-SGD has spent_keys, pairs of int64 numbers; got {sorted(state)}")
        self.ledger.restore(state)
        rows = keys.cpu().numpy().astype("<i8")
        self._keys = {int.from_bytes(row.tobytes(), "little") for row in rows}


def private_run(
    defense: LocalDefense, algorithm: Algorithm, sizes: Sequence[int] | np.ndarray, rounds: int
) -> tuple[UpdateAlgorithm, RunPrivacy]:
    """An algorithm whose clients train as a defense has it, and the account of it.

    Noise is calibrated for taking part in every round, once for all clients of equal sizes.

    Args:
        defense: of the clients.
        algorithm: one for which DP-SGD's account holds, not private yet.
        sizes: examples of every client of the federation.
        rounds: of the run.

    Raises:
        InputError: another algorithm, one that is private already, or a target that no noise reaches.
    """
    if not isinstance(algorithm, UpdateAlgorithm):
        name = type(algorithm).__name__
        raise InputError(f"{type(defense).__name__} goes with algorithms that send updates, and not with {name}")
    if algorithm.private_problem:
        raise InputError(f"DP-SGD with {type(algorithm).__name__}: {algorithm.private_problem}")
    if algorithm.private is not None:
        raise InputError("the algorithm is private already; expected one without")
    counts = [int(size) for size in sizes]
    trainings: dict[int, tuple[PrivateTraining, Spending]] = {}
    for count in dict.fromkeys(counts):
        batch, steps = algorithm.batch_and_steps(count)
        training = defense.private(count, batch, steps * rounds, largest=max(counts))
        trainings[count] = training, Spending(training.noise_of(0), batch / count, steps)
    noises = tuple(trainings[count][0].noise_of(0) for count in counts)
    private = replace(trainings[counts[0]][0], noise_multiplier=noises if len(set(noises)) > 1 else noises[0])
    costs = [trainings[count][1] for count in counts]
    ledger = defense.ledger(len(counts), max(counts))
    account = RunPrivacy(ledger, costs, counts, private, budget=defense.budget, when_spent=defense.when_spent)
    return algorithm.privately(private), account
