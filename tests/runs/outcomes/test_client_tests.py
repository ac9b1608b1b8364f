"""Tests of single clients in a run: what lies in its files, what it leaves alone, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedsec.errors import ScenarioError
from fedsec.metrics.metric import ACCURACY
from fedsec.runs.outcomes.client_tests import ClientOutcomes
from fedsec.runs.partitioned import client_sizes, dataset_of, held_out_of, shares_of, strata_of
from fedsec.scenario import load_scenario
from fedsec.tasks import Classification

TESTED = "federation.client_test={fraction: 0.25}"


def test_records_hold_the_clients_and_their_figures(tmp_path: Path, tiny: Any) -> None:
    flipped = "matrix.attack=[{name: label_flip, fraction: 0.34}]"
    result = tiny.run(tmp_path, TESTED, flipped, "matrix.defense=[mean]", "federation.rounds=2")
    (record,) = [json.loads((result.root / one["id"] / "result.json").read_text()) for one in result.records]
    honest = sorted({*range(6)} - {*record["byzantine"]})
    assert list(map(int, record["client_tests"])) == honest
    values = list(record["client_tests"].values())
    assert record["metrics"]["accuracy_clients_mean"] == pytest.approx(np.mean(values))
    assert record["metrics"]["accuracy_clients_worst10"] == min(values)
    lines = [json.loads(line) for line in (result.root / record["id"] / "rounds.jsonl").read_text().splitlines()]
    assert lines[-1]["client_tests"] == record["client_tests"]
    further = tiny.run(tmp_path, TESTED, flipped, "matrix.defense=[mean]", "federation.rounds=2")  # nothing to do
    assert further.records[0]["metrics"] == result.records[0]["metrics"]


def test_what_is_held_out_is_trained_on_by_nobody(tmp_path: Path, tiny: Any) -> None:
    def of(*overrides: str) -> tuple[list[np.ndarray], list[np.ndarray], tuple[int, ...] | None]:
        config = load_scenario(tiny.file(tmp_path), [*tiny.one, *overrides]).cells()[0].config
        dataset = dataset_of(config)
        strata, number = strata_of(config, dataset, Classification()), len(dataset.train)
        return (
            shares_of(config, strata, number),
            held_out_of(config, strata, number),
            client_sizes(config, number, here=True),
        )

    whole, nothing, _ = of()
    trained, tested, sizes = of(TESTED)
    assert nothing == []
    assert sizes == tuple(map(len, trained))
    for everything, train, test in zip(whole, trained, tested, strict=True):
        assert np.union1d(train, test).tolist() == np.sort(everything).tolist()
        assert len(test) == max(1, len(everything) // 4)
        assert len(train) + len(test) == len(everything)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["federation.fine_tune={epochs: 1}"], "expected client_test"),
        ([TESTED, "federation.fine_tune={epochs: 1, steps: 2}"], "excludes steps"),
        (["federation.client_test={fraction: 1.0}"], "less than 1"),
        ([TESTED, "federation.algorithm=centralized", "matrix.attack=[none]"], "has no clients that could be tested"),
        (
            [TESTED, "federation.algorithm=fedsgd", "federation.local=null", "federation.fine_tune={steps: 1}"],
            "goes with algorithms that have local training",
        ),
        (["expect=[{accuracy_clients_mean: '>= 0.5'}]"], "clients that hold test examples out .federation.client_test"),
    ],
)
def test_mistakes_are_answered_in_words(overrides: list[str], message: str, tmp_path: Path, tiny: Any) -> None:
    with pytest.raises(ScenarioError, match=message):
        load_scenario(tiny.file(tmp_path), overrides)


def test_without_tests_ids_are_what_they_were(tmp_path: Path, tiny: Any) -> None:
    plain, tested, tuned = (
        load_scenario(tiny.file(tmp_path), [*tiny.one, *more]).cells()[0].config
        for more in ([], [TESTED], [TESTED, "federation.fine_tune={steps: 3}"])
    )
    assert len({plain.id, tested.id, tuned.id}) == 3
    assert plain.federation.client_test is None


def test_a_value_that_is_no_number_leaves_no_figures() -> None:
    outcomes = ClientOutcomes(ACCURACY, [{"client_tests": {"0": 0.5, "3": None}}, {"round": 2}])
    assert set(outcomes.metrics().values()) == {None}
    assert outcomes.in_record() == {"client_tests": {"0": 0.5, "3": None}}
    assert ClientOutcomes(ACCURACY, [{"round": 1}]).metrics() == {}
