"""Deep leakage from gradients (DLG): search for images and labels whose gradient is the observed one.

Reference: Zhu, Liu, Han, Deep leakage from gradients, NeurIPS 2019, arXiv:1906.08935.

Deviations of the default variant: every search has a strong-Wolfe line search, since the full steps of the authors'
code diverge for many starts, it begins with uniform noise within the pixels' range instead of N(0, 1), and of several
starts the one with the least matching loss counts. In both variants the labels are those of the final logits.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch

from fedsec.errors import InputError
from fedsec.matching.consistency import consistent, with_notes
from fedsec.matching.lbfgs_search import match, match_as_published
from fedsec.matching.limits import Deadline, check_limits
from fedsec.threat import Inversion, Observation, Reconstruction
from fedsec.threat.inversion import Watch


class DLG(Inversion):
    """Searches for images and soft labels together, whose gradient is the observed one, by L-BFGS.

    min over x, z of || grad L(x, softmax(z)) - update ||^2; where labels are granted they take the place of softmax(z).

    Args:
        iterations: of 20 L-BFGS iterations each, at most.
        restarts: random starts, of which the one with the least matching loss counts.
        tolerance: stop when the squared distance, as a share of the update's squared norm, is below this.
        seconds: stop after this time; never, if not given.
        variant: `robust`, or `published` (full steps from N(0, 1), no line search, as the authors' code).

    Raises:
        InputError: a number out of range.

    Cost:
        In each iteration of L-BFGS the update of the images so far, and its gradient with respect to the images: a few
        passes forward and backward through the network.

    Limits:
        Fails for many starts, more often the larger the batch. Networks whose second derivatives vanish, such as with
        ReLU, give it little to follow (its authors take sigmoids). Noise, pruning and clipping of which it does not
        know mislead it.

    Example:
        iterations: 50

    Reference: Zhu et al., NeurIPS 2019, arXiv:1906.08935
    """

    reads_labels: ClassVar[bool] = False

    def __init__(
        self,
        iterations: int = 100,
        restarts: int = 1,
        tolerance: float = 1e-9,
        seconds: float | None = None,
        variant: Literal["robust", "published"] = "robust",
    ) -> None:
        check_limits("DLG", iterations=iterations, restarts=restarts, seconds=seconds)
        if variant not in ("robust", "published"):
            raise InputError(f"DLG: variant must be robust or published, not {variant!r}")
        self.iterations, self.restarts = iterations, restarts
        self.tolerance, self.seconds = tolerance, seconds
        self.variant = variant

    def recover(
        self, observations: Sequence[Observation], *, generator: torch.Generator, watch: Watch
    ) -> list[Reconstruction]:
        deadline = Deadline(self.seconds)
        search = match if self.variant == "robust" else match_as_published
        observations, doubts = consistent(observations, deadline.for_preparation())
        granted = [observation.labels for observation in observations if observation.labels is not None]
        results = search(
            observations,
            torch.stack(granted) if granted else None,
            iterations=self.iterations,
            restarts=self.restarts,
            tolerance=self.tolerance,
            deadline=deadline,
            generator=generator,
            watch=watch,
        )
        return with_notes(results, doubts)
