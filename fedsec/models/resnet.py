"""Residual networks for small images.

The stem is a 3x3 convolution of stride 1 without max-pooling, as is usual at 32x32; the ImageNet networks begin with a
7x7 one of stride 2 and a pooling.
"""

from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from fedsec.errors import InputError
from fedsec.models.layers import initialize
from fedsec.models.norm import NormSpec, normalization
from fedsec.models.residual import Architecture, Layers

IMAGENET = (64, 128, 256, 512)
CIFAR = (16, 32, 64)
"""Widths of the stages of He et al.'s networks for these datasets."""


class ResidualNetwork(nn.Module):
    """A stem, stages of residual blocks, average pooling and a linear layer.

    In train mode batch normalization needs more than one value a channel: for a single image the last stage must be
    larger than one pixel (sides above 8 with four stages, above 4 with three).

    Args:
        architecture: which blocks.
        input_shape: (channels, height, width), of any size.
        num_classes: number of logits.
        norm: after each convolution: `bn` (batch normalization), `gn` (group normalization, two groups unless
            `{name: gn, groups: 4}` says otherwise) or `none`. Without one the convolutions have a bias.
        activation: after each normalization; sigmoid and tanh make the network twice differentiable everywhere.
        init: `default` or `uniform` (all from U(-0.5, 0.5)). The default is He et al.'s N(0, 2 / (kernel area x output
            channels)) for normalized convolutions before a ReLU and PyTorch's for everything else: without
            normalization He's would double the variance in every block.

    Raises:
        InputError: unknown options, or a normalization that some layer cannot have.
    """

    name: ClassVar[str]
    stem: nn.Sequential
    """Absent where the architecture has none."""

    def __init__(
        self,
        architecture: Architecture,
        input_shape: tuple[int, int, int],
        num_classes: int,
        norm: NormSpec,
        activation: str,
        init: str,
    ) -> None:
        super().__init__()
        widths, outputs = architecture.widths, architecture.outputs
        normalized = normalization(self.name, norm, [*widths, *outputs])
        make = Layers(normalized, activation)
        channels = input_shape[0]
        if architecture.stem:
            self.stem = nn.Sequential(*make.convolution(channels, widths[0], 3), make.activation())
            channels = widths[0]
        self.has_stem = architecture.stem
        self.stages = make.stages(architecture, channels)
        self.classifier = nn.Linear(outputs[-1], num_classes)
        he = init == "default" and normalized.name != "none" and activation == "relu"
        initialize(self, "he" if he else init)

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Logits of a batch of normalized images, or of feature maps where there is no stem."""
        return self.classify(self.stem(images) if self.has_stem else images)

    def classify(self, features: Float[Tensor, "batch maps height width"]) -> Float[Tensor, "batch classes"]:
        """Logits of what the stem gave."""
        logits: Tensor = self.classifier(self.stages(features).mean((2, 3)))
        return logits


class ResNet(ResidualNetwork):
    """A residual network of one architecture, which subclasses state."""

    architecture: ClassVar[Architecture]

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int,
        norm: NormSpec = "bn",
        activation: Literal["relu", "sigmoid", "tanh"] = "relu",
        init: Literal["default", "uniform"] = "default",
    ) -> None:
        super().__init__(self.architecture, input_shape, num_classes, norm, activation, init)


class TwofoldResNet(ResidualNetwork):
    """A CIFAR network of which the literature knows two kinds under one name.

    Args:
        block: `bottleneck`, FedGKT's network of this name, or `basic`, He et al.'s.
    """

    bottleneck: ClassVar[Architecture]
    basic: ClassVar[Architecture]

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int,
        block: Literal["bottleneck", "basic"] = "bottleneck",
        norm: NormSpec = "bn",
        activation: Literal["relu", "sigmoid", "tanh"] = "relu",
        init: Literal["default", "uniform"] = "default",
    ) -> None:
        if block not in ("bottleneck", "basic"):
            raise InputError(f"{self.name}: unknown block {block!r}; known: bottleneck, basic")
        chosen = self.bottleneck if block == "bottleneck" else self.basic
        super().__init__(chosen, input_shape, num_classes, norm, activation, init)


class ResNet18(ResNet):
    """ResNet-18 for small images: 2, 2, 2, 2 basic blocks, 64 to 512 channels (11,173,962 parameters at 3x32x32).

    Reference: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385
    """

    name = "resnet18"
    architecture = Architecture((2, 2, 2, 2), IMAGENET)


class ResNet50(ResNet):
    """ResNet-50 for small images: 3, 4, 6, 3 bottlenecks, 256 to 2,048 channels (23,520,842 parameters at 3x32x32).

    Reference: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385
    """

    name = "resnet50"
    architecture = Architecture((3, 4, 6, 3), IMAGENET, bottleneck=True)


class ResNet20x4(ResNet):
    """Inverting Gradients' ResNet20-4: CIFAR's ResNet-20, four times as wide (4,327,754 parameters at 3x32x32).

    Three stages of 3 basic blocks with 64, 128 and 256 channels; shortcuts between stages are projections, as in that
    paper's code (the CIFAR networks of He et al. pad with zeros).

    Reference: Geiping et al., "Inverting Gradients", NeurIPS 2020, arXiv:2003.14053
    """

    name = "resnet20_4"
    architecture = Architecture((3, 3, 3), (64, 128, 256))


class ResNet20(ResNet):
    """CIFAR's ResNet-20: 3, 3, 3 basic blocks of 16, 32, 64 channels (272,474 parameters at 3x32x32).

    Shortcuts between stages are projections (option B of the paper, whose CIFAR networks use option A, zeros).

    Reference: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385
    """

    name = "resnet20"
    architecture = Architecture((3, 3, 3), CIFAR)


class ResNet56(TwofoldResNet):
    """FedGKT's ResNet-56 of 6, 6, 6 bottlenecks (591,322 parameters), or He et al.'s of 9, 9, 9 basic blocks.

    Widths 16, 32, 64. With basic blocks and projections between stages it has 855,770 parameters.

    Reference: He, Annavaram, Avestimehr, "Group Knowledge Transfer", NeurIPS 2020, arXiv:2007.14513
    """

    name = "resnet56"
    bottleneck = Architecture((6, 6, 6), CIFAR, bottleneck=True)
    basic = Architecture((9, 9, 9), CIFAR)


class ResNet110(TwofoldResNet):
    """FedGKT's ResNet-110 of 12, 12, 12 bottlenecks (1,147,738 parameters), or He et al.'s of 18, 18, 18 basic blocks.

    Widths 16, 32, 64. With basic blocks and projections between stages it has 1,730,714 parameters.

    Reference: He, Annavaram, Avestimehr, "Group Knowledge Transfer", NeurIPS 2020, arXiv:2007.14513
    """

    name = "resnet110"
    bottleneck = Architecture((12, 12, 12), CIFAR, bottleneck=True)
    basic = Architecture((18, 18, 18), CIFAR)
