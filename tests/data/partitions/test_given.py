"""A partition of one's own: every meaningful way to write it, and a clear word about the others."""

from typing import Any

import numpy as np
import pytest
import torch

from fedsec.data.partitions import client_indices
from fedsec.errors import PartitionError


@pytest.mark.parametrize(
    "parts",
    [
        [np.array([4, 1]), np.array([0, 2])],
        ([4, 1], [0, 2]),
        [torch.tensor([4, 1]), torch.tensor([0, 2], dtype=torch.int32)],
        [np.array([4, 1], np.uint8), range(0, 3, 2)],
    ],
)
def test_indices_of_any_kind(parts: Any) -> None:
    clients = client_indices(parts, 5)
    assert [indices.tolist() for indices in clients] == [[4, 1], [0, 2]]
    assert all(indices.dtype == np.int64 for indices in clients)


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_masks(kind: Any) -> None:
    masks = [kind([True, False, False, True]), kind([False, False, True, False])]
    assert [indices.tolist() for indices in client_indices(masks, 4)] == [[0, 3], [2]]


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ([], "expected at least one client"),
        ([[0], []], "client 1 has no example"),
        ([[0], np.zeros(5, bool)], "client 1 has no example"),
        ([[0], [True, False]], "mask of client 1 has 2 entries, expected 5"),
        ([[0, 1], [2, 1]], "example 1 belongs to both client 0 and client 1"),
        ([[0, 3, 3], [2]], "example 3 belongs to client 0 twice"),
        ([[0], [-1]], r"client 1 has example -1, but they are numbered 0\.\.4"),
        ([[0], [5]], "client 1 has example 5"),
        ([[0], [1.0]], r"expected the numbers of client 1's examples or a mask, got float64 \[1\]"),
        ([[0], [[1, 2]]], "got int64 .*2"),
        ([[0], [[1], [2, 3]]], "client 1 is ragged"),
        ([0, 1], "expected the numbers of client 0's examples"),
        ([["a"]], "expected the numbers of client 0's examples"),
    ],
)
def test_meaningless_partitions_are_refused(parts: Any, says: str) -> None:
    with pytest.raises(PartitionError, match=says):
        client_indices(parts, 5)
