"""Pictures of measured results, drawn from the tables in docs/results/ that they stand beside."""

import csv
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from fedsec.report.figures import save
from fedsec.report.tradeoff_figure import tradeoff_figures

RESULTS = Path(__file__).parents[1] / "results"
CALM, WORST, GRAY = "#0072B2", "#D55E00", "#777777"


def rows_of(table: str) -> list[dict[str, str]]:
    """The rows of a table in docs/results/."""
    with (RESULTS / table).open() as file:
        return list(csv.DictReader(file))


class WorstCase(NamedTuple):
    """Of one defense, in percent: without an attack, under the worst one, and that one's name."""

    calm: float
    low: float
    attack: str


def worst_cases() -> dict[str, WorstCase]:
    """What each defense of the zoo keeps: the worst of the last five evaluations."""
    left: dict[str, dict[str, float]] = {}
    for row in rows_of("byzantine_zoo.csv"):
        if row["status"] == "done":
            left.setdefault(row["defense"], {})[row["attack"]] = 100 * float(row["accuracy_min_last5"])
    worst = {}
    for defense, accuracies in left.items():
        calm = accuracies.pop("none")
        attack, low = min(accuracies.items(), key=lambda item: item[1])
        worst[defense] = WorstCase(calm, low, attack.partition("(")[0])
    return worst


def byzantine_zoo(path: Path) -> None:
    """Each defense without an attack, and under the attack that hurts it most; the best worst case on top."""
    worst = worst_cases()
    order = sorted(worst, key=lambda defense: worst[defense].low)
    figure = Figure(figsize=(8, 8.4), layout="constrained")
    axes = figure.subplots()
    for place, defense in enumerate(order):
        calm, low, attack = worst[defense]
        axes.plot([low, calm], [place, place], color="#CCCCCC", lw=2, zorder=1)
        text = f"{low:.1f} {attack}"
        axes.annotate(text, (low, place), (-7, 0), textcoords="offset points", ha="right", va="center", fontsize=8)
    axes.plot([worst[defense].low for defense in order], range(len(order)), "s", color=WORST, label="worst attack")
    axes.plot([worst[defense].calm for defense in order], range(len(order)), "o", color=CALM, label="no attack")
    axes.set_yticks(range(len(order)), labels=order, fontsize=9)
    axes.set(xlabel="accuracy, the worst of the last five evaluations (%)", xlim=(-24, 100), ylim=(-0.7, len(order)))
    axes.set_xticks(range(0, 101, 20))
    axes.grid(axis="x", color="0.9")
    axes.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
    figure.savefig(path, dpi=130)


def inversion_features(path: Path) -> None:
    """Up to which batch the equations of the last layer give exact features, by classes and by labels."""
    cases = [
        ("10 classes, mixed", "10", "random labels", 0),
        ("10 classes, all of one", "10", "same labels", 1),
        ("100 classes, mixed", "100", "random labels", 2),
        ("100 classes, all of one", "100", "same labels", 3),
    ]
    figure = Figure(figsize=(6.4, 2.6), layout="constrained")
    axes = figure.subplots()
    rows = rows_of("inversion_features.csv")
    for _, classes, setting, place in cases:
        chosen = [row for row in rows if (row["classes"], row["setting"]) == (classes, setting)]
        for row in chosen:
            exact = float(row["solved"]) == 1
            axes.plot([int(row["batch"])], [place], "o" if exact else "X", color=CALM if exact else WORST, markersize=8)
            if not exact:
                axes.annotate(f"{float(row['solved']):.0%}", (int(row["batch"]), place), (10, 0),
                              textcoords="offset points", va="center", fontsize=9)  # fmt: skip
    axes.plot([], [], "o", color=CALM, label="features of every batch exact")
    axes.plot([], [], "X", color=WORST, label="not")
    axes.set_xscale("log", base=2)
    sizes = [2, 4, 8, 16, 32]
    axes.set_xticks(sizes, labels=[str(size) for size in sizes])
    axes.set_yticks(range(len(cases)), labels=[case[0] for case in cases])
    axes.set(xlabel="images in the batch", ylim=(3.6, -0.6))
    axes.grid(axis="x", color="0.9")
    axes.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
    figure.savefig(path, dpi=150)


def tradeoff(path: Path) -> None:
    """What each defense costs in accuracy and still leaks, as a run of `privacy_fmnist` draws it."""
    save(tradeoff_figures([_record(row) for row in rows_of("privacy_fmnist.csv")])[0], path)


def _record(row: dict[str, str]) -> dict[str, Any]:
    """A row of `privacy_fmnist.csv`, whose `attack` is the inversion, as a run's record."""
    text = ("id", "attack", "federation", "partition", "defense", "seed", "status", "error", "seconds")
    axes = {"inversion": row["attack"]} | {axis: row[axis] for axis in ("federation", "partition", "defense", "seed")}
    return {
        "id": row["id"],
        "cell": axes,
        "status": row["status"],
        "metrics": {name: float(value) if value else None for name, value in row.items() if name not in text},
        "config": {"inversion": {"target": {"client": 0}}},
    }
