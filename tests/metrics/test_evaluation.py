"""Test-set figures against counting by hand."""

import math

import pytest
import torch
from torch import Tensor, nn

from fedsec.data.datasets import Normalization
from fedsec.metrics.evaluation import evaluate
from fedsec.tasks import Classification


class Oracle(nn.Module):
    """Predicts the class that the first pixel names."""

    def forward(self, images: Tensor) -> Tensor:
        logits = torch.zeros(len(images), 3)
        logits[torch.arange(len(images)), images[:, 0, 0, 0].round().long()] = 2.0
        return logits


def test_figures_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedsec.metrics.evaluation.EVALUATION_BATCH", 2)
    predicted = torch.tensor([0, 1, 1, 0, 1], dtype=torch.uint8)
    labels = torch.tensor([0, 1, 0, 0, 1])
    images = predicted.view(-1, 1, 1, 1)
    model = Oracle()
    found = evaluate(model, images, labels, Normalization((0.0,), (1 / 255,)), Classification(3))
    assert found.metrics["accuracy"] == pytest.approx(4 / 5)
    assert found.per_class["per_class_accuracy"][:2] == pytest.approx((2 / 3, 1.0))
    assert math.isnan(found.per_class["per_class_accuracy"][2])
    right, wrong = -math.log(math.e**2 / (math.e**2 + 2)), -math.log(1 / (math.e**2 + 2))
    assert found.metrics["loss"] == pytest.approx((4 * right + wrong) / 5, rel=1e-6)
    assert model.training
