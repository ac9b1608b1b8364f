"""Residual networks for small images.

The stem is a 3x3 convolution of stride 1 without max-pooling, as is usual at 32x32; the ImageNet networks begin with a
7x7 one of stride 2 and a pooling. A bottleneck's stride is in its 3x3 convolution, as in most code today, not in the
first 1x1 one as in the paper.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from fedsec.models.layers import activation_layer, initialize
from fedsec.models.norm import NormName, check_norm, norm_layers

EXPANSION = 4
"""Output channels of a bottleneck over its width."""


class ResNet(nn.Module):
    """A residual network; subclasses say how many blocks of which kind.

    In train mode batch normalization needs more than one value a channel: for a single image the last stage must be
    larger than one pixel (sides above 8 with four stages, above 4 with three).

    Args:
        input_shape: (channels, height, width), of any size.
        num_classes: number of logits.
        norm: after each convolution: `bn` (batch normalization), `gn` (group normalization) or `none`. Without one the
            convolutions have a bias.
        groups: of group normalization.
        activation: after each normalization; sigmoid and tanh make the network twice differentiable everywhere.
        init: `default` or `uniform` (all from U(-0.5, 0.5)). The default is He et al.'s N(0, 2 / (kernel area x output
            channels)) for normalized convolutions before a ReLU and PyTorch's for everything else: without
            normalization He's would double the variance in every block.

    Raises:
        InputError: unknown options, or groups that do not divide the channels.
    """

    name: ClassVar[str]
    bottleneck: ClassVar[bool] = False
    depths: ClassVar[tuple[int, ...]]
    widths: ClassVar[tuple[int, ...]] = (64, 128, 256, 512)

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int,
        norm: NormName = "bn",
        groups: int = 2,
        activation: Literal["relu", "sigmoid", "tanh"] = "relu",
        init: Literal["default", "uniform"] = "default",
    ) -> None:
        super().__init__()
        make = _Layers(norm, groups, activation)
        outputs = [width * (EXPANSION if self.bottleneck else 1) for width in self.widths]
        check_norm(self.name, norm, groups, [*self.widths, *outputs])
        self.stem = nn.Sequential(*make.convolution(input_shape[0], self.widths[0], 3), make.activation())
        stages = []
        for number, (before, after) in enumerate(pairwise([self.widths[0], *outputs])):
            width, stride = self.widths[number], 1 if number == 0 else 2
            first = self._block(make, before, after, width, stride)
            others = [self._block(make, after, after, width, 1) for _ in range(self.depths[number] - 1)]
            stages.append(nn.Sequential(first, *others))
        self.stages = nn.Sequential(*stages)
        self.classifier = nn.Linear(outputs[-1], num_classes)
        he = init == "default" and norm != "none" and activation == "relu"
        initialize(self, "he" if he else init)

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Logits of a batch of normalized images."""
        logits: Tensor = self.classifier(self.stages(self.stem(images)).mean((2, 3)))
        return logits

    def _block(self, make: "_Layers", before: int, after: int, width: int, stride: int) -> "Residual":
        if self.bottleneck:
            body = [
                *make.convolution(before, width, 1),
                make.activation(),
                *make.convolution(width, width, 3, stride),
                make.activation(),
                *make.convolution(width, after, 1),
            ]
        else:
            body = [
                *make.convolution(before, width, 3, stride),
                make.activation(),
                *make.convolution(width, after, 3),
            ]
        # An empty sequence passes its input on.
        shortcut = [] if before == after and stride == 1 else make.convolution(before, after, 1, stride)
        return Residual(nn.Sequential(*body), nn.Sequential(*shortcut), make.activation())


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


class ResNet18(ResNet):
    """ResNet-18 for small images: 2, 2, 2, 2 basic blocks, 64 to 512 channels (11,173,962 parameters at 3x32x32).

    Reference: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385
    """

    name = "resnet18"
    depths = (2, 2, 2, 2)


class ResNet50(ResNet):
    """ResNet-50 for small images: 3, 4, 6, 3 bottlenecks, 256 to 2,048 channels (23,520,842 parameters at 3x32x32).

    Reference: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385
    """

    name = "resnet50"
    bottleneck = True
    depths = (3, 4, 6, 3)


class ResNet20x4(ResNet):
    """Inverting Gradients' ResNet20-4: CIFAR's ResNet-20, four times as wide (4,327,754 parameters at 3x32x32).

    Three stages of 3 basic blocks with 64, 128 and 256 channels; shortcuts between stages are projections, as in that
    paper's code (the CIFAR networks of He et al. pad with zeros).

    Reference: Geiping et al., "Inverting Gradients", NeurIPS 2020, arXiv:2003.14053
    """

    name = "resnet20_4"
    depths = (3, 3, 3)
    widths = (64, 128, 256)


@dataclass(frozen=True)
class _Layers:
    """The layers that all blocks of one network are made of."""

    norm: NormName
    groups: int
    nonlinearity: str

    def convolution(self, before: int, after: int, kernel: int, stride: int = 1) -> list[nn.Module]:
        """A convolution with same padding, and its normalization."""
        bias = self.norm == "none"
        layer = nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, bias=bias)
        return [layer, *norm_layers(self.norm, after, self.groups)]

    def activation(self) -> nn.Module:
        """One more activation: no two places share a module, so that hooks tell them apart."""
        return activation_layer(self.nonlinearity)
