"""`fedsec show`: all about one name, as text that fits the terminal and as data."""

import ast
import json
import re
import subprocess
import sys
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from fedsec.cli import app
from fedsec.cli.display.method_text import folded_code
from fedsec.plugins import registry
from fedsec.plugins.method_page import method_page

ONE_OF_EACH = {
    "attack": "alie",
    "inversion": "dlg",
    "inference": "loss_threshold",
    "defense": "trimmed_mean",
    "dataset": "digits",
    "model": "cnn",
    "partition": "dirichlet",
    "algorithm": "fedavg",
    "task": "regression",
    "metric": "balanced_accuracy",
}


def show(*arguments: str, width: int = 80) -> Any:
    return CliRunner().invoke(app, ["show", *arguments], env={"COLUMNS": str(width), "TERM": "dumb"})


@pytest.mark.parametrize(("kind", "name"), ONE_OF_EACH.items())
@pytest.mark.parametrize("width", [40, 80, 120])
def test_every_part_is_shown_with_its_words_whole(kind: str, name: str, width: int) -> None:
    done = show(name, width=width)
    assert done.exit_code == 0, done.output
    page = method_page(kind, name)
    shown = " ".join(done.stdout.split())
    parts = [page.summary, *page.explanation, *page.traits, page.cost, page.limits]
    parts += [parameter.about for parameter in page.parameters]
    for part in parts:
        assert " ".join(part.split()) in shown
    for line in page.scenario.splitlines() + page.python.splitlines():
        assert " ".join(line.split()) in shown
    prose = re.split("In a scenario|In Python", done.stdout)[0]
    assert max(map(len, prose.splitlines())) <= width
    assert not any(line != line.rstrip() for line in prose.splitlines())


def test_options_are_shown_with_their_defaults() -> None:
    lines = [line.strip() for line in show("dlg").stdout.splitlines()]
    assert "iterations: int, 100 by default" in lines
    assert "variant: robust | published, robust by default" in lines
    assert "num_byzantine: int, required" in [line.strip() for line in show("krum").stdout.splitlines()]


@pytest.mark.parametrize(("kind", "name"), ONE_OF_EACH.items())
def test_for_machines(kind: str, name: str) -> None:
    content = json.loads(show(name, "--json", "--kind", kind).stdout)
    page = method_page(kind, name)
    assert (content["kind"], content["name"], content["summary"]) == (kind, name, page.summary)
    assert content["formula"] == page.formula
    assert [option["name"] for option in content["parameters"]] == [one.name for one in page.parameters]
    assert content["scenario"] == page.scenario
    assert content["docs"].startswith("docs/")


def test_a_metric_that_runs_measure_by_themselves() -> None:
    assert "Higher is better." in show("psnr").stdout
    content = json.loads(show("psnr", "--json").stdout)
    assert (content["kind"], content["name"], content["better"]) == ("metric", "psnr", "higher")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["krumm"], "error: nothing is called 'krumm' (did you mean 'krum', a defense?); fedsec list shows all names"),
        (["FedAdam"], "error: nothing is called 'FedAdam': it is the algorithm fedopt with optimizer: adam"),
        (["ali"], "'alie', an attack"),
        (["q" * 80], f"error: nothing is called '{'q' * 57}...'; fedsec list shows all names"),
        (
            ["krum", "--kind", "attack"],
            "error: --kind attack: krum is a defense; expected no --kind, or --kind defense",
        ),
        (
            ["krum", "--kind", "rule"],
            "error: --kind rule: is no kind; expected attack, inversion, inference, defense, dataset, ",
        ),
    ],
)
def test_bad_input(arguments: list[str], message: str) -> None:
    done = show(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert not done.stdout


def test_a_name_of_two_kinds_asks_for_the_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    names = registry.names
    monkeypatch.setattr(registry, "names", lambda kind: [*names(kind), *(["krum"] if kind == "attack" else [])])
    done = show("krum")
    assert done.exit_code == 2
    assert "there is an attack and a defense of this name; expected --kind attack or --kind defense" in done.stderr
    assert show("krum", "--kind", "defense").exit_code == 0


def test_code_is_folded_within_brackets_and_means_the_same() -> None:
    python = "seen = Observation.of_gradient(model, gradient, input_shape=(1, 8, 8), num_classes=10, batch_size=1)"
    for width in range(30, 110, 8):
        assert ast.dump(ast.parse("\n".join(folded_code(python, width)))) == ast.dump(ast.parse(python))
    assert max(map(len, folded_code(python, 60))) <= 60
    text = "federation: {rounds: 1, local: {epochs: 1, batch_size: 200, lr: 0.1}}"
    assert yaml.safe_load("\n".join(folded_code(text, 40))) == yaml.safe_load(text)
    assert folded_code("x = 1 + 2 + 3", 5) == ["x = 1 + 2 + 3"]


def test_neither_torch_nor_pydantic_is_imported() -> None:
    code = (
        "import sys; sys.argv = ['fedsec', 'show', 'krum']\n"
        "from fedsec.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'numpy', 'pydantic', 'matplotlib'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_shell_completes_names_of_every_kind() -> None:
    from fedsec.cli.show import _kinds, _names

    assert _names("multi_k") == ["multi_krum"]
    assert {"decoupled", "dba", "dlg", "digits", "dirichlet", "dnc"} <= set(_names("d"))
    assert _kinds("al") == ["algorithm"]
