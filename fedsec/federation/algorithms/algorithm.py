"""What every federated algorithm says about itself, whatever it exchanges: the rest of the code reads no names."""

from abc import ABC
from typing import ClassVar, Literal

Exchanged = Literal["updates", "knowledge", "activations", "models"]


class Algorithm(ABC):
    """A federated algorithm as an immutable record of its settings; what it is stands in the traits of its class.

    Traits are literals, so that a scenario can be read without importing any algorithm. What a claim of privacy or an
    attacker relies on is off unless a class says otherwise. Traits are inherited: who changes what FedAvg's clients do
    derives from `StragglingAlgorithm`, which claims nothing, and not from `FedAvg`.

    Attributes:
        exchanges: what is sent: `updates` of a model that all share; `knowledge`, what clients' networks make of single
            examples; `activations` and their gradients, of one network that is cut between parties; or `models`, from
            neighbor to neighbor without a server.
        pooled: whether all examples lie with a single client (the centralized bound).
        replayable: whether one client's update and the model that it received tell all that its training depended on
            beside its data, and beside layers that never leave it: a curious server can then replay it.
        private_examples: whether DP-SGD's account holds for what its clients send.
        private_clients: whether an account of user-level privacy holds for what its server releases: it depends on
            clients through the aggregate alone.
        first_round_alike: whether a client's first round depends on nothing but the initial model and its own data, so
            that experiments of one round can share it.
        tasks: the tasks that it can learn; any where none is named.
        whole_model: whether what the server holds is a model that can be used as it is; off where some layers never
            leave the clients.
        trains_in_turns: whether a client's own layers hold still while it trains those that it sends.
        local_statistics: whether running statistics of batch normalization must stay with the clients, too.
        two_models: whether each client trains a model of its own beside the shared one, while there is one set of
            running statistics for each client.
        by_arrival: whether clients take part when their updates arrive, instead of being drawn for a round.
        chained: whether what reaches the server is of several clients at once, that trained one after another.
        slow_clients: what happens to stragglers unless somebody says otherwise: `drop` or `partial`.
    """

    exchanges: ClassVar[Exchanged]
    pooled: ClassVar[bool] = False
    replayable: ClassVar[bool] = False
    private_examples: ClassVar[bool] = False
    private_clients: ClassVar[bool] = False
    first_round_alike: ClassVar[bool] = False
    tasks: ClassVar[tuple[str, ...]] = ()
    whole_model: ClassVar[bool] = True
    trains_in_turns: ClassVar[bool] = False
    local_statistics: ClassVar[bool] = False
    two_models: ClassVar[bool] = False
    by_arrival: ClassVar[bool] = False
    chained: ClassVar[bool] = False
    slow_clients: ClassVar[Literal["drop", "partial"]] = "drop"
