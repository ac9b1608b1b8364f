"""Convolutions that pass pixels on, each to a place of its own."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn

from fedsec.errors import InputError
from fedsec.matching.pixel_paths.convolutions import pass_pixels_on
from fedsec.matching.pixel_paths.pixel_layer import pixel_layer
from fedsec.threat import PixelScale

SCALE = PixelScale((0.1, 0.5), (0.2, 0.9))


def network(*convolutions: nn.Module, features: int) -> nn.Module:
    layers = [layer for convolution in convolutions for layer in (convolution, nn.ReLU())]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, 4), nn.ReLU(), nn.Linear(4, 3))


@pytest.mark.parametrize(
    ("shape", "convolutions", "features"),
    [
        ((2, 7, 7), [(2, 9, {"kernel_size": 5, "stride": 2, "padding": 2})], 9 * 16),
        ((2, 6, 9), [(2, 7, {"kernel_size": (3, 5), "stride": (1, 3), "padding": (1, 2)})], 7 * 18),
        ((2, 5, 5), [(2, 2, {"kernel_size": 3, "padding": "same"}), (2, 3, {"kernel_size": 1})], 3 * 25),
        ((2, 4, 4), [(2, 2, {"kernel_size": 1, "padding": "valid"}), (2, 8, {"kernel_size": 2, "stride": 2})], 8 * 4),
    ],
)
def test_every_pixel_has_a_column(
    shape: tuple[int, int, int], convolutions: list[tuple[int, int, dict[str, Any]]], features: int
) -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(before, after, **options) for before, after, options in convolutions]
    model = network(*layers, features=features)
    assert pixel_layer(model, shape, SCALE) is None
    pass_pixels_on(model, shape, SCALE)
    found = pixel_layer(model, shape, SCALE)
    assert found is not None
    assert found.columns is not None
    images = torch.rand(3, *shape)
    taken = model[: 2 * len(layers) + 1](SCALE.apply(images))
    torch.testing.assert_close(taken[:, found.columns], images.flatten(1), atol=1e-6, rtol=0)
    assert len(set(found.columns.tolist())) == images[0].numel()


def test_a_convolution_that_ends_before_the_border_is_refused() -> None:
    model = network(nn.Conv2d(2, 8, 4, stride=2, padding=1), features=8 * 9)
    with pytest.raises(InputError, match="0 loses pixels at the border: kernel 4, stride 2, padding 1"):
        pass_pixels_on(model, (2, 7, 7), SCALE)


def test_looking_changes_nothing() -> None:
    model = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(32, 4), nn.Linear(4, 3))
    before = deepcopy(model.state_dict())
    assert pixel_layer(model, (2, 4, 4), SCALE) is None
    assert model.training
    assert all(torch.equal(row, before[name]) for name, row in model.state_dict().items())
