"""Rounds on several workers, against the same rounds in one matrix."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fedsec.defense.shards import ColumnShards
from fedsec.engine import CohortTrainer
from fedsec.errors import InputError
from fedsec.federation.rounds import RoundResult
from fedsec.federation.sharded_rounds import LostRowsError, ShardedRounds, WorkOrder, blocks_of_clients, sent_by
from fedsec.federation.updates import Federation
from fedsec.runs.experiment import build_experiment
from fedsec.runs.sharded import worker
from fedsec.runs.sharded.experiment import sharded_experiment
from fedsec.runs.sharded.local_workers import LocalWorkers
from fedsec.runs.sharded.worker import ShardWorker
from fedsec.runs.tasks import TaskSettings
from fedsec.scenario import CellConfig

CPU = torch.device("cpu")


def config(**sections: Any) -> CellConfig:
    """A cell of eleven clients and an MLP of 65 * 6 + 7 * 10 parameters."""
    base: dict[str, Any] = {
        "dataset": {"name": "digits", "train_size": 200, "test_size": 50},
        "partition": {"name": "dirichlet", "alpha": 1.0, "clients": 11},
        "model": {"name": "mlp", "hidden": [6]},
        "federation": {"algorithm": "fedavg", "rounds": 2, "local": {"steps": 2, "batch_size": 8, "lr": 0.2}},
    }
    return CellConfig.model_validate({**base, **sections})


def federation(cell: CellConfig) -> Federation:
    built = build_experiment(cell, device=CPU, threads=2).federation
    assert isinstance(built, Federation)
    return built


def workers(cell: CellConfig, count: int) -> LocalWorkers:
    return LocalWorkers(count, lambda: ShardWorker(cell.model_dump(mode="json"), "cpu", 2, 1 / count))


def played(cell: CellConfig, count: int = 0, made: LocalWorkers | None = None) -> tuple[list[RoundResult], Tensor, str]:
    """All rounds, the model that they led to, and how clients were trained."""
    run = federation(cell)
    if count:
        run.exchange = ShardedRounds(run, made or workers(cell, count))
    return list(run.run()), run.parameters, run.engine


CASES: dict[str, dict[str, Any]] = {
    "mean": {},
    "median, label flip": {"attack": {"name": "label_flip", "fraction": 0.3}, "defense": "median"},
    "trimmed mean, alie": {
        "attack": {"name": "alie", "fraction": 0.2},
        "defense": {"name": "trimmed_mean", "num_trimmed_per_side": 2},
    },
    "krum, ipm": {"attack": {"name": "ipm", "fraction": 0.2}, "defense": {"name": "krum", "num_byzantine": 2}},
    "geometric median, nan": {"attack": {"name": "nan", "fraction": 0.2}, "defense": "geometric_median"},
    "nnm, trimmed mean, sign flip": {
        "attack": {"name": "sign_flip", "fraction": 0.2},
        "defense": [
            {"name": "nnm", "num_byzantine": 2},
            {"name": "trimmed_mean", "num_trimmed_per_side": 2},
        ],
    },
    "clip, noise, bucketing": {
        "defense": [
            {"name": "clip", "max_norm": 0.5},
            {"name": "gaussian_noise", "std": 0.01},
            {"name": "bucketing", "size": 2},
            "median",
        ]
    },
}
FURTHER: dict[str, dict[str, Any]] = {
    "clients sampled, batch normalization of their own": {
        "model": {"name": "resnet4"},
        "partition": {"name": "iid", "clients": 11},
        "federation": {
            "algorithm": "fedavg",
            "rounds": 2,
            "clients_per_round": 7,
            "bn": "local",
            "local": {"steps": 2, "batch_size": 8, "lr": 0.2},
        },
    },
    "private examples": {
        "federation": {"algorithm": "fedsgd", "rounds": 2},
        "defense": [{"name": "dp_sgd", "noise_multiplier": 1.0}, "mean"],
    },
    "a server with moments": {
        "federation": {
            "algorithm": "fedopt",
            "rounds": 2,
            "server_lr": 0.1,
            "local": {"steps": 2, "batch_size": 8, "lr": 0.2},
        },
    },
    "full gradients, attackers for a while": {
        "federation": {"algorithm": "fedsgd", "rounds": 2},
        "attack": {"name": "label_flip", "fraction": 0.3, "since": 2},
    },
}
CASES |= FURTHER
EXACT = (*FURTHER, "mean", "median, label flip", "trimmed mean, alie", "krum, ipm", "clip, noise, bucketing")


@pytest.mark.parametrize("name", CASES)
def test_rounds_are_those_of_one_matrix(name: str) -> None:
    cell = config(**CASES[name])
    expected, model, engine = played(cell)
    for count in (3,) if name in FURTHER else (2, 3):
        results, parameters, used = played(cell, count)
        if name in EXACT:
            assert torch.equal(parameters, model)
        torch.testing.assert_close(parameters, model, rtol=1e-6, atol=1e-7)
        for result, other in zip(results, expected, strict=True):
            for field in ("clients", "byzantine", "rejected", "attack", "suspected", "cost", "epsilon"):
                assert getattr(result, field) == getattr(other, field)
            assert result.influence == pytest.approx(other.influence, abs=1e-9)
            if name in EXACT:
                assert result.metrics == other.metrics
        assert used == f"{engine}, on {count} workers"


def test_more_workers_than_clients_or_columns() -> None:
    cell = config(
        partition={"name": "iid", "clients": 2},
        federation={"algorithm": "fedavg", "rounds": 1, "local": {"steps": 1, "batch_size": 8, "lr": 0.2}},
    )
    assert torch.equal(played(cell, 4)[1], played(cell)[1])


def test_no_process_needs_room_for_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = list[int]()
    monkeypatch.setattr(CohortTrainer, "check", lambda self, local, clients: rows.append(clients))
    sharded_experiment(config(), TaskSettings(Path(), "cpu", 1, actors=3))
    assert rows == [0, 4, 4, 4]


class Mortal(LocalWorkers):
    """Loses a worker in two of three judgments: when columns are gathered, and when they are combined."""

    def __init__(self, cell: CellConfig) -> None:
        self.build = lambda: ShardWorker(cell.model_dump(mode="json"), "cpu", 2, 1 / 3)
        self.exchanges = 0
        super().__init__(3, self.build)

    def exchange(self, blocks: Sequence[slice]) -> ColumnShards:
        self.exchanges += 1
        shards = super().exchange(blocks)
        if self.exchanges % 3 == 1:
            self.lose()
        if self.exchanges % 3 == 2:
            look = shards.map
            looks = iter((look, self.lose))  # for rows that are lost, and for the rule that has drawn its buckets
            shards.map = lambda *work: next(looks)(*work)  # type: ignore[method-assign]
        return shards

    def lose(self, *work: Any) -> Any:
        self.workers[1] = self.build()
        raise LostRowsError("worker 1 is gone")


def test_the_clients_of_a_lost_worker_train_again_and_only_they(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = config(defense=[{"name": "bucketing", "size": 2}, "median"])
    expected = played(cell)[1]
    trained: list[tuple[int, ...]] = []

    def noted(federation: Federation, order: WorkOrder) -> Any:
        trained.append(order.clients)
        return sent_by(federation, order)

    monkeypatch.setattr(worker, "sent_by", noted)
    assert torch.equal(played(cell, 3, Mortal(cell))[1], expected)
    first, second = (0, 1, 2, 3, 4, 5), (6, 7, 8, 9, 10)  # six train together, as in one process of two threads
    assert trained == 2 * [first, second, first, first]


def test_workers_that_are_lost_for_ever_are_an_error() -> None:
    cell = config()
    mortal = Mortal(cell)
    mortal.exchange = lambda blocks: (_ for _ in ()).throw(LostRowsError("gone"))  # type: ignore[method-assign]
    with pytest.raises(LostRowsError):
        played(cell, 3, mortal)


class Largest(TorchDispatchMode):
    """How many floating-point numbers the largest tensor has that an operation gives."""

    numbers = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.is_floating_point():
            self.numbers = max(self.numbers, result.numel())
        return result


def test_nobody_ever_has_all_rows() -> None:
    cell = config(model={"name": "mlp", "hidden": [60]}, defense={"name": "krum", "num_byzantine": 2})
    for count in (0, 3):
        run = federation(cell)
        run.trainer.at_once = 1
        if count:
            run.exchange = ShardedRounds(run, workers(cell, count), alone=True)
        with Largest() as largest:
            next(run.run())
        whole = 11 * run.num_parameters
        assert (largest.numbers >= whole) == (count == 0)
        assert largest.numbers < whole // 2 or count == 0


@pytest.mark.parametrize(
    ("sections", "problem"),
    [
        ({"federation": {"algorithm": "scaffold", "rounds": 1, "local": {"steps": 1, "batch_size": 8, "lr": 0.1}}},
         "Scaffold remembers vectors of its clients"),
        ({"federation": {"algorithm": "feddyn", "rounds": 1, "local": {"steps": 1, "batch_size": 8, "lr": 0.1}}},
         "FedDyn remembers vectors of its clients"),
        ({"federation": {"algorithm": "fedavg", "rounds": 1,
                         "local": {"steps": 1, "batch_size": 8, "lr": 0.1, "worker_momentum": 0.9}}},
         "worker_momentum remembers a vector of every client"),
        ({"defense": [{"name": "prune", "ratio": 0.9, "error_feedback": True}, "mean"]},
         "Prune with error feedback remembers a vector of every client"),
        ({"defense": {"name": "centered_clipping", "radius": 1.0}}, "CenteredClipping looks at whole rows"),
        ({"defense": [{"name": "nnm", "num_byzantine": 2}, {"name": "dnc", "num_byzantine": 2}]},
         "DnC looks at whole rows"),
        ({"attack": {"name": "mimic", "fraction": 0.2}}, "Mimic looks at whole updates"),
        ({"attack": {"name": "alie", "fraction": 0.2, "z": "auto"}}, "ALIE looks at whole updates"),
    ],
)  # fmt: skip
def test_what_needs_whole_rows_is_refused(sections: dict[str, Any], problem: str) -> None:
    cell = config(**sections)
    with pytest.raises(InputError, match=f"^clients of a round on several workers: {problem}.*; expected"):
        ShardedRounds(federation(cell), workers(cell, 0))


def test_observers_see_no_rows() -> None:
    cell = config()
    run = federation(cell)
    run.exchange = ShardedRounds(run, workers(cell, 0))
    run.observers.append(lambda number, clients, rows: None)
    with pytest.raises(InputError, match="an observer looks at whole rows"):
        run.play()


@pytest.mark.parametrize(
    ("count", "at_once", "workers", "sizes"),
    [(11, 1, 3, [3, 4, 4]), (11, 3, 2, [6, 5]), (2, 1, 3, [0, 1, 1]), (10, 4, 3, [4, 4, 2]), (5, 7, 2, [0, 5])],
)
def test_clients_that_train_together_stay_together(count: int, at_once: int, workers: int, sizes: list[int]) -> None:
    blocks = blocks_of_clients(count, at_once, workers)
    assert [place for block in blocks for place in block] == list(range(count))
    assert [len(block) for block in blocks] == sizes
    assert all(block.start % at_once == 0 for block in blocks if len(block))


def test_workers_compute_with_all_digits_in_processes_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else tells a GPU there not to round what clients compute beside their training."""
    inside: list[Any] = []

    @contextmanager
    def exact(device: torch.device) -> Iterator[None]:
        inside.append(device)
        yield
        inside.pop()

    def sent(*_: Any) -> Any:
        assert inside == [CPU]
        return "rows", "report"

    monkeypatch.setattr(worker, "arithmetic", exact)
    monkeypatch.setattr(worker, "sent_by", sent)
    run = federation(config())
    start = run.start([0])
    order = WorkOrder(1, 1, (0,), frozenset(), start, start.statistics, 1)
    assert ShardWorker(config().model_dump(mode="json"), "cpu", 1, 1.0).train(order) == "report"
    assert inside == []
