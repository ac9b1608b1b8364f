"""Expectations of numbers that a cell cannot have are refused, with those that it can have."""

import csv
from pathlib import Path
from typing import Any

import pytest

from fedsec.errors import ScenarioError
from fedsec.metrics.metric import METRICS
from fedsec.scenario import load_scenario
from fedsec.scenario.expectations.measured import _CONDITIONS, measured, why_unmeasured

RESULTS = Path(__file__).parents[3] / "docs" / "results"

SPLIT = {"algorithm": "split_learning", "labels": "server"}
DP = {"name": "dp_sgd", "target_epsilon": 3, "max_grad_norm": 1}
PARTS: dict[str, dict[str, Any]] = {
    "label_leak_auc": {"federation": SPLIT, "audit": {"labels": {"inferences": "label_norm"}}},
    "membership_auc": {"audit": {"membership": {"inferences": "loss_threshold"}}},
    "site_identification": {"audit": {"properties": {"inferences": "site"}}, "federation": {"rounds": 2}},
    "epsilon_lower": {"audit": {"canaries": {"count": 10}}},
    "epsilon": {"defense": DP},
    "user_epsilon": {"defense": {"name": "dp_fedavg", "noise_multiplier": 1}},
    "attack_success_rate": {"attack": {"name": "backdoor", "num_byzantine": 1}},
    "backdoor_lifespan": {"attack": {"name": "backdoor", "num_byzantine": 1, "until": 2}},
    "simulated_seconds": {"federation": {"algorithm": "async"}},
    "spectral_gap": {"federation": {"algorithm": "decentralized", "graph": "ring"}},
    "models_refused": {"defense": ["inspect_model", "mean"]},
    "psnr_mean_image": {
        "federation": SPLIT,
        "inversion": {"name": "feature_hijacking", "knowledge": {"auxiliary": 10}},
    },
    "psnr": {"inversion": "dlg"},
}


@pytest.mark.parametrize("metric", PARTS)
def test_a_number_is_expected_where_something_measures_it(metric: str) -> None:
    scenario = {"dataset": "digits", "expect": [{metric: ">= 0.5"}]}
    (cell,) = load_scenario({**scenario, **PARTS[metric]}).cells()
    assert metric in measured(cell.config)
    with pytest.raises(ScenarioError) as caught:
        load_scenario(scenario)
    text = str(caught.value)
    assert f"expect[0].{metric}: " in text
    assert "expected a selector of other cells, or one of accuracy, " in text
    assert f", {metric}" not in text


def test_clients_noise_is_accounted_for_without_secure_aggregation_too() -> None:
    """The account of one noise alone is in `docs/results/summed_noise_digits.csv`; of other updates there is none."""
    noise = {"name": "distributed_dp", "noise_multiplier": 1.0, "clients": 4, "clip_norm": 0.5}
    scenario = {"dataset": "digits", "partition": {"clients": 4}, "expect": [{"user_epsilon": "<= 900"}]}
    (cell,) = load_scenario({**scenario, "defense": noise}).cells()
    assert "user_epsilon" in measured(cell.config)
    with pytest.raises(ScenarioError, match="nothing claims privacy of one client"):
        load_scenario({**scenario, "defense": "prune"})


def test_numbers_that_were_measured_may_be_expected() -> None:
    for name in ("summed_noise_digits", "party_backdoor"):
        cells = {cell.id: cell.config for cell in load_scenario(name).cells()}
        with (RESULTS / f"{name}.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                of_metrics = [metric for metric, value in row.items() if metric in METRICS and value]
                assert not [name for name in of_metrics if why_unmeasured(METRICS[name], cells[row["id"]])]


READS_TEXTS = {"dataset": "shakespeare", "inversion": {"name": "dager"}}


@pytest.mark.parametrize(
    ("scenario", "metric", "reason"),
    [
        ({"dataset": "diabetes"}, "accuracy_min_last5", "is not measured in a regression"),
        ({"dataset": "diabetes"}, "mean_squared_error_worst_client", ""),
        (READS_TEXTS, "psnr", "is measured of images"),
        (READS_TEXTS, "token_set", ""),
        ({"dataset": "digits", "inversion": "dlg"}, "token_set", "is measured of texts"),
    ],
)
def test_what_a_task_or_an_inversion_of_another_kind_measures_is_refused(
    scenario: dict[str, Any], metric: str, reason: str
) -> None:
    (cell,) = load_scenario(scenario).cells()
    assert why_unmeasured(METRICS[metric], cell.config) == reason


def test_conditions_are_of_metrics_that_say_when_they_are_missing() -> None:
    assert set(_CONDITIONS) <= set(METRICS)
    assert not [name for name in _CONDITIONS if not METRICS[name].missing]
