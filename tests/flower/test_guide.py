"""The page on Flower: its Python runs."""

import re
from pathlib import Path

import pytest

pytest.importorskip("flwr", reason="Flower is not installed: pip install 'fedsec[flower]'")

PAGE = Path(__file__).parents[2] / "docs" / "flower.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)


@pytest.mark.parametrize("block", BLOCKS)
def test_what_the_page_shows_runs(block: str) -> None:
    exec(compile(block, str(PAGE), "exec"), {})
