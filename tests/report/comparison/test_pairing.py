"""Cells of two runs that belong together, whatever their runs call them; the others are named."""

from pathlib import Path
from typing import Any

import pytest

from fedsec.errors import InputError
from fedsec.report.comparison.conditions import configuration, versions
from fedsec.report.comparison.pairing import pair_cells, without_partner
from fedsec.report.comparison.run_comparison import ComparedRun, compare_runs, names_of

NAMES = ("A", "B")


def record(
    seed: int = 0, *, rounds: int = 5, trim: float = 0.1, label: str | None = None, **cell: Any
) -> dict[str, Any]:
    config = {
        "attack": {"name": "none", "options": {}, "label": None},
        "partition": {"name": "dirichlet", "options": {"alpha": 1.0}},
        "defense": [{"name": "trimmed_mean", "options": {"trim": trim}, "label": label}],
        "federation": {"rounds": rounds},
        "seed": seed,
    }
    return {
        "id": f"{cell}{seed}{rounds}{trim}",
        "cell": cell,
        "status": "done",
        "metrics": {"accuracy": 0.5 + rounds / 100},
        "config": config,
        "made_with": {"fedsec": "0.1.0 aa", "torch": "2.6"},
    }


def test_cells_pair_by_place_and_seed_whether_or_not_the_seed_is_an_axis() -> None:
    first = [{**record(seed), "cell": {"defense": "mean", "seed": str(seed)}} for seed in (0, 1)]
    pairing = pair_cells(first, [record(1, defense="mean"), record(2, defense="median")], NAMES)
    assert [(pair.setting, pair.seed) for pair in pairing.pairs] == [({"defense": "mean"}, "1")]
    assert without_partner(pairing.only_first) == ["mean (seed 0)"]
    assert without_partner(pairing.only_other) == ["median (seed 2)"]


def test_what_is_called_otherwise_with_the_same_configuration_is_the_same() -> None:
    first, other = record(defense="trimmed_mean(trim=0.1)"), record(defense="TM", label="TM")
    pairing = pair_cells([first], [other], NAMES)
    assert [pair.setting for pair in pairing.pairs] == [{"defense": "trimmed_mean(trim=0.1)"}]
    assert pairing.notes == ["defense: what A calls trimmed_mean(trim=0.1), B calls TM"]
    assert not pair_cells([first], [record(defense="TM", trim=0.2)], NAMES).pairs


def test_an_axis_of_one_run_is_where_the_configuration_of_the_other_stands() -> None:
    first = [record(rounds=rounds, **{"federation.rounds": str(rounds)}) for rounds in (5, 10)]
    pairing = pair_cells(first, [record(rounds=10)], NAMES)
    assert [pair.first["config"]["federation"]["rounds"] for pair in pairing.pairs] == [10]
    assert pairing.notes == ["federation.rounds is an axis of A only (5, 10); all of B is at 10"]
    backwards = pair_cells([record(rounds=10)], first, NAMES)
    assert [pair.other["config"]["federation"]["rounds"] for pair in backwards.pairs] == [10]
    assert len(backwards.only_other) == 1


def test_an_axis_with_one_value_does_not_part_runs() -> None:
    pairing = pair_cells([record(**{"partition.alpha": "1.0"})], [record(rounds=9)], NAMES)
    assert len(pairing.pairs) == 1
    assert pairing.notes == ["partition.alpha is an axis of A only, with one value (1.0)"]


def test_what_differs_is_told_by_key_path() -> None:
    other = [record(0, rounds=7, defense="x"), record(1, rounds=5, trim=0.2, defense="x")]
    other[0]["made_with"] = {"fedsec": "0.1.0 bb", "torch": "2.6"}
    pairs = pair_cells([record(0, defense="x"), record(1, defense="x")], other, NAMES).pairs
    assert list(map(str, configuration(pairs))) == [
        "federation.rounds: 5 -> 7 (in 1 of 2 pairs)",
        "defense: trimmed_mean(trim=0.1) -> trimmed_mean(trim=0.2) (in 1 of 2 pairs)",
    ]
    assert list(map(str, versions(pairs))) == ["fedsec: 0.1.0 aa -> 0.1.0 bb (in 1 of 2 pairs)"]


def test_runs_without_a_cell_in_common_are_refused() -> None:
    one = ComparedRun("A", Path("a"), [record(0, defense="mean")])
    with pytest.raises(InputError, match="no cell in common"):
        compare_runs(one, ComparedRun("B", Path("b"), [record(1, defense="mean")]))
    failed = {**record(0, defense="mean"), "status": "failed", "metrics": {}}
    with pytest.raises(InputError, match="no finished cell in common"):
        compare_runs(one, ComparedRun("B", Path("b"), [failed]))
    regression = {**record(0, defense="mean"), "primary_metric": "mean_squared_error"}
    with pytest.raises(InputError, match="trained for the same"):
        compare_runs(one, ComparedRun("B", Path("b"), [regression]))


def test_names_are_as_short_as_they_can_be() -> None:
    assert names_of([Path("/r/a/tiny"), Path("/r/b/tiny")]) == ["a/tiny", "b/tiny"]
    assert names_of([Path("/r/one"), Path("/r/two")]) == ["one", "two"]
    assert names_of([Path("/r/one"), Path("/r/one")]) == ["one (1)", "one (2)"]
