"""What a federation spends of its clients' privacy by the models that its server releases."""

from collections.abc import Mapping

from torch import Tensor

from fedsec.errors import InputError
from fedsec.federation.rounds import Sampling
from fedsec.privacy import Epsilon, Ledger, PrivateAggregator


class Releases:
    """The account of user-level privacy: one for all clients, since each round costs all of them the same.

    A client that is not drawn in a round pays for it too: that it was not is part of what the sampling rate covers.

    Args:
        rule: bounds and hides each client's part; prepared here.
        num_clients: of the federation.
        clients_per_round: how many take part in a round, on average.
        rounds: of the run.
        sampling: how they are drawn.
        statistics: whether running statistics of batch normalization leave the clients.

    Raises:
        InputError: something that would void the guarantee, or a target that no noise reaches.
    """

    def __init__(
        self,
        rule: PrivateAggregator,
        num_clients: int,
        clients_per_round: int,
        rounds: int,
        sampling: Sampling,
        *,
        statistics: bool,
    ) -> None:
        check_sampling(rule, num_clients, clients_per_round, sampling)
        if statistics:
            raise InputError(
                f"{type(rule).__name__}: running statistics of batch normalization would leave the clients without "
                "noise, and void epsilon; expected norm: gn, or bn: local"
            )
        rule.prepare(num_clients, clients_per_round / num_clients, rounds)
        assert rule.round_cost is not None
        self.cost = rule.round_cost
        self.ledger = Ledger(1, rule.delta_of(num_clients), rule.accountant)

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


def check_sampling(rule: PrivateAggregator, num_clients: int, clients_per_round: int, sampling: Sampling) -> None:
    """Refuse a way to draw clients that user-level accounts do not hold for.

    Raises:
        InputError: neither independent draws nor all clients.
    """
    if clients_per_round < num_clients and sampling != "poisson":
        raise InputError(
            f"{type(rule).__name__}: its account holds for clients that are drawn independently of each other, not for "
            f"exactly {clients_per_round} of {num_clients}; expected federation.sampling: poisson, or all clients"
        )


def tagged(state: Mapping[str, Tensor], tag: str) -> dict[str, Tensor]:
    """A part's state, by names that no other part has."""
    return {f"{tag}.{name}": tensor for name, tensor in state.items()}


def untagged(state: Mapping[str, Tensor], tag: str) -> dict[str, Tensor]:
    """The part that `tagged` named so."""
    return {name.removeprefix(f"{tag}."): tensor for name, tensor in state.items() if name.startswith(f"{tag}.")}
