"""How honest updates spread, against NumPy; published values of z."""

import math

import numpy as np
import pytest
import torch

from fedsec.errors import InputError
from fedsec.threat.byzantine.spread import DIRECTIONS, Spread, published_z

GOLDEN = {
    (10, 2): (0.0, 0.2533),
    (10, 3): (0.1800, 0.5244),
    (10, 4): (0.4307, 0.8416),
    (15, 5): (0.5244, 0.8416),
    (20, 2): (0.0, 0.1257),
    (20, 4): (0.1573, 0.3853),
    (20, 6): (0.3661, 0.6745),
    (20, 8): (0.6745, 1.0364),
    (25, 5): (0.2533, 0.4677),
    (25, 11): (1.0676, 1.4051),
    (30, 6): (0.2104, 0.4307),
    (50, 5): (0.0837, 0.2019),
    (50, 10): (0.2533, 0.4677),
    (50, 20): (0.8416, 1.1750),
    (51, 12): (0.3612, 0.5992),
    (100, 10): (0.1116, 0.2275),
    (100, 20): (0.2858, 0.4959),
    (100, 40): (0.9027, 1.2265),
}


@pytest.mark.parametrize("numbers", GOLDEN)
def test_published_z(numbers: tuple[int, int]) -> None:
    neurips, first = GOLDEN[numbers]
    assert published_z(*numbers) == pytest.approx(neurips, abs=5e-5)
    assert published_z(*numbers, "v1") == pytest.approx(first, abs=5e-5)


def test_z_where_the_formulas_say_nothing() -> None:
    assert published_z(10, 1) == pytest.approx(-0.1397, abs=5e-5)
    assert published_z(2, 1) == 0  # of one honest client no share is left: minus infinity
    assert published_z(3, 3) == 0
    majority = published_z(10, 7)
    assert math.isfinite(majority)
    assert majority > 0
    with pytest.raises(InputError, match="published_z: 4 of 3 clients cannot be Byzantine"):
        published_z(3, 4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_against_numpy(dtype: torch.dtype) -> None:
    rows = (torch.randn(5, 70_000, generator=torch.Generator().manual_seed(0)) + 3).to(dtype)
    spread, exact = Spread(rows), rows.double().numpy()
    mean = exact.mean(0)
    np.testing.assert_allclose(spread.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(spread.std, exact.std(0, ddof=1), rtol=1e-9)
    distances = ((exact[:, None] - exact) ** 2).sum(2)
    np.testing.assert_allclose(spread.squared_distances(), distances, rtol=1e-10)
    np.testing.assert_allclose(spread.squared_deviations(), ((exact - mean) ** 2).sum(1), rtol=1e-10)
    direction = np.linspace(-1, 1, 70_000)
    np.testing.assert_allclose(spread.projections(torch.from_numpy(direction)), (exact - mean) @ direction, rtol=1e-9)


def test_directions() -> None:
    spread = Spread(torch.tensor([[3.0, 0.0, -5.0], [3.0, 0.0, -3.0]]))
    assert spread.against("unit").tolist() == [-0.6, 0, 0.8]
    assert spread.against("sign").tolist() == [-1, 0, 1]
    assert spread.against("std").tolist() == pytest.approx([0, 0, -math.sqrt(2)])
    nowhere = Spread(torch.zeros(1, 3))
    assert not any(bool(nowhere.against(kind).any()) for kind in DIRECTIONS)
