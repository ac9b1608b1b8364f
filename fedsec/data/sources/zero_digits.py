"""Handwritten digits as a question with two answers: is it a zero?"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fedsec.data.sources.digits import Digits

if TYPE_CHECKING:
    from fedsec.data.dataset import Split


class ZeroDigits(Digits):
    """UCI handwritten digits, of which every tenth is a zero: 1,437 + 360 gray images of 8x8, other (0) or zero (1).

    The images and the split are those of `digits`. A rare second class is what label inference by the length of
    gradients is about.

    Reference: Alpaydin, Kaynak, "Optical recognition of handwritten digits", UCI repository, 1998.
    """

    name = "zero_digits"
    num_classes = 2

    def read(self, folder: Path) -> "tuple[Split, Split, tuple[str, ...]]":
        """See `Source.read`."""
        train, test, _ = super().read(folder)
        train, test = (replace(split, targets=(split.targets == 0).long()) for split in (train, test))
        return train, test, ("other", "zero")
