"""The answer: a paragraph, the tables that it sums up, and whether the run was what its author expected."""

from typing import TYPE_CHECKING

from fedsec.metrics.metric import Metric
from fedsec.report.accuracy_rows import compare
from fedsec.report.answer import answer as sentences
from fedsec.report.page.parts import DataTable, Folded, Heading, PageSection, Paragraph, Part, TableCell, TableColumn
from fedsec.report.page.tables import comparison_parts
from fedsec.report.remarks import remarks
from fedsec.report.summary import primary, value_of

if TYPE_CHECKING:
    from fedsec.report.page.run_page import RunView

__all__ = ["answer"]

_FOLDED_ROWS, _FOLDED_COLUMNS = 8, 6
"""A second table of more is folded."""


def answer(view: "RunView") -> PageSection | None:
    """What came out."""
    verdicts = view.summary.expectations
    met = sum(verdict.met for verdict in verdicts)
    text = sentences(view.records, interrupted=view.summary.interrupted, met=met, judged=len(verdicts))
    parts: list[Part] = [Paragraph(" ".join(text))]
    if view.done:
        metric = primary(view.records)
        parts += comparison_parts(compare(view.trained), f"{metric.title} of the last round")
        parts += _worst_of_last(view, metric)
    parts += _expectations(view)
    parts += [Paragraph(_as_sentence(remark), "note") for remark in remarks(view.records)]
    return PageSection("answer", "The answer", parts)


def _worst_of_last(view: "RunView", metric: Metric) -> list[Part]:
    """The same of the worst of the last rounds, where there are several."""
    last = metric.worst_of_last
    values = [(value_of(record, metric.name), value_of(record, last.name)) for record in view.done]
    if all(worst is None or worst == value for value, worst in values):
        return []
    comparison = compare(view.trained, last.name)
    tables = comparison_parts(comparison, f"{last.title}: {last.about}")
    large = len(comparison.rows) > _FOLDED_ROWS or len(comparison.defenses) > _FOLDED_COLUMNS
    return [Folded(f"The same of the last rounds: {last.name}", tables)] if large else tables


def _expectations(view: "RunView") -> list[Part]:
    verdicts, set_aside = view.summary.expectations, view.summary.set_aside
    parts: list[Part] = []
    if verdicts:
        columns = [TableColumn("expected"), TableColumn("measured", numeric=True), TableColumn("met")]
        rows = [
            [
                TableCell(verdict.text),
                TableCell("-" if verdict.value is None else f"{verdict.value:.4g}", verdict.value),
                TableCell("met" if verdict.met else "NOT MET", tone="good" if verdict.met else "bad"),
            ]
            for verdict in verdicts
        ]
        caption = "What the scenario's author expected, and the mean over seeds of what was measured."
        parts += [Heading("Expectations"), DataTable(columns, rows, caption)]
    if set_aside:
        about = "Set aside, since settings from outside leave no such cell: "
        parts.append(Paragraph(f"{about}{'; '.join(set_aside)}.", "note"))
    return parts


def _as_sentence(remark: str) -> str:
    text = remark.removeprefix("note: ")
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
