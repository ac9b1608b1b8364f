"""The example of a rule's worst case runs, and ranks rules as it is meant to."""

import re
import runpy
from pathlib import Path

import pytest
import torch

EXAMPLE = Path(__file__).parents[2] / "examples" / "worst_case_of_a_rule.py"


def test_the_mean_has_no_bound_and_robust_rules_have(capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    try:
        runpy.run_path(str(EXAMPLE), run_name="__main__")
    finally:
        torch.set_num_threads(threads)
    lines = capsys.readouterr().out.splitlines()
    damages = {line[:22].strip(): float(re.findall(r"[\d.]+$", line)[0]) for line in lines}
    assert len(damages) == 5
    assert damages.pop("Mean") > 50
    assert max(damages.values()) < 2
    assert damages["Median"] < damages["Krum"]
