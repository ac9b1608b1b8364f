"""Clients that are there by turns, as time zones are.

Eichner, Koren, McMahan, Srebro, Talwar: Semi-Cyclic Stochastic Gradient Descent. ICML 2019, arXiv:1904.10120. There the
blocks of a day differ in their data; here they are drawn, and a partition says what clients hold.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from fedsec.errors import InputError
from fedsec.federation.selection.selection import Electorate, Losses, Selection, in_order

Blocks = Literal["anywhere", "together"]


@dataclass(frozen=True)
class Cyclic(Selection):
    """Clients are in blocks of about equal size, of which one is there at a time; a round's are drawn from it.

    Args:
        blocks: how many there are in a day.
        period: rounds for which a block is there.
        attackers: in which blocks the Byzantine clients are: `anywhere`, as chance has it, or `together` in as few as
            hold them, in which they may be the majority.

    Raises:
        InputError: numbers below 1, or a place that is none.

    Reference: Eichner et al. 2019, arXiv:1904.10120
    """

    blocks: int = 4
    period: int = 1
    attackers: Blocks = "anywhere"

    def __post_init__(self) -> None:
        if self.blocks < 1 or self.period < 1:
            raise InputError(f"cyclic: blocks and period must be at least 1, got {self.blocks} and {self.period}")
        if self.attackers not in get_args(Blocks):
            raise InputError(f"cyclic: attackers must be one of {', '.join(get_args(Blocks))}, got {self.attackers!r}")

    def check(self, num_clients: int, cohort: int) -> None:
        smallest = num_clients // self.blocks
        if smallest < cohort:
            raise InputError(
                f"cyclic: {num_clients} clients in {self.blocks} blocks are {smallest} in the smallest, fewer than the "
                f"{cohort} of a round; expected fewer blocks, or a smaller clients_per_round"
            )

    def clients(self, electorate: Electorate, round_number: int, losses: Losses) -> list[int]:
        together = (electorate.attackers,) if self.attackers == "together" else ()
        blocks = np.array_split(in_order(electorate, *together), self.blocks)
        block = blocks[(round_number - 1) // self.period % self.blocks]
        rng = electorate.streams.numpy("selection", "round", round_number)
        return sorted(rng.choice(block, electorate.cohort, replace=False).tolist())
