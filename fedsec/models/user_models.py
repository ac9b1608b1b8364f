"""A user's own model, named on the command line."""

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fedsec.errors import InputError

__all__ = ["check_model", "load_model"]


def load_model(reference: str, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """The model that a user's own function or class makes. This runs the user's code.

    The module is imported as `python -m` would, with the current folder first on the path. The factory is called with
    `input_shape` and `num_classes` where it has parameters of these names, otherwise without arguments. Initial weights
    come from torch's global random state; seed that, or use `torch.random.fork_rng`, to choose them. The model is run
    on two gray images, see `check_model`.

    Args:
        reference: `package.module:factory`.
        input_shape: (channels, height, width) of one image.
        num_classes: number of logits.

    Returns:
        The model, in the mode in which the factory left it.

    Raises:
        InputError: the reference leads to no factory, or what it makes is no classifier of such images; one line with
            the cause.
    """
    module_name, colon, attribute = reference.partition(":")
    if reference.lstrip().startswith("{"):
        raise InputError(
            f"model {reference!r}: expected a name, or package.module:factory; options stand apart from it, on the "
            "command line as --model-option activation=tanh, in Python as model_options"
        )
    if not (module_name and colon and attribute):
        raise InputError(f"model {reference!r}: expected package.module:factory")
    with _current_folder_importable():
        factory = _factory(reference, module_name, attribute)
        given = {"input_shape": input_shape, "num_classes": num_classes}
        arguments = {name: value for name, value in given.items() if name in _parameters(factory)}
        try:
            model = factory(**arguments)
        except (Exception, SystemExit) as error:
            raise InputError(f"model {reference!r}: {attribute}({', '.join(arguments)}) {_raised(error)}") from error
        if not isinstance(model, nn.Module):
            raise InputError(
                f"model {reference!r}: expected {attribute} to return a torch.nn.Module, got {_kind(model)}"
            )
        check_model(model, input_shape, num_classes, called=f"model {reference!r}")
    return model


@contextmanager
def _current_folder_importable() -> Iterator[None]:
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if folder in sys.path:  # the user's code may have tidied up
            sys.path.remove(folder)


def _factory(reference: str, module_name: str, attribute: str) -> Callable[..., Any]:
    try:
        value: Any = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise InputError(f"model {reference!r}: importing {module_name} {_raised(error)}") from error
    for name in attribute.split("."):
        if not hasattr(value, name):
            raise InputError(f"model {reference!r}: {module_name} has no {attribute}")
        value = getattr(value, name)
    if isinstance(value, nn.Module):
        raise InputError(f"model {reference!r}: {attribute} is a model; name a function or class that makes one")
    if not callable(value):
        raise InputError(f"model {reference!r}: {attribute} is {_kind(value)}; name a function or class")
    factory: Callable[..., Any] = value
    return factory


def _parameters(factory: Callable[..., Any]) -> set[str]:
    """Names that the factory can be given by keyword."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # written in C
        return set()
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {parameter.name for parameter in parameters if parameter.kind in by_name}


@torch.no_grad()
def check_model(model: nn.Module, input_shape: tuple[int, ...], num_outputs: int, *, called: str = "the model") -> None:
    """Run a model once, in evaluation mode, on two gray inputs, and refuse what no engine or attack could work with.

    Lazy layers get their shapes by this. Modes are left as they were.

    Args:
        model: to be looked at.
        input_shape: (channels, height, width) of one image, or (features,) of one vector.
        num_outputs: how many numbers it must give for each example: as many as there are classes.
        called: what messages call it.

    Raises:
        InputError: no parameters, parameters that are no real numbers or stay without a shape, an exception for such
            inputs, other outputs than finite numbers of the right shape, or outputs that are random; one line with
            the cause.
    """
    first = next((weight for weight in model.parameters() if not nn.parameter.is_lazy(weight)), None)
    if next(model.parameters(), None) is None:
        raise InputError(f"{called}: expected a model with parameters, got one without")
    like = torch.empty(()) if first is None else first
    if not like.is_floating_point():
        raise InputError(f"{called}: expected parameters that are real numbers, got {_dtype(like)}")
    gray = torch.full((2, *input_shape), 0.5, dtype=like.dtype, device=like.device)
    modes = {module: module.training for module in model.modules()}
    try:
        outputs, again = model.eval()(gray), model(gray)
    except (Exception, SystemExit) as error:
        raise InputError(
            f"{called}: a batch of shape {tuple(gray.shape)} {_raised(error)}{_dtypes_hint(model)}"
        ) from error
    finally:
        for module, mode in modes.items():
            module.training = mode
    _check_outputs(outputs, (2, num_outputs), called)
    lazy = [name for name, weight in model.named_parameters() if nn.parameter.is_lazy(weight)]
    if lazy:
        raise InputError(f"{called}: {lazy[0]} is lazy and has no shape after a batch; use the layer, or leave it out")
    if not torch.equal(outputs, again):
        raise InputError(
            f"{called}: gives other logits for the same images in evaluation mode; expected draws in training alone "
            "(self.training)"
        )


def _check_outputs(outputs: Any, expected: tuple[int, int], called: str) -> None:
    if not isinstance(outputs, torch.Tensor):
        raise InputError(f"{called}: expected logits of shape {expected}, got {_kind(outputs)}")
    if outputs.shape != expected:
        hint = ""
        if outputs.ndim == 2:
            hint = (
                f"; the data have {expected[1]} classes: give the factory a parameter num_classes, or take data with "
                f"{outputs.shape[1]} classes"
            )
        raise InputError(f"{called}: expected logits of shape {expected}, got {tuple(outputs.shape)}{hint}")
    if not outputs.is_floating_point() or not bool(outputs.isfinite().all()):
        raise InputError(f"{called}: expected finite logits of two gray images, got {outputs[0].tolist()}")


def _dtypes_hint(model: nn.Module) -> str:
    """What may be wrong where parameters are of several kinds, or of a kind that few layers compute with."""
    kinds = sorted({_dtype(weight) for weight in model.parameters()})
    return (
        "" if kinds == ["float32"] else f"; its parameters are {' and '.join(kinds)}: model.float() makes them float32"
    )


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _raised(error: BaseException) -> str:
    message = " ".join(str(error).split())
    return f"raised {type(error).__name__}: {message}" if message else f"raised {type(error).__name__}"


def _kind(value: object) -> str:
    return f"an object of type {type(value).__name__}"
