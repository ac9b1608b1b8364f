"""What training changes beside trainable parameters, as flat vectors: running statistics, and other buffers."""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_OWN = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class StatisticsLayout:
    """Where all that training changes beside the parameters lies in a flat vector.

    It is no parameter: no gradient moves it, and distances between updates or medians of it mean nothing. So it is kept
    apart, and what a federation does with it is a choice of its own. What belongs to batch normalization comes first,
    since the engines move it themselves; the module changes the rest.

    Attributes:
        channels: of each batch normalization that learns running statistics, by the layer's name; its mean comes first,
            its (unbiased) variance next. Layers that stay in evaluation mode learn none.
        buffers: shapes of other buffers, or of parameters that no gradient trains, by name. Integers are carried as
            numbers of the vector's type, exact up to 2^24, and rounded where a module takes them over.
    """

    channels: Mapping[str, int]
    buffers: Mapping[str, torch.Size] = field(default_factory=dict)

    @classmethod
    def of(cls, module: nn.Module) -> "StatisticsLayout":
        """The running statistics that a module's batch normalization learns; see `fedsec.engine.trial` for the rest.

        Args:
            module: in any mode; not changed.
        """
        return cls({name: layer.num_features for name, layer in learning_norms(module).items()})

    @property
    def norm_size(self) -> int:
        """Length of what belongs to batch normalization, at the front of the vector."""
        return 2 * sum(self.channels.values())

    @property
    def size(self) -> int:
        """Length of the flat vector."""
        return self.norm_size + sum(map(math.prod, self.buffers.values()))

    def views(self, flat: Float[Tensor, "*rows statistics"]) -> dict[str, tuple[Tensor, Tensor]]:
        """Mean and variance of each layer as views into a flat vector, or a matrix of them."""
        sizes = [count for count in self.channels.values() for _ in range(2)]
        pieces = iter(torch.split(flat[..., : self.norm_size], sizes, dim=-1)) if sizes else iter(())
        return {name: (next(pieces), next(pieces)) for name in self.channels}

    def buffer_views(self, flat: Float[Tensor, "*rows statistics"]) -> dict[str, Tensor]:
        """The other buffers as views into a flat vector, or a matrix of them (then with the rows' axes in front)."""
        sizes = [math.prod(shape) for shape in self.buffers.values()]
        pieces = torch.split(flat[..., self.norm_size :], sizes, dim=-1) if sizes else ()
        named = zip(self.buffers.items(), pieces, strict=True)
        return {name: piece.view((*flat.shape[:-1], *shape)) for (name, shape), piece in named}

    def named(self, flat: Float[Tensor, "*rows statistics"]) -> dict[str, Tensor]:
        """All of it by the names that it has in a module's state."""
        names: dict[str, Tensor] = {}
        for layer, (mean, variance) in self.views(flat).items():
            prefix = f"{layer}." if layer else ""
            names |= {f"{prefix}running_mean": mean, f"{prefix}running_var": variance}
        return names | self.buffer_views(flat)

    def flatten(self, module: nn.Module) -> Float[Tensor, "statistics"]:
        """A copy of a module's own as one vector."""
        tensors = untrained(module)
        like = next(module.parameters())
        dtype = like.dtype if like.dtype == torch.float64 else torch.float32
        flat = torch.zeros(self.size, dtype=dtype, device=like.device)
        for name, view in self.named(flat).items():
            view.copy_(tensors[name])
        return flat

    @torch.no_grad()
    def load(self, module: nn.Module, flat: Float[Tensor, "statistics"]) -> None:
        """Copy a flat vector into a module."""
        tensors = untrained(module)
        for name, value in self.named(flat).items():
            _write(tensors[name], value)

    @torch.no_grad()
    def load_buffers(self, module: nn.Module, flat: Float[Tensor, "statistics"]) -> None:
        """Copy what is not batch normalization's into a module."""
        if self.buffers:
            tensors = untrained(module)
            for name, value in self.buffer_views(flat).items():
                _write(tensors[name], value)

    @torch.no_grad()
    def read_buffers(self, module: nn.Module, flat: Float[Tensor, "statistics"]) -> None:
        """Copy what is not batch normalization's from a module into a flat vector."""
        if self.buffers:
            tensors = untrained(module)
            for name, view in self.named(flat).items():
                if name in self.buffers:
                    view.copy_(tensors[name])

    def fresh(self, like: Float[Tensor, "statistics"]) -> Float[Tensor, "statistics"]:
        """Statistics of layers that have seen nothing: mean 0 and variance 1; other buffers as they are."""
        flat = like.clone()
        for mean, variance in self.views(flat).values():
            mean.zero_()
            variance.fill_(1)
        return flat


def learning_norms(module: nn.Module) -> dict[str, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d]:
    """The batch normalizations that move their running statistics in training, by name.

    A module may keep some in evaluation mode whatever it is told; those use their statistics and never move them.

    Args:
        module: in any mode; not changed. The layers are those of a copy.
    """
    if not any(isinstance(layer, BATCH_NORMS) for layer in module.modules()):
        return {}
    return norms_in_training(copy.deepcopy(module).train())


def norms_in_training(module: nn.Module) -> dict[str, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d]:
    """The same of a module that was told to train."""
    return {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, BATCH_NORMS) and layer.training and layer.running_mean is not None
    }


def untrained(module: nn.Module) -> dict[str, Tensor]:
    """A module's buffers and the parameters that no gradient trains, by name."""
    parameters = {name: p for name, p in module.named_parameters() if not p.requires_grad}
    return {**parameters, **dict(module.named_buffers())}


def own_names(layer: str) -> set[str]:
    """The names of a batch normalization's buffers."""
    return {f"{layer}.{name}" if layer else name for name in _OWN}


def _write(tensor: Tensor, value: Tensor) -> None:
    tensor.copy_(value if tensor.is_floating_point() or tensor.is_complex() else value.round())
