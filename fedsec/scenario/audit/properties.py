"""Property inference: what updates say of a client beside its examples."""

from typing import Annotated, Literal

from pydantic import Field

from fedsec.scenario.named_sections import Count, Section

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
