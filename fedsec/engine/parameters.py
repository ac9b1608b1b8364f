"""A model's trainable parameters, and its running statistics, as flat vectors; many models' as the rows of matrices."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedsec.errors import InputError


@dataclass(frozen=True)
class ParameterLayout:
    """Where each named trainable parameter lies in the flat vector (in `named_parameters` order)."""

    shapes: dict[str, torch.Size]

    @classmethod
    def of(cls, module: nn.Module) -> "ParameterLayout":
        """The layout of a module's trainable parameters.

        Raises:
            InputError: no trainable parameter, or parameters of several dtypes.
        """
        trainable = {name: p for name, p in module.named_parameters() if p.requires_grad}
        if not trainable:
            raise InputError("the model has no trainable parameter")
        dtypes = {p.dtype for p in trainable.values()}
        if len(dtypes) > 1:
            raise InputError(f"the model's trainable parameters must share one dtype, got {sorted(map(str, dtypes))}")
        return cls({name: p.shape for name, p in trainable.items()})

    @property
    def size(self) -> int:
        """Number of trainable parameters."""
        return sum(map(math.prod, self.shapes.values()))

    def views(self, flat: Float[Tensor, "*rows parameters"]) -> dict[str, Tensor]:
        """Named views into a flat vector, or into a matrix of them (then with the rows' axes in front)."""
        sizes = [math.prod(shape) for shape in self.shapes.values()]
        pieces = torch.split(flat, sizes, dim=-1)
        return {
            name: piece.view(*flat.shape[:-1], *shape)
            for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)
        }

    def flatten(self, module: nn.Module) -> Float[Tensor, "parameters"]:
        """A copy of the module's parameters as one vector."""
        parameters = dict(module.named_parameters())
        return torch.cat([parameters[name].detach().reshape(-1) for name in self.shapes])

    @torch.no_grad()
    def load(self, module: nn.Module, flat: Float[Tensor, "parameters"]) -> None:
        """Copy a flat vector into the module's parameters."""
        parameters = dict(module.named_parameters())
        for name, value in self.views(flat).items():
            parameters[name].copy_(value)


@dataclass(frozen=True)
class StatisticsLayout:
    """Where the running mean and variance of each batch-normalization layer lie in a flat vector.

    They are no parameters: no gradient moves them, and distances between updates or medians of them mean nothing. So
    they are kept apart from the parameters, and what a federation does with them is a choice of its own.

    Attributes:
        channels: of each layer with running statistics, by name; its mean comes first, its (unbiased) variance next.
    """

    channels: dict[str, int]

    @classmethod
    def of(cls, module: nn.Module) -> "StatisticsLayout":
        """The layout of a module's running statistics; empty if it has none.

        Raises:
            InputError: a layer other than batch normalization keeps running statistics.
        """
        found: dict[str, int] = {}
        for name, layer in module.named_modules():
            if not getattr(layer, "track_running_stats", False):
                continue
            if not isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
                kind = type(layer).__name__
                raise InputError(
                    f"layer {name!r} ({kind}) of the model keeps running statistics that cannot be federated"
                )
            found[name] = layer.num_features
        return cls(found)

    @property
    def size(self) -> int:
        """Length of the flat vector."""
        return 2 * sum(self.channels.values())

    def views(self, flat: Float[Tensor, "*rows statistics"]) -> dict[str, tuple[Tensor, Tensor]]:
        """Mean and variance of each layer as views into a flat vector, or a matrix of them."""
        sizes = [count for count in self.channels.values() for _ in range(2)]
        pieces = iter(torch.split(flat, sizes, dim=-1)) if sizes else iter(())
        return {name: (next(pieces), next(pieces)) for name in self.channels}

    def flatten(self, module: nn.Module) -> Float[Tensor, "statistics"]:
        """A copy of the module's running statistics as one vector."""
        layers = dict(module.named_modules())
        parts = [part for name in self.channels for part in (layers[name].running_mean, layers[name].running_var)]
        device = next(module.parameters()).device
        return torch.cat([part.detach().clone() for part in parts]) if parts else torch.zeros(0, device=device)

    @torch.no_grad()
    def load(self, module: nn.Module, flat: Float[Tensor, "statistics"]) -> None:
        """Copy a flat vector into the module's running statistics."""
        layers = dict(module.named_modules())
        for name, (mean, variance) in self.views(flat).items():
            layers[name].running_mean.copy_(mean)
            layers[name].running_var.copy_(variance)

    def fresh(self, like: Float[Tensor, "statistics"]) -> Float[Tensor, "statistics"]:
        """Statistics of layers that have seen nothing: mean 0 and variance 1."""
        flat = torch.zeros_like(like)
        for _, variance in self.views(flat).values():
            variance.fill_(1)
        return flat
