"""What a federation spends of its clients' privacy by the models that its server releases."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.defense import Aggregate, Aggregator, ColumnShards, PrivateAggregator, RoundContext, RowStream
from fedsec.defense.noise_share import NoiseShare
from fedsec.privacy import Accountant, Epsilon, Ledger, Spending


class Releases:
    """The account of user-level privacy: one for all clients, since each round costs all of them the same.

    A client that is not drawn in a round pays for it too: that it was not is part of what the sampling rate covers.

    Args:
        cost: of a round.
        delta: of the guarantee.
        accountant: by which epsilon is computed.
    """

    def __init__(self, cost: Spending, delta: float, accountant: Accountant) -> None:
        self.cost, self.ledger = cost, Ledger(1, delta, accountant)

    @classmethod
    def of_rule(cls, rule: PrivateAggregator, num_clients: int, clients_per_round: int, rounds: int) -> "Releases":
        """Of a server's rule that bounds and hides each client's part; prepared here.

        Args:
            rule: of the server.
            num_clients: of the federation.
            clients_per_round: how many take part in a round, on average.
            rounds: of the run.

        Raises:
            InputError: a target that no noise reaches. What would void the guarantee is for `guards` to tell.
        """
        rule.prepare(num_clients, clients_per_round / num_clients, rounds)
        assert rule.round_cost is not None
        return cls(rule.round_cost, rule.delta_of(num_clients), rule.accountant)

    @classmethod
    def of_noises(cls, share: NoiseShare, num_clients: int, noises: int) -> "Releases":
        """Of clients that add the noise of their sum themselves.

        Args:
            share: of each of them.
            num_clients: of the federation.
            noises: of how many clients the smallest sum has the noise.
        """
        return cls(share.cost(noises), share.delta_of(num_clients), share.accountant)

    def spend(self) -> None:
        """Charge one round."""
        self.ledger.spend(0, self.cost.sample_rate, self.cost.noise_multiplier, self.cost.steps)

    def epsilon(self) -> Epsilon:
        """What every client has spent so far."""
        return self.ledger.maximum()

    def restore(self, rounds: int) -> None:
        """Start again after so many rounds."""
        self.ledger = Ledger(1, self.ledger.delta, self.ledger.accountant)
        for _ in range(rounds):
            self.spend()


def aggregated(
    rule: Aggregator,
    rows: Float[Tensor, "clients parameters"] | ColumnShards | RowStream,
    coefficients: Float[Tensor, "clients"],
    context: RoundContext,
) -> Aggregate:
    """A round's aggregate; of a private rule that lost every row, what it gives for a round without clients.

    Args:
        rule: of the server.
        rows: what it received, its columns in pieces, or what has passed by.
        coefficients: of the clients, for rules that use weights.
        context: what rules may need to know of the round.

    Raises:
        AggregationError: the rule cannot work with these rows.
    """
    if isinstance(rows, ColumnShards):
        return rule.aggregate_shards(rows, coefficients if rule.uses_weights else None, **context)
    if isinstance(rule, PrivateAggregator) and not _any_passes(rows):
        # That a round lost everybody is as private as that nobody was drawn for it.
        generator = context.get("generator")
        assert generator is not None
        count, like = (rows.num_rows, rows.like) if isinstance(rows, RowStream) else (len(rows), rows[0])
        influence = torch.zeros(count, dtype=torch.float64, device=like.device)
        return Aggregate(rule.nobody(torch.zeros_like(like), generator), influence, tuple(range(count)))
    if isinstance(rows, RowStream):
        return rows.aggregate(**context)
    return rule.aggregate(rows, coefficients if rule.uses_weights else None, **context)


def _any_passes(rows: Float[Tensor, "clients parameters"] | RowStream) -> bool:
    """Whether any row is finite."""
    return not rows.nothing_passed if isinstance(rows, RowStream) else bool(rows.isfinite().all(1).any())


def tagged(state: Mapping[str, Tensor], tag: str) -> dict[str, Tensor]:
    """A part's state, by names that no other part has."""
    return {f"{tag}.{name}": tensor for name, tensor in state.items()}


def untagged(state: Mapping[str, Tensor], tag: str) -> dict[str, Tensor]:
    """The part that `tagged` named so."""
    return {name.removeprefix(f"{tag}."): tensor for name, tensor in state.items() if name.startswith(f"{tag}.")}
