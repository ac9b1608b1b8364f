"""What running statistics give away, against the batch's own."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsec.errors import InputError
from fedsec.threat import LocalSteps, Observation, sent_statistics

SHAPE = (2, 8, 8)


def network(momentum: float | None) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 4, 3, stride=2), nn.BatchNorm2d(4, momentum=momentum), nn.Sigmoid(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(36, 6), nn.BatchNorm1d(6, momentum=momentum), nn.Linear(6, 3)).train()


def trained(model: nn.Module, images: Tensor, labels: Tensor, steps: int, lr: float) -> nn.Module:
    worker = deepcopy(model)
    optimizer = torch.optim.SGD(worker.parameters(), lr)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(worker(images), labels).backward()
        optimizer.step()
    return worker


def entered(model: nn.Module, images: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and biased variance at the input of each layer, the plain way."""
    first = model[0](images)
    second = deepcopy(model)[:5](images)
    return {
        "1": (first.mean((0, 2, 3)), first.var((0, 2, 3), unbiased=False)),
        "5": (second.mean(0), second.var(0, unbiased=False)),
    }


@pytest.mark.parametrize("momentum", [0.1, 0.7, 1.0, None])
@pytest.mark.parametrize("warm", [0, 2])
def test_one_step_gives_the_batchs_own_exactly(momentum: float | None, warm: int) -> None:
    torch.manual_seed(1)
    images, labels = torch.rand(5, *SHAPE), torch.randint(3, (5,))
    before = trained(network(momentum), torch.rand(5, *SHAPE), labels, warm, 0.1)
    after = trained(before, images, labels, 1, 0.1)
    seen = sent_statistics(before, dict(after.named_buffers()), input_shape=SHAPE, batch_size=5)
    expected = entered(before, images)
    assert seen.keys() == expected.keys()
    for name, pair in expected.items():
        for value, truth in zip(seen[name], pair, strict=True):
            torch.testing.assert_close(value, truth, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_several_steps_give_it_approximately(momentum: float | None) -> None:
    torch.manual_seed(1)
    images, labels = torch.rand(5, *SHAPE), torch.randint(3, (5,))
    before = network(momentum)
    after = trained(before, images, labels, 4, 0.05)
    seen = sent_statistics(before, dict(after.named_buffers()), input_shape=SHAPE, batch_size=5, steps=4)
    for name, (mean, variance) in entered(before, images).items():
        assert (seen[name][0] - mean).norm() < 0.1 * mean.norm()
        assert (seen[name][1] - variance).norm() < 0.3 * variance.norm()


@pytest.mark.parametrize("how", ["difference", "after", "wrapped"])
def test_a_difference_of_state_dicts_is_an_observation(how: str) -> None:
    torch.manual_seed(1)
    images, labels = torch.rand(5, *SHAPE), torch.randint(3, (5,))
    model = network(0.1)
    after = trained(model, images, labels, 1, 0.1)
    state = model.state_dict()
    difference = {name: row - state[name] for name, row in after.state_dict().items()}
    known = {"input_shape": SHAPE, "num_classes": 3, "batch_size": 5, "local": LocalSteps(0.1, 1)}
    if how == "after":
        parameters = {name: difference[name] for name, _ in model.named_parameters()}
        seen = Observation.of_update(model, parameters, buffers_after=dict(after.named_buffers()), **known)  # type: ignore[arg-type]
    else:
        prefix = "module." if how == "wrapped" else ""
        seen = Observation.of_update(model, {prefix + name: row for name, row in difference.items()}, **known)  # type: ignore[arg-type]
    assert seen.statistics is not None
    for name, (mean, variance) in entered(model, images).items():
        torch.testing.assert_close(seen.statistics[name][0], mean, rtol=1e-4, atol=2e-5)
        torch.testing.assert_close(seen.statistics[name][1], variance, rtol=1e-4, atol=2e-5)
    assert not any("running" in name for name in seen.update)


def test_without_buffers_nothing_is_known() -> None:
    model = network(0.1)
    update = {name: torch.randn_like(row) for name, row in model.named_parameters()}
    known = {"input_shape": SHAPE, "num_classes": 3, "batch_size": 5, "local": LocalSteps(0.1, 1)}
    assert Observation.of_update(model, update, **known).statistics is None  # type: ignore[arg-type]
    frozen = network(0.0)
    assert sent_statistics(frozen, dict(frozen.named_buffers()), input_shape=SHAPE, batch_size=2) == {}


def test_buffers_that_training_cannot_lead_to() -> None:
    model = network(0.1)
    buffers = {name: row.clone() for name, row in model.named_buffers()}
    for wrong, message in (
        (torch.full((4,), 0.5), "'1' fell by more than its momentum"),
        (torch.ones(3), r"'1\.running_var' has shape \(3,\), expected \(4,\)"),
        (torch.full((4,), torch.nan), r"'1\.running_var' is not finite"),
    ):
        with pytest.raises(InputError, match=message):
            sent_statistics(model, {**buffers, "1.running_var": wrong}, input_shape=SHAPE, batch_size=2)
