"""Next token: its loss by hand and under vmap, padding that never counts, its metrics, and what it refuses."""

import math

import pytest
import torch
from torch.func import vmap

from fedsec.errors import InputError
from fedsec.tasks import NextToken

OUTPUTS = torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([[[1, 2, 0, 0], [4, 0, 3, 1], [0, 0, 0, 0]], [[2, 2, 2, 2], [1, 0, 0, 0], [3, 4, 0, 1]]])


def by_hand(outputs: torch.Tensor, targets: torch.Tensor) -> list[float]:
    """The cross-entropy of each place that counts."""
    return [
        -math.log(math.exp(outputs[target, place]) / sum(math.exp(logit) for logit in outputs[:, place]))
        for place, target in enumerate(targets.tolist())
        if target != 0
    ]


def test_losses_are_means_over_places_that_count_also_under_vmap() -> None:
    losses = vmap(NextToken().losses)(OUTPUTS, TARGETS)
    for client in range(2):
        for row in range(3):
            places = by_hand(OUTPUTS[client, row], TARGETS[client, row])
            assert losses[client, row].item() == pytest.approx(sum(places) / max(1, len(places)), rel=1e-5)


def test_metrics_by_hand() -> None:
    outputs, targets = OUTPUTS[0], TARGETS[0]
    places = [loss for row in range(3) for loss in by_hand(outputs[row], targets[row])]
    right = sum(outputs[r, :, p].argmax() == targets[r, p] for r in range(3) for p in range(4) if targets[r, p])
    measured = NextToken(5).measure(outputs, targets)
    assert tuple(measured) == NextToken.metrics
    assert measured["accuracy"] == pytest.approx(int(right) / 5)
    assert measured["loss"] == pytest.approx(sum(places) / 5, rel=1e-6)
    assert measured["perplexity"] == pytest.approx(math.exp(sum(places) / 5), rel=1e-6)
    assert all(math.isnan(value) for value in NextToken().measure(outputs[2:], targets[2:]).values())


def test_the_constant_answer_is_the_unigram() -> None:
    task, targets = NextToken.of_data(5), TARGETS[0]
    measured = task.measure(task.constant_outputs(targets), targets)
    shares = [2 / 5, 1 / 5, 1 / 5, 1 / 5]  # of tokens 1, 2, 3 and 4
    assert measured["accuracy"] == pytest.approx(2 / 5)
    assert measured["loss"] == pytest.approx(-sum(share * math.log(share) for share in shares))


def test_what_are_no_sequences_of_tokens_is_refused() -> None:
    task = NextToken(5)
    task.check_targets(TARGETS[0])
    task.check_outputs((3, 5, 4), 3)
    for wrong, message in (
        (TARGETS[0].float(), "expected targets of torch.int64, got torch.float32"),
        (TARGETS[0, 0], r"expected targets of shape \[examples, length\], got \(4,\)"),
        (TARGETS[0] + 1, r"targets run from 1 to 5; expected 0\.\.4"),
    ):
        with pytest.raises(InputError, match=message):
            task.check_targets(wrong)
    with pytest.raises(InputError, match=r"expected \(3, 5, \.\.\.\): next_token needs 5 logits"):
        task.check_outputs((3, 5), 3)
    with pytest.raises(InputError, match="at least two tokens are needed, got 1"):
        NextToken(1)
    assert (task.strata(TARGETS[0]), task.has_strata) == (None, False)
