"""Federations under schedules, beside the same whose rates are set by hand before each round."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from fedsec.defenses import DpSgd
from fedsec.engine import LocalTraining
from fedsec.engine.optimizers import RateSchedule
from fedsec.errors import InputError
from fedsec.federation import (
    FedAvg,
    FedDyn,
    Federation,
    FedNova,
    FedOpt,
    FedProx,
    FedSGD,
    LocalSGD,
    PFedMe,
    Scaffold,
    SlowMo,
    Threat,
    private_run,
)
from fedsec.federation.algorithms import Asynchronous
from fedsec.threat import AttackerView, UpdatePoisoning

WARM = RateSchedule("step", warmup=2, every=2, gamma=0.5)
RATES = {1: 0.5, 2: 1.0, 3: 0.5, 4: 0.5}
LOCAL = LocalTraining(epochs=1, batch_size=3, lr=0.3, momentum=0.5)
PLAIN = replace(LOCAL, momentum=0.0)
Build = Callable[..., Federation]


class Trains(UpdatePoisoning):
    """Sends what it trains itself, turned round."""

    knowledge = "own"
    trains = True

    def forge(self, view: AttackerView) -> Tensor:
        return torch.stack([-machine.train() for machine in view.machines])


class Leverage(UpdatePoisoning):
    """Sends how far its row would move the model."""

    knowledge = "own"

    def forge(self, view: AttackerView) -> Tensor:
        return torch.tensor(view.leverage)[:, None].expand_as(view.own).clone()


@pytest.mark.parametrize("attack", [None, Trains(), Leverage()], ids=["honest", "trains", "leverage"])
@pytest.mark.parametrize(
    "algorithm",
    [
        FedAvg(local=LOCAL),
        FedProx(local=LOCAL, mu=0.5),
        Scaffold(local=PLAIN),
        FedDyn(local=PLAIN, alpha=0.5),
        FedNova(local=LOCAL, mu=0.5),
        FedOpt(local=LOCAL),
        FedSGD(),
        SlowMo(local=LOCAL, buffers="keep"),
        LocalSGD(local=LOCAL, switch_round=2),
        PFedMe(local=PLAIN, lam=2.0),
        Asynchronous(local=LOCAL),
    ],
    ids=lambda algorithm: type(algorithm).__name__,
)
def test_all_that_reads_a_rate_reads_the_rounds(build: Build, algorithm: Any, attack: Any) -> None:
    threat = None if attack is None else Threat(frozenset({1}), attack)
    if attack is not None and attack.trains and algorithm.training is None:
        return
    scheduled = replace(algorithm, server_schedule=WARM)
    if algorithm.training is not None:
        scheduled = replace(scheduled, local=replace(algorithm.local, schedule=WARM))
    run, by_hand = (build(one, clients_per_round=4, threat=threat) for one in (scheduled, algorithm))
    for number, rate in RATES.items():
        changed = replace(algorithm, server_lr=algorithm.server_lr * rate)
        if algorithm.training is not None:
            changed = replace(changed, local=replace(algorithm.local, lr=algorithm.local.lr * rate))
        by_hand.algorithm = changed.running(4, 4, by_hand.streams, by_hand.threat)
        assert run.play().metrics == by_hand.play().metrics, number
        assert torch.equal(run.parameters, by_hand.parameters)


class TrainsHonestly(Trains):
    """Sends what it trains itself."""

    def forge(self, view: AttackerView) -> Tensor:
        return -super().forge(view)


def test_attackers_that_train_take_the_steps_of_their_round(build: Build) -> None:
    algorithm = LocalSGD(local=PLAIN, switch_round=2)
    honest, attacked = (
        build(algorithm, clients_per_round=4, threat=threat)
        for threat in (None, Threat(frozenset({1}), TrainsHonestly()))
    )
    for _ in range(3):
        honest.play(), attacked.play()
        torch.testing.assert_close(attacked.parameters, honest.parameters)


def test_a_kept_run_goes_on_with_its_rounds_rate(build: Build) -> None:
    algorithm = FedAvg(local=replace(LOCAL, schedule=RateSchedule("cosine", rounds=4)))
    whole, resumed = (build(algorithm, rounds=4) for _ in range(2))
    whole.play(), whole.play()
    resumed.restore(whole.state(), 2)
    for run in (whole, resumed):
        assert [result.round for result in run.run()] == [3, 4]
    assert torch.equal(whole.parameters, resumed.parameters)


def test_noise_does_not_depend_on_rates(build: Build) -> None:
    """The account holds whatever the rates: they come after the noise."""
    plain = FedAvg(local=PLAIN)
    scheduled = FedAvg(local=replace(PLAIN, schedule=RateSchedule(warmup=2)))
    updates = []
    for algorithm in (plain, scheduled):
        private, account = private_run(DpSgd(1.0), algorithm, (8, 4, 6, 10), 5)
        run = build(private, account)
        updates.append(run.train(run.start([0]), [0], 1).updates)
    steps = LocalTraining(steps=1, batch_size=3, lr=0.3)
    assert updates[0].shape == updates[1].shape
    one = []
    for local in (steps, replace(steps, schedule=RateSchedule(warmup=2))):
        private, account = private_run(DpSgd(1.0), FedAvg(local=local), (8, 4, 6, 10), 5)
        run = build(private, account)
        one.append(run.train(run.start([0]), [0], 1).updates)
    torch.testing.assert_close(one[0] / 2, one[1])


def test_cut_gradients_are_no_examples_cut(build: Build) -> None:
    with pytest.raises(InputError, match="clip each example's gradient already; expected no local clip_norm"):
        private_run(DpSgd(1.0), FedAvg(local=replace(LOCAL, clip_norm=1.0)), (8, 4, 6, 10), 5)
