from typing import Any

import numpy as np
import pytest

from fedsec.auditing import check_canaries
from fedsec.auditing.canaries import check_distinct, smallest_count
from fedsec.errors import InputError

HALF = [True, False] * 20


def test_lists_become_arrays() -> None:
    scores, included = check_canaries([1, 2, 3], [0, 1, 1])
    assert scores.dtype == np.float64
    assert included.tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("scores", "included", "message"),
    [
        ([], [], "none"),
        (["high", "low"], [True, False], "must be numbers"),
        ([1, 2], [True], "one length"),
        ([[1, 2]], [[True, False]], "one length"),
        ([1.0, 2.0], [0, 2], "true or false"),
        ([1.0, 2.0], [[True], [True, False]], "list of true and false, one a canary"),
        ([1.0] * 39 + [np.nan], HALF, "canary 39 is nan"),
        ([np.inf, *range(39)], HALF, "canary 0 is inf"),
        (list(range(40)), [True] * 40, "40 of 40 canaries were included"),
        (list(range(200)), [True] * 30 + [False] * 170, "30 of 200"),
    ],
)
def test_what_no_audit_can_use_is_refused(scores: list[float], included: list[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_canaries(scores, included)


def test_canaries_that_are_there_twice_are_refused() -> None:
    check_distinct([3, 1, 2])
    with pytest.raises(InputError, match="7 comes 3 times"):
        check_distinct([7, 1, 7, 7])
    with pytest.raises(InputError, match="1 more"):
        check_distinct([7, 1, 7, 1])


def test_the_fewest_guesses_are_those_whose_coins_fall_right_rarely_enough() -> None:
    for significance in (0.5, 0.05, 0.01, 1e-4):
        count = smallest_count(significance)
        assert 0.5**count <= significance
        assert 0.5 ** (count - 1) >= significance
