"""The server's defense in the hands of an attacker who knows it; see `fedsec.threat.defense_trial`."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.defense.aggregation import Aggregator
from fedsec.defense.cohort import Cohort, RoundContext
from fedsec.defense.coordinate import CoordinateRule
from fedsec.defense.gram import GramRule
from fedsec.defense.mixture_trial import LinearMixtures, RowMixtures, SampledMixtures, final_rule
from fedsec.errors import AggregationError, InputError
from fedsec.threat.defense_trial import DefenseTrial, MixtureTrial, Objective, Outcome

__all__ = ["AggregatorTrial", "CallableTrial"]

NUM_DRAWS = 2
"""Of a defense that draws, over how many draws damage is averaged."""


class CallableTrial(DefenseTrial):
    """Any function of rows as a defense to try.

    Args:
        rule: takes a matrix, a client a row, and gives a vector of its dtype and on its device; without a memory.
    """

    def __init__(self, rule: Callable[[Tensor], Any]) -> None:
        self.rule = rule

    def __call__(self, rows: Float[Tensor, "clients parameters"]) -> Float[Tensor, "parameters"]:
        before = rows._version
        result = self.rule(rows)
        if not isinstance(result, Tensor) or result.shape != rows.shape[1:]:
            shape = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
            raise InputError(f"the defense must give a vector of {rows.shape[1]} numbers, not {shape}")
        if rows._version != before:
            raise InputError("the defense wrote into the rows that it was given; expected it to leave them as they are")
        return result.detach()

    def damage(
        self,
        rows: Float[Tensor, "clients parameters"],
        mean: Float[Tensor, "parameters"],
        objective: Objective = "distance",
    ) -> float:
        return _damage(self, rows, mean, objective)

    def mixtures(self, points: Float[Tensor, "points parameters"], num_clients: int) -> MixtureTrial:
        return RowMixtures(self, points)


@dataclass(eq=False)
class AggregatorTrial(DefenseTrial):
    """A rule, or a pipeline that ends in one, to try.

    Args:
        rule: of the server; a copy of it is tried, which begins each trial with the state that the server's has now.
        generator: the attacker's own, of what a defense draws; on the CPU.
        places: of the given rows in what the server receives: honest clients' first, then the Byzantine ones'. None
            where that is their order.
        weights: of the clients in the server's order, for rules that use them.
        context: what else the server gives its rule, see `RoundContext`, but for the generator.
    """

    rule: Aggregator
    generator: torch.Generator
    places: Sequence[int] | None = None
    weights: Float[Tensor, "clients"] | None = None
    context: RoundContext = field(default_factory=RoundContext)

    def __post_init__(self) -> None:
        self.rule = copy.deepcopy(self.rule)
        self._state = {name: tensor.clone() for name, tensor in self.rule.state().items()}
        self._seeds: list[int] = []

    def __call__(self, rows: Float[Tensor, "clients parameters"]) -> Float[Tensor, "parameters"]:
        return self._result(rows, 0)

    def damage(
        self,
        rows: Float[Tensor, "clients parameters"],
        mean: Float[Tensor, "parameters"],
        objective: Objective = "distance",
    ) -> float:
        draws = range(self.num_draws)
        return fmean(_damage(partial(self._result, draw=draw), rows, mean, objective) for draw in draws)

    def mixtures(self, points: Float[Tensor, "points parameters"], num_clients: int) -> MixtureTrial:
        lost = self._lost(num_clients)
        if self.rule.max_rejected(num_clients + lost) < lost:
            raise InputError(f"the defense cannot work with {num_clients} finite rows of {num_clients + lost}")
        final = final_rule(self.rule)
        if isinstance(final, GramRule):
            return LinearMixtures(self, points, num_clients)
        if isinstance(final, CoordinateRule) and not final.needs_shapes:
            return SampledMixtures(self, points, num_clients)
        return RowMixtures(self, points)

    @property
    def num_draws(self) -> int:
        """How many different draws of the defense are looked at."""
        return NUM_DRAWS if self.rule.draws else 1

    def drawn(self, draw: int) -> torch.Generator | None:
        """The generator of one of the draws, from its beginning; None for a defense that does not draw."""
        if not self.rule.draws:
            return None
        if not self._seeds:
            self._seeds = torch.randint(2**62, (NUM_DRAWS,), generator=self.generator).tolist()
        return torch.Generator().manual_seed(self._seeds[draw])

    def received(self, rows: Tensor) -> Tensor:
        """The rows, or what they are made of, in the server's order."""
        if not self._whole_round(len(rows)):
            return rows
        assert self.places is not None
        order = torch.empty(len(rows), dtype=torch.int64)
        order[list(self.places)] = torch.arange(len(rows))
        return rows[order.to(rows.device)]

    def cohort(self, shown: Float[Tensor, "points columns"], num_rows: int, columns: Tensor | None) -> Cohort:
        """What is known of a round of so many rows, but how these are made of the points.

        Args:
            shown: the points that rows are made of, all their columns or some.
            num_rows: how many rows the server receives.
            columns: numbers of those that are shown; None for all.
        """
        weights, context = self._weights(num_rows), self._context(num_rows)
        parts = torch.ones(num_rows, dtype=torch.float64) if weights is None else weights.double().cpu()
        clients, server, shapes = context.get("clients"), context.get("server_update"), context.get("shapes")
        if server is not None and columns is not None:
            server = server[columns.to(server.device)]
        return Cohort(
            shown,
            tuple((parts / parts.sum()).tolist()),
            self._lost(num_rows),
            clients=tuple(range(num_rows) if clients is None else clients),
            server_update=server,
            losses=context.get("losses"),
            shapes=None if shapes is None or columns is not None else {n: torch.Size(s) for n, s in shapes.items()},
        )

    def _lost(self, count: int) -> int:
        """How many of the round's rows the server rejects, since they are not among so many finite ones."""
        return 0 if self.places is None else max(0, len(self.places) - count)

    def _whole_round(self, count: int) -> bool:
        return self.places is not None and len(self.places) == count

    def _weights(self, count: int) -> Tensor | None:
        """The clients' weights for a rule that uses them; equal ones where these are not all the clients."""
        whole = self.weights is not None and len(self.weights) == count
        return self.weights if whole and self.rule.uses_weights else None

    def _context(self, count: int) -> RoundContext:
        """What the server gives its rule beside so many rows."""
        clients = self.context.get("clients")
        whole = clients is None or len(clients) == count
        return self.context if whole else RoundContext(**{**self.context, "clients": None, "losses": None})

    def _rewind(self) -> None:
        # Also where there was nothing to remember yet: a rule's first round may be the one that is tried.
        self.rule.restore({name: tensor.clone() for name, tensor in self._state.items()})

    def _result(self, rows: Tensor, draw: int) -> Tensor:
        count = len(rows)
        context = RoundContext(**{**self._context(count), "generator": self.drawn(draw)})
        lost = rows.new_full((self._lost(count), rows.shape[1]), torch.nan)
        received = torch.cat([rows, lost]) if len(lost) else self.received(rows)
        try:
            return self.rule(received, self._weights(count), **context)
        finally:
            self._rewind()  # at once: mixtures of this trial ask the rule what it remembers, and copy nothing


def _damage(trial: Callable[[Tensor], Tensor], rows: Tensor, mean: Tensor, objective: Objective) -> float:
    try:
        result = trial(rows).double()
    except AggregationError:
        return -torch.inf
    wide = mean.double()
    lengths = [float(torch.linalg.vector_norm(vector)) for vector in (result - wide, result, wide)]
    return Outcome(*lengths).damage(objective)
