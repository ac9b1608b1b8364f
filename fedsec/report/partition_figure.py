"""The picture of a partition: which client holds how many examples of which class."""

import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedsec.files import read_json
from fedsec.report.figures import plain, save
from fedsec.report.summary import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BLUE = "#0072B2"


def draw_partitions(root: Path, records: Sequence[Record], into: Path | None = None) -> list[Path]:
    """Draw how the examples are spread over the clients into `partition.png`.

    One circle for each client and class, its area proportional to the number of examples; above, a bar with each
    client's total. Partitions that differ in more than the seed continue in `partition-2.png` and so on, each drawn
    for its first seed.

    Args:
        root: the run's folder, which holds `<cell id>/partition.json`.
        records: the cells' records.
        into: the folder of the pictures; the run's by default.

    Returns:
        The files written; none if no cell has a partition.
    """
    distinct: dict[str, Mapping[str, Any]] = {}
    for record in records:
        try:
            found = read_json(root / record["id"] / "partition.json")
            totals = np.asarray(found["counts"]).sum(axis=0).tolist()
            key = json.dumps([found.get("partition"), found["classes"], totals, len(found["counts"])], sort_keys=True)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # a cell that failed before its data was split
        if len(found["counts"]) > 1:  # centralized training splits nothing
            distinct.setdefault(key, found)
    return [
        save(_draw(found), (into or root) / ("partition.png" if number == 1 else f"partition-{number}.png"))
        for number, found in enumerate(distinct.values(), start=1)
    ]


def _draw(partition: Mapping[str, Any]) -> "Figure":
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    counts = np.asarray(partition["counts"], dtype=np.float64)
    clients, classes = counts.shape
    side = float(np.clip(9 / max(clients, classes), 0.13, 0.42))  # of one client's and class's square, in inches
    across, down = max(side * clients, 3.6), max(side * classes, 1.2)
    figure = Figure(figsize=(across + 1.6, down + 1.9), layout="constrained")
    totals, grid = figure.subplots(2, 1, sharex=True, height_ratios=(0.7, down))

    totals.bar(range(clients), counts.sum(axis=1), width=0.8, color="0.7")
    totals.set_ylabel("examples", fontsize=8)
    totals.tick_params(labelsize=8)
    totals.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=2))
    totals.spines[["top", "right"]].set_visible(False)
    totals.set_title(_title(partition, width=int(13 * across)), fontsize=9, loc="left")

    client, label = np.nonzero(counts)
    widest = 72 * 0.92 * min(across / clients, down / classes)
    areas = widest**2 * counts[client, label] / max(counts.max(), 1)
    grid.scatter(client, label, s=areas, color=_BLUE, linewidth=0)
    grid.set_xlim(-0.6, clients - 0.4)
    grid.set_ylim(classes - 0.4, -0.6)
    grid.set_xlabel("client", fontsize=9)
    grid.set_ylabel("class", fontsize=9)
    grid.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=20))
    if classes <= 20:
        grid.set_yticks(range(classes), [plain(str(name)) for name in partition["classes"]])
    else:
        grid.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=20))
    grid.tick_params(labelsize=8)
    grid.grid(color="0.93", linewidth=0.5)
    grid.set_axisbelow(True)
    return figure


def _title(partition: Mapping[str, Any], width: int) -> str:
    settings = dict(partition.get("partition") or {})
    name = settings.pop("name", "partition")
    options = {key: value for key, value in settings.items() if key not in ("clients", "options", "label")}
    options |= settings.get("options") or {}
    given = ", ".join(f"{key}={value}" for key, value in options.items())
    counts = np.asarray(partition["counts"])
    sizes = counts.sum(axis=1)
    seed = f", seed {partition['seed']}" if "seed" in partition else ""
    facts = f"{len(counts)} clients with {sizes.min():,} to {sizes.max():,} examples{seed}"
    parts = [f"{name} ({given})" if given else str(name), facts, f"largest circle: {counts.max():,} examples"]
    if len(facts) + len(parts[2]) + 2 <= width:
        parts[1:] = [f"{facts}; {parts[2]}"]
    return plain("\n".join(line for part in parts for line in textwrap.wrap(part, width)))
