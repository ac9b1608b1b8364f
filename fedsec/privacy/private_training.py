"""How a client trains privately: the settings of DP-SGD, as the engine and foreign loops read them.

Abadi, Chu, Goodfellow, McMahan, Mironov, Talwar, Zhang: Deep Learning with Differential Privacy. CCS 2016,
arXiv:1607.00133.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from fedsec.errors import InputError

LARGEST_BOUND = 1e30
GradSampleMode = Literal["auto", "ghost", "hooks", "functorch", "ew"]


@dataclass(frozen=True)
class PrivateTraining:
    """Each step's gradient is a sum of clipped per-example gradients with noise, over the expected batch size.

    (sum_i g_i min(1, C / ||g_i||) + N(0, (sigma C)^2 I)) / (q n), of a Poisson sample: each of n examples is in it
    independently with probability q.

    The guarantee is for what training with these gradients makes of the data, and for nothing else that leaves a
    client: FedGKT's feature maps, for instance, are functions of single examples, and no noise here protects them.

    Args:
        noise_multiplier: sigma; one for all clients, or one for each, by its number. 0: clipping alone, which
            guarantees nothing.
        max_grad_norm: C, the largest norm of an example's gradient over all parameters.
        grad_sample_mode: how per-example gradients are formed, which changes no number but the last digits: `auto`,
            the fastest way that works for the model, or one of Opacus's: `ghost`, `hooks`, `functorch`, `ew`.

    Raises:
        InputError: a number out of range, or an unknown mode.
    """

    noise_multiplier: float | tuple[float, ...]
    max_grad_norm: float = 1.0
    grad_sample_mode: GradSampleMode = "auto"

    def __post_init__(self) -> None:
        if not isinstance(self.noise_multiplier, int | float):
            object.__setattr__(self, "noise_multiplier", tuple(self.noise_multiplier))
        multipliers = self.noise_multiplier if isinstance(self.noise_multiplier, tuple) else (self.noise_multiplier,)
        if not multipliers or not all(math.isfinite(multiplier) and multiplier >= 0 for multiplier in multipliers):
            raise InputError(f"noise_multiplier must be finite and not negative, got {self.noise_multiplier}")
        if not 1 / LARGEST_BOUND <= self.max_grad_norm <= LARGEST_BOUND:
            raise InputError(
                f"max_grad_norm must be positive and finite, in [{1 / LARGEST_BOUND:g}, {LARGEST_BOUND:g}], so that "
                f"float32 holds sums of such gradients; got {self.max_grad_norm}"
            )
        if max(multipliers) * self.max_grad_norm > LARGEST_BOUND:
            raise InputError(
                f"noise_multiplier x max_grad_norm must be at most {LARGEST_BOUND:g}, got {max(multipliers)} x "
                f"{self.max_grad_norm}"
            )
        if self.grad_sample_mode not in get_args(GradSampleMode):
            known = ", ".join(get_args(GradSampleMode))
            raise InputError(f"grad_sample_mode must be multiplier of {known}, got {self.grad_sample_mode!r}")

    def noise_of(self, client: int) -> float:
        """A client's noise multiplier.

        Raises:
            InputError: there are noise multipliers by client, and none for this one.
        """
        if not isinstance(self.noise_multiplier, tuple):
            return float(self.noise_multiplier)
        if not 0 <= client < len(self.noise_multiplier):
            raise InputError(f"there are {len(self.noise_multiplier)} noise multipliers, and none for client {client}")
        return float(self.noise_multiplier[client])
