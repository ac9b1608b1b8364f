"""Quantization: every entry of an update is rounded to one of a few levels, by chance so that the mean is right.

Reference: Alistarh, Grubic, Li, Tomioka, Vojnovic, QSGD: communication-efficient SGD via gradient quantization and
encoding, NeurIPS 2017, arXiv:1610.02132.

Deviations: levels are relative to each tensor's largest magnitude (which QSGD's authors use in their experiments)
instead of its L2 norm, and nothing is encoded: what is sent has its old dtype.
"""

from collections.abc import Mapping
from math import log, sqrt

import torch
from torch import Tensor

from fedsec.defense.updates import UNDISTORTED, ClientSide, UpdateTransform
from fedsec.errors import InputError
from fedsec.threat import Distortion


class Quantize(UpdateTransform):
    """Rounds every entry to one of 2^bits - 1 levels, symmetric around zero.

    step = max|u| / (2^(bits - 1) - 1) of each tensor; u becomes step (floor(u / step) + b) with P(b = 1) the fraction
    of u / step that is rounded off, so that its expectation is u. Without `stochastic`, the nearest level.

    An attacker who knows it sees noise. A fraction f has the variance step^2 f (1 - f): step^2 / 6 on average, if
    fractions are uniform, and at most step |u|, which is less where most entries lie below the first level. The nearest
    level errs by step^2 / 12.

    Args:
        bits: 2 to 16; 2 bits are -1, 0 and 1 times the largest magnitude.
        stochastic: round at random, without bias.
        error_feedback: add what was rounded off to the client's next update.

    Raises:
        InputError: bits are out of range.

    Cost:
        One pass over a client's own update, and d random numbers if `stochastic`.

    Limits:
        It hides what its rounding error hides, and with many bits that is little.

    Reference: Alistarh et al., NeurIPS 2017, arXiv:1610.02132
    """

    guarantee = "none: rounding at random bounds nothing"

    def __init__(self, bits: int = 8, stochastic: bool = True, error_feedback: bool = False) -> None:
        if not 2 <= bits <= 16:
            raise InputError(f"Quantize: bits must lie in [2, 16], not {bits}")
        self.bits, self.stochastic, self.error_feedback = bits, stochastic, error_feedback
        self.draws = stochastic
        self._levels = 2 ** (bits - 1) - 1

    def transform(
        self, update: dict[str, Tensor], *, generator: torch.Generator, client: ClientSide | None
    ) -> dict[str, Tensor]:
        return {name: self._rounded(row, generator) for name, row in update.items()}

    def known(self, sent: Mapping[str, Tensor], later: Distortion = UNDISTORTED) -> Distortion:
        if later.signs:
            # Of a sign nothing is left of rounding but the zeros, which say no more than that an entry was small.
            return Distortion(kept={name: row != 0 for name, row in sent.items()})
        return Distortion(noise={name: self._deviation(row, name, later) for name, row in sent.items()})

    def remembered(self, sent: Mapping[str, Tensor], own: Distortion, waited: Mapping[str, Tensor]) -> Distortion:
        # What the last message rounded off was as large as what this one does.
        return Distortion(noise={name: own.noise.get(name, 0.0) for name in sent if bool(waited[name].any())})

    def _rounded(self, row: Tensor, generator: torch.Generator) -> Tensor:
        # float64: neither half precision's steps nor float32's smallest ones survive the division.
        wide = row.double()
        draws = torch.rand(row.shape, generator=generator) if self.stochastic else None
        largest = wide.abs().max()
        if not bool(largest > 0):
            return row
        step = largest / self._levels
        if not bool(step > 0):  # the update is smaller than float64's numbers are apart
            return row
        places = wide / step
        levels = places.round() if draws is None else places.floor() + (draws.to(wide) < places - places.floor())
        # Rounding may have put the largest entry a little beyond its own level.
        rounded: Tensor = (levels.clamp(-self._levels, self._levels) * step).clamp(-largest, largest)
        return rounded.to(row)

    def _deviation(self, row: Tensor, name: str, later: Distortion) -> float:
        """Root mean square of the rounding error, as far as the levels that were sent tell."""
        mask = later.kept.get(name)
        magnitudes = (row if mask is None else row[mask]).detach().double().abs()
        if not magnitudes.numel():
            return 0.0
        # Noise that came later makes all magnitudes larger, and the largest of many by several deviations.
        added, square = later.noise.get(name, 0.0) ** 2, float(magnitudes.square().mean())
        signal = max(0.0, square - added)
        largest = sqrt(max(signal, float(magnitudes.max()) ** 2 - 2 * log(magnitudes.numel()) * added))
        step = largest / self._levels
        if not self.stochastic:
            return float(step / sqrt(12))
        # The magnitudes that were sent are unbiased too.
        mean = float(magnitudes.mean()) * (sqrt(signal / square) if square else 0.0)
        return float(min(step / sqrt(6), sqrt(step * mean)))
