"""Defenses against the plain mean, or the first one, on equal seeds."""

from typing import TYPE_CHECKING

from fedsec.report.page.parts import DataTable, PageSection, TableCell, TableColumn
from fedsec.report.page.tables import cut
from fedsec.report.paired import paired_differences
from fedsec.report.summary import DEFENSE, primary

if TYPE_CHECKING:
    from fedsec.report.page.run_page import RunView

__all__ = ["differences"]


def differences(view: "RunView") -> PageSection | None:
    """Paired differences with their intervals."""
    compared, metric = paired_differences(view.trained), primary(view.records)
    if not compared or metric.better == "neither":
        return None
    axes = list(dict.fromkeys(axis for one in compared for axis in one.setting))
    varied = [axis for axis in axes if len({one.setting.get(axis) for one in compared}) > 1]
    columns = [TableColumn(name) for name in (*varied, DEFENSE)]
    columns += [TableColumn("difference", numeric=True), TableColumn("95% interval", numeric=True)]
    columns += [TableColumn("seeds", numeric=True), TableColumn("told apart")]
    rows = []
    for one in compared:
        width = one.half_width
        ends = [] if width is None else [metric.write(one.mean + sign * width, "+") for sign in (-1, 1)]
        difference = "yes" if one.sign else "no"
        better = one.sign * (-1 if metric.better == "lower" else 1)
        rows.append(
            [
                *(TableCell(one.setting.get(axis, "")) for axis in varied),
                TableCell(one.defense),
                TableCell(metric.write(one.mean, "+"), one.mean, _TONES[better]),
                TableCell(f"{ends[0]} to {ends[1]}" if ends else "-", width),
                TableCell(str(one.seeds), one.seeds),
                TableCell(f"{difference}, {_WORDS[better]}" if better else difference),
            ]
        )
    unit = " in points" if metric.is_fraction else ""
    caption = (
        f"Mean difference of {metric.name}{unit} to {compared[0].baseline} on equal seeds, and Student's 95% interval "
        "of that mean. Each interval stands for itself: among many some leave out zero by chance."
    )
    largest = sorted(range(len(compared)), key=lambda row: -abs(compared[row].mean))
    table = DataTable(columns, rows, caption, len(varied) + 1)
    return PageSection("differences", f"Against {compared[0].baseline}, seed by seed", cut(table, largest))


_TONES = {-1: "bad", 0: "plain", 1: "good"}
_WORDS = {-1: "worse", 1: "better"}
