"""Model replacement: the update of a backdoored model, so enlarged that the average becomes that model.

Reference: Bagdasaryan, Veit, Hua, Estrin, Shmatikov, How to backdoor federated learning, AISTATS 2020,
arXiv:1807.00459. Stealth is the paper's constrain-and-scale with the distance to the received model as the term that an
anomaly detector would see, and a true gradient of it; `max_norm` is its train-and-scale. Several attackers share the
enlargement among them. The paper's attacker estimates by how much to enlarge; this one knows the weights.
"""

from dataclasses import dataclass
from math import isfinite

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat import AttackerView, BackdoorPoisoning, PatternAttack
from fedsec.threat.backdoor import checked_positive, checked_training, within


@dataclass(eq=False)
class ModelReplacement(BackdoorPoisoning, PatternAttack):
    """Sends gamma (w - w_received) for a model w with a backdoor, so that the weighted mean becomes w.

    gamma = 1 / (server learning rate * the attackers' share of the weight)

    Args:
        gamma: how much the update is enlarged; what replaces the model in a weighted mean, if it is not given.
        stealth: weight of a second loss in training: half the squared distance to the received model.
        max_norm: length that what is sent must not exceed; none if not given.
        epochs: local passes of the attackers; as many as honest clients make, if not given.
        lr: their learning rate; the honest clients', if not given.

    Raises:
        InputError: a number out of range, or an option that does not go with the pattern.

    Cost:
        What honest training costs, or that of its own `epochs`.

    Limits:
        What is sent is long: a norm bound takes the enlargement back, and rules that go by distances leave it out
        (docs/backdoors.md). It replaces the model where the server takes a weighted mean; honest updates, which it
        leaves out of account, spoil that unless they are short.

    Example:
        target: 1
        size: 2

    Reference: Bagdasaryan et al., AISTATS 2020, arXiv:1807.00459
    """

    gamma: float | None = None
    stealth: float = 0.0
    max_norm: float | None = None
    epochs: int | None = None
    lr: float | None = None
    by_columns = True

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_positive(self, "gamma", 1.0 if self.gamma is None else self.gamma)
        checked_training(self, self.epochs, self.lr, self.max_norm)
        if not (isfinite(self.stealth) and self.stealth >= 0):
            raise InputError(f"ModelReplacement: stealth must be finite and not negative, not {self.stealth}")
        # Else the honest training of the poisoned data is all that it needs.
        self.trains = self.stealth > 0 or self.epochs is not None or self.lr is not None
        self.by_columns = self.by_columns and not self.trains and self.max_norm is None

    def forge(self, view: AttackerView) -> Float[Tensor, "byzantine parameters"]:
        gamma = 1 / sum(view.leverage) if self.gamma is None else self.gamma
        view.report["gamma"] = gamma
        updates = view.own
        if self.trains:
            machines = view.machines
            updates = torch.stack([one.train(epochs=self.epochs, lr=self.lr, pull=self.stealth) for one in machines])
        return within(gamma * updates, self.max_norm)
