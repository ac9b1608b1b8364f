"""What is done to gradients and activations at a cut, against closed forms, brute force and slow loops."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from fedsec.defenses import CutClip, CutNoise, DistanceCorrelation, Marvell, MaxNorm
from fedsec.defenses.distance_correlation import distance_correlation
from fedsec.defenses.marvell import divergence, least_divergence
from fedsec.errors import InputError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("first", "second", "width", "share", "power"),
    [
        (0.2, 0.5, 8, 0.1, 3.0),
        (0.5, 0.2, 8, 0.1, 3.0),
        (0.01, 2.0, 30, 0.5, 0.5),
        (0.3, 0.3, 5, 0.3, 4.0),
        (0.1, 0.4, 1, 0.4, 1.0),
        (0.1, 0.2, 100, 0.2, 50.0),
    ],
)
def test_marvell_finds_the_four_best_numbers(
    first: float, second: float, width: int, share: float, power: float
) -> None:
    square, others = 1.7, width - 1

    def value(numbers: np.ndarray) -> float:
        a, b, c, d = (torch.tensor(number, dtype=torch.float64) for number in numbers)
        return float(divergence((a, b), (c, d), (first, second), width, square))

    def spent(numbers: np.ndarray) -> float:
        a, b, c, d = numbers
        return float(share * (b + others * d) + (1 - share) * (a + others * c))

    along, across = least_divergence(first, second, width, square, share, power)
    ours = np.array([*along, *across])
    assert spent(ours) <= power * (1 + 1e-9)
    assert ours.min() >= 0
    rng, best = np.random.default_rng(0), math.inf
    for _ in range(12):
        start = rng.random(4) * power / 4
        found = minimize(
            value,
            start,
            method="SLSQP",
            bounds=[(0, None)] * 4,
            constraints={"type": "ineq", "fun": lambda x: power - spent(x)},
        )
        if spent(found.x) <= power * (1 + 1e-6):
            best = min(best, float(found.fun))
    assert value(ours) <= best * (1 + 1e-5)


def test_the_divergence_is_that_of_two_gaussians() -> None:
    variances, along, across, width = (0.2, 0.5), (0.3, 0.1), (0.2, 0.4), 4
    mean = np.array([1.3, 0, 0, 0])
    covariances = [np.diag([a + v] + [c + v] * 3) for a, c, v in zip(along, across, variances, strict=True)]
    total = 0.0
    for one, other in ((0, 1), (1, 0)):
        inverse = np.linalg.inv(covariances[other])
        log = np.log(np.linalg.det(covariances[other]) / np.linalg.det(covariances[one]))
        total += (np.trace(inverse @ covariances[one]) + mean @ inverse @ mean - width + log) / 2
    tensors = [tuple(torch.tensor(number, dtype=torch.float64) for number in pair) for pair in (along, across)]
    ours = divergence(tensors[0], tensors[1], variances, width, 1.3**2)  # type: ignore[arg-type]
    assert float(ours) / 2 - width == pytest.approx(total)


def test_marvells_noise_has_its_power_and_lies_where_labels_differ() -> None:
    labels = (torch.arange(4000) % 4 == 0).long()
    means = torch.zeros(2, 5)
    means[1, 0] = 2.0
    gradients = means[labels] + 0.5 * torch.randn(4000, 5, generator=generator())
    noise = Marvell(power=3.0).passed_on(gradients, labels, generator(1)) - gradients
    assert float(noise.square().sum(1).mean()) == pytest.approx(3.0 * 4.0, rel=0.1)
    assert float(noise[:, 0].square().mean()) > 100 * float(noise[:, 1:].square().mean())
    single = torch.zeros(4, dtype=torch.int64)
    assert torch.equal(Marvell().passed_on(gradients[:4], single, generator()), gradients[:4])
    with pytest.raises(InputError, match="made for two classes"):
        Marvell().passed_on(gradients[:3], torch.arange(3), generator())


def test_norms_after_noise_are_those_of_the_longest() -> None:
    gradients = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]]).repeat(5000, 1)
    labels = torch.zeros(15000, dtype=torch.int64)
    sent = MaxNorm().passed_on(gradients, labels, generator())
    assert float(sent[1::3].square().sum(1).mean()) == pytest.approx(25, rel=0.1)
    assert torch.equal(sent[::3], gradients[::3])
    assert not sent[2::3].any()
    added = CutNoise(2.0).passed_on(gradients, labels, generator()) - gradients
    assert float(added.square().sum(1).mean()) == pytest.approx(2 * 25, rel=0.05)
    clipped = CutClip(1.0).passed_on(gradients[:3], labels[:3], generator())
    torch.testing.assert_close(clipped, torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]]))


def test_distance_correlation_is_that_of_its_definition() -> None:
    x, y = (torch.randn(7, width, generator=generator(width), dtype=torch.float64) for width in (3, 5))
    y[:, 0] += 2 * x[:, 0]

    def centered(rows: np.ndarray) -> np.ndarray:
        count = len(rows)
        d = np.array([[np.linalg.norm(rows[i] - rows[j]) for j in range(count)] for i in range(count)])
        return np.array(
            [[d[i, j] - d[i].mean() - d[:, j].mean() + d.mean() for j in range(count)] for i in range(count)]
        )

    a, b = centered(x.numpy()), centered(y.numpy())
    expected = math.sqrt((a * b).mean() / math.sqrt((a * a).mean() * (b * b).mean()))
    assert float(distance_correlation(x, y)) == pytest.approx(expected, rel=1e-4)
    assert float(distance_correlation(x, 3 * x)) == pytest.approx(1, rel=1e-6)
    assert DistanceCorrelation(0.0).penalize(x, y) is None
    assert DistanceCorrelation().penalize(x[:1], y[:1]) is None
