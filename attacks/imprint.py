"""Imprint: a layer in front of the model that sorts the images of a batch by brightness, each into its own gradient.

Fowl, Geiping, Czaja, Goldblum, Goldstein, Robbing the Fed: directly obtaining private data in federated learning with
modified models, ICLR 2022, arXiv:2110.13057. Deviations: the layer's output is added to the image along one pattern of
signs, in place of a second matrix as large as the first, whose columns are equal; its input is amplified, as in LOKI
(arXiv:2303.12233), and a constant among the inputs serves as its bias; labels and the check of each image are this
project's.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import deepcopy
from math import hypot
from statistics import NormalDist
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fedsec.errors import InputError
from fedsec.matching.row_images import LayerRows, filled
from fedsec.matching.row_labels import completed, identified
from fedsec.threat import MaliciousServer, Observation, PixelScale, Reconstruction, ServerView
from fedsec.threat.inversion import Watch

__all__ = ["Entrance", "Imprint", "ImprintedModel", "amplification", "recovered"]

_BRIGHTNESS = NormalDist(0.45, 0.15)
"""Of photographs, where the server has none to measure: the mean of all pixels, in [0, 1]."""
_NARROWEST = 1e-6
"""Width of a bin: a bin must not be empty."""
_LOUDNESS = 10.0
"""How much larger the layer's gradient is made than all others together, so that clipping leaves mostly it."""
_SHIFT = 0.05
"""How far local training may move a bin, in widths of one."""
_TRIAL = 16
"""Images on which the server tries how large gradients are."""


class Entrance(nn.Module, ABC):
    """What an imprint layer takes in of a batch of images."""

    @abstractmethod
    def amplify(self, factor: float) -> None:
        """Multiply all that is taken in."""


class ImprintedModel(nn.Module):
    """A model behind an imprint layer: image + pattern * gain / bins * sum_i activation(bin_i).

    Args:
        model: that goes on with the image.
        weight: of the layer, a row a bin: of the flattened input, and of a constant one.
        pattern: what a bin's activation adds to the image, flattened.
        gain: how much.
        sparse: whether a bin answers to its own images only, and not to all that are brighter.
        entrance: what stands between the images and the bins; None for the flattened image, and a constant behind it.
    """

    def __init__(
        self,
        model: nn.Module,
        weight: Float[Tensor, "bins inputs"],
        pattern: Float[Tensor, "pixels"],
        gain: float,
        *,
        sparse: bool,
        entrance: Entrance | None = None,
    ) -> None:
        super().__init__()
        bins, inputs = weight.shape
        pixels = len(pattern)
        # Empty first: a layer's own initialization would draw from the process's generator.
        self.bins = nn.Linear(inputs, bins, bias=False, device="meta").to_empty(device="cpu")
        self.activation = nn.Hardtanh(0.0, 1.0) if sparse else nn.ReLU()
        self.sum = nn.Linear(bins, 1, bias=False, device="meta").to_empty(device="cpu")
        self.spread = nn.Linear(1, pixels, bias=False, device="meta").to_empty(device="cpu")
        self.entrance, self.model = entrance, model
        self.amplification, self.constant = 1.0, pixels**0.5 / 2
        with torch.no_grad():
            self.bins.weight.copy_(weight)
            self.bins.weight[:, -(inputs // (pixels + 1)) :].div_(self.constant)  # a column for each constant
            self.sum.weight.fill_(gain / bins)
            self.spread.weight.copy_(pattern[:, None])

    def amplify(self, factor: float) -> None:
        """Multiply the layer's input, and divide its weight: gradients grow, and what is computed stays the same."""
        self.amplification *= factor
        if self.entrance is not None:
            self.entrance.amplify(factor)
        with torch.no_grad():
            self.bins.weight.div_(factor)

    @property
    def sparse(self) -> bool:
        """Whether a bin answers to its own images only."""
        return isinstance(self.activation, nn.Hardtanh)

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Logits of a batch of normalized images."""
        return self._logits(images, self._activated(images))

    def marked(self, images: Float[Tensor, "batch channels height width"], added: Float[Tensor, "batch"]) -> Tensor:
        """The same where a number is added to what an image's own bin takes in."""
        activated = self._activated(images)
        return self._logits(images, torch.cat([activated[:, :1] + added[:, None], activated[:, 1:]], 1))

    def _activated(self, images: Tensor) -> Tensor:
        if self.entrance is not None:
            taken = self.entrance(images)
        else:
            flat = images.flatten(1)
            taken = self.amplification * torch.cat([flat, flat.new_full((len(flat), 1), self.constant)], 1)
        activated: Tensor = self.activation(self.bins(taken))
        return activated

    def _logits(self, images: Tensor, activated: Tensor) -> Tensor:
        added = self.spread(self.sum(activated)).view_as(images)
        logits: Tensor = self.model(images + added)
        return logits


class Imprint(MaliciousServer):
    """Puts a layer in front of the model that sorts images by brightness, so that rows of its gradient hold one each.

    Row i of the layer is active for images at least as bright as c_i, whose images all leave their marks in it. With
    the same way onward from every row, neighbors differ by the images between c_i and c_(i+1) alone:

        x = (g_W[i] - g_W[i+1]) / (g_b[i] - g_b[i+1])

    which is the image where one image of the batch is in the bin, and a mixture where several are. Of k bins and B
    images spread evenly, (1 - 1/k)^(B-1) of the images are alone: 88% of 64 in 512 bins. The bins are quantiles of the
    brightness of auxiliary images (`knowledge.auxiliary`); without any, of photographs' normal distribution.

    Rows of the `sparse` variant answer to the images of their own bin only (a ramp from c_i to c_(i+1)), so that
    nothing is to be subtracted and other images leave a row as it was: what several local steps add up to is still a
    multiple of the image. Behind the layer the model computes what it computed, but for `gain`. Its input is amplified,
    which changes nothing but gradients: until they outweigh all others where the client sends one gradient, so that
    clipping leaves mostly them, and until training moves a bin by a small part of its width where it takes local steps.

    Where nothing hides how strong a gradient is, each image is checked: what it would have left in its bin, with one of
    the classes as its label, is compared with what is there. That finds its label, too, and tells images from mixtures.

    Args:
        bins: rows of the layer, at least 2; under secure aggregation, for each client of a sum.
        variant: `sparse`, or `cumulative` (the formula above).
        gain: how strongly the layer acts on the image; under secure aggregation, for each client of a sum.
        amplification: of its input; null: as above, tried on auxiliary images, or on noise.

    Raises:
        InputError: on use: the observed model has no such layer, its gradient was not sent, or only signs of it.

    Cost:
        A layer of bins x pixels parameters for the client; closed forms for the server.

    Limits:
        Changes the architecture, which a client who looks sees at once. Images of equal brightness, and of the same
        bin, come back as one mixture. Signs are refused; noise covers the images once it is as large as what clipping
        leaves of a pixel.

    Example:
        bins: 1024

    Reference: Fowl et al., ICLR 2022, arXiv:2110.13057
    """

    changes_architecture: ClassVar[bool] = True

    def __init__(
        self,
        bins: int = 512,
        variant: Literal["sparse", "cumulative"] = "sparse",
        gain: float = 0.01,
        amplification: float | None = None,
    ) -> None:
        if bins < 2:
            raise InputError(f"Imprint: bins must be at least 2, got {bins}")
        if variant not in ("sparse", "cumulative"):
            raise InputError(f"Imprint: variant must be sparse or cumulative, got {variant!r}")
        for name, value in (("gain", gain), ("amplification", amplification)):
            if value is not None and not 0 < value < float("inf"):
                raise InputError(f"Imprint: {name} must be positive and finite, got {value}")
        self.bins, self.variant, self.gain, self.amplification = bins, variant, gain, amplification

    def build(self, view: ServerView, *, generator: torch.Generator) -> nn.Module:
        bins = self.bins * view.clients
        edges = bin_edges(view.auxiliary, bins)
        direction, offset = brightness(view.scale, view.input_shape)
        sparse = self.variant == "sparse"
        widths = edges.diff() if sparse else torch.ones(bins, dtype=torch.float64)
        weight = torch.cat([direction.expand(bins, -1), (offset - edges[:-1])[:, None]], 1) / widths[:, None]
        signs = torch.randint(0, 2, direction.shape, generator=generator).double() * 2 - 1
        like = next(view.model.parameters())
        # Each bin acts as strongly as those of a single client, and what training moves of the way onward, which all
        # bins share, adds up to no more: one factor goes into the gain, and its root to the other side of a product.
        gain, share = self.gain * view.clients, view.clients**0.5
        model = ImprintedModel(deepcopy(view.model), weight, signs / share, gain * share, sparse=sparse)
        model = model.to(like.device, like.dtype).train(view.model.training)
        model.amplify(self.amplification or amplification(model, view, generator))
        return model

    def recover(
        self, observations: Sequence[Observation], *, generator: torch.Generator, watch: Watch
    ) -> Sequence[Reconstruction]:
        return [_recover(observation, generator) for observation in observations]


def amplification(model: ImprintedModel, view: ServerView, generator: torch.Generator) -> float:
    """How strongly the layer's input is amplified, from gradients of a few images with labels drawn at random."""
    trial = deepcopy(model)
    for module in trial.modules():
        module.training = module.training and isinstance(module, nn.modules.batchnorm._BatchNorm)
    like = next(trial.parameters())
    if view.auxiliary is None:
        images = torch.rand(_TRIAL, *view.input_shape, generator=generator)
        images = images + torch.rand(_TRIAL, 1, 1, 1, generator=generator) - 0.5
    else:
        images = view.auxiliary[torch.randperm(len(view.auxiliary), generator=generator)[:_TRIAL]]
    labels = torch.randint(view.num_classes, (len(images),), generator=generator).to(like.device)
    inputs = view.scale.apply(images.clamp(0, 1).to(like))
    parameters = dict(trial.named_parameters())
    rows = torch.autograd.grad(F.cross_entropy(trial(inputs), labels), list(parameters.values()), allow_unused=True)
    norms = {name: 0.0 if row is None else float(row.norm()) for name, row in zip(parameters, rows, strict=True)}
    own = norms.pop("bins.weight")
    if not own > 0:
        return 1.0
    if view.local is None:
        return max(1.0, _LOUDNESS * hypot(*norms.values()) / own)
    # One image's part of the gradient, s |(x, constant)| / images, moves its own bin by rate * s * |(x, constant)|^2.
    length = float(inputs.flatten(1).square().sum(1).mean() + model.constant**2) ** 0.5
    strength = own / (len(images) if model.sparse else model.bins.out_features) ** 0.5 * len(images) / length
    visits = view.local.lr * view.local.strength / view.batch_size
    width = 1.0 if model.sparse else 1.0 / model.bins.out_features
    return float((_SHIFT * width / (visits * strength * length**2)) ** 0.5)


def _recover(observation: Observation, generator: torch.Generator) -> Reconstruction:
    model = observation.model
    if not isinstance(model, ImprintedModel):
        raise InputError("imprint reads an observation of the model that it crafted, whose first layer is the imprint")
    rows = LayerRows.of_constant(observation, "bins.weight", model.constant)
    return recovered(observation, model, rows, generator)


def recovered(
    observation: Observation, model: ImprintedModel, rows: LayerRows, generator: torch.Generator, *, whole: bool = True
) -> Reconstruction:
    """Images from what bins hold.

    Args:
        observation: of the model.
        model: that was crafted.
        rows: of the bins.
        generator: of random images that labels are counted by.
        whole: whether all of the update is the batch's, so that its last layer tells the labels of images that the bins
            do not hold.
    """
    floor = 0.0 if model.sparse else rows.rounding
    rows = (rows if model.sparse else rows.differences()).strongest(floor)
    images = rows.images(observation)[: observation.batch_size]
    inputs = observation.scale.apply(images.clamp(0, 1).to(next(model.parameters())))
    strengths = rows.strengths[: len(images)] / model.amplification
    known = identified(observation, inputs, strengths, model.marked)
    labels, notes = known.labels, [f"{len(rows.rows)} of {len(model.bins.weight)} bins hold something"]
    if known.confirmed is not None:
        order = (~known.confirmed).to(torch.int8).argsort(stable=True)
        images, labels = images[order], None if labels is None else labels[order]
        notes.append(
            f"{int(known.confirmed.sum())} of {observation.batch_size} images left exactly what is in the gradient; "
            "others are mixtures, or gray"
        )
    if whole or observation.labels is not None:
        labels = completed(observation, labels, generator)
    elif labels is not None:
        guess = labels[-1:] if len(labels) else labels.new_zeros(1)
        labels = torch.cat([labels, guess.expand(observation.batch_size - len(labels))])
    if labels is not None and known.labels is None:
        notes.append("labels and images are not in the same order")
    return Reconstruction(filled(observation, images), labels, notes=tuple(notes))


def bin_edges(auxiliary: Float[Tensor, "images channels height width"] | None, bins: int) -> Float[Tensor, "edges"]:
    """Brightness at which bins begin and the last one ends, so that each is hit about equally often.

    Args:
        auxiliary: images to take quantiles of; None for photographs' normal distribution.
        bins: how many.
    """
    shares = torch.arange(1, bins, dtype=torch.float64) / bins
    if auxiliary is None:
        inner = torch.tensor([_BRIGHTNESS.inv_cdf(float(share)) for share in shares], dtype=torch.float64)
    else:
        inner = auxiliary.double().flatten(1).mean(1).cpu().quantile(shares)
    # Edges that fall together are drawn apart, and nothing is darker than black or brighter than white.
    inner = (1 - bins * _NARROWEST) * inner.clamp(0, 1) + _NARROWEST * torch.arange(1, bins, dtype=torch.float64)
    ends = torch.tensor([-_NARROWEST, 1 + _NARROWEST], dtype=torch.float64)
    return torch.cat([ends[:1], inner, ends[1:]])


def brightness(scale: PixelScale, shape: tuple[int, int, int]) -> tuple[Float[Tensor, "pixels"], float]:
    """The mean of an image's pixels in [0, 1] as a linear function of the model's input: (weights, offset)."""
    zeros = torch.zeros(shape, dtype=torch.float64)
    mean, std = (part.expand(shape) for part in scale.tensors(zeros))
    return (std / zeros.numel()).flatten(), float(mean.mean())
