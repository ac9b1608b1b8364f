"""Gradient pruning: only the largest entries of an update are sent.

References: Aji, Heafield, Sparse communication for distributed gradient descent, EMNLP 2017, arXiv:1704.05021; Lin,
Han, Mao, Wang, Dally, Deep gradient compression, ICLR 2018, arXiv:1712.01887; as a defense: Zhu, Liu, Han, Deep leakage
from gradients, NeurIPS 2019, arXiv:1906.08935 (section 5.2).

Deviation: deep gradient compression's momentum correction, clipping and warm-up belong to training and are left out.
"""

from collections.abc import Mapping
from math import floor

import torch
from jaxtyping import Bool
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat import Distortion
from fedsec.update_defense import ClientSide, UpdateTransform


class Prune(UpdateTransform):
    """Zeroes the smallest entries of an update, by magnitude.

    Exactly floor(ratio n) of n entries go, of equal ones the first. An attacker who knows it compares only the entries
    that were sent.

    Args:
        ratio: share of the entries that is zeroed, in [0, 1).
        per_tensor: that share of each parameter; otherwise of the whole update, so that some may vanish altogether.
        error_feedback: add what was not sent to the client's next update.

    Raises:
        InputError: the ratio is out of range.

    Reference: Lin et al., ICLR 2018, arXiv:1712.01887
    """

    def __init__(self, ratio: float = 0.9, per_tensor: bool = True, error_feedback: bool = False) -> None:
        if not 0 <= ratio < 1:
            raise InputError(f"Prune: ratio must lie in [0, 1), not {ratio}")
        self.ratio, self.per_tensor, self.error_feedback = ratio, per_tensor, error_feedback

    def transform(
        self, update: dict[str, Tensor], *, generator: torch.Generator, client: ClientSide | None
    ) -> dict[str, Tensor]:
        largest = self._largest(update)
        return {name: row * largest[name] for name, row in update.items()}

    def known(self, sent: Mapping[str, Tensor]) -> Distortion:
        # The attacker can count: where noise came after pruning and nothing is zero, the largest are the likeliest.
        largest = self._largest(sent)
        return Distortion(kept={name: largest[name] & (row != 0) for name, row in sent.items()})

    def _largest(self, update: Mapping[str, Tensor]) -> dict[str, Bool[Tensor, "..."]]:
        """All entries but the share with the smallest magnitudes."""
        if self.per_tensor:
            return {name: self._largest_of(row.flatten()).view(row.shape) for name, row in update.items()}
        kept = self._largest_of(torch.cat([row.flatten() for row in update.values()]))
        parts = torch.split(kept, [row.numel() for row in update.values()])
        return {name: part.view(row.shape) for part, (name, row) in zip(parts, update.items(), strict=True)}

    def _largest_of(self, row: Tensor) -> Bool[Tensor, "n"]:
        # A ratio such as 0.7 is a little off in binary; 0.7 of 10 entries are seven.
        number = floor(self.ratio * row.numel() + 1e-9)
        kept = torch.ones_like(row, dtype=torch.bool)
        kept[row.abs().argsort(stable=True)[:number]] = False
        return kept
