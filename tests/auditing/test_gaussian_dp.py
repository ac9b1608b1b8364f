import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, linprog
from scipy.stats import norm

from fedsec.auditing import approximate_dp_bound, epsilon_of_mu, gaussian_dp_bound, is_refuted
from fedsec.errors import InputError


def largest_tail(mu: float, canaries: int, guesses: int, correct: int) -> float:
    """The largest probability of so many right guesses that the inequalities allow, by a linear program.

    The curve is concave: it is the lower envelope of its tangents, of which there are many here.
    """
    m, r = canaries, guesses
    right = np.array([i / m for i in range(r + 1)])
    wrong = np.array([(r - i) / m for i in range(r + 1)])
    rows, limits = [], []
    for at in norm.cdf(np.linspace(-6, 3, 300)):
        height = norm.cdf(norm.ppf(at) + mu)
        slope = norm.pdf(norm.ppf(at) + mu) / norm.pdf(norm.ppf(at))
        for j in range(1, r + 1):
            row = np.zeros(r + 1)
            row[j:] += right[j:]
            row[j - 1 :] -= slope * wrong[j - 1 :]
            rows.append(row)
            limits.append(height - slope * at)
    tail = np.array([-1.0 if i >= correct else 0.0 for i in range(r + 1)])
    result = linprog(tail, np.array(rows), np.array(limits), np.ones((1, r + 1)), [1.0], bounds=(0, 1))
    assert result.success
    return -result.fun


@pytest.mark.parametrize(("mu", "canaries", "guesses", "correct"), [(0.5, 8, 8, 7), (1.0, 12, 6, 5), (0.2, 10, 10, 10)])
def test_the_recursion_finds_what_the_linear_program_does(mu: float, canaries: int, guesses: int, correct: int) -> None:
    largest = largest_tail(mu, canaries, guesses, correct)

    def gap(significance: float) -> float:
        return -1.0 if is_refuted(mu, canaries, guesses, correct, significance)[0] else 1.0

    crossing = brentq(gap, 1e-9, 1 - 1e-9, xtol=1e-6)
    assert crossing == pytest.approx(largest, rel=5e-3)


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
