"""The plain convolutional network of Inverting Gradients."""

from itertools import pairwise
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from fedsec.errors import InputError
from fedsec.models.layers import activation_layer, initialize
from fedsec.models.norm import NormSpec, normalization

MULTIPLES = (1, 2, 2, 4, 4, 4, 4, 4)
POOLED = (5, 7)
SMALLEST_SIDE = 9


class ConvNet64(nn.Module):
    """Inverting Gradients' ConvNet: eight 3x3 convolutions, two max-poolings (2,904,970 parameters at 3x32x32).

    Convolution (padding 1), normalization and activation, with w, 2w, 2w, 4w, 4w, 4w channels; 3x3 max-pooling; twice
    more with 4w channels; 3x3 max-pooling; a linear layer. The convolutions have a bias whatever follows them, as in
    the paper's code; before batch normalization in train mode its gradient is zero.

    Args:
        input_shape: (channels, height, width), height and width at least 9.
        num_classes: number of logits.
        width: w; 64 gives 2,304 features at 32x32.
        norm: after each convolution: `bn` (batch normalization), `gn` (group normalization, two groups unless
            `{name: gn, groups: 4}` says otherwise) or `none`.
        activation: after each normalization.
        init: `default` (PyTorch's) or `uniform` (all from U(-0.5, 0.5)).

    Raises:
        InputError: an image too small, or a normalization that it cannot have.

    Reference: Geiping et al., "Inverting Gradients", NeurIPS 2020, arXiv:2003.14053
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int,
        width: int = 64,
        norm: NormSpec = "bn",
        activation: Literal["relu", "sigmoid", "tanh"] = "relu",
        init: Literal["default", "uniform"] = "default",
    ) -> None:
        super().__init__()
        depth, height, breadth = input_shape
        if min(height, breadth) < SMALLEST_SIDE:
            raise InputError(
                f"convnet64: images must be at least {SMALLEST_SIDE} pixels a side, got {height}x{breadth}"
            )
        if width < 1:
            raise InputError(f"convnet64: width must be at least 1, got {width}")
        channels = [depth, *(width * multiple for multiple in MULTIPLES)]
        make = normalization("convnet64", norm, channels[1:])
        layers: list[nn.Module] = []
        for number, (before, after) in enumerate(pairwise(channels)):
            layers += [nn.Conv2d(before, after, 3, padding=1), *make.layers(after)]
            layers.append(activation_layer(activation))
            if number in POOLED:
                layers.append(nn.MaxPool2d(3))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels[-1] * (height // 9) * (breadth // 9), num_classes)
        initialize(self, init)

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Logits of a batch of normalized images."""
        return self.classify(self.features(images))

    def classify(self, features: Float[Tensor, "batch maps rows columns"]) -> Float[Tensor, "batch classes"]:
        """Logits of what `features` gave."""
        logits: Tensor = self.classifier(features.flatten(1))
        return logits
