"""FedProx.

Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith: Federated Optimization in Heterogeneous Networks. MLSys 2020,
arXiv:1812.06127. Its local solver is any; here it is that of FedAvg on the loss with the proximal term.
"""

import math
from dataclasses import dataclass

from fedsec.engine.correction import Correction
from fedsec.errors import InputError
from fedsec.federation.algorithms.fedavg import FedAvg


@dataclass(frozen=True)
class FedProx(FedAvg):
    """Federated averaging with a proximal term that keeps clients near the model they received.

    Each client minimizes its loss + mu / 2 ||w - w_t||^2. Stragglers' partial work is averaged in instead of dropped.

    Args:
        mu: strength of the proximal term; with 0 (and no stragglers) this is federated averaging.

    Raises:
        InputError: mu is negative or infinite.

    Reference: Li et al. 2020, arXiv:1812.06127
    """

    mu: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.mu < math.inf:
            raise InputError(f"mu must be finite and not negative, got {self.mu}")

    def correction(self) -> Correction | None:
        """mu (w - w_t), the gradient of the proximal term."""
        return Correction(alpha=self.mu)
