"""Clipped gradients and smoothed labels, in both engines, against plain PyTorch."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fedsec.data.datasets import Normalization, Split
from fedsec.engine import CohortTrainer, LocalTraining, ResidentData
from fedsec.engine.batches import plan_batches
from fedsec.engine.correction import Correction
from fedsec.engine.optimizers import RateSchedule
from fedsec.errors import InputError
from fedsec.privacy.private_training import PrivateTraining
from fedsec.tasks import Classification, Regression


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 3))


def cohort(engine: Any = "auto", task: Any = None) -> CohortTrainer:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (9, 1, 2, 2), dtype=torch.uint8, generator=generator)
    split = Split(images, torch.randint(0, 3, (9,), generator=generator))
    parts = [np.arange(5), np.arange(5, 9)]
    data = ResidentData.build(split, parts, Normalization((0.5,), (0.5,)), torch.device("cpu"))
    return CohortTrainer(network(), data, engine=engine, task=task)


@pytest.mark.parametrize("engine", ["vectorized", "loop"])
@pytest.mark.parametrize("alpha", [0.0, 5.0])
def test_steps_are_those_of_pytorch(engine: str, alpha: float) -> None:
    """Smoothed labels; clipped after a proximal term and a shift, and before weight decay."""
    local = LocalTraining(
        epochs=2, batch_size=2, lr=0.5, momentum=0.5, weight_decay=0.1, clip_norm=1.0, label_smoothing=0.2
    )
    trainer, shift = cohort(engine), 0.2 * torch.randn(2, 15, generator=torch.Generator().manual_seed(2))
    start, lengths = trainer.start(network()), []
    plans = [plan_batches(own, local, np.random.default_rng(0)) for own in trainer.data.clients]
    result = trainer.train(start, plans, local, correction=Correction(alpha=alpha, shift=shift))
    for client, plan in enumerate(plans):
        module = network()
        optimizer = torch.optim.SGD(module.parameters(), lr=0.5, momentum=0.5, weight_decay=0.1)
        weights = list(module.parameters())
        begun = [weight.detach().clone() for weight in weights]
        shifts = shift[client, :12].view(3, 4), shift[client, 12:]
        for examples, size in zip(plan.examples, plan.sizes, strict=True):
            images, labels = trainer.data.batch(torch.from_numpy(examples[:size]))
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(module(images), labels, label_smoothing=0.2)
            for weight, before, term in zip(weights, begun, shifts, strict=True):
                loss = loss + alpha / 2 * (weight - before).square().sum() + (weight * term).sum()
            loss.backward()
            lengths.append(float(nn.utils.clip_grad_norm_(weights, 1.0)))
            optimizer.step()
        expected = torch.cat([(weight - before).flatten() for weight, before in zip(weights, begun, strict=True)])
        torch.testing.assert_close(result.updates[client], expected.detach(), rtol=1e-4, atol=1e-6)
    assert min(lengths) < 1.0 < max(lengths)


def test_private_steps_learn_smoothed_labels() -> None:
    """Without noise and with a bound that nothing reaches DP-SGD is plain training."""
    local = LocalTraining(steps=1, batch_fraction=1.0, lr=0.5, label_smoothing=0.4)
    private = LocalTraining(steps=1, batch_fraction=1.0, lr=0.5, label_smoothing=0.4, private=PrivateTraining(0.0, 1e6))
    trainer, updates = cohort("loop"), []
    from fedsec.engine.batches import Noise

    for number, training in enumerate((local, private)):
        noise = None if training.private is None else Noise(0.0, 1)
        plans = [plan_batches(trainer.data.clients[0], training, np.random.default_rng(number), noise=noise)]
        updates.append(trainer.train(trainer.start(network()), plans, training).updates)
    torch.testing.assert_close(updates[0], updates[1], rtol=1e-4, atol=1e-6)


def test_evaluation_stays_plain() -> None:
    outputs, targets = torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([0])
    smoothed = Classification(3).smoothed(0.3)
    assert smoothed.measure(outputs, targets) == Classification(3).measure(outputs, targets)
    assert smoothed.losses(outputs, targets) > Classification(3).losses(outputs, targets)
    assert Classification(3).smoothed(0.0) == Classification(3)


def test_what_has_no_classes_smooths_no_labels() -> None:
    with pytest.raises(InputError, match=r"over classes, and regression has none; expected 0, got 0\.1"):
        Regression().smoothed(0.1)


def test_a_schedule_must_know_its_round() -> None:
    trainer, local = cohort(), LocalTraining(steps=1, batch_size=1, schedule=RateSchedule(warmup=2))
    with pytest.raises(InputError, match=r"a schedule needs to know which round it is; expected local.in_round"):
        trainer.train(trainer.start(network()), [], local)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip_norm": 0.0}, "clip_norm must be positive, a number that float32 holds, got 0.0"),
        ({"clip_norm": float("inf")}, "clip_norm must be positive"),
        ({"label_smoothing": 1.0}, r"label_smoothing must lie in \[0, 1\), got 1.0"),
        ({"optimizer": "lamb", "momentum": 0.9}, "momentum belongs to sgd and lars; lamb has its own"),
        ({"optimizer": "lion"}, "optimizer must be sgd, adam, lars or lamb, got 'lion'"),
    ],
)
def test_bad_settings_say_what_was_expected(options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        LocalTraining(steps=1, batch_size=1, **options)
