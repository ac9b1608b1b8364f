import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from fedsec.auditing import audit_one_run, epsilon_of_mu, mu_of_epsilon, one_shot_estimate
from fedsec.auditing.one_shot import epsilon_between_normals
from fedsec.errors import InputError

DELTA = 1e-6


@settings(max_examples=20, deadline=None)
@given(st.floats(0.1, 6), st.sampled_from([1e-9, 1e-6, 1e-2]))
def test_equal_spreads_are_the_gaussian_mechanism(mu: float, delta: float) -> None:
    for mean in (mu, -mu):
        assert epsilon_between_normals(mean, 1.0, delta) == pytest.approx(epsilon_of_mu(mu, delta), abs=1e-5)
        assert epsilon_between_normals(mean, 1 + 1e-7, delta) == pytest.approx(epsilon_of_mu(mu, delta), abs=1e-3)


@pytest.mark.parametrize(("mean", "std"), [(1.0, 1.3), (1.0, 0.7), (0.0, 1.2), (0.0, 0.8), (-2.0, 0.9)])
def test_delta_of_the_epsilon_is_the_integral_over_all_outcomes(mean: float, std: float) -> None:
    epsilon = epsilon_between_normals(mean, std, 1e-3)
    grid = np.linspace(-40, 40, 800_001)
    p, q = norm.pdf(grid, mean, std), norm.pdf(grid)
    gaps = [np.maximum(a - math.exp(epsilon) * b, 0).sum() * (grid[1] - grid[0]) for a, b in ((p, q), (q, p))]
    assert max(gaps) == pytest.approx(1e-3, rel=1e-3)


def cosines_of(noise: float, seed: int, canaries: int = 100, dimension: int = 6000) -> tuple[np.ndarray, np.ndarray]:
    """Of canaries whose sum was released with noise, and of others; drawn as the projections that they are."""
    generator = np.random.default_rng(seed)
    seen = generator.normal(size=(canaries, dimension)).astype(np.float32)
    seen /= np.linalg.norm(seen, axis=1, keepdims=True)
    released = seen.sum(0) + noise * generator.normal(size=dimension)
    unseen = generator.normal(size=canaries) / math.sqrt(dimension)
    return seen @ released / np.linalg.norm(released), unseen


@pytest.mark.parametrize("epsilon", [3.0, 10.0])
def test_estimates_of_the_gaussian_mechanism_lie_around_its_epsilon(epsilon: float) -> None:
    noise = 1 / mu_of_epsilon(epsilon, DELTA)
    estimates = [one_shot_estimate(cosines_of(noise, seed)[0], 6000, DELTA) for seed in range(4)]
    assert np.mean([estimate.mean for estimate in estimates]) == pytest.approx(1 / noise, rel=0.15)
    assert any(estimate.low <= epsilon <= estimate.high for estimate in estimates)
    assert 0.5 * epsilon < np.median([estimate.epsilon for estimate in estimates]) < 2.5 * epsilon


def test_it_is_no_bound_and_says_so() -> None:
    # Directions that nobody sent: a bound is 0, the estimate is not, as no sample's mean and spread are 0 and 1.
    unseen = np.random.default_rng(0).normal(size=100) / 100
    estimate = one_shot_estimate(unseen, 10_000, DELTA, unseen=unseen)
    assert estimate.epsilon == estimate.null_epsilon > 0.2
    assert "no bound" in estimate.note
    included = np.random.default_rng(1).integers(0, 2, 100).astype(bool)
    assert audit_one_run(unseen, included, DELTA)["gaussian_dp"].epsilon_lower == 0


def test_without_noise_the_estimate_is_infinite() -> None:
    estimate = one_shot_estimate([0.3, 0.3001, 0.2999, 0.3], 1_000_000, DELTA)
    assert estimate.epsilon == math.inf
    assert estimate.as_dict()["epsilon"] is None
    assert one_shot_estimate([0.1, 0.1], 100, DELTA).epsilon == math.inf


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="two canaries"):
        one_shot_estimate([0.1], 100, DELTA)
    with pytest.raises(InputError, match=r"\[-1, 1\]"):
        one_shot_estimate([0.1, 3.0], 100, DELTA)
    with pytest.raises(InputError, match="dimension"):
        one_shot_estimate([0.1, 0.2], 0, DELTA)
    with pytest.raises(InputError, match="delta"):
        one_shot_estimate([0.1, 0.2], 10, 0.0)
