"""Fishing: what is left of a batch's gradient is that of the images of one class."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsec.attacks.fishing import Fishing
from fedsec.errors import InputError
from fedsec.models import build
from fedsec.testing.checks import pictures
from fedsec.threat import Distortion, Observation, ServerView

SHAPE = (1, 16, 16)


def batch() -> tuple[Tensor, Tensor]:
    images = pictures(6, "cpu")[0] + 0.05 * torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(0))
    return images.clamp(0, 1), torch.tensor([4, 1, 3, 0, 9, 4])


def network(activation: str = "sigmoid") -> nn.Module:
    torch.manual_seed(0)
    return build("cnn", SHAPE, 10, channels=(6, 6), activation=activation, init="uniform")


def gradient(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    rows = torch.autograd.grad(F.cross_entropy(model(images), labels), list(model.parameters()))
    return dict(zip(dict(model.named_parameters()), rows, strict=True))


@pytest.mark.parametrize("target", [3, 4])
def test_the_body_s_gradient_is_that_of_the_target_s_images_alone(target: int) -> None:
    images, labels = batch()
    model = Fishing(target_class=target).craft(ServerView(network("relu"), SHAPE, 10, 6))
    whole, own = gradient(model, images, labels), labels == target
    alone = gradient(model, images[own], labels[own])
    for name, row in whole.items():
        if not name.startswith("classifier"):
            torch.testing.assert_close(row, alone[name] * own.double().mean().float(), rtol=1e-3, atol=1e-6)
    assert float(whole["classifier.bias"][target]) == pytest.approx(-float(own.double().mean()))


def test_a_feature_s_threshold_lets_few_images_of_one_class_through() -> None:
    images = torch.rand(40, *SHAPE, generator=torch.Generator().manual_seed(1))
    server = Fishing(target_class=2, variant="feature")
    model = server.craft(ServerView(network("relu"), SHAPE, 10, 40, auxiliary=images))
    share = model(images).softmax(1)[:, 2]
    assert 1 <= int((share < 0.5).sum()) <= 3


def test_a_feature_is_chosen_from_a_single_auxiliary_image_as_well() -> None:
    images, labels = batch()
    view = ServerView(network(), SHAPE, 10, 8, auxiliary=images[:1], auxiliary_labels=labels[:1])
    crafted = Fishing(target_class=int(labels[0]), variant="feature").craft(view)
    assert all(bool(weight.isfinite().all()) for weight in crafted.parameters())


def test_one_image_of_the_batch_is_recovered_and_the_count_is_told() -> None:
    images, labels = batch()
    server = Fishing(target_class=3, iterations=150, tv=1e-3)
    model = server.craft(ServerView(network(), SHAPE, 10, 6))
    rows = gradient(model, images, labels)
    seen = Observation.of_gradient(model, rows, input_shape=SHAPE, num_classes=10, batch_size=6)
    result = server.reconstruct(seen)
    assert result.images is not None
    assert result.notes[0].startswith("1 of 6 images are of class 3")
    error, gray = ((part - images[2]).square().mean() for part in (result.images[0], torch.full(SHAPE, 0.5)))
    assert float(error) < 0.2 * float(gray)
    assert bool((result.images[1:] == 0.5).all())


def test_where_nobody_has_the_target_nothing_is_left() -> None:
    images, labels = batch()
    server = Fishing(target_class=7)
    model = server.craft(ServerView(network(), SHAPE, 10, 6))
    seen = Observation.of_gradient(
        model, gradient(model, images, labels), input_shape=SHAPE, num_classes=10, batch_size=6
    )
    result = server.reconstruct(seen)
    assert "no image of class 7" in result.notes[0]


def test_what_cannot_be_fished_for_is_refused() -> None:
    with pytest.raises(InputError, match="target_class 12 is no class of 10"):
        Fishing(target_class=12).craft(ServerView(network(), SHAPE, 10, 6))
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 10), nn.ReLU())
    with pytest.raises(InputError, match="ends in a linear layer with a bias"):
        Fishing().craft(ServerView(model, SHAPE, 10, 6))
    with pytest.raises(InputError, match="variant must be"):
        Fishing(variant="all")  # type: ignore[arg-type]


@pytest.mark.parametrize("granted", [False, True])
@pytest.mark.parametrize(
    "labels",
    [[3, 1, 2, 5], [3, 3, 1, 2], [3, 1, 1, 1], [0, 1, 1, 2], [3, *[label for label in range(10) if label != 3] * 3]],
)
def test_how_many_images_are_left_is_told_of_a_clipped_gradient_as_well(labels: list[int], granted: bool) -> None:
    """Clipping hides the length of the bias' gradient; that numbers of images are whole tells it."""
    images, batch_size = torch.rand(len(labels), *SHAPE, generator=torch.Generator().manual_seed(0)), len(labels)
    server = Fishing(target_class=3, iterations=1)
    model = server.craft(ServerView(network(), SHAPE, 10, batch_size))
    rows = {name: 0.01 * row for name, row in gradient(model, images, torch.tensor(labels)).items()}
    seen = Observation.of_gradient(model, rows, input_shape=SHAPE, num_classes=10, batch_size=batch_size)
    known = torch.tensor(labels) if granted else None
    note = server.reconstruct(replace(seen, distortion=Distortion(rescaled=True), labels=known)).notes[0]
    count = labels.count(3)
    assert note.startswith(f"{count} of {batch_size} images" if count else "no image of class 3"), note


def test_of_a_clipped_gradient_that_a_threshold_left_one_image_is_assumed() -> None:
    images = torch.rand(40, *SHAPE, generator=torch.Generator().manual_seed(1))
    server = Fishing(target_class=2, variant="feature", iterations=1)
    model = server.craft(ServerView(network("relu"), SHAPE, 10, 40, auxiliary=images))
    rows = {name: 0.1 * row for name, row in gradient(model, images, torch.full((40,), 2)).items()}
    seen = Observation.of_gradient(model, rows, input_shape=SHAPE, num_classes=10, batch_size=40)
    result = server.reconstruct(replace(seen, distortion=Distortion(rescaled=True)))
    assert result.notes[0].startswith("1 of 40 images")
