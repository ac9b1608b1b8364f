"""What a model costs: its parameters, and floating-point operations for one example.

Counted from the calls of a forward pass. `torch.utils.flop_counter` does this too, and is what the tests compare with;
but it imports torch's compiler, which takes each process of a run longer than many a run takes.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fedsec.errors import InputError
from fedsec.models import build


@dataclass(frozen=True)
class Costs:
    """Size and work of a model or a part of one.

    Matrix products and convolutions are counted, a multiplication with its addition as two; normalizations, activations
    and sums, which take no such products, are not.

    Args:
        parameters: all, trainable or not.
        forward_flops: floating-point operations of the forward pass of one example.
        training_flops: those of forward and backward pass. The gradient with respect to the input is not formed, as in
            training, where the input is an image or a received feature map.
    """

    parameters: int
    forward_flops: int
    training_flops: int


def costs(name: str, input_shape: tuple[int, int, int], num_classes: int, **options: Any) -> Costs:
    """What a model of the table costs. Neither allocates weights nor computes.

    The first call of a process takes seconds: to tell a convolution's output shape, torch imports its compiler.

    Args:
        name: a key of `fedsec.models.MODELS`.
        input_shape: (channels, height, width) of one input.
        num_classes: number of logits.
        options: the model's own.

    Raises:
        InputError: the model cannot be built so.
    """
    with torch.device("meta"):
        return _count(build(name, input_shape, num_classes, **options), input_shape)


def module_costs(module: nn.Module, input_shape: tuple[int, ...]) -> Costs:
    """What any module costs, for instance a model's feature extractor. A copy of it is run once, on one example.

    Args:
        module: it takes `[batch, *input_shape]` and returns one tensor.
        input_shape: of one example.

    Raises:
        InputError: the module cannot take the shape, or returns something else.
    """
    return _count(deepcopy(module), input_shape)


def _count(module: nn.Module, input_shape: tuple[int, ...]) -> Costs:
    parameters = list(module.parameters())
    like = next((value for value in parameters if value.is_floating_point()), torch.zeros(()))
    counter = _Counter()
    with torch.enable_grad(), counter:
        try:
            outputs = module.eval()(torch.zeros(1, *input_shape, device=like.device, dtype=like.dtype))
        except (RuntimeError, ValueError, TypeError) as error:
            message = " ".join(str(error).split())
            raise InputError(f"{type(module).__name__} cannot take inputs of shape {input_shape}: {message}") from error
    if not isinstance(outputs, Tensor):
        raise InputError(f"{type(module).__name__}: expected one tensor, got a {type(outputs).__name__}")
    return Costs(sum(value.numel() for value in parameters), 2 * counter.forward, 2 * counter.training)


class _Counter(TorchFunctionMode):
    """Adds up the multiply-adds of products while it is entered: of the forward pass, and with the backward pass.

    A backward pass takes the products of the forward pass once for each factor that needs a gradient.
    """

    forward = 0
    training = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        products = _PRODUCTS.get(func)
        if products is not None:
            one, other = args[0], args[1] if len(args) > 1 else (kwargs or {})["weight"]
            count = products(one, other, result)
            self.forward += count
            self.training += count * (1 + one.requires_grad + other.requires_grad)
        return result


def _convolution(inputs: Tensor, weight: Tensor, outputs: Tensor) -> int:
    return outputs.numel() * weight[0].numel()


def _transposed_convolution(inputs: Tensor, weight: Tensor, outputs: Tensor) -> int:
    return inputs.numel() * weight[0].numel()


def _product(one: Tensor, other: Tensor, outputs: Tensor) -> int:
    return outputs.numel() * one.shape[-1]


_PRODUCTS: dict[Any, Callable[[Tensor, Tensor, Tensor], int]] = {
    **dict.fromkeys((torch.conv1d, torch.conv2d, torch.conv3d, F.conv1d, F.conv2d, F.conv3d), _convolution),
    **dict.fromkeys((F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d), _transposed_convolution),
    **dict.fromkeys(
        (F.linear, torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.mm, Tensor.mm, torch.bmm, Tensor.bmm), _product
    ),
}
