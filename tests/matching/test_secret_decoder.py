"""Linear decoders of one image from the gradient of a batch."""

import torch
import torch.nn.functional as F
from torch import nn

from fedsec.matching.secret_decoder import CoordinateGradients, ImageProperty, secret_coordinates, wiener_filter
from fedsec.threat import PixelScale


def test_the_filter_has_the_least_error_on_sums_of_gradients() -> None:
    draw = torch.Generator().manual_seed(0)
    pixels = torch.rand(400, 3, generator=draw, dtype=torch.float64)
    own = pixels @ torch.randn(3, 6, generator=draw, dtype=torch.float64) + 1
    noise = torch.randn(400, 2, generator=draw, dtype=torch.float64) @ torch.randn(2, 6, generator=draw).double() + 0.5
    weight, bias = wiener_filter(own, pixels, noise, 7, ridge=1e-9)

    def error(weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """Over all pairs of an image and the expected sum of seven independent others, written out."""
        mean, spread = noise.mean(0), noise - noise.mean(0)
        centered = (own + 7 * mean) @ weight.T + bias - pixels
        return centered.square().sum(1).mean() + 7 * (spread @ weight.T).square().sum(1).mean()

    parts = [weight.clone().requires_grad_(), bias.clone().requires_grad_()]
    slopes = torch.autograd.grad(error(*parts), parts)
    assert max(float(slope.abs().max()) for slope in slopes) < 1e-6
    assert error(weight, bias) < error(*wiener_filter(own, pixels, noise, 0, ridge=1e-9))
    # Of the two directions of the noise nothing is left, and the image is.
    assert (noise - noise.mean(0)).matmul(weight.T).abs().max() < 1e-3
    assert ((own + 7 * noise.mean(0)) @ weight.T + bias - pixels).abs().max() < 1e-3


def test_gradients_are_those_of_single_images() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
    images, labels, scale = torch.rand(5, 1, 4, 4), torch.tensor([0, 1, 2, 0, 1]), PixelScale((0.5,), (0.25,))
    coordinates = secret_coordinates(model, 20, generator=torch.Generator().manual_seed(1))
    assert {name: len(places) for name, places in coordinates.items()} == {
        "0.weight": 7,
        "0.bias": 2,
        "3.weight": 8,
        "3.bias": 3,
    }
    rows = CoordinateGradients(model, scale, coordinates).detached(images, labels)
    named = dict(model.named_parameters())
    for row, image, label in zip(rows, images, labels, strict=True):
        loss = F.cross_entropy(model((image[None] - 0.5) / 0.25), label[None])
        gradient = dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))
        expected = torch.cat([gradient[name].flatten()[places] for name, places in coordinates.items()])
        torch.testing.assert_close(row, expected)


def test_a_property_is_shared_by_as_many_images_as_asked() -> None:
    images = torch.arange(1, 41).view(40, 1, 1, 1) / 40 * torch.ones(1, 1, 2, 2)
    labels = torch.arange(40) % 4
    wanted = ImageProperty.shared_by(1 / 8, 2, images, labels)
    has = wanted.holds(images, labels)
    assert has.nonzero()[:, 0].tolist() == [22, 26, 30, 34, 38]
    # A class that is rarer than that has it as a whole.
    assert int(ImageProperty.shared_by(1 / 2, 2, images, labels).holds(images, labels).sum()) == 10
