"""L-BFGS on many independent problems at once, each with its own strong-Wolfe line search.

All problems that still search evaluate together, as one batch; a problem's result does not depend on which others
run beside it, but for the rounding of batched operations.

Reference: Nocedal, Wright, Numerical Optimization, 2nd ed. 2006, algorithms 7.4, 3.5 and 3.6.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from math import inf, isfinite, sqrt

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from fedsec.matching.limits import Deadline

__all__ = ["LBFGS", "Evaluate"]

Evaluate = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(points [some, n], their problems' numbers [some]) -> (losses [some], gradients [some, n])."""

_DECREASE, _CURVATURE = 1e-4, 0.9


class LBFGS:
    """Minimizes one function a row.

    Args:
        evaluate: losses and gradients at the given rows; see `Evaluate`.
        start: where each problem begins.
        history: how many past steps shape the direction.
        line_search: evaluations in one line search, at most.
        tolerance: a problem is finished when no entry of its gradient is larger.
        least_change: or when an iteration lowered its loss by less than this share of it.

    Attributes:
        points: where each problem stands.
        losses: there.
        finished: which have converged, or cannot get any lower.
        iterations: done so far.
        evaluations: of a single problem, summed over all.
    """

    def __init__(
        self,
        evaluate: Evaluate,
        start: Float[Tensor, "problems n"],
        *,
        history: int = 50,
        line_search: int = 25,
        tolerance: float = 1e-12,
        least_change: float = 1e-9,
    ) -> None:
        self.evaluate = evaluate
        self.history, self.line_search = history, line_search
        self.tolerance, self.least_change = tolerance, least_change
        self.points: Float[Tensor, "problems n"] = start.detach().clone()
        self.losses: Float[Tensor, "problems"] = start.new_full((len(start),), inf)
        self.finished: Bool[Tensor, "problems"] = torch.zeros(len(start), dtype=torch.bool)
        self.iterations = self.evaluations = 0
        self._gradients = torch.zeros_like(self.points)
        self._memory = _Memory(history, self.points)
        self._deadline = Deadline()

    def run(self, iterations: int, *, changed: bool = False, deadline: Deadline | None = None) -> None:
        """Go on for so many iterations, or until every problem is finished, or the time is up.

        Args:
            iterations: at most.
            changed: the function is another one than before: it is evaluated anew where the problems stand, and
                finished problems search again. What was learned about its curvature is kept.
            deadline: looked at after every evaluation; an iteration that it cuts short takes its problems to the best
                points that they have tried. However short the time, one iteration is begun.
        """
        self._deadline = deadline or Deadline()
        if changed or not self.evaluations:
            self.finished[:] = False
            self.losses, self._gradients = self._evaluate(self.points, torch.arange(len(self.points)))
        for _ in range(iterations):
            live = (~self.finished).nonzero().flatten()
            if not len(live) or (self.iterations > 0 and self._deadline.passed):
                break
            self._step(live)
            self.iterations += 1

    def _evaluate(self, points: Tensor, which: Int64[Tensor, "some"]) -> tuple[Tensor, Tensor]:
        self.evaluations += len(which)
        losses, gradients = self.evaluate(points, which)
        return losses.detach(), gradients.detach()

    def _step(self, live: Int64[Tensor, "live"]) -> None:
        gradients = self._gradients[live]
        directions = self._memory.directions(gradients, live)
        slopes = (directions * gradients).sum(1)
        uphill = ~(slopes < 0)
        if bool(uphill.any()):
            self._memory.forget(live[uphill.cpu()])
            directions[uphill] = -gradients[uphill]
            slopes = (directions * gradients).sum(1)
        first = 1 / gradients.abs().sum(1).clamp_min(1e-30)
        lengths = torch.where(self._memory.empty(live), first.clamp_max(1), torch.ones_like(first))
        steps_found, complete = self._search(live, directions, slopes.tolist(), lengths.tolist())
        moved = torch.tensor([step is not None for step in steps_found])
        largest = gradients.abs().amax(1).cpu()
        # A failed search starts over along the gradient; if that fails too, the problem is finished.
        stuck = ~moved & complete & self._memory.empty(live).cpu()
        self._memory.forget(live[~moved & complete & ~stuck])
        before = self.losses[live].cpu()
        if bool(moved.any()):
            rows = live[moved]
            lengths_found, losses, new_gradients = zip(*(step for step in steps_found if step is not None), strict=True)
            where = moved.to(directions.device)
            steps = torch.tensor(lengths_found).to(directions)[:, None] * directions[where]
            new = torch.stack(new_gradients)
            self._memory.add(rows, steps, new - gradients[where])
            self.points[rows] += steps
            self.losses[rows] = torch.tensor(losses).to(self.losses)
            self._gradients[rows] = new
            largest[moved] = new.abs().amax(1).cpu()
        gain = before - self.losses[live].cpu()
        stalled = moved & complete & (gain <= self.least_change * before.abs())
        self.finished[live] = stuck | (largest <= self.tolerance) | stalled

    def _search(
        self, live: Tensor, directions: Tensor, slopes: list[float], lengths: list[float]
    ) -> tuple[list[tuple[float, float, Tensor] | None], Bool[Tensor, "live"]]:
        """(step length, loss, gradient) for each live problem, or None where there is none; whether its search ended.

        Those that ran out of time give the best that they have tried, if that is better than nothing.
        """
        losses = self.losses[live].tolist()
        searches = [
            _strong_wolfe(loss, slope, length, self.line_search)
            for loss, slope, length in zip(losses, slopes, lengths, strict=True)
        ]
        asked = {index: next(search) for index, search in enumerate(searches)}
        tried: list[dict[float, tuple[float, Tensor]]] = [{} for _ in searches]
        steps: list[tuple[float, float, Tensor] | None] = [None] * len(searches)
        while asked:
            if any(tried) and self._deadline.passed:
                break
            indices = torch.tensor(list(asked))
            trial = torch.tensor(list(asked.values())).to(directions)[:, None] * directions[indices]
            trial += self.points[live[indices]]
            values, gradients = self._evaluate(trial, live[indices])
            along = (gradients * directions[indices]).sum(1).tolist()
            answers = zip(list(asked.items()), values.tolist(), along, gradients, strict=True)
            for (index, length), value, slope, gradient in answers:
                tried[index][length] = value, gradient
                try:
                    asked[index] = searches[index].send((value, slope))
                except StopIteration as stop:
                    del asked[index]
                    if stop.value is not None:
                        steps[index] = (stop.value, *tried[index][stop.value])
                        tried[index].clear()
        complete = torch.ones(len(searches), dtype=torch.bool)
        for index in asked:
            complete[index] = False
            better = [(loss, length, gradient) for length, (loss, gradient) in tried[index].items()]
            loss, length, gradient = min(better, key=lambda trial: trial[0] if isfinite(trial[0]) else inf)
            if loss < losses[index]:
                steps[index] = length, loss, gradient
        return steps, complete


class _Memory:
    """The last steps and gradient differences of every problem."""

    def __init__(self, size: int, like: Float[Tensor, "problems n"]) -> None:
        problems = len(like)
        self.steps: list[Tensor] = []
        self.changes: list[Tensor] = []
        self.inverse: list[Tensor] = []
        self.size = size
        self.scale = like.new_zeros(problems)
        self.like = like

    def empty(self, which: Tensor) -> Bool[Tensor, "some"]:
        return self.scale[which] == 0

    def forget(self, which: Tensor) -> None:
        self.scale[which] = 0
        for inverse in self.inverse:
            inverse[which] = 0

    def add(self, which: Tensor, steps: Float[Tensor, "some n"], changes: Float[Tensor, "some n"]) -> None:
        curvature = (steps * changes).sum(1)
        length = (changes * changes).sum(1)
        sound = curvature > 1e-10 * length
        if len(self.steps) == self.size:
            slot = self.steps.pop(0), self.changes.pop(0), self.inverse.pop(0)
        else:
            slot = torch.zeros_like(self.like), torch.zeros_like(self.like), torch.zeros_like(self.scale)
        for tensor in slot:
            tensor.zero_()
        slot[0][which], slot[1][which] = steps, changes
        slot[2][which] = torch.where(sound, 1 / curvature, torch.zeros_like(curvature))
        self.steps.append(slot[0])
        self.changes.append(slot[1])
        self.inverse.append(slot[2])
        self.scale[which] = torch.where(sound, curvature / length, self.scale[which])

    def directions(self, gradients: Float[Tensor, "some n"], which: Tensor) -> Float[Tensor, "some n"]:
        """Minus the approximate inverse Hessian times the gradients: the two-loop recursion."""
        result = -gradients
        everyone = len(which) == len(self.scale)
        rows = slice(None) if everyone else which
        weights = []
        for step, change, inverse in zip(
            reversed(self.steps), reversed(self.changes), reversed(self.inverse), strict=True
        ):
            weight = inverse[rows] * (step[rows] * result).sum(1)
            result.addcmul_(weight[:, None], change[rows], value=-1)
            weights.append(weight)
        scale = self.scale[rows]
        result *= torch.where(scale > 0, scale, torch.ones_like(scale))[:, None]
        for step, change, inverse, weight in zip(
            self.steps, self.changes, self.inverse, reversed(weights), strict=True
        ):
            result.addcmul_((weight - inverse[rows] * (change[rows] * result).sum(1))[:, None], step[rows])
        return result


@dataclass(frozen=True)
class _Trial:
    """A step length, the loss there and its slope along the direction."""

    length: float
    loss: float
    slope: float


def _strong_wolfe(
    loss: float, slope: float, length: float, evaluations: int
) -> Generator[float, tuple[float, float], float | None]:
    """Asks for (loss, slope) at step lengths; returns a length of strong Wolfe, or the best below `loss`, or None."""
    start = previous = _Trial(0.0, loss, slope)
    bracket: tuple[_Trial, _Trial] | None = None
    for count in range(evaluations):
        value, along = yield length
        new = _Trial(length, value if isfinite(value) else inf, along)
        high = new.loss > loss + _DECREASE * length * slope
        if not high and abs(along) <= -_CURVATURE * slope and (bracket is None or new.loss < bracket[0].loss):
            return length
        if bracket is None:
            if high or (count and new.loss >= previous.loss):
                bracket = previous, new
            elif along >= 0:
                bracket = new, previous
            else:
                low, far = length + 0.01 * (length - previous.length), 10 * length
                previous, length = new, min(max(_cubic(previous, new), low), far)
                continue
        else:
            low_end, high_end = bracket
            if high or new.loss >= low_end.loss:
                bracket = low_end, new
            else:
                away = along * (high_end.length - low_end.length) >= 0
                bracket = new, low_end if away else high_end
        low_end, high_end = bracket
        left, right = sorted((low_end.length, high_end.length))
        if (right - left) * abs(slope) < 1e-9 * max(abs(loss), 1e-30) and low_end is not start:
            break
        if right - left <= 1e-12 * right:
            break
        margin = 0.1 * (right - left)
        length = min(max(_cubic(low_end, high_end), left + margin), right - margin)
    best = previous if bracket is None else bracket[0]
    return best.length if best.loss < loss else None


def _cubic(a: _Trial, b: _Trial) -> float:
    """Where the cubic through two losses and slopes has its minimum; the middle if it has none."""
    middle = (a.length + b.length) / 2
    if not (isfinite(a.loss) and isfinite(b.loss)) or a.length == b.length:
        return middle
    first, second = (a, b) if a.length <= b.length else (b, a)
    d1 = first.slope + second.slope - 3 * (first.loss - second.loss) / (first.length - second.length)
    square = d1 * d1 - first.slope * second.slope
    if not square >= 0:
        return middle
    d2 = sqrt(square)
    bottom = second.slope - first.slope + 2 * d2
    if bottom == 0:
        return middle
    minimum = second.length - (second.length - first.length) * (second.slope + d2 - d1) / bottom
    return minimum if isfinite(minimum) else middle
