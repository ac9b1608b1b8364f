"""Buffered asynchronous aggregation: the server steps whenever enough updates have arrived, however old.

Nguyen, Malik, Zhan, Yousefpour, Rabbat, Malek, Huba: Federated Learning with Buffered Asynchronous Aggregation. AISTATS
2022, arXiv:2106.06639 (FedBuff). The other staleness weights are those of Xie, Koyejo, Gupta: Asynchronous Federated
Optimization. 2019, arXiv:1903.03934 (FedAsync). Where the papers leave a choice, or we deviate:

- Clients count as `weighting` says, with `uniform` as in the paper: a step is server_lr sum_i p_i s(tau_i) Delta_i,
  where the p_i sum to one. Staleness is a weight: the mean takes it client by client; a rule without weights is told
  nothing of it, and the server moves along its aggregate times the mean of s over the clients that it did not reject.
- Nobody trains twice at a time, and whose update waits is not asked again before the step, so that a buffer's rows are
  of different clients.
- A round is a step of the server. What a client does is computed when its update arrives, from the model that it
  received: a schedule of attacks counts rounds of arrival. Running statistics of batch normalization are the newest,
  but with `bn: local`. Attackers see the newest global model.
- With secure aggregation FedBuff uses trusted hardware, which nothing here simulates: it is refused, as are accounts of
  privacy, of which none is known to hold here for buffers whose members depend on speed.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.engine.local_training import without_worker_momentum
from fedsec.errors import InputError
from fedsec.federation.algorithms.asynchronous.arrivals import Arrivals, Durations
from fedsec.federation.algorithms.local_steps import LocalStepsAlgorithm
from fedsec.federation.algorithms.update_algorithm import Exchange, State
from fedsec.federation.threat import Threat
from fedsec.seeds import Streams

Staleness = Literal["constant", "polynomial", "hinge"]
Refill = Literal["at_once", "each_step"]


@dataclass(frozen=True)
class Asynchronous(LocalStepsAlgorithm):
    """FedBuff: the server moves along the mean of so many updates as soon as they have arrived, old ones counting less.

    The buffer is `clients_per_round`. Who is fast fills it: a Byzantine client that answers at once (`attack.speed`)
    takes part more often than others, and never with an old model.

    State: `models`, [slots, parameters], the models that clients in flight received; `step`, [], the number of the step
    that is being made.

    Args:
        concurrency: clients that train at a time; all by default. All in a buffer of all is FedAvg.
        durations: of one training: `constant`, a second; `lognormal`, exp(spread z) with z drawn once a client;
            `half_normal`, |spread z| with z drawn for each training.
        spread: of the durations.
        staleness: what an update counts from a model tau steps old: `constant`, 1; `polynomial`, (1 + tau)^-decay, by
            default FedBuff's 1 / sqrt(1 + tau); `hinge`, 1 up to `grace`, then 1 / (decay (tau - grace) + 1).
        decay: of the weights.
        grace: of the hinge, in steps.
        refill: when others are asked: `at_once`, when an update arrives; `each_step`, after steps. The latter with a
            concurrency of the buffer waits for everybody: synchronous rounds with a clock.

    Raises:
        InputError: numbers out of range, population weighting, or worker momentum.

    Reference: Nguyen et al. 2022, arXiv:2106.06639
    """

    concurrency: int | None = None
    durations: Durations = "lognormal"
    spread: float = 1.0
    staleness: Staleness = "polynomial"
    decay: float = 0.5
    grace: int = 4
    refill: Refill = "at_once"

    by_arrival: ClassVar[bool] = True

    _arrivals: ClassVar[Arrivals | None] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        without_worker_momentum(self.local, "an asynchronous server does not see every client in turn")
        if self.weighting == "population":
            raise InputError("weighting must be samples or uniform for an asynchronous server, got 'population'")
        for name, known in (("durations", Durations), ("staleness", Staleness), ("refill", Refill)):
            if getattr(self, name) not in get_args(known):
                raise InputError(f"{name} must be one of {', '.join(get_args(known))}, got {getattr(self, name)!r}")
        if self.concurrency is not None and self.concurrency < 1:
            raise InputError(f"concurrency must be at least 1, got {self.concurrency}")
        for name, value in (("spread", self.spread), ("decay", self.decay), ("grace", self.grace)):
            if not 0 <= value < float("inf"):
                raise InputError(f"{name} must be at least 0 and finite, got {value}")

    def running(self, num_clients: int, cohort: int, streams: Streams, threat: Threat) -> Self:
        arrivals = Arrivals(
            num_clients,
            cohort,
            self.concurrency or num_clients,
            streams,
            durations=self.durations,
            spread=self.spread,
            at_once=self.refill == "at_once",
            fast=threat.fixed,
            speed=threat.speed,
        )
        return copy.copy(self)._timed(arrivals)

    def in_round(self, round_number: int) -> Self:
        algorithm = super().in_round(round_number)
        return algorithm if algorithm is self else algorithm._timed(self._arrivals)

    def _timed(self, arrivals: Arrivals | None) -> Self:
        """This one, from now on with the clock of a federation."""
        object.__setattr__(self, "_arrivals", arrivals)
        return self

    @property
    def arrivals(self) -> Arrivals:
        """The clock of the federation that it runs in."""
        if self._arrivals is None:
            raise RuntimeError("who arrives is known within a federation: ask what `running` returns")
        return self._arrivals

    def clients_of(self, round_number: int) -> list[int]:
        return [flight.client for flight in self.arrivals.step(round_number).flights]

    def time(self, round_number: int) -> float:
        return self.arrivals.step(round_number).time

    def init(self, parameters: Float[Tensor, "parameters"], num_clients: int) -> State:
        models = parameters.new_zeros(self.arrivals.slots, parameters.numel())
        return {"parameters": parameters, "models": models, "step": torch.zeros((), dtype=torch.int64)}

    def opened(self, state: State, round_number: int) -> State:
        slots = [flight.slot for flight in self.arrivals.begun(round_number - 1)]
        state["models"][slots] = state["parameters"]
        return {**state, "step": torch.full((), round_number, dtype=torch.int64)}

    def starts(self, state: State, clients: Sequence[int]) -> Float[Tensor, "clients parameters"]:
        slots = {flight.client: flight.slot for flight in self.arrivals.step(int(state["step"])).flights}
        return state["models"][[slots[client] for client in clients]]

    def discounts(self, clients: Sequence[int], round_number: int) -> Float[Tensor, "clients"]:
        """s(tau) of each client of a step."""
        versions = {flight.client: flight.version for flight in self.arrivals.step(round_number).flights}
        ages = torch.tensor([round_number - 1 - versions[client] for client in clients], dtype=torch.float64)
        if self.staleness == "constant":
            return torch.ones_like(ages)
        if self.staleness == "polynomial":
            return (1 + ages) ** -self.decay
        return 1 / (self.decay * (ages - self.grace).clamp(min=0) + 1)

    def counted(
        self, coefficients: Float[Tensor, "clients"], clients: Sequence[int], round_number: int
    ) -> Float[Tensor, "clients"]:
        return coefficients * self.discounts(clients, round_number).to(coefficients)

    def apply(self, state: State, exchange: Exchange, aggregates: Mapping[str, Tensor]) -> State:
        shares = exchange.share.double().cpu()
        discounts = self.discounts(exchange.clients, int(state["step"]))
        heard = float((shares * discounts).sum() / shares.sum()) if bool(shares.any()) else 0.0
        moved = state["parameters"] + self.server_lr * heard * aggregates["update"]
        return {**state, "parameters": moved}
