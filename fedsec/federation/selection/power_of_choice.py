"""Those take part who need it most, as they say themselves.

Cho, Wang, Joshi: Client Selection in Federated Learning: Convergence Analysis and Power-of-Choice Selection Strategies.
2020, arXiv:2010.01243, the strategy pow-d: candidates are drawn by the share of all examples that they hold, the server
sends them the global model, each states its mean loss over all its examples (the paper's cheaper cpow-d takes a batch),
and the largest losses take part. Where we deviate: a client whose loss is not finite comes last. What candidates
receive, compute and state is among the costs of a round, shared out among those that take part.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fedsec.errors import InputError
from fedsec.federation.selection.selection import Electorate, Losses, Selection


@dataclass(frozen=True)
class PowerOfChoice(Selection):
    """Of some candidates, drawn by how many examples they have, those take part whose stated loss is highest.

    Nobody checks the statement: a Byzantine candidate is chosen by claiming a large one, and one with poisoned data has
    a large one without any claim.

    Args:
        candidates: how many are asked, at least as many as take part; as many for a draw by size alone.

    Raises:
        InputError: no candidates.

    Reference: Cho et al. 2020, arXiv:2010.01243
    """

    candidates: int

    by_loss: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.candidates < 1:
            raise InputError(f"power_of_choice: candidates must be at least 1, got {self.candidates}")

    def check(self, num_clients: int, cohort: int) -> None:
        if not cohort <= self.candidates <= num_clients:
            raise InputError(
                f"power_of_choice: candidates must lie in [{cohort}, {num_clients}], from as many as take part to all "
                f"clients; got {self.candidates}"
            )

    def clients(self, electorate: Electorate, round_number: int, losses: Losses) -> list[int]:
        candidates = self.asked(electorate, round_number)
        stated = losses(candidates)
        order = np.argsort(-np.where(np.isfinite(stated), stated, -np.inf), kind="stable")
        return sorted(candidates[place] for place in order[: electorate.cohort].tolist())

    def asked(self, electorate: Electorate, round_number: int) -> list[int]:
        """The candidates of a round, in the order in which they were drawn."""
        sizes = np.ones(electorate.num_clients) if electorate.sizes is None else electorate.sizes
        rng = electorate.streams.numpy("selection", "round", round_number)
        drawn: list[int] = rng.choice(len(sizes), self.candidates, replace=False, p=sizes / sizes.sum()).tolist()
        return drawn

    def most_byzantine(self, electorate: Electorate, round_number: int) -> int:
        among = electorate.attackers.intersection(self.asked(electorate, round_number))
        return min(electorate.cohort, len(among))
