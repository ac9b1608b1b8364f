"""A network whose parts lie at different parties: one step of training, and all that crosses its cuts in it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from fedsec.defense.activations import ActivationDefense, all_passed_on, all_penalties
from fedsec.models.blocks import Part
from fedsec.tasks import Task
from fedsec.threat import ActivationPoisoning, CutBatch

Answer = Callable[[Tensor], Tensor]
"""What a malicious server sends back for a batch's activations, in place of the gradient of the mean loss."""


Attacks = Mapping[int, tuple[ActivationPoisoning, CutBatch]]
"""What Byzantine owners of some bottoms do with a batch, by the bottom's place."""


@dataclass(frozen=True, eq=False)
class Crossing:
    """What crossed the cuts in one step, as a party at them sees it.

    Attributes:
        round: 1 for the first.
        client: who made the activations: a client, or a party of a vertical federation.
        examples: numbers of the batch's examples.
        sent: the client's activations, as it sent them.
        outputs: the activations next to whoever has the labels: `sent`, or those that the server sent to a head at the
            client.
        gradients: of each example's loss with respect to `outputs`, as whoever has the labels passed them on.
    """

    round: int
    client: int
    examples: Int64[np.ndarray, "batch"]
    sent: Float[Tensor, "batch *features"]
    outputs: Float[Tensor, "batch *features"]
    gradients: Float[Tensor, "batch *features"]


@dataclass(frozen=True, eq=False)
class Step:
    """One step's gradients, and what crossed the cuts for them.

    Attributes:
        gradients: of the network's trainable parameters, by name.
        sent: each bottom's activations.
        outputs: the activations next to whoever has the labels, of each bottom.
        passed_on: their gradients as passed on, of the mean loss.
    """

    gradients: dict[str, Tensor]
    sent: list[Tensor]
    outputs: list[Tensor]
    passed_on: list[Tensor]


class CutNetwork:
    """Bottoms at clients or parties, a server's part on what all of them make, and perhaps a head where labels are.

    Args:
        module: the whole network; the parts compute with its parameters.
        bottoms: one, or one for each party, whose activations the server puts one behind the other.
        server: what follows.
        head: what follows that at the client, where labels are there; None where the server ends the network.
        task: gives each example's loss.
        defenses: what whoever has the labels does to gradients, and clients to their loss.
    """

    def __init__(
        self,
        module: nn.Module,
        bottoms: Sequence[Part],
        server: Part,
        head: Part | None,
        task: Task,
        defenses: Sequence[ActivationDefense] = (),
    ) -> None:
        self.module, self.task, self.defenses = module, task, tuple(defenses)
        self.bottoms, self.server, self.head = tuple(bottoms), server, head

    def trainable(self, part: Part) -> dict[str, Tensor]:
        """A part's trainable parameters by name."""
        named = dict(self.module.named_parameters())
        return {name: named[name] for name in part.parameters if named[name].requires_grad}

    def step(
        self,
        inputs: Sequence[Float[Tensor, "batch *shape"]],
        targets: Tensor,
        generator: torch.Generator,
        *,
        attacks: Attacks | None = None,
        answer: Answer | None = None,
        idle: bool = False,
    ) -> Step:
        """The gradients of the mean loss of a batch, part by part, as if each lay on a machine of its own.

        Args:
            inputs: of each bottom.
            targets: of the batch.
            generator: of the defenses, on the CPU.
            attacks: what Byzantine owners of some bottoms do, by the bottom's place.
            answer: of a malicious server to what the first bottom sends; None for an honest one.
            idle: whether the server's part stays as it is.
        """
        inputs, byzantine = list(inputs), dict(attacks or {})
        for place, (attack, batch) in byzantine.items():
            inputs[place] = attack.fed(inputs[place], batch)
        activations = [bottom(own) for bottom, own in zip(self.bottoms, inputs, strict=True)]
        sent = [rows.detach() for rows in activations]
        for place, (attack, batch) in byzantine.items():
            sent[place] = attack.sent(sent[place], batch)
        sent = [rows.requires_grad_() for rows in sent]
        gradients: dict[str, Tensor] = {}
        if self.head is None:
            outputs = sent
            passed_on = self._of_labels(self.server, outputs, targets, generator, gradients)
            returned = passed_on
        else:
            forwarded = self.server(_together(sent))
            outputs = [forwarded.detach().requires_grad_()]
            passed_on = self._of_labels(self.head, outputs, targets, generator, gradients)
            returned = self._backward([forwarded], passed_on, self.server, gradients, sent)
        if answer is not None:
            returned = [answer(sent[0].detach())]
            passed_on = returned if self.head is None else passed_on
        for place, (attack, batch) in byzantine.items():
            returned = [*returned[:place], attack.learned(returned[place], batch), *returned[place + 1 :]]
        if idle:
            gradients |= {name: torch.zeros_like(row) for name, row in self.trainable(self.server).items()}
        for place, bottom in enumerate(self.bottoms):
            penalty = all_penalties(self.defenses, inputs[place], activations[place])
            ends, factors = [activations[place]], [returned[place]]
            if penalty is not None:
                ends, factors = [*ends, penalty], [*factors, torch.ones_like(penalty)]
            self._backward(ends, factors, bottom, gradients, [])
        return Step(gradients, [rows.detach() for rows in sent], [rows.detach() for rows in outputs], passed_on)

    def _of_labels(
        self,
        last: Part,
        outputs: Sequence[Tensor],
        targets: Tensor,
        generator: torch.Generator,
        gradients: dict[str, Tensor],
    ) -> list[Tensor]:
        """What whoever has the labels passes on: gradients of the mean loss, after the defenses of single examples'."""
        loss = self.task.losses(last(_together(outputs)), targets).mean()
        passed_on = self._backward([loss], [torch.ones_like(loss)], last, gradients, outputs)
        if not self.defenses:
            return passed_on
        size = len(targets)
        return [all_passed_on(self.defenses, one * size, targets, generator) / size for one in passed_on]

    def _backward(
        self,
        ends: Sequence[Tensor],
        factors: Sequence[Tensor],
        part: Part,
        gradients: dict[str, Tensor],
        entered: Sequence[Tensor],
    ) -> list[Tensor]:
        """Fill in the gradients of a part's parameters; those of what entered it are returned."""
        own = self.trainable(part)
        wanted = [*own.values(), *entered]
        if not wanted:
            return []
        rows = torch.autograd.grad(ends, wanted, factors, allow_unused=True, materialize_grads=True)
        gradients.update(zip(own, rows, strict=False))
        return list(rows[len(own) :])


def _together(parts: Sequence[Tensor]) -> Tensor:
    """One bottom's activations as they are; of several, one behind the other."""
    return parts[0] if len(parts) == 1 else torch.cat([part.flatten(1) for part in parts], 1)
