"""What local training asks of a model's batch normalization, told before anything is trained."""

import copy
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fedsec.errors import InputError

_KNOWN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

NormStatistics = Literal["average", "local", "reset", "recalibrate"]
"""What happens to the running statistics of batch normalization, which no gradient trains. In train mode a batch is
normalized by its own mean and variance, so the choice matters where the model is evaluated:

average: clients start from the server's statistics, move them by the layers' momentum, and the server averages what it
    gets back, as federated averaging does with everything.
reset: clients forget them at the start of each round and keep the plain average over the round's batches; the server
    averages those. They describe the last round alone, not an exponential memory of all.
local: they never leave a client (SiloBN, Andreux et al. 2020; FedBN keeps scale and shift at home too). The global
    model is evaluated with each of the round's clients' statistics; its accuracy is their mean.
recalibrate: none are exchanged while training. Before an evaluation the round's clients pass their images through the
    new global model once, and the server averages the statistics they find.

Averages use the algorithm's coefficients and leave out rejected clients; they are not robust, whatever the rule for the
parameters is: under attack prefer `recalibrate`, or group normalization. Attacks on updates leave statistics alone:
Byzantine clients send those that their own training made, so results under attack are on the mild side.
"""


def check_layers(module: nn.Module) -> None:
    """Refuse layers that normalize by the batch in a way of their own.

    The engines put layers of their own in the place of these, and take full batches apart where there are none.

    Raises:
        InputError: a layer without running statistics, or of another class than PyTorch's.
    """
    for name, layer in module.named_modules():
        if not isinstance(layer, _BatchNorm):
            continue
        if type(layer) not in _KNOWN:
            raise InputError(
                f"layer {name!r} is a batch normalization of its own kind, {type(layer).__name__}; expected PyTorch's, "
                "or group normalization"
            )
        if layer.running_mean is None:
            raise InputError(
                f"layer {name!r} normalizes by the batch and keeps no running statistics; expected "
                "track_running_stats=True, or group normalization"
            )


@torch.no_grad()
def smallest_batch(module: nn.Module, images: Float[Tensor, "batch channels height width"]) -> int:
    """The fewest images of which every layer's batch statistics exist: 2 where an image has one value a channel.

    Args:
        module: the model; left unchanged.
        images: at least one, as the model takes them.
    """
    tried, found = copy.deepcopy(module).eval(), [1]

    def look(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        found.append(2 if inputs[0][0, 0].numel() == 1 else 1)

    layers = [layer for layer in tried.modules() if isinstance(layer, _BatchNorm)]
    for layer in layers:
        layer.register_forward_pre_hook(look)
    if layers:
        tried(images)
    return max(found)


def check_batch(size: int, smallest: int) -> None:
    """Refuse a batch too small for the model's batch normalization.

    Raises:
        InputError: it is.
    """
    if 0 < size < smallest:
        raise InputError(
            f"batch normalization needs more than one value a channel, and a batch of {size} has no more in the "
            "model's last layers; expected larger batches or images, or norm: gn"
        )
