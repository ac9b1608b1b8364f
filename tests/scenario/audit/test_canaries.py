"""The section of canaries: what is malformed is answered in words."""

from typing import Any

import pytest

from fedsec.errors import ScenarioError
from fedsec.scenario import load_scenario


@pytest.mark.parametrize("unit", [["example"], {}, 3, "sample"])
def test_a_unit_that_is_none_is_named(unit: Any) -> None:
    with pytest.raises(ScenarioError, match=r"audit\.canaries\.unit: expected .*example"):
        load_scenario({"dataset": "digits", "audit": {"canaries": {"unit": unit}}})
