"""The interface of defenses of split networks: what whoever has the labels does to gradients, and clients to features.

A network is cut; activations cross the cut one way and gradients the other. The gradient of an example's loss tells
its label, its activations tell its inputs. A defense changes the gradients before they are passed on, adds a penalty to
the loss of whoever makes the activations, or both.
"""

from collections.abc import Sequence
from typing import ClassVar, final

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat.sealed import Sealed, unmodified

__all__ = ["ActivationDefense"]


class ActivationDefense(Sealed):
    """Changes gradients at a cut, or weighs in on activations; a subclass fills in `perturb`, `penalize`, or both.

    As it stands this class does nothing.
    """

    role: ClassVar[str] = "activations"
    """Where in a round its kind acts: at the cut of a network, on what crosses it."""
    most_classes: ClassVar[int | None] = None
    """How many classes labels may have at most; None for any number, or for none."""
    tasks: ClassVar[tuple[str, ...]] = ()

    @final
    def check_classes(self, num_classes: int | None) -> None:
        """Refuse labels of more classes than the defense is made for.

        Args:
            num_classes: of the labels; None for a task without classes.

        Raises:
            InputError: they are too many.
        """
        if self.most_classes is not None and num_classes is not None and num_classes > self.most_classes:
            raise InputError(
                f"{type(self).__name__} is made for {self.most_classes} classes, and the data have {num_classes}; "
                "expected another defense"
            )

    @final
    def passed_on(
        self,
        gradients: Float[Tensor, "batch *shape"],
        labels: Int64[Tensor, "batch"] | Float[Tensor, "batch ..."],
        generator: torch.Generator,
    ) -> Float[Tensor, "batch *shape"]:
        """The gradients that whoever has the labels passes on.

        Args:
            gradients: of each example's loss with respect to its activations; left unchanged.
            labels: of the same examples; left unchanged.
            generator: the only source of randomness, on the CPU.

        Raises:
            InputError: the subclass broke this contract.
        """
        what = f"{type(self).__name__}.perturb"
        with unmodified(what, gradients=gradients, labels=labels), torch.no_grad():
            perturbed = self.perturb(gradients, labels, generator=generator)
        if perturbed.shape != gradients.shape or perturbed.dtype != gradients.dtype:
            raise InputError(
                f"{what}: expected {gradients.dtype} of shape {tuple(gradients.shape)}, got {perturbed.dtype} of shape "
                f"{tuple(perturbed.shape)}"
            )
        return perturbed

    def perturb(
        self,
        gradients: Float[Tensor, "batch *shape"],
        labels: Int64[Tensor, "batch"] | Float[Tensor, "batch ..."],
        *,
        generator: torch.Generator,
    ) -> Float[Tensor, "batch *shape"]:
        """See `passed_on`; the gradients as they are, unless overridden."""
        return gradients

    def penalize(
        self, inputs: Float[Tensor, "batch *shape"], activations: Float[Tensor, "batch *features"]
    ) -> Float[Tensor, ""] | None:
        """What joins the loss of whoever makes the activations, differentiable in these; None for nothing.

        Args:
            inputs: of its part of the network.
            activations: what that makes of them.
        """
        return None


def all_passed_on(
    defenses: Sequence[ActivationDefense], gradients: Tensor, labels: Tensor, generator: torch.Generator
) -> Tensor:
    """What several defenses leave of gradients, one after the other; see `ActivationDefense.passed_on`."""
    for defense in defenses:
        gradients = defense.passed_on(gradients, labels, generator)
    return gradients


def all_penalties(defenses: Sequence[ActivationDefense], inputs: Tensor, activations: Tensor) -> Tensor | None:
    """The sum of several defenses' penalties; None where none of them has one."""
    terms = [term for defense in defenses if (term := defense.penalize(inputs, activations)) is not None]
    return torch.stack(terms).sum() if terms else None
