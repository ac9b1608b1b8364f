"""Schedules against PyTorch's, closed forms, and federations whose rates are changed by hand."""

import math
from typing import Any

import pytest
import torch

from fedsec.engine import LocalTraining
from fedsec.engine.optimizers import RateSchedule
from fedsec.errors import InputError


def pytorchs(scheduler: Any, rounds: int, **options: Any) -> list[float]:
    """The rates of one of PyTorch's, from 1."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule, rates = scheduler(optimizer, **options), []
    for _ in range(rounds):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return rates


def test_cosine_and_step_are_pytorchs() -> None:
    schedulers = torch.optim.lr_scheduler
    cosine = [RateSchedule("cosine", rounds=9).factor(number) for number in range(1, 10)]
    assert cosine == pytest.approx(pytorchs(schedulers.CosineAnnealingLR, 9, T_max=9))
    step = [RateSchedule("step", every=4, gamma=0.3).factor(number) for number in range(1, 10)]
    assert step == pytest.approx(pytorchs(schedulers.StepLR, 9, step_size=4, gamma=0.3))


def test_a_warm_up_is_linear_and_reaches_the_rate() -> None:
    assert [RateSchedule(warmup=4).factor(number) for number in (1, 2, 3, 4, 5, 99)] == [0.25, 0.5, 0.75, 1, 1, 1]
    both = RateSchedule("cosine", warmup=2, rounds=6, floor=0.1)
    expected = [0.5, 1.0, *(0.1 + 0.45 * (1 + math.cos(math.pi * part / 4)) for part in range(4)), 0.1, 0.1]
    assert [both.factor(number) for number in range(1, 9)] == pytest.approx(expected)
    assert [RateSchedule("step", warmup=2, every=2).factor(number) for number in range(1, 6)] == pytest.approx(
        [0.5, 1.0, 0.1, 0.1, 0.01]
    )


def test_a_round_has_its_rate_and_no_schedule_any_more() -> None:
    local = LocalTraining(steps=1, batch_size=1, lr=0.8, schedule=RateSchedule(warmup=4))
    assert local.in_round(1) == LocalTraining(steps=1, batch_size=1, lr=0.2)
    plain = LocalTraining(steps=1, batch_size=1)
    assert plain.in_round(3) is plain


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decay": "linear"}, "decay must be none, cosine or step, got 'linear'"),
        ({"warmup": -1}, "warmup must be 0 or more rounds, got -1"),
        ({"decay": "cosine"}, "cosine needs rounds of at least 1, got None"),
        ({"decay": "step", "every": 0}, "step needs every of at least 1, got 0"),
        ({"rounds": 3}, "rounds belongs to cosine; expected none with none, got 3"),
        ({"decay": "cosine", "rounds": 3, "warmup": 3}, "a warm-up of 3 rounds leaves nothing of 3"),
        ({"decay": "cosine", "rounds": 3, "floor": 2.0}, r"floor must lie in \[0, 1\]"),
    ],
)
def test_bad_settings_say_what_was_expected(options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        RateSchedule(**options)


def test_nothing_is_left_behind_a_cosine_that_ends_at_zero() -> None:
    assert RateSchedule("cosine", rounds=3).factor(3) > 0
    with pytest.raises(InputError, match="the cosine ends with round 3, and this is round 4; expected as many rounds"):
        RateSchedule("cosine", rounds=3).factor(4)
