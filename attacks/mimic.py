"""Mimic: over-emphasize one honest client, with rows that no rule can tell from honest ones.

Reference: Karimireddy, He, Jaggi, Byzantine-robust learning on heterogeneous datasets via bucketing, ICLR 2022,
arXiv:2006.09365; the warm-up finds the direction in which honest updates vary most by Oja's rule, in the form of their
code.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat import AttackerView, UpdatePoisoning

_MEMORY = {"mean", "direction", "rounds", "target"}


class Mimic(UpdatePoisoning):
    """Sends what one honest client sends: the one that lies farthest in the direction in which they vary most.

    For `warmup` rounds t it follows the running mean mu of the honest updates and the direction
    z <- (t z + u / ||u||) / (t + 1), normalized, u = sum_i (x_i - mu) <x_i - mu, z>, and copies the client of largest
    <x_i, z>. Afterwards it keeps copying the client that it copied last. Where that one takes no part in a round, it
    copies for once whoever lies farthest in that direction. Reports the client's id.

    Args:
        warmup: how many rounds it looks for the client, at least 1.

    Raises:
        InputError: fewer.

    Cost:
        n d in each round; it remembers 2d numbers.

    Limits:
        No row is wrong: it harms where honest clients differ, by their imbalance, and hardly where their data are
        alike. Bucketing (Karimireddy et al., ICLR 2022) and nearest-neighbor mixing are meant against it.

    Reference: Karimireddy et al., ICLR 2022, arXiv:2006.09365
    """

    knowledge = "omniscient"

    def __init__(self, warmup: int = 10) -> None:
        if warmup < 1:
            raise InputError(f"Mimic: warmup must be at least one round, not {warmup}")
        self.warmup = warmup
        self.memory: dict[str, Tensor] = {}

    def forge(self, view: AttackerView) -> Float[Tensor, "byzantine parameters"]:
        finite = view.honest.isfinite().all(1)
        rows = view.honest[finite]
        clients = [client for client, usable in zip(view.clients, finite.tolist(), strict=True) if usable]
        if not clients:
            view.report["remark"] = "Mimic saw no honest client and sent its own honest updates"
            return view.own
        searching = self._rounds < self.warmup
        wide = rows.to(torch.promote_types(rows.dtype, torch.float32))
        if searching:
            self._learn(wide, view.generator)
        target = int(self.memory["target"])
        if searching or target not in clients:
            place = int((wide @ self.memory["direction"]).argmax())
            if searching:
                self.memory["target"] = torch.tensor(clients[place])
        else:
            place = clients.index(target)
        view.report["client"] = str(clients[place])
        return rows[place].repeat(len(view.own), 1)

    def state(self) -> dict[str, Tensor]:
        return dict(self.memory)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        if state and state.keys() != _MEMORY:
            raise InputError(f"Mimic: remembers {sorted(_MEMORY)}, got {sorted(state)}")
        self.memory = dict(state)

    @property
    def _rounds(self) -> int:
        return int(self.memory["rounds"]) if self.memory else 0

    def _learn(self, rows: Tensor, generator: torch.Generator) -> None:
        """Follow the mean and the direction of largest variance by one round."""
        rounds, mean = self._rounds, rows.mean(0)
        if self.memory:
            mean = (rounds * self.memory["mean"] + mean) / (rounds + 1)
            direction = self.memory["direction"]
        else:
            direction = torch.randn(rows.shape[1], generator=generator).to(rows)
        deviations = rows - mean
        pulled = (deviations @ direction) @ deviations
        length = float(pulled.norm())
        if length > 0:  # it is zero where all rows are alike
            pulled = pulled / length
            direction = pulled if rounds == 0 else rounds * direction + pulled
        target = self.memory.get("target", torch.tensor(-1))
        self.memory = {
            "mean": mean,
            "direction": direction / direction.norm(),
            "rounds": torch.tensor(rounds + 1),
            "target": target,
        }
