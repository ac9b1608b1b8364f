"""A little is enough: z, and the rows."""

from collections.abc import Callable
from statistics import fmean, stdev

import pytest
import torch
from torch import Tensor

from fedsec.attacks import ALIE
from fedsec.defense.trial import AggregatorTrial, CallableTrial
from fedsec.defenses import MultiKrum
from fedsec.errors import InputError
from fedsec.threat import AttackerView

View = Callable[..., AttackerView]


def test_against_the_statistics_module(attacker_view: View, random_rows: Callable[..., Tensor]) -> None:
    honest, own = random_rows(8, 5), random_rows(3, 5, seed=3)
    view = attacker_view(honest, own)
    for z, knowledge, rows in ((1.5, "omniscient", honest), (-0.25, "own", own)):
        sent = ALIE(z, knowledge).craft(view)  # type: ignore[arg-type]
        expected = [fmean(column) - z * stdev(column) for column in rows.double().T.tolist()]
        for row in sent.tolist():
            assert row == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_reports_z_and_says_where_it_is_no_attack(attacker_view: View, random_rows: Callable[..., Tensor]) -> None:
    honest = random_rows(9, 3)
    for view, z, why in (
        (attacker_view(honest, 1), -0.1397, "points the other way"),
        (attacker_view(honest[:8], 2), 0.0, "is the honest mean"),
        (attacker_view(random_rows(45, 3), 5), 0.0837, "is hardly an attack"),
    ):
        rows = ALIE().craft(view)
        assert view.report["z"] == pytest.approx(z, abs=5e-5)
        assert why in str(view.report["remark"])
        torch.testing.assert_close(rows[0], view.honest.mean(0) - z * view.honest.std(0), atol=1e-4, rtol=1e-4)
    strong = attacker_view(random_rows(12, 3), 8)
    ALIE().craft(strong)
    assert strong.report == {"z": pytest.approx(0.6745, abs=5e-5)}
    number = attacker_view(honest, 1)
    ALIE(0.0).craft(number)
    assert "remark" not in number.report


def test_a_single_row_has_no_spread(attacker_view: View) -> None:
    view = attacker_view([[5.0, 5.0]] * 3, [[1.0, 2.0]])
    assert ALIE(2.0, "own").craft(view).tolist() == [[1, 2]]
    assert "no attack" in str(view.report["remark"])


def test_rows_that_are_not_finite_are_no_benign_ones(attacker_view: View) -> None:
    honest = torch.tensor([[1.0, 2.0], [3.0, 6.0], [float("nan"), 0.0]])
    assert torch.equal(ALIE(0.0).craft(attacker_view(honest, 1)), torch.tensor([[2.0, 4.0]]))


def test_auto_takes_the_z_that_moves_the_rule_farthest(attacker_view: View) -> None:
    """A rule that trusts only rows near its center has an inner optimum, and here it lies below the mean."""
    honest = torch.tensor([[-1.0], [1.0], [0.0], [0.0]])
    std = float(honest.std())

    def rule(rows: Tensor) -> Tensor:
        sent = float(rows[-1])
        return torch.tensor([sent]) if -2 * std < sent < 4 * std else torch.zeros(1)

    view = attacker_view(honest, 2, defense=CallableTrial(rule))
    assert ALIE("auto").craft(view).flatten().tolist() == pytest.approx([3 * std] * 2)
    assert view.report == {"z": -3.0}
    with pytest.raises(InputError, match="ALIE: z auto tries the server's rule; expected a view with a defense"):
        ALIE("auto").craft(attacker_view(honest, 2))


def test_scattered_rows_differ_about_the_same_one(attacker_view: View, random_rows: Callable[..., Tensor]) -> None:
    honest = random_rows(6, 20, 3, torch.float64)
    rows = ALIE(1.0, scatter=0.3).craft(attacker_view(honest, 3))
    center = ALIE(1.0).craft(attacker_view(honest, 3))[0]
    lengths = (rows - center).norm(dim=1)
    assert bool(((lengths > 0) & (lengths <= 0.3 * torch.nn.functional.pdist(honest).min())).all())
    assert not torch.equal(rows[0], rows[1])


@pytest.mark.parametrize("z", ["best", float("nan"), float("inf")])
def test_malformed(z: object) -> None:
    with pytest.raises(InputError, match="ALIE: z must be neurips, v1, auto or a finite number"):
        ALIE(z)  # type: ignore[arg-type]


def test_what_does_not_go_together(attacker_view: View) -> None:
    with pytest.raises(InputError, match=r"ALIE: z auto tries .* expected knowledge omniscient"):
        ALIE("auto", "own")
    with pytest.raises(InputError, match="ALIE: knowledge must be own or omniscient, not 'all'"):
        ALIE(1.0, "all").craft(attacker_view([[1.0]], 1))  # type: ignore[arg-type]


def test_auto_against_whole_aggregations_of_every_z(attacker_view: View, random_rows: Callable[..., Tensor]) -> None:
    """Multi-Krum excludes rows that are too far out, so the best z is neither the smallest nor the largest."""
    honest, rule = random_rows(8, 30, 2, torch.float64), MultiKrum(2)
    view = attacker_view(honest, 2, defense=AggregatorTrial(rule, torch.Generator()))
    z = float((ALIE("auto").craft(view), view.report["z"])[1])
    sizes = [sign * size for size in (0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0) for sign in (1, -1)]
    mean, std = honest.mean(0), honest.std(0)
    damage = {
        size: float((rule(torch.cat([honest, (mean - size * std).repeat(2, 1)])) - mean).norm()) for size in sizes
    }
    assert damage[z] == max(damage.values())
    assert 0.1 < abs(z) < 10
