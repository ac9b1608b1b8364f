"""What is audited in a cell."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, model_validator

from fedsec.plugins.wording import Problem, wrong
from fedsec.scenario.audit import canaries, labels, membership, properties
from fedsec.scenario.audit.canaries import CanaryConfig
from fedsec.scenario.audit.labels import LabelConfig
from fedsec.scenario.audit.membership import MembershipConfig
from fedsec.scenario.audit.properties import PropertyConfig
from fedsec.scenario.named_sections import Section

if TYPE_CHECKING:
    from fedsec.scenario.config import CellConfig

SECTIONS: dict[str, type[Section]] = {
    "canaries": CanaryConfig,
    "membership": MembershipConfig,
    "properties": PropertyConfig,
    "labels": LabelConfig,
}
PARTS = tuple(SECTIONS)
"""Keys of parts, in the order in which they change a federation's data and report."""


class AuditConfig(Section):
    """What is measured of a federation's privacy beside what is claimed."""

    canaries: CanaryConfig | None = Field(default=None, description="Canaries, for a lower bound of epsilon.")
    membership: MembershipConfig | None = Field(default=None, description="Membership inference.")
    properties: PropertyConfig | None = Field(default=None, description="Inference of sites and class mixes.")
    labels: LabelConfig | None = Field(default=None, description="Inference of labels at the cut of a network.")
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = Field(
        default=0.95, description="Of every interval and every bound."
    )

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.parts:
            raise wrong(((), f"audits nothing; expected at least one of {', '.join(PARTS)}"))
        return self

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that are asked for."""
        return tuple(name for name in PARTS if getattr(self, name) is not None)


def contradictions(config: "CellConfig") -> Iterator[Problem]:
    """What an audit does not go with, with key paths from the cell's root."""
    if config.audit is None:
        return
    if config.audit.labels is not None:
        for path, message in labels.contradictions(config, config.audit.labels):
            yield ("audit", "labels", *path), message
    others = [name for name in config.audit.parts if name != "labels"]
    if config.federation.traits["exchanges"] != "updates":
        algorithm = config.federation.algorithm
        if others:
            message = f"looks at updates, and {algorithm} exchanges none; expected no audit, or another algorithm"
            yield ("audit",), message
        return
    if config.federation.traits.get("chained"):
        algorithm = config.federation.algorithm
        yield ("audit",), f"looks at single clients, and {algorithm}'s server hears of superclients; expected no audit"
        return
    if not config.federation.traits["whole_model"]:
        for part in ("canaries", "membership"):
            if getattr(config.audit, part) is not None:
                message = f"asks a whole model, and with {config.federation.algorithm} some layers stay with clients"
                yield ("audit", part), f"{message}; expected none, or another algorithm"
    if config.audit.canaries is not None:
        for path, message in canaries.contradictions(config, config.audit.canaries):
            yield ("audit", "canaries", *path), message
    yield from membership.contradictions(config)
    if config.audit.properties is not None:
        for path, message in properties.contradictions(config, config.audit.properties):
            yield ("audit", "properties", *path), message
