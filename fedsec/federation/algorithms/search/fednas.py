"""FedNAS: clients search for an architecture together, by training a network that holds all of a space at once.

He, Annavaram, Avestimehr: Towards Non-I.I.D. and Invisible Data with FedNAS: Federated Deep Learning via Neural
Architecture Search. 2020, arXiv:2004.08546, with the searches of MiLeNAS (He et al., CVPR 2020, arXiv:2003.12238) and,
first order, of DARTS (Liu et al., ICLR 2019, arXiv:1806.09055). Where the papers leave a choice, or we deviate:

- Weights w and preferences alpha are one row, which the server's rule judges and averages as a whole.
- MiLeNAS adds both gradients of alpha at one place; here a step on the validation batch comes first, as in DARTS.
- Both are trained by plain SGD (the papers give w momentum and decay, and alpha Adam).
- The space is small and has no normalization, see `darts_small`; the paper's is DARTS' for CIFAR-10.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedsec.engine.batches import BatchPlan, plan_batches
from fedsec.engine.correction import Correction
from fedsec.engine.local_training import FLOAT32_MAX, LocalTraining
from fedsec.engine.messages import LocalResult, Start
from fedsec.engine.parameters import ParameterLayout
from fedsec.engine.trainer import CohortTrainer
from fedsec.errors import InputError
from fedsec.federation.algorithms.local_steps import StragglingAlgorithm, draws_of
from fedsec.federation.algorithms.update_algorithm import Participants, State
from fedsec.federation.algorithms.work import LocalStepsWork, Work
from fedsec.models.darts_small import ALPHAS, DartsSmall

Level = Literal["mixed", "bilevel"]


@dataclass(frozen=True)
class FedNAS(StragglingAlgorithm):
    """Federated averaging of a supernet's weights w and preferences alpha; at the end the architecture is derived.

    Each client holds some of its examples out for validation, the same in all rounds. For each batch of the others:

        alpha <- alpha - alpha_lr lam grad_alpha L_validation(w, alpha)
        w <- w - lr grad_w L_train(w, alpha), and mixed: alpha <- alpha - alpha_lr grad_alpha L_train(w, alpha)

    With nothing held out, mixed and alpha_lr equal to the local rate it is FedAvg of the supernet, to the bit; with
    alpha_lr 0 it is FedAvg of a supernet whose preferences are held fast. Rules judge w and alpha as one row, of which
    alpha is a tiny part: an attack that writes on alpha alone is short. Attackers that train do so by one loss, on all
    examples, w and alpha alike. State: `alphas`, [alphas], their places in the vector of all parameters.

    Args:
        alpha_lr: the rate of alpha; no schedule changes it.
        validation: which share of its examples a client holds out, at least one of them (a client's only example is
            on both sides); 0 for none, and then alpha learns from the training batches alone.
        level: `mixed` (MiLeNAS), or `bilevel` (DARTS, first order), which keeps training batches from alpha.
        lam: how much validation batches count.

    Raises:
        InputError: numbers out of range, nothing that alpha could learn from, an optimizer other than plain SGD, or,
            with the model, no preferences in it.

    Reference: He et al. 2020, arXiv:2004.08546
    """

    alpha_lr: float = 0.3
    validation: float = 0.5
    level: Level = "mixed"
    lam: float = 1.0

    private_clients: ClassVar[bool] = True
    forgets_rows: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("alpha_lr", "lam"):
            if not 0 <= getattr(self, name) <= FLOAT32_MAX:
                raise InputError(f"{name} must be finite in float32 and not negative, got {getattr(self, name)}")
        if not 0 <= self.validation < 1:
            raise InputError(f"validation must lie in [0, 1), got {self.validation}")
        if self.level not in ("mixed", "bilevel"):
            raise InputError(f"level must be mixed or bilevel, got {self.level!r}")
        if self.level == "bilevel" and not self.validation:
            raise InputError("bilevel search has validation examples teach alpha; expected validation above 0, got 0")
        local = self.local
        if local.optimizer != "sgd" or local.momentum or local.weight_decay:
            raise InputError(
                "FedNAS takes steps of plain SGD, since those on validation batches move alpha alone; expected local "
                f"optimizer sgd, momentum 0 and weight_decay 0, got {local.optimizer}, {local.momentum} and "
                f"{local.weight_decay}"
            )

    def begin(self, module: nn.Module, parameters: Float[Tensor, "parameters"], num_clients: int) -> State:
        shapes = ParameterLayout.of(module).shapes
        if not isinstance(module, DartsSmall) or ALPHAS not in shapes:
            raise InputError(
                f"FedNAS searches a space of architectures, and {type(module).__name__} is one; expected model "
                "darts_small without an architecture"
            )
        flags = [torch.full((shape.numel(),), name == ALPHAS) for name, shape in shapes.items()]
        return {"parameters": parameters, "alphas": torch.cat(flags).nonzero().squeeze(1).to(parameters.device)}

    def conclusion(self, module: nn.Module) -> Mapping[str, Any]:
        if not isinstance(module, DartsSmall) or module.alphas is None or not module.alphas.isfinite().all():
            return {}
        weights = module.alphas.detach().softmax(1)
        return {
            "architecture": module.architecture,
            "preferences": [[round(weight, 4) for weight in edge] for edge in weights.tolist()],
        }

    def work(self, state: State, participants: Participants) -> Work:
        plans, places, ratio = self.plans(participants), state["alphas"], self.alpha_lr / self.local.lr
        count = len(participants.clients)
        training = torch.ones_like(state["parameters"])
        training[places] = ratio if self.level == "mixed" else 0
        together = None if ratio == 1 and self.level == "mixed" else Correction(mask=training.expand(count, -1))
        if not self.validation:
            return LocalStepsWork(plans, self.local, together)
        held_out = torch.zeros_like(training)
        held_out[places] = self.lam * ratio
        alone = Correction(mask=held_out.expand(count, -1))
        return _Search(plans, self._validation(participants, plans), self.local, together, alone)

    def plans(self, participants: Participants) -> list[BatchPlan]:
        if not self.validation:
            return super().plans(participants)
        data = copy.copy(participants.data)
        data.clients = list(data.clients)
        for client in participants.clients:
            data.clients[client] = self.halves(participants, client)[0]
        return super().plans(replace(participants, data=data))

    def halves(self, participants: Participants, client: int) -> tuple[np.ndarray, np.ndarray]:
        """Which examples a client trains on, and which it holds out.

        Args:
            participants: of any round.
            client: one of them.
        """
        examples = participants.data.clients[client]
        if len(examples) == 1:
            return examples, examples
        order = participants.streams.numpy("client", client, "validation").permutation(len(examples))
        count = min(max(1, round(self.validation * len(examples))), len(examples) - 1)
        return examples[np.sort(order[count:])], examples[np.sort(order[:count])]

    def _validation(self, participants: Participants, plans: Sequence[BatchPlan]) -> list[BatchPlan]:
        """A batch of held out examples for each training batch.

        Args:
            participants: of the round.
            plans: the training batches.
        """
        number, streams, validating = participants.round, participants.streams.branch("validation"), []
        size = (1, 1) if self.local.augmentation is None else participants.data.image_size
        for client, plan in zip(participants.clients, plans, strict=True):
            local = replace(self.local, epochs=None, steps=plan.steps)
            rng = streams.numpy("client", client, "round", number)
            draws = draws_of(client, number, streams)
            validating.append(plan_batches(self.halves(participants, client)[1], local, rng, size, draws=draws))
        return validating


@dataclass(frozen=True, eq=False)
class _Search(Work):
    """Steps on validation batches and on training batches, in turns.

    Args:
        plans: the training batches of each client.
        validating: one for each of them.
        local: how both are taken.
        training: what of the gradients of training batches counts; None for all of it.
        held_out: what of those of validation batches.
    """

    plans: Sequence[BatchPlan]
    validating: Sequence[BatchPlan]
    local: LocalTraining
    training: Correction | None
    held_out: Correction

    def perform(self, trainer: CohortTrainer, start: Start, clients: Sequence[int]) -> LocalResult:
        rows = start.parameters.expand(len(clients), -1).clone()
        statistics = start.statistics.expand(len(clients), -1).clone()
        examples = np.zeros(len(clients), np.int64)
        for number in range(max(plan.steps for plan in self.plans)):
            active = [place for place, plan in enumerate(self.plans) if number < plan.steps]
            turns = (self.validating, self.held_out), (self.plans, self.training)
            for plans, correction in turns:
                one = [_step(plans[place], number) for place in active]
                masked = None if correction is None else correction.rows(active)
                step = trainer.train(Start(rows[active], statistics[active]), one, self.local, correction=masked)
                rows[active] += step.updates
                statistics[active] = step.statistics
                examples[active] += step.examples
        return LocalResult(rows - start.parameters, statistics, examples)


def _step(plan: BatchPlan, number: int) -> BatchPlan:
    """One of a plan's batches."""
    size, only = plan.sizes[number], slice(number, number + 1)
    views = None if plan.views is None else plan.views[only, :size]
    draws = None if plan.draws is None else plan.draws ^ number
    return replace(plan, examples=plan.examples[only, :size], sizes=plan.sizes[only], views=views, draws=draws)
