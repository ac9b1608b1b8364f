"""Batched L-BFGS against known minima, and each problem against itself alone."""

import pytest
import torch
from torch import Tensor

from fedsec.matching.lbfgs import LBFGS


def gradient_of(function):  # type: ignore[no-untyped-def]
    def evaluate(points: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        points = points.detach().requires_grad_()
        losses = function(points, which)
        return losses, torch.autograd.grad(losses.sum(), points)[0]

    return evaluate


def rosenbrock(points: Tensor, which: Tensor) -> Tensor:
    left, right = points[:, :-1], points[:, 1:]
    return (100 * (right - left**2) ** 2 + (1 - left) ** 2).sum(1)


def starts(problems: int, size: int) -> Tensor:
    return torch.randn(problems, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_each_problem_reaches_a_minimum() -> None:
    search = LBFGS(gradient_of(rosenbrock), starts(6, 20))
    search.run(500)
    slopes = gradient_of(rosenbrock)(search.points, torch.arange(6))[1]
    assert slopes.abs().max() < 1e-2
    assert (search.losses < 1e-12).sum() >= 4  # there is a second, local minimum near (-1, 1, ..., 1)
    assert search.finished.all()


def test_a_problem_does_not_depend_on_the_others() -> None:
    start = starts(5, 12)
    together = LBFGS(gradient_of(rosenbrock), start)
    together.run(60)
    for row in range(5):
        alone = LBFGS(gradient_of(rosenbrock), start[row : row + 1])
        alone.run(60)
        assert torch.allclose(alone.points[0], together.points[row], rtol=1e-7, atol=1e-9)


def test_ill_conditioned_quadratics_with_their_own_targets() -> None:
    scales = torch.logspace(0, 5, 15, dtype=torch.float64)
    targets = starts(4, 15)

    def quadratic(points: Tensor, which: Tensor) -> Tensor:
        return (scales * (points - targets[which]) ** 2).sum(1)

    search = LBFGS(gradient_of(quadratic), torch.zeros(4, 15, dtype=torch.float64))
    search.run(100)
    assert torch.allclose(search.points, targets, atol=1e-5)


def test_changed_functions_are_searched_again() -> None:
    goal = torch.zeros(1, 3)

    def distance(points: Tensor, which: Tensor) -> Tensor:
        return ((points - goal) ** 2).sum(1)

    search = LBFGS(gradient_of(distance), torch.ones(1, 3))
    search.run(10)
    assert search.points.abs().max() < 1e-4
    goal += 2
    search.run(10)
    assert search.points.abs().max() < 1e-4, "finished problems rest"
    search.run(10, changed=True)
    assert torch.allclose(search.points, goal, atol=1e-4)


@pytest.mark.parametrize("hole", [torch.inf, torch.nan])
def test_losses_that_are_not_finite_are_stepped_back_from(hole: float) -> None:
    def guarded(points: Tensor, which: Tensor) -> Tensor:
        value = (points - 1).square().sum(1) - 0.1 * (2 - points).clamp_min(1e-9).log().sum(1)
        return value.masked_fill((points >= 2).any(1), hole)

    search = LBFGS(gradient_of(guarded), torch.full((2, 4), -50.0, dtype=torch.float64))
    search.run(100)
    assert search.points.isfinite().all()
    assert (search.points - 0.951).abs().max() < 0.01


def test_losses_never_rise() -> None:
    search = LBFGS(gradient_of(rosenbrock), starts(3, 8))
    before = torch.full((3,), torch.inf, dtype=torch.float64)
    for _ in range(30):
        search.run(1)
        assert (search.losses <= before).all()
        before = search.losses.clone()
