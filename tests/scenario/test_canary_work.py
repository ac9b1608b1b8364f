"""The gradients that an audit by canaries computes count among a cell's work."""

from typing import Any

from fedsec.scenario import load_scenario
from fedsec.scenario.plan import plan

CELL: dict[str, Any] = {
    "dataset": {"name": "digits", "train_size": 1000},
    "partition": {"clients": 10},
    "federation": {"rounds": 3, "clients_per_round": 5, "local": {"steps": 2, "batch_size": 20}},
}


def audited(**canaries: Any) -> float:
    work = plan(load_scenario({**CELL, "audit": {"canaries": canaries}}))
    assert work.total is not None
    return work.total - 5 * 3 * 2 * 20


def test_the_gradients_of_an_audit_count() -> None:
    assert audited(client="all") == 3 * 0.5 * 10 * 100
    assert audited(client=[1, 4]) == 3 * 0.5 * 2 * 100
    assert audited(score="loss") == 0  # of the final model, once
    assert audited(unit="client", count=10, norm=1.0) == 0
