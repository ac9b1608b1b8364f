"""What many clients' values say together, by hand."""

import pytest

from fedsec.metrics.fairness import jain_index, over_clients
from fedsec.metrics.metric import ACCURACY, METRICS, described


def test_figures_by_hand() -> None:
    figures = over_clients([0.8, 0.2, 0.5, 0.5], ACCURACY)
    assert figures == pytest.approx(
        {
            "accuracy_clients_mean": 0.5,
            "accuracy_clients_worst10": 0.2,
            "accuracy_clients_std": (2 * 0.3**2 / 4) ** 0.5,
            "accuracy_clients_jain": 2.0**2 / (4 * (0.64 + 0.04 + 0.25 + 0.25)),
        }
    )
    assert set(figures) <= set(METRICS)


def test_the_worst_tenth_of_many_is_a_mean_and_errors_are_worst_where_they_are_large() -> None:
    values = [place / 20 for place in range(20)]
    assert over_clients(values, ACCURACY)["accuracy_clients_worst10"] == pytest.approx(0.025)
    error = described("mean_squared_error")
    assert over_clients(values, error)["mean_squared_error_clients_worst10"] == pytest.approx(0.925)
    assert over_clients([*values, 1.0], ACCURACY)["accuracy_clients_worst10"] == pytest.approx(0.05)  # three of 21


def test_jain_is_one_where_all_have_the_same_and_one_nth_where_one_has_everything() -> None:
    assert jain_index([0.3] * 7) == pytest.approx(1)
    assert jain_index([0, 0, 0, 0.9]) == pytest.approx(1 / 4)
    assert jain_index([0, 0]) is None


@pytest.mark.parametrize("values", [[], [0.5, float("nan")], [float("inf")]])
def test_what_is_no_number_has_no_figures(values: list[float]) -> None:
    assert set(over_clients(values, ACCURACY).values()) == {None}


def test_rows_say_which_direction_is_better() -> None:
    mean, worst, spread, index = ACCURACY.over_clients
    assert [row.better for row in (mean, worst, spread, index)] == ["higher", "higher", "lower", "higher"]
    assert [row.better for row in described("mean_squared_error").over_clients] == ["lower", "lower", "lower", "higher"]
    assert (worst.title, index.is_fraction) == ("accuracy_clients_worst10 (%)", False)
