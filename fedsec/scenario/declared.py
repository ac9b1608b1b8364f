"""How many Byzantine clients a server reckons with: a number, as many as there are, or a share of a round's clients."""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

from fedsec.plugins.wording import Problem, shown
from fedsec.scenario.named_sections import known_entry

ACTUAL = "actual"
"""In place of a number: as many as the cell's attack has."""
SHARE = "byzantine_fraction"
_COUNTS = ("num_byzantine", "num_trimmed_per_side")
"""Options that say how many Byzantine clients a defense is to withstand."""
_TOLERATED = "neighborhoods differ; expected a number, of Byzantine clients in each neighborhood"
_INSTEAD = {"num_trimmed_per_side": ("trim_per_side",)}
"""Options that say it in another way; where one is given nothing is filled in."""


def resolve(data: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """A raw cell configuration whose defenses have numbers in place of `actual`, shares and what all of them are told.

    A number of all clients becomes that of a round: rounded up where only some take part; shares are rounded down.

    Args:
        data: as it was written, or resolved already.
    """
    written = data.get("defense")
    if written is None:
        return dict(data), []
    alone = not isinstance(written, list | tuple)
    parts = [written] if alone else list(written)
    common = _of(data.get("federation"), "declared_byzantine")
    resolved, problems = [], list[Problem]()
    for place, part in enumerate(parts):
        part = {"name": part} if isinstance(part, str) else part
        if not isinstance(part, Mapping):
            resolved.append(part)
            continue
        filled, mistakes = _told(part, common, data)
        resolved.append(filled)
        problems += [(("defense", place, key), message) for key, message in mistakes]
    return {**data, "defense": resolved[0] if alone else resolved}, problems


def is_derived(values: Mapping[str, Any]) -> bool:
    """Whether a raw cell configuration leaves to fedsec how many Byzantine clients its server reckons with.

    Args:
        values: as they were written.
    """
    if _of(values.get("federation"), "declared_byzantine") is not None:
        return True
    written = values.get("defense")
    parts = written if isinstance(written, list | tuple) else [written]
    return any(
        isinstance(part, Mapping) and (SHARE in part or any(part.get(count) == ACTUAL for count in _COUNTS))
        for part in parts
    )


def _told(
    part: Mapping[str, Any], common: Any, data: Mapping[str, Any]
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """One defense with its number."""
    entry = known_entry("defense", part.get("name", "mean"))
    own = [] if entry is None else [parameter.name for parameter in entry.parameters]
    count = counted(own)
    part, beneath = dict(part), part.get("options")
    given = {**(beneath if isinstance(beneath, Mapping) else {}), **part}
    share = part.pop(SHARE, None) if SHARE not in own else None
    key = SHARE if share is not None else count if count is not None and given.get(count) == ACTUAL else None
    if key is not None and _neighborly(data):
        part.pop(key, None)
        return part, [(key, _TOLERATED)]
    if share is not None:
        if count is None:
            return part, [(SHARE, f"{part.get('name', 'mean')} takes no number of Byzantine clients; expected none")]
        if given.get(count) is not None:
            return part, [(SHARE, f"excludes {count}; expected one of the two")]
        if not _is_share(share):
            return part, [(SHARE, f"expected a share of a round's clients, from 0 to less than 1, got {shown(share)}")]
        part[count] = _number(share, data)
    elif count is not None and given.get(count) == ACTUAL:
        part[count] = _number(ACTUAL, data)
    elif count is not None and _is_number(common) and not any(given.get(name) is not None for name in _ways(count)):
        part[count] = _number(common, data)
    return part, []


def _neighborly(data: Mapping[str, Any]) -> bool:
    """Whether rules look at neighborhoods, of which each has another number of Byzantine clients."""
    entry = known_entry("algorithm", _of(data.get("federation"), "algorithm") or "fedavg")
    return entry is not None and entry.traits["exchanges"] == "models"


def _ways(count: str) -> tuple[str, ...]:
    """All options that say what one option says."""
    return (count, *_INSTEAD.get(count, ()))


def _is_number(declared: Any) -> bool:
    return declared == ACTUAL or _is_share(declared) or type(declared) is int


def _is_share(value: Any) -> bool:
    return (isinstance(value, float) and 0 <= value < 1) or (type(value) is int and value == 0)


def _number(declared: Any, data: Mapping[str, Any]) -> int:
    """How many Byzantine clients of a round are meant; whatever is malformed is complained about elsewhere."""
    clients = _count(_of(data.get("partition"), "clients"), 10)
    cohort = min(_count(_of(data.get("federation"), "clients_per_round"), clients), clients)
    if declared != ACTUAL:
        return int(declared * cohort + 1e-9) if isinstance(declared, float) else int(declared)
    attack = data.get("attack")
    number, fraction = _of(attack, "num_byzantine"), _of(attack, "fraction")
    if type(number) is not int:
        number = int(fraction * clients + 1e-9) if isinstance(fraction, int | float) else 0
    selection = _of(data.get("federation"), "selection")
    if selection is not None and 0 < number < clients:
        from fedsec.scenario.participation.rounds import told_byzantine

        drawn = told_byzantine(selection, clients, cohort, number)
        if drawn is not None:
            return drawn
    speed = _of(attack, "speed")
    if speed not in (None, 1) and 0 < number < clients:
        from fedsec.scenario.participation.rounds import told_arriving

        arriving = told_arriving(data.get("federation"), clients, cohort, number, speed)
        if arriving is not None:
            return arriving
    return ceil(number * cohort / clients - 1e-9)


def _count(value: Any, default: int) -> int:
    return value if type(value) is int and value > 0 else default


def _of(section: Any, key: str) -> Any:
    """A key of a section, which may be a mapping, built already, or something else altogether."""
    return section.get(key) if isinstance(section, Mapping) else getattr(section, key, None)


def counted(options: Sequence[str]) -> str | None:
    """The option, of those that a defense has, which may be `actual`; None for none."""
    return next((name for name in _COUNTS if name in options), None)
