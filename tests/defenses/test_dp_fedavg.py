"""DpFedAvg against its papers: the fixed denominator, the noise's size, the bound that follows a quantile, epsilon."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from fedsec.defenses import DpFedAvg
from fedsec.errors import InputError
from fedsec.privacy import Spending, epsilon
from fedsec.testing import check_private_aggregator


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def prepared(clients: int = 10, rate: float = 1.0, rounds: int = 5, **options: Any) -> DpFedAvg:
    rule = DpFedAvg(**options)
    rule.prepare(clients, rate, rounds)
    return rule


# Norms 5 and 0.5.
ROWS = torch.tensor([[3.0, 4.0], [0.3, -0.4]])


def test_long_updates_are_shortened_and_the_sum_is_over_the_expected_number() -> None:
    rule = prepared(clients=8, rate=0.5, noise_multiplier=0.0, clip_norm=1.0)
    # (3, 4) / 5 + (0.3, -0.4), over 4 expected clients though there are 2.
    torch.testing.assert_close(rule(ROWS, generator=seeded()), torch.tensor([0.9, 0.4]) / 4)
    found = rule.aggregate(ROWS, generator=seeded())
    torch.testing.assert_close(found.influence, torch.tensor([0.2, 1.0]) / 1.2, check_dtype=False)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_does_not_stretch_the_bound(dtype: torch.dtype) -> None:
    """Rounding the vector moves entries up and down; rounding factors makes all of them longer."""
    rule = prepared(clients=1, noise_multiplier=0.0, clip_norm=1.0)
    rows = torch.randn(20, 4000, generator=seeded()).to(dtype)
    lengths = [
        float(rule(row[None] * (1 + place / 7), generator=seeded()).double().norm()) for place, row in enumerate(rows)
    ]
    assert max(lengths) < 1.001
    assert min(lengths) > 0.999


def test_without_a_run_the_round_s_own_number_counts_and_lost_rows_with_it() -> None:
    rule = DpFedAvg(noise_multiplier=0.0, clip_norm=1.0)
    torch.testing.assert_close(rule(ROWS, generator=seeded()), torch.tensor([0.9, 0.4]) / 2)
    broken = torch.cat([ROWS, torch.tensor([[torch.nan, 1.0]])])
    torch.testing.assert_close(rule(broken, generator=seeded()), torch.tensor([0.9, 0.4]) / 3)


def test_weights_make_no_difference() -> None:
    rule = prepared(noise_multiplier=1.0)
    assert not rule.uses_weights
    one, other = (rule(ROWS, torch.tensor(weights), generator=seeded()) for weights in ([1.0, 1.0], [9.0, 1.0]))
    assert torch.equal(one, other)


@pytest.mark.parametrize("clip_norm", [0.5, 2.0])
def test_the_noise_has_the_stated_deviation_and_no_mean(clip_norm: float) -> None:
    """z S / m in each coordinate, whatever the number of rows."""
    rule, size = prepared(clients=20, rate=0.25, noise_multiplier=1.5, clip_norm=clip_norm), 40_000
    expected = 1.5 * clip_norm / 5
    for count in (1, 3, 12):
        drawn = rule(torch.zeros(count, size), generator=seeded(count))
        assert float(drawn.std()) == pytest.approx(expected, rel=0.02)
        assert abs(float(drawn.mean())) < 4 * expected / size**0.5
        assert float((drawn.abs() < expected).float().mean()) == pytest.approx(0.683, abs=0.01)


def test_nobody_is_noise_alone() -> None:
    rule, like = prepared(clients=20, rate=0.25, noise_multiplier=1.5), torch.zeros(40_000)
    drawn = rule.nobody(like, seeded())
    assert float(drawn.std()) == pytest.approx(1.5 / 5, rel=0.02)
    # What a client adds to it is its bounded update over the expected number, and the noise is the same.
    row = torch.zeros(1, 40_000)
    row[0, 7] = 100.0
    torch.testing.assert_close(rule(row, generator=seeded()) - drawn, row[0] / 100 / 5, rtol=0, atol=1e-6)
    with pytest.raises(InputError, match="how many were expected; call prepare"):
        DpFedAvg(noise_multiplier=1.0).nobody(like, seeded())


# The bound that follows a quantile


def test_a_step_of_the_bound_by_hand() -> None:
    """S <- S exp(-eta (b - gamma)); without noise b is the share of updates that were not clipped."""
    rule = prepared(clients=4, noise_multiplier=0.0, clip_norm=2.0, quantile=0.6, clip_lr=0.3)
    rows = torch.diag(torch.tensor([1.0, 2.0, 3.0, 4.0]))  # of norm 2 is not clipped
    vector = rule(rows, generator=seeded())
    torch.testing.assert_close(vector, torch.tensor([1.0, 2.0, 2.0, 2.0]) / 4)  # by the bound from before
    assert rule.bound == pytest.approx(2.0 * math.exp(-0.3 * (2 / 4 - 0.6)), rel=1e-12)


def test_clients_that_stay_away_count_as_half_clipped() -> None:
    """Counted from one half over the expected number, absence and presence differ by one half at most."""
    rule = prepared(clients=20, rate=0.5, noise_multiplier=0.0, clip_norm=1.0, quantile=0.5, clip_lr=1.0)
    rule.nobody(torch.zeros(2), seeded())
    assert rule.bound == 1.0
    rule(ROWS[1:], generator=seeded())
    assert rule.bound == pytest.approx(math.exp(-0.5 / 10), rel=1e-12)


@pytest.mark.parametrize("quantile", [0.2, 0.8])
@pytest.mark.parametrize(("start", "noise"), [(30.0, 0.0), (0.02, 0.5)])
def test_the_bound_converges_to_the_quantile(quantile: float, start: float, noise: float) -> None:
    rule = prepared(clients=100, noise_multiplier=noise, clip_norm=start, quantile=quantile)
    rows = torch.zeros(100, 2)
    rows[:, 0] = torch.linspace(0.01, 1.0, 100)
    generator, bounds = seeded(), []
    for _ in range(250):
        rule(rows, generator=generator)
        bounds.append(rule.bound)
    assert sum(bounds[-100:]) / 100 == pytest.approx(quantile, abs=0.03)


def test_without_a_quantile_the_bound_stays() -> None:
    rule = prepared(noise_multiplier=1.0, clip_norm=0.7)
    rule(ROWS, generator=seeded())
    assert rule.bound == 0.7
    assert rule.state()["clip_norm"].tolist() == [0.7]


def measured(rule: DpFedAvg) -> float:
    """The deviation of a round's noise over what one client may add."""
    expected, bound = rule.expected_clients, rule.bound
    assert expected is not None
    return float(rule(torch.zeros(2, 40_000), generator=seeded()).std()) * expected / bound


@pytest.mark.parametrize("count_noise", [None, 3.0])
def test_the_count_is_paid_for_by_more_noise_on_the_updates(count_noise: float | None) -> None:
    """z_u^-2 + (2 s)^-2 = z^-2: together the two cost what z alone does."""
    rule = prepared(clients=100, noise_multiplier=2.0, quantile=0.5, count_noise=count_noise)
    s = 100 / 20 if count_noise is None else count_noise
    assert measured(rule) == pytest.approx((2.0**-2 - (2 * s) ** -2) ** -0.5, rel=0.02)
    assert measured(rule) > 2.03
    few = prepared(clients=10, noise_multiplier=2.0, quantile=0.5)  # a twentieth of ten would take all
    assert measured(few) == pytest.approx((2.0**-2 - (2 * 2.0) ** -2) ** -0.5, rel=0.02)
    assert rule.round_cost == few.round_cost == Spending(2.0, 1.0, 1)


def test_the_count_s_noise_has_the_stated_deviation() -> None:
    rule = prepared(clients=10, noise_multiplier=1.0, quantile=0.5, clip_lr=1.0, count_noise=3.0)
    generator, steps = seeded(), []
    for _ in range(4000):
        rule.restore({"clip_norm": torch.tensor([1.0])})
        rule.nobody(torch.zeros(1), generator)
        steps.append(-10 * math.log(rule.bound))
    found = torch.tensor(steps)
    assert float(found.std()) == pytest.approx(3.0, rel=0.05)
    assert abs(float(found.mean())) < 4 * 3.0 / 4000**0.5


# Epsilon


@pytest.mark.parametrize("accountant", ["rdp", "gdp"])
def test_noise_is_calibrated_to_the_run(accountant: Any) -> None:
    rule = prepared(clients=100, rate=0.1, rounds=50, target_epsilon=3.0, accountant=accountant)
    cost, delta = rule.round_cost, rule.delta_of(100)
    assert cost is not None
    assert (cost.sample_rate, cost.steps, delta) == (0.1, 1, 100**-1.1)
    noise = cost.noise_multiplier
    assert epsilon([cost] * 50, delta, accountant).value <= 3.0
    assert epsilon([Spending(0.97 * noise, 0.1, 50)], delta, accountant).value > 3.0
    assert measured(rule) == pytest.approx(noise, rel=0.02)


def test_a_round_costs_a_gaussian_step_of_the_sampling_rate() -> None:
    """With a quantile too: that is what its noises are split for."""
    for quantile in (None, 0.5):
        rule = prepared(clients=1000, rate=0.02, rounds=40, noise_multiplier=1.0, quantile=quantile)
        assert rule.round_cost == Spending(1.0, 0.02, 1)
    # Opacus's RDPAccountant says so of 100 such rounds, at delta 1e-5.
    assert epsilon([Spending(1.0, 0.02, 1)] * 100, 1e-5).value == pytest.approx(1.8434718508, rel=1e-9)


def test_delta_is_less_than_one_over_the_number_of_clients() -> None:
    rule = DpFedAvg(noise_multiplier=1.0)
    assert rule.delta_of(1000) == 1000**-1.1 < 1 / 1000
    assert rule.delta_of(1) == 0.5
    assert DpFedAvg(noise_multiplier=1.0, delta=1e-6).delta_of(1000) == 1e-6


class Unbounded(DpFedAvg):
    """Does not clip."""

    def _factors(self, norms: Tensor) -> Tensor:
        return torch.ones_like(norms)


class NearlyBounded(DpFedAvg):
    """Clips only what is a thousand times too long."""

    def _factors(self, norms: Tensor) -> Tensor:
        return torch.where(norms > 1000 * self.bound, self.bound / norms, 1.0)


class Silent(DpFedAvg):
    """Charges for noise that it does not add."""

    def _noises(self, expected: float) -> tuple[float, float]:
        noise, count = super()._noises(expected)
        return 1e-6 * noise, count


@pytest.mark.parametrize("quantile", [None, 0.5])
@pytest.mark.parametrize(
    ("kind", "message"),
    [(Unbounded, "times as long may move"), (NearlyBounded, "may move the release"), (Silent, "is charged")],
)
def test_rules_that_do_not_hide_a_client_fail_their_check(kind: type[DpFedAvg], message: str, quantile: Any) -> None:
    with pytest.raises(AssertionError, match=message):
        check_private_aggregator(kind(noise_multiplier=1.0, quantile=quantile))


# Refusals

WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "needs noise_multiplier or target_epsilon, and not both"),
    ({"noise_multiplier": 1.0, "target_epsilon": 1.0}, "and not both"),
    ({"noise_multiplier": -1.0}, "noise_multiplier must be finite and not negative, not -1.0"),
    ({"noise_multiplier": math.inf}, "noise_multiplier must be finite"),
    ({"noise_multiplier": 1.0, "count_noise": math.nan}, "count_noise must be finite"),
    ({"target_epsilon": 0.0}, "target_epsilon must be positive and finite, not 0.0"),
    ({"noise_multiplier": 1.0, "clip_norm": 0.0}, "clip_norm must be positive"),
    ({"noise_multiplier": 1.0, "clip_lr": math.inf}, "clip_lr must be positive"),
    ({"noise_multiplier": 1.0, "quantile": 1.0}, r"quantile must lie in \(0, 1\), not 1.0"),
    ({"noise_multiplier": 1.0, "delta": 0.0}, r"delta must lie in \(0, 1\), got 0.0"),
    ({"noise_multiplier": 1.0, "accountant": "moments"}, "accountant must be one of rdp, prv, gdp, got 'moments'"),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DpFedAvg(**options)


def test_a_count_that_would_spend_more_than_all_is_refused_before_the_run() -> None:
    with pytest.raises(InputError, match=r"count_noise 0\.5 would spend more than noise_multiplier 1 allows.* 0\.5"):
        prepared(noise_multiplier=1.0, quantile=0.5, count_noise=0.5)
    prepared(noise_multiplier=1.0, quantile=0.5, count_noise=0.51)
    prepared(noise_multiplier=1.0, count_noise=0.5)  # nothing is counted


def test_a_target_needs_a_run_and_noise_that_reaches_it() -> None:
    with pytest.raises(InputError, match="target_epsilon needs to know the run; call prepare"):
        DpFedAvg(target_epsilon=1.0)(ROWS, generator=seeded())
    with pytest.raises(InputError, match="no noise_multiplier up to 10,000"):
        prepared(clients=10, rounds=10**6, target_epsilon=1e-4, delta=1e-12)


def test_a_second_run_begins_like_the_first() -> None:
    """Options are what they were; what a run calibrated and adapted is its own."""
    twice = DpFedAvg(target_epsilon=3.0, quantile=0.5, clip_norm=0.7)
    twice.prepare(10, 1.0, 5)
    few = twice.round_cost
    twice(ROWS, generator=seeded())
    assert twice.bound != 0.7
    twice.prepare(1000, 0.02, 50)
    once = prepared(1000, 0.02, 50, target_epsilon=3.0, quantile=0.5, clip_norm=0.7)
    assert twice.round_cost == once.round_cost != few
    assert (twice.bound, twice.clip_norm, twice.noise_multiplier) == (0.7, 0.7, None)
    assert torch.equal(twice(ROWS, generator=seeded()), once(ROWS, generator=seeded()))


def test_rules_that_differ_in_noise_or_bound_draw_other_noise() -> None:
    options: list[dict[str, Any]] = [
        {"noise_multiplier": 1.0},
        {"noise_multiplier": 2.0},
        {"noise_multiplier": 1.0, "clip_norm": 2.0},
        {"noise_multiplier": 1.0, "quantile": 0.5},
        {"noise_multiplier": 1.0, "quantile": 0.4},
        {"noise_multiplier": 1.0, "quantile": 0.5, "count_noise": 4.0},
        {"noise_multiplier": 1.0, "quantile": 0.5, "clip_lr": 0.1},
        {"noise_multiplier": 1.0, "quantile": 0.5, "clients": 8},  # whose count takes another part of the noise
    ]
    assert len({prepared(**each).stream() for each in options}) == len(options)
    assert prepared(noise_multiplier=2, clip_norm=1).stream() == prepared(noise_multiplier=2.0).stream()
    adapted = prepared(noise_multiplier=1.0, quantile=0.5)
    before = adapted.stream()
    adapted(ROWS, generator=seeded())
    assert adapted.stream() == before  # a resumed run must draw what the whole one drew


def test_a_resumed_bound_is_the_same_to_the_bit() -> None:
    def play(rule: DpFedAvg, rounds: range) -> list[Tensor]:
        return [rule(ROWS, generator=seeded(number)) for number in rounds]

    options = {"clients": 4, "noise_multiplier": 0.8, "quantile": 0.3}
    whole, first, second = (prepared(**options) for _ in range(3))
    expected = play(whole, range(6))
    play(first, range(3))
    second.restore(first.state())
    for found, other in zip(play(second, range(3, 6)), expected[3:], strict=True):
        assert torch.equal(found, other)
    assert second.bound == whole.bound != 1.0
