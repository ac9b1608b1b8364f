"""The largest value on a line, against a fine grid of both signs."""

from collections.abc import Callable
from math import exp, inf, log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsec.errors import InputError
from fedsec.threat import largest_on_line

GRID = [10 ** (step / 3) for step in range(-10, 11)]


def cliff(edge: float) -> Callable[[float], float]:
    """Grows until the edge, where the defense notices."""
    return lambda magnitude: magnitude / edge if 0 <= magnitude / edge <= 1 else 0.1


@settings(max_examples=30, deadline=None)
@given(edge=st.floats(0.003, 900), sign=st.sampled_from([1.0, -1.0]))
def test_it_finds_an_edge_of_either_sign(edge: float, sign: float) -> None:
    magnitude, value = largest_on_line(cliff(sign * edge), GRID)
    assert value == cliff(sign * edge)(magnitude)
    assert value >= 0.99


@settings(max_examples=15, deadline=None)
@given(center=st.floats(-4, 4), width=st.floats(0.3, 2))
def test_it_finds_a_peak(center: float, width: float) -> None:
    def peak(magnitude: float) -> float:
        return exp(-(((log(abs(magnitude)) - center) / width) ** 2)) * (1.0 if magnitude < 0 else 0.9)

    grid = (exp(log(1e-3) + step * log(1e6) / 2000) for step in range(2001))
    best = max(peak(sign * magnitude) for magnitude in grid for sign in (1.0, -1.0))
    magnitude, value = largest_on_line(peak, GRID, refinements=20)
    assert magnitude < 0
    assert value >= best * 0.9999


def test_of_equal_values_the_smallest_magnitude_counts() -> None:
    assert largest_on_line(lambda magnitude: 1.0, [0.1, 10.0], refinements=0) == (0.1, 1.0)
    assert largest_on_line(lambda magnitude: -inf, [0.1, 10.0], refinements=0) == (0.1, -inf)


def test_what_grows_without_end_is_taken_at_the_end() -> None:
    magnitude, value = largest_on_line(lambda magnitude: -magnitude, [0.1, 1.0, 1e4])
    assert magnitude == pytest.approx(-1e4)
    assert value == pytest.approx(1e4)


def test_it_asks_as_often_as_it_says() -> None:
    asked: list[float] = []

    def value(magnitude: float) -> float:
        asked.append(magnitude)
        return -((magnitude - 1) ** 2)

    largest_on_line(value, [0.1, 1.1, 5.0, 10.0], refinements=5)
    assert len(asked) == 2 * 4 + 5 + 1  # the negative side is not worth a closer look
    assert len(set(asked)) == len(asked)


@pytest.mark.parametrize("magnitudes", [[], [0.0, 1.0], [1.0, 1.0], [2.0, 1.0], [-1.0]])
def test_magnitudes_out_of_order_are_refused(magnitudes: list[float]) -> None:
    with pytest.raises(InputError, match="positive magnitudes in ascending order"):
        largest_on_line(abs, magnitudes)
    with pytest.raises(InputError, match="refinements >= 0"):
        largest_on_line(abs, [1.0], refinements=-1)
