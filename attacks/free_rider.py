"""Free riding: to look as if one had trained.

Reference: Fraboni, Vidal, Lorenzi, Free-rider attacks on model aggregation in federated learning, AISTATS 2021,
arXiv:2006.11901 (noise that decays); Lin, Du, Liu, Free-riders in federated learning: attacks and defenses, 2019,
arXiv:1911.12560 (the last change, with noise).
"""

from math import isfinite
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat import AttackerView, UpdatePoisoning


class FreeRider(UpdatePoisoning):
    """Sends what did not need training: the last round's aggregate, or nothing, under noise that decays.

    resend: a_(t-1) + std * t^-decay * N(0, 1), where a_(t-1) is what the server made of the last round; noise alone in
    the first one. disguise: std * t^-decay * N(0, 1).

    It knows the last aggregate from the models that the server broadcast, in every round.

    Args:
        mode: resend, of Lin et al., or disguise, of Fraboni et al.
        std: of the noise in the first round, in units of an update's numbers, not negative.
        decay: how fast the noise shrinks, not negative; 0: not at all.

    Raises:
        InputError: an unknown mode, or numbers that are negative or not finite.

    Cost:
        d random numbers for each attacker; no training.

    Limits:
        Does little harm to a mean: its aim is a share in the model. Equal rows but for the noise are near each other,
        which `krum` takes for honest (docs/results/byzantine_zoo.csv).

    Reference: Fraboni et al., AISTATS 2021, arXiv:2006.11901; Lin et al. 2019, arXiv:1911.12560
    """

    knowledge = "own"
    needs_last_aggregate = True

    def __init__(self, mode: Literal["resend", "disguise"] = "resend", std: float = 1e-3, decay: float = 1.0) -> None:
        if mode not in ("resend", "disguise"):
            raise InputError(f"FreeRider: mode must be resend or disguise, not {mode!r}")
        if not (isfinite(std) and std >= 0 and isfinite(decay) and decay >= 0):
            raise InputError(f"FreeRider: std and decay must be finite and not negative, not {std} and {decay}")
        self.mode, self.std, self.decay = mode, std, decay

    def forge(self, view: AttackerView) -> Float[Tensor, "byzantine parameters"]:
        drawn = torch.randn(view.own.shape, generator=view.generator).to(view.own)
        noise: Tensor = drawn * (self.std * float(view.round) ** -self.decay)
        if self.mode == "disguise" or view.last_aggregate is None:
            return noise
        return view.last_aggregate + noise
