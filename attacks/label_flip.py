"""Label flipping: train honestly, on the wrong labels.

Reference: Biggio, Nelson, Laskov, Support vector machines under adversarial label noise, ACML 2011. As an attack on
federated learning (pairs of classes): Tolpegin, Truex, Gursoy, Liu, Data poisoning attacks against federated learning
systems, ESORICS 2020, arXiv:2007.08432; y -> C-1-y: Yin et al., ICML 2018, arXiv:1803.01498.
"""

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from jaxtyping import Int64
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat import DataPoisoning


class LabelFlip(DataPoisoning):
    """Byzantine clients train on flipped labels; the images stay as they are.

    mirror: y -> C-1-y (with an odd number of classes C the middle one maps to itself).
    pair: source -> target, all other labels stay.
    random: each label -> one of the other classes, all equally likely.

    Args:
        mode: which labels become which.
        source: the class to relabel, by number or by name; for `pair`, and only there.
        target: what it becomes, likewise; for `pair`, and only there.

    Raises:
        InputError: the mode is unknown, or source and target do not go with it.

    Reference: Tolpegin et al., ESORICS 2020, arXiv:2007.08432
    """

    tasks: ClassVar[tuple[str, ...]] = ("classification",)

    def __init__(
        self,
        mode: Literal["mirror", "pair", "random"] = "mirror",
        source: int | str | None = None,
        target: int | str | None = None,
    ) -> None:
        if mode not in ("mirror", "pair", "random"):
            raise InputError(f"LabelFlip: mode must be mirror, pair or random, not {mode!r}")
        if mode == "pair":
            negative = any(isinstance(label, int) and label < 0 for label in (source, target))
            if source is None or target is None or source == target or negative:
                raise InputError(f"LabelFlip: mode pair needs two different classes, not {source=} and {target=}")
        elif source is not None or target is not None:
            raise InputError(f"LabelFlip: source and target go with mode pair, not with mode {mode}")
        self.mode = mode
        self.pair = None if source is None or target is None else (source, target)

    def resolve(self, class_number: Callable[[int | str], int]) -> "LabelFlip":
        """The same attack on classes by number.

        Args:
            class_number: the number of a class, from its name or its number, such as a dataset's.

        Raises:
            InputError: both names are one class.
        """
        if self.pair is None:
            return self
        return LabelFlip("pair", *(class_number(label) for label in self.pair))

    def corrupt(
        self, inputs: Tensor, targets: Int64[Tensor, "n"], *, num_classes: int | None, generator: torch.Generator
    ) -> tuple[Tensor, Int64[Tensor, "n"]]:
        if num_classes is None:
            raise InputError("LabelFlip: flips classes, and this task has none; expected a task of classification")
        if self.pair is not None:
            source, target = self.pair
            if isinstance(source, str) or isinstance(target, str):
                raise InputError(
                    f"LabelFlip: {source=} and {target=}: names of classes need a dataset; expected numbers, or a call "
                    "of resolve"
                )
            if max(source, target) >= num_classes:
                raise InputError(f"LabelFlip: {source=} and {target=} must be classes, below {num_classes}")
            return inputs, targets.masked_fill(targets == source, target)
        if self.mode == "random":
            if num_classes < 2:
                raise InputError("LabelFlip: mode random needs at least two classes")
            shift = torch.randint(1, num_classes, targets.shape, generator=generator, device=generator.device)
            return inputs, (targets + shift.to(targets.device)) % num_classes
        return inputs, num_classes - 1 - targets
