"""Mechanisms with a defect, planted where people forget something, are told from correct ones by their audit.

Canaries are directions of their own, ten times as long as the clipping bound, in by a coin each; the auditor sees all
that is released and scores a canary by its share of the sum. That attacker is the strongest there is: of the correct
mechanism sqrt(steps) / noise-GDP is the whole truth.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from fedsec.auditing import audit_one_run, one_shot_estimate
from fedsec.defenses import DpFedAvg, DpSgd
from fedsec.privacy import Spending, calibrate, epsilon

CANARIES, STEPS, DELTA = 300, 4, 1e-5
OTHERS = torch.randn(20, CANARIES, generator=torch.Generator().manual_seed(9))
Release = Callable[[Tensor, torch.Generator, float], Tensor]
"""Of rows, noise and a noise multiplier: the sum of the rows that is released."""


def by_clients(rows: Tensor, generator: torch.Generator, noise: float) -> Tensor:
    return DpSgd(noise, max_grad_norm=1.0).noisy_mean(rows, 1.0, generator)


def by_the_server(rows: Tensor, generator: torch.Generator, noise: float) -> Tensor:
    rule = DpFedAvg(noise, clip_norm=1.0)
    rule.prepare(len(rows), 1.0, STEPS)
    return rule(rows, generator=generator) * len(rows)


def audited(release: Release, noise: float, seed: int) -> dict[str, float]:
    """The bounds by method."""
    included = np.random.default_rng(seed).integers(0, 2, CANARIES).astype(bool)
    rows = torch.cat([10 * torch.eye(CANARIES)[included], OTHERS])
    generator = torch.Generator().manual_seed(seed)
    scores = torch.stack([release(rows, generator, noise) for _ in range(STEPS)]).sum(0)
    bounds = audit_one_run(scores.numpy(), included, DELTA)
    return {method: bound.epsilon_lower for method, bound in bounds.items()}


MECHANISMS = pytest.mark.parametrize("release", [by_clients, by_the_server])
FORMAL = pytest.mark.parametrize("formal", [1.0, 4.0])


@MECHANISMS
@FORMAL
def test_a_correct_mechanism_keeps_its_promise(release: Release, formal: float) -> None:
    noise = calibrate(formal, DELTA, 1.0, STEPS)
    assert epsilon([Spending(noise, 1.0, STEPS)], DELTA).value == pytest.approx(formal, rel=0.01)
    bounds = [audited(release, noise, seed) for seed in range(5)]
    for bound in bounds:
        assert bound["approximate_dp"] <= formal
        assert bound["gaussian_dp"] <= formal
    if formal == 4.0:  # and the audit is not blind
        assert np.mean([bound["gaussian_dp"] for bound in bounds]) > 0.2 * formal


@MECHANISMS
@FORMAL
@pytest.mark.parametrize("defect", ["noise forgotten", "clipping forgotten", "sensitivity ten times too small"])
def test_a_defect_is_found(release: Release, formal: float, defect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = calibrate(formal, DELTA, 1.0, STEPS)
    if defect == "clipping forgotten":
        for module in ("dp_sgd", "dp_fedavg"):
            monkeypatch.setattr(f"fedsec.defenses.{module}.bounded_sum", lambda rows, norms, factors: rows.sum(0))
    else:
        noise *= 0.0 if defect == "noise forgotten" else 0.1
    for seed in range(3):
        assert audited(release, noise, seed)["gaussian_dp"] > formal
        assert audited(release, noise, seed)["approximate_dp"] > min(formal, 2.5)  # 4 is beyond its reach


@pytest.mark.parametrize(("formal", "scale", "is_kept"), [(1.0, 1.0, True), (1.0, 0.1, False), (4.0, 0.1, False)])
def test_the_estimate_of_one_shot_tells_them_apart_too(formal: float, scale: float, is_kept: bool) -> None:
    noise, dimension, canaries = scale * calibrate(formal, DELTA, 1.0, 1), 4000, 40
    rows = torch.randn(canaries, dimension, generator=torch.Generator().manual_seed(1))
    rows /= rows.norm(dim=1, keepdim=True)
    released = by_the_server(rows, torch.Generator().manual_seed(2), noise)
    estimate = one_shot_estimate((rows @ released / released.norm()).numpy(), dimension, DELTA)
    assert (estimate.low <= formal) == is_kept
