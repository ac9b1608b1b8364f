"""Who was granted what, the federation as audited, and how to do it again."""

from typing import Any

from fedsec.assessment.budget import clock
from fedsec.assessment.described import described
from fedsec.assessment.result import Audit
from fedsec.report.page.parts import Code, DataTable, PageSection, Part, TableCell, TableColumn
from fedsec.report.page.resolved import as_yaml

__all__ = ["federation", "granted", "reproduce"]


def granted(audit: Audit) -> PageSection | None:
    """What each attacker was granted; None without findings."""
    rows = [
        [TableCell(finding.title), TableCell(finding.position), TableCell("; ".join(finding.granted))]
        for finding in audit.findings
    ]
    if not rows:
        return None
    columns = [TableColumn("finding"), TableColumn("attacker"), TableColumn("granted")]
    return PageSection(
        "granted", "What attackers were granted", [DataTable(columns, rows, "Who sits where, and knows what.")]
    )


def federation(audit: Audit) -> PageSection:
    """Settings, data, model, versions."""
    content: dict[str, Any] = dict(audit.recording) if audit.deployed is None else described(audit.deployed)
    settings = content.pop("settings", None)
    if audit.accuracy is not None:
        content["accuracy without attackers"] = f"{audit.accuracy:.1%}, the worst of the last five evaluated rounds"
    if audit.budget:
        content["budget"] = clock(audit.budget)
    content |= {"took": clock(audit.seconds), **audit.versions}
    rows = [[TableCell(name.replace("_", " ")), TableCell(str(value))] for name, value in content.items()]
    table = DataTable([TableColumn("what"), TableColumn("value")], rows, "What was audited, and by which software.")
    parts: list[Part] = [table]
    if settings is not None:
        parts.append(Code(as_yaml(settings), "Settings, as a scenario has them"))
    return PageSection("federation", "The federation as audited", parts)


def reproduce(audit: Audit) -> PageSection:
    """The command."""
    return PageSection("reproduce", "Run it again", [Code(audit.command, "Does this audit again, or finishes it")])
