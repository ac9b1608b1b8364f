"""The closed form: exact for one image, and what batches leave of it."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsec.attacks.analytic import Analytic
from fedsec.data import load
from fedsec.errors import InputError
from fedsec.models import build
from fedsec.threat import LocalSteps, Observation, PixelScale, Reconstruction

SHAPE = (1, 8, 8)


def digits(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    split = load("digits").test
    chosen = torch.randperm(len(split.images), generator=torch.Generator().manual_seed(seed))[:count]
    return split.images[chosen].float() / 255, split.labels[chosen]


def attack(model: nn.Module, images: Tensor, truth: Tensor, **known: Any) -> Reconstruction:
    scale = known.get("scale", PixelScale())
    loss = F.cross_entropy(model(scale.apply(images)), truth)
    gradient = torch.autograd.grad(loss, list(model.parameters()))
    shape = tuple(images.shape[1:])
    observation = Observation.of_gradient(
        model, gradient, input_shape=shape, num_classes=10, batch_size=len(images), **known
    )
    return Analytic().reconstruct(observation)


@pytest.mark.parametrize("name", ["mlp", "logistic"])
@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh"])
@pytest.mark.parametrize("scale", [PixelScale(), PixelScale((0.2,), (0.35,))])
def test_one_image_is_exact(name: str, activation: str, scale: PixelScale) -> None:
    torch.manual_seed(0)
    for seed in range(5):
        model = build(name, SHAPE, 10, **({"activation": activation} if name == "mlp" else {}))
        images, labels = digits(1, seed)
        result = attack(model, images, labels, scale=scale)
        assert result.images is not None
        assert result.labels is not None
        torch.testing.assert_close(result.images, images, atol=1e-5, rtol=0)
        assert torch.equal(result.labels, labels)
        assert result.notes == ()


def test_colors_and_a_scale_for_each() -> None:
    torch.manual_seed(0)
    images = torch.rand(1, 3, 5, 6)
    result = attack(
        build("mlp", (3, 5, 6), 10), images, torch.tensor([4]), scale=PixelScale((0.5, 0.4, 0.3), (0.2, 0.3, 0.1))
    )
    torch.testing.assert_close(result.images, images, atol=1e-5, rtol=0)


def test_wide_networks_hand_out_a_batch() -> None:
    torch.manual_seed(1)
    images, labels = digits(4, 3)
    result = attack(build("mlp", SHAPE, 10, hidden=(512,)), images, labels)
    assert result.images is not None
    assert result.notes[0].startswith("4 of 4 images are what several neurons agree on")
    errors = (result.images[:, None] - images[None]).square().flatten(2).mean(2)
    assert float(errors.min(0).values.max()) < 1e-8
    assert errors.argmin(0).unique().numel() == 4


def test_linear_models_give_each_label_its_row() -> None:
    images, labels = digits(40)
    chosen = [int((labels == label).nonzero()[0]) for label in (7, 0, 4)]
    images, labels = images[chosen], labels[chosen]
    result = attack(build("logistic", SHAPE, 10), images, labels, labels=labels)
    assert result.images is not None
    assert result.labels is not None
    assert torch.equal(result.labels, labels)
    assert "mixtures" in result.notes[0]
    # At zero weights every posterior is 1/10: nine parts of the image, minus one of each other image.
    others = images.sum(0, keepdim=True) - images
    torch.testing.assert_close(result.images, ((9 * images - others) / 7).clamp(0, 1), atol=1e-4, rtol=0)


def test_local_steps_are_approximate() -> None:
    torch.manual_seed(0)
    images, labels = digits(1)
    model = build("mlp", SHAPE, 10)
    trained = build("mlp", SHAPE, 10)
    trained.load_state_dict(model.state_dict())
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.01)
    for _ in range(5):
        optimizer.zero_grad()
        F.cross_entropy(trained(images), labels).backward()
        optimizer.step()
    after = dict(trained.named_parameters())
    update = {name: after[name].detach() - before for name, before in model.named_parameters()}
    observation = Observation(model, update, SHAPE, 10, 1, local=LocalSteps(lr=0.01, steps=5))
    result = Analytic().reconstruct(observation)
    torch.testing.assert_close(result.images, images, atol=1e-3, rtol=0)
    assert "approximate" in result.notes[0]


def test_more_images_than_neurons() -> None:
    torch.manual_seed(0)
    images, labels = digits(12)
    result = attack(build("mlp", SHAPE, 10, hidden=(4,)), images, labels)
    assert result.images is not None
    assert result.images.shape == images.shape


def test_a_first_layer_without_gradient_gives_gray() -> None:
    model = build("mlp", SHAPE, 10)
    update = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    update["layers.3.bias"][0] = 1.0  # otherwise there would be nothing to attack
    result = Analytic().reconstruct(Observation(model, update, SHAPE, 10, 2))
    assert result.images is not None
    assert bool((result.images == 0.5).all())
    assert "nothing can be recovered" in result.notes[0]


def test_without_a_last_linear_layer_there_are_no_labels() -> None:
    torch.manual_seed(0)
    images, labels = digits(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Tanh())
    result = attack(model, images, labels)
    assert result.labels is None
    torch.testing.assert_close(result.images, images, atol=1e-5, rtol=0)


def test_refusals() -> None:
    images, labels = digits(1)
    with pytest.raises(InputError, match="first layer is linear"):
        attack(build("cnn", SHAPE, 10), images, labels)
    with pytest.raises(InputError, match=r"the update has no '1\.bias'"):
        attack(nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False)), images, labels)
