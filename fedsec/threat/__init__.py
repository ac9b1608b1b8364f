"""Interfaces of attacks: what an attacker may see, and what it may change.

`DataPoisoning` and `UpdatePoisoning` are what a Byzantine client does; `Inversion` is what a curious server does.
"""

from fedsec.threat.inversion import Inversion, Snapshot
from fedsec.threat.observation import LocalTraining, Observation, PixelScale, Reconstruction
from fedsec.threat.poisoning import AttackerView, DataPoisoning, UpdatePoisoning

__all__ = [
    "AttackerView",
    "DataPoisoning",
    "Inversion",
    "LocalTraining",
    "Observation",
    "PixelScale",
    "Reconstruction",
    "Snapshot",
    "UpdatePoisoning",
]
