"""A mod for nodes that trust nobody: local differential privacy of whole updates.

Reference: the Gaussian mechanism: Dwork, Roth, The algorithmic foundations of differential privacy, 2014; the local
model: Kasiviswanathan, Lee, Nissim, Raskhodnikova, Smith, What can we learn privately?, 2011, arXiv:0803.0924.
"""

import math
import secrets
from collections.abc import Sequence

import torch
from flwr.app import Message, MetricRecord, RecordDict
from jaxtyping import Float
from torch import Tensor

from fedsec.defense.norms import shortened
from fedsec.errors import InputError
from fedsec.flower.update_mod import NodeUpdate, UpdateMod
from fedsec.privacy import Accountant, Epsilon, Spending, calibrate, check_accountant, check_delta, epsilon
from fedsec.seeds import Streams

__all__ = ["dp_mod"]


class dp_mod(UpdateMod):  # noqa: N801, named as Flower's mods are
    """Sends u min(1, C / ||u||) + N(0, (z C)^2 I) for an update u, and says what that has cost the node so far.

        app = ClientApp(mods=[dp_mod(clip_norm=1.0, target_epsilon=8.0, rounds=20, delta=1e-5)])

    The guarantee is local: (epsilon, delta)-differential privacy of everything about a node's data, towards the server
    too. Two clipped updates are up to 2 C apart, so a round counts as a Gaussian mechanism of noise multiplier z / 2,
    without amplification by sampling, as the server knows whom it asked. That is much noise: who trusts the server
    takes `RobustStrategy(DpFedAvg(...))`, whose bound may adapt, and who fears for single examples trains with `DpSgd`.

    Not covered, and therefore not sent: statistics and counters (the received ones are sent back), metrics that are not
    named in `metrics`, and all else in replies to evaluations and queries. What is named there is sent as it is and is
    outside the guarantee, the number of examples included; that a node failed is seen, too.

    Args:
        clip_norm: C, in the update's own units.
        noise_multiplier: z.
        target_epsilon: in its place: z is the least with which `rounds` rounds cost no more.
        rounds: how often the node sends at most; it sends nothing afterwards. None for no end.
        delta: of the guarantee.
        accountant: rdp, an upper bound; prv, a tighter one, slower; gdp, an approximation that may underestimate.
        metrics: names of the app's metrics that are sent.
        seed: of the noise, for tests: who knows it knows the noise. By default a secret of 128 bits for each round.

    Attributes:
        noise_multiplier: z.

    Raises:
        InputError: neither noise nor target, both, or a number out of range.
    """

    sends_statistics = False

    def __init__(
        self,
        clip_norm: float,
        noise_multiplier: float | None = None,
        *,
        target_epsilon: float | None = None,
        rounds: int | None = None,
        delta: float = 1e-5,
        accountant: Accountant = "rdp",
        metrics: Sequence[str] = ("num-examples",),
        seed: int | None = None,
    ) -> None:
        if not (math.isfinite(clip_norm) and clip_norm > 0):
            raise InputError(f"dp_mod: clip_norm must be positive and finite, got {clip_norm}")
        if (noise_multiplier is None) == (target_epsilon is None):
            raise InputError("dp_mod needs noise_multiplier or target_epsilon, and not both")
        if rounds is not None and rounds < 1:
            raise InputError(f"dp_mod: rounds must be at least 1, got {rounds}")
        check_delta(delta)
        check_accountant(accountant)
        if target_epsilon is not None:
            if rounds is None:
                raise InputError("dp_mod: target_epsilon is of a whole run; expected rounds")
            noise_multiplier = 2 * calibrate(target_epsilon, delta, 1.0, rounds, accountant)
        if noise_multiplier is None or not (math.isfinite(noise_multiplier) and noise_multiplier > 0):
            raise InputError(f"dp_mod: noise_multiplier must be positive and finite, got {noise_multiplier}")
        if isinstance(metrics, str):
            raise InputError(f"dp_mod: metrics must be a list of names, such as [{metrics!r}]")
        self.clip_norm, self.noise_multiplier, self.rounds = clip_norm, noise_multiplier, rounds
        self._delta, self._accountant, self._metrics, self._seed = delta, accountant, tuple(metrics), seed

    def spent(self, releases: int) -> Epsilon:
        """What so many rounds have cost a node."""
        return epsilon([Spending(self.noise_multiplier / 2, 1.0, releases)], self._delta, self._accountant)

    def changed(self, update: NodeUpdate) -> Float[Tensor, "parameters"]:
        if not bool(update.row.isfinite().all()):
            raise InputError("the app's model holds NaN or infinity, which no noise hides; nothing is sent")
        record = update.context.state.get(self.key)
        releases = int(str(record["releases"])) if isinstance(record, MetricRecord) else 0
        if self.rounds is not None and releases >= self.rounds:
            raise InputError(f"{releases} rounds were sent, and the budget is for {self.rounds}; nothing more is sent")
        update.context.state[self.key] = MetricRecord({"releases": releases + 1})
        root = secrets.randbits(128) if self._seed is None else self._seed
        name = (
            "noise",
            "node",
            update.context.node_id,
            "release",
            releases + 1,
            repr((self.clip_norm, self.noise_multiplier)),
        )
        noise = torch.empty_like(update.row).normal_(generator=Streams(root).noise(*name))
        clipped = shortened({"update": update.row}, self.clip_norm)["update"]
        self._report(update, self.spent(releases + 1))
        return clipped.add_(noise, alpha=self.noise_multiplier * self.clip_norm)

    def untrained(self, reply: Message) -> Message:
        if not reply.has_error():
            self._withhold(reply.content)
            for key in list(reply.content.array_records):
                del reply.content[key]
        return reply

    def _withhold(self, content: RecordDict) -> None:
        """Leave the metrics that may be sent."""
        for key, record in list(content.metric_records.items()):
            content[key] = MetricRecord({name: value for name, value in record.items() if name in self._metrics})
        for key in list(content.config_records):
            del content[key]

    def _report(self, update: NodeUpdate, spent: Epsilon) -> None:
        """Leave the metrics that may be sent, and add what was spent."""
        content = update.reply.content
        self._withhold(content)
        if content.metric_records:
            next(iter(content.metric_records.values()))["fedsec-epsilon"] = spent.value
