"""The file of one round: what was sent, what every client sent back, and what was said of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float64
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fedsec.errors import InputError
from fedsec.files import digest, replacing
from fedsec.recording.manifest import RoundEntry

__all__ = ["ClientId", "RoundContent", "file_name", "read_notes", "read_round", "stacked", "write_round"]

ClientId = int | str

_NOTES = "fedsec recording"
_SENT, _RECEIVED, _AFTER = "sent/", "received/", "after/"
_EXAMPLES, _WEIGHTS = "examples", "weights"


@dataclass(frozen=True, eq=False)
class RoundContent:
    """All that one round's file holds.

    Args:
        number: from 1.
        clients: who sent something, in the order of the rows.
        received: what they sent, by name of the entry [clients, ...].
        sent: what the server had sent them, by name; nothing where it was not recorded.
        after: the global model that the server made of it, where that was told.
        examples: how many each client says it has; None where they did not.
        weights: by which the loop's mean counts the clients, where these are not their examples.
        byzantine: those of the clients that are known to be, in simulations; None where nobody said.
        metrics: of the model after this round, where they were told.
        local: the clients' training in this round, where it differs from the recording's.
    """

    number: int
    clients: tuple[ClientId, ...]
    received: Mapping[str, Tensor]
    sent: Mapping[str, Tensor] = field(default_factory=dict)
    after: Mapping[str, Tensor] = field(default_factory=dict)
    examples: Float64[Tensor, "clients"] | None = None
    weights: Float64[Tensor, "clients"] | None = None
    byzantine: tuple[ClientId, ...] | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    local: Mapping[str, Any] = field(default_factory=dict)


def file_name(number: int) -> str:
    """Of a round."""
    return f"round-{number:06d}.safetensors"


def write_round(folder: Path, content: RoundContent) -> RoundEntry:
    """Write a round's file, whole or not at all; returns what the manifest is to say of it."""
    tensors = {_SENT + name: row for name, row in content.sent.items()}
    tensors |= {_RECEIVED + name: rows for name, rows in content.received.items()}
    tensors |= {_AFTER + name: row for name, row in content.after.items()}
    further = {_EXAMPLES: content.examples, _WEIGHTS: content.weights}
    tensors |= {name: row for name, row in further.items() if row is not None}
    notes = {
        "round": content.number,
        "clients": list(content.clients),
        "byzantine": None if content.byzantine is None else list(content.byzantine),
        "metrics": dict(content.metrics),
        "local": dict(content.local),
    }
    path = folder / file_name(content.number)
    with replacing(path) as temporary:
        save_file(tensors, temporary, {_NOTES: json.dumps(notes)})
    sha256 = digest(path)
    if sha256 is None:
        raise OSError(f"{path} cannot be read back")
    return RoundEntry(content.number, path.name, sha256, path.stat().st_size, len(content.clients))


def read_round(folder: Path, entry: RoundEntry, *, verify: bool = True, sent_alone: bool = False) -> RoundContent:
    """A round, after a look at whether its file is what was written.

    Args:
        folder: of the recording.
        entry: what the manifest says of it.
        verify: whether to hash the file.
        sent_alone: whether to load what the server had sent, and nothing else.

    Raises:
        InputError: it is missing, or was cut or changed; names the file.
    """
    path = folder / entry.file
    if not path.is_file():
        raise InputError(f"{path}: is missing; the manifest lists it as round {entry.round}")
    size = path.stat().st_size
    if size != entry.bytes:
        raise InputError(f"{path}: has {size:,} bytes of the {entry.bytes:,} that were written; it is cut or changed")
    if verify and digest(path) != entry.sha256:
        raise InputError(f"{path}: was changed since it was written (its SHA-256 is not the manifest's)")
    try:
        with safe_open(path, "pt") as file:
            notes = _notes(file, entry)
            names = [name for name in file.keys() if name.startswith(_SENT) or not sent_alone]  # noqa: SIM118
            tensors = {name: file.get_tensor(name) for name in names}
    except _FOREIGN as error:
        raise InputError(f"{path}: is not what fedsec.record writes ({error})") from error
    return replace(
        notes,
        received=_part(tensors, _RECEIVED),
        sent=_part(tensors, _SENT),
        after=_part(tensors, _AFTER),
        examples=tensors.get(_EXAMPLES),
        weights=tensors.get(_WEIGHTS),
    )


def read_notes(folder: Path, entry: RoundEntry) -> RoundContent:
    """What was said of a round, without its tensors, unverified.

    Raises:
        InputError: the file is missing or no such file; names it.
    """
    path = folder / entry.file
    try:
        with safe_open(path, "pt") as file:
            return _notes(file, entry)
    except _FOREIGN as error:
        raise InputError(f"{path}: is missing, or not what fedsec.record writes ({error})") from error


_FOREIGN = (SafetensorError, OSError, KeyError, TypeError, ValueError)
"""What reading a file raises that is something else."""


def _notes(file: Any, entry: RoundEntry) -> RoundContent:
    notes = json.loads((file.metadata() or {})[_NOTES])
    if notes["round"] != entry.round or len(notes["clients"]) != entry.clients:
        raise ValueError(f"it holds round {notes['round']} of {len(notes['clients'])} clients")
    byzantine = notes["byzantine"]
    return RoundContent(
        entry.round,
        tuple(notes["clients"]),
        {},
        byzantine=None if byzantine is None else tuple(byzantine),
        metrics=notes["metrics"],
        local=notes["local"],
    )


def stacked(rows: list[Tensor]) -> Tensor:
    """What clients sent of one entry, one below the other, where files are written from."""
    return torch.stack([row.cpu() for row in rows]).contiguous()


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): row for name, row in tensors.items() if name.startswith(prefix)}
