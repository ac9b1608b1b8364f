"""Improved deep leakage from gradients (iDLG): the labels first, then the images.

Reference: Zhao, Mopuri, Bilen, iDLG: improved deep leakage from gradients, 2020, arXiv:2001.02610.

Deviations: the paper treats batches of one image; here the labels of larger batches are recovered as well as
`fedsec.matching.labels` can, and the images are then searched for all at once.
"""

from collections.abc import Sequence

import torch

from fedsec.matching.consistency import consistent, with_notes
from fedsec.matching.labels import labels_of
from fedsec.matching.lbfgs_search import match
from fedsec.matching.limits import Deadline, check_limits
from fedsec.threat import Inversion, Observation, Reconstruction
from fedsec.threat.inversion import Watch


class IDLG(Inversion):
    """Reads the labels off the last layer's gradient, then searches for images by L-BFGS as DLG does.

    Args:
        iterations: of 20 L-BFGS iterations each, at most.
        restarts: random starts, of which the one with the least matching loss counts.
        tolerance: stop when the squared distance, as a share of the update's squared norm, is below this.
        seconds: stop after this time; never, if not given.

    Raises:
        InputError: a number out of range.

    Cost:
        In each iteration of L-BFGS the update of the images so far, and its gradient with respect to the images: a few
        passes forward and backward through the network.

    Limits:
        As `dlg`, with right labels: their recovery is exact for one image, and less so for batches of a trained
        network.

    Example:
        iterations: 50

    Reference: Zhao, Mopuri, Bilen, 2020, arXiv:2001.02610
    """

    def __init__(
        self,
        iterations: int = 100,
        restarts: int = 1,
        tolerance: float = 1e-9,
        seconds: float | None = None,
    ) -> None:
        check_limits("IDLG", iterations=iterations, restarts=restarts, seconds=seconds)
        self.iterations, self.restarts = iterations, restarts
        self.tolerance, self.seconds = tolerance, seconds

    def recover(
        self, observations: Sequence[Observation], *, generator: torch.Generator, watch: Watch
    ) -> list[Reconstruction]:
        deadline = Deadline(self.seconds)
        preparation = deadline.for_preparation()
        observations, doubts = consistent(observations, preparation)
        results = match(
            observations,
            torch.stack([labels_of(observation, generator, preparation) for observation in observations]),
            iterations=self.iterations,
            restarts=self.restarts,
            tolerance=self.tolerance,
            deadline=deadline,
            generator=generator,
            watch=watch,
        )
        return with_notes(results, doubts)
