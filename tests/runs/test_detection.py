"""Whom rules take for Byzantine, against a slow account of the rounds; and the client that a model serves worst."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import Float64
from torch import Tensor

from fedsec.defense import Cohort, Gram, GramRule
from fedsec.errors import InputError
from fedsec.plugins import registry
from fedsec.report.columns import tables
from fedsec.report.missing_values import why
from fedsec.report.remarks import remarks
from fedsec.runs import InProcess, run
from fedsec.runs.detection import Exclusions, worst_class_mix


def line(clients: list[int], byzantine: list[int], suspected: list[int] | None) -> dict[str, Any]:
    told = {} if suspected is None else {"suspected": suspected}
    return {"clients": clients, "byzantine_in_round": byzantine, **told}


ROUNDS = [line([0, 1, 2, 3], [3], [3, 0]), line([1, 2, 3], [3], [2]), line([0, 1, 2], [], []), line([0, 4], [4], [4])]


def test_counts_over_rounds() -> None:
    counts = Exclusions(ROUNDS[:1])
    for later in ROUNDS[1:]:
        counts.add(later)
    found = counts.metrics()
    caught = sum(len({*one["byzantine_in_round"]} & {*one["suspected"]}) for one in ROUNDS)
    attacks = sum(len(one["byzantine_in_round"]) for one in ROUNDS)
    suspicions = sum(len(one["suspected"]) for one in ROUNDS)
    honest = sum(len(one["clients"]) for one in ROUNDS) - attacks
    assert found == {
        "detection_precision": caught / suspicions,
        "detection_recall": caught / attacks,
        "honest_excluded": (suspicions - caught) / honest,
    }
    assert (caught, attacks, suspicions, honest) == (2, 3, 4, 9)
    rounds = {one["client"]: (one["honest_rounds"], one["excluded"]) for one in counts.by_client()}
    assert rounds == {0: (3, 1), 1: (3, 0), 2: (3, 1)}


def test_shares_of_nobody_are_none() -> None:
    silent = Exclusions([line([0, 1], [1], None)])
    assert (silent.metrics(), silent.by_client()) == ({}, [])
    assert Exclusions([line([0, 1], [], [])]).metrics() == {
        "detection_precision": None,
        "detection_recall": None,
        "honest_excluded": 0.0,
    }
    assert Exclusions([line([1], [1], [1])]).metrics() == {
        "detection_precision": 1.0,
        "detection_recall": 1.0,
        "honest_excluded": None,
    }


def test_the_worst_class_mix_is_the_accuracy_on_a_test_set_of_that_mix() -> None:
    rng = np.random.default_rng(0)
    counts, recall = rng.integers(0, 9, (5, 4)), rng.random(4)
    mixes = [np.average(recall, weights=row) for row in counts]
    assert worst_class_mix(recall.tolist(), counts.tolist(), []) == pytest.approx(min(mixes))
    worst = int(np.argmin(mixes))
    rest = [mix for client, mix in enumerate(mixes) if client != worst]
    assert worst_class_mix(recall.tolist(), counts.tolist(), [worst]) == pytest.approx(min(rest))
    assert worst_class_mix(recall.tolist(), counts.tolist(), range(5)) == pytest.approx(min(mixes))  # type: ignore[arg-type]


def test_classes_that_the_test_set_lacks_are_left_out() -> None:
    assert worst_class_mix([0.5, None], [[1, 3], [2, 0]], []) == 0.5
    assert worst_class_mix([None, 0.25], [[1, 0], [0, 0]], []) is None


class DropsTheFirst(GramRule):
    """Takes the first row of each round for Byzantine, and needs six."""

    detects = True

    def __init__(self, num_byzantine: int = 1, num_selected: int | None = None) -> None:
        self.num_byzantine = num_byzantine

    def max_rejected(self, num_clients: int) -> int:
        """One of six."""
        if num_clients < 6 * self.num_byzantine:
            raise InputError(f"DropsTheFirst: needs 6 rows, not {num_clients}")
        return self.num_byzantine

    def weights(self, gram: Gram, cohort: Cohort) -> Float64[Tensor, "rows"]:
        weights = torch.ones(len(gram), dtype=torch.float64)
        weights[0] = 0
        return weights


SCENARIO = {
    "dataset": {"name": "digits", "train_size": 60, "test_size": 40},
    "partition": {"name": "dirichlet", "alpha": 1.0, "clients": 8},
    "model": {"name": "mlp", "hidden": [4]},
    "attack": {"name": "sign_flip", "num_byzantine": 2},
    "federation": {"rounds": 6, "sampling": "poisson", "clients_per_round": 6, "local": {"steps": 1}},
}


@pytest.fixture
def dropping(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = registry.entry("defense", "multi_krum")
    monkeypatch.setattr(registry, "load", _instead(registry.load))
    assert entry.role == "rule"


def _instead(load: Any) -> Any:
    return lambda kind, name: DropsTheFirst if (kind, name) == ("defense", "multi_krum") else load(kind, name)


@pytest.mark.parametrize("handling", ["skip", "relax"])
@pytest.mark.usefixtures("dropping")
def test_a_run_reports_whom_its_rule_left_out_and_where_its_condition_broke(tmp_path: Path, handling: str) -> None:
    federation = {**SCENARIO["federation"], "broken_condition": handling}  # type: ignore[dict-item]
    rule = {"name": "multi_krum", "num_byzantine": 1}
    settings = {**SCENARIO, "federation": federation, "defense": rule}
    result = run(settings, out=tmp_path, executor=InProcess())
    (record,) = result.records
    metrics = record["metrics"]
    lines = [json.loads(one) for one in (result.root / record["id"] / "rounds.jsonl").read_text().splitlines()]
    small = [one for one in lines if len(one["clients"]) < 6]
    assert 0 < len(small) < 6
    assert metrics["rounds_with_broken_condition"] == len(small)
    assert all(one["broken"].startswith("DropsTheFirst: needs 6 rows") for one in small)
    assert all(not any(one["influence"]) for one in small if handling == "skip")
    counted = [one for one in lines if "suspected" in one]
    assert len(counted) == (6 if handling == "relax" else 6 - len(small))
    assert all(one["suspected"] == one["clients"][:1] for one in counted)
    byzantine = set(record["byzantine"])
    caught = sum(one["suspected"][0] in byzantine for one in counted)
    assert metrics["detection_precision"] == caught / len(counted)
    assert metrics["detection_recall"] == caught / sum(len(byzantine & {*one["clients"]}) for one in counted)
    assert sum(client["excluded"] for client in record["exclusions"]) == len(counted) - caught
    assert metrics["rounds_with_too_many_byzantine"] == sum(
        len(one["byzantine_in_round"]) > one["withstands"] for one in lines if "withstands" in one
    )
    assert metrics["aggregation_seconds"] > 0
    assert 0 <= metrics["accuracy_worst_class_mix"] <= 1
    assert any(f"({len(small)} rounds)" in remark for remark in remarks([record]))
    assert any(table.title == "whom rules left out" for table in tables([record, {**record, "id": "b"}]))


def test_what_is_missing_says_why(tmp_path: Path) -> None:
    settings = {**SCENARIO, "federation": {"rounds": 1, "local": {"steps": 1}}, "defense": "median"}
    (record,) = run(settings, out=tmp_path, executor=InProcess()).records
    assert "detection_precision" not in record["metrics"]
    assert why(record, "detection_precision") == (
        "its rule does not say whom it leaves out, or there was nobody to find"
    )
    assert not any(table.title == "whom rules left out" for table in tables([record]))
