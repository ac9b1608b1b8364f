"""Who moved the model in a round: each client's row beside the step that was taken."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fedsec.recording.round_file import ClientId
from fedsec.threat.rows import finite_rows

__all__ = ["ClientPart", "client_parts", "cosine", "weighted_mean"]


@dataclass(frozen=True)
class ClientPart:
    """One client's row in one round.

    Attributes:
        client: its id.
        weight: its part of the weight; weights sum to one.
        norm: length of its row; None where it is not finite, as of all below.
        share: which part of the step its row accounts for in the weighted mean, weight * <row, step> / <step, step>;
            these sum to one where the step is that mean. Negative where it pulled back.
        cosine: of the angle between its row and the step.
        distance: from the coordinate-wise median of the rows, in units of the median client's distance (or as it is,
            where that is zero).
        byzantine: whether it is known to be; None where nobody said.
    """

    client: ClientId
    weight: float
    norm: float | None
    share: float | None
    cosine: float | None
    distance: float | None
    byzantine: bool | None

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def client_parts(
    clients: Sequence[ClientId],
    rows: Float[Tensor, "clients parameters"],
    weights: Float64[Tensor, "clients"],
    step: Float[Tensor, "parameters"],
    byzantine: Sequence[ClientId] | None,
) -> list[ClientPart]:
    """Each client's part of a step, in the order of the rows.

    Args:
        clients: ids of the rows.
        rows: what was received.
        weights: of the clients, not negative, summing to one.
        step: that was taken, or would be.
        byzantine: those known to be; None where nobody said.
    """
    finite = finite_rows(rows)
    wide = step.double()
    square = float(wide.dot(wide))
    center = rows[finite].median(0).values.double() if bool(finite.any()) else wide
    norms, shares, cosines, distances = [], [], [], []
    for row, weight in zip(rows, weights.tolist(), strict=True):
        exact = row.double()
        product = float(exact.dot(wide))
        norms.append(float(exact.norm()))
        shares.append(weight * product / square if square > 0 else float("nan"))
        cosines.append(cosine(exact, wide))
        distances.append(float((exact - center).norm()))
    typical = float(torch.tensor(distances, dtype=torch.float64)[finite].quantile(0.5)) if bool(finite.any()) else 0.0
    return [
        ClientPart(
            client,
            float(weights[place]),
            _known(norms[place]),
            _known(shares[place]),
            _known(cosines[place]),
            _known(distances[place] / typical if typical > 0 else distances[place]),
            None if byzantine is None else client in byzantine,
        )
        for place, client in enumerate(clients)
    ]


def cosine(one: Float[Tensor, "parameters"], other: Float[Tensor, "parameters"]) -> float:
    """Of the angle between two vectors; NaN where one is zero or not finite."""
    lengths = float(one.double().norm()) * float(other.double().norm())
    return float(one.double().dot(other.double())) / lengths if lengths > 0 else float("nan")


def weighted_mean(
    rows: Float[Tensor, "clients parameters"], weights: Float64[Tensor, "clients"]
) -> Float[Tensor, "parameters"]:
    """Of the rows that are finite; zero where none is."""
    finite = finite_rows(rows)
    weights = torch.where(finite, weights, 0.0)
    total = float(weights.sum())
    parts = weights / total if total > 0 else weights
    return (parts @ rows.double().where(finite[:, None], 0.0)).to(rows)


def _known(value: float) -> float | None:
    return value if isfinite(value) else None
