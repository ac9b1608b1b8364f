"""Federated algorithms, one a file, and their table."""

from fedsec.federation.algorithms.algorithm import Algorithm
from fedsec.federation.algorithms.centralized import Centralized
from fedsec.federation.algorithms.fedavg import FedAvg
from fedsec.federation.algorithms.fedprox import FedProx
from fedsec.federation.algorithms.fedsgd import FedSGD
from fedsec.federation.algorithms.update_algorithm import UpdateAlgorithm
from fedsec.federation.knowledge.fedgkt import FedGKT

__all__ = ["ALGORITHMS", "Algorithm", "Centralized", "FedAvg", "FedGKT", "FedProx", "FedSGD", "UpdateAlgorithm"]

ALGORITHMS: dict[str, type[Algorithm]] = {
    "fedavg": FedAvg,
    "fedprox": FedProx,
    "fedsgd": FedSGD,
    "centralized": Centralized,
    "fedgkt": FedGKT,
}
