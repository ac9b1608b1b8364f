"""Model replacement: what is sent, and that one shot is enough."""

from typing import Any

import pytest
import torch

from fedsec.attacks import Backdoor, ModelReplacement
from fedsec.errors import InputError
from fedsec.federation.threat import AttackRounds
from fedsec.threat import AttackerView

OPTIONS: dict[str, Any] = {"target": 2, "size": 2, "position": "top_right", "poisoned_fraction": 0.3}
LATE = AttackRounds(since=8)


def view(own: list[list[float]], leverage: tuple[float, ...] = ()) -> AttackerView:
    rows = torch.tensor(own)
    return AttackerView(rows, rows[:0], rows[0], 10, len(rows), 1, torch.Generator(), leverage=leverage)


def test_the_weighted_mean_becomes_the_attackers_model() -> None:
    own = [[1.0, -2.0], [3.0, 4.0]]
    seen = view(own, (0.1, 0.3))
    sent = ModelReplacement().craft(seen)
    assert sent.tolist() == [[2.5, -5.0], [7.5, 10.0]]
    # The others send nothing: the step is the attackers' own weighted mean.
    step = 0.1 * sent[0] + 0.3 * sent[1]
    torch.testing.assert_close(step, (0.1 * seen.own[0] + 0.3 * seen.own[1]) / 0.4)
    assert seen.report["gamma"] == pytest.approx(2.5)
    assert ModelReplacement().craft(view(own)).tolist() == [[5.0, -10.0], [15.0, 20.0]]
    assert ModelReplacement(gamma=2.0).craft(view(own)).tolist() == [[2.0, -4.0], [6.0, 8.0]]


def test_train_and_scale() -> None:
    sent = ModelReplacement(gamma=10.0, max_norm=5.0).craft(view([[3.0, 4.0], [0.1, 0.0]]))
    torch.testing.assert_close(sent, torch.tensor([[3.0, 4.0], [1.0, 0.0]]))


def final(federation: Any) -> tuple[float, float]:
    *_, last = federation.run()
    return last.metrics["attack_success_rate"] or 0.0, last.metrics["accuracy"] or 0.0


def test_one_shot_of_one_attacker_is_enough(backdoored: Any) -> None:
    rate, accuracy = final(backdoored(ModelReplacement(**OPTIONS), {0}, schedule=LATE))
    assert rate > 0.9
    assert accuracy > 0.9
    assert final(backdoored(Backdoor(**OPTIONS), {0}, schedule=LATE))[0] < 0.6


def test_stealth_keeps_the_model_near_and_is_trained_for(backdoored: Any) -> None:
    def rows(attack: ModelReplacement) -> tuple[torch.Tensor, Any]:
        received: list[torch.Tensor] = []
        run = backdoored(attack, {0}, rounds=1)
        run.observers.append(lambda number, clients, updates: received.append(updates.clone()))
        (result,) = run.run()
        return received[0][0], result

    free, result = rows(ModelReplacement(**OPTIONS))
    assert result.attacker_flops is None
    near, result = rows(ModelReplacement(**OPTIONS, stealth=1.0))
    assert near.norm() < 0.8 * free.norm()
    assert result.attacker_flops == pytest.approx(result.cost.flops)
    longer, result = rows(ModelReplacement(**OPTIONS, epochs=6))
    assert longer.norm() > free.norm()
    assert result.attacker_flops == pytest.approx(2 * result.cost.flops)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": 0.0}, "ModelReplacement: gamma must be positive"),
        ({"stealth": -1.0}, "stealth must be finite and not negative"),
        ({"max_norm": 0.0}, "max_norm must be positive"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"lr": float("inf")}, "lr must be positive"),
        ({"pattern": "blended", "size": 2}, "size go with pattern pixels"),
    ],
)
def test_malformed(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ModelReplacement(**options)
