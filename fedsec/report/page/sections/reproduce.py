"""How to get the same numbers again: all of them, or those of one cell."""

import shlex
from typing import TYPE_CHECKING, Any

from fedsec.errors import FedsecError
from fedsec.report.accuracy_rows import compare, loss
from fedsec.report.page.parts import Code, DataTable, Folded, PageSection, Paragraph, Part, TableCell, TableColumn
from fedsec.report.page.resolved import as_yaml
from fedsec.report.summary import Record, describe, display, primary, value_of
from fedsec.scenario import matrix
from fedsec.scenario.overrides import apply
from fedsec.scenario.reader import read_text

if TYPE_CHECKING:
    from fedsec.report.page.run_page import RunView
    from fedsec.report.page.run_summary import RunSummary

__all__ = ["reproduce"]


def reproduce(view: "RunView") -> PageSection | None:
    """The commands, and all cells with their folders."""
    summary = view.summary
    parts: list[Part] = []
    if summary.scenario:
        if summary.given:
            about = "Runs all of it again; --out takes it to a folder of its own"
        else:
            about = f"Save the scenario above as {summary.name}.yaml; this runs all of it again"
        parts.append(Code(summary.command, about))
        example = _example(view)
        if len(view.records) > 1 and (command := cell_command(summary, example)) is not None:
            about = f"Runs one cell again, {describe(example['cell'])}, into a folder of its own"
            parts.append(Code(command, about))
        parts.append(Paragraph("Equal code, data, versions and threads give equal bits; see the hashes above."))
    parts.append(Folded(f"All cells ({len(view.records):,})", [_cells(view)]))
    return PageSection("reproduce", "Run it again", parts)


def _example(view: "RunView") -> Record:
    """A cell that is worth running alone: the first seed of what an attack hurts most, or the first one."""
    comparison = compare(view.trained)
    hurt = {
        loss(comparison.metric, change): outcome.group.records[0]["id"]
        for outcome in reversed(comparison.outcomes)
        if (change := outcome.change) is not None
    }
    ids = {record["id"]: record for record in view.records}
    return ids[hurt[max(hurt)]] if hurt else (view.done or view.records)[0]


def cell_command(summary: "RunSummary", record: Record) -> str | None:
    """The command that runs one cell of a matrix alone; None where its place in the scenario cannot be told."""
    try:
        document = read_text(summary.scenario, summary.name)
        apply(document, summary.overrides)
        axes, problems = matrix.read_axes((document.value or {}).get("matrix", {}))
    except (FedsecError, AttributeError):
        return None
    if problems:
        return None
    settings = []
    for axis in axes:
        keys = [".".join(map(str, path)) for path in axis.paths]
        wanted = [display(record["cell"].get(key)) for key in keys]
        point = next((values for values in axis.values if [matrix.display(value) for value in values] == wanted), None)
        if point is None:
            return None
        value: Any = list(point) if len(point) > 1 else point[0]
        settings += ["--set", f"matrix.{axis.name}={as_yaml([value], flow=True)}"]
    overrides = [part for text in summary.overrides for part in ("--set", text)]
    given = summary.given or f"{summary.name}.yaml"
    return shlex.join(["fedsec", "run", given, *overrides, *settings, "--out", "again"])


def _cells(view: "RunView") -> DataTable:
    metric = primary(view.records)
    axes = list(dict.fromkeys(axis for record in view.records for axis in record["cell"]))
    columns = [TableColumn("folder"), *(TableColumn(axis) for axis in axes), TableColumn("state")]
    columns += [TableColumn(metric.title, numeric=True), TableColumn("seconds", numeric=True)]
    rows = []
    for record in view.records:
        value = value_of(record, metric.name)
        rows.append(
            [
                TableCell(str(record["id"])),
                *(TableCell(display(record["cell"].get(axis, ""))) for axis in axes),
                TableCell(record["status"], tone="bad" if record["status"] == "failed" else "plain"),
                TableCell("-" if value is None else metric.write(value), value),
                TableCell(f"{record['seconds']:.3g}", record["seconds"]),
            ]
        )
    caption = "Each cell has a folder of this name, with its configuration, rounds, partition and model."
    return DataTable(columns, rows, caption)
