"""From a configuration's federation to the algorithm that it names."""

from typing import Any

from fedsec.data.augmentation import Augmentation
from fedsec.engine.local_training import LocalTraining
from fedsec.federation.algorithms.algorithm import Algorithm
from fedsec.federation.knowledge.fedgkt import ServerTraining
from fedsec.federation.stragglers import Stragglers
from fedsec.plugins import registry
from fedsec.scenario.federation_config import FederationConfig, LocalConfig, ServerConfig, StragglersConfig


def make_algorithm(config: FederationConfig) -> Algorithm:
    """The algorithm of a federation, its options as the scenario has them.

    Raises:
        InputError: an option that the algorithm cannot have.
    """
    options: dict[str, Any] = {"weighting": config.weighting, "server_lr": config.server_lr, "mu": config.mu}
    options["asynchronous"] = config.asynchronous
    options |= {} if config.distillation is None else config.distillation.model_dump()
    options["local"] = None if config.local is None else _local(config.local)
    options["stragglers"] = None if config.stragglers is None else _stragglers(config.stragglers)
    options["server"] = None if config.server is None else _server(config.server)
    algorithm: Algorithm = registry.load("algorithm", config.algorithm)(
        **{name: option for name, option in options.items() if option is not None}
    )
    return algorithm


def _local(config: LocalConfig) -> LocalTraining:
    options = config.model_dump(exclude={"augmentation"})
    augmentation = None if config.augmentation is None else Augmentation(**config.augmentation.model_dump())
    return LocalTraining(**options, augmentation=augmentation)


def _stragglers(config: StragglersConfig) -> Stragglers:
    return Stragglers(config.fraction, config.handling)


def _server(config: ServerConfig) -> ServerTraining:
    training = config.model_dump(exclude={"model"})
    if isinstance(config.epochs, list):
        training["epochs"] = tuple(config.epochs)
    return ServerTraining(**training)
