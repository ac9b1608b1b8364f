"""Drift: all attackers send the honest mean, moved a little and always the same way."""

import torch
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat import AttackerView, UpdatePoisoning


class Drift(UpdatePoisoning):
    """Sends the mean of the honest updates, moved against their signs by a share of their spread.

    Args:
        share: of the standard deviation of each coordinate; positive.

    Raises:
        InputError: the share is not positive.
    """

    knowledge = "omniscient"

    def __init__(self, share: float = 1.0) -> None:
        if not share > 0:
            raise InputError(f"Drift: share must be positive, but is {share}")
        self.share = share

    def forge(self, view: AttackerView) -> Tensor:
        mean = view.honest.mean(0)
        spread = view.honest.std(0, correction=0)
        row = mean - self.share * spread * torch.sign(mean)
        return row.expand_as(view.own).clone()
