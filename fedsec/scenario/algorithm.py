"""From a configuration's federation to the algorithm that it names, and to how clients are summed."""

from collections.abc import Callable
from typing import Any

from fedsec.data.augmentation import Augmentation
from fedsec.engine.local_training import LocalTraining
from fedsec.engine.optimizers import RateSchedule
from fedsec.federation.algorithms.algorithm import Algorithm
from fedsec.federation.algorithms.sequential.grouping import Grouping
from fedsec.federation.algorithms.stragglers import Stragglers
from fedsec.federation.gossip.exchanges import Exchanges
from fedsec.federation.gossip.graph import Graph
from fedsec.federation.knowledge.fedgkt import Distillation, ServerTraining
from fedsec.federation.secure_aggregation import SecureAggregation
from fedsec.federation.secure_sums.dropouts import Dropouts
from fedsec.federation.secure_sums.pairwise_masks import PairwiseMasks
from fedsec.federation.secure_sums.protocol import SumProtocol
from fedsec.federation.secure_sums.row_sums import RowSums
from fedsec.federation.secure_sums.turbo_aggregate import TurboAggregate
from fedsec.plugins import registry
from fedsec.scenario.federation_config import FederationConfig, ServerConfig
from fedsec.scenario.training.local_config import LocalConfig
from fedsec.scenario.training.schedule_config import ScheduleConfig


def make_algorithm(config: FederationConfig) -> Algorithm:
    """The algorithm of a federation, its options as the scenario has them.

    Raises:
        InputError: an option that the algorithm cannot have.
    """
    sections = {name: (getattr(config, name), build) for name, build in _SECTIONS.items()}
    built = {name: build(section) for name, (section, build) in sections.items() if section is not None}
    algorithm: Algorithm = registry.load("algorithm", config.algorithm)(**config.options, **built)
    return algorithm


def make_secure_aggregation(config: FederationConfig) -> SecureAggregation | None:
    """Of which clients the server sees sums, and by which protocol; None where it sees each client's update.

    Raises:
        InputError: an option that the protocol cannot have.
    """
    section = config.secure_aggregation
    if section is None:
        return None
    if section.protocol is None:
        return SecureAggregation(section.clients)
    protocol: SumProtocol
    if section.protocol == "pairwise_masks":
        assert section.bits is not None
        assert section.threshold is not None
        protocol = PairwiseMasks(section.bits, section.threshold, section.neighbors)
    else:
        protocol = TurboAggregate(section.group_size)
    leaving = {} if section.dropouts is None else section.dropouts.model_dump()
    dropouts = Dropouts(**{name: tuple(who) if isinstance(who, list) else who for name, who in leaving.items()})
    assert section.clip is not None
    return SecureAggregation(section.clients, RowSums(protocol, section.clip, section.fraction_bits, dropouts))


def _local(config: LocalConfig) -> LocalTraining:
    options = config.model_dump(exclude={"augmentation", "schedule"})
    augmentation = None if config.augmentation is None else Augmentation(**config.augmentation.model_dump())
    return LocalTraining(**options, augmentation=augmentation, schedule=_schedule(config.schedule))


def _schedule(config: ScheduleConfig | None) -> RateSchedule | None:
    return None if config is None else RateSchedule(**config.model_dump())


def _server(config: ServerConfig) -> ServerTraining:
    training = config.model_dump(exclude={"model"})
    if isinstance(config.epochs, list):
        training["epochs"] = tuple(config.epochs)
    return ServerTraining(**training)


_SECTIONS: dict[str, Callable[[Any], Any]] = {
    "local": _local,
    "server_schedule": _schedule,
    "stragglers": lambda config: Stragglers(**config.model_dump()),
    "server": _server,
    "distillation": lambda config: Distillation(**config.model_dump()),
    "graph": lambda config: Graph(**config.options),
    "pairwise": lambda config: Exchanges(**config.model_dump()),
    "grouping": lambda config: Grouping(**config.options),
}
"""Section of a federation -> how the object that a constructor takes is made of it."""
