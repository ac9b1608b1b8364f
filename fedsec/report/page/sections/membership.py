"""Who was in the training data: what inferences could tell, with intervals, beside a judge that sees no model."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fedsec.report.evidence.membership_roc import roc_figure
from fedsec.report.page.parts import DataTable, Drawing, Folded, PageSection, Paragraph, Part, TableCell, TableColumn
from fedsec.report.page.svg import inline_svg
from fedsec.report.summary import describe

if TYPE_CHECKING:
    from fedsec.report.page.run_page import RunView

__all__ = ["membership"]

_ABOUT = (
    "Members were trained on; non-members are examples of the same clients, drawn like them at random and held out. An "
    "attacker who is certain of a few is worse than one who is slightly better than chance with all: look at the share "
    "of members found where hardly a non-member is called one. In brackets are exact intervals; unresolved means that "
    "there are too few non-members to count so small a rate, and not that it is 0."
)
_MOST_PICTURES = 12


def membership(view: "RunView") -> PageSection | None:
    """A table of inferences, and ROC curves on logarithmic axes; None where nobody was asked about."""
    audited = [
        (describe(record["cell"]) or "the cell", audit)
        for record in view.done
        if (audit := (record.get("audit") or {}).get("membership")) and audit.get("inferences")
    ]
    if not audited:
        return None
    parts: list[Part] = [Paragraph(_ABOUT), _table(audited)]
    notes = dict.fromkeys(note for _, audit in audited for note in audit.get("notes", ()))
    parts += [Paragraph(f"{note[:1].upper()}{note[1:]}.", "note") for note in notes]
    drawings = [
        Drawing(
            inline_svg(roc_figure(audit["inferences"]), f"membership-{number}"),
            f"ROC curves of membership inferences in {setting}, on logarithmic axes; numbers are in the table above",
            setting,
        )
        for number, (setting, audit) in enumerate(audited[:_MOST_PICTURES], start=1)
    ]
    parts += drawings[:1]
    if drawings[1:]:
        parts.append(Folded("The curves of further settings", drawings[1:]))
    return PageSection("membership", "Who was trained on", parts)


def _table(audited: list[tuple[str, Mapping[str, Any]]]) -> DataTable:
    columns = [
        TableColumn("setting"),
        TableColumn("inference"),
        *(TableColumn(title, numeric=True) for title in ("AUC", "found at 1% FPR (%)", "found at 0.1% FPR (%)")),
    ]
    rows = [row for setting, audit in audited for row in _rows(setting, audit)]
    caption = (
        "AUC: the share of pairs whose member scores higher, 0.5 by chance. Blind: a judge of inputs and classes "
        "alone; above 0.5, members and non-members differ without any model."
    )
    return DataTable(columns, rows, caption, 2)


def _rows(setting: str, audit: Mapping[str, Any]) -> Iterator[list[TableCell]]:
    numbers = f"{audit['members']} members, {audit['nonmembers']} others, seen by: {audit['view']}"
    for name, inference in audit["inferences"].items():
        rates = inference["tpr_at"]
        cells = [_found(rates[key]) if key in rates else TableCell("-") for key in ("0.01", "0.001")]
        yield [TableCell(setting, remark=numbers), TableCell(name), _auc(inference["auc"]), *cells]
    yield [TableCell(setting), TableCell("blind"), _auc(audit["blind_auc"]), TableCell("-"), TableCell("-")]


def _auc(auc: Mapping[str, float]) -> TableCell:
    tone = "bad" if auc["low"] > 0.5 else "plain"
    return TableCell(f"{auc['value']:.3f}", auc["value"], tone, f"[{auc['low']:.3f}..{auc['high']:.3f}]")


def _found(rate: Mapping[str, Any]) -> TableCell:
    tpr, fpr = rate["tpr"], rate["wanted_fpr"]
    if not rate["is_resolved"]:
        return TableCell("unresolved", -1.0)
    tone = "bad" if tpr["low"] > fpr else "plain"
    ends = f"[{100 * tpr['low']:.1f}..{100 * tpr['high']:.1f}]"
    return TableCell(f"{100 * tpr['value']:.1f}", tpr["value"], tone, ends)
