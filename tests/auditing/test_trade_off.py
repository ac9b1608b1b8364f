import numpy as np
import pytest
from scipy.optimize import brentq, linprog
from scipy.stats import norm

from fedsec.auditing.trade_off import are_refuted, largest_refuted


def largest_tail(tangents: list[tuple[float, float]], canaries: int, guesses: int, correct: int) -> float:
    """The largest probability of so many right guesses that the inequalities allow, by a linear program.

    B is concave: the lower envelope of its tangents, (slope, height at 0) each.
    """
    m, r = canaries, guesses
    right = np.array([i / m for i in range(r + 1)])
    wrong = np.array([(r - i) / m for i in range(r + 1)])
    rows, limits = [], []
    for slope, height in tangents:
        for j in range(1, r + 1):
            row = np.zeros(r + 1)
            row[j:] += right[j:]
            row[j - 1 :] -= slope * wrong[j - 1 :]
            rows.append(row)
            limits.append(height)
    tail = np.array([-1.0 if i >= correct else 0.0 for i in range(r + 1)])
    result = linprog(tail, np.array(rows), np.array(limits), np.ones((1, r + 1)), [1.0], bounds=(0, 1))
    assert result.success
    return -float(result.fun)


def by_recursion(least: object, canaries: int, guesses: int, correct: int) -> float:
    def gap(significance: float) -> float:
        return 1 - 2.0 * are_refuted(least, 1, canaries, guesses, correct, significance)[0]  # type: ignore[arg-type]

    return float(brentq(gap, 1e-9, 1 - 1e-9, xtol=1e-7))


@pytest.mark.parametrize(("mu", "canaries", "guesses", "correct"), [(0.5, 8, 8, 7), (1.0, 12, 6, 5), (0.2, 10, 10, 10)])
def test_the_recursion_finds_what_the_linear_program_does(mu: float, canaries: int, guesses: int, correct: int) -> None:
    tangents = []
    for at in norm.cdf(np.linspace(-6, 3, 300)):
        slope = norm.pdf(norm.ppf(at) + mu) / norm.pdf(norm.ppf(at))
        tangents.append((slope, norm.cdf(norm.ppf(at) + mu) - slope * at))
    expected = largest_tail(tangents, canaries, guesses, correct)
    recursion = by_recursion(lambda right: norm.cdf(norm.ppf(right) - mu), canaries, guesses, correct)
    assert recursion == pytest.approx(expected, rel=5e-3)


@pytest.mark.parametrize("delta", [0.0, 0.001, 0.03])
@pytest.mark.parametrize(
    ("epsilon", "canaries", "guesses", "correct"), [(0.5, 9, 9, 8), (1.5, 20, 10, 9), (1.0, 7, 6, 6)]
)
def test_so_it_does_for_curves_with_corners(
    epsilon: float, delta: float, canaries: int, guesses: int, correct: int
) -> None:
    growth = np.exp(epsilon)
    tangents = [(0.0, 1.0), (growth, delta), (1 / growth, 1 - (1 - delta) / growth)]
    expected = largest_tail(tangents, canaries, guesses, correct)
    recursion = by_recursion(
        lambda right: np.maximum((right - delta) / growth, 1 - delta - growth * (1 - right)), canaries, guesses, correct
    )
    assert recursion == pytest.approx(expected, rel=1e-4)


def test_the_search_stays_below_the_first_that_is_not_refuted() -> None:
    for crossing in (0.0, 0.3, 7.77, 15.9999):
        bound = largest_refuted(lambda parameters, crossing=crossing: parameters < crossing, 16.0)
        assert crossing - 1e-4 < bound <= crossing
    assert largest_refuted(lambda parameters: parameters < np.inf, 16.0) == 16
