"""Normal distributions of signals under shadow models, example by example."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fedsec.errors import InputError

__all__ = ["normal_of"]


def normal_of(
    who: str,
    signals: Float[Tensor, "models examples"],
    chosen: Bool[Tensor, "models examples"],
    common: bool,
    side: str,
) -> tuple[Float[Tensor, "examples"], Float[Tensor, "examples"]]:
    """Mean and standard deviation of each example's signal over the models that are chosen for it.

    Args:
        who: asks, for messages.
        signals: of each example under each model.
        chosen: which models count for which example.
        common: one standard deviation for all examples: within them, pooled. None of it is their own hardness.
        side: how the chosen models were trained, `with` an example or `without` it, for messages.

    Returns:
        Means, and deviations that are never zero.

    Raises:
        InputError: an example with no models, or with a deviation of its own and fewer than two, or models one each.
    """
    count = chosen.sum(0)
    least = 1 if common else 2
    if bool((count < least).any()):
        number = int((count < least).sum())
        raise InputError(
            f"{who}: {number} examples have fewer than {least} shadow models trained {side} them; expected more shadow "
            f"models{'' if common else ', or variance global'}"
        )
    if common and int((count - 1).sum()) < 1:
        raise InputError(f"{who}: one shadow model {side} each example tells no variance; expected more")
    mean = torch.where(chosen, signals, 0.0).sum(0) / count
    squares = torch.where(chosen, (signals - mean).square(), 0.0).sum(0)
    variance = squares.sum() / (count - 1).sum() if common else squares / (count - 1)
    smallest = torch.finfo(signals.dtype).eps
    return mean, variance.sqrt().clamp_min(smallest).expand_as(mean)
