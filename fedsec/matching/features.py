"""What enters the last linear layer, for every image of a batch, from that layer's gradient alone.

With features h_i, logits W h_i + b and labels y_i, the gradient of the mean cross-entropy over B images is

    B G = sum_i delta_i h_i^T,    B g_b = sum_i delta_i,    delta_i = softmax(W h_i + b) - onehot(y_i)

so G has rank B, and every h_i lies in the span of its first B right singular vectors V: h_i = sum_j A_ij v_j. Only the
B x B matrix A is unknown, and delta is a known function of it, which leaves (classes - 1) (B + 1) equations for B^2
unknowns (without a bias (classes - 1) B). Levenberg-Marquardt in float64 solves them up to B = classes - 1; beyond that
the delta_i, whose entries sum to zero, cannot be independent.

A float32 gradient is rounded relative to each class's own row, and the rows of unlikely classes are tiny: with every
row scaled to one length before the singular value decomposition, they tell images of one class apart even at the limit.

How it relates to others: the cocktail-party attack (Kariyappa et al., ICML 2023, arXiv:2209.05578) looks for the same
mixing matrix by independent component analysis, which needs a statistical model of the features and many more neurons
than images; SPEAR (Dimitrov et al., NeurIPS 2024, arXiv:2403.03945) finds it from the zeros that ReLU puts into the
gradients at a layer's output. Here the softmax itself determines it: nothing is assumed about the features, sigmoid
networks and batches of one class included, and the equations say whether the solution is one.
"""

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from fedsec.errors import InputError
from fedsec.matching.limits import Deadline
from fedsec.matching.row_space import row_space
from fedsec.threat.observed.client_loss import smoothed_labels

__all__ = ["Features", "recover_features", "rounding"]

_STALLED = 1e-9
_SMALL = 512
"""Of matrices with at most so many rows or columns, all singular values are computed."""

_MEMORY = 2**24

_MANY_CLASSES = 512
_LEAST_ATTEMPTS = 4
_WORK = 8e11
"""With many classes, starts are tried for so many units of work at most, about a minute of one core: a unit is one of
classes x batch^2 x (batch^2 + 200) in each iteration of each start, as was measured for 8 to 32 images."""


@dataclass(frozen=True, eq=False)
class Features:
    """What enters the last layer, and how sure it is.

    Attributes:
        values: what enters the last layer, one row an image.
        labels: of the same images.
        residual: how far the equations, weighted by their precision, are from holding, relative to the gradient.
        noise: what residual the part of the gradient that no batch of this size can explain lets one expect.
        conditioning: smallest of the B singular values over the largest; features are known to about the gradient's
            relative precision over this.
        deviation: standard deviation of noise in an entry of the gradient, as far as its rank gives it away.
        error: to be expected of the values, root mean square, from the residual and what noise does to the basis.
        solved: whether the equations hold as well as the gradient's own precision allows.
        untried: how many starts were left out because so many classes make each of them long.
    """

    values: Float[Tensor, "batch features"]
    labels: Int64[Tensor, "batch"]
    residual: float
    noise: float
    conditioning: float
    deviation: float
    error: float
    solved: bool
    untried: int = 0


def recover_features(
    weight: Float[Tensor, "classes features"],
    bias: Float[Tensor, "classes"] | None,
    weight_gradient: Float[Tensor, "classes features"],
    bias_gradient: Float[Tensor, "classes"] | None,
    hypotheses: Sequence[Int64[Tensor, "batch"]],
    *,
    examples: Float[Tensor, "examples features"] | None = None,
    starts: int = 32,
    iterations: int = 200,
    generator: torch.Generator | None = None,
    deadline: Deadline | None = None,
    smoothing: float = 0.0,
) -> Features:
    """The features of a batch, and which of several labelings is right.

    Args:
        weight: of the last layer.
        bias: of the last layer, if it has one.
        weight_gradient: of the mean cross-entropy.
        bias_gradient: likewise; None if it is not known.
        hypotheses: possible labels, the likeliest first. The first that solves the equations is taken, otherwise the
            one with the least residual.
        examples: features that other images have, to start from; by default standard normal ones.
        starts: random starts of each hypothesis.
        iterations: of Levenberg-Marquardt from each start, at most.
        generator: of the starts; one seeded with 0 by default.
        deadline: when to stop; the best so far then counts.
        smoothing: share of each label that the client spread over all classes.

    Returns:
        The features in the order of their labels, with the gradient's dtype and device.

    Raises:
        InputError: shapes that do not go together, no hypothesis, or a batch of as many images as classes or more.
    """
    _check(weight, bias, weight_gradient, bias_gradient, hypotheses)
    generator, deadline = generator or torch.Generator().manual_seed(0), deadline or Deadline()
    size = len(hypotheses[0])
    if examples is None:
        examples = torch.randn(32, weight.shape[1], generator=generator)
    system = replace(_System.of(weight, bias, weight_gradient, bias_gradient, size), smoothing=smoothing)
    best: tuple[float, Tensor, Tensor] | None = None
    possible = len(hypotheses) * starts
    allowed = min(possible, _allowed(len(weight), size, iterations))
    attempts = islice(_attempts(system, hypotheses, examples.double().cpu(), starts, generator), allowed)
    # The first attempts mostly succeed: few run together at first, more when they do not.
    width, most = 2, max(1, _MEMORY // (size**4 + size**2 * len(weight)))
    while chunk := list(islice(attempts, min(width, most))):
        labels, mixing = (torch.stack(parts) for parts in zip(*chunk, strict=True))
        if best is not None:
            # Mostly only few images are wrong in a solution that almost holds: keep some of the others.
            inherited = torch.rand(mixing.shape[:2], generator=generator) < 0.7
            inherited &= (labels == best[2]).all(1, keepdim=True) & (torch.arange(len(labels)) % 2 == 0)[:, None]
            mixing = torch.where(inherited[..., None], best[1], mixing)
        # Small rows carry what tells the images apart but also bends the path there: they get their full weight late.
        mixing, _ = system.softened().solve(mixing, labels, min(60, iterations), deadline)
        mixing, residuals = system.solve(mixing, labels, iterations, deadline)
        index = int(residuals.argmin())
        if best is None or float(residuals[index]) < best[0]:
            best = float(residuals[index]), mixing[index], labels[index]
        if best[0] <= system.tolerance / 3 or deadline.passed:
            break
        width *= 2
    assert best is not None
    return Features(
        values=(best[1] @ system.basis).to(weight_gradient),
        labels=best[2].to(weight.device),
        residual=best[0],
        noise=system.noise,
        conditioning=system.conditioning,
        deviation=system.deviation,
        error=system.error(best[1], best[2], best[0]),
        solved=best[0] <= system.tolerance,
        untried=possible - allowed,
    )


def _allowed(classes: int, size: int, iterations: int) -> int:
    """How many starts there is work for."""
    if classes <= _MANY_CLASSES:
        return sys.maxsize
    return max(_LEAST_ATTEMPTS, int(_WORK / iterations / (classes * size**2 * (size**2 + 200))))


@dataclass(frozen=True, eq=False)
class _System:
    """The equations, in the coordinates of the gradient's row space; all in float64 on the CPU.

    Attributes:
        basis: V, orthonormal rows.
        logits: what each basis vector adds to the logits.
        bias: of the logits.
        target: B G V and, where known, B g_b as one more column.
        ones: the constant that multiplies sum_i delta_i in that last column; None without it.
        precision: weight of each class's equations.
        noise: see `Features`.
        conditioning: see `Features`.
        deviation: see `Features`.
        tilt: noise in an entry of each basis vector.
        tolerance: residual below which the equations count as solved.
        smoothing: see `recover_features`.
    """

    basis: Float[Tensor, "batch features"]
    logits: Float[Tensor, "classes batch"]
    bias: Float[Tensor, "classes"]
    target: Float[Tensor, "classes columns"]
    ones: float | None
    precision: Float[Tensor, "classes"]
    noise: float
    conditioning: float
    deviation: float
    tilt: Float[Tensor, "batch"]
    tolerance: float
    smoothing: float = 0.0

    @classmethod
    def of(
        cls, weight: Tensor, bias: Tensor | None, weight_gradient: Tensor, bias_gradient: Tensor | None, size: int
    ) -> "_System":
        weight, gradient = weight.double().cpu(), weight_gradient.double().cpu() * size
        bias = torch.zeros(len(weight), dtype=torch.double) if bias is None else bias.double().cpu()
        # Rounding errors are relative to each class's own row, added noise is not: whichever weighting makes rank B
        # stand out more is right.
        lengths = gradient.norm(dim=1)
        lengths = lengths.clamp_min(1e-9 * float(lengths.max()) + 1e-300)
        choices = []
        for power in (0.0, 0.5, 1.0):
            precision = lengths.pow(-power)
            values, rows, beyond = _leading(precision[:, None] * gradient, size)
            gap = float(values[-1]) / max(beyond, 1e-16 * float(values[0]), 1e-300)
            choices.append((gap, precision, values, rows, beyond))
        _, precision, values, basis, beyond = max(choices, key=lambda choice: choice[0])
        target = gradient @ basis.T
        ones = None
        if bias_gradient is not None:
            ones = float(gradient.norm() / (bias_gradient.double().norm() * size * gradient.shape[1] ** 0.5 + 1e-300))
            target = torch.cat([target, ones * size * bias_gradient.double().cpu()[:, None]], 1)
        scale = float((precision[:, None] * target).norm()) + 1e-300
        # A random matrix puts about as much into the B directions of the basis as into the same number of others.
        noise = beyond * max(size, 1) ** 0.5 / scale
        conditioning = float(values[size - 1] / values[0].clamp_min(1e-300))
        deviation = choices[0][-1] / (gradient.shape[1] ** 0.5 * size)
        # The client's forward pass rounds logits, to some units in the last place. The fit absorbs its share of it.
        classes, columns = target.shape
        surplus = max(1 - size**2 / ((classes - 1) * columns), 0.01) ** 0.5
        tolerance = max(3 * noise, rounding(weight_gradient)) * surplus
        # Where noise is as large as the signal, any labels and features would do.
        tolerance = min(tolerance, 0.05)
        logits, precision = weight @ basis.T, precision / scale
        tilt = beyond / (gradient.shape[1] ** 0.5 * values[:size].clamp_min(1e-300))
        return cls(basis, logits, bias, target, ones, precision, noise, conditioning, deviation, tilt, tolerance)

    def softened(self) -> "_System":
        """The same with weights nearer to each other, never solved."""
        precision = self.precision.sqrt()
        scale = float((precision[:, None] * self.target).norm()) + 1e-300
        return replace(self, precision=precision / scale, tolerance=0.0)

    def residual(
        self, mixing: Float[Tensor, "n batch batch"], labels: Int64[Tensor, "n batch"]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weighted residuals [n, classes, columns], weighted delta, posteriors [n, batch, classes], extended mixing."""
        posteriors = (mixing @ self.logits.T + self.bias).softmax(-1)
        delta = (posteriors - smoothed_labels(labels, len(self.bias), self.smoothing)) * self.precision
        extended = mixing
        if self.ones is not None:
            extended = F.pad(mixing, (0, 1), value=self.ones)
        return delta.mT @ extended - self.precision[:, None] * self.target, delta, posteriors, extended

    def normal(
        self, mixing: Tensor, labels: Tensor
    ) -> tuple[Float[Tensor, "n unknowns unknowns"], Float[Tensor, "n unknowns"]]:
        """J^T J and J^T r, from the structure of the Jacobian without forming it.

        With S_ikl = dp_ik / dA_il, dr_kj / dA_il = delta_ik [j = l] + A_ij S_ikl.
        """
        residual, delta, posteriors, extended = self.residual(mixing, labels)
        n, size = mixing.shape[:2]
        centered = self.logits - (posteriors @ self.logits)[:, :, None]
        slopes = (posteriors * self.precision)[..., None] * centered
        flat = slopes.transpose(2, 3).reshape(n, size * size, -1)
        matrix = (flat @ flat.mT).view(n, size, size, size, size)
        matrix = matrix * (extended @ extended.mT)[:, :, None, :, None]
        cross = torch.einsum("nik,npkq->nipq", delta, slopes)
        mixed = torch.einsum("npl,nipq->nilpq", mixing, cross)
        matrix = matrix + mixed + mixed.permute(0, 3, 4, 1, 2)
        matrix.diagonal(dim1=2, dim2=4).add_((delta @ delta.mT)[..., None])
        gradient = delta @ residual[..., :size]
        gradient = gradient + torch.einsum("nikl,nki->nil", slopes, residual @ extended.mT)
        return matrix.reshape(n, size * size, size * size), gradient.reshape(n, size * size)

    def error(self, mixing: Float[Tensor, "batch batch"], labels: Int64[Tensor, "batch"], residual: float) -> float:
        """Expected error of a feature: the covariance of a least-squares solution, and what the basis misses."""
        size, (classes, columns) = len(labels), self.target.shape
        matrix = self.normal(mixing[None], labels[None])[0][0]
        variance = residual**2 / max((classes - 1) * columns - size**2, 1)
        if not bool(matrix.isfinite().all()):
            return math.inf
        spread = float(torch.linalg.eigvalsh(matrix).clamp_min(1e-30).reciprocal().sum())
        within = variance * spread / (size * self.basis.shape[1])
        outside = float((mixing * self.tilt).square().sum()) / size
        return math.sqrt(within + outside)

    def solve(
        self,
        mixing: Float[Tensor, "n batch batch"],
        labels: Int64[Tensor, "n batch"],
        iterations: int,
        deadline: Deadline,
    ) -> tuple[Tensor, Float[Tensor, "n"]]:
        """Levenberg-Marquardt from each start, until one has solved the equations: mixing matrices and residuals."""
        mixing = mixing.clone()
        costs = self.residual(mixing, labels)[0].square().flatten(1).sum(1)
        damping = torch.full_like(costs, 1e-2)
        idle = torch.zeros(len(costs), dtype=torch.int64)
        live: Bool[Tensor, "n"] = torch.ones(len(costs), dtype=torch.bool)
        for _ in range(iterations):
            if deadline.passed:
                break
            which = live.nonzero().flatten()
            matrix, gradient = self.normal(mixing[which], labels[which])
            diagonal = matrix.diagonal(dim1=1, dim2=2)
            floor = 1e-14 * diagonal.amax(1, keepdim=True) + 1e-300
            diagonal.add_(damping[which, None] * diagonal + floor)
            factor, failed = torch.linalg.cholesky_ex(matrix)
            step = torch.cholesky_solve(gradient[..., None], factor).view(-1, *mixing.shape[1:])
            trial = mixing[which] - step
            trial_costs = self.residual(trial, labels[which])[0].square().flatten(1).sum(1)
            better = (trial_costs < costs[which]) & (failed == 0)
            gain = torch.where(better, costs[which] - trial_costs, torch.zeros_like(trial_costs))
            small = gain <= _STALLED * costs[which]
            idle[which] = torch.where(better & ~small, 0, idle[which] + better.long())
            rows = which[better]
            mixing[rows], costs[rows] = trial[better], trial_costs[better]
            damping[which] = torch.where(better, damping[which] / 9, damping[which] * 4).clamp_min(1e-15)
            live = live & (idle < 3) & (damping < 1e12) & (costs > 1e-30)
            if not bool(live.any()):
                break
            solved = costs.sqrt() <= self.tolerance
            if bool((solved & ~live).any()):
                break
            if bool(solved.any()):
                live = live & solved
        return mixing, costs.sqrt()


def rounding(gradient: Tensor) -> float:
    """What rounding in the client's forward pass does to the equations, by the precision that its gradient shows."""
    for dtype in (torch.bfloat16, torch.float16):
        if torch.equal(gradient.to(dtype).to(gradient.dtype), gradient):
            return 2 * torch.finfo(dtype).eps
    # A model in float64 may be trained by a loss, or have sent a gradient, in float32.
    return 16 * max(torch.finfo(gradient.dtype).eps, torch.finfo(torch.float32).eps)


def _leading(matrix: Tensor, rank: int) -> tuple[Float[Tensor, "rank"], Float[Tensor, "rank columns"], float]:
    """The largest singular values, their right vectors, and the root mean square of the values beyond them."""
    beyond = min(matrix.shape) - rank
    if min(matrix.shape) <= _SMALL or 2 * (rank + 10) >= min(matrix.shape):
        _, values, rows = torch.linalg.svd(matrix, full_matrices=False)
        rest = float(values[rank:].square().mean().sqrt()) if beyond else 0.0
        return values[:rank], rows[:rank], rest
    candidates = row_space(matrix, rank + 10)
    _, values, rows = torch.linalg.svd(matrix @ candidates.T, full_matrices=False)
    rows = rows[:rank] @ candidates
    return values[:rank], rows, float((matrix - matrix @ rows.T @ rows).norm()) / beyond**0.5


def _attempts(
    system: _System, hypotheses: Sequence[Tensor], examples: Tensor, starts: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """(labels, mixing matrix to start from): many starts of likely hypotheses, few of others, the likely ones first."""
    center = examples.mean(0)
    spread = examples - center
    noise = 1e-3 * float(examples.abs().mean())
    grid = product(range(len(hypotheses)), range(starts))
    for index, start in sorted(grid, key=lambda pair: (pair[0] + 1) * (pair[1] + 1)):
        labels = hypotheses[index].cpu()
        chosen = torch.randint(len(examples), (len(labels),), generator=generator)
        # Started from the same features, images of one label could not be told apart.
        different = noise * torch.randn(len(labels), len(center), generator=generator, dtype=torch.double)
        features = center + (0.1, 1.0, 0.3, 3.0)[start % 4] * spread[chosen] + different
        if start % 2 == 0 and system.ones is not None:
            features = features + _class_means(system, labels) - center
        yield labels, features @ system.basis.T


def _class_means(system: _System, labels: Tensor) -> Float[Tensor, "batch features"]:
    """G_y / g_b[y]: exact for a label that occurs once and that no other image is taken for."""
    assert system.ones is not None
    rows = system.target[:, :-1] @ system.basis
    return rows[labels] * system.ones / system.target[labels, -1:].clamp_max(-1e-3 * system.ones)


def _check(
    weight: Tensor,
    bias: Tensor | None,
    weight_gradient: Tensor,
    bias_gradient: Tensor | None,
    hypotheses: Sequence[Tensor],
) -> None:
    if weight.ndim != 2 or weight_gradient.shape != weight.shape:
        raise InputError(
            f"recover_features: weight and its gradient must be two matrices of one shape, got {tuple(weight.shape)} "
            f"and {tuple(weight_gradient.shape)}"
        )
    for what, vector in (("bias", bias), ("bias_gradient", bias_gradient)):
        if vector is not None and vector.shape != weight.shape[:1]:
            raise InputError(f"recover_features: {what} must be of shape ({len(weight)},), got {tuple(vector.shape)}")
    if not hypotheses or any(labels.shape != hypotheses[0].shape or labels.ndim != 1 for labels in hypotheses):
        raise InputError("recover_features: expected at least one hypothesis, each one label an image")
    size = len(hypotheses[0])
    if not 1 <= size < len(weight):
        raise InputError(
            f"recover_features: {len(weight)} classes tell at most {len(weight) - 1} images apart, not {size}"
        )
    if size > weight.shape[1]:
        raise InputError(f"recover_features: {weight.shape[1]} features tell at most as many images apart, not {size}")
