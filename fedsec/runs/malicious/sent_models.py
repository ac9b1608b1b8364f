"""The models that a malicious server sends in place of the global one, and what its victim sends back.

Where the server sees sums of clients only, the whole group of its victim receives models of its making, and it sees the
sum of their answers.

The victim does what it does in every round (its batches and steps, its private training, its defenses of the update),
once, on the model that was made for it. All of that happens beside the round, which goes on as if the server were
honest: accuracy, privacy spent and checkpoints are those of the federation that was not attacked.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from fedsec.data.dataset import Dataset
from fedsec.engine.parameters import ParameterLayout
from fedsec.engine.trainer import CohortTrainer
from fedsec.errors import InputError
from fedsec.federation.algorithms.update_algorithm import Participants
from fedsec.federation.client_defenses import ClientDefenses
from fedsec.federation.updates import Federation
from fedsec.inversion.malicious import sent_model
from fedsec.inversion.server_view import prescribed_steps
from fedsec.seeds import Streams
from fedsec.threat import Distortion, LocalSteps, MaliciousServer

__all__ = ["VictimReply", "SentModels"]


@dataclass(frozen=True, eq=False)
class VictimReply:
    """What a victim sends back.

    Attributes:
        row: its update, flat.
        layout: of the row.
        buffers: running statistics that it sends beside it, by name; None where it sends none.
        distortion: what a server that knows its defenses can tell of the update; None without any.
    """

    row: Tensor
    layout: ParameterLayout
    buffers: dict[str, Tensor] | None
    distortion: Distortion | None


class SentModels:
    """What each client receives from a malicious server.

    Args:
        attack: of the server.
        federation: in which it plays its role.
        dataset: whose test images, which no client has, the auxiliary ones are drawn from.
        client: the victim.
        auxiliary: images that the server has.
        streams: the experiment's.
    """

    def __init__(
        self,
        attack: MaliciousServer,
        federation: Federation,
        dataset: Dataset,
        *,
        client: int,
        auxiliary: int,
        streams: Streams,
    ) -> None:
        if auxiliary > len(dataset.test):
            raise InputError(
                f"inversion.knowledge.auxiliary: expected at most the {len(dataset.test)} test images, got {auxiliary}"
            )
        self.attack, self.federation, self.dataset = attack, federation, dataset
        self.client, self.auxiliary = client, auxiliary
        # Streams of its own: what happens beside a round draws nothing of the round's, private noise included.
        self.streams = Streams(streams.key("malicious server"))

    def model(self, client: int, round_number: int, group: Sequence[int] = ()) -> nn.Module:
        """The model that a client receives in a round; asked while the federation's is what the round began with.

        Args:
            client: the victim, or a client of its group.
            round_number: from 1; one in which it is attacked.
            group: the clients of the victim's sum, under secure aggregation; nobody where the server sees single
                updates.

        Raises:
            InputError: the attack cannot be used on this model.
        """
        federation = self.federation
        group = group or [client]
        # One for all of the group is made for the target.
        made_for = client if self.attack.separates_clients else self.client
        return sent_model(
            self.attack,
            federation.module,
            input_shape=self.dataset.image_shape,
            num_classes=self.dataset.num_classes,
            batch_size=len(federation.data.clients[made_for]),
            normalization=federation.data.normalization,
            local=self.training(made_for, round_number),
            auxiliary=self.auxiliary,
            others=self.dataset.test,
            clients=len(group),
            place=list(group).index(made_for),
            generator=self.streams.torch("craft", round_number),
        )

    def inspected(self, client: int, model: nn.Module, round_number: int) -> tuple[bool, str]:
        """Whether a client looks at what it receives, and why it does not train on this."""
        inspections = self.federation.inspections
        if inspections.inspector is None or client in self.federation.attackers:
            return False, ""
        return True, "; ".join(inspections.inspect(client, model, round_number).reasons)

    def training(self, client: int, round_number: int) -> LocalSteps | None:
        """A client's training in a round, as the server prescribed it; None for one gradient."""
        algorithm, images = self.federation.algorithm.in_round(round_number), len(self.federation.data.clients[client])
        local = algorithm.training
        return None if local is None else prescribed_steps(local, images)

    def reply(self, model: nn.Module, client: int, round_number: int) -> VictimReply:
        """What a client sends back after it worked on a model.

        Args:
            model: that it received.
            client: its number.
            round_number: from 1.

        Raises:
            InputError: the model cannot be trained.
        """
        federation = self.federation
        trainer = CohortTrainer(
            model,
            federation.data,
            engine="loop",
            cumulative=federation.bn == "reset",
            task=federation.trainer.task,
        )
        start = trainer.start(model)
        algorithm = federation.algorithm.in_round(round_number)
        participants = Participants([client], round_number, federation.data, self.streams)
        state = algorithm.begin(federation.module, start.parameters, federation.num_clients)
        trained = algorithm.work(state, participants).perform(trainer, start, [client])
        defenses = ClientDefenses(federation.client_defenses.transforms, trainer.layout, federation.data, self.streams)
        row = defenses(trained.updates, [client], round_number, model)[0]
        buffers = trainer.statistics.named(trained.statistics[0]) if federation.sends_statistics else None
        distortion = defenses.known(row, client) if defenses.transforms else None
        if federation.privacy is not None:
            private = federation.privacy.known(trainer.layout.shapes, client, algorithm.training)
            distortion = private if distortion is None else private.then(distortion)
        return VictimReply(row, trainer.layout, buffers, distortion)
