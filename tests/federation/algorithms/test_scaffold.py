"""SCAFFOLD against its Algorithm 1 written out in plain loops, client by client."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from fedsec.attacks import SignFlip
from fedsec.defense import Aggregator, Cohort
from fedsec.defenses import ClipUpdate, DpFedAvg, DpSgd, Mean, Median
from fedsec.engine import LocalTraining
from fedsec.errors import InputError
from fedsec.federation import FedAvg, Federation, Scaffold, Stragglers, Threat, private_run
from fedsec.federation.algorithms.local_steps import plan_client
from fedsec.federation.algorithms.update_algorithm import Exchange
from fedsec.federation.forgery import Forgery
from fedsec.seeds import Streams
from fedsec.threat import DefenseTrial, UpdatePoisoning

LOCAL = LocalTraining(epochs=2, batch_size=3, lr=0.3)
Build = Callable[..., Federation]


def by_hand(federation: Federation, gradient: Any, rounds: int) -> dict[str, Tensor]:
    """Algorithm 1 in float64; of the federation only its data, its clients of each round and their batches are used."""
    algorithm = federation.algorithm
    assert isinstance(algorithm, Scaffold)
    local, data = algorithm.local, federation.data
    x = federation.parameters.double()
    sizes = data.sizes(range(federation.num_clients)).astype(float)
    share = sizes / sizes.sum() if algorithm.weighting == "samples" else np.full(len(sizes), 1 / len(sizes))
    c, variates = torch.zeros_like(x), torch.zeros(len(sizes), len(x), dtype=torch.float64)
    for number in range(1, rounds + 1):
        clients = federation.sample(number)
        moves, changes = [], []
        for client in clients:
            plan, y = plan_client(data, client, local, number, federation.streams), x.clone()
            for examples, size in zip(plan.examples, plan.sizes, strict=True):
                y = y - local.lr * (gradient(federation, y, examples[:size]) - variates[client] + c)
            renewed = gradient(federation, x, data.clients[client])
            if algorithm.option == "II":
                renewed = variates[client] - c + (x - y) / (plan.steps * local.lr)
            moves.append(y - x)
            changes.append(renewed - variates[client])
        taking_part = share[clients].sum()
        x = x + algorithm.server_lr * sum(share[i] / taking_part * move for i, move in zip(clients, moves, strict=True))
        c = c + sum(share[i] * change for i, change in zip(clients, changes, strict=True))
        for client, change in zip(clients, changes, strict=True):
            variates[client] += change
    return {"parameters": x, "variate": c, "variates": variates}


@pytest.mark.parametrize("engine", ["vectorized", "loop"])
@pytest.mark.parametrize("weighting", ["uniform", "samples"])
@pytest.mark.parametrize("option", ["I", "II"])
def test_it_is_algorithm_1(build: Build, gradient: Any, option: Any, weighting: Any, engine: str) -> None:
    algorithm = Scaffold(weighting=weighting, server_lr=0.8, local=LOCAL, option=option)
    run = build(algorithm, engine=engine)
    expected = by_hand(run, gradient, 4)
    for _ in range(4):
        run.play()
    assert run.trainer.used.startswith(engine) or option == "I"
    for name, tensor in expected.items():
        torch.testing.assert_close(run.algorithm_state[name].double(), tensor, rtol=1e-4, atol=1e-5)


def test_its_first_round_is_federated_averaging(build: Build) -> None:
    first, averaged = build(Scaffold(local=LOCAL)), build(FedAvg(local=LOCAL))
    for run in (first, averaged):
        run.play()
    assert torch.equal(first.parameters, averaged.parameters)
    first.play(), averaged.play()
    assert not torch.allclose(first.parameters, averaged.parameters, atol=1e-4)


def test_the_servers_variate_is_the_mean_of_the_clients(build: Build) -> None:
    run = build(Scaffold(local=LOCAL))
    for _ in run.run():
        sizes = torch.from_numpy(run.data.sizes(range(4))).float()
        mean = (sizes / sizes.sum()) @ run.algorithm_state["variates"]
        torch.testing.assert_close(run.algorithm_state["variate"], mean, rtol=1e-4, atol=1e-6)


def test_a_kept_run_goes_on_to_the_bit(build: Build) -> None:
    whole, first, second = (build(Scaffold(local=LOCAL)) for _ in range(3))
    for _ in range(5):
        whole.play()
    for _ in range(2):
        first.play()
    state = first.state()
    kept = {name: tensor.clone() for name, tensor in state.items()}
    first.play()
    second.restore(state, 2)
    for _ in range(3):
        second.play()
    assert {"algorithm.variate", "algorithm.variates"} <= state.keys()
    assert all(torch.equal(tensor, kept[name]) for name, tensor in state.items())  # neither run writes into it
    for name, tensor in whole.state().items():
        assert torch.equal(tensor, second.state()[name]), name


def test_both_vectors_are_sent_and_received(build: Build) -> None:
    plain, controlled = build(FedAvg(local=LOCAL)).play().cost, build(Scaffold(local=LOCAL)).play().cost
    assert plain is not None
    assert controlled is not None
    assert controlled.upload_bytes == 2 * plain.upload_bytes
    assert controlled.download_bytes == 2 * plain.download_bytes
    assert controlled.flops == plain.flops
    more = build(Scaffold(local=LOCAL, option="I")).play().cost
    assert more is not None
    assert more.flops == plain.flops * 1.5  # a third pass over the examples


def test_byzantine_clients_forge_both_vectors_and_rules_see_each_by_itself(build: Build) -> None:
    threat = Threat(frozenset({1}), SignFlip(scale=1000.0))
    run, alone = (build(Scaffold(local=LOCAL), clients_per_round=4, aggregator=rule()) for rule in (Median, Mean))
    attacked = build(Scaffold(local=LOCAL), clients_per_round=4, aggregator=Mean(), threat=threat)
    defended = build(Scaffold(local=LOCAL), clients_per_round=4, aggregator=Median(), threat=threat)
    for federation in (run, alone, attacked, defended):
        federation.play()
    change = alone.algorithm_state["variates"]  # zero before, so what changed is what they are
    for name, honest in (("variate", change), ("parameters", None)):
        assert attacked.algorithm_state[name].norm() > 20 * alone.algorithm_state[name].norm()
        assert defended.algorithm_state[name].norm() < 3 * alone.algorithm_state[name].norm()
        if honest is not None:
            assert torch.equal(run.algorithm_state[name], Median()(honest))


class Echo(Aggregator):
    """The mean of this round and that of the round before."""

    def __init__(self, size: int) -> None:
        self.last = torch.zeros(size)

    def max_rejected(self, num_clients: int) -> int:
        return 0

    def combine(self, cohort: Cohort) -> Tensor:
        mean, before = cohort.updates.mean(0), self.last
        self.last = mean
        return mean + before

    def shares(self, cohort: Cohort) -> Tensor:
        return torch.full((cohort.num_rows,), 1 / cohort.num_rows)

    def state(self) -> dict[str, Tensor]:
        return {"last": self.last}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.last = state["last"]


def test_a_rule_that_remembers_does_not_mix_the_two_vectors_up(build: Build) -> None:
    def remembering() -> Federation:
        return build(Scaffold(local=LOCAL, weighting="uniform"), clients_per_round=4, aggregator=Echo(15))

    run, resumed = remembering(), remembering()
    run.play()
    first = run.algorithm_state["variates"].mean(0)
    resumed.restore(run.state(), 1)
    run.play(), resumed.play()
    both = run.algorithm_state["variates"].mean(0)
    torch.testing.assert_close(run.algorithm_state["variate"], first + both)
    for name, tensor in run.state().items():
        assert torch.equal(tensor, resumed.state()[name]), name


class Breaking(UpdatePoisoning):
    """Sends numbers in the update and none in the variate, which another attack of its kind forges."""

    knowledge = "own"
    forgers: ClassVar[list[int]] = []

    def forge(self, view: Any) -> Tensor:
        self.forgers.append(id(self))
        return view.own if len(self.forgers) % 2 else torch.full_like(view.own, torch.nan)


class Drawing(UpdatePoisoning):
    """Sends random numbers."""

    knowledge = "own"

    def forge(self, view: Any) -> Tensor:
        return torch.randn(view.own.shape, generator=view.generator)


def no_trial(name: str, places: Any, generator: torch.Generator) -> DefenseTrial:
    raise AssertionError("this attack tries no defense")


def test_attackers_draw_anew_for_each_vector() -> None:
    rows, parameters = torch.zeros(3, 5), torch.zeros(5)
    forgery = Forgery(Drawing(), ("update", "variate"), Streams(0), lambda clients, number: ())
    rest = [4, 5, 6], [1], parameters, 1, no_trial, [1 / 3] * 3
    received = forgery({"update": rows, "variate": rows}, *rest)
    assert not torch.equal(received["update"][1], received["variate"][1])
    alone = Forgery(Drawing(), ("update",), Streams(0), lambda clients, number: ())
    assert torch.equal(received["update"], alone({"update": rows}, *rest)["update"])


class Rehearsing(UpdatePoisoning):
    """Tries what it sends on the server's defense, and looks up in the next round what the server made of it."""

    knowledge = "omniscient"
    knows_defense = True
    needs_last_aggregate = True

    def __init__(self) -> None:
        self.expected: list[Tensor] = []
        self.real: list[Tensor] = []

    def forge(self, view: Any) -> Tensor:
        if view.last_aggregate is not None:
            self.real.append(view.last_aggregate)
        rows = -3 * view.own
        self.expected.append(view.defense(torch.cat([view.honest, rows])))
        return rows


class Sluggish(Aggregator):
    """Half of the weighted mean and half of its own last result."""

    uses_weights = True
    last: Tensor | None = None

    def max_rejected(self, num_clients: int) -> int:
        return 0

    def shares(self, cohort: Cohort) -> Tensor:
        return torch.tensor(cohort.weights)

    def combine(self, cohort: Cohort) -> Tensor:
        mean = torch.tensor(cohort.weights) @ cohort.updates
        return mean if self.last is None else (mean + self.last) / 2

    def remember(self, cohort: Cohort, vector: Tensor) -> None:
        self.last = vector.clone()

    def state(self) -> dict[str, Tensor]:
        return {} if self.last is None else {"last": self.last}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.last = state.get("last")


def test_who_knows_the_defense_knows_that_of_each_vector(build: Build) -> None:
    """Its own rule with its own memory, and the clients' weights."""
    algorithm, threat = Scaffold(weighting="samples", local=LOCAL), Threat(frozenset({1}), Rehearsing())
    run = build(algorithm, aggregator=Sluggish(), clients_per_round=4, threat=threat)
    for _ in range(4):
        run.play()
    for attack in run.forgery._attacks.values():
        assert isinstance(attack, Rehearsing)
        assert len(attack.real) == 3
        for expected, real in zip(attack.expected, attack.real, strict=False):
            assert torch.equal(expected, real)


def test_who_sends_one_vector_that_is_not_finite_is_not_heard_at_all(build: Build) -> None:
    Breaking.forgers.clear()
    run = build(Scaffold(local=LOCAL), clients_per_round=4, threat=Threat(frozenset({3}), Breaking()))
    result = run.play()
    assert len(set(Breaking.forgers)) == 2
    assert result.rejected == (3,)
    assert result.influence[3] == 0
    sizes = torch.from_numpy(run.data.sizes(range(4))).float()
    heard = (sizes / sizes.sum())[:3] @ run.algorithm_state["variates"][:3]
    torch.testing.assert_close(run.algorithm_state["variate"], heard, rtol=1e-4, atol=1e-6)


def test_who_trained_to_numbers_that_are_not_finite_keeps_its_variate(build: Build) -> None:
    run = build(Scaffold(local=LOCAL))
    trained = run.train(run.start([1, 3]), [1, 3], 1)
    expected = trained.further["variate"][1].clone()
    trained.further["variate"][0, 2] = torch.nan
    zero = torch.zeros_like(run.parameters)
    exchange = Exchange([1, 3], trained, 1.0, torch.tensor([0.2, 0.3]))
    state = run.algorithm.apply(run.algorithm_state, exchange, {"update": zero, "variate": zero})
    assert torch.equal(state["variates"], torch.stack([zero, zero, zero, expected]))


def test_slow_clients_divide_by_their_own_steps(build: Build) -> None:
    run = build(Scaffold(local=LOCAL, stragglers=Stragglers(0.5, "partial")), clients_per_round=4)
    trained = run.train(run.start(range(4)), range(4), 1)
    steps = [int(examples) // 3 + bool(examples % 3) for examples in trained.examples]
    assert len(set(trained.examples.tolist()) - {16, 8, 12, 20}) > 0
    for client in range(4):
        if trained.examples[client] in (16, 8, 12, 20):
            continue
        expected = -trained.updates[client] / (steps[client] * LOCAL.lr)
        torch.testing.assert_close(trained.further["variate"][client], expected)


def test_private_steps_are_corrected_after_the_noise(build: Build) -> None:
    algorithm, privacy = private_run(DpSgd(1.0), Scaffold(local=LOCAL), (8, 4, 6, 10), 5)
    run = build(algorithm, privacy)
    results = list(run.run())
    assert all(result.epsilon is not None for result in results)
    assert bool(run.algorithm_state["variates"].any())
    with pytest.raises(InputError, match="option I sends gradients without noise; expected option II"):
        private_run(DpSgd(1.0), Scaffold(local=LOCAL, option="I"), (8, 4, 6, 10), 5)


def test_memories_that_do_not_fit_are_refused_before_the_run(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedsec.federation.algorithms.update_algorithm.free_bytes", lambda device: 4 * 4 * 15 - 1)
    with pytest.raises(InputError, match=r"4 clients, a vector of 15 parameters each, take .* B, and 239 B are free"):
        build(Scaffold(local=LOCAL))
    build(FedAvg(local=LOCAL))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"transforms": [ClipUpdate(1.0)]}, "send their variate beside the update, which ClipUpdate would not cover"),
        ({"aggregator": DpFedAvg(noise_multiplier=1.0), "clients_per_round": 4}, "no account of user-level privacy"),
    ],
)
def test_what_its_second_vector_would_void_is_refused(build: Build, more: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(Scaffold(local=LOCAL), **more)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"option": "III"}, "option must be I or II, got 'III'"),
        ({"local": LocalTraining(steps=1, batch_size=1, optimizer="adam")}, "expected local optimizer sgd, got adam"),
        ({"local": LocalTraining(steps=1, batch_size=1, momentum=0.9)}, "expected local momentum 0 or option I"),
    ],
)
def test_bad_settings_say_what_was_expected(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Scaffold(**settings)
