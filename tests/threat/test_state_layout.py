"""A state dict as a row: what goes where, and that it comes back as it was."""

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedsec.errors import DivergenceError, InputError
from fedsec.threat import StateLayout


class Tied(nn.Module):
    """A toy language model: its embedding is its head, and a mask is a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.norm = nn.Embedding(7, 4), nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("mask", torch.full((3, 3), -torch.inf).triu(1))
        self.register_buffer("center", torch.zeros(4))


def moved(state: dict[str, Tensor], seed: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: values + torch.randn(values.shape, generator=generator).to(values.dtype) / 8
        if values.is_floating_point()
        else values + 1
        for name, values in state.items()
    }


def test_entries_go_where_they_belong() -> None:
    model = Tied()
    layout = StateLayout.of(model.state_dict())
    assert list(layout.shapes) == ["mask", "center", "embedding.weight", "norm.weight", "norm.bias"]
    assert layout.ties == {"head.weight": "embedding.weight"}
    assert list(layout.statistics) == ["norm.running_mean", "norm.running_var"]
    assert layout.counters == ("norm.num_batches_tracked",)
    assert next(iter(StateLayout.of(model.state_dict(), buffers=["center"]).statistics)) == "center"
    told = StateLayout.of(model.state_dict(), model=model)
    assert list(told.shapes) == ["embedding.weight", "norm.weight", "norm.bias"]
    assert list(told.statistics) == ["mask", "center", "norm.running_mean", "norm.running_var"]
    model.embedding.weight.requires_grad_(False)
    frozen = StateLayout.of(model.state_dict(), model=model)
    assert list(frozen.shapes) == ["norm.weight", "norm.bias"]
    assert {"embedding.weight", "head.weight"} <= {*frozen.constants}


def test_a_copy_of_tied_tensors_is_tied_where_the_model_says_so() -> None:
    model = Tied()
    apart = {name: values.clone() for name, values in model.state_dict().items()}
    assert not StateLayout.of(apart).ties
    layout = StateLayout.of(apart, model=model)
    assert layout.ties == {"head.weight": "embedding.weight"}
    new = layout.state_dict(layout.row(apart))
    assert new["head.weight"] is new["embedding.weight"]


def test_a_row_comes_back_as_the_state_dict_it_was() -> None:
    state = Tied().state_dict()
    state["half"], state["double"] = torch.randn(3).half(), torch.randn(2).double()
    state["brain"], state["flags"] = torch.randn(2, 2).bfloat16(), torch.tensor([True, False])
    state["_extra_state"] = {"of": "a module"}  # type: ignore[assignment]
    state["lasting"] = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)
    layout = StateLayout.of(state)
    new = layout.state_dict(layout.row(state))
    assert isinstance(new, OrderedDict)
    assert list(new) == list(state)
    assert new._metadata is state._metadata  # type: ignore[attr-defined]
    for name, values in state.items():
        if name == "_extra_state":
            assert new[name] is values
            continue
        assert new[name].dtype == values.dtype
        assert torch.equal(new[name], values)
        assert new[name].data_ptr() != values.data_ptr()
    assert layout.dtype == torch.float64
    assert StateLayout.of({"half": state["half"]}).dtype == torch.float32


def test_rows_are_the_entries_one_after_another() -> None:
    reference = {"a": torch.randn(2, 3), "b": torch.randn(4).half(), "c": torch.randn(2, 2).t()}
    layout = StateLayout.of(reference)
    clients = [moved(reference, seed) for seed in range(3)]
    slow = [torch.cat([client[name].float().flatten() for name in "abc"]) for client in clients]
    start = torch.cat([reference[name].float().flatten() for name in "abc"])
    assert torch.equal(layout.row(clients[0]), slow[0])
    assert torch.equal(layout.updates(clients), torch.stack(slow) - start)
    other = moved(reference, 9)
    assert torch.equal(layout.updates(clients, other), torch.stack(slow) - layout.row(other))
    assert {name: tuple(view.shape) for name, view in layout.views(start).items()} == {
        "a": (2, 3),
        "b": (4,),
        "c": (2, 2),
    }


def test_a_mask_of_infinities_stays_and_other_infinities_are_nobodys() -> None:
    reference = {"mask": torch.tensor([0.0, -torch.inf]), "w": torch.ones(2)}
    layout = StateLayout.of(reference)
    same, other = {**reference, "w": torch.zeros(2)}, {**reference, "mask": torch.zeros(2)}
    updates = layout.updates([same, other])
    assert updates[0].tolist() == [0, 0, -1, -1]
    assert updates[1].isnan().tolist() == [False, True, False, False]
    with pytest.raises(DivergenceError, match="reference: 'w' hold NaN"):
        layout.updates([same], {**reference, "w": torch.full((2,), torch.nan)})


def test_arrays_stay_arrays() -> None:
    shared = np.ones((2, 2), np.float32)
    reference = {"a": np.arange(3.0, dtype=np.float16), "n": np.array(5), "b": np.float64(2), "t": shared}
    reference["tied"], reference["big"] = shared, np.ones(2, ">f4")
    layout = StateLayout.of(reference)
    new = layout.state_dict(layout.row(reference))
    assert {name: values.dtype.str for name, values in new.items()} == {
        name: values.dtype.str for name, values in reference.items()
    }
    assert all(isinstance(values, np.ndarray) for values in new.values())
    assert all(np.array_equal(new[name], values) for name, values in reference.items())
    assert new["tied"] is new["t"] is not shared


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (
            nn.Linear(2, 1),
            "client 0: expected a state dict, tensors or arrays by name, not Linear; call its state_dict",
        ),
        ({"weight": torch.ones(1, 2)}, "client 0: lacks 'bias'"),
        (
            {"weight": torch.ones(1, 2), "bias": torch.ones(1), "x": 0},
            "client 0: has 'x', which the reference does not",
        ),
        (
            {"module.weight": 0, "module.bias": 0},
            "lacks 'weight', 'bias' and has 'module.weight', .* without 'module.'",
        ),
        ({"state_dict": {}, "epoch": 3}, "and has 'state_dict', 'epoch', .* the state dict in a checkpoint"),
        ({"weight": torch.ones(2, 1), "bias": torch.ones(1)}, r"'weight' has shape \(2, 1\); expected \(1, 2\)"),
        ({"weight": torch.ones(1, 2).int(), "bias": torch.ones(1)}, "'weight' is torch.int32; expected floating-point"),
        ({"weight": [1.0, 2.0], "bias": torch.ones(1)}, "'weight' is list; expected floating-point"),
        ({"weight": torch.ones(1, 2).to_sparse(), "bias": torch.ones(1)}, "client 0: 'weight' is sparse"),
        ({"weight": torch.ones(1, 2) * 1j, "bias": torch.ones(1)}, "client 0: 'weight' is complex"),
        ({"weight": torch.empty(1, 2, device="meta"), "bias": torch.ones(1)}, "'weight' has no numbers yet"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "state",
)
def test_a_malformed_state_is_named(state: Any, message: str) -> None:
    layout = StateLayout.of(nn.Linear(2, 1).state_dict())
    with pytest.raises(InputError, match=message):
        layout.updates([state])


@pytest.mark.parametrize(
    ("reference", "options", "message"),
    [
        ({"n": torch.tensor(3)}, {}, "no trainable parameter among 'n'"),
        ({}, {}, "no trainable parameter among nothing"),
        ([torch.ones(1)], {}, "reference: expected a state dict, .* not list"),
        ({"w": torch.ones(1)}, {"buffers": ["center"]}, "buffers: the reference has no 'center'; it has 'w'"),
        ({"w": torch.ones(1)}, {"buffers": "w"}, "expected names in a list"),
        ({"w": torch.ones(1)}, {"model": nn.Linear(1, 1)}, "model: has no 'w'"),
        ({"w": torch.ones(1)}, {"model": {}}, "model: expected the module"),
        ({"w": torch.ones(2, dtype=torch.complex64)}, {}, "reference: 'w' is complex"),
    ],
    ids=str,
)
def test_what_makes_no_layout_is_told(reference: Any, options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        StateLayout.of(reference, **options)


class Lazy(dict[str, int]):
    """Loads each entry when it is asked, into memory that the next but one gets again."""

    def items(self) -> Any:
        return ((name, np.full(4, place, np.float32)) for name, place in super().items())


def test_entries_that_are_loaded_one_by_one_are_not_tied() -> None:
    assert not StateLayout.of(Lazy({f"p{place}": place for place in range(10)})).ties


def test_a_reference_of_a_wrapper_is_told() -> None:
    layout = StateLayout.of({f"module.{name}": row for name, row in nn.Linear(2, 1).state_dict().items()})
    with pytest.raises(InputError, match=r"the reference's names begin with 'module\.'"):
        layout.row(nn.Linear(2, 1).state_dict())


def test_statistics_come_back_and_variances_are_not_negative() -> None:
    state = nn.BatchNorm1d(2).state_dict()
    layout = StateLayout.of(state)
    assert layout.statistics_row(state).tolist() == [0, 0, 1, 1]
    new = layout.state_dict(layout.row(state), torch.tensor([-1.0, 2.0, -1e-9, 3.0], dtype=torch.float64))
    assert new["running_mean"].tolist() == [-1, 2]
    assert new["running_var"].tolist() == [0, 3]


def test_values_beyond_a_dtype_are_told() -> None:
    for reference in ({"w": torch.ones(2).half()}, {"w": np.ones(2, np.float16)}):
        layout = StateLayout.of(reference)
        with pytest.raises(DivergenceError, match="'w': the new values are beyond the range of"):
            layout.state_dict(torch.tensor([1.0, 1e6]))
    with pytest.raises(InputError, match="expected a row of 2 numbers"):
        layout.state_dict(torch.ones(3))
