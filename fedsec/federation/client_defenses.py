"""What clients do to their updates before they send them, and what they hold back for the next time."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedsec.defense.updates import ClientSide, UpdateTransform, compose, distortions, with_feedback
from fedsec.engine.parameters import ParameterLayout
from fedsec.engine.resident_data import ResidentData
from fedsec.randomness import seeded
from fedsec.seeds import Key, Streams
from fedsec.threat import Distortion


class ClientDefenses:
    """The clients' defenses of their updates, applied in order, each client for itself.

    Args:
        transforms: in the order in which they apply.
        layout: of the updates.
        data: the clients'.
        streams: the experiment's; each client draws from its own in each round.

    Attributes:
        carried: what each client holds back, for each transform with error feedback: [transforms, clients, parameters].
        waited: likewise, how many messages in a row held something of a coordinate back, as far as what was sent tells;
            255 for more. The server counts along, for the clients that it watches.
        watched: those clients; nobody, unless somebody asks to.
    """

    def __init__(
        self, transforms: Sequence[UpdateTransform], layout: ParameterLayout, data: ResidentData, streams: Streams
    ) -> None:
        self.transforms, self.layout, self.data, self.streams = tuple(transforms), layout, data, streams
        memories = sum(transform.error_feedback for transform in self.transforms)
        self.carried = torch.zeros(memories, len(data.clients), layout.size, device=data.device)
        self.waited = torch.zeros_like(self.carried, dtype=torch.uint8)
        self.watched: set[int] = set()
        self._before: dict[int, Tensor] = {}  # what `waited` was before each client's last message

    def __call__(
        self, rows: Float[Tensor, "clients parameters"], clients: Sequence[int], round_number: int, module: nn.Module
    ) -> Float[Tensor, "clients parameters"]:
        """What the clients send instead of a round's updates; the very same rows if they defend nothing.

        Args:
            rows: one update a client; left unchanged.
            clients: of the round.
            round_number: from 1.
            module: the model that the clients received.
        """
        if not self.transforms:
            return rows
        rows = rows.clone()
        if len(self.carried):
            self._before |= {client: self.waited[:, client].clone() for client in self.watched.intersection(clients)}
        was_training = module.training
        module.train()  # as the clients had it
        for row, client in zip(rows, clients, strict=True):
            self._send(row, client, round_number, module)
        module.train(was_training)
        return rows

    def known(self, row: Float[Tensor, "parameters"], client: int) -> Distortion:
        """What an attacker who knows the defenses can tell from a client's last message.

        Of a client that it watched from the beginning it knows the earlier messages, too.
        """
        sent = self.layout.views(row)
        by_transform = distortions(self.transforms, sent)
        distortion = reduce(Distortion.joined, by_transform, Distortion())
        waited = self._before.get(client)
        if waited is not None:
            memories = [place for place, transform in enumerate(self.transforms) if transform.error_feedback]
            for place, counts in zip(memories, waited, strict=True):
                remembered = self.transforms[place].remembered(sent, by_transform[place], self.layout.views(counts))
                distortion = distortion.joined(remembered)
        return distortion

    def known_of_sum(self, weights: Float[Tensor, "clients"]) -> Distortion | None:
        """What an attacker who knows the defenses can tell of a weighted mean; None where that is not worked out.

        Args:
            weights: of the clients in it.
        """
        share = float(weights.double().square().sum().sqrt() / weights.double().sum())
        return compose(self.transforms).known_of_sum([*self.layout.shapes], share)

    def state(self) -> dict[str, Tensor]:
        """What the next rounds depend on; nothing without error feedback."""
        # A copy: rounds write into it, client by client.
        return {"carried": self.carried.clone(), "waited": self.waited.clone()} if len(self.carried) else {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave."""
        if len(self.carried):
            self.carried, self.waited = state["carried"].clone(), state["waited"].clone()

    def _send(self, row: Tensor, client: int, round_number: int, module: nn.Module) -> None:
        generator = self._generator(client, round_number)
        side = self._side(client, module) if any(transform.needs_client for transform in self.transforms) else None
        # What looks at the client's model runs it as in training, and that may draw.
        draws = self.streams.key("defense", "client", client, "round", round_number, "model")
        sent: Mapping[str, Tensor] = self.layout.views(row)
        memories = iter(self.carried[:, client])
        with nullcontext() if side is None else seeded(draws, row.device):
            for transform in self.transforms:
                if not transform.error_feedback:
                    sent = transform(sent, generator=generator, client=side)
                    continue
                memory = next(memories)
                sent, held_back = with_feedback(
                    transform, sent, self.layout.views(memory), generator=generator, client=side
                )
                memory.copy_(self._flat(held_back))
        row.copy_(self._flat(sent))
        if client in self.watched and len(self.carried) and bool(row.isfinite().all()):
            self._count(row, client)

    def _generator(self, client: int, round_number: int) -> torch.Generator:
        name: tuple[Key, ...] = ("defense", "client", client, "round", round_number)
        shares = [transform.noise_share for transform in self.transforms if transform.noise_share is not None]
        if not shares:
            return self.streams.torch(*name)
        # Noise of one seed but another size must not be the same numbers: a difference would be without noise.
        return self.streams.noise(*name, *(f"noise {share.std!r} bound {share.bound!r}" for share in shares))

    def _count(self, row: Tensor, client: int) -> None:
        """Note what a client's message, the last that it sent, held back."""
        sent = self.layout.views(row)
        by_transform = [
            own
            for own, transform in zip(distortions(self.transforms, sent), self.transforms, strict=True)
            if transform.error_feedback
        ]
        for own, waited in zip(by_transform, self.waited[:, client], strict=True):
            nothing = torch.zeros(1, dtype=torch.bool, device=row.device)
            # A zero may have been rounded off, whatever is said to have been kept.
            flushed = self._flat({name: own.kept.get(name, nothing) & (part != 0) for name, part in sent.items()})
            waited.copy_(torch.where(flushed, 0, waited + (waited < 255)))

    def _side(self, client: int, module: nn.Module) -> ClientSide:
        examples = torch.from_numpy(self.data.clients[client]).to(self.data.device)
        return ClientSide(module, *self.data.batch(examples))

    def _flat(self, named: Mapping[str, Tensor]) -> Float[Tensor, "parameters"]:
        return torch.cat([named[name].reshape(-1) for name in self.layout.shapes])
