"""Membership inference: who was in the training data."""

from pydantic import Field

from fedsec.scenario.named_sections import Count, Section


class MembershipConfig(Section):
    """Members and non-members of a federation's training data, and who tries to tell them apart."""

    members: Count = Field(default=200, description="Examples that were trained on.")
    nonmembers: Count = Field(default=200, description="Examples of the same distribution that were not.")
