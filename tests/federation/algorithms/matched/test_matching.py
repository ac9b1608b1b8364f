"""Matching against all permutations, of networks that are permuted copies, and what networks it is for."""

from itertools import permutations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedsec.engine.parameters import ParameterLayout
from fedsec.errors import InputError
from fedsec.federation.algorithms.matched.chain import chain_of
from fedsec.federation.algorithms.matched.matching import matched_places, nearest_to_most
from fedsec.models import build


def parameters_of(module: nn.Module) -> Tensor:
    return ParameterLayout.of(module).flatten(module)


def permuted(module: nn.Module, seed: int) -> Tensor:
    """The parameters of a copy whose hidden neurons have changed places, layer by layer, by hand."""
    rng, order = np.random.default_rng(seed), None
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    pieces = []
    for layer in layers:
        weight = layer.weight.detach().clone()
        if order is not None:
            blocks = weight.reshape(len(weight), len(order), -1)
            weight = blocks[:, order].reshape(weight.shape)
        last = layer is layers[-1]
        order = np.arange(len(weight)) if last else rng.permutation(len(weight))
        pieces.append(weight[order].flatten())
        if layer.bias is not None:
            pieces.append(layer.bias.detach()[order])
    return torch.cat(pieces)


NETWORKS = {
    "mlp": ("mlp", (1, 4, 4), {"hidden": [7, 5]}),
    "lenet": ("lenet", (1, 8, 8), {}),
    "cnn": ("cnn", (1, 8, 8), {"channels": [3, 4]}),
    "pooled_cnn": ("pooled_cnn", (1, 16, 16), {"channels": [3, 4], "hidden": 6}),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_permuted_copy_is_put_back_to_the_bit(name: str) -> None:
    model, shape, options = NETWORKS[name]
    torch.manual_seed(1)
    module = build(model, shape, 3, **options)
    own, copy = parameters_of(module), permuted(module, 2)
    assert not torch.equal(own, copy)
    images = torch.randn(4, *shape)
    expected = module(images)
    ParameterLayout.of(module).load(module, copy)
    torch.testing.assert_close(module(images), expected)  # the test's own permutations keep the function
    assert torch.equal(copy[matched_places(own, copy, chain_of(module))], own)


def test_each_layer_is_matched_by_the_best_of_all_permutations() -> None:
    torch.manual_seed(3)
    module = nn.Sequential(nn.Flatten(), nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    layers, size = chain_of(module), len(parameters_of(module))
    for _ in range(5):
        reference, network = torch.randn(size), torch.randn(size)
        first, second = (
            torch.cat(
                [
                    v[layer.weight : layer.weight + layer.size].view(layer.outputs, -1),
                    v[layer.bias : layer.bias + layer.outputs, None],
                ],
                1,
            )
            for v in (reference, network)
            for layer in layers[:1]
        )
        best = min(permutations(range(4)), key=lambda order: float((first - second[list(order)]).square().sum()))
        wanted, given = (v[16:28].view(3, 4) for v in (reference, network))
        given = given[:, list(best)]
        biases, own = reference[28:31], network[28:31]
        then = min(
            permutations(range(3)),
            key=lambda order: float(
                (wanted - given[list(order)]).square().sum() + (biases - own[list(order)]).square().sum()
            ),
        )
        matched = network[matched_places(reference, network, layers)]
        assert torch.equal(matched[:12].view(4, 3), network[:12].view(4, 3)[list(best)])
        assert torch.equal(matched[12:16], network[12:16][list(best)])
        assert torch.equal(matched[16:28].view(3, 4), given[list(then)])
        assert torch.equal(matched[28:31], own[list(then)])
        assert torch.equal(matched[31:37].view(2, 3), network[31:37].view(2, 3)[:, list(then)])
        assert torch.equal(matched[37:], network[37:])


def test_what_is_as_good_stays() -> None:
    module = build("mlp", (1, 2, 2), 2, hidden=[5])
    zeros = torch.zeros(len(parameters_of(module)))
    assert torch.equal(matched_places(zeros, zeros, chain_of(module)), torch.arange(len(zeros)))


def test_the_reference_is_one_of_the_many() -> None:
    torch.manual_seed(5)
    module = build("mlp", (1, 4, 4), 3, hidden=[6])
    honest = [permuted(module, seed) + 0.01 * torch.randn(123) for seed in range(4)]
    outliers = [10 * torch.randn(123) for _ in range(3)]
    assert nearest_to_most(torch.stack([*outliers, *honest]), chain_of(module)) >= 3


class Skipping(nn.Module):
    """The same shapes as a chain, and a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = torch.relu(self.first(inputs))
        logits: Tensor = self.last(hidden + self.second(hidden))
        return logits


class Choosing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs) if inputs.sum() > 0 else inputs


SHARED = nn.Linear(4, 4)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (build("resnet8", (3, 8, 8), 2), "without normalization and skip connections.*is a"),
        (Skipping(), "is not given the one before it alone"),
        (Choosing(), "what Choosing computes cannot be traced"),
        (nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2)), "1 is a LayerNorm"),
        (nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.Flatten(), nn.Linear(4, 2)), "0 has 2 groups of channels"),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.Linear(4, 2)), "1 is given feature maps that are not flat"),
        (nn.Sequential(SHARED, nn.ReLU(), SHARED, nn.Linear(4, 2)), "0 is not trained, or stands in two places"),
        (nn.Sequential(nn.Linear(4, 4), nn.Softmax(1), nn.Linear(4, 2)), "1 is a Softmax"),
    ],
    ids=["resnet8", "skip", "choice", "norm", "groups", "maps", "shared", "softmax"],
)
def test_other_networks_are_refused(module: nn.Module, message: str) -> None:
    with pytest.raises(InputError, match=f"(?s)FedMA matches neurons of .*{message}"):
        chain_of(module)
