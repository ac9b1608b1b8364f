"""FLAME against a direct search for the majority's cluster; what is clipped, and the noise."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedsec.defenses import FLAME
from fedsec.errors import InputError


def majority(distances: Tensor) -> set[int]:
    """The first component of more than half of the points as ever longer edges join them (single linkage).

    HDBSCAN whose clusters must hold more than half of the points, with a neighborhood of one, finds no other.
    """
    count = len(distances)
    components = [{point} for point in range(count)]
    edges = sorted((float(distances[i, j]), i, j) for i in range(count) for j in range(i))
    for _, i, j in edges:
        joined = next(part for part in components if i in part) | next(part for part in components if j in part)
        components = [part for part in components if not part & joined] + [joined]
        if len(joined) > count // 2:
            return joined
    return {0}


def direct(updates: Tensor) -> tuple[Tensor, set[int]]:
    norms = updates.norm(dim=1)
    unit = updates / norms[:, None]
    admitted = majority(1 - unit @ unit.T)
    bound = float(norms.sort().values[(len(norms) - 1) // 2 : len(norms) // 2 + 1].mean())
    shortened = [updates[row] * min(1.0, bound / float(norms[row])) for row in sorted(admitted)]
    return torch.stack(shortened).mean(0), admitted


@given(st.integers(2, 12), st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_it_is_the_direct_computation(num_clients: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    updates = torch.randn(num_clients, 15, generator=generator) + torch.randn(15, generator=generator)
    vector, admitted = direct(updates.double())
    aggregate = FLAME(noise=0.0).aggregate(updates)
    assert aggregate.suspected == tuple(sorted({*range(num_clients)} - admitted))
    torch.testing.assert_close(aggregate.vector.double(), vector, rtol=1e-4, atol=1e-5)


def test_a_minority_that_points_elsewhere_is_left_out_however_alike_it_is() -> None:
    generator = torch.Generator().manual_seed(1)
    honest = torch.ones(8, 200) + 0.3 * torch.randn(8, 200, generator=generator)
    aggregate = FLAME(noise=0.0).aggregate(torch.cat([honest, -torch.ones(3, 200)]))
    assert aggregate.suspected is not None
    assert {8, 9, 10} <= {*aggregate.suspected}
    assert len(aggregate.suspected) <= 5


def test_the_bound_is_the_median_norm_of_all_updates_also_of_those_left_out() -> None:
    updates = torch.cat([torch.tensor([1.0, 2.0, 4.0])[:, None] * torch.tensor([1.0, 0.0]), -torch.eye(2) * 0.5])
    aggregate = FLAME(noise=0.0).aggregate(updates)  # norms 1, 2, 4, .5, .5: the median is 1, of those admitted 2
    assert aggregate.suspected == (3, 4)
    torch.testing.assert_close(aggregate.vector, torch.tensor([1.0, 0.0]))


def test_noise_is_as_loud_as_said_and_the_generator_s() -> None:
    updates = 3 * torch.ones(5, 20000) / 20000**0.5
    rule = FLAME(noise=0.1)
    vector = rule(updates, generator=torch.Generator().manual_seed(1))
    assert float((vector - updates[0]).std()) == pytest.approx(0.3, rel=0.03)
    assert torch.equal(vector, rule(updates, generator=torch.Generator().manual_seed(1)))
    assert not torch.equal(vector, rule(updates, generator=torch.Generator().manual_seed(2)))
    torch.testing.assert_close(FLAME(noise=0.0)(updates), updates[0])
    huge = rule(1e250 * updates[:, :50].double(), generator=torch.Generator().manual_seed(1)) / 1e250
    torch.testing.assert_close(huge, rule(updates[:, :50].double(), generator=torch.Generator().manual_seed(1)))
    with pytest.raises(InputError, match="expected a generator"):
        rule(updates)


@pytest.mark.parametrize("updates", [torch.ones(1, 4), torch.ones(4, 4), torch.zeros(3, 4), torch.ones(2, 4)])
def test_equal_rows_are_all_admitted(updates: Tensor) -> None:
    aggregate = FLAME(noise=0.0).aggregate(updates)
    torch.testing.assert_close(aggregate.vector, updates[0])
    assert aggregate.suspected == ()


def test_rows_that_are_not_finite_count_as_byzantine() -> None:
    updates = torch.randn(7, 5).abs()
    updates[2, 1] = torch.inf
    aggregate = FLAME(noise=0.0).aggregate(updates)
    assert aggregate.rejected == (2,)
    others = FLAME(noise=0.0)(updates[[0, 1, 3, 4, 5, 6]])
    assert torch.equal(aggregate.vector, others)
    with pytest.raises(InputError, match="noise must be finite and not negative"):
        FLAME(noise=-1.0)
