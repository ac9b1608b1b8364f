"""Numbers on a grid: their sums are right to half a step each, or refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsec.errors import InputError
from fedsec.federation.secure_sums.finite_field import PRIME
from fedsec.federation.secure_sums.fixed_point import FixedPoint

MODULI = (2**32, 2**64, int(PRIME))


@settings(max_examples=25, deadline=None)
@given(
    modulus=st.sampled_from(MODULI),
    bits=st.integers(0, 20),
    clients=st.integers(1, 12),
    clip=st.floats(0.25, 8),
    seed=st.integers(0, 2**32),
)
def test_sums_are_right_to_half_a_step_of_each_number(
    modulus: int, bits: int, clients: int, clip: float, seed: int
) -> None:
    grid, rng = FixedPoint(modulus, bits, clip).fitting(clients), np.random.default_rng(seed)
    numbers = rng.normal(size=(clients, 7)) * clip
    total = np.zeros(7, np.uint64)
    for row in grid.elements(grid.integers(numbers)):
        total = np.array([(int(a) + int(b)) % modulus for a, b in zip(total, row, strict=True)], np.uint64)
    expected = np.clip(numbers, -clip, clip).sum(0)
    # A clipping range between two steps is rounded to one: another half.
    assert np.abs(grid.numbers(total) - expected).max() <= clients * 2.0 ** -(bits + 1) * (1 + 1e-9)


@pytest.mark.parametrize("modulus", MODULI)
def test_the_largest_sums_fit_and_larger_ones_are_refused(modulus: int) -> None:
    grid = FixedPoint(modulus, 16, 2.0)
    most = grid.most_weight
    for sign in (1, -1):
        assert int(grid.signed(grid.elements(np.array([sign * most * grid.largest])))[0]) == sign * most * grid.largest
    grid.fitting(most)
    with pytest.raises(InputError, match=rf"expected fewer fraction_bits, .* \(at most {most:,}\)"):
        grid.fitting(most + 1)


def test_the_finest_grid_that_fits_is_found() -> None:
    grid = FixedPoint.finest(2**32, 1.0, 60_000)
    assert grid.fraction_bits == 15
    with pytest.raises(InputError, match="altogether takes"):
        FixedPoint(2**32, 16, 1.0).fitting(60_000)
    assert FixedPoint.finest(2**64, 1.0, 60_000).fraction_bits == 24
    assert FixedPoint.finest(2**64, 1e9, 4).fraction_bits == 22, "float64 counts no finer within such a range"
    with pytest.raises(InputError, match="and the ring has 31"):
        FixedPoint.finest(int(PRIME), 2.0**20, 60_000)


@pytest.mark.parametrize("modulus", MODULI)
def test_who_follows_no_protocol_sends_what_it_likes_modulo_the_ring(modulus: int) -> None:
    grid = FixedPoint(modulus, 8, 1.0)
    numbers = np.array([[3.0, -5.0], [3.0, -5.0], [1e30, -1e30]])
    honest, wild, absurd = grid.integers(numbers, np.array([True, False, False]))
    assert honest.tolist() == [256, -256]
    assert wild.tolist() == [768, -1280]
    assert (np.abs(grid.signed(grid.elements(absurd)).astype(float)) <= modulus / 2).all()
    turned = grid.integers(np.array([[modulus / 256 + 3.0, 0.0]]), np.array([False]))
    assert turned[0, 0] == pytest.approx(768, abs=modulus / 2**52)


@pytest.mark.parametrize(("bits", "clip"), [(0, 0.0), (0, -1.0), (0, float("inf")), (-1, 1.0), (52, 1.0)])
def test_grids_that_are_none_are_refused(bits: int, clip: float) -> None:
    with pytest.raises(InputError, match="secure_aggregation"):
        FixedPoint(2**32, bits, clip)
