"""Backdoors: how often they work, how long they live on, and what they cost."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fedsec.errors import count_of
from fedsec.metrics.durability import SUCCESS
from fedsec.metrics.metric import described
from fedsec.report.evidence.backdoor_figure import backdoor_figure, backdoor_panels
from fedsec.report.page.parts import DataTable, Drawing, Folded, PageSection, Paragraph, Part, TableCell, TableColumn
from fedsec.report.page.svg import inline_svg
from fedsec.report.summary import DEFENSE, Group, describe, primary, summarize

if TYPE_CHECKING:
    from fedsec.report.page.run_page import RunView

__all__ = ["backdoors"]

_PANELS, _MOST_PANELS = 12, 48
_MEASURES = (SUCCESS, f"{SUCCESS}_at_until", "backdoor_lifespan", "attacker_flops", "edge_flops")


def backdoors(view: "RunView") -> PageSection | None:
    """Success over the rounds beside accuracy; None where no attack brings a test of its own."""
    metric = primary(view.records)
    records = [record for record in view.trained if record["status"] == "done"]
    groups = [group for group in summarize(records).groups if _mean(group, SUCCESS) is not None and group.attacked]
    if not groups:
        return None
    panels = backdoor_panels(view.root, groups, metric)
    drawings = [
        Drawing(
            inline_svg(
                backdoor_figure(panels[start : start + _PANELS], metric.name), f"backdoors-{start // _PANELS + 1}"
            ),
            "Success of backdoors by round, a panel for each attack and a line for each defense; the last values are "
            "in the table",
            f"Lines: success of the attack, with what the seeds span. Dots: {metric.name}.",
        )
        for start in range(0, min(len(panels), _MOST_PANELS), _PANELS)
    ]
    rest: list[Part] = [*drawings[1:]]
    further = min(len(panels), _MOST_PANELS) - _PANELS
    parts: list[Part] = [
        Paragraph(
            f"A backdoor leaves {metric.name} as it is and works on inputs of the attacker's choice. Its success is "
            "the share of the attacker's own test examples that get the answer the attacker wants."
        ),
        *drawings[:1],
        *([Folded(f"{count_of(further, 'further attack')}", rest)] if rest else []),
        _table(groups, metric.name),
    ]
    return PageSection("backdoors", "Backdoors", parts)


def _table(groups: Sequence[Group], main: str) -> DataTable:
    names = [name for name in _MEASURES if any(_mean(group, name) is not None for group in groups)]
    metrics = [described(name) for name in (*names, main)]
    columns = [TableColumn("attack"), TableColumn("defense")]
    columns += [TableColumn(metric.header or metric.title, numeric=True) for metric in metrics]
    rows = []
    for group in groups:
        axes = {axis: text for axis, text in group.axes.items() if axis != DEFENSE}
        texts = (describe(axes), group.axes.get(DEFENSE) or "(the only one)")
        rows.append([*map(TableCell, texts), *(_number(group, metric.name) for metric in metrics)])
    explained = [f"{metric.header}: {metric.about}" for metric in metrics if metric.header]
    return DataTable(columns, rows, "; ".join(["Means over seeds", *explained]) + ".", 2)


def _number(group: Group, name: str) -> TableCell:
    value = _mean(group, name)
    return TableCell("n/a") if value is None else TableCell(described(name).write(value), value)


def _mean(group: Group, name: str) -> float | None:
    return Group(group.axes, group.records, name).mean
