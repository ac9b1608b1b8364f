"""Scenario files: read, checked, and unfolded into cells."""

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
from fedsec.scenario.federation_config import (
    AugmentationConfig,
    DistillationConfig,
    LocalConfig,
    ServerConfig,
    StragglersConfig,
)
from fedsec.scenario.inversion_config import KnowledgeConfig, TargetConfig
from fedsec.scenario.scenario import Cell, Scenario, load_scenario

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
