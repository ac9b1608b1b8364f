"""The section on backdoors: success and durability are the records', curves the rounds'."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fedsec.metrics.metric import ACCURACY
from fedsec.report.evidence.backdoor_figure import backdoor_panels
from fedsec.report.page import DataTable, Drawing, RunView
from fedsec.report.page.sections.backdoors import backdoors
from fedsec.report.summary import summarize


def rounds(*rates: float | None) -> list[dict[str, Any]]:
    return [
        {"round": number, "attack_success_rate": rate, "accuracy": None if rate is None else 0.9}
        for number, rate in enumerate(rates, start=1)
    ]


LASTING = {"attack_success_rate_at_until": 0.9, "backdoor_lifespan": 1}


def test_success_and_durability(cell: Callable[..., dict[str, Any]], view: Callable[[], RunView]) -> None:
    cell("none", "mean", accuracy=0.9)
    first = cell(
        *("backdoor", "mean", 0),
        until=2,
        rounds=rounds(0.5, 0.9, 0.75),
        accuracy=0.9,
        attack_success_rate=0.75,
        **LASTING,
    )
    second = cell(
        *("backdoor", "mean", 1),
        until=2,
        rounds=rounds(0.3, None, 0.25),
        accuracy=0.8,
        attack_success_rate=0.25,
        **LASTING,
    )
    section = backdoors(view())
    assert section is not None
    assert len([part for part in section.parts if isinstance(part, Drawing)]) == 1
    (table,) = (part for part in section.parts if isinstance(part, DataTable))
    titles = [column.title for column in table.columns]
    assert titles == [
        *("attack", "defense", "attack success (%)", "when they left (%)", "lifespan (rounds)", "accuracy (%)")
    ]
    assert [[shown.text for shown in row] for row in table.rows] == [["backdoor", "mean", "50.0", "90.0", "1", "85.0"]]
    (panel,) = backdoor_panels(view().root, summarize([first, second]).groups, ACCURACY)
    numbers, values = panel.success["mean"]
    assert (panel.title, panel.until, numbers.tolist()) == ("backdoor", 2, [1, 3])  # what both seeds measured
    assert np.allclose(values, [[50, 75], [30, 25]])
    assert np.allclose(panel.quality["mean"][1], 90)


def test_there_is_none_without_a_test_of_the_attack(
    cell: Callable[..., dict[str, Any]], view: Callable[[], RunView]
) -> None:
    cell("ipm", "mean", accuracy=0.5, rounds=rounds(None))
    assert backdoors(view()) is None
