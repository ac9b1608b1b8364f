"""How severe a finding is, by the rules of `severity.yaml`: thresholds on what the data bear out at least."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from fedsec.assessment.difference import Estimate
from fedsec.errors import InputError

__all__ = ["INFO", "NONE", "SeverityRules", "at_least", "judged", "rules"]

INFO, NONE = "info", "none"


@dataclass(frozen=True)
class SeverityRules:
    """The content of `severity.yaml`.

    Args:
        revision: of the rules.
        levels: from the worst to `none`.
        measures: name -> `about` and `thresholds` (level -> lower end from which on it holds).
        grants: name -> `about` and `levels`: by how many it takes a severity down.
    """

    revision: int
    levels: tuple[str, ...]
    measures: Mapping[str, Mapping[str, Any]]
    grants: Mapping[str, Mapping[str, Any]]


@cache
def rules() -> SeverityRules:
    """The rules that come with fedsec."""
    content = yaml.safe_load((files("fedsec.assessment") / "severity.yaml").read_text(encoding="utf-8"))
    return SeverityRules(content["revision"], tuple(content["levels"]), content["measures"], content["grants"])


def judged(measure: str, effect: Estimate, grants: Sequence[str] = ()) -> tuple[str, str]:
    """The severity of an effect, and how it came about.

    Args:
        measure: of `severity.yaml`.
        effect: beyond the null, with its interval.
        grants: of `severity.yaml`, those that the attacker needed.

    Returns:
        The level, and a sentence.
    """
    known = rules()
    thresholds = known.measures[measure]["thresholds"]
    reached = next((level for level in known.levels if level in thresholds and effect.low >= thresholds[level]), None)
    if reached is not None and effect.low > 0:
        why = f"the effect is at least {effect.low:.3g}, and {reached} begins at {thresholds[reached]:g}"
    elif effect.low > 0:
        reached, why = INFO, f"the effect is at least {effect.low:.3g}, above 0 and below every threshold"
    else:
        return NONE, f"the interval of the effect begins at {effect.low:.3g}, so that there may be none"
    for grant in grants:
        down = min(known.levels.index(reached) + known.grants[grant]["levels"], known.levels.index(INFO))
        if known.levels[down] != reached:
            reached = known.levels[down]
            why += f"; taken down to {reached}, since {known.grants[grant]['about']}"
    return reached, why


def at_least(level: str, threshold: str) -> bool:
    """Whether a level is as severe as another one.

    Raises:
        InputError: the other one is none of the levels.
    """
    levels = rules().levels
    if threshold not in levels[:-1]:
        raise InputError(f"fail_on: expected one of {', '.join(levels[:-1])}, got {threshold!r}")
    return levels.index(level) <= levels.index(threshold)
