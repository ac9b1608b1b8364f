"""Multinomial logistic regression: the convex case."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from fedsec.models.layers import initialize


class Logistic(nn.Module):
    """Multinomial logistic regression: one linear layer on the flattened image.

    Args:
        input_shape: (channels, height, width).
        num_classes: number of logits.
        init: `zeros` (the usual start of a convex problem) or `default` (PyTorch's).
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int,
        init: Literal["zeros", "default", "uniform"] = "zeros",
    ) -> None:
        super().__init__()
        channels, height, width = input_shape
        self.linear = nn.Linear(channels * height * width, num_classes)
        initialize(self, init)

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Logits of a batch of normalized images."""
        logits: Tensor = self.linear(images.flatten(1))
        return logits
