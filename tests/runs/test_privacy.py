"""Defenses of clients and their claims in whole runs: what is kept, told, resumed, shared and expected of them."""

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from fedsec.errors import InputError
from fedsec.federation import Federation
from fedsec.metrics.metric import of_source
from fedsec.privacy import Spending, epsilon
from fedsec.report import run_report as report
from fedsec.runs import InProcess, RunResult, cell, run
from fedsec.runs.cell import OnRound, run_cell
from fedsec.runs.curious_server import CuriousServer
from fedsec.runs.experiment import build_experiment, finite
from fedsec.runs.tasks import TaskSettings
from fedsec.scenario import CellConfig, load_scenario
from fedsec.scenario.shared_training import SharingKeys, shared_work
from fedsec.threat import Distortion, Reconstruction

# Clients of five and of four images, so the smaller ones are sampled at the higher rate.
RATES, DELTA = {5: 2 / 5, 4: 2 / 4}, 5**-1.1


def spent(size: int, rounds: int) -> float:
    """Epsilon of one client after so many rounds of one step each, at noise 1."""
    return epsilon([Spending(1.0, RATES[size], rounds)], DELTA).value


def hidden(rounds: int) -> float:
    """Epsilon of six clients that all take part, at noise 2."""
    return epsilon([Spending(2.0, 1.0, rounds)], 6**-1.1).value


BUDGET = spent(4, 3)
SCENARIO = f"""\
name: private
dataset: {{name: digits, train_size: 27, test_size: 20}}
partition: {{clients: 6}}
model: {{name: mlp, hidden: [8]}}
federation: {{algorithm: fedavg, rounds: 4, local: {{steps: 1, batch_size: 2, lr: 0.1}}}}
matrix:
  defense:
    - {{name: mean, label: plain}}
    - {{name: clip, max_norm: 0.05}}
    - {{name: prune, ratio: 0.5, error_feedback: true}}
    - {{name: dp_sgd, noise_multiplier: 1.0, label: noise}}
    - {{name: dp_sgd, noise_multiplier: 1.0, target_epsilon: {BUDGET!r}, label: client}}
    - {{name: dp_sgd, noise_multiplier: 1.0, target_epsilon: {BUDGET!r}, when_spent: run, label: run}}
    - {{name: dp_sgd, noise_multiplier: 0.0, label: silent}}
    - {{name: dp_fedavg, noise_multiplier: 2.0, quantile: 0.5, clip_norm: 0.1, label: hidden}}
    - [{{name: gaussian_noise, std: 0.01}}, median]
    - - {{name: dp_sgd, noise_multiplier: 1.0}}
      - {{name: clip, max_norm: 1.0}}
      - {{name: dp_fedavg, noise_multiplier: 2.0}}
expect:
  - {{defense: noise, epsilon: "<= {spent(4, 4):.9f}"}}
  - {{defense: hidden, user_epsilon: "> 0"}}
  - {{defense: silent, epsilon: "< 100"}}
"""
LABELS = ("mean", "clip", "prune", "noise", "client", "run", "silent", "hidden", "noise and median", "both")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scenario") / "private.yaml"
    path.write_text(SCENARIO)
    return path


@pytest.fixture(scope="module")
def whole(path: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    result = run(path, out=tmp_path_factory.mktemp("whole"), executor=InProcess(), device="cpu")
    assert result.failures == 0
    return result


@pytest.fixture
def records(whole: RunResult) -> dict[str, dict[str, Any]]:
    return dict(zip(LABELS, whole.records, strict=True))


@pytest.fixture
def logs(whole: RunResult) -> dict[str, list[dict[str, Any]]]:
    return {label: lines(whole.root / each["id"]) for label, each in zip(LABELS, whole.records, strict=True)}


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]


# What is kept


def test_epsilon_stands_in_each_round_and_never_falls(logs: dict[str, list[dict[str, Any]]]) -> None:
    for label in ("mean", "clip", "prune", "noise and median"):
        assert not {"epsilon", "user_epsilon", "spent"} & logs[label][0].keys(), label
    assert [line["epsilon"] for line in logs["noise"]] == [spent(4, number) for number in (1, 2, 3, 4)]
    assert [line["user_epsilon"] for line in logs["hidden"]] == [hidden(number) for number in (1, 2, 3, 4)]
    assert "epsilon" not in logs["hidden"][0]
    assert "user_epsilon" not in logs["noise"][0]
    for label, told in logs.items():
        for name in ("epsilon", "user_epsilon"):
            values = [line[name] for line in told if line.get(name) is not None]
            assert values == sorted(values), label


def test_clients_leave_and_runs_end_with_their_budget(logs: dict[str, list[dict[str, Any]]]) -> None:
    """The small clients pay for three rounds; the large ones for four."""
    assert spent(5, 4) < BUDGET
    sizes = [len(line["clients"]) for line in logs["client"]]
    assert sizes == [6, 6, 6, 3]
    (small,) = {tuple(line["spent"]) for line in logs["client"][3:]}
    assert len(small) == 3
    assert set(small) | set(logs["client"][3]["clients"]) == set(range(6))
    assert logs["client"][-1]["epsilon"] == BUDGET  # of those who left
    assert [len(line["clients"]) for line in logs["run"]] == [6, 6, 6]
    for label in ("client", "run"):
        assert logs[label][-1]["accuracy"] is not None


def test_results_tell_epsilon_delta_unit_and_accountant(
    whole: RunResult, records: dict[str, dict[str, Any]], logs: dict[str, list[dict[str, Any]]]
) -> None:
    def claim(unit: str, value: float | None, delta: float) -> dict[str, Any]:
        note = epsilon([Spending(1.0, 1.0, 1)], delta).note  # so few examples make delta large
        return {"unit": unit, "value": value, "delta": delta, "accountant": "rdp", "note": note}

    by_example, by_client = claim("example", spent(4, 4), DELTA), claim("client", hidden(4), 6**-1.1)
    expected: dict[str, list[dict[str, Any]]] = {
        "mean": [],
        "noise": [by_example],
        "run": [claim("example", BUDGET, DELTA)],
        "silent": [claim("example", None, DELTA) | {"note": "steps without noise give no guarantee"}],
        "hidden": [by_client],
        "both": [by_example, by_client],
    }
    kept = json.loads((whole.root / "results.json").read_text())
    for label, claims in expected.items():
        told = records[label]["privacy"]
        assert [{key: value for key, value in claim.items() if key != "steps"} for claim in told] == claims, label
        for claim in told:  # epsilon can be computed again from what is written beside it
            steps = [Spending(**spending) for spending in claim["steps"]]
            assert steps
            assert finite(epsilon(steps, claim["delta"], claim["accountant"]).value) == claim["value"], label
        assert kept[LABELS.index(label)]["privacy"] == told, label
        single = json.loads((whole.root / records[label]["id"] / "result.json").read_text())
        assert (single["privacy"], single["metrics"]) == (told, records[label]["metrics"])
        for name in ("epsilon", "user_epsilon"):
            assert records[label]["metrics"].get(name, "none") == logs[label][-1].get(name, "none")
            assert kept[LABELS.index(label)]["metrics"][name] == logs[label][-1].get(name)
    header, *rows = (whole.root / "results.csv").read_text().splitlines()
    assert {"epsilon", "user_epsilon"} <= set(header.split(","))
    assert str(spent(4, 4)) in rows[LABELS.index("noise")]


def test_defenses_change_what_is_trained(records: dict[str, dict[str, Any]], logs: dict[str, Any]) -> None:
    seen = {label: tuple(line["loss"] for line in logs[label]) for label in LABELS}
    assert len(set(seen.values())) == len(LABELS)
    assert seen["run"] == seen["noise"][:3] == seen["client"][:3]  # a budget changes nothing until it is spent
    assert records["prune"]["metrics"]["upload_bytes"] == records["mean"]["metrics"]["upload_bytes"]


# What is told


def printed(records: list[dict[str, Any]], width: int = 200) -> str:
    console = Console(width=width, color_system=None, force_terminal=True, legacy_windows=False)
    with console.capture() as capture:
        for table in report.tables(records, width=width):
            console.print(table)
    return capture.get()


def test_a_table_tells_what_was_spent_of_whose_privacy(whole: RunResult) -> None:
    text = printed(whole.records)
    told = {line.split("  ")[0].strip(): line.split()[-2:] for line in text.splitlines()}
    assert "privacy: what was spent" in text
    assert "epsilon (example)" in text
    assert "epsilon (client)" in text
    assert told["plain"] == ["-", "-"]
    assert told["noise"] == [f"{spent(4, 4):.3g}", "-"]
    assert told["silent"] == ["inf", "-"]
    assert told["hidden"] == ["-", f"{hidden(4):.3g}"]
    words = " ".join(text.split())
    for unit, whose, delta in (
        ("example", "the largest of all clients", DELTA),
        ("client", "the same for all clients", 6**-1.1),
    ):
        told_of_it = f"epsilon ({unit}): {whose}, at delta {delta:.2g} by rdp; the unit is one {unit}, added or removed"
        assert told_of_it in words
    assert "inf: no bound at all" in words


def test_nobody_is_told_of_privacy_that_nobody_claims(records: dict[str, dict[str, Any]]) -> None:
    assert "epsilon" not in printed([records["mean"], records["clip"], records["noise and median"]])
    alone = printed([records["mean"], records["hidden"]])
    assert "epsilon (client)" in alone
    assert "example" not in alone


def test_expectations_about_epsilon(whole: RunResult, path: Path) -> None:
    assert whole.unmet == ["defense=silent: epsilon < 100 (no value: epsilon is no finite number)"]
    for label in ("hidden", "plain"):
        with pytest.raises(InputError, match=f"nothing claims privacy of one example .* and defense={label} has none"):
            load_scenario(path, [f"expect=[{{defense: {label}, epsilon: '< 100'}}]"])


# Runs that do not go as planned


class Interrupted(Exception):  # noqa: N818  (it is no error)
    """Ends a run from outside."""


def interrupt(at: int, number: int, *_: Any) -> None:
    if number == at:
        raise Interrupted


def finish(made: CellConfig, root: Path, on_round: OnRound = lambda *_: None) -> Path:
    """Run a cell, or go on with it; its folder."""
    run_cell(made, {}, TaskSettings(root, "cpu", 1), on_round)
    return root / made.id


def left(folder: Path) -> tuple[Any, ...]:
    """All that a run left but how long it took and what somebody made of its messages."""
    apart = ("seconds", "aggregation_seconds", "leakage")
    rounds = [{name: value for name, value in line.items() if name not in apart} for line in lines(folder)]
    result = json.loads((folder / "result.json").read_text())
    numbers = {
        name: value
        for name, value in result["metrics"].items()
        if name not in (*of_source("inversion", "time"), "rounds_reconstructed")
    }
    return rounds, numbers, result["privacy"], (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("label", ["prune", "client", "hidden", "both"])
def test_interrupted_cells_end_with_the_same_numbers(
    path: Path, whole: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, label: str
) -> None:
    monkeypatch.setattr(cell, "CHECKPOINT_SHARE", 0)
    made = load_scenario(path).cells()[LABELS.index(label)].config
    with pytest.raises(Interrupted):
        finish(made, tmp_path, partial(interrupt, 2))  # its line is written, but no checkpoint
    before = lines(tmp_path / made.id)
    folder = finish(made, tmp_path)
    assert lines(folder)[0] == before[0]  # to the second: it was not played again
    assert left(folder) == left(whole.root / made.id)


DIGITS = {"name": "digits", "train_size": 24, "test_size": 20}
FEDSGD = {"algorithm": "fedsgd", "rounds": 3, "server_lr": 0.5}
ONCE: dict[str, Any] = {"algorithm": "fedavg", "rounds": 1, "local": {"steps": 1, "batch_size": 2, "lr": 0.1}}
INVERTING = {"name": "inverting_gradients", "iterations": 2, "target": {"client": 1, "rounds": [1, 3]}}


def config(**sections: Any) -> CellConfig:
    """A scenario's only cell: six clients of four images."""
    model = {"name": "mlp", "hidden": [8]}
    return CellConfig.model_validate({"dataset": DIGITS, "partition": {"clients": 6}, "model": model, **sections})


def test_a_budget_that_pays_for_no_round_is_refused_in_words(tmp_path: Path) -> None:
    for when in ("client", "run"):
        defense = {"name": "dp_sgd", "noise_multiplier": 1.0, "target_epsilon": 0.01, "when_spent": when}
        with pytest.raises(InputError, match="the privacy budget does not pay for a single round"):
            finish(config(federation=ONCE, defense=defense), tmp_path)


def test_rounds_without_anybody_are_no_rounds_of_a_byzantine_majority(tmp_path: Path) -> None:
    federation = {**FEDSGD, "rounds": 8, "clients_per_round": 1, "sampling": "poisson"}
    attack = {"name": "sign_flip", "num_byzantine": 1}
    folder = finish(config(federation=federation, attack=attack), tmp_path)
    played = lines(folder)
    assert any(not line["clients"] for line in played)
    majorities = [line for line in played if 0 < len(line["clients"]) <= 2 * len(line["byzantine_in_round"])]
    found = json.loads((folder / "result.json").read_text())
    assert found["metrics"]["rounds_with_byzantine_majority"] == len(majorities) < len(played)


# A curious server beside defenses and attackers


SEVERAL = [{"name": "clip", "max_norm": 0.5}, {"name": "prune", "error_feedback": True}, {"name": "median"}]


@pytest.mark.parametrize("defense", [["mean"], SEVERAL], ids=["undefended", "defended"])
def test_an_inversion_beside_an_attack_lets_both_happen(tmp_path: Path, defense: Any) -> None:
    attacked = {"federation": FEDSGD, "defense": defense, "attack": {"name": "sign_flip", "num_byzantine": 2}}
    alone, both = config(**attacked), config(**attacked, inversion=INVERTING)
    assert alone.id != both.id
    one, other = finish(alone, tmp_path), finish(both, tmp_path)
    assert left(one) == left(other)
    assert all(len(line["byzantine_in_round"]) == 2 for line in lines(other))
    assert [line["leakage"] is not None for line in lines(other)] == [True, False, True]
    assert "leakage" not in lines(one)[0]
    metrics = json.loads((other / "result.json").read_text())["metrics"]
    assert metrics["psnr"] > 0
    assert metrics["byzantine_influence"] > 0
    assert len(list(other.glob("leakage/**/*.png"))) >= 2


class Witness:
    """Stands in for the attack and keeps what it is shown."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def reconstruct(self, observation: Any, *, generator: torch.Generator) -> Reconstruction:
        self.seen.append(observation)
        return Reconstruction(None, None)


def observed(defense: Any, folder: Path, *, known: bool = True) -> tuple[Federation, list[Distortion | None]]:
    """A federation after its rounds, and what its server was told of the defense."""
    made = config(federation=FEDSGD, defense=defense, inversion={**INVERTING, "knowledge": {"defense": known}})
    experiment, witness = build_experiment(made, device=torch.device("cpu"), threads=1), Witness()
    federation = experiment.federation
    assert isinstance(federation, Federation)
    CuriousServer(made, experiment.dataset, federation, folder).inversion = witness
    list(federation.run())
    return federation, [each.distortion for each in witness.seen]


def test_who_knows_the_defense_sees_what_it_did_and_training_is_the_same(tmp_path: Path) -> None:
    defense = [{"name": "dp_sgd", "noise_multiplier": 1.0}, {"name": "prune", "ratio": 0.5}]
    informed, told = observed(defense, tmp_path)
    ignorant, nothing = observed(defense, tmp_path, known=False)
    assert nothing == [None, None]
    assert torch.equal(informed.parameters, ignorant.parameters)
    for each in told:
        assert each is not None
        assert each.rescaled
        # One gradient of four images, all of them: sigma C / B.
        assert each.noise == pytest.approx(dict.fromkeys(informed.trainer.layout.shapes, 1.0 / 4))
        assert all(int(mask.sum()) == mask.numel() - mask.numel() // 2 for mask in each.kept.values())


def test_without_a_defense_there_is_nothing_to_know(tmp_path: Path) -> None:
    assert observed("mean", tmp_path)[1] == [None, None]
    assert observed({"name": "median"}, tmp_path)[1] == [None, None]


# Shared training


def key(defense: Any, **more: Any) -> str:
    return SharingKeys(config(federation={**ONCE, **more}, defense=defense), "cpu")(0, poisoned=False)


def test_one_round_cells_share_training_among_equal_private_settings() -> None:
    private = {"name": "dp_sgd", "noise_multiplier": 1.0}
    clip, prune = {"name": "clip", "max_norm": 1.0}, {"name": "prune", "error_feedback": True}
    assert key("mean") == key("median") == key([clip, prune]) == key({"name": "dp_fedavg", "noise_multiplier": 1.0})
    assert key(private) == key({**private, "label": "private"}) == key([private, clip, {"name": "median"}])
    others = [{**private, "noise_multiplier": 2.0}, {**private, "max_grad_norm": 2.0}, {**private, "delta": 1e-5}]
    keys = {key("mean"), key(private), *map(key, others)}
    assert len(keys) == 5
    assert len(shared_work([config(federation=ONCE, defense=each) for each in ("mean", "median", [clip])])) == 6
    assert (
        len(shared_work([config(federation=ONCE, defense=each) for each in ("mean", private, [private, clip])])) == 12
    )


def test_shared_private_training_has_the_account_and_the_bits_of_its_own(tmp_path: Path) -> None:
    made = config(federation=ONCE, defense={"name": "dp_sgd", "noise_multiplier": 1.0})
    first = finish(made, tmp_path)
    shared = sorted(each.name for each in (tmp_path / "shared").iterdir())
    clipped = config(
        federation=ONCE, defense=[{"name": "dp_sgd", "noise_multiplier": 1.0}, {"name": "clip", "max_norm": 0.01}]
    )
    second = finish(clipped, tmp_path)
    assert sorted(each.name for each in (tmp_path / "shared").iterdir()) == shared
    one, other = lines(first), lines(second)
    assert one[0]["epsilon"] == other[0]["epsilon"] == epsilon([Spending(1.0, 0.5, 1)], 4**-1.1).value
    assert math.isfinite(one[0]["loss"])
    assert one[0]["loss"] != other[0]["loss"]
    whole = build_experiment(made, device=torch.device("cpu"), threads=1).federation
    (result,) = whole.run()
    assert result.evaluated
    assert result.metrics["loss"] == one[0]["loss"]
