"""The tables of several metrics: when they appear, what stands in them, and that they fit."""

import re
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from fedsec.report import missing_values as missing
from fedsec.report import remarks
from fedsec.report import run_report as report
from fedsec.report.best_inversions import Strongest, strongest, trained_once

LEAKED = {"psnr": 21.04, "ssim": 0.712, "lpips": 0.25, "mse": 0.008, "psnr_gray": 12.2, "ssim_gray": 0.031}
LEAKED |= {"label_accuracy": 0.875, "recovered": 0.5, "rounds_reconstructed": 1}
LABELS = {"label_accuracy": 1.0, "rounds_reconstructed": 1}
ADVICE = "LPIPS needs weights: `fedsec invert --lpips alex` downloads them, or put URL into FOLDER"


@pytest.fixture(autouse=True)
def _short_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (remarks, missing):
        monkeypatch.setattr(module, "lpips_advice", lambda: ADVICE)


def record(
    cell: dict[str, Any] | None = None, *, status: str = "done", config: dict[str, Any] | None = None, **metrics: Any
) -> dict[str, Any]:
    cell = cell or {}
    return {
        "id": "-".join(map(str, cell.values())),
        "cell": cell,
        "status": status,
        "metrics": {"accuracy": 0.9, **metrics} if status == "done" else {},
        "error": None,
        "seconds": 1.0,
        "config": config,
    }


def costing(upload: float, download: float, flops: float) -> dict[str, float]:
    return {"upload_bytes": upload, "download_bytes": download, "edge_flops": flops}


def inverting(**target: Any) -> dict[str, Any]:
    return {"attack": {"name": "dlg", "target": {"client": 3, "rounds": [1], **target}}}


def running(algorithm: str) -> dict[str, Any]:
    return {"attack": {"name": "none"}, "federation": {"algorithm": algorithm}}


def printed(records: list[dict[str, Any]], width: int = 80) -> list[str]:
    """The tables, each as the text that a terminal shows."""
    console = Console(width=width, color_system=None, force_terminal=True, legacy_windows=False)
    shown = []
    for table in report.tables(records, width=width):
        with console.capture() as capture:
            console.print(table)
        shown.append("\n".join(line.rstrip() for line in capture.get().splitlines()))
    return shown


FEDERATIONS = [
    record({"federation": "FedAvg"}, config=running("fedavg"), **costing(2_363_432, 2_363_432, 1.23456e12)),
    record(
        {"federation": "FedGKT"},
        config=running("fedgkt"),
        accuracy_worst_client=0.314,
        **costing(327_700_000, 40_000, 56.8e9),
    ),
]


def test_costs_read_as_they_should() -> None:
    (text,) = printed(FEDERATIONS)
    assert text.splitlines()[:6] == [
        "accuracy and costs at the edge",
        "federation   accuracy (%)   worst client (%)   upload    download   FLOPs",
        "─" * 74,
        "FedAvg       90.0              -               2.36 MB   2.36 MB    1.23 T",
        "FedGKT       90.0           31.4                328 MB   40.0 kB    56.8 G",
        "upload, download and FLOPs of local training of one client in one round,",
    ]
    assert "-: there is none" in " ".join(text.split())


def test_one_seed_s_values_are_averaged_with_the_others() -> None:
    records = [
        record({"attack": attack, "seed": seed}, accuracy=0.5 + 0.1 * seed, **costing(1e6 * (seed + 1), 5.0, 7.0))
        for attack, seed in product(["none", "flip"], range(3))
    ]
    records[3]["metrics"]["upload_bytes"] = 4e6
    (text,) = printed(records)
    # Costs have no chance in them.
    assert re.search(r"none +60\.0 \[50\.0\.\.70\.0\] +2\.00 MB +5 B +7", text)
    assert re.search(r"flip +60\.0 \[50\.0\.\.70\.0\] +3\.00 MB +5 B +7", text)
    assert "means over 3 seeds; in brackets the smallest and the largest of them, where they differ" in " ".join(
        text.split()
    )


def test_leakage_has_intervals_where_there_is_room_for_them() -> None:
    records = [
        record(
            {"defense": defense, "seed": seed},
            config=inverting(),
            **{**LEAKED, "psnr": 20.0 + seed + 10 * place, "epsilon": 3.0},
        )
        | {"privacy": [{"unit": "example", "delta": 1e-5, "accountant": "rdp", "value": 3.0, "note": ""}]}
        for place, defense in enumerate(("none", "gaussian_noise, and a long name"))
        for seed in range(3)
    ]
    records[1]["metrics"]["ssim"] = 0.7
    (text,) = printed(records, width=150)
    assert re.search(
        r"^none .* 90\.0 +3 +21\.0 \[20\.0\.\.22\.0\] \(12\.2\) +0\.708 \[0\.700\.\.0\.712\] \(0\.031\) ",
        text,
        re.MULTILINE,
    )
    assert re.search(r"^gaussian_noise.* 31\.0 \[30\.0\.\.32\.0\] \(12\.2\) +0\.712 +\(0\.031\) ", text, re.MULTILINE)
    assert "means over 3 seeds; in brackets the smallest and the largest of them, where they differ" in " ".join(
        text.split()
    )
    (text,) = printed(records, width=80)
    assert "[20" not in text
    assert "means over 3 seeds; for their intervals a wider terminal" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 80


def claiming(defense: str, **epsilons: float | None) -> dict[str, Any]:
    units = {"epsilon": "example", "user_epsilon": "client"}
    claims = [
        {"unit": units[metric], "delta": 1e-5, "accountant": "rdp", "value": value, "note": ""}
        for metric, value in epsilons.items()
    ]
    return record({"defense": defense}, config=running("fedavg"), **epsilons) | {"privacy": claims}


def test_epsilons_of_both_units_share_a_column_unless_a_cell_has_both() -> None:
    records = [
        record({"defense": "none"}, config=running("fedavg")),
        claiming("each", epsilon=99.94),
        claiming("all", user_epsilon=7.0),
        claiming("nothing", user_epsilon=None),
    ]
    (text,) = printed(records)
    assert text.splitlines()[1:7] == [
        "defense   accuracy (%)   epsilon",
        "─" * 39,
        "none      90.0              -",
        "each      90.0           99.9 (example)",
        "all       90.0              7  (client)",
        "nothing   90.0            inf",
    ]
    (text,) = printed([*records, claiming("both", epsilon=2.0, user_epsilon=3.0)])
    assert re.search(r"^defense +accuracy \(%\) +epsilon \(example\) +epsilon \(client\)$", text, re.MULTILINE)
    assert re.search(r"^both +90\.0 +2 +3$", text, re.MULTILINE)
    assert re.search(r"^all +90\.0 +- +7$", text, re.MULTILINE)


def test_without_weights_there_is_no_column_of_lpips() -> None:
    (text,) = printed([record(config=inverting(), **{**LEAKED, "lpips": None})])
    assert "LPIPS" not in text
    assert "(12.2)" in text


def test_a_mean_over_fewer_seeds_says_so() -> None:
    records = [record({"defense": "mean", "seed": seed}, config=inverting(), **LEAKED) for seed in range(3)]
    records += [record({"defense": "clip", "seed": seed}, config=inverting()) for seed in range(3)]
    assert report.remarks(records[:3]) == []
    for name in LEAKED:
        records[1]["metrics"][name] = None
    (text,) = printed(records, width=120)
    assert re.search(r"^mean +90\.0 +21\.0 \(12\.2\)", text, re.MULTILINE)
    assert re.search(r"^ +2 of 3 +2 of 3 +2 of 3 +2 of 3 +2 of 3$", text, re.MULTILINE)
    assert "k of n: over so many seeds only" in " ".join(text.split())
    assert "means over 3 seeds" in text
    (note,) = report.remarks(records)
    assert note.startswith("note: in 4 of 6 cells not all rounds of interest were reconstructed")


def test_rounds_of_interest_that_never_came_are_noted() -> None:
    config = inverting(rounds=[1, 5, 9])
    whole = record({"defense": "mean"}, config=config, **{**LEAKED, "rounds_reconstructed": 3})
    assert report.remarks([whole]) == []
    ended = record({"defense": "dp_sgd"}, config=config, **{**LEAKED, "rounds_reconstructed": 1})
    (note,) = report.remarks([whole, ended, record({"defense": "x"}, config=running("fedavg"))])
    assert note.startswith("note: in 1 of 2 cells not all rounds of interest were reconstructed")


def test_labels_that_clients_send_are_no_finding() -> None:
    config = {**inverting(), "federation": {"algorithm": "fedgkt"}}
    looked = record({"attack": "x"}, config=config, **{**LEAKED, **costing(1, 1, 1)})
    _, text = printed([record({"attack": "none"}, config=running("fedgkt")), looked], width=100)
    assert re.search(r"^x .* 50\.0 +sent$", text, re.MULTILINE)
    assert re.search(r"^none .* - +-$", text, re.MULTILINE)  # nobody looked
    assert "87.5" not in text
    assert "sent: by the clients themselves" in " ".join(text.split())


# The best attacker


def rivals(**more: Any) -> list[dict[str, Any]]:
    """Two attackers on two defenses and two seeds: on b the first sees more on average, on a the second."""
    seen = {("one", "a"): (10, 20), ("two", "a"): (16, 16), ("one", "b"): (30, 10), ("two", "b"): (15, 15)}
    return [
        record({"attack": attack, "defense": defense, "seed": seed}, config=inverting(), **{**LEAKED, "psnr": psnr})
        for (attack, defense), values in seen.items()
        for seed, psnr in enumerate(values)
    ]


def test_the_best_attacker_of_each_defense_has_the_highest_mean() -> None:
    best = strongest(rivals()).records
    assert [(each["cell"]["attack"], each["cell"]["defense"]) for each in best] == [("two", "a")] * 2 + [
        ("one", "b")
    ] * 2
    _, text = printed(rivals(), width=120)
    lines = text.splitlines()
    assert lines[0] == "leakage: the best attacker of each row"
    assert re.match(r"defense +attack +accuracy", lines[1])
    assert re.match(r"a +two +90\.0 +16\.0 +\(12\.2\)", lines[3])
    assert re.match(r"b +one +90\.0 +20\.0 \[10\.0\.\.30\.0\] +\(12\.2\)", lines[4])
    assert "of the attackers above the one with the highest mean PSNR over seeds" in " ".join(text.split())


def test_in_a_narrow_terminal_the_best_attacker_is_part_of_the_name() -> None:
    records = rivals()
    for each in records:
        each["cell"] = {"attack.name": f"an_attacker_of_a_long_name_{each['cell']['attack']}", **each["cell"]}
        del each["cell"]["attack"]
    _, text = printed(records)
    assert max(map(len, text.splitlines())) <= 80
    lines = text.splitlines()
    below = next(place for place, line in enumerate(lines) if line.startswith("───")) + 1
    assert lines[below].startswith("a ")
    assert lines[below + 1].startswith("an_attacker_of_a_")
    assert "(0.031)" in text


def test_tables_of_accuracy_have_each_training_once() -> None:
    records = rivals()
    once = trained_once(records)
    assert [each["cell"] for each in once] == [{"defense": name, "seed": seed} for name in "ab" for seed in (0, 1)]
    assert [each["id"] for each in once] == [each["id"] for each in records if each["cell"]["attack"] == "one"]
    plain = record({"attack": "none", "defense": "a", "seed": 0}, config=running("fedavg"))
    assert trained_once([*records, plain]) == [*records, plain]
    assert trained_once(records[:4:2]) != []
    hijacked = [{**each, "metrics": {**each["metrics"]}} for each in records]
    hijacked[-1]["metrics"]["accuracy"] = 0.1  # the attacker made another model of it
    assert trained_once(hijacked) == hijacked
    alone = [each for each in records if each["cell"]["attack"] == "one"]
    assert trained_once(alone) == alone
    assert trained_once([]) == []


def test_an_attacker_that_reconstructs_nothing_is_never_the_best() -> None:
    records = rivals()
    for each in records:
        if each["cell"]["attack"] == "two":
            each["metrics"]["psnr"] = None
    assert strongest(records).records == []
    records[2]["metrics"]["psnr"] = 1.0  # of "two", on a
    assert {each["cell"]["attack"] for each in strongest(records).records} == {"one"}


def test_who_was_measured_on_fewer_seeds_is_not_the_best() -> None:
    """A mean over the easy seeds alone would be one of other pictures."""
    records = rivals()
    assert records[5]["cell"] == {"attack": "one", "defense": "b", "seed": 1}
    records[5] |= {"status": "failed", "metrics": {}, "config": None}
    best = strongest(records).records
    assert [(each["cell"]["attack"], each["cell"]["defense"]) for each in best] == [("two", "a")] * 2 + [
        ("two", "b")
    ] * 2
    records[7] |= {"status": "pending", "metrics": {}}
    best = strongest(records).records
    assert [(each["cell"]["attack"], each["status"]) for each in best[2:]] == [("one", "done"), ("one", "failed")]
    _, text = printed(records, width=120)
    assert re.search(r"^b +one +90\.0 +30\.0 ", text, re.MULTILINE)
    assert re.search(r"^ +1 of 2 +1 of 2 ", text, re.MULTILINE)


@pytest.mark.parametrize(
    "part",
    [
        {"target": {"client": 3, "rounds": [2]}},
        {"target": {"client": 0, "rounds": [1]}},
        {"knowledge": {"labels": True}},
    ],
)
def test_attackers_who_see_or_know_something_else_are_no_rivals(part: dict[str, Any]) -> None:
    records = rivals()
    for each in records:
        if each["cell"]["attack"] == "two":
            each["config"]["attack"] |= part
    assert strongest(records).records == []


def test_one_setting_needs_no_table_of_its_best_attacker() -> None:
    assert strongest([each for each in rivals() if each["cell"]["defense"] == "a"]) == Strongest()


def test_beside_byzantine_clients_inversions_are_the_rivals() -> None:
    server = inverting()["attack"]
    records = [
        record(
            {"attack": attack, "inversion": name, "defense": "mean"},
            config={"attack": {"name": attack, "target": None}, "inversion": {**server, "name": name}},
            **{**LEAKED, "psnr": psnr},
        )
        for (attack, name), psnr in {
            ("none", "dlg"): 20.0,
            ("none", "idlg"): 10.0,
            ("flip", "dlg"): 20.0,
            ("flip", "idlg"): 30.0,
        }.items()
    ]
    best = strongest(records).records
    assert [(each["cell"]["attack"], each["cell"]["inversion"]) for each in best] == [("none", "dlg"), ("flip", "idlg")]
    _, text = printed(records, width=100)
    assert re.search(r"^attack +inversion +accuracy", text, re.MULTILINE)
    assert re.search(r"^flip +idlg +90\.0 +30\.0", text, re.MULTILINE)


# What is shown, and what not


def test_costs_that_all_cells_share_are_not_shown() -> None:
    cost = costing(1000, 1000, 5e6)
    same = [record({"defense": name}, **cost) for name in ("mean", "median")]
    assert printed(same) == []
    assert printed([*same, record({"defense": "other"}, **{**cost, "edge_flops": 5.0001e6})]) == []
    assert printed([*same, record({"defense": "other"}, status="failed")]) == []
    assert printed([*same, record({"defense": "other"})]) == []
    for metric in cost:
        assert len(printed([*same, record({"defense": "other"}, **{**cost, metric: 3.0})])) == 1


def test_fedgkt_alone_and_clients_with_models_of_their_own_show_costs() -> None:
    cost = costing(1000, 1000, 5e6)
    (text,) = printed([record(config=running("fedgkt"), **cost)])
    assert "worst" not in text
    (text,) = printed([record(config=running("fedavg"), accuracy_worst_client=0.25, **cost)])
    assert "25.0" in text


def test_centralized_training_sends_nothing() -> None:
    records = [
        record({"federation": "all"}, config=running("centralized"), **costing(5, 5, 5)),
        record({"federation": "FedAvg"}, config=running("fedavg"), **costing(7, 7, 7)),
    ]
    assert printed(records) == []
    (text,) = printed([*records, *FEDERATIONS])
    assert re.search(r"all +90\.0 +- +- +- +-$", text, re.MULTILINE)


def test_leakage_reads_as_it_should() -> None:
    records = [
        record({"attack": "none", "defense": "mean"}, config=running("fedsgd")),
        record({"attack": "dlg", "defense": "mean"}, config=inverting(), **LEAKED),
        record({"attack": "labels", "defense": "mean"}, config=inverting(), **{**LABELS, "psnr": None, "mse": None}),
        record({"attack": "idlg", "defense": "mean"}, config=inverting(), **{**LEAKED, "lpips": None}),
    ]
    (text,) = printed(records, width=100)
    assert text.splitlines()[:7] == [
        "leakage: what the server reconstructs",
        "attack   accuracy (%)   PSNR (gray)   SSIM (gray)     LPIPS   recovered (%)   labels (%)",
        "─" * 88,
        "none     90.0              -              -               -      -                -",
        "dlg      90.0           21.0 (12.2)   0.712 (0.031)   0.250   50.0             87.5",
        "labels   90.0            n/a            n/a             n/a    n/a            100.0",
        "idlg     90.0           21.0 (12.2)   0.712 (0.031)     n/a   50.0             87.5",
    ]
    words = " ".join(text.split())
    assert "recovered: images with a mean squared error below 0.01" in words
    assert "in parentheses what a gray image scores" in words
    assert "n/a: not measured; -: there is none" in words
    assert report.remarks(records) == [f"note: {ADVICE}"]
    assert report.remarks(records[:3]) == []


def test_a_client_that_was_never_seen_and_a_cell_that_failed() -> None:
    records = [
        record({"attack": "dlg"}, config=inverting()),
        record({"attack": "idlg"}, config=inverting(), status="failed"),
        record({"attack": "labels"}, config=inverting(), status="pending"),
    ]
    (text,) = printed(records)
    assert re.search(r"dlg +90\.0 +n/a +n/a", text)
    assert re.search(r"idlg +failed +failed", text)
    assert re.search(r"labels +pending +pending", text)


NAMES = st.sampled_from(
    ["inverting_gradients(tv=0.1, target=round 3)", "dlg", "[red]x[/]", "a name of many words", "none"]
)


@given(st.lists(NAMES, min_size=1, max_size=3, unique=True), st.integers(0, 3), st.sampled_from([80, 100]))
@settings(deadline=None, max_examples=30)
def test_both_tables_fit_and_lose_nothing(attacks: list[str], further: int, width: int) -> None:
    ways = product(*([0.125, 0.25] for _ in range(further)))
    cells = [
        {"attack": attack, "defense": name, **{f"federation.local.setting_{i}": value for i, value in enumerate(way)}}
        for attack, name, way in product(attacks, ("mean", "trimmed_mean"), ways)
    ]
    records = [record(cell, **LEAKED, accuracy_worst_client=0.1, **costing(2e6, 999_700, 8e9)) for cell in cells]
    shown = printed(records, width)
    assert len(shown) == 2
    for text in shown:
        assert max(map(len, text.splitlines())) <= width
        assert all(word in text for attack in attacks for word in re.findall(r"[a-z_]+", attack) if len(attacks) > 1)
        assert "trimmed_mean" in text
        assert all(f"setting_{number}" in text for number in range(further))
        assert ("0.125" in text) == (further > 0)
    assert all(part in shown[0] for part in ("2.00 MB", "1.00 MB", "8.00 G", "10.0"))
    assert all(part in shown[1] for part in ("21.0", "(12.2)", "0.712", "(0.031)", "0.250", "50.0", "87.5"))


def test_a_row_s_names_are_stacked_where_there_is_no_room_for_them() -> None:
    cells = [{"attack": name, "defense": rule, "partition.alpha": 0.1} for name in ("a" * 19, "b") for rule in "xy"]
    cells[0]["partition.alpha"] = 0.9
    (text,) = printed([record(cell, config=inverting(client=place), **LEAKED) for place, cell in enumerate(cells)])
    assert text.splitlines()[1:7] == [
        "                      accuracy   PSNR     SSIM              recovered   labels",
        "cell                  (%)        (gray)   (gray)    LPIPS   (%)         (%)",
        "─" * 80,
        "alpha=0.9             90.0       21.0     0.712     0.250   50.0        87.5",
        "aaaaaaaaaaaaaaaaaaa              (12.2)   (0.031)",
        "x",
    ]


def test_a_name_too_long_is_broken_before_any_number() -> None:
    cells = [{"attack": "a" * 60}, {"attack": "b" * 60}]
    (text,) = printed([record(cell, config=inverting(), **LEAKED) for cell in cells])
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("(0.031)") == text.count("0.250") == 2
    assert text.count("a") - text.partition("─")[0].count("a") >= 60


def test_names_that_would_be_crushed_stand_below_the_table() -> None:
    name = "inverting_gradients(iterations=400, restarts=2, tv=0.001, target=client=0, rounds=[1, 20])"
    cells = [
        {"attack": name, "defense": f"prune(ratio={ratio})", "partition": "dirichlet(alpha=0.1)" if ratio else "iid"}
        for ratio in (0, 0.9, 0.99)
    ]
    cells.append({**cells[0], "attack": "dlg"})
    records = [record(cell, config=inverting(client=place), **LEAKED) for place, cell in enumerate(cells)]
    (text,) = printed(records)
    assert re.search(r"^2 +90\.0 +21\.0 \(12\.2\) ", text, re.MULTILINE)
    words = " ".join(text.split())
    assert f"3: partition=dirichlet(alpha=0.1), {name}, prune(ratio=0.9) 4: " in words
    assert len(text.splitlines()) < 30
    assert max(map(len, text.splitlines())) <= 80
    assert not printed(records, width=200)[0].startswith("1:")
    assert "2: partition" not in printed(records, width=200)[0]


@pytest.mark.parametrize(
    ("entry", "metric", "reason"),
    [
        (record(config=inverting(), **{**LEAKED, "lpips": None}), "lpips", ADVICE),
        (record(config=inverting(), label_accuracy=1.0), "psnr", "the attack recovers labels only, no images"),
        (record(config=inverting(), label_accuracy=1.0), "lpips", "the attack recovers labels only, no images"),
        (record(config=inverting(), psnr=12.0), "label_accuracy", "the attack recovers no labels"),
        (record(config=inverting(), token_set=1.0), "token_accuracy", "the attack recovers tokens only, no texts"),
        (record(config=inverting(), psnr=None), "psnr", "the attack reconstructed nothing of client 3"),
        (
            record(config={"attack": {"name": "sign_flip"}, "inversion": inverting(rounds=[2, 4])["attack"]}),
            "psnr",
            "client 3 took no part in rounds 2, 4, so nothing of it could be reconstructed",
        ),
        (
            record(config=inverting(rounds=[2, 4])),
            "psnr",
            "client 3 took no part in rounds 2, 4, so nothing of it could be reconstructed",
        ),
        (record(config=running("fedavg")), "psnr", "nothing is reconstructed without an inversion"),
        (
            record(config=running("fedavg"), accuracy_worst_client=None),
            "accuracy_worst_client",
            "clients have models of their own only with personal algorithms, federation.bn local and fedgkt",
        ),
        (record(config=running("centralized")), "edge_flops", "centralized training has no clients"),
        (record(loss=None), "loss", "loss is no finite number"),
        (record(), "edge_flops", "edge_flops was not measured"),
    ],
)
def test_why_there_is_no_value(entry: dict[str, Any], metric: str, reason: str) -> None:
    assert missing.why(entry, metric) == reason


def test_what_an_attack_aims_at_and_what_was_asked_for_have_a_table() -> None:
    rows = {"gini": {"name": "gini", "about": "inequality over classes", "better": "lower", "scale": "fraction"}}
    records = [
        {**record({"attack": attack, "defense": defense}, attack_success_rate=rate, gini=0.25), "metric_rows": rows}
        for attack, rate in (("none", None), ("backdoor", 0.875))
        for defense in ("mean", "median")
    ]
    (text,) = printed(records, width=100)
    assert text.startswith("what else was measured")
    assert "attack success (%)" in text
    assert "gini (%)" in text
    assert re.search(r"backdoor +mean +90\.0 +87\.5 +25\.0", text)
    assert "gini: inequality over classes" in " ".join(text.split())


def test_what_stands_in_parentheses_is_explained() -> None:
    (text,) = printed([record(label_leak_auc=0.75, label_leak_auc_blind=0.5)], width=100)
    assert "0.750 (0.500)" in text
    explanation = text.partition("label_leak_auc: ")[2]
    assert "; in parentheses the same from activations before training" in " ".join(explanation.split())


def test_long_names_break_where_words_are_joined() -> None:
    records = [
        record({"inversion.name": name, "defense": defense}, config=inverting(client=place), **LEAKED)
        for place, (name, defense) in enumerate(product(("inverting_gradients", "dlg"), ("user-level DP 10", "none")))
    ]
    (text, *_) = printed(records, width=70)
    assert re.search(r"^inverting_ .*\ngradients ", text, re.MULTILINE)
    assert max(map(len, text.splitlines())) <= 70
