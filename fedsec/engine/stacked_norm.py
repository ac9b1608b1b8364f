"""Batch normalization for stacked clients: each one's batch on its own, padding left out, statistics handed over.

Inside `vmap` nothing can be written to a buffer, and a padded example must not move the statistics of the others. So
the layers of a cohort's module only report what they saw; the engine moves the running statistics, client by client.
"""

import copy
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fedsec.engine.statistics import StatisticsLayout


@dataclass(eq=False)
class Batch:
    """What the layers of one module share during a forward pass.

    Attributes:
        weights: zero for padding, one for examples; None if there is no padding.
        seen: mean and unbiased variance of what entered each layer, by the layer's name.
    """

    weights: Float[Tensor, "batch"] | None = None
    seen: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def statistics(self, layout: StatisticsLayout, like: Tensor) -> Float[Tensor, "statistics"]:
        """What was seen, as one vector; empty without layers."""
        parts = [part for name in layout.channels for part in self.seen[name]]
        return torch.cat(parts) if parts else like.new_zeros(0)


class CohortNorm(nn.Module):
    """Stands in for one batch-normalization layer in train mode; its parameters keep their names.

    Args:
        layer: what it stands in for.
        name: of the layer in its module.
        batch: shared with the other layers of the module.
    """

    def __init__(self, layer: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d, name: str, batch: Batch) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = layer.weight, layer.bias, layer.eps
        self.name, self.batch = name, batch

    def forward(self, inputs: Float[Tensor, "batch channels *size"]) -> Float[Tensor, "batch channels *size"]:
        """The inputs, normalized by mean and biased variance of the examples that count."""
        if inputs.dtype == torch.bfloat16:  # under autocast; statistics need more digits than activations
            return self.forward(inputs.float()).to(inputs.dtype)
        axes = [0, *range(2, inputs.ndim)]
        weights = self.batch.weights
        if weights is None:
            with torch.no_grad():
                variance, mean = torch.var_mean(inputs, axes, correction=1)
            self.batch.seen[self.name] = mean, variance
            return F.batch_norm(inputs, None, None, self.weight, self.bias, training=True, eps=self.eps)
        shape = [1, -1, *[1] * (inputs.ndim - 2)]
        counted = weights.view(-1, *[1] * (inputs.ndim - 1))
        number = weights.sum() * (inputs[0, 0].numel())
        mean = (inputs * counted).sum(axes) / number
        centered = inputs - mean.view(shape)
        variance = (centered.square() * counted).sum(axes) / number
        self.batch.seen[self.name] = mean.detach(), (variance * (number / (number - 1).clamp(min=1))).detach()
        outputs = centered * (variance + self.eps).rsqrt().view(shape)
        return outputs if self.weight is None else outputs * self.weight.view(shape) + self.bias.view(shape)


def cohort_module(module: nn.Module, layout: StatisticsLayout) -> tuple[nn.Module, Batch]:
    """A copy of a module in train mode whose batch normalization can be stacked, and what its layers share."""
    stacked, batch = copy.deepcopy(module).train(), Batch()
    for name in layout.channels:
        parent, _, attribute = name.rpartition(".")
        layer = stacked.get_submodule(name)
        assert isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d)
        if not name:
            stacked = CohortNorm(layer, name, batch)
        else:
            setattr(stacked.get_submodule(parent), attribute, CohortNorm(layer, name, batch))
    return stacked, batch


class RunningStatistics:
    """Moves running statistics towards a batch's: by each layer's momentum, or to the plain average of all so far.

    Args:
        module: whose layers say which.
        layout: of its statistics.
        device: of the statistics.
        cumulative: the plain average for all layers.
    """

    def __init__(
        self, module: nn.Module, layout: StatisticsLayout, device: torch.device, *, cumulative: bool = False
    ) -> None:
        parts = []
        for name, channels in layout.channels.items():
            momentum = None if cumulative else getattr(module.get_submodule(name), "momentum", None)
            parts.append(torch.full((2 * channels,), torch.nan if momentum is None else float(momentum)))
        self.shares = torch.cat(parts).to(device) if parts else torch.zeros(0, device=device)
        self.averaged = bool(self.shares.isnan().any())
        # On the device, so that a step does not depend on how many there were before.
        self.batches = torch.zeros((), device=device)

    def reset(self) -> None:
        """Start counting batches anew."""
        self.batches.zero_()

    @torch.no_grad()
    def remember(
        self, statistics: Float[Tensor, "*clients statistics"], seen: Float[Tensor, "*clients statistics"]
    ) -> None:
        """Move statistics, in place, towards what one more batch had."""
        if not self.shares.numel():
            return
        self.batches.add_(1)
        shares = torch.where(self.shares.isnan(), 1 / self.batches, self.shares) if self.averaged else self.shares
        moving = statistics[..., : self.shares.numel()]
        moving.lerp_(seen.to(statistics), shares.expand_as(moving))
