"""A model's trainable parameters as a flat vector; many models' as the rows of a matrix."""

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
            InputError: no trainable parameter, one without a shape, or parameters of several dtypes.
        """
        for name, parameter in module.named_parameters():
            if isinstance(parameter, nn.parameter.UninitializedParameter):
                raise InputError(
                    f"the model's parameter {name!r} has no shape yet; expected lazy layers that have seen a batch"
                )
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
        return sum(self.sizes)

    @property
    def sizes(self) -> list[int]:
        """How many numbers each of them has."""
        return [math.prod(shape) for shape in self.shapes.values()]

    def views(self, flat: Float[Tensor, "*rows parameters"]) -> dict[str, Tensor]:
        """Named views into a flat vector, or into a matrix of them (then with the rows' axes in front)."""
        pieces = torch.split(flat, self.sizes, dim=-1)
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
