"""Label flipping: train honestly, on the wrong labels.

Reference: Biggio, Nelson, Laskov, Support vector machines under adversarial label noise, ACML 2011. As an attack on
federated learning (pairs of classes): Tolpegin, Truex, Gursoy, Liu, Data poisoning attacks against federated learning
systems, ESORICS 2020, arXiv:2007.08432; y -> C-1-y: Yin et al., ICML 2018, arXiv:1803.01498.
"""

from collections.abc import Callable
from typing import ClassVar, Literal, Self

import torch
from jaxtyping import Int64
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat import DataPoisoning

_MODES = ("mirror", "pair", "random", "all_to_one", "shift")


class LabelFlip(DataPoisoning):
    """Byzantine clients train on flipped labels; the images stay as they are.

    mirror: y -> C-1-y (with an odd number of classes C the middle one maps to itself).
    pair: source -> target, all other labels stay.
    random: each label -> one of the other classes, all equally likely.
    all_to_one: every label -> target; those of `spared` stay.
    shift: y -> y+1, the last class becomes the first.

    Args:
        mode: which labels become which.
        source: the class to relabel, by number or by name; for `pair`, and only there.
        target: what it becomes, likewise; for `pair` and `all_to_one`, and only there.
        spared: a class whose labels stay; for `all_to_one`, and only there.
        flipped_fraction: share of a client's examples whose label flips, drawn at random, rounded down but at least
            one; 1 for all of them.

    Raises:
        InputError: the mode is unknown, the classes do not go with it, or a fraction outside of (0, 1].

    Cost:
        What honest training costs.

    Limits:
        Robust rules stop it where clients' data are alike. Where they differ, rules leave honest clients out in the
        attackers' place, and may do worse than the mean (docs/reproduction.md).

    Example:
        mode: pair
        source: 7
        target: 1

    Reference: Tolpegin et al., ESORICS 2020, arXiv:2007.08432
    """

    tasks: ClassVar[tuple[str, ...]] = ("classification",)

    def __init__(
        self,
        mode: Literal["mirror", "pair", "random", "all_to_one", "shift"] = "mirror",
        source: int | str | None = None,
        target: int | str | None = None,
        spared: int | str | None = None,
        flipped_fraction: float = 1.0,
    ) -> None:
        if mode not in _MODES:
            raise InputError(f"LabelFlip: mode must be one of {', '.join(_MODES)}, not {mode!r}")
        if not 0 < flipped_fraction <= 1:
            raise InputError(f"LabelFlip: flipped_fraction must lie in (0, 1], not {flipped_fraction}")
        negative = any(isinstance(label, int) and label < 0 for label in (source, target, spared))
        if mode == "pair":
            if source is None or target is None or source == target or negative:
                raise InputError(f"LabelFlip: mode pair needs two different classes, not {source=} and {target=}")
        elif source is not None or (target is not None and mode != "all_to_one"):
            raise InputError(
                f"LabelFlip: source and target go with mode pair, target with all_to_one, too, not with mode {mode}"
            )
        if mode == "all_to_one" and (target is None or target == spared or negative):
            raise InputError(
                f"LabelFlip: mode all_to_one needs a target, and no class that is spared but another one, not "
                f"{target=} and {spared=}"
            )
        if spared is not None and mode != "all_to_one":
            raise InputError(f"LabelFlip: spared goes with mode all_to_one, not with mode {mode}")
        self.mode, self.source, self.target, self.spared = mode, source, target, spared
        self.flipped_fraction = flipped_fraction

    def resolve(self, class_number: Callable[[int | str], int]) -> Self:
        """The same attack on classes by number.

        Args:
            class_number: the number of a class, from its name or its number, such as a dataset's.

        Raises:
            InputError: both names are one class.
        """
        labels = (self.source, self.target, self.spared)
        if labels == (None, None, None):
            return self
        source, target, spared = (None if label is None else class_number(label) for label in labels)
        return type(self)(self.mode, source, target, spared, self.flipped_fraction)

    def corrupt(
        self, inputs: Tensor, targets: Int64[Tensor, "n"], *, num_classes: int | None, generator: torch.Generator
    ) -> tuple[Tensor, Int64[Tensor, "n"]]:
        if num_classes is None:
            raise InputError("LabelFlip: flips classes, and this task has none; expected a task of classification")
        self._check_classes(num_classes)
        flipped = self._flipped(targets, num_classes, generator)
        if self.flipped_fraction == 1:
            return inputs, flipped
        order = torch.randperm(len(targets), generator=generator, device=generator.device)
        chosen = order[: max(1, int(self.flipped_fraction * len(targets) + 1e-9))].to(targets.device)
        return inputs, targets.index_copy(0, chosen, flipped[chosen])

    def _flipped(self, targets: Int64[Tensor, "n"], num_classes: int, generator: torch.Generator) -> Int64[Tensor, "n"]:
        if self.mode == "pair":
            return targets.masked_fill(targets.eq(int(self.source or 0)), int(self.target or 0))
        if self.mode == "all_to_one":
            moved = torch.ones_like(targets, dtype=torch.bool) if self.spared is None else targets.ne(int(self.spared))
            return targets.masked_fill(moved, int(self.target or 0))
        if self.mode == "shift":
            return (targets + 1) % num_classes
        if self.mode == "random":
            shift = torch.randint(1, num_classes, targets.shape, generator=generator, device=generator.device)
            return (targets + shift.to(targets.device)) % num_classes
        return num_classes - 1 - targets

    def _check_classes(self, num_classes: int) -> None:
        names = {"source": self.source, "target": self.target, "spared": self.spared}
        given = {name: label for name, label in names.items() if label is not None}
        shown = " and ".join(f"{name}={label!r}" for name, label in given.items())
        if any(isinstance(label, str) for label in given.values()):
            raise InputError(
                f"LabelFlip: {shown}: names of classes need a dataset; expected numbers, or a call of resolve"
            )
        if any(int(label) >= num_classes for label in given.values()):
            raise InputError(f"LabelFlip: {shown} must be classes, below {num_classes}")
        if self.mode in ("random", "shift") and num_classes < 2:
            raise InputError(f"LabelFlip: mode {self.mode} needs at least two classes")
