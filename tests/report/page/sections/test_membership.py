"""The section on membership has a row for each inference and for the blind judge, and curves on logarithmic axes."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fedsec.auditing import membership_rates
from fedsec.report.evidence.membership_roc import roc_figure
from fedsec.report.metric_tables import metric_tables
from fedsec.report.page import DataTable, Drawing, Paragraph, RunView
from fedsec.report.page.sections.membership import membership


def audit() -> dict[str, Any]:
    scores = np.linspace(0, 1, 200)
    found = {
        **membership_rates(scores + 0.5, scores).as_dict(),
        "roc": [[0.0, 0.0], [0.0, 0.5], [0.5, 1.0], [1.0, 1.0]],
    }
    nothing = {**membership_rates(scores, scores).as_dict(), "roc": [[0.0, 0.0], [1.0, 1.0]]}
    return {
        "view": "client",
        "members": 200,
        "nonmembers": 200,
        "inferences": {"rmia": found, "loss_threshold": nothing},
        "blind_auc": nothing["auc"],
        "notes": ["a note"],
    }


def test_each_inference_has_a_row_and_a_curve(cell: Callable[..., dict[str, Any]], view: Callable[[], RunView]) -> None:
    measured = {"membership_auc": 0.87, "membership_auc_blind": 0.5, "membership_tpr_at_1pct_fpr": 0.5}
    records = [cell("none", "mean", accuracy=0.9, **measured)]
    records[0]["audit"] = {"membership": audit()}
    section = membership(view())
    assert section is not None
    (table,) = (part for part in section.parts if isinstance(part, DataTable))
    assert [[shown.text for shown in row[1:]] for row in table.rows] == [
        ["rmia", "0.874", "51.0", "unresolved"],
        ["loss_threshold", "0.500", "1.0", "unresolved"],
        ["blind", "0.500", "-", "-"],
    ]
    assert [row[2].tone for row in table.rows] == ["bad", "plain", "plain"]
    assert table.rows[0][3].tone == "bad"
    assert table.rows[0][2].remark.startswith("[0.8")
    assert any(isinstance(part, Paragraph) and part.text == "A note." for part in section.parts)
    assert sum(isinstance(part, Drawing) for part in section.parts) == 1
    (further,) = (table for table in metric_tables(records) if table.name == "further")
    titles = ["membership AUC (blind)", "members found at 1% FPR (%)"]
    assert [column.title for column in further.columns][1:] == titles
    assert further.entries[1][0].aside == "(0.500)"


def test_there_is_none_where_nobody_was_asked_about(
    cell: Callable[..., dict[str, Any]], view: Callable[[], RunView]
) -> None:
    cell("none", "mean", accuracy=0.9)
    record = cell("none", "median", accuracy=0.1)
    record["audit"] = {"membership": {"view": "client", "notes": ["the model is no longer finite: it tells nothing"]}}
    assert membership(view()) is None


def test_rates_that_are_zero_stand_at_the_edge() -> None:
    figure = roc_figure(audit()["inferences"])
    chance, first, second = figure.axes[0].get_lines()
    assert figure.axes[0].get_xscale() == figure.axes[0].get_yscale() == "log"
    assert min(map(float, first.get_xdata())) == 0.5 / 200
    assert [line.get_label() for line in (chance, first, second)] == [
        "chance",
        "rmia (AUC 0.87)",
        "loss_threshold (AUC 0.50)",
    ]
