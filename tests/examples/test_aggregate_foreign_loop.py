"""The example for foreign training loops runs, and shows what it is meant to show."""

import re
import runpy
from pathlib import Path

import pytest
import torch

EXAMPLE = Path(__file__).parents[2] / "examples" / "aggregate_foreign_loop.py"


def test_the_mean_collapses_and_the_median_holds(capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    try:
        runpy.run_path(str(EXAMPLE), run_name="__main__")
    finally:
        torch.set_num_threads(threads)
    honest, mean, median = (float(value) for value in re.findall(r"accuracy +([\d.]+)%", capsys.readouterr().out))
    assert honest > 90
    assert mean < 50
    assert median > 85
