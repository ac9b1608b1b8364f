"""What updates tell of coins: least squares over rounds, for canaries whose gradients resemble each other."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

_PRIOR_VARIANCE = 0.25
"""Of a fair coin's zero or one."""


@dataclass(eq=False)
class Evidence:
    """Of one client's canaries, in the units in which noise has variance one.

    Args:
        gram: products of what each canary would add to updates, summed over rounds.
        aligned: products of that with what was added.
    """

    gram: Float64[np.ndarray, "canaries canaries"]
    aligned: Float64[np.ndarray, "canaries"]

    @classmethod
    def none(cls, canaries: int) -> "Evidence":
        """Before the first round.

        Args:
            canaries: how many there are.
        """
        return cls(np.zeros((canaries, canaries)), np.zeros(canaries))

    def add(
        self, gradients: Float[Tensor, "canaries parameters"], residual: Float[Tensor, "parameters"], step: float
    ) -> None:
        """Take up a round.

        Args:
            gradients: of the canaries, as they enter an update.
            residual: of the update, without what is no canary's doing.
            step: what a sum of gradients is multiplied with in an update.
        """
        variance = float(residual.double().square().mean())
        if variance:
            self.gram += step**2 / variance * (gradients @ gradients.T).double().cpu().numpy()
            self.aligned += step / variance * (gradients @ residual).double().cpu().numpy()

    def coins(self) -> Float64[np.ndarray, "canaries"]:
        """The linear estimate of least squared error of every coin, minus one half."""
        prior = np.eye(len(self.aligned)) / _PRIOR_VARIANCE
        return np.linalg.solve(self.gram + prior, self.aligned)

    def state(self) -> dict[str, Tensor]:
        """For a checkpoint: copies."""
        return {"gram": torch.from_numpy(self.gram.copy()), "aligned": torch.from_numpy(self.aligned.copy())}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave."""
        self.gram, self.aligned = (state[name].numpy().copy() for name in ("gram", "aligned"))
