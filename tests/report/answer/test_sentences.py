"""The answer of a run says what its records bear out, of every kind of run, and no more."""

from typing import Any

import pytest

from fedsec.report.answer import answer

Readings = dict[tuple[str, str], list[float | None]]


def record(value: float | None, attack: str, defense: str, seed: int, **rest: Any) -> dict[str, Any]:
    metric = rest.pop("metric", "accuracy")
    return {
        "id": f"{attack}-{defense}-{seed}",
        "cell": {"attack": attack, "defense": defense, "seed": seed},
        "status": "failed" if value is None else "done",
        "metrics": {} if value is None else {metric: value, **rest.pop("metrics", {})},
        "primary_metric": metric,
        "error": "it broke" if value is None else None,
        "seconds": 1.0,
        **rest,
    }


def matrix(readings: Readings, **rest: Any) -> list[dict[str, Any]]:
    return [
        record(value, attack, defense, seed, **rest)
        for (attack, defense), values in readings.items()
        for seed, value in enumerate(values)
    ]


def said(records: list[dict[str, Any]], **rest: Any) -> str:
    return " ".join(answer(records, **rest))


HURT: Readings = {
    ("none", "mean"): [0.96, 0.95, 0.97],
    ("none", "median"): [0.95, 0.95, 0.95],
    ("flip", "mean"): [0.10, 0.12, 0.08],
    ("flip", "median"): [0.94, 0.95, 0.93],
}


def test_what_broke_and_what_held_is_said_with_its_numbers() -> None:
    text = said(matrix(HURT))
    assert "Without an attack accuracy is between 95.0% with median and 96.0% with mean." in text
    assert (
        "The largest loss is with mean under flip: accuracy falls from 96.0% to 10.0% [8.0..12.0] (-86.0 points on "
        "equal seeds; 3 equal seeds tell it apart from no attack)." in text
    )
    assert "Of 2 defenses median holds best: under attack accuracy is 94.0%." in text
    assert "means over 3 seeds" in text
    assert "Attacks that were not tried may do more" in text


def test_a_loss_within_what_seeds_span_is_not_called_one() -> None:
    text = said(matrix({("none", "mean"): [0.9, 0.8, 0.7], ("flip", "mean"): [0.8, 0.85, 0.7]}))
    assert "3 equal seeds do not tell it apart from no attack" in text
    assert "hold" not in text, "one defense is the best of nothing"


def test_an_attack_that_helps_is_no_loss() -> None:
    text = said(matrix({("none", "mean"): [0.9, 0.8], ("flip", "mean"): [0.91, 0.82]}))
    assert "No attack made accuracy worse on average over seeds." in text
    assert "fewer than three tell nothing apart" in text


def test_one_seed_tells_nothing_from_chance() -> None:
    text = said(matrix({("none", "mean"): [0.9], ("flip", "mean"): [0.1]}))
    assert "single seed" in text
    assert "apart from no attack" not in text


def test_settings_that_differ_from_no_attack_are_counted() -> None:
    attacks: Readings = {
        (attack, defense): [0.5, 0.51, 0.49] for attack in ("flip", "noise", "alie") for defense in ("mean", "median")
    }
    text = said(matrix({**HURT, **attacks, ("noise", "median"): [0.95, 0.94, 0.96]}))
    assert "Of 6 settings under attack 5 are told apart from the same without an attack." in text


def test_a_defense_whose_cell_failed_is_not_called_best() -> None:
    text = said(matrix({**HURT, ("noise", "mean"): [0.5, 0.5, 0.5], ("noise", "median"): [None, None, None]}))
    assert "holds best" not in text
    assert "There are numbers of 15 of 18 cells, 3 failed; what follows is about those alone." in text


@pytest.mark.parametrize(("metric", "verb"), [("mean_squared_error", "rises"), ("accuracy", "falls")])
def test_the_direction_of_a_loss_is_the_metric_s(metric: str, verb: str) -> None:
    worse = 9.0 if metric == "mean_squared_error" else 0.1
    records = matrix({("none", "mean"): [0.5, 0.5], ("flip", "mean"): [worse, worse]}, metric=metric)
    assert f"{metric.replace('_', ' ')} {verb} from 0.5" in said(records).replace("50.0%", "0.5")


def test_a_run_without_attackers_says_nothing_of_robustness() -> None:
    text = said(matrix({("none", "mean"): [0.9, 0.91]}))
    assert text.startswith("Accuracy is 90.5% [90.0..91.0].")
    assert "what attackers could do to the model, since nobody attacked it" in text
    assert "attack accuracy" not in text
    assert "not tried" not in text
    assert "what messages reveal, since no inversion looked at them" in text
    audited = said(matrix({("none", "mean"): [0.9]}, metrics={"label_leak_auc": 0.7}))
    assert "what inputs messages reveal, since no inversion looked at them: an audit asked for labels alone" in audited


def test_a_run_that_is_all_attack_has_nothing_to_lose_against() -> None:
    text = said(matrix({("flip", "mean"): [0.1], ("flip", "median"): [0.8]}))
    assert "Under attack accuracy is between 10.0% with mean and 80.0% with median." in text
    assert "Every cell is under attack" in text


def test_a_worse_round_before_the_last_is_said() -> None:
    records = matrix({("none", "mean"): [0.9, 0.9]}, metrics={"accuracy_min_last5": 0.2})
    assert "the worst of the last five evaluated rounds had accuracy 20.0% and the last 90.0%" in said(records)
    calm = matrix({("none", "mean"): [0.9, 0.9]}, metrics={"accuracy_min_last5": 0.88})
    assert "flatter" not in said(calm)


def test_runs_without_numbers_say_so() -> None:
    assert said(matrix({("none", "mean"): [None, None]})) == "No cell has numbers: of 2 cells every one failed."
    pending = [{**one, "status": "pending"} for one in matrix({("none", "mean"): [None]})]
    text = said(pending + matrix({("none", "median"): [0.9]}), interrupted=True)
    assert text.startswith("The run was stopped before its end")
    assert "There are numbers of 1 of 2 cells, 1 not finished" in text


def test_the_aims_of_attackers_are_said() -> None:
    records = matrix({("none", "mean"): [0.9], ("none", "median"): [0.9]})
    records += matrix({("door", "mean"): [0.9]}, metrics={"attack_success_rate": 0.98})
    records += matrix({("door", "median"): [0.9]}, metrics={"attack_success_rate": 0.03})
    assert (
        "What the attackers want succeeds in up to 98.0% of their tests, with mean under door, and in the fewest, "
        "3.0%, with median under door." in said(records)
    )


def test_what_leaked_stands_beside_a_gray_image() -> None:
    seen = {"psnr": 31.0, "psnr_gray": 11.0, "recovered": 1.0, "rounds_reconstructed": 1}
    unseen = {"psnr": 9.0, "psnr_gray": 11.0, "recovered": 0.0, "rounds_reconstructed": 1}
    records = matrix({("none", "mean"): [0.9]}, metrics=seen) + matrix({("none", "noise"): [0.7]}, metrics=unseen)
    text = said(records)
    assert "closest with mean: PSNR 31.0 dB, where a gray image scores 11.0 dB (100.0% of the images" in text
    assert "farthest with noise: PSNR 9.0 dB" in text
    assert "no inversion" not in text


def test_the_strongest_null_stands_beside_what_leaked() -> None:
    seen = {"psnr": 15.0, "psnr_gray": 7.0, "psnr_mean_image": 11.0, "rounds_reconstructed": 1}
    assert "PSNR 15.0 dB, where the mean of the server's own images scores 11.0 dB" in said(
        matrix({("none", "mean"): [0.9]}, metrics=seen)
    )


def test_where_nobody_attacks_what_was_read_comes_first() -> None:
    read = {"exact_match": 1.0, "token_set": 1.0, "token_set_null": 0.4, "rounds_reconstructed": 1}
    half = {"exact_match": 0.0, "token_set": 0.5, "token_set_null": 0.6, "rounds_reconstructed": 1}
    records = matrix({("none", "mean"): [0.9]}, metrics=read) + matrix({("none", "prune"): [0.9]}, metrics=half)
    assert said(records).startswith(
        "Of the texts that clients trained on a curious server recovers up to 100.0% to the last token with mean, and "
        "in the worst case for it 0.0% with prune. Of the tokens in them it tells up to 100.0% (drawn ones would score "
        "40.0%) with mean, and in the worst case for it 50.0% (drawn ones would score 60.0%) with prune. Accuracy is"
    )


def test_what_an_audit_told_comes_first_where_nobody_attacks() -> None:
    told = {"label_leak_auc": 0.98, "label_leak_auc_blind": 0.5}
    text = said(matrix({("none", "none"): [0.9], ("none", "noise"): [0.9]}, metrics=told))
    assert text.startswith(
        "A party without labels orders pairs of examples by class with an AUC of 0.980 (before training 0.500), in all "
        "of 2 settings. Accuracy is"
    )


def test_claims_of_privacy_are_counted_and_explained() -> None:
    claim = {"unit": "example", "delta": 1e-5, "accountant": "rdp", "note": ""}
    records = matrix({("none", "mean"): [0.9]})
    records += matrix({("none", "dp"): [0.8]}, metrics={"epsilon": 2.5}, privacy=[claim])
    records += matrix({("none", "weak"): [0.8]}, metrics={"epsilon": None}, privacy=[claim])
    text = said(records)
    assert "claimed in 2 of 3 settings: epsilon is 2.5, and in 1 there is no bound at all." in text
    assert "at delta 1e-05 by rdp" in text
    assert "since nothing claims one" not in text


def test_expectations_are_counted() -> None:
    text = said(matrix(HURT), met=3, judged=4)
    assert "Of what its author expected 3 of 4 statements came true." in text


def test_aims_that_all_settings_reach_alike_are_said_once() -> None:
    records = matrix({("none", "mean"): [0.9], ("none", "median"): [0.9]})
    records += matrix({("door", name): [0.9] for name in ("mean", "median")}, metrics={"attack_success_rate": 0.0})
    expected = "What the attackers want succeeds in 0.0% of their tests, in all of 2 settings under attack."
    assert expected in said(records)


def test_where_less_is_better_the_least_holds_best() -> None:
    errors: Readings = {("none", "mean"): [0.5], ("none", "median"): [0.6], ("flip", "mean"): [9.0]}
    text = said(matrix({**errors, ("flip", "median"): [2.0]}, metric="mean_squared_error"))
    assert "Of 2 defenses median holds best: under attack mean squared error is 2." in text
