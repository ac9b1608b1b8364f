"""What attackers who send one and the same row make of it, lest they be told by being alike."""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat.byzantine.spread import Spread
from fedsec.threat.poisoning import AttackerView

__all__ = ["check_scatter", "colluding"]


def check_scatter(who: str, scatter: float) -> None:
    """Refuse a share that is none.

    Raises:
        InputError: it does not lie in [0, 1).
    """
    if not 0 <= scatter < 1:
        raise InputError(f"{who}: scatter must lie in [0, 1), not {scatter}")


def colluding(
    row: Float64[Tensor, "parameters"], view: AttackerView, spread: Spread, scatter: float
) -> Float[Tensor, "byzantine parameters"]:
    """The attackers' rows: all alike, or each beside the common one in a random direction.

    Args:
        row: what they agreed on.
        view: the round.
        spread: of the honest updates as the attackers know them.
        scatter: how far from it they stand at most, as a share of the smallest distance between honest updates; the
            distances are drawn evenly. 0 draws nothing.
    """
    rows = row.repeat(len(view.own), 1)
    if scatter > 0 and len(spread) > 1:
        distances = spread.squared_distances().fill_diagonal_(torch.inf)
        reach = scatter * float(distances.min().sqrt())
        beside = torch.randn(rows.shape, generator=view.generator, dtype=torch.float64)
        lengths = reach * torch.rand(len(rows), 1, generator=view.generator, dtype=torch.float64)
        rows = rows + (beside / beside.norm(dim=1, keepdim=True) * lengths).to(rows.device)
    return rows.to(view.own.dtype)
