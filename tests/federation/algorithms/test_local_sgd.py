"""Local SGD and SlowMo against workers written out one by one, and against what they reduce to."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from fedsec.attacks import SignFlip
from fedsec.defenses import ClipUpdate, DpSgd, Mean, Median
from fedsec.engine import LocalTraining
from fedsec.engine.optimizers import RateSchedule
from fedsec.errors import InputError
from fedsec.federation import FedAvg, Federation, FedSGD, LocalSGD, SlowMo, Threat, private_run
from fedsec.federation.algorithms.local_steps import plan_client

LOCAL = LocalTraining(epochs=1, batch_size=3, lr=0.3, momentum=0.6)
Build = Callable[..., Federation]


def by_hand(federation: Federation, gradient: Any, rounds: int) -> dict[str, Tensor]:
    """Algorithm 1 of SlowMo around workers with momentum, in float64; with beta 0 and server_lr 1 local SGD."""
    algorithm = federation.algorithm
    assert isinstance(algorithm, LocalSGD)
    beta = algorithm.beta if isinstance(algorithm, SlowMo) else 0.0
    x = federation.parameters.double()
    u, common = torch.zeros_like(x), torch.zeros_like(x)
    own = torch.zeros(federation.num_clients, len(x), dtype=torch.float64)
    for number in range(1, rounds + 1):
        local = algorithm.local
        lr = local.lr * (1.0 if local.schedule is None else local.schedule.factor(number))
        early = algorithm.switch_round is not None and number <= algorithm.switch_round
        planned = replace(local, epochs=None, steps=1) if early else local
        workers = federation.sample(number)
        models, buffers = [], []
        for worker in workers:
            y = x.clone()
            m = {"reset": torch.zeros_like(x), "average": common, "keep": own[worker]}[algorithm.buffers].clone()
            plan = plan_client(federation.data, worker, planned, number, federation.streams)
            for examples, size in zip(plan.examples, plan.sizes, strict=True):
                m = local.momentum * m + gradient(federation, y, examples[:size])
                y = y - lr * m
            models.append(y), buffers.append(m)
            own[worker] = m
        weights = torch.tensor([len(federation.data.clients[worker]) for worker in workers], dtype=torch.float64)
        weights /= weights.sum()
        mean, common = weights @ torch.stack(models), weights @ torch.stack(buffers)
        u = beta * u + (x - mean) / lr
        x = x - algorithm.server_lr * lr * u
    names = {"average": {"momentum": common}, "keep": {"buffers": own}, "reset": {}}[algorithm.buffers]
    return {"parameters": x, **names, **({"slow": u} if isinstance(algorithm, SlowMo) else {})}


@pytest.mark.parametrize("engine", ["vectorized", "loop"])
@pytest.mark.parametrize(
    "algorithm",
    [
        LocalSGD(local=LOCAL, buffers="average", switch_round=1),
        LocalSGD(local=LOCAL, buffers="keep"),
        SlowMo(local=replace(LOCAL, schedule=RateSchedule(warmup=3)), beta=0.5, server_lr=0.8),
        SlowMo(local=LOCAL, beta=0.5, buffers="average"),
    ],
    ids=["average", "keep", "slowmo", "slowmo average"],
)
def test_workers_do_what_they_do_one_by_one(build: Build, gradient: Any, algorithm: Any, engine: str) -> None:
    """Two of four unequal workers a round; the loss of one's buffers would show in the next round."""
    run = build(algorithm, engine=engine)
    expected = by_hand(run, gradient, 3)
    for _ in range(3):
        run.play()
    assert run.algorithm_state.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(run.algorithm_state[name].double(), tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "algorithm", [LocalSGD(local=LOCAL), SlowMo(local=LOCAL, beta=0.0)], ids=["local SGD", "slowmo"]
)
def test_without_memory_both_are_federated_averaging(build: Build, algorithm: Any) -> None:
    runs = build(FedAvg(local=LOCAL)), build(algorithm)
    for _ in range(3):
        for run in runs:
            run.play()
    assert torch.equal(runs[0].parameters, runs[1].parameters)


def test_one_step_of_all_examples_is_distributed_gradient_descent(build: Build) -> None:
    local = LocalTraining(steps=1, batch_fraction=1.0, lr=0.3)
    runs = [build(one, clients_per_round=4) for one in (FedSGD(server_lr=0.3), LocalSGD(local=local))]
    for _ in range(3):
        for run in runs:
            run.play()
    torch.testing.assert_close(runs[0].parameters, runs[1].parameters)


@pytest.mark.parametrize("buffers", ["average", "keep"])
def test_one_step_a_round_is_parallel_sgd_with_momentum(build: Build, gradient: Any, buffers: Any) -> None:
    """The mean of buffers is the buffer of the mean, wherever they are."""
    local = LocalTraining(steps=1, batch_fraction=1.0, lr=0.3, momentum=0.6)
    run = build(LocalSGD(local=local, buffers=buffers), clients_per_round=4)
    x, m = run.parameters.double(), torch.zeros(15, dtype=torch.float64)
    for _ in range(3):
        every = torch.cat([torch.from_numpy(own) for own in run.data.clients]).numpy()
        m = 0.6 * m + gradient(run, x, every)
        x = x - 0.3 * m
        run.play()
    torch.testing.assert_close(run.parameters.double(), x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("buffers", ["average", "keep"])
def test_a_kept_run_goes_on_to_the_bit(build: Build, buffers: Any) -> None:
    algorithm = SlowMo(local=LOCAL, buffers=buffers, switch_round=2)
    whole, first, second = (build(algorithm) for _ in range(3))
    for _ in range(4):
        whole.play()
    first.play()
    state = {name: tensor.clone() for name, tensor in first.state().items()}
    first.play()
    second.restore(state, 1)
    for _ in range(3):
        second.play()
    for name, tensor in whole.state().items():
        assert torch.equal(tensor, second.state()[name]), name


def test_averaged_buffers_are_forged_and_judged_like_updates(build: Build) -> None:
    threat, norms = Threat(frozenset({1}), SignFlip(scale=1e4)), []
    for rule, attack in ((Median(), None), (Median(), threat), (Mean(), threat)):
        run = build(SlowMo(local=LOCAL, buffers="average"), clients_per_round=4, aggregator=rule, threat=attack)
        cost = run.play().cost
        assert cost is not None
        assert cost.upload_bytes == 2 * 15 * 4
        norms.append([run.algorithm_state[name].norm() for name in ("momentum", "slow")])
    for honest, robust, mean in zip(*norms, strict=True):
        assert robust < 3 * honest < mean / 100


def test_accounts_and_defenses(build: Build) -> None:
    averaging = LocalSGD(local=LOCAL, buffers="average")
    algorithm, privacy = private_run(DpSgd(1.0), averaging, (8, 4, 6, 10), 5)
    assert algorithm.sends == ("update", "momentum")
    assert all(result.epsilon is not None for result in build(algorithm, privacy).run())
    with pytest.raises(InputError, match="send their momentum beside the update, which ClipUpdate would not cover"):
        build(averaging, transforms=[ClipUpdate(1.0)])


@pytest.mark.parametrize(
    ("algorithm", "more", "message"),
    [
        (LocalSGD, {"buffers": "drop"}, "buffers must be reset, average or keep, got 'drop'"),
        (LocalSGD, {"switch_round": 0}, "switch_round must be at least 1, or none, got 0"),
        (LocalSGD, {"buffers": "keep"}, "expected local momentum above 0 with sgd or lars, got sgd with 0"),
        (SlowMo, {"beta": 1.0}, r"beta must lie in \[0, 1\), got 1.0"),
    ],
)
def test_bad_settings_say_what_was_expected(algorithm: Any, more: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        algorithm(**more)
