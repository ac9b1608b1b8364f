"""The pictures of methods' pages have the rows' numbers: which column, beside which other cell, of which seeds."""

import csv
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

pytest.importorskip("mkdocs", reason="the documentation's packages are not installed (group docs)")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def hook() -> Iterator[Any]:
    """Imports a hook as mkdocs does."""
    sys.path.insert(0, str(ROOT / "docs/hooks"))
    yield import_module
    sys.path.remove(str(ROOT / "docs/hooks"))
    for name in [name for name, module in sys.modules.items() if "docs/hooks" in str(getattr(module, "__file__", ""))]:
        del sys.modules[name]


def column(source: str, name: str, factor: float = 100.0, **cell: str) -> tuple[float, ...]:
    with (ROOT / "docs/results" / source).open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if all(row[key] == value for key, value in cell.items())]
    assert rows, cell
    return tuple(factor * float(row[name]) for row in rows if row[name])


def bars(hook: Any, kind: str, name: str, source: str, place: int = 0) -> dict[str, Any]:
    pictures = [picture for picture in hook("measured").measurements(kind, name) if picture.source == source]
    return {bar.label: bar for bar in pictures[place].bars}


def test_a_rule_stands_beside_the_mean_and_a_pipeline_beside_its_rule(hook: Any) -> None:
    zoo = "byzantine_zoo.csv"
    alone, mixed = bars(hook, "defense", "krum", zoo)["ipm"], bars(hook, "defense", "nnm", zoo, 1)["ipm"]
    assert alone.values == mixed.others == column(zoo, "accuracy", attack="ipm", defense="krum")
    assert alone.others == column(zoo, "accuracy", attack="ipm", defense="mean")
    assert mixed.values == column(zoo, "accuracy", attack="ipm", defense="[nnm, krum]")


def test_an_attack_stands_beside_none(hook: Any) -> None:
    zoo = "byzantine_zoo.csv"
    bar = bars(hook, "attack", "ipm", zoo)["krum"]
    assert bar.values == column(zoo, "accuracy", attack="ipm", defense="krum")
    assert bar.others == column(zoo, "accuracy", attack="none", defense="krum")


def test_the_worst_case_is_that_of_the_last_rounds_on_every_seed(hook: Any) -> None:
    source = "worst_case_fmnist_small.csv"
    bar = bars(hook, "defense", "median", source)["unlike data, 4 attackers"]
    cell = {"partition": "dirichlet(alpha=0.5)", "attack": "auto(num_byzantine=4)"}
    assert bar.values == column(source, "accuracy_min_last5", defense="median", **cell)
    assert bar.others == column(source, "accuracy_min_last5", defense="mean", **cell)


@pytest.mark.parametrize(
    ("kind", "name", "label"), [("attack", "dba", "distributed, mean"), ("defense", "mean", "distributed")]
)
def test_backdoors_are_shown_when_attackers_leave_beside_the_end(hook: Any, kind: str, name: str, label: str) -> None:
    source = "backdoor_digits.csv"
    bar = bars(hook, kind, name, source)[label]
    assert bar.values == column(source, "attack_success_rate_at_until", attack="distributed", defense="mean")
    assert bar.others == column(source, "attack_success_rate", attack="distributed", defense="mean")
    assert fmean(bar.values) > fmean(bar.others) > 50


def test_of_two_attackers_the_better_one_is_shown(hook: Any) -> None:
    source = "privacy_quickstart.csv"
    of_each = [
        column(source, "psnr", 1.0, **{"defense": "signs", "inversion.name": attacker})
        for attacker in ("inverting_gradients", "grad_inversion")
    ]
    assert fmean(of_each[0]) != fmean(of_each[1])
    assert bars(hook, "defense", "sign", source)["signs"].values == max(of_each, key=fmean)


def test_inversions_stand_beside_the_gray_image(hook: Any) -> None:
    source = "inversions_digits.csv"
    bar = bars(hook, "inversion", "dlg", source, 1)["dlg"]
    cell = {"partition": "four images", "inversion": "dlg"}
    assert bar.values == column(source, "psnr", 1.0, **cell)
    assert bar.others == column(source, "psnr_gray", 1.0, **cell)
    assert bar.emphasized


def test_cells_that_failed_are_not_shown(hook: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some.csv").write_text("attack,status,accuracy\nnone,done,0.9\nnone,failed,0.1\n")
    results = hook("measured.results")
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    assert results.numbers(results.where("some.csv", attack="none"), "accuracy") == (90.0,)


def test_dots_are_means_and_lines_ranges(hook: Any) -> None:
    calls: dict[str, tuple[Any, ...]] = {}

    class Axes:
        def hlines(self, *places: Any, **style: Any) -> None:
            calls["lines"] = places

        def plot(self, *places: Any, **style: Any) -> None:
            calls["dots"] = places

    hook("dot_plot")._dots(Axes(), [(0, (1.0, 2.0, 6.0)), (1, ()), (2, (5.0,))], "black", "none")
    assert calls["dots"][:2] == ([3.0, 5.0], [0, 2])
    assert calls["lines"] == ((0,), (1.0,), (6.0,))
