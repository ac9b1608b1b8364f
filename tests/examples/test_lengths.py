"""An example is short enough to be read at once."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/**/*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_an_example_has_fewer_than_60_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 60
