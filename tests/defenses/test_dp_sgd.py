"""DP-SGD's settings: which noise, which delta, which budget; and the mean for foreign training loops."""

from typing import Any

import pytest
import torch
from torch import Tensor

from fedsec.defense import LocalDefense
from fedsec.defenses import DpSgd
from fedsec.errors import InputError
from fedsec.privacy import PrivateTraining, Spending, calibrate, epsilon


def test_noise_alone_has_no_budget() -> None:
    defense = DpSgd(1.3, max_grad_norm=0.5, grad_sample_mode="ghost")
    assert defense.private(100, 10, 1000) == PrivateTraining(1.3, 0.5, "ghost")
    assert defense.budget is None


def test_a_target_alone_sets_the_noise() -> None:
    defense = DpSgd(target_epsilon=2.0, delta=1e-4)
    found = defense.private(100, 10, 300).noise_of(0)
    assert found == calibrate(2.0, 1e-4, 0.1, 300)
    assert epsilon([Spending(found, 0.1, 300)], 1e-4).value <= 2.0
    assert defense.budget is None
    assert defense.private(50, 10, 300).noise_of(0) > found


def test_noise_and_target_make_a_budget() -> None:
    defense = DpSgd(1.3, target_epsilon=2.0)
    assert defense.private(100, 10, 300).noise_of(0) == 1.3
    assert (defense.budget, defense.when_spent) == (2.0, "client")


def test_delta_follows_the_largest_client() -> None:
    assert DpSgd(1.0).delta_of(1000) == pytest.approx(1000**-1.1)
    assert DpSgd(1.0, delta=1e-5).delta_of(1000) == 1e-5
    small = DpSgd(target_epsilon=2.0)
    strict = small.private(20, 20, 40, largest=2000).noise_of(0)
    assert strict == calibrate(2.0, 2000**-1.1, 1.0, 40) > small.private(20, 20, 40).noise_of(0)
    assert small.ledger(4, 2000).delta == 2000**-1.1


def test_the_mean_clips_adds_noise_and_divides_by_the_expected_batch() -> None:
    rows = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    found = DpSgd(0.0, max_grad_norm=1.0).noisy_mean(rows, 2.0, torch.Generator())
    torch.testing.assert_close(found, torch.tensor([0.9, 1.2]) / 2)
    zeros = torch.zeros(3, 20_000)
    noise = DpSgd(2.0, max_grad_norm=0.5).noisy_mean(zeros, 4.0, torch.Generator().manual_seed(0))
    assert float(noise.std()) == pytest.approx(2.0 * 0.5 / 4, rel=0.02)
    with pytest.raises(InputError, match="expected the noise_multiplier that `private` gave"):
        DpSgd(target_epsilon=1.0).noisy_mean(rows, 2.0, torch.Generator())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "needs noise_multiplier, target_epsilon, or both"),
        ({"noise_multiplier": -1.0}, "noise_multiplier"),
        ({"noise_multiplier": 0.0, "target_epsilon": 1.0}, "without noise"),
        ({"target_epsilon": 0.0}, "target_epsilon must be positive"),
        ({"noise_multiplier": 1.0, "max_grad_norm": 0.0}, "max_grad_norm"),
        ({"noise_multiplier": 1.0, "delta": 1.0}, "delta must lie"),
        ({"noise_multiplier": 1.0, "accountant": "moments"}, "accountant must be"),
        ({"noise_multiplier": 1.0, "when_spent": "never"}, "when_spent must be"),
        ({"noise_multiplier": 1.0, "grad_sample_mode": "slow"}, "grad_sample_mode must be"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        DpSgd(**options)


class Careless(LocalDefense):
    """Breaks its contract."""

    def prepare(self, sample_rate: float, steps: int, delta: float) -> PrivateTraining:
        return PrivateTraining((1.0, 2.0))

    def delta_of(self, largest: int) -> float:
        return 1e-5

    def perturb(self, per_example: Tensor, generator: torch.Generator, noise_multiplier: float | None) -> Tensor:
        return per_example.zero_()


def test_the_contract_is_kept_for_subclasses() -> None:
    with pytest.raises(InputError, match="one noise multiplier"):
        Careless().private(10, 2, 3)
    with pytest.raises(InputError, match="changed `per_example` in place"):
        Careless().noisy_mean(torch.ones(2, 3), 1.0, torch.Generator())
    with pytest.raises(TypeError, match="may not define private"):
        type("Cheating", (DpSgd,), {"private": lambda self: None})
