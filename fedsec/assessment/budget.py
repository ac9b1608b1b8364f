"""What of the battery fits into a budget: how much effort, which probes, in which order, and what is left out."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fedsec.assessment.effort import LEVELS, Effort
from fedsec.assessment.probes.probe import ProbeCell
from fedsec.errors import InputError

__all__ = ["Offer", "BatteryPlan", "clock", "scheduled", "seconds_of"]

SecondsOf = Callable[[Sequence[ProbeCell]], float]
"""How many seconds cells take that are run together; equal ones count once."""
_SPARED = 0.9
"""Of a budget so much is planned; estimates are no promises."""


@dataclass(frozen=True)
class Offer:
    """A probe at some effort.

    Args:
        probe: its name.
        value: what its answer is worth.
        cells: that it needs.
    """

    probe: str
    value: float
    cells: Sequence[ProbeCell]


@dataclass(frozen=True)
class BatteryPlan:
    """What is run.

    Args:
        effort: spent on each probe.
        probes: names, the one that is worth most a minute first.
        seconds: what all of it is estimated to take.
        left_out: probe -> how many seconds more it would have taken, at the least effort.
    """

    effort: Effort
    probes: tuple[str, ...]
    seconds: float
    left_out: Mapping[str, float]


def scheduled(
    offers: Mapping[Effort, Sequence[Offer]], seconds: SecondsOf, budget: float, overhead: float
) -> BatteryPlan:
    """The most effort at which all probes fit; where they never do, those that are worth most a minute at the least.

    Args:
        offers: of every level of effort.
        seconds: estimates how long cells take that are run together; equal cells count once.
        budget: in seconds.
        overhead: seconds beside the cells.
    """
    room = _SPARED * budget - overhead
    for effort in LEVELS:
        order = _ordered(offers[effort], seconds)
        whole = seconds([cell for offer in order for cell in offer.cells])
        if whole <= room:
            return BatteryPlan(effort, tuple(offer.probe for offer in order), whole + overhead, {})
    effort, spent = LEVELS[-1], 0.0
    chosen: list[Offer] = []
    left_out: dict[str, float] = {}
    for offer in _ordered(offers[effort], seconds):
        more = seconds([cell for one in (*chosen, offer) for cell in one.cells]) - spent
        if spent + more <= room:
            chosen.append(offer)
            spent += more
        else:
            left_out[offer.probe] = more
    return BatteryPlan(effort, tuple(offer.probe for offer in chosen), spent + overhead, left_out)


def _ordered(offers: Sequence[Offer], seconds: SecondsOf) -> list[Offer]:
    return sorted(offers, key=lambda offer: -offer.value / max(1e-9, seconds(offer.cells)))


def seconds_of(text: str | float) -> float:
    """A budget as people write it: `10m`, `90s`, `1.5h`, `1h30m`; or a number of seconds, in code only.

    Raises:
        InputError: it is none. A written number without a unit could be of minutes or of seconds.
    """
    if not isinstance(text, str):
        if not 0 < text < 1e7:
            raise InputError(f"budget {text!r}: expected seconds above 0, or a time such as 10m, 90s or 1h30m")
        return float(text)
    units = {"h": 3600.0, "m": 60.0, "s": 1.0}
    parts = re.findall(r"(\d+(?:\.\d+)?)([hms])", text.strip())
    if parts and "".join(number + unit for number, unit in parts) == text.strip():
        total = sum(float(number) * units[unit] for number, unit in parts)
    else:
        total = 0.0
    if not 0 < total < 1e7:
        raise InputError(f"budget {text!r}: expected a time such as 10m, 90s or 1h30m")
    return total


def clock(seconds: float) -> str:
    """Seconds as people say them: `45 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
