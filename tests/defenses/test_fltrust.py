"""FLTrust: the server's own update says whom to trust, and how far to go."""

from math import sqrt

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedsec.defense import Pipeline
from fedsec.defenses import NNM, FLTrust
from fedsec.errors import InputError


def direct(updates: Tensor, server: Tensor) -> Tensor:
    """Row by row, as the paper writes it."""
    total, trust = torch.zeros_like(server), 0.0
    for row in updates:
        if float(row.norm()) == 0 or float(server.norm()) == 0:
            continue
        score = max(0.0, float(row @ server / (row.norm() * server.norm())))
        total += score * server.norm() / row.norm() * row
        trust += score
    return total / trust if trust else total


@given(st.integers(1, 9), st.integers(2, 40), st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_it_is_what_the_paper_writes(num_clients: int, size: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    updates = torch.randn(num_clients, size, generator=generator) * 10 ** torch.randn(
        num_clients, 1, generator=generator
    )
    server = torch.randn(size, generator=generator)
    wanted = direct(updates.double(), server.double())
    torch.testing.assert_close(FLTrust()(updates, server_update=server).double(), wanted, rtol=1e-5, atol=1e-6)


def test_a_case_by_hand() -> None:
    server = torch.tensor([2.0, 0.0])
    updates = torch.tensor([[1.0, 0.0], [3.0, 3.0], [-5.0, 0.0], [0.0, 7.0]])
    aggregate = FLTrust().aggregate(updates, server_update=server)
    score = 1 / sqrt(2)
    wanted = (torch.tensor([2.0, 0.0]) + score * torch.tensor([sqrt(2), sqrt(2)])) / (1 + score)
    torch.testing.assert_close(aggregate.vector, wanted)
    assert aggregate.suspected == (2, 3)
    assert aggregate.influence[2:].tolist() == [0, 0]


def test_a_row_of_hardly_any_length_is_made_as_long_as_the_servers() -> None:
    """An attacker's row of 1e-42 must not stop the server, nor count more than others."""
    server = torch.tensor([2.0, 1.0, 0.5])
    updates = torch.stack([server * 1e-42, server, 3 * server, -server])
    aggregate = FLTrust().aggregate(updates, server_update=server)
    torch.testing.assert_close(aggregate.vector, server, rtol=1e-3, atol=0)  # as coarse as such numbers are


@pytest.mark.parametrize(
    ("updates", "server"),
    [
        (-torch.ones(4, 3), torch.ones(3)),
        (torch.zeros(4, 3), torch.ones(3)),
        (torch.ones(4, 3), torch.zeros(3)),
    ],
    ids=["all against", "all zero", "no direction"],
)
def test_where_nobody_is_trusted_there_is_no_step(updates: Tensor, server: Tensor) -> None:
    aggregate = FLTrust().aggregate(updates, server_update=server)
    assert not aggregate.vector.any()
    assert not aggregate.influence.any()
    assert aggregate.suspected == (0, 1, 2, 3)


def test_no_attacker_moves_it_further_than_the_server_went() -> None:
    server = torch.randn(30)
    updates = torch.cat([server + torch.randn(1, 30), 1e20 * torch.randn(9, 30)])
    vector = FLTrust()(updates, server_update=server)
    assert float(vector.norm()) <= float(server.norm()) * (1 + 1e-5)


def test_equal_rows_one_client_and_rows_that_are_not_finite() -> None:
    server = torch.randn(10)
    for count in (1, 5):
        torch.testing.assert_close(FLTrust()(server.expand(count, -1) * 3, server_update=server), server)
    broken = torch.stack([server, server * torch.nan, -server])
    aggregate = FLTrust().aggregate(broken, server_update=server)
    assert (aggregate.rejected, aggregate.suspected) == ((1,), (1, 2))
    torch.testing.assert_close(aggregate.vector, server)


def test_behind_a_pre_aggregator_it_trusts_mixed_rows() -> None:
    updates, server = torch.randn(7, 20), torch.randn(20)
    vector = Pipeline([NNM(2), FLTrust()])(updates, server_update=server)
    torch.testing.assert_close(vector, FLTrust()(NNM(2)(updates), server_update=server))
    with pytest.raises(InputError, match="expected server_update"):
        FLTrust()(updates)
