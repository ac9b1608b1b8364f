"""Neurotoxin: which coordinates stay as they are, by a slow count, and that nothing else changes."""

from typing import Any

import pytest
import torch
from torch import Tensor

from fedsec.attacks import Backdoor, Neurotoxin
from fedsec.errors import InputError

OPTIONS: dict[str, Any] = {"target": 2, "size": 2, "position": "top_right", "poisoned_fraction": 0.3}


def rounds(federation: Any) -> tuple[list[Tensor], list[Tensor]]:
    """What was received in each round, and the model before it."""
    received: list[Tensor] = []
    models: list[Tensor] = []

    def observe(number: int, clients: Any, updates: Tensor) -> None:
        received.append(updates.clone())
        models.append(federation.parameters.clone())

    federation.observers.append(observe)
    list(federation.run())
    return received, models


def test_the_largest_coordinates_of_the_last_change_stay(backdoored: Any) -> None:
    received, models = rounds(backdoored(Neurotoxin(**OPTIONS, avoided_fraction=0.25), {0, 1}, rounds=3))
    for number in (1, 2):
        change = (models[number] - models[number - 1]).tolist()
        ranked = sorted(range(len(change)), key=lambda place: -abs(change[place]))
        count = len(change) // 4
        for row in received[number][:2]:
            still = {place for place, value in enumerate(row.tolist()) if value == 0}
            # The model's change is the aggregate but for rounding: next to the limit they may differ.
            assert set(ranked[: count - 2]) <= still
            # Weights of pixels that are always dark do not move anyway.
            assert not {place for place in ranked[count + 2 :] if abs(change[place]) > 1e-6} & still
    # There is no last change in the first round: the attacker's own gradient stands in.
    assert (received[0][:2] == 0).sum(1).min() >= count


def test_it_is_the_plain_backdoor_where_nothing_is_avoided(backdoored: Any) -> None:
    plain, _ = rounds(backdoored(Backdoor(**OPTIONS), {0, 1}, rounds=2))
    nothing, _ = rounds(backdoored(Neurotoxin(**OPTIONS, avoided_fraction=0.0), {0, 1}, rounds=2))
    for one, other in zip(plain, nothing, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_it_works_and_is_bounded(backdoored: Any) -> None:
    *_, last = backdoored(Neurotoxin(**OPTIONS), {0, 1}).run()
    assert last.metrics["attack_success_rate"] > 0.8
    assert last.metrics["accuracy"] > 0.9
    received, _ = rounds(backdoored(Neurotoxin(**OPTIONS, max_norm=0.01), {0, 1}, rounds=2))
    assert all(float(rows[:2].norm(dim=1).max()) <= 0.01 * (1 + 1e-6) for rows in received)


def test_a_run_goes_on_as_if_it_had_not_stopped(backdoored: Any) -> None:
    whole = backdoored(Neurotoxin(**OPTIONS), {0, 1}, rounds=4)
    list(whole.run())
    first, second = (backdoored(Neurotoxin(**OPTIONS), {0, 1}, rounds=4) for _ in range(2))
    first.play()
    first.play()
    second.restore(first.state(), 2)
    list(second.run())
    assert torch.equal(whole.parameters, second.parameters)


@pytest.mark.parametrize(
    "options", [{"avoided_fraction": 1.0}, {"avoided_fraction": -0.1}, {"max_norm": -1.0}, {"epochs": 0}]
)
def test_malformed(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="Neurotoxin: "):
        Neurotoxin(**options)
