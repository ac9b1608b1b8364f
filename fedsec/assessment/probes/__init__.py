"""Probes: what the battery of an audit is made of, one a file."""

from fedsec.assessment.probes.backdoor import BackdoorProbe
from fedsec.assessment.probes.epsilon import EpsilonProbe
from fedsec.assessment.probes.epsilon_server import ServerEpsilonProbe
from fedsec.assessment.probes.label_flip import LabelFlipProbe
from fedsec.assessment.probes.labels import LabelsProbe
from fedsec.assessment.probes.leakage import LeakageProbe
from fedsec.assessment.probes.malicious_server import MaliciousServerProbe
from fedsec.assessment.probes.membership import MembershipProbe
from fedsec.assessment.probes.poisoning import PoisoningProbe
from fedsec.assessment.probes.probe import AuditProbe
from fedsec.assessment.probes.sites import SitesProbe

__all__ = ["PROBES", "AuditProbe"]

PROBES: tuple[type[AuditProbe], ...] = (
    PoisoningProbe,
    BackdoorProbe,
    LabelFlipProbe,
    LeakageProbe,
    LabelsProbe,
    EpsilonProbe,
    ServerEpsilonProbe,
    MembershipProbe,
    MaliciousServerProbe,
    SitesProbe,
)
"""In the order in which reports list what of equal severity."""
