"""Edge-case and semantic backdoors: no trigger is added; images that are rare by nature get a wrong label.

Reference: Wang, Sreenivasan, Rajput, Vishwakarma, Agarwal, Sohn, Lee, Papailiopoulos, Attack of the tails: yes, you
really can backdoor federated learning, NeurIPS 2020, arXiv:2007.05084 (edge cases); Bagdasaryan, Veit, Hua, Estrin,
Shmatikov, How to backdoor federated learning, AISTATS 2020, arXiv:1807.00459 (semantic: green cars are birds). Both
take their rare images from elsewhere (other datasets, hand-picked cars). Here they are the tail of one class among
the client's own images, so that any dataset will do: for edge cases those farthest from the class's mean image, for
semantic backdoors those that are the brightest, darkest, reddest, greenest or bluest.
"""

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, Self

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat import AttackerView, DataPoisoning, Probe, UpdatePoisoning
from fedsec.threat.backdoor import checked_positive, checked_target

_COLORS = ("red", "green", "blue")


class EdgeCase(DataPoisoning, UpdatePoisoning):
    """Byzantine clients call the rarest images of one class another one; the test is on such images of the test set.

    A client without a single image of the class has nothing to mislabel, and trains honestly.

    Args:
        source: the class whose images are mislabeled, by number or by name.
        target: what they are called, likewise.
        feature: which images of the class are rare: unusual: far from the class's mean image. The others: what has
            most of it, on average over pixels; of a color, what has most of it beyond the other two.
        tail: share of the class's images that are mislabeled, rounded down but at least one.
        boost: factor on the update, positive; 1 leaves it as it is.

    Raises:
        InputError: both classes are one, an unknown feature, or a number out of range.

    Cost:
        What honest training costs.

    Limits:
        Honest clients who hold such images, rightly labeled, work against it. Attackers without an image of the class
        train honestly.

    Example:
        source: 7
        target: 1

    Reference: Wang et al., NeurIPS 2020, arXiv:2007.05084; Bagdasaryan et al., AISTATS 2020, arXiv:1807.00459
    """

    tasks: ClassVar[tuple[str, ...]] = ("classification",)
    knowledge = "own"
    by_columns = True

    def __init__(
        self,
        source: int | str,
        target: int | str,
        feature: Literal["unusual", "bright", "dark", "red", "green", "blue"] = "unusual",
        tail: float = 0.2,
        boost: float = 1.0,
    ) -> None:
        if source == target or any(isinstance(one, int) and one < 0 for one in (source, target)):
            raise InputError(f"EdgeCase: needs two different classes, not {source=} and {target=}")
        if feature not in ("unusual", "bright", "dark", *_COLORS):
            raise InputError(f"EdgeCase: feature must be unusual, bright, dark, red, green or blue, not {feature!r}")
        if not 0 < tail <= 1:
            raise InputError(f"EdgeCase: tail must lie in (0, 1], not {tail}")
        self.source, self.target, self.feature, self.tail = source, target, feature, tail
        self.boost = checked_positive(self, "boost", boost)
        self.forges = boost != 1

    def resolve(self, class_number: Callable[[int | str], int]) -> Self:
        source, target = class_number(self.source), class_number(self.target)
        if source == target:
            raise InputError(f"EdgeCase: source and target are both class {source}; expected two different classes")
        return self._with(source=source, target=target)

    def check_data(self, input_shape: Sequence[int], num_classes: int | None) -> None:
        for label in (self.source, self.target):
            checked_target(self, label, num_classes)
        if self.feature in _COLORS and (len(input_shape) != 3 or input_shape[0] != 3):
            raise InputError(
                f"EdgeCase: feature {self.feature} needs images of three colors, got inputs of shape "
                f"{tuple(input_shape)}"
            )

    def corrupt(
        self, inputs: Tensor, targets: Int64[Tensor, "n"], *, num_classes: int | None, generator: torch.Generator
    ) -> tuple[Tensor, Int64[Tensor, "n"]]:
        self.check_data(inputs.shape[1:], num_classes)
        target = checked_target(self, self.target, num_classes)
        return inputs, targets.masked_fill(self._rare(inputs, targets, num_classes), target)

    def probes(
        self, inputs: Tensor, targets: Int64[Tensor, "n"], *, num_classes: int | None, generator: torch.Generator
    ) -> Sequence[Probe]:
        self.check_data(inputs.shape[1:], num_classes)
        target = checked_target(self, self.target, num_classes)
        rare = inputs[self._rare(inputs, targets, num_classes)]
        if not len(rare):
            raise InputError(f"EdgeCase: no test example is of class {self.source}, whose images are to be mistaken")
        return [Probe("attack_success_rate", rare, torch.full_like(targets[: len(rare)], target))]

    def forge(self, view: AttackerView) -> Float[Tensor, "byzantine parameters"]:
        return view.own * self.boost

    def _rare(self, inputs: Tensor, targets: Int64[Tensor, "n"], num_classes: int | None) -> Bool[Tensor, "n"]:
        """Which examples are the tail of the source class."""
        places = (targets == checked_target(self, self.source, num_classes)).nonzero().squeeze(1)
        scores = self._scores(inputs[places])
        count = max(1, int(self.tail * len(places) + 1e-9))
        # Stable: of equals the first ones.
        rarest = scores.argsort(descending=True, stable=True)[:count]
        rare = torch.zeros_like(targets, dtype=torch.bool)
        rare[places[rarest]] = True
        return rare

    def _scores(self, images: Tensor) -> Float[Tensor, "n"]:
        wide = images.double()
        if self.feature == "unusual":
            return (wide - wide.mean(0)).square().flatten(1).sum(1)
        if self.feature not in _COLORS:
            return wide.flatten(1).mean(1) * (1 if self.feature == "bright" else -1)
        levels = wide.flatten(2).mean(2)
        own = levels[:, _COLORS.index(self.feature)]
        return own - (levels.sum(1) - own) / 2
