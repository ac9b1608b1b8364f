"""Gaussian noise in place of an update, or on top of it.

Reference: Blanchard, El Mhamdi, Guerraoui, Stainer, Machine learning with adversaries: Byzantine tolerant gradient
descent, NeurIPS 2017, arXiv:1703.02757 (noise of standard deviation 200).
"""

from math import isfinite

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat import AttackerView, UpdatePoisoning


class Gaussian(UpdatePoisoning):
    """Sends Gaussian noise; needs to know nothing at all.

    N(mean, std^2) in every parameter, plus the attacker's own honest update where that is asked for.

    Args:
        std: standard deviation in units of an update's numbers, not negative.
        mean: of the noise, in the same units.
        added: whether the noise is added to the attacker's own honest update.
        colluding: whether all attackers send the same noise.

    Raises:
        InputError: numbers that are not finite, or a negative one.

    Cost:
        d random numbers for each attacker.

    Limits:
        Far from honest updates, and left out by rules that go by distances or take the middle, unless it is small, and
        then it averages out.

    Reference: Blanchard et al., NeurIPS 2017, arXiv:1703.02757
    """

    knowledge = "own"

    def __init__(self, std: float = 1.0, mean: float = 0.0, added: bool = False, colluding: bool = False) -> None:
        if not (isfinite(std) and std >= 0 and isfinite(mean)):
            raise InputError(f"Gaussian: std must be finite and not negative, and mean finite, not {std} and {mean}")
        self.std, self.mean, self.added, self.colluding = std, mean, added, colluding

    def forge(self, view: AttackerView) -> Float[Tensor, "byzantine parameters"]:
        count, columns = view.own.shape
        drawn = torch.randn(1 if self.colluding else count, columns, generator=view.generator)
        noise = (drawn.to(view.own) * self.std + self.mean).expand(count, columns)
        return view.own + noise if self.added else noise.clone()
