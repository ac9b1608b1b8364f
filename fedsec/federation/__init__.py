"""The protocol: rounds, what is exchanged in them, and the algorithms."""

from fedsec.federation.algorithms import (
    ALGORITHMS,
    Algorithm,
    Centralized,
    Decentralized,
    Ditto,
    FedAvg,
    FedBN,
    FedDyn,
    FedMA,
    FedNAS,
    FedNova,
    FedOpt,
    FedPer,
    FedProx,
    FedRep,
    FedSeq,
    FedSGD,
    LocalOnly,
    LocalSGD,
    PFedMe,
    Scaffold,
    SlowMo,
    SplitLearning,
    UpdateAlgorithm,
    Vertical,
)
from fedsec.federation.algorithms.local_steps import LocalStepsAlgorithm, StragglingAlgorithm
from fedsec.federation.algorithms.stragglers import Stragglers
from fedsec.federation.algorithms.update_algorithm import Exchange, Participants, State
from fedsec.federation.example_privacy import RunPrivacy, private_run
from fedsec.federation.gossip.graph import Graph
from fedsec.federation.gossip.rounds import GossipFederation
from fedsec.federation.knowledge.fedgkt import Distillation, FedGKT, ServerTraining
from fedsec.federation.knowledge.rounds import KnowledgeFederation
from fedsec.federation.rounds import EdgeCost, RoundLoop, RoundResult
from fedsec.federation.split.rounds import SplitFederation
from fedsec.federation.split.vertical_rounds import VerticalFederation
from fedsec.federation.threat import AttackRounds, Threat
from fedsec.federation.updates import Federation

__all__ = [
    "PFedMe",
    "LocalOnly",
    "FedRep",
    "FedPer",
    "FedBN",
    "Ditto",
    "ALGORITHMS",
    "Algorithm",
    "Centralized",
    "Decentralized",
    "GossipFederation",
    "Graph",
    "Distillation",
    "EdgeCost",
    "Exchange",
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
    "Federation",
    "KnowledgeFederation",
    "LocalSGD",
    "LocalStepsAlgorithm",
    "Participants",
    "RoundLoop",
    "RoundResult",
    "RunPrivacy",
    "Scaffold",
    "SlowMo",
    "SplitFederation",
    "SplitLearning",
    "AttackRounds",
    "ServerTraining",
    "State",
    "Stragglers",
    "StragglingAlgorithm",
    "Threat",
    "UpdateAlgorithm",
    "Vertical",
    "VerticalFederation",
    "private_run",
]
