"""A model as a function."""

from torch import nn


def bottleneck(input_shape: tuple[int, ...], num_classes: int, width: int = 4) -> nn.Module:
    """Two linear layers with few units in between."""
    channels, height, columns = input_shape
    return nn.Sequential(
        nn.Flatten(), nn.Linear(channels * height * columns, width), nn.Tanh(), nn.Linear(width, num_classes)
    )
