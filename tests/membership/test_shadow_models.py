"""Shadow models train as one cohort and come out as each by itself; signals and gradients against plain PyTorch."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from fedsec.data.normalization import Normalization
from fedsec.engine.batches import plan_batches
from fedsec.engine.local_training import LocalTraining
from fedsec.engine.messages import Start
from fedsec.engine.resident_data import ResidentData
from fedsec.engine.trainer import CohortTrainer
from fedsec.errors import InputError
from fedsec.membership import balanced_members, gradient_products, signals_of, train_shadow_models
from fedsec.membership.shadow_models import finite_models
from fedsec.seeds import Streams

EXAMPLES, CLASSES = 40, 3
LOCAL = LocalTraining(epochs=2, batch_size=8, lr=0.1, momentum=0.9)


def data() -> ResidentData:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (EXAMPLES, 1, 6, 6), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, CLASSES, (EXAMPLES,), generator=generator)
    return ResidentData(images, torch.arange(EXAMPLES), labels, [np.arange(EXAMPLES)], Normalization((0.5,), (0.5,)))


def network(norm: bool = False) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        middle: nn.Module = nn.BatchNorm2d(4) if norm else nn.Identity()
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), middle, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, CLASSES)
        )


def test_every_example_is_in_half_of_the_models() -> None:
    members = balanced_members(6, 50, np.random.default_rng(0))
    assert members.sum(0).tolist() == [3] * 50
    assert 10 < members.sum(1).min() < members.sum(1).max() < 40
    for models in (0, 3):
        with pytest.raises(InputError, match="even number"):
            balanced_members(models, 5, np.random.default_rng(0))


def test_a_cohort_of_shadow_models_is_each_of_them_trained_alone() -> None:
    resident, net, streams = data(), network(), Streams(3)
    members = balanced_members(4, 30, np.random.default_rng(0))
    candidates, known = np.arange(30), np.arange(30, 36)
    vectorized, loop = (CohortTrainer(net, resident, engine=engine) for engine in ("vectorized", "loop"))
    start = vectorized.start(net)
    rows = train_shadow_models(
        vectorized, start, candidates, members, LOCAL, rounds=2, known=known, streams=streams
    ).parameters
    assert vectorized.used.startswith("vectorized")
    assert not torch.allclose(rows[0], rows[1])
    for model in range(4):
        weights = start
        share = np.concatenate([known, candidates[members[model]]])
        for number in (1, 2):
            rng = streams.numpy("audit", "membership", "shadow", model, "round", number)
            result = loop.train(weights, [plan_batches(share, LOCAL, rng)], LOCAL)
            weights = Start(weights.parameters + result.updates[0], result.statistics[0])
        assert torch.allclose(rows[model], weights.parameters, atol=1e-5)


def test_a_model_without_examples_is_refused() -> None:
    resident, net = data(), network()
    trainer = CohortTrainer(net, resident)
    with pytest.raises(InputError, match="one has no examples"):
        train_shadow_models(
            trainer,
            trainer.start(net),
            np.arange(2),
            np.array([[True, True], [False, False]]),
            LOCAL,
            streams=Streams(0),
        )


@pytest.mark.parametrize("norm", [False, True])
def test_signals_are_those_of_each_model_by_itself(norm: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedsec.membership.signals.SIGNAL_BATCH", 16)
    resident, net = data(), network(norm)
    trainer = CohortTrainer(net, resident)
    members = balanced_members(2, EXAMPLES, np.random.default_rng(1))
    rows = train_shadow_models(trainer, trainer.start(net), np.arange(EXAMPLES), members, LOCAL, streams=Streams(0))
    signals = signals_of(trainer, rows, resident.images, resident.label_of)
    assert signals.shape == (2, EXAMPLES)
    for place in range(2):
        trainer.layout.load(net, rows.parameters[place])
        trainer.statistics.load(net, rows.statistics[place])
        logits = net.eval()((resident.images / 255 - 0.5) / 0.5)
        losses = F.cross_entropy(logits, resident.label_of, reduction="none")
        assert torch.allclose(F.softplus(-signals[place]), losses, atol=1e-4)


class Awkward(nn.Module):
    """A layer that can be differentiated once."""

    def forward(self, inputs: Tensor) -> Tensor:
        return Tripled.apply(inputs)  # type: ignore[no-untyped-call, no-any-return]


class Tripled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, inputs: Tensor) -> Tensor:  # type: ignore[override]
        return 3 * inputs

    @staticmethod
    @once_differentiable
    def backward(ctx: object, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return 3 * gradient


@pytest.mark.parametrize("model", [network(), network(norm=True), nn.Sequential(network(), Awkward())])
def test_gradient_products_are_those_of_formed_gradients(model: nn.Module) -> None:
    resident = data()
    trainer = CohortTrainer(model, resident, engine="loop")
    start = trainer.start(model)
    vector = torch.randn(trainer.layout.size, generator=torch.Generator().manual_seed(2))
    products, lengths = gradient_products(trainer, start, vector, resident.images[:7], resident.label_of[:7])
    inputs = (resident.images[:7] / 255 - 0.5) / 0.5
    model.eval()
    for place in range(7):
        loss = F.cross_entropy(model(inputs[place : place + 1]), resident.label_of[place : place + 1])
        gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])
        assert float(products[place]) == pytest.approx(float(gradient @ vector), rel=1e-3, abs=1e-5)
        assert float(lengths[place]) == pytest.approx(float(gradient.norm()), rel=1e-3)


def test_models_with_anything_not_finite_are_no_finite_models() -> None:
    rows = Start(torch.zeros(3, 5), torch.zeros(3, 2))
    rows.parameters[0, 4] = torch.nan
    rows.statistics[2, 1] = torch.inf
    assert finite_models(rows).tolist() == [False, True, False]


def test_models_are_trained_for_one_round_or_more() -> None:
    trainer = CohortTrainer(network(), data())
    members = balanced_members(2, 10, np.random.default_rng(0))
    start = trainer.start(network())
    with pytest.raises(InputError, match="rounds must be at least 1, got 0"):
        train_shadow_models(trainer, start, np.arange(10), members, LOCAL, rounds=0, streams=Streams(0))
