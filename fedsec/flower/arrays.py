"""Flower's array records as state dicts, and back."""

from collections.abc import Mapping

import torch
from flwr.app import Array, ArrayRecord
from torch import Tensor

from fedsec.errors import InputError

__all__ = ["record_of", "state_of"]


def state_of(record: ArrayRecord, sender: str) -> dict[str, Tensor]:
    """A record's arrays as tensors by name, with memory of their own.

    Args:
        record: as it came, from anybody.
        sender: whose it is, for messages.

    Raises:
        InputError: an array that cannot be read; nothing is ever unpickled.
    """
    state = {}
    for name, array in record.items():
        try:
            state[name] = torch.from_numpy(array.numpy())
        except Exception as error:  # bytes of a stranger: NumPy's reader raises whatever they make it raise
            raise InputError(f"{sender}: the array {name!r} cannot be read: {error}") from error
    return state


def record_of(state: Mapping[str, Tensor]) -> ArrayRecord:
    """A state dict as the record that Flower sends.

    Raises:
        InputError: a dtype that Flower, whose arrays are NumPy's, cannot send.
    """
    record = ArrayRecord()
    for name, tensor in state.items():
        try:
            record[name] = Array(tensor.detach().cpu().contiguous().numpy())
        except TypeError as error:
            raise InputError(f"{name!r} is of {tensor.dtype}, which Flower cannot send: {error}") from error
    return record
