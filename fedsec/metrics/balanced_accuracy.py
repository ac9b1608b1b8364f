"""Balanced accuracy: the mean over classes of the share of their examples that is classified correctly.

Reference: Brodersen, Ong, Stephan, Buhmann, The balanced accuracy and its posterior distribution, ICPR 2010.
"""

from jaxtyping import Float, Int64
from torch import Tensor

from fedsec.metrics.measure import Measure


class BalancedAccuracy(Measure):
    """Mean recall of the classes that the test set has, so that rare classes count as much as frequent ones.

    Reference: Brodersen et al., ICPR 2010
    """

    better = "higher"
    tasks = ("classification",)
    scale = "fraction"

    def measure(self, outputs: Float[Tensor, "examples classes"], targets: Int64[Tensor, "examples"]) -> float:
        hits = outputs.argmax(1) == targets
        classes = outputs.shape[1]
        total = targets.bincount(minlength=classes).double()
        right = targets[hits].bincount(minlength=classes).double()
        return float((right / total)[total > 0].mean())
