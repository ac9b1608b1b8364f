"""Attacks, an inversion and an inference: subclasses of fedsec's own, with a mixin first, and of its interfaces."""

from typing import Any

import torch
from torch import Tensor

from fedsec.attacks import InvertingGradients as TheirInversion
from fedsec.attacks import SignFlip
from fedsec.threat import (
    AttackerView,
    MembershipInference,
    MembershipView,
    PropertyInference,
    PropertyView,
    UpdatePoisoning,
)

from .mixins import Named


class LoudFlip(Named, SignFlip):
    """Flips signs, louder.

    Args:
        loudness: a further factor.
    """

    def __init__(self, loudness: float = 2.0, **options: Any) -> None:
        super().__init__(**options)
        self.scale *= loudness


class Still(UpdatePoisoning):
    """Sends nothing but zeros."""

    knowledge = "own"

    def forge(self, view: AttackerView) -> Tensor:
        return torch.zeros_like(view.own)


class Hasty(Named, TheirInversion):
    """Inverting Gradients with the constructor that it inherits."""


class BestRound(MembershipInference):
    """Takes an example for a member that some model fitted well."""

    def score(self, view: MembershipView) -> Tensor:
        return view.confidences.amax(0)


class NearestKnown(PropertyInference):
    """Takes an update to come from whoever sent the one that lies closest to it.

    Args:
        power: of the distance.
    """

    asks = "site"
    needs = ("known",)
    tasks = ()

    def __init__(self, power: float = 1.0) -> None:
        self.power = power

    def score(self, view: PropertyView) -> Tensor:
        assert view.known is not None
        assert view.known_values is not None
        near = -(torch.cdist(view.updates, view.known) ** self.power)
        worst = near.min() - 1
        of_site = view.known_values[None] == torch.arange(view.num_values)[:, None]
        return torch.where(of_site[None], near[:, None], worst).amax(2)
