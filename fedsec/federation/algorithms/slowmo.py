"""SlowMo: local SGD with a slow momentum of what each round moved the workers' average by.

Wang, Tantia, Ballas, Rabbat: SlowMo: Improving Communication-Efficient Distributed SGD with Slow Momentum. ICLR 2020,
arXiv:1910.00643, Algorithm 1. Where we deviate: the paper's workers are averaged exactly; here the aggregate is that of
the server's rule, so that a robust one protects the slow momentum as well. Its alpha is `server_lr`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.errors import InputError
from fedsec.federation.algorithms.local_sgd import LocalSGD
from fedsec.federation.algorithms.update_algorithm import Exchange, State


@dataclass(frozen=True)
class SlowMo(LocalSGD):
    """Slow momentum: u <- beta u + (x - mean of the workers) / lr, x <- x - server_lr lr u, with the round's local lr.

    State: that of local SGD, and `slow`, u, [parameters], zero at the beginning. It is in units of gradients, so that a
    schedule of the local rate scales all of it. With one local step it is SGD with large batches and momentum.

    Args:
        beta: how much of the earlier rounds' moves goes on; with 0 and server_lr 1 this is local SGD, to the bit.

    Raises:
        InputError: beta out of range.

    Reference: Wang et al. 2020, arXiv:1910.00643
    """

    beta: float = 0.7

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.beta < 1:
            raise InputError(f"beta must lie in [0, 1), got {self.beta}")

    def init(self, parameters: Float[Tensor, "parameters"], num_clients: int) -> State:
        return {**super().init(parameters, num_clients), "slow": torch.zeros_like(parameters)}

    def apply(self, state: State, exchange: Exchange, aggregates: Mapping[str, Tensor]) -> State:
        start = state["parameters"]
        moved = self.direction(start, aggregates["update"], exchange.total)
        # lr u, with the sign of the step.
        step = moved - self.beta * self.local.lr * state["slow"]
        after = super().apply(state, exchange, aggregates)
        return {**after, "parameters": start + self.server_lr * step, "slow": -step / self.local.lr}
