"""What local training takes, and what is refused before it starts."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from fedsec.data.datasets import Normalization, Split
from fedsec.engine import CohortTrainer, Correction, LocalTraining, ResidentData
from fedsec.engine.batches import plan_batches
from fedsec.engine.memory import StepMemory, activation_bytes, free_bytes
from fedsec.errors import InputError
from fedsec.models import build

CPU = torch.device("cpu")
MIB = 2**20


def resident(device: str = "cpu") -> ResidentData:
    images = torch.zeros((40, 1, 8, 8), dtype=torch.uint8)
    split = Split(images, torch.arange(40) % 4)
    clients = list(np.arange(40).reshape(4, 10))
    return ResidentData.build(split, clients, Normalization((0.5,), (0.25,)), torch.device(device))


def test_activations_are_what_autograd_keeps() -> None:
    """By hand: the flattened image, and the hidden layer once, after ReLU; the loss is no part of it."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.ReLU(), nn.Linear(10, 4))
    assert activation_bytes(module, resident()) == 4 * (64 + 10)


def test_where_not_even_two_examples_fit_the_meta_device_tells_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    module, data = build("resnet20", (1, 8, 8), 4), resident()
    found = activation_bytes(module, data)

    def full(*_: object) -> tuple[Tensor, Tensor]:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(ResidentData, "batch", full)
    assert found == activation_bytes(module, data) > 1000


@given(
    st.integers(1, 10**9), st.integers(0, 3), st.integers(1, 10**8), st.integers(0, 2**40), st.booleans(), st.booleans()
)
def test_the_largest_batch_is_the_last_that_is_not_refused(
    parameters: int, rows: int, example: int, free: int, adam: bool, corrected: bool
) -> None:
    local = LocalTraining(steps=1, batch_size=1, optimizer="adam" if adam else "sgd")
    correction = Correction(0.1) if corrected else None
    step = StepMemory.of(parameters, local, example, correction, rows=rows)
    fits = step.largest_batch(free)
    if fits > 0:
        step.check(fits, CPU, free)
    with pytest.raises(InputError, match="at most" if fits > 0 else "not even one example"):
        step.check(max(fits, 0) + 1, CPU, free)
    step.check(10**9, CPU, None)


def test_vectors_by_hand() -> None:
    """Received, weights, two gradients; momentum; the updates of three clients."""
    local = LocalTraining(steps=1, batch_size=1, momentum=0.9)
    assert StepMemory.of(1000, local, 50, rows=3).fixed == 4 * 1000 * (4 + 1 + 3)
    # The center, the way gone from it, and the shift.
    both = Correction(alpha=1.0, shift=torch.zeros(2, 1000))
    assert StepMemory.of(1000, local, 50, both, rows=3).fixed == 4 * 1000 * (4 + 1 + 3 + 3)


@pytest.mark.parametrize("engine", ["loop", "vectorized"])
def test_too_little_memory_is_bad_input_before_training(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, data = build("cnn", (1, 8, 8), 4), resident()
    local = LocalTraining(steps=2, batch_size=5)
    plans = [plan_batches(c, local, np.random.default_rng(0)) for c in data.clients]
    trainer = CohortTrainer(module, data, engine=engine)  # type: ignore[arg-type]
    step = StepMemory.of(trainer.layout.size, local, activation_bytes(module, data), rows=4)
    for batch in (3, 0):
        free = step.needed(batch) + 1
        monkeypatch.setattr("fedsec.engine.memory.free_bytes", lambda device, free=free: free)
        with pytest.raises(InputError, match="at most 3" if batch else "not even one example fits") as raised:
            trainer.train(trainer.start(module), plans, local)
        assert "batch size 5" in str(raised.value)
        assert f"{trainer.layout.size:,} parameters" in str(raised.value)
    monkeypatch.setattr("fedsec.engine.memory.free_bytes", lambda device: step.needed(5))
    trainer.train(trainer.start(module), plans, local)
    monkeypatch.setattr("fedsec.engine.memory.free_bytes", lambda device: 0)
    trainer.train(trainer.start(module), plans, local)  # asked once: what runs occupies memory itself


def test_free_memory_of_this_machine() -> None:
    found = free_bytes(CPU)
    assert found is None or MIB < found < 2**50
    assert free_bytes(torch.device("meta")) is None
