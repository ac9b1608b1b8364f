"""Dirichlet label skew: its moments, its edges, and the fairness of its rounding."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsec.data.partitions import Dirichlet, Ints, class_counts
from fedsec.errors import PartitionError


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def balanced(num_classes: int, per_class: int, seed: int = 0) -> Ints:
    return rng(seed).permutation(np.repeat(np.arange(num_classes), per_class))


@pytest.mark.parametrize("family", ["per_class", "per_client"])
@pytest.mark.parametrize("alpha", [1e-300, 1e-8, 1e8, 1e300])
def test_extreme_alpha_ends_in_a_partition_or_a_clear_error(family: str, alpha: float) -> None:
    labels = balanced(10, 100)
    try:
        parts = Dirichlet(alpha=alpha, family=family)(labels, 20, num_classes=10, rng=rng())  # type: ignore[arg-type]
    except PartitionError as error:
        message = str(error)
        assert family == "per_class"
        assert alpha < 1
        assert "larger alpha" in message
        assert "1000 draws" in message
    else:
        assert sum(map(len, parts)) == 1000


def test_dirichlet_per_class_has_the_moments_of_its_distribution() -> None:
    # A share of Dir(alpha, ..., alpha) over K clients: mean 1/K, variance (K - 1) / (K^2 (K alpha + 1)).
    clients, classes, per_class, alpha = 5, 200, 1000, 0.5
    labels = balanced(classes, per_class)
    parts = Dirichlet(alpha)(labels, clients, num_classes=classes, rng=rng())
    shares = class_counts(parts, labels, classes) / per_class
    assert shares.mean() == pytest.approx(1 / clients)
    assert shares.var() == pytest.approx((clients - 1) / (clients**2 * (clients * alpha + 1)), rel=0.15)


def test_dirichlet_per_client_has_the_moments_of_its_distribution() -> None:
    # With many small clients hardly anybody finds a class used up, so shares follow q ~ Dir(alpha p).
    prior = np.array([0.2, 0.3, 0.5])
    alpha = 2.0
    labels = np.repeat(np.arange(3), (60_000 * prior).astype(int))
    variances = []
    for seed in range(8):
        parts = Dirichlet(alpha, "per_client")(labels, 600, num_classes=3, rng=rng(seed))
        counts = class_counts(parts, labels, 3)
        assert set(counts.sum(axis=1)) == {100}
        assert counts.mean(axis=0) / 100 == pytest.approx(prior)
        variances.append((counts / 100).var(axis=0))
    # Variance of a share: that of q, p (1 - p) / (alpha + 1), plus the multinomial's own.
    expected = prior * (1 - prior) * (1 / (alpha + 1) + (1 - 1 / (alpha + 1)) / 100)
    assert np.mean(variances, axis=0) == pytest.approx(expected, rel=0.08)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=8).filter(any),
    st.integers(1, 12),
    st.sampled_from([1e-3, 0.1, 1.0, 100.0]),
    st.integers(0, 2**32),
)
def test_dirichlet_gives_out_what_each_class_has(classes: list[int], clients: int, alpha: float, seed: int) -> None:
    available = np.array(classes)
    counts = Dirichlet(alpha, "per_client")._per_client(available, clients, rng(seed))
    assert counts.sum(axis=0).tolist() == classes
    assert (counts >= 0).all(), counts  # a client cannot owe examples, which sums alone would hide
    assert np.ptp(counts.sum(axis=1)) <= 1
    try:
        counts = Dirichlet(alpha)._per_class(available, clients, rng(seed))
    except PartitionError:
        return
    assert counts.sum(axis=0).tolist() == classes
    assert (counts >= 0).all(), counts


def test_the_two_dirichlet_families_differ() -> None:
    labels = balanced(10, 100)
    per_class, per_client = (
        [len(part) for part in Dirichlet(0.5, family)(labels, 10, num_classes=10, rng=rng())]
        for family in ("per_class", "per_client")
    )
    assert len(set(per_class)) > 5
    assert set(per_client) == {100}


def test_smaller_alpha_means_fewer_classes() -> None:
    labels = balanced(10, 1000)
    for family in ("per_class", "per_client"):
        held = []
        for alpha in (0.1, 1.0, 100.0):
            parts = Dirichlet(alpha, family)(labels, 10, num_classes=10, rng=rng())
            shares = class_counts(parts, labels, 10) / np.array([len(part) for part in parts])[:, None]
            held.append((shares.max(axis=1)).mean())
        assert held[0] > held[1] > held[2]


@pytest.mark.parametrize(("alpha", "clients"), [(1e6, 200), (1e3, 200), (1.0, 10)])
def test_rounding_favors_no_client(alpha: float, clients: int) -> None:
    # Mean sizes over many draws are equal, also where the draws themselves hardly differ (it was 10 for half of the
    # clients and 2 to 8 for the others), and where classes are small.
    labels = balanced(10, 150 if clients == 200 else 12)
    draws = 20 if clients == 200 else 400
    sizes = np.array(
        [
            [len(part) for part in Dirichlet(alpha, min_per_client=1)(labels, clients, num_classes=10, rng=rng(seed))]
            for seed in range(draws)
        ]
    )
    due = len(labels) / clients
    error = sizes.std(axis=0).max() / np.sqrt(draws)
    assert sizes.mean(axis=0) == pytest.approx(np.full(clients, due), abs=5 * error + 0.05)
    if alpha == 1e6:
        assert set(sizes.ravel()) <= {6, 7, 8, 9}


def test_moderate_alpha_is_rounded_as_ever() -> None:
    # Golden: scenarios that were published with such partitions keep their numbers.
    parts = Dirichlet(0.5)(balanced(10, 100), 5, num_classes=10, rng=rng())
    assert [len(part) for part in parts] == [152, 193, 198, 266, 191]
    assert [int(part[7]) for part in parts] == [36, 35, 39, 48, 29]
