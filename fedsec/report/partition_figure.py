"""The picture of a partition: which client holds how many examples of which class."""

import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedsec.errors import count_of
from fedsec.files import read_json
from fedsec.report.figures import plain, save_all
from fedsec.report.summary import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE = "#0072B2"
MOST_CIRCLES = 150
"""Up to so many clients each has circles of its own; more are drawn as shades."""
_SIZES = 64
"""Different circles at most; more are rounded in their width."""
_COLUMNS = 900
"""Columns of shades at most; each is the mean of clients beside each other."""
_NAME = 24


def draw_partitions(root: Path, records: Sequence[Record], into: Path | None = None) -> list[Path]:
    """Draw `partition_figures` into `partition.png`, `partition-2.png`, ...

    Args:
        root: the run's folder.
        records: the cells' records.
        into: the folder of the pictures; the run's by default.

    Returns:
        The files written; none if no cell has a partition.
    """
    return save_all(partition_figures(root, records), into or root, "partition")


def partition_figures(root: Path, records: Sequence[Record]) -> "list[Figure]":
    """How the examples are spread over the clients, a figure for each of `distinct_partitions`.

    One circle for each client and class, its area proportional to the number of examples; above, a bar with each
    client's total. More than 150 clients are drawn as shades, sorted by the class that most of their examples have.

    Args:
        root: the run's folder, which holds `<cell id>/partition.json`.
        records: the cells' records.

    Returns:
        The figures; none if no cell has a partition.
    """
    return [draw_partition(partition) for partition in distinct_partitions(root, records)]


def distinct_partitions(root: Path, records: Sequence[Record]) -> list[Mapping[str, Any]]:
    """What the cells' `partition.json` hold, of those that differ in more than the seed the first seed's.

    Args:
        root: the run's folder.
        records: the cells' records.
    """
    distinct: dict[str, Mapping[str, Any]] = {}
    for record in records:
        try:
            partition = read_json(root / record["id"] / "partition.json")
            counts = partition["counts"]
            data = {axis: name for axis, name in record["cell"].items() if axis.partition(".")[0] == "dataset"}
            examples = int(np.asarray(counts).sum())
            parts = [partition.get("partition"), partition["classes"], data, examples, len(counts)]
            key = json.dumps(parts, sort_keys=True)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # a cell that failed before its data was split
        if len(partition["counts"]) > 1:  # centralized training splits nothing
            distinct.setdefault(key, partition)
    return list(distinct.values())


def draw_partition(partition: Mapping[str, Any]) -> "Figure":
    """The figure of one partition."""
    return (_draw_circles if len(partition["counts"]) <= MOST_CIRCLES else _draw_shares)(partition)


def _draw_shares(partition: Mapping[str, Any]) -> "Figure":
    """Sizes of all clients in order, and the shares of the classes, clients of the same main class side by side."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    counts = np.asarray(partition["counts"], dtype=np.float64)
    clients, classes = counts.shape
    sizes = counts.sum(axis=1)
    shares = counts / np.maximum(sizes, 1)[:, None]
    main = shares.argmax(axis=1)
    order = np.lexsort((-shares[np.arange(clients), main], main))
    columns = np.stack([shares[part].mean(axis=0) for part in np.array_split(order, min(clients, _COLUMNS))], axis=1)
    across, down = 9.0, float(np.clip(0.2 * classes, 1.2, 8.0))
    figure = Figure(figsize=(across + 1.6, down + 2.6), layout="constrained")
    totals, grid = figure.subplots(2, 1, height_ratios=(1.1, down))

    totals.plot(range(clients), np.sort(sizes)[::-1], color="0.5", drawstyle="steps-mid")
    totals.set_ylabel("examples", fontsize=8)
    totals.set_xlabel("clients, the largest first", fontsize=8)
    totals.set_xlim(0, clients - 1)
    totals.set_ylim(bottom=0)
    totals.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=2))
    totals.spines[["top", "right"]].set_visible(False)
    totals.set_title(_title(partition, width=int(13 * across), circles=False), fontsize=9, loc="left")

    extent = (0.0, float(clients), classes - 0.5, -0.5)
    image = grid.imshow(columns, aspect="auto", cmap="Blues", vmin=0, vmax=1, extent=extent, interpolation="nearest")
    bar = figure.colorbar(image, ax=grid, format=PercentFormatter(1), pad=0.01)
    bar.set_label("of the client's examples", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    grid.set_xlabel(f"clients, those of the same main {_kind(partition)} side by side", fontsize=9)
    _label_classes(grid, partition)
    for axes in (totals, grid):
        axes.tick_params(labelsize=8)
    return figure


def _kind(partition: Mapping[str, Any]) -> str:
    """What examples are told apart by."""
    return "quantile" if (partition.get("partition") or {}).get("quantiles") else "class"


def _label_classes(axes: "Axes", partition: Mapping[str, Any]) -> None:
    from matplotlib.ticker import MaxNLocator

    classes = partition["classes"]
    axes.set_ylabel(_kind(partition), fontsize=9)
    if len(classes) <= 20:
        axes.set_yticks(range(len(classes)), [plain(shortened(str(name))) for name in classes])
    else:
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=20))


def shortened(name: str) -> str:
    """A class's name as far as there is room for it."""
    return name if len(name) <= _NAME else f"{name[: _NAME - 3]}..."


def _draw_circles(partition: Mapping[str, Any]) -> "Figure":
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
    shares = counts[client, label] / max(counts.max(), 1)
    if len(np.unique(shares)) > _SIZES:
        shares = (np.ceil(_SIZES * np.sqrt(shares)) / _SIZES) ** 2
    for share in np.unique(shares):  # as an SVG, circles of one size are drawn once and used often
        alike = shares == share
        grid.scatter(client[alike], label[alike], s=widest**2 * share, color=_BLUE, linewidth=0)
    grid.set_xlim(-0.6, clients - 0.4)
    grid.set_ylim(classes - 0.4, -0.6)
    grid.set_xlabel("client", fontsize=9)
    grid.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=20))
    _label_classes(grid, partition)
    grid.tick_params(labelsize=8)
    grid.grid(color="0.93", linewidth=0.5)
    grid.set_axisbelow(True)
    return figure


def _title(partition: Mapping[str, Any], width: int, *, circles: bool = True) -> str:
    settings = dict(partition.get("partition") or {})
    name = settings.pop("name", "partition")
    options = {
        key: value
        for key, value in settings.items()
        if key not in ("clients", "options", "label") and value is not None
    }
    options |= settings.get("options") or {}
    given = ", ".join(f"{key}={value}" for key, value in options.items())
    counts = np.asarray(partition["counts"])
    sizes = counts.sum(axis=1)
    seed = f", seed {partition['seed']}" if "seed" in partition else ""
    alike = sizes.min() == sizes.max()
    range_of_sizes = (
        f"{count_of(int(sizes.min()), 'example')} each" if alike else f"{sizes.min():,} to {sizes.max():,} examples"
    )
    facts = f"{count_of(len(counts), 'client')} with {range_of_sizes}{seed}"
    parts = [f"{name} ({given})" if given else str(name), facts]
    parts += [f"largest circle: {count_of(int(counts.max()), 'example')}"] if circles else []
    if circles and len(facts) + len(parts[2]) + 2 <= width:
        parts[1:] = [f"{facts}; {parts[2]}"]
    return plain("\n".join(line for part in parts for line in textwrap.wrap(part, width)))
