"""What a client starts from, what it may learn from beside its labels, and what its training leaves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Start:
    """What clients start a round of local training from.

    Attributes:
        parameters: one vector for all, or a row for each client.
        statistics: running statistics of batch normalization; likewise. Empty for models without any.
    """

    parameters: Float[Tensor, "*clients parameters"]
    statistics: Float[Tensor, "*clients statistics"]

    def rows(self, clients: Sequence[int]) -> "Start":
        """What the clients in these places start from."""
        places = list(clients)
        return Start(
            self.parameters[places] if self.parameters.ndim == 2 else self.parameters,
            self.statistics[places] if self.statistics.ndim == 2 else self.statistics,
        )

    def of(self, client: int) -> tuple[Float[Tensor, "parameters"], Float[Tensor, "statistics"]]:
        """What the client in this place starts from."""
        parameters = self.parameters[client] if self.parameters.ndim == 2 else self.parameters
        return parameters, self.statistics[client] if self.statistics.ndim == 2 else self.statistics


@dataclass(frozen=True, eq=False)
class Teacher:
    """Logits to distill from, by example: T^2 KL(softmax(teacher / T) || softmax(student / T)) joins the loss.

    The factor T^2 keeps the term's gradient comparable to cross-entropy's whatever the temperature.

    Attributes:
        logits: of the teacher; a row for each example of the resident data.
        known: whether there are any for that example; without them only its label teaches.
        temperature: T.
        weight: of the term.

    Reference: Hinton, Vinyals, Dean 2015, arXiv:1503.02531
    """

    logits: Float[Tensor, "examples classes"]
    known: Bool[Tensor, "examples"]
    temperature: float = 1.0
    weight: float = 1.0

    def losses(
        self, logits: Float[Tensor, "*batch classes"], taught: Float[Tensor, "*batch classes"]
    ) -> Float[Tensor, "*batch"]:
        """The distillation term of each example, without its weight."""
        return distillation(logits, taught, self.temperature)


def distillation(
    student: Float[Tensor, "*batch classes"], teacher: Float[Tensor, "*batch classes"], temperature: float
) -> Float[Tensor, "*batch"]:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)) of each example.

    Classes of which the teacher is certain that it is not them add nothing, whatever the student says: p log p is 0 at
    0. So any finite logits of a teacher give a finite loss, also those of a client that wants to break the training.

    Reference: Hinton, Vinyals, Dean 2015, arXiv:1503.02531
    """
    # Shifted before it is divided: a temperature below 1 could make finite logits infinite.
    targets = torch.log_softmax((teacher - teacher.amax(-1, keepdim=True)) / temperature, -1)
    answers = torch.log_softmax(student / temperature, -1)
    shares = targets.exp()
    gaps = torch.where(shares > 0, targets - answers, 0)  # before the product: zero times infinity is NaN
    return temperature**2 * (shares * gaps).sum(-1)


@dataclass(frozen=True, eq=False)
class LocalResult:
    """What local training of a cohort left, one row a client.

    Attributes:
        updates: the trained parameters minus those the client started from (FedSGD: the gradient).
        statistics: the running statistics after training.
        examples: how many example gradients each client computed.
        further: what clients send beside it, of the model's length, by name: likewise one row a client.
        kept: what stays with the clients, of the model's length, by name: likewise one row a client.
        units: by what each client divides its update before it sends it, positive; None where nobody does.
    """

    updates: Float[Tensor, "clients parameters"]
    statistics: Float[Tensor, "clients statistics"]
    examples: Int64[np.ndarray, "clients"]
    further: Mapping[str, Float[Tensor, "clients parameters"]] = field(default_factory=dict)
    units: Float[Tensor, "clients"] | None = None
    kept: Mapping[str, Float[Tensor, "clients parameters"]] = field(default_factory=dict)
