"""What an inversion of texts is measured by: characters and ROUGE, each beside characters drawn one by one."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from jaxtyping import Float, Int64
from torch import Tensor

from fedsec.data.text.characters import PADDING, spelled
from fedsec.metrics.texts import null_scores, text_scores
from fedsec.threat.texts import TextReconstruction

__all__ = ["BatchScores", "mean_metrics", "measured", "verdict"]


@dataclass(frozen=True, eq=False)
class BatchScores:
    """How much of one batch was read.

    Attributes:
        metrics: of the batch, as `fedsec.metrics.texts` has them, and each with `_null` of drawn characters.
        texts: of each text its own (`client`), what was `recovered`, and the scores of the pair; none where only tokens
            were named.
        true_tokens: all that the batch has, spelled out in the order of their numbers.
        named_tokens: all that were named, likewise.
    """

    metrics: dict[str, float]
    texts: list[dict[str, Any]]
    true_tokens: str
    named_tokens: str


def measured(
    originals: Int64[Tensor, "batch length"],
    reconstruction: TextReconstruction,
    classes: Sequence[str],
    shares: Float[Tensor, "tokens"],
    rng: np.random.Generator,
) -> BatchScores:
    """Score one batch.

    Args:
        originals: what the client had.
        reconstruction: what was read.
        classes: what each token stands for.
        shares: of each token in the language, for the null baseline.
        rng: draws the baseline's characters.
    """
    named = reconstruction.token_set
    metrics, places = text_scores(originals, reconstruction.tokens, named)
    null = null_scores(originals, shares, rng)
    metrics |= {f"{name}_null": null[f"{name}_null"] for name in metrics}
    texts = []
    if reconstruction.tokens is not None:
        for original, place in zip(originals, places, strict=True):
            recovered = reconstruction.tokens[place]
            pair, _ = text_scores(original[None], recovered[None], named)
            del pair["token_set"]
            words = {"client": spelled(original.tolist(), classes), "recovered": spelled(recovered.tolist(), classes)}
            texts.append(words | pair)
    true = sorted(set(originals.flatten().tolist()))
    return BatchScores(metrics, texts, spelled(true, classes), spelled(sorted(set(named) - {PADDING}), classes))


def mean_metrics(batches: Sequence[BatchScores]) -> dict[str, float]:
    """Means over batches."""
    return {name: fmean(batch.metrics[name] for batch in batches) for name in batches[0].metrics}


def verdict(batches: Sequence[BatchScores]) -> str:
    """How much of the texts can be read, in a sentence or two."""
    metrics = mean_metrics(batches)
    texts = [text for batch in batches for text in batch.texts]
    if not texts:
        same = metrics["token_set"] == 1
        agreement = "is told exactly" if same else f"agrees to {metrics['token_set']:.0%} (Jaccard index)"
        return (
            f"The set of the client's characters {agreement}, in no order; that of as many characters, drawn one by "
            f"one, would agree to {metrics['token_set_null']:.0%}."
        )
    exact, total = sum(text["exact_match"] == 1 for text in texts), len(texts)
    right, drawn = (f"{metrics[name]:.0%}" for name in ("token_accuracy", "token_accuracy_null"))
    if exact == total:
        who = {1: "The text is", 2: "Both texts are"}.get(total, f"All {total} texts are")
        return f"{who} recovered exactly, where characters drawn one by one would be right at {drawn} of the places."
    none = {1: "The text is not", 2: "Neither text is"}.get(total, f"None of the {total} texts is")
    who = f"{exact} of {total} texts {'is' if exact == 1 else 'are'}" if exact else none
    return (
        f"{who} recovered exactly; the right character stands at {right} of the places, where characters drawn one by "
        f"one would at {drawn}."
    )
