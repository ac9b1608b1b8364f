"""What a federation without a server must not be combined with."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fedsec.defense import Aggregator, Pipeline, PrivateAggregator
from fedsec.threat import UpdatePoisoning

if TYPE_CHECKING:
    from fedsec.federation.guards import Problem, RunDescription

__all__ = ["NOTHING_TO_COMPARE", "neighbors_can_exchange", "trusts_oneself"]

NOTHING_TO_COMPARE = (
    "clients that exchange at random times average two models, their own and one other, by which no rule can tell who "
    "is Byzantine; expected mean"
)


def neighbors_can_exchange(run: "RunDescription") -> "Iterator[Problem]":
    """All that needs a server, or one round's clients among many."""
    if run.algorithm.exchanges != "models":
        return
    yield from _of_clients(run)
    yield from _of_the_rule(run)
    yield from _of_the_attack(run)


def _of_clients(run: "RunDescription") -> "Iterator[Problem]":
    if run.cohort < run.clients:
        yield (
            "federation.clients_per_round",
            f"with {run.name} all clients exchange models in every round; expected all {run.clients}, or no such key",
        )
    looking = [*run.transforms, *([] if run.inspector is None else [run.inspector])]
    if looking:
        yield (
            "defense",
            f"{type(looking[0]).__name__} is for what clients send to a server or receive from it, and clients of "
            f"{run.name} send whole models to each other; expected a rule for what each receives",
        )
    if run.private:
        yield (
            "defense",
            f"DP-SGD with {run.name}: neighbors see a client's model in every round, and no account of that is kept "
            "here; expected no private training",
        )


def _of_the_rule(run: "RunDescription") -> "Iterator[Problem]":
    rule = run.rule.rule if isinstance(run.rule, Pipeline) else run.rule
    if rule is None:
        return
    name = type(rule).__name__
    if isinstance(rule, PrivateAggregator):
        yield "defense", f"{name} hides clients in what a server releases, and {run.name} has none; expected a rule"
        return
    needed = [what for what, needs in _needs(rule).items() if needs]
    if needed:
        yield "defense", f"{name} looks at {needed[0]}, and {run.name} has no server; expected another rule"


def _needs(rule: Aggregator) -> dict[str, bool]:
    """What of a server's a rule cannot do without."""
    return {
        "the global model": rule.needs_global_model,
        "what a server trains on data of its own": rule.needs_server_update and not trusts_oneself(rule),
        "what clients tell a server of their losses": rule.needs_losses,
    }


def trusts_oneself(rule: Aggregator) -> bool:
    """Whether a rule looks for what is near to something trusted, which among neighbors is one's own model."""
    final = rule.rule if isinstance(rule, Pipeline) else rule
    return final.needs_server_update and bool(getattr(final, "trusts_nearness", False))


def _of_the_attack(run: "RunDescription") -> "Iterator[Problem]":
    if run.claimed_examples != 1:
        yield "attack.claimed_examples", f"nobody of {run.name} is weighed by a number of examples; expected none"
    attack = run.attack
    if not isinstance(attack, UpdatePoisoning):
        return
    name = type(attack).__name__
    if attack.trains:
        yield "attack", f"{name} trains from what a server sent, and {run.name} has none; expected another attack"
    elif attack.knows_defense and getattr(run.algorithm, "pairwise", None) is not None:
        yield "attack", f"{name} tries a rule, and clients that exchange in pairs have none; expected another attack"
    elif attack.needs_last_aggregate:
        yield "attack", f"{name} looks at a server's last step, and {run.name} has none; expected another attack"
    elif type(attack).state is not UpdatePoisoning.state:
        yield (
            "attack",
            f"{name} remembers one row of each attacker from round to round, and with {run.name} it forges another for "
            "each neighbor; expected an attack that remembers nothing",
        )
