"""Interfaces of attacks: what an attacker may see, and what it may change.

`DataPoisoning`, `UpdatePoisoning` and `KnowledgePoisoning` are what a Byzantine client does; `Inversion` and
`FeatureInversion` are what a curious server does.
"""

from fedsec.threat.distortion import Distortion
from fedsec.threat.features import FeatureInversion, FeatureObservation
from fedsec.threat.inversion import Inversion, Snapshot
from fedsec.threat.knowledge import Knowledge, KnowledgePoisoning
from fedsec.threat.observation import LocalTraining, Observation, PixelScale, Reconstruction
from fedsec.threat.poisoning import AttackerView, DataPoisoning, UpdatePoisoning

__all__ = [
    "AttackerView",
    "DataPoisoning",
    "Distortion",
    "FeatureInversion",
    "FeatureObservation",
    "Inversion",
    "Knowledge",
    "KnowledgePoisoning",
    "LocalTraining",
    "Observation",
    "PixelScale",
    "Reconstruction",
    "Snapshot",
    "UpdatePoisoning",
]
