"""A measurement as a picture: on each line a filled dot for its value, a hollow one for what it stands beside.

The picture is SVG that stands in the page itself, so that its letters have the page's color, light or dark. No hook
itself.
"""

import html
import io
import re
from collections.abc import Iterable
from functools import cache
from statistics import fmean
from typing import Any

from measured import Bar, Measurement

WIDTH, LINE, LETTER, TOP, BOTTOM = 7.2, 0.21, 0.066, 0.06, 0.5
"""Of the picture, a line, a letter of a label and the margins, in inches."""
INK = "#010203"
"""Stands for the page's own color of text until the picture is written."""
VALUE, OWN, OTHER = "#3f7fd1", "#d1603f", "#8a8f98"
"""Colors of dots: other methods', the page's own method's among them, what they are compared with."""


def dot_plot(measurement: Measurement, name: str) -> str:
    """The picture, its legend and where its numbers are from, as HTML.

    Args:
        measurement: what it shows.
        name: unique on a page.
    """
    bars = [bar for bar in measurement.bars if bar.values or bar.others][::-1]
    figure, axes = _axes(measurement, bars)
    both = [place for place, bar in enumerate(bars) if bar.values and bar.others]
    pairs = [(fmean(bars[place].values), fmean(bars[place].others)) for place in both]
    axes.hlines(both, *zip(*pairs, strict=True), color=OTHER, lw=0.8, alpha=0.6) if pairs else None
    _dots(axes, [(place, bar.others) for place, bar in enumerate(bars)], OTHER, "none")
    for color, emphasized in ((VALUE, False), (OWN, True)):
        lines = [(place, bar.values) for place, bar in enumerate(bars) if bar.emphasized is emphasized]
        _dots(axes, lines, color, color)
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    figure.clear()
    return _figure_element(_inline(text.getvalue(), measurement, name), measurement)


def _dots(axes: Any, lines: Iterable[tuple[int, tuple[float, ...]]], edge: str, face: str) -> None:
    """Means as dots, and lines from the smallest to the largest value where there are several."""
    lines = [(place, values) for place, values in lines if values]
    ranges = [(place, min(values), max(values)) for place, values in lines if len(set(values)) > 1]
    if ranges:
        axes.hlines(*zip(*ranges, strict=True), color=edge, lw=2.4, alpha=0.45)
    means = [fmean(values) for _, values in lines]
    axes.plot(means, [place for place, _ in lines], "o", ms=5.5, mew=1.3, mec=edge, mfc=face)


def _axes(measurement: Measurement, bars: list[Bar]) -> tuple[Any, Any]:
    figure = _canvas()
    height = TOP + LINE * len(bars) + BOTTOM
    left = min(0.55, (0.15 + LETTER * max(len(bar.label) for bar in bars)) / WIDTH)
    figure.set_size_inches(WIDTH, height)
    axes = figure.add_axes((left, BOTTOM / height, 0.97 - left, LINE * len(bars) / height))
    axes.set_ylim(-0.7, len(bars) - 0.3)
    if measurement.limits is not None:
        low, high = measurement.limits
        axes.set_xlim(low - (high - low) / 50, high + (high - low) / 50)
    axes.set_yticks(range(len(bars)), [bar.label.replace("$", r"\$") for bar in bars])
    for tick, bar in zip(axes.yaxis.get_major_ticks(), bars, strict=True):
        tick.label1.set_fontweight("bold" if bar.emphasized else "normal")
    axes.set_xlabel(measurement.unit)
    axes.grid(visible=True, axis="x", color=OTHER, alpha=0.25, lw=0.6)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure, axes


@cache
def _canvas() -> Any:
    from matplotlib import rcParams
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "fedsec", "font.size": 8.5})
    rcParams.update(dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK))
    figure = Figure()
    FigureCanvasSVG(figure)
    return figure


def _inline(svg: str, measurement: Measurement, name: str) -> str:
    """What stands in a page: no prologue, no blank lines, identifiers of its own, letters in the page's color."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.S)
    svg = re.sub(r'\bid="', rf'id="{name}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\1{name}-", svg)
    svg = svg.replace(INK, "currentColor")
    svg = re.sub(r"(font: [^;\"]*?px) [^;\"]*", r"\1 sans-serif", svg)
    box = re.search(r'viewBox="0 0 ([\d.]+) [\d.]+"', svg)
    width = f"{1.35 * float(box[1]):.0f}px" if box else "100%"
    opening = f'<svg role="img" aria-label="{html.escape(measurement.title)}" {box[0] if box else ""}'
    svg = re.sub(r"<svg [^>]*>", f'{opening} style="width: 100%; max-width: {width}; height: auto">', svg, count=1)
    return "\n".join(line for line in svg.splitlines() if line.strip())


def _figure_element(svg: str, measurement: Measurement) -> str:
    legend = [(VALUE, "&#9679;", measurement.value)]
    if any(bar.emphasized for bar in measurement.bars):
        legend[0] = (OWN, "&#9679;", measurement.value)
    if measurement.other:
        legend.append((OTHER, "&#9675;", measurement.other))
    words = [f'<span style="color: {color}">{mark}</span> {html.escape(text)}' for color, mark, text in legend]
    return f'<figure data-search-exclude class="measured">\n<p>{" &ensp; ".join(words)}</p>\n{svg}\n</figure>'
