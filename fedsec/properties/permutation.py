"""The p-value of a permutation test, and what it was held against.

If nothing tells labels apart, every permutation of them is as likely as the one that was observed. Among B drawn ones
and the observed one, the rank of the observed statistic is uniform, so that

    p = (1 + number of drawn statistics at least as extreme) / (1 + B)

is valid for every B: P(p <= a) <= a under the null hypothesis.

Reference: Phipson, Smyth, Permutation p-values should never be zero, Statistical Applications in Genetics and Molecular
Biology 9(1), 2010, arXiv:1603.05766.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fedsec.errors import InputError

__all__ = ["PermutationTest"]


@dataclass(frozen=True, eq=False)
class PermutationTest:
    """An observed statistic beside those of permuted labels.

    Args:
        observed: of the labels as they are.
        null: of permuted ones.
        larger: whether large statistics speak against the null hypothesis; else small ones do.

    Raises:
        InputError: no permutation, or a number that is not finite.
    """

    observed: float
    null: np.ndarray
    larger: bool = True

    def __post_init__(self) -> None:
        if not len(self.null) or not np.isfinite(self.null).all() or not np.isfinite(self.observed):
            raise InputError("PermutationTest: expected finite statistics of at least one permutation")

    @property
    def p(self) -> float:
        """How often chance alone does as well."""
        slack = 1e-12 * max(1.0, abs(self.observed))  # equal statistics that were summed in another order are equal
        if self.larger:
            extreme = int((self.null >= self.observed - slack).sum())
        else:
            extreme = int((self.null <= self.observed + slack).sum())
        return (1 + extreme) / (1 + len(self.null))

    @property
    def effect(self) -> float:
        """The distance from the null's mean in its standard deviations, positive where it speaks against the null.

        0 where the null does not vary.
        """
        spread = float(self.null.std())
        distance = self.observed - float(self.null.mean())
        return (distance if self.larger else -distance) / spread if spread > 1e-12 else 0.0

    def as_json(self) -> dict[str, Any]:
        """The test as plain data."""
        low, high = np.quantile(self.null, [0.025, 0.975]).tolist()
        return {
            "observed": self.observed,
            "p": self.p,
            "effect": self.effect,
            "permutations": len(self.null),
            "null_mean": float(self.null.mean()),
            "null_95": [low, high],
        }
