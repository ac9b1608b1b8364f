"""Clients that refuse what they receive: they are left out, the round goes on, and nothing else changes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from fedsec.attacks import SignFlip
from fedsec.defense import Inspection, ModelInspector, ReceivedModel
from fedsec.defenses import DpSgd, InspectModel
from fedsec.engine import LocalTraining
from fedsec.errors import InputError
from fedsec.federation import FedAvg, Federation, Threat, private_run

Build = Callable[..., Federation]


class Refusing(ModelInspector):
    """Refuses by a rule of the test, and notes what it was shown."""

    def __init__(self, refuses: Callable[[int], bool], examples: int = 3) -> None:
        self.refuses, self.examples, self.shown = refuses, examples, list[ReceivedModel]()

    def examine(self, received: ReceivedModel) -> Inspection:
        self.shown.append(received)
        reasons = ("it looks odd",) if self.refuses(len(self.shown)) else ()
        return Inspection(reasons, {"move": float(len(self.shown))})


def fedavg() -> FedAvg:
    return FedAvg(local=LocalTraining(steps=2, batch_size=3, lr=0.1))


def test_inspections_change_nothing_where_nobody_refuses(build: Build) -> None:
    plain = build(fedavg(), clients_per_round=3)
    inspected = build(fedavg(), inspector=InspectModel(), clients_per_round=3)
    for one, other in zip(plain.run(), inspected.run(), strict=True):
        assert one.clients == other.clients
        assert one.metrics == other.metrics
        assert (one.refused, other.refused) == (None, {})
    assert torch.equal(plain.parameters, inspected.parameters)
    assert plain.state().keys() < inspected.state().keys()


def test_who_refuses_sends_nothing(build: Build) -> None:
    federation = build(fedavg(), inspector=Refusing(lambda call: call in (2, 4)), clients_per_round=4)
    received = []
    federation.observers.append(lambda number, clients, rows: received.append((list(clients), len(rows))))
    result = federation.play()
    assert result.refused == {1: "it looks odd", 3: "it looks odd"}
    assert result.clients == (0, 2)
    assert received == [([0, 2], 2)]
    assert len(result.influence) == 2


def test_a_round_in_which_all_refuse_is_idle(build: Build) -> None:
    federation = build(fedavg(), inspector=Refusing(lambda call: True), clients_per_round=4)
    before = federation.parameters.clone()
    result = federation.play()
    assert (result.clients, result.spent, len(result.refused or ())) == ((), (), 4)
    assert torch.equal(federation.parameters, before)


def test_byzantine_clients_do_not_ask(build: Build) -> None:
    inspector = Refusing(lambda call: True)
    threat = Threat(frozenset({1}), SignFlip())
    result = build(fedavg(), inspector=inspector, clients_per_round=4, threat=threat).play()
    assert result.clients == (1,)
    assert len(inspector.shown) == 3


def test_a_client_is_shown_its_own_examples_and_what_it_accepted_last(build: Build) -> None:
    inspector = Refusing(lambda call: call == 5)  # client 0 in the second round
    federation = build(fedavg(), inspector=inspector, clients_per_round=4)
    first = federation.parameters.clone()
    federation.play()
    second = federation.parameters.clone()
    federation.play()
    federation.play()
    assert [shown.previous is None for shown in inspector.shown[:8]] == [True] * 4 + [False] * 4
    for shown, row in ((inspector.shown[8], first), (inspector.shown[9], second)):
        assert shown.previous is not None
        torch.testing.assert_close(torch.cat([part.reshape(-1) for part in shown.previous.values()]), row)
    # Client 1 moved by 6 (what the second call said) in one round; client 0 refused, and nothing is usual for it yet.
    assert inspector.shown[9].usual_moves == (6.0,)
    assert inspector.shown[8].usual_moves == ()
    for client, shown in enumerate(inspector.shown[:4]):
        own = federation.data.batch(torch.from_numpy(federation.data.clients[client]))[0]
        assert shown.examples is not None
        assert len(shown.examples) == 3
        assert all(bool((image == own).flatten(1).all(1).any()) for image in shown.examples)


def test_a_model_beside_the_round_is_judged_by_what_was_known_before_it(build: Build) -> None:
    """Otherwise the honest model of the same round would be the one it is compared with."""
    inspector = Refusing(lambda call: False)
    federation = build(fedavg(), inspector=inspector, clients_per_round=4)
    federation.play()
    first = inspector.shown[0].model[1].weight.clone()
    federation.observers.append(lambda number, clients, rows: federation.inspections.inspect(0, federation.module, 2))
    federation.play()
    previous = inspector.shown[-1].previous
    assert previous is not None
    torch.testing.assert_close(previous["1.weight"], first)
    assert federation.state()["inspections.last"].tolist() == [2] * 4


def test_memory_goes_through_checkpoints(build: Build) -> None:
    settings: dict[str, Any] = {"clients_per_round": 2, "inspector": InspectModel(moved=1.0)}
    straight = build(fedavg(), **settings)
    results = list(straight.run())
    assert any(result.refused for result in results)  # so that the memory matters
    stopped = build(fedavg(), **settings)
    for _ in range(3):
        stopped.play()
    resumed = build(fedavg(), **settings)
    resumed.restore(stopped.state(), 3)
    assert [result.refused for result in resumed.run()] == [result.refused for result in results[3:]]
    assert torch.equal(resumed.parameters, straight.parameters)


def test_a_refusal_that_depends_on_examples_voids_epsilon(build: Build) -> None:
    algorithm, privacy = private_run(DpSgd(1.0), fedavg(), (8, 4, 6, 10), 5)
    with pytest.raises(InputError, match=r"that it refuses a model tells about them.*epsilon would be void"):
        build(algorithm, privacy, inspector=InspectModel())
    build(algorithm, privacy, inspector=InspectModel(d_snr=None, exposed=None)).play()


def test_who_was_away_expects_a_longer_move(build: Build) -> None:
    inspector = Refusing(lambda call: False)
    federation = build(fedavg(), inspector=inspector, clients_per_round=4)
    for _ in range(2):
        federation.play()
    federation.state()  # after a round it is remembered what was accepted in it
    for number in (3, 6):
        federation.inspections.inspect(0, federation.module, number)
    soon, late = (shown.usual_moves[0] for shown in inspector.shown[-2:])
    assert late == pytest.approx(4 * soon)
