"""SEER: a model that was trained together with a secret decoder, which reads one image from the gradient of a batch.

Garov, Dimitrov, Jovanovic, Vechev, Hiding in plain sight: disguising data stealing attacks in federated learning, ICLR
2024, arXiv:2306.03013. Deviations, by which seconds on a CPU do: the property is a class and a brightness (the paper:
brightness or color alone, in training without labels), since a linear decoder of one class's gradients need not undo
the label's sign; disaggregator and reconstructor, both linear in the paper's code, are one matrix, which begins and
ends as the best one in closed form; the error of a sum of many images is the expectation over independent ones instead
of a sample of batches; no batch normalization, by which the paper finds the brightest image of each batch.
"""

import hashlib
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fedsec.errors import InputError
from fedsec.matching.row_images import filled
from fedsec.matching.secret_decoder import (
    CoordinateGradients,
    ImageProperty,
    SecretDecoder,
    brightness,
    secret_coordinates,
    wiener_filter,
)
from fedsec.threat import MaliciousServer, Observation, Reconstruction, ServerView
from fedsec.threat.inversion import Watch

__all__ = ["Seer"]

_OWN, _OTHERS, _FITTED = 32, 64, 1500
"""Images of a training step that have the property, those that have not, and of each for the decoder in closed form."""
_MODEL_RATE, _DECODER_RATE = 3e-3, 3e-4
_FIRST = 0.02
"""Weight of the others' error at the beginning; it grows to 1 over the first part of the steps."""
_GROWING = 0.6
_BLENDED = 0.3
"""Share of training images that are blends of two, so that the decoder learns pixels and not pictures."""

_ENOUGH = 0.75
"""Of the greatest probability that one image of a batch has the property: with this much of it, the class is all."""


class Seer(MaliciousServer):
    """Trains the model that it sends together with a decoder that stays with the server.

    One image of the B should have a property: it is of the target class, and, where that is too frequent, brighter than
    a threshold set on auxiliary images. Of the sum of a batch's gradients g, at coordinates drawn at random, the
    decoder W, b makes W sum_i g_i + b. Model and decoder minimize

        E |W g(x) + b + (B - 1) W mu - x|^2 + a (B - 1) tr(W Cov(g_i) W^T)

    over images x that have the property and others i with mean gradient mu: what x leaves is the image, and what the
    B - 1 others leave is next to nothing. The factor a grows to 1, since a decoder that is to null first learns nothing
    else. No weight is set by hand. The decoder cannot be told from the model, so that the object that made the model
    has to read the update.

    Args:
        target_class: its number; null: one of those that auxiliary images have, drawn at random.
        share: of images that have the property; null: one in B, or the whole class, if it is at least three quarters as
            likely that exactly one image of a batch is of it.
        steps: of the joint training; 0 sends the honest model, with the best linear decoder for it.
        coordinates: of the gradient that the decoder looks at, at most.

    Raises:
        InputError: on use: no labeled auxiliary images, batch normalization, several local steps, only signs of the
            gradient were sent, or the model was made by another object.

    Cost:
        600 steps on 96 images each take some 10 seconds for digits and mlp. Memory: coordinates times pixels.

    Limits:
        One image of a batch, if exactly one has the property, which of large batches is so in 37%; a blurred image, not
        the exact one. Several steps of local training are refused. Networks with convolutions on images of 32x32 take
        about a second a step.

    Example:
        steps: 20

    Reference: Garov et al., ICLR 2024, arXiv:2306.03013
    """

    needs_auxiliary = True

    def __init__(
        self,
        target_class: int | None = None,
        share: float | None = None,
        steps: int = 600,
        coordinates: int = 2048,
    ) -> None:
        if share is not None and not 0 < share < 1:
            raise InputError(f"Seer: share must lie between 0 and 1, got {share}")
        if target_class is not None and target_class < 0:
            raise InputError(f"Seer: target_class must be 0 or more, got {target_class}")
        if steps < 0 or coordinates < 1:
            raise InputError(f"Seer: expected steps from 0 and coordinates from 1, got {steps} and {coordinates}")
        self.target_class, self.share, self.steps, self.coordinates = target_class, share, steps, coordinates
        self._decoders: dict[str, SecretDecoder] = {}

    def build(self, view: ServerView, *, generator: torch.Generator) -> nn.Module:
        images, labels = _auxiliary(view)
        _check(view)
        model = deepcopy(view.model)
        modes = {name: module.training for name, module in model.named_modules()}
        model.eval()
        pictures = _Pictures.of(images, labels, self._property(view, images, labels, generator), generator)
        coordinates = secret_coordinates(model, self.coordinates, generator=generator)
        places = {name: place.to(images.device) for name, place in coordinates.items()}
        decoder = _trained(
            CoordinateGradients(model, view.scale, places), pictures, others=view.summed - 1, steps=self.steps
        )
        for name, module in model.named_modules():
            module.training = modes[name]
        self._decoders[_fingerprint(model)] = decoder
        return model

    def _property(self, view: ServerView, images: Tensor, labels: Tensor, generator: torch.Generator) -> ImageProperty:
        target = self.target_class
        if target is None:
            known = labels.bincount().nonzero()[:, 0]
            target = int(known[torch.randint(len(known), (), generator=generator)])
        elif target >= view.num_classes:
            raise InputError(f"seer: target_class {target} is no class of {view.num_classes}")
        share, frequency = self.share, float((labels == target).double().mean())
        if share is None:
            whole_class = _single(frequency, view.summed) >= _ENOUGH * _single(1 / view.summed, view.summed)
            share = 1.0 if whole_class else 1 / view.summed
        return ImageProperty.shared_by(share, target, images, labels)

    def recover(
        self, observations: Sequence[Observation], *, generator: torch.Generator, watch: Watch
    ) -> Sequence[Reconstruction]:
        return [self._one(observation) for observation in observations]

    def _one(self, observation: Observation) -> Reconstruction:
        decoder = self._decoders.get(_fingerprint(observation.model))
        if decoder is None:
            raise InputError(
                "seer: the decoder of this model is not here; expected the same Seer object that made the model"
            )
        distortion = observation.distortion
        if observation.local is not None or (distortion is not None and distortion.signs):
            got = "several local steps" if observation.local is not None else "signs"
            raise InputError(f"seer: the decoder reads the gradient of one step, got {got}")
        factor = observation.batch_size if observation.reduction == "mean" else 1
        summed = {name: factor * row for name, row in observation.gradient.items()}
        pixels = decoder(summed, rescaled=distortion is not None and distortion.rescaled)
        wanted = decoder.image_property
        notes = (
            f"one image, of class {wanted.label} and a brightness of {wanted.brightness:.3f} or more, if the batch has "
            "exactly one such; the others are gray",
        )
        return Reconstruction(filled(observation, [pixels.view(observation.input_shape)]), None, notes=notes)


@dataclass(frozen=True, eq=False)
class _Pictures:
    """Draws images that have the property, and images that have not.

    Args:
        images: that the server has.
        labels: their classes.
        wanted: the property.
        own: which images have it.
        generator: draws.
    """

    images: Float[Tensor, "images channels height width"]
    labels: Int64[Tensor, "images"]
    wanted: ImageProperty
    own: Int64[Tensor, "own"]
    others: Int64[Tensor, "others"]
    generator: torch.Generator

    @classmethod
    def of(cls, images: Tensor, labels: Tensor, wanted: ImageProperty, generator: torch.Generator) -> "_Pictures":
        has = wanted.holds(images, labels)
        if not bool(has.any()) or bool(has.all()):
            raise InputError(
                f"seer: {int(has.sum())} of {len(has)} auxiliary images are of class {wanted.label} and bright enough; "
                "expected some that are and some that are not"
            )
        return cls(images, labels, wanted, has.nonzero()[:, 0], (~has).nonzero()[:, 0], generator)

    def with_property(self, count: int) -> tuple[Tensor, Tensor]:
        """Images that have it: some as they are, and others of any class, as bright as one of them."""
        real = self.images[self.own[self._drawn(len(self.own), count)]]
        varied = self.images[self._drawn(len(self.images), count)]
        varied = torch.where(self._chance(_BLENDED, count), self._blended(varied), varied)
        ratio = brightness(real) / brightness(varied).clamp_min(1e-3)
        varied = (varied * ratio[:, None, None, None]).clamp(0, 1)
        bright = (brightness(varied) >= self.wanted.brightness)[:, None, None, None]
        images = torch.where(bright & self._chance(0.9, count), varied, real)
        return images, torch.full((count,), self.wanted.label, device=images.device)

    def without(self, count: int) -> tuple[Tensor, Tensor]:
        """Images that do not have it, as they are."""
        chosen = self.others[self._drawn(len(self.others), count)]
        return self.images[chosen], self.labels[chosen]

    def _blended(self, images: Tensor) -> Tensor:
        """Each with another one in a part of the picture, mirrored by chance, and noise."""
        count, size = len(images), images.shape[-2:]
        other = self.images[self._drawn(len(self.images), count)]
        for axis in (2, 3):
            images = torch.where(self._chance(0.5, count), images.flip(axis), images)
            other = torch.where(self._chance(0.5, count), other.flip(axis), other)
        other = other + 0.2 * torch.randn(other.shape, generator=self.generator).to(other)
        coarse = torch.rand(count, 1, 3, 3, generator=self.generator).to(images)
        mask = (6 * F.interpolate(coarse, size=size, mode="bilinear") - 2.5).clamp(0, 1)
        return (mask * images + (1 - mask) * other).clamp(0, 1)

    def _drawn(self, size: int, count: int) -> Tensor:
        return torch.randint(size, (count,), generator=self.generator).to(self.images.device)

    def _chance(self, share: float, count: int) -> Tensor:
        return (torch.rand(count, generator=self.generator) < share).to(self.images.device)[:, None, None, None]


def _trained(gradients: CoordinateGradients, pictures: _Pictures, *, others: int, steps: int) -> SecretDecoder:
    """Train the model in place, and return the decoder that goes with it."""
    model = gradients.model
    parameters = dict(model.named_parameters())
    sample, labels = pictures.without(min(_FITTED, 256))
    unit = float(gradients.detached(sample, labels).square().mean().sqrt().clamp_min(1e-12))

    def fitted(noise: float) -> tuple[Tensor, Tensor]:
        (own, own_labels), (other, other_labels) = pictures.with_property(_FITTED), pictures.without(_FITTED)
        rows, noises = gradients.detached(own, own_labels) / unit, gradients.detached(other, other_labels) / unit
        return wiener_filter(rows, own.flatten(1), noises, noise * others)

    if steps:
        weight, bias = (part.requires_grad_() for part in fitted(_FIRST))
        trained = [row for name, row in parameters.items() if name in gradients.coordinates]
        optimizer = torch.optim.Adam(
            [{"params": trained, "lr": _MODEL_RATE}, {"params": [weight, bias], "lr": _DECODER_RATE}]
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, [_MODEL_RATE, _DECODER_RATE], total_steps=steps + 1, pct_start=0.1
        )
        for step in range(steps):
            growth = _FIRST ** (1 - min(1.0, step / (_GROWING * steps)))
            (own, own_labels), (other, other_labels) = pictures.with_property(_OWN), pictures.without(_OTHERS)
            rows = gradients(parameters, torch.cat([own, other]), torch.cat([own_labels, other_labels])) / unit
            read, noise = torch.split(rows @ weight.T, [_OWN, _OTHERS])
            mean = noise.mean(0)
            error = (read + growth * others * mean + bias - own.flatten(1)).square().mean()
            loss = error + growth * others * (noise - mean).square().mean()
            derivatives = torch.autograd.grad(loss, [*trained, weight, bias])
            for part, derivative in zip([*trained, weight, bias], derivatives, strict=True):
                part.grad = derivative
            torch.nn.utils.clip_grad_norm_([*trained, weight, bias], 1.0)
            optimizer.step()
            schedule.step()
        for row in parameters.values():
            row.grad = None
    weight, bias = fitted(1.0)
    sums = [gradients.detached(*pictures.without(others + 1)).sum(0).norm() for _ in range(8)]
    return SecretDecoder(
        gradients.coordinates, weight / unit, bias, pictures.wanted, others, float(torch.stack(sums).mean())
    )


def _single(share: float, batch_size: int) -> float:
    """The probability that exactly one image of a batch is among a share of all."""
    return batch_size * share * (1 - share) ** (batch_size - 1)


def _auxiliary(view: ServerView) -> tuple[Tensor, Tensor]:
    if view.auxiliary is None or view.auxiliary_labels is None:
        raise InputError(
            "seer trains its model on labeled images of the clients' kind; expected some, as --auxiliary 1000 or "
            "inversion.knowledge.auxiliary: 300 grants them"
        )
    like = next(view.model.parameters())
    return view.auxiliary.to(like), view.auxiliary_labels.to(like.device)


def _check(view: ServerView) -> None:
    if any(isinstance(module, _BatchNorm) for module in view.model.modules()):
        raise InputError("seer: gradients of single images mix in batch normalization; expected a model without it")
    if view.local is not None and view.local.steps > 1:
        raise InputError(
            f"seer: the decoder reads the gradient of one step, and clients train for {view.local.steps}; expected "
            "fedsgd, or one local step on all images"
        )


def _fingerprint(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for row in model.parameters():
        digest.update(row.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
