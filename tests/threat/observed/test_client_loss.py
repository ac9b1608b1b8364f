"""Losses by name and the user's own: their gradients, and which known one a function is."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat.observed.client_loss import client_loss


@pytest.mark.parametrize("name", ["cross_entropy", "mse", "bce"])
@pytest.mark.parametrize("classes", [2, 5])
def test_gradients_compare_predictions_with_labels(name: str, classes: int) -> None:
    loss = client_loss(name)
    outputs = torch.randn(4, classes, dtype=torch.double, requires_grad=True)
    labels = torch.tensor([0, 1, 1, 0])
    (gradient,) = torch.autograd.grad(loss.sum(outputs, labels), outputs)
    assert loss.prediction is not None
    expected = loss.slope(classes) * (loss.prediction(outputs) - F.one_hot(labels, classes))
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("name", ["cross_entropy", "nll", "mse", "bce"])
def test_labels_are_their_one_hot_rows(name: str) -> None:
    loss = client_loss(name)
    outputs, labels = torch.randn(3, 4), torch.tensor([1, 3, 3])
    torch.testing.assert_close(loss.losses(outputs, labels), loss.losses(outputs, F.one_hot(labels, 4).float()))
    torch.testing.assert_close(loss.mean(outputs, labels), loss.losses(outputs, labels).mean())
    torch.testing.assert_close(loss.sum(outputs, labels), loss.losses(outputs, labels).sum())


class Task:
    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets, reduction="none")


@pytest.mark.parametrize(
    ("own", "name"),
    [
        (Task(), "cross_entropy"),
        (lambda outputs, labels: F.nll_loss(outputs, labels, reduction="none"), "nll"),
        (lambda outputs, labels: (outputs - F.one_hot(labels, 3)).square().mean(1), "mse"),
    ],
)
def test_a_function_that_computes_a_known_loss_is_taken_for_it(own: Any, name: str) -> None:
    assert client_loss(own) is client_loss(name)


def test_other_losses() -> None:
    def focal(outputs: Tensor, labels: Tensor) -> Tensor:
        losses = F.cross_entropy(outputs, labels, reduction="none")
        return (1 - (-losses).exp()).square() * losses

    loss = client_loss(focal)
    assert (loss.name, loss.prediction) == ("focal", None)
    assert client_loss(loss) is loss


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("hinge", "must be one of cross_entropy, nll, mse, bce, or a function, got 'hinge'"),
        (F.cross_entropy, r"one number an example, shape \(4,\) .* got shape \(\)"),
        (7, "must be a name, a function or a task"),
    ],
)
def test_what_is_no_loss(wrong: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        client_loss(wrong)
