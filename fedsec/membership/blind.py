"""A judge that sees no model: where it can tell members from others, the two were never alike.

Reference: Das, Zhang, Tramer, Blind baselines beat membership inference attacks for foundation models, 2024,
arXiv:2406.16201.
"""

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from fedsec.auditing import auc
from fedsec.auditing.membership import Auc

__all__ = ["blind_auc"]

_FOLDS = 5


def blind_auc(
    inputs: Tensor,
    labels: Int64[Tensor, "examples"],
    members: int,
    rng: np.random.Generator,
    confidence: float = 0.95,
) -> Auc:
    """How well a linear classifier of inputs and classes tells members from non-members that it was not shown.

    Ridge regression on standardized inputs and on the classes, fitted to four fifths and asked of the last one, in
    turn; each fifth has members and non-members in equal shares, so that its own mean says nothing.

    Args:
        inputs: of all candidates, members first.
        labels: their classes.
        members: how many of them are members.
        rng: cuts the fifths.
        confidence: of the interval.

    Returns:
        0.5 within the interval where members and non-members are alike to such a judge.
    """
    rows = inputs.reshape(len(inputs), -1).double().cpu()
    classes = torch.nn.functional.one_hot(labels.cpu()).double()
    features = torch.cat([_standardized(rows) / rows.shape[1] ** 0.5, _standardized(classes)], 1).numpy()
    truth = np.where(np.arange(len(inputs)) < members, 1.0, -1.0)
    fold = np.empty(len(inputs), np.int64)
    for side in (truth > 0, truth < 0):
        fold[side] = rng.permutation(int(side.sum())) % _FOLDS
    gram, scores = features @ features.T, np.empty(len(inputs))
    for number in range(_FOLDS):
        asked = fold == number
        taught = ~asked
        if not asked.any() or not taught.any():
            continue
        mean = truth[taught].mean()
        inner = gram[np.ix_(taught, taught)]
        weights = np.linalg.solve(
            inner + np.eye(len(inner)) * max(1e-6, np.trace(inner) / len(inner)), truth[taught] - mean
        )
        scores[asked] = gram[np.ix_(asked, taught)] @ weights
    return auc(scores[:members], scores[members:], confidence)


def _standardized(columns: Tensor) -> Tensor:
    columns = columns - columns.mean(0)
    deviation = columns.std(0)
    return torch.where(deviation > 0, columns / deviation.clamp_min(1e-12), 0.0)
