"""Neurotoxin: a backdoor in the coordinates that honest clients hardly move, so that they do not wash it out.

Reference: Zhang, Panda, Song, Yang, Mahoney, Gonzalez, Ramchandran, Mittal, Neurotoxin: durable backdoors in federated
learning, ICML 2022, arXiv:2206.10341. The mask follows the paper: the coordinates of the last aggregate with the
largest magnitude are left alone, over the whole model, and every gradient is projected onto the rest. The authors' code
takes the gradient on the attacker's data instead of the last aggregate, layer by layer; here that gradient stands in
where there is no last aggregate yet. Some reimplementations keep the most negative coordinates, which is not the same.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat import AttackerView, BackdoorPoisoning, PatternAttack
from fedsec.threat.backdoor import checked_training, within


@dataclass(eq=False)
class Neurotoxin(BackdoorPoisoning, PatternAttack):
    """Trains on poisoned data with every gradient projected onto coordinates that change little.

    g -> g * [|a_j| is not among the largest], with the last aggregate a.

    Args:
        avoided_fraction: share of the coordinates that are left alone: those of the largest last change.
        max_norm: length to which what is sent is shortened; none if not given.
        epochs: local passes of the attackers; as many as honest clients make, if not given.
        lr: their learning rate; the honest clients', if not given.

    Raises:
        InputError: a number out of range, or an option that does not go with the pattern.

    Cost:
        What honest training costs, or that of its own `epochs`; in the first round a gradient on all its examples as
        well.

    Limits:
        Median and Multi-Krum stop it where clients' data are alike. On a small network, all of whose coordinates honest
        clients move, it lasts no longer than a plain backdoor (docs/backdoors.md).

    Example:
        target: 1
        size: 2

    Reference: Zhang et al., ICML 2022, arXiv:2206.10341
    """

    needs_last_aggregate: ClassVar[bool] = True
    trains = True

    avoided_fraction: float = 0.05
    max_norm: float | None = None
    epochs: int | None = None
    lr: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_training(self, self.epochs, self.lr, self.max_norm)
        if not 0 <= self.avoided_fraction < 1:
            raise InputError(f"Neurotoxin: avoided_fraction must lie in [0, 1), not {self.avoided_fraction}")

    def forge(self, view: AttackerView) -> Float[Tensor, "byzantine parameters"]:
        rows = []
        for machine in view.machines:
            change = machine.gradient() if view.last_aggregate is None else view.last_aggregate
            rows.append(machine.train(epochs=self.epochs, lr=self.lr, mask=self._mask(change)))
        return within(torch.stack(rows), self.max_norm)

    def _mask(self, change: Float[Tensor, "parameters"]) -> Float[Tensor, "parameters"]:
        """Zero where the change is among the largest, one elsewhere."""
        count = int(self.avoided_fraction * len(change) + 1e-9)
        mask = torch.ones_like(change)
        mask[change.abs().topk(count).indices] = 0
        return mask
