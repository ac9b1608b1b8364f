"""What is taken for a rule where a whole round is aggregated by one call: an object, a list of defenses, or a name."""

from collections.abc import Sequence
from typing import Any

from fedsec.defense.aggregation import Aggregator
from fedsec.defense.gram import PreAggregator
from fedsec.defense.pipeline import Pipeline
from fedsec.defense.updates import UpdateTransform
from fedsec.errors import InputError

__all__ = ["RuleLike", "as_rule"]

RuleLike = Aggregator | Sequence[Any] | str
"""A rule; a list of defenses, which becomes a `Pipeline`; or the name of a rule that needs no options."""


def as_rule(given: RuleLike) -> Aggregator:
    """The rule that is meant.

    A name makes a new object at every call. Rules that remember rounds, as `centered_clipping` does, are to be made
    once and given as objects.

    Args:
        given: a rule, a list of defenses in the order of a `Pipeline`, or a name of `fedsec list defenses`; names may
            stand in the list, too.

    Raises:
        InputError: an unknown name, one of a defense with options that have no default, or what is no rule.
    """
    if isinstance(given, Aggregator):
        return given
    if isinstance(given, str):
        named = _named(given)
        return named if isinstance(named, Aggregator) else Pipeline([named])
    if isinstance(given, list | tuple):
        return Pipeline([_named(member) if isinstance(member, str) else member for member in given])
    if isinstance(given, type) and issubclass(given, Aggregator | PreAggregator | UpdateTransform):
        raise InputError(f"rule: {given.__name__} is a class; expected an object of it, such as {given.__name__}(...)")
    if isinstance(given, PreAggregator | UpdateTransform):
        name = type(given).__name__
        raise InputError(f"rule: {name} alone combines no updates; expected a list that ends in a rule")
    raise InputError(f"rule: expected a rule, a list of defenses or a name, not {type(given).__name__}")


def _named(name: str) -> Any:
    """An object of a defense that needs no options."""
    from fedsec.plugins import registry  # reads the sources of all defenses

    entry = registry.entry("defense", name)
    cls = registry.load("defense", name)
    required = [parameter.name for parameter in entry.parameters if parameter.default is registry.REQUIRED]
    if entry.interface == "RuleWrapper":  # of which the engine fills in the other rule
        required.insert(0, "rule")
    if required:
        raise InputError(
            f"rule: {name} needs {', '.join(required)}; expected an object, fedsec.defenses.{cls.__name__}"
            f"({', '.join(f'{option}=...' for option in required)})"
        )
    return cls()
