"""What local training asks of a model's batch normalization, told before anything is trained."""

import copy
from typing import Literal

from torch import nn
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
    if not any(isinstance(layer, _BatchNorm) for layer in module.modules()):
        return
    for name, layer in copy.deepcopy(module).train().named_modules():
        if not isinstance(layer, _BatchNorm) or not layer.training:
            continue  # one that stays in evaluation mode normalizes by what it has kept, and moves nothing
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


def check_batch(size: int, smallest: int, whose: str = "") -> None:
    """Refuse a batch too small for the model's batch normalization.

    Args:
        size: of the batch.
        smallest: that has a variance.
        whose: who would train on it, for the message.

    Raises:
        InputError: it is too small.
    """
    if 0 < size < smallest:
        raise InputError(
            f"{whose}batch normalization needs more than one value a channel, and a batch of {size} has no more in the "
            "model's last layers; expected larger batches or images, drop_last: true for what is left over, or norm: gn"
        )
