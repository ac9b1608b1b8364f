"""What was asked: the scenario word for word, what it resolves to, and what was set from outside."""

import os
from math import prod
from typing import TYPE_CHECKING, Any

from fedsec.errors import count_of
from fedsec.report.page.parts import Code, DataTable, Folded, PageSection, Paragraph, Part, TableCell, TableColumn
from fedsec.report.page.resolved import as_yaml, common, variants
from fedsec.report.page.run_summary import DESCRIPTION
from fedsec.report.page.tables import cut

if TYPE_CHECKING:
    from fedsec.report.page.run_page import RunView

__all__ = ["question"]


def question(view: "RunView") -> PageSection | None:
    """What was asked."""
    summary, shared = view.summary, common(view.records)
    if not summary.scenario and not shared:
        return None
    parts: list[Part] = [Paragraph(_extent(view, shared))]
    if summary.overrides:
        parts.append(Paragraph(f"Set from outside: {'; '.join(summary.overrides)}.", "note"))
    if summary.scenario:
        parts.append(Folded("The scenario as it was written", [Code(summary.scenario.rstrip("\n"))]))
    else:
        parts.append(Paragraph(_without_scenario(view), "note"))
    if shared:
        about = "Every setting of every cell, defaults and all" if not (rows := _variants(view)) else _ABOUT
        resolved: list[Part] = [Code(as_yaml(shared), about)]
        parts.append(Folded("The configuration that it resolves to", [*resolved, *rows]))
    return PageSection("question", "What was asked", parts)


def _without_scenario(view: "RunView") -> str:
    if os.path.lexists(view.root / DESCRIPTION):
        return f"{DESCRIPTION} is damaged: what was asked, word for word, and what was expected are not known."
    return "An earlier version of fedsec left this run; it kept no copy of the scenario."


_ABOUT = "What all cells have in common, defaults and all; what differs stands below"


def _variants(view: "RunView") -> list[Part]:
    rows = [
        [TableCell(key), TableCell(axes), TableCell(own), TableCell(str(cells), cells)]
        for key, own, axes, cells in variants(view.records)
    ]
    if not rows:
        return []
    columns = [TableColumn("section"), TableColumn("in the matrix"), TableColumn("resolved")]
    caption = "What differs between cells: each value of a section, as far as cells do not have it in common."
    return cut(DataTable([*columns, TableColumn("cells", numeric=True)], rows, caption, 2), list(range(len(rows))))


def _extent(view: "RunView", shared: dict[str, Any]) -> str:
    """How large the matrix is, and on what it runs."""
    axes: dict[str, set[str]] = {}
    for record in view.records:
        for axis, value in record["cell"].items():
            axes.setdefault(axis, set()).add(str(value))
    sizes = {axis: len(values) for axis, values in axes.items() if len(values) > 1}
    text = count_of(len(view.records), "cell")
    if sizes:
        whole = prod(sizes.values()) == len(view.records)  # of axes that vary together it is not
        text += f": {(' x ' if whole else ', ').join(f'{number} of {axis}' for axis, number in sizes.items())}"
    named = {key: section.get("name") for key, section in shared.items() if isinstance(section, dict)}
    federation, partition = shared.get("federation") or {}, shared.get("partition") or {}
    facts = [
        f"dataset {named['dataset']}" if named.get("dataset") else "",
        f"model {named['model']}" if named.get("model") else "",
        f"{federation['algorithm']}" if federation.get("algorithm") else "",
        count_of(partition["clients"], "client") if isinstance(partition.get("clients"), int) else "",
        f"partition {named['partition']}" if named.get("partition") else "",
        count_of(federation["rounds"], "round") if isinstance(federation.get("rounds"), int) else "",
    ]
    shared_facts = ", ".join(filter(None, facts))
    return f"{text}. In all of them: {shared_facts}." if shared_facts else f"{text}."
