"""FoolsGold: clients whose updates keep pointing the same way count less, as sybils of one attacker do.

Reference: Fung, Yoon, Beschastnikh, The limitations of federated learning in sybil settings, RAID 2020 (first as
Mitigating sybils in federated learning poisoning, 2018, arXiv:1808.04866). The weights are those of the authors' code.
"""

from collections.abc import Mapping
from math import isfinite

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fedsec.defense import Cohort, Gram, GramRule
from fedsec.errors import InputError

_ROUNDING = 1e-6
"""Histories point the same way where the cosine of their angle is no further from 1: products may be float32's."""

_ALMOST_ONE = 0.99
"""What the authors put in place of the largest weight, 1, whose logit is infinite."""


class FoolsGold(GramRule):
    """Weights clients by how little the sum of all their updates so far resembles that of any other client.

    With c_ij the cosine between the histories of i and j (zero for i = j) and v_i = max_j c_ij, clients are pardoned
    that resemble one that resembles others more: c_ij <- c_ij v_i / v_j where v_i < v_j. Then

        a_i = 1 - max_j c_ij,   a_i <- a_i / max_j a_j,   w_i = confidence (ln(a_i / (1 - a_i)) + 1/2).

    Each is held within [0, 1], and the result is sum_i w_i x_i / n. The authors add up, which is n times the server's
    step, and do not divide by the sum of the weights: sybils make a step shorter. Where all histories point the same
    way, so that a is 0 / 0, all count alike, which is the limit of cosines that are equal.

    Clients are known by their numbers (`clients` of a call; 0, 1, ... by default). Withstands any number of sybils that
    send alike updates while honest clients differ; not a single attacker, nor clients with alike data, nor sybils that
    know the rule. All parameters count: the authors' choice of indicative features is left out. Ignores the clients'
    weights.

    Args:
        confidence: by which the logit is multiplied; positive.

    Raises:
        InputError: the confidence is not positive.

    Cost:
        n^2 d for the inner products of all updates, in one pass over them, for histories; then n^2. It carries n d
        numbers from round to round.

    Limits:
        A single attacker, and sybils that know it and send different updates, pass. Honest clients with alike data are
        taken for sybils and count less. Clients are known by number: who comes back under another one has no history.

    Reference: Fung et al., RAID 2020, arXiv:1808.04866
    """

    single_clients = "remembers what each client sent"
    normalized = False
    detects = True

    def __init__(self, confidence: float = 1.0) -> None:
        if not (isfinite(confidence) and confidence > 0):
            raise InputError(f"FoolsGold: confidence must be positive and finite, but is {confidence}")
        self.confidence = confidence
        self._history: dict[int, Tensor] = {}

    def max_rejected(self, num_clients: int) -> int:
        """All but one row."""
        return num_clients - 1

    def references(self, cohort: Cohort) -> Float[Tensor, "references parameters"] | None:
        """The histories of those of the round's clients that are known, in their order."""
        known = self._known(cohort)
        if not known:
            return None
        like = cohort.updates
        histories = torch.stack([self._history[client] for client in known])
        if histories.shape[1] != like.shape[1]:
            raise InputError(
                f"FoolsGold: remembers updates of {histories.shape[1]} numbers, and these have {like.shape[1]}"
            )
        largest = torch.finfo(like.dtype).max
        return histories.clamp(-largest, largest).to(like)

    def weights(self, gram: Gram, cohort: Cohort) -> Float64[Tensor, "rows"]:
        if cohort.parts is not None:
            raise InputError(
                "FoolsGold: remembers clients, and a pre-aggregator mixes their rows; expected none before it"
            )
        count, places = len(gram), {client: place for place, client in enumerate(self._known(cohort))}
        points = gram.inner_products(references=True)
        sums = torch.zeros(count, len(points), dtype=torch.float64)  # of each client's row and its history
        sums[:, :count] = torch.eye(count, dtype=torch.float64)
        for row, client in enumerate(cohort.clients):
            if client in places:
                sums[row, count + places[client]] = 1.0
        return similarity_weights(_cosines(sums @ points @ sums.T), self.confidence) / count

    def _known(self, cohort: Cohort) -> list[int]:
        """Those of the round's clients that have a history."""
        return [client for client in cohort.clients if client in self._history]

    def remember(self, cohort: Cohort, vector: Float[Tensor, "parameters"]) -> None:
        wide = torch.promote_types(cohort.updates.dtype, torch.float32)
        largest = torch.finfo(wide).max
        for client, row in zip(cohort.clients, cohort.updates, strict=True):
            earlier = self._history.get(client, torch.zeros_like(row, dtype=wide))
            self._history[client] = (earlier.to(wide) + row).clamp(-largest, largest)

    def state(self) -> dict[str, Tensor]:
        if not self._history:
            return {}
        return {"clients": torch.tensor(list(self._history)), "history": torch.stack(list(self._history.values()))}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        if state.keys() not in ({"clients", "history"}, set()):
            raise InputError(f"FoolsGold: expected its clients and their history, got {sorted(state)}")
        self._history = {}
        if state:
            rows = [row.clone() for row in state["history"]]
            self._history = dict(zip(state["clients"].tolist(), rows, strict=True))


def similarity_weights(cosines: Float64[Tensor, "clients clients"], confidence: float) -> Float64[Tensor, "clients"]:
    """FoolsGold's weights, in [0, 1].

    Args:
        cosines: between the clients' histories.
        confidence: of the logit.
    """
    similar = torch.where(1 - cosines < _ROUNDING, 1.0, cosines).fill_diagonal_(0)
    closest = similar.amax(1)
    pardoned = closest[:, None] < closest
    similar = torch.where(pardoned, similar * closest[:, None] / torch.where(pardoned, closest, 1.0), similar)
    distinct = (1 - similar.amax(1)).clamp(0, 1)
    largest = float(distinct.max())
    if largest == 0:
        return torch.ones_like(distinct)
    distinct = distinct / largest
    distinct = torch.where(distinct == 1, _ALMOST_ONE, distinct)
    return (confidence * (torch.logit(distinct) + 0.5)).clamp(0, 1)


def _cosines(inner: Float64[Tensor, "clients clients"]) -> Float64[Tensor, "clients clients"]:
    lengths = inner.diagonal().clamp_min(0).sqrt()
    spread = torch.where(lengths > 0, lengths, torch.inf)
    return inner / spread / spread[:, None]
