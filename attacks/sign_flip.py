"""Sign flipping: send the opposite of an honest update.

Reference: Li, Xu, Chen, Giannakis, Ling, RSA: Byzantine-robust stochastic aggregation methods for distributed learning
from heterogeneous datasets, AAAI 2019, arXiv:1811.03761.
"""

from math import isfinite

from jaxtyping import Float
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat import AttackerView, UpdatePoisoning


class SignFlip(UpdatePoisoning):
    """Sends the attacker's own honest update with its sign flipped, times a factor.

    -scale * x_i; needs to know nothing but the attacker's own data.

    Args:
        scale: the factor, positive; 1 keeps the length of the update.

    Raises:
        InputError: the factor is not positive and finite.

    Cost:
        What honest training costs.

    Limits:
        Most robust rules stop it where fewer than half of the clients attack. Larger factors do more harm to the mean
        and are easier to tell by their length.

    Reference: Li et al., AAAI 2019, arXiv:1811.03761
    """

    knowledge = "own"
    by_columns = True

    def __init__(self, scale: float = 1.0) -> None:
        if not (isfinite(scale) and scale > 0):
            raise InputError(f"SignFlip: scale must be positive and finite, not {scale}")
        self.scale = scale

    def forge(self, view: AttackerView) -> Float[Tensor, "byzantine parameters"]:
        return view.own * -self.scale
