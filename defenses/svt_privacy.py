"""NVFlare's `SVTPrivacy`: the sparse vector technique chooses entries of an update, and Laplace noise covers those.

Reference: Dwork, Roth, The algorithmic foundations of differential privacy, 2014, section 3.6; the division of the
budget and the noise: Lyu, Su, Li, Understanding the sparse vector technique for differential privacy, PVLDB 10(6),
2017, arXiv:1603.01699. As in NVFlare 2.8.1, `nvflare/app_common/filters/svt_privacy.py`, and with `version: "2.7"` as
up to 2.7.2.

What is proven of 2.8: (epsilon, 0)-differential privacy of what a client sends in one round, where neighbors are any
two updates of that client (local privacy), except for scalars and the number of local steps. Sources add the budgets
of threshold, queries and release. NVFlare asks the queries again and again until c = ceil(fraction d) entries were
accepted, and finishes each pass, so that far more than c are accepted where the proof of the technique stops at c.
That alone would void it; yet only c of the accepted entries, drawn uniformly, are shown, and this repairs it. For let
p_i be the probability that entry i passes at a threshold rho, and p'_i that of a neighbor at rho + gamma; then
p'_i <= p_i <= exp(epsilon_query / c) p'_i. That the c entries of a set S are shown becomes only more probable where
others pass later, and each of its c members costs at most a factor exp(epsilon_query / c). The threshold's noise pays
for the shift of rho. Drawing with replacement, NVFlare's default, is not covered by this argument; tests find no
counterexample by exact enumeration of small updates.

Up to 2.7.2 the noise was added to values that had not been cut off: no epsilon holds for the released values at all.

Deviations: passes are drawn at once (each entry's first accepted pass is geometric given the threshold), the same in
law; random numbers come from the given generator, where NVFlare takes them from NumPy's process-wide one, which whoever
knows the seed of a training script can repeat; the number of local steps is an option.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, isfinite, log, sqrt
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from fedsec.defense.updates import UNDISTORTED, ClientSide, UpdateTransform
from fedsec.errors import InputError
from fedsec.threat import Distortion

_FARTHEST = 600.0
"""Scales of its noise beyond which an entry lies from the threshold as good as never: exp(-600) is still a number."""


@dataclass(frozen=True)
class SvtBudget:
    """What one call of the sparse vector technique spends; delta is 0, and calls add up.

    Attributes:
        entries: c, how many entries are released.
        threshold: epsilon of the threshold's noise.
        query: epsilon of the queries' noise, for all c accepted ones.
        release: epsilon of the released values, for all c; infinite where noise bounds nothing.
    """

    entries: int
    threshold: float
    query: float
    release: float

    @property
    def total(self) -> float:
        """Epsilon of one client's update in one round."""
        return self.threshold + self.query + self.release


class SvtPrivacy(UpdateTransform):
    """Releases a share of an update's entries, chosen by noisy comparisons and covered by Laplace noise.

    rho = tau + Lap(gamma / e1)
    accepted: |clip(u_i)| + Lap(2 c gamma / e2) >= rho, asked until c or more are accepted
    sent: clip(u_i) + Lap(2 c gamma / e3) for c of the accepted, drawn uniformly; 0 elsewhere

    with c = ceil(fraction d), u divided by the local steps and multiplied again after it, and clip to [-gamma, gamma].
    What holds is e1 + e2 + e3 for one client's update in one round, whatever the update was; R rounds cost R times as
    much. By default e3 = c noise_var: with the default options 0.1 for each released entry, which is 0.01 for each
    entry of the model, so a network of 7.03 million parameters spends 70,300 in every round, which rules out nothing.
    The smaller `epsilon` covers the choice alone. Scalars are sent untouched.

    Args:
        fraction: share of the entries that is released, in (0, 1].
        epsilon: e1 + e2, for the choice of entries.
        noise_var: e3 for each released entry, unless epsilon_release is given; not a variance.
        gamma: bound for a single entry of an update divided by its local steps; positive.
        tau: the threshold before its noise.
        replace: whether the c are drawn with replacement, so that fewer than c different ones are sent.
        epsilon_threshold: e1; null: epsilon / (1 + (2c)^(2/3)), or what epsilon_query leaves.
        epsilon_query: e2; null: the rest of epsilon.
        epsilon_release: e3, for all released entries together; null: c noise_var.
        local_steps: what the update is divided by before gamma applies, and multiplied with after it.
        version: whose behavior; 2.7 stands for releases up to 2.7.2, with another division of epsilon and noise that is
            added before values are cut off.

    Raises:
        InputError: a number out of range, or budgets of the choice that do not add up to epsilon.

    Cost:
        A few random numbers for each entry of a client's own update.

    Limits:
        Budgets for which training still learns are so large that they promise nothing (docs/deployed_filters.md); those
        that promise something leave noise of 2 c gamma / e3 in each released entry.

    Example:
        epsilon: 0.1
        gamma: 0.01

    Reference: Lyu, Su & Li, PVLDB 2017, arXiv:1603.01699
    """

    guarantee = "epsilon: one client's update in one round, for each round anew; scalars are not covered"
    called_private = True
    draws = True

    def __init__(
        self,
        fraction: float = 0.1,
        epsilon: float = 0.1,
        noise_var: float = 0.1,
        gamma: float = 1e-5,
        tau: float = 1e-6,
        replace: bool = True,
        epsilon_threshold: float | None = None,
        epsilon_query: float | None = None,
        epsilon_release: float | None = None,
        local_steps: int = 1,
        version: Literal["2.8", "2.7"] = "2.8",
    ) -> None:
        if not 0 < fraction <= 1:
            raise InputError(f"SvtPrivacy: fraction must lie in (0, 1], not {fraction}")
        positive = {"epsilon": epsilon, "noise_var": noise_var, "gamma": gamma, "epsilon_threshold": epsilon_threshold}
        for name, value in {**positive, "epsilon_query": epsilon_query, "epsilon_release": epsilon_release}.items():
            if value is not None and not (isfinite(value) and value > 0):
                raise InputError(f"SvtPrivacy: {name} must be positive and finite, not {value}")
        if not isfinite(tau):
            raise InputError(f"SvtPrivacy: tau must be finite, not {tau}")
        if local_steps < 1:
            raise InputError(f"SvtPrivacy: local_steps must be at least 1, not {local_steps}")
        if version not in ("2.8", "2.7"):
            raise InputError(f"SvtPrivacy: version must be '2.8' or '2.7', not {version!r}")
        given = (epsilon_threshold, epsilon_query, epsilon_release)
        if version == "2.7" and given != (None, None, None):
            raise InputError("SvtPrivacy: version 2.7 divides epsilon itself; expected no budgets of single phases")
        if sum(filter(None, given[:2])) > epsilon * (1 - 1e-9) and None in given[:2]:
            raise InputError(
                f"SvtPrivacy: epsilon_threshold or epsilon_query must leave something of epsilon {epsilon}"
            )
        if None not in given[:2] and abs(sum(filter(None, given[:2])) - epsilon) > 1e-5 * epsilon:
            raise InputError(f"SvtPrivacy: epsilon_threshold + epsilon_query must be epsilon, {epsilon}")
        self.fraction, self.epsilon, self.noise_var = fraction, epsilon, noise_var
        self.gamma, self.tau, self.replace, self.version = gamma, tau, replace, version
        self.epsilon_threshold, self.epsilon_query, self.epsilon_release = given
        self.local_steps = local_steps

    def budget(self, num_parameters: int) -> SvtBudget:
        """What one round spends on an update of so many numbers, scalars included; R rounds spend R times as much.

        Args:
            num_parameters: d.
        """
        count = min(ceil(num_parameters * self.fraction), num_parameters)
        ratio = (2 * count) ** (2 / 3)
        if self.version == "2.7":
            # Its scales, 2 gamma / epsilon and 4 c gamma / (epsilon ratio), are worth half of what they name.
            return SvtBudget(count, self.epsilon / 2, self.epsilon * ratio / 2, float("inf"))
        threshold, query = self.epsilon_threshold, self.epsilon_query
        if threshold is None:
            threshold = self.epsilon / (1 + ratio) if query is None else self.epsilon - query
        release = count * self.noise_var if self.epsilon_release is None else self.epsilon_release
        return SvtBudget(count, threshold, self.epsilon - threshold if query is None else query, release)

    def transform(
        self, update: dict[str, Tensor], *, generator: torch.Generator, client: ClientSide | None
    ) -> dict[str, Tensor]:
        rows = [row.double().flatten().cpu() / self.local_steps for row in update.values()]
        entries = torch.cat(rows)
        chosen = self._drawn(self.accepted(entries.abs().clamp(max=self.gamma), generator), len(entries), generator)
        noise = self._release_scale(len(entries)) * _laplace(len(chosen), generator)
        released = torch.zeros_like(entries)
        if self.version == "2.7":
            released[chosen] = (entries[chosen] + noise).clamp(-self.gamma, self.gamma)
        else:
            released[chosen] = entries[chosen].clamp(-self.gamma, self.gamma) + noise
        parts = torch.split(self.local_steps * released, [len(row) for row in rows])
        sent = dict(update)
        for part, (name, row) in zip(parts, update.items(), strict=True):
            if row.ndim:
                largest = torch.finfo(row.dtype).max
                sent[name] = part.view(row.shape).clamp(-largest, largest).to(row)
        return sent

    def accepted(self, magnitudes: Float[Tensor, "entries"], generator: torch.Generator) -> Bool[Tensor, "entries"]:
        """Which entries pass the noisy threshold: at least as many as are released, and often far more.

        Args:
            magnitudes: of the entries, cut off at gamma.
            generator: the only source of randomness.
        """
        budget = self.budget(len(magnitudes))
        threshold = self.tau + self.gamma / budget.threshold * float(_laplace(1, generator))
        scale = 2 * budget.entries * self.gamma / budget.query
        distance = (threshold - magnitudes.double()) / scale
        above = -torch.log1p(-0.5 * torch.exp(-distance.clamp(0, _FARTHEST)))
        rate = torch.where(distance > 0, above, log(2) - distance)  # minus the logarithm of P(an entry fails in a pass)
        # The first pass in which an entry is accepted is geometric: an exponential waiting time, rounded up.
        waiting = torch.empty_like(distance).exponential_(generator=generator)
        passes = (waiting / rate).ceil()
        return passes <= passes.kthvalue(budget.entries).values

    def _drawn(self, accepted: Bool[Tensor, "d"], total: int, generator: torch.Generator) -> Int64[Tensor, "entries"]:
        """The entries that are released, drawn from the accepted ones."""
        candidates, count = accepted.nonzero().flatten(), self.budget(total).entries
        if self.replace:
            return candidates[torch.randint(len(candidates), (count,), generator=generator)].unique(sorted=True)  # type: ignore[no-any-return, no-untyped-call]
        order: Tensor = torch.randperm(len(candidates), generator=generator)
        return candidates[order[:count]]

    def _release_scale(self, total: int) -> float:
        """Of the Laplace noise on a released entry, for an update divided by its local steps."""
        if self.version == "2.7":
            return 2 * self.gamma / self.noise_var
        budget = self.budget(total)
        return 2 * budget.entries * self.gamma / budget.release

    def known(self, sent: Mapping[str, Tensor], later: Distortion = UNDISTORTED) -> Distortion:
        released = {
            name: (row != 0) | torch.full_like(row, row.ndim == 0, dtype=torch.bool) for name, row in sent.items()
        }
        deviation = sqrt(2) * self._release_scale(sum(row.numel() for row in sent.values()))
        if self.version == "2.7":
            deviation = min(deviation, self.gamma)
        own = {name: self.local_steps * deviation for name, row in sent.items() if row.ndim}
        noise = later.reduced(own)
        return Distortion(released, noise, ceiling=later.left(noise))


def _laplace(count: int, generator: torch.Generator) -> Float[Tensor, "count"]:
    """Independent Laplace numbers of scale 1: the difference of two exponential ones."""
    drawn = torch.empty(2, count, dtype=torch.float64).exponential_(generator=generator)
    return drawn[0] - drawn[1]
