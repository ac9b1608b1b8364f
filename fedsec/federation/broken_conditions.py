"""Rounds with too few clients for the server's rule, by sampling or for lack of privacy budget."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

from fedsec.defense import Aggregator, PreAggregator
from fedsec.errors import InputError

BrokenCondition = Literal["stop", "skip", "relax"]
"""What happens in a round that has too few clients for the rule: the run stops; the model stays as it is; or the rule
withstands the largest number of Byzantine clients that it can with so many."""
_DECLARED = ("num_byzantine", "num_trimmed_per_side")
"""Attributes of rules that say how many Byzantine clients they withstand."""


def withstands(rule: Aggregator, num_clients: int) -> int | None:
    """How many Byzantine clients of so many a rule withstands; None where it cannot work with so many at all."""
    try:
        return rule.max_rejected(num_clients)
    except InputError:
        return None


@contextmanager
def relaxed(rule: Aggregator, num_clients: int) -> Iterator[None]:
    """For a while a rule withstands the largest number of Byzantine clients that so many clients allow.

    Args:
        rule: its pre-aggregators, and the rules that it wraps, are lowered along with it.
        num_clients: fewer than its condition asks for.

    Raises:
        InputError: it cannot work with them whatever the number.
    """
    stages = [(stage, name, getattr(stage, name)) for stage, name in _stages(rule)]
    try:
        for allowed in range(min(num_clients, max((number for *_, number in stages), default=0)) - 1, -1, -1):
            for stage, name, number in stages:
                setattr(stage, name, min(number, allowed))
            with suppress(InputError):
                rule.max_rejected(num_clients)
                break
        else:
            rule.max_rejected(num_clients)
        yield
    finally:
        for stage, name, number in stages:
            setattr(stage, name, number)


def _stages(rule: object) -> Iterator[tuple[object, str]]:
    """A rule, and the rules and pre-aggregators that it consists of, as far as they say whom they withstand."""
    yield from ((rule, name) for name in _DECLARED if type(getattr(rule, name, None)) is int)
    for value in vars(rule).values():
        for part in value if isinstance(value, list | tuple) else (value,):
            if isinstance(part, Aggregator | PreAggregator):
                yield from _stages(part)
