"""Exchanges at random times against plain loops, and the momentum against its differential equation."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import expm
from torch import Tensor

from fedsec.attacks import Gaussian, SignFlip
from fedsec.defenses import Median
from fedsec.engine import LocalTraining
from fedsec.errors import InputError
from fedsec.federation import Decentralized, Graph, Threat
from fedsec.federation.gossip.exchanges import Event, Exchanges, events_of, momentum_of, rates_of
from fedsec.seeds import Streams
from tests.federation.gossip.conftest import LOCAL
from tests.federation.gossip.test_gossip_rounds import trained

Build = Callable[..., Any]
STILL = LocalTraining(steps=1, batch_size=3, lr=1e-9)
RING = ~np.eye(6, dtype=bool) & (np.abs(np.subtract.outer(range(6), range(6))) % 4 == 1)


def scripted(monkeypatch: pytest.MonkeyPatch, *events: Event) -> None:
    monkeypatch.setattr("fedsec.federation.gossip.asynchronous.events_of", lambda *_: list(events))


@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_two_clients_and_two_rounds_by_hand(build: Build, monkeypatch: pytest.MonkeyPatch, eta: float) -> None:
    """One trains, both exchange, the other trains; between events x and x~ flow together by a matrix exponential."""
    scripted(monkeypatch, Event(0.25, 0, -1, 0), Event(0.5, 0, 1, 0), Event(0.75, 1, -1, 0))
    run = build(Graph(), 2, pairwise=Exchanges(rate=1.0, eta=eta))
    # Of one edge at rate 1: L = [[1, -1], [-1, 1]], chi_1 = 1/2, resistance 1, chi_2 = 1/2.
    assert momentum_of(rates_of(~np.eye(2, dtype=bool), 1.0)) == pytest.approx((1.0, 0.5))
    run.clock.alpha = 0.8  # another than x's, so that a mistake shows
    flow = torch.from_numpy(expm(0.25 * eta * np.array([[-1.0, 1.0], [1.0, -1.0]])))
    one = two = torch.stack([run.models[0].double()] * 2)  # rows x and x~
    for number in (1, 2):
        run.play()
        one, two = flow @ one, flow @ two
        one = one + (trained(run, 0, number, one[0]) - one[0])
        one, two = flow @ one, flow @ two
        apart, factors = two[0] - one[0], torch.tensor([[0.5], [0.8]], dtype=torch.float64)
        one, two = one + factors * apart, two - factors * apart
        one, two = flow @ one, flow @ two
        two = two + (trained(run, 1, number, two[0]) - two[0])
        one, two = flow @ one, flow @ two
        torch.testing.assert_close(run.models.double(), torch.stack([one[0], two[0]]), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(run.momentum.double(), torch.stack([one[1], two[1]]), rtol=1e-5, atol=1e-6)


def test_constants_of_a_ring_are_those_of_its_closed_form() -> None:
    """At rate r a ring of n: each edge r/2, lambda_2 = r (1 - cos(2 pi / n)), resistance (2 / r) (n - 1) / n."""
    n, r = 6, 1.5
    rates = rates_of(RING | RING.T, r)
    assert rates.sum(1) == pytest.approx([r] * n)
    chi_1, chi_2 = 1 / (r * (1 - np.cos(2 * np.pi / n))), (n - 1) / n / r
    assert momentum_of(rates) == pytest.approx((0.5 / np.sqrt(chi_1 * chi_2), 0.5 * np.sqrt(chi_1 / chi_2)))


def test_events_are_as_many_as_their_rates_say() -> None:
    rates = rates_of(RING | RING.T, 2.0)
    rounds = [events_of(rates, number, Streams(1)) for number in range(1, 301)]
    assert all(0 <= event.time < 1 for events in rounds for event in events)
    assert all([event.time for event in events] == sorted(event.time for event in events) for events in rounds)
    trainings = sum(event.other < 0 for events in rounds for event in events)
    exchanges = sum(event.other >= 0 for events in rounds for event in events)
    assert trainings == pytest.approx(6 * 300, abs=4 * (6 * 300) ** 0.5)
    assert exchanges == pytest.approx(6 * 300, abs=4 * (6 * 300) ** 0.5)  # each is one of both its clients


def test_momentum_brings_a_ring_together_sooner_by_the_same_exchanges(build: Build) -> None:
    distances = []
    for eta in (0.0, None):
        run = build(Graph("ring"), 16, pairwise=Exchanges(eta=eta), rounds=40, local=STILL)
        generator = torch.Generator().manual_seed(1)
        run.models = torch.randn(run.models.shape, generator=generator)
        run.momentum, mean = run.models.clone(), run.models.double().mean(0)
        for _ in range(40):
            result = run.play()
        distances.append(run.consensus_distance())
        both = (run.models.double().mean(0) + run.momentum.double().mean(0)) / 2
        torch.testing.assert_close(both, mean, rtol=0, atol=1e-5)
        assert sum(result.influence) == pytest.approx(1)
    assert distances[1] < distances[0] / 2


def test_it_goes_on_from_a_kept_state_to_the_bit(build: Build) -> None:
    threat = Threat(frozenset({1}), SignFlip())
    whole, first, second = (build(Graph("ring"), 5, pairwise=Exchanges(), threat=threat) for _ in range(3))
    for _ in range(4):
        whole.play()
    for _ in range(2):
        first.play()
    second.restore({name: tensor.clone() for name, tensor in first.state().items()}, 2)
    for _ in range(2):
        second.play()
    assert torch.equal(whole.models, second.models)
    assert torch.equal(whole.momentum, second.momentum)


def test_a_byzantine_neighbor_sends_what_it_likes(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, Event(0.5, 0, 1, 0))
    run = build(Graph(), 3, pairwise=Exchanges(eta=0.0), threat=Threat(frozenset({1}), SignFlip(3.0)))
    run.models = torch.stack([run.models[0], run.models[0] + 1, run.models[0]])
    before = run.models.clone()
    result = run.play()
    torch.testing.assert_close(run.models[0], before[0] - 1.5)  # half of minus three times the difference
    torch.testing.assert_close(run.models[1], before[1] - 0.5)  # the attacker averages what it received
    assert result.cost.upload_bytes == pytest.approx(2 / 3 * 15 * 4)
    assert result.influence == pytest.approx((0.25, 0.25, 0.5))  # of honest clients: a half each in 0, and 2 is alone


def test_influence_is_handed_on(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, Event(0.2, 0, 1, 0), Event(0.4, 1, 2, 0), Event(0.6, 2, 3, 0))
    run = build(Graph(), 4, pairwise=Exchanges(eta=0.0))
    run.models = torch.eye(4, 15)  # so that models tell themselves of whom they are
    assert run.play().influence == pytest.approx(run.models.mean(0)[:4].tolist())
    honest = build(Graph(), 4, pairwise=Exchanges(eta=0.0), threat=Threat(frozenset({1}), SignFlip()))
    assert honest.play().influence == pytest.approx((1 / 6, 1 / 3, 1 / 6, 1 / 3))


def test_whoever_sends_what_is_not_finite_is_blamed_and_nobody_else(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, Event(0.5, 0, 1, 0))
    run = build(Graph(), 3, pairwise=Exchanges(eta=0.0), threat=Threat(frozenset({1}), SignFlip()))
    run.models[1] = torch.nan
    before = run.models[0].clone()
    assert run.play().rejected == (1,)
    assert torch.equal(run.models[0], before)


def test_a_client_that_trains_twice_takes_other_batches_from_its_own_statistics(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, Event(0.2, 0, -1, 0), Event(0.4, 0, -1, 1))
    run, calls = build(Graph(), 2, pairwise=Exchanges(eta=0.0)), []
    run.statistics = torch.zeros(2, 1)
    train = run.trainer.train

    def counted(start: Any, plans: Any, local: Any) -> Any:
        calls.append((start.statistics.tolist(), plans[0].examples.tolist()))
        result = train(replace(start, statistics=start.statistics[:0]), plans, local)
        return replace(result, statistics=start.statistics[None] + 1)

    monkeypatch.setattr(run.trainer, "train", counted)
    monkeypatch.setattr(run, "load", lambda _: None)  # the model has none
    result = run.play()
    assert [statistics for statistics, _ in calls] == [[0.0], [1.0]]
    assert calls[0][1] != calls[1][1]
    assert run.statistics.tolist() == [[2.0], [0.0]]
    examples = 2 * LOCAL.epochs * 4 / 2  # of two clients one trains twice, on four images
    assert result.cost.flops == pytest.approx(examples * run._costs.training_flops)


def test_an_attacker_forges_anew_at_each_exchange(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, Event(0.2, 0, 1, 0), Event(0.4, 0, 1, 1))
    run, rows = build(Graph(), 2, pairwise=Exchanges(eta=0.0), threat=Threat(frozenset({1}), Gaussian())), []
    forged = run.neighborhoods.of_one

    def kept(pair: tuple[int, int], *rest: Any) -> Tensor:
        row: Tensor = forged(pair, *rest)
        rows.extend([row] if pair[0] == 0 else [])
        return row

    monkeypatch.setattr(run.neighborhoods, "of_one", kept)
    run.play()
    assert not torch.allclose(rows[0], rows[1])


def test_what_does_not_go_with_it_is_refused(build: Build) -> None:
    with pytest.raises(InputError, match="by which no rule can tell who is Byzantine; expected mean"):
        build(Graph(), 3, pairwise=Exchanges(), rule=Median())
    with pytest.raises(InputError, match="two neighbors count alike"):
        Decentralized(graph=Graph("complete", mixing="uniform"), pairwise=Exchanges())
    for options, message in (({"rate": 0.0}, "rate must be positive"), ({"eta": -1.0}, "eta must be finite")):
        with pytest.raises(InputError, match=message):
            Exchanges(**options)
