"""The Python of quickstart and tutorials runs from top to bottom, and shows what the pages say that it shows."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import fedsec
from fedsec.scenario import load_scenario

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a page's blocks one after another, in an empty folder; gives its names and what it printed."""
    monkeypatch.chdir(tmp_path)

    def of(page: str) -> tuple[dict[str, Any], list[str]]:
        blocks = re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), re.M | re.S)
        assert blocks
        names: dict[str, Any] = {"__name__": "__main__"}
        for block in blocks:
            exec(compile(block, page, "exec"), names)
        return names, capsys.readouterr().out.splitlines()

    threads = torch.get_num_threads()
    yield of
    torch.set_num_threads(threads)


def test_the_quickstart_in_python(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not played: tests of runs and the notebook that reads one do that."""

    def planned(scenario: str, *, overrides: list[str], workers: int) -> int:
        return len(load_scenario(scenario, overrides).cells())

    monkeypatch.setattr(fedsec, "run", planned)
    names, _ = run("start/quickstart.md")
    assert names["result"] == 6


def test_a_long_sign_flip_turns_the_mean_around(run: Any) -> None:
    _, (short, long) = run("tutorials/first_attack.md")
    assert all(float(value) > 0 for value in re.findall(r"-?\d+\.\d+", short.partition("(")[2]))
    assert all(float(value) < 0 for value in re.findall(r"-?\d+\.\d+", long.partition("(")[2]))


def test_the_worst_case_of_two_rules(run: Any) -> None:
    _, lines = run("tutorials/first_defense.md")
    for line in lines:
        damage, honest = map(float, line.split()[2:])
        assert damage > honest


def test_ones_own_model_gives_its_images_away_unless_it_is_treated_fairly(run: Any) -> None:
    _, lines = run("tutorials/own_model.md")
    assert lines[0].startswith("Both images are recognizable")
    assert float(lines[1].split()[-2]) > 40 > 10 > float(lines[1].split()[-1])
    assert len(lines) == 4
    assert all("Neither image is recovered" in line for line in lines[2:])


def test_texts_are_read_off_a_gradient(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (DOCS / "inversion.md").read_text(), re.M | re.S)
    (block,) = (block for block in blocks if "invert_texts" in block)
    exec(compile(block, "inversion.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    for pair in map(ast.literal_eval, lines[:2]):
        assert pair[0] == pair[1]
    assert float(lines[2].split()[0]) == 1
    assert "Both texts are recovered exactly" in lines[2]


def test_ones_own_loop_is_defended_and_looked_back_at(run: Any) -> None:
    _, lines = run("tutorials/own_loop.md")
    honest, attacked = ([float(value) for value in line.split()[-2:]] for line in lines[:2])
    assert min(honest) > 0.7
    assert attacked[0] < 0.3
    assert attacked[1] > 0.7
    assert lines[-1] == "site-4"
