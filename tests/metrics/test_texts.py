"""Scores of texts: by hand, in any order, beside drawing at random."""

import numpy as np
import pytest
import torch

from fedsec.metrics.texts import null_scores, text_scores

ORIGINALS = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0]])


def test_what_is_found_in_another_order_is_found() -> None:
    metrics, places = text_scores(ORIGINALS, ORIGINALS.flip(0), [1, 2, 3, 4, 5, 6])
    assert places == (1, 0)
    assert set(metrics.values()) == {1.0}


def test_scores_by_hand() -> None:
    found = torch.tensor([[1, 3, 2, 4], [5, 7, 0, 0]])
    metrics, places = text_scores(ORIGINALS, found, [1, 2, 3, 4, 5, 7, 0])
    assert places == (0, 1)
    assert metrics == {
        "token_set": 5 / 7,
        "token_accuracy": 3 / 6,
        "exact_match": 0.0,
        "rouge_1": pytest.approx((1 + 0.5) / 2),
        "rouge_2": 0.0,
        "rouge_l": pytest.approx((0.75 + 0.5) / 2),
    }
    # 1 2 3 4 and 2 3 4 9 share two of three pairs of neighbors, and 2 3 4.
    shifted, _ = text_scores(ORIGINALS[:1], torch.tensor([[2, 3, 4, 9]]), [2])
    assert shifted["rouge_2"] == pytest.approx(2 / 3)
    assert shifted["rouge_l"] == pytest.approx(3 / 4)
    assert text_scores(ORIGINALS, None, [1, 2])[0] == {"token_set": 2 / 6}


def test_the_null_baseline_is_what_drawing_scores() -> None:
    originals = torch.randint(1, 5, (1, 400), generator=torch.Generator().manual_seed(0))
    null = null_scores(originals, torch.tensor([0.0, 1, 1, 1, 1]), np.random.default_rng(0))
    assert null["token_accuracy_null"] == pytest.approx(1 / 4, abs=0.02)
    assert null["exact_match_null"] == 0
    certain = null_scores(torch.tensor([[3, 3, 0]]), torch.tensor([0.0, 0, 0, 1]), np.random.default_rng(0))
    assert certain["token_accuracy_null"] == certain["exact_match_null"] == 1
