"""The example with lists of arrays runs, and shows what it is meant to show."""

import re
import runpy
from pathlib import Path

import pytest
import torch

EXAMPLE = Path(__file__).parents[2] / "examples" / "aggregate_numpy_lists.py"


def test_the_mean_collapses_and_multi_krum_holds(capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    try:
        runpy.run_path(str(EXAMPLE), run_name="__main__")
    finally:
        torch.set_num_threads(threads)
    mean, krum = (float(value) for value in re.findall(r"accuracy +([\d.]+)%", capsys.readouterr().out))
    assert mean < 30
    assert krum > 80
