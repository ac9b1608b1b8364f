"""What a malicious server sees of its victim's group under secure aggregation: one sum of what all of them answered.

Each client of the group receives a model of the server's making, works on it with its own defenses, and answers; the
server is shown the weighted sum alone. What it can tell of defenses in a sum is that lengths may say nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedsec.federation.updates import Federation
from fedsec.inversion.server_view import ClientWork, ServerKnowledge, server_view, steps_together
from fedsec.runs.malicious.sent_models import SentModels
from fedsec.threat import Distortion, Observation

__all__ = ["GroupVisit", "SummedPart", "SummedReplies"]


@dataclass(frozen=True, eq=False)
class SummedPart:
    """What the server reads off a sum at once: one client's part where it can be told apart, or the whole sum.

    Attributes:
        clients: whose images it is about.
        observation: as of one client that has all of them.
        images: theirs, in 0..255, client by client.
        labels: of the images.
    """

    clients: tuple[int, ...]
    observation: Observation
    images: Tensor
    labels: Tensor


@dataclass(frozen=True, eq=False)
class GroupVisit:
    """Who of a group trains on what it received.

    Attributes:
        accepted: models by client, of those that do.
        refused: why not, by client, of the others.
        looked: how many looked at it.
    """

    accepted: Mapping[int, nn.Module]
    refused: Mapping[int, str]
    looked: int

    @classmethod
    def of(cls, sent: SentModels, group: Sequence[int], round_number: int) -> "GroupVisit":
        """Send each client of a group its model."""
        models = {client: sent.model(client, round_number, group) for client in group}
        looks = {client: sent.inspected(client, model, round_number) for client, model in models.items()}
        refused = {client: reasons for client, (_, reasons) in looks.items() if reasons}
        accepted = {client: model for client, model in models.items() if client not in refused}
        return cls(accepted, refused, sum(asked for asked, _ in looks.values()))

    @property
    def refusal(self) -> str:
        """Who refused, in words."""
        count, clients = len(self.refused), len(self.refused) + len(self.accepted)
        return f"{count} of the sum's {clients} clients refused the model: {next(iter(self.refused.values()), '')}"

    @property
    def asked(self) -> dict[str, float]:
        """`refused`: the share of those who looked that refused; nothing where nobody looks."""
        return {"refused": len(self.refused) / self.looked} if self.looked else {}


class SummedReplies:
    """The sum of a group's answers in one round.

    Args:
        sent: what its clients received.
        models: by client, of those that trained on it; the target is among them, and stands first in all that follows.
        round_number: from 1.
    """

    def __init__(self, sent: SentModels, models: Mapping[int, nn.Module], round_number: int) -> None:
        self.sent, self.models, self.round_number = sent, models, round_number
        self.clients = tuple(sorted(models, key=lambda client: client != sent.client))
        self.weights: Float[Tensor, "clients"] = sent.federation.coefficients(self.clients)
        replies = [sent.reply(models[client], client, round_number) for client in self.clients]
        self.layout = replies[0].layout
        rows = torch.stack([reply.row for reply in replies])
        self.row = self.weights.to(rows) @ rows / self.weights.sum().to(rows)

    @property
    def note(self) -> str:
        """Whose sum it is, in words."""
        names, separates = ", ".join(map(str, self.clients)), self.sent.attack.separates_clients
        received = "each received a model of its own" if separates else "all received one model"
        return (
            f"the sum of {len(self.clients)} clients, {names}: {received}, made by the server, beside the round: the "
            "federation went on with the honest one"
        )

    @property
    def target_images(self) -> int:
        """How many images the target has: the first of all."""
        return len(self.sent.federation.data.clients[self.sent.client])

    @property
    def empty(self) -> bool:
        """Whether there is nothing to read: it is zero, or not finite."""
        return not bool(self.row.isfinite().all()) or not bool(self.row.any())

    def parts(self, knowledge: ServerKnowledge, order: torch.Generator) -> Iterator[SummedPart]:
        """What the server looks at, the target's first.

        Args:
            knowledge: of the server.
            order: in which labels are granted is drawn from this.
        """
        if not self.sent.attack.separates_clients:
            yield self._part(self.clients, self.sent.client, 1.0, knowledge, order)
            return
        for client in self.clients:
            # How many images each client has is granted, so its share of the sum is.
            share = float(self.weights[self.clients.index(client)] / self.weights.sum())
            yield self._part((client,), client, 1 / share, knowledge, order)

    def _part(
        self,
        clients: Sequence[int],
        receiver: int,
        factor: float,
        knowledge: ServerKnowledge,
        order: torch.Generator,
    ) -> SummedPart:
        federation = self.sent.federation
        examples = [federation.data.client_examples(client) for client in clients]
        images, labels = torch.cat([one for one, _ in examples]), torch.cat([one for _, one in examples])
        local = self.sent.training(receiver, self.round_number)
        if local is not None and len(clients) > 1:
            steps = [self.sent.training(client, self.round_number) for client in clients]
            local = steps_together([one for one in steps if one is not None], len(images))
        defended = bool(federation.client_defenses.transforms) or federation.privacy is not None
        observation = server_view(
            self.models[receiver],
            self.layout.views(factor * self.row),
            ClientWork(images, labels, local),
            knowledge,
            num_classes=self.sent.dataset.num_classes,
            normalization=federation.data.normalization,
            distortion=Distortion(rescaled=True) if defended else None,
            order=order,
        )
        return SummedPart(tuple(clients), observation, images, labels)


def remarks_on_sum(federation: Federation, clients: Sequence[int]) -> list[str]:
    """In what a sum is not that of all the clients' images.

    Args:
        federation: whose clients are summed.
        clients: in the sum.
    """
    remarks = []
    if federation.algorithm.weighting == "uniform" and len({*federation.data.sizes(clients).tolist()}) > 1:
        remarks.append("clients of different sizes weigh the same (uniform): images of small ones count for more")
    attackers = [client for client in clients if client in federation.attackers]
    if attackers:
        remarks.append(f"Byzantine in this sum: {', '.join(map(str, attackers))}; their rows need not be trained")
    return remarks
