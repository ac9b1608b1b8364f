"""A server with data of its own, from a scenario's key to a run."""

from pathlib import Path
from typing import Any

import pytest
import torch

from fedsec.errors import ScenarioError
from fedsec.federation import Federation
from fedsec.runs.experiment import Experiment, build_experiment
from fedsec.scenario import CellConfig, load_scenario
from fedsec.scenario.plan import check_scenario, plan

BASE: dict[str, Any] = {
    "dataset": {"name": "digits", "train_size": 200, "test_size": 40},
    "partition": {"name": "iid", "clients": 5},
    "model": {"name": "mlp", "hidden": [4]},
    "federation": {"rounds": 2, "server_data": {"examples": 30}},
    "defense": ["fltrust"],
}


def experiment(**federation: Any) -> Experiment:
    content = {**BASE, "federation": {**BASE["federation"], **federation}}
    return build_experiment(CellConfig.model_validate(content), device=torch.device("cpu"), threads=1)


def shares(built: Experiment) -> list[set[int]]:
    assert isinstance(built.federation, Federation)
    return [set(client.tolist()) for client in built.federation.data.clients]


@pytest.mark.parametrize("algorithm", [{"algorithm": "fedavg"}, {"algorithm": "fedprox"}, {"algorithm": "fedsgd"}])
def test_the_server_s_examples_are_taken_from_the_clients(algorithm: dict[str, Any]) -> None:
    built = experiment(**algorithm)
    clients = shares(built)
    assert sum(map(len, clients)) == sum(map(sum, built.counts)) == 170
    assert isinstance(built.federation, Federation)
    server = built.federation.server_data
    assert server is not None
    images, _ = server.trainer.data.client_examples(0)
    assert len(images) == 30
    theirs = built.dataset.train.inputs[sorted(set.union(*clients))].flatten(1)
    assert not bool((images.flatten(1)[:, None] == theirs).all(2).any())
    assert built.federation.play().round == 1
    smaller = shares(experiment(**algorithm, server_data={"examples": 10}))
    assert all(share <= more for share, more in zip(clients, smaller, strict=True))


def test_what_is_wrong_with_it_is_said_before_a_run(tmp_path: Path) -> None:
    path = tmp_path / "scenario.yaml"
    text = "{name: trust, dataset: digits, defense: fltrust, federation: {rounds: 1, %s}}"
    for keys, problem in (
        ("algorithm: fedavg", r"federation\.server_data: FLTrust trusts .* expected server_data: \{examples: 100\}"),
        ("algorithm: scaffold, server_data: {}", "the server cannot train like a client of Scaffold"),
        ("algorithm: fedavg, server_data: {examples: 0}", "examples"),
        ("algorithm: fedavg, server_data: {bias: 1.5}", "bias"),
        ("algorithm: fedgkt, server_data: {}", "server_data: goes with"),
    ):
        path.write_text(text % keys)
        with pytest.raises(ScenarioError, match=problem):
            check_scenario(load_scenario(path))


def test_the_plan_counts_what_the_server_trains() -> None:
    def work(defense: str) -> float:
        content = {**BASE, "defense": [defense], "federation": {"rounds": 2, "server_data": {"examples": 30}}}
        total = plan(load_scenario({"name": "work", **content})).total
        assert total is not None
        return total

    assert work("fltrust") - work("mean") == 2 * 30


def test_cells_without_it_are_called_what_they_were() -> None:
    plain = {key: value for key, value in BASE.items() if key not in ("federation", "defense")}
    named = CellConfig.model_validate({**plain, "federation": {"rounds": 2, "server_data": None}})
    assert named.id == CellConfig.model_validate({**plain, "federation": {"rounds": 2}}).id
    assert named.id != CellConfig.model_validate({**plain, "federation": {"rounds": 2, "server_data": {}}}).id
