"""Gradients formed layer by layer against `torch.autograd.grad`, first and second order."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsec.matching.layers import LayerGradients
from fedsec.models import build
from fedsec.threat.observed.client_loss import client_loss

CLASSES = 3


class Twice(nn.Module):
    """Uses one layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.shared = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4 * 36, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.first(images).sigmoid()
        for _ in range(2):
            hidden = self.shared(hidden).sigmoid() + hidden
        return self.head(hidden.flatten(1))


def network(kind: str) -> nn.Module:
    torch.manual_seed(0)
    if kind == "twice":
        return Twice()
    middle = {
        "plain": [nn.Conv2d(4, 5, 3, stride=2, padding=1)],
        "dilated": [nn.Conv2d(4, 5, (3, 2), stride=(1, 2), padding=(2, 0), dilation=(2, 1), bias=False)],
        "group norm": [nn.Conv2d(4, 6, 3), nn.GroupNorm(2, 6)],
        "batch norm": [nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6)],
    }[kind]
    model = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Tanh(), *middle, nn.Sigmoid(), nn.Flatten())
    with torch.no_grad():
        width = model(torch.zeros(2, 2, 6, 6)).shape[1]
    model.append(nn.Linear(width, CLASSES))
    for module in model:
        if isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model


def slow(model: nn.Module, inputs: Tensor, labels: Tensor) -> list[Tensor]:
    rows = []
    for images, classes in zip(inputs, labels, strict=True):
        loss = F.cross_entropy(model(images), classes)
        rows.append(torch.autograd.grad(loss, list(model.parameters()), create_graph=True))
    return [torch.stack(parts) for parts in zip(*rows, strict=True)]


def compare(model: nn.Module, inputs: Tensor, labels: Tensor) -> None:
    layers = LayerGradients(
        deepcopy(model), [name for name, _ in model.named_parameters()], client_loss("cross_entropy")
    )
    assert layers.complete
    inputs = inputs.requires_grad_()
    found, expected = layers(inputs, labels), slow(model, inputs, labels)
    for first, second in zip(found, expected, strict=True):
        assert torch.allclose(first, second, rtol=1e-8, atol=1e-10)
    # Weights that differ from entry to entry, so that no second derivative is symmetric by accident.
    torch.manual_seed(1)
    weights = [torch.randn_like(row) for row in expected]
    second_order = [
        torch.autograd.grad(sum((row.sin() * w).sum() for row, w in zip(rows, weights, strict=True)), inputs)[0]
        for rows in (found, expected)
    ]
    assert torch.allclose(*second_order, rtol=1e-8, atol=1e-10)
    assert second_order[0].abs().max() > 0


@pytest.mark.parametrize("problems", [1, 3])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("kind", ["plain", "dilated", "group norm", "batch norm", "twice"])
def test_gradients_of_known_layers(kind: str, batch: int, problems: int) -> None:
    model = network(kind).double().eval()
    compare(
        model,
        torch.randn(problems, batch, 2, 6, 6, dtype=torch.float64),
        torch.randint(CLASSES, (problems, batch)),
    )


def test_batch_norm_in_train_mode_for_a_single_problem() -> None:
    model = network("batch norm").double().train()
    inputs, labels = torch.randn(1, 3, 2, 6, 6, dtype=torch.float64), torch.tensor([[0, 1, 2]])
    compare(model, inputs, labels)


def test_soft_labels() -> None:
    model = network("plain").double()
    compare(model, torch.randn(2, 2, 2, 6, 6, dtype=torch.float64), torch.rand(2, 2, CLASSES).double().softmax(-1))


@pytest.mark.parametrize("name", ["lenet", "cnn", "mlp", "convnet64", "resnet20_4"])
def test_models_of_the_toolkit_are_made_of_known_layers(name: str) -> None:
    model = build(name, (3, 16, 16), 10)
    assert LayerGradients(model, [name for name, _ in model.named_parameters()], client_loss("cross_entropy")).complete


@pytest.mark.parametrize(
    "strange",
    [nn.Conv2d(2, 4, 3, groups=2), nn.Conv2d(2, 4, 3, padding="same"), nn.PReLU(), nn.InstanceNorm2d(2, affine=True)],
)
def test_unknown_layers_are_noticed(strange: nn.Module) -> None:
    model = nn.Sequential(strange, nn.Flatten(), nn.LazyLinear(CLASSES))
    model(torch.zeros(1, 2, 6, 6))
    assert not LayerGradients(
        model, [name for name, _ in model.named_parameters()], client_loss("cross_entropy")
    ).complete
