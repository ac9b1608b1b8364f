"""Lists of arrays through a rule: the numbers of the state dicts that they come from."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fedsec.defenses import Median, MultiKrum, aggregate_arrays, aggregate_state_dicts
from fedsec.errors import InputError

MODEL = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
REFERENCE = {name: values.numpy() for name, values in MODEL.state_dict().items()}
NAMES = list(REFERENCE)
RANDOM = np.random.default_rng(0)


def sent() -> list[np.ndarray]:
    return [(values + RANDOM.random(values.shape)).astype(values.dtype) for values in REFERENCE.values()]


CLIENTS = [sent() for _ in range(5)]


def test_lists_are_state_dicts_without_names() -> None:
    states = [{name: torch.as_tensor(v) for name, v in zip(NAMES, arrays, strict=True)} for arrays in CLIENTS]
    expected, verdict = aggregate_state_dicts(states, MultiKrum(1), reference=MODEL.state_dict())
    arrays, same = aggregate_arrays(CLIENTS, MultiKrum(1), reference=list(REFERENCE.values()), names=NAMES)
    assert same.influence.tolist() == verdict.influence.tolist()
    for values, (name, tensor) in zip(arrays, expected.items(), strict=True):
        assert isinstance(values, np.ndarray), name
        assert values.dtype == REFERENCE[name].dtype
        assert np.array_equal(values, tensor.numpy())


def test_without_names_statistics_are_named_by_place_or_count_as_parameters() -> None:
    reference = list(REFERENCE.values())
    mean = NAMES.index("1.running_mean")
    arrays, verdict = aggregate_arrays(CLIENTS, Median(), reference=reference)
    assert len(verdict.vector) == 3 * 2 + 5 * 2
    _, without = aggregate_arrays(
        CLIENTS, Median(), reference=reference, buffers=[mean, mean + 1], statistics="reference"
    )
    assert len(without.vector) == 3 * 2 + 3 * 2
    assert np.array_equal(arrays[mean], np.median([client[mean] for client in CLIENTS], axis=0).astype(np.float32))
    assert arrays[-1] == reference[-1]


def test_dictionaries_and_numbers_of_clients() -> None:
    states = {20 + place: dict(zip(NAMES, arrays, strict=True)) for place, arrays in enumerate(CLIENTS)}
    result = aggregate_arrays(states, "median", reference=REFERENCE)
    assert list(result.arrays) == NAMES
    assert result.of_states.clients == (20, 21, 22, 23, 24)
    lists = aggregate_arrays(dict(zip(states, CLIENTS, strict=True)), "median", reference=list(REFERENCE.values()))
    assert lists.of_states.clients == (20, 21, 22, 23, 24)
    assert not result.remarks


@pytest.mark.parametrize(
    ("clients", "options", "message"),
    [
        ([CLIENTS[0][:-1]], {}, "client 0: sent 6 arrays; expected 7"),
        ([CLIENTS[0], CLIENTS[0][0]], {"clients": [8, 9]}, "client 9: expected a list of arrays, not ndarray"),
        (CLIENTS, {"names": NAMES[:-1]}, "names: expected 7 different ones, one an array, got 6"),
        (
            CLIENTS,
            {"reference": REFERENCE["0.bias"]},
            "reference: expected a list of arrays or a dictionary, not ndarray",
        ),
        ([[*CLIENTS[0][:-2], np.array(["a", "b"]), CLIENTS[0][-1]]], {}, "client 0: '5' is <U1; expected floating"),
        (CLIENTS, {"buffers": [17]}, "buffers: the reference has no 17"),
        (CLIENTS, {"clients": [8]}, "clients: expected 5 different numbers"),
        (7, {}, "client_arrays: expected a list, one of a client each, not int"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_malformed_lists_are_told(clients: Any, options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        aggregate_arrays(clients, Median(), **{"reference": list(REFERENCE.values()), **options})
