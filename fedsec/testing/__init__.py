"""Checks that any attack or defense can be put through, ours and yours.

    from fedsec.testing import check_aggregator

    def test_my_rule_keeps_the_contract():
        check_aggregator(MyRule(), num_byzantine=4)

Each check raises an `AssertionError` that says what was expected. The checks cover what every class
must do; whether a rule computes the right thing is for tests of its own.
"""

from fedsec.testing.conformance import (
    check_aggregator,
    check_data_poisoning,
    check_inversion,
    check_update_poisoning,
)
from fedsec.testing.knowledge import check_feature_inversion, check_knowledge_defense, check_knowledge_poisoning
from fedsec.testing.pre_aggregation import check_pre_aggregator
from fedsec.testing.privacy import check_local_defense, check_private_aggregator
from fedsec.testing.updates import check_update_transform

__all__ = [
    "check_aggregator",
    "check_data_poisoning",
    "check_feature_inversion",
    "check_inversion",
    "check_knowledge_defense",
    "check_knowledge_poisoning",
    "check_local_defense",
    "check_pre_aggregator",
    "check_private_aggregator",
    "check_update_poisoning",
    "check_update_transform",
]
