"""Interfaces that a defense implements, and what rules of the server are made of."""

from fedsec.defense.aggregation import Aggregate, Aggregator, Cohort, CoordinateRule
from fedsec.defense.knowledge import KnowledgeDefense
from fedsec.defense.local import LocalDefense
from fedsec.defense.order_statistics import Scratch, compiled_middle_mean, middle_mean, middle_share, weighted_sum
from fedsec.defense.private_aggregation import PrivateAggregator
from fedsec.defense.updates import ClientSide, UpdateTransform

__all__ = [
    "Aggregate",
    "Aggregator",
    "ClientSide",
    "Cohort",
    "CoordinateRule",
    "KnowledgeDefense",
    "LocalDefense",
    "PrivateAggregator",
    "Scratch",
    "UpdateTransform",
    "compiled_middle_mean",
    "middle_mean",
    "middle_share",
    "weighted_sum",
]
