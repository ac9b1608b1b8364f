"""Interfaces that a defense implements, and what rules of the server are made of."""

from fedsec.defense.activations import ActivationDefense
from fedsec.defense.aggregation import Aggregator
from fedsec.defense.cohort import Aggregate, Cohort, RoundContext, check_majority
from fedsec.defense.coordinate import CoordinateRule
from fedsec.defense.geometry.spectrum import centered_products, top_direction
from fedsec.defense.gram import GramRule, PreAggregator
from fedsec.defense.gram_matrix import Gram
from fedsec.defense.inspection import Inspection, ModelInspector, ReceivedModel
from fedsec.defense.kernels import compiled_middle_mean
from fedsec.defense.knowledge import KnowledgeDefense
from fedsec.defense.local import LocalDefense
from fedsec.defense.order_statistics import Scratch, middle_mean, middle_share, weighted_sum
from fedsec.defense.pipeline import Pipeline
from fedsec.defense.private_aggregation import PrivateAggregator
from fedsec.defense.ranks import near_median_mean, near_median_share
from fedsec.defense.shards import ColumnShards, DiskShards, LocalShards, RowFile, column_blocks, lost_rows
from fedsec.defense.shards.row_stream import RowStream, RowTotal
from fedsec.defense.states.arrays import ArrayAggregate, aggregate_arrays
from fedsec.defense.states.rules import as_rule
from fedsec.defense.states.state_dicts import StateAggregate, aggregate_state_dicts
from fedsec.defense.trial import AggregatorTrial, CallableTrial
from fedsec.defense.updates import ClientSide, UpdateTransform
from fedsec.defense.weighted_total import weighted_total
from fedsec.defense.wrapper import RuleWrapper
from fedsec.threat.state_layout import StateLayout

__all__ = [
    "ActivationDefense",
    "Aggregate",
    "Aggregator",
    "AggregatorTrial",
    "ArrayAggregate",
    "CallableTrial",
    "ClientSide",
    "Cohort",
    "ColumnShards",
    "CoordinateRule",
    "DiskShards",
    "Gram",
    "GramRule",
    "Inspection",
    "KnowledgeDefense",
    "LocalDefense",
    "LocalShards",
    "Pipeline",
    "ModelInspector",
    "PreAggregator",
    "PrivateAggregator",
    "ReceivedModel",
    "RoundContext",
    "RowFile",
    "RowStream",
    "RowTotal",
    "RuleWrapper",
    "Scratch",
    "StateAggregate",
    "StateLayout",
    "UpdateTransform",
    "aggregate_arrays",
    "aggregate_state_dicts",
    "as_rule",
    "centered_products",
    "check_majority",
    "column_blocks",
    "compiled_middle_mean",
    "lost_rows",
    "middle_mean",
    "middle_share",
    "near_median_mean",
    "near_median_share",
    "top_direction",
    "weighted_sum",
    "weighted_total",
]
