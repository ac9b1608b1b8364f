"""A partition of one's own: who has what, as indices or as masks, checked before anybody trains on it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fedsec.data.partitions.partition import Ints
from fedsec.errors import PartitionError


def client_indices(parts: Sequence[Any], num_examples: int) -> list[Ints]:
    """Each client's examples as an array of their numbers, in the order given.

    Args:
        parts: for each client the numbers of its examples, or a mask of `num_examples` truth values: arrays, tensors
            or lists. Examples may be left out.
        num_examples: number of examples that there are.

    Raises:
        PartitionError: no client, a client without examples, an example that does not exist (negative numbers do not
            count from the end), or one that two clients have, or one has twice; the text names client and example.
    """
    if not len(parts):
        raise PartitionError("partition: expected at least one client, got none")
    clients = _plain(parts, num_examples)
    if clients is None:
        clients = [_indices(part, client, num_examples) for client, part in enumerate(parts)]
    owners = np.repeat(np.arange(len(clients)), [len(indices) for indices in clients])
    examples = np.concatenate(clients)
    order = np.argsort(examples, kind="stable")
    again = np.flatnonzero(np.diff(examples[order]) == 0)
    if len(again):
        one, other = owners[order[again[0]]], owners[order[again[0] + 1]]
        whose = f"client {one} twice" if one == other else f"both client {one} and client {other}"
        raise PartitionError(f"partition: example {examples[order[again[0]]]} belongs to {whose}")
    return clients


def _plain(parts: Sequence[Any], num_examples: int) -> list[Ints] | None:
    """Parts that are arrays of example numbers already, looked at together; None where one of them needs a look."""
    wanted = np.dtype(np.int64)
    if not all(type(part) is np.ndarray and part.dtype == wanted and part.ndim == 1 and part.size for part in parts):
        return None
    examples = np.concatenate(parts)
    return list(parts) if examples.min() >= 0 and examples.max() < num_examples else None


def _indices(part: Any, client: int, num_examples: int) -> Ints:
    try:
        values = np.asarray(part.detach().cpu() if hasattr(part, "detach") else part)
    except ValueError:
        raise PartitionError(f"partition: client {client} is ragged; expected a list of example numbers") from None
    if values.dtype == bool and values.ndim == 1:
        if len(values) != num_examples:
            raise PartitionError(
                f"partition: the mask of client {client} has {len(values)} entries, expected {num_examples}"
            )
        values = np.flatnonzero(values)
    if values.size == 0:
        raise PartitionError(f"partition: client {client} has no example; leave it out, or give it one")
    if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer):
        raise PartitionError(
            f"partition: expected the numbers of client {client}'s examples or a mask, got {values.dtype} "
            f"{list(values.shape)}"
        )
    wrong = values[(values < 0) | (values >= num_examples)]
    if len(wrong):
        raise PartitionError(
            f"partition: client {client} has example {wrong[0]}, but they are numbered 0..{num_examples - 1}"
        )
    return values.astype(np.int64, copy=False)
