"""Secure aggregation as the server sees it: sums of groups of clients, and nothing of a single one.

**No cryptography is executed.** This is a model of what such a protocol shows an honest-but-curious server: of every
group the sum of what its clients sent, weighted as the average weighs them, and the sum of the weights. Bytes are those
of plain updates, unless a protocol is simulated beside it (`protocol`): then sums are those of a ring, clients drop out
of its phases, and bytes are counted.

Groups are drawn anew each round from a stream of their own. A rest that would be smaller than asked for joins the other
groups, so that no sum has fewer clients. Clients that do not answer are left out before groups are formed. What is not
finite cannot be taken out of a sum: one such client costs its whole group. (In a ring it has no code: such a client
drops out.)

References: Bonawitz et al., Practical secure aggregation for privacy-preserving machine learning, CCS 2017; Pasquini,
Francati, Ateniese, Eluding secure aggregation in federated learning via model inconsistency, CCS 2022, arXiv:2111.07380
(why sums alone do not protect against a server that does not follow the protocol)
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.defense import Aggregate, Aggregator, Pipeline, PreAggregator, PrivateAggregator
from fedsec.errors import InputError
from fedsec.federation.secure_sums.row_sums import RowSums
from fedsec.seeds import Streams

__all__ = ["Groups", "SecureAggregation", "SumObserver", "why_not_of_sums"]

SumObserver = Callable[[int, Sequence[Sequence[int]], Float[Tensor, "groups parameters"]], None]
"""Called with the round, the clients of each group, and the sums that the server received instead of their rows."""


@dataclass(frozen=True)
class SecureAggregation:
    """How many clients a sum has at least.

    Args:
        clients: of a group; as many as take part in a round for one sum of all.
        protocol: that is simulated; None for plain sums of real numbers.

    Raises:
        InputError: fewer than two, which would hide nobody.
    """

    clients: int
    protocol: RowSums | None = None

    def __post_init__(self) -> None:
        if self.clients < 2:
            raise InputError(f"secure_aggregation: a sum of one client hides nobody; expected 2, got {self.clients}")

    def largest(self, cohort: int) -> int:
        """Clients of the largest group, of so many that take part; zero where they are too few for one."""
        count = self.count(cohort)
        return -(-cohort // count) if count else 0

    @property
    def fewest(self) -> int:
        """Clients of the smallest sum that the server may see: with drop-outs as few as a protocol goes on with."""
        return self.clients if self.protocol is None else self.protocol.protocol.needed(self.clients)

    def count(self, cohort: int) -> int:
        """How many sums so many clients give; none where they are too few for one."""
        return cohort // self.clients

    def groups(self, cohort: int, round_number: int, streams: Streams) -> "Groups":
        """Which of a round's clients are summed together.

        Args:
            cohort: how many take part.
            round_number: from 1.
            streams: the experiment's.

        Raises:
            InputError: they are too few for one sum.
        """
        count = self.count(cohort)
        if not count:
            raise InputError(
                f"round {round_number}: {cohort} clients take part, too few for a sum of {self.clients}; the protocol "
                "stops here"
            )
        order = streams.numpy("secure_aggregation", round_number).permutation(cohort).tolist()
        return Groups(tuple(tuple(sorted(order[first::count])) for first in range(count)))


@dataclass(frozen=True)
class Groups:
    """The groups of a round.

    Args:
        places: of each group, the places of its clients in the round.
    """

    places: tuple[tuple[int, ...], ...]

    def sums(
        self, rows: Float[Tensor, "clients parameters"], weights: Float[Tensor, "clients"]
    ) -> Float[Tensor, "groups parameters"]:
        """Of each group the weighted sum of its rows over the sum of their weights: both are all that the server sees.

        Args:
            rows: what clients send. One that is not finite makes its group's sum not finite.
            weights: of the clients in the average.
        """
        groups = [[*places] for places in self.places]
        return torch.stack([weights[group].to(rows) @ rows[group] / weights[group].sum() for group in groups])

    def weights(self, weights: Float[Tensor, "clients"]) -> Float[Tensor, "groups"]:
        """Of each group, the sum of its clients' weights."""
        return torch.stack([weights[[*places]].sum() for places in self.places])

    def of_clients(self, aggregate: Aggregate, weights: Float[Tensor, "clients"]) -> Aggregate:
        """The verdict on groups as one on clients: each answers for its group.

        Args:
            aggregate: of the groups' rows.
            weights: of the clients; those of a group share its influence by them. Zero of those who dropped out.
        """
        relative = weights.double().clone()
        for places in self.places:
            if relative[[*places]].any():  # of a group that lost its sum nobody counts
                relative[[*places]] /= relative[[*places]].sum()
        group_of = torch.empty(len(weights), dtype=torch.int64)
        for number, places in enumerate(self.places):
            group_of[[*places]] = number
        group_of = group_of.to(relative.device)
        counted = None if aggregate.weights is None else aggregate.weights[group_of] * relative
        suspected = None if aggregate.suspected is None else self._members(aggregate.suspected)
        return replace(
            aggregate,
            influence=aggregate.influence[group_of] * relative,
            rejected=self._members(aggregate.rejected),
            suspected=suspected,
            weights=counted,
        )

    def _members(self, groups: Sequence[int]) -> tuple[int, ...]:
        return tuple(sorted(place for group in groups for place in self.places[group]))


def why_not_of_sums(rule: Aggregator, groups: int) -> Iterator[str]:
    """Why a rule means nothing for sums of clients, in words; nothing where it does.

    Args:
        rule: of the server.
        groups: how many sums it sees.
    """
    parts: tuple[Aggregator | PreAggregator, ...] = (rule,)
    if isinstance(rule, Pipeline):
        parts = (*rule.pre_aggregators, rule.rule)
    for part in parts:
        name = type(part).__name__
        if isinstance(part, PrivateAggregator):
            yield (
                f"{name} bounds each client's update at the server, which sees sums only; expected a bound that "
                "clients keep themselves (clip), or no secure_aggregation"
            )
        elif part.single_clients:
            yield (
                f"{name} {part.single_clients}, and the server sees sums only; expected another rule, or no "
                "secure_aggregation"
            )
        elif isinstance(part, Aggregator) and part.needs_server_update:
            yield (
                f"{name} compares each client with the server's own update, and the server sees sums only; expected "
                "another rule, or no secure_aggregation"
            )
    if groups == 1 and not (isinstance(rule, Aggregator) and rule.streams and rule.uses_weights):
        yield (
            f"{type(rule).__name__} compares rows, and the server sees one sum of all; expected mean, or groups of at "
            "most a third of a round's clients"
        )
