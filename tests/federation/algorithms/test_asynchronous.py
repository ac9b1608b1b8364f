"""Buffered asynchronous aggregation, beside plain Python; the clock alone, beside a slow one."""

from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fedsec.attacks import SignFlip
from fedsec.defenses import DpFedAvg, Mean, Median
from fedsec.engine.local_training import LocalTraining
from fedsec.errors import InputError
from fedsec.federation import FedAvg, Federation, Threat
from fedsec.federation.algorithms import Asynchronous
from fedsec.federation.algorithms.asynchronous.arrivals import Arrivals
from fedsec.federation.selection import PowerLaw
from fedsec.seeds import Streams

ONE_STEP = LocalTraining(steps=1, batch_fraction=1.0, lr=0.5)
Build = Callable[..., Federation]
Gradient = Callable[[Federation, Tensor, np.ndarray], Tensor]


def test_all_in_a_buffer_of_all_are_fedavg_to_the_bit(build: Build) -> None:
    for durations in ("constant", "half_normal"):
        synchronous, buffered = (
            build(algorithm, clients_per_round=None) for algorithm in (FedAvg(), Asynchronous(durations=durations))
        )
        for expected, result in zip(synchronous.run(), buffered.run(), strict=True):
            assert result.clients == expected.clients
            assert result.influence == expected.influence
        assert torch.equal(buffered.parameters, synchronous.parameters)


def test_two_rounds_of_two_clients_by_hand(build: Build, gradient: Gradient) -> None:
    """Each update from the model that its client received, weighted by examples and by 1 / sqrt(1 + tau)."""
    federation = build(Asynchronous(local=ONE_STEP, concurrency=3, server_lr=0.7), rounds=6)
    arrivals = Arrivals(4, 2, 3, Streams(3))
    models = [federation.parameters.double()]
    stale = 0
    for number in range(1, 7):
        flights = arrivals.step(number).flights
        sizes = np.array([len(federation.data.clients[flight.client]) for flight in flights], float)
        step = torch.zeros_like(models[0])
        for flight, share in zip(flights, sizes / sizes.sum(), strict=True):
            moved = -0.5 * gradient(federation, models[flight.version], federation.data.clients[flight.client])
            age = number - 1 - flight.version
            stale += age > 0
            step += share / np.sqrt(1 + age) * moved
        models.append(models[-1] + 0.7 * step)
        result = federation.play()
        assert result.clients == tuple(flight.client for flight in flights)
        assert result.time == arrivals.step(number).time
        torch.testing.assert_close(federation.parameters.double(), models[-1], rtol=1e-4, atol=1e-5)
    assert stale


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"staleness": "constant"}, [1.0, 1.0, 1.0]),
        ({}, [1.0, 2**-0.5, 3**-0.5]),
        ({"staleness": "hinge", "grace": 1, "decay": 2.0}, [1.0, 1.0, 1 / 3]),
    ],
)
def test_weights_of_old_updates(options: dict[str, Any], expected: list[float]) -> None:
    algorithm = Asynchronous(concurrency=4, **options).running(9, 2, Streams(1), Threat())
    seen = {}
    for number in range(1, 200):
        flights = algorithm.arrivals.step(number).flights
        for flight, weight in zip(flights, algorithm.discounts([f.client for f in flights], number), strict=True):
            seen[number - 1 - flight.version] = weight.item()
    assert [seen[age] for age in range(3)] == pytest.approx(expected)


def test_the_clock_is_that_of_a_slow_simulation() -> None:
    """Second by second of a fixed order of asking, with durations that differ from client to client."""
    arrivals = Arrivals(6, 2, 3, Streams(5), spread=0.8)
    durations = np.exp(0.8 * Streams(5).numpy("async", "speeds").standard_normal(6))
    who = Streams(5).numpy("async", "clients")
    now, version, waiting, flying = 0.0, 0, [], {}

    def ask() -> None:
        idle = [client for client in range(6) if client not in flying and client not in dict(waiting)]
        while len(flying) < 3 and idle:
            client = idle.pop(int(who.integers(len(idle))))
            flying[client] = (now + durations[client], version)

    ask()
    for number in range(1, 30):
        for _ in count():
            client = min(flying, key=lambda one: (flying[one][0], one))
            now, received = flying.pop(client)
            waiting.append((client, received))
            if len(waiting) == 2:
                break
            ask()
        step = arrivals.step(number)
        assert [(flight.client, flight.version) for flight in step.flights] == sorted(waiting)
        assert step.time == now
        waiting, version = [], version + 1
        ask()


def test_slots_are_never_shared() -> None:
    arrivals = Arrivals(9, 3, 4, Streams(2))
    taken: dict[int, Any] = {}
    for number in range(1, 60):
        for flight in arrivals.begun(number - 1):
            assert flight.slot not in taken
            taken[flight.slot] = flight
        for flight in arrivals.step(number).flights:
            assert taken.pop(flight.slot) == flight
    assert arrivals.slots == 6


def test_waiting_for_everybody_is_a_synchronous_federation_with_a_clock(build: Build) -> None:
    federation = build(Asynchronous(concurrency=2, refill="each_step"))
    times = [result.time for result in federation.run()]
    assert times == sorted(times)
    assert all(flight.version == n for n in range(5) for flight in federation.algorithm.arrivals.step(n + 1).flights)


def test_fast_attackers_fill_the_buffer(build: Build) -> None:
    def rounds(speed: float) -> int:
        threat = Threat(frozenset({0}), SignFlip(), speed=speed)
        federation = build(Asynchronous(concurrency=3, durations="half_normal"), threat=threat, rounds=20)
        return sum(len(result.byzantine) for result in federation.run())

    assert rounds(100.0) > rounds(1.0)


def test_an_interrupted_run_ends_with_the_same_bits(build: Build) -> None:
    def made() -> Federation:
        threat = Threat(frozenset({1}), SignFlip())
        return build(Asynchronous(concurrency=3), aggregator=Median(), threat=threat, clients_per_round=3)

    whole, begun, resumed = made(), made(), made()
    list(whole.run())
    for _ in range(3):
        begun.play()
    resumed.restore(begun.state(), 3)
    assert [result.round for result in resumed.run()] == [4, 5]
    assert torch.equal(resumed.parameters, whole.parameters)


def test_both_engines_agree(build: Build) -> None:
    loop, vectorized = (build(Asynchronous(concurrency=3), engine=name) for name in ("loop", "vectorized"))
    list(loop.run())
    list(vectorized.run())
    torch.testing.assert_close(loop.parameters, vectorized.parameters, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weighting": "population"}, "samples or uniform"),
        ({"durations": "long"}, "durations must be one of constant, lognormal, half_normal"),
        ({"staleness": "old"}, "staleness must be one of"),
        ({"concurrency": 0}, "concurrency must be at least 1"),
        ({"spread": -1.0}, "spread must be at least 0"),
        ({"local": LocalTraining(worker_momentum=0.5, epochs=1, batch_size=4)}, "does not see every client in turn"),
    ],
)
def test_bad_settings_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Asynchronous(**options)


@pytest.mark.parametrize(
    ("options", "more", "message"),
    [
        ({"concurrency": 5}, {}, "expected at most all 4 clients, got 5"),
        ({"concurrency": 1, "refill": "each_step"}, {}, "1 clients never fill a buffer of 2"),
        ({}, {"selection": PowerLaw()}, "expected no draws"),
        ({}, {"sampling": "poisson"}, "expected no draws"),
        ({}, {"aggregator": DpFedAvg(noise_multiplier=1.0), "clients_per_round": None}, "no account of user-level"),
    ],
)
def test_what_does_not_go_with_it_is_refused(options: Any, more: Any, message: str, build: Build) -> None:
    with pytest.raises(InputError, match=message):
        build(Asynchronous(**options), **{"aggregator": Mean(), **more})
