"""What an attacker that trains has to train with: its own computer, model, examples, and nothing of anybody else's."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor

__all__ = ["AttackerMachine"]


class AttackerMachine(ABC):
    """One Byzantine client in one round: the model that it received, its examples, and its training.

    What it computes is counted: `examples` are gradients of single examples, whatever they are taken with respect to.

    Attributes:
        inputs: its examples; images as pixels in [0, 1], vectors as they are. Corrupted ones, if the attack corrupts
            its data.
        targets: what to predict of them.
        num_classes: how many classes there are; None for a task without classes.
        parameters: of the model that it received.
        examples: how many gradients of examples it computed so far in this round.
    """

    inputs: Tensor
    targets: Tensor
    num_classes: int | None
    parameters: Float[Tensor, "parameters"]
    examples: int

    @abstractmethod
    def train(
        self,
        inputs: Tensor | None = None,
        targets: Tensor | None = None,
        *,
        start: Float[Tensor, "parameters"] | None = None,
        epochs: int | None = None,
        steps: int | None = None,
        lr: float | None = None,
        pull: float = 0.0,
        center: Float[Tensor, "parameters"] | None = None,
        mask: Float[Tensor, "parameters"] | None = None,
    ) -> Float[Tensor, "parameters"]:
        """Local training as honest clients do it, but for what is said here.

        Args:
            inputs: like `inputs`, as many as one likes; its own by default.
            targets: what to predict of them; its own by default.
            start: parameters to start from; those received by default.
            epochs: passes over the examples; by default what honest clients do.
            steps: optimizer steps, instead.
            lr: learning rate; by default the honest clients'.
            pull: weight of a second loss, half the squared distance of the parameters to `center`.
            center: where `pull` pulls them to; the start by default.
            mask: multiplies every gradient, coordinate by coordinate; where it is zero nothing moves.

        Returns:
            The trained parameters minus those at the start.

        Raises:
            InputError: the model or its training cannot take these examples.
        """

    @abstractmethod
    def gradient(
        self,
        inputs: Tensor | None = None,
        targets: Tensor | None = None,
        *,
        at: Float[Tensor, "parameters"] | None = None,
    ) -> Float[Tensor, "parameters"]:
        """The gradient of the mean loss over examples with respect to the parameters, as in training.

        Args:
            inputs: as above.
            targets: as above.
            at: parameters; those received by default.
        """

    @abstractmethod
    def input_gradient(
        self, inputs: Tensor, targets: Tensor, *, at: Float[Tensor, "parameters"] | None = None
    ) -> Tensor:
        """The gradient of the mean loss over examples with respect to their pixels; the model is evaluated.

        Args:
            inputs: as above.
            targets: as above.
            at: parameters; those received by default.

        Returns:
            Like `inputs`.
        """
