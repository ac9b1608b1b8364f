import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from fedsec.auditing import delta_of_mu, epsilon_of_mu, mu_of_epsilon
from fedsec.errors import InputError


@pytest.mark.parametrize(("epsilon", "noise"), [(1, 4.22), (3, 1.54), (10, 0.541)])
def test_noise_multipliers_of_the_gaussian_mechanism_as_published(epsilon: float, noise: float) -> None:
    # Andrew et al., arXiv:2302.03098, table 1, delta 1e-6.
    assert 1 / mu_of_epsilon(epsilon, 1e-6) == pytest.approx(noise, rel=3e-3)
    assert epsilon_of_mu(1 / noise, 1e-6) == pytest.approx(epsilon, rel=6e-3)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.05, 8), st.floats(1e-9, 0.3))
def test_epsilon_and_delta_of_a_curve_undo_one_another(mu: float, delta: float) -> None:
    epsilon = epsilon_of_mu(mu, delta)
    if epsilon:
        assert delta_of_mu(mu, epsilon) == pytest.approx(delta, rel=1e-5)
        assert mu_of_epsilon(epsilon, delta) == pytest.approx(mu, rel=1e-5)
    else:
        assert delta_of_mu(mu, 0) <= delta


@pytest.mark.parametrize(("mu", "epsilon"), [(0.7, 0.3), (2.0, 4.0)])
def test_delta_is_the_best_that_any_test_gains(mu: float, epsilon: float) -> None:
    thresholds = np.linspace(-10, 10, 20001)
    gains = norm.sf(thresholds - mu) - math.exp(epsilon) * norm.sf(thresholds)
    assert delta_of_mu(mu, epsilon) == pytest.approx(gains.max(), rel=1e-5)


def test_ends_of_the_curve() -> None:
    assert epsilon_of_mu(0.0, 1e-5) == epsilon_of_mu(0.0, 0.0) == 0
    assert epsilon_of_mu(1.0, 0.0) == math.inf
    assert 0 < epsilon_of_mu(16.0, 1e-12) < 300
    with pytest.raises(InputError, match="mu must lie"):
        epsilon_of_mu(-1.0, 1e-5)
    with pytest.raises(InputError, match="delta"):
        mu_of_epsilon(1.0, 0.0)
