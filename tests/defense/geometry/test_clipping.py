"""Shortening by norms, and medians by weight."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsec.defense.geometry.clipping import shortening, weighted_median


def test_parts_of_rows_that_are_not_longer_than_a_bound() -> None:
    norms = torch.tensor([0.0, 1, 2, 4, 1e300], dtype=torch.float64)
    assert shortening(norms, 2.0).tolist() == [1, 1, 1, 0.5, 2e-300]
    nothing = shortening(norms, 0.0)
    assert (nothing > 0).all()
    assert (nothing * norms).tolist() == pytest.approx([0] * 5, abs=1e-7)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(-4, 4), st.integers(0, 4)), min_size=1, max_size=8))
def test_the_median_of_as_many_copies_as_the_weight_says(pairs: list[tuple[int, int]]) -> None:
    copies = sorted(value for value, weight in pairs for _ in range(weight))
    if not copies:
        return
    values = torch.tensor([float(value) for value, _ in pairs], dtype=torch.float64)
    weights = torch.tensor([weight / len(copies) for _, weight in pairs], dtype=torch.float64)
    expected = (copies[(len(copies) - 1) // 2] + copies[len(copies) // 2]) / 2
    assert weighted_median(values, weights) == expected
