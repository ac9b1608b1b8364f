"""Mean, median and trimmed mean against slow independent oracles in NumPy."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedsec.defense import Aggregator
from fedsec.defenses import Mean, Median, TrimmedMean
from fedsec.errors import InputError

QUICK = settings(deadline=None, max_examples=30)

shapes = st.tuples(st.integers(1, 23), st.integers(1, 40), st.integers(0, 10_000), st.booleans())


def matrix(shape: tuple[int, int, int, bool]) -> Tensor:
    """Normal values, or a few small integers so that ties abound."""
    rows, columns, seed, ties = shape
    rng = np.random.default_rng(seed)
    values = rng.integers(-2, 3, (rows, columns)) if ties else rng.standard_normal((rows, columns))
    return torch.from_numpy(values.astype(np.float64))


def trims(rows: int) -> range:
    return range((rows + 1) // 2)


def influence_by_hand(column: list[float], trim: int) -> list[Fraction]:
    """Who contributed the kept ranks of one column: ties share, in exact arithmetic."""
    ranks = sorted(column)
    kept = ranks[trim : len(column) - trim]
    return [Fraction(kept.count(value), ranks.count(value) * len(kept)) for value in column]


@QUICK
@given(shapes)
def test_median_is_numpys(shape: tuple[int, int, int, bool]) -> None:
    updates = matrix(shape)
    np.testing.assert_array_equal(Median()(updates).numpy(), np.median(updates.numpy(), axis=0))


@QUICK
@given(shapes, st.data())
def test_trimmed_mean_is_numpys(shape: tuple[int, int, int, bool], data: st.DataObject) -> None:
    updates = matrix(shape)
    trim = data.draw(st.sampled_from(trims(len(updates))))
    kept = np.sort(updates.numpy(), axis=0)[trim : len(updates) - trim]
    actual = TrimmedMean(num_trimmed_per_side=trim)(updates).numpy()
    np.testing.assert_allclose(actual, kept.mean(axis=0), rtol=1e-12, atol=1e-14)


@QUICK
@given(shapes)
def test_mean_is_numpys(shape: tuple[int, int, int, bool]) -> None:
    updates = matrix(shape)
    weights = np.random.default_rng(shape[2]).uniform(0.1, 3, len(updates))
    np.testing.assert_allclose(Mean()(updates).numpy(), updates.numpy().mean(axis=0), rtol=1e-12, atol=1e-14)
    weighted = Mean().aggregate(updates, torch.from_numpy(weights))
    expected = np.average(updates.numpy(), axis=0, weights=weights)
    np.testing.assert_allclose(weighted.vector.numpy(), expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(weighted.influence.numpy(), weights / weights.sum(), rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_floats_round_once(dtype: torch.dtype) -> None:
    updates = torch.randn(20, 500, generator=torch.Generator().manual_seed(0)).to(dtype)
    exact = np.sort(updates.double().numpy(), axis=0)[4:16].mean(axis=0)
    error = np.abs(TrimmedMean(num_trimmed_per_side=4)(updates).double().numpy() - exact)
    assert np.all(error <= 0.51 * torch.finfo(dtype).eps * np.maximum(np.abs(exact), 0.01))


def test_median_of_an_even_number_is_the_midpoint() -> None:
    updates = torch.tensor([[1.0, 8], [7, 2], [3, 4], [100, -100]])
    assert Median()(updates).tolist() == [5, 3]
    assert Median()(updates[:2]).tolist() == [4, 5]
    assert Median()(updates[:1]).tolist() == [1, 8]


@QUICK
@given(shapes, st.data())
def test_influence_in_exact_arithmetic(shape: tuple[int, int, int, bool], data: st.DataObject) -> None:
    updates = matrix(shape)
    rows = len(updates)
    trim = data.draw(st.sampled_from(trims(rows)))
    for rule, trimmed in ((TrimmedMean(num_trimmed_per_side=trim), trim), (Median(), (rows - 1) // 2)):
        by_hand = np.array([influence_by_hand(column, trimmed) for column in updates.T.tolist()], dtype=np.float64)
        influence = rule.aggregate(updates).influence
        np.testing.assert_allclose(influence.numpy(), by_hand.mean(axis=0), rtol=1e-9, atol=1e-12)
        assert abs(float(influence.sum()) - 1) < 1e-12


def test_influence_of_a_known_case() -> None:
    updates = torch.tensor([[0.0, 5], [1, 5], [2, 5], [3, 9]])
    assert Median().aggregate(updates).influence.tolist() == pytest.approx([1 / 6, 5 / 12, 5 / 12, 0])


@QUICK
@given(shapes, st.integers(0, 1000))
def test_order_of_clients_does_not_matter(shape: tuple[int, int, int, bool], seed: int) -> None:
    updates = matrix(shape)
    order = torch.randperm(len(updates), generator=torch.Generator().manual_seed(seed))
    assert torch.equal(Median()(updates[order]), Median()(updates))
    for rule in (Mean(), Median(), TrimmedMean(trim_per_side=0.2)):
        one, other = rule.aggregate(updates), rule.aggregate(updates[order])
        np.testing.assert_allclose(other.vector, one.vector, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(other.influence, one.influence[order], rtol=1e-12, atol=1e-14)


@QUICK
@given(shapes, st.floats(-100, 100), st.floats(-10, 10))
def test_affine_equivariance(shape: tuple[int, int, int, bool], shift: float, factor: float) -> None:
    updates = matrix(shape)
    for rule in (Mean(), Median(), TrimmedMean(trim_per_side=0.3)):
        expected = rule(updates).numpy() * factor + shift
        np.testing.assert_allclose(rule(updates * factor + shift), expected, rtol=1e-9, atol=1e-9)


@QUICK
@given(
    clients=st.integers(3, 25),
    seed=st.integers(0, 1000),
    huge=st.sampled_from([1e30, -1e30, 3e38, -3e38]),
    data=st.data(),
)
def test_breakdown(clients: int, seed: int, huge: float, data: st.DataObject) -> None:
    num_byzantine = data.draw(st.integers(1, (clients - 1) // 2))
    generator = torch.Generator().manual_seed(seed)
    updates = torch.randn(clients, 30, generator=generator)
    byzantine = torch.randperm(clients, generator=generator)[:num_byzantine]
    honest = torch.ones(clients, dtype=torch.bool).index_fill(0, byzantine, False)
    low, high = updates[honest].amin(0), updates[honest].amax(0)
    updates[byzantine] = huge
    median = Median()(updates)
    assert ((median >= low) & (median <= high)).all()
    slack = 1e-6 * (high - low)
    trimmed = TrimmedMean(num_trimmed_per_side=num_byzantine)(updates)
    assert ((trimmed >= low - slack) & (trimmed <= high + slack)).all()
    assert (Mean()(updates).abs() > 1e28).all()


@pytest.mark.parametrize("rule", [Median(), TrimmedMean(num_trimmed_per_side=4)], ids=["median", "trimmed_mean"])
def test_one_byzantine_too_many(rule: Aggregator) -> None:
    updates = torch.randn(9, 20, generator=torch.Generator().manual_seed(0))
    updates[:4] = 1e30
    assert rule(updates).abs().max() < 10
    updates[:5] = 1e30
    assert rule(updates).min() > 1e20


@pytest.mark.parametrize(
    ("fraction", "clients", "number"),
    [(0.1, 30, 3), (0.3, 10, 3), (0.07, 100, 7), (0.29, 100, 29), (0.4, 20, 8), (0.2, 9, 1), (0.49, 3, 1), (0.0, 5, 0)],
)
def test_fraction_to_number(fraction: float, clients: int, number: int) -> None:
    assert TrimmedMean(trim_per_side=fraction).max_rejected(clients) == number
    updates = torch.randn(clients, 5, generator=torch.Generator().manual_seed(0))
    by_number = TrimmedMean(num_trimmed_per_side=number)(updates)
    assert torch.equal(TrimmedMean(trim_per_side=fraction)(updates), by_number)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"trim_per_side": 0.1, "num_trimmed_per_side": 1},
        {"trim_per_side": 0.5},
        {"trim_per_side": -0.1},
        {"trim_per_side": float("nan")},
        {"num_trimmed_per_side": -1},
    ],
)
def test_malformed_options(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match="trim"):
        TrimmedMean(**options)  # type: ignore[arg-type]


def test_more_trimmed_than_there_are() -> None:
    with pytest.raises(InputError, match="trims 3 clients at each end, which leaves none of 6; at most 2"):
        TrimmedMean(num_trimmed_per_side=3)(torch.zeros(6, 2))


@pytest.mark.parametrize(("clients", "most"), [(1, 0), (2, 0), (3, 1), (10, 4), (11, 5)])
def test_median_withstands_a_minority(clients: int, most: int) -> None:
    assert Median().max_rejected(clients) == most
    assert Mean().max_rejected(clients) == clients - 1
