"""Cosines and differences against the vectors that they are of."""

import torch
import torch.nn.functional as F

from fedsec.attacks import GradientCosine, GradientDifference
from fedsec.threat import GradientProducts, MembershipView

GRADIENTS = torch.randn(2, 5, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
UPDATES = torch.randn(2, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + GRADIENTS[:, 0]
VIEW = MembershipView(
    torch.zeros(1, 5),
    updates=GradientProducts(
        torch.einsum("rxd,rd->rx", GRADIENTS, UPDATES).float(),
        GRADIENTS.norm(dim=2).float(),
        UPDATES.norm(dim=1).float(),
    ),
)


def test_cosines_are_those_of_the_vectors() -> None:
    expected = F.cosine_similarity(GRADIENTS, UPDATES[:, None], dim=2).mean(0)
    scores = GradientCosine().infer(VIEW)
    assert torch.allclose(scores, expected, atol=1e-5)
    assert scores.argmax() == 0


def test_differences_are_what_the_update_loses() -> None:
    shorter = (UPDATES[:, None] - GRADIENTS).square().sum(2)
    expected = (UPDATES.square().sum(1)[:, None] - shorter).sum(0)
    scores = GradientDifference().infer(VIEW)
    assert torch.allclose(scores, expected, atol=1e-4)
    assert scores.argmax() == 0


def test_nothing_follows_from_gradients_and_updates_that_are_zero() -> None:
    products = GradientProducts(torch.zeros(1, 2), torch.tensor([[0.0, 1.0]]), torch.zeros(1))
    view = MembershipView(torch.zeros(1, 2), updates=products)
    assert GradientCosine().infer(view).tolist() == [0, 0]
    assert GradientDifference().infer(view).tolist() == [0, -1]
