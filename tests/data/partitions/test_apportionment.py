"""Shares become whole numbers: by definition, and fairly over rows."""

import numpy as np

from fedsec.data.partitions import Ints
from fedsec.data.partitions.apportionment import apportion, apportion_jointly


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def balanced(num_classes: int, per_class: int, seed: int = 0) -> Ints:
    return rng(seed).permutation(np.repeat(np.arange(num_classes), per_class))


def test_apportioning_against_its_definition() -> None:
    generator = rng()
    for _ in range(200):
        shares = generator.dirichlet(np.full(generator.integers(1, 30), 0.2), size=4)
        shares[:, generator.integers(shares.shape[1])] *= generator.integers(0, 2)
        shares[shares.sum(axis=1) == 0] = 1.0
        totals = generator.integers(0, 1000, size=4)
        counts = apportion(shares, totals)
        exact = shares / shares.sum(axis=1, keepdims=True) * totals[:, None]
        assert (counts.sum(axis=1) == totals).all()
        assert (np.abs(counts - exact) <= 1 + 1e-9).all()
        assert (counts >= 0).all()
        assert (counts[shares == 0] == 0).all()


def test_joint_apportioning_keeps_rows_exact_and_sums_near_their_due() -> None:
    generator = rng()
    for _ in range(100):
        rows, recipients = generator.integers(1, 30), generator.integers(1, 30)
        shares = np.tile(generator.dirichlet(np.full(recipients, 0.5)), (rows, 1))
        shares[:, generator.integers(recipients)] *= generator.integers(0, 2)
        shares[shares.sum(axis=1) == 0] = 1.0
        totals = generator.integers(0, 40, size=rows)
        counts = apportion_jointly(shares, totals)
        exact = shares / shares.sum(axis=1, keepdims=True) * totals[:, None]
        assert (counts.sum(axis=1) == totals).all()
        assert (np.abs(counts - exact) < 1 + 1e-6).all()
        assert (counts[shares == 0] == 0).all()
        # Equal rows: the sums over rows are off by about one example, not by one a row.
        assert np.abs(counts.sum(axis=0) - exact.sum(axis=0)).max() < 2.5
