"""The adaptive attack against a brute-force search with whole aggregations, written out here."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from fedsec.attacks import Adaptive, Auto, worst_case
from fedsec.defense import Aggregator, AggregatorTrial, CallableTrial
from fedsec.defenses import NNM, Bucketing, Mean, Median, MultiKrum, Pipeline, TrimmedMean
from fedsec.errors import InputError
from fedsec.threat import AttackerView, DefenseTrial, UpdatePoisoning


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=seeded(seed), dtype=torch.float64)


def seen(honest: Tensor, own: Tensor, defense: DefenseTrial | None, visible: bool = True) -> AttackerView:
    return AttackerView(
        own=own,
        honest=honest if visible else honest[:0],
        parameters=torch.zeros_like(own[0]),
        num_clients=len(honest) + len(own),
        num_byzantine=len(own),
        round=1,
        generator=seeded(3),
        defense=defense,
    )


def lines(honest: Tensor, own: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Where rows begin, and the unit vector along which they go: each family of the docstring."""
    mean = honest.mean(0)
    far = honest[(honest - mean).norm(dim=1).argmax()] - mean
    main = torch.linalg.svd(honest - mean, full_matrices=False).Vh[0]
    for direction in (mean, honest.std(0, correction=0), mean.sign(), main, far):
        for base in (mean.expand_as(own), own):
            yield base, direction / direction.norm()


RULES: list[Callable[[], Aggregator]] = [
    lambda: Median(),
    lambda: TrimmedMean(num_trimmed_per_side=2),
    lambda: MultiKrum(2, num_selected=1),
    lambda: MultiKrum(2),
    lambda: Pipeline([NNM(2), MultiKrum(2, num_selected=1)]),
    lambda: Pipeline([NNM(2), Median()]),
]


@pytest.mark.parametrize(
    ("make", "objective"), [(make, "distance") for make in RULES] + [(make, "opposition") for make in RULES[::3]]
)
def test_it_does_what_a_brute_force_search_does(make: Callable[[], Aggregator], objective: Any) -> None:
    rule, honest, own = make(), normal(7, 25) + 0.5, normal(2, 25, 1) + 0.5
    mean = honest.mean(0)

    def damage(rows: Tensor) -> float:
        result = rule(torch.cat([honest, rows]))
        return float((result - mean).norm() if objective == "distance" else (mean - result) @ mean / mean.norm())

    unit = float((honest - mean).norm(dim=1).square().mean().sqrt())
    sizes = torch.logspace(-1, 1, 10, dtype=torch.float64) * unit
    tries = [base + sign * size * way for base, way in lines(honest, own) for size in sizes for sign in (1, -1)]
    best = max(damage(rows) for rows in tries)
    view = seen(honest, own, AggregatorTrial(rule, seeded(0)))
    rows = Adaptive(objective).craft(view)
    assert damage(rows) >= 0.97 * best
    assert view.report["damage"] == pytest.approx(damage(rows))


def test_it_looks_on_both_sides_and_does_not_step_over_the_edge() -> None:
    """Krum takes rows up to about 1.3 standard deviations off, here farther on the negative side.

    A search upward from 0 in steps of 10 sees an honest row win, and stops at the mere distance of that.
    """
    rule, honest = MultiKrum(2, num_selected=1), normal(8, 150, 1)
    mean, std = honest.mean(0), honest.std(0, correction=0)

    def damage(rows: Tensor) -> float:
        return float((rule(torch.cat([honest, rows])) - mean).norm())

    upward = max(damage((mean + 10.0 * step * std).expand(2, -1)) for step in range(11))
    above = max(damage((mean + step / 100 * std).expand(2, -1)) for step in range(300))
    attack = Adaptive("distance", directions=["std"], layout="equal")
    view = seen(honest, normal(2, 150, 9), AggregatorTrial(rule, seeded(0)))
    rows = attack.craft(view)
    assert damage(rows) > above > upward
    assert damage(rows) == pytest.approx(15.44, abs=0.01)
    assert (upward, above) == (pytest.approx(10.90, abs=0.01), pytest.approx(15.09, abs=0.1))
    assert view.report["magnitude"] == pytest.approx(-1.328, abs=0.01)
    assert torch.equal(rows[0], rows[1])


def test_rows_may_be_spread_like_honest_ones() -> None:
    honest, own = normal(8, 30), normal(2, 30, 1)
    rows = Adaptive(layout="spread").craft(seen(honest, own, AggregatorTrial(Median(), seeded(0))))
    torch.testing.assert_close(rows[0] - rows[1], own[0] - own[1])
    assert not torch.allclose(rows, own)


def test_the_mean_is_moved_as_far_as_the_attack_may_go() -> None:
    honest, own = normal(8, 30) + 1, normal(2, 30, 1)
    view = seen(honest, own, AggregatorTrial(Mean(), seeded(0)))
    rows = Adaptive(max_magnitude=50.0, layout="equal").craft(view)
    unit = float((honest - honest.mean(0)).norm(dim=1).square().mean().sqrt())
    reach = 50 * max(unit, float(honest.mean(0).norm()))
    assert float((rows - honest.mean(0)).norm(dim=1).max()) == pytest.approx(reach)
    assert view.report["damage"] == pytest.approx(0.2 * reach)


def test_an_attacker_without_the_others_rows_imagines_them() -> None:
    """It leads the median astray nearly as far as one who sees all, and the honest rows make no difference to it."""
    rule, honest, own = Median(), normal(12, 60) + 0.5, normal(5, 60, 1) + 0.5
    reached = []
    for visible in (False, True):
        view = seen(honest, own, AggregatorTrial(rule, seeded(0)), visible)
        rows = Adaptive(knowledge="omniscient" if visible else "own").craft(view)
        reached.append(float((rule(torch.cat([honest, rows])) - honest.mean(0)).norm()))
    harmless = float((rule(torch.cat([honest, own])) - honest.mean(0)).norm())
    assert reached[1] >= reached[0] > max(0.7 * reached[1], 1.5 * harmless)
    alone = seen(honest, own[:1], AggregatorTrial(rule, seeded(0)), visible=False)
    assert bool(Adaptive(knowledge="own").craft(alone).isfinite().all())


def test_imagined_rows_have_the_mean_and_covariance_of_the_attackers_own() -> None:
    shapes = []

    class Spying(CallableTrial):
        def damage(self, rows: Tensor, mean: Tensor, objective: Any = "distance") -> float:
            shapes.append(rows)
            return super().damage(rows, mean, objective)

    own = normal(3, 2)
    view = AttackerView(own, own[:0], torch.zeros(2).double(), 4003, 3, 1, seeded(0), Spying(lambda r: r.mean(0)))
    Adaptive(knowledge="own", directions=["mean"], layout="equal", max_magnitude=1.0).craft(view)
    imagined = shapes[-1][:4000]
    torch.testing.assert_close(imagined.mean(0), own.mean(0), atol=0.05, rtol=0)
    torch.testing.assert_close(imagined.T.cov(), own.T.cov(), atol=0.1, rtol=0)


def test_equal_streams_find_equal_rows_also_against_a_defense_that_draws() -> None:
    honest, own = normal(8, 30), normal(2, 30, 1)
    rule = Pipeline([Bucketing(2), Median()])
    attack = Adaptive(directions=["std"])
    first, same = (attack.craft(seen(honest, own, AggregatorTrial(rule, seeded(0)))) for _ in range(2))
    assert torch.equal(first, same)


def test_where_nothing_helps_it_sends_honest_rows() -> None:
    honest, own = torch.zeros(6, 3).double(), torch.ones(2, 3).double()
    view = seen(honest, own, CallableTrial(lambda rows: rows[0]))
    assert torch.equal(Adaptive().craft(view), own)
    assert view.report == {}


def test_equal_rows_and_zeros_leave_it_directions_enough() -> None:
    for honest in (torch.ones(6, 3).double(), torch.zeros(6, 3).double()):
        own = honest[:2]
        rows = Adaptive().craft(seen(honest, own, AggregatorTrial(Mean(), seeded(0))))
        assert bool(rows.isfinite().all())
    assert torch.equal(rows, own)  # from zeros alone no direction leads anywhere


def test_updates_that_are_not_finite_are_left_out() -> None:
    honest, own = normal(8, 30), normal(2, 30, 1)
    honest[3, 0], own[1, 5] = torch.nan, torch.inf
    finite = torch.cat([honest[:3], honest[4:]])
    trial = AggregatorTrial(Median(), seeded(0))
    rows = Adaptive(layout="equal").craft(seen(honest, own, trial))
    assert torch.equal(rows, Adaptive(layout="equal").craft(seen(finite, own, trial)))
    assert bool(Adaptive(layout="spread").craft(seen(honest, own, trial)).isfinite().all())
    view = seen(honest * torch.nan, own, trial)
    assert torch.equal(Adaptive().craft(view).isfinite(), own.isfinite())
    assert "no finite update" in str(view.report["remark"])


@pytest.mark.parametrize("attack", [Adaptive(), Auto()])
def test_updates_of_a_model_that_diverges_do_not_stop_a_run(attack: UpdatePoisoning) -> None:
    """Their squares do not fit single precision."""
    honest, own = 1e25 * normal(8, 30).float(), 1e25 * normal(2, 30, 1).float()
    view = seen(honest, own, AggregatorTrial(Mean(), seeded(0)))
    assert torch.equal(attack.craft(view), own)
    assert "too large to search among" in str(view.report["remark"])
    with pytest.raises(InputError, match="too large"):
        worst_case(Mean(), honest, 2)


def test_lost_rows_of_honest_clients_do_not_stop_a_run() -> None:
    """Where the server goes on with what it received, reckoning with one Byzantine client less, so does the attack."""
    rows = normal(9, 20)
    rows[4] = torch.nan
    trial = AggregatorTrial(MultiKrum(3), seeded(0), places=[*range(3, 9), *range(3)], weights=torch.ones(9))
    view = seen(rows[3:], rows[:3], trial)
    assert bool(Adaptive().craft(view).isfinite().all())
    assert float(view.report["damage"]) > 0


def test_what_it_cannot_work_with_is_said() -> None:
    rows = normal(5, 3)
    with pytest.raises(InputError, match="expected a view with `defense`"):
        Adaptive().craft(seen(rows[:4], rows[4:], None))
    with pytest.raises(InputError, match="needs at least 7 rows"):
        Adaptive().craft(seen(rows[:4], rows[4:], AggregatorTrial(MultiKrum(2), seeded(0))))
    wrong: list[dict[str, Any]] = [
        {"directions": ["up"]},
        {"directions": []},
        {"objective": "loss"},
        {"knowledge": "all"},
        {"layout": "random"},
        {"max_magnitude": 0.0},
        {"max_magnitude": float("inf")},
    ]
    for options in wrong:
        with pytest.raises(InputError, match=f"Adaptive: {next(iter(options))} must be"):
            Adaptive(**options)
