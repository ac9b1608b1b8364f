"""Trap weights: rows of a linear layer that answer to few images."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsec.attacks import trap_weights
from fedsec.attacks.trap_weights import TrapWeights
from fedsec.data import load
from fedsec.errors import InputError
from fedsec.models import build
from fedsec.threat import Observation, PixelScale, ServerView

SHAPE, SCALE = (1, 8, 8), PixelScale((0.3,), (0.4,))


def digits(count: int) -> tuple[Tensor, Tensor]:
    split = load("digits").test
    chosen = torch.randperm(len(split.images), generator=torch.Generator().manual_seed(2))[:count]
    return split.images[chosen].float() / 255, split.labels[chosen]


def crafted(size: int, hidden: int = 300) -> nn.Module:
    torch.manual_seed(0)
    auxiliary = load("digits").train.images[:300].float() / 255
    model = build("mlp", SHAPE, 10, hidden=(hidden,))
    return TrapWeights().craft(ServerView(model, SHAPE, 10, size, SCALE, auxiliary=auxiliary))


def test_a_row_lets_one_image_of_a_batch_through() -> None:
    images, _ = digits(200)
    layer = next(layer for layer in crafted(20).modules() if isinstance(layer, nn.Linear))
    active = layer(SCALE.apply(images).flatten(1)) > 0
    assert 0.03 < float(active.double().mean()) < 0.08
    halves = (layer.weight > 0).sum(1), (layer.weight < 0).sum(1)
    assert all(int(half.max()) == int(half.min()) == 32 for half in halves)


def test_images_of_a_batch_come_back_with_their_labels() -> None:
    images, labels = digits(16)
    model = crafted(16)
    gradient = torch.autograd.grad(F.cross_entropy(model(SCALE.apply(images)), labels), list(model.parameters()))
    seen = Observation.of_gradient(model, gradient, input_shape=SHAPE, num_classes=10, batch_size=16, scale=SCALE)
    result = TrapWeights().reconstruct(seen)
    assert result.images is not None
    assert result.labels is not None
    errors = (result.images[:, None] - images).flatten(2).abs().amax(2)
    exact = errors < 1e-3
    assert int(exact.any(0).sum()) >= 10
    for place, original in exact.nonzero().tolist():
        assert int(result.labels[place]) == int(labels[original])


@pytest.mark.parametrize("strides", [(1, 1), (2, 1), (2, 2)])
def test_convolutions_pass_the_image_on(strides: tuple[int, int]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5, strides[0], 2),
        nn.ReLU(),
        nn.Conv2d(6, 17, 3, strides[1], 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(17 * (8 // strides[0] // strides[1]) ** 2, 300),
        nn.ReLU(),
        nn.Linear(300, 10),
    )
    images, labels = digits(16)
    auxiliary = load("digits").train.images[:300].float() / 255
    crafted = TrapWeights().craft(ServerView(model, SHAPE, 10, 16, SCALE, auxiliary=auxiliary))
    gradient = torch.autograd.grad(F.cross_entropy(crafted(SCALE.apply(images)), labels), list(crafted.parameters()))
    seen = Observation.of_gradient(crafted, gradient, input_shape=SHAPE, num_classes=10, batch_size=16, scale=SCALE)
    result = TrapWeights().reconstruct(seen)
    assert result.images is not None
    assert result.labels is not None
    exact = (result.images[:, None] - images).flatten(2).abs().amax(2) < 1e-3
    assert int(exact.any(0).sum()) >= 10
    for place, original in exact.nonzero().tolist():
        assert int(result.labels[place]) == int(labels[original])


def test_rows_that_agree_on_what_is_no_image_are_left_out() -> None:
    """Two rows agree on a mixture that is brighter than white; one alone has an image, and is the one that is shown."""
    images, _ = digits(1)
    model = build("mlp", SHAPE, 10, hidden=(4,))
    pixels = SCALE.apply(images).flatten()
    strengths = torch.tensor([3.0, 3.0, 1.0, 0.0])
    inputs = torch.stack([SCALE.apply(2.0 * images + 0.5).flatten()] * 2 + [pixels] * 2)
    gradient = [strengths[:, None] * inputs, strengths, torch.zeros(10, 4), torch.zeros(10)]
    seen = Observation.of_gradient(model, gradient, input_shape=SHAPE, num_classes=10, batch_size=1, scale=SCALE)
    result = TrapWeights().reconstruct(seen)
    assert result.images is not None
    assert torch.allclose(result.images, images, atol=1e-3)


def test_quantiles_are_taken_of_more_numbers_than_torch_takes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ratios = torch.rand(20, 7, generator=torch.Generator().manual_seed(0)).double()
    monkeypatch.setattr(trap_weights, "_AT_ONCE", 50)
    assert torch.equal(trap_weights._quantiles(ratios, 0.07), ratios.quantile(0.07, dim=0))


def behind(*layers: nn.Module, features: int) -> nn.Module:
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, 20), nn.ReLU(), nn.Linear(20, 10))


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (build("cnn", SHAPE, 10), "its outputs are the logits"),
        (build("logistic", SHAPE, 10), "its outputs are the logits"),
        (behind(nn.Conv2d(1, 3, 5, 2, 2), features=48), "has 3 output channels, .* takes 4"),
        (behind(nn.Conv2d(1, 3, 3), features=108), "0 loses pixels at the border"),
        (behind(nn.Conv2d(1, 3, 3, padding=1, bias=False), nn.ReLU(), features=192), "0 has no bias"),
        (behind(nn.Conv2d(1, 2, 3, padding=1, groups=1, dilation=2), features=72), "groups, dilation"),
        (behind(nn.Conv2d(1, 3, 3, padding=1), nn.MaxPool2d(2), features=48), r"1 \(MaxPool2d\) does not pass"),
        (behind(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), features=192), r"1 \(BatchNorm2d\) does not pass"),
        (behind(nn.Conv2d(1, 3, 3, padding=1), nn.Sigmoid(), features=192), r"1 \(Sigmoid\) does not pass"),
    ],
)
def test_models_that_lose_pixels_are_refused(model: nn.Module, why: str) -> None:
    with pytest.raises(InputError, match=f"first layer is linear.*{why}"):
        TrapWeights().craft(ServerView(model, SHAPE, 10, 4, SCALE))


def test_shares_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="share must lie between"):
        TrapWeights(share=1.0)
