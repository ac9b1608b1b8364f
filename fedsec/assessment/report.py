"""The files of an audit: a page, numbers, and a scenario for each finding."""

from collections.abc import Iterable

from fedsec.assessment.cells import scenario_of, scenario_text
from fedsec.assessment.finding import AuditFinding
from fedsec.assessment.result import NUMBERS, PAGE, Audit
from fedsec.assessment.severity import rules
from fedsec.files import write_atomic, write_json

__all__ = ["sorted_findings", "write_report"]


def sorted_findings(findings: Iterable[AuditFinding]) -> tuple[AuditFinding, ...]:
    """The most severe first, of equally severe ones in their order."""
    return tuple(sorted(findings, key=lambda finding: rules().levels.index(finding.severity)))


def write_report(result: Audit) -> None:
    """Write all of it into the audit's folder."""
    from fedsec.assessment.page import audit_page
    from fedsec.report.page.render import render

    for finding in result.findings:
        if finding.scenario_file is not None:
            about = f"{finding.title}: the cells behind this finding of an audit, {finding.id}."
            scenario = scenario_of(finding.id, about, finding.cells)
            head = ["Reproduces a finding of fedsec audit:", f"  fedsec run {finding.id}.yaml"]
            write_atomic(result.root / finding.scenario_file, scenario_text(scenario, head))
    write_json(result.root / NUMBERS, result.as_json())
    write_atomic(result.root / PAGE, render(audit_page(result)))
