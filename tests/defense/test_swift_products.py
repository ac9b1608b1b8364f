"""Long rows: inner products by float32 against float64, and that the gate reads them."""

import pytest
import torch
from torch import Tensor

from fedsec.defense import ColumnShards, Gram, Pipeline, gram_matrix
from fedsec.defense.swift_products import swift_products
from fedsec.defenses import NNM, Bucketing, Median, MultiKrum
from fedsec.errors import AggregationError

COLUMNS = (1 << 16) + 37


def normal(rows: int, columns: int = COLUMNS, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def distances(updates: Tensor) -> Tensor:
    wide = updates.double()
    return torch.stack([(wide - row).square().sum(1) for row in wide])


def test_products_of_long_rows_are_nearly_those_of_float64() -> None:
    updates = normal(5)
    updates[1] *= 1e-9
    updates[2] = 0.1  # rounds the same way at every step
    updates[3] *= 1e6
    wide = updates.double()
    lengths = wide.square().sum(1).sqrt()
    error = (swift_products(updates) - wide @ wide.T) / lengths / lengths[:, None]
    assert error.abs().max() < 1e-6
    assert error[[0, 1, 3, 4]][:, [0, 1, 3, 4]].abs().max() < 1e-7
    assert torch.equal(swift_products(updates), swift_products(updates).T)
    across = swift_products(updates, updates[3:])
    assert ((across - wide @ wide[3:].T) / lengths[:, None] / lengths[3:]).abs().max() < 1e-6


def test_the_result_does_not_depend_on_threads() -> None:
    updates, threads = normal(6, 300_000), torch.get_num_threads()
    results = []
    for number in (1, 2, 3):
        torch.set_num_threads(number)
        results.append(swift_products(updates))
    torch.set_num_threads(threads)
    assert all(torch.equal(results[0], result) for result in results)


@pytest.mark.parametrize("odd", [torch.nan, torch.inf, -torch.inf, 1e25, -3e38])
def test_float32_does_not_do(odd: float) -> None:
    updates = normal(3)
    updates[1, 5] = odd
    assert swift_products(updates) is None
    if not abs(odd) < torch.inf:
        assert swift_products(updates[::2], updates[1:2]) is None


def test_small_short_and_other_numbers_are_left_to_float64() -> None:
    updates = normal(3)
    assert swift_products(updates * 1e-22) is None
    assert swift_products(updates[:, : 1 << 15]) is None
    assert swift_products(updates.double()) is None
    assert swift_products(updates.T.contiguous().T) is None
    updates[1] = 0
    assert swift_products(updates) is not None
    assert swift_products(updates)[1].tolist() == [0, 0, 0]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Each pass in float64: whether it was about a center."""
    calls: list[bool] = []
    about = gram_matrix._about

    def counted(updates: Tensor, references: Tensor | None, center: Tensor | None, unit: float) -> Tensor:
        calls.append(center is not None)
        return about(updates, references, center, unit)

    monkeypatch.setattr(gram_matrix, "_about", counted)
    return calls


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("apart", []), ("near", [True]), ("equal", [True]), ("far away", [True]), ("huge", [False])],
)
def test_distances_of_long_rows(kind: str, expected: list[bool], passes: list[bool]) -> None:
    updates = normal(6)
    if kind == "near":
        updates[2] = updates[1] + 0.01 * updates[3]
    if kind == "equal":
        updates[4] = updates[5] = updates[0]
    if kind == "far away":
        updates = 1000 + 0.01 * updates
        updates[0] = -1e9
    if kind == "huge":
        updates[0] = 1e30
    gram = Gram.of(updates)
    torch.testing.assert_close(gram.squared_distances(), distances(updates), rtol=1e-5, atol=0)
    torch.testing.assert_close(gram.squared_norms(), updates.double().square().sum(1), rtol=1e-6, atol=0)
    assert passes == expected


def test_references_of_long_rows(passes: list[bool]) -> None:
    updates, references = normal(4), normal(2, seed=1)
    gram = Gram.of(updates, references)
    points = torch.cat([updates, references])
    torch.testing.assert_close(gram.squared_distances(references=True), distances(points), rtol=1e-5, atol=0)
    products = points.double() @ points.double().T
    scale = products.diagonal().max()
    torch.testing.assert_close(gram.inner_products(references=True), products, rtol=0, atol=1e-7 * float(scale))
    assert passes == []
    references[1] = updates[2] + 1e-4 * references[0]
    near = Gram.of(updates, references)
    points = torch.cat([updates, references])
    torch.testing.assert_close(near.squared_distances(references=True), distances(points), rtol=1e-5, atol=0)
    assert passes == [True]


RULES = [MultiKrum(2), Pipeline([NNM(2), Median()]), Pipeline([Bucketing(1), MultiKrum(2)])]


@pytest.mark.parametrize("rule", RULES, ids=["rule", "mixture", "mixture that reads none"])
@pytest.mark.parametrize("odd", [torch.nan, torch.inf])
def test_the_gate_holds_back_long_rows_that_are_not_finite(rule: MultiKrum, odd: float) -> None:
    updates = normal(9)
    updates[5, 70] = odd
    aggregate = rule.aggregate(updates, generator=torch.Generator().manual_seed(0))
    assert aggregate.rejected == (5,)
    assert aggregate.influence[5] == 0
    assert aggregate.vector.isfinite().all()
    if isinstance(rule, MultiKrum):
        assert torch.equal(aggregate.vector, MultiKrum(1)(updates[[0, 1, 2, 3, 4, 6, 7, 8]]))
    updates[:5, 9] = odd
    with pytest.raises(AggregationError, match=r"rows \[0, 1, 2, 3, 4, 5\] of 9 hold NaN or infinity"):
        rule(updates, generator=torch.Generator().manual_seed(0))


def test_a_gate_that_read_the_products_passes_over_the_rows_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    import fedsec.defense.aggregation as module

    def looked(shards: ColumnShards) -> tuple[int, ...]:
        raise AssertionError("the rows were looked at")

    monkeypatch.setattr(module, "lost_rows", looked)
    for rule in RULES[:2]:
        rule(normal(9))
    with pytest.raises(AssertionError, match="looked at"):
        Median()(normal(9))
