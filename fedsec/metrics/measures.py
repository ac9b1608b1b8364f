"""Metrics that a scenario can ask for beside those of its task, one a file; `MEASURES` maps names to classes."""

from fedsec.metrics.balanced_accuracy import BalancedAccuracy

MEASURES = {
    "balanced_accuracy": BalancedAccuracy,
}
