"""Target shift: train honestly, on targets that all lie off by the same amount.

Reference: Jagielski, Oprea, Biggio, Liu, Nita-Rotaru, Li, Manipulating machine learning: poisoning attacks and
countermeasures for regression learning, IEEE S&P 2018, arXiv:1804.00308. They choose a few points by optimization; here
a client owns its data and moves every target, the counterpart of label flipping for targets that are numbers.
"""

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat import DataPoisoning


class TargetShift(DataPoisoning):
    """Byzantine clients train on shifted targets; the inputs stay as they are.

    Every target y becomes y + shift, on the scale on which targets are learned.

    Args:
        shift: what is added to every target; not 0.

    Raises:
        InputError: a shift that is 0 or not finite.

    Cost:
        What honest training costs.

    Limits:
        The median holds against a minority where clients' data are alike (scenarios/regression_diabetes.yaml). A shift
        beyond the targets' range shows in the length of updates.

    Reference: after Jagielski et al., IEEE S&P 2018, arXiv:1804.00308
    """

    tasks: ClassVar[tuple[str, ...]] = ("regression",)

    def __init__(self, shift: float = 5.0) -> None:
        if not math.isfinite(shift) or shift == 0:
            raise InputError(f"TargetShift: shift must be finite and not 0, got {shift}")
        self.shift = shift

    def corrupt(
        self, inputs: Tensor, targets: Float[Tensor, "n ..."], *, num_classes: int | None, generator: torch.Generator
    ) -> tuple[Tensor, Float[Tensor, "n ..."]]:
        if num_classes is not None:
            raise InputError("TargetShift: shifts numbers, and these targets are classes; expected a regression")
        return inputs, targets + self.shift
