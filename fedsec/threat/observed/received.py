"""What comes from outside, checked and brought into the form that an observation keeps."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from fedsec.errors import InputError
from fedsec.threat.observed.private_model import WRAPPERS

__all__ = ["bare", "checked_labels", "checked_statistics", "checked_update", "named", "parameters_and_buffers"]

_NEAR = 0.2
"""An update this near to a parameter, relative to its length, is the parameter itself."""

_TELLING = 8
"""Fewer numbers than these may be near to each other by chance."""


def named(model: nn.Module, gradient: Iterable[Tensor]) -> dict[str, Tensor]:
    """Gradients in the order of the trainable parameters, by name."""
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    rows = list(gradient)
    if len(rows) != len(names):
        raise InputError(f"Observation: {len(rows)} gradients for the model's {len(names)} trainable parameters")
    return dict(zip(names, rows, strict=True))


def parameters_and_buffers(model: nn.Module, difference: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A state's difference, apart: what is of parameters (or unknown), and what is of buffers."""
    buffers = {bare(name) for name, _ in model.named_buffers()}
    rows = {bare(name): row for name, row in difference.items()}
    update = {name: row for name, row in rows.items() if name not in buffers}
    return update, {name: torch.as_tensor(row).double() for name, row in rows.items() if name in buffers}


def checked_update(model: nn.Module, update: Mapping[str, Any]) -> dict[str, Tensor]:
    """A copy in the parameters' dtypes, under the names that `named_parameters` gives them."""
    if not update:
        raise InputError("Observation: the update is empty")
    parameters = dict(model.named_parameters())
    of_tensor = {id(parameter): name for name, parameter in parameters.items()}
    # Tied parameters have several names, the first of which is theirs.
    names = {name: of_tensor[id(row)] for name, row in model.named_parameters(remove_duplicate=False)}
    _check_names(model, names, update)
    checked = {}
    for key, values in update.items():
        name = names.get(key, names.get(bare(key), key))
        checked[name] = _checked_row(key, values, parameters[name])
    _check_difference(parameters, checked)
    return checked


def bare(name: str) -> str:
    """A parameter's name without what DataParallel and torch.compile put before it."""
    while name.startswith(WRAPPERS):
        name = name.removeprefix(WRAPPERS[0]).removeprefix(WRAPPERS[1])
    return name.replace("._orig_mod.", ".")


def _check_names(model: nn.Module, names: Mapping[str, str], update: Mapping[str, Any]) -> None:
    unknown = [name for name in update if name not in names and bare(name) not in names]
    if not unknown:
        return
    buffers = {name for name, _ in model.named_buffers()}
    sent = [name for name in unknown if bare(name) in buffers]
    if sent:
        raise InputError(
            f"Observation: the update names {sent[0]!r}, a buffer of the model and no parameter; leave out "
            f"{', '.join(sent)}, or use Observation.of_update, which reads running statistics"
        )
    raise InputError(
        f"Observation: the update names {unknown[0]!r}, which is no parameter of the model; it has: {', '.join(names)}"
    )


def _checked_row(name: str, values: Any, parameter: nn.Parameter) -> Tensor:
    if values is None:
        raise InputError(
            f"Observation: the gradient of {name!r} is None; use allow_unused=False, or name the parameters that "
            f"have one"
        )
    try:
        row = values if isinstance(values, Tensor) else torch.as_tensor(values).to(parameter.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"Observation: the update of {name!r} must be a tensor or an array, got {type(values).__name__}"
        ) from error
    if row.shape != parameter.shape:
        raise InputError(
            f"Observation: the update of {name!r} has shape {tuple(row.shape)}, the parameter {tuple(parameter.shape)}"
        )
    if row.device != parameter.device:
        raise InputError(f"Observation: the update of {name!r} is on {row.device}, the parameter on {parameter.device}")
    checked = row.detach().to(parameter.dtype, copy=True)
    if not row.is_floating_point() or not bool(checked.isfinite().all()):
        raise InputError(
            f"Observation: the update of {name!r} must be finite floating-point numbers, also as {parameter.dtype}"
        )
    return checked


def _check_difference(parameters: Mapping[str, nn.Parameter], update: Mapping[str, Tensor]) -> None:
    """Refuse weights in the place of their difference: no gradient lies so near to a whole parameter's weights."""
    for name, row in update.items():
        weights = parameters[name].detach()
        length = float(weights.double().norm())
        if weights.numel() >= _TELLING and length > 0 and float((row - weights).double().norm()) < _NEAR * length:
            raise InputError(
                f"Observation: the update of {name!r} is nearly the broadcast parameter itself, as a client's "
                "parameters after training are; expected its gradient, or those parameters minus the broadcast ones"
            )


def checked_labels(values: Any, batch_size: int, num_classes: int) -> Tensor:
    """Labels as int64; lists and arrays of whole numbers are taken too."""
    try:
        labels = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"Observation: labels must be {batch_size} whole numbers, got {values!r}") from error
    if not isinstance(values, Tensor) and labels.dtype in (torch.int8, torch.int16, torch.int32):
        labels = labels.long()
    if labels.shape != (batch_size,) or labels.dtype != torch.int64:
        raise InputError(
            f"Observation: labels must be {batch_size} of int64, got {labels.dtype} of shape {tuple(labels.shape)}"
        )
    if int(labels.min()) < 0 or int(labels.max()) >= num_classes:
        raise InputError(f"Observation: labels must lie in [0, {num_classes})")
    return labels


def checked_statistics(
    layers: dict[str, nn.Module], statistics: Mapping[str, tuple[Tensor, Tensor]]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and variance of batch-normalization layers, as copies."""
    checked = {}
    for name, pair in statistics.items():
        if name not in layers:
            raise InputError(f"Observation: statistics of {name!r}, which the model does not have")
        layer = layers[name]
        if not isinstance(layer, _NormBase):
            raise InputError(
                f"Observation: statistics of {name!r}, which is no batch normalization but {type(layer).__name__}"
            )
        wanted = (layer.num_features,)
        if len(pair) != 2 or any(row.shape != wanted or not row.is_floating_point() for row in pair):
            raise InputError(
                f"Observation: statistics of {name!r} must be mean and variance of shape {wanted}, floating-point, got "
                f"{', '.join(f'{row.dtype} of shape {tuple(row.shape)}' for row in pair)}"
            )
        mean, variance = (row.detach().clone() for row in pair)
        if not bool(mean.isfinite().all() and variance.isfinite().all() and (variance >= 0).all()):
            raise InputError(f"Observation: statistics of {name!r} must be finite, the variance not negative")
        checked[name] = mean, variance
    return checked
