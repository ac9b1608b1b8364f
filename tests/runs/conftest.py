"""A scenario of four small cells, run without other processes unless processes are the point."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fedsec.report import run_report
from fedsec.report.page import Page
from fedsec.runs import InProcess, RunResult, closing, run

SCENARIO = """\
name: tiny
dataset: {name: digits, train_size: 300, test_size: 100}
partition: {name: dirichlet, alpha: 1.0, clients: 6}
model: {name: mlp, hidden: [8]}
federation: {algorithm: fedavg, rounds: 3, local: {steps: 5, batch_size: 10, lr: 0.1, momentum: 0.9}}
matrix:
  attack: [none, {name: label_flip, fraction: 0.34}]
  defense: [mean, median]
"""


class Tiny:
    """The scenario, and how to run it."""

    one = ("matrix.attack=[none]", "matrix.defense=[mean]")
    one_round = (*one, "federation.rounds=1")

    @staticmethod
    def file(folder: Path, text: str = SCENARIO) -> Path:
        """The scenario's file, written into a folder."""
        path = folder / "tiny.yaml"
        path.write_text(text)
        return path

    @classmethod
    def run(cls, folder: Path, *overrides: str, **options: Any) -> RunResult:
        """Run it in a folder, by default in this process."""
        options = {"device": "cpu", "executor": InProcess(), "out": folder, **options}
        return run(cls.file(folder), overrides=overrides, **options)

    @staticmethod
    def numbers(root: Path) -> dict[str, Any]:
        """Everything in a run folder that must not depend on when, where or how often it ran."""
        content: dict[str, Any] = {}
        for record in json.loads((root / "results.json").read_text()):
            folder = root / record["id"]
            result = json.loads((folder / "result.json").read_text())
            lines = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
            for line in lines:
                del line["seconds"], line["aggregation_seconds"]
            del result["metrics"]["aggregation_seconds"]
            model = (folder / "model.safetensors").read_bytes()
            content[record["id"]] = (result["metrics"], result["byzantine"], result["config"], lines, model)
        return content


@pytest.fixture(scope="session")
def tiny() -> type[Tiny]:
    """The scenario, and how to run it."""
    return Tiny


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run, with pictures; nobody changes it."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name, drawing in DRAWINGS:
            patch.setattr(module, name, drawing)
        result = Tiny.run(tmp_path_factory.mktemp("whole"))
    assert result.failures == 0
    return result.root


@pytest.fixture(scope="session")
def one_cell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one cell of one round; nobody changes it."""
    return Tiny.run(tmp_path_factory.mktemp("one"), *Tiny.one_round).root


@pytest.fixture(scope="session")
def long_cell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one cell of three rounds; nobody changes it."""
    return Tiny.run(tmp_path_factory.mktemp("long"), *Tiny.one).root


DRAWINGS = [
    *((run_report, name, getattr(run_report, name)) for name in ("draw_curves", "draw_partitions", "draw_tradeoff")),
    (closing, "run_page", closing.run_page),
]
"""Who draws at the end of a run: in which module, by which name, and the function."""


@pytest.fixture(scope="module", autouse=True)
def no_pictures() -> Iterator[None]:
    """Runs of a module's tests draw nothing, which takes longer than all else, and their pages have a title only."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name, _ in DRAWINGS:
            patch.setattr(module, name, lambda *_: [])
        patch.setattr(closing, "run_page", lambda view: Page(view.summary.name, "", []))
        yield


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs of this test draw all the same."""
    for module, name, drawing in DRAWINGS:
        monkeypatch.setattr(module, name, drawing)
