"""Fully connected network."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from fedsec.errors import InputError
from fedsec.models.layers import activation_layer, initialize


class MLP(nn.Module):
    """Fully connected network on the flattened input.

    Args:
        input_shape: (channels, height, width) of an image, or (features,) of a vector.
        num_classes: number of logits.
        hidden: width of each hidden layer.
        activation: between the layers.
        init: `default` (PyTorch's) or `uniform` (all from U(-0.5, 0.5)).
    """

    takes_vectors = True

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        hidden: Sequence[int] = (64,),
        activation: Literal["relu", "sigmoid", "tanh"] = "relu",
        init: Literal["default", "uniform"] = "default",
    ) -> None:
        super().__init__()
        if not hidden or min(hidden) < 1:
            raise InputError(f"mlp: hidden must name at least one width, each at least 1, got {list(hidden)}")
        widths = [math.prod(input_shape), *hidden]
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), activation_layer(activation)]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], num_classes))
        initialize(self, init)

    def forward(self, inputs: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch classes"]:
        """Logits of a batch of normalized inputs."""
        logits: Tensor = self.layers(inputs)
        return logits
