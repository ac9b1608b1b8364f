"""Images in the rows of a linear layer's gradient: a row that one image alone activated is a multiple of that image.

With z = W x + b, the gradients of row r are sums over the images that activate it,

    g_W[r] = sum_i s_ir x_i        g_b[r] = sum_i s_ir

so that their ratio is the image where there is one, and a mixture of images elsewhere. A column of the weight whose
input is a constant serves in the bias' place.

Reference: Phong et al., IEEE TIFS 13(5), 2018; Fowl et al., ICLR 2022, arXiv:2110.13057.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat import Observation

__all__ = ["GRAY", "LayerRows", "filled"]

GRAY = 0.5
"""Of pixels of which nothing is known."""
_ROUNDING = 8 * 2.0**-24
"""What float32 may leave of a difference that should be zero, relative to what was subtracted."""


@dataclass(frozen=True, eq=False)
class LayerRows:
    """Rows of a layer's gradient, each a strength times an input of the layer.

    Args:
        rows: strength times input.
        strengths: of each row: the gradient of a bias.
        known: which entries the client's defense left.
        heard: which strengths it left.
    """

    rows: Float[Tensor, "rows inputs"]
    strengths: Float[Tensor, "rows"]
    known: Bool[Tensor, "rows inputs"]
    heard: Bool[Tensor, "rows"]

    @classmethod
    def of_bias(cls, observation: Observation, layer: str) -> "LayerRows":
        """Those of a layer with a bias.

        Raises:
            InputError: the update does not have them, or only their signs.
        """
        weight, bias = (_part(observation, f"{layer}.{kind}" if layer else kind) for kind in ("weight", "bias"))
        return cls(weight[0], bias[0], weight[1], bias[1])

    @classmethod
    def of_constant(
        cls,
        observation: Observation,
        weight: str,
        constant: float,
        *,
        inputs: slice = slice(-1),
        column: int = -1,
    ) -> "LayerRows":
        """Those of a layer with a constant among its inputs.

        Args:
            observation: of a gradient, or of an update over local steps: a common factor makes no difference.
            weight: name of the layer's weight.
            constant: the input.
            inputs: columns of the weight that go with it; by default all others.
            column: of the constant; by default the last one.

        Raises:
            InputError: the update does not have them, or only their signs.
        """
        rows, known = _part(observation, weight)
        return cls(rows[:, inputs], rows[:, column] / constant, known[:, inputs], known[:, column])

    def shifted(self, by: Float[Tensor, "inputs"]) -> "LayerRows":
        """As if a vector had been added to every input."""
        return replace(self, rows=self.rows + self.strengths[:, None] * by)

    def differences(self) -> "LayerRows":
        """Each row minus the next, where rows are sums from one on."""
        return LayerRows(
            self.rows - _next(self.rows),
            self.strengths - _next(self.strengths),
            self.known & ~_next(~self.known),
            self.heard & ~_next(~self.heard),
        )

    def strongest(self, floor: float = 0.0) -> "LayerRows":
        """Those that hold something, the strongest first.

        Args:
            floor: strengths up to it are rounding errors.
        """
        some = self.heard & (self.strengths.abs() > floor)
        order = torch.where(some, self.strengths.abs(), -1).argsort(descending=True, stable=True)[: int(some.sum())]
        return LayerRows(self.rows[order], self.strengths[order], self.known[order], self.heard[order])

    @property
    def rounding(self) -> float:
        """What float32 may leave of differences of strengths that should be zero."""
        return _ROUNDING * float(self.strengths.abs().max())

    def images(self, observation: Observation) -> Float[Tensor, "rows channels height width"]:
        """The inputs as images, not yet cut to [0, 1]; gray where a defense dropped pixels."""
        inputs = (self.rows / self.strengths[:, None]).view(-1, *observation.input_shape)
        images = observation.scale.undo(inputs)
        return torch.where(self.known.view(images.shape), images, GRAY)


def filled(
    observation: Observation, images: Sequence[Tensor] | Float[Tensor, "some channels height width"]
) -> Float[Tensor, "batch channels height width"]:
    """As many images as the batch has: the first ones, cut to [0, 1], and gray ones where there are too few."""
    like = next(iter(observation.update.values()))
    batch = torch.full((observation.batch_size, *observation.input_shape), GRAY, dtype=like.dtype, device=like.device)
    count = min(len(images), len(batch))
    if count:
        batch[:count] = torch.stack(list(images[:count])).clamp(0, 1).to(like)
    return batch


def _part(observation: Observation, name: str) -> tuple[Tensor, Tensor]:
    """A parameter's gradient, and which of its entries a known defense left."""
    distortion = observation.distortion
    if name not in observation.update:
        raise InputError(f"the update has no {name!r}, in which the images are; expected all of the model")
    if distortion is not None and distortion.signs:
        raise InputError("images are ratios of gradients, and only their signs were sent; expected their values")
    row = observation.gradient[name].double()
    left = None if distortion is None else distortion.kept.get(name)
    return row, torch.ones_like(row, dtype=torch.bool) if left is None else left


def _next(rows: Tensor) -> Tensor:
    """The row behind each; zeros behind the last one."""
    return torch.cat([rows[1:], torch.zeros_like(rows[:1])])
