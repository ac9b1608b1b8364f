"""Partitions: the contract on drawn shapes, each kind against what its docstring promises."""

import subprocess
import sys
import time
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsec.data.partitions import (
    PARTITIONS,
    ClassesPerClient,
    Dirichlet,
    Iid,
    Ints,
    Partition,
    QuantitySkew,
    Shards,
    _apportion,
    class_counts,
)
from fedsec.errors import PartitionError

VARIANTS: list[Partition] = [
    Iid(),
    Dirichlet(),
    Dirichlet(alpha=0.05),
    Dirichlet(alpha=0.3, family="per_client"),
    Dirichlet(alpha=100, family="per_client", min_per_client=2),
    Shards(),
    Shards(shards_per_client=3, balanced=False),
    ClassesPerClient(),
    ClassesPerClient(num_classes_per_client=1),
    QuantitySkew(),
    QuantitySkew(alpha=0.01, min_per_client=3),
]


def describe(partition: Partition) -> str:
    return f"{type(partition).__name__}({', '.join(f'{k}={v}' for k, v in vars(partition).items())})"


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def balanced(num_classes: int, per_class: int, seed: int = 0) -> Ints:
    return rng(seed).permutation(np.repeat(np.arange(num_classes), per_class))


@pytest.mark.parametrize("partition", VARIANTS, ids=describe)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_every_example_goes_to_exactly_one_client(partition: Partition, data: st.DataObject) -> None:
    num_classes = data.draw(st.integers(1, 12), "num_classes")
    labels = np.array(data.draw(st.lists(st.integers(0, num_classes - 1), max_size=200), "labels"), dtype=np.int64)
    num_clients = data.draw(st.integers(1, 20), "num_clients")
    seed = data.draw(st.integers(0, 2**32), "seed")
    before = labels.copy()
    try:
        parts = partition(labels, num_clients, num_classes=num_classes, rng=rng(seed))
    except PartitionError:
        # Whether it may refuse is another test's matter; it must not do so with another exception.
        return
    assert len(parts) == num_clients
    owner: dict[int, int] = {}
    for client, part in enumerate(parts):
        assert part.dtype == np.int64
        assert part.tolist() == sorted(part.tolist())
        assert len(part) >= partition.min_per_client
        for example in part.tolist():
            assert example not in owner
            owner[example] = client
    assert sorted(owner) == list(range(len(labels)))
    again = partition(labels, num_clients, num_classes=num_classes, rng=rng(seed))
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))
    assert np.array_equal(labels, before)


@settings(deadline=None, max_examples=200)
@given(
    st.integers(1, 20),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 8),
    st.integers(0, 40),
    st.integers(0, 2**32),
)
def test_promised_minima_are_kept(
    clients: int, minimum: int, shards: int, num_classes: int, surplus: int, seed: int
) -> None:
    alpha = (1e-3, 0.1, 1.0, 100.0)[seed % 4]
    promising = [
        (Iid(minimum), minimum),
        (Dirichlet(alpha, "per_client", minimum), minimum),
        (QuantitySkew(alpha, minimum), minimum),
        (Shards(shards, True, minimum), max(shards, -(-minimum // shards) * shards)),
        (Shards(shards, False, minimum), shards * minimum),
    ]
    for partition, needed_per_client in promising:
        labels = rng(seed).integers(0, num_classes, size=clients * needed_per_client + surplus)
        parts = partition(labels, clients, num_classes=num_classes, rng=rng(seed))
        assert min(map(len, parts)) >= minimum


@pytest.mark.parametrize("partition", VARIANTS, ids=describe)
def test_seeds_give_different_partitions(partition: Partition) -> None:
    labels = balanced(10, 60)
    one, other = (partition(labels, 10, num_classes=10, rng=rng(seed)) for seed in (0, 1))
    assert any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("partition", VARIANTS, ids=describe)
def test_60000_examples_over_100_clients_take_no_time(partition: Partition) -> None:
    labels = balanced(10, 6000)
    start = time.perf_counter()
    try:
        partition(labels, 100, num_classes=10, rng=rng())
    except PartitionError:
        assert isinstance(partition, Dirichlet)
        assert partition.alpha < 0.1
    assert time.perf_counter() - start < 5  # seconds; a hundredth of it is usual


@pytest.mark.parametrize("partition", VARIANTS, ids=describe)
@pytest.mark.parametrize(
    ("labels", "num_clients", "num_classes", "says"),
    [
        (np.zeros(5, np.int64), 6, 2, "too few"),
        (np.zeros(0, np.int64), 1, 2, "too few"),
        (np.zeros(50, np.int64), 0, 2, "num_clients must be an integer of at least 1, got 0"),
        (np.zeros(50, np.int64), True, 2, "num_clients"),
        (np.zeros(50, np.int64), 2, 0, "num_classes"),
        (np.arange(50), 2, 49, r"0\.\.48, got 0\.\.49"),
        (np.arange(50) - 1, 2, 49, r"got -1\.\.48"),
        (np.zeros(50), 2, 2, "one integer per example"),
        (np.zeros((50, 1), np.int64), 2, 2, "one integer per example"),
    ],
)
def test_bad_input_is_refused(
    partition: Partition, labels: np.ndarray, num_clients: int, num_classes: int, says: str
) -> None:
    with pytest.raises(PartitionError, match=says):
        partition(labels, num_clients, num_classes=num_classes, rng=rng())


@pytest.mark.parametrize("kind", PARTITIONS.values())
@pytest.mark.parametrize("minimum", [0, -1, 1.5, True, "1"])
def test_bad_minimum_is_refused(kind: type[Partition], minimum: int) -> None:
    with pytest.raises(PartitionError, match="min_per_client must be an integer of at least 1"):
        kind(min_per_client=minimum)


@pytest.mark.parametrize("kind", [Dirichlet, QuantitySkew])
@pytest.mark.parametrize("alpha", [0, -1.0, float("nan"), float("inf"), True, "0.5"])
def test_bad_alpha_is_refused(kind: type[Dirichlet], alpha: float) -> None:
    with pytest.raises(PartitionError, match="alpha must be a finite number greater than 0"):
        kind(alpha=alpha)


def test_other_bad_options_are_refused() -> None:
    with pytest.raises(PartitionError, match="family must be 'per_class' or 'per_client', got 'classes'"):
        Dirichlet(family="classes")  # type: ignore[arg-type]
    with pytest.raises(PartitionError, match="shards_per_client"):
        Shards(shards_per_client=0)
    with pytest.raises(PartitionError, match="num_classes_per_client"):
        ClassesPerClient(num_classes_per_client=0)


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


def test_subclass_that_loses_an_example_is_caught() -> None:
    class Lossy(Partition):
        def assign(self, labels: Ints, num_clients: int, num_classes: int, rng: np.random.Generator) -> Ints:
            return np.zeros(len(labels) - 1, np.int64)

    class Unfair(Partition):
        def assign(self, labels: Ints, num_clients: int, num_classes: int, rng: np.random.Generator) -> Ints:
            return np.zeros(len(labels), np.int64)

    with pytest.raises(PartitionError, match="Lossy: assign must return one client"):
        Lossy()(balanced(2, 10), 2, num_classes=2, rng=rng())
    with pytest.raises(PartitionError, match="client 1 of 2 gets 0 examples, fewer than min_per_client = 1"):
        Unfair()(balanced(2, 10), 2, num_classes=2, rng=rng())


def test_iid_sizes_differ_by_one_and_sorted_labels_are_mixed() -> None:
    labels = np.repeat(np.arange(10), 100)  # sorted: contiguous slices would give each client one class
    counts = class_counts(Iid()(labels, 7, num_classes=10, rng=rng()), labels, 10)
    assert set(counts.sum(axis=1)) == {142, 143}
    assert counts.min() > 3


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


@settings(deadline=None, max_examples=100)
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
    assert counts.min() >= 0
    assert np.ptp(counts.sum(axis=1)) <= 1
    try:
        counts = Dirichlet(alpha)._per_class(available, clients, rng(seed))
    except PartitionError:
        return
    assert counts.sum(axis=0).tolist() == classes
    assert counts.min() >= 0


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


def test_shards_are_the_report_s_200_shards_of_250() -> None:
    labels = balanced(10, 5000)
    parts = Shards(shards_per_client=2)(labels, 100, num_classes=10, rng=rng())
    counts = class_counts(parts, labels, 10)
    assert (counts.sum(axis=1) == 500).all()
    assert np.isin(counts, [0, 250, 500]).all()
    assert set((counts > 0).sum(axis=1)) == {1, 2}


def test_shards_against_a_slow_oracle() -> None:
    # Which client owns the shard at each place of the sorted order: constant within a shard of floor or ceil size.
    labels = balanced(3, 37)
    parts = Shards(shards_per_client=2)(labels, 5, num_classes=3, rng=rng())
    counts = class_counts(parts, labels, 3)
    boundaries = [-(-len(labels) * shard // 10) for shard in range(11)]
    shards = [np.sort(labels)[a:b] for a, b in pairwise(boundaries)]
    assert {len(shard) for shard in shards} == {11, 12}
    pools = sorted(np.bincount(shard, minlength=3).tolist() for shard in shards)

    # Every client's counts must be the sum of two shards, and each shard be used once.
    def match(clients: list[list[int]], left: list[list[int]]) -> bool:
        if not clients:
            return not left
        for i, j in combinations(range(len(left)), 2):
            if [a + b for a, b in zip(left[i], left[j], strict=True)] == clients[0]:
                rest = [shard for k, shard in enumerate(left) if k not in (i, j)]
                if match(clients[1:], rest):
                    return True
        return False

    assert match(counts.tolist(), pools)


def test_shards_shuffle_ties() -> None:
    labels = np.zeros(1000, np.int64)
    first = Shards()(labels, 10, num_classes=1, rng=rng())[0]
    # Unshuffled, it would be two runs of neighbors; shuffled, one in ten has its neighbor.
    assert (np.diff(first) > 1).mean() > 0.5


def test_unbalanced_shards_are_the_report_s_first_form() -> None:
    labels = balanced(10, 5000)
    numbers = []
    for seed in range(20):
        parts = Shards(shards_per_client=10, balanced=False)(labels, 100, num_classes=10, rng=rng(seed))
        sizes = np.array([len(part) for part in parts])
        assert (sizes % 50 == 0).all()
        assert sizes.sum() == 50_000
        numbers.append(sizes // 50)
    drawn = np.concatenate(numbers)
    # n_i ~ U{1..30} has mean 15.5 and is scaled to a mean of 10: up to about 20, all about equally often; those that
    # are scaled below 1 get 1, and one more of what the rounding leaves over (which also narrows the spread a little).
    assert drawn.min() in (1, 2)
    assert 19 <= drawn.max() <= 24
    assert drawn.std() == pytest.approx(np.sqrt((30**2 - 1) / 12) * 10 / 15.5, rel=0.15)


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 2**32))
def test_unequal_numbers_of_shards_use_all_and_leave_nobody_out(clients: int, shards: int, seed: int) -> None:
    number = Shards(shards, balanced=False)._unequal_numbers(clients * shards, clients, rng(seed))
    assert number.sum() == clients * shards
    assert number.min() >= 1


def test_too_many_shards_are_refused() -> None:
    with pytest.raises(PartitionError, match="15 examples are too few for 4 clients x 4 shards"):
        Shards(shards_per_client=4)(np.zeros(15, np.int64), 4, num_classes=1, rng=rng())


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 30), st.integers(0, 2**32))
def test_classes_per_client_is_bounded_and_complete(width: int, num_classes: int, clients: int, seed: int) -> None:
    labels = np.repeat(np.arange(num_classes), 200)
    partition = ClassesPerClient(width)
    if width > num_classes:
        with pytest.raises(PartitionError, match="classes have examples"):
            partition(labels, clients, num_classes=num_classes, rng=rng(seed))
    elif width * clients < num_classes:
        with pytest.raises(PartitionError, match="cannot take all"):
            partition(labels, clients, num_classes=num_classes, rng=rng(seed))
    else:
        counts = class_counts(partition(labels, clients, num_classes=num_classes, rng=rng(seed)), labels, num_classes)
        assert (counts > 0).sum(axis=1).max() <= width
        assert (counts.sum(axis=0) == 200).all()
        for row in counts:
            # Consecutive, cyclically: rotating the row somewhere puts everything into its first `width` places.
            assert any(np.roll(row, -start)[width:].sum() == 0 for start in range(num_classes))


def test_classes_per_client_has_unequal_sizes_and_skips_absent_classes() -> None:
    labels = np.repeat([2, 5, 7, 11], 500)
    parts = ClassesPerClient(2)(labels, 20, num_classes=12, rng=rng())
    sizes = [len(part) for part in parts]
    assert max(sizes) > 3 * min(sizes)
    assert min(sizes) > 5


def test_classes_per_client_says_when_the_minimum_cannot_be_kept() -> None:
    with pytest.raises(PartitionError, match=r"client \d+ of 20 gets \d examples.*in the best of 1000 draws"):
        ClassesPerClient(1, min_per_client=10)(balanced(10, 20), 20, num_classes=10, rng=rng())


def test_quantity_skew_gives_out_the_minimum_first() -> None:
    labels = balanced(10, 600)
    sizes = np.array([len(p) for p in QuantitySkew(0.05, min_per_client=10)(labels, 50, num_classes=10, rng=rng())])
    assert sizes.min() >= 10
    assert sizes.max() > 1000
    counts = class_counts(QuantitySkew(0.5)(labels, 5, num_classes=10, rng=rng()), labels, 10)
    large = counts[counts.sum(axis=1) > 1000]
    assert len(large)
    assert (large / large.sum(axis=1, keepdims=True)) == pytest.approx(0.1, abs=0.04)


def test_apportioning_against_its_definition() -> None:
    generator = rng()
    for _ in range(200):
        shares = generator.dirichlet(np.full(generator.integers(1, 30), 0.2), size=4)
        shares[:, generator.integers(shares.shape[1])] *= generator.integers(0, 2)
        shares[shares.sum(axis=1) == 0] = 1.0
        totals = generator.integers(0, 1000, size=4)
        counts = _apportion(shares, totals)
        exact = shares / shares.sum(axis=1, keepdims=True) * totals[:, None]
        assert (counts.sum(axis=1) == totals).all()
        assert (np.abs(counts - exact) <= 1 + 1e-9).all()
        assert (counts >= 0).all()
        assert (counts[shares == 0] == 0).all()


def test_partitions_need_numpy_only() -> None:
    code = "import sys, fedsec.data.partitions; print(*(m for m in ('torch', 'scipy', 'sklearn') if m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""
