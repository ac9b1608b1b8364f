"""FedNova: what clients send is what they did in one step, so that those that did more of them do not count for more.

Wang, Liu, Liang, Joshi, Poor: Tackling the Objective Inconsistency Problem in Heterogeneous Federated Optimization.
NeurIPS 2020, arXiv:2007.07481, section 4. Where the paper leaves a choice, or we deviate:

- A client divides by ||a_i||_1 and keeps the learning rate in its row: rows are updates, lr times the paper's d_i.
- tau_eff is sum_i p_i ||a_i||_1, what the mean of FedAvg amounts to, with the proximal term as well (where the authors'
  code takes the number of steps): equal steps are FedAvg, or FedProx, whatever the momentum. Rounding alone differs.
- With momentum *and* a proximal term, which the paper treats one by one, a_i is what both do together.
- Weight decay belongs to the clients' objective and leaves a_i alone.
- Rules, attacks and the accounts of influence see divided rows; curious servers and recordings, which know the steps,
  see them multiplied again. Attackers that train send what they trained, divided like the others'.
- What a client says of its steps is believed, and scales what all others are moved by: see `FedNova`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.engine.correction import Correction
from fedsec.engine.local_training import FLOAT32_MAX, without_worker_momentum
from fedsec.engine.messages import LocalResult, Start
from fedsec.engine.trainer import CohortTrainer
from fedsec.errors import InputError
from fedsec.federation.algorithms.local_steps import StragglingAlgorithm
from fedsec.federation.algorithms.update_algorithm import Exchange, Participants, State
from fedsec.federation.algorithms.work import LocalStepsWork, Work

EffectiveSteps = Literal["mean", "median"]


@dataclass(frozen=True)
class FedNova(StragglingAlgorithm):
    """Normalized averaging: w_{t+1} = w_t + server_lr tau_eff sum_i p_i (w_i - w_t) / ||a_i||_1.

    a_i holds how much each of a client's gradients moved it, in learning rates, so that ||a_i||_1 is its number of
    steps for plain SGD. Slow clients' partial work counts by what they did.

    A Byzantine client may say anything of its steps. Its own row it could forge as well, but tau_eff is everybody's:
    who claims k times its steps (`attack.claimed_examples` does, for steps of whole epochs) multiplies how far all are
    moved by about 1 + p_i (k - 1), whatever the rule makes of the rows. Where the server prescribes a number of steps,
    no claim counts as more. Elsewhere `effective_steps: median` bounds tau_eff by honest claims, as long as Byzantine
    clients have less than half of the weight (of which `weighting: samples` lets them claim as much as they like).

    Args:
        mu: strength of a proximal term as FedProx has it; none with 0.
        effective_steps: how tau_eff is made of what clients say of their steps: `mean`, the paper's; `median`, the
            weighted median.

    Raises:
        InputError: mu is out of range or makes local steps diverge, an optimizer other than SGD, or worker momentum.

    Reference: Wang et al. 2020, arXiv:2007.07481
    """

    mu: float = 0.0
    effective_steps: EffectiveSteps = "mean"

    replayable: ClassVar[bool] = True
    private_examples: ClassVar[bool] = True
    server_trains: ClassVar[bool] = True
    slow_clients: ClassVar[Literal["drop", "partial"]] = "partial"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.mu <= FLOAT32_MAX:
            raise InputError(f"mu must be finite in float32 and not negative, got {self.mu}")
        if self.effective_steps not in ("mean", "median"):
            raise InputError(f"effective_steps must be mean or median, got {self.effective_steps!r}")
        if self.local.optimizer != "sgd":
            raise InputError(
                f"FedNova divides by what steps of SGD sum up to; expected local optimizer sgd, got "
                f"{self.local.optimizer}"
            )
        without_worker_momentum(self.local, "FedNova divides the update of a single round")
        if self.mu * self.local.lr >= 1:
            raise InputError(
                f"FedNova: mu times the local learning rate must be below 1, or a step overshoots the model received; "
                f"got mu {self.mu} and lr {self.local.lr}"
            )

    def work(self, state: State, participants: Participants) -> Work:
        steps = LocalStepsWork(self.plans(participants), self.local, self.correction(state, participants))
        return _DividedSteps(steps, [self.unit(plan.steps) for plan in steps.plans])

    def correction(self, state: State, participants: Participants) -> Correction | None:
        """mu (w - w_t), the gradient of the proximal term."""
        return Correction(alpha=self.mu) if self.mu else None

    def unit(self, steps: int) -> float:
        """||a||_1 of so many steps: how far they move a client, in learning rates, along a gradient that stays one.

        tau for plain SGD; (tau - rho (1 - rho^tau) / (1 - rho)) / (1 - rho) with momentum rho; (1 - (1 - lr mu)^tau) /
        (lr mu) with a proximal term.
        """
        moved, velocity = 0.0, 0.0
        for _ in range(steps):
            velocity = self.local.momentum * velocity + 1 - self.local.lr * self.mu * moved
            moved += velocity
        return moved

    def apply(self, state: State, exchange: Exchange, aggregates: Mapping[str, Tensor]) -> State:
        assert exchange.units is not None
        effective = self._effective(exchange.units, exchange.share)
        return super().apply(state, exchange, {"update": effective * aggregates["update"]})

    def _effective(self, units: Float[Tensor, "clients"], share: Float[Tensor, "clients"]) -> float:
        """tau_eff.

        Args:
            units: ||a_i||_1 as clients say.
            share: of each of them in the federation.
        """
        claims, weights = units.double(), share.double()
        if self.local.steps is not None:
            claims = claims.clamp(max=self.unit(self.local.steps))
        if self.effective_steps == "mean":
            return float(claims @ weights / weights.sum())
        claims, order = claims.sort()
        reached = weights[order].cumsum(0) >= weights.sum() / 2
        return float(claims[reached.int().argmax()])


@dataclass(frozen=True, eq=False)
class _DividedSteps(Work):
    """Local training, and by what clients divide what it moved.

    Args:
        steps: the training.
        units: of each client.
    """

    steps: LocalStepsWork
    units: Sequence[float]

    def perform(self, trainer: CohortTrainer, start: Start, clients: Sequence[int]) -> LocalResult:
        trained = self.steps.perform(trainer, start, clients)
        return replace(trained, units=torch.tensor(self.units, dtype=torch.float64).to(trained.updates))
