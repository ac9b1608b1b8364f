"""Interface of rules that ask another one, and what that one must be."""

import copy
from abc import abstractmethod
from typing import ClassVar, Self, final

from fedsec.defense.aggregation import Aggregator
from fedsec.defense.gram import GramRule, PreAggregator
from fedsec.defense.pipeline import Pipeline
from fedsec.defense.private_aggregation import PrivateAggregator
from fedsec.errors import InputError

__all__ = ["RuleWrapper"]


class RuleWrapper(GramRule):
    """A rule that weighs the rows by what another rule makes of them; a subclass fills in `max_rejected` and `weights`.

    The other one is given to the constructor, or by `around`: in a scenario's list of defenses it is the rule that
    follows.

    Args:
        rule: the other rule; None until `around` gives one.

    Raises:
        InputError: the rule cannot be asked about a part of the parameters.
    """

    role: ClassVar[str] = "wrapper"
    reads_products = False

    def __init__(self, rule: Aggregator | None = None) -> None:
        self._rule = rule
        if rule is None:
            return
        name, inner = type(self).__name__, type(rule).__name__
        if isinstance(rule, PrivateAggregator):
            raise InputError(f"{name}: {inner} accounts for each of its own results; expected a rule without noise")
        if isinstance(rule, Pipeline) and rule.transforms:
            raise InputError(f"{name}: {inner} transforms whole updates; expected a rule of the server's alone")
        stages: list[Aggregator | PreAggregator] = [rule]
        if isinstance(rule, Pipeline):
            stages = [*rule.pre_aggregators, rule.rule]
        for stage in stages:
            if _remembers(stage):
                raise InputError(
                    f"{name}: {type(stage).__name__} remembers whole updates; expected a rule without memory"
                )
        if rule.needs_shapes or rule.needs_global_model:
            raise InputError(f"{name}: {inner} needs whole updates; expected a rule that is content with some columns")
        self.draws, self.needs_server_update = self._draws or rule.draws, rule.needs_server_update
        self.needs_losses = rule.needs_losses

    @property
    @abstractmethod
    def _draws(self) -> bool:
        """Whether it draws random numbers itself."""

    @property
    def rule(self) -> Aggregator:
        """The other rule.

        Raises:
            InputError: there is none.
        """
        if self._rule is None:
            name = type(self).__name__
            raise InputError(f"{name}: asks another rule; expected {name}(Median(), ...), or a rule after it in a list")
        return self._rule

    @final
    def around(self, rule: Aggregator) -> Self:
        """The same with another rule.

        Raises:
            InputError: the rule cannot be asked about a part of the parameters.
        """
        wrapped = copy.copy(self)
        RuleWrapper.__init__(wrapped, rule)
        return wrapped


def _remembers(stage: Aggregator | PreAggregator) -> bool:
    if isinstance(stage, PreAggregator):
        return type(stage).state is not PreAggregator.state
    return type(stage).remember is not Aggregator.remember or type(stage).state is not Aggregator.state
