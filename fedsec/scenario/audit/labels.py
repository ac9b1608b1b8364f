"""Label inference: what a party without labels reads out of what crosses the cut of a network."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, field_validator, model_validator

from fedsec.plugins import registry
from fedsec.plugins.wording import Problem, wrong
from fedsec.scenario.audit.inferences import InferenceConfig, label, listed, repetitions
from fedsec.scenario.audit.observed_rounds import ObservedRounds, observed_of
from fedsec.scenario.named_sections import Count, Section, either

if TYPE_CHECKING:
    from fedsec.scenario.config import CellConfig

DEFAULT = "label_direction"


class LabelInferenceConfig(InferenceConfig):
    """An inference of labels and its options."""

    name: str = Field(default=DEFAULT, description="An inference; see `fedsec list inferences`.")


class LabelConfig(Section):
    """Who reads labels out of gradients and activations at a cut, of whose examples, and what it knows before."""

    inferences: tuple[LabelInferenceConfig, ...] = Field(
        default_factory=lambda: (LabelInferenceConfig(name=DEFAULT),),
        description="Who tries; `metrics` hold the figures of the first one, results those of all.",
    )
    client: Annotated[int, Field(ge=0, le=10**6)] = Field(
        default=0,
        description="Whose activations: a client's of split learning, or a party's of a vertical federation.",
    )
    known: Annotated[int, Field(ge=0, le=10**6)] = Field(
        default=1, description="How many examples of each class there are whose labels the attacker knows."
    )
    examples: Count = Field(default=1000, description="How many others' labels are asked, at most.")
    rounds: ObservedRounds = Field(
        default=1, description="The rounds that are watched: a list, or every so many and the last."
    )

    @field_validator("inferences", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return listed(value, DEFAULT)

    @model_validator(mode="after")
    def _possible(self) -> "LabelConfig":
        problems: list[Problem] = [*repetitions(self.inferences)]
        for place, inference in enumerate(self.inferences):
            where = ("inferences", place, "name")
            if inference.role != "label":
                problems.append((where, f"{inference.name!r} infers no labels; expected {either(label_inferences())}"))
            elif "known_labels" in inference.needs and not self.known:
                problems.append((("known",), f"{inference.name!r} needs known labels; expected 1 or more"))
        if problems:
            raise wrong(*problems)
        return self

    def label(self, place: int) -> str:
        """What results call an inference."""
        return label(self.inferences, place)

    def watched(self, rounds: int) -> tuple[int, ...]:
        """The rounds that are watched, of so many.

        Args:
            rounds: of the federation.
        """
        return observed_of(self.rounds, rounds)


def label_inferences() -> tuple[str, ...]:
    """The inferences that tell labels."""
    return tuple(name for name, entry in registry.entries("inference").items() if entry.role == "label")


def contradictions(config: "CellConfig", section: LabelConfig) -> Iterator[Problem]:
    """What such an audit does not go with, with key paths from `audit.labels`."""
    federation, clients = config.federation, config.partition.clients
    if federation.traits["exchanges"] != "activations":
        yield (), f"looks at the cut of a network, and {federation.algorithm} cuts none; expected split_learning"
        return
    if federation.options.get("labels", "server") == "shared":
        yield (), "clients send their labels (federation.labels: shared); expected labels: server or client"
    if section.client >= clients:
        yield ("client",), f"expected less than partition.clients = {clients}, got {section.client}"
    if isinstance(section.rounds, tuple) and section.rounds[-1] > federation.rounds:
        yield ("rounds",), f"there are {federation.rounds} rounds; expected none beyond, got {section.rounds[-1]}"
