"""Inversions of clients that smooth their labels or cut their steps' gradients, by an attacker who is told."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsec.attacks import Analytic, Decoupled, Labels
from fedsec.errors import InputError
from fedsec.matching.candidates import Candidates
from fedsec.threat import LocalSteps, Observation
from fedsec.threat.observed.client_loss import client_loss, smoothed_cross_entropy

SHAPE, CLASSES = (1, 3, 3), 6


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(9, 12), nn.Sigmoid(), nn.Linear(12, CLASSES)).double()


def batch(size: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(size, *SHAPE, generator=generator, dtype=torch.double), torch.arange(size) % CLASSES


def gradient(model: nn.Module, images: Tensor, labels: Tensor, smoothing: float) -> dict[str, Tensor]:
    loss = F.cross_entropy(model(images), labels, label_smoothing=smoothing)
    names = [name for name, _ in model.named_parameters()]
    return dict(zip(names, torch.autograd.grad(loss, list(model.parameters())), strict=True))


def seen(model: nn.Module, update: dict[str, Tensor], size: int, **known: object) -> Observation:
    return Observation(model, update, SHAPE, CLASSES, size, **known)  # type: ignore[arg-type]


def test_a_smoothed_loss_s_slope_and_prediction_give_its_gradient() -> None:
    outputs, labels = torch.randn(4, CLASSES, requires_grad=True), torch.tensor([0, 2, 2, 5])
    loss = smoothed_cross_entropy(0.3)
    (expected,) = torch.autograd.grad(F.cross_entropy(outputs, labels, label_smoothing=0.3, reduction="sum"), outputs)
    assert loss.prediction is not None
    compared = loss.slope(CLASSES) * (loss.prediction(outputs) - F.one_hot(labels, CLASSES))
    torch.testing.assert_close(compared, expected)
    (own,) = torch.autograd.grad(loss.sum(outputs, labels), outputs)
    torch.testing.assert_close(own, expected)
    assert client_loss(nn.CrossEntropyLoss(label_smoothing=0.3)) is loss  # so that observations agree in it
    assert client_loss(nn.CrossEntropyLoss()) == client_loss("cross_entropy") == smoothed_cross_entropy(0)
    with pytest.raises(InputError, match="must lie in"):
        smoothed_cross_entropy(1.0)


def test_labels_are_counted_of_a_smoothed_loss_by_who_is_told() -> None:
    model, (images, _) = network(), batch(5)
    labels = torch.tensor([1, 1, 1, 4, 4])
    update = gradient(model, images, labels, 0.4)
    told = Labels().reconstruct(seen(model, update, 5, loss=smoothed_cross_entropy(0.4)))
    assert told.labels is not None
    assert told.labels.tolist() == labels.tolist()


def test_decoupled_reconstructs_a_smoothed_batch_exactly_when_told() -> None:
    model, (images, labels) = network(), batch(3)
    update = gradient(model, images, labels, 0.2)
    inversion = Decoupled(iterations=40)
    told = inversion.reconstruct(seen(model, update, 3, loss=smoothed_cross_entropy(0.2), labels=labels))
    plain = inversion.reconstruct(seen(model, update, 3, labels=labels))
    assert told.images is not None
    assert plain.images is not None
    assert not any("no features" in note for note in told.notes)
    assert float((told.images - images).abs().max()) < 0.02 < float((plain.images - images).abs().max())


def clipped_sgd(model: nn.Module, images: Tensor, labels: Tensor, local: LocalSteps) -> dict[str, Tensor]:
    """What a client sends that cuts every step's gradient with PyTorch's own function."""
    before = {name: row.detach().clone() for name, row in model.named_parameters()}
    optimizer = torch.optim.SGD(
        model.parameters(), lr=local.lr, momentum=local.momentum, weight_decay=local.weight_decay
    )
    for _ in range(local.steps):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        nn.utils.clip_grad_norm_(model.parameters(), local.clip_norm or torch.inf)
        optimizer.step()
    update = {name: row.detach() - before[name] for name, row in model.named_parameters()}
    model.load_state_dict(before)
    return update


@pytest.mark.parametrize("bound", [0.05, 100.0])
@pytest.mark.parametrize("steps", [1, 3])
def test_replaying_cut_steps_gives_what_was_sent(bound: float, steps: int) -> None:
    model, (images, labels) = network(), batch(3)
    local = LocalSteps(0.5, steps, momentum=0.9, weight_decay=0.1, clip_norm=bound)
    update = clipped_sgd(model, images, labels, local)
    observation = seen(model, update, 3, local=local, labels=labels)
    candidates = Candidates([observation])
    inputs = images[None].requires_grad_()
    rows = candidates.updates(inputs, labels[None], torch.arange(1))
    for target, row in zip(candidates.targets, rows, strict=True):
        torch.testing.assert_close(row.detach(), target, rtol=1e-6, atol=1e-9)
    assert torch.autograd.grad(sum(row.sum() for row in rows), inputs)[0].isfinite().all()


@pytest.mark.parametrize(("bound", "cut"), [(0.05, True), (100.0, False)])
def test_one_cut_step_is_a_gradient_of_unknown_length_and_one_that_is_not_is_the_gradient(
    bound: float, cut: bool
) -> None:
    model, (images, labels) = network(), batch(1)
    local = LocalSteps(0.5, 1, clip_norm=bound)
    observation = seen(model, clipped_sgd(model, images, labels, local), 1, local=local)
    single = observation.as_gradient()
    assert single.local is None
    assert (single.distortion is not None and single.distortion.rescaled) == cut
    whole = gradient(model, images, labels, 0.0)
    factor = 1.0 if not cut else bound / float(torch.cat([row.flatten() for row in whole.values()]).norm())
    for name, row in whole.items():
        torch.testing.assert_close(single.update[name], factor * row, rtol=1e-4, atol=1e-9)
    result = Analytic().reconstruct(observation)  # reads ratios, whatever the length
    assert result.images is not None
    torch.testing.assert_close(result.images.double(), images, rtol=0, atol=1e-5)


def test_of_what_was_not_sent_nobody_knows_whether_it_made_a_gradient_too_long() -> None:
    model, (images, labels) = network(), batch(1)
    local = LocalSteps(0.5, 1, clip_norm=100.0)
    update = clipped_sgd(model, images, labels, local)
    shared = {name: row for name, row in update.items() if not name.startswith("3")}
    single = seen(model, shared, 1, local=local, labels=labels, unsent=("3.weight", "3.bias")).as_gradient()
    assert single.distortion is not None
    assert single.distortion.rescaled


@pytest.mark.parametrize("bound", [0.0, -1.0, float("inf")])
def test_a_bound_is_positive(bound: float) -> None:
    with pytest.raises(InputError, match="clip_norm must be positive"):
        LocalSteps(0.1, 1, clip_norm=bound)
