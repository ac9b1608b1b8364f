"""The checks of `fedsec.testing` for clients that look at a received model before they train."""

from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import nn

from fedsec.defense import ModelInspector
from fedsec.errors import InputError
from fedsec.testing.checks import devices, expect, expect_error, global_randomness_untouched

__all__ = ["check_model_inspector"]


def check_model_inspector(inspector: ModelInspector) -> None:
    """Put an inspector of received models through its contract.

    Args:
        inspector: the defense.

    Raises:
        AssertionError: the defense breaks the contract.
    """
    expect(inspector.examples >= 0, "`examples` must be a number of examples, 0 for none")
    for device in devices():
        for targets in (torch.arange(12) % 3, torch.rand(12)):
            _check_model(inspector, device, targets.to(device))
    model, images = _model(3), torch.rand(4, 1, 4, 4)
    no_model: Any = "model"
    for wrong in (
        partial(inspector.inspect, no_model, images, torch.arange(4)),
        partial(inspector.inspect, model, images),
        partial(inspector.inspect, model, images, torch.arange(4), expected=no_model),
        partial(inspector.inspect, model, images, torch.arange(4), previous=no_model),
        partial(inspector.inspect, model, images, torch.arange(3)),
        partial(inspector.inspect, model, images, torch.arange(4) % 3, usual_moves=[-1.0]),
    ):
        expect_error(InputError, wrong, "malformed arguments")
    if inspector.examples:
        expect_error(InputError, partial(inspector.inspect, model), "no examples, and checks that look at some")
        small = torch.rand(12, 1, 3, 3)
        expect_error(InputError, partial(inspector.inspect, model, small, torch.arange(12) % 3), "images too small")


def _check_model(inspector: ModelInspector, device: str, targets: torch.Tensor) -> None:
    model = _model(1 if targets.is_floating_point() else 3).to(device).eval()
    examples = torch.rand(12, 1, 4, 4, device=device)
    before, mode = deepcopy(model.state_dict()), [layer.training for layer in model.modules()]
    expected = _model(1 if targets.is_floating_point() else 3)
    given: dict[str, Any] = {"expected": expected, "previous": model, "usual_moves": [1.0]}
    with global_randomness_untouched():
        inspection = inspector.inspect(model, examples, targets, **given)
    after = model.state_dict()
    expect(all(torch.equal(after[name], tensor) for name, tensor in before.items()), "the model must not change")
    expect(all(weight.grad is None for weight in model.parameters()), "no gradient must be left behind")
    expect([layer.training for layer in model.modules()] == mode, "the model's mode must not change")
    expect(inspection == inspector.inspect(model, examples, targets, **given), "equal models must get equal verdicts")
    expect(inspection.verdict == ("refuse" if inspection.reasons else "train"), "a refusal has reasons")
    expect(all(isinstance(value, float) for value in inspection.statistics.values()), "statistics are numbers")


def _model(outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(64, outputs),
    )
