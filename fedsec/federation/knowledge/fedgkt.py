"""FedGKT, group knowledge transfer: clients send what they know about each example instead of a model.

He, Annavaram, Avestimehr: Group Knowledge Transfer: Federated Learning of Large CNNs at the Edge. NeurIPS 2020,
arXiv:2007.14513. This file holds its settings; `KnowledgeFederation` plays Algorithm 1 with them. Where the paper
leaves a choice, or its published code goes another way:

- A server's logits belong to an example, and to the view of it whose feature map they were computed of: they are kept
  by example number, and a client distills from them on the very views that it last sent (published code: by batch
  number, while batches are shuffled and augmented anew).
- They are computed in evaluation mode after the server's last epoch, not in the middle of it.
- Both directions distill by T^2 KL(softmax(teacher / T) || softmax(student / T)); the paper's equations leave out T^2.
- The rate drops where the training loss stalls; the paper watches the accuracy, for which it had to use the test set.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from fedsec.engine.local_training import LocalTraining, without_worker_momentum
from fedsec.errors import InputError
from fedsec.federation.algorithms.algorithm import Algorithm, Exchanged


@dataclass(frozen=True)
class ServerTraining:
    """How the server trains its network on what it has received.

    Args:
        epochs: passes over it in a round; several numbers are those of the first rounds, the last one repeats.
        batch_size: examples in a batch at most; examples are spread evenly over the batches.
        optimizer: `sgd` or `adam`; its state is kept over the rounds.
        lr: learning rate.
        momentum: heavy-ball momentum of SGD, as in PyTorch (no dampening).
        weight_decay: L2 penalty added to the gradient.
        order: `clients`, one client's shuffled examples after another's, as Algorithm 1 has it, the clients in a new
            order each epoch; `mixed`, all examples shuffled together.
        patience: rounds without a better training loss (of the last epoch) after which the rate is divided by ten;
            None for never.

    Raises:
        InputError: numbers out of range.
    """

    epochs: int | Sequence[int] = 20
    batch_size: int = 128
    optimizer: Literal["sgd", "adam"] = "adam"
    lr: float = 0.001
    momentum: float = 0.0
    weight_decay: float = 0.0001
    order: Literal["clients", "mixed"] = "clients"
    patience: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.epochs, int):
            object.__setattr__(self, "epochs", tuple(self.epochs))
        epochs = (self.epochs,) if isinstance(self.epochs, int) else self.epochs
        if not epochs or min(epochs) < 1:
            raise InputError(f"server epochs must be at least 1, for at least one round, got {self.epochs}")
        for name in ("batch_size", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"server {name} must be at least 1, got {value}")
        if self.optimizer not in ("sgd", "adam"):
            raise InputError(f"server optimizer must be sgd or adam, got {self.optimizer!r}")
        if self.optimizer == "adam" and self.momentum:
            raise InputError("server momentum belongs to sgd; adam has its own")
        if not self.lr > 0 or not 0 <= self.momentum < 1 or not self.weight_decay >= 0:
            raise InputError("server training needs lr > 0, 0 <= momentum < 1 and weight_decay >= 0")
        if self.order not in ("clients", "mixed"):
            raise InputError(f"server order must be clients or mixed, got {self.order!r}")

    def epochs_of(self, round_number: int) -> int:
        """Passes in a round; 1 is the first round."""
        if isinstance(self.epochs, int):
            return self.epochs
        return self.epochs[min(round_number, len(self.epochs)) - 1]


@dataclass(frozen=True)
class Distillation:
    """How much both sides' networks learn from each other's logits.

    Args:
        temperature: T, by which both sides' logits are divided in the distillation terms.
        to_clients: weight of the server's logits in the clients' loss; 0 for none.
        to_server: weight of the clients' logits in the server's loss; 0 for none.

    Raises:
        InputError: numbers out of range.
    """

    temperature: float = 3.0
    to_clients: float = 1.0
    to_server: float = 1.0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise InputError(f"the distillation's temperature must be positive, got {self.temperature}")
        if not self.to_clients >= 0 or not self.to_server >= 0:
            raise InputError(
                f"the distillation's weights must not be negative, got to_clients {self.to_clients} and to_server "
                f"{self.to_server}"
            )


@dataclass(frozen=True)
class FedGKT(Algorithm):
    """Group knowledge transfer: small client networks and a large one at the server teach each other by logits.

    Args:
        local: how a client trains its own network in a round; the optimizer's state starts afresh each round.
        server: how the server trains on the feature maps it has received.
        distillation: how much both learn from each other's logits.
        asynchronous: whether the server, instead of waiting for a round's clients and training on them alone, trains on
            the newest message of every client heard so far.

    Reference: He, Annavaram, Avestimehr, NeurIPS 2020, arXiv:2007.14513
    """

    local: LocalTraining = field(default_factory=lambda: LocalTraining(epochs=1, batch_size=32))
    server: ServerTraining = field(default_factory=ServerTraining)
    distillation: Distillation = field(default_factory=Distillation)
    asynchronous: bool = False

    exchanges: ClassVar[Exchanged] = "knowledge"
    tasks: ClassVar[tuple[str, ...]] = ("classification",)

    def __post_init__(self) -> None:
        without_worker_momentum(self.local, "clients of FedGKT send no updates")
