"""Attacks and inversions, one a file.

`ATTACKS` maps a name under `attack` in scenario files to what Byzantine clients do, `INVERSIONS` a name under
`inversion`, or of `fedsec invert`, to what a curious server does.
"""

from fedsec.attacks.analytic import Analytic
from fedsec.attacks.backdoor import Backdoor
from fedsec.attacks.dba import DBA
from fedsec.attacks.decoupled import Decoupled
from fedsec.attacks.dlg import DLG
from fedsec.attacks.edge_case import EdgeCase
from fedsec.attacks.feature_inversion import InvertFeatures
from fedsec.attacks.feature_poison import FeaturePoison
from fedsec.attacks.grad_inversion import GradInversion
from fedsec.attacks.idlg import IDLG
from fedsec.attacks.inverting_gradients import InvertingGradients
from fedsec.attacks.label_flip import LabelFlip
from fedsec.attacks.labels import Labels
from fedsec.attacks.logit_poison import LogitPoison
from fedsec.attacks.noise_inputs import NoiseInputs
from fedsec.attacks.sign_flip import SignFlip
from fedsec.attacks.target_shift import TargetShift

if __name__ != "fedsec.attacks":
    raise ImportError(f"this package is fedsec.attacks; do not import it as {__name__}")

__all__ = [
    "ATTACKS",
    "INVERSIONS",
    "Analytic",
    "Backdoor",
    "DBA",
    "DLG",
    "Decoupled",
    "EdgeCase",
    "FeaturePoison",
    "GradInversion",
    "IDLG",
    "InvertFeatures",
    "InvertingGradients",
    "LabelFlip",
    "Labels",
    "LogitPoison",
    "NoiseInputs",
    "SignFlip",
    "TargetShift",
]

ATTACKS = {
    "label_flip": LabelFlip,
    "target_shift": TargetShift,
    "noise_inputs": NoiseInputs,
    "backdoor": Backdoor,
    "dba": DBA,
    "edge_case": EdgeCase,
    "sign_flip": SignFlip,
    "feature_poison": FeaturePoison,
    "logit_poison": LogitPoison,
}

INVERSIONS = {
    "dlg": DLG,
    "idlg": IDLG,
    "inverting_gradients": InvertingGradients,
    "grad_inversion": GradInversion,
    "analytic": Analytic,
    "labels": Labels,
    "decoupled": Decoupled,
    "feature_inversion": InvertFeatures,
}
