"""Epsilon against published numbers, against closed forms, and against Opacus's own objects."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm

from fedsec.errors import InputError
from fedsec.privacy import Accountant, Spending, accounting, epsilon

MNIST = Spending(1.12, 256 / 60000, 14063)
"""TensorFlow Privacy's example: batches of 256 of 60,000 images, noise 1.12, 60 epochs; "eps = 2.92, order 9.0"."""
ABADI = Spending(4.0, 0.01, 10000)
"""Abadi et al. 2016, section 5 and figure 2: q = 0.01, sigma = 4, T = 10,000: epsilon 1.26 at delta 1e-5."""
ACCOUNTANTS: tuple[Accountant, ...] = ("rdp", "prv", "gdp")


def classic(spending: Spending, delta: float) -> float:
    """The conversion of those days, Mironov 2017: min over orders of RDP - log(delta) / (order - 1)."""
    orders = [1 + x / 10 for x in range(1, 100)] + [float(x) for x in range(12, 64)]
    found = accounting._renyi((spending,), tuple(orders))
    return min(value - math.log(delta) / (order - 1) for value, order in zip(found.tolist(), orders, strict=True))


def gaussian(mu: float, delta: float) -> float:
    """Exact epsilon of Gaussian noise without sampling, Balle & Wang 2018, arXiv:1805.06530."""

    def failing(e: float) -> float:
        return float(norm.cdf(mu / 2 - e / mu) - math.exp(e) * norm.cdf(-mu / 2 - e / mu)) - delta

    return float(brentq(failing, 0, 100))


@pytest.mark.parametrize(("spending", "published"), [(MNIST, 2.92), (ABADI, 1.26)])
def test_published_epsilons_come_out_of_the_same_divergences(spending: Spending, published: float) -> None:
    assert classic(spending, 1e-5) == pytest.approx(published, abs=0.005)
    ours = epsilon([spending], 1e-5).value
    assert 0.75 * published < ours < published  # by the better conversion of Balle et al. 2020


@pytest.mark.parametrize(
    ("spending", "expected"),
    [
        (MNIST, {"rdp": 2.5187, "prv": 2.3203, "gdp": 2.2567}),
        (ABADI, {"rdp": 1.0355, "prv": 0.9570, "gdp": 0.9424}),
    ],
)
def test_golden_values_by_opacus(spending: Spending, expected: dict[Accountant, float]) -> None:
    for accountant, value in expected.items():
        found = epsilon([spending], 1e-5, accountant)
        assert found.value == pytest.approx(value, abs=2e-4)
        assert found.accountant == accountant
        assert ("underestimate" in found.note) == (accountant == "gdp")


def test_it_is_opacus_that_is_asked() -> None:
    from opacus.accountants import RDPAccountant

    history = [Spending(1.0, 0.1, 20), Spending(2.0, 0.5, 3)]
    theirs = RDPAccountant()
    theirs.history = [(each.noise_multiplier, each.sample_rate, each.steps) for each in history]
    assert epsilon(history, 1e-4).value == pytest.approx(theirs.get_epsilon(delta=1e-4), rel=1e-9)


@pytest.mark.parametrize("mu", [0.3, 1.0, 3.0])
def test_without_sampling_epsilon_is_known_exactly(mu: float) -> None:
    steps = 16
    spending = Spending(math.sqrt(steps) / mu, 1.0, steps)
    exact = gaussian(mu, 1e-5)
    assert exact <= epsilon([spending], 1e-5, "prv").value <= exact + 2 * accounting.PRV_ERROR
    assert exact <= epsilon([spending], 1e-5, "rdp").value <= 1.25 * exact


def sampled(noise: float, rate: float, delta: float) -> float:
    """Exact epsilon of one Poisson-sampled Gaussian step: the larger one of adding an example and of removing it."""
    x = np.linspace(-40 * noise, 40 * noise + 1, 400_001)
    without = norm.pdf(x, 0, noise)
    with_it = (1 - rate) * without + rate * norm.pdf(x, 1, noise)

    def found(one: np.ndarray, other: np.ndarray) -> float:
        def failing(e: float) -> float:
            return float(np.trapezoid(np.maximum(one - math.exp(e) * other, 0), x)) - delta

        return float(brentq(failing, 0, 20)) if failing(0) > 0 else 0.0

    return max(found(with_it, without), found(without, with_it))


@pytest.mark.parametrize(
    ("noise", "rate", "delta"),
    [(1.0, 0.1, 1e-5), (0.6, 0.02, 1e-6), (2.0, 0.5, 1e-3), (0.8, 0.9, 1e-8), (4.0, 0.3, 1e-2)],
)
def test_a_sampled_step_costs_what_its_hockey_stick_divergence_says(noise: float, rate: float, delta: float) -> None:
    exact = sampled(noise, rate, delta)
    assert exact <= epsilon([Spending(noise, rate, 1)], delta, "prv").value <= exact + 2 * accounting.PRV_ERROR
    assert exact <= epsilon([Spending(noise, rate, 1)], delta, "rdp").value
    assert sampled(noise, 1.0, 1e-5) == pytest.approx(gaussian(1 / noise, 1e-5), abs=1e-4)


def test_large_deltas_are_told_of() -> None:
    for accountant in ACCOUNTANTS:
        large, small = (epsilon([Spending(2.0, 0.5, 3)], delta, accountant).note for delta in (0.0101, 0.01))
        assert large.endswith(
            "delta 0.01 is large: publishing each unit outright with that probability would pass as well"
        )
        assert "large" not in small
    assert epsilon([], 0.3).note == ""
    nothing = epsilon([Spending(1.0, 0.01, 1)], 0.4)
    assert nothing.value == 0
    assert "delta 0.4 is large" in nothing.note
    assert epsilon([Spending(0.0, 0.5, 1)], 0.3).note == "steps without noise give no guarantee"


def test_prv_never_exceeds_rdp() -> None:
    """Budgets and the largest of many epsilons rely on it."""
    for spending in (Spending(30.0, 1.0, 1), Spending(1.0, 0.01, 3), Spending(5.0, 0.001, 2), Spending(0.7, 0.2, 40)):
        for delta in (1e-2, 1e-5, 1e-9):
            bound = epsilon([spending], delta, "rdp")
            assert epsilon([spending], delta, "prv").value <= bound.value


def test_prv_gives_way_where_delta_drowns_in_rounding() -> None:
    spending = Spending(1.0, 1.0, 1)
    found = epsilon([spending], 0.9e-10, "prv")
    assert found.accountant == "rdp"
    assert "by rdp instead of prv: delta lies below 1e-10" in found.note
    assert found.value >= gaussian(1.0, 0.9e-10)
    edge = epsilon([spending], 1e-10, "prv")
    assert edge.accountant == "prv"
    assert edge.value >= gaussian(1.0, 1e-10)


def test_little_spending_uses_orders_beyond_opacus_and_stays_a_bound() -> None:
    from opacus.accountants import RDPAccountant

    theirs = RDPAccountant()
    theirs.history = [(100.0, 1.0, 4)]
    exact, found = gaussian(0.02, 1e-5), epsilon([Spending(100.0, 1.0, 4)], 1e-5).value
    with pytest.warns(UserWarning, match="largest alpha"):
        opacus = theirs.get_epsilon(delta=1e-5)
    assert exact <= found < 0.75 * opacus


def test_no_noise_no_steps_no_data() -> None:
    for accountant in ACCOUNTANTS:
        assert epsilon([Spending(0.0, 0.1, 1)], 1e-5, accountant).value == math.inf
        for nothing in ([], [Spending(1.0, 0.1, 0)], [Spending(0.0, 0.0, 5)]):
            assert epsilon(nothing, 1e-5, accountant).value == 0


@pytest.mark.parametrize(
    ("spending", "why"),
    [(Spending(0.05, 0.5, 100), "beyond 20"), (Spending(2.0, 1e-3, 10**9), "grid"), (Spending(1e-5, 0.5, 1), "beyond")],
)
def test_prv_gives_way_to_rdp_and_says_so(spending: Spending, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if why == "grid":
        monkeypatch.setattr(accounting, "PRV_LARGEST", math.inf)
    accounting._epsilon.cache_clear()
    found = epsilon([spending], 1e-5, "prv")
    assert found.accountant == "rdp"
    assert "by rdp instead of prv" in found.note
    assert why in found.note
    assert found.value == epsilon([spending], 1e-5, "rdp").value


def test_prv_that_fails_gives_way_to_rdp(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object, **given: object) -> float:
        raise RuntimeError("no such domain")

    monkeypatch.setattr("opacus.accountants.PRVAccountant.get_epsilon", fail)
    accounting._epsilon.cache_clear()
    found = epsilon([Spending(1.5, 0.02, 30)], 1e-5, "prv")
    assert (found.accountant, "no such domain" in found.note) == ("rdp", True)
    monkeypatch.setattr("opacus.accountants.PRVAccountant.get_epsilon", lambda self, **given: math.nan)
    accounting._epsilon.cache_clear()
    assert epsilon([Spending(1.5, 0.02, 30)], 1e-5, "prv").accountant == "rdp"
    accounting._epsilon.cache_clear()


@pytest.mark.parametrize("spending", [Spending(0.3, 0.999, 10), Spending(0.01, 0.5, 10)])
def test_gdp_out_of_its_range_gives_way_to_rdp(spending: Spending) -> None:
    found = epsilon([spending], 1e-5, "gdp")
    assert found.accountant == "rdp"
    assert "by rdp instead of gdp" in found.note


def test_gdp_may_underestimate_as_its_note_says() -> None:
    few = Spending(0.5, 0.001, 50)
    assert epsilon([few], 1e-5, "gdp").value < epsilon([few], 1e-5, "prv").value - 2 * accounting.PRV_ERROR


@pytest.mark.parametrize("accountant", ACCOUNTANTS)
def test_rounds_add_up_to_one_long_run_in_any_order(accountant: Accountant) -> None:
    rounds = [Spending(1.3, 0.05, 10), Spending(2.0, 0.1, 5)] * 3
    whole = [Spending(2.0, 0.1, 15), Spending(1.3, 0.05, 30)]
    assert epsilon(rounds, 1e-5, accountant) == epsilon(whole, 1e-5, accountant)
    assert epsilon(rounds, 1e-5, accountant).value > epsilon(rounds[:4], 1e-5, accountant).value


noises, rates, counts = st.floats(0.4, 20), st.floats(0.001, 1), st.integers(1, 2000)


@settings(deadline=None, max_examples=6)
@given(noises, rates, counts, st.floats(1.01, 2), st.sampled_from([1e-3, 1e-5, 1e-7]))
def test_more_noise_fewer_steps_rarer_samples_and_larger_delta_cost_less(
    noise: float, rate: float, steps: int, factor: float, delta: float
) -> None:
    spent = epsilon([Spending(noise, rate, steps)], delta).value
    slack = 1 + 1e-9
    assert epsilon([Spending(noise * factor, rate, steps)], delta).value <= spent * slack
    assert epsilon([Spending(noise, rate / factor, steps)], delta).value <= spent * slack
    assert epsilon([Spending(noise, rate, steps)], delta * factor).value <= spent * slack
    assert epsilon([Spending(noise, rate, steps + 1)], delta).value >= spent / slack


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ((-1.0, 0.1, 1), "noise_multiplier"),
        ((math.nan, 0.1, 1), "finite"),
        ((1.0, 1.1, 1), "0, 1"),
        ((1, 0.1, -1), "-1"),
    ],
)
def test_impossible_spendings_are_refused(numbers: tuple[float, float, int], told: str) -> None:
    with pytest.raises(InputError, match=told):
        Spending(*numbers)


def test_bad_deltas_and_accountants_are_refused() -> None:
    for delta in (0.0, 1.0, math.nan):
        with pytest.raises(InputError, match="delta must lie in"):
            epsilon([MNIST], delta)
    with pytest.raises(InputError, match="rdp, prv, gdp"):
        epsilon([MNIST], 1e-5, "moments")  # type: ignore[arg-type]
