"""What is claimed of privacy beside what an audit by canaries shows."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fedsec.report.evidence.canary_figure import canary_audit, canary_figure, telling_score
from fedsec.report.page.parts import DataTable, Drawing, PageSection, Paragraph, Part, TableCell, TableColumn
from fedsec.report.page.svg import inline_svg
from fedsec.report.summary import Record, describe

if TYPE_CHECKING:
    from fedsec.report.page.run_page import RunView

__all__ = ["canaries"]

_ABOUT = (
    "Canaries are examples, or clients, of which each was in the training by the toss of a coin. Who tells from "
    "updates or from the model which were in proves that epsilon is at least so large, with the stated confidence. A "
    "bound of 0 is no proof that nothing leaks: another attacker may tell more, but none more than the ceiling."
)


def canaries(view: "RunView") -> PageSection | None:
    """The claims and the bounds, and what canaries scored; None where there are none."""
    audited = [(record, audit) for record in view.done if (audit := canary_audit(record)) is not None]
    if not audited:
        return None
    parts: list[Part] = [Paragraph(_ABOUT)]
    parts += [
        Paragraph(f"{describe(record['cell'])}: {audit['notes'][0]}.", "bad")
        for record, audit in audited
        if audit["exceeds"]
    ]
    columns = [
        TableColumn("setting"),
        *(TableColumn(title, numeric=True) for title in ("claimed epsilon", "audited", "if Gaussian", "ceiling")),
        TableColumn("guesses"),
    ]
    caption = (
        "Claimed: what the account says; unbounded: nothing is claimed, or no finite number. Audited: a lower bound "
        "that assumes nothing of the mechanism; if Gaussian: one that is tighter, for Gaussian mechanisms. Ceiling: "
        "what would have been audited had every guess been right."
    )
    parts.append(DataTable(columns, [_row(record, audit) for record, audit in audited], caption))
    figure = canary_figure([record for record, _ in audited])
    if figure is not None:
        description = "How canaries score that were included, and those that were not; the bounds are in the table"
        text = "Where both heaps lie on each other, nobody can tell who was in."
        parts.append(Drawing(inline_svg(figure, "canaries"), description, text))
    return PageSection("canaries", "Claimed and audited privacy", parts)


def _row(record: Record, audit: Mapping[str, Any]) -> list[TableCell]:
    claim, score = audit["claim"], telling_score(audit)
    claimed = None if claim is None else claim["value"]
    tone = "bad" if audit["exceeds"] else "plain"
    at = f"{audit['unit']}, at delta {audit['delta']:.2g}"
    cells = [
        TableCell(describe(record["cell"]) or "the cell", remark=f"{audit['count']} canaries, {audit['kind']}"),
        TableCell("unbounded", float("inf"), remark=at) if claimed is None else _number(claimed, remark=at),
        *(_number(audit[key], tone) for key in ("epsilon_lower", "epsilon_lower_gaussian")),
        _number(audit["ceiling"]),
    ]
    if score is None:
        return [*cells, TableCell("none")]
    bound = audit["bounds"][score]["approximate_dp"]
    words = f"{bound['correct']} of {bound['guesses']} right"
    return [*cells, TableCell(words, bound["correct"] / bound["guesses"], remark=score.replace("_", " "))]


def _number(value: float | None, tone: str = "plain", remark: str = "") -> TableCell:
    return TableCell("not bounded", -1.0) if value is None else TableCell(f"{value:.3g}", value, tone, remark)
