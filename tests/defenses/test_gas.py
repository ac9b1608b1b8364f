"""GAS against its algorithm in NumPy, around rules of all kinds."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from fedsec.defense import Aggregator, Pipeline
from fedsec.defenses import GAS, MDA, NNM, CenteredClipping, ClipUpdate, DnC, DpFedAvg, Mean, Median, MultiKrum
from fedsec.errors import AggregationError, InputError
from fedsec.scenario.server_rule import server_rule


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def by_hand(updates: Tensor, combine: Callable[[np.ndarray], np.ndarray], groups: list[Tensor], kept: int) -> list[int]:
    """The rows that are averaged."""
    rows, scores = updates.double().numpy(), np.zeros(len(updates))
    for columns in groups:
        part = rows[:, columns.numpy()]
        scores += np.linalg.norm(part - combine(part), axis=1)
    return sorted(np.argsort(scores, kind="stable")[:kept].tolist())


def chosen(rule: Aggregator, updates: Tensor, seed: int = 0) -> list[int]:
    influence = rule.aggregate(updates, generator=seeded(seed)).influence
    return influence.nonzero().flatten().tolist()


def krum_mean(part: np.ndarray) -> np.ndarray:
    return MultiKrum(2)(part)


@pytest.mark.parametrize(
    ("rule", "combine"),
    [(Median(), lambda part: np.median(part, axis=0)), (Mean(), lambda part: part.mean(0)), (MultiKrum(2), krum_mean)],
    ids=["median", "mean", "multi_krum"],
)
@pytest.mark.parametrize("num_groups", [1, 4, 7, 100])
def test_the_algorithm(rule: Aggregator, combine: Callable[[np.ndarray], np.ndarray], num_groups: int) -> None:
    updates = torch.randn(9, 30, generator=seeded(num_groups), dtype=torch.float64)
    updates[:2, :8] += 3.0
    order = torch.randperm(30, generator=seeded(5))
    wrapped = GAS(rule, num_byzantine=2, num_groups=num_groups)
    expected = by_hand(updates, combine, list(torch.chunk(order, num_groups)), 7)
    assert chosen(wrapped, updates, seed=5) == expected
    torch.testing.assert_close(wrapped(updates, generator=seeded(5)), updates[expected].mean(0))
    in_order = GAS(rule, num_byzantine=2, num_groups=num_groups, groups="contiguous")
    assert not in_order.draws
    assert chosen(in_order, updates) == by_hand(updates, combine, list(torch.chunk(torch.arange(30), num_groups)), 7)


def test_golden_values() -> None:
    # In halves the median is 0; the third row's distances are 5 + 0, the fourth's 3 + 4, though as a whole both have 5.
    updates = torch.tensor([[0.0, 0], [0, 0], [5, 0], [3, 4], [0, 0]])
    rule = GAS(Median(), num_byzantine=1, num_groups=2, groups="contiguous")
    assert rule.aggregate(updates).suspected == (3,)
    assert rule(updates).tolist() == [1.25, 0]


def test_what_the_rule_needs_is_handed_on() -> None:
    updates = torch.randn(9, 24, generator=seeded(0))
    drawing = GAS(DnC(2, sub_dim=3), num_byzantine=2, groups="contiguous")
    assert drawing.draws
    assert drawing(updates, generator=seeded(1)).isfinite().all()
    with pytest.raises(InputError, match="draws random numbers"):
        drawing(updates)
    mixed = Pipeline([NNM(2), GAS(MDA(2), num_byzantine=2, groups="contiguous")])(updates.double())
    expected = GAS(MDA(2), num_byzantine=2, groups="contiguous")(NNM(2)(updates.double()))
    torch.testing.assert_close(mixed, expected)


def test_a_pipeline_is_asked_about_each_group() -> None:
    updates = torch.randn(9, 24, generator=seeded(0), dtype=torch.float64)
    mixed = Pipeline([NNM(2), Median()])
    rule = GAS(mixed, num_byzantine=2, num_groups=4, groups="contiguous")
    groups = list(torch.chunk(torch.arange(24), 4))
    assert chosen(rule, updates) == by_hand(updates, lambda part: mixed(part), groups, 7)
    with pytest.raises(InputError, match="CenteredClipping remembers whole updates"):
        GAS(Pipeline([NNM(2), CenteredClipping(1.0)]), num_byzantine=1)
    with pytest.raises(InputError, match="Pipeline transforms whole updates"):
        GAS(Pipeline([ClipUpdate(1.0), Median()]), num_byzantine=1)


def test_rules_that_need_whole_updates_are_refused() -> None:
    with pytest.raises(InputError, match="CenteredClipping remembers whole updates"):
        GAS(CenteredClipping(1.0), num_byzantine=1)
    with pytest.raises(InputError, match="DpFedAvg accounts for each of its own results"):
        GAS(num_byzantine=1).around(DpFedAvg(noise_multiplier=1.0))


def test_without_a_rule() -> None:
    alone = GAS(num_byzantine=1)
    with pytest.raises(InputError, match=r"GAS: asks another rule; expected GAS\(Median\(\), ...\), or a rule"):
        alone(torch.zeros(3, 2), generator=seeded(0))
    assert isinstance(alone.around(Median()).rule, Median)
    with pytest.raises(InputError, match="asks another rule"):
        alone.max_rejected(3)  # `around` leaves it as it was


def test_in_a_list_it_is_around_the_rule_that_follows() -> None:
    rule = server_rule([NNM(1), GAS(num_byzantine=1), Median()])
    assert isinstance(rule, Pipeline)
    assert isinstance(rule.rule, GAS)
    assert isinstance(rule.rule.rule, Median)
    assert rule.draws
    with pytest.raises(InputError, match="exactly one aggregation rule is needed, got GAS"):
        server_rule([GAS(num_byzantine=1)])


def test_equal_rows_huge_rows_and_one_client() -> None:
    row = torch.tensor([[0.5, -1.0]])
    rule = GAS(Median(), num_byzantine=1)
    assert torch.equal(rule(row.repeat(5, 1), generator=seeded(0)), row[0])
    assert torch.equal(GAS(Median(), num_byzantine=0)(row, generator=seeded(0)), row[0])
    huge = torch.cat([row.repeat(4, 1), torch.full((1, 2), 3e38)])
    assert rule.aggregate(huge, generator=seeded(0)).suspected == (4,)
    wide = torch.cat([row.repeat(4, 1).double(), torch.full((1, 2), 1e200, dtype=torch.float64)])
    assert rule.aggregate(wide, generator=seeded(0)).suspected == (4,)


def test_rejected_rows_are_byzantine() -> None:
    updates = torch.randn(9, 20, generator=seeded(0))
    broken = torch.cat([updates, torch.full((1, 20), torch.nan)])
    rule = GAS(MultiKrum(2), num_byzantine=2)(broken, generator=seeded(3))
    assert torch.equal(rule, GAS(MultiKrum(1), num_byzantine=1)(updates, generator=seeded(3)))
    with pytest.raises(AggregationError, match="at most 0 may be lost"):
        GAS(Median(), num_byzantine=0)(broken, generator=seeded(0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_byzantine": -1}, "num_byzantine must not be negative, but is -1"),
        ({"num_byzantine": 1, "num_groups": 0}, "num_groups must be at least 1, but is 0"),
        ({"num_byzantine": 1, "groups": "odd"}, "groups must be random or contiguous, not 'odd'"),
    ],
)
def test_malformed_options(options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        GAS(Median(), **options)  # type: ignore[arg-type]


def test_conditions() -> None:
    with pytest.raises(InputError, match="num_byzantine 2 needs at least 5 rows, not 4"):
        GAS(Median(), num_byzantine=2)(torch.zeros(4, 2), generator=seeded(0))
