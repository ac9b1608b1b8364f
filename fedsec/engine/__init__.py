"""Trains clients on resident data, one after another or stacked; knows nothing of federations."""

from fedsec.engine.batches import BatchPlan, Noise
from fedsec.engine.correction import Correction
from fedsec.engine.local_training import LocalTraining
from fedsec.engine.messages import LocalResult, Start, Teacher
from fedsec.engine.parameters import ParameterLayout
from fedsec.engine.resident_data import ResidentData
from fedsec.engine.statistics import StatisticsLayout
from fedsec.engine.trainer import CohortTrainer

__all__ = [
    "BatchPlan",
    "CohortTrainer",
    "Correction",
    "LocalResult",
    "LocalTraining",
    "Noise",
    "ParameterLayout",
    "ResidentData",
    "Start",
    "StatisticsLayout",
    "Teacher",
]
