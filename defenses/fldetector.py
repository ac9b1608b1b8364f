"""FLDetector: clients whose updates do not follow from their last ones and how the model moved are left out.

Reference: Zhang, Cao, Jia, Gong, FLDetector: Defending federated learning against model poisoning attacks via detecting
malicious clients, KDD 2022, arXiv:2207.09209. The Hessian is that of Byrd, Nocedal, Schnabel, Representations of
quasi-Newton matrices and their use in limited memory methods, Mathematical Programming 63, 1994; the gap statistic that
of Tibshirani, Walther, Hastie, Journal of the Royal Statistical Society B 63, 2001.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fedsec.defense import Cohort, Gram, GramRule
from fedsec.errors import InputError

_REFERENCES = 10
"""Draws of uniform scores that the gap statistic compares with."""

_FEWEST = 3
"""Scores that can lie in two groups by more than chance."""


class FLDetector(GramRule):
    """Mean of the updates of all clients but those that are not consistent with themselves from round to round.

    Between two rounds a client's update should change by about B s, with s how far the model moved and B the L-BFGS
    estimate of how the mean update changes with the model, from the last `history` moves. So client i is expected to
    send x_i' = (its last update) + B s, and its score is ||x_i - x_i'|| over the round's mean of that. Once scores are
    averages of `window` rounds, the gap statistic says whether they fall into more than one group, and if so 2-means
    says into which: those with the larger scores are left out of the round.

    Clients are judged in each round anew, since the gap statistic sees groups in one of some six draws of uniform
    scores. The paper removes clients for good when it first detects some, and starts training anew without them, which
    a rule cannot do; it also lets the server combine the others by any rule. Scores need a client to take part in two
    rounds in a row, the server to move along the aggregate, and moves that outweigh the noise of batches: near the end
    of training everybody is inconsistent. The first `history` + `window` rounds are plain means of all; the authors
    begin to look in round 50. Ignores the clients' weights.

    Args:
        history: N, of how many moves of the model the Hessian is estimated.
        window: rounds over which scores are averaged.

    Raises:
        InputError: a number below 1.

    Cost:
        (2n + N)^2 d for the inner products of this round's updates, the last one's and N moves of the model. It carries
        (n + N) d numbers from round to round.

    Limits:
        Attackers who are consistent with themselves from round to round are not seen, nor any in the first rounds.
        Clients that are drawn now and then are rarely judged.

    Reference: Zhang et al., KDD 2022, arXiv:2207.09209
    """

    single_clients = "predicts each client's next update"
    normalized = False
    detects = True
    draws = True

    def __init__(self, history: int = 10, window: int = 10) -> None:
        if history < 1 or window < 1:
            raise InputError(f"FLDetector: history and window must be at least 1, got {history} and {window}")
        self.history, self.window = history, window
        self._moves: list[Tensor] = []  # the aggregates of the last rounds, the newest last
        self._rows: dict[int, Tensor] = {}  # what each client of the last round sent
        self._scores: dict[int, list[float]] = {}

    def max_rejected(self, num_clients: int) -> int:
        """The largest minority."""
        return (num_clients - 1) // 2

    def references(self, cohort: Cohort) -> Float[Tensor, "references parameters"] | None:
        """The last aggregates and the last round's updates."""
        points = [*self._moves, *self._rows.values()]
        if not points:
            return None
        like = cohort.updates
        if points[0].shape != like.shape[1:]:
            raise InputError(
                f"FLDetector: remembers updates of {len(points[0])} numbers, and these have {like.shape[1]}"
            )
        return torch.stack([point.to(like) for point in points])

    def weights(self, gram: Gram, cohort: Cohort) -> Float64[Tensor, "rows"]:
        if cohort.parts is not None:
            raise InputError(
                "FLDetector: remembers clients, and a pre-aggregator mixes their rows; expected none before it"
            )
        detected = self._detected(self._scored(gram, cohort), cohort.generator)
        counting = torch.tensor([float(client not in detected) for client in cohort.clients], dtype=torch.float64)
        return counting / counting.sum().clamp_min(1)

    def remember(self, cohort: Cohort, vector: Float[Tensor, "parameters"]) -> None:
        assert cohort.gram is not None
        self._scores = self._scored(cohort.gram, cohort)
        self._moves = [*self._moves, vector.clone()][-self.history - 1 :]
        self._rows = {client: row.clone() for client, row in zip(cohort.clients, cohort.updates, strict=True)}

    def state(self) -> dict[str, Tensor]:
        if not self._moves:
            return {}
        scores = torch.full((len(self._scores), self.window), torch.nan, dtype=torch.float64)
        for row, values in zip(scores, self._scores.values(), strict=True):
            row[: len(values)] = torch.tensor(values, dtype=torch.float64)
        return {
            "moves": torch.stack(self._moves),
            "clients": torch.tensor(list(self._rows)),
            "rows": torch.stack(list(self._rows.values())),
            "scored": torch.tensor(list(self._scores), dtype=torch.int64),
            "scores": scores,
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        expected = {"moves", "clients", "rows", "scored", "scores"}
        if state.keys() not in (expected, set()):
            raise InputError(f"FLDetector: expected {sorted(expected)}, got {sorted(state)}")
        self._moves, self._rows, self._scores = [], {}, {}
        if not state:
            return
        self._moves = [row.clone() for row in state["moves"]]
        self._rows = dict(zip(state["clients"].tolist(), [row.clone() for row in state["rows"]], strict=True))
        values = [row[row.isfinite()].tolist() for row in state["scores"]]
        self._scores = dict(zip(state["scored"].tolist(), values, strict=True))

    def _scored(self, gram: Gram, cohort: Cohort) -> dict[int, list[float]]:
        """All clients' scores of the last rounds, this one included."""
        scores = {client: list(values) for client, values in self._scores.items()}
        places = {client: len(gram) + len(self._moves) + place for place, client in enumerate(self._rows)}
        known = [(row, client) for row, client in enumerate(cohort.clients) if client in places]
        if len(self._moves) <= self.history or not known:
            return scores
        inner = gram.inner_products(references=True)
        residuals = torch.zeros(len(known), len(inner), dtype=torch.float64)
        residuals += predicted_change(inner, range(len(gram), len(gram) + len(self._moves)))
        for residual, (row, client) in zip(residuals, known, strict=True):
            residual[places[client]] += 1
            residual[row] -= 1
        lengths = ((residuals @ inner) * residuals).sum(1).clamp_min(0).sqrt()
        lengths = lengths / lengths.mean().clamp_min(torch.finfo(torch.float64).tiny)
        for length, (_, client) in zip(lengths.tolist(), known, strict=True):
            scores[client] = [*scores.get(client, []), length][-self.window :]
        return scores

    def _detected(self, scores: Mapping[int, list[float]], generator: torch.Generator | None) -> set[int]:
        """Clients with the larger scores of two groups, if there are two."""
        judged = [client for client, values in scores.items() if len(values) == self.window]
        if len(judged) < _FEWEST:
            return set()
        means = torch.tensor([scores[client] for client in judged], dtype=torch.float64).mean(1)
        if not in_groups(means, generator):
            return set()
        bound = two_means(means)[1]
        return {client for client, mean in zip(judged, means.tolist(), strict=True) if mean > bound}


def predicted_change(inner: Float64[Tensor, "points points"], moves: range) -> Float64[Tensor, "points"]:
    """B s as a combination of points: by L-BFGS, from how the mean update changed as the model moved.

    Args:
        inner: inner products of all points.
        moves: which of them are the last rounds' aggregates, by which the model moved, the newest last; two at least.
    """
    steps = torch.zeros(len(moves), len(inner), dtype=torch.float64)
    steps[range(len(moves)), list(moves)] = 1.0
    changes, steps, last = steps[1:] - steps[:-1], steps[:-1], steps[-1]
    crossed, squared = steps @ inner @ changes.T, steps @ inner @ steps.T
    if float(squared[-1, -1]) == 0:
        return torch.zeros_like(last)
    scale = crossed[-1, -1] / squared[-1, -1]
    lower = crossed.tril(-1)
    system = torch.cat([torch.cat([scale * squared, lower], 1), torch.cat([lower.T, -crossed.diagonal().diag()], 1)])
    right = torch.cat([scale * (steps @ inner @ last), changes @ inner @ last])
    solution = torch.linalg.pinv(system, hermitian=True) @ right
    change: Tensor = scale * last - solution @ torch.cat([scale * steps, changes])
    return change


def two_means(values: Float64[Tensor, "values"]) -> tuple[float, float]:
    """The least sum of squares within two groups of numbers, and the largest number of the lower group."""
    ordered = values.sort().values
    sums = [float(_spread(ordered[:cut]) + _spread(ordered[cut:])) for cut in range(1, len(ordered))]
    best = min(range(len(sums)), key=sums.__getitem__)
    return sums[best], float(ordered[best])


def in_groups(values: Float64[Tensor, "values"], generator: torch.Generator | None) -> bool:
    """Whether the gap statistic finds more than one group: gap(1) < gap(2) - s(2).

    Args:
        values: three at least.
        generator: of the uniform numbers that they are compared with.
    """
    low, high = values.min(), values.max()
    if float(high) == float(low):
        return False
    drawn = torch.rand(_REFERENCES, len(values), generator=generator, dtype=torch.float64)
    sums = torch.tensor([[float(_spread(row)), two_means(row)[0]] for row in drawn], dtype=torch.float64).log()
    scaled = (values - low) / (high - low)
    own = torch.tensor([float(_spread(scaled)), two_means(scaled)[0]], dtype=torch.float64).log()
    one, two = (sums.mean(0) - own).tolist()
    error = float(sums[:, 1].std(correction=0)) * (1 + 1 / _REFERENCES) ** 0.5
    return bool(one < two - error)


def _spread(values: Float64[Tensor, "values"]) -> Float64[Tensor, ""]:
    """The sum of squares about the mean."""
    return (values - values.mean()).square().sum()
