"""The recorded model, rebuilt, and what it is worth on a test set after a step that was never taken."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedsec.data import load, normalization
from fedsec.data.images import normalize
from fedsec.errors import InputError
from fedsec.models import build
from fedsec.models.user_models import load_model
from fedsec.plugins import registry
from fedsec.recording import RecordedRound, Recording
from fedsec.tasks import Classification, Regression, Task

__all__ = ["Judge", "ModelSource", "TestSet", "dataset_test", "given_test", "model_of", "with_state"]

ModelSource = nn.Module | str | None
"""A model, the name of one of fedsec's, or `package.module:factory`."""
TestSet = Callable[[nn.Module], Mapping[str, float]] | tuple[Any, Any]
"""Gives metrics of a model; or inputs as the model takes them, and their targets."""


def model_of(
    model: ModelSource,
    recording: Recording,
    *,
    options: Mapping[str, Any] | None = None,
    input_shape: Sequence[int] | None = None,
    num_classes: int | None = None,
) -> nn.Module | None:
    """The model whose parameters were recorded; None if nobody says which it is.

    Args:
        model: it, or where it comes from; by default what the recording says, where that is a name of fedsec's.
        recording: whose `about` may know the rest.
        options: of one of fedsec's models.
        input_shape: of one input.
        num_classes: number of outputs.

    Raises:
        InputError: it cannot be made, or its parameters are not the recorded ones.
    """
    about = recording.about
    if model is None:
        model = about.get("model")
        if isinstance(model, str) and ":" in model:
            raise InputError(
                f"model: the recording names {model!r}, whose code would run here; whoever trusts it says so: expected "
                f"model={model}"
            )
    if model is None:
        return None
    if isinstance(model, nn.Module):
        module = copy.deepcopy(model)
    else:
        shape = about.get("input_shape") if input_shape is None else input_shape
        classes = about.get("num_classes") if num_classes is None else num_classes
        if shape is None or classes is None:
            raise InputError(f"model {model!r}: expected input_shape and num_classes, which the recording does not say")
        if ":" in model:
            module = load_model(model, tuple(shape), int(classes))
        else:
            with torch.random.fork_rng(devices=[]):
                chosen = about.get("model_options", {}) if options is None else options
                module = build(model, tuple(shape), int(classes), **chosen)
    _check_parameters(module, recording)
    return module


def _check_parameters(model: nn.Module, recording: Recording) -> None:
    if not recording.named:
        raise InputError("model: the recorded rows have no names and shapes; expected `shapes` when they were recorded")
    if not recording.manifest.sent:
        raise InputError("model: what the server sent is not recorded; expected `sent` with each round")
    own = {name: tuple(row.shape) for name, row in model.state_dict().items()}
    for name, shape in recording.manifest.shapes().items():
        if name not in own:
            raise InputError(f"model: has no {name!r}, which was recorded; it has {', '.join(list(own)[:8])}, ...")
        if own[name] != shape:
            raise InputError(f"model: {name!r} has shape {own[name]}, and was recorded with {shape}")
    trained = {name for name, row in model.named_parameters() if row.requires_grad}
    if missing := sorted(trained - recording.manifest.sent.keys()):
        raise InputError(f"model: its {missing[0]!r} was not recorded; expected the model that was trained")


def with_state(model: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """The same model, holding these tensors; those that are not among them stay."""
    model.load_state_dict(dict(state), strict=False)
    return model


@dataclass(frozen=True, eq=False)
class Judge:
    """Measures the model that a step leads to.

    Running statistics and counters are those that the round led to, where these are known, and else those that were
    sent: no rule sees them.

    Args:
        model: to be filled; written into.
        test: what is measured.
    """

    model: nn.Module
    test: Callable[[nn.Module], Mapping[str, float]]

    def __call__(self, seen: RecordedRound, step: Float[Tensor, "parameters"]) -> dict[str, float]:
        """Metrics of the next model; those that are not finite are left out."""
        buffers = {name: row for name, row in seen.after.items() if name not in seen.shapes}
        with_state(self.model, {**seen.moved(step), **buffers}).eval()
        with torch.no_grad():
            measured = self.test(self.model)
        return {name: float(value) for name, value in measured.items() if isfinite(value)}


def given_test(test: TestSet) -> Callable[[nn.Module], Mapping[str, float]]:
    """A test set as a function of the model.

    Raises:
        InputError: it is neither a function nor inputs with their targets.
    """
    if callable(test):
        return test
    try:
        inputs, targets = (torch.as_tensor(part) for part in test)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"test: expected a function of the model, or inputs and their targets ({error})") from error
    if len(inputs) != len(targets) or not len(inputs):
        raise InputError(f"test: {len(inputs)} inputs do not go with {len(targets)} targets")
    whole = not targets.is_floating_point()
    task: Task = Classification() if whole else Regression()
    return lambda model: _measured(model, inputs, targets.long() if whole else targets, task)


def dataset_test(name: str, recording: Recording) -> Callable[[nn.Module], Mapping[str, float]]:
    """One of fedsec's test sets as a function of the model.

    Raises:
        InputError: unknown, or not there.
    """
    registry.entry("dataset", name)
    dataset = load(name)
    task: Task = registry.load("task", dataset.task).of_data(dataset.num_classes)
    constants = normalization(recording.about.get("normalization", "unit"))
    inputs = normalize(dataset.test.inputs, constants)
    return lambda model: _measured(model, inputs, dataset.test.targets, task)


def _measured(model: nn.Module, inputs: Tensor, targets: Tensor, task: Task) -> Mapping[str, float]:
    like = next(model.parameters())
    parts = inputs.split(500)  # type: ignore[no-untyped-call]
    try:
        outputs = torch.cat([model(part.to(like)) for part in parts]).float().cpu()
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"test: the model does not take inputs of shape {tuple(inputs.shape)} ({error})") from error
    try:
        return task.measure(outputs, targets)
    except (RuntimeError, IndexError, ValueError) as error:
        raise InputError(
            f"test: outputs of shape {tuple(outputs.shape)} do not go with the targets ({error})"
        ) from error
