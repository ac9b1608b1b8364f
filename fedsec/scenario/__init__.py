"""Scenario files: read, checked, and unfolded into cells."""

from fedsec.scenario.config import (
    AttackConfig,
    CellConfig,
    DatasetConfig,
    DefenseConfig,
    EngineConfig,
    FederationConfig,
    LocalConfig,
    ModelConfig,
    PartitionConfig,
)
from fedsec.scenario.expectations import METRICS, Expectation
from fedsec.scenario.scenario import Cell, Scenario, load_scenario

__all__ = [
    "METRICS",
    "AttackConfig",
    "Cell",
    "CellConfig",
    "DatasetConfig",
    "DefenseConfig",
    "EngineConfig",
    "Expectation",
    "FederationConfig",
    "LocalConfig",
    "ModelConfig",
    "PartitionConfig",
    "Scenario",
    "load_scenario",
]
