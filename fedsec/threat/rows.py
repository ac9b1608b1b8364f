"""What is taken for a round's updates: a matrix, an array, or a list of rows; the same kind is given back."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fedsec.errors import InputError

__all__ = ["Rows", "as_given", "as_matrix", "as_tensor", "finite_rows", "subtract_start", "surely_finite"]

Rows = Tensor | np.ndarray | Sequence[Tensor] | Sequence[np.ndarray] | Sequence[Sequence[float]]
"""One update a row."""


def as_matrix(who: str, updates: Any) -> Tensor:
    """The rows as one floating-point matrix [clients, parameters]; of a tensor or an array, a view where possible.

    Args:
        who: asks, for messages.
        updates: a matrix as tensor or array, or a list of rows, each a tensor, an array or a list of numbers.

    Raises:
        InputError: anything else; a dictionary by parameter name is told how to become a row.
    """
    if isinstance(updates, Tensor | np.ndarray):
        matrix = as_tensor(who, updates)
    elif isinstance(updates, list | tuple) and updates:
        kinds = {_kind(row) for row in updates}
        if dict in kinds:
            raise InputError(
                f"{who}: updates must be rows of numbers, not dictionaries by parameter name; expected one vector a "
                "client, such as torch.cat([tensor.flatten() for tensor in update.values()])"
            )
        if len(kinds) > 1 or None in kinds:
            names = ", ".join(sorted({type(row).__name__ for row in updates}))
            raise InputError(f"{who}: expected rows of one kind, tensors, arrays or lists of numbers, not {names}")
        rows = [as_tensor(who, row) for row in updates]
        traits = {(row.shape, row.dtype, row.device) for row in rows}
        if len(traits) > 1 or rows[0].ndim != 1:
            shapes = "; ".join(
                sorted(f"{dtype} of shape {tuple(shape)} on {device}" for shape, dtype, device in traits)
            )
            raise InputError(f"{who}: rows must be vectors of one length, dtype and device, not {shapes}")
        matrix = torch.stack(rows)
    else:
        hint = ""
        if isinstance(updates, Mapping):
            hint = ": one row for each client, each its flattened update, and not a dictionary"
        raise InputError(f"{who}: updates must be a matrix or a list of rows, not {type(updates).__name__}{hint}")
    dense = matrix.layout == torch.strided
    if matrix.ndim != 2 or 0 in matrix.shape or not matrix.is_floating_point() or not dense:
        raise InputError(
            f"{who}: updates must be a floating-point matrix with a row for each client and at least one row and "
            f"column, not {'' if dense else 'sparse '}{matrix.dtype} of shape {tuple(matrix.shape)}"
        )
    return matrix


def as_tensor(who: str, values: Any) -> Tensor:
    """A tensor, an array or numbers as a tensor; an array's memory is shared where PyTorch can.

    Raises:
        InputError: values that no tensor holds.
    """
    if isinstance(values, Tensor):
        return values
    try:
        array = np.asarray(values)
        if not isinstance(values, np.ndarray) and array.dtype.kind in "iub":
            array = array.astype(np.float64)  # whole numbers in a list are numbers all the same
        if not array.dtype.isnative or not array.flags.writeable or min(array.strides, default=0) < 0:
            array = array.astype(array.dtype.newbyteorder("="))  # a copy that PyTorch can look at
        return torch.from_numpy(array)
    except (TypeError, ValueError) as error:
        shown = f"an array of {values.dtype}" if isinstance(values, np.ndarray) else type(values).__name__
        raise InputError(f"{who}: expected floating-point numbers, not {shown}: {error}") from error


def as_given(updates: Any) -> Callable[[Tensor], Any]:
    """How results become of the kind that was given: an array for arrays, lists of numbers for such, else a tensor."""
    one = updates[0] if isinstance(updates, list | tuple) else updates
    if isinstance(one, np.ndarray):
        return lambda result: result.detach().cpu().numpy()
    if isinstance(one, list | tuple):
        return lambda result: result.tolist()
    return lambda result: result


def _kind(row: Any) -> type | None:
    for kind in (Tensor, np.ndarray):
        if isinstance(row, kind):
            return kind
    if isinstance(row, Mapping):
        return dict
    return list if isinstance(row, list | tuple) else None


def finite_rows(matrix: Float[Tensor, "rows columns"]) -> Bool[Tensor, "rows"]:
    """Which rows hold neither NaN nor infinity, at a fraction of a look at each number.

    Args:
        matrix: of any floating dtype, on any device.
    """
    # Both survive any sum. A finite row may overflow, so an odd sum is only a reason to look closely.
    finite = matrix.sum(1, dtype=torch.promote_types(matrix.dtype, torch.float32)).isfinite()
    for row in (~finite).nonzero().flatten().tolist():
        finite[row] = matrix[row].isfinite().all()
    return finite


def subtract_start(rows: Float[Tensor, "*rows columns"], start: Float[Tensor, "columns"]) -> None:
    """Make updates of models, in place: where the start is infinite, as a mask, 0 of the same and NaN of all else."""
    infinite = start.isinf()
    if not bool(infinite.any()):
        rows.sub_(start)
        return
    same = (rows == start)[..., infinite]
    rows.sub_(start)
    rows[..., infinite] = torch.where(same, 0.0, torch.nan).to(rows.dtype)


def surely_finite(vector: Tensor) -> bool:
    """Whether no value is NaN, infinite, or as large as one that infinity may have been clamped to."""
    low, high = (float(edge) for edge in torch.aminmax(vector))
    return -torch.finfo(vector.dtype).max < low and high < torch.finfo(vector.dtype).max
