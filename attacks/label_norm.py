"""Labels by the length of gradients: where one class is rare, its examples' gradients at the cut are longer.

Reference: Li, Sun, Yang, Gao, Xie, Smith, Wang, Label leakage and protection in two-party split learning, ICLR 2022,
arXiv:2102.08504, section 3.1 (norm attack).
"""

from jaxtyping import Float
from torch import Tensor

from fedsec.threat import LabelInference, LabelView


class LabelNorm(LabelInference):
    """Takes an example for one of the second, rare class the more, the longer its gradient is.

    score(x) = ||g(x)||, where g is the gradient of the loss with respect to what x became at the cut

    The gradient is |p(x) - y| times a vector that depends little on y. While a network is unsure of a rare class, p is
    small for all examples: gradients of the rare class are the longer ones.

    Cost:
        A norm of each gradient.

    Limits:
        Two classes, of which the second is the rare one; of classes of one size it tells next to nothing, and where
        the first is the rare one it is wrong (its AUC lies below one half). Of more classes: direction and completion.

    Reference: Li et al., ICLR 2022, arXiv:2102.08504
    """

    needs = ("two_classes",)

    def score(self, view: LabelView) -> Float[Tensor, "candidates"]:
        norms: Tensor = view.gradients.double().norm(dim=1)
        return norms
