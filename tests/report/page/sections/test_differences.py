"""Differences on equal seeds, with their intervals, as comparisons.json has them."""

import pytest

from fedsec.report.page.parts import DataTable
from fedsec.report.page.sections.differences import differences
from fedsec.report.page.sections.measurements import measurements
from fedsec.report.paired import paired_differences
from tests.report.page.sections.conftest import AddCell, Look


def test_differences_are_those_of_the_file(cell: AddCell, view: Look) -> None:
    for seed, (mean, median) in enumerate([(0.1, 0.9), (0.2, 0.9), (0.15, 0.95)]):
        cell("flip", "mean", seed, accuracy=mean)
        cell("flip", "median", seed, accuracy=median)
    section = differences(view())
    assert section is not None
    (table,) = section.parts
    assert isinstance(table, DataTable)
    ((_, difference, interval, seeds, told),) = table.rows
    (expected,) = paired_differences(view().records)
    assert difference.order == pytest.approx(expected.mean)
    low, high = (100 * end for end in expected.as_json("accuracy")["interval"])
    assert interval.text == f"{low:+.1f} to {high:+.1f}"
    assert (seeds.text, told.text, difference.tone) == ("3", "yes, better", "good")


def test_one_defense_is_compared_with_nothing(cell: AddCell, view: Look) -> None:
    cell("flip", "mean", accuracy=0.5)
    assert differences(view()) is None
    assert measurements(view()) is None


def test_where_less_is_better_a_larger_error_is_worse(cell: AddCell, view: Look) -> None:
    for seed, (mean, median) in enumerate([(0.1, 0.9), (0.2, 0.9), (0.15, 0.95)]):
        for defense, error in (("mean", mean), ("median", median)):
            cell("flip", defense, seed, mean_squared_error=error, record={"primary_metric": "mean_squared_error"})
    section = differences(view())
    assert section is not None
    (table,) = section.parts
    assert isinstance(table, DataTable)
    ((_, difference, _, _, told),) = table.rows
    assert (difference.tone, told.text) == ("bad", "yes, worse")
