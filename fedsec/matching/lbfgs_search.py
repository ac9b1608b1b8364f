"""Gradient matching by L-BFGS: the search behind DLG and iDLG."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fedsec.matching.best_so_far import BestSoFar
from fedsec.matching.candidates import Candidates
from fedsec.matching.distances import squared_distance, squared_norm
from fedsec.matching.lbfgs import LBFGS
from fedsec.matching.limits import Deadline
from fedsec.threat import Observation, Reconstruction
from fedsec.threat.inversion import Watch

__all__ = ["INNER", "match", "match_as_published"]

INNER = 20
"""L-BFGS iterations in one of the iterations that DLG's authors count."""


class _TimeUpError(Exception):
    """Leaves PyTorch's optimizer in the middle of a step."""


def match(
    observations: Sequence[Observation],
    labels: Int64[Tensor, "trials batch"] | None,
    *,
    iterations: int,
    restarts: int,
    tolerance: float,
    deadline: Deadline,
    generator: torch.Generator,
    watch: Watch,
) -> list[Reconstruction]:
    """Images whose update is the observed one, in the squared distance.

    Args:
        observations: alike in kind.
        labels: of each observation's images; None to search for them together with the images, as logits.
        iterations: of 20 L-BFGS iterations each, at most.
        restarts: random starts of each observation; the one with the least matching loss counts.
        tolerance: an observation is solved when one of its restarts comes below this loss.
        deadline: when to stop.
        generator: of the starts.
        watch: shown the best so far after each iteration.
    """
    first = observations[0]
    candidates = Candidates(observations, restarts, generator=generator)
    best = BestSoFar(observations, restarts, watch, stage="matching", iterations=iterations, labels=labels)
    shape = (candidates.problems, first.batch_size, *first.input_shape)
    inputs = first.scale.apply(torch.rand(shape, generator=generator)).to(candidates.targets[0])
    logits = torch.randn(*shape[:2], first.num_classes, generator=generator).to(inputs)
    known = None if labels is None else labels.repeat_interleave(restarts, 0)
    candidates.prepare(logits.softmax(-1) if known is None else known, deadline)
    size = inputs[0].numel()

    def split(points: Float[Tensor, "some n"], which: Int64[Tensor, "some"]) -> tuple[Tensor, Tensor]:
        images = points[:, :size].view(-1, *shape[1:])
        return images, points[:, size:].view(-1, *logits.shape[1:]) if known is None else known[which]

    def evaluate(points: Float[Tensor, "some n"], which: Int64[Tensor, "some"]) -> tuple[Tensor, Tensor]:
        points = points.detach().requires_grad_()
        images, classes = split(points, which)
        classes = classes.softmax(-1) if known is None else classes
        updates, scales = candidates.updates(images, classes, which), candidates.scales[candidates.owner[which]]
        losses = squared_distance(updates, candidates.targets_of(which), scales)
        return losses, torch.autograd.grad(losses.sum(), points)[0]

    start = inputs.flatten(1) if known is not None else torch.cat([inputs.flatten(1), logits.flatten(1)], 1)
    search = LBFGS(evaluate, start)
    everyone = torch.arange(candidates.problems)
    interrupted = False
    try:
        for iteration in range(1, iterations + 1):
            search.run(INNER, deadline=deadline)
            images, classes = split(search.points, everyone)
            best.record(iteration, search.losses, first.scale.undo(images), classes)
            search.finished |= best.solved(tolerance).cpu()
            if bool(search.finished.all()) or deadline.passed:
                break
    except KeyboardInterrupt:
        interrupted = True
    return best.results(interrupted=interrupted, notes=candidates.notes)


def match_as_published(
    observations: Sequence[Observation],
    labels: Int64[Tensor, "trials batch"] | None,
    *,
    iterations: int,
    restarts: int,
    tolerance: float,
    deadline: Deadline,
    generator: torch.Generator,
    watch: Watch,
) -> list[Reconstruction]:
    """The search of DLG's authors: from N(0, 1), full L-BFGS steps on the squared distance, one problem after another.

    The arguments are those of `match`.
    """
    first = observations[0]
    candidates = Candidates(observations, restarts, generator=generator)
    total = iterations * candidates.problems
    best = BestSoFar(observations, restarts, watch, stage="matching", iterations=total, labels=labels)
    tried = torch.zeros(candidates.problems, first.batch_size, dtype=torch.int64, device=first.device)
    candidates.prepare(tried if labels is None else labels.repeat_interleave(restarts, 0), deadline)
    interrupted = False
    try:
        for problem in range(candidates.problems):
            which = torch.tensor([problem])
            targets = candidates.targets_of(which)
            shape = (1, first.batch_size, *first.input_shape)
            inputs = torch.randn(shape, generator=generator).to(targets[0]).requires_grad_()
            logits = torch.randn(*shape[:2], first.num_classes, generator=generator).to(targets[0]).requires_grad_()
            known = None if labels is None else labels[candidates.owner[which]]
            optimizer = torch.optim.LBFGS([inputs] if known is not None else [inputs, logits])
            share = deadline.share(candidates.problems - problem)
            latest: list[tuple[Tensor, Tensor, Tensor]] = []

            def closure(
                inputs: Tensor = inputs,
                logits: Tensor = logits,
                known: Tensor | None = known,
                which: Tensor = which,
                targets: list[Tensor] = targets,
                optimizer: torch.optim.LBFGS = optimizer,
                share: Deadline = share,
                latest: list[tuple[Tensor, Tensor, Tensor]] = latest,
            ) -> Tensor:
                # The start is no result: one step is taken and looked at, however short the time.
                if len(latest) > 1 and share.passed:
                    raise _TimeUpError
                optimizer.zero_grad()
                updates = candidates.updates(inputs, logits.softmax(-1) if known is None else known, which)
                loss = squared_norm([row - goal for row, goal in zip(updates, targets, strict=True)]).sum()
                torch.autograd.backward(loss, inputs=[inputs] if known is not None else [inputs, logits])
                if deadline.limited:
                    points = inputs.detach().clone(), logits.detach().clone()
                    latest[:] = [*latest[-1:], (loss.detach(), *points)]
                return loss

            scale = candidates.scales[candidates.owner[which]]
            for iteration in range(1, iterations + 1):
                images, classes, cut = inputs, logits, False
                try:
                    loss = torch.as_tensor(optimizer.step(closure))  # type: ignore[no-untyped-call]
                except _TimeUpError:
                    (loss, images, classes), cut = latest[-1], True
                answers = classes if known is None else known
                done = problem * iterations + iteration
                best.record(done, loss / scale, first.scale.undo(images), answers, which, own=iteration)
                if cut or not bool(loss.isfinite()) or bool(loss / scale <= tolerance):
                    break
    except KeyboardInterrupt:
        interrupted = True
    return best.results(interrupted=interrupted)
