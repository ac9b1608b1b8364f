"""Canaries: examples or clients that are included by chance, so that whoever tells them apart bounds epsilon."""

from typing import Literal

from pydantic import Field

from fedsec.scenario.named_sections import Count, Section


class CanaryConfig(Section):
    """Canaries, of which each is included with probability one half."""

    unit: Literal["example", "client"] = Field(default="example", description="What is included or not.")
    count: Count = Field(default=200, description="How many canaries there are, included or not.")
