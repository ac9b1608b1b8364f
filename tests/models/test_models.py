"""Conformance of every model in the table, and golden parameter counts."""

from typing import Any

import pytest
import torch

from fedsec.errors import InputError
from fedsec.models import MODELS, build

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32), (2, 9, 13)]
PARAMETERS = {
    ("logistic", (1, 28, 28)): 7_850,
    ("mlp", (1, 8, 8)): 4_810,
    ("cnn", (1, 28, 28)): 28_938,
    ("cnn", (3, 32, 32)): 34_538,
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", MODELS)
def test_every_model_takes_every_shape(name: str, shape: tuple[int, int, int]) -> None:
    model = build(name, shape, 7)
    logits = model(torch.rand(3, *shape))
    assert logits.shape == (3, 7)
    logits.logsumexp(1).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_every_model_can_be_differentiated_twice_and_has_no_in_place_operation(name: str) -> None:
    model = build(name, (1, 8, 8), 3).double()
    images = torch.rand(2, 1, 8, 8, dtype=torch.double, requires_grad=True)
    loss = model(images).square().sum()
    gradients = torch.autograd.grad(loss, list(model.parameters()), create_graph=True)
    (second,) = torch.autograd.grad(sum(g.square().sum() for g in gradients), images)
    assert second.isfinite().all()
    assert not any(getattr(m, "inplace", False) for m in model.modules())


@pytest.mark.parametrize("name", MODELS)
def test_the_random_state_decides_the_initial_weights(name: str) -> None:
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        options: dict[str, Any] = {"init": "default"}
        weights.append(torch.cat([p.flatten() for p in build(name, (1, 8, 8), 3, **options).parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(("which", "count"), PARAMETERS.items())
def test_parameter_counts(which: tuple[str, tuple[int, int, int]], count: int) -> None:
    assert sum(p.numel() for p in build(*which, 10).parameters()) == count


def test_uniform_init_is_dlgs() -> None:
    weights = torch.cat([p.flatten() for p in build("cnn", (1, 28, 28), 10, init="uniform").parameters()])
    assert weights.abs().max() <= 0.5
    assert weights.std().item() == pytest.approx(12**-0.5, rel=0.02)


@pytest.mark.parametrize(
    ("name", "shape", "classes", "options", "message"),
    [
        ("resnet9000", (1, 8, 8), 3, {}, "known: logistic"),
        ("cnn", (8, 8), 3, {}, "channels, height, width"),
        ("cnn", (1, 8, 8), 1, {}, "at least 2"),
        ("cnn", (1, 8, 8), 3, {"activation": "swish"}, "sigmoid, relu"),
        ("cnn", (1, 8, 8), 3, {"init": "xavier"}, "uniform"),
        ("cnn", (1, 8, 8), 3, {"channels": [4]}, "two numbers"),
        ("mlp", (1, 8, 8), 3, {"hidden": []}, "at least one"),
        ("mlp", (1, 8, 8), 3, {"depth": 3}, "depth"),
    ],
)
def test_bad_requests_say_what_was_expected(
    name: str, shape: Any, classes: int, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        build(name, shape, classes, **options)
