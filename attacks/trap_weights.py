"""Trap weights: a first linear layer whose neurons answer to few images, each of which is then alone in its gradient.

Boenisch, Dziedzic, Schuster, Shamsabadi, Shumailov, Papernot, When the curious abandon honesty: federated learning is
not private, EuroS&P 2023, arXiv:2112.02918. Deviations: each row has a scale of its own, measured on auxiliary images
(the paper tunes one for all rows); convolutions may have a stride, where they have channels enough to lose no pixel.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from fedsec.errors import InputError
from fedsec.matching.pixel_paths.convolutions import pass_pixels_on
from fedsec.matching.pixel_paths.pixel_layer import PixelLayer, pixel_layer
from fedsec.matching.row_images import LayerRows, filled
from fedsec.matching.row_labels import completed, identified
from fedsec.threat import MaliciousServer, Observation, Reconstruction, ServerView
from fedsec.threat.inversion import Watch

__all__ = ["TrapWeights"]

_APART = 1e-3
"""Root mean square of pixels within which two rows show one image."""
_AT_ONCE = 2**24
"""Numbers whose quantiles are taken at a time: torch's limit."""
_MOST = 2048
"""Rows that are looked at, the strongest."""


class TrapWeights(MaliciousServer):
    """Changes the weights of a first linear layer so that most of its neurons answer to one image of a batch, or none.

    Half of a row's weights, drawn at random, are negative, and the other half has the same magnitudes, scaled:

        z = s sum_+ |w_j| x_j - sum_- |w_j| x_j

    which is positive for few images where s is small enough: s is set, row by row, so that one in `batch_size` images
    is let through. A row that one image alone passed is a multiple of it, g_W / g_b = x. Images that several rows agree
    on, and those that left exactly what is in the gradient with one of the classes as their label, are no mixtures.

    Convolutions before the layer are made to pass every pixel on (kernels of a single one), where they can: one after
    the other with ReLU between them, neither pooling nor normalization, and with a stride s in s^2 times as many
    channels as come in. Only weights change, so that the architecture looks as agreed.

    Args:
        share: of images that a row lets through; null: one in the client's number of images.

    Raises:
        InputError: on use: no linear layer with a bias before the last one receives the image, or can be made to, or
            only signs of its gradient were sent.

    Cost:
        Closed forms; the checks pass each row's image through the model once for every class.

    Limits:
        Needs a linear layer with ReLU behind it that receives the image itself, or behind convolutions that can pass it
        on: of fedsec's models mlp only, since in others pooling loses pixels or the logits follow at once. Rows are few
        where the layer is small: 1,000 neurons and 100 images leave each image ten rows on average, and images that
        resemble others none to itself.
        Rows that mirror themselves are easily seen by who looks for them.

    Reference: Boenisch et al., EuroS&P 2023, arXiv:2112.02918
    """

    def __init__(self, share: float | None = None) -> None:
        if share is not None and not 0 < share < 1:
            raise InputError(f"TrapWeights: share must lie between 0 and 1, got {share}")
        self.share = share

    def build(self, view: ServerView, *, generator: torch.Generator) -> nn.Module:
        model = deepcopy(view.model)
        entrance = pixel_layer(model, view.input_shape, view.scale)
        if entrance is None:
            try:
                pass_pixels_on(model, view.input_shape, view.scale)
            except InputError as error:
                raise _refusal(str(error)) from error
            entrance = pixel_layer(model, view.input_shape, view.scale)
        if entrance is None:
            raise _refusal("not all pixels reach one, or its outputs are the logits")
        layer = model.get_submodule(entrance.name)
        assert isinstance(layer, nn.Linear)
        images = _noise(view.input_shape, 512) if view.auxiliary is None else view.auxiliary
        pixels = images.double().flatten(1).cpu()
        rows, count = len(layer.weight), pixels.shape[1]
        order = torch.rand(rows, count, generator=generator).argsort(1)
        magnitudes = torch.randn(rows, count // 2, generator=generator).double().abs() / count**0.5
        positive = torch.zeros(rows, count, dtype=torch.float64).scatter_(1, order[:, : count // 2], magnitudes)
        negative = torch.zeros_like(positive).scatter_(1, order[:, count // 2 : 2 * (count // 2)], magnitudes)
        # A row lets an image through where s > negative part / positive part.
        ratios = (pixels @ negative.T) / (pixels @ positive.T).clamp_min(1e-9)
        scales = _quantiles(ratios, self.share or min(0.5, 1 / view.summed))
        weight = scales[:, None] * positive - negative
        mean, std = (part.expand(view.input_shape).flatten() for part in view.scale.tensors(pixels))
        with torch.no_grad():
            if entrance.columns is None:  # of pixels in [0, 1], whatever the model's input is
                layer.weight.copy_(weight * std)
                layer.bias.copy_(weight @ mean)
            else:
                layer.weight.zero_()
                layer.weight[:, entrance.columns] = weight.to(layer.weight)
                layer.bias.zero_()
        return model

    def recover(
        self, observations: Sequence[Observation], *, generator: torch.Generator, watch: Watch
    ) -> Sequence[Reconstruction]:
        return [_recover(observation, generator) for observation in observations]


def _recover(observation: Observation, generator: torch.Generator) -> Reconstruction:
    model, size = observation.model, observation.batch_size
    like = next(model.parameters())
    entrance = pixel_layer(model, observation.input_shape, observation.scale)
    if entrance is None:
        raise _refusal("the observed model has none")
    layer = model.get_submodule(entrance.name)
    rows = _of_inputs(LayerRows.of_bias(observation, entrance.name), entrance, observation)
    strength = rows.strengths.abs() * rows.heard
    places = strength.argsort(descending=True, stable=True)[: min(_MOST, int((strength > 0).sum()))]
    chosen = LayerRows(rows.rows[places], rows.strengths[places], rows.known[places], rows.heard[places])
    images = chosen.images(observation)
    inputs = observation.scale.apply(images.clamp(0, 1).to(like))

    def marked(inputs: Tensor, added: Tensor) -> Tensor:
        handle = layer.register_forward_hook(
            lambda _, arguments, out: out + added[:, None] * F.one_hot(places, out.shape[1]).to(out)
        )
        try:
            logits: Tensor = model(inputs)
        finally:
            handle.remove()
        return logits

    known = identified(observation, inputs, chosen.strengths, marked)
    flat = images.flatten(1)
    near = torch.cdist(flat, flat) / flat.shape[1] ** 0.5 < _APART
    votes = near.sum(1) + (0 if known.confirmed is None else len(flat) * known.confirmed)
    votes = votes - 2 * len(flat) * ((flat.clamp(0, 1) - flat).abs().amax(1) > _APART)
    first = _one_of_each(near, votes)[:size]
    sure = int((votes[first] > 1).sum())
    labels = completed(observation, None if known.labels is None else known.labels[first], generator)
    notes = [f"{sure} of {size} images are confirmed, or what several neurons agree on; others may be mixtures"]
    if labels is not None and known.labels is None:
        notes.append("labels and images are not in the same order")
    return Reconstruction(filled(observation, images[first]), labels, notes=tuple(notes))


def _one_of_each(near: Tensor, votes: Tensor) -> Int64[Tensor, "different"]:
    """Of rows that show the same image the one with the most votes, in the order of votes."""
    first: list[int] = []
    for row in votes.argsort(descending=True, stable=True).tolist():
        if not first or not bool(near[row, first].any()):
            first.append(row)
    return torch.tensor(first, dtype=torch.int64, device=near.device)


def _noise(shape: tuple[int, int, int], count: int) -> Float[Tensor, "images channels height width"]:
    """Smooth pictures of chance, of different brightness."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, shape[0], 4, 4, generator=generator) - 0.5
    pictures = F.interpolate(coarse, size=shape[1:], mode="bilinear") + torch.rand(count, 1, 1, 1, generator=generator)
    return pictures.clamp(0, 1)


def _quantiles(ratios: Float[Tensor, "images rows"], share: float) -> Float[Tensor, "rows"]:
    """Of each row its quantile over images, between two of them by linear interpolation.

    `torch.quantile` refuses more than 2^24 numbers at once, which 512 images reach with 32,768 rows.
    """
    pieces = torch.split(ratios, max(1, _AT_ONCE // len(ratios)), dim=1)
    return torch.cat([piece.quantile(share, dim=0) for piece in pieces])


def _of_inputs(rows: LayerRows, entrance: PixelLayer, observation: Observation) -> LayerRows:
    """Rows of a layer that received pixels in [0, 1] as those of one that received the model's input."""
    if entrance.columns is None:
        return rows
    mean, std = (part.expand(observation.input_shape).flatten() for part in observation.scale.tensors(rows.rows))
    pixels = rows.rows[:, entrance.columns]
    return replace(rows, rows=(pixels - rows.strengths[:, None] * mean) / std, known=rows.known[:, entrance.columns])


def _refusal(why: str) -> InputError:
    return InputError(
        "trap_weights needs a model whose first layer is linear, with a bias and ReLU behind it, and receives the "
        f"flattened image, or convolutions before it that can pass all pixels on: {why}; expected one such as mlp, or "
        "imprint, which puts such a layer in front"
    )
