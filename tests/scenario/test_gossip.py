"""Scenarios of federations without a server: the graph, its files, and what is refused with a line of the file."""

from pathlib import Path
from typing import Any

import pytest

from fedsec.errors import ScenarioError
from fedsec.scenario import load_scenario
from fedsec.scenario.plan import check_scenario

CELL = """
dataset: digits
partition: {{clients: {clients}}}
federation: {{algorithm: {algorithm}, rounds: 2{federation}}}
{more}
"""


def scenario(
    path: Path, federation: str = "", more: str = "", clients: int = 5, algorithm: str = "decentralized"
) -> Any:
    file = path / "s.yaml"
    file.write_text(CELL.format(federation=federation, more=more, clients=clients, algorithm=algorithm))
    loaded = load_scenario(file)
    check_scenario(loaded)
    return loaded.cells()[0].config


def test_a_ring_is_what_there_is_by_default(tmp_path: Path) -> None:
    config = scenario(tmp_path)
    assert config.federation.graph.name == "ring"
    assert [part.name for part in config.defense] == ["mean"]
    assert config.federation.bn is None
    assert config.id == scenario(tmp_path, ", graph: ring").id != scenario(tmp_path, ", graph: complete").id


def test_graphs_come_from_files(tmp_path: Path) -> None:
    pairs, matrix, weights = (tmp_path / name for name in ("pairs.csv", "matrix.csv", "weights.csv"))
    pairs.write_text("0,1\n1,2\n")
    matrix.write_text("0,1,0\n1,0,1\n0,1,0\n")
    weights.write_text("0.5,0.5,0\n0.5,0,0.5\n0,0.5,0.5\n")
    read = [
        scenario(tmp_path, f", graph: {{name: edges, edges: {file}, mixing: given, weights: {weights}}}", clients=3)
        for file in (pairs, matrix)
    ]
    assert [sorted(map(sorted, config.federation.graph.edges)) for config in read] == [[[0, 1], [1, 2]]] * 2
    assert read[0].federation.graph.weights[1] == [0.5, 0.0, 0.5]


@pytest.mark.parametrize(
    ("federation", "more", "expected"),
    [
        (", graph: star", "", "expected one of"),
        (", graph: {name: ring, p: 0.5}", "", "federation.graph.p: goes with name: erdos_renyi"),
        (", graph: erdos_renyi", "", "federation.graph.p: is required by erdos_renyi"),
        (", graph: {name: edges, edges: nowhere.csv}", "", "cannot read nowhere.csv"),
        (", graph: grid", "", "federation.graph: 5 clients make no grid"),
        (", clients_per_round: 2", "", "all clients exchange models in every round"),
        (", bn: local", "", "federation.bn: goes with"),
        (", secure_aggregation: {clients: 5}", "", "federation.secure_aggregation: goes with"),
        ("", "defense: [dp_sgd]", "defense"),
        ("", "defense: [{name: dp_sgd, noise_multiplier: 1.0}]", "no account of that is kept"),
        ("", "defense: [{name: clip, max_norm: 1.0}, mean]", "send whole models to each other"),
        ("", "defense: {name: trimmed_mean, num_trimmed_per_side: 2}", "client 0 has 2 neighbors, 3 rows with its own"),
        ("", "defense: {name: trimmed_mean, byzantine_fraction: 0.2}", "neighborhoods differ"),
        ("", "inversion: {name: dlg}", "expected another inversion with decentralized"),
        ("", "audit: {membership: {}}", "looks at updates, and decentralized exchanges none"),
    ],
)
def test_refusals(tmp_path: Path, federation: str, more: str, expected: str) -> None:
    with pytest.raises(ScenarioError, match=expected.replace("[", r"\[")):
        scenario(tmp_path, federation, more)


def test_other_algorithms_have_no_graph(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="goes with decentralized; expected no such key with fedavg"):
        scenario(tmp_path, ", graph: ring", algorithm="fedavg")
