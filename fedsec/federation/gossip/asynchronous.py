"""One round of clients that train and exchange with single neighbors at random times, with a continuous momentum.

    dx = eta (x~ - x) dt - u dN - 1/2 (x - x_j) dM,    dx~ = eta (x - x~) dt - u dN - alpha~ (x - x_j) dM

of each client: N counts its trainings, which move both of its models by the same u, and M its exchanges with a neighbor
j. Between events both flow together, which conserves their sum. Only x is sent, trained and evaluated. With eta = 0
nothing of x~ reaches x, which is then averaged with one neighbor at a time.

Nabli, Belilovsky, Oyallon, NeurIPS 2023, arXiv:2306.08289. **Deviations**: a training is all of `local` and no single
gradient, begins and ends at one moment, and an exchange takes no time. Of a rate of gradients that clients do not have
in common nothing is simulated: all train once a round, on average.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64
from torch import Tensor

from fedsec.engine.batches import BatchPlan
from fedsec.engine.local_training import LocalTraining
from fedsec.engine.messages import Start
from fedsec.engine.trainer import CohortTrainer
from fedsec.federation.algorithms.local_steps import plan_client
from fedsec.federation.gossip.exchanges import Event, Exchanges, events_of, momentum_of, rates_of
from fedsec.federation.gossip.neighborhoods import Mixed, Neighborhoods, summary
from fedsec.seeds import Streams
from fedsec.threat.rows import finite_rows

__all__ = ["AsynchronousRound", "Clock"]

Models = Float[Tensor, "clients parameters"]


@dataclass(eq=False)
class AsynchronousRound:
    """What a round left.

    Attributes:
        mixed: models, influence and reports, as after a step of all. Influence is handed on by exchanges, of which a
            Byzantine client's message is its own alone; what x~ carries of others is not followed.
        momentum: x~ of each client.
        statistics: running statistics of each client.
        examples: how many gradients of examples each client computed.
        exchanges: how many there were.
    """

    mixed: Mixed
    momentum: Models
    statistics: Float[Tensor, "clients statistics"]
    examples: Int64[np.ndarray, "clients"]
    exchanges: int


class Clock:
    """Plays rounds by their events.

    Args:
        settings: how often clients exchange, and eta.
        neighborhoods: whose Byzantine clients forge what they send.
        trainer: of the clients.
        streams: the experiment's.

    Attributes:
        rates: of exchanges.
        eta: in effect.
        alpha: alpha~, by how much an exchange moves x~.
    """

    def __init__(
        self, settings: Exchanges, neighborhoods: Neighborhoods, trainer: CohortTrainer, streams: Streams
    ) -> None:
        weights = neighborhoods.weights
        self.rates = rates_of((weights > 0) & ~np.eye(len(weights), dtype=bool), settings.rate)
        eta, self.alpha = momentum_of(self.rates)
        self.eta = eta if settings.eta is None else settings.eta
        self._neighborhoods, self._trainer, self._streams = neighborhoods, trainer, streams

    def play(
        self,
        models: Models,
        momentum: Models,
        statistics: Float[Tensor, "clients statistics"],
        local: LocalTraining,
        byzantine: frozenset[int],
        round_number: int,
    ) -> AsynchronousRound:
        """What the events of a round make of all clients.

        Args:
            models: x; left unchanged.
            momentum: x~; likewise.
            statistics: running statistics; likewise.
            local: what a training is, in this round.
            byzantine: clients that attack in this round.
            round_number: from 1.
        """
        x, ahead, statistics = models.clone(), momentum.clone(), statistics.clone()
        count, last = len(x), np.zeros(len(x))
        sole = np.eye(count)
        influence, examples = sole.copy(), np.zeros(count, np.int64)
        reports, rejected, exchanges = list[Mapping[str, float | str]](), set[int](), 0
        for event in events_of(self.rates, round_number, self._streams):
            for client in (event.one, event.other)[: 1 if event.other < 0 else 2]:
                self._mix(x, ahead, client, event.time - last[client])
                last[client] = event.time
            if event.other < 0:
                plan = self._plan(event, local, round_number)
                start = Start(x[event.one].clone(), statistics[event.one].clone())
                trained = self._trainer.train(start, [plan], local)
                x[event.one] += trained.updates[0]
                ahead[event.one] += trained.updates[0]
                statistics[event.one] = trained.statistics[0]
                examples[event.one] += trained.examples[0]
                continue
            exchanges += 1
            before, shares = x[[event.one, event.other]], influence[[event.one, event.other]]
            for own, (client, neighbor) in enumerate([(event.one, event.other), (event.other, event.one)]):
                apart = self._neighborhoods.of_one(
                    (client, neighbor), before[own], before[1 - own], byzantine, round_number, event.number, reports
                )
                if not bool(finite_rows(apart[None])):
                    if bool(finite_rows(before[own][None])):  # else the neighbor's may be, and the difference is not
                        rejected.add(neighbor)
                    continue
                x[client] += 0.5 * apart
                ahead[client] += self.alpha * apart
                theirs = sole[neighbor] if neighbor in byzantine else shares[1 - own]
                influence[client] = (shares[own] + theirs) / 2
        for client in range(count):
            self._mix(x, ahead, client, 1 - last[client])
        honest = [client for client in range(count) if client not in byzantine] or list(range(count))
        report = summary(reports) | self._neighborhoods.closeness(byzantine)
        mixed = Mixed(x, influence[honest].mean(0), rejected, report)
        return AsynchronousRound(mixed, ahead, statistics, examples, exchanges)

    def _mix(self, x: Models, ahead: Models, client: int, elapsed: float) -> None:
        """Let both models of a client flow together for a time; exact, as the equation is linear."""
        if self.eta and elapsed > 0:
            apart = (ahead[client] - x[client]) * (-math.expm1(-2 * self.eta * elapsed) / 2)
            x[client] += apart
            ahead[client] -= apart

    def _plan(self, event: Event, local: LocalTraining, round_number: int) -> BatchPlan:
        """A client's batches: the first training in a round has those of a round of all, others have their own."""
        streams = self._streams.branch("gossip", "training", event.number) if event.number else self._streams
        return plan_client(self._trainer.data, event.one, local, round_number, streams)
