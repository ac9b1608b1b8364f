"""A little is enough: hide within the spread of the honest updates.

Reference: Baruch, Baruch, Goldberg, A little is enough: circumventing defenses for distributed learning, NeurIPS 2019,
arXiv:1902.06156. Their code takes the population standard deviation of the attackers' own rows, and z = 1.5; the
statistics over all honest rows with the unbiased one are those of Karimireddy, He, Jaggi, ICLR 2022, arXiv:2006.09365.
"""

from math import isfinite
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat import AttackerView, UpdatePoisoning
from fedsec.threat.byzantine.collusion import check_scatter, colluding
from fedsec.threat.byzantine.spread import Spread, published_z

_SIZES = (0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 10.0)
"""What `auto` tries, on both sides of the mean."""
_HARDLY = 0.1
"""An update so few standard deviations from the mean is hardly an attack."""


class ALIE(UpdatePoisoning):
    """Sends the mean of the honest updates less z standard deviations in every parameter.

    mean - z * std, with z = Phi^-1((n - m - s) / (n - m)) and s = floor(n / 2 + 1) - m

    Mean and std, the unbiased one, are over the honest clients' rows (knowledge omniscient) or over what the attackers
    would have sent honestly (own). Of the n clients of a round m are Byzantine. This z is the published paper's
    (neurips); in its first version (v1) it is Phi^-1((n - s) / n). For few attackers both may be zero or negative: the
    rows are then the honest mean, or lie on its other side, and are no attack. Reports z, and says so.

    Args:
        z: neurips, v1, a number, or auto: of a grid from -10 to 10 the one that moves what the server's rule makes of
            all rows farthest from the honest mean.
        knowledge: omniscient, or own.
        scatter: how far the attackers' rows are from what they agreed on, in [0, 1), as a share of the smallest
            distance between honest updates; 0: all send the same.

    Raises:
        InputError: a z that is none of these, or auto with knowledge own.

    Cost:
        n d for mean and deviation; with `z: auto` 30 trials of the server's rule.

    Limits:
        The published z is zero or less for few attackers: 0 for 2 of 10. It hides in the honest updates' spread, which
        momentum of the clients makes smaller (Karimireddy, He, Jaggi, ICML 2021, arXiv:2012.10333).

    Example:
        z: 1.5

    Reference: Baruch et al., NeurIPS 2019, arXiv:1902.06156
    """

    by_columns = True

    def __init__(
        self,
        z: float | Literal["neurips", "v1", "auto"] = "neurips",
        knowledge: Literal["own", "omniscient"] = "omniscient",
        scatter: float = 0.0,
    ) -> None:
        check_scatter("ALIE", scatter)
        if not (z in ("neurips", "v1", "auto") if isinstance(z, str) else isfinite(z)):
            raise InputError(f"ALIE: z must be neurips, v1, auto or a finite number, not {z!r}")
        if z == "auto" and knowledge == "own":
            raise InputError("ALIE: z auto tries the server's rule on everybody's rows; expected knowledge omniscient")
        self.z, self.knowledge, self.scatter, self.knows_defense = z, knowledge, scatter, z == "auto"
        self.by_columns = self.by_columns and scatter == 0 and not self.knows_defense

    def forge(self, view: AttackerView) -> Float[Tensor, "byzantine parameters"]:
        benign = view.benign
        spread = Spread(benign)
        if self.z == "auto":
            z = self._strongest(view, spread)
        elif isinstance(self.z, str):
            z = published_z(view.num_clients, view.num_byzantine, self.z)
        else:
            z = float(self.z)
        view.report["z"] = z
        if remark := self._remark(view, z, len(benign)):
            view.report["remark"] = remark
        return colluding(spread.mean - z * spread.std, view, spread, self.scatter)

    def _strongest(self, view: AttackerView, spread: Spread) -> float:
        if view.defense is None:
            raise InputError("ALIE: z auto tries the server's rule; expected a view with a defense, or another z")
        count, byzantine = len(spread), view.num_byzantine
        points = torch.cat([spread.rows, spread.std.to(spread.rows.dtype)[None]])
        trial = view.defense.mixtures(points, count + byzantine)
        mixing = torch.zeros(count + byzantine, count + 1, dtype=torch.float64)
        mixing[:count, :count] = torch.eye(count)
        mean = torch.cat([torch.full((count,), 1 / count, dtype=torch.float64), torch.zeros(1).double()])
        mixing[count:] = mean
        damage: dict[float, float] = {}
        for z in (sign * size for size in _SIZES for sign in (1, -1)):
            mixing[count:, -1] = -z
            damage[z] = trial.damage(mixing, mean)
        return max(damage, key=lambda z: damage[z])

    def _remark(self, view: AttackerView, z: float, num_rows: int) -> str | None:
        if num_rows < 2:
            return "ALIE knows a single honest row, which has no spread, and sends it: this is no attack"
        if self.z not in ("neurips", "v1") or z >= _HARDLY:
            return None
        why = "points the other way" if z < 0 else "is the honest mean" if z == 0 else "is hardly an attack"
        who = f"{view.num_byzantine} Byzantine of {view.num_clients} clients"
        return f"ALIE's z ({self.z}) for {who} is {z:.4f}, which {why}; for an attack set z to auto, or to a number"
