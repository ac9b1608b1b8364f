"""How close texts that were read off an update are to a client's own, token by token and beside drawing at random.

Reference: Lin, "ROUGE: a package for automatic evaluation of summaries", 2004 (F1, of tokens in place of words).
"""

from collections import Counter
from collections.abc import Sequence
from statistics import fmean

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

PADDING = 0
"""The token that only fills a text up: neither wanted nor recovered."""
DRAWS = 20
"""Batches drawn token by token for the null baseline."""


def text_scores(
    originals: Int64[Tensor, "batch length"], recovered: Int64[Tensor, "batch length"] | None, token_set: Sequence[int]
) -> tuple[dict[str, float], tuple[int, ...]]:
    """The metrics of a reconstruction, and which of its texts belongs to each original.

    Texts come in no order: they are assigned so that as many places as possible agree.

    Args:
        originals: what the client had.
        recovered: what was read; None where only tokens were named, and no texts.
        token_set: the tokens that the batch is said to have.

    Returns:
        `token_set` (the Jaccard index of the named and the true set) and, of texts, `token_accuracy` (share of places),
        `exact_match` (share of texts), `rouge_1`, `rouge_2` and `rouge_l` (means of F1 over the texts).
    """
    from scipy.optimize import linear_sum_assignment  # which takes long to load, for images in vain

    true, named = set(originals.flatten().tolist()) - {PADDING}, set(token_set) - {PADDING}
    metrics = {"token_set": len(true & named) / max(1, len(true | named))}
    if recovered is None:
        return metrics, ()
    counted = originals != PADDING
    agreeing = ((originals[:, None] == recovered[None]) & counted[:, None]).sum(2)
    rows, columns = linear_sum_assignment(-agreeing.numpy())
    pairs = [(_text(originals[row]), _text(recovered[column])) for row, column in zip(rows, columns, strict=True)]
    metrics |= {
        "token_accuracy": float(agreeing[rows, columns].sum()) / max(1, int(counted.sum())),
        "exact_match": fmean(float(original == other) for original, other in pairs),
        "rouge_1": fmean(_rouge_n(*pair, 1) for pair in pairs),
        "rouge_2": fmean(_rouge_n(*pair, 2) for pair in pairs),
        "rouge_l": fmean(_rouge_l(*pair) for pair in pairs),
    }
    return metrics, tuple(columns.tolist())


def token_shares(targets: Int64[Tensor, "*places"], num_tokens: int) -> Float[Tensor, "tokens"]:
    """How often each token stands in texts, for `null_scores`; padding is no token of theirs.

    Args:
        targets: tokens of any texts.
        num_tokens: different tokens there are, padding included.
    """
    counts = targets.flatten().bincount(minlength=num_tokens).double()
    counts[PADDING] = 0
    return counts / counts.sum()


def null_scores(
    originals: Int64[Tensor, "batch length"], shares: Float[Tensor, "tokens"], rng: np.random.Generator
) -> dict[str, float]:
    """What texts score on average whose tokens are drawn one by one: what no update is needed for.

    Args:
        originals: what the client had.
        shares: of each token in the language.
        rng: draws them.
    """
    chances = (shares.double() / shares.double().sum()).numpy()
    draws = []
    for _ in range(DRAWS):
        drawn = torch.from_numpy(rng.choice(len(chances), size=tuple(originals.shape), p=chances))
        drawn = torch.where(originals == PADDING, PADDING, drawn)
        draws.append(text_scores(originals, drawn, drawn.flatten().tolist())[0])
    return {f"{name}_null": fmean(draw[name] for draw in draws) for name in draws[0]}


def _text(row: Int64[Tensor, "length"]) -> list[int]:
    return [token for token in row.tolist() if token != PADDING]


def _f1(common: int, one: int, other: int) -> float:
    return 2 * common / (one + other) if one + other else 1.0


def _rouge_n(original: list[int], recovered: list[int], size: int) -> float:
    one, other = (
        Counter(zip(*(text[start:] for start in range(size)), strict=False)) for text in (original, recovered)
    )
    return _f1((one & other).total(), one.total(), other.total())


def _rouge_l(original: list[int], recovered: list[int]) -> float:
    """By the longest common subsequence."""
    lengths = [0] * (len(recovered) + 1)
    for token in original:
        before = 0
        for place, other in enumerate(recovered, 1):
            before, lengths[place] = (
                lengths[place],
                before + 1 if token == other else max(lengths[place], lengths[place - 1]),
            )
    return _f1(lengths[-1], len(original), len(recovered))
