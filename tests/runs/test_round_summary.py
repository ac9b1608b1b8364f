"""What a record needs of a round, and that no list of clients is among it."""

import pytest

from fedsec.metrics.metric import described, of_source
from fedsec.runs.round_summary import in_short, leakage, models_refused, over_rounds, reported

LINE = {
    "round": 3,
    "evaluated": True,
    "accuracy": 0.5,
    "clients": [0, 2, 4, 5],
    "byzantine_in_round": [2, 5],
    "rejected": [5],
    "influence": [0.5, 0.25, 0.25, 0.0],
    "dropped": [1],
    "client_accuracy": [0.75, 0.1, 0.5, 0.0],
    "cost": None,
    "seconds": 1.0,
}


def test_numbers_stand_for_clients() -> None:
    summary = in_short(LINE, described("accuracy"))
    assert summary["byzantine_influence"] == 0.25
    assert summary["byzantine_majority"] is True
    assert summary["num_rejected"] == 1
    assert summary["worst_client"] == 0.5  # of the honest ones
    assert (summary["round"], summary["accuracy"], summary["cost"]) == (3, 0.5, None)


@pytest.mark.parametrize("clients", [10, 1000])
def test_a_round_takes_as_much_memory_however_many_take_part(clients: int) -> None:
    many = {**LINE, "clients": list(range(clients)), "influence": [1 / clients] * clients}
    many["client_accuracy"] = [0.5] * clients
    summary = in_short(many, described("accuracy"))
    assert not any(isinstance(value, list) for value in summary.values())
    assert summary["byzantine_influence"] == pytest.approx(2 / clients)


def test_a_round_without_clients_has_no_majority() -> None:
    nobody = {**LINE, "clients": [], "byzantine_in_round": [], "influence": [], "rejected": [], "client_accuracy": None}
    summary = in_short(nobody, described("accuracy"))
    assert (summary["byzantine_majority"], summary["byzantine_influence"], summary["worst_client"]) == (False, 0, None)


def test_what_an_attack_says_of_its_rounds_is_summed_up() -> None:
    reports = [{"z": 0.5, "remark": "weak"}, {}, {"z": 1.5, "won": "alie"}, {"z": float("nan"), "remark": "weak"}]
    history = [{"attack": reported(report)} if report else {} for report in reports]
    assert over_rounds(history) == {
        "z": {"mean": 1.0, "min": 0.5, "max": 1.5, "rounds": 2},
        "remark": {"weak": 2},
        "won": {"alie": 1},
    }
    assert over_rounds([{}, {}]) == {}


def test_too_many_byzantine_are_more_than_the_rule_withstands_where_it_names_a_number() -> None:
    metric = described("accuracy")
    assert in_short(LINE, metric)["too_many_byzantine"] is False
    assert in_short({**LINE, "byzantine_in_round": LINE["clients"]}, metric)["too_many_byzantine"] is False
    assert in_short({**LINE, "withstands": 2}, metric)["too_many_byzantine"] is False
    assert in_short({**LINE, "withstands": 1}, metric)["too_many_byzantine"] is True


def test_models_are_refused_by_a_share_of_the_honest_clients_that_looked() -> None:
    primary = described("accuracy")
    lines = [{**LINE, "refused": {"1": "odd", "3": "odd"}}, {**LINE, "refused": {}}]
    idle = {**LINE, "clients": [], "byzantine_in_round": [], "influence": [], "rejected": [], "client_accuracy": None}
    lines.append({**idle, "refused": {"0": "odd"}})
    assert models_refused([in_short(line, primary) for line in lines]) == {"models_refused": 3 / 7}
    assert models_refused([in_short(LINE, primary)]) == {}


def test_of_crafted_models_the_share_is_told_that_was_refused() -> None:
    refused = {"leakage": {"metrics": None, "refused": True}}
    recovered = {"leakage": {"metrics": dict.fromkeys(of_source("inversion"), 0.5), "refused": False}}
    assert leakage([refused, {"leakage": None}]) == {"crafted_models_refused": 1}
    metrics = leakage([refused, recovered])
    assert (metrics["crafted_models_refused"], metrics["rounds_reconstructed"]) == (0.5, 1)
    assert leakage([{"leakage": None}]) == {}
