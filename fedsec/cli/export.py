"""`fedsec export`: a run's numbers and figures for other tools. Whatever is heavy is imported when it runs."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedsec.cli.completion import run_folders
from fedsec.errors import InputError

if TYPE_CHECKING:
    from fedsec.runs.folders.stored_run import StoredRun

__all__ = ["export"]


class TableFormat(StrEnum):
    """What a table is written as."""

    csv = "csv"
    parquet = "parquet"
    latex = "latex"
    markdown = "markdown"


_SUFFIXES = {"csv": ".csv", "parquet": ".parquet", "latex": ".tex", "markdown": ".md"}


def export(
    run: Annotated[
        Path,
        typer.Argument(help="A run's folder, such as runs/quickstart.", show_default=False, autocompletion=run_folders),
    ],
    format_: Annotated[
        TableFormat | None, typer.Option("--format", help="What to write the numbers as.", show_default=False)
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option("--metric", metavar="NAME", help="Only this metric. Repeatable.", show_default=False),
    ] = None,
    rounds: Annotated[
        bool, typer.Option("--rounds", help="CSV and Parquet: a row a cell and round, instead of one a cell.")
    ] = False,
    long: Annotated[
        bool | None,
        typer.Option(
            "--long/--wide",
            help="CSV and Parquet: a row for each number, or a column for each metric. LaTeX and Markdown: a row for "
            "each attack and defense, or a column for each defense.",
            show_default="wide",
        ),
    ] = None,
    figures: Annotated[
        bool, typer.Option("--figures", help="Also draw every figure of the run as PDF and SVG.")
    ] = False,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|-",
            help="Where the table goes, - for the standard output; with --figures alone, the folder of the figures.",
            show_default="NAME.csv, ... here",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there already.")] = False,
) -> None:
    """Write a run's numbers for a spreadsheet, a notebook or a paper, and its figures as vectors."""
    from fedsec.files import write_atomic
    from fedsec.runs.folders.stored_run import open_run

    kind = None if format_ is None else format_.value
    if kind is None and not figures:
        raise InputError(f"what to write is missing: expected --format {'|'.join(TableFormat)}, or --figures")
    tidy = kind in ("csv", "parquet")
    if rounds and not tidy:
        raise InputError("--rounds is for --format csv and parquet, whose rows it is about")
    if kind is None and (metrics or long is not None):
        raise InputError("--metric, --long and --wide are about a table; expected --format as well")
    if out == "-" and kind is None:
        raise InputError("--out -: figures are files; expected a folder")
    stored = open_run(run)
    for cell_id, wrong in stored.damaged.items():
        typer.echo(f"note: {run / cell_id}: {wrong}; what results.json says of it is written", err=True)
    name = stored.root.resolve().name
    files: dict[Path, bytes] = {}
    shown: bytes | None = None
    if kind is not None:
        content = _table(stored, kind, metrics or [], rounds=rounds, long=bool(long))
        if out == "-":
            shown = content
        else:
            files[Path(out or f"{name}{_SUFFIXES[kind]}")] = content
    if figures:
        files |= _figures(stored, _figure_folder(out, kind, name))
    for path in files:
        if path.is_dir():
            raise InputError(f"{path}: is a folder; expected the name of a file")
        if path.exists() and not force:
            raise InputError(f"{path}: is there already; --force replaces it")
    for path, content in files.items():
        write_atomic(path, content)
        typer.echo(str(path), err=shown is not None)
    if shown is not None:
        sys.stdout.buffer.write(shown)
        sys.stdout.buffer.flush()


def _figure_folder(out: str | None, kind: str | None, name: str) -> Path:
    """Beside the table, where there is one."""
    if kind is None and out is not None:
        return Path(out)
    table = Path(name) if out in (None, "-") else Path(str(out)).with_suffix("")
    return table.with_name(f"{table.name}-figures")


def _table(stored: "StoredRun", kind: str, metrics: list[str], *, rounds: bool, long: bool) -> bytes:
    from fedsec.report.exports.frames import to_parquet
    from fedsec.report.exports.latex import to_latex
    from fedsec.report.exports.markdown import to_markdown
    from fedsec.report.exports.paper_table import metrics_of, paper_tables
    from fedsec.report.exports.text_tables import to_csv
    from fedsec.report.exports.tidy import cell_table, round_table
    from fedsec.report.summary import primary

    records = stored.records
    if kind in ("csv", "parquet"):
        table = (round_table(stored.root, records) if rounds else cell_table(records)).only(metrics)
        table = table.long() if long else table
        return to_csv(table).encode() if kind == "csv" else to_parquet(table)
    from fedsec.plugins.registry import unknown

    known = metrics_of(records) or [primary(records).name]
    for name in metrics:
        if name not in known:
            raise InputError(unknown("metric", name, known))
    title = stored.summary.name
    tables = paper_tables(records, metrics, long=long, run=title)
    return (to_latex(tables, title) if kind == "latex" else to_markdown(tables)).encode()


def _figures(stored: "StoredRun", folder: Path) -> dict[Path, bytes]:
    from fedsec.report.exports.vector_figures import FORMATS, drawn, figures_of

    figures = dict(figures_of(stored.root, stored.records))
    if not figures:
        raise InputError(f"{stored.root}: has nothing to draw: no cell has finished")
    return {folder / f"{name}.{kind}": drawn(figure, kind) for name, figure in figures.items() for kind in FORMATS}
