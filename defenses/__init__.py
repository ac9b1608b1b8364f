"""Defenses, one a file; `DEFENSES` maps the name used in scenario files to the class.

`Pipeline` makes one rule of several of them; `aggregate_state_dicts` and `aggregate_arrays` are one call for a round of
anybody's federation.
"""

from fedsec.defense import Pipeline, StateLayout, aggregate_arrays, aggregate_state_dicts
from fedsec.defenses.arc import ARC
from fedsec.defenses.bucketing import Bucketing
from fedsec.defenses.bulyan import Bulyan
from fedsec.defenses.caf import CAF
from fedsec.defenses.centered_clipping import CenteredClipping
from fedsec.defenses.cge import CGE
from fedsec.defenses.clip import ClipUpdate
from fedsec.defenses.clipped_gossip import ClippedGossip
from fedsec.defenses.cut_clip import CutClip
from fedsec.defenses.cut_noise import CutNoise
from fedsec.defenses.distance_correlation import DistanceCorrelation
from fedsec.defenses.distributed_dp import DistributedDp
from fedsec.defenses.dnc import DnC
from fedsec.defenses.dp_fedavg import DpFedAvg
from fedsec.defenses.dp_sgd import DpSgd
from fedsec.defenses.fedgw import FedGW
from fedsec.defenses.flame import FLAME
from fedsec.defenses.fldetector import FLDetector
from fedsec.defenses.fltrust import FLTrust
from fedsec.defenses.foolsgold import FoolsGold
from fedsec.defenses.foundationfl import FoundationFL
from fedsec.defenses.gas import GAS
from fedsec.defenses.gaussian_noise import GaussianNoise
from fedsec.defenses.geometric_median import GeometricMedian
from fedsec.defenses.inspect_model import InspectModel
from fedsec.defenses.knowledge_screening import KnowledgeScreening
from fedsec.defenses.krum import Krum
from fedsec.defenses.lasa import LASA
from fedsec.defenses.local_dp import LocalDp
from fedsec.defenses.marvell import Marvell
from fedsec.defenses.max_norm import MaxNorm
from fedsec.defenses.mda import MDA
from fedsec.defenses.meamed import Meamed
from fedsec.defenses.mean import Mean
from fedsec.defenses.median import Median
from fedsec.defenses.monna import MoNNA
from fedsec.defenses.multi_krum import MultiKrum
from fedsec.defenses.nnm import NNM
from fedsec.defenses.norm_bound import NormBound
from fedsec.defenses.percentile_privacy import PercentilePrivacy
from fedsec.defenses.prune import Prune
from fedsec.defenses.quantize import Quantize
from fedsec.defenses.rflbat import RFLBAT
from fedsec.defenses.rlr import RLR
from fedsec.defenses.robust_loss import RobustLoss
from fedsec.defenses.sign import Sign
from fedsec.defenses.sign_majority import SignMajority
from fedsec.defenses.signguard import SignGuard
from fedsec.defenses.smea import SMEA
from fedsec.defenses.soteria import Soteria
from fedsec.defenses.static_clip import StaticClip
from fedsec.defenses.svt_privacy import SvtPrivacy
from fedsec.defenses.trimmed_mean import TrimmedMean

if __name__ != "fedsec.defenses":
    raise ImportError(f"this package is fedsec.defenses; do not import it as {__name__}")

__all__ = [
    "ARC",
    "CGE",
    "CAF",
    "DEFENSES",
    "GAS",
    "MDA",
    "SMEA",
    "CutClip",
    "CutNoise",
    "DistanceCorrelation",
    "DnC",
    "NNM",
    "RLR",
    "FLTrust",
    "FoolsGold",
    "FedGW",
    "FLAME",
    "SignGuard",
    "FLDetector",
    "RFLBAT",
    "FoundationFL",
    "LASA",
    "Bucketing",
    "Bulyan",
    "CenteredClipping",
    "ClipUpdate",
    "ClippedGossip",
    "DpFedAvg",
    "DpSgd",
    "GaussianNoise",
    "GeometricMedian",
    "InspectModel",
    "KnowledgeScreening",
    "LocalDp",
    "DistributedDp",
    "Meamed",
    "Krum",
    "Marvell",
    "MaxNorm",
    "Mean",
    "Median",
    "MoNNA",
    "MultiKrum",
    "NormBound",
    "PercentilePrivacy",
    "Pipeline",
    "Prune",
    "Quantize",
    "RobustLoss",
    "Sign",
    "SignMajority",
    "Soteria",
    "StateLayout",
    "StaticClip",
    "SvtPrivacy",
    "TrimmedMean",
    "aggregate_arrays",
    "aggregate_state_dicts",
]

DEFENSES = {
    "mean": Mean,
    "median": Median,
    "trimmed_mean": TrimmedMean,
    "krum": Krum,
    "multi_krum": MultiKrum,
    "mda": MDA,
    "smea": SMEA,
    "caf": CAF,
    "bulyan": Bulyan,
    "dnc": DnC,
    "gas": GAS,
    "meamed": Meamed,
    "sign_majority": SignMajority,
    "rlr": RLR,
    "geometric_median": GeometricMedian,
    "centered_clipping": CenteredClipping,
    "cge": CGE,
    "monna": MoNNA,
    "norm_bound": NormBound,
    "clipped_gossip": ClippedGossip,
    "static_clip": StaticClip,
    "arc": ARC,
    "fltrust": FLTrust,
    "fedgw": FedGW,
    "foolsgold": FoolsGold,
    "flame": FLAME,
    "signguard": SignGuard,
    "fldetector": FLDetector,
    "rflbat": RFLBAT,
    "foundationfl": FoundationFL,
    "lasa": LASA,
    "nnm": NNM,
    "bucketing": Bucketing,
    "dp_fedavg": DpFedAvg,
    "robust_loss": RobustLoss,
    "knowledge_screening": KnowledgeScreening,
    "clip": ClipUpdate,
    "gaussian_noise": GaussianNoise,
    "prune": Prune,
    "quantize": Quantize,
    "sign": Sign,
    "soteria": Soteria,
    "percentile_privacy": PercentilePrivacy,
    "svt_privacy": SvtPrivacy,
    "local_dp": LocalDp,
    "distributed_dp": DistributedDp,
    "dp_sgd": DpSgd,
    "inspect_model": InspectModel,
    "cut_noise": CutNoise,
    "cut_clip": CutClip,
    "max_norm": MaxNorm,
    "marvell": Marvell,
    "distance_correlation": DistanceCorrelation,
}
