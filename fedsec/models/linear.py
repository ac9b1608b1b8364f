"""One linear layer: the convex case of every task."""

import math
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from fedsec.models.layers import initialize


class Linear(nn.Module):
    """One linear layer on the flattened input: least squares in a regression, the logistic model of classes.

    Args:
        input_shape: (channels, height, width) of an image, or (features,) of a vector.
        num_classes: number of outputs: logits of a classification, one number in a regression.
        init: `zeros` (the usual start of a convex problem) or `default` (PyTorch's).
    """

    takes_vectors = True

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        init: Literal["zeros", "default", "uniform"] = "zeros",
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(math.prod(input_shape), num_classes)
        initialize(self, init)

    def forward(self, inputs: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch outputs"]:
        """Outputs for a batch of normalized inputs."""
        outputs: Tensor = self.linear(inputs.flatten(1))
        return outputs
