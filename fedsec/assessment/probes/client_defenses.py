"""Defenses of clients that are tried against a finding: those that a federation can have beside what it has already."""

from collections.abc import Mapping, Sequence
from typing import Any

from fedsec.assessment.cells import scenario_of
from fedsec.assessment.deployment import Deployment
from fedsec.assessment.difference import Estimate
from fedsec.assessment.effort import Effort
from fedsec.assessment.finding import Countermeasure
from fedsec.assessment.probes.accuracies import (
    DEPLOYED,
    accuracy_change,
    baseline_cells,
    clean_key,
    seeds,
    shortened,
    watched,
)
from fedsec.assessment.probes.probe import CellOutcome, CellOutcomes, ProbeCell
from fedsec.errors import InputError
from fedsec.plugins import registry
from fedsec.scenario import load_scenario
from fedsec.scenario.plan import check_scenario

__all__ = [
    "INSPECT_MODEL",
    "NOISE",
    "PRIVATE",
    "PRUNE",
    "best_first",
    "cost_of",
    "defended_cells",
    "epsilon_of",
    "private_cells",
    "pace_of",
    "to_try",
]

Defense = Mapping[str, Any]

NOISE: Defense = {"name": "gaussian_noise", "std": 1.0, "relative": True}
PRUNE: Defense = {"name": "prune", "ratio": 0.99}
PRIVATE: Defense = {"name": "dp_sgd", "target_epsilon": 8.0, "max_grad_norm": 1.0}
INSPECT_MODEL: Defense = {"name": "inspect_model"}

_SLOWER = 3.0
"""Times as long as plain training DP-SGD takes, about."""
_ONE_OF_A_KIND = ("inspection", "local")
"""Roles that a list of defenses has once, in this order, before all others."""
_ACCEPTED: dict[str, bool] = {}
"""Settings that were checked already: the battery asks for each level of effort."""


def to_try(deployed: Deployment, candidates: Sequence[Defense]) -> dict[str, list[Any]]:
    """Name -> all that clients do with one defense more, as a scenario has it; without those that do not go with it.

    Args:
        deployed: the federation.
        candidates: defenses of clients.
    """
    settings = {f"+ {_called(one)}": _joined(deployed, one) for one in candidates}
    return {name: setting for name, setting in settings.items() if setting is not None}


def defended_cells(deployed: Deployment, effort: Effort, defenses: Mapping[str, list[Any]]) -> list[ProbeCell]:
    """The federation without attackers and with other clients' defenses, watched by a server that reads labels.

    Args:
        deployed: the federation.
        effort: how much of it.
        defenses: name -> what clients do.
    """
    return [
        ProbeCell(
            clean_key(name),
            shortened(deployed, effort, seed, defense=[*defense, *deployed.rule], **watched(deployed, effort)),
            slower=pace_of(defense),
        )
        for seed in seeds(deployed, effort)
        for name, defense in defenses.items()
    ]


def private_cells(
    deployed: Deployment, effort: Effort, key: str, audit: Mapping[str, Any], search: float
) -> list[ProbeCell]:
    """An audited cell once more with private training, and what that costs; nothing where there is no time for it.

    Args:
        deployed: the federation.
        effort: how much of it.
        key: of the audited cell.
        audit: that section of it.
        search: of the audited cell.
    """
    if not effort.thorough:
        return []
    defenses = to_try(deployed, [PRIVATE])
    audited = [
        ProbeCell(
            (key, name),
            shortened(deployed, effort, deployed.seed, audit=dict(audit), defense=[*defense, *deployed.rule]),
            search=search,
            slower=pace_of(defense),
        )
        for name, defense in defenses.items()
    ]
    if not audited:
        return []
    clean = [*baseline_cells(deployed, effort, {DEPLOYED: deployed.rule}), *defended_cells(deployed, effort, defenses)]
    return [*audited, *(cell for cell in clean if cell.seed == deployed.seed)]


def cost_of(outcomes: CellOutcomes, name: str, deployed: Deployment) -> Estimate | None:
    """The change of accuracy that a defense of clients makes without attackers; None where it was not measured."""
    return accuracy_change(outcomes.of(*clean_key(name)), outcomes.of(*clean_key(DEPLOYED)), deployed)


def epsilon_of(outcomes: Mapping[int, CellOutcome]) -> float | None:
    """The formal epsilon of some cells, the largest; None where nothing is claimed."""
    values = [value for outcome in outcomes.values() if (value := outcome.metric("epsilon")) is not None]
    return max(values, default=None)


def pace_of(defense: Sequence[Any]) -> float:
    """How many times as long as plain training a defense of clients takes, about."""
    names = [one["name"] if isinstance(one, Mapping) else one for one in defense]
    return _SLOWER if PRIVATE["name"] in names else 1.0


def best_first(tried: Sequence[Countermeasure]) -> tuple[Countermeasure, ...]:
    """Countermeasures in the order of what they leave, and cost."""
    return tuple(sorted(tried, key=lambda one: one.effect.value - (one.cost.value if one.cost else 0.0)))


def _called(defense: Defense) -> str:
    epsilon = defense.get("target_epsilon")
    return str(defense["name"]) if epsilon is None else f"{defense['name']}, epsilon {epsilon:g}"


def _joined(deployed: Deployment, defense: Defense) -> list[Any] | None:
    """Where a defense stands in the list of what clients do; None where it cannot."""
    role = _role(defense)
    if any(_role(one) == role for one in deployed.client_defenses if role in _ONE_OF_A_KIND):
        return None
    before = [one for one in deployed.client_defenses if role in _ONE_OF_A_KIND and _place(one) < _place(defense)]
    after = [one for one in deployed.client_defenses if one not in before]
    joined = [*before, dict(defense), *after] if role in _ONE_OF_A_KIND else [*after, dict(defense)]
    return joined if _is_accepted(deployed, joined) else None


def _is_accepted(deployed: Deployment, defense: list[Any]) -> bool:
    sections = deployed.cell(deployed.seed, defense=[*defense, *deployed.rule])
    key = repr(sections)
    if key not in _ACCEPTED:
        try:
            check_scenario(load_scenario(scenario_of("defended", "", [sections])))
            _ACCEPTED[key] = True
        except InputError:
            _ACCEPTED[key] = False
    return _ACCEPTED[key]


def _role(defense: Any) -> str:
    return registry.entry("defense", defense["name"] if isinstance(defense, Mapping) else str(defense)).role


def _place(defense: Any) -> int:
    role = _role(defense)
    return _ONE_OF_A_KIND.index(role) if role in _ONE_OF_A_KIND else len(_ONE_OF_A_KIND)
