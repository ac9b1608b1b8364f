"""The prior on normalization statistics against sums by hand."""

from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsec.matching.statistics import StatisticsPrior
from fedsec.threat import Observation


def observation(model: nn.Module, images: Tensor, granted: dict[str, tuple[Tensor, Tensor]] | None) -> Observation:
    worker = deepcopy(model)
    rows = torch.autograd.grad(F.cross_entropy(worker(images), torch.tensor([0, 1])), list(worker.parameters()))
    return Observation.of_gradient(
        model, rows, input_shape=(1, 5, 5), num_classes=3, batch_size=2, statistics=granted, labels=torch.tensor([0, 1])
    )


def network() -> nn.Module:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2), nn.Sigmoid(), nn.Flatten(), nn.Linear(32, 3))
    nn.init.uniform_(model.get_buffer("1.running_mean"))
    nn.init.uniform_(model.get_buffer("1.running_var"), 1, 2)
    return model


def measured(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    entered = model[0](images).detach()
    return entered.mean((0, 2, 3)), entered.var((0, 2, 3), unbiased=False)


def by_hand(model: nn.Module, images: Tensor, expected: tuple[Tensor, Tensor]) -> float:
    mean, variance = measured(model, images)
    return float((mean - expected[0]).norm() + (variance - expected[1]).norm())


def test_granted_statistics_are_those_of_the_problems_own_observation() -> None:
    model = network().train()
    batches = torch.rand(2, 2, 1, 5, 5)
    seen = [observation(model, images, {"1": measured(model, images)}) for images in batches]
    prior = StatisticsPrior(seen, torch.tensor([0, 0, 1, 1]))
    assert prior.layers == ["1"]
    zero = prior(batches.repeat_interleave(2, 0), torch.arange(4))
    assert zero.abs().max() < 1e-5
    others = torch.rand(2, 2, 1, 5, 5)
    found = prior(others, torch.tensor([1, 2]))
    wanted = [by_hand(model, images, measured(model, truth)) for images, truth in zip(others, batches, strict=True)]
    assert torch.allclose(found, torch.tensor(wanted), rtol=1e-4)
    assert torch.allclose(prior(others[1:], torch.tensor([2])), found[1:], rtol=1e-5)


def test_running_statistics_count_in_eval_mode_only() -> None:
    model = network()
    images = torch.rand(2, 1, 5, 5)
    assert StatisticsPrior([observation(model.train(), images, None)], torch.tensor([0])).layers == []
    running = model.get_buffer("1.running_mean"), model.get_buffer("1.running_var")
    prior = StatisticsPrior([observation(model.eval(), images, None)], torch.tensor([0]))
    wanted = by_hand(model, images, (running[0].clone(), running[1].clone()))
    assert abs(float(prior(images[None], torch.tensor([0]))) - wanted) < 1e-5


def test_models_without_statistics_have_no_layer() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(25, 3))
    assert StatisticsPrior([observation(model, torch.rand(2, 1, 5, 5), None)], torch.tensor([0])).layers == []
