"""What was measured beside what models are trained for: privacy, leakage, detection, what attackers wanted."""

from typing import TYPE_CHECKING

from fedsec.report.metric_tables import metric_tables
from fedsec.report.page.parts import Heading, PageSection, Part
from fedsec.report.page.tables import metric_table_parts

if TYPE_CHECKING:
    from fedsec.report.page.run_page import RunView

__all__ = ["measurements"]

_TITLE = "What else was measured"


def measurements(view: "RunView") -> PageSection | None:
    """The tables of several metrics."""
    parts: list[Part] = []
    for table in metric_tables(view.records):
        # Costs have a section of their own; how the worst client fares beside them has not.
        if table.name != "costs" or any(column.metric.name.endswith("_worst_client") for column in table.columns):
            title = f"{table.title[:1].upper()}{table.title[1:]}"
            parts += [*([Heading(title)] if title != _TITLE else []), *metric_table_parts(table)]
    return PageSection("measurements", _TITLE, parts) if parts else None
