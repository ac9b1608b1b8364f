"""Attacks, one a file; `ATTACKS` maps the name used in scenario files and on the command line to the class."""

from fedsec.attacks.analytic import Analytic
from fedsec.attacks.decoupled import Decoupled
from fedsec.attacks.dlg import DLG
from fedsec.attacks.feature_inversion import InvertFeatures
from fedsec.attacks.feature_poison import FeaturePoison
from fedsec.attacks.grad_inversion import GradInversion
from fedsec.attacks.idlg import IDLG
from fedsec.attacks.inverting_gradients import InvertingGradients
from fedsec.attacks.label_flip import LabelFlip
from fedsec.attacks.labels import Labels
from fedsec.attacks.logit_poison import LogitPoison
from fedsec.attacks.sign_flip import SignFlip

if __name__ != "fedsec.attacks":
    raise ImportError(f"this package is fedsec.attacks; do not import it as {__name__}")

__all__ = [
    "ATTACKS",
    "Analytic",
    "DLG",
    "Decoupled",
    "FeaturePoison",
    "GradInversion",
    "IDLG",
    "InvertFeatures",
    "InvertingGradients",
    "LabelFlip",
    "Labels",
    "LogitPoison",
    "SignFlip",
]

ATTACKS = {
    "label_flip": LabelFlip,
    "sign_flip": SignFlip,
    "dlg": DLG,
    "idlg": IDLG,
    "inverting_gradients": InvertingGradients,
    "grad_inversion": GradInversion,
    "analytic": Analytic,
    "labels": Labels,
    "decoupled": Decoupled,
    "feature_poison": FeaturePoison,
    "logit_poison": LogitPoison,
    "feature_inversion": InvertFeatures,
}
