"""What clients make of what they receive, Byzantine neighbors included, against plain loops."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fedsec.attacks import ALIE, IPM, NaN, SignFlip
from fedsec.defense import Aggregator
from fedsec.defenses import ClippedGossip, Mean, Median, MoNNA, TrimmedMean
from fedsec.errors import AggregationError, InputError
from fedsec.federation.gossip.graph import Graph
from fedsec.federation.gossip.mixing import mixing_matrix
from fedsec.federation.gossip.neighborhoods import Neighborhoods, num_parts
from fedsec.seeds import Streams
from fedsec.threat import AttackerView, UpdatePoisoning

STREAMS = Streams(3)


def neighborhoods(graph: Graph, clients: int, rule: Aggregator | None = None, attack: Any = None) -> Neighborhoods:
    weights = mixing_matrix(graph, graph.adjacency(clients, STREAMS))
    shapes = {"w": torch.Size([6])}
    return Neighborhoods(weights, rule or Mean(), linear=rule is None, attack=attack, streams=STREAMS, shapes=shapes)


def models(clients: int) -> Tensor:
    return torch.randn(clients, 6, generator=torch.Generator().manual_seed(0))


class Notes(UpdatePoisoning):
    """Sends a number of its own to each neighbor, and notes what it saw."""

    def __init__(self, knowledge: Any) -> None:
        self.knowledge = knowledge
        self.views: list[AttackerView] = []

    def forge(self, view: AttackerView) -> Tensor:
        self.views.append(view)
        return torch.full_like(view.own, float(len(self.views)))


def test_an_attacker_forges_for_each_honest_neighbor_anew_and_sees_its_neighborhood() -> None:
    rows = models(5)
    attack = Notes("omniscient")
    step = neighborhoods(Graph("ring"), 5, attack=attack)(rows, frozenset({0}), 1)
    assert [view.clients for view in attack.views] == [(1, 2), (3, 4)]  # of clients 1 and 4
    for view, client, neighbor, sent in zip(attack.views, (1, 4), (2, 3), (1.0, 2.0), strict=True):
        torch.testing.assert_close(view.parameters, rows[client])
        torch.testing.assert_close(view.own[0], rows[0] - rows[client])
        assert view.leverage == pytest.approx((1 / 3,))
        expected = rows[client] + (rows[neighbor] - rows[client] + sent) / 3
        torch.testing.assert_close(step.models[client], expected)
    for client in (0, 2, 3):  # nobody lies to these
        torch.testing.assert_close(step.models[client], rows[[client - 1, client, (client + 1) % 5]].mean(0))
    assert step.report["largest weight of Byzantine neighbors"] == pytest.approx(1 / 3)
    assert step.report["mean weight of Byzantine neighbors"] == pytest.approx(1 / 6)
    assert sum(step.influence) == pytest.approx(1)
    assert step.influence[0] == pytest.approx(1 / 6)


def test_an_attacker_that_knows_its_own_sees_no_neighbor() -> None:
    attack = Notes("own")
    neighborhoods(Graph("complete"), 4, attack=attack)(models(4), frozenset({0, 1}), 1)
    assert [tuple(view.honest.shape) for view in attack.views] == [(0, 6)] * 2
    assert [(view.num_clients, view.num_byzantine) for view in attack.views] == [(4, 2)] * 2


def test_sign_flip_and_alie_act_on_differences() -> None:
    rows = models(6)
    flipped = neighborhoods(Graph("complete"), 6, attack=SignFlip())(rows, frozenset({5}), 1)
    expected = rows[0] + (rows[:5] - rows[0]).sum(0) / 6 - (rows[5] - rows[0]) / 6
    torch.testing.assert_close(flipped.models[0], expected)
    little = neighborhoods(Graph("complete"), 6, attack=ALIE(z=1.0))(rows, frozenset({5}), 1)
    sent = rows[:5].mean(0) - rows[:5].std(0, correction=0)  # the same for all, as differences do not matter
    close = torch.minimum(
        (little.models[0] - (rows[:5].sum(0) + sent) / 6).abs().max(),
        (little.models[0] - (rows[:5].sum(0) + rows[:5].mean(0) - rows[:5].std(0)) / 6).abs().max(),
    )
    assert float(close) < 1e-5


def test_inner_products_that_cancel_the_neighbors_keep_clients_apart() -> None:
    rows = models(6)
    dissensus = neighborhoods(Graph("complete"), 6, attack=IPM(epsilon=5.0))  # (n - m) / m: nothing is left
    step = dissensus(rows, frozenset({5}), 1)
    torch.testing.assert_close(step.models[:5], rows[:5], rtol=1e-5, atol=1e-5)
    robust = neighborhoods(Graph("complete"), 6, TrimmedMean(num_trimmed_per_side=1), IPM(epsilon=5.0))
    moved = robust(rows, frozenset({5}), 1).models[:5]

    def apart(some: Tensor) -> float:
        return float((some - some.mean(0)).norm())

    assert apart(moved) < 0.7 * apart(rows[:5])


def near(own: Tensor, received: Tensor, count: int) -> Tensor:
    """NNA: the mean of the models nearest to one's own, itself included."""
    distances = (received - own).norm(dim=1)
    return received[distances.argsort()[:count]].mean(0)


def test_rules_work_on_neighborhoods() -> None:
    rows = models(5)
    around = [[client - 1, client, (client + 1) % 5] for client in range(5)]
    median = neighborhoods(Graph("ring"), 5, Median())(rows, frozenset(), 1)
    averaged = neighborhoods(Graph("ring"), 5, MoNNA(num_byzantine=1))(rows, frozenset(), 1)
    clipped = neighborhoods(Graph("ring"), 5, ClippedGossip(1))(rows, frozenset(), 1)
    for client, places in enumerate(around):
        torch.testing.assert_close(median.models[client], rows[places].median(0).values, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(averaged.models[client], near(rows[client], rows[places], 2), rtol=1e-4, atol=1e-5)
        lengths = (rows[places] - rows[client]).norm(dim=1)
        tau = lengths.sort().values[1]  # sqrt(1/3 (0 + d1^2) / (1/3)): the nearer neighbor's distance
        factors = (tau / lengths).clamp(max=1).nan_to_num(1.0)
        expected = rows[client] + (factors[:, None] * (rows[places] - rows[client])).mean(0)
        torch.testing.assert_close(clipped.models[client], expected, rtol=1e-4, atol=1e-5)


def test_what_is_not_finite_loses_its_weight_and_is_counted() -> None:
    rows = models(5)
    step = neighborhoods(Graph("ring"), 5, attack=NaN())(rows, frozenset({0}), 1)
    assert step.rejected == {0}
    torch.testing.assert_close(step.models[1], rows[1:3].mean(0))
    assert step.influence[0] == 0
    with pytest.raises(AggregationError, match="round 1, neighbors of client 1"):
        neighborhoods(Graph("ring"), 5, TrimmedMean(num_trimmed_per_side=1), NaN())(rows, frozenset({0, 2}), 1)


def test_a_client_without_a_finite_model_stays_so_and_spoils_nobody() -> None:
    rows = models(5)
    rows[2] = torch.inf
    step = neighborhoods(Graph("ring"), 5)(rows, frozenset(), 1)
    assert step.models.isfinite().all(1).tolist() == [True, True, False, True, True]
    assert step.rejected == {2}
    torch.testing.assert_close(step.models[1], rows[:2].mean(0))


def test_attackers_that_cut_the_graph_are_told_of() -> None:
    step = neighborhoods(Graph("ring"), 6, attack=SignFlip())(models(6), frozenset({0, 3}), 1)
    assert step.report["remark"] == "the attackers cut the honest clients' graph into 2 parts"
    assert num_parts(np.eye(3, dtype=bool)) == 3


def test_a_rule_needs_neighbors_enough() -> None:
    star = Graph("edges", edges=[[0, 1], [0, 2], [0, 3]])
    with pytest.raises(InputError, match="client 1 has 1 neighbor, 2 rows with its own: TrimmedMean"):
        neighborhoods(star, 4, TrimmedMean(num_trimmed_per_side=1))
