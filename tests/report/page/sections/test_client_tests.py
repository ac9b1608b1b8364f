"""The section on single clients: whose values are drawn, and what is said of them."""

from collections.abc import Callable
from typing import Any

from fedsec.metrics.fairness import over_clients
from fedsec.metrics.metric import ACCURACY
from fedsec.report.evidence.client_tests_figure import client_tests_figure, values_of
from fedsec.report.metric_tables import metric_tables
from fedsec.report.page import Drawing, RunView
from fedsec.report.page.sections.client_tests import client_tests
from fedsec.report.summary import summarize

Cell = Callable[..., dict[str, Any]]


def fared(cell: Cell, name: str, values: list[float], seed: int = 0) -> None:
    record = cell("none", name, seed, accuracy=0.5, **over_clients(values, ACCURACY))
    record["client_tests"] = {str(client): value for client, value in enumerate(values)}


def test_clients_are_drawn_setting_by_setting(cell: Cell, view: Callable[[], RunView]) -> None:
    fared(cell, "mean", [0.2, 0.4, 0.9])
    fared(cell, "mean", [0.3, 0.5, 1.0], seed=1)
    fared(cell, "median", [0.7, 0.7, 0.7])
    section = client_tests(view())
    assert section is not None
    (drawing,) = (part for part in section.parts if isinstance(part, Drawing))
    assert "a row for each setting" in drawing.description
    assert "median: 70.0 on average" in drawing.description
    (table,) = (one for one in metric_tables(view().records) if one.name == "clients")
    entries = [[entry.value for entry in column] for column in table.entries]
    assert entries == [["50.0", "50.0"], ["55.0", "70.0"], ["25.0", "70.0"], ["29.4", "0.0"], ["0.774", "1.000"]]


def test_bars_count_clients_and_lines_stand_at_the_mean_and_the_worst(cell: Cell, view: Callable[[], RunView]) -> None:
    fared(cell, "mean", [0.2, 0.2, 0.2, 1.0])
    (group,) = summarize(view().records).groups
    (axes,) = client_tests_figure([group], ACCURACY).axes
    heights = [bar.get_height() for bar in axes.patches]
    assert [round(height / 0.8, 3) for height in heights if height] == [1.0, round(1 / 3, 3)]
    assert [round(float(line.get_xdata()[0]), 6) for line in axes.lines] == [40.0, 20.0]


def test_nobody_tested_or_all_lost_is_no_section(cell: Cell, view: Callable[[], RunView]) -> None:
    record = cell("none", "mean", accuracy=0.5)
    assert client_tests(view()) is None
    record["client_tests"] = {"0": 0.5, "1": None}
    assert values_of(record) == []
    assert client_tests(view()) is None
