"""A round's rows, weighted and summed by a protocol: real numbers in, real numbers out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.federation.secure_sums.costs import PhaseCost, ProtocolCost
from fedsec.federation.secure_sums.dropouts import Absence, Dropouts
from fedsec.federation.secure_sums.fixed_point import FixedPoint
from fedsec.federation.secure_sums.protocol import AbortedError, SumProtocol

__all__ = ["RowSum", "RowSums", "SumsReport"]


@dataclass(frozen=True, eq=False)
class RowSum:
    """What the server learns of one group of clients.

    Args:
        mean: their sum over the sum of their weights; None where the protocol aborted.
        weight: the sum of the weights of those that are counted.
        counted: their places in the group.
        absence: who left when; whose row has no code among those before the upload.
        cost: of the protocol; None where it aborted.
        clipped: share of the numbers of honest rows that lay outside the range.
        aborted: why it did; empty if it did not.
    """

    mean: Float[Tensor, "parameters"] | None
    weight: int
    counted: tuple[int, ...]
    absence: Absence
    cost: ProtocolCost | None
    clipped: float
    aborted: str = ""


@dataclass(frozen=True)
class RowSums:
    """How rows become elements of a ring, and their sums rows again.

    Each client encodes its row and multiplies the code by its weight, a whole number; the weight itself is one more
    number of the vector, so that the server learns the sums of both.

    Args:
        protocol: that makes the sums.
        clip: the largest absolute value of a coordinate; what is larger is cut to it.
        fraction_bits: of a coordinate; None for as many as fit, at most 24.
        dropouts: who leaves when.

    Raises:
        InputError: settings out of range.
    """

    protocol: SumProtocol
    clip: float = 1.0
    fraction_bits: int | None = None
    dropouts: Dropouts = field(default_factory=Dropouts)

    def __post_init__(self) -> None:
        FixedPoint(self.protocol.modulus, self.fraction_bits or 0, self.clip)

    def grid(self, weight: int) -> FixedPoint:
        """The numbers that stand for coordinates, fit for sums of so large a weight.

        Raises:
            InputError: they might overflow.
        """
        modulus, bits = self.protocol.modulus, self.fraction_bits
        if bits is None:
            return FixedPoint.finest(modulus, self.clip, weight)
        return FixedPoint(modulus, bits, self.clip).fitting(weight)

    def summed(
        self,
        rows: Float[Tensor, "clients parameters"],
        weights: Sequence[int],
        clients: Sequence[int],
        grid: FixedPoint,
        *,
        wild: Sequence[int] = (),
        randomness: np.random.SeedSequence,
    ) -> RowSum:
        """Sum some clients' rows.

        Args:
            rows: theirs. Whose row is not finite has nothing to upload: it drops out before.
            weights: theirs, positive.
            clients: their numbers.
            grid: from `grid`, for the largest weight that a sum may have.
            wild: places of clients that do not cut what they send: the ring takes it modulo its size.
            randomness: of this run of the protocol.

        Raises:
            InputError: the weights are more than the grid was made for.
        """
        grid.fitting(sum(weights))
        drawn, secret = randomness.spawn(2)
        absence = self.dropouts.drawn(clients, np.random.default_rng(drawn))
        numbers = rows.detach().to("cpu", torch.float64).numpy()
        finite = np.isfinite(numbers).all(1)
        lost = frozenset(np.flatnonzero(~finite).tolist()) - absence.before_sharing
        absence = Absence(
            absence.before_sharing,
            absence.before_upload | lost,
            absence.before_unmasking - absence.before_upload - lost,
        )
        numbers = np.where(finite[:, None], numbers, 0.0)
        within = np.array([place not in wild for place in range(len(rows))])
        honest = numbers[within & finite]
        clipped = float((np.abs(honest) > self.clip).mean()) if honest.size else 0.0
        factors = np.array(weights, np.int64)
        codes = grid.integers(numbers, within) * factors[:, None]
        vectors = grid.elements(np.concatenate([codes, factors[:, None]], axis=1))
        try:
            total = self.protocol.run(vectors, absence, np.random.SFC64(secret))
        except AbortedError as error:
            return RowSum(None, 0, (), absence, None, clipped, str(error))
        weight = int(grid.signed(total.total[-1:])[0])
        mean = torch.from_numpy(grid.numbers(total.total[:-1]) / weight).to(rows)
        return RowSum(mean, weight, total.counted, absence, total.cost, clipped)


@dataclass(frozen=True, eq=False)
class SumsReport:
    """What the protocol did in a round.

    Args:
        groups: places in the round of each group's clients.
        sums: of each group.
        grid: of the numbers.
        clients: of the round.
    """

    groups: Sequence[Sequence[int]]
    sums: Sequence[RowSum]
    grid: FixedPoint
    clients: Sequence[int]

    @property
    def lost(self) -> tuple[int, ...]:
        """Places in the round of clients whose rows are in no sum, of groups that have one."""
        return tuple(
            sorted(
                places[place]
                for places, one in zip(self.groups, self.sums, strict=True)
                if one.mean is not None
                for place in one.absence.uncounted
            )
        )

    @property
    def sent(self) -> float:
        """Bytes that a client sent, on average."""
        return sum(int(one.cost.sent.sum()) for one in self.sums if one.cost) / len(self.clients)

    @property
    def received(self) -> float:
        """Bytes that a client received, on average."""
        return sum(int(one.cost.received.sum()) for one in self.sums if one.cost) / len(self.clients)

    def as_json(self) -> dict[str, Any]:
        """As `rounds.jsonl` keeps it."""
        costs = [one.cost for one in self.sums if one.cost is not None]
        left = {
            name: sorted(
                self.clients[places[place]]
                for places, one in zip(self.groups, self.sums, strict=True)
                for place in getattr(one.absence, name)
            )
            for name in ("before_sharing", "before_upload", "before_unmasking")
        }
        aborted = [one.aborted for one in self.sums if one.aborted]
        return {
            "sums": len(self.sums),
            **({"aborted": aborted} if aborted else {}),
            **{name: clients for name, clients in left.items() if clients},
            "fraction_bits": self.grid.fraction_bits,
            "clipped": sum(one.clipped for one in self.sums) / len(self.sums),
            "phases": _phases(costs, len(self.clients)),
            "protocol_rounds": max((cost.rounds for cost in costs), default=0),
            "messages": sum(cost.messages for cost in costs),
            "server_sent": sum(cost.server_sent for cost in costs),
            "server_received": sum(cost.server_received for cost in costs),
        }


def _phases(costs: Sequence[ProtocolCost], clients: int) -> Mapping[str, Mapping[str, float]]:
    """Bytes that a client sent and received in each phase, on average."""
    phases: dict[str, list[PhaseCost]] = {}
    for phase in (phase for cost in costs for phase in cost.phases):
        phases.setdefault(phase.name, []).append(phase)
    return {
        name: {
            "client_sent": sum(int(phase.sent.sum()) for phase in several) / clients,
            "client_received": sum(int(phase.received.sum()) for phase in several) / clients,
        }
        for name, several in phases.items()
    }
