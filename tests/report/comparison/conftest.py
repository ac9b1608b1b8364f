"""Two small runs in folders: the other is 0.2 better under attack, whatever hostile names are in both."""

import json
from pathlib import Path
from typing import Any

import pytest

HOSTILE = "<script>alert(1)</script> & $x_"


@pytest.fixture
def two_runs(tmp_path: Path) -> tuple[Path, Path]:
    """The folders of the two runs."""
    folders = []
    for name, shift in (("before", 0.0), ("after", 0.2)):
        root = tmp_path / name
        records: list[dict[str, Any]] = []
        for attack in ("none", HOSTILE):
            for seed in range(4 if name == "after" else 3):
                values = [0.5 + seed / 50, 0.6 + seed / 50 + (shift + seed / 100 if shift and attack != "none" else 0)]
                record: dict[str, Any] = {
                    "id": f"{len(records):012x}",
                    "cell": {"attack": attack, "seed": str(seed)},
                    "status": "done",
                    "metrics": {"accuracy": values[-1], "accuracy_min_last5": values[0], "loss": 1.0},
                    "error": None,
                    "seconds": 1.0,
                }
                records.append(record)
                folder = root / record["id"]
                folder.mkdir(parents=True)
                lines = [json.dumps({"round": number, "accuracy": value}) for number, value in enumerate(values, 1)]
                (folder / "rounds.jsonl").write_text("\n".join(lines) + "\n")
        (root / "results.json").write_text(json.dumps(records))
        folders.append(root)
    return folders[0], folders[1]
