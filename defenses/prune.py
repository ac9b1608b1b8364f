"""Gradient pruning: only the largest entries of an update are sent.

References: Aji, Heafield, Sparse communication for distributed gradient descent, EMNLP 2017, arXiv:1704.05021; Lin,
Han, Mao, Wang, Dally, Deep gradient compression, ICLR 2018, arXiv:1712.01887; as a defense: Zhu, Liu, Han, Deep leakage
from gradients, NeurIPS 2019, arXiv:1906.08935 (section 5.2).

Deviation: deep gradient compression's momentum correction, clipping and warm-up belong to training and are left out.
"""

from collections.abc import Mapping, Sequence
from math import floor, sqrt

import torch
from jaxtyping import Bool
from torch import Tensor

from fedsec.defense.updates import UNDISTORTED, ClientSide, UpdateTransform
from fedsec.errors import InputError
from fedsec.threat import Distortion


class Prune(UpdateTransform):
    """Zeroes the smallest entries of an update, by magnitude.

    Exactly floor(ratio n) of n entries go, of equal ones the first. An attacker who knows it compares the entries that
    were sent, and of the others as much as exceeds the smallest that was; where what was sent was then rounded to few
    levels, with zeros of its own, it compares all.

    Args:
        ratio: share of the entries that is zeroed, in [0, 1).
        per_tensor: that share of each parameter; otherwise of the whole update, so that some may vanish altogether.
        error_feedback: add what was not sent to the client's next update.

    Raises:
        InputError: the ratio is out of range.

    Cost:
        A partial sort of a client's own update.

    Limits:
        The entries that are sent are exact: with 90% pruned, an attacker who knows it still recovers some images
        (docs/results/inversion_defenses.csv). Shares so large that they recover none cost accuracy.

    Reference: Lin et al., ICLR 2018, arXiv:1712.01887
    """

    guarantee = "none: no noise is added"

    def __init__(self, ratio: float = 0.9, per_tensor: bool = True, error_feedback: bool = False) -> None:
        if not 0 <= ratio < 1:
            raise InputError(f"Prune: ratio must lie in [0, 1), not {ratio}")
        self.ratio, self.per_tensor, self.error_feedback = ratio, per_tensor, error_feedback

    def transform(
        self, update: dict[str, Tensor], *, generator: torch.Generator, client: ClientSide | None
    ) -> dict[str, Tensor]:
        largest = self._largest(update)
        return {name: row * largest[name] for name, row in update.items()}

    def known(self, sent: Mapping[str, Tensor], later: Distortion = UNDISTORTED) -> Distortion:
        # The attacker can count: where noise came after pruning and nothing is zero, the largest are the likeliest.
        largest = self._largest(sent)
        masks = {name: largest[name] & (row != 0) for name, row in sent.items()}
        noise = dict[str, float]()
        for group in [[name] for name in sent] if self.per_tensor else [list(sent)]:
            number = sum(int(largest[name].sum()) for name in group)
            zeros = number - sum(int(masks[name].sum()) for name in group)
            if zeros == 0 or any(name in later.kept and not bool(later.kept[name].all()) for name in group):
                continue
            # Fewer are left than were sent: some of the zeros were, and nobody can tell which.
            masks |= {name: torch.ones_like(masks[name]) for name in group}
            if any(later.noise.get(name, 0.0) for name in group):
                # Rounded to zero. Only the entries that were rounded up would remain, so zeros count as rounded, too.
                level = _below([sent[name] for name in group], number) * sqrt(self.ratio)
                noise |= dict.fromkeys(group, level)
        return Distortion(masks, noise, limit={} if self.error_feedback else self._limits(sent, masks, later))

    def _limits(self, sent: Mapping[str, Tensor], masks: Mapping[str, Tensor], later: Distortion) -> dict[str, float]:
        """By parameter, the least magnitude that was kept, which nothing that was dropped exceeds."""
        if later.signs or later.rescaled:
            return {}
        limits = dict[str, float]()
        for group in [[name] for name in sent] if self.per_tensor else [list(sent)]:
            least = [sent[name][masks[name]].abs().min() for name in group if bool(masks[name].any())]
            changed = any(name in changes for name in group for changes in (later.kept, later.noise))
            if least and not changed and not all(bool(masks[name].all()) for name in group):
                limits |= dict.fromkeys(group, float(torch.stack(least).min()))
        return limits

    def remembered(self, sent: Mapping[str, Tensor], own: Distortion, waited: Mapping[str, Tensor]) -> Distortion:
        """Noise by age: after w messages without it an entry is the sum of w + 1 updates, of which one is looked for.

        If they are independent and of equal size, w / (w + 1) of its square is that of the others.
        """
        carried = {}
        for name, row in sent.items():
            age = waited[name].flatten().long()
            if not bool(age.any()):
                continue
            squares = (row.detach().flatten().double() * own.kept[name].flatten()).square()
            counts = age.bincount(weights=own.kept[name].flatten().double())
            means = age.bincount(weights=squares) / counts.clamp_min(1)
            carried[name] = (means[age] * age / (age + 1)).sqrt().view(row.shape).to(row)
        return Distortion(carried=carried)

    def _largest(self, update: Mapping[str, Tensor]) -> dict[str, Bool[Tensor, "..."]]:
        """All entries but the share with the smallest magnitudes."""
        if self.per_tensor:
            return {name: self._largest_of(row.flatten()).view(row.shape) for name, row in update.items()}
        largest = self._largest_of(torch.cat([row.flatten() for row in update.values()]))
        parts = torch.split(largest, [row.numel() for row in update.values()])
        return {name: part.view(row.shape) for part, (name, row) in zip(parts, update.items(), strict=True)}

    def _largest_of(self, row: Tensor) -> Bool[Tensor, "n"]:
        # A ratio such as 0.7 is a little off in binary; 0.7 of 10 entries are seven.
        number = floor(self.ratio * row.numel() + 1e-9)
        if not number:
            return torch.ones_like(row, dtype=torch.bool)
        # Many times faster than sorting.
        magnitudes = row.abs()
        largest = magnitudes.kthvalue(number).values
        chosen = magnitudes > largest
        equal = (magnitudes == largest).nonzero().flatten()
        chosen[equal[number - int((magnitudes < largest).sum()) :]] = True
        return chosen


def _below(rows: Sequence[Tensor], number: int) -> float:
    """Root mean square of entries that were pruned before rounding took some of those that were kept to zero.

    They are taken for uniform up to a threshold, which is below both the first level and the mean of what was kept.
    """
    magnitudes = torch.cat([row.detach().flatten() for row in rows]).double().abs()
    if not bool(magnitudes.any()):
        return 0.0
    first, mean = float(magnitudes[magnitudes > 0].min()), float(magnitudes.sum()) / number
    return min(first, mean) / 2 / sqrt(3)
