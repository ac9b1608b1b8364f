"""What every federated algorithm decides: what clients send, how they are weighted, how the server steps."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.engine.messages import LocalResult, Start
from fedsec.engine.trainer import CohortTrainer
from fedsec.errors import InputError
from fedsec.seeds import Streams

Weighting = Literal["samples", "uniform", "population"]


@dataclass(frozen=True)
class Algorithm(ABC):
    """A federated algorithm as an immutable record of its settings.

    Args:
        weighting: how much each client of a round counts, by rules that use weights (the mean):
            `samples`, in proportion to its number of examples; `uniform`, all the same;
            `population`, the unbiased estimate of the whole population's average,
            theta' = M / |g| * sum_i p_i theta_i with p_i = n_i / N over all M clients, whose
            coefficients need not sum to one in a given round.
        server_lr: step length of the server along the aggregate.
    """

    weighting: Weighting = "samples"
    server_lr: float = 1.0

    pooled: ClassVar[bool] = False
    """Whether all examples lie with a single client (the centralized bound)."""

    def __post_init__(self) -> None:
        if self.weighting not in ("samples", "uniform", "population"):
            raise InputError(f"weighting must be samples, uniform or population, got {self.weighting!r}")
        if not self.server_lr > 0:
            raise InputError(f"server_lr must be positive, got {self.server_lr}")

    @abstractmethod
    def updates(
        self,
        trainer: CohortTrainer,
        start: Start,
        clients: Sequence[int],
        round_number: int,
        streams: Streams,
    ) -> LocalResult:
        """What the given clients send when they receive `start`: one row each, as a direction to move along."""

    def heard(self, clients: Sequence[int], round_number: int, streams: Streams) -> list[int]:
        """Those of a round's clients that the server hears back from; at least one."""
        return list(clients)

    def fewest(self, clients: int) -> int:
        """How many of a round's clients the server hears back from, at least."""
        return clients

    def coefficients(self, sizes: Float[Tensor, "clients"], population: Float[Tensor, "all"]) -> Tensor:
        """Coefficient of each client of the round in the average: [clients].

        Args:
            sizes: examples of each client of the round.
            population: examples of every client of the federation.
        """
        if self.weighting == "uniform":
            return torch.full_like(sizes, 1 / len(sizes))
        if self.weighting == "samples":
            return sizes / sizes.sum()
        return len(population) / len(sizes) * sizes / population.sum()

    def step(
        self, start: Float[Tensor, "parameters"], vector: Float[Tensor, "parameters"], total: float
    ) -> Float[Tensor, "parameters"]:
        """The server's new parameters.

        Args:
            start: the parameters sent out this round.
            vector: the aggregate of the updates, an average (coefficients summing to one).
            total: what the coefficients summed to before normalization; only `population` differs from one,
                and then the average of *parameters*, towards which the server moves, is total * (start + vector).
        """
        if self.weighting != "population":
            return start + self.server_lr * vector
        return start + self.server_lr * (total * (start + vector) - start)
