"""Multinomial logistic regression: the convex case of classification."""

from typing import ClassVar

from fedsec.models.linear import Linear


class Logistic(Linear):
    """Multinomial logistic regression: one linear layer on the flattened input.

    Args:
        input_shape: (channels, height, width) of an image, or (features,) of a vector.
        num_classes: number of logits.
        init: `zeros` (the usual start of a convex problem) or `default` (PyTorch's).
    """

    tasks: ClassVar[tuple[str, ...]] = ("classification",)
