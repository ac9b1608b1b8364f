"""The rounds of a cell, from its folder."""

import json
from pathlib import Path
from typing import Any

__all__ = ["round_lines"]


def round_lines(folder: Path) -> list[dict[str, Any]]:
    """The finished rounds of a cell as its `rounds.jsonl` has them, without lines that cannot be read.

    Args:
        folder: the cell's.

    Returns:
        Each with a `round`, a whole number; none where there is no such file, or it is no text.
    """
    try:
        texts = (folder / "rounds.jsonl").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
    lines = []
    for text in texts:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and type(line.get("round")) is int:
            lines.append(line)
    return lines
