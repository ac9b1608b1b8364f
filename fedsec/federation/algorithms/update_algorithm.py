"""Algorithms whose clients send updates: an explicit state, what clients do with it, and how the server moves on."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from fedsec.engine.local_training import LocalTraining
from fedsec.engine.memory import free_bytes
from fedsec.engine.messages import LocalResult
from fedsec.engine.optimizers import RateSchedule
from fedsec.engine.resident_data import ResidentData
from fedsec.errors import InputError, size_of
from fedsec.federation.algorithms.algorithm import Algorithm, Exchanged
from fedsec.federation.algorithms.stragglers import Stragglers
from fedsec.federation.algorithms.work import Work
from fedsec.federation.threat import Threat
from fedsec.privacy.private_training import PrivateTraining
from fedsec.seeds import Streams
from fedsec.threat.rows import finite_rows

Weighting = Literal["samples", "uniform", "population"]
State = Mapping[str, Tensor]
"""Tensors by name: `parameters`, the global model's, and whatever else an algorithm carries from round to round, the
clients' own memories included (a row for each client of the federation). Checkpoints hold exactly this."""
LARGEST_RATE = 3e38
"""What float32 can hold; a larger step could only end in infinities."""


@dataclass(frozen=True, eq=False)
class Participants:
    """Who takes part in a round, and what their work is planned with.

    Attributes:
        clients: their numbers, in the order of all rows of the round.
        round: 1 for the first.
        data: of all clients.
        streams: the experiment's; each client draws from its own.
    """

    clients: Sequence[int]
    round: int
    data: ResidentData
    streams: Streams


@dataclass(frozen=True, eq=False)
class Exchange:
    """What a round left beside its aggregates.

    Attributes:
        clients: that took part.
        trained: what their training left, whatever they sent in the end; None in a round without clients.
        total: what their coefficients in the average summed to; one but for `population`.
        share: which part of the whole federation each of them is: [clients], under the algorithm's weighting; zero for
            clients of whom the server rejected something.
        units: by what each of them says that it divided its update; None where nobody does.
    """

    clients: Sequence[int]
    trained: LocalResult | None
    total: float
    share: Float[Tensor, "clients"]
    units: Float[Tensor, "clients"] | None = None


def rows_of_clients(parameters: Float[Tensor, "parameters"], num_clients: int) -> Float[Tensor, "clients parameters"]:
    """A vector of zeros for every client of the federation to remember, if there is room for them.

    Args:
        parameters: of the model: length, dtype and device.
        num_clients: of the federation.

    Raises:
        InputError: there is not.
    """
    needed, free = num_clients * parameters.numel() * parameters.element_size(), free_bytes(parameters.device)
    if free is not None and needed > free:
        raise InputError(
            f"the memories of {num_clients:,} clients, a vector of {parameters.numel():,} parameters each, take "
            f"{size_of(needed)}, and {size_of(free)} are free; expected fewer clients or a smaller model"
        )
    return parameters.new_zeros(num_clients, parameters.numel())


def move_rows(
    memories: Float[Tensor, "all parameters"],
    clients: Sequence[int],
    changes: Float[Tensor, "clients parameters"],
    factor: float = 1.0,
) -> None:
    """Add to what clients remember, in place; one whose change is not finite keeps what it had.

    Args:
        memories: of every client of the federation.
        clients: whose memories change.
        changes: theirs, in this order.
        factor: of the changes.
    """
    finite, places = finite_rows(changes), torch.tensor(list(clients), device=memories.device)
    changes = changes if bool(finite.all()) else changes[finite]
    memories.index_add_(0, places[finite], changes, alpha=factor)


@dataclass(frozen=True)
class UpdateAlgorithm(Algorithm):
    """An algorithm whose clients send updates, and whose server moves along their aggregate.

    A round is `work` (what the clients do), the exchange (defenses, attacks and the server's rule act on rows, which no
    algorithm sees) and `apply`. All that lasts from one round to the next is in the state.

    Args:
        weighting: how much each client of a round counts, by rules that use weights (the mean):
            `samples`, in proportion to its number of examples; `uniform`, all the same;
            `population`, the unbiased estimate of the whole population's average,
            theta' = M / |g| * sum_i p_i theta_i with p_i = n_i / N over all M clients, whose
            coefficients need not sum to one in a given round.
        server_lr: step length of the server along the aggregate.
        server_schedule: how it changes from round to round; None for not at all.

    Attributes:
        sends: the vectors of the model's length that each client sends, the update first. The server's rule aggregates
            each of them by itself, and a Byzantine client forges each of them.
        broadcasts: the vectors of the state that each client receives.
        server_trains: whether a server with data of its own can do what a client does: clients remember nothing.
        forgets_rows: whether nobody looks at what clients sent or trained when a round is over: `apply` does not, and
            clients remember nothing. Then rows may pass by, and no matrix of them is needed.
        sums_do: whether the server needs sums of clients only, whatever the clients remember; so where it forgets rows.

    Raises:
        InputError: numbers out of range.
    """

    weighting: Weighting = "samples"
    server_lr: float = 1.0
    server_schedule: RateSchedule | None = None

    exchanges: ClassVar[Exchanged] = "updates"
    sends: ClassVar[tuple[str, ...]] = ("update",)
    broadcasts: ClassVar[tuple[str, ...]] = ("parameters",)
    server_trains: ClassVar[bool] = False
    forgets_rows: ClassVar[bool] = False
    sums_do: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.weighting not in ("samples", "uniform", "population"):
            raise InputError(f"weighting must be samples, uniform or population, got {self.weighting!r}")
        if not self.server_lr > 0:
            raise InputError(f"server_lr must be positive, got {self.server_lr}")
        if self.server_lr > LARGEST_RATE:
            raise InputError(f"server_lr must be at most {LARGEST_RATE:g}, what float32 can hold; got {self.server_lr}")

    def in_round(self, round_number: int) -> Self:
        """The algorithm as a round plays it, with that round's learning rates and no schedules any more.

        Whoever reads a rate, or has clients work or the server move, asks here first.

        Args:
            round_number: from 1.

        Raises:
            InputError: a schedule leaves nothing of its rate.
        """
        if self.server_schedule is None:
            return self
        rate = self.server_lr * self.server_schedule.factor(round_number)
        return replace(self, server_lr=rate, server_schedule=None)

    def init(self, parameters: Float[Tensor, "parameters"], num_clients: int) -> State:
        """The state before the first round.

        Args:
            parameters: of the initial model.
            num_clients: of the federation.
        """
        return {"parameters": parameters}

    def begin(self, module: nn.Module, parameters: Float[Tensor, "parameters"], num_clients: int) -> State:
        """The same of an algorithm that tells the model's layers apart.

        Args:
            module: the model.
            parameters: its own.
            num_clients: of the federation.

        Raises:
            InputError: it has not the layers that the algorithm asks for.
        """
        return self.init(parameters, num_clients)

    def at_home(self, state: State) -> Int64[Tensor, "kept"] | None:
        """The places of parameters that never leave a client, and are no part of what it sends; None for none.

        Args:
            state: at any time; they stay the same.
        """
        return None

    # Who takes part when, where that is the algorithm's business

    def running(self, num_clients: int, cohort: int, streams: Streams, threat: Threat) -> Self:
        """The algorithm as it runs in one federation.

        Args:
            num_clients: of the federation.
            cohort: clients of a round.
            streams: the experiment's.
            threat: who may be Byzantine, and how fast.
        """
        return self

    def clients_of(self, round_number: int) -> list[int] | None:
        """The clients of a round, in ascending order; None where they are drawn."""
        return None

    def contributors(self, client: int) -> tuple[int, ...]:
        """The clients whose training is in what a client sends to the server."""
        return (client,)

    def time(self, round_number: int) -> float | None:
        """When a round ends, in simulated seconds; None where no clock is simulated."""
        return None

    def opened(self, state: State, round_number: int) -> State:
        """The state in which a round begins.

        Args:
            state: as the round before left it; used up.
            round_number: from 1.
        """
        return state

    def counted(
        self, coefficients: Float[Tensor, "clients"], clients: Sequence[int], round_number: int
    ) -> Float[Tensor, "clients"]:
        """What the coefficients of a round's clients become for what each of them sent this time.

        Args:
            coefficients: in the average.
            clients: in the same order.
            round_number: from 1.
        """
        return coefficients

    def starts(self, state: State, clients: Sequence[int]) -> Float[Tensor, "*clients parameters"]:
        """What clients start a round from: one vector for all, or a row for each of them.

        Args:
            state: at the beginning of the round.
            clients: in the order of the rows.
        """
        return state["parameters"]

    def personal(self, state: State, clients: Sequence[int]) -> Float[Tensor, "clients parameters"] | None:
        """The models that count for single clients, a row each; None where the global one counts for all.

        Args:
            state: at the end of a round.
            clients: in the order of the rows.
        """
        return None

    def conclusion(self, module: nn.Module) -> Mapping[str, Any]:
        """What the algorithm has found beside a model, as plain data for the run's record; nothing of most.

        Args:
            module: the final global model.
        """
        return {}

    def received(
        self, state: State, clients: Sequence[int], rows: Mapping[str, Tensor]
    ) -> Mapping[str, Float[Tensor, "clients parameters"]]:
        """What the server takes the rows that it received for, before it judges them.

        An algorithm that changes anything here does not forget rows, nor will sums of them do.

        Args:
            state: at the beginning of the round.
            clients: in the order of the rows.
            rows: of each vector that clients send; left unchanged.
        """
        return rows

    @abstractmethod
    def work(self, state: State, participants: Participants) -> Work:
        """What a round's clients do with the model that they receive.

        Args:
            state: at the beginning of the round.
            participants: of the round.
        """

    def apply(self, state: State, exchange: Exchange, aggregates: Mapping[str, Tensor]) -> State:
        """The state after a round.

        Args:
            state: at the beginning of the round; used up: tensors of it may be written into and handed on.
            exchange: who took part, and what they trained.
            aggregates: of each vector that clients send (see `sends`), what the server's rule made of all of them:
                [parameters], an average (coefficients summing to one).
        """
        return {**state, "parameters": self.step(state["parameters"], aggregates["update"], exchange.total)}

    def step(
        self, start: Float[Tensor, "parameters"], vector: Float[Tensor, "parameters"], total: float
    ) -> Float[Tensor, "parameters"]:
        """The server's new parameters.

        Args:
            start: the parameters sent out this round.
            vector: the aggregate of the updates.
            total: what the coefficients summed to before normalization; only `population` differs from one,
                and then the average of *parameters*, towards which the server moves, is total * (start + vector).
        """
        return start + self.server_lr * self.direction(start, vector, total)

    def direction(
        self, start: Float[Tensor, "parameters"], vector: Float[Tensor, "parameters"], total: float
    ) -> Float[Tensor, "parameters"]:
        """From what was sent out to the average of what clients made of it; arguments as of `step`."""
        return vector if self.weighting != "population" else total * (start + vector) - start

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

    def shares(self, sizes: Float[Tensor, "clients"], population: Float[Tensor, "all"]) -> Tensor:
        """Which part of the whole federation each client of the round is: [clients].

        Args:
            sizes: examples of each client of the round.
            population: examples of every client of the federation.
        """
        if self.weighting == "uniform":
            return torch.full_like(sizes, 1 / len(population))
        return sizes / population.sum()

    # Who is heard

    @property
    def slow(self) -> Stragglers | None:
        """Its stragglers; None for none."""
        return None

    def heard(self, clients: Sequence[int], round_number: int, streams: Streams) -> list[int]:
        """Those of a round's clients that the server hears back from; at least one."""
        if self.slow is None or self.slow.handling != "drop":
            return list(clients)
        late = self.slow.among(clients, round_number, streams)
        return [client for client in clients if client not in late]

    def fewest(self, clients: int) -> int:
        """How many of a round's clients the server hears back from, at least."""
        if self.slow is None or self.slow.handling != "drop":
            return clients
        return clients - self.slow.count(clients)

    # How clients train

    @property
    def training(self) -> LocalTraining | None:
        """What each client does in a round; None for one full-batch gradient."""
        return None

    @property
    def momentum(self) -> float:
        """Worker momentum: how much of its earlier updates a client sends with each; 0 for nothing of them."""
        return 0.0 if self.training is None else self.training.worker_momentum

    @property
    def private(self) -> PrivateTraining | None:
        """How its clients hide their examples; None where they do not."""
        return None if self.training is None else self.training.private

    @property
    def private_problem(self) -> str:
        """Why DP-SGD's account would not hold for it; empty where it does."""
        return "" if self.private_examples else "no account of DP-SGD is known to hold for what its clients send"

    @abstractmethod
    def privately(self, private: PrivateTraining) -> Self:
        """The same algorithm, with clients who hide their examples."""

    @abstractmethod
    def batch_and_steps(self, examples: int) -> tuple[int, int]:
        """Examples in a batch, and steps in a round, of a client with so many examples."""
