import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsec.auditing import approximate_dp_bound, epsilon_of_mu, gaussian_dp_bound, is_refuted
from fedsec.errors import InputError

# Canaries, guesses, right ones, significance, delta, epsilon: by another implementation of the recursion.
ELSEWHERE = [
    (100, 100, 80, 0.05, 1e-5, 2.130336),
    (100, 100, 80, 0.01, 1e-3, 1.011744),
    (200, 50, 48, 0.05, 1e-5, 3.554188),
    (1000, 1000, 600, 0.05, 1e-5, 0.583540),
    (1000, 250, 247, 0.05, 1e-5, 5.902403),
    (500, 40, 40, 0.01, 1e-3, 2.095051),
    (40, 40, 38, 0.05, 1e-5, 4.184654),
]


@pytest.mark.parametrize(("canaries", "guesses", "correct", "significance", "delta", "epsilon"), ELSEWHERE)
def test_bounds_are_those_of_another_implementation(
    canaries: int, guesses: int, correct: int, significance: float, delta: float, epsilon: float
) -> None:
    mu = gaussian_dp_bound(canaries, guesses, correct, 1 - significance)
    assert epsilon_of_mu(mu, delta) == pytest.approx(epsilon, abs=2e-4)
    assert epsilon_of_mu(mu, delta) <= epsilon  # it errs towards less


def test_it_shows_more_of_gaussian_noise_than_the_bound_that_assumes_nothing() -> None:
    for canaries, guesses, correct, _, delta, _ in ELSEWHERE:
        mu = gaussian_dp_bound(canaries, guesses, correct)
        assert epsilon_of_mu(mu, delta) >= approximate_dp_bound(canaries, guesses, correct, delta)


@pytest.mark.parametrize("mu", [0.0, 1.5])
def test_the_best_guesses_of_a_gaussian_mechanism_seldom_exceed_its_mu(mu: float) -> None:
    generator = np.random.default_rng(7)
    m, runs = 60, 400
    included = generator.integers(0, 2, (runs, m)).astype(bool)
    scores = generator.normal(size=(runs, m)) + mu * included
    above = scores > np.median(scores, axis=1, keepdims=True)
    bounds = np.array([gaussian_dp_bound(m, m, int(correct)) for correct in (above == included).sum(1)])
    assert (bounds > mu).mean() <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / runs)
    assert mu == 0 or bounds.mean() > 0.1 * mu


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 80), st.data())
def test_bounds_grow_with_right_guesses(guesses: int, data: st.DataObject) -> None:
    correct = data.draw(st.integers(0, guesses - 1))
    canaries = guesses + data.draw(st.integers(0, 80))
    assert 0 <= gaussian_dp_bound(canaries, guesses, correct) <= gaussian_dp_bound(canaries, guesses, correct + 1)


def test_impossible_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="no more"):
        gaussian_dp_bound(10, 11, 5)
    with pytest.raises(InputError, match="mu must be finite"):
        is_refuted([0.1, -1.0], 10, 10, 5, 0.05)
    assert gaussian_dp_bound(10, 0, 0) == 0


def test_of_a_mechanism_that_is_not_gaussian_it_may_claim_too_much() -> None:
    # The assumption is real: randomized response is (1, 0)-DP, and its curve has a corner.
    right = round(1000 / (1 + np.exp(-1)))
    assert approximate_dp_bound(1000, 1000, right, 1e-5) < 1
    assert epsilon_of_mu(gaussian_dp_bound(1000, 1000, right), 1e-5) > 1
