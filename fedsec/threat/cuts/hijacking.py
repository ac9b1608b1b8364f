"""The interface of servers of split learning that train clients' part of the network for their own ends.

Such a server answers activations with gradients of its own making, and reconstructs images from what clients send once
they followed them. Beside what is sent it has images of the clients' kind, and knows the architecture of their part.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedsec.errors import InputError
from fedsec.threat.inversion import Watch
from fedsec.threat.observed.pixel_scale import PixelScale
from fedsec.threat.reconstruction import Reconstruction
from fedsec.threat.sealed import Sealed, isolated, unmodified

__all__ = ["Hijack", "HijackView", "HijackingServer"]


@dataclass(frozen=True, eq=False)
class HijackView:
    """What a hijacking server has before clients train.

    Attributes:
        pilot: a network of the architecture of the clients' part, with weights drawn anew: whatever it makes of images,
            clients' networks can come to make of theirs. Nothing of the clients' weights is told.
        auxiliary: images of the clients' kind, in [0, 1], none of which is a client's.
        scale: how pixels become the networks' input.

    Raises:
        InputError: no images, or images that the pilot cannot take.
    """

    pilot: nn.Module
    auxiliary: Float[Tensor, "images channels height width"]
    scale: PixelScale = field(default_factory=PixelScale)

    def __post_init__(self) -> None:
        images = self.auxiliary
        if images.ndim != 4 or not len(images) or not images.is_floating_point():
            raise InputError(
                "HijackView: auxiliary must be floating-point images [images, channels, height, width], at least one, "
                f"not {images.dtype} of shape {tuple(images.shape)}"
            )
        try:
            with torch.no_grad():
                self.pilot(self.scale.apply(images[:2]))
        except (RuntimeError, TypeError, ValueError) as error:
            cause = " ".join(str(error).split())
            raise InputError(f"HijackView: the pilot cannot take the auxiliary images: {cause}") from error

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(channels, height, width) of one image."""
        return tuple(self.auxiliary.shape[1:])

    @property
    def sent_shape(self) -> tuple[int, ...]:
        """Of what clients send of one image."""
        with torch.no_grad():
            return tuple(self.pilot(self.scale.apply(self.auxiliary[:1])).shape[1:])


class Hijack(Sealed, ABC):
    """A server at work; a subclass fills in `pull` and `decode`, and says what it remembers."""

    input_shape: tuple[int, ...]
    """(channels, height, width) of one image."""

    @final
    def gradient(self, sent: Float[Tensor, "batch *features"], *, generator: torch.Generator) -> Tensor:
        """What the server answers a batch of activations with, in place of the gradient of the mean loss.

        Args:
            sent: the client's activations; left unchanged.
            generator: the only source of randomness, on the CPU.

        Returns:
            As much as was sent, finite.

        Raises:
            InputError: the subclass broke this contract.
        """
        what, own = f"{type(self).__name__}.pull", isolated(sent)
        with unmodified(what, sent=own):
            gradient = self.pull(own, generator=generator)
        if (gradient.shape, gradient.dtype) != (sent.shape, sent.dtype):
            raise InputError(f"{what}: expected {sent.dtype} of shape {tuple(sent.shape)}, got {tuple(gradient.shape)}")
        return gradient.detach()

    @final
    def reconstruct(
        self,
        features: Float[Tensor, "batch *features"],
        *,
        generator: torch.Generator | None = None,
        watch: Watch | None = None,
    ) -> Reconstruction:
        """The images that a client sent these activations of, in their order.

        Args:
            features: left unchanged.
            generator: nothing is drawn; here as in other inversions.
            watch: never called: there is no search to look at.

        Raises:
            InputError: the subclass gave no images in [0, 1].
        """
        what, own = f"{type(self).__name__}.decode", isolated(features)
        with unmodified(what, features=own), torch.no_grad():
            images = self.decode(own).float()
        expected = (len(features), *self.input_shape)
        if tuple(images.shape) != expected or not bool(((images >= 0) & (images <= 1)).all()):
            raise InputError(f"{what}: expected images in [0, 1] of shape {expected}, got {tuple(images.shape)}")
        return Reconstruction(images, None)

    @abstractmethod
    def pull(self, sent: Tensor, *, generator: torch.Generator) -> Tensor:
        """The gradient that is passed on, and a step of the server's own networks; see `gradient`."""

    @abstractmethod
    def decode(self, features: Tensor) -> Tensor:
        """Images in [0, 1]; see `reconstruct`."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """All that it remembers, by name: as much before the first batch as after the last."""

    @abstractmethod
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave."""


class HijackingServer(Sealed, ABC):
    """A malicious server of split learning; a subclass fills in `begin`.

    Attributes:
        disguised: whether it trains its own part of the network on the task all the same, so that the loss falls.
    """

    role: ClassVar[str] = "activations"
    """What its kind of inversion looks at: what crosses the cut of a network."""
    tasks: ClassVar[Sequence[str]] = ("classification",)
    disguised: bool = False

    @abstractmethod
    def begin(self, view: HijackView, *, generator: torch.Generator) -> Hijack:
        """The server at work, before the first batch.

        Args:
            view: what it has.
            generator: the only source of randomness, on the CPU.
        """
