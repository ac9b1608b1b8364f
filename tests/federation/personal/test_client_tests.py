"""Clients on test examples of their own: whose model counts, who counts, and what fine-tuning does before."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fedsec.attacks import SignFlip
from fedsec.data.dataset import Split
from fedsec.engine import LocalTraining
from fedsec.errors import InputError
from fedsec.federation import FedAvg, Federation
from fedsec.federation.personal.client_tests import ClientTests
from fedsec.federation.personal.fine_tuning import FineTuning
from fedsec.federation.threat import AttackRounds, Threat

Build = Callable[..., Federation]
LOCAL = LocalTraining(steps=2, batch_size=4, lr=0.5)
CPU = torch.device("cpu")


def held(count: int = 12) -> Split:
    generator = torch.Generator().manual_seed(9)
    images = torch.randint(0, 256, (count, 1, 2, 2), dtype=torch.uint8, generator=generator)
    return Split(images, torch.randint(0, 3, (count,), generator=generator))


SHARES = [np.array([0, 5, 7]), np.array([], np.int64), np.array([1, 2, 3, 4]), np.array([11])]


def by_hand(federation: Federation, share: np.ndarray, weight: torch.Tensor, bias: torch.Tensor) -> float:
    split = held()
    images = (split.inputs[share].float() / 255 - 0.5) / 0.5
    answers = (images.flatten(1) @ weight.T + bias).argmax(1)
    return float((answers == split.targets[share]).double().mean())


def test_the_global_model_is_measured_on_each_clients_own_examples(build: Build) -> None:
    federation = build(FedAvg(local=LOCAL), client_tests=ClientTests.of(held(), SHARES, CPU), evaluate_every=2)
    lines = list(federation.run())
    assert [line.client_tests is None for line in lines] == [True, False, True, False, False]
    weight, bias = federation.parameters[:12].view(3, 4), federation.parameters[12:]
    expected = {client: by_hand(federation, SHARES[client], weight, bias) for client in (0, 2, 3)}
    assert lines[-1].client_tests == pytest.approx(expected)
    assert lines[-1].metrics == list(build(FedAvg(local=LOCAL), evaluate_every=2).run())[-1].metrics


def test_attackers_do_not_count_not_even_when_they_have_stopped(build: Build) -> None:
    threat = Threat(frozenset({2}), SignFlip(), AttackRounds(1, 2))
    federation = build(FedAvg(local=LOCAL), client_tests=ClientTests.of(held(), SHARES, CPU), threat=threat)
    assert {tuple(line.client_tests or ()) for line in federation.run()} == {(0, 3)}


def test_fine_tuning_is_plain_training_of_the_final_model_by_each_client_alone(build: Build) -> None:
    tuning = FineTuning(LocalTraining(steps=3, batch_fraction=1.0, lr=0.7))
    federation = build(FedAvg(local=LOCAL), client_tests=ClientTests.of(held(), SHARES, CPU, tuning))
    lines = list(federation.run())
    assert [line.client_tests is None for line in lines] == [True] * 4 + [False]  # when the run is over
    expected = {}
    for client in (0, 2, 3):
        model = nn.Linear(4, 3)
        with torch.no_grad():
            model.weight.copy_(federation.parameters[:12].view(3, 4))
            model.bias.copy_(federation.parameters[12:])
        images, labels = federation.data.batch(torch.from_numpy(federation.data.clients[client]))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.7)
        for _ in range(3):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images.flatten(1)), labels).backward()
            optimizer.step()
        expected[client] = by_hand(federation, SHARES[client], model.weight, model.bias)
    assert lines[-1].client_tests == pytest.approx(expected)
    start = federation.left_with([0, 2])
    tuned = {client: parameters for client, parameters, _ in tuning.models(federation, [0, 2])}
    alone = {client: parameters for client, parameters, _ in tuning.models(federation, [2])}
    torch.testing.assert_close(tuned[2], alone[2])  # whoever else tunes
    assert not torch.equal(tuned[2], start.parameters)


def test_each_clients_own_statistics_are_used(build: Build) -> None:
    federation = build(FedAvg(local=LOCAL), client_tests=ClientTests.of(held(), SHARES, CPU))
    loaded: list[Any] = []
    federation.load = lambda statistics, parameters=None: loaded.append(parameters)  # type: ignore[method-assign]
    federation.personal = lambda clients: torch.tensor(clients)[:, None] * torch.ones(15)  # type: ignore[method-assign]
    assert federation.client_tests is not None
    federation.client_tests.values(federation)
    assert [None if one is None else one[0].item() for one in loaded] == [0, 2, 3, None]


def test_nobody_to_test_is_refused() -> None:
    with pytest.raises(InputError, match="no client has an example"):
        ClientTests.of(held(), [np.array([], np.int64)], CPU)
