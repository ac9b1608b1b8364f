"""How many Byzantine clients defenses are told of: a number, as many as there are, or a share of a round's clients."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from fedsec.cli.commands import app
from fedsec.errors import ScenarioError
from fedsec.runs import run
from fedsec.scenario import CellConfig, load_scenario
from fedsec.scenario.plan import check_scenario, plan
from fedsec.scenario.schema import scenario_schema

FLIP = {"name": "sign_flip", "num_byzantine": 2}


def scenario(defense: Any, **more: Any) -> dict[str, Any]:
    federation = {"rounds": 2, "local": {"steps": 1}, **more.pop("federation", {})}
    return {
        "dataset": {"name": "digits", "train_size": 60, "test_size": 40},
        "partition": {"clients": 10},
        "model": {"name": "mlp", "hidden": [4]},
        "federation": federation,
        "attack": FLIP,
        **({} if defense is None else {"defense": defense}),
        **more,
    }


def options(defense: Any, **more: Any) -> list[dict[str, Any]]:
    (cell,) = load_scenario(scenario(defense, **more)).cells()
    return [part.options for part in cell.config.defense]


@pytest.mark.parametrize(
    ("defense", "attack", "sampled", "number"),
    [
        ({"num_byzantine": "actual"}, FLIP, None, 2),
        ({"num_byzantine": "actual"}, {"name": "sign_flip", "fraction": 0.35}, None, 3),
        ({"num_byzantine": "actual"}, "none", None, 0),
        ({"num_byzantine": "actual"}, FLIP, 5, 1),
        ({"num_byzantine": "actual"}, FLIP, 6, 2),  # 1.2 of them on average, rounded up
        ({"byzantine_fraction": 0.3}, FLIP, None, 3),
        ({"byzantine_fraction": 0.3}, FLIP, 9, 2),
        ({"byzantine_fraction": 0.0}, FLIP, None, 0),
        ({"num_byzantine": 3}, FLIP, None, 3),
    ],
)
def test_what_stands_for_a_number(defense: dict[str, Any], attack: Any, sampled: int | None, number: int) -> None:
    more = {"attack": attack, "federation": {"clients_per_round": sampled}}
    assert options({"name": "multi_krum", **defense}, **more)[0]["num_byzantine"] == number
    listed = [{"name": "nnm", **defense}, "median"]
    assert options(listed, **more)[0] == {"num_byzantine": number}


def test_it_is_resolved_before_a_cells_id() -> None:
    def cell(**told: Any) -> CellConfig:
        return load_scenario(scenario({"name": "multi_krum", **told})).cells()[0].config

    plain = cell(num_byzantine=2)
    assert cell(num_byzantine="actual").id == cell(byzantine_fraction=0.2).id == plain.id
    assert CellConfig.model_validate(plain.model_dump(mode="json")).id == plain.id


@pytest.mark.parametrize(("declared", "number"), [("actual", 2), (3, 3), (0.1, 1), (0, 0)])
def test_all_defenses_are_told_the_same(declared: Any, number: int) -> None:
    federation = {"declared_byzantine": declared}
    assert options([{"name": "nnm"}, {"name": "multi_krum"}], federation=federation) == [
        {"num_byzantine": number},
        {"num_byzantine": number, "num_selected": None},
    ]
    assert options({"name": "trimmed_mean"}, federation=federation)[0]["num_trimmed_per_side"] == number
    assert options({"name": "multi_krum", "num_byzantine": 1}, federation=federation)[0]["num_byzantine"] == 1
    trimmed = options({"name": "trimmed_mean", "trim_per_side": 0.4}, federation=federation)[0]
    assert (trimmed["trim_per_side"], trimmed["num_trimmed_per_side"]) == (0.4, None)
    assert options("median", federation=federation) == options("median")


def test_what_is_declared_is_an_axis() -> None:
    matrix = {"federation.declared_byzantine": ["actual", 1], "defense": ["multi_krum", "mean"]}
    cells = load_scenario(scenario(None, matrix=matrix)).cells()
    assert [cell.config.defense[0].options.get("num_byzantine") for cell in cells] == [2, None, 1, None]
    assert len({cell.id for cell in cells}) == 4


@pytest.mark.parametrize(
    ("defense", "message"),
    [
        ({"name": "multi_krum", "num_byzantine": 2, "byzantine_fraction": 0.2}, "excludes num_byzantine"),
        ({"name": "median", "byzantine_fraction": 0.2}, "median takes no number of Byzantine clients"),
        ({"name": "multi_krum", "byzantine_fraction": 1.2}, "expected a share of a round's clients"),
        ({"name": "multi_krum", "num_byzantine": "all"}, "defense.num_byzantine: expected an integer"),
        ([{"name": "nnm", "byzantine_fraction": "x"}, "mean"], r"defense\[0\].byzantine_fraction: expected a share"),
        ({"name": "multi_krum"}, "num_byzantine"),
    ],
)
def test_mistakes(defense: Any, message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        load_scenario(scenario(defense))


def test_fast_attackers_are_told_as_many_as_arrive() -> None:
    """By the clock, where others are slower, and by their number where nobody is."""
    krum = {"name": "krum", "num_byzantine": "actual"}

    def told(speed: Any, **clock: Any) -> Any:
        federation = {"algorithm": "async", "clients_per_round": 3, **clock}
        return options(krum, attack={**FLIP, "speed": speed}, federation=federation)[0]["num_byzantine"]

    assert [told(1), told(1000)] == [1, 2]  # none of the two trains twice at a time
    assert told(0.001) == 0  # they never arrive
    assert told(1000, concurrency=3, refill="each_step") == 1  # who waits for everybody is not hurried


def test_a_missing_number_says_where_else_it_may_stand_and_a_wrong_one_is_told_once() -> None:
    with pytest.raises(ScenarioError, match=r"'krum'; expected an integer, or federation.declared_byzantine$"):
        load_scenario(scenario({"name": "krum"}))
    with pytest.raises(ScenarioError) as caught:
        load_scenario(scenario({"name": "krum"}, federation={"declared_byzantine": -1}))
    told = [line for line in str(caught.value).splitlines() if "declared_byzantine: " in line]
    assert len(told) == 1
    assert "federation.declared_byzantine: expected actual or an integer of at least 0" in told[0]


KRUM = {"name": "multi_krum", "num_byzantine": "actual"}
MATRIX = {"attack.num_byzantine": [2, 4]}  # of ten clients Multi-Krum withstands three


@pytest.mark.usefixtures("quick_runs")
def test_rules_that_cannot_withstand_so_many_have_a_row_and_the_others_go_on(tmp_path: Path) -> None:
    result = run(scenario(KRUM, attack={"name": "sign_flip"}, matrix=MATRIX), out=tmp_path, workers=1)
    done, refused = result.records
    assert (done["status"], refused["status"], result.failures) == ("done", "refused", 0)
    assert refused["error"] == "MultiKrum: num_byzantine 4 needs at least 11 rows, not 10"
    again = run(scenario(KRUM, attack={"name": "sign_flip"}, matrix=MATRIX), out=tmp_path, workers=1)
    assert again.records == result.records
    assert refused["config"]["attack"]["num_byzantine"] == 4


def test_trimming_that_cannot_go_so_far_is_refused_alike() -> None:
    """Trimming counts its Byzantine clients under another name."""
    trimmed = {"name": "trimmed_mean", "num_trimmed_per_side": "actual"}
    cells = load_scenario(scenario(trimmed, attack={"name": "sign_flip"}, matrix={"attack.num_byzantine": [2, 5]}))
    check_scenario(cells)
    assert list(plan(cells).refused) == [cells.cells()[1].id]


def test_a_dry_run_says_which_cells_will_not_run(tmp_path: Path) -> None:
    path = tmp_path / "sample.yaml"
    path.write_text(yaml.safe_dump(scenario(KRUM, attack={"name": "sign_flip"}, matrix=MATRIX)))
    shown = " ".join(CliRunner().invoke(app, ["run", str(path), "--dry-run"], env={"COLUMNS": "200"}).stdout.split())
    assert "n/a: MultiKrum: num_byzantine 4 needs at least 11 rows, not 10" in shown
    work = plan(load_scenario(path)).work
    assert [one and one.gradients for one in work] == [10 * 2 * 6, 0]


def test_numbers_that_are_written_down_must_be_possible_and_so_must_some_cell() -> None:
    written = load_scenario(scenario({"name": "multi_krum", "num_byzantine": 4}))
    matrix = {"attack.num_byzantine": [4, 5]}
    nobody = load_scenario(scenario(KRUM, attack={"name": "sign_flip"}, matrix=matrix))
    for loaded in (written, nobody):
        with pytest.raises(ScenarioError, match="num_byzantine 4 needs at least 11 rows, not 10"):
            check_scenario(loaded)


def test_editors_know_what_may_stand_for_a_number() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = jsonschema.Draft202012Validator(scenario_schema(plugins=False))  # tests of the schema check the schema
    more = {"federation": {"rounds": 1, "declared_byzantine": "actual", "broken_condition": "relax"}}
    for defense in (KRUM, [{"name": "nnm", "byzantine_fraction": 0.2}, "mean"]):
        schema.validate({**scenario(defense), **more})
    schema.validate({**scenario({"name": "multi_krum"}), "matrix": {"defense.num_byzantine": ["actual", 1]}})
    with pytest.raises(jsonschema.ValidationError):
        schema.validate(scenario({"name": "median", "byzantine_fraction": 0.2}))
