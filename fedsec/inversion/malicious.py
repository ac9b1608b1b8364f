"""A malicious server's part in an inversion: what it knows beside the model, and the model that it sends."""

import torch
from torch import nn

from fedsec.data.dataset import Split
from fedsec.data.normalization import Normalization
from fedsec.errors import InputError
from fedsec.inversion.server_view import pixel_scale
from fedsec.threat import Inversion, LocalSteps, MaliciousServer, ServerView

__all__ = ["sent_model"]


def sent_model(
    inversion: Inversion,
    model: nn.Module,
    *,
    input_shape: tuple[int, int, int],
    num_classes: int,
    batch_size: int,
    normalization: Normalization,
    local: LocalSteps | None = None,
    auxiliary: int = 0,
    others: Split | None = None,
    clients: int = 1,
    place: int = 0,
    generator: torch.Generator,
) -> nn.Module:
    """The model that a client receives: the honest one, unless the server makes its own.

    Args:
        inversion: what the server does.
        model: the honest one.
        input_shape: (channels, height, width).
        num_classes: number of logits.
        batch_size: images of the client.
        normalization: how pixels become the model's input.
        local: the client's training, as the server prescribed it; None for a gradient.
        auxiliary: how many images of the clients' kind the server has.
        others: images that no client has, of which those are drawn.
        clients: whose updates the server sees in one sum; 1 where it sees each client's own.
        place: of the client among them.
        generator: draws them, and what the attack draws.

    Raises:
        InputError: images for a server that has no use for any, or more than there are; or the attack cannot be used.
    """
    if not isinstance(inversion, MaliciousServer):
        if auxiliary:
            raise InputError(
                f"auxiliary images are for a server that makes the model it sends, and {type(inversion).__name__} "
                "inverts the model as it is; expected 0"
            )
        return model
    images, labels = None, None
    if auxiliary:
        if others is None:
            raise InputError("auxiliary images come from a dataset, of images that no client has; expected --dataset")
        if auxiliary > len(others):
            raise InputError(f"auxiliary: {auxiliary} images, and there are {len(others)} that no client has")
        chosen = torch.randperm(len(others), generator=generator)[:auxiliary]
        images, labels = others.images[chosen].float() / 255, others.labels[chosen]
    view = ServerView(
        model,
        input_shape,
        num_classes,
        batch_size,
        pixel_scale(normalization),
        local,
        images,
        labels,
        clients=clients,
        place=place,
    )
    return inversion.craft(view, generator=generator)
