"""Scenario files: read, checked, and unfolded into cells.

Importing this package is cheap: pydantic is loaded with the first name that needs it, so that a shell completes the
names of scenarios at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedsec.scenario.config import (
        AttackConfig,
        CellConfig,
        DatasetConfig,
        DefenseConfig,
        EngineConfig,
        FederationConfig,
        InversionConfig,
        ModelConfig,
        PartitionConfig,
    )
    from fedsec.scenario.expectations import Expectation
    from fedsec.scenario.federation_config import DistillationConfig, ServerConfig
    from fedsec.scenario.inversion_config import KnowledgeConfig, TargetConfig
    from fedsec.scenario.participation.stragglers_config import StragglersConfig
    from fedsec.scenario.scenario import Cell, Scenario, load_scenario
    from fedsec.scenario.training.local_config import AugmentationConfig, LocalConfig

__all__ = [
    "AttackConfig",
    "AugmentationConfig",
    "Cell",
    "CellConfig",
    "DatasetConfig",
    "DefenseConfig",
    "DistillationConfig",
    "EngineConfig",
    "Expectation",
    "FederationConfig",
    "InversionConfig",
    "KnowledgeConfig",
    "LocalConfig",
    "ModelConfig",
    "PartitionConfig",
    "Scenario",
    "ServerConfig",
    "StragglersConfig",
    "TargetConfig",
    "load_scenario",
]

_HOMES = {
    "fedsec.scenario.config": (
        "AttackConfig",
        "CellConfig",
        "DatasetConfig",
        "DefenseConfig",
        "EngineConfig",
        "FederationConfig",
        "InversionConfig",
        "ModelConfig",
        "PartitionConfig",
    ),
    "fedsec.scenario.expectations": ("Expectation",),
    "fedsec.scenario.training.local_config": ("AugmentationConfig", "LocalConfig"),
    "fedsec.scenario.federation_config": ("DistillationConfig", "ServerConfig"),
    "fedsec.scenario.participation.stragglers_config": ("StragglersConfig",),
    "fedsec.scenario.inversion_config": (
        "KnowledgeConfig",
        "TargetConfig",
    ),
    "fedsec.scenario.scenario": (
        "Cell",
        "Scenario",
        "load_scenario",
    ),
}
"""Module -> what it has of these names."""

if not TYPE_CHECKING:  # a type checker is to know the names, not to take any name for one

    def __getattr__(name: str) -> Any:
        """Load a name when it is first used."""
        for module, names in _HOMES.items():
            if name in names:
                return getattr(import_module(module), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
