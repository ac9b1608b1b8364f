"""Images from what enters the last linear layer and from the gradient of everything before it.

Once features h_i and labels are known, so is the loss's gradient c_i = (softmax(W h_i + b) - onehot(y_i)) W / B at each
of them, and the body's gradient sum_i J_i^T c_i needs no head any more: every image has its own equations
body(x_i) = h_i, and only the rest is shared. Pixels lie behind a sigmoid; total variation leads from a smooth image to
the sharp one and fades.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.func import vmap

from fedsec.matching.best_so_far import BestSoFar
from fedsec.matching.candidates import Candidates, attacked_model
from fedsec.matching.distances import squared_distance, squared_norm
from fedsec.matching.features import Features
from fedsec.matching.head import Head
from fedsec.matching.lbfgs import LBFGS
from fedsec.matching.lbfgs_search import INNER
from fedsec.matching.limits import Deadline
from fedsec.threat import Observation, Reconstruction
from fedsec.threat.inversion import Watch
from fedsec.threat.observed.client_loss import smoothed_labels

__all__ = ["Schedule", "recover_pixels"]

_SATURATED = 1e-3


@dataclass(frozen=True)
class Schedule:
    """How the second stage searches; the fields are the options of `Decoupled`."""

    iterations: int
    restarts: int
    feature_weight: float
    gradient_weight: float
    tv_weight: float
    tv_end: float
    tolerance: float


def recover_pixels(
    observations: Sequence[Observation],
    head: Head,
    features: Sequence[Features | None],
    labels: Int64[Tensor, "trials batch"],
    schedule: Schedule,
    *,
    deadline: Deadline,
    generator: torch.Generator,
    watch: Watch,
) -> list[Reconstruction]:
    """Minimize feature mismatch + gradient mismatch + fading total variation, for all observations together.

    Args:
        observations: alike in kind.
        head: of their model.
        features: of each observation's images, in the order of its labels; where they are None the whole update is
            matched, through the client's local steps if there were several.
        labels: of the images.
        schedule: weights and iterations.
        deadline: when to stop.
        generator: of the starts of all restarts but the first, which begins with gray images.
        watch: shown the best so far after each iteration.

    Returns:
        Images in the order of the labels.
    """
    first = observations[0]
    restarts = schedule.restarts
    candidates = Candidates(observations, restarts, generator=generator)
    best = BestSoFar(
        observations,
        restarts,
        watch,
        stage="pixels",
        iterations=schedule.iterations,
        labels=labels,
    )
    owner, labels = candidates.owner, labels.repeat_interleave(restarts, 0)
    shape = (candidates.problems, first.batch_size, *first.input_shape)
    start = torch.randn(shape, generator=generator)
    start[::restarts] = 0
    start = start.to(candidates.targets[0])
    candidates.prepare(labels, deadline)
    goal = _Goal.of(observations, head, features, schedule, candidates)
    known = torch.tensor([known is not None for known in features])[owner]
    weights = start.new_full((candidates.problems,), schedule.tv_weight)
    fade = schedule.tv_end ** (1 / schedule.iterations)

    def mismatch(images: Tensor, which: Int64[Tensor, "some"]) -> Float[Tensor, "some"]:
        inputs = first.scale.apply(images)
        result = images.new_zeros(len(which))
        for group, function in ((known[which], goal.mismatch), (~known[which], _update_mismatch(candidates, schedule))):
            rows = group.nonzero().flatten()
            if len(rows):
                result = result.index_add(
                    0, rows.to(result.device), function(inputs[rows], labels[which[rows]], which[rows])
                )
        return result

    def evaluate(points: Float[Tensor, "some n"], which: Int64[Tensor, "some"]) -> tuple[Tensor, Tensor]:
        points = points.detach().requires_grad_()
        images = points.view(-1, *shape[1:]).sigmoid()
        data = mismatch(images, which)
        losses = data + weights[which] * _roughness(images)
        return losses, torch.autograd.grad(losses.sum(), points)[0]

    search = LBFGS(evaluate, start.flatten(1), history=100)
    interrupted = False
    try:
        for iteration in range(1, schedule.iterations + 1):
            search.run(INNER, changed=True, deadline=deadline)
            images = search.points.view(shape).sigmoid()
            reached = (search.losses - weights * _roughness(images)).clamp_min(0)
            best.record(iteration, reached / schedule.feature_weight, images, labels)
            if bool(best.solved(schedule.tolerance).all()) or deadline.passed:
                break
            # Below what noise alone would leave, a fading prior would only let the noise into the images.
            weights = torch.where(reached > goal.floor, weights * fade, weights)
    except KeyboardInterrupt:
        interrupted = True
    results = best.results(interrupted=interrupted, notes=candidates.notes)
    return [
        result if known is None else replace(result, features=known.values)
        for result, known in zip(results, features, strict=True)
    ]


def _update_mismatch(candidates: Candidates, schedule: Schedule) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    def function(inputs: Tensor, labels: Tensor, which: Tensor) -> Float[Tensor, "some"]:
        updates = candidates.updates(inputs, labels, which)
        scales = candidates.scales[candidates.owner[which]]
        return schedule.gradient_weight * squared_distance(updates, candidates.targets_of(which), scales)

    return function


def _roughness(images: Float[Tensor, "some batch c h w"]) -> Float[Tensor, "some"]:
    """Squared total variation: a quadratic prior keeps the problem smooth for L-BFGS."""
    rows, columns = images.diff(dim=-2).flatten(1), images.diff(dim=-1).flatten(1)
    return rows.square().sum(1) / max(1, rows.shape[1]) + columns.square().sum(1) / max(1, columns.shape[1])


@dataclass(frozen=True, eq=False)
class _Goal:
    """What the images of each observation should lead to.

    Attributes:
        head: of the model as the attacker computes it.
        features: [observations, batch, features]; zero where they are not known.
        precision: weight of each feature's error.
        cotangents: the loss's gradient at the features.
        gradients: the body's, by parameter name [observations, ...].
        scales: squared norms of the body's gradients.
        floor: of each problem, the mismatch that noise alone leaves.
    """

    head: Head
    features: Float[Tensor, "trials batch features"]
    precision: Float[Tensor, "trials batch features"]
    cotangents: Float[Tensor, "trials batch features"]
    gradients: dict[str, Tensor]
    scales: Float[Tensor, "trials"]
    floor: Float[Tensor, "problems"]
    gradient_weight: float
    owner: Int64[Tensor, "problems"]
    vectorized: bool

    @classmethod
    def of(
        cls,
        observations: Sequence[Observation],
        head: Head,
        features: Sequence[Features | None],
        schedule: Schedule,
        candidates: Candidates,
    ) -> "_Goal":
        observation = observations[0]
        sent = [observation.gradient for observation in observations]
        names = [name for name in head.body_names if name in sent[0]]
        gradients = {name: torch.stack([gradient[name] for gradient in sent]) for name in names}
        like = candidates.targets[0]
        trials, size = len(features), observation.batch_size
        scales = squared_norm(list(gradients.values())) if gradients else like.new_ones(trials)
        entries = sum(rows[0].numel() for rows in gradients.values())
        values = like.new_zeros(trials, size, head.weight.shape[1])
        precision, cotangents, floor = torch.zeros_like(values), torch.zeros_like(values), like.new_zeros(trials)
        for trial, known in enumerate(features):
            if known is None:
                floor[trial] = schedule.gradient_weight * candidates.noise[trial]
                continue
            values[trial] = known.values
            factor, spread = _sensitivity(known.values, min(max(_SATURATED, known.error), 0.25))
            precision[trial] = factor * (schedule.feature_weight / (spread * values.shape[2])) ** 0.5
            logits = known.values @ head.weight.T + (0 if head.bias is None else head.bias)
            delta = logits.softmax(1) - smoothed_labels(
                known.labels, observation.num_classes, observation.loss.smoothing
            )
            cotangents[trial] = delta @ head.weight / size
            floor[trial] = schedule.gradient_weight * known.deviation**2 * entries / scales[trial]
            floor[trial] += (known.error * precision[trial]).square().sum()
        attacked = replace(head, module=attacked_model(observation).requires_grad_(False))
        return cls(
            attacked,
            values,
            precision,
            cotangents,
            gradients,
            scales.clamp_min(1e-300),
            floor[candidates.owner],
            schedule.gradient_weight,
            candidates.owner,
            candidates.problems == 1 or _stacks(attacked, observation),
        )

    def mismatch(
        self, inputs: Float[Tensor, "some batch c h w"], labels: Tensor, which: Tensor
    ) -> Float[Tensor, "some"]:
        """Weighted squared errors of features and of the body's gradient."""
        if len(inputs) > 1 and not self.vectorized:
            rows = range(len(inputs))
            return torch.cat([self.mismatch(inputs[i : i + 1], labels[i : i + 1], which[i : i + 1]) for i in rows])
        trials = self.owner[which]
        own = dict(self.head.module.named_parameters())
        state = {
            name: own[name].expand(len(inputs), *own[name].shape).detach().requires_grad_() for name in self.gradients
        }
        if len(inputs) == 1:
            state = {name: row[0].detach().requires_grad_() for name, row in state.items()}
            features = self.head.features(inputs[0], state)[0][None]
        else:
            features = vmap(lambda state, inputs: self.head.features(inputs, state)[0], randomness="different")(
                state, inputs
            )
        result = ((features - self.features[trials]) * self.precision[trials]).square().flatten(1).sum(1)
        if state:
            inner = (features * self.cotangents[trials]).sum()
            gradients = torch.autograd.grad(
                inner, list(state.values()), create_graph=True, allow_unused=True, materialize_grads=True
            )
            errors = [
                row.view_as(goal[trials]) - goal[trials]
                for row, goal in zip(gradients, self.gradients.values(), strict=True)
            ]
            result = result + self.gradient_weight * squared_norm(errors) / self.scales[trials]
        return result


def _stacks(head: Head, observation: Observation) -> bool:
    """Whether `vmap` can compute the features of several batches together."""
    noise = torch.rand(2, observation.batch_size, *observation.input_shape, generator=torch.Generator().manual_seed(0))
    inputs = observation.scale.apply(noise.to(head.weight))
    try:
        together = vmap(lambda batch: head.features(batch)[0], randomness="different")(inputs)
        apart = torch.stack([head.features(batch)[0] for batch in inputs])
    except (RuntimeError, ValueError, IndexError, TypeError):
        return False
    return torch.allclose(together, apart, rtol=1e-3, atol=1e-4)


def _sensitivity(features: Float[Tensor, "batch features"], least: float) -> tuple[Tensor, Tensor]:
    """1 / (slope of the last activation), where bounds give it away, and the variance of what goes into it.

    Saturated features hardly move with the images; an error in them weighs as much as it does before the activation.

    Args:
        features: of one batch.
        least: slope below which nothing is gained, and how far errors may take features out of their bounds.
    """
    low, high = float(features.min()), float(features.max())
    if low > -4 * least and high < 1 + 4 * least:
        inside = features.clamp(least, 1 - least)
        return 1 / (inside * (1 - inside)), inside.logit().var(correction=0).clamp_min(1e-12)
    if low > -1 - 4 * least and high < 1 + 4 * least:
        inside = features.clamp(least - 1, 1 - least)
        return 1 / (1 - inside.square()), inside.atanh().var(correction=0).clamp_min(1e-12)
    return torch.ones_like(features), features.var(correction=0).clamp_min(1e-12)
