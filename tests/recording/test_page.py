"""The page on recordings: its Python runs from top to bottom, in an empty folder."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

PAGE = Path(__file__).parents[2] / "docs" / "recording.md"


def test_its_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S):
        exec(compile(block, PAGE.name, "exec"), names)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    for line in lines[:3]:
        assert re.fullmatch(r"\d site-2 \d+% of the step \('site-2',\) -?[\d.]+", line), line
    assert lines[3].startswith("tensor([3]) ")
    assert float(re.findall(r"[\d.]+(?:e-\d+)?", lines[3])[-1]) < 1e-3
