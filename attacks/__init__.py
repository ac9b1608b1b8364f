"""Attacks, inversions and inferences, one a file.

`ATTACKS` maps a name under `attack` in scenario files to what Byzantine clients do, `INVERSIONS` a name under
`inversion`, or of `fedsec invert`, to what a curious server does, `INFERENCES` a name under `audit` to what an observer
of training concludes about the data.
"""

from fedsec.attacks.a3fl import A3FL
from fedsec.attacks.adaptive import Adaptive
from fedsec.attacks.alie import ALIE
from fedsec.attacks.alternating_minimization import AlternatingMinimization
from fedsec.attacks.analytic import Analytic
from fedsec.attacks.auto import Auto
from fedsec.attacks.backdoor import Backdoor
from fedsec.attacks.bit_flip import BitFlip
from fedsec.attacks.class_mix import ClassMix
from fedsec.attacks.dager import DAGER
from fedsec.attacks.dba import DBA
from fedsec.attacks.decoupled import Decoupled
from fedsec.attacks.dlg import DLG
from fedsec.attacks.edge_case import EdgeCase
from fedsec.attacks.fang import Fang
from fedsec.attacks.feature_hijacking import FeatureHijacking
from fedsec.attacks.feature_inversion import InvertFeatures
from fedsec.attacks.feature_poison import FeaturePoison
from fedsec.attacks.fishing import Fishing
from fedsec.attacks.forged_states import ForgedStates, forge_state_dicts
from fedsec.attacks.free_rider import FreeRider
from fedsec.attacks.gaussian import Gaussian
from fedsec.attacks.grad_inversion import GradInversion
from fedsec.attacks.gradient_cosine import GradientCosine
from fedsec.attacks.gradient_difference import GradientDifference
from fedsec.attacks.gradient_replacement import GradientReplacement
from fedsec.attacks.idlg import IDLG
from fedsec.attacks.imprint import Imprint
from fedsec.attacks.infinity import Infinity
from fedsec.attacks.inverting_gradients import InvertingGradients
from fedsec.attacks.ipm import IPM
from fedsec.attacks.label_direction import LabelDirection
from fedsec.attacks.label_flip import LabelFlip
from fedsec.attacks.label_norm import LabelNorm
from fedsec.attacks.labels import Labels
from fedsec.attacks.lira_offline import LiraOffline
from fedsec.attacks.lira_online import LiraOnline
from fedsec.attacks.local_search import LocalSearch, search_local
from fedsec.attacks.logit_poison import LogitPoison
from fedsec.attacks.loki import Loki
from fedsec.attacks.loss_threshold import LossThreshold
from fedsec.attacks.mimic import Mimic
from fedsec.attacks.min_max import MinMax
from fedsec.attacks.min_sum import MinSum
from fedsec.attacks.model_completion import ModelCompletion
from fedsec.attacks.model_replacement import ModelReplacement
from fedsec.attacks.nan import NaN
from fedsec.attacks.neurotoxin import Neurotoxin
from fedsec.attacks.noise_inputs import NoiseInputs
from fedsec.attacks.rmia import Rmia
from fedsec.attacks.rop import ROP
from fedsec.attacks.seer import Seer
from fedsec.attacks.sign_flip import SignFlip
from fedsec.attacks.site import Site
from fedsec.attacks.sparse import Sparse
from fedsec.attacks.spear import SPEAR
from fedsec.attacks.target_shift import TargetShift
from fedsec.attacks.token_rows import TokenRows
from fedsec.attacks.trajectory import Trajectory
from fedsec.attacks.trap_weights import TrapWeights
from fedsec.attacks.worst_case import WorstCase, worst_case
from fedsec.attacks.zero import ZeroUpdate

if __name__ != "fedsec.attacks":
    raise ImportError(f"this package is fedsec.attacks; do not import it as {__name__}")

__all__ = [
    "ATTACKS",
    "INFERENCES",
    "INVERSIONS",
    "A3FL",
    "ALIE",
    "Adaptive",
    "AlternatingMinimization",
    "Analytic",
    "Auto",
    "Backdoor",
    "BitFlip",
    "ClassMix",
    "DAGER",
    "DBA",
    "DLG",
    "Decoupled",
    "EdgeCase",
    "Fang",
    "FeatureHijacking",
    "FeaturePoison",
    "Fishing",
    "ForgedStates",
    "FreeRider",
    "Gaussian",
    "GradInversion",
    "GradientReplacement",
    "IDLG",
    "IPM",
    "Imprint",
    "Infinity",
    "InvertFeatures",
    "InvertingGradients",
    "LabelDirection",
    "LabelFlip",
    "LabelNorm",
    "Labels",
    "LocalSearch",
    "LogitPoison",
    "Loki",
    "LossThreshold",
    "Mimic",
    "MinMax",
    "MinSum",
    "ModelCompletion",
    "ModelReplacement",
    "NaN",
    "Neurotoxin",
    "NoiseInputs",
    "ROP",
    "SPEAR",
    "Seer",
    "SignFlip",
    "Site",
    "Sparse",
    "TargetShift",
    "TokenRows",
    "TrapWeights",
    "WorstCase",
    "GradientCosine",
    "GradientDifference",
    "LiraOffline",
    "LiraOnline",
    "Rmia",
    "Trajectory",
    "ZeroUpdate",
    "forge_state_dicts",
    "search_local",
    "worst_case",
]

ATTACKS = {
    "label_flip": LabelFlip,
    "target_shift": TargetShift,
    "noise_inputs": NoiseInputs,
    "backdoor": Backdoor,
    "dba": DBA,
    "edge_case": EdgeCase,
    "model_replacement": ModelReplacement,
    "neurotoxin": Neurotoxin,
    "alternating_minimization": AlternatingMinimization,
    "a3fl": A3FL,
    "sign_flip": SignFlip,
    "bit_flip": BitFlip,
    "gaussian": Gaussian,
    "zero": ZeroUpdate,
    "free_rider": FreeRider,
    "infinity": Infinity,
    "nan": NaN,
    "alie": ALIE,
    "ipm": IPM,
    "mimic": Mimic,
    "min_max": MinMax,
    "min_sum": MinSum,
    "fang": Fang,
    "rop": ROP,
    "sparse": Sparse,
    "adaptive": Adaptive,
    "auto": Auto,
    "feature_poison": FeaturePoison,
    "logit_poison": LogitPoison,
    "gradient_replacement": GradientReplacement,
}

INVERSIONS = {
    "dlg": DLG,
    "idlg": IDLG,
    "inverting_gradients": InvertingGradients,
    "grad_inversion": GradInversion,
    "analytic": Analytic,
    "labels": Labels,
    "decoupled": Decoupled,
    "spear": SPEAR,
    "feature_inversion": InvertFeatures,
    "feature_hijacking": FeatureHijacking,
    "imprint": Imprint,
    "loki": Loki,
    "trap_weights": TrapWeights,
    "fishing": Fishing,
    "seer": Seer,
    "token_rows": TokenRows,
    "dager": DAGER,
}

INFERENCES = {
    "loss_threshold": LossThreshold,
    "lira_online": LiraOnline,
    "lira_offline": LiraOffline,
    "rmia": Rmia,
    "trajectory": Trajectory,
    "gradient_cosine": GradientCosine,
    "gradient_difference": GradientDifference,
    "site": Site,
    "class_mix": ClassMix,
    "label_norm": LabelNorm,
    "label_direction": LabelDirection,
    "model_completion": ModelCompletion,
}
