"""A recording, read: rounds as a server saw them, each checked against its hash before it is used."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fedsec.errors import InputError
from fedsec.recording.manifest import Holds, Manifest, read_manifest
from fedsec.recording.messages import ROW
from fedsec.recording.round_file import ClientId, RoundContent, read_notes, read_round
from fedsec.threat.rows import subtract_start

__all__ = ["RecordedRound", "Recording", "open_recording"]


def open_recording(folder: Path | str) -> "Recording":
    """A recording that `fedsec.record` wrote, perhaps one that is still being written.

    Args:
        folder: of the recording.

    Raises:
        InputError: it is none, or its list of rounds was changed; names the file.
    """
    path = Path(folder)
    return Recording(path, read_manifest(path))


@dataclass(frozen=True, eq=False)
class RecordedRound:
    """What a server received in one round, and what it had sent.

    Attributes:
        content: of the file.
        manifest: of the recording.
        after: the global model that followed, by name: as it was told, or as the next round sent it; empty if neither.
    """

    content: RoundContent
    manifest: Manifest
    after: Mapping[str, Tensor]

    @property
    def number(self) -> int:
        """Of the round, from 1."""
        return self.content.number

    @property
    def clients(self) -> tuple[ClientId, ...]:
        """Who sent something, in the order of the rows."""
        return self.content.clients

    @property
    def num_examples(self) -> Float64[Tensor, "clients"] | None:
        """How many each client says it has."""
        return self.content.examples

    @property
    def weights(self) -> Float64[Tensor, "clients"] | None:
        """By which the loop's mean counts them, as it told: else their numbers of examples; None for equal ones."""
        return self.content.examples if self.content.weights is None else self.content.weights

    @property
    def byzantine(self) -> tuple[ClientId, ...] | None:
        """Those known to be Byzantine; None where nobody said."""
        return self.content.byzantine

    @property
    def metrics(self) -> Mapping[str, float]:
        """Of the model after this round, as far as they were told."""
        return self.content.metrics

    @property
    def local(self) -> Mapping[str, Any]:
        """The clients' training as far as it is known, of this round or else of the recording."""
        return {**self.manifest.local, **self.content.local}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The parameters of a row, by name and in order."""
        return self.manifest.shapes()

    @cached_property
    def sent(self) -> dict[str, Tensor]:
        """What the server had sent, by name, in the order in which it was given; empty where it was not recorded."""
        return {name: self.content.sent[name] for name in self.manifest.sent}

    def message(self, client: ClientId) -> dict[str, Tensor]:
        """What one client sent, by name, to the bit.

        Raises:
            InputError: it took no part in this round.
        """
        place = self.place(client)
        return {name: self.content.received[name][place] for name in self.manifest.received}

    def place(self, client: ClientId) -> int:
        """The client's row.

        Raises:
            InputError: it took no part in this round.
        """
        if client not in self.clients:
            names = ", ".join(map(str, self.clients[:20])) + (", ..." if len(self.clients) > 20 else "")
            raise InputError(f"round {self.number}: client {client!r} took no part; its clients are {names}")
        return self.clients.index(client)

    @cached_property
    def start(self) -> Float[Tensor, "parameters"] | None:
        """The parameters that were sent, as a row; None where they were not recorded."""
        return self._row(self.sent) if self.sent else None

    @cached_property
    def updates(self) -> Float[Tensor, "clients parameters"]:
        """How far each client's parameters moved from the ones that were sent, a row each; gradients as they are."""
        received = self.content.received
        dtype = self._dtype
        rows = torch.cat(
            [received[name].reshape(len(self.clients), -1).to(dtype) for name in self.manifest.parameters], 1
        )
        if self.manifest.holds != "states":
            return rows
        subtract_start(rows, self._known_start)
        return rows

    @cached_property
    def step(self) -> Float[Tensor, "parameters"] | None:
        """How far the global model moved, in units of the rows; None where the next model or this one is not known."""
        if not self.after or self.start is None:
            return None
        row = self._row(self.after)
        subtract_start(row, self.start)
        return row / self._rate

    @property
    def _rate(self) -> float:
        """How far a model goes along a row: gradients are stepped against."""
        return -float(self.local["lr"]) if self.manifest.holds == "gradients" else 1.0

    @property
    def _known_start(self) -> Tensor:
        if self.start is None:
            raise InputError(
                f"round {self.number}: what the server sent is not recorded; expected `sent` with each round"
            )
        return self.start

    @cached_property
    def _dtype(self) -> torch.dtype:
        """What rows are reckoned in: float32, or float64 where a parameter is."""
        dtypes = {dtype for name, (dtype, _) in self.manifest.received.items() if name in self.manifest.parameters}
        return torch.float64 if "float64" in dtypes else torch.float32

    def _row(self, state: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([state[name].reshape(-1).to(self._dtype) for name in self.manifest.parameters])

    def moved(self, step: Float[Tensor, "parameters"]) -> dict[str, Tensor]:
        """What was sent with its parameters moved by a row; buffers as they were, tied entries alike.

        Raises:
            InputError: what was sent is not known.
        """
        state = {name: tensor.clone() for name, tensor in self.sent.items()}
        sizes = [torch.Size(shape).numel() for shape in self.shapes.values()]
        row = self._known_start + self._rate * step.to(self._known_start)
        for name, part in zip(self.shapes, torch.split(row, sizes), strict=True):
            state[name] = part.view(self.shapes[name]).to(state[name].dtype)
        for name, first in self.manifest.tied.items():
            state[name] = state[first]
        return state


class Recording:
    """A recording; iterating gives its rounds, one in memory at a time.

    Args:
        folder: of the recording.
        manifest: of it.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        self._verified: set[int] = set()  # a file is hashed once

    @property
    def rounds(self) -> tuple[int, ...]:
        """Numbers of the recorded rounds, ascending."""
        return tuple(listed.round for listed in self.manifest.rounds)

    @property
    def holds(self) -> Holds:
        """What clients sent."""
        return self.manifest.holds

    @property
    def num_parameters(self) -> int:
        """Columns of a row."""
        return sum(torch.Size(shape).numel() for shape in self.manifest.shapes().values())

    @property
    def named(self) -> bool:
        """Whether parameters have names and shapes; flat rows without shapes have none."""
        return self.manifest.parameters != (ROW,)

    @property
    def about(self) -> Mapping[str, Any]:
        """Whatever was told."""
        return self.manifest.about

    def __len__(self) -> int:
        """How many rounds there are."""
        return len(self.rounds)

    def __iter__(self) -> Iterator[RecordedRound]:
        """The rounds in order, read one by one."""
        return (self[number] for number in self.rounds)

    def __getitem__(self, number: int) -> RecordedRound:
        """A round by its number.

        Raises:
            InputError: it is not recorded, or its file is missing, cut or changed; names the file.
        """
        if number not in self.rounds:
            held = f"{self.rounds[0]} to {self.rounds[-1]}" if self.rounds else "none"
            raise InputError(f"{self.folder}: has no round {number}; recorded rounds: {held}")
        content = self._content(number)
        after = content.after
        if not after and number + 1 in self.rounds and self.manifest.sent:
            after = self._content(number + 1, sent_alone=True).sent
        ordered = {name: after[name] for name in self.manifest.sent} if after else {}
        return RecordedRound(content, self.manifest, ordered)

    def clients(self) -> tuple[ClientId, ...]:
        """Everybody who ever sent something, in the order of appearance; looks at no rows."""
        notes = (read_notes(self.folder, listed) for listed in self.manifest.rounds)
        return tuple(dict.fromkeys(client for note in notes for client in note.clients))

    def known_byzantine(self) -> list[int | None]:
        """How many of each round's clients are known to be Byzantine; None where nobody said."""
        notes = [read_notes(self.folder, listed) for listed in self.manifest.rounds]
        return [None if note.byzantine is None else len(note.byzantine) for note in notes]

    def check(self) -> None:
        """Look at every file.

        Raises:
            InputError: one is missing, cut or changed; names the first.
        """
        self._verified.clear()
        for number in self.rounds:
            self._content(number, sent_alone=True)

    def _content(self, number: int, *, sent_alone: bool = False) -> RoundContent:
        """A round's file; of one that is only looked at for what was sent, nothing else is loaded."""
        listed = self.manifest.rounds[self.rounds.index(number)]
        content = read_round(self.folder, listed, verify=number not in self._verified, sent_alone=sent_alone)
        self._verified.add(number)
        received = self.manifest.received.keys() if not sent_alone else set()
        if content.received.keys() != received or content.sent.keys() != self.manifest.sent.keys():
            raise InputError(f"{self.folder / listed.file}: holds other entries than the manifest names")
        return content
