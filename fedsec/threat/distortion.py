"""What a server that knows how its clients defend their updates can tell from what was sent.

Reference: the attacker who knows the defense: Balunović, Dimitrov, Staab, Vechev, Bayesian framework for gradient
leakage, ICLR 2022, arXiv:2111.04706.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import hypot, isfinite

import torch
from jaxtyping import Bool, Float
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
        carried: by parameter, the standard deviation, coordinate by coordinate, of what earlier updates left to be sent
            with this one (error feedback), in the units of what was sent; a parameter that is missing has none.
        limit: by parameter, the largest magnitude of an entry that was dropped, in the units of what was sent; of a
            parameter that is missing nothing is known of what was dropped.
        ceiling: an estimate of the largest standard deviation that noise of earlier defenses can have in what was sent,
            where its length was cut to an unknown part; zero where nothing can be said of it, None where none was cut.

    Raises:
        InputError: a mask that is not boolean, noise that is negative or not finite, or the name of no parameter.
    """

    kept: Mapping[str, Bool[Tensor, "..."]] = field(default_factory=dict)
    noise: Mapping[str, float] = field(default_factory=dict)
    rescaled: bool = False
    signs: bool = False
    carried: Mapping[str, Float[Tensor, "..."]] = field(default_factory=dict)
    ceiling: float | None = None
    limit: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (*self.kept, *self.noise, *self.carried, *self.limit):
            if not isinstance(name, str):
                raise InputError(f"Distortion: expected names of parameters, got {name!r}")
        for name, mask in self.kept.items():
            if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
                got = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
                raise InputError(f"Distortion: kept[{name!r}] must be a tensor of torch.bool, got {got}")
        for name, deviation in self.noise.items():
            if not (isfinite(deviation) and deviation >= 0):
                raise InputError(f"Distortion: noise of {name!r} must be finite and not negative, got {deviation}")
        for name, most in self.limit.items():
            if not (isfinite(most) and most >= 0):
                raise InputError(f"Distortion: limit of {name!r} must be finite and not negative, got {most}")
        for name, row in self.carried.items():
            if not isinstance(row, Tensor) or not bool((row.isfinite() & (row >= 0)).all()):
                raise InputError(f"Distortion: carried[{name!r}] must be finite deviations, none of them negative")
        if self.ceiling is not None and not (isfinite(self.ceiling) and self.ceiling >= 0):
            raise InputError(f"Distortion: ceiling must be finite and not negative, got {self.ceiling}")
        object.__setattr__(self, "kept", {name: mask.detach().clone() for name, mask in self.kept.items()})
        object.__setattr__(self, "carried", {name: row.detach().clone() for name, row in self.carried.items()})
        object.__setattr__(self, "limit", {name: float(most) for name, most in self.limit.items()})
        object.__setattr__(self, "noise", {name: float(deviation) for name, deviation in self.noise.items()})

    def then(self, other: "Distortion") -> "Distortion":
        """This distortion and another one after it, which changed this one's noise too.

        What either drops is dropped, and variances add, but for what `other` leaves of the noise before it.

        Args:
            other: what was done next, to the same parameters.

        Raises:
            InputError: masks of one parameter differ in shape or device.
        """
        noise = other.reduced(self.noise)
        joined = replace(self, noise=noise, carried={} if other.signs else self.carried).joined(other)
        ceilings = [ceiling for ceiling in (self.ceiling, other.left(noise)) if ceiling is not None]
        return replace(joined, ceiling=min(ceilings, default=None))

    def reduced(self, noise: Mapping[str, float]) -> dict[str, float]:
        """What is left in what was sent of noise that went in before.

        Noise that went into a sign is no longer added to anything. An update that was shortened to a limit was so by a
        factor that depends on the unknown length of its signal: the noise is then taken for as much of itself as what
        was sent can hold, or left out where that cannot be said.

        Args:
            noise: by parameter, the standard deviation before this distortion.
        """
        if self.signs or self.ceiling == 0:
            return {}
        most = max(noise.values(), default=0.0)
        factor = 1.0 if self.ceiling is None or most <= self.ceiling else self.ceiling / most
        return {name: factor * deviation for name, deviation in noise.items()}

    def left(self, noise: Mapping[str, float]) -> float | None:
        """The ceiling for what went in before `noise` did, which takes its part of it."""
        most = max(noise.values(), default=0.0)
        return None if self.ceiling is None else max(0.0, self.ceiling**2 - most**2) ** 0.5

    def joined(self, other: "Distortion") -> "Distortion":
        """This distortion and another one, both in the units of what was sent in the end.

        What either drops is dropped, and variances add.

        Raises:
            InputError: masks or deviations of one parameter differ in shape or device.
        """
        masks = dict(self.kept)
        for name, mask in other.kept.items():
            if name in masks and (masks[name].shape != mask.shape or masks[name].device != mask.device):
                raise InputError(
                    f"Distortion: masks of {name!r} have shapes {tuple(masks[name].shape)} on {masks[name].device} and "
                    f"{tuple(mask.shape)} on {mask.device}; expected the same"
                )
            masks[name] = masks[name] & mask if name in masks else mask
        names = dict.fromkeys((*self.noise, *other.noise))
        noise = {name: hypot(self.noise.get(name, 0.0), other.noise.get(name, 0.0)) for name in names}
        carried = dict(self.carried)
        for name, row in other.carried.items():
            carried[name] = torch.hypot(carried[name], row) if name in carried else row
        ceilings = [ceiling for ceiling in (self.ceiling, other.ceiling) if ceiling is not None]
        return Distortion(
            masks,
            noise,
            self.rescaled or other.rescaled,
            self.signs or other.signs,
            carried,
            min(ceilings, default=None),
            {**self._limits_beside(other), **other._limits_beside(self)},
        )

    def _limits_beside(self, other: "Distortion") -> dict[str, float]:
        """Limits that still hold where another distortion leaves a parameter and its units alone."""
        if other.rescaled or other.signs:
            return {}
        touched = {*other.kept, *other.noise, *other.carried}
        return {name: most for name, most in self.limit.items() if name not in touched}

    def times(self, factor: float) -> "Distortion":
        """The same of an update that was multiplied by a positive number.

        Args:
            factor: into whose units deviations and limits are put.
        """
        return replace(
            self,
            noise={name: factor * deviation for name, deviation in self.noise.items()},
            carried={name: factor * row for name, row in self.carried.items()},
            ceiling=None if self.ceiling is None else factor * self.ceiling,
            limit={name: factor * most for name, most in self.limit.items()},
        )

    def on(self, update: Mapping[str, Tensor]) -> "Distortion":
        """The same with its masks where an update lies, checked against it.

        Raises:
            InputError: a name that the update does not have, or a mask of another shape.
        """
        for name in (*self.kept, *self.noise, *self.carried, *self.limit):
            if name not in update:
                raise InputError(f"Distortion: {name!r} is none of the update's parameters: {', '.join(update)}")
        for name, mask in self.kept.items():
            if mask.shape != update[name].shape:
                raise InputError(
                    f"Distortion: kept[{name!r}] has shape {tuple(mask.shape)}, the update {tuple(update[name].shape)}"
                )
        for name, row in self.carried.items():
            if row.shape != update[name].shape:
                raise InputError(
                    f"Distortion: carried[{name!r}] has shape {tuple(row.shape)}, the update "
                    f"{tuple(update[name].shape)}"
                )
        masks = {name: mask.to(update[name].device) for name, mask in self.kept.items()}
        carried = {name: row.to(update[name]) for name, row in self.carried.items()}
        return replace(self, kept=masks, carried=carried)

    def whole(self, name: str) -> bool:
        """Whether a parameter's update carries all of its values, but for noise and scale."""
        return not self.signs and (name not in self.kept or bool(self.kept[name].all()))

    @property
    def exact(self) -> bool:
        """Whether nothing was changed but by noise: every value is there, with its size."""
        return not self.rescaled and not self.signs and all(self.whole(name) for name in self.kept)
