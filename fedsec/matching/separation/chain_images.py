"""Images of a batch from their features, by backpropagation and linear least squares, where the model is a chain.

Features h_i and labels of every image tell the loss's gradient at the logits, softmax(W h_i + b) - onehot(y_i), and
what leaves an activation tells its slope: of a ReLU, none where nothing leaves it. So the loss's gradient d_i at the
outputs of the layer before is known too, and that layer's own gradient is linear in what entered it:

    G = D^T H,    g_b = D^T 1,    D [batch, outputs] known, H [batch, inputs] wanted

Least squares give H, which left the activation before, and so on down to the image. Where the features are slightly
wrong, some outputs that are nearly zero are taken for zero or the other way round, and those rows of G contradict the
rest: they are weighed down (iteratively reweighted least squares), and once H is known, its own forward pass tells
better which outputs are zero. In the end D is computed from the images themselves, and where that does not settle,
Levenberg-Marquardt fits all layers' gradients together. What counts as solved is thus a batch whose gradient is the
client's.

Reference: this project. The last step is that of Phong et al., IEEE TIFS 2018, for batches; the way down that of Zhu,
Blaschko, R-GAP, ICLR 2021, arXiv:2010.07733, which goes it for single images.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.matching.features import Features
from fedsec.matching.row_space import row_space
from fedsec.matching.separation.chain_equations import ChainEquations, ChainImages
from fedsec.matching.separation.first_layer import pixels
from fedsec.matching.separation.linear_chain import LinearChain
from fedsec.threat import Observation, Reconstruction
from fedsec.threat.observed.client_loss import smoothed_labels

__all__ = ["images_in_closed_form", "images_of_chain"]

_SHARPENINGS = 6
"""How often outputs that are zero are looked for again at each layer."""
_POLISHINGS = 20
"""How often D is computed anew from the images."""
_FITTINGS, _DAMPINGS = 40, 20
"""Steps of Levenberg-Marquardt, and how often each of them is shortened, at most."""
_MEMORY = 2**25
"""Entries of the largest Jacobian."""
_ERROR, _SURE = 1e-7, 0.05
"""Of outputs, relative to the largest: smaller ones are zero for certain, larger ones are not."""
_NOTHING = 0.01
"""Resolution of an image of which nothing is known."""


def images_in_closed_form(
    observations: Sequence[Observation], chain: LinearChain | None, features: Sequence[Features | None]
) -> tuple[list[Reconstruction | None], list[list[str]]]:
    """Images where they follow from features by linear equations, None where they do not, and which way was taken.

    Args:
        observations: alike in kind.
        chain: their model; None if it is another one, of which nothing is said.
        features: of each observation's images, where they are known.

    Returns:
        One reconstruction, or None, for each observation, and the notes that belong to it.
    """
    results, ways = list[Reconstruction | None](), list[list[str]]()
    for observation, known in zip(observations, features, strict=True):
        result, way = None, list[str]()
        if chain is not None and known is not None:
            result, way = _reconstruction(observation, chain, known)
        results.append(result)
        ways.append(way)
    return results, ways


def _reconstruction(
    observation: Observation, chain: LinearChain, features: Features
) -> tuple[Reconstruction | None, list[str]]:
    # Images with kinks before them do not follow from features by search: where they were tried, by 10 dB or less.
    instead = "the whole update is matched instead" if chain.kinked else "images are searched for by their features"
    missing = chain.missing(observation.update)
    if missing is not None:
        return None, [f"the update leaves out {missing!r}: {instead}"]
    solution = images_of_chain(chain, observation.gradient, features, observation.loss.smoothing)
    size, told_apart = len(solution.inputs), int(solution.determined.sum())
    if not solution.fits:
        why = f"images computed from their features leave {solution.mismatch:.0e} of the gradient unexplained"
        if 2 * told_apart <= size:
            why = f"with {chain.narrowest} neurons in a layer, its gradient tells {told_apart} of {size} images apart"
        return None, [f"{why}: {instead}"]
    images = pixels(observation, solution.inputs)
    images[solution.resolution < _NOTHING] = 0.5
    way = ["images were computed from their features in closed form, layer by layer"]
    if told_apart < size:
        way.append(
            f"the gradient tells {told_apart} of {size} images apart: the others moved nothing and are gray, or are "
            "mixtures"
        )
    explained = solution.mismatch if told_apart == size else solution.residual
    like = features.values
    losses = torch.tensor([explained**2])
    return Reconstruction(images.clamp(0, 1).to(like), features.labels, losses, features=like), way


def images_of_chain(
    chain: LinearChain, gradient: Mapping[str, Tensor], features: Features, smoothing: float = 0.0
) -> ChainImages:
    """Down from the features to the images, layer by layer, then up and down until both ways agree.

    Args:
        chain: the model.
        gradient: of the mean cross-entropy, by parameter name: of every layer's weight, of its bias where it has one.
        features: of the batch, with labels.
        smoothing: share of each label that the client spread over all classes.
    """
    values = features.values.double().cpu()
    if not chain.layers:
        resolution = torch.ones(len(values), dtype=torch.double)
        return ChainImages(values, features.residual, features.residual, features.residual, resolution)
    targets = smoothed_labels(features.labels.cpu(), len(chain.head_bias), smoothing).double()
    # All images lie in the row space of the first layer's gradient.
    first = gradient[chain.layers[0].weight_name].double().cpu()
    basis = row_space(first, min(len(targets), *first.shape))
    equations = ChainEquations(chain, gradient, targets, basis)
    best: ChainImages | None = None
    for least in _thresholds(values, features.error):
        images = _downward(equations, values, least)
        if bool(images.determined.all()):
            images = _polished(equations, images)
            if not images.fits:
                images = _fitted(equations, images)
        if best is None or images.mismatch < best.mismatch:
            best = images
        if best.fits:
            break
    assert best is not None
    return replace(best, inputs=best.inputs @ basis)


def _thresholds(features: Float[Tensor, "batch features"], error: float) -> Iterator[Float[Tensor, "batch 1"]]:
    """Below which a feature that left a ReLU is taken for zero, by three accounts of its error."""
    yield _gaps(features)
    yield torch.full_like(features[:, :1], 5 * error)
    yield 2 * features.amin(1, keepdim=True).clamp_max(0).abs()


def _gaps(outputs: Float[Tensor, "batch units"]) -> Float[Tensor, "batch 1"]:
    """The middle of the widest gap between outputs of different size: what lies below it is error."""
    largest = outputs.abs().amax(1, keepdim=True).clamp_min(1e-300)
    sizes = outputs.abs().clamp(_ERROR * largest, _SURE * largest)
    sizes = torch.cat([_ERROR * largest, sizes], 1).log().sort(1).values
    place = sizes.diff(dim=1).argmax(1, keepdim=True)
    return ((sizes.gather(1, place) + sizes.gather(1, place + 1)) / 2).exp()


def _downward(
    equations: ChainEquations, outputs: Float[Tensor, "batch features"], least: Float[Tensor, "batch 1"]
) -> ChainImages:
    """The way down, each layer's zeros being looked for again with what entered it."""
    arriving = equations.at_features(outputs)
    for number, layer in reversed(list(enumerate(equations.chain.layers))):
        outputs = layer.activation.cleared(outputs, least)
        for _ in range(_SHARPENINGS):
            sent = arriving * layer.activation.slope(outputs)
            inputs, resolution = equations.entered(number, sent)
            outputs = layer.outputs(inputs)
            if equations.residual(number, sent, inputs) <= equations.tolerance:
                break
        outputs, arriving, least = inputs, sent @ layer.weight, _gaps(inputs)
    return equations.judged(inputs, sent, resolution)


def _polished(equations: ChainEquations, images: ChainImages) -> ChainImages:
    """With D computed anew from the images, as long as that helps."""
    latest = images
    for _ in range(_POLISHINGS):
        sent = equations.sent(equations.chain.outputs(latest.inputs))[0]
        inputs, resolution = equations.entered(0, sent)
        latest = equations.judged(inputs, sent, resolution)
        settled = images.fits and latest.mismatch > images.mismatch / 2
        images = min(images, latest, key=lambda some: some.mismatch)
        if settled:
            break
    return images


def _fitted(equations: ChainEquations, images: ChainImages) -> ChainImages:
    """Least squares of the whole gradient by Levenberg-Marquardt, from images that explain it in part."""
    point, damping = images.inputs, 1e-3
    errors = equations.errors(point)
    if len(errors) * point.numel() > _MEMORY:
        return images
    for _ in range(_FITTINGS):
        slopes, before = _jacobian(equations, point), float(errors.square().sum())
        normal, downhill = slopes @ slopes.T, slopes @ errors
        for _ in range(_DAMPINGS):
            step = torch.linalg.solve(normal + damping * torch.diag(normal.diagonal() + 1e-12), downhill)
            trial = equations.errors(point - step.view_as(point))
            if float(trial.square().sum()) < before:
                break
            damping *= 4
        else:
            break
        point, errors, damping = point - step.view_as(point), trial, max(damping / 9, 1e-15)
        if float(errors.square().sum()) > (1 - 1e-3) * before:
            break
    latest = equations.judged(point, equations.sent(equations.chain.outputs(point))[0], images.resolution)
    return min(images, latest, key=lambda some: some.mismatch)


def _jacobian(equations: ChainEquations, point: Float[Tensor, "batch rank"]) -> Float[Tensor, "unknowns errors"]:
    """Slopes of the errors, forward by two backward passes: there are fewer unknowns than equations."""
    point = point.detach().requires_grad_()
    errors = equations.errors(point)
    weights = torch.zeros_like(errors, requires_grad=True)
    (downhill,) = torch.autograd.grad(errors, point, weights, create_graph=True)
    directions = torch.eye(point.numel(), dtype=point.dtype).view(-1, *point.shape)
    slopes: Tensor = torch.autograd.grad(downhill, weights, directions, is_grads_batched=True)[0]
    return slopes
