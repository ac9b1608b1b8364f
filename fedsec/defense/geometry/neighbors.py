"""Krum's ranking: rows whose nearest neighbors are nearest come first. Several rules choose by it.

Reference: Blanchard, El Mhamdi, Guerraoui, Stainer, Machine learning with adversaries: Byzantine tolerant gradient
descent, NeurIPS 2017, arXiv:1703.02757.
"""

import torch
from jaxtyping import Float64
from torch import Tensor

from fedsec.errors import InputError

__all__ = ["check_enough_for_krum", "krum_ranking", "krum_scores"]


def krum_scores(distances: Float64[Tensor, "rows rows"], num_byzantine: int) -> Float64[Tensor, "rows"]:
    """Sum of the squared distances from each row to the n - f - 2 others that are nearest to it.

    Args:
        distances: squared, between every two of n rows; left unchanged.
        num_byzantine: f, how many of the rows may be Byzantine; n - f - 2 must not be negative.
    """
    apart = distances.clone().fill_diagonal_(torch.inf)  # a row is no neighbor of itself
    return apart.sort(1).values[:, : len(apart) - num_byzantine - 2].sum(1)


def krum_ranking(distances: Float64[Tensor, "rows rows"], num_byzantine: int) -> list[int]:
    """The rows from the smallest score to the largest, of equal ones the first row first; as for `krum_scores`."""
    ranking: list[int] = krum_scores(distances, num_byzantine).sort(stable=True).indices.tolist()
    return ranking


def check_enough_for_krum(rule: str, num_byzantine: int, num_clients: int) -> None:
    """Krum's condition on the clients, n >= 2f + 3.

    Raises:
        InputError: there are too few.
    """
    fewest = 2 * num_byzantine + 3
    if num_clients < fewest:
        raise InputError(f"{rule}: num_byzantine {num_byzantine} needs at least {fewest} rows, not {num_clients}")
