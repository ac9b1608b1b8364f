"""Robbing the Fed: images of large batches, exactly, whatever model stands behind the layer."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsec.attacks.imprint import Imprint, ImprintedModel, bin_edges, brightness
from fedsec.data.normalization import normalization
from fedsec.defenses import ClipUpdate
from fedsec.errors import InputError
from fedsec.inversion.client import observe
from fedsec.models import build
from fedsec.threat import LocalSteps, Observation, PixelScale, Reconstruction, ServerView

SHAPE = (3, 8, 8)


def pictures(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images in 0..255 of different brightness, and labels."""
    generator = torch.Generator().manual_seed(seed)
    levels = torch.linspace(0.2, 0.8, count)[torch.randperm(count, generator=generator)]
    noise = torch.rand(count, *SHAPE, generator=generator) - 0.5
    noise = noise - noise.mean((1, 2, 3), keepdim=True)
    images = (levels[:, None, None, None] + 0.35 * noise).mul(255).round().to(torch.uint8)
    return images, torch.randint(10, (count,), generator=generator)


def attack(images: Tensor, labels: Tensor, server: Imprint, model: nn.Module, **work: Any) -> Reconstruction:
    """What the server recovers of a client that works on the crafted model."""
    scale, local = PixelScale((0.5,), (0.5,)), work.get("local")
    view = ServerView(model, SHAPE, 10, len(images), scale, local, pictures(200, 9)[0].float() / 255)
    observation = observe(
        server.craft(view),
        images,
        labels,
        num_classes=10,
        normalization=normalization("half"),
        generator=torch.Generator().manual_seed(1),
        **work,
    )
    return server.reconstruct(observation)


def network(name: str = "cnn", **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return build(name, SHAPE, 10, **options)


def exact(result: Reconstruction, images: Tensor) -> list[int]:
    """For each original the reconstruction that rounds to it, pixel by pixel; -1 without one."""
    assert result.images is not None
    rounded = result.images.mul(255).round()
    same = (rounded[None] == images[:, None]).flatten(2).all(2)
    return [int(row.nonzero()[0]) if bool(row.any()) else -1 for row in same]


@pytest.mark.parametrize("variant", ["sparse", "cumulative"])
@pytest.mark.parametrize("name", ["cnn", "mlp"])
def test_a_batch_comes_back_with_its_labels(variant: Any, name: str) -> None:
    images, labels = pictures(24)
    result = attack(images, labels, Imprint(bins=400, variant=variant), network(name))
    places = exact(result, images)
    assert places.count(-1) <= 2
    assert result.labels is not None
    for place, label in zip(places, labels.tolist(), strict=True):
        assert place < 0 or int(result.labels[place]) == label
    confirmed = int(result.notes[1].partition(" of 24 images left exactly")[0])
    assert 24 - places.count(-1) - 1 <= confirmed <= 24 - places.count(-1)


def test_images_of_one_bin_are_a_mixture_that_is_told_from_an_image() -> None:
    images, labels = pictures(2)
    images[1] = images[0].flip(2)  # as bright
    result = attack(images, labels, Imprint(bins=16), network())
    assert exact(result, images) == [-1, -1]
    assert "0 of 2 images left exactly" in result.notes[1]
    assert result.images is not None
    span = images.float().sub(images[1].float()).flatten(1)[0]
    off = (result.images[0].mul(255) - images[1]).flatten()
    share = off @ span / (span @ span)
    torch.testing.assert_close(off, share * span, atol=0.5, rtol=0)  # on the line between them


def test_normalized_batches_have_images_and_no_labels_of_their_own() -> None:
    images, labels = pictures(12)
    result = attack(images, labels, Imprint(bins=400), network("resnet4", norm="bn"))
    assert exact(result, images).count(-1) <= 1
    assert "labels and images are not in the same order" in result.notes


@pytest.mark.parametrize("local", [LocalSteps(0.05, 1), LocalSteps(0.05, 6, 8), LocalSteps(0.05, 9, 8)])
def test_local_training_leaves_multiples_of_images(local: LocalSteps) -> None:
    images, labels = pictures(24)
    places = exact(attack(images, labels, Imprint(bins=400), network(), local=local), images)
    assert places.count(-1) <= 5


def test_bins_of_the_first_variant_run_into_each_other_in_local_training() -> None:
    images, labels = pictures(24)
    local = LocalSteps(0.05, 9, 8)
    server = Imprint(bins=400, variant="cumulative")
    assert exact(attack(images, labels, server, network(), local=local), images).count(-1) > 12


def test_clipping_hides_nothing() -> None:
    images, labels = pictures(24)
    result = attack(images, labels, Imprint(bins=400), network(), defense=ClipUpdate(max_norm=1e-3))
    assert exact(result, images).count(-1) <= 2
    assert result.labels is not None
    assert torch.equal(result.labels.sort().values, labels.sort().values)


def test_amplification_changes_gradients_and_nothing_else() -> None:
    images, labels = pictures(6)
    view = ServerView(network(), SHAPE, 10, 6)
    quiet, loud = (Imprint(bins=32, amplification=factor).craft(view) for factor in (1.0, 64.0))
    inputs = images.float() / 255
    torch.testing.assert_close(quiet(inputs), loud(inputs), atol=1e-4, rtol=0)
    rows = [
        torch.autograd.grad(F.cross_entropy(model(inputs), labels), model.get_parameter("bins.weight"))[0]
        for model in (quiet, loud)
    ]
    torch.testing.assert_close(64 * rows[0], rows[1], rtol=0.05, atol=1e-3 * float(rows[1].abs().max()))


def test_the_model_behind_the_layer_answers_as_before() -> None:
    model, (images, _) = network(), pictures(6)
    crafted = Imprint(bins=32).craft(ServerView(model, SHAPE, 10, 6))
    inputs = images.float() / 255
    torch.testing.assert_close(crafted(inputs), model(inputs), atol=0.02, rtol=0)
    assert isinstance(crafted, ImprintedModel)


def test_bins_are_hit_equally_often_and_hold_everything() -> None:
    images = pictures(1000)[0].float() / 255
    edges = bin_edges(images, 50)
    assert bool((edges.diff() > 0).all())
    counts = torch.histogram(images.double().flatten(1).mean(1), edges).hist
    assert counts.sum() == 1000
    assert float(counts.max()) <= 25
    for alike in (torch.zeros(9, *SHAPE), torch.ones(9, *SHAPE)):
        edges = bin_edges(alike, 40)
        assert bool((edges.diff() > 0).all())
        assert float(edges[0]) < 0
        assert float(edges[-1]) > 1


@pytest.mark.parametrize("scale", [PixelScale(), PixelScale((0.1, 0.5, 0.3), (0.2, 0.3, 0.9))])
def test_brightness_is_that_of_the_pixels(scale: PixelScale) -> None:
    images = pictures(5)[0].double() / 255
    direction, offset = brightness(scale, SHAPE)
    torch.testing.assert_close(scale.apply(images).flatten(1) @ direction + offset, images.flatten(1).mean(1))


def test_another_model_s_gradient_is_refused() -> None:
    model = network()
    gradient = [torch.ones_like(parameter) for parameter in model.parameters()]
    observation = Observation.of_gradient(model, gradient, input_shape=SHAPE, num_classes=10, batch_size=2)
    with pytest.raises(InputError, match="the model that it crafted"):
        Imprint().reconstruct(observation)


@pytest.mark.parametrize("options", [{"bins": 1}, {"variant": "both"}, {"gain": 0.0}, {"amplification": -1.0}])
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="Imprint: "):
        Imprint(**options)
