"""Worst cases over attacks and paired differences, from fabricated records."""

import io
import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from fedsec.report import run_report as report
from fedsec.report import worst_case_figure
from fedsec.report.intervals import half_width
from fedsec.report.paired import paired_differences, paired_table
from fedsec.report.shortened import MOST_ROWS
from fedsec.report.worst_case import worst_case_table, worst_cases

CLIENTS = 20


def record(defense: str, attack: Any, seed: int, value: float | None, **more: Any) -> dict[str, Any]:
    """One cell; attacks are `none`, or (name, number of Byzantine clients)."""
    name, number = attack if isinstance(attack, tuple) else ("none", None)
    status = more.pop("status", "done" if value is not None else "failed")
    text = name if number is None else f"{name}(num_byzantine={number})"
    metrics = {"accuracy": (value or 0) + 0.01, "accuracy_min_last5": value} if status == "done" else {}
    return {
        "id": f"{defense}-{text}-{seed}-{more}",
        "cell": {**more, "attack": text, "defense": defense, "seed": seed},
        "status": status,
        "metrics": metrics,
        "error": None if status == "done" else "too many",
        "seconds": 1.0,
        "config": {
            "attack": {"name": name, "num_byzantine": number, "fraction": None, "options": {}, "label": None},
            "partition": {"clients": CLIENTS},
            "federation": {"algorithm": "fedavg"},
        },
    }


ATTACKS = ["none", *product(("alie", "ipm", "sign_flip"), (2, 4))]


def grid(seeds: int = 3, **more: Any) -> list[dict[str, Any]]:
    rng = np.random.default_rng(1)
    return [
        record(defense, attack, seed, float(rng.random()), **more)
        for defense, attack, seed in product(["mean", "median"], ATTACKS, range(seeds))
    ]


def test_the_worst_attack_of_each_place_against_a_slow_account() -> None:
    records = grid()
    found = {(case.defense, case.num_byzantine): case for case in worst_cases(records)}
    assert list(found) == [(defense, number) for defense in ("mean", "median") for number in (0, 2, 4)]
    for (defense, number), case in found.items():
        values: dict[str, list[float]] = {}
        for one in records:
            attack = one["config"]["attack"]
            if one["cell"]["defense"] == defense and (attack["num_byzantine"] or 0) == number:
                values.setdefault(attack["name"], []).append(one["metrics"]["accuracy_min_last5"])
        worst = min(values, key=lambda name: float(np.mean(values[name])))
        assert case.value == pytest.approx(np.mean(values[worst]))
        assert case.attack == ("" if number == 0 else worst)
        assert case.interval == (min(values[worst]), max(values[worst]))
        assert (case.seeds, case.attacks, case.unknown, case.refused) == (3, 3 if number else 1, 0, "")


def test_one_attack_is_no_worst_case() -> None:
    records = [record("mean", attack, 0, 0.5) for attack in ("none", ("alie", 2), ("alie", 4))]
    assert worst_cases(records) == []
    assert worst_case_table(records) is None


def test_an_attack_that_tries_several_is_a_worst_case_and_says_which_it_chose() -> None:
    records = [record("mean", attack, seed, 0.5) for attack in ("none", ("auto", 2)) for seed in (0, 1)]
    records[2]["attack_report"] = {"attack": {"alie": 3, "ipm": 2}}
    records[3]["attack_report"] = {"attack": {"ipm": 3, "mimic": 1}, "damage": {"mean": 1.0}}
    assert [case.attack for case in worst_cases(records)] == ["", "auto: ipm"]


def test_losses_are_worst_where_they_are_largest() -> None:
    records = grid()
    for one in records:
        value = one["metrics"].pop("accuracy_min_last5")
        one |= {"primary_metric": "mean_squared_error", "metrics": {"mean_squared_error_max_last5": value}}
    least = {(case.defense, case.num_byzantine): case.value for case in worst_cases(records)}
    accuracies = {(case.defense, case.num_byzantine): case.value for case in worst_cases(grid())}
    assert all((least[key] or 0) > (accuracies[key] or 0) for key in least if key[1])


def test_what_is_not_known_or_refused_is_told() -> None:
    records = [
        *(record("mean", attack, 0, 0.5) for attack in ATTACKS[:-1]),
        record("mean", ATTACKS[-1], 0, None),
        *(record("krum", attack, 0, 0.4) for attack in ("none", ("alie", 2), ("ipm", 2))),
        *(record("krum", (name, 4), 0, None, status="refused") for name in ("alie", "ipm")),
        *(record("lost", (name, 4), 0, None) for name in ("alie", "ipm")),
    ]
    found = {(case.defense, case.num_byzantine): case for case in worst_cases(records)}
    assert (found["mean", 4].unknown, found["mean", 4].attacks) == (1, 2)
    assert (found["krum", 4].value, found["krum", 4].refused, found["krum", 4].unknown) == (None, "too many", 0)
    assert (found["lost", 4].value, found["lost", 4].refused, found["lost", 4].unknown) == (None, "", 2)
    shown = printed(worst_case_table(records, width=120))
    assert "50.0?" in shown
    shown = " ".join(shown.split())
    assert "n/a: the defense cannot withstand so many" in shown
    assert "?: not all attacks are known" in shown


def test_an_attack_that_lacks_seeds_leaves_doubt() -> None:
    """The seeds that failed may be those in which the attack did most."""
    records = [
        *(record("mean", attack, seed, 0.5) for attack in (("alie", 2), ("ipm", 2)) for seed in range(3)),
        *(record("median", ("alie", 2), seed, 0.5) for seed in range(3)),
        *(record("median", ("ipm", 2), seed, value) for seed, value in enumerate([0.9, None, None])),
    ]
    whole, partial = worst_cases(records)
    assert (whole.incomplete, whole.doubt) == (0, "")
    assert (partial.incomplete, partial.unknown, partial.attacks, partial.doubt) == (1, 0, 2, "?")
    assert partial.as_json("accuracy")["attacks_incomplete"] == 1
    shown = printed(worst_case_table(records, width=120))
    assert shown.count("50.0?") == 1
    assert "the worst attack on each defense, of 2" in " ".join(shown.split())
    saved = worst_case_figure.worst_case_figures(records)
    texts = {text.get_text().split("\n")[0] for axes in saved[0].axes for text in axes.texts}
    assert texts == {"50.0", "50.0?"}


def test_other_axes_are_settings_and_so_is_when_attackers_attack() -> None:
    records = [*grid(1, **{"attack.until": 3}), *grid(1, **{"attack.until": 5})]
    assert [case.setting for case in worst_cases(records)][::6] == [{"attack.until": "3"}, {"attack.until": "5"}]
    varied = [*grid(1, **{"attack.scale": 3}), *grid(1, **{"attack.scale": 5})]
    assert {tuple(case.setting) for case in worst_cases(varied)} == {()}
    assert {case.attacks for case in worst_cases(varied)} == {2, 6}
    assert all("scale=" in case.attack for case in worst_cases(varied) if case.num_byzantine)


def test_the_table_names_the_attack_in_each_cell() -> None:
    shown = printed(worst_case_table(grid(), width=140))
    for case in worst_cases(grid()):
        assert f"{100 * (case.value or 0):.1f}" in shown
        assert case.attack in shown
    assert "4 Byzantine" in shown
    assert "mean over 3 seeds" in " ".join(shown.split())
    narrow = printed(worst_case_table(grid(), width=60), width=60)
    assert all(len(line) <= 60 for line in narrow.splitlines())


def test_the_heatmap_shows_every_place(tmp_path: Path) -> None:
    records = [*grid(1, partition="iid"), *grid(1, partition="dirichlet")]
    saved = worst_case_figure.worst_case_figures(records)
    (path,) = report.draw_worst_cases(tmp_path, records)
    assert path == tmp_path / "worst_case.png"
    panels = [axes for axes in saved[0].axes if axes.get_xlabel() == "Byzantine clients"]
    assert [axes.get_title() for axes in panels] == ["partition=iid", "partition=dirichlet"]
    assert [text.get_text() for text in panels[0].get_yticklabels()] == ["mean", "median"]
    texts = {text.get_text() for axes in panels for text in axes.texts}
    cases = worst_cases(records)
    assert texts == {f"{100 * (case.value or 0):.1f}" + (f"\n{case.attack}" if case.attack else "") for case in cases}
    many = [one for number in range(7) for one in grid(1, partition=str(number))]
    assert [path.name for path in report.draw_worst_cases(tmp_path, many)] == ["worst_case.png", "worst_case-2.png"]
    assert report.draw_worst_cases(tmp_path, records[:3]) == []


def test_a_drawn_heatmap_is_a_picture(tmp_path: Path) -> None:
    (path,) = report.draw_worst_cases(tmp_path, grid(1))
    assert path.read_bytes().startswith(b"\x89PNG")


def test_paired_differences_against_a_slow_account() -> None:
    records = grid()
    found = paired_differences(records)
    assert [(one.defense, one.baseline, one.setting["attack"]) for one in found][:2] == [
        ("median", "mean", "none"),
        ("median", "mean", "alie(num_byzantine=2)"),
    ]
    for one in found:
        by_defense = {
            defense: np.array(
                [
                    other["metrics"]["accuracy"]
                    for other in records
                    if (other["cell"]["defense"], other["cell"]["attack"]) == (defense, one.setting["attack"])
                ]
            )
            for defense in ("mean", "median")
        }
        paired = by_defense["median"] - by_defense["mean"]
        assert one.mean == pytest.approx(paired.mean())
        assert one.half_width == pytest.approx(half_width(paired.tolist()))
        assert (one.seeds, one.sign != 0) == (3, abs(one.mean) > (one.half_width or 0))


def test_a_common_swing_of_seeds_does_not_hide_a_difference() -> None:
    swing = [0.2, 0.5, 0.8]
    records = [record("mean", "none", seed, swing[seed]) for seed in range(3)]
    records += [record("median", "none", seed, swing[seed] + 0.05 + 0.001 * seed) for seed in range(3)]
    (one,) = paired_differences(records)
    assert (one.sign, one.mean) == (1, pytest.approx(0.051))
    assert "+5.1 +-0.2" in printed(paired_table(records, width=100))


def test_seeds_that_do_not_pair_tell_nothing() -> None:
    records = [record("mean", "none", 0, 0.5), record("median", "none", 1, 0.6)]
    assert paired_differences(records) == []
    assert paired_table(records) is None
    two = [record(name, "none", seed, 0.5 + seed / 10) for name in ("a", "b") for seed in (0, 1)]
    (one,) = paired_differences(two)
    assert (one.baseline, one.defense, one.half_width, one.sign, one.seeds) == ("a", "b", None, 0, 2)
    assert "~+0.0" in printed(paired_table(two, width=100))


def test_a_difference_says_on_how_many_seeds_it_rests_where_some_have_no_pair() -> None:
    records = [record(name, "none", seed, 0.5) for name in ("mean", "median", "krum") for seed in range(4)]
    assert "seeds:" not in printed(paired_table(records))
    records[5] = record("median", "none", 1, None)
    lines = printed(paired_table(records)).splitlines()
    places = {name: next(i for i, line in enumerate(lines) if line.startswith(name)) for name in ("median", "krum")}
    assert "3 seeds" in lines[places["median"] + 1]
    assert "4 seeds" in lines[places["krum"] + 1]
    assert "k seeds: on which the difference rests, where some have no pair" in " ".join(" ".join(lines).split())


def test_long_tables_are_cut_after_their_largest_differences(tmp_path: Path) -> None:
    names = ["mean", *map(str, range(MOST_ROWS + 2))]
    records = [record(name, "none", seed, 0.5) for name in names for seed in (0, 1)]
    for one in records[-2:]:
        one["metrics"]["accuracy"] += 0.1
    shown = printed(paired_table(records))
    assert "+10.0" in shown
    assert shown.count("~+0.0") == MOST_ROWS - 1
    assert "2 more rows are in comparisons.json, and fedsec run --full prints all" in " ".join(shown.split())
    full = printed(paired_table(records, full=True))
    assert full.count("~+0.0") == MOST_ROWS + 1
    assert "more row" not in full
    report.write_results(tmp_path, records)
    content = json.loads((tmp_path / "comparisons.json").read_text())
    assert len(content["paired_differences"]) == MOST_ROWS + 2
    assert content["worst_cases"] == []


def test_tables_of_cells_are_cut_after_the_worst_of_each_defense() -> None:
    attacks = ["none", *((f"attack_{number}", 2) for number in range(MOST_ROWS))]
    records = [
        record(name, attack, 0, 0.1 + place / 100 + (name == "median") / 10)
        for name in ("mean", "median")
        for place, attack in enumerate(reversed(attacks))
    ]
    for one in records:
        one["metrics"]["honest_excluded"] = 0.25
    names = [f"attack_{number}" for number in range(MOST_ROWS)]
    wide = printed(report.table(records, width=140))
    (detection,) = report.tables(records, width=140)
    for shown, defenses in ((wide, 1), (printed(detection), 2)):
        rows = [line.split("(")[0].split()[0] for line in shown.splitlines() if line.startswith("attack_")]
        assert set(rows) == set(names[-MOST_ROWS // defenses :])  # the worst of each
        left = defenses * (MOST_ROWS + 1) - MOST_ROWS
        sentence = "1 more row is in results.csv" if left == 1 else f"{left} more rows are in results.csv"
        assert sentence in " ".join(shown.split())
    assert all(name in printed(report.table(records, width=140, full=True)) for name in names)
    (detection,) = report.tables(records, width=140, full=True)
    assert all(name in printed(detection) for name in names)


def test_what_varies_beside_attack_and_defense_heads_a_block_whose_defenses_are_whole_words() -> None:
    records = []
    for partition, defense, attack in product(
        ("iid", "dirichlet(alpha=0.5)"), ("trimmed_mean", "geometric_median"), ("none", ("auto", 2), ("auto", 8))
    ):
        one = record(defense, attack, 0, 0.5, partition=partition)
        one["attack_report"] = {"attack": {"adaptive": 3}}
        records.append(one)
    lines = [line.rstrip() for line in printed(worst_case_table(records, width=60), width=60).splitlines()]
    assert [line for line in lines if "partition" in line] == ["partition=iid", "partition=dirichlet(alpha=0.5)"]
    assert [line.split()[0] for line in lines if "50.0" in line] == ["trimmed_mean", "geometric_median"] * 2
    assert "auto:" not in " ".join(lines)
    assert "(adaptive)" in " ".join(lines)
    assert "that which auto chose in most rounds" in " ".join(" ".join(lines).split())


def test_files_have_what_is_compared(tmp_path: Path) -> None:
    report.write_results(tmp_path, grid())
    content = json.loads((tmp_path / "comparisons.json").read_text())
    assert [case["value"] for case in content["worst_cases"]] == [case.value for case in worst_cases(grid())]
    assert content["worst_cases"][0]["metric"] == "accuracy_min_last5"
    first = content["paired_differences"][0]
    assert (first["metric"], first["told_apart"]) == ("accuracy", paired_differences(grid())[0].sign != 0)
    alone = tmp_path / "alone"
    report.write_results(alone, grid()[:1])
    assert not (alone / "comparisons.json").exists()


def printed(table: Any, width: int = 140) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()
