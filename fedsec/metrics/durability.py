"""What is left of a backdoor after its attackers are gone."""

from collections.abc import Mapping, Sequence
from typing import Any

SUCCESS = "attack_success_rate"
_ALIVE = 0.5
"""A backdoor that works on fewer images than this is gone; Neurotoxin's paper (arXiv:2206.10341) counts so."""


def durability(history: Sequence[Mapping[str, Any]], until: int | None) -> dict[str, float | int]:
    """How well a backdoor worked when its attackers left, and for how many rounds it then survived.

    Args:
        history: the rounds in order, as `rounds.jsonl` has them.
        until: the last round with attackers; None where they stay.

    Returns:
        `attack_success_rate_at_until`, after that round, and `backdoor_lifespan`: how many rounds later the success
        rate was below one half for the first time, as far as rounds were evaluated; where it never was, how many rounds
        it was followed. Nothing where attackers stay to the end, or bring no test.
    """
    rates = {line["round"]: line[SUCCESS] for line in history if line.get(SUCCESS) is not None}
    if until is None or until not in rates or max(rates) <= until:
        return {}
    later = sorted(number for number in rates if number >= until)
    end = next((number for number in later if rates[number] < _ALIVE), later[-1])
    return {f"{SUCCESS}_at_until": rates[until], "backdoor_lifespan": end - until}
