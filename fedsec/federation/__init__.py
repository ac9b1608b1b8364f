"""The federation engine: data on the device, local training of cohorts, the round loop, the algorithms."""

from fedsec.federation.algorithm import Algorithm
from fedsec.federation.batches import BatchPlan, LocalTraining, Noise
from fedsec.federation.centralized import Centralized
from fedsec.federation.exchange import LocalResult, Start, Teacher
from fedsec.federation.fedavg import FedAvg
from fedsec.federation.fedgkt import FedGKT, ServerTraining
from fedsec.federation.fedprox import FedProx
from fedsec.federation.fedsgd import FedSGD
from fedsec.federation.knowledge import KnowledgeFederation
from fedsec.federation.local import CohortTrainer
from fedsec.federation.parameters import ParameterLayout, StatisticsLayout
from fedsec.federation.resident import ResidentData
from fedsec.federation.rounds import EdgeCost, RoundLoop, RoundResult, Threat
from fedsec.federation.server import Federation
from fedsec.federation.spending import RunPrivacy, private_run
from fedsec.federation.stragglers import Stragglers

__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "BatchPlan",
    "Centralized",
    "CohortTrainer",
    "EdgeCost",
    "FedAvg",
    "FedGKT",
    "FedProx",
    "FedSGD",
    "Federation",
    "KnowledgeFederation",
    "LocalResult",
    "LocalTraining",
    "Noise",
    "ParameterLayout",
    "ResidentData",
    "RoundLoop",
    "RoundResult",
    "RunPrivacy",
    "ServerTraining",
    "Start",
    "StatisticsLayout",
    "Stragglers",
    "Teacher",
    "Threat",
    "private_run",
]

ALGORITHMS: dict[str, type[Algorithm] | type[FedGKT]] = {
    "fedavg": FedAvg,
    "fedprox": FedProx,
    "fedsgd": FedSGD,
    "centralized": Centralized,
    "fedgkt": FedGKT,
}
