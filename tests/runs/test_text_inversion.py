"""A curious server reads texts in a scenario: rows, files, tables, sums, and what does not go together."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from fedsec.errors import ScenarioError
from fedsec.runs import InProcess, run
from fedsec.scenario import load_scenario

SCENARIO: dict[str, Any] = {
    "name": "read",
    "dataset": {"name": "shakespeare", "length": 8, "train_size": 12, "test_size": 4},
    "partition": {"clients": 6},
    "model": {"name": "char_transformer", "width": 32, "heads": 2},
    "federation": {"algorithm": "fedsgd", "rounds": 1},
    "inversion": {"name": "dager", "target": {"client": 1, "rounds": [1]}},
}


@pytest.mark.usefixtures("pictures")
def test_texts_are_read_and_stand_in_tables_and_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    scenario = {**SCENARIO, "matrix": {"inversion": ["none", SCENARIO["inversion"], "token_rows"]}}
    del scenario["inversion"]
    for one in scenario["matrix"]["inversion"][1:]:
        assert one
    scenario["matrix"]["inversion"][2] = {"name": "token_rows", "target": {"client": 1, "rounds": [1]}}
    result = run(scenario, out=tmp_path, executor=InProcess(), console=Console(width=200))
    assert result.failures == 0
    none, dager, rows = result.records
    assert dager["metrics"]["exact_match"] == dager["metrics"]["token_set"] == dager["metrics"]["rouge_l"] == 1
    assert 0 <= dager["metrics"]["token_accuracy_null"] < 0.5
    assert (rows["metrics"]["token_set"], "exact_match" in rows["metrics"]) == (1, False)
    assert 0 < rows["metrics"]["token_set_null"] == dager["metrics"]["token_set_null"] < 1
    assert "token_set" not in none["metrics"]
    (pair, _) = json.loads((result.root / dager["id"] / "leakage" / "round-0001" / "texts.json").read_text())["texts"]
    assert pair["client"] == pair["recovered"]
    assert len(pair["client"]) == 8
    assert "leakage: what a curious server reads" in capsys.readouterr().out
    with (result.root / "results.csv").open() as file:
        assert [row["rouge_2"] for row in csv.DictReader(file)] == ["", "1.0", ""]


@pytest.mark.usefixtures("pictures")
def test_a_sum_of_clients_is_a_larger_batch(tmp_path: Path) -> None:
    federation = {"algorithm": "fedsgd", "rounds": 1, "weighting": "uniform", "secure_aggregation": {"clients": 2}}
    result = run({**SCENARIO, "federation": federation}, out=tmp_path, executor=InProcess())
    (record,) = result.records
    line = json.loads((result.root / record["id"] / "rounds.jsonl").read_text().splitlines()[0])
    assert line["leakage"]["images"] == 4
    assert line["leakage"]["notes"][0].startswith("the sum of 2 clients: 4 texts")


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({"dataset": "digits", "model": "mlp"}, "'dager' goes with next_token; expected another inversion"),
        ({"inversion": {"name": "dlg"}}, "'dlg' goes with classification; expected another inversion"),
    ],
)
def test_images_and_texts_are_not_taken_for_each_other(sections: dict[str, Any], says: str) -> None:
    with pytest.raises(ScenarioError, match=says):
        load_scenario({**SCENARIO, **sections})
