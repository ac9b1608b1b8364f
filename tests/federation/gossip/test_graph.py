"""Graphs and mixing matrices against what is known of them in closed form."""

import numpy as np
import pytest
from numpy.typing import NDArray

from fedsec.errors import InputError
from fedsec.federation.gossip.graph import Graph
from fedsec.federation.gossip.mixing import check_mixing, mixing_matrix, spectral_gap
from fedsec.seeds import Streams

STREAMS = Streams(3)


def weights(graph: Graph, clients: int) -> NDArray[np.float64]:
    adjacency = graph.adjacency(clients, STREAMS)
    assert (adjacency == adjacency.T).all()
    assert not adjacency.diagonal().any()
    matrix = mixing_matrix(graph, adjacency)
    check_mixing(matrix, adjacency)
    return matrix


@pytest.mark.parametrize(
    ("graph", "clients", "degrees"),
    [
        (Graph("ring"), 2, {1}),
        (Graph("ring"), 7, {2}),
        (Graph("grid"), 12, {4}),
        (Graph("grid"), 6, {3}),  # two rows: up and down is the same neighbor
        (Graph("complete"), 5, {4}),
        (Graph("edges", edges=[[0, 1], [1, 2], [2, 1]]), 3, {1, 2}),
    ],
)
def test_degrees(graph: Graph, clients: int, degrees: set[int]) -> None:
    assert set(graph.adjacency(clients, STREAMS).sum(1).tolist()) == degrees


def test_a_grid_is_a_torus() -> None:
    adjacency = Graph("grid").adjacency(12, STREAMS)  # three rows of four
    assert np.flatnonzero(adjacency[0]).tolist() == [1, 3, 4, 8]


@pytest.mark.parametrize("clients", [3, 8])
def test_eigenvalues_of_a_ring_and_of_a_complete_graph_are_the_textbooks(clients: int) -> None:
    ring = weights(Graph("ring", mixing="uniform"), clients)
    expected = sorted((1 + 2 * np.cos(2 * np.pi * k / clients)) / 3 for k in range(clients))
    np.testing.assert_allclose(np.linalg.eigvalsh(ring), expected, atol=1e-12)
    assert spectral_gap(ring) == pytest.approx(1 - sorted(map(abs, expected))[-2])
    complete = weights(Graph("complete"), clients)
    np.testing.assert_allclose(complete, 1 / clients)
    assert spectral_gap(complete) == pytest.approx(1)


def test_metropolis_hastings_of_a_star_is_by_the_larger_degree() -> None:
    star = weights(Graph("edges", edges=[[0, 1], [0, 2], [0, 3]]), 4)
    np.testing.assert_allclose(star[0], [0.25, 0.25, 0.25, 0.25])
    np.testing.assert_allclose(star[1], [0.25, 0.75, 0, 0])


def test_random_graphs_are_connected_drawn_alike_and_as_dense_as_asked() -> None:
    graph = Graph("erdos_renyi", p=0.3)
    one, again = (graph.adjacency(20, Streams(1)) for _ in range(2))
    assert (one == again).all()
    assert not (one == graph.adjacency(20, Streams(2))).all()
    density = np.mean([graph.adjacency(20, Streams(seed)).sum() / 380 for seed in range(40)])
    assert density == pytest.approx(0.3, abs=0.03)
    for seed in range(10):
        mixing_matrix(graph, graph.adjacency(20, Streams(seed)))


@pytest.mark.parametrize(
    ("options", "clients", "expected"),
    [
        ({"name": "ring"}, 1, "at least 2 clients"),
        ({"name": "grid"}, 7, "7 clients make no grid"),
        ({"name": "erdos_renyi"}, 5, "erdos_renyi needs p"),
        ({"name": "ring", "p": 0.3}, 5, "only erdos_renyi has it"),
        ({"name": "erdos_renyi", "p": 0.01}, 20, "was connected; expected a larger p"),
        ({"name": "edges", "edges": [[0, 1], [2, 3]]}, 4, r"no path leads from client 0 to \[2, 3\]"),
        ({"name": "edges", "edges": [[0, 4]]}, 4, r"edge \[0, 4\] names a client"),
        ({"name": "ring", "mixing": "given"}, 4, "given needs weights"),
        ({"name": "edges", "edges": [[0, 1], [1, 2]], "mixing": "uniform"}, 3, "1 to 2; expected"),
        ({"mixing": "given", "weights": [[1.0]]}, 2, "2x2 numbers, got 1x1"),
        ({"mixing": "given", "weights": [[0.5, 0.5], [0.4, 0.6]]}, 2, "must be symmetric"),
        ({"mixing": "given", "weights": [[0.5, 0.4], [0.4, 0.5]]}, 2, "sum to one"),
        ({"mixing": "given", "weights": [[1.0, 0.0], [0.0, 1.0]]}, 2, "an edge without weight"),
        ({"mixing": "given", "weights": [[0.0, 1.0], [1.0, 0.0]]}, 2, "no spectral gap"),
        ({"mixing": "given", "weights": [[2.0, -1.0], [-1.0, 2.0]]}, 2, "not negative"),
    ],
)
def test_graphs_that_are_none_are_refused(options: dict[str, object], clients: int, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        weights(Graph(**options), clients)  # type: ignore[arg-type]
