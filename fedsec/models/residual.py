"""What residual networks are made of.

A bottleneck's stride is in its 3x3 convolution, as in most code today, not in the first 1x1 one as in the paper.
Shortcuts that change the shape are projections; the CIFAR networks of He et al. pad with zeros instead.
"""

from dataclasses import dataclass
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from fedsec.models.layers import activation_layer
from fedsec.models.norm import Norm

EXPANSION = 4
"""Output channels of a bottleneck over its width."""


@dataclass(frozen=True)
class Architecture:
    """The shape of a residual network. From the second stage on, a stage halves the sides of what it gets.

    Args:
        depths: blocks in each stage.
        widths: of each stage.
        bottleneck: blocks of a 1x1, a 3x3 and a 1x1 convolution with 4 x width outputs, instead of two 3x3 ones.
        stem: whether a 3x3 convolution of stride 1 makes the first stage's inputs.
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    bottleneck: bool = False
    stem: bool = True

    @property
    def outputs(self) -> list[int]:
        """Output channels of each stage."""
        return [width * (EXPANSION if self.bottleneck else 1) for width in self.widths]


class Residual(nn.Module):
    """activation(body(x) + shortcut(x)).

    Args:
        body: the residual branch.
        shortcut: the identity, or a projection to the branch's shape.
        activation: of the sum.
    """

    def __init__(self, body: nn.Module, shortcut: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut, self.activation = body, shortcut, activation

    def forward(self, inputs: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch out h w"]:
        """The block's output."""
        outputs: Tensor = self.activation(self.body(inputs) + self.shortcut(inputs))
        return outputs


@dataclass(frozen=True)
class Layers:
    """The layers that all blocks of one network are made of."""

    norm: Norm
    nonlinearity: str

    def convolution(self, before: int, after: int, kernel: int, stride: int = 1) -> list[nn.Module]:
        """A convolution with same padding, and its normalization."""
        bias = self.norm.name == "none"
        layer = nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, bias=bias)
        return [layer, *self.norm.layers(after)]

    def activation(self) -> nn.Module:
        """One more activation: no two places share a module, so that hooks tell them apart."""
        return activation_layer(self.nonlinearity)

    def stages(self, architecture: Architecture, channels: int) -> nn.Sequential:
        """All stages of a network, the first for inputs of `channels` channels."""
        stages = []
        for number, (before, after) in enumerate(pairwise([channels, *architecture.outputs])):
            width, stride = architecture.widths[number], 1 if number == 0 else 2
            kind = self._bottleneck if architecture.bottleneck else self._basic
            first = self._block(kind(before, after, width, stride), before, after, stride)
            others = [
                self._block(kind(after, after, width, 1), after, after, 1)
                for _ in range(architecture.depths[number] - 1)
            ]
            stages.append(nn.Sequential(first, *others))
        return nn.Sequential(*stages)

    def _block(self, body: list[nn.Module], before: int, after: int, stride: int) -> Residual:
        # An empty sequence passes its input on.
        shortcut = [] if before == after and stride == 1 else self.convolution(before, after, 1, stride)
        return Residual(nn.Sequential(*body), nn.Sequential(*shortcut), self.activation())

    def _bottleneck(self, before: int, after: int, width: int, stride: int) -> list[nn.Module]:
        return [
            *self.convolution(before, width, 1),
            self.activation(),
            *self.convolution(width, width, 3, stride),
            self.activation(),
            *self.convolution(width, after, 1),
        ]

    def _basic(self, before: int, after: int, width: int, stride: int) -> list[nn.Module]:
        return [*self.convolution(before, width, 3, stride), self.activation(), *self.convolution(width, after, 3)]
