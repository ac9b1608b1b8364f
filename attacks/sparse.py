"""The hybrid sparse attack: aggressive where a network is sensitive, imperceptible elsewhere.

Reference: Ozfatura, Ozfatura, Kupcu, Gunduz, Aggressive or imperceptible, or both: network pruning assisted hybrid
Byzantines in federated learning, 2024, arXiv:2404.06230. They prune with FORCE, SNIP and others on the clients' data;
here sensitivity is SNIP's (Lee, Ajanthan, Torr, ICLR 2019, arXiv:1810.02340) with the clients' mean update in the place
of a gradient, over the whole network at once.
"""

from collections.abc import Mapping
from math import isfinite
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat import AttackerView, UpdatePoisoning
from fedsec.threat.byzantine.collusion import check_scatter, colluding
from fedsec.threat.byzantine.spread import Spread, published_z


class Sparse(UpdatePoisoning):
    """Sends the mean of the honest updates less a few standard deviations: many where it matters, few elsewhere.

    mean - std * (scale on the mask, z elsewhere)

    Mean and std, the unbiased one, are over the honest clients' rows (knowledge omniscient) or over what the attackers
    would have sent honestly (own). The mask is the share `density` of parameters of
    largest |parameter * mean update| in the first round, and stays; the attackers agree on it. Reports z.

    Args:
        density: share of the parameters on the mask, in (0, 1]; at least one.
        scale: standard deviations on the mask, positive.
        z: elsewhere: neurips or v1, as of `alie`, or a number.
        knowledge: omniscient, or own.
        scatter: how far the attackers' rows are from what they agreed on, in [0, 1), as a share of the smallest
            distance between honest updates; 0: all send the same.

    Raises:
        InputError: a number out of range.

    Cost:
        n d for mean and deviation; a sort of d numbers in the first round.

    Limits:
        The mask is that of the first round. Off the mask it is ALIE, with a z that is zero or less for few attackers.

    Reference: Ozfatura et al. 2024, arXiv:2404.06230
    """

    def __init__(
        self,
        density: float = 0.005,
        scale: float = 1.5,
        z: float | Literal["neurips", "v1"] = "neurips",
        knowledge: Literal["own", "omniscient"] = "omniscient",
        scatter: float = 0.0,
    ) -> None:
        check_scatter("Sparse", scatter)
        if not 0 < density <= 1:
            raise InputError(f"Sparse: density must lie in (0, 1], not {density}")
        if not (isfinite(scale) and scale > 0):
            raise InputError(f"Sparse: scale must be positive and finite, not {scale}")
        if not (z in ("neurips", "v1") if isinstance(z, str) else isfinite(z)):
            raise InputError(f"Sparse: z must be neurips, v1 or a finite number, not {z!r}")
        self.density, self.scale, self.z, self.knowledge, self.scatter = density, scale, z, knowledge, scatter
        self.mask: Tensor | None = None

    def forge(self, view: AttackerView) -> Float[Tensor, "byzantine parameters"]:
        spread = Spread(view.benign)
        z = published_z(view.num_clients, view.num_byzantine, self.z) if isinstance(self.z, str) else float(self.z)
        view.report["z"] = z
        if self.mask is None:
            sensitivity = (view.parameters.double() * spread.mean).abs()
            count = max(1, round(self.density * len(sensitivity)))
            self.mask = torch.zeros(len(sensitivity), dtype=torch.bool, device=sensitivity.device)
            self.mask[sensitivity.sort(descending=True, stable=True).indices[:count]] = True
        sizes = torch.full_like(spread.std, z).masked_fill_(self.mask, self.scale)
        return colluding(spread.mean - sizes * spread.std, view, spread, self.scatter)

    def state(self) -> dict[str, Tensor]:
        return {} if self.mask is None else {"mask": self.mask}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        if state and state.keys() != {"mask"}:
            raise InputError(f"Sparse: remembers its mask, got {sorted(state)}")
        self.mask = state.get("mask")
