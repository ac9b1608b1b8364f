"""Precision and memory format: what they change, what they must not, and that they are put back."""

import threading
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedsec.arithmetic import _switches
from fedsec.data.datasets import Normalization, Split
from fedsec.engine import CohortTrainer, LocalTraining, ResidentData
from fedsec.engine.batches import plan_batches
from fedsec.engine.flat_parameters import FlatParameters
from fedsec.engine.optimizers import optimizer
from fedsec.engine.parameters import ParameterLayout
from fedsec.engine.precision import Compute
from fedsec.errors import InputError
from fedsec.metrics.evaluation import evaluate
from fedsec.tasks import Classification

SHAPE, CLASSES = (2, 6, 6), 3
LOCAL = LocalTraining(epochs=3, batch_size=4, lr=0.1, momentum=0.9, weight_decay=0.01)
CPU = torch.device("cpu")


class Net(nn.Sequential):
    """Convolutions of both kinds, batch and group normalization."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(2, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 4, 1),
            nn.GroupNorm(2, 4),
            nn.Conv2d(4, 4, 3),
            nn.Flatten(),
            nn.Linear(64, CLASSES),
        )


class Viewing(nn.Module):
    """Takes it for granted how images lie in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.linear = nn.Conv2d(2, 4, 3, padding=1), nn.Linear(144, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.linear(self.convolution(images).view(len(images), -1))
        return out


def world() -> tuple[nn.Module, ResidentData]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (20, *SHAPE), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, CLASSES, (20,), generator=generator)
    clients = [np.arange(11), np.arange(11, 20)]
    torch.manual_seed(0)
    return Net(), ResidentData.build(Split(images, labels), clients, Normalization((0.4,), (0.3,)), CPU)


def trained(engine: str, compute: Compute | None) -> tuple[CohortTrainer, Tensor, Tensor]:
    module, data = world()
    trainer = CohortTrainer(module, data, engine=engine, compute=compute)  # type: ignore[arg-type]
    cohort = [plan_batches(c, LOCAL, np.random.default_rng(i)) for i, c in enumerate(data.clients)]
    found = trainer.train(trainer.start(module), cohort, LOCAL)
    return trainer, found.updates, found.statistics


@pytest.mark.parametrize(("name", "value"), [("precision", "fp16"), ("memory_format", "nhwc")])
def test_unknown_settings_are_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(InputError, match=f"engine: {name} must be one of .*{value}"):
        Compute(**{name: value})  # type: ignore[arg-type]


def test_channels_last_changes_nothing_but_the_order_of_sums() -> None:
    trainer, updates, statistics = trained("loop", Compute(memory_format="channels_last"))
    _, expected, kept = trained("loop", None)
    assert trainer.used == "loop, channels_last"
    assert expected.abs().max() > 1e-2
    torch.testing.assert_close(updates, expected, rtol=1e-3, atol=2e-5)
    torch.testing.assert_close(statistics, kept, rtol=1e-4, atol=1e-5)
    weight = trainer._loops._workers[0].module[0].weight  # type: ignore[index]
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()


def test_gradients_and_recalibration_come_out_in_the_layout_s_order() -> None:
    module, data = world()
    trainers = [CohortTrainer(module, data, compute=c) for c in (Compute(memory_format="channels_last"), None)]
    start = trainers[0].start(module)
    rows = [trainer.gradients(start, [0, 1]).updates for trainer in trainers]
    torch.testing.assert_close(*rows, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(*[t.recalibrated(start.parameters, [1]) for t in trainers], rtol=1e-4, atol=1e-6)


def test_what_a_channels_last_vector_takes_it_gives_back() -> None:
    module, _ = world()
    layout = ParameterLayout.of(module)
    held = FlatParameters(module, layout, channels_last=True)
    vector = torch.arange(float(layout.size))
    held.write(vector)
    assert all(torch.equal(held.tensors[i], view) for i, view in enumerate(layout.views(vector).values()))
    again = torch.empty_like(vector)
    held.read(again)
    assert torch.equal(again, vector)
    assert not torch.equal(held.flat, vector)
    assert torch.equal(held.gather(list(layout.views(vector).values()), torch.empty_like(vector)), held.flat)


def test_auto_is_contiguous_on_a_cpu_and_a_model_that_cannot_is_refused_where_it_was_asked_for() -> None:
    module, data = world()
    assert trained("loop", Compute("bf16"))[0].compute.memory_format == "contiguous"
    with pytest.raises(InputError, match=r"channels_last .*view.*; expected contiguous"):
        CohortTrainer(Viewing(), data, compute=Compute(memory_format="channels_last"))
    images, _ = data.batch(torch.arange(2))
    assert Compute("tf32").resolved(module, images.to("meta")).memory_format == "contiguous"


@pytest.mark.parametrize(("precision", "wanted"), [("fp32", "contiguous"), ("tf32", "channels_last")])
def test_auto_on_a_gpu(monkeypatch: pytest.MonkeyPatch, precision: Any, wanted: str) -> None:
    """A device that says it is a GPU: the choice looks at nothing else, unless the model cannot take it."""
    module = Net()

    class Elsewhere:
        device = torch.device("cuda")

    seen: list[nn.Module] = []
    monkeypatch.setattr("fedsec.engine.precision._why_not_channels_last", lambda m, i: seen.append(m) or "")
    assert Compute(precision).resolved(module, Elsewhere()).memory_format == wanted  # type: ignore[arg-type]
    assert len(seen) == (wanted == "channels_last")
    assert Compute(precision).resolved(nn.Linear(2, 2), Elsewhere()).memory_format == "contiguous"  # type: ignore[arg-type]
    monkeypatch.setattr("fedsec.engine.precision._why_not_channels_last", lambda m, i: "no")
    assert Compute(precision).resolved(module, Elsewhere()).memory_format == "contiguous"  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", ["loop", "vectorized"])
def test_bf16_is_close_and_keeps_everything_else_in_float32(engine: str) -> None:
    trainer, updates, statistics = trained(engine, Compute("bf16"))
    _, expected, kept = trained(engine, None)
    assert trainer.used.endswith("bf16")
    assert updates.dtype == statistics.dtype == torch.float32
    away = (updates - expected).norm() / expected.norm()
    assert 1e-4 < away < 0.2
    assert 1e-6 < (statistics - kept).norm() / kept.norm() < 0.02
    # bfloat16 has 8 bits of mantissa; float32 sums have more.
    assert (updates != updates.bfloat16().float()).float().mean() > 0.9
    assert (statistics != statistics.bfloat16().float()).float().mean() > 0.5


def test_tf32_on_a_cpu_says_that_it_is_fp32() -> None:
    trainer, updates, _ = trained("loop", Compute("tf32"))
    assert torch.equal(updates, trained("loop", None)[1])
    assert trainer.reason == "tf32 computes in fp32 on a CPU"
    assert trained("vectorized", Compute(memory_format="channels_last"))[0].reason.startswith("stacked models")


@pytest.mark.parametrize(("precision", "allowed"), [("fp32", False), ("tf32", True), ("bf16", False)])
def test_the_process_s_switches_are_set_and_put_back(precision: Any, allowed: bool) -> None:
    def values() -> list[Any]:
        return [getattr(owner, name) for owner, name in _switches()]

    def fail() -> None:
        with Compute(precision).arithmetic(torch.device("cuda")):
            assert {value in (True, "tf32") for value in values()} == {allowed}
            raise ZeroDivisionError

    before = values()
    with pytest.raises(ZeroDivisionError):
        fail()
    assert values() == before
    with Compute(precision).arithmetic(CPU):
        assert values() == before


def test_training_computes_inside_its_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    module, data = world()
    inside = threading.Event()

    class Marked:
        def __enter__(self) -> None:
            inside.set()

        def __exit__(self, *_: object) -> None:
            inside.clear()

    def marked(self: Compute, device: torch.device) -> AbstractContextManager[Any]:
        return Marked()

    calls: list[bool] = []
    module.register_forward_pre_hook(lambda *_: calls.append(inside.is_set()))
    monkeypatch.setattr(Compute, "arithmetic", marked)
    trainer = CohortTrainer(module, data, engine="loop")
    start = trainer.start(module)
    calls.clear()
    trainer.train(start, [plan_batches(data.clients[0], LOCAL, np.random.default_rng(0))], LOCAL)
    trainer.gradients(start, [0])
    trainer.recalibrated(start.parameters, [0])
    evaluate(module, data.images, data.label_of, data.normalization, Classification(CLASSES), compute=trainer.compute)
    assert len(calls) == 9 + 3
    assert all(calls)


@pytest.mark.parametrize("compute", [Compute("bf16"), Compute(memory_format="channels_last"), Compute("tf32")])
def test_evaluation_as_the_engine_computes(compute: Compute) -> None:
    module, data = world()
    there = data.images, data.label_of, data.normalization, Classification(CLASSES)
    plain, found = evaluate(module, *there), evaluate(module, *there, compute=compute)
    assert found.metrics["loss"] == pytest.approx(plain.metrics["loss"], rel=1e-2)
    assert (found.metrics["loss"] != plain.metrics["loss"]) == (compute.precision == "bf16") or compute.channels_last


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("decay", [0.0, 0.03])
@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_optimizers_are_pytorch_s(name: Any, decay: float, momentum: float) -> None:
    momentum = 0.0 if name == "adam" else momentum
    local = LocalTraining(steps=1, batch_size=1, optimizer=name, lr=0.02, momentum=momentum, weight_decay=decay)
    generator = torch.Generator().manual_seed(0)
    start, gradients = (torch.randn(shape, generator=generator) for shape in ((3, 50), (30, 3, 50)))
    rows, vector = start.clone(), start[1].clone()
    theirs = start.clone().requires_grad_()
    if name == "adam":
        oracle: torch.optim.Optimizer = torch.optim.Adam([theirs], lr=0.02, weight_decay=decay)
    else:
        oracle = torch.optim.SGD([theirs], lr=0.02, momentum=momentum, weight_decay=decay)
    ours, alone = optimizer(rows, local), optimizer(vector, local)
    alone.step(torch.ones(50))
    vector.copy_(start[1])
    alone.reset()
    for step, gradient in enumerate(gradients):
        if step == 10:
            ours.lr = alone.lr = oracle.param_groups[0]["lr"] = 0.005
        ours.step(gradient[: 3 if step < 20 else 2].clone())  # the last row stops early
        alone.step(gradient[1].clone())
        theirs.grad = gradient.clone()
        oracle.step()
        if step == 19:
            torch.testing.assert_close(rows, theirs.detach(), rtol=1e-5, atol=1e-6)
            kept = rows[2].clone()
    torch.testing.assert_close(rows[:2], theirs.detach()[:2], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(vector, theirs.detach()[1], rtol=1e-5, atol=1e-6)
    assert torch.equal(rows[2], kept)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_precisions_on_a_gpu_are_as_far_apart_as_their_digits(precision: Any) -> None:
    module, cpu = world()
    data = ResidentData.build(Split(cpu.images, cpu.label_of), cpu.clients, cpu.normalization, torch.device("cuda"))
    cohort = [plan_batches(c, LOCAL, np.random.default_rng(i)) for i, c in enumerate(data.clients)]
    trainer = CohortTrainer(module, data, engine="loop", compute=Compute(precision))
    found = trainer.train(trainer.start(module), cohort, LOCAL).updates.cpu()
    expected = trained("loop", None)[1]
    limit = {"fp32": 1e-3, "tf32": 0.05, "bf16": 0.3}[precision]
    assert (found - expected).norm() / expected.norm() < limit
    assert trainer.compute.channels_last == (precision != "fp32")
