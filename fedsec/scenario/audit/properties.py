"""Property inference: what updates say of a client beside its examples."""

from pydantic import Field

from fedsec.scenario.named_sections import Count, Section


class PropertyConfig(Section):
    """What is read out of updates, against a permutation null."""

    permutations: Count = Field(default=999, description="Permutations that make the null distribution.")
