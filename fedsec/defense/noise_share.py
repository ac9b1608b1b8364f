"""A client's part of the noise of a sum: what it adds, and what the sum's noise then costs every client."""

from dataclasses import dataclass
from math import sqrt

from fedsec.privacy import Accountant, Spending, default_delta

__all__ = ["NoiseShare"]


@dataclass(frozen=True)
class NoiseShare:
    """Gaussian noise of variance (z S)^2 / n of each client, where the sum of n shall have z S.

    Args:
        noise_multiplier: z.
        clients: n.
        bound: S, the largest norm of an update before the noise.
        delta: of the guarantee; None for n^-1.1 of all clients.
        accountant: by which epsilon is computed.
    """

    noise_multiplier: float
    clients: int
    bound: float
    delta: float | None = None
    accountant: Accountant = "rdp"

    @property
    def std(self) -> float:
        """Of a client's own noise, on each coordinate."""
        return self.noise_multiplier * self.bound / sqrt(self.clients)

    def cost(self, noises: int) -> Spending:
        """What a round costs a client where so many clients' noises are in the smallest sum."""
        return Spending(self.noise_multiplier * sqrt(noises / self.clients), 1.0, 1)

    def delta_of(self, num_clients: int) -> float:
        """Delta of everyone's guarantee, in a federation of so many clients."""
        return default_delta(num_clients) if self.delta is None else self.delta
