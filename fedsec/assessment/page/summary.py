"""The top of the page: the answer, and findings by severity."""

from fedsec.assessment.answer import answer, helped
from fedsec.assessment.result import Audit
from fedsec.assessment.severity import rules
from fedsec.assessment.taxonomy import references
from fedsec.report.page.parts import DataTable, PageSection, Paragraph, Part, TableCell, TableColumn

__all__ = ["summary", "summary_parts", "tone_of"]

_BAD = ("critical", "high", "medium")


def summary(audit: Audit) -> PageSection:
    """In three sentences, and as a table."""
    return PageSection("answer", "The answer", summary_parts(audit))


def summary_parts(audit: Audit) -> list[Part]:
    """The same without a section around it, for notebooks."""
    sentences = [sentence for sentence in answer(audit) if sentence]
    worst = audit.findings[0].severity if audit.findings else "none"
    paragraphs: list[Part] = [
        Paragraph(sentence, ("bad" if worst in _BAD else "good") if place == 0 else "plain")
        for place, sentence in enumerate(sentences)
    ]
    return [*paragraphs, *([_table(audit)] if audit.findings else [])]


def tone_of(severity: str) -> str:
    """How a severity is shown; the word itself always stands beside it."""
    return "bad" if severity in _BAD else "good" if severity == "none" else "plain"


def _table(audit: Audit) -> DataTable:
    levels = rules().levels
    columns = [TableColumn("severity"), TableColumn("finding"), TableColumn("effect beyond the null", True)]
    columns += [TableColumn("attacker"), TableColumn("what helped"), TableColumn("also known as")]
    rows = []
    for finding in audit.findings:
        best = helped(finding)
        names = ", ".join(reference.id for reference in references(finding.taxonomy))
        scale = "none found" if finding.severity == "none" else finding.severity
        rows.append(
            [
                TableCell(scale, levels.index(finding.severity), tone_of(finding.severity)),
                TableCell(finding.title),
                TableCell(finding.effect_text, finding.effect.value),
                TableCell(finding.position.partition(":")[0].partition(",")[0]),
                TableCell("-" if best is None else best.name),
                TableCell(names),
            ]
        )
    return DataTable(
        columns,
        rows,
        "Findings by severity; each has a section below. Effects are in points of a percentage, in brackets the 95% "
        "interval. Severity is judged by its lower end, by rules that are the same for every audit (docs/audit.md).",
        2,
    )
