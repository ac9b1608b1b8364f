"""How well single clients are served: what each honest one has on test examples of its own."""

from typing import TYPE_CHECKING

from fedsec.errors import count_of
from fedsec.report.evidence.client_tests_figure import client_tests_figure, values_of
from fedsec.report.page.parts import Drawing, Folded, PageSection, Paragraph, Part
from fedsec.report.page.svg import inline_svg
from fedsec.report.summary import describe, primary, row_of, summarize

if TYPE_CHECKING:
    from fedsec.report.page.run_page import RunView

__all__ = ["client_tests"]

_ABOUT = (
    "Each client holds out a part of its own examples, and is tested on them with the model that counts for it: its "
    "own, where the algorithm gives it one, else the global one. A bar is the share of honest clients with so much "
    "(attackers do not count); the blue line is their mean, the dashed one the mean of the worst tenth. The numbers, "
    "with the spread and Jain's index, are in the table of clients below."
)
_ROWS, _MOST_ROWS = 16, 64


def client_tests(view: "RunView") -> PageSection | None:
    """Histograms of clients, one for each setting; None where no client was tested."""
    groups = [group for group in summarize(view.trained).groups if any(map(values_of, group.records))]
    if not groups:
        return None
    metric = row_of(primary(view.trained).name, view.trained)
    drawings: list[Part] = []
    for start in range(0, min(len(groups), _MOST_ROWS), _ROWS):
        page = groups[start : start + _ROWS]
        means = [group.records[0]["metrics"].get(metric.over_clients[0].name) for group in page]
        said = "; ".join(
            f"{describe(group.axes)}: {metric.write(mean)} on average"
            for group, mean in zip(page, means, strict=True)
            if mean is not None
        )
        svg = inline_svg(client_tests_figure(page, metric), f"client-tests-{start // _ROWS + 1}")
        drawings.append(Drawing(svg, f"Histograms of clients' {metric.name}, a row for each setting. {said}"))
    rest = drawings[1:]
    further = min(len(groups), _MOST_ROWS) - _ROWS
    folded: list[Part] = [Folded(f"Clients of {count_of(further, 'further setting')}", rest)] if rest else []
    return PageSection("client-tests", "How single clients are served", [Paragraph(_ABOUT), *drawings[:1], *folded])
