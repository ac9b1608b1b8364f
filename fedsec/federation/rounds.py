"""What every federation has in common: numbered rounds, sampled clients, a threat, a state that can be kept."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from jaxtyping import Float64
from torch import Tensor

from fedsec.engine.resident_data import ResidentData
from fedsec.errors import InputError
from fedsec.federation.selection.selection import Electorate, Selection
from fedsec.federation.threat import Threat
from fedsec.metrics.evaluation import Evaluation, average
from fedsec.seeds import Streams

if TYPE_CHECKING:
    from fedsec.federation.evaluator import Evaluator

Sampling = Literal["fixed", "poisson"]
"""fixed: so many clients each round, drawn without replacement. poisson: each client takes part independently of the
others, so many on average and sometimes nobody; accounts of user-level privacy hold for this one."""


@dataclass(frozen=True)
class EdgeCost:
    """What a round costs its clients, on average over them.

    Args:
        upload_bytes: sent to the server.
        download_bytes: received from it.
        flops: floating-point operations of local training (a multiply-add counts two).
    """

    upload_bytes: float
    download_bytes: float
    flops: float


@dataclass(frozen=True)
class RoundResult:
    """What happened in one round.

    Args:
        round: 1 for the first.
        clients: numbers of the clients that took part.
        byzantine: those of them that are Byzantine.
        rejected: those whose update was not finite and was therefore thrown away.
        influence: how much of each client (in the order of `clients`) went into the aggregate; sums to one,
            or to zero where all were rejected.
        metrics: name -> value on the test set; None each where this round is not evaluated. Where clients have models
            of their own, the mean over the honest ones of this round.
        dropped: clients that were sampled, but were too slow to be waited for.
        client_values: the primary metric of each client that has a model of its own, in the order of `clients`.
        client_tests: client -> the primary metric on test examples of its own, of all honest clients of the federation
            that have some; None where nobody is tested.
        cost: what the round cost its clients.
        spent: clients that were sampled, but have no privacy budget left for a round.
        refused: clients that would not train on what they received -> why; None where nobody looks at it.
        epsilon: the largest epsilon that any client has spent so far, where they train privately.
        user_epsilon: what the released models have spent of every client's privacy, where the server hides clients.
        diverged: whether what is trained was no longer finite after this round; it is then the last one, and the
            metrics are those of answering always alike.
        per_class: name -> a value for each class; None each where this round is not evaluated.
        attack: what an attack on updates has to say of this round, by name.
        attacker_flops: floating-point operations that each Byzantine client spent on its attack, on average, where the
            attack trains; see `cost` for what an honest client spends.
        suspected: clients that the rule takes for Byzantine and leaves out, rejected ones included; None of a rule that
            does not say.
        withstands: how many Byzantine clients of so many the rule withstands; None where it is asked nothing, or
            cannot work with so many.
        broken: why the rule could not work with so few clients, where the round was skipped or the rule relaxed; then
            `withstands` is None.
        time: when the round ended by the simulated clock, in seconds; None where none is simulated.
        aggregation_seconds: that the server took to aggregate; no two runs agree on it.
        secure_sums: what a simulated protocol of secure aggregation did, as plain data: who dropped out in which phase,
            bytes and messages; None where there is none.
    """

    round: int
    clients: tuple[int, ...]
    byzantine: tuple[int, ...]
    rejected: tuple[int, ...]
    influence: tuple[float, ...]
    metrics: Mapping[str, float | None]
    dropped: tuple[int, ...] = ()
    client_values: tuple[float, ...] | None = None
    client_tests: Mapping[int, float] | None = None
    cost: EdgeCost | None = None
    spent: tuple[int, ...] = ()
    refused: Mapping[int, str] | None = None
    epsilon: float | None = None
    user_epsilon: float | None = None
    diverged: bool = False
    per_class: Mapping[str, tuple[float, ...] | None] = field(default_factory=dict)
    attack: Mapping[str, float | str] = field(default_factory=dict)
    attacker_flops: float | None = None
    suspected: tuple[int, ...] | None = None
    withstands: int | None = None
    broken: str = ""
    time: float | None = None
    aggregation_seconds: float | None = field(default=None, compare=False)
    secure_sums: Mapping[str, Any] | None = None

    @property
    def evaluated(self) -> bool:
        """Whether the model was evaluated after this round."""
        return any(value is not None for value in self.metrics.values())


class RoundLoop(ABC):
    """A federation that plays one round after another.

    Args:
        data: the clients' resident data.
        streams: the experiment's random streams.
        rounds: length of the experiment.
        clients_per_round: clients sampled each round without replacement; None for all.
        threat: Byzantine clients.
        evaluate_every: rounds between evaluations; the last round is always evaluated.
        sampling: how a round's clients are drawn, see `Sampling`.
        selection: a way of drawing them that need not be fair, in place of `sampling`; None for none.

    Attributes:
        round: how many rounds are done.
        diverged: whether what is trained is no longer finite; the run then ends.
        evaluator: the test set, and what is measured on it; a subclass makes it.

    Raises:
        InputError: numbers out of range.
    """

    evaluator: "Evaluator"

    def __init__(
        self,
        data: ResidentData,
        *,
        streams: Streams,
        rounds: int,
        clients_per_round: int | None = None,
        threat: Threat | None = None,
        evaluate_every: int = 1,
        sampling: Sampling = "fixed",
        selection: Selection | None = None,
    ) -> None:
        self.sampling, self.selection = sampling, selection
        self.data, self.streams, self.rounds, self.evaluate_every = data, streams, rounds, evaluate_every
        self.num_clients = len(data.clients)
        self.clients_per_round = self.num_clients if clients_per_round is None else clients_per_round
        self.threat = threat or Threat()
        if rounds < 1 or evaluate_every < 1:
            raise InputError(f"rounds and evaluate_every must be at least 1, got {rounds} and {evaluate_every}")
        if not 1 <= self.clients_per_round <= self.num_clients:
            raise InputError(f"clients_per_round must lie in [1, {self.num_clients}], got {clients_per_round}")
        if sampling not in get_args(Sampling):
            raise InputError(f"sampling must be fixed or poisson, got {sampling!r}")
        self.round, self.diverged = 0, False

    def run(self) -> Iterator[RoundResult]:
        """Play the remaining rounds, yielding after each."""
        while self.round < self.rounds and not self.over:
            yield self.play()

    def close(self) -> None:  # noqa: B027  (most hold nothing)
        """Let go of what was held outside of this process; no round is played afterwards."""

    @property
    def over(self) -> bool:
        """Whether the run ends here, although rounds remain."""
        return self.diverged

    @abstractmethod
    def play(self) -> RoundResult:
        """Play one round."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """All that the remaining rounds depend on beside the configuration, by name."""

    @abstractmethod
    def restore(self, state: Mapping[str, Tensor], round_number: int) -> None:
        """Continue after `round_number` finished rounds with the state they left.

        Raises:
            InputError: the state is not one of this federation's.
        """

    @abstractmethod
    def weights(self) -> dict[str, Tensor]:
        """What was trained, by name: parameters and running statistics."""

    def conclusion(self) -> Mapping[str, Any]:
        """What a run has found beside what was trained, as plain data for its record; nothing of most."""
        return {}

    @property
    def metric_names(self) -> tuple[str, ...]:
        """What an evaluation measures, the primary metric first."""
        return self.evaluator.metric_names

    @property
    def per_class_names(self) -> tuple[str, ...]:
        """What an evaluation measures of each class."""
        return self.evaluator.per_class_names

    @property
    @abstractmethod
    def engine(self) -> str:
        """How clients were trained, in words."""

    @property
    @abstractmethod
    def num_parameters(self) -> int:
        """Trainable parameters of the model that is evaluated."""

    def sample(self, round_number: int) -> list[int]:
        """The clients of a round, in ascending order."""
        if self.selection is None:
            return sample_clients(self.num_clients, self.clients_per_round, round_number, self.streams, self.sampling)
        return self.selection.clients(self._electorate(round_number), round_number, self.stated_losses)

    def asked(self, round_number: int) -> list[int]:
        """The clients that state their loss before those of a round are chosen among them."""
        return [] if self.selection is None else self.selection.asked(self._electorate(round_number), round_number)

    def _electorate(self, round_number: int) -> Electorate:
        attackers, sizes = self.threat.controlled(round_number), self.data.sizes(range(self.num_clients)).astype(float)
        sizes[sorted(self.threat.in_round(round_number))] *= self.threat.claimed_examples
        return Electorate(self.num_clients, self.clients_per_round, self.streams, attackers, sizes)

    def stated_losses(self, clients: Sequence[int]) -> Float64[np.ndarray, "clients"]:
        """What clients say is the mean loss of the current global model on their examples."""
        raise RuntimeError(f"{type(self).__name__} has no global model whose loss clients could state")

    def over_honest(self, clients: Sequence[int], evaluations: Sequence[Evaluation]) -> Evaluation:
        """The mean figures of clients that have models of their own: what an attacker's can do is nobody's loss.

        Args:
            clients: of the latest round.
            evaluations: of theirs. Those of all count if none of them is honest.
        """
        byzantine = self.threat.in_round(self.round)
        honest = [one for client, one in zip(clients, evaluations, strict=True) if client not in byzantine]
        return average(honest or evaluations)

    def measured(self, evaluation: Evaluation | None) -> dict[str, Any]:
        """What a round's result says of its evaluation; of a round without one, that every metric is None."""
        if evaluation is None:
            return {"metrics": dict.fromkeys(self.metric_names), "per_class": dict.fromkeys(self.per_class_names)}
        return {"metrics": dict(evaluation.metrics), "per_class": dict(evaluation.per_class)}

    def evaluated(self, round_number: int) -> bool:
        """Whether a round ends with an evaluation: one that turns out to be the last one does."""
        # What attackers leave behind is measured when they leave.
        marked = (self.rounds, self.threat.schedule.until)
        scheduled = round_number % self.evaluate_every == 0 or round_number in marked
        return scheduled or (round_number == self.round and self.over)


def sample_clients(
    num_clients: int, clients_per_round: int, round_number: int, streams: Streams, sampling: Sampling = "fixed"
) -> list[int]:
    """The clients of a round, drawn from the `sampling` stream, in ascending order."""
    if clients_per_round == num_clients:
        return list(range(num_clients))
    rng = streams.numpy("sampling", round_number)
    if sampling == "poisson":
        taken: list[int] = np.flatnonzero(rng.random(num_clients) < clients_per_round / num_clients).tolist()
        return taken
    return sorted(rng.choice(num_clients, clients_per_round, replace=False).tolist())


def without(clients: Sequence[int], others: Collection[int]) -> list[int]:
    """Those clients that are not among the others, in order."""
    excluded = set(others)
    return [client for client in clients if client not in excluded]


def checked_state(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A kept state, if it has the names, shapes and types of the current one; on the current one's devices.

    Raises:
        InputError: it has not.
    """
    if state.keys() != expected.keys():
        raise InputError(f"a kept state has {sorted(state)}; expected {sorted(expected)}")
    for name, tensor in expected.items():
        if state[name].shape != tensor.shape or state[name].dtype != tensor.dtype:
            raise InputError(
                f"{name} of a kept state is {state[name].dtype} of shape {tuple(state[name].shape)}; expected "
                f"{tensor.dtype} of shape {tuple(tensor.shape)}"
            )
    return {name: state[name].to(tensor.device) for name, tensor in expected.items()}
