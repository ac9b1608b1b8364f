"""SignGuard: both filters, the clipping, and what is drawn."""

import pytest
import torch
from torch import Tensor

from fedsec.defenses import SignGuard
from fedsec.errors import AggregationError, InputError


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def of_signs(positive: float, count: int, size: int = 1000, length: float = 1.0) -> Tensor:
    """Rows of one norm whose signs are positive in a share of any stretch of twenty coordinates."""
    signs = torch.where(torch.arange(size) % 20 < 20 * positive, 1.0, -1.0)
    return signs.expand(count, -1) * length / size**0.5


def test_rows_of_unusual_length_and_of_unusual_signs_are_left_out() -> None:
    updates = torch.cat(
        [
            of_signs(0.5, 5),
            of_signs(0.55, 1),
            of_signs(0.5, 1, length=0.05),
            of_signs(0.5, 1, length=4.0),
            of_signs(0.95, 2),
        ]
    )
    updates = updates * torch.tensor([1.0, 0.8, 1.2, 0.9, 2.0, 1, 1, 1, 1, 1])[:, None]
    aggregate = SignGuard().aggregate(updates, generator=seeded(1))
    assert aggregate.suspected == (6, 7, 8, 9)
    norms = updates.double().norm(dim=1)
    median = norms.median()  # 1, of ten norms around it
    shortened = [row * min(1.0, float(median / norm)) for row, norm in zip(updates[:6], norms[:6], strict=True)]
    torch.testing.assert_close(aggregate.vector, torch.stack(shortened).mean(0))
    assert SignGuard(longest=5.0).aggregate(updates, generator=seeded(1)).suspected == (6, 8, 9)


def test_zeros_are_a_third_sign_and_count_beside_the_most_that_a_row_has() -> None:
    updates = torch.cat([of_signs(0.45, 2), of_signs(0.5, 2), of_signs(0.55, 2), of_signs(0.5, 3)]).clone()
    updates[6:, ::100] = 0.0  # one in a hundred: their other signs are as usual
    assert SignGuard().aggregate(updates, generator=seeded(1)).suspected == (6, 7, 8)


def test_signs_are_counted_in_a_tenth_of_the_coordinates_which_the_generator_draws() -> None:
    updates = of_signs(0.5, 6).clone()
    updates[5, :500] = updates[5, :500].abs()  # unusual in one half of the coordinates only
    verdicts = [SignGuard().aggregate(updates, generator=seeded(seed)).suspected for seed in range(12)]
    assert {*verdicts} == {(), (5,)}
    assert verdicts == [SignGuard().aggregate(updates, generator=seeded(seed)).suspected for seed in range(12)]


def test_where_nobody_passes_both_filters_there_is_no_step() -> None:
    signs = [of_signs(0.2, 3, length=10.0), of_signs(0.8, 2), of_signs(0.5, 1, length=0.01)]
    aggregate = SignGuard(longest=1.0, shortest=1.0).aggregate(torch.cat(signs), generator=seeded(1))
    assert not aggregate.vector.any()
    assert aggregate.suspected == tuple(range(6))


@pytest.mark.parametrize("updates", [torch.ones(1, 4), torch.ones(5, 4), torch.zeros(3, 4), -torch.ones(2, 1)])
def test_equal_rows_all_pass(updates: Tensor) -> None:
    aggregate = SignGuard().aggregate(updates, generator=seeded(1))
    torch.testing.assert_close(aggregate.vector, updates[0])
    assert aggregate.suspected == ()


def test_half_precision_and_rows_that_are_not_finite() -> None:
    updates = of_signs(0.5, 7).to(torch.bfloat16).clone()
    updates[3, 0] = torch.nan
    aggregate = SignGuard().aggregate(updates, generator=seeded(1))
    assert (aggregate.rejected, aggregate.suspected) == ((3,), (3,))
    updates[:4] = torch.nan
    with pytest.raises(AggregationError, match="at most 3 may be lost"):
        SignGuard()(updates, generator=seeded(1))


@pytest.mark.parametrize(("shortest", "longest"), [(-0.1, 3), (1.1, 3), (0.1, 0.9), (0.1, float("inf"))])
def test_bounds_out_of_order_are_refused(shortest: float, longest: float) -> None:
    with pytest.raises(InputError, match="expected 0 <= shortest <= 1 <= longest"):
        SignGuard(shortest, longest)
    with pytest.raises(InputError, match="expected a generator"):
        SignGuard()(torch.ones(3, 4))
