"""Checks that any attack or defense can be put through, ours and yours.

    from fedsec.testing import check_aggregator

    def test_my_rule_keeps_the_contract():
        check_aggregator(MyRule(), num_byzantine=4)

`check_attack` and `check_defense` choose the check by what a class inherits from. Each check raises an `AssertionError`
that says what was expected. They cover what every class must do; `KNOWN_VALUES` and `check_known_values` say what the
rules of the literature make of small inputs, `KNOWN_ROWS` and `check_known_rows` what its attacks send. `examine_rule`
tries a rule of any origin, a function from rows to a vector, and lists all that it breaks.
"""

from fedsec.testing.conformance import check_aggregator, check_inversion
from fedsec.testing.cuts import (
    check_activation_defense,
    check_activation_poisoning,
    check_hijacking_server,
    check_label_inference,
)
from fedsec.testing.inspection import check_model_inspector
from fedsec.testing.kinds import check_attack, check_defense
from fedsec.testing.knowledge import check_feature_inversion, check_knowledge_defense, check_knowledge_poisoning
from fedsec.testing.known_rows import KNOWN_ROWS, KnownRow, check_known_rows, crafting
from fedsec.testing.known_values import KNOWN_VALUES, KnownValue, check_known_values
from fedsec.testing.membership import check_membership_inference
from fedsec.testing.poisoning import check_data_poisoning, check_update_poisoning
from fedsec.testing.pre_aggregation import check_pre_aggregator
from fedsec.testing.privacy import check_local_defense, check_private_aggregator
from fedsec.testing.properties import check_property_inference
from fedsec.testing.rule_properties import PROPERTIES, Finding, examine_rule
from fedsec.testing.updates import check_update_transform

__all__ = [
    "KNOWN_ROWS",
    "KNOWN_VALUES",
    "PROPERTIES",
    "Finding",
    "KnownRow",
    "KnownValue",
    "check_activation_defense",
    "check_activation_poisoning",
    "check_aggregator",
    "check_attack",
    "check_data_poisoning",
    "check_defense",
    "check_feature_inversion",
    "check_inversion",
    "check_knowledge_defense",
    "check_knowledge_poisoning",
    "check_known_rows",
    "check_known_values",
    "check_hijacking_server",
    "check_label_inference",
    "check_local_defense",
    "check_membership_inference",
    "check_model_inspector",
    "check_pre_aggregator",
    "check_private_aggregator",
    "check_property_inference",
    "check_update_poisoning",
    "check_update_transform",
    "crafting",
    "examine_rule",
]
