"""Draw the table of `decoupled_ablation.py features`: batches whose features were recovered, by size.

uv run python benchmarks/decoupled_ablation.py features > features.csv
uv run python benchmarks/decoupled_figure.py features.csv docs/images/inversion_features.png
"""

import argparse
import csv
from pathlib import Path

from matplotlib.figure import Figure

STYLES = {"random labels": "-", "same labels": "--"}
COLORS = {"10": "#0072B2", "100": "#D55E00"}


def main() -> None:
    """Read the table and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("picture", type=Path)
    options = parser.parse_args()
    with options.table.open() as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.subplots()
    for classes, color in COLORS.items():
        for setting, style in STYLES.items():
            chosen = [row for row in rows if (row["classes"], row["setting"]) == (classes, setting)]
            if chosen:
                label = f"{classes} classes, {setting.replace('same labels', 'one class')}"
                sizes = [int(row["batch"]) for row in chosen]
                shares = [100 * float(row["solved"]) for row in chosen]
                axes.plot(sizes, shares, style, marker="o", markersize=4, color=color, label=label)
    axes.set_xscale("log", base=2)
    axes.set_xticks([2, 4, 8, 16, 32, 64], labels=["2", "4", "8", "16", "32", "64"])
    axes.set(xlabel="batch size", ylabel="batches with exact features (%)", ylim=(-4, 104))
    axes.grid(color="0.9")
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(options.picture, dpi=150)


if __name__ == "__main__":
    main()
