"""The example of a recording runs, and shows what it is meant to show."""

import re
import runpy
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "record_and_replay.py"


def test_those_who_flip_are_found_and_the_median_steps_better(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    for line in lines:
        assert re.findall(r"site-\d", line) in (["site-2", "site-5"], ["site-5", "site-2"])
        mean, median = (float(value) for value in re.findall(r"([\d.]+)%", line))
        assert median > mean
