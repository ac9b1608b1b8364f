"""The network of Deep Leakage from Gradients."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from fedsec.models.layers import activation_layer, initialize, quarter

CHANNELS = 12


class LeNet(nn.Module):
    """DLG's LeNet: three 5x5 convolutions of 12 channels and one linear layer (15,826 parameters at 3x32x32).

    Strides 2, 2 and 1 with padding 2 leave 12 x ceil(height / 4) x ceil(width / 4) features: 768 at 32x32, 588 at
    28x28. DLG differentiates the network twice, which `relu` defeats: its second derivative is zero.

    Args:
        input_shape: (channels, height, width), of any size.
        num_classes: number of logits.
        activation: after each convolution.
        init: `uniform` (all weights and biases from U(-0.5, 0.5), as in the paper's code) or `default` (PyTorch's).

    Reference: Zhu, Liu, Han, "Deep Leakage from Gradients", NeurIPS 2019, arXiv:1906.08935
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int,
        activation: Literal["sigmoid", "relu", "tanh"] = "sigmoid",
        init: Literal["uniform", "default"] = "uniform",
    ) -> None:
        super().__init__()
        depth, height, width = input_shape
        self.features = nn.Sequential(
            nn.Conv2d(depth, CHANNELS, 5, stride=2, padding=2),
            activation_layer(activation),
            nn.Conv2d(CHANNELS, CHANNELS, 5, stride=2, padding=2),
            activation_layer(activation),
            nn.Conv2d(CHANNELS, CHANNELS, 5, stride=1, padding=2),
            activation_layer(activation),
        )
        self.classifier = nn.Linear(CHANNELS * quarter(height) * quarter(width), num_classes)
        initialize(self, init)

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Logits of a batch of normalized images."""
        return self.classify(self.features(images))

    def classify(self, features: Float[Tensor, "batch maps rows columns"]) -> Float[Tensor, "batch classes"]:
        """Logits of what `features` gave."""
        logits: Tensor = self.classifier(features.flatten(1))
        return logits
