"""The supernet against its sum written out, and the architectures that are derived from it."""

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedsec.errors import InputError
from fedsec.models import build
from fedsec.models.darts_small import OPERATIONS, DartsSmall, derived, edges_into


def supernet(nodes: int = 2) -> DartsSmall:
    torch.manual_seed(0)
    module = build("darts_small", (1, 5, 6), 3, channels=2, nodes=nodes)
    assert isinstance(module, DartsSmall)
    return module


def test_an_edge_is_the_sum_of_all_operations_by_their_softmax() -> None:
    module, images = supernet(), torch.randn(4, 1, 5, 6)
    assert module.alphas is not None
    nn.init.normal_(module.alphas)
    weights = module.alphas.exp() / module.alphas.exp().sum(1, keepdim=True)

    def mixed(edge: int, state: Tensor) -> Tensor:
        skip, average, largest, small, large = module.edges[edge]  # type: ignore[misc]
        assert (skip(state) == state).all()
        total = weights[edge, 1] * state + weights[edge, 2] * nn.functional.avg_pool2d(state, 3, 1, 1)
        total = total + weights[edge, 3] * nn.functional.max_pool2d(state, 3, 1, 1)
        total = total + weights[edge, 4] * small[1](state.relu()) + weights[edge, 5] * large[1](state.relu())
        assert average(state).shape == largest(state).shape == state.shape
        return total

    stem = module.stem(images)
    first = mixed(0, stem)
    second = mixed(1, stem) + mixed(2, first)
    expected = module.classifier(torch.cat((first, second), 1).relu().flatten(1))
    torch.testing.assert_close(module(images), expected)


def test_a_certain_supernet_is_the_network_of_its_architecture() -> None:
    module, images = supernet(), torch.randn(4, 1, 5, 6)
    names = ["conv3", "max_pool", "conv5"]
    alphas = torch.full((3, len(OPERATIONS)), -40.0)
    for edge, name in enumerate(names):
        alphas[edge, OPERATIONS.index(name)] = 40.0
    single = build("darts_small", (1, 5, 6), 3, channels=2, nodes=2, architecture=names)
    state = {name: value for name, value in module.state_dict().items() if "edges" not in name and name != "alphas"}
    for edge, name in enumerate(names):
        for key, value in module.edges[edge][OPERATIONS.index(name) - 1].state_dict().items():  # type: ignore[index]
            state[f"edges.{edge}.0.{key}"] = value
    single.load_state_dict(state)
    module.alphas.data.copy_(alphas)  # type: ignore[union-attr]
    assert module.architecture == names
    torch.testing.assert_close(module(images), single(images))


def test_each_node_keeps_its_two_strongest_edges_and_their_best_operation() -> None:
    assert edges_into(3) == [range(1), range(1, 3), range(3, 6)]
    alphas = torch.zeros(6, len(OPERATIONS))
    alphas[:, 0] = 5  # however much an edge prefers nothing, what counts is the best of the others
    for edge, (operation, strength) in enumerate([(1, 1.0), (4, 2.0), (5, 3.0), (2, 6.0), (3, 1.0), (4, 7.0)]):
        alphas[edge, operation] = strength
    assert derived(alphas, 3) == ["skip", "conv3", "conv5", "avg_pool", "none", "conv3"]


def test_random_architectures_are_drawn_from_the_whole_space() -> None:
    seen = set()
    for seed in range(60):
        torch.manual_seed(seed)
        module = build("darts_small", (1, 4, 4), 2, channels=1, nodes=1, architecture="random")
        seen.add(type(module.edges[0][0]).__name__ + str(sum(p.numel() for p in module.parameters())))  # type: ignore[index]
    assert len(seen) == len(OPERATIONS) - 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 0}, "channels and nodes must be at least 1, got 0 and 3"),
        ({"architecture": "best"}, "architecture must be random, or name for each of the 6 edges of 3 nodes"),
        ({"architecture": ["skip"] * 5}, "for each of the 6 edges"),
        ({"architecture": ["skip"] * 5 + ["conv7"]}, "one of none, skip, .*conv7"),
        ({"architecture": ["none"] + ["skip"] * 5}, "leaves node 1 without an edge"),
    ],
)
def test_what_is_no_architecture_is_refused(options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build("darts_small", (1, 8, 8), 3, **options)


def test_a_network_of_one_architecture_has_nothing_to_derive() -> None:
    module = build("darts_small", (1, 4, 4), 2, architecture="random")
    with pytest.raises(InputError, match="has no preferences; expected the supernet"):
        _ = module.architecture
    assert not any("alphas" in name for name, _ in module.named_parameters())


def test_all_edges_are_used() -> None:
    for height, width in product((3, 8), (4, 9)):
        assert build("darts_small", (2, height, width), 3, nodes=1)(torch.randn(2, 2, height, width)).shape == (2, 3)
