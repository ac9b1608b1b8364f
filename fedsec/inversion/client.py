"""The client of an inversion: what it computes on its images, and what of it the server sees."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Int64, UInt8
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fedsec.data.images import normalize
from fedsec.data.normalization import Normalization
from fedsec.defense.updates import ClientSide, UpdateTransform
from fedsec.errors import InputError
from fedsec.threat import LocalSteps, Observation, PixelScale

__all__ = [
    "BatchStatistics",
    "ClientMode",
    "Grants",
    "batch_statistics",
    "has_batch_statistics",
    "observe",
    "pixel_scale",
]

ClientMode = Literal["train", "eval"]
BatchStatistics = Literal["known", "unknown", "running"]


@dataclass(frozen=True)
class Grants:
    """What the attacker is told beside model, update and counts.

    Args:
        labels: the batch's labels, in no particular order.
        statistics: of batch normalization. `known`: mean and variance of the client's batch at every such layer.
            `unknown`: nothing, and the attacker lets its own images make them (train mode). `running`: the attacker
            assumes that the client used the broadcast running averages (eval mode).
        defense: what the client's defense is, and its settings.
    """

    labels: bool = False
    statistics: BatchStatistics = "unknown"
    defense: bool = True


def has_batch_statistics(model: nn.Module) -> bool:
    """Whether one image's logits depend on the other images of its batch, through batch normalization."""
    return any(isinstance(module, _BatchNorm) for module in model.modules())


def pixel_scale(normalization: Normalization) -> PixelScale:
    """The same constants in the attacker's terms."""
    mean, std = normalization.mean, normalization.std
    channels = max(len(mean), len(std))
    return PixelScale(
        mean if len(mean) == channels else mean * channels, std if len(std) == channels else std * channels
    )


def observe(
    model: nn.Module,
    images: UInt8[Tensor, "batch channels height width"],
    labels: Int64[Tensor, "batch"],
    *,
    num_classes: int,
    normalization: Normalization,
    local: LocalSteps | None = None,
    mode: ClientMode = "train",
    grants: Grants | None = None,
    defense: UpdateTransform | None = None,
    noise: torch.Generator | None = None,
    generator: torch.Generator,
) -> Observation:
    """Let the client work on its images, and return what the server then holds.

    gradient of the mean cross-entropy, or (parameters after local training) - (parameters before)

    Args:
        model: as broadcast; it is left as it is, running averages included.
        images: of the client, in 0..255.
        labels: of the client.
        num_classes: number of logits.
        normalization: how pixels become the model's input.
        local: local training in place of a single gradient; without momentum.
        mode: of the client's batch normalization. Without any, the client computes in eval mode: dropout is off.
        grants: what else the attacker is told; by default only the defense.
        defense: what the client does to its update before it sends it. What it holds back in this round would be sent
            in a later one; nothing is carried over from an earlier one.
        noise: of the defense, so that it changes neither the batches nor anything else; one seeded with 0 by default.
        generator: shuffles the client's epochs and the labels that are granted.

    Raises:
        InputError: the model cannot be evaluated on such a batch, or its update is not finite.
    """
    grants = grants or Grants()
    batched = has_batch_statistics(model)
    client = deepcopy(model).float().train(batched and mode == "train")
    inputs = normalize(images, normalization)
    granted = _statistics(client, inputs) if batched and grants.statistics == "known" else None
    update = _gradient(client, inputs, labels) if local is None else _train(client, inputs, labels, local, generator)
    distortion = None
    if defense is not None:
        received = deepcopy(model).float().train(batched and mode == "train")
        update = defense(update, generator=noise, client=ClientSide(received, inputs, labels))
        distortion = defense.known(update) if grants.defense else None
    assumes_train = {"known": mode == "train", "unknown": True, "running": False}[grants.statistics]
    assumed = deepcopy(model).float().train(batched and assumes_train)
    shuffled = labels[torch.randperm(len(labels), generator=generator).to(labels.device)]
    channels, height, width = images.shape[1:]
    return Observation(
        assumed,
        update,
        (channels, height, width),
        num_classes,
        len(images),
        scale=pixel_scale(normalization),
        local=local,
        labels=shuffled if grants.labels else None,
        statistics=granted,
        distortion=distortion,
    )


def batch_statistics(
    model: nn.Module, images: UInt8[Tensor, "batch channels height width"], normalization: Normalization
) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and biased variance of a client's batch at the input of every batch normalization, in train mode.

    Raises:
        InputError: the model cannot be evaluated on such a batch.
    """
    return _statistics(deepcopy(model).float().train(), normalize(images, normalization))


def _gradient(client: nn.Module, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
    parameters = {name: parameter for name, parameter in client.named_parameters() if parameter.requires_grad}
    if not parameters:
        raise InputError("the model has no parameter to train: a client would send nothing")
    with _in_words(len(inputs)):
        loss = F.cross_entropy(client(inputs), labels)
        # A parameter that the loss does not reach has a gradient of zeros, as the client would send it.
        rows = torch.autograd.grad(loss, list(parameters.values()), materialize_grads=True)
    return dict(zip(parameters, rows, strict=True))


def _train(
    client: nn.Module, inputs: Tensor, labels: Tensor, local: LocalSteps, generator: torch.Generator
) -> dict[str, Tensor]:
    if local.momentum or local.weight_decay:
        raise InputError(f"the client trains by plain SGD; expected neither momentum nor weight decay, got {local}")
    before = {name: row.detach().clone() for name, row in client.named_parameters() if row.requires_grad}
    orders: list[Tensor] = []
    for epoch, places in local.slots(len(inputs)):
        if epoch == len(orders):
            orders.append(torch.randperm(len(inputs), generator=generator).to(labels.device))
        step = orders[epoch][places]
        gradient = _gradient(client, inputs[step], labels[step])
        with torch.no_grad():
            for name, row in gradient.items():
                client.get_parameter(name).sub_(row, alpha=local.lr)
    return {name: client.get_parameter(name).detach() - row for name, row in before.items()}


@torch.no_grad()
def _statistics(client: nn.Module, inputs: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and biased variance over the batch at the input of every batch normalization."""
    # A copy: a forward pass in train mode moves the running averages.
    client, found = deepcopy(client), {}

    def note(name: str, arguments: Sequence[Tensor]) -> None:
        entered = arguments[0].transpose(0, 1).flatten(1)
        found[name] = entered.mean(1), entered.var(1, unbiased=False)

    for name, module in client.named_modules():
        if isinstance(module, _BatchNorm):
            module.register_forward_pre_hook(lambda _, arguments, name=name: note(name, arguments))
    with _in_words(len(inputs)):
        client(inputs)
    return found


@contextmanager
def _in_words(batch: int) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise InputError(
            f"the model cannot be evaluated on a batch of {batch}: {' '.join(str(error).split())}"
        ) from error
