"""Scenarios that come with fedsec are found by name, wherever one stands; scenarios may be mappings, too."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedsec.errors import ScenarioError
from fedsec.scenario import load_scenario
from fedsec.scenario.shipped import find_scenario, shipped_scenarios, summary

FOLDER = Path(__file__).parents[2] / "scenarios"


def test_every_file_of_the_folder_comes_with_fedsec() -> None:
    assert list(shipped_scenarios()) == sorted(path.stem for path in FOLDER.glob("*.yaml"))
    assert "quickstart" in shipped_scenarios()


def test_a_name_is_found_from_anywhere_and_a_file_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = [cell.id for cell in load_scenario("quickstart").cells()]
    assert shipped == [cell.id for cell in load_scenario(FOLDER / "quickstart.yaml").cells()]
    (tmp_path / "privacy_quickstart").mkdir()
    assert find_scenario("privacy_quickstart") == shipped_scenarios()["privacy_quickstart"]
    (tmp_path / "quickstart").write_text("dataset: digits\n")
    assert len(load_scenario("quickstart").cells()) == 1


@pytest.mark.parametrize("given", ["quickstrat", "scenarios/quickstart.yaml", "quickstart.yaml"])
def test_what_is_not_there_names_the_nearest_and_where_all_are_listed(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ScenarioError, match=rf"^{given}: no such file.*mean 'quickstart'.*fedsec scenarios lists"):
        load_scenario(given)


def test_a_mapping_is_a_scenario(tmp_path: Path) -> None:
    mapping: dict[str, Any] = {
        "name": "mapped",
        "dataset": {"name": "digits", "train_size": np.int64(300), "root": tmp_path},
        "partition": "iid",
        "matrix": {"defense": ("mean", "median"), "seed": [0, 1]},
        "expect": [{"defense": "median", "accuracy": ">= 0.5"}],
    }
    file = tmp_path / "mapped.yaml"
    file.write_text(
        f"dataset: {{name: digits, train_size: 300, root: {tmp_path}}}\npartition: iid\n"
        "matrix: {defense: [mean, median], seed: [0, 1]}\nexpect: [{defense: median, accuracy: '>= 0.5'}]\n"
    )
    mapped, read = load_scenario(mapping), load_scenario(file)
    assert (mapped.name, read.name) == ("mapped", "mapped")
    assert [cell.id for cell in mapped.cells()] == [cell.id for cell in read.cells()]
    assert [len(expectation.cells) for expectation in mapped.expectations] == [2]
    assert load_scenario({"dataset": "digits"}).name == "scenario"
    assert load_scenario({"dataset": "digits"}, ["seed=3"]).cells()[0].config.seed == 3


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({}, "scenario: dataset: is required"),
        ({"dataset": "digit"}, r"scenario: dataset: unknown dataset 'digit' \(did you mean 'digits'"),
        ({"dataset": "digits", "seed": object()}, "seed: expected a number, text, a list or a mapping, got object"),
        ({"dataset": {1: 2}}, "dataset: expected keys to be text, got 1"),
        ({"dataset": "digits", "matrix": {"seed": [[0] * 30_000]}}, ".*: expected at most 20000 values"),
    ],
)
def test_mappings_are_refused_in_words(mapping: dict[str, Any], message: str) -> None:
    with pytest.raises(ScenarioError, match=f"^{message}"):
        load_scenario(mapping)


OPTIONS = "unknown key; expected the options beside the name"


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("defense: {name: trimmed_mean, trim_per_side: 0.3, options: {trim_per_side: 0.1}}", "defense.options"),
        ("defense: [{name: trimmed_mean, options: {trim_per_side: 0.1}}]", "defense[0].options"),
        ("defense: [sign, {name: trimmed_mean, options: {}}]", "defense[1].options"),
        ("defense: [sign, {name: trimmed_mean, options: null}]", "defense[1].options"),
        ("matrix: {defense: [mean, {name: trimmed_mean, options: {trim_per_side: 0.1}}]}", "matrix.defense[1].options"),
        ("matrix: {defense: [[sign, {name: median, options: {}}]]}", "matrix.defense[0][1].options"),
        ("matrix: {attack: [{name: sign_flip, fraction: 0.2, options: {scale: 2}}]}", "matrix.attack[0].options"),
        ("matrix: {defense.options: [{trim_per_side: 0.1}]}\ndefense: trimmed_mean", "matrix.defense.options[0]"),
        ("model: {name: mlp, options: {hidden: [3]}}", "model.options"),
        ("partition: {name: dirichlet, options: {alpha: 1}}", "partition.options"),
        ("inversion: {name: dlg, options: {iterations: 1}}", "inversion.options"),
        (
            "model: resnet4\nfederation: {algorithm: fedgkt, server: {model: {name: resnet7, options: {}}}}",
            "federation.server.model.options",
        ),
    ],
)
def test_options_stand_beside_the_name_everywhere(tmp_path: Path, text: str, where: str) -> None:
    path = tmp_path / "options.yaml"
    path.write_text(f"dataset: digits\n{text}\n")
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path)
    assert f": {where}: {OPTIONS}" in str(caught.value)


@pytest.mark.parametrize("name", ["quickstart", "privacy_quickstart", "fedgkt_cifar10", "heterogeneity_fmnist_small"])
def test_a_summary_is_what_loading_it_finds(name: str) -> None:
    scenario, told = load_scenario(name), summary(shipped_scenarios()[name])
    assert (told.name, told.cells) == (scenario.name, len(scenario.cells()))
    assert set(told.datasets) == {cell.config.dataset.name for cell in scenario.cells()}
    assert scenario.description.startswith(told.shows)


def test_a_summary_tells_how_long_it_takes_where_the_description_does() -> None:
    known = shipped_scenarios()
    assert summary(known["heterogeneity_fmnist_small"]).duration == "half an hour to an hour on two cores"
    assert summary(known["backdoor_digits"]).duration == "about four minutes on two cores"
    assert summary(known["fedgkt_threats"]).duration == "a few minutes on a CPU"
    assert not summary(known["quickstart"]).duration
    assert all(summary(path).shows for path in known.values())


def test_a_summary_of_what_is_no_scenario_says_so(tmp_path: Path) -> None:
    (tmp_path / "odd.yaml").write_text("matrix: {attack: 3}\n")
    with pytest.raises(ScenarioError, match=r"odd\.yaml: expected a list"):
        summary(tmp_path / "odd.yaml")
    (tmp_path / "odd.yaml").write_text("- 1\n")
    with pytest.raises(ScenarioError, match=r"odd\.yaml: expected a mapping"):
        summary(tmp_path / "odd.yaml")
