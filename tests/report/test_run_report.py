"""The summary over seeds, the table, and the files of numbers."""

import csv
import json
import math
import re
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from fedsec.report import missing_values as missing
from fedsec.report import run_report as report
from fedsec.scenario import Expectation

ATTACKED = "label_flip(fraction=0.4)"


def record(accuracy: float | None, status: str = "done", *, seed: int = 0, **cell: Any) -> dict[str, Any]:
    metrics = {"accuracy": accuracy, "loss": 1 - (accuracy or 0), "per_class_accuracy": [0.5, None]}
    done = status == "done"
    return {
        "id": "-".join(map(str, (*cell.values(), seed))),
        "cell": {**cell, "seed": seed},
        "status": status,
        "metrics": metrics if done else {},
        "error": None if done else "it broke",
        "seconds": 2.5,
    }


def matrix(readings: dict[tuple[str, str], list[float]]) -> list[dict[str, Any]]:
    return [
        record(value, attack=attack, defense=defense, seed=seed)
        for (attack, defense), values in readings.items()
        for seed, value in enumerate(values)
    ]


def printed(records: list[dict[str, Any]], metric: str | None = "accuracy", width: int = 80) -> str:
    console = Console(width=width, color_system=None, force_terminal=True, legacy_windows=False)
    with console.capture() as capture:
        console.print(report.table(records, metric, width=width))
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


EXAMPLE = {
    (ATTACKED, "mean"): [0.10, 0.12, 0.08],
    (ATTACKED, "median"): [0.94, 0.95, 0.96],
    ("none", "mean"): [0.96, 0.95, 0.97],
    ("none", "median"): [0.95, 0.95, 0.95],
}


@given(st.permutations(range(5)))
@settings(deadline=None, max_examples=20)
def test_summary_does_not_depend_on_the_order_of_seeds(order: list[int]) -> None:
    records = [record(0.1 * seed, attack="none", defense="mean", seed=seed) for seed in order]
    (group,) = report.summarize(records).groups
    assert group.n == 5
    assert group.mean == pytest.approx(0.2)
    assert group.interval == pytest.approx((0.0, 0.4))


def test_summary_groups_everything_but_the_seed() -> None:
    axes = product(["none", ATTACKED], ["mean", "median"], [0.1, 0.9], range(3))
    records = [record(0.5, attack=a, defense=d, **{"partition.alpha": p}, seed=s) for a, d, p, s in axes]
    summary = report.summarize(records)
    assert summary.axes == ("attack", "defense", "partition.alpha")
    assert summary.further == ("partition.alpha",)
    assert len(summary.groups) == 8
    assert all(group.n == 3 for group in summary.groups)
    attacked = next(group for group in summary.groups if group.attacked and group.axes["partition.alpha"] == "0.9")
    baseline = summary.baseline(attacked)
    assert baseline is not None
    assert baseline.axes == {**attacked.axes, "attack": "none"}


def test_a_labeled_no_attack_is_known_by_its_configuration() -> None:
    records = matrix({("clean", "mean"): [0.9], (ATTACKED, "mean"): [0.5]})
    records[0]["config"] = {"attack": {"name": "none"}}
    records[1]["config"] = {"attack": {"name": "label_flip"}}
    assert [group.attacked for group in report.summarize(records).groups] == [False, True]


def test_one_seed_has_no_interval_and_failed_cells_no_value() -> None:
    records = [record(0.5, attack="none"), record(None, "failed", attack="none", seed=1)]
    (group,) = report.summarize(records).groups
    assert (group.n, group.failed, group.mean, group.interval) == (1, 1, 0.5, None)


def test_two_seeds_have_an_interval() -> None:
    (group,) = report.summarize(matrix({("none", "mean"): [0.4, 0.6]})).groups
    assert group.interval == group.values


def test_table_reads_as_it_should() -> None:
    assert printed(matrix(EXAMPLE), width=100).splitlines() == [
        "accuracy (%)",
        "attack                      mean                         median",
        "─" * 83,
        "none                         96.0 [95.0..97.0]            95.0",
        "label_flip (fraction=0.4)   !10.0 [8.0..12.0]  (-86.0)   *95.0 [94.0..96.0] (~+0.0)",
        "mean over 3 seeds; in brackets the smallest and the largest of them, where they differ; in",
        "parentheses the change against no attack on equal seeds in points; ~ not told apart from it; on",
        "equal seeds * cannot be told from the best of a row, ! not from the worst",
    ]


def test_title_and_caption_are_as_wide_as_the_terminal_and_not_as_the_table() -> None:
    lines = printed(matrix({("none", "mean"): [0.9, 0.8]}), width=80).splitlines()
    assert max(map(len, lines[1:4])) < 40
    assert lines[4:] == ["mean over 2 seeds; in brackets the smallest and the largest of them, where they", "differ"]


def test_table_without_attack_or_defense_axes() -> None:
    records = [record(0.8, **{"partition.clients": clients}) for clients in (10, 100)]
    assert printed(records).split() == [
        "accuracy",
        "(%)",
        "partition.",
        "clients",
        "accuracy",
        "─" * 21,
        "10",
        "80.0",
        "100",
        "80.0",
    ]


def test_the_title_of_a_narrow_table_is_not_broken() -> None:
    assert printed([record(0.5, defense="mean")]).splitlines()[0].rstrip() == "accuracy (%)"


def test_table_of_a_loss_marks_the_lowest_as_best() -> None:
    text = printed(matrix({("none", "mean"): [0.9, 0.91, 0.92], ("none", "median"): [0.7, 0.71, 0.72]}), "loss")
    assert "*0.090" in text
    assert "!0.290" in text


def test_the_smallest_epsilon_is_the_best() -> None:
    records = matrix({("none", "loud"): [0.5] * 3, ("none", "quiet"): [0.5] * 3})
    for place, entry in enumerate(records):
        entry["metrics"]["epsilon"] = (1.5, 80.0)[place // 3]
    text = printed(records, "epsilon")
    assert text.splitlines()[0] == "epsilon"
    assert "*1.5 " in text
    assert "!80" in text


def test_seeds_that_differ_more_than_defenses_mark_no_winner() -> None:
    readings = {("none", "mean"): [0.974, 0.969, 0.984], ("none", "median"): [0.972, 0.972, 0.980]}
    text = printed(matrix(readings))
    assert "*" not in text
    assert "!" not in text
    assert "97.6 [96.9..98.4]" in text


def test_all_that_cannot_be_told_from_the_best_are_marked() -> None:
    readings = {
        (ATTACKED, "mean"): [0.10, 0.12, 0.08],
        (ATTACKED, "median"): [0.95, 0.96, 0.94],
        (ATTACKED, "krum"): [0.94, 0.97, 0.94],
        (ATTACKED, "clip"): [0.50, 0.51, 0.52],
    }
    text = printed(matrix(readings), width=120)
    assert [re.search(rf"[*!]?{number}", text)[0] for number in ("10.0", "95.0", "51.0")] == ["!10.0", "*95.0", "51.0"]  # type: ignore[index]
    assert len(re.findall(r"\*95\.0", text)) == 2


def test_wide_seeds_give_intervals_that_can_be() -> None:
    text = printed(matrix({("none", "mean"): [0.544, 0.777], ("none", "median"): [0.5, 1.0]}))
    assert "66.0 [54.4..77.7]" in text or "66.1 [54.4..77.7]" in text
    assert "75.0 [50.0..100.0]" in text


def test_changes_are_those_on_equal_seeds() -> None:
    records = matrix({("none", "mean"): [0.9, 0.5, 0.7, 0.6], (ATTACKED, "mean"): [0.8, 0.4, 0.6, 0.5]})
    records[1] = record(None, "failed", attack="none", defense="mean", seed=1)
    text = printed(records)
    assert "(-10.0)" in text


def test_a_cell_that_diverged_says_so() -> None:
    records = matrix({("none", "mean"): [0.9, 0.9], (ATTACKED, "mean"): [0.1, 0.1], (ATTACKED, "median"): [0.9, 0.1]})
    for place, number in ((2, 9), (3, 7), (5, 4)):
        records[place]["metrics"]["diverged_in_round"] = number
    text = printed(records, width=120)
    assert "diverged in rounds 7 to 9" in text
    assert "1 of 2 diverged in round 4" in text
    (note,) = report.remarks(records)
    assert note.startswith("note: the model was no longer finite in 3 of 6 cells, which end there and count as always")
    assert "seed=0 (round 9)" in note


def test_a_matrix_at_chance_shows_nothing() -> None:
    records = matrix(
        {("none", "mean"): [0.122, 0.10], ("none", "median"): [0.11, 0.10], (ATTACKED, "mean"): [0.1, 0.1]}
    )
    for entry in records:
        entry["constant_answer"] = {"accuracy": 0.105}
    (note,) = report.remarks(records)
    assert note.startswith(
        "note: no setting without an attack is better than always giving the same answer (accuracy 10.5%); this matrix "
        "shows nothing about attacks and defenses; usual reasons: too few rounds"
    )
    records[0]["metrics"]["accuracy"] = records[1]["metrics"]["accuracy"] = 0.95
    (note,) = report.remarks(records)
    assert "1 of 2 settings without an attack are no better than always giving the same answer" in note
    assert "they show nothing about attacks: none, median;" in note
    for entry in records[2:]:
        entry["metrics"]["accuracy"] = 0.16
    assert report.remarks(records) == []


def test_a_matrix_of_nothing_but_inversions_need_not_learn() -> None:
    records = matrix({("none", "mean"): [0.1, 0.1]})
    for entry in records:
        entry["constant_answer"] = {"accuracy": 0.105}
    assert "shows nothing" in report.remarks(records)[0]
    for entry in records:
        entry["metrics"]["rounds_reconstructed"] = 1
    assert report.remarks(records) == []


def test_a_run_without_accuracy_is_reported_by_its_own_metric() -> None:
    records = [
        {
            **record(None, attack=attack, defense=defense, seed=seed),
            "metrics": {"mse": error + 0.01 * seed},
            "primary_metric": "mse",
            "constant_answer": {"mse": 1.0},
        }
        for attack, defense, error in (("none", "mean", 0.2), (ATTACKED, "mean", 3.0), (ATTACKED, "median", 0.3))
        for seed in range(3)
    ]
    text = printed(records, None)
    assert text.splitlines()[0] == "mse"
    assert "!3.010 [3.000..3.020] (+2.800)" in text
    assert "*0.310" in text
    assert "accuracy" not in text
    assert report.remarks(records) == []
    for entry in records[:3]:
        entry["metrics"]["mse"] = 0.99
    assert "(mse 1.000); this matrix shows nothing" in report.remarks(records)[0]
    assert report.check([expect("<=", 0.4, records[6:], "mse")], records)[0][2]
    assert report.tables(records) == []  # an error of predictions is nothing that an inversion reconstructed
    assert missing.why({**records[0], "metrics": {"mse": None}}, "mse") == "mse is no finite number"


def test_table_marks_nothing_where_all_are_equal() -> None:
    text = printed(matrix({("none", "mean"): [0.90001], ("none", "median"): [0.90002]}))
    assert "a single seed does not tell best from worst" in " ".join(text.split())
    assert "*90" not in text
    assert "!90" not in text


def test_table_says_what_failed_and_what_is_missing() -> None:
    records = [
        record(None, "failed", attack="none", defense="mean"),
        record(None, "pending", attack="none", defense="median"),
        record(0.5, attack="none", defense="krum"),
        record(None, "failed", attack="none", defense="krum", seed=1),
        record(None, attack="none", defense="bulyan"),
        record(0.7, attack=ATTACKED, defense="krum"),
    ]
    lines = printed(records, width=100).splitlines()
    assert lines[3].split() == ["none", "failed", "pending", "50.0", "n/a"]
    assert "1 of 2 failed" in lines[4]
    assert lines[5].split() == ["label_flip", "(fraction=0.4)", "-", "-", "70.0", "(+20.0)", "-"]


NAMES = st.sampled_from(
    ["mean", "median", "trimmed_mean(trim_per_side=0.4)", "geometric_median", "krum(num_byzantine=4)", "[red]bulyan[/]"]
)


@given(
    st.lists(NAMES, min_size=1, max_size=6, unique=True),
    st.lists(st.sampled_from(["none", ATTACKED, "sign_flip(scale=2.0, fraction=0.1)"]), min_size=1, unique=True),
    st.sampled_from([80, 120]),
    st.sampled_from([1, 3]),
)
@settings(deadline=None, max_examples=30)
def test_table_fits_and_loses_nothing(defenses: list[str], attacks: list[str], width: int, seeds: int) -> None:
    rng = np.random.default_rng(0)
    cells = list(product(attacks, defenses))
    readings = {cell: list(rng.uniform(0, 1, seeds)) for cell in cells}
    text = printed(matrix(readings), width=width)
    assert max(map(len, text.splitlines())) <= width
    squeezed = "".join(text.split())
    for (attack, defense), values in readings.items():
        assert attack.split("(")[0] in text
        assert defense.split("(")[0] in text
        assert defense.removeprefix(defense.split("(")[0]) in squeezed
        assert f"{100 * np.mean(values):.1f}" in text


def test_a_wide_matrix_becomes_a_long_table() -> None:
    names = [f"a_rather_long_name_{number}" for number in range(8)]
    text = printed(matrix({(attack, name): [0.5] for attack in ("none", ATTACKED) for name in names}))
    assert "defense" in text
    assert len([line for line in text.splitlines() if "50.0" in line]) == 16
    assert len([line for line in text.splitlines() if line.startswith("label_flip")]) == 1


def test_results_files(tmp_path: Path) -> None:
    records = matrix(EXAMPLE)
    records[0]["metrics"]["loss"] = math.nan
    records[0]["config"] = {"too": "large"}
    records[1] = record(None, "failed", attack=ATTACKED, defense="mean", seed=1)
    report.write_results(tmp_path, records)

    written = json.loads((tmp_path / "results.json").read_text())
    assert [entry["id"] for entry in written] == [entry["id"] for entry in records]
    assert written[0]["metrics"] == {"accuracy": 0.1, "loss": None, "per_class_accuracy": [0.5, None]}
    assert written[0]["cell"] == {"attack": ATTACKED, "defense": "mean", "seed": 0}
    assert "config" not in written[0]
    assert (written[1]["status"], written[1]["error"], written[1]["metrics"]) == ("failed", "it broke", {})

    with (tmp_path / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        *("id", "attack", "defense", "seed", "status"),
        *("accuracy", "loss", "per_class_accuracy.0", "per_class_accuracy.1"),
        *("error", "seconds"),
    ]
    assert [row["accuracy"] for row in rows[:3]] == ["0.1", "", "0.08"]
    assert {path.name for path in tmp_path.iterdir()} == {"results.json", "results.csv", "comparisons.json"}


def test_what_only_other_cells_have_is_null(tmp_path: Path) -> None:
    records = matrix({("none", "mean"): [0.9], ("dlg", "mean"): [0.8]})
    records[1]["metrics"] |= {"psnr": 20.0, "lpips": None}
    records.append(record(None, "failed", attack="idlg", defense="mean"))
    report.write_results(tmp_path, records)
    written = json.loads((tmp_path / "results.json").read_text())
    assert [entry["metrics"].get("psnr", "-") for entry in written] == [None, 20.0, "-"]
    assert list(written[0]["metrics"]) == list(written[1]["metrics"])
    with (tmp_path / "results.csv").open(newline="") as file:
        assert [(row["psnr"], row["lpips"]) for row in csv.DictReader(file)] == [("", ""), ("20.0", ""), ("", "")]


def test_no_text_becomes_a_formula_of_a_spreadsheet(tmp_path: Path) -> None:
    records = [record(0.5, attack="=cmd()", defense="-0.5"), record(None, "failed", attack="@x", defense="+a")]
    records[1]["error"] = "-1 is too small"
    records[0]["metrics"]["loss"] = -0.25
    report.write_results(tmp_path, records)
    with (tmp_path / "results.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["attack"], first["defense"], first["loss"]) == ("'=cmd()", "-0.5", "-0.25")
    assert (second["attack"], second["defense"], second["error"]) == ("'@x", "'+a", "'-1 is too small")


def test_reporting_is_light() -> None:
    code = (
        "import sys, fedsec.report.run_report, fedsec.report.progress; "
        "heavy = {'torch', 'matplotlib', 'scipy', 'sklearn', 'torchvision'} & set(sys.modules); "
        "sys.exit(' '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def expect(comparison: str, value: float, records: list[dict[str, Any]], metric: str = "accuracy") -> Expectation:
    cells = tuple(entry["id"] for entry in records)
    return Expectation({"attack": "label_flip"}, metric, comparison, value, cells=cells)


def test_expectations_judge_the_mean_over_seeds() -> None:
    records = matrix(EXAMPLE)
    attacked_median = records[3:6]
    verdicts = report.check(
        [
            expect(">=", 0.95, attacked_median),
            expect(">", 0.95, attacked_median),
            expect("<", 0.2, records[:3]),
            expect("<=", 0.05, attacked_median, "loss"),
        ],
        records,
    )
    assert [met for _, _, met in verdicts] == [True, False, True, True]
    assert [measured for _, measured, _ in verdicts] == pytest.approx([0.95, 0.95, 0.1, 0.05])
    assert verdicts[0][0] == "attack=label_flip: accuracy >= 0.95"


def test_each_group_of_an_expectation_must_meet_it() -> None:
    records = matrix(EXAMPLE)
    assert report.check([expect(">=", 0.9, records[:6])], records) == [
        (f"{ATTACKED}, mean: accuracy >= 0.9", pytest.approx(0.1), False),
        (f"{ATTACKED}, median: accuracy >= 0.9", pytest.approx(0.95), True),
    ]


def test_failed_and_missing_cells_meet_nothing() -> None:
    records = matrix(EXAMPLE)
    records[0] = record(None, "failed", attack=ATTACKED, defense="mean")
    records[6]["metrics"] = {}
    lost = record(0.5, attack="lost", defense="mean")
    verdicts = report.check(
        [expect("<", 0.9, records[:3]), expect("<", 0.99, records[6:9]), expect("<", 0.9, [lost])], records
    )
    assert verdicts == [
        ("attack=label_flip: accuracy < 0.9 (no value: the cell failed (1 of 3 cells))", pytest.approx(0.1), False),
        (
            "attack=label_flip: accuracy < 0.99 (no value: accuracy was not measured (1 of 3 cells))",
            pytest.approx(0.96),
            False,
        ),
        ("attack=label_flip: accuracy < 0.9 (no such cell was run)", None, False),
    ]


def test_a_metric_that_could_not_be_measured_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(missing, "lpips_advice", lambda: "LPIPS needs weights: put URL into FOLDER")
    records = matrix({("dlg", "mean"): [0.5, 0.5]})
    for entry in records:
        entry["metrics"] |= {"psnr": 20.0, "lpips": None, "label_accuracy": None}
    assert report.check([expect("<", 0.3, records, "lpips"), expect(">", 0.5, records, "label_accuracy")], records) == [
        ("attack=label_flip: lpips < 0.3 (no value: LPIPS needs weights: put URL into FOLDER)", None, False),
        ("attack=label_flip: label_accuracy > 0.5 (no value: the attack recovers no labels)", None, False),
    ]


def test_equality_survives_the_average() -> None:
    records = matrix({("none", "mean"): [0.1, 0.1, 0.1]})
    assert report.check([expect("==", 0.1, records)], records)[0][2]


def test_what_an_attack_remarked_stands_below_the_tables() -> None:
    records = [record(0.5, attack="alie", defense=rule) for rule in ("mean", "median")]
    for entry in records:
        entry["attack_report"] = {"z": {"mean": 0.0, "min": 0.0, "max": 0.0, "rounds": 3}, "remark": {"no attack": 3}}
    (note,) = report.remarks(records)
    assert note == "note: no attack: alie, mean, seed=0 (3 rounds); alie, median, seed=0 (3 rounds)"
