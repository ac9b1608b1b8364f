"""Partitions: the contract on drawn shapes, each kind against what its docstring promises."""

import subprocess
import sys

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
@settings(deadline=None, max_examples=30)
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


@settings(deadline=None, max_examples=30)
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


def test_lists_of_different_lengths_are_no_owners_and_a_forgotten_constructor_does_no_harm() -> None:
    class Lists(Partition):
        def __init__(self) -> None:
            """Calls no other constructor."""

        def assign(self, labels: Ints, num_clients: int, num_classes: int, rng: np.random.Generator) -> list[list[int]]:
            return [[0, 1, 2], [3, 4]]

    with pytest.raises(PartitionError, match=r"Lists: assign must return one client in 0\.\.1 .* got list of rows"):
        Lists()(np.repeat(np.arange(10), 15), 2, num_classes=10, rng=np.random.default_rng(0))


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


def test_partitions_need_numpy_only() -> None:
    code = "import sys, fedsec.data.partitions; print(*(m for m in ('torch', 'scipy', 'sklearn') if m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""


def test_what_is_impossible_by_number_is_refused_without_the_data() -> None:
    Iid(min_per_client=3).check_size(60, 20)
    with pytest.raises(PartitionError, match="iid: 60 examples are too few for 1000000 clients with at least 1 each"):
        Iid().check_size(60, 10**6)
    with pytest.raises(PartitionError, match="60 examples are too few for 31 clients x 2 shards"):
        Shards().check_size(60, 31)
