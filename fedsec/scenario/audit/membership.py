"""Membership inference: who was in the training data, as told by whom, from what."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator, model_validator

from fedsec.plugins.wording import Problem, wrong
from fedsec.scenario.audit.inferences import DEFAULT, InferenceConfig, label, listed, repetitions
from fedsec.scenario.audit.observed_rounds import ObservedRounds, observed_of
from fedsec.scenario.named_sections import Count, Section

if TYPE_CHECKING:
    from fedsec.scenario.config import CellConfig

View = Literal["global", "client", "server"]


class MembershipConfig(Section):
    """Members and non-members of a federation's training data, and who tries to tell them apart."""

    inferences: tuple[InferenceConfig, ...] = Field(
        default_factory=lambda: (InferenceConfig(),),
        description="Who tries; `metrics` hold the figures of the first one, results those of all.",
    )
    victim: int | Literal["all"] = Field(
        default="all", description="Whose examples are asked for: the number of a client, or those of all clients."
    )
    view: View = Field(
        default="global",
        description="global: the last model alone; client: the global model after each round; server: each update of "
        "the victim, which must be one client, and the model that it starts from.",
    )
    members: Count = Field(default=200, description="Examples that are trained on.")
    nonmembers: Count = Field(
        default=200,
        description="Examples of the same clients that are held out of training, drawn at random like the members, so "
        "that nothing but training tells them apart.",
    )
    population: Count = Field(
        default=500, description="Test examples that the observer has beside, at most: surely not trained on."
    )
    shadow_models: Count = Field(
        default=16, description="Models of the observer's own, half of them with each example; an even number."
    )
    rounds: ObservedRounds = Field(
        default=1,
        description="With views client and server, the rounds observed: a list, or every so many and the last.",
    )

    @field_validator("inferences", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return listed(value, DEFAULT)

    @field_validator("shadow_models")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2:
            raise wrong(((), f"expected an even number, so that each example is in one half, got {value}"))
        return value

    @model_validator(mode="after")
    def _possible(self) -> "MembershipConfig":
        problems: list[Problem] = [*repetitions(self.inferences)]
        for place, inference in enumerate(self.inferences):
            where = ("inferences", place, "name")
            if inference.role != "membership":
                problems.append((where, f"{inference.name!r} infers no membership; expected one that does"))
            if "updates" in inference.needs and self.view != "server":
                problems.append((where, f"{inference.name!r} needs a client's updates; expected view: server"))
            if "several_rounds" in inference.needs and self.view == "global":
                problems.append((where, f"{inference.name!r} needs several rounds; expected view: client or server"))
        if self.view == "server" and self.victim == "all":
            problems.append((("victim",), "the server looks at one client's updates; expected the client's number"))
        if not isinstance(self.victim, str) and self.victim < 0:
            problems.append((("victim",), f"expected all, or a client's number from 0, got {self.victim}"))
        if self.view == "global" and self.rounds != 1:
            problems.append(
                (("rounds",), "view: global is of the last model; expected view: client or server, or none")
            )
        if min(self.members, self.nonmembers) < 2:
            problems.append((("members",), "expected two members and two non-members or more"))
        if problems:
            raise wrong(*problems)
        return self

    @property
    def needs(self) -> frozenset[str]:
        """All that its inferences need."""
        return frozenset(need for inference in self.inferences for need in inference.needs)

    def label(self, place: int) -> str:
        """What results call an inference: its name, where one stands several times with the options that it sets."""
        return label(self.inferences, place)

    def observed(self, rounds: int) -> tuple[int, ...]:
        """The rounds that are observed, of so many.

        Args:
            rounds: of the federation.
        """
        if self.view == "global":
            return (rounds,)
        return observed_of(self.rounds, rounds)


def contradictions(config: "CellConfig") -> Iterator[Problem]:
    """What a membership audit does not go with, with key paths from the cell's root."""
    section = None if config.audit is None else config.audit.membership
    if section is None:
        return
    clients, rounds = config.partition.clients, config.federation.rounds
    where = ("audit", "membership")
    if isinstance(section.victim, int) and not config.pooled and section.victim >= clients:
        yield (*where, "victim"), f"there are clients 0 to {clients - 1}; expected one of them, got {section.victim}"
    if section.view == "server" and config.federation.secure_aggregation is not None:
        message = "secure aggregation hides single updates from the server; expected view: global or client"
        yield (*where, "view"), message
    if isinstance(section.rounds, tuple) and section.rounds[-1] > rounds:
        yield (*where, "rounds"), f"there are {rounds} rounds; expected none beyond, got {section.rounds[-1]}"
    if "several_rounds" in section.needs and len(section.observed(rounds)) < 2:
        yield (*where, "rounds"), "an inference needs several rounds; expected at least two that are observed"
