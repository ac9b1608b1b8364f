"""What to say below the tables: cells that diverged, matrices that show nothing, values that could not be measured."""

import math
from collections.abc import Mapping, Sequence

from fedsec.errors import count_of
from fedsec.metrics.metric import Metric
from fedsec.plugins.registry import entries
from fedsec.report.missing_values import inverted, lpips_advice, rounds_of_interest, without_weights
from fedsec.report.summary import Group, Record, describe, primary, summarize, value_of

_LEARNED = 0.05
"""Of what a constant answer leaves to be learned, a model that learned anything at all learns more than this share."""
_MOST_NAMED = 5
_REASONS = (
    "usual reasons: too few rounds or local steps, a learning rate (federation.local.lr) that is too small or too "
    "large, an activation that saturates (model.activation: sigmoid), inputs off scale (dataset.normalization), too "
    "much noise or clipping of a private defense"
)


def remarks(records: Sequence[Record]) -> list[str]:
    """What to say about the tables, a line each.

    Args:
        records: the cells' records.
    """
    done = [record for record in records if record.get("status") == "done"]
    return [
        *_contradictions(done),
        *_divergences(done),
        *_nothing_learned(done),
        *_attacks(done),
        *_guarantees(done),
        *_broken_conditions(done),
        *_unmeasured(done),
    ]


def _contradictions(done: Sequence[Record]) -> list[str]:
    """Whose audit shows more than is claimed: that comes first, and of every cell."""
    lines = []
    for record in done:
        audit = (record.get("audit") or {}).get("canaries") or {}
        if audit.get("exceeds"):
            lines.append(f"WARNING: {describe(record['cell'])}: {audit['notes'][0]}")
    return lines


def _divergences(done: Sequence[Record]) -> list[str]:
    """Which cells diverged, and what their numbers are then."""
    diverged = [(record, number) for record in done if (number := value_of(record, "diverged_in_round")) is not None]
    named = [f"{describe(record['cell'])} (round {number:.0f})" for record, number in diverged[:_MOST_NAMED]]
    if not named:
        return []
    rest = f" and {len(diverged) - _MOST_NAMED} more" if len(diverged) > _MOST_NAMED else ""
    metric = primary(done).name
    valued = any(value_of(record, metric) is not None for record, _ in diverged)
    one = len(diverged) == 1
    if valued:
        ends = "which ends there and counts" if one else "which end there and count"
        ends += " as always giving the same answer"
    else:
        ends = f"which {'ends' if one else 'end'} there and {'has' if one else 'have'} no {metric}"
    return [
        f"note: the model was no longer finite in {len(diverged)} of {count_of(len(done), 'cell')}, {ends}: "
        f"{'; '.join(named)}{rest}"
    ]


def _nothing_learned(done: Sequence[Record]) -> list[str]:
    """That models without an attack are no better than a constant answer, so that nothing can be seen of attacks."""
    metric = primary(done)
    unattacked = [
        group
        for group in summarize(done, metric.name).groups
        if not group.attacked and group.mean is not None and not group.diverged and _constant(group, metric) is not None
    ]
    idle = [group for group in unattacked if not learned(group, metric)]
    if not idle or not _about_attacks(done):
        return []
    constant = metric.write(_constant(idle[0], metric) or 0.0) + ("%" if metric.is_fraction else "")
    if len(idle) == len(unattacked):
        what = "no setting without an attack is better"
        so = "this matrix shows nothing about attacks and defenses"
    else:
        named = "; ".join(describe(group.axes) for group in idle[:_MOST_NAMED])
        rest = f" and {len(idle) - _MOST_NAMED} more" if len(idle) > _MOST_NAMED else ""
        what = f"{len(idle)} of {len(unattacked)} settings without an attack are no better"
        so = f"they show nothing about attacks: {named}{rest}"
    return [f"note: {what} than always giving the same answer ({metric.name} {constant}); {so}; {_REASONS}"]


def _about_attacks(done: Sequence[Record]) -> bool:
    """Whether anything is to be seen of models: not where one round, or a server that hijacks, serves an inversion."""
    return any(group.attacked for group in summarize(done).groups) or not all(map(inverted, done))


def learned(group: Group, metric: Metric) -> bool:
    """Whether models are better than a constant answer by more than chance and rounding.

    Args:
        group: of finished cells that say what a constant answer scores.
        metric: what they were trained for.
    """
    constant, mean = _constant(group, metric), group.mean
    low, high = metric.bounds
    perfect = low if metric.better == "lower" else high
    if constant is None or mean is None or math.isinf(perfect) or perfect == constant:
        return True
    return (mean - constant) / (perfect - constant) >= _LEARNED


def _constant(group: Group, metric: Metric) -> float | None:
    """What the best constant answer scores, on average over the cells that say so."""
    answers: list[Mapping[str, float]] = [record.get("constant_answer") or {} for record in group.records]
    values = [answer[metric.name] for answer in answers if answer.get(metric.name) is not None]
    return math.fsum(values) / len(values) if values else None


def _attacks(done: Sequence[Record]) -> list[str]:
    """What attacks remarked, such as that their settings make them none."""
    cells: dict[str, list[str]] = {}
    for record in done:
        said: Mapping[str, int] = (record.get("attack_report") or {}).get("remark") or {}
        for remark, rounds in said.items():
            cells.setdefault(remark, []).append(f"{describe(record['cell'])} ({count_of(rounds, 'round')})")
    notes = []
    for remark, places in cells.items():
        rest = f" and {len(places) - _MOST_NAMED} more" if len(places) > _MOST_NAMED else ""
        notes.append(f"note: {remark}: {'; '.join(places[:_MOST_NAMED])}{rest}")
    return notes


def _guarantees(done: Sequence[Record]) -> list[str]:
    """Which defenses of single updates are called private, and what they guarantee, if anything."""
    parts = [part for record in done for part in (record.get("config") or {}).get("defense") or [] if part]
    known = entries("defense") if parts else {}
    notes = []
    for name in dict.fromkeys(part["name"] for part in parts if part["name"] in known):
        traits = known[name].traits
        if known[name].role != "update" or not traits.get("called_private"):
            continue
        proven, _, unit = traits["guarantee"].partition(": ")
        if proven == "none":
            notes.append(f"note: {name} is called private and guarantees nothing ({unit}): docs/deployed_filters.md")
        else:
            notes.append(f"note: {name} guarantees {proven} of {unit}; no column counts it: docs/deployed_filters.md")
    return notes


_BROKEN = {
    "rounds_with_broken_condition": "too few clients took part for the rule, which was {handled}, in some rounds of",
    "rounds_with_too_many_byzantine": "more Byzantine clients took part than the rule withstands, in some rounds of",
}


def _broken_conditions(done: Sequence[Record]) -> list[str]:
    """In which cells rounds did not meet the condition under which the rule promises anything."""
    notes = []
    for metric, what in _BROKEN.items():
        handled = {"skip": "left out", "relax": "relaxed"}
        cells: dict[str, list[str]] = {}
        for record in done:
            if rounds := value_of(record, metric):
                federation = (record.get("config") or {}).get("federation") or {}
                said = what.format(handled=handled.get(str(federation.get("broken_condition")), "left out or relaxed"))
                cells.setdefault(said, []).append(f"{describe(record['cell'])} ({count_of(round(rounds), 'round')})")
        for said, places in cells.items():
            rest = f" and {len(places) - _MOST_NAMED} more" if len(places) > _MOST_NAMED else ""
            notes.append(f"note: {said} {count_of(len(places), 'cell')}: {'; '.join(places[:_MOST_NAMED])}{rest}")
    return notes


def _unmeasured(done: Sequence[Record]) -> list[str]:
    """Values that the tables lack though they could have been measured."""
    notes = [f"note: {lpips_advice()}"] if any(map(without_weights, done)) else []
    watched = [(asked, record) for record in done if (asked := rounds_of_interest(record))]
    fewer = [record for asked, record in watched if (value_of(record, "rounds_reconstructed") or 0) < asked]
    if fewer:
        notes.append(
            f"note: in {len(fewer)} of {count_of(len(watched), 'cell')} not all rounds of interest were reconstructed "
            "(the client took no part, sent nothing that could be inverted, or training was over before); their "
            "leakage is the mean over the others, which rounds.jsonl has one by one"
        )
    return notes
