"""FedDyn against its Algorithm 1 written out in plain loops, client by client."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fedsec.attacks import SignFlip
from fedsec.defenses import DpFedAvg, DpSgd, Median
from fedsec.engine import LocalTraining
from fedsec.errors import InputError
from fedsec.federation import FedDyn, Federation, FedProx, Threat, private_run
from fedsec.federation.algorithms.local_steps import plan_client
from fedsec.federation.algorithms.update_algorithm import Exchange

LOCAL = LocalTraining(epochs=2, batch_size=3, lr=0.3)
Build = Callable[..., Federation]


def by_hand(federation: Federation, gradient: Any, rounds: int) -> dict[str, Tensor]:
    """Algorithm 1 in float64 with SGD for a solver; of the federation only data, clients and batches are used."""
    algorithm = federation.algorithm
    assert isinstance(algorithm, FedDyn)
    local, data, alpha = algorithm.local, federation.data, algorithm.alpha
    theta = federation.parameters.double()
    sizes = data.sizes(range(federation.num_clients)).astype(float)
    share = np.full(len(sizes), 1 / len(sizes)) if algorithm.weighting == "uniform" else sizes / sizes.sum()
    h, memories = torch.zeros_like(theta), torch.zeros(len(sizes), len(theta), dtype=torch.float64)
    for number in range(1, rounds + 1):
        clients, models = federation.sample(number), []
        for client in clients:
            plan, y = plan_client(data, client, local, number, federation.streams), theta.clone()
            for examples, size in zip(plan.examples, plan.sizes, strict=True):
                regularized = gradient(federation, y, examples[:size]) - memories[client] + alpha * (y - theta)
                y = y - local.lr * regularized
            memories[client] -= alpha * (y - theta)
            models.append(y)
        h = h - alpha * sum(share[i] * (model - theta) for i, model in zip(clients, models, strict=True))
        heard = len(clients) / len(sizes) if algorithm.weighting == "population" else share[clients].sum()
        mean = sum(share[i] / heard * model for i, model in zip(clients, models, strict=True))
        theta = mean - h / alpha
    return {"parameters": theta, "memory": h, "memories": memories}


@pytest.mark.parametrize("engine", ["vectorized", "loop"])
@pytest.mark.parametrize("weighting", ["uniform", "samples", "population"])
def test_it_is_algorithm_1(build: Build, gradient: Any, weighting: Any, engine: str) -> None:
    run = build(FedDyn(weighting=weighting, local=LOCAL, alpha=0.4), engine=engine)
    expected = by_hand(run, gradient, 4)
    for _ in range(4):
        run.play()
    for name, tensor in expected.items():
        torch.testing.assert_close(run.algorithm_state[name].double(), tensor, rtol=1e-4, atol=1e-5)


def test_clients_train_as_in_fedprox_before_they_remember_anything(build: Build) -> None:
    dynamic, near = build(FedDyn(local=LOCAL, alpha=0.4)), build(FedProx(local=LOCAL, mu=0.4))
    rows = [run.train(run.start(range(4)), range(4), 1).updates for run in (dynamic, near)]
    torch.testing.assert_close(*rows, rtol=0, atol=0)


def test_a_kept_run_goes_on_to_the_bit(build: Build) -> None:
    whole, first, second = (build(FedDyn(local=LOCAL)) for _ in range(3))
    for _ in range(4):
        whole.play()
    first.play()
    second.restore(first.state(), 1)
    for _ in range(3):
        second.play()
    for name, tensor in whole.state().items():
        assert torch.equal(tensor, second.state()[name]), name


def test_a_robust_rule_protects_the_servers_memory(build: Build) -> None:
    threat = Threat(frozenset({1}), SignFlip(scale=1e4))
    runs = [
        build(FedDyn(local=LOCAL, alpha=1.0), clients_per_round=4, aggregator=Median(), threat=one)
        for one in (None, threat)
    ]
    for run in runs:
        run.play()
    assert runs[1].algorithm_state["memory"].norm() < 3 * runs[0].algorithm_state["memory"].norm()


def test_private_steps_and_private_clients(build: Build) -> None:
    algorithm, privacy = private_run(DpSgd(1.0), FedDyn(local=LOCAL), (8, 4, 6, 10), 5)
    assert all(result.epsilon is not None for result in build(algorithm, privacy).run())
    with pytest.raises(InputError, match=r"no account of user-level privacy .* the server of FedDyn"):
        build(FedDyn(local=LOCAL), aggregator=DpFedAvg(noise_multiplier=1.0), clients_per_round=4)


def test_who_trained_to_numbers_that_are_not_finite_keeps_its_memory(build: Build) -> None:
    run = build(FedDyn(local=LOCAL, alpha=0.5))
    trained = run.train(run.start([1, 3]), [1, 3], 1)
    expected = -0.5 * trained.updates[1].clone()
    trained.updates[0, 2] = torch.inf
    zero = torch.zeros_like(run.parameters)
    exchange = Exchange([1, 3], trained, 1.0, torch.tensor([0.2, 0.3]))
    state = run.algorithm.apply(run.algorithm_state, exchange, {"update": zero})
    assert torch.equal(state["memories"], torch.stack([zero, zero, zero, expected]))


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("inf"), float("nan"), 1e39, 1e-46])
def test_bad_settings_say_what_was_expected(alpha: float) -> None:
    with pytest.raises(InputError, match="alpha must be positive, a number that float32 and its inverse hold, got"):
        FedDyn(alpha=alpha)
