"""Which models are chains of linear layers, however they are written."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsec.matching.head import find_head
from fedsec.matching.separation.linear_chain import LinearChain, find_chain
from fedsec.threat import Observation


class Written(nn.Module):
    """Activations as functions, layers in no order."""

    def __init__(self) -> None:
        super().__init__()
        self.last, self.first, self.second = nn.Linear(9, 4), nn.Linear(16, 12), nn.Linear(12, 9)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.last(F.relu(self.second(torch.tanh(self.first(images.flatten(1))))))
        return logits


class Repeated(nn.Module):
    """One layer that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.last = nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.last(F.relu(self.layer(F.relu(self.layer(images.flatten(1))))))
        return logits


def chain_of(model: nn.Module) -> LinearChain | None:
    gradient = {name: torch.full_like(row, 3.0) for name, row in model.named_parameters()}
    observation = Observation.of_gradient(model, gradient, input_shape=(1, 4, 4), num_classes=4, batch_size=2)
    head = find_head(observation)
    assert head is not None
    return find_chain(observation, head)


def around(*middle: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), *middle, nn.Linear(8, 4))


def test_a_chain_is_seen_in_any_writing() -> None:
    torch.manual_seed(0)
    model = Written()
    chain = chain_of(model)
    assert chain is not None
    assert [(layer.name, layer.activation.name) for layer in chain.layers] == [("first", "tanh"), ("second", "relu")]
    images = torch.rand(3, 1, 4, 4)
    logits = chain.logits(chain.outputs(images.flatten(1).double())[-1])
    torch.testing.assert_close(logits, model(images).double(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("activation", "name"),
    [
        (nn.ReLU(), "relu"),
        (nn.ReLU(inplace=True), "relu"),
        (nn.LeakyReLU(0.01), "leaky_relu"),
        (nn.Sigmoid(), "sigmoid"),
        (nn.ELU(), "elu"),
        (nn.Softplus(), "softplus"),
        (nn.Identity(), "identity"),
    ],
)
def test_slopes_follow_from_outputs(activation: nn.Module, name: str) -> None:
    torch.manual_seed(0)
    chain = chain_of(around(activation))
    assert chain is not None
    known = chain.layers[0].activation
    assert known.name == name
    points = torch.linspace(-3, 3, 40, dtype=torch.double).requires_grad_()
    outputs = known.function(points)
    (slopes,) = torch.autograd.grad(outputs.sum(), points)
    torch.testing.assert_close(known.slope(outputs.detach()), slopes)


def test_other_models_are_none() -> None:
    torch.manual_seed(0)
    shared, tied = nn.Linear(8, 8), nn.Linear(8, 8)
    tied.weight = shared.weight
    others = [
        Repeated(),
        around(nn.GELU()),  # one output, two slopes
        around(nn.Hardtanh()),  # the identity, of small inputs
        around(nn.LayerNorm(8)),
        around(nn.Softmax(1)),
        around(nn.ReLU(), shared, nn.ReLU(), shared, nn.ReLU()),
        around(nn.ReLU(), shared, nn.ReLU(), tied, nn.ReLU()),
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 4)),
        nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4)),
    ]
    assert [chain_of(model) for model in others] == [None] * len(others)
