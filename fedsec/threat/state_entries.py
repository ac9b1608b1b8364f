"""The entries of a state dict: as tensors, as a model names them, and made anew like others."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedsec.errors import DivergenceError, InputError
from fedsec.threat.rows import as_tensor

__all__ = ["NamedTensors", "State", "as_entry", "buffer_names", "copied", "entry_like", "listed", "no_state"]

State = Mapping[str, Any]
"""A state dict: tensors or NumPy arrays by name."""

_SHOWN = 4


@dataclass(frozen=True)
class NamedTensors:
    """What a model says of the names in its state dict; nothing where there is no model."""

    parameters: Mapping[str, nn.Parameter] | None = None
    buffers: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, model: nn.Module | None) -> "NamedTensors":
        if model is None:
            return cls()
        if not isinstance(model, nn.Module):
            raise InputError(f"model: expected the module whose state dict it is, not {type(model).__name__}")
        return cls(
            dict(model.named_parameters(remove_duplicate=False)), dict(model.named_buffers(remove_duplicate=False))
        )

    def is_buffer(self, name: str) -> bool:
        if self.parameters is not None and name not in self.parameters and name not in self.buffers:
            raise InputError(f"model: has no {name!r}, which the reference has; expected the model of the state dict")
        return name in self.buffers

    def is_frozen(self, name: str) -> bool:
        return self.parameters is not None and not self.parameters[name].requires_grad

    def identity(self, name: str, values: Any, tensor: Tensor) -> Any:
        """What names of one tensor have in common, and no two tensors."""
        if self.parameters is not None:
            return id(self.parameters[name])
        if not tensor.numel():
            return name
        address = values.data_ptr() if isinstance(values, Tensor) else values.__array_interface__["data"][0]
        return address, tensor.device, tensor.dtype, tensor.shape, tensor.stride()


def listed(names: Iterable[str]) -> str:
    """The first few of some names, and how many more there are."""
    shown = [repr(name) for name in names]
    more = len(shown) - _SHOWN
    return ", ".join(shown[:_SHOWN]) + (f" and {more} more" if more > 0 else "") if shown else "nothing"


def as_entry(who: str, name: str, values: Any) -> Tensor | None:
    """An entry as a tensor; None of an object that is none."""
    if not isinstance(values, Tensor | np.ndarray | np.generic):
        return None
    if isinstance(values, np.ndarray | np.generic) and values.dtype.kind not in "fiubc":
        return None
    if isinstance(values, nn.parameter.UninitializedParameter | nn.parameter.UninitializedBuffer) or (
        isinstance(values, Tensor) and values.is_meta
    ):
        raise InputError(f"{who}: {name!r} has no numbers yet; expected a model that has seen a batch")
    tensor = as_tensor(f"{who}: {name!r}", values)
    if tensor.is_complex() or tensor.layout != torch.strided:
        kind = f"complex ({tensor.dtype})" if tensor.is_complex() else "sparse"
        raise InputError(f"{who}: {name!r} is {kind}; expected dense real numbers")
    return tensor


def entry_like(
    name: str, values: Tensor, like: Tensor | np.ndarray | np.generic, *, bounded: bool = True
) -> Tensor | np.ndarray:
    """New memory with some values, of the kind, dtype and device of an entry.

    Args:
        name: of the entry, for the message.
        values: of any floating dtype.
        like: the entry.
        bounded: whether values beyond its dtype's range are refused, or become infinite.

    Raises:
        DivergenceError: finite values that its dtype cannot hold.
    """
    converted: Tensor | np.ndarray
    if isinstance(like, Tensor):
        converted = result = torch.empty_like(like, requires_grad=False).copy_(values)
    else:
        with np.errstate(over="ignore"):
            converted = np.asarray(values.cpu().numpy()).astype(like.dtype)
        result = torch.from_numpy(converted.astype(converted.dtype.newbyteorder("=")))
    if bounded and bool((values.isfinite() & ~result.to(values.device).isfinite()).any()):
        raise DivergenceError(f"{name!r}: the new values are beyond the range of {like.dtype}")
    return converted


def copied(values: Any) -> Any:
    """An entry with memory of its own; an object that is neither tensor nor array itself."""
    if isinstance(values, Tensor):
        return values.detach().clone()
    return values.copy() if isinstance(values, np.ndarray) else values


def buffer_names(reference: State, buffers: Collection[str] | None) -> set[str]:
    """The entries that are named as buffers, by their whole names."""
    if isinstance(buffers, str):
        raise InputError(f"buffers: expected names in a list, not the string {buffers!r}")
    names = set[str]()
    for buffer in buffers or ():
        meant = {name for name in reference if name == buffer or name.rpartition(".")[2] == buffer}
        if not meant:
            raise InputError(f"buffers: the reference has no {buffer!r}; it has {listed(reference)}")
        names |= meant
    return names


def no_state(given: Any) -> str:
    """What to say of something that is no state dict."""
    hint = "; call its state_dict()" if isinstance(given, nn.Module) else ""
    return f"expected a state dict, tensors or arrays by name, not {type(given).__name__}{hint}"
