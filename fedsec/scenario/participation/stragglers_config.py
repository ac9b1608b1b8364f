"""Clients that are too slow for a round."""

from typing import Literal

from pydantic import Field

from fedsec.scenario.named_sections import Section


class StragglersConfig(Section):
    """Clients that a round does not wait for."""

    fraction: float = Field(ge=0, lt=1, description="Share of a round's clients that cannot finish in time.")
    handling: Literal["drop", "partial"] = Field(
        description="drop: their updates are lost; partial: what they have done by then counts. By default fedavg "
        "drops them and fedprox takes what they have."
    )
