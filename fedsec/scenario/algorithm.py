"""From a configuration's federation to the algorithm that it names."""

from collections.abc import Callable
from typing import Any

from fedsec.data.augmentation import Augmentation
from fedsec.engine.local_training import LocalTraining
from fedsec.federation.algorithms.algorithm import Algorithm
from fedsec.federation.knowledge.fedgkt import Distillation, ServerTraining
from fedsec.federation.stragglers import Stragglers
from fedsec.plugins import registry
from fedsec.scenario.federation_config import FederationConfig, LocalConfig, ServerConfig


def make_algorithm(config: FederationConfig) -> Algorithm:
    """The algorithm of a federation, its options as the scenario has them.

    Raises:
        InputError: an option that the algorithm cannot have.
    """
    sections = {name: (getattr(config, name), build) for name, build in _SECTIONS.items()}
    built = {name: build(section) for name, (section, build) in sections.items() if section is not None}
    algorithm: Algorithm = registry.load("algorithm", config.algorithm)(**config.options, **built)
    return algorithm


def _local(config: LocalConfig) -> LocalTraining:
    options = config.model_dump(exclude={"augmentation"})
    augmentation = None if config.augmentation is None else Augmentation(**config.augmentation.model_dump())
    return LocalTraining(**options, augmentation=augmentation)


def _server(config: ServerConfig) -> ServerTraining:
    training = config.model_dump(exclude={"model"})
    if isinstance(config.epochs, list):
        training["epochs"] = tuple(config.epochs)
    return ServerTraining(**training)


_SECTIONS: dict[str, Callable[[Any], Any]] = {
    "local": _local,
    "stragglers": lambda config: Stragglers(**config.model_dump()),
    "server": _server,
    "distillation": lambda config: Distillation(**config.model_dump()),
}
"""Section of a federation -> how the object that a constructor takes is made of it."""
