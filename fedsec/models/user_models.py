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

__all__ = ["load_model"]


def load_model(reference: str, input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """The model that a user's own function or class makes. This runs the user's code.

    The module is imported as `python -m` would, with the current folder first on the path. The factory is called with
    `input_shape` and `num_classes` where it has parameters of these names, otherwise without arguments. Initial weights
    come from torch's global random state; seed that, or use `torch.random.fork_rng`, to choose them. The model is run
    once, in evaluation mode, on two gray images.

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
        _check(reference, model, input_shape, num_classes)
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
        found: Any = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise InputError(f"model {reference!r}: importing {module_name} {_raised(error)}") from error
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise InputError(f"model {reference!r}: {module_name} has no {attribute}")
        found = getattr(found, name)
    if isinstance(found, nn.Module):
        raise InputError(f"model {reference!r}: {attribute} is a model; name a function or class that makes one")
    if not callable(found):
        raise InputError(f"model {reference!r}: {attribute} is {_kind(found)}; name a function or class")
    factory: Callable[..., Any] = found
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
def _check(reference: str, model: nn.Module, input_shape: tuple[int, int, int], num_classes: int) -> None:
    first = next(model.parameters(), None)
    if first is None:
        raise InputError(f"model {reference!r}: expected a model with parameters, got one without")
    gray = torch.full((2, *input_shape), 0.5, dtype=first.dtype, device=first.device)
    modes = {module: module.training for module in model.modules()}
    try:
        logits = model.eval()(gray)
    except (Exception, SystemExit) as error:
        raise InputError(f"model {reference!r}: a batch of shape {tuple(gray.shape)} {_raised(error)}") from error
    finally:
        for module, mode in modes.items():
            module.training = mode
    expected = (2, num_classes)
    if not isinstance(logits, torch.Tensor):
        raise InputError(f"model {reference!r}: expected logits of shape {expected}, got {_kind(logits)}")
    if logits.shape != expected:
        raise InputError(f"model {reference!r}: expected logits of shape {expected}, got {tuple(logits.shape)}")
    if not logits.is_floating_point() or not bool(logits.isfinite().all()):
        raise InputError(f"model {reference!r}: expected finite logits of two gray images, got {logits[0].tolist()}")


def _raised(error: BaseException) -> str:
    told = " ".join(str(error).split())
    return f"raised {type(error).__name__}: {told}" if told else f"raised {type(error).__name__}"


def _kind(value: object) -> str:
    return f"an object of type {type(value).__name__}"
