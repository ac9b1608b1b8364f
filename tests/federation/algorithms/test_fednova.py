"""FedNova against its update rule written out client by client, with the vectors a_i of the paper."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedsec.attacks import SignFlip
from fedsec.defense import Cohort
from fedsec.defenses import DpFedAvg, DpSgd, Mean, Median
from fedsec.engine import LocalTraining
from fedsec.errors import InputError
from fedsec.federation import FedAvg, Federation, FedNova, FedProx, Stragglers, Threat, private_run
from fedsec.federation.algorithms.local_steps import plan_client
from fedsec.federation.algorithms.update_algorithm import Participants
from fedsec.federation.server_data import ServerData
from fedsec.threat import UpdatePoisoning

LOCAL = LocalTraining(epochs=2, batch_size=3, lr=0.3)
EQUAL = LocalTraining(steps=4, batch_size=2, lr=0.3)
Build = Callable[..., Federation]


def vector(steps: int, rho: float, lr_mu: float) -> NDArray[np.float64]:
    """a_i, as section 4 gives it for momentum and for a proximal term."""
    if lr_mu:
        assert not rho
        return np.array([(1 - lr_mu) ** (steps - 1 - k) for k in range(steps)])
    return np.array([sum(rho**j for j in range(steps - k)) for k in range(steps)])


def by_hand(federation: Federation, gradient: Any, rounds: int) -> Tensor:
    """x - tau_eff sum_i p_i lr d_i in float64, d_i being G_i a_i / ||a_i||_1, from gradients noted one by one."""
    algorithm = federation.algorithm
    assert isinstance(algorithm, FedNova)
    local, x = algorithm.local, federation.parameters.double()
    for number in range(1, rounds + 1):
        clients = federation.sample(number)
        p = federation.data.sizes(clients) / federation.data.sizes(clients).sum()
        directions, lengths = [], []
        for client in clients:
            plan, y, m = plan_client(federation.data, client, local, number, federation.streams), x.clone(), 0.0
            gradients = []
            for examples, size in zip(plan.examples, plan.sizes, strict=True):
                gradients.append(gradient(federation, y, examples[:size]))
                m = local.momentum * m + gradients[-1] + algorithm.mu * (y - x)
                y = y - local.lr * m
            a = vector(plan.steps, local.momentum, local.lr * algorithm.mu)
            directions.append(torch.stack(gradients, 1) @ torch.from_numpy(a) / a.sum())
            lengths.append(a.sum())
        effective = float(p @ np.array(lengths))
        x = x - effective * local.lr * sum(share * one for share, one in zip(p, directions, strict=True))
    return x


@pytest.mark.parametrize("engine", ["vectorized", "loop"])
@pytest.mark.parametrize(("momentum", "mu"), [(0.0, 0.0), (0.6, 0.0), (0.0, 0.8)])
def test_it_is_normalized_averaging(build: Build, gradient: Any, momentum: float, mu: float, engine: str) -> None:
    local = LocalTraining(epochs=2, batch_size=3, lr=0.3, momentum=momentum)
    run = build(FedNova(local=local, mu=mu), engine=engine)
    expected = by_hand(run, gradient, 3)
    for _ in range(3):
        run.play()
    torch.testing.assert_close(run.parameters.double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("rho", "mu", "closed"),
    [
        (0.0, 0.0, lambda t: t),
        (0.6, 0.0, lambda t: (t - 0.6 * (1 - 0.6**t) / 0.4) / 0.4),
        (0.0, 2.0, lambda t: (1 - (1 - 0.2) ** t) / 0.2),
    ],
)
def test_lengths_have_the_papers_closed_forms(rho: float, mu: float, closed: Callable[[int], float]) -> None:
    algorithm = FedNova(local=LocalTraining(steps=1, batch_size=1, lr=0.1, momentum=rho), mu=mu)
    for steps in (1, 2, 7):
        assert algorithm.unit(steps) == pytest.approx(closed(steps))


@pytest.mark.parametrize("momentum", [0.0, 0.6])
@pytest.mark.parametrize("mu", [0.0, 0.8])
@pytest.mark.parametrize("weighting", ["samples", "population"])
def test_equal_steps_are_fedavg_or_fedprox(build: Build, momentum: float, mu: float, weighting: Any) -> None:
    local = LocalTraining(steps=4, batch_size=2, lr=0.3, momentum=momentum)
    reference = FedProx(local=local, mu=mu, weighting=weighting) if mu else FedAvg(local=local, weighting=weighting)
    runs = build(reference), build(FedNova(local=local, mu=mu, weighting=weighting))
    for _ in range(3):
        for run in runs:
            run.play()
    torch.testing.assert_close(runs[0].parameters, runs[1].parameters, rtol=1e-5, atol=1e-6)


def test_unequal_steps_are_not(build: Build) -> None:
    averaged, normalized = (build(one(local=LOCAL), clients_per_round=4) for one in (FedAvg, FedNova))
    averaged.play(), normalized.play()
    assert not torch.allclose(averaged.parameters, normalized.parameters, atol=1e-3)


class Noting(Mean):
    """The mean, which notes what it is given."""

    rows: Tensor

    def combine(self, cohort: Cohort) -> Tensor:
        self.rows = cohort.updates.clone()
        return super().combine(cohort)


def test_rules_see_steps_and_servers_who_know_their_number_see_updates(build: Build) -> None:
    rule, observed = Noting(), list[Tensor]()
    run = build(FedNova(local=LOCAL), clients_per_round=4, aggregator=rule)
    run.observers.append(lambda number, clients, rows: observed.append(rows))
    trained = run.train(run.start(range(4)), range(4), 1)
    assert trained.units is not None
    assert trained.units.tolist() == [6, 4, 4, 8]
    run.play()
    torch.testing.assert_close(rule.rows, trained.updates / trained.units[:, None], rtol=0, atol=0)
    torch.testing.assert_close(observed[0], trained.updates)


def test_slow_clients_count_by_what_they_did(build: Build) -> None:
    run = build(FedNova(local=LOCAL, stragglers=Stragglers(0.5, "partial")), clients_per_round=4)
    trained = run.train(run.start(range(4)), range(4), 1)
    assert trained.units is not None
    assert (trained.units <= torch.tensor([6.0, 4.0, 4.0, 8.0])).all()
    assert trained.units.sum() < 22


def test_a_robust_rule_is_robust_to_a_forged_step(build: Build) -> None:
    threat, norms = Threat(frozenset({1}), SignFlip(scale=1e4)), []
    for rule, attack in ((Median(), None), (Median(), threat), (Mean(), threat)):
        run = build(FedNova(local=LOCAL), clients_per_round=4, aggregator=rule, threat=attack)
        before = run.parameters
        run.play()
        norms.append((run.parameters - before).norm())
    assert norms[1] < 3 * norms[0] < norms[2] / 100


class Same(UpdatePoisoning):
    """Trains as honest clients do, and sends that."""

    knowledge = "own"
    trains = True

    def forge(self, view: Any) -> Tensor:
        return torch.stack([machine.train() for machine in view.machines])


def test_attackers_that_train_divide_like_the_others(build: Build) -> None:
    threat = Threat(frozenset({3}), Same())
    honest, attacked = (build(FedNova(local=LOCAL), clients_per_round=4, threat=one) for one in (None, threat))
    honest.play(), attacked.play()
    torch.testing.assert_close(honest.parameters, attacked.parameters)


@pytest.mark.parametrize(
    ("local", "effective", "expected"),
    [
        (LOCAL, "mean", (8 * 6 + 40 * 40 + 6 * 4 + 10 * 8) / 64),  # a client of 4 examples says 40, and 40 steps
        (LOCAL, "median", 40.0),  # by weights of examples it has most of them
        (EQUAL, "mean", 4.0),  # as prescribed
    ],
)
def test_who_lies_about_steps_moves_everybody_unless_they_are_prescribed(
    build: Build, local: Any, effective: Any, expected: float
) -> None:
    threat = Threat(frozenset({1}), Same(), claimed_examples=10)
    run = build(FedNova(local=local, effective_steps=effective), clients_per_round=4, threat=threat)
    trained, before = run.train(run.start(range(4)), range(4), 1), run.parameters
    assert trained.units is not None
    mean = torch.tensor([8.0, 40.0, 6.0, 10.0]) / 64 @ (trained.updates / trained.units[:, None])
    run.play()
    torch.testing.assert_close(run.parameters - before, expected * mean, rtol=1e-4, atol=1e-6)


def test_a_median_of_claims_is_bounded_by_honest_ones(build: Build) -> None:
    threat = Threat(frozenset({1}), Same(), claimed_examples=1e6)
    algorithm = FedNova(local=LOCAL, effective_steps="median", weighting="uniform")
    lying, honest = (build(algorithm, clients_per_round=4, threat=one) for one in (threat, None))
    lying.play(), honest.play()
    moved = [(run.parameters - build(algorithm).parameters).norm() for run in (lying, honest)]
    assert moved[0] <= moved[1] * 6 / 4 + 1e-6  # 4, 4, 6 and 8 honestly; 4, 6, 8 and a lie


def test_the_servers_own_update_is_divided_too(build: Build) -> None:
    run = build(FedNova(local=LOCAL), clients_per_round=4)
    run.server_data = ServerData(run.trainer, run.algorithm, run.streams)
    trained = run.algorithm.work(run.algorithm_state, Participants([0], 1, run.data, run.server_data.streams)).perform(
        run.trainer, run.start([0]), [0]
    )
    update = run.server_data.update(run.algorithm_state, run.start([0]), 1)
    torch.testing.assert_close(update * 6, trained.updates[0])


def test_a_kept_run_goes_on_to_the_bit(build: Build) -> None:
    whole, first, second = (build(FedNova(local=LOCAL)) for _ in range(3))
    for _ in range(3):
        whole.play()
    first.play()
    second.restore(first.state(), 1)
    for _ in range(2):
        second.play()
    for name, tensor in whole.state().items():
        assert torch.equal(tensor, second.state()[name]), name


def test_private_steps_and_private_clients(build: Build) -> None:
    algorithm, privacy = private_run(DpSgd(1.0), FedNova(local=LOCAL), (8, 4, 6, 10), 5)
    assert all(result.epsilon is not None for result in build(algorithm, privacy).run())
    with pytest.raises(InputError, match=r"no account of user-level privacy .* the server of FedNova"):
        build(FedNova(local=LOCAL), aggregator=DpFedAvg(noise_multiplier=1.0), clients_per_round=4)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"mu": -1.0}, "mu must be finite in float32 and not negative, got -1.0"),
        ({"mu": 5.0, "local": LocalTraining(epochs=1, batch_size=2, lr=0.2)}, "must be below 1, or a step overshoots"),
        ({"effective_steps": "max"}, "effective_steps must be mean or median, got 'max'"),
        ({"local": LocalTraining(epochs=1, batch_size=2, optimizer="adam")}, "expected local optimizer sgd, got adam"),
        ({"local": LocalTraining(epochs=1, batch_size=2, worker_momentum=0.5)}, "expected local worker_momentum 0"),
    ],
)
def test_bad_settings_say_what_was_expected(more: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        FedNova(**more)
