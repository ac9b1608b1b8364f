"""Per-example gradients of a layer, from its input and the gradient at its output, without one backward pass each.

Norms: Goodfellow 2015, arXiv:1510.01799 (linear layers); Li, Tramer, Liang, Hashimoto, ICLR 2022, arXiv:2110.05679
(sequences); Bu, Mao, Xu, NeurIPS 2022, arXiv:2205.10683 (convolutions: the cheaper of two ways, layer by layer).
Clipped sums: Bu, Wang, Zha, Karypis, ICML 2023, arXiv:2210.00038: no second backward pass.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

from fedsec.arithmetic import tf32_allowed


def rounding(device: torch.device) -> float:
    """By how much an operation on float32 errs, relative to its result; more where a GPU may compute in TF32."""
    return 2.0**-11 if device.type == "cuda" and tf32_allowed() else 2.0**-24


class Pending(ABC):
    """A parameter's per-example gradients, not necessarily formed.

    Attributes:
        numbers: how many numbers of an example's gradient are held.
    """

    numbers: int = 0

    @abstractmethod
    def squares(self) -> Float[Tensor, "batch"]:
        """Squared norm of each example's gradient, in float64; never less than what `total` makes of it alone."""

    @abstractmethod
    def total(self, weights: Float[Tensor, "batch"]) -> Float[Tensor, "*shape"]:
        """Weighted sum of the gradients, in the parameter's shape up to flattening."""

    @abstractmethod
    def formed(self) -> Float[Tensor, "batch numbers"]:
        """The gradients themselves."""


class Formed(Pending):
    """Gradients that were cheap to form.

    Args:
        rows: one a row.
    """

    def __init__(self, rows: Float[Tensor, "batch numbers"]) -> None:
        self.rows, self.numbers = rows, rows.shape[1]

    def squares(self) -> Float[Tensor, "batch"]:
        norms: Tensor = torch.linalg.vector_norm(self.rows, dim=1, dtype=torch.float64)
        return norms.square()

    def total(self, weights: Float[Tensor, "batch"]) -> Float[Tensor, "*shape"]:
        return weights @ self.rows

    def formed(self) -> Float[Tensor, "batch numbers"]:
        return self.rows


class Outer(Pending):
    """Gradients g_i a_i^T of a matrix: ||g_i a_i^T|| = ||g_i|| ||a_i||.

    Args:
        outputs: gradients at the layer's output.
        inputs: of the layer.
    """

    def __init__(self, outputs: Float[Tensor, "batch out"], inputs: Float[Tensor, "batch in"]) -> None:
        self.outputs, self.inputs = outputs, inputs

    def squares(self) -> Float[Tensor, "batch"]:
        # In float64, which holds every product: an overflow in one and an underflow in the other would hide a gradient.
        left, right = (
            torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64) for rows in (self.outputs, self.inputs)
        )
        squares: Tensor = (left * right).square()
        return squares

    def total(self, weights: Float[Tensor, "batch"]) -> Float[Tensor, "*shape"]:
        return (self.outputs * weights[:, None]).T @ self.inputs

    def formed(self) -> Float[Tensor, "batch numbers"]:
        return (self.outputs[:, :, None] * self.inputs[:, None, :]).flatten(1)


class Products(Pending):
    """Gradients G_i A_i^T of grouped matrices over places (pixels, words), too large to form.

    ||G A^T||^2 = <G^T G, A^T A>: two Gram matrices over places. Where inputs hardly differ from place to place and
    gradients sum to nothing, as before a normalization by channel, the product is far smaller than its terms: hence
    float64, and a bound for the rounding of the weighted sum, which is formed in the gradients' own precision.

    Args:
        outputs: gradients at the layer's output.
        inputs: gives what each place of the output saw; called anew for each use, since it may be large.
        total: a faster way to the weighted sum, if there is one.
    """

    def __init__(
        self,
        outputs: Float[Tensor, "batch groups out places"],
        inputs: Callable[[], Float[Tensor, "batch groups in places"]],
        total: Callable[[Float[Tensor, "batch"]], Tensor] | None = None,
    ) -> None:
        self.outputs, self.inputs, self._total = outputs, inputs, total

    def squares(self) -> Float[Tensor, "batch"]:
        places = self.outputs.shape[-1]
        left, right = self.outputs.double(), self.inputs().double()
        exact = (torch.matmul(left.mT, left) * torch.matmul(right.mT, right)).flatten(1).sum(1)
        # Of sums over places, each group of channels by itself: |fl(G A^T) - G A^T| <= places u |G| |A|^T.
        terms = (left.square().flatten(2).sum(2) * right.square().flatten(2).sum(2)).sum(1)
        return (exact.clamp_min(0).sqrt() + 2 * (places + 2) * rounding(left.device) * terms.sqrt()).square()

    def total(self, weights: Float[Tensor, "batch"]) -> Float[Tensor, "*shape"]:
        if self._total is not None:
            return self._total(weights)
        return torch.einsum("bgpt,bgdt->gpd", self.outputs * weights[:, None, None, None], self.inputs())

    def formed(self) -> Float[Tensor, "batch numbers"]:
        return torch.matmul(self.outputs, self.inputs().mT).flatten(1)


def forms(places: int, outputs: int, inputs: int) -> bool:
    """Whether per-example gradients of an outputs x inputs matrix are formed instead of their places' Gram matrices.

    Gram matrices take places^2 (outputs + inputs) multiplications, and the weighted sum one more product; formed
    gradients are written and read. The ratios are a CPU's, measured: places beyond 60 never pay. (Bu et al. compare
    2 places^2 with outputs x inputs, to save memory.)
    """
    numbers = outputs * inputs
    return places**2 * (outputs + inputs) / 30 + places * numbers / 60 >= numbers


Rule = Callable[[nn.Module, Tensor, Tensor], list[tuple[Tensor, Pending]]]
"""(layer, its input, gradient at its output) -> its trainable parameters' per-example gradients."""


def linear(layer: nn.Module, inputs: Tensor, outputs: Tensor) -> list[tuple[Tensor, Pending]]:
    """Of a linear layer, whatever axes lie between the batch and the features."""
    assert isinstance(layer, nn.Linear)
    gradients: list[tuple[Tensor, Pending]] = []
    if inputs.ndim == 2:
        weight: Pending = Outer(outputs, inputs)
    else:
        left, right = (tensor.flatten(1, -2).mT[:, None] for tensor in (outputs, inputs))
        weight = Products(left, lambda: right)
        if forms(left.shape[-1], *layer.weight.shape):
            weight = Formed(weight.formed())
    if layer.weight.requires_grad:
        gradients.append((layer.weight, weight))
    if layer.bias is not None and layer.bias.requires_grad:
        gradients.append((layer.bias, Formed(outputs if outputs.ndim == 2 else outputs.flatten(1, -2).sum(1))))
    return gradients


def convolution(layer: nn.Module, inputs: Tensor, outputs: Tensor) -> list[tuple[Tensor, Pending]]:
    """Of a 2-d convolution with any stride, padding, dilation and groups."""
    assert isinstance(layer, nn.Conv2d)
    gradients: list[tuple[Tensor, Pending]] = []
    if layer.weight.requires_grad:
        gradients.append((layer.weight, _kernel(layer, inputs, outputs)))
    if layer.bias is not None and layer.bias.requires_grad:
        gradients.append((layer.bias, Formed(outputs.flatten(2).sum(2))))
    return gradients


def _kernel(layer: nn.Conv2d, inputs: Tensor, outputs: Tensor) -> Pending:
    padding = layer.padding
    if isinstance(padding, str) or layer.padding_mode != "zeros":
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        inputs, padding = F.pad(inputs, layer._reversed_padding_repeated_twice, mode=mode), (0, 0)
    places = outputs.shape[2:].numel()
    gradients = outputs.reshape(len(outputs), layer.groups, -1, places)
    weight = layer.weight

    def seen() -> Tensor:
        return patches(layer, inputs, padding, outputs.shape[2:])

    def total(weights: Float[Tensor, "batch"]) -> Tensor:
        # The ordinary backward pass of the weights, which libraries are good at.
        weighted = outputs * weights[:, None, None, None]
        return _weight_gradient(layer, inputs, weighted, weight.shape, padding, layer.groups)

    if not forms(places, gradients.shape[2], weight[0].numel()):
        return Products(gradients, seen, total)
    deep = weight.shape[1] >= DEEP_CHANNELS and weight.shape[2:].numel() > 1
    if inputs.device.type != "cpu" or not deep:
        return Formed(torch.matmul(gradients, seen().mT).flatten(1))
    # Examples as groups of one convolution: its backward pass keeps them apart.
    batch, groups = len(inputs), len(inputs) * layer.groups
    rows = _weight_gradient(
        layer,
        inputs.reshape(1, -1, *inputs.shape[2:]),
        outputs.reshape(1, -1, *outputs.shape[2:]),
        (batch * weight.shape[0], *weight.shape[1:]),
        padding,
        groups,
    )
    return Formed(rows.view(batch, -1))


def _weight_gradient(
    layer: nn.Conv2d,
    inputs: Tensor,
    outputs: Tensor,
    shape: tuple[int, ...],
    padding: tuple[int, ...],
    groups: int,
) -> Tensor:
    """The gradient of a convolution's weight of a given shape, summed over the batch."""
    gradient: Tensor = conv2d_weight(  # type: ignore[no-untyped-call]
        inputs, shape, outputs, layer.stride, padding, layer.dilation, groups
    )
    return gradient


DEEP_CHANNELS = 16
"""Input channels of a group from which on, on a CPU, a grouped convolution beats a product with copied patches
(20 examples, kernels of 3x3: 1.5 ms against 7.9 ms at 16 channels of 32x32; 5x5: no difference at 12 of 14x14)."""


def patches(
    layer: nn.Conv2d, inputs: Tensor, padding: tuple[int, ...], size: torch.Size
) -> Float[Tensor, "batch groups in places"]:
    """What each pixel of a convolution's output saw, for each group of channels.

    Args:
        layer: the convolution.
        inputs: of the layer.
        padding: zeros around the inputs.
        size: (height, width) of its output.
    """
    height, width = layer.kernel_size
    (down, right), (rows, columns), (top, left) = layer.stride, layer.dilation, padding
    padded = F.pad(inputs, (left, left, top, top)) if top or left else inputs
    batch, channels, tall, wide = padded.shape
    padded = padded.contiguous()
    area = tall * wide
    # A view first, then one copy: `unfold` loops over examples and is several times slower.
    view = padded.as_strided(
        (batch, channels, height, width, size[0], size[1]),
        (channels * area, area, rows * wide, columns, down * wide, right),
    )
    return view.reshape(batch, layer.groups, -1, size[0] * size[1])


def group_norm(layer: nn.Module, inputs: Tensor, outputs: Tensor) -> list[tuple[Tensor, Pending]]:
    """Of a group normalization's scale and shift."""
    assert isinstance(layer, nn.GroupNorm)
    normalized = F.group_norm(inputs, layer.num_groups, eps=layer.eps)
    scale, shift = (product.reshape(*inputs.shape[:2], -1).sum(2) for product in (outputs * normalized, outputs))
    return _affine(layer, scale, shift)


def layer_norm(layer: nn.Module, inputs: Tensor, outputs: Tensor) -> list[tuple[Tensor, Pending]]:
    """Of a layer normalization's scale and shift."""
    assert isinstance(layer, nn.LayerNorm)
    normalized = F.layer_norm(inputs, layer.normalized_shape, eps=layer.eps)
    numbers = math.prod(layer.normalized_shape)
    scale, shift = (product.reshape(len(inputs), -1, numbers).sum(1) for product in (outputs * normalized, outputs))
    return _affine(layer, scale, shift)


def _affine(
    layer: nn.GroupNorm | nn.LayerNorm, scale: Float[Tensor, "batch numbers"], shift: Float[Tensor, "batch numbers"]
) -> list[tuple[Tensor, Pending]]:
    pairs = ((layer.weight, scale), (layer.bias, shift))
    return [(given, Formed(rows)) for given, rows in pairs if given is not None and given.requires_grad]


RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: linear,
    nn.Conv2d: convolution,
    nn.GroupNorm: group_norm,
    nn.LayerNorm: layer_norm,
}
"""By exact type: a subclass may compute something else."""
