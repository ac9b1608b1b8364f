"""The fast engine: a cohort's models are the rows of one matrix, and one vectorized step trains them all.

Clients are independent, so the gradient of the *sum* of their losses with respect to the stacked
parameters holds every client's own gradient in its row. The forward pass is `vmap` over the rows; the
optimizer is a handful of operations in place on the whole matrix.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from fedsec.engine.batches import BatchPlan
from fedsec.engine.correction import Correction
from fedsec.engine.local_training import LocalTraining
from fedsec.engine.messages import LocalResult, Start, Teacher
from fedsec.engine.optimizers import clip_rows, optimizer
from fedsec.engine.parameters import ParameterLayout
from fedsec.engine.precision import Compute
from fedsec.engine.resident_data import ResidentData
from fedsec.engine.stacked_norm import RunningStatistics, cohort_module
from fedsec.engine.statistics import StatisticsLayout
from fedsec.tasks import Classification, Task


class CohortWorker:
    """Trains several clients at once on a module of its own.

    Args:
        module: the architecture; copied, since `functional_call` swaps attributes on it.
        data: the federation's resident data.
        cumulative: see `CohortTrainer`.
        compute: in which precision; the caller sees to its `arithmetic`. Stacked models are laid out contiguously.
        task: gives each example's loss.
    """

    def __init__(
        self,
        module: nn.Module,
        data: ResidentData,
        *,
        cumulative: bool = False,
        compute: Compute | None = None,
        task: Task | None = None,
    ) -> None:
        self.layout, self.statistics = ParameterLayout.of(module), StatisticsLayout.of(module)
        self.data, self.compute, self.task = data, compute or Compute(), task or Classification()
        stacked, self._batch = cohort_module(module, self.statistics)
        self.module = stacked.to(data.device)
        self._running = RunningStatistics(module, self.statistics, data.device, cumulative=cumulative)

    def train(
        self,
        start: Start,
        plans: Sequence[BatchPlan],
        local: LocalTraining,
        teacher: Teacher | None = None,
        correction: Correction | None = None,
        momentum: Tensor | None = None,
    ) -> LocalResult:
        """What several clients' local training leaves; arguments as of `CohortTrainer.train`.

        Ragged cohorts cost nothing extra in steps: clients are ordered by their number of steps, and a
        step runs on those that still train. Shorter batches are padded with examples of weight zero.
        """
        order = sorted(range(len(plans)), key=lambda i: -plans[i].steps)
        batches = _stack([plans[i] for i in order], self.data.device)
        start = start.rows(order)
        correction = (correction or Correction()).rows(order)
        rows = start.parameters.expand(len(plans), -1).clone()
        statistics = start.statistics.expand(len(plans), -1).clone()
        parameters = {name: view.requires_grad_() for name, view in self.layout.views(rows).items()}
        steps, objective = optimizer(rows.detach(), local, self.layout.sizes), self.task.smoothed(local.label_smoothing)
        buffers = steps.state().get("momentum")
        if momentum is not None and buffers is not None:
            buffers.copy_(momentum[order])
        self._running.reset()
        gradients = torch.empty_like(rows)
        for step, clients in enumerate(batches.active):
            current = parameters if clients == len(rows) else {k: v[:clients] for k, v in parameters.items()}
            examples, weights = batches.examples[step, :clients], batches.weights[step, :clients]
            views = None if batches.views is None else batches.views[step, :clients]
            images, labels = self.data.batch(examples, views, local.augmentation)
            padded = batches.padded[step]
            losses, seen = self._forward(current, images, labels, weights, padded, examples, teacher, objective)
            leaves = torch.autograd.grad(losses.sum(), list(current.values()))
            stand, joined = rows[:clients].detach(), gradients[:clients]
            correction.join(leaves, self.layout, stand, start.parameters, joined, moved=step > 0)
            if local.clip_norm is not None:
                clip_rows(joined, local.clip_norm)
            steps.step(joined)
            self._running.remember(statistics[:clients], seen)
        if momentum is not None and buffers is not None:
            momentum[order] = buffers
        updates, left = torch.empty_like(rows), torch.empty_like(statistics)
        updates[order] = rows.detach() - start.parameters
        left[order] = statistics
        return LocalResult(updates, left, np.array([int(plan.sizes.sum()) for plan in plans]))

    def _forward(
        self,
        parameters: dict[str, Tensor],
        images: Tensor,
        labels: Tensor,
        weights: Tensor,
        padded: bool,
        examples: Tensor,
        teacher: Teacher | None,
        task: Task,
    ) -> tuple[Tensor, Tensor]:
        """Each client's loss, and what its normalization layers saw."""
        taught = None
        if teacher is not None:
            taught = teacher.logits[examples], weights * teacher.known[examples] * teacher.weight

        def loss(
            parameters: dict[str, Tensor],
            images: Tensor,
            labels: Tensor,
            weights: Tensor,
            taught: tuple[Tensor, Tensor] | None,
        ) -> tuple[Tensor, Tensor]:
            self._batch.weights = (weights > 0).to(images.dtype) if padded else None
            with self.compute.autocast(images.device):
                logits = functional_call(self.module, parameters, (images,))
            logits = logits.to(images.dtype)
            total = (task.losses(logits, labels) * weights).sum()
            if taught is not None and teacher is not None:
                targets, shares = taught
                total = total + (teacher.losses(logits, targets) * shares).sum()
            return total, self._batch.statistics(self.statistics, logits)

        stacked = vmap(loss, in_dims=(0, 0, 0, 0, None if taught is None else 0))
        losses_and_seen: tuple[Tensor, Tensor] = stacked(parameters, images, labels, weights, taught)
        return losses_and_seen


@dataclass(frozen=True, eq=False)
class _Batches:
    """The plans of an ordered cohort on the device: [steps, clients, batch], and who is active in each step."""

    examples: Tensor
    weights: Tensor
    views: Tensor | None
    active: list[int]
    padded: list[bool]


def _stack(plans: Sequence[BatchPlan], device: torch.device) -> _Batches:
    """Pad ordered plans to the longest batch with valid examples of weight zero."""
    steps, batch = max(p.steps for p in plans), max(p.examples.shape[1] for p in plans)
    examples = np.zeros((steps, len(plans), batch), dtype=np.int64)
    weights = np.zeros((steps, len(plans), batch), dtype=np.float32)
    views = None if plans[0].views is None else np.zeros((steps, len(plans), batch, 5), dtype=np.int16)
    for client, plan in enumerate(plans):
        width = plan.examples.shape[1]
        examples[: plan.steps, client] = plan.examples[0, 0]
        examples[: plan.steps, client, :width] = plan.examples
        weights[: plan.steps, client] = (np.arange(batch) < plan.sizes[:, None]) / plan.sizes[:, None]
        if views is not None and plan.views is not None:
            views[: plan.steps, client, :width] = plan.views
    active = [sum(p.steps > step for p in plans) for step in range(steps)]
    padded = [bool((weights[step, :clients] == 0).any()) for step, clients in enumerate(active)]
    seen = None if views is None else torch.from_numpy(views).to(device)
    return _Batches(torch.from_numpy(examples).to(device), torch.from_numpy(weights).to(device), seen, active, padded)
