"""What clients send with worker momentum, against the formula, round by round."""

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import pytest
import torch
from torch import Tensor

from fedsec.defenses import ClipUpdate, DpFedAvg, DpSgd, Mean, Median
from fedsec.engine import LocalTraining
from fedsec.errors import InputError
from fedsec.federation import FedAvg, FedDyn, Federation, FedGKT, FedSGD, Scaffold, Threat, private_run
from fedsec.federation.algorithms.update_algorithm import UpdateAlgorithm
from fedsec.federation.worker_momentum import WorkerMomentum
from fedsec.threat import AttackerView, UpdatePoisoning

BETA = 0.75
LOCAL = LocalTraining(steps=2, batch_size=4, lr=0.5, worker_momentum=BETA)
ALGORITHMS = [FedAvg(local=LOCAL), FedSGD(server_lr=0.5, worker_momentum=BETA)]
Build = Callable[..., Federation]


class Recording:
    """Local training as it is, and what it led to."""

    def __init__(self, federation: Federation) -> None:
        self.rounds: list[dict[int, Tensor]] = []
        self.sent: list[dict[int, Tensor]] = []
        train = federation.local_updates

        def local_updates(start: Any, clients: Any, number: int) -> Any:
            trained = train(start, clients, number)
            self.rounds.append(dict(zip(clients, trained.updates.double().clone(), strict=True)))
            return trained

        federation.local_updates = local_updates
        federation.observers.append(
            lambda _, clients, rows: self.sent.append(dict(zip(clients, rows.double().clone(), strict=True)))
        )

    def expected(self) -> list[dict[int, Tensor]]:
        """m <- beta m + (1 - beta) u in float64, each client over the rounds in which it took part."""
        averages: dict[int, Tensor] = {}
        rounds = []
        for trained in self.rounds:
            for client, update in trained.items():
                averages[client] = BETA * averages.get(client, torch.zeros_like(update)) + (1 - BETA) * update
            rounds.append({client: averages[client] for client in trained})
        return rounds


@pytest.mark.parametrize("engine", ["loop", "vectorized"])
@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=["fedavg", "fedsgd"])
def test_clients_send_the_running_average_of_their_updates(
    build: Build, algorithm: UpdateAlgorithm, engine: str
) -> None:
    federation = build(algorithm, engine=engine)
    recording = Recording(federation)
    for _ in range(5):
        start = federation.parameters.clone()
        federation.play()
        expected = recording.expected()[-1]
        assert list(recording.sent[-1]) == list(expected)
        for client, row in expected.items():
            torch.testing.assert_close(recording.sent[-1][client], row, rtol=1e-5, atol=1e-7)
        sizes = torch.tensor([len(federation.data.clients[client]) for client in expected], dtype=torch.float64)
        average = (sizes / sizes.sum()) @ torch.stack(list(expected.values()))
        moved = (federation.parameters - start).double()
        step = -0.5 * average if isinstance(algorithm, FedSGD) else average
        torch.testing.assert_close(moved, step, rtol=1e-4, atol=1e-6)
    assert any(len(one) < 4 for one in recording.rounds)
    assert any(list(one) != list(other) for one in recording.rounds for other in recording.rounds)


def test_the_memory_is_part_of_what_a_checkpoint_holds(build: Build) -> None:
    whole, first, second = (build(ALGORITHMS[0]) for _ in range(3))
    for _ in range(5):
        whole.play()
    for _ in range(2):
        first.play()
    held = first.state()
    kept = {name: tensor.clone() for name, tensor in held.items()}
    first.play()  # writes into no tensor that it handed out
    assert all(torch.equal(held[name], tensor) for name, tensor in kept.items())
    second.restore(held, 2)
    for _ in range(3):
        second.play()
    assert torch.equal(second.parameters, whole.parameters)
    forgetful = build(ALGORITHMS[0])
    forgetful.restore({**held, "momentum": torch.zeros_like(held["momentum"])}, 2)
    forgetful.play()
    assert not torch.equal(forgetful.parameters, first.parameters)
    with pytest.raises(InputError):
        second.restore({name: tensor for name, tensor in held.items() if name != "momentum"}, 2)


def test_without_momentum_nothing_changes_and_nothing_is_kept(build: Build) -> None:
    federation = build(FedAvg(local=LocalTraining(steps=2, batch_size=4, lr=0.5)))
    rows = torch.ones(2, 15)
    assert federation.worker_momentum(rows, [0, 1]) is rows
    assert "momentum" not in federation.state()
    assert federation.worker_momentum.averages.numel() == 0


def test_rows_that_are_not_finite_are_sent_and_forgotten() -> None:
    momentum = WorkerMomentum(0.5, torch.zeros(2), 3)
    momentum(torch.tensor([[2.0, 2], [4, 4]]), [2, 0])
    before = momentum.averages.clone()
    rows = torch.tensor([[torch.nan, 1], [8, 8]])
    sent = momentum(rows, [0, 2])
    assert sent[0].isnan().tolist() == [True, False]
    assert sent[1].tolist() == [4.5, 4.5]
    assert torch.equal(momentum.averages[:2], before[:2])
    assert momentum.averages[2].tolist() == [4.5, 4.5]


class Seen(UpdatePoisoning):
    """Keeps what the attackers' own rows would have been."""

    knowledge: ClassVar[Literal["own", "omniscient"]] = "own"

    def __init__(self) -> None:
        self.rows: list[Tensor] = []

    def forge(self, view: AttackerView) -> Tensor:
        self.rows.append(view.own.clone())
        return torch.zeros_like(view.own)


def test_defenses_and_attackers_act_on_what_is_sent(build: Build) -> None:
    federation = build(ALGORITHMS[0], transforms=[ClipUpdate(0.01)], clients_per_round=None)
    recording = Recording(federation)
    for _ in range(2):
        federation.play()
    for client, row in recording.expected()[-1].items():
        torch.testing.assert_close(recording.sent[-1][client], row * 0.01 / row.norm().clamp_min(0.01))
    attack = Seen()
    attacked = build(ALGORITHMS[0], clients_per_round=None, aggregator=Median(), threat=Threat(frozenset({1}), attack))
    recording = Recording(attacked)
    for _ in range(2):
        attacked.play()
    torch.testing.assert_close(attack.rows[1][0].double(), recording.expected()[1][1], rtol=1e-5, atol=1e-7)


def test_a_private_client_averages_what_was_released(build: Build) -> None:
    """The average is post-processing of private updates: epsilon is the same, and so are the updates themselves."""
    spent, first = [], []
    for beta in (0.0, BETA):
        local = LocalTraining(steps=2, batch_size=4, lr=0.5, worker_momentum=beta)
        algorithm, privacy = private_run(DpSgd(1.0, max_grad_norm=1.0), FedAvg(local=local), (8, 4, 6, 10), 3)
        federation = build(algorithm, privacy, clients_per_round=None)
        recording = Recording(federation)
        spent.append([federation.play().epsilon for _ in range(3)])
        first.append(recording.rounds[0][0])
    assert spent[0] == spent[1]
    assert torch.equal(*first)


def test_what_would_mean_nothing_is_refused(build: Build) -> None:
    for beta in (-0.1, 1.0, float("nan")):
        with pytest.raises(InputError, match=r"worker_momentum must lie in \[0, 1\)"):
            LocalTraining(steps=1, batch_size=1, worker_momentum=beta)
        with pytest.raises(InputError, match=r"worker_momentum must lie in \[0, 1\)"):
            FedSGD(worker_momentum=beta)
    for algorithm in (Scaffold, FedDyn, FedGKT):
        with pytest.raises(InputError, match=r"expected local worker_momentum 0, got 0\.75"):
            algorithm(local=LOCAL)
    with pytest.raises(InputError, match=r"DpFedAvg: no account .* expected worker_momentum 0, got 0\.75"):
        build(ALGORITHMS[0], aggregator=DpFedAvg(1.0, clip_norm=1.0), clients_per_round=None)
    build(FedAvg(local=LocalTraining(steps=1, batch_size=1)), aggregator=Mean(), clients_per_round=None)
