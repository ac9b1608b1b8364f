"""A3FL: its trigger moves where it works better, stays within its square, and is what success is measured with."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fedsec.attacks import A3FL
from fedsec.errors import InputError

OPTIONS: dict[str, Any] = {
    "target": 2,
    "size": 2,
    "position": "top_right",
    "poisoned_fraction": 0.3,
    "trigger_steps": 4,
    "trigger_lr": 0.04,
    "trigger_batch": 20,
}


def loss(federation: Any, attack: A3FL) -> float:
    """Of the target class, on stamped test images."""
    images = attack.trigger((1, 4, 12)).stamp(federation.evaluator.images.float() / 255)
    goal = torch.full((len(images),), 2)
    return float(F.cross_entropy(federation.module(images / 0.25), goal).detach())


@pytest.mark.parametrize("unlearning", [0.0, 1.0])
def test_the_trigger_works_better_than_before(unlearning: float, backdoored: Any) -> None:
    attack = A3FL(**OPTIONS, unlearning=unlearning)
    federation = backdoored(attack, {0, 1}, rounds=4)
    federation.play()
    before, after = loss(federation, attack), list[float]()
    # The model that was sent is still there while the server looks at what it received.
    federation.observers.append(lambda *_: after.append(loss(federation, attack)))
    federation.play()
    assert after[0] < before
    assert attack.pattern is not None
    assert attack.pattern.min() >= 0
    assert attack.pattern.max() <= 1
    stamped = attack.trigger((1, 4, 12)).stamp(torch.full((1, 1, 4, 12), 0.3))
    assert (stamped[0, 0, :2, -2:] != 0.3).any()
    stamped[..., :2, -2:] = 0.3
    assert (stamped == 0.3).all()


def test_success_is_measured_with_the_trigger_of_the_round(backdoored: Any) -> None:
    attack = A3FL(**OPTIONS)
    federation = backdoored(attack, {0, 1}, evaluate_every=1)
    stamps: list[Tensor] = []
    rates = []
    for result in federation.run():
        (probe,) = federation.evaluator.probes
        stamps.append(probe.inputs[0, 0, :2, -2:].clone())
        rates.append(result.metrics["attack_success_rate"])
        assert attack.pattern is not None
        assert torch.equal(stamps[-1], (attack.pattern[0, :2, -2:] * 255).round().to(torch.uint8))
    assert not torch.equal(stamps[0], stamps[3])
    assert rates[-1] > 0.8
    assert result.metrics["accuracy"] > 0.9
    assert result.attacker_flops > result.cost.flops


def test_a_run_goes_on_as_if_it_had_not_stopped(backdoored: Any) -> None:
    whole = backdoored(A3FL(**OPTIONS), {0, 1}, rounds=4)
    *_, last = whole.run()
    first, second = (backdoored(A3FL(**OPTIONS), {0, 1}, rounds=4) for _ in range(2))
    first.play()
    first.play()
    second.restore(first.state(), 2)
    *_, resumed = second.run()
    assert torch.equal(whole.parameters, second.parameters)
    assert resumed.metrics == last.metrics


@pytest.mark.parametrize(
    "options",
    [
        {"size": 0},
        {"position": "middle"},
        {"trigger_steps": 0},
        {"trigger_lr": 0.0},
        {"trigger_batch": 0},
        {"unlearning": -1.0},
        {"unlearning_epochs": 0},
        {"unlearn_every": 0},
        {"epochs": 0},
    ],
)
def test_malformed(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="A3FL: "):
        A3FL(**options)
