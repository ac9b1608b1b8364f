"""A rule, a defense of single updates, and a pre-aggregator."""

import torch
from torch import Tensor

import fedsec.defense as interfaces
from fedsec.defenses import ClipUpdate
from fedsec_sample.mixins import Named


class _Bounded(interfaces.CoordinateRule):
    """An intermediate base."""

    def max_rejected(self, num_clients: int) -> int:
        return 0


class MidRange(Named, _Bounded):
    """The middle between the smallest and the largest value of each coordinate."""

    def reduce(self, chunk: Tensor, cohort: interfaces.Cohort, scratch: interfaces.Scratch) -> Tensor:
        return (chunk.amin(0) + chunk.amax(0)) / 2

    def share(self, chunk: Tensor, cohort: interfaces.Cohort, scratch: interfaces.Scratch) -> Tensor:
        lowest, highest = chunk.argmin(0), chunk.argmax(0)
        counts = lowest.bincount(minlength=len(chunk)) + highest.bincount(minlength=len(chunk))
        return counts / (2 * chunk.shape[1])


class TightClip(Named, ClipUpdate):
    """Clipping with the constructor that it inherits."""


class Pairs(interfaces.PreAggregator):
    """Averages each update with the next one."""

    def num_mixed(self, num_clients: int) -> int:
        return num_clients

    def mixing(self, gram: Tensor, generator: "torch.Generator | None" = None) -> Tensor:
        identity = torch.eye(len(gram), dtype=torch.float64)
        return (identity + identity.roll(1, 1)) / 2
