"""Examples' gradients beside a vector: inner products and lengths, without a gradient for each example in memory.

The inner product of an example's gradient with a vector is the derivative of its loss along the vector, and two
backward passes give all of a batch's. Lengths come from the book-keeping of private training.
"""

import copy
from contextlib import nullcontext

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

from fedsec.data.images import normalize
from fedsec.engine.messages import Start
from fedsec.engine.trainer import CohortTrainer
from fedsec.privacy.gradients.clipping import ClippedSum, OneByOne, twin
from fedsec.privacy.gradients.modes import choose

__all__ = ["gradient_products"]

_BATCH = 100
_TRIED = 3
"""Examples on which the ways to lengths are compared."""


def gradient_products(
    trainer: CohortTrainer,
    model: Start,
    vector: Float[Tensor, "parameters"],
    inputs: Tensor,
    labels: Int64[Tensor, "examples"],
) -> tuple[Float32[Tensor, "examples"], Float32[Tensor, "examples"]]:
    """<g(x), vector> and ||g(x)|| of each example, in evaluation mode.

    Args:
        trainer: gives the architecture, the task, the normalization and the arithmetic.
        model: one model's parameters and running statistics, where gradients are taken.
        vector: of the model's length.
        inputs: as they are stored: images in 0..255, or numbers.
        labels: their classes.

    Returns:
        Inner products and lengths.
    """
    module = copy.deepcopy(trainer.module).eval()
    trainer.layout.load(module, model.parameters)
    trainer.statistics.load(module, model.statistics)
    products, lengths = [], []
    way: ClippedSum | None = None
    with trainer.compute.arithmetic(inputs.device):
        for begin in range(0, len(inputs), _BATCH):
            part = slice(begin, begin + _BATCH)
            images, targets = normalize(inputs[part], trainer.data.normalization), labels[part]
            way = way or _way(module, trainer, images, targets)
            squares = way.total(images, [targets], trainer.task.losses, 1.0)[1]
            lengths.append(squares.sqrt().float())
            products.append(_along(module, trainer, vector, images, targets).float())
    return torch.cat(products), torch.cat(lengths)


def _along(
    module: nn.Module, trainer: CohortTrainer, vector: Tensor, images: Tensor, targets: Tensor
) -> Float[Tensor, "batch"]:
    """The derivative of each example's loss along a vector."""
    leaves = {name: p for name, p in module.named_parameters() if p.requires_grad}
    tangents = [trainer.layout.views(vector)[name].to(p.dtype) for name, p in leaves.items()]
    shares = torch.ones(len(targets), dtype=tangents[0].dtype, device=targets.device, requires_grad=True)
    with torch.enable_grad():
        losses = trainer.task.losses(module(images), targets)
        # The gradient of sum_i w_i loss_i is linear in w; along the vector, the products are its derivative.
        try:
            total = torch.autograd.grad(
                losses @ shares, list(leaves.values()), create_graph=True, allow_unused=True, materialize_grads=True
            )
            along = torch.stack([(part * tangent).sum() for part, tangent in zip(total, tangents, strict=True)]).sum()
            return torch.autograd.grad(along, shares)[0]
        except RuntimeError:  # a layer that cannot be differentiated twice
            losses = trainer.task.losses(module(images), targets)
            return _one_by_one(losses, list(leaves.values()), tangents)


def _one_by_one(losses: Float[Tensor, "batch"], leaves: list[Tensor], tangents: list[Tensor]) -> Float[Tensor, "batch"]:
    """The same by a backward pass for each example."""
    products = []
    for loss in losses:
        rows = torch.autograd.grad(loss, leaves, retain_graph=True, allow_unused=True, materialize_grads=True)
        products.append(torch.stack([(row * part).sum() for row, part in zip(rows, tangents, strict=True)]).sum())
    return torch.stack(products)


def _way(module: nn.Module, trainer: CohortTrainer, images: Tensor, targets: Tensor) -> ClippedSum:
    if len(images) < 2:
        return OneByOne(twin(module))
    few = slice(_TRIED)
    return choose(module, "auto", images[few], [targets[few]], trainer.task.losses).make(twin(module), nullcontext)
