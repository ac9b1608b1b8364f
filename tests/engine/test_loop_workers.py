"""Clients that train at the same time on a GPU's streams end where they end one after another."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedsec.engine import CohortTrainer, LocalTraining, ResidentData, loop_workers, trainer
from fedsec.engine.choice import CUDA_STACKED_PARAMETERS, choose
from fedsec.engine.loop import LoopWorker
from fedsec.engine.loop_workers import LoopWorkers
from fedsec.engine.precision import Compute
from fedsec.engine.streams import take_turns
from tests.engine.test_cuda_graphs import SGD, Normalized, Replays, plans, resident

CUDA = torch.device("cuda")


class Streams:
    """Stands in for a device's streams: notes who waits for whom, and where work goes."""

    def __init__(self) -> None:
        self.names, self.place = iter("abcdefgh"), Stream("main", self)
        self.events: list[str] = []

    def make(self) -> Any:
        return Stream(next(self.names), self)

    def current(self) -> Any:
        return self.place

    @contextmanager
    def use(self, stream: Any) -> Iterator[None]:
        before, self.place = self.place, stream
        try:
            yield
        finally:
            self.place = before


class Stream:
    def __init__(self, name: str, streams: Streams) -> None:
        self.name, self.streams = name, streams

    def wait_stream(self, stream: Any) -> None:
        self.streams.events.append(f"{self.name} waits for {stream.name}")


def test_workers_take_turns_and_the_rest_waits_for_all_of_them() -> None:
    streams = Streams()

    def work(worker: str, item: int) -> int:
        streams.events.append(f"{worker} does {item} on {streams.place.name}")
        return 10 * item

    assert take_turns(streams, ["first", "second"], work, [1, 2, 3]) == [10, 20, 30]
    assert streams.events == [
        *("a waits for main", "b waits for main"),
        *("first does 1 on a", "second does 2 on b", "first does 3 on a"),
        *("main waits for a", "main waits for b"),
    ]


def test_what_is_under_way_is_waited_for_where_one_fails() -> None:
    streams = Streams()

    def work(worker: str, item: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        take_turns(streams, ["first"], work, [1])
    assert streams.events == ["a waits for main", "main waits for a"]
    assert streams.place.name == "main"


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> list[Replays]:
    """A recorder and streams in place of CUDA's; gives the recorders that were made."""
    made: list[Replays] = []

    def recorder(device: torch.device, others: Any) -> Replays:
        assert list(others) == made[len(made) - len(others) :]  # those whose graphs may run at the same time
        made.append(Replays())
        return made[-1]

    monkeypatch.setattr(loop_workers, "CudaGraphs", recorder)
    monkeypatch.setattr(loop_workers, "CudaStreams", lambda device: Streams())
    return made


def test_clients_in_flight_end_where_they_end_one_after_another(pretended: list[Replays]) -> None:
    data, module = resident(), Normalized()
    cohort = plans(data, SGD)

    def updates(in_flight: int) -> Tensor:
        workers = LoopWorkers(partial(LoopWorker, module, data), CUDA, threads=1, records=True)
        start = workers.run(lambda worker, _: (worker.layout.flatten(module), worker.statistics.clone()), [0])[0]
        rows = workers.run(lambda worker, plan: worker.train(*start, plan, SGD)[0], cohort, in_flight)
        assert workers.recording
        return torch.stack(rows)

    expected = updates(1)
    assert len(pretended) == 1
    assert torch.equal(updates(2), expected)
    assert [recorder.replayed > 0 for recorder in pretended] == [True] * 3


def test_how_many_are_in_flight(pretended: list[Replays]) -> None:
    make = partial(LoopWorker, Normalized(), resident())
    on_gpu = LoopWorkers(make, CUDA, threads=1, records=True)
    most = loop_workers.CLIENTS_IN_FLIGHT
    assert on_gpu.in_flight(100, 10, 10_000) == most
    assert on_gpu.in_flight(3, 10, 10_000) == 3
    assert on_gpu.in_flight(100, 10, 25) == 2
    assert on_gpu.in_flight(100, 10, 5) == 1
    for others in (
        LoopWorkers(make, torch.device("cpu"), threads=1, records=True),
        LoopWorkers(make, CUDA, threads=1, records=False),
    ):
        assert others.in_flight(100, 10, 10_000) == 1


def test_a_gpu_stacks_small_models_only_where_it_replays_nothing() -> None:
    trial = CohortTrainer(nn.Sequential(nn.Flatten(), nn.Linear(72, 3)), resident()).trial

    def engine(asked: Any = "auto", parameters: int = 999, room: bool = True, replays: bool = False) -> str:
        return choose(asked, trial, parameters, room, CUDA, lambda: "", replays=replays)[0]

    assert engine(replays=True) == "loop"
    assert engine("vectorized", replays=True) == "vectorized"
    assert engine() == "auto"
    assert engine(parameters=CUDA_STACKED_PARAMETERS) == engine(room=False) == "loop"


class Counting(nn.Module):
    """Replaces a buffer in each step."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            self.steps = self.steps + 1
        return images


def test_what_draws_or_replaces_buffers_is_not_recorded_and_memory_bounds_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorded: list[bool] = []
    bounds: list[tuple[int, int, int]] = []

    class Spied(LoopWorkers):
        def __init__(self, *arguments: Any, records: bool, **more: Any) -> None:
            super().__init__(*arguments, records=records, **more)
            recorded.append(records)

        def in_flight(self, clients: int, memory: int, budget: int) -> int:
            bounds.append((clients, memory, budget))
            return super().in_flight(clients, memory, budget)

    monkeypatch.setattr(trainer, "LoopWorkers", Spied)
    data, head = resident(), nn.Sequential(nn.Flatten(), nn.Linear(72, 3))
    for part in (nn.Identity(), nn.Dropout(), Counting()):
        CohortTrainer(nn.Sequential(part, head), data)
    CohortTrainer(head, data, compute=Compute(cuda_graphs=False))
    assert recorded == [True, False, False, False]
    cohort = CohortTrainer(head, data, engine="loop", memory_gib=1.0)
    local = LocalTraining(steps=1, batch_size=4, lr=0.1)
    cohort.train(cohort.start(head), plans(data, local), local)
    ((clients, memory, budget),) = bounds
    assert (clients, budget) == (3, 2**30)
    assert memory > 4 * 4 * cohort.layout.size  # what was received, the weights, and the gradient twice


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_cuda_clients_in_flight_have_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    from fedsec.data.datasets import Split

    torch.manual_seed(0)
    cpu = resident()
    data = ResidentData.build(Split(cpu.images, cpu.label_of), cpu.clients, cpu.normalization, CUDA)
    module = nn.Sequential(nn.Flatten(), nn.Linear(72, 300), nn.ReLU(), nn.Linear(300, 3))
    local = LocalTraining(steps=12, batch_size=4, lr=0.1, momentum=0.9)
    rows = []
    for count in (1, 3):
        monkeypatch.setattr(loop_workers, "CLIENTS_IN_FLIGHT", count)
        cohort = CohortTrainer(module, data, engine="loop", compute=Compute())
        for _ in range(2):
            updates = cohort.train(cohort.start(module), plans(data, local) * 4, local).updates
        assert ("clients at once" in cohort.used) == (count > 1), cohort.used
        rows.append(updates.cpu())
    assert torch.equal(*rows)
