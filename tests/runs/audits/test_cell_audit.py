"""How the parts of an audit join a cell: data before, what they see, checkpoints, records."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fedsec.errors import InputError, ScenarioError
from fedsec.runs.audits import cell_audit
from fedsec.runs.audits.cell_audit import CellAudit
from fedsec.runs.audits.part import AuditConclusion, AuditPart
from fedsec.runs.cell import run_cell
from fedsec.runs.tasks import TaskSettings
from fedsec.scenario import load_scenario

CELL = {
    "dataset": {"name": "digits", "train_size": 60, "test_size": 20},
    "partition": {"clients": 3},
    "model": "logistic",
    "federation": {"rounds": 2, "local": {"steps": 1, "batch_size": 4}},
}


class Watching(AuditPart):
    """Holds one example of client 0 out, and counts rounds."""

    name = "properties"
    stop_in: int | None = None

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.rounds = 0

    def shares(self, shares: Any, dataset: Any) -> Any:
        return [shares[0][1:], *shares[1:]]

    def attach(self, experiment: Any, folder: Path) -> None:
        self.sizes = [len(share) for share in experiment.federation.data.clients]
        experiment.federation.row_observers.append(self.see)

    def see(self, round_number: int, clients: Any, rows: Tensor) -> None:
        if self.stop_in == round_number:
            raise KeyboardInterrupt
        self.rounds += 1

    def state(self) -> dict[str, Tensor]:
        return {"rounds": torch.tensor(self.rounds)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.rounds = int(state["rounds"])

    def conclude(self) -> AuditConclusion:
        return AuditConclusion({"rounds": self.rounds, "sizes": self.sizes}, {"loss": 7.0}, ["a note"])


@pytest.fixture
def audited(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(cell_audit.PARTS, "properties", f"{__name__}:Watching")
    monkeypatch.setattr(cell_audit, "import_module", lambda name: type("Here", (), {"Watching": Watching}))
    (cell,) = load_scenario({**CELL, "audit": {"properties": {}}}).cells()
    return cell


def run(cell: Any, root: Path) -> dict[str, Any]:
    settings = TaskSettings(root=root, device="cpu", threads=1)
    return run_cell(cell.config, cell.axes, settings, lambda *_: None)


def test_a_part_changes_data_watches_and_reports(audited: Any, tmp_path: Path) -> None:
    record = run(audited, tmp_path)
    assert record["audit"] == {"properties": {"rounds": 2, "sizes": [19, 20, 20], "notes": ["a note"]}}
    assert record["metrics"]["loss"] == 7.0


def test_what_a_part_saw_survives_an_interruption(
    audited: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Watching, "stop_in", 2)
        patch.setattr("fedsec.runs.cell.CHECKPOINT_SHARE", 0)
        with pytest.raises(KeyboardInterrupt):
            run(audited, tmp_path)
    assert run(audited, tmp_path)["audit"]["properties"]["rounds"] == 2


def test_without_an_audit_nothing_has_changed() -> None:
    (cell,) = load_scenario(CELL).cells()
    assert cell.config.audit is None
    assert CellAudit.of(cell.config) is None
    (other,) = load_scenario({**CELL, "audit": {"properties": {}}}).cells()
    assert cell.id != other.id


def test_an_audit_of_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ScenarioError, match="audit: audits nothing; expected at least one of canaries, membership"):
        load_scenario({**CELL, "audit": {}})
    with pytest.raises(ScenarioError, match="audit: looks at updates, and fedgkt exchanges none"):
        load_scenario(
            {"dataset": "digits", "model": "cnn", "federation": {"algorithm": "fedgkt"}, "audit": {"properties": {}}}
        )
    monkeypatch.setattr(cell_audit, "PARTS", {})
    (cell,) = load_scenario({**CELL, "audit": {"properties": {}}}).cells()
    with pytest.raises(InputError, match=r"audit\.properties: nothing carries it out"):
        CellAudit.of(cell.config)
