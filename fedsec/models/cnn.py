"""The small convolutional network of the federated-learning literature's Fashion-MNIST experiments."""

from collections.abc import Sequence
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from fedsec.errors import InputError
from fedsec.models.layers import activation_layer, initialize, quarter


class CNN(nn.Module):
    """Two 5x5 stride-2 convolutions and one linear layer (28,938 parameters at 28x28 with 10 classes).

    Args:
        input_shape: (channels, height, width).
        num_classes: number of logits.
        channels: output channels of the two convolutions (padding 2).
        activation: after each convolution; sigmoid is twice differentiable everywhere, and learns slowly.
        init: `default` (PyTorch's) or `uniform` (all from U(-0.5, 0.5), as in the DLG paper's networks).
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int,
        channels: Sequence[int] = (16, 32),
        activation: Literal["relu", "sigmoid", "tanh"] = "relu",
        init: Literal["default", "uniform"] = "default",
    ) -> None:
        super().__init__()
        if len(channels) != 2 or min(channels) < 1:
            raise InputError(f"cnn: channels must be two numbers, each at least 1, got {list(channels)}")
        first, second = channels
        depth, height, width = input_shape
        self.features = nn.Sequential(
            nn.Conv2d(depth, first, 5, stride=2, padding=2),
            activation_layer(activation),
            nn.Conv2d(first, second, 5, stride=2, padding=2),
            activation_layer(activation),
        )
        self.classifier = nn.Linear(second * quarter(height) * quarter(width), num_classes)
        initialize(self, init)

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Logits of a batch of normalized images."""
        return self.classify(self.features(images))

    def classify(self, features: Float[Tensor, "batch maps rows columns"]) -> Float[Tensor, "batch classes"]:
        """Logits of what `features` gave."""
        logits: Tensor = self.classifier(features.flatten(1))
        return logits
