"""FedProx.

Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith: Federated Optimization in Heterogeneous Networks. MLSys 2020,
arXiv:1812.06127. Its local solver is any; here it is that of FedAvg on the loss with the proximal term.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from fedsec.engine.correction import Correction
from fedsec.engine.local_training import FLOAT32_MAX
from fedsec.errors import InputError
from fedsec.federation.algorithms.local_steps import StragglingAlgorithm
from fedsec.federation.algorithms.update_algorithm import Participants, State


@dataclass(frozen=True)
class FedProx(StragglingAlgorithm):
    """Federated averaging with a proximal term that keeps clients near the model they received.

    Each client minimizes its loss + mu / 2 ||w - w_t||^2. Stragglers' partial work is averaged in instead of dropped.

    Args:
        mu: strength of the proximal term; with 0 (and no stragglers) this is federated averaging.

    Raises:
        InputError: mu is negative, or float32 cannot hold it.

    Reference: Li et al. 2020, arXiv:1812.06127
    """

    mu: float = 0.01

    replayable: ClassVar[bool] = True
    private_examples: ClassVar[bool] = True
    private_clients: ClassVar[bool] = True
    first_round_alike: ClassVar[bool] = True
    server_trains: ClassVar[bool] = True
    forgets_rows: ClassVar[bool] = True
    slow_clients: ClassVar[Literal["drop", "partial"]] = "partial"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.mu <= FLOAT32_MAX:
            raise InputError(f"mu must be finite in float32 and not negative, got {self.mu}")

    def correction(self, state: State, participants: Participants) -> Correction | None:
        """mu (w - w_t), the gradient of the proximal term."""
        return Correction(alpha=self.mu)
