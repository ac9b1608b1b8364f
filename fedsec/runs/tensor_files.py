"""Tensors in files that notice when they were changed: safetensors with a checksum over names, notes and content."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fedsec.files import write_atomic

_CHECKSUM = "sha256"


class DamagedFileError(ValueError):
    """A file is not what was written."""


def save_tensors(path: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, str] | None = None) -> None:
    """Write tensors, atomically, with a checksum.

    Args:
        path: the file.
        tensors: by name, on any device.
        notes: text that goes with them, by name.
    """
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    written = dict(notes or {})
    write_atomic(path, save(on_cpu, {**written, _CHECKSUM: _checksum(on_cpu, written)}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and notes of a file.

    Raises:
        DamagedFileError: it is no such file, or a single bit of it changed since it was written.
        FileNotFoundError: there is none.
    """
    notes = read_notes(path)
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no mapping)
    except (SafetensorError, OSError, ValueError) as error:
        raise DamagedFileError(f"{path.name} is damaged ({error})") from error
    if notes.pop(_CHECKSUM, None) != _checksum(tensors, notes):
        raise DamagedFileError(f"{path.name} is damaged (its checksum is wrong)")
    return tensors, notes


def read_notes(path: Path) -> dict[str, str]:
    """The notes of a file, unchecked, without reading its tensors.

    Raises:
        DamagedFileError: it is no such file.
        FileNotFoundError: there is none.
    """
    if not path.exists():
        raise FileNotFoundError(path)
    if not path.is_file():
        raise DamagedFileError(f"{path.name} is no file")
    try:
        with safe_open(path, "np") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise DamagedFileError(f"{path.name} is damaged ({error})") from error


def _checksum(tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> str:
    content = hashlib.sha256(repr(sorted(notes.items())).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        content.update(f"{name!r} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        content.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return content.hexdigest()
