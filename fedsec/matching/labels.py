"""Which labels a batch had, from the gradient of the last linear layer.

With features h_i, posteriors p_i = softmax(W h_i + b) and n_c examples of class c among B, the mean gradient is

    g_b[c] = mean_i p_ic - n_c / B        g_W[c] = (1/B) sum_i (p_ic - [y_i = c]) h_i

so that n_c = B (mean_i p_ic - g_b[c]): whoever knows the mean posterior reads the counts off the bias. The methods
differ in where they take it from. Where a layer has no bias, its gradient is estimated from the weight's and the
features of random images. A client's update over several steps is read as one mean gradient of the model midway, which
costs accuracy. Other losses whose gradient compares a prediction with the labels (see `ClientLoss`) are read likewise,
with that in the posterior's place.

The gradient of B images has rank B: where there are many classes, its row space is found from a few random combinations
of its rows, and only the classes that can have examples get features of their own.

Under a defense that the attacker knows, columns and biases that were dropped are taken to be what the features of
random images would make of the rest; the length that clipping hides follows from the classes that are absent, of which
n_c = 0; and of signs every method makes the same: equally many examples of each class whose sign is negative. That is
exact for one image, and wrong where classes repeat.

References:
    idlg: Zhao, Mopuri, Bilen, iDLG: improved deep leakage from gradients, 2020, arXiv:2001.02610.
    yin: Yin et al., See through gradients: image batch recovery via GradInversion, CVPR 2021, arXiv:2104.07586.
    wainakh: Wainakh et al., User-level label leakage from gradients in federated learning, PoPETs 2022,
        arXiv:2105.09369.
    geng: Geng et al., Towards general deep leakage in federated learning, 2021, arXiv:2110.09074; posteriors from the
        gradient's own class features: Ma et al., Instance-wise batch label restoration via gradients in federated
        learning, ICLR 2023.
"""

from dataclasses import dataclass
from heapq import heapify, heapreplace
from math import ceil
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from fedsec.errors import InputError
from fedsec.matching.last_layer import MANY, LastLayer
from fedsec.matching.limits import Deadline
from fedsec.threat import Observation

__all__ = ["LabelEstimate", "LabelMethod", "labels_of", "recover_labels", "round_counts"]

LabelMethod = Literal["auto", "idlg", "yin", "wainakh", "geng"]

_LIKELY = 64
"""So many, or four for each image of a larger batch."""


@dataclass(frozen=True, eq=False)
class LabelEstimate:
    """The labels of a batch, as far as its gradient tells.

    Attributes:
        labels: sorted.
        counts: how many of each class; they sum to the batch size.
        scores: the counts before they were rounded, in float32.
        method: that made them; never "auto", and "signs" where only signs were sent.
    """

    labels: Int64[Tensor, "batch"]
    counts: Int64[Tensor, "classes"]
    scores: Float[Tensor, "classes"]
    method: str


def labels_of(
    observation: Observation, generator: torch.Generator | None = None, deadline: Deadline | None = None
) -> Int64[Tensor, "batch"]:
    """The labels that the attacker was granted, in their own order, or else those it recovers, sorted.

    Args:
        observation: what the attacker knows.
        generator: see `recover_labels`.
        deadline: see `recover_labels`.

    Raises:
        InputError: no labels were granted and the model has no last linear layer to read them from.
    """
    if observation.labels is not None:
        return observation.labels
    return recover_labels(observation, generator=generator, deadline=deadline).labels


def recover_labels(
    observation: Observation,
    *,
    method: LabelMethod = "auto",
    generator: torch.Generator | None = None,
    deadline: Deadline | None = None,
) -> LabelEstimate:
    """The labels of the batch, from its last layer's gradient; labels that were granted are not looked at.

    Args:
        observation: what the attacker knows.
        method: "idlg": the only negative entry; batches of one. "yin": the smallest entries; needs features that are
            not negative and labels that are all different. "wainakh": signs, then impact and offset, from random
            images. "geng": the counting identity. "auto": idlg for one image, geng otherwise.
        generator: of the random images that serve where the gradient alone does not tell; seeded with 0 by default.
        deadline: when it passes, fewer random images are looked at; the estimate is made in any case.

    Returns:
        Labels on the update's device.

    Raises:
        InputError: the method does not go with this batch, or the model does not end in a linear layer, or the update
            leaves it out.
    """
    if method not in ("auto", "idlg", "yin", "wainakh", "geng"):
        raise InputError(f"recover_labels: method must be auto, idlg, yin, wainakh or geng, not {method!r}")
    size = observation.batch_size
    if method == "auto":
        method = "idlg" if size == 1 else "geng"
    if method == "idlg" and size != 1:
        raise InputError(f"recover_labels: idlg reads the label of a single image, not of {size}; use geng")
    if method == "yin" and size > observation.num_classes:
        raise InputError(
            f"recover_labels: yin needs labels that are all different, which {size} images of "
            f"{observation.num_classes} classes cannot have; use geng"
        )
    layer = LastLayer(observation.as_gradient(), generator or torch.Generator().manual_seed(0), deadline)
    name: str = method
    if layer.signs:
        name, scores, floor = "signs", _from_signs(layer), None
    else:
        scores = {"idlg": _idlg, "yin": _yin, "wainakh": _wainakh, "geng": _geng}[method](layer)
        floor = _certain(layer) if method in ("geng", "wainakh") else None
    counts = round_counts(scores, size, floor)
    labels = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
    return LabelEstimate(labels, counts, scores.float(), name)


def round_counts(
    scores: Float[Tensor, "classes"], total: int, floor: Int64[Tensor, "classes"] | None = None
) -> Int64[Tensor, "classes"]:
    """The whole numbers nearest to the scores, in squared distance, that sum to a total and are nowhere below a floor.

    The distance is convex and a sum over classes, so that adding the best unit `total` times is exact.

    Args:
        scores: what to round.
        total: what the counts sum to.
        floor: how many each class has at least, summing to at most `total`; 0 by default.
    """
    counts = [0] * len(scores) if floor is None else floor.tolist()
    wanted = scores.tolist()
    gains = [(count - score, index) for index, (count, score) in enumerate(zip(counts, wanted, strict=True))]
    heapify(gains)
    for _ in range(total - sum(counts)):
        _, index = gains[0]
        counts[index] += 1
        heapreplace(gains, (counts[index] - wanted[index], index))
    return torch.tensor(counts, device=scores.device)


def _idlg(layer: LastLayer) -> Float[Tensor, "classes"]:
    """Zhao et al. 2020: p_c - [y = c] is negative for the label alone."""
    if layer.has_bias:
        return _one_hot(layer.bias_gradient.argmin(), layer.bias_gradient)
    direction = layer.row_space()
    left, values, right = torch.linalg.svd(layer.weight_gradient @ direction.T, full_matrices=False)
    residual, right = left[:, 0] * values[0], right @ direction
    # The rows are multiples of one vector of unknown sign. The label's is the longest, and the only one of its sign; if
    # all the rest is in one other row, the two are equally long, and random images must tell the sign.
    cubes = residual.pow(3)
    if cubes.sum().abs() < 1e-3 * cubes.abs().sum():
        residual = residual * torch.sign(layer.random_features().mean(0) @ right[0])
    else:
        residual = residual * -torch.sign(cubes.sum())
    return _one_hot(residual.argmin(), residual)


def _from_signs(layer: LastLayer) -> Float[Tensor, "classes"]:
    """Equally many of each class whose sign is negative, which proves an example; of all classes, if none is."""
    present = (layer.bias_gradient < 0).double()
    if not bool(present.any()):
        present = torch.ones_like(present)
    return layer.batch_size * present / present.sum()


def _yin(layer: LastLayer) -> Float[Tensor, "classes"]:
    """Yin et al. 2021: the rows of the weight's gradient with the smallest minimum over features."""
    if not layer.has_weight:
        raise InputError("recover_labels: yin reads the last layer's weight, which the update leaves out; use geng")
    smallest = layer.weight_gradient.amin(1)
    scores = torch.zeros_like(smallest)
    scores[smallest.argsort(stable=True)[: layer.batch_size]] = 1.0
    return scores


def _wainakh(layer: LastLayer) -> Float[Tensor, "classes"]:
    """Wainakh et al. 2022: g_c = n_c x impact + offset_c; a negative g_c proves one example.

    The paper sums the weight's gradient over the features; the bias's, or its estimate, also serves features that may
    be negative. `_certain` is the sign's proof, sharpened. Impact and offset are those of random images (LLG*).
    """
    posteriors = layer.posteriors(layer.random_features())
    classes = posteriors.shape[1]
    offset = posteriors.mean(0)
    impact = (offset.mean() - 1) * (1 + 1 / classes) / layer.batch_size
    return (layer.bias_gradient - offset) / impact


def _geng(layer: LastLayer) -> Float[Tensor, "classes"]:
    """Geng et al. 2021: n_c = B (mean_i p_ic - g_b[c]), with posteriors at features that the gradient itself yields.

    The mean of two estimates, which err differently on trained networks. Where the bias alone was trained, the features
    are those of random images.
    """
    if not layer.has_weight:
        return layer.batch_size * (layer.posteriors(layer.random_features()).mean(0) - layer.bias_gradient)
    if not bool((layer.bias_gradient < 0).any()):
        return layer.batch_size * layer.posteriors(layer.random_features()).mean(0)
    return (_from_rows(layer) + _from_class_features(layer)) / 2


def _from_rows(layer: LastLayer) -> Float[Tensor, "classes"]:
    """With the features g_W[c] / g_b[c], about the mean of class c's examples where they dominate: where g_b[c] < 0."""
    shown = layer.bias_gradient < 0
    weights = -layer.bias_gradient[shown]
    posteriors = layer.posteriors(layer.weight_gradient[shown] / -weights[:, None])
    return layer.batch_size * (weights @ posteriors / weights.sum() - layer.bias_gradient)


def _from_class_features(
    layer: LastLayer, iterations: int = 30, damping: float = 0.5, ridge: float = 0.1
) -> Float[Tensor, "classes"]:
    """With features m_c that all examples of a class are taken to share.

        g_W = (1/B) sum_k n_k (p(m_k) - e_k) m_k^T

    Counts, posteriors and class features are solved for in turn, from the batch's mean feature on; the ridge keeps
    classes that the gradient hardly shows near it.
    """
    total, g_w, g_b = layer.batch_size, layer.weight_gradient, layer.bias_gradient
    # Weights that sum to 1: an affine combination of the batch's features.
    mean = g_b @ g_w / (g_b @ g_b)
    # All class features lie in the span of the gradient's rows; its coordinates are few.
    basis = layer.row_space()
    target, weight = total * g_w @ basis.T, layer.weight @ basis.T
    posterior = layer.predict((basis @ mean) @ weight.T + layer.bias)
    scores = total * (posterior - g_b)
    shown = _possible(scores, total)
    features = (basis @ mean).expand(len(shown), -1)
    posteriors = posterior.expand(len(shown), -1)
    one_hot = F.one_hot(shown, len(g_b)).to(g_b)
    for _ in range(iterations):
        counts = scores[shown].clamp_min(0)
        counts = counts * (total / counts.sum().clamp_min(1e-30))
        # One column for each class that can have examples: what one with its features adds to the gradient.
        mixing = ((posteriors - one_hot) * counts[:, None]).T
        features = features + damping * _ridge_solution(mixing, target - mixing @ features, ridge)
        posteriors = layer.predict(features @ weight.T + layer.bias)
        scores = counts @ posteriors - total * g_b
    return scores


def _possible(scores: Float[Tensor, "classes"], total: int) -> Int64[Tensor, "some"]:
    """Classes that may have examples: all of them, or the likeliest where there are many."""
    if len(scores) <= MANY:
        return torch.arange(len(scores), device=scores.device)
    return scores.topk(min(len(scores), max(_LIKELY, 4 * total))).indices.sort().values


def _ridge_solution(
    mixing: Float[Tensor, "classes some"], rest: Float[Tensor, "classes rank"], ridge: float
) -> Float[Tensor, "some rank"]:
    """M^T (M M^T + r I)^-1 R, by whichever of M M^T and M^T M is smaller; r is a share of M M^T's mean diagonal."""
    classes, columns = mixing.shape
    shift = ridge * mixing.square().sum() / classes + 1e-30
    inner = mixing @ mixing.T if classes <= columns else mixing.T @ mixing
    inner.diagonal().add_(shift)
    solution: Tensor = (
        mixing.T @ torch.linalg.solve(inner, rest) if classes <= columns else torch.linalg.solve(inner, mixing.T @ rest)
    )
    return solution


def _certain(layer: LastLayer) -> Int64[Tensor, "classes"]:
    """How many of each class there must be: posteriors are not negative, so n_c >= -B g_b[c]."""
    floor = torch.zeros_like(layer.bias_gradient, dtype=torch.int64)
    if not layer.exact:
        return floor
    # A bias's gradient sums to zero but for rounding, and for what a defense did to it: noise or pruning prove less.
    error = 1e-6 + 3 * layer.bias_gradient.sum().abs()
    bounds = (layer.batch_size * (-layer.bias_gradient - error)).tolist()
    least = torch.tensor([max(0, ceil(bound)) for bound in bounds], device=floor.device)
    return least if int(least.sum()) <= layer.batch_size else floor


def _one_hot(index: Tensor, like: Tensor) -> Float[Tensor, "classes"]:
    scores = torch.zeros_like(like)
    scores[index] = 1.0
    return scores
