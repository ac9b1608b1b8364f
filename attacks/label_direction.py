"""Labels by the direction of gradients: examples of one class pull what they became at the cut the same way.

Reference: Li, Sun, Yang, Gao, Xie, Smith, Wang, Label leakage and protection in two-party split learning, ICLR 2022,
arXiv:2102.08504, section 3.1 (direction attack, by cosines). The paper has two classes and knows one example of the
positive one.

Deviations: examples of every class may be known, whose cosines are averaged; of two classes the score is that of the
second less that of the first, where both are known. With more classes there is a score for each.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from fedsec.threat import LabelInference, LabelView


class LabelDirection(LabelInference):
    """Takes an example to have the label of those to whose gradients its own points, by cosine.

    score(x, y) = mean of <g(x), g(z)> / (||g(x)|| ||g(z)||) over the examples z that are known to have label y

    Of two classes, the score is score(x, 1) - score(x, 0). A class without known examples scores -1 among several, 0 of
    two.

    Cost:
        A product of each gradient with those of the known examples.

    Limits:
        It needs an example whose label is known. Where the layer behind the cut is not linear, gradients of one class
        point in several directions, so that a few known ones say less.

    Reference: Li et al., ICLR 2022, arXiv:2102.08504
    """

    needs = ("known_labels",)

    def score(self, view: LabelView) -> Float[Tensor, "..."]:
        assert view.known_gradients is not None
        assert view.known_labels is not None
        similar = (
            normalize(view.gradients.double(), eps=1e-300) @ normalize(view.known_gradients.double(), eps=1e-300).T
        )
        of_class = torch.nn.functional.one_hot(view.known_labels, view.num_classes).to(similar)
        counts = of_class.sum(0)
        means = (similar @ of_class) / counts.clamp_min(1)
        if view.num_classes == 2:
            return means[:, 1] - means[:, 0]
        return means.masked_fill(counts == 0, -1.0)
