"""Residual networks against torchvision's, which differ in the stem alone, and their initial weights."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet18, resnet50

from fedsec.models import build
from fedsec.models.residual import Residual


def torchvision_with_small_stem(make: Callable[..., nn.Module]) -> nn.Module:
    model = make(num_classes=10)
    model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    return model


@pytest.mark.parametrize(("name", "make"), [("resnet18", resnet18), ("resnet50", resnet50)])
def test_outputs_are_torchvision_s_with_the_same_weights(name: str, make: Callable[..., nn.Module]) -> None:
    ours, theirs = build(name, (3, 16, 16), 10), torchvision_with_small_stem(make)
    # torchvision keeps a block's projection behind its branch, as here, and so the order is the same.
    assert [p.shape for p in ours.parameters()] == [p.shape for p in theirs.parameters()]
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    images = torch.randn(4, 3, 16, 16)
    for training in (True, False):
        with torch.no_grad():
            torch.testing.assert_close(
                ours.train(training)(images), theirs.train(training)(images), rtol=1e-4, atol=1e-4
            )


def test_default_init_is_he_s_before_relu_and_pytorch_s_otherwise() -> None:
    def spread(**options: str) -> tuple[float, float]:
        model = build("resnet18", (3, 8, 8), 10, **options)
        *_, last = (layer for layer in model.modules() if isinstance(layer, nn.Conv2d))
        assert last.weight.shape == (512, 512, 3, 3)
        return last.weight.std().item(), last.weight.abs().max().item()

    fan = 512 * 9
    deviation, largest = spread()
    assert deviation == pytest.approx((2 / fan) ** 0.5, rel=0.01)
    assert largest > 4 * deviation
    for options in ({"norm": "none"}, {"activation": "sigmoid"}):
        deviation, largest = spread(**options)
        assert deviation == pytest.approx((1 / (3 * fan)) ** 0.5, rel=0.01)
        assert largest <= fan**-0.5 * (1 + 1e-6)  # the bound itself can be drawn, rounded to float32


def test_without_normalization_convolutions_have_a_bias_and_nothing_else_is_left() -> None:
    for norm, kind in (("bn", nn.BatchNorm2d), ("gn", nn.GroupNorm), ("none", None)):
        modules = list(build("resnet50", (1, 8, 8), 10, norm=norm).modules())
        convolutions = [module for module in modules if isinstance(module, nn.Conv2d)]
        normalizations = [module for module in modules if isinstance(module, nn.BatchNorm2d | nn.GroupNorm)]
        assert len(convolutions) == 53
        assert all((module.bias is not None) == (norm == "none") for module in convolutions)
        assert len(normalizations) == (0 if kind is None else 53)
        assert all(type(module) is kind for module in normalizations)
        assert all(module.num_groups == 2 for module in normalizations if isinstance(module, nn.GroupNorm))


def test_a_block_adds_its_input() -> None:
    class Zero(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return torch.zeros_like(inputs)

    images = torch.randn(2, 3, 4, 4)
    assert torch.equal(Residual(Zero(), nn.Sequential(), nn.ReLU())(images), images.relu())


def test_every_activation_is_a_module_of_its_own() -> None:
    model = build("resnet20_4", (1, 8, 8), 10)
    found = [module for _, module in model.named_modules(remove_duplicate=False) if isinstance(module, nn.ReLU)]
    assert len(found) == len(set(map(id, found))) == 19
