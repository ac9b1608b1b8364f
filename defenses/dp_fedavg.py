"""User-level differential privacy by the server: clipped updates, noise on their sum, a clipping bound that may adapt.

Reference: McMahan, Ramage, Talwar, Zhang: Learning differentially private recurrent language models. ICLR 2018,
arXiv:1710.06963 (the fixed denominator, uniform weights). The adaptive bound: Andrew, Thakkar, McMahan, Ramaswamy:
Differentially private learning with adaptive clipping. NeurIPS 2021, arXiv:1905.03871 (algorithm 1, in geometric form).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fedsec.defense import Cohort, PrivateAggregator, RowTotal
from fedsec.defense.norms import bounded_sum, row_norms
from fedsec.errors import InputError
from fedsec.privacy import calibrate, check_accountant, check_delta, default_delta

_COHORT_OVER_COUNT_NOISE = 20
"""Andrew et al. set the count's noise to a twentieth of the expected cohort."""


class DpFedAvg(PrivateAggregator):
    """The server clips whole updates and adds noise to their sum, so that no client can be told from its absence.

    (sum_i u_i min(1, S / ||u_i||) + N(0, (z S)^2 I)) / m, with m the *expected* number of clients in a round.

    With `quantile`, S follows that quantile of the updates' norms: S <- S exp(-clip_lr (b - quantile)), where b is a
    noisy share of updates that were not clipped; z then pays for both, as z_u = (z^-2 - (2 s)^-2)^-1/2 for the updates
    and s for the count.

    What is guaranteed: (epsilon, delta)-differential privacy of all models that the server releases, towards everybody
    but the server, which sees the updates themselves. The unit is one client with all its data, added or removed.
    Clients must be sampled independently of each other (`sampling: poisson`), or all take part in every round, without
    stragglers. Weights are ignored: all clients count alike. Not covered: what else the server knows (participants,
    influences, clients' own accuracies and statistics).

    Args:
        noise_multiplier: z, the noise's standard deviation over the bound.
        target_epsilon: in its place: the noise is calibrated so that the run spends no more.
        clip_norm: S, the largest norm of an update; with `quantile` the first one.
        quantile: share of updates that should not be clipped, in (0, 1); null: the bound stays.
        clip_lr: how fast the bound follows.
        count_noise: s, standard deviation of the noise on the count; null: a twentieth of the expected clients, or z
            where that is more.
        delta: of the guarantee; null: n^-1.1 for n clients.
        accountant: rdp, an upper bound; prv, a tighter one, slower; gdp, an approximation that may underestimate.

    Attributes:
        bound: S of the next round; `prepare` sets it back to `clip_norm`.
        expected_clients: m; None before `prepare`.

    Raises:
        InputError: neither noise nor target, both, or a number out of range.

    Cost:
        n d: one pass over the updates, or a running total as they come; d random numbers. With prv as the accountant
        some seconds.

    Limits:
        Not robust beyond its clipping: each of the clients moves the result by S / m. The server sees the updates
        themselves, and inverts them as if there were no defense. The noise on the mean has the length z S sqrt(d) / m,
        beside a step of at most S: it takes many clients.

    Example:
        noise_multiplier: 1.0
        clip_norm: 0.5

    Reference: McMahan et al., ICLR 2018, arXiv:1710.06963; Andrew et al., NeurIPS 2021, arXiv:1905.03871
    """

    guarantee = "epsilon, delta: one client, over the whole run, towards all but the server"
    called_private = True
    streams = True

    def __init__(
        self,
        noise_multiplier: float | None = None,
        target_epsilon: float | None = None,
        clip_norm: float = 1.0,
        quantile: float | None = None,
        clip_lr: float = 0.2,
        count_noise: float | None = None,
        delta: float | None = None,
        accountant: Literal["rdp", "prv", "gdp"] = "rdp",
    ) -> None:
        if (noise_multiplier is None) == (target_epsilon is None):
            raise InputError("DpFedAvg needs noise_multiplier or target_epsilon, and not both")
        for what, value in (("noise_multiplier", noise_multiplier), ("count_noise", count_noise)):
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise InputError(f"DpFedAvg: {what} must be finite and not negative, not {value}")
        for what, value in (("target_epsilon", target_epsilon), ("clip_norm", clip_norm), ("clip_lr", clip_lr)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InputError(f"DpFedAvg: {what} must be positive and finite, not {value}")
        if quantile is not None and not 0 < quantile < 1:
            raise InputError(f"DpFedAvg: quantile must lie in (0, 1), not {quantile}")
        if delta is not None:
            check_delta(delta)
        check_accountant(accountant)
        self.noise_multiplier, self.target_epsilon, self.clip_norm = noise_multiplier, target_epsilon, float(clip_norm)
        self.quantile, self.clip_lr, self.count_noise = quantile, clip_lr, count_noise
        self.delta, self.accountant = delta, accountant
        self.expected_clients: float | None = None
        self.bound = self.clip_norm
        self._noise = noise_multiplier
        self._used = torch.zeros(0)

    def calibrated(self, num_clients: int, sample_rate: float, rounds: int) -> float:
        self.expected_clients, self.bound = num_clients * sample_rate, self.clip_norm
        noise = self.noise_multiplier
        if noise is None:
            assert self.target_epsilon is not None
            delta = self.delta_of(num_clients)
            noise = calibrate(self.target_epsilon, delta, sample_rate, rounds, self.accountant)
        self._noise = noise
        self._noises(self.expected_clients)  # raises where the count takes all
        return noise

    def stream(self) -> tuple[str, ...]:
        # How the bound moves decides how much of the noise goes to the count, and so what the updates' is.
        counted = (self.quantile, self.clip_lr, self.count_noise, self.expected_clients)
        moving = () if self.quantile is None else counted
        named = [f"{setting and float(setting)!r}" for setting in moving]
        return (*super().stream(), f"bound {self.clip_norm!r}", *named)

    def delta_of(self, num_clients: int) -> float:
        return default_delta(num_clients) if self.delta is None else self.delta

    def max_rejected(self, num_clients: int) -> int:
        """All but one row may be lost: they count as if their clients had sent zeros."""
        return num_clients - 1

    def combine(self, cohort: Cohort) -> Float[Tensor, "parameters"]:
        assert cohort.generator is not None
        norms = row_norms(cohort.updates)
        # What the rule says of this round's clients must not depend on the bound of the next.
        self._used = self._factors(norms)
        # In half precision rounded factors would let updates pass that are longer than the bound.
        rows = cohort.updates.to(torch.promote_types(cohort.updates.dtype, torch.float32))
        total = bounded_sum(rows, norms, self._used)
        expected = self.expected_clients or len(cohort.updates) + cohort.num_rejected
        return self._released(total, norms, expected, cohort.generator).to(cohort.updates)

    def shares(self, cohort: Cohort) -> Float[Tensor, "clients"]:
        used = self._used.clamp_min(1e-300)  # of updates so long that nothing is left of them
        return used / used.sum()

    def row_total(self, like: Float[Tensor, "parameters"], weights: Sequence[float]) -> RowTotal:
        return _BoundedTotal(self, like)

    def nobody(self, like: Float[Tensor, "parameters"], generator: torch.Generator) -> Float[Tensor, "parameters"]:
        if self.expected_clients is None:
            raise InputError("DpFedAvg: a round without clients needs to know how many were expected; call prepare")
        none = torch.zeros(0, dtype=torch.float64, device=like.device)
        return self._released(torch.zeros_like(like), none, self.expected_clients, generator)

    def state(self) -> dict[str, Tensor]:
        return {"clip_norm": torch.tensor([self.bound], dtype=torch.float64)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        if state.keys() != {"clip_norm"}:
            raise InputError(f"DpFedAvg: remembers its clip_norm, got {', '.join(state) or 'nothing'}")
        self.bound = float(state["clip_norm"])

    def _released(
        self, total: Tensor, norms: Float[Tensor, "clients"], expected: float, generator: torch.Generator
    ) -> Float[Tensor, "parameters"]:
        noise, count_noise = self._noises(expected)
        drawn = torch.randn(total.shape, generator=generator).to(total)
        vector = total.add(drawn, alpha=noise * self.bound) / expected
        if self.quantile is not None:
            # Counted from one half, a client moves the sum by no more than one half.
            below = float((norms <= self.bound).double().sub(0.5).sum())
            below += count_noise * float(torch.randn((), generator=generator, dtype=torch.float64))
            self.bound *= math.exp(-self.clip_lr * (below / expected + 0.5 - self.quantile))
        return vector

    def _factors(self, norms: Float[Tensor, "clients"]) -> Float[Tensor, "clients"]:
        return self.bound / norms.clamp_min(self.bound)

    def _noises(self, expected: float) -> tuple[float, float]:
        """Noise multipliers of the updates and of the count, which together cost what z alone does."""
        noise = self._noise
        if noise is None:
            raise InputError("DpFedAvg: target_epsilon needs to know the run; call prepare")
        if self.quantile is None or noise == 0:
            return noise, 0.0
        count = max(expected / _COHORT_OVER_COUNT_NOISE, noise) if self.count_noise is None else self.count_noise
        if 2 * count <= noise:
            raise InputError(
                f"DpFedAvg: count_noise {count:g} would spend more than noise_multiplier {noise:g} allows; expected "
                f"more than {noise / 2:g}"
            )
        return (noise**-2 - (2 * count) ** -2) ** -0.5, count


class _BoundedTotal(RowTotal):
    """The sum of bounded updates so far, in float64, and their norms.

    Args:
        rule: whose bound and noise are those of the round.
        like: with the shape, dtype and device of a row.
    """

    def __init__(self, rule: DpFedAvg, like: Float[Tensor, "parameters"]) -> None:
        self._rule, self._dtype = rule, like.dtype
        self._total = torch.zeros(len(like), dtype=torch.float64, device=like.device)
        self._norms = [torch.zeros(0, dtype=torch.float64, device=like.device)]
        self._used = self._norms[0]

    def add(self, rows: Float[Tensor, "some parameters"], weights: Sequence[float]) -> None:
        norms = row_norms(rows)
        wide = rows.to(torch.promote_types(rows.dtype, torch.float32))
        self._total += bounded_sum(wide, norms, self._rule._factors(norms))
        self._norms.append(norms)

    def vector(
        self, weight: float, num_rejected: int, generator: torch.Generator | None
    ) -> Float[Tensor, "parameters"]:
        assert generator is not None
        norms = torch.cat(self._norms)
        # What the rule says of this round's clients must not depend on the bound of the next.
        self._used = self._rule._factors(norms)
        expected = self._rule.expected_clients or len(norms) + num_rejected
        total = self._total.to(torch.promote_types(self._dtype, torch.float32))
        return self._rule._released(total, norms, expected, generator).to(self._dtype)

    def shares(self) -> Float64[Tensor, "rows"]:
        used = self._used.clamp_min(1e-300)  # of updates so long that nothing is left of them
        return used / used.sum()
