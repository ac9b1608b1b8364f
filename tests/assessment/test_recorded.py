"""A recording looked back at: influence is judged beside weight, labels are shown and not judged."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

import fedsec
from fedsec.assessment.recorded import audit_recording
from fedsec.cli.commands import app
from fedsec.errors import InputError
from fedsec.files import read_json
from fedsec.runs import InProcess

SCENARIO = {
    "name": "seen",
    "dataset": {"name": "digits", "train_size": 60, "test_size": 30},
    "partition": {"clients": 4},
    "model": {"name": "mlp", "hidden": [8]},
    "federation": {"rounds": 4, "local": {"epochs": 1, "batch_size": 5, "lr": 0.05}},
    "attack": {"name": "sign_flip", "scale": 40.0, "num_byzantine": 1},
}


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    result = fedsec.run(SCENARIO, out=folder / "runs", record=folder / "seen", executor=InProcess())
    return folder / "seen" / result.records[0]["id"]


def test_who_moves_the_model_beyond_its_weight_is_found(recording: Path, tmp_path: Path) -> None:
    audit = audit_recording(recording, out=tmp_path)
    by_id = {finding.id: finding for finding in audit.findings}
    influence, labels = by_id["recorded-influence"], by_id["recorded-labels"]
    assert influence.severity in ("high", "medium")
    assert influence.effect.low > 0.05
    assert labels.severity == "info"
    assert labels.effect_text == "not judged"
    assert {one.probe for one in audit.left_out} == {"recorded-images"}
    content = read_json(tmp_path / "audit.json")
    assert content["deployed"] is None
    assert content["recording"]["rounds"] == 4
    page = (tmp_path / "audit.html").read_text()
    assert "a recording of 4 rounds and 4 clients" in page
    assert str(recording.parent) not in page


def test_the_command_refuses_what_a_recording_settles(recording: Path, tmp_path: Path) -> None:
    outcome = CliRunner().invoke(app, ["audit", "--recording", str(recording), "--clients", "3"])
    assert outcome.exit_code == 2
    assert "--clients: what was recorded stays as it was" in outcome.output
    for option in (["--list"], ["--probe", "labels"], ["--budget", "1m"], ["--seed", "3"], ["--set", "model=mlp"]):
        outcome = CliRunner().invoke(app, ["audit", "--recording", str(recording), "--out", str(tmp_path), *option])
        assert (outcome.exit_code, list(tmp_path.iterdir())) == (2, [])
        assert f"{option[0]}: what was recorded" in outcome.output
    outcome = CliRunner().invoke(app, ["audit", "--recording", str(recording), "--fail-on", "none"])
    assert outcome.exit_code == 2
    options = ["audit", "--recording", str(recording), "--out", str(tmp_path), "--fail-on", "low", "-q"]
    assert CliRunner().invoke(app, options).exit_code == 1


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        audit_recording(tmp_path, out=tmp_path)
