"""The example of a private client learns, and spends what it was given."""

import runpy
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "dp_foreign_loop.py"


def test_it_learns_within_its_budget(capsys: pytest.CaptureFixture[str]) -> None:
    main = runpy.run_path(str(EXAMPLE))["main"]
    accuracy, spent = main()
    assert accuracy > 0.8
    assert 2.9 < spent <= 3.0
    assert "epsilon 3.00 at delta 0.0001 by rdp" in capsys.readouterr().out or spent < 2.995
