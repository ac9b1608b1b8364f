import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import binom

from fedsec.auditing import approximate_dp_bound, approximate_dp_p_value
from fedsec.auditing.approximate_dp import _bound_by_coins
from fedsec.errors import InputError


def slow_p_value(canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """The theorem as it stands, with i up to m."""
    accuracy = expit(epsilon)

    def at_least(number: int) -> float:
        return sum(binom.pmf(k, guesses, accuracy) for k in range(max(number, 0), guesses + 1))

    gains = [(at_least(correct - i) - at_least(correct)) / i for i in range(1, canaries + 1)]
    return min(1.0, at_least(correct) + 2 * canaries * delta * max(gains))


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_the_p_value_is_the_theorem(data: st.DataObject) -> None:
    canaries = data.draw(st.integers(1, 25))
    guesses = data.draw(st.integers(1, canaries))
    correct = data.draw(st.integers(0, guesses))
    epsilon, delta = data.draw(st.floats(0, 4)), data.draw(st.sampled_from([0, 1e-6, 1e-3, 0.2]))
    expected = slow_p_value(canaries, guesses, correct, epsilon, delta)
    assert approximate_dp_p_value(canaries, guesses, correct, epsilon, delta) == pytest.approx(expected, abs=1e-9)


# Canaries, guesses, right ones, significance, delta, bound: by another implementation of Steinke's theorem.
ELSEWHERE = [
    (100, 100, 80, 0.05, 1e-5, 0.9580864),
    (100, 100, 80, 0.01, 1e-3, 0.6384603),
    (200, 50, 48, 0.05, 1e-5, 1.9840320),
    (200, 50, 48, 0.01, 1e-3, 0.0),
    (1000, 1000, 600, 0.05, 1e-5, 0.2972270),
    (1000, 250, 247, 0.05, 1e-5, 3.4422580),
    (500, 40, 40, 0.05, 1e-5, 2.5395602),
    (40, 40, 38, 0.01, 1e-3, 1.2265063),
]


@pytest.mark.parametrize(("canaries", "guesses", "correct", "significance", "delta", "bound"), ELSEWHERE)
def test_bounds_are_those_of_another_implementation(
    canaries: int, guesses: int, correct: int, significance: float, delta: float, bound: float
) -> None:
    assert _bound_by_coins(canaries, guesses, correct, delta, significance) == pytest.approx(bound, abs=2e-6)
    assert approximate_dp_bound(canaries, guesses, correct, delta, 1 - significance) >= bound - 2e-6


def test_at_a_larger_delta_the_recursion_shows_what_the_theorem_cannot() -> None:
    assert _bound_by_coins(200, 150, 150, 1e-3, 0.01) == pytest.approx(1.373, abs=1e-3)
    assert approximate_dp_bound(200, 150, 150, 1e-3, 0.99) == pytest.approx(3.437, abs=1e-3)
    assert _bound_by_coins(200, 150, 150, 6e-3, 0.01) == 0
    assert approximate_dp_bound(200, 150, 150, 6e-3, 0.99) > 3


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 2.0, 4.0])
@pytest.mark.parametrize("guesses", [8, 100])
def test_randomized_response_is_accused_as_rarely_as_stated(epsilon: float, guesses: int) -> None:
    # It is the worst case of pure differential privacy: its number of right guesses is binomial, so coverage is exact.
    accused = sum(
        binom.pmf(correct, guesses, expit(epsilon))
        for correct in range(guesses + 1)
        if approximate_dp_bound(guesses, guesses, correct, 0.0) > epsilon
    )
    assert accused <= 0.05


@pytest.mark.parametrize("delta", [1e-3, 6e-3, 0.02])
@pytest.mark.parametrize("epsilon", [0.0, 1.0, 3.0])
def test_mechanisms_that_use_their_delta_are_accused_as_rarely_as_stated(delta: float, epsilon: float) -> None:
    m, accuracy, numbers = 30, expit(epsilon), np.arange(31)
    accused = np.array([approximate_dp_bound(m, m, int(number), delta) > epsilon for number in numbers])
    alone = binom.pmf(numbers, m, delta + (1 - delta) * accuracy)  # tells each canary outright with delta
    together = delta * (numbers == m) + (1 - delta) * binom.pmf(numbers, m, accuracy)  # all or none
    assert alone[accused].sum() <= 0.05
    assert together[accused].sum() <= 0.05
    for number in numbers:
        p_value = approximate_dp_p_value(m, m, int(number), epsilon, delta)
        assert max(alone[number:].sum(), together[number:].sum()) <= p_value + 1e-12


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 300), st.sampled_from([0.0, 1e-5, 1e-3]), st.data())
def test_bounds_grow_with_right_guesses_and_shrink_with_confidence(
    guesses: int, delta: float, data: st.DataObject
) -> None:
    correct = data.draw(st.integers(0, guesses - 1))
    canaries = guesses + data.draw(st.integers(0, 300))
    bound = approximate_dp_bound(canaries, guesses, correct, delta)
    assert 0 <= bound <= approximate_dp_bound(canaries, guesses, correct + 1, delta)
    assert approximate_dp_bound(canaries, guesses, correct, delta, 0.99) <= bound


def test_all_right_shows_about_the_logarithm_of_the_guesses() -> None:
    for guesses in (20, 200, 2000):
        expected = np.log(guesses / np.log(20))  # accuracy^guesses = 0.05
        assert approximate_dp_bound(guesses, guesses, guesses, 0.0) == pytest.approx(expected, abs=0.1)


def test_impossible_counts_are_refused() -> None:
    for counts in ((10, 11, 1), (10, 5, 6), (10, 5, -1)):
        with pytest.raises(InputError, match="no more"):
            approximate_dp_bound(*counts, delta=1e-5)
    with pytest.raises(InputError, match="delta"):
        approximate_dp_bound(10, 5, 5, delta=1.0)
    with pytest.raises(InputError, match="confidence"):
        approximate_dp_bound(10, 5, 5, delta=0.0, confidence=95)
