"""SvtPrivacy: NVFlare's own numbers, the law of what is released by enumeration, and whether its epsilon holds."""

import itertools
import math
from collections import Counter
from math import comb
from typing import Any

import numpy as np
import pytest
import torch

from fedsec.auditing import audit_two_samples
from fedsec.defenses import SvtPrivacy
from fedsec.errors import InputError

Shown = tuple[int, ...]
NVFLARE = [
    ({}, (100, 0.0028409479171811027, 0.0971590520828189, 10.0)),
    (
        {"fraction": 0.5, "epsilon": 1.0, "noise_var": 0.01},
        (500, 0.009900990099009905, 0.9900990099009901, 5.0),
    ),
    ({"epsilon": 2.0, "epsilon_query": 1.5, "epsilon_release": 8.0}, (100, 0.5, 1.5, 8.0)),
]
"""Options -> what NVFlare 2.8.1's accountant wrote for an update of 1,000 numbers."""


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("options", "spent"), NVFLARE)
def test_budgets_are_those_of_nvflare(options: dict[str, float], spent: tuple[float, ...]) -> None:
    budget = SvtPrivacy(**options).budget(1000)  # type: ignore[arg-type]
    assert (budget.entries, budget.threshold, budget.query, budget.release) == pytest.approx(spent)
    assert budget.total == pytest.approx(sum(spent[1:]))


def test_default_budgets_of_a_real_network_rule_out_nothing() -> None:
    assert SvtPrivacy().budget(7_030_000).total == pytest.approx(70_300.1)


@pytest.mark.parametrize(
    ("options", "accepted", "different", "magnitude"),
    [
        ({}, (105.06, 26.6), 18.155, 2.080e-5),
        ({"replace": False}, (105.33, 27.0), 20.0, 2.084e-5),
        ({"version": "2.7"}, None, 17.746, 8.180e-6),
        ({"version": "2.7", "replace": False}, None, 20.0, 8.175e-6),
    ],
)
def test_what_is_released_is_distributed_as_in_nvflare(
    options: dict[str, str], accepted: tuple[float, float] | None, different: float, magnitude: float
) -> None:
    """Means over 4,000 calls of NVFlare's own class; 600 of ours stay within four standard errors."""
    row = torch.zeros(200)
    row[:40] = 1e-5
    svt = SvtPrivacy(epsilon=50.0, noise_var=1.0, **options)  # type: ignore[arg-type]
    draw, calls = generator(3), 600
    counts = [int(svt.accepted(row.abs(), draw).sum()) for _ in range(calls)]
    if accepted is not None:
        assert np.mean(counts) == pytest.approx(accepted[0], abs=4 * accepted[1] * (1 / calls + 1 / 4000) ** 0.5)
    # Far more than are released are accepted: nothing stops at the 20th.
    assert min(counts) >= 20
    assert np.mean(counts) > 60
    sent = torch.stack([svt({"x": row}, generator=draw)["x"] for _ in range(calls)])
    assert float((sent != 0).sum(1).double().mean()) == pytest.approx(different, abs=0.25)
    spread = float(sent[sent != 0].std()) / (20 * calls) ** 0.5
    assert float(sent[sent != 0].abs().mean()) == pytest.approx(magnitude, abs=6 * spread)


def shown(magnitudes: tuple[float, ...], count: int, epsilon: float, replace: bool) -> dict[Shown, float]:
    """P(exactly these entries are shown), by enumeration of passes and integration over the threshold; gamma is 1."""
    number, epsilon_threshold = len(magnitudes), epsilon / (1 + (2 * count) ** (2 / 3))
    scale, lap = 2 * count / (epsilon - epsilon_threshold), 1 / epsilon_threshold
    points = lap * np.linspace(-25, 25, 2001)
    weights = np.exp(-abs(points) / lap) * (points[1] - points[0]) / (2 * lap)
    distance = (0.5 + points[None] - np.array(magnitudes)[:, None]) / scale
    passing = np.where(distance > 0, np.exp(-abs(distance)) / 2, 1 - np.exp(-abs(distance)) / 2)
    reached = {frozenset[int](): np.ones_like(points)}
    accepted: dict[frozenset[int], float] = {}
    for size in range(number + 1):
        for have in [have for have in reached if len(have) == size]:
            if size >= count:
                accepted[have] = float((reached[have] * weights).sum())
                continue
            rest = sorted(set(range(number)) - have)
            none_passes = np.prod(1 - passing[rest], axis=0)
            for more in (more for k in range(1, len(rest) + 1) for more in itertools.combinations(rest, k)):
                step = np.prod([passing[i] if i in more else 1 - passing[i] for i in rest], axis=0)
                after = have | set(more)
                reached[after] = reached.get(after, 0) + reached[have] * step / (1 - none_passes)
    result: dict[Shown, float] = {}
    for have, probability in accepted.items():
        for size in range(1, count + 1) if replace else [count]:
            ways = sum((-1) ** k * comb(size, k) * (size - k) ** count for k in range(size + 1))
            each = ways / len(have) ** count if replace else 1 / comb(len(have), count)
            for subset in itertools.combinations(sorted(have), size):
                result[subset] = result.get(subset, 0) + probability * each
    return result


@pytest.mark.parametrize("replace", [True, False])
def test_the_choice_follows_the_published_procedure(replace: bool) -> None:
    magnitudes, calls = (1.0, 0.0, 0.3), 2000
    svt = SvtPrivacy(0.5, epsilon=6.0, gamma=1.0, tau=0.5, replace=replace, epsilon_release=1e4)
    draw = generator(5)
    row = torch.tensor(magnitudes)
    seen: Counter[Shown] = Counter()
    for _ in range(calls):
        seen[tuple(svt({"x": row}, generator=draw)["x"].nonzero().flatten().tolist())] += 1
    expected = shown(magnitudes, 2, 6.0, replace)
    assert sum(expected.values()) == pytest.approx(1, abs=1e-3)
    for subset, probability in expected.items():
        error = 4 * (probability * (1 - probability) / calls) ** 0.5
        assert seen[subset] / calls == pytest.approx(probability, abs=error), subset


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize(("number", "count", "epsilon"), [(2, 1, 5.0), (3, 2, 1.0), (4, 2, 5.0)])
def test_accepting_more_than_is_released_costs_no_privacy(
    number: int, count: int, epsilon: float, replace: bool
) -> None:
    """Over all pairs of updates at the bounds: no set of entries is more than exp(epsilon) times as likely."""
    tables = [shown(row, count, epsilon, replace) for row in itertools.product((0.0, 1.0), repeat=number)]
    worst = max(
        math.log(one[subset] / other[subset]) for one, other in itertools.permutations(tables, 2) for subset in one
    )
    assert 0.2 * epsilon < worst <= epsilon


def test_up_to_2_7_values_were_covered_before_they_were_cut_off() -> None:
    """The noise has 20 times gamma; a value of a thousand times gamma shines through, whatever epsilon is claimed."""
    rows = torch.tensor([0.01, -0.01])
    old = SvtPrivacy(1.0, replace=False, version="2.7")
    new = SvtPrivacy(1.0, replace=False)
    draws = [generator(seed) for seed in range(200)]
    signs = torch.stack([old({"x": rows}, generator=draw)["x"] for draw in draws]).sign()
    assert (signs == torch.tensor([1.0, -1.0])).all()
    assert (torch.stack([new({"x": rows}, generator=draw)["x"] for draw in draws])[:, 0] < 0).float().mean() > 0.3
    assert math.isinf(old.budget(2).total)


@pytest.mark.parametrize(
    ("version", "reach", "holds"), [("2.8", 1.0, True), ("2.8", 100.0, True), ("2.7", 100.0, False)]
)
def test_the_audited_epsilon_is_below_the_formal_one_where_that_holds(version: Any, reach: float, holds: bool) -> None:
    """Two updates that differ in every sign, told apart by the one value that is shown; formally 2.5, with 2.8."""
    svt = SvtPrivacy(0.1, epsilon=0.5, noise_var=2.0, gamma=1.0, tau=0.1, version=version)
    draw, update = generator(7), torch.full((10,), reach)
    plus, minus = (
        [float(svt({"x": sign * update}, generator=draw)["x"].sum()) for _ in range(250)] for sign in (1, -1)
    )
    bound = audit_two_samples(plus, minus, delta=0.0)["two_samples"]
    claimed = SvtPrivacy(0.1, epsilon=0.5, noise_var=2.0).budget(10).total
    assert claimed == 2.5
    assert bound.epsilon_lower > 0.5
    assert (bound.epsilon_lower <= claimed) == holds


def test_scalars_and_steps_pass() -> None:
    update = {"s": torch.tensor(3.0), "w": torch.full((4, 5), 1e-4)}
    sent = SvtPrivacy(local_steps=10)(update, generator=generator(0))
    assert sent["s"].item() == 3.0
    assert 0 < int((sent["w"] != 0).sum()) <= 3
    known = SvtPrivacy(local_steps=10).known(sent)
    assert known.kept["s"].item()
    assert "s" not in known.noise
    assert known.noise["w"] == pytest.approx(10 * math.sqrt(2) * 2e-5 / 0.1)


def test_a_threshold_that_nothing_reaches_ends_all_the_same() -> None:
    """NVFlare's loop asks again for as long as fewer than c were accepted."""
    sent = SvtPrivacy(tau=1.0, epsilon=1e3)({"x": torch.randn(50, generator=generator(1))}, generator=generator(2))
    assert 1 <= int((sent["x"] != 0).sum()) <= 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fraction": 0.0}, "fraction must lie in"),
        ({"gamma": -1.0}, "gamma must be positive"),
        ({"epsilon": 1.0, "epsilon_query": 1.0}, "must leave something of epsilon"),
        ({"epsilon": 1.0, "epsilon_query": 0.5, "epsilon_threshold": 0.4}, "must be epsilon, 1.0"),
        ({"version": "2.7", "epsilon_release": 1.0}, "expected no budgets of single phases"),
        ({"local_steps": 0}, "local_steps must be at least 1"),
    ],
)
def test_budgets_that_make_no_sense_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SvtPrivacy(**options)  # type: ignore[arg-type]
