"""What models are trained for, over the rounds."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fedsec.metrics.metric import Metric
from fedsec.report.figures import CurvePage, curve_pages
from fedsec.report.intervals import spans
from fedsec.report.page.parts import Drawing, Folded, PageSection, Part
from fedsec.report.page.svg import inline_svg
from fedsec.report.summary import primary, summarize

if TYPE_CHECKING:
    from fedsec.report.page.run_page import RunView

__all__ = ["curves"]


def curves(view: "RunView") -> PageSection | None:
    """The main metric by round."""
    metric = primary(view.records)
    pages = curve_pages(view.root, view.trained)
    if not pages:
        return None
    caption = _caption(view, pages)
    drawings = [
        Drawing(inline_svg(page.figure, f"curves-{number}"), _described(page, metric), caption)
        for number, page in enumerate(pages, start=1)
    ]
    rest = sum(len(page.panels) for page in pages[1:])
    parts: list[Part] = [*drawings[:1], *([Folded(f"{rest} more panels", drawings[1:])] if drawings[1:] else [])]
    name = metric.title.replace("_", " ")
    title = f"{name[:1].upper()}{name[1:]}" + (" by round" if pages[0].rounds > 1 else "")
    return PageSection("curves", title, parts)


def _caption(view: "RunView", pages: Sequence[CurvePage]) -> str:
    seeds = max((group.n for group in summarize(view.done).groups), default=0)
    kind = "line" if pages[0].rounds > 1 else "point"
    text = f"A panel for each attack, a {kind} for each defense"
    if len(pages[0].panels) == 1 and not pages[0].panels[0][0]:
        text = f"A {kind} for each setting"
    band = "band" if pages[0].rounds > 1 else "bar"
    span = spans(seeds).removeprefix("in brackets ").partition(",")[0]
    return f"{text}: the mean over seeds; the {band} is {span}." if seeds > 1 else f"{text}, of a single seed."


def _described(page: CurvePage, metric: Metric) -> str:
    """What a picture shows, in words: where its lines end."""
    panels = [f"{name + ': ' if name else ''}{_ends(lines, metric)}" for name, lines in page.panels]
    over = f"by round, up to round {page.rounds}" if page.rounds > 1 else "at the end"
    return f"{metric.title} {over}. In the end: {'; '.join(panels)}."


def _ends(lines: Mapping[str, float], metric: Metric) -> str:
    values = {name: metric.write(value / metric.factor) for name, value in lines.items()}
    if len(values) == 1:
        return next(iter(values.values()))
    low, high = (pick(lines, key=lines.__getitem__) for pick in (min, max))
    if len(values) <= _MOST_NAMED:
        return ", ".join(f"{name} {value}" for name, value in values.items())
    return f"{len(lines)} lines from {values[low]} ({low}) to {values[high]} ({high})"


_MOST_NAMED = 4
