"""What README and docs show works: scenarios load, commands are commands, Python runs or at least finds its names."""

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.main import get_command
from typer.testing import CliRunner

from fedsec.cli import app
from fedsec.scenario import load_scenario
from fedsec.scenario.scenario import KEYS

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "benchmarks/README.md", *ROOT.glob("docs/**/*.md")]
)
QUICK = ("list", "data", "schema")


def fenced(language: str) -> Iterator[Any]:
    for page in PAGES:
        for number, block in enumerate(re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S)):
            yield pytest.param(block, id=f"{page.name}-{number}")


def indented() -> Iterator[tuple[Path, str]]:
    """The blocks that are indented by four spaces."""
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
        for block in re.findall(r"(?:^    .*\n)+", text, re.M):
            yield page, "\n".join(line[4:] for line in block.splitlines())


def scenarios() -> Iterator[Any]:
    yield from fenced("yaml")
    for number, (page, block) in enumerate(indented()):
        try:
            content = yaml.safe_load(block)
        except yaml.YAMLError:
            continue
        if isinstance(content, dict) and content.keys() <= set(KEYS):
            yield pytest.param(block, id=f"{page.name}-indented-{number}")


@pytest.mark.parametrize("block", list(scenarios()))
def test_scenarios_load(block: str, tmp_path: Path) -> None:
    path = tmp_path / "shown.yaml"
    path.write_text(block if re.search(r"^dataset:", block, re.M) else f"dataset: digits\n{block}")
    assert load_scenario(path).cells()


def commands() -> Iterator[Any]:
    seen = set()
    for page, block in indented():
        for line in block.replace("\\\n", " ").splitlines():
            if "fedsec " not in line or not line.startswith(("uv ", "pip ", "fedsec ")):
                continue
            words = shlex.split(line, comments=True)
            if "fedsec" in words[1 if words[0] == "uv" else 0 :] and tuple(words) not in seen:
                seen.add(tuple(words))
                start = words.index("fedsec", 2 if words[0] == "pip" else 0) + 1
                yield pytest.param(words[start:], id=f"{page.name}: {line[:60]}")


@cache
def has_cells(scenario: str, *overrides: str) -> bool:
    """Whether a scenario that comes with fedsec resolves, by whatever way it is named."""
    return bool(load_scenario(scenario, overrides).cells())


def shown_scenarios() -> set[str]:
    """Scenarios that pages show in whole or let `fedsec init` write; other tests load these."""
    named = r"^name: (\w+)$|^    fedsec init (\w+)$"
    return {match[1] or match[2] for page in PAGES for match in re.finditer(named, page.read_text(), re.M)}


@pytest.mark.parametrize("words", list(commands()))
def test_commands_are_commands(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    words = words[: words.index(">")] if ">" in words else words
    if words[0] in QUICK and "fetch" not in words and "--dataset" not in words:
        assert CliRunner().invoke(app, words).exit_code == 0
        return
    group: Any = get_command(app)
    with group.make_context("fedsec", words[:1], resilient_parsing=True) as context:
        name, command, rest = group.resolve_command(context, list(words))
        parsed = command.make_context(name, rest, parent=context)
    if words[0] == "run":
        scenario = Path(parsed.params["scenario"])
        if scenario.exists() or scenario.suffix != ".yaml":
            assert has_cells(scenario.stem, *parsed.params["overrides"] or [])
        else:
            assert scenario.stem in shown_scenarios()


@pytest.mark.parametrize("block", list(fenced("python")))
def test_python_finds_what_it_names(block: str) -> None:
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fedsec"):
            module = importlib.import_module(str(node.module))
            assert all(hasattr(module, alias.name) for alias in node.names)


_ALONE = [
    param
    for param in fenced("python")
    if "torch.randn" in str(param.values[0]) or "state_dict()" in str(param.values[0])
]


@pytest.mark.parametrize("block", [param for param in _ALONE if str(param.id).startswith("README")])
def test_python_that_stands_alone_runs(block: str, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    exec(compile(block.replace("1_000_000", "1_000"), "README.md", "exec"), names)
    shown = capsys.readouterr().out
    if "shape" in block:
        assert "torch.Size([1000])" in shown
    elif "worst_case" in block:
        assert names["worst"].damage > names["worst"].honest_damage
    else:
        assert torch.allclose(names["state"]["0.weight"], names["received"][0]["0.weight"])
