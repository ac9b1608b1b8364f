"""FedOpt against its Algorithm 2 written out in NumPy, and against FedAvg where it is that."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fedsec.attacks import SignFlip
from fedsec.defenses import DpFedAvg, DpSgd, Mean, Median
from fedsec.engine import LocalTraining
from fedsec.errors import InputError
from fedsec.federation import FedAvg, Federation, FedOpt, Threat, private_run
from fedsec.federation.algorithms.local_steps import plan_client

LOCAL = LocalTraining(epochs=2, batch_size=3, lr=0.3)
OPTIMIZERS: Any = ("adam", "yogi", "adagrad", "avgm")
Build = Callable[..., Federation]


def by_hand(federation: Federation, gradient: Any, rounds: int) -> dict[str, NDArray[np.float64]]:
    """Algorithm 2 in float64; of the federation only its data, its clients of each round and their batches are used."""
    algorithm = federation.algorithm
    assert isinstance(algorithm, FedOpt)
    x = federation.parameters.double().numpy()
    m, v = np.zeros_like(x), np.full_like(x, algorithm.tau**2)
    for number in range(1, rounds + 1):
        moves, sizes = [], []
        for client in federation.sample(number):
            y = torch.from_numpy(x.copy())
            plan = plan_client(federation.data, client, algorithm.local, number, federation.streams)
            for examples, size in zip(plan.examples, plan.sizes, strict=True):
                y = y - algorithm.local.lr * gradient(federation, y, examples[:size])
            moves.append(y.numpy() - x)
            sizes.append(len(federation.data.clients[client]))
        delta = np.average(moves, axis=0, weights=sizes)
        if algorithm.optimizer == "avgm":
            m = algorithm.beta1 * m + delta
            x = x + algorithm.server_lr * m
            continue
        m = algorithm.beta1 * m + (1 - algorithm.beta1) * delta
        if algorithm.optimizer == "adagrad":
            v = v + delta**2
        elif algorithm.optimizer == "adam":
            v = algorithm.beta2 * v + (1 - algorithm.beta2) * delta**2
        else:
            v = v - (1 - algorithm.beta2) * delta**2 * np.sign(v - delta**2)
        x = x + algorithm.server_lr * m / (np.sqrt(v) + algorithm.tau)
    return {"parameters": x, "momentum": m, **({} if algorithm.optimizer == "avgm" else {"second_moment": v})}


@pytest.mark.parametrize("engine", ["vectorized", "loop"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_it_is_algorithm_2(build: Build, gradient: Any, optimizer: Any, engine: str) -> None:
    run = build(FedOpt(local=LOCAL, optimizer=optimizer, beta1=0.7, beta2=0.8, tau=0.05), engine=engine)
    expected = by_hand(run, gradient, 3)
    for _ in range(3):
        run.play()
    assert run.algorithm_state.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_allclose(run.algorithm_state[name].double().numpy(), tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("weighting", ["samples", "uniform", "population"])
def test_momentum_without_memory_is_federated_averaging(build: Build, weighting: Any) -> None:
    settings = {"local": LOCAL, "weighting": weighting}
    averaged = build(FedAvg(**settings))
    plain = build(FedOpt(optimizer="avgm", beta1=0.0, server_lr=1.0, **settings))
    for _ in range(3):
        assert averaged.play().metrics == plain.play().metrics
    assert torch.equal(averaged.parameters, plain.parameters)


def test_a_step_is_as_long_as_the_rate_however_small_the_updates(build: Build) -> None:
    """Why attackers like it: with tau far below the updates each coordinate moves by the rate."""
    run = build(FedOpt(local=LOCAL, optimizer="adagrad", beta1=0.0, tau=1e-12, server_lr=0.25))
    before = run.parameters
    run.play()
    torch.testing.assert_close((run.parameters - before).abs(), torch.full((15,), 0.25), rtol=1e-3, atol=0)


@pytest.mark.parametrize("optimizer", ["yogi", "avgm"])
def test_a_kept_run_goes_on_to_the_bit(build: Build, optimizer: Any) -> None:
    whole, first, second = (build(FedOpt(local=LOCAL, optimizer=optimizer)) for _ in range(3))
    for _ in range(3):
        whole.play()
    first.play()
    second.restore(first.state(), 1)
    for _ in range(2):
        second.play()
    for name, tensor in whole.state().items():
        assert torch.equal(tensor, second.state()[name]), name


def test_a_robust_rule_keeps_an_attack_out_of_the_servers_memory(build: Build) -> None:
    threat, runs = Threat(frozenset({1}), SignFlip(scale=1e4)), []
    for rule, attack in ((Median(), None), (Median(), threat), (Mean(), threat)):
        runs.append(build(FedOpt(local=LOCAL), clients_per_round=4, aggregator=rule, threat=attack))
        runs[-1].play()
    honest, robust, mean = (run.algorithm_state["momentum"].norm() for run in runs)
    assert robust < 3 * honest < mean / 100


def test_accounts_hold_for_what_only_the_aggregate_decides(build: Build) -> None:
    algorithm, privacy = private_run(DpSgd(1.0), FedOpt(local=LOCAL), (8, 4, 6, 10), 5)
    assert all(result.epsilon is not None for result in build(algorithm, privacy).run())
    run = build(FedOpt(local=LOCAL), aggregator=DpFedAvg(noise_multiplier=1.0), clients_per_round=4)
    assert run.play().user_epsilon is not None


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"optimizer": "sgd"}, "optimizer must be adam, yogi, adagrad or avgm, got 'sgd'"),
        ({"beta1": 1.0}, r"beta1 must lie in \[0, 1\), got 1.0"),
        ({"beta2": -0.1}, r"beta2 must lie in \[0, 1\), got -0.1"),
        ({"tau": 0.0}, "tau must be positive, and float32 hold its square .* got 0.0"),
        ({"tau": float("nan")}, "tau must be positive"),
        ({"server_lr": 0.0}, "server_lr must be positive"),
    ],
)
def test_bad_settings_say_what_was_expected(more: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        FedOpt(**more)
