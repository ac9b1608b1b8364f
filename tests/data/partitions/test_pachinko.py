"""Pachinko allocation: the tree's two concentrations, nothing lost, the distribution of drawing one by one."""

import numpy as np
import pytest

from fedsec.data.partitions import Pachinko
from fedsec.errors import PartitionError

TREE = tuple(label // 5 for label in range(100))


def shares(alpha: float, beta: float, clients: int = 20, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Number of examples of each client and fine class, and of each client and coarse class."""
    labels = np.repeat(np.arange(100), 40)
    parts = Pachinko(alpha, beta).of_tree(TREE)(labels, clients, rng=np.random.default_rng(seed), num_classes=100)
    assert sorted(np.concatenate(parts).tolist()) == list(range(4_000))
    fine = np.stack([np.bincount(labels[part], minlength=100) for part in parts])
    return fine, fine.reshape(clients, 20, 5).sum(2)


def test_sizes_are_equal_and_alpha_decides_how_many_coarse_classes_a_client_has() -> None:
    (_, few), (fine, many) = shares(0.1, 10.0), shares(100.0, 10.0)
    assert few.sum(1).tolist() == many.sum(1).tolist() == [200] * 20
    assert (few > 0).sum(1).mean() < 8 < (many > 0).sum(1).mean()
    assert (fine > 0).sum(1).mean() > 60


def test_beta_decides_how_many_fine_classes_of_a_coarse_one() -> None:
    def fine_of_largest(beta: float) -> float:
        fine, coarse = shares(1.0, beta)
        groups = fine.reshape(20, 20, 5)[np.arange(20), coarse.argmax(1)]
        return float((groups.max(1) / groups.sum(1)).mean())

    assert fine_of_largest(0.05) > fine_of_largest(100.0) + 0.2


def one_by_one(alpha: float, beta: float, left: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """The paper's loop: draw, take, cut off what has run out, renormalize."""
    left, taken = left.copy(), np.zeros_like(left)
    root, leaves = rng.dirichlet([alpha] * len(left)), [rng.dirichlet([beta] * len(row)) for row in left]
    for _ in range(size):
        open_root = np.where(left.sum(1) > 0, root, 0)
        group = rng.choice(len(left), p=open_root / open_root.sum())
        open_leaf = np.where(left[group] > 0, leaves[group], 0)
        label = rng.choice(len(left[group]), p=open_leaf / open_leaf.sum())
        left[group, label] -= 1
        taken[group, label] += 1
    return taken


def test_counts_have_the_distribution_of_the_paper_s_loop() -> None:
    left, tree, size, draws = np.array([[1, 9], [2, 3], [8, 8]]), np.array([0, 0, 1, 1, 2, 2]), 12, 1_500
    rng, partition = np.random.default_rng(1), Pachinko(1.0, 2.0)
    slow = np.stack([one_by_one(1.0, 2.0, left, size, rng).ravel() for _ in range(draws)])
    fast = np.stack([partition._fall(size, left.ravel(), tree, rng) for _ in range(draws)])
    assert fast.sum(1).tolist() == [size] * draws
    assert (fast <= left.ravel()).all()
    error = np.sqrt(slow.var(0) / draws + fast.var(0) / draws)
    assert (np.abs(slow.mean(0) - fast.mean(0)) < 4 * error).all()
    assert np.allclose(np.cov(slow.T), np.cov(fast.T), atol=0.9)


def test_without_a_tree_it_is_refused() -> None:
    with pytest.raises(PartitionError, match=r"pachinko: expected the coarse class of each of 3 classes, got 0; take"):
        Pachinko()(np.array([0, 1, 2]), 2, rng=np.random.default_rng(0))
    with pytest.raises(PartitionError, match="beta must be a finite number greater than 0, got 0"):
        Pachinko(beta=0)
