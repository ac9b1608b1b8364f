"""What was not tested, and what no audit can show."""

from fedsec.assessment.result import Audit
from fedsec.report.page.parts import Code, DataTable, PageSection, Paragraph, Part, TableCell, TableColumn

__all__ = ["CANNOT", "limits", "not_tested"]

CANNOT = (
    "That nothing was found says that these attacks, at this effort, on these data, found nothing beyond the stated "
    "power; a better attack may.",
    "Numbers are of a simulation of the federation on this machine: of its settings, not of its network, its access "
    "controls, its software supply or its people.",
    "Data, model and settings were taken as they were given; of other data the same federation may give away more.",
    "Attackers are granted what each finding says. An attacker who knows more can do more.",
    "An interval is about chance, in the test set and over seeds; it is not about attacks that nobody tried.",
)


def not_tested(audit: Audit) -> PageSection | None:
    """What was left out, and why; None where nothing was."""
    shortened = audit.shortened
    parts: list[Part] = []
    if shortened:
        text = f"To fit the budget, everything was run with {', '.join(shortened)}. A larger --budget runs more of it."
        parts.append(Paragraph(text, "note"))
    if audit.left_out:
        rows = [[TableCell(one.title, remark=one.probe), TableCell(one.why)] for one in audit.left_out]
        columns = [TableColumn("attack"), TableColumn("why it was not tested, or in part")]
        parts.append(DataTable(columns, rows, "What this audit does not answer."))
        parts += [Code(one.command, f"Tests it: {one.title}") for one in audit.left_out if one.command]
    return PageSection("not-tested", "What was not tested", parts) if parts else None


def limits(audit: Audit) -> PageSection:
    """What no audit can show."""
    return PageSection("limits", "What an audit cannot show", list(map(Paragraph, CANNOT)))
