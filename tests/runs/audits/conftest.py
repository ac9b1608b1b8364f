"""Small audited cells."""

import copy
from pathlib import Path
from typing import Any

import pytest

from fedsec.runs.cell import run_cell
from fedsec.runs.tasks import TaskSettings
from fedsec.scenario import load_scenario

EXAMPLES: dict[str, Any] = {
    "dataset": {"name": "digits", "train_size": 240, "test_size": 20},
    "partition": {"clients": 2},
    "model": "logistic",
    "federation": {"rounds": 3, "local": {"steps": 1, "batch_fraction": 1.0, "lr": 0.5}},
    "defense": {"name": "dp_sgd", "target_epsilon": 1.0, "delta": 1e-5, "max_grad_norm": 0.1},
    "audit": {"canaries": {"count": 100}},
}
CLIENTS: dict[str, Any] = {
    "dataset": {"name": "digits", "train_size": 60, "test_size": 20},
    "partition": {"clients": 20},
    "model": "logistic",
    "federation": {"rounds": 3, "sampling": "poisson", "local": {"steps": 1, "batch_size": 3, "lr": 0.5}},
    "defense": {"name": "dp_fedavg", "target_epsilon": 1.0, "delta": 1e-5, "clip_norm": 0.1},
    "audit": {"canaries": {"unit": "client", "count": 100}},
}


class Audited:
    """Cells with canaries, and how to run them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @staticmethod
    def cell(base: dict[str, Any], **changes: Any) -> Any:
        """A base's only cell, other values by key path with double underscores."""
        content = copy.deepcopy(base)
        for path, value in changes.items():
            *sections, key = path.split("__")
            place = content
            for section in sections:
                place = place.setdefault(section, {})
            place[key] = value
        (cell,) = load_scenario(content).cells()
        return cell

    def run(self, base: dict[str, Any], folder: str = "", **changes: Any) -> dict[str, Any]:
        """Its record."""
        cell = self.cell(base, **changes)
        settings = TaskSettings(root=self.folder / folder, device="cpu", threads=1)
        return run_cell(cell.config, cell.axes, settings, lambda *_: None)

    def killed(self, base: dict[str, Any], folder: str, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """Run it until so many rounds are done and kept."""
        cell = self.cell(base)
        settings = TaskSettings(root=self.folder / folder, device="cpu", threads=1)

        def stop(number: int, *_: Any) -> None:
            if number == after + 1:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("fedsec.runs.cell.CHECKPOINT_SHARE", 0)
            with pytest.raises(KeyboardInterrupt):
                run_cell(cell.config, cell.axes, settings, stop)


@pytest.fixture
def audited(tmp_path: Path) -> Audited:
    """Cells with canaries, and how to run them."""
    return Audited(tmp_path)


@pytest.fixture
def examples() -> dict[str, Any]:
    """A scenario whose canaries are examples, under DP-SGD."""
    return EXAMPLES


@pytest.fixture
def clients() -> dict[str, Any]:
    """A scenario whose canaries are clients, under dp_fedavg."""
    return CLIENTS
