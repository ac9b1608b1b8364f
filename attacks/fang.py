"""Local model poisoning: against the direction of the honest updates, as far as a known rule lets it.

Reference: Fang, Cao, Jia, Gong, Local model poisoning attacks to Byzantine-robust federated learning, USENIX Security
2020, arXiv:1911.11815. Models are poisoned there and updates here, so that the model from before (w_Re) is the origin.
Where their lambda is halved until it is below 1e-5, it is halved forty times, whatever the updates' size; and the
distance epsilon of the other rows counts in distances of honest ones.
"""

from math import isfinite, sqrt
from typing import Literal

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat import AttackerView, UpdatePoisoning
from fedsec.threat.byzantine.spread import Spread

_HALVINGS = 40


class Fang(UpdatePoisoning):
    """Sends updates against the sign s of the honest mean that the rule it aims at takes for honest ones.

    Aimed at krum: -lambda * s from the largest lambda that could be chosen, halved until Krum would choose it; the
    other attackers stand within epsilon of it, so that it has neighbors. At median and trimmed_mean: in each parameter
    a random value beyond the honest ones on the side that s is not on, at most `factor` times as far from zero. Who
    knows its own clients only (knowledge own) takes their honest updates for those of all: for Krum it adds crafted
    rows until one would be chosen, otherwise it draws between 3 and 4 standard deviations from the mean. Reports
    lambda.

    Args:
        target: the rule that it aims at.
        knowledge: omniscient, the paper's full knowledge, or own, partial knowledge.
        factor: how far beyond the honest values, above 1, for median and trimmed_mean with full knowledge.
        epsilon: how far at most the other attackers' rows are from the first, in [0, 1), as a share of the smallest
            distance between honest rows; for krum. 0: all are alike.

    Raises:
        InputError: a number out of range; in a round, for krum, fewer than 2m + 3 clients, of which m are Byzantine.

    Cost:
        n d for coordinate rules; n^2 d and forty halvings for Krum.

    Limits:
        Aimed at one rule, and often weak against others. Against Krum it may find no lambda, and says so.

    Reference: Fang et al., USENIX Security 2020, arXiv:1911.11815
    """

    def __init__(
        self,
        target: Literal["krum", "median", "trimmed_mean"] = "trimmed_mean",
        knowledge: Literal["own", "omniscient"] = "omniscient",
        factor: float = 2.0,
        epsilon: float = 0.01,
    ) -> None:
        if target not in ("krum", "median", "trimmed_mean"):
            raise InputError(f"Fang: target must be krum, median or trimmed_mean, not {target!r}")
        if not (isfinite(factor) and factor > 1):
            raise InputError(f"Fang: factor must be above 1 and finite, not {factor}")
        if not 0 <= epsilon < 1:
            raise InputError(f"Fang: epsilon must lie in [0, 1), not {epsilon}")
        self.target, self.knowledge, self.factor, self.epsilon = target, knowledge, factor, epsilon

    def check_clients(self, num_clients: int, num_byzantine: int) -> None:
        """Krum's own condition, where it aims at Krum."""
        fewest = 2 * num_byzantine + 3
        if self.target == "krum" and num_clients < fewest:
            raise InputError(
                f"Fang: target krum needs at least {fewest} clients for {num_byzantine} Byzantine ones, not "
                f"{num_clients}; Krum withstands no more"
            )

    def forge(self, view: AttackerView) -> Float[Tensor, "byzantine parameters"]:
        spread = Spread(view.benign)
        if self.target == "krum":
            return self._against_krum(view, spread)
        if self.knowledge == "own" and len(spread) < 2:
            view.report["remark"] = (
                "Fang knows a single honest row, which has no spread, and sends it: this is no attack"
            )
        drawn = torch.rand(view.own.shape, generator=view.generator, dtype=torch.float64).to(spread.mean.device)
        rows = self._beyond(spread, drawn) if self.knowledge == "omniscient" else _far_out(spread, drawn)
        return rows.to(view.own.dtype)

    def _beyond(
        self, spread: Spread, drawn: Float64[Tensor, "byzantine parameters"]
    ) -> Float64[Tensor, "byzantine parameters"]:
        rising = spread.mean > 0
        edge = torch.where(rising, spread.rows.amin(0), spread.rows.amax(0)).double()
        size = 1 + (self.factor - 1) * drawn
        # Away from the honest values is away from zero where the edge lies beyond it, and towards it elsewhere.
        outwards = torch.where(rising, edge < 0, edge > 0)
        rows = torch.where(outwards, edge * size, edge / size)
        return torch.where(spread.mean == 0, 0.0, rows)

    def _against_krum(self, view: AttackerView, spread: Spread) -> Float[Tensor, "byzantine parameters"]:
        count, clients = view.num_byzantine, view.num_clients
        direction = -spread.mean.sign()
        search = _KrumSearch(spread, direction, self.epsilon)
        if self.knowledge == "omniscient":
            size = search.largest(count, clients - count - 2, clients - 2 * count - 1)
        else:
            # Krum over its own honest rows and more and more crafted ones, as many as there are attackers in the end.
            own = len(spread)
            sizes = (search.largest(crafted, max(1, own - 2), max(1, own - 1)) for crafted in range(1, count + 1))
            size = next((size for size in sizes if size > 0), 0.0)
        view.report["lambda"] = size
        if size == 0:
            view.report["remark"] = "Fang found no lambda for which Krum would choose its row: this is hardly an attack"
        row = size * direction
        apart = torch.randn(view.own.shape, generator=view.generator, dtype=torch.float64).to(row.device)
        apart[0] = 0
        lengths = apart.norm(dim=1, keepdim=True).clamp_min(1e-300)
        reach = torch.rand(count, 1, generator=view.generator, dtype=torch.float64).to(row.device) * search.apart
        rows: Tensor = row + apart / lengths * reach
        return rows.to(view.own.dtype)


class _KrumSearch:
    """The largest lambda for which Krum chooses a row lambda * direction that several attackers stand beside."""

    def __init__(self, spread: Spread, direction: Float64[Tensor, "parameters"], epsilon: float) -> None:
        self.distances = spread.squared_distances()
        self.norms = spread.squared_deviations() + 2 * spread.projections(spread.mean) + spread.mean @ spread.mean
        self.products = spread.projections(direction) + spread.mean @ direction
        self.square = float(direction @ direction)
        others = self.distances + torch.diag(torch.full_like(self.norms, torch.inf))
        nearest = float(others.min())
        self.apart = epsilon * sqrt(nearest) if isfinite(nearest) else 0.0

    def largest(self, crafted: int, neighbors: int, others: int) -> float:
        """Halved from the bound until it is chosen; 0 if it never is.

        Args:
            crafted: how many rows stand at the crafted one, itself included.
            neighbors: how many nearest others Krum adds up.
            others: how many of them are honest at least: n - 2m - 1.
        """
        if self.square == 0:
            return 0.0
        nearest = self.distances.sort(1).values[:, 1 : 1 + neighbors]
        bound = sqrt(float(nearest.sum(1).min()) / (others * self.square)) + sqrt(float(self.norms.max()) / self.square)
        for _ in range(_HALVINGS):
            if self._chosen(bound, crafted, neighbors):
                return bound
            bound /= 2
        return 0.0

    def _chosen(self, size: float, crafted: int, neighbors: int) -> bool:
        """Whether Krum's score of the crafted row is below all honest ones', wherever in reach its fellows stand."""
        away = (self.norms - 2 * size * self.products + size**2 * self.square).clamp_min(0)
        fellows = torch.full((crafted - 1,), self.apart**2, dtype=torch.float64, device=away.device)
        score = torch.cat([away, fellows]).sort().values[:neighbors].sum()
        closest = (away.sqrt() - self.apart).clamp_min(0).square()
        beside = torch.cat([away[:, None], closest[:, None].expand(-1, crafted - 1)], 1)
        honest = torch.cat([self.distances + torch.diag(torch.full_like(away, torch.inf)), beside], 1)
        return bool(score < honest.sort(1).values[:, :neighbors].sum(1).min())


def _far_out(spread: Spread, drawn: Float64[Tensor, "byzantine parameters"]) -> Float64[Tensor, "byzantine parameters"]:
    """Between 3 and 4 standard deviations from the mean, against its sign."""
    return spread.mean - spread.mean.sign() * (3 + drawn) * spread.std
