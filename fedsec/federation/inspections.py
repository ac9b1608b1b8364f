"""Clients that look at the model they receive, round by round, and take no part where they refuse it."""

import copy
import statistics
from collections import deque
from collections.abc import Collection, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedsec.defense import Inspection, ModelInspector
from fedsec.engine.parameters import ParameterLayout
from fedsec.engine.resident_data import ResidentData
from fedsec.seeds import Streams
from fedsec.tasks import Task

_MEMORY = 5
"""Moves of the model that a client remembers."""


class Inspections:
    """The clients' inspections of what they receive; each remembers the last model that it accepted.

    Args:
        inspector: what each client asks; None for clients that train on whatever they get.
        module: the architecture that was agreed upon.
        layout: of its parameters.
        data: the clients'.
        task: gives the loss of an example.
        streams: the experiment's; a client draws the examples that it looks at.
    """

    def __init__(
        self,
        inspector: ModelInspector | None,
        module: nn.Module,
        layout: ParameterLayout,
        data: ResidentData,
        task: Task,
        streams: Streams,
    ) -> None:
        self.inspector, self.layout, self.data, self.task, self.streams = inspector, layout, data, task, streams
        self.expected = None if inspector is None else copy.deepcopy(module).to("meta")
        self._models: dict[int, Tensor] = {}  # by the round in which they came: as good as always one for all clients
        self._last: dict[int, int] = {}  # of each client, that round
        self._moves: dict[int, deque[float]] = {}  # of each client, for each round that passed
        self._accepted: list[tuple[int, Inspection, Tensor, int]] = []  # in this round, remembered with the next

    def refused(
        self,
        clients: Sequence[int],
        attackers: Collection[int],
        model: nn.Module,
        parameters: Float[Tensor, "parameters"],
        round_number: int,
    ) -> dict[int, str] | None:
        """Which of a round's clients do not train, and why; None if none of them asks. Byzantine ones do not.

        Args:
            clients: that would train.
            attackers: Byzantine clients.
            model: as they receive it.
            parameters: of the model, a vector that nobody writes to later.
            round_number: from 1.
        """
        if self.inspector is None:
            return None
        self._remember()
        refusals = {}
        for client in clients:
            if client in attackers:
                continue
            inspection = self.inspect(client, model, round_number)
            if inspection.refused:
                refusals[client] = "; ".join(inspection.reasons)
            else:
                self._accepted.append((client, inspection, parameters, round_number))
        return refusals

    def inspect(self, client: int, model: nn.Module, round_number: int) -> Inspection:
        """What a client says of a model, whoever sent it, by what it knew when the round began; it remembers nothing.

        Args:
            client: who looks.
            model: what it received.
            round_number: from 1.
        """
        assert self.inspector is not None
        images, targets = None, None
        if self.inspector.examples:
            examples = self.data.clients[client]
            drawn = self.streams.numpy("inspection", "client", client, "round", round_number)
            chosen = drawn.permutation(len(examples))[: self.inspector.examples]
            images, targets = self.data.batch(torch.from_numpy(examples[chosen]).to(self.data.device))
        last = self._last.get(client)
        moves = self._moves.get(client, ())
        return self.inspector.inspect(
            model,
            images,
            targets,
            expected=self.expected,
            previous=None if last is None else self.layout.views(self._models[last]),
            usual_moves=[(round_number - last) * statistics.median(moves)] if last is not None and moves else (),
            loss=self.task.losses,
        )

    def _remember(self) -> None:
        """Let clients remember what they accepted in the last round."""
        for client, inspection, parameters, round_number in self._accepted:
            last, move = self._last.get(client), inspection.statistics.get("move")
            if last is not None and move is not None:
                self._moves.setdefault(client, deque(maxlen=_MEMORY)).append(move / (round_number - last))
            self._last[client] = round_number
            self._models[round_number] = parameters
        self._accepted = []
        self._models = {number: row for number, row in self._models.items() if number in self._last.values()}

    def state(self) -> dict[str, Tensor]:
        """What the next rounds depend on; nothing where nobody inspects."""
        self._remember()
        if not self._last:
            return {}
        moves = torch.full((len(self.data.clients), _MEMORY), torch.nan, dtype=torch.float64)
        last = torch.zeros(len(moves), dtype=torch.int64)
        for client, number in self._last.items():
            last[client] = number
            known = [*self._moves.get(client, ())]
            moves[client, : len(known)] = torch.tensor(known, dtype=torch.float64)
        models = torch.stack([*self._models.values()])
        return {"models": models, "rounds": torch.tensor([*self._models]), "last": last, "moves": moves}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave."""
        self._models, self._last, self._moves, self._accepted = {}, {}, {}, []
        if not state:
            return
        rows = state["models"].to(self.data.device)
        self._models = dict(zip(state["rounds"].tolist(), rows, strict=True))
        self._last = {client: number for client, number in enumerate(state["last"].tolist()) if number}
        for client in self._last:
            known = [move for move in state["moves"][client].tolist() if move == move]
            self._moves[client] = deque(known, maxlen=_MEMORY)
