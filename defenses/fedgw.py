"""FedGW: clients count by how near their training loss is to that of the others, as a Gaussian has it.

The scheme of a course project on federated segmentation, named in the slides "Federated and distributed learning"
(Politecnico di Torino, 2023/24): Giacometti, Leo, Licciardi, MLDL project report, 2023. The report's formulas are not
public; these are read from the authors' notebooks (github.com/fgiacome/MLDL23-FL-project), which call the weights'
update a reward.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fedsec.defense import Aggregator, Cohort, weighted_total
from fedsec.errors import InputError

_ROUNDING = 1e-6
"""Relative difference of losses below which they are equal: some eight times the rounding of float32."""


class FedGW(Aggregator):
    """Mean of the updates, weighted by a Gaussian about the mean loss of a round's clients, from round to round.

    With the weights v_k of a round's n clients, summing to one, and their losses L_k:

        m = sum_k v_k L_k,   s^2 = (sum_k v_k^2) sum_k (L_k - m)^2 / (n - 1),   v_k <- exp(-(L_k - m)^2 / (2 s^2))

    scaled to the weight that these clients had together before. s is the standard error of the mean loss, so that a
    client one standard deviation away keeps e^{-n/2} of its weight in the first round. All clients begin equal. Whoever
    has noise in its data has a larger loss, and whoever has one class only a smaller one: both lose their weight.

    Not a Byzantine-robust rule: a loss is what a client says, and rows are not looked at. Ours: one loss a client and
    round, of the model received on the client's own examples, in place of the training loss of each local epoch;
    weights of clients that were never there stay as they began; sums of rewards that would underflow to zero do not.
    Drawing clients by their weights, which the authors tried too, is left out. Ignores the clients' numbers of
    examples.

    Cost:
        n d for the weighted mean; each client evaluates the received model on its examples once. It carries a number
        for each client.

    Limits:
        A client that lies about its loss, and says what others have, has a weight like theirs. Weights are products of
        many rounds' rewards, and pull together: in the end few clients count, and those need not be the ones whose data
        are best. Honest clients with unlike data lose theirs.

    Reference: Giacometti, Leo, Licciardi, MLDL project report, Politecnico di Torino, 2023 (unpublished)
    """

    needs_losses = True
    single_clients = "asks each client for its loss"

    def __init__(self) -> None:
        self._weights: dict[int, float] = {}

    def max_rejected(self, num_clients: int) -> int:
        """All but one row: it promises nothing that the loss could break."""
        return num_clients - 1

    def staged(self, cohort: Cohort) -> Cohort:
        if cohort.parts is not None:
            raise InputError("FedGW: weighs clients, and a pre-aggregator mixes their rows; expected none before it")
        assert cohort.losses is not None
        before = torch.tensor([self._weights.get(client, 1.0) for client in cohort.clients], dtype=torch.float64)
        weights = gaussian_weights(cohort.losses.double().cpu(), before)
        return replace(cohort, weights=tuple(weights.tolist()))

    def combine(self, cohort: Cohort) -> Float[Tensor, "parameters"]:
        return weighted_total([(cohort.updates, list(cohort.weights))], every=True)

    def shares(self, cohort: Cohort) -> Float[Tensor, "clients"]:
        return torch.tensor(cohort.weights, dtype=torch.float64, device=cohort.updates.device)

    def remember(self, cohort: Cohort, vector: Float[Tensor, "parameters"]) -> None:
        together = sum(self._weights.get(client, 1.0) for client in cohort.clients)
        for client, weight in zip(cohort.clients, cohort.weights, strict=True):
            self._weights[client] = weight * together

    def state(self) -> dict[str, Tensor]:
        if not self._weights:
            return {}
        weights = torch.tensor(list(self._weights.values()), dtype=torch.float64)
        return {"clients": torch.tensor(list(self._weights)), "weights": weights}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        if state.keys() not in ({"clients", "weights"}, set()):
            raise InputError(f"FedGW: expected its clients and their weights, got {sorted(state)}")
        self._weights = {}
        if state:
            self._weights = dict(zip(state["clients"].tolist(), state["weights"].tolist(), strict=True))


def gaussian_weights(
    losses: Float64[Tensor, "clients"], before: Float64[Tensor, "clients"]
) -> Float64[Tensor, "clients"]:
    """FedGW's next weights of some clients, summing to one; equal ones where losses differ by float32's rounding alone.

    Args:
        losses: of the clients. One that is not finite is infinitely far from all others.
        before: their weights so far, not negative; equal ones are taken for weights that have all become zero.
    """
    finite = losses.isfinite()
    if not bool(finite.any()):
        return torch.full_like(losses, 1 / len(losses))
    # Weights of many rounds may have underflowed, and only those of clients that are not here be left.
    before = before * finite
    before = before / before.sum() if float(before.sum()) > 0 else finite.double() / finite.sum()
    losses = losses.where(finite, 0.0)
    distances = (losses - before @ losses).square()
    variance = before.square().sum() * (distances * finite).sum() / max(int(finite.sum()) - 1, 1)
    # What differs by rounding alone says nothing: relative to its spread it would decide who counts.
    rounding = (_ROUNDING * before @ losses).square()
    if not bool(((distances > rounding) & finite).any()):
        return finite.double() / finite.sum()
    return torch.softmax((-0.5 * distances / variance).where(finite, -torch.inf), 0)
