"""Membership by the angle between an example's gradient and a client's update.

Reference: Li, Li, Ribeiro, Effective passive membership inference attacks in federated learning against
overparameterized models, ICLR 2023 (openreview QsCSLPP55Ku).

Deviation: the mean over all updates that were observed, where the paper looks at one, or cuts each by itself.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.threat import MembershipInference, MembershipView


class GradientCosine(MembershipInference):
    """Takes an example for a client's the more, the more its gradient points where the client's updates do.

    score(x) = mean over rounds of <g(x), u> / (||g(x)|| ||u||)

    g(x) is the gradient at the model that was sent, u that model less the one that came back. In models with many more
    parameters than examples, gradients of different examples are nearly orthogonal, so that an example's own share of u
    shows.

    Cost:
        A gradient of each candidate in each round observed: for d parameters d numbers an example, in small batches.

    Limits:
        Gradients of one class have much in common, members or not; batches that are large beside the dimension bury an
        example's share; in a small network it found nothing (docs/reproduction.md). The server alone sees a client's
        update; with secure aggregation nobody does.

    Reference: Li, Li, Ribeiro, 2023, ICLR
    """

    needs = ("updates",)

    def score(self, view: MembershipView) -> Float[Tensor, "examples"]:
        assert view.updates is not None
        lengths = view.updates.gradient_norms.double() * view.updates.update_norms.double()[:, None]
        cosines = view.updates.products.double() / lengths
        return torch.where(lengths > 0, cosines, 0.0).mean(0)
