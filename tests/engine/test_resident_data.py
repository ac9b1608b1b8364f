"""Data on the device: what a federation made by hand may say about who has what, and inputs that are no images."""

import numpy as np
import pytest
import torch

from fedsec.data import Normalization, Split
from fedsec.engine import ResidentData
from fedsec.errors import InputError, PartitionError

CPU = torch.device("cpu")


def images() -> Split:
    return Split(torch.arange(6, dtype=torch.uint8).view(6, 1, 1, 1), torch.arange(6) % 2)


def test_clients_are_given_as_masks_lists_or_tensors() -> None:
    mask = np.arange(6) < 2
    data = ResidentData.build(images(), [mask, [2, 3], torch.tensor([5])], Normalization(), CPU)
    assert [indices.tolist() for indices in data.clients] == [[0, 1], [2, 3], [5]]
    assert data.client_examples(2)[0].flatten().tolist() == [5]
    for clients, says in (
        ([[0, 1], []], "client 1 has no example"),
        ([[0, 1], [1, 2]], "example 1 belongs to both client 0 and client 1"),
        ([[0, -1]], "client 0 has example -1"),
    ):
        with pytest.raises(PartitionError, match=says):
            ResidentData.build(images(), clients, Normalization(), CPU)


def test_vectors_and_targets_that_are_numbers() -> None:
    split = Split(torch.arange(12, dtype=torch.float32).view(4, 3), torch.tensor([0.5, 1.5, 2.5, 3.5]))
    data = ResidentData.build(split, [[0, 2], [1, 3]], Normalization((1.0,), (2.0,)), CPU)
    inputs, targets = data.batch(torch.tensor([[2, 1]]))
    assert inputs.tolist() == [[[2.5, 3.0, 3.5], [1.0, 1.5, 2.0]]]
    assert targets.tolist() == [[2.5, 1.5]]
    with pytest.raises(InputError, match="augmentation: expected images, got vectors of 3 numbers"):
        _ = data.image_size
