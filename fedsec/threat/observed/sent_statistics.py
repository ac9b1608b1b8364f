"""What batch normalization's buffers give away: a client that sends them sends its batch's mean and variance.

With momentum m, a training step takes a layer's running mean r to (1 - m) r + m mean, where mean is the batch's; the
running variance likewise, with the batch's unbiased variance. Who knows r before and after solves for the batch's own:

    mean = (after - (1 - m)^k before) / (1 - (1 - m)^k)

after k steps. For one step that is exact, but for rounding. For several it is an average over the steps in which later
ones count more, and each step's weights differ: approximate. Layers with `momentum=None` keep a plain average, of which
the number of batches so far is part of what was broadcast.

Reference: this project; statistics of the batch as granted knowledge: Yin et al., CVPR 2021, arXiv:2104.07586.
"""

from collections.abc import Mapping
from copy import deepcopy

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fedsec.errors import InputError

__all__ = ["sent_statistics"]


def sent_statistics(
    model: nn.Module,
    buffers_after: Mapping[str, Tensor],
    *,
    input_shape: tuple[int, int, int],
    batch_size: int,
    steps: int = 1,
    buffers_before: Mapping[str, Tensor] | None = None,
) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and biased variance of what entered each batch normalization, from its running statistics.

    Args:
        model: as broadcast.
        buffers_after: the client's, by name, as it sent them.
        input_shape: (channels, height, width) of one image.
        batch_size: images in one step of the client.
        steps: that it took.
        buffers_before: those that the client began with; the model's own by default.

    Returns:
        By name of the layer, [channels] each, with the model's dtype; layers whose buffers were not sent are left out.

    Raises:
        InputError: buffers of another shape, or ones that no training in train mode can lead to.
    """
    counts = _values_per_channel(model, input_shape, batch_size)
    before = dict(model.named_buffers()) if buffers_before is None else buffers_before
    statistics = {}
    for name, layer in model.named_modules():
        keys = [f"{name}.{part}" if name else part for part in ("running_mean", "running_var")]
        if not isinstance(layer, _BatchNorm) or not all(key in before and key in buffers_after for key in keys):
            continue
        left = _share_left(layer, steps)
        if left == 1:
            continue  # momentum zero: nothing of the batch is in what was sent
        if name not in counts:
            continue  # a layer that images of this shape do not pass through
        mean, unbiased = (_batch_value(key, before[key], buffers_after[key], left) for key in keys)
        variance = unbiased * (counts[name] - 1) / counts[name]
        _check_variance(name, variance, buffers_after[keys[1]], left)
        dtype = torch.float64 if before[keys[0]].dtype == torch.float64 else torch.float32
        statistics[name] = mean.to(dtype), variance.clamp_min(0).to(dtype)
    return statistics


def _batch_value(key: str, before: Tensor, after: Tensor, left: float) -> Float[Tensor, "channels"]:
    old = torch.as_tensor(before).double()
    new = torch.as_tensor(after).to(old.device).double()
    if new.shape != old.shape:
        raise InputError(f"buffers_after: {key!r} has shape {tuple(new.shape)}, expected {tuple(old.shape)}")
    if not bool(new.isfinite().all()):
        raise InputError(f"buffers_after: {key!r} is not finite")
    return (new - left * old) / (1 - left)


def _share_left(layer: _BatchNorm, steps: int) -> float:
    """How much of the running statistics before is left after so many steps."""
    if layer.momentum is not None:
        return (1 - layer.momentum) ** steps
    earlier = 0 if layer.num_batches_tracked is None else int(layer.num_batches_tracked)
    return earlier / (earlier + steps)


def _check_variance(name: str, variance: Float[Tensor, "channels"], after: Tensor, left: float) -> None:
    rounding = 1e-5 * float(torch.as_tensor(after).abs().max()) / (1 - left)
    if bool((variance < -rounding).any()):
        raise InputError(
            f"buffers_after: the running variance of {name!r} fell by more than its momentum can take away; expected "
            "what the client's training in train mode made of the broadcast one, and the number of its steps"
        )


@torch.no_grad()
def _values_per_channel(model: nn.Module, input_shape: tuple[int, int, int], batch_size: int) -> dict[str, int]:
    """How many numbers a batch has in each channel of what enters a layer, seen on gray images."""
    model, counts = deepcopy(model).eval(), dict[str, int]()

    def note(name: str, arguments: tuple[Tensor, ...]) -> None:
        counts[name] = counts.get(name, 0) + batch_size * arguments[0][0, 0].numel()

    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            module.register_forward_pre_hook(lambda _, arguments, name=name: note(name, arguments))
    parameter = next(model.parameters())
    gray = torch.full((1, *input_shape), 0.5, dtype=parameter.dtype, device=parameter.device)
    try:
        model(gray)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"Observation: the model does not take images of shape {input_shape}: {error}") from error
    return counts
