"""LiRA against its likelihoods written out, and against the best test where that is known."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor

from fedsec.attacks import LiraOffline, LiraOnline, LossThreshold
from fedsec.errors import InputError
from fedsec.threat import MembershipView, ShadowModels

GAIN = 1.5
"""By how many deviations the signal of a member is higher."""


def normal_view(models: int = 400, examples: int = 4000, spread: float = 3.0) -> tuple[Tensor, MembershipView]:
    """Signals N(hardness + GAIN * member, 1), hardness of any size."""
    generator = torch.Generator().manual_seed(0)
    hardness = spread * torch.randn(examples, generator=generator)
    members = torch.arange(examples) < examples // 2
    inside = torch.rand(models, examples, generator=generator).argsort(0) < models // 2
    shadows = hardness + GAIN * inside + torch.randn(models, examples, generator=generator)
    seen = hardness + GAIN * members + torch.randn(1, examples, generator=generator)
    return members, MembershipView(seen, (1,), ShadowModels(shadows, inside))


def auc(scores: Tensor, members: Tensor) -> float:
    """The share of pairs in the right order."""
    return float((scores[members][:, None] > scores[~members][None]).double().mean())


def test_it_is_the_best_test_of_normal_signals() -> None:
    members, view = normal_view()
    best = float(norm.cdf(GAIN / 2**0.5))
    for variance in ("global", "per_example"):
        assert auc(LiraOnline(variance).infer(view), members) == pytest.approx(best, abs=0.015)
    assert auc(LiraOffline("global").infer(view), members) == pytest.approx(best, abs=0.015)
    blunt = float(norm.cdf(GAIN / (2 * (1 + 9)) ** 0.5))
    assert auc(LossThreshold().infer(view), members) == pytest.approx(blunt, abs=0.02)


@pytest.mark.parametrize("variance", ["auto", "global", "per_example"])
def test_scores_are_log_likelihood_ratios(variance: Any) -> None:
    _, view = normal_view(12, 30)
    assert view.shadows is not None
    signals, inside = view.shadows.logits.double().numpy(), view.shadows.members.numpy()
    seen = view.logits[0].double().numpy()
    both, offline = LiraOnline(variance).infer(view), LiraOffline(variance).infer(view)
    sides = {}
    for side, chosen in (("in", inside), ("out", ~inside)):
        rows = [signals[chosen[:, x], x] for x in range(30)]
        deviations = np.array([row.std(ddof=1) for row in rows])
        if variance != "per_example":  # auto: 12 models are fewer than 64
            deviations[:] = np.sqrt((deviations**2).mean())  # each example has six on each side
        sides[side] = norm(np.array([row.mean() for row in rows]), deviations)
    expected = sides["in"].logpdf(seen) - sides["out"].logpdf(seen)
    assert np.allclose(both.numpy(), expected)
    order = np.argsort(sides["out"].cdf(seen), kind="stable")
    assert np.allclose(sides["out"].cdf(seen)[order], norm.cdf(offline.numpy())[order])


def test_auto_means_per_example_from_64_models_on() -> None:
    _, view = normal_view(64, 20)
    assert torch.equal(LiraOnline().infer(view), LiraOnline("per_example").infer(view))
    assert not torch.equal(LiraOnline().infer(view), LiraOnline("global").infer(view))


def test_too_few_shadow_models_are_refused() -> None:
    inside = torch.zeros(3, 4, dtype=torch.bool)
    inside[:2, 0] = True
    view = MembershipView(torch.zeros(1, 4), (1,), ShadowModels(torch.zeros(3, 4), inside))
    with pytest.raises(InputError, match="LiraOnline: 3 examples have fewer than 1 shadow models trained with them"):
        LiraOnline().infer(view)
    with pytest.raises(InputError, match=r"1 examples have fewer than 2 .* without them; .* or variance global"):
        LiraOffline("per_example").infer(view)
    alone = MembershipView(torch.zeros(1, 2), (1,), ShadowModels(torch.zeros(1, 2), torch.zeros(1, 2).bool()))
    with pytest.raises(InputError, match="one shadow model without each example tells no variance"):
        LiraOffline().infer(alone)
    with pytest.raises(InputError, match="variance must be"):
        LiraOnline("fixed")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="variance must be"):
        LiraOffline("fixed")  # type: ignore[arg-type]


def test_shadow_signals_that_do_not_vary_give_finite_scores() -> None:
    inside = torch.tensor([[True, False], [True, False], [False, True], [False, True]])
    view = MembershipView(torch.zeros(1, 2), (1,), ShadowModels(torch.zeros(4, 2), inside))
    assert bool(LiraOnline().infer(view).isfinite().all())
