"""Alternating minimization: a step towards the attacker's aim, then steps that make it look like an honest update.

Reference: Bhagoji, Chakraborty, Mittal, Calo, Analyzing federated learning through an adversarial lens, ICML 2019,
arXiv:1811.12470. Both losses have true gradients: the malicious one on the attacker's marked examples, the stealthy one
on its honest examples with rho times half the squared distance to what an honest update is thought to be, the last
aggregate. Where the paper's attacker wants single images to be mistaken, this one wants a trigger to work, so that its
success shows on images that it never saw; only the malicious steps are enlarged, as in the paper.
"""

from dataclasses import dataclass
from math import isfinite
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat import AttackerMachine, AttackerView, PatternAttack
from fedsec.threat.backdoor import checked_positive, checked_training


@dataclass(eq=False)
class AlternatingMinimization(PatternAttack):
    """Alternates enlarged training on marked examples with training on honest ones near the last aggregate.

    w <- w + boost * (training on marked examples from w); w <- w + (training on honest examples from w, with
    rho / 2 * ||w - (w_received + last aggregate)||^2); so many times.

    Args:
        alternations: how often.
        boost: factor on the malicious part; 1 leaves it as it is.
        rho: weight of the distance in the stealthy part; 0 for none.
        malicious_epochs: passes over the marked examples in each alternation.
        stealth_epochs: passes over the honest examples in each alternation.
        lr: learning rate of both; the honest clients', if not given.

    Raises:
        InputError: a number out of range, or an option that does not go with the pattern.

    Cost:
        `alternations` times the training on marked and on honest examples.

    Limits:
        Median and Multi-Krum stop it where clients' data are alike, and a norm bound takes back what `boost` gains
        (docs/backdoors.md).

    Example:
        target: 1
        size: 2
        boost: 3.0

    Reference: Bhagoji et al., ICML 2019, arXiv:1811.12470
    """

    needs_last_aggregate: ClassVar[bool] = True
    trains = True

    alternations: int = 2
    boost: float = 1.0
    rho: float = 0.0
    malicious_epochs: int = 1
    stealth_epochs: int = 1
    lr: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_positive(self, "boost", self.boost)
        checked_training(self, self.malicious_epochs, self.lr, None)
        checked_training(self, self.stealth_epochs, None, None)
        if self.alternations < 1:
            raise InputError(f"AlternatingMinimization: alternations must be at least 1, not {self.alternations}")
        if not (isfinite(self.rho) and self.rho >= 0):
            raise InputError(f"AlternatingMinimization: rho must be finite and not negative, not {self.rho}")

    def forge(self, view: AttackerView) -> Float[Tensor, "byzantine parameters"]:
        honest = view.parameters if view.last_aggregate is None else view.parameters + view.last_aggregate
        return torch.stack([self._update(machine, honest, view.generator) for machine in view.machines])

    def _update(
        self, machine: AttackerMachine, honest: Float[Tensor, "parameters"], generator: torch.Generator
    ) -> Float[Tensor, "parameters"]:
        inputs, targets, places = self.marked(machine.inputs, machine.targets, machine.num_classes, generator)
        weights = machine.parameters
        for _ in range(self.alternations):
            malicious = machine.train(
                inputs[places], targets[places], start=weights, epochs=self.malicious_epochs, lr=self.lr
            )
            weights = weights + self.boost * malicious
            weights = weights + machine.train(
                start=weights, epochs=self.stealth_epochs, lr=self.lr, pull=self.rho, center=honest
            )
        return weights - machine.parameters
