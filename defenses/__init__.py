"""Defenses, one a file; `DEFENSES` maps the name used in scenario files to the class."""

from fedsec.defenses.knowledge_screening import KnowledgeScreening
from fedsec.defenses.mean import Mean
from fedsec.defenses.median import Median
from fedsec.defenses.robust_loss import RobustLoss
from fedsec.defenses.trimmed_mean import TrimmedMean

if __name__ != "fedsec.defenses":
    raise ImportError(f"this package is fedsec.defenses; do not import it as {__name__}")

__all__ = ["DEFENSES", "KnowledgeScreening", "Mean", "Median", "RobustLoss", "TrimmedMean"]

DEFENSES = {
    "mean": Mean,
    "median": Median,
    "trimmed_mean": TrimmedMean,
    "robust_loss": RobustLoss,
    "knowledge_screening": KnowledgeScreening,
}
