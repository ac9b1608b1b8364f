"""The reference engine: one client after another, in plain PyTorch."""

import copy

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fedsec.federation.batches import BatchPlan, LocalTraining
from fedsec.federation.parameters import ParameterLayout
from fedsec.federation.resident import ResidentData

MICROBATCH = 256
"""Examples a full-batch gradient takes at a time: the sum is the same, and the activations stay in the cache."""


class LoopWorker:
    """Trains single clients on a module of its own, whose parameters are views of one flat vector.

    Args:
        module: the architecture; copied.
        data: the federation's resident data.
    """

    def __init__(self, module: nn.Module, data: ResidentData) -> None:
        self.layout = ParameterLayout.of(module)
        self.data = data
        self.module = copy.deepcopy(module).to(data.device).train()
        self.flat = self.layout.flatten(self.module)
        parameters = dict(self.module.named_parameters())
        self.parameters = [parameters[name] for name in self.layout.shapes]
        for parameter, view in zip(self.parameters, self.layout.views(self.flat).values(), strict=True):
            parameter.data = view

    def train(
        self, start: Float[Tensor, "parameters"], plan: BatchPlan, local: LocalTraining
    ) -> Float[Tensor, "parameters"]:
        """One client's update: its parameters after local training minus `start`."""
        self.flat.copy_(start)
        optimizer = self._optimizer(local)
        examples = torch.from_numpy(plan.examples).to(self.data.device)
        for step, size in enumerate(plan.sizes.tolist()):
            images, labels = self.data.batch(examples[step, :size])
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(F.cross_entropy(self.module(images), labels))
            optimizer.step()
        return self.flat - start

    def gradient(self, start: Float[Tensor, "parameters"], examples: Tensor) -> Float[Tensor, "parameters"]:
        """The gradient of the mean loss over the given examples."""
        self.flat.copy_(start)
        self.module.zero_grad(set_to_none=True)
        for part in torch.split(examples, MICROBATCH):
            images, labels = self.data.batch(part)
            loss = F.cross_entropy(self.module(images), labels, reduction="sum") / len(examples)
            torch.autograd.backward(loss)
        return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in self.parameters])

    def _optimizer(self, local: LocalTraining) -> torch.optim.Optimizer:
        if local.optimizer == "adam":
            return torch.optim.Adam(self.parameters, lr=local.lr, weight_decay=local.weight_decay)
        return torch.optim.SGD(self.parameters, lr=local.lr, momentum=local.momentum, weight_decay=local.weight_decay)
