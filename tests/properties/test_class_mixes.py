"""Estimated mixes of classes against true ones, and against exchanged clients."""

import numpy as np
import pytest
from scipy import stats

from fedsec.errors import InputError
from fedsec.properties.class_mixes import compare_mixes


def test_distances_are_total_variation() -> None:
    true = np.array([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
    found = compare_mixes(
        np.array([[0.8, 0.2, 0.0], [0.0, 1.0, 0.0]]), true, permutations=99, generator=np.random.default_rng(0)
    )
    assert found.distances == pytest.approx([0.2, 0.5])
    assert found.test.observed == pytest.approx(0.35)
    assert found.guess == pytest.approx(0.5)
    assert found.correlation > 0.5
    # Two clients can be exchanged in one way, and half of the permutations leave them alone.
    assert found.test.p == pytest.approx(0.5, abs=0.15)


def test_estimates_that_follow_their_clients_are_significant() -> None:
    draw = np.random.default_rng(1)
    true = draw.dirichlet(np.full(5, 0.5), 12)
    found = compare_mixes(0.7 * true + 0.06, true, permutations=999, generator=draw)
    assert found.test.p == 0.001
    assert found.correlation == pytest.approx(1.0)


def test_under_the_null_p_values_are_uniform() -> None:
    draw = np.random.default_rng(2)
    mixes = [draw.dirichlet(np.ones(4), (2, 6)) for _ in range(300)]
    values = np.array([compare_mixes(one, other, permutations=39, generator=draw).test.p for one, other in mixes])
    assert stats.kstest(values, stats.uniform(loc=0.0125).cdf).pvalue > 0.01


def test_shapes_must_agree() -> None:
    with pytest.raises(InputError, match="two clients at least"):
        compare_mixes(np.ones((1, 2)), np.ones((1, 2)), permutations=9, generator=np.random.default_rng(0))
