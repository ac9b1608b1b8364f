"""Interfaces of attacks: what an attacker may see, and what it may change.

`DataPoisoning`, `UpdatePoisoning`, `KnowledgePoisoning` and `ActivationPoisoning` are what a Byzantine client does;
`Inversion` and `FeatureInversion` are what a curious server does; a `MaliciousServer` is an inversion that makes the
model it sends, a `HijackingServer` one that answers activations as it likes.
`Inference` is what an observer of training concludes about the data.
"""

from fedsec.threat.attack import ByzantineAttack
from fedsec.threat.backdoor import BackdoorPoisoning, PatternAttack, TriggeredAttack
from fedsec.threat.cuts.activation_poisoning import ActivationPoisoning, CutBatch
from fedsec.threat.cuts.hijacking import Hijack, HijackingServer, HijackView
from fedsec.threat.defense_trial import DefenseTrial, MixtureTrial, Objective
from fedsec.threat.distortion import Distortion
from fedsec.threat.feature_inversion import FeatureInversion, FeatureObservation
from fedsec.threat.inference import Inference, InferenceView
from fedsec.threat.inversion import Inversion, Snapshot
from fedsec.threat.knowledge import Knowledge, KnowledgePoisoning
from fedsec.threat.line_search import largest_on_line
from fedsec.threat.machine import AttackerMachine
from fedsec.threat.malicious_server import MaliciousServer, ServerView
from fedsec.threat.membership import (
    GradientProducts,
    MembershipInference,
    MembershipView,
    ShadowModels,
    rescaled_logits,
)
from fedsec.threat.observation import Observation
from fedsec.threat.observed.client_loss import ClientLoss
from fedsec.threat.observed.label_view import LabelInference, LabelView, OwnPart
from fedsec.threat.observed.local_steps import LocalSteps
from fedsec.threat.observed.pixel_scale import PixelScale
from fedsec.threat.observed.property_view import PropertyInference, PropertyView
from fedsec.threat.observed.sent_statistics import sent_statistics
from fedsec.threat.poisoning import AttackerView, DataPoisoning, UpdatePoisoning
from fedsec.threat.probes import Probe
from fedsec.threat.reconstruction import Reconstruction
from fedsec.threat.shadow_signals import normal_of
from fedsec.threat.state_layout import StateLayout

__all__ = [
    "ActivationPoisoning",
    "AttackerMachine",
    "AttackerView",
    "BackdoorPoisoning",
    "ByzantineAttack",
    "ClientLoss",
    "CutBatch",
    "DataPoisoning",
    "DefenseTrial",
    "Distortion",
    "FeatureInversion",
    "FeatureObservation",
    "GradientProducts",
    "Hijack",
    "HijackView",
    "HijackingServer",
    "Inference",
    "InferenceView",
    "Inversion",
    "Knowledge",
    "KnowledgePoisoning",
    "LabelInference",
    "LabelView",
    "OwnPart",
    "LocalSteps",
    "MembershipInference",
    "MembershipView",
    "MaliciousServer",
    "MixtureTrial",
    "Objective",
    "Observation",
    "PatternAttack",
    "PixelScale",
    "Probe",
    "PropertyInference",
    "PropertyView",
    "Reconstruction",
    "ShadowModels",
    "ServerView",
    "Snapshot",
    "StateLayout",
    "TriggeredAttack",
    "UpdatePoisoning",
    "largest_on_line",
    "normal_of",
    "rescaled_logits",
    "sent_statistics",
]
