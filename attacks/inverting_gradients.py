"""Inverting gradients: the angle between gradients, total variation, and signed Adam in a box.

Reference: Geiping, Bauermeister, Dröge, Moeller, Inverting gradients: how easy is it to break privacy in federated
learning?, NeurIPS 2020, arXiv:2003.14053.

Deviations: a learning rate that no longer helps gives its iterations to the next lower one (`plateau`), the restart is
chosen by its matching loss alone, restarts run together, and in updates of several local steps the order of the labels
is not taken from the client: each restart tries its own. Under a defense that the attacker knows, updates are compared
as `fedsec.matching.comparison` says. Noise is met by the likeliest images of any length of the update: the angle, with
parameters weighted by their noise, and a prior that counts the more, the more noise there is.
"""

from collections.abc import Sequence
from math import isfinite

import torch
from torch import Tensor

from fedsec.errors import InputError
from fedsec.matching.adam_search import Guess, descend
from fedsec.matching.consistency import consistent, with_notes
from fedsec.matching.descent import Descent
from fedsec.matching.distances import cosine_distance, total_variation
from fedsec.matching.labels import labels_of
from fedsec.matching.limits import Deadline, check_limits
from fedsec.matching.statistics import StatisticsPrior
from fedsec.threat import Inversion, Observation, Reconstruction
from fedsec.threat.inversion import Watch


class InvertingGradients(Inversion):
    """Searches for images whose update points the way of the observed one, with total variation and signed Adam.

    min over x in the pixels' range of 1 - cos(update(x), observed) + tv * TV(x), with x standardized

    An update of several local steps is matched by unrolling them. Labels that are not granted are recovered first.

    Args:
        iterations: Adam steps; the paper takes 4,800, the authors' code 24,000.
        restarts: random starts, computed together, of which the one with the least matching loss counts.
        lr: of Adam, in standardized units; a tenth of it after 3/8, 5/8 and 7/8 of the iterations each.
        tv: weight of total variation; good values lie between 1e-4 and 1e-1, depending on the network and the scale of
            its inputs.
        bn: weight of the distance from the batch's normalization statistics, where these are granted.
        signed: use only the gradient's sign.
        boxed: put pixels back into [0, 1] after every step.
        plateau: when the matching loss has not fallen by 0.1% within so many iterations, give the rest of this learning
            rate's iterations to the next lower one, and stop after the last; null: the published schedule.
        seconds: stop after this time; never, if not given.
        at_once: how many problems (observations x restarts) to hold in memory together; all, if not given.

    Raises:
        InputError: a number out of range.

    Cost:
        In each step and for each restart the update of the images so far, and its gradient with respect to the images:
        a few passes forward and backward through the network.

    Limits:
        Images of one batch compensate for each other: larger batches, longer local training and trained networks leave
        less. `tv` has to fit the network and its inputs.

    Example:
        iterations: 400
        tv: 0.001

    Reference: Geiping et al., NeurIPS 2020, arXiv:2003.14053
    """

    def __init__(
        self,
        iterations: int = 4800,
        restarts: int = 1,
        lr: float = 0.1,
        tv: float = 1e-2,
        bn: float = 5e-3,
        signed: bool = True,
        boxed: bool = True,
        plateau: int | None = 100,
        seconds: float | None = None,
        at_once: int | None = None,
    ) -> None:
        check_limits("InvertingGradients", iterations=iterations, restarts=restarts, seconds=seconds, at_once=at_once)
        if not (isfinite(tv) and tv >= 0 and isfinite(bn) and bn >= 0):
            raise InputError(f"InvertingGradients: tv and bn must not be negative, not {tv} and {bn}")
        self.descent = Descent(iterations, lr, signed, plateau=plateau)
        self.restarts, self.tv, self.bn = restarts, tv, bn
        self.boxed, self.seconds, self.at_once = boxed, seconds, at_once

    def recover(
        self, observations: Sequence[Observation], *, generator: torch.Generator, watch: Watch
    ) -> list[Reconstruction]:
        deadline = Deadline(self.seconds)
        preparation = deadline.for_preparation()
        observations, doubts = consistent(observations, preparation)
        labels = torch.stack([labels_of(observation, generator, preparation) for observation in observations])
        owner = torch.arange(len(observations)).repeat_interleave(self.restarts)
        granted = observations[0].statistics is not None and self.bn > 0
        statistics = StatisticsPrior(observations, owner) if granted else None

        def loss(guess: Guess) -> tuple[Tensor, Tensor]:
            matching = cosine_distance(guess.updates, guess.targets, guess.norms)
            priors = self.tv * guess.prior_gain * total_variation(guess.images)
            if statistics is not None:
                priors = priors + self.bn * statistics(guess.inputs, guess.which)
            return matching, priors

        results = descend(
            observations,
            labels,
            loss,
            self.descent,
            restarts=self.restarts,
            boxed=self.boxed,
            together=False,
            fixed=statistics is None,
            at_once=self.at_once,
            deadline=deadline,
            generator=generator,
            watch=watch,
        )
        return with_notes(results, doubts)
