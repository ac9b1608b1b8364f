"""Property inference: what updates say of a client beside its examples."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from fedsec.plugins.wording import Problem
from fedsec.scenario.named_sections import Count, Section

if TYPE_CHECKING:
    from fedsec.scenario.config import CellConfig

Property = Literal["site", "class_mix"]


class PropertyConfig(Section):
    """What is read out of updates, against a permutation null."""

    inferences: Annotated[list[Property], Field(min_length=1)] = Field(
        default=["site", "class_mix"],
        description="What is asked: which client sent an update, and in which shares it holds the classes.",
    )
    rounds: Count = Field(default=10, description="How many rounds are watched, evenly from the first to the last.")
    permutations: Count = Field(default=999, description="Permutations that make the null distribution.")
    projection: Count = Field(default=1024, description="Numbers in the random sketch that is kept of an update.")

    def watched(self, rounds: int) -> tuple[int, ...]:
        """The rounds that are watched, of so many.

        Args:
            rounds: of the federation.
        """
        import numpy as np  # here, since scenarios are read without it

        return tuple(np.linspace(1, rounds, min(rounds, self.rounds)).round().astype(int).tolist())


def contradictions(config: "CellConfig", asked: PropertyConfig) -> Iterator[Problem]:
    """What such questions do not go with, with key paths from `audit.properties`."""
    if config.pooled or config.partition.clients < 2:
        yield (), f"asks what tells clients apart, and there is {config.partition.clients}; expected two at least"
        return
    if "site" in asked.inferences and min(asked.rounds, config.federation.rounds) < 2:
        yield (
            ("inferences",),
            "a site is told from its updates of other rounds; expected two rounds at least, watched and in the "
            "federation, or no site",
        )
    if config.federation.secure_aggregation is not None:
        yield (), "asks of single updates, and under federation.secure_aggregation the server sees sums only"
