"""FedOpt: federated averaging whose server takes the clients' mean for a gradient, and descends with an optimizer.

Reddi, Charles, Zaheer, Garrett, Rush, Konečný, Kumar, McMahan: Adaptive Federated Optimization. ICLR 2021,
arXiv:2003.00295, Algorithm 2: FedAdagrad, FedYogi and FedAdam. FedAvgM is that of Hsu, Qi, Brown: Measuring the Effects
of Non-Identical Data Distribution for Federated Visual Classification. 2019, arXiv:1909.06335. As published there is no
correction of the bias of either moment, v begins with tau^2, and v follows the pseudo-gradient itself, not its average.
Where we deviate:

- The pseudo-gradient is the aggregate of the server's rule, weighted as `weighting` says (the paper's pseudocode has
  equal weights, its experiments weigh by examples).
- The paper tunes rates and tau for each task; the defaults are in the middle of its grids.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.errors import InputError
from fedsec.federation.algorithms.local_steps import StragglingAlgorithm
from fedsec.federation.algorithms.update_algorithm import Exchange, State

ServerOptimizer = Literal["adam", "yogi", "adagrad", "avgm"]


@dataclass(frozen=True)
class FedOpt(StragglingAlgorithm):
    """FedAdam, FedYogi, FedAdagrad and FedAvgM: the server descends along the clients' mean with an optimizer.

    With d the aggregate of the updates, and coordinate by coordinate:

        avgm:    m <- beta1 m + d, w <- w + server_lr m
        others:  m <- beta1 m + (1 - beta1) d, w <- w + server_lr m / (sqrt(v) + tau), where v <-
                 adagrad: v + d^2; adam: beta2 v + (1 - beta2) d^2; yogi: v - (1 - beta2) d^2 sign(v - d^2)

    State: `momentum`, m, [parameters], zero at the beginning; `second_moment`, v, likewise, tau^2 at the beginning (not
    of avgm). Beware: the adaptive ones take steps of about `server_lr` in every coordinate, however small the updates
    are. What a robust rule leaves of an attack counts as much as the honest clients' agreement there, and goes on in m.

    Args:
        optimizer: of the server.
        server_lr: step length; a tenth by default, with avgm and beta1 0.9 what FedAvg's 1 amounts to.
        beta1: how much of the earlier directions goes on. With avgm, 0 and server_lr 1 this is FedAvg.
        beta2: likewise of v, for adam and yogi.
        tau: what keeps coordinates that hardly move from being divided by zero: the larger, the less adaptive.

    Raises:
        InputError: numbers out of range.

    Reference: Reddi et al. 2021, arXiv:2003.00295; Hsu et al. 2019, arXiv:1909.06335 (FedAvgM)
    """

    optimizer: ServerOptimizer = "adam"
    server_lr: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 0.001

    replayable: ClassVar[bool] = True
    private_examples: ClassVar[bool] = True
    private_clients: ClassVar[bool] = True
    first_round_alike: ClassVar[bool] = True
    server_trains: ClassVar[bool] = True
    forgets_rows: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.optimizer not in ("adam", "yogi", "adagrad", "avgm"):
            raise InputError(f"optimizer must be adam, yogi, adagrad or avgm, got {self.optimizer!r}")
        for name, beta in (("beta1", self.beta1), ("beta2", self.beta2)):
            if not 0 <= beta < 1:
                raise InputError(f"{name} must lie in [0, 1), got {beta}")
        if not 1e-19 <= self.tau <= 1e19:
            raise InputError(f"tau must be positive, and float32 hold its square (1e-19 to 1e19); got {self.tau}")

    def init(self, parameters: Float[Tensor, "parameters"], num_clients: int) -> State:
        momentum = torch.zeros_like(parameters)
        if self.optimizer == "avgm":
            return {"parameters": parameters, "momentum": momentum}
        second_moment = torch.full_like(parameters, self.tau**2)
        return {"parameters": parameters, "momentum": momentum, "second_moment": second_moment}

    def apply(self, state: State, exchange: Exchange, aggregates: Mapping[str, Tensor]) -> State:
        start = state["parameters"]
        direction = self.direction(start, aggregates["update"], exchange.total)
        if self.optimizer == "avgm":
            momentum = self.beta1 * state["momentum"] + direction
            return {"parameters": start + self.server_lr * momentum, "momentum": momentum}
        momentum = self.beta1 * state["momentum"] + (1 - self.beta1) * direction
        second_moment = self._second_moment(state["second_moment"], direction.square())
        parameters = start + self.server_lr * momentum / (second_moment.sqrt() + self.tau)
        return {"parameters": parameters, "momentum": momentum, "second_moment": second_moment}

    def _second_moment(
        self, before: Float[Tensor, "parameters"], square: Float[Tensor, "parameters"]
    ) -> Float[Tensor, "parameters"]:
        """What v becomes.

        Args:
            before: v.
            square: d^2.
        """
        if self.optimizer == "adagrad":
            return before + square
        if self.optimizer == "yogi":
            return before - (1 - self.beta2) * square * torch.sign(before - square)
        return self.beta2 * before + (1 - self.beta2) * square
