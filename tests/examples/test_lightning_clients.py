"""The example with Lightning runs quietly, and shows what it is meant to show."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "lightning_clients.py"


@pytest.mark.skipif(find_spec("lightning") is None, reason="Lightning is not installed: pip install lightning")
def test_the_mean_collapses_and_the_median_holds(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, str(EXAMPLE)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=250
    )
    assert run.returncode == 0, run.stderr
    mean, median = (float(value) for value in re.findall(r"accuracy +([\d.]+)%", run.stdout))
    assert mean < 50
    assert median > 80
    assert len(run.stdout.splitlines()) == 2
    assert not run.stderr
    assert not list(tmp_path.iterdir())
