"""What a server that knows how its clients defend their updates can tell from what was sent.

Reference: the attacker who knows the defense: Balunović, Dimitrov, Staab, Vechev, Bayesian framework for gradient
leakage, ICLR 2022, arXiv:2111.04706.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import hypot, isfinite

import torch
from jaxtyping import Bool
from torch import Tensor

from fedsec.errors import InputError

__all__ = ["Distortion"]


@dataclass(frozen=True, eq=False)
class Distortion:
    """How the defense of an update changed it, as far as what was sent gives it away.

    It follows from the defense, its settings and the update as sent; never from the client's data or randomness.

    Attributes:
        kept: by parameter, which coordinates still carry the update; a parameter that is missing carries it whole.
        noise: by parameter, the standard deviation of about Gaussian noise on each coordinate, in the units of what was
            sent; a parameter that is missing has none.
        rescaled: the length of what was sent says nothing (clipping).
        signs: only signs were sent, times a positive number for each parameter.

    Raises:
        InputError: a mask that is not boolean, noise that is negative or not finite, or the name of no parameter.
    """

    kept: Mapping[str, Bool[Tensor, "..."]] = field(default_factory=dict)
    noise: Mapping[str, float] = field(default_factory=dict)
    rescaled: bool = False
    signs: bool = False

    def __post_init__(self) -> None:
        for name in (*self.kept, *self.noise):
            if not isinstance(name, str):
                raise InputError(f"Distortion: expected names of parameters, got {name!r}")
        for name, mask in self.kept.items():
            if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
                got = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
                raise InputError(f"Distortion: kept[{name!r}] must be a tensor of torch.bool, got {got}")
        for name, deviation in self.noise.items():
            if not (isfinite(deviation) and deviation >= 0):
                raise InputError(f"Distortion: noise of {name!r} must be finite and not negative, got {deviation}")
        object.__setattr__(self, "kept", {name: mask.detach().clone() for name, mask in self.kept.items()})
        object.__setattr__(self, "noise", {name: float(deviation) for name, deviation in self.noise.items()})

    def then(self, other: "Distortion") -> "Distortion":
        """This distortion and another one after it.

        What either drops is dropped, variances add, and noise that went into a sign is no longer added to anything.

        Args:
            other: what was done next, to the same parameters.

        Raises:
            InputError: masks of one parameter differ in shape or device.
        """
        kept = dict(self.kept)
        for name, mask in other.kept.items():
            if name in kept and (kept[name].shape != mask.shape or kept[name].device != mask.device):
                raise InputError(
                    f"Distortion: masks of {name!r} have shapes {tuple(kept[name].shape)} on {kept[name].device} and "
                    f"{tuple(mask.shape)} on {mask.device}; expected the same"
                )
            kept[name] = kept[name] & mask if name in kept else mask
        before = {} if other.signs else self.noise
        names = dict.fromkeys((*before, *other.noise))
        noise = {name: hypot(before.get(name, 0.0), other.noise.get(name, 0.0)) for name in names}
        return Distortion(kept, noise, self.rescaled or other.rescaled, self.signs or other.signs)

    def on(self, update: Mapping[str, Tensor]) -> "Distortion":
        """The same with its masks where an update lies, checked against it.

        Raises:
            InputError: a name that the update does not have, or a mask of another shape.
        """
        for name in (*self.kept, *self.noise):
            if name not in update:
                raise InputError(f"Distortion: {name!r} is none of the update's parameters: {', '.join(update)}")
        for name, mask in self.kept.items():
            if mask.shape != update[name].shape:
                raise InputError(
                    f"Distortion: kept[{name!r}] has shape {tuple(mask.shape)}, the update {tuple(update[name].shape)}"
                )
        kept = {name: mask.to(update[name].device) for name, mask in self.kept.items()}
        return Distortion(kept, self.noise, self.rescaled, self.signs)

    def whole(self, name: str) -> bool:
        """Whether a parameter's update carries all of its values, but for noise and scale."""
        return not self.signs and (name not in self.kept or bool(self.kept[name].all()))

    @property
    def exact(self) -> bool:
        """Whether nothing was changed but by noise: every value is there, with its size."""
        return not self.rescaled and not self.signs and all(self.whole(name) for name in self.kept)
