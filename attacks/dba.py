"""DBA: the attackers divide a trigger among themselves; the model learns the whole.

Reference: Xie, Huang, Chen, Li, DBA: distributed backdoor attacks against federated learning, ICLR 2020. As in the
authors' code the trigger consists of strips of one pixel's height in two columns, with a gap between them; success is
measured with all strips. Theirs has four attackers for four strips: here fewer attackers take several strips each,
so that together they always train on the whole trigger, and more attackers share strips.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from jaxtyping import Float
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat import AttackerView, BackdoorPoisoning
from fedsec.threat.backdoor import checked_positive
from fedsec.threat.trigger import Patch, Trigger, patches


@dataclass(eq=False)
class DBA(BackdoorPoisoning):
    """Each Byzantine client trains on a part of the trigger; success is that of the whole.

    Strip i of the trigger lies in column i mod 2 and row i div 2 of a grid at the image's top left.

    Args:
        parts: number of strips, at least 2.
        length: of a strip, in pixels.
        gap: between strips, to the right and below, in pixels.
        margin: between the trigger and the image's top and left edges, in pixels.
        value: brightness in [0, 1], where 1 is white.
        boost: factor on the update, positive; 1 leaves it as it is. The paper's single shot takes 100 of 100 clients.

    Raises:
        InputError: a number out of range.

    Cost:
        What honest training costs.

    Limits:
        The grid of strips has to fit the image. Median and Multi-Krum stop it where clients' data are alike
        (docs/backdoors.md).

    Example:
        length: 2
        gap: 1

    Reference: Xie, Huang, Chen, Li, ICLR 2020
    """

    by_columns = True
    divided: ClassVar[bool] = True

    parts: int = 4
    length: int = 4
    gap: int = 2
    margin: int = 0
    value: float = 1.0
    boost: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.parts < 2 or self.length < 1 or self.gap < 0 or self.margin < 0:
            raise InputError(
                "DBA: expected at least 2 parts, a length of at least 1 pixel, and no negative gap or margin, got "
                f"parts={self.parts}, length={self.length}, gap={self.gap} and margin={self.margin}"
            )
        if not 0 <= self.value <= 1:
            raise InputError(f"DBA: value must lie in [0, 1], where 1 is white, not {self.value}")
        self.forges = checked_positive(self, "boost", self.boost) != 1
        self.own_strips = self.strips

    @property
    def strips(self) -> tuple[Patch, ...]:
        """The whole trigger."""
        down, right = 1 + self.gap, self.length + self.gap
        return tuple(
            (self.margin + index // 2 * down, self.margin + index % 2 * right, 1, self.length)
            for index in range(self.parts)
        )

    def part(self, place: int, num_attackers: int) -> Self:
        shares = min(num_attackers, self.parts)
        return self._with(own_strips=self.strips[place % shares :: shares])

    def trigger(self, shape: Sequence[int]) -> Trigger:
        return patches(shape, self.own_strips, self.value)

    def whole_trigger(self, shape: Sequence[int]) -> Trigger:
        return patches(shape, self.strips, self.value)

    def forge(self, view: AttackerView) -> Float[Tensor, "byzantine parameters"]:
        return view.own * self.boost
