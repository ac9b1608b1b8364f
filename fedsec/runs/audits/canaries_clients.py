"""Canary clients: their updates are random directions, which nothing that honest clients send points along.

Andrew, Kairouz, Oh, Oprea, McMahan, Suriyakumar: One-shot Empirical Privacy Estimation for Federated Learning. ICLR
2024, arXiv:2302.03098. There all canaries take part, and the null distribution is known (cosines of random directions);
here each is included with probability 1/2 besides, so that a bound follows without any assumption. Their estimate
stands beside it, of the included ones.

Canary clients join the federation: the rate at which every client is drawn stays as declared, and the account of
user-level privacy counts them. One that is not included keeps its place: it is drawn like all others, and sends zeros,
which is to dp_fedavg as if it were not there.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fedsec.auditing import one_shot_estimate
from fedsec.engine.messages import LocalResult, Start
from fedsec.engine.resident_data import ResidentData
from fedsec.errors import InputError
from fedsec.federation.algorithms import FedNova
from fedsec.federation.rounds import RoundResult
from fedsec.federation.updates import Federation
from fedsec.privacy import Epsilon, epsilon
from fedsec.runs.audits.canaries_gradients import clipped
from fedsec.runs.audits.canaries_part import CanaryPart, checked, tensor_of
from fedsec.scenario import CellConfig
from fedsec.scenario.audit.canaries import canary_cohort

if TYPE_CHECKING:
    from fedsec.runs.experiment import Experiment

_LEAST_SPREAD = 0.05
"""Of what canaries score in a round, in units of what one adds: below, exponentials say nothing more."""


class ClientCanaries(CanaryPart):
    """Clients that are included by chance.

    The score `final` of a canary is the cosine of its direction with the final model minus the initial one. `white_box`
    is for who sees every model that the server releases, knows what honest clients sent, and not which canaries are
    there: the sum over rounds of log(1 - q + q exp((x - 1/2) / v)), where x is the model's step along the direction,
    without what honest clients made of it, in units of what one canary adds, v its variance over the canaries of the
    round, and q the rate at which clients are drawn. An account of privacy grants all that.

    Args:
        config: of the cell.
    """

    metric = "user_epsilon_lower"

    def __init__(self, config: CellConfig) -> None:
        super().__init__(config)
        self._white_box = np.zeros(self.settings.count)

    def enter(self, data: ResidentData) -> None:
        self.first = len(data.clients)
        size = int(np.median(data.sizes(range(self.first))))
        # So many examples it would have; nobody trains on them.
        data.clients += [np.resize(data.clients[0], size) for _ in range(self.settings.count)]

    def cohort(self, clients_per_round: int | None) -> int | None:
        if clients_per_round is None:
            return None
        return int(canary_cohort(self.settings, self.config.partition.clients, clients_per_round))

    def attach(self, experiment: "Experiment", folder: Path) -> None:
        federation = experiment.federation
        assert isinstance(federation, Federation)
        algorithm = federation.algorithm
        if len(algorithm.sends) > 1 or algorithm.momentum or isinstance(algorithm, FedNova):
            raise InputError(
                "audit.canaries.unit: canary clients send one update each as it is, and remember none; expected an "
                "algorithm such as fedavg, without worker_momentum"
            )
        self.federation, self._train = federation, federation.local_updates
        federation.local_updates = self._updates
        self.check_room(self.settings.count, copies=4)  # products are formed in float64
        size = federation.parameters.numel()
        drawn = torch.randn(
            self.settings.count, size, generator=self.streams.torch("audit", "canaries", "directions")
        ).to(federation.parameters)
        self.directions = drawn / torch.linalg.vector_norm(drawn, dim=1, keepdim=True)
        self._sign = -1.0 if federation.algorithm.training is None else 1.0  # of gradients, which models step against
        self._initial = self._before = federation.parameters.clone()
        self._gain, self._honest = self._gain_of_one(), torch.zeros_like(federation.parameters)
        self.check()

    def after(self, result: RoundResult) -> None:
        now = self.federation.parameters
        step, self._before = now - self._before, now.clone()
        honest = self._honest.double()
        length = float(honest.square().sum())
        if length and math.isfinite(length):
            step = step - (float(honest @ step.double()) / length) * self._honest
        self._honest = torch.zeros_like(now)
        if bool(step.isfinite().all()):
            rate = self.federation.clients_per_round / self.federation.num_clients
            self._white_box += evidence(self._along(step) / self._gain, rate)
        self._gain = self._gain_of_one()

    def state(self) -> dict[str, Tensor]:
        gain = torch.tensor(self._gain, dtype=torch.float64)
        return {"white_box": tensor_of(self._white_box), "before": self._before.clone(), "gain": gain}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        state = checked(state, self.state())
        self._white_box, self._before = state["white_box"].numpy().copy(), state["before"].to(self._before)
        self._gain = float(state["gain"])

    def scores(self) -> Mapping[str, Float64[np.ndarray, "canaries"]]:
        values = {"white_box": lambda: self._white_box, "final": self.cosines}
        return {score: values[score]() for score in self.settings.score}

    def claim(self, delta: float | None) -> Epsilon | None:
        releases = self.federation.releases
        if releases is None:
            return None
        ledger = releases.ledger
        return epsilon(ledger.spent[0], ledger.delta if delta is None else delta, ledger.accountant)

    def about(self, delta: float) -> Mapping[str, Any]:
        cosines = self.cosines()
        among = cosines[self.included], cosines[~self.included]
        if min(map(len, among)) < 2 or not np.isfinite(cosines).all():
            return {"estimate": None}
        estimate = one_shot_estimate(among[0], self.directions.shape[1], delta, among[1], self.confidence)
        return {"estimate": estimate.as_dict()}

    def cosines(self) -> Float64[np.ndarray, "canaries"]:
        """Of each canary's direction with what training made of the initial model."""
        moved = self.federation.parameters - self._initial
        length = float(torch.linalg.vector_norm(moved.double()))
        return self._along(moved) / length if length else np.zeros(self.settings.count)

    @property
    def norm(self) -> float:
        """Of the canaries' updates in the round to come."""
        return self.settings.norm or float(getattr(self.federation.aggregator, "bound", 1.0))

    def _gain_of_one(self) -> float:
        """By how much one canary moves the model along its direction, where clients count alike."""
        federation = self.federation
        coming = federation.algorithm.in_round(min(federation.round + 1, federation.rounds))
        return coming.server_lr * self.norm / federation.clients_per_round

    def _along(self, step: Float[Tensor, "parameters"]) -> Float64[np.ndarray, "canaries"]:
        products: np.ndarray = (self.directions.double() @ step.double()).cpu().numpy()
        return self._sign * products

    def _updates(self, start: Start, clients: Sequence[int], round_number: int) -> LocalResult:
        """What a round's clients would send: the others train."""
        places = [place for place, client in enumerate(clients) if client < self.first]
        updates = start.parameters.new_zeros(len(clients), start.parameters.shape[-1])
        statistics = start.statistics.expand(len(clients), -1).clone()
        examples = np.zeros(len(clients), np.int64)
        if places:
            trained = self._train(start.rows(places), [clients[place] for place in places], round_number)
            updates[places], statistics[places] = trained.updates, trained.statistics
            examples[places] = trained.examples
            self._honest += clipped(trained.updates, getattr(self.federation.aggregator, "bound", None)).sum(0)
        for place, client in enumerate(clients):
            if client >= self.first and self.included[client - self.first]:
                updates[place] = self.norm * self.directions[client - self.first]
        return LocalResult(updates, statistics, examples)


def evidence(steps: Float64[np.ndarray, "canaries"], rate: float) -> Float64[np.ndarray, "canaries"]:
    """How much likelier a round's step is if a canary is included, as a logarithm; see `ClientCanaries`.

    Args:
        steps: along each canary's direction, in units of what one canary adds.
        rate: at which clients are drawn, in (0, 1].
    """
    # Most canaries add nothing to a round; of those that do, a median knows nothing.
    spread = max(_LEAST_SPREAD, 1.4826 * float(np.median(np.abs(steps - np.median(steps)))))
    likelier = (steps - 0.5) / spread**2
    return likelier if rate >= 1 else np.logaddexp(np.log1p(-rate), np.log(rate) + likelier)
