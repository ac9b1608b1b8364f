"""The answer of an audit in three sentences: what is worst, what helps, what was not looked at."""

from fedsec.assessment.budget import clock
from fedsec.assessment.finding import AuditFinding, Countermeasure
from fedsec.assessment.result import Audit
from fedsec.assessment.severity import NONE
from fedsec.errors import count_of

__all__ = ["answer", "helped", "wording"]


def answer(audit: Audit) -> list[str]:
    """Three sentences or a few more."""
    return [_worst(audit), _help(audit), _gaps(audit)]


def _worst(audit: Audit) -> str:
    positive = [finding for finding in audit.findings if finding.severity != NONE]
    if not audit.findings:
        return "Nothing was measured, so that nothing can be said."
    if not positive:
        many = count_of(len(audit.findings), "question")
        return f"None of the attacks tried did more than chance ({many} asked), at the power stated beside each."
    worst, counts = positive[0], audit.counts
    counted = ", ".join(f"{number} {level}" for level, number in counts.items() if level != NONE)
    more = f" Of {count_of(len(audit.findings), 'finding')}: {counted}{_nothing(counts.get(NONE, 0))}."
    return f"{worst.severity.capitalize()}: {worst.statement}{more}"


def _nothing(number: int) -> str:
    return f"; {number} found nothing" if number else ""


def _help(audit: Audit) -> str:
    """What would help most against the worst finding."""
    for place, finding in enumerate(audit.findings):
        if finding.severity == NONE:
            break
        best = helped(finding)
        if best is not None:
            attack = "it" if place == 0 else f"'{finding.title}'"
            return f"Of the defenses tried against {attack}, {best.name} leaves {wording(finding, best)}."
    if any(finding.countermeasures for finding in audit.findings if finding.severity != NONE):
        return "None of the defenses that were tried takes the worst of it away."
    return "No defense was tried within this budget." if audit.findings else ""


def helped(finding: AuditFinding) -> Countermeasure | None:
    """The best countermeasure that leaves less than there was, by more than chance; None where none does."""
    return next((one for one in finding.countermeasures if one.effect.high < finding.effect.value), None)


def wording(finding: AuditFinding, one: Countermeasure) -> str:
    """What a countermeasure leaves of an effect and costs, in words."""
    left = f"{one.effect.points()} of {100 * finding.effect.value:.1f} points"
    if finding.unit == "epsilon":
        left = f"{finding.left_text(one)}, where epsilon >= {finding.effect.low:.2f} was shown without it"
    if one.cost is None:
        return f"{left}; what it costs was not measured"
    change = "costs" if one.cost.value <= 0 else "gains"
    low, high = sorted((abs(one.cost.low), abs(one.cost.high)))
    if one.cost.low < 0 < one.cost.high:
        return f"{left}, at a change of accuracy without attackers of {100 * one.cost.value:+.1f} points, within chance"
    return f"{left}, and {change} {abs(100 * one.cost.value):.1f} [{100 * low:.1f}..{100 * high:.1f}] points"


def _gaps(audit: Audit) -> str:
    spent = f"It took {clock(audit.seconds)}"
    if audit.budget:
        spent += f" of a budget of {clock(audit.budget)}"
    shortened = audit.shortened
    parts = [f"with {', '.join(shortened)}"] if shortened else []
    if audit.interrupted:
        parts.append("and was interrupted")
    gaps = [one.title for one in audit.left_out]
    rest = f"; not tested, or in part: {'; '.join(gaps)}" if gaps else "; every probe that was asked for was run"
    return f"{' '.join([spent, *parts])}{rest}."
