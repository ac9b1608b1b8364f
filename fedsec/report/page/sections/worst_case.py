"""What the worst attack leaves of each defense."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fedsec.metrics.metric import Metric
from fedsec.report.intervals import spans
from fedsec.report.page.parts import DataTable, Drawing, PageSection, Paragraph, Part, TableCell, TableColumn
from fedsec.report.page.svg import inline_svg
from fedsec.report.worst_case import NOT_RUN, WorstCaseEntry, metric_of, worst_cases
from fedsec.report.worst_case_figure import worst_case_figures

if TYPE_CHECKING:
    from fedsec.report.page.run_page import RunView

__all__ = ["worst_case"]


def worst_case(view: "RunView") -> PageSection | None:
    """Heatmap and table of worst cases; None where fewer than two attacks were tried."""
    cases, metric = worst_cases(view.trained), metric_of(view.trained)
    if not cases:
        return None
    attacks = max(case.attacks + case.unknown for case in cases)
    how = (
        f"For each number of Byzantine clients this is the worst of {attacks} attacks, each by its mean over seeds."
        if attacks > 1
        else "For each number of Byzantine clients this is what an attack that chooses among several left, with the "
        "one that it chose in most rounds; means over seeds."
    )
    intro = f"A defense is as good as what the worst attack leaves of it. {how} {metric.name}: {metric.about}."
    drawings = [
        Drawing(
            inline_svg(figure, f"worst-case-{number}"),
            f"Heatmap of {metric.title}, a row for each defense and a column for each number of Byzantine clients; "
            "the numbers are in the table below",
            "In each cell the value, and the attack that did it.",
        )
        for number, figure in enumerate(worst_case_figures(view.trained), start=1)
    ]
    parts: list[Part] = [Paragraph(intro), *drawings, _table(cases, metric)]
    refusals = dict.fromkeys(f"{case.defense}: {case.refused}" for case in cases if case.refused)
    parts += [Paragraph(text, "note") for text in refusals]
    return PageSection("worst-case", "Worst case", parts)


def _table(cases: Sequence[WorstCaseEntry], metric: Metric) -> DataTable:
    """A row for each setting and defense, a column for each number of Byzantine clients."""
    axes = list(dict.fromkeys(axis for case in cases for axis in case.setting))
    numbers = sorted({case.num_byzantine for case in cases})
    rows: dict[tuple[str, ...], dict[int, WorstCaseEntry]] = {}
    for case in cases:
        key = (*(case.setting.get(axis, "") for axis in axes), case.defense or "(the only one)")
        rows.setdefault(key, {})[case.num_byzantine] = case
    columns = [TableColumn(title) for title in (*axes, "defense")]
    columns += [TableColumn(f"{number} Byzantine", numeric=True) for number in numbers]
    cells = [
        [*map(TableCell, key), *(_value(row.get(number), metric) for number in numbers)] for key, row in rows.items()
    ]
    most = max(case.seeds for case in cases)
    signs = [
        f"{metric.title} by the number of Byzantine clients, below it the attack that did it",
        *([f"mean over {most} seeds and {spans(most).removeprefix('in brackets ')}"] if most > 1 else []),
        *([f"{NOT_RUN}: the defense cannot withstand so many"] if any(case.refused for case in cases) else []),
        *(["?: not all attacks are known, with all seeds"] if any(case.doubt for case in cases) else []),
    ]
    return DataTable(columns, cells, "; ".join(signs) + ".", len(axes) + 1)


def _value(case: WorstCaseEntry | None, metric: Metric) -> TableCell:
    if case is None:
        return TableCell("-")
    if case.value is None:
        return TableCell(NOT_RUN if case.refused else "-")
    low, high = (metric.write(end) for end in case.interval or (case.value, case.value))
    remarks = [f"{low} to {high}" if low != high else "", case.attack]
    return TableCell(metric.write(case.value) + case.doubt, case.value, remark="; ".join(filter(None, remarks)))
