"""The page of an audit: names are text whatever they hold, nothing of this machine is on it, gaps are said."""

from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from fedsec.assessment.answer import answer
from fedsec.assessment.deployment import deployment
from fedsec.assessment.difference import Estimate
from fedsec.assessment.effort import LEVELS
from fedsec.assessment.finding import AuditFinding, Countermeasure, EvidenceTable
from fedsec.assessment.page import audit_page
from fedsec.assessment.result import Audit, LeftOut
from fedsec.assessment.terminal import show
from fedsec.report.page.render import render

HOSTILE = "<script>alert(1)</script>'\"&\u202e"


def finding(severity: str = "high", name: str = HOSTILE) -> AuditFinding:
    return AuditFinding(
        id=f"finding-{severity}",
        probe="poisoning",
        title=name,
        severity=severity,
        statement=f"{name} takes the accuracy away.",
        effect=Estimate(0.5, 0.3, 0.6),
        measure="accuracy_loss",
        null=name,
        position="clients: some",
        granted=(name,),
        taxonomy=("model_poisoning",),
        why=name,
        tables=(EvidenceTable(name, [name, name], [[name, "1"]]),),
        countermeasures=(Countermeasure(name, [name], Estimate(0.1, 0.0, 0.2), Estimate(-0.02, -0.05, 0.01)),),
        notes=(name,),
        cells=({"dataset": name},),
    )


@cache
def audit() -> Audit:
    deployed = deployment({"dataset": "digits", "model": "mlp", "federation": {"rounds": 8}})
    sections = {**deployed.sections, "dataset": {"name": "image_folder", "root": "/home/somebody/secret/images"}}
    return Audit(
        root=Path("/home/somebody/audit"),
        deployed=replace(deployed, sections=sections),
        findings=(finding(), finding("none", "Nothing")),
        left_out=(LeftOut("leakage", HOSTILE, HOSTILE, "fedsec audit --probe leakage"),),
        effort=LEVELS[-1],
        budget=60.0,
        seconds=59.0,
        versions={"torch": HOSTILE},
    )


class Tags(HTMLParser):
    """Counts elements."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.scripts = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"


def test_whatever_names_hold_is_text_and_no_folder_or_user_is_on_the_page() -> None:
    html = render(audit_page(audit()))
    assert Tags(html).scripts == 1  # the page's own
    assert "&lt;script&gt;alert" in html
    for told in (html, str(audit().as_json())):
        assert "/home" not in told
        assert "somebody" not in told
        assert "images" in told


def test_the_page_says_what_was_not_tested_and_what_was_shortened() -> None:
    html = render(audit_page(audit()))
    assert "fedsec audit --probe leakage" in html
    assert "1 instead of 3 seeds" in html
    assert "5 of the deployed 8 rounds" in html
    assert "none found" in html
    assert "fedsec run scenarios/finding-high.yaml" in html


def test_what_helped_stands_as_a_scenario_has_it() -> None:
    noise = Countermeasure("+ noise", [{"name": "gaussian_noise", "std": 0.75}], Estimate(0.1, 0.0, 0.2))
    shown = replace(audit(), findings=(replace(finding(), countermeasures=(noise,)),))
    assert "std: 0.75" in render(audit_page(shown))


def test_a_defense_that_chance_may_have_brought_did_not_help() -> None:
    by_chance = replace(finding(), countermeasures=(Countermeasure("median", ["median"], Estimate(0.45, 0.3, 0.6)),))
    worst, helps, _ = answer(replace(audit(), findings=(by_chance,)))
    assert worst.startswith("High: ")
    assert helps == "None of the defenses that were tried takes the worst of it away."


def test_what_helped_against_another_finding_is_not_said_of_the_worst() -> None:
    unhelped = replace(finding(), countermeasures=())
    other = replace(finding("low", "Labels"), countermeasures=finding().countermeasures)
    _, helps, _ = answer(replace(audit(), findings=(unhelped, other)))
    assert helps.startswith("Of the defenses tried against 'Labels', ")


def test_the_answer_names_the_worst_what_helps_and_what_is_missing() -> None:
    worst, helps, gaps = answer(audit())
    assert worst.startswith("High: ")
    assert "1 high" in worst
    assert "1 found nothing" in worst
    assert "leaves 10.0 [0.0..20.0] of 50.0 points" in helps
    assert "within chance" in helps
    assert "not tested, or in part" in gaps
    calm = replace(audit(), findings=(finding("none", "Nothing"),), left_out=(), effort=LEVELS[0])
    assert answer(calm)[0].startswith("None of the attacks tried did more than chance")


def test_a_terminal_of_80_columns_holds_it(capsys: pytest.CaptureFixture[str]) -> None:
    show(Console(width=80, force_terminal=False), replace(audit(), findings=(finding("high", "A title " * 9),)))
    printed = capsys.readouterr().out
    table = [line for line in printed.splitlines() if line.startswith(("severity", "high", " "))]
    assert table
    assert all(len(line) <= 80 for line in table)
    assert "\u202e" not in printed


def test_findings_are_counted_and_compared_by_level() -> None:
    assert audit().counts == {"high": 1, "none": 1}
    assert [one.severity for one in audit().at_least("medium")] == ["high"]
    assert audit().at_least("critical") == []
    assert "not tested" in repr(audit())
    assert "&lt;script&gt;" in audit()._repr_html_()
