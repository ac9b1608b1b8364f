"""Cells without numbers, or with numbers that need a word: failed, refused, damaged, unfinished, outnumbered."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fedsec.errors import count_of
from fedsec.report.missing_values import rounds_outvoted
from fedsec.report.page.parts import DataTable, Folded, PageSection, Paragraph, Part, TableCell, TableColumn
from fedsec.report.page.tables import cut
from fedsec.report.summary import Record, describe

if TYPE_CHECKING:
    from fedsec.report.page.run_page import RunView

__all__ = ["problems"]

_ORDER = ("failed", "damaged", "refused", "pending")
_NAMED = 5


def problems(view: "RunView") -> PageSection | None:
    """Which cells have no numbers, and why."""
    listed = [entry for record in view.records if (entry := _problem(record, view.damaged)) is not None]
    listed.sort(key=lambda entry: _ORDER.index(entry[0]))
    unfinished = sum(state == "pending" for state, _, _ in listed)
    parts: list[Part] = []
    if listed:
        columns = [TableColumn("cell"), TableColumn("state"), TableColumn("why"), TableColumn("folder")]
        rows = [
            [
                TableCell(describe(record["cell"])),
                TableCell(state, tone="bad" if state in ("failed", "damaged") else "plain"),
                TableCell(why),
                TableCell(str(record["id"])),
            ]
            for state, why, record in listed
        ]
        caption = "Cells without numbers of their own in the tables; error.txt in a failed cell's folder has more."
        urgent = rows[: len(rows) - unfinished]
        parts += cut(DataTable(columns, urgent, caption), list(range(len(urgent)))) if urgent else []
        if unfinished:
            later = "Cells that the run did not come to, or not to the end of; the command that began it goes on."
            number = count_of(unfinished, "cell")
            parts.append(Folded(f"Not finished: {number}", [DataTable(columns, rows[len(urgent) :], later)]))
    if outnumbered := [record for record in view.done if rounds_outvoted(record)]:
        parts.append(Paragraph(_majorities(outnumbered), "note"))
    return PageSection("problems", "Cells with problems", parts) if parts else None


def _problem(record: Record, damaged: Mapping[str, str]) -> tuple[str, str, Record] | None:
    """A cell's state, and why; None where it is as it should be."""
    if why := damaged.get(record["id"]):
        return (
            "damaged",
            f"{why}; its numbers are those of results.json; run the scenario again to compute it anew",
            record,
        )
    if record["status"] == "done":
        return None
    if record["status"] in ("failed", "refused"):
        return record["status"], record.get("error") or "nobody knows", record
    return "pending", "the run was stopped before it was finished", record


def _majorities(outnumbered: Sequence[Record]) -> str:
    cells = [f"{describe(record['cell'])} ({count_of(rounds_outvoted(record), 'round')})" for record in outnumbered]
    rest = f" and {len(cells) - _NAMED} more" if len(cells) > _NAMED else ""
    return (
        "At least half of the sampled clients were Byzantine, more than any rule withstands, in rounds of "
        f"{'; '.join(cells[:_NAMED])}{rest}."
    )
