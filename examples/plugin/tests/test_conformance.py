"""What fedsec's kit asks of a rule and of an attack."""

import pytest
from fedsec_medoid.attack import Drift
from fedsec_medoid.rule import Medoid

from fedsec.errors import InputError
from fedsec.testing import check_aggregator, check_update_poisoning, examine_rule


def test_the_rule_keeps_its_contract() -> None:
    check_aggregator(Medoid(), num_clients=11, num_byzantine=5)


def test_the_rule_breaks_no_property_of_robust_rules() -> None:
    assert not examine_rule(lambda num_byzantine: Medoid(), num_clients=11, num_byzantine=5)


def test_the_attack_keeps_its_contract() -> None:
    check_update_poisoning(Drift())
    check_update_poisoning(Drift(share=3.0))


def test_a_share_that_moves_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="share must be positive"):
        Drift(0.0)
