"""Linear decoders of one image from the gradient of a batch, and the best one for a model in closed form.

An image has a *property*: it is of a class, and at least so bright. Of a sum of gradients, one of an image x that has
the property and those of `others` images that do not, a decoder W, b sees some coordinates:

    W (g(x) + sum_i g_i) + b

With independent images its mean squared error is a quadratic in W, and the least of it that of a Wiener filter,

    W = Cov(x, g(x)) (Cov(g(x)) + others Cov(g_i) + ridge)^-1

which projects the others' gradients to next to nothing and reads the image from what is left.

Reference: Garov et al., ICLR 2024, arXiv:2306.03013 (disaggregation and reconstruction, both linear).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from fedsec.errors import InputError
from fedsec.threat import PixelScale

__all__ = ["CoordinateGradients", "ImageProperty", "SecretDecoder", "secret_coordinates", "wiener_filter"]

_AT_ONCE = 128
"""Examples whose gradients are held at the same time."""


@dataclass(frozen=True)
class ImageProperty:
    """What one image of a batch should have, and no other.

    Args:
        label: its class.
        brightness: that it has at least, as a mean over pixels in [0, 1].
    """

    label: int
    brightness: float

    @classmethod
    def shared_by(
        cls, share: float, label: int, images: Float[Tensor, "images channels height width"], labels: Tensor
    ) -> "ImageProperty":
        """The one that a share of images has, or all images of the class where they are fewer.

        Args:
            share: of all images.
            label: of the class.
            images: of which the shares are taken.
            labels: their classes.

        Raises:
            InputError: no image is of the class.
        """
        own = labels == label
        if not bool(own.any()):
            raise InputError(f"none of the {len(labels)} auxiliary images is of class {label}")
        of_class = min(1.0, share / float(own.double().mean()))
        levels = brightness(images[own])
        return cls(label, 0.0 if of_class == 1 else float(levels.quantile(1 - of_class)))

    def holds(self, images: Float[Tensor, "images channels height width"], labels: Tensor) -> Bool[Tensor, "images"]:
        """Which images have it."""
        return (labels == self.label) & (brightness(images) >= self.brightness)


def brightness(images: Float[Tensor, "images channels height width"]) -> Float[Tensor, "images"]:
    """Mean over an image's pixels."""
    return images.flatten(1).mean(1)


def secret_coordinates(model: nn.Module, most: int, *, generator: torch.Generator) -> dict[str, Int64[Tensor, "_"]]:
    """Coordinates of the gradient drawn at random, by parameter: all of small ones, and as many of each large one.

    Args:
        model: whose trainable parameters these are.
        most: coordinates in all.
        generator: draws them.
    """
    sizes = {name: row.numel() for name, row in model.named_parameters() if row.requires_grad}
    left, places = most, dict[str, Tensor]()
    for number, name in enumerate(sorted(sizes, key=lambda name: sizes[name])):
        count = min(sizes[name], max(1, left // (len(sizes) - number)))
        places[name] = torch.randperm(sizes[name], generator=generator)[:count].sort().values
        left -= count
    return places


class CoordinateGradients:
    """Gradients of single images at some coordinates, which may be differentiated again.

    Args:
        model: without normalization over the batch.
        scale: how pixels become its input.
        coordinates: of each parameter.
    """

    def __init__(self, model: nn.Module, scale: PixelScale, coordinates: Mapping[str, Int64[Tensor, "_"]]) -> None:
        self.model, self.scale, self.coordinates = model, scale, coordinates
        self.buffers = dict(model.named_buffers())

    def __call__(
        self,
        parameters: Mapping[str, Tensor],
        images: Float[Tensor, "images channels height width"],
        labels: Int64[Tensor, "images"],
    ) -> Float[Tensor, "images coordinates"]:
        """A row for each image.

        Args:
            parameters: of the model.
            images: in [0, 1].
            labels: their classes.
        """

        def loss(trained: dict[str, Tensor], entered: Tensor, label: Tensor) -> Tensor:
            logits = functional_call(self.model, {**parameters, **trained, **self.buffers}, (entered[None],))
            return F.cross_entropy(logits, label[None])

        trained = {name: parameters[name] for name in self.coordinates}
        gradients = vmap(grad(loss), (None, 0, 0))(trained, self.scale.apply(images), labels)
        return self.joined(gradients, examples=len(images))

    def joined(self, gradients: Mapping[str, Tensor], examples: int) -> Float[Tensor, "images coordinates"]:
        """The coordinates of gradients by parameter, one after the other."""
        return _joined(gradients, self.coordinates, examples)

    @torch.no_grad()
    def detached(self, images: Tensor, labels: Tensor) -> Float[Tensor, "images coordinates"]:
        """Those of the model as it is, some images at a time."""
        held = {name: row.detach() for name, row in self.model.named_parameters()}
        parts = zip(torch.split(images, _AT_ONCE), torch.split(labels, _AT_ONCE), strict=True)
        return torch.cat([self(held, some, of) for some, of in parts])


@dataclass(frozen=True, eq=False)
class SecretDecoder:
    """Reads the image that has the property from the gradient of a batch.

    Args:
        coordinates: that it looks at, by parameter.
        weight: of the disaggregator and the reconstructor, which are linear both, and so one matrix.
        bias: of the reconstructor.
        image_property: of the image.
        others: how many images without it it was made for.
        length: of the sum of a batch's gradients at the coordinates, as the server expects it.
    """

    coordinates: Mapping[str, Int64[Tensor, "_"]]
    weight: Float[Tensor, "pixels coordinates"]
    bias: Float[Tensor, "pixels"]
    image_property: ImageProperty
    others: int
    length: float

    def __call__(self, summed: Mapping[str, Tensor], *, rescaled: bool = False) -> Float[Tensor, "pixels"]:
        """The pixels of the image, not yet cut to [0, 1].

        Args:
            summed: the sum of the images' gradients, by parameter.
            rescaled: whether its length says nothing; the expected one takes its place.
        """
        row = _joined({name: part[None] for name, part in summed.items()}, self.coordinates, 1)[0].to(self.weight)
        if rescaled:
            row = row * self.length / row.norm().clamp_min(torch.finfo(row.dtype).tiny)
        return self.weight @ row + self.bias


def wiener_filter(
    gradients: Float[Tensor, "images coordinates"],
    images: Float[Tensor, "images pixels"],
    noise: Float[Tensor, "others coordinates"],
    others: float,
    ridge: float = 1e-3,
) -> tuple[Float[Tensor, "pixels coordinates"], Float[Tensor, "pixels"]]:
    """The linear decoder with the least mean squared error.

    Args:
        gradients: of images that have the property.
        images: the same ones, flat.
        noise: gradients of images that do not.
        others: how many of these are in a sum with one of the former.
        ridge: added to the covariance's diagonal, in parts of its mean.

    Returns:
        Weight and bias.
    """
    own, other, pixels = gradients.double(), noise.double(), images.double()
    mean, mean_noise, mean_pixels = own.mean(0), other.mean(0), pixels.mean(0)
    own, other, pixels = own - mean, other - mean_noise, pixels - mean_pixels
    covariance = own.T @ own / len(own) + others * (other.T @ other) / len(other)
    covariance.diagonal().add_(ridge * covariance.diagonal().mean().clamp_min(torch.finfo(torch.float64).tiny))
    weight = torch.linalg.solve(covariance, own.T @ pixels / len(own)).T
    bias = mean_pixels - weight @ (mean + others * mean_noise)
    return weight.to(gradients), bias.to(gradients)


def _joined(
    gradients: Mapping[str, Tensor], coordinates: Mapping[str, Int64[Tensor, "_"]], examples: int
) -> Float[Tensor, "images coordinates"]:
    return torch.cat([gradients[name].reshape(examples, -1)[:, places] for name, places in coordinates.items()], 1)
