"""What is taken for a rule: objects, lists, names; and what is said of anything else."""

from typing import Any

import pytest

from fedsec.defense import as_rule
from fedsec.defenses import NNM, DpSgd, Median, MultiKrum, Pipeline, Sign
from fedsec.errors import InputError


def test_objects_lists_and_names() -> None:
    rule = Median()
    assert as_rule(rule) is rule
    assert isinstance(as_rule("median"), Median)
    assert isinstance(as_rule("geometric_median"), type(as_rule("geometric_median")))
    mixed = as_rule(["sign", NNM(1), "median"])
    assert isinstance(mixed, Pipeline)
    assert [type(mixed.rule), *map(type, mixed.pre_aggregators), *map(type, mixed.transforms)] == [Median, NNM, Sign]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("multi_krum", r"multi_krum needs num_byzantine; expected an object, fedsec.defenses.MultiKrum\(num_byz"),
        ("mediann", "did you mean 'median'"),
        ("sign_flip", "expected it under `attack`"),
        ("sign", "expected transforms"),
        (
            "gas",
            r"gas needs rule, num_byzantine; expected an object, fedsec.defenses.GAS\(rule=..., num_byzantine=...\)",
        ),
        (Median, r"Median is a class; expected an object of it, such as Median\(...\)"),
        (NNM(1), "NNM alone combines no updates; expected a list that ends in a rule"),
        ([MultiKrum(1), NNM(1)], "expected transforms of updates, then pre-aggregators"),
        ([DpSgd(1.0), Median()], "DpSgd changes neither"),
        (3, "expected a rule, a list of defenses or a name, not int"),
        (None, "not NoneType"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else type(value).__name__,
)
def test_what_is_no_rule_is_told(given: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        as_rule(given)
