"""Candidate updates against plain training loops, and problems together against problems alone."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fedsec.errors import InputError
from fedsec.matching.candidates import Candidates
from fedsec.threat import LocalSteps, Observation
from fedsec.threat.observed.client_loss import client_loss

SHAPE = (1, 6, 6)


def network(norm: bool = False) -> nn.Module:
    torch.manual_seed(3)
    middle = [nn.BatchNorm2d(4)] if norm else []
    return nn.Sequential(nn.Conv2d(1, 4, 3), *middle, nn.Sigmoid(), nn.Flatten(), nn.Linear(64, 3))


def batch(size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(size, *SHAPE, generator=generator), torch.randint(3, (size,), generator=generator)


def observe(model: nn.Module, size: int, seed: int = 0, local: LocalSteps | None = None, **granted):  # type: ignore[no-untyped-def]
    images, labels = batch(size, seed)
    rows = torch.autograd.grad(F.cross_entropy(model(images), labels), list(model.parameters()))
    names = [name for name, _ in model.named_parameters()]
    return Observation(model, dict(zip(names, rows, strict=True)), SHAPE, 3, size, local=local, **granted)


def trained(model: nn.Module, images: Tensor, labels: Tensor, local: LocalSteps) -> list[Tensor]:
    """The slow way: a copy of the model, PyTorch's own optimizer, batches in order."""
    worker = deepcopy(model).requires_grad_()
    optimizer = torch.optim.SGD(worker.parameters(), local.lr, momentum=local.momentum, weight_decay=local.weight_decay)
    size = min(local.batch_size or len(images), len(images))
    steps = 0
    while steps < local.steps:
        for start in range(0, len(images), size):
            if steps == local.steps:
                break
            optimizer.zero_grad()
            F.cross_entropy(worker(images[start : start + size]), labels[start : start + size]).backward()
            optimizer.step()
            steps += 1
    return [(new - old).detach() for new, old in zip(worker.parameters(), model.parameters(), strict=True)]


def close(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(first, second, strict=True))


def row(updates: list[Tensor], problem: int) -> list[Tensor]:
    return [update[problem].detach() for update in updates]


@pytest.mark.parametrize("problems", [1, 3])
def test_the_true_images_give_the_observed_update(problems: int) -> None:
    model = network()
    seen = [observe(model, 2, seed) for seed in range(problems)]
    candidates = Candidates(seen)
    pairs = [batch(2, seed) for seed in range(problems)]
    images, labels = (torch.stack(parts) for parts in zip(*pairs, strict=True))
    everyone = torch.arange(problems)
    updates, targets = candidates.updates(images, labels, everyone), candidates.targets_of(everyone)
    for problem in range(problems):
        assert close(row(updates, problem), row(targets, problem))


@given(
    size=st.integers(1, 5),
    steps=st.integers(2, 5),
    batch_size=st.integers(1, 6) | st.none(),
    momentum=st.sampled_from([0.0, 0.9]),
    weight_decay=st.sampled_from([0.0, 0.1]),
)
@settings(max_examples=25, deadline=None)
def test_local_training_is_unrolled(
    size: int, steps: int, batch_size: int | None, momentum: float, weight_decay: float
) -> None:
    local = LocalSteps(0.3, steps, batch_size, momentum, weight_decay)
    model = network()
    candidates = Candidates([observe(model, size, seed, local) for seed in range(2)])
    pairs = [batch(size, seed) for seed in (5, 6)]
    images, labels = (torch.stack(parts) for parts in zip(*pairs, strict=True))
    updates = candidates.updates(images, labels, torch.arange(2))
    alone = candidates.updates(images[1:], labels[1:], torch.tensor([1]))
    for problem in range(2):
        assert close(row(updates, problem), trained(model, *pairs[problem], local))
    assert close(row(alone, 0), row(updates, 1))


@pytest.mark.parametrize("problems", [1, 2])
def test_one_step_is_the_gradient_it_is(problems: int) -> None:
    model, local = network(), LocalSteps(0.3, 1)
    pairs = [batch(2, seed) for seed in range(problems)]
    names = [name for name, _ in model.named_parameters()]
    stepped = [
        Observation(model, dict(zip(names, trained(model, *pair, local), strict=True)), SHAPE, 3, 2, local=local)
        for pair in pairs
    ]
    images, labels = (torch.stack(parts) for parts in zip(*pairs, strict=True))
    candidates = Candidates(stepped)
    candidates.prepare(labels)
    assert candidates.observation.local is None
    updates, targets = candidates.updates(images, labels, torch.arange(problems)), candidates.targets
    for problem in range(problems):
        assert close(row(updates, problem), row(targets, problem))
        plain = observe(model, 2, problem)
        assert close(row(targets, problem), list(plain.update.values()))


def test_restarts_try_other_orders_of_the_same_images() -> None:
    local = LocalSteps(0.5, 6, batch_size=1)
    seen = observe(network(), 3, local=local)
    candidates = Candidates([seen], restarts=3, generator=torch.Generator().manual_seed(1))
    images, labels = batch(3)
    updates = candidates.updates(images.expand(3, *images.shape), labels.expand(3, 3), torch.arange(3))
    assert close(row(updates, 0), trained(seen.model, images, labels, local))
    assert not close(row(updates, 1), row(updates, 0))
    assert not close(row(updates, 2), row(updates, 1))


def test_second_derivatives_reach_the_images() -> None:
    local = LocalSteps(0.3, 2, batch_size=1)
    for kind in (None, local):
        candidates = Candidates([observe(network(), 2, local=kind)], restarts=2)
        images = torch.stack([batch(2)[0]] * 2).requires_grad_()
        updates = candidates.updates(images, batch(2)[1].expand(2, 2), torch.arange(2))
        (gradient,) = torch.autograd.grad(sum(update.square().sum() for update in updates), images)
        assert gradient.isfinite().all()
        assert (gradient.flatten(2).abs().amax(2) > 0).all()


def test_soft_labels_equal_hard_ones() -> None:
    images, labels = batch(2)
    candidates = Candidates([observe(network(), 2)])
    hard = candidates.updates(images[None], labels[None], torch.arange(1))
    soft = candidates.updates(images[None], F.one_hot(labels, 3).float()[None], torch.arange(1))
    assert close(row(hard, 0), row(soft, 0))


class Stubborn(nn.Module):
    """A model that computes another thing for other batches, and looks at values, which `vmap` cannot handle."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(36, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images.flatten(1)) * float(images.detach().sum())


def test_modules_that_cannot_be_stacked_run_one_by_one() -> None:
    torch.manual_seed(0)
    model = Stubborn()
    pairs = [batch(2, seed) for seed in range(3)]
    images, labels = (torch.stack(parts) for parts in zip(*pairs, strict=True))
    candidates = Candidates([observe(model, 2, seed) for seed in range(3)])
    candidates.prepare(labels)
    assert not candidates.vectorized
    updates = candidates.updates(images, labels, torch.arange(3))
    for problem, target in enumerate(pairs):
        expected = torch.autograd.grad(F.cross_entropy(model(target[0]), target[1]), list(model.parameters()))
        assert close(row(updates, problem), list(expected))


def test_a_model_that_cannot_take_the_images_is_refused() -> None:
    wrong = nn.Sequential(nn.Flatten(), nn.Linear(7, 3))
    seen = Observation(wrong, {"1.bias": torch.zeros(3)}, SHAPE, 3, 1)
    with pytest.raises(InputError, match=r"the model cannot be attacked: .*shapes"):
        Candidates([seen]).prepare(torch.zeros(1, 1, dtype=torch.int64))


def test_normalization_in_train_mode_uses_the_candidates_own_statistics() -> None:
    model = network(norm=True).train()
    seen = [observe(deepcopy(model), 3, seed) for seed in range(2)]
    running = seen[0].model.get_buffer("1.running_mean").clone()
    candidates = Candidates(seen)
    pairs = [batch(3, seed) for seed in range(2)]
    images, labels = (torch.stack(parts) for parts in zip(*pairs, strict=True))
    updates, targets = candidates.updates(images, labels, torch.arange(2)), candidates.targets_of(torch.arange(2))
    for problem in range(2):
        assert close(row(updates, problem), row(targets, problem))
        alone = candidates.updates(
            images[problem : problem + 1], labels[problem : problem + 1], torch.tensor([problem])
        )
        assert close(row(alone, 0), row(targets, problem))
    assert torch.equal(seen[0].model.get_buffer("1.running_mean"), running)


def test_the_way_that_is_chosen_gives_the_right_numbers_for_batches_that_influence_each_other() -> None:
    model = network(norm=True).train()
    pairs = [batch(3, seed) for seed in range(3)]
    candidates = Candidates([observe(deepcopy(model), 3, seed) for seed in range(3)])
    images, labels = (torch.stack(parts) for parts in zip(*pairs, strict=True))
    candidates.prepare(labels)
    updates, targets = candidates.updates(images, labels, torch.arange(3)), candidates.targets_of(torch.arange(3))
    for problem in range(3):
        assert close(row(updates, problem), row(targets, problem))


@pytest.mark.parametrize("layer", [nn.GroupNorm(2, 8), nn.LayerNorm(8)])
def test_normalization_of_vectors(layer: nn.Module) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), layer, nn.Sigmoid(), nn.Linear(8, 3))
    pairs = [batch(2, seed) for seed in range(2)]
    candidates = Candidates([observe(model, 2, seed) for seed in range(2)])
    images, labels = (torch.stack(parts) for parts in zip(*pairs, strict=True))
    candidates.prepare(labels)
    updates, targets = candidates.updates(images, labels, torch.arange(2)), candidates.targets_of(torch.arange(2))
    for problem in range(2):
        assert close(row(updates, problem), row(targets, problem))


def test_activations_in_place_do_not_cost_the_fast_way() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(64, 3))
    pairs = [batch(2, seed) for seed in range(2)]
    candidates = Candidates([observe(model, 2, seed) for seed in range(2)])
    images, labels = (torch.stack(parts) for parts in zip(*pairs, strict=True))
    candidates.prepare(labels)
    assert candidates._layers is not None
    updates, targets = candidates.updates(images, labels, torch.arange(2)), candidates.targets_of(torch.arange(2))
    for problem in range(2):
        assert close(row(updates, problem), row(targets, problem))


def focal(outputs: Tensor, labels: Tensor) -> Tensor:
    losses = F.cross_entropy(outputs, labels, reduction="none")
    return (1 - (-losses).exp()).square() * losses


@pytest.mark.parametrize("loss", ["mse", "bce", focal])
@pytest.mark.parametrize("problems", [1, 2])
def test_other_losses(loss, problems: int) -> None:  # type: ignore[no-untyped-def]
    model = network()
    pairs = [batch(2, seed) for seed in range(problems)]
    losses = client_loss(loss).losses
    rows = [
        torch.autograd.grad(losses(model(images), labels).mean(), [*model.parameters()]) for images, labels in pairs
    ]
    seen = [
        Observation.of_gradient(model, each, input_shape=SHAPE, num_classes=3, batch_size=2, loss=loss) for each in rows
    ]
    candidates = Candidates(seen)
    images, labels = (torch.stack(parts) for parts in zip(*pairs, strict=True))
    candidates.prepare(labels)
    updates, targets = candidates.updates(images, labels, torch.arange(problems)), candidates.targets
    for problem in range(problems):
        assert close(row(updates, problem), row(targets, problem))


def test_local_steps_on_sums() -> None:
    model, (images, labels) = network(), batch(3)
    worker = deepcopy(model)
    optimizer = torch.optim.SGD(worker.parameters(), 0.1)
    for places in (slice(0, 2), slice(2, 3)):
        optimizer.zero_grad()
        (4 * F.cross_entropy(worker(images[places]), labels[places], reduction="sum")).backward()
        optimizer.step()
    expected = [(new - old).detach() for new, old in zip(worker.parameters(), model.parameters(), strict=True)]
    seen = observe(model, 3, local=LocalSteps(0.1, 2, batch_size=2), reduction="sum", loss_scale=4.0)
    updates = Candidates([seen]).updates(images[None], labels[None], torch.arange(1))
    assert close(row(updates, 0), expected)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.hidden, self.head = nn.Linear(36, 3), nn.Linear(3, 3), nn.Linear(3, 3)
        self.head.weight = self.hidden.weight

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.sigmoid(self.hidden(self.first(images.flatten(1)))))
        return logits


def test_tied_weights_keep_the_fast_way() -> None:
    torch.manual_seed(0)
    model = Tied()
    pairs = [batch(2, seed) for seed in range(2)]
    candidates = Candidates([observe(model, 2, seed) for seed in range(2)])
    images, labels = (torch.stack(parts) for parts in zip(*pairs, strict=True))
    candidates.prepare(labels)
    assert candidates._layers is not None
    updates, targets = candidates.updates(images, labels, torch.arange(2)), candidates.targets_of(torch.arange(2))
    for problem in range(2):
        assert close(row(updates, problem), row(targets, problem))
