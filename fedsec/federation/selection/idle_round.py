"""Rounds in which nobody takes part, for lack of budget or trust or by chance."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fedsec.defense import PrivateAggregator
from fedsec.federation.algorithms.update_algorithm import Exchange
from fedsec.federation.rounds import RoundResult, without

if TYPE_CHECKING:
    from fedsec.federation.updates import Federation


def idle_round(
    federation: "Federation", sampled: Sequence[int], heard: Sequence[int], refused: Mapping[int, str] | None
) -> RoundResult:
    """Play one: the model stays as it is, but for noise, where that nobody took part is nobody's business.

    Args:
        federation: whose round it is.
        sampled: clients that were drawn for it.
        heard: those of them that would have been heard.
        refused: those that would not train, and why; None where nobody looks at what it receives.
    """
    federation.round += 1
    if isinstance(federation.aggregator, PrivateAggregator) and federation.releases is not None:
        drawn = federation.rules.generator(federation.round)
        assert drawn is not None
        federation.releases.spend()
        nobody = Exchange((), None, 1.0, federation.shares(()))
        noise = {"update": federation.aggregator.nobody(federation.parameters, drawn)}
        algorithm = federation.algorithm.in_round(federation.round)
        federation.algorithm_state = algorithm.apply(federation.algorithm_state, nobody, noise)
        federation.load(federation.statistics)
    evaluation = federation.evaluate() if federation.evaluated(federation.round) else None
    return RoundResult(
        round=federation.round,
        clients=(),
        byzantine=(),
        rejected=(),
        influence=(),
        **federation.measured(evaluation),
        dropped=tuple(without(sampled, heard)),
        spent=tuple(without(heard, refused or ())),
        refused=refused,
        time=federation.algorithm.time(federation.round),
        **federation.spent(),
    )
