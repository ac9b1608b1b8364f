"""The interface of attacks on what crosses the cut of a network, by a client or party that has no labels.

Such an attacker feeds its part of the network what it likes, sends what it likes in place of what comes out, and
learns from whatever it makes of the gradients that it is sent. It knows the labels of a few examples.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self, final

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat.attack import ByzantineAttack
from fedsec.threat.observed.pixel_scale import PixelScale
from fedsec.threat.sealed import isolated, unmodified

__all__ = ["ActivationPoisoning", "CutBatch"]


@dataclass(frozen=True, eq=False)
class CutBatch:
    """What an attacker knows of a batch.

    Attributes:
        marked: the examples that it attacks with.
        known: those whose labels it knows to be what it aims at.
        scale: how pixels became the inputs.
        generator: the only source of randomness, on the CPU.
    """

    marked: Bool[Tensor, "batch"]
    known: Bool[Tensor, "batch"]
    scale: PixelScale
    generator: torch.Generator


class ActivationPoisoning(ByzantineAttack):
    """Feeds, sends and learns what it likes at the cut of a network; a subclass fills in `feed`, `send` and `learn`.

    Attributes:
        acts: whether it does anything; an attack of no strength is honest, to the bit.
        columns: the first and the last of the columns that are the attacker's; None for all.
    """

    role: ClassVar[str] = "activations"
    """What its kind of attack acts on, where clients exchange activations."""
    acts: bool = True
    columns: tuple[int, int] | None = None

    def placed(self, columns: tuple[int, int]) -> Self:
        """The same attack by a party that has these columns of each example only.

        Args:
            columns: the first, and the one after the last.
        """
        return self._with(columns=columns)

    @abstractmethod
    def choose(
        self, labels: Int64[Tensor, "n"], *, num_classes: int | None, generator: torch.Generator
    ) -> tuple[Bool[Tensor, "n"], Bool[Tensor, "n"]]:
        """Which examples it attacks with, and of which it knows that they are what it aims at.

        Args:
            labels: of all that the attacker has; it may look at those of the few that it is said to know.
            num_classes: how many classes there are.
            generator: the only source of randomness.
        """

    @final
    def fed(self, inputs: Float[Tensor, "batch *shape"], batch: CutBatch) -> Float[Tensor, "batch *shape"]:
        """What the attacker's part of the network is given in place of a batch's inputs."""
        return self._checked("feed", inputs, batch)

    @final
    def sent(self, activations: Float[Tensor, "batch *features"], batch: CutBatch) -> Tensor:
        """What the attacker sends in place of its activations."""
        return self._checked("send", activations, batch)

    @final
    def learned(self, gradients: Float[Tensor, "batch *features"], batch: CutBatch) -> Tensor:
        """What the attacker takes for the gradients of its activations, in place of those that it was sent."""
        return self._checked("learn", gradients, batch)

    @abstractmethod
    def feed(self, inputs: Tensor, batch: CutBatch) -> Tensor:
        """New inputs; see `fed`."""

    @abstractmethod
    def send(self, activations: Tensor, batch: CutBatch) -> Tensor:
        """What is sent; see `sent`."""

    @abstractmethod
    def learn(self, gradients: Tensor, batch: CutBatch) -> Tensor:
        """What is learned from; see `learned`."""

    def _checked(self, method: str, rows: Tensor, batch: CutBatch) -> Tensor:
        what, own = f"{type(self).__name__}.{method}", isolated(rows)
        with unmodified(what, rows=own):
            result: Tensor = getattr(self, method)(own, batch)
        if (result.shape, result.dtype, result.device) != (rows.shape, rows.dtype, rows.device):
            raise InputError(
                f"{what} must keep shape {tuple(rows.shape)} and {rows.dtype}, not {tuple(result.shape)} and "
                f"{result.dtype}"
            )
        return result
