"""Local steps that are recorded and replayed end where steps that are run end, whatever they consist of."""

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from fedsec.data.augmentation import Augmentation
from fedsec.data.datasets import Normalization, Split
from fedsec.engine import Correction, LocalTraining, ResidentData, Teacher
from fedsec.engine.batches import BatchPlan, plan_batches
from fedsec.engine.cuda_graphs import KEPT, WARM_UP, CapturedSteps, CudaGraphs
from fedsec.engine.loop import LoopWorker
from fedsec.engine.precision import Compute

Program = Callable[[], None]
SHAPE, CLASSES, EXAMPLES = (2, 6, 6), 3, 33
SGD = LocalTraining(epochs=4, batch_size=4, lr=0.1, momentum=0.9, weight_decay=0.01)
SETTINGS = {
    "sgd": LocalTraining(steps=9, batch_size=4, lr=0.1),
    "momentum, ragged": SGD,
    "adam": LocalTraining(epochs=4, batch_size=4, optimizer="adam", lr=0.01, weight_decay=0.01),
    "augmented": replace(SGD, augmentation=Augmentation(crop=2, cutout=2)),
}


class _Notes(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, list[Any]]] = []
        self.made: set[int] = set()
        self.found: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "_local_scalar_dense" in str(func) or "nonzero" in str(func):
            raise RuntimeError("operation not permitted when stream is capturing")
        for tensor in tree_flatten((args, kwargs or {}))[0]:
            if isinstance(tensor, Tensor):
                place = tensor.untyped_storage().data_ptr()
                if place not in self.made and place not in self.found:
                    whole = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
                    self.found[place] = whole, whole.clone()
        out = func(*args, **(kwargs or {}))
        outputs = tree_flatten(out)[0]
        self.made |= {o.untyped_storage().data_ptr() for o in outputs if isinstance(o, Tensor)} - set(self.found)
        self.calls.append((func, args, kwargs or {}, outputs))
        return out


class Replays:
    """Stands in for CUDA graphs on a CPU: notes every operation of a program, undoes them, and repeats them on demand.

    As with a graph, what is repeated are the operations as they were, on the tensors that they were done to: a number
    that Python computed is a constant, and asking for a tensor's value fails.

    Attributes:
        recorded: how many programs were recorded.
        replayed: how many times one of them ran again.
        warmed: how many ran before that.
        forgotten: how often recordings were thrown away.
    """

    def __init__(self) -> None:
        self.recorded = self.replayed = self.warmed = self.forgotten = 0

    def warm_up(self, program: Program) -> None:
        self.warmed += 1
        program()

    def record(self, program: Program) -> Program:
        notes = _Notes()
        try:
            with notes:
                program()
        finally:
            for whole, before in notes.found.values():
                whole.copy_(before)
        self.recorded += 1

        def replay() -> None:
            self.replayed += 1
            made: dict[int, Any] = {}
            with torch.no_grad():
                for func, args, kwargs, outputs in notes.calls:
                    again = tree_map(lambda x: made.get(id(x), x) if isinstance(x, Tensor) else x, (args, kwargs))
                    out = tree_flatten(func(*again[0], **again[1]))[0]
                    made.update({id(old): new for old, new in zip(outputs, out, strict=True)})

        return replay

    def forget(self) -> None:
        self.forgotten += 1


class Normalized(nn.Sequential):
    """Convolutions and batch normalization, one layer of it with a plain average."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(2, 4, 3, padding=1),
            nn.BatchNorm2d(4, momentum=0.3),
            nn.ReLU(),
            nn.Conv2d(4, 4, 3, padding=1),
            nn.BatchNorm2d(4, affine=False, momentum=None),
            nn.Flatten(),
            nn.Linear(144, CLASSES),
        )


def resident() -> ResidentData:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (EXAMPLES, *SHAPE), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, CLASSES, (EXAMPLES,), generator=generator)
    clients = [np.arange(11), np.arange(11, 23), np.arange(23, 33)]
    return ResidentData.build(Split(images, labels), clients, Normalization((0.4,), (0.3,)), torch.device("cpu"))


def teacher(seed: int = 1, weight: float = 0.8) -> Teacher:
    generator = torch.Generator().manual_seed(seed)
    known = torch.rand(EXAMPLES, generator=generator) < 0.7
    return Teacher(3 * torch.randn(EXAMPLES, CLASSES, generator=generator), known, temperature=3.0, weight=weight)


def plans(data: ResidentData, local: LocalTraining, seed: int = 0) -> list[BatchPlan]:
    return [
        plan_batches(c, local, np.random.default_rng((seed, i)), data.image_size) for i, c in enumerate(data.clients)
    ]


def worker(data: ResidentData, recorder: Replays | None, module: nn.Module | None = None, **more: Any) -> LoopWorker:
    torch.manual_seed(0)
    return LoopWorker(module or Normalized(), data, recorder=recorder, **more)


def trained(
    made: LoopWorker,
    local: LocalTraining,
    taught: Teacher | None = None,
    seed: int = 0,
    correction: Correction | None = None,
) -> list[Tensor]:
    torch.manual_seed(0)
    module = Normalized() if made.statistics.numel() else Stubborn()
    start, statistics = made.layout.flatten(module), made.statistics_layout.flatten(module)
    own = [None if correction is None else correction.rows([client]) for client in range(len(made.data.clients))]
    cohort = zip(plans(made.data, local, seed), own, strict=True)
    rows = [made.train(start, statistics, plan, local, taught, corrected) for plan, corrected in cohort]
    return [torch.stack([row for row, _ in rows]), torch.stack([row for _, row in rows])]


def same(found: list[Tensor], expected: list[Tensor]) -> None:
    assert expected[0].abs().max() > 1e-2
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize(("taught", "cumulative"), [(False, False), (True, True)])
@pytest.mark.parametrize("name", SETTINGS)
def test_a_replayed_client_ends_where_a_trained_one_does(name: str, taught: bool, cumulative: bool) -> None:
    data, local, recorder = resident(), SETTINGS[name], Replays()
    given = teacher() if taught else None
    expected = trained(worker(data, None, cumulative=cumulative), local, given)
    made = worker(data, recorder, cumulative=cumulative)
    same(trained(made, local, given), expected)
    sizes = {size for plan in plans(data, local) for size in plan.sizes.tolist()}
    steps = sum(plan.steps for plan in plans(data, local))
    assert 1 <= recorder.recorded <= len(sizes)
    assert recorder.warmed + recorder.replayed == steps
    assert recorder.replayed > steps // 2
    same(trained(made, local, given), expected)  # by replays alone, where another client left off
    assert made.recording


@pytest.mark.parametrize("compute", [Compute("bf16"), Compute(memory_format="channels_last")])
def test_recordings_keep_precision_and_memory_format(compute: Compute) -> None:
    data = resident()
    expected = trained(worker(data, None, compute=compute), SGD)
    assert not torch.equal(expected[0], trained(worker(data, None), SGD)[0]) or compute.channels_last
    same(trained(worker(data, Replays(), compute=compute), SGD), expected)


def test_recordings_follow_what_others_replace() -> None:
    """Poisoned clients get images and labels of their own, teachers change every round, and settings may."""
    data, recorder = resident(), Replays()
    made = worker(data, recorder)
    trained(made, SGD, teacher())
    before = recorder.recorded
    same(trained(made, SGD, teacher(2), seed=1), trained(worker(data, None), SGD, teacher(2), seed=1))
    assert recorder.recorded == before  # another teacher of the same shape is no other program
    data.replace_labels(1, (data.client_examples(1)[1] + 1) % CLASSES)
    longer = Teacher(torch.zeros(len(data.label_of), CLASSES), torch.ones(len(data.label_of), dtype=torch.bool))
    same(trained(made, SGD, longer), trained(worker(data, None), SGD, longer))
    assert recorder.recorded > before
    for changed in (replace(SGD, lr=0.05), SETTINGS["adam"], SGD):
        same(trained(made, changed), trained(worker(data, None), changed))


def test_recorded_steps_read_each_client_s_correction() -> None:
    data, recorder = resident(), Replays()
    made = worker(data, recorder)
    size, generator = made.layout.size, torch.Generator().manual_seed(3)
    plain = trained(worker(data, None), SGD)[0]
    for _ in range(2):  # new tensors of the same kind, as in every round
        shift, center = (torch.randn(3, size, generator=generator) for _ in range(2))
        for correction in (Correction(shift=shift), Correction(0.7), Correction(0.7, center[0], shift)):
            expected = trained(worker(data, None), SGD, correction=correction)
            same(trained(made, SGD, correction=correction), expected)
            assert (expected[0] - plain).abs().max() > 1e-3
        same(trained(made, SGD), trained(worker(data, None), SGD))
    assert recorder.replayed > recorder.recorded


def test_a_client_that_diverged_leaves_the_next_one_alone() -> None:
    data = resident()
    made, plan = worker(data, Replays()), plans(data, SGD)[0]
    start, statistics = made.layout.flatten(Normalized()), made.statistics.clone()
    expected = worker(data, None).train(start, statistics, plan, SGD)
    broken = made.train(torch.full_like(start, torch.nan), statistics, plan, SGD)
    assert broken[0].isnan().all()
    same(list(made.train(start, statistics, plan, SGD)), list(expected))


class Stubborn(nn.Module):
    """Looks at its own outputs, which no recording can."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(72, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.linear(images.flatten(1))
        return out * 2 if out.sum() > 0 else out


def test_what_cannot_be_recorded_runs_step_by_step_and_says_why() -> None:
    data, local = resident(), replace(SGD, batch_size=5)
    torch.manual_seed(0)
    module = Stubborn()
    made = worker(data, Replays(), module)
    same(trained(made, local), trained(worker(data, None, module), local))
    assert not made.recording
    assert "capturing" in made.problem


def test_a_rule_that_changes_is_another_program_wherever_the_teacher_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that one teacher gave back may be where the next one lies."""
    data, place = resident(), teacher()

    def again(given: Teacher) -> Teacher:
        place.logits.copy_(given.logits), place.known.copy_(given.known)
        return replace(given, logits=place.logits, known=place.known)

    monkeypatch.setattr("fedsec.engine.loop._copy", again)
    made, rule = worker(data, Replays()), teacher(2)
    for changed in (rule, replace(rule, temperature=1.0), replace(rule, temperature=1.0, weight=0.1)):
        expected = trained(worker(data, None), SGD, changed)
        for _ in range(2):
            same(trained(made, SGD, changed), expected)


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_worker_is_freed_with_its_last_reference(stubborn: bool) -> None:
    """Not when Python next looks for cycles: it holds a model, its gradients and, on a GPU, graphs."""
    data = resident()
    made = worker(data, Replays(), Stubborn() if stubborn else None)
    trained(made, replace(SGD, batch_size=5))
    assert made.recording != stubborn
    kept = weakref.ref(made)
    gc.disable()
    try:
        del made
        assert kept() is None
    finally:
        gc.enable()


def counting(total: Tensor) -> Callable[[Tensor, Tensor | None], None]:
    def step(examples: Tensor, views: Tensor | None) -> None:
        total.add_(examples.sum())

    return step


def test_recordings_are_bounded_and_none_is_exchanged_for_another() -> None:
    """As for clients of many sizes: those that are recorded stay so, the others run as they are, and nothing waits.

    They run where recorded ones do before they are: on a stream whose workspace no other worker's graph uses.
    """
    recorder, total = Replays(), torch.zeros(())
    steps, step, rounds = CapturedSteps(recorder), counting(total), WARM_UP + 3
    for _ in range(rounds):
        for size in range(1, 32):
            steps.run(step, "kind", torch.ones(size, dtype=torch.int64), None)
    assert recorder.recorded == KEPT
    assert recorder.replayed == 3 * KEPT
    assert recorder.warmed == 31 * rounds - 3 * KEPT
    assert recorder.forgotten == 0
    assert total == rounds * sum(range(1, 32))


def test_recordings_of_another_kind_go_all_at_once() -> None:
    recorder, total = Replays(), torch.zeros(())
    steps, step = CapturedSteps(recorder), counting(total)
    for kind in ("one", "other", "one"):
        for _ in range(WARM_UP + 2):
            for size in range(1, KEPT + 1):
                steps.run(step, kind, torch.ones(size, dtype=torch.int64), None)
    assert (recorder.recorded, recorder.forgotten) == (3 * KEPT, 2)
    assert total == 3 * (WARM_UP + 2) * sum(range(1, KEPT + 1))


class BreaksOff(Replays):
    """A capture that complains about its own end, as CUDA's does."""

    def record(self, program: Program) -> Program:
        try:
            raise ZeroDivisionError("the model's own\nmistake")
        finally:
            raise RuntimeError("the capture was invalidated")


def test_the_problem_is_what_broke_a_recording_off() -> None:
    recorder, total = BreaksOff(), torch.zeros(())
    steps = CapturedSteps(recorder)
    for _ in range(WARM_UP + 3):
        steps.run(counting(total), "kind", torch.ones(2, dtype=torch.int64), None)
    assert steps.problem == "ZeroDivisionError: the model's own"
    assert recorder.forgotten == 1  # what is left of it goes
    assert total == 2 * (WARM_UP + 3)


class Device:
    """Stands in for torch.cuda: its current stream, and what a capture is asked for.

    As in PyTorch up to 2.11, a capture that fails complains at its end and leaves its stream the current one.
    """

    def __init__(self) -> None:
        self.current: Any = "main"
        self.captures: list[tuple[Any, Any, Any]] = []
        self.handles = self.waits = 0

    def graph_pool_handle(self) -> int:
        self.handles += 1
        return self.handles

    def synchronize(self, device: Any) -> None:
        self.waits += 1

    @contextmanager
    def stream(self, stream: Any) -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def graph(self, graph: Any, pool: Any = None, stream: Any = "common") -> Iterator[None]:
        before, self.current = self.current, stream
        self.captures.append((pool, stream, before))
        try:
            yield
        except Exception:
            raise RuntimeError("the capture was invalidated")  # noqa: B904
        self.current = before


def test_graphs_are_captured_on_a_stream_of_their_own_and_no_pool_is_used_after_its_graphs_went(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = Device()
    for name in ("graph_pool_handle", "synchronize", "stream", "graph"):
        monkeypatch.setattr(torch.cuda, name, getattr(fake, name))
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: "side")
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: type("Graph", (), {"replay": lambda self: None})())
    recorder = CudaGraphs(torch.device("cuda"))

    def program() -> None:
        raise ZeroDivisionError

    recorder.record(lambda: None)
    recorder.record(lambda: None)
    assert fake.waits == 0
    with pytest.raises(RuntimeError, match="invalidated") as caught:
        recorder.record(program)
    assert isinstance(caught.value.__context__, ZeroDivisionError)
    assert fake.current == "main"
    recorder.forget()
    recorder.record(lambda: None)
    pools = [pool for pool, _, _ in fake.captures]
    assert pools[0] == pools[1] == pools[2] != pools[3]
    assert {stream for _, stream, _ in fake.captures} == {"side"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.parametrize("taught", [False, True])
@pytest.mark.parametrize("name", SETTINGS)
def test_cuda_graphs_agree_with_launches(name: str, taught: bool) -> None:
    from fedsec.engine import CohortTrainer

    cpu, local = resident(), SETTINGS[name]
    split = Split(cpu.images, cpu.label_of)
    data = ResidentData.build(split, cpu.clients, cpu.normalization, torch.device("cuda"))
    module, given = Normalized(), teacher() if taught else None
    if given is not None:
        given = replace(given, logits=given.logits.cuda(), known=given.known.cuda())
    found = []
    for graphs in (True, False):
        trainer = CohortTrainer(module, data, engine="loop", compute=Compute(cuda_graphs=graphs))
        trainer.train(trainer.start(module), plans(data, local), local, given)
        found.append(trainer.train(trainer.start(module), plans(data, local), local, given))
        assert ("CUDA graphs" in trainer.used) == graphs, trainer.reason
    torch.testing.assert_close(found[0].updates, found[1].updates, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found[0].statistics, found[1].statistics, rtol=1e-3, atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_cuda_capture_of_a_model_that_waits_falls_back() -> None:
    from fedsec.engine import CohortTrainer

    cpu, local = resident(), replace(SGD, batch_size=5)
    data = ResidentData.build(Split(cpu.images, cpu.label_of), cpu.clients, cpu.normalization, torch.device("cuda"))
    module = Stubborn()
    rows = []
    for graphs in (True, False):
        trainer = CohortTrainer(module, data, engine="loop", compute=Compute(cuda_graphs=graphs))
        rows.append(trainer.train(trainer.start(module), plans(data, local), local).updates)
        assert ("no CUDA graphs" in trainer.reason) == graphs
    torch.testing.assert_close(*rows, rtol=1e-3, atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_cuda_graphs_are_made_anew_when_the_rate_changes() -> None:
    from fedsec.engine import CohortTrainer

    cpu = resident()
    data = ResidentData.build(Split(cpu.images, cpu.label_of), cpu.clients, cpu.normalization, torch.device("cuda"))
    module = Normalized()
    trainers = [CohortTrainer(module, data, engine="loop", compute=Compute(cuda_graphs=g)) for g in (True, False)]
    for lr in (0.1, 0.05, 0.2, 0.1):
        local = replace(SGD, lr=lr)
        for _ in range(2):
            rows = [trainer.train(trainer.start(module), plans(data, local), local).updates for trainer in trainers]
            assert "CUDA graphs" in trainers[0].used, trainers[0].reason
            torch.testing.assert_close(*rows, rtol=1e-3, atol=1e-4)
