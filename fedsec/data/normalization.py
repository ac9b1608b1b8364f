"""The constants that turn pixels into a network's input."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedsec.errors import DataError


@dataclass(frozen=True)
class Normalization:
    """Constants of the map from a pixel to a network's input.

    x = (pixel / 255 - mean) / std

    The constants are chosen, never computed from the data: the mean of all clients' images is
    something that no client of a federation knows, and sharing it would leak.

    Args:
        mean: one value for all channels, or one a channel; on the scale where pixels lie in [0, 1].
        std: likewise, each greater than 0.

    Raises:
        DataError: not finite, std not positive, or different numbers of channels.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        for key, values in (("mean", self.mean), ("std", self.std)):
            if not values:
                raise DataError(f"normalization: {key} must hold one value, or one for each channel, but is empty")
            if not all(math.isfinite(value) for value in values):
                raise DataError(f"normalization: {key} must be finite, got {list(values)}")
        if min(self.std) <= 0:
            raise DataError(f"normalization: std must be greater than 0, got {list(self.std)}")
        if len({len(self.mean), len(self.std)} - {1}) > 1:
            raise DataError(
                f"normalization: mean has {len(self.mean)} values and std has {len(self.std)}; each needs one value, "
                "or one for each channel"
            )

    def check_shape(self, shape: Sequence[int]) -> None:
        """Raise DataError unless these constants fit inputs of that shape: images by channels, vectors by features."""
        count, images = shape[0], len(shape) == 3
        inputs, one = ("images", "channel") if images else ("vectors", "feature")
        for key, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, count):
                raise DataError(
                    f"normalization: {key} has {len(values)} values, but the {inputs} have {count} {one}(s); "
                    f"give one value, or one for each {one}"
                )


PRESETS = {"unit": Normalization((0.0,), (1.0,)), "half": Normalization((0.5,), (0.5,))}


def normalization(spec: str | Mapping[str, Any] | Normalization) -> Normalization:
    """The normalization that a scenario asks for.

    Args:
        spec: `unit` (inputs in [0, 1]), `half` (inputs in [-1, 1]), or `{"mean": ..., "std": ...}` with one
            number, or one a channel. These are constants that a client may know beforehand.

    Raises:
        DataError: none of these.
    """
    if isinstance(spec, Normalization):
        return spec
    if isinstance(spec, Mapping) and set(spec) == {"mean", "std"}:
        return Normalization(_numbers("mean", spec["mean"]), _numbers("std", spec["std"]))
    if isinstance(spec, str) and spec in PRESETS:
        return PRESETS[spec]
    raise DataError(f"normalization must be 'unit', 'half' or {{mean: [...], std: [...]}}, got {spec!r}")


def _numbers(key: str, value: Any) -> tuple[float, ...]:
    values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if not all(isinstance(item, int | float) and not isinstance(item, bool) for item in values):
        raise DataError(f"normalization: {key} must be a number or a list of numbers, got {value!r}")
    return tuple(float(item) for item in values)
