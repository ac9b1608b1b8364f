"""User-level privacy of a Flower run, where the rule hides whole nodes."""

from fedsec.defense import Aggregator, Pipeline, PrivateAggregator
from fedsec.errors import InputError
from fedsec.privacy import Epsilon, Ledger

__all__ = ["NodeReleases"]


class NodeReleases:
    """The account of a private rule: one for all nodes, since each round costs all of them the same.

    Flower draws a fixed number of nodes a round, and not each one independently of the others, so only rounds that ask
    all nodes can be accounted for.

    Args:
        rule: with `prepare` called, by whoever knows how many nodes and rounds there will be.
        num_nodes: that are asked in a round.

    Raises:
        InputError: the rule is not prepared, or prepared for a sample of the nodes.
    """

    def __init__(self, rule: PrivateAggregator, num_nodes: int) -> None:
        name = type(rule).__name__
        if rule.round_cost is None:
            raise InputError(
                f"RobustStrategy: {name} does not know the run, without which no epsilon holds; expected "
                "rule.prepare(num_clients=..., sample_rate=1.0, rounds=...) before the first round"
            )
        if rule.round_cost.sample_rate < 1:
            raise InputError(
                f"RobustStrategy: {name} was prepared for nodes that are drawn independently of each other, and Flower "
                "draws a fixed number of them; expected fraction_train=1.0 and prepare(..., sample_rate=1.0)"
            )
        self._cost = rule.round_cost
        self._ledger = Ledger(1, rule.delta_of(num_nodes), rule.accountant)
        self.rounds = 0

    def spend(self, rounds: int = 1) -> None:
        """Charge rounds."""
        self._ledger.spend(0, self._cost.sample_rate, self._cost.noise_multiplier, rounds * self._cost.steps)
        self.rounds += rounds

    def epsilon(self) -> Epsilon:
        """What every node has spent so far."""
        return self._ledger.maximum()


def private_rule(rule: Aggregator) -> PrivateAggregator | None:
    """The rule, if it hides whole nodes.

    Raises:
        InputError: it does within a pipeline, where nobody would keep its account.
    """
    if isinstance(rule, Pipeline) and isinstance(rule.rule, PrivateAggregator):
        raise InputError(
            f"RobustStrategy: nobody would keep {type(rule.rule).__name__}'s account within a pipeline; expected it "
            "alone as aggregator, and transform_mod on the nodes for what comes before"
        )
    return rule if isinstance(rule, PrivateAggregator) else None
