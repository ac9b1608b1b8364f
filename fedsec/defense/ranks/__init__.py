"""What rules make of the sorted values of a column, beyond the mean of the middle ones."""

from fedsec.defense.ranks.by_weight import (
    weighted_median,
    weighted_median_share,
    weighted_trimmed_mean,
    weighted_trimmed_share,
)
from fedsec.defense.ranks.near_median import near_median_mean, near_median_share

__all__ = [
    "near_median_mean",
    "near_median_share",
    "weighted_median",
    "weighted_median_share",
    "weighted_trimmed_mean",
    "weighted_trimmed_share",
]
