"""What algorithms have in common whose clients train for several steps: their batches, noise and stragglers."""

from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from fedsec.engine.batches import BatchPlan, Noise, plan_batches
from fedsec.engine.correction import Correction
from fedsec.engine.local_training import LocalTraining
from fedsec.engine.resident_data import ResidentData
from fedsec.federation.algorithms.stragglers import Stragglers
from fedsec.federation.algorithms.update_algorithm import Participants, State, UpdateAlgorithm
from fedsec.federation.algorithms.work import LocalStepsWork, Work
from fedsec.privacy.private_training import PrivateTraining
from fedsec.seeds import Streams


@dataclass(frozen=True)
class LocalStepsAlgorithm(UpdateAlgorithm):
    """An algorithm whose clients train for several local steps.

    Args:
        local: what each client does in a round.
    """

    local: LocalTraining = field(default_factory=lambda: LocalTraining(epochs=1, batch_size=32))

    def in_round(self, round_number: int) -> Self:
        algorithm, local = super().in_round(round_number), self.local.in_round(round_number)
        return algorithm if local is self.local else replace(algorithm, local=local)

    def work(self, state: State, participants: Participants) -> Work:
        return LocalStepsWork(self.plans(participants), self.local, self.correction(state, participants))

    def correction(self, state: State, participants: Participants) -> Correction | None:
        """What joins the gradient of every local step; None for nothing.

        Args:
            state: at the beginning of the round.
            participants: of the round.
        """
        return None

    def plans(self, participants: Participants) -> list[BatchPlan]:
        """The batches of each of a round's clients; of those that are slow, only as many as they get done."""
        clients, number, streams = participants.clients, participants.round, participants.streams
        plans = [plan_client(participants.data, client, self.local, number, streams) for client in clients]
        slow = self.slow
        if slow is None or slow.handling != "partial":
            return plans
        late = slow.among(clients, number, streams)
        return [
            plan.first(slow.steps(client, plan.steps, number, streams)) if client in late else plan
            for client, plan in zip(clients, plans, strict=True)
        ]

    @property
    def training(self) -> LocalTraining:
        return self.local

    @property
    def private_problem(self) -> str:
        if self.local.clip_norm is not None:
            return "its clients clip each example's gradient already; expected no local clip_norm beside it"
        return super().private_problem

    def privately(self, private: PrivateTraining) -> Self:
        return replace(self, local=replace(self.local, private=private))

    def batch_and_steps(self, examples: int) -> tuple[int, int]:
        return self.local.batch_of(examples), self.local.steps_of(examples)


@dataclass(frozen=True)
class StragglingAlgorithm(LocalStepsAlgorithm):
    """An algorithm that copes with clients that do not get their steps done.

    Args:
        stragglers: clients that do not get it all done; None for none.
    """

    stragglers: Stragglers | None = None

    @property
    def slow(self) -> Stragglers | None:
        return self.stragglers


NOBODY = np.zeros(0, np.int64)
"""No example's number."""


def plan_client(
    data: ResidentData, client: int, local: LocalTraining, round_number: int, streams: Streams
) -> BatchPlan:
    """A client's batches in a round, from its own stream, and its noise, from another."""
    rng = streams.numpy("client", client, "round", round_number)
    noise = None if local.private is None else noise_of(local.private, client, round_number, streams)
    draws = draws_of(client, round_number, streams)
    size = (1, 1) if local.augmentation is None else data.image_size
    plan = plan_batches(data.clients[client], local, rng, size, noise=noise, draws=draws)
    return plan.without(data.absent.get(client, NOBODY))


def draws_of(client: int, round_number: int, streams: Streams) -> int:
    """The key of what a client's model draws in a round, such as dropout's masks: a stream of its own."""
    return streams.key("client", client, "round", round_number, "model")


def noise_of(private: PrivateTraining, client: int, round_number: int, streams: Streams) -> Noise:
    """A client's noise in a round: it depends on the experiment's seed, the client, the round, and how loud it is.

    Runs of one seed with other noise or another bound must not draw the same numbers: they would cancel between them.
    """
    multiplier = private.noise_of(client)
    loud = f"multiplier {multiplier!r}", f"bound {float(private.max_grad_norm)!r}"
    return Noise(multiplier, streams.key("noise", "client", client, "round", round_number, *loud))
