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
from fedsec.matching.head import Head, copied_state, find_head
from fedsec.matching.row_space import row_space
from fedsec.threat import Distortion, Observation

__all__ = ["LabelEstimate", "LabelMethod", "labels_of", "recover_labels", "round_counts"]

LabelMethod = Literal["auto", "idlg", "yin", "wainakh", "geng"]

_NUM_RANDOM_IMAGES = 64

_MANY = 512
"""Beyond so many classes, only the likeliest have features of their own, and the gradient's rank is made use of."""

_LIKELY = 64
"""So many, or four for each image of a larger batch."""

_OVERSAMPLED = 10


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


def labels_of(observation: Observation, generator: torch.Generator | None = None) -> Int64[Tensor, "batch"]:
    """The labels that the attacker was granted, in their own order, or else those it recovers, sorted.

    Args:
        observation: what the attacker knows.
        generator: see `recover_labels`.

    Raises:
        InputError: no labels were granted and the model has no last linear layer to read them from.
    """
    if observation.labels is not None:
        return observation.labels
    return recover_labels(observation, generator=generator).labels


def recover_labels(
    observation: Observation, *, method: LabelMethod = "auto", generator: torch.Generator | None = None
) -> LabelEstimate:
    """The labels of the batch, from its last layer's gradient; labels that were granted are not looked at.

    Args:
        observation: what the attacker knows.
        method: "idlg": the only negative entry; batches of one. "yin": the smallest entries; needs features that are
            not negative and labels that are all different. "wainakh": signs, then impact and offset, from random
            images. "geng": the counting identity. "auto": idlg for one image, geng otherwise.
        generator: of the random images that serve where the gradient alone does not tell; seeded with 0 by default.

    Returns:
        Labels on the update's device.

    Raises:
        InputError: the method does not go with this batch, or the model does not end in a linear layer, or the update
            leaves its weight out.
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
    view = _View(observation.as_gradient(), generator or torch.Generator().manual_seed(0))
    name: str = method
    if view.signs:
        name, scores, floor = "signs", _from_signs(view), None
    else:
        scores = {"idlg": _idlg, "yin": _yin, "wainakh": _wainakh, "geng": _geng}[method](view)
        floor = _certain(view) if method in ("geng", "wainakh") else None
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


class _View:
    """The last layer and its gradient, in float64, and what random images look like to it."""

    def __init__(self, observation: Observation, generator: torch.Generator) -> None:
        head = find_head(observation)
        if head is None:
            raise InputError(
                "recover_labels: labels are read from a last linear layer, and the model does not end in one"
            )
        predict = observation.loss.prediction
        if predict is None:
            raise InputError(
                f"recover_labels: no labels can be read from the gradient of the loss {observation.loss.name!r}; "
                "expected cross_entropy, nll, mse or bce, or granted labels"
            )
        gradient, slope = observation.gradient, observation.loss.slope(observation.num_classes)
        weight_gradient, bias_gradient = head.weight_gradient(gradient), head.bias_gradient(gradient)
        if weight_gradient is None:
            raise InputError(f"recover_labels: the update leaves out {head.weight_name!r}, from which labels are read")
        self._observation, self._head, self._generator, self._predict = observation, head, generator, predict
        self._random: Float[Tensor, "images features"] | None = None
        self.batch_size = observation.batch_size
        self.weight_gradient = weight_gradient.double() / slope
        self.weight = head.weight.double()
        self.bias = torch.zeros_like(self.weight[:, 0]) if head.bias is None else head.bias.double()
        self.has_bias = bias_gradient is not None
        self._bias_gradient = None if bias_gradient is None else bias_gradient.double() / slope
        if observation.local is not None:
            # The gradients were taken along the way: its middle is the best single point to linearize at.
            self._move(observation.local.midway)
        self.exact = self.has_bias and observation.local is None and observation.loss.name != "mse"
        self.signs = observation.distortion is not None and observation.distortion.signs
        if observation.distortion is not None:
            self._see_through(observation.distortion)

    def _move(self, share: float) -> None:
        """Go a share of the way from the broadcast layer to the client's."""
        way = self._head.moved(self._observation.update)
        self.weight = self.weight + share * way[0].double()
        if way[1] is not None:
            self.bias = self.bias + share * way[1].double()

    @property
    def bias_gradient(self) -> Float[Tensor, "classes"]:
        """The bias's gradient, or what it would be, from a direction along which all features measure about 1."""
        if self._bias_gradient is None:
            self._bias_gradient = self.weight_gradient @ self._unit_direction()
        return self._bias_gradient

    def posteriors(self, features: Float[Tensor, "n features"]) -> Float[Tensor, "n classes"]:
        """What the last layer makes of features: the loss's prediction, for cross-entropy the softmax."""
        logits: Tensor = features @ self.weight.T + self.bias
        return self.predict(logits)

    def predict(self, logits: Float[Tensor, "*n classes"]) -> Float[Tensor, "*n classes"]:
        """See `ClientLoss.prediction`."""
        prediction: Tensor = self._predict(logits)
        return prediction

    def row_space(self) -> Float[Tensor, "rank features"]:
        """Orthonormal rows that span those of the weight's gradient."""
        gradient = self.weight_gradient
        rank = self.batch_size + _OVERSAMPLED
        if max(gradient.shape) <= _MANY or rank >= min(gradient.shape):
            everything: Tensor = torch.linalg.svd(gradient, full_matrices=False).Vh
            return everything
        return row_space(gradient, rank)

    def random_features(self) -> Float[Tensor, "images features"]:
        """What enters the last layer for random images."""
        if self._random is None:
            self._random = _random_features(self._observation, self._head, self._generator)
        return self._random

    def _see_through(self, distortion: Distortion) -> None:
        """Put what is likeliest in the place of what a known defense took away."""
        if not self.signs:
            self._fill_in(distortion)
        if distortion.rescaled and self.batch_size > 1:
            longer = self._shortened()
            self.weight_gradient = self.weight_gradient * longer
            if self._bias_gradient is not None:
                self._bias_gradient = self._bias_gradient * longer
            self.exact = False

    def _fill_in(self, distortion: Distortion) -> None:
        """g_W[c] = g_b[c] h in columns that were dropped, with the mean h of random images, and g_b the same way."""
        whole = torch.ones_like(self.weight_gradient, dtype=torch.bool)
        mask = distortion.kept.get(self._head.weight_name, whole).flatten(1)
        bias_mask = distortion.kept.get(self._head.bias_name, whole[:, 0])
        if self._bias_gradient is not None and not bool(bias_mask.all()):
            feature = self.random_features().mean(0)
            likeness = mask * feature
            squares = (likeness * feature).sum(1)
            implied = (self.weight_gradient * likeness).sum(1) / squares.clamp_min(torch.finfo(squares.dtype).tiny)
            self._bias_gradient = torch.where(bias_mask, self._bias_gradient, implied)
            self.exact = False
        if not bool(mask.all()) and bool((mask.any(0) == mask.all(0)).all()):
            # Whole columns were dropped, whatever they held; single entries are dropped because they are small.
            assumed = self.bias_gradient[:, None] * self.random_features().mean(0)
            self.weight_gradient = torch.where(mask, self.weight_gradient, assumed)

    def _shortened(self) -> float:
        """By how much the gradient is too short: g_b[c] = mean_i p_ic where a class is absent, as most positive are."""
        absent = self.bias_gradient > 0
        if not bool(absent.any()):
            return 1.0
        expected = self.posteriors(self.random_features()).mean(0)
        return max(1.0, float((expected[absent] / self.bias_gradient[absent]).median()))

    def _unit_direction(self) -> Float[Tensor, "features"]:
        """The u with u . h = 1 for the mean h of random images, along which the h differ least."""
        features = self.random_features()
        mean = features.mean(0)
        spread = (features - mean) / len(features) ** 0.5
        ridge = spread.square().sum() / len(features) + torch.finfo(mean.dtype).tiny
        inner = spread @ spread.T + ridge * torch.eye(len(spread), dtype=mean.dtype, device=mean.device)
        direction = mean - spread.T @ torch.linalg.solve(inner, spread @ mean)
        unit: Tensor = direction / (direction @ mean).clamp_min(torch.finfo(mean.dtype).tiny)
        return unit


def _idlg(view: _View) -> Float[Tensor, "classes"]:
    """Zhao et al. 2020: p_c - [y = c] is negative for the label alone."""
    if view.has_bias:
        return _one_hot(view.bias_gradient.argmin(), view.bias_gradient)
    direction = view.row_space()
    left, values, right = torch.linalg.svd(view.weight_gradient @ direction.T, full_matrices=False)
    residual, right = left[:, 0] * values[0], right @ direction
    # The rows are multiples of one vector of unknown sign. The label's is the longest, and the only one of its sign; if
    # all the rest is in one other row, the two are equally long, and random images must tell the sign.
    cubes = residual.pow(3)
    if cubes.sum().abs() < 1e-3 * cubes.abs().sum():
        residual = residual * torch.sign(view.random_features().mean(0) @ right[0])
    else:
        residual = residual * -torch.sign(cubes.sum())
    return _one_hot(residual.argmin(), residual)


def _from_signs(view: _View) -> Float[Tensor, "classes"]:
    """Equally many of each class whose sign is negative, which proves an example; of all classes, if none is."""
    present = (view.bias_gradient < 0).double()
    if not bool(present.any()):
        present = torch.ones_like(present)
    return view.batch_size * present / present.sum()


def _yin(view: _View) -> Float[Tensor, "classes"]:
    """Yin et al. 2021: the rows of the weight's gradient with the smallest minimum over features."""
    smallest = view.weight_gradient.amin(1)
    scores = torch.zeros_like(smallest)
    scores[smallest.argsort(stable=True)[: view.batch_size]] = 1.0
    return scores


def _wainakh(view: _View) -> Float[Tensor, "classes"]:
    """Wainakh et al. 2022: g_c = n_c x impact + offset_c; a negative g_c proves one example.

    The paper sums the weight's gradient over the features; the bias's, or its estimate, also serves features that may
    be negative. `_certain` is the sign's proof, sharpened. Impact and offset are those of random images (LLG*).
    """
    posteriors = view.posteriors(view.random_features())
    classes = posteriors.shape[1]
    offset = posteriors.mean(0)
    impact = (offset.mean() - 1) * (1 + 1 / classes) / view.batch_size
    return (view.bias_gradient - offset) / impact


def _geng(view: _View) -> Float[Tensor, "classes"]:
    """Geng et al. 2021: n_c = B (mean_i p_ic - g_b[c]), with posteriors at features that the gradient itself yields.

    The mean of two estimates, which err differently on trained networks.
    """
    if not bool((view.bias_gradient < 0).any()):
        return view.batch_size * view.posteriors(view.random_features()).mean(0)
    return (_from_rows(view) + _from_class_features(view)) / 2


def _from_rows(view: _View) -> Float[Tensor, "classes"]:
    """With the features g_W[c] / g_b[c], about the mean of class c's examples where they dominate: where g_b[c] < 0."""
    shown = view.bias_gradient < 0
    weights = -view.bias_gradient[shown]
    posteriors = view.posteriors(view.weight_gradient[shown] / -weights[:, None])
    return view.batch_size * (weights @ posteriors / weights.sum() - view.bias_gradient)


def _from_class_features(
    view: _View, iterations: int = 30, damping: float = 0.5, ridge: float = 0.1
) -> Float[Tensor, "classes"]:
    """With features m_c that all examples of a class are taken to share.

        g_W = (1/B) sum_k n_k (p(m_k) - e_k) m_k^T

    Counts, posteriors and class features are solved for in turn, from the batch's mean feature on; the ridge keeps
    classes that the gradient hardly shows near it.
    """
    total, g_w, g_b = view.batch_size, view.weight_gradient, view.bias_gradient
    # Weights that sum to 1: an affine combination of the batch's features.
    mean = g_b @ g_w / (g_b @ g_b)
    # All class features lie in the span of the gradient's rows; its coordinates are few.
    basis = view.row_space()
    target, weight = total * g_w @ basis.T, view.weight @ basis.T
    posterior = view.predict((basis @ mean) @ weight.T + view.bias)
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
        posteriors = view.predict(features @ weight.T + view.bias)
        scores = counts @ posteriors - total * g_b
    return scores


def _possible(scores: Float[Tensor, "classes"], total: int) -> Int64[Tensor, "some"]:
    """Classes that may have examples: all of them, or the likeliest where there are many."""
    if len(scores) <= _MANY:
        return torch.arange(len(scores), device=scores.device)
    return scores.topk(min(len(scores), max(_LIKELY, 4 * total))).indices.sort().values


def _ridge_solution(
    mixing: Float[Tensor, "classes some"], rest: Float[Tensor, "classes rank"], ridge: float
) -> Float[Tensor, "some rank"]:
    """M^T (M M^T + r I)^-1 R, by whichever of M M^T and M^T M is smaller; r is a share of M M^T's mean diagonal."""
    classes, some = mixing.shape
    shift = ridge * mixing.square().sum() / classes + 1e-30
    inner = mixing @ mixing.T if classes <= some else mixing.T @ mixing
    inner.diagonal().add_(shift)
    solution: Tensor = (
        mixing.T @ torch.linalg.solve(inner, rest) if classes <= some else torch.linalg.solve(inner, mixing.T @ rest)
    )
    return solution


def _certain(view: _View) -> Int64[Tensor, "classes"]:
    """How many of each class there must be: posteriors are not negative, so n_c >= -B g_b[c]."""
    floor = torch.zeros_like(view.bias_gradient, dtype=torch.int64)
    if not view.exact:
        return floor
    # A bias's gradient sums to zero but for rounding, and for what a defense did to it: noise or pruning prove less.
    error = 1e-6 + 3 * view.bias_gradient.sum().abs()
    bounds = (view.batch_size * (-view.bias_gradient - error)).tolist()
    least = torch.tensor([max(0, ceil(bound)) for bound in bounds], device=floor.device)
    return least if int(least.sum()) <= view.batch_size else floor


def _one_hot(index: Tensor, like: Tensor) -> Float[Tensor, "classes"]:
    scores = torch.zeros_like(like)
    scores[index] = 1.0
    return scores


def _random_features(
    observation: Observation, head: Head, generator: torch.Generator
) -> Float[Tensor, "images features"]:
    """What enters the last layer for random images, in float64."""
    parameter = next(observation.model.parameters())
    images = _random_images(_NUM_RANDOM_IMAGES, observation.input_shape, generator)
    inputs = observation.scale.apply(images.to(parameter.device, parameter.dtype))
    with torch.no_grad():
        return head.features(inputs, copied_state(observation.model))[0].double()


def _random_images(
    count: int, shape: tuple[int, int, int], generator: torch.Generator
) -> Float[Tensor, "images channels height width"]:
    """Images in [0, 1] with the 1/f spectrum, brightness and contrast that photographs have."""
    channels, height, width = shape
    device = generator.device
    noise = torch.randn(count, 1, height, width, generator=generator, device=device)
    color = torch.randn(count, channels, height, width, generator=generator, device=device)
    rows, columns = torch.fft.fftfreq(height, device=device), torch.fft.rfftfreq(width, device=device)
    frequency = torch.hypot(rows[:, None], columns).clamp_min(1 / max(height, width))
    texture = torch.fft.irfft2(torch.fft.rfft2(noise + 0.35 * color) / frequency, s=(height, width))
    texture = texture / texture.square().mean((1, 2, 3), keepdim=True).sqrt()
    brightness, contrast = torch.rand(2, count, 1, 1, 1, generator=generator, device=device)
    images: Tensor = brightness + 0.4 * contrast * texture
    return images.clamp(0, 1)
