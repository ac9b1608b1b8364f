"""From a configuration and its data to a federation: one kind of federation a file, and their table."""

from collections.abc import Callable
from typing import Any

from fedsec.errors import InputError
from fedsec.federation.algorithms.algorithm import Algorithm
from fedsec.federation.algorithms.update_algorithm import UpdateAlgorithm
from fedsec.federation.gossip.decentralized import Decentralized
from fedsec.federation.knowledge.fedgkt import FedGKT
from fedsec.federation.rounds import RoundLoop
from fedsec.federation.split.split_learning import SplitLearning
from fedsec.federation.split.vertical import Vertical
from fedsec.runs.building.activations import split_federation, vertical_federation
from fedsec.runs.building.knowledge import knowledge_federation
from fedsec.runs.building.models import gossip_federation
from fedsec.runs.building.parts import Parts, Placement, build_part
from fedsec.runs.building.updates import update_federation

__all__ = ["BUILDERS", "Parts", "Placement", "build_federation", "build_part"]

BUILDERS: dict[type[Algorithm], Callable[[Parts, Any, Placement], RoundLoop]] = {
    UpdateAlgorithm: update_federation,
    FedGKT: knowledge_federation,
    SplitLearning: split_federation,
    Vertical: vertical_federation,
    Decentralized: gossip_federation,
}
"""Kind of algorithm -> what plays its rounds."""


def build_federation(parts: Parts, algorithm: Algorithm, placement: Placement) -> RoundLoop:
    """The federation that plays an algorithm.

    Args:
        parts: what it is made of.
        algorithm: with its settings.
        placement: where rows are trained and lie.

    Raises:
        InputError: nothing plays this kind of algorithm, or settings that contradict each other.
    """
    for kind, build in BUILDERS.items():
        if isinstance(algorithm, kind):
            return build(parts, algorithm, placement)
    kinds, name = " or ".join(kind.__name__ for kind in BUILDERS), parts.config.federation.algorithm
    raise InputError(
        f"federation.algorithm: {name} exchanges {algorithm.exchanges} in a way of its own "
        f"that no federation plays; expected a subclass of {kinds}"
    )
