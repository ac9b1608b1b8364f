"""Gradients that contradict what they are said to be: scaled, reversed, of another loss."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsec.attacks import Labels
from fedsec.matching.consistency import consistent
from fedsec.matching.labels import recover_labels
from fedsec.threat import Distortion, LocalSteps, Observation

SHAPE = (1, 6, 6)
LABELS = torch.tensor([3, 7, 3])


def network(bias: bool = True) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(128, 10, bias=bias))


def gradient(factor: float = 1.0, bias: bool = True) -> tuple[nn.Module, list[Tensor]]:
    model = network(bias)
    images = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(1))
    loss = F.cross_entropy(model(images), LABELS)
    return model, [factor * row for row in torch.autograd.grad(loss, list(model.parameters()))]


def observe(factor: float = 1.0, **known):  # type: ignore[no-untyped-def]
    model, rows = gradient(factor)
    return Observation.of_gradient(model, rows, input_shape=SHAPE, num_classes=10, batch_size=3, **known)


@pytest.mark.parametrize("factor", [3.0, 4.0, 65536.0, 3 * 65536.0])
def test_a_factor_is_inferred(factor: float) -> None:
    (seen,), (notes,) = consistent([observe(factor)])
    torch.testing.assert_close(seen.update["3.bias"], observe().update["3.bias"])
    assert any(f"multiplied by {factor:g}" in note for note in notes)
    found = Labels().reconstruct(observe(factor))
    assert found.labels is not None
    assert found.labels.tolist() == [3, 3, 7]
    assert any("multiplied by" in note for note in found.notes)


@pytest.mark.parametrize(("factor", "known"), [(3.0, {"reduction": "sum"}), (512.0, {"loss_scale": 512.0})])
def test_a_factor_that_was_said_needs_no_note(factor: float, known: dict[str, object]) -> None:
    (seen,), (notes,) = consistent([observe(factor, **known)])
    torch.testing.assert_close(seen.update["3.bias"], observe().update["3.bias"])
    assert notes == ()


@pytest.mark.parametrize("steps", [1, 2])
def test_before_minus_after(steps: int) -> None:
    model, rows = gradient(0.1)
    update = dict(zip((name for name, _ in model.named_parameters()), rows, strict=True))
    (seen,), (notes,) = consistent([Observation(model, update, SHAPE, 10, 3, local=LocalSteps(0.1, steps))])
    assert any("the opposite sign, as before - after" in note for note in notes)
    assert recover_labels(seen).labels.tolist() == [3, 3, 7]


def test_the_sum_over_classes_gives_another_loss_away() -> None:
    model = network()
    loss = F.mse_loss(model(torch.rand(3, *SHAPE)), F.one_hot(LABELS, 10).float())
    rows = torch.autograd.grad(loss, list(model.parameters()))
    known = {"input_shape": SHAPE, "num_classes": 10, "batch_size": 3}
    assert any(
        "the loss is another one" in note
        for note in Labels().reconstruct(Observation.of_gradient(model, rows, **known)).notes
    )  # type: ignore[arg-type]
    told = Observation.of_gradient(model, rows, loss="mse", **known)  # type: ignore[arg-type]
    assert consistent([told])[1] == [()]
    assert recover_labels(told).labels.tolist() == [3, 3, 7]


def test_what_is_consistent_or_cannot_be_told_is_left_as_it_is() -> None:
    plain = observe()
    assert consistent([plain])[0][0] is plain
    model, rows = gradient(65536.0, bias=False)
    unbiased = Observation.of_gradient(model, rows, input_shape=SHAPE, num_classes=10, batch_size=3)
    assert consistent([unbiased]) == ([unbiased], [()])
    distorted = observe(65536.0, distortion=Distortion(rescaled=True))
    assert consistent([distorted]) == ([distorted], [()])
