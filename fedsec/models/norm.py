"""Normalization layers from one specification."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from fedsec.errors import InputError

NormSpec = Literal["bn", "gn", "none"] | dict[str, Any]
"""A name, or a mapping of `name` and what that normalization can be spec: `{name: gn, groups: 4}`."""

NAMES = ("bn", "gn", "none")
GROUPS = 2


@dataclass(frozen=True)
class Norm:
    """What follows a convolution; made by `normalization`.

    Args:
        name: `bn` (batch normalization with running statistics), `gn` (group normalization) or `none`.
        groups: of group normalization.
    """

    name: str
    groups: int = GROUPS

    def layers(self, channels: int) -> list[nn.Module]:
        """What follows a convolution that makes `channels` channels: one layer, or none."""
        if self.name == "bn":
            return [nn.BatchNorm2d(channels)]
        return [nn.GroupNorm(self.groups, channels)] if self.name == "gn" else []


def normalization(model: str, given: NormSpec, channels: Iterable[int]) -> Norm:
    """The normalization that a model's option `norm` asks for.

    Args:
        model: its name, for messages.
        given: the option.
        channels: of every layer that is normalized.

    Raises:
        InputError: an unknown name or key, a key that the normalization does not have, or groups that do not divide
            some layer's channels.
    """
    spec: Mapping[str, Any] = given if isinstance(given, Mapping) else {"name": given}
    if "name" not in spec:
        raise InputError(f"{model}: norm.name is required; expected one of {', '.join(NAMES)}")
    name, options = spec["name"], [key for key in spec if key != "name"]
    if name not in NAMES:
        raise InputError(f"{model}: unknown norm {name!r}; known: {', '.join(NAMES)}")
    for key in options:
        if key != "groups":
            raise InputError(f"{model}: norm.{key}: unknown key; known keys: name, groups")
        if name != "gn":
            raise InputError(f"{model}: norm.groups belongs to gn only, got it with {name}")
    if name != "gn":
        return Norm(name)
    groups = spec.get("groups", GROUPS)
    if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1:
        raise InputError(f"{model}: norm.groups: expected an integer of at least 1, got {groups!r}")
    for count in channels:
        if count % groups:
            raise InputError(
                f"{model}: norm.groups must divide the {count} channels of a normalized layer, got {groups}"
            )
    return Norm(name, groups)
