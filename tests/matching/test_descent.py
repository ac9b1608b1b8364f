"""Adam against PyTorch's, the schedule, plateaus and the box."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fedsec.errors import InputError
from fedsec.matching.descent import Descent
from fedsec.matching.limits import Deadline

GOAL = torch.tensor([[0.33, -2.07, 5.05], [1.07, 1.13, -0.91]])


def objective_of(variable: Tensor, rates: list[Tensor] | None = None):  # type: ignore[no-untyped-def]
    def objective(iteration: int) -> tuple[Tensor, Tensor]:
        if rates is not None:
            rates.append(variable.detach().clone())
        losses = (variable - GOAL).square().sum(1)
        return losses, losses

    return objective


def search(descent: Descent, record=None, clamp=lambda variable: None, **options):  # type: ignore[no-untyped-def]
    variable = torch.zeros(2, 3, requires_grad=True)
    path: list[Tensor] = []
    descent.run(
        objective_of(variable, path),
        variable,
        record=record or (lambda iteration, losses: None),
        clamp=clamp,
        generator=torch.Generator().manual_seed(0),
        **options,
    )
    return variable.detach(), path


@pytest.mark.parametrize("signed", [False, True])
def test_steps_are_those_of_adam_with_the_schedule(signed: bool) -> None:
    found, _ = search(Descent(40, lr=0.2, signed=signed))
    expected = torch.zeros(2, 3, requires_grad=True)
    optimizer = torch.optim.Adam([expected], lr=0.2)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [15, 25, 35], 0.1)
    for _ in range(40):
        optimizer.zero_grad()
        (expected - GOAL).square().sum().backward()
        if signed:
            expected.grad.sign_()
        optimizer.step()
        schedule.step()
    assert torch.allclose(found, expected, atol=1e-5)


def test_records_hold_the_losses_of_the_variable_as_it_is() -> None:
    seen: list[tuple[int, Tensor]] = []
    variable = torch.zeros(2, 3, requires_grad=True)

    def record(iteration: int, losses: Tensor) -> None:
        seen.append((iteration, losses.clone()))
        assert torch.allclose(losses, (variable.detach() - GOAL).square().sum(1))

    descent = Descent(50, records=5)
    descent.run(
        objective_of(variable),
        variable,
        record=record,
        clamp=lambda _: None,
        generator=torch.Generator().manual_seed(0),
    )
    assert [iteration for iteration, _ in seen] == [0, 10, 20, 30, 40, 50]


def test_a_plateau_ends_each_rate_early() -> None:
    _, full = search(Descent(2000, lr=0.1))
    found, short = search(Descent(2000, lr=0.1, plateau=50))
    assert len(short) < len(full) / 2
    assert torch.allclose(found, GOAL, atol=1e-2)


def test_the_clock_is_read_in_every_iteration_and_the_last_one_is_recorded(looks: Callable[[int], Deadline]) -> None:
    records: list[int] = []
    _, path = search(
        Descent(100, records=1), record=lambda iteration, losses: records.append(iteration), deadline=looks(7)
    )
    assert len(path) == 8
    assert records == [0, 7]


def test_clamp_holds_after_every_step() -> None:
    found, path = search(Descent(200, noise=0.5), clamp=lambda variable: variable.clamp_(-1, 1))
    assert max(float(point.abs().max()) for point in path) <= 1
    assert torch.allclose(found, GOAL.clamp(-1, 1), atol=0.05)


@pytest.mark.parametrize("wrong", [{"iterations": 0}, {"lr": 0.0}, {"noise": -1.0}, {"plateau": 0}])
def test_numbers_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="must be"):
        Descent(**{"iterations": 10, **wrong})  # type: ignore[arg-type]


def test_a_plateau_of_one_problem_leaves_the_others_alone() -> None:
    def run(rows: slice) -> Tensor:
        goal = torch.tensor([[0.0, 0.0, 0.0], [5.05, -3.07, 8.11]])[rows]  # the first starts at its minimum
        variable = torch.zeros(goal.shape, requires_grad=True)

        def objective(iteration: int) -> tuple[Tensor, Tensor]:
            losses = (variable - goal).square().sum(1)
            return losses, losses

        Descent(300, lr=0.1, signed=False, plateau=20).run(
            objective,
            variable,
            record=lambda iteration, losses: None,
            clamp=lambda _: None,
            generator=torch.Generator().manual_seed(0),
        )
        return variable.detach()

    assert torch.allclose(run(slice(0, 2))[1], run(slice(1, 2))[0], atol=1e-6)
