"""Batch plans: which examples a client trains on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsec.data.augmentation import Augmentation
from fedsec.engine.batches import Noise, plan_batches
from fedsec.engine.local_training import LocalTraining
from fedsec.errors import InputError
from fedsec.privacy import PrivateTraining


@given(count=st.integers(1, 40), epochs=st.integers(1, 3), batch=st.integers(1, 50), seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=30)
def test_every_epoch_sees_every_example_once(count: int, epochs: int, batch: int, seed: int) -> None:
    examples = np.arange(count) * 3 + 7
    plan = plan_batches(examples, LocalTraining(epochs=epochs, batch_size=batch), np.random.default_rng(seed))
    seen = [plan.examples[step, :size] for step, size in enumerate(plan.sizes)]
    per_epoch = plan.steps // epochs
    assert per_epoch * epochs == plan.steps
    for epoch in range(epochs):
        one = np.concatenate(seen[epoch * per_epoch : (epoch + 1) * per_epoch])
        assert sorted(one) == sorted(examples)


@given(count=st.integers(1, 40), steps=st.integers(1, 30), batch=st.integers(1, 50), seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=30)
def test_steps_are_full_batches_and_use_examples_evenly(count: int, steps: int, batch: int, seed: int) -> None:
    plan = plan_batches(np.arange(count), LocalTraining(steps=steps, batch_size=batch), np.random.default_rng(seed))
    assert plan.examples.shape == (steps, min(batch, count))
    assert (plan.sizes == min(batch, count)).all()
    uses = np.bincount(plan.examples.reshape(-1), minlength=count)
    assert uses.max() - uses.min() <= 1


def test_batch_fraction_is_a_share_of_the_clients_own_examples() -> None:
    local = LocalTraining(steps=1, batch_fraction=0.1)
    assert [local.batch_of(n) for n in (3000, 30, 29, 5)] == [300, 3, 2, 1]


def test_the_same_stream_gives_the_same_plan() -> None:
    local = LocalTraining(epochs=2, batch_size=4)
    one, two = (plan_batches(np.arange(11), local, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(one.examples, two.examples)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"steps": 1},
        {"steps": 1, "epochs": 1, "batch_size": 1},
        {"steps": 1, "batch_size": 1, "batch_fraction": 0.5},
        {"steps": 0, "batch_size": 1},
        {"steps": 1, "batch_size": 0},
        {"steps": 1, "batch_fraction": 1.5},
        {"steps": 1, "batch_size": 1, "lr": 0.0},
        {"steps": 1, "batch_size": 1, "lr": float("nan")},
        {"steps": 1, "batch_size": 1, "momentum": 1.0},
        {"steps": 1, "batch_size": 1, "optimizer": "adam", "momentum": 0.9},
        {"steps": 1, "batch_size": 1, "optimizer": "lion"},
    ],
)
def test_impossible_local_training_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(InputError):
        LocalTraining(**settings)  # type: ignore[arg-type]


@given(count=st.integers(2, 30), absent=st.integers(0, 30), seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=20)
def test_slots_of_absent_examples_stay_empty_and_nothing_else_moves(count: int, absent: int, seed: int) -> None:
    """The oracle fills a batch by hand; views stay with their examples."""
    local = LocalTraining(
        steps=4, batch_size=max(1, count // 2), private=PrivateTraining(1.0), augmentation=Augmentation(flip=True)
    )
    examples = np.arange(count) * 3 + 7
    plan = plan_batches(examples, local, np.random.default_rng(seed), (2, 2), noise=Noise(1.0, 5))
    assert plan.views is not None
    plan.views[..., 0] = plan.examples  # so that they can be told
    gone = examples[:absent]
    left = plan.without(gone)
    assert left.views is not None
    for step, size in enumerate(plan.sizes):
        expected = [number for number in plan.examples[step, :size] if number not in gone]
        assert left.examples[step, : left.sizes[step]].tolist() == expected
        assert left.views[step, : left.sizes[step], 0].tolist() == expected
    assert (left.expected, left.noise, left.steps) == (plan.expected, plan.noise, plan.steps)


def test_batches_of_ordinary_training_have_no_slots() -> None:
    plan = plan_batches(np.arange(4), LocalTraining(steps=1, batch_size=2), np.random.default_rng(0))
    assert plan.without(np.zeros(0, np.int64)) is plan
    with pytest.raises(InputError, match="only private training has slots that may stay empty"):
        plan.without(np.array([1]))
