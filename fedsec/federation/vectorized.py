"""The fast engine: a cohort's models are the rows of one matrix, and one vectorized step trains them all.

Clients are independent, so the gradient of the *sum* of their losses with respect to the stacked
parameters holds every client's own gradient in its row. The forward pass is `vmap` over the rows; the
optimizer is a handful of operations in place on the whole matrix.
"""

import copy
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, vmap

from fedsec.federation.batches import BatchPlan, LocalTraining
from fedsec.federation.parameters import ParameterLayout
from fedsec.federation.resident import ResidentData


class CohortWorker:
    """Trains several clients at once on a module of its own.

    Args:
        module: the architecture; copied, since `functional_call` swaps attributes on it.
        data: the federation's resident data.
    """

    def __init__(self, module: nn.Module, data: ResidentData) -> None:
        self.layout = ParameterLayout.of(module)
        self.data = data
        self.module = copy.deepcopy(module).to(data.device).train()
        self._losses = vmap(self._loss, randomness="different")

    def train(
        self, start: Float[Tensor, "parameters"], plans: Sequence[BatchPlan], local: LocalTraining
    ) -> Float[Tensor, "clients parameters"]:
        """The updates of several clients: their parameters after local training minus `start`.

        Ragged cohorts cost nothing extra in steps: clients are ordered by their number of steps, and a
        step runs on those that still train. Shorter batches are padded with examples of weight zero.
        """
        order = sorted(range(len(plans)), key=lambda i: -plans[i].steps)
        examples, weights, active = _stack([plans[i] for i in order], self.data.device)
        rows = start.expand(len(plans), -1).clone()
        parameters = {name: view.requires_grad_() for name, view in self.layout.views(rows).items()}
        optimizer = _Adam(rows, local) if local.optimizer == "adam" else _SGD(rows, local)
        gradients = torch.empty_like(rows)
        for step, clients in enumerate(active):
            current = parameters if clients == len(rows) else {k: v[:clients] for k, v in parameters.items()}
            images, labels = self.data.batch(examples[step, :clients])
            losses = self._losses(current, images, labels, weights[step, :clients])
            leaves = torch.autograd.grad(losses.sum(), list(current.values()))
            torch.cat([leaf.flatten(1) for leaf in leaves], dim=1, out=gradients[:clients])
            optimizer.step(gradients[:clients], step)
        updates = torch.empty_like(rows)
        updates[order] = rows - start
        return updates

    def _loss(self, parameters: dict[str, Tensor], images: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        logits = functional_call(self.module, parameters, (images,))
        return (F.cross_entropy(logits, labels, reduction="none") * weights).sum()


class _SGD:
    """SGD with heavy-ball momentum and weight decay (PyTorch's conventions) on the first rows of a matrix."""

    def __init__(self, rows: Float[Tensor, "clients parameters"], local: LocalTraining) -> None:
        self.rows, self.local = rows, local
        self.momentum = torch.zeros_like(rows) if local.momentum else None

    @torch.no_grad()
    def step(self, gradients: Float[Tensor, "active parameters"], step: int) -> None:
        rows = self.rows[: len(gradients)]
        if self.local.weight_decay:
            gradients.add_(rows, alpha=self.local.weight_decay)
        if self.momentum is not None:
            gradients = self.momentum[: len(gradients)].mul_(self.local.momentum).add_(gradients)
        rows.add_(gradients, alpha=-self.local.lr)


class _Adam:
    """Adam (PyTorch's defaults: betas 0.9 and 0.999, eps 1e-8) on the first rows of a matrix."""

    def __init__(self, rows: Float[Tensor, "clients parameters"], local: LocalTraining) -> None:
        self.rows, self.local = rows, local
        self.first, self.second = torch.zeros_like(rows), torch.zeros_like(rows)

    @torch.no_grad()
    def step(self, gradients: Float[Tensor, "active parameters"], step: int) -> None:
        active = len(gradients)
        rows, first, second = self.rows[:active], self.first[:active], self.second[:active]
        if self.local.weight_decay:
            gradients.add_(rows, alpha=self.local.weight_decay)
        first.lerp_(gradients, 0.1)
        second.mul_(0.999).addcmul_(gradients, gradients, value=0.001)
        denominator = second.sqrt().div_((1 - 0.999 ** (step + 1)) ** 0.5).add_(1e-8)
        rows.addcdiv_(first, denominator, value=-self.local.lr / (1 - 0.9 ** (step + 1)))


def _stack(plans: Sequence[BatchPlan], device: torch.device) -> tuple[Tensor, Tensor, list[int]]:
    """Pad ordered plans into [steps, clients, batch] example numbers and weights, and the active clients a step."""
    steps, batch = max(p.steps for p in plans), max(p.examples.shape[1] for p in plans)
    examples = np.zeros((steps, len(plans), batch), dtype=np.int64)
    weights = np.zeros((steps, len(plans), batch), dtype=np.float32)
    for client, plan in enumerate(plans):
        examples[: plan.steps, client] = plan.examples[0, 0]
        examples[: plan.steps, client, : plan.examples.shape[1]] = plan.examples
        weights[: plan.steps, client] = (np.arange(batch) < plan.sizes[:, None]) / plan.sizes[:, None]
    active = [sum(p.steps > step for p in plans) for step in range(steps)]
    return torch.from_numpy(examples).to(device), torch.from_numpy(weights).to(device), active
