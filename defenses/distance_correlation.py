"""NoPeek: activations that depend little on inputs, by a penalty on the distance correlation between them.

Reference: Vepakomma, Singh, Gupta, Raskar, NoPeek: information leakage reduction to share activations in distributed
deep learning, ICDM Workshops 2020, arXiv:2008.09161; Szekely, Rizzo, Bakirov, Measuring and testing dependence by
correlation of distances, Annals of Statistics 2007, arXiv:0803.4101 (the statistic).

Deviation: the paper weighs both terms of its loss; here the task's has weight one. The penalty is the correlation, as
the equations have it, not its logarithm.
"""

from math import isfinite

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.defense import ActivationDefense
from fedsec.errors import InputError


class DistanceCorrelation(ActivationDefense):
    """Whoever makes activations adds their distance correlation with the inputs to its loss.

    penalty = weight dcor(x, a), dcor^2 = mean(A B) / sqrt(mean(A A) mean(B B)), where A and B are the distances between
    the batch's inputs and between its activations, less the means of their rows and columns

    Args:
        weight: of the penalty, beside the mean loss of the task.

    Raises:
        InputError: a weight that is negative.

    Cost:
        The distances of all pairs of a batch, forward and backward, at the client.

    Limits:
        It hides inputs on average and proves nothing; an attacker who knows the client's part of the network still
        inverts what is left. It does nothing for labels, which activations are meant to tell. A batch of one example
        has no penalty.

    Reference: Vepakomma et al. 2020, arXiv:2008.09161
    """

    def __init__(self, weight: float = 0.5) -> None:
        if not (isfinite(weight) and weight >= 0):
            raise InputError(f"DistanceCorrelation: weight must not be negative, not {weight}")
        self.weight = weight

    def penalize(
        self, inputs: Float[Tensor, "batch *shape"], activations: Float[Tensor, "batch *features"]
    ) -> Float[Tensor, ""] | None:
        if len(inputs) < 2 or not self.weight:
            return None
        return self.weight * distance_correlation(inputs.flatten(1), activations.flatten(1))


def distance_correlation(
    first: Float[Tensor, "batch entries"], second: Float[Tensor, "batch features"]
) -> Float[Tensor, ""]:
    """How much two samples depend on each other, from 0 to 1; differentiable.

    Args:
        first: a row an example.
        second: of the same examples.
    """
    a, b = _centered(first), _centered(second)
    tiny = torch.finfo(a.dtype).tiny ** 0.5
    covariance, variances = (a * b).mean(), (a * a).mean() * (b * b).mean()
    correlation: Tensor = ((covariance + tiny).clamp_min(tiny) / (variances + tiny).sqrt()).sqrt()
    return correlation


def _centered(rows: Tensor) -> Tensor:
    """Distances of all pairs, less the means of rows and columns."""
    squares = rows.square().sum(1)
    products = squares[:, None] + squares[None] - 2 * rows @ rows.T
    # The gradient of a square root at zero would be infinite; a pair of equal rows counts as next to equal.
    distances = (products.clamp_min(0) + 1e-12).sqrt()
    return distances - distances.mean(0, keepdim=True) - distances.mean(1, keepdim=True) + distances.mean()
