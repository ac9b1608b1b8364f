"""Rows whose columns lie in several pieces, against the whole rows."""

import pickle
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from fedsec.defense import Aggregator, ColumnShards, CoordinateRule, LocalShards, Pipeline, column_blocks
from fedsec.defenses import (
    ARC,
    CAF,
    CGE,
    FLAME,
    MDA,
    NNM,
    RLR,
    SMEA,
    Bucketing,
    Bulyan,
    CenteredClipping,
    ClipUpdate,
    DnC,
    DpFedAvg,
    GeometricMedian,
    Krum,
    Meamed,
    Mean,
    Median,
    MultiKrum,
    SignMajority,
    StaticClip,
    TrimmedMean,
)
from fedsec.errors import AggregationError, InputError

RULES: dict[str, Aggregator] = {
    "mean": Mean(),
    "median": Median(),
    "trimmed mean": TrimmedMean(num_trimmed_per_side=2),
    "meamed": Meamed(num_byzantine=2),
    "sign majority": SignMajority(),
    "rlr": RLR(threshold=3),
    "krum": Krum(num_byzantine=2),
    "multi-krum": MultiKrum(num_byzantine=2),
    "geometric median": GeometricMedian(),
    "mda": MDA(num_byzantine=2),
    "smea": SMEA(num_byzantine=2),
    "caf": CAF(num_byzantine=2),
    "cge": CGE(num_byzantine=2),
    "bulyan": Bulyan(num_byzantine=2),
    "flame": FLAME(noise=0.0),
    "nnm, median": Pipeline([NNM(num_byzantine=2), Median()]),
    "bucketing, krum": Pipeline([Bucketing(1), Krum(num_byzantine=2)]),
    "clip, nnm, mean": Pipeline([StaticClip(1.0), NNM(num_byzantine=2), Mean()]),
    "arc, trimmed mean": Pipeline([ARC(num_byzantine=2), TrimmedMean(num_trimmed_per_side=2)]),
}


def updates(rows: int = 11, columns: int = 23, dtype: torch.dtype = torch.float64) -> Tensor:
    drawn = torch.randn(rows, columns, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    drawn[3] += 5
    return drawn.to(dtype)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(2)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("far", [0.0, 1e4])
def test_pieces_give_what_the_whole_rows_give(rule: Aggregator, far: float) -> None:
    whole = updates() * (1e-3 if far else 1) + far
    weights = [1.0, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2]
    expected = rule(whole, weights, generator=seeded())
    pieces = rule.on_shards([whole[:, :9], whole[:, 9:10], whole[:, 10:]], weights, generator=seeded())
    assert [len(piece) for piece in pieces] == [9, 1, 13]
    torch.testing.assert_close(torch.cat(pieces), expected, rtol=1e-11, atol=1e-12)
    (alone,) = rule.on_shards([whole], weights, generator=seeded())
    assert torch.equal(alone, expected)


@pytest.mark.parametrize("name", ["median", "trimmed mean", "krum", "bulyan"])
def test_choices_are_the_same_to_the_bit(name: str) -> None:
    whole = updates(dtype=torch.float32)
    assert torch.equal(torch.cat(RULES[name].on_shards([whole[:, :9], whole[:, 9:]])), RULES[name](whole))


def test_pieces_are_measured_about_a_row_that_half_of_the_weight_is_near() -> None:
    whole = updates() * 1e-3 + 1e3
    whole[4:] += 1e12
    weights = [10.0] * 4 + [1.0] * 7
    rule = GeometricMedian(weighted=True)
    pieces = rule.on_shards([whole[:, :9], whole[:, 9:]], weights)
    torch.testing.assert_close(torch.cat(pieces), rule(whole, weights), rtol=0, atol=1e-7)


def test_a_row_is_lost_in_all_pieces() -> None:
    whole = updates()
    whole[4, 2], whole[9, 22] = torch.nan, torch.inf
    for name in ("median", "krum", "mean", "nnm, median"):
        pieces = RULES[name].on_shards([whole[:, :9], whole[:, 9:]])
        torch.testing.assert_close(torch.cat(pieces), RULES[name](whole), rtol=1e-12, atol=0)
    whole[5, 12] = torch.nan
    with pytest.raises(AggregationError, match=r"Krum: rows \[4, 5, 9\] of 11 hold NaN or infinity; at most 2"):
        RULES["krum"].on_shards([whole[:, :9], whole[:, 9:]])


def test_tiny_numbers_beside_a_piece_of_zeros() -> None:
    whole = updates() * 1e-250
    whole[:, 9:] = 0
    torch.testing.assert_close(
        torch.cat(RULES["geometric median"].on_shards([whole[:, :9], whole[:, 9:]])) * 1e250,
        RULES["geometric median"](whole) * 1e250,
    )


@pytest.mark.parametrize(
    "rule",
    [
        CenteredClipping(radius=1.0),
        DnC(num_byzantine=2),
        DpFedAvg(noise_multiplier=1.0),
        Pipeline([ClipUpdate(1.0), Mean()]),
        Pipeline([NNM(2), CenteredClipping(radius=1.0)]),
    ],
    ids=lambda rule: type(rule).__name__,
)
def test_rules_that_need_whole_rows_say_so(rule: Aggregator) -> None:
    with pytest.raises(InputError, match="looks at whole rows, or remembers them; expected one matrix, not shards"):
        rule.on_shards([updates()[:, :9], updates()[:, 9:]], generator=seeded())


@pytest.mark.parametrize(
    "shards",
    [
        [],
        updates(),
        [updates(), updates(10)],
        [updates(), updates(dtype=torch.float32)],
        [updates().long()],
        [updates()[0]],
        [updates()[:, :0]],
        [[1.0]],
    ],
)
def test_what_is_no_list_of_pieces(shards: Any) -> None:
    with pytest.raises(InputError, match=r"Median\.on_shards: expected"):
        Median().on_shards(shards)
    with pytest.raises(InputError, match="draws random numbers; expected a generator"):
        RULES["bucketing, krum"].on_shards([updates()])


class Elsewhere(ColumnShards):
    """Pieces in another process, as far as what is sent to and fro can tell."""

    def __init__(self, pieces: Sequence[Tensor]) -> None:
        self.own = LocalShards(pieces)
        self.num_rows, self.widths, self.dtype = self.own.num_rows, self.own.widths, self.own.dtype

    def map(self, work: Any, *arguments: Sequence[Any]) -> list[Any]:
        sent = pickle.dumps((work, arguments))
        assert len(sent) < 20_000
        work, arguments = pickle.loads(sent)
        results: list[Any] = pickle.loads(pickle.dumps(self.own.map(work, *arguments)))
        return results

    def changed(self, work: Any, *arguments: Sequence[Any]) -> "Elsewhere":
        return Elsewhere(self.own.changed(*pickle.loads(pickle.dumps((work, *arguments)))).pieces)


@pytest.mark.parametrize("name", [name for name in RULES if RULES[name].by_columns])
def test_pieces_elsewhere_are_judged_as_whole_rows_are(name: str) -> None:
    rule, whole, weights = RULES[name], updates(), [1.0, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2]
    whole[9, 20] = torch.nan
    expected = rule.aggregate(whole, weights, generator=seeded())
    shards = Elsewhere([whole[:, :9], whole[:, 9:10], whole[:, 10:]])
    verdict = rule.aggregate_shards(shards, weights, generator=seeded())
    torch.testing.assert_close(verdict.vector, expected.vector, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(verdict.influence, expected.influence, rtol=1e-12, atol=1e-12)
    assert (verdict.rejected, verdict.suspected) == ((9,), expected.suspected)
    assert verdict.weights is not None
    assert torch.equal(verdict.weights, expected.weights)


class Hasty(CoordinateRule):
    by_columns = True

    def max_rejected(self, num_clients: int) -> int:
        return 0

    def reduce(self, chunk: Tensor, cohort: Any, scratch: Any) -> Tensor:
        return chunk[int(cohort.gram.squared_norms().argmin())]

    def share(self, chunk: Tensor, cohort: Any, scratch: Any) -> Tensor:
        return torch.ones(len(chunk))


def test_inner_products_are_asked_for_in_time() -> None:
    with pytest.raises(InputError, match="inner products where its columns are combined; expected `reads_products`"):
        Hasty().aggregate_shards(Elsewhere([updates()[:, :9], updates()[:, 9:]]))


@pytest.mark.parametrize(
    ("columns", "count", "ends"),
    [
        (10, 1, [10]),
        (10, 3, [4, 8, 10]),
        (2, 3, [1, 2]),
        (6, 4, [2, 4, 6]),
        (1000, 3, [384, 768, 1000]),
        (128, 2, [64, 128]),
    ],
)
def test_blocks_of_columns(columns: int, count: int, ends: list[int]) -> None:
    blocks = column_blocks(columns, count)
    assert [block.start for block in blocks] == [0, *ends[:-1]]
    assert [block.stop for block in blocks] == ends
