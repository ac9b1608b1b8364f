"""Differential privacy by example: accountants, calibration, clipped sums, and what a private client is told.

Importing it loads neither Opacus nor anything else that is heavy; the accountants do, when first asked.
"""

from fedsec.privacy.accounting import (
    Accountant,
    Epsilon,
    Spending,
    check_accountant,
    check_delta,
    default_delta,
    epsilon,
)
from fedsec.privacy.calibration import calibrate
from fedsec.privacy.ledger import Ledger
from fedsec.privacy.private_training import GradSampleMode, PrivateTraining

__all__ = [
    "Accountant",
    "Epsilon",
    "GradSampleMode",
    "Ledger",
    "PrivateTraining",
    "Spending",
    "calibrate",
    "check_accountant",
    "check_delta",
    "default_delta",
    "epsilon",
]
