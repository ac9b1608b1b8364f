"""Static clipping: before a robust rule combines them, the server shortens updates that exceed a limit.

Reference: Allouah, Guerraoui, Gupta, Jellouli, Rizk, Stephan, Adaptive gradient clipping for robust federated learning,
ICLR 2025, arXiv:2405.14432, where it is what ARC is compared with.
"""

from math import isfinite
from typing import final

import torch
from jaxtyping import Float64
from torch import Tensor

from fedsec.defense import Cohort, Gram, PreAggregator
from fedsec.defense.geometry.clipping import shortening
from fedsec.errors import InputError


@final
class StaticClip(PreAggregator):
    """Shortens every update whose L2 norm, over all parameters, exceeds a limit, at the server.

    y_i = x_i min(1, C / ||x_i||)

    The same as `clip`, which is in each client's hands and so binds the honest ones only.

    Args:
        max_norm: the limit C, in the updates' own units; positive.

    Raises:
        InputError: the limit is out of range.

    Cost:
        n^2 d for the inner products of all updates, of which it needs the norms.

    Limits:
        Shortens; it does not tell directions apart. The limit has to fit the updates, which become shorter during
        training: a limit that is too long does nothing, and one that is too short slows training.

    Reference: Allouah et al., ICLR 2025, arXiv:2405.14432
    """

    single_clients = "bounds each client's length"
    by_columns = True

    def __init__(self, max_norm: float) -> None:
        if not (isfinite(max_norm) and max_norm > 0):
            raise InputError(f"StaticClip: max_norm must be positive and finite, not {max_norm}")
        self.max_norm = max_norm

    def num_mixed(self, num_clients: int) -> int:
        return num_clients

    def mixing(self, gram: Gram, cohort: Cohort) -> Float64[Tensor, "mixed clients"]:
        return torch.diag(shortening(gram.squared_norms().sqrt(), self.max_norm / gram.unit))
