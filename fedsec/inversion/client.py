"""The client of an inversion: what it computes on its images, and what of it the server sees."""

import torch
import torch.nn.functional as F
from jaxtyping import Int64, UInt8
from torch import Tensor, nn

from fedsec.data.images import normalize
from fedsec.data.normalization import Normalization
from fedsec.defense.updates import ClientSide, UpdateTransform
from fedsec.errors import InputError
from fedsec.inversion.server_view import (
    ClientMode,
    ClientWork,
    ServerKnowledge,
    evaluation_in_words,
    in_mode,
    server_view,
)
from fedsec.threat import LocalSteps, Observation

__all__ = ["observe"]


def observe(
    model: nn.Module,
    images: UInt8[Tensor, "batch channels height width"],
    labels: Int64[Tensor, "batch"],
    *,
    num_classes: int,
    normalization: Normalization,
    local: LocalSteps | None = None,
    mode: ClientMode = "train",
    knowledge: ServerKnowledge | None = None,
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
        mode: of the client's batch normalization. All else is in eval mode: dropout is off.
        knowledge: what else the attacker knows; by default only the defense.
        defense: what the client does to its update before it sends it. What it holds back in this round would be sent
            in a later one; nothing is carried over from an earlier one.
        noise: of the defense, so that it changes neither the batches nor anything else; one seeded with 0 by default.
        generator: shuffles the client's epochs and the labels that are granted.

    Raises:
        InputError: the model cannot be evaluated on such a batch, or its update is not finite.
    """
    client = in_mode(model, train=mode == "train")
    inputs = normalize(images, normalization)
    update = _gradient(client, inputs, labels) if local is None else _train(client, inputs, labels, local, generator)
    work = ClientWork(images, labels, local, mode, dict(client.named_buffers()))
    distortion = None
    if defense is not None:
        received = in_mode(model, train=mode == "train")
        update = defense(update, generator=noise, client=ClientSide(received, inputs, labels))
        distortion = defense.known(update)
    return server_view(
        model,
        update,
        work,
        knowledge or ServerKnowledge(),
        num_classes=num_classes,
        normalization=normalization,
        distortion=distortion,
        order=generator,
    )


def _gradient(client: nn.Module, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
    parameters = {name: parameter for name, parameter in client.named_parameters() if parameter.requires_grad}
    if not parameters:
        raise InputError("the model has no parameter to train: a client would send nothing")
    with evaluation_in_words(len(inputs)):
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
