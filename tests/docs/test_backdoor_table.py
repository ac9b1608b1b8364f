"""The table of docs/backdoors.md is the means of its rows, rounded once."""

import csv
import re
from collections import defaultdict
from pathlib import Path
from statistics import fmean

DOCS = Path(__file__).parents[2] / "docs"
RULES = ("mean", "median", "multi-krum", "norm bound")
LABELS = {"square, boosted 5 times": "boosted"}


def test_the_table_has_the_rows_means() -> None:
    rates: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    with (DOCS / "results/backdoor_digits.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["attack"] != "none":
                pair = float(row["attack_success_rate_at_until"]), float(row["attack_success_rate"])
                rates[row["attack"], row["defense"]].append(pair)
    lines = re.findall(r"^\| ([\w ,]+) \| (\d.*) \|$", (DOCS / "backdoors.md").read_text(), re.MULTILINE)
    assert len(lines) == 7
    for attack, cells in lines:
        expected = [
            " -> ".join(
                f"{100 * fmean(values):.0f}" for values in zip(*rates[LABELS.get(attack, attack), rule], strict=True)
            )
            for rule in RULES
        ]
        assert cells.split(" | ") == expected, attack
