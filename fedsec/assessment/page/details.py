"""One finding: what was measured, the evidence, who could do it, what helps, how to see it again."""

import shlex
from collections.abc import Iterator, Mapping

from fedsec.assessment.answer import helped, wording
from fedsec.assessment.finding import AuditFinding, EvidenceTable
from fedsec.assessment.page.summary import tone_of
from fedsec.assessment.severity import rules
from fedsec.assessment.taxonomy import references
from fedsec.plugins.own_models import VARIABLE
from fedsec.report.page.parts import (
    Code,
    DataTable,
    Folded,
    ImageGrid,
    PageSection,
    Paragraph,
    Part,
    TableCell,
    TableColumn,
)
from fedsec.report.page.resolved import as_yaml
from fedsec.report.page.sections.reconstructions import photo_of

__all__ = ["detail"]

_RANKS = ("best", "median", "worst")


def detail(finding: AuditFinding) -> PageSection:
    """A section."""
    severity = "none found" if finding.severity == "none" else finding.severity
    return PageSection(f"finding-{finding.id}", f"{finding.title} ({severity})", list(_parts(finding)))


def _parts(finding: AuditFinding) -> Iterator[Part]:
    yield Paragraph(finding.statement, tone_of(finding.severity))
    if finding.images:
        ranks = _RANKS if len(finding.images) > 2 else ("best", "worst")
        photos = [photo_of(image, rank) for rank, image in zip(ranks, finding.images, strict=False)]
        yield ImageGrid(
            [("original, recovered", photos)],
            "On the left an image of the client, on the right what was recovered of it. Whoever has this page has "
            "these images: share it as you would share them.",
        )
    for table in finding.tables:
        yield _table(table)
    if finding.countermeasures:
        yield _countermeasures(finding)
        if (best := helped(finding)) is not None:
            yield Code(as_yaml({"defense": best.setting}), f"{best.name}, as a scenario has it")
    yield _facts(finding)
    if finding.scenario_file is not None:
        yield Code(_command(finding), "Reproduces it, from the audit's folder")
    elif finding.command:
        yield Code(finding.command, "Reproduces it")


def _command(finding: AuditFinding) -> str:
    """With the permission to run a model of one's own, where there is one."""
    model = finding.cells[0].get("model")
    name = str(model.get("name", "") if isinstance(model, Mapping) else model)
    lead = f"{VARIABLE}={shlex.quote(name)} " if ":" in name else ""
    return f"{lead}fedsec run {finding.scenario_file}"


def _table(table: EvidenceTable) -> DataTable:
    columns = [TableColumn(title, numeric=place > 0) for place, title in enumerate(table.columns)]
    return DataTable(columns, [[TableCell(text) for text in row] for row in table.rows], table.caption)


def _countermeasures(finding: AuditFinding) -> DataTable:
    columns = [
        TableColumn("defense"),
        TableColumn("left of the effect", True),
        TableColumn("accuracy without attackers", True),
    ]
    rows = [
        [
            TableCell(one.name, remark="" if one.epsilon is None else f"epsilon {one.epsilon:.3g}"),
            TableCell(finding.left_text(one), one.effect.value),
            TableCell(
                "not measured" if one.cost is None else f"{100 * one.cost.value:+.1f} points",
                None if one.cost is None else one.cost.value,
                remark="" if one.cost is None else f"[{100 * one.cost.low:+.1f}..{100 * one.cost.high:+.1f}]",
            ),
        ]
        for one in finding.countermeasures
    ]
    return DataTable(columns, rows, "Defenses that were tried against it, the best first, and what each costs.")


def _facts(finding: AuditFinding) -> Part:
    about = rules().measures[finding.measure]["about"]
    rows = [
        ("severity", f"{finding.severity}: {finding.why}"),
        ("judged by", about),
        ("null", finding.null),
        ("attacker", finding.position),
        ("granted", "; ".join(finding.granted)),
        ("also known as", "; ".join(map(str, references(finding.taxonomy))) or "nothing that could be verified"),
    ]
    table = DataTable(
        [TableColumn("what"), TableColumn("how")],
        [[TableCell(name), TableCell(text)] for name, text in rows],
        "How this was judged, and who could do it.",
    )
    best = next(iter(finding.countermeasures), None)
    parts: list[Part] = [table, *map(Paragraph, finding.notes)]
    if best is not None:
        parts.append(Paragraph(f"{best.name} leaves {wording(finding, best)}."))
    return Folded("How severe and why, who could do it, what else to know", parts)
