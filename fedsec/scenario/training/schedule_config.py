"""The sections that say how a learning rate changes: `federation.local.schedule` and `federation.server_schedule`."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from fedsec.plugins.wording import Problem
from fedsec.scenario.named_sections import Count, Section


class ScheduleConfig(Section):
    """How a learning rate changes from round to round: a linear warm-up, and what follows it."""

    shorthand = "decay"

    decay: Literal["none", "cosine", "step"] = Field(default="none", description="What follows the warm-up.")
    warmup: Annotated[int, Field(ge=0, le=10**9)] = Field(
        default=0, description="Rounds over which the rate grows to its full length; none by default."
    )
    rounds: Count | None = Field(
        default=None, description="Of cosine: with which round it ends; the federation's last by default."
    )
    floor: float = Field(default=0.0, ge=0, le=1, description="Of cosine: the share of the rate that it ends with.")
    every: Count | None = Field(default=None, description="Of step: rounds after which the rate falls.")
    gamma: float = Field(default=0.1, gt=0, le=1, description="Of step: to which share.")

    @classmethod
    def prepare(cls, data: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
        """Refuse what belongs to another decay, or is missing."""
        decay, warmup, rounds = (data.get(key) for key in ("decay", "warmup", "rounds"))
        problems: list[Problem] = [
            ((key,), f"belongs to {owner}; expected none with {decay or 'none'}")
            for key, owner in (("rounds", "cosine"), ("floor", "cosine"), ("every", "step"), ("gamma", "step"))
            if data.get(key) is not None and decay != owner and data[key] != cls.model_fields[key].default
        ]
        if decay == "step" and data.get("every") is None:
            problems.append((("every",), "is required by step; expected rounds after which the rate falls"))
        if decay == "cosine" and isinstance(rounds, int) and isinstance(warmup, int) and warmup >= rounds:
            problems.append((("warmup",), f"expected less than the {rounds} rounds of the cosine, got {warmup}"))
        return data, problems


def until(rounds: Any, schedule: Any, *path: str) -> tuple[Any, list[Problem]]:
    """A schedule that ends with the federation, where it says nothing of its end; the mistake of one that ends before.

    Args:
        rounds: of the federation, as given.
        schedule: likewise.
        path: where it stands.
    """
    given = {"decay": schedule} if isinstance(schedule, str) else schedule
    if not isinstance(given, Mapping) or given.get("decay") != "cosine":
        return schedule, []
    if (end := given.get("rounds")) is None:
        return {**given, "rounds": rounds}, []
    if not (isinstance(end, int) and isinstance(rounds, int) and end < rounds) or given.get("floor"):
        return schedule, []
    message = f"the cosine ends at 0 after {end} of {rounds} rounds; expected as many, or a floor"
    return schedule, [((*path, "rounds"), message)]
