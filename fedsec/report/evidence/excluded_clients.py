"""Which honest clients rules left out, and how often, beside the data that they have: the harm of detection."""

import csv
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table
from rich.text import Text

from fedsec.files import write_atomic
from fedsec.report.summary import Record, describe, display
from fedsec.report.table_layout import Layout, Reading

FILE = "excluded_clients.csv"
_MOST_ROWS = 12
_MOST_CLASSES = 2


@dataclass(frozen=True)
class ExcludedClient:
    """A client of one cell that was honest in some of its rounds.

    Args:
        cell: its axes.
        client: its number.
        honest_rounds: in how many rounds it took part honestly.
        excluded: in how many of them the rule left it out.
        counts: its examples of each class.
        classes: what the classes are called.
    """

    cell: Mapping[str, str]
    client: int
    honest_rounds: int
    excluded: int
    counts: Sequence[int]
    classes: Sequence[str]

    @property
    def share(self) -> float:
        """The share of its rounds in which it was left out."""
        return self.excluded / self.honest_rounds

    @property
    def largest_class(self) -> float:
        """The share of its examples that are of its most frequent class; 0 without examples."""
        return max(self.counts) / total if (total := sum(self.counts)) else 0.0

    @property
    def mix(self) -> str:
        """Its most frequent classes with their shares, as text."""
        total = sum(self.counts) or 1
        ordered = sorted(zip(self.counts, self.classes, strict=True), key=lambda pair: -pair[0])
        named = [f"{name} {100 * count / total:.0f}%" for count, name in ordered[:_MOST_CLASSES] if count]
        return ", ".join(named)


def excluded_clients(root: Path, records: Sequence[Record]) -> list[ExcludedClient]:
    """All clients of cells whose rule says whom it leaves out, in file order.

    Args:
        root: the run's folder, where each cell's `partition.json` is.
        records: the cells' records.
    """
    clients = []
    for record in records:
        if not record.get("exclusions"):
            continue
        try:
            partition = json.loads((root / record["id"] / "partition.json").read_text())
            counts, classes = partition["counts"], list(map(str, partition["classes"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
        cell = {axis: display(value) for axis, value in record["cell"].items()}
        for client in record["exclusions"]:
            number = client["client"]
            rounds, excluded = client["honest_rounds"], client["excluded"]
            clients.append(ExcludedClient(cell, number, rounds, excluded, counts[number], classes))
    return clients


def write_excluded_clients(root: Path, records: Sequence[Record], into: Path) -> None:
    """Write all of them into `excluded_clients.csv`, a line for each cell and client; no file where there are none.

    Args:
        root: the run's folder.
        records: the cells' records.
        into: the folder of the file.
    """
    clients = excluded_clients(root, records)
    if not clients:
        return
    axes = list(dict.fromkeys(axis for client in clients for axis in client.cell))
    classes = list(dict.fromkeys(name for client in clients for name in client.classes))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = ("client", "honest_rounds", "excluded", "share_excluded", "examples", "largest_class_share")
    writer.writerow([*axes, *columns, *(f"examples.{name}" for name in classes)])
    for client in clients:
        by_class = dict(zip(client.classes, client.counts, strict=True))
        numbers = [client.client, client.honest_rounds, client.excluded, round(client.share, 6), sum(client.counts)]
        row = [*(client.cell.get(axis, "") for axis in axes), *numbers, round(client.largest_class, 6)]
        writer.writerow([*row, *(by_class.get(name, "") for name in classes)])
    write_atomic(into / FILE, text.getvalue())


def excluded_clients_table(root: Path, records: Sequence[Record], *, width: int | None = None) -> Table | None:
    """The honest clients that were left out most, beside their mix of classes; None where nobody was.

    Args:
        root: the run's folder.
        records: the cells' records.
        width: the columns of the terminal; those of the current one by default.
    """
    clients = excluded_clients(root, records)
    worst = sorted((client for client in clients if client.excluded), key=lambda client: -client.share)[:_MOST_ROWS]
    if not worst:
        return None
    width = shutil.get_terminal_size().columns if width is None else width
    values = {axis: {client.cell.get(axis) for client in clients} for axis in clients[0].cell}
    varied = [axis for axis, some in values.items() if len(some) > 1] or list(values)
    cells = [describe({axis: client.cell[axis] for axis in varied if axis in client.cell}) for client in worst]
    keys = [cells, [str(client.client) for client in worst]]
    shares = [f"{100 * client.share:.1f}" for client in worst]
    readings = [Reading(f"{share:>{max(map(len, shares))}}") for share in shares]
    examples = [Reading(f"{sum(client.counts):,}") for client in worst]
    mixes = [Reading(client.mix) for client in worst]
    layout = Layout(("cell", "client", "out (%)", "examples", "most of it"), (*keys, readings, examples, mixes), 2)
    legend = [
        "share of the rounds in which the client was honest and its rule left it out",
        f"of a client's examples {_typical(clients)}",
        f"all clients in {FILE}",
    ]
    return layout.draw("honest clients that were left out most", Text("; ".join(legend), style="dim"), width)


def _typical(clients: Sequence[ExcludedClient]) -> str:
    """How one-sided the data of clients are that were left out, against those of all honest clients."""
    rounds, excluded = sum(client.honest_rounds for client in clients), sum(client.excluded for client in clients)
    everybody = sum(client.largest_class * client.honest_rounds for client in clients) / rounds
    left_out = sum(client.largest_class * client.excluded for client in clients) / excluded
    return (
        f"{100 * left_out:.0f}% are of one class where it was left out, {100 * everybody:.0f}% on average over all "
        "rounds"
    )
