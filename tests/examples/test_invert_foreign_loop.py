"""The example for foreign training loops runs, and shows what it is meant to show."""

import re
import runpy
from pathlib import Path

import pytest
import torch

EXAMPLE = Path(__file__).parents[2] / "examples" / "invert_foreign_loop.py"


def test_both_photographs_are_recovered(capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    try:
        runpy.run_path(str(EXAMPLE), run_name="__main__")
    finally:
        torch.set_num_threads(threads)
    decoupled, inverting = capsys.readouterr().out.splitlines()
    first, second, gray_first, gray_second = (float(value) for value in re.findall(r"\d+\.\d", decoupled))
    assert min(first - gray_first, second - gray_second) > 8
    assert "labels [3, 8]" in decoupled
    assert inverting.startswith("InvertingGradients PSNR")
