"""Test examples that clients hold out of their shares."""

import numpy as np
import pytest

from fedsec.errors import InputError
from fedsec.federation.personal.held_out import hold_out
from fedsec.seeds import Streams

SHARES = [np.arange(0, 10), np.arange(10, 13), np.array([20]), np.arange(30, 40)]


def test_every_share_is_divided_and_single_examples_stay() -> None:
    trained, tested = hold_out(SHARES, 0.25, Streams(0))
    assert [len(test) for test in tested] == [2, 1, 0, 2]
    for share, train, test in zip(SHARES, trained, tested, strict=True):
        assert np.sort(np.concatenate([train, test])).tolist() == share.tolist()
        assert train.tolist() == sorted(train)
    assert (tested[0] - 0).tolist() != (tested[3] - 30).tolist()  # each client draws for itself


def test_more_of_the_same_is_held_out_by_a_larger_fraction_and_nobody_is_left_without_training() -> None:
    few, many = (hold_out(SHARES, fraction, Streams(5))[1] for fraction in (0.2, 0.99))
    for less, more in zip(few, many, strict=True):
        assert {*less.tolist()} <= {*more.tolist()}
    assert [len(train) for train in hold_out(SHARES, 0.99, Streams(5))[0]] == [1, 1, 1, 1]


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_a_fraction_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(InputError, match="fraction must lie in"):
        hold_out(SHARES, fraction, Streams(0))
