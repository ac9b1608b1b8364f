"""Lengths at the edges of floating-point numbers: no update is longer than its bound."""

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedsec.defense import UpdateTransform
from fedsec.defense.norms import bounded_sum, euclidean_norm, row_norms
from fedsec.defenses import ClipUpdate, DpFedAvg, DpSgd, GaussianNoise, Prune, Quantize, Sign

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
BOUND_EXPONENTS = st.integers(-44, 30)


def exact_norm(row: Tensor) -> float:
    """By integers and `math`, which know no overflow."""
    largest = float(row.abs().max())
    return largest * math.sqrt(math.fsum((value / largest) ** 2 for value in row.tolist())) if largest else 0.0


def row(dtype: torch.dtype, exponent: int, seed: int) -> Tensor:
    """Numbers of about this power of ten, or the dtype's nearest."""
    largest = torch.finfo(dtype).max
    drawn = torch.randn(40, generator=torch.Generator().manual_seed(seed)).double()
    scaled = drawn * 10.0 ** max(-300, min(exponent, math.log10(largest)))
    return scaled.clamp(-largest, largest).to(dtype)


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(DTYPES), st.integers(-320, 308), BOUND_EXPONENTS, st.integers(0, 5))
@example(torch.float32, 38, -6, 0)
@example(torch.float64, 308, -6, 0)
@example(torch.float64, 308, 1, 0)
@example(torch.float64, 308, -300, 0)
@example(torch.float16, 4, -7, 0)
def test_no_update_is_longer_than_its_bound(dtype: torch.dtype, exponent: int, bound: int, seed: int) -> None:
    update, limit = row(dtype, exponent, seed), 10.0**bound
    sent = ClipUpdate(limit)({"w": update[:30], "b": update[30:]})
    length = exact_norm(torch.cat(list(sent.values())).double())
    assert length <= limit * (1 + 2 * torch.finfo(dtype).eps)
    if exact_norm(update.double()) > limit > 1e3 * torch.finfo(dtype).tiny * 40:
        assert length >= limit * (1 - 4 * torch.finfo(dtype).eps)


def test_numbers_that_rounding_would_make_longer_than_the_bound_are_left_out() -> None:
    """0.8e-45 is no float32; its neighbor 1.4e-45 is nearly twice as long."""
    sent = ClipUpdate(0.8e-45 * 1000**0.5)(torch.ones(1000))
    assert not bool(sent.any())


@settings(deadline=None, max_examples=30)
@given(st.sampled_from((torch.float32, torch.float64)), st.integers(-320, 308), st.integers(-30, 30))
@example(torch.float32, 38, -6)
@example(torch.float64, 308, -30)
@example(torch.float64, 308, 1)
@example(torch.float64, 290, -30)
def test_no_client_or_example_moves_a_private_sum_beyond_the_bound(
    dtype: torch.dtype, exponent: int, bound: int
) -> None:
    """3e38 times a float32 factor that is no normal number was 1.33 times the bound."""
    update, limit = row(dtype, exponent, 1), 10.0**bound
    for length in (
        exact_norm(DpFedAvg(0.0, clip_norm=limit)(update[None], generator=torch.Generator()).double()),
        exact_norm(DpSgd(0.0, max_grad_norm=limit).noisy_mean(update[None], 1.0, torch.Generator()).double()),
    ):
        assert length <= limit * (1 + 1e-5)
        if limit < exact_norm(update.double()) < limit * 1e300:
            assert length >= limit * (1 - 1e-5)


def test_norms_against_an_oracle() -> None:
    for dtype in DTYPES:
        for exponent in (-320, -160, -20, 0, 20, 160, 307):
            values = row(dtype, exponent, 2)
            expected = exact_norm(values.double())
            assert euclidean_norm([values[:7], values[7:]]) == pytest.approx(expected, rel=1e-12)
            assert float(row_norms(values[None])[0]) == pytest.approx(expected, rel=1e-12)
    assert euclidean_norm([torch.zeros(3)]) == 0
    assert row_norms(torch.tensor([[1.0, torch.nan], [torch.inf, 0.0], [3.0, 4.0]])).isfinite().tolist() == [0, 0, 1]


def test_bounded_sum_of_sizes_far_apart() -> None:
    rows = torch.tensor([[3e38, 0.0], [0.0, 2e-6], [3e-7, 4e-7]])
    total = bounded_sum(rows, row_norms(rows), 1e-6 / row_norms(rows).clamp_min(1e-6))
    torch.testing.assert_close(total, torch.tensor([1.3e-6, 1.4e-6]), rtol=1e-5, atol=0)
    assert bounded_sum(rows[:0], row_norms(rows[:0]), row_norms(rows[:0])).tolist() == [0, 0]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("exponent", [-320, -45, -8, 0, 308])
@pytest.mark.parametrize(
    "transform",
    [Sign(), Sign(scaled=False), Quantize(2), Quantize(16), Prune(0.5), GaussianNoise(1e30), GaussianNoise(3, True)],
)
def test_what_was_finite_stays_so(transform: UpdateTransform, exponent: int, dtype: torch.dtype) -> None:
    update = row(dtype, exponent, 3)
    update[0] = torch.finfo(dtype).max if exponent == 308 else update[0]
    sent = transform({"w": update})["w"]
    assert sent.isfinite().all()
    if not isinstance(transform, GaussianNoise | Sign):
        assert sent.abs().max() <= update.abs().max()


def test_signs_of_the_largest_numbers_have_their_mean_magnitude() -> None:
    largest = np.finfo(np.float64).max
    update = torch.tensor([largest, -largest, largest / 2, largest / 2], dtype=torch.float64)
    assert Sign()({"w": update})["w"].tolist() == pytest.approx([0.75 * largest * sign for sign in (1, -1, 1, 1)])
