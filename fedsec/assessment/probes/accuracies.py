"""What probes of robustness share: rules that are tried beside the deployed one, and accuracies with intervals."""

from collections.abc import Mapping
from typing import Any

from fedsec.assessment.deployment import Deployment
from fedsec.assessment.difference import CONFIDENCE, Estimate, difference, exact_interval, of_seeds
from fedsec.assessment.effort import Effort
from fedsec.assessment.probes.probe import CellOutcome, ProbeCell

__all__ = [
    "DEPLOYED",
    "accuracy_change",
    "baseline_cells",
    "clean_key",
    "mean_accuracy",
    "rate_of",
    "rules_to_try",
    "seeds",
    "shortened",
    "watched",
    "written",
]

DEPLOYED = "as deployed"
_WORST = "accuracy_min_last5"


def rules_to_try(deployed: Deployment, *, thorough: bool) -> dict[str, list[Any]]:
    """Name -> rule of the server, as a scenario has it: the deployed one first, then those that are recommended.

    Args:
        deployed: the federation.
        thorough: all of them, or the first choice only.
    """
    rules: dict[str, list[Any]] = {DEPLOYED: deployed.rule}
    byzantine, cohort = deployed.byzantine_in_round, deployed.config.heard
    # Of sums there are too few rows for rules that tell clients apart.
    sums = deployed.config.federation.secure_aggregation is not None
    if sums or cohort < 5 or 2 * byzantine >= cohort:
        return rules
    share = byzantine / cohort
    candidates: list[list[Any]] = [
        [{"name": "nnm", "num_byzantine": byzantine}, {"name": "trimmed_mean", "trim_per_side": share}],
        ["median"],
    ]
    for rule in candidates if thorough else candidates[:1]:
        if rule != deployed.rule:
            rules[written(rule)] = rule
    return rules


def written(rule: list[Any]) -> str:
    """A rule as a reader calls it: the names of its parts."""
    names = [str(part["name"]) if isinstance(part, Mapping) else str(part) for part in rule]
    return names[0] if len(names) == 1 else f"[{', '.join(names)}]"


def clean_key(rule: str) -> tuple[str, str]:
    """Of the cell without attackers under a rule."""
    return ("none", rule)


def baseline_cells(deployed: Deployment, effort: Effort, rules: Mapping[str, list[Any]]) -> list[ProbeCell]:
    """The federation without attackers, under each rule and with each seed.

    As it is deployed it is watched meanwhile by a server that reads labels, which disturbs nothing and costs nothing.
    """
    return [
        ProbeCell(
            clean_key(name),
            shortened(
                deployed,
                effort,
                seed,
                defense=deployed.with_rule(rule),
                **(watched(deployed, effort) if name == DEPLOYED else {}),
            ),
        )
        for seed in seeds(deployed, effort)
        for name, rule in rules.items()
    ]


def watched(deployed: Deployment, effort: Effort) -> dict[str, Any]:
    """What a server that reads labels looks at: client 0 in the first and the last round; nothing where it cannot."""
    if deployed.unread is not None:
        return {}
    rounds = sorted({1, effort.rounds_of(deployed.rounds)})
    return {"inversion": {"name": "labels", "target": {"client": 0, "rounds": rounds}}}


def seeds(deployed: Deployment, effort: Effort) -> range:
    """With which everything is repeated."""
    return range(deployed.seed, deployed.seed + effort.seeds)


def shortened(deployed: Deployment, effort: Effort, seed: int, **changed: Any) -> dict[str, Any]:
    """A cell of the deployed federation, with as many rounds as the effort allows.

    Args:
        deployed: the federation.
        effort: how much of it.
        seed: of the cell.
        changed: sections in place of the deployed ones.
    """
    cell = deployed.cell(seed, **changed)
    rounds = effort.rounds_of(deployed.rounds)
    if rounds < deployed.rounds:
        cell["federation"] = {**cell["federation"], "rounds": rounds}
    return cell


def rate_of(outcome: CellOutcome, name: str, examples: int, confidence: float) -> Estimate | None:
    """A rate over test examples, with its interval; None where it was not measured."""
    value = outcome.metric(name)
    return None if value is None else exact_interval(round(value * examples), examples, confidence)


def accuracy_change(
    one: Mapping[int, CellOutcome], other: Mapping[int, CellOutcome], deployed: Deployment, *, comparisons: int = 1
) -> Estimate | None:
    """How much more accurate `one` is than `other`, on equal seeds; by the worst of the last five evaluations each.

    Args:
        one: seed -> outcome.
        other: seed -> outcome.
        deployed: the federation.
        comparisons: among how many the worst is picked: the intervals hold for all of them together.

    Returns:
        None where no seed has both.
    """
    confidence = 1 - (1 - CONFIDENCE) / comparisons
    changes = []
    for seed in sorted(one.keys() & other.keys()):
        rates = [rate_of(outcomes[seed], _WORST, deployed.test_examples, confidence) for outcomes in (one, other)]
        if rates[0] is not None and rates[1] is not None:
            changes.append(difference(rates[0], rates[1]))
    return of_seeds(changes) if changes else None


def mean_accuracy(outcomes: Mapping[int, CellOutcome]) -> float:
    """Over seeds, of the worst of the last five evaluations."""
    values = [value for outcome in outcomes.values() if (value := outcome.metric(_WORST)) is not None]
    return sum(values) / len(values) if values else float("nan")
