"""How much of each neighbor's model goes into a client's: the mixing matrix of a graph, and what it is worth.

Metropolis, Rosenbluth, Rosenbluth, Teller, Teller 1953 and Hastings 1970, as weights of a graph in Xiao, Boyd: Fast
linear iterations for distributed averaging. Systems and Control Letters 2004.
"""

import numpy as np
from jaxtyping import Bool, Float64

from fedsec.errors import InputError
from fedsec.federation.gossip.graph import Graph

_ROUNDING = 1e-6
"""By how much weights of a file may miss a sum of one or symmetry."""


def mixing_matrix(
    graph: Graph, adjacency: Bool[np.ndarray, "clients clients"]
) -> Float64[np.ndarray, "clients clients"]:
    """W, by which a gossip step replaces models X by W X: symmetric, not negative, rows that sum to one.

    Args:
        graph: whose kind of weights are asked for.
        adjacency: who is whose neighbor.

    Raises:
        InputError: there are no such weights of this graph, or those that were given are none.
    """
    if graph.mixing == "given":
        weights = np.array([list(row) for row in graph.weights or ()], np.float64)
        check_mixing(weights, adjacency)
        return weights
    degrees = adjacency.sum(1)
    if graph.mixing == "uniform" and len(set(degrees.tolist())) > 1:
        raise InputError(
            f"graph: uniform weights need equally many neighbors for all, and clients have {degrees.min()} to "
            f"{degrees.max()}; expected mixing: metropolis_hastings"
        )
    weights = np.where(adjacency, 1 / (1 + np.maximum.outer(degrees, degrees)), 0.0)
    weights[np.diag_indices(len(weights))] = 1 - weights.sum(1)
    return weights


def check_mixing(
    weights: Float64[np.ndarray, "clients clients"], adjacency: Bool[np.ndarray, "clients clients"]
) -> None:
    """Refuse weights that are no mixing matrix of a graph.

    Raises:
        InputError: what is wrong with them.
    """
    count = len(adjacency)
    if weights.shape != (count, count):
        shape = "x".join(map(str, weights.shape))
        raise InputError(f"graph: weights of {count} clients are {count}x{count} numbers, got {shape}")
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise InputError("graph: weights must be finite and not negative")
    if (apart := np.abs(weights - weights.T)).max() > _ROUNDING:
        one, other = np.unravel_index(int(apart.argmax()), apart.shape)
        raise InputError(
            f"graph: weights must be symmetric, and client {one} weighs {other} with {weights[one, other]:g}, but "
            f"client {other} weighs {one} with {weights[other, one]:g}"
        )
    sums = weights.sum(1)
    if (worst := int(np.abs(sums - 1).argmax())) >= 0 and abs(sums[worst] - 1) > _ROUNDING:
        raise InputError(f"graph: each row of weights must sum to one, and client {worst}'s sums to {sums[worst]:g}")
    beside = (weights > 0) & ~np.eye(count, dtype=bool)
    if (wrong := np.argwhere(beside != adjacency)).size:
        one, other = wrong[0]
        problem = "an edge without weight" if adjacency[one, other] else "a weight without an edge"
        raise InputError(f"graph: clients {one} and {other} have {problem}; expected weights of the edges alone")
    if spectral_gap(weights) <= _ROUNDING:
        raise InputError("graph: by these weights clients never agree (no spectral gap); expected a positive diagonal")


def spectral_gap(weights: Float64[np.ndarray, "clients clients"]) -> float:
    """1 - the second largest modulus of an eigenvalue: by which factor a step brings models closer to their mean."""
    moduli = np.sort(np.abs(np.linalg.eigvalsh(weights)))
    return float(1 - moduli[-2])
