"""What a scenario says of attackers beside their attack: when they attack, who they are, what they claim."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from fedsec.cli.commands import app
from fedsec.errors import ScenarioError
from fedsec.runs import run
from fedsec.scenario import load_scenario
from fedsec.scenario.plan import check_scenario
from fedsec.scenario.shared_training import shared_work
from fedsec.scenario.threat import drawn_threat
from fedsec.seeds import Streams

FLIP = {"name": "label_flip", "num_byzantine": 2}


def scenario(attack: Any = FLIP, **more: Any) -> dict[str, Any]:
    federation = {"rounds": 3, "local": {"steps": 1}}
    return {
        "dataset": {"name": "digits", "train_size": 60, "test_size": 40},
        "partition": {"clients": 6},
        "model": {"name": "mlp", "hidden": [4]},
        "federation": {**federation, **more.pop("federation", {})},
        "attack": attack,
        **more,
    }


def test_what_says_nothing_keeps_a_cells_id() -> None:
    (plain,) = load_scenario(scenario()).cells()
    for neutral in ({"since": None}, {"until": None}, {"redraw": "once"}, {"claimed_examples": 1.0}):
        assert load_scenario(scenario({**FLIP, **neutral})).cells()[0].id == plain.id
    others = [{"since": 1}, {"until": 3}, {"redraw": "each_round"}, {"claimed_examples": 2.0}]
    assert len({load_scenario(scenario({**FLIP, **other})).cells()[0].id for other in others} | {plain.id}) == 5


def test_all_of_it_can_vary() -> None:
    matrix = {"attack.until": [1, 2], "attack.redraw": ["once", "each_round"], "attack.claimed_examples": [1.0, 10.0]}
    cells = load_scenario(scenario(matrix=matrix)).cells()
    assert len({cell.id for cell in cells}) == 8
    threat = drawn_threat(cells[-1].config, Streams(0))
    assert (threat.schedule.until, threat.schedule.redraw, threat.claimed_examples) == (2, "each_round", 10.0)


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        ({**FLIP, "since": 4}, "attack.since: expected at most federation.rounds = 3, got 4"),
        ({**FLIP, "since": 3, "until": 2}, "attack.until: expected at least attack.since = 3, got 2"),
        ({**FLIP, "until": 0}, "attack.until: expected an integer of at least 1"),
        ({**FLIP, "redraw": "often"}, "attack.redraw: expected"),
        ({**FLIP, "claimed_examples": 0.0}, "attack.claimed_examples: expected"),
        ({"name": "none", "until": 2}, "attack.until: there is no attack; expected a name beside it, or nothing"),
        ({"name": "none", "redraw": "each_round"}, "attack.redraw: there is no attack"),
    ],
)
def test_mistakes(attack: dict[str, Any], message: str) -> None:
    with pytest.raises(ScenarioError, match=message.replace("[", r"\[")):
        load_scenario(scenario(attack))


def test_a_server_of_knowledge_is_refused_in_a_dry_run() -> None:
    federation = {"algorithm": "fedgkt", "local": {"epochs": 1}, "server": {"model": "resnet7"}}
    loaded = load_scenario(scenario({**FLIP, "until": 1}, model="resnet4", federation=federation))
    with pytest.raises(ScenarioError, match="clients cannot change theirs between rounds"):
        check_scenario(loaded)


def test_a_dry_run_says_when_who_attacks(tmp_path: Path) -> None:
    path = tmp_path / "sample.yaml"
    attack = {**FLIP, "since": 2, "redraw": "each_round", "claimed_examples": 1.5}
    path.write_text(yaml.safe_dump(scenario(attack)))
    shown = CliRunner().invoke(app, ["run", str(path), "--dry-run"], env={"COLUMNS": "200"}).stdout
    expected = "2 of 6 Byzantine, in rounds 2 to 3, drawn anew each round, claiming 1.5 times their examples"
    assert expected in " ".join(shown.split())


def test_one_round_trains_those_on_poison_who_attack_in_it() -> None:
    once = {"rounds": 1}
    fixed, redrawn = (
        load_scenario(scenario({**FLIP, "redraw": redraw}, federation=once)).cells()[0].config
        for redraw in ("once", "each_round")
    )
    for config in (fixed, redrawn):
        poisoned = {training.client for training in shared_work([config]) if training.poisoned}
        assert poisoned == drawn_threat(config, Streams(config.seed)).in_round(1)
        assert len(poisoned) == 2


@pytest.mark.usefixtures("quick_runs")
def test_a_run_reports_who_attacked_in_each_round(tmp_path: Any) -> None:
    matrix = {"attack.redraw": ["once", "each_round"], "attack.until": [2]}
    result = run(scenario(matrix=matrix), out=tmp_path, workers=1)
    assert not result.failures
    fixed, redrawn = result.records
    assert (len(fixed["byzantine"]), redrawn["byzantine"]) == (2, [])
    assert [record["metrics"]["byzantine_influence"] for record in result.records] == pytest.approx(
        [2 / 9] * 2, rel=1e-5
    )
