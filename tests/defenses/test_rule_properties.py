"""What every robust rule is expected to keep, on each rule, but for what its own formula breaks."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from torch import Tensor

from fedsec.defenses import CGE, DEFENSES, CenteredClipping, GeometricMedian, Krum, MoNNA, MultiKrum, NormBound
from fedsec.testing import KNOWN_VALUES, check_known_values, examine_rule

Rule = Callable[[Tensor], Tensor]

ABOUT_ZERO: set[str] = {"translation", "near_duplicates"}
"""Rules that compare lengths measure from zero."""

A_RADIUS: set[str] = {"scale", "range", "equal_rows", "one_client"}
"""A step of a given length is a step in the updates' unit, and may end before it is there."""


@pytest.mark.parametrize(
    ("make", "broken"),
    [
        (Krum, set()),
        (MultiKrum, set()),
        (lambda num_byzantine: GeometricMedian(), set()),
        (CGE, ABOUT_ZERO),
        (lambda num_byzantine: MoNNA(num_byzantine, trusted=9), {"permutation"}),
        (lambda num_byzantine: NormBound("median"), {"translation"}),
        (lambda num_byzantine: CenteredClipping(1.0), ABOUT_ZERO | A_RADIUS),
    ],
    ids=["krum", "multi_krum", "geometric_median", "cge", "monna", "norm_bound", "centered_clipping"],
)
def test_properties_of_rules(make: Callable[[int], Rule], broken: set[str]) -> None:
    findings = examine_rule(make)
    assert {finding.name for finding in findings} == broken, [finding.message for finding in findings]


def ours(name: str, num_byzantine: int, **options: Any) -> Rule:
    """Our rule of that name, whatever it calls the number of Byzantine clients, if it asks for one."""
    if name == "trimmed_mean":
        return DEFENSES[name](num_trimmed_per_side=num_byzantine, **options)
    if name == "centered_clipping":
        options = {"radius": 1.0, **options}
    asked = "num_byzantine" in inspect.signature(DEFENSES[name]).parameters
    return DEFENSES[name](**({"num_byzantine": num_byzantine} if asked else {}), **options)


@pytest.mark.parametrize("name", sorted({case.rule for case in KNOWN_VALUES} & {*DEFENSES}))
def test_our_rules_have_the_known_values(name: str) -> None:
    check_known_values(name, partial(ours, name))
