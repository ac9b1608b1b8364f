"""The section that says who takes part: what is filled in, read and refused, and what is known before a run."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from fedsec.errors import InputError, ScenarioError
from fedsec.federation.selection import SELECTIONS
from fedsec.runs import run
from fedsec.scenario import CellConfig, load_scenario
from fedsec.scenario.participation.availability_trace import read_trace
from fedsec.scenario.participation.rounds import drawn_clients
from fedsec.scenario.participation.selection_config import SelectionConfig
from fedsec.scenario.plan import check_scenario, plan

FLIP = {"name": "label_flip", "num_byzantine": 4}
FIRST = {"name": "power_law", "exponent": 99, "attackers": "first"}


def scenario(selection: Any, **more: Any) -> dict[str, Any]:
    return {
        "dataset": {"name": "digits", "train_size": 60, "test_size": 40},
        "partition": {"clients": 20},
        "model": {"name": "mlp", "hidden": [4]},
        "federation": {"rounds": 2, "clients_per_round": 4, "local": {"steps": 1}, "selection": selection},
        "attack": FLIP,
        **more,
    }


def cell(selection: Any, **more: Any) -> CellConfig:
    (one,) = load_scenario(scenario(selection, **more)).cells()
    return one.config


@pytest.mark.parametrize("name", SELECTIONS)
def test_options_and_defaults_are_those_of_the_class(name: str) -> None:
    needed = {"candidates": 8} if name == "power_of_choice" else {}
    config = SelectionConfig.model_validate({"name": name, **needed})
    assert SELECTIONS[name](**config.options) == SELECTIONS[name](**needed)
    assert {*config.options} == {field.name for field in fields(SELECTIONS[name])}  # type: ignore[arg-type]
    assert config.model_dump().keys() == {"name", *config.options}
    assert SelectionConfig.model_validate(config.model_dump()) == config


def test_a_cell_without_selection_keeps_its_id() -> None:
    assert cell(None).id == cell(None, attack={**FLIP, "claimed_loss": 1.0}).id
    assert cell(None).model_dump()["federation"]["selection"] is None
    assert len({cell(None).id, cell("power_law").id, cell({"name": "power_law", "exponent": 2}).id}) == 3


def test_a_trace_is_read_once_and_is_part_of_the_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("trace.csv").write_text("until,client,from\n2,0,1\n2,3,2\n")
    Path("trace.json").write_text(json.dumps([{"client": 0, "from": 1, "until": 2}, [3, 2, 2]]))
    written = {"name": "availability", "trace": [[0, 1, 2], [3, 2, 2]]}
    from_csv, from_json = (cell({**written, "trace": f"trace.{kind}"}) for kind in ("csv", "json"))
    assert from_csv.id == from_json.id == cell(written).id
    Path("trace.csv").unlink()
    assert [drawn_clients(from_csv, number) for number in (1, 2)] == [[0], [0, 3]]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "", "expected a file .csv or .json"),
        ("missing.csv", None, "cannot read"),
        ("a.csv", "client,from\n1,2\n", "until is missing"),
        ("a.csv", "client,from,until\n1,2,x\n", "line 2: expected three whole numbers"),
        ("a.csv", "client,from,until\n1,2\n", "line 2: expected three whole numbers"),
        ("a.json", "{", "no JSON"),
        ("a.json", "{}", "expected a list"),
        ("a.json", "[[1, 2.5, 3]]", "entry 1: expected three whole numbers"),
        ("a.json", "[7]", "entry 1: expected three whole numbers"),
    ],
)
def test_a_bad_trace_is_named(name: str, text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        read_trace(str(tmp_path / name))


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ("fair", "federation.selection.name: expected one of power_law, cyclic, availability, power_of_choice"),
        ({"name": "cyclic", "exponent": 1}, "exponent: goes with power_law; expected no such key with cyclic"),
        ({"name": "cyclic", "attackers": "first"}, "expected one of anywhere, together with cyclic, got 'first'"),
        ("power_of_choice", "federation.selection.candidates: is required"),
        ({"name": "availability", "mean_on": 0.5}, "mean_on: expected a finite number of at least 1"),
        ({"name": "availability", "trace": "nowhere.csv"}, "federation.selection.trace: cannot read nowhere.csv"),
        ({"name": "availability", "trace": [[1, 2]]}, "federation.selection.trace"),
        ({"name": "power_law", "exponents": 1}, "exponents: unknown key"),
    ],
)
def test_what_is_wrong_is_said_with_its_key(selection: Any, message: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        load_scenario(scenario(selection)).cells()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("selection", "number"),
    [(None, 1), (FIRST, 4), ({**FIRST, "attackers": "last"}, 0), ({"name": "power_of_choice", "candidates": 20}, 4)],
)
def test_a_defense_is_told_how_many_there_will_be(selection: Any, number: int) -> None:
    config = cell(selection, defense={"name": "multi_krum", "num_byzantine": "actual"})
    assert config.defense[0].options["num_byzantine"] == number


def test_a_plan_counts_the_rounds_with_too_many() -> None:
    notes = " ".join(plan(load_scenario(scenario(FIRST, defense="median"))).notes)
    assert "median withstands 1 Byzantine of a round's 4 clients; 2 of 2 rounds have too many, as power_law" in notes
    asked = {"name": "power_of_choice", "candidates": 20}
    assert "may have too many" in " ".join(plan(load_scenario(scenario(asked, defense="median"))).notes)


def test_a_rule_is_tried_on_the_smallest_round() -> None:
    there = {"name": "availability", "trace": [[client, 1, 1] for client in range(8)] + [[0, 2, 2]]}
    scene = load_scenario(scenario(there, defense={"name": "trimmed_mean", "num_trimmed_per_side": 1}))
    with pytest.raises(ScenarioError, match="availability draws 1 of 20 clients in round 2"):
        check_scenario(scene)


@pytest.mark.usefixtures("quick_runs")
def test_a_run_counts_who_took_part(tmp_path: Path) -> None:
    (record,) = run(scenario(FIRST), out=tmp_path).records
    assert sum(record["participation"]) == 8
    assert [record["participation"][client] for client in record["byzantine"]] == [2] * 4
    assert record["metrics"]["byzantine_participation"] is None
    (fair,) = run(scenario(None, name="fair"), out=tmp_path).records
    assert "participation" not in fair
    assert "byzantine_participation" not in fair["metrics"]
