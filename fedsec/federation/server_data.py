"""Data of the server's own: each round it does on them what a client would do, for rules that trust the result."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from torch import Tensor

from fedsec.engine.messages import Start
from fedsec.engine.trainer import CohortTrainer
from fedsec.errors import InputError
from fedsec.federation.algorithms.local_steps import StragglingAlgorithm
from fedsec.federation.algorithms.update_algorithm import Participants, State, UpdateAlgorithm
from fedsec.seeds import Key, Streams


class ServerData:
    """The server as a client of its own that everybody can trust, and nobody can poison.

    It is never slow, and never trains privately: its data must be public, or held with consent.

    Args:
        trainer: on resident data whose only client is the server.
        algorithm: of the federation, before any client trains privately.
        streams: the experiment's; what the server draws is its own.
    """

    def __init__(self, trainer: CohortTrainer, algorithm: UpdateAlgorithm, streams: Streams) -> None:
        if isinstance(algorithm, StragglingAlgorithm):
            algorithm = replace(algorithm, stragglers=None)
        self.trainer, self.algorithm, self.streams = trainer, algorithm, _ServerStreams(streams.root)
        if algorithm.training is not None:
            trainer.check(algorithm.training, 1)

    def update(self, state: State, start: Start, round_number: int) -> Float[Tensor, "parameters"]:
        """What the server would send, if it were a client.

        Args:
            state: the algorithm's, at the beginning of the round.
            start: the global model.
            round_number: from 1.
        """
        server = Participants([0], round_number, self.trainer.data, self.streams)
        trained = self.algorithm.in_round(round_number).work(state, server).perform(self.trainer, start, [0])
        return trained.updates[0] if trained.units is None else trained.updates[0] / trained.units[0]


@dataclass(frozen=True)
class _ServerStreams(Streams):
    """An experiment's streams, under names that no client has."""

    def sequence(self, *name: Key) -> np.random.SeedSequence:
        return super().sequence("server", "data", *name)


def server_examples(
    count: int,
    num_examples: int,
    rng: np.random.Generator,
    *,
    bias: float | None = None,
    classes: np.ndarray | None = None,
) -> np.ndarray:
    """The examples that a server takes for its own: [count], numbers in ascending order.

    Args:
        count: how many.
        num_examples: of the training set.
        rng: of the draw; without a bias fewer are a subset of more.
        bias: share of one class, drawn at random, the rest being of the others; None for a uniform draw.
        classes: the class of every example; needed for a bias.

    Raises:
        InputError: so many there are not, of that class or altogether.
    """
    if count >= num_examples:
        raise InputError(f"server_data: expected fewer than all {num_examples} examples, got {count}")
    if bias is None:
        return np.sort(rng.permutation(num_examples)[:count])
    if classes is None:
        raise InputError("server_data: a bias needs classes, and these examples have none; expected no bias")
    favored = int(rng.integers(int(classes.max()) + 1))
    of_it = round(bias * count)
    pools = (np.flatnonzero(classes == favored), of_it), (np.flatnonzero(classes != favored), count - of_it)
    for pool, wanted in pools:
        if wanted > len(pool):
            whose = "of class" if pool is pools[0][0] else "of classes other than"
            raise InputError(f"server_data: {wanted} examples {whose} {favored} are wanted, and there are {len(pool)}")
    return np.sort(np.concatenate([rng.permutation(pool)[:wanted] for pool, wanted in pools]))


def without(clients: list[np.ndarray], taken: np.ndarray) -> list[np.ndarray]:
    """The clients' examples but those that the server took.

    Raises:
        InputError: a client has none left.
    """
    if not len(taken):
        return clients
    remaining = [examples[~np.isin(examples, taken)] for examples in clients]
    for client, examples in enumerate(remaining):
        if len(examples) == 0:
            raise InputError(
                f"server_data: takes all {len(clients[client])} examples of client {client}; expected fewer, or larger "
                "clients"
            )
    return remaining
