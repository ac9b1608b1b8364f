"""The section on worst cases has the numbers of `fedsec.report.worst_case`."""

from collections.abc import Callable
from typing import Any

from fedsec.report.page import DataTable, Drawing, RunView
from fedsec.report.page.sections.worst_case import worst_case


def test_a_row_a_defense_and_a_column_a_number_of_attackers(
    cell: Callable[..., dict[str, Any]], view: Callable[[], RunView]
) -> None:
    for defense, none, ipm, alie in (("mean", 0.9, 0.5, 0.3), ("krum", 0.8, 0.6, 0.7)):
        for seed, shift in enumerate((0.0, 0.1)):
            for attack, value in (("none", none), ("ipm", ipm), ("alie", alie)):
                cell(attack, defense, seed, accuracy=1.0, accuracy_min_last5=value - shift)
    section = worst_case(view())
    assert section is not None
    (drawing,), (table,) = ([part for part in section.parts if isinstance(part, kind)] for kind in (Drawing, DataTable))
    assert "Heatmap" in drawing.description
    assert [column.title for column in table.columns] == ["defense", "0 Byzantine", "1 Byzantine"]
    assert [[shown.text for shown in row] for row in table.rows] == [["mean", "85.0", "25.0"], ["krum", "75.0", "55.0"]]
    assert table.rows[0][2].remark == "20.0 to 30.0; alie"
    assert table.rows[1][2].order == 0.55


def test_there_is_none_with_one_attack(cell: Callable[..., dict[str, Any]], view: Callable[[], RunView]) -> None:
    cell("none", "mean", accuracy=0.9, accuracy_min_last5=0.9)
    cell("ipm", "mean", accuracy=0.5, accuracy_min_last5=0.5)
    assert worst_case(view()) is None
