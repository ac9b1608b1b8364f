"""A metric."""

from torch import Tensor

from fedsec.metrics.measure import Measure


class Confidence(Measure):
    """Mean probability of the class that is predicted."""

    better = "neither"
    scale = "fraction"

    def measure(self, outputs: Tensor, targets: Tensor) -> float:
        return float(outputs.softmax(1).amax(1).mean())
