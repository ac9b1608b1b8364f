"""A small space of architectures, and the network that holds all of them at once."""

from collections.abc import Iterable, Sequence
from itertools import islice, pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fedsec.errors import InputError

OPERATIONS = ("none", "skip", "avg_pool", "max_pool", "conv3", "conv5")
"""What an edge may do; each keeps the shape of its feature maps."""
ALPHAS = "alphas"
"""The parameter that holds what each edge prefers; what is searched for."""
INPUTS_KEPT = 2
"""How many edges into each node an architecture has."""


def operation(name: str, channels: int) -> nn.Module:
    """One of `OPERATIONS` but `none`.

    Args:
        name: of it.
        channels: of its feature maps.
    """
    if name == "skip":
        return nn.Identity()
    if name == "avg_pool":
        return nn.AvgPool2d(3, stride=1, padding=1)
    if name == "max_pool":
        return nn.MaxPool2d(3, stride=1, padding=1)
    kernel = int(name.removeprefix("conv"))
    return nn.Sequential(nn.ReLU(), nn.Conv2d(channels, channels, kernel, padding=kernel // 2))


def edges_into(nodes: int) -> list[range]:
    """The numbers of the edges into each node: one from the stem and one from every node before it.

    Args:
        nodes: how many there are beside the stem.
    """
    bounds = [node * (node + 1) // 2 for node in range(nodes + 1)]
    return [range(begin, end) for begin, end in pairwise(bounds)]


def derived(alphas: Float[Tensor, "edges operations"], nodes: int) -> list[str]:
    """The architecture that preferences amount to, as DARTS has it: an operation for each edge.

    An edge's operation is the strongest but `none`, and each node keeps the edges on which that is strongest, at most
    `INPUTS_KEPT`; the others do nothing.

    Args:
        alphas: any; softmax and order are the same on all edges.
        nodes: of the cell.
    """
    weights = alphas.detach().softmax(1)[:, 1:]
    strength, best = weights.max(1)
    architecture = ["none"] * len(alphas)
    for edges in edges_into(nodes):
        for edge in islice(sorted(edges, key=lambda edge: -float(strength[edge])), INPUTS_KEPT):
            architecture[edge] = OPERATIONS[1 + int(best[edge])]
    return architecture


class DartsSmall(nn.Module):
    """A stem, one cell of mixed operations and a linear layer: a supernet, or one architecture of its space.

    A 3x3 convolution of stride 2; then nodes, each the sum over the edges from the stem and from all nodes before it;
    ReLU and a linear layer of all nodes side by side. In the supernet an edge is the sum of all `OPERATIONS`, weighted
    by the softmax of its row of the parameter `alphas`. There is no normalization, so that all of it can be averaged.

    Args:
        input_shape: (channels, height, width), of any size.
        num_classes: number of logits.
        channels: of each node.
        nodes: of the cell; 3 have 6 edges.
        architecture: one operation for each edge, node by node, the edge from the stem first; `random`, one that is
            drawn with the weights, as a search that learns nothing would find it; nothing for the supernet.

    Raises:
        InputError: numbers below 1, or an architecture of other edges or operations.

    Reference: Liu et al., "DARTS: Differentiable Architecture Search", ICLR 2019, arXiv:1806.09055
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int,
        channels: int = 8,
        nodes: int = 3,
        architecture: Sequence[str] | str | None = None,
    ) -> None:
        super().__init__()
        if channels < 1 or nodes < 1:
            raise InputError(f"darts_small: channels and nodes must be at least 1, got {channels} and {nodes}")
        self.nodes, edges = nodes, nodes * (nodes + 1) // 2
        self.stem = nn.Conv2d(input_shape[0], channels, 3, stride=2, padding=1)
        self.alphas: nn.Parameter | None = None
        choices: list[tuple[str, ...]]
        if architecture is None:
            self.alphas = nn.Parameter(1e-3 * torch.randn(edges, len(OPERATIONS)))
            choices = [OPERATIONS[1:]] * edges
        else:
            choices = [() if name == "none" else (name,) for name in _checked(architecture, nodes)]
        self.edges = nn.ModuleList(nn.ModuleList(operation(name, channels) for name in choice) for choice in choices)
        self.classifier = nn.Linear(nodes * channels * half(input_shape[1]) * half(input_shape[2]), num_classes)

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Logits of a batch of normalized images."""
        weights = None if self.alphas is None else self.alphas.softmax(1)
        states = [self.stem(images)]
        for edges in edges_into(self.nodes):
            terms = []
            for state, edge in zip(list(states), edges, strict=True):
                operations: Iterable[nn.Module] = self.edges[edge].children()
                for number, mixed in enumerate(operations):
                    # Operation 0 adds nothing, and takes its share of the softmax.
                    terms.append(mixed(state) if weights is None else weights[edge, number + 1] * mixed(state))
            states.append(torch.stack(terms).sum(0))
        features = F.relu(torch.cat(states[1:], 1)).flatten(1)
        logits: Tensor = self.classifier(features)
        return logits

    @property
    def architecture(self) -> list[str]:
        """What the supernet's preferences amount to.

        Raises:
            InputError: this is one architecture already.
        """
        if self.alphas is None:
            raise InputError("darts_small: a network of one architecture has no preferences; expected the supernet")
        return derived(self.alphas, self.nodes)


def half(size: int) -> int:
    """Pixels left of `size` after a stride-2 convolution with same padding."""
    return (size + 1) // 2


def _checked(architecture: Sequence[str] | str, nodes: int) -> list[str]:
    """An architecture that is one.

    Args:
        architecture: as the constructor takes it.
        nodes: of the cell.

    Raises:
        InputError: it is none.
    """
    edges = nodes * (nodes + 1) // 2
    if architecture == "random":
        return derived(torch.randn(edges, len(OPERATIONS), device="cpu"), nodes)
    known = not isinstance(architecture, str) and len(architecture) == edges and {*architecture} <= {*OPERATIONS}
    if not known:
        raise InputError(
            f"darts_small: architecture must be random, or name for each of the {edges} edges of {nodes} nodes one of "
            f"{', '.join(OPERATIONS)}; got {architecture!r}"
        )
    names = list(architecture)
    for node, into in enumerate(edges_into(nodes), 1):
        if all(names[edge] == "none" for edge in into):
            raise InputError(f"darts_small: architecture leaves node {node} without an edge; expected at least one")
    return names
