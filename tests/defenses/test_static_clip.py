"""Clipping at the server."""

import pytest
import torch

from fedsec.defenses import ClipUpdate, Median, Pipeline, StaticClip
from fedsec.errors import InputError


def test_longer_rows_are_shortened_to_the_limit_and_others_are_as_they_were() -> None:
    updates = torch.tensor([[3.0, 4], [0.3, 0.4], [0, 0], [-3e30, 4e30]])
    before = updates.clone()
    clipped = StaticClip(1.0)(updates)
    torch.testing.assert_close(clipped, torch.tensor([[0.6, 0.8], [0.3, 0.4], [0, 0], [-0.6, 0.8]]))
    assert torch.equal(updates, before)
    assert torch.equal(clipped[1:3], updates[1:3])


def test_rules_see_what_they_would_where_clients_clip() -> None:
    updates = torch.randn(7, 50, generator=torch.Generator().manual_seed(1)) * 3
    here, there = (Pipeline([clip, Median()])(updates) for clip in (StaticClip(2.0), ClipUpdate(2.0)))
    torch.testing.assert_close(here, there)


def test_limits_have_the_rows_unit_however_large() -> None:
    """Squares of such numbers are beyond float64."""
    updates = torch.tensor([[3e200, 4e200], [1e190, 0]], dtype=torch.float64)
    torch.testing.assert_close(StaticClip(1e200)(updates)[0].div(1e200).tolist(), [0.6, 0.8])
    assert StaticClip(1e200)(updates)[1].tolist() == [1e190, 0]


def test_a_limit_out_of_range_is_said() -> None:
    for limit in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(InputError, match="StaticClip: max_norm must be positive and finite"):
            StaticClip(limit)
