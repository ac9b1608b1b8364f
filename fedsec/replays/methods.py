"""Rules, attacks and inversions for a replay, from their names; and why a recording cannot do without its clients."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedsec.defense import (
    Aggregator,
    LocalDefense,
    ModelInspector,
    Pipeline,
    PreAggregator,
    PrivateAggregator,
    UpdateTransform,
)
from fedsec.errors import InputError
from fedsec.plugins import registry
from fedsec.plugins.wording import shown
from fedsec.recording import Recording
from fedsec.scenario.declared import counted
from fedsec.scenario.server_rule import server_rule
from fedsec.threat import UpdatePoisoning

__all__ = ["Candidate", "attack_of", "candidates_of", "named", "summarized"]

Method = str | Mapping[str, Any] | object
"""A name, a mapping of a name and options, or the thing itself."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A rule to be tried, or why it cannot be.

    Args:
        label: how tables call it.
        rule: a fresh one; None if it is refused.
        refused: why a recording is not enough for it.
    """

    label: str
    rule: Aggregator | None
    refused: str | None = None


def candidates_of(
    defenses: Sequence[Method | Sequence[Method]], recording: Recording, num_byzantine: int | None
) -> list[Candidate]:
    """The mean, by which others are judged, and what was asked for, each once.

    Args:
        defenses: each a method, or a list of such as in a scenario.
        recording: that they are to be tried on.
        num_byzantine: what rules that want a number are told, where none is given; None where nobody said.

    Raises:
        InputError: unknown names or options, or a list that makes no rule.
    """
    wanted: dict[str, Candidate] = {}
    for defense in ("mean", *defenses):
        candidate = _candidate(defense, recording, num_byzantine)
        wanted.setdefault(candidate.label, candidate)
    return list(wanted.values())


def _candidate(defense: Any, recording: Recording, num_byzantine: int | None) -> Candidate:
    given = list(defense) if isinstance(defense, list | tuple) else [defense]
    if not given:
        raise InputError("defense: expected at least one in a list, got an empty one")
    given = [_told(part, num_byzantine) for part in given]
    parts = [_defense(part) for part in given]
    label = " + ".join(summarized("defense", part) for part in given)
    refusals = [reason for part in parts if (reason := _lacking(part, recording))]
    if refusals:
        return Candidate(label, None, refusals[0])
    transforms = [part for part in parts if isinstance(part, UpdateTransform)]
    others = [part for part in parts if not isinstance(part, UpdateTransform)]
    if not any(isinstance(part, Aggregator) for part in others):
        others.append(registry.load("defense", "mean")())
    rule = server_rule(others)
    return Candidate(label, Pipeline([*transforms, rule], recording.manifest.shapes()) if transforms else rule)


def _told(part: Any, num_byzantine: int | None) -> Any:
    """A defense that is named with how many Byzantine clients it is to withstand, where it does not say so itself."""
    if not isinstance(part, str | Mapping) or num_byzantine is None:
        return part
    name, options = named("defense", part)
    count = counted([parameter.name for parameter in registry.entry("defense", name).parameters])
    if count is None or any(key in options for key in (count, "trim_per_side")):
        return part
    return {**({"name": part} if isinstance(part, str) else part), count: num_byzantine}


def _defense(part: Any) -> Any:
    if isinstance(part, str | Mapping):
        name, options = named("defense", part)
        checked = registry.check("defense", name, options, f"defense {name}")
        return registry.load("defense", name)(**checked)
    if not isinstance(part, Aggregator | PreAggregator | UpdateTransform | LocalDefense | ModelInspector):
        raise InputError(f"defense: expected a name, a mapping or a rule, got {shown(part)}")
    return copy.deepcopy(part)


def _lacking(part: object, recording: Recording) -> str | None:
    """Why a recording is not enough for a defense; None if it is."""
    if isinstance(part, LocalDefense):
        return "acts while clients train, which a recording cannot repeat"
    if isinstance(part, ModelInspector):
        return "looks at models before clients train, and a recording holds no data to look with"
    if isinstance(part, PrivateAggregator) and recording.manifest.num_clients is None:
        return "accounts for all clients of the federation; record num_clients for it"
    if getattr(part, "needs_server_update", False):
        return "trusts data of the server's own, which a recording does not hold"
    if getattr(part, "needs_losses", False):
        return "asks clients for their losses, which a recording does not hold"
    if getattr(part, "needs_global_model", False):
        return "evaluates models at the server, which a recording cannot do"
    if getattr(part, "needs_shapes", False) and not recording.named:
        return "treats parameters one by one, and these rows were recorded without shapes"
    if not isinstance(part, Aggregator | PreAggregator | UpdateTransform):
        return "defends what FedGKT exchanges, and no updates"
    return None


def attack_of(attack: Method) -> tuple[str, UpdatePoisoning]:
    """An attack that forges rows, by its name or as it is, and how tables call it.

    Raises:
        InputError: unknown, or one that needs the Byzantine clients' data.
    """
    if isinstance(attack, str | Mapping):
        name, options = named("attack", attack)
        checked = registry.check("attack", name, options, f"attack {name}")
        built: object = registry.load("attack", name)(**checked)
    else:
        built = copy.deepcopy(attack)
    label = summarized("attack", attack)
    if not isinstance(built, UpdatePoisoning) or not built.forges or built.trains:
        raise InputError(
            f"attack {label}: acts on clients' data or trains on them, and a recording holds none; expected one that "
            "forges updates, such as alie, min_max, ipm or sign_flip"
        )
    return label, built


def named(kind: str, method: Any) -> tuple[str, dict[str, Any]]:
    """Name and options of a method that is given by name.

    Raises:
        InputError: it is neither a name nor a mapping that has one.
    """
    if isinstance(method, str):
        return method, {}
    content = dict(method)
    name = content.pop("name", None)
    if not isinstance(name, str):
        raise InputError(f"{kind}: expected a name, or {{name: .., option: ..}}, got {shown(dict(method))}")
    content.pop("label", None)
    return name, content


def summarized(kind: str, method: Any) -> str:
    """How tables call a method: its label, or its name with what was said of it."""
    if not isinstance(method, str | Mapping):
        return type(method).__name__
    if isinstance(method, Mapping) and isinstance(method.get("label"), str):
        return str(method["label"])
    name, options = named(kind, method)
    return name if not options else f"{name}({', '.join(f'{key}={value}' for key, value in options.items())})"
