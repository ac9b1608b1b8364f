"""An observation holds what a server has, and nothing else."""

import warnings
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest
import torch
from jaxtyping import Int64
from torch import Tensor, nn

from fedsec.errors import InputError
from fedsec.threat import ClientLoss, Distortion, LocalSteps, Observation, PixelScale
from fedsec.threat.observed.client_loss import Reduction

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
        "model": nn.Module,
        "update": Mapping[str, Tensor],
        "input_shape": tuple[int, int, int],
        "num_classes": int,
        "batch_size": int,
        "scale": PixelScale,
        "local": LocalSteps | None,
        "labels": Int64[Tensor, "batch"] | None,
        "statistics": Mapping[str, tuple[Tensor, Tensor]] | None,
        "distortion": Distortion | None,
        "loss": ClientLoss,
        "reduction": Reduction,
        "loss_scale": float,
        "unsent": tuple[str, ...],
        "remarks": tuple[str, ...],
    }
    # As text: jaxtyping's types are not equal to themselves when written twice.
    assert {field.name: str(field.type) for field in fields(Observation)} == {
        name: str(kind) for name, kind in known.items()
    }
    steps = {"lr", "steps", "batch_size", "momentum", "weight_decay", "clip_norm"}
    assert {field.name for field in fields(LocalSteps)} == steps
    assert {field.name for field in fields(PixelScale)} == {"mean", "std"}
    assert {field.name for field in fields(Distortion)} == {
        "kept",
        "noise",
        "rescaled",
        "signs",
        "carried",
        "ceiling",
        "limit",
    }
    images = torch.zeros(2, *SHAPE)
    with pytest.raises(TypeError, match="unexpected keyword argument 'images'"):
        Observation(**arguments(images=images))
    seen = Observation(**arguments())
    for name in ("images", "labels"):
        with pytest.raises(FrozenInstanceError):
            setattr(seen, name, images)


def test_later_training_does_not_change_what_was_seen() -> None:
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(4, 3))
    update = {name: torch.randn_like(row) for name, row in model.named_parameters()}
    statistics = {"0": (torch.zeros(1, requires_grad=True), torch.ones(1))}
    given = arguments(model=model, update=update, labels=torch.tensor([0, 1]), statistics=statistics)
    seen = Observation(**given)
    assert seen.statistics is not None
    assert not seen.statistics["0"][0].requires_grad
    # Each under a name of its own: update and parameters have the same.
    held = [seen.update, seen.model.state_dict(), dict(zip(("mean", "variance"), seen.statistics["0"], strict=True))]
    before = [{name: row.clone() for name, row in rows.items()} for rows in held]
    for tensor in (*model.state_dict().values(), *update.values(), given["labels"], *statistics["0"]):
        tensor.data.fill_(7)
    given["statistics"].clear()
    assert list(seen.statistics) == ["0"]
    for rows, earlier in zip(held, before, strict=True):
        assert all(torch.equal(row, earlier[name]) for name, row in rows.items())
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
    given = arguments(local=LocalSteps(lr=0.5, steps=4))
    seen = Observation(**given)
    assert torch.allclose(seen.gradient["1.bias"], given["update"]["1.bias"] / -2)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_constant_gradient_is_read_exactly_from_training_with_momentum(momentum: float, steps: int) -> None:
    given = arguments(local=LocalSteps(lr=0.3, steps=steps, momentum=momentum))
    client = network()
    slopes = {name: torch.randn_like(row) for name, row in client.named_parameters()}
    before = {name: row.detach().clone() for name, row in client.named_parameters()}
    optimizer = torch.optim.SGD(client.parameters(), lr=0.3, momentum=momentum)
    for _ in range(steps):
        optimizer.zero_grad()
        sum((slopes[name] * row).sum() for name, row in client.named_parameters()).backward()  # type: ignore[union-attr]
        optimizer.step()
    difference = {name: row.detach() - before[name] for name, row in client.named_parameters()}
    seen = Observation(**{**given, "model": network(), "update": difference})
    for name, slope in slopes.items():
        torch.testing.assert_close(seen.gradient[name], slope, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_an_attacker_computes_in_float32_whatever_the_client_used(dtype: torch.dtype) -> None:
    model = network().to(dtype)
    update = {"1.bias": torch.tensor([0.1, 0.2, 0.3], dtype=dtype)}
    seen = Observation(**arguments(model=model, update=update))
    assert {row.dtype for row in (*seen.model.parameters(), *seen.update.values())} == {torch.float32}
    assert torch.equal(seen.update["1.bias"], update["1.bias"].float())
    assert torch.equal(seen.model.get_parameter("1.weight"), model.get_parameter("1.weight").float())
    assert model.get_parameter("1.weight").dtype == dtype


def test_double_precision_stays() -> None:
    seen = Observation(**arguments(model=network().double()))
    assert {row.dtype for row in (*seen.model.parameters(), *seen.update.values())} == {torch.float64}
    with pytest.raises(InputError, match=r"'1\.bias' must be finite .* also as torch\.float32"):
        Observation(**arguments(update={"1.bias": torch.full((3,), 1e39, dtype=torch.float64)}))


def test_a_parameter_without_a_gradient() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
    rows = torch.autograd.grad(model[1](torch.ones(1, 4)).sum(), list(model.parameters()), allow_unused=True)
    with pytest.raises(InputError, match=r"the gradient of '0\.weight' is None; use allow_unused=False, or name"):
        Observation.of_gradient(model, rows, input_shape=SHAPE, num_classes=3, batch_size=1)
    with pytest.raises(InputError, match=r"the gradient of '0\.weight' is None"):
        Observation.of_gradient(model, {"0.weight": rows[0]}, input_shape=SHAPE, num_classes=3, batch_size=1)


@pytest.mark.parametrize("shape", [(), (1,), (1, 2), (1, 2, 2, 2), (1, 0, 2)])
def test_a_gradient_with_a_wrong_input_shape(shape: tuple[int, ...]) -> None:
    given = arguments()
    with pytest.raises(InputError, match=r"must be \(channels, height, width\)"):
        Observation.of_gradient(given["model"], given["update"], input_shape=shape, num_classes=3, batch_size=1)


@pytest.mark.parametrize(
    ("name", "pair", "message"),
    [
        ("2", (torch.zeros(3), torch.ones(3)), "'2', which is no batch normalization but Linear"),
        ("0", (torch.zeros(2), torch.ones(1)), r"shape \(1,\), floating-point, got torch.float32 of shape \(2,\)"),
        ("0", (torch.zeros(1), torch.tensor(1.0)), r"shape \(1,\), floating-point"),
        ("0", (torch.zeros(1),), r"shape \(1,\), floating-point"),
        ("0", (torch.zeros(1, dtype=torch.int64), torch.ones(1)), "floating-point, got torch.int64"),
        ("0", (torch.full((1,), torch.nan), torch.ones(1)), "'0' must be finite"),
        ("0", (torch.zeros(1), torch.full((1,), torch.inf)), "'0' must be finite"),
        ("0", (torch.zeros(1), torch.full((1,), -0.1)), "the variance not negative"),
    ],
)
def test_malformed_statistics(name: str, pair: tuple[Tensor, ...], message: str) -> None:
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(4, 3))
    with pytest.raises(InputError, match=f"Observation: statistics of .*{message}"):
        Observation(**arguments(model=model, update={"2.bias": torch.ones(3)}, statistics={name: pair}))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"update": {}}, "the update is empty"),
        ({"update": {"2.weight": torch.zeros(1)}}, "names '2.weight', which is no parameter"),
        ({"update": {"1.bias": torch.zeros(4)}}, r"'1.bias' has shape \(4,\), the parameter \(3,\)"),
        ({"update": {"1.bias": torch.full((3,), torch.nan)}}, "'1.bias' must be finite"),
        ({"update": {"1.bias": torch.zeros(3, dtype=torch.int64)}}, "'1.bias' must be finite floating-point"),
        ({"update": {"1.bias": torch.zeros(3, device="meta")}}, "'1.bias' is on meta, the parameter on cpu"),
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
def test_local_steps_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="LocalSteps"):
        LocalSteps(**{"lr": 0.1, "steps": 2, **wrong})


@pytest.mark.parametrize("wrong", [((), ()), ((0.5,), (0.0,)), ((0.5,), (1.0, 1.0)), ((float("inf"),), (1.0,))])
def test_pixel_scales_out_of_range(wrong: tuple[tuple[float, ...], tuple[float, ...]]) -> None:
    with pytest.raises(InputError, match="PixelScale"):
        PixelScale(*wrong)


def test_single_numbers_are_those_of_all_channels() -> None:
    assert PixelScale(mean=0.5, std=0.25) == PixelScale((0.5,), (0.25,))  # type: ignore[arg-type]
    assert PixelScale((0.1, 0.2, 0.3), 0.5) == PixelScale((0.1, 0.2, 0.3), (0.5, 0.5, 0.5))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="mean must be a number, or one a channel, got 'gray'"):
        PixelScale("gray", 1.0)  # type: ignore[arg-type]


def test_pixel_scale_there_and_back() -> None:
    scale = PixelScale((0.1, 0.2, 0.3), (0.5, 2.0, 1.0))
    images = torch.rand(2, 3, 4, 4)
    assert torch.allclose(scale.apply(images)[:, 1], (images[:, 1] - 0.2) / 2)
    assert torch.allclose(scale.undo(scale.apply(images)), images, atol=1e-6)


def test_slots_of_shuffled_epochs() -> None:
    local = LocalSteps(0.1, steps=5, batch_size=2)
    assert list(local.slots(3)) == [
        (0, slice(0, 2)),
        (0, slice(2, 3)),
        (1, slice(0, 2)),
        (1, slice(2, 3)),
        (2, slice(0, 2)),
    ]
    assert local.epochs(3) == 3
    assert list(LocalSteps(0.1, steps=2).slots(3)) == [(0, slice(0, 3)), (1, slice(0, 3))]


def test_arrays_and_lists_are_taken() -> None:
    given = arguments()
    arrays = {name: row.numpy() for name, row in given["update"].items()}
    seen = Observation(**{**given, "update": arrays, "labels": [2, 0]})
    assert all(torch.equal(seen.update[name], row) for name, row in given["update"].items())
    assert seen.labels is not None
    assert seen.labels.tolist() == [2, 0]
    rows = Observation.of_gradient(
        given["model"], list(arrays.values()), input_shape=SHAPE, num_classes=3, batch_size=2
    )
    assert torch.equal(rows.update["1.bias"], given["update"]["1.bias"])
    for wrong in ([0.0, 1.0], [True, False], ["cat", "dog"], 3):
        with pytest.raises(InputError, match="labels must be 2"):
            Observation(**{**given, "labels": wrong})
    with pytest.raises(InputError, match=r"'1\.bias' must be a tensor or an array, got str"):
        Observation(**{**given, "update": {"1.bias": "zeros"}})


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_names_of_wrapped_models(prefix: str) -> None:
    given = arguments()
    seen = Observation(**{**given, "update": {prefix + name: row for name, row in given["update"].items()}})
    assert seen.update.keys() == given["update"].keys()
    wrapped = Observation(**{**given, "model": nn.DataParallel(given["model"])})
    assert list(dict(wrapped.model.named_parameters())) == ["1.weight", "1.bias"]


def test_compiled_models_are_unwrapped() -> None:
    compiled = torch.compile(network())
    seen = Observation(**arguments(model=compiled))
    assert type(seen.model) is nn.Sequential
    nested = nn.Sequential(nn.Flatten(), torch.compile(nn.Linear(4, 3)))
    assert list(dict(Observation(**arguments(model=nested)).model.named_parameters())) == ["1.weight", "1.bias"]
    inside = network()
    inside.compile()
    copied = Observation(**arguments(model=inside)).model
    assert copied._compiled_call_impl is None
    assert copied(torch.zeros(1, *SHAPE)).shape == (1, 3)


def test_buffers_and_weights_in_the_place_of_a_difference() -> None:
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(4, 3))
    state = {name: torch.randn(row.shape) for name, row in model.state_dict().items()}
    with pytest.raises(InputError, match=r"a buffer of the model .* leave out 0\.running_mean, .*of_update"):
        Observation(**arguments(model=model, update=state))
    weights = {name: row.detach() + 0.01 for name, row in model.named_parameters()}
    with pytest.raises(InputError, match="nearly the broadcast parameter itself"):
        Observation(**arguments(model=model, update=weights))


def test_tied_parameters_have_one_name() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 4, bias=False), nn.Tanh(), nn.Linear(4, 4))
    model[3].weight = model[1].weight
    row = torch.randn(4, 4)
    for name in ("1.weight", "3.weight"):
        assert list(Observation(**arguments(model=model, update={name: row}, num_classes=4)).update) == ["1.weight"]


def test_the_private_copy_computes_out_of_place_and_without_dropout() -> None:
    model = nn.Sequential(
        nn.BatchNorm2d(1), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Flatten(), nn.Linear(4, 3)
    ).train()
    seen = Observation(**arguments(model=model, update={"4.bias": torch.ones(3)}))
    assert [layer.training for layer in seen.model] == [True, False, False, False, False]
    assert not seen.model[1].inplace
    assert model[1].inplace
    assert model[2].training
    assert seen.remarks == (
        "dropout was on in the model; its masks are not known, and the attacker computes without it",
    )
    assert Observation(**arguments(model=model.eval(), update={"4.bias": torch.ones(3)})).remarks == ()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_one_step_is_the_gradient_it_is(momentum: float, decay: float) -> None:
    given = arguments()
    local = LocalSteps(0.1, 1, None, momentum, decay)
    weights = dict(given["model"].named_parameters())
    sent = {name: -0.1 * (row + decay * weights[name].detach()) for name, row in given["update"].items()}
    seen = Observation(**{**given, "update": sent, "local": local}).as_gradient()
    assert seen.local is None
    for name, row in given["update"].items():
        torch.testing.assert_close(seen.update[name], row)
    parts = Observation(**{**given, "update": sent, "local": LocalSteps(0.1, 1, batch_size=1)})
    assert parts.as_gradient() is parts
    several = Observation(**{**given, "update": sent, "local": LocalSteps(0.1, 2)})
    assert several.as_gradient() is several


@pytest.mark.parametrize(("steps", "share"), [(1, 0.0), (2, 0.25), (3, 0.5), (8, 0.5)])
def test_where_one_gradient_stands_for_all_steps(steps: int, share: float) -> None:
    assert LocalSteps(0.1, steps).midway == share


def test_a_distortion_is_put_into_the_gradients_units() -> None:
    noise = Distortion(noise={"1.bias": 0.02}, limit={"1.weight": 0.5}, ceiling=0.3)
    given = arguments(local=LocalSteps(0.1, 1), distortion=noise)
    told = Observation(**given).as_gradient().distortion
    assert told is not None
    assert told.noise["1.bias"] == pytest.approx(0.2)
    assert told.limit["1.weight"] == pytest.approx(5)
    assert told.ceiling == pytest.approx(3)


def test_sums_and_scaled_losses_are_read_as_means() -> None:
    given = arguments()
    for changed, factor in (
        ({"reduction": "sum"}, 2),
        ({"loss_scale": 8.0}, 8),
        ({"reduction": "sum", "loss_scale": 3.0}, 6),
    ):
        sent = {name: factor * row for name, row in given["update"].items()}
        seen = Observation(**{**given, "update": sent, **changed}).as_gradient()
        torch.testing.assert_close(seen.update["1.weight"], given["update"]["1.weight"])
    for wrong, message in (
        ({"reduction": "none"}, "reduction must be mean or sum"),
        ({"loss_scale": 0.0}, "loss_scale"),
    ):
        with pytest.raises(InputError, match=message):
            Observation(**{**given, **wrong})


def test_a_traced_module_is_refused_with_what_to_give_instead() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    gradient = [torch.zeros_like(parameter) for parameter in model.parameters()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's, about tracing itself
        traced = torch.jit.trace(model, torch.zeros(1, 1, 2, 2))
    with pytest.raises(InputError, match=r"traced module cannot be attacked.*expected the nn\.Module"):
        Observation.of_gradient(traced, gradient, input_shape=(1, 2, 2), num_classes=2, batch_size=1)
