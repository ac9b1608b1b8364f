import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from fedsec.auditing import audit_two_samples, clopper_pearson, epsilon_of_mu, two_sample_bound
from fedsec.errors import InputError

DELTA = 1e-5
WAYS: list[dict[str, Any]] = [
    {"strategy": "bonferroni"},
    {"strategy": "split"},
    {"threshold": 0.75},
    {"strategy": "bonferroni", "direction": "both"},
    {"strategy": "split", "direction": "both"},
]


def test_bounds_are_those_of_the_region() -> None:
    bounds = two_sample_bound(3, 1000, 40, 1000, DELTA)
    fpr = clopper_pearson(3, 1000, 0.975, "upper").high
    fnr = clopper_pearson(40, 1000, 0.975, "upper").high
    expected = max(math.log((1 - DELTA - fnr) / fpr), math.log((1 - DELTA - fpr) / fnr))
    assert bounds["two_samples"].epsilon_lower == pytest.approx(expected)
    mu = norm.ppf(1 - fpr) - norm.ppf(fnr)
    assert bounds["two_samples_gaussian"].mu_lower == pytest.approx(mu)
    assert bounds["two_samples_gaussian"].epsilon_lower == pytest.approx(epsilon_of_mu(float(mu), DELTA))
    other = two_sample_bound(40, 1000, 3, 1000, DELTA)
    assert other["two_samples"].epsilon_lower == pytest.approx(expected)  # both directions of the guarantee


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize(("mu", "runs"), [(0.0, 200), (0.0, 20), (1.5, 200)])
def test_a_gaussian_mechanism_is_accused_as_rarely_as_stated(way: dict[str, Any], mu: float, runs: int) -> None:
    generator = np.random.default_rng(3)
    trials = 60
    lower = np.array(
        [
            [
                bound.epsilon_lower
                for bound in audit_two_samples(
                    generator.normal(mu, 1, runs), generator.normal(0, 1, runs), DELTA, seed=trial, **way
                ).values()
            ]
            for trial in range(trials)
        ]
    )
    assert ((lower > epsilon_of_mu(mu, DELTA)).mean(0) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / trials)).all()
    if mu:
        assert (lower.mean(0) > [0.5, 1.5]).all()


@pytest.mark.parametrize("strategy", ["bonferroni", "split"])
def test_separable_scores_show_as_much_in_reverse(strategy: Any) -> None:
    generator = np.random.default_rng(4)
    inside, outside = generator.uniform(2, 3, 100), generator.uniform(0, 1, 100)
    right = audit_two_samples(inside, outside, DELTA, strategy=strategy, direction="both")
    reverse = audit_two_samples(outside, inside, DELTA, strategy=strategy, direction="both")
    blind = audit_two_samples(outside, inside, DELTA, strategy=strategy)
    for method, bound in right.items():
        assert reverse[method].epsilon_lower == pytest.approx(bound.epsilon_lower)
        assert bound.epsilon_lower > 1.5
        assert bound.epsilon_lower > 0.9 * bound.ceiling
        assert blind[method].epsilon_lower == 0


def test_thresholds_and_directions_are_paid_for() -> None:
    inside, outside = np.arange(100.0) + 100, np.arange(100.0)
    for direction, choices in (("higher", 11), ("both", 22)):
        for method, bound in audit_two_samples(inside, outside, DELTA, direction=direction).items():  # type: ignore[arg-type]
            flawless = two_sample_bound(0, 100, 0, 100, DELTA, 1 - 0.05 / choices)[method]
            assert bound.choices == choices
            assert bound.epsilon_lower == pytest.approx(flawless.epsilon_lower)


def test_scores_of_few_values_are_not_taken_for_more_than_they_are() -> None:
    generator = np.random.default_rng(5)
    for _ in range(30):
        inside, outside = generator.integers(0, 3, (2, 100)).astype(float)
        for bound in audit_two_samples(inside, outside, DELTA, confidence=0.999, direction="both").values():
            assert bound.epsilon_lower == 0


def test_too_few_runs_and_bad_settings_are_refused() -> None:
    with pytest.raises(InputError, match="can show nothing"):
        audit_two_samples([1, 2], [0, 0.5], DELTA)
    with pytest.raises(InputError, match="split needs two runs"):
        audit_two_samples([1.0], [0.0], DELTA, strategy="split")
    with pytest.raises(InputError, match=r"direction must be higher, lower or both, got .up"):
        audit_two_samples([1.0], [0.0], DELTA, direction="up")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="threshold must be finite"):
        audit_two_samples([1.0], [0.0], DELTA, threshold=math.nan)
    with pytest.raises(InputError, match="5 of 4"):
        two_sample_bound(5, 4, 0, 4, DELTA)
