"""Which classes a client holds, and in which shares: read off what it sent of the last layer.

Reference: Geng et al., Towards general deep leakage in federated learning, 2021, arXiv:2110.09074 (the counts);
Wainakh et al., User-level label leakage from gradients in federated learning, PoPETs 2022, arXiv:2105.09369.
"""

from jaxtyping import Float
from torch import Tensor

from fedsec.matching.labels import recover_labels
from fedsec.threat import PropertyInference, PropertyView


class ClassMix(PropertyInference):
    """Estimates the share of each class in a client's data from the gradient of the last layer.

    share_c = mean posterior of class c - gradient of its bias

    The scores of a candidate are shares: not negative, and one in sum. Where the last layer has no bias, its gradient
    is estimated from the weight's; an update of several local steps is read as one mean gradient.

    Cost:
        For each update a pass of some random images through the model.

    Limits:
        Models must end in a linear layer. The more local steps, the rougher the estimate. Shares of very many classes
        among few examples are rounded by nothing: they are estimates, no counts.

    Reference: Geng et al., 2021, arXiv:2110.09074
    """

    asks = "class_mix"
    needs = ("observations",)

    def score(self, view: PropertyView) -> Float[Tensor, "candidates classes"]:
        shares = view.updates.new_zeros(view.shape).double()
        for place, observation in enumerate(view.observations):
            counts = recover_labels(observation).scores.double().clamp_min(0).to(shares)
            shares[place] = counts / counts.sum() if float(counts.sum()) > 0 else 1 / view.num_values
        return shares
