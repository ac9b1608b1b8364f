"""One message, whatever a loop keeps it in, as named tensors; and what all messages of a recording have in common."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedsec.errors import InputError
from fedsec.threat.rows import as_tensor

__all__ = ["ROW", "Form", "Names", "check_form", "form_of", "named_tensors"]

ROW = "row"
"""What a flat row is called whose parameters have no names."""

Form = dict[str, tuple[str, tuple[int, ...]]]
"""Dtype (without `torch.`) and shape of every tensor of a message, by name and in order."""


@dataclass(frozen=True)
class Names:
    """How tensors without names are to be called.

    Args:
        keys: of a list of tensors, in order; their places where nobody said.
        shapes: of a flat row's parameters, by name and in order; a row is one tensor where nobody said.
    """

    keys: tuple[str, ...] = ()
    shapes: Mapping[str, tuple[int, ...]] | None = None


def named_tensors(who: str, message: Any, names: Names) -> dict[str, Tensor]:
    """A message as tensors by name, on any device, detached; memory is shared with the caller where that is possible.

    Args:
        who: sent it, for messages to the user.
        message: a module, a state dict of tensors or arrays, a list of tensors or arrays, or one flat row.
        names: of what has none.

    Raises:
        InputError: it is none of these, or holds what no file of tensors can.
    """
    if isinstance(message, nn.Module):
        message = message.state_dict()
    if isinstance(message, Mapping):
        if not message:
            raise InputError(f"{who}: expected a state dict with at least one entry, got an empty one")
        named = {str(name): _tensor(f"{who}, {name!r}", value) for name, value in message.items()}
    elif isinstance(message, list | tuple):
        named = _named_list(who, message, names.keys)
    else:
        named = _named_row(who, as_tensor(who, message), names.shapes)
    return {name: _storable(f"{who}, {name!r}", tensor) for name, tensor in named.items()}


def _named_list(who: str, tensors: Sequence[Any], keys: Sequence[str]) -> dict[str, Tensor]:
    if not tensors:
        raise InputError(f"{who}: expected a list with at least one array, got an empty one")
    if keys and len(keys) != len(tensors):
        raise InputError(f"{who}: expected {len(keys)} arrays, as the reference has, got {len(tensors)}")
    called = keys or [str(place) for place in range(len(tensors))]
    return {name: _tensor(f"{who}, {name!r}", value) for name, value in zip(called, tensors, strict=True)}


def _tensor(who: str, value: Any) -> Tensor:
    # A counter may be a plain number, and arithmetic makes numbers of arrays without dimensions.
    return as_tensor(who, np.asarray(value) if isinstance(value, np.generic | int | float) else value)


def _named_row(who: str, row: Tensor, shapes: Mapping[str, tuple[int, ...]] | None) -> dict[str, Tensor]:
    if row.ndim != 1 or not row.numel():
        raise InputError(
            f"{who}: expected a state dict, a list of arrays or a flat row, got one tensor of shape {tuple(row.shape)}"
        )
    if shapes is None:
        return {ROW: row}
    sizes = [torch.Size(shape).numel() for shape in shapes.values()]
    if sum(sizes) != len(row):
        raise InputError(f"{who}: a row of {len(row)} numbers does not go with shapes of {sum(sizes)}")
    parts = zip(shapes.items(), torch.split(row, sizes), strict=True)
    return {name: part.view(shape) for (name, shape), part in parts}


def _storable(who: str, tensor: Tensor) -> Tensor:
    plain = tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_complex()
    if not plain:
        kind = str(tensor.layout).removeprefix("torch.") if tensor.layout != torch.strided else str(tensor.dtype)
        raise InputError(f"{who}: expected a dense tensor of real numbers, got {kind}; dequantize it or make it dense")
    return tensor.detach()


def form_of(message: Mapping[str, Tensor]) -> Form:
    """What other messages of its kind must be like."""
    return {name: (str(row.dtype).removeprefix("torch."), tuple(row.shape)) for name, row in message.items()}


def check_form(who: str, message: Mapping[str, Tensor], form: Form) -> dict[str, Tensor]:
    """The message in the form's order.

    Raises:
        InputError: an entry is missing, is one too many, or has another shape or dtype; names the sender and the entry.
    """
    missing = [name for name in form if name not in message]
    extra = [name for name in message if name not in form]
    if missing:
        instead = f"; it has {', '.join(map(repr, extra))} instead" if extra else ""
        raise InputError(f"{who}: has no {missing[0]!r}, which the recording's messages have{instead}")
    if extra:
        raise InputError(f"{who}: has {extra[0]!r}, which the recording's messages do not have")
    for name, (dtype, shape) in form.items():
        row = message[name]
        if tuple(row.shape) != shape or str(row.dtype) != f"torch.{dtype}":
            got = f"{str(row.dtype).removeprefix('torch.')} of shape {tuple(row.shape)}"
            raise InputError(f"{who}: {name!r} is {got}; expected {dtype} of shape {shape}")
    return {name: message[name] for name in form}
