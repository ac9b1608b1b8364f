"""Updates that are no numbers: what a server must notice before its rule does.

A faulty client sends the like without malice; a mean that takes one of them in is lost. Named as a Byzantine failure in
Blanchard, El Mhamdi, Guerraoui, Stainer, NeurIPS 2017, arXiv:1703.02757.
"""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat import AttackerView, UpdatePoisoning


class Infinity(UpdatePoisoning):
    """Sends infinite numbers, in whole or hidden in an honest update.

    Args:
        num_values: how many numbers of its own honest update an attacker replaces, at places drawn at random; null:
            all of them.

    Raises:
        InputError: a number that is not positive.

    Cost:
        Nothing.

    Limits:
        Every rule's gate rejects such a row, counts it as Byzantine and reports it. It harms servers that do not look.

    Reference: Blanchard et al., NeurIPS 2017, arXiv:1703.02757
    """

    knowledge = "own"
    value: ClassVar[float] = torch.inf
    by_columns = True

    def __init__(self, num_values: int | None = None) -> None:
        if num_values is not None and num_values < 1:
            raise InputError(f"{type(self).__name__}: num_values must be positive, not {num_values}")
        self.num_values, self.by_columns = num_values, self.by_columns and num_values is None

    def forge(self, view: AttackerView) -> Float[Tensor, "byzantine parameters"]:
        if self.num_values is None:
            return torch.full_like(view.own, self.value)
        rows = view.own.clone()
        for row in rows:
            places = torch.randperm(len(row), generator=view.generator)[: self.num_values]
            row[places.to(row.device)] = self.value
        return rows
