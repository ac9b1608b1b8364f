"""What an audit says on a terminal, in 80 columns."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedsec.assessment.answer import answer, helped
from fedsec.assessment.result import PAGE, UNFINISHED, Audit
from fedsec.report.console import say

__all__ = ["show"]

_STYLES = {"critical": "bold red", "high": "red", "medium": "yellow", "none": "green"}


def show(console: Console, audit: Audit) -> None:
    """Print the answer, the findings, what was left out, and where the report lies.

    Args:
        console: where.
        audit: finished, or as far as it came.
    """
    if audit.findings:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        table.add_column("severity", no_wrap=True)
        table.add_column("finding")
        table.add_column("effect", justify="right", no_wrap=True)
        table.add_column("what helped")
        for finding in audit.findings:
            best = helped(finding)
            severity = "none found" if finding.severity == "none" else finding.severity
            table.add_row(
                Text(severity, _STYLES.get(finding.severity, "")),
                Text(finding.title),
                Text(finding.effect_text),
                Text("-" if best is None else best.name),
            )
        console.print(table)
        say(console, "effect beyond the null in points, with its 95% interval; severity is judged by its lower end")
    for sentence in answer(audit):
        if sentence:
            say(console, sentence)
    for one in audit.left_out:
        say(console, f"not tested: {one.title}: {one.why}" + (f"; {one.command}" if one.command else ""))
    if any(UNFINISHED in one.why for one in audit.left_out) and not audit.interrupted:
        say(console, "what was not finished is gone on with when the same command is given again")
    if audit.interrupted:
        say(console, "interrupted: run the same command again to go on", essential=True)
    say(console, f"report: {audit.root / PAGE}", essential=True)
