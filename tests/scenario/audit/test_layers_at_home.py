"""Audits that ask whole models are refused where some layers never leave the clients."""

from typing import Any

import pytest

from fedsec.errors import ScenarioError
from fedsec.scenario import load_scenario

PERSONAL = {"dataset": "digits", "partition": {"clients": 40}, "model": "mlp"}


@pytest.mark.parametrize(
    "audit",
    [{"membership": {"inferences": ["loss_threshold"]}}, {"canaries": {"count": 20}}],
    ids=lambda one: next(iter(one)),
)
def test_nobody_has_a_whole_model(audit: dict[str, Any]) -> None:
    (part,) = audit
    with pytest.raises(ScenarioError, match=rf"audit\.{part}: asks a whole model, and with fedper some layers stay"):
        load_scenario({**PERSONAL, "audit": audit, "federation": {"algorithm": "fedper", "rounds": 3}})
    assert load_scenario({**PERSONAL, "audit": audit, "federation": {"algorithm": "ditto", "rounds": 3}})


def test_updates_of_the_shared_part_can_be_asked() -> None:
    federation = {"algorithm": "fedper", "rounds": 3}
    assert load_scenario({**PERSONAL, "audit": {"properties": {}}, "federation": federation})


def test_fedbn_keeps_statistics_with_the_clients_unless_that_is_contradicted() -> None:
    cell = {"dataset": "digits", "model": {"name": "resnet4", "norm": "bn"}}
    (kept,) = load_scenario({**cell, "federation": {"algorithm": "fedbn"}}).cells()
    assert kept.config.federation.bn == "local"
    (plain,) = load_scenario({**cell, "federation": {"algorithm": "fedper"}}).cells()
    assert plain.config.federation.bn == "average"
