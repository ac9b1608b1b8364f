"""Auto: the strongest of an ensemble of attacks, round by round, by trying them all on the server's own defense.

What AutoAttack is to adversarial examples: a defense is judged by the worst case over attacks, pointwise, without a
parameter to tune. Croce, Hein, Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
attacks, ICML 2020, arXiv:2003.01690. A point is a round here; the worst case over whole runs is the worst over a
matrix's attacks, `auto` among them, since what does the most damage in each round need not do so in the long run.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.attacks.adaptive import DIRECTIONS, LAYOUTS, FamilySearch, unsearchable
from fedsec.attacks.mimic import Mimic
from fedsec.attacks.min_max import MinMax
from fedsec.attacks.min_sum import MinSum
from fedsec.attacks.rop import ROP
from fedsec.attacks.sign_flip import SignFlip
from fedsec.errors import InputError
from fedsec.threat import AttackerView, Objective, UpdatePoisoning

Knowledge = Literal["omniscient", "own"]

MEMBERS = ("alie", "ipm", "min_max", "min_sum", "mimic", "rop", "sign_flip", "adaptive")
_NEED_OTHERS = ("mimic", "rop")
"""Members that are about other clients' updates."""
_LINES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "alie": (("std",), ("equal",)),
    "ipm": (("mean",), ("equal",)),
    "adaptive": (DIRECTIONS, LAYOUTS),
}
"""Members that are searched: their directions and layouts. ALIE's z and IPM's epsilon are signed and without a cap."""


class Auto(UpdatePoisoning):
    """Tries an ensemble of attacks on the server's own defense in each round, and sends the rows of the most damaging.

    The members: ALIE with z, and IPM with epsilon searched for, of either sign; min-max and min-sum in each of their
    three directions; mimic; relocated orthogonal perturbation; sign flipping; and the adaptive attack. Of equal ones
    the first counts; where none does more than honest updates would, these are sent. Reports the winner of each round
    under `attack` (`none` if there is none), its damage, and the damage of every member.

    Args:
        objective: what counts as damage: `opposition`, how far the defense's result lies behind the honest mean along
            its direction, which is what a step loses of its descent; or its `distance` from that mean.
        knowledge: omniscient, or own: without mimic and relocated orthogonal perturbation, the others on what the
            attackers would have sent honestly.
        attacks: members, by their names in scenarios; null: all of them.

    Raises:
        InputError: unknown names; a view without a defense to try.

    Cost:
        That of all its members in every round, `adaptive` among them.

    Limits:
        Greedy: what does the most damage in each round need not do so in the long run, so look at the others beside it.
        Attacks on data are no members.

    Reference: Croce and Hein, ICML 2020, arXiv:2003.01690
    """

    knows_defense = True
    needs_last_aggregate = True

    def __init__(
        self,
        objective: Literal["opposition", "distance"] = "opposition",
        knowledge: Literal["omniscient", "own"] = "omniscient",
        attacks: Sequence[str] | None = None,
    ) -> None:
        if objective not in get_args(Objective):
            raise InputError(f"Auto: objective must be one of {list(get_args(Objective))}, not {objective!r}")
        if knowledge not in get_args(Knowledge):
            raise InputError(f"Auto: knowledge must be omniscient or own, not {knowledge!r}")
        possible = [name for name in MEMBERS if knowledge == "omniscient" or name not in _NEED_OTHERS]
        unknown = [name for name in attacks or () if name not in possible]
        if unknown or (attacks is not None and not attacks):
            raise InputError(
                f"Auto: attacks with knowledge {knowledge} must be some of {', '.join(possible)}, not {attacks}"
            )
        self.objective: Objective = objective
        self.knowledge = knowledge
        self.attacks = tuple(possible if attacks is None else attacks)
        self._ready: dict[str, list[UpdatePoisoning]] = {
            name: make(knowledge) for name, make in _READY.items() if name in self.attacks
        }

    def forge(self, view: AttackerView) -> Float[Tensor, "byzantine parameters"]:
        if why := unsearchable(view):
            view.report["remark"] = f"Auto saw {why} and sent its own"
            return view.own
        search = FamilySearch("Auto", view, self.objective)
        best, winner, worst = search.honest_damage(), "none", view.own
        damage = dict.fromkeys(self.attacks, -torch.inf)
        for name in self.attacks:
            for rows, reached in self._candidates(name, search, view):
                damage[name] = max(damage[name], reached)
                if reached > best:
                    best, winner, worst = reached, name, rows
        view.report.update(attack=winner, damage=best)
        view.report.update({f"damage of {name}": reached for name, reached in damage.items()})
        return worst

    def state(self) -> dict[str, Tensor]:
        return {
            f"{name}.{key}": tensor
            for name, attacks in self._ready.items()
            for attack in attacks
            for key, tensor in attack.state().items()
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        unknown = [key for key in state if key.partition(".")[0] not in self._ready]
        if unknown:
            raise InputError(f"Auto: its members {', '.join(self.attacks)} do not remember {unknown}")
        for name, attacks in self._ready.items():
            for attack in attacks:
                tag = f"{name}."
                attack.restore({key.removeprefix(tag): held for key, held in state.items() if key.startswith(tag)})

    def _candidates(self, name: str, search: FamilySearch, view: AttackerView) -> Iterator[tuple[Tensor, float]]:
        """A member's rows, and what they do to the defense."""
        if name in _LINES:
            family, damage = search.worst(*_LINES[name])
            yield (view.own if family is None else search.rows(family)), damage
            return
        for attack in self._ready[name]:
            seed = int(torch.randint(2**62, (), generator=view.generator))
            rows = attack.craft(replace(view, generator=torch.Generator().manual_seed(seed), report={}))
            yield rows, search.full_damage(rows)


_READY: dict[str, Callable[[Knowledge], list[UpdatePoisoning]]] = {
    "min_max": lambda knowledge: [MinMax(direction, knowledge) for direction in ("unit", "sign", "std")],
    "min_sum": lambda knowledge: [MinSum(direction, knowledge) for direction in ("unit", "sign", "std")],
    "mimic": lambda knowledge: [Mimic()],
    "rop": lambda knowledge: [ROP()],
    "sign_flip": lambda knowledge: [SignFlip()],
}
"""Members that are as they are, from what they know."""
