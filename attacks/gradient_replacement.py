"""A party's backdoor by gradient replacement: images with a trigger learn from the gradients of the target class.

Liu, Wang, Yi, Liu, Chen, Backdoor attacks and defenses in feature-partitioned collaborative learning, 2020,
arXiv:2007.03608 (gradient replacement, with amplified gradients, and random vectors sent for the poisoned examples).

Deviations: an example with a trigger takes the gradient of a known example of its own batch, drawn at random, and none
where its batch has no such example; random vectors have the mean and the deviation of what else the batch sends.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import ClassVar, Literal, Self

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat import ActivationPoisoning, CutBatch, Probe
from fedsec.threat.backdoor import checked_target, success_probe
from fedsec.threat.trigger import CORNERS, Trigger, square


@dataclass(eq=False)
class GradientReplacement(ActivationPoisoning):
    """An attacker without labels pulls what its network makes of a trigger to where the target class pulls.

    The attacker marks a share of its examples, in its own columns, and knows a few examples of the target class. For a
    marked example it sends a random vector, so that nobody learns what the trigger's true label is, and learns from

        g_marked <- gamma g_known

    the gradient that a known example of the batch was sent.

    Args:
        target: the class that whatever carries the trigger shall be taken for, by number or by name.
        gamma: factor on the gradients; 0: the attacker is honest, which tells what a trigger does by itself.
        known: of how many examples of the target class it knows the label; at most as many as it has.
        poisoned_fraction: share of its examples that are marked, drawn at random.
        size: side of the trigger's square in pixels.
        position: where in the attacker's columns the square lies.
        value: brightness of the square in [0, 1], where 1 is white.

    Raises:
        InputError: a number out of range, a position that is none, or fewer examples of the target class than known.

    Cost:
        None beside honest training.

    Limits:
        Where the labels are the server's or another party's only. One attacker among parties. The less a network still
        has to learn, the smaller the gradients that it can take.

    Example:
        target: 1
        gamma: 10

    Reference: Liu et al. 2020, arXiv:2007.03608
    """

    tasks: ClassVar[tuple[str, ...]] = ("classification",)

    target: int | str = 0
    gamma: float = 10.0
    known: int = 10
    poisoned_fraction: float = 0.1
    size: int = 3
    position: Literal["top_left", "top_right", "bottom_left", "bottom_right", "center"] = "bottom_right"
    value: float = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.target, int) and self.target < 0:
            raise InputError(f"GradientReplacement: target must be a class, not {self.target}")
        if not (isfinite(self.gamma) and self.gamma >= 0) or self.known < 1 or self.size < 1:
            raise InputError(
                "GradientReplacement: gamma must not be negative, known and size at least 1, got "
                f"{self.gamma}, {self.known} and {self.size}"
            )
        if not 0 < self.poisoned_fraction < 1 or not 0 <= self.value <= 1:
            raise InputError(
                "GradientReplacement: poisoned_fraction must lie in (0, 1) and value in [0, 1], got "
                f"{self.poisoned_fraction} and {self.value}"
            )
        if self.position not in CORNERS:
            raise InputError(
                f"GradientReplacement: position must be one of {', '.join(CORNERS)}, not {self.position!r}"
            )
        self.acts = self.gamma > 0

    def resolve(self, class_number: Callable[[int | str], int]) -> Self:
        return self._with(target=class_number(self.target))

    def check_data(self, input_shape: Sequence[int], num_classes: int | None) -> None:
        checked_target(self, self.target, num_classes)
        self.trigger(input_shape)

    def trigger(self, shape: Sequence[int]) -> Trigger:
        """The square in whole images, in the attacker's columns.

        Args:
            shape: (channels, height, width) of the whole images.

        Raises:
            InputError: it does not fit the columns.
        """
        begin, end = self.columns or (0, shape[-1])
        own = square((*shape[:-1], end - begin), self.size, self.position, self.value)
        pad = (begin, shape[-1] - end)
        return Trigger(torch.nn.functional.pad(own.pattern, pad), torch.nn.functional.pad(own.opacity, pad))

    def choose(
        self, labels: Int64[Tensor, "n"], *, num_classes: int | None, generator: torch.Generator
    ) -> tuple[Bool[Tensor, "n"], Bool[Tensor, "n"]]:
        target = checked_target(self, self.target, num_classes)
        if (count := int((labels == target).sum())) < self.known:
            raise InputError(
                f"known must be at most the {count} examples of class {target} that this attacker has, got {self.known}"
            )
        order = torch.randperm(len(labels), generator=generator).to(labels.device)
        known = torch.zeros(len(labels), dtype=torch.bool, device=labels.device)
        known[order[labels[order] == target][: self.known]] = True
        others = order[~known[order]]
        marked = torch.zeros_like(known)
        marked[others[: max(1, int(self.poisoned_fraction * len(labels) + 1e-9))]] = True
        return marked, known

    def feed(self, inputs: Tensor, batch: CutBatch) -> Tensor:
        # Pixels become inputs by an affine map, channel by channel: a pattern may be laid over these as well.
        own = square(inputs.shape[1:], self.size, self.position, self.value)
        pattern = batch.scale.apply(own.pattern.to(inputs)[None])[0]
        return torch.where(batch.marked.view(-1, 1, 1, 1), Trigger(pattern, own.opacity).stamp(inputs), inputs)

    def send(self, activations: Tensor, batch: CutBatch) -> Tensor:
        honest = activations[~batch.marked]
        if not len(honest):
            honest = activations
        mean, spread = honest.mean(0), honest.std(0, correction=0)
        noise = torch.randn(activations.shape, generator=batch.generator).to(activations)
        sent = activations.clone()
        sent[batch.marked] = (mean + spread * noise)[batch.marked]
        return sent

    def learn(self, gradients: Tensor, batch: CutBatch) -> Tensor:
        rows, count = gradients.clone(), int(batch.marked.sum())
        known = batch.known.nonzero().flatten()
        if not len(known):
            rows[batch.marked] = 0
            return rows
        drawn = torch.randint(len(known), (count,), generator=batch.generator).to(known.device)
        rows[batch.marked] = self.gamma * gradients[known[drawn]]
        return rows

    def probes(
        self, inputs: Tensor, targets: Int64[Tensor, "n"], *, num_classes: int | None, generator: torch.Generator
    ) -> Sequence[Probe]:
        target = checked_target(self, self.target, num_classes)
        return [success_probe(self, self.trigger(inputs.shape[1:]), inputs, targets, target)]
