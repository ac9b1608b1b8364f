"""GradInversion: statistics, agreement of restarts, and recovery."""

from copy import deepcopy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fedsec.attacks import GradInversion
from fedsec.attacks.grad_inversion import agreement
from fedsec.errors import InputError
from fedsec.matching.statistics import StatisticsPrior
from fedsec.threat import Observation


def test_agreement_averages_images_that_correspond() -> None:
    truth = torch.rand(3, 1, 4, 4)
    noise = 0.01 * torch.rand(2, 3, 1, 4, 4)
    orders = [torch.tensor([0, 1, 2]), torch.tensor([2, 0, 1])]
    restarts = torch.stack([(truth + noise[i])[order] for i, order in enumerate(orders)])
    other = torch.rand(2, 3, 1, 4, 4)
    agreed = agreement(torch.cat([restarts, other]), restarts=2)
    mean = truth + noise.mean(0)
    for index, order in enumerate(orders):
        assert torch.allclose(agreed[index], mean[order], atol=1e-6)
    assert torch.allclose(agreement(other[:, :1], 2)[0], other[:, :1].mean(0), atol=1e-6)


def test_a_batch_on_a_network_with_batch_normalization(client: Any, pictures: Any, decibels: Any) -> None:
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(1600, 5)
    model = nn.Sequential(*layers).eval()
    images = pictures(2, seed=1)
    seen = client(images, torch.tensor([0, 3]), model=model)
    found = GradInversion(iterations=500, restarts=2, bn=0.0).reconstruct(seen)
    assert decibels(found.images, images) > 3
    assert found.notes == ()


def test_granted_statistics_pull_the_images_towards_them(pictures: Any) -> None:
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Sigmoid(), nn.Flatten(), nn.Linear(800, 5)
    model, labels = nn.Sequential(*layers).train(), torch.tensor([0, 3])
    entered = model[0](pictures(2))
    granted = {"1": (entered.mean((0, 2, 3)), entered.var((0, 2, 3), unbiased=False))}
    worker = deepcopy(model)
    rows = torch.autograd.grad(F.cross_entropy(worker(pictures(2)), labels), list(worker.parameters()))
    seen = Observation.of_gradient(
        model, rows, input_shape=(1, 10, 10), num_classes=5, batch_size=2, labels=labels, statistics=granted
    )
    prior = StatisticsPrior([seen], torch.tensor([0]))

    def distance(bn: float) -> float:
        found = GradInversion(iterations=150, restarts=1, bn=bn).reconstruct(seen)
        assert found.images is not None
        return float(prior(found.images[None], torch.tensor([0])))

    assert distance(1.0) < 0.5 * distance(0.0)


def test_a_model_without_statistics_is_said_to_have_none(client: Any, pictures: Any) -> None:
    found = GradInversion(iterations=3).reconstruct(client(pictures(1), torch.tensor([0])))
    assert "no normalization statistics" in found.notes[0]


@pytest.mark.parametrize("wrong", [{"tv": -1.0}, {"bn": float("inf")}, {"restarts": 0}, {"noise": -0.1}])
def test_numbers_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"must not be negative|must be at least 1|noise not negative"):
        GradInversion(**wrong)
