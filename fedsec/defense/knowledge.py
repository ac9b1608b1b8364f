"""The interface of defenses of knowledge transfer: which examples a FedGKT server learns from, and by which loss.

**The gate.** An example with a NaN or an infinity among its features or logits is admitted nowhere: no screening sees
it, it gets weight zero, and it is counted. Without a defense the server has this gate and nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat.knowledge import Knowledge
from fedsec.threat.sealed import Sealed, unmodified

__all__ = ["Admission", "KnowledgeDefense", "compose"]


@dataclass(frozen=True, eq=False)
class Admission:
    """How much a server learns from each of one client's examples.

    Attributes:
        examples: weights in [0, 1] of the examples' label loss.
        distillation: weights in [0, 1] of the client's logits as a teacher.
        rejected: how many examples the gate held back because they were not finite.

    Raises:
        InputError: not two vectors of as many weights in [0, 1].
    """

    examples: Float[Tensor, "examples"]
    distillation: Float[Tensor, "examples"]
    rejected: int = 0

    def __post_init__(self) -> None:
        for what, weights in (("examples", self.examples), ("distillation", self.distillation)):
            if weights.ndim != 1 or not weights.is_floating_point():
                raise InputError(
                    f"Admission: {what} must be a vector of floating-point weights, not {weights.dtype} of shape "
                    f"{tuple(weights.shape)}"
                )
            if not bool(((weights >= 0) & (weights <= 1)).all()):
                raise InputError(f"Admission: {what} must lie in [0, 1]")
        if len(self.examples) != len(self.distillation):
            raise InputError(
                f"Admission: {len(self.examples)} weights of examples and {len(self.distillation)} of logits differ"
            )

    @classmethod
    def full(cls, knowledge: Knowledge) -> "Admission":
        """Weight one for everything that a client sent."""
        ones = torch.ones(len(knowledge), device=knowledge.features.device)
        return cls(ones, ones.clone())


class KnowledgeDefense(Sealed):
    """Weighs what FedGKT's clients send; a subclass fills in `screen`, `supervise`, or both.

    As it stands this class is the undefended server: the gate, and cross-entropy.
    """

    role: ClassVar[str] = "knowledge"
    """Where in a round its kind acts: the server that learns from knowledge and aggregates nothing."""

    @final
    def admit(self, clients: Sequence[Knowledge]) -> list[Admission]:
        """How much to learn from each example of one round.

        Args:
            clients: what each client sent; left unchanged.

        Returns:
            One admission for each client, with a weight for each of its examples, on their device.

        Raises:
            InputError: the clients' feature maps or classes differ, or the subclass broke this contract.
        """
        name = type(self).__name__
        kinds = {(tuple(client.features.shape[1:]), client.num_classes) for client in clients}
        if len(kinds) > 1:
            raise InputError(f"{name}: clients must agree in feature maps and classes, but there are {sorted(kinds)}")
        finite = [_finite(client) for client in clients]
        numbers = [number for number, rows in enumerate(finite) if bool(rows.any())]
        shown = [clients[k] if bool(finite[k].all()) else clients[k].take(finite[k]) for k in numbers]
        screened = dict(zip(numbers, _screened(self, shown), strict=True)) if shown else {}
        return [_spread(rows, screened.get(number)) for number, rows in enumerate(finite)]

    def screen(self, clients: Sequence[Knowledge]) -> Sequence[Admission]:
        """One admission for each client; everything counts fully, unless a subclass says otherwise.

        Args:
            clients: those with at least one finite example, and of these only the finite examples.
        """
        return [Admission.full(client) for client in clients]

    def supervise(
        self, logits: Float[Tensor, "batch classes"], labels: Int64[Tensor, "batch"]
    ) -> Float[Tensor, "batch"]:
        """The server's loss of each example against its label, differentiable; cross-entropy, unless overridden.

        Args:
            logits: of the server's network.
            labels: as the clients sent them.
        """
        return F.cross_entropy(logits, labels, reduction="none")


@final
class _Composition(KnowledgeDefense):
    """Several defenses in one: weights multiply, and at most one of them has a loss of its own."""

    def __init__(self, members: Sequence[KnowledgeDefense]) -> None:
        self.members = tuple(members)
        own = [member for member in self.members if type(member).supervise is not KnowledgeDefense.supervise]
        if len(own) > 1:
            names = " and ".join(type(member).__name__ for member in own)
            raise InputError(f"{names} each bring a loss of their own; a server trains with one")
        self._loss = own[0] if own else KnowledgeDefense()

    def screen(self, clients: Sequence[Knowledge]) -> list[Admission]:
        verdicts = zip(*(_screened(member, clients) for member in self.members), strict=True)
        return [
            Admission(prod(verdict.examples for verdict in client), prod(verdict.distillation for verdict in client))
            for client in verdicts
        ]

    def supervise(
        self, logits: Float[Tensor, "batch classes"], labels: Int64[Tensor, "batch"]
    ) -> Float[Tensor, "batch"]:
        return self._loss.supervise(logits, labels)


def compose(defenses: Sequence[KnowledgeDefense]) -> KnowledgeDefense:
    """Several defenses as one; none at all is the undefended server, which has the gate only.

    Args:
        defenses: in any order: their weights multiply, and the loss is that of the one that has a loss of its own.

    Raises:
        InputError: two of them have a loss of their own.
    """
    members = [
        part for defense in defenses for part in (defense.members if isinstance(defense, _Composition) else (defense,))
    ]
    if not members:
        return KnowledgeDefense()
    return members[0] if len(members) == 1 else _Composition(members)


def _finite(client: Knowledge) -> Tensor:
    """Which examples are finite throughout."""
    return client.features.isfinite().flatten(1).all(1) & client.logits.isfinite().all(1)


def _screened(defense: KnowledgeDefense, clients: Sequence[Knowledge]) -> list[Admission]:
    """A defense's own verdict, checked."""
    what = f"{type(defense).__name__}.screen"
    watched = {
        f"clients[{number}].{part}": getattr(client, part)
        for number, client in enumerate(clients)
        for part in ("features", "logits", "labels")
    }
    with unmodified(what, **watched):
        verdicts = list(defense.screen(clients))
    if len(verdicts) != len(clients):
        raise InputError(f"{what}: {len(verdicts)} admissions of {len(clients)} clients")
    for number, (verdict, client) in enumerate(zip(verdicts, clients, strict=True)):
        if len(verdict.examples) != len(client):
            raise InputError(f"{what}: {len(verdict.examples)} weights for the {len(client)} examples of {number}")
    return verdicts


def _spread(finite: Tensor, verdict: Admission | None) -> Admission:
    """A verdict on the finite examples -> one on all examples."""
    weights = torch.zeros(2, len(finite), device=finite.device)
    if verdict is not None:
        weights[0, finite] = verdict.examples.to(weights)
        weights[1, finite] = verdict.distillation.to(weights)
    return Admission(weights[0], weights[1], int((~finite).sum()))
