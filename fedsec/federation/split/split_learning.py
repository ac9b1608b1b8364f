"""Split learning: the first layers at the client, the others at a server; activations go up and gradients come down.

Gupta, Raskar: Distributed learning of deep neural network over multiple agents. JNCA 2018, arXiv:1810.06060.
Vepakomma, Gupta, Swedish, Raskar: Split learning for health. 2018, arXiv:1812.00564 (who has the labels).
Thapa, Chamikara, Camtepe, Sun: SplitFed: When Federated Learning Meets Split Learning. AAAI 2022, arXiv:2004.12088.

The whole network is trained as if it lay in one place: one client's steps are ordinary SGD's. Where the papers leave a
choice:

- One optimizer of each kind on either side of the cut, with the same settings (`local`), whose state starts afresh with
  each client's turn; of plain SGD there is none.
- `relay`: the clients of a round take turns in ascending order, each starts from the bottom that the one before it left
  (handed over as it is), and the server's part goes on from client to client.
- `parallel`: SplitFedV1. Each client starts from the same bottom and the server has a copy of its part for each; both
  are averaged at the end of the round, weighted by examples. With local steps of plain SGD that is federated averaging
  of the whole network, and with one step a round it is a step on all clients' batches together.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

from fedsec.engine.local_training import LocalTraining, without_worker_momentum
from fedsec.errors import InputError
from fedsec.federation.algorithms.algorithm import Algorithm, Exchanged

Labels = Literal["shared", "server", "client"]
Turns = Literal["relay", "parallel"]


@dataclass(frozen=True)
class SplitLearning(Algorithm):
    """The network is cut: clients hold its first blocks, the server the others; activations and gradients are sent.

    Args:
        local: the steps of a client's turn, and the optimizer of both sides.
        cut: how many blocks of the model lie at the clients: layers with parameters, and what follows each of them.
        labels: who has them. shared: clients, who send them with the activations; server: the server alone, and clients
            have inputs only; client: clients alone, who hold the last blocks too (U-shaped).
        head: how many blocks at the end lie at the clients, where labels do.
        turns: relay: one client after another goes on from the last one's bottom; parallel: all start alike, and both
            sides are averaged at the end of the round (SplitFedV1).

    Raises:
        InputError: numbers out of range.

    Reference: Vepakomma et al. 2018, arXiv:1812.00564; Thapa et al., AAAI 2022, arXiv:2004.12088
    """

    local: LocalTraining = field(default_factory=lambda: LocalTraining(epochs=1, batch_size=32))
    cut: int = 1
    labels: Labels = "shared"
    head: int = 1
    turns: Turns = "relay"

    exchanges: ClassVar[Exchanged] = "activations"

    def __post_init__(self) -> None:
        without_worker_momentum(self.local, "clients of split learning send no updates")
        for name, known in (("labels", Labels), ("turns", Turns)):
            if getattr(self, name) not in get_args(known):
                raise InputError(f"{name} must be one of {', '.join(get_args(known))}, got {getattr(self, name)!r}")
        for name in ("cut", "head"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.head != 1 and self.labels != "client":
            raise InputError(f"head goes with labels: client, got {self.head} blocks with labels: {self.labels}")
        if self.local.clip_norm is not None:
            raise InputError(
                f"local: nobody has the whole gradient to clip; expected no clip_norm, got {self.local.clip_norm}"
            )
        if self.local.private is not None:
            raise InputError("local: no account of DP-SGD is known to hold for activations; expected none")

    @property
    def tail(self) -> int:
        """How many blocks at the end lie at the clients."""
        return self.head if self.labels == "client" else 0
