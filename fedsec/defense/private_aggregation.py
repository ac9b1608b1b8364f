"""The interface of rules that make a round's aggregate differentially private for whole clients."""

from abc import abstractmethod
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.defense.aggregation import Aggregator
from fedsec.errors import InputError
from fedsec.privacy.accounting import Accountant, Spending


class PrivateAggregator(Aggregator):
    """Bounds what a client adds to the aggregate and hides it in noise; the unit of privacy is a client.

    The engine calls `prepare` before the first round; so must a loop of one's own that claims an epsilon. Without it a
    sum is divided by the number of rows that are given, which a client changes by taking part: that proves nothing, and
    `round_cost` stays None.

    Attributes:
        accountant: by which epsilon is computed.
        round_cost: what one round costs every client; None before `prepare`.
    """

    draws = True
    guarantee: ClassVar[str] = ""
    """Of privacy: the parameters of what is proven, a colon, and of what unit; nothing where a class does not say."""
    accountant: Accountant = "rdp"
    round_cost: Spending | None = None

    @final
    def prepare(self, num_clients: int, sample_rate: float, rounds: int) -> None:
        """Get ready for a run; what an earlier one calibrated or adapted is forgotten.

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
        """Begin a run: the noise multiplier of each of its rounds; see `prepare`, which checks the arguments."""

    def stream(self) -> tuple[str, ...]:
        """What the noise's stream is named after, beside the seed and the round.

        Rules of one seed that differ in noise or bound must not draw the same numbers: a combination of what they
        release would be without noise. A subclass adds its bound.
        """
        return () if self.round_cost is None else (f"multiplier {float(self.round_cost.noise_multiplier)!r}",)

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
