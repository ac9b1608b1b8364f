"""Ditto and pFedMe: models beside the global one, against plain loops, their limits, and attackers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fedsec.attacks import SignFlip
from fedsec.defenses import DpFedAvg, DpSgd, Median
from fedsec.engine import LocalTraining
from fedsec.errors import InputError
from fedsec.federation import Ditto, FedAvg, Federation, LocalOnly, PFedMe, Threat, UpdateAlgorithm, private_run
from fedsec.federation.algorithms.local_steps import plan_client

LOCAL = LocalTraining(epochs=2, batch_size=3, lr=0.3)
Build = Callable[..., Federation]
BOTH: tuple[UpdateAlgorithm, ...] = (
    Ditto(local=LOCAL, lam=0.7),
    PFedMe(local=LOCAL, lam=1.5, outer_lr=0.4, server_lr=0.8),
)
ATTACK = Threat(frozenset({1}), SignFlip(scale=1e4))


def ditto_by_hand(run: Federation, gradient: Any, rounds: int) -> tuple[Tensor, Tensor]:
    algorithm = run.algorithm
    assert isinstance(algorithm, Ditto)
    theta = run.parameters.double()
    personal = [theta.clone() for _ in run.data.clients]
    for number in range(1, rounds + 1):
        trained = []
        for client in range(len(personal)):
            plan, w, v = plan_client(run.data, client, LOCAL, number, run.streams), theta.clone(), personal[client]
            for examples, size in zip(plan.examples, plan.sizes, strict=True):
                w = w - LOCAL.lr * gradient(run, w, examples[:size])
                v = v - LOCAL.lr * (gradient(run, v, examples[:size]) + algorithm.lam * (v - theta))
            trained.append(w)
            personal[client] = v
        theta = (8 * trained[0] + 5 * trained[1]) / 13
    return theta, torch.stack(personal)


def pfedme_by_hand(run: Federation, gradient: Any, rounds: int) -> tuple[Tensor, Tensor]:
    algorithm = run.algorithm
    assert isinstance(algorithm, PFedMe)
    theta = run.parameters.double()
    personal = [theta.clone() for _ in run.data.clients]
    for number in range(1, rounds + 1):
        locals_ = []
        for client in range(len(personal)):
            plan, w = plan_client(run.data, client, LOCAL, number, run.streams), theta.clone()
            for examples, size in zip(plan.examples, plan.sizes, strict=True):
                own = w.clone()
                for _ in range(algorithm.inner_steps):
                    own = own - LOCAL.lr * (gradient(run, own, examples[:size]) + algorithm.lam * (own - w))
                w = w - algorithm.outer_lr * algorithm.lam * (w - own)
                personal[client] = own
            locals_.append(w)
        theta = (1 - algorithm.server_lr) * theta + algorithm.server_lr * (8 * locals_[0] + 5 * locals_[1]) / 13
    return theta, torch.stack(personal)


@pytest.mark.parametrize("engine", ["vectorized", "loop"])
@pytest.mark.parametrize("algorithm", BOTH, ids=["ditto", "pfedme"])
def test_two_rounds_of_two_clients_by_hand(
    build: Build, gradient: Any, algorithm: UpdateAlgorithm, engine: str
) -> None:
    run = build(algorithm, engine=engine)
    theta, models = (ditto_by_hand if isinstance(algorithm, Ditto) else pfedme_by_hand)(run, gradient, 2)
    results = [run.play(), run.play()]
    torch.testing.assert_close(run.parameters.double(), theta, rtol=1e-5, atol=1e-6)
    personal = run.personal([0, 1])
    assert personal is not None
    torch.testing.assert_close(personal.double(), models, rtol=1e-5, atol=1e-6)
    assert results[-1].client_values is not None
    cost, plain = results[-1].cost, build(FedAvg(local=LOCAL)).play().cost
    assert cost is not None
    assert plain is not None
    assert cost.upload_bytes == plain.upload_bytes
    assert cost.flops == pytest.approx(plain.flops * (2 if isinstance(algorithm, Ditto) else 5))


@pytest.mark.parametrize("algorithm", BOTH, ids=["ditto", "pfedme"])
def test_a_kept_run_goes_on_to_the_bit(build: Build, algorithm: UpdateAlgorithm) -> None:
    whole, first, second = (build(algorithm, sizes=(8, 5, 7), clients_per_round=2) for _ in range(3))
    for _ in range(4):
        whole.play()
    first.play()
    second.restore(first.state(), 1)
    for _ in range(3):
        second.play()
    for name, tensor in whole.state().items():
        assert torch.equal(tensor, second.state()[name]), name


@pytest.mark.parametrize("threat", [None, ATTACK])
def test_dittos_global_model_is_federated_averagings_to_the_bit(build: Build, threat: Threat | None) -> None:
    plain, ditto = (
        build(algorithm, sizes=(8, 5, 7), aggregator=Median(), threat=threat)
        for algorithm in (FedAvg(local=LOCAL), Ditto(local=LOCAL, lam=0.7))
    )
    for _ in range(3):
        plain.play()
        ditto.play()
    assert torch.equal(plain.parameters, ditto.parameters)


def test_without_a_pull_ditto_trains_alone_to_the_bit_and_no_attack_reaches_it(build: Build) -> None:
    alone, ditto = (
        build(algorithm, sizes=(8, 5, 7), threat=ATTACK, rounds=3)
        for algorithm in (LocalOnly(local=LOCAL), Ditto(local=LOCAL, lam=0.0))
    )
    for _ in range(2):
        alone.play()
        ditto.play()
    assert torch.equal(ditto.algorithm_state["models"], alone.algorithm_state["own"])


def test_a_pull_towards_an_attacked_model_is_felt_and_a_robust_rule_relieves_it(build: Build) -> None:
    clean, attacked, defended = (
        build(Ditto(local=LOCAL, lam=0.7), sizes=(8, 5, 7), **more)
        for more in ({}, {"threat": ATTACK}, {"threat": ATTACK, "aggregator": Median()})
    )
    for run in (clean, attacked, defended):
        run.play()
        run.play()
    far, near = (
        (run.algorithm_state["models"][0] - clean.algorithm_state["models"][0]).norm() for run in (attacked, defended)
    )
    assert far > 100 * near


def test_one_inner_step_of_pfedme_is_federated_averaging_at_another_rate(build: Build) -> None:
    envelope = build(PFedMe(local=LOCAL, lam=2.0, inner_steps=1, outer_lr=0.4))
    plain = build(FedAvg(local=LocalTraining(epochs=2, batch_size=3, lr=0.3 * 2.0 * 0.4)))
    for _ in range(3):
        envelope.play()
        plain.play()
    torch.testing.assert_close(envelope.parameters, plain.parameters, rtol=1e-4, atol=1e-6)


def test_a_robust_rule_protects_pfedme(build: Build) -> None:
    robust, naive = (build(BOTH[1], sizes=(8, 5, 7), threat=ATTACK, **more) for more in ({"aggregator": Median()}, {}))
    before = robust.parameters.clone()
    robust.play()
    naive.play()
    assert (robust.parameters - before).norm() < 5 < (naive.parameters - before).norm()


def test_what_is_sent_keeps_its_accounts(build: Build) -> None:
    private, privacy = private_run(DpSgd(1.0), Ditto(local=LOCAL), (8, 5), 2)
    plain, same = private_run(DpSgd(1.0), FedAvg(local=LOCAL), (8, 5), 2)
    spent = [
        [one.epsilon for one in build(algorithm, privacy=account, rounds=2).run()]
        for algorithm, account in ((private, privacy), (plain, same))
    ]
    assert spent[0] == spent[1]
    assert build(Ditto(local=LOCAL), aggregator=DpFedAvg(noise_multiplier=1.0)).play().user_epsilon is not None
    with pytest.raises(InputError, match="no account of DP-SGD is known"):
        private_run(DpSgd(1.0), PFedMe(local=LOCAL), (8, 5), 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda build: Ditto(lam=-1.0), "lam must be finite in float32 and not negative"),
        (lambda build: PFedMe(lam=0.0), "lam must be positive"),
        (lambda build: PFedMe(inner_steps=0), "inner_steps must be at least 1"),
        (lambda build: PFedMe(lam=15.0, outer_lr=0.1), "outer_lr times lam at most 1"),
        (lambda build: build(BOTH[0], norm=True, bn="local"), "two models at each client"),
    ],
)
def test_bad_settings_say_what_was_expected(build: Build, make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(build)
