"""What every aggregator inherits: the checks, the gate, the weights, chunks and threads."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float
from torch import Tensor

from fedsec.defense import Aggregator, Cohort, CoordinateRule, Scratch
from fedsec.defense import aggregation as gate
from fedsec.defense import columns as chunking
from fedsec.defenses import Mean, Median, TrimmedMean
from fedsec.errors import AggregationError, InputError

RULES = [Mean(), Median(), TrimmedMean(trim_per_side=0.2), TrimmedMean(num_trimmed_per_side=1)]


def normal(rows: int, columns: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class Whole(Aggregator):
    """A plugin that is no coordinate rule: it picks a row."""

    def __init__(self, row: int = 0) -> None:
        self.row = row

    def max_rejected(self, num_clients: int) -> int:
        return num_clients - 2

    def combine(self, cohort: Cohort) -> Float[Tensor, "parameters"]:
        return cohort.updates[self.row]

    def shares(self, cohort: Cohort) -> Float[Tensor, "clients"]:
        return torch.eye(len(cohort.updates))[self.row]


def test_gate_rejects_reports_and_keeps_row_numbers() -> None:
    updates = normal(6, 50)
    updates[1, 3], updates[4, 0] = torch.nan, -torch.inf
    finite = updates[[0, 2, 3, 5]]
    for rule in (Mean(), Median(), Whole()):
        aggregate = rule.aggregate(updates)
        assert aggregate.rejected == (1, 4)
        assert torch.equal(aggregate.vector, rule(finite))
        assert torch.equal(aggregate.vector, rule(updates))
        assert torch.equal(aggregate.influence[[0, 2, 3, 5]], rule.aggregate(finite).influence)
        assert aggregate.influence[[1, 4]].tolist() == [0, 0]


def test_opposite_infinities_and_overflowing_sums() -> None:
    largest = torch.finfo(torch.float32).max
    updates = torch.full((4, 8), largest)
    updates[2] = -largest
    assert Mean().aggregate(updates).rejected == ()
    assert Mean()(updates).tolist() == [largest / 2] * 8
    updates[3, 0], updates[3, 1] = torch.inf, -torch.inf
    assert Mean().aggregate(updates).rejected == (3,)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("clients", [3, 6, 9, 11, 14])  # with 6 and more, rounding alone exceeds the largest number
def test_no_finite_input_overflows(clients: int, dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    updates = torch.full((clients, 5), largest, dtype=dtype)
    updates[: clients // 2, 1] = 0
    for trim in (0, 1):
        for rule in (Mean(), Median(), TrimmedMean(num_trimmed_per_side=trim)):
            kept = clients - 2 * trim if isinstance(rule, TrimmedMean) else clients
            zeros = clients // 2 - (trim if isinstance(rule, TrimmedMean) else 0)
            for sign in (1, -1):
                scaled = sign * rule(sign * updates).double() / largest
                torch.testing.assert_close(scaled[0].item(), 1.0, rtol=0.01, atol=0)
                assert scaled.isfinite().all()
                if not isinstance(rule, Median):
                    torch.testing.assert_close(scaled[1].item(), 1 - zeros / kept, rtol=0.01, atol=0)


def test_too_few_rows_left_names_them() -> None:
    updates = normal(5, 4)
    updates[[0, 2, 3]] = torch.nan
    with pytest.raises(AggregationError, match=r"Median: rows \[0, 2, 3\] of 5 .* at most 2"):
        Median()(updates)
    with pytest.raises(AggregationError, match=r"rows \[0, 2, 3\] of 5 .* at most 1"):
        TrimmedMean(trim_per_side=0.2)(updates)
    assert Mean().aggregate(updates).rejected == (0, 2, 3)
    with pytest.raises(AggregationError, match=r"rows \[0, 1, 2, 3, 4\] of 5 .* at most 4"):
        Mean()(updates * torch.nan)


def test_rejected_rows_shrink_the_budget() -> None:
    updates = normal(10, 30)
    updates[[2, 7], 0] = torch.nan
    finite = updates[[0, 1, 3, 4, 5, 6, 8, 9]]
    assert torch.equal(TrimmedMean(trim_per_side=0.3)(updates), TrimmedMean(num_trimmed_per_side=1)(finite))
    assert torch.equal(TrimmedMean(num_trimmed_per_side=2)(updates), TrimmedMean(num_trimmed_per_side=0)(finite))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{type(rule).__name__}{vars(rule)}")
@pytest.mark.parametrize(
    "updates",
    [torch.zeros(5), torch.zeros(5, 2, 2), torch.zeros(0, 5), torch.zeros(5, 0), torch.zeros(5, 2).long()],
    ids=lambda updates: f"{updates.dtype}{list(updates.shape)}",
)
def test_malformed_updates(rule: Aggregator, updates: Tensor) -> None:
    with pytest.raises(InputError, match="floating-point matrix"):
        rule(updates)
    with pytest.raises(InputError, match="floating-point matrix"):
        rule.aggregate(updates)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{type(rule).__name__}{vars(rule)}")
@pytest.mark.parametrize("weights", [[1.0, 1, 1], [1, 1, 1, -1, 1], [1, 1, 1, 1, torch.nan], [0, 0, 0, 0, 0]])
def test_malformed_weights(rule: Aggregator, weights: list[float]) -> None:
    with pytest.raises(InputError, match="weight"):
        rule(normal(5, 3), torch.tensor(weights))


def test_weights_are_shared_out_among_the_finite_rows() -> None:
    updates, weights = normal(4, 6, dtype=torch.float64), torch.tensor([1.0, 2, 3, 4])
    updates[3, 0] = torch.inf
    aggregate = Mean().aggregate(updates, weights)
    torch.testing.assert_close(aggregate.influence, torch.tensor([1 / 6, 1 / 3, 1 / 2, 0], dtype=torch.float64))
    torch.testing.assert_close(aggregate.vector, (updates[:3] * weights[:3, None]).sum(0) / 6)
    with pytest.raises(AggregationError, match="no weight"):
        Mean()(updates, torch.tensor([0.0, 0, 0, 1]))
    assert torch.equal(Median()(updates, torch.tensor([0.0, 0, 0, 1])), Median()(updates))
    huge = torch.tensor([1e308, 1e308, 1e308, 1e308], dtype=torch.float64)
    assert torch.equal(Mean()(updates, huge), Mean()(updates))


def test_subclass_that_breaks_the_contract() -> None:
    class Wrong(Whole):
        def combine(self, cohort: Cohort) -> Tensor:
            return cohort.updates

    class InPlace(Whole):
        def combine(self, cohort: Cohort) -> Tensor:
            return cohort.updates.mul_(2)[0]

    class InPlaceShares(Whole):
        def shares(self, cohort: Cohort) -> Tensor:
            return cohort.updates.mul_(2)[:, 0]

    with pytest.raises(InputError, match=r"Wrong\.combine gave .* expected one value a column"):
        Wrong()(normal(3, 2))
    with pytest.raises(InputError, match=r"InPlace\.combine changed `updates` in place"):
        InPlace()(normal(3, 2))
    with pytest.raises(InputError, match=r"InPlaceShares\.shares changed `updates` in place"):
        InPlaceShares().aggregate(normal(3, 2))
    with pytest.raises(TypeError, match="may not define __call__"):
        type("Cheat", (Median,), {"__call__": lambda self, updates, weights=None: updates[0]})
    with pytest.raises(TypeError, match="may not define combine"):
        type("Cheat", (Median,), {"combine": lambda self, cohort: cohort.updates[0]})


def test_call_does_not_work_out_influence() -> None:
    class NoShares(Whole):
        def shares(self, cohort: Cohort) -> Tensor:
            raise NotImplementedError

    assert NoShares()(normal(3, 2)).shape == (2,)


@settings(deadline=None, max_examples=25)
@given(
    clients=st.integers(1, 9),
    columns=st.integers(1, 700),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    narrow=st.sampled_from([64, 128, 2048]),
)
def test_bits_do_not_depend_on_chunks_or_threads(clients: int, columns: int, dtype: torch.dtype, narrow: int) -> None:
    updates = normal(clients, columns, dtype=dtype)
    weights = torch.rand(clients, generator=torch.Generator().manual_seed(1)) + 0.1
    trimmed = TrimmedMean(num_trimmed_per_side=(clients - 1) // 3)
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        results = []
        for width, threads in ((32768, 1), (narrow, 1), (narrow, 2), (narrow, 3)):
            patch.setattr(chunking, "_MIN_COLUMNS", 64)
            patch.setattr(chunking, "_CPU_COLUMNS", width)
            torch.set_num_threads(threads)
            results.append([rule.aggregate(updates, weights) for rule in (Mean(), Median(), trimmed)])
        torch.set_num_threads(before)
    for other in results[1:]:
        for first, second in zip(results[0], other, strict=True):
            assert torch.equal(first.vector, second.vector)
            torch.testing.assert_close(first.influence, second.influence, rtol=1e-12, atol=1e-15)


def test_large_matrix_on_several_threads(threads: None) -> None:
    updates = normal(7, 200_003)
    torch.set_num_threads(1)
    alone = [rule.aggregate(updates) for rule in RULES]
    torch.set_num_threads(2)
    for rule, single in zip(RULES, alone, strict=True):
        double = rule.aggregate(updates)
        assert torch.equal(single.vector, double.vector)
        assert torch.equal(single.influence, double.influence)
    assert torch.get_num_threads() == 2
    assert torch.equal(Median()(updates), updates.sort(0).values[3])


def test_an_error_in_a_thread_reaches_the_caller(threads: None) -> None:
    class Broken(CoordinateRule):
        def max_rejected(self, num_clients: int) -> int:
            return 0

        def reduce(self, chunk: Tensor, cohort: Cohort, scratch: Scratch) -> Tensor:
            raise ZeroDivisionError

        def share(self, chunk: Tensor, cohort: Cohort, scratch: Scratch) -> Tensor:
            raise ZeroDivisionError

    torch.set_num_threads(2)
    with pytest.raises(ZeroDivisionError):
        Broken()(normal(3, 200_000))


def test_gradients_inference_mode_and_strides(threads: None) -> None:
    updates = normal(5, 150_000)
    torch.set_num_threads(2)
    for rule in RULES:
        expected = rule(updates)
        assert torch.equal(rule(updates.clone().requires_grad_()), expected)
        assert not rule(updates.clone().requires_grad_()).requires_grad
        assert torch.equal(rule(updates.T.contiguous().T), expected)
        assert torch.equal(rule(torch.cat([updates, updates], 1)[:, :150_000]), expected)
        with torch.inference_mode():
            inside = rule.aggregate(updates.clone())
            made_inside = updates.clone()
        assert torch.equal(inside.vector, expected)
        assert torch.equal(rule(made_inside), expected)


@settings(deadline=None, max_examples=30)
@given(
    rows=st.integers(1, 6),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    value=st.sampled_from([0.0, 1.0, torch.nan, torch.inf, -torch.inf, "largest"]),
    weight=st.sampled_from([0.0, 1e-30, 1.0]),
    seed=st.integers(0, 3),
)
def test_the_mean_finds_rows_that_are_not_finite_in_its_result(
    rows: int, dtype: torch.dtype, value: float | str, weight: float, seed: int
) -> None:
    """One pass over the data where all is well; the gate's own pass, as the other rules have it, is the oracle."""

    class Gated(Mean):
        shows_non_finite = False

    updates = normal(rows, 9, seed, dtype)
    updates[seed % rows, seed] = torch.finfo(dtype).max if value == "largest" else value
    weights = torch.ones(rows)
    weights[seed % rows] = weight if rows > 1 else 1.0
    outcomes = []
    for rule in (Mean(), Gated()):
        try:
            aggregate = rule.aggregate(updates, weights)
            outcomes.append((aggregate.rejected, aggregate.vector.tolist(), aggregate.influence.tolist()))
        except AggregationError as error:
            outcomes.append((str(error).partition(":")[2],))
    assert outcomes[0] == outcomes[1]


def test_the_mean_looks_at_single_rows_only_where_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    monkeypatch.setattr(gate, "lost_rows", lambda shards: looked.append(shards.num_rows) or ())
    Mean()(normal(4, 9))
    assert not looked
    Mean()(torch.full((2, 3), torch.finfo(torch.float32).max))
    Median()(normal(5, 9))
    assert looked == [2, 5]


def test_the_mean_is_the_same_to_the_bit_however_its_columns_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    updates = torch.randn(5, 1000)
    whole = Mean()(updates)
    monkeypatch.setattr(chunking, "WIDE_COLUMNS", 64)
    assert torch.equal(Mean()(updates), whole)
    torch.testing.assert_close(whole, updates.double().mean(0).float())
