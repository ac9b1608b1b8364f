"""The one way from what a client did to what a server sees of it: an `Observation`."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from fedsec.data.images import normalize
from fedsec.data.normalization import Normalization
from fedsec.engine.local_training import LocalTraining
from fedsec.errors import InputError
from fedsec.threat import Distortion, LocalSteps, Observation, PixelScale, sent_statistics
from fedsec.threat.observed.client_loss import smoothed_cross_entropy

__all__ = [
    "BatchStatistics",
    "ClientMode",
    "ClientWork",
    "ServerKnowledge",
    "batch_statistics",
    "has_batch_statistics",
    "in_mode",
    "pixel_scale",
    "prescribed_steps",
    "replayable_steps",
    "server_view",
    "smoothing_of",
    "started_afresh",
]

ClientMode = Literal["train", "eval"]
BatchStatistics = Literal["none", "running", "sent", "batch"]
"""What an attacker has of batch normalization.

none: nothing, and its own images make the statistics (train mode).
running: it assumes that the client used the broadcast running averages (eval mode).
sent: what the running averages that the client sent tell of its batch; see `fedsec.threat.observed.sent_statistics`.
batch: mean and variance of the client's batch at every such layer, granted.
"""


@dataclass(frozen=True)
class ServerKnowledge:
    """What a curious server knows beside model, update and counts; the words are those of a scenario's `knowledge`.

    Args:
        labels: those of the client's images, in no particular order.
        bn_statistics: see `BatchStatistics`.
        defense: how the client defends its update, and the settings.
        auxiliary: how many images of the clients' kind it has that no client has, to make the model that it sends.
    """

    labels: bool = False
    bn_statistics: BatchStatistics = "none"
    defense: bool = True
    auxiliary: int = 0


def prescribed_steps(local: LocalTraining, images: int) -> LocalSteps:
    """A client's training, as the server prescribed it.

    Args:
        local: of the federation.
        images: that the client has.
    """
    return LocalSteps(
        local.lr,
        local.steps_of(images),
        local.batch_of(images),
        local.momentum,
        local.weight_decay,
        local.clip_norm,
    )


def smoothing_of(local: LocalTraining | None) -> float:
    """The share of each label that clients spread over all classes.

    Args:
        local: of the federation; None for a single gradient.
    """
    return 0.0 if local is None else local.label_smoothing


def replayable_steps(local: LocalTraining, images: int) -> LocalSteps:
    """The same, where an attack can replay it.

    Args:
        local: of the federation.
        images: that the client has.

    Raises:
        InputError: batches that run over the seam between two passes.
    """
    batch = local.batch_of(images)
    if local.steps is not None and images % batch and local.steps * batch > images:
        raise InputError(
            f"with local.steps, batches of {batch} run over the seams between passes over {images} images, "
            "which cannot be replayed; expected local.epochs, or batches that divide the images"
        )
    return prescribed_steps(local, images)


def steps_together(steps: Sequence[LocalSteps], images: int) -> LocalSteps:
    """The local steps of several clients, read as those of one that has all their images: an approximation.

    As many as the client with the most of them takes, each on a batch of all clients' batches together.

    Args:
        steps: of each client.
        images: of all of them.
    """
    together = sum(one.batch_size or 0 for one in steps)
    return replace(max(steps, key=lambda one: one.steps), batch_size=min(together, images))


@dataclass(frozen=True, eq=False)
class ClientWork:
    """What a client did: the truth, most of which no server sees.

    Args:
        images: that it trained on, in 0..255.
        labels: their classes.
        local: its local training; None for a single gradient.
        mode: of its batch normalization.
        buffers: its running statistics afterwards, by name, if it sends them.
        unsent: names of parameters that it trained like the others and kept.
        smoothing: share of each label that it spread over all classes.
    """

    images: UInt8[Tensor, "batch channels height width"]
    labels: Int64[Tensor, "batch"]
    local: LocalSteps | None = None
    mode: ClientMode = "train"
    buffers: Mapping[str, Tensor] | None = None
    unsent: tuple[str, ...] = ()
    smoothing: float = 0.0


def server_view(
    model: nn.Module,
    update: Mapping[str, Tensor],
    work: ClientWork,
    knowledge: ServerKnowledge,
    *,
    num_classes: int,
    normalization: Normalization,
    distortion: Distortion | None = None,
    order: torch.Generator,
) -> Observation:
    """What the server holds of a client's work.

    Args:
        model: as broadcast; left as it is.
        update: what the client sent, by parameter name.
        work: what it did.
        knowledge: what else the server knows.
        num_classes: number of logits.
        normalization: how pixels become the model's input.
        distortion: what a server that knows the client's defense can tell of it.
        order: in which labels are granted is drawn from this.

    Raises:
        InputError: the parts do not go together.
    """
    channels, height, width = work.images.shape[1:]
    shape = (channels, height, width)
    labels = None
    if knowledge.labels:
        shuffled = torch.randperm(len(work.labels), generator=order)
        labels = work.labels[shuffled.to(work.labels.device)]
    return Observation(
        in_mode(model, train=_assumes_train(knowledge.bn_statistics, work.mode)),
        update,
        shape,
        num_classes,
        len(work.images),
        scale=pixel_scale(normalization),
        local=work.local,
        labels=labels,
        statistics=_statistics(model, work, knowledge.bn_statistics, normalization, shape),
        distortion=distortion if knowledge.defense else None,
        loss=smoothed_cross_entropy(work.smoothing),
        unsent=work.unsent,
    )


def has_batch_statistics(model: nn.Module) -> bool:
    """Whether one image's logits depend on the other images of its batch, through batch normalization."""
    return any(isinstance(module, _BatchNorm) for module in model.modules())


def in_mode(model: nn.Module, *, train: bool) -> nn.Module:
    """A copy, in float32 and in eval mode (dropout draws nothing), but for normalization that is to be in train mode.

    Args:
        model: left as it is.
        train: whether normalization layers work as in training.
    """
    copied = deepcopy(model).float().eval()
    if train and has_batch_statistics(model):
        for module in copied.modules():
            if isinstance(module, _NormBase):
                module.train()
    return copied


def pixel_scale(normalization: Normalization) -> PixelScale:
    """The constants of a dataset's pixels in the attacker's terms."""
    mean, std = normalization.mean, normalization.std
    channels = max(len(mean), len(std))
    return PixelScale(
        mean if len(mean) == channels else mean * channels, std if len(std) == channels else std * channels
    )


@torch.no_grad()
def batch_statistics(
    model: nn.Module,
    images: UInt8[Tensor, "batch channels height width"],
    normalization: Normalization,
    *,
    train: bool = True,
) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and biased variance of a client's batch at the input of every batch normalization.

    Args:
        model: as the client received it; left as it is.
        images: of the batch, in 0..255.
        normalization: how pixels become the model's input.
        train: whether the client's batch normalization is in train mode.

    Raises:
        InputError: the model cannot be evaluated on such a batch.
    """
    client, statistics = in_mode(model, train=train), dict[str, tuple[Tensor, Tensor]]()

    def note(name: str, arguments: Sequence[Tensor]) -> None:
        entered = arguments[0].transpose(0, 1).flatten(1)
        statistics[name] = entered.mean(1), entered.var(1, unbiased=False)

    for name, module in client.named_modules():
        if isinstance(module, _BatchNorm):
            module.register_forward_pre_hook(lambda _, arguments, name=name: note(name, arguments))
    with evaluation_in_words(len(images)):
        client(normalize(images, normalization))
    return statistics


@contextmanager
def evaluation_in_words(batch: int) -> Iterator[None]:
    """What goes wrong in a model while it is evaluated on a batch becomes an InputError in one line."""
    try:
        yield
    except (RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise InputError(
            f"the model cannot be evaluated on a batch of {batch}: {' '.join(str(error).split())}"
        ) from error


def _assumes_train(bn_statistics: BatchStatistics, mode: ClientMode) -> bool:
    return {"none": True, "running": False, "sent": True, "batch": mode == "train"}[bn_statistics]


def _statistics(
    model: nn.Module,
    work: ClientWork,
    bn_statistics: BatchStatistics,
    normalization: Normalization,
    shape: tuple[int, int, int],
) -> dict[str, tuple[Tensor, Tensor]] | None:
    if bn_statistics in ("none", "running") or not has_batch_statistics(model):
        return None
    if bn_statistics == "batch":
        return batch_statistics(model, work.images, normalization, train=work.mode == "train")
    if work.buffers is None:
        raise InputError("bn_statistics: sent: this client sends no running statistics; expected another word")
    size, steps = len(work.images), 1 if work.local is None else work.local.steps
    step = size if work.local is None else min(work.local.batch_size or size, size)
    return sent_statistics(model, work.buffers, input_shape=shape, batch_size=step, steps=steps)


def started_afresh(model: nn.Module) -> nn.Module:
    """A copy whose running statistics are a plain average over steps, beginning with the next one."""
    copied = deepcopy(model)
    for layer in copied.modules():
        if isinstance(layer, _BatchNorm) and layer.num_batches_tracked is not None:
            layer.momentum = None
            layer.num_batches_tracked.zero_()
    return copied
