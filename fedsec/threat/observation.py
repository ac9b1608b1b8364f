"""What an honest-but-curious server holds, and what an inversion makes of it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from math import isfinite

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from fedsec.errors import InputError
from fedsec.threat.distortion import Distortion

__all__ = ["LocalTraining", "Observation", "PixelScale", "Reconstruction"]


@dataclass(frozen=True)
class PixelScale:
    """How pixels in [0, 1] become the model's input: (image - mean) / std, channel by channel.

    Args:
        mean: one number a channel, or one for all.
        std: likewise, positive.

    Raises:
        InputError: lengths differ, or a deviation is not positive.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(map(float, self.mean)))
        object.__setattr__(self, "std", tuple(map(float, self.std)))
        fine = len(self.mean) == len(self.std) > 0 and all(map(isfinite, (*self.mean, *self.std)))
        if not fine or min(self.std) <= 0:
            raise InputError(f"PixelScale: expected as many finite means as positive deviations, got {self}")

    def tensors(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation as [channels, 1, 1], with the dtype and the device of `like`."""
        mean, std = (
            torch.tensor(v, dtype=like.dtype, device=like.device).view(-1, 1, 1) for v in (self.mean, self.std)
        )
        return mean, std

    def apply(
        self, images: Float[Tensor, "*batch channels height width"]
    ) -> Float[Tensor, "*batch channels height width"]:
        """Pixels in [0, 1] -> the model's input."""
        mean, std = self.tensors(images)
        return (images - mean) / std

    def undo(
        self, inputs: Float[Tensor, "*batch channels height width"]
    ) -> Float[Tensor, "*batch channels height width"]:
        """The model's input -> pixels in [0, 1]."""
        mean, std = self.tensors(inputs)
        return inputs * std + mean


@dataclass(frozen=True)
class LocalTraining:
    """The client's local training, as the server prescribed it: plain SGD on slices of a shuffled epoch.

    Args:
        lr: learning rate, positive.
        steps: number of SGD steps, at least 1.
        batch_size: images in one step; the last step of an epoch takes what is left. None: all images in every step.
        momentum: of SGD (PyTorch's form), in [0, 1).
        weight_decay: times the parameters, added to each gradient.

    Raises:
        InputError: a number out of range.
    """

    lr: float
    steps: int
    batch_size: int | None = None
    momentum: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if not (isfinite(self.lr) and self.lr > 0):
            raise InputError(f"LocalTraining: lr must be positive, not {self.lr}")
        if self.steps < 1 or (self.batch_size is not None and self.batch_size < 1):
            raise InputError(
                f"LocalTraining: steps and batch_size must be at least 1, not {self.steps} and {self.batch_size}"
            )
        if not (0 <= self.momentum < 1 and 0 <= self.weight_decay < float("inf")):
            raise InputError(
                f"LocalTraining: momentum must be in [0, 1) and weight_decay not negative, not {self.momentum} and "
                f"{self.weight_decay}"
            )

    @property
    def strength(self) -> float:
        """The steps that would make the same difference without momentum, for a gradient that stays the same.

        sum over t = 1..steps of (1 - momentum^t) / (1 - momentum)
        """
        return sum(1 - self.momentum**step for step in range(1, self.steps + 1)) / (1 - self.momentum)

    def slots(self, num_images: int) -> Iterator[tuple[int, slice]]:
        """(epoch, which places of its shuffled order) of each step."""
        size = min(self.batch_size or num_images, num_images)
        starts = range(0, num_images, size)
        for step in range(self.steps):
            start = starts[step % len(starts)]
            yield step // len(starts), slice(start, min(start + size, num_images))

    def epochs(self, num_images: int) -> int:
        """How often the client goes through its images, the last time perhaps not to the end."""
        return max(epoch for epoch, _ in self.slots(num_images)) + 1


@dataclass(frozen=True, eq=False)
class Observation:
    """All that an honest-but-curious server knows of one client's update. There is no field for the truth.

    Attributes:
        model: architecture, broadcast parameters and buffers; a private copy is kept. `model.training` says which mode
            of normalization layers the attacker assumes.
        update: what the client sent, by parameter name; kept in the parameters' dtypes. Without `local`: the gradient
            of the mean cross-entropy over its images. With `local`: its parameters after local training minus the
            broadcast ones.
        input_shape: (channels, height, width) of one image.
        num_classes: number of logits.
        batch_size: how many images the client used.
        scale: how pixels become the model's input.
        local: the client's local training, or None for a single gradient.
        labels: of the images, in no particular order; only where the attacker is granted them.
        statistics: by name of a batch-normalization layer, mean and biased variance [channels] of what entered it with
            the client's batch; only where granted.
        distortion: how a defense that the attacker knows changed the update; only where granted.

    Raises:
        InputError: the parts do not go together.
    """

    model: nn.Module
    update: Mapping[str, Tensor]
    input_shape: tuple[int, int, int]
    num_classes: int
    batch_size: int
    scale: PixelScale = field(default_factory=PixelScale)
    local: LocalTraining | None = None
    labels: Int64[Tensor, "batch"] | None = None
    statistics: Mapping[str, tuple[Tensor, Tensor]] | None = None
    distortion: Distortion | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", deepcopy(self.model).requires_grad_(False))
        object.__setattr__(self, "update", _checked_update(dict(self.model.named_parameters()), self.update))
        if len(self.input_shape) != 3 or min(self.input_shape) < 1:
            raise InputError(f"Observation: input_shape must be (channels, height, width), got {self.input_shape}")
        if self.batch_size < 1 or self.num_classes < 2:
            raise InputError(
                f"Observation: batch_size must be at least 1 and num_classes at least 2, got {self.batch_size} and "
                f"{self.num_classes}"
            )
        if len(self.scale.mean) not in (1, self.input_shape[0]):
            raise InputError(f"Observation: {self.scale} does not go with images of {self.input_shape[0]} channels")
        if self.labels is not None:
            _check_labels(self.labels, self.batch_size, self.num_classes)
            object.__setattr__(self, "labels", self.labels.to(self.device).clone())
        if self.statistics is not None:
            granted = _checked_statistics(dict(self.model.named_modules()), self.statistics)
            kept = {name: (mean.to(self.device), var.to(self.device)) for name, (mean, var) in granted.items()}
            object.__setattr__(self, "statistics", kept)
        if self.distortion is not None:
            object.__setattr__(self, "distortion", self.distortion.on(self.update))

    @classmethod
    def of_gradient(
        cls,
        model: nn.Module,
        gradient: Iterable[Tensor] | Mapping[str, Tensor],
        *,
        input_shape: Sequence[int],
        num_classes: int,
        batch_size: int,
        scale: PixelScale | None = None,
        labels: Int64[Tensor, "batch"] | None = None,
        statistics: Mapping[str, tuple[Tensor, Tensor]] | None = None,
        distortion: Distortion | None = None,
    ) -> "Observation":
        """From a gradient, as `torch.autograd.grad(loss, model.parameters())` returns it.

        Args:
            model: as broadcast; its mode (train or eval) is the one the attacker assumes.
            gradient: of the mean cross-entropy, in the order of the trainable `model.parameters()`, or by name.
            input_shape: see `Observation`, as all that follow.
            num_classes: number of logits.
            batch_size: images in the batch.
            scale: how pixels become the model's input; none by default.
            labels: if granted.
            statistics: if granted.
            distortion: if granted.

        Raises:
            InputError: the parts do not go together.
        """
        update = gradient if isinstance(gradient, Mapping) else _named(model, gradient)
        shape = tuple(map(int, input_shape))
        scale = scale or PixelScale()
        return cls(model, update, shape, num_classes, batch_size, scale, None, labels, statistics, distortion)  # type: ignore[arg-type]

    @property
    def device(self) -> torch.device:
        """Where the update lies."""
        return next(iter(self.update.values())).device

    @property
    def gradient(self) -> dict[str, Tensor]:
        """The update as a mean gradient: itself, or to first order minus the difference over lr x `local.strength`.

        Weight decay is not taken out.
        """
        if self.local is None:
            return dict(self.update)
        return {name: row / (-self.local.lr * self.local.strength) for name, row in self.update.items()}


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What an inversion recovered from one observation.

    Attributes:
        images: in [0, 1], in an order of the attack's own; None if it recovers labels only.
        labels: of the same images, or None if it recovers neither.
        losses: the matching loss of the chosen restart at intervals, last the final one.
        iterations: of the optimizer, or 0 for closed forms.
        features: what enters the last linear layer, if the attack recovers it.
        interrupted: stopped by the user; the best so far.
        notes: what a reader should know, one line each.
    """

    images: Float[Tensor, "batch channels height width"] | None
    labels: Int64[Tensor, "batch"] | None
    losses: Float[Tensor, "records"] = field(default_factory=lambda: torch.zeros(0))
    iterations: int = 0
    features: Float[Tensor, "batch features"] | None = None
    interrupted: bool = False
    notes: tuple[str, ...] = ()


def _named(model: nn.Module, gradient: Iterable[Tensor]) -> dict[str, Tensor]:
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    rows = list(gradient)
    if len(rows) != len(names):
        raise InputError(f"Observation: {len(rows)} gradients for the model's {len(names)} trainable parameters")
    return dict(zip(names, rows, strict=True))


def _checked_update(parameters: dict[str, nn.Parameter], update: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A copy in the parameters' dtypes."""
    if not update:
        raise InputError("Observation: the update is empty")
    kept = {}
    for name, row in update.items():
        if name not in parameters:
            raise InputError(f"Observation: the update names {name!r}, which is no parameter of the model")
        if row is None:
            raise InputError(
                f"Observation: the gradient of {name!r} is None; use allow_unused=False, or name the parameters that "
                f"have one"
            )
        parameter = parameters[name]
        if row.shape != parameter.shape:
            raise InputError(
                f"Observation: the update of {name!r} has shape {tuple(row.shape)}, the parameter "
                f"{tuple(parameter.shape)}"
            )
        if row.device != parameter.device:
            raise InputError(
                f"Observation: the update of {name!r} is on {row.device}, the parameter on {parameter.device}"
            )
        kept[name] = row.detach().to(parameter.dtype, copy=True)
        if not row.is_floating_point() or not bool(kept[name].isfinite().all()):
            raise InputError(
                f"Observation: the update of {name!r} must be finite floating-point numbers, also as {parameter.dtype}"
            )
    return kept


def _checked_statistics(
    layers: dict[str, nn.Module], statistics: Mapping[str, tuple[Tensor, Tensor]]
) -> dict[str, tuple[Tensor, Tensor]]:
    kept = {}
    for name, pair in statistics.items():
        if name not in layers:
            raise InputError(f"Observation: statistics of {name!r}, which the model does not have")
        layer = layers[name]
        if not isinstance(layer, _NormBase):
            raise InputError(
                f"Observation: statistics of {name!r}, which is no batch normalization but {type(layer).__name__}"
            )
        wanted = (layer.num_features,)
        if len(pair) != 2 or any(row.shape != wanted or not row.is_floating_point() for row in pair):
            raise InputError(
                f"Observation: statistics of {name!r} must be mean and variance of shape {wanted}, floating-point, got "
                f"{', '.join(f'{row.dtype} of shape {tuple(row.shape)}' for row in pair)}"
            )
        mean, variance = (row.detach().clone() for row in pair)
        if not bool(mean.isfinite().all() and variance.isfinite().all() and (variance >= 0).all()):
            raise InputError(f"Observation: statistics of {name!r} must be finite, the variance not negative")
        kept[name] = mean, variance
    return kept


def _check_labels(labels: Tensor, batch_size: int, num_classes: int) -> None:
    if labels.shape != (batch_size,) or labels.dtype != torch.int64:
        raise InputError(
            f"Observation: labels must be {batch_size} of int64, got {labels.dtype} of shape {tuple(labels.shape)}"
        )
    if int(labels.min()) < 0 or int(labels.max()) >= num_classes:
        raise InputError(f"Observation: labels must lie in [0, {num_classes})")
