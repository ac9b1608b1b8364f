"""The interface of rules that make a round's aggregate differentially private for whole clients."""

from abc import abstractmethod
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.defense import Aggregator
from fedsec.errors import InputError
from fedsec.privacy.accounting import Accountant, Spending


class PrivateAggregator(Aggregator):
    """Bounds what a client adds to the aggregate and hides it in noise; the unit of privacy is a client.

    The engine calls `prepare` once before the first round. In a loop of one's own that is optional: without it a
    round's own number of clients takes the place of the expected one.

    Attributes:
        accountant: by which epsilon is computed.
        round_cost: what one round costs every client; None before `prepare`.
    """

    draws: ClassVar[bool] = True
    accountant: Accountant = "rdp"
    round_cost: Spending | None = None

    @final
    def prepare(self, num_clients: int, sample_rate: float, rounds: int) -> None:
        """Get ready for a run.

        Args:
            num_clients: of the federation.
            sample_rate: probability with which each of them takes part in a round, independently of all others.
            rounds: of the run.

        Raises:
            InputError: numbers that make no run, or a target that no noise reaches.
        """
        name = type(self).__name__
        if num_clients < 1 or not 0 < sample_rate <= 1 or rounds < 1:
            raise InputError(
                f"{name}: expected at least one client and round and a sample_rate in (0, 1], got {num_clients}, "
                f"{rounds} and {sample_rate}"
            )
        noise = self.calibrated(num_clients, sample_rate, rounds)
        self.round_cost = Spending(noise, sample_rate, 1)

    @abstractmethod
    def calibrated(self, num_clients: int, sample_rate: float, rounds: int) -> float:
        """The noise multiplier of each round of a run; see `prepare`, which checks the arguments."""

    @abstractmethod
    def delta_of(self, num_clients: int) -> float:
        """Delta of everyone's guarantee, in a federation of so many clients."""

    @abstractmethod
    def nobody(self, like: Float[Tensor, "parameters"], generator: torch.Generator) -> Float[Tensor, "parameters"]:
        """The aggregate of a round in which nobody took part: noise, since that nobody did is private too.

        Args:
            like: with the shape, dtype and device of an update.
            generator: on the CPU.
        """
