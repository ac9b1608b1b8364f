"""The rounds that a part of an audit looks at: as scenarios write them, and of a federation."""

from typing import Annotated, Any

from pydantic import BeforeValidator

from fedsec.plugins.wording import shown, wrong
from fedsec.scenario.named_sections import Count


def _increasing(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        return value
    if not value or not all(type(one) is int for one in value) or len(set(value)) < len(value):
        raise wrong(((), f"expected a number, or a list of rounds, each of them once, got {shown(value)}"))
    return tuple(sorted(value))


ObservedRounds = Annotated[Count | tuple[Count, ...], BeforeValidator(_increasing)]
"""A list of rounds, or every so many and the last."""


def observed_of(asked: int | tuple[int, ...], rounds: int) -> tuple[int, ...]:
    """The rounds that are observed, in ascending order.

    Args:
        asked: as a scenario has it.
        rounds: of the federation.
    """
    if isinstance(asked, tuple):
        return tuple(one for one in asked if one <= rounds)
    return tuple(sorted({*range(asked, rounds + 1, asked), rounds}))
