"""The small convolutional network with max-pooling of the federated-learning literature's MNIST experiments."""

from collections.abc import Sequence
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from fedsec.errors import InputError
from fedsec.models.layers import activation_layer, initialize

_KERNEL = 5


class PooledCNN(nn.Module):
    """Two 5x5 convolutions with 2x2 max-pooling, a hidden linear layer (80,202 parameters at 28x28 with 10 classes).

    Args:
        input_shape: (channels, height, width), at least 16x16.
        num_classes: number of logits.
        channels: output channels of the two convolutions, which have no padding.
        hidden: units of the linear layer before the logits.
        activation: after each layer but the last.
        init: `default` (PyTorch's) or `uniform` (all from U(-0.5, 0.5), as in the DLG paper's networks).
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int,
        channels: Sequence[int] = (16, 32),
        hidden: int = 128,
        activation: Literal["relu", "sigmoid", "tanh"] = "relu",
        init: Literal["default", "uniform"] = "default",
    ) -> None:
        super().__init__()
        if len(channels) != 2 or min(channels) < 1:
            raise InputError(f"pooled_cnn: channels must be two numbers, each at least 1, got {list(channels)}")
        if hidden < 1:
            raise InputError(f"pooled_cnn: hidden must be at least 1, got {hidden}")
        depth, height, width = input_shape
        across = [_pooled(_pooled(size)) for size in (height, width)]
        if min(across) < 1:
            raise InputError(f"pooled_cnn: images must be at least 16 pixels a side, got {height}x{width}")
        first, second = channels
        self.features = nn.Sequential(
            nn.Conv2d(depth, first, _KERNEL),
            activation_layer(activation),
            nn.MaxPool2d(2),
            nn.Conv2d(first, second, _KERNEL),
            activation_layer(activation),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Linear(second * across[0] * across[1], hidden),
            activation_layer(activation),
            nn.Linear(hidden, num_classes),
        )
        initialize(self, init)

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Logits of a batch of normalized images."""
        return self.classify(self.features(images))

    def classify(self, features: Float[Tensor, "batch maps rows columns"]) -> Float[Tensor, "batch classes"]:
        """Logits of what `features` gave."""
        logits: Tensor = self.classifier(features.flatten(1))
        return logits


def _pooled(size: int) -> int:
    """Pixels left of `size` after a convolution and a pooling."""
    return (size - _KERNEL + 1) // 2
