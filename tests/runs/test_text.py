"""Texts in a scenario: roles as clients, what is measured, ids without options, and what does not go with texts."""

import json
from pathlib import Path
from typing import Any

import pytest

from fedsec.data import Split
from fedsec.errors import PartitionError, ScenarioError
from fedsec.runs import InProcess, run
from fedsec.runs.partitioned import dataset_of, shares_of, strata_of
from fedsec.scenario import CellConfig, load_scenario
from fedsec.scenario.plan import check_scenario
from fedsec.tasks import NextToken

CELL: dict[str, Any] = {
    "dataset": {"name": "shakespeare", "length": 20, "train_size": 200, "test_size": 30},
    "partition": {"name": "by_group", "clients": 4},
    "model": {"name": "char_transformer", "width": 16, "heads": 2},
    "federation": {"rounds": 2, "clients_per_round": 3, "local": {"epochs": 1, "batch_size": 8, "lr": 0.5}},
}


def config(**sections: Any) -> CellConfig:
    return CellConfig.model_validate({**CELL, **sections})


@pytest.mark.usefixtures("pictures")
def test_a_federation_of_roles_learns_characters(tmp_path: Path) -> None:
    scenario = {**CELL, "name": "roles", "defense": "median", "attack": {"name": "alie", "num_byzantine": 1}}
    result = run(scenario, out=tmp_path, executor=InProcess())
    (record,) = result.records
    assert record["status"] == "done", record
    assert 1 < record["metrics"]["perplexity"] < 82
    assert 0 < record["metrics"]["accuracy"] < 1
    partition = json.loads((result.root / record["id"] / "partition.json").read_text())
    assert sum(map(sum, partition["counts"])) == 200
    assert partition["classes"][0] == "OTHELLO, THE MOOR OF VENICE: RODERIGO"


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({"model": "mlp"}, r"model: mlp gives \[82\] numbers a text; expected \[82, 20\], .* as char_lstm and"),
        ({"dataset": {"name": "shakespeare", "length": 1}}, r"dataset: shakespeare: length must be at least 2"),
    ],
)
def test_what_texts_cannot_be_learned_by_is_found_before_the_run(sections: dict[str, Any], says: str) -> None:
    scenario = load_scenario({**CELL, "name": "roles", **sections})
    with pytest.raises(ScenarioError, match=says) as caught:
        check_scenario(scenario)
    assert len(str(caught.value).splitlines()) == 1


def test_clients_are_whole_roles() -> None:
    cell = config()
    data = dataset_of(cell)
    strata = strata_of(cell, data, NextToken(82))
    assert strata is not None
    assert data.train.groups is not None
    owners = [set(data.train.groups[part].tolist()) for part in shares_of(cell, strata, len(data.train))]
    assert sum(map(len, owners)) == len(set.union(*owners)) == len(data.train.groups.unique())


def test_options_of_datasets_do_not_change_the_ids_of_cells_without_them() -> None:
    plain = {"dataset": "cifar100", "model": "cnn"}
    ids = {
        CellConfig.model_validate({**plain, "dataset": {"name": "cifar100", **options}}).id
        for options in ({}, {"labels": "fine"})
    }
    assert ids == {CellConfig.model_validate(plain).id}
    assert CellConfig.model_validate({**plain, "dataset": {"name": "cifar100", "labels": "coarse"}}).id not in ids


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({"partition": {"name": "dirichlet", "clients": 4}}, "without classes for 'dirichlet' to share out"),
        ({"dataset": {**CELL["dataset"], "normalization": "half"}}, "inputs are numbers of tokens; expected unit"),
        ({"attack": {"name": "label_flip", "num_byzantine": 1}}, "'label_flip' goes with classification"),
        (
            {"attack": {"name": "backdoor", "num_byzantine": 1}},
            "'backdoor' goes with classification",
        ),
        ({"attack": {"name": "noise_inputs", "num_byzantine": 1}}, "'noise_inputs' goes with"),
        (
            {"dataset": {"name": "digits"}, "model": "mlp"},
            "digits does not tell whom an example comes from; expected femnist",
        ),
        ({"dataset": {"name": "digits"}, "model": "char_lstm"}, "'char_lstm' goes with next_token"),
        (
            {"dataset": {"name": "digits"}, "model": "mlp", "partition": "pachinko"},
            "digits has no coarse classes above",
        ),
        ({"dataset": {"name": "shakespeare", "labels": "coarse"}}, "unknown key for dataset 'shakespeare'"),
    ],
)
def test_what_does_not_go_with_texts_is_refused(sections: dict[str, Any], says: str) -> None:
    with pytest.raises(ScenarioError, match=says):
        load_scenario({**CELL, **sections})


def test_more_clients_than_roles_are_refused() -> None:
    cell = config(partition={"name": "by_group", "clients": 146})
    data = dataset_of(cell)
    with pytest.raises(PartitionError, match="146 clients, but the examples come from"):
        shares_of(cell, strata_of(cell, data, NextToken(82)), len(data.train))


def test_groups_follow_their_examples() -> None:
    data = dataset_of(config())
    part: Split = data.train
    assert part.groups is not None
    assert data.groups[int(part.groups[0])] in data.groups
    assert len(part.groups) == len(part) == 200
