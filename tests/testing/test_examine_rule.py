"""The kit finds the usual mistakes in rules of any origin, and nothing in right ones."""

import numpy as np
import pytest
import torch
from torch import Tensor

from fedsec.defenses import NNM, Median, MultiKrum, TrimmedMean
from fedsec.testing import KNOWN_VALUES, check_known_values, examine_rule


def test_right_rules_break_nothing() -> None:
    assert not examine_rule(MultiKrum)
    assert not examine_rule(lambda f: Median(), like="median", skip=["rotation"])
    trimmed = examine_rule(lambda f: TrimmedMean(num_trimmed_per_side=f), like="trimmed_mean", skip=["rotation"])
    assert not trimmed
    check_known_values("multi_krum", MultiKrum)
    check_known_values("krum", lambda num_byzantine: MultiKrum(num_byzantine, num_selected=1))
    check_known_values("nnm", NNM)


def mean(rows: Tensor) -> Tensor:
    return rows.mean(0)


def in_place(rows: Tensor) -> Tensor:
    return rows.div_(len(rows)).sum(0)


def random_row(rows: Tensor) -> Tensor:
    return rows[np.random.randint(len(rows))]


def first(rows: Tensor) -> Tensor:
    return rows[0]


def clipped(rows: Tensor) -> Tensor:
    return (rows * (1 / rows.norm(dim=1).clamp_min(1e-12)).clamp_max(1)[:, None]).mean(0)


def of_positions(rows: Tensor) -> Tensor:
    """Krum's distances from a float32 Gram matrix about the origin."""
    narrow = rows.float()
    inner = narrow @ narrow.T
    norms = inner.diagonal()
    distances = norms[:, None] + norms - 2 * inner
    return rows[distances.sort(1).values[:, 1:-3].sum(1).argmin()]


def narrow(rows: Tensor) -> Tensor:
    return rows.float().median(0).values


def sums(rows: Tensor) -> Tensor:
    return rows.sum(0)


def crashes(rows: Tensor) -> Tensor:
    raise RuntimeError("no")


@pytest.mark.parametrize(
    ("rule", "names"),
    [
        (mean, {"breakdown", "not_finite"}),
        (in_place, {"leaves_updates"}),
        (random_row, {"repeats"}),
        (first, {"permutation"}),
        (clipped, {"translation", "scale"}),
        (of_positions, {"near_duplicates"}),
        (narrow, {"kind", "range"}),
        (sums, {"equal_rows"}),
        (crashes, {"kind", "precision"}),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_mistake_has_its_finding(rule, names: set[str]) -> None:  # type: ignore[no-untyped-def]
    findings = examine_rule(lambda f: rule)
    assert names <= {finding.name for finding in findings}
    assert all(finding.message.startswith(("expected:", "RuntimeError")) for finding in findings)


def nearest_sums(rows: Tensor, num_byzantine: int, *, others: int, power: float = 2, itself: bool = False) -> Tensor:
    distances = torch.cdist(rows, rows) ** power
    if not itself:
        distances.fill_diagonal_(torch.inf)
    return rows[distances.sort(1).values[:, : len(rows) - num_byzantine - others].sum(1).argmin()]


@pytest.mark.parametrize(
    "mistake", [{"others": 1}, {"others": 2, "power": 1}, {"others": 2, "power": 4}, {"others": 2, "itself": True}]
)
def test_mistakes_of_krum_have_other_values(mistake) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(AssertionError, match="neighbors counted wrongly"):
        check_known_values("krum", lambda num_byzantine: lambda rows: nearest_sums(rows, num_byzantine, **mistake))
    check_known_values("krum", lambda num_byzantine: lambda rows: nearest_sums(rows, num_byzantine, others=2))


def test_every_known_value_rules_out_the_mean() -> None:
    for name in {case.rule for case in KNOWN_VALUES} - {"nnm", "arc"}:
        with pytest.raises(AssertionError):
            check_known_values(name, lambda **options: mean)
    with pytest.raises(AssertionError, match="a rule of"):
        check_known_values("nonsense", lambda **options: mean)
