"""Federated algorithms, one a file, and their table."""

from fedsec.federation.algorithms.algorithm import Algorithm
from fedsec.federation.algorithms.asynchronous.asynchronous import Asynchronous
from fedsec.federation.algorithms.centralized import Centralized
from fedsec.federation.algorithms.fedavg import FedAvg
from fedsec.federation.algorithms.feddyn import FedDyn
from fedsec.federation.algorithms.fednova import FedNova
from fedsec.federation.algorithms.fedopt import FedOpt
from fedsec.federation.algorithms.fedprox import FedProx
from fedsec.federation.algorithms.fedsgd import FedSGD
from fedsec.federation.algorithms.local_sgd import LocalSGD
from fedsec.federation.algorithms.matched.fedma import FedMA
from fedsec.federation.algorithms.personal.ditto import Ditto
from fedsec.federation.algorithms.personal.fedbn import FedBN
from fedsec.federation.algorithms.personal.fedper import FedPer
from fedsec.federation.algorithms.personal.fedrep import FedRep
from fedsec.federation.algorithms.personal.local_only import LocalOnly
from fedsec.federation.algorithms.personal.pfedme import PFedMe
from fedsec.federation.algorithms.scaffold import Scaffold
from fedsec.federation.algorithms.search.fednas import FedNAS
from fedsec.federation.algorithms.sequential.fedseq import FedSeq
from fedsec.federation.algorithms.slowmo import SlowMo
from fedsec.federation.algorithms.update_algorithm import UpdateAlgorithm
from fedsec.federation.gossip.decentralized import Decentralized
from fedsec.federation.knowledge.fedgkt import FedGKT
from fedsec.federation.split.split_learning import SplitLearning
from fedsec.federation.split.vertical import Vertical

__all__ = [
    "PFedMe",
    "LocalOnly",
    "FedRep",
    "FedPer",
    "FedBN",
    "Ditto",
    "ALGORITHMS",
    "Algorithm",
    "Asynchronous",
    "Centralized",
    "Decentralized",
    "FedAvg",
    "FedDyn",
    "FedGKT",
    "FedMA",
    "FedNAS",
    "FedNova",
    "FedOpt",
    "FedProx",
    "FedSGD",
    "FedSeq",
    "LocalSGD",
    "Scaffold",
    "SlowMo",
    "SplitLearning",
    "UpdateAlgorithm",
    "Vertical",
]

ALGORITHMS: dict[str, type[Algorithm]] = {
    "fedavg": FedAvg,
    "fedprox": FedProx,
    "fedopt": FedOpt,
    "fednova": FedNova,
    "fedsgd": FedSGD,
    "scaffold": Scaffold,
    "feddyn": FedDyn,
    "local_sgd": LocalSGD,
    "slowmo": SlowMo,
    "fedper": FedPer,
    "fedrep": FedRep,
    "fedbn": FedBN,
    "ditto": Ditto,
    "pfedme": PFedMe,
    "local_only": LocalOnly,
    "fedma": FedMA,
    "fedseq": FedSeq,
    "fednas": FedNAS,
    "async": Asynchronous,
    "centralized": Centralized,
    "fedgkt": FedGKT,
    "split_learning": SplitLearning,
    "vertical": Vertical,
    "decentralized": Decentralized,
}
