"""Alternating minimization: the sequence of its steps on losses whose minima are known, and that it works."""

from typing import Any

import pytest
import torch
from torch import Tensor

from fedsec.attacks import AlternatingMinimization
from fedsec.errors import InputError
from fedsec.threat import AttackerMachine, AttackerView


class Quadratic(AttackerMachine):
    """One step of gradient descent on half the squared distance: to 1 for marked examples, to 0 for honest ones."""

    def __init__(self) -> None:
        self.inputs, self.targets = torch.zeros(10, 1, 4, 4), torch.zeros(10, dtype=torch.int64)
        self.num_classes, self.parameters, self.examples = 3, torch.tensor([4.0]), 0
        self.steps: list[tuple[int, float]] = []

    def train(self, inputs: Any = None, targets: Any = None, **options: Any) -> Tensor:
        goal = 0.0
        if inputs is not None:
            assert (targets == 2).all()
            assert (inputs[..., -3:, -3:] == 1).all()
            goal = 1.0
        lr, start = options["lr"], options["start"]
        self.steps.append((options["epochs"], goal))
        pull = options.get("pull", 0.0)
        return -lr * ((start - goal) + pull * (start - options.get("center", start)))

    def gradient(self, inputs: Any = None, targets: Any = None, *, at: Any = None) -> Tensor:
        raise NotImplementedError

    def input_gradient(self, inputs: Tensor, targets: Tensor, *, at: Any = None) -> Tensor:
        raise NotImplementedError


@pytest.mark.parametrize("last", [None, torch.tensor([0.5])])
def test_by_hand(last: Tensor | None) -> None:
    machine = Quadratic()
    options = {"boost": 3.0, "rho": 0.4, "lr": 0.1, "malicious_epochs": 2, "stealth_epochs": 5, "alternations": 3}
    own = torch.zeros(1, 1)
    view = AttackerView(
        own, own, machine.parameters, 4, 1, 2, torch.Generator(), last_aggregate=last, machines=(machine,)
    )
    sent = AlternatingMinimization(target=2, **options).craft(view)  # type: ignore[arg-type]
    weights, honest = 4.0, 4.0 + (0.0 if last is None else 0.5)
    for _ in range(3):
        weights += 3.0 * -0.1 * (weights - 1)
        weights += -0.1 * (weights + 0.4 * (weights - honest))
    assert float(sent) == pytest.approx(weights - 4, rel=1e-5)
    assert machine.steps == [(2, 1.0), (5, 0.0)] * 3


def test_it_works_while_clean_accuracy_stays(backdoored: Any) -> None:
    options: dict[str, Any] = {"target": 2, "size": 2, "position": "top_right", "poisoned_fraction": 0.3}
    *_, last = backdoored(AlternatingMinimization(**options, boost=2.0), {0, 1}).run()
    assert last.metrics["attack_success_rate"] > 0.8
    assert last.metrics["accuracy"] > 0.9
    assert last.attacker_flops > last.cost.flops / 2


@pytest.mark.parametrize(
    "options",
    [{"alternations": 0}, {"boost": 0.0}, {"rho": -1.0}, {"malicious_epochs": 0}, {"stealth_epochs": 0}, {"lr": 0.0}],
)
def test_malformed(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="AlternatingMinimization: "):
        AlternatingMinimization(**options)
