"""Parts of an audit together: what they remember goes with the rounds that are kept, and never without them."""

import ast
from pathlib import Path
from typing import Any

import pytest

from fedsec.errors import InputError
from fedsec.federation.updates import Federation
from fedsec.runs import provenance
from fedsec.runs.audits.membership import MembershipAudit
from fedsec.scenario import CellConfig, load_scenario
from fedsec.scenario.continuation import extends

CELL: dict[str, Any] = {
    "dataset": {"name": "digits", "train_size": 90, "test_size": 20},
    "partition": {"name": "dirichlet", "alpha": 0.5, "clients": 3, "min_per_client": 8},
    "model": "logistic",
    "federation": {"rounds": 3, "local": {"epochs": 1, "batch_size": 10, "lr": 0.2}},
    "audit": {
        "membership": {"members": 20, "nonmembers": 20, "view": "client", "inferences": ["trajectory"]},
        "properties": {"permutations": 19, "projection": 50},
    },
}


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures take longer than all else."""
    monkeypatch.setattr(MembershipAudit, "_draw", lambda *_: None)


CANARIES: dict[str, Any] = {
    **CELL,
    "partition": {"clients": 3},
    "defense": [{"name": "dp_sgd", "noise_multiplier": 1.0, "delta": 0.01}, "mean"],
    "audit": {"canaries": {"count": 12, "score": ["white_box"]}},
}


@pytest.mark.parametrize("cell", [CELL, CANARIES], ids=["membership and properties", "canaries"])
def test_a_cell_that_begins_anew_forgets_what_its_audit_saw(
    cell: dict[str, Any], audited: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = audited.run(cell, "whole")
    audited.killed(cell, "anew", 1, monkeypatch)

    def refuse(*_: Any) -> None:
        raise InputError("a state of something else")

    monkeypatch.setattr(Federation, "restore", refuse)
    assert audited.run(cell, "anew")["audit"] == whole["audit"]


def test_more_rounds_are_not_added_to_an_audit_that_watched_others() -> None:
    def rounds(number: int, watched: int) -> CellConfig:
        federation = {**CELL["federation"], "rounds": number}
        audit = {"properties": {"rounds": watched}}
        (cell,) = load_scenario({**CELL, "federation": federation, "audit": audit}).cells()
        return cell.config

    assert rounds(4, 3).audit.properties.watched(4) == (1, 2, 4)  # type: ignore[union-attr]
    assert not extends(rounds(9, 3), rounds(4, 3))  # that watches 1, 5 and 9
    assert extends(rounds(9, 10), rounds(4, 10))


def test_a_cell_is_run_again_where_what_its_audit_computes_with_changed() -> None:
    (cell,) = load_scenario(CELL).cells()
    names = provenance.provenance(cell.config, "cpu")
    assert {"fedsec's audits", "fedsec's inversions", "code of inference site", "code of inference trajectory"} <= {
        *names
    }
    imported = {
        node.module
        for path in (Path(provenance.__file__).parent / "audits").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fedsec.")
    }
    hashed = {
        part.removesuffix(".py").replace("/", ".")
        for part in (*provenance._ENGINE, *provenance._INVERSION, *provenance._AUDIT)
    }
    modules = {str(module).removeprefix("fedsec.") for module in imported}
    unhashed = {name for name in modules if not any(f"{name}.".startswith(f"{part}.") for part in hashed)}
    assert unhashed == {"errors", "plugins", "report.evidence.membership_roc", "scenario"}
