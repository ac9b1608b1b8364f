"""The worst that an ensemble of attacks does to anyone's rule, in one call."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fedsec.attacks.auto import Auto
from fedsec.defense import Aggregator, AggregatorTrial, CallableTrial, RoundContext
from fedsec.errors import InputError
from fedsec.threat import AttackerView, DefenseTrial, Objective
from fedsec.threat.rows import Rows, as_given, as_matrix, as_tensor

__all__ = ["WorstCase", "worst_case"]


@dataclass(frozen=True, eq=False)
class WorstCase:
    """What the most damaging attack sends, and what each of them does.

    Attributes:
        attack: its name, `none` where no attack does more than honest updates.
        rows: what the Byzantine clients send, of the kind in which the honest updates were given.
        damage: of these rows.
        damages: of each attack that was tried.
        honest_damage: where the Byzantine clients send honest updates.
    """

    attack: str
    rows: Any
    damage: float
    damages: dict[str, float]
    honest_damage: float


def worst_case(
    rule: Aggregator | Callable[[Any], Any],
    honest_updates: Rows,
    num_byzantine: int,
    *,
    own_updates: Rows | None = None,
    attacks: Sequence[str] | None = None,
    objective: Objective = "opposition",
    seed: int = 0,
    context: RoundContext | None = None,
) -> WorstCase:
    """Find the rows of so many Byzantine clients that lead a rule farthest astray; see `Auto` for the attacks.

        worst_case(Krum(num_byzantine=2), updates, num_byzantine=2).attack

    Args:
        rule: fedsec's, a `Pipeline`, or any function from rows to a vector. A function gets the rows in the kind in
            which the honest ones are given (a matrix, an array, or a list), the Byzantine ones last.
        honest_updates: a row a client; left unchanged.
        num_byzantine: how many clients attack, beside the honest ones.
        own_updates: what the Byzantine clients would send honestly; by default copies of the honest updates in turn.
        attacks: which to try, by their names in scenarios; all by default.
        objective: what counts as damage: `opposition`, how far the result lies behind the mean of the honest updates
            along its direction, or its `distance` from that mean.
        seed: of what attacks and rule draw.
        context: what the rule needs beside the updates, see `RoundContext`, but for a generator.

    Returns:
        The worst rows, whose they are, and the damage of each attack, in the updates' unit.

    Raises:
        InputError: malformed arguments, or a rule that cannot work with so many rows.
    """
    matrix = as_matrix("worst_case", honest_updates).detach()
    if num_byzantine < 1:
        raise InputError(f"worst_case: num_byzantine must be at least 1, not {num_byzantine}")
    if not bool(matrix.isfinite().all()):
        raise InputError("worst_case: expected finite honest updates")
    own = matrix[torch.arange(num_byzantine) % len(matrix)]
    if own_updates is not None:
        own = as_matrix("worst_case: own_updates", own_updates).detach().to(matrix)
        if own.shape != (num_byzantine, matrix.shape[1]):
            raise InputError(
                f"worst_case: expected own_updates of {num_byzantine} rows and {matrix.shape[1]} columns, got "
                f"{tuple(own.shape)}"
            )
    count = len(matrix) + num_byzantine
    trial = _trial(rule, honest_updates, seed, context)
    view = AttackerView(
        own=own,
        honest=matrix,
        parameters=torch.zeros_like(matrix[0]),
        num_clients=count,
        num_byzantine=num_byzantine,
        round=1,
        generator=torch.Generator().manual_seed(seed),
        defense=trial,
    )
    ensemble = Auto(objective, attacks=attacks)
    rows = ensemble.craft(view)
    if "attack" not in view.report:
        raise InputError(f"worst_case: {view.report['remark']}; expected smaller updates")
    damages = {name: float(view.report[f"damage of {name}"]) for name in ensemble.attacks}
    honest = trial.damage(torch.cat([matrix, own]), matrix.mean(0), objective)
    give = as_given(honest_updates)
    given = [give(row) for row in rows] if isinstance(honest_updates, list | tuple) else give(rows)
    return WorstCase(str(view.report["attack"]), given, float(view.report["damage"]), damages, honest)


def _trial(rule: Any, given: Rows, seed: int, context: RoundContext | None) -> DefenseTrial:
    if isinstance(rule, Aggregator):
        generator = torch.Generator().manual_seed(seed + 1)
        return AggregatorTrial(rule, generator, context=context or RoundContext())
    if not callable(rule) or isinstance(rule, type):
        got = f"the class {rule.__name__} itself" if isinstance(rule, type) else type(rule).__name__
        raise InputError(f"worst_case: rule must be an Aggregator or a function of rows, not {got}")
    give, listed = as_given(given), isinstance(given, list | tuple)

    def called(rows: Tensor) -> Tensor:
        result = rule([give(row) for row in rows] if listed else give(rows))
        return as_tensor("worst_case: the rule's result", result).to(rows)

    return CallableTrial(called)
