"""A client's state dict before and after its training, as another framework stores them: what they tell of it."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fedsec.errors import InputError
from fedsec.threat.observed.private_model import unwrapped
from fedsec.threat.observed.received import bare
from fedsec.threat.state_entries import State, as_entry, listed, no_state
from fedsec.threat.state_layout import StateLayout

__all__ = ["StatePair"]

_COUNTER = "num_batches_tracked"
_SHORT = -20
"""log2 of the length of a direction: less than any class's share of a mean gradient."""


@dataclass(frozen=True, eq=False)
class StatePair:
    """What lies between two state dicts of a model.

    Attributes:
        model: a copy that holds the first of them.
        difference: of the trainable parameters, by name: after - before.
        buffers_before: floating-point buffers of the first, by name.
        buffers_after: those of the second, where it has any.
        counted_steps: how many batches normalization layers counted in between; None where they say nothing.
        remarks: what a reader should know, one line each.
    """

    model: nn.Module
    difference: Mapping[str, Tensor]
    buffers_before: Mapping[str, Tensor]
    buffers_after: Mapping[str, Tensor]
    counted_steps: int | None
    remarks: tuple[str, ...]

    @classmethod
    def of(cls, model: nn.Module, before: State, after: State) -> "StatePair":
        """Compare two state dicts of a model.

        Args:
            model: their architecture; left as it is.
            before: what the server sent: tensors or arrays by name, with or without what wrappers put before names.
            after: what the client sent back; its buffers may be missing.

        Raises:
            InputError: names that the model does not have or that are missing, other shapes, two equal states, or a
                model that does not load the first.
        """
        if not isinstance(model, nn.Module):
            raise InputError(f"Observation: model must be the module of the state dicts, not {type(model).__name__}")
        copied = deepcopy(unwrapped(model))
        sent, received = _bare_names("before", before), _bare_names("after", after)
        layout = StateLayout.of(sent, model=copied)
        start = layout.start()
        row = torch.empty_like(start)
        layout.write_update(row, received, start, who="after")
        if not bool(row.isfinite().all()):
            names = [name for name, part in layout.views(row).items() if not bool(part.isfinite().all())]
            raise InputError(
                f"Observation: after: {listed(names)} must be finite, and so must its difference to before"
            )
        if not bool(row.any()):
            raise InputError("Observation: before and after have the same parameters; expected two states of training")
        _load(copied, sent)
        device = next(copied.parameters()).device
        buffers_before = _buffers("before", sent, layout)
        buffers_after = _buffers("after", received, layout)
        remarks = _match_modes(copied, buffers_before, buffers_after)
        difference = {name: values.to(device) for name, values in layout.views(row).items()}
        return cls(copied, difference, buffers_before, buffers_after, _counted(layout, sent, received), remarks)

    def direction(self) -> dict[str, Tensor]:
        """Before - after, as the gradient of a single step; so short that nobody takes its length for a gradient's."""
        norm = torch.stack([row.double().norm() for row in self.difference.values()]).norm()
        factor = -(2.0 ** (_SHORT - int(norm.log2().floor())))  # a power of two rounds nothing
        return {name: factor * row for name, row in self.difference.items()}


def _bare_names(who: str, state: Any) -> dict[str, Any]:
    if not isinstance(state, Mapping):
        raise InputError(f"Observation: {who}: {no_state(state)}")
    return {bare(name): values for name, values in state.items()}


def _load(model: nn.Module, state: State) -> None:
    tensors = {name: as_entry("before", name, values) for name, values in state.items()}
    try:
        model.load_state_dict({name: tensor for name, tensor in tensors.items() if tensor is not None}, strict=False)
    except RuntimeError as error:
        raise InputError(f"Observation: the model does not load before: {' '.join(str(error).split())}") from error
    missing = [name for name, _ in model.named_parameters(remove_duplicate=True) if name not in state]
    if missing:
        raise InputError(f"Observation: before lacks {missing[0]!r}; expected all parameters of the model")


def _buffers(who: str, state: State, layout: StateLayout) -> dict[str, Tensor]:
    tensors = {name: as_entry(who, name, state[name]) for name in layout.statistics if name in state}
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def _match_modes(model: nn.Module, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Put normalization layers whose statistics moved into train mode, as the client's were."""
    moved = []
    for name, layer in model.named_modules():
        key = f"{name}.running_mean" if name else "running_mean"
        if isinstance(layer, _BatchNorm) and not layer.training and key in before and key in after:
            old, new = before[key], after[key].to(before[key])
            if old.shape == new.shape and not torch.equal(old, new):
                layer.train()
                moved.append(name)
    if not moved:
        return ()
    return (f"running statistics of {len(moved)} layers moved: the client trained them in train mode, taken so here",)


def _counted(layout: StateLayout, before: State, after: State) -> int | None:
    """By how much the counters of batches rose, if all by the same."""
    rises = set[int]()
    for name in layout.counters:
        if name.rpartition(".")[2] == _COUNTER and name in after:
            first, last = as_entry("before", name, before[name]), as_entry("after", name, after[name])
            if first is not None and last is not None and first.numel() == last.numel() == 1:
                rises.add(int(last) - int(first))
    if rises and max(rises) < 0:
        raise InputError(
            "Observation: normalization layers counted fewer batches after than before; are they exchanged?"
        )
    (steps,) = rises if len(rises) == 1 else (0,)
    return steps if steps > 0 else None
