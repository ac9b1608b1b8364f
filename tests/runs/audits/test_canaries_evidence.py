"""Coins from sums: least squares knows what each canary would have added."""

import numpy as np
import torch

from fedsec.runs.audits.canaries_evidence import Evidence


def test_coins_of_canaries_that_resemble_each_other_are_told_apart() -> None:
    """Gradients nearly alike: what one adds shows along all others, and only all together give the coins away."""
    generator = torch.Generator().manual_seed(1)
    common = torch.randn(40, generator=generator)
    gradients = common + 0.3 * torch.randn(12, 40, generator=generator)
    coins = (torch.rand(12, generator=generator) < 0.5).float()
    residual = 0.1 * ((coins - 0.5) @ gradients)
    evidence = Evidence.none(12)
    for _ in range(30):
        evidence.add(gradients, residual, 0.1)
    assert np.array_equal(evidence.coins() > 0, coins.bool().numpy())
    aligned = (gradients @ residual).numpy()
    assert len(set((aligned > 0).tolist())) == 1  # each alone says the same of everybody


def test_one_canary_is_scored_by_its_own_alignment_and_noise_counts_little() -> None:
    evidence = Evidence.none(1)
    evidence.add(torch.tensor([[3.0, 4.0]]), torch.tensor([1.0, 1.0]), 2.0)
    # Products 25 and 7, step 2, variance 1: (4 * 25 + 4)^-1 * 2 * 7.
    assert np.allclose(evidence.coins(), 14 / 104)
    evidence.add(torch.tensor([[3.0, 4.0]]), torch.zeros(2), 2.0)
    assert np.allclose(evidence.coins(), 14 / 104)


def test_evidence_goes_through_a_checkpoint() -> None:
    evidence, other = Evidence.none(2), Evidence.none(2)
    evidence.add(torch.eye(2), torch.tensor([1.0, -2.0]), 1.0)
    other.restore(evidence.state())
    assert np.array_equal(other.coins(), evidence.coins())
    evidence.add(torch.eye(2), torch.tensor([1.0, -2.0]), 1.0)
    assert not np.array_equal(other.coins(), evidence.coins())
