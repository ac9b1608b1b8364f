"""Labels stand beside their points, over nothing, inside of the frame."""

import math
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from fedsec.report.evidence.label_placement import Box, label_points, place_labels

FRAME = Box(0, 0, 600, 400)
PLACES = st.tuples(st.integers(40, 560).map(float), st.integers(40, 360).map(float))


def apart(one: Box, other: Box) -> bool:
    """Whether two rectangles share no inner point; written by the side that parts them."""
    return one.right <= other.left or other.right <= one.left or one.top <= other.bottom or other.top <= one.bottom


@given(st.lists(PLACES, min_size=1, max_size=8))
@settings(max_examples=30)
def test_labels_cover_neither_points_nor_each_other(points: list[tuple[float, float]]) -> None:
    boxes = place_labels(points, [(90.0, 22.0)] * len(points), FRAME)
    markers = [Box(x - 4.9, y - 4.9, x + 4.9, y + 4.9) for x, y in points]
    assert all(apart(one, other) for one, other in combinations(boxes, 2))
    assert all(apart(box, marker) for box in boxes for marker in markers)
    for box in boxes:
        assert (round(box.right - box.left, 6), round(box.top - box.bottom, 6)) == (90, 22)
        assert box.left >= 0
        assert box.bottom >= 0
        assert box.right <= 600
        assert box.top <= 400


def test_a_lonely_label_stands_at_the_right_of_its_point_and_at_the_left_at_the_edge() -> None:
    assert place_labels([(300.0, 200.0)], [(80.0, 20.0)], FRAME) == [Box(308, 190, 388, 210)]
    assert place_labels([(590.0, 200.0)], [(80.0, 20.0)], FRAME) == [Box(502, 190, 582, 210)]


def test_bars_are_left_visible_where_there_is_room() -> None:
    (box,) = place_labels([(300.0, 200.0)], [(80.0, 20.0)], FRAME, [Box(250, 200, 350, 200), Box(300, 150, 300, 250)])
    assert box.bottom > 200 or box.top < 200
    assert box.left > 300 or box.right < 300


def test_obstacles_stay_uncovered() -> None:
    (box,) = place_labels([(300.0, 200.0)], [(80.0, 20.0)], FRAME, obstacles=[Box(310, 150, 400, 250)])
    assert apart(box, Box(310, 150, 400, 250))


def test_no_two_labels_would_both_be_nearer_in_each_others_place() -> None:
    points = [(75.0, 295.0), (50.0, 270.0), (105.0, 115.0), (70.0, 260.0)]
    boxes = place_labels(points, [(150.0, 45.0)] * 4, FRAME)
    middles = [((box.left + box.right) / 2, (box.bottom + box.top) / 2) for box in boxes]

    def gap(point: tuple[float, float], middle: tuple[float, float]) -> float:
        across, up = (max(abs(a - b) - half, 0) for a, b, half in zip(point, middle, (75, 22.5), strict=True))
        return math.hypot(across, up)

    for one, other in combinations(range(4), 2):
        now = gap(points[one], middles[one]) + gap(points[other], middles[other])
        exchanged = gap(points[one], middles[other]) + gap(points[other], middles[one])
        assert now <= exchanged + 1e-9


def test_in_a_picture_no_text_overlaps_another() -> None:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    points = [(f"defense {number}\nepsilon {number}", 0.5 + 0.002 * number, 50.0 + number % 3) for number in range(8)]
    axes.plot([x for _, x, _ in points], [y for _, _, y in points], "o")
    figure.draw_without_rendering()
    label_points(axes, points)
    figure.draw_without_rendering()
    extents = [text.get_window_extent() for text in axes.texts if text.get_text()]
    boxes = [Box(extent.x0, extent.y0, extent.x1, extent.y1) for extent in extents]
    assert len(boxes) == 8
    assert all(apart(one, other) for one, other in combinations(boxes, 2))
    inside = axes.get_window_extent()
    assert all(Box(inside.x0, inside.y0, inside.x1, inside.y1).holds(box) for box in boxes)
