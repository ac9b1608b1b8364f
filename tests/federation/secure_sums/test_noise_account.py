"""What the noise that clients add to their own updates costs them, beside formulas that use no accountant."""

from math import exp, log, sqrt

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import norm

from fedsec.defense.noise_share import NoiseShare
from fedsec.federation.user_privacy import Releases

DELTA = 1e-3


def spent(share: NoiseShare, noises: int, rounds: int) -> float:
    releases = Releases.of_noises(share, 10, noises)
    for _ in range(rounds):
        releases.spend()
    return releases.epsilon().value


def hockey_stick(epsilon: float, std: float, gap: float) -> float:
    """max over events of P(event) - e^eps Q(event) for normal sums whose means are apart by a gap: by integration."""

    def excess(point: float) -> float:
        there, here = norm.pdf(point, gap, std), norm.pdf(point, 0, std)
        return max(0.0, float(there - exp(epsilon) * here))

    # The densities' ratio passes e^eps at one place.
    place = gap / 2 + std**2 * epsilon / gap
    return float(quad(excess, place, place + 12 * std, limit=200)[0])


@pytest.mark.parametrize(("noises", "rounds"), [(10, 1), (7, 1), (7, 5)])
def test_epsilon_is_that_of_the_noise_that_is_left_in_the_smallest_sum(noises: int, rounds: int) -> None:
    # Ten clients of bound S = 0.5 share z = 2: of `noises` of them a sum has a deviation of z S sqrt(noises / 10), and
    # all rounds together are one release whose mean moves by S sqrt(rounds).
    share = NoiseShare(2.0, 10, 0.5, DELTA, "prv")
    assert share.std == pytest.approx(2.0 * 0.5 / sqrt(10), rel=1e-12)
    std, gap = share.std * sqrt(noises), 0.5 * sqrt(rounds)
    exact = brentq(lambda epsilon: hockey_stick(epsilon, std, gap) - DELTA, 1e-3, 20)
    assert spent(share, noises, rounds) == pytest.approx(exact, abs=0.02)
    bound = NoiseShare(2.0, 10, 0.5, DELTA, "rdp")
    orders = np.linspace(1.01, 200, 20_000)
    renyi = orders * gap**2 / (2 * std**2)  # Mironov 2017, proposition 7, added up over the rounds
    classic = float((renyi + log(1 / DELTA) / (orders - 1)).min())
    assert exact <= spent(bound, noises, rounds) <= classic * (1 + 1e-3)


def test_a_sum_of_clients_has_the_noise_that_is_accounted() -> None:
    share, generator = NoiseShare(2.0, 8, 0.5), torch.Generator().manual_seed(0)
    total = sum(share.std * torch.randn(20_000, generator=generator) for _ in range(6))
    assert isinstance(total, torch.Tensor)
    assert float(total.std()) == pytest.approx(share.cost(6).noise_multiplier * 0.5, rel=0.03)
