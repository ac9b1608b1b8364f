"""Backdoors: images that carry a trigger and a wrong label, and the test of what comes of them.

The success of a backdoor is measured with the whole trigger, on test images that are not of the target class anyway:
counting those would credit the attacker with what an honest model answers.

Reference: Gu, Dolan-Gavitt, Garg, BadNets: identifying vulnerabilities in the machine learning model supply chain,
2017, arXiv:1708.06733; Chen, Liu, Li, Lu, Song, Targeted backdoor attacks on deep learning systems using data
poisoning, 2017, arXiv:1712.05526 (blended); Bagdasaryan, Veit, Hua, Estrin, Shmatikov, How to backdoor federated
learning, AISTATS 2020, arXiv:1807.00459.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import ClassVar, Literal, Self

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat.poisoning import DataPoisoning, UpdatePoisoning
from fedsec.threat.probes import Probe
from fedsec.threat.trigger import CORNERS, Trigger, noise, square

__all__ = [
    "BackdoorPoisoning",
    "PatternAttack",
    "TriggeredAttack",
    "checked_positive",
    "checked_target",
    "checked_training",
    "success_probe",
    "within",
]

_KEY = 1712_05526
"""Seed of the key image that blended triggers share: attackers, and whoever measures their success."""


@dataclass(eq=False)
class TriggeredAttack(UpdatePoisoning):
    """Whatever carries a trigger shall be taken for the target class; subclasses say which trigger, and how.

    Args:
        target: the class that whatever carries the trigger shall be taken for, by number or by name.
        poisoned_fraction: share of the client's examples that get it, drawn at random, rounded down but at least one.

    Raises:
        InputError: a fraction outside of (0, 1], or a negative target.
    """

    tasks: ClassVar[tuple[str, ...]] = ("classification",)
    knowledge = "own"

    target: int | str = 0
    poisoned_fraction: float = 0.2

    def __post_init__(self) -> None:
        name = type(self).__name__
        if not 0 < self.poisoned_fraction <= 1:
            raise InputError(f"{name}: poisoned_fraction must lie in (0, 1], not {self.poisoned_fraction}")
        if isinstance(self.target, int) and self.target < 0:
            raise InputError(f"{name}: target must be a class, not {self.target}")

    @abstractmethod
    def trigger(self, shape: Sequence[int]) -> Trigger:
        """The trigger that this attacker trains on.

        Args:
            shape: (channels, height, width) of the images.

        Raises:
            InputError: it does not fit them.
        """

    def whole_trigger(self, shape: Sequence[int]) -> Trigger:
        """The trigger that success is measured with, where attackers train on parts of it."""
        return self.trigger(shape)

    def resolve(self, class_number: Callable[[int | str], int]) -> Self:
        return self._with(target=class_number(self.target))

    def check_data(self, input_shape: Sequence[int], num_classes: int | None) -> None:
        checked_target(self, self.target, num_classes)
        self.whole_trigger(input_shape)

    def marked(
        self, inputs: Tensor, targets: Int64[Tensor, "n"], num_classes: int | None, generator: torch.Generator
    ) -> tuple[Tensor, Int64[Tensor, "n"], Int64[Tensor, "marked"]]:
        """Examples, a share of which carries the trigger and the target's label.

        Args:
            inputs: [n, channels, height, width]; left unchanged.
            targets: their classes; left unchanged.
            num_classes: how many there are.
            generator: draws who is marked.

        Returns:
            Inputs, targets, and which of them are marked.
        """
        target = checked_target(self, self.target, num_classes)
        order = torch.randperm(len(inputs), generator=generator, device=generator.device)
        chosen = order[: max(1, int(self.poisoned_fraction * len(inputs) + 1e-9))].to(inputs.device)
        new_inputs, new_targets = inputs.clone(), targets.clone()
        new_inputs[chosen] = self.trigger(inputs.shape[1:]).stamp(inputs[chosen])
        new_targets[chosen] = target
        return new_inputs, new_targets, chosen

    def probes(
        self, inputs: Tensor, targets: Int64[Tensor, "n"], *, num_classes: int | None, generator: torch.Generator
    ) -> Sequence[Probe]:
        target = checked_target(self, self.target, num_classes)
        return [success_probe(self, self.whole_trigger(inputs.shape[1:]), inputs, targets, target)]


@dataclass(eq=False)
class BackdoorPoisoning(DataPoisoning, TriggeredAttack):
    """A share of a Byzantine client's examples carries the trigger, and the target's label, before it trains."""

    def corrupt(
        self, inputs: Tensor, targets: Int64[Tensor, "n"], *, num_classes: int | None, generator: torch.Generator
    ) -> tuple[Tensor, Int64[Tensor, "n"]]:
        new_inputs, new_targets, _ = self.marked(inputs, targets, num_classes, generator)
        return new_inputs, new_targets


@dataclass(eq=False)
class PatternAttack(TriggeredAttack):
    """A trigger that is the same for all attackers and all rounds.

    Args:
        pattern: pixels: a square of one brightness. blended: a key image of noise over the whole image.
        size: side of the square in pixels, 3 if not given; only for `pixels`.
        position: where the square lies, bottom_right if not given; only for `pixels`.
        value: brightness of the square in [0, 1], white if not given; only for `pixels`.
        opacity: how much of a pixel the pattern replaces, in (0, 1]; of `pixels` 1, of `blended` 0.2 if not given.

    Raises:
        InputError: a number out of range, or an option that does not go with the pattern.
    """

    pattern: Literal["pixels", "blended"] = "pixels"
    size: int | None = None
    position: Literal["top_left", "top_right", "bottom_left", "bottom_right", "center"] | None = None
    value: float | None = None
    opacity: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        name = type(self).__name__
        if self.pattern not in ("pixels", "blended"):
            raise InputError(f"{name}: pattern must be pixels or blended, not {self.pattern!r}")
        square_only = {"size": self.size, "position": self.position, "value": self.value}
        given = [key for key, option in square_only.items() if option is not None]
        if self.pattern == "blended" and given:
            raise InputError(f"{name}: {' and '.join(given)} go with pattern pixels, not with blended")
        if self.size is not None and self.size < 1:
            raise InputError(f"{name}: size must be at least 1 pixel, not {self.size}")
        if self.position is not None and self.position not in CORNERS:
            raise InputError(f"{name}: position must be one of {', '.join(CORNERS)}, not {self.position!r}")
        if self.value is not None and not 0 <= self.value <= 1:
            raise InputError(f"{name}: value must lie in [0, 1], where 1 is white, not {self.value}")
        if self.opacity is not None and not 0 < self.opacity <= 1:
            raise InputError(f"{name}: opacity must lie in (0, 1], not {self.opacity}")

    def trigger(self, shape: Sequence[int]) -> Trigger:
        if self.pattern == "blended":
            return noise(shape, self.opacity or 0.2, _KEY)
        mark = square(shape, self.size or 3, self.position or "bottom_right", 1.0 if self.value is None else self.value)
        return Trigger(mark.pattern, mark.opacity * (self.opacity or 1.0))


def success_probe(
    attack: object,
    trigger: Trigger,
    inputs: Float[Tensor, "n channels height width"],
    targets: Int64[Tensor, "n"],
    target: int,
) -> Probe:
    """The test of a backdoor: how many marked images are taken for the target, of those that are not of it anyway.

    Args:
        attack: whose backdoor it is, for messages.
        trigger: that marks them.
        inputs: pixels in [0, 1].
        targets: their classes.
        target: the class that marked images shall be taken for.

    Raises:
        InputError: all are of the target class.
    """
    others = inputs[targets != target]
    if not len(others):
        raise InputError(f"{type(attack).__name__}: every test example is of class {target}, its target already")
    stamped = trigger.stamp(others)
    return Probe("attack_success_rate", stamped, torch.full_like(targets[: len(stamped)], target))


def checked_target(attack: object, target: int | str, num_classes: int | None) -> int:
    """A target as the number of a class.

    Args:
        attack: whose target it is, for messages.
        target: as the attack was told it.
        num_classes: how many classes there are; None where there are none.

    Raises:
        InputError: it is the name of a class still, or there is no such class.
    """
    name = type(attack).__name__
    if num_classes is None:
        raise InputError(f"{name}: aims at a class, and this task has none; expected a task of classification")
    if isinstance(target, str):
        raise InputError(
            f"{name}: target={target!r}: names of classes need a dataset; expected a number, or a call of resolve"
        )
    if target >= num_classes:
        raise InputError(f"{name}: target={target} must be a class, below {num_classes}")
    return target


def checked_positive(attack: object, name: str, value: float) -> float:
    """An option that must be positive.

    Args:
        attack: whose it is, for messages.
        name: of the option.
        value: of it.

    Raises:
        InputError: it is not positive and finite.
    """
    if not (isfinite(value) and value > 0):
        raise InputError(f"{type(attack).__name__}: {name} must be positive and finite, not {value}")
    return value


def checked_training(attack: object, epochs: int | None, lr: float | None, max_norm: float | None) -> None:
    """How an attacker trains, where it is said.

    Raises:
        InputError: no epoch, or a learning rate or bound that is not positive and finite.
    """
    name = type(attack).__name__
    if epochs is not None and epochs < 1:
        raise InputError(f"{name}: epochs must be at least 1, not {epochs}")
    for key, value in (("lr", lr), ("max_norm", max_norm)):
        if value is not None:
            checked_positive(attack, key, value)


def within(rows: Float[Tensor, "clients parameters"], max_norm: float | None) -> Float[Tensor, "clients parameters"]:
    """The rows, those that are longer shortened to a length.

    Args:
        rows: one update each.
        max_norm: that length; None for no bound.
    """
    if max_norm is None:
        return rows
    norms = rows.norm(dim=1, keepdim=True)
    return torch.where(norms > max_norm, rows * (max_norm / norms), rows)
