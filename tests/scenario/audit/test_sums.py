"""Audits that look at single updates are refused where the server sees sums only."""

from typing import Any

import pytest

from fedsec.errors import ScenarioError
from fedsec.scenario import load_scenario


@pytest.mark.parametrize(
    ("audit", "why"),
    [
        ({"properties": {}}, r"audit\.properties: asks of single updates, and under federation\.secure_aggregation"),
        (
            {"canaries": {"count": 20, "score": ["white_box"]}},
            r"audit\.canaries\.score: under secure_aggregation nobody sees the update of a single client",
        ),
    ],
)
def test_single_updates_are_not_to_be_had(audit: dict[str, Any], why: str) -> None:
    federation: dict[str, Any] = {"rounds": 3, "secure_aggregation": {"clients": 4}}
    cell = {"dataset": "digits", "partition": {"clients": 40}, "model": "logistic", "audit": audit}
    with pytest.raises(ScenarioError, match=why):
        load_scenario({**cell, "federation": federation})
