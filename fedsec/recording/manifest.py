"""The list of a recording's files and of what all rounds have in common: one JSON file that notices its own changes."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fedsec.errors import InputError
from fedsec.files import read_json, write_json

if TYPE_CHECKING:
    from fedsec.recording.messages import Form

__all__ = ["FORMAT", "MANIFEST", "Holds", "RoundEntry", "Manifest", "read_manifest", "write_manifest"]

MANIFEST = "manifest.json"
FORMAT, _VERSION = "fedsec recording", 1

Holds = Literal["states", "updates", "gradients"]
"""What clients sent: their parameters after training; how far these moved from the ones that were sent to them; or
gradients, which the server steps against. Buffers are as they were sent."""


@dataclass(frozen=True)
class RoundEntry:
    """One round's file.

    Args:
        round: its number, from 1.
        file: its name in the folder.
        sha256: of the file.
        bytes: its size.
        clients: how many it holds.
    """

    round: int
    file: str
    sha256: str
    bytes: int
    clients: int


@dataclass(frozen=True)
class Manifest:
    """What is known of a recording without opening a round.

    Args:
        holds: what clients sent.
        sent: of every tensor that the server sends, dtype and shape; nothing where it was not recorded.
        received: likewise of a client's message.
        parameters: which entries of a client's message make up its row, in order; the others are buffers.
        tied: entries that are the same tensor as an earlier one.
        num_clients: of the federation, whoever takes part; None where nobody said.
        local: the clients' training, as far as it is known.
        about: whatever else was told.
        made_with: versions.
        rounds: in order.
    """

    holds: Holds
    sent: "Form"
    received: "Form"
    parameters: tuple[str, ...]
    tied: Mapping[str, str] = field(default_factory=dict)
    num_clients: int | None = None
    local: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    made_with: Mapping[str, str] = field(default_factory=dict)
    rounds: tuple[RoundEntry, ...] = ()

    def and_round(self, entry: RoundEntry) -> "Manifest":
        """The same with one round more."""
        return replace(self, rounds=(*self.rounds, entry))

    def until(self, number: int) -> "Manifest":
        """The same without the rounds after one."""
        return replace(self, rounds=tuple(entry for entry in self.rounds if entry.round <= number))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the parameters in a row, in order."""
        return {name: self.received[name][1] for name in self.parameters}


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write it, whole or not at all, with a checksum over its content."""
    content = {"format": FORMAT, "version": _VERSION, **asdict(manifest)}
    write_json(folder / MANIFEST, {**content, "sha256": _checksum(content)})


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a recording.

    Raises:
        InputError: there is none, it was changed, or it is of another program or version; names the file.
    """
    path = folder / MANIFEST
    try:
        content = read_json(path)
    except FileNotFoundError:
        what = "is no recording: it has no manifest.json" if folder.is_dir() else "there is no such folder"
        raise InputError(f"{folder}: {what}; expected a folder that fedsec.record wrote") from None
    except NotADirectoryError:
        raise InputError(f"{folder}: is a file; expected the folder that fedsec.record wrote") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}); the recording's list of rounds is lost") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path}: is no recording's manifest; expected a folder that fedsec.record wrote")
    if content.get("version") != _VERSION:
        raise InputError(f"{path}: is of format version {content.get('version')}; this fedsec reads version {_VERSION}")
    if content.pop("sha256", None) != _checksum(content):
        raise InputError(f"{path}: was changed since it was written (its checksum is wrong)")
    try:
        return _parsed(content)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: is not what fedsec.record writes ({error!r})") from error


def _parsed(content: dict[str, Any]) -> Manifest:
    fields = {name: value for name, value in content.items() if name not in ("format", "version")}
    for name in ("sent", "received"):
        fields[name] = {entry: (dtype, tuple(shape)) for entry, (dtype, shape) in fields[name].items()}
    fields["parameters"] = tuple(fields["parameters"])
    fields["rounds"] = tuple(RoundEntry(**entry) for entry in fields["rounds"])
    for entry in fields["rounds"]:
        if not re.fullmatch(r"round-\d+\.safetensors", entry.file):
            raise ValueError(f"{entry.file!r} leads out of the folder, or to what is no round")
    return Manifest(**fields)


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
