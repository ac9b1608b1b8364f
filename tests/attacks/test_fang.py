"""Local model poisoning: Krum chooses the row, and values lie where the paper puts them."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedsec.attacks import Fang
from fedsec.defenses import Median, MultiKrum, TrimmedMean
from fedsec.errors import InputError
from fedsec.threat import AttackerView

View = Callable[..., AttackerView]


def scores(rows: Tensor, num_byzantine: int) -> list[float]:
    """Krum's, written out."""
    count = len(rows)
    distances = [
        sorted(float((one - other).norm()) ** 2 for place, other in enumerate(rows) if place != own)
        for own, one in enumerate(rows)
    ]
    return [sum(nearest[: count - num_byzantine - 2]) for nearest in distances]


def bound(honest: Tensor, num_clients: int, num_byzantine: int) -> float:
    """The paper's upper bound of lambda, of updates."""
    columns = honest.shape[1]
    nearest = [sorted(float((one - other).norm()) ** 2 for other in honest)[1:] for one in honest]
    least = min(sum(row[: num_clients - num_byzantine - 2]) for row in nearest)
    others = num_clients - 2 * num_byzantine - 1
    return math.sqrt(least / (others * columns)) + max(float(row.norm()) for row in honest) / math.sqrt(columns)


@given(count=st.integers(1, 4), more=st.integers(0, 3), size=st.sampled_from([1e-4, 1.0, 1e4]), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_krum_chooses_a_crafted_row_where_there_is_one_to_choose(
    attacker_view: View, random_rows: Callable[..., Tensor], count: int, more: int, size: float, seed: int
) -> None:
    """With rows that are alike, the first lambda of the paper's halvings that Krum would choose, tried one by one."""
    honest = random_rows(count + 3 + more, 6, seed, torch.float64) * size
    direction = -honest.mean(0).sign()
    largest = bound(honest, count + len(honest), count)

    def chosen(rows: Tensor) -> bool:
        score = scores(torch.cat([honest, rows]), count)
        return min(score[len(honest) :]) < min(score[: len(honest)])

    sizes = (largest / 2**halving for halving in range(12))
    expected = next((one for one in sizes if chosen((one * direction).repeat(count, 1))), None)
    view = attacker_view(honest, count)
    rows = Fang("krum", epsilon=0.0).craft(view)
    if expected is not None:
        assert view.report == {"lambda": pytest.approx(expected)}
        torch.testing.assert_close(rows, (expected * direction).repeat(count, 1))
    beside = attacker_view(honest, count)
    rows = Fang("krum", epsilon=0.01).craft(beside)
    if float(beside.report["lambda"]) > 0:
        assert chosen(rows)
        influence = MultiKrum(count, num_selected=1).aggregate(torch.cat([rows, honest])).influence
        assert float(influence[:count].sum()) == 1


def test_krum_is_won_by_enough_attackers(attacker_view: View, random_rows: Callable[..., Tensor]) -> None:
    """Which is what a search that never succeeds would not show."""
    honest = random_rows(8, 200, 3, torch.float64) - 1  # about the origin, more or less
    for knowledge in ("omniscient", "own"):
        view = attacker_view(honest, random_rows(5, 200, 4, torch.float64) - 1)
        rows = Fang("krum", knowledge).craft(view)  # type: ignore[arg-type]
        assert float(view.report["lambda"]) > 0
        influence = MultiKrum(5, num_selected=1).aggregate(torch.cat([rows, honest])).influence
        assert float(influence[:5].sum()) == 1


def test_the_others_stand_within_epsilon(attacker_view: View, random_rows: Callable[..., Tensor]) -> None:
    honest = random_rows(24, 6, 1, torch.float64)
    rows = Fang("krum", epsilon=0.5).craft(attacker_view(honest, 20))
    nearest = min(
        float((one - other).norm())
        for one in honest
        for other in honest
        if one is not other and not torch.equal(one, other)
    )
    lengths = (rows - rows[0]).norm(dim=1).tolist()
    assert lengths[0] == 0
    assert all(0 < length <= 0.5 * nearest for length in lengths[1:])
    assert max(lengths) > 0.4 * nearest


def test_krum_with_partial_knowledge_is_blind_to_the_honest_rows(
    attacker_view: View, random_rows: Callable[..., Tensor]
) -> None:
    own = random_rows(4, 6, 5, torch.float64)
    sent = [
        Fang("krum", "own", epsilon=0.0).craft(attacker_view(random_rows(9, 6, seed).double(), own)) for seed in (1, 2)
    ]
    assert torch.equal(*sent)
    assert torch.equal(sent[0].sign(), -own.mean(0).sign().expand(4, 6))


def test_krums_condition(attacker_view: View) -> None:
    with pytest.raises(InputError, match="Fang: target krum needs at least 9 clients for 3 Byzantine ones, not 8"):
        Fang("krum").craft(attacker_view(torch.zeros(5, 2), 3))


def test_krum_without_a_direction(attacker_view: View) -> None:
    view = attacker_view(torch.zeros(5, 2), 1)
    assert Fang("krum").craft(view).tolist() == [[0, 0]]
    assert "hardly an attack" in str(view.report["remark"])


def test_full_knowledge_lies_beyond_the_honest_values(attacker_view: View) -> None:
    """Columns: rising above and around zero, falling below and around zero, and of mean zero."""
    honest = torch.tensor([[2.0, -1.0, -2.0, -5.0, 1.0], [4.0, 5.0, -4.0, 1.0, -1.0]])
    rows = Fang(factor=3.0).craft(attacker_view(honest, 200))
    low = torch.tensor([2 / 3, -3.0, -2.0, 1.0, 0.0])
    high = torch.tensor([2.0, -1.0, -2 / 3, 3.0, 0.0])
    assert bool(((rows >= low) & (rows <= high)).all())
    for column in range(4):  # the whole range is used
        assert float(rows[:, column].min()) < float(low[column]) + 0.1
        assert float(rows[:, column].max()) > float(high[column]) - 0.1


def test_partial_knowledge_lies_three_to_four_deviations_out(
    attacker_view: View, random_rows: Callable[..., Tensor]
) -> None:
    own = random_rows(6, 5, 3, torch.float64)
    rows = Fang("median", "own").craft(attacker_view(torch.zeros(9, 5).double(), own))
    out = (own.mean(0) - rows) / own.std(0) * own.mean(0).sign()
    assert bool(((out >= 3) & (out <= 4)).all())
    single = attacker_view(torch.zeros(3, 2), [[1.0, -2.0]])
    assert Fang("median", "own").craft(single).tolist() == [[1, -2]]
    assert "no attack" in str(single.report["remark"])


@pytest.mark.parametrize("rule", [Median(), TrimmedMean(num_trimmed_per_side=3)])
def test_the_rules_move_against_the_honest_mean(
    attacker_view: View, random_rows: Callable[..., Tensor], rule: Median | TrimmedMean
) -> None:
    honest = random_rows(7, 50, 4)
    rows = Fang().craft(attacker_view(honest, 3))
    moved = (rule(torch.cat([rows, honest])) - rule(honest)) * honest.mean(0).sign()
    assert bool((moved < 0).all())


@pytest.mark.parametrize("options", [{"target": "mean"}, {"factor": 1.0}, {"epsilon": 1.0}, {"epsilon": -0.1}])
def test_malformed(options: dict[str, object]) -> None:
    with pytest.raises(InputError, match="Fang: "):
        Fang(**options)  # type: ignore[arg-type]
