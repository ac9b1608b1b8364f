"""Membership by how much of a client's update an example's gradient takes away.

Reference: Li, Li, Ribeiro, Effective passive membership inference attacks in federated learning against
overparameterized models, ICLR 2023 (openreview QsCSLPP55Ku).

Deviation: the sum over all updates that were observed, where the paper looks at one, or cuts each by itself.
"""

from jaxtyping import Float
from torch import Tensor

from fedsec.threat import MembershipInference, MembershipView


class GradientDifference(MembershipInference):
    """Takes an example for a client's if the client's update becomes shorter without the example's gradient.

    score(x) = sum over rounds of ||u||^2 - ||u - g(x)||^2 = 2 <g(x), u> - ||g(x)||^2

    g(x) is the gradient at the model that was sent; u is that model less the one that came back, over the learning rate
    where it is known: the sum of the gradients of the client's steps. Without anything in common with u the score is
    -||g(x)||^2.

    Cost:
        A gradient of each candidate in each round observed: for d parameters d numbers an example, in small batches.

    Limits:
        Where an example's share of u is below one half of its gradient, as with large batches and few passes, long
        gradients, which are those of hard examples, are counted as foreign. It found nothing in a small network
        (docs/reproduction.md).

    Reference: Li, Li, Ribeiro, 2023, ICLR
    """

    needs = ("updates",)

    def score(self, view: MembershipView) -> Float[Tensor, "examples"]:
        assert view.updates is not None
        products, norms = view.updates.products.double(), view.updates.gradient_norms.double()
        return (2 * products - norms.square()).sum(0)
