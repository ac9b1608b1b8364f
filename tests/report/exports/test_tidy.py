"""Tidy tables: a row a cell or round, columns of one type, and what becomes of them in files and data frames."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from fedsec.errors import InputError
from fedsec.report.exports.frames import to_frame, to_parquet
from fedsec.report.exports.text_tables import to_csv
from fedsec.report.exports.tidy import cell_table, round_table, typed, uniform

RECORDS: list[dict[str, Any]] = [
    {
        "id": "a",
        "cell": {"attack": "=cmd()", "partition.alpha": "0.1", "seed": "0"},
        "status": "done",
        "metrics": {"accuracy": 0.1 + 0.2, "rejected_updates": 3, "per_class_accuracy": [0.5, None]},
        "seconds": 2,
    },
    {
        "id": "b",
        "cell": {"attack": "none", "partition.alpha": "10", "seed": "1"},
        "status": "failed",
        "metrics": {},
        "seconds": 0.5,
    },
]


def test_axes_are_of_the_type_that_all_their_values_have() -> None:
    table = cell_table(RECORDS)
    assert list(table.columns) == [
        *("id", "attack", "partition.alpha", "seed", "status"),
        *("accuracy", "rejected_updates", "per_class_accuracy", "seconds"),
    ]
    assert table.keys["seed"] == [0, 1]
    assert table.keys["partition.alpha"] == [0.1, 10.0]
    assert table.values["accuracy"] == [0.1 + 0.2, None]
    assert table.values["seconds"] == [2.0, 0.5]


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (["true", "false", None], [True, False, None]),
        (["1", "-2"], [1, -2]),
        (["1", "1e-3"], [1.0, 0.001]),
        (["1", "none"], ["1", "none"]),
        (["007", "1_0"], ["007", "1_0"]),
        (["nan", "inf"], ["nan", "inf"]),
        ([None], [None]),
    ],
)
def test_only_what_is_written_as_a_number_becomes_one(texts: list[str | None], values: list[Any]) -> None:
    assert typed(texts) == values


def test_a_column_has_one_type() -> None:
    assert uniform([1, 2.5, None]) == [1.0, 2.5, None]
    assert uniform([1, "ipm", None]) == ["1", "ipm", None]
    assert [type(value) for value in uniform([[1, 0.5], None])[0]] == [float, float]


def test_the_csv_reads_back_to_the_last_digit_and_holds_no_formula() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(cell_table(RECORDS)))))
    assert float(rows[0]["accuracy"]) == 0.1 + 0.2
    assert rows[0]["attack"] == "'=cmd()"
    assert (rows[0]["per_class_accuracy.0"], rows[0]["per_class_accuracy.1"]) == ("0.5", "")
    assert rows[1]["accuracy"] == ""


def test_long_tables_have_a_row_for_each_number() -> None:
    table = cell_table(RECORDS).only(["per_class_accuracy", "accuracy"]).long()
    assert table.keys["metric"] == ["per_class_accuracy.0", "accuracy"]
    assert table.values["value"] == [0.5, 0.1 + 0.2]
    assert table.keys["id"] == ["a", "a"]


def test_an_unknown_metric_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"'accurcy'.*did you mean 'accuracy'"):
        cell_table(RECORDS).only(["accurcy"])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A run of which one cell has two rounds, of whose log the last line is cut."""
    lines = [
        {"round": 1, "accuracy": None, "clients": [0, 1], "cost": {"upload_bytes": 5}, "attack": {"z": 0.5}},
        {"round": 2, "accuracy": 0.75, "clients": [1], "cost": {"upload_bytes": 6}, "attack": {"z": "auto"}},
    ]
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "rounds.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"round"')
    return tmp_path


def test_rounds_stand_beside_the_axes_of_their_cell(root: Path) -> None:
    table = round_table(root, RECORDS)
    assert list(table.keys) == ["id", "attack", "partition.alpha", "seed", "round"]
    assert (table.keys["id"], table.keys["seed"], table.keys["round"]) == (["a", "a"], [0, 0], [1, 2])
    assert table.values["cost.upload_bytes"] == [5, 6]
    assert table.values["attack.z"] == ["0.5", "auto"]
    text = to_csv(table)
    assert "clients" not in text.splitlines()[0]
    assert "0.75" in text.splitlines()[2]


def test_parquet_keeps_types_and_lists(root: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    back = parquet.read_table(io.BytesIO(to_parquet(round_table(root, RECORDS))))
    assert back["clients"].to_pylist() == [[0, 1], [1]]
    assert str(back.schema.field("seed").type) == "int64"
    assert back["accuracy"].to_pylist() == [None, 0.75]
    cells = parquet.read_table(io.BytesIO(to_parquet(cell_table([RECORDS[1]]).only([]))))
    assert str(cells.schema.field("seconds").type) == "double"


def test_data_frames_have_types_that_know_gaps(root: Path) -> None:
    pytest.importorskip("pandas")
    cells, rounds = to_frame(cell_table(RECORDS)), to_frame(round_table(root, RECORDS))
    assert cells.dtypes.astype(str).to_dict() == {
        **dict.fromkeys(["id", "attack", "status", "per_class_accuracy"], "object"),
        **dict.fromkeys(["partition.alpha", "accuracy", "seconds"], "float64"),
        "seed": "int64",
        "rejected_updates": "Int64",
    }
    assert rounds.groupby("seed")["accuracy"].last().tolist() == [0.75]


def test_lists_are_spread_to_their_last_entry() -> None:
    cells = [
        {"id": "a", "cell": {}, "status": "done", "metrics": {"recall": recall}} for recall in ([0.5, 0.25], [1.0])
    ]
    assert to_csv(cell_table(cells)) == "id,status,recall.0,recall.1\na,done,0.5,0.25\na,done,1.0,\n"


def test_names_that_begin_as_formulas_are_text_in_a_spreadsheet() -> None:
    cell = {"id": "a", "cell": {"=1+1": "@x"}, "status": "done", "metrics": {"-2+3": 0.5}}
    assert to_csv(cell_table([cell])) == "id,'=1+1,status,'-2+3\na,'@x,done,0.5\n"
