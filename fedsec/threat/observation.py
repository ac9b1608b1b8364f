"""What an honest-but-curious server holds of one client's update."""

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from fedsec.errors import InputError
from fedsec.threat.distortion import Distortion
from fedsec.threat.observed.client_loss import ClientLoss, Reduction, client_loss
from fedsec.threat.observed.functional_dropout import calls_dropout
from fedsec.threat.observed.local_steps import LocalSteps
from fedsec.threat.observed.pixel_scale import PixelScale
from fedsec.threat.observed.private_model import DROPOUT_REMARK, private_model, unwrapped
from fedsec.threat.observed.received import (
    checked_labels,
    checked_statistics,
    checked_update,
    named,
    parameters_and_buffers,
)
from fedsec.threat.observed.sent_statistics import sent_statistics
from fedsec.threat.observed.state_pair import StatePair

__all__ = ["Observation"]

_CUT = 1e-3
"""How near to the bound a gradient's length is taken for cut: rounding, and the 1e-6 that clipping adds to it."""


@dataclass(frozen=True, eq=False)
class Observation:
    """All that an honest-but-curious server knows of one client's update. There is no field for the truth.

    Attributes:
        model: architecture, broadcast parameters and buffers; a private copy is kept, in float32 where the client's
            has less precision. The mode of its normalization layers is the one that the attacker assumes; everything
            else is in eval mode.
        update: what the client sent, by parameter name; kept in the copy's dtypes. Without `local`: the gradient
            of the loss over its images. With `local`: its parameters after local training minus the broadcast ones.
        input_shape: (channels, height, width) of one image.
        num_classes: number of logits.
        batch_size: how many images the client used.
        scale: how pixels become the model's input.
        local: the client's local training, or None for a single gradient.
        labels: of the images, in no particular order; only where the attacker is granted them.
        statistics: by name of a batch-normalization layer, mean and biased variance [channels] of what entered it with
            the client's batch; granted, or from the buffers that the client sent.
        distortion: how a defense that the attacker knows changed the update; only where granted.
        loss: what the client minimizes; see `client_loss`. Kept as a `ClientLoss`.
        reduction: over the images of a step: `mean` or `sum`.
        loss_scale: a number that the loss was multiplied by and the update not divided by, as mixed precision does.
        unsent: names of parameters that the client trained like the others in its local steps and kept to itself; the
            attacker replays them from where they stand in its copy of the model. What is neither here nor in `update`
            held still.
        remarks: what a reader should know of how all this was taken, one line each.

    Raises:
        InputError: the parts do not go together.
    """

    model: nn.Module
    update: Mapping[str, Tensor]
    input_shape: tuple[int, int, int]
    num_classes: int
    batch_size: int
    scale: PixelScale = field(default_factory=PixelScale)
    local: LocalSteps | None = None
    labels: Int64[Tensor, "batch"] | None = None
    statistics: Mapping[str, tuple[Tensor, Tensor]] | None = None
    distortion: Distortion | None = None
    loss: ClientLoss = field(default_factory=lambda: client_loss("cross_entropy"))
    reduction: Reduction = "mean"
    loss_scale: float = 1.0
    unsent: tuple[str, ...] = ()
    remarks: tuple[str, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        broadcast = self.model
        model, remarks = private_model(broadcast)
        object.__setattr__(self, "model", model)
        object.__setattr__(self, "remarks", tuple(remarks))
        object.__setattr__(self, "update", checked_update(model, self.update))
        _check_shape(self.input_shape)
        _check_unsent(model, self.update, self.unsent)
        if self.batch_size < 1 or self.num_classes < 2:
            raise InputError(
                f"Observation: batch_size must be at least 1 and num_classes at least 2, got {self.batch_size} and "
                f"{self.num_classes}"
            )
        if len(self.scale.mean) not in (1, self.input_shape[0]):
            raise InputError(f"Observation: {self.scale} does not go with images of {self.input_shape[0]} channels")
        if DROPOUT_REMARK not in remarks and self._calls_dropout(broadcast):
            object.__setattr__(self, "remarks", (*remarks, DROPOUT_REMARK))
        object.__setattr__(self, "loss", client_loss(self.loss))
        if self.reduction not in ("mean", "sum"):
            raise InputError(f"Observation: reduction must be mean or sum, got {self.reduction!r}")
        if not (isfinite(self.loss_scale) and self.loss_scale > 0):
            raise InputError(f"Observation: loss_scale must be positive and finite, got {self.loss_scale}")
        if self.labels is not None:
            labels = checked_labels(self.labels, self.batch_size, self.num_classes)
            object.__setattr__(self, "labels", labels.to(self.device).clone())
        if self.statistics is not None:
            statistics = checked_statistics(dict(model.named_modules()), self.statistics)
            like = next(iter(self.update.values()))
            on_device = {name: (mean.to(like), var.to(like)) for name, (mean, var) in statistics.items()}
            object.__setattr__(self, "statistics", on_device)
        if self.distortion is not None:
            object.__setattr__(self, "distortion", self.distortion.on(self.update))

    def _calls_dropout(self, broadcast: nn.Module) -> bool:
        """Whether the broadcast model, in its own mode, draws masks by itself, without a module for them."""
        parameter = next(broadcast.parameters())
        gray = torch.full((2, *self.input_shape), 0.5, dtype=parameter.dtype, device=parameter.device)
        return calls_dropout(unwrapped(broadcast), self.scale.apply(gray))

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
        labels: Int64[Tensor, "batch"] | Sequence[int] | None = None,
        statistics: Mapping[str, tuple[Tensor, Tensor]] | None = None,
        distortion: Distortion | None = None,
        loss: Any = "cross_entropy",
        reduction: Reduction = "mean",
        loss_scale: float = 1.0,
    ) -> "Observation":
        """From a gradient, as `torch.autograd.grad(loss, model.parameters())` returns it.

        Args:
            model: as broadcast; the mode (train or eval) of its normalization layers is the one the attacker assumes.
            gradient: of the loss, in the order of the trainable `model.parameters()`, or by name; tensors or arrays.
            input_shape: see `Observation`, as all that follow.
            num_classes: number of logits.
            batch_size: images in the batch.
            scale: how pixels become the model's input; none by default.
            labels: if granted.
            statistics: if granted.
            distortion: if granted.
            loss: mean cross-entropy by default.
            reduction: over the batch.
            loss_scale: that the gradient still carries.

        Raises:
            InputError: the parts do not go together.
        """
        update = gradient if isinstance(gradient, Mapping) else named(model, gradient)
        return cls(
            model,
            update,
            tuple(map(int, input_shape)),  # type: ignore[arg-type]
            num_classes,
            batch_size,
            scale or PixelScale(),
            None,
            labels,  # type: ignore[arg-type]
            statistics,
            distortion,
            client_loss(loss),
            reduction,
            loss_scale,
        )

    @classmethod
    def of_update(
        cls,
        model: nn.Module,
        difference: Mapping[str, Tensor],
        *,
        local: LocalSteps,
        input_shape: Sequence[int],
        num_classes: int,
        batch_size: int,
        buffers_before: Mapping[str, Tensor] | None = None,
        buffers_after: Mapping[str, Tensor] | None = None,
        **known: Any,
    ) -> "Observation":
        """From a client's state after local training minus the broadcast one, by name.

        Running statistics of batch normalization that were sent give away the batch's own: exactly after one step,
        approximately after several (see `fedsec.threat.observed.sent_statistics`). They may lie in the difference, as
        in one of two state dicts, or come by themselves.

        Args:
            model: as broadcast.
            difference: after - before; of parameters, and of buffers if those were sent.
            local: the client's training.
            input_shape: see `Observation`, as `num_classes` and `batch_size`.
            num_classes: number of logits.
            batch_size: images of the client.
            buffers_before: of the client, by name; by default the model's.
            buffers_after: of the client, by name; by default those before plus their difference, if it was sent.
            known: the other fields of `Observation`.

        Raises:
            InputError: the parts do not go together.
        """
        shape = tuple(map(int, input_shape))
        update, moved = parameters_and_buffers(model, difference)
        before = dict(model.named_buffers()) if buffers_before is None else buffers_before
        if buffers_after is None and moved:
            buffers_after = {name: before[name].double() + row.to(before[name].device) for name, row in moved.items()}
        if buffers_after and known.get("statistics") is None:
            known["statistics"] = sent_statistics(
                model,
                buffers_after,
                input_shape=shape,  # type: ignore[arg-type]
                batch_size=min(local.batch_size or batch_size, batch_size),
                steps=local.steps,
                buffers_before=before,
            )
        return cls(model, update, shape, num_classes, batch_size, local=local, **known)  # type: ignore[arg-type]

    @classmethod
    def of_state_dicts(
        cls,
        before: Mapping[str, Any],
        after: Mapping[str, Any],
        *,
        model: nn.Module,
        local: LocalSteps | None,
        input_shape: Sequence[int],
        num_classes: int,
        batch_size: int,
        **known: Any,
    ) -> "Observation":
        """From what a server sent and what a client sent back, as any framework stores them.

        Buffers count as what the client sent: running statistics give away the batch's own, and put the layers that
        they moved in into train mode. Where nobody knows how the client trained, its update is read as one step of
        unknown length: attacks compare directions alone, and labels are counted by the classes that are absent. That
        is exact after one plain step, and a first approximation after several; `fedsec.attacks.search_local` tries
        what is likely.

        Args:
            before: the state dict that was sent; tensors or arrays by name.
            after: the client's, after training; without buffers if it keeps them.
            model: their architecture, on the device to compute on; left as it is. Its frozen parameters are left out.
            local: the client's training; None where it is not known.
            input_shape: see `Observation`, as `num_classes` and `batch_size`.
            num_classes: number of logits.
            batch_size: images of the client.
            known: the other fields of `Observation`.

        Raises:
            InputError: the parts do not go together, or the two states do not differ.
        """
        if not (local is None or isinstance(local, LocalSteps)):
            raise InputError(
                f"Observation: local must be LocalSteps(lr=..., steps=...) or None, not {type(local).__name__}"
            )
        shape = tuple(map(int, input_shape))
        _check_shape(shape)
        pair = StatePair.of(model, before, after)
        remarks, steps = list(pair.remarks), pair.counted_steps
        counted = f"normalization layers counted {steps} batches"
        if local is None:
            if known.get("distortion") is not None:
                raise InputError("Observation: a known distortion has the units of a known training; expected local")
            known["distortion"] = Distortion(rescaled=True)
            remarks.append(
                "how the client trained is not known: its update is read as one step of unknown length, and labels are "
                "counted by the classes that are absent"
            )
            if steps is not None:
                remarks.append(counted)
        elif steps not in (None, local.steps):
            remarks.append(f"{counted}, and the client is said to take {local.steps}")
        if pair.buffers_after and known.get("statistics") is None and (local is not None or steps is not None):
            known["statistics"] = sent_statistics(
                pair.model,
                pair.buffers_after,
                input_shape=shape,  # type: ignore[arg-type]
                batch_size=batch_size if local is None else min(local.batch_size or batch_size, batch_size),
                steps=steps or (1 if local is None else local.steps),  # what was counted rather than what was said
                buffers_before=pair.buffers_before,
            )
        update = pair.difference if local is not None else pair.direction()
        seen = cls(pair.model, update, shape, num_classes, batch_size, local=local, **known)  # type: ignore[arg-type]
        object.__setattr__(seen, "remarks", (*seen.remarks, *remarks))
        return seen

    @property
    def device(self) -> torch.device:
        """Where the update lies."""
        return next(iter(self.update.values())).device

    @property
    def gradient(self) -> dict[str, Tensor]:
        """The update as the gradient of the mean loss: exactly for one step, to first order for several.

        Weight decay is taken out, but where a known defense distorted what was sent.
        """
        factor = self._sent_per_gradient
        decay = 0.0 if self.local is None or self.distortion is not None else self.local.weight_decay
        if factor == 1 and not decay:
            return dict(self.update)
        gradient = {name: row / factor for name, row in self.update.items()}
        if decay:
            for name, row in gradient.items():
                row.sub_(self.model.get_parameter(name).detach(), alpha=decay)
        return gradient

    @property
    def _sent_per_gradient(self) -> float:
        """What was sent, as a multiple of the gradient of the mean loss over a step's images."""
        size = self.batch_size if self.local is None else min(self.local.batch_size or self.batch_size, self.batch_size)
        factor = self.loss_scale * (size if self.reduction == "sum" else 1)
        return factor if self.local is None else -self.local.lr * self.local.strength * factor

    def as_gradient(self) -> "Observation":
        """The same as one gradient of the mean loss, where what was sent is that but for a factor; else itself.

        One local step over all images is the gradient that it moved along; weight decay is taken out of it, and a
        known distortion is put into its units. Of a step whose gradient was cut (`clip_norm`) the direction is left: it
        was, if what was sent is as long as the bound, or if some of what counted for its length was not sent.
        """
        one_step = self.local is None or (
            self.local.steps == 1 and (self.local.batch_size or self.batch_size) >= self.batch_size
        )
        decays = self.local is not None and self.local.weight_decay > 0
        factor, cut = self._sent_per_gradient, False
        if one_step and self.local is not None and self.local.clip_norm is not None:
            length = float(torch.stack([row.double().norm() for row in self.gradient.values()]).norm())
            # In units of what is cut: the step's gradient with all its factors.
            cut = bool(self.unsent) or length * abs(factor) / self.local.lr > (1 - _CUT) * self.local.clip_norm
            if cut and self.distortion is not None and not self.distortion.rescaled:
                return self
        if not one_step or (decays and self.distortion is not None) or (self.local is None and factor == 1):
            return self
        plain = self._with(self.gradient, 1 / abs(factor), local=None, reduction="mean", loss_scale=1.0)
        if cut and plain.distortion is None:
            object.__setattr__(plain, "distortion", Distortion(rescaled=True))
        return plain

    def times(self, factor: float) -> "Observation":
        """The same with the update, and a known distortion, multiplied by a number.

        Args:
            factor: any number but zero.
        """
        return self._with({name: factor * row for name, row in self.update.items()}, abs(factor))

    def _with(self, update: Mapping[str, Tensor], units: float, **changed: Any) -> "Observation":
        """A copy that shares the model, without checking everything anew."""
        same = copy(self)
        distortion = None if self.distortion is None else self.distortion.times(units)
        for name, value in {"update": update, "distortion": distortion, **changed}.items():
            object.__setattr__(same, name, value)
        return same


def _check_unsent(model: nn.Module, update: Mapping[str, Tensor], unsent: Sequence[str]) -> None:
    parameters = dict(model.named_parameters())
    for name in unsent:
        if name not in parameters or name in update:
            why = "is part of the update" if name in update else f"is none of {', '.join(parameters)}"
            raise InputError(f"Observation: unsent names parameters that the update leaves out, and {name!r} {why}")


def _check_shape(shape: Sequence[int]) -> None:
    if len(shape) != 3 or min(shape) < 1:
        raise InputError(f"Observation: input_shape must be (channels, height, width), got {tuple(shape)}")
