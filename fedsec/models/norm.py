"""Normalization layers by name."""

from collections.abc import Iterable
from typing import Literal

from torch import nn

from fedsec.errors import InputError

NormName = Literal["bn", "gn", "none"]


def norm_layers(norm: NormName, channels: int, groups: int) -> list[nn.Module]:
    """What follows a convolution that makes `channels` channels: one layer, or none.

    Args:
        norm: `bn` (batch normalization with running statistics), `gn` (group normalization) or `none`.
        channels: of the layer's input.
        groups: of group normalization; divides `channels`.
    """
    if norm == "bn":
        return [nn.BatchNorm2d(channels)]
    return [nn.GroupNorm(groups, channels)] if norm == "gn" else []


def check_norm(model: str, norm: str, groups: int, channels: Iterable[int]) -> None:
    """Refuse a normalization that the model called `model` cannot have.

    Args:
        model: for messages.
        norm: as in `norm_layers`.
        groups: of group normalization.
        channels: of every layer that is normalized.

    Raises:
        InputError: unknown name, or groups that do not divide some layer's channels.
    """
    if norm not in ("bn", "gn", "none"):
        raise InputError(f"{model}: unknown norm {norm!r}; known: bn, gn, none")
    if norm != "gn":
        return
    for count in channels:
        if groups < 1 or count % groups:
            raise InputError(f"{model}: groups must divide the {count} channels of a normalized layer, got {groups}")
