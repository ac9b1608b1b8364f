"""What an attack says of its rounds reaches the files and the end of a run."""

import io
import json
from pathlib import Path
from typing import Any

from rich.console import Console


def test_a_null_attack_is_remarked(tiny: Any, tmp_path: Path) -> None:
    text = io.StringIO()
    result = tiny.run(
        tmp_path,
        "matrix.attack=[{name: alie, num_byzantine: 1}]",
        "matrix.defense=[median]",
        "federation.rounds=2",
        console=Console(file=text, width=500),
    )
    (record,) = result.records
    z = record["attack_report"]["z"]
    assert z["min"] == z["max"] == z["mean"] < 0
    assert z["rounds"] == 2
    assert list(record["attack_report"]["remark"].values()) == [2]
    lines = (result.root / record["id"] / "rounds.jsonl").read_text().splitlines()
    assert [json.loads(line)["attack"]["z"] for line in lines] == [z["mean"]] * 2
    assert (
        "note: ALIE's z (neurips) for 1 Byzantine of 6 clients is -0.2533, which points the other way"
        in text.getvalue()
    )


def test_claims_beside_a_rule_that_weighs_nobody_are_remarked(tiny: Any, tmp_path: Path) -> None:
    result = tiny.run(
        tmp_path,
        "matrix.attack=[{name: sign_flip, num_byzantine: 1, claimed_examples: 5}]",
        "matrix.defense=[mean, median]",
        "federation.rounds=1",
    )
    by_mean, by_median = result.records
    assert "attack_report" not in by_mean
    (remark,) = by_median["attack_report"]["remark"]
    assert remark.startswith("claimed_examples does nothing")
