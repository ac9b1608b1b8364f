"""First-order search: (signed) Adam on a batch of problems, with a schedule and a box."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.errors import InputError
from fedsec.matching.cuda_graphs import captured
from fedsec.matching.limits import Deadline

__all__ = ["Descent", "Objective"]

Objective = Callable[[int], tuple[Tensor, Tensor]]
"""iteration -> (loss to minimize, matching loss) of each problem."""

_DROPS = (3 / 8, 5 / 8, 7 / 8)
_MOST = 25
"""Iterations between two looks at the plateau and the best so far."""


@dataclass(frozen=True)
class Descent:
    """How to search.

    Args:
        iterations: at most.
        lr: Adam's learning rate; a tenth of it after 3/8, 5/8 and 7/8 of the iterations each.
        signed: use only the gradient's sign.
        noise: standard deviation of Gaussian noise added to every step, in units of the learning rate.
        plateau: when a problem's matching loss has not fallen by 0.1% within this many iterations, the rest of its
            learning rate's iterations goes to the next lower one; after the last the search ends. Never, if None.
        records: how often, in all, the best so far is looked at, at least.

    Raises:
        InputError: a number out of range.
    """

    iterations: int
    lr: float = 0.1
    signed: bool = True
    noise: float = 0.0
    plateau: int | None = None
    records: int = 100

    def __post_init__(self) -> None:
        if self.iterations < 1 or not self.lr > 0 or not self.noise >= 0:
            raise InputError(
                f"iterations must be at least 1, lr positive and noise not negative, not {self.iterations}, {self.lr} "
                f"and {self.noise}"
            )
        if self.plateau is not None and self.plateau < 1:
            raise InputError(f"plateau must be at least 1, not {self.plateau}")

    def run(
        self,
        objective: Objective,
        variable: Float[Tensor, "problems ..."],
        *,
        record: Callable[[int, Tensor], None],
        fixed: bool = False,
        clamp: Callable[[Tensor], None],
        generator: torch.Generator,
        deadline: Deadline | None = None,
    ) -> None:
        """Search until the iterations, the progress or the time end, but for one iteration at least.

        Args:
            objective: at the variable as it is.
            variable: a leaf that requires gradients; changed in place.
            record: told (iterations done, matching losses) while the variable is still that of these losses.
            clamp: puts the variable back into its box.
            fixed: whether the objective does the same in every iteration; then a GPU runs it as one CUDA graph.
            generator: of the noise.
            deadline: looked at in every iteration.
        """
        deadline = deadline or Deadline()
        adam = _Adam(variable)

        def step(iteration: int = 0) -> tuple[Tensor, Tensor]:
            losses, matching = objective(iteration)
            return torch.autograd.grad(losses.sum(), variable)[0], matching.detach()

        graph = captured(step, variable.device) if fixed else None
        every = max(1, min(self.iterations // self.records, _MOST))
        schedule = _Schedule(len(variable), self.iterations, self.plateau)
        for done in range(self.iterations):
            gradient, matching = graph() if graph is not None else step(done)
            # At least one iteration, however short the time: the start is no result.
            late = deadline.passed and done > 0
            if done % every == 0 or late:
                record(done, matching)
                if late or schedule.over(matching.cpu(), every):
                    return
            if schedule.moved(done) or done == 0:
                rates = (self.lr * 0.1**schedule.drops).to(variable).view(-1, *[1] * (variable.ndim - 1))
            with torch.no_grad():
                adam.step(gradient.sign() if self.signed else gradient, rates)
                if self.noise:
                    variable.add_(torch.randn(variable.shape, generator=generator).to(variable) * rates * self.noise)
                clamp(variable)
        record(self.iterations, objective(self.iterations)[1].detach())


class _Schedule:
    """How often each problem's learning rate has dropped: at fixed times, or before that because it no longer helps."""

    def __init__(self, problems: int, iterations: int, plateau: int | None) -> None:
        self.drops: Float[Tensor, "problems"] = torch.zeros(problems)
        self._times = [int(share * iterations) for share in _DROPS]
        self._plateau = plateau
        self._best = torch.full((problems,), torch.inf)
        self._since = torch.zeros(problems)
        self._changed = False

    def over(self, losses: Float[Tensor, "problems"], passed: int) -> bool:
        """Take note of losses, so many iterations after the last ones; whether no problem improves any more."""
        if self._plateau is None:
            return False
        fell = losses < 0.999 * self._best
        self._best = torch.minimum(self._best, losses)
        self._since = torch.where(fell, 0, self._since + passed)
        stalled = self._since >= self._plateau
        self.drops[stalled] += 1
        self._since[stalled] = 0
        self._changed |= bool(stalled.any())
        return bool((self.drops > len(_DROPS)).all())

    def moved(self, iteration: int) -> bool:
        """Whether a rate is another one from this iteration on."""
        due = sum(iteration >= time for time in self._times)
        changed = self._changed or bool((self.drops < due).any())
        self.drops.clamp_(min=due)
        self._changed = False
        return changed


class _Adam:
    """Adam with its usual decay rates on one tensor. (`torch.optim` takes seconds to import: it loads the compiler.)

    Reference: Kingma, Ba, ICLR 2015, arXiv:1412.6980
    """

    def __init__(self, variable: Tensor) -> None:
        self._variable = variable
        self._mean, self._square = torch.zeros_like(variable), torch.zeros_like(variable)
        self._steps = 0

    def step(self, gradient: Tensor, rates: Tensor) -> None:
        self._steps += 1
        self._mean.lerp_(gradient, 0.1)
        self._square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        scale = (self._square / (1 - 0.999**self._steps)).sqrt_().add_(1e-8)
        self._variable.addcdiv_(self._mean * rates, scale, value=-1 / (1 - 0.9**self._steps))
