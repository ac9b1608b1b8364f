"""What every robust rule is expected to keep, on each of ours, but for what its own formula breaks."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from fedsec.defense import Aggregator, PreAggregator
from fedsec.defenses import DEFENSES
from fedsec.testing import KNOWN_VALUES, check_known_values, examine_rule

ABOUT_ZERO = {"translation", "near_duplicates"}
"""Rules that compare lengths, angles or signs measure from zero."""

COORDINATES = {"rotation"}
"""Rules that look at coordinates one by one see others after a rotation."""

A_LENGTH = {"scale", "range", "equal_rows", "one_client"}
"""A result or a step of a given length, in the updates' unit or the server's, is no multiple of them, and no row."""

MEANS = {"breakdown"}
"""What takes a mean where it suspects nobody can be led anywhere; sometimes that is in its first round only."""

OPTIONS: dict[str, dict[str, Any]] = {
    "centered_clipping": {"radius": 1.0},
    "monna": {"trusted": 9},
    "norm_bound": {"bound": "median"},
    "rlr": {"threshold": 4},
}

# Rules that cluster with scikit-learn take seconds for what takes others a tenth, and are left to their own tests.
BROKEN: dict[str, set[str]] = {
    "mean": MEANS,
    "median": COORDINATES,
    "trimmed_mean": COORDINATES,
    "meamed": COORDINATES,
    "sign_majority": ABOUT_ZERO | COORDINATES | A_LENGTH,
    "rlr": ABOUT_ZERO | COORDINATES | MEANS | {"ties"},
    "krum": set(),
    "multi_krum": set(),
    "bulyan": COORDINATES,
    "geometric_median": set(),
    "centered_clipping": ABOUT_ZERO | A_LENGTH,
    "mda": set(),
    "smea": set(),
    "caf": set(),
    "dnc": set(),
    "cge": ABOUT_ZERO,
    "monna": {"permutation"},
    "norm_bound": {"translation"},
    "fltrust": ABOUT_ZERO | COORDINATES | A_LENGTH | {"ties"},
    "foolsgold": ABOUT_ZERO | MEANS,
    "fldetector": MEANS,
    "lasa": ABOUT_ZERO | COORDINATES,
}


def ours(name: str, num_byzantine: int, **options: Any) -> Callable[[Tensor], Tensor]:
    """Our rule of that name, with all that it needs, whatever it calls the number of Byzantine clients."""
    options = {**OPTIONS.get(name, {}), **options}
    parameters = inspect.signature(DEFENSES[name]).parameters
    asked = [word for word in ("num_byzantine", "num_trimmed_per_side") if word in parameters][:1]
    rule = DEFENSES[name](**dict.fromkeys(asked, num_byzantine), **options)
    if isinstance(rule, PreAggregator):
        return rule
    assert isinstance(rule, Aggregator)

    def call(updates: Tensor) -> Tensor:
        needs: dict[str, Any] = {"generator": torch.Generator().manual_seed(1)} if rule.draws else {}
        if rule.needs_server_update:
            needs["server_update"] = torch.ones_like(updates[0])
        if rule.needs_shapes:
            needs["shapes"] = {"weight": updates.shape[1:]}
        vector: Tensor = rule(updates, **needs)
        return vector

    return call


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_rules_keep_all_but_what_their_formula_breaks(name: str) -> None:
    findings = examine_rule(partial(ours, name))
    assert {finding.name for finding in findings} == BROKEN[name], [finding.message for finding in findings]


@pytest.mark.parametrize("name", sorted({case.rule for case in KNOWN_VALUES} & {*DEFENSES}))
def test_our_rules_have_the_known_values(name: str) -> None:
    check_known_values(name, partial(ours, name))
