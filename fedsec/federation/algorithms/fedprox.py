"""FedProx.

Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith: Federated Optimization in Heterogeneous Networks. MLSys 2020,
arXiv:1812.06127. Its local solver is any; here it is that of FedAvg on the loss with the proximal term.
"""

from dataclasses import dataclass, replace

from fedsec.errors import InputError
from fedsec.federation.algorithms.fedavg import FedAvg


@dataclass(frozen=True)
class FedProx(FedAvg):
    """Federated averaging with a proximal term that keeps clients near the model they received.

    Each client minimizes its loss + mu / 2 ||w - w_t||^2. Stragglers' partial work is averaged in instead of dropped.

    Args:
        mu: strength of the proximal term; with 0 (and no stragglers) this is federated averaging.

    Raises:
        InputError: mu is negative, or local training brings a proximal term of its own.

    Reference: Li et al. 2020, arXiv:1812.06127
    """

    mu: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.mu >= 0:
            raise InputError(f"mu must not be negative, got {self.mu}")
        if self.local.proximal not in (0, self.mu):
            raise InputError(f"FedProx: expected the proximal term as mu, got local.proximal {self.local.proximal}")
        object.__setattr__(self, "local", replace(self.local, proximal=self.mu))
