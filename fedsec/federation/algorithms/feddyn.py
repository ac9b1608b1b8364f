"""FedDyn: each client's loss is regularized anew in each round, so that local and global optima agree.

Acar, Zhao, Matas Navarro, Mattina, Whatmough, Saligrama: Federated Learning Based on Dynamic Regularization.
ICLR 2021, arXiv:2111.04263, Algorithm 1. Where we deviate:

- Its local solver is exact; here clients take `local`'s steps, as in the paper's experiments.
- It averages all clients alike; here `weighting` says how they count, `uniform` being the paper's.
- The server moves with `server_lr` along what the paper has it move, which is 1.
- The server's memory h follows the aggregate of its rule, so that a robust rule protects it, too. A Byzantine client
  goes on with the memory that its own training left; one whose training was not finite keeps what it had.
- With DP-SGD the correction joins after the noise, and memories are computed from private updates: the account holds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.engine.correction import Correction, rows_at
from fedsec.engine.local_training import FLOAT32_MAX, without_worker_momentum
from fedsec.errors import InputError
from fedsec.federation.algorithms.local_steps import StragglingAlgorithm
from fedsec.federation.algorithms.update_algorithm import Exchange, Participants, State, move_rows, rows_of_clients


@dataclass(frozen=True)
class FedDyn(StragglingAlgorithm):
    """Dynamic regularization: a client minimizes its loss - <h_k, w> + alpha / 2 ||w - w_t||^2.

    State: `memories`, [clients, parameters], each client's h_k, the gradient of its loss where it last stood; `memory`,
    the server's h; all zero at the beginning. After a round h_k loses alpha times the client's update, h alpha times
    what the aggregate moved the whole federation by, and w_{t+1} = w_t + aggregate - h / alpha.

    Args:
        alpha: strength of the regularization.

    Raises:
        InputError: alpha is not positive, or float32 cannot hold it or its inverse; worker momentum.

    Reference: Acar et al. 2021, arXiv:2111.04263
    """

    alpha: float = 0.01

    private_examples: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 / FLOAT32_MAX <= self.alpha <= FLOAT32_MAX:
            raise InputError(f"alpha must be positive, a number that float32 and its inverse hold, got {self.alpha}")
        without_worker_momentum(self.local, "FedDyn's memories go with the updates of a single round")

    def init(self, parameters: Float[Tensor, "parameters"], num_clients: int) -> State:
        memories = rows_of_clients(parameters, num_clients)
        return {"parameters": parameters, "memory": torch.zeros_like(parameters), "memories": memories}

    def correction(self, state: State, participants: Participants) -> Correction:
        """alpha (w - w_t) - h_k."""
        return Correction(alpha=self.alpha, shift=-rows_at(state["memories"], participants.clients))

    def apply(self, state: State, exchange: Exchange, aggregates: Mapping[str, Tensor]) -> State:
        if exchange.trained is not None:
            move_rows(state["memories"], exchange.clients, exchange.trained.updates, -self.alpha)
        # |P_t| / m under uniform weighting.
        memory = state["memory"] - self.alpha * exchange.share.sum() * aggregates["update"]
        averaged = super().apply(state, exchange, aggregates)
        # No average: however the clients' parts are weighted, it counts once.
        parameters = averaged["parameters"] - self.server_lr / self.alpha * memory
        return {**averaged, "parameters": parameters, "memory": memory}
