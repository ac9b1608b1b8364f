"""From a cell's list of defenses to the one rule by which its server aggregates."""

from collections.abc import Sequence

from fedsec.defense import Aggregator, Pipeline, PreAggregator, RuleWrapper
from fedsec.errors import InputError


def server_rule(defenses: Sequence[object]) -> Aggregator:
    """The server's part: pre-aggregators, where there are any, and one rule, perhaps within others that ask it.

    Args:
        defenses: of clients and server, built.

    Raises:
        InputError: no rule, several, or one that nothing may come before.
    """
    wrappers = [defense for defense in defenses if isinstance(defense, RuleWrapper)]
    rules = [defense for defense in defenses if isinstance(defense, Aggregator) and defense not in wrappers]
    pre_aggregators = [defense for defense in defenses if isinstance(defense, PreAggregator)]
    if len(rules) != 1:
        names = [type(defense).__name__ for defense in defenses]
        raise InputError(f"defense: exactly one aggregation rule is needed, got {', '.join(names)}")
    (rule,) = rules
    for wrapper in reversed(wrappers):
        rule = wrapper.around(rule)
    return Pipeline([*pre_aggregators, rule]).server
