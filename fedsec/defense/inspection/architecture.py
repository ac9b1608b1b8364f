"""In what a received model differs from the one that was agreed upon, weights aside."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

_HOOKS = (
    *("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"),
    *("_state_dict_hooks", "_load_state_dict_pre_hooks"),
)


def differences(received: nn.Module, expected: nn.Module) -> list[str]:
    """What is not as expected, in words: layers, their settings, shapes, types, buffers, hooks and replaced methods.

    Args:
        received: the model.
        expected: the one that was agreed upon; its weights do not matter.
    """
    return [*_of_modules(received, expected), *_of_tensors(received, expected)]


def _of_modules(received: nn.Module, expected: nn.Module) -> Iterator[str]:
    theirs, ours = dict(received.named_modules()), dict(expected.named_modules())
    for name, layer in theirs.items():
        if name not in ours:
            yield f"an unknown layer {_named(name, layer)}"
            continue
        other = ours[name]
        if type(layer) is not type(other):
            yield f"{name or 'the model'} is a {type(layer).__name__}; expected a {type(other).__name__}"
        elif layer.extra_repr() != other.extra_repr():
            yield f"{_named(name, layer)} is made with ({layer.extra_repr()}); expected ({other.extra_repr()})"
        if vars(layer).keys() & {"forward"} - vars(other).keys():
            yield f"{_named(name, layer)} has a forward of its own"
        for hooks in _HOOKS:
            if len(getattr(layer, hooks, ())) != len(getattr(other, hooks, ())):
                yield f"{_named(name, layer)} has other {hooks.strip('_').replace('_', ' ')}"
    for name in ours.keys() - theirs.keys():
        yield f"no layer {_named(name, ours[name])}"
    if list(theirs) != list(ours) and theirs.keys() == ours.keys():
        yield "its layers stand in another order"


def _of_tensors(received: nn.Module, expected: nn.Module) -> Iterator[str]:
    for kind in ("parameters", "buffers"):
        theirs, ours = _tensors(received, kind), _tensors(expected, kind)
        for name in [*theirs, *(ours.keys() - theirs.keys())]:
            one, other = (_described(tensors.get(name)) for tensors in (theirs, ours))
            if one != other:
                yield f"{kind[:-1]} {name!r} is {one}; expected {other}"


def _tensors(model: nn.Module, kind: str) -> Mapping[str, Any]:
    # Tied parameters under each of their names: untying them is a difference, too.
    named: Iterator[tuple[str, Tensor]] = getattr(model, f"named_{kind}")(remove_duplicate=False)
    return dict(named)


def _described(tensor: Tensor | None) -> str:
    if tensor is None:
        return "missing"
    frozen = "" if tensor.requires_grad or not isinstance(tensor, nn.Parameter) else ", frozen"
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}{frozen}"


def _named(name: str, layer: nn.Module) -> str:
    return f"{name!r} ({type(layer).__name__})" if name else f"the model ({type(layer).__name__})"
