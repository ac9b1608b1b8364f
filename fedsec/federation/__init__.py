"""The federation engine: data on the device, local training of cohorts, the round loop, the algorithms."""

from fedsec.federation.algorithm import Algorithm
from fedsec.federation.batches import BatchPlan, LocalTraining
from fedsec.federation.centralized import Centralized
from fedsec.federation.fedavg import FedAvg
from fedsec.federation.fedsgd import FedSGD
from fedsec.federation.local import CohortTrainer
from fedsec.federation.parameters import ParameterLayout
from fedsec.federation.resident import ResidentData
from fedsec.federation.server import Federation, RoundResult, Threat

__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "BatchPlan",
    "Centralized",
    "CohortTrainer",
    "FedAvg",
    "FedSGD",
    "Federation",
    "LocalTraining",
    "ParameterLayout",
    "ResidentData",
    "RoundResult",
    "Threat",
]

ALGORITHMS: dict[str, type[Algorithm]] = {
    "fedavg": FedAvg,
    "fedsgd": FedSGD,
    "centralized": Centralized,
}
