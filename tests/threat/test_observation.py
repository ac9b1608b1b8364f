"""An observation holds what a server has, and nothing else."""

from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import nn

from fedsec.errors import InputError
from fedsec.threat import LocalTraining, Observation, PixelScale

SHAPE = (1, 2, 2)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 3))


def arguments(**changed: Any) -> dict[str, Any]:
    model = network()
    update = {name: torch.randn_like(row) for name, row in model.named_parameters()}
    return {"model": model, "update": update, "input_shape": SHAPE, "num_classes": 3, "batch_size": 2, **changed}


def test_no_field_can_hold_the_truth() -> None:
    known = {
        "model": "nn.Module",
        "update": "Mapping[str, Tensor]",
        "input_shape": "tuple[int, int, int]",
        "num_classes": "int",
        "batch_size": "int",
        "scale": "PixelScale",
        "local": "LocalTraining | None",
        "labels": "Int64[Tensor, 'batch'] | None",
        "statistics": "Mapping[str, tuple[Tensor, Tensor]] | None",
    }
    assert {field.name for field in fields(Observation)} == set(known)
    assert {field.name for field in fields(LocalTraining)} == {"lr", "steps", "batch_size", "momentum", "weight_decay"}
    assert {field.name for field in fields(PixelScale)} == {"mean", "std"}
    with pytest.raises(AttributeError):
        Observation(**arguments()).images = torch.zeros(2, *SHAPE)  # type: ignore[attr-defined]


def test_later_training_does_not_change_what_was_seen() -> None:
    given = arguments(labels=torch.tensor([0, 1]))
    seen = Observation(**given)
    before = {name: row.clone() for name, row in (*seen.update.items(), *seen.model.state_dict().items())}
    for tensor in (*given["model"].parameters(), *given["update"].values(), given["labels"]):
        tensor.data.fill_(7)
    after = {**seen.update, **seen.model.state_dict()}
    assert all(torch.equal(row, after[name]) for name, row in before.items())
    assert seen.labels is not None
    assert seen.labels.tolist() == [0, 1]


def test_gradients_in_the_order_of_the_trainable_parameters() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
    model[0].bias.requires_grad_(False)
    rows = [torch.randn_like(p) for p in model.parameters() if p.requires_grad]
    seen = Observation.of_gradient(model, rows, input_shape=SHAPE, num_classes=3, batch_size=1)
    assert list(seen.update) == ["0.weight", "1.weight", "1.bias"]
    assert torch.equal(seen.update["1.bias"], rows[-1])
    with pytest.raises(InputError, match="2 gradients for the model's 3 trainable parameters"):
        Observation.of_gradient(model, rows[:2], input_shape=SHAPE, num_classes=3, batch_size=1)


def test_a_difference_read_as_a_gradient() -> None:
    given = arguments(local=LocalTraining(lr=0.5, steps=4))
    seen = Observation(**given)
    assert torch.allclose(seen.gradient["1.bias"], given["update"]["1.bias"] / -2)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"update": {}}, "the update is empty"),
        ({"update": {"2.weight": torch.zeros(1)}}, "names '2.weight', which is no parameter"),
        ({"update": {"1.bias": torch.zeros(4)}}, r"'1.bias' has shape \(4,\), the parameter \(3,\)"),
        ({"update": {"1.bias": torch.full((3,), torch.nan)}}, "'1.bias' must be finite"),
        ({"update": {"1.bias": torch.zeros(3, dtype=torch.int64)}}, "'1.bias' must be finite floating-point"),
        ({"input_shape": (2, 2)}, r"must be \(channels, height, width\)"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"num_classes": 1}, "num_classes at least 2"),
        ({"labels": torch.tensor([0])}, "labels must be 2 of int64"),
        ({"labels": torch.tensor([0.0, 1.0])}, "labels must be 2 of int64"),
        ({"labels": torch.tensor([0, 3])}, r"labels must lie in \[0, 3\)"),
        ({"scale": PixelScale((0.5, 0.5), (1.0, 1.0))}, "does not go with images of 1 channels"),
        ({"statistics": {"bn": (torch.zeros(1), torch.ones(1))}}, "statistics of 'bn', which the model does not have"),
    ],
)
def test_parts_that_do_not_go_together(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Observation(**arguments(**changed))


@pytest.mark.parametrize(
    "wrong",
    [{"lr": 0.0}, {"lr": float("nan")}, {"steps": 0}, {"batch_size": 0}, {"momentum": 1.0}, {"weight_decay": -1.0}],
)
def test_local_training_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="LocalTraining"):
        LocalTraining(**{"lr": 0.1, "steps": 2, **wrong})


@pytest.mark.parametrize("wrong", [((), ()), ((0.5,), (0.0,)), ((0.5,), (1.0, 1.0)), ((float("inf"),), (1.0,))])
def test_pixel_scales_out_of_range(wrong: tuple[tuple[float, ...], tuple[float, ...]]) -> None:
    with pytest.raises(InputError, match="PixelScale"):
        PixelScale(*wrong)


def test_pixel_scale_there_and_back() -> None:
    scale = PixelScale((0.1, 0.2, 0.3), (0.5, 2.0, 1.0))
    images = torch.rand(2, 3, 4, 4)
    assert torch.allclose(scale.apply(images)[:, 1], (images[:, 1] - 0.2) / 2)
    assert torch.allclose(scale.undo(scale.apply(images)), images, atol=1e-6)


def test_slots_of_shuffled_epochs() -> None:
    local = LocalTraining(0.1, steps=5, batch_size=2)
    assert list(local.slots(3)) == [
        (0, slice(0, 2)),
        (0, slice(2, 3)),
        (1, slice(0, 2)),
        (1, slice(2, 3)),
        (2, slice(0, 2)),
    ]
    assert local.epochs(3) == 3
    assert list(LocalTraining(0.1, steps=2).slots(3)) == [(0, slice(0, 3)), (1, slice(0, 3))]
