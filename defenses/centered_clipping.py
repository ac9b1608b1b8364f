"""Centered clipping: every update moves a center that is carried from round to round, by no more than a radius.

Reference: Karimireddy, He, Jaggi, Learning from history for Byzantine robust optimization, ICML 2021, arXiv:2012.10333;
the sequential variant: Ozfatura, Ozfatura, Kupcu, Gunduz, Byzantines can also learn from history: fall of centered
clipping in federated learning, IEEE TIFS 2023, arXiv:2208.09894.
"""

from collections.abc import Mapping
from math import ceil, isfinite
from typing import final

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fedsec.defense import Cohort, Gram, GramRule, check_majority
from fedsec.defense.geometry.clipping import shortening
from fedsec.errors import InputError


@final
class CenteredClipping(GramRule):
    """The last round's result, moved by each update by no more than a radius times its weight.

    v <- v + sum_i w_i (x_i - v) min(1, tau / ||x_i - v||), a few times, from the last round's v; first from zero

    A client moves the result by at most its weight times tau an iteration, and Byzantine clients together by their
    weight times tau. Withstands Byzantine clients that hold less than half of the weight. With momentum beta of the
    clients tau is about 10 / (1 - beta) in the paper. So is the start from zero: no client can have chosen that, and
    what all updates have in common is found in the first rounds, in steps of tau.

    `sequential`: an attacker who knows v hides from it, for it is the same for every client. So the clients are ordered
    by their cosine with v and cut into strata, each bucket gets a random client of each, and one bucket after the other
    moves v by the mean of its clipped differences. A bucket that is smaller than others moves it by less; with weights,
    no client moves it by more than the number of buckets times its weight times tau. It lives by clipping: where tau is
    longer than all differences, the last bucket's mean is all that is left.

    Args:
        radius: tau, in the updates' own units; positive.
        num_iterations: how often all clients move v in a round.
        sequential: the clients move v bucket by bucket.
        bucket_size: how many share a bucket, if `sequential`.
        weighted: the clients' weights count. They then must be known by the server, such as from a contract of the
            sites: a client that states its own number of examples chooses its weight.

    Raises:
        InputError: a number out of range.

    Cost:
        n^2 d for the inner products of all updates, in one pass over them, with the center among them; then n^2 in each
        iteration. It carries d numbers from round to round.

    Limits:
        A radius longer than all differences clips nobody, one that is too short needs many rounds to get anywhere. All
        clients know the center: relocated orthogonal perturbation turns about it (Ozfatura et al., IEEE TIFS 2023).

    Reference: Karimireddy et al., ICML 2021, arXiv:2012.10333
    """

    def __init__(
        self,
        radius: float,
        num_iterations: int = 1,
        sequential: bool = False,
        bucket_size: int = 3,
        weighted: bool = False,
    ) -> None:
        if not (isfinite(radius) and radius > 0):
            raise InputError(f"CenteredClipping: radius must be positive and finite, not {radius}")
        if num_iterations < 1:
            raise InputError(f"CenteredClipping: num_iterations must be at least 1, but is {num_iterations}")
        if bucket_size < 1:
            raise InputError(f"CenteredClipping: bucket_size must be at least 1, but is {bucket_size}")
        self.radius, self.num_iterations, self.bucket_size = radius, num_iterations, bucket_size
        self.sequential = self.draws = sequential
        self.uses_weights = weighted
        self._center: Tensor | None = None

    def max_rejected(self, num_clients: int) -> int:
        """Fewer than half of the clients; by weight, as many as have less than half of it."""
        return num_clients - 1 if self.uses_weights else (num_clients - 1) // 2

    def references(self, cohort: Cohort) -> Float[Tensor, "references parameters"]:
        like = cohort.updates[:1]
        if self._center is None:
            return torch.zeros_like(like)
        if len(self._center) != like.shape[1]:
            raise InputError(
                f"CenteredClipping: the center carried from the last round has {len(self._center)} numbers, and rows "
                f"have {like.shape[1]}; expected rows of one length, or restore({{}}) to begin anew"
            )
        return self._center[None].to(like)

    def weights(self, gram: Gram, cohort: Cohort) -> Float64[Tensor, "rows"]:
        check_majority("CenteredClipping", cohort)
        count, masses = len(gram), torch.tensor(cohort.weights, dtype=torch.float64)
        # About the nearest row nothing of the rows' distances from the moving center is lost to outliers.
        nearest = int(gram.squared_distances(references=True)[count, :count].argmin())
        inner = gram.about(nearest, references=True)
        center = torch.zeros(count + 1, dtype=torch.float64)
        center[count] = 1.0
        for _ in range(self.num_iterations):
            buckets = self._buckets(gram, cohort) if self.sequential else [torch.arange(count)]
            for bucket in buckets:
                total = max(float(masses[bucket].sum()), 1 / len(buckets))
                center = self._moved(center, bucket, masses[bucket] / total, inner, self.radius / gram.unit)
        return center

    def _moved(self, center: Tensor, bucket: Tensor, masses: Tensor, inner: Tensor, radius: float) -> Tensor:
        """Parts of the rows and of the first center in the center that a bucket has moved."""
        middle = center @ inner
        squares = center @ middle - 2 * middle[bucket] + inner.diagonal()[bucket]
        steps = masses * shortening(squares.clamp_min(0).sqrt(), radius)
        moved = center * (1 - steps.sum())
        moved[bucket] += steps
        return moved

    def _buckets(self, gram: Gram, cohort: Cohort) -> list[Tensor]:
        """Each with a random row of each stratum of rows that point about as much in the center's direction."""
        count = len(gram)
        shuffled = torch.randperm(count, generator=cohort.generator)  # cosines with a center of zero are all equal
        cosines = gram.cosines(references=True)[count][shuffled]
        strata = shuffled[cosines.sort(stable=True).indices].tensor_split(min(self.bucket_size, count))
        num_buckets = ceil(count / self.bucket_size)
        places = [torch.randperm(num_buckets, generator=cohort.generator)[: len(stratum)] for stratum in strata]
        rows, bucket_of = torch.cat(list(strata)), torch.cat(places)
        return [rows[bucket_of == bucket] for bucket in range(num_buckets)]

    def remember(self, cohort: Cohort, vector: Float[Tensor, "parameters"]) -> None:
        self._center = vector.clone()

    def state(self) -> dict[str, Tensor]:
        return {} if self._center is None else {"center": self._center}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        if not state.keys() <= {"center"}:
            raise InputError(f"CenteredClipping remembers its center; expected that, got {sorted(state)}")
        self._center = state["center"].clone() if state else None
