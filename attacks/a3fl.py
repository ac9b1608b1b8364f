"""A3FL: the attacker optimizes its trigger in every round, also against a model that was trained to ignore it.

Reference: Zhang, Jia, Chen, Lin, Wu, A3FL: adversarially adaptive backdoor attacks to federated learning, NeurIPS 2023.
As in the authors' code the first attacker of a round searches with its own examples, by steps along the sign of the
gradient, and all attackers then train on that trigger; the unlearned model counts by its similarity to the received one
(here the cosine of their parameters, in the code that of gradients in convolutions). The code takes 200 passes over the
data a round and unlearns 5 epochs before each; the defaults here are a fraction of that, and what is spent is reported.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat import AttackerMachine, AttackerView, TriggeredAttack
from fedsec.threat.backdoor import checked_target, checked_training
from fedsec.threat.trigger import CORNERS, Trigger, square

_GRAY = 0.5


@dataclass(eq=False)
class A3FL(TriggeredAttack):
    """A square whose pixels are optimized each round, on the received model and on one that unlearned them.

    delta <- delta - trigger_lr * sign(gradient of L(w, x + delta) + lambda cos(w', w) L(w', x + delta)), where L is the
    loss of the target class, and w' was trained from w on stamped examples with their true labels.

    Args:
        size: side of the square, in pixels.
        position: where it lies.
        trigger_steps: steps of the search in each round.
        trigger_lr: their length, in pixels of [0, 1].
        trigger_batch: examples of a step.
        unlearning: lambda, weight of the model that unlearned the trigger; 0 for none.
        unlearning_epochs: passes over the examples that make it.
        unlearn_every: steps after which it is made anew.
        epochs: local passes of the attackers; as many as honest clients make, if not given.
        lr: their learning rate; the honest clients', if not given.

    Raises:
        InputError: a number out of range.

    Cost:
        `trigger_steps` gradients of two models in each round, and passes that make the second one: with its defaults
        some thirteen times an honest round in docs/backdoors.md. Reported as `attacker_flops`.

    Limits:
        Its success is that of the round's trigger. Median and Multi-Krum stop it where clients' data are alike
        (docs/backdoors.md).

    Example:
        target: 1
        size: 2

    Reference: Zhang et al., NeurIPS 2023
    """

    aim_moves: ClassVar[bool] = True
    trains = True

    size: int = 5
    position: Literal["top_left", "top_right", "bottom_left", "bottom_right", "center"] = "top_left"
    trigger_steps: int = 50
    trigger_lr: float = 0.02
    trigger_batch: int = 64
    unlearning: float = 0.1
    unlearning_epochs: int = 1
    unlearn_every: int = 10
    epochs: int | None = None
    lr: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_training(self, self.epochs, self.lr, None)
        for name in ("size", "trigger_steps", "trigger_batch", "unlearning_epochs", "unlearn_every"):
            if getattr(self, name) < 1:
                raise InputError(f"A3FL: {name} must be at least 1, not {getattr(self, name)}")
        if self.position not in CORNERS:
            raise InputError(f"A3FL: position must be one of {', '.join(CORNERS)}, not {self.position!r}")
        if not (isfinite(self.trigger_lr) and self.trigger_lr > 0):
            raise InputError(f"A3FL: trigger_lr must be positive and finite, not {self.trigger_lr}")
        if not (isfinite(self.unlearning) and self.unlearning >= 0):
            raise InputError(f"A3FL: unlearning must be finite and not negative, not {self.unlearning}")
        self.pattern: Float[Tensor, "channels height width"] | None = None

    def trigger(self, shape: Sequence[int]) -> Trigger:
        gray = square(shape, self.size, self.position, _GRAY)
        return gray if self.pattern is None else Trigger(self.pattern, gray.opacity)

    def forge(self, view: AttackerView) -> Float[Tensor, "byzantine parameters"]:
        self.pattern = self._searched(view.machines[0], view.generator)
        rows = []
        for machine in view.machines:
            inputs, targets, _ = self.marked(machine.inputs, machine.targets, machine.num_classes, view.generator)
            rows.append(machine.train(inputs, targets, epochs=self.epochs, lr=self.lr))
        return torch.stack(rows)

    def state(self) -> dict[str, Tensor]:
        return {} if self.pattern is None else {"trigger": self.pattern}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        if state.keys() - {"trigger"}:
            raise InputError(f"A3FL remembers its trigger; expected that or nothing, got {sorted(state)}")
        self.pattern = state.get("trigger")

    def _searched(self, machine: AttackerMachine, generator: torch.Generator) -> Float[Tensor, "channels height width"]:
        """The pattern that works best, from the last round's on."""
        target = checked_target(self, self.target, machine.num_classes)
        last = self.trigger(machine.inputs.shape[1:])
        opacity, pattern = last.opacity.to(machine.inputs), last.pattern.to(machine.inputs)
        wanted = torch.full_like(machine.targets[: self.trigger_batch], target)
        unlearned, similarity = machine.parameters, 0.0
        for step in range(self.trigger_steps):
            current = Trigger(pattern, opacity)
            if self.unlearning and step % self.unlearn_every == 0:
                stamped = current.stamp(machine.inputs)
                update = machine.train(stamped, machine.targets, epochs=self.unlearning_epochs, lr=self.lr)
                unlearned = machine.parameters + update
                similarity = float(F.cosine_similarity(unlearned, machine.parameters, dim=0))
            order = torch.randperm(len(machine.inputs), generator=generator, device=generator.device)
            stamped = current.stamp(machine.inputs[order[: self.trigger_batch].to(machine.inputs.device)])
            goal = wanted[: len(stamped)]
            gradient = machine.input_gradient(stamped, goal).sum(0)
            if self.unlearning:
                gradient += self.unlearning * similarity * machine.input_gradient(stamped, goal, at=unlearned).sum(0)
            pattern = (pattern - self.trigger_lr * gradient.sign()).clamp(0, 1)
        return pattern
