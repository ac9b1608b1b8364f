"""How clients come into superclients by what is known of their classes: greedily, or taken in turn from clusters.

Zaccone et al., ICPR 2022, arXiv:2201.10899. Measures and greedy choice follow the authors' code: a measure says how
well a client fits a superclient, and is of the plain mean of both, however many members the superclient has.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float64

from fedsec.defense.geometry.clusters import k_means
from fedsec.errors import InputError

__all__ = ["Grouping", "divergence_from_uniform", "groups_of"]

Method = Literal["random", "greedy", "kmeans"]
Estimate = Literal["confidence", "classifier"]
Similarity = Literal["kl", "gini", "cosine"]
Points = Float64[np.ndarray, "clients features"]


@dataclass(frozen=True)
class Grouping:
    """By what clients are grouped. Before the first round each client trains the initial network for itself.

    Args:
        name: `random`, as without a grouping, and nobody trains before; `greedy`, each superclient takes next whoever
            fits it best; `kmeans`, clusters of clients that are alike, from which superclients take members in turn.
        estimate: what is known of a client: `confidence`, how sure its network is of each class's exemplars, which sums
            to one; or `classifier`, the weights of its last layer, of which principal components are kept.
        measure: of a mix p of classes: `kl`, 1 - KL(p || uniform); `gini`, 1 - sum p^2; both for confidences alone. Or
            `cosine`, one less the cosine between a client's estimate and its superclient's. Of `greedy` alone.
        epochs: passes of each client over its examples before the first round.
        exemplars: of each class, from the server's test set; of confidences alone.
        variance: which share of the classifiers' variance the kept components have.

    Raises:
        InputError: options out of range, or a measure that is none of classifiers.
    """

    name: Method = "greedy"
    estimate: Estimate = "confidence"
    measure: Similarity = "kl"
    epochs: int = 10
    exemplars: int = 10
    variance: float = 0.9

    def __post_init__(self) -> None:
        for key, known in (("name", Method), ("estimate", Estimate), ("measure", Similarity)):
            if getattr(self, key) not in get_args(known):
                raise InputError(
                    f"grouping: {key} must be one of {', '.join(get_args(known))}, got {getattr(self, key)!r}"
                )
        for key in ("epochs", "exemplars"):
            if getattr(self, key) < 1:
                raise InputError(f"grouping: {key} must be at least 1, got {getattr(self, key)}")
        if not 0 < self.variance <= 1:
            raise InputError(f"grouping: variance must lie in (0, 1], got {self.variance}")
        if self.name == "greedy" and self.estimate == "classifier" and self.measure != "cosine":
            raise InputError(
                f"grouping: {self.measure} is of mixes of classes, and weights of a classifier are none; expected "
                "measure cosine, or estimate confidence"
            )


def groups_of(grouping: Grouping, points: Points, sizes: Sequence[int], size: int, seed: int) -> list[tuple[int, ...]]:
    """The members of each superclient, in ascending order.

    Args:
        grouping: greedy or kmeans.
        points: what is known of each client; a mix of classes, or components of a classifier.
        sizes: examples of each client: so much it counts in what is known of its superclient.
        size: members of each superclient; a divisor of the number of clients.
        seed: of k-means.
    """
    order = _greedy(grouping.measure, points, sizes, size) if grouping.name == "greedy" else _in_turn(points, seed)
    return [tuple(sorted(order[first : first + size])) for first in range(0, len(order), size)]


def _greedy(measure: Similarity, points: Points, sizes: Sequence[int], size: int) -> list[int]:
    """Clients in the order in which they are taken: superclient after superclient, whoever fits best next.

    Nobody's superclient is known as the uniform mix; of those who fit equally well the first is taken.
    """
    order: list[int] = []
    left = list(range(len(points)))
    while left:
        members = order[len(order) - len(order) % size :]
        known = np.full(points.shape[1], 1 / points.shape[1])
        if members:
            known = np.average(points[members], axis=0, weights=[sizes[client] for client in members])
        fits = [_fit(measure, known, points[client]) for client in left]
        order.append(left.pop(int(np.argmax(fits))))
    return order


def _fit(measure: Similarity, known: Float64[np.ndarray, "features"], own: Float64[np.ndarray, "features"]) -> float:
    """How well a client fits a superclient; the larger, the better."""
    if measure == "cosine":
        lengths = float(np.linalg.norm(known) * np.linalg.norm(own))
        return 1 - float(known @ own) / lengths if lengths else 1.0
    mix = (known + own) / 2
    return 1 - divergence_from_uniform(mix) if measure == "kl" else 1 - float(np.square(mix).sum())


def divergence_from_uniform(mix: Float64[np.ndarray, "classes"]) -> float:
    """KL(mix || uniform) in nats: 0 for equally many examples of each class, log(classes) for one class alone."""
    present = mix[mix > 0]
    return float((present * np.log(present * len(mix))).sum())


def _in_turn(points: Points, seed: int) -> list[int]:
    """Clients taken one by one from clusters of those alike; as many clusters as numbers are known of each."""
    count = min(points.shape[1], len(np.unique(points, axis=0)))
    labels = k_means(torch.from_numpy(points), count, seed)[0].tolist()
    clusters = [[client for client, label in enumerate(labels) if label == cluster] for cluster in range(count)]
    order: list[int] = []
    for cluster in cycle(clusters):
        if len(order) == len(points):
            return order
        if cluster:
            order.append(cluster.pop())
    return order
