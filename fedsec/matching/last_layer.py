"""The last linear layer as label recovery sees it: its gradient, and what random images look like to it."""

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.errors import InputError
from fedsec.matching.head import Head, find_head
from fedsec.matching.limits import Deadline
from fedsec.matching.row_space import row_space
from fedsec.threat import Distortion, Observation

__all__ = ["MANY", "LastLayer"]

MANY = 512
"""Beyond so many classes, only the likeliest have features of their own, and the gradient's rank is made use of."""

_NUM_RANDOM_IMAGES = 64
_OVERSAMPLED = 10


class LastLayer:
    """The last layer and its gradient, in float64, and what random images look like to it.

    Args:
        observation: of a single gradient, or of local steps, which are read as one at the model midway.
        generator: of the random images.
        deadline: when it passes, fewer of them are looked at.

    Attributes:
        batch_size: of the client.
        weight: [classes, features].
        bias: [classes]; zeros where there is none.
        weight_gradient: [classes, features], in units in which the loss's slope is one; see `ClientLoss`. Zero where
            the update leaves it out.
        has_weight: whether the update has the weight's gradient.
        has_bias: whether the update has the bias's gradient.
        exact: whether that is the gradient of a mean loss, of predictions that are not negative, and nothing else.
        signs: whether only signs were sent.

    Raises:
        InputError: there is no such layer, the update leaves it out, or the loss tells no labels.
    """

    def __init__(self, observation: Observation, generator: torch.Generator, deadline: Deadline | None = None) -> None:
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
        if weight_gradient is None and bias_gradient is None:
            raise InputError(
                f"recover_labels: the update leaves out {head.weight_name!r}, from which labels are read, as where a "
                "client does not train the last layer; expected granted labels, or an attack that searches for labels "
                "together with the images, such as dlg"
            )
        self.has_weight = weight_gradient is not None
        if weight_gradient is None:
            weight_gradient = torch.zeros_like(head.weight)
        self._observation, self._head, self._generator, self._predict = observation, head, generator, predict
        self._deadline = deadline or Deadline()
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
        signed = observation.loss.name == "mse" or observation.loss.smoothing > 0
        self.exact = self.has_bias and observation.local is None and not signed
        self.signs = observation.distortion is not None and observation.distortion.signs
        distortion = observation.distortion
        if distortion is None and observation.local is not None and observation.local.clip_norm is not None:
            distortion = Distortion(rescaled=True)  # nobody knows which steps were cut, and to what part
        if distortion is not None:
            self._see_through(distortion)

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
        if max(gradient.shape) <= MANY or rank >= min(gradient.shape):
            everything: Tensor = torch.linalg.svd(gradient, full_matrices=False).Vh
            return everything
        return row_space(gradient, rank)

    def random_features(self) -> Float[Tensor, "images features"]:
        """What enters the last layer for random images."""
        if self._random is None:
            self._random = _random_features(self._observation, self._head, self._generator, self._deadline)
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


def _random_features(
    observation: Observation, head: Head, generator: torch.Generator, deadline: Deadline
) -> Float[Tensor, "images features"]:
    """What enters the last layer for random images, in float64."""
    images = _random_images(_NUM_RANDOM_IMAGES, observation.input_shape, generator)
    return head.features_of_random(images, observation, deadline).double()


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
