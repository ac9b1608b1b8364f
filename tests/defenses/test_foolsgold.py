"""FoolsGold against a direct computation, round after round, and its memory by client."""

import math
from collections import defaultdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedsec.defense import Cohort, Pipeline
from fedsec.defenses import NNM, FoolsGold
from fedsec.errors import InputError


def direct(history: list[Tensor]) -> list[float]:
    """The weights, client by client."""
    count = len(history)
    cosines = [[0.0] * count for _ in range(count)]
    for i in range(count):
        for j in range(count):
            if i != j:
                cosines[i][j] = float(history[i] @ history[j] / (history[i].norm() * history[j].norm()))
    closest = [max(row) for row in cosines]
    distinct = []
    for i in range(count):
        row = [
            cosines[i][j] * (closest[i] / closest[j] if i != j and closest[i] < closest[j] else 1) for j in range(count)
        ]
        distinct.append(min(1.0, max(0.0, 1 - max(row))))
    weights = []
    for value in distinct:
        value = value / max(distinct)
        value = 0.99 if value == 1 else value
        weights.append(min(1.0, max(0.0, math.log(value / (1 - value)) + 0.5)) if value > 0 else 0.0)
    return weights


@given(st.integers(2, 7), st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_it_is_the_direct_computation_round_after_round(num_clients: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rule, history = FoolsGold(), defaultdict[int, Tensor](lambda: torch.zeros(12, dtype=torch.float64))
    common = torch.randn(12, generator=generator)
    for _ in range(3):
        clients = torch.randperm(num_clients + 2, generator=generator)[:num_clients].tolist()
        updates = common + torch.randn(num_clients, 12, generator=generator)
        for client, row in zip(clients, updates.double(), strict=True):
            history[client] += row
        weights = torch.tensor(direct([history[client] for client in clients]), dtype=torch.float64)
        vector = rule(updates, clients=clients)
        torch.testing.assert_close(vector.double(), weights @ updates.double() / num_clients, rtol=1e-4, atol=1e-5)


def test_sybils_count_nothing_and_shorten_the_step() -> None:
    honest = torch.eye(3, 8)
    updates = torch.cat([honest, torch.full((4, 8), -1.0)])
    aggregate = FoolsGold().aggregate(updates)
    assert aggregate.suspected == (3, 4, 5, 6)
    torch.testing.assert_close(aggregate.vector, honest.sum(0) / 7)
    torch.testing.assert_close(aggregate.influence[:3], torch.full((3,), 1 / 3, dtype=torch.float64))


def test_sybils_are_known_again_when_they_send_something_else() -> None:
    rule, sybil = FoolsGold(), torch.ones(1, 8)
    rule(torch.cat([torch.eye(2, 8), 10 * sybil, 10 * sybil]), clients=[0, 1, 7, 9])
    aggregate = rule.aggregate(torch.cat([torch.eye(4, 8)[2:], torch.randn(2, 8)]), clients=[9, 7, 3, 4])
    assert aggregate.suspected == (0, 1)


def test_where_all_agree_all_count() -> None:
    for updates in (torch.ones(5, 4), torch.arange(1.0, 6.0)[:, None] * torch.ones(4), torch.ones(1, 4)):
        aggregate = FoolsGold().aggregate(updates)
        torch.testing.assert_close(aggregate.vector, updates.mean(0))
        assert aggregate.suspected == ()
    assert not FoolsGold()(torch.zeros(3, 4)).any()
    long = torch.randn(1, 70_000) * torch.tensor([1.0, 3.0, 7.0])[:, None]  # whose inner products are float32's
    torch.testing.assert_close(FoolsGold()(long), long.mean(0))


def test_what_was_not_finite_is_not_remembered_and_nothing_of_the_caller_s_is_kept() -> None:
    rule, updates = FoolsGold(), torch.eye(3)
    updates[1] = torch.nan
    assert rule.aggregate(updates, clients=[5, 6, 7]).rejected == (1,)
    updates.fill_(1.0)
    assert rule.state()["clients"].tolist() == [5, 7]
    assert torch.equal(rule.state()["history"], torch.eye(3)[[0, 2]])


def test_only_the_round_s_clients_histories_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a thousand clients ten take part: products with the others' histories would cost a hundred times as much."""
    rule, stacked = FoolsGold(), list[Tensor | None]()
    rule(torch.eye(6, 8), clients=range(6))
    original = FoolsGold.references

    def watched(self: FoolsGold, cohort: Cohort) -> Tensor | None:
        stacked.append(original(self, cohort))
        return stacked[-1]

    monkeypatch.setattr(FoolsGold, "references", watched)
    rule(torch.eye(3, 8), clients=[4, 9, 1])
    rule(torch.eye(2, 8), clients=[20, 21])
    (present, absent) = stacked
    assert present is not None
    assert torch.equal(present, torch.eye(6, 8)[[4, 1]])
    assert absent is None


def test_a_copy_from_its_state_goes_on_alike() -> None:
    first, again = FoolsGold(), FoolsGold()
    rounds = torch.randn(3, 4, 10) + torch.randn(10)
    first(rounds[0], clients=[1, 2, 3, 4])
    again.restore(first.state())
    for updates in rounds[1:]:
        assert torch.equal(first(updates, clients=[4, 2, 9, 1]), again(updates, clients=[4, 2, 9, 1]))
    with pytest.raises(InputError, match="expected its clients and their history"):
        again.restore({"rows": torch.zeros(2)})


def test_confidence_scales_the_logit_of_the_most_distinct_clients() -> None:
    updates = torch.eye(3, 4)  # nobody resembles anybody: 0.99 each, and a tenth of its logit and a half
    wanted = torch.tensor([0.1 * (math.log(0.99 / 0.01) + 0.5) / 3] * 3 + [0.0])
    torch.testing.assert_close(FoolsGold(confidence=0.1)(updates), wanted)


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(InputError, match="confidence must be positive"):
        FoolsGold(confidence=0.0)
    with pytest.raises(InputError, match="remembers clients, and a pre-aggregator mixes their rows"):
        Pipeline([NNM(1), FoolsGold()])(torch.randn(5, 3))
    rule = FoolsGold()
    rule(torch.randn(3, 4))
    with pytest.raises(InputError, match="remembers updates of 4 numbers, and these have 5"):
        rule(torch.randn(3, 5))
