"""Does an update reveal which site sent it? Updates are identified round by round, from those of all other rounds.

From each update what its round has in common, the mean, is taken off, and its length. An update of round t then goes to
that site, among those that took part in t, whose updates in other rounds have the highest mean cosine with it. If
updates say nothing about sites, those of one round can be exchanged: permuting sites within rounds gives the null
distribution of the share that is identified, whatever the number of sites and whoever took part.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from fedsec.auditing.rates import Rate, clustered_rate
from fedsec.errors import InputError
from fedsec.properties.permutation import PermutationTest
from fedsec.threat import PropertyInference, PropertyView

__all__ = ["SiteTest", "centered", "directions", "identify_sites"]

SiteScores = Callable[[Int64[Tensor, "permutations updates"]], Float64[Tensor, "permutations updates sites"]]
"""Who is said to have sent each update -> how much speaks for each site to have sent it, told by other rounds."""
_AT_ONCE = 2_000_000
"""Numbers of scores that are in memory at a time."""


@dataclass(frozen=True, eq=False)
class SiteTest:
    """How many updates were identified, and how many by chance.

    Attributes:
        test: of the share that was identified.
        correct: how many were.
        attempts: of how many.
        chance: the share that guessing among the round's sites identifies.
        correct_by_site: how many of each site's updates were identified, in the order of sites' numbers.
        attempts_by_site: of how many; their sum is `attempts`.
    """

    test: PermutationTest
    correct: int
    attempts: int
    chance: float
    correct_by_site: tuple[int, ...]
    attempts_by_site: tuple[int, ...]

    def rate(self, confidence: float) -> Rate:
        """The share that was identified; of its interval sites, and not their repeated updates, are independent.

        Args:
            confidence: of the interval, in (0, 1).
        """
        return clustered_rate(self.correct_by_site, self.attempts_by_site, confidence)


def centered(updates: Float[Tensor, "updates entries"], rounds: Int64[Tensor, "updates"]) -> Tensor:
    """Updates less the mean of their round.

    Args:
        updates: or sketches of them.
        rounds: in which they were sent.
    """
    _, place = torch.unique(rounds, return_inverse=True)
    count = place.bincount().to(updates)
    means = updates.new_zeros(len(count), updates.shape[1]).index_add_(0, place, updates) / count[:, None]
    rest: Tensor = updates - means[place]
    return rest


def directions(updates: Float[Tensor, "updates entries"]) -> Float64[Tensor, "updates entries"]:
    """Rows of length one; a row of zeros stays one."""
    wide = updates.double()
    unit: Tensor = wide / wide.norm(dim=1, keepdim=True).clamp_min(1e-300)
    return unit


def identify_sites(
    updates: Float[Tensor, "updates entries"],
    rounds: Int64[Tensor, "updates"],
    sites: Int64[Tensor, "updates"],
    *,
    permutations: int,
    generator: np.random.Generator,
    inference: PropertyInference | None = None,
) -> SiteTest:
    """Identify every update from those of other rounds, and hold the share against permuted sites.

    Args:
        updates: as they came, or sketches of them.
        rounds: in which they were sent.
        sites: who sent them, each at most once a round.
        permutations: how many.
        generator: of the permutations.
        inference: who scores sites, asked once for each round of every permutation; by default `Site`, for all of
            them at once.

    Raises:
        InputError: less than two rounds with two sites that took part in others as well.
    """
    names, labels = torch.unique(sites, return_inverse=True)
    _, place = torch.unique(rounds, return_inverse=True)
    rest = centered(updates.double(), rounds)
    took_part = torch.zeros(int(place.max()) + 1, len(names), dtype=torch.float64)
    took_part[place, labels] = 1
    elsewhere = (took_part.sum(0) - took_part)[place]  # of each update, each site's updates in other rounds
    eligible = (took_part[place] > 0) & (elsewhere > 0)
    eligible &= eligible.sum(1, keepdim=True) > 1
    attempted = eligible.gather(1, labels[:, None])[:, 0]
    attempts = int(attempted.sum())  # the same for every permutation within rounds
    if not attempts:
        raise InputError(
            "identify_sites: expected at least two rounds, and in one of them two sites that took part in others as "
            "well; nothing else can be identified"
        )
    scores = _cosines(rest, place, elsewhere) if inference is None else _scores(inference, rest, place, len(names))
    identified = partial(_identified, scores, eligible)
    null = np.empty(permutations)
    step = max(1, _AT_ONCE // (len(labels) * len(names)))
    for start in range(0, permutations, step):
        drawn = torch.stack([_permuted(labels, place, generator) for _ in range(min(step, permutations - start))])
        null[start : start + len(drawn)] = identified(drawn).sum(1).numpy() / attempts
    own = identified(labels[None])[0]
    correct = int(own.sum())
    candidates = attempted / eligible.sum(1).clamp_min(1)
    correct_by_site, attempts_by_site = (
        tuple(labels[which].bincount(minlength=len(names)).tolist()) for which in (own, attempted)
    )
    return SiteTest(
        PermutationTest(correct / attempts, null),
        correct,
        attempts,
        float(candidates.sum()) / attempts,
        correct_by_site,
        attempts_by_site,
    )


def _permuted(labels: Tensor, place: Tensor, generator: np.random.Generator) -> Int64[Tensor, "updates"]:
    """The same sites in each round, in another order."""
    shuffled = torch.from_numpy(generator.random(len(labels)))
    by_round = np.lexsort((shuffled.numpy(), place.numpy()))
    permuted = torch.empty_like(labels)
    permuted[torch.argsort(place, stable=True)] = labels[torch.from_numpy(by_round)]
    return permuted


def _cosines(
    rest: Float64[Tensor, "updates entries"],
    place: Int64[Tensor, "updates"],
    elsewhere: Float64[Tensor, "updates sites"],
) -> SiteScores:
    """The scores of `Site`, which are linear in who sent what: for many permutations at once."""
    unit = directions(rest)
    similar = unit @ unit.T
    similar[place[:, None] == place[None]] = 0.0  # nothing of its own round tells who it is

    def scores(labels: Tensor) -> Tensor:
        count, number = labels.shape
        hot = torch.nn.functional.one_hot(labels, elsewhere.shape[1]).double()
        flat = similar @ hot.permute(1, 0, 2).reshape(number, -1)
        mean: Tensor = flat.view(number, count, -1).permute(1, 0, 2) / elsewhere.clamp_min(1)
        return mean

    return scores


def _scores(
    inference: PropertyInference, rest: Float64[Tensor, "updates entries"], place: Int64[Tensor, "updates"], sites: int
) -> SiteScores:
    """The scores of any inference, which is asked about one round after the other."""
    rounds = [place == number for number in range(int(place.max()) + 1)]

    def scores(labels: Tensor) -> Tensor:
        values = torch.empty(*labels.shape, sites, dtype=torch.float64)
        for permutation, named in enumerate(labels):
            for asked in rounds:
                view = PropertyView(rest[asked], sites, rest[~asked], named[~asked])
                values[permutation, asked] = inference.infer(view)
        return values

    return scores


def _identified(
    scores: SiteScores, eligible: Bool[Tensor, "updates sites"], labels: Int64[Tensor, "permutations updates"]
) -> Bool[Tensor, "permutations updates"]:
    """Which updates are identified, for each way to name their senders."""
    likeliest = scores(labels).masked_fill(~eligible, -torch.inf).argmax(2)
    could = eligible.expand(len(labels), -1, -1).gather(2, labels[..., None])[..., 0]
    return (likeliest == labels) & could
