"""Long tables, cut to their most telling rows; the files of a report have them all."""

from collections import Counter
from collections.abc import Sequence

from fedsec.metrics.metric import Metric
from fedsec.report.summary import DEFENSE, Group
from fedsec.report.table_layout import Layout

MOST_ROWS = 40
"""A table of more rows is cut."""
_MOST_LINES = 60
"""So many lines at most the rows of a cut table take."""


def most_telling(groups: Sequence[Group], metric: Metric) -> list[int]:
    """Places of groups, those first that say most: of each defense the worst, then of each the second, and so on.

    Args:
        groups: of a table's rows; those without a value come last.
        metric: what their values are; what is neither good nor bad stays in order.
    """
    sign = {"lower": -1.0, "higher": 1.0}.get(metric.better, 0.0)
    valued = [place for place, group in enumerate(groups) if group.mean is not None]
    valued.sort(key=lambda place: sign * (groups[place].mean or 0.0))
    ranks: dict[int, int] = {}
    ranked = Counter[str]()
    for place in valued:
        defense = groups[place].axes.get(DEFENSE, "")
        ranks[place] = ranked[defense]
        ranked[defense] += 1
    without = [place for place in range(len(groups)) if place not in ranks]
    return sorted(valued, key=ranks.__getitem__) + without


def shortened(layout: Layout, telling: Sequence[int], file: str, *, full: bool = False) -> tuple[Layout, list[str]]:
    """A layout of at most `MOST_ROWS` rows, in their order, and a sentence about the others where there are any.

    Args:
        layout: of all rows.
        telling: places of the rows, the most telling first.
        file: where the numbers of all of them are.
        full: whether to leave it as it is.
    """
    if full or len(layout) <= MOST_ROWS:
        return layout, []
    places: list[int] = []
    lines = 0
    for place in telling[:MOST_ROWS]:
        lines += layout.lines(place)
        if lines > _MOST_LINES and places:
            break
        places.append(place)
    left = len(layout) - len(places)
    rows = "row is" if left == 1 else "rows are"
    return layout.only(sorted(places)), [f"{left:,} more {rows} in {file}, and fedsec run --full prints all"]
