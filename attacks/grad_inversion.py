"""GradInversion: gradient matching with normalization statistics and agreement between restarts.

Reference: Yin, Mallya, Vahdat, Alvarez, Kautz, Molchanov, See through gradients: image batch recovery via
GradInversion, CVPR 2021, arXiv:2104.07586.

Deviations: restarts are aligned by matching their images one to one before they are averaged, not by registering
pixels (the paper uses RANSAC flow), and the distance of the updates is relative to the observed one's norm, so that one
set of weights serves networks of any size. The restart is chosen by its matching loss.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.errors import InputError
from fedsec.matching.adam_search import Guess, descend
from fedsec.matching.consistency import consistent, with_notes
from fedsec.matching.descent import Descent
from fedsec.matching.distances import squared_distance, total_variation
from fedsec.matching.labels import labels_of
from fedsec.matching.limits import Deadline, check_limits
from fedsec.matching.statistics import StatisticsPrior
from fedsec.threat import Inversion, Observation, Reconstruction
from fedsec.threat.inversion import Watch


class GradInversion(Inversion):
    """Matches the update, the normalization layers' statistics, and the restarts with each other.

    min over x of || update(x) - observed ||^2 / || observed ||^2 + tv * TV(x) + l2 * mean x^2 + bn * R_BN(x)
    + group * mean (x - mean over restarts)^2, with x standardized, by Adam with Gaussian noise in every step.

    The statistics are the batch's own where they are granted, else the running ones of layers in eval mode. Agreement
    counts from the middle of the search on.

    Args:
        iterations: Adam steps; the paper takes 20,000.
        restarts: random starts, computed together and pulled to their common mean.
        lr: of Adam, in standardized units; a tenth of it after 3/8, 5/8 and 7/8 of the iterations each.
        tv: weight of total variation.
        l2: weight of the mean square.
        bn: weight of the statistics.
        group: weight of the agreement.
        noise: of each step, as a share of the learning rate.
        plateau: when the matching loss has not fallen by 0.1% within so many iterations, give the rest of this learning
            rate's iterations to the next lower one, and stop after the last; never, if not given.
        seconds: stop after this time; never, if not given.
        at_once: how many problems (observations x restarts) to hold in memory together, rounded to whole observations;
            all, if not given.

    Raises:
        InputError: a number out of range.

    Cost:
        In each step and for each restart the update of the images so far, and its gradient with respect to the images:
        a few passes forward and backward through the network.

    Limits:
        Lives by the statistics of normalization layers: where there are none it says so, and what is left is matching
        with weak priors. Larger batches leave less.

    Example:
        iterations: 400
        restarts: 2

    Reference: Yin et al., CVPR 2021, arXiv:2104.07586
    """

    def __init__(
        self,
        iterations: int = 4800,
        restarts: int = 4,
        lr: float = 0.1,
        tv: float = 1e-2,
        l2: float = 1e-5,
        bn: float = 1e-2,
        group: float = 1e-2,
        noise: float = 0.2,
        plateau: int | None = None,
        seconds: float | None = None,
        at_once: int | None = None,
    ) -> None:
        weights = {"tv": tv, "l2": l2, "bn": bn, "group": group}
        for name, weight in weights.items():
            if not 0 <= weight < float("inf"):
                raise InputError(f"GradInversion: {name} must not be negative, not {weight}")
        check_limits("GradInversion", iterations=iterations, restarts=restarts, seconds=seconds, at_once=at_once)
        self.descent = Descent(iterations, lr, signed=False, noise=noise, plateau=plateau)
        self.restarts = restarts
        self.tv, self.l2, self.bn, self.group = tv, l2, bn, group
        self.seconds, self.at_once = seconds, at_once

    def recover(
        self, observations: Sequence[Observation], *, generator: torch.Generator, watch: Watch
    ) -> list[Reconstruction]:
        deadline = Deadline(self.seconds)
        preparation = deadline.for_preparation()
        observations, doubts = consistent(observations, preparation)
        labels = torch.stack([labels_of(observation, generator, preparation) for observation in observations])
        owner = torch.arange(len(observations)).repeat_interleave(self.restarts)
        statistics = StatisticsPrior(observations, owner)

        def loss(guess: Guess) -> tuple[Tensor, Tensor]:
            images = guess.images
            priors = self.tv * guess.prior_gain * total_variation(images) + self.l2 * images.square().flatten(1).mean(1)
            if statistics.layers and self.bn:
                priors = priors + self.bn * statistics(guess.inputs, guess.which)
            if self.restarts > 1 and self.group and guess.progress >= 0.5:
                agreed = agreement(images.detach(), self.restarts)
                priors = priors + self.group * (images - agreed).square().flatten(1).mean(1)
            return squared_distance(guess.updates, guess.targets, guess.norms.square()), priors

        results = descend(
            observations,
            labels,
            loss,
            self.descent,
            restarts=self.restarts,
            boxed=True,
            together=True,
            fixed=False,
            at_once=self.at_once,
            deadline=deadline,
            generator=generator,
            watch=watch,
            notes=() if statistics.layers else ("there were no normalization statistics to match",),
        )
        return with_notes(results, doubts)


def agreement(images: Float[Tensor, "problems batch c h w"], restarts: int) -> Float[Tensor, "problems batch c h w"]:
    """For each image the mean over restarts of the images that correspond to it.

    Args:
        images: of consecutive restarts of each observation.
        restarts: how many of them belong together.
    """
    from scipy.optimize import linear_sum_assignment

    result = torch.empty_like(images)
    for begin in range(0, len(images), restarts):
        group = images[begin : begin + restarts]
        flat = group.flatten(2)
        orders = [torch.arange(group.shape[1], device=images.device)]
        for other in flat[1:] if group.shape[1] > 1 else ():
            rows, columns = linear_sum_assignment(torch.cdist(flat[0], other).nan_to_num(nan=1e30).cpu().numpy())
            orders.append(torch.from_numpy(columns[rows.argsort()]).to(images.device))
        orders += orders[:1] * (len(group) - len(orders))
        mean = torch.stack([member[order] for member, order in zip(group, orders, strict=True)]).mean(0)
        for offset, order in enumerate(orders):
            result[begin + offset, order] = mean
    return result
