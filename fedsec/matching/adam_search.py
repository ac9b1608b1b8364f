"""Gradient matching by (signed) Adam with priors: the search behind Inverting Gradients and GradInversion."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fedsec.matching.best_so_far import BestSoFar
from fedsec.matching.candidates import Candidates
from fedsec.matching.descent import Descent
from fedsec.matching.limits import Deadline
from fedsec.threat import Observation, PixelScale, Reconstruction
from fedsec.threat.inversion import Watch

__all__ = ["Guess", "descend"]

_UNIT = PixelScale()
_STANDARD = PixelScale((0.5,), (0.25,))
_LEAST_SIGNAL = 1e-2


@dataclass(frozen=True, eq=False)
class Guess:
    """Candidate images of some problems and what follows from them, for an attack's loss.

    Attributes:
        images: in standardized units, in which photographs have about mean 0 and deviation 1.
        inputs: the same images as the model takes them.
        updates: that clients with them would have sent; for each parameter, [problems, ...].
        targets: the observed ones.
        norms: of the targets.
        which: the problems' numbers.
        noise: share of the targets' squared norms that is known to be noise.
        progress: share of the iterations that is done, in [0, 1].
    """

    images: Float[Tensor, "problems batch c h w"]
    inputs: Float[Tensor, "problems batch c h w"]
    updates: list[Tensor]
    targets: list[Tensor]
    norms: Float[Tensor, "problems"]
    which: Int64[Tensor, "problems"]
    noise: Float[Tensor, "problems"]
    progress: float

    @property
    def prior_gain(self) -> Float[Tensor, "problems"]:
        """How much more a prior counts than without noise: 1 / (1 - noise), at most 100; one where none is known.

        That is the observed squared norm over the part of it that is no noise.
        """
        return 1 / (1 - self.noise).clamp_min(_LEAST_SIGNAL)


Loss = Callable[[Guess], tuple[Tensor, Tensor]]
"""(matching loss, priors) of each problem; their sum is minimized, the first judges."""


def descend(
    observations: Sequence[Observation],
    labels: Int64[Tensor, "trials batch"],
    loss: Loss,
    descent: Descent,
    *,
    restarts: int,
    boxed: bool,
    together: bool,
    fixed: bool,
    at_once: int | None,
    deadline: Deadline,
    generator: torch.Generator,
    watch: Watch,
    notes: Sequence[str] = (),
) -> list[Reconstruction]:
    """Images whose update is close to the observed one and that look like photographs.

    Args:
        observations: alike in kind.
        labels: of each observation's images, in any order; see `Candidates` for local steps on parts of the images.
        loss: of a guess.
        descent: how to search.
        restarts: random starts of each observation; the one with the least matching loss counts.
        boxed: put pixels back into [0, 1] after every step.
        together: whether the loss needs all restarts of an observation at once.
        fixed: whether the loss does the same at any progress; see `Descent.run`.
        at_once: problems computed together, at most (in whole observations, if `together`); all, if None.
        deadline: of all; what is left is shared out evenly where problems are computed one after another.
        generator: the only source of randomness.
        watch: shown the best so far at intervals.
        notes: passed on to the results.
    """
    first = observations[0]
    candidates = Candidates(observations, restarts, generator=generator)
    known = labels.repeat_interleave(restarts, 0)
    units = _STANDARD if first.scale == _UNIT else first.scale
    shape = (candidates.problems, first.batch_size, *first.input_shape)
    starts = torch.randn(shape, generator=generator).to(candidates.targets[0])
    lowest, highest = units.apply(torch.zeros_like(starts[0, 0])), units.apply(torch.ones_like(starts[0, 0]))
    size = min(at_once or candidates.problems, candidates.problems)
    size = max(restarts, size // restarts * restarts) if together else size
    blocks = torch.split(torch.arange(candidates.problems), size)
    total = descent.iterations * len(blocks)
    best = BestSoFar(observations, restarts, watch, stage="matching", iterations=total, labels=labels)
    to_inputs = _affine(units, first.scale, starts)
    candidates.prepare(known, deadline)
    interrupted = False
    try:
        for number, which in enumerate(blocks):
            images = starts[which].clone().requires_grad_()
            targets, answers = candidates.targets_of(which), known[which]
            norms = candidates.scales[candidates.owner[which]].sqrt()
            noise = candidates.noise[candidates.owner[which]]

            def objective(
                iteration: int,
                images: Tensor = images,
                which: Tensor = which,
                answers: Tensor = answers,
                targets: list[Tensor] = targets,
                norms: Tensor = norms,
                noise: Tensor = noise,
            ) -> tuple[Tensor, Tensor]:
                inputs = to_inputs(images)
                updates = candidates.updates(inputs, answers, which)
                progress = iteration / descent.iterations
                matching, priors = loss(Guess(images, inputs, updates, targets, norms, which, noise, progress))
                return matching + priors, matching

            def record(
                iteration: int,
                losses: Tensor,
                images: Tensor = images,
                which: Tensor = which,
                answers: Tensor = answers,
                before: int = best.iteration,
            ) -> None:
                best.record(before + iteration, losses, units.undo(images), answers, which, own=iteration)

            def clamp(images: Tensor) -> None:
                if boxed:
                    torch.clamp(images, lowest, highest, out=images)

            alone = fixed and first.local is None
            share = deadline.share(len(blocks) - number)
            descent.run(objective, images, record=record, clamp=clamp, fixed=alone, generator=generator, deadline=share)
    except KeyboardInterrupt:
        interrupted = True
    return best.results(interrupted=interrupted, notes=(*notes, *candidates.notes))


def _affine(units: PixelScale, scale: PixelScale, like: Tensor) -> Callable[[Tensor], Tensor]:
    """From images in one scale to the model's input; constants are put on the device once."""
    if units == scale:
        return lambda images: images
    (mean, std), (other_mean, other_std) = units.tensors(like), scale.tensors(like)
    factor, shift = std / other_std, (mean - other_mean) / other_std
    return lambda images: images * factor + shift
