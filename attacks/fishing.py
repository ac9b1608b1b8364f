"""Fishing: a last layer that silences all classes but one, so that a batch's gradient is that of a few images.

Wen, Geiping, Fowl, Goldblum, Goldstein, Fishing for user data in large-batch federated learning via gradient
magnification, ICML 2022, arXiv:2202.00580. Deviations: one shot (the paper's server refines a threshold over rounds);
the images that are left are inverted with `inverting_gradients`.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from fedsec.attacks.inverting_gradients import InvertingGradients
from fedsec.errors import InputError
from fedsec.matching.head import Head, find_head
from fedsec.matching.row_images import filled
from fedsec.threat import Distortion, MaliciousServer, Observation, Reconstruction, ServerView
from fedsec.threat.inversion import Watch

__all__ = ["Fishing"]

_SILENCE = 50.0
"""Logits by which the class is behind all others: exp(-50) of a gradient is left of images of other classes."""
_SHARPNESS = 1e3
"""Of the threshold on a feature, in its standard deviations."""
_FAINT = 1e-6
_WHOLE = 0.02
"""How far from a whole number a count of images may seem to be."""


class Fishing(MaliciousServer):
    """Changes the last layer so that only images of one class leave a gradient in the layers before it.

    Of the target class c the logit is far below all others, which are equal. An image of c has the gradient of a
    probability of zero, W_c^T, at its features, and one of another class that of p_c = exp(-50), which is nothing:

        g_body = -(1/B) sum_(i: y_i = c) W_c^T d features_i / d theta        g_b[c] = -n_c / B

    The bias tells how many images of c there are, and what is left of the gradient is theirs alone, however large the
    batch. `InvertingGradients` then recovers them; of the last layer it sees the row of c, in which nobody else left
    anything.

    Where all images of a batch are of one class, `feature` fishes by a feature instead: the logit rises steeply with
    one of the features, and of all images only those below a threshold, set to let one in `batch_size` through, keep a
    gradient. In one shot it is exactly one in 37% of large batches.

    Args:
        target_class: its number; null: one drawn at random.
        variant: `class`, or `feature` for batches of one class, the target.
        iterations: of the inversion.
        restarts: of the inversion.
        tv: weight of total variation in it.

    Raises:
        InputError: on use: the model does not end in a linear layer with a bias, or the target is no class of it.

    Cost:
        That of `inverting_gradients` for the images that are left.

    Limits:
        What is left of the gradient has to be inverted, as well as that goes on this network. Several images of the
        class are a batch again. `feature` needs a batch of one class: of others, those above the threshold would leave
        a gradient. The last layer's rows that are switched off, and one gradient that outshines all others, are easily
        seen.

    Example:
        iterations: 400

    Reference: Wen et al., ICML 2022, arXiv:2202.00580
    """

    def __init__(
        self,
        target_class: int | None = None,
        variant: Literal["class", "feature"] = "class",
        iterations: int = 2400,
        restarts: int = 1,
        tv: float = 1e-2,
    ) -> None:
        if target_class is not None and target_class < 0:
            raise InputError(f"Fishing: target_class must be 0 or more, got {target_class}")
        if variant not in ("class", "feature"):
            raise InputError(f"Fishing: variant must be class or feature, got {variant!r}")
        self.target_class, self.variant = target_class, variant
        self.inner = InvertingGradients(iterations=iterations, restarts=restarts, tv=tv)

    def build(self, view: ServerView, *, generator: torch.Generator) -> nn.Module:
        if self.target_class is not None and self.target_class >= view.num_classes:
            raise InputError(f"fishing: target_class {self.target_class} is no class of {view.num_classes}")
        drawn = int(torch.randint(view.num_classes, (), generator=generator))
        target = drawn if self.target_class is None else self.target_class
        model = deepcopy(view.model)
        head = _head(model, view)
        layer = model.get_submodule(head.name)
        assert isinstance(layer, nn.Linear)
        row = layer.weight[target].detach().clone()
        bias = -_SILENCE
        if self.variant == "feature":
            features = _features(head, view, target, generator)
            place = int(features.std(0, correction=0).argmax())
            spread = float(features[:, place].std(correction=0).clamp_min(1e-6))
            threshold = float(features[:, place].quantile(min(0.5, 1 / view.summed)))
            row.zero_()[place] = _SHARPNESS / spread
            bias = -_SHARPNESS * threshold / spread
        with torch.no_grad():
            layer.weight.zero_()[target] = row
            layer.bias.zero_()[target] = bias
        return model

    def recover(
        self, observations: Sequence[Observation], *, generator: torch.Generator, watch: Watch
    ) -> Sequence[Reconstruction]:
        return [self._one(observation, generator, watch) for observation in observations]

    def _one(self, observation: Observation, generator: torch.Generator, watch: Watch) -> Reconstruction:
        head = find_head(observation)
        if head is None or not head.bias_name or head.bias_name not in observation.update:
            raise InputError("fishing reads the last linear layer's bias, and the update has none; expected all of it")
        target = int(head.weight.abs().sum(1).argmax())
        bias = observation.gradient[head.bias_name]
        size = observation.batch_size
        count = min(self._count(observation, bias, target), size)
        if count < 1:
            note = f"no image of class {target} was in the batch, or none below the threshold: nothing is left"
            return Reconstruction(filled(observation, []), None, notes=(note,))
        left = _left(observation, head, target, count)
        if not any(bool(row.abs().max() > _FAINT * bias.abs().max()) for row in left.update.values()):
            return Reconstruction(filled(observation, []), None, notes=("nothing is left of the gradient",))
        recovered = self.inner.reconstruct(left, generator=generator)
        assert recovered.images is not None
        note = f"{count} of {size} images are of class {target} and alone in the gradient; the others are gray"
        return replace(
            recovered, images=filled(observation, recovered.images), labels=None, features=None, notes=(note,)
        )

    def _count(self, observation: Observation, bias: Tensor, target: int) -> int:
        """How many images are left, from the gradient of the last layer's bias."""
        if observation.distortion is None or not observation.distortion.rescaled:
            return round(-float(bias[target]) * observation.batch_size)
        if self.variant == "feature":
            return int(bias[target] < 0)  # of what one image left and several, only the length differs
        if observation.labels is not None:
            return int((observation.labels == target).sum())
        return _likely_count(bias.double().cpu(), target, observation.batch_size)


def _likely_count(bias: Tensor, target: int, size: int) -> int:
    """How many images of the target's class there are, from a gradient of the bias up to an unknown factor.

    It is f (p - n / B) with p = 1 / (C - 1) for all classes but the target's. The largest entry is that of a class with
    few images: each number that this may be gives f, and with it all numbers n, which must be whole.
    """
    shares = torch.full_like(bias, 1 / (len(bias) - 1))
    shares[target] = 0
    rarest = int(bias.argmax())
    if rarest == target or not float(bias[rarest]) > 0:
        return 0
    most = int(-(-size // (len(bias) - 1))) - 1  # of a class with fewer images than its share
    factors = bias[rarest] / (shares[rarest] - torch.arange(most + 1, dtype=bias.dtype) / size)
    numbers = size * (shares - bias / factors[:, None])
    errors = (numbers - numbers.round()).abs().amax(1) + (-numbers).clamp_min(0).amax(1)
    fitting = errors < max(_WHOLE, 1.01 * float(errors.min()))
    # Of several, the likeliest by chance: labels that are spread most evenly.
    uneven = numbers.square().sum(1).masked_fill(~fitting, torch.inf)
    return round(float(numbers[uneven.argmin(), target]))


def _left(observation: Observation, head: Head, target: int, count: int) -> Observation:
    """What the images of the target left, as if they had been the whole batch."""
    masks = {}
    for name in (head.weight_name, head.bias_name):
        mask = torch.zeros_like(observation.update[name], dtype=torch.bool)
        mask[target] = True
        masks[name] = mask
    own = Distortion(kept=masks)
    distortion = own if observation.distortion is None else observation.distortion.joined(own)
    factor = observation.batch_size / count
    update = {name: factor * row * masks.get(name, True) for name, row in observation.update.items()}
    labels = torch.full((count,), target, device=observation.device)
    return replace(
        observation, update=update, batch_size=count, labels=labels, distortion=distortion.times(1.0), statistics=None
    )


def _head(model: nn.Module, view: ServerView) -> Head:
    parameters = {name: torch.zeros_like(row) for name, row in model.named_parameters() if row.requires_grad}
    seen = Observation(model, parameters, view.input_shape, view.num_classes, view.batch_size, view.scale)
    head = find_head(seen)
    if head is None or not head.bias_name or head.tied or not isinstance(model.get_submodule(head.name), nn.Linear):
        raise InputError("fishing needs a model that ends in a linear layer with a bias of its own")
    return head


def _features(head: Head, view: ServerView, target: int, generator: torch.Generator) -> Tensor:
    """What enters the last layer for images of the target class, or for any where the server has none."""
    images, labels = view.auxiliary, view.auxiliary_labels
    if images is None:
        images = torch.rand(64, *view.input_shape, generator=generator)
    elif labels is not None and int((labels == target).sum()) > 1:
        images = images[labels == target]
    with torch.no_grad():
        return head.features(view.scale.apply(images.to(head.weight)))[0]
