"""Membership by the loss alone: what a model fits better, it was more likely trained on.

Reference: Yeom, Giacomelli, Fredrikson, Jha, Privacy risk in machine learning: analyzing the connection to overfitting,
IEEE CSF 2018, arXiv:1709.01604.

Deviation: the paper cuts at the average training loss, one point of the ROC curve; here the whole curve is measured.
"""

from jaxtyping import Float
from torch import Tensor

from fedsec.threat import MembershipInference, MembershipView


class LossThreshold(MembershipInference):
    """Takes an example for a member the more, the lower its loss under the last model is.

    score(x) = log p(y | x) = -loss(x)

    Every example is held against one threshold, whether it is easy or hard for any model. It needs nothing but the last
    model observed.

    Cost:
        One pass of the candidates through one model.

    Limits:
        Easy examples have low losses whether or not they were trained on, so that it finds next to nothing at small
        false-positive rates, where `lira_online` and `rmia` do; its AUC says how far a model overfits.

    Reference: Yeom, Giacomelli, Fredrikson, Jha, 2018, arXiv:1709.01604
    """

    def score(self, view: MembershipView) -> Float[Tensor, "examples"]:
        return -view.losses[-1].double()
