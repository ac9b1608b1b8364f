"""Labels at the points of a picture, none over another one, over a point or beyond the edge."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import hypot
from typing import TYPE_CHECKING

from fedsec.report.figures import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text

__all__ = ["Box", "label_points", "place_labels"]

_DISTANCES = (8.0, 13.0, 19.0, 27.0, 38.0, 52.0, 70.0, 92.0, 120.0, 155.0)
_SIDES = (
    *((1.0, y) for y in (0.0, 0.5, -0.5, 1.0, -1.0)),
    *((-1.0, y) for y in (0.0, 0.5, -0.5, 1.0, -1.0)),
    *((x, y) for y in (1.0, -1.0) for x in (0.0, 0.5, -0.5)),
)
"""Where a label's middle lies from its point, in halves of its width and height; to the right first."""
_MARKER = 5.0
_LED = 17.0
"""In pixels at 100 dpi: half a marker, and from which distance on a line leads to the label."""
_CROSSED, _COVERED = 20.0, 1e6
"""Costs beside the distance: a bar that runs behind a label, and a label that covers something."""
_CUT = 10
"""How many covered things a label that is cut off at the frame is as bad as."""


@dataclass(frozen=True)
class Box:
    """A rectangle, in pixels."""

    left: float
    bottom: float
    right: float
    top: float

    def meets(self, other: "Box") -> bool:
        """Whether the two have a point inside in common."""
        return (
            self.left < other.right and other.left < self.right and self.bottom < other.top and other.bottom < self.top
        )

    def holds(self, other: "Box") -> bool:
        """Whether the other lies inside."""
        return (
            self.left <= other.left
            and other.right <= self.right
            and self.bottom <= other.bottom
            and other.top <= self.top
        )


def place_labels(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    frame: Box,
    bars: Sequence[Box] = (),
    obstacles: Sequence[Box] = (),
) -> list[Box]:
    """Where labels stand: near their points, inside of the frame, over no point and no other label if there is room.

    One after another, the most crowded points first, each takes the cheapest place that is left; then any two change
    places where both together are better off. So it is quick, and not always the best of all arrangements.

    Args:
        points: where each label belongs, in pixels.
        sizes: width and height of each label.
        frame: that holds all labels.
        bars: thin things that a label may cover where it must.
        obstacles: things that no label should cover.
    """
    markers = [Box(x - _MARKER, y - _MARKER, x + _MARKER, y + _MARKER) for x, y in points]
    taken: dict[int, Box] = {}

    def cost(box: Box, distance: float) -> float:
        covered = sum(box.meets(other) for other in (*markers, *obstacles, *taken.values())) + _CUT * (
            not frame.holds(box)
        )
        return distance + _CROSSED * sum(box.meets(bar) for bar in bars) + _COVERED * covered

    for number in sorted(range(len(points)), key=lambda number: _room(points, number)):
        (x, y), (width, height) = points[number], sizes[number]
        candidates = [
            (_centered(x + across * (width / 2 + gap), y + up * (height / 2 + gap), width, height), gap)
            for gap in _DISTANCES
            for across, up in _SIDES
        ]
        taken[number] = min(candidates, key=lambda candidate: cost(*candidate))[0]
    for one, other in combinations(range(len(points)), 2):
        before = taken.pop(one), taken.pop(other)
        after = _exchanged(*before)
        costs = []
        for boxes in (before, after):
            gaps = [_gap(points[number], box) for number, box in zip((one, other), boxes, strict=True)]
            costs.append(sum(map(cost, boxes, gaps)) + _COVERED * boxes[0].meets(boxes[1]))
        taken[one], taken[other] = after if costs[1] < costs[0] else before
    return [taken[number] for number in range(len(points))]


def _exchanged(one: Box, other: Box) -> tuple[Box, Box]:
    """Each box with its middle where the other's was."""
    return _moved(one, other), _moved(other, one)


def _moved(box: Box, place: Box) -> Box:
    middle = (place.left + place.right) / 2, (place.bottom + place.top) / 2
    return _centered(*middle, box.right - box.left, box.top - box.bottom)


def _gap(point: tuple[float, float], box: Box) -> float:
    """How far the box is from its point."""
    across = max(box.left - point[0], 0.0, point[0] - box.right)
    up = max(box.bottom - point[1], 0.0, point[1] - box.top)
    return hypot(across, up)


def label_points(
    axes: "Axes",
    points: Sequence[tuple[str, float, float]],
    bars: Sequence[Box] = (),
    texts: "Sequence[Text]" = (),
) -> None:
    """Write names beside points of a picture whose layout is settled.

    Args:
        axes: of the picture; what is drawn later must not move them.
        points: names and places, in the picture's coordinates.
        bars: from and to which places bars go, likewise.
        texts: of the picture, which names are not to cover.
    """
    labels = [
        axes.annotate(plain(name), (x, y), xytext=(0, 0), textcoords="offset points", fontsize=8, va="bottom")
        for name, x, y in points
    ]
    extents = [label.get_window_extent() for label in labels]
    places = [_in_pixels(axes, x, y) for _, x, y in points]
    inside = axes.get_window_extent()
    boxes = place_labels(
        places,
        [(extent.width, extent.height) for extent in extents],
        Box(inside.x0 + 2, inside.y0 + 2, inside.x1 - 2, inside.y1 - 2),
        [Box(*_in_pixels(axes, bar.left, bar.bottom), *_in_pixels(axes, bar.right, bar.top)) for bar in bars],
        [Box(*text.get_window_extent().extents) for text in texts],
    )
    points_of_pixel = 72 / axes.figure.dpi
    for label, (x, y), box in zip(labels, places, boxes, strict=True):
        label.set_position(((box.left - x) * points_of_pixel, (box.bottom - y) * points_of_pixel))
        label.set_in_layout(False)
        if max(box.left - x, x - box.right, box.bottom - y, y - box.top) > _LED:
            end = min(max(x, box.left), box.right), min(max(y, box.bottom), box.top)
            style = {"arrowstyle": "-", "color": "0.6", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
            offset = ((end[0] - x) * points_of_pixel, (end[1] - y) * points_of_pixel)
            line = axes.annotate("", label.xy, xytext=offset, textcoords="offset points", arrowprops=style, zorder=1)
            line.set_in_layout(False)


def _in_pixels(axes: "Axes", x: float, y: float) -> tuple[float, float]:
    across, up = axes.transData.transform((x, y))
    return float(across), float(up)


def _room(points: Sequence[tuple[float, float]], number: int) -> float:
    """How far away the third nearest other point is; of few the farthest."""
    x, y = points[number]
    others = sorted((x - a) ** 2 + (y - b) ** 2 for place, (a, b) in enumerate(points) if place != number)
    return others[:3][-1] if others else 0.0


def _centered(x: float, y: float, width: float, height: float) -> Box:
    return Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
