"""What weights alone tell: planted rows are seen, and random ones are not."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fedsec.defense.inspection.weights import weight_statistics


def statistics(layer: nn.Module) -> dict[str, float]:
    ((_, measured),) = weight_statistics(nn.Sequential(layer))
    return measured


def bins(weight: Tensor) -> None:
    weight.copy_(torch.ones_like(weight) * torch.linspace(0.5, 2, len(weight))[:, None])


def traps(weight: Tensor) -> None:
    half = torch.rand(len(weight), weight.shape[1] // 2)
    rows = torch.cat([-half, 0.9 * half], dim=1)
    weight.copy_(torch.stack([row[torch.randperm(len(row))] for row in rows]))


def low_rank(weight: Tensor) -> None:
    weight.copy_(torch.randn(len(weight), 2) @ torch.randn(2, weight.shape[1]))


@pytest.mark.parametrize(
    ("plant", "name", "expected"),
    [
        (bins, "duplicated", 1.0),
        (bins, "rank_deficit", 15 / 16),
        (traps, "mirrored", 1.0),
        (low_rank, "rank_deficit", 14 / 16),
        (lambda weight: weight[4:].zero_(), "zero_rows", 0.75),
        (lambda weight: weight.mul_(1000), "gain", pytest.approx(577, rel=0.1)),
    ],
)
def test_each_statistic_sees_what_it_is_for(plant: Callable[[Tensor], None], name: str, expected: float) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(40, 16)
    benign = statistics(layer)
    with torch.no_grad():
        plant(layer.weight)
    assert statistics(layer)[name] == expected
    assert benign[name] == 0 or benign[name] < 1


def test_a_kernel_of_one_weight_hands_images_on() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, 3)
    assert statistics(layer)["concentration"] < 0.3
    nn.init.dirac_(layer.weight)
    assert statistics(layer)["concentration"] > 1e5
    assert "concentration" not in statistics(nn.Linear(27, 4))
    assert "concentration" not in statistics(nn.Conv2d(3, 4, 1))  # one weight a channel: nothing to concentrate


def test_a_bias_is_measured_by_rows() -> None:
    layer = nn.Linear(4, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, 4, 0, 0], [0, 0, 6, 8]]))
        layer.bias.copy_(torch.tensor([0.0, -50.0]))
    assert statistics(layer)["bias"] == pytest.approx(10.0)  # the median of two is the smaller
    assert "bias" not in statistics(nn.Linear(4, 2, bias=False))


def test_two_classes_may_have_opposite_rows() -> None:
    layer = nn.Linear(20, 2)
    with torch.no_grad():
        layer.weight[1] = -layer.weight[0]
    assert "duplicated" not in statistics(layer)


def test_weights_that_are_no_numbers_are_as_large_as_can_be() -> None:
    layer = nn.Linear(10, 10)
    with torch.no_grad():
        layer.weight[3, 4] = torch.nan
    assert statistics(layer) == {"gain": torch.inf}
