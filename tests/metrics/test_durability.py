"""What is left of a backdoor after its attackers are gone: counted by hand."""

from typing import Any

import pytest

from fedsec.metrics.durability import durability


def lines(rates: dict[int, float | None]) -> list[dict[str, Any]]:
    return [{"round": number, "attack_success_rate": rate} for number, rate in rates.items()]


@pytest.mark.parametrize(
    ("rates", "until", "expected"),
    [
        ({1: 0.2, 2: 0.9, 3: 0.8, 4: 0.49, 5: 0.7}, 2, (0.9, 2)),  # the first time counts
        ({1: 0.2, 2: 0.9, 3: 0.8, 4: 0.6}, 2, (0.9, 2)),  # it never fell: as long as it was followed
        ({1: 0.2, 2: 0.4, 3: 0.8}, 2, (0.4, 0)),
        ({1: None, 2: 0.9, 3: None, 4: 0.5, 5: None, 6: 0.1}, 2, (0.9, 4)),  # not every round is evaluated
        ({1: 0.2, 2: 0.9}, 2, None),
        ({1: 0.2, 2: 0.9}, None, None),
        ({1: 0.2, 2: 0.9}, 5, None),
    ],
)
def test_by_hand(rates: dict[int, float | None], until: int | None, expected: tuple[float, int] | None) -> None:
    metrics = durability(lines(rates), until)
    if expected is None:
        assert metrics == {}
    else:
        assert (metrics["attack_success_rate_at_until"], metrics["backdoor_lifespan"]) == expected
    assert durability([{"round": 1}, {"round": 2}, {"round": 3}], 2) == {}
