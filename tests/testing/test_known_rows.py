"""Known rows: fedsec's attacks have them, and the mistakes that they are there for do not."""

from collections.abc import Callable
from statistics import NormalDist

import pytest
import torch
from torch import Tensor

from fedsec.attacks import ATTACKS, SignFlip
from fedsec.testing import KNOWN_ROWS, check_known_rows, crafting
from fedsec.testing.known_rows import Attack
from fedsec.threat.byzantine.spread import published_z

NORMAL = NormalDist()


@pytest.mark.parametrize("name", sorted({case.attack for case in KNOWN_ROWS}))
def test_fedsecs_attacks(name: str) -> None:
    check_known_rows(name, lambda **options: crafting(ATTACKS[name](**options)))  # type: ignore[arg-type]


def alie(z: float | str, deviation: Callable[[Tensor], Tensor], quantile: Callable[[float], float]) -> Attack:
    def row(honest: Tensor, num_byzantine: int) -> Tensor:
        size = z
        if isinstance(size, str):
            published = published_z(len(honest) + num_byzantine, num_byzantine, size)  # type: ignore[arg-type]
            size = quantile(NORMAL.cdf(published))
        return honest.mean(0) - size * deviation(honest)

    return row


def largest(honest: Tensor, kind: str, bound: Callable[[Tensor], Tensor], total: bool, cap: float = 1e9) -> Tensor:
    mean = honest.mean(0)
    direction = -mean.sign() if kind == "sign" else -mean / mean.norm()
    limit = bound((honest[:, None] - honest).square().sum(2))
    gamma, step = 0.0, 64.0
    for _ in range(60):
        squares = (mean + (gamma + step) * direction - honest).square().sum(1)
        if float(squares.sum() if total else squares.max()) <= float(limit) and gamma + step <= cap:
            gamma += step
        step /= 2
    return mean + gamma * direction


MISTAKES: dict[str, tuple[str, Callable[..., Attack]]] = {
    "Phi": ("alie", lambda z: alie(z, lambda rows: rows.std(0), NORMAL.cdf)),
    "root of the deviation": ("alie", lambda z: alie(z, lambda rows: rows.std(0).sqrt(), NORMAL.inv_cdf)),
    "population deviation": ("alie", lambda z: alie(z, lambda rows: rows.std(0, correction=0), NORMAL.inv_cdf)),
    "smallest sum": (
        "min_sum",
        lambda direction: lambda rows, count: largest(rows, direction, lambda squares: squares.sum(1).min(), True),
    ),
    "cap": (
        "min_max",
        lambda direction: lambda rows, count: largest(rows, direction, torch.max, False, cap=5),
    ),
    "the mean of all numbers": ("ipm", lambda epsilon: lambda rows, count: rows.mean() * -epsilon),
}
RIGHT: dict[str, tuple[str, Callable[..., Attack]]] = {
    "alie": ("alie", lambda z: alie(z, lambda rows: rows.std(0), NORMAL.inv_cdf)),
    "min_max": ("min_max", lambda direction: lambda rows, count: largest(rows, direction, torch.max, False)),
    "min_sum": (
        "min_sum",
        lambda direction: lambda rows, count: largest(rows, direction, lambda squares: squares.sum(1).max(), True),
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_found(mistake: str) -> None:
    name, make = MISTAKES[mistake]
    with pytest.raises(AssertionError, match=r"expected: .* attackers by .* not "):
        check_known_rows(name, make)


@pytest.mark.parametrize("attack", RIGHT)
def test_without_the_mistake_nothing_is_found(attack: str) -> None:
    check_known_rows(*RIGHT[attack])


def test_an_attack_without_known_rows() -> None:
    with pytest.raises(AssertionError, match=r"expected: an attack of alie, .* not 'gaussian'"):
        check_known_rows("gaussian", lambda: crafting(SignFlip()))
