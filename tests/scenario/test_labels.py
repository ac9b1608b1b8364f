"""Labels of federations, models and partitions: what tables call them, and nothing else."""

from pathlib import Path

import pytest

from fedsec.errors import ScenarioError
from fedsec.scenario import Scenario, load_scenario
from fedsec.scenario.config import CellConfig, unlabeled

BASE = "name: labels\ndataset: digits\n"


def load(folder: Path, text: str) -> Scenario:
    path = folder / "labels.yaml"
    path.write_text(BASE + text)
    return load_scenario(path)


@pytest.mark.parametrize(
    ("section", "plain", "labeled"),
    [
        ("federation", "{algorithm: fedprox, mu: 1.0}", "{algorithm: fedprox, mu: 1.0, label: strong FedProx}"),
        ("model", "{name: mlp, hidden: [8]}", "{name: mlp, hidden: [8], label: small}"),
        ("partition", "{name: dirichlet, alpha: 0.1}", "{name: dirichlet, alpha: 0.1, label: skewed}"),
        ("attack", "{name: label_flip, fraction: 0.2}", "{name: label_flip, fraction: 0.2, label: flips}"),
        ("defense", "{name: median}", "{name: median, label: robust}"),
    ],
)
def test_a_label_is_shown_and_changes_no_number(tmp_path: Path, section: str, plain: str, labeled: str) -> None:
    (bare,) = load(tmp_path, f"matrix: {{{section}: [{plain}]}}\n").cells()
    (called,) = load(tmp_path, f"matrix: {{{section}: [{labeled}]}}\n").cells()
    label = labeled.partition("label: ")[2].removesuffix("}")
    assert called.axes == {section: label}
    assert bare.axes != called.axes
    assert called.id == bare.id
    assert unlabeled(called.resolved) == unlabeled(bare.resolved)


def test_the_server_s_model_has_a_label_too(tmp_path: Path) -> None:
    told = [
        f"model: resnet8\nmatrix:\n  federation: [{{algorithm: fedgkt, server: {{model: {model}}}}}]\n"
        for model in ("resnet55", "{name: resnet55, label: large}")
    ]
    bare, called = (load(tmp_path, text).cells()[0] for text in told)
    assert bare.id == called.id


def test_options_named_label_are_no_labels() -> None:
    content = CellConfig.model_validate({"dataset": "digits"}).model_dump(mode="json")
    content["model"]["options"] = {"label": 3}
    assert unlabeled(content)["model"]["options"] == {"label": 3}
    assert "label" not in unlabeled(content)["model"]


FEDERATIONS = """\
matrix:
  federation: [fedavg_, {algorithm: fedprox, label: FedProx}, {algorithm: fedsgd}]
""".replace("fedavg_", "{algorithm: fedavg, label: our baseline}")


@pytest.mark.parametrize(
    ("wanted", "places"),
    [
        ("FedProx", [1]),
        ("fedprox", [1]),
        ("our baseline", [0]),
        ("fedavg", [0]),
        ("fedsgd", [2]),
        ("{algorithm: fedsgd}", [2]),
        ("{label: FedProx}", [1]),
    ],
)
def test_expectations_know_federations_by_label_and_algorithm(tmp_path: Path, wanted: str, places: list[int]) -> None:
    text = f'{FEDERATIONS}expect:\n  - {{federation: {wanted}, accuracy: ">= 0.1"}}\n'
    scenario = load(tmp_path, text)
    assert scenario.expectations[0].cells == tuple(scenario.cells()[place].id for place in places)


def test_expectations_know_models_and_partitions_by_label(tmp_path: Path) -> None:
    scenario = load(
        tmp_path,
        "partition: {name: iid, label: even}\nmatrix:\n  model: [{name: mlp, label: small}, logistic]\n"
        'expect:\n  - {model: small, partition: even, accuracy: ">= 0.1"}\n',
    )
    assert scenario.expectations[0].cells == (scenario.cells()[0].id,)


def test_unknown_federations_say_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="federation is one of our baseline, FedProx, algorithm=fedsgd"):
        load(tmp_path, f'{FEDERATIONS}expect:\n  - {{federation: fedgkt, accuracy: ">= 0.1"}}\n')


@pytest.mark.parametrize("section", ["federation", "model", "partition"])
def test_a_label_is_one_short_line(tmp_path: Path, section: str) -> None:
    with pytest.raises(ScenarioError, match=rf"{section}\.label: .*line"):
        load(tmp_path, f'{section}: {{label: "a\\nb"}}\n')
    with pytest.raises(ScenarioError, match=rf"{section}\.label"):
        load(tmp_path, f"{section}: {{label: {'x' * 61}}}\n")
